//! Rates against time and against each other, and two at once in every order.

use std::sync::Barrier;
use std::sync::atomic::Ordering;
use std::thread;

use proptest::prelude::*;

use super::super::model::{self, ModelWord, Script};
use super::*;

const SECOND: u64 = NANOSECONDS;

fn key(number: u64) -> Key {
    Key((number + 1) << 40)
}

fn plain(entries: usize, lanes: usize) -> Vec<Rates> {
    let words: Vec<AtomicU64> =
        (0..Rates::<AtomicU64>::words_for(entries)).map(|_| AtomicU64::new(0)).collect();
    let words: &'static [AtomicU64] = Vec::leak(words);
    (0..lanes).map(|lane| Rates::new(words, lane).expect("it fits")).collect()
}

fn admitted(rates: &Rates, key: Key, rate: Rate, now: u64, tries: usize) -> usize {
    (0..tries).filter(|_| rates.take(key, rate, now) == Verdict::Within).count()
}

#[test]
fn a_burst_at_once_and_then_one_an_interval() {
    let [rates] = plain(8, 1)[..] else { unreachable!() };
    let rate = Rate::new(10, 5);
    assert_eq!(admitted(&rates, key(1), rate, SECOND, 20), 5);
    assert_eq!(rates.take(key(1), rate, SECOND), Verdict::Over(Duration::from_millis(100)));
    assert_eq!(rates.wait(key(1), rate, SECOND), Duration::from_millis(100));
    assert_eq!(admitted(&rates, key(1), rate, SECOND + SECOND / 10, 20), 1);
    assert_eq!(admitted(&rates, key(2), rate, SECOND, 20), 5, "another key has its own");
    assert_eq!(admitted(&rates, key(1), rate, 3 * SECOND, 20), 5, "no more than a burst is saved up");
}

#[test]
fn a_changed_rate_counts_at_once() {
    let [rates] = plain(8, 1)[..] else { unreachable!() };
    assert_eq!(admitted(&rates, key(1), Rate::new(1, 1000), SECOND, 2000), 1000);
    // By the old rate the next would be due in a second, but all that were taken weigh for 1000.
    assert_eq!(rates.wait(key(1), Rate::new(10, 2), SECOND), Duration::from_millis(100));
    // The first that comes under the new rate is what brings that about.
    assert_eq!(rates.take(key(1), Rate::new(10, 2), SECOND), Verdict::Over(Duration::from_millis(100)));
    assert_eq!(admitted(&rates, key(1), Rate::new(10, 2), SECOND + SECOND / 10, 20), 1);
}

#[test]
fn entries_whose_time_has_passed_are_given_to_others() {
    let [rates] = plain(8, 1)[..] else { unreachable!() };
    let rate = Rate::new(1, 1);
    for n in 0..8 {
        assert_eq!(rates.take(key(n), rate, SECOND), Verdict::Within);
    }
    assert_eq!(rates.take(key(8), rate, SECOND), Verdict::Uncounted);
    assert!(matches!(rates.take(key(3), rate, SECOND), Verdict::Over(_)));
    assert_eq!(rates.take(key(8), rate, 2 * SECOND), Verdict::Within);
}

#[test]
fn workers_share_a_rate() {
    let workers = plain(8, 4);
    let rate = Rate::new(100, 50);
    let start = Barrier::new(4);
    let admitted: usize = thread::scope(|scope| {
        let run = |worker: Rates| {
            let start = &start;
            move || {
                start.wait();
                admitted(&worker, key(1), rate, SECOND, 1000)
            }
        };
        let threads: Vec<_> = workers.into_iter().map(|worker| scope.spawn(run(worker))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it ends")).sum()
    });
    assert_eq!(admitted, 50);
}

#[test]
fn model_two_take_from_a_new_key() {
    let runs = model::explore(2, false, || {
        let words = model::words(Rates::<ModelWord>::words_for(8));
        let rate = Rate::new(1, 2);
        let admitted = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let script = |lane: usize| {
            let worker = Rates::new(words, lane).expect("it fits");
            let admitted = admitted.clone();
            let script: Script<'_> = Box::new(move || {
                for _ in 0..2 {
                    if worker.take(key(0), rate, SECOND) == Verdict::Within {
                        admitted.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
            script
        };
        let scripts = vec![script(0), script(1)];
        let check = move |_: bool| assert_eq!(admitted.load(Ordering::SeqCst), 2);
        (scripts, Box::new(check) as Box<dyn Fn(bool)>)
    });
    assert!(runs > 500, "{runs}");
}

proptest! {
    /// Over any time no more than a burst and what the rate brings; and whoever waits as told is within.
    #[test]
    fn no_more_than_burst_and_rate(
        per_second in 1..5000_u64, burst in 1..50_u64,
        pauses in proptest::collection::vec(0..50_000_000_u64, 1..200),
    ) {
        let [rates] = plain(8, 1)[..] else { unreachable!() };
        let rate = Rate::new(per_second, burst);
        let (mut now, mut admitted) = (SECOND, Vec::new());
        for pause in pauses {
            now += pause;
            match rates.take(key(1), rate, now) {
                Verdict::Within => admitted.push(now),
                Verdict::Over(wait) => {
                    prop_assert_eq!(rates.wait(key(1), rate, now), wait);
                    let later = now + u64::try_from(wait.as_nanos()).expect("short");
                    prop_assert_eq!(rates.wait(key(1), rate, later), Duration::ZERO);
                }
                Verdict::Uncounted => prop_assert!(false),
            }
        }
        for (at, first) in admitted.iter().enumerate() {
            for (further, last) in admitted.iter().enumerate().skip(at) {
                let count = (further - at + 1) as u64;
                prop_assert!(count <= burst + (last - first) / rate.interval);
            }
        }
    }
}
