//! Sōzu's lines.
//!
//! ```text
//! <time> <unix ns> <pid> INFO-ACCESS <TAG>\t[<session> <request> <cluster> <backend>] <client> <backend address>
//! <request>/<service>/<response>/<client rtt>/<server rtt> <bytes in> <bytes out> [<tags>, user-agent=…] <otel>
//! <protocol> <authority> <method> <path> <status> | <message>
//! ```
//! in one line; `-` stands for what is not known.

use super::out::{Escaping, Out, bytes_max, escape_control};
use super::time::Clock;
use super::{Http, Record};

/// Fields between spaces.
const WORD: Escaping = Escaping { escape: escape_control, space: b'_' };

/// A field at the end of a line.
const LINE: Escaping = Escaping { escape: escape_control, space: b' ' };

/// What stands between the time and the ids: made once.
#[derive(Debug)]
pub(super) struct Heading {
    good: Box<[u8]>,
    failed: Box<[u8]>,
}

impl Heading {
    /// Of a process.
    pub(super) fn new(pid: u32, tag: &str, colored: bool) -> Self {
        let with = |level: &str, colour: &str| {
            let (before, after) = if colored { (colour, "\x1b[0m") } else { ("", "") };
            format!(" {pid} {before}{level}{after} {tag}\t[").into_bytes().into()
        };
        Self { good: with("INFO-ACCESS", "\x1b[32m"), failed: with("ERROR-ACCESS", "\x1b[31m") }
    }
}

pub(super) fn write(out: &mut Out<'_>, record: &Record<'_>, clock: &Clock, heading: &Heading) {
    clock.write_both(out);
    out.raw(if record.failed { &heading.failed } else { &heading.good });
    out.raw(record.session_id.as_bytes());
    out.raw(b" ");
    out.raw(record.request_id.as_bytes());
    out.raw(b" ");
    word(out, record.cluster.as_bytes(), bytes_max::NAME);
    out.raw(b" ");
    word(out, record.backend.as_bytes(), bytes_max::NAME);
    out.raw(b"] ");
    match record.client.port() == 0 && record.client.ip().is_unspecified() {
        true => out.raw(b"-"),
        false => out.address(record.client),
    }
    out.raw(b" ");
    match record.backend_address {
        Some(address) => out.address(address),
        None => out.raw(b"-"),
    }
    out.raw(b" ");
    for time in [Some(record.request_time), record.service_time, record.response_time] {
        duration(out, time);
        out.raw(b"/");
    }
    // Round trips are not measured.
    out.raw(b"-/- ");
    out.number(record.bytes_in);
    out.raw(b" ");
    out.number(record.bytes_out);
    out.raw(b" [");
    let http = record.http.unwrap_or_default();
    let tags_at = out.len();
    for (key, value) in record.tags.into_iter().flatten() {
        let left = bytes_max::TAGS.saturating_sub(out.len() - tags_at);
        if left < key.len() + 8 {
            break;
        }
        if out.len() > tags_at {
            out.raw(b", ");
        }
        out.text(key.as_bytes(), left / 2, &WORD);
        out.raw(b"=");
        out.text(value.as_bytes(), left / 2, &WORD);
    }
    if !http.user_agent.is_empty() {
        if out.len() > tags_at {
            out.raw(b", ");
        }
        out.raw(b"user-agent=");
        out.text(http.user_agent, bytes_max::USER_AGENT, &WORD);
    }
    if out.len() == tags_at {
        out.raw(b"-");
    }
    match http.trace {
        Some(trace) => {
            out.raw(b"] ");
            out.trace_id(trace.trace_id);
            out.raw(b"-");
            out.span_id(trace.span_id);
            out.raw(b" ");
        }
        None => out.raw(b"] None "),
    }
    out.raw(record.protocol);
    let Http { method, host, path, status, .. } = http;
    for (text, most) in [(host, bytes_max::HOST), (method, bytes_max::METHOD), (path, bytes_max::PATH)] {
        out.raw(b" ");
        word(out, text, most);
    }
    out.raw(b" ");
    match status {
        Some(status) => out.number(status.into()),
        None => out.raw(b"-"),
    }
    if !record.message.is_empty() {
        out.raw(b" | ");
        out.text(record.message.as_bytes(), bytes_max::MESSAGE, &LINE);
    }
    out.raw(b"\n");
}

/// A text without spaces; `-` if there is none.
fn word(out: &mut Out<'_>, text: &[u8], bytes_max: usize) {
    if text.is_empty() {
        return out.raw(b"-");
    }
    out.text(text, bytes_max, &WORD);
}

/// In µs below 10 ms, in ms below 10 s, else in seconds.
fn duration(out: &mut Out<'_>, micros: Option<u64>) {
    let Some(micros) = micros else { return out.raw(b"-") };
    let (number, unit) = match micros {
        0..10_000 => (micros, "µs"),
        10_000..10_000_000 => (micros / 1_000, "ms"),
        _ => (micros / 1_000_000, "s"),
    };
    out.number(number);
    out.raw(unit);
}
