//! A listener's settings to what rustls serves it with.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    ProtocolVersion, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::certificates::Entry;
use super::clock::Clock;
use super::identity::Verifier;
use super::provider::{Randomness, serves};
use super::resolver::{Choices, Resolver, SharedCertificates};
use super::secrets::SecretCatcher;
use super::sessions::{Sessions, SharedSessions};
use super::tickets::{Context, SharedTicketKeys, Ticketer};

/// What all TLS configurations of a worker share.
#[derive(Debug, Clone, Default)]
pub struct Shared {
    /// The time; set it once a turn.
    pub clock: Arc<Clock>,
    /// Which certificate was chosen in the handshake under way.
    pub choices: Arc<Choices>,
    /// The traffic secrets of the handshake under way.
    pub secrets: Arc<SecretCatcher>,
    /// What tickets are sealed with.
    pub ticket_keys: Arc<SharedTicketKeys>,
    /// Where listeners with early data keep their sessions.
    pub sessions: Arc<SharedSessions>,
    /// Where random numbers come from.
    pub randomness: Randomness,
}

/// How a listener speaks TLS.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// What tells the listener apart from others: a session is resumed where it began.
    pub listener: String,
    /// Whether 1.2 is spoken.
    pub tls12: bool,
    /// Whether 1.3 is spoken.
    pub tls13: bool,
    /// The preferred first; none: the defaults.
    pub suites: Vec<SupportedCipherSuite>,
    /// The preferred first; none: the defaults.
    pub groups: Vec<&'static dyn SupportedKxGroup>,
    /// Protocols, the preferred first; a client that offers others alone is refused, one that offers none is
    /// served. None: the client's offer is ignored.
    pub alpn: Vec<Vec<u8>>,
    /// Tickets sent after a full handshake of TLS 1.3.
    pub send_tls13_tickets: usize,
    /// Bytes a client may send before its handshake is complete, in a session that is resumed; 0: none.
    ///
    /// Then sessions are kept in [`Shared::sessions`] and each is resumed once, for that is what keeps early
    /// data from being played back (RFC 8446 §8.1). None where clients are asked for certificates: until the
    /// handshake is over nobody knows whether the one who sends is the one who has shown one.
    pub early_data_bytes_max: u32,
    /// Which certificate clients must show.
    pub client_auth: ClientAuth,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listener: String::new(),
            tls12: true,
            tls13: true,
            suites: Vec::new(),
            groups: Vec::new(),
            alpn: vec![b"http/1.1".to_vec()],
            send_tls13_tickets: 4,
            early_data_bytes_max: 0,
            client_auth: ClientAuth::None,
        }
    }
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Default)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They are asked. One that shows none is served; a certificate that is shown must be good.
    Optional(Trust),
    /// Who shows none is refused.
    Required(Trust),
}

/// Whose certificates are good.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Certificates of authorities, in DER.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What they have revoked, in DER: checked for each certificate of a chain. An issuer of whom there is no
    /// list revokes nothing; a list that has expired refuses all that it would be asked for.
    pub revocation_lists: Vec<CertificateRevocationListDer<'static>>,
}

/// Why there is no such configuration. All of it is the operator's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// Neither version is left: because both are off, or no suite is for them.
    #[error("none of the cipher suites belongs to a version of TLS that is on")]
    NoVersion,
    /// An authority's certificate cannot be used.
    #[error("client_ca_certificates: certificate {index} cannot be used: {reason}")]
    Authority {
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificates are asked for and nobody may issue them.
    #[error("client_ca_certificates: there are none, so no client could be let in")]
    NoAuthorities,
    /// A revocation list cannot be used.
    #[error("client_ca_crls: {0}")]
    RevocationLists(String),
    /// rustls refuses the settings for another reason.
    #[error("{0}")]
    Rustls(String),
}

