//! Numbers of clusters and backends.
//!
//! The first so many that carry traffic have numbers of their own, until they are removed; of the others only that
//! they have none is counted, and the proxy's numbers hold what they did. A series is allocated once, with the first
//! request of its cluster or backend, and never again.

use std::collections::BTreeMap;
use std::time::Instant;

use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::{BackendMetrics, ClusterMetrics, FilteredMetrics};

use super::{BackendKey, Backends, ClusterKey};
use crate::metrics::{BackendSeries, ClusterSeries, Metric, Places, Query, Series, Took};
use crate::net::Stream;

/// Clusters that one part of an answer to main looks at, and those that it tells of.
const LOOKED_AT_MAX: usize = 20_000;
const TOLD_MAX: usize = 200;

/// How many series there may be if nothing is said.
pub const SERIES_MAX_DEFAULT: usize = 4096;

/// The numbers of one cluster or backend.
#[derive(Debug, Default)]
pub(super) enum Kept<T> {
    /// It has carried nothing.
    #[default]
    Nothing,
    /// It has, but there was no room.
    Refused,
    /// These.
    Series(Box<T>),
}

impl<T> Kept<T> {
    fn series(&self) -> Option<&T> {
        if let Self::Series(series) = self { Some(series) } else { None }
    }
}

/// How many there are, and may be.
#[derive(Debug)]
pub(super) struct SeriesRoom {
    kept: usize,
    refused: usize,
    max: usize,
    off: bool,
}

impl Default for SeriesRoom {
    fn default() -> Self {
        Self { kept: 0, refused: 0, max: SERIES_MAX_DEFAULT, off: false }
    }
}

impl SeriesRoom {
    #[inline]
    fn of<'a, T: Default>(&mut self, kept: &'a mut Kept<T>) -> Option<&'a mut T> {
        if let Kept::Series(series) = kept {
            return Some(series);
        }
        self.begin(kept)
    }

    #[cold]
    fn begin<'a, T: Default>(&mut self, kept: &'a mut Kept<T>) -> Option<&'a mut T> {
        if self.off {
            return None;
        }
        if self.kept >= self.max {
            if let Kept::Nothing = kept {
                self.refused += 1;
                *kept = Kept::Refused;
            }
            return None;
        }
        self.leave(kept);
        self.kept += 1;
        *kept = Kept::Series(Box::default());
        if let Kept::Series(series) = kept { Some(series) } else { None }
    }

    /// What had these numbers is gone, or is to have none.
    pub(super) fn leave<T>(&mut self, kept: &mut Kept<T>) {
        match std::mem::take(kept) {
            Kept::Nothing => {}
            Kept::Refused => self.refused = self.refused.saturating_sub(1),
            Kept::Series(_) => self.kept = self.kept.saturating_sub(1),
        }
    }
}

/// What became of a request at a backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct Served {
    /// The class of its answer's status, if one came.
    pub class: Option<Metric>,
    /// What passed.
    pub carried: Carried,
    /// Until the head of the answer had come.
    pub header_time: Option<Took>,
    /// Until all of it had.
    pub response_time: Option<Took>,
    /// If that was all that there was to be done for it.
    pub whole: Option<Whole>,
}

/// How long a request took.
#[derive(Debug, Clone, Copy)]
pub struct Whole {
    /// Where it was routed to.
    pub cluster: ClusterKey,
    /// All of it.
    pub request: Took,
    /// What of that no backend was waited for.
    pub own: Took,
}

impl Whole {
    /// So many microseconds, of which backends were waited for so many.
    pub fn of(cluster: ClusterKey, micros: u64, waited: u64) -> Self {
        Self { cluster, request: Took::micros(micros), own: Took::micros(micros.saturating_sub(waited)) }
    }

    #[inline(always)]
    fn count(self, series: &mut ClusterSeries) {
        series.time(Metric::RequestTime, self.request);
        series.time(Metric::ServiceTime, self.own);
    }
}

/// Bytes between clients and a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Bytes from the backend.
    pub back_bytes_in: u64,
    /// Bytes to the backend.
    pub back_bytes_out: u64,
}

