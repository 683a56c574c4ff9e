//! What the fields of one head say about its body and its connection (RFC 9112 §6, §9), read in one pass.

use httparse::Header;

use super::error::FramingError;
use crate::protocol::http::field::{Field, FieldSet};
use crate::protocol::http::{Framing, Version};

/// Most names in `Connection` that are looked for among the other fields: the search costs fields x options.
pub(super) const CONNECTION_OPTIONS_MAX: usize = 32;

/// The `Connection` options of a head (RFC 9110 §7.6.1).
pub(super) struct ConnectionOptions<'b> {
    names: [&'b [u8]; CONNECTION_OPTIONS_MAX],
    count: usize,
    /// `close` was among them.
    pub(super) close: bool,
    /// `keep-alive` was among them.
    pub(super) keep_alive: bool,
}

impl<'b> ConnectionOptions<'b> {
    fn empty() -> ConnectionOptions<'b> {
        ConnectionOptions { names: [&[]; CONNECTION_OPTIONS_MAX], count: 0, close: false, keep_alive: false }
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
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else {
                let slot = self
                    .names
                    .get_mut(self.count)
                    .ok_or(FramingError::ConnectionOptionsTooMany { max: CONNECTION_OPTIONS_MAX })?;
                *slot = option;
                self.count += 1;
            }
        }
        Ok(())
    }

    /// Whether a field of this name is hop-by-hop because `Connection` says so.
    pub(super) fn name(&self, name: &str) -> bool {
        self.names.iter().take(self.count).any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Whether the connection stays open after this message (RFC 9112 §9.3).
    pub(super) fn keep_alive(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
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

/// What one pass over the fields of a head found.
pub(super) struct Facts<'b> {
    pub(super) host: Option<&'b [u8]>,
    pub(super) hosts: usize,
    pub(super) content_length: Option<u64>,
    pub(super) connection: ConnectionOptions<'b>,
    pub(super) expect_continue: bool,
    /// The kinds of fields there are, so that nobody searches for one in vain.
    pub(super) seen: FieldSet,
    coding: Coding,
}

impl<'b> Facts<'b> {
    /// Reads the fields; faults that hold in requests and responses alike are found here.
    pub(super) fn of(fields: &[Header<'b>]) -> Result<Facts<'b>, FramingError> {
        let mut facts = Facts {
            host: None,
            hosts: 0,
            content_length: None,
            connection: ConnectionOptions::empty(),
            expect_continue: false,
            seen: FieldSet::default(),
            coding: Coding::Absent,
        };
        for field in fields {
            let kind = Field::of(field.name);
            facts.seen.insert(kind);
            match kind {
                Field::Host => {
                    facts.host = Some(field.value);
                    facts.hosts += 1;
                }
                Field::ContentLength => facts.add_content_length(field.value)?,
                Field::TransferEncoding => facts.coding = facts.coding.and(field.value),
                Field::Connection => facts.connection.add(field.value)?,
                Field::Expect => {
                    facts.expect_continue |= field.value.eq_ignore_ascii_case(b"100-continue");
                }
                _ => {}
            }
        }
        Ok(facts)
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
