//! Rewrites of host and path, with what the frontend's patterns captured.
//!
//! What is put together is checked as if a client had sent it: captures hold a client's bytes.

use std::net::Ipv6Addr;

use kakehi_command::order::{
    HOST_BYTES_MAX, HostPattern, HostSegment, HttpFrontend, PathRule, Rewrite, RewritePart,
};
use regex::bytes::Regex;

use crate::routing::{Case, RouteError, compile};

/// Longest rewritten path, in bytes: a default buffer, which the whole head has to fit into. A path that is
/// captured many times is not put together any further.
pub const TARGET_BYTES_MAX: usize = 16_384;

/// Longest label of a host (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// The rewrites of one frontend, ready to be applied.
#[derive(Debug)]
pub struct Rewriter {
    host: Option<Rewrite>,
    path: Option<Rewrite>,
    host_captures: HostCaptures,
    path_captures: PathCaptures,
}

/// Where `$HOST[1]` and the following come from.
#[derive(Debug)]
enum HostCaptures {
    None,
    /// The first label, which a wildcard stands for.
    Label,
    /// The groups of the expressions among these, left to right; one per label.
    Groups(Box<[Option<Regex>]>),
}

/// What is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Host,
    Path,
}

/// Where `$PATH[1]` and the following come from.
#[derive(Debug)]
enum PathCaptures {
    None,
    /// What follows a prefix of so many bytes.
    Rest(usize),
    Groups(Regex),
}

impl Rewriter {
    /// The rewrites of a frontend; `None` if it has none.
    ///
    /// # Errors
    /// An expression that does not compile.
    pub fn compile(frontend: &HttpFrontend) -> Result<Option<Self>, RouteError> {
        let Some(policy) = frontend.policy() else { return Ok(None) };
        let (host, path) = (policy.rewrite_host(), policy.rewrite_path());
        if host.is_none() && path.is_none() {
            return Ok(None);
        }
        let uses = |wanted: fn(&RewritePart) -> bool| {
            [host, path].into_iter().flatten().flat_map(Rewrite::parts).any(wanted)
        };
        let of_host = uses(|part| matches!(part, RewritePart::Host(1..)));
        let of_path = uses(|part| matches!(part, RewritePart::Path(1..)));
        Ok(Some(Self {
            host: host.cloned(),
            path: path.cloned(),
            host_captures: if of_host { HostCaptures::of(frontend.hostname())? } else { HostCaptures::None },
            path_captures: if of_path { PathCaptures::of(frontend.path())? } else { PathCaptures::None },
        }))
    }

    /// Appends the host to ask for instead, if there is one, in lower case, and tells whether it did. A host
    /// that no name server would know, as where a group of an expression captured nothing, is not one.
    ///
    /// `host` and `path` are the request's, as they matched the frontend: without the port, and with the
    /// query.
    pub fn host(&self, host: &str, path: &str, out: &mut Vec<u8>) -> bool {
        let Some(rewrite) = &self.host else { return false };
        self.append(rewrite, host, path, Made::Host, out, |host| {
            host.make_ascii_lowercase();
            is_host(host)
        })
    }

    /// Appends the path and query to ask for instead, if there are, and tells whether it did. Captures of
    /// the host are in lower case.
    ///
    /// `host` and `path` as for [`Rewriter::host`].
    pub fn path(&self, host: &str, path: &str, out: &mut Vec<u8>) -> bool {
        let Some(rewrite) = &self.path else { return false };
        self.append(rewrite, host, path, Made::Path, out, |path| is_target(path))
    }

    /// Whether the frontend rewrites the host at all.
    pub fn rewrites_host(&self) -> bool {
        self.host.is_some()
    }

    /// Whether the frontend rewrites the path at all.
    pub fn rewrites_path(&self) -> bool {
        self.path.is_some()
    }

