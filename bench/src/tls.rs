//! TLS of the load generator: one certificate for all proxies, and a client that leaves them no choice.
//!
//! Version, suite and group are fixed, so that every proxy does the same cryptography; what was agreed
//! on is checked, as is whether a session was resumed. Signatures are not verified: the certificate is
//! compared with the one that was made, which is as sure and leaves the core to the load.

#![expect(clippy::disallowed_types, reason = "rustls wants a store of tickets that threads can share")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls12Resumption, Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind,
    NamedGroup, ProtocolVersion, SignatureScheme,
};

use crate::content::host;
use crate::failure::{Context, Failure};

/// Protocol names (ALPN) that the client offers.
const ALPN: &[u8] = b"http/1.1";
/// Tickets that are kept. Each connection takes one and brings one at least.
const TICKETS_MAX: usize = 1024;

/// A certificate (ECDSA, P-256) for the one host of scenarios over TLS, signed by itself, and its key.
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
}

/// An identity as files, the way the proxies take it.
pub(crate) struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Both in one.
    pub both: PathBuf,
}

impl Identity {
    /// # Errors
    /// If there is no randomness.
    pub(crate) fn make() -> Result<Identity, Failure> {
        // P-256 is what this makes unless told otherwise.
        let key = KeyPair::generate().context("a key")?;
        let certificate = CertificateParams::new([host(0)])
            .and_then(|parameters| parameters.self_signed(&key))
            .context("a certificate")?;
        Ok(Identity {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// # Errors
    /// If the directory takes no files.
    pub(crate) fn write(&self, directory: &Path) -> Result<Files, Failure> {
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            std::fs::write(&path, text).context(path.display())?;
            Ok::<PathBuf, Failure>(path)
        };
        Ok(Files {
            certificate: write("certificate.pem", &self.certificate_pem)?,
            key: write("key.pem", &self.key_pem)?,
            both: write("both.pem", &format!("{}{}", self.certificate_pem, self.key_pem))?,
        })
    }
}

/// What kind of handshakes a scenario is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshakes {
    /// Each with a key exchange and a signature.
    Full,
    /// Each with a key exchange and a ticket of an earlier connection.
    Resumed,
}

/// Makes connections to one proxy: the tickets it has given are kept here.
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    handshakes: Handshakes,
}

impl Client {
    /// # Errors
    /// If the provider of cryptography lacks what is fixed here.
    pub(crate) fn new(identity: &Identity, handshakes: Handshakes) -> Result<Client, Failure> {
        let provider = CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("a configuration of TLS")?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Known(identity.certificate.clone())))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = match handshakes {
            Handshakes::Full => Resumption::disabled(),
            Handshakes::Resumed => {
                Resumption::store(Arc::new(Tickets::default())).tls12_resumption(Tls12Resumption::Disabled)
            }
        };
        let name = ServerName::try_from(host(0)).context("a host's name")?;
        Ok(Client { config: Arc::new(config), name, handshakes })
    }

    pub(crate) fn connection(&self) -> Result<ClientConnection, Failure> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone()).context("a connection over TLS")
    }

    /// Which handshake the scenario is about, as rustls calls it.
    pub(crate) fn expected(&self) -> HandshakeKind {
        match self.handshakes {
            Handshakes::Full => HandshakeKind::Full,
            Handshakes::Resumed => HandshakeKind::Resumed,
        }
    }
}

/// Whether a handshake that is over was what the scenario is about; `any_kind` lets full ones pass for resumed ones.
///
/// # Errors
/// If anything else was agreed on.
pub(crate) fn check(
    connection: &ClientConnection,
    expected: HandshakeKind,
    any_kind: bool,
) -> Result<(), Failure> {
    let found = (
        connection.protocol_version(),
        connection.negotiated_cipher_suite().map(|suite| suite.suite()),
        connection.negotiated_key_exchange_group().map(|group| group.name()),
        connection.alpn_protocol(),
    );
    let fixed = (
        Some(ProtocolVersion::TLSv1_3),
        Some(CipherSuite::TLS13_AES_256_GCM_SHA384),
        Some(NamedGroup::X25519),
        Some(ALPN),
    );
    if found != fixed {
        return Err(Failure::new(format!("a handshake that agreed on {found:?}")));
    }
    let kind = connection.handshake_kind();
    let warming_up = any_kind && kind == Some(HandshakeKind::Full);
    if kind != Some(expected) && !warming_up {
        return Err(Failure::new(format!("a handshake of kind {kind:?} instead of {expected:?}")));
    }
    Ok(())
}

/// Takes the one certificate that was made for this run.
#[derive(Debug)]
struct Known(CertificateDer<'static>);

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.0 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// Tickets of one host, shared by all connections to it: the store of rustls keeps 8, too few for 64
/// connections at a time. The latest is used first, so that none grows old.
#[derive(Debug, Default)]
struct Tickets(Mutex<Vec<Tls13ClientSessionValue>>);

impl ClientSessionStore for Tickets {
    fn insert_tls13_ticket(&self, _server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() < TICKETS_MAX {
            tickets.push(value);
        }
    }

    fn take_tls13_ticket(&self, _server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn set_kx_hint(&self, _server_name: ServerName<'static>, _group: NamedGroup) {}

    // There is but one group.
    fn kx_hint(&self, _server_name: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _server_name: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server_name: &ServerName<'static>) {}
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    fn server(identity: &Identity) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).expect("the key");
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("a version")
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate.clone()], key)
            .expect("a certificate with its key");
        config.alpn_protocols = vec![ALPN.to_vec()];
        Arc::new(config)
    }

    /// A connection's client after the handshake and the tickets that follow it.
    fn connect(client: &Client, server: &Arc<ServerConfig>) -> Result<ClientConnection, rustls::Error> {
        let mut front = client.connection().expect("a client");
        let mut back = ServerConnection::new(Arc::clone(server)).expect("a server");
        while front.wants_write() || back.wants_write() {
            let mut bytes = Vec::new();
            front.write_tls(&mut bytes).expect("a buffer takes all");
            back.read_tls(&mut bytes.as_slice()).expect("and gives all");
            back.process_new_packets()?;
            let mut bytes = Vec::new();
            while back.wants_write() {
                back.write_tls(&mut bytes).expect("a buffer takes all");
            }
            front.read_tls(&mut bytes.as_slice()).expect("and gives all");
            front.process_new_packets()?;
        }
        Ok(front)
    }

    #[test]
    fn full_handshakes_stay_full() {
        let identity = Identity::make().expect("an identity");
        let (client, server) =
            (Client::new(&identity, Handshakes::Full).expect("a client"), server(&identity));
        for _ in 0..2 {
            let connection = connect(&client, &server).expect("a handshake");
            assert_eq!(check(&connection, client.expected(), false), Ok(()));
        }
    }

    #[test]
    fn the_first_handshake_is_full_and_the_next_resumed() {
        let identity = Identity::make().expect("an identity");
        let (client, server) =
            (Client::new(&identity, Handshakes::Resumed).expect("a client"), server(&identity));
        let first = connect(&client, &server).expect("a handshake");
        assert_eq!(check(&first, client.expected(), true), Ok(()));
        assert!(check(&first, client.expected(), false).is_err());
        let second = connect(&client, &server).expect("a handshake");
        assert_eq!(check(&second, client.expected(), false), Ok(()));
    }

    #[test]
    fn another_certificate_is_refused() {
        let [ours, other] = [Identity::make(), Identity::make()].map(|made| made.expect("an identity"));
        let client = Client::new(&ours, Handshakes::Full).expect("a client");
        assert!(connect(&client, &server(&other)).is_err());
    }
}
