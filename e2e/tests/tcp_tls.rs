//! TLS on TCP listeners: passed on by the name in its first message, or ended here.

#![expect(clippy::disallowed_methods, reason = "the passing of time is what is tested")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{BackendTls, Cluster, HttpsListenerConfig, TcpListenerConfig};
use kakehi_e2e::address::free_address;
use kakehi_e2e::content::SeededContent;
use kakehi_e2e::deadline::{PATIENCE, await_true};
use kakehi_e2e::nginx::Nginx;
use kakehi_e2e::tcp::{
    TcpBackend, TcpClient, activate_tcp_listener, sni_frontend, tcp_frontend, tcp_listener,
};
use kakehi_e2e::tls::{Authority, Issued, TlsBackend, TlsClient};
use kakehi_e2e::{CommandClient, Proxy, requests};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// A proxy with a TCP listener and nothing behind it yet.
struct Site {
    proxy: Proxy,
    command: CommandClient,
    address: SocketAddr,
    authority: Authority,
}

fn site(change: impl FnOnce(&mut TcpListenerConfig)) -> Site {
    let proxy = Proxy::builder().workers(1).without_listener().start();
    let mut command = proxy.command();
    let address = free_address();
    let mut listener = tcp_listener(address);
    change(&mut listener);
    command.ok(RequestType::AddTcpListener(listener));
    command.ok(activate_tcp_listener(address));
    Site { proxy, command, address, authority: Authority::default() }
}

/// A listener at which TLS ends.
fn ending(alpn: &[&str]) -> impl FnOnce(&mut TcpListenerConfig) {
    let alpn_protocols = alpn.iter().map(|&name| name.to_owned()).collect();
    move |listener| {
        let address = listener.address;
        listener.tls = Some(HttpsListenerConfig {
            address,
            alpn_protocols,
            send_tls13_tickets: 2,
            ..Default::default()
        });
    }
}

impl Site {
    /// A cluster with one backend, for those who ask for this name and one of these protocols.
    fn route(&mut self, cluster: &str, name: &str, alpn: &[&str], backend: SocketAddr) {
        self.command.ok(requests::add_cluster(cluster));
        self.command.ok(requests::add_backend(cluster, "b", backend));
        self.command.ok(RequestType::AddTcpFrontend(sni_frontend(cluster, self.address, name, alpn)));
    }

    /// What the backend says that a client gets to, and the certificate that it is shown.
    fn ask(&self, name: &str, alpn: &[&str]) -> std::io::Result<(String, Vec<u8>)> {
        let mut client = TlsClient::connect(&self.config(alpn), self.address, name)?;
        let answer = client.get(name, "/")?.text();
        Ok((answer, client.served().to_vec()))
    }

