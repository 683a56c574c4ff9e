//! The declared table and what it counts.

use std::collections::BTreeSet;

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
    let proto = metrics.to_proto(&[]).proxy;
    assert_eq!(proto.len(), Metric::COUNT);
    assert_eq!(proto["requests"], count(1));
    assert_eq!(proto["client.connections"], gauge(1));
    assert_eq!(proto["bytes_out"], count(i64::MAX));
}

#[test]
fn names_choose_what_is_answered() {
    let names = ["requests".to_owned(), "unknown".to_owned(), "bytes".to_owned()];
    let proxy = Metrics::default().to_proto(&names).proxy;
    assert_eq!(proxy, BTreeMap::from([("requests".to_owned(), count(0))]));
}

#[test]
fn workers_add_up() {
    let mut sum =
        BTreeMap::from([("a".to_owned(), count(1)), ("b".to_owned(), gauge(2)), ("k".to_owned(), gauge(1))]);
    let other = BTreeMap::from([
        ("a".to_owned(), count(10)),
        ("b".to_owned(), gauge(20)),
        ("c".to_owned(), count(5)),
        ("k".to_owned(), count(7)),
    ]);
    merge(&mut sum, &other);
    let expected = [("a", count(11)), ("b", gauge(22)), ("c", count(5)), ("k", gauge(1))];
    assert_eq!(sum, expected.map(|(name, metric)| (name.to_owned(), metric)).into());
}
