//! What those who are served feel of those who are refused: a cluster may have so many requests in flight, its backend
//! takes so long for each, and four times as many are asked for as that serves.

use std::time::Duration;

use super::setting::Setting;
use super::{CONNECTIONS_MAX, Effort, KEEPALIVE, Shape, start_all};
use crate::failure::Failure;
use crate::paced::{Paced, Times};
use crate::peers::{Peer, Running, Stage};
use crate::report::Row;
use crate::stats::{float, percentile};

const SERVICE: Duration = Duration::from_millis(2);
const IN_FLIGHT_MAX: u32 = 8;
/// What is served in a second, at most.
const CAPACITY: u32 = IN_FLIGHT_MAX * 500;
/// Requests in a second: below what is served, and four times that.
const CALM: u32 = CAPACITY / 5 * 4;
const OVERLOAD: u32 = CAPACITY * 4;
/// How long each of them lasts, in requests that would be served in that time.
const SERVED: u64 = 16_000;
/// Slices of a measurement: both loads in turn, so that what the machine does beside hits both.
const SLICES: u32 = 4;
const WARM_UP: u32 = 500;
const MOST: f64 = 0.99;
const BOUND: f64 = 2.0;
const TITLE: &str = "99th percentile of those served, at four times what can be served";

const SHAPE: Shape = Shape {
    title: TITLE,
    service: SERVICE,
    in_flight_max: Some(IN_FLIGHT_MAX as usize),
    peers: &[Peer::Kakehi, Peer::Haproxy],
    targets: &[],
    ..KEEPALIVE
};

/// One row: a proxy's percentile under overload divided by its own at four fifths of what can be served.
pub(super) fn measure(stage: &Stage, effort: Effort) -> Row {
    let mut row = Row::new(TITLE, "times that at four fifths", SHAPE.targets);
    row.bound = Some(("itself at four fifths", BOUND));
    if let Err(failure) = measure_into(&mut row, stage, effort) {
        row.make_void(&failure);
    }
    row
}

fn measure_into(row: &mut Row, stage: &Stage, effort: Effort) -> Result<(), Failure> {
    let setting = Setting::new(&SHAPE)?;
    let site = setting.site(CONNECTIONS_MAX);
    let peers = stage.present(SHAPE.peers);
    for pair in 0..effort.pairs {
        for (peer, proxy) in start_all(&peers, stage, &site)? {
            let (calm, overload) = one(&setting, &proxy, effort)
                .map_err(|failure| Failure::new(format!("{}: {failure}", peer.name())))?;
            let us =
                |times: &[Duration]| percentile(times, MOST).map_or(0.0, |time| time.as_secs_f64() * 1e6);
            let (before, after) = (us(&calm.latency), us(&overload.latency));
            let all = overload.latency.len() + overload.refused.len();
            let note = format!(
                "{}: {before:.0} us, then {after:.0} us; of {all} requests {:.0} % were served, 99 % of the others refused \
                 within {:.0} us; 99 % were begun within {:.0} us of when they were due",
                peer.name(),
                float(overload.latency.len() as u64) / float(all as u64) * 100.0,
                us(&overload.refused),
                us(&overload.late),
            );
            eprintln!("  {}/{} {note}", pair + 1, effort.pairs);
            if pair + 1 == effort.pairs {
                row.notes.push(note);
            }
            row.add(peer, after / before);
        }
    }
    Ok(())
}

/// Times of one proxy under both loads, in order.
fn one(setting: &Setting, proxy: &Running, effort: Effort) -> Result<(Times, Times), Failure> {
    let mut load: Paced<'_> = setting.paced(proxy)?.or_refused();
    load.run(WARM_UP, CALM, &mut Times::default())?;
    let (mut calm, mut overload) = (Times::default(), Times::default());
    let served = u32::try_from(effort.of(SERVED)).unwrap_or(u32::MAX) / SLICES;
    for _ in 0..SLICES {
        let seen = setting.seen();
        let before = calm.latency.len() + overload.latency.len();
        load.run((served / 5 * 4).max(1), CALM, &mut calm)?;
        load.run((served * 4).max(1), OVERLOAD, &mut overload)?;
        setting.check(seen, (calm.latency.len() + overload.latency.len() - before) as u64)?;
    }
    for times in [&mut calm, &mut overload] {
        times.latency.sort_unstable();
        times.refused.sort_unstable();
        times.late.sort_unstable();
    }
    Ok((calm, overload))
}
