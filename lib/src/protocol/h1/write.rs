//! Message heads as we write them: one canonical form, whatever the other side sent.
//!
//! - Lines end in CRLF, `name: value` has one space, the version is HTTP/1.1.
//! - Fields keep their order, the case of their names, and their values byte for byte (obs-text
//!   included).
//! - Hop-by-hop fields are gone: those of [`Field::HopByHop`], `Connection`, and what `Connection`
//!   names as far as [`Field::yields_to_connection`] allows.
//! - `Host`, `Content-Length`, `Transfer-Encoding`, `Connection` and `Upgrade` are written from what was
//!   understood, once each.
//! - The operator's edits come last: what is to be removed is left out, what is to be added follows.

use kakehi_command::order::{HeaderEdit, Hsts};

use super::error::HeadTooLarge;
use super::fields::looks_like;
use super::forwarded::{Forward, Subject};
use super::head::{RequestHead, ResponseHead};
use super::head_writer::FieldCopier;
use crate::protocol::http::cookie::{self, SetCookie};
use crate::protocol::http::field::Field;
use crate::protocol::http::{Framing, Version};

pub use super::body::Relay;
pub use super::head_writer::HeadWriter;

/// Whether a field is written by us rather than copied, or not at all, in either direction.
fn is_ours(field: Field) -> bool {
    matches!(
        field,
        Field::Host | Field::ContentLength | Field::TransferEncoding | Field::Connection | Field::HopByHop
    )
}

/// Whether the operator wants fields of this name gone. `edits` are those of one direction.
fn is_removed<'e>(mut edits: impl Iterator<Item = &'e HeaderEdit>, name: &[u8]) -> bool {
    edits.any(|edit| edit.value.is_empty() && looks_like(edit.name.as_bytes(), name))
}

/// Adds the fields that the operator wants.
fn add_edits<'e>(
    out: &mut HeadWriter<'_>,
    mut edits: impl Iterator<Item = &'e HeaderEdit>,
) -> Result<(), HeadTooLarge> {
    edits.try_for_each(|edit| match &*edit.value {
        "" => Ok(()),
        value => out.field(&edit.name, value.as_bytes()),
    })
}

/// Adds the fields that delimit a body.
fn framing(out: &mut HeadWriter<'_>, framing: Framing) -> Result<(), HeadTooLarge> {
    match framing {
        Framing::None | Framing::UntilClose => Ok(()),
        Framing::Length(length) => {
            out.push(b"Content-Length: ")?;
            out.decimal(length)?;
            out.push(b"\r\n")
        }
        Framing::Chunked => out.push(b"Transfer-Encoding: chunked\r\n"),
    }
}

/// Adds what changes the connection to another protocol (RFC 9110 §7.8).
fn upgrade(out: &mut HeadWriter<'_>, protocol: &[u8]) -> Result<(), HeadTooLarge> {
    out.push(b"Connection: upgrade\r\nUpgrade: ")?;
    out.push(protocol)?;
    out.push(b"\r\n")
}

/// Writes the head of a request as the backend shall see it; returns its length.
///
/// Back connections are kept alive, so there is no `Connection` field but that of an upgrade. A request
/// of HTTP/1.0 becomes one of 1.1: if it named no host, `Host` is the address it was sent to (RFC 9112
/// §3.3), and its `Expect` is dropped, since the client would not understand the `100 Continue` (RFC
/// 9110 §10.1.1).
///
/// Fails only for want of space, and the client's head is then too large for us (431).
pub fn write_request(
    out: &mut [u8],
    head: &RequestHead<'_, '_>,
    forward: &Forward<'_>,
) -> Result<usize, HeadTooLarge> {
    let mut out = HeadWriter::new(out);
    out.push(head.method.as_bytes())?;
    out.push(b" ")?;
    out.push(forward.path.unwrap_or_else(|| head.target.path().as_bytes()))?;
    out.push(b" HTTP/1.1\r\nHost: ")?;
    match (forward.host, head.authority) {
        (Some(host), _) => out.push(host)?,
        (None, "") => out.socket_address(forward.public)?,
        (None, authority) => out.push(authority.as_bytes())?,
    }
    out.push(b"\r\n")?;
    let has_request_id = copy_request_fields(&mut out, head, forward)?;
    forward.write(&mut out, head)?;
    if forward.begins_trace(head) {
        forward.write_trace(&mut out)?;
    }
    if !has_request_id && !forward.sozu_id_header.eq_ignore_ascii_case("X-Request-Id") {
        out.push(b"X-Request-Id: ")?;
        out.push(forward.request_id)?;
        out.push(b"\r\n")?;
    }
    out.field(forward.sozu_id_header, forward.request_id)?;
    // Several of them, or ones with another value, mean the same (RFC 8470 §5.1).
    if forward.early || head.seen.contains(Field::EarlyData) {
        out.push(b"Early-Data: 1\r\n")?;
    }
    if let Some(Subject { header, value: Some(value) }) = forward.subject {
        out.field(header, value.as_bytes())?;
    }
    add_edits(&mut out, forward.edits.iter().filter(|edit| edit.request))?;
    if let Some(protocol) = head.upgrade {
        upgrade(&mut out, protocol)?;
    }
    framing(&mut out, head.framing)?;
    out.push(b"\r\n")?;
    Ok(out.len())
}

