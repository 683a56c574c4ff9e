//! What an HTTPS listener has beyond an HTTP one, and a TCP listener at which TLS ends beyond one that passes
//! it on.
//!
//! [`TlsSettings`] is the whole, [`suite`] the algorithms it may choose from, [`client_auth`] who is asked
//! for a certificate, [`tcp`] what of it a TCP listener has.

mod client_auth;
pub(super) mod patch;
mod suite;
pub(super) mod tcp;

use std::{mem, sync::Arc, time::Duration};

use super::{check_name, check_positive};
use crate::{
    order::{Certificate, Hsts, OrderError, certificate, error::excerpt, wire_enum},
    proto,
};

pub use client_auth::{ClientAuth, Crl};
pub use suite::{ALPN_NAME_BYTES_MAX, ALPN_NAMES_MAX, Alpn, CipherSuite, Group, TlsVersion};
pub(in crate::order) use suite::{alpn, alpn_names};

/// TLS 1.3 tickets per handshake that the configuration asks for.
pub const SEND_TLS13_TICKETS_DEFAULT: u64 = 4;
/// Most TLS 1.3 tickets per handshake, whatever is asked for: each costs a seal and a few hundred bytes.
pub const SEND_TLS13_TICKETS_MAX: u64 = 16;
/// How long a handshake may take, in seconds, unless the listener says otherwise.
pub const HANDSHAKE_TIMEOUT_DEFAULT: u32 = 10;
/// Handshakes of one source that a worker has under way, unless the listener says otherwise.
pub const MAX_HANDSHAKES_PER_SOURCE_DEFAULT: u32 = 500;
/// Most early data, in bytes: what a worker may have to hold before a client is known to be alive.
pub const MAX_EARLY_DATA_MAX: u32 = 16 * 1024;

/// The TLS of a listener, checked.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    versions: Box<[TlsVersion]>,
    cipher_suites: Box<[CipherSuite]>,
    groups: Box<[Group]>,
    protocols: Protocols,
    tickets: usize,
    default_certificate: Option<Arc<Certificate>>,
    client_auth: Option<ClientAuth>,
    client_subject_header: Option<Arc<str>>,
    hsts: Option<Hsts>,
    handshake_timeout: Duration,
    /// The message it came as, without what all HTTP listeners have and without the certificate.
    wire: proto::HttpsListenerConfig,
}

/// What a handshake may settle on to be spoken inside (RFC 7301), best first.
#[derive(Clone, Debug)]
enum Protocols {
    /// Of an HTTPS listener; never none.
    Http(Box<[Alpn]>),
    /// Of a TCP listener: names that backends know. None: what clients offer is ignored.
    Named(Box<[Box<str>]>),
}

/// All else is made of the message.
impl PartialEq for TlsSettings {
    fn eq(&self, other: &Self) -> bool {
        self.wire == other.wire && self.default_certificate == other.default_certificate
    }
}

impl TlsSettings {
    /// Checks what of an HTTPS listener's message is about TLS.
    pub(super) fn from_wire(
        wire: proto::HttpsListenerConfig,
        address: &proto::SocketAddress,
    ) -> Result<Self, OrderError> {
        let protocols = Protocols::Http(alpn("alpn_protocols", &wire.alpn_protocols)?);
        Self::checked(wire, address, protocols)
    }

    fn checked(
        mut wire: proto::HttpsListenerConfig,
        address: &proto::SocketAddress,
        protocols: Protocols,
    ) -> Result<Self, OrderError> {
        let default_certificate = default_certificate(&mut wire, address)?;
        let versions = suite::versions(&wire.versions)?;
        let cipher_suites = suite::cipher_suites(&wire.cipher_list, &versions)?;
        if wire.disable_http11 == Some(true) {
            return Err(OrderError::NotServed { what: "listeners without HTTP/1.1 (disable_http11) are" });
        }
        // Said with nothing, as by leaving it out.
        wire.client_subject_header = wire.client_subject_header.filter(|name| !name.is_empty());
        check_name("client_subject_header", wire.client_subject_header.as_deref())?;
        check_positive("handshake_timeout", wire.handshake_timeout.map(u64::from))?;
        check_early_data(wire.max_early_data)?;
        let mode = wire.client_auth;
        let client_auth = ClientAuth::from_wire(mode, &wire.client_ca_certificates, &wire.client_ca_crls)?;
        check_use_of_early_data(wire.max_early_data, &versions, client_auth.is_some())?;
        let seconds = wire.handshake_timeout.unwrap_or(HANDSHAKE_TIMEOUT_DEFAULT);
        Ok(Self {
            versions,
            cipher_suites,
            groups: suite::groups(&wire.groups_list)?,
            protocols,
            tickets: tickets(wire.send_tls13_tickets),
            default_certificate: default_certificate.map(Arc::new),
            client_auth,
            client_subject_header: wire.client_subject_header.as_deref().map(Arc::from),
            hsts: wire.hsts.map(Hsts::from_wire).transpose()?,
            handshake_timeout: Duration::from_secs(seconds.into()),
            wire,
        })
    }

