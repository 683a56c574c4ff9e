//! What the fields of one head say about its body and its connection (RFC 9112 §6, §9), noted one by one.

use super::classes::{is_token_byte, plain_name_bytes};
use super::error::FramingError;
use super::lines::Header;
use crate::protocol::http::field::{Field, FieldSet};
use crate::protocol::http::{Framing, Version};

/// Most names in `Connection` that are looked for among the other fields: the search costs fields x options.
const CONNECTION_OPTIONS_MAX: usize = 32;

/// Most digits of a `Content-Length`. More say nothing that fewer can't, and some recipients cut them off.
const LENGTH_DIGITS_MAX: usize = 19;

/// The options of `Connection` that we act on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Persistence {
    Close,
    KeepAlive,
    Upgrade,
}

impl Persistence {
    fn of(option: &[u8]) -> Option<Persistence> {
        match option.len() {
            5 if option.eq_ignore_ascii_case(b"close") => Some(Persistence::Close),
            10 if option.eq_ignore_ascii_case(b"keep-alive") => Some(Persistence::KeepAlive),
            7 if option.eq_ignore_ascii_case(b"upgrade") => Some(Persistence::Upgrade),
            _ => None,
        }
    }
}

/// The `Upgrade` of a head (RFC 9110 §7.8) over all its lines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upgrade<'b> {
    Absent,
    /// One protocol.
    To(&'b [u8]),
    /// Several, or none that is well-formed: nothing that we could pass on and hold the backend to.
    Unclear,
}

impl<'b> Upgrade<'b> {
    /// These and those of one more line.
    fn and(self, value: &'b [u8]) -> Upgrade<'b> {
        match self {
            Upgrade::Absent if is_protocol(value) => Upgrade::To(value),
            _ => Upgrade::Unclear,
        }
    }
}

/// `Transfer-Encoding` over all its lines (RFC 9112 §6.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Absent,
    /// `chunked`, alone.
    Chunked,
    /// Others than `chunked`.
    Others,
    /// Others, then `chunked` at the end.
    OthersThenChunked,
    /// Something after `chunked`, or no list of codings at all.
    Invalid,
}

/// What the fields of a head say, as far as they were read.
pub(super) struct Facts<'b> {
    pub(super) host: Option<&'b [u8]>,
    pub(super) hosts: u32,
    /// The kinds of fields there are, so that nobody searches for one in vain.
    pub(super) seen: FieldSet,
    /// The client speaks of HTTP/2 without TLS: `HTTP2-Settings`, or `h2c` in `Upgrade`.
    pub(super) http2: bool,
    /// `Connection` has options that we do not know: names of fields.
    pub(super) names_fields: bool,
    content_length: Option<u64>,
    coding: Coding,
    close: bool,
    keep_alive: bool,
    /// `Connection` has the option `upgrade`.
    upgrades: bool,
    upgrade: Upgrade<'b>,
    expectations: u32,
    expects_continue: bool,
}