    fn config(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut config = Arc::unwrap_or_clone(self.authority.client().config());
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn rejected(&mut self, reason: &str) -> i64 {
        self.command.metric(&format!("tcp.sni_preread.rejected.{reason}"))
    }

    fn await_rejected(&mut self, reason: &str, count: i64) {
        await_true(reason, || self.rejected(reason) == count);
        await_true("none is open", || self.command.metric("protocol.tcp") == 0);
        assert_eq!(self.command.metric("tcp.sni_preread.active"), 0);
    }
}

/// The first message of a client, and the client.
fn hello(config: Arc<ClientConfig>, name: &str) -> (ClientConnection, Vec<u8>) {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(config, name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("memory takes all");
    (client, bytes)
}

/// The message of a record, in records of so many bytes.
fn in_records(record: &[u8], size: usize) -> Vec<u8> {
    let contents = record[5..].chunks(size);
    contents
        .flat_map(|content| [&[22, 3, 1, 0, u8::try_from(content.len()).expect("short")], content].concat())
        .collect()
}

#[test]
fn the_name_and_the_protocol_lead_to_the_backend_and_its_certificate() {
    let mut site = site(|_| {});
    let names = ["a.example.test", "*.example.test", "a.example.test", "other.test"];
    let issued: Vec<Issued> = names.iter().map(|name| site.authority.issue(&[name])).collect();
    let backends: Vec<TlsBackend> = ["exact", "wildcard", "protocol", "other"]
        .iter()
        .zip(&issued)
        .map(|(name, issued)| TlsBackend::start(name, issued, None))
        .collect();
    site.route("exact", names[0], &[], backends[0].address());
    site.route("wildcard", names[1], &[], backends[1].address());
    site.route("protocol", names[2], &["x-special", "x-other"], backends[2].address());
    site.route("other", names[3], &["http/1.1"], backends[3].address());
    for (name, alpn, expected) in [
        ("a.example.test", &[][..], 0),
        ("A.EXAMPLE.test", &["http/1.1"][..], 0),
        ("b.example.test", &["http/1.1"], 1),
        ("a.example.test", &["unheard-of", "x-other", "http/1.1"], 2),
        ("other.test", &["http/1.1"], 3),
    ] {
        let (answer, served) =
            site.ask(name, alpn).unwrap_or_else(|error| panic!("{name} {alpn:?}: {error}"));
        let backend = ["exact", "wildcard", "protocol", "other"][expected];
        assert!(answer.starts_with(&format!("{backend}, asked for ")), "{name} {alpn:?}: {answer}");
        assert_eq!(served, &issued[expected].der[..], "{name} {alpn:?}");
    }
    assert_eq!(site.command.metric("tcp.sni_preread.routed"), 5);
    assert_eq!(site.command.metric("tcp.requests"), 5);
    // Nothing was decrypted.
    assert_eq!(site.command.metric("tls.handshakes.done"), 0);

    let refusal =
        |site: &Site, name: &str, alpn: &[&str]| site.ask(name, alpn).expect_err("no way").to_string();
    let text = refusal(&site, "b.other.test", &[]);
    assert!(text.contains("UnrecognisedName"), "{text}");
    let text = refusal(&site, "other.test", &["h2"]);
    assert!(text.contains("NoApplicationProtocol"), "{text}");
    site.await_rejected("sni_unmatched", 1);
    site.await_rejected("alpn_unmatched", 1);

    // A change is for the next connection.
    let mut before = TlsClient::connect(&site.config(&[]), site.address, "b.example.test").expect("served");
    site.command.ok(RequestType::RemoveTcpFrontend(sni_frontend("wildcard", site.address, names[1], &[])));
    assert!(site.ask("b.example.test", &[]).is_err());
    assert!(before.get("b.example.test", "/").expect("an answer").text().starts_with("wildcard"));
    drop(before);
    site.proxy.stop();
}

#[test]
fn a_hello_may_come_in_any_pieces() {
    let mut site = site(|_| {});
    let issued = site.authority.issue(&["a.test"]);
    let backend = TlsBackend::start("a", &issued, None);
    site.route("a", "a.test", &[], backend.address());
    for size in [1, 7, 100] {
        for pieces in [1, 50] {
            let (client, bytes) = hello(site.config(&[]), "a.test");
            let bytes = in_records(&bytes, size);
            let mut socket = TcpClient::connect(site.address).stream;
            for piece in bytes.chunks(pieces) {
                socket.write_all(piece).expect("sent");
            }
            let mut stream = StreamOwned::new(client, socket);
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("the handshake is done");
            let mut start = [0; 15];
            stream.read_exact(&mut start).expect("an answer");
            assert_eq!(&start, b"HTTP/1.1 200 OK", "records of {size}, pieces of {pieces}");
        }
    }
    assert_eq!(site.command.metric("tcp.sni_preread.routed"), 6);
    site.proxy.stop();
}

#[test]
fn what_has_no_way_is_closed_and_counted() {
    let mut site = site(|listener| listener.sni_preread_timeout = Some(1));
    let issued = site.authority.issue(&["a.test"]);
    let backend = TlsBackend::start("a", &issued, None);
    site.route("a", "a.test", &[], backend.address());

    let mut client = TcpClient::connect(site.address);
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.rest(), b"");
    site.await_rejected("not_tls", 1);

    // An address is no name: there is none.
    let error = site.ask("127.0.0.1", &[]).expect_err("no name").to_string();
    assert!(error.contains("MissingExtension"), "{error}");
    site.await_rejected("no_sni", 1);

    let mut client = TcpClient::connect(site.address);
    client.send([22, 3, 1, 0, 0]);
    assert_eq!(client.rest(), [21, 3, 1, 0, 2, 2, 50]);
    site.await_rejected("malformed_record", 1);

    let mut client = TcpClient::connect(site.address);
    client.send([22, 3, 1, 0, 4, 2, 0, 0, 0]);
    assert_eq!(client.rest(), [21, 3, 1, 0, 2, 2, 50]);
    site.await_rejected("malformed_handshake", 1);

    // Slow: the time runs from the accept, whatever comes.
    let started = Instant::now();
    let (_, bytes) = hello(site.config(&[]), "a.test");
    let mut client = TcpClient::connect(site.address);
    client.send(&bytes[..40]);
    assert_eq!(client.rest(), [21, 3, 1, 0, 2, 2, 80]);
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    site.await_rejected("timeout", 1);
    assert!(site.command.metric("tcp.sni_preread.duration") >= 900);

    let mut client = TcpClient::connect(site.address);
    client.send(&bytes[..40]);
    client.finish();
    assert_eq!(client.rest(), b"");
    site.await_rejected("front_closed", 1);
    assert_eq!(backend.accepted(), 0);
    site.proxy.stop();
}

#[test]
fn a_hello_has_a_limit() {
    let mut site = site(|listener| listener.sni_preread_max_bytes = Some(100));
    let issued = site.authority.issue(&["a.test"]);
    let backend = TlsBackend::start("a", &issued, None);
    site.route("a", "a.test", &[], backend.address());
    let (_, bytes) = hello(site.config(&[]), "a.test");
    let mut client = TcpClient::connect(site.address);
    client.send(&bytes);
    assert_eq!(client.rest(), [21, 3, 1, 0, 2, 2, 22]);
    site.await_rejected("too_large", 1);
    site.proxy.stop();
}

#[test]
fn without_a_backend_a_tls_client_is_told() {
    let mut site = site(|_| {});
    site.route("a", "a.test", &[], free_address());
    let error = site.ask("a.test", &[]).expect_err("nobody is there").to_string();
    assert!(error.contains("InternalError"), "{error}");
    assert_eq!(site.command.metric("tcp.failed_backend_matching"), 1);
    site.proxy.stop();
}

#[test]
fn openssl_is_passed_on() {
    let mut site = site(|_| {});
    let issued = site.authority.issue(&["a.test"]);
    let backend = TlsBackend::start("a", &issued, None);
    site.route("a", "a.test", &[], backend.address());
    for version in ["-tls1_2", "-tls1_3"] {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &site.address.to_string(), "-servername", "A.test", version])
            .stdin(Stdio::null())
            .output();
        let Ok(output) = output else { return kakehi_e2e::skipped("openssl is not installed") };
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("subject=") && text.contains("CN = a.test"), "{version}: {text}");
    }
    assert_eq!(site.command.metric("tcp.sni_preread.routed"), 2);
    site.proxy.stop();
}

