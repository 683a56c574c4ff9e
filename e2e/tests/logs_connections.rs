//! What the access log tells of connections: TLS that comes to nothing, who handed a client over, frontends by name.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kakehi_command::proto::request::RequestType;
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::await_value;
use kakehi_e2e::http::Backend;
use kakehi_e2e::tcp::{TcpBackend, TcpClient, activate_tcp_listener, sni_frontend, tcp_listener};
use kakehi_e2e::tls::{Authority, TlsClient};
use kakehi_e2e::{Proxy, ProxyBuilder, requests};
use serde_json::Value;

fn logged(builder: ProxyBuilder) -> (ProxyBuilder, tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("access.log");
    let target = format!("access_logs_target = \"file://{}\"", path.display());
    (builder.workers(1).setting(&target).setting("access_logs_format = \"json\""), directory, path)
}

/// The records of a file, once there are so many.
fn await_records(path: &Path, count: usize) -> Vec<Value> {
    await_value("the records", || {
        let text = fs::read_to_string(path).unwrap_or_default();
        let records: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (records.len() >= count).then_some(records)
    })
}

fn text<'v>(record: &'v Value, member: &str) -> &'v str {
    record[member].as_str().expect(member)
}

#[test]
fn tls_handshakes_that_fail_are_told_with_their_reasons() {
    let (builder, _directory, path) = logged(Proxy::builder().without_listener());
    let proxy = builder.start();
    let mut command = proxy.command();
    let (address, tcp) = (free_address(), free_address());
    let mut listener = requests::https_listener(address);
    listener.request_timeout = 1;
    command.ok(RequestType::AddHttpsListener(listener));
    command.ok(requests::activate_https_listener(address));
    let mut of_tcp = tcp_listener(tcp);
    let tls = requests::https_listener(tcp);
    of_tcp.tls = Some(tls);
    command.ok(RequestType::AddTcpListener(of_tcp));
    command.ok(activate_tcp_listener(tcp));
    let authority = Authority::default();
    command.ok(authority.issue(&["a.test"]).add(address));
    command.ok(authority.issue(&["a.test"]).add(tcp));
    // Who does not know whom our certificate is from says so, by an alert.
    let stranger = Authority::default().client();
    assert!(stranger.connect(address, "a.test").and_then(|mut client| client.get("a.test", "/")).is_err());
    let first = &await_records(&path, 1)[0];
    assert_eq!(text(first, "message"), "TLS handshake failed: the peer sent an alert");
    assert_eq!((text(first, "protocol"), text(first, "listener")), ("HTTPS", &*address.to_string()));
    assert!(first["status"].is_null() && text(first, "client").starts_with("127.0.0.1:"), "{first}");
    // No TLS at all; and nothing at all, until its time is over.
    let mut plain = TcpClient::connect(address);
    plain.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let second = &await_records(&path, 2)[1];
    assert_eq!(text(second, "message"), "TLS handshake failed: a message could not be read");
    let silent = TcpClient::connect(address);
    let third = &await_records(&path, 3)[2];
    assert_eq!(text(third, "message"), "TLS handshake failed: it took too long");
    assert_ne!(second["session_id"], third["session_id"]);
    drop(silent);
    // Who only looks whether somebody listens has no record; on a TCP listener each connection has one.
    drop(TcpClient::connect(address));
    assert!(stranger.connect(tcp, "a.test").and_then(|mut client| client.get("a.test", "/")).is_err());
    let fourth = &await_records(&path, 4)[3];
    assert_eq!(text(fourth, "message"), "TLS handshake failed: the peer sent an alert");
    assert_eq!((text(fourth, "protocol"), text(fourth, "listener")), ("TLS", &*tcp.to_string()));
    proxy.stop();
}

fn ask(address: SocketAddr, pieces: &[&str]) -> String {
    let mut client = TcpClient::connect(address);
    for piece in pieces {
        client.send(piece);
    }
    client.rest_text()
}

