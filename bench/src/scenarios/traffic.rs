//! Processor time per request: the same load on each proxy in turn, again and again.

use std::time::Duration;

use super::{CONCURRENCY, CONNECTIONS_MAX, Effort, Shape};
use crate::backend::Backend;
use crate::content::Exchange;
use crate::failure::Failure;
use crate::load::Load;
use crate::peers::{Peer, Running, Site, Stage, Wrapper};
use crate::procfs;
use crate::report::Row;
use crate::stats::{float, median};
use crate::strace;

/// Requests before each measurement, as a part of those measured: pools and caches fill.
const WARM_UP_DIVISOR: u64 = 10;
/// Requests under strace, which makes each of them many times slower.
const TRACED_REQUESTS: u64 = 4_000;
const TICK: Duration = Duration::from_millis(10);

/// One peer, one measurement.
struct Measured {
    cpu_us_per_request: f64,
    requests_per_second: f64,
    /// Others' processor time on the proxy's core, as a part of the proxy's.
    disturbance: f64,
    user_ticks: u64,
    system_ticks: u64,
}

/// Measures a shape with all its peers. What fails voids the row.
pub(super) fn measure(shape: &Shape, stage: &Stage, effort: Effort) -> Row {
    let mut row = Row::new(shape.title, "us of processor time per request", shape.targets);
    if let Err(failure) = measure_into(&mut row, shape, stage, effort) {
        row.make_void(&failure);
    }
    row
}

fn measure_into(row: &mut Row, shape: &Shape, stage: &Stage, effort: Effort) -> Result<(), Failure> {
    let backend = Backend::start(shape.clusters)?;
    let exchange = Exchange::new(shape.kind, shape.hosts);
    let site = Site { hosts: shape.hosts, backends: backend.addresses(), connections_max: CONNECTIONS_MAX };
    let mut running = Vec::new();
    for peer in shape.peers {
        running.push((*peer, stage.start(*peer, &site, &Wrapper::default())?, Vec::new()));
    }
    for pair in 0..effort.pairs {
        for (peer, proxy, measured) in &mut running {
            let one = one_measurement(shape, stage, effort, &exchange, &backend, proxy)
                .map_err(|failure| Failure::new(format!("{}: {failure}", peer.name())))?;
            eprintln!(
                "  {}/{} {:8} {:8.2} us {:8.0}/s, others on its core {:.1} %",
                pair + 1,
                effort.pairs,
                peer.name(),
                one.cpu_us_per_request,
                one.requests_per_second,
                one.disturbance * 100.0
            );
            row.add(*peer, one.cpu_us_per_request);
            row.disturbance = row.disturbance.max(one.disturbance);
            measured.push(one);
        }
    }
    for (peer, proxy, measured) in &running {
        row.notes.push(note(*peer, measured));
        let mut load = Load::new(proxy.address(), &exchange, shape.reuse, CONCURRENCY)?;
        load.run(CONCURRENCY as u64)?;
        let requests = effort.of(TRACED_REQUESTS);
        match strace::count(*peer, &proxy.pids(), requests, || load.run(requests).map(|_| ())) {
            Ok(calls) => row.calls.push(calls),
            Err(failure) => eprintln!("  no system calls of {}: {failure}", peer.name()),
        }
    }
    Ok(())
}

fn one_measurement(
    shape: &Shape,
    stage: &Stage,
    effort: Effort,
    exchange: &Exchange,
    backend: &Backend,
    proxy: &Running,
) -> Result<Measured, Failure> {
    let requests = effort.of(shape.requests);
    let warm_up = (requests / WARM_UP_DIVISOR).max(CONCURRENCY as u64);
    let seen = backend.requests();
    let mut load = Load::new(proxy.address(), exchange, shape.reuse, CONCURRENCY)?;
    load.run(warm_up)?;

    let pids = proxy.pids();
    let busy = procfs::busy_ticks(stage.cores.proxy)?;
    let (user, system) = procfs::user_and_system_ticks(&pids);
    let cpu = procfs::cpu_ns(&pids)?;
    let took = load.run(requests)?;
    let cpu = procfs::cpu_ns(&pids)? - cpu;
    let (user_after, system_after) = procfs::user_and_system_ticks(&pids);
    let busy = procfs::busy_ticks(stage.cores.proxy)? - busy;

    if proxy.pids() != pids {
        return Err(Failure::new(format!("its processes changed: {}", proxy.log())));
    }
    check_backend(backend, seen, warm_up + requests)?;
    let others = float(busy) * TICK.as_secs_f64() - float(cpu) / 1e9;
    Ok(Measured {
        cpu_us_per_request: float(cpu) / 1e3 / float(requests),
        requests_per_second: float(requests) / took.as_secs_f64(),
        disturbance: (others / (float(cpu) / 1e9)).max(0.0),
        user_ticks: user_after - user,
        system_ticks: system_after - system,
    })
}

/// Each request must have reached the backend once, as it was sent.
pub(super) fn check_backend(backend: &Backend, seen_before: u64, sent: u64) -> Result<(), Failure> {
    let seen = backend.requests() - seen_before;
    if backend.wrong() > 0 {
        return Err(Failure::new("the backend got a wrong request"));
    }
    if seen != sent {
        return Err(Failure::new(format!("the backend got {seen} requests instead of {sent}")));
    }
    Ok(())
}

fn note(peer: Peer, measured: &[Measured]) -> String {
    let rates: Vec<f64> = measured.iter().map(|one| one.requests_per_second).collect();
    let (user, system) = measured
        .iter()
        .fold((0, 0), |(user, system), one| (user + one.user_ticks, system + one.system_ticks));
    let share = 100.0 * float(system) / float((user + system).max(1));
    format!(
        "{} at {:.0} requests/s, {share:.0} % of its time in the kernel",
        peer.name(),
        median(&rates).unwrap_or_default(),
    )
}