/// What rustls serves a listener with: certificates from `certificates`, or `default` where there is none for
/// the name.
pub fn server_config(
    settings: &ServerSettings,
    shared: &Shared,
    certificates: Arc<SharedCertificates>,
    default: Option<Arc<Entry>>,
) -> Result<Arc<ServerConfig>, SettingsError> {
    let versions = versions(settings)?;
    let provider = shared.randomness.provider(&settings.suites, &settings.groups);
    let secure_random = provider.secure_random;
    let verifier = verifier(&settings.client_auth, &provider, &shared.choices)?;
    let resolver = Resolver::new(certificates, default, shared.clock.clone(), shared.choices.clone());
    let mut config = ServerConfig::builder_with_details(provider, shared.clock.clone())
        .with_protocol_versions(&versions)
        .map_err(|error| SettingsError::Rustls(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols.clone_from(&settings.alpn);
    // The operator's order: it is what config.toml says, and what scanners report as it should be.
    config.ignore_client_order = true;
    config.send_tls13_tickets = settings.send_tls13_tickets;
    config.enable_secret_extraction = true;
    config.key_log = shared.secrets.clone();
    let context = context(settings);
    let clock = shared.clock.clone();
    let mut ticketer = Ticketer::new(shared.ticket_keys.clone(), context, clock.clone(), secure_random);
    if !matches!(settings.client_auth, ClientAuth::None) {
        ticketer = ticketer.of_identities(shared.choices.clone());
    }
    if settings.early_data_bytes_max > 0 && settings.tls13 && matches!(settings.client_auth, ClientAuth::None)
    {
        config.max_early_data_size = settings.early_data_bytes_max;
        // What came early is answered early: otherwise the client would wait for it as long as ever.
        config.send_half_rtt_data = true;
        config.session_storage = Arc::new(Sessions::new(shared.sessions.clone(), ticketer, context, clock));
    } else {
        // Session ids (RFC 5246 §7.4.1.2) would be known to one worker only. Nearly all clients have tickets.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::new(ticketer);
    }
    Ok(Arc::new(config))
}

fn versions(settings: &ServerSettings) -> Result<Vec<&'static SupportedProtocolVersion>, SettingsError> {
    let mut versions = Vec::new();
    if settings.tls13 && serves(&settings.suites, ProtocolVersion::TLSv1_3) {
        versions.push(&version::TLS13);
    }
    if settings.tls12 && serves(&settings.suites, ProtocolVersion::TLSv1_2) {
        versions.push(&version::TLS12);
    }
    if versions.is_empty() { Err(SettingsError::NoVersion) } else { Ok(versions) }
}

fn verifier(
    client_auth: &ClientAuth,
    provider: &Arc<CryptoProvider>,
    choices: &Arc<Choices>,
) -> Result<Arc<dyn ClientCertVerifier>, SettingsError> {
    let (trust, is_optional) = match client_auth {
        ClientAuth::None => return Ok(Arc::new(NoClientAuth)),
        ClientAuth::Optional(trust) => (trust, true),
        ClientAuth::Required(trust) => (trust, false),
    };
    let mut roots = RootCertStore::empty();
    for (index, der) in trust.authorities.iter().enumerate() {
        let added = roots.add(der.clone());
        added.map_err(|error| SettingsError::Authority { index, reason: error.to_string() })?;
    }
    if roots.is_empty() {
        return Err(SettingsError::NoAuthorities);
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .with_crls(trust.revocation_lists.iter().cloned())
        .allow_unknown_revocation_status()
        .enforce_revocation_expiration();
    if is_optional {
        builder = builder.allow_unauthenticated();
    }
    let inner = builder.build().map_err(|error| SettingsError::RevocationLists(error.to_string()))?;
    Ok(Arc::new(Verifier::new(inner, &trust.revocation_lists, choices.clone())))
}

/// What a session of this listener takes for granted when it is resumed: that it began here, and that its
/// client has shown what is asked for now. A new revocation list means new handshakes.
fn context(settings: &ServerSettings) -> Context {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        // Lengths first, so that no two lists look the same.
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(bytes);
    };
    add(settings.listener.as_bytes());
    let (policy, trust): (&[u8], _) = match &settings.client_auth {
        ClientAuth::None => (b"none", None),
        ClientAuth::Optional(trust) => (b"optional", Some(trust)),
        ClientAuth::Required(trust) => (b"required", Some(trust)),
    };
    add(policy);
    if let Some(trust) = trust {
        trust.authorities.iter().for_each(|der| add(der));
        add(b"revoked");
        trust.revocation_lists.iter().for_each(|der| add(der));
    }
    hash.finalize().into()
}
