//! Processor time per request: the same load on each proxy in turn, again and again.

use std::time::Duration;

use super::setting::Setting;
use super::{CONNECTIONS_MAX, Effort, SLICES, Shape, TICK, Unit, start_all};
use crate::failure::Failure;
use crate::load::Load;
use crate::peers::{Peer, Running, Stage};
use crate::procfs;
use crate::report::Row;
use crate::stats::{float, median};
use crate::strace;

/// Requests before each measurement, as a part of those measured: pools and caches fill.
const WARM_UP_DIVISOR: u64 = 10;
/// Requests under strace, which makes each of them many times slower.
const TRACED_REQUESTS: u64 = 4_000;

/// One peer, one measurement.
#[derive(Clone)]
struct Measured {
    /// In the shape's unit.
    cost: f64,
    requests_per_second: f64,
    /// Others' processor time on the proxy's core, as a part of the proxy's.
    disturbance: f64,
    user_ticks: u64,
    system_ticks: u64,
}

/// Measures a shape with all its peers. What fails voids the row.
pub(super) fn measure(shape: &Shape, stage: &Stage, effort: Effort) -> Row {
    let mut row = Row::new(shape.title, shape.unit.name(), shape.targets);
    if let Err(failure) = measure_into(&mut row, shape, stage, effort) {
        row.make_void(&failure);
    }
    row
}

fn measure_into(row: &mut Row, shape: &Shape, stage: &Stage, effort: Effort) -> Result<(), Failure> {
    let setting = Setting::new(shape)?;
    let site = setting.site(CONNECTIONS_MAX);
    let peers = stage.present(shape.peers);
    let mut measured = vec![Vec::new(); peers.len()];
    for pair in 0..effort.pairs {
        let running = start_all(&peers, stage, &site)?;
        let ones = one_pair(shape, stage, effort, &setting, &running)?;
        for (((peer, _), measured), one) in running.iter().zip(&mut measured).zip(ones) {
            eprintln!(
                "  {}/{} {:8} {:8.2} {:8.0}/s, others on its core {:.1} %",
                pair + 1,
                effort.pairs,
                peer.name(),
                one.cost,
                one.requests_per_second,
                one.disturbance * 100.0
            );
            row.add(*peer, one.cost);
            row.disturbance = row.disturbance.max(one.disturbance);
            measured.push(one);
        }
    }
    for ((peer, proxy), measured) in start_all(&peers, stage, &site)?.iter().zip(&measured) {
        row.notes.push(note(*peer, measured));
        let mut load = setting.load(proxy)?;
        load.warm_up(shape.connections as u64)?;
        // No more than one measurement has: bulk would take minutes.
        let requests = effort.of(TRACED_REQUESTS.min(shape.requests));
        match strace::count(*peer, &proxy.pids(), requests, || load.run(requests).map(|_| ())) {
            Ok(calls) => row.calls.push(calls),
            Err(failure) => eprintln!("  no system calls of {}: {failure}", peer.name()),
        }
    }
    Ok(())
}

/// One measurement of each proxy, in slices.
fn one_pair(
    shape: &Shape,
    stage: &Stage,
    effort: Effort,
    setting: &Setting,
    running: &[(Peer, Running)],
) -> Result<Vec<Measured>, Failure> {
    let named = |peer: &Peer, failure: Failure| Failure::new(format!("{}: {failure}", peer.name()));
    let seen = setting.seen();
    let mut tallies = Vec::new();
    for (peer, proxy) in running {
        let tally = Tally::begin(proxy, setting, shape, effort);
        tallies.push(tally.map_err(|failure| named(peer, failure))?);
    }
    for slice in 0..SLICES {
        // Whoever comes first is another each time.
        for turn in 0..tallies.len() {
            let index = (turn + slice) % tallies.len();
            if let (Some(tally), Some((peer, proxy))) = (tallies.get_mut(index), running.get(index)) {
                tally.slice(proxy, stage).map_err(|failure| named(peer, failure))?;
            }
        }
    }
    setting.check(seen, tallies.iter().map(|tally| tally.sent).sum())?;
    Ok(tallies.into_iter().map(|tally| tally.measured(shape.unit)).collect())
}

/// What one proxy has used so far, in one pair.
struct Tally<'s> {
    load: Load<'s>,
    pids: Vec<u32>,
    requests_per_slice: u64,
    /// Requests in all, those to warm up included, and those that were measured.
    sent: u64,
    requests: u64,
    took: Duration,
    cpu_ns: u64,
    busy_ticks: u64,
    user_ticks: u64,
    system_ticks: u64,
}

impl<'s> Tally<'s> {
    /// Connects, and lets pools and caches fill.
    fn begin(proxy: &Running, setting: &'s Setting, shape: &Shape, effort: Effort) -> Result<Self, Failure> {
        let requests_per_slice = (effort.of(shape.requests) / SLICES as u64).max(1);
        let warm_up = (effort.of(shape.requests) / WARM_UP_DIVISOR).max(shape.connections as u64);
        let mut load = setting.load(proxy)?;
        load.warm_up(warm_up)?;
        let (user, system) = procfs::user_and_system_ticks(&proxy.pids());
        Ok(Self {
            load,
            pids: proxy.pids(),
            requests_per_slice,
            sent: warm_up,
            requests: 0,
            took: Duration::ZERO,
            cpu_ns: 0,
            busy_ticks: 0,
            user_ticks: user,
            system_ticks: system,
        })
    }

    /// A slice of the work.
    fn slice(&mut self, proxy: &Running, stage: &Stage) -> Result<(), Failure> {
        let busy = procfs::busy_ticks(stage.cores.proxy)?;
        let cpu = procfs::cpu_ns(&self.pids)?;
        self.took += self.load.run(self.requests_per_slice)?;
        self.cpu_ns += procfs::cpu_ns(&self.pids)? - cpu;
        self.busy_ticks += procfs::busy_ticks(stage.cores.proxy)? - busy;
        self.requests += self.requests_per_slice;
        self.sent += self.requests_per_slice;
        if proxy.pids() != self.pids {
            return Err(Failure::new(format!("its processes changed: {}", proxy.log())));
        }
        Ok(())
    }

    fn measured(self, unit: Unit) -> Measured {
        let (user, system) = procfs::user_and_system_ticks(&self.pids);
        let cpu_seconds = float(self.cpu_ns) / 1e9;
        let others = float(self.busy_ticks) * TICK.as_secs_f64() - cpu_seconds;
        Measured {
            cost: unit.of(cpu_seconds, self.requests),
            requests_per_second: float(self.requests) / self.took.as_secs_f64(),
            disturbance: (others / cpu_seconds).max(0.0),
            user_ticks: user - self.user_ticks,
            system_ticks: system - self.system_ticks,
        }
    }
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
