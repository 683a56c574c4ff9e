//! Sections of the file as messages of the protocol: what the file says, no more. Whether it makes sense
//! is for [`crate::order`] to tell.

use std::collections::BTreeMap;
use std::mem;
use std::net::SocketAddr;

use super::answers::Answers;
use super::diagnostic::Diagnostics;
use super::file::Section;
use super::health;
use super::limits;
use super::pem_files::{PemFiles, Unreadable};
use crate::order::SEND_TLS13_TICKETS_DEFAULT;
use crate::proto;

/// A listener at `address`: `defaults`, and what the section says.
pub(super) fn http_listener(
    section: &Section<'_>,
    defaults: proto::HttpListenerConfig,
    answers: Answers<'_>,
    diagnostics: &mut Diagnostics,
) -> proto::HttpListenerConfig {
    let number = |name: &str| section.integer(name).and_then(|value| u32::try_from(value).ok());
    let limits = limits::of_listener(section, diagnostics);
    proto::HttpListenerConfig {
        public_address: section.address("public_address").map(|address| address.value.into()),
        sticky_name: section.text("sticky_name").map_or(defaults.sticky_name, str::to_owned),
        front_timeout: number("front_timeout").unwrap_or(defaults.front_timeout),
        back_timeout: number("back_timeout").unwrap_or(defaults.back_timeout),
        connect_timeout: number("connect_timeout").unwrap_or(defaults.connect_timeout),
        request_timeout: number("request_timeout").unwrap_or(defaults.request_timeout),
        sozu_id_header: section.text("sozu_id_header").map(str::to_owned),
        elide_x_real_ip: section.flag("elide_x_real_ip"),
        send_x_real_ip: section.flag("send_x_real_ip"),
        forwarded_headers: section.choice("forwarded_headers").map(|family| forwarded(family).into()),
        http_answers: answers.older(section, diagnostics),
        answers: answers.newer(section, diagnostics),
        trusted_proxies: section.texts("trusted_proxies"),
        expect_proxy: section.flag("expect_proxy").unwrap_or_default(),
        expect_proxy_from: section.texts("expect_proxy_from"),
        tunnel_timeout: number("tunnel_timeout"),
        max_request_line: number("max_request_line"),
        max_body_bytes: section.integer("max_body_bytes"),
        min_transfer_rate: number("min_transfer_rate"),
        trace_context: section.choice("trace_context").map(|choice| trace_context(choice).into()),
        interface: section.text("interface").map(str::to_owned),
        rate_limits: limits.rate_limits,
        max_connections: limits.max_connections,
        max_connections_per_source: limits.max_connections_per_source,
        max_accept_rate: limits.max_accept_rate,
        over_limit: limits.over_limit,
        ..defaults
    }
}

/// What an HTTPS listener has beyond an HTTP one, in a message that is otherwise empty.
pub(super) fn tls(
    section: &Section<'_>,
    files: PemFiles<'_>,
    diagnostics: &mut Diagnostics,
) -> proto::HttpsListenerConfig {
    let number = |name: &str| section.integer(name).and_then(|value| u32::try_from(value).ok());
    let mut certificate = files.certificate(section, Unreadable::Absent, diagnostics);
    let mut wire = proto::HttpsListenerConfig {
        versions: tls_versions(section),
        cipher_list: section.texts("cipher_list"),
        cipher_suites: section.texts("cipher_suites"),
        groups_list: section.texts("groups_list"),
        send_tls13_tickets: section.integer("send_tls13_tickets").unwrap_or(SEND_TLS13_TICKETS_DEFAULT),
        alpn_protocols: section.texts("alpn_protocols"),
        strict_sni_binding: section.flag("strict_sni_binding"),
        disable_http11: section.flag("disable_http11"),
        hsts: section.table("hsts").and_then(|table| hsts(&table, diagnostics)),
        client_subject_header: section.text("client_subject_header").map(str::to_owned),
        max_early_data: number("max_early_data"),
        handshake_timeout: number("handshake_timeout"),
        max_handshakes_per_source: number("max_handshakes_per_source"),
        ..proto::HttpsListenerConfig::default()
    };
    if let Some(certificate) = &mut certificate {
        wire.certificate = Some(mem::take(&mut certificate.certificate));
        wire.certificate_chain = mem::take(&mut certificate.certificate_chain);
        wire.key = Some(mem::take(&mut certificate.key));
    }
    let authorities = files.texts(section, "client_ca_certificates", diagnostics);
    let lists = files.texts(section, "client_ca_crls", diagnostics);
    // Without a file that was reported, or files that are not looked at, there is nothing to judge.
    if let (Some(authorities), Some(lists), Some(_)) = (authorities, lists, files.read) {
        wire.client_auth = section.choice("client_auth").map(|mode| client_auth(mode).into());
        wire.client_ca_certificates = authorities;
        wire.client_ca_crls = lists;
    }
    wire
}