impl Carried {
    #[inline(always)]
    fn count<P: Places, const C: usize, const T: usize>(self, series: &mut Series<P, C, T>) {
        series.add(Metric::BytesIn, self.bytes_in);
        series.add(Metric::BytesOut, self.bytes_out);
        series.add(Metric::BackBytesIn, self.back_bytes_in);
        series.add(Metric::BackBytesOut, self.back_bytes_out);
    }
}

impl<S: Stream> Backends<S> {
    /// The numbers of a cluster, where it has some.
    #[inline]
    pub fn cluster_series(&mut self, key: ClusterKey) -> Option<&mut ClusterSeries> {
        let entry = self.clusters.get_mut(key.index())?;
        self.series_room.of(&mut entry.series)
    }

    /// Those of a backend.
    #[inline]
    pub fn backend_series(&mut self, key: BackendKey) -> Option<&mut BackendSeries> {
        let node = self.nodes.get_mut(key)?;
        self.series_room.of(&mut node.series)
    }

    /// One more, of a cluster.
    #[inline]
    pub fn count_of(&mut self, cluster: ClusterKey, metric: Metric) {
        if let Some(series) = self.cluster_series(cluster) {
            series.add(metric, 1);
        }
    }

    /// One more, of a backend and its cluster.
    #[inline]
    pub fn count_at(&mut self, backend: BackendKey, metric: Metric) {
        if let Some(series) = self.backend_series(backend) {
            series.add(metric, 1);
        }
        if let Some(cluster) = self.nodes.get(backend).map(|node| node.cluster) {
            self.count_of(cluster, metric);
        }
    }

    /// Something took so long, of a backend and its cluster.
    #[inline]
    pub fn time_at(&mut self, backend: BackendKey, metric: Metric, took: Took) {
        if let Some(series) = self.backend_series(backend) {
            series.time(metric, took);
        }
        if let Some(cluster) = self.nodes.get(backend).map(|node| node.cluster)
            && let Some(series) = self.cluster_series(cluster)
        {
            series.time(metric, took);
        }
    }

    /// A request that was sent to a backend is over, of it and its cluster.
    #[inline(always)]
    pub fn served(&mut self, backend: BackendKey, served: &Served) {
        let Some(node) = self.nodes.get_mut(backend) else { return };
        if let Some(series) = self.series_room.of(&mut node.series) {
            series.add(Metric::Requests, 1);
            served.carried.count(series);
            if let Some(class) = served.class {
                series.add(class, 1);
            }
            if let Some(took) = served.header_time {
                series.time(Metric::BackendHeaderTime, took);
            }
            if let Some(took) = served.response_time {
                series.time(Metric::BackendResponseTime, took);
            }
        }
        let cluster = node.cluster;
        if let Some(entry) = self.clusters.get_mut(cluster.index())
            && let Some(series) = self.series_room.of(&mut entry.series)
        {
            served.carried.count(series);
            if let Some(class) = served.class {
                series.add(class, 1);
            }
            if let Some(took) = served.response_time {
                series.time(Metric::BackendResponseTime, took);
            }
            if let Some(whole) = served.whole.filter(|whole| whole.cluster == cluster) {
                return whole.count(series);
            }
        }
        // A backend may have been taken over from another cluster since.
        if let Some(whole) = served.whole {
            self.completed(whole);
        }
    }

    /// A request is over, of its cluster.
    pub fn completed(&mut self, whole: Whole) {
        if let Some(series) = self.cluster_series(whole.cluster) {
            whole.count(series);
        }
    }

    /// Bytes that passed between clients and a backend, of it and its cluster.
    pub fn carried(&mut self, backend: BackendKey, carried: Carried) {
        if let Some(series) = self.backend_series(backend) {
            carried.count(series);
        }
        if let Some(cluster) = self.nodes.get(backend).map(|node| node.cluster)
            && let Some(series) = self.cluster_series(cluster)
        {
            carried.count(series);
        }
    }

    /// How many series there may be.
    pub fn set_series_max(&mut self, max: usize) {
        self.series_room.max = max;
    }

    /// From here on there are none, or may be some again.
    pub fn set_series_off(&mut self, off: bool) {
        self.series_room.off = off;
        if off {
            self.clusters.iter_mut().for_each(|(_, entry)| self.series_room.leave(&mut entry.series));
            self.nodes.iter_mut().for_each(|(_, node)| self.series_room.leave(&mut node.series));
        }
    }

