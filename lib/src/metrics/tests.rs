//! The declared table and what it counts.

use std::collections::BTreeSet;
use std::time::Duration;

use kakehi_command::proto::QueryMetricsOptions;

use super::*;

fn count(value: i64) -> FilteredMetrics {
    FilteredMetrics { inner: Some(Inner::Count(value)) }
}

fn gauge(value: u64) -> FilteredMetrics {
    FilteredMetrics { inner: Some(Inner::Gauge(value)) }
}

#[test]
fn names_are_unique_and_well_formed() {
    let names: BTreeSet<&str> = Metric::ALL.iter().map(|metric| metric.name()).collect();
    assert_eq!(names.len(), Metric::COUNT);
    for &metric in Metric::ALL {
        let name = metric.name();
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '_';
        // Versions and suites have the names that they have in TLS, as in Sōzu.
        let family = ["tls.version.", "tls.cipher."].iter().find_map(|family| name.strip_prefix(family));
        let tls = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(family.map_or_else(|| name.chars().all(known), |own| own.chars().all(tls)), "{name}");
        assert!(metric.help().ends_with('.'), "{name}");
    }
}

#[test]
fn the_table_is_dense() {
    for (index, metric) in Metric::ALL.iter().enumerate() {
        assert_eq!(metric.index(), index, "{}", metric.name());
    }
}

#[test]
fn a_status_counts_under_its_class_and_code() {
    let check = |status: u16, names: &[&str]| {
        let mut metrics = Metrics::default();
        metrics.count_status(status);
        let risen: BTreeSet<&str> =
            Metric::ALL.iter().filter(|&&m| metrics.get(m) == 1).map(|m| m.name()).collect();
        assert_eq!(risen, names.iter().copied().collect(), "{status}");
    };
    check(101, &["http.status.1xx"]);
    check(200, &["http.status.2xx", "http.status.200"]);
    check(206, &["http.status.2xx"]);
    check(304, &["http.status.3xx", "http.status.304"]);
    check(431, &["http.status.4xx"]);
    check(503, &["http.status.5xx", "http.status.503"]);
    check(999, &["http.status.other"]);
}

#[test]
fn every_code_with_a_series_has_the_series_of_its_name() {
    for status in 0..1000 {
        if let Some(metric) = Metric::of_status(status) {
            assert_eq!(metric.name(), format!("http.status.{status}"));
        }
        if let Some(metric) = Metric::of_own_answer(status) {
            let kind = if status < 400 { "redirection" } else { "errors" };
            assert_eq!(metric.name(), format!("http.{status}.{kind}"));
        }
    }
}

#[test]
fn no_series_of_a_code_is_out_of_reach() {
    let numbered = |m: &&Metric| m.name().split('.').any(|part| part.parse::<u16>().is_ok());
    let declared = Metric::ALL.iter().filter(numbered).count();
    let reached = |of: fn(u16) -> Option<Metric>| (0..1000).filter_map(of).count();
    assert_eq!(declared, reached(Metric::of_status) + reached(Metric::of_own_answer));
}

#[test]
fn clearing_spares_gauges() {
    let mut metrics = Metrics::default();
    metrics.add(Metric::BytesIn, 10);
    metrics.set(Metric::BufferInUse, 3);
    metrics.clear_counts();
    assert_eq!(metrics.get(Metric::BytesIn), 0);
    assert_eq!(metrics.get(Metric::BufferInUse), 3);
}

#[test]
fn the_proto_form_tells_kinds_apart() {
    let mut metrics = Metrics::default();
    metrics.incr(Metric::Requests);
    metrics.incr(Metric::ClientConnections);
    metrics.incr(Metric::ClientConnections);
    metrics.decr(Metric::ClientConnections);
    metrics.add(Metric::ClientConnections, -1);
    metrics.incr(Metric::ClientConnections);
    metrics.add(Metric::BytesOut, u64::MAX);
    metrics.incr(Metric::BytesOut);
    let proto = metrics.to_proto(&Query::new(&QueryMetricsOptions::default()));
    let told = |metric: &&Metric| metric.is_of_proxy();
    // Times have two names each.
    assert_eq!(proto.len(), Metric::ALL.iter().filter(told).count() + TIMES);
    assert_eq!(proto["requests"], count(1));
    assert_eq!(proto["client.connections"], gauge(1));
    assert_eq!(proto["bytes_out"], count(i64::MAX));
}

#[test]
fn names_choose_what_is_answered() {
    let metric_names = ["requests", "unknown", "bytes", "request_time_histogram"].map(str::to_owned);
    let options = QueryMetricsOptions { metric_names: metric_names.into(), ..Default::default() };
    let proxy = Metrics::default().to_proto(&Query::new(&options));
    assert_eq!(proxy.keys().collect::<Vec<_>>(), ["request_time_histogram", "requests"]);
}

#[test]
fn times_are_told_as_percentiles_and_as_a_histogram() {
    let mut metrics = Metrics::default();
    metrics.time(Metric::RequestTime, Duration::from_millis(3));
    let told = |exact| {
        metrics.to_proto(&Query::new(&QueryMetricsOptions { exact: Some(exact), ..Default::default() }))
    };
    let inner = |exact, name: &str| told(exact).get(name).and_then(|metric| metric.inner.clone());
    assert!(matches!(inner(false, "request_time"), Some(Inner::Percentiles(of)) if of.p_100 == 3));
    assert!(matches!(inner(false, "request_time_histogram"), Some(Inner::Histogram(of)) if of.sum == 3));
    assert_eq!(inner(true, "request_time"), None);
    assert!(matches!(inner(true, "request_time_histogram"), Some(Inner::Histogram(of)) if of.sum == 3000));
    metrics.clear_counts();
    assert_eq!(metrics.times(Metric::RequestTime).map(Histogram::count), Some(0));
}

#[test]
fn a_series_keeps_what_its_scope_does() {
    let options = QueryMetricsOptions::default();
    let mut series = BackendSeries::default();
    series.add(Metric::Requests, 2);
    series.add(Metric::TcpRequests, 2);
    series.time(Metric::RequestTime, Took::micros(1000));
    series.time(Metric::BackendResponseTime, Took::micros(1000));
    let mut told = BTreeMap::new();
    series.to_proto(&Query::new(&options), &mut told);
    let names: Vec<&str> = told.keys().map(String::as_str).collect();
    assert_eq!(names, ["backend_response_time", "backend_response_time_histogram", "requests"]);
    series.clear();
    let mut told = BTreeMap::new();
    series.to_proto(&Query::new(&options), &mut told);
    assert!(told.is_empty());
}

#[test]
fn a_query_chooses_clusters_and_backends() {
    let check = |clusters: &[&str], backends: &[&str], cluster: bool, backend: bool, proxy: bool| {
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let options = QueryMetricsOptions {
            cluster_ids: own(clusters),
            backend_ids: own(backends),
            ..Default::default()
        };
        let query = Query::new(&options);
        assert_eq!(query.wants_cluster("a"), cluster, "{options:?}");
        assert_eq!(query.wants_backend("a", "a-1"), backend, "{options:?}");
        assert_eq!(query.wants_proxy(), proxy, "{options:?}");
    };
    check(&[], &[], true, true, true);
    check(&["a"], &[], true, true, false);
    check(&["b"], &[], false, false, false);
    check(&[], &["a-1"], false, true, false);
    check(&["a"], &["a-2"], true, false, false);
}
