//! Early data (0-RTT): what may be done before a handshake is over is done once, whoever sends it again, and to
//! whichever worker; the rest waits, and is done like any other request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use kakehi_command::proto::UpdateHttpsListenerConfig;
use kakehi_command::proto::request::RequestType;
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::{PATIENCE, await_true};
use kakehi_e2e::http::{After, Backend, RequestHead};
use kakehi_e2e::tls::{Authority, TlsClient};
use kakehi_e2e::{CommandClient, Proxy, ProxyBuilder, await_replaced, requests, send_signal, skipped};
use nix::sys::signal::Signal;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

const GET: &[u8] = b"GET /early HTTP/1.1\r\nHost: a.test\r\n\r\n";
const POST: &[u8] = b"POST /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody";

struct Site {
    proxy: Proxy,
    command: CommandClient,
    address: SocketAddr,
    authority: Authority,
    backend: Backend,
}

fn site(workers: usize, max_early_data: u32) -> Site {
    site_with(workers, max_early_data, |exchange| {
        exchange.body()?;
        exchange.answer("done").map(|()| After::KeepAlive)
    })
}

fn site_with<S>(workers: usize, max_early_data: u32, script: S) -> Site
where
    S: Fn(&mut kakehi_e2e::http::Exchange) -> Result<After, kakehi_e2e::http::ReadError>
        + Send
        + Sync
        + 'static,
{
    site_of(Proxy::builder().workers(workers), max_early_data, script)
}

fn site_of<S>(proxy: ProxyBuilder, max_early_data: u32, script: S) -> Site
where
    S: Fn(&mut kakehi_e2e::http::Exchange) -> Result<After, kakehi_e2e::http::ReadError>
        + Send
        + Sync
        + 'static,
{
    let proxy = proxy.without_listener().start();
    let mut command = proxy.command();
    let address = free_address();
    let authority = Authority::default();
    let backend = Backend::start(script);
    let mut listener = requests::https_listener(address);
    listener.max_early_data = Some(max_early_data);
    command.ok(RequestType::AddHttpsListener(listener));
    command.ok(requests::activate_https_listener(address));
    command.ok(requests::add_cluster("a"));
    command.ok(requests::add_https_frontend("a", address, "a.test"));
    command.ok(requests::add_backend("a", "b", backend.address()));
    command.ok(authority.issue(&["a.test"]).add(address));
    Site { proxy, command, address, authority, backend }
}

impl Site {
    /// A client that would send early data, with the tickets of a first connection; what the backend saw of that is
    /// forgotten.
    fn client(&self) -> Arc<ClientConfig> {
        let mut config = Arc::unwrap_or_clone(self.authority.client().config());
        config.enable_early_data = true;
        let config = Arc::new(config);
        self.refresh(&config);
        config
    }

    /// More tickets.
    fn refresh(&self, config: &Arc<ClientConfig>) {
        let mut first = TlsClient::connect(config, self.address, "a.test").expect("a handshake");
        assert_eq!(first.get("a.test", "/first").expect("an answer").text(), "done");
        assert_eq!(self.backend.next_request().fields.get("Early-Data"), None);
    }

    fn metric(&mut self, name: &str) -> i64 {
        self.command.metric(name)
    }

    fn next(&self) -> RequestHead {
        self.backend.next_request()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, PATIENCE).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("an option");
    socket.set_nodelay(true).expect("an option");
    socket
}

/// A client whose every word is in the hands of the test.
struct Slow {
    connection: ClientConnection,
    socket: TcpStream,
}

impl Slow {
    fn new(config: &Arc<ClientConfig>, address: SocketAddr, early: &[u8]) -> Self {
        let name = ServerName::try_from("a.test").expect("a name");
        let mut connection = ClientConnection::new(config.clone(), name).expect("a client");
        connection
            .early_data()
            .expect("a ticket for early data")
            .write_all(early)
            .expect("as much as may be");
        Self { connection, socket: connect(address) }
    }

    /// What it has to say now.
    fn words(&mut self) -> Vec<u8> {
        let mut words = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut words).expect("memory");
        }
        words
    }

    fn speak(&mut self) {
        let words = self.words();
        self.socket.write_all(&words).expect("it reads");
    }

    /// Reads, and says nothing to it, until the end of an answer has come.
    fn hear(&mut self) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(b"done") && !heard.ends_with(b"\r\n\r\n") {
            assert_ne!(self.connection.read_tls(&mut self.socket).expect("something comes"), 0, "it goes on");
            self.connection.process_new_packets().expect("sound records");
            let _nothing_more = self.connection.reader().read_to_end(&mut heard);
        }
        String::from_utf8(heard).expect("text")
    }

    fn finish(&mut self) -> bool {
        while self.connection.is_handshaking() {
            self.connection.complete_io(&mut self.socket).expect("a handshake");
        }
        self.speak();
        self.connection.is_early_data_accepted()
    }
}

