//! The PROXY protocol where TLS is spoken, and with nginx: a header always goes before the first message of TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{BackendTls, Cluster, HttpsListenerConfig, ProxyProtocolConfig};
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::http::{After, Backend, get};
use kakehi_e2e::nginx::Nginx;
use kakehi_e2e::tcp::{TcpBackend, TcpClient, activate_tcp_listener, tcp_frontend, tcp_listener};
use kakehi_e2e::tls::{Authority, Issued, TlsClient};
use kakehi_e2e::{CommandClient, Proxy, requests};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.9 5678 443\r\n";

/// The same connection in version 2, with one addition.
fn v2() -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 198, 51, 100, 9, 0x16, 0x2e, 1, 0xbb];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11".as_slice(), &addresses, b"\x02\0\x02hi"].concat()
}

/// Answers by whom it takes for the client.
fn asker() -> Backend {
    Backend::start(|exchange| {
        let client = exchange.head.fields.get("X-Forwarded-For").unwrap_or("nobody").to_owned();
        exchange.answer(&client)?;
        Ok(After::KeepAlive)
    })
}

/// A proxy with an HTTPS listener where each connection has to open with a header.
fn https_site(backend: SocketAddr) -> (Proxy, CommandClient, SocketAddr, Authority) {
    let proxy = Proxy::builder().workers(1).without_listener().start();
    let mut command = proxy.command();
    let (address, authority) = (free_address(), Authority::default());
    let mut listener = requests::https_listener(address);
    listener.expect_proxy = true;
    command.ok(RequestType::AddHttpsListener(listener));
    command.ok(requests::add_cluster("a"));
    command.ok(requests::add_https_frontend("a", address, "a.test"));
    command.ok(requests::add_backend("a", "b", backend));
    command.ok(authority.issue(&["a.test"]).add(address));
    command.ok(requests::activate_https_listener(address));
    (proxy, command, address, authority)
}

fn await_metric(command: &mut CommandClient, name: &str, value: i64) {
    await_true(&format!("{name} is {value}"), || command.metric(name) == value);
}

#[test]
fn a_header_goes_before_the_handshake_of_an_https_client() {
    let backend = asker();
    let (_proxy, mut command, address, authority) = https_site(backend.address());
    let config = authority.client().config();
    let v2 = v2();
    for header in [V1, &v2] {
        // Cut within the header, at its end, within the first message of TLS, and not at all.
        for cut in [1, 13, header.len() - 1, header.len(), header.len() + 1, header.len() + 60, usize::MAX] {
            let mut client = TlsClient::behind(header, cut, &config, address, "a.test")
                .unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            assert_eq!(client.get("a.test", "/").expect("an answer").text(), "192.0.2.7", "cut at {cut}");
            // Once for the connection.
            assert_eq!(client.get("a.test", "/").expect("an answer").text(), "192.0.2.7", "cut at {cut}");
        }
    }
    await_metric(&mut command, "protocol.proxy.expect", 0);
    assert_eq!(command.metric("proxy_protocol.errors"), 0);
    // Without one, and with one that comes only within TLS.
    for count in 1..=2 {
        assert!(TlsClient::connect(&config, address, "a.test").is_err());
        await_metric(&mut command, "proxy_protocol.errors", count);
    }
    let mut late = TlsClient::behind(V1, usize::MAX, &config, address, "a.test").expect("a header");
    late.send(V1).expect("it stands");
    assert_eq!(late.response().expect("an answer").status, 400);
}

#[test]
fn curl_speaks_tls_behind_its_header() {
    let backend = asker();
    let (_proxy, mut command, address, _authority) = https_site(backend.address());
    let output = Command::new("curl")
        .args(["-sS", "--insecure", "--max-time", "10", "--haproxy-protocol"])
        .args(["--connect-to", &format!("a.test:443:{address}"), "https://a.test/"])
        .output()
        .expect("curl runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "127.0.0.1", "{errors}");
    assert_eq!(command.metric("proxy_protocol.errors"), 0);
}

#[test]
fn a_header_goes_before_tls_that_ends_at_a_tcp_listener() {
    let backend = TcpBackend::echo("");
    let proxy = Proxy::builder().workers(1).without_listener().start();
    let mut command = proxy.command();
    let (address, authority) = (free_address(), Authority::default());
    let mut listener = tcp_listener(address);
    listener.expect_proxy = true;
    listener.tls = Some(HttpsListenerConfig {
        address: requests::wire_address(address),
        send_tls13_tickets: 2,
        ..Default::default()
    });
    command.ok(RequestType::AddTcpListener(listener));
    command.ok(RequestType::AddCluster(sending("a", 2, None)));
    command.ok(RequestType::AddTcpFrontend(tcp_frontend("a", address)));
    command.ok(requests::add_backend("a", "b", backend.address()));
    command.ok(authority.issue(&["a.test"]).add(address));
    command.ok(activate_tcp_listener(address));
    let (config, v2) = (authority.client().config(), v2());
    for cut in [1, 15, 16, v2.len() - 1, v2.len(), v2.len() + 1, v2.len() + 60, usize::MAX] {
        let mut client = TlsClient::behind(&v2, cut, &config, address, "a.test")
            .unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        client.send("hello").expect("it stands");
        client.connection().send_close_notify();
        client.send("").expect("it stands");
        // What the header tells goes on as it came, before what the client says.
        let heard = client.read_to_end().expect("an end that is announced");
        assert_eq!(heard, [&v2[..], b"hello", b"over"].concat(), "cut at {cut}");
    }
    assert_eq!(command.metric("proxy_protocol.errors"), 0);
    assert!(TlsClient::connect(&config, address, "a.test").is_err());
    await_metric(&mut command, "proxy_protocol.errors", 1);
    await_metric(&mut command, "protocol.proxy.expect", 0);
}

/// A cluster whose backends are told of clients, over TLS if they are known by this authority.
fn sending(id: &str, version: u32, authority: Option<&Authority>) -> Cluster {
    let tls = authority.map(|authority| {
        let mut tls = BackendTls::default();
        tls.enabled = true;
        tls.server_name = Some("backend.test".into());
        tls.ca_certificates = vec![authority.pem.clone()];
        tls
    });
    Cluster {
        cluster_id: id.into(),
        proxy_protocol: Some(ProxyProtocolConfig::SendHeader.into()),
        send_proxy_version: Some(version),
        tls,
        ..Default::default()
    }
}

/// A backend that reads a line of version 1, then speaks TLS: it answers by the line.
fn header_then_tls(identity: &Issued) -> TcpBackend {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![identity.der.clone()], identity.private_key());
    let config = Arc::new(config.expect("a certificate and its key"));
    TcpBackend::start(move |mut stream: TcpStream| {
        let line = read_until(&mut stream, b"\r\n")?;
        let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        read_until(&mut stream, b"\r\n\r\n")?;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", line.len())?;
        stream.write_all(&line)?;
        stream.flush()
    })
}

