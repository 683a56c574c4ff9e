//! A cluster's settings to what rustls speaks to its backends with.
//!
//! A backend's certificate is verified unless the settings say otherwise in so many words.

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use thiserror::Error;

use super::material::{Material, MaterialError};
use super::provider::provider;
use super::server_config::Shared;

/// Names of backends whose sessions are kept to be resumed, each with a few tickets: a cluster has one name,
/// or one per backend.
const SESSIONS_MAX: usize = 64;

/// How the backends of a cluster are spoken to.
#[derive(Debug, Clone, Default)]
pub struct ClientSettings {
    /// How their certificates are verified.
    pub verification: Verification,
    /// What they are shown if they ask for it.
    pub certificate: Option<Arc<Material>>,
    /// Protocols that are offered, the preferred first.
    pub alpn: Vec<Vec<u8>>,
}

/// How a backend's certificate is verified.
#[derive(Debug, Clone, Default)]
pub enum Verification {
    /// Against the authorities that the system trusts.
    #[default]
    System,
    /// Against these authorities alone, in DER.
    Authorities(Vec<CertificateDer<'static>>),
    /// Not at all: whoever is between the proxy and the backend can read and change everything.
    Skipped,
}

/// Why there is no such configuration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientSettingsError {
    /// The system trusts nobody: the environment's fault.
    #[error(
        "the system has no trusted authorities{reason}: install some (ca-certificates), or give ca_certificates"
    )]
    NoSystemAuthorities {
        /// What went wrong when they were looked for, if anything.
        reason: String,
    },
    /// An authority's certificate cannot be used: the operator's fault.
    #[error("ca_certificates: certificate {index} cannot be used: {reason}")]
    Authority {
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The list of authorities is empty: the operator's fault.
    #[error("ca_certificates: there are none, so no backend could be trusted")]
    NoAuthorities,
    /// What backends are shown cannot be: the operator's fault.
    #[error("client_certificate: {0}")]
    Certificate(#[from] MaterialError),
    /// rustls refuses the settings for another reason.
    #[error("{0}")]
    Rustls(String),
}

/// The authorities that the system trusts, read once in the life of a worker: before it gives up its right to
/// open files, or never.
#[derive(Debug, Default)]
pub struct SystemAuthorities(OnceLock<Result<Arc<RootCertStore>, ClientSettingsError>>);

impl SystemAuthorities {
    /// Those of this system (and of `SSL_CERT_FILE`, `SSL_CERT_DIR`). Certificates among them that cannot be
    /// used are passed over, as everybody does. Takes milliseconds the first time.
    pub fn get(&self) -> Result<Arc<RootCertStore>, ClientSettingsError> {
        self.0.get_or_init(load).clone()
    }
}

fn load() -> Result<Arc<RootCertStore>, ClientSettingsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(ClientSettingsError::NoSystemAuthorities { reason });
    }
    roots.roots.shrink_to_fit();
    Ok(Arc::new(roots))
}

/// What rustls speaks to the backends of a cluster with. The name that is sent and verified is given with
/// each connection.
pub fn client_config(
    settings: &ClientSettings,
    shared: &Shared,
    system: &SystemAuthorities,
) -> Result<Arc<ClientConfig>, ClientSettingsError> {
    let provider = provider(&[], &[]);
    let verifier = verifier(&settings.verification, &provider, system)?;
    let builder = ClientConfig::builder_with_details(provider, shared.clock.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientSettingsError::Rustls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &settings.certificate {
        Some(material) => {
            let certified = material.certified(0)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols.clone_from(&settings.alpn);
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    config.enable_secret_extraction = true;
    config.key_log = shared.secrets.clone();
    Ok(Arc::new(config))
}

fn verifier(
    verification: &Verification,
    provider: &Arc<CryptoProvider>,
    system: &SystemAuthorities,
) -> Result<Arc<dyn ServerCertVerifier>, ClientSettingsError> {
    let roots = match verification {
        Verification::System => system.get()?,
        Verification::Authorities(authorities) => Arc::new(root_store(authorities)?),
        Verification::Skipped => return Ok(Arc::new(NoVerification(provider.clone()))),
    };
    let builder = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
    let verifier = builder.build().map_err(|error| ClientSettingsError::Rustls(error.to_string()))?;
    Ok(verifier)
}

fn root_store(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, ClientSettingsError> {
    let mut roots = RootCertStore::empty();
    for (index, der) in authorities.iter().enumerate() {
        let added = roots.add(der.clone());
        added.map_err(|error| ClientSettingsError::Authority { index, reason: error.to_string() })?;
    }
    if roots.is_empty() { Err(ClientSettingsError::NoAuthorities) } else { Ok(roots) }
}

/// Takes any certificate. The backend must still have its key.
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
