//! Instructions in user space per request, of the worker alone, once it is warm.

use std::path::Path;

use super::setting::Setting;
use super::{ALL, CONNECTIONS_MAX, Effort, Scenario, Shape, traffic_shape};
use crate::callgrind::Counted;
use crate::failure::Failure;
use crate::peers::{Peer, Stage};
use crate::report::Row;
use crate::stats::float;

/// Requests before the count: pools and caches fill.
const WARM_UP: u64 = 2_000;
/// Requests that are counted.
const COUNTED: u64 = 10_000;
/// The count hardly varies from run to run.
const PAIRS_MAX: usize = 3;

/// One row for the small requests of a scenario.
pub(super) fn measure(
    scenario: Scenario,
    title: &str,
    targets: &[(Peer, f64)],
    stage: &Stage,
    effort: Effort,
) -> Row {
    let mut row = Row::new(title, "instructions", targets);
    let measured = traffic_shape(scenario).map(|shape| measure_into(&mut row, &shape, stage, effort));
    if let Some(Err(failure)) = measured {
        row.make_void(&failure);
    }
    row
}

fn measure_into(row: &mut Row, shape: &Shape, stage: &Stage, effort: Effort) -> Result<(), Failure> {
    let pairs = effort.pairs.min(PAIRS_MAX);
    let requests = effort.of(COUNTED);
    for pair in 0..pairs {
        for peer in stage.present(ALL) {
            let counted = count(shape, stage, peer, requests, None)
                .map_err(|failure| Failure::new(format!("{}: {failure}", peer.name())))?;
            let each = float(counted) / float(requests);
            eprintln!("  {}/{pairs} {:8} {each:8.0} instructions", pair + 1, peer.name());
            row.add(peer, each);
        }
    }
    Ok(())
}

/// Leaves callgrind's profile of our warm worker under a scenario's load at `out`.
///
/// # Errors
/// If valgrind is missing, or answers are wrong.
pub(crate) fn profile(scenario: Scenario, stage: &Stage, effort: Effort, out: &Path) -> Result<(), Failure> {
    let Some(shape) = traffic_shape(scenario) else {
        return Err(Failure::new(format!("{scenario:?} has no traffic of its own to profile")));
    };
    // Large bodies would take minutes.
    let requests = effort.of(COUNTED.min(shape.requests));
    let instructions = count(&shape, stage, Peer::Kakehi, requests, Some(out))?;
    println!("{instructions} instructions for {requests} requests: {}", out.display());
    Ok(())
}

/// A warm worker's instructions for so many requests.
fn count(
    shape: &Shape,
    stage: &Stage,
    peer: Peer,
    requests: u64,
    keep: Option<&Path>,
) -> Result<u64, Failure> {
    let setting = Setting::new(shape)?;
    let mut counted = Counted::start(stage, peer, &setting.site(CONNECTIONS_MAX))?;
    let mut load = setting.load(counted.running())?;
    let warm_up = WARM_UP.min(requests);
    load.warm_up(warm_up)?;
    counted.instructions(None)?;
    load.run(requests)?;
    let instructions = counted.instructions(keep)?;
    setting.check(0, warm_up + requests)?;
    Ok(instructions)
}
