//! Handshakes in memory with backends of rustls.

use std::sync::LazyLock;

use rustls::{ClientConnection, Error, HandshakeKind, ServerConfig, ServerConnection};

use super::super::certificates::Entry;
use super::super::resolver::SharedCertificates;
use super::super::server_config::{ClientAuth, ServerSettings, Trust, server_config};
use super::super::testing::{Authority, converse};
use super::super::ticket_keys::TicketKeys;
use super::*;

/// 2027: all certificates of tests are valid then.
const NOW: u64 = 1_800_000_000;

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("authority"));

fn shared() -> Shared {
    let shared = Shared::default();
    shared.clock.set(NOW);
    shared
}

/// A backend that calls itself `backend.test`.
fn backend(client_auth: ClientAuth) -> Arc<ServerConfig> {
    let shared = shared();
    shared.ticket_keys.replace(TicketKeys::default().rotate(NOW, &[1; 48]));
    let material = AUTHORITY.issue(1, &["backend.test"]).material();
    let entry = Entry::new([1; 32], ["backend.test"], i64::MAX, material);
    let certificates = Arc::new(SharedCertificates::default());
    let settings = ServerSettings { client_auth, ..ServerSettings::default() };
    server_config(&settings, &shared, certificates, Some(Arc::new(entry))).expect("good settings")
}

fn connect(
    config: &Arc<ClientConfig>,
    backend: &Arc<ServerConfig>,
    name: &'static str,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let name = ServerName::try_from(name).expect("a name");
    let mut client = ClientConnection::new(config.clone(), name).expect("a client");
    let mut server = ServerConnection::new(backend.clone()).expect("a server");
    converse(&mut client, &mut server).map(|()| (client, server))
}

fn config(settings: &ClientSettings) -> Arc<ClientConfig> {
    client_config(settings, &shared(), &SystemAuthorities::default()).expect("good settings")
}

fn trusting(authority: &Authority) -> ClientSettings {
    let authorities = vec![authority.der.to_vec().into()];
    ClientSettings { verification: Verification::Authorities(authorities), ..ClientSettings::default() }
}

#[test]
fn backends_are_verified_unless_that_is_skipped() {
    let backend = backend(ClientAuth::None);
    let check = |settings: &ClientSettings, name, expected: bool| {
        let connected = connect(&config(settings), &backend, name);
        assert_eq!(connected.is_ok(), expected, "{name}: {:?}", connected.err());
    };
    check(&trusting(&AUTHORITY), "backend.test", true);
    check(&trusting(&AUTHORITY), "other.test", false);
    check(&trusting(&Authority::new("stranger")), "backend.test", false);
    let skipped = ClientSettings { verification: Verification::Skipped, ..ClientSettings::default() };
    check(&skipped, "other.test", true);
}

#[test]
fn backends_are_shown_a_certificate_if_they_ask() {
    let trust = Trust { authorities: vec![AUTHORITY.der.to_vec().into()], revocation_lists: Vec::new() };
    let backend = backend(ClientAuth::Required(trust));
    let settings = trusting(&AUTHORITY);
    assert!(connect(&config(&settings), &backend, "backend.test").is_err());
    let made = AUTHORITY.issue(2, &["proxy.test"]);
    let settings = ClientSettings { certificate: Some(made.material()), ..settings };
    let (_, server) = connect(&config(&settings), &backend, "backend.test").expect("a handshake");
    assert_eq!(server.peer_certificates().expect("a chain")[0].as_ref(), &*made.der);
}

#[test]
fn sessions_are_resumed_and_secrets_caught() {
    let backend = backend(ClientAuth::None);
    let shared = shared();
    let settings = ClientSettings { alpn: vec![b"http/1.1".to_vec()], ..trusting(&AUTHORITY) };
    let config = client_config(&settings, &shared, &SystemAuthorities::default()).expect("good settings");
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (client, _) = connect(&config, &backend, "backend.test").expect("a handshake");
        assert_eq!(client.handshake_kind(), Some(expected));
        assert_eq!(client.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert!(shared.secrets.take().is_some());
    }
}

#[test]
fn what_is_wrong_with_the_authorities_is_named() {
    let refused = |authorities: Vec<CertificateDer<'static>>| {
        let verification = Verification::Authorities(authorities);
        let settings = ClientSettings { verification, ..ClientSettings::default() };
        let config = client_config(&settings, &shared(), &SystemAuthorities::default());
        config.map(drop).expect_err("a refusal")
    };
    assert_eq!(refused(Vec::new()), ClientSettingsError::NoAuthorities);
    let garbage = vec![AUTHORITY.der.to_vec().into(), b"garbage".to_vec().into()];
    assert!(matches!(refused(garbage), ClientSettingsError::Authority { index: 1, .. }));
}
