//! HTTPS listeners: versions, names, the certificate that a client gets, and what a request learns of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{HstsConfig, HttpsListenerConfig};
use kakehi_e2e::address::free_address;
use kakehi_e2e::http::{After, Backend};
use kakehi_e2e::tls::{Authority, Issued, Kind, TlsClient, connect_from};
use kakehi_e2e::{CommandClient, Proxy, await_replaced, requests, send_signal};
use nix::sys::signal::Signal;

/// A proxy with an HTTPS listener for some hosts.
struct Site {
    proxy: Proxy,
    command: CommandClient,
    address: SocketAddr,
    authority: Authority,
}

fn site(change: impl FnOnce(&mut HttpsListenerConfig), hosts: &[&str]) -> Site {
    let proxy = Proxy::builder().without_listener().start();
    let mut command = proxy.command();
    let address = free_address();
    let mut listener = requests::https_listener(address);
    change(&mut listener);
    command.ok(RequestType::AddHttpsListener(listener));
    command.ok(requests::activate_https_listener(address));
    for host in hosts {
        command.ok(requests::add_cluster(host));
        command.ok(requests::add_https_frontend(host, address, host));
    }
    Site { proxy, command, address, authority: Authority::default() }
}

impl Site {
    fn serve(&mut self, cluster: &str, backend: &Backend) {
        self.command.ok(requests::add_backend(cluster, "b", backend.address()));
    }

    fn add(&mut self, issued: &Issued) {
        self.command.ok(issued.add(self.address));
    }

    fn connect(&self, name: &str) -> std::io::Result<TlsClient> {
        self.authority.client().connect(self.address, name)
    }
}

#[test]
fn both_versions_are_served() {
    let mut site = site(|_| {}, &["a.test"]);
    let backend = Backend::named("a");
    site.serve("a.test", &backend);
    let certificate = site.authority.issue(&["a.test"]);
    site.add(&certificate);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut client =
            site.authority.client().version(version).connect(site.address, "a.test").expect("served");
        for _ in 0..3 {
            let response = client.get("a.test", "/").expect("an answer");
            assert_eq!((response.status, response.text().as_str()), (200, "a"));
        }
        assert_eq!(client.connection().protocol_version(), Some(version.version));
    }
    site.proxy.stop();
}

#[test]
fn the_backend_is_told_of_https() {
    let mut site = site(|_| {}, &["a.test"]);
    let backend = Backend::start(|exchange| {
        let forwarded = exchange.head.fields.get("X-Forwarded-Proto").unwrap_or_default().to_owned();
        exchange.answer(&forwarded).map(|()| After::KeepAlive)
    });
    site.serve("a.test", &backend);
    let certificate = site.authority.issue(&["a.test"]);
    site.add(&certificate);
    let response = site.connect("a.test").expect("served").get("a.test", "/").expect("an answer");
    assert_eq!(response.text(), "https");
    site.proxy.stop();
}

#[test]
fn the_most_specific_name_wins_and_algorithms_stand_side_by_side() {
    let mut site = site(|_| {}, &["a.example.test"]);
    let wildcard = site.authority.issue(&["*.example.test"]);
    let exact = site.authority.issue(&["a.example.test"]);
    let rsa = site.authority.issue_kind(Kind::Rsa, &["a.example.test"]);
    for issued in [&wildcard, &rsa, &exact] {
        site.add(issued);
    }
    assert_eq!(site.connect("a.example.test").expect("served").served(), &exact.der[..]);
    assert_eq!(site.connect("b.example.test").expect("served").served(), &wildcard.der[..]);
    assert!(site.connect("a.b.example.test").is_err(), "one label, and no default");
    site.command.ok(exact.remove(site.address));
    assert_eq!(site.connect("a.example.test").expect("served").served(), &rsa.der[..]);
    site.command.ok(rsa.remove(site.address));
    assert_eq!(site.connect("a.example.test").expect("served").served(), &wildcard.der[..]);
    site.command.ok(wildcard.remove(site.address));
    assert!(site.connect("a.example.test").is_err(), "nothing is left");
    site.proxy.stop();
}

#[test]
fn a_client_with_another_name_gets_the_default() {
    let authority = Authority::default();
    let default = authority.issue(&["default.test"]);
    let mut site = site(
        |listener| {
            listener.certificate = Some(default.certificate.clone());
            listener.key = Some(default.key.clone());
        },
        &["a.test", "other.test"],
    );
    let backend = Backend::named("a");
    site.serve("a.test", &backend);
    site.serve("other.test", &backend);
    let certificate = site.authority.issue(&["a.test"]);
    site.add(&certificate);
    // It does not look at names, and is served by the one it asked for.
    let mut client = site.authority.client().careless().connect(site.address, "other.test").expect("served");
    assert_eq!(client.served(), &default.der[..]);
    assert_eq!(client.get("other.test", "/").expect("an answer").status, 200);
    assert_eq!(client.get("a.test", "/").expect("an answer").status, 421);
    site.proxy.stop();
}