    /// Appends what is put together if it is not too long and `accept`ed, else nothing.
    fn append(
        &self,
        rewrite: &Rewrite,
        host: &str,
        path: &str,
        what: Made,
        out: &mut Vec<u8>,
        accept: impl FnOnce(&mut [u8]) -> bool,
    ) -> bool {
        let start = out.len();
        let bytes_max = match what {
            Made::Host => HOST_BYTES_MAX,
            Made::Path => TARGET_BYTES_MAX,
        };
        // Hosts of any case are the same (RFC 9110 §4.2.3), and become the same path.
        let host = host.to_ascii_lowercase();
        let of_host = self.host_captures.of_host(host.as_bytes());
        let of_path = self.path_captures.of_path(path.as_bytes());
        for part in rewrite.parts() {
            let text = match part {
                RewritePart::Literal(text) => Some(text.as_bytes()),
                RewritePart::Host(index) => of_host.get(*index).copied(),
                RewritePart::Path(index) => of_path.get(*index).copied(),
            };
            // What follows a prefix may be nothing, or have no slash: a path has one all the same.
            let is_rest = matches!(part, RewritePart::Path(1..)) && out.len() == start;
            if what == Made::Path && is_rest && text.is_some_and(|text| !text.starts_with(b"/")) {
                out.push(b'/');
            }
            match text {
                Some(text) if out.len() - start + text.len() <= bytes_max => out.extend_from_slice(text),
                _ => {
                    out.truncate(start);
                    return false;
                }
            }
        }
        let accepted = out.get_mut(start..).is_some_and(accept);
        if !accepted {
            out.truncate(start);
        }
        accepted
    }
}

impl HostCaptures {
    fn of(pattern: &HostPattern) -> Result<Self, RouteError> {
        let expression = |segment| match segment {
            HostSegment::Literal(_) => Ok(None),
            HostSegment::Regex(source) => compile(source, Case::Ignored).map(Some),
        };
        Ok(match pattern {
            HostPattern::Exact(_) | HostPattern::Any => Self::None,
            HostPattern::Wildcard(_) => Self::Label,
            HostPattern::Regex(_) => {
                Self::Groups(pattern.segments().map(expression).collect::<Result<_, _>>()?)
            }
        })
    }

    /// The host itself, and what was captured of it. A group that took no part is empty.
    fn of_host<'h>(&self, host: &'h [u8]) -> Vec<&'h [u8]> {
        let mut captures = vec![host];
        let mut labels = host.split(|&byte| byte == b'.');
        match self {
            Self::None => {}
            Self::Label => captures.extend(labels.next()),
            Self::Groups(segments) => {
                for (segment, label) in segments.iter().zip(labels) {
                    if let Some(expression) = segment {
                        push_groups(&mut captures, expression, label);
                    }
                }
            }
        }
        captures
    }
}

impl PathCaptures {
    fn of(rule: &PathRule) -> Result<Self, RouteError> {
        Ok(match rule {
            PathRule::Equals(_) => Self::None,
            PathRule::Prefix(prefix) => Self::Rest(prefix.len()),
            PathRule::Regex(source) => Self::Groups(compile(source, Case::Counts)?),
        })
    }

    /// The path itself, and what was captured of it. A group that took no part is empty.
    fn of_path<'p>(&self, path: &'p [u8]) -> Vec<&'p [u8]> {
        let mut captures = vec![path];
        match self {
            Self::None => {}
            Self::Rest(prefix_bytes) => captures.extend(path.get(*prefix_bytes..)),
            Self::Groups(expression) => push_groups(&mut captures, expression, path),
        }
        captures
    }
}

fn push_groups<'t>(captures: &mut Vec<&'t [u8]>, expression: &Regex, text: &'t [u8]) {
    if let Some(found) = expression.captures(text) {
        captures.extend(found.iter().skip(1).map(|group| group.map_or(&b""[..], |group| group.as_bytes())));
    }
}

