//! The workers' metrics made one: what `query_metrics` answers unless each worker's own are asked for.
//!
//! Counters, gauges (but for [`SHARED`]), histograms and the samples and sums of percentiles add up; the percentiles
//! themselves cannot be merged, so the worst of them is shown. Single times and time series mean
//! nothing when merged, and are left out.

use std::collections::BTreeMap;

use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::{
    AggregatedMetrics, AvailableMetrics, BackendMetrics, Bucket, ClusterMetrics, FilteredHistogram,
    FilteredMetrics, Percentiles, WorkerMetrics,
};
use prost::Message;

/// What each worker tells of the same things: a sum would count them as often as there are workers. In Sōzu it does.
const SHARED: [&str; 5] = [
    "backend.available",
    "buffer.usage_percent",
    "client.connections_percent",
    "cluster.available_backends",
    "cluster.total_backends",
];

type Named = BTreeMap<String, FilteredMetrics>;

/// Adds one worker's metrics to those of the workers before it.
pub(super) fn merge_worker(
    proxying: &mut Named,
    clusters: &mut BTreeMap<String, ClusterMetrics>,
    worker: WorkerMetrics,
) {
    merge_named(proxying, worker.proxy);
    for (cluster_id, metrics) in worker.clusters {
        merge_cluster(clusters.entry(cluster_id).or_default(), metrics);
    }
}

/// Adds what one worker knows of a cluster.
pub(super) fn merge_cluster(merged: &mut ClusterMetrics, metrics: ClusterMetrics) {
    merge_named(&mut merged.cluster, metrics.cluster);
    for backend in metrics.backends {
        merge_backend(&mut merged.backends, backend);
    }
}

/// Adds one worker's metric names to those of the workers before it; the lists stay sorted.
pub(super) fn merge_available(merged: &mut AvailableMetrics, worker: AvailableMetrics) {
    for (names, more) in [
        (&mut merged.proxy_metrics, worker.proxy_metrics),
        (&mut merged.cluster_metrics, worker.cluster_metrics),
    ] {
        names.extend(more);
        names.sort_unstable();
        names.dedup();
    }
}

/// Leaves clusters out, the last by name, until the answer has at most so many bytes. Gives how many.
pub(super) fn cut(metrics: &mut AggregatedMetrics, bytes_max: usize) -> usize {
    let mut over = metrics.encoded_len().saturating_sub(bytes_max);
    let mut left_out = 0;
    let maps = metrics.workers.values_mut().map(|worker| &mut worker.clusters);
    for clusters in std::iter::once(&mut metrics.clusters).chain(maps) {
        while over > 0
            && let Some((id, cluster)) = clusters.pop_last()
        {
            over = over.saturating_sub(id.len() + cluster.encoded_len());
            left_out += 1;
        }
    }
    left_out
}

fn merge_backend(merged: &mut Vec<BackendMetrics>, backend: BackendMetrics) {
    match merged.binary_search_by(|known| known.backend_id.cmp(&backend.backend_id)) {
        Ok(index) => merge_named(&mut merged[index].metrics, backend.metrics),
        Err(index) => {
            let mut metrics = Named::new();
            merge_named(&mut metrics, backend.metrics);
            merged.insert(index, BackendMetrics { backend_id: backend.backend_id, metrics });
        }
    }
}

/// Adds numbers by name.
pub(super) fn merge_named(merged: &mut Named, worker: Named) {
    for (name, metric) in worker {
        let Some(value) = metric.inner else { continue };
        if matches!(value, Inner::Time(_) | Inner::TimeSerie(_)) {
            continue;
        }
        let is_shared = SHARED.contains(&name.as_str());
        match merged.entry(name).or_default() {
            FilteredMetrics { inner: Some(Inner::Gauge(most)) } if is_shared => {
                if let Inner::Gauge(value) = value {
                    *most = (*most).max(value);
                }
            }
            FilteredMetrics { inner: Some(sum) } => add(sum, value),
            empty => empty.inner = Some(value),
        }
    }
}

/// Adds `value` to `sum`. The first kind seen under a name stays: two versions of a worker may differ
/// in what they mean by it, and a sum of both would mean nothing.
fn add(sum: &mut Inner, value: Inner) {
    match (sum, value) {
        (Inner::Gauge(sum), Inner::Gauge(value)) => *sum = sum.saturating_add(value),
        (Inner::Count(sum), Inner::Count(value)) => *sum = sum.saturating_add(value),
        (Inner::Percentiles(sum), Inner::Percentiles(value)) => add_percentiles(sum, &value),
        (Inner::Histogram(sum), Inner::Histogram(value)) => add_histogram(sum, &value),
        _ => {}
    }
}

fn add_percentiles(sum: &mut Percentiles, value: &Percentiles) {
    sum.samples = sum.samples.saturating_add(value.samples);
    sum.sum = sum.sum.saturating_add(value.sum);
    for (worst, other) in [
        (&mut sum.p_50, value.p_50),
        (&mut sum.p_90, value.p_90),
        (&mut sum.p_99, value.p_99),
        (&mut sum.p_99_9, value.p_99_9),
        (&mut sum.p_99_99, value.p_99_99),
        (&mut sum.p_99_999, value.p_99_999),
        (&mut sum.p_100, value.p_100),
    ] {
        *worst = (*worst).max(other);
    }
}

