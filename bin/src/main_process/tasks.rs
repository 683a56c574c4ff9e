//! Requests that wait for workers or for the file thread, and what is told to the client meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kakehi_command::order::SessionsOf;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::supervision::Answer;
use kakehi_command::proto::{Event, MetricsConfiguration, QueryMetricsOptions, WaitDrained};

use super::clients::ClientId;
use super::drains::Leaver;
use super::gather::{Gather, Lost, WorkerId};
use super::replacements::Replacement;

/// A request being worked on. Also the id of the query that workers are sent for it; never reused.
pub(super) type TaskId = u64;

/// A request being worked on.
#[derive(Debug)]
pub(super) struct Task {
    /// Who awaits the answer.
    pub(super) client: ClientId,
    /// The request's name.
    pub(super) verb: &'static str,
    /// When it was taken up.
    pub(super) started: Instant,
    /// When silent workers are given up. `None` while no worker is awaited.
    pub(super) deadline: Option<Instant>,
    /// When the client is told next that it is still being worked on.
    pub(super) note_at: Instant,
    /// What is awaited.
    pub(super) work: Work,
}

/// What a task awaits.
#[derive(Debug)]
pub(super) enum Work {
    /// Every worker's acknowledgement of a revision.
    Apply(Apply),
    /// Every worker's answer to a question.
    Query(Query),
    /// The file thread.
    Files,
    /// The last connection of something that leaves.
    Drained {
        /// What leaves.
        who: Leaver,
        /// As it was asked.
        asked: WaitDrained,
        /// Who asked waits no longer.
        is_late: bool,
    },
    /// A successor in the place of a worker, and the end of that one.
    Replace(Replacement),
    /// Another program in the place of this one.
    HandOver,
}

/// A change on its way to the workers.
#[derive(Debug)]
pub(super) struct Apply {
    /// The revision they are to acknowledge.
    pub(super) revision: u64,
    /// Who has.
    pub(super) gather: Gather<()>,
    /// What is said and told once they have.
    pub(super) done: Done,
}

/// What follows a change that every worker serves.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The answer's text.
    pub(super) message: String,
    /// What the operator should know about it, one sentence each.
    pub(super) notes: Vec<String>,
    /// The answer's content, if its verb has one.
    pub(super) content: Option<ContentType>,
    /// What subscribers are told.
    pub(super) events: Vec<Event>,
}

/// A question on its way to the workers.
#[derive(Debug)]
pub(super) struct Query {
    /// Who has answered what.
    pub(super) gather: Gather<Answer>,
    /// What to make of the answers.
    pub(super) kind: QueryKind,
}

/// What is made of the workers' answers.
#[derive(Debug)]
pub(super) enum QueryKind {
    /// Who runs.
    Status,
    /// Each worker's view, beside main's own if it has one; all must answer.
    Views(Option<ContentType>),
    /// Numbers, merged or not.
    Metrics(QueryMetricsOptions),
    /// Whether everybody has changed what it counts.
    MetricsConfigured(MetricsConfiguration),
    /// Whether everybody has changed what it logs.
    Logging,
    /// Whether everybody logs to the new targets.
    Reopened,
    /// How many of these sessions were closed.
    Closed(SessionsOf),
    /// How many connections are left of what was waited for so long.
    Left {
        /// What leaves.
        who: String,
        /// How long was waited.
        after: Duration,
    },
}

/// All tasks.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    tasks: BTreeMap<TaskId, Task>,
    last: TaskId,
}

impl Tasks {
    /// Adds a task under an id of its own.
    pub(super) fn add(&mut self, task: Task) -> TaskId {
        self.last += 1;
        self.tasks.insert(self.last, task);
        self.last
    }

    /// The id of the next task.
    pub(super) fn next_id(&self) -> TaskId {
        self.last + 1
    }

    /// Takes a task out.
    pub(super) fn take(&mut self, id: TaskId) -> Option<Task> {
        self.tasks.remove(&id)
    }

    /// A worker has applied everything up to `revision`.
    pub(super) fn applied(&mut self, worker: WorkerId, revision: u64) {
        for task in self.tasks.values_mut() {
            if let Work::Apply(apply) = &mut task.work
                && apply.revision <= revision
            {
                apply.gather.answer(worker, ());
            }
        }
    }

