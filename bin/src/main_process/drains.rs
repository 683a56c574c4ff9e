//! What was removed, deactivated or drained while it was in use: who still carries something of it.
//!
//! [`Drains`] is pure. Each worker tells once when it has nothing left, naming the revision by which it left, so that what
//! is told late is not taken for what has left since under the same name. A worker that is gone carries nothing.
//! A cluster has drained with the last of the backends that went with it. Of one that comes back under its name and leaves
//! again before it had drained the last time counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kakehi_command::order::{BackendKey, ClusterId, ListenerKey};
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::supervision::Departure;
use kakehi_command::proto::{Event, EventKind, Request, WaitDrained};
use kakehi_command::state::{Change, ConfigState, Effect};

mod hand_over;

use super::clients::{ClientId, failure};
use super::gather::WorkerId;
use super::mutations::ok;
use super::supervisor::{Supervisor, event};
use super::tasks::{QueryKind, Task, Work};

/// What may drain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leaver {
    /// A backend of a cluster.
    Backend(BackendKey),
    /// A cluster, removed.
    Cluster(ClusterId),
    /// A listener.
    Listener(ListenerKey),
}

impl fmt::Display for Leaver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(BackendKey { cluster_id, backend_id, address }) => {
                write!(formatter, "backend {backend_id} of cluster {cluster_id} at {address}")
            }
            Self::Cluster(id) => write!(formatter, "cluster {id}"),
            Self::Listener(key) => write!(formatter, "listener {key}"),
        }
    }
}

/// What a change means for those that leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// It takes nothing new from now on; whether it is not configured any more.
    Leaves(Leaver, bool),
    /// It is used again.
    Returns(Leaver),
}

/// One that leaves.
#[derive(Debug)]
struct Leaving {
    revision: u64,
    since: Instant,
    removed: bool,
    /// Workers that have not said that nothing is left.
    waiting: BTreeSet<WorkerId>,
    /// Of a cluster: its backends.
    parts: BTreeSet<Leaver>,
}

/// One that has left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) who: Leaver,
    pub(super) removed: bool,
    pub(super) since: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Drains {
    under_way: BTreeMap<Leaver, Leaving>,
}

impl Drains {
    /// A change is on its way to these workers.
    pub(super) fn begin(&mut self, steps: Vec<Step>, revision: u64, workers: &[WorkerId], now: Instant) {
        for step in steps {
            let (who, removed) = match step {
                Step::Leaves(who, removed) => (who, removed),
                Step::Returns(who) => {
                    // What was removed under this name goes on leaving.
                    if self.under_way.get(&who).is_some_and(|leaving| !leaving.removed) {
                        self.under_way.remove(&who);
                    }
                    continue;
                }
            };
            let parts = match &who {
                Leaver::Cluster(id) => self.backends_of(id),
                Leaver::Backend(_) | Leaver::Listener(_) => BTreeSet::new(),
            };
            match self.under_way.get_mut(&who) {
                // The revision that workers name is that of the first step.
                Some(leaving) if !leaving.removed => leaving.removed = removed,
                _ => {
                    let is_cluster = matches!(who, Leaver::Cluster(_));
                    let waiting =
                        if is_cluster { BTreeSet::new() } else { workers.iter().copied().collect() };
                    self.under_way.insert(who, Leaving { revision, since: now, removed, waiting, parts });
                }
            }
        }
    }

    fn backends_of(&self, id: &ClusterId) -> BTreeSet<Leaver> {
        let of_it = |who: &&Leaver| matches!(who, Leaver::Backend(key) if key.cluster_id == *id);
        self.under_way.keys().filter(of_it).cloned().collect()
    }

    /// A worker carries nothing of it any more.
    pub(super) fn departed(&mut self, worker: WorkerId, who: &Leaver, revision: u64) {
        if let Some(leaving) = self.under_way.get_mut(who).filter(|leaving| leaving.revision == revision) {
            leaving.waiting.remove(&worker);
        }
    }

    /// All other workers are gone.
    pub(super) fn keep_waiting_for(&mut self, workers: &BTreeSet<WorkerId>) {
        for leaving in self.under_way.values_mut() {
            leaving.waiting.retain(|worker| workers.contains(worker));
        }
    }