    /// All of them begin again at nothing.
    pub fn clear_series(&mut self) {
        for (_, entry) in &mut self.clusters {
            if let Kept::Series(series) = &mut entry.series {
                series.clear();
            }
        }
        for (_, node) in &mut self.nodes {
            if let Kept::Series(series) = &mut node.series {
                series.clear();
            }
        }
    }

    /// How many there are, and how many clusters and backends would have one if there were room.
    pub fn series_counts(&self) -> (usize, usize) {
        (self.series_room.kept, self.series_room.refused)
    }

    /// What is asked for of all clusters; of those from this place on, and of a bounded number, if there is one. With
    /// that: where the rest begins.
    pub fn tell_series(
        &self,
        query: &Query<'_>,
        from: Option<usize>,
        now: Instant,
    ) -> (BTreeMap<String, ClusterMetrics>, Option<usize>) {
        let mut told = BTreeMap::new();
        let first = from.unwrap_or(0);
        if !query.wants_clusters() {
            return (told, None);
        }
        // The slab's iterator would look at every place before the first one.
        for index in first..self.clusters.capacity() {
            if from.is_some() && (index - first >= LOOKED_AT_MAX || told.len() >= TOLD_MAX) {
                return (told, Some(index));
            }
            let Some(entry) = self.clusters.get(index) else { continue };
            let metrics = self.tell_cluster(entry, query, now);
            if !metrics.cluster.is_empty() || !metrics.backends.is_empty() {
                told.insert(entry.id.to_string(), metrics);
            }
        }
        (told, None)
    }

    fn tell_cluster(&self, entry: &super::ClusterEntry, query: &Query<'_>, now: Instant) -> ClusterMetrics {
        let mut metrics = ClusterMetrics::default();
        let known = query.names_clusters() || entry.series.series().is_some();
        if query.wants_cluster(&entry.id) && known {
            let of_cluster = &mut metrics.cluster;
            if let Some(series) = entry.series.series() {
                series.to_proto(query, of_cluster);
            }
            let nodes = || entry.members.iter().filter_map(|&key| self.nodes.get(key));
            let available = nodes().filter(|node| node.may_take(now)).count();
            query.tell(of_cluster, Metric::ClusterAvailableBackends, gauge(available));
            query.tell(of_cluster, Metric::ClusterTotalBackends, gauge(nodes().count()));
        }
        for node in entry.members.iter().filter_map(|&key| self.nodes.get(key)) {
            let id = node.config.backend_id();
            let known = query.names_clusters() || node.series.series().is_some();
            if !known || !query.wants_backend(&entry.id, id) {
                continue;
            }
            let mut of_backend: BTreeMap<String, FilteredMetrics> = BTreeMap::new();
            if let Some(series) = node.series.series() {
                series.to_proto(query, &mut of_backend);
            }
            query.tell(&mut of_backend, Metric::ConnectionsPerBackend, gauge(node.active));
            query.tell(&mut of_backend, Metric::BackendAvailable, gauge(usize::from(node.may_take(now))));
            if !of_backend.is_empty() {
                let backend_id = id.to_string();
                metrics.backends.push(BackendMetrics { backend_id, metrics: of_backend });
            }
        }
        metrics
    }

    /// Every series is counted.
    pub(super) fn check_series(&self) {
        let of_clusters = self.clusters.iter().filter(|(_, entry)| entry.series.series().is_some()).count();
        let of_backends = self.nodes.iter().filter(|(_, node)| node.series.series().is_some()).count();
        assert_eq!(of_clusters + of_backends, self.series_room.kept, "series that are kept");
        let refused = |nothing: bool| usize::from(nothing);
        let clusters = self.clusters.iter().map(|(_, entry)| refused(matches!(entry.series, Kept::Refused)));
        let nodes = self.nodes.iter().map(|(_, node)| refused(matches!(node.series, Kept::Refused)));
        assert_eq!(clusters.chain(nodes).sum::<usize>(), self.series_room.refused, "series that are not");
    }
}

fn gauge(value: usize) -> Inner {
    Inner::Gauge(value as u64)
}
