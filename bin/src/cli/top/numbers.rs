//! Rates and levels out of two answers of the proxy.

use std::collections::{BTreeMap, HashMap};

use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::{FilteredMetrics, RunState};
use serde::{Serialize, Serializer};

use super::Sample;

type Named = BTreeMap<String, FilteredMetrics>;

/// Counters that become rates of each cluster and backend.
const RATES: [&str; 6] =
    ["requests", "http.status.2xx", "http.status.3xx", "http.status.4xx", "http.status.5xx", "bytes_out"];

/// What clusters are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Requests in a second, the most first.
    Requests,
    /// Answers of the class 5xx, the most first.
    Errors,
    /// The slowest first.
    Slowest,
    /// The name.
    Name,
}

impl Order {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Requests => Self::Errors,
            Self::Errors => Self::Slowest,
            Self::Slowest => Self::Name,
            Self::Name => Self::Requests,
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Errors => "5xx",
            Self::Slowest => "p99",
            Self::Name => "name",
        }
    }
}

/// A cluster or backend. Rates are of a second; none where there is nothing to compare with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) requests: Option<f64>,
    /// Of answers: 2xx, 3xx, 4xx, 5xx.
    #[serde(serialize_with = "by_name")]
    pub(super) classes: [Option<f64>; 4],
    pub(super) bytes_out: Option<f64>,
    /// Median and 99th percentile since the counters began, in milliseconds: of requests, or of a backend's answers.
    pub(super) p50_ms: Option<u64>,
    pub(super) p99_ms: Option<u64>,
    /// How many of its backends there are, and may be chosen.
    pub(super) backends: Option<(u64, u64)>,
    pub(super) rows: Vec<Row>,
}

/// A listener: where, what it speaks, whether it accepts.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Listener {
    pub(super) address: String,
    pub(super) protocol: &'static str,
    pub(super) active: bool,
}

fn by_name<S: Serializer>(classes: &[Option<f64>; 4], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(["2xx", "3xx", "4xx", "5xx"].iter().zip(classes))
}

/// The proxy as it is now.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Now {
    pub(super) uptime_seconds: u64,
    pub(super) revision: Option<u64>,
    pub(super) workers: u64,
    pub(super) workers_running: u64,
    pub(super) connections: u64,
    pub(super) connections_max: u64,
    pub(super) buffers: u64,
    pub(super) buffers_max: u64,
    pub(super) accepted: Option<f64>,
    pub(super) refused: Option<f64>,
    pub(super) bytes_in: Option<f64>,
    pub(super) whole: Row,
    pub(super) listeners: Vec<Listener>,
    pub(super) clusters: Vec<Row>,
    #[serde(skip)]
    pub(super) order: Order,
}

/// Two sets of numbers, and the seconds between them.
#[derive(Clone, Copy)]
struct Pair<'s> {
    before: Option<&'s Named>,
    now: &'s Named,
    seconds: Option<f64>,
}

impl Pair<'_> {
    /// A second's share of what was counted. A counter that has begun anew has counted what it says.
    fn rate(&self, name: &str) -> Option<f64> {
        let now = count(self.now, name).unwrap_or(0);
        let before = self.before.and_then(|before| count(before, name)).unwrap_or(0);
        let more = if now < before { now } else { now - before };
        #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
        self.seconds.map(|seconds| more as f64 / seconds)
    }

    fn row(&self, name: &str, time: &str) -> Row {
        let [requests, two, three, four, five, bytes_out] = RATES.map(|counter| self.rate(counter));
        let percentiles = match self.now.get(time).and_then(|metric| metric.inner.as_ref()) {
            Some(Inner::Percentiles(percentiles)) => Some((percentiles.p_50, percentiles.p_99)),
            _ => None,
        };
        let total = gauge(self.now, "cluster.total_backends");
        let available = gauge(self.now, "cluster.available_backends");
        Row {
            name: name.to_owned(),
            requests,
            classes: [two, three, four, five],
            bytes_out,
            p50_ms: percentiles.map(|(p50, _)| p50),
            p99_ms: percentiles.map(|(_, p99)| p99),
            backends: total.zip(available).map(|(total, available)| (available, total)),
            rows: Vec::new(),
        }
    }
}

