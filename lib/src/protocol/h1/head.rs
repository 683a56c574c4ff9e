//! Message heads: bytes to a checked [`RequestHead`] or [`ResponseHead`] that borrows them.
//!
//! `lines` finds the parts of a line, `fields` notes what each field says as it is
//! found, and here it is put together: repeated or malformed `Host`, ambiguous framing and all else that two
//! recipients could understand differently is refused. A head is only handed out when all of it was
//! checked, so nothing behind this module looks at raw bytes again.

use arrayvec::ArrayVec;

use super::error::{FramingError, RequestError, ResponseError};
use super::fields::{Facts, mark_named};
use super::lines::{Line, LineFault, RequestLine, field_line, request_line, status_line};
use super::target::Authority;
use crate::protocol::http::field::{Field, FieldSet};
use crate::protocol::http::{Framing, HeadLimits, RequestMethod, Version};

pub use super::lines::Header;
pub use super::scan::HeadScanner;
pub use super::target::Target;

/// Most field lines of any head, whatever [`HeadLimits`] says: their slots live on the stack (8 KiB).
pub const FIELDS_MAX: usize = 256;

/// Most empty lines tolerated before a request line. RFC 9112 §2.2 asks for at least one, for
/// clients that send a stray CRLF after a body.
pub const EMPTY_LINES_MAX: usize = 4;

/// Room for the field lines of one head. Costs nothing to make: slots are initialised as they are filled.
#[derive(Debug, Default)]
pub struct FieldStorage<'b> {
    fields: ArrayVec<Header<'b>, FIELDS_MAX>,
    kinds: ArrayVec<Field, FIELDS_MAX>,
}

impl FieldStorage<'_> {
    /// Empty storage.
    #[inline]
    pub fn new() -> Self {
        FieldStorage::default()
    }
}

/// What parsing found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<T> {
    /// So far so good, but the head is not whole.
    Partial,
    /// A whole head.
    Complete {
        /// The head.
        head: T,
        /// Bytes it takes in the input, skipped empty lines included: what follows is body, or the
        /// next message.
        bytes: usize,
    },
}

/// The head of a request, checked.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'h, 'b> {
    /// The method, in its own case.
    pub method: &'b str,
    /// What is asked for.
    pub target: Target<'b>,
    /// Host and port as sent: those of the target if it names them, else of `Host`. Empty only in a
    /// request of HTTP/1.0 that names none.
    pub authority: &'b str,
    /// The authority without its port, in the case it was sent; IPv6 addresses keep their brackets.
    pub host: &'b str,
    /// The client's version.
    pub version: Version,
    /// All field lines as sent, in order.
    pub fields: &'h [Header<'b>],
    /// The kind of each of `fields`, at the same place: nobody need look a name up again.
    ///
    /// [`Field::HopByHop`] is also the kind of what `Connection` names, of an `Expect` without a body to
    /// wait for, and of names made to look like ones that backends trust. Nothing of that kind is passed on.
    pub kinds: &'h [Field],
    /// How the body is delimited; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether the client expects the connection to stay open (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    /// Never in HTTP/1.0, nor without a body.
    pub expect_continue: bool,
    /// The protocol that the client would change to (RFC 9110 §7.8): one, named by `Upgrade` and
    /// announced by `Connection`. `None` in HTTP/1.0, with a body, and for `CONNECT`; never HTTP itself.
    pub upgrade: Option<&'b [u8]>,
    /// The kinds of fields among `fields`.
    pub(super) seen: FieldSet,
    /// The bytes of the head, which all of the above are slices of.
    pub(super) input: &'b [u8],
}

impl<'b> RequestHead<'_, 'b> {
    /// Whether a field of this kind is among them.
    pub fn has(&self, kind: Field) -> bool {
        self.seen.contains(kind)
    }

    /// The value of the first field of this name, which is compared without regard to case.
    pub fn field(&self, name: &str) -> Option<&'b [u8]> {
        find(self.fields, name)
    }

    /// What the method means for the framing of the response.
    pub fn method_kind(&self) -> RequestMethod {
        RequestMethod::of(self.method)
    }
}

