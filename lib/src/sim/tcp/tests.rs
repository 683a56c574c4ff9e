//! Many seeds, and what a broken network or a wrong configuration has to be noticed by.

use super::super::world::{Lapse, Sabotage};
use super::super::{FINDINGS_MAX, SEEDS, TRACED, origin, search, setting};
use super::super::{Options, notices_by};
use super::{WATCHED, run};

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
    assert!(findings.is_empty(), "{} seeds failed, the first is {}", findings.len(), findings[0].0);
    // Where nobody is served nothing can be found, nor where nothing happens.
    assert!(stats.met * 2 > stats.clients, "too little succeeds: {stats:?}");
    let never = WATCHED.into_iter().zip(stats.watched).find(|(_, count)| *count == 0);
    assert_eq!(never, None, "never happened: {stats:?}");
}

#[test]
fn a_seed_is_one_run() {
    for seed in 0..30 {
        let [one, other] = [(); 2].map(|()| run(seed, origin(), TRACED));
        assert_eq!(one.trace, other.trace, "seed {seed}");
    }
}

fn notices(sabotage: Sabotage, expected: &str) {
    notices_by(sabotage, expected, |seed, options| run(seed, origin(), options).result);
}

#[test]
fn what_is_broken_is_noticed() {
    notices(Sabotage::Corrupt { nth: 700 }, "");
    notices(Sabotage::LoseByte { nth: 12 }, "");
    notices(Sabotage::HideEnds, "");
    notices(Sabotage::HideRoom, "");
    notices(Sabotage::SwallowWrite { nth: 1 }, "other bytes at");
    notices(Sabotage::LoseTunnelEnds, "ended its direction");
    notices(Sabotage::CorruptPipe { nth: 30 }, "other bytes at");
    notices(Sabotage::KeepPipes, "pipes, of");
    notices(Sabotage::Misconfigure(Lapse::Removal), "past its removal");
    notices(Sabotage::Misconfigure(Lapse::TunnelTimeout), "given up after");
    notices(Sabotage::Misconfigure(Lapse::Trust), "");
}