impl<'b> Facts<'b> {
    /// Before the first field.
    #[inline(always)]
    pub(super) fn new() -> Facts<'b> {
        Facts {
            host: None,
            hosts: 0,
            seen: FieldSet::default(),
            http2: false,
            names_fields: false,
            content_length: None,
            coding: Coding::Absent,
            close: false,
            keep_alive: false,
            upgrades: false,
            upgrade: Upgrade::Absent,
            expectations: 0,
            expects_continue: false,
        }
    }

    /// Takes note of one field and says what kind it is of; faults that hold in requests and responses
    /// alike are found here. `plain`: the name is of letters, digits and hyphens.
    #[inline(always)]
    pub(super) fn add(&mut self, field: &Header<'b>, plain: bool) -> Result<Field, FramingError> {
        let kind = if plain { Field::of(field.name) } else { unusual_kind(field.name)? };
        self.seen.insert(kind);
        match kind {
            Field::Other if field.name.eq_ignore_ascii_case(b"http2-settings") => {
                self.http2 = true;
                return Ok(Field::HopByHop);
            }
            Field::Other | Field::EndToEnd => {}
            Field::Host => {
                self.host = Some(field.value);
                self.hosts += 1;
            }
            Field::ContentLength => self.add_content_length(field.value)?,
            Field::Connection => self.add_connection(field.value),
            Field::TransferEncoding => self.coding = self.coding.and(field.value),
            Field::HopByHop if field.name.eq_ignore_ascii_case(b"upgrade") => self.add_upgrade(field.value),
            Field::Expect => {
                self.expectations += 1;
                self.expects_continue |= field.value.eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
        Ok(kind)
    }

    fn add_connection(&mut self, value: &[u8]) {
        // One option is what most have.
        if let Some(option) = Persistence::of(value) {
            self.add_persistence(option);
            return;
        }
        for option in list(value) {
            match Persistence::of(option) {
                Some(option) => self.add_persistence(option),
                None => self.names_fields = true,
            }
        }
    }

    fn add_persistence(&mut self, option: Persistence) {
        match option {
            Persistence::Close => self.close = true,
            Persistence::KeepAlive => self.keep_alive = true,
            Persistence::Upgrade => self.upgrades = true,
        }
    }

    fn add_upgrade(&mut self, value: &'b [u8]) {
        self.http2 |= list(value).any(is_http);
        self.upgrade = self.upgrade.and(value);
    }

    /// A length is said once. RFC 9110 §8.6 lets a recipient take equal values for one; then nobody knows
    /// which of them a neighbour took, and why there are two.
    fn add_content_length(&mut self, value: &[u8]) -> Result<(), FramingError> {
        let length = decimal(value).ok_or(FramingError::LengthMalformed)?;
        match self.content_length.replace(length) {
            None => Ok(()),
            Some(_) => Err(FramingError::LengthRepeated),
        }
    }

    /// The protocol to change to: a whole and unambiguous `Upgrade` in a version that knows it.
    #[inline(always)]
    pub(super) fn upgrade(&self, version: Version) -> Option<&'b [u8]> {
        match self.upgrade {
            Upgrade::To(protocol) if self.upgrades && version == Version::Http11 => Some(protocol),
            _ => None,
        }
    }

    /// Whether `100-continue` is all that is expected, and expected once.
    pub(super) fn expects_continue_alone(&self) -> bool {
        self.expects_continue && self.expectations == 1
    }

    /// Whether the connection stays open after this message (RFC 9112 §9.3).
    #[inline(always)]
    pub(super) fn keep_alive(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }

    /// The framing the two fields announce: `None` when neither is there (RFC 9112 §6.3).
    #[inline(always)]
    pub(super) fn framing(&self, version: Version) -> Result<Framing, FramingError> {
        match (self.coding, self.content_length) {
            (Coding::Absent, None) => Ok(Framing::None),
            (Coding::Absent, Some(length)) => Ok(Framing::Length(length)),
            (_, Some(_)) => Err(FramingError::LengthAndCoding),
            (_, None) if version == Version::Http10 => Err(FramingError::CodingInHttp10),
            (Coding::Chunked, None) => Ok(Framing::Chunked),
            (Coding::OthersThenChunked, None) => Err(FramingError::CodingNotImplemented),
            (Coding::Others | Coding::Invalid, None) => Err(FramingError::CodingNotChunked),
        }
    }
}

impl Coding {
    /// This coding followed by those of one more line. Parameters count as part of the name, so
    /// that nothing but the bare word is taken for `chunked`; nor are empty members skipped.
    fn and(self, value: &[u8]) -> Coding {
        value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).fold(self, |before, name| {
            match (before, name.eq_ignore_ascii_case(b"chunked")) {
                _ if !name.first().is_some_and(|&byte| is_token_byte(byte)) => Coding::Invalid,
                (Coding::Absent, true) => Coding::Chunked,
                (Coding::Others, true) => Coding::OthersThenChunked,
                (Coding::Absent | Coding::Others, false) => Coding::Others,
                (Coding::Chunked | Coding::OthersThenChunked | Coding::Invalid, _) => Coding::Invalid,
            }
        })
    }
}