/// Byte by byte: what follows is somebody else's.
fn read_until(stream: &mut impl Read, end: &[u8]) -> io::Result<Vec<u8>> {
    let mut seen = Vec::new();
    while !seen.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        seen.extend(byte);
    }
    Ok(seen)
}

#[test]
fn backends_hear_of_the_client_before_tls_begins() {
    let authority = Authority::default();
    let backend = header_then_tls(&authority.issue(&["backend.test"]));
    let proxy = Proxy::builder().workers(1).start();
    let mut command = proxy.command();
    command.ok(RequestType::AddCluster(sending("a", 1, Some(&authority))));
    command.ok(requests::add_frontend("a", proxy.address(), "a.test"));
    command.ok(requests::add_backend("a", "b", backend.address()));
    let (ip, port) = (proxy.address().ip(), proxy.address().port());
    for count in 1..=2 {
        let text = get(proxy.address(), "a.test", "/").text();
        assert!(text.starts_with("PROXY TCP4 127.0.0.1 "), "{text}");
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!((words[3], words[5]), (ip.to_string().as_str(), port.to_string().as_str()), "{text}");
        assert_eq!(command.metric("backend.tls.handshakes"), count);
    }

    // The same from a TCP listener.
    let address = free_address();
    command.ok(RequestType::AddTcpListener(tcp_listener(address)));
    command.ok(RequestType::AddCluster(sending("t", 1, Some(&authority))));
    command.ok(RequestType::AddTcpFrontend(tcp_frontend("t", address)));
    command.ok(requests::add_backend("t", "b", backend.address()));
    command.ok(activate_tcp_listener(address));
    let mut client = TcpClient::connect(address);
    let from = client.stream.local_addr().expect("connected").port();
    client.send("GET / HTTP/1.1\r\n\r\n");
    let heard = client.rest_text();
    let line = format!("PROXY TCP4 127.0.0.1 {} {from} {}\r\n", address.ip(), address.port());
    assert!(heard.ends_with(&line), "{heard}");
    assert_eq!(command.metric("protocol.proxy.send"), 3);
}

#[test]
fn nginx_behind_us_reads_what_we_write() {
    let authority = Authority::default();
    let identity = authority.issue(&["backend.test"]);
    for tls in [None, Some(&identity)] {
        let Some(nginx) = Nginx::expecting_headers(tls) else { return };
        for version in [1, 2] {
            let proxy = Proxy::builder().workers(1).start();
            let mut command = proxy.command();
            command.ok(RequestType::AddCluster(sending("a", version, tls.map(|_| &authority))));
            command.ok(requests::add_frontend("a", proxy.address(), "a.test"));
            command.ok(requests::add_backend("a", "b", nginx.address()));
            let text = get(proxy.address(), "a.test", "/").text();
            let to = format!(" to {}", proxy.address());
            assert!(text.starts_with("127.0.0.1:") && text.ends_with(&to), "{text}");
        }
    }
}

#[test]
fn nginx_in_front_of_us_is_believed() {
    let backend = asker();
    let builder = Proxy::builder().workers(1).listener_setting("expect_proxy = true");
    let proxy = builder.cluster("a", "a.test", &[backend.address()]).start();
    let Some(nginx) = Nginx::sending_headers(proxy.address()) else { return };
    assert_eq!(get(nginx.address(), "a.test", "/").text(), "127.0.0.1");
    let (_https, mut command, address, authority) = https_site(backend.address());
    let nginx = Nginx::sending_headers(address).expect("it was there before");
    let mut client =
        TlsClient::connect(&authority.client().config(), nginx.address(), "a.test").expect("a handshake");
    assert_eq!(client.get("a.test", "/").expect("an answer").text(), "127.0.0.1");
    assert_eq!(command.metric("proxy_protocol.errors"), 0);
    assert_eq!(proxy.command().metric("proxy_protocol.errors"), 0);
}