/// Copies what of a client's fields is meant for the backend. Whether an `X-Request-Id` was among it.
fn copy_request_fields(
    out: &mut HeadWriter<'_>,
    head: &RequestHead<'_, '_>,
    forward: &Forward<'_>,
) -> Result<bool, HeadTooLarge> {
    let mut has_request_id = false;
    let new_trace = forward.begins_trace(head);
    let mut copier = FieldCopier::new(head.input);
    for (field, &kind) in head.fields.iter().zip(head.kinds) {
        let dropped = is_ours(kind)
            || forward.takes_over(kind)
            || kind == Field::EarlyData
            || (kind == Field::Expect && head.version == Version::Http10)
            || (kind == Field::XRequestId && field.value.is_empty())
            || (new_trace && matches!(kind, Field::TraceParent | Field::TraceState))
            || looks_like(forward.sozu_id_header.as_bytes(), field.name)
            || forward.subject.is_some_and(|it| looks_like(it.header.as_bytes(), field.name))
            || is_removed(forward.edits.iter().filter(|edit| edit.request), field.name);
        if let Some(name) = forward.sticky_name
            && !dropped
            && field.name.eq_ignore_ascii_case(b"cookie")
        {
            copier.flush(out)?;
            write_other_cookies(out, field.value, name)?;
            continue;
        }
        if !dropped {
            has_request_id |= kind == Field::XRequestId;
            copier.copy(out, field)?;
        }
    }
    copier.flush(out)?;
    Ok(has_request_id)
}

/// Writes the cookies of a field that do not have this name; nothing if there are none.
fn write_other_cookies(out: &mut HeadWriter<'_>, value: &[u8], name: &str) -> Result<(), HeadTooLarge> {
    let others = cookie::pieces(value).filter(|piece| !cookie::is_named(piece, name.as_bytes()));
    let mut separator: &[u8] = b"Cookie: ";
    for piece in others {
        out.push(separator)?;
        out.push(piece)?;
        separator = b"; ";
    }
    if separator == b"; " { out.push(b"\r\n") } else { Ok(()) }
}

/// What a response's way to the client adds to its head.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// Name of the field that carries our id; a backend's own field of that name is dropped.
    pub sozu_id_header: &'a str,
    /// Our id for the request: the text of a ULID.
    pub request_id: &'a [u8],
    /// The client's version.
    pub client: Version,
    /// Close the connection to the client after this response. Implied where the client could not
    /// find the end of the body otherwise: see [`Framing::ends_with_connection`], which the session
    /// must heed too.
    pub close: bool,
    /// What the operator adds and removes; those of requests are passed over.
    pub edits: &'a [HeaderEdit],
    /// The policy that clients are told (RFC 6797); only over TLS, and only one that is enabled.
    pub hsts: Option<&'a Hsts>,
    /// The cookie that keeps the client at its backend, if it does not have it.
    pub set_cookie: Option<SetCookie<'a>>,
}

impl Reply<'_> {
    /// How a body goes to this client.
    pub fn relay(&self) -> Relay {
        match self.client {
            Version::Http10 => Relay::Strip,
            Version::Http11 => {
                Relay::chunks(self.edits.iter().any(|edit| edit.response), self.sozu_id_header)
            }
        }
    }
}

