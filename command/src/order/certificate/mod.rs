//! Certificates with their private keys: served to clients that ask an address for one of their names.
//!
//! PEM texts become DER once; the texts are made again when somebody asks. What a certificate costs in
//! main and in each worker's state: its own DER (0.5 to 2 KB), its key's (0.1 KB for P-256, 1.2 KB for
//! RSA 2048), its names, and about 300 bytes. Issuers are shared by all certificates of a state.
//! Read [`Certificate`] first.

mod chain;
mod fingerprint;
mod names;
mod pem;
mod private_key;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::{fmt, net::SocketAddr, sync::Arc};

use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

use super::{OrderError, listener, wire_enum};
use crate::proto;

pub use fingerprint::Fingerprint;
pub use names::NAMES_MAX;
pub use private_key::{CertifiedKey, PrivateKey};

pub(super) use chain::{certificates, parse, revocation_lists};
pub(super) use names::check as check_name;

/// Longest PEM text, in bytes: thousands of certificates, or a key with a novel before it.
pub const CERTIFICATE_BYTES_MAX: usize = 1 << 20;
/// Most certificates of one chain, as they come. Each is sent in each full handshake; OpenSSL's clients
/// stop at ten by default.
pub const CHAIN_MAX: usize = 16;
/// Longest OCSP response, in bytes: one for a single certificate has 0.5 to 3 KB.
pub const OCSP_RESPONSE_BYTES_MAX: usize = 16 * 1024;

const FIELDS: [&str; 3] = ["certificate", "certificate_chain", "key"];

/// A certificate at an address, checked; whether its key is its own is for who can compute it.
///
/// It belongs to the address, whatever listeners are there.
#[derive(Clone, PartialEq)]
pub struct Certificate {
    address: SocketAddr,
    fingerprint: Fingerprint,
    names: Box<[Box<str>]>,
    not_before: i64,
    not_after: i64,
    certified: CertifiedKey,
    /// Nearly all have none.
    extras: Option<Box<Extras>>,
}

/// What few certificates have.
#[derive(Clone, Default, PartialEq)]
struct Extras {
    names_given: bool,
    expired_at: Option<i64>,
    /// Carried, and without a meaning: versions are the listener's.
    versions: Vec<i32>,
    ocsp_response: Option<Arc<[u8]>>,
}

/// What distinguishes a certificate from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateKey {
    /// Where it is served.
    pub address: SocketAddr,
    /// Which it is.
    pub fingerprint: Fingerprint,
}

impl Certificate {
    /// Checks a certificate that came from outside.
    ///
    /// # Errors
    /// No address, no PEM, more than one chain, no usable name, or too much of something.
    pub fn from_wire(wire: &proto::AddCertificate) -> Result<Self, OrderError> {
        Self::checked(&wire.address, &wire.certificate, wire.expired_at, NamesAre::Needed)
    }

    /// Checks the new certificate of a replacement.
    ///
    /// # Errors
    /// As for [`Certificate::from_wire`].
    pub fn from_replacement(wire: &proto::ReplaceCertificate) -> Result<Self, OrderError> {
        Self::checked(&wire.address, &wire.new_certificate, wire.new_expired_at, NamesAre::Needed)
    }

    /// That of a listener, for who asks for no name: it may have none.
    pub(super) fn default_of(
        address: &proto::SocketAddress,
        wire: &proto::CertificateAndKey,
    ) -> Result<Self, OrderError> {
        Self::checked(address, wire, None, NamesAre::Welcome)
    }

    fn checked(
        address: &proto::SocketAddress,
        wire: &proto::CertificateAndKey,
        expired_at: Option<i64>,
        names_are: NamesAre,
    ) -> Result<Self, OrderError> {
        let address = listener::listen_address(address)?;
        let certified = CertifiedKey::parse(FIELDS, &wire.certificate, &wire.certificate_chain, &wire.key)?;
        let leaf = parse(FIELDS[0], certified.leaf())?;
        let names = names::names(&wire.names, &leaf)?;
        if names.is_empty() && names_are == NamesAre::Needed {
            let reason = "are not given, and the certificate has none that a client could ask for";
            return Err(OrderError::plain("names", reason));
        }
        for version in &wire.versions {
            wire_enum::<proto::TlsVersion>("versions", *version)?;
        }
        let ocsp_response = wire.ocsp_response.as_deref().filter(|response| !response.is_empty());
        if ocsp_response.is_some_and(|response| response.len() > OCSP_RESPONSE_BYTES_MAX) {
            return Err(OrderError::plain("ocsp_response", "is longer than 16384 bytes"));
        }
        let extras = Extras {
            names_given: !wire.names.is_empty(),
            expired_at,
            versions: wire.versions.clone(),
            ocsp_response: ocsp_response.map(Into::into),
        };
        Ok(Self {
            address,
            fingerprint: Fingerprint::of(certified.leaf()),
            names,
            not_before: leaf.validity().not_before.timestamp(),
            not_after: leaf.validity().not_after.timestamp(),
            extras: (extras != Extras::default()).then(|| Box::new(extras)),
            certified,
        })
    }

    /// Where it is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which it is.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What distinguishes it from all others.
    #[must_use]
    pub fn key_in_state(&self) -> CertificateKey {
        CertificateKey { address: self.address, fingerprint: self.fingerprint }
    }