/// Turns the kind of every field that `Connection` names into [`Field::HopByHop`], as far as it
/// yields. Once per field and option, hence the bound on these.
#[cold]
pub(super) fn mark_named(fields: &[Header<'_>], kinds: &mut [Field]) -> Result<(), FramingError> {
    let mut count = 0;
    for (at, connection) in fields.iter().enumerate() {
        if kinds.get(at) != Some(&Field::Connection) {
            continue;
        }
        for option in list(connection.value).filter(|option| Persistence::of(option).is_none()) {
            count += 1;
            if count > CONNECTION_OPTIONS_MAX {
                return Err(FramingError::ConnectionOptionsTooMany { max: CONNECTION_OPTIONS_MAX });
            }
            for (field, kind) in fields.iter().zip(&mut *kinds) {
                if kind.yields_to_connection() && field.name.eq_ignore_ascii_case(option) {
                    *kind = Field::HopByHop;
                }
            }
        }
    }
    Ok(())
}

/// The kind of a field of any name.
pub(super) fn field_kind(name: &[u8]) -> Result<Field, FramingError> {
    if plain_name_bytes(name) == name.len() { Ok(Field::of(name)) } else { unusual_kind(name) }
}

/// The kind of a field whose name has other characters than those that we know have.
///
/// Backends that see fields as variables (CGI, RFC 3875 §4.1.18, and what came after it) cannot tell
/// `Content_Length` from `Content-Length`; some turn every separator into the same `_`. So what differs in
/// separators alone from a field that delimits the body is refused, and from one that backends believe
/// because we wrote it is not passed on.
#[cold]
fn unusual_kind(name: &[u8]) -> Result<Field, FramingError> {
    let mut folded = [0; 32];
    let Some(folded) = folded.get_mut(..name.len()) else { return Ok(Field::Other) };
    for (folded, byte) in folded.iter_mut().zip(name) {
        *folded = if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    }
    match Field::of(folded) {
        Field::ContentLength | Field::TransferEncoding => Err(FramingError::LookAlike),
        Field::Other | Field::EndToEnd | Field::TraceParent | Field::TraceState => Ok(Field::Other),
        _ => Ok(Field::HopByHop),
    }
}

/// Whether two names of fields are one to a backend that makes variables of them: without regard to case, and
/// to whether words are joined by `-` or `_`.
pub(super) fn looks_like(name: &[u8], other: &[u8]) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == other.len() && name.iter().zip(other).all(|(&one, &two)| fold(one) == fold(two))
}

/// `protocol = token [ "/" token ]` (RFC 9110 §7.8), and only one of it.
fn is_protocol(value: &[u8]) -> bool {
    let is_token = |part: &[u8]| !part.is_empty() && part.iter().all(|&byte| is_token_byte(byte));
    value.splitn(2, |&byte| byte == b'/').all(is_token)
}

/// Whether a protocol is HTTP itself, above all `h2c`. A connection that speaks it behind our back is
/// past every rule of ours, and RFC 9113 §3.1 has done away with getting there by `Upgrade`.
fn is_http(protocol: &[u8]) -> bool {
    let starts_with =
        |prefix: &[u8]| protocol.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    starts_with(b"h2") || starts_with(b"http/") || protocol.eq_ignore_ascii_case(b"http")
}

/// The members of a comma-separated list, empty ones left out (RFC 9110 §5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// `1*DIGIT` that fits 63 bits, which is what everybody can count to: no sign, no space, no other base, no list.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > LENGTH_DIGITS_MAX {
        return None;
    }
    let number = digits.iter().try_fold(0u64, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })?;
    i64::try_from(number).is_ok().then_some(number)
}