    /// A worker is gone, with all that it carried.
    pub(super) fn lose(&mut self, worker: WorkerId) {
        for leaving in self.under_way.values_mut() {
            leaving.waiting.remove(&worker);
        }
    }

    /// Takes out those that have left.
    pub(super) fn take_left(&mut self) -> Vec<Left> {
        let mut left = Vec::new();
        // Clusters come behind their backends.
        for clusters in [false, true] {
            let has_left = |who: &Leaver, leaving: &Leaving, rest: &BTreeMap<Leaver, Leaving>| {
                matches!(who, Leaver::Cluster(_)) == clusters
                    && leaving.waiting.is_empty()
                    && !leaving.parts.iter().any(|part| rest.contains_key(part))
            };
            let under_way = &self.under_way;
            let done = under_way.iter().filter(|(who, leaving)| has_left(who, leaving, under_way));
            let done: Vec<Leaver> = done.map(|(who, _)| who.clone()).collect();
            for who in done {
                if let Some(Leaving { removed, since, .. }) = self.under_way.remove(&who) {
                    left.push(Left { who, removed, since });
                }
            }
        }
        left
    }

    /// Whether it is leaving.
    pub(super) fn is_under_way(&self, who: &Leaver) -> bool {
        self.under_way.contains_key(who)
    }

    /// How many are leaving.
    pub(super) fn count(&self) -> usize {
        self.under_way.len()
    }
}

/// What changes of the state mean for those that leave; listeners are told by their sockets.
pub(super) fn steps_of(changes: &[Change]) -> Vec<Step> {
    let steps = changes.iter().flat_map(Change::effects).filter_map(|effect| match effect {
        Effect::BackendSet(backend) if backend.draining() => {
            Some(Step::Leaves(Leaver::Backend(backend.key()), false))
        }
        Effect::BackendSet(backend) => Some(Step::Returns(Leaver::Backend(backend.key()))),
        Effect::BackendRemoved(key) => Some(Step::Leaves(Leaver::Backend(key.clone()), true)),
        Effect::ClusterRemoved(id) => Some(Step::Leaves(Leaver::Cluster(id.clone()), true)),
        Effect::HttpListenerSet(listener) if listener.active() => {
            Some(Step::Returns(Leaver::Listener(listener.key().clone())))
        }
        Effect::TcpListenerSet(listener) if listener.active() => {
            Some(Step::Returns(Leaver::Listener(listener.key().clone())))
        }
        _ => None,
    });
    let mut steps: Vec<Step> = steps.collect();
    // A cluster has the backends that go with it, whatever comes first.
    steps.sort_by_key(|step| matches!(step, Step::Leaves(Leaver::Cluster(_), _)));
    steps
}

/// What a request to wait is about.
pub(super) fn leaver_of(asked: &WaitDrained) -> Result<Leaver, String> {
    let address = asked.address.as_ref().map(SocketAddr::try_from).transpose();
    let address = address.map_err(|error| format!("address: {error}"))?;
    let cluster = asked.cluster_id.as_deref().map(ClusterId::from);
    match (cluster, asked.backend_id.as_deref(), address) {
        (Some(id), None, None) => Ok(Leaver::Cluster(id)),
        (Some(cluster_id), Some(backend_id), Some(address)) => {
            Ok(Leaver::Backend(BackendKey { cluster_id, backend_id: backend_id.into(), address }))
        }
        (None, None, Some(address)) => {
            Ok(Leaver::Listener(ListenerKey { address, interface: asked.interface.clone() }))
        }
        _ => {
            Err("wait_drained needs cluster_id, or cluster_id with backend_id and address, or address".into())
        }
    }
}

/// Whether it takes new requests or connections, and so will never have drained.
fn is_in_use(state: &ConfigState, who: &Leaver) -> bool {
    match who {
        Leaver::Backend(key) => {
            state.backends(&key.cluster_id).any(|backend| backend.key() == *key && !backend.draining())
        }
        Leaver::Cluster(id) => state.cluster(id).is_some(),
        Leaver::Listener(key) => state.is_active(key),
    }
}

