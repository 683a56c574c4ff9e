//! What is kept of one cluster or of one backend.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use kakehi_command::proto::FilteredMetrics;
use kakehi_command::proto::filtered_metrics::Inner;

use super::{Histogram, Kind, Metric, Query, Scope, Took};

/// No place.
const NOWHERE: u8 = u8::MAX;

const CLUSTER_COUNTS: usize = count(Kind::Count, Some(Scope::Cluster));
const CLUSTER_TIMES: usize = count(Kind::Time, Some(Scope::Cluster));
const BACKEND_COUNTS: usize = count(Kind::Count, Some(Scope::Backend));
const BACKEND_TIMES: usize = count(Kind::Time, Some(Scope::Backend));

/// Of a cluster.
pub type ClusterSeries = Series<OfCluster, CLUSTER_COUNTS, CLUSTER_TIMES>;

/// Of a backend.
pub type BackendSeries = Series<OfBackend, BACKEND_COUNTS, BACKEND_TIMES>;

/// How many metrics of this kind are kept of this; of the proxy, where there is none.
pub(super) const fn count(kind: Kind, scope: Option<Scope>) -> usize {
    let mut count = 0;
    let mut index = 0;
    while index < Metric::COUNT {
        if is_kept(Metric::ALL[index], kind, scope) {
            count += 1;
        }
        index += 1;
    }
    count
}

/// The place of each metric among those of its kind that are kept of this.
pub(super) const fn places(kind: Kind, scope: Option<Scope>) -> [u8; Metric::COUNT] {
    assert!(count(kind, scope) < NOWHERE as usize, "each has a place");
    let mut places = [NOWHERE; Metric::COUNT];
    let mut next = 0_u8;
    let mut index = 0;
    while index < Metric::COUNT {
        if is_kept(Metric::ALL[index], kind, scope) {
            places[index] = next;
            next += 1;
        }
        index += 1;
    }
    places
}

const fn is_kept(metric: Metric, kind: Kind, scope: Option<Scope>) -> bool {
    let kept = match scope {
        Some(scope) => metric.is_of(scope),
        None => metric.is_of_proxy(),
    };
    kept && metric.kind() as u8 == kind as u8
}

/// Whose numbers a series keeps, and where. A type, so that each place is known when this is compiled.
pub trait Places: Sized {
    /// Of each count.
    const COUNTS: [u8; Metric::COUNT];
    /// Of each time.
    const TIMES: [u8; Metric::COUNT];
}

/// A cluster's.
#[derive(Debug)]
pub struct OfCluster;

/// A backend's.
#[derive(Debug)]
pub struct OfBackend;

impl Places for OfCluster {
    const COUNTS: [u8; Metric::COUNT] = places(Kind::Count, Some(Scope::Cluster));
    const TIMES: [u8; Metric::COUNT] = places(Kind::Time, Some(Scope::Cluster));
}

impl Places for OfBackend {
    const COUNTS: [u8; Metric::COUNT] = places(Kind::Count, Some(Scope::Backend));
    const TIMES: [u8; Metric::COUNT] = places(Kind::Time, Some(Scope::Backend));
}

/// See the module. What is not kept in the scope is not counted. Gauges are not kept here: they are read where they
/// change.
#[derive(Debug)]
pub struct Series<P, const COUNTS: usize, const TIMES: usize> {
    of: PhantomData<P>,
    counts: [u64; COUNTS],
    times: [Histogram; TIMES],
}

impl<P, const COUNTS: usize, const TIMES: usize> Default for Series<P, COUNTS, TIMES> {
    fn default() -> Self {
        Self { of: PhantomData, counts: [0; COUNTS], times: std::array::from_fn(|_| Histogram::default()) }
    }
}

impl<P: Places, const COUNTS: usize, const TIMES: usize> Series<P, COUNTS, TIMES> {
    /// So many more.
    #[inline(always)]
    pub fn add(&mut self, metric: Metric, n: u64) {
        if let Some(count) = self.counts.get_mut(usize::from(P::COUNTS[metric.index()])) {
            *count = count.wrapping_add(n);
        }
    }

    /// Something took so long.
    #[inline(always)]
    pub fn time(&mut self, metric: Metric, took: Took) {
        if let Some(times) = self.times.get_mut(usize::from(P::TIMES[metric.index()])) {
            times.record(took);
        }
    }

    /// Back to nothing.
    pub fn clear(&mut self) {
        self.counts = [0; COUNTS];
        self.times.iter_mut().for_each(Histogram::clear);
    }

    /// What is asked for and was counted at least once.
    pub fn to_proto(&self, query: &Query<'_>, named: &mut BTreeMap<String, FilteredMetrics>) {
        for &metric in Metric::ALL.iter().filter(|metric| !metric.scopes().is_empty()) {
            let count = self.counts.get(usize::from(P::COUNTS[metric.index()]));
            if let Some(&count) = count.filter(|count| **count > 0) {
                query.tell(named, metric, Inner::Count(i64::try_from(count).unwrap_or(i64::MAX)));
            }
            let times = self.times.get(usize::from(P::TIMES[metric.index()]));
            if let Some(times) = times.filter(|times| times.count() > 0) {
                query.tell_times(named, metric, times);
            }
        }
    }
}
