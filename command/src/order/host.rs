//! Host patterns of frontends: parsed and normalised once, here.
//!
//! ```text
//! example.com              exactly this host
//! *.example.com            one more label on the left, no more and no less
//! /app[0-9]+/.example.com  segments between dots may be regular expressions
//! *                        every host
//! ```
//! Hosts compare without regard to case (RFC 9110 §4.2.3), so literal labels are kept in lower case.
//! Internationalised names are refused in their Unicode form: what arrives in a request is the A-label
//! form (RFC 5890 §2.3.2.1), so that is what a pattern has to say.

use std::{fmt, net::Ipv6Addr, sync::Arc};

use super::{Case, OrderError, compile_expression};

/// Longest host name, in bytes (RFC 1035 §2.3.4, as text without the final dot).
pub const HOST_BYTES_MAX: usize = 253;
/// Longest label of a host name, in bytes (RFC 1035 §2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

const FIELD: &str = "hostname";

/// Which hosts a frontend is for. The text inside is normalised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This host only, in lower case.
    Exact(Arc<str>),
    /// Any one label before this suffix: `example.com` of `*.example.com`.
    Wildcard(Arc<str>),
    /// The pattern's whole text; [`HostPattern::segments`] takes it apart. Literal labels are in lower
    /// case, expressions as written (they match without regard to case).
    Regex(Arc<str>),
    /// Every host.
    Any,
}

/// A part of a pattern between two dots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostSegment<'a> {
    /// A label, to be compared without regard to case.
    Literal(&'a str),
    /// A regular expression for one label, to be anchored at both ends.
    Regex(&'a str),
}

impl HostPattern {
    /// Reads and normalises a pattern.
    ///
    /// # Errors
    /// Too long, an empty label, a character that no host has (a port, a space, Unicode), a wildcard
    /// elsewhere than alone on the left, or an expression that does not compile.
    pub fn parse(text: &str) -> Result<Self, OrderError> {
        let refuse = |reason| OrderError::invalid(FIELD, text, reason);
        if text.is_empty() {
            return Err(refuse("is empty"));
        }
        if text.len() > HOST_BYTES_MAX {
            return Err(refuse("is longer than 253 bytes"));
        }
        if text == "*" {
            return Ok(Self::Any);
        }
        if is_ipv6_literal(text) {
            return Ok(Self::Exact(text.to_ascii_lowercase().into()));
        }
        if text.contains('/') {
            return parse_regex(text).map(Self::Regex);
        }
        match text.strip_prefix("*.") {
            Some(suffix) => {
                check_labels(suffix).map_err(refuse)?;
                Ok(Self::Wildcard(suffix.to_ascii_lowercase().into()))
            }
            None => {
                check_labels(text).map_err(refuse)?;
                Ok(Self::Exact(text.to_ascii_lowercase().into()))
            }
        }
    }

    /// The parts of the pattern, left to right; none for [`HostPattern::Any`] and for the star of a
    /// wildcard.
    pub fn segments(&self) -> impl Iterator<Item = HostSegment<'_>> {
        let text = match self {
            Self::Exact(text) | Self::Wildcard(text) | Self::Regex(text) => text,
            Self::Any => "",
        };
        Segments { rest: Some(text).filter(|text| !text.is_empty()) }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) | Self::Regex(text) => f.write_str(text),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// An address in brackets stands where a host does (RFC 3986 §3.2.2).
fn is_ipv6_literal(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok())
}

pub(super) fn check_labels(name: &str) -> Result<(), &'static str> {
    name.split('.').try_for_each(check_label)
}

fn check_label(label: &str) -> Result<(), &'static str> {
    if label.is_empty() {
        return Err("has an empty label");
    }
    if label.len() > LABEL_BYTES_MAX {
        return Err("has a label longer than 63 bytes");
    }
    if !label.is_ascii() {
        return Err("is not ASCII: write an internationalised name in its `xn--` form");
    }
    if label.contains('*') {
        return Err("has a wildcard that is not its first label alone");
    }
    if label.contains(':') {
        return Err("has a colon: a frontend's host has no port");
    }
    // Underscores are in use, though not in RFC 952.
    if label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        Ok(())
    } else {
        Err("has a character that no host name has")
    }
}