#[test]
fn whoever_handed_a_client_over_is_told_beside_it() {
    let backend = Backend::named("one");
    let (builder, _directory, path) = logged(Proxy::builder().listener_setting("expect_proxy = true"));
    let proxy = builder.cluster("a", "a.test", &[backend.address()]).start();
    let header = "PROXY TCP4 192.0.2.7 198.51.100.9 5678 80\r\n";
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.4\r\n\
                   traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
                   x-forwarded-for: 203.0.113.5\r\n\r\n";
    assert!(ask(proxy.address(), &[header, request]).contains("one"));
    assert!(ask(proxy.address(), &["PROXY UNKNOWN\r\n", request]).contains("one"));
    let records = await_records(&path, 2);
    let handed = &records[0];
    assert_eq!(text(handed, "client"), "192.0.2.7:5678");
    assert!(text(handed, "client_peer").starts_with("127.0.0.1:"), "{handed}");
    assert_eq!(text(handed, "x_forwarded_for"), "203.0.113.4, 203.0.113.5");
    assert_eq!(text(handed, "trace_id"), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(text(handed, "span_id"), "b7ad6b7169203331");
    let own = &records[1];
    assert!(text(own, "client").starts_with("127.0.0.1:") && own["client_peer"].is_null(), "{own}");
    proxy.stop();
}

#[test]
fn frontends_by_name_have_their_own_tags() {
    let (builder, _directory, path) = logged(Proxy::builder().without_listener());
    let proxy = builder.start();
    let mut command = proxy.command();
    let address = free_address();
    command.ok(RequestType::AddTcpListener(tcp_listener(address)));
    command.ok(activate_tcp_listener(address));
    let authority = Authority::default();
    let backend = kakehi_e2e::tls::TlsBackend::start("one", &authority.issue(&["a.test", "b.test"]), None);
    for (cluster, owner) in [("a", "ada"), ("b", "bob")] {
        command.ok(requests::add_cluster(cluster));
        command.ok(requests::add_backend(cluster, "x", backend.address()));
        let mut frontend = sni_frontend(cluster, address, &format!("{cluster}.test"), &[]);
        frontend.tags.insert("owner".to_owned(), owner.to_owned());
        command.ok(RequestType::AddTcpFrontend(frontend));
    }
    for name in ["a.test", "b.test"] {
        let mut client = TlsClient::connect(&authority.client().config(), address, name).unwrap();
        assert_eq!(client.get(name, "/").unwrap().status, 200);
    }
    let records = await_records(&path, 2);
    for (record, (cluster, owner)) in records.iter().zip([("a", "ada"), ("b", "bob")]) {
        assert_eq!((text(record, "cluster"), text(&record["tags"], "owner")), (cluster, owner), "{record}");
        assert_eq!((text(record, "protocol"), text(record, "sni")), ("TCP", &*format!("{cluster}.test")));
        assert!(record["tls_version"].is_null(), "{record}");
    }
    proxy.stop();
}

#[test]
fn who_handed_over_a_connection_of_a_tcp_listener_is_told() {
    let (builder, _directory, path) = logged(Proxy::builder().without_listener());
    let proxy = builder.start();
    let mut command = proxy.command();
    let (address, backend) = (free_address(), TcpBackend::echo("echo"));
    let mut listener = tcp_listener(address);
    listener.expect_proxy = true;
    command.ok(RequestType::AddTcpListener(listener));
    command.ok(activate_tcp_listener(address));
    command.ok(requests::add_cluster("t"));
    command.ok(requests::add_backend("t", "x", backend.address()));
    command.ok(RequestType::AddTcpFrontend(kakehi_e2e::tcp::tcp_frontend("t", address)));
    let mut client = TcpClient::connect(address);
    client.stream.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.9 5678 80\r\n").unwrap();
    client.hears("echo");
    drop(client);
    let record = &await_records(&path, 1)[0];
    assert_eq!((text(record, "client"), text(record, "cluster")), ("192.0.2.7:5678", "t"));
    assert!(text(record, "client_peer").starts_with("127.0.0.1:"), "{record}");
    proxy.stop();
}
