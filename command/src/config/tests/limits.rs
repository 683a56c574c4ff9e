//! Limits of listeners and clusters.

use super::*;
use crate::order::{OverLimit, RateKey};

#[test]
fn a_listener_has_limits_of_its_own() {
    let text = http_listener(
        "max_connections = 100\nmax_connections_per_source = 5\nmax_accept_rate = 50\nover_limit = \"close\"\n\
         rate_limits = [{ key = \"source\", rate = 10 }, { key = \"header:X-Key\", rate = 1, burst = 5 }]",
    );
    let config = parse_text(&text, &file()).expect("accepted");
    let Some(Order::AddHttpListener(listener)) = config.orders.first() else {
        panic!("{:?}", config.orders.first());
    };
    let limits = listener.limits();
    assert_eq!((limits.connections, limits.connections_per_source, limits.accept_rate), (100, 5, 50));
    assert_eq!(limits.over, OverLimit::Close);
    let rates: Vec<_> = limits.rates.iter().map(|it| (&it.key, it.per_second, it.burst)).collect();
    assert_eq!(rates, [(&RateKey::Source, 10, 10), (&RateKey::Header("X-Key".into()), 1, 5)]);
}

#[test]
fn what_is_wrong_with_limits_is_told_where_it_is() {
    let told = |text: &str, expected: &str| {
        let outcome = outcome(&http_listener(text));
        assert!(outcome.iter().any(|line| line.contains(expected)), "{outcome:?}");
    };
    told("rate_limits = [{ key = \"source\" }]", "listeners[0].rate_limits[0].rate: is required");
    told("rate_limits = [{ rate = 1 }]", "listeners[0].rate_limits[0].key: is required");
    told("rate_limits = [{ key = \"path\", rate = 1 }]", "listeners[0].rate_limits: `path` is none of");
    told("rate_limits = [{ key = \"host\", rate = 0 }]", "rate_limits[0].rate: 0 is out of range");
    told("max_accept_rate = 1000001", "listeners[0].max_accept_rate: 1000001 is out of range");
    told("over_limit = \"drop\"", "over_limit: \"drop\" is not one of");
}

#[test]
fn a_tcp_cluster_is_limited_by_source_only() {
    let text = |key: &str| {
        format!(
            "[clusters.t]\nprotocol = \"tcp\"\nrate_limits = [{{ key = \"{key}\", rate = 1 }}]\n\
             frontends = [{{ address = \"127.0.0.1:1\" }}]\nbackends = []"
        )
    };
    assert!(outcome(&text("host")).iter().any(|line| line.contains("`host` needs HTTP")));
    assert!(!outcome(&text("source")).iter().any(|line| line.contains("error")));
}

#[test]
fn eviction_of_few_connections_is_warned_of() {
    let outcome = outcome("evict_on_queue_full = true\nmax_connections = 99");
    assert!(
        outcome.iter().any(|line| line.starts_with("warning 1: evict_on_queue_full: with")),
        "{outcome:?}"
    );
}
