//! Metrics: every name declared once, one number each.
//!
//! [`Metric`] is the table: name, kind, unit, help and scopes stand together, in Sōzu's names where Sōzu counts the
//! same thing. A [`Metrics`] is a worker's numbers; counting is an addition into an array, timing one into a
//! [`Histogram`] of fixed size. What is kept of clusters and backends is a [`Series`] each: these exist in a bounded
//! number, which is the business of whoever holds them.
//!
//! Nothing is sent from here. [`Metrics::to_proto`] and [`Series::to_proto`] are what a query answers.

mod histogram;
mod query;
mod series;
mod table;

use std::collections::BTreeMap;

use kakehi_command::proto::FilteredMetrics;
use kakehi_command::proto::filtered_metrics::Inner;

pub use histogram::{Histogram, Resolution, Took};
pub use query::{HISTOGRAM_SUFFIX, Query, names};
pub use series::{BackendSeries, ClusterSeries, Places, Series};
pub use table::Metric;

/// How a metric behaves over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, until cleared or restarted.
    Count,
    /// What is now.
    Gauge,
    /// How long something takes: percentiles and a histogram.
    Time,
}

/// What a metric can be kept of besides the proxy as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Each cluster.
    Cluster,
    /// Each backend.
    Backend,
}

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Connections, of clients or to backends.
    Connections,
    /// Requests, or their answers.
    Requests,
    /// Bytes.
    Bytes,
    /// Buffers of the pool.
    Buffers,
    /// Things that happened.
    Events,
    /// Configured things.
    Items,
    /// Time.
    Milliseconds,
}

/// One worker's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    values: [i64; Metric::COUNT],
    times: [Histogram; TIMES],
}

/// The place of each time among the times; for anything else there is none.
const TIME_PLACES: [u8; Metric::COUNT] = series::places(Kind::Time, None);

const TIMES: usize = series::count(Kind::Time, None);

impl Default for Metrics {
    fn default() -> Self {
        Self { values: [0; Metric::COUNT], times: std::array::from_fn(|_| Histogram::default()) }
    }
}

impl Metrics {
    /// One more.
    #[inline]
    pub fn incr(&mut self, metric: Metric) {
        self.change(metric, 1);
    }

    /// One less, of a gauge.
    pub fn decr(&mut self, metric: Metric) {
        debug_assert_eq!(metric.kind(), Kind::Gauge, "{} never falls", metric.name());
        debug_assert!(self.get(metric) > 0, "{} falls only from where it rose to", metric.name());
        self.change(metric, -1);
    }

    /// So many more; of a gauge also less. What no `i64` holds counts as the greatest.
    pub fn add(&mut self, metric: Metric, n: impl TryInto<i64>) {
        let n = n.try_into().unwrap_or(i64::MAX);
        debug_assert!(n >= 0 || metric.kind() == Kind::Gauge, "{} never falls", metric.name());
        self.change(metric, n);
    }

    /// A gauge has this value now. What no `i64` holds counts as the greatest.
    pub fn set(&mut self, metric: Metric, value: impl TryInto<i64>) {
        debug_assert_eq!(metric.kind(), Kind::Gauge, "{} is counted, not set", metric.name());
        self.values[metric.index()] = value.try_into().unwrap_or(i64::MAX);
    }

    /// The value now.
    pub fn get(&self, metric: Metric) -> i64 {
        self.values[metric.index()]
    }

    /// Counts a response that went to a client, by its class, and by its code where that has a series. Gives the class.
    pub fn count_status(&mut self, status: u16) -> Metric {
        let class = Metric::of_status_class(status);
        self.incr(class);
        if let Some(metric) = Metric::of_status(status) {
            self.incr(metric);
        }
        class
    }

    /// Something took so long.
    #[inline]
    pub fn time(&mut self, metric: Metric, took: impl Into<Took>) {
        debug_assert_eq!(metric.kind(), Kind::Time, "{} is no time", metric.name());
        if let Some(times) = self.times.get_mut(usize::from(TIME_PLACES[metric.index()])) {
            times.record(took.into());
        }
    }

    /// Several things took so long.
    pub fn time_many(&mut self, metric: Metric, took: impl Into<Took>, count: u64) {
        debug_assert_eq!(metric.kind(), Kind::Time, "{} is no time", metric.name());
        if let Some(times) = self.times.get_mut(usize::from(TIME_PLACES[metric.index()])) {
            times.record_many(took.into(), count);
        }
    }

    /// How long something took, each time.
    pub fn times(&self, metric: Metric) -> Option<&Histogram> {
        self.times.get(usize::from(TIME_PLACES[metric.index()]))
    }

    /// Sets all counts and times to zero; gauges tell what is, and stay.
    pub fn clear_counts(&mut self) {
        for metric in Metric::ALL {
            if metric.kind() == Kind::Count {
                self.values[metric.index()] = 0;
            }
        }
        self.times.iter_mut().for_each(Histogram::clear);
    }

    /// The metrics of the proxy that are asked for, as the command protocol carries them. Names that nothing is
    /// counted under are left out.
    pub fn to_proto(&self, query: &Query<'_>) -> BTreeMap<String, FilteredMetrics> {
        let mut named = BTreeMap::new();
        for &metric in Metric::ALL.iter().filter(|metric| metric.is_of_proxy()) {
            let value = self.get(metric);
            match metric.kind() {
                Kind::Count => query.tell(&mut named, metric, Inner::Count(value)),
                Kind::Gauge => {
                    query.tell(&mut named, metric, Inner::Gauge(u64::try_from(value).unwrap_or_default()));
                }
                Kind::Time => {
                    if let Some(times) = self.times(metric) {
                        query.tell_times(&mut named, metric, times);
                    }
                }
            }
        }
        named
    }

    fn change(&mut self, metric: Metric, by: i64) {
        let value = &mut self.values[metric.index()];
        *value = value.saturating_add(by);
    }
}

#[cfg(test)]
mod tests;
