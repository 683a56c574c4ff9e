//! A snapshot as Prometheus reads it: its text format, or OpenMetrics 1.0. Pure.
//!
//! All samples of a family stand together, so that the text can't be written cluster by cluster. It is written in pieces:
//! each call goes on where the last one stopped, after a bounded number of bytes.

use std::fmt::Write;
use std::ops::Bound;
use std::rc::Rc;

use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::{FilteredHistogram, FilteredMetrics, MetricDetail};
use kakehi_lib::metrics::{HISTOGRAM_SUFFIX, Kind, Metric, Scope};

use super::collect::{Named, Snapshot};
use super::own;

/// Bytes of text after which a piece ends.
const PIECE_BYTES: usize = 64 * 1024;

/// Clusters that are looked at for one piece.
const CLUSTERS_PER_PIECE: usize = 2_000;

/// Bounds of buckets, powers of two of microseconds: of the proxy, and coarser ones of clusters and backends.
const BOUNDS: (u32, u32) = (7, 26);

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What the client wants most, by its Accept.
    pub(super) fn wanted(accept: &str) -> Self {
        let mut best = (Self::Text, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next() {
                Some("application/openmetrics-text") => Self::OpenMetrics,
                Some("text/plain" | "text/*" | "*/*") => Self::Text,
                _ => continue,
            };
            let quality =
                parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
            if quality > best.1 {
                best = (format, quality);
            }
        }
        best.0
    }

    /// For Content-Type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A family: all samples of one metric in one scope.
#[derive(Debug, Clone, Copy)]
enum Family {
    /// One of main's own.
    Own(&'static own::Own),
    /// One of the proxy's.
    Proxy(Metric),
    /// One of all clusters or backends.
    Of(Scope, Metric),
}

/// All families that are told at this level of detail.
fn families(detail: MetricDetail) -> impl Iterator<Item = Family> {
    let of = move |scope: Scope| {
        let told = match scope {
            Scope::Cluster => detail >= MetricDetail::DetailCluster,
            Scope::Backend => detail >= MetricDetail::DetailBackend,
        };
        Metric::ALL
            .iter()
            .copied()
            .filter(move |metric| told && metric.is_of(scope))
            .map(move |m| Family::Of(scope, m))
    };
    let proxy = Metric::ALL.iter().copied().filter(|metric| metric.is_of_proxy()).map(Family::Proxy);
    own::ALL.iter().map(Family::Own).chain(proxy).chain(of(Scope::Cluster)).chain(of(Scope::Backend))
}

impl Family {
    fn metric_name(self) -> &'static str {
        match self {
            Self::Own(own) => own.name,
            Self::Proxy(metric) | Self::Of(_, metric) => metric.name(),
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Own(own) => own.kind,
            Self::Proxy(metric) | Self::Of(_, metric) => metric.kind(),
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Own(own) => own.help,
            Self::Proxy(metric) | Self::Of(_, metric) => metric.help(),
        }
    }

    /// Without what kinds and samples add to it. Numbers of main have a word of their own, too: it counts some of what
    /// workers count.
    fn name(self) -> String {
        let scope = match self {
            Self::Own(_) => "main_",
            Self::Proxy(_) => "",
            Self::Of(Scope::Cluster, _) => "by_cluster_",
            Self::Of(Scope::Backend, _) => "by_backend_",
        };
        let name = self.metric_name();
        // Of a count the word stands at the end anyway.
        let name =
            if self.kind() == Kind::Count { name.strip_suffix(".total").unwrap_or(name) } else { name };
        // The unit stands behind all times alike, and one only.
        let name = if self.kind() == Kind::Time { name.strip_suffix("_ms").unwrap_or(name) } else { name };
        let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
        let unit = if self.kind() == Kind::Time { "_seconds" } else { "" };
        format!("kakehi_{scope}{}{unit}", plain.collect::<String>())
    }
}

/// The text, from some place on.
#[derive(Debug)]
pub(super) struct Exposition {
    snapshot: Rc<Snapshot>,
    format: Format,
    families: Vec<Family>,
    /// The family that is being written.
    family: usize,
    /// The cluster behind which it goes on, and whether its header was written.
    behind: Option<(String, bool)>,
    over: bool,
}

impl Exposition {
    pub(super) fn new(snapshot: Rc<Snapshot>, format: Format, detail: MetricDetail) -> Self {
        let families = families(detail).collect();
        Self { snapshot, format, families, family: 0, behind: None, over: false }
    }

    /// The next piece; none once there is nothing more. It may be empty.
    pub(super) fn next_piece(&mut self) -> Option<String> {
        if self.over {
            return None;
        }
        let mut out = String::new();
        let mut looked_at = 0;
        while let Some(&family) = self.families.get(self.family) {
            self.write(family, &mut out, &mut looked_at);
            if out.len() >= PIECE_BYTES || looked_at >= CLUSTERS_PER_PIECE {
                return Some(out);
            }
        }
        self.over = true;
        if self.format == Format::OpenMetrics {
            out.push_str("# EOF\n");
        }
        Some(out)
    }

