//! Gathering all workers' numbers in bounded parts, and making one snapshot of them. Pure.
//!
//! Each worker is asked for its clusters a few hundred at a time; what it said in all its parts replaces what it said the
//! last time. Counts of workers that have ended are kept, so that no sum ever falls but by `metrics clear`. Then all is
//! added up, again in parts: main's loop has other things to do in between.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::{Duration, Instant};

use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::{ClusterMetrics, FilteredMetrics, WorkerMetrics};

use super::super::gather::WorkerId;
use super::super::merge::{merge_cluster, merge_named};

/// Clusters that are added up in one turn of the loop.
const CLUSTERS_PER_TURN: usize = 500;

/// Workers that do not answer for so long are left out of a snapshot, with what they said before.
const PATIENCE: Duration = Duration::from_secs(5);

/// Numbers by name.
pub(super) type Named = BTreeMap<String, FilteredMetrics>;

/// All numbers at one time.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Of the main process.
    pub(super) main: Named,
    /// Of all workers together.
    pub(super) proxy: Named,
    /// Of clusters and backends.
    pub(super) clusters: BTreeMap<String, ClusterMetrics>,
}

/// What a worker has to be asked next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) worker: WorkerId,
    pub(super) from: u64,
}

#[derive(Debug)]
enum Stage {
    Idle,
    /// Parts are to come from these.
    Asking {
        left: BTreeSet<WorkerId>,
        since: Instant,
    },
    /// These are still to be added up, the first of them from behind that cluster on.
    Merging {
        sources: Vec<Option<WorkerId>>,
        behind: Option<String>,
        into: Box<Snapshot>,
        since: Instant,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Collector {
    stage: Stage,
    /// Parts of answers that have not all come.
    incoming: BTreeMap<WorkerId, WorkerMetrics>,
    /// What each worker said last.
    last: BTreeMap<WorkerId, WorkerMetrics>,
    /// What those said that have ended: what only rises.
    retired: WorkerMetrics,
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            stage: Stage::Idle,
            incoming: BTreeMap::new(),
            last: BTreeMap::new(),
            retired: WorkerMetrics::default(),
        }
    }
}

impl Collector {
    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// Whether there is something to do without waiting.
    pub(super) fn has_work(&self) -> bool {
        matches!(self.stage, Stage::Merging { .. })
    }

    /// When those that have not answered are given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if let Stage::Asking { since, .. } = &self.stage { Some(*since + PATIENCE) } else { None }
    }

    /// Begins, with these workers; gives what they are to be asked.
    pub(super) fn begin(&mut self, workers: impl Iterator<Item = WorkerId>, now: Instant) -> Vec<Ask> {
        let left: BTreeSet<WorkerId> = workers.collect();
        self.incoming.clear();
        let asks = left.iter().map(|&worker| Ask { worker, from: 0 }).collect();
        self.stage = Stage::Asking { left, since: now };
        asks
    }

    /// A part came; gives what the worker is to be asked next, if there is more.
    pub(super) fn take(&mut self, worker: WorkerId, part: WorkerMetrics) -> Option<Ask> {
        let Stage::Asking { left, .. } = &mut self.stage else { return None };
        if !left.contains(&worker) {
            return None;
        }
        let whole = self.incoming.entry(worker).or_default();
        whole.proxy.extend(part.proxy);
        whole.clusters.extend(part.clusters);
        if let Some(from) = part.next {
            return Some(Ask { worker, from });
        }
        left.remove(&worker);
        if let Some(whole) = self.incoming.remove(&worker) {
            self.last.insert(worker, whole);
        }
        None
    }

    /// A worker says nothing this time: what it said before counts.
    pub(super) fn give_up(&mut self, worker: WorkerId) {
        if let Stage::Asking { left, .. } = &mut self.stage {
            left.remove(&worker);
        }
        self.incoming.remove(&worker);
    }

    /// A worker has ended: its counts stay, and its levels are gone.
    pub(super) fn lose(&mut self, worker: WorkerId) {
        self.give_up(worker);
        if let Stage::Merging { since, .. } = self.stage {
            // What it said may have been added up already, or not.
            self.stage = Stage::Asking { left: BTreeSet::new(), since };
        }
        let Some(last) = self.last.remove(&worker) else { return };
        merge_named(&mut self.retired.proxy, only_rising(last.proxy));
        for (id, mut cluster) in last.clusters {
            cluster.cluster = only_rising(cluster.cluster);
            for backend in &mut cluster.backends {
                backend.metrics = only_rising(std::mem::take(&mut backend.metrics));
            }
            merge_cluster(self.retired.clusters.entry(id).or_default(), cluster);
        }
    }

    /// All numbers begin anew: `metrics clear`.
    pub(super) fn clear(&mut self) {
        *self = Self { stage: std::mem::replace(&mut self.stage, Stage::Idle), ..Self::default() };
        if let Stage::Merging { .. } = self.stage {
            self.stage = Stage::Idle;
        }
    }

    /// Goes on for one turn. Gives the snapshot once it is whole, but for main's own numbers. Of ended workers only
    /// clusters that exist are kept.
    pub(super) fn step(&mut self, now: Instant, exists: impl Fn(&str) -> bool) -> Option<Snapshot> {
        match &mut self.stage {
            Stage::Idle => None,
            Stage::Asking { left, since } => {
                if left.is_empty() || now >= *since + PATIENCE {
                    self.incoming.clear();
                    self.retired.clusters.retain(|id, _| exists(id));
                    let since = *since;
                    let sources = self.last.keys().copied().map(Some).chain([None]).collect();
                    self.stage = Stage::Merging { sources, behind: None, into: Box::default(), since };
                }
                None
            }
            Stage::Merging { sources, behind, into, .. } => {
                let source = sources.last().copied();
                let numbers = match source {
                    Some(Some(worker)) => self.last.get(&worker),
                    Some(None) => Some(&self.retired),
                    None => None,
                };
                if source.is_none() {
                    let whole = std::mem::take(&mut **into);
                    self.stage = Stage::Idle;
                    return Some(whole);
                }
                let mut reached = None;
                if let Some(numbers) = numbers {
                    if behind.is_none() {
                        merge_named(&mut into.proxy, numbers.proxy.clone());
                    }
                    let from = behind.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(id.clone()));
                    let part = numbers.clusters.range((from, Bound::Unbounded)).take(CLUSTERS_PER_TURN);
                    let mut count = 0;
                    for (id, cluster) in part {
                        merge_cluster(into.clusters.entry(id.clone()).or_default(), cluster.clone());
                        count += 1;
                        reached = Some(id.clone());
                    }
                    if count < CLUSTERS_PER_TURN {
                        reached = None;
                    }
                }
                if reached.is_none() {
                    sources.pop();
                }
                *behind = reached;
                None
            }
        }
    }
}

