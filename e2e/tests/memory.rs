//! A worker's memory is what doc/memory.md says: its figures are read from there, and measured here.

use std::fs;
use std::net::SocketAddr;

use kakehi_command::proto::request::RequestType;
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::http::{Backend, Client, get};
use kakehi_e2e::tls::{Authority, TlsClient};
use kakehi_e2e::{Proxy, process, requests};

/// Bytes that the document has for something: the second cell of the line that begins with these words.
fn figure(what: &str) -> u64 {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../doc/memory.md");
    let text = fs::read_to_string(path).expect("the document is there");
    let begins = format!("| {what} | ");
    let cell = text.lines().find_map(|line| line.strip_prefix(&begins)?.split(" | ").next());
    let number = cell.and_then(|cell| cell.replace(',', "").parse().ok());
    assert!(number.is_some(), "doc/memory.md has no line `{begins}` with a number: {cell:?}");
    number.unwrap_or_default()
}

/// A complaint, if a worker has not grown since it was at rest by what the document says, to a tenth.
fn complaint((worker, at_rest): (u32, u64), what: &str, parts: &[(usize, &str)]) -> Option<String> {
    let said: u64 = parts.iter().map(|(count, what)| *count as u64 * figure(what)).sum();
    let grown = process::private_bytes(worker).expect("it runs").saturating_sub(at_rest);
    println!("{what}: {grown} bytes, {said} as said, {:.3}", grown as f64 / said as f64);
    let differs = grown.abs_diff(said) * 10 > said;
    differs.then(|| format!("{what}: {grown} bytes, the document says {said}"))
}

fn check(worker: (u32, u64), what: &str, parts: &[(usize, &str)]) {
    assert_eq!(complaint(worker, what, parts), None);
}

/// A proxy of one worker; that, and what it has when it has served one request.
fn proxy(settings: &[&str], backend: SocketAddr) -> (Proxy, (u32, u64)) {
    process::raise_fd_limit();
    let builder = Proxy::builder().workers(1).cluster("a", "a.test", &[backend]);
    let proxy = settings.iter().fold(builder, |builder, line| builder.setting(line)).start();
    let worker = proxy.worker_pids()[0];
    assert_eq!(get(proxy.address(), "other.test", "/").status(), 404);
    await_connections(&proxy, 0);
    let at_rest = process::private_bytes(worker).expect("it runs");
    println!("at rest: {at_rest} bytes");
    assert!(at_rest <= figure("a worker with nothing to do"), "{at_rest} bytes");
    (proxy, (worker, at_rest))
}

fn await_metric(proxy: &Proxy, name: &str, value: usize) {
    let mut command = proxy.command();
    await_true(&format!("{name} is {value}"), || usize::try_from(command.metric(name)) == Ok(value));
}

fn await_connections(proxy: &Proxy, count: usize) {
    await_metric(proxy, "client.connections", count);
}

#[test]
fn idle_connections_up_to_the_limit() {
    const CONNECTIONS: usize = 5_000;
    if !process::may_look_inside() {
        return;
    }
    let backend = Backend::named("hello");
    let (proxy, worker) = proxy(&["max_connections = 5000", "request_timeout = 120"], backend.address());
    let clients: Vec<Client> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = Client::connect(proxy.address());
            assert_eq!(client.get("a.test", "/").status(), 200);
            client
        })
        .collect();
    await_connections(&proxy, CONNECTIONS);
    check(worker, "idle", &[(CONNECTIONS, "a connection at rest")]);
    drop(clients);
}

