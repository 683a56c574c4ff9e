//! What tells certificates apart.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

use crate::order::OrderError;

/// SHA-256 of a certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// That of this certificate.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

/// 64 hexadecimal digits in lower case.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Digits in any case; colons between them, as OpenSSL writes them, are allowed.
impl FromStr for Fingerprint {
    type Err = OrderError;

    fn from_str(text: &str) -> Result<Self, OrderError> {
        let refuse = || OrderError::invalid("fingerprint", text, "is not 64 hexadecimal digits");
        let mut nibbles = text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16));
        let mut nibble = || {
            let digit = nibbles.next().flatten()?;
            u8::try_from(digit).ok()
        };
        let mut hash = [0; 32];
        for byte in &mut hash {
            let high = nibble().ok_or_else(refuse)?;
            *byte = high << 4 | nibble().ok_or_else(refuse)?;
        }
        if nibbles.next().is_some() { Err(refuse()) } else { Ok(Self(hash)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_64_digits() {
        let of = Fingerprint::of(b"secret");
        let text = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        assert_eq!(of.to_string(), text);
        assert_eq!(text.parse(), Ok(of));
        assert_eq!(text.to_uppercase().parse(), Ok(of));
        let colons = text.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned());
        assert_eq!(colons.collect::<Vec<_>>().join(":").parse(), Ok(of));
        for wrong in ["", "2b", &format!("{text}0"), &text.replace('2', "g")] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }
}
