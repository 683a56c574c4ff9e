//! Which hosts the names of a certificate stand for (RFC 9525 §6.3).
//!
//! Names are compared as ASCII in any case. A wildcard is the whole leftmost label and stands for exactly
//! one label; a dot at the end of a host, which makes it absolute, changes nothing.

/// Whether one of `names` stands for `host`, which has no port. A host that is an address of IPv6 may stand
/// in brackets, as it does in `Host`; names have none.
pub fn covers<'a>(names: impl IntoIterator<Item = &'a str>, host: &str) -> bool {
    let host = bare(host);
    names.into_iter().any(|name| stands_for(name, host))
}

/// Whether two hosts without ports are the same one.
pub fn is_same_host(a: &str, b: &str) -> bool {
    bare(a).eq_ignore_ascii_case(bare(b))
}

fn stands_for(name: &str, host: &str) -> bool {
    match wildcard_suffix(name) {
        Some(suffix) => parent(host).is_some_and(|parent| parent.eq_ignore_ascii_case(suffix)),
        None => !name.is_empty() && name.eq_ignore_ascii_case(host),
    }
}

/// The host without what does not tell it apart: the final dot, or brackets.
fn bare(host: &str) -> &str {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or_else(|| absolute(host))
}

/// A host without the dot at its end.
pub(super) fn absolute(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// What follows `*.`, if the name is a wildcard.
pub(super) fn wildcard_suffix(name: &str) -> Option<&str> {
    name.strip_prefix("*.").filter(|suffix| !suffix.is_empty())
}

/// What follows the first label, if both are there. Addresses of IPv4 have none: `*.0.0.1` stands for
/// nothing.
pub(super) fn parent(host: &str) -> Option<&str> {
    let (label, parent) = host.split_once('.')?;
    let is_address = parent.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (!label.is_empty() && !is_address).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], host: &str, expected: bool) {
        assert_eq!(covers(names.iter().copied(), host), expected, "{names:?} for {host:?}");
    }

    #[test]
    fn exact_names_stand_for_themselves() {
        check(&["example.com"], "example.com", true);
        check(&["example.com"], "EXAMPLE.com", true);
        check(&["Example.COM"], "example.com", true);
        check(&["example.com"], "example.com.", true);
        check(&["example.com"], "www.example.com", false);
        check(&["example.com"], "example.co", false);
        check(&["example.com"], "", false);
        check(&["a.test", "b.test"], "b.test", true);
        check(&["localhost"], "localhost", true);
        check(&["bücher.test"], "bücher.test", true);
        check(&[], "example.com", false);
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        check(&["*.example.com"], "www.example.com", true);
        check(&["*.example.com"], "WWW.example.com.", true);
        check(&["*.example.com"], "example.com", false);
        check(&["*.example.com"], "a.b.example.com", false);
        check(&["*.example.com"], ".example.com", false);
        check(&["*.com"], "example.com", true);
        check(&["*.example.com"], "*.example.com", true);
    }

    #[test]
    fn other_asterisks_stand_for_nothing() {
        check(&["*"], "com", false);
        check(&["*."], "com", false);
        check(&["*."], "com.", false);
        check(&["w*.example.com"], "www.example.com", false);
        check(&["www.*.com"], "www.example.com", false);
        check(&["*.*.com"], "www.example.com", false);
        check(&[""], "", false);
        check(&[""], ".", false);
    }

    #[test]
    fn addresses_are_exact() {
        check(&["192.0.2.1"], "192.0.2.1", true);
        check(&["*.0.2.1"], "192.0.2.1", false);
        check(&["2001:db8::1"], "[2001:db8::1]", true);
        check(&["2001:db8::1"], "[2001:DB8::1]", true);
        check(&["2001:db8::1"], "[2001:db8::2]", false);
    }

    #[test]
    fn hosts_are_the_same_in_any_case() {
        assert!(is_same_host("Example.com", "example.COM."));
        assert!(!is_same_host("example.com", "www.example.com"));
        assert!(!is_same_host("[::1]", "[::2]"));
    }
}
