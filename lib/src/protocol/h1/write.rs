//! Message heads as we write them: one canonical form, whatever the other side sent.
//!
//! - Lines end in CRLF, `name: value` has one space, the version is HTTP/1.1.
//! - Fields keep their order, the case of their names, and their values byte for byte (obs-text
//!   included).
//! - Hop-by-hop fields are gone: those of [`Field::HopByHop`], `Connection`, and what `Connection`
//!   names as far as [`Field::yields_to_connection`] allows.
//! - `Host`, `Content-Length`, `Transfer-Encoding` and `Connection` are written from what was
//!   understood, once each.

use std::fmt;

use httparse::Header;

use super::error::HeadTooLarge;
use super::fields::ConnectionOptions;
use super::forwarded::Forward;
use super::head::{RequestHead, ResponseHead};
use crate::protocol::http::field::{Field, FieldSet};
use crate::protocol::http::{Framing, Version};

pub use super::body::Relay;

/// Writes lines into a fixed space.
#[derive(Debug)]
pub struct HeadWriter<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> HeadWriter<'a> {
    /// A writer at the start of `out`.
    pub fn new(out: &'a mut [u8]) -> HeadWriter<'a> {
        HeadWriter { out, len: 0 }
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds bytes as they are, all or none.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), HeadTooLarge> {
        let space = self.out.get_mut(self.len..).ok_or(HeadTooLarge)?;
        space.get_mut(..bytes.len()).ok_or(HeadTooLarge)?.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    /// Adds a field line. Neither part may hold CR, LF or NUL: what comes from peers was parsed,
    /// what comes from the operator was checked as an order.
    pub fn field(&mut self, name: &str, value: &[u8]) -> Result<(), HeadTooLarge> {
        debug_assert!(!name.bytes().chain(value.iter().copied()).any(|byte| b"\r\n\0".contains(&byte)));
        self.push(name.as_bytes())?;
        self.push(b": ")?;
        self.push(value)?;
        self.push(b"\r\n")
    }

    /// Adds formatted text.
    pub fn formatted(&mut self, text: fmt::Arguments<'_>) -> Result<(), HeadTooLarge> {
        fmt::Write::write_fmt(self, text).map_err(|fmt::Error| HeadTooLarge)
    }

    /// Adds a field line whose value is formatted text.
    pub fn formatted_field(&mut self, name: &str, value: fmt::Arguments<'_>) -> Result<(), HeadTooLarge> {
        self.formatted(format_args!("{name}: {value}\r\n"))
    }

    /// Adds the fields that delimit a body.
    fn framing(&mut self, framing: Framing) -> Result<(), HeadTooLarge> {
        match framing {
            Framing::None | Framing::UntilClose => Ok(()),
            Framing::Length(length) => self.formatted_field("Content-Length", format_args!("{length}")),
            Framing::Chunked => self.field("Transfer-Encoding", b"chunked"),
        }
    }
}

impl fmt::Write for HeadWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes()).map_err(|HeadTooLarge| fmt::Error)
    }
}

/// The connection options of a head that was accepted; there cannot be too many.
fn connection_options<'b>(
    fields: &[Header<'b>],
    seen: FieldSet,
) -> Result<ConnectionOptions<'b>, HeadTooLarge> {
    ConnectionOptions::of(fields, seen).map_err(|_| HeadTooLarge)
}

/// Whether a field is written by us rather than copied, or not at all, in either direction.
fn is_ours(field: Field) -> bool {
    matches!(
        field,
        Field::Host | Field::ContentLength | Field::TransferEncoding | Field::Connection | Field::HopByHop
    )
}

