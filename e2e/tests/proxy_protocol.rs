//! The PROXY protocol: headers that open connections to us, and those that we open connections to backends with.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::Command;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{Cluster, ProxyProtocolConfig, TcpListenerConfig};
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::haproxy::Haproxy;
use kakehi_e2e::tcp::{TcpBackend, TcpClient, activate_tcp_listener, tcp_frontend, tcp_listener};
use kakehi_e2e::{CommandClient, Proxy, requests};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.9 5678 80\r\n";

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

/// A header of version 2 about the same connection, with one addition.
fn v2() -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 198, 51, 100, 9, 0x16, 0x2e, 0, 80];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11".as_slice(), &addresses, b"\x02\0\x02hi"].concat()
}

/// Answers each request by all that came on the connection since the last one.
fn mirror() -> TcpBackend {
    TcpBackend::start(|mut stream| {
        let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            seen.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if seen.len() > 28 && seen.ends_with(b"\r\n\r\n") {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", seen.len())?;
                stream.write_all(&seen)?;
                seen.clear();
            }
        }
    })
}

/// Everything that comes back when these pieces are sent, each in a segment of its own.
fn exchange(address: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut client = TcpClient::connect(address);
    client.stream.set_nodelay(true).expect("an option of every socket");
    for piece in pieces {
        client.send(piece);
    }
    client.rest_text()
}

fn expecting(settings: &[&str], backend: &TcpBackend) -> Proxy {
    let builder = Proxy::builder().workers(1).listener_setting("expect_proxy = true").cluster(
        "a",
        "a.test",
        &[backend.address()],
    );
    settings.iter().fold(builder, |builder, line| builder.listener_setting(line)).start()
}

fn await_metric(command: &mut CommandClient, name: &str, value: i64) {
    await_true(&format!("{name} is {value}"), || command.metric(name) == value);
}

#[test]
fn the_client_is_whom_the_header_names() {
    let backend = mirror();
    let proxy = expecting(&[], &backend);
    let v2 = v2();
    let (start, end) = v2.split_at(13);
    let together = [V1, GET].concat();
    for pieces in
        [&[V1, GET][..], &[&together], &[&v2, GET], &[start, end, GET], &[b"PRO", b"XY", &V1[5..], GET]]
    {
        let answer = exchange(proxy.address(), pieces);
        assert!(answer.contains("X-Forwarded-For: 192.0.2.7\r\n"), "{answer}");
        assert!(!answer.contains("PROXY"), "{answer}");
    }
    // A health check of the proxy in front, and one that does not know its client.
    for header in [b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".as_slice(), b"PROXY UNKNOWN\r\n"] {
        let answer = exchange(proxy.address(), &[header, GET]);
        assert!(answer.contains("X-Forwarded-For: 127.0.0.1\r\n"), "{answer}");
    }
    await_metric(&mut proxy.command(), "protocol.proxy.expect", 0);
    assert_eq!(proxy.command().metric("proxy_protocol.errors"), 0);
}

#[test]
fn curl_and_haproxy_in_front() {
    let backend = mirror();
    let proxy = expecting(&[], &backend);
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "10", "--haproxy-protocol", "-H", "Host: a.test"])
        .arg(format!("http://{}/", proxy.address()))
        .output()
        .expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("X-Forwarded-For: 127.0.0.1"), "{text}");
    for sends in ["send-proxy", "send-proxy-v2"] {
        let Some(haproxy) = Haproxy::start_with(proxy.address(), "", sends) else { return };
        let answer = exchange(haproxy.address(), &[GET]);
        assert!(answer.starts_with("HTTP/1.1 200"), "{sends}: {answer}");
    }
    assert_eq!(proxy.command().metric("proxy_protocol.errors"), 0);
}

