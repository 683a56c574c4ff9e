//! The simulator: a whole worker under a virtual clock, with peers and a network in memory.
//!
//! One seed is one run: clients with their requests, backends with their answers, timeouts, buffers, what
//! arrives in which pieces and in which order, and in half of the runs what goes wrong. The real
//! [`Worker`](crate::server::Worker) is driven as its loop drives it. Checked are
//!
//! - without faults: every answer is the planned one, byte for byte, and every request reaches a backend
//!   once, as it was sent;
//! - with faults: nobody is lied to (a wrong body, or a truncated one that looks whole) and nothing that
//!   must not be repeated is;
//! - always: invariants after each turn, no busy loop, an end to everything, and nothing left behind; counters that add
//!   up; and nothing for a backend that was removed, or said to be dead ([`verdicts`]), before it was asked for.
//!
//! In a third of the runs one cluster has limits of what may be in flight, and a line of those that wait ([`narrow`]):
//! they are kept to, whoever waits has its turn or is refused in time, and nothing is counted at the end.
//!
//! In a third of the runs the listener speaks TLS ([`secured`]), and so do its clients, by rustls ([`tls`]), which is the
//! judge of every record that the proxy writes. All of the above holds as well, and
//!
//! - who is answered after the OK of an order on certificates is shown what was served from then on;
//! - a request for a host that the certificate is not for is refused, where the listener is strict;
//! - strangers that stall in a handshake, send what is no TLS or spoil their records ([`stranger`]) are got rid of in
//!   time, and are nobody else's trouble;
//! - the end of what was sent is never cut: an answer that ends with the connection ends with a close_notify.
//!
//! Randomness is the seed's there, too: keys, nonces and tickets of both sides are the same in each run of a seed
//! ([`randomness`]).
//!
//! `KAKEHI_SIM_SEEDS=100000 cargo test -p kakehi-lib --lib sim` runs more seeds;
//! `KAKEHI_SIM_SEED=123 cargo test -p kakehi-lib --lib sim -- --nocapture` runs one and prints all that
//! happened. Read [`run`] first, then [`world`].

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crate::metrics::Metric;

use run::{Options, Report, WATCHED, run};
use world::{Lapse, Sabotage};

mod backend;
mod certificates;
mod client;
mod counters;
mod engine;
mod ledger;
mod message;
mod model;
mod narrow;
mod network;
mod orders;
mod pipe;
mod randomness;
mod rng;
mod run;
mod script;
mod secured;
mod setting;
mod site;
mod stranger;
mod tcp;
mod terms;
mod tls;
mod tunnel;
mod verdicts;
mod world;

/// Seeds of an ordinary test run: some seconds.
const SEEDS: u64 = 1000;

/// Seeds after which a sabotage counts as unnoticed. Most are noticed by one of the first ten.
const SABOTAGED_SEEDS_MAX: u64 = 4000;

const TRACED: Options = Options { trace: true, sabotage: None };

/// Findings after which a search is given up.
const FINDINGS_MAX: usize = 10;

#[expect(clippy::disallowed_methods, reason = "how much to simulate is told from outside")]
fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; it is only an origin")]
fn origin() -> Instant {
    Instant::now()
}

/// What runs did, summed up.
trait Tally: Default + Send {
    fn add(&mut self, other: Self);
}

/// A panic is a finding like any other.
#[expect(clippy::needless_pass_by_value, reason = "what catch_unwind gives")]
fn panicked<T>(panic: Box<dyn std::any::Any + Send>) -> Result<T, String> {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    Err(format!("panic: {text}"))
}

/// Plays the first `count` seeds, on all cores, until `enough` was found; gives what was found, and what was
/// done.
fn search<S: Tally>(
    count: u64,
    play: impl Fn(u64) -> Result<S, String> + Sync,
    enough: impl Fn(usize, &str) -> bool + Sync,
) -> (Vec<(u64, String)>, S) {
    let done = AtomicBool::new(false);
    let next = AtomicU64::new(0);
    let found = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let worker = || {
        let mut findings = Vec::new();
        let mut total = S::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count || done.load(Ordering::Relaxed) {
                return (findings, total);
            }
            match play(seed) {
                Ok(stats) => total.add(stats),
                Err(text) => {
                    let count = found.fetch_add(1, Ordering::Relaxed) + 1;
                    done.fetch_or(enough(count, &text), Ordering::Relaxed);
                    findings.push((seed, text));
                }
            }
        }
    };
    let mut findings = Vec::new();
    let mut total = S::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        for thread in threads {
            let (of_thread, stats) = thread.join().expect("panics are caught");
            findings.extend(of_thread);
            total.add(stats);
        }
    });
    findings.sort();
    (findings, total)
}