/// The head of a response, checked.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'h, 'b> {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase; empty if it had bytes outside ASCII.
    pub reason: &'b str,
    /// The backend's version.
    pub version: Version,
    /// All field lines as sent, in order.
    pub fields: &'h [Header<'b>],
    /// The kind of each of `fields`, at the same place; see [`RequestHead::kinds`].
    pub kinds: &'h [Field],
    /// How the body is delimited. [`Framing::None`] for 1xx, 204, 304, answers to `HEAD`, and 2xx
    /// to `CONNECT`.
    pub framing: Framing,
    /// `Content-Length` where it describes a body that is not sent: answers to `HEAD`, and 304 (RFC
    /// 9110 §8.6).
    pub content_length_of_absent_body: Option<u64>,
    /// Whether the backend keeps the connection open after this message.
    pub keep_alive: bool,
    /// In a 101, the protocol that begins behind this head: the one that was asked for.
    pub upgrade: Option<&'b [u8]>,
    /// The bytes of the head, which all of the above are slices of.
    pub(super) input: &'b [u8],
}

impl<'b> ResponseHead<'_, 'b> {
    /// The value of the first field of this name, which is compared without regard to case.
    pub fn field(&self, name: &str) -> Option<&'b [u8]> {
        find(self.fields, name)
    }

    /// Whether another head follows for the same request (RFC 9110 §15.2).
    pub fn is_informational(&self) -> bool {
        self.status < 200
    }
}

fn find<'b>(fields: &[Header<'b>], name: &str) -> Option<&'b [u8]> {
    fields.iter().find(|field| field.name.eq_ignore_ascii_case(name.as_bytes())).map(|field| field.value)
}

/// Parses the head of a request at the start of `input`.
///
/// A [`Parsed::Partial`] head may still be refused later; one that is refused stays so whatever follows.
#[inline(always)]
pub fn parse_request<'h, 'b>(
    input: &'b [u8],
    storage: &'h mut FieldStorage<'b>,
    limits: &HeadLimits,
) -> Result<Parsed<RequestHead<'h, 'b>>, RequestError> {
    let skipped = empty_lines_bytes(input)?;
    let input = input.get(skipped..).unwrap_or_default();
    let line = request_line(input)?;
    // Until the line has its end, all of the input but a CR is part of it.
    let line_bytes = match &line {
        Some(line) => input.len() - line.rest.len() - 2,
        None => input.len().saturating_sub(1),
    };
    if line_bytes > limits.request_line_max {
        return Err(RequestError::LineTooLong { max: limits.request_line_max });
    }
    let Some(line) = line else { return Ok(Parsed::Partial) };
    let mut facts = Facts::new();
    let Some(rest) = read_fields(line.rest, storage, &mut facts, limits)? else {
        return Ok(Parsed::Partial);
    };
    let bytes = input.len() - rest.len();
    let input = input.get(..bytes).unwrap_or_default();
    let head = check_request(&line, &facts, storage, input)?;
    Ok(Parsed::Complete { head, bytes: skipped + bytes })
}

/// Reads the field lines that `input` begins with. Gives what is behind the head, if that is whole.
#[inline(always)]
fn read_fields<'b>(
    input: &'b [u8],
    storage: &mut FieldStorage<'b>,
    facts: &mut Facts<'b>,
    limits: &HeadLimits,
) -> Result<Option<&'b [u8]>, FieldsFault> {
    storage.fields.clear();
    storage.kinds.clear();
    let max = limits.fields_max.min(FIELDS_MAX);
    let mut input = input;
    loop {
        match field_line(input)? {
            Line::Field { header, plain, rest } => {
                let kind = facts.add(&header, plain)?;
                if storage.fields.len() >= max || storage.fields.try_push(header).is_err() {
                    return Err(FieldsFault::TooMany { max });
                }
                // As many as there are fields: that there is room was just seen.
                let _ = storage.kinds.try_push(kind);
                input = rest;
            }
            Line::End => break,
            Line::Partial => return Ok(None),
        }
    }
    if facts.names_fields {
        mark_named(&storage.fields, &mut storage.kinds)?;
    }
    Ok(input.get(2..))
}

/// What is wrong with the field lines of either kind of head.
enum FieldsFault {
    Line(LineFault),
    TooMany { max: usize },
    Framing(FramingError),
}