fn add_histogram(sum: &mut FilteredHistogram, value: &FilteredHistogram) {
    sum.sum = sum.sum.saturating_add(value.sum);
    sum.count = sum.count.saturating_add(value.count);
    for bucket in &value.buckets {
        match sum.buckets.binary_search_by_key(&bucket.le, |known| known.le) {
            Ok(index) => sum.buckets[index].count = sum.buckets[index].count.saturating_add(bucket.count),
            Err(index) => sum.buckets.insert(index, Bucket { count: bucket.count, le: bucket.le }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(inner: Inner) -> FilteredMetrics {
        FilteredMetrics { inner: Some(inner) }
    }

    fn merged(values: impl IntoIterator<Item = Inner>) -> Option<Inner> {
        let mut proxying = Named::new();
        for value in values {
            let proxy = Named::from([("metric".to_owned(), metric(value))]);
            merge_worker(&mut proxying, &mut BTreeMap::new(), WorkerMetrics { proxy, ..Default::default() });
        }
        proxying.remove("metric").and_then(|metric| metric.inner)
    }

    #[test]
    fn numbers_add_up() {
        assert_eq!(merged([Inner::Gauge(2), Inner::Gauge(3)]), Some(Inner::Gauge(5)));
        assert_eq!(merged([Inner::Count(-2), Inner::Count(3)]), Some(Inner::Count(1)));
        assert_eq!(merged([Inner::Gauge(u64::MAX), Inner::Gauge(1)]), Some(Inner::Gauge(u64::MAX)));
        assert_eq!(merged([Inner::Gauge(2), Inner::Count(3)]), Some(Inner::Gauge(2)), "kinds do not mix");
    }

    #[test]
    fn what_all_workers_see_is_not_counted_once_for_each() {
        let mut proxying = Named::new();
        for value in [2, 3, 1] {
            let proxy = Named::from([("cluster.total_backends".to_owned(), metric(Inner::Gauge(value)))]);
            merge_named(&mut proxying, proxy);
        }
        assert_eq!(proxying["cluster.total_backends"], metric(Inner::Gauge(3)));
    }

    #[test]
    fn what_cannot_be_merged_is_left_out() {
        assert_eq!(merged([Inner::Time(2), Inner::Time(3)]), None);
    }

    #[test]
    fn percentiles_show_the_worst() {
        let percentiles =
            |samples, p_50, p_100| Percentiles { samples, sum: 10, p_50, p_100, ..Default::default() };
        let expected = Percentiles { samples: 3, sum: 20, p_50: 5, p_100: 9, ..Default::default() };
        assert_eq!(
            merged([Inner::Percentiles(percentiles(1, 5, 6)), Inner::Percentiles(percentiles(2, 4, 9))]),
            Some(Inner::Percentiles(expected))
        );
    }

    #[test]
    fn histograms_add_bucket_by_bucket() {
        let histogram = |count, les: &[u64]| FilteredHistogram {
            sum: 7,
            count,
            buckets: les.iter().map(|le| Bucket { count: 1, le: *le }).collect(),
        };
        let Some(Inner::Histogram(sum)) =
            merged([Inner::Histogram(histogram(2, &[1, 4])), Inner::Histogram(histogram(3, &[1, 2, 8]))])
        else {
            panic!("a histogram stays one")
        };
        assert_eq!((sum.sum, sum.count), (14, 5));
        let buckets: Vec<_> = sum.buckets.iter().map(|bucket| (bucket.le, bucket.count)).collect();
        assert_eq!(buckets, [(1, 2), (2, 1), (4, 1), (8, 1)]);
    }

    #[test]
    fn clusters_and_backends_are_matched_by_id() {
        let worker = |backend: &str, count| {
            let metrics = Named::from([("requests".to_owned(), metric(Inner::Count(count)))]);
            let backends = vec![BackendMetrics { backend_id: backend.to_owned(), metrics: metrics.clone() }];
            let clusters =
                BTreeMap::from([("hello".to_owned(), ClusterMetrics { cluster: metrics, backends })]);
            WorkerMetrics { clusters, ..Default::default() }
        };
        let mut clusters = BTreeMap::new();
        for (backend, count) in [("b", 1), ("a", 2), ("b", 3)] {
            merge_worker(&mut Named::new(), &mut clusters, worker(backend, count));
        }
        let hello = &clusters["hello"];
        assert_eq!(hello.cluster["requests"], metric(Inner::Count(6)));
        let backends: Vec<_> =
            hello.backends.iter().map(|b| (b.backend_id.as_str(), &b.metrics["requests"])).collect();
        assert_eq!(backends, [("a", &metric(Inner::Count(2))), ("b", &metric(Inner::Count(4)))]);
    }

    #[test]
    fn an_answer_is_cut_to_what_fits() {
        let cluster = || ClusterMetrics {
            cluster: Named::from([("requests".to_owned(), metric(Inner::Count(1)))]),
            ..ClusterMetrics::default()
        };
        let clusters = (0..100).map(|n| (format!("c{n:02}"), cluster())).collect();
        let mut metrics = AggregatedMetrics { clusters, ..AggregatedMetrics::default() };
        let whole = metrics.encoded_len();
        assert_eq!(cut(&mut metrics, whole), 0);
        let left_out = cut(&mut metrics, whole / 2);
        assert!(metrics.encoded_len() <= whole / 2);
        assert_eq!(metrics.clusters.len() + left_out, 100);
        assert!(metrics.clusters.contains_key("c00") && left_out < 80, "{left_out}");
    }

    #[test]
    fn names_are_listed_once() {
        let names = |list: &[&str]| AvailableMetrics {
            proxy_metrics: list.iter().map(ToString::to_string).collect(),
            cluster_metrics: Vec::new(),
        };
        let mut merged = names(&["b"]);
        merge_available(&mut merged, names(&["c", "b", "a"]));
        assert_eq!(merged, names(&["a", "b", "c"]));
    }
}