impl Supervisor {
    /// Answers once it has drained.
    pub(super) fn wait_drained(&mut self, client: ClientId, verb: &'static str, asked: WaitDrained) {
        let who = match leaver_of(&asked) {
            Ok(who) => who,
            Err(text) => return self.clients.answer(client, &failure(text), self.now),
        };
        if !self.drains.is_under_way(&who) {
            let response = if is_in_use(&self.configuration.state, &who) {
                failure(format!("{who} takes new connections: it is neither drained nor removed"))
            } else {
                ok(format!("{who} carries nothing"), None)
            };
            return self.clients.answer(client, &response, self.now);
        }
        self.clients.processing(client, format!("Waiting for {who}..."), self.now);
        let patience = asked.timeout_ms.map(|ms| Duration::from_millis(ms.into()));
        self.add_task(client, verb, patience, Work::Drained { who, asked, is_late: false });
    }

    /// A worker has nothing left of some.
    pub(super) fn take_departures(&mut self, worker: WorkerId, departures: Vec<Departure>) {
        self.note_for_will();
        for Departure { backend, listener, revision } in departures {
            let who = match (backend, listener) {
                (Some(it), _) => SocketAddr::try_from(&it.address).map(|address| {
                    let (cluster_id, backend_id) = (it.cluster_id.as_str(), it.backend_id.as_str());
                    Leaver::Backend(BackendKey {
                        cluster_id: cluster_id.into(),
                        backend_id: backend_id.into(),
                        address,
                    })
                }),
                (None, Some(it)) => SocketAddr::try_from(&it.address)
                    .map(|address| Leaver::Listener(ListenerKey { address, interface: it.interface })),
                (None, None) => continue,
            };
            if let Ok(who) = who {
                self.drains.departed(worker, &who, revision);
            }
        }
    }

    /// Tells of those that have drained.
    pub(super) fn settle_drains(&mut self) {
        for Left { who, removed, since } in self.drains.take_left() {
            log::info!("{who} has drained after {:?}", self.now.saturating_duration_since(since));
            self.publish("main", event_of(&who, removed));
        }
        let (drains, tasks) = (&self.drains, &mut self.tasks);
        for task in tasks.drained(|who| !drains.is_under_way(who)) {
            self.finish_drained(task);
        }
    }

    fn finish_drained(&mut self, task: Task) {
        let (client, verb) = (task.client, task.verb);
        let Work::Drained { who, asked, is_late } = task.work else { return };
        if is_late {
            let after = self.now.saturating_duration_since(task.started);
            let request = Request { request_type: Some(RequestType::WaitDrained(asked)) };
            let timeout = self.settings.worker_timeout;
            let kind = QueryKind::Left { who: who.to_string(), after };
            return self.fan_out(client, verb, timeout, kind, &request);
        }
        let response = if is_in_use(&self.configuration.state, &who) {
            failure(format!("{who} takes new connections again"))
        } else {
            ok(format!("{who} has drained"), None)
        };
        self.clients.answer(client, &response, self.now);
    }
}

