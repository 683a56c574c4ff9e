//! One backend added and removed at run time: processor time of all processes of a proxy.

use std::time::Duration;

use super::{CONNECTIONS_MAX, Effort, SLICES, start_all};
use crate::backend::Backend;
use crate::control::Controller;
use crate::failure::Failure;
use crate::peers::{Peer, Running, Site, Stage};
use crate::procfs;
use crate::report::Row;
use crate::stats::float;

/// Rounds of one measurement.
const ROUNDS: u64 = 4_000;
const WARM_UP: u64 = 50;
const PEERS: [Peer; 2] = [Peer::Kakehi, Peer::Haproxy];

/// Measures those that can be changed at run time.
pub(super) fn measure(stage: &Stage, effort: Effort) -> Row {
    let unit = "us of processor time of all processes";
    let mut row = Row::new("one backend added and removed", unit, &[(Peer::Haproxy, 0.5)]);
    if let Err(failure) = measure_into(&mut row, stage, effort) {
        row.make_void(&failure);
    }
    row
}

fn measure_into(row: &mut Row, stage: &Stage, effort: Effort) -> Result<(), Failure> {
    let backend = Backend::start(1, Duration::ZERO)?;
    let site = Site {
        hosts: 1,
        backends: backend.addresses(),
        connections_max: CONNECTIONS_MAX,
        identity: None,
        tunnel: false,
        in_flight_max: None,
    };
    let peers = stage.present(&PEERS);
    for pair in 0..effort.pairs {
        let running = start_all(&peers, stage, &site)?;
        let mut costs = [0.0; PEERS.len()];
        for slice in 0..SLICES {
            for turn in 0..running.len() {
                let index = (turn + slice) % running.len();
                let (Some((peer, proxy)), Some(cost)) = (running.get(index), costs.get_mut(index)) else {
                    continue;
                };
                let rounds = (effort.of(ROUNDS) / SLICES as u64).max(1);
                *cost += one_measurement(*peer, proxy, rounds)
                    .map_err(|failure| Failure::new(format!("{}: {failure}", peer.name())))?
                    / float(SLICES as u64);
            }
        }
        for ((peer, _), cost) in running.iter().zip(costs) {
            eprintln!("  {}/{} {:8} {cost:8.2} us", pair + 1, effort.pairs, peer.name());
            row.add(*peer, cost);
        }
    }
    Ok(())
}

fn one_measurement(peer: Peer, proxy: &Running, rounds: u64) -> Result<f64, Failure> {
    let mut controller = Controller::connect(peer, proxy)?;
    let mut change = |rounds: u64| -> Result<(), Failure> {
        for _ in 0..rounds {
            controller.add()?;
            controller.remove()?;
        }
        Ok(())
    };
    change(WARM_UP)?;
    let pids = proxy.pids();
    let cpu = procfs::cpu_ns(&pids)?;
    change(rounds)?;
    let cpu = procfs::cpu_ns(&pids)? - cpu;
    Ok(float(cpu) / 1e3 / float(rounds))
}