#[test]
fn nginx_and_curl_speak_http_2_through_it() {
    let mut site = site(|_| {});
    let issued = site.authority.issue(&["www.example.test"]);
    let Some(nginx) = Nginx::start_tls("real nginx", &issued) else { return };
    site.route("a", "*.example.test", &[], nginx.address());
    let directory = site.proxy.directory();
    std::fs::write(directory.join("ca.pem"), &site.authority.pem).expect("a file");
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "15", "--write-out", " %{http_version}"])
        .arg("--cacert")
        .arg(directory.join("ca.pem"))
        .arg("--resolve")
        .arg(format!("www.example.test:{}:{}", site.address.port(), site.address.ip()))
        .arg(format!("https://www.example.test:{}/", site.address.port()))
        .output();
    let Ok(output) = output else { return kakehi_e2e::skipped("curl is not installed") };
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "real nginx 2", "{}", String::from_utf8_lossy(&output.stderr));
    site.proxy.stop();
}

/// A client that speaks no HTTP.
fn connect(
    site: &Site,
    config: &Arc<ClientConfig>,
    name: &str,
) -> StreamOwned<ClientConnection, std::net::TcpStream> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(config.clone(), name).expect("a client");
    StreamOwned::new(connection, TcpClient::connect(site.address).stream)
}

#[test]
fn tls_ends_here_and_bytes_go_on() {
    const BYTES: usize = 4 << 20;
    let mut site = site(ending(&[]));
    let backend = TcpBackend::echo("hello");
    site.command.ok(requests::add_cluster("a"));
    site.command.ok(requests::add_backend("a", "b", backend.address()));
    site.command.ok(RequestType::AddTcpFrontend(tcp_frontend("a", site.address)));
    let first = site.authority.issue(&["a.test"]);
    site.command.ok(first.add(site.address));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = site.authority.client().version(version).config();
        let mut client = connect(&site, &config, "a.test");
        let mut hello = [0; 5];
        client.read_exact(&mut hello).expect("it speaks first");
        assert_eq!(&hello, b"hello");
        let content = SeededContent::bytes(3, BYTES);
        // What comes back has to be read meanwhile.
        for chunk in content.chunks(100_000) {
            client.write_all(chunk).expect("taken");
            let mut back = vec![0; chunk.len()];
            client.read_exact(&mut back).expect("it comes back");
            assert!(back == chunk, "changed on the way");
        }
        // Our end, in TLS alone: the backend hears it, and its last word comes back with its end.
        client.conn.send_close_notify();
        client.conn.complete_io(&mut client.sock).expect("sent");
        let mut rest = String::new();
        client.read_to_string(&mut rest).expect("the end is announced");
        assert_eq!(rest, "over");
    }
    await_true("none is open", || site.command.metric("protocol.tcp") == 0);
    assert_eq!(site.command.metric("tls.handshakes.done"), 2);
    assert_eq!(site.command.metric("listener.accepted.tcp"), 2);

    // Another certificate, for the next connection.
    let config = site.authority.client().config();
    let mut before = connect(&site, &config, "a.test");
    before.read_exact(&mut [0; 5]).expect("it speaks first");
    let second = site.authority.issue(&["a.test"]);
    site.command.ok(second.replace(site.address, &first));
    // One that knows nothing of the sessions before.
    let after = site.authority.client().connect(site.address, "a.test").expect("served");
    assert_eq!(after.served(), &second.der[..]);
    before.write_all(b"x").expect("undisturbed");
    before.read_exact(&mut [0; 1]).expect("undisturbed");
    drop((before, after));
    await_true("none holds a record", || site.command.metric("tls.record_buffers") == 0);
    site.proxy.stop();
}

