//! Checked configuration to what this room works with.
//!
//! What only a library of cryptography can tell is told here, too: whether a key belongs to its certificate, and
//! whether rustls has a use for the settings. Main asks ([`Checker`]) before any worker hears of an order.

use std::sync::Arc;

use kakehi_command::order::{
    Alpn, BackendTls, Certificate, CertifiedKey, ClientAuth as ClientAuthSettings, Cluster, HttpListener,
    ListenerKey, ListenerKind, TcpListener, TlsSettings, TlsVersion,
};
use kakehi_command::proto::supervision;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::certificates::Entry;
use super::client_config::{ClientSettings, SystemAuthorities, Verification, client_config};
use super::material::{Material, MaterialError, Source};
use super::provider::{group, suite};
use super::resolver::SharedCertificates;
use super::server_config::{ClientAuth, ServerSettings, Shared, Trust, server_config};
use super::ticket_keys::{LIFETIME_DEFAULT, TicketKey, TicketKeys};

/// Looks at what orders bring, as far as it takes cryptography to see that it is sound.
#[derive(Debug, Default)]
pub struct Checker {
    shared: Shared,
    system: SystemAuthorities,
}

impl Checker {
    /// Whether every worker will be able to serve a listener.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn check_listener(&self, listener: &HttpListener) -> Result<(), String> {
        self.check_tls(listener.kind(), listener.key(), listener.tls())
    }

    /// Likewise, for a TCP listener.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn check_tcp_listener(&self, listener: &TcpListener) -> Result<(), String> {
        self.check_tls(ListenerKind::Tcp, listener.key(), listener.tls())
    }

    fn check_tls(
        &self,
        kind: ListenerKind,
        key: &ListenerKey,
        tls: Option<&TlsSettings>,
    ) -> Result<(), String> {
        let Some(tls) = tls else { return Ok(()) };
        let settings = server_settings(kind, key, tls);
        let default = default_entry(tls)?;
        server_config(&settings, &self.shared, Arc::new(SharedCertificates::default()), default)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// Likewise, for a cluster whose backends are spoken to over TLS.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn check_cluster(&self, cluster: &Cluster) -> Result<(), String> {
        let Some(tls) = cluster.tls() else { return Ok(()) };
        let settings = client_settings(tls).map_err(|error| format!("tls.client_certificate: {error}"))?;
        client_config(&settings, &self.shared, &self.system)
            .map(drop)
            .map_err(|error| format!("tls: {error}"))
    }
}

/// The bytes of a certificate where the state has them.
#[derive(Debug)]
struct Stored(Arc<Certificate>);

impl Source for Stored {
    fn chain(&self) -> Vec<CertificateDer<'_>> {
        self.0.chain().iter().map(|der| CertificateDer::from(&**der)).collect()
    }

    fn key(&self) -> PrivateKeyDer<'_> {
        self.0.key().der()
    }

    fn ocsp_response(&self) -> Option<&[u8]> {
        self.0.ocsp_response().map(|response| &**response)
    }
}

/// What we show to backends.
#[derive(Debug)]
struct Client(CertifiedKey);

impl Source for Client {
    fn chain(&self) -> Vec<CertificateDer<'_>> {
        self.0.chain().iter().map(|der| CertificateDer::from(&**der)).collect()
    }

    fn key(&self) -> PrivateKeyDer<'_> {
        self.0.key().der()
    }

    fn ocsp_response(&self) -> Option<&[u8]> {
        None
    }
}

/// The entry of a certificate, which main has checked, in the table of its address.
///
/// # Errors
/// Its key is of a kind that can't be served.
pub fn entry(certificate: &Arc<Certificate>) -> Result<Entry, MaterialError> {
    let material = Arc::new(Material::accepted(Arc::new(Stored(certificate.clone())))?);
    let names = certificate.names().iter().map(|name| Arc::<str>::from(&**name));
    Ok(Entry::new(certificate.fingerprint().0, names, certificate.not_after(), material))
}

