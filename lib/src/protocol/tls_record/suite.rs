//! The three cipher suites that every implementation of TLS 1.3 has (RFC 8446 §9.1), and what each fixes.

use aws_lc_rs::{aead, hkdf};
use rustls::CipherSuite;

/// What a connection is protected with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// `TLS_AES_128_GCM_SHA256`.
    Aes128Gcm,
    /// `TLS_AES_256_GCM_SHA384`.
    Aes256Gcm,
    /// `TLS_CHACHA20_POLY1305_SHA256`.
    Chacha20Poly1305,
}

impl Suite {
    /// Bytes of a traffic secret: what the suite's hash gives (RFC 8446 §7.1).
    pub fn secret_bytes(self) -> usize {
        self.hash().hmac_algorithm().digest_algorithm().output_len()
    }

    pub(super) fn cipher(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::Chacha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    pub(super) fn hash(self) -> hkdf::Algorithm {
        match self {
            Self::Aes128Gcm | Self::Chacha20Poly1305 => hkdf::HKDF_SHA256,
            Self::Aes256Gcm => hkdf::HKDF_SHA384,
        }
    }
}

impl From<Suite> for CipherSuite {
    fn from(suite: Suite) -> Self {
        match suite {
            Suite::Aes128Gcm => Self::TLS13_AES_128_GCM_SHA256,
            Suite::Aes256Gcm => Self::TLS13_AES_256_GCM_SHA384,
            Suite::Chacha20Poly1305 => Self::TLS13_CHACHA20_POLY1305_SHA256,
        }
    }
}

/// A suite of another version of TLS, or one we do not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no suite of our record layer")]
pub struct UnknownSuite(pub CipherSuite);

impl TryFrom<CipherSuite> for Suite {
    type Error = UnknownSuite;

    fn try_from(suite: CipherSuite) -> Result<Self, UnknownSuite> {
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => Ok(Self::Aes128Gcm),
            CipherSuite::TLS13_AES_256_GCM_SHA384 => Ok(Self::Aes256Gcm),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Ok(Self::Chacha20Poly1305),
            other => Err(UnknownSuite(other)),
        }
    }
}