/// Writes the head of a request as the backend shall see it; returns its length.
///
/// Back connections are kept alive, so there is no `Connection` field. A request of HTTP/1.0
/// becomes one of 1.1: if it named no host, `Host` is the address it was sent to (RFC 9112 §3.3),
/// and its `Expect` is dropped, since the client would not understand the `100 Continue` (RFC 9110
/// §10.1.1).
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
    out.push(head.target.path().as_bytes())?;
    out.push(b" HTTP/1.1\r\n")?;
    match head.authority {
        "" => out.formatted_field("Host", format_args!("{}", forward.public))?,
        authority => out.field("Host", authority.as_bytes())?,
    }
    let options = connection_options(head.fields, head.seen)?;
    let mut has_request_id = false;
    for field in head.fields {
        let kind = Field::of(field.name);
        let dropped = is_ours(kind)
            || forward.takes_over(kind)
            || (kind == Field::Expect && head.version == Version::Http10)
            || (kind == Field::XRequestId && field.value.is_empty())
            || (kind.yields_to_connection() && options.name(field.name))
            || field.name.eq_ignore_ascii_case(forward.sozu_id_header);
        if !dropped {
            has_request_id |= kind == Field::XRequestId;
            out.field(field.name, field.value)?;
        }
    }
    forward.write(&mut out, head.fields, head.seen)?;
    if !has_request_id && !forward.sozu_id_header.eq_ignore_ascii_case("X-Request-Id") {
        out.field("X-Request-Id", forward.request_id.as_bytes())?;
    }
    out.field(forward.sozu_id_header, forward.request_id.as_bytes())?;
    out.framing(head.framing)?;
    out.push(b"\r\n")?;
    Ok(out.len())
}

/// What a response's way to the client adds to its head.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// Name of the field that carries our id; a backend's own field of that name is dropped.
    pub sozu_id_header: &'a str,
    /// Our id for the request: the text of a ULID.
    pub request_id: &'a str,
    /// The client's version.
    pub client: Version,
    /// Close the connection to the client after this response. Implied where the client could not
    /// find the end of the body otherwise: see [`Framing::ends_with_connection`], which the session
    /// must heed too.
    pub close: bool,
}

impl Reply<'_> {
    /// How a body goes to this client.
    pub fn relay(&self) -> Relay {
        match self.client {
            Version::Http10 => Relay::Strip,
            Version::Http11 => Relay::Keep,
        }
    }
}

/// Writes the head of a final response as the client shall see it; returns its length.
///
/// Fails only for want of space, and the backend's head is then too large for us (502).
pub fn write_response(
    out: &mut [u8],
    head: &ResponseHead<'_, '_>,
    reply: &Reply<'_>,
) -> Result<usize, HeadTooLarge> {
    debug_assert!(!head.is_informational());
    let mut out = HeadWriter::new(out);
    write_status_line(&mut out, head)?;
    let trailers = head.framing == Framing::Chunked && reply.relay() == Relay::Keep;
    copy_response_fields(&mut out, head, trailers, reply.sozu_id_header)?;
    let framing = match (head.framing, head.content_length_of_absent_body) {
        (Framing::None, Some(length)) => Framing::Length(length),
        (Framing::Chunked, _) if reply.relay() == Relay::Strip => Framing::UntilClose,
        (framing, _) => framing,
    };
    out.framing(framing)?;
    if reply.close || head.framing.ends_with_connection(reply.client) {
        out.field("Connection", b"close")?;
    } else if reply.client == Version::Http10 {
        out.field("Connection", b"keep-alive")?;
    }
    out.field(reply.sozu_id_header, reply.request_id.as_bytes())?;
    out.push(b"\r\n")?;
    Ok(out.len())
}

/// Writes the head of an informational response (1xx); returns its length. Not for clients of HTTP/1.0
/// (RFC 9110 §15.2).
pub fn write_informational(out: &mut [u8], head: &ResponseHead<'_, '_>) -> Result<usize, HeadTooLarge> {
    debug_assert!(head.is_informational());
    let mut out = HeadWriter::new(out);
    write_status_line(&mut out, head)?;
    copy_response_fields(&mut out, head, false, "")?;
    out.push(b"\r\n")?;
    Ok(out.len())
}

fn write_status_line(out: &mut HeadWriter<'_>, head: &ResponseHead<'_, '_>) -> Result<(), HeadTooLarge> {
    out.formatted(format_args!("HTTP/1.1 {:03} {}\r\n", head.status, head.reason))
}

/// Copies what of a backend's fields is meant for the client; `Trailer` only if trailers will come,
/// and nothing of the name `except`.
fn copy_response_fields(
    out: &mut HeadWriter<'_>,
    head: &ResponseHead<'_, '_>,
    trailers: bool,
    except: &str,
) -> Result<(), HeadTooLarge> {
    let options = connection_options(head.fields, head.seen)?;
    for field in head.fields {
        let kind = Field::of(field.name);
        let dropped = is_ours(kind)
            || (kind == Field::Trailer && !trailers)
            || (kind.yields_to_connection() && options.name(field.name))
            || field.name.eq_ignore_ascii_case(except);
        if !dropped {
            out.field(field.name, field.value)?;
        }
    }
    Ok(())
}
