//! Certificates for tests, and handshakes in memory.

use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::{ClientConnection, ServerConnection};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::material::{Material, Source};

/// Kinds of keys.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    P256,
    P384,
    P521,
    Rsa,
    Ed25519,
}

impl Kind {
    pub(super) fn key_pair(self) -> KeyPair {
        let key_pair = match self {
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::P521 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
            Self::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            Self::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
        };
        key_pair.expect("keys can be made")
    }
}

/// A certificate with its key.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) der: Arc<[u8]>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) ocsp: Option<Arc<[u8]>>,
}

impl Source for Made {
    /// Without a certificate if that is empty.
    fn chain(&self) -> Vec<CertificateDer<'_>> {
        Some(CertificateDer::from(&*self.der)).into_iter().filter(|der| !der.is_empty()).collect()
    }

    fn key(&self) -> PrivateKeyDer<'_> {
        self.key.clone_key()
    }

    fn ocsp_response(&self) -> Option<&[u8]> {
        self.ocsp.as_deref()
    }
}

impl Made {
    pub(super) fn material(&self) -> Arc<Material> {
        let source = Self { der: self.der.clone(), key: self.key.clone_key(), ocsp: self.ocsp.clone() };
        Arc::new(Material::new(Arc::new(source)).expect("it can be served"))
    }
}

/// A certificate that vouches for itself.
pub(super) fn certificate(kind: Kind, names: &[&str]) -> Made {
    let key_pair = kind.key_pair();
    let certificate = params(names).self_signed(&key_pair).expect("it can be signed");
    Made { der: certificate.der().to_vec().into(), key: private_key(&key_pair), ocsp: None }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    CertificateParams::new(names).expect("names for a certificate")
}

fn private_key(key_pair: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(key_pair.serialize_der().into())
}

/// An authority that issues certificates and revokes them.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) der: Arc<[u8]>,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = params(&[]);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key_pair = Kind::P256.key_pair();
        let certificate = params.self_signed(&key_pair).expect("it can be signed");
        Self { der: certificate.der().to_vec().into(), issuer: Issuer::new(params, key_pair) }
    }

    /// A certificate for a server or a client, with this serial number.
    pub(super) fn issue(&self, serial: u64, names: &[&str]) -> Made {
        self.issue_for(&Kind::P256.key_pair(), serial, names)
    }

    /// The same, up to the beginning of a year.
    pub(super) fn issue_until(&self, year: i32, serial: u64, names: &[&str]) -> Made {
        let mut params = params(names);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        self.sign(params, &Kind::P256.key_pair(), serial)
    }

    /// A certificate for the owner of this key.
    pub(super) fn issue_for(&self, key_pair: &KeyPair, serial: u64, names: &[&str]) -> Made {
        self.sign(params(names), key_pair, serial)
    }

    fn sign(&self, mut params: CertificateParams, key_pair: &KeyPair, serial: u64) -> Made {
        params.serial_number = Some(serial.into());
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("number {serial}"));
        let certificate = params.signed_by(key_pair, &self.issuer).expect("it can be signed");
        Made { der: certificate.der().to_vec().into(), key: private_key(key_pair), ocsp: None }
    }

    /// A list that revokes certificates with these serial numbers.
    pub(super) fn revoke(&self, serials: &[u64]) -> Vec<u8> {
        let revoked = serials.iter().map(|&serial| rcgen::RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2090, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("it can be signed").der().to_vec()
    }
}

/// Passes bytes between both until neither has more to say.
pub(super) fn converse(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
) -> Result<(), rustls::Error> {
    let mut wire = Vec::new();
    while client.wants_write() || server.wants_write() {
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory takes all");
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("memory has all");
            server.process_new_packets()?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory takes all");
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("memory has all");
            client.process_new_packets()?;
        }
        wire.clear();
    }
    Ok(())
}