    /// A worker has answered a query. False if nobody waits for it any more.
    pub(super) fn answered(&mut self, worker: WorkerId, answer: Answer) -> bool {
        match self.tasks.get_mut(&answer.id).map(|task| &mut task.work) {
            Some(Work::Query(query)) => query.gather.answer(worker, answer),
            _ => false,
        }
    }

    /// A worker is lost: it will answer nothing any more.
    pub(super) fn lose(&mut self, worker: WorkerId, why: &Lost) {
        for task in self.tasks.values_mut() {
            match &mut task.work {
                Work::Apply(apply) => apply.gather.lose(worker, why.clone()),
                Work::Query(query) => query.gather.lose(worker, why.clone()),
                Work::Files | Work::Drained { .. } | Work::Replace(_) | Work::HandOver => false,
            };
        }
    }

    /// Gives up the workers that are silent at their deadline. Names those that have not applied what
    /// they must: they cannot be left as they are.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<WorkerId> {
        let mut astray = Vec::new();
        for task in self.tasks.values_mut().filter(|task| task.deadline.is_some_and(|at| at <= now)) {
            match &mut task.work {
                Work::Apply(apply) => astray.extend(apply.gather.expire()),
                // `status` asks for less than the patience that a worker is due.
                Work::Query(Query { gather, kind: QueryKind::Status }) => drop(gather.expire()),
                Work::Query(query) => astray.extend(query.gather.expire()),
                Work::Files | Work::Replace(_) | Work::HandOver => {}
                Work::Drained { is_late, .. } => *is_late = true,
            }
        }
        astray.sort_unstable();
        astray.dedup();
        astray
    }

    /// Tasks that wait for nobody any more.
    pub(super) fn complete(&self) -> Vec<TaskId> {
        let is_complete = |task: &Task| match &task.work {
            Work::Apply(apply) => apply.gather.is_complete(),
            Work::Query(query) => query.gather.is_complete(),
            Work::Files | Work::Drained { .. } | Work::Replace(_) | Work::HandOver => false,
        };
        self.tasks.iter().filter(|(_, task)| is_complete(task)).map(|(id, _)| *id).collect()
    }

    /// Takes out those that waited for something to drain, and wait no longer.
    pub(super) fn drained(&mut self, has_ended: impl Fn(&Leaver) -> bool) -> Vec<Task> {
        let is_over = |task: &Task| match &task.work {
            Work::Drained { who, is_late, .. } => *is_late || has_ended(who),
            _ => false,
        };
        let over: Vec<TaskId> =
            self.tasks.iter().filter(|(_, task)| is_over(task)).map(|(id, _)| *id).collect();
        over.into_iter().filter_map(|id| self.tasks.remove(&id)).collect()
    }

    /// Workers that are being replaced, in the order in which that was asked for.
    pub(super) fn replacements(&self) -> impl Iterator<Item = (TaskId, Replacement)> + '_ {
        self.tasks.iter().filter_map(|(id, task)| match &task.work {
            Work::Replace(replacement) => Some((*id, *replacement)),
            _ => None,
        })
    }

    /// When a request was taken up, if that was before this program.
    pub(super) fn set_started(&mut self, id: TaskId, started: Instant) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.started = started;
        }
    }

    /// A replacement is a step further.
    pub(super) fn set_replacement(&mut self, id: TaskId, replacement: Replacement) {
        if let Some(Work::Replace(it)) = self.tasks.get_mut(&id).map(|task| &mut task.work) {
            *it = replacement;
        }
    }

    /// All of them, with their ids.
    pub(super) fn iter_ids(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        self.tasks.iter().map(|(id, task)| (*id, task))
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }

    /// Clients to be told that their request is still being worked on, and what it waits for.
    pub(super) fn notes_due(
        &mut self,
        now: Instant,
        again: impl Fn(Instant) -> Instant,
    ) -> Vec<(ClientId, String)> {
        let due = self.tasks.values_mut().filter(|task| task.note_at <= now);
        due.map(|task| {
            task.note_at = again(now);
            (task.client, task.waits_for())
        })
        .collect()
    }

    /// When something is due next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.tasks.values().flat_map(|task| task.deadline.into_iter().chain([task.note_at])).min()
    }
}

impl Task {
    /// Whether it is an upgrade of main.
    pub(super) fn is_hand_over(&self) -> bool {
        matches!(self.work, Work::HandOver)
    }

