//! Frontends as tables, one for each kind of listener.

use kakehi_command::proto::{
    HeaderMatchKind, HeaderPredicate, ListedFrontends, PathRule, PathRuleKind, RedirectPolicy,
    RequestHttpFrontend, RulePosition,
};

use super::super::table::Table;
use super::super::values::{address_text, tags_text};

/// One table for each kind that has frontends.
pub(in super::super) fn render(list: &ListedFrontends, width: Option<usize>) -> String {
    let mut out = String::new();
    let mut section = |title: &str, table: &Table| {
        if !table.is_empty() {
            out.push_str(title);
            out.push('\n');
            out.push_str(&table.render(width));
        }
    };
    section("HTTP frontends", &http_table(&list.http_frontends));
    section("HTTPS frontends", &http_table(&list.https_frontends));
    let mut tcp = Table::new(["cluster id", "address", "sni", "alpn", "tags"]);
    for front in &list.tcp_frontends {
        tcp.row([
            front.cluster_id.clone(),
            address_text(&front.address),
            front.sni.clone().unwrap_or_default(),
            front.alpn.join(", "),
            tags_text(&front.tags),
        ]);
    }
    section("TCP frontends", &tcp);
    let mut udp = Table::new(["cluster id", "address", "tags"]);
    for front in &list.udp_frontends {
        udp.row([front.cluster_id.clone(), address_text(&front.address), tags_text(&front.tags)]);
    }
    section("UDP frontends", &udp);
    if out.is_empty() { "no frontend\n".to_owned() } else { out }
}

fn http_table(fronts: &[RequestHttpFrontend]) -> Table {
    let mut table = Table::new([
        "cluster_id",
        "address",
        "hostname",
        "path",
        "method",
        "position",
        "header_predicates",
        "tags",
    ]);
    for front in fronts {
        let position =
            RulePosition::try_from(front.position).map_or("UNKNOWN", |position| position.as_str_name());
        let predicates: Vec<String> = front.header_predicates.iter().map(predicate_text).collect();
        table.row([
            front.cluster_id.clone().unwrap_or_else(|| without_cluster(front).to_owned()),
            address_text(&front.address),
            front.hostname.clone(),
            path_text(&front.path),
            front.method.clone().unwrap_or_default(),
            position.to_owned(),
            predicates.join(", "),
            tags_text(&front.tags),
        ]);
    }
    table
}

/// What happens to requests that go to no cluster.
fn without_cluster(front: &RequestHttpFrontend) -> &'static str {
    match front.redirect() {
        RedirectPolicy::Forward | RedirectPolicy::Unauthorized => "Deny",
        RedirectPolicy::Permanent | RedirectPolicy::Found | RedirectPolicy::PermanentRedirect => "Redirect",
        RedirectPolicy::SilentClose => "Close",
    }
}

/// A path rule in a few characters: `/prefix*`, `= /path`, `~ regex`.
pub(in super::super) fn path_text(path: &PathRule) -> String {
    match PathRuleKind::try_from(path.kind) {
        Ok(PathRuleKind::Prefix) => format!("{}*", path.value),
        Ok(PathRuleKind::Equals) => format!("= {}", path.value),
        Ok(PathRuleKind::Regex) => format!("~ {}", path.value),
        Err(_) => format!("? {}", path.value),
    }
}

fn predicate_text(predicate: &HeaderPredicate) -> String {
    let HeaderPredicate { name, kind, value } = predicate;
    let value = value.as_deref().unwrap_or_default();
    match HeaderMatchKind::try_from(*kind) {
        Ok(HeaderMatchKind::Exact) => format!("{name} = {value}"),
        Ok(HeaderMatchKind::Regex) => format!("{name} ~ {value}"),
        Ok(HeaderMatchKind::Present) => name.clone(),
        Err(_) => format!("{name} ? {value}"),
    }
}
