//! Sōzu's lines.
//!
//! ```text
//! <time> <unix ns> <pid> INFO-ACCESS <TAG>\t[<session> <request> <cluster> <backend>] <client> <backend address>
//! <request>/<service>/<response>/<client rtt>/<server rtt> <bytes in> <bytes out> [<tags>, user-agent=…] <otel>
//! <protocol> <authority> <method> <path> <status> | <message>
//! ```
//! in one line; `-` stands for what is not known.

use std::time::Duration;

use super::out::{Out, bytes_max, escape_control};
use super::time::Clock;
use super::{Http, Record};

/// Who writes.
pub(super) struct From<'a> {
    pub(super) pid: u32,
    pub(super) tag: &'a str,
    pub(super) colored: bool,
}

pub(super) fn write(out: &mut Out<'_>, record: &Record<'_>, clock: &mut Clock, from: &From<'_>) {
    clock.write(out);
    out.raw(" ");
    out.number(clock.now());
    out.raw(" ");
    out.number(from.pid.into());
    let level = if record.failed { "ERROR-ACCESS" } else { "INFO-ACCESS" };
    let (before, after) = match (from.colored, record.failed) {
        (false, _) => (" ", " "),
        (true, true) => (" \x1b[31m", "\x1b[0m "),
        (true, false) => (" \x1b[32m", "\x1b[0m "),
    };
    out.raw(before);
    out.raw(level);
    out.raw(after);
    out.raw(from.tag);
    out.raw("\t[");
    out.raw(record.session_id.as_bytes());
    out.raw(" ");
    out.raw(record.request_id.as_bytes());
    out.raw(" ");
    word(out, record.cluster.as_bytes(), bytes_max::NAME);
    out.raw(" ");
    word(out, record.backend.as_bytes(), bytes_max::NAME);
    out.raw("] ");
    match record.client.port() == 0 && record.client.ip().is_unspecified() {
        true => out.raw("-"),
        false => out.address(record.client),
    }
    out.raw(" ");
    match record.backend_address {
        Some(address) => out.address(address),
        None => out.raw("-"),
    }
    out.raw(" ");
    for time in [Some(record.request_time), record.service_time, record.response_time] {
        duration(out, time);
        out.raw("/");
    }
    // Round trips are not measured.
    out.raw("-/- ");
    out.number(record.bytes_in);
    out.raw(" ");
    out.number(record.bytes_out);
    out.raw(" [");
    let http = record.http.unwrap_or_default();
    let tags_at = out.0.len();
    for (key, value) in record.tags.into_iter().flatten() {
        let left = bytes_max::TAGS.saturating_sub(out.0.len() - tags_at);
        if left < key.len() + 8 {
            break;
        }
        if out.0.len() > tags_at {
            out.raw(", ");
        }
        out.text(key.as_bytes(), left / 2, escape_word);
        out.raw("=");
        out.text(value.as_bytes(), left / 2, escape_word);
    }
    if !http.user_agent.is_empty() {
        if out.0.len() > tags_at {
            out.raw(", ");
        }
        out.raw("user-agent=");
        out.text(http.user_agent, bytes_max::USER_AGENT, escape_word);
    }
    if out.0.len() == tags_at {
        out.raw("-");
    }
    // No traces are kept: OpenTelemetry is Sōzu's.
    out.raw("] None ");
    out.raw(record.protocol);
    let Http { method, host, path, status, .. } = http;
    for (text, most) in [(host, bytes_max::HOST), (method, bytes_max::METHOD), (path, bytes_max::PATH)] {
        out.raw(" ");
        word(out, text, most);
    }
    out.raw(" ");
    match status {
        Some(status) => out.number(status.into()),
        None => out.raw("-"),
    }
    if !record.message.is_empty() {
        out.raw(" | ");
        out.text(record.message.as_bytes(), bytes_max::MESSAGE, escape_control);
    }
    out.raw("\n");
}

/// A text without spaces; `-` if there is none.
fn word(out: &mut Out<'_>, text: &[u8], bytes_max: usize) {
    if text.is_empty() {
        return out.raw("-");
    }
    out.text(text, bytes_max, escape_word);
}

fn escape_word(out: &mut Out<'_>, character: char) -> bool {
    if character == ' ' {
        out.raw("_");
        return true;
    }
    escape_control(out, character)
}

/// In µs below 10 ms, in ms below 10 s, else in seconds.
fn duration(out: &mut Out<'_>, time: Option<Duration>) {
    let Some(time) = time else { return out.raw("-") };
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (number, unit) = match micros {
        0..10_000 => (micros, "µs"),
        10_000..10_000_000 => (micros / 1_000, "ms"),
        _ => (micros / 1_000_000, "s"),
    };
    out.number(number);
    out.raw(unit);
}
