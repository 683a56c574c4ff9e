//! The answers we write ourselves, when there is no backend's to pass on.
//!
//! Built in: an HTML page with a JSON block for machines. Everything echoed is escaped, for JSON
//! and then for HTML, and cut to a bound. Always with `Content-Length`, so that an answer alone
//! never costs a connection.

use std::fmt::{self, Write};

use kakehi_command::order::Hsts;

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
    /// `WWW-Authenticate` of a 401; likewise.
    pub challenge: Option<&'a str>,
    /// `Retry-After`, in seconds (RFC 9110 §10.2.3).
    pub retry_after: Option<u32>,
    /// The policy that clients are told (RFC 6797).
    pub hsts: Option<&'a Hsts>,
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
            challenge: None,
            retry_after: None,
            hsts: None,
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
    if let Some(hsts) = answer.hsts {
        out.formatted_field("Strict-Transport-Security", format_args!("{hsts}"))?;
    }
    for (name, value) in [("Location", answer.location), ("WWW-Authenticate", answer.challenge)] {
        if let Some(value) = value.filter(|text| !text.bytes().any(|byte| byte.is_ascii_control())) {
            out.field(name, value.as_bytes())?;
        }
    }
    if let Some(seconds) = answer.retry_after {
        out.formatted_field("Retry-After", format_args!("{seconds}"))?;
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
            "<!DOCTYPE html>\n<html lang=\"en\">\n\
             <head><meta charset=\"utf-8\"><title>{status} {reason}</title></head>\n\
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

/// Text inside a JSON string inside HTML, cut to [`ECHO_BYTES_MAX`]. Everything with a meaning in
/// either becomes a JSON escape, which means nothing to HTML, so the block parses as JSON even when
/// copied from the page's source.
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

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    /// Writes an answer into `space` bytes; head and body apart, both empty if nothing was written.
    fn write(answer: &Answer<'_>, space: usize) -> (String, String) {
        let mut out = vec![0; space];
        let length = write_answer(&mut out, answer, "Sozu-Id");
        let text = String::from_utf8(out[..length].to_vec()).unwrap();
        text.split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned())).unwrap_or_default()
    }

    fn json(body: &str) -> &str {
        body.split_once("<pre>\n").unwrap().1.split_once("\n</pre>").unwrap().0
    }

    #[test]
    fn the_head_says_what_the_client_needs() {
        let (head, body) = write(&Answer { close: false, ..Answer::new(404, ID) }, 4096);
        assert_eq!(
            head,
            format!(
                "HTTP/1.1 404 Not Found\r\nCache-Control: no-cache\r\n\
                 Content-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nSozu-Id: {ID}",
                body.len()
            )
        );
        let (head, _) = write(&Answer::new(503, ID), 4096);
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        let (head, _) = write(&Answer { location: Some("https://a/x"), ..Answer::new(301, ID) }, 4096);
        assert!(head.contains("\r\nLocation: https://a/x\r\n") && !head.contains("Cache-Control"), "{head}");
        let (head, _) = write(&Answer { challenge: Some("Basic realm=\"x\""), ..Answer::new(401, ID) }, 4096);
        assert!(head.contains("\r\nWWW-Authenticate: Basic realm=\"x\"\r\n"), "{head}");
        let (head, _) = write(&Answer { location: Some("https://a/\r\nX: y"), ..Answer::new(301, ID) }, 4096);
        assert!(!head.contains("Location") && !head.contains("X: y"), "{head}");
    }

    #[test]
    fn a_head_only_answer_announces_the_body_it_leaves_out() {
        let answer = Answer::new(502, ID);
        let (head, body) = write(&answer, 4096);
        let (head_only, nothing) = write(&Answer { head_only: true, ..answer }, 4096);
        assert_eq!((head_only, nothing.as_str()), (head, ""));
        assert!(!body.is_empty());
    }

    #[test]
    fn what_is_echoed_cannot_leave_its_place() {
        let nasty = "a/</pre><script>\"'&\\\r\n\u{1b}\u{85}é";
        let answer = Answer { route: nasty, message: nasty, cluster_id: Some(nasty), ..Answer::new(503, ID) };
        let (_, body) = write(&answer, 8192);
        let json = json(&body);
        assert!(!json.contains(['<', '>', '&', '\'', '\r', '\u{1b}', '\u{85}']), "{json}");
        assert_eq!(json.lines().count(), 7, "{json}");
        let escaped =
            r"a/\u003c/pre\u003e\u003cscript\u003e\u0022\u0027\u0026\u005c\u000d\u000a\u001b\u0085é";
        assert_eq!(json.matches(escaped).count(), 3, "{json}");
    }

    #[test]
    fn the_json_block_names_what_the_status_calls_for() {
        let full = Answer {
            route: "a/x",
            cluster_id: Some("c"),
            backend_id: Some("b"),
            message: "m",
            ..Answer::new(503, ID)
        };
        let (_, body) = write(&full, 4096);
        assert_eq!(
            json(&body),
            format!(
                "{{\n  \"status_code\": 503,\n  \"route\": \"a/x\",\n  \"request_id\": \"{ID}\",\n  \
                 \"cluster_id\": \"c\",\n  \"backend_id\": \"b\",\n  \"message\": \"m\"\n}}"
            )
        );
        let (_, body) = write(&Answer { status: 404, ..full }, 4096);
        assert!(!json(&body).contains("cluster_id") && !json(&body).contains("backend_id"), "{body}");
    }

    #[test]
    fn detail_goes_before_the_answer_does() {
        let long = "<".repeat(100_000);
        let answer = Answer { route: &long, message: &long, cluster_id: Some(&long), ..Answer::new(503, ID) };
        let mut seen = [false; 3];
        for space in 0..6000 {
            let (head, body) = write(&answer, space);
            if head.is_empty() {
                assert!(space < ANSWER_BYTES_MIN, "nothing in {space} bytes");
                continue;
            }
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
            seen[usize::from(!body.is_empty()) + usize::from(body.contains("route"))] = true;
        }
        assert_eq!(seen, [true; 3], "head alone, status alone, everything");
    }
}
