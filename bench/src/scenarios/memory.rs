//! Memory per idle connection: what all processes of a proxy hold more once thousands of clients have
//! had an answer and keep their connections.

use std::time::Duration;

use super::setting::Setting;
use super::{ALL, CONCURRENCY, CONNECTIONS_MAX, Effort, Scenario, Shape, traffic_shape};
use crate::failure::Failure;
use crate::peers::{Peer, Stage, Wrapper};
use crate::procfs;
use crate::report::Row;
use crate::stats::{float, median};

const IDLE_CONNECTIONS: usize = 5_000;
/// Requests before the first look: what a proxy holds for requests in flight is there by then.
const WARM_UP: u64 = 5_000;
/// For the last answers' buffers to be given back.
const SETTLE: Duration = Duration::from_millis(300);

/// Bytes.
struct Held {
    user: f64,
    kernel: f64,
}

/// Measures all peers, each time as fresh processes: none gives back what its pools have grown to.
pub(super) fn measure(
    scenario: Scenario,
    title: &str,
    targets: &[(Peer, f64)],
    stage: &Stage,
    effort: Effort,
) -> Row {
    let mut row = Row::new(title, "bytes of user memory", targets);
    let measured = traffic_shape(scenario).map(|shape| measure_into(&mut row, &shape, stage, effort));
    if let Some(Err(failure)) = measured {
        row.make_void(&failure);
    }
    row
}

fn measure_into(row: &mut Row, shape: &Shape, stage: &Stage, effort: Effort) -> Result<(), Failure> {
    let mut kernel: Vec<(Peer, Vec<f64>)> =
        stage.present(ALL).into_iter().map(|peer| (peer, Vec::new())).collect();
    for pair in 0..effort.pairs {
        for (peer, kernel) in &mut kernel {
            let held = one_measurement(shape, stage, *peer)
                .map_err(|failure| Failure::new(format!("{}: {failure}", peer.name())))?;
            eprintln!("  {}/{} {:8} {:8.0} bytes", pair + 1, effort.pairs, peer.name(), held.user);
            row.add(*peer, held.user);
            kernel.push(held.kernel);
        }
    }
    for (peer, kernel) in &kernel {
        row.notes.push(format!(
            "{} of {IDLE_CONNECTIONS} connections; the kernel holds {:.0} bytes beside for each, the client's end included",
            peer.name(),
            median(kernel).unwrap_or_default()
        ));
    }
    Ok(())
}

/// What thousands of connections add: that many idle in a proxy configured for them, less none in one
/// configured for as many fewer. So what a proxy reserves in advance for each connection counts, too.
fn one_measurement(shape: &Shape, stage: &Stage, peer: Peer) -> Result<Held, Failure> {
    let none = hold(shape, stage, peer, 0)?;
    let many = hold(shape, stage, peer, IDLE_CONNECTIONS)?;
    let count = float(IDLE_CONNECTIONS as u64);
    Ok(Held { user: (many.user - none.user) / count, kernel: many.kernel / count })
}

/// All user memory of a fresh proxy with `connections` idle ones, and what the kernel took for them.
fn hold(shape: &Shape, stage: &Stage, peer: Peer, connections: usize) -> Result<Held, Failure> {
    let setting = Setting::new(shape)?;
    let site = setting.site(CONNECTIONS_MAX + connections);
    let proxy = stage.start(peer, &site, &Wrapper::default())?;
    let mut busy = setting.load(&proxy)?;
    busy.warm_up(WARM_UP)?;
    let seen = setting.seen();
    let mut idle = setting.load_of(&proxy, connections)?;

    std::thread::sleep(SETTLE);
    let kernel = procfs::kernel_memory_bytes()?;
    idle.run_once_each(CONCURRENCY)?;
    std::thread::sleep(SETTLE);
    let kernel_after = procfs::kernel_memory_bytes()?;
    let user = procfs::memory_bytes(&proxy.pids())?;

    // Another request on each: an idle connection that was closed meanwhile is not idle.
    idle.run_once_each(CONCURRENCY)?;
    setting.check(seen, 2 * connections as u64)?;
    Ok(Held { user: float(user), kernel: float(kernel_after) - float(kernel) })
}
