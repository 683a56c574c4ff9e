//! Cookies as far as a proxy that sets one of its own has to know them: RFC 6265 §4.2.1 and §5.4 for what clients
//! send, §4.1.1 for what they are told.
//!
//! Names are compared with regard to case. Of several cookies of one name the first counts: clients send the one
//! with the longest path first. A quoted value is that within the quotes.

use std::fmt;

use kakehi_command::order::{SameSite, StickyAttributes};

/// The cookies of a `Cookie` field as they stand there, without what separates them.
pub fn pieces(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    // A quoted value cannot hold a semicolon.
    value.split(|&byte| byte == b';').map(<[u8]>::trim_ascii).filter(|piece| !piece.is_empty())
}

/// Whether a cookie has this name.
#[must_use]
pub fn is_named(piece: &[u8], name: &[u8]) -> bool {
    value_of(piece, name).is_some()
}

/// The value of the first cookie of this name, in the values of all `Cookie` fields.
pub fn find<'b>(mut fields: impl Iterator<Item = &'b [u8]>, name: &[u8]) -> Option<&'b [u8]> {
    fields.find_map(|value| pieces(value).find_map(|piece| value_of(piece, name)))
}

fn value_of<'b>(piece: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    let rest = piece.strip_prefix(name)?.trim_ascii_start();
    let value = rest.strip_prefix(b"=")?.trim_ascii_start();
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

/// The sticky cookie, as clients are told of it.
#[derive(Debug, Clone, Copy)]
pub struct SetCookie<'a> {
    /// Its name, a token.
    pub name: &'a str,
    /// Its value, which a cookie can hold.
    pub value: &'a str,
    /// What the operator wants of it.
    pub attributes: StickyAttributes,
    /// The client came over TLS: of others a cookie for TLS only would be dropped.
    pub secured: bool,
}

impl fmt::Display for SetCookie<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, attributes, secured } = self;
        write!(f, "{name}={value}; Path=/")?;
        if attributes.secure && *secured {
            f.write_str("; Secure")?;
        }
        if attributes.http_only {
            f.write_str("; HttpOnly")?;
        }
        match attributes.same_site {
            // Without Secure it would be dropped.
            Some(SameSite::None) if !secured => Ok(()),
            Some(same_site) => write!(f, "; SameSite={}", same_site.as_str()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_of_a_name_counts() {
        let find = |fields: &[&'static str], name: &str| {
            let fields = fields.iter().map(|field| field.as_bytes());
            find(fields, name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let check = |fields: &[&'static str], expected: Option<&str>| {
            assert_eq!(find(fields, "S").as_deref(), expected, "{fields:?}");
        };
        check(&["S=1"], Some("1"));
        check(&["a=2; S=1; S=3"], Some("1"));
        check(&["a=2", "b=3;S=1"], Some("1"));
        check(&["S=\"a b\"; c=d"], Some("a b"));
        check(&["S=\"a"], Some("\"a"));
        check(&["S=a=b"], Some("a=b"));
        check(&[" ;; S = 1 ;"], Some("1"));
        check(&["S="], Some(""));
        check(&["s=1; SS=2; xS=3; S; "], None);
        check(&[], None);
    }

    #[test]
    fn attributes_are_those_that_work() {
        let check = |secure, http_only, same_site, secured, expected: &str| {
            let attributes = StickyAttributes { secure, http_only, same_site };
            assert_eq!(SetCookie { name: "S", value: "b-0", attributes, secured }.to_string(), expected);
        };
        check(false, false, None, true, "S=b-0; Path=/");
        check(true, true, Some(SameSite::None), true, "S=b-0; Path=/; Secure; HttpOnly; SameSite=None");
        check(true, false, Some(SameSite::None), false, "S=b-0; Path=/");
        check(false, false, Some(SameSite::Lax), false, "S=b-0; Path=/; SameSite=Lax");
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_is_taken_out(value in "[Sa=; \"]{0,30}") {
            let value = value.as_bytes();
            let left: Vec<u8> = pieces(value).filter(|piece| !is_named(piece, b"S")).flat_map(|piece| {
                piece.iter().copied().chain(*b"; ")
            }).collect();
            prop_assert_eq!(find([&*left].into_iter(), b"S"), None);
            let was_there = pieces(value).any(|piece| is_named(piece, b"S"));
            prop_assert_eq!(find([value].into_iter(), b"S").is_some(), was_there);
        }
    }
}
