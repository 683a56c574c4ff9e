//! Which numbers are asked for, and how they are told.

use std::collections::BTreeMap;

use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::{AvailableMetrics, FilteredMetrics, QueryMetricsOptions};

use super::{Histogram, Kind, Metric, Resolution};

/// A histogram is told under its metric's name and this, beside the percentiles, which have the name itself.
pub const HISTOGRAM_SUFFIX: &str = "_histogram";

/// The names of all metrics, of the proxy and of clusters or backends.
pub fn names() -> AvailableMetrics {
    let all = |kept: fn(&Metric) -> bool| {
        let names = Metric::ALL.iter().copied().filter(kept).flat_map(|metric| {
            let histogram = metric.kind() == Kind::Time;
            let histogram = histogram.then(|| format!("{}{HISTOGRAM_SUFFIX}", metric.name()));
            std::iter::once(metric.name().to_owned()).chain(histogram)
        });
        names.collect()
    };
    AvailableMetrics {
        proxy_metrics: all(|metric| metric.is_of_proxy()),
        cluster_metrics: all(|metric| !metric.scopes().is_empty()),
    }
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    options: &'a QueryMetricsOptions,
}

impl<'a> Query<'a> {
    /// What a controller, or main itself, asks for.
    pub fn new(options: &'a QueryMetricsOptions) -> Self {
        Self { options }
    }

    fn names(&self, name: &str) -> bool {
        let names = &self.options.metric_names;
        names.is_empty() || names.iter().any(|asked| asked == name)
    }

    /// Whether the numbers of the proxy as a whole are asked for: not if clusters or backends are named.
    pub fn wants_proxy(&self) -> bool {
        self.options.cluster_ids.is_empty() && self.options.backend_ids.is_empty()
    }

    /// Whether any cluster or backend is asked for.
    pub fn wants_clusters(&self) -> bool {
        !self.options.no_clusters
    }

    /// Whether what is named is told even if nothing was counted of it.
    pub fn names_clusters(&self) -> bool {
        !self.wants_proxy()
    }

    /// Whether the numbers of this cluster itself are asked for.
    pub fn wants_cluster(&self, id: &str) -> bool {
        let QueryMetricsOptions { cluster_ids, backend_ids, .. } = self.options;
        if cluster_ids.is_empty() {
            backend_ids.is_empty()
        } else {
            cluster_ids.iter().any(|asked| asked == id)
        }
    }

    /// Whether those of this backend of it are.
    pub fn wants_backend(&self, cluster: &str, id: &str) -> bool {
        let QueryMetricsOptions { cluster_ids, backend_ids, .. } = self.options;
        (cluster_ids.is_empty() || cluster_ids.iter().any(|asked| asked == cluster))
            && (backend_ids.is_empty() || backend_ids.iter().any(|asked| asked == id))
    }

    /// Tells a number, if it is asked for.
    pub fn tell(&self, into: &mut BTreeMap<String, FilteredMetrics>, metric: Metric, value: Inner) {
        if self.names(metric.name()) {
            into.insert(metric.name().to_owned(), FilteredMetrics { inner: Some(value) });
        }
    }

    /// Tells times, if they are asked for: percentiles for human eyes, and a histogram for all.
    pub fn tell_times(
        &self,
        into: &mut BTreeMap<String, FilteredMetrics>,
        metric: Metric,
        times: &Histogram,
    ) {
        let exact = self.options.exact();
        let resolution = if exact { Resolution::Microseconds } else { Resolution::Milliseconds };
        let asked = self.names(metric.name());
        let mut tell = |name: String, value| into.insert(name, FilteredMetrics { inner: Some(value) });
        if asked && !exact {
            tell(metric.name().to_owned(), Inner::Percentiles(times.percentiles(resolution)));
        }
        let histogram = format!("{}{HISTOGRAM_SUFFIX}", metric.name());
        if asked || self.names(&histogram) {
            tell(histogram, Inner::Histogram(times.to_proto(resolution)));
        }
    }
}
