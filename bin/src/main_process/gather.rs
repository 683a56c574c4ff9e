//! Who was asked, who has answered, who never will: the bookkeeping of one fan-out.
//!
//! Pure. A worker leaves the waiting set exactly once, by an answer or by being lost; whatever it says
//! afterwards is late and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A worker process. Never reused, so that a late answer cannot be taken for a successor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WorkerId(pub(super) u32);

impl fmt::Display for WorkerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Why a worker will not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// Its process ended, or its channel did.
    Died,
    /// It refused what main had accepted.
    Refused(String),
    /// The deadline passed.
    Silent,
}

impl fmt::Display for Lost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Died => formatter.write_str("died"),
            Self::Refused(reason) => write!(formatter, "refused it ({reason})"),
            Self::Silent => formatter.write_str("did not answer in time"),
        }
    }
}

/// One fan-out; `A` is what each worker answers.
#[derive(Debug)]
pub(super) struct Gather<A> {
    waiting: BTreeSet<WorkerId>,
    answers: BTreeMap<WorkerId, A>,
    lost: BTreeMap<WorkerId, Lost>,
}

impl<A> Gather<A> {
    /// Waits for each of `workers`; for none of them it is complete at once.
    pub(super) fn new(workers: impl IntoIterator<Item = WorkerId>) -> Self {
        Self { waiting: workers.into_iter().collect(), answers: BTreeMap::new(), lost: BTreeMap::new() }
    }

    /// Takes an answer. False if nobody waits for it: not asked, already answered, or given up.
    pub(super) fn answer(&mut self, worker: WorkerId, answer: A) -> bool {
        let awaited = self.waiting.remove(&worker);
        if awaited {
            self.answers.insert(worker, answer);
        }
        awaited
    }

    /// Gives a worker up. False if nobody waited for it.
    pub(super) fn lose(&mut self, worker: WorkerId, why: Lost) -> bool {
        let awaited = self.waiting.remove(&worker);
        if awaited {
            self.lost.insert(worker, why);
        }
        awaited
    }

    /// The deadline passed: gives up and names everyone who is still awaited.
    pub(super) fn expire(&mut self) -> Vec<WorkerId> {
        let silent: Vec<WorkerId> = std::mem::take(&mut self.waiting).into_iter().collect();
        self.lost.extend(silent.iter().map(|worker| (*worker, Lost::Silent)));
        silent
    }

    /// True once nobody is awaited.
    pub(super) fn is_complete(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Those still awaited.
    pub(super) fn waiting(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.waiting.iter().copied()
    }

    /// Those who answered, and what.
    pub(super) fn answers(&self) -> &BTreeMap<WorkerId, A> {
        &self.answers
    }

    /// Those who answered, and what, for good.
    pub(super) fn into_answers(self) -> BTreeMap<WorkerId, A> {
        self.answers
    }

    /// Those given up, and why.
    pub(super) fn lost(&self) -> &BTreeMap<WorkerId, Lost> {
        &self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(ids: &[u32]) -> Vec<WorkerId> {
        ids.iter().copied().map(WorkerId).collect()
    }

    #[test]
    fn it_completes_when_everyone_has_spoken() {
        let mut gather = Gather::new(workers(&[1, 2]));
        assert!(!gather.is_complete());
        assert!(gather.answer(WorkerId(1), "one"));
        assert!(!gather.is_complete());
        assert!(gather.answer(WorkerId(2), "two"));
        assert!(gather.is_complete());
        assert_eq!(gather.answers().len(), 2);
        assert!(gather.lost().is_empty());
    }

    #[test]
    fn without_workers_it_is_complete_at_once() {
        assert!(Gather::<()>::new([]).is_complete());
    }

    #[test]
    fn a_second_or_foreign_answer_changes_nothing() {
        let mut gather = Gather::new(workers(&[1, 2]));
        assert!(gather.answer(WorkerId(1), "first"));
        assert!(!gather.answer(WorkerId(1), "second"));
        assert!(!gather.answer(WorkerId(9), "not asked"));
        assert_eq!(gather.answers().get(&WorkerId(1)), Some(&"first"));
        assert!(!gather.is_complete());
    }

    #[test]
    fn the_dead_leave_the_waiting_set_and_stay_dead() {
        let mut gather = Gather::new(workers(&[1]));
        assert!(gather.lose(WorkerId(1), Lost::Died));
        assert!(gather.is_complete());
        assert!(!gather.answer(WorkerId(1), "from the grave"));
        assert!(!gather.lose(WorkerId(1), Lost::Silent));
        assert_eq!(gather.lost().get(&WorkerId(1)), Some(&Lost::Died));
    }

    #[test]
    fn a_death_after_the_answer_does_not_undo_it() {
        let mut gather = Gather::new(workers(&[1, 2]));
        gather.answer(WorkerId(1), ());
        assert!(!gather.lose(WorkerId(1), Lost::Died));
        assert!(gather.lost().is_empty());
    }

    #[test]
    fn the_deadline_names_the_silent_once() {
        let mut gather = Gather::new(workers(&[1, 2, 3]));
        gather.answer(WorkerId(2), ());
        assert_eq!(gather.expire(), workers(&[1, 3]));
        assert!(gather.is_complete());
        assert_eq!(gather.expire(), []);
        assert_eq!(gather.lost().len(), 2);
    }
}