#[test]
fn requests_under_way_up_to_the_limit() {
    const CONNECTIONS: usize = 1_000;
    if !process::may_look_inside() {
        return;
    }
    let backend = Backend::hanging();
    let (proxy, worker) = proxy(&["max_connections = 1000", "max_buffers = 400"], backend.address());
    let clients: Vec<Client> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = Client::connect(proxy.address());
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            // One after the other: what many need in the same moment stays with the worker.
            backend.next_request();
            client
        })
        .collect();
    await_metric(&proxy, "http.active_requests", CONNECTIONS);
    // Who waits for an answer keeps the head, to ask another backend, while fewer than a quarter of the buffers are used.
    const KEPT: usize = 99;
    await_metric(&proxy, "buffer.in_use", KEPT);
    check(
        worker,
        "under way",
        &[
            (CONNECTIONS, "a connection at rest"),
            (CONNECTIONS, "a request under way, besides"),
            (KEPT, "a buffer"),
        ],
    );
    drop(clients);
}

#[test]
fn every_buffer_in_use() {
    const BUFFERS: usize = 1_000;
    if !process::may_look_inside() {
        return;
    }
    let backend = Backend::named("hello");
    // Of which requests leave some alone.
    let settings = ["max_connections = 2000", "max_buffers = 1500", "request_timeout = 120"];
    let (proxy, worker) = proxy(&settings, backend.address());
    let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Long: {}", "x".repeat(16_000));
    let clients: Vec<Client> = (0..BUFFERS)
        .map(|_| {
            let mut client = Client::connect(proxy.address());
            client.send(&head);
            client
        })
        .collect();
    await_metric(&proxy, "buffer.in_use", BUFFERS);
    await_connections(&proxy, BUFFERS);
    check(
        worker,
        "with buffers",
        &[
            (BUFFERS, "a connection at rest"),
            (BUFFERS, "a head that is not all there, besides"),
            (BUFFERS, "a buffer"),
        ],
    );
    drop(clients);
}

#[test]
fn idle_connections_over_tls() {
    const CONNECTIONS: usize = 2_000;
    if !process::may_look_inside() {
        return;
    }
    let backend = Backend::named("hello");
    let (proxy, worker) = proxy(&["max_connections = 2000", "request_timeout = 120"], backend.address());
    let mut command = proxy.command();
    let (address, authority) = (free_address(), Authority::default());
    command.ok(RequestType::AddHttpsListener(requests::https_listener(address)));
    command.ok(requests::add_https_frontend("a", address, "a.test"));
    command.ok(authority.issue(&["a.test"]).add(address));
    command.ok(requests::activate_https_listener(address));
    let config = authority.client().config();
    let clients: Vec<TlsClient> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = TlsClient::connect(&config, address, "a.test").expect("a handshake");
            assert_eq!(client.get("a.test", "/").expect("an answer").status, 200);
            client
        })
        .collect();
    await_connections(&proxy, CONNECTIONS);
    check(
        worker,
        "idle over TLS",
        &[(CONNECTIONS, "a connection at rest"), (CONNECTIONS, "TLS 1.3 on it, besides")],
    );
    drop(clients);
}

#[test]
fn a_large_configuration() {
    const COUNT: usize = 5_000;
    if !process::may_look_inside() {
        return;
    }
    let backend = Backend::named("hello");
    let (proxy, worker) = proxy(&[], backend.address());
    let mut command = proxy.command();
    let mut all = |of: &dyn Fn(usize) -> RequestType| {
        for start in (0..COUNT).step_by(500) {
            command.ok(requests::transaction((start..start + 500).map(of).collect(), None));
        }
    };
    let id = |i: usize| format!("cluster-{i}");
    let mut parts = Vec::new();
    all(&|i| requests::add_cluster(&id(i)));
    parts.push((COUNT, "a cluster"));
    let mut complaints = vec![complaint(worker, "clusters", &parts)];
    all(&|i| requests::add_frontend(&id(i), proxy.address(), &format!("www.site-{i}.example.test")));
    parts.push((COUNT, "a frontend"));
    complaints.push(complaint(worker, "clusters and frontends", &parts));
    all(&|i| requests::add_backend(&id(i), "b", backend.address()));
    parts.push((COUNT, "a backend"));
    complaints.push(complaint(worker, "clusters, frontends and backends", &parts));
    assert_eq!(complaints, [None, None, None]);
    assert_eq!(get(proxy.address(), "www.site-4711.example.test", "/").status(), 200);
}