#[test]
fn a_get_is_answered_before_the_handshake_is_over_and_its_backend_is_told() {
    let mut site = site(1, 4096);
    let config = site.client();
    let mut client = Slow::new(&config, site.address, GET);
    client.speak();
    let answer = client.hear();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("done"), "{answer}");
    let seen = site.next();
    assert_eq!((seen.target.as_str(), seen.fields.all("Early-Data")), ("/early", vec!["1"]));
    assert_eq!(site.metric("tls.early_data.requests"), 1);
    assert_eq!(site.metric("tls.early_data.accepted"), 0, "nobody knows yet whom it was for");
    // The same connection goes on, and is like any other.
    client.speak();
    client.connection.writer().write_all(b"GET /late HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("room");
    client.speak();
    assert!(client.hear().ends_with("done"));
    let seen = site.next();
    assert_eq!((seen.target.as_str(), seen.fields.get("Early-Data")), ("/late", None));
    assert_eq!(site.metric("tls.early_data.accepted"), 1);
    assert_eq!(site.metric("tls.early_data.requests"), 1);
    assert!(client.finish());
    assert_eq!(site.metric("protocol.tls.handshake"), 0);
    site.proxy.stop();
}

#[test]
fn a_post_waits_for_the_end_of_the_handshake() {
    let mut site = site(1, 4096);
    let config = site.client();
    for (sent, request) in [
        ("POST", POST),
        ("GET with a body", b"GET /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody"),
    ] {
        let before = site.metric("tls.early_data.delayed");
        let mut client = Slow::new(&config, site.address, request);
        client.speak();
        await_true("the request is there", || site.command.metric("tls.early_data.delayed") == before + 1);
        assert!(!site.backend.has_request(), "{sent}: it is nobody's yet");
        while client.connection.is_handshaking() {
            client.connection.complete_io(&mut client.socket).expect("a handshake");
        }
        client.speak();
        assert!(client.hear().ends_with("done"));
        let seen = site.next();
        assert_eq!((seen.target.as_str(), seen.fields.get("Early-Data")), ("/early", None), "{sent}");
        assert!(client.connection.is_early_data_accepted());
    }
    assert_eq!(site.metric("tls.early_data.requests"), 0);
    site.proxy.stop();
}

#[test]
fn what_is_no_request_is_told_so_after_the_handshake() {
    let site = site(1, 4096);
    let config = site.client();
    let mut client = Slow::new(&config, site.address, b"NO SUCH THING\r\n");
    client.speak();
    while client.connection.is_handshaking() {
        client.connection.complete_io(&mut client.socket).expect("a handshake");
    }
    client.speak();
    let mut heard = Vec::new();
    while heard.len() < 13 {
        assert_ne!(client.connection.read_tls(&mut client.socket).expect("something comes"), 0, "a word");
        client.connection.process_new_packets().expect("sound records");
        let _nothing_more = client.connection.reader().read_to_end(&mut heard);
    }
    assert!(heard.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&heard));
    site.proxy.stop();
}

#[test]
fn a_post_whose_client_leaves_is_never_done() {
    let mut site = site(1, 4096);
    let config = site.client();
    let mut client = Slow::new(&config, site.address, POST);
    client.speak();
    await_true("the request is there", || site.command.metric("tls.early_data.delayed") == 1);
    drop(client);
    await_true("it is gone", || site.command.metric("protocol.tls.handshake") == 0);
    assert!(!site.backend.has_request());
    // Neither is it when the handshake ends with garbage.
    let mut client = Slow::new(&config, site.address, POST);
    client.speak();
    await_true("the request is there", || site.command.metric("tls.early_data.delayed") == 2);
    client
        .socket
        .write_all(&[23, 3, 3, 0, 40].into_iter().chain([7; 40]).collect::<Vec<u8>>())
        .expect("it reads");
    await_true("it is refused", || site.command.metric("protocol.tls.handshake") == 0);
    assert!(!site.backend.has_request());
    site.proxy.stop();
}

