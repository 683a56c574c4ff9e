//! What has changed between two snapshots, as lines for statsd, packed into datagrams. Pure.
//!
//! Counts are sent as differences, levels when they change and now and then besides, times as so many samples of each
//! bucket's bound: `4.096|ms|@0.01` stands for a hundred of them.

use std::fmt::Write;
use std::ops::Bound;
use std::rc::Rc;

use kakehi_command::config::Statsd;
use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::{FilteredHistogram, FilteredMetrics, MetricDetail};
use kakehi_lib::metrics::HISTOGRAM_SUFFIX;

use super::collect::{Named, Snapshot};

/// Bytes of a datagram: one that fits into an Ethernet frame under IPv6 with room to spare.
const DATAGRAM_BYTES_MAX: usize = 1400;

/// Bytes of one line; a longer one, which only very long ids make, is not sent.
const LINE_BYTES_MAX: usize = DATAGRAM_BYTES_MAX;

/// Clusters that are looked at in one turn of the loop.
const CLUSTERS_PER_TURN: usize = 500;

/// Whose numbers a line tells.
#[derive(Debug, Clone, Copy)]
struct Subject<'a> {
    tag: &'static str,
    cluster: Option<&'a str>,
    backend: Option<&'a str>,
}

/// One round: from a snapshot to the next.
#[derive(Debug)]
pub(super) struct Round {
    before: Rc<Snapshot>,
    now: Rc<Snapshot>,
    detail: MetricDetail,
    /// Levels that have not changed are sent, too.
    whole: bool,
    behind: Option<String>,
    begun: bool,
}

impl Round {
    pub(super) fn new(before: Rc<Snapshot>, now: Rc<Snapshot>, detail: MetricDetail, whole: bool) -> Self {
        Self { before, now, detail, whole, behind: None, begun: false }
    }

    /// The datagrams of one turn; none once all were given.
    pub(super) fn next_datagrams(&mut self, statsd: &Statsd) -> Option<Vec<String>> {
        let mut packer = Packer { statsd, datagrams: Vec::new(), open: String::new() };
        let (before, now) = (Rc::clone(&self.before), Rc::clone(&self.now));
        let mut reached = None;
        if !std::mem::replace(&mut self.begun, true) {
            let subject = |tag| Subject { tag, cluster: None, backend: None };
            self.tell(&mut packer, subject("MAIN"), &before.main, &now.main);
            self.tell(&mut packer, subject("WRK"), &before.proxy, &now.proxy);
            reached = Some(None);
        } else if self.detail >= MetricDetail::DetailCluster {
            let from = self.behind.take().map_or(Bound::Unbounded, Bound::Excluded);
            let nothing = Named::new();
            let none = &nothing;
            for (id, cluster) in
                now.clusters.range::<String, _>((from, Bound::Unbounded)).take(CLUSTERS_PER_TURN)
            {
                let old = before.clusters.get(id);
                let subject = Subject { tag: "WRK", cluster: Some(id), backend: None };
                self.tell(&mut packer, subject, old.map_or(none, |old| &old.cluster), &cluster.cluster);
                if self.detail >= MetricDetail::DetailBackend {
                    for backend in &cluster.backends {
                        let old = old.and_then(|old| {
                            old.backends.iter().find(|old| old.backend_id == backend.backend_id)
                        });
                        let subject = Subject { backend: Some(&backend.backend_id), ..subject };
                        self.tell(
                            &mut packer,
                            subject,
                            old.map_or(none, |old| &old.metrics),
                            &backend.metrics,
                        );
                    }
                }
                reached = Some(Some(id.clone()));
            }
        }
        self.behind = reached?;
        Some(packer.finish())
    }

    fn tell(&self, packer: &mut Packer<'_>, subject: Subject<'_>, before: &Named, now: &Named) {
        for (name, FilteredMetrics { inner }) in now {
            let old = before.get(name).and_then(|metric| metric.inner.as_ref());
            match (inner, old) {
                (Some(Inner::Count(value)), old) => {
                    let old = if let Some(Inner::Count(old)) = old { *old } else { 0 };
                    // After `metrics clear` it begins anew.
                    let more = if *value >= old { *value - old } else { *value };
                    if more > 0 {
                        packer.line(subject, name, format_args!("{more}|c"));
                    }
                }
                (Some(Inner::Gauge(value)), old) if self.whole || old != inner.as_ref() => {
                    packer.line(subject, name, format_args!("{value}|g"));
                }
                (Some(Inner::Histogram(times)), old) => {
                    let old = if let Some(Inner::Histogram(old)) = old { Some(old) } else { None };
                    let name = name.strip_suffix(HISTOGRAM_SUFFIX).unwrap_or(name);
                    tell_times(packer, subject, name, old, times);
                }
                _ => {}
            }
        }
    }
}

fn tell_times(
    packer: &mut Packer<'_>,
    subject: Subject<'_>,
    name: &str,
    old: Option<&FilteredHistogram>,
    now: &FilteredHistogram,
) {
    for bucket in &now.buckets {
        let had = old.and_then(|old| old.buckets.iter().find(|old| old.le == bucket.le));
        let had = had.map_or(0, |had| had.count);
        let more = if bucket.count >= had { bucket.count - had } else { bucket.count };
        let (ms, micros) = (bucket.le / 1000, bucket.le % 1000);
        match more {
            0 => {}
            1 => packer.line(subject, name, format_args!("{ms}.{micros:03}|ms")),
            #[expect(clippy::cast_precision_loss, reason = "a rate is no count")]
            more => packer.line(subject, name, format_args!("{ms}.{micros:03}|ms|@{:.9}", 1.0 / more as f64)),
        }
    }
}

