//! Listeners as tables. Keys and certificates are never shown.

use std::collections::BTreeSet;

use kakehi_command::proto::{
    ClientAuthMode, ForwardedHeaders, HttpListenerConfig, HttpsListenerConfig, ListenersList, OverLimit,
    SocketAddress, TraceContext,
};

use super::super::table::Table;
use super::super::values::{address_text, rate_limit_text};

/// What limits a listener of any kind: names and values of those that are set.
macro_rules! limits {
    ($listener:expr) => {{
        let listener = $listener;
        let rates = listener.rate_limits.as_ref().map(|rates| rates.values.as_slice()).unwrap_or_default();
        let rates: Vec<String> = rates.iter().map(rate_limit_text).collect();
        let closes = listener.over_limit.map(|_| match listener.over_limit() {
            OverLimit::Close => "close".to_owned(),
            OverLimit::Answer => "answer".to_owned(),
        });
        [
            ("expect proxy from", text_of(&listener.expect_proxy_from)),
            ("max connections", listener.max_connections.map(|value| value.to_string())),
            (
                "max connections per source",
                listener.max_connections_per_source.map(|value| value.to_string()),
            ),
            ("max accept rate", listener.max_accept_rate.map(|value| format!("{value} a second"))),
            ("rate limits", text_of(&rates)),
            ("over limit", closes),
        ]
    }};
}

/// A table for each HTTP and HTTPS listener, and one for all of each other kind.
pub(in super::super) fn render(list: &ListenersList, width: Option<usize>) -> String {
    let mut out = String::new();
    if !list.http_listeners.is_empty() {
        out.push_str("HTTP LISTENERS\n");
        list.http_listeners.values().for_each(|listener| out.push_str(&http_table(listener).render(width)));
    }
    if !list.https_listeners.is_empty() {
        out.push_str("HTTPS LISTENERS\n");
        list.https_listeners.values().for_each(|listener| out.push_str(&https_table(listener).render(width)));
    }
    let mut tcp = Table::new(TCP_HEAD);
    for listener in list.tcp_listeners.values() {
        tcp.row([
            address(&listener.address, listener.interface.as_ref()),
            optional_address(listener.public_address.as_ref()),
            seconds(listener.front_timeout),
            seconds(listener.back_timeout),
            seconds(listener.connect_timeout),
            listener.tls.as_ref().map_or("passed on", ended).to_owned(),
            in_a_line(limits!(listener)),
            listener.active.to_string(),
        ]);
    }
    let mut udp = Table::new(SIMPLE_HEAD);
    for listener in list.udp_listeners.values() {
        udp.row([
            address(&listener.address, listener.interface.as_ref()),
            optional_address(listener.public_address.as_ref()),
            seconds(listener.front_timeout),
            seconds(listener.back_timeout),
            listener.active.to_string(),
        ]);
    }
    for (title, table) in [("TCP LISTENERS\n", tcp), ("UDP LISTENERS\n", udp)] {
        if !table.is_empty() {
            out.push_str(title);
            out.push_str(&table.render(width));
        }
    }
    if out.is_empty() { "no listener\n".to_owned() } else { out }
}

/// How TLS ends at a TCP listener, in a few words; the whole is in the JSON form.
fn ended(tls: &HttpsListenerConfig) -> &'static str {
    match (tls.certificate.is_some(), tls.client_auth()) {
        (_, ClientAuthMode::ClientAuthRequired) => "ends, clients have certificates",
        (true, _) => "ends, own certificate",
        (false, _) => "ends",
    }
}

const TCP_HEAD: [&str; 8] = [
    "address",
    "public address",
    "front timeout",
    "back timeout",
    "connect timeout",
    "tls",
    "limits",
    "active",
];
const SIMPLE_HEAD: [&str; 5] = ["address", "public address", "front timeout", "back timeout", "active"];

fn http_table(listener: &HttpListenerConfig) -> Table {
    let mut table = Table::untitled();
    table.row(["address", &address(&listener.address, listener.interface.as_ref())]);
    table.row(["active", &listener.active.to_string()]);
    table.row(["public address", &optional_address(listener.public_address.as_ref())]);
    table.row(["expect proxy", &listener.expect_proxy.to_string()]);
    table.row(["front timeout", &seconds(listener.front_timeout)]);
    table.row(["back timeout", &seconds(listener.back_timeout)]);
    table.row(["connect timeout", &seconds(listener.connect_timeout)]);
    table.row(["request timeout", &seconds(listener.request_timeout)]);
    table.row(["forwarded headers", forwarded(listener.forwarded_headers)]);
    table.row(["sticky name", &listener.sticky_name]);
    optional(&mut table, "sozu id header", listener.sozu_id_header.as_ref());
    optional(&mut table, "elide X-Real-IP", listener.elide_x_real_ip.as_ref());
    optional(&mut table, "send X-Real-IP", listener.send_x_real_ip.as_ref());
    let trusted = Some(listener.trusted_proxies.join(", ")).filter(|trusted| !trusted.is_empty());
    optional(&mut table, "trusted proxies", trusted.as_ref());
    let trace = listener.trace_context.map(|_| trace(listener.trace_context()));
    optional(&mut table, "trace context", trace.as_ref());
    optional(&mut table, "tunnel timeout", listener.tunnel_timeout.map(seconds).as_ref());
    optional(&mut table, "max request line", listener.max_request_line.as_ref());
    optional(&mut table, "max body bytes", listener.max_body_bytes.as_ref());
    optional(&mut table, "min transfer rate", listener.min_transfer_rate.as_ref());
    limited(&mut table, &limits!(listener));
    let answers = Some(answered(listener)).filter(|answers| !answers.is_empty());
    optional(&mut table, "answers", answers.as_ref());
    table
}

