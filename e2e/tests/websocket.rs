//! Connections that change their protocol: a handshake through the proxy, then bytes both ways that it does
//! not look at, for as long as either side has something to say.

#![expect(clippy::disallowed_methods, reason = "the passing of time is what is tested")]

use std::io::Write;
use std::time::{Duration, Instant};

use kakehi_e2e::content::{Hasher, SeededContent};
use kakehi_e2e::deadline::{await_true, run_for};
use kakehi_e2e::http::{After, Backend, Client, Exchange, ReadError, get};
use kakehi_e2e::{Proxy, process, requests};

/// The key and the answer to it of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const HANDSHAKE: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\
                         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

fn switching(rest: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: chat\r\n\r\n{rest}"
    )
}

/// A backend that accepts every upgrade and goes on with `then`; other requests it answers by "plain".
fn upgrading<T>(then: T) -> Backend
where
    T: Fn(&mut Exchange) -> Result<(), ReadError> + Send + Sync + 'static,
{
    Backend::start(move |exchange| {
        if exchange.head.fields.get("Upgrade") == Some("websocket") {
            exchange.write(switching(""))?;
            then(exchange)?;
            return Ok(After::Close);
        }
        exchange.body_digest()?;
        exchange.answer("plain")?;
        Ok(After::KeepAlive)
    })
}

/// Sends back whatever comes.
fn echo() -> Backend {
    upgrading(|exchange| {
        loop {
            let bytes = exchange.read_some()?;
            if bytes.is_empty() {
                return exchange.write("over");
            }
            exchange.write(bytes)?;
        }
    })
}

fn proxy_for(backend: &Backend) -> Proxy {
    Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start()
}

/// A tunnel that stands.
fn open(proxy: &Proxy) -> Client {
    let mut client = Client::connect(proxy.address());
    client.send(HANDSHAKE);
    let (head, _) = client.try_head("GET").expect("an answer to the handshake");
    assert_eq!(head.status, 101);
    client
}

fn says(client: &mut Client, text: &str) {
    client.send(text);
    let back = client.read_raw(text.len());
    assert_eq!(String::from_utf8_lossy(&back), text);
}

/// Reads to the end; gives what came.
fn rest(client: &mut Client) -> String {
    let mut all = Vec::new();
    loop {
        let bytes = client.read_some().expect("the other end's last bytes, and its end");
        if bytes.is_empty() {
            return String::from_utf8_lossy(&all).into_owned();
        }
        all.extend_from_slice(&bytes);
    }
}

#[test]
fn a_handshake_passes_and_bytes_follow() {
    let backend = echo();
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    client.send(HANDSHAKE);
    let (head, _) = client.try_head("GET").expect("an answer");
    assert_eq!((head.status, head.version.as_str()), (101, "HTTP/1.1"));
    assert_eq!(head.fields.get("Upgrade"), Some("websocket"));
    assert!(head.fields.has_token("Connection", "upgrade"), "{head:?}");
    assert_eq!(head.fields.get("Sec-WebSocket-Accept"), Some(ACCEPT));
    assert_eq!(head.fields.get("Sec-WebSocket-Protocol"), Some("chat"));
    assert_eq!(head.fields.get("Content-Length"), None);
    let seen = backend.next_request();
    assert_eq!(seen.target, "/chat?room=1");
    assert_eq!(seen.fields.get("Upgrade"), Some("websocket"));
    assert!(seen.fields.has_token("Connection", "upgrade"), "{seen:?}");
    assert_eq!(seen.fields.get("Sec-WebSocket-Key"), Some(KEY));
    assert_eq!(seen.fields.get("Sec-WebSocket-Version"), Some("13"));
    for text in ["hello", "\0\u{1}binary\u{7f}", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "x"] {
        says(&mut client, text);
    }
    let mut command = proxy.command();
    assert_eq!(command.metric("websocket.active_requests"), 1);
    assert_eq!(command.metric("http.upgrades"), 1);
    drop(client);
    await_true("the tunnel is over", || command.metric("websocket.active_requests") == 0);
    await_true("the backend is told", || backend.open() == 0);
    assert!(!backend.has_request(), "what was said was not understood");
}

#[test]
fn what_comes_with_the_handshake_is_not_lost() {
    // Both sides speak before they can know that the other is there.
    let backend = Backend::start(|exchange| {
        exchange.write(switching("welcome"))?;
        let mut heard = Vec::new();
        while heard.len() < 5 {
            heard.extend(exchange.read_some()?);
        }
        exchange.write(heard)?;
        Ok(After::Close)
    });
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    client.send(format!("{HANDSHAKE}early"));
    assert_eq!(client.try_head("GET").expect("an answer").0.status, 101);
    assert_eq!(rest(&mut client), "welcomeearly");
}

