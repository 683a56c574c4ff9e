//! Instructions in user space per request, of the worker alone, once it is warm.

use std::path::Path;

use super::traffic::check_backend;
use super::{ALL, CONCURRENCY, CONNECTIONS_MAX, Effort, Scenario, Shape, traffic_shape};
use crate::backend::Backend;
use crate::callgrind::Counted;
use crate::content::Exchange;
use crate::failure::Failure;
use crate::load::Load;
use crate::peers::{Peer, Site, Stage};
use crate::report::Row;
use crate::stats::float;

/// Requests before the count: pools and caches fill.
const WARM_UP: u64 = 2_000;
/// Requests that are counted.
const COUNTED: u64 = 10_000;
/// The count hardly varies from run to run.
const PAIRS_MAX: usize = 3;

/// One row for each of the two scenarios of small requests.
pub(super) fn measure(stage: &Stage, effort: Effort) -> Vec<Row> {
    [
        (Scenario::Keepalive, "user-space instructions per request, first row"),
        (Scenario::Hosts, "user-space instructions per request, 10,000 hosts"),
    ]
    .into_iter()
    .map(|(scenario, title)| {
        let mut row = Row::new(title, "instructions", &[(Peer::Haproxy, 0.30), (Peer::Nginx, 0.50)]);
        let measured = traffic_shape(scenario).map(|shape| measure_into(&mut row, &shape, stage, effort));
        if let Some(Err(failure)) = measured {
            row.make_void(&failure);
        }
        row
    })
    .collect()
}

fn measure_into(row: &mut Row, shape: &Shape, stage: &Stage, effort: Effort) -> Result<(), Failure> {
    let pairs = effort.pairs.min(PAIRS_MAX);
    let requests = effort.of(COUNTED);
    for pair in 0..pairs {
        for peer in ALL {
            let counted = count(shape, stage, *peer, requests, None)
                .map_err(|failure| Failure::new(format!("{}: {failure}", peer.name())))?;
            let each = float(counted) / float(requests);
            eprintln!("  {}/{pairs} {:8} {each:8.0} instructions", pair + 1, peer.name());
            row.add(*peer, each);
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
    let backend = Backend::start(shape.clusters)?;
    let exchange = Exchange::new(shape.kind, shape.hosts);
    let site = Site { hosts: shape.hosts, backends: backend.addresses(), connections_max: CONNECTIONS_MAX };
    let mut counted = Counted::start(stage, peer, &site)?;
    let mut load = Load::new(counted.running().address(), &exchange, shape.reuse, CONCURRENCY)?;
    let warm_up = WARM_UP.min(requests);
    load.run(warm_up)?;
    counted.instructions(None)?;
    load.run(requests)?;
    let instructions = counted.instructions(keep)?;
    check_backend(&backend, 0, warm_up + requests)?;
    Ok(instructions)
}
