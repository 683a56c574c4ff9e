//! What a worker tells of its numbers, and how they are begun anew.

use kakehi_command::proto::{MetricsConfiguration, QueryMetricsOptions, WorkerMetrics};

use super::Worker;
use crate::metrics::Query;
use crate::net::Network;

impl<N: Network> Worker<N> {
    /// The numbers that are asked for, those that are counted elsewhere brought up to date.
    pub fn tell_metrics(&mut self, options: &QueryMetricsOptions) -> WorkerMetrics {
        let query = Query::new(options);
        let from = options.from.map(|from| usize::try_from(from).unwrap_or(usize::MAX));
        let mut told = WorkerMetrics::default();
        if query.wants_proxy() && from.unwrap_or(0) == 0 {
            self.shared.refresh_gauges();
            told.proxy = self.shared.metrics.to_proto(&query);
        }
        let (clusters, next) = self.shared.backends.tell_series(&query, from, self.shared.now);
        told.clusters = clusters;
        told.next = next.map(|next| next as u64);
        told
    }

    /// Begins all numbers anew, or ends or begins those of clusters and backends.
    pub fn configure_metrics(&mut self, change: MetricsConfiguration) {
        match change {
            MetricsConfiguration::Enabled => self.shared.backends.set_series_off(false),
            MetricsConfiguration::Disabled => self.shared.backends.set_series_off(true),
            MetricsConfiguration::Clear => {
                // What was counted elsewhere up to now is no part of what comes.
                self.shared.refresh_gauges();
                self.shared.metrics.clear_counts();
                self.shared.backends.clear_series();
            }
        }
    }
}
