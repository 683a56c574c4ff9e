//! Message heads: bytes to a checked [`RequestHead`] or [`ResponseHead`] that borrows them.
//!
//! The syntax of lines is httparse's; what it lets pass and RFC 9112 calls dangerous is refused
//! here: bare line feeds, repeated or malformed `Host`, ambiguous framing. A head is only handed
//! out when all of it was checked, so nothing behind this module looks at raw bytes again.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Status};
use memchr::{memchr, memchr_iter};

use super::error::{FramingError, RequestError, ResponseError};
use super::fields::Facts;
use super::target::Authority;
use crate::protocol::http::field::{Field, FieldSet};
use crate::protocol::http::{Framing, HeadLimits, RequestMethod, Version};

pub use super::scan::HeadScanner;
pub use super::target::Target;

/// Most field lines of any head, whatever [`HeadLimits`] says: their slots live on the stack (8 KiB).
pub const FIELDS_MAX: usize = 256;

/// Most empty lines tolerated before a request line. RFC 9112 §2.2 asks for at least one, for
/// clients that send a stray CRLF after a body.
pub const EMPTY_LINES_MAX: usize = 4;

/// Room for the field lines of one head. Costs next to nothing to make: slots are initialised as they are filled.
pub struct FieldStorage<'b> {
    fields: [MaybeUninit<Header<'b>>; FIELDS_MAX],
    kinds: [Field; FIELDS_MAX],
}

impl<'b> FieldStorage<'b> {
    /// Empty storage.
    pub fn new() -> FieldStorage<'b> {
        FieldStorage {
            fields: [const { MaybeUninit::uninit() }; FIELDS_MAX],
            kinds: [Field::Other; FIELDS_MAX],
        }
    }

    fn slots(&mut self, limits: &HeadLimits) -> (&mut [MaybeUninit<Header<'b>>], &mut [Field]) {
        let count = limits.fields_max.min(FIELDS_MAX);
        (self.fields.get_mut(..count).unwrap_or_default(), self.kinds.get_mut(..count).unwrap_or_default())
    }
}

