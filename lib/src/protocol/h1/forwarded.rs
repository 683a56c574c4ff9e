//! The fields that tell a backend who asked, and through what: `X-Forwarded-*`, `Forwarded` (RFC
//! 7239), `X-Real-IP`, `traceparent` (W3C Trace Context).
//!
//! What a client says of where it comes from is believed of configured peers only: then ours comes after
//! it. Of everybody else's, nothing is passed on, whichever family is written.

use std::net::{IpAddr, SocketAddr};

use kakehi_command::order::{ForwardedHeaders, HeaderEdit};

use super::classes::{is_token_byte, is_value_byte};
use super::error::HeadTooLarge;
use super::head::RequestHead;
use super::head_writer::HeadWriter;
use crate::protocol::http::field::Field;

/// What a request's way to the backend adds to its head.
#[derive(Debug, Clone, Copy)]
pub struct Forward<'a> {
    /// The client, as it reached us.
    pub peer: SocketAddr,
    /// Whether the peer is a proxy whose word on where a request came from is believed.
    pub trusted: bool,
    /// The address clients know us by.
    pub public: SocketAddr,
    /// Whether the client came over TLS.
    pub https: bool,
    /// Which families of fields to add to.
    pub forwarded: ForwardedHeaders,
    /// Tell the peer's address in `X-Real-IP`, unless a trusted peer told one.
    pub send_x_real_ip: bool,
    /// Drop a client's own `X-Real-IP`.
    pub elide_x_real_ip: bool,
    /// Our id for this request: the text of a ULID.
    pub request_id: &'a [u8],
    /// Name of the field that carries it; a client's own field of that name is dropped.
    pub sozu_id_header: &'a str,
    /// The trace to begin if the client sends none that is well-formed.
    pub trace: Option<NewTrace>,
    /// The authority to ask for instead of the client's. The client's is told in `X-Forwarded-Host`.
    pub host: Option<&'a [u8]>,
    /// The target to ask for instead of the client's.
    pub path: Option<&'a [u8]>,
    /// Who the client has proved to be.
    pub subject: Option<Subject<'a>>,
    /// What the operator adds and removes; those of responses are passed over.
    pub edits: &'a [HeaderEdit],
    /// It came before the handshake with its client was over, and may have been played back (RFC 8470 §5.1).
    pub early: bool,
    /// Our own cookie, which is left out of what the client sent.
    pub sticky_name: Option<&'a str>,
    /// What [`prepare`](Self::prepare) made for this peer and these settings; empty if nothing is.
    pub prepared: &'a [u8],
}

/// Longest text of [`Forward::prepare`]: IPv6 addresses in every field fit.
const PREPARED_BYTES_MAX: usize = 512;

/// The field that tells who a client has proved to be (TLS client certificates).
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its name; a client's own field of that name, or of one that looks like it, is dropped.
    pub header: &'a str,
    /// The subject of the client's certificate; none if it showed none.
    pub value: Option<&'a str>,
}

/// A trace that begins here, or goes on. Neither id may be 0 (Trace Context §3.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewTrace {
    /// Names the trace.
    pub trace_id: u128,
    /// Names our part of it, the parent of what the backend does.
    pub parent_id: u64,
}