fn count(metrics: &Named, name: &str) -> Option<i64> {
    match metrics.get(name)?.inner {
        Some(Inner::Count(count)) => Some(count),
        _ => None,
    }
}

fn gauge(metrics: &Named, name: &str) -> Option<u64> {
    match metrics.get(name)?.inner {
        Some(Inner::Gauge(level)) => Some(level),
        _ => None,
    }
}

impl Now {
    /// What is there at `now`, and what has changed since `before`, if that was.
    pub(super) fn between(before: &Sample, now: &Sample, order: Order) -> Self {
        let seconds = before.at.zip(now.at).map(|(before, now)| (now - before).as_secs_f64().max(0.001));
        let proxying = Pair { before: Some(&before.metrics.proxying), now: &now.metrics.proxying, seconds };
        let level = |name: &str| gauge(&now.metrics.proxying, name).unwrap_or(0);
        let clusters = now.metrics.clusters.iter().map(|(id, cluster)| {
            let old = before.metrics.clusters.get(id);
            let backends: HashMap<&str, &Named> = old
                .into_iter()
                .flat_map(|old| old.backends.iter())
                .map(|backend| (backend.backend_id.as_str(), &backend.metrics))
                .collect();
            let pair = Pair { before: old.map(|old| &old.cluster), now: &cluster.cluster, seconds };
            let mut row = pair.row(id, "request_time");
            row.rows.extend(cluster.backends.iter().map(|backend| {
                let id = backend.backend_id.as_str();
                let pair = Pair { before: backends.get(id).copied(), now: &backend.metrics, seconds };
                pair.row(id, "backend_response_time")
            }));
            row
        });
        let listeners = &now.listeners;
        let list = |map: &BTreeMap<String, bool>, protocol| {
            let listener = |(address, active): (&String, &bool)| Listener {
                address: address.clone(),
                protocol,
                active: *active,
            };
            map.iter().map(listener).collect::<Vec<_>>()
        };
        let http = listeners.http_listeners.iter().map(|(key, it)| (key.clone(), it.active)).collect();
        let https = listeners.https_listeners.iter().map(|(key, it)| (key.clone(), it.active)).collect();
        let tcp = listeners.tcp_listeners.iter().map(|(key, it)| (key.clone(), it.active)).collect();
        let running =
            now.workers.vec.iter().filter(|worker| worker.run_state == i32::from(RunState::Running));
        let mut shown = Self {
            uptime_seconds: gauge(&now.metrics.main, "process.uptime_seconds").unwrap_or(0),
            revision: now.revision,
            workers: now.workers.vec.len() as u64,
            workers_running: running.count() as u64,
            connections: level("client.connections"),
            connections_max: level("client.connections_max"),
            buffers: level("buffer.in_use"),
            buffers_max: level("buffer.capacity"),
            accepted: proxying.rate("listener.accepted.total"),
            refused: proxying.rate("listener.connection_capped"),
            bytes_in: proxying.rate("bytes_in"),
            whole: proxying.row("", "request_time"),
            listeners: [list(&http, "HTTP"), list(&https, "HTTPS"), list(&tcp, "TCP")].concat(),
            clusters: clusters.collect(),
            order,
        };
        shown.sort(order);
        shown
    }

    /// Puts clusters and their backends in order.
    pub(super) fn sort(&mut self, order: Order) {
        self.order = order;
        sort(&mut self.clusters, order);
        self.clusters.iter_mut().for_each(|cluster| sort(&mut cluster.rows, order));
    }
}

