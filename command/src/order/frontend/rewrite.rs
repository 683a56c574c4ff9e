//! Rewrites of host and path: text with captures of what the frontend matched.
//!
//! ```text
//! $HOST[0]  the whole host          $PATH[0]  the whole path
//! $HOST[1]  a wildcard's label,     $PATH[1]  what follows a prefix,
//!           or an expression's                or an expression's
//! $HOST[n]  groups, counted over    $PATH[n]  groups
//!           all segments
//! ```

use std::fmt;

use super::PathRule;
use crate::order::{Case, HostPattern, HostSegment, OrderError, compile_expression};

/// Longest rewrite, in bytes, as it is written.
pub const REWRITE_BYTES_MAX: usize = 1024;

/// A host or path to be put together for each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    text: Box<str>,
    parts: Box<[RewritePart]>,
}

/// A part of a [`Rewrite`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RewritePart {
    /// As it is.
    Literal(Box<str>),
    /// A capture of the host; 0: all of it.
    Host(usize),
    /// A capture of the path; 0: all of it.
    Path(usize),
}

impl Rewrite {
    /// Its parts, in order; at least one.
    #[must_use]
    pub fn parts(&self) -> &[RewritePart] {
        &self.parts
    }

    /// Checks a rewritten host.
    pub(super) fn host(text: &str, hostname: &HostPattern, path: &PathRule) -> Result<Self, OrderError> {
        const FIELD: &str = "rewrite_host";
        let rewrite = Self::parse(FIELD, text, hostname, path)?;
        let in_a_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let usable = match &*rewrite.parts {
            [RewritePart::Literal(host)] => matches!(HostPattern::parse(host), Ok(HostPattern::Exact(_))),
            parts => parts.iter().all(|part| match part {
                RewritePart::Literal(text) => text.bytes().all(in_a_host),
                RewritePart::Host(_) | RewritePart::Path(_) => true,
            }),
        };
        if usable { Ok(rewrite) } else { Err(OrderError::invalid(FIELD, text, "is not the name of a host")) }
    }

    /// Checks a rewritten path.
    pub(super) fn path(text: &str, hostname: &HostPattern, path: &PathRule) -> Result<Self, OrderError> {
        const FIELD: &str = "rewrite_path";
        let refuse = |reason| Err(OrderError::invalid(FIELD, text, reason));
        let rewrite = Self::parse(FIELD, text, hostname, path)?;
        for part in &rewrite.parts {
            // RFC 9112 §3.2: a target is visible ASCII, and has no fragment.
            if let RewritePart::Literal(text) = part
                && !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
            {
                return refuse("has a character that no path has: percent-encode it");
            }
        }
        match rewrite.parts.first() {
            Some(RewritePart::Literal(text)) if text.starts_with('/') => Ok(rewrite),
            Some(RewritePart::Path(_)) => Ok(rewrite),
            _ => refuse("begins neither with a slash nor with a capture of the path"),
        }
    }

    fn parse(
        field: &'static str,
        text: &str,
        hostname: &HostPattern,
        path: &PathRule,
    ) -> Result<Self, OrderError> {
        if text.is_empty() {
            return Err(OrderError::invalid(field, text, "is empty"));
        }
        if text.len() > REWRITE_BYTES_MAX {
            return Err(OrderError::invalid(field, text, "is longer than 1024 bytes"));
        }
        let mut parts = Vec::new();
        let (mut literal, mut at) = (0, 0);
        while let Some(dollar) = text[at..].find('$').map(|found| at + found) {
            at = dollar + 1;
            let (captures, make, index): (_, fn(usize) -> RewritePart, _) =
                if let Some(index) = text[at..].strip_prefix("HOST[") {
                    (hostname.capture_count(), RewritePart::Host, index)
                } else if let Some(index) = text[at..].strip_prefix("PATH[") {
                    (path.capture_count(), RewritePart::Path, index)
                } else {
                    continue;
                };
            let (digits, rest) = index.split_once(']').ok_or_else(|| {
                OrderError::invalid(field, text, "has a capture without its closing bracket")
            })?;
            let number = parse_index(digits)
                .ok_or_else(|| OrderError::invalid(field, text, "has a capture that is not a number"))?;
            if number > captures {
                let reason =
                    format!("has ${}]: there {}", &text[at..text.len() - rest.len() - 1], there_is(captures));
                return Err(OrderError::invalid(field, text, reason));
            }
            if literal < dollar {
                parts.push(RewritePart::Literal(text[literal..dollar].into()));
            }
            parts.push(make(number));
            at = text.len() - rest.len();
            literal = at;
        }
        if literal < text.len() {
            parts.push(RewritePart::Literal(text[literal..].into()));
        }
        Ok(Self { text: text.into(), parts: parts.into() })
    }
}