impl Forward<'_> {
    /// Whether a client's field of this kind is left out of the copy: because it is not believed, merged
    /// with ours, replaced by ours, or unwanted.
    pub(super) fn takes_over(&self, field: Field) -> bool {
        match field {
            Field::XForwardedFor => !self.trusted || self.forwarded != ForwardedHeaders::None,
            // Two families that contradict each other help nobody but an attacker: where one of them is written,
            // the other is dropped, whoever sent it.
            Field::XForwardedProto | Field::XForwardedPort | Field::XForwardedHost | Field::XForwarded => {
                !self.trusted || self.forwarded == ForwardedHeaders::Rfc7239
            }
            Field::Forwarded => !self.trusted || self.forwarded != ForwardedHeaders::None,
            Field::XRealIp => !self.trusted || self.elide_x_real_ip,
            _ => false,
        }
    }

    /// Writes our part, given what the client sent.
    pub(super) fn write(
        &self,
        out: &mut HeadWriter<'_>,
        head: &RequestHead<'_, '_>,
    ) -> Result<(), HeadTooLarge> {
        if !self.prepared.is_empty() && self.depends_on_peer_alone() {
            return out.push(self.prepared);
        }
        self.write_fields(out, Some(head))
    }

    /// Our part, for requests of a peer that is not believed: the same for each of them. Empty if it is not.
    pub fn prepare(&self) -> Box<[u8]> {
        let mut text = [0; PREPARED_BYTES_MAX];
        let mut out = HeadWriter::new(&mut text);
        let fits = self.depends_on_peer_alone() && self.write_fields(&mut out, None).is_ok();
        let len = if fits { out.len() } else { 0 };
        text.get(..len).unwrap_or_default().into()
    }

    fn depends_on_peer_alone(&self) -> bool {
        !self.trusted && self.host.is_none()
    }

    fn write_fields(
        &self,
        out: &mut HeadWriter<'_>,
        head: Option<&RequestHead<'_, '_>>,
    ) -> Result<(), HeadTooLarge> {
        // Of what is not believed it does not matter whether it is there.
        let head = head.filter(|_| !self.depends_on_peer_alone());
        if self.x_forwarded() {
            self.write_x_forwarded(out, head)?;
        }
        if self.rfc7239() {
            self.write_forwarded(out, head)?;
        }
        if self.send_x_real_ip && (self.elide_x_real_ip || !self.is_told(head, Field::XRealIp)) {
            out.push(b"X-Real-IP: ")?;
            out.ip(self.peer_ip())?;
            out.push(b"\r\n")?;
        }
        Ok(())
    }

    /// Whether a client that is believed told this itself.
    fn is_told(&self, head: Option<&RequestHead<'_, '_>>, field: Field) -> bool {
        self.trusted && head.is_some_and(|head| head.seen.contains(field))
    }

    fn write_x_forwarded(
        &self,
        out: &mut HeadWriter<'_>,
        head: Option<&RequestHead<'_, '_>>,
    ) -> Result<(), HeadTooLarge> {
        out.push(b"X-Forwarded-For: ")?;
        for value in self.believed(head, Field::XForwardedFor) {
            out.push(value)?;
            out.push(b", ")?;
        }
        out.ip(self.peer_ip())?;
        if !self.is_told(head, Field::XForwardedProto) {
            out.push(b"\r\nX-Forwarded-Proto: ")?;
            out.push(self.scheme())?;
        }
        if !self.is_told(head, Field::XForwardedPort) {
            out.push(b"\r\nX-Forwarded-Port: ")?;
            out.decimal(self.public.port().into())?;
        }
        if let (Some(head), true) = (head, self.host.is_some() && !self.is_told(head, Field::XForwardedHost))
        {
            out.push(b"\r\nX-Forwarded-Host: ")?;
            out.push(head.authority.as_bytes())?;
        }
        out.push(b"\r\n")
    }

    /// `proto=http;for="192.0.2.1:4711";by=198.51.100.1`; addresses with a colon are quoted (RFC 7239 §6).
    fn write_forwarded(
        &self,
        out: &mut HeadWriter<'_>,
        head: Option<&RequestHead<'_, '_>>,
    ) -> Result<(), HeadTooLarge> {
        out.push(b"Forwarded: ")?;
        for value in self.believed(head, Field::Forwarded).filter(|value| is_forwarded(value)) {
            out.push(value)?;
            out.push(b", ")?;
        }
        out.push(b"proto=")?;
        out.push(self.scheme())?;
        out.push(b";for=\"")?;
        out.socket_address(SocketAddr::new(self.peer_ip(), self.peer.port()))?;
        out.push(b"\";by=")?;
        match self.public.ip().to_canonical() {
            address @ IpAddr::V4(_) => {
                out.ip(address)?;
                out.push(b"\r\n")
            }
            IpAddr::V6(address) => out.formatted(format_args!("\"[{address}]\"\r\n")),
        }
    }

    /// Whether a trace is begun here: one is wanted, and the client's own is not there or not well-formed.
    /// Then what it sent of one is dropped (Trace Context §3.2.4).
    pub(super) fn begins_trace(&self, head: &RequestHead<'_, '_>) -> bool {
        self.trace.is_some() && {
            let mut parents = values(head, Field::TraceParent);
            !matches!((parents.next(), parents.next()), (Some(parent), None) if is_traceparent(parent))
        }
    }

    /// The trace that the backend is told of, if there is one: ours, or the client's.
    #[inline]
    pub fn trace_of(&self, head: &RequestHead<'_, '_>) -> Option<NewTrace> {
        if self.trace.is_none() && !head.seen.contains(Field::TraceParent) {
            None
        } else {
            self.some_trace_of(head)
        }
    }

    fn some_trace_of(&self, head: &RequestHead<'_, '_>) -> Option<NewTrace> {
        if self.begins_trace(head) {
            return self.trace;
        }
        let mut parents = values(head, Field::TraceParent);
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let hex = |part: Option<&[u8]>| u128::from_str_radix(std::str::from_utf8(part?).ok()?, 16).ok();
        let (trace_id, parent_id) = (hex(parent.get(3..35))?, hex(parent.get(36..52))?);
        is_traceparent(parent)
            .then(|| NewTrace { trace_id, parent_id: u64::try_from(parent_id).unwrap_or_default() })
    }

    /// `version-traceid-parentid-flags`, sampled.
    pub(super) fn write_trace(&self, out: &mut HeadWriter<'_>) -> Result<(), HeadTooLarge> {
        let Some(NewTrace { trace_id, parent_id }) = self.trace else { return Ok(()) };
        out.formatted(format_args!("traceparent: 00-{trace_id:032x}-{parent_id:016x}-01\r\n"))
    }

    /// The values of a client's fields of one kind, if it is believed; empty ones left out.
    fn believed<'h>(
        &self,
        head: Option<&'h RequestHead<'_, '_>>,
        kind: Field,
    ) -> impl Iterator<Item = &'h [u8]> {
        let believed = head.filter(|_| self.trusted);
        believed.into_iter().flat_map(move |head| values(head, kind)).filter(|value| !value.is_empty())
    }

    /// The peer without the disguise of a socket that serves both families.
    fn peer_ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    fn scheme(&self) -> &'static [u8] {
        if self.https { b"https" } else { b"http" }
    }

    fn x_forwarded(&self) -> bool {
        matches!(self.forwarded, ForwardedHeaders::Both | ForwardedHeaders::XForwarded)
    }

    fn rfc7239(&self) -> bool {
        matches!(self.forwarded, ForwardedHeaders::Both | ForwardedHeaders::Rfc7239)
    }
}

