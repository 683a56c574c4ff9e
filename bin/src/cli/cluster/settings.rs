//! The settings of a cluster that differ from what one has by itself, a line for each: what `cluster list --id` shows.
//!
//! Secrets stay out: of users their names are shown, of keys that there is one.

use kakehi_command::proto::{
    BackendTls, Cluster, HealthCheckConfig, HealthCheckMode, LoadMetric, PassiveHealth, ProxyProtocolConfig,
    SameSite, ShardMode,
};

use super::super::values::rate_limit_text;

/// What a setting is called, in the words of the configuration file, and what it is.
type Setting = (&'static str, Option<String>);

/// See the module. The first columns of the list, which all clusters have, are not among them.
pub(super) fn settings(cluster: &Cluster) -> Vec<(&'static str, String)> {
    let all = limits(cluster).into_iter().chain(health(cluster)).chain(balancing(cluster));
    let all = all.chain(answers(cluster)).chain(towards_backends(cluster));
    all.filter_map(|(name, value)| Some((name, value?))).collect()
}

fn number<T: ToString>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn with_unit<T: ToString>(value: Option<T>, unit: &str) -> Option<String> {
    value.map(|value| format!("{}{unit}", value.to_string()))
}

fn flag(value: Option<bool>) -> Option<String> {
    number(value.filter(|value| *value))
}

fn list(values: impl IntoIterator<Item = String>) -> Option<String> {
    let values: Vec<String> = values.into_iter().collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn limits(cluster: &Cluster) -> Vec<Setting> {
    vec![
        ("max connections", number(cluster.max_connections)),
        ("max connections per backend", number(cluster.max_connections_per_backend)),
        ("max queue", number(cluster.max_queue)),
        ("queue timeout", with_unit(cluster.queue_timeout_ms, " ms")),
        ("max connections per ip", number(cluster.max_connections_per_ip)),
        ("max connections per subnet", number(cluster.max_connections_per_subnet)),
        ("rate limits", list(cluster.rate_limits.iter().map(rate_limit_text))),
        ("retry after", with_unit(cluster.retry_after, " s")),
        ("max connection attempts", number(cluster.max_connection_attempts)),
        ("retry budget", with_unit(cluster.retry_budget_percent, " %")),
    ]
}

fn health(cluster: &Cluster) -> Vec<Setting> {
    vec![
        ("health check", cluster.health_check.as_ref().map(health_check)),
        ("passive health", cluster.passive_health.as_ref().map(passive_health)),
        ("panic threshold", with_unit(cluster.panic_threshold, " %")),
        ("slow start", with_unit(cluster.slow_start, " s")),
    ]
}

fn health_check(check: &HealthCheckConfig) -> String {
    let what = match check.mode() {
        HealthCheckMode::Tcp => "connect".to_owned(),
        HealthCheckMode::Http => format!("GET {}", check.uri),
    };
    let ranges = check.accepted_statuses.iter().map(|range| match (range.start, range.end) {
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start} to {end}"),
    });
    let status = (check.expected_status != 0).then(|| check.expected_status.to_string());
    let mut text = format!(
        "{what} every {} s, timeout {} s, healthy after {}, unhealthy after {}",
        check.interval, check.timeout, check.healthy_threshold, check.unhealthy_threshold
    );
    let more = [
        ("status", list(ranges).or(status)),
        ("port", number(check.port)),
        ("host", check.host.clone()),
        ("headers", list(check.headers.iter().map(|header| header.name.clone()))),
        ("jitter", with_unit(check.jitter_percent, " %")),
    ];
    for (name, value) in more.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        text.push_str(&format!(", {name} {value}"));
    }
    text
}

fn passive_health(passive: &PassiveHealth) -> String {
    let PassiveHealth {
        consecutive_failures,
        base_ejection,
        max_ejection,
        max_ejected_percent,
        count_server_errors,
    } = passive;
    let what = if *count_server_errors { "failures or 5xx" } else { "failures" };
    format!(
        "out after {consecutive_failures} {what} in a row, for {base_ejection} s up to {max_ejection} s, \
         {max_ejected_percent} % at a time"
    )
}

fn balancing(cluster: &Cluster) -> Vec<Setting> {
    let metric = cluster.load_metric.map(|_| match cluster.load_metric() {
        LoadMetric::Connections => "connections".to_owned(),
        LoadMetric::Requests => "requests".to_owned(),
        LoadMetric::ConnectionTime => "connection time".to_owned(),
    });
    let strict = cluster.shard_mode() == ShardMode::Strict;
    let site = cluster.sticky_same_site.map(|_| match cluster.sticky_same_site() {
        SameSite::Strict => "strict".to_owned(),
        SameSite::Lax => "lax".to_owned(),
        SameSite::None => "none".to_owned(),
    });
    vec![
        ("load metric", metric),
        ("affinity header", cluster.affinity_header.clone()),
        ("affinity cookie", cluster.affinity_cookie.clone()),
        ("shard", with_unit(cluster.shard_percent, " %")),
        ("shard min backends", number(cluster.shard_min_backends)),
        ("shard mode", strict.then(|| "strict".to_owned())),
        ("sticky secure", flag(cluster.sticky_secure)),
        ("sticky http only", flag(cluster.sticky_http_only)),
        ("sticky same site", site),
    ]
}