impl Default for FieldStorage<'_> {
    fn default() -> Self {
        FieldStorage::new()
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
    /// The kind of each of `fields`, at the same place. Those that `Connection` names are
    /// [`Field::HopByHop`], and so are names made to look like ones that backends trust: nothing of
    /// that kind is passed on.
    pub kinds: &'h [Field],
    /// How the body is delimited; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether the client expects the connection to stay open (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    /// Never in HTTP/1.0.
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
    /// The kinds of fields among `fields`.
    pub(super) seen: FieldSet,
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
    fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// Parses the head of a request at the start of `input`.
///
/// A [`Parsed::Partial`] head may still be refused later; one that is refused stays so whatever follows.
pub fn parse_request<'h, 'b>(
    input: &'b [u8],
    storage: &'h mut FieldStorage<'b>,
    limits: &HeadLimits,
) -> Result<Parsed<RequestHead<'h, 'b>>, RequestError> {
    let skipped = empty_lines_bytes(input)?;
    let input = input.get(skipped..).unwrap_or_default();
    check_line_length(input, limits.request_line_max)?;
    let (slots, kinds) = storage.slots(limits);
    let fields_max = slots.len();
    let mut request = httparse::Request::new(&mut []);
    let bytes = match request.parse_with_uninit_headers(input, slots) {
        Ok(Status::Complete(bytes)) => bytes,
        Ok(Status::Partial) if has_bare_line_feed(input) => return Err(RequestError::LineEnd),
        Ok(Status::Partial) => return Ok(Parsed::Partial),
        Err(error) => return Err(request_error(error, &request, input, fields_max)),
    };
    if has_bare_line_feed(input.get(..bytes).unwrap_or_default()) {
        return Err(RequestError::LineEnd);
    }
    let httparse::Request { method, path, version, headers } = request;
    let method = method.ok_or(RequestError::Method)?;
    let target = path.ok_or(RequestError::Target)?;
    let version = if version == Some(1) { Version::Http11 } else { Version::Http10 };
    let head = check_request(method, target, version, headers, kinds)?;
    let input = input.get(..bytes).unwrap_or_default();
    Ok(Parsed::Complete { head: RequestHead { input, ..head }, bytes: skipped + bytes })
}

/// Gives meaning to the parts of a request head whose lines are well-formed.
fn check_request<'h, 'b>(
    method: &'b str,
    target: &'b str,
    version: Version,
    fields: &'h [Header<'b>],
    kinds: &'h mut [Field],
) -> Result<RequestHead<'h, 'b>, RequestError> {
    let target = Target::parse(method, target)?;
    let (kinds, _) = kinds.split_at_mut_checked(fields.len()).ok_or(RequestError::FieldName)?;
    let facts = Facts::of(fields, kinds)?;
    if facts.hosts > 1 {
        return Err(RequestError::HostRepeated);
    }
    // RFC 9112 §3.2: required in HTTP/1.1, and checked even where the target overrules it.
    let host = match facts.host {
        None if version == Version::Http11 => return Err(RequestError::HostMissing),
        None => None,
        Some(value) => Some(Authority::parse_bytes(value).ok_or(RequestError::HostMalformed)?),
    };
    let authority = match target.authority() {
        Some(text) => Some(Authority::parse(text).ok_or(RequestError::HostMalformed)?),
        None => host,
    };
    let framing = facts.framing(version)?;
    if method == "CONNECT" && framing != Framing::None {
        return Err(FramingError::ConnectWithBody.into());
    }
    if facts.http2 && version == Version::Http11 {
        return Err(RequestError::Http2Upgrade);
    }
    let upgrades = framing.is_empty() && method != "CONNECT";
    Ok(RequestHead {
        method,
        target,
        authority: authority.map_or("", |authority| authority.text),
        host: authority.map_or("", |authority| authority.host),
        version,
        fields,
        kinds,
        framing,
        keep_alive: facts.keep_alive(version),
        expect_continue: facts.expect_continue && version == Version::Http11,
        upgrade: facts.upgrade(version).filter(|_| upgrades),
        seen: facts.seen,
        input: &[],
    })
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
    // No empty lines are tolerated before a status line: httparse would skip them.
    if matches!(input.first(), Some(b'\r' | b'\n')) {
        return Err(ResponseError::StatusLine);
    }
    let (slots, kinds) = storage.slots(limits);
    let fields_max = slots.len();
    let mut response = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut response, input, slots);
    let bytes = match parsed {
        Ok(Status::Complete(bytes)) => bytes,
        Ok(Status::Partial) if has_bare_line_feed(input) => return Err(ResponseError::LineEnd),
        Ok(Status::Partial) => return Ok(Parsed::Partial),
        Err(error) => return Err(response_error(error, fields_max)),
    };
    if has_bare_line_feed(input.get(..bytes).unwrap_or_default()) {
        return Err(ResponseError::LineEnd);
    }
    let httparse::Response { version, code, reason, headers } = response;
    let status = code.ok_or(ResponseError::StatusLine)?;
    let version = if version == Some(1) { Version::Http11 } else { Version::Http10 };
    let (kinds, _) = kinds.split_at_mut_checked(headers.len()).ok_or(ResponseError::FieldName)?;
    let facts = Facts::of(headers, kinds)?;
    let head = check_response(status, version, &facts, asked)?;
    let input = input.get(..bytes).unwrap_or_default();
    let head = ResponseHead { reason: reason.unwrap_or(""), fields: headers, kinds, input, ..head };
    Ok(Parsed::Complete { head, bytes })
}

/// Gives meaning to the parts of a response head whose lines are well-formed.
fn check_response<'h, 'b>(
    status: u16,
    version: Version,
    facts: &Facts<'b>,
    asked: Asked<'_>,
) -> Result<ResponseHead<'h, 'b>, ResponseError> {
    if status < 100 {
        return Err(ResponseError::StatusOutOfRange { status });
    }
    let announced = facts.framing(version)?;
    // RFC 9112 §6.3, in its order.
    let (framing, content_length_of_absent_body) = match (asked.method, status) {
        (_, 100..200 | 204) => (Framing::None, None),
        (RequestMethod::Head, _) | (_, 304) => (Framing::None, facts.content_length),
        (RequestMethod::Connect, 200..300) => (Framing::None, None),
        _ if announced == Framing::None => (Framing::UntilClose, None),
        _ => (announced, None),
    };
    Ok(ResponseHead {
        status,
        reason: "",
        version,
        fields: &[],
        kinds: &[],
        framing,
        content_length_of_absent_body,
        keep_alive: facts.keep_alive(version) && framing != Framing::UntilClose,
        upgrade: if status == 101 { Some(check_upgrade(facts, version, announced, asked)?) } else { None },
        seen: facts.seen,
        input: &[],
    })
}

