//! How long what a client has proved of itself may be believed.
//!
//! A session that is resumed says who its client was, and nobody asks for a certificate again; each resumption brings
//! new tickets. So that it does not go on for ever (RFC 8446 §4.6.1), a ticket of a listener that asks for certificates
//! carries the end of the first of them, or of the lists that were asked whether they are revoked. What comes later
//! is a full handshake, in which the certificate is looked at again.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::resolver::Choices;

/// Verifies as another does, and tells how long that holds.
#[derive(Debug)]
pub(super) struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    /// When the first of the lists has to be replaced, in seconds since 1970.
    lists_end: u64,
    choices: Arc<Choices>,
}

impl Verifier {
    /// `inner`, which asks these lists; `choices` is told.
    pub(super) fn new(
        inner: Arc<dyn ClientCertVerifier>,
        lists: &[CertificateRevocationListDer<'_>],
        choices: Arc<Choices>,
    ) -> Self {
        let ends = lists.iter().filter_map(|list| {
            let (_, list) = CertificateRevocationList::from_der(list).ok()?;
            Some(seconds(list.next_update()?.timestamp()))
        });
        Self { inner, lists_end: ends.min().unwrap_or(u64::MAX), choices }
    }
}

/// Of a time before 1970: none.
fn seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or_default()
}

/// The end of a certificate. One that can't be read is not believed again: it was good for once.
fn end_of(der: &CertificateDer<'_>) -> u64 {
    X509Certificate::from_der(der).map_or(0, |(_, it)| seconds(it.validity().not_after.timestamp()))
}

impl ClientCertVerifier for Verifier {
    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(own, issuers, now)?;
        // Issuers that were sent and not needed shorten it; that is harmless.
        let end = issuers.iter().map(end_of).fold(end_of(own).min(self.lists_end), u64::min);
        self.choices.set_identity_end(Some(end));
        Ok(verified)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.inner.requires_raw_public_keys()
    }
}
