//! Limits of listeners and clusters as messages of the protocol.

use super::diagnostic::Diagnostics;
use super::file::Section;
use crate::proto;

/// `rate_limits` of a listener or cluster. What lacks something is reported and left out.
pub(super) fn rate_limits(section: &Section<'_>, diagnostics: &mut Diagnostics) -> Vec<proto::RateLimit> {
    section.tables("rate_limits").iter().filter_map(|table| rate_limit(table, diagnostics)).collect()
}

fn rate_limit(section: &Section<'_>, diagnostics: &mut Diagnostics) -> Option<proto::RateLimit> {
    // All that is missing is told at once.
    let missing = ["key", "rate"].map(|name| section.required(name, diagnostics));
    missing.into_iter().collect::<Option<()>>()?;
    let number = |name: &str| section.integer(name).and_then(|value| u32::try_from(value).ok());
    Some(proto::RateLimit {
        key: section.text("key")?.to_owned(),
        rate: number("rate")?,
        burst: number("burst"),
    })
}

/// What a listener says of its limits.
#[derive(Default)]
pub(super) struct Limits {
    pub(super) rate_limits: Option<proto::RateLimits>,
    pub(super) max_connections: Option<u64>,
    pub(super) max_connections_per_source: Option<u64>,
    pub(super) max_accept_rate: Option<u32>,
    pub(super) over_limit: Option<i32>,
}

pub(super) fn of_listener(section: &Section<'_>, diagnostics: &mut Diagnostics) -> Limits {
    let values = rate_limits(section, diagnostics);
    let over = section.choice("over_limit").map(|choice| match choice {
        "close" => proto::OverLimit::Close,
        _ => proto::OverLimit::Answer,
    });
    Limits {
        rate_limits: (!values.is_empty()).then_some(proto::RateLimits { values }),
        max_connections: section.integer("max_connections"),
        max_connections_per_source: section.integer("max_connections_per_source"),
        max_accept_rate: section.integer("max_accept_rate").and_then(|rate| u32::try_from(rate).ok()),
        over_limit: over.map(i32::from),
    }
}
