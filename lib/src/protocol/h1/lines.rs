//! The lines of a head: where its parts begin and end (RFC 9112 §2, §3, §4, §5).
//!
//! One form of each line is known here. What RFC 9112 lets a recipient repair is refused: bare CR and LF,
//! folding, space around names, more than one space in a first line. What the parts mean is the
//! business of [`super::head`]. Nothing is looked at twice.

use super::classes::{is_token_byte, plain_name_bytes, target_bytes, value_bytes};
use super::error::{RequestError, ResponseError};
use crate::protocol::http::Version;

/// A field line. Both parts are slices of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'b> {
    /// The name as sent: a token, never empty.
    pub name: &'b [u8],
    /// The value without white space around it.
    pub value: &'b [u8],
}

/// The line at some place of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line<'b> {
    /// More bytes have to come.
    Partial,
    /// The empty line at the end of a head.
    End,
    /// A field.
    Field {
        header: Header<'b>,
        /// The name is of letters, digits and hyphens alone.
        plain: bool,
        /// What is behind the line.
        rest: &'b [u8],
    },
}

/// What is wrong with a field line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineFault {
    /// No CRLF where one must be.
    End,
    Name,
    Value,
}

/// Reads the line that `input` begins with: `field-name ":" OWS field-value OWS CRLF`, or just CRLF.
#[inline(always)]
pub(super) fn field_line(input: &[u8]) -> Result<Line<'_>, LineFault> {
    if input.starts_with(b"\r\n") {
        return Ok(Line::End);
    }
    if let Some((name, [b':', rest @ ..])) = input.split_at_checked(plain_name_bytes(input))
        && !name.is_empty()
    {
        return field_value(name, true, rest);
    }
    rarer_line(input)
}

/// Reads a line that may still be anything but a field with a plain name.
fn rarer_line(input: &[u8]) -> Result<Line<'_>, LineFault> {
    let name_bytes = token_bytes(input);
    match input.split_at_checked(name_bytes) {
        Some((name @ [_, ..], [b':', rest @ ..])) => field_value(name, false, rest),
        None | Some((_, []) | ([], [b'\r'])) => Ok(Line::Partial),
        Some(([], [b'\r' | b'\n', ..])) => Err(LineFault::End),
        Some(_) => Err(LineFault::Name),
    }
}

fn token_bytes(text: &[u8]) -> usize {
    text.iter().take_while(|&&byte| is_token_byte(byte)).count()
}

/// Reads what is behind the colon of a line.
#[inline(always)]
fn field_value<'b>(name: &'b [u8], plain: bool, input: &'b [u8]) -> Result<Line<'b>, LineFault> {
    let input = match input {
        [b' ', rest @ ..] => rest,
        _ => input,
    };
    let input = match input {
        [b' ' | b'\t', ..] => without_leading_blanks(input),
        _ => input,
    };
    match input.split_at_checked(value_bytes(input)) {
        Some((value, [b'\r', b'\n', rest @ ..])) => {
            Ok(Line::Field { header: Header { name, value: without_trailing_blanks(value) }, plain, rest })
        }
        None | Some((_, [] | [b'\r'])) => Ok(Line::Partial),
        Some((_, [b'\n', ..])) => Err(LineFault::End),
        Some(_) => Err(LineFault::Value),
    }
}

fn without_leading_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
    text.get(blanks..).unwrap_or_default()
}

#[inline(always)]
fn without_trailing_blanks(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let [rest @ .., b'\t' | b' '] = value {
        value = rest;
    }
    value
}

/// A request line, and the lines behind it.
pub(super) struct RequestLine<'b> {
    pub(super) method: &'b str,
    pub(super) target: &'b [u8],
    pub(super) version: Version,
    pub(super) rest: &'b [u8],
}

/// Reads the request line that `input` begins with: `method SP request-target SP HTTP-version CRLF`. `None`
/// if it may still become one.
#[inline(always)]
pub(super) fn request_line(input: &[u8]) -> Result<Option<RequestLine<'_>>, RequestError> {
    let Some((method, rest)) = method(input)? else { return Ok(None) };
    let (target, rest) = match rest.split_at_checked(target_bytes(rest)) {
        Some((target @ [_, ..], [b' ', rest @ ..])) => (target, rest),
        None | Some((_, [])) => return Ok(None),
        Some(_) => return Err(RequestError::Target),
    };
    match rest.split_first_chunk() {
        Some((b"HTTP/1.1\r\n", rest)) => {
            Ok(Some(RequestLine { method, target, version: Version::Http11, rest }))
        }
        Some((b"HTTP/1.0\r\n", rest)) => {
            Ok(Some(RequestLine { method, target, version: Version::Http10, rest }))
        }
        _ => check_version(rest, method).map(|()| None),
    }
}