/// Puts lines together, as many as fit into a datagram.
struct Packer<'a> {
    statsd: &'a Statsd,
    datagrams: Vec<String>,
    open: String,
}

impl Packer<'_> {
    fn line(&mut self, subject: Subject<'_>, name: &str, value: std::fmt::Arguments<'_>) {
        let mut line = String::new();
        let Statsd { prefix, tagged, .. } = self.statsd;
        let Subject { tag, cluster, backend } = subject;
        let _ = if *tagged {
            let _ = write!(line, "{prefix}.{name},origin={tag},version={}", env!("CARGO_PKG_VERSION"));
            for (label, id) in [("cluster_id", cluster), ("backend_id", backend)] {
                if let Some(id) = id {
                    let _ = write!(line, ",{label}={}", safe(id));
                }
            }
            write!(line, ":{value}")
        } else {
            let _ = write!(line, "{prefix}.{tag}.");
            for (label, id) in [("cluster", cluster), ("backend", backend)] {
                if let Some(id) = id {
                    let _ = write!(line, "{label}.{}.", safe(id));
                }
            }
            write!(line, "{name}:{value}")
        };
        if line.len() > LINE_BYTES_MAX {
            return;
        }
        if !self.open.is_empty() && self.open.len() + 1 + line.len() > DATAGRAM_BYTES_MAX {
            self.datagrams.push(std::mem::take(&mut self.open));
        }
        if !self.open.is_empty() {
            self.open.push('\n');
        }
        self.open.push_str(&line);
    }

    fn finish(mut self) -> Vec<String> {
        if !self.open.is_empty() {
            self.datagrams.push(self.open);
        }
        self.datagrams
    }
}

/// An id without what means something in a line.
fn safe(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    id.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use kakehi_command::proto::{BackendMetrics, Bucket, ClusterMetrics};

    use super::*;

    fn statsd(tagged: bool) -> Statsd {
        Statsd { address: ([127, 0, 0, 1], 8125).into(), tagged, prefix: "sozu".to_owned() }
    }

    fn named(values: impl IntoIterator<Item = (&'static str, Inner)>) -> Named {
        let metric = |value| FilteredMetrics { inner: Some(value) };
        values.into_iter().map(|(name, value)| (name.to_owned(), metric(value))).collect()
    }

    fn snapshot(requests: i64) -> Rc<Snapshot> {
        let numbers = || named([("requests", Inner::Count(requests)), ("level", Inner::Gauge(4))]);
        let backends = vec![BackendMetrics { backend_id: "b:1".to_owned(), metrics: numbers() }];
        let cluster = ClusterMetrics { cluster: numbers(), backends };
        let proxy = named([
            ("requests", Inner::Count(requests)),
            (
                "request_time_histogram",
                Inner::Histogram(FilteredHistogram {
                    sum: 0,
                    count: 0,
                    buckets: vec![Bucket { le: 4096, count: requests.unsigned_abs() }],
                }),
            ),
        ]);
        Rc::new(Snapshot { main: Named::new(), proxy, clusters: [("x".to_owned(), cluster)].into() })
    }

    fn lines(mut round: Round, statsd: &Statsd) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(datagrams) = round.next_datagrams(statsd) {
            for datagram in datagrams {
                assert!(datagram.len() <= DATAGRAM_BYTES_MAX);
                lines.extend(datagram.lines().map(str::to_owned));
            }
        }
        lines
    }

    #[test]
    fn what_has_changed_is_sent_with_plain_names() {
        let round = Round::new(snapshot(2), snapshot(7), MetricDetail::DetailBackend, false);
        assert_eq!(
            lines(round, &statsd(false)),
            [
                "sozu.WRK.request_time:4.096|ms|@0.200000000",
                "sozu.WRK.requests:5|c",
                "sozu.WRK.cluster.x.requests:5|c",
                "sozu.WRK.cluster.x.backend.b_1.requests:5|c",
            ]
        );
    }

    #[test]
    fn tags_and_detail() {
        let round = Round::new(Rc::default(), snapshot(1), MetricDetail::DetailCluster, false);
        let version = env!("CARGO_PKG_VERSION");
        let expected = [
            format!("sozu.request_time,origin=WRK,version={version}:4.096|ms"),
            format!("sozu.requests,origin=WRK,version={version}:1|c"),
            format!("sozu.level,origin=WRK,version={version},cluster_id=x:4|g"),
            format!("sozu.requests,origin=WRK,version={version},cluster_id=x:1|c"),
        ];
        assert_eq!(lines(round, &statsd(true)), expected);
        let round = Round::new(snapshot(1), snapshot(1), MetricDetail::DetailProcess, true);
        assert_eq!(lines(round, &statsd(true)), [""; 0]);
    }

    #[test]
    fn a_count_that_fell_began_anew() {
        let round = Round::new(snapshot(9), snapshot(3), MetricDetail::DetailProcess, false);
        assert!(lines(round, &statsd(false)).contains(&"sozu.WRK.requests:3|c".to_owned()));
    }

    #[test]
    fn many_clusters_take_turns_and_fill_datagrams() {
        let one = snapshot(1);
        let clusters = (0..1200).map(|n| (format!("c{n}"), one.clusters["x"].clone())).collect();
        let now = Rc::new(Snapshot { clusters, ..Snapshot::default() });
        let mut round = Round::new(Rc::default(), now, MetricDetail::DetailCluster, false);
        let (mut turns, mut sent) = (0, 0);
        while let Some(datagrams) = round.next_datagrams(&statsd(false)) {
            turns += 1;
            sent += datagrams.iter().map(|datagram| datagram.lines().count()).sum::<usize>();
        }
        assert_eq!((turns, sent), (4, 2400));
    }
}
