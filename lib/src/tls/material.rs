//! What a certificate is served with: its chain, the key, an OCSP response.
//!
//! Reading a key is the most of what a certificate costs: 20 us and 0.7 KB for ECDSA P-256; 0.2 ms and 2.5 KB,
//! or 0.8 ms and 3.8 KB, for RSA of 2048 or 4096 bits, which become 5.8 or 9.8 KB when it has signed, for the
//! library keeps what makes the next signature cheaper. A worker that boots with 20,000 certificates would
//! stand still for seconds. So the main process, which accepts a certificate, reads the key and holds it
//! against the certificate ([`Material::new`]); workers read it when it is first asked for
//! ([`Material::accepted`]).
//!
//! No byte is copied to be kept: chain and key stay where the configuration has them. What rustls wants to own
//! is put together in each handshake, for less than a microsecond.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{CertificateError, SignatureScheme};
use rustls_pki_types::{AlgorithmIdentifier, CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, alg_id};
use thiserror::Error;

/// Where the bytes are that a certificate is made of.
pub trait Source: fmt::Debug + Send + Sync {
    /// The chain: the certificate itself, then the issuer of each before it.
    fn chain(&self) -> Vec<CertificateDer<'_>>;

    /// Its private key.
    fn key(&self) -> PrivateKeyDer<'_>;

    /// What is stapled to handshakes, in DER.
    fn ocsp_response(&self) -> Option<&[u8]>;
}

/// A chain, its key, and what is stapled to it.
#[derive(Debug)]
pub struct Material {
    source: Arc<dyn Source>,
    algorithm: KeyAlgorithm,
    /// Read when it is first asked for.
    key: OnceLock<Arc<dyn SigningKey>>,
}

/// Why a certificate cannot be served. All of it is the operator's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MaterialError {
    /// The chain is empty.
    #[error("there is no certificate")]
    NoCertificate,
    /// The first certificate of the chain is none, or one of a kind that cannot be used in TLS.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// The certificate is for a key of a kind that cannot be served.
    #[error("the certificate's key is of an unsupported kind (supported: {SUPPORTED})")]
    UnsupportedCertificate,
    /// The key is none, or of a kind that cannot be served.
    #[error("the key is of no supported kind ({SUPPORTED})")]
    UnsupportedKey,
    /// The key belongs to another certificate.
    #[error("the key does not match the certificate")]
    KeyMismatch,
    /// What is to be stapled is no DER OCSPResponse (RFC 6960 §4.2.1).
    #[error("the OCSP response cannot be read: {0}")]
    Ocsp(&'static str),
    /// The responder had no answer; its status says why.
    #[error("the OCSP response has status {0}, not 0 (successful)")]
    OcspStatus(u8),
}

const SUPPORTED: &str = "ECDSA P-256, P-384, P-521; RSA of 2048 to 8192 bits; Ed25519";

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// ECDSA over P-256.
    EcdsaP256,
    /// ECDSA over P-384.
    EcdsaP384,
    /// ECDSA over P-521.
    EcdsaP521,
    /// Ed25519.
    Ed25519,
    /// RSA, with either padding.
    Rsa,
}

/// Kinds of keys of which one is enough for a name, the preferred first: RSA is ten times as dear to sign with,
/// and hardly any client takes Ed25519.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyClass {
    /// ECDSA over any curve.
    Ecdsa,
    /// Ed25519.
    Ed25519,
    /// RSA.
    Rsa,
}

impl Material {
    /// Reads all of it, and holds the key against the certificate.
    pub fn new(source: Arc<dyn Source>) -> Result<Self, MaterialError> {
        let material = Self::accepted(source)?;
        let key = material.read_key()?;
        if key.public_key() != Some(public_key(&*material.source)?) {
            return Err(MaterialError::KeyMismatch);
        }
        material.source.ocsp_response().map_or(Ok(()), check_ocsp)?;
        Ok(Self { key: key.into(), ..material })
    }

    /// One that [`Material::new`] has accepted elsewhere. Looks at nothing but the kind of its key.
    pub fn accepted(source: Arc<dyn Source>) -> Result<Self, MaterialError> {
        let public_key = public_key(&*source)?;
        let algorithm = KeyAlgorithm::of(&public_key).ok_or(MaterialError::UnsupportedCertificate)?;
        Ok(Self { source, algorithm, key: OnceLock::new() })
    }

    /// What rustls serves. Cannot fail if it was accepted.
    pub fn certified(&self) -> Result<Arc<CertifiedKey>, MaterialError> {
        let key = match self.key.get() {
            Some(key) => key.clone(),
            None => {
                let key = self.read_key()?;
                self.key.get_or_init(|| key).clone()
            }
        };
        Ok(Arc::new(CertifiedKey {
            cert: self.source.chain().into_iter().map(CertificateDer::into_owned).collect(),
            key,
            ocsp: self.source.ocsp_response().map(<[u8]>::to_vec),
        }))
    }

    fn read_key(&self) -> Result<Arc<dyn SigningKey>, MaterialError> {
        any_supported_type(&self.source.key()).map_err(|_| MaterialError::UnsupportedKey)
    }

