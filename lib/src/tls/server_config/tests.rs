//! Handshakes in memory with clients of rustls.

use std::sync::LazyLock;

use rustls::client::{ClientSessionMemoryCache, Resumption, WebPkiServerVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, Error, HandshakeKind, NamedGroup, ServerConnection,
    SignatureScheme,
};
use rustls_pki_types::ServerName;

use super::super::certificates::Certificates;
use super::super::provider::{group, provider, suite};
use super::super::resolver::Choice;
use super::super::session_table::tests::table;
use super::super::testing::{Authority, Made, converse};
use super::super::ticket_keys::TicketKeys;
use super::*;

/// 2027: all certificates of tests are valid then.
const NOW: u64 = 1_800_000_000;
/// 2095: after the end of revocation lists.
const LATER: u64 = 3_950_000_000;

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("authority"));

fn entry(number: u8, made: &Made, names: &[&str]) -> Entry {
    Entry::new([number; 32], names.iter().copied(), i64::MAX, made.material())
}

/// A worker with certificates for `a.test` and `*.b.test`.
struct Worker {
    shared: Shared,
    certificates: Arc<SharedCertificates>,
}

impl Worker {
    fn new() -> Self {
        let shared = Shared::default();
        shared.clock.set(NOW);
        shared.ticket_keys.replace(keys());
        let certificates = Arc::new(SharedCertificates::default());
        certificates.change(|table: &mut Certificates| {
            table.insert(entry(1, &AUTHORITY.issue(1, &["a.test"]), &["a.test"]));
            table.insert(entry(2, &AUTHORITY.issue(2, &["*.b.test"]), &["*.b.test"]));
        });
        Self { shared, certificates }
    }

    fn serve(&self, settings: &ServerSettings) -> Arc<ServerConfig> {
        server_config(settings, &self.shared, self.certificates.clone(), None).expect("good settings")
    }
}

fn keys() -> TicketKeys {
    TicketKeys::default().rotate(NOW, &[7; 48])
}

/// A client of these versions that trusts the authority.
fn client(versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    client_with(provider(&[], &[]), versions, None)
}

fn client_with(
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    certificate: Option<&Made>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(AUTHORITY.der.to_vec().into()).expect("an authority");
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
    let clock = Arc::new(Clock::default());
    clock.set(NOW);
    let builder = ClientConfig::builder_with_details(provider, clock)
        .with_protocol_versions(versions)
        .expect("good versions")
        .with_webpki_verifier(verifier.build().expect("there are roots"));
    match certificate {
        Some(made) => {
            let chain = vec![made.der.to_vec().into()];
            builder.with_client_auth_cert(chain, made.key.clone_key()).expect("a good key")
        }
        None => builder.with_no_client_auth(),
    }
}

struct Connected {
    client: ClientConnection,
    server: ServerConnection,
}

fn connect(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &'static str,
) -> Result<Connected, Error> {
    let name = ServerName::try_from(name).expect("a name");
    let mut client = ClientConnection::new(client.clone(), name).expect("a client");
    let mut server = ServerConnection::new(server.clone()).expect("a server");
    converse(&mut client, &mut server)?;
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(Connected { client, server })
}