fn there_is(captures: usize) -> String {
    match captures {
        0 => "is no capture beyond [0]".to_owned(),
        1 => "is one capture beyond [0]".to_owned(),
        more => format!("are {more} captures beyond [0]"),
    }
}

fn parse_index(digits: &str) -> Option<usize> {
    let number = !digits.is_empty() && digits.len() <= 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| number)
}

/// As it was written.
impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl HostPattern {
    /// Captures that a match has beyond the whole host: a wildcard's label, or the groups of all
    /// expressions, from left to right.
    #[must_use]
    pub fn capture_count(&self) -> usize {
        match self {
            Self::Exact(_) | Self::Any => 0,
            Self::Wildcard(_) => 1,
            Self::Regex(_) => self
                .segments()
                .map(|segment| match segment {
                    HostSegment::Literal(_) => 0,
                    HostSegment::Regex(source) => group_count(source, Case::Ignored),
                })
                .sum(),
        }
    }
}

impl PathRule {
    /// Captures that a match has beyond the whole path: what follows a prefix, or an expression's groups.
    #[must_use]
    pub fn capture_count(&self) -> usize {
        match self {
            Self::Prefix(_) => 1,
            Self::Equals(_) => 0,
            Self::Regex(source) => group_count(source, Case::Counts),
        }
    }
}