    fn waits_for(&self) -> String {
        let list = |workers: Vec<WorkerId>| {
            let ids: Vec<String> = workers.iter().map(ToString::to_string).collect();
            format!("Still waiting for worker {}...", ids.join(", "))
        };
        match &self.work {
            Work::Apply(apply) => list(apply.gather.waiting().collect()),
            Work::Query(query) => list(query.gather.waiting().collect()),
            Work::Files => "Still working on files...".to_owned(),
            Work::Drained { who, .. } => format!("Still waiting for {who}..."),
            Work::Replace(replacement) => replacement.waits_for(),
            Work::HandOver => "Still preparing the new program...".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::Token;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    fn task(now: Instant, work: Work) -> Task {
        Task {
            client: ClientId(Token(16)),
            verb: "add_cluster",
            started: now,
            deadline: Some(now + Duration::from_secs(10)),
            note_at: now + Duration::from_secs(1),
            work,
        }
    }

    fn apply(revision: u64, workers: &[u32]) -> Work {
        let gather = Gather::new(workers.iter().copied().map(WorkerId));
        Work::Apply(Apply { revision, gather, done: Done::default() })
    }

    fn query(workers: &[u32]) -> Work {
        let gather = Gather::new(workers.iter().copied().map(WorkerId));
        Work::Query(Query { gather, kind: QueryKind::Status })
    }

    #[test]
    fn a_later_revision_acknowledges_the_earlier_ones() {
        let (now, mut tasks) = (start(), Tasks::default());
        let first = tasks.add(task(now, apply(1, &[0, 1])));
        let second = tasks.add(task(now, apply(2, &[0, 1])));
        tasks.applied(WorkerId(0), 2);
        assert!(tasks.complete().is_empty());
        tasks.applied(WorkerId(1), 1);
        assert_eq!(tasks.complete(), [first]);
        tasks.applied(WorkerId(1), 2);
        assert_eq!(tasks.complete(), [first, second]);
    }

    #[test]
    fn a_lost_worker_holds_nothing_up() {
        let (now, mut tasks) = (start(), Tasks::default());
        let change = tasks.add(task(now, apply(1, &[0])));
        let question = tasks.add(task(now, query(&[0])));
        let files = tasks.add(task(now, Work::Files));
        tasks.lose(WorkerId(0), &Lost::Died);
        assert_eq!(tasks.complete(), [change, question]);
        assert!(tasks.take(files).is_some());
    }

    #[test]
    fn at_the_deadline_only_those_who_owe_a_revision_are_named() {
        let (now, mut tasks) = (start(), Tasks::default());
        tasks.add(task(now, apply(1, &[3])));
        tasks.add(task(now, apply(2, &[3])));
        tasks.add(task(now, query(&[4])));
        assert_eq!(tasks.expire(now), []);
        assert_eq!(tasks.expire(now + Duration::from_secs(10)), [WorkerId(3)]);
        assert_eq!(tasks.complete().len(), 3);
    }

    #[test]
    fn an_answer_reaches_only_the_question_it_answers() {
        let (now, mut tasks) = (start(), Tasks::default());
        let change = tasks.add(task(now, apply(1, &[0])));
        let question = tasks.add(task(now, query(&[0])));
        let answer = |id| Answer { id, ..Default::default() };
        assert!(!tasks.answered(WorkerId(0), answer(change)));
        assert!(!tasks.answered(WorkerId(0), answer(99)));
        assert!(tasks.answered(WorkerId(0), answer(question)));
        assert!(!tasks.answered(WorkerId(0), answer(question)), "twice");
        assert_eq!(tasks.complete(), [question]);
    }

    #[test]
    fn a_waiting_client_is_told_now_and_then() {
        let (now, mut tasks) = (start(), Tasks::default());
        let second = Duration::from_secs(1);
        tasks.add(task(now, apply(1, &[5, 6])));
        assert_eq!(tasks.next_deadline(), Some(now + second));
        assert!(tasks.notes_due(now, |now| now + second).is_empty());
        let notes = tasks.notes_due(now + second, |now| now + second);
        assert_eq!(notes, [(ClientId(Token(16)), "Still waiting for worker 5, 6...".to_owned())]);
        assert!(tasks.notes_due(now + second, |now| now + second).is_empty());
        assert_eq!(tasks.next_deadline(), Some(now + 2 * second));
    }
}