/// The status codes with an answer of the operator's own.
fn answered(listener: &HttpListenerConfig) -> String {
    let older = listener.http_answers.clone().unwrap_or_default();
    let older = [
        ("301", older.answer_301),
        ("400", older.answer_400),
        ("401", older.answer_401),
        ("404", older.answer_404),
        ("408", older.answer_408),
        ("413", older.answer_413),
        ("421", older.answer_421),
        ("429", older.answer_429),
        ("502", older.answer_502),
        ("503", older.answer_503),
        ("504", older.answer_504),
        ("507", older.answer_507),
    ];
    let older = older.iter().filter(|(_, text)| text.is_some()).map(|(code, _)| *code);
    let codes: BTreeSet<_> = listener.answers.keys().map(String::as_str).chain(older).collect();
    codes.into_iter().collect::<Vec<_>>().join(", ")
}

fn https_table(listener: &HttpsListenerConfig) -> Table {
    let mut table = Table::untitled();
    table.row(["address", &address(&listener.address, listener.interface.as_ref())]);
    table.row(["active", &listener.active.to_string()]);
    table.row(["public address", &optional_address(listener.public_address.as_ref())]);
    table.row(["expect proxy", &listener.expect_proxy.to_string()]);
    table.row(["front timeout", &seconds(listener.front_timeout)]);
    table.row(["back timeout", &seconds(listener.back_timeout)]);
    table.row(["connect timeout", &seconds(listener.connect_timeout)]);
    table.row(["request timeout", &seconds(listener.request_timeout)]);
    table.row(["forwarded headers", forwarded(listener.forwarded_headers)]);
    table.row(["sticky name", &listener.sticky_name]);
    table.row(["alpn protocols", &listener.alpn_protocols.join(", ")]);
    table.row(["cipher list", &listener.cipher_list.join(", ")]);
    let versions: Vec<_> = listener.versions().map(|version| version.as_str_name()).collect();
    listed(&mut table, "tls versions", &versions.join(", "));
    listed(&mut table, "groups list", &listener.groups_list.join(", "));
    table.row(["tls 1.3 tickets", &listener.send_tls13_tickets.to_string()]);
    let strict = listener.strict_sni_binding != Some(false);
    table.row(["strict sni binding", &strict.to_string()]);
    table.row(["own certificate", if listener.certificate.is_some() { "yes" } else { "none" }]);
    if listener.client_auth.is_some_and(|mode| mode != i32::from(ClientAuthMode::ClientAuthNone)) {
        let required = listener.client_auth() == ClientAuthMode::ClientAuthRequired;
        table.row(["client certificates", if required { "required" } else { "optional" }]);
    }
    optional(&mut table, "client subject header", listener.client_subject_header.as_ref());
    optional(&mut table, "max early data", listener.max_early_data.as_ref());
    optional(&mut table, "handshake timeout", listener.handshake_timeout.map(seconds).as_ref());
    optional(&mut table, "max handshakes per source", listener.max_handshakes_per_source.as_ref());
    let trusted = Some(listener.trusted_proxies.join(", ")).filter(|trusted| !trusted.is_empty());
    optional(&mut table, "trusted proxies", trusted.as_ref());
    optional(&mut table, "tunnel timeout", listener.tunnel_timeout.map(seconds).as_ref());
    optional(&mut table, "max request line", listener.max_request_line.as_ref());
    optional(&mut table, "max body bytes", listener.max_body_bytes.as_ref());
    optional(&mut table, "min transfer rate", listener.min_transfer_rate.as_ref());
    limited(&mut table, &limits!(listener));
    table
}

fn limited(table: &mut Table, limits: &[(&str, Option<String>); 6]) {
    limits.iter().for_each(|(name, value)| optional(table, name, value.as_ref()));
}

/// Those that are set, for one cell.
fn in_a_line(limits: [(&str, Option<String>); 6]) -> String {
    let set = limits.into_iter().filter_map(|(name, value)| Some(format!("{name}: {}", value?)));
    set.collect::<Vec<_>>().join("; ")
}

/// `None` if there are none.
fn text_of(values: &[String]) -> Option<String> {
    (!values.is_empty()).then(|| values.join(", "))
}

fn listed(table: &mut Table, name: &str, values: &str) {
    optional(table, name, Some(values).filter(|values| !values.is_empty()).as_ref());
}

fn optional(table: &mut Table, name: &str, value: Option<&impl ToString>) {
    if let Some(value) = value {
        table.row([name.to_owned(), value.to_string()]);
    }
}

fn address(address: &SocketAddress, interface: Option<&String>) -> String {
    let interface = interface.map(|interface| format!("%{interface}"));
    address_text(address) + interface.as_deref().unwrap_or_default()
}

fn optional_address(address: Option<&SocketAddress>) -> String {
    address.map(address_text).unwrap_or_default()
}

/// As the configuration file spells it.
fn forwarded(family: Option<i32>) -> &'static str {
    match family.map_or(Ok(ForwardedHeaders::Both), ForwardedHeaders::try_from) {
        Ok(ForwardedHeaders::Both) => "both",
        Ok(ForwardedHeaders::XForwarded) => "x_forwarded",
        Ok(ForwardedHeaders::Rfc7239) => "rfc7239",
        Ok(ForwardedHeaders::None) => "none",
        Err(_) => "unknown",
    }
}

/// As the configuration file spells it.
fn trace(context: TraceContext) -> &'static str {
    match context {
        TraceContext::Pass => "pass",
        TraceContext::Make => "make",
    }
}

fn seconds(count: u32) -> String {
    format!("{count} s")
}