    /// The kind of its key.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Where its bytes are.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }
}

/// The public key that the certificate itself is for.
fn public_key(source: &dyn Source) -> Result<SubjectPublicKeyInfoDer<'static>, MaterialError> {
    let chain = source.chain();
    let leaf = chain.first().ok_or(MaterialError::NoCertificate)?;
    ParsedCertificate::try_from(leaf).map(|leaf| leaf.subject_public_key_info()).map_err(|error| {
        MaterialError::Certificate(match error {
            rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => {
                "it is not X.509 of version 3 in DER".to_owned()
            }
            rustls::Error::InvalidCertificate(error) => error.to_string(),
            error => error.to_string(),
        })
    })
}

impl KeyAlgorithm {
    /// The kind of a public key (RFC 5280 §4.1.2.7), by its algorithm and the curve:
    /// ```text
    /// SubjectPublicKeyInfo ::= SEQUENCE { algorithm SEQUENCE {..}, subjectPublicKey BIT STRING }
    /// ```
    fn of(public_key: &SubjectPublicKeyInfoDer<'_>) -> Option<Self> {
        const KNOWN: [(AlgorithmIdentifier, KeyAlgorithm); 5] = [
            (alg_id::ECDSA_P256, KeyAlgorithm::EcdsaP256),
            (alg_id::ECDSA_P384, KeyAlgorithm::EcdsaP384),
            (alg_id::ECDSA_P521, KeyAlgorithm::EcdsaP521),
            (alg_id::ED25519, KeyAlgorithm::Ed25519),
            (alg_id::RSA_ENCRYPTION, KeyAlgorithm::Rsa),
        ];
        let (fields, _) = der_value(public_key, SEQUENCE)?;
        let (algorithm, _) = der_value(fields, SEQUENCE)?;
        KNOWN.into_iter().find(|(known, _)| known.as_ref() == algorithm).map(|(_, kind)| kind)
    }

    /// What a key of this kind signs with.
    fn schemes(self) -> &'static [SignatureScheme] {
        match self {
            Self::EcdsaP256 => &[SignatureScheme::ECDSA_NISTP256_SHA256],
            Self::EcdsaP384 => &[SignatureScheme::ECDSA_NISTP384_SHA384],
            Self::EcdsaP521 => &[SignatureScheme::ECDSA_NISTP521_SHA512],
            Self::Ed25519 => &[SignatureScheme::ED25519],
            Self::Rsa => &[
                SignatureScheme::RSA_PSS_SHA256,
                SignatureScheme::RSA_PSS_SHA384,
                SignatureScheme::RSA_PSS_SHA512,
                SignatureScheme::RSA_PKCS1_SHA256,
                SignatureScheme::RSA_PKCS1_SHA384,
                SignatureScheme::RSA_PKCS1_SHA512,
            ],
        }
    }

    /// Whether a client that verifies these can verify what such a key signs.
    pub fn is_taken(self, schemes: &[SignatureScheme]) -> bool {
        self.schemes().iter().any(|scheme| schemes.contains(scheme))
    }

    /// The class of this kind.
    pub fn class(self) -> KeyClass {
        match self {
            Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 => KeyClass::Ecdsa,
            Self::Ed25519 => KeyClass::Ed25519,
            Self::Rsa => KeyClass::Rsa,
        }
    }
}

const SEQUENCE: u8 = 0x30;

/// Whether `response` is a whole and successful one, for clients take a broken staple for an attack:
/// ```text
/// OCSPResponse ::= SEQUENCE { responseStatus ENUMERATED, responseBytes [0] EXPLICIT ResponseBytes OPTIONAL }
/// ```
/// What the responder says about which certificate is for the client to judge.
fn check_ocsp(response: &[u8]) -> Result<(), MaterialError> {
    const ENUMERATED: u8 = 0x0a;
    const RESPONSE_BYTES: u8 = 0xa0;
    let (fields, rest) = der_value(response, SEQUENCE).ok_or(MaterialError::Ocsp("it is no DER sequence"))?;
    if !rest.is_empty() {
        return Err(MaterialError::Ocsp("more follows it"));
    }
    let (status, rest) = der_value(fields, ENUMERATED).ok_or(MaterialError::Ocsp("it has no status"))?;
    match status {
        [0] => {}
        [status] => return Err(MaterialError::OcspStatus(*status)),
        _ => return Err(MaterialError::Ocsp("its status is not one byte")),
    }
    match der_value(rest, RESPONSE_BYTES) {
        Some((bytes, [])) if der_value(bytes, SEQUENCE).is_some_and(|(_, rest)| rest.is_empty()) => Ok(()),
        _ => Err(MaterialError::Ocsp("it is successful and says nothing")),
    }
}

