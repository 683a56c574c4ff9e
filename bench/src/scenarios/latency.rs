//! How long an answer takes while the proxy has little to do: requests come at a fixed rate, far below what it can
//! serve, and each counts from when it was due.

use std::time::Duration;

use super::setting::Setting;
use super::{ALL, CONNECTIONS_MAX, Effort, SLICES, Shape, TICK, start_all};
use crate::failure::Failure;
use crate::paced::{Paced, Times};
use crate::peers::{Peer, Running, Stage};
use crate::procfs;
use crate::report::Row;
use crate::stats::{float, median, percentile};

/// Requests in a second: a sixteenth of what one core serves, so that the time is the way and not the queue.
const RATE: u32 = 4_000;
/// Requests in one measurement of a proxy: its 99th percentile is the 160th from the top.
const REQUESTS: u64 = 16_000;
/// Requests before each measurement: each connection's first ones.
const WARM_UP: u32 = 1_000;
const UNIT: &str = "us from when it was due to the whole answer";
/// Percentiles that have rows, and that are told beside.
const ROWS: [(&str, f64); 2] = [("median", 0.50), ("99th percentile", 0.99)];
const TAIL: f64 = 0.999;

/// Percentiles of one proxy in one measurement, in us.
struct Percentiles {
    rows: [f64; 2],
    tail: f64,
    late: f64,
    /// Others' processor time on the proxy's core, as a part of the proxy's.
    disturbance: f64,
}

/// A row for each percentile. What fails voids both.
pub(super) fn measure(shape: &Shape, stage: &Stage, effort: Effort) -> Vec<Row> {
    let mut rows = ROWS.map(|(name, _)| {
        let title = format!("latency of a keep-alive GET at {RATE} requests/s, {name}");
        Row::new(&title, UNIT, &[(Peer::Haproxy, 1.0)])
    });
    if let Err(failure) = measure_into(&mut rows, shape, stage, effort) {
        for row in &mut rows {
            row.make_void(&failure);
        }
    }
    rows.into()
}

fn measure_into(rows: &mut [Row; 2], shape: &Shape, stage: &Stage, effort: Effort) -> Result<(), Failure> {
    let setting = Setting::new(shape)?;
    let site = setting.site(CONNECTIONS_MAX);
    let peers = stage.present(ALL);
    let mut beside = vec![(Vec::new(), Vec::new()); peers.len()];
    for pair in 0..effort.pairs {
        let running = start_all(&peers, stage, &site)?;
        let ones = one_pair(stage, effort, &setting, &running)?;
        for ((peer, one), (tail, late)) in peers.iter().zip(ones).zip(&mut beside) {
            let [half, most] = one.rows;
            eprintln!(
                "  {}/{} {:8} {half:6.1} us, {most:6.1} us, {:6.1} us; begun late by {:.1} us",
                pair + 1,
                effort.pairs,
                peer.name(),
                one.tail,
                one.late
            );
            for (row, value) in rows.iter_mut().zip(one.rows) {
                row.disturbance = row.disturbance.max(one.disturbance);
                row.add(*peer, value);
            }
            tail.push(one.tail);
            late.push(one.late);
        }
    }
    if let Some(row) = rows.last_mut() {
        for (peer, (tail, late)) in peers.iter().zip(&beside) {
            row.notes.push(format!(
                "{}: 99.9 % within {:.0} us; 99 % of the requests were begun within {:.0} us of when they were due",
                peer.name(),
                median(tail).unwrap_or_default(),
                median(late).unwrap_or_default()
            ));
        }
    }
    Ok(())
}

/// One measurement of each proxy, in slices.
fn one_pair(
    stage: &Stage,
    effort: Effort,
    setting: &Setting,
    running: &[(Peer, Running)],
) -> Result<Vec<Percentiles>, Failure> {
    let named = |peer: Peer, failure: Failure| Failure::new(format!("{}: {failure}", peer.name()));
    let seen = setting.seen();
    let slice = u32::try_from(effort.of(REQUESTS) / SLICES as u64).unwrap_or(u32::MAX).max(1);
    let mut loads: Vec<(Paced<'_>, Times, Share)> = Vec::new();
    for (peer, proxy) in running {
        let warm = || -> Result<Paced<'_>, Failure> {
            let mut load = setting.paced(proxy)?;
            load.run(WARM_UP, RATE, &mut Times::default())?;
            Ok(load)
        };
        loads.push((warm().map_err(|failure| named(*peer, failure))?, Times::default(), Share::default()));
    }
    for turn in 0..SLICES {
        // Whoever comes first is another each time.
        for place in 0..loads.len() {
            let index = (turn + place) % loads.len();
            if let (Some((load, times, share)), Some((peer, proxy))) =
                (loads.get_mut(index), running.get(index))
            {
                let before = Share::now(stage, proxy)?;
                load.run(slice, RATE, times).map_err(|failure| named(*peer, failure))?;
                share.add(&before, &Share::now(stage, proxy)?);
            }
        }
    }
    let each = u64::from(WARM_UP) + SLICES as u64 * u64::from(slice);
    setting.check(seen, each * loads.len() as u64)?;
    Ok(loads.into_iter().map(|(_, times, share)| percentiles(times, &share)).collect())
}

/// Whose time it was on the proxy's core.
#[derive(Default)]
struct Share {
    cpu_ns: u64,
    busy_ticks: u64,
}

impl Share {
    /// So far.
    fn now(stage: &Stage, proxy: &Running) -> Result<Self, Failure> {
        Ok(Self {
            cpu_ns: procfs::cpu_ns(&proxy.pids())?,
            busy_ticks: procfs::busy_ticks(stage.cores.proxy)?,
        })
    }

    fn add(&mut self, from: &Self, to: &Self) {
        self.cpu_ns += to.cpu_ns - from.cpu_ns;
        self.busy_ticks += to.busy_ticks - from.busy_ticks;
    }

    fn disturbance(&self) -> f64 {
        let own = float(self.cpu_ns) / 1e9;
        ((float(self.busy_ticks) * TICK.as_secs_f64() - own) / own).max(0.0)
    }
}

fn percentiles(times: Times, share: &Share) -> Percentiles {
    let sorted = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times
    };
    let (latency, late) = (sorted(times.latency), sorted(times.late));
    let us = |times: &[Duration], part| percentile(times, part).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    Percentiles {
        rows: ROWS.map(|(_, part)| us(&latency, part)),
        tail: us(&latency, TAIL),
        late: us(&late, 0.99),
        disturbance: share.disturbance(),
    }
}