/// The values of all fields of one kind.
fn values<'h>(head: &'h RequestHead<'_, '_>, kind: Field) -> impl Iterator<Item = &'h [u8]> {
    let (fields, kinds) =
        if head.seen.contains(kind) { (head.fields, head.kinds) } else { Default::default() };
    fields.iter().zip(kinds).filter(move |&(_, &other)| other == kind).map(|(field, _)| field.value)
}

/// Whether a value is a `traceparent` that others can continue (Trace Context §3.2.2): of version 0, or of
/// a later one that begins alike.
fn is_traceparent(value: &[u8]) -> bool {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_id = |part: Option<&[u8]>| {
        part.is_some_and(|part| part.iter().all(is_hex) && part.iter().any(|&byte| byte != b'0'))
    };
    let hex = |part: Option<&[u8]>| part.is_some_and(|part| part.iter().all(is_hex));
    let dashes = [2, 35, 52].iter().all(|&at| value.get(at) == Some(&b'-'));
    let end = match value.get(..2) {
        Some(b"00") => value.len() == 55,
        Some(b"ff") | None => false,
        Some(version) => hex(Some(version)) && matches!(value.get(55), None | Some(b'-')),
    };
    dashes && end && is_id(value.get(3..35)) && is_id(value.get(36..52)) && hex(value.get(53..55))
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