#[test]
fn whatever_is_no_header_is_closed_and_counted() {
    let backend = mirror();
    let proxy = expecting(&["request_timeout = 1"], &backend);
    let mut command = proxy.command();
    let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
    let huge = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".as_slice();
    for (count, garbage) in (1..).zip([GET, b"PROXY TCP9 a b c d\r\n", &long, huge]) {
        // What was sent and not read makes it a reset: there may be nothing to read but that.
        let client = TcpClient::connect(proxy.address());
        (&client.stream).write_all(garbage).expect("nobody has closed");
        let mut heard = Vec::new();
        let _end = (&client.stream).read_to_end(&mut heard);
        assert_eq!(heard, b"", "{garbage:?}");
        await_metric(&mut command, "proxy_protocol.errors", count);
    }
    // One that ends within its header.
    let client = TcpClient::connect(proxy.address());
    (&client.stream).write_all(&V1[..20]).expect("nobody has closed");
    client.stream.shutdown(Shutdown::Write).expect("it stands");
    await_metric(&mut command, "proxy_protocol.errors", 5);
    // One that says nothing at all is nobody's fault.
    drop(TcpClient::connect(proxy.address()));
    // One that takes its time.
    let mut late = TcpClient::connect(proxy.address());
    late.send(&V1[..20]);
    await_metric(&mut command, "proxy_protocol.errors", 6);
    await_metric(&mut command, "protocol.proxy.expect", 0);
    await_metric(&mut command, "client.connections", 0);
    let mut heard = Vec::new();
    let _reset = late.stream.read_to_end(&mut heard);
    assert_eq!(heard, b"");
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn only_those_that_may_speak_for_others_are_asked_and_that_can_be_changed() {
    let backend = mirror();
    let proxy = expecting(&["expect_proxy_from = [\"192.0.2.0/24\"]"], &backend);
    let address = proxy.address();
    let answer = exchange(address, &[GET]);
    assert!(answer.contains("X-Forwarded-For: 127.0.0.1"), "{answer}");
    assert!(exchange(address, &[V1, GET]).starts_with("HTTP/1.1 400"), "a header of somebody else");
    let text = address.to_string();
    proxy.cli().ok(&["listener", "http", "update", "-a", &text, "--expect-proxy-from", "127.0.0.0/8"]);
    let answer = exchange(address, &[V1, GET]);
    assert!(answer.contains("X-Forwarded-For: 192.0.2.7"), "{answer}");
    proxy.cli().ok(&["listener", "http", "update", "-a", &text, "--no-expect-proxy"]);
    let answer = exchange(address, &[GET]);
    assert!(answer.contains("X-Forwarded-For: 127.0.0.1"), "{answer}");
}

#[test]
fn each_connection_to_an_http_backend_is_one_clients() {
    let backend = mirror();
    for version in [1, 2] {
        let builder = Proxy::builder().workers(1);
        let settings = format!("send_proxy = true\nsend_proxy_version = {version}");
        let frontend = ["hostname = \"a.test\", path = \"/\""];
        let proxy = builder.cluster_with("a", &settings, &frontend, &[backend.address()]).start();
        let before = backend.accepted();
        for _ in 0..2 {
            let mut client = TcpClient::connect(proxy.address());
            client.send(GET);
            let ours = client.stream.local_addr().expect("connected");
            let answer = client.rest();
            let (theirs, text) = (proxy.address(), String::from_utf8_lossy(&answer));
            if version == 1 {
                let (ip, from, to) = (theirs.ip(), ours.port(), theirs.port());
                let line = format!("\r\n\r\nPROXY TCP4 127.0.0.1 {ip} {from} {to}\r\nGET");
                assert!(text.contains(&line), "{text}");
            } else {
                assert!(text.contains("\0\r\nQUIT\n"), "{text}");
            }
        }
        assert_eq!(backend.accepted(), before + 2);
        assert_eq!(proxy.command().metric("protocol.proxy.send"), 2);
        assert_eq!(proxy.command().metric("backend.pool.size"), 0);
    }
}

#[test]
fn haproxy_behind_us_reads_what_we_write() {
    let backend = mirror();
    for version in [1, 2] {
        let Some(haproxy) = Haproxy::start_with(backend.address(), "accept-proxy", "") else { return };
        let settings = format!("send_proxy = true\nsend_proxy_version = {version}");
        let frontend = ["hostname = \"a.test\", path = \"/\""];
        let proxy =
            Proxy::builder().workers(1).cluster_with("a", &settings, &frontend, &[haproxy.address()]).start();
        let answer = exchange(proxy.address(), &[GET]);
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("PROXY"), "{answer}");
    }
}

/// A TCP listener that leads to this backend.
fn tcp_site(
    listener: impl FnOnce(&mut TcpListenerConfig),
    version: u32,
    backend: SocketAddr,
) -> (Proxy, SocketAddr) {
    let proxy = Proxy::builder().workers(1).without_listener().start();
    let mut command = proxy.command();
    let address = free_address();
    let mut config = tcp_listener(address);
    listener(&mut config);
    command.ok(RequestType::AddTcpListener(config));
    command.ok(RequestType::AddCluster(Cluster {
        cluster_id: "a".into(),
        proxy_protocol: Some(ProxyProtocolConfig::SendHeader.into()),
        send_proxy_version: Some(version),
        ..Default::default()
    }));
    command.ok(RequestType::AddTcpFrontend(tcp_frontend("a", address)));
    command.ok(requests::add_backend("a", "b", backend));
    command.ok(activate_tcp_listener(address));
    (proxy, address)
}

#[test]
fn tcp_backends_are_told_of_the_client() {
    let backend = TcpBackend::echo("");
    let (proxy, address) = tcp_site(|_| {}, 1, backend.address());
    let mut client = TcpClient::connect(address);
    let port = client.stream.local_addr().expect("connected").port();
    // Before the client has said anything.
    client.hears(&format!("PROXY TCP4 127.0.0.1 {} {port} {}\r\n", address.ip(), address.port()));
    client.says("hello");
    assert_eq!(proxy.command().metric("protocol.proxy.send"), 1);
}

#[test]
fn what_a_header_tells_is_passed_on() {
    let backend = TcpBackend::echo("");
    let (_proxy, address) = tcp_site(|it| it.expect_proxy = true, 2, backend.address());
    let mut client = TcpClient::connect(address);
    client.send([&v2()[..], b"hello"].concat());
    client.finish();
    assert_eq!(client.rest(), [&v2()[..], b"hello", b"over"].concat());
}