#[test]
fn each_direction_ends_by_itself() {
    // The client ends first: what the backend still has to say arrives.
    let backend = echo();
    let proxy = proxy_for(&backend);
    let mut client = open(&proxy);
    says(&mut client, "hello");
    client.send("last words");
    client.finish_sending();
    assert_eq!(rest(&mut client), "last wordsover");
    // The backend ends first: what the client still has to say arrives.
    let (told, heard) = std::sync::mpsc::channel();
    let told = std::sync::Arc::new(told);
    let backend = upgrading(move |exchange| {
        exchange.write("bye")?;
        exchange.stream().shutdown(std::net::Shutdown::Write).map_err(ReadError::Io)?;
        let mut all = Vec::new();
        loop {
            let bytes = exchange.read_some()?;
            if bytes.is_empty() {
                told.send(String::from_utf8_lossy(&all).into_owned()).expect("the test listens");
                return Ok(());
            }
            all.extend(bytes);
        }
    });
    let proxy = proxy_for(&backend);
    let mut client = open(&proxy);
    assert_eq!(rest(&mut client), "bye");
    client.send("and another ");
    client.send("thing");
    client.finish_sending();
    let said = heard.recv_timeout(kakehi_e2e::deadline::PATIENCE).expect("the backend reads on");
    assert_eq!(said, "and another thing");
    await_true("the tunnel is over", || proxy.command().metric("websocket.active_requests") == 0);
}

#[test]
fn a_broken_side_ends_the_other() {
    let backend = upgrading(|exchange| {
        exchange.read_some()?;
        Ok(())
    });
    let proxy = proxy_for(&backend);
    let mut client = open(&proxy);
    client.send("go");
    client.expect_close();
}

#[test]
fn a_hundred_mebibytes_each_way_at_once() {
    const LEN: u64 = 100 << 20;
    const PIECE: usize = 64 * 1024;
    let backend = echo();
    let proxy = proxy_for(&backend);
    let mut client = open(&proxy);
    client.set_patience(Duration::from_secs(30));
    let before = process::resident_bytes(proxy.worker_pids()[0]).expect("it runs");
    let mut sender = client.stream().try_clone().expect("a second handle of the socket");
    let sending = std::thread::spawn(move || {
        let mut content = SeededContent::new(21);
        let mut piece = vec![0; PIECE];
        for _ in 0..LEN / PIECE as u64 {
            content.fill(&mut piece);
            sender.write_all(&piece).expect("the tunnel takes it");
        }
        sender.shutdown(std::net::Shutdown::Write).expect("half closed");
    });
    let mut hasher = Hasher::default();
    let mut tail = Vec::new();
    loop {
        let bytes = client.read_some().expect("all of it comes back");
        if bytes.is_empty() {
            break;
        }
        let of_content = usize::try_from(LEN - hasher.length()).unwrap_or(usize::MAX).min(bytes.len());
        hasher.update(&bytes[..of_content]);
        tail.extend_from_slice(&bytes[of_content..]);
    }
    sending.join().expect("all of it was sent");
    assert_eq!((hasher.length(), tail.as_slice()), (LEN, b"over".as_slice()));
    assert_eq!(hasher.finish(), SeededContent::digest(21, LEN));
    let after = process::resident_bytes(proxy.worker_pids()[0]).expect("it runs");
    assert!(after < before + (4 << 20), "{before} bytes grew to {after}");
    let mut command = proxy.command();
    let spliced = command.metric("bytes_spliced");
    println!("{spliced} of {} bytes were spliced", 2 * LEN);
    await_true("pipes are given back", || command.metric("splice.pipes") == 0);
    assert_eq!(command.metric("buffer.in_use"), 0);
}

#[test]
fn a_silent_tunnel_ends_in_time_and_a_lively_one_does_not() {
    let backend = echo();
    let proxy = Proxy::builder()
        .workers(1)
        .listener_setting("tunnel_timeout = 1\nfront_timeout = 1\nback_timeout = 1\n")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let mut lively = open(&proxy);
    let mut silent = open(&proxy);
    let started = Instant::now();
    let speaking = std::thread::spawn(move || {
        while started.elapsed() < Duration::from_millis(2500) {
            says(&mut lively, "still here");
            run_for(Duration::from_millis(100));
        }
        lively
    });
    silent.expect_close();
    let elapsed = started.elapsed();
    assert!((900..2400).contains(&elapsed.as_millis()), "closed after {elapsed:?}");
    let mut lively = speaking.join().expect("it was never cut");
    says(&mut lively, "and on");
    assert_eq!(proxy.command().metric("tunnel.timeouts"), 1);
    // The time is the tunnel's alone: others on this listener have a second, too, and no less.
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "plain");
}