fn sort(rows: &mut [Row], order: Order) {
    let key = |row: &Row| match order {
        Order::Requests => row.requests.unwrap_or(0.0),
        Order::Errors => row.classes[3].unwrap_or(0.0),
        #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
        Order::Slowest => row.p99_ms.unwrap_or(0) as f64,
        Order::Name => 0.0,
    };
    rows.sort_by(|a, b| key(b).total_cmp(&key(a)).then_with(|| a.name.cmp(&b.name)));
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, Instant};

    use kakehi_command::proto::{AggregatedMetrics, BackendMetrics, ClusterMetrics, Percentiles};

    use super::*;

    fn named(counts: &[(&str, i64)], gauges: &[(&str, u64)]) -> Named {
        let counts = counts.iter().map(|(name, count)| (*name, Inner::Count(*count)));
        let gauges = gauges.iter().map(|(name, level)| (*name, Inner::Gauge(*level)));
        let all = counts.chain(gauges);
        all.map(|(name, inner)| (name.to_owned(), FilteredMetrics { inner: Some(inner) })).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "a point in time to count from")]
    pub(crate) fn samples() -> (Sample, Sample) {
        let begin = Instant::now();
        let at = |seconds, requests: i64, slow: u64| {
            let of = |share: i64| {
                named(&[("requests", requests / share), ("http.status.5xx", requests / share / 10)], &[])
            };
            let time = Percentiles { p_50: 3, p_99: slow, ..Default::default() };
            let mut busy = of(1);
            busy.insert("request_time".to_owned(), FilteredMetrics { inner: Some(Inner::Percentiles(time)) });
            busy.extend(named(&[], &[("cluster.total_backends", 3), ("cluster.available_backends", 2)]));
            let backend = BackendMetrics { backend_id: "b-1".to_owned(), metrics: of(2) };
            let clusters = [
                ("idle".to_owned(), ClusterMetrics::default()),
                ("busy".to_owned(), ClusterMetrics { cluster: busy, backends: vec![backend] }),
            ];
            Sample {
                at: Some(begin + Duration::from_secs(seconds)),
                metrics: AggregatedMetrics {
                    main: named(&[], &[("process.uptime_seconds", 3_700)]),
                    proxying: named(&[("requests", requests)], &[("client.connections", 12)]),
                    clusters: clusters.into_iter().collect(),
                    ..Default::default()
                },
                ..Sample::default()
            }
        };
        (at(0, 1_000, 9), at(2, 3_000, 30))
    }

    #[test]
    fn rates_are_of_a_second() {
        let (before, now) = samples();
        let now = Now::between(&before, &now, Order::Requests);
        assert_eq!(now.whole.requests, Some(1_000.0));
        assert_eq!(now.connections, 12);
        let busy = &now.clusters[0];
        assert_eq!(
            (busy.name.as_str(), busy.requests, busy.classes[3]),
            ("busy", Some(1_000.0), Some(100.0))
        );
        assert_eq!((busy.p50_ms, busy.p99_ms, busy.backends), (Some(3), Some(30), Some((2, 3))));
        assert_eq!((busy.rows[0].name.as_str(), busy.rows[0].requests), ("b-1", Some(500.0)));
        assert_eq!(now.clusters[1].requests, Some(0.0));
    }

    #[test]
    fn the_first_look_has_no_rates_and_counters_may_begin_anew() {
        let (before, now) = samples();
        let first = Now::between(&Sample::default(), &now, Order::Requests);
        assert_eq!(first.whole.requests, None);
        let (mut after, before) = (before, now);
        after.at = before.at.map(|at| at + Duration::from_secs(1));
        let restarted = Now::between(&before, &after, Order::Requests);
        assert_eq!(restarted.whole.requests, Some(1_000.0));
    }

    #[test]
    fn rows_are_in_the_order_that_was_asked_for() {
        let (before, now) = samples();
        let mut now = Now::between(&before, &now, Order::Name);
        let names = |now: &Now| now.clusters.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&now), ["busy", "idle"]);
        now.clusters[1].classes[3] = Some(1e6);
        now.sort(Order::Errors);
        assert_eq!(names(&now), ["idle", "busy"]);
        let orders: Vec<_> =
            std::iter::successors(Some(Order::Requests), |order| Some(order.next())).take(5).collect();
        let words: Vec<_> = orders.into_iter().map(Order::words).collect();
        assert_eq!(words, ["requests", "5xx", "p99", "name", "requests"]);
    }
}