#[test]
fn what_was_agreed_on_leads_to_the_backend() {
    let mut site = site(ending(&["x-one", "x-two"]));
    let (one, two, other) = (TcpBackend::echo("1"), TcpBackend::echo("2"), TcpBackend::echo("3"));
    site.route("one", "a.test", &["x-one"], one.address());
    site.route("two", "a.test", &["x-two"], two.address());
    site.route("other", "*.b.test", &[], other.address());
    let certificate = site.authority.issue(&["a.test", "*.b.test", "c.test"]);
    site.command.ok(certificate.add(site.address));
    let ask = |site: &Site, name: &str, alpn: &[&str]| {
        let mut client = connect(site, &site.config(alpn), name);
        let mut word = String::new();
        let (_, read) = (client.flush(), (&mut client).take(1).read_to_string(&mut word));
        (word, read.is_ok(), client.conn.alpn_protocol().map(<[u8]>::to_vec))
    };
    let said = |word: &str, protocol: Option<&str>| {
        (word.to_owned(), true, protocol.map(|name| name.as_bytes().to_vec()))
    };
    assert_eq!(ask(&site, "a.test", &["x-two"]), said("2", Some("x-two")));
    assert_eq!(ask(&site, "a.test", &["x-two", "x-one"]), said("1", Some("x-one")), "the listener's order");
    assert_eq!(ask(&site, "x.b.test", &["x-one"]), said("3", Some("x-one")));
    assert_eq!(ask(&site, "x.b.test", &[]), said("3", None));
    // Served, and no way on.
    assert_eq!(ask(&site, "a.test", &[]).0, "");
    assert_eq!(ask(&site, "c.test", &["x-one"]).0, "");
    await_true("both are counted", || site.command.metric("tcp.failed_frontend_matching") == 2);
    assert_eq!(site.command.metric("tcp.sni_preread.routed"), 0, "nothing is read ahead");
    site.proxy.stop();
}

#[test]
fn backends_are_spoken_to_over_tls_where_the_cluster_says_so() {
    let mut site = site(|_| {});
    let issued = site.authority.issue(&["backend.test"]);
    let backend = TlsBackend::start("secret", &issued, None);
    let mut tls = BackendTls::default();
    tls.enabled = true;
    tls.server_name = Some("backend.test".into());
    tls.ca_certificates = vec![site.authority.pem.clone()];
    site.command.ok(RequestType::AddCluster(Cluster {
        cluster_id: "a".into(),
        tls: Some(tls),
        ..Default::default()
    }));
    site.command.ok(requests::add_backend("a", "b", backend.address()));
    site.command.ok(RequestType::AddTcpFrontend(tcp_frontend("a", site.address)));
    let mut client = TcpClient::connect(site.address);
    client.send("GET / HTTP/1.1\r\n\r\n");
    client.hears("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nsecret, asked for backend.test");
    assert_eq!(site.command.metric("backend.tls.handshakes"), 1);
    client.stream.shutdown(Shutdown::Write).expect("the connection stands");
    assert_eq!(client.rest(), b"");
    // One that is somebody else is not spoken to.
    let stranger = Authority::new("Others").issue(&["backend.test"]);
    let other = TlsBackend::start("stranger", &stranger, None);
    site.command.ok(requests::remove_backend("a", "b", backend.address()));
    site.command.ok(requests::add_backend("a", "c", other.address()));
    let mut client = TcpClient::connect(site.address);
    client.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    assert_eq!(client.rest(), b"");
    assert!(site.command.metric("backend.tls.failed") >= 1);
    site.proxy.stop();
}