/// The method that `input` begins with, one space behind it.
#[inline(always)]
fn method(input: &[u8]) -> Result<Option<(&str, &[u8])>, RequestError> {
    match input {
        [b'G', b'E', b'T', b' ', rest @ ..] => Ok(Some(("GET", rest))),
        [b'P', b'O', b'S', b'T', b' ', rest @ ..] => Ok(Some(("POST", rest))),
        _ => rarer_method(input),
    }
}

fn rarer_method(input: &[u8]) -> Result<Option<(&str, &[u8])>, RequestError> {
    match input.split_at_checked(token_bytes(input)) {
        None | Some((_, []) | ([], [b'\r'])) => Ok(None),
        Some(([], [b'\r' | b'\n', ..])) => Err(RequestError::LineEnd),
        Some((method @ [_, ..], [b' ', rest @ ..])) => {
            let method = std::str::from_utf8(method).map_err(|_| RequestError::Method)?;
            Ok(Some((method, rest)))
        }
        Some(_) => Err(RequestError::Method),
    }
}

/// Tells what is wrong with a version that is neither 1.0 nor 1.1, or has no line end behind it. Nothing, if
/// more bytes could mend it.
fn check_version(version: &[u8], method: &str) -> Result<(), RequestError> {
    let (number, end) = version.split_at_checked(8).unwrap_or((version, &[]));
    if !is_version_start(number) {
        return Err(RequestError::Version);
    }
    match (number, end) {
        (b"HTTP/1.0" | b"HTTP/1.1", [] | [b'\r'] | [b'\r', b'\n', ..]) => Ok(()),
        (b"HTTP/1.0" | b"HTTP/1.1", _) => Err(RequestError::LineEnd),
        _ if number.len() < 8 => Ok(()),
        _ if method == "PRI" => Err(RequestError::Http2Preface),
        // RFC 9112 §2.3: well-formed, but not ours.
        _ => Err(RequestError::VersionNotSupported),
    }
}

/// Whether these are the first bytes, or all eight, of `HTTP/` digit `.` digit.
fn is_version_start(bytes: &[u8]) -> bool {
    bytes.iter().zip(b"HTTP/0.0").all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => byte == form,
    })
}

/// A status line, and the lines behind it.
pub(super) struct StatusLine<'b> {
    pub(super) version: Version,
    pub(super) status: u16,
    pub(super) reason: &'b str,
    pub(super) rest: &'b [u8],
}

/// Reads the status line that `input` begins with: `HTTP-version SP 3DIGIT SP [ reason-phrase ] CRLF`, where
/// the second space may be missing if nothing follows it. `None` if it may still become one.
#[inline(always)]
pub(super) fn status_line(input: &[u8]) -> Result<Option<StatusLine<'_>>, ResponseError> {
    let (version, rest) = match input.split_first_chunk() {
        Some((b"HTTP/1.1 ", rest)) => (Version::Http11, rest),
        Some((b"HTTP/1.0 ", rest)) => (Version::Http10, rest),
        None if is_status_line_start(input) => return Ok(None),
        _ => return Err(ResponseError::StatusLine),
    };
    let (digits, rest) = match rest.split_first_chunk::<3>() {
        Some((digits, rest)) if digits.iter().all(u8::is_ascii_digit) => (digits, rest),
        None if rest.iter().all(u8::is_ascii_digit) => return Ok(None),
        _ => return Err(ResponseError::StatusLine),
    };
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    let rest = match rest {
        [b' ', rest @ ..] => rest,
        [] | [b'\r' | b'\n', ..] => rest,
        _ => return Err(ResponseError::StatusLine),
    };
    match rest.split_at_checked(value_bytes(rest)) {
        Some((reason, [b'\r', b'\n', rest @ ..])) => {
            let reason = std::str::from_utf8(reason).ok().filter(|reason| reason.is_ascii());
            Ok(Some(StatusLine { version, status, reason: reason.unwrap_or_default(), rest }))
        }
        None | Some((_, [] | [b'\r'])) => Ok(None),
        Some((_, [b'\n', ..])) => Err(ResponseError::LineEnd),
        Some(_) => Err(ResponseError::StatusLine),
    }
}

fn is_status_line_start(input: &[u8]) -> bool {
    b"HTTP/1.1 ".starts_with(input) || b"HTTP/1.0 ".starts_with(input)
}