    /// The names it is served for: hosts in lower case, those behind `*.` for any one label, and addresses.
    /// Only a listener's own certificate may have none.
    #[must_use]
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// From when it is valid, in seconds since 1970.
    #[must_use]
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Until when it is valid, in seconds since 1970.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// When whoever added it said that it expires, in seconds since 1970.
    #[must_use]
    pub fn expired_at(&self) -> Option<i64> {
        self.extras.as_ref()?.expired_at
    }

    /// Chain and key.
    #[must_use]
    pub fn certified(&self) -> &CertifiedKey {
        &self.certified
    }

    /// DER, leaf first, each issued by the next one; a root is not part of it.
    #[must_use]
    pub fn chain(&self) -> &[Arc<[u8]>] {
        self.certified.chain()
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        self.certified.key()
    }

    /// What is stapled to handshakes, in DER.
    #[must_use]
    pub fn ocsp_response(&self) -> Option<&Arc<[u8]>> {
        self.extras.as_ref()?.ocsp_response.as_ref()
    }

    /// Whether it can be served at `now`, in seconds since 1970; what is odd about it is noted.
    ///
    /// # Errors
    /// It has expired.
    pub fn check_validity(&self, now: i64, notes: &mut Vec<String>) -> Result<(), OrderError> {
        if now > self.not_after {
            return Err(OrderError::plain(
                "certificate",
                format!("{} expired on {}", self.shown(), date(self.not_after)),
            ));
        }
        if now < self.not_before {
            notes.push(format!("certificate {} is not valid before {}", self.shown(), date(self.not_before)));
        }
        Ok(())
    }

    /// Its names, shortened, for texts.
    #[must_use]
    pub fn shown(&self) -> String {
        names::shown(&self.names)
    }

    /// Certificate and key as they are added, to be saved. **Has the private key in the clear.**
    #[must_use]
    pub fn wire(&self) -> proto::CertificateAndKey {
        let mut wire = self.public_wire();
        wire.key = self.key().to_pem();
        wire
    }

    /// The same without the key, to be shown.
    #[must_use]
    pub fn public_wire(&self) -> proto::CertificateAndKey {
        let mut chain = self.certified.chain_pem();
        let names_given = self.extras.as_ref().is_some_and(|extras| extras.names_given);
        let names = if names_given { &self.names[..] } else { &[] };
        proto::CertificateAndKey {
            certificate: chain.next().unwrap_or_default(),
            certificate_chain: chain.collect(),
            key: String::new(),
            versions: self.extras.as_ref().map(|extras| extras.versions.clone()).unwrap_or_default(),
            names: names.iter().map(ToString::to_string).collect(),
            ocsp_response: self.ocsp_response().map(|response| response.to_vec()),
        }
    }

    /// The same certificate with each issuer as `shared` gives it: equal bytes, kept once.
    #[must_use]
    pub(crate) fn with_issuers(&self, mut shared: impl FnMut(&Arc<[u8]>) -> Arc<[u8]>) -> Self {
        let mut certificate = self.clone();
        for issuer in certificate.certified.chain.iter_mut().skip(1) {
            *issuer = shared(issuer);
        }
        certificate
    }

    /// Those between it and the root, in DER.
    pub(crate) fn issuers(&self) -> &[Arc<[u8]>] {
        self.certified.chain.get(1..).unwrap_or_default()
    }
}

/// Whether a certificate without a name is of use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NamesAre {
    Needed,
    Welcome,
}

/// Without its key and without its bytes.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("address", &self.address)
            .field("fingerprint", &self.fingerprint)
            .field("names", &self.shown())
            .finish_non_exhaustive()
    }
}

impl CertificateKey {
    /// Checks a key that came from outside.
    ///
    /// # Errors
    /// No address, or no fingerprint.
    pub fn from_wire(address: &proto::SocketAddress, fingerprint: &str) -> Result<Self, OrderError> {
        Ok(Self { address: super::address("address", address)?, fingerprint: fingerprint.parse()? })
    }
}

impl fmt::Display for CertificateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.fingerprint, self.address)
    }
}

/// What a certificate says without its key: for tools that show one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// From when it is valid, in seconds since 1970.
    pub not_before: i64,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: i64,
    /// The names it is served for, as [`Certificate::names`].
    pub names: Box<[Box<str>]>,
}

impl CertificateFacts {
    /// Reads a certificate as it is listed; its key may be missing.
    ///
    /// # Errors
    /// No PEM, no certificate, or a name that cannot be.
    pub fn of(wire: &proto::CertificateAndKey) -> Result<Self, OrderError> {
        let chain = private_key::chain(FIELDS, &wire.certificate, &wire.certificate_chain)?;
        let leaf = parse(FIELDS[0], chain.first().map_or(&[], |der| der))?;
        Ok(Self {
            not_before: leaf.validity().not_before.timestamp(),
            not_after: leaf.validity().not_after.timestamp(),
            names: names::names(&wire.names, &leaf)?,
        })
    }
}

/// The fingerprint of the certificate in a PEM text; its chain may be there, too.
///
/// # Errors
/// No PEM, or no certificate.
pub fn fingerprint_of(pem: &str) -> Result<Fingerprint, OrderError> {
    let chain = private_key::chain(FIELDS, pem, &[])?;
    Ok(Fingerprint::of(chain.first().map_or(&[], |der| der)))
}

/// A moment in words; one out of a calendar's range is a number.
#[must_use]
pub fn date(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// A key's text that was taken out of a message: wiped when it is dropped.
pub(super) fn taken(key: &mut Option<String>) -> Option<Zeroizing<String>> {
    key.take().map(Zeroizing::new)
}