/// The groups of an expression, its whole match not counted.
fn group_count(source: &str, case: Case) -> usize {
    compile_expression(source, case).map_or(0, |expression| expression.captures_len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto;

    fn rule(kind: proto::PathRuleKind, value: &str) -> PathRule {
        let wire = proto::PathRule { kind: kind.into(), value: value.into() };
        PathRule::from_wire(&wire).expect("a rule")
    }

    fn prefix() -> PathRule {
        rule(proto::PathRuleKind::Prefix, "/api")
    }

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).expect("a pattern")
    }

    fn check_captures(host: &str, path: &PathRule, expected: (usize, usize)) {
        assert_eq!((pattern(host).capture_count(), path.capture_count()), expected, "{host} {path:?}");
    }

    fn check_host(text: &str, host: &str, expected: Result<&[RewritePart], &str>) {
        check(Rewrite::host(text, &pattern(host), &prefix()), text, expected);
    }

    fn check_path(text: &str, path: &PathRule, expected: Result<&[RewritePart], &str>) {
        check(Rewrite::path(text, &pattern("*.a.test"), path), text, expected);
    }

    fn check(rewrite: Result<Rewrite, OrderError>, text: &str, expected: Result<&[RewritePart], &str>) {
        match (rewrite, expected) {
            (Ok(rewrite), Ok(parts)) => {
                assert_eq!(rewrite.parts(), parts);
                assert_eq!(rewrite.to_string(), text);
            }
            (Err(error), Err(expected)) => {
                let error = error.to_string();
                assert!(error.starts_with("rewrite_") && error.contains(expected), "{error}");
            }
            (rewrite, _) => panic!("{text}: {rewrite:?}"),
        }
    }

    fn literal(text: &str) -> RewritePart {
        RewritePart::Literal(text.into())
    }

    #[test]
    fn captures_are_counted() {
        let equals = rule(proto::PathRuleKind::Equals, "/x");
        let groups = rule(proto::PathRuleKind::Regex, "/(a)/(?:b)/(?P<c>.*)");
        check_captures("a.test", &equals, (0, 0));
        check_captures("*", &prefix(), (0, 1));
        check_captures("*.a.test", &groups, (1, 2));
        check_captures("/(a)(b)/.x./c/./(d)/.test", &prefix(), (3, 1));
    }

    #[test]
    fn hosts_are_put_together() {
        check_host("b.test", "a.test", Ok(&[literal("b.test")]));
        check_host("[::1]", "a.test", Ok(&[literal("[::1]")]));
        check_host("$HOST[1].b.test", "*.a.test", Ok(&[RewritePart::Host(1), literal(".b.test")]));
        check_host("$HOST[0]", "*", Ok(&[RewritePart::Host(0)]));
        check_host("a-$PATH[1]", "*", Ok(&[literal("a-"), RewritePart::Path(1)]));
    }

    #[test]
    fn hosts_that_can_be_none_are_refused() {
        check_host("", "*", Err("is empty"));
        check_host("b.test:80", "*", Err("is not the name of a host"));
        check_host("b..test", "*", Err("is not the name of a host"));
        check_host("*.b.test", "*", Err("is not the name of a host"));
        check_host("$HOST[0]:80", "*", Err("is not the name of a host"));
        check_host("$HOST", "*", Err("is not the name of a host"));
        check_host("$HOST[0] ", "*", Err("is not the name of a host"));
        check_host(&"a".repeat(1025), "*", Err("longer than 1024 bytes"));
    }

    #[test]
    fn paths_are_put_together() {
        check_path("/v2$PATH[1]", &prefix(), Ok(&[literal("/v2"), RewritePart::Path(1)]));
        check_path("$PATH[1]", &prefix(), Ok(&[RewritePart::Path(1)]));
        check_path("$PATH[0]/x", &prefix(), Ok(&[RewritePart::Path(0), literal("/x")]));
        let expected = [literal("/"), RewritePart::Host(1), RewritePart::Path(0)];
        check_path("/$HOST[1]$PATH[0]", &prefix(), Ok(&expected));
        // A dollar that begins no capture is a character of paths (RFC 3986 §3.3).
        check_path("/$a?$PATH[1]", &prefix(), Ok(&[literal("/$a?"), RewritePart::Path(1)]));
    }

    #[test]
    fn paths_that_can_be_none_are_refused() {
        check_path("v2", &prefix(), Err("begins neither"));
        check_path("$HOST[0]", &prefix(), Err("begins neither"));
        check_path("/a b", &prefix(), Err("no path has"));
        check_path("/a\n", &prefix(), Err("no path has"));
        check_path("/a#b", &prefix(), Err("no path has"));
        check_path("/é", &prefix(), Err("no path has"));
    }

    #[test]
    fn captures_that_there_are_not_are_refused() {
        check_path("/$PATH[2]", &prefix(), Err("has $PATH[2]: there is one capture beyond [0]"));
        check_path("/$HOST[7]", &prefix(), Err("has $HOST[7]: there is one capture beyond [0]"));
        check_host("$HOST[1]", "a.test", Err("has $HOST[1]: there is no capture beyond [0]"));
        check_host("$HOST[3]", "/(a)(b)/.test", Err("there are 2 captures"));
        check_path("/$PATH[1", &prefix(), Err("without its closing bracket"));
        check_path("/$PATH[]", &prefix(), Err("not a number"));
        check_path("/$PATH[+1]", &prefix(), Err("not a number"));
        check_path("/$PATH[99999999999999999999]", &prefix(), Err("not a number"));
    }

    proptest::proptest! {
        /// Whatever is accepted says what was written: its parts put together are the text again.
        #[test]
        fn the_parts_are_the_text(text in "/?(\\$(HOST|PATH)\\[[0-9é]?\\]?|[a-z/$é]){1,6}") {
            let host = pattern("/(a)(b)/.test");
            for rewrite in [Rewrite::path(&text, &host, &prefix()), Rewrite::host(&text, &host, &prefix())] {
                let Ok(rewrite) = rewrite else { continue };
                let shown = |part: &RewritePart| match part {
                    RewritePart::Literal(text) => text.to_string(),
                    RewritePart::Host(index) => format!("$HOST[{index}]"),
                    RewritePart::Path(index) => format!("$PATH[{index}]"),
                };
                proptest::prop_assert_eq!(rewrite.parts().iter().map(shown).collect::<String>(), &*text);
            }
        }
    }
}
