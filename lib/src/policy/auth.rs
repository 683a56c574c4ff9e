//! Basic authentication (RFC 7617) against a cluster's credentials.
//!
//! How long a check takes depends on what the client sent and on how many credentials there are, not on
//! how much of either it guessed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kakehi_command::order::Credential;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// Whether the value of `Authorization` names a user with its password. With no credentials nobody does.
///
/// `bytes_max` bounds user and password together, decoded. `scratch` is room to decode them into; it may be
/// used again and again, and is wiped.
pub fn check(
    authorization: Option<&[u8]>,
    credentials: &[Credential],
    bytes_max: usize,
    scratch: &mut Vec<u8>,
) -> bool {
    let Some(encoded) = authorization.and_then(basic) else { return false };
    // Decided before decoding, so that a long value costs no memory.
    if encoded.len() > bytes_max.div_ceil(3).saturating_mul(4) {
        return false;
    }
    scratch.clear();
    scratch.resize(base64::decoded_len_estimate(encoded.len()), 0);
    let decoded = STANDARD.decode_slice(encoded, scratch);
    let found = decoded.ok().filter(|&len| len <= bytes_max).and_then(|len| scratch.get(..len));
    let found = found.is_some_and(|user_pass| is_known(user_pass, credentials));
    scratch.fill(0);
    found
}

/// What follows the scheme `Basic` and at least one space (RFC 9110 §11.4).
fn basic(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"basic ";
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| rest.trim_ascii())
}

fn is_known(user_pass: &[u8], credentials: &[Credential]) -> bool {
    // A user's name has no colon, a password may (RFC 7617 §2).
    let Some(colon) = memchr::memchr(b':', user_pass) else { return false };
    let (Some(user), Some(password)) = (user_pass.get(..colon), user_pass.get(colon + 1..)) else {
        return false;
    };
    let sha256 = Sha256::digest(password);
    // Every entry is compared, to its end.
    let known = credentials.iter().fold(Choice::from(0), |known, credential| {
        known | (is_user(user, credential.user.as_bytes()) & sha256.as_slice().ct_eq(&credential.sha256))
    });
    known.into()
}

/// Compares names, of whatever lengths, in a time that depends on the first one's length alone.
fn is_user(user: &[u8], known: &[u8]) -> Choice {
    let known_bytes = known.iter().chain(std::iter::repeat(&0));
    let same_bytes = user.iter().zip(known_bytes).fold(Choice::from(1), |same, (a, b)| same & a.ct_eq(b));
    same_bytes & user.len().ct_eq(&known.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES_MAX: usize = 4096;

    fn credential(user: &str, password: &[u8]) -> Credential {
        Credential { user: user.into(), sha256: Sha256::digest(password).into() }
    }

    fn encode(user_pass: &[u8]) -> String {
        let mut out = vec![0; user_pass.len() * 2 + 4];
        let len = STANDARD.encode_slice(user_pass, &mut out).expect("there is room");
        out.truncate(len);
        String::from_utf8(out).expect("base64")
    }

    fn check_value(value: &str, expected: bool) {
        let credentials = [
            credential("alice", b"pass:word"),
            credential("alice", b"another"),
            credential("", b""),
            credential("b", "pässword".as_bytes()),
        ];
        let mut scratch = Vec::new();
        assert_eq!(check(Some(value.as_bytes()), &credentials, BYTES_MAX, &mut scratch), expected, "{value}");
        assert!(!check(Some(value.as_bytes()), &[], BYTES_MAX, &mut scratch), "nobody is nobody");
    }

    #[test]
    fn known_users_are_let_in() {
        for user_pass in ["alice:pass:word", "alice:another", ":", "b:pässword"] {
            let encoded = encode(user_pass.as_bytes());
            for scheme in ["Basic ", "basic ", "BASIC   "] {
                check_value(&format!("{scheme}{encoded}"), true);
            }
            check_value(&format!("Basic {encoded} "), true);
            check_value(&format!("Basic{encoded}"), false);
            check_value(&format!("Bearer {encoded}"), false);
            check_value(&format!("Basic {encoded}="), false);
            check_value(&format!("Basic {}", encoded.trim_end_matches('=')), !encoded.ends_with('='));
        }
    }

    #[test]
    fn others_are_not() {
        for user_pass in
            ["alice:pass", "alice:pass:word ", "Alice:another", "alice", "alice:", "a:", "b:another", ""]
        {
            check_value(&format!("Basic {}", encode(user_pass.as_bytes())), false);
        }
        for value in
            ["", "Basic", "Basic ", "Basic ::::", "Basic YWxpY2U6YW5vdGhlcg", "Basic =", "Basic YQ==YQ=="]
        {
            check_value(value, false);
        }
        assert!(!check(None, &[credential("", b"")], BYTES_MAX, &mut Vec::new()));
    }

    #[test]
    fn a_name_that_begins_as_another_is_not_that_user() {
        let check_names = |user: &[u8], known: &[u8], expected: bool| {
            assert_eq!(bool::from(is_user(user, known)), expected, "{user:?} {known:?}");
        };
        check_names(b"a", b"ab", false);
        check_names(b"ab", b"a", false);
        check_names(b"a\0", b"a", false);
        check_names(b"", b"a", false);
        check_names(b"", b"", true);
        check_names(b"ab", b"ab", true);
    }

    #[test]
    fn the_limit_is_exact() {
        for bytes_max in 1..40 {
            for len in 0..48 {
                let password = vec![b'p'; len];
                let user_pass = [b":", &password[..]].concat();
                let value = format!("Basic {}", encode(&user_pass));
                let credentials = [credential("", &password)];
                let found = check(Some(value.as_bytes()), &credentials, bytes_max, &mut Vec::new());
                assert_eq!(found, user_pass.len() <= bytes_max, "{bytes_max} {len}");
            }
        }
    }

    #[test]
    fn nothing_is_left_behind() {
        let mut scratch = Vec::new();
        let value = format!("Basic {}", encode(b"alice:secret"));
        assert!(check(Some(value.as_bytes()), &[credential("alice", b"secret")], BYTES_MAX, &mut scratch));
        assert!(scratch.len() >= b"alice:secret".len() && scratch.iter().all(|&byte| byte == 0));
    }

    proptest! {
        #[test]
        fn only_the_very_password_will_do(
            user in "[a-z]{0,4}", password: Vec<u8>, other_user in "[a-z]{0,4}", other: Vec<u8>,
        ) {
            let credentials = [credential(&user, &password)];
            let known = |user: &str, password: &[u8]| {
                let value = format!("Basic {}", encode(&[user.as_bytes(), b":", password].concat()));
                check(Some(value.as_bytes()), &credentials, BYTES_MAX, &mut Vec::new())
            };
            prop_assert!(known(&user, &password));
            prop_assert_eq!(known(&other_user, &password), other_user == user);
            prop_assert_eq!(known(&user, &other), other == password);
        }

        #[test]
        fn no_value_is_too_strange(value: Vec<u8>, bytes_max in 0..64_usize) {
            let value = [b"Basic ", &value[..]].concat();
            prop_assert!(!check(Some(&value), &[credential("nobody", b"")], bytes_max, &mut Vec::new()));
        }
    }
}