/// A TCP listener: `defaults`, and what the section says.
pub(super) fn tcp_listener(
    section: &Section<'_>,
    defaults: &proto::TcpListenerConfig,
    tls: Option<proto::HttpsListenerConfig>,
    diagnostics: &mut Diagnostics,
) -> proto::TcpListenerConfig {
    let number = |name: &str| section.integer(name).and_then(|value| u32::try_from(value).ok());
    let limits = limits::of_listener(section, diagnostics);
    proto::TcpListenerConfig {
        public_address: section.address("public_address").map(|address| address.value.into()),
        front_timeout: number("front_timeout").unwrap_or(defaults.front_timeout),
        back_timeout: number("back_timeout").unwrap_or(defaults.back_timeout),
        connect_timeout: number("connect_timeout").unwrap_or(defaults.connect_timeout),
        expect_proxy: section.flag("expect_proxy").unwrap_or_default(),
        expect_proxy_from: section.texts("expect_proxy_from"),
        sni_preread_timeout: number("sni_preread_timeout"),
        sni_preread_max_bytes: number("sni_preread_max_bytes"),
        interface: section.text("interface").map(str::to_owned),
        tls,
        rate_limits: limits.rate_limits,
        max_connections: limits.max_connections,
        max_connections_per_source: limits.max_connections_per_source,
        max_accept_rate: limits.max_accept_rate,
        over_limit: limits.over_limit,
        ..defaults.clone()
    }
}

/// What of [`tls`] a TCP listener has. The rest is reported where it is used.
pub(super) fn tls_of_tcp(
    section: &Section<'_>,
    files: PemFiles<'_>,
    diagnostics: &mut Diagnostics,
) -> proto::HttpsListenerConfig {
    proto::HttpsListenerConfig {
        strict_sni_binding: None,
        disable_http11: None,
        hsts: None,
        client_subject_header: None,
        max_early_data: None,
        ..tls(section, files, diagnostics)
    }
}

/// A frontend of a TCP listener.
pub(super) fn tcp_frontend(
    cluster_id: &str,
    address: SocketAddr,
    section: &Section<'_>,
) -> proto::RequestTcpFrontend {
    proto::RequestTcpFrontend {
        cluster_id: cluster_id.to_owned(),
        address: address.into(),
        tags: text_map(section, "tags"),
        sni: section.text("hostname").map(str::to_owned),
        alpn: section.texts("alpn"),
    }
}

/// `tls_versions` of a listener or frontend.
pub(super) fn tls_versions(section: &Section<'_>) -> Vec<i32> {
    let version = |name: &String| match name.as_str() {
        "SSL_V2" => proto::TlsVersion::SslV2,
        "SSL_V3" => proto::TlsVersion::SslV3,
        "TLS_V10" => proto::TlsVersion::TlsV10,
        "TLS_V11" => proto::TlsVersion::TlsV11,
        "TLS_V12" => proto::TlsVersion::TlsV12,
        _ => proto::TlsVersion::TlsV13,
    };
    section.texts("tls_versions").iter().map(|name| version(name).into()).collect()
}

/// `hsts` of a listener or frontend; none if it lacks what it needs, which is reported.
fn hsts(section: &Section<'_>, diagnostics: &mut Diagnostics) -> Option<proto::HstsConfig> {
    section.required("enabled", diagnostics)?;
    Some(proto::HstsConfig {
        enabled: section.flag("enabled"),
        max_age: section.integer("max_age").and_then(|value| u32::try_from(value).ok()),
        include_subdomains: section.flag("include_subdomains"),
        preload: section.flag("preload"),
        force_replace_backend: section.flag("force_replace_backend"),
    })
}