/// RFC 6797 §6.1.
const HSTS: &str = "Strict-Transport-Security";

fn has_hsts(head: &ResponseHead<'_, '_>) -> bool {
    head.fields.iter().any(|field| field.name.eq_ignore_ascii_case(HSTS.as_bytes()))
}

/// Writes the head of a final response as the client shall see it, or that of a 101 which was asked for;
/// returns its length.
///
/// Fails only for want of space, and the backend's head is then too large for us (502).
pub fn write_response(
    out: &mut [u8],
    head: &ResponseHead<'_, '_>,
    reply: &Reply<'_>,
) -> Result<usize, HeadTooLarge> {
    debug_assert!(!head.is_informational() || head.upgrade.is_some());
    let mut out = HeadWriter::new(out);
    status_line(&mut out, head)?;
    let trailers = head.framing == Framing::Chunked && reply.relay() == Relay::Keep;
    let hsts = reply.hsts.filter(|hsts| hsts.forces() || !has_hsts(head));
    copy_response_fields(&mut out, head, trailers, reply, hsts.is_some())?;
    let delimited = match (head.framing, head.content_length_of_absent_body) {
        (Framing::None, Some(length)) => Framing::Length(length),
        (Framing::Chunked, _) if reply.relay() == Relay::Strip => Framing::UntilClose,
        (framing, _) => framing,
    };
    framing(&mut out, delimited)?;
    if let Some(protocol) = head.upgrade {
        upgrade(&mut out, protocol)?;
    } else if reply.close || head.framing.ends_with_connection(reply.client) {
        out.push(b"Connection: close\r\n")?;
    } else if reply.client == Version::Http10 {
        out.push(b"Connection: keep-alive\r\n")?;
    }
    out.field(reply.sozu_id_header, reply.request_id)?;
    if let Some(hsts) = hsts {
        out.formatted_field(HSTS, format_args!("{hsts}"))?;
    }
    if let Some(cookie) = reply.set_cookie {
        out.formatted_field("Set-Cookie", format_args!("{cookie}"))?;
    }
    add_edits(&mut out, reply.edits.iter().filter(|edit| edit.response))?;
    out.push(b"\r\n")?;
    Ok(out.len())
}

/// Writes the head of an informational response (1xx); returns its length. Not for clients of HTTP/1.0
/// (RFC 9110 §15.2).
pub fn write_informational(out: &mut [u8], head: &ResponseHead<'_, '_>) -> Result<usize, HeadTooLarge> {
    debug_assert!(head.is_informational());
    let mut out = HeadWriter::new(out);
    status_line(&mut out, head)?;
    let nothing_added = Reply {
        sozu_id_header: "",
        request_id: &[],
        client: Version::Http11,
        close: false,
        edits: &[],
        hsts: None,
        set_cookie: None,
    };
    copy_response_fields(&mut out, head, false, &nothing_added, false)?;
    out.push(b"\r\n")?;
    Ok(out.len())
}

fn status_line(out: &mut HeadWriter<'_>, head: &ResponseHead<'_, '_>) -> Result<(), HeadTooLarge> {
    out.push(b"HTTP/1.1 ")?;
    // Three digits: no status below 100 was accepted.
    out.decimal(head.status.into())?;
    out.push(b" ")?;
    out.push(head.reason.as_bytes())?;
    out.push(b"\r\n")
}

/// Copies what of a backend's fields is meant for the client; `Trailer` only if trailers will come,
/// nothing of the name that our id has, no policy if ours takes its place, and nothing that the operator removes.
fn copy_response_fields(
    out: &mut HeadWriter<'_>,
    head: &ResponseHead<'_, '_>,
    trailers: bool,
    reply: &Reply<'_>,
    own_hsts: bool,
) -> Result<(), HeadTooLarge> {
    let mut copier = FieldCopier::new(head.input);
    for (field, &kind) in head.fields.iter().zip(head.kinds) {
        let dropped = is_ours(kind)
            || (kind == Field::Trailer && !trailers)
            || looks_like(reply.sozu_id_header.as_bytes(), field.name)
            || (own_hsts && field.name.eq_ignore_ascii_case(HSTS.as_bytes()))
            || is_removed(reply.edits.iter().filter(|edit| edit.response), field.name);
        if !dropped {
            copier.copy(out, field)?;
        }
    }
    copier.flush(out)
}
