//! Runs threads one step at a time, in every order that differs from running one after the other by at most so many
//! switches; one of them may die at any of its steps. A step is an access to a shared word.
//!
//! All accesses of ours are sequentially consistent, so an order of steps is all that can differ between two runs.
//! Most bugs of such algorithms need two switches at most ("context bounding").

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};

use super::slots::Word;

/// A word whose every access is a step.
#[derive(Debug, Default)]
pub(super) struct ModelWord(AtomicU64);

impl Word for ModelWord {
    fn load(&self) -> u64 {
        step();
        self.0.load(Ordering::SeqCst)
    }

    fn replace(&self, from: u64, to: u64) -> bool {
        step();
        self.0.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn add(&self, value: u64) {
        step();
        self.0.fetch_add(value, Ordering::SeqCst);
    }

    fn sub(&self, value: u64) {
        step();
        self.0.fetch_sub(value, Ordering::SeqCst);
    }

    fn mask(&self, bits: u64) {
        step();
        self.0.fetch_and(bits, Ordering::SeqCst);
    }
}

/// So many words for good: a run's memory is small.
pub(super) fn words(count: usize) -> &'static [ModelWord] {
    Vec::leak((0..count).map(|_| ModelWord::default()).collect())
}

/// What differs between runs.
#[derive(Debug, Clone, Default)]
struct Plan {
    first: usize,
    /// At which steps of all which thread goes on.
    switches: Vec<(usize, usize)>,
    /// After how many of its own steps thread 0 dies.
    dies_at: Option<usize>,
}

struct Run {
    plan: Plan,
    steps: AtomicUsize,
    running: AtomicUsize,
    finished: Vec<AtomicBool>,
    threads: Vec<OnceLock<Thread>>,
}

struct Died;

thread_local! {
    static ME: RefCell<Option<(Arc<Run>, usize, usize)>> = const { RefCell::new(None) };
}

fn step() {
    let me = ME.with_borrow_mut(|me| {
        me.as_mut().map(|(run, number, own)| {
            *own += 1;
            (run.clone(), *number, *own)
        })
    });
    let Some((run, number, own)) = me else { return };
    if number == 0 && run.plan.dies_at == Some(own) {
        resume_unwind(Box::new(Died));
    }
    let at = run.steps.fetch_add(1, Ordering::SeqCst);
    let switch = run.plan.switches.iter().find(|(step, _)| *step == at);
    if let Some((_, next)) = switch
        && !run.finished[*next].load(Ordering::SeqCst)
    {
        run.give_to(*next);
        run.wait_for(number);
    }
}

impl Run {
    fn give_to(&self, next: usize) {
        self.running.store(next, Ordering::SeqCst);
        self.threads[next].get().expect("it has begun").unpark();
    }

    fn wait_for(&self, number: usize) {
        while self.running.load(Ordering::SeqCst) != number {
            thread::park();
        }
    }
}

/// What one thread does.
pub(super) type Script<'s> = Box<dyn Fn() + Sync + Send + 's>;

/// One run; tells the steps taken.
fn run(plan: &Plan, scripts: &[Script<'_>]) -> usize {
    let run = Arc::new(Run {
        plan: plan.clone(),
        steps: AtomicUsize::new(0),
        running: AtomicUsize::new(usize::MAX),
        finished: scripts.iter().map(|_| AtomicBool::new(false)).collect(),
        threads: scripts.iter().map(|_| OnceLock::new()).collect(),
    });
    thread::scope(|scope| {
        for (number, script) in scripts.iter().enumerate() {
            let own = run.clone();
            let handle = scope.spawn(move || {
                own.wait_for(number);
                ME.set(Some((own.clone(), number, 0)));
                let result = catch_unwind(AssertUnwindSafe(script));
                ME.set(None);
                own.finished[number].store(true, Ordering::SeqCst);
                let next = own.finished.iter().position(|finished| !finished.load(Ordering::SeqCst));
                if let Some(next) = next {
                    own.give_to(next);
                }
                if let Err(panic) = result
                    && !panic.is::<Died>()
                {
                    eprintln!("of {:?}", own.plan);
                    resume_unwind(panic);
                }
            });
            run.threads[number].set(handle.thread().clone()).expect("once");
        }
        run.give_to(plan.first);
    });
    run.steps.load(Ordering::SeqCst)
}

/// Runs what `make` makes, and what it makes to check the end, in every order with so many switches at most. With
/// `dies` also with thread 0 dying at each of its steps. Tells the number of runs.
pub(super) fn explore<'s>(
    switches_max: usize,
    dies: bool,
    make: impl Fn() -> (Vec<Script<'s>>, Box<dyn Fn(bool) + 's>),
) -> usize {
    let mut runs = 0;
    let (scripts, _) = make();
    let threads = scripts.len();
    drop(scripts);
    let mut plans: Vec<Plan> = (0..threads).map(|first| Plan { first, ..Plan::default() }).collect();
    let mut deaths: Vec<Plan> = Vec::new();
    while let Some(plan) = plans.pop().or_else(|| deaths.pop()) {
        let (scripts, check) = make();
        let steps = run(&plan, &scripts);
        runs += 1;
        check(plan.dies_at.is_some());
        let after = plan.switches.last().map_or(0, |(step, _)| step + 1);
        if plan.switches.len() < switches_max {
            for (at, next) in (after..steps).flat_map(|at| (0..threads).map(move |next| (at, next))) {
                let mut plan = plan.clone();
                plan.switches.push((at, next));
                if plan.dies_at.is_some() { deaths.push(plan) } else { plans.push(plan) }
            }
        }
        if dies && plan.dies_at.is_none() && plan.switches.is_empty() {
            deaths.extend((1..=steps).map(|at| Plan { dies_at: Some(at), ..plan.clone() }));
        }
    }
    runs
}
