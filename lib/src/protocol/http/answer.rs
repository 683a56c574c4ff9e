//! The answers we write ourselves, when there is no backend's to pass on.
//!
//! Built in: an HTML page with a JSON block for machines. Everything echoed is escaped, for JSON and then for HTML,
//! and cut to a bound. Always with `Content-Length`, so that an answer alone never costs a connection.

use std::fmt::{self, Write};

use super::reason_phrase;
use crate::protocol::h1::error::HeadTooLarge;
use crate::protocol::h1::write::HeadWriter;

/// Most bytes of each echoed text, before escaping.
const ECHO_BYTES_MAX: usize = 160;

/// Space that holds any answer without its details, given header names and a location of at most 256 bytes.
pub const ANSWER_BYTES_MIN: usize = 1024;

/// An answer to one request.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// What was asked for, as `host/path`; empty if unknown.
    pub route: &'a str,
    /// Our id for the request.
    pub request_id: &'a str,
    /// The cluster that was to serve it.
    pub cluster_id: Option<&'a str>,
    /// The backend that was to serve it.
    pub backend_id: Option<&'a str>,
    /// What went wrong, for a human; may be empty.
    pub message: &'a str,
    /// `Location` of a redirect. Must be free of control characters; if it is not, it is left out.
    pub location: Option<&'a str>,
    /// Whether the connection is closed after it.
    pub close: bool,
    /// Whether to leave out the body, as for `HEAD` (RFC 9110 §9.3.2).
    pub head_only: bool,
}

impl<'a> Answer<'a> {
    /// An answer with a status and nothing else, that closes the connection.
    pub fn new(status: u16, request_id: &'a str) -> Answer<'a> {
        Answer {
            status,
            route: "",
            request_id,
            cluster_id: None,
            backend_id: None,
            message: "",
            location: None,
            close: true,
            head_only: false,
        }
    }
}

/// Writes an answer; returns its length. Details are left out if `out` is short; with less than
/// [`ANSWER_BYTES_MIN`] bytes it may be 0: nothing was written.
pub fn write_answer(out: &mut [u8], answer: &Answer<'_>, sozu_id_header: &str) -> usize {
    for detail in [Detail::Full, Detail::StatusOnly, Detail::NoBody] {
        if let Ok(length) = try_write(out, answer, sozu_id_header, detail) {
            return length;
        }
    }
    0
}

/// How much of an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Full,
    StatusOnly,
    NoBody,
}

fn try_write(
    out: &mut [u8],
    answer: &Answer<'_>,
    sozu_id_header: &str,
    detail: Detail,
) -> Result<usize, HeadTooLarge> {
    let mut out = HeadWriter::new(out);
    let reason = reason_phrase(answer.status);
    let body = Body { answer, reason, detail };
    let mut length = Counter(0);
    write!(length, "{body}").map_err(|fmt::Error| HeadTooLarge)?;

    out.formatted(format_args!("HTTP/1.1 {:03} {reason}\r\n", answer.status))?;
    if !(300..400).contains(&answer.status) {
        out.field("Cache-Control", b"no-cache")?;
    }
    if let Some(location) = answer.location.filter(|text| !text.bytes().any(|byte| byte.is_ascii_control())) {
        out.field("Location", location.as_bytes())?;
    }
    out.field("Content-Type", b"text/html; charset=utf-8")?;
    out.formatted_field("Content-Length", format_args!("{}", length.0))?;
    if answer.close {
        out.field("Connection", b"close")?;
    }
    out.field(sozu_id_header, answer.request_id.as_bytes())?;
    out.push(b"\r\n")?;
    if !answer.head_only {
        out.formatted(format_args!("{body}"))?;
    }
    Ok(out.len())
}

/// The page, formatted twice: once to count it, once to write it.
struct Body<'a> {
    answer: &'a Answer<'a>,
    reason: &'static str,
    detail: Detail,
}

impl fmt::Display for Body<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Body { answer, reason, detail } = self;
        let status = answer.status;
        if *detail == Detail::NoBody {
            return Ok(());
        }
        write!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{status} {reason}</title></head>\n\
             <body><h1>{status} {reason}</h1>\n<pre>\n{{\n  \"status_code\": {status}"
        )?;
        if *detail == Detail::Full {
            member(out, "route", Some(answer.route))?;
            member(out, "request_id", Some(answer.request_id))?;
            if status == 429 || status >= 500 {
                member(out, "cluster_id", answer.cluster_id)?;
                member(out, "backend_id", answer.backend_id)?;
            }
            member(out, "message", Some(answer.message).filter(|message| !message.is_empty()))?;
        }
        out.write_str("\n}\n</pre></body></html>\n")
    }
}

fn member(out: &mut fmt::Formatter<'_>, name: &str, value: Option<&str>) -> fmt::Result {
    match value {
        Some(value) => write!(out, ",\n  \"{name}\": \"{}\"", Escaped(value)),
        None => Ok(()),
    }
}

/// Text inside a JSON string inside HTML, cut to [`ECHO_BYTES_MAX`]. Everything with a meaning in either becomes
/// a JSON escape, which means nothing to HTML, so the block parses as JSON even when copied from the page's source.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, character) in self.0.char_indices() {
            if at + character.len_utf8() > ECHO_BYTES_MAX {
                return out.write_str("...");
            }
            match character {
                '"' | '\\' | '<' | '>' | '&' | '\'' => write!(out, "\\u{:04x}", u32::from(character))?,
                _ if character.is_control() => write!(out, "\\u{:04x}", u32::from(character))?,
                _ => out.write_char(character)?,
            }
        }
        Ok(())
    }
}

struct Counter(usize);

impl Write for Counter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}
