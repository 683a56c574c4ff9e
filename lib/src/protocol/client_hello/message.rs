//! A whole ClientHello, and what of it is looked at.

use kakehi_command::order::{HOST_BYTES_MAX, LABEL_BYTES_MAX};

use super::{MESSAGE_HEADER_BYTES, RECORD_HEADER_BYTES, Rejection, length_of};

/// Extensions (RFC 8446 §4.2; RFC 9849 §5 for the last one).
const SERVER_NAME: usize = 0;
const PROTOCOLS: usize = 16;
const ENCRYPTED_CLIENT_HELLO: usize = 0xfe0d;

/// The kind of name that is a host's (RFC 6066 §3).
const HOST_NAME: u8 = 0;

/// The outer form of an encrypted ClientHello (RFC 9849 §5).
const ECH_OUTER: u8 = 0;

/// Room to put messages together in, used for one after the other.
#[derive(Debug)]
pub struct Assembly {
    /// The message, if it was in several records.
    message: Vec<u8>,
    /// The server name in lower case.
    name: [u8; HOST_BYTES_MAX],
}

impl Default for Assembly {
    fn default() -> Self {
        Self { message: Vec::new(), name: [0; HOST_BYTES_MAX] }
    }
}

/// What a ClientHello says of where it wants to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The host that it is for, in lower case and without a dot at its end.
    pub server_name: Option<&'a str>,
    /// Whether the real one is, or may be, encrypted in it, and this is the one for the outside (RFC 9849 §6.1). Browsers
    /// also pretend so (§6.2): nobody but the backend can tell.
    pub ech_outer: bool,
    /// The list of protocols, well-formed.
    protocols: &'a [u8],
}

impl<'a> Hello<'a> {
    /// The protocols that the client would speak, those it prefers first.
    pub fn protocols(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let mut rest = Fields(self.protocols);
        std::iter::from_fn(move || rest.vector(1))
    }
}

impl Assembly {
    /// Reads a message that [`Scanner`](super::Scanner) has seen the end of.
    ///
    /// # Errors
    /// [`Rejection::MalformedHandshake`]: it contradicts itself, or is not whole.
    pub fn read<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Hello<'a>, Rejection> {
        let message = gather(bytes, &mut self.message).ok_or(Rejection::MalformedHandshake)?;
        read(message, &mut self.name).ok_or(Rejection::MalformedHandshake)
    }
}

/// The message without its header: in place if it is in one record, else put together in `room`.
fn gather<'a>(bytes: &'a [u8], room: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let mut records = Fields(bytes);
    let mut next = || {
        let header = records.take(RECORD_HEADER_BYTES)?;
        let length = length_of(header.get(RECORD_HEADER_BYTES - 2..)?);
        Some(records.take(length).unwrap_or(records.0))
    };
    let first = next()?;
    if let Some(message) = Fields(first).message() {
        return Some(message);
    }
    room.clear();
    room.extend_from_slice(first);
    while Fields(room).message().is_none() {
        room.extend_from_slice(next()?);
    }
    Fields(room).message()
}

/// Reads a message (RFC 8446 §4.1.2); none if it is malformed.
fn read<'a>(message: &'a [u8], name: &'a mut [u8; HOST_BYTES_MAX]) -> Option<Hello<'a>> {
    let mut fields = Fields(message);
    let version = fields.take(2)?;
    let random_and_id = fields.take(32).and(fields.vector(1));
    let suites = fields.vector(2)?;
    let compressions = fields.vector(1)?;
    let well_formed = version.first() == Some(&super::VERSION_MAJOR)
        && random_and_id.is_some_and(|id| id.len() <= 32)
        && suites.len() >= 2
        && suites.len().is_multiple_of(2)
        && !compressions.is_empty();
    if !well_formed {
        return None;
    }
    let (mut server_name, mut protocols, mut ech) = (None, None, None);
    // Before TLS 1.3 there may be none.
    if !fields.0.is_empty() {
        let mut extensions = Fields(fields.vector(2)?);
        while !extensions.0.is_empty() {
            let kind = extensions.number(2)?;
            let content = extensions.vector(2)?;
            let place = match kind {
                SERVER_NAME => &mut server_name,
                PROTOCOLS => &mut protocols,
                ENCRYPTED_CLIENT_HELLO => &mut ech,
                _ => continue,
            };
            // Each once (RFC 8446 §4.2): of two, we might take the one and the backend the other.
            if place.replace(content).is_some() {
                return None;
            }
        }
    }
    if !fields.0.is_empty() {
        return None;
    }
    let ech_outer = match ech {
        Some(content) => *content.first()? == ECH_OUTER,
        None => false,
    };
    let protocols = match protocols {
        Some(content) => protocol_list(content)?,
        None => &[],
    };
    let server_name = match server_name {
        Some(content) => normalised(host_name(content)?, name)?,
        None => None,
    };
    Some(Hello { server_name, ech_outer, protocols })
}

/// The host of a list of names (RFC 6066 §3): at most one of each kind. `Some(None)`: there is none.
fn host_name(content: &[u8]) -> Option<Option<&[u8]>> {
    let mut list = Fields(content);
    let mut names = Fields(list.vector(2).filter(|names| !names.is_empty())?);
    let mut host = None;
    while !names.0.is_empty() {
        let kind = names.number(1)?;
        let name = names.vector(2).filter(|name| !name.is_empty())?;
        if kind == usize::from(HOST_NAME) && host.replace(name).is_some() {
            return None;
        }
    }
    list.0.is_empty().then_some(host)
}

/// A host in lower case. None if no host is written so: then it is none of the names that routes are for, and as a part
/// of one that a wildcard stands for it would be somebody's trick.
fn normalised<'n>(host: Option<&[u8]>, room: &'n mut [u8; HOST_BYTES_MAX]) -> Option<Option<&'n str>> {
    let Some(host) = host else { return Some(None) };
    // RFC 6066 §3 wants no dot at the end. It means the same, and some send it.
    let host = host.strip_suffix(b".").unwrap_or(host);
    let label = |label: &[u8]| {
        let known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.iter().all(known)
    };
    if !host.split(|&byte| byte == b'.').all(label) {
        return None;
    }
    let lower = room.get_mut(..host.len())?;
    for (to, from) in lower.iter_mut().zip(host) {
        *to = from.to_ascii_lowercase();
    }
    std::str::from_utf8(lower).ok().map(Some)
}

/// A list of protocols (RFC 7301 §3.1), none of them empty.
fn protocol_list(content: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(content);
    let list = fields.vector(2).filter(|list| !list.is_empty())?;
    let mut names = Fields(list);
    while !names.0.is_empty() {
        names.vector(1).filter(|name| !name.is_empty())?;
    }
    fields.0.is_empty().then_some(list)
}

/// What is left to be read.
#[derive(Debug, Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        self.take(bytes).map(length_of)
    }

    /// What follows its own length of so many bytes.
    fn vector(&mut self, length_bytes: usize) -> Option<&'a [u8]> {
        let mut rest = *self;
        let length = rest.number(length_bytes)?;
        let content = rest.take(length)?;
        *self = rest;
        Some(content)
    }

    /// The content of a whole message of a handshake.
    fn message(self) -> Option<&'a [u8]> {
        let mut rest = self;
        let header = rest.take(MESSAGE_HEADER_BYTES)?;
        rest.take(length_of(header.get(1..)?))
    }
}
