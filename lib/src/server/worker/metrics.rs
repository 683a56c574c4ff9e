//! What a worker tells of its numbers, and how they are begun anew.

use std::time::Duration;

use kakehi_command::order::ListenerKind;
use kakehi_command::proto::{MetricsConfiguration, QueryMetricsOptions, WorkerMetrics};

use super::Worker;
use crate::metrics::{Metric, Metrics, Query};
use crate::net::Network;

impl<N: Network> Worker<N> {
    /// The numbers that are asked for, those that are counted elsewhere brought up to date.
    pub fn tell_metrics(&mut self, options: &QueryMetricsOptions) -> WorkerMetrics {
        let query = Query::new(options);
        let from = options.from.map(|from| usize::try_from(from).unwrap_or(usize::MAX));
        let mut told = WorkerMetrics::default();
        if query.wants_proxy() && from.unwrap_or(0) == 0 {
            self.refresh_gauges();
            told.proxy = self.shared.metrics.to_proto(&query);
        }
        let (clusters, next) = self.shared.backends.tell_series(&query, from, self.shared.now);
        told.clusters = clusters;
        told.next = next.map(|next| next as u64);
        told
    }

    /// A turn took so long, and the wait behind it: that many times.
    pub fn note_turn(&mut self, busy: Duration, slept: Duration, count: u64) {
        self.shared.metrics.time_many(Metric::EventLoopTime, busy, count);
        self.shared.metrics.time_many(Metric::EpollTime, slept, count);
    }

    /// Numbers of what is counted here.
    pub(super) fn refresh_gauges(&mut self) {
        self.shared.refresh_gauges();
        let metrics = &mut self.shared.metrics;
        metrics.set(Metric::ServerLive, u8::from(self.serving));
        let percent = |part: Metric, whole: Metric, metrics: &Metrics| {
            metrics.get(part).saturating_mul(100) / metrics.get(whole).max(1)
        };
        let connections = percent(Metric::ClientConnections, Metric::ClientConnectionsMax, metrics);
        metrics.set(Metric::ClientConnectionsPercent, connections);
        let buffers = percent(Metric::BufferInUse, Metric::BufferCapacity, metrics);
        metrics.set(Metric::BufferUsagePercent, buffers);
        for (kind, open, upgraded) in [
            (ListenerKind::Http, Metric::ProtocolHttp, Metric::ProtocolWs),
            (ListenerKind::Https, Metric::ProtocolHttps, Metric::ProtocolWss),
        ] {
            let sessions = self.shared.listeners.sessions_of(kind);
            let upgraded = usize::try_from(metrics.get(upgraded)).unwrap_or_default();
            metrics.set(open, sessions.saturating_sub(upgraded));
        }
    }

    /// So many lines of the error log were lost since the process began.
    pub fn note_lost_lines(&mut self, lost: u64) {
        let before = std::mem::replace(&mut self.lines_lost, lost);
        self.shared.metrics.add(Metric::LogsDropped, lost.saturating_sub(before));
    }

    /// Begins all numbers anew, or ends or begins those of clusters and backends.
    pub fn configure_metrics(&mut self, change: MetricsConfiguration) {
        match change {
            MetricsConfiguration::Enabled => self.shared.backends.set_series_off(false),
            MetricsConfiguration::Disabled => self.shared.backends.set_series_off(true),
            MetricsConfiguration::Clear => {
                // What was counted elsewhere up to now is no part of what comes.
                self.refresh_gauges();
                self.shared.metrics.clear_counts();
                self.shared.backends.clear_series();
            }
        }
    }
}