/// The certificate of a listener, for clients whose name no other is for.
///
/// # Errors
/// Its key is not its own, or of a kind that can't be served.
pub fn default_entry(tls: &TlsSettings) -> Result<Option<Arc<Entry>>, String> {
    tls.default_certificate()
        .map(|certificate| entry(certificate).map(Arc::new))
        .transpose()
        .map_err(|error| format!("the listener's certificate: {error}"))
}

/// How a listener speaks TLS.
pub fn server_settings(kind: ListenerKind, key: &ListenerKey, tls: &TlsSettings) -> ServerSettings {
    let versions = tls.versions();
    ServerSettings {
        listener: format!("{kind} {key}"),
        tls12: versions.contains(&TlsVersion::V1_2),
        tls13: versions.contains(&TlsVersion::V1_3),
        suites: tls.cipher_suites().iter().filter_map(|known| suite(known.name())).collect(),
        groups: tls.groups().iter().filter_map(|known| group(known.name())).collect(),
        alpn: match kind {
            // Its backends speak them.
            ListenerKind::Tcp => tls.alpn_names().iter().map(|name| name.as_bytes().to_vec()).collect(),
            ListenerKind::Http | ListenerKind::Https | ListenerKind::Udp => alpn(tls.alpn()),
        },
        send_tls13_tickets: tls.send_tls13_tickets(),
        early_data_bytes_max: tls.max_early_data(),
        client_auth: client_auth(tls.client_auth()),
    }
}

/// Protocols that we speak: a client that would rather have another is told so at once.
fn alpn(protocols: &[Alpn]) -> Vec<Vec<u8>> {
    let spoken = protocols.iter().filter(|protocol| **protocol == Alpn::Http11);
    spoken.map(|protocol| protocol.name().as_bytes().to_vec()).collect()
}

fn client_auth(settings: Option<&ClientAuthSettings>) -> ClientAuth {
    let Some(settings) = settings else { return ClientAuth::None };
    let trust = Trust {
        authorities: settings.authorities().map(CertificateDer::into_owned).collect(),
        revocation_lists: settings
            .crls()
            .iter()
            .map(|crl| CertificateRevocationListDer::from(crl.der().to_vec()))
            .collect(),
    };
    if settings.required() { ClientAuth::Required(trust) } else { ClientAuth::Optional(trust) }
}

/// How the backends of a cluster are spoken to.
///
/// # Errors
/// The key of our own certificate is not its own, or of a kind that can't be used.
pub fn client_settings(tls: &BackendTls) -> Result<ClientSettings, MaterialError> {
    let authorities: Vec<_> = tls.authorities().map(CertificateDer::into_owned).collect();
    let verification = match (tls.skip_verification(), authorities.is_empty()) {
        (true, _) => Verification::Skipped,
        (false, true) => Verification::System,
        (false, false) => Verification::Authorities(authorities),
    };
    Ok(ClientSettings {
        verification,
        certificate: tls
            .client()
            .map(|client| Material::new(Arc::new(Client(client.clone()))))
            .transpose()?
            .map(Arc::new),
        alpn: alpn(tls.alpn()),
    })
}

/// Keys of session tickets, as main sends them. Whatever is not of their size is passed over.
pub fn ticket_keys(wire: &supervision::TicketKeys) -> TicketKeys {
    let key = |key: &supervision::TicketKey| {
        let (name, secret) = (key.name.as_slice().try_into().ok()?, key.secret.as_slice().try_into().ok()?);
        Some(TicketKey { name, secret, created_at: key.created_at })
    };
    TicketKeys::new(wire.keys.iter().filter_map(key).collect(), LIFETIME_DEFAULT)
}

/// The same, to be sent.
pub fn ticket_keys_wire(keys: &TicketKeys) -> supervision::TicketKeys {
    let key = |key: &TicketKey| supervision::TicketKey {
        name: key.name.to_vec(),
        secret: key.secret.to_vec(),
        created_at: key.created_at,
    };
    supervision::TicketKeys { keys: keys.keys().iter().map(key).collect() }
}