    fn write(&mut self, family: Family, out: &mut String, looked_at: &mut usize) {
        let (snapshot, format) = (Rc::clone(&self.snapshot), self.format);
        let name = family.name();
        let scope = match family {
            Family::Of(scope, _) => scope,
            Family::Own(_) | Family::Proxy(_) => {
                let numbers = if matches!(family, Family::Own(_)) { &snapshot.main } else { &snapshot.proxy };
                if let Some(value) = value_of(numbers, family) {
                    write_header(out, family, &name, format);
                    write_samples(out, &name, "", &value, 1);
                }
                self.family += 1;
                return;
            }
        };
        let (from, mut begun) = match self.behind.take() {
            Some((behind, begun)) => (Bound::Excluded(behind), begun),
            None => (Bound::Unbounded, false),
        };
        for (id, cluster) in snapshot.clusters.range::<String, _>((from, Bound::Unbounded)) {
            let mut sample = |labels: &str, numbers: &Named| {
                let Some(value) = value_of(numbers, family) else { return };
                if !std::mem::replace(&mut begun, true) {
                    write_header(out, family, &name, format);
                }
                write_samples(out, &name, labels, &value, 2);
            };
            match scope {
                Scope::Cluster => sample(&format!("cluster=\"{}\"", escaped(id)), &cluster.cluster),
                Scope::Backend => {
                    for backend in &cluster.backends {
                        let (cluster, id) = (escaped(id), escaped(&backend.backend_id));
                        sample(&format!("cluster=\"{cluster}\",backend=\"{id}\""), &backend.metrics);
                    }
                }
            }
            *looked_at += 1;
            if out.len() >= PIECE_BYTES || *looked_at >= CLUSTERS_PER_PIECE {
                self.behind = Some((id.clone(), begun));
                return;
            }
        }
        self.behind = None;
        self.family += 1;
    }
}

/// The value of a family in these numbers, if it is there and of its kind.
fn value_of(numbers: &Named, family: Family) -> Option<Inner> {
    let name = family.metric_name();
    let found: Option<&FilteredMetrics> = if family.kind() == Kind::Time {
        numbers.get(&format!("{name}{HISTOGRAM_SUFFIX}"))
    } else {
        numbers.get(name)
    };
    let value = found?.inner.clone()?;
    let fits = matches!(
        (family.kind(), &value),
        (Kind::Count, Inner::Count(_)) | (Kind::Gauge, Inner::Gauge(_)) | (Kind::Time, Inner::Histogram(_))
    );
    fits.then_some(value)
}

fn write_header(out: &mut String, family: Family, name: &str, format: Format) {
    let kind = match family.kind() {
        Kind::Count => "counter",
        Kind::Gauge => "gauge",
        Kind::Time => "histogram",
    };
    // In the older format the family is called as its samples are.
    let total = if family.kind() == Kind::Count && format == Format::Text { "_total" } else { "" };
    let _ = writeln!(out, "# HELP {name}{total} {}", escaped(family.help()));
    let _ = writeln!(out, "# TYPE {name}{total} {kind}");
}

fn write_samples(out: &mut String, name: &str, labels: &str, value: &Inner, step: usize) {
    let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let _ = match value {
        Inner::Count(count) => writeln!(out, "{name}_total{braced} {}", (*count).max(0)),
        Inner::Gauge(level) => writeln!(out, "{name}{braced} {level}"),
        Inner::Histogram(histogram) => {
            write_buckets(out, name, labels, histogram, step);
            let sum = seconds(histogram.sum);
            writeln!(out, "{name}_sum{braced} {sum}\n{name}_count{braced} {}", histogram.count)
        }
        _ => Ok(()),
    };
}

/// Cumulative, as both formats have it.
fn write_buckets(out: &mut String, name: &str, labels: &str, histogram: &FilteredHistogram, step: usize) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut buckets = histogram.buckets.iter().peekable();
    let mut below = 0_u64;
    for exponent in (BOUNDS.0..=BOUNDS.1).step_by(step) {
        let bound = 1_u64 << exponent;
        while let Some(bucket) = buckets.next_if(|bucket| bucket.le <= bound) {
            below = below.saturating_add(bucket.count);
        }
        let le = seconds(bound);
        let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{le}\"}} {below}");
    }
    let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}", histogram.count);
}

/// Microseconds as seconds, exactly; always with a point, as OpenMetrics wants of bounds.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}