impl From<LineFault> for FieldsFault {
    fn from(fault: LineFault) -> FieldsFault {
        FieldsFault::Line(fault)
    }
}

impl From<FramingError> for FieldsFault {
    fn from(error: FramingError) -> FieldsFault {
        FieldsFault::Framing(error)
    }
}

impl From<FieldsFault> for RequestError {
    fn from(fault: FieldsFault) -> RequestError {
        match fault {
            FieldsFault::Line(LineFault::End) => RequestError::LineEnd,
            FieldsFault::Line(LineFault::Name) => RequestError::FieldName,
            FieldsFault::Line(LineFault::Value) => RequestError::FieldValue,
            FieldsFault::TooMany { max } => RequestError::TooManyFields { max },
            FieldsFault::Framing(error) => RequestError::Framing(error),
        }
    }
}

impl From<FieldsFault> for ResponseError {
    fn from(fault: FieldsFault) -> ResponseError {
        match fault {
            FieldsFault::Line(LineFault::End) => ResponseError::LineEnd,
            FieldsFault::Line(LineFault::Name) => ResponseError::FieldName,
            FieldsFault::Line(LineFault::Value) => ResponseError::FieldValue,
            FieldsFault::TooMany { max } => ResponseError::TooManyFields { max },
            FieldsFault::Framing(error) => ResponseError::Framing(error),
        }
    }
}

/// Gives meaning to the parts of a request head whose lines are well-formed.
#[inline(always)]
fn check_request<'h, 'b>(
    line: &RequestLine<'b>,
    facts: &Facts<'b>,
    storage: &'h mut FieldStorage<'b>,
    input: &'b [u8],
) -> Result<RequestHead<'h, 'b>, RequestError> {
    let &RequestLine { method, version, .. } = line;
    let target = Target::parse(method, line.target)?;
    let authority = authority(&target, facts, version)?;
    let framing = facts.framing(version)?;
    if facts.http2 && version == Version::Http11 {
        return Err(RequestError::Http2Upgrade);
    }
    // RFC 9110 §9.3.6, §9.3.8.
    let is_connect = method == "CONNECT";
    if (is_connect || method == "TRACE") && framing != Framing::None {
        return Err(FramingError::BodyOutOfPlace.into());
    }
    let expect_continue = expect_continue(facts, version, framing, &mut storage.kinds)?;
    Ok(RequestHead {
        method,
        target,
        authority: authority.map_or("", |authority| authority.text),
        host: authority.map_or("", |authority| authority.host),
        version,
        fields: &storage.fields,
        kinds: &storage.kinds,
        framing,
        keep_alive: facts.keep_alive(version),
        expect_continue,
        upgrade: facts.upgrade(version).filter(|_| framing.is_empty() && !is_connect),
        seen: facts.seen,
        input,
    })
}

/// Who is meant: the authority of the target, which `Host` must repeat, or `Host` (RFC 9112 §3.2).
///
/// §3.2.2 tells proxies to prefer the target, and §3.2 tells clients to send the same twice. Who reads the
/// other one sees another request, so they have to agree.
#[inline(always)]
fn authority<'b>(
    target: &Target<'b>,
    facts: &Facts<'b>,
    version: Version,
) -> Result<Option<Authority<'b>>, RequestError> {
    if facts.hosts > 1 {
        return Err(RequestError::HostRepeated);
    }
    let host = match facts.host {
        None if version == Version::Http11 => return Err(RequestError::HostMissing),
        None => None,
        Some(value) => Some(Authority::parse(value).ok_or(RequestError::HostMalformed)?),
    };
    let Some((text, default_port)) = target.authority() else { return Ok(host) };
    let named = Authority::parse(text.as_bytes()).ok_or(RequestError::HostMalformed)?;
    match host {
        Some(host) if !host.is_same(&named, default_port) => Err(RequestError::HostDiffers),
        _ => Ok(Some(named)),
    }
}

