//! Users of basic authentication, with hashes of their passwords.

use std::fmt;

use super::{OrderError, error::Excerpt};

/// Most users of one cluster: each is compared with at every request.
pub const CREDENTIALS_MAX: usize = 1024;
/// Longest name of a user, in bytes.
pub const CREDENTIAL_USER_BYTES_MAX: usize = 255;

const FIELD: &str = "authorized_hashes";

/// One user.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The name; without a colon (RFC 7617 §2).
    pub user: Box<str>,
    /// SHA-256 of the password.
    pub sha256: [u8; 32],
}

/// The hash is not shown: it is one of a password, without salt.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Checks `USER:HEX` texts. One that is wrong is named by its user, or by its place if it has none: it may
/// hold a password.
pub(super) fn credentials(texts: &[String]) -> Result<Box<[Credential]>, OrderError> {
    if texts.len() > CREDENTIALS_MAX {
        let reason = format!("are more than {CREDENTIALS_MAX}");
        return Err(OrderError::Invalid { field: FIELD, value: Excerpt::NONE, reason: reason.into() });
    }
    texts.iter().enumerate().map(|(place, text)| credential(place, text)).collect()
}

fn credential(place: usize, text: &str) -> Result<Credential, OrderError> {
    let Some((user, hash)) = text.split_once(':') else {
        let reason = format!("has no colon in its entry {place}: an entry is USER:HEX");
        return Err(OrderError::Invalid { field: FIELD, value: Excerpt::NONE, reason: reason.into() });
    };
    let refuse = |reason| Err(OrderError::invalid(FIELD, user, reason));
    if user.is_empty() {
        return refuse("is no user");
    }
    if user.len() > CREDENTIAL_USER_BYTES_MAX {
        return refuse("is a user's name longer than 255 bytes");
    }
    if user.chars().any(char::is_control) {
        return refuse("has a control character");
    }
    match sha256(hash.as_bytes()) {
        Some(sha256) => Ok(Credential { user: user.into(), sha256 }),
        None => refuse("is not followed by the 64 hexadecimal digits of a password's SHA-256"),
    }
}

fn sha256(hex: &[u8]) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if hex.len() != 2 * hash.len() {
        return None;
    }
    for (byte, [high, low]) in hash.iter_mut().zip(hex.as_chunks().0) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(hash)
}

fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of "secret".
    const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    fn check(text: &str, expected: &str) {
        let error =
            credentials(&["ok:".to_owned() + HASH, text.to_owned()]).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn an_entry_is_a_user_and_a_hash() {
        let texts = [format!("ada:{HASH}"), format!("grace hopper:{}", HASH.to_uppercase())];
        let found = credentials(&texts).expect("accepted");
        assert_eq!((&*found[0].user, &*found[1].user), ("ada", "grace hopper"));
        assert_eq!(found[0].sha256, found[1].sha256);
        assert_eq!(found[0].sha256[..4], [0x2b, 0xb8, 0x0d, 0x53]);
    }

    #[test]
    fn a_bad_entry_is_named_without_its_secret() {
        check("secret", "entry 1");
        check("ada:secret", "authorized_hashes `ada` is not followed by the 64");
        check(&format!("ada:secret:{HASH}"), "`ada` is not followed");
        check(&format!("ada:{HASH}0"), "`ada` is not followed");
        check(&format!("ada:{}g", &HASH[1..]), "`ada` is not followed");
        check(&format!(":{HASH}"), "`` is no user");
        check(&format!("a\tb:{HASH}"), "control character");
        check(&format!("{}:{HASH}", "x".repeat(256)), "longer than 255 bytes");
    }

    #[test]
    fn a_hash_is_not_printed() {
        let found = credentials(&[format!("ada:{HASH}")]).expect("accepted");
        assert_eq!(format!("{found:?}"), "[Credential { user: \"ada\", .. }]");
    }
}