/// For label values, and for help, which asks for less.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kakehi_command::proto::{BackendMetrics, Bucket, ClusterMetrics};

    use super::*;

    fn named(values: impl IntoIterator<Item = (&'static str, Inner)>) -> Named {
        let metric = |value| FilteredMetrics { inner: Some(value) };
        values.into_iter().map(|(name, value)| (name.to_owned(), metric(value))).collect()
    }

    fn times() -> Inner {
        let buckets = vec![Bucket { count: 2, le: 1 << 10 }, Bucket { count: 1, le: 1 << 30 }];
        Inner::Histogram(FilteredHistogram { sum: 1_500_000, count: 3, buckets })
    }

    fn cluster() -> ClusterMetrics {
        let metrics = named([("requests", Inner::Count(1))]);
        let backends = vec![BackendMetrics { backend_id: "a\"1".to_owned(), metrics: metrics.clone() }];
        ClusterMetrics { cluster: metrics, backends }
    }

    fn text(snapshot: Snapshot, format: Format, detail: MetricDetail) -> (String, usize) {
        let mut exposition = Exposition::new(Rc::new(snapshot), format, detail);
        let (mut text, mut pieces) = (String::new(), 0);
        while let Some(piece) = exposition.next_piece() {
            assert!(piece.len() < 2 * PIECE_BYTES, "{} bytes", piece.len());
            text.push_str(&piece);
            pieces += 1;
        }
        (text, pieces)
    }

    fn small() -> Snapshot {
        Snapshot {
            main: named([("configuration.clusters", Inner::Gauge(3))]),
            proxy: named([("requests", Inner::Count(5)), ("request_time_histogram", times())]),
            clusters: [("x".to_owned(), cluster())].into(),
        }
    }

    #[test]
    fn the_text_format() {
        let (text, _) = text(small(), Format::Text, MetricDetail::DetailBackend);
        for line in [
            "# TYPE kakehi_main_configuration_clusters gauge",
            "kakehi_main_configuration_clusters 3",
            "# TYPE kakehi_requests_total counter",
            "kakehi_requests_total 5",
            "# TYPE kakehi_request_time_seconds histogram",
            "kakehi_request_time_seconds_bucket{le=\"0.000512\"} 0",
            "kakehi_request_time_seconds_bucket{le=\"0.001024\"} 2",
            "kakehi_request_time_seconds_bucket{le=\"+Inf\"} 3",
            "kakehi_request_time_seconds_sum 1.5",
            "kakehi_request_time_seconds_count 3",
            "kakehi_by_cluster_requests_total{cluster=\"x\"} 1",
            "kakehi_by_backend_requests_total{cluster=\"x\",backend=\"a\\\"1\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains("EOF"));
    }

    #[test]
    fn openmetrics_names_families_without_total_and_ends() {
        let (text, _) = text(small(), Format::OpenMetrics, MetricDetail::DetailProcess);
        assert!(text.contains("# TYPE kakehi_requests counter\nkakehi_requests_total 5\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
        assert!(!text.contains("by_cluster") && !text.contains("by_backend"), "the detail says so");
    }

    #[test]
    fn many_clusters_come_in_pieces_and_each_family_once() {
        let clusters = (0..7000).map(|n| (format!("c{n}"), cluster())).collect();
        let snapshot = Snapshot { clusters, ..small() };
        let (text, pieces) = text(snapshot, Format::OpenMetrics, MetricDetail::DetailBackend);
        assert!(pieces > 5, "{pieces}");
        let headers: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let distinct: BTreeSet<&&str> = headers.iter().collect();
        assert_eq!(headers.len(), distinct.len(), "each family is told once");
        for scope in ["kakehi_by_cluster_requests_total{", "kakehi_by_backend_requests_total{"] {
            let samples: BTreeSet<&str> = text.lines().filter(|line| line.starts_with(scope)).collect();
            assert_eq!(samples.len(), 7000);
        }
    }

    #[test]
    fn no_two_families_have_one_name() {
        let mut names = BTreeSet::new();
        for family in families(MetricDetail::DetailBackend) {
            let name = family.name();
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
            assert!(names.insert(name.clone()), "{name} stands for two");
        }
    }

    #[test]
    fn the_wish_of_the_client_decides() {
        let check = |accept: &str, expected| assert_eq!(Format::wanted(accept), expected, "{accept}");
        check("", Format::Text);
        check("*/*", Format::Text);
        check("application/openmetrics-text", Format::OpenMetrics);
        check(
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2",
            Format::OpenMetrics,
        );
        check("application/openmetrics-text;q=0.1, text/plain;q=0.9", Format::Text);
        check("application/openmetrics-text;q=0", Format::Text);
    }

    #[test]
    fn seconds_are_exact() {
        for (micros, expected) in [(0, "0.0"), (1, "0.000001"), (1_000_000, "1.0"), (67_108_864, "67.108864")]
        {
            assert_eq!(seconds(micros), expected);
        }
    }
}