/// Whether the client waits for `100 Continue` (RFC 9110 §10.1.1). HTTP/1.0 knows of no expectations; an
/// expectation that nobody waits with is not passed on.
#[inline(always)]
fn expect_continue(
    facts: &Facts<'_>,
    version: Version,
    framing: Framing,
    kinds: &mut [Field],
) -> Result<bool, RequestError> {
    if !facts.seen.contains(Field::Expect) || version == Version::Http10 {
        return Ok(false);
    }
    if !facts.expects_continue_alone() {
        return Err(RequestError::Expectation);
    }
    if framing.is_empty() {
        for kind in kinds.iter_mut().filter(|kind| **kind == Field::Expect) {
            *kind = Field::HopByHop;
        }
    }
    Ok(!framing.is_empty())
}

/// What a response is the answer to, as far as it matters for reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The method of the request as it was sent to the backend.
    pub method: RequestMethod,
    /// [`RequestHead::upgrade`], if it was passed on.
    pub upgrade: Option<&'a [u8]>,
}

/// Parses the head of a response at the start of `input`, given what was asked.
pub fn parse_response<'h, 'b>(
    input: &'b [u8],
    storage: &'h mut FieldStorage<'b>,
    limits: &HeadLimits,
    asked: Asked<'_>,
) -> Result<Parsed<ResponseHead<'h, 'b>>, ResponseError> {
    let Some(line) = status_line(input)? else { return Ok(Parsed::Partial) };
    let status = line.status;
    if status < 100 {
        return Err(ResponseError::StatusOutOfRange { status });
    }
    let mut facts = Facts::new();
    let Some(rest) = read_fields(line.rest, storage, &mut facts, limits)? else {
        return Ok(Parsed::Partial);
    };
    let bytes = input.len() - rest.len();
    let announced = facts.framing(line.version)?;
    let (framing, content_length_of_absent_body) = response_framing(status, announced, asked.method)?;
    let head = ResponseHead {
        status,
        reason: line.reason,
        version: line.version,
        fields: &storage.fields,
        kinds: &storage.kinds,
        framing,
        content_length_of_absent_body,
        keep_alive: facts.keep_alive(line.version) && framing != Framing::UntilClose,
        upgrade: if status == 101 { Some(check_upgrade(&facts, line.version, asked)?) } else { None },
        input: input.get(..bytes).unwrap_or_default(),
    };
    Ok(Parsed::Complete { head, bytes })
}

/// What delimits the body of a response, and the length of one that is not sent (RFC 9112 §6.3, in its
/// order).
///
/// Answers that cannot have a body and announce one nevertheless (RFC 9110 §8.6, RFC 9112 §6.1) leave open
/// where the next answer begins.
#[inline(always)]
fn response_framing(
    status: u16,
    announced: Framing,
    method: RequestMethod,
) -> Result<(Framing, Option<u64>), FramingError> {
    match (method, status) {
        (_, 100..200 | 204) if !announced.is_empty() => Err(FramingError::BodyOutOfPlace),
        (_, 100..200 | 204) => Ok((Framing::None, None)),
        (RequestMethod::Head, _) | (_, 304) => Ok((Framing::None, announced.length())),
        (RequestMethod::Connect, 200..300) => Ok((Framing::None, None)),
        _ if announced == Framing::None => Ok((Framing::UntilClose, None)),
        _ => Ok((announced, None)),
    }
}

/// A 101 names one protocol, the one that was asked for (RFC 9110 §7.8).
fn check_upgrade<'b>(
    facts: &Facts<'b>,
    version: Version,
    asked: Asked<'_>,
) -> Result<&'b [u8], ResponseError> {
    let wanted = asked.upgrade.ok_or(ResponseError::UnaskedUpgrade)?;
    let protocol = facts.upgrade(version).ok_or(ResponseError::MalformedUpgrade)?;
    if protocol.eq_ignore_ascii_case(wanted) { Ok(protocol) } else { Err(ResponseError::UnaskedUpgrade) }
}

/// Bytes of empty lines before a request line (RFC 9112 §2.2).
#[inline(always)]
fn empty_lines_bytes(input: &[u8]) -> Result<usize, RequestError> {
    if input.first() != Some(&b'\r') {
        return Ok(0);
    }
    let lines = input.chunks(2).take_while(|pair| pair == b"\r\n").take(EMPTY_LINES_MAX + 1).count();
    if lines > EMPTY_LINES_MAX { Err(RequestError::EmptyLines) } else { Ok(lines * 2) }
}
