//! Request targets and authorities (RFC 9112 §3.2, RFC 3986 §3.2).

use std::net::Ipv6Addr;

use super::classes::plain_host_bytes;
use super::error::RequestError;

/// Longest host accepted. A DNS name has at most 253 bytes as text (RFC 1035 §2.3.4), an IPv6 literal 47.
pub(super) const HOST_BYTES_MAX: usize = 255;

/// The target of a request, in one of its four forms (RFC 9112 §3.2).
///
/// Printable ASCII without `#` in every form: anything else belongs percent-encoded, and neighbours
/// differ on what to do with it. Otherwise kept byte for byte; nothing is decoded or normalised
/// here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'b> {
    /// `/path?query`.
    Origin(&'b str),
    /// `http://authority/path?query`; the authority is that of `Host`.
    Absolute {
        /// Host and port, as sent.
        authority: &'b str,
        /// Path and query; `/` when the target has none, `*` for an `OPTIONS` that has none (RFC
        /// 9112 §3.2.4).
        path: &'b str,
        /// The port of the scheme.
        default_port: u16,
    },
    /// `host:port`, of `CONNECT` alone.
    Authority(&'b str),
    /// `*`, of `OPTIONS` alone.
    Asterisk,
}

impl<'b> Target<'b> {
    /// Reads the target of a request of this method; its bytes are printable ASCII without `#` already.
    #[inline(always)]
    pub(super) fn parse(method: &str, target: &'b [u8]) -> Result<Target<'b>, RequestError> {
        let text = std::str::from_utf8(target).map_err(|_| RequestError::Target)?;
        if target.first() == Some(&b'/') && method != "CONNECT" {
            return Ok(Target::Origin(text));
        }
        Target::parse_rarer(method, text)
    }

    fn parse_rarer(method: &str, text: &'b str) -> Result<Target<'b>, RequestError> {
        if method == "CONNECT" {
            let authority = Authority::parse(text.as_bytes()).ok_or(RequestError::Target)?;
            return authority.port.map(|_| Target::Authority(text)).ok_or(RequestError::Target);
        }
        if text == "*" {
            return if method == "OPTIONS" { Ok(Target::Asterisk) } else { Err(RequestError::Target) };
        }
        Target::parse_absolute(method, text)
    }

    fn parse_absolute(method: &str, text: &'b str) -> Result<Target<'b>, RequestError> {
        let (scheme, rest) = text.split_once("://").ok_or(RequestError::Target)?;
        let default_port = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => 80,
            _ if scheme.eq_ignore_ascii_case("https") => 443,
            _ => return Err(RequestError::Target),
        };
        let authority_bytes = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(authority_bytes).ok_or(RequestError::Target)?;
        let path = match path {
            "" if method == "OPTIONS" => "*",
            "" => "/",
            // `http://host?query`: legal, never seen, and without a place to take the missing slash from.
            _ if path.starts_with('?') => return Err(RequestError::Target),
            _ => path,
        };
        Ok(Target::Absolute { authority, path, default_port })
    }

    /// What the backend is asked for: path and query, `*`, or the authority of `CONNECT`.
    pub fn path(&self) -> &'b str {
        match self {
            Target::Origin(path) | Target::Absolute { path, .. } => path,
            Target::Authority(authority) => authority,
            Target::Asterisk => "*",
        }
    }

    /// What routing rules are matched against: path and query, `/` where the target has none.
    pub fn route_path(&self) -> &'b str {
        match self {
            Target::Origin(path) | Target::Absolute { path, .. } if path.starts_with('/') => path,
            _ => "/",
        }
    }

    /// The authority, where the target names one, and the port that it has if it names none.
    pub(super) fn authority(&self) -> Option<(&'b str, Option<u16>)> {
        match self {
            Target::Absolute { authority, default_port, .. } => Some((authority, Some(*default_port))),
            Target::Authority(authority) => Some((authority, None)),
            Target::Origin(_) | Target::Asterisk => None,
        }
    }
}

/// `host [":" port]`, without user information (RFC 9110 §4.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Authority<'b> {
    pub(super) text: &'b str,
    /// A name, an IPv4 address, or an IPv6 address in brackets. Never empty.
    pub(super) host: &'b str,
    /// `None` when there is none, or nothing after the colon (RFC 3986 §3.2.3).
    pub(super) port: Option<u16>,
}

impl<'b> Authority<'b> {
    #[inline(always)]
    pub(super) fn parse(bytes: &'b [u8]) -> Option<Authority<'b>> {
        let host_bytes = match bytes.first() {
            Some(b'[') => ipv6_literal_bytes(bytes)?,
            _ => registered_name_bytes(bytes),
        };
        if host_bytes == 0 || host_bytes > HOST_BYTES_MAX {
            return None;
        }
        let port = match bytes.get(host_bytes..)? {
            [] | [b':'] => None,
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return None,
        };
        let text = std::str::from_utf8(bytes).ok()?;
        Some(Authority { text, host: text.get(..host_bytes)?, port })
    }

    /// Whether both name the same place. A port that is not named is the default one; where there is none, it
    /// may be any.
    pub(super) fn is_same(&self, other: &Authority<'_>, default_port: Option<u16>) -> bool {
        let same_port = match default_port {
            Some(_) => self.port.or(default_port) == other.port.or(default_port),
            None => self.port.is_none() || self.port == other.port,
        };
        same_port && self.host.eq_ignore_ascii_case(other.host)
    }
}

/// Bytes of the `reg-name` at the start of a text (RFC 3986 §3.2.2); IPv4 addresses are a subset of it.
///
/// Two things that the grammar allows and no host name has are not part of it here. Percent-encoding: who
/// decodes it sees another host than who does not. The comma: between two hosts it is how a list of two
/// `Host` fields is written.
#[inline(always)]
fn registered_name_bytes(text: &[u8]) -> usize {
    let plain = plain_host_bytes(text);
    match text.get(plain) {
        None | Some(b':') => plain,
        Some(_) => text.iter().take_while(|&&byte| is_host_byte(byte)).count(),
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte)
}

/// Bytes of an IPv6 address in brackets; neither zones nor later versions are known (RFC 3986 §3.2.2).
fn ipv6_literal_bytes(text: &[u8]) -> Option<usize> {
    let end = text.iter().position(|&byte| byte == b']')?;
    let address = std::str::from_utf8(text.get(1..end)?).ok()?;
    address.parse::<Ipv6Addr>().ok().map(|_| end + 1)
}

/// One to five digits that are a port.
#[inline(always)]
fn port(digits: &[u8]) -> Option<u16> {
    if digits.len() > 5 {
        return None;
    }
    let number = digits.iter().try_fold(0u32, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0'))
    })?;
    u16::try_from(number).ok()
}