fn answers(cluster: &Cluster) -> Vec<Setting> {
    let older = cluster.answer_503.as_ref().map(|_| "503".to_owned());
    let users = cluster.authorized_hashes.iter();
    let users = users.map(|hash| hash.split(':').next().unwrap_or_default().to_owned());
    vec![
        ("answers", list(cluster.answers.keys().cloned().chain(older))),
        ("https redirect port", number(cluster.https_redirect_port)),
        ("users", list(users)),
        ("www authenticate", cluster.www_authenticate.clone()),
    ]
}

fn towards_backends(cluster: &Cluster) -> Vec<Setting> {
    let header = cluster.proxy_protocol.map(|_| match cluster.proxy_protocol() {
        ProxyProtocolConfig::ExpectHeader => "expected".to_owned(),
        ProxyProtocolConfig::SendHeader => "sent".to_owned(),
        ProxyProtocolConfig::RelayHeader => "relayed".to_owned(),
    });
    vec![
        ("tls to backends", cluster.tls.as_ref().map(backend_tls)),
        ("proxy protocol", header),
        ("send proxy version", number(cluster.send_proxy_version)),
        ("http2", flag(cluster.http2)),
        ("udp", cluster.udp.as_ref().map(|_| "set".to_owned())),
    ]
}

fn backend_tls(tls: &BackendTls) -> String {
    let BackendTls {
        enabled,
        server_name,
        ca_certificates,
        skip_verification,
        client_certificate,
        client_key: _,
        alpn,
    } = tls;
    if !enabled {
        return "off".to_owned();
    }
    let mut parts = vec![match skip_verification {
        Some(true) => "NOT verified".to_owned(),
        _ if ca_certificates.is_empty() => "verified by the system's authorities".to_owned(),
        _ => format!("verified by authorities of its own ({})", ca_certificates.len()),
    }];
    parts.extend(server_name.as_ref().map(|name| format!("as {name}")));
    parts.extend(client_certificate.as_ref().map(|_| "with a certificate of ours".to_owned()));
    parts.extend(list(alpn.iter().cloned()).map(|alpn| format!("alpn {alpn}")));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use kakehi_command::proto::{HttpStatusRange, RateLimit};

    use super::*;

    #[test]
    fn what_nobody_has_set_is_not_shown() {
        assert_eq!(settings(&Cluster { cluster_id: "a".to_owned(), ..Cluster::default() }), []);
    }

    #[test]
    fn no_secret_is_shown() {
        let mut tls = BackendTls::default();
        tls.enabled = true;
        tls.server_name = Some("in.test".to_owned());
        tls.ca_certificates = vec!["PEM".to_owned()];
        tls.client_certificate = Some("PEM".to_owned());
        tls.client_key = Some("SECRET".to_owned());
        let cluster = Cluster {
            authorized_hashes: vec!["ada:SECRET".to_owned(), "bob:SECRET".to_owned()],
            tls: Some(tls),
            ..Cluster::default()
        };
        let shown = [
            ("users", "ada, bob"),
            (
                "tls to backends",
                "verified by authorities of its own (1), as in.test, with a certificate of ours",
            ),
        ];
        assert_eq!(settings(&cluster), shown.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn what_is_set_is_told_in_words() {
        let check = HealthCheckConfig {
            uri: "/up".to_owned(),
            interval: 5,
            timeout: 2,
            healthy_threshold: 2,
            unhealthy_threshold: 3,
            accepted_statuses: vec![
                HttpStatusRange { start: 200, end: 299 },
                HttpStatusRange { start: 401, end: 401 },
            ],
            port: Some(9000),
            ..HealthCheckConfig::default()
        };
        let cluster = Cluster {
            max_queue: Some(10),
            queue_timeout_ms: Some(500),
            rate_limits: vec![RateLimit { key: "source".to_owned(), rate: 10, burst: Some(20) }],
            health_check: Some(check),
            load_metric: Some(LoadMetric::ConnectionTime.into()),
            ..Cluster::default()
        };
        let shown = [
            ("max queue", "10"),
            ("queue timeout", "500 ms"),
            ("rate limits", "source=10/20"),
            (
                "health check",
                "GET /up every 5 s, timeout 2 s, healthy after 2, unhealthy after 3, status 200 to 299, 401, port 9000",
            ),
            ("load metric", "connection time"),
        ];
        assert_eq!(settings(&cluster), shown.map(|(name, value)| (name, value.to_owned())));
    }
}
