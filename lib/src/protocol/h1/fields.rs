//! What the fields of one head say about its body and its connection (RFC 9112 §6, §9), read in one pass.

use httparse::Header;

use super::error::FramingError;
use crate::protocol::http::field::{Field, FieldSet};
use crate::protocol::http::{Framing, Version};

/// Most names in `Connection` that are looked for among the other fields: the search costs fields x options.
pub(super) const CONNECTION_OPTIONS_MAX: usize = 32;

/// The `Connection` options of a head (RFC 9110 §7.6.1), for looking names up in them.
///
/// [`Facts::of`] has looked them all up already: a field that `Connection` names has the kind
/// [`Field::HopByHop`] in the `kinds` of its head.
pub(super) struct ConnectionOptions<'b> {
    names: [&'b [u8]; CONNECTION_OPTIONS_MAX],
    count: usize,
}

impl<'b> ConnectionOptions<'b> {
    fn empty() -> ConnectionOptions<'b> {
        ConnectionOptions { names: [&[]; CONNECTION_OPTIONS_MAX], count: 0 }
    }

    /// Gathers the options of every `Connection` line, if there are any.
    pub(super) fn of(fields: &[Header<'b>], seen: FieldSet) -> Result<ConnectionOptions<'b>, FramingError> {
        let mut options = ConnectionOptions::empty();
        if !seen.contains(Field::Connection) {
            return Ok(options);
        }
        for field in fields {
            if Field::of(field.name) == Field::Connection {
                options.add(field.value)?;
            }
        }
        Ok(options)
    }

    fn add(&mut self, value: &'b [u8]) -> Result<(), FramingError> {
        for option in list(value).filter(|option| Persistence::of(option).is_none()) {
            let slot = self
                .names
                .get_mut(self.count)
                .ok_or(FramingError::ConnectionOptionsTooMany { max: CONNECTION_OPTIONS_MAX })?;
            *slot = option;
            self.count += 1;
        }
        Ok(())
    }

    /// Whether a field of this name is hop-by-hop because `Connection` says so.
    pub(super) fn name(&self, name: &str) -> bool {
        self.names.iter().take(self.count).any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
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

/// What one pass over the fields of a head found.
pub(super) struct Facts<'b> {
    pub(super) host: Option<&'b [u8]>,
    pub(super) hosts: usize,
    pub(super) content_length: Option<u64>,
    pub(super) expect_continue: bool,
    /// The kinds of fields there are, so that nobody searches for one in vain.
    pub(super) seen: FieldSet,
    /// The client speaks of HTTP/2 without TLS: `HTTP2-Settings`, or `h2c` in `Upgrade`.
    pub(super) http2: bool,
    close: bool,
    keep_alive: bool,
    /// `Connection` has the option `upgrade`.
    upgrades: bool,
    upgrade: Upgrade<'b>,
    /// `Connection` has options that we do not know: names of fields.
    names_fields: bool,
    coding: Coding,
}

impl<'b> Facts<'b> {
    /// Reads the fields and fills `kinds`, of which there are as many; faults that hold in requests and
    /// responses alike are found here.
    pub(super) fn of(fields: &[Header<'b>], kinds: &mut [Field]) -> Result<Facts<'b>, FramingError> {
        let mut facts = Facts {
            host: None,
            hosts: 0,
            content_length: None,
            expect_continue: false,
            seen: FieldSet::default(),
            http2: false,
            close: false,
            keep_alive: false,
            upgrades: false,
            upgrade: Upgrade::Absent,
            names_fields: false,
            coding: Coding::Absent,
        };
        for (field, slot) in fields.iter().zip(&mut *kinds) {
            let kind = facts.add(field)?;
            facts.seen.insert(kind);
            *slot = kind;
        }
        if facts.names_fields {
            mark_named(fields, kinds)?;
        }
        Ok(facts)
    }

    /// Takes note of one field line and says what becomes of it.
    fn add(&mut self, field: &Header<'b>) -> Result<Field, FramingError> {
        let kind = Field::of(field.name);
        match kind {
            Field::Host => {
                self.host = Some(field.value);
                self.hosts += 1;
            }
            Field::ContentLength => self.add_content_length(field.value)?,
            Field::TransferEncoding => self.coding = self.coding.and(field.value),
            Field::Connection => self.add_connection(field.value),
            Field::HopByHop if field.name.eq_ignore_ascii_case("upgrade") => self.add_upgrade(field.value),
            Field::Expect => self.expect_continue |= field.value.eq_ignore_ascii_case(b"100-continue"),
            Field::Other => return self.add_other(field),
            _ => {}
        }
        Ok(kind)
    }

    /// A name that means nothing to us, unless it is made to look like one that does.
    fn add_other(&mut self, field: &Header<'b>) -> Result<Field, FramingError> {
        if field.name.eq_ignore_ascii_case("http2-settings") {
            self.http2 = true;
            return Ok(Field::HopByHop);
        }
        match look_alike(field.name) {
            Some(LookAlike::Framing) => Err(FramingError::LookAlike),
            Some(LookAlike::Trust) => Ok(Field::HopByHop),
            None => Ok(Field::Other),
        }
    }

    fn add_connection(&mut self, value: &[u8]) {
        for option in list(value) {
            match Persistence::of(option) {
                Some(Persistence::Close) => self.close = true,
                Some(Persistence::KeepAlive) => self.keep_alive = true,
                Some(Persistence::Upgrade) => self.upgrades = true,
                None => self.names_fields = true,
            }
        }
    }

    fn add_upgrade(&mut self, value: &'b [u8]) {
        self.http2 |= list(value).any(is_http);
        self.upgrade = self.upgrade.and(value);
    }

    /// The protocol to change to: a whole and unambiguous `Upgrade` in a version that knows it.
    pub(super) fn upgrade(&self, version: Version) -> Option<&'b [u8]> {
        match self.upgrade {
            Upgrade::To(protocol) if self.upgrades && version == Version::Http11 => Some(protocol),
            _ => None,
        }
    }

    /// Whether the connection stays open after this message (RFC 9112 §9.3).
    pub(super) fn keep_alive(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }

    /// The framing the two fields announce: `None` when neither is there (RFC 9112 §6.3).
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

    /// A list of equal values counts as one (RFC 9110 §8.6): what is passed on is that one.
    fn add_content_length(&mut self, value: &[u8]) -> Result<(), FramingError> {
        for member in value.split(|&byte| byte == b',') {
            let length = decimal(member.trim_ascii()).ok_or(FramingError::LengthMalformed)?;
            match self.content_length {
                None => self.content_length = Some(length),
                Some(known) if known == length => {}
                Some(_) => return Err(FramingError::LengthsDiffer),
            }
        }
        Ok(())
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
fn mark_named(fields: &[Header<'_>], kinds: &mut [Field]) -> Result<(), FramingError> {
    let mut options = ConnectionOptions::empty();
    for (field, kind) in fields.iter().zip(&*kinds) {
        if *kind == Field::Connection {
            options.add(field.value)?;
        }
    }
    for (field, kind) in fields.iter().zip(kinds) {
        if kind.yields_to_connection() && options.name(field.name) {
            *kind = Field::HopByHop;
        }
    }
    Ok(())
}

/// What a name resembles that differs from it in separators alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LookAlike {
    /// A field that delimits the body.
    Framing,
    /// A field that a backend believes because we wrote it.
    Trust,
}

/// Backends that see fields as variables (CGI, RFC 3875 §4.1.18, and what came after it) cannot tell
/// `Content_Length` from `Content-Length`; some turn every separator into the same `_`.
pub(super) fn look_alike(name: &str) -> Option<LookAlike> {
    const NAMES: [(&str, LookAlike); 8] = [
        ("content-length", LookAlike::Framing),
        ("transfer-encoding", LookAlike::Framing),
        ("x-forwarded-for", LookAlike::Trust),
        ("x-forwarded-host", LookAlike::Trust),
        ("x-forwarded-port", LookAlike::Trust),
        ("x-forwarded-proto", LookAlike::Trust),
        ("x-real-ip", LookAlike::Trust),
        ("x-request-id", LookAlike::Trust),
    ];
    if !matches!(name.len(), 9 | 12 | 14..=17)
        || name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-')
    {
        return None;
    }
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    NAMES.iter().find(|(known, _)| known.bytes().eq(name.bytes().map(fold))).map(|&(_, alike)| alike)
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

/// `tchar` (RFC 9110 §5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A byte that a field value may hold (RFC 9110 §5.5), obs-text included.
pub(super) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// The members of a comma-separated list, empty ones left out (RFC 9110 §5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// `1*DIGIT` that fits 64 bits: no sign, no space, no other base.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}