/// Whether this can be a host of a request: a name of letters, digits, dashes and underscores (the latter in
/// use, though not in RFC 952), or an IPv6 address in brackets (RFC 3986 §3.2.2).
fn is_host(host: &[u8]) -> bool {
    if let Some(rest) = host.strip_prefix(b"[") {
        let address = rest.strip_suffix(b"]").and_then(|address| std::str::from_utf8(address).ok());
        return address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    // The dot of the root may end a name.
    let name = host.strip_suffix(b".").unwrap_or(host);
    let in_label = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.split(|&byte| byte == b'.')
        .all(|label| (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.iter().all(in_label))
}

/// Whether this can be the target of a request, in origin form (RFC 9112 §3.2.1).
fn is_target(path: &[u8]) -> bool {
    path.starts_with(b"/") && path.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#')
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use kakehi_command::proto::{self, PathRuleKind, RequestHttpFrontend};
    use proptest::prelude::*;

    use super::*;

    /// The rewriter of a frontend, `host path`, the path `=/equals`, `~/expression` or `/prefix`.
    fn rewriter(frontend: &str, host: Option<&str>, path: Option<&str>) -> Option<Rewriter> {
        let (hostname, rule) = frontend.split_once(' ').expect("a host and a path");
        let (kind, value) = match rule.split_at(1) {
            ("=", value) => (PathRuleKind::Equals, value),
            ("~", value) => (PathRuleKind::Regex, value),
            _ => (PathRuleKind::Prefix, rule),
        };
        let frontend = HttpFrontend::from_wire(RequestHttpFrontend {
            cluster_id: Some("app".into()),
            address: SocketAddr::from(([127, 0, 0, 1], 80)).into(),
            hostname: hostname.into(),
            path: proto::PathRule { kind: kind.into(), value: value.into() },
            position: proto::RulePosition::Tree.into(),
            rewrite_host: host.map(str::to_owned),
            rewrite_path: path.map(str::to_owned),
            ..Default::default()
        });
        let frontend = frontend.unwrap_or_else(|error| panic!("{hostname} {rule}: {error}"));
        Rewriter::compile(&frontend).expect("it compiles")
    }

    type Method = fn(&Rewriter, &str, &str, &mut Vec<u8>) -> bool;

    fn apply(rewriter: &Rewriter, method: Method, host: &str, path: &str) -> Option<String> {
        let mut out = b"before".to_vec();
        let wrote = method(rewriter, host, path, &mut out);
        let text = String::from_utf8(out).expect("text");
        let appended = text.strip_prefix("before").expect("it only appends");
        assert!(wrote || appended.is_empty(), "{appended}");
        wrote.then(|| appended.to_owned())
    }

    /// A request, `host path`, and the host or path it is rewritten to.
    fn check_host(frontend: &str, rewrite: &str, request: &str, expected: Option<&str>) {
        let (host, path) = request.split_once(' ').expect("a host and a path");
        let rewriter = rewriter(frontend, Some(rewrite), None).expect("there is a rewrite");
        assert_eq!(apply(&rewriter, Rewriter::host, host, path).as_deref(), expected, "{rewrite}: {request}");
        assert_eq!(apply(&rewriter, Rewriter::path, host, path), None);
    }

    fn check_path(frontend: &str, rewrite: &str, request: &str, expected: Option<&str>) {
        let (host, path) = request.split_once(' ').expect("a host and a path");
        let rewriter = rewriter(frontend, None, Some(rewrite)).expect("there is a rewrite");
        assert_eq!(apply(&rewriter, Rewriter::path, host, path).as_deref(), expected, "{rewrite}: {request}");
        assert_eq!(apply(&rewriter, Rewriter::host, host, path), None);
    }

    #[test]
    fn without_a_rewrite_there_is_nothing() {
        assert!(rewriter("a.test /", None, None).is_none());
    }

    #[test]
    fn hosts_are_put_together() {
        check_host("a.test /", "b.test", "a.test /x", Some("b.test"));
        check_host("a.test /", "old-$HOST[0]", "A.Test /x", Some("old-a.test"));
        check_host("*.a.test /", "$HOST[1].internal", "Shop.a.test /", Some("shop.internal"));
        check_host("/(a+)|(b+)/.x./(c)/ /", "$HOST[3].$HOST[1]z$HOST[2]", "BB.x.c /", Some("c.zbb"));
        check_host("a.test /t/", "$PATH[1].tenants.test", "a.test /t/blue", Some("blue.tenants.test"));
        check_host("* /", "$HOST[0]", "[2001:DB8::1] /", Some("[2001:db8::1]"));
    }

    #[test]
    fn paths_are_put_together() {
        check_path("a.test /old", "/new$PATH[1]", "a.test /old/x?q=$1", Some("/new/x?q=$1"));
        check_path("a.test /old", "$PATH[1]", "a.test /old/x?q", Some("/x?q"));
        check_path("a.test /old", "$PATH[1]", "a.test /old", Some("/"));
        check_path("a.test /old", "$PATH[1]", "a.test /old?q", Some("/?q"));
        check_path("a.test /old", "$PATH[1]", "a.test /old@evil", Some("/@evil"));
        check_path("a.test /", "/v2$PATH[0]", "a.test /x?y", Some("/v2/x?y"));
        check_path("a.test =/old", "/new", "a.test /old", Some("/new"));
        check_path("*.a.test /", "/$HOST[1]$PATH[0]", "Shop.a.test /x", Some("/shop/x"));
        check_path("a.test ~/([0-9]+)/(?:b|(c)).*", "/$PATH[1]/x$PATH[2]", "a.test /12/b?c", Some("/12/x"));
        check_path("a.test ~/(?P<id>.*)", "/by/$PATH[1]", "a.test /A?b=c", Some("/by/A?b=c"));
    }

    #[test]
    fn what_is_no_host_is_not_asked_for() {
        let tenant = "$PATH[1].tenants.test";
        for path in ["", "a/b", "a%2Eb", "user@evil", "a:80", "a..b", "a?b", &"a".repeat(64), "ü"] {
            check_host("a.test /", tenant, &format!("a.test /{path}"), None);
        }
        check_host("* /", "$HOST[0]", "a..b /", None);
        check_host("* /", "$HOST[0]", "[::1 /", None);
        check_host("* /", "x$HOST[0]", "[::1] /", None);
        check_host("* /", "x$HOST[0]", &format!("{}a /", "abc.".repeat(63)), None);
        check_host("* /", "$HOST[0]", "a. /", Some("a."));
        check_host("/(a)|b/.x /", "$HOST[1].y", "b.x /", None);
    }

    #[test]
    fn what_is_no_target_is_not_asked_for() {
        check_path("a.test /", "$PATH[0]", "a.test x", None);
        check_path("a.test /", "/$PATH[1]", "a.test /a b", None);
        check_path("a.test /", "/$PATH[1]", "a.test /a#b", None);
        check_path("a.test /", "/$PATH[1]", "a.test /ü", None);
        let request = format!("a.test /{}", "a".repeat(TARGET_BYTES_MAX / 2));
        check_path("a.test /", "/$PATH[1]$PATH[1]", &request, None);
    }

    #[test]
    fn what_did_not_match_is_not_rewritten() {
        check_path("a.test /long", "/$PATH[1]", "a.test /", None);
        check_path("a.test ~/([0-9])", "/$PATH[1]", "a.test /a", None);
        check_host("/(a)/.x /", "$HOST[1]", "b.x /", None);
    }

    proptest! {
        /// Whatever a request holds, what is asked for instead has the form of a host and of a target.
        #[test]
        fn captures_cannot_leave_their_place(host in "\\PC{0,20}|[a-zA-Z.:@/\\[\\]\r\n-]{0,20}", path: String) {
            let rewriter = rewriter("* /", Some("a$HOST[0].b$PATH[1]"), Some("/x$HOST[0]/$PATH[1]"));
            let rewriter = rewriter.expect("there is a rewrite");
            let path = format!("/{path}");
            if let Some(host) = apply(&rewriter, Rewriter::host, &host, &path) {
                prop_assert!(!host.contains(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)), "{host}");
            }
            if let Some(path) = apply(&rewriter, Rewriter::path, &host, &path) {
                prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{path}");
            }
        }
    }
}