#[test]
fn a_host_that_the_certificate_is_not_for_is_misdirected() {
    for strict in [None, Some(true), Some(false)] {
        let mut site = site(|listener| listener.strict_sni_binding = strict, &["a.test", "b.test"]);
        let backend = Backend::named("x");
        for host in ["a.test", "b.test"] {
            site.serve(host, &backend);
            let certificate = site.authority.issue(&[host]);
            site.add(&certificate);
        }
        let mut client = site.connect("a.test").expect("served");
        assert_eq!(client.get("a.test", "/").expect("an answer").status, 200);
        let status = client.get("b.test", "/").expect("an answer").status;
        assert_eq!(status, if strict == Some(false) { 200 } else { 421 }, "{strict:?}");
        site.proxy.stop();
    }
}

#[test]
fn a_session_is_resumed_by_any_worker_and_after_a_crash() {
    let mut site = site(|_| {}, &["a.test"]);
    let backend = Backend::named("a");
    site.serve("a.test", &backend);
    let certificate = site.authority.issue(&["a.test"]);
    site.add(&certificate);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = site.authority.client().version(version).config();
        let mut first = TlsClient::connect(&config, site.address, "a.test").expect("served");
        assert!(!first.is_resumed());
        first.get("a.test", "/").expect("an answer");
        for round in 0..8 {
            let mut next = TlsClient::connect(&config, site.address, "a.test").expect("served");
            assert!(next.is_resumed(), "{version:?}, round {round}");
            assert_eq!(next.get("a.test", "/").expect("an answer").text(), "a");
        }
        for worker in site.proxy.worker_pids() {
            send_signal(worker, Signal::SIGKILL);
            await_replaced(&site.proxy, worker, 2);
        }
        for round in 0..8 {
            let mut next = TlsClient::connect(&config, site.address, "a.test").expect("served");
            assert!(next.is_resumed(), "{version:?}, after the crash, round {round}");
            next.get("a.test", "/").expect("an answer");
        }
    }
    site.proxy.stop();
}

#[test]
fn a_policy_is_told_over_tls_alone() {
    let policy = HstsConfig { enabled: Some(true), max_age: Some(86_400), ..Default::default() };
    let mut site = site(|listener| listener.hsts = Some(policy), &["a.test"]);
    let backend = Backend::named("a");
    site.serve("a.test", &backend);
    let certificate = site.authority.issue(&["a.test"]);
    site.add(&certificate);
    let mut client = site.connect("a.test").expect("served");
    let response = client.get("a.test", "/").expect("an answer");
    assert_eq!(response.field("Strict-Transport-Security"), Some("max-age=86400"));
    // Ours as well.
    let mut command = site.proxy.command();
    command.ok(requests::remove_backend("a.test", "b", backend.address()));
    let response = client.get("a.test", "/").expect("an answer");
    assert_eq!((response.status, response.field("Strict-Transport-Security")), (503, Some("max-age=86400")));
    site.proxy.stop();
}

#[test]
fn bad_certificates_are_refused_with_the_reason_and_nothing_changes() {
    let mut site = site(|_| {}, &["a.test"]);
    let good = site.authority.issue(&["a.test"]);
    site.add(&good);
    let other = site.authority.issue(&["a.test"]);
    let wrong_key = Issued { key: other.key.clone(), ..good.clone() };
    let expired = site.authority.issue_with(Kind::Ecdsa, &["old.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let garbage = Issued {
        certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
        ..good.clone()
    };
    let no_pem = Issued { certificate: "hello".into(), ..good.clone() };
    let no_key = Issued { key: String::new(), ..good.clone() };
    for (issued, reason) in [
        (&wrong_key, "does not match"),
        (&expired, "expired"),
        (&garbage, "certificate"),
        (&no_pem, "certificate"),
        (&no_key, "key"),
    ] {
        let refused = site.command.refused(issued.add(site.address));
        assert!(refused.contains(reason), "{reason}: {refused}");
        assert!(!refused.contains("BEGIN"), "no text of theirs: {refused}");
        let refused = site.command.refused(issued.replace(site.address, &good));
        assert!(refused.contains(reason), "{reason}: {refused}");
    }
    let long = Issued { certificate: good.certificate.repeat(2_200), ..good.clone() };
    assert!(long.certificate.len() > 1 << 20, "{}", long.certificate.len());
    let refused = site.command.refused(long.add(site.address));
    assert!(refused.contains("is longer than"), "{refused}");
    let many: Vec<String> = (0..5_000).map(|n| format!("n{n}.test")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = site.command.refused(site.authority.issue(&many).add(site.address));
    assert!(refused.contains("names"), "{refused}");
    assert_eq!(site.connect("a.test").expect("served").served(), &good.der[..]);
    site.proxy.stop();
}

#[test]
fn a_handshake_has_its_time() {
    let mut site = site(|listener| listener.handshake_timeout = Some(1), &["a.test"]);
    let certificate = site.authority.issue(&["a.test"]);
    site.add(&certificate);
    use std::io::{Read, Write};
    let mut silent = connect_from(Ipv4Addr::LOCALHOST, site.address).expect("accepted");
    let mut slow = connect_from(Ipv4Addr::LOCALHOST, site.address).expect("accepted");
    slow.write_all(&[22, 3, 1, 2, 0, 1]).expect("room");
    for socket in [&mut silent, &mut slow] {
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
        let mut bytes = Vec::new();
        // Closed, by an end or a reset.
        let _ = socket.read_to_end(&mut bytes);
        assert!(bytes.is_empty(), "{bytes:?}");
    }
    site.proxy.stop();
}