fn kind(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> HandshakeKind {
    let connected = connect(client, server, "a.test").expect("a handshake");
    connected.server.handshake_kind().expect("it is complete")
}

fn error(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, name: &'static str) -> Error {
    connect(client, server, name).map(drop).expect_err("a failure")
}

const BOTH: [&[&SupportedProtocolVersion]; 2] = [&[&version::TLS12], &[&version::TLS13]];

#[test]
fn certificates_are_chosen_by_name_and_told() {
    let worker = Worker::new();
    let config = worker.serve(&ServerSettings::default());
    let client = Arc::new(client(&[&version::TLS13, &version::TLS12]));
    let check = |name, expected: u8| {
        connect(&client, &config, name).expect("a handshake");
        let Some(Choice::Served(served)) = worker.shared.choices.take() else { panic!("{name} is served") };
        assert_eq!((served.entry.fingerprint()[0], served.is_default), (expected, false), "{name}");
        assert!(served.covers(name) && !served.covers("other.test"));
        assert!(worker.shared.choices.take().is_none(), "it is told once");
    };
    check("a.test", 1);
    check("www.b.test", 2);
    check("A.TEST", 1);
    assert_eq!(
        error(&client, &config, "c.test"),
        Error::General("no server certificate chain resolved".into())
    );
    assert!(matches!(worker.shared.choices.take(), Some(Choice::Refused)));
}

#[test]
fn the_default_is_for_those_without_a_name_or_with_an_unknown_one() {
    let worker = Worker::new();
    let default = Arc::new(entry(9, &AUTHORITY.issue(9, &["c.test", "192.0.2.1"]), &["d.test", "192.0.2.1"]));
    let settings = ServerSettings::default();
    let config = server_config(&settings, &worker.shared, worker.certificates.clone(), Some(default));
    let config = config.expect("good settings");
    let client = Arc::new(client(&[&version::TLS13]));
    let served = |name| {
        connect(&client, &config, name).expect("a handshake");
        let Some(Choice::Served(served)) = worker.shared.choices.take() else { panic!("{name} is served") };
        served
    };
    assert!(!served("a.test").is_default);
    let by_default = served("c.test");
    assert!(by_default.is_default);
    assert!(by_default.covers("C.test."), "what the client asked for");
    assert!(!by_default.covers("d.test"), "even if the certificate is for it");
    // A client that connects to an address sends no name (RFC 6066 §3).
    let by_default = served("192.0.2.1");
    assert!(by_default.is_default);
    assert!(by_default.covers("d.test") && !by_default.covers("c.test"));
}

#[test]
fn a_change_is_seen_by_the_next_handshake() {
    let worker = Worker::new();
    let config = worker.serve(&ServerSettings::default());
    let mut client = client(&[&version::TLS13]);
    client.resumption = Resumption::disabled();
    let client = Arc::new(client);
    let mut last = 1;
    for number in 10..20 {
        let made = AUTHORITY.issue(number.into(), &["a.test"]);
        worker.certificates.change(|table| table.replace(&[last; 32], entry(number, &made, &["a.test"])));
        last = number;
        let connected = connect(&client, &config, "a.test").expect("a handshake");
        assert_eq!(connected.client.peer_certificates().expect("a chain")[0].as_ref(), &*made.der);
        let Some(Choice::Served(served)) = worker.shared.choices.take() else { panic!("it is served") };
        assert_eq!(served.entry.fingerprint(), &[number; 32]);
    }
    worker.certificates.change(|table| table.remove(&[last; 32]));
    error(&client, &config, "a.test");
}

/// The algorithms of rustls, with only those signatures of the mapping that `keep` says.
fn verifying(scheme: SignatureScheme) -> Arc<CryptoProvider> {
    let mut provider = (*provider(&[], &[])).clone();
    let WebPkiSupportedAlgorithms { all, mapping } = provider.signature_verification_algorithms;
    let at = mapping.iter().position(|(known, _)| *known == scheme).expect("it is supported");
    provider.signature_verification_algorithms =
        WebPkiSupportedAlgorithms { all, mapping: &mapping[at..=at] };
    Arc::new(provider)
}

#[test]
fn the_clients_signatures_choose_the_key() {
    let worker = Worker::new();
    let rsa = AUTHORITY.issue_for(&super::super::testing::Kind::Rsa.key_pair(), 3, &["a.test"]);
    worker.certificates.change(|table| table.insert(entry(3, &rsa, &["a.test"])));
    let config = worker.serve(&ServerSettings::default());
    let chosen = |client: ClientConfig| {
        connect(&Arc::new(client), &config, "a.test").expect("a handshake");
        let Some(Choice::Served(served)) = worker.shared.choices.take() else { panic!("it is served") };
        served.entry.fingerprint()[0]
    };
    assert_eq!(chosen(client(&[&version::TLS13])), 1, "ECDSA for who takes both");
    let suites = |names: &[&str]| {
        let suites: Vec<_> = names.iter().map(|name| suite(name).expect("a suite")).collect();
        client_with(provider(&suites, &[]), &[&version::TLS12], None)
    };
    let ecdsa = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let rsa = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    assert_eq!(chosen(suites(&[rsa, ecdsa])), 1);
    assert_eq!(chosen(suites(&[ecdsa])), 1);
    assert_eq!(chosen(suites(&[rsa])), 3, "1.2 says it with suites, too");
    // The authority signs with ECDSA, so what verifies RSA alone cannot verify it; but it has chosen by then.
    let rsa_only = client_with(verifying(SignatureScheme::RSA_PSS_SHA256), &[&version::TLS13], None);
    let _ = connect(&Arc::new(rsa_only), &config, "a.test");
    let Some(Choice::Served(served)) = worker.shared.choices.take() else { panic!("it is served") };
    assert_eq!(served.entry.fingerprint()[0], 3);
}

#[test]
fn suites_are_taken_in_the_servers_order() {
    let worker = Worker::new();
    let names = [
        "TLS13_CHACHA20_POLY1305_SHA256",
        "TLS13_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ];
    let suites = names.iter().filter_map(|name| suite(name)).collect();
    let config = worker.serve(&ServerSettings { suites, ..ServerSettings::default() });
    let check = |versions: &[&'static SupportedProtocolVersion], expected| {
        let connected = connect(&Arc::new(client(versions)), &config, "a.test").expect("a handshake");
        let suite = connected.server.negotiated_cipher_suite().map(|suite| suite.suite());
        assert_eq!(suite, Some(expected));
    };
    check(&[&version::TLS13], CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    check(&[&version::TLS12], CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
}

#[test]
fn the_hybrid_group_is_agreed_on_by_default_and_others_if_that_is_off() {
    let worker = Worker::new();
    let check = |groups: &[&str], expected, expected_kind| {
        let groups = groups.iter().filter_map(|name| group(name)).collect();
        let config = worker.serve(&ServerSettings { groups, ..ServerSettings::default() });
        let connected =
            connect(&Arc::new(client(&[&version::TLS13])), &config, "a.test").expect("a handshake");
        let group = connected.server.negotiated_key_exchange_group().map(SupportedKxGroup::name);
        assert_eq!((group, connected.server.handshake_kind()), (Some(expected), Some(expected_kind)));
    };
    let retried = HandshakeKind::FullWithHelloRetryRequest;
    check(&[], NamedGroup::X25519MLKEM768, HandshakeKind::Full);
    check(&["x25519", "P-256"], NamedGroup::X25519, HandshakeKind::Full);
    check(&["P-384"], NamedGroup::secp384r1, retried);
}

#[test]
fn only_versions_that_are_on_are_spoken() {
    let worker = Worker::new();
    let only = |tls12, tls13| worker.serve(&ServerSettings { tls12, tls13, ..ServerSettings::default() });
    let [old, new] = BOTH.map(|versions| Arc::new(client(versions)));
    connect(&old, &only(true, false), "a.test").expect("1.2");
    connect(&new, &only(false, true), "a.test").expect("1.3");
    error(&old, &only(false, true), "a.test");
    error(&new, &only(true, false), "a.test");
    let refused = |settings: ServerSettings| {
        server_config(&settings, &worker.shared, worker.certificates.clone(), None).map(drop)
    };
    let none = ServerSettings { tls12: false, tls13: false, ..ServerSettings::default() };
    assert_eq!(refused(none), Err(SettingsError::NoVersion));
    let suites = vec![suite("TLS13_AES_128_GCM_SHA256").expect("a suite")];
    let no_suite = ServerSettings { tls13: false, suites, ..ServerSettings::default() };
    assert_eq!(refused(no_suite), Err(SettingsError::NoVersion));
}

#[test]
fn protocols_must_have_one_in_common_if_the_client_offers_any() {
    let worker = Worker::new();
    let config = worker.serve(&ServerSettings::default());
    let with = |alpn: &[&str]| {
        let mut client = client(&[&version::TLS13]);
        client.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(client)
    };
    let agreed = |alpn: &[&str]| {
        let connected = connect(&with(alpn), &config, "a.test").expect("a handshake");
        connected.server.alpn_protocol().map(<[u8]>::to_vec)
    };
    assert_eq!(agreed(&[]), None);
    assert_eq!(agreed(&["h2", "http/1.1"]), Some(b"http/1.1".to_vec()));
    assert_eq!(error(&with(&["h2"]), &config, "a.test"), Error::NoApplicationProtocol);
}

#[test]
fn sessions_are_resumed_with_any_worker_that_has_the_keys() {
    for versions in BOTH {
        let (a, b) = (Worker::new(), Worker::new());
        let settings = ServerSettings::default();
        let (at_a, at_b) = (a.serve(&settings), b.serve(&settings));
        let client = Arc::new(client(versions));
        assert_eq!(kind(&client, &at_a), HandshakeKind::Full);
        assert_eq!(kind(&client, &at_b), HandshakeKind::Resumed);
        assert_eq!(kind(&client, &b.serve(&settings)), HandshakeKind::Resumed, "a configuration made anew");
        let rotated = keys().rotate(NOW + 6 * 3600, &[8; 48]);
        b.shared.ticket_keys.replace(rotated.clone());
        assert_eq!(kind(&client, &at_b), HandshakeKind::Resumed, "with the old key, which still opens");
        a.shared.ticket_keys.replace(rotated);
        b.shared.ticket_keys.replace(TicketKeys::default());
        assert_eq!(kind(&client, &at_a), HandshakeKind::Resumed);
        assert_eq!(kind(&client, &at_b), HandshakeKind::Full, "its keys are gone");
    }
}

#[test]
fn sessions_are_not_resumed_where_more_is_asked_for() {
    let trust = |serials: &[u64]| Trust {
        authorities: vec![AUTHORITY.der.to_vec().into()],
        revocation_lists: vec![AUTHORITY.revoke(serials).into()],
    };
    let others = [
        ServerSettings { listener: "another".into(), ..ServerSettings::default() },
        ServerSettings { client_auth: ClientAuth::Optional(trust(&[])), ..ServerSettings::default() },
        ServerSettings { client_auth: ClientAuth::Required(trust(&[])), ..ServerSettings::default() },
        ServerSettings { client_auth: ClientAuth::Required(trust(&[66])), ..ServerSettings::default() },
    ];
    let worker = Worker::new();
    for versions in BOTH {
        let mine = AUTHORITY.issue(5, &["client.test"]);
        for (i, settings) in others.iter().enumerate() {
            let client = Arc::new(client_with(provider(&[], &[]), versions, Some(&mine)));
            assert_eq!(kind(&client, &worker.serve(&ServerSettings::default())), HandshakeKind::Full);
            let other = worker.serve(settings);
            assert_eq!(kind(&client, &other), HandshakeKind::Full, "{i}");
            assert_eq!(kind(&client, &other), HandshakeKind::Resumed, "{i}");
        }
    }
}

#[test]
fn a_session_is_resumed_no_longer_than_its_clients_certificate_lasts() {
    // 2030-01-01.
    const END: u64 = 1_893_456_000;
    let authorities = vec![AUTHORITY.der.to_vec().into()];
    let by_certificate = Trust { authorities: authorities.clone(), revocation_lists: Vec::new() };
    let by_list = Trust { authorities, revocation_lists: vec![AUTHORITY.revoke(&[]).into()] };
    // The list ends in 2090.
    for (trust, until, end) in [(by_certificate, 2030, END), (by_list, 4000, 3_786_912_000)] {
        for client_auth in [ClientAuth::Optional(trust.clone()), ClientAuth::Required(trust)] {
            for versions in BOTH {
                let worker = Worker::new();
                let config =
                    worker.serve(&ServerSettings { client_auth: client_auth.clone(), ..Default::default() });
                let mine = AUTHORITY.issue_until(until, 5, &["client.test"]);
                let client = Arc::new(client_with(provider(&[], &[]), versions, Some(&mine)));
                let at = |now: u64| {
                    worker.shared.clock.set(now);
                    worker.shared.ticket_keys.replace(TicketKeys::default().rotate(now, &[7; 48]));
                    worker.shared.choices.take_identity_end();
                    connect(&client, &config, "a.test").map(|it| it.server.handshake_kind())
                };
                assert_eq!(at(NOW).ok(), Some(Some(HandshakeKind::Full)));
                // New tickets are no better than the one that brought them.
                for now in [end - 2, end - 1] {
                    assert_eq!(at(now).ok(), Some(Some(HandshakeKind::Resumed)), "{now}");
                }
                let error = at(end + 1).map(|_| ()).expect_err("asked again, it has nothing good to show");
                assert!(matches!(error, Error::InvalidCertificate(_)), "{error:?}");
            }
        }
    }
}

#[test]
fn without_tickets_nothing_is_resumed() {
    let worker = Worker::new();
    let config = worker.serve(&ServerSettings { send_tls13_tickets: 0, ..ServerSettings::default() });
    let client = Arc::new(client(&[&version::TLS13]));
    assert_eq!(kind(&client, &config), HandshakeKind::Full);
    assert_eq!(kind(&client, &config), HandshakeKind::Full);
}

#[test]
fn early_data_is_taken_once_and_only_where_it_is_allowed() {
    let worker = Worker::new();
    worker.shared.sessions.set_table(table(64));
    let early = |early_data_bytes_max| {
        let config = worker.serve(&ServerSettings { early_data_bytes_max, ..ServerSettings::default() });
        let store = Arc::new(ClientSessionMemoryCache::new(8));
        let mut client = client(&[&version::TLS13]);
        client.enable_early_data = true;
        client.resumption = Resumption::store(store);
        let client = Arc::new(client);
        assert_eq!(kind(&client, &config), HandshakeKind::Full);
        let name = ServerName::try_from("a.test").expect("a name");
        let mut client = ClientConnection::new(client, name).expect("a client");
        let mut server = ServerConnection::new(config).expect("a server");
        if let Some(mut early) = client.early_data() {
            std::io::Write::write_all(&mut early, b"early").expect("there is room");
        }
        converse(&mut client, &mut server).expect("a handshake");
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Resumed));
        client.is_early_data_accepted()
    };
    assert!(!early(0));
    assert!(early(1024));
}

#[test]
fn a_listener_with_early_data_resumes_both_versions() {
    let worker = Worker::new();
    let settings = ServerSettings { early_data_bytes_max: 1024, ..ServerSettings::default() };
    for versions in BOTH {
        let client = Arc::new(client(versions));
        let config = worker.serve(&settings);
        assert_eq!(kind(&client, &config), HandshakeKind::Full);
        assert_eq!(kind(&client, &config), HandshakeKind::Full, "there is no table");
    }
    worker.shared.sessions.set_table(table(64));
    for versions in BOTH {
        let client = Arc::new(client(versions));
        assert_eq!(kind(&client, &worker.serve(&settings)), HandshakeKind::Full);
        assert_eq!(kind(&client, &worker.serve(&settings)), HandshakeKind::Resumed);
        let other = ServerSettings { listener: "another".into(), ..settings.clone() };
        assert_eq!(kind(&client, &worker.serve(&other)), HandshakeKind::Full);
    }
}

#[test]
fn clients_who_are_asked_for_certificates_send_nothing_early() {
    let worker = Worker::new();
    let trust = Trust { authorities: vec![AUTHORITY.der.to_vec().into()], revocation_lists: vec![] };
    let settings = ServerSettings {
        early_data_bytes_max: 1024,
        client_auth: ClientAuth::Optional(trust),
        ..ServerSettings::default()
    };
    let config = worker.serve(&settings);
    assert!(config.max_early_data_size == 0 && config.ticketer.enabled() && !config.send_half_rtt_data);
}

#[test]
fn clients_show_certificates_as_asked() {
    let worker = Worker::new();
    let trust = Trust {
        authorities: vec![AUTHORITY.der.to_vec().into()],
        revocation_lists: vec![AUTHORITY.revoke(&[66]).into()],
    };
    let stranger = Authority::new("stranger").issue(1, &["client.test"]);
    let (good, revoked) = (AUTHORITY.issue(5, &["client.test"]), AUTHORITY.issue(66, &["client.test"]));
    for versions in BOTH {
        let outcome = |client_auth: &ClientAuth, certificate: Option<&Made>| {
            let settings = ServerSettings { client_auth: client_auth.clone(), ..ServerSettings::default() };
            let client = Arc::new(client_with(provider(&[], &[]), versions, certificate));
            let connected = connect(&client, &worker.serve(&settings), "a.test")?;
            Ok::<_, Error>(connected.server.peer_certificates().is_some())
        };
        let (optional, required) = (ClientAuth::Optional(trust.clone()), ClientAuth::Required(trust.clone()));
        assert_eq!(outcome(&ClientAuth::None, Some(&good)), Ok(false), "nobody asks");
        assert_eq!(outcome(&optional, None), Ok(false));
        assert_eq!(outcome(&required, None), Err(Error::NoCertificatesPresented));
        for policy in [&optional, &required] {
            assert_eq!(outcome(policy, Some(&good)), Ok(true));
            let error = outcome(policy, Some(&revoked)).expect_err("it is revoked");
            assert_eq!(error, Error::InvalidCertificate(rustls::CertificateError::Revoked));
            let error = outcome(policy, Some(&stranger)).expect_err("nobody knows its issuer");
            assert!(matches!(error, Error::InvalidCertificate(_)), "{error}");
        }
    }
}

#[test]
fn a_revocation_list_that_has_expired_lets_nobody_in() {
    let worker = Worker::new();
    let good = AUTHORITY.issue(5, &["client.test"]);
    let outcome = |revocation_lists: Vec<CertificateRevocationListDer<'static>>| {
        let trust = Trust { authorities: vec![AUTHORITY.der.to_vec().into()], revocation_lists };
        let settings =
            ServerSettings { client_auth: ClientAuth::Required(trust), ..ServerSettings::default() };
        let client = Arc::new(client_with(provider(&[], &[]), &[&version::TLS13], Some(&good)));
        connect(&client, &worker.serve(&settings), "a.test").map(drop)
    };
    worker.shared.clock.set(LATER);
    assert_eq!(outcome(Vec::new()), Ok(()));
    let others = Authority::new("another").revoke(&[5]);
    assert_eq!(outcome(vec![others.into()]), Ok(()), "another issuer's list says nothing about ours");
    let error = outcome(vec![AUTHORITY.revoke(&[]).into()]).expect_err("the list has expired");
    assert!(matches!(error, Error::InvalidCertificate(_)), "{error}");
}

#[test]
fn what_is_wrong_with_a_trust_is_named() {
    let worker = Worker::new();
    let refused = |authorities: Vec<&[u8]>, lists: Vec<&[u8]>| {
        let trust = Trust {
            authorities: authorities.into_iter().map(|der| der.to_vec().into()).collect(),
            revocation_lists: lists.into_iter().map(|der| der.to_vec().into()).collect(),
        };
        let settings =
            ServerSettings { client_auth: ClientAuth::Optional(trust), ..ServerSettings::default() };
        let config = server_config(&settings, &worker.shared, worker.certificates.clone(), None);
        config.map(drop).expect_err("a refusal").to_string()
    };
    assert!(refused(vec![], vec![]).contains("there are none"));
    assert!(refused(vec![&AUTHORITY.der, b"garbage"], vec![]).contains("certificate 1 cannot be used"));
    assert!(refused(vec![&AUTHORITY.der], vec![b"garbage"]).starts_with("client_ca_crls"));
}

#[test]
fn both_sides_catch_the_same_secrets() {
    let worker = Worker::new();
    let config = worker.serve(&ServerSettings::default());
    let shared = Shared::default();
    let mut client = client(&[&version::TLS13]);
    client.key_log = shared.secrets.clone();
    connect(&Arc::new(client), &config, "a.test").expect("a handshake");
    let (ours, theirs) = (worker.shared.secrets.take().expect("both"), shared.secrets.take().expect("both"));
    assert_eq!(ours.client.as_bytes(), theirs.client.as_bytes());
    assert_eq!(ours.server.as_bytes(), theirs.server.as_bytes());
    assert_eq!(ours.server.as_bytes().len(), 48, "SHA-384, of the first suite");
    assert_ne!(ours.client.as_bytes(), ours.server.as_bytes());
}