fn event_of(who: &Leaver, removed: bool) -> Event {
    match who {
        Leaver::Backend(key) => Event {
            cluster_id: Some(key.cluster_id.to_string()),
            backend_id: Some(key.backend_id.to_string()),
            address: Some(key.address.into()),
            ..event(if removed {
                EventKind::RemovedBackendHasNoConnections
            } else {
                EventKind::BackendDrained
            })
        },
        Leaver::Cluster(id) => Event { cluster_id: Some(id.to_string()), ..event(EventKind::ClusterDrained) },
        Leaver::Listener(key) => {
            Event { address: Some(key.address.into()), ..event(EventKind::ListenerDrained) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: [WorkerId; 0] = [];
    const TWO: [WorkerId; 2] = [WorkerId(1), WorkerId(2)];

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn now() -> Instant {
        Instant::now()
    }

    fn backend(id: &str) -> Leaver {
        let address = ([127, 0, 0, 1], 80).into();
        Leaver::Backend(BackendKey { cluster_id: "a".into(), backend_id: id.into(), address })
    }

    fn leaves(who: &Leaver, removed: bool) -> Step {
        Step::Leaves(who.clone(), removed)
    }

    fn names(left: Vec<Left>) -> Vec<(Leaver, bool)> {
        left.into_iter().map(|left| (left.who, left.removed)).collect()
    }

    #[test]
    fn it_has_left_when_the_last_worker_says_so() {
        let (mut drains, one) = (Drains::default(), backend("one"));
        drains.begin(vec![leaves(&one, false)], 7, &TWO, now());
        drains.departed(WorkerId(1), &one, 7);
        drains.departed(WorkerId(2), &one, 6);
        drains.departed(WorkerId(3), &one, 7);
        assert!(
            drains.take_left().is_empty() && drains.is_under_way(&one),
            "an older word, a younger worker"
        );
        drains.departed(WorkerId(2), &one, 7);
        assert_eq!(names(drains.take_left()), [(one, false)]);
        assert!(drains.take_left().is_empty(), "told once");
    }

    #[test]
    fn the_dead_carry_nothing() {
        let (mut drains, one) = (Drains::default(), backend("one"));
        drains.begin(vec![leaves(&one, true)], 7, &TWO, now());
        drains.lose(WorkerId(2));
        drains.departed(WorkerId(1), &one, 7);
        assert_eq!(names(drains.take_left()), [(one.clone(), true)]);
        drains.begin(vec![leaves(&one, true)], 8, &NOBODY, now());
        assert_eq!(drains.take_left().len(), 1, "nobody carries anything");
    }

    #[test]
    fn who_returns_has_not_left_and_who_was_removed_does_not_return() {
        let (mut drains, one) = (Drains::default(), backend("one"));
        drains.begin(vec![leaves(&one, false)], 7, &TWO, now());
        drains.begin(vec![Step::Returns(one.clone())], 8, &TWO, now());
        assert!(!drains.is_under_way(&one) && drains.take_left().is_empty());
        drains.begin(vec![leaves(&one, true)], 9, &TWO, now());
        drains.begin(vec![Step::Returns(one.clone())], 10, &TWO, now());
        assert!(drains.is_under_way(&one), "another one has its name now");
    }

    #[test]
    fn one_that_drains_and_is_removed_leaves_once() {
        let (mut drains, one) = (Drains::default(), backend("one"));
        drains.begin(vec![leaves(&one, false)], 7, &TWO, now());
        drains.departed(WorkerId(1), &one, 7);
        drains.begin(vec![leaves(&one, true)], 8, &TWO, now());
        // It left this worker before, and is told of again.
        drains.departed(WorkerId(1), &one, 8);
        drains.departed(WorkerId(2), &one, 7);
        assert_eq!(names(drains.take_left()), [(one, true)]);
    }

    #[test]
    fn a_cluster_leaves_with_its_last_backend() {
        let mut drains = Drains::default();
        let (one, two, cluster) = (backend("one"), backend("two"), Leaver::Cluster("a".into()));
        let steps = vec![leaves(&one, true), leaves(&two, true), leaves(&cluster, true)];
        drains.begin(steps, 7, &[WorkerId(1)], now());
        assert_eq!(drains.count(), 3);
        drains.departed(WorkerId(1), &two, 7);
        assert_eq!(names(drains.take_left()), [(two, true)]);
        drains.departed(WorkerId(1), &one, 7);
        assert_eq!(names(drains.take_left()), [(one, true), (cluster.clone(), true)]);
        drains.begin(vec![leaves(&cluster, true)], 8, &[WorkerId(1)], now());
        assert_eq!(names(drains.take_left()), [(cluster, true)], "one without backends, at once");
    }

    #[test]
    fn what_is_asked_about_is_named_in_one_of_three_ways() {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 80)).into());
        let cluster_id = Some("a".to_owned());
        let of = |asked| leaver_of(&asked);
        let none = WaitDrained::default;
        assert_eq!(
            of(WaitDrained { cluster_id: cluster_id.clone(), ..none() }),
            Ok(Leaver::Cluster("a".into()))
        );
        let backend_id = Some("one".to_owned());
        assert_eq!(
            of(WaitDrained { cluster_id, backend_id: backend_id.clone(), address, ..none() }),
            Ok(backend("one"))
        );
        assert!(matches!(of(WaitDrained { address, ..none() }), Ok(Leaver::Listener(_))));
        assert!(of(none()).is_err() && of(WaitDrained { backend_id, address, ..none() }).is_err());
    }
}
