//! `cluster close-sessions`: what goes to a cluster, or to some of its backends, ends; what comes next goes there again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{CloseSessions, ClosedSessions};
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::http::{After, Backend, Client, Framing, get};
use kakehi_e2e::tcp::{TcpBackend, TcpClient, activate_tcp_listener, tcp_frontend, tcp_listener};
use kakehi_e2e::{Proxy, requests};

const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Closes what is meant; gives what all workers counted together.
fn close(proxy: &Proxy, cluster: &str, backend: Option<&str>, address: Option<SocketAddr>) -> (u64, u64) {
    let asked = CloseSessions {
        cluster_id: cluster.to_owned(),
        backend_id: backend.map(str::to_owned),
        address: address.map(requests::wire_address),
    };
    let answer = proxy.command().ok(RequestType::CloseSessions(asked));
    let responses = match answer {
        Some(ContentType::WorkerResponses(responses)) => Ok(responses),
        other => Err(other),
    }
    .expect("worker responses");
    assert_eq!(responses.map.len(), proxy.workers().len(), "every worker says what it did");
    responses.map.into_values().fold((0, 0), |sum, content| {
        let counts = match content.content_type {
            Some(ContentType::ClosedSessions(counts)) => Ok(counts),
            other => Err(other),
        };
        let ClosedSessions { closed, draining } = counts.expect("counts");
        (sum.0 + closed, sum.1 + draining)
    })
}

/// Answers `/slow` with a head, and with a body once that of the request has come, `/slower` with both then. Changes the
/// protocol on request, at `/late` once `is_open`.
fn backend_with(is_open: &Arc<AtomicBool>) -> Backend {
    let is_open = is_open.clone();
    Backend::start(move |exchange| {
        if exchange.head.fields.get("Upgrade").is_some() {
            if exchange.head.target == "/late" {
                await_true("it may go on", || is_open.load(Ordering::SeqCst));
            }
            exchange.write(SWITCH)?;
            loop {
                let bytes = exchange.read_some()?;
                if bytes.is_empty() {
                    return Ok(After::Close);
                }
                exchange.write(bytes)?;
            }
        }
        if exchange.head.target == "/slower" {
            exchange.body_digest()?;
        }
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")?;
        if exchange.head.target == "/slow" {
            exchange.body_digest()?;
        }
        exchange.write("done")?;
        Ok(After::KeepAlive)
    })
}

fn backend() -> Backend {
    backend_with(&Arc::default())
}

fn post(proxy: &Proxy, host: &str, path: &str) -> Client {
    let mut client = Client::connect(proxy.address());
    client.send(format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\n"));
    client
}

fn body(client: &mut Client, framing: Framing) -> String {
    let mut body = Vec::new();
    client.stream_body(framing, |piece| body.extend_from_slice(piece)).expect("the whole body");
    String::from_utf8_lossy(&body).into_owned()
}

#[test]
fn requests_finish_and_their_connections_end() {
    let backend = backend();
    let proxy = Proxy::builder().workers(2).cluster("a", "a.test", &[backend.address()]).start();
    let mut idle = Client::connect(proxy.address());
    assert_eq!(idle.get("a.test", "/").text(), "done");
    let mut flowing = post(&proxy, "a.test", "/slow");
    let (head, framing) = flowing.try_head("POST").expect("the head passes at once");
    assert!(head.closes(), "an answer that overtakes its request is the last one: {head:?}");
    let mut waiting = post(&proxy, "a.test", "/slower");
    for _ in 0..3 {
        backend.next_request();
    }
    // The one of the first request rests in the pool, unless another one took it.
    let open = backend.open() as u64;
    let (closed, draining) = close(&proxy, "a", None, None);
    assert_eq!((closed, draining), (open - 2, 2));
    await_true("what was idle is closed", || backend.open() == 2);

    waiting.send("end");
    let (head, framing_of_waiting) = waiting.try_head("POST").expect("an answer");
    assert!(head.closes(), "the client is told that it is the last one: {head:?}");
    assert_eq!(body(&mut waiting, framing_of_waiting), "done");
    waiting.expect_close();
    flowing.send("end");
    assert_eq!(body(&mut flowing, framing), "done");
    flowing.expect_close();
    await_true("no connection is kept", || backend.open() == 0);

    // A client that waits between requests is tied to no backend, and nothing drains.
    assert_eq!(idle.get("a.test", "/").text(), "done");
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "done");
}