fn parse_regex(text: &str) -> Result<Arc<str>, OrderError> {
    let refuse = |reason| OrderError::invalid(FIELD, text, reason);
    let mut normalised = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let (segment, after) =
            split_segment(rest).ok_or_else(|| refuse("has an expression without its closing slash"))?;
        match segment {
            HostSegment::Literal(label) => {
                check_label(label)
                    .map_err(|reason| refuse(if label == "*" { WITH_REGEX } else { reason }))?;
                normalised.push_str(&label.to_ascii_lowercase());
            }
            HostSegment::Regex(source) => {
                if source.is_empty() {
                    return Err(refuse("has an empty expression"));
                }
                compile_expression(source, Case::Ignored)
                    .map_err(|reason| OrderError::invalid(FIELD, text, reason))?;
                normalised.extend(["/", source, "/"]);
            }
        }
        if after.is_empty() {
            return Ok(normalised.into());
        }
        rest = after.strip_prefix('.').ok_or_else(|| refuse("has an expression that is not between dots"))?;
        normalised.push('.');
    }
}

const WITH_REGEX: &str = "joins a wildcard and an expression: write the wildcard as `/[^.]+/`";

/// The first segment and what follows it: nothing, or a dot and more. None if an expression does not end.
fn split_segment(text: &str) -> Option<(HostSegment<'_>, &str)> {
    if let Some(expression) = text.strip_prefix('/') {
        let end = expression.find('/')?;
        return Some((HostSegment::Regex(&expression[..end]), &expression[end + 1..]));
    }
    let end = text.find('.').unwrap_or(text.len());
    Some((HostSegment::Literal(&text[..end]), &text[end..]))
}

struct Segments<'a> {
    rest: Option<&'a str>,
}

impl<'a> Iterator for Segments<'a> {
    type Item = HostSegment<'a>;

    fn next(&mut self) -> Option<HostSegment<'a>> {
        let (segment, after) = split_segment(self.rest?)?;
        self.rest = after.strip_prefix('.');
        Some(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match HostPattern::parse(text) {
            Ok(pattern) => {
                assert_eq!(
                    HostPattern::parse(&pattern.to_string()),
                    Ok(pattern.clone()),
                    "normal forms are stable"
                );
                let kind = match pattern {
                    HostPattern::Exact(_) => "exact",
                    HostPattern::Wildcard(_) => "wildcard",
                    HostPattern::Regex(_) => "regex",
                    HostPattern::Any => "any",
                };
                format!("{kind} {pattern}")
            }
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{text}: {shown}");
    }

    #[test]
    fn patterns_are_told_apart_and_normalised() {
        check("*", "any *");
        check("Example.COM", "exact example.com");
        check("localhost", "exact localhost");
        check("127.0.0.1", "exact 127.0.0.1");
        check("[2001:DB8::1]", "exact [2001:db8::1]");
        check("xn--bcher-kva.example", "exact xn--bcher-kva.example");
        check("_dmarc.example.com", "exact _dmarc.example.com");
        check("*.Example.com", "wildcard *.example.com");
        check(r"/App\W.x/.Example.com", r"regex /App\W.x/.example.com");
        check("cdn./[a-z]+/.test", "regex cdn./[a-z]+/.test");
    }

    #[test]
    fn what_no_request_could_carry_is_refused() {
        check("", "is empty");
        check("a..b", "has an empty label");
        check(".example.com", "has an empty label");
        check("example.com.", "has an empty label");
        check("*.", "has an empty label");
        check("*.*.com", "wildcard that is not its first label");
        check("a*.com", "wildcard that is not its first label");
        check("example.com:8080", "has no port");
        check("a b.com", "no host name has");
        check("a\u{0}.com", "no host name has");
        check("bücher.example", "xn--");
        check("[::1", "colon");
        check(&format!("{}.com", "a".repeat(64)), "longer than 63");
        check(&"a.".repeat(200), "longer than 253");
    }

    #[test]
    fn bad_expressions_are_refused() {
        check("example.com/", "no host name has");
        check("//.com", "empty expression");
        check("/[a.com", "without its closing slash");
        check("/[/.com", "does not compile");
        check("/a/b.com", "not between dots");
        check("/a/.", "empty label");
        check("*./a/.com", "joins a wildcard");
    }

    #[test]
    fn segments_are_the_parts_between_dots() {
        use HostSegment::{Literal, Regex};
        let of = |text| HostPattern::parse(text).expect("a pattern");
        assert_eq!(
            of(r"a./b\.c/.d").segments().collect::<Vec<_>>(),
            [Literal("a"), Regex(r"b\.c"), Literal("d")]
        );
        assert_eq!(of("*.a.b").segments().collect::<Vec<_>>(), [Literal("a"), Literal("b")]);
        assert_eq!(of("*").segments().count(), 0);
    }
}