/// The value at the beginning, if it has this tag and is whole, and what follows it.
fn der_value(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = input.split_first_chunk()?;
    if found != tag {
        return None;
    }
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        // Up to three bytes of length: 16 MiB, which no response has.
        let bytes = usize::from(length & 0x7f);
        let (length, rest) = rest.split_at_checked(bytes).filter(|_| (1..=3).contains(&bytes))?;
        (length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)), rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Kind, Made};
    use super::*;

    #[test]
    fn kinds_of_keys_are_told_apart() {
        let check = |kind, algorithm: KeyAlgorithm, class| {
            let made = Arc::new(testing::certificate(kind, &["a.test"]));
            for material in [Material::new(made.clone()), Material::accepted(made.clone())] {
                let material = material.expect("it can be served");
                assert_eq!((material.algorithm(), algorithm.class()), (algorithm, class));
                let certified = material.certified().expect("its key can be read");
                assert_eq!(&*certified.cert[0], &*made.der);
                let schemes = algorithm.schemes();
                assert!(schemes.iter().all(|&scheme| certified.key.choose_scheme(&[scheme]).is_some()));
                assert!(Arc::ptr_eq(&certified.key, &material.certified().expect("as before").key));
            }
        };
        check(Kind::P256, KeyAlgorithm::EcdsaP256, KeyClass::Ecdsa);
        check(Kind::P384, KeyAlgorithm::EcdsaP384, KeyClass::Ecdsa);
        check(Kind::P521, KeyAlgorithm::EcdsaP521, KeyClass::Ecdsa);
        check(Kind::Rsa, KeyAlgorithm::Rsa, KeyClass::Rsa);
        check(Kind::Ed25519, KeyAlgorithm::Ed25519, KeyClass::Ed25519);
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        let made = testing::certificate(Kind::P256, &["a.test"]);
        let other = testing::certificate(Kind::P256, &["a.test"]);
        let rsa = testing::certificate(Kind::Rsa, &["a.test"]);
        let error = |der: &[u8], key: &PrivateKeyDer<'static>| {
            let source = Made { der: der.into(), key: key.clone_key(), ocsp: None };
            Material::new(Arc::new(source)).map(drop).expect_err("a refusal")
        };
        assert_eq!(error(&made.der, &other.key), MaterialError::KeyMismatch);
        assert_eq!(error(&made.der, &rsa.key), MaterialError::KeyMismatch);
        let garbage = PrivateKeyDer::Pkcs8(vec![1, 2, 3].into());
        assert_eq!(error(&made.der, &garbage), MaterialError::UnsupportedKey);
        for der in [&b"garbage"[..], &[0x30, 0], &made.der[..made.der.len() - 1]] {
            let error = error(der, &made.key).to_string();
            assert_eq!(error, "the certificate cannot be read: it is not X.509 of version 3 in DER");
        }
        assert_eq!(error(&[], &made.key), MaterialError::NoCertificate);
    }

    #[test]
    fn a_key_that_cannot_be_read_is_told_by_who_serves_it_too() {
        let made = testing::certificate(Kind::P256, &["a.test"]);
        let source = Made { key: PrivateKeyDer::Pkcs8(vec![1, 2, 3].into()), ..made };
        let material = Material::accepted(Arc::new(source)).expect("nobody looks at the key");
        assert_eq!(material.certified().map(drop), Err(MaterialError::UnsupportedKey));
    }

    #[test]
    fn a_staple_is_a_whole_and_successful_response() {
        let made = testing::certificate(Kind::P256, &["a.test"]);
        let check = |ocsp: &[u8], expected: Result<(), MaterialError>| {
            let source = Made { der: made.der.clone(), key: made.key.clone_key(), ocsp: Some(ocsp.into()) };
            let material = Material::new(Arc::new(source));
            if let Ok(material) = &material {
                let certified = material.certified().expect("its key can be read");
                assert_eq!(certified.ocsp.as_deref(), Some(ocsp));
            }
            assert_eq!(material.map(drop), expected, "{ocsp:02x?}");
        };
        let silent = Err(MaterialError::Ocsp("it is successful and says nothing"));
        check(&[0x30, 7, 0x0a, 1, 0, 0xa0, 2, 0x30, 0], Ok(()));
        let long =
            [&[0x30, 0x82, 1, 13, 0x0a, 1, 0, 0xa0, 0x82, 1, 6, 0x30, 0x82, 1, 2][..], &[7; 258]].concat();
        check(&long, Ok(()));
        check(&[0x30, 3, 0x0a, 1, 6], Err(MaterialError::OcspStatus(6)));
        check(&[0x30, 3, 0x0a, 1, 0], silent.clone());
        check(&[0x30, 7, 0x0a, 1, 0, 0xa0, 2, 0x30, 1], silent);
        check(&[0x30, 7, 0x0a, 1, 0, 0xa0, 2, 0x30, 0, 0], Err(MaterialError::Ocsp("more follows it")));
        check(&[0x30, 4, 0x0a, 2, 0, 0], Err(MaterialError::Ocsp("its status is not one byte")));
        check(&[0x30, 0], Err(MaterialError::Ocsp("it has no status")));
        for garbage in
            [&b""[..], b"0", b"-----BEGIN", &[0x30, 0x80], &[0x30, 0x84, 0, 0, 0, 1, 0], &[0x30, 5, 1]]
        {
            check(garbage, Err(MaterialError::Ocsp("it is no DER sequence")));
        }
    }
}
