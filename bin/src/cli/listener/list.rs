//! Listeners as tables. Keys and certificates are never shown.

use kakehi_command::proto::{
    ForwardedHeaders, HttpListenerConfig, HttpsListenerConfig, ListenersList, SocketAddress,
};

use super::super::table::Table;
use super::super::values::address_text;

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
    let mut tcp = Table::new(SIMPLE_HEAD);
    for listener in list.tcp_listeners.values() {
        tcp.row([
            address(&listener.address, listener.interface.as_ref()),
            optional_address(listener.public_address.as_ref()),
            seconds(listener.front_timeout),
            seconds(listener.back_timeout),
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
    table
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
    table
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

fn seconds(count: u32) -> String {
    format!("{count} s")
}
