//! The fields that tell a backend who asked, and through what: `X-Forwarded-*`, `Forwarded` (RFC
//! 7239), `X-Real-IP`.
//!
//! There is no list of trusted proxies yet: what a client says about itself is passed on, ours
//! comes after it. With [`ForwardedHeaders::Rfc7239`] a client's `X-Forwarded-For`, `-Proto`,
//! `-Port` and `-Host` are removed; every other setting lets the family that it does not add to
//! through.

use std::net::{IpAddr, SocketAddr};

use httparse::Header;
use kakehi_command::order::ForwardedHeaders;

use super::error::HeadTooLarge;
use super::fields::{is_token_byte, is_value_byte};
use super::write::HeadWriter;
use crate::protocol::http::field::{Field, FieldSet};

/// What a request's way to the backend adds to its head.
#[derive(Debug, Clone, Copy)]
pub struct Forward<'a> {
    /// The client, as it reached us.
    pub peer: SocketAddr,
    /// The address clients know us by.
    pub public: SocketAddr,
    /// Whether the client came over TLS.
    pub https: bool,
    /// Which families of fields to add to.
    pub forwarded: ForwardedHeaders,
    /// Tell the peer's address in `X-Real-IP`.
    pub send_x_real_ip: bool,
    /// Drop a client's own `X-Real-IP`.
    pub elide_x_real_ip: bool,
    /// Our id for this request: the text of a ULID.
    pub request_id: &'a str,
    /// Name of the field that carries it; a client's own field of that name is dropped.
    pub sozu_id_header: &'a str,
}

impl Forward<'_> {
    /// Whether a client's field of this kind is left out of the copy: because it is merged with
    /// ours, replaced by ours, or unwanted.
    pub(super) fn takes_over(&self, field: Field) -> bool {
        match field {
            Field::XForwardedFor => self.x_forwarded() || self.forwarded == ForwardedHeaders::Rfc7239,
            // Two families that contradict each other help nobody but an attacker: only ours is left.
            Field::XForwardedProto | Field::XForwardedPort | Field::XForwardedHost => {
                self.forwarded == ForwardedHeaders::Rfc7239
            }
            Field::Forwarded => self.rfc7239(),
            // One address: with a client's beside ours, a backend might believe the wrong one.
            Field::XRealIp => self.send_x_real_ip || self.elide_x_real_ip,
            _ => false,
        }
    }

    /// Writes our part, given the fields the client sent.
    pub(super) fn write(
        &self,
        out: &mut HeadWriter<'_>,
        fields: &[Header<'_>],
        seen: FieldSet,
    ) -> Result<(), HeadTooLarge> {
        if self.x_forwarded() {
            self.write_x_forwarded(out, fields, seen)?;
        }
        if self.rfc7239() {
            self.write_forwarded(out, fields, seen)?;
        }
        if self.send_x_real_ip {
            out.formatted_field("X-Real-IP", format_args!("{}", self.peer_ip()))?;
        }
        Ok(())
    }

    fn write_x_forwarded(
        &self,
        out: &mut HeadWriter<'_>,
        fields: &[Header<'_>],
        seen: FieldSet,
    ) -> Result<(), HeadTooLarge> {
        out.push(b"X-Forwarded-For: ")?;
        for value in values(fields, seen, Field::XForwardedFor) {
            out.push(value)?;
            out.push(b", ")?;
        }
        out.formatted(format_args!("{}\r\n", self.peer_ip()))?;
        if !seen.contains(Field::XForwardedProto) {
            out.field("X-Forwarded-Proto", self.scheme().as_bytes())?;
        }
        if !seen.contains(Field::XForwardedPort) {
            out.formatted_field("X-Forwarded-Port", format_args!("{}", self.public.port()))?;
        }
        Ok(())
    }

    /// `proto=http;for="192.0.2.1:4711";by=198.51.100.1`; addresses with a colon are quoted (RFC 7239 §6).
    fn write_forwarded(
        &self,
        out: &mut HeadWriter<'_>,
        fields: &[Header<'_>],
        seen: FieldSet,
    ) -> Result<(), HeadTooLarge> {
        out.push(b"Forwarded: ")?;
        for value in values(fields, seen, Field::Forwarded).filter(|value| is_forwarded(value)) {
            out.push(value)?;
            out.push(b", ")?;
        }
        let peer = SocketAddr::new(self.peer_ip(), self.peer.port());
        out.formatted(format_args!("proto={};for=\"{peer}\";by=", self.scheme()))?;
        match self.public.ip().to_canonical() {
            IpAddr::V4(address) => out.formatted(format_args!("{address}\r\n")),
            IpAddr::V6(address) => out.formatted(format_args!("\"[{address}]\"\r\n")),
        }
    }

    /// The peer without the disguise of a socket that serves both families.
    fn peer_ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    fn x_forwarded(&self) -> bool {
        matches!(self.forwarded, ForwardedHeaders::Both | ForwardedHeaders::XForwarded)
    }

    fn rfc7239(&self) -> bool {
        matches!(self.forwarded, ForwardedHeaders::Both | ForwardedHeaders::Rfc7239)
    }
}

/// The values of all fields of one kind, empty ones left out.
fn values<'b>(fields: &[Header<'b>], seen: FieldSet, kind: Field) -> impl Iterator<Item = &'b [u8]> {
    let fields = if seen.contains(kind) { fields } else { &[] };
    fields
        .iter()
        .filter(move |field| Field::of(field.name) == kind)
        .map(|field| field.value)
        .filter(|value| !value.is_empty())
}

/// Whether a line is a list of `name=value` pairs (RFC 7239 §4). One that is not is dropped:
/// appended to, it could swallow what we add, an unbalanced quote above all.
fn is_forwarded(value: &[u8]) -> bool {
    let mut rest = value;
    loop {
        rest = rest.trim_ascii_start();
        // Pairs and elements may be empty.
        if !matches!(rest, [] | [b';' | b',', ..]) {
            let Some(tail) = after_forwarded_pair(rest) else { return false };
            rest = tail.trim_ascii_start();
        }
        match rest {
            [] => return true,
            [b';' | b',', tail @ ..] => rest = tail,
            _ => return false,
        }
    }
}

/// What follows `token "=" ( token / quoted-string )`.
fn after_forwarded_pair(input: &[u8]) -> Option<&[u8]> {
    match after_token(input)? {
        [b'=', b'"', tail @ ..] => after_quoted(tail),
        [b'=', tail @ ..] => after_token(tail),
        _ => None,
    }
}

fn after_token(input: &[u8]) -> Option<&[u8]> {
    let length = input.iter().take_while(|&&byte| is_token_byte(byte)).count();
    if length == 0 { None } else { input.get(length..) }
}

/// What follows the closing quote of a string whose opening quote was taken (RFC 9110 §5.6.4).
fn after_quoted(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = match rest {
            [b'"', tail @ ..] => return Some(tail),
            [b'\\', escaped, tail @ ..] if is_value_byte(*escaped) => tail,
            [byte, tail @ ..] if *byte != b'\\' && is_value_byte(*byte) => tail,
            _ => return None,
        };
    }
}
