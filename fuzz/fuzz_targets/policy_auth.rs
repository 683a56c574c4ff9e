//! Basic authentication.
//!
//! Who is let in is decided as by the plainest reading of RFC 7617 and RFC 4648: base64 decoded letter by
//! letter, users and passwords compared as they are. What was decoded is wiped.

#![no_main]

use std::sync::LazyLock;

use kakehi_command::order::Credential;
use kakehi_lib::policy::auth::check;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

/// Users and their passwords.
const USERS: [(&str, &str); 5] =
    [("alice", "pass:word"), ("alice", "other"), ("a", ""), ("é", "é"), ("b", "\0")];

static CREDENTIALS: LazyLock<Vec<Credential>> = LazyLock::new(|| {
    let credential = |(user, password): (&str, &str)| Credential {
        user: user.into(),
        sha256: Sha256::digest(password).into(),
    };
    USERS.into_iter().map(credential).collect()
});

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 §4, with the one padding that there can be, and no bits left over.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let unpadded = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut bits = Vec::new();
    for letter in unpadded {
        let number = ALPHABET.iter().position(|it| it == letter)?;
        bits.extend((0..6).rev().map(|bit| number >> bit & 1 == 1));
    }
    let bytes: Vec<u8> = bits
        .chunks_exact(8)
        .map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit)))
        .collect();
    let left_over = &bits[bytes.len() * 8..];
    let canonical = text.len() % 4 == 0 && left_over.len() < 6 && !left_over.contains(&true);
    canonical.then_some(bytes)
}

fn encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(*group.get(index).unwrap_or(&0));
        let number = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let letter = ALPHABET[(number >> (18 - 6 * digit) & 63) as usize];
            out.push(if digit > group.len() { '=' } else { char::from(letter) });
        }
    }
    out
}

fn is_known(user_pass: &[u8], bytes_max: usize) -> bool {
    let known = |(user, password): &(&str, &str)| user_pass == format!("{user}:{password}").as_bytes();
    user_pass.len() <= bytes_max && USERS.iter().any(known)
}

fn check_value(value: &[u8], bytes_max: usize) -> bool {
    // Bytes of a request before, as they would be left behind.
    let mut scratch = vec![0; 3];
    let found = check(Some(value), &CREDENTIALS, bytes_max, &mut scratch);
    assert!(scratch.iter().all(|byte| *byte == 0), "wiped");
    assert!(!check(Some(value), &[], bytes_max, &mut scratch), "nobody is nobody");
    found
}

fuzz_target!(|input: &[u8]| {
    let Some((&bytes_max, value)) = input.split_first() else { return };
    let bytes_max = usize::from(bytes_max);
    let expected = value
        .split_at_checked(6)
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Basic "))
        .and_then(|(_, encoded)| decode(encoded.trim_ascii()))
        .is_some_and(|user_pass| is_known(&user_pass, bytes_max));
    assert_eq!(check_value(value, bytes_max), expected);

    let encoded = encode(value);
    assert_eq!(decode(encoded.as_bytes()).as_deref(), Some(value), "the target's own codec");
    assert_eq!(check_value(format!("Basic {encoded}").as_bytes(), bytes_max), is_known(value, bytes_max));
});