#[test]
fn requests_of_which_a_part_is_late_or_that_follow_others_are_done_in_order() {
    let mut site = site(1, 4096);
    let config = site.client();
    // Two that are safe, one that is not, and one behind it.
    let all = [GET, GET, POST, GET].concat();
    let mut client = Slow::new(&config, site.address, &all);
    client.speak();
    for _ in 0..2 {
        assert_eq!(site.next().fields.get("Early-Data"), Some("1"));
    }
    await_true("the third waits", || site.command.metric("tls.early_data.delayed") == 1);
    assert!(!site.backend.has_request());
    while client.connection.is_handshaking() {
        client.connection.complete_io(&mut client.socket).expect("a handshake");
    }
    client.speak();
    for method in ["POST", "GET"] {
        let seen = site.next();
        assert_eq!((seen.method.as_str(), seen.fields.get("Early-Data")), (method, None));
    }
    // The beginning early, the rest late.
    site.refresh(&config);
    let (head, tail) = GET.split_at(10);
    let mut client = Slow::new(&config, site.address, head);
    client.speak();
    while client.connection.is_handshaking() {
        client.connection.complete_io(&mut client.socket).expect("a handshake");
    }
    client.connection.writer().write_all(tail).expect("room");
    client.speak();
    assert!(client.hear().ends_with("done"));
    assert_eq!(site.next().fields.get("Early-Data"), None);
    site.proxy.stop();
}

#[test]
fn what_is_played_back_is_done_once_over_all_workers() {
    const REPLAYS: usize = 40;
    let mut site = site(2, 4096);
    let config = site.client();
    let mut client = Slow::new(&config, site.address, GET);
    let flight = client.words();
    // All at once, the client's own among them: which comes first is open.
    let replays: Vec<_> = (0..REPLAYS)
        .map(|_| {
            let (flight, address) = (flight.clone(), site.address);
            std::thread::spawn(move || {
                let mut socket = connect(address);
                socket.write_all(&flight).expect("it reads");
                // The server's hello: by then it has taken the early data, or has not.
                let mut hello = [0; 5];
                socket.read_exact(&mut hello).expect("a hello");
                assert_eq!(hello[0], 22, "no alert: a handshake could go on");
                socket
            })
        })
        .collect();
    let sockets: Vec<TcpStream> =
        replays.into_iter().map(|replay| replay.join().expect("answered")).collect();
    assert_eq!(site.metric("tls.early_data.requests"), 1);
    assert_eq!(site.next().target, "/early");
    drop(sockets);
    // And later, one after the other.
    for _ in 0..REPLAYS {
        let mut socket = connect(site.address);
        socket.write_all(&flight).expect("it reads");
        socket.read_exact(&mut [0; 5]).expect("a hello");
    }
    assert_eq!(site.metric("tls.early_data.requests"), 1);
    assert!(!site.backend.has_request());
    let accepted = site.proxy.workers().len();
    assert_eq!(accepted, 2, "nobody died of it");
    site.proxy.stop();
}

#[test]
fn sessions_go_on_with_any_worker_and_after_all_of_them_died() {
    let site = site(2, 4096);
    let config = site.client();
    // The kernel chooses the worker: in all of these it is the same one with a probability of 1 in 2^19.
    for _ in 0..20 {
        let mut client = Slow::new(&config, site.address, GET);
        client.speak();
        assert!(client.hear().ends_with("done"));
        assert_eq!(site.next().fields.get("Early-Data"), Some("1"));
        assert!(client.finish());
        site.refresh(&config);
    }
    for pid in site.proxy.worker_pids() {
        send_signal(pid, Signal::SIGKILL);
        await_replaced(&site.proxy, pid, 2);
    }
    let mut client = Slow::new(&config, site.address, GET);
    client.speak();
    assert!(client.hear().ends_with("done"));
    assert_eq!(site.next().fields.get("Early-Data"), Some("1"));
    assert!(client.finish());
    site.proxy.stop();
}

#[test]
fn a_listener_that_takes_none_answers_after_the_handshake() {
    let mut site = site(1, 4096);
    let config = site.client();
    let mut update =
        UpdateHttpsListenerConfig { address: requests::wire_address(site.address), ..Default::default() };
    update.max_early_data = Some(0);
    site.command.ok(RequestType::UpdateHttpsListener(update));
    let mut client = Slow::new(&config, site.address, GET);
    client.speak();
    while client.connection.is_handshaking() {
        client.connection.complete_io(&mut client.socket).expect("a handshake");
    }
    assert!(!client.connection.is_early_data_accepted());
    assert!(!site.backend.has_request());
    // As clients do (RFC 8446 §4.2.10).
    client.connection.writer().write_all(GET).expect("room");
    client.speak();
    assert!(client.hear().ends_with("done"));
    assert_eq!(site.next().fields.get("Early-Data"), None);
    assert_eq!((site.metric("tls.early_data.rejected"), site.metric("tls.early_data.requests")), (1, 0));
    // New tickets promise nothing any more.
    let name = ServerName::try_from("a.test").expect("a name");
    site.refresh(&config);
    site.refresh(&config);
    let mut last = ClientConnection::new(config, name).expect("a client");
    assert!(last.early_data().is_none());
    site.proxy.stop();
}