#[test]
fn tunnels_end_at_once_and_none_begins_late() {
    let is_open = Arc::default();
    let backend = backend_with(&is_open);
    let proxy = Proxy::builder().workers(2).cluster("a", "a.test", &[backend.address()]).start();
    let mut tunnels: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = Client::connect(proxy.address());
            client.send(HANDSHAKE);
            assert_eq!(client.try_head("GET").expect("an answer").0.status, 101);
            client.send("hello");
            assert_eq!(client.read_raw(5), b"hello");
            client
        })
        .collect();
    let mut late = Client::connect(proxy.address());
    late.send(HANDSHAKE.replace("GET / ", "GET /late "));
    for _ in 0..5 {
        backend.next_request();
    }
    assert_eq!(close(&proxy, "a", None, None), (4, 1));
    for tunnel in &mut tunnels {
        tunnel.expect_close();
    }
    is_open.store(true, Ordering::SeqCst);
    assert_eq!(late.try_head("GET").expect("an answer").0.status, 101);
    late.expect_close();
    await_true("nothing is left", || backend.open() == 0);
}

#[test]
fn tcp_connections_end_at_once_narrowed_by_backend() {
    let (one, two) = (TcpBackend::echo("one"), TcpBackend::echo("two"));
    let listener = free_address();
    let proxy = Proxy::builder().workers(2).start();
    let mut command = proxy.command();
    command.ok(requests::add_cluster("t"));
    command.ok(requests::add_backend("t", "one", one.address()));
    command.ok(requests::add_backend("t", "two", two.address()));
    command.ok(RequestType::AddTcpListener(tcp_listener(listener)));
    command.ok(RequestType::AddTcpFrontend(tcp_frontend("t", listener)));
    command.ok(activate_tcp_listener(listener));
    let _clients: Vec<TcpClient> = (0..8).map(|_| TcpClient::connect(listener)).collect();
    await_true("all are connected", || one.open() + two.open() == 8);
    let (first, second) = (one.open() as u64, two.open() as u64);
    assert!(first > 0 && second > 0, "both are used: {first}, {second}");

    assert_eq!(close(&proxy, "other", None, None), (0, 0), "what nobody knows has no sessions");
    assert_eq!(close(&proxy, "t", Some("one"), Some(two.address())), (0, 0));
    assert_eq!(close(&proxy, "t", Some("one"), None), (first, 0));
    await_true("they are gone", || one.open() == 0);
    assert_eq!(two.open() as u64, second, "the others are not touched");

    let text = proxy.cli().ok(&["cluster", "close-sessions", "--id", "t", "-a", &two.address().to_string()]);
    let sums = text.lines().filter_map(|line| line.split('│').nth(2)?.trim().parse::<u64>().ok());
    assert_eq!(sums.sum::<u64>(), second, "{text}");
    await_true("these are gone, too", || two.open() == 0);
    let refused = proxy.cli().refused(&["cluster", "close-sessions", "--id", ""]);
    assert!(refused.contains("cluster_id") && refused.contains("is empty"), "{refused}");
}

#[test]
fn what_is_left_of_a_removed_backend_can_be_closed() {
    let backend = backend();
    let proxy = Proxy::builder().workers(2).cluster("a", "a.test", &[]).start();
    proxy.command().ok(requests::add_backend("a", "b", backend.address()));
    let mut client = Client::connect(proxy.address());
    client.send(HANDSHAKE);
    assert_eq!(client.try_head("GET").expect("an answer").0.status, 101);
    let address = backend.address().to_string();
    proxy.cli().ok(&["backend", "remove", "--id", "a", "--backend-id", "b", "-a", &address]);
    assert_eq!(close(&proxy, "a", Some("b"), None), (1, 0));
    client.expect_close();
    proxy.cli().ok(&["cluster", "remove", "--id", "a", "--wait"]);
}