    /// The same with `patch` applied to it.
    pub(super) fn patched(
        &self,
        patch: &proto::UpdateHttpsListenerConfig,
        address: &proto::SocketAddress,
    ) -> Result<Self, OrderError> {
        let mut wire = self.wire.clone();
        patch::apply(patch, &mut wire);
        let patched = match self.protocols {
            Protocols::Http(_) => Self::from_wire(wire, address)?,
            Protocols::Named(_) => Self::from_tcp_wire(wire, address)?,
        };
        Ok(Self { default_certificate: self.default_certificate.clone(), ..patched })
    }

    /// The patch of all in which `to` differs, as far as a patch can say it.
    pub(super) fn patch_to(&self, to: &Self) -> proto::UpdateHttpsListenerConfig {
        patch::between(&self.wire, &to.wire)
    }

    /// Versions that are offered, each once; never none.
    #[must_use]
    pub fn versions(&self) -> &[TlsVersion] {
        &self.versions
    }

    /// Cipher suites, best first; never none.
    #[must_use]
    pub fn cipher_suites(&self) -> &[CipherSuite] {
        &self.cipher_suites
    }

    /// Groups of the key exchange, best first; never none.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Protocols that an HTTPS listener offers, best first; never none there, and always none on a TCP
    /// listener.
    #[must_use]
    pub fn alpn(&self) -> &[Alpn] {
        match &self.protocols {
            Protocols::Http(protocols) => protocols,
            Protocols::Named(_) => &[],
        }
    }

    /// Names of the protocols that are offered, best first, 1 to 255 bytes each. None, which only a TCP
    /// listener can have: what clients offer is ignored.
    #[must_use]
    pub fn alpn_names(&self) -> Vec<&str> {
        match &self.protocols {
            Protocols::Http(protocols) => protocols.iter().map(|protocol| protocol.name()).collect(),
            Protocols::Named(names) => names.iter().map(|name| &**name).collect(),
        }
    }

    /// TLS 1.3 tickets that are sent with each handshake.
    #[must_use]
    pub fn send_tls13_tickets(&self) -> usize {
        self.tickets
    }

    /// Whether a request's host has to be one of those that the served certificate is for: 421 otherwise.
    #[must_use]
    pub fn strict_sni_binding(&self) -> bool {
        self.wire.strict_sni_binding != Some(false)
    }

    /// The certificate for clients that ask for no name, or for one that nothing else is for.
    #[must_use]
    pub fn default_certificate(&self) -> Option<&Arc<Certificate>> {
        self.default_certificate.as_ref()
    }

    /// Whom clients' certificates have to be from; none: they are not asked for one.
    #[must_use]
    pub fn client_auth(&self) -> Option<&ClientAuth> {
        self.client_auth.as_ref()
    }

    /// The field of requests that carries the subject of the client's verified certificate (RFC 4514).
    #[must_use]
    pub fn client_subject_header(&self) -> Option<&Arc<str>> {
        self.client_subject_header.as_ref()
    }

    /// What clients are told to remember, unless the frontend has a policy of its own.
    #[must_use]
    pub fn hsts(&self) -> Option<&Hsts> {
        self.hsts.as_ref()
    }

    /// Bytes of early data that are taken before a handshake ends; 0: none.
    #[must_use]
    pub fn max_early_data(&self) -> u32 {
        self.wire.max_early_data.unwrap_or(0)
    }