#[test]
fn a_backend_may_say_too_early_and_a_client_its_own_mark() {
    let mut site = site_with(1, 4096, |exchange| {
        if exchange.head.fields.get("Early-Data").is_some() {
            return exchange
                .write("HTTP/1.1 425 Too Early\r\nContent-Length: 0\r\n\r\n")
                .map(|()| After::KeepAlive);
        }
        exchange.answer("done").map(|()| After::KeepAlive)
    });
    let config = site.client();
    let mut client = Slow::new(&config, site.address, GET);
    client.speak();
    assert!(client.hear().starts_with("HTTP/1.1 425 "));
    assert!(client.finish());
    // From another proxy before us (RFC 8470 §5.2): it stays, also without early data.
    let mut client = TlsClient::connect(&config, site.address, "a.test").expect("a handshake");
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nEarly-Data: 1\r\n\r\n").expect("sent");
    assert_eq!(client.response().expect("an answer").status, 425);
    assert_eq!(site.metric("http.status.4xx"), 2);
    site.proxy.stop();
}

#[test]
fn an_answer_that_ends_its_connection_is_whole_and_ends_well() {
    let site = site(1, 4096);
    let config = site.client();
    let mut client =
        Slow::new(&config, site.address, b"GET /early HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    client.speak();
    assert!(client.hear().ends_with("done"));
    while !client.connection.process_new_packets().expect("sound").peer_has_closed() {
        assert_ne!(
            client.connection.read_tls(&mut client.socket).expect("it comes"),
            0,
            "not without a word"
        );
    }
    site.proxy.stop();
}

#[test]
fn long_answers_go_on_over_the_end_of_the_handshake() {
    const LENGTH: usize = 3 << 20;
    let site = site_with(1, 4096, |exchange| {
        if exchange.head.target == "/first" {
            return exchange.answer("done").map(|()| After::KeepAlive);
        }
        let body = "x".repeat(LENGTH - 4);
        exchange.answer(&format!("{body}done")).map(|()| After::KeepAlive)
    });
    let config = site.client();
    let mut client = Slow::new(&config, site.address, GET);
    client.connection.set_buffer_limit(None);
    client.speak();
    let mut heard = Vec::new();
    while !heard.ends_with(b"done") {
        assert_ne!(client.connection.read_tls(&mut client.socket).expect("something comes"), 0, "it goes on");
        client.connection.process_new_packets().expect("sound records");
        let _nothing_more = client.connection.reader().read_to_end(&mut heard);
        // In the midst of it.
        if heard.len() > LENGTH / 3 {
            client.speak();
        }
    }
    assert!(heard.len() > LENGTH);
    assert_eq!(site.next().fields.get("Early-Data"), Some("1"));
    site.proxy.stop();
}

#[test]
fn what_does_not_fit_into_a_buffer_comes_after_what_does() {
    let proxy = Proxy::builder().workers(1).setting("buffer_size = 4096");
    let mut site = site_of(proxy, 16384, |exchange| {
        let (body, _) = exchange.body()?;
        let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
        exchange.answer(&format!("{} bytes, {sum} in all, done", body.len())).map(|()| After::KeepAlive)
    });
    let mut config = Arc::unwrap_or_clone(site.authority.client().config());
    config.enable_early_data = true;
    let config = Arc::new(config);
    let mut first = TlsClient::connect(&config, site.address, "a.test").expect("a handshake");
    assert!(first.get("a.test", "/first").expect("an answer").text().ends_with("done"));
    site.next();
    // Nothing of it can be done, and its end is behind what can't be read.
    let body = vec![3; 15_000];
    let mut post = format!("POST /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len());
    post.push_str(std::str::from_utf8(&body).expect("ASCII"));
    let mut client = Slow::new(&config, site.address, post.as_bytes());
    client.speak();
    await_true("the request is there", || site.command.metric("tls.early_data.delayed") == 1);
    while client.connection.is_handshaking() {
        client.connection.complete_io(&mut client.socket).expect("a handshake");
    }
    client.speak();
    assert!(client.hear().ends_with("15000 bytes, 45000 in all, done"));
    assert_eq!(site.next().fields.get("Early-Data"), None);
    // Many small ones, all of which can be done.
    let count = 16384 / GET.len();
    let mut client = Slow::new(&config, site.address, &GET.repeat(count));
    client.speak();
    for _ in 0..count {
        assert_eq!(site.next().fields.get("Early-Data"), Some("1"));
    }
    assert!(client.finish());
    assert_eq!(site.metric("tls.early_data.requests"), i64::try_from(count).expect("few"));
    site.proxy.stop();
}

#[test]
fn the_sessions_that_are_kept_have_a_bound() {
    let proxy = Proxy::builder().workers(1).setting("max_early_data_sessions = 8");
    let mut site = site_of(proxy, 4096, |exchange| exchange.answer("done").map(|()| After::KeepAlive));
    // Four tickets each; the first two handshakes fill it.
    let first = site.client();
    let second = site.client();
    assert_eq!((site.metric("tls.sessions.stored"), site.metric("tls.sessions.evicted")), (8, 0));
    site.client();
    assert_eq!((site.metric("tls.sessions.stored"), site.metric("tls.sessions.evicted")), (12, 4));
    // Whose is gone shakes hands as if for the first time. Each stays: from one that goes with an answer unread a reset
    // comes, and with it perhaps nobody reads its Finished.
    let clients: Vec<Slow> = [&first, &first, &first, &first, &second, &second, &second, &second]
        .into_iter()
        .map(|config| {
            let mut client = Slow::new(config, site.address, GET);
            client.speak();
            client.finish();
            client
        })
        .collect();
    // Each is known when the client's Finished has come, for which no client waits.
    await_true("all are known", || {
        site.metric("tls.early_data.accepted") + site.metric("tls.early_data.rejected") == 8
    });
    drop(clients);
    site.proxy.stop();
}

/// What `openssl s_client` prints; none if it is not installed.
fn openssl(arguments: &[&str], input: &str, enough: &str) -> Option<String> {
    let spawned = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        skipped("openssl is not installed");
        return None;
    };
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it listens");
    let mut stdout = child.stdout.take().expect("piped");
    let mut heard = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&heard).contains(enough) {
        match stdout.read(&mut piece).expect("a pipe") {
            0 => break,
            count => heard.extend(&piece[..count]),
        }
    }
    drop(stdin);
    let rest = child.wait_with_output().expect("it ends");
    stdout.read_to_end(&mut heard).expect("a pipe");
    Some(format!("{}{}", String::from_utf8_lossy(&heard), String::from_utf8_lossy(&rest.stderr)))
}