#[test]
fn changes_leave_open_tunnels_alone() {
    let backend = echo();
    let proxy = proxy_for(&backend);
    let mut client = open(&proxy);
    says(&mut client, "before");
    let mut command = proxy.command();
    let backends = proxy.cli().json(&["cluster", "list", "--id", "a"]);
    let id = find(&backends, "backend_id").expect("the cluster has a backend");
    command.ok(requests::remove_backend("a", &id, backend.address()));
    says(&mut client, "without its backend");
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 503);
    command.ok(requests::remove_frontend("a", proxy.address(), "a.test"));
    says(&mut client, "without its frontend");
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 404);
    command.ok(requests::remove_cluster("a"));
    says(&mut client, "without its cluster");
    command.ok(requests::deactivate_listener(proxy.address()));
    says(&mut client, "without anybody listening");
    // Another takes the name: they have nothing to do with each other.
    let other = Backend::named("other");
    command.ok(requests::activate_listener(proxy.address()));
    command.ok(requests::add_cluster("a"));
    command.ok(requests::add_backend("a", "b", other.address()));
    command.ok(requests::add_frontend("a", proxy.address(), "a.test"));
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "other");
    says(&mut client, "after all");
    client.finish_sending();
    assert_eq!(rest(&mut client), "over");
    assert_eq!(backend.accepted(), 1);
}

/// The first string under `key`, wherever it is.
fn find(value: &serde_json::Value, key: &str) -> Option<String> {
    match value {
        serde_json::Value::Object(map) => match map.get(key) {
            Some(serde_json::Value::String(text)) => Some(text.clone()),
            _ => map.values().find_map(|value| find(value, key)),
        },
        serde_json::Value::Array(list) => list.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}

#[test]
fn a_soft_stop_ends_quiet_tunnels() {
    let backend = echo();
    let proxy = proxy_for(&backend);
    let mut client = open(&proxy);
    says(&mut client, "hello");
    proxy.stop();
    client.expect_close();
}

#[test]
fn an_upgrade_that_is_declined_is_a_plain_request() {
    let backend = Backend::named("declined");
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    client.send(format!("{HANDSHAKE}GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    assert_eq!(client.response("GET").text(), "declined");
    assert_eq!(client.response("GET").text(), "declined", "what followed was a request of its own");
    assert_eq!(backend.next_request().fields.get("Upgrade"), Some("websocket"));
    let next = backend.next_request();
    assert_eq!((next.target.as_str(), next.fields.get("Upgrade")), ("/next", None));
    assert_eq!(backend.accepted(), 1, "on the same connection");
}

#[test]
fn only_what_was_asked_for_is_switched_to() {
    let odd = |answer: String| Backend::raw(answer, After::Close);
    let plain = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let cases = [
        ("unasked", switching(""), plain),
        ("another protocol", switching("").replace("websocket", "other"), HANDSHAKE),
        ("no protocol", switching("").replace("Upgrade: websocket\r\n", ""), HANDSHAKE),
        ("a length", switching("").replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\nhello"), HANDSHAKE),
    ];
    for (name, answer, request) in cases {
        let backend = odd(answer);
        let proxy = proxy_for(&backend);
        let mut client = Client::connect(proxy.address());
        client.send(request);
        let response = client.response("GET");
        assert_eq!(response.status(), 502, "{name}: {}", response.text());
        client.expect_close();
    }
}

#[test]
fn upgrades_that_smuggle_are_refused() {
    let backend = echo();
    let proxy = proxy_for(&backend);
    let upgrade = |protocol: &str, rest: &str| {
        format!("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n{rest}\r\n")
    };
    for request in [
        upgrade("h2c", ""),
        upgrade("h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"),
        upgrade("H2C", ""),
    ] {
        let mut client = Client::connect(proxy.address());
        client.send(&request);
        assert_eq!(client.response("GET").status(), 400, "{request}");
        client.expect_close();
    }
    // Without a Connection that names it, and in HTTP/1.0, it is not an upgrade, and not passed on.
    for request in [
        "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let mut client = Client::connect(proxy.address());
        client.send(request);
        assert_eq!(client.response("GET").text(), "plain", "{request}");
        let seen = backend.next_request();
        assert_eq!(seen.fields.get("Upgrade"), None, "{seen:?}");
    }
}
