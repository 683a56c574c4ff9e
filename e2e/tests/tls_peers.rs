//! Who proves what to whom: clients with certificates, and backends that speak TLS.

use std::net::SocketAddr;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    BackendTls, ClientAuthMode, ClientAuthPolicy, Cluster, UpdateHttpsListenerConfig,
};
use kakehi_e2e::address::free_address;
use kakehi_e2e::http::{After, Backend, get};
use kakehi_e2e::tls::{Authority, Kind, TlsBackend};
use kakehi_e2e::{CommandClient, Proxy, requests};

/// Asks who the backend thinks that we are.
fn ask(
    authority: &Authority,
    options: &kakehi_e2e::tls::ClientOptions,
    address: SocketAddr,
) -> Option<String> {
    let _ = authority;
    let mut client = options.connect(address, "a.test").ok()?;
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Client: CN=root\r\nX_Client: CN=root\r\n\r\n").ok()?;
    client.response().ok().map(|response| response.text())
}

#[test]
fn clients_prove_who_they_are_and_cannot_claim_it() {
    let proxy = Proxy::builder().without_listener().start();
    let mut command = proxy.command();
    let address = free_address();
    let (authority, clients, others) =
        (Authority::default(), Authority::new("Clients"), Authority::new("Others"));
    let mut listener = requests::https_listener(address);
    listener.client_auth = Some(ClientAuthMode::ClientAuthOptional.into());
    listener.client_ca_certificates = vec![clients.pem.clone()];
    listener.client_subject_header = Some("X-Client".into());
    command.ok(RequestType::AddHttpsListenerWithClientAuth(listener));
    command.ok(requests::activate_https_listener(address));
    command.ok(requests::add_cluster("a"));
    command.ok(requests::add_https_frontend("a", address, "a.test"));
    let backend = Backend::start(|exchange| {
        let subject = exchange.head.fields.get("X-Client").unwrap_or("nobody").to_owned();
        let other = exchange.head.fields.get("X_Client").is_some();
        exchange.answer(&format!("{subject}{}", if other { ", or so they say" } else { "" }))?;
        Ok(After::KeepAlive)
    });
    command.ok(requests::add_backend("a", "b", backend.address()));
    command.ok(authority.issue(&["a.test"]).add(address));

    let ada = clients.issue_with(Kind::Ecdsa, &["ada"], |params| params.serial_number = Some(7.into()));
    let bob = clients.issue_with(Kind::Ecdsa, &["bob"], |params| params.serial_number = Some(8.into()));
    let mallory = others.issue(&["ada"]);
    let base = authority.client();
    assert_eq!(ask(&authority, &base, address).as_deref(), Some("nobody"));
    assert_eq!(ask(&authority, &base.clone().identity(&ada), address).as_deref(), Some("CN=ada"));
    assert_eq!(ask(&authority, &base.clone().identity(&mallory), address), None);

    // Insisting, with a list that revokes one of them; new handshakes only.
    let mut update =
        UpdateHttpsListenerConfig { address: requests::wire_address(address), ..Default::default() };
    update.client_auth_policy = Some(ClientAuthPolicy {
        client_auth: Some(ClientAuthMode::ClientAuthRequired.into()),
        client_ca_certificates: vec![clients.pem.clone()],
        client_ca_crls: vec![clients.revoke(&[7])],
    });
    let mut before = base.clone().identity(&ada).connect(address, "a.test").expect("not revoked yet");
    command.ok(RequestType::UpdateHttpsListenerWithClientAuth(update));
    assert_eq!(before.get("a.test", "/").expect("an answer").status, 200);
    for _ in 0..4 {
        assert_eq!(ask(&authority, &base, address), None, "no certificate");
        assert_eq!(ask(&authority, &base.clone().identity(&ada), address), None, "revoked");
        assert_eq!(ask(&authority, &base.clone().identity(&bob), address).as_deref(), Some("CN=bob"));
    }
    proxy.stop();
}

/// A plain site whose backend speaks TLS as `tls` says.
fn secured(proxy: &Proxy, command: &mut CommandClient, backend: SocketAddr, tls: BackendTls) {
    command.ok(RequestType::AddCluster(Cluster {
        cluster_id: "a".into(),
        tls: Some(tls),
        ..Default::default()
    }));
    command.ok(requests::add_frontend("a", proxy.address(), "a.test"));
    command.ok(requests::add_backend("a", "b", backend));
}

/// What a case says of how a backend is spoken to.
type Settings<'a> = Box<dyn Fn(&mut BackendTls) + 'a>;

fn tls() -> BackendTls {
    let mut tls = BackendTls::default();
    tls.enabled = true;
    tls
}

#[test]
fn backends_are_verified_unless_told_otherwise() {
    let authority = Authority::default();
    let identity = authority.issue(&["backend.test", "127.0.0.1"]);
    let backend = TlsBackend::start("b", &identity, None);
    let cases: [(&str, Settings<'_>, Option<&str>); 5] = [
        ("unknown authority", Box::new(|_| {}), None),
        (
            "own authority, by address",
            Box::new(|tls| tls.ca_certificates = vec![authority.pem.clone()]),
            Some("b, asked for nobody"),
        ),
        (
            "own authority, by name",
            Box::new(|tls| {
                tls.ca_certificates = vec![authority.pem.clone()];
                tls.server_name = Some("backend.test".into());
            }),
            Some("b, asked for backend.test"),
        ),
        (
            "another name",
            Box::new(|tls| {
                tls.ca_certificates = vec![authority.pem.clone()];
                tls.server_name = Some("other.test".into());
            }),
            None,
        ),
        ("no verification", Box::new(|tls| tls.skip_verification = Some(true)), Some("b, asked for nobody")),
    ];
    for (case, change, expected) in cases {
        let proxy = Proxy::builder().workers(1).start();
        let mut settings = tls();
        change(&mut settings);
        secured(&proxy, &mut proxy.command(), backend.address(), settings);
        let response = get(proxy.address(), "a.test", "/");
        match expected {
            Some(text) => assert_eq!((response.status(), response.text()), (200, text.to_owned()), "{case}"),
            None => assert_eq!(response.status(), 503, "{case}"),
        }
        proxy.stop();
    }
}

#[test]
fn connections_to_backends_are_kept_until_their_settings_change() {
    let authority = Authority::default();
    let us = Authority::new("Us");
    let identity = authority.issue(&["127.0.0.1"]);
    let backend = TlsBackend::start("b", &identity, Some(&us));
    let proxy = Proxy::builder().workers(1).start();
    let mut command = proxy.command();
    let proof = us.issue(&["kakehi"]);
    let mut settings = tls();
    settings.ca_certificates = vec![authority.pem.clone()];
    settings.client_certificate = Some(proof.certificate.clone());
    settings.client_key = Some(proof.key.clone());
    secured(&proxy, &mut command, backend.address(), settings.clone());
    for _ in 0..5 {
        assert_eq!(get(proxy.address(), "a.test", "/").text(), "b knows you, asked for nobody");
    }
    assert_eq!(backend.accepted(), 1, "one connection serves them all");
    settings.client_certificate = None;
    settings.client_key = None;
    command.ok(RequestType::AddCluster(Cluster {
        cluster_id: "a".into(),
        tls: Some(settings),
        ..Default::default()
    }));
    let refused = get(proxy.address(), "a.test", "/").status();
    assert!(matches!(refused, 502 | 503), "it does not know us any more: {refused}");
    proxy.stop();
}
