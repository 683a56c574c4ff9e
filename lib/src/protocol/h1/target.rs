//! Request targets and authorities (RFC 9112 §3.2, RFC 3986 §3.2).

use std::net::Ipv6Addr;

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
    /// `http://authority/path?query`; the authority wins over `Host`.
    Absolute {
        /// Host and port, as sent.
        authority: &'b str,
        /// Path and query; `/` when the target has none, `*` for an `OPTIONS` that has none (RFC
        /// 9112 §3.2.4).
        path: &'b str,
    },
    /// `host:port`, of `CONNECT` alone.
    Authority(&'b str),
    /// `*`, of `OPTIONS` alone.
    Asterisk,
}

impl<'b> Target<'b> {
    /// Reads the target of a request of this method.
    pub(super) fn parse(method: &str, text: &'b str) -> Result<Target<'b>, RequestError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(RequestError::Target);
        }
        if method == "CONNECT" {
            let authority = Authority::parse(text).ok_or(RequestError::Target)?;
            return if authority.port.is_some() {
                Ok(Target::Authority(text))
            } else {
                Err(RequestError::Target)
            };
        }
        if text.starts_with('/') {
            return Ok(Target::Origin(text));
        }
        if text == "*" {
            return if method == "OPTIONS" { Ok(Target::Asterisk) } else { Err(RequestError::Target) };
        }
        Target::parse_absolute(method, text)
    }

    fn parse_absolute(method: &str, text: &'b str) -> Result<Target<'b>, RequestError> {
        let (scheme, rest) = text.split_once("://").ok_or(RequestError::Target)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(RequestError::Target);
        }
        let authority_bytes = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(authority_bytes).ok_or(RequestError::Target)?;
        let path = match path {
            "" if method == "OPTIONS" => "*",
            "" => "/",
            // `http://host?query`: legal, never seen, and without a place to take the missing slash from.
            _ if path.starts_with('?') => return Err(RequestError::Target),
            _ => path,
        };
        Ok(Target::Absolute { authority, path })
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

    /// The authority, where the target names one.
    pub(super) fn authority(&self) -> Option<&'b str> {
        match self {
            Target::Absolute { authority, .. } | Target::Authority(authority) => Some(authority),
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
    pub(super) fn parse_bytes(bytes: &'b [u8]) -> Option<Authority<'b>> {
        Authority::parse(std::str::from_utf8(bytes).ok()?)
    }

    pub(super) fn parse(text: &'b str) -> Option<Authority<'b>> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, _) = rest.split_once(']')?;
                address.parse::<Ipv6Addr>().ok()?;
                text.split_at_checked(address.len() + 2)?
            }
            None => {
                let (host, port) = text.split_at_checked(text.find(':').unwrap_or(text.len()))?;
                is_registered_name(host.as_bytes()).then_some((host, port))?
            }
        };
        if host.is_empty() || host.len() > HOST_BYTES_MAX {
            return None;
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        Some(Authority { text, host, port })
    }
}

/// `reg-name` (RFC 3986 §3.2.2); IPv4 addresses are a subset of it.
fn is_registered_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match byte {
            b'%' => match tail {
                [high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
                _ => return false,
            },
            _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte) => tail,
            _ => return false,
        };
    }
    true
}
