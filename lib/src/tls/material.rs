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
use x509_parser::asn1_rs::Sequence;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ocsp::{OcspError, Staple};

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
    staple: Option<Staple>,
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
    /// What is to be stapled is not for this certificate.
    #[error("the OCSP response {0}")]
    Ocsp(#[from] OcspError),
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
        Ok(Self { key: key.into(), ..material })
    }

    /// One that [`Material::new`] has accepted elsewhere. Looks at nothing but the kind of its key, and what is to be
    /// stapled.
    pub fn accepted(source: Arc<dyn Source>) -> Result<Self, MaterialError> {
        let public_key = public_key(&*source)?;
        let algorithm = KeyAlgorithm::of(&public_key).ok_or(MaterialError::UnsupportedCertificate)?;
        let staple = read_staple(&*source)?;
        Ok(Self { source, algorithm, staple, key: OnceLock::new() })
    }

    /// What rustls serves at this time, in seconds since 1970: a response that is out of date is left out. Cannot
    /// fail if it was accepted.
    pub fn certified(&self, now: u64) -> Result<Arc<CertifiedKey>, MaterialError> {
        let key = match self.key.get() {
            Some(key) => key.clone(),
            None => {
                let key = self.read_key()?;
                self.key.get_or_init(|| key).clone()
            }
        };
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let is_current = self.staple.is_some_and(|staple| staple.is_current(now));
        Ok(Arc::new(CertifiedKey {
            cert: self.source.chain().into_iter().map(CertificateDer::into_owned).collect(),
            key,
            ocsp: self.source.ocsp_response().filter(|_| is_current).map(<[u8]>::to_vec),
        }))
    }

    fn read_key(&self) -> Result<Arc<dyn SigningKey>, MaterialError> {
        any_supported_type(&self.source.key()).map_err(|_| MaterialError::UnsupportedKey)
    }

    /// The kind of its key.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// What is stapled to it, if anything.
    pub fn staple(&self) -> Option<Staple> {
        self.staple
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

fn read_staple(source: &dyn Source) -> Result<Option<Staple>, MaterialError> {
    let Some(response) = source.ocsp_response() else { return Ok(None) };
    let chain = source.chain();
    let leaf = chain.first().ok_or(MaterialError::NoCertificate)?;
    let (_, leaf) =
        X509Certificate::from_der(leaf).map_err(|error| MaterialError::Certificate(error.to_string()))?;
    Ok(Some(Staple::read(response, &leaf)?))
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
        let (_, fields) = Sequence::from_der(public_key).ok()?;
        let (_, algorithm) = Sequence::from_der(&fields.content).ok()?;
        KNOWN.into_iter().find(|(known, _)| known.as_ref() == &*algorithm.content).map(|(_, kind)| kind)
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

#[cfg(test)]
mod tests {
    use super::super::ocsp;
    use super::super::testing::{self, Kind, Made};
    use super::*;

    #[test]
    fn kinds_of_keys_are_told_apart() {
        let check = |kind, algorithm: KeyAlgorithm, class| {
            let made = Arc::new(testing::certificate(kind, &["a.test"]));
            for material in [Material::new(made.clone()), Material::accepted(made.clone())] {
                let material = material.expect("it can be served");
                assert_eq!((material.algorithm(), algorithm.class()), (algorithm, class));
                let certified = material.certified(0).expect("its key can be read");
                assert_eq!(&*certified.cert[0], &*made.der);
                let schemes = algorithm.schemes();
                assert!(schemes.iter().all(|&scheme| certified.key.choose_scheme(&[scheme]).is_some()));
                assert!(Arc::ptr_eq(&certified.key, &material.certified(0).expect("as before").key));
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
        assert_eq!(material.certified(0).map(drop), Err(MaterialError::UnsupportedKey));
    }

    #[test]
    fn a_response_is_stapled_while_it_is_current() {
        let made = testing::certificate(Kind::P256, &["a.test"]);
        let with = |ocsp: Vec<u8>| {
            let source = Made { der: made.der.clone(), key: made.key.clone_key(), ocsp: Some(ocsp.into()) };
            Material::new(Arc::new(source))
        };
        let response = ocsp::tests::good(&made.der, Some("20260102030405Z"));
        let material = with(response.clone()).expect("it is good");
        let stapled = |now| material.certified(now).expect("its key can be read").ocsp.clone();
        assert_eq!(stapled(1_767_323_045), Some(response));
        assert_eq!(stapled(1_767_323_046), None);
        let other = testing::certificate(Kind::P256, &["a.test"]);
        let error = with(ocsp::tests::good(&other.der, None)).expect_err("it is another's").to_string();
        assert!(
            error.starts_with("the OCSP response is not about this certificate: none of its serial"),
            "{error}"
        );
    }
}