    /// How long a handshake may take.
    #[must_use]
    pub fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }

    /// Handshakes of one source that a worker has under way; none: any number.
    #[must_use]
    pub fn max_handshakes_per_source(&self) -> Option<u32> {
        let max = self.wire.max_handshakes_per_source.unwrap_or(MAX_HANDSHAKES_PER_SOURCE_DEFAULT);
        Some(max).filter(|max| *max > 0)
    }

    /// Whether all of it holds at `now`, in seconds since 1970; what is odd about it is noted.
    pub(super) fn check_validity(&self, now: i64, notes: &mut Vec<String>) -> Result<(), OrderError> {
        if let Some(certificate) = &self.default_certificate {
            certificate.check_validity(now, notes)?;
        }
        self.client_auth.as_ref().map_or(Ok(()), |auth| auth.check_validity(now))
    }

    /// The part of the message that it came as. **Has the private key in the clear.**
    pub(super) fn wire(&self) -> proto::HttpsListenerConfig {
        let mut wire = self.public_wire();
        wire.key = self.default_certificate.as_ref().map(|certificate| certificate.key().to_pem());
        wire
    }

    /// The same without the private key.
    pub(super) fn public_wire(&self) -> proto::HttpsListenerConfig {
        let mut wire = self.wire.clone();
        if let Some(certificate) = &self.default_certificate {
            let mut shown = certificate.public_wire();
            wire.certificate = Some(mem::take(&mut shown.certificate));
            wire.certificate_chain = mem::take(&mut shown.certificate_chain);
        }
        wire
    }

    pub(super) fn notes(&self, notes: &mut Vec<String>) {
        suite::note_versions(&self.wire.versions, notes);
        suite::note_groups(&self.wire.groups_list, notes);
        if let Protocols::Http(_) = self.protocols {
            note_alpn(&self.wire.alpn_protocols, notes);
        }
        if self.wire.send_tls13_tickets > SEND_TLS13_TICKETS_MAX {
            notes.push(format!("send_tls13_tickets is more than {SEND_TLS13_TICKETS_MAX}: no more are sent"));
        }
        if let Some(hsts) = &self.hsts {
            hsts.notes(notes);
        }
        if self.client_subject_header.is_some() && self.client_auth.is_none() {
            notes.push("client_subject_header has no effect: clients are not asked for a certificate".into());
        }
    }
}

/// Takes the listener's own certificate out of its message.
fn default_certificate(
    wire: &mut proto::HttpsListenerConfig,
    address: &proto::SocketAddress,
) -> Result<Option<Certificate>, OrderError> {
    let key = certificate::taken(&mut wire.key).filter(|key| !key.is_empty());
    let certificate = wire.certificate.take().filter(|text| !text.is_empty());
    let certificate_chain = mem::take(&mut wire.certificate_chain);
    match (certificate, key) {
        (None, None) if certificate_chain.is_empty() => Ok(None),
        (None, _) => Err(OrderError::plain("certificate", "is missing beside its key or chain")),
        (Some(_), None) => Err(OrderError::plain("key", "is missing beside the certificate")),
        (Some(certificate), Some(mut key)) => {
            let wire = proto::CertificateAndKey {
                certificate,
                certificate_chain,
                key: mem::take(&mut *key),
                versions: Vec::new(),
                names: Vec::new(),
                ocsp_response: None,
            };
            Certificate::default_of(address, &wire).map(Some)
        }
    }
}

fn tickets(count: u64) -> usize {
    usize::try_from(count.min(SEND_TLS13_TICKETS_MAX)).unwrap_or(0)
}

fn check_early_data(bytes: Option<u32>) -> Result<(), OrderError> {
    match bytes {
        Some(bytes) if bytes > MAX_EARLY_DATA_MAX => {
            Err(OrderError::invalid("max_early_data", &bytes.to_string(), "is more than 16384 bytes"))
        }
        _ => Ok(()),
    }
}

/// Early data is a matter of TLS 1.3. Who sends it has not proved anything yet, so that a client's certificate, which is
/// what such a listener is there for, would be worth nothing.
fn check_use_of_early_data(
    bytes: Option<u32>,
    versions: &[TlsVersion],
    asks_for_certificates: bool,
) -> Result<(), OrderError> {
    let Some(bytes) = bytes.filter(|bytes| *bytes > 0) else { return Ok(()) };
    let refused = |why| Err(OrderError::invalid("max_early_data", &bytes.to_string(), why));
    if !versions.contains(&TlsVersion::V1_3) {
        return refused("needs TLS 1.3, which is not among the versions");
    }
    if asks_for_certificates {
        return refused("cannot be had together with client_auth");
    }
    Ok(())
}

fn note_alpn(protocols: &[String], notes: &mut Vec<String>) {
    if protocols.iter().any(|protocol| protocol == "h2") {
        notes.push("h2 in alpn_protocols is kept but not offered yet by this version".into());
    }
}

#[cfg(test)]
mod tests;
