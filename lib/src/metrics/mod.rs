//! Metrics: every name declared once, one number each.
//!
//! [`Metric`] is the table: name, kind, unit and help stand together, in Sōzu's names where Sōzu counts the
//! same thing. A [`Metrics`] is a worker's numbers; counting is an addition into an array. Labels (cluster,
//! backend) are not kept here: this slice counts for the worker as a whole, so the number of series is fixed.
//!
//! Nothing is sent from here. [`Metrics::to_proto`] is what a query answers, [`merge`] adds up workers.

mod table;

use std::collections::BTreeMap;

use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::{FilteredMetrics, WorkerMetrics};

pub use table::Metric;

/// How a metric behaves over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, until cleared or restarted.
    Count,
    /// What is now.
    Gauge,
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
}

impl Default for Metrics {
    fn default() -> Self {
        Self { values: [0; Metric::COUNT] }
    }
}

impl Metrics {
    /// One more.
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

    /// Counts a response that went to a client, by its class, and by its code where that has a series.
    pub fn count_status(&mut self, status: u16) {
        self.incr(Metric::of_status_class(status));
        if let Some(metric) = Metric::of_status(status) {
            self.incr(metric);
        }
    }

    /// Sets all counts to zero; gauges tell what is, and stay.
    pub fn clear_counts(&mut self) {
        for metric in Metric::ALL {
            if metric.kind() == Kind::Count {
                self.values[metric.index()] = 0;
            }
        }
    }

    /// The metrics with these names, or all if there are no names, as the command protocol carries them.
    /// Names that nothing is counted under are left out.
    pub fn to_proto(&self, names: &[String]) -> WorkerMetrics {
        let proxy = Metric::ALL
            .iter()
            .filter(|metric| names.is_empty() || names.iter().any(|name| name == metric.name()))
            .map(|&metric| {
                let value = self.get(metric);
                let inner = match metric.kind() {
                    Kind::Count => Inner::Count(value),
                    Kind::Gauge => Inner::Gauge(u64::try_from(value).unwrap_or_default()),
                };
                (metric.name().to_owned(), FilteredMetrics { inner: Some(inner) })
            })
            .collect();
        WorkerMetrics { proxy, clusters: BTreeMap::new() }
    }

    fn change(&mut self, metric: Metric, by: i64) {
        let value = &mut self.values[metric.index()];
        *value = value.saturating_add(by);
    }
}

/// Adds the numbers of one worker to those of others: counts and gauges both add up.
///
/// A metric whose kind differs between the two, as between versions during an upgrade, keeps the one in
/// `into`.
pub fn merge(into: &mut BTreeMap<String, FilteredMetrics>, from: &BTreeMap<String, FilteredMetrics>) {
    for (name, metric) in from {
        let Some(known) = into.get_mut(name) else {
            into.insert(name.clone(), metric.clone());
            continue;
        };
        match (&mut known.inner, &metric.inner) {
            (Some(Inner::Count(sum)), Some(Inner::Count(value))) => *sum = sum.saturating_add(*value),
            (Some(Inner::Gauge(sum)), Some(Inner::Gauge(value))) => *sum = sum.saturating_add(*value),
            (empty @ None, Some(value)) => *empty = Some(value.clone()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