/// A 101 names one protocol, the one that was asked for, and has no body (RFC 9110 §7.8, §8.6).
fn check_upgrade<'b>(
    facts: &Facts<'b>,
    version: Version,
    announced: Framing,
    asked: Asked<'_>,
) -> Result<&'b [u8], ResponseError> {
    let wanted = asked.upgrade.ok_or(ResponseError::UnaskedUpgrade)?;
    let protocol = facts.upgrade(version).ok_or(ResponseError::MalformedUpgrade)?;
    if !announced.is_empty() {
        return Err(ResponseError::MalformedUpgrade);
    }
    if protocol.eq_ignore_ascii_case(wanted) { Ok(protocol) } else { Err(ResponseError::UnaskedUpgrade) }
}

/// Refuses a request line that is too long, be it whole or not.
fn check_line_length(input: &[u8], max: usize) -> Result<(), RequestError> {
    // A line of the greatest length, and the CRLF behind it.
    let Some(within) = max.checked_add(2).and_then(|bytes| input.get(..bytes)) else { return Ok(()) };
    if memchr(b'\n', within).is_some() { Ok(()) } else { Err(RequestError::LineTooLong { max }) }
}

/// Bytes of empty lines before a request line (RFC 9112 §2.2).
fn empty_lines_bytes(input: &[u8]) -> Result<usize, RequestError> {
    let lines = input.chunks(2).take_while(|pair| pair == b"\r\n").take(EMPTY_LINES_MAX + 1).count();
    if lines > EMPTY_LINES_MAX { Err(RequestError::EmptyLines) } else { Ok(lines * 2) }
}

/// Whether a line ends in LF alone. RFC 9112 §2.2 allows to accept it, and whoever does not sees
/// another head.
fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr_iter(b'\n', head).any(|at| at == 0 || head.get(at - 1) != Some(&b'\r'))
}

fn request_error(
    error: httparse::Error,
    request: &httparse::Request<'_, '_>,
    input: &[u8],
    fields_max: usize,
) -> RequestError {
    match error {
        httparse::Error::Token if request.method.is_none() => RequestError::Method,
        httparse::Error::Token => RequestError::Target,
        httparse::Error::Version if request.method == Some("PRI") => RequestError::Http2Preface,
        httparse::Error::Version if names_other_version(input) => RequestError::VersionNotSupported,
        httparse::Error::Version => RequestError::Version,
        httparse::Error::HeaderName => RequestError::FieldName,
        httparse::Error::HeaderValue => RequestError::FieldValue,
        httparse::Error::TooManyHeaders => RequestError::TooManyFields { max: fields_max },
        httparse::Error::NewLine | httparse::Error::Status => RequestError::LineEnd,
    }
}

/// Whether a well-formed version stands where it belongs in the request line (RFC 9112 §2.3).
fn names_other_version(input: &[u8]) -> bool {
    let line = input.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let version = line.splitn(3, |&byte| byte == b' ').nth(2).unwrap_or_default();
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

fn response_error(error: httparse::Error, fields_max: usize) -> ResponseError {
    match error {
        httparse::Error::Version | httparse::Error::Status | httparse::Error::Token => {
            ResponseError::StatusLine
        }
        httparse::Error::HeaderName => ResponseError::FieldName,
        httparse::Error::HeaderValue => ResponseError::FieldValue,
        httparse::Error::TooManyHeaders => ResponseError::TooManyFields { max: fields_max },
        httparse::Error::NewLine => ResponseError::LineEnd,
    }
}