#[test]
fn openssl_sends_early_data_that_is_taken_once() {
    let mut site = site(2, 16384);
    let file = |name: &str| -> PathBuf { site.proxy.directory().join(name) };
    let (authority, session, early) = (file("authority.pem"), file("session.pem"), file("early.txt"));
    std::fs::write(&authority, &site.authority.pem).expect("a file");
    let [authority, session, early_path] =
        [&authority, &session, &early].map(|path| path.display().to_string());
    let connect = site.address.to_string();
    let base = ["s_client", "-connect", &connect, "-servername", "a.test", "-CAfile", &authority, "-tls1_3"];
    let last = "GET /last HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let mut arguments = base.to_vec();
    arguments.extend(["-alpn", "http/1.1", "-ign_eof", "-sess_out", &session]);
    let Some(output) = openssl(&arguments, last, "done") else { return };
    assert!(output.contains("done") && output.contains("Max Early Data: 16384"), "{output}");
    assert_eq!(site.next().fields.get("Early-Data"), None);
    let mut arguments = base.to_vec();
    arguments.extend(["-alpn", "http/1.1", "-ign_eof", "-sess_in", &session, "-early_data", &early_path]);
    for (request, marked) in [(GET, true), (POST, false)] {
        std::fs::write(&early, request).expect("a file");
        let mut once = base.to_vec();
        once.extend(["-alpn", "http/1.1", "-ign_eof", "-sess_out", &session]);
        openssl(&once, last, "done").expect("it is installed");
        site.next();
        let output = openssl(&arguments, last, "Early data was").expect("it is installed");
        assert!(output.contains("Early data was accepted"), "{output}");
        let seen = site.next();
        assert_eq!((seen.target.as_str(), seen.fields.get("Early-Data").is_some()), ("/early", marked));
        assert_eq!(site.next().target, "/last");
        // The same ticket again.
        let output = openssl(&arguments, last, "Early data was").expect("it is installed");
        assert!(output.contains("Early data was rejected") && output.contains("done"), "{output}");
        assert_eq!(site.next().target, "/last");
    }
    assert!(!site.backend.has_request());
    assert_eq!(site.metric("tls.early_data.rejected"), 2);
    site.proxy.stop();
}