#[test]
fn no_seed_finds_anything() {
    if let Some(seed) = setting("KAKEHI_SIM_SEED") {
        let report = run(seed, origin(), TRACED);
        report.trace.iter().for_each(|line| println!("{line}"));
        println!("seed {seed}: {:?}", report.result);
        assert!(report.result.is_ok(), "seed {seed} is a finding");
        return;
    }
    let count = setting("KAKEHI_SIM_SEEDS").unwrap_or(SEEDS);
    let play = |seed| run(seed, origin(), Options::default()).result;
    let (findings, stats) = search(count, play, |count, _| count >= FINDINGS_MAX);
    println!("{count} seeds: {stats:?}");
    for (seed, text) in &findings {
        println!("seed {seed}: {text}\n");
    }
    assert!(
        findings.is_empty(),
        "{} seeds failed; to see one: KAKEHI_SIM_SEED={} cargo test -p kakehi-lib --lib sim -- --nocapture",
        findings.len(),
        findings[0].0
    );
    // Where nothing succeeds nothing can be found, nor where nothing happens.
    assert!(stats.planned * 2 > stats.requests, "too little succeeds: {stats:?}");
    let happens = |&(_, count): &(Metric, i64)| count > 0;
    let never = WATCHED.into_iter().zip(stats.watched).find(|pair| !happens(pair));
    assert_eq!(never, None, "never happened: {stats:?}");
}

#[test]
fn a_seed_is_one_run() {
    for seed in 0..30 {
        let [one, other] = [(); 2].map(|()| run(seed, origin(), TRACED));
        assert_eq!(one.trace, other.trace, "seed {seed}");
    }
}

/// Some seed has to find that something is wrong, and what.
fn notices_by<S: Tally>(
    sabotage: Sabotage,
    expected: &str,
    play: impl Fn(u64, Options) -> Result<S, String> + Sync,
) {
    let options = Options { trace: false, sabotage: Some(sabotage) };
    // Behind the first line is how the run was set up.
    let says = |text: &str| text.lines().next().is_some_and(|line| line.contains(expected));
    let (findings, _) = search(SABOTAGED_SEEDS_MAX, |seed| play(seed, options), |_, text| says(text));
    let found = findings.iter().any(|(_, text)| says(text));
    let texts: Vec<_> = findings.iter().take(9).map(|(seed, text)| (seed, text.lines().next())).collect();
    assert!(found, "{sabotage:?} did not lead to \"{expected}\", but to {texts:#?}");
}

fn notices(sabotage: Sabotage, expected: &str) {
    notices_by(sabotage, expected, |seed, options| run(seed, origin(), options).result);
}

#[test]
fn a_broken_network_is_noticed() {
    notices(Sabotage::Corrupt { nth: 700 }, "");
    notices(Sabotage::LoseByte { nth: 12 }, "");
    notices(Sabotage::HideEnds, "");
    notices(Sabotage::HideRoom, "");
}

#[test]
fn broken_tunnels_and_pipes_are_noticed() {
    notices(Sabotage::SwallowWrite { nth: 1 }, "bytes taken from");
    notices(Sabotage::LoseTunnelEnds, "though both sides had ended it");
    notices(Sabotage::ForgetDraining, "while the worker drained");
    notices(Sabotage::ForgetSwitches, "before the protocol was changed");
    notices(Sabotage::CorruptPipe { nth: 30 }, "other b");
    notices(Sabotage::KeepPipes, "pipes, of");
}

#[test]
fn broken_promises_are_noticed() {
    notices(Sabotage::Misconfigure(Lapse::Limits), "in flight, of");
    notices(Sabotage::ForgetAcknowledgements, "reached backends 2 times");
    notices(Sabotage::SplitStrays, "stray");
    notices(Sabotage::ForgetBeginnings, "given up for others");
}

#[test]
fn wrong_tls_is_noticed() {
    notices(Sabotage::Misconfigure(Lapse::Certificates), "instead of");
    notices(Sabotage::Misconfigure(Lapse::Binding), "misdirected: true");
    notices(Sabotage::Misconfigure(Lapse::HandshakeTimeout), "instead of");
}

#[test]
fn a_wrong_configuration_is_noticed() {
    let lapses = [
        (Lapse::BodyLimit, "Planned with 1 arrivals"),
        (Lapse::NoRate, "too_slow: true"),
        (Lapse::HighRate, "left a backend within request"),
        (Lapse::TunnelTimeout, "without a byte"),
        (Lapse::Trust, "X-"),
        (Lapse::Page, "X-Page"),
        (Lapse::Policies, "past"),
        (Lapse::Removal, "only 404 was right"),
        (Lapse::Verdicts, "said to be dead"),
    ];
    for (lapse, expected) in lapses {
        notices(Sabotage::Misconfigure(lapse), expected);
    }
}