/// TLS to the backends of a cluster; none if nothing outside of the configuration is looked at.
fn backend_tls(
    section: &Section<'_>,
    files: PemFiles<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<proto::BackendTls> {
    files.read?;
    let mut file = |name: &str| match section.has(name) {
        true => files.text(section, name, Unreadable::Refused, diagnostics).map(Some),
        false => Some(None),
    };
    let (client_certificate, client_key) = (file("client_certificate"), file("client_key"));
    let authorities = files.texts(section, "ca_certificates", diagnostics);
    Some(proto::BackendTls {
        enabled: section.flag("enabled").unwrap_or(true),
        server_name: section.text("server_name").map(str::to_owned),
        ca_certificates: authorities?,
        skip_verification: section.flag("skip_verification"),
        client_certificate: client_certificate?,
        client_key: client_key?,
        alpn: section.texts("alpn"),
    })
}

/// A cluster, with the settings that later versions serve: they are kept.
pub(super) fn cluster(
    id: &str,
    section: &Section<'_>,
    answers: Answers<'_>,
    files: PemFiles<'_>,
    diagnostics: &mut Diagnostics,
) -> proto::Cluster {
    let number = |name: &str| section.integer(name).and_then(|value| u32::try_from(value).ok());
    let text = |name: &str| section.text(name).map(str::to_owned);
    proto::Cluster {
        cluster_id: id.to_owned(),
        sticky_session: section.flag("sticky_session").unwrap_or_default(),
        load_balancing: load_balancing(section.choice("load_balancing")).into(),
        load_metric: section.choice("load_metric").map(|metric| load_metric(metric).into()),
        https_redirect: section.flag("https_redirect").unwrap_or_default(),
        https_redirect_port: number("https_redirect_port"),
        answer_503: answers.of_cluster(section, diagnostics),
        answers: answers.newer(section, diagnostics),
        authorized_hashes: section.texts("authorized_hashes"),
        www_authenticate: text("www_authenticate"),
        max_connections_per_ip: section.integer("max_connections_per_ip"),
        max_connections_per_subnet: section.integer("max_connections_per_subnet"),
        retry_after: number("retry_after"),
        affinity_header: text("affinity_header"),
        affinity_cookie: text("affinity_cookie"),
        shard_percent: number("shard_percent"),
        shard_min_backends: number("shard_min_backends"),
        shard_mode: section.choice("shard_mode").map(|mode| shard_mode(mode).into()),
        max_connection_attempts: number("max_connection_attempts"),
        max_connections: number("max_connections"),
        max_connections_per_backend: number("max_connections_per_backend"),
        max_queue: number("max_queue"),
        queue_timeout_ms: number("queue_timeout_ms"),
        passive_health: section.table("passive_health").map(|table| health::passive_health(&table)),
        panic_threshold: number("panic_threshold"),
        retry_budget_percent: number("retry_budget_percent"),
        rate_limits: limits::rate_limits(section, diagnostics),
        proxy_protocol: (section.flag("send_proxy") == Some(true))
            .then_some(proto::ProxyProtocolConfig::SendHeader.into()),
        send_proxy_version: number("send_proxy_version"),
        tls: section.table("tls").and_then(|table| backend_tls(&table, files, diagnostics)),
        slow_start: number("slow_start"),
        sticky_secure: section.flag("sticky_secure"),
        sticky_http_only: section.flag("sticky_http_only"),
        sticky_same_site: section.choice("sticky_same_site").map(|site| same_site(site).into()),
        ..proto::Cluster::default()
    }
}

/// A frontend of an HTTP or HTTPS listener.
pub(super) fn http_frontend(
    cluster_id: &str,
    address: SocketAddr,
    hostname: &str,
    section: &Section<'_>,
    diagnostics: &mut Diagnostics,
) -> proto::RequestHttpFrontend {
    let text = |name: &str| section.text(name).map(str::to_owned);
    proto::RequestHttpFrontend {
        cluster_id: Some(cluster_id.to_owned()),
        address: address.into(),
        hostname: hostname.to_owned(),
        path: proto::PathRule {
            kind: path_kind(section.choice("path_type")).into(),
            value: section.text("path").unwrap_or_default().to_owned(),
        },
        method: text("method"),
        position: position(section.choice("position")).into(),
        tags: text_map(section, "tags"),
        redirect: section.choice("redirect").map(|what| redirect(what).into()),
        redirect_scheme: section.choice("redirect_scheme").map(|scheme| redirect_scheme(scheme).into()),
        redirect_template: text("redirect_template"),
        rewrite_host: text("rewrite_host"),
        rewrite_path: text("rewrite_path"),
        rewrite_port: section.integer("rewrite_port").and_then(|port| u32::try_from(port).ok()),
        required_auth: section.flag("required_auth"),
        hsts: section.table("hsts").and_then(|table| hsts(&table, diagnostics)),
        headers: section.tables("headers").iter().filter_map(|table| header(table, diagnostics)).collect(),
        header_predicates: section
            .tables("header_predicates")
            .iter()
            .filter_map(|table| header_predicate(table, diagnostics))
            .collect(),
    }
}

fn header(section: &Section<'_>, diagnostics: &mut Diagnostics) -> Option<proto::Header> {
    // All that is missing is told at once.
    let missing = ["position", "key", "value"].map(|name| section.required(name, diagnostics));
    missing.into_iter().collect::<Option<()>>()?;
    let position = match section.choice("position")? {
        "request" => proto::HeaderPosition::Request,
        "response" => proto::HeaderPosition::Response,
        _ => proto::HeaderPosition::Both,
    };
    Some(proto::Header {
        position: position.into(),
        key: section.text("key")?.to_owned(),
        val: section.text("value")?.to_owned(),
    })
}

fn header_predicate(section: &Section<'_>, diagnostics: &mut Diagnostics) -> Option<proto::HeaderPredicate> {
    let missing = ["name", "match"].map(|name| section.required(name, diagnostics));
    missing.into_iter().collect::<Option<()>>()?;
    let kind = match section.choice("match")? {
        "exact" => proto::HeaderMatchKind::Exact,
        "regex" => proto::HeaderMatchKind::Regex,
        _ => proto::HeaderMatchKind::Present,
    };
    Some(proto::HeaderPredicate {
        name: section.text("name")?.to_owned(),
        kind: kind.into(),
        value: section.text("value").map(str::to_owned),
    })
}

fn text_map(section: &Section<'_>, name: &str) -> BTreeMap<String, String> {
    section.text_map(name).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn forwarded(family: &str) -> proto::ForwardedHeaders {
    match family {
        "x_forwarded" => proto::ForwardedHeaders::XForwarded,
        "rfc7239" => proto::ForwardedHeaders::Rfc7239,
        "none" => proto::ForwardedHeaders::None,
        _ => proto::ForwardedHeaders::Both,
    }
}

fn client_auth(mode: &str) -> proto::ClientAuthMode {
    match mode {
        "optional" => proto::ClientAuthMode::ClientAuthOptional,
        "required" => proto::ClientAuthMode::ClientAuthRequired,
        _ => proto::ClientAuthMode::ClientAuthNone,
    }
}

fn trace_context(choice: &str) -> proto::TraceContext {
    match choice {
        "make" => proto::TraceContext::Make,
        _ => proto::TraceContext::Pass,
    }
}

fn path_kind(kind: Option<&str>) -> proto::PathRuleKind {
    match kind {
        Some("REGEX") => proto::PathRuleKind::Regex,
        Some("EQUALS") => proto::PathRuleKind::Equals,
        _ => proto::PathRuleKind::Prefix,
    }
}

/// Left out it is TREE: by specificity, as the documentation of the format promises. (Sōzu reads it as
/// PRE, so that which of two frontends wins depends on the order of a hash map.)
fn position(position: Option<&str>) -> proto::RulePosition {
    match position {
        Some("PRE") => proto::RulePosition::Pre,
        Some("POST") => proto::RulePosition::Post,
        _ => proto::RulePosition::Tree,
    }
}

fn redirect(redirect: &str) -> proto::RedirectPolicy {
    match redirect {
        "permanent" => proto::RedirectPolicy::Permanent,
        "found" => proto::RedirectPolicy::Found,
        "permanent_redirect" => proto::RedirectPolicy::PermanentRedirect,
        "unauthorized" => proto::RedirectPolicy::Unauthorized,
        "silent_close" => proto::RedirectPolicy::SilentClose,
        _ => proto::RedirectPolicy::Forward,
    }
}

fn redirect_scheme(scheme: &str) -> proto::RedirectScheme {
    match scheme {
        "use-http" => proto::RedirectScheme::UseHttp,
        "use-https" => proto::RedirectScheme::UseHttps,
        _ => proto::RedirectScheme::UseSame,
    }
}

fn load_balancing(algorithm: Option<&str>) -> proto::LoadBalancingAlgorithms {
    algorithm.and_then(proto::LoadBalancingAlgorithms::from_str_name).unwrap_or_default()
}

fn load_metric(metric: &str) -> proto::LoadMetric {
    proto::LoadMetric::from_str_name(metric).unwrap_or_default()
}

fn same_site(site: &str) -> proto::SameSite {
    match site {
        "STRICT" => proto::SameSite::Strict,
        "LAX" => proto::SameSite::Lax,
        _ => proto::SameSite::None,
    }
}

fn shard_mode(mode: &str) -> proto::ShardMode {
    proto::ShardMode::from_str_name(mode).unwrap_or_default()
}
