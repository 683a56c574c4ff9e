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
//! - always: invariants after each turn, no busy loop, an end to everything, and nothing left behind.
//!
//! `KAKEHI_SIM_SEEDS=100000 cargo test -p kakehi-lib --lib sim` runs more seeds;
//! `KAKEHI_SIM_SEED=123 cargo test -p kakehi-lib --lib sim -- --nocapture` runs one and prints all that
//! happened. Read [`run`] first, then [`world`].

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use run::{Options, Stats, run};
use world::Sabotage;

mod backend;
mod client;
mod message;
mod model;
mod network;
mod orders;
mod pipe;
mod rng;
mod run;
mod script;
mod world;

/// Seeds of an ordinary test run: some seconds.
const SEEDS: u64 = 3000;

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

/// Runs `count` seeds from `first` on, on all cores; gives what was found, and what was done.
fn search(first: u64, count: u64, options: Options) -> (Vec<(u64, String)>, Stats) {
    let next = AtomicU64::new(first);
    let found = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let worker = || {
        let mut findings = Vec::new();
        let mut total = Stats::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count || found.load(Ordering::Relaxed) >= FINDINGS_MAX {
                return (findings, total);
            }
            match run(seed, origin(), options).result {
                Ok(stats) => total.add(stats),
                Err(text) => {
                    found.fetch_add(1, Ordering::Relaxed);
                    findings.push((seed, text));
                }
            }
        }
    };
    let mut findings = Vec::new();
    let mut total = Stats::default();
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
    let (findings, stats) = search(0, count, Options::default());
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
    // Where nothing succeeds nothing can be found.
    assert!(stats.planned * 3 > stats.requests * 2, "too little succeeds: {stats:?}");
}

#[test]
fn a_seed_is_one_run() {
    for seed in 0..30 {
        let [one, other] = [(); 2].map(|()| run(seed, origin(), TRACED));
        assert_eq!(one.trace, other.trace, "seed {seed}");
    }
}

#[test]
fn a_broken_network_is_noticed() {
    let broken = [
        Sabotage::Corrupt { nth: 700 },
        Sabotage::LoseByte { nth: 12 },
        Sabotage::HideEnds,
        Sabotage::HideRoom,
    ];
    for sabotage in broken {
        let (findings, _) = search(0, 300, Options { trace: false, sabotage: Some(sabotage) });
        assert!(!findings.is_empty(), "{sabotage:?} went unnoticed");
    }
}
