//! Counts as a map would have them, and threads in every order of their steps.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use proptest::prelude::*;

use super::super::model::{self, ModelWord, Script};
use super::*;

/// Distinct tags, one bucket for all: tables of these tests have one, or they do not care.
fn key(number: u64) -> Key {
    Key((number + 1) << 40)
}

fn handles<W: Word>(words: &'static [W], lanes: usize) -> Vec<Counters<W>> {
    (0..lanes).map(|lane| Counters::new(words, lanes, lane).expect("it fits")).collect()
}

fn plain(entries: usize, lanes: usize) -> Vec<Counters> {
    let words = (0..Counters::<AtomicU64>::words_for(entries, lanes)).map(|_| AtomicU64::new(0)).collect();
    handles(Vec::leak::<'static>(words), lanes)
}

fn counted<W: Word>(counters: &Counters<W>, key: Key, limit: u64) -> Permit {
    match counters.try_add(key, limit) {
        Added::Counted(permit) => permit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lanes_add_up_and_the_limit_is_of_all() {
    for lanes in 1..=5 {
        let workers = plain(8, lanes);
        let mut permits = Vec::new();
        for n in 0..12 {
            let at = n % lanes;
            permits.push((at, counted(&workers[at], key(1), 12)));
            assert_eq!(workers[0].count(key(1)), n as u64 + 1);
        }
        for worker in &workers {
            assert_eq!(worker.try_add(key(1), 12), Added::OverLimit);
            assert_eq!(worker.count(key(1)), 12, "and is not counted");
        }
        for (at, permit) in permits {
            workers[at].sub(permit);
        }
        assert_eq!(workers[0].count(key(1)), 0);
    }
}

#[test]
fn a_lowered_limit_admits_none_and_cuts_none() {
    let [worker] = plain(8, 1)[..] else { unreachable!() };
    let permits: Vec<_> = (0..5).map(|_| counted(&worker, key(1), 5)).collect();
    assert_eq!(worker.try_add(key(1), 2), Added::OverLimit);
    assert_eq!(worker.count(key(1)), 5);
    permits.into_iter().for_each(|permit| worker.sub(permit));
    let _permit = counted(&worker, key(1), 2);
}

#[test]
fn idle_entries_are_given_to_others_and_a_full_bucket_says_so() {
    let [worker] = plain(8, 1)[..] else { unreachable!() };
    for n in 0..1000 {
        let permit = counted(&worker, key(n), 1);
        worker.sub(permit);
    }
    let held: Vec<_> = (0..8).map(|n| counted(&worker, key(n), 1)).collect();
    assert_eq!(worker.entries_used(), 8);
    assert_eq!(worker.try_add(key(8), 1), Added::Uncounted);
    assert_eq!(worker.try_add(key(3), 1), Added::OverLimit, "those that are there are limited still");
    held.into_iter().for_each(|permit| worker.sub(permit));
    let _permit = counted(&worker, key(8), 1);
}

#[test]
fn a_lane_is_cleared_and_no_other() {
    let workers = plain(8, 3);
    let kept = [counted(&workers[0], key(1), 9), counted(&workers[2], key(1), 9)];
    let _lost = [counted(&workers[1], key(1), 9), counted(&workers[1], key(2), 9)];
    workers[1].clear_lane();
    assert_eq!((workers[0].count(key(1)), workers[0].count(key(2))), (2, 0));
    let [first, second] = kept;
    workers[0].sub(first);
    workers[2].sub(second);
    assert_eq!(workers[0].count(key(1)), 0);
}

/// How many of each key a thread holds, and how many all may.
struct Ledger {
    held: Vec<[AtomicUsize; 3]>,
    limit: usize,
}

impl Ledger {
    fn new(threads: usize, limit: usize) -> Arc<Self> {
        Arc::new(Self { held: (0..threads).map(|_| Default::default()).collect(), limit })
    }

    fn of_all(&self, number: usize) -> usize {
        self.held.iter().map(|held| held[number].load(Ordering::SeqCst)).sum()
    }

    /// One thread does what it has to: add one of this key, and give it back or keep it.
    fn follow(&self, thread: usize, counters: &Counters<ModelWord>, todo: &[(usize, bool)]) {
        for &(number, keeps) in todo {
            let key = key(number as u64);
            match counters.try_add(key, self.limit as u64) {
                Added::Counted(permit) => {
                    self.held[thread][number].fetch_add(1, Ordering::SeqCst);
                    assert!(self.of_all(number) <= self.limit, "of key {number}");
                    if !keeps {
                        self.held[thread][number].fetch_sub(1, Ordering::SeqCst);
                        counters.sub(permit);
                    }
                }
                Added::OverLimit => {}
                Added::Uncounted => panic!("there is room"),
            }
        }
    }
}

/// Tables of one bucket in which some keys have been already.
fn used_before(lanes: usize, keys: &[u64]) -> Vec<Counters<ModelWord>> {
    let workers = handles(model::words(Counters::<ModelWord>::words_for(8, lanes)), lanes);
    let permits: Vec<_> = keys.iter().map(|&number| counted(&workers[0], key(number), 1)).collect();
    permits.into_iter().for_each(|permit| workers[0].sub(permit));
    workers
}

/// Each counts what is held, and a place more is free exactly where one is missing.
fn check_counts(workers: &[Counters<ModelWord>], ledger: &Ledger) {
    for number in 0..3 {
        let held = ledger.of_all(number);
        let last = workers.last().expect("some");
        assert_eq!(last.count(key(number as u64)), held as u64, "of key {number}");
        for _ in held..ledger.limit {
            let _permit = counted(last, key(number as u64), ledger.limit as u64);
        }
        assert_eq!(last.try_add(key(number as u64), ledger.limit as u64), Added::OverLimit);
    }
}

/// What the threads do after these keys have come and gone.
fn explore(
    before: &'static [u64],
    dies: bool,
    switches_max: usize,
    limit: usize,
    todo: &'static [&'static [(usize, bool)]],
) {
    let runs = model::explore(switches_max, dies, || {
        let workers = used_before(todo.len(), before);
        let ledger = Ledger::new(todo.len(), limit);
        let scripts = todo.iter().zip(workers.clone()).enumerate().map(|(thread, (todo, worker))| {
            let ledger = ledger.clone();
            let script: Script<'_> = Box::new(move || ledger.follow(thread, &worker, todo));
            script
        });
        let scripts = scripts.collect();
        let check = Box::new(move |died: bool| {
            if died {
                workers[0].clear_lane();
                ledger.held[0].iter().for_each(|held| held.store(0, Ordering::SeqCst));
            }
            check_counts(&workers, &ledger);
        });
        (scripts, check as Box<dyn Fn(bool)>)
    });
    assert!(runs > 500, "{runs}");
}

/// They fill a bucket; the first is in its first place, and will be reclaimed first.
const BUCKET: &[u64] = &[0, 11, 12, 13, 14, 15, 16, 17];

#[test]
fn model_two_come_for_the_last_place() {
    explore(&[], false, 2, 1, &[&[(0, true)], &[(0, true)]]);
}

#[test]
fn model_two_come_and_go() {
    explore(&[], false, 2, 1, &[&[(0, false), (0, true)], &[(0, false), (0, true)]]);
}

#[test]
fn model_three_come_for_two_places() {
    explore(&[], false, 2, 2, &[&[(0, true)], &[(0, true)], &[(0, true)]]);
}

#[test]
fn model_an_idle_entry_is_wanted_and_comes_to_life() {
    explore(BUCKET, false, 2, 2, &[&[(0, true)], &[(1, true), (2, true)]]);
}

#[test]
fn model_an_entry_is_reclaimed_while_its_key_returns() {
    explore(BUCKET, false, 1, 1, &[&[(1, false), (2, true)], &[(0, true)], &[(1, true)]]);
    explore(BUCKET, false, 2, 1, &[&[(1, true)], &[(0, true)]]);
}

#[test]
fn model_one_dies_at_any_step() {
    explore(&[], true, 1, 2, &[&[(0, false), (0, true)], &[(0, true)]]);
}

#[test]
fn model_one_dies_while_it_reclaims() {
    explore(BUCKET, true, 1, 2, &[&[(1, true), (2, false)], &[(0, true), (1, true)]]);
}

#[test]
fn threads_never_pass_the_limit_and_leave_nothing_behind() {
    const THREADS: usize = 4;
    const ROUNDS: u64 = 20_000;
    const LIMIT: u64 = 3;
    let workers = plain(16, THREADS);
    let held: Vec<AtomicU64> = (0..40).map(|_| AtomicU64::new(0)).collect();
    let start = Barrier::new(THREADS);
    let admitted: u64 = thread::scope(|scope| {
        let run = |at: usize| {
            let (worker, held, start) = (workers[at], &held, &start);
            move || {
                start.wait();
                let mut admitted = 0;
                let mut mine = std::collections::VecDeque::new();
                for round in 0..ROUNDS {
                    let number = (round * 7 + at as u64) % 40;
                    if let Added::Counted(permit) = worker.try_add(key(number), LIMIT) {
                        let count = &held[usize::try_from(number).expect("small")];
                        assert!(count.fetch_add(1, Ordering::SeqCst) < LIMIT);
                        mine.push_back((number, permit));
                        admitted += 1;
                    }
                    if mine.len() > 3
                        && let Some((number, permit)) = mine.pop_front()
                    {
                        held[usize::try_from(number).expect("small")].fetch_sub(1, Ordering::SeqCst);
                        worker.sub(permit);
                    }
                }
                for (number, permit) in mine {
                    held[usize::try_from(number).expect("small")].fetch_sub(1, Ordering::SeqCst);
                    worker.sub(permit);
                }
                admitted
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|at| scope.spawn(run(at))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no assertion failed")).sum()
    });
    // How many depends on who runs when.
    assert!(admitted > LIMIT);
    assert!((0..40).all(|number| workers[0].count(key(number)) == 0));
}

proptest! {
    /// As a map, as long as there is room.
    #[test]
    fn it_counts_as_a_map_would(operations in proptest::collection::vec((0..20_u64, 0..3_usize, any::<bool>(), 0..4_u64), 1..200)) {
        let workers = plain(64, 3);
        let mut model: HashMap<u64, Vec<(usize, Permit)>> = HashMap::new();
        for (number, at, adds, limit) in operations {
            let key = Key(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63);
            let held = model.entry(number).or_default();
            if adds {
                match workers[at].try_add(key, limit) {
                    Added::Counted(permit) => {
                        prop_assert!((held.len() as u64) < limit);
                        held.push((at, permit));
                    }
                    Added::OverLimit => prop_assert!(held.len() as u64 >= limit),
                    Added::Uncounted => prop_assert!(held.is_empty()),
                }
            } else if let Some((at, permit)) = held.pop() {
                workers[at].sub(permit);
            }
            prop_assert_eq!(workers[0].count(key), held.len() as u64);
        }
    }

    /// Other words than ours: never more than wrong numbers.
    #[test]
    fn whatever_is_there_it_goes_on(garbage in proptest::collection::vec(any::<u64>(), 24), number in any::<u64>()) {
        let words: Vec<AtomicU64> = garbage.into_iter().map(AtomicU64::new).collect();
        let worker = Counters::new(Vec::leak(words), 4, 1).expect("it fits");
        let _ = worker.try_add(Key(number), 3);
        worker.clear_lane();
        let _ = worker.count(Key(number));
    }
}