/// What counts, and does not tell what is.
fn only_rising(named: Named) -> Named {
    let rises =
        |metric: &FilteredMetrics| matches!(metric.inner, Some(Inner::Count(_) | Inner::Histogram(_)));
    named.into_iter().filter(|(_, metric)| rises(metric)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::supervisor::read_clock;
    use super::*;

    fn numbers(
        count: i64,
        clusters: impl IntoIterator<Item = &'static str>,
        next: Option<u64>,
    ) -> WorkerMetrics {
        let metric = |value| FilteredMetrics { inner: Some(Inner::Count(value)) };
        let named = |value| Named::from([("requests".to_owned(), metric(value))]);
        let gauge = FilteredMetrics { inner: Some(Inner::Gauge(7)) };
        let mut proxy = named(count);
        proxy.insert("level".to_owned(), gauge);
        let cluster =
            |id: &str| (id.to_owned(), ClusterMetrics { cluster: named(count), ..ClusterMetrics::default() });
        WorkerMetrics { proxy, clusters: clusters.into_iter().map(cluster).collect(), next }
    }

    fn finish(collector: &mut Collector, now: Instant) -> Snapshot {
        for _ in 0..100 {
            if let Some(snapshot) = collector.step(now, |_| true) {
                return snapshot;
            }
        }
        panic!("it comes to an end")
    }

    fn value(named: &Named, name: &str) -> Option<Inner> {
        named.get(name).and_then(|metric| metric.inner.clone())
    }

    #[test]
    fn parts_make_a_whole_and_wholes_a_sum() {
        let now = read_clock();
        let mut collector = Collector::default();
        let (a, b) = (WorkerId(1), WorkerId(2));
        assert_eq!(collector.begin([a, b].into_iter(), now).len(), 2);
        assert_eq!(collector.take(a, numbers(1, ["x"], Some(9))), Some(Ask { worker: a, from: 9 }));
        let rest = WorkerMetrics { proxy: Named::new(), ..numbers(1, ["y"], None) };
        assert_eq!(collector.take(a, rest), None);
        assert!(collector.step(now, |_| true).is_none() && !collector.has_work(), "b has not answered");
        assert_eq!(collector.take(b, numbers(10, ["x"], None)), None);
        let snapshot = finish(&mut collector, now);
        assert_eq!(value(&snapshot.proxy, "requests"), Some(Inner::Count(11)));
        assert_eq!(value(&snapshot.clusters["x"].cluster, "requests"), Some(Inner::Count(11)));
        assert_eq!(value(&snapshot.clusters["y"].cluster, "requests"), Some(Inner::Count(1)));
        assert!(collector.is_idle());
    }

    #[test]
    fn who_is_silent_or_gone_makes_no_sum_fall() {
        let now = read_clock();
        let mut collector = Collector::default();
        let (a, b) = (WorkerId(1), WorkerId(2));
        collector.begin([a, b].into_iter(), now);
        collector.take(a, numbers(1, ["x"], None));
        collector.take(b, numbers(10, ["x"], None));
        finish(&mut collector, now);
        collector.lose(b);
        collector.begin([a].into_iter(), now);
        let snapshot = finish(&mut collector, now + PATIENCE);
        assert_eq!(value(&snapshot.proxy, "requests"), Some(Inner::Count(11)));
        assert_eq!(value(&snapshot.proxy, "level"), Some(Inner::Gauge(7)), "b has no level any more");
        assert_eq!(value(&snapshot.clusters["x"].cluster, "requests"), Some(Inner::Count(11)));
        collector.clear();
        collector.begin([a].into_iter(), now);
        collector.take(a, numbers(0, [], None));
        assert_eq!(value(&finish(&mut collector, now).proxy, "requests"), Some(Inner::Count(0)));
    }
}
