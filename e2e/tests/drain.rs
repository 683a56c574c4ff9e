//! Draining: what is in flight goes on, nothing new comes.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::Stdio;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{Event, EventKind, SubscribeEvents};
use kakehi_e2e::http::{After, Backend, Client, get};
use kakehi_e2e::load::{Connections, Load, Target};
use kakehi_e2e::{CommandClient, Proxy, requests, send_signal};
use nix::sys::signal::Signal;

struct Events(CommandClient);

impl Events {
    fn of(proxy: &Proxy) -> Self {
        let mut client = proxy.command();
        client.send(RequestType::SubscribeEvents(SubscribeEvents {}));
        Self(client)
    }

    /// Waits for the next event that tells of something drained, and gives all before it that are asked for.
    fn next(&mut self) -> Event {
        const DRAINED: [EventKind; 4] = [
            EventKind::BackendDrained,
            EventKind::RemovedBackendHasNoConnections,
            EventKind::ClusterDrained,
            EventKind::ListenerDrained,
        ];
        loop {
            let response = self.0.receive().expect("an event in time");
            let Some(ContentType::Event(event)) = response.content.and_then(|it| it.content_type) else {
                continue;
            };
            if DRAINED.contains(&event.kind()) {
                return event;
            }
        }
    }
}

/// A backend that answers `/slow` when the body of the request, which follows its head, is there; and a client that has
/// the head of such an answer.
fn slow_backend() -> Backend {
    Backend::start(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")?;
        if exchange.head.target == "/slow" {
            exchange.body_digest()?;
        }
        exchange.write("done")?;
        Ok(After::KeepAlive)
    })
}

fn begin(proxy: &Proxy) -> Client {
    let mut client = Client::connect(proxy.address());
    client.send("POST /slow HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n");
    let (head, _) = client.try_head("POST").expect("the head passes at once");
    assert_eq!(head.status, 200);
    client
}

/// Arguments of a verb for a backend of the cluster `a`.
fn verb(verb: &str, id: &str, address: SocketAddr) -> Vec<String> {
    let address = address.to_string();
    ["backend", verb, "--id", "a", "--backend-id", id, "--address", &address].map(str::to_owned).to_vec()
}

fn run(proxy: &Proxy, arguments: &[String]) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    proxy.cli().ok(&arguments);
}

#[test]
fn a_backend_that_drains_finishes_its_request_and_gets_no_other() {
    let slow = Backend::start(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nbe")?;
        if exchange.head.target == "/slow" {
            // The client says when, by its body.
            exchange.body_digest()?;
        }
        exchange.write("gun-it")?;
        Ok(After::KeepAlive)
    });
    let proxy = Proxy::builder().workers(2).cluster("a", "a.test", &[]).start();
    proxy.command().ok(requests::add_backend("a", "slow", slow.address()));
    let mut client = Client::connect(proxy.address());
    client.send("POST /slow HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n");
    let (head, framing) = client.try_head("POST").expect("the head passes at once");
    assert_eq!(head.status, 200);
    run(&proxy, &verb("drain", "slow", slow.address()));
    // Connections come to either worker.
    for _ in 0..16 {
        assert_eq!(get(proxy.address(), "a.test", "/").status(), 503);
    }
    assert_eq!(slow.accepted(), 1, "nothing new came to it");
    client.send("end");
    let mut body = Vec::new();
    client.stream_body(framing, |piece| body.extend_from_slice(piece)).expect("the rest");
    assert_eq!(body, b"begun-it");
    run(&proxy, &verb("undrain", "slow", slow.address()));
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "begun-it");
}

#[test]
fn draining_under_load_loses_no_request() {
    let (a, b) = (Backend::named("one"), Backend::named("two"));
    let proxy = Proxy::builder().workers(2).cluster("a", "a.test", &[]).start();
    let mut command = proxy.command();
    command.ok(requests::add_backend("a", "one", a.address()));
    command.ok(requests::add_backend("a", "two", b.address()));
    let target = Target { address: proxy.address(), host: "a.test".into(), path: "/".into() };
    let load = Load::start(&target, Connections::KeepAlive, 4);
    load.await_more(20);
    let backends = [("one", a.address()), ("two", b.address())];
    for round in 0..20 {
        let (draining, serving) = (backends[round % 2], backends[(round + 1) % 2]);
        run(&proxy, &verb("drain", draining.0, draining.1));
        for _ in 0..4 {
            assert_eq!(get(proxy.address(), "a.test", "/").text(), serving.0, "round {round}");
        }
        run(&proxy, &verb("undrain", draining.0, draining.1));
    }
    load.await_more(20);
    load.stop().assert_flawless("load while backends drain");
}

#[test]
fn a_backend_that_is_not_there_cannot_be_drained() {
    let backend = Backend::named("one");
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    let arguments = verb("drain", "other", backend.address());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = proxy.cli().refused(&arguments);
    assert!(said.contains("has no backend `other`"), "{said}");
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "one");
}

#[test]
fn the_last_connection_is_told_of_and_waited_for() {
    let slow = slow_backend();
    let proxy = Proxy::builder().workers(2).cluster("a", "a.test", &[]).start();
    proxy.command().ok(requests::add_backend("a", "slow", slow.address()));
    let mut events = Events::of(&proxy);
    let mut client = begin(&proxy);
    let mut drain = verb("drain", "slow", slow.address());
    drain.extend(["--wait", "--wait-timeout", "1"].map(str::to_owned));
    let arguments: Vec<&str> = drain.iter().map(String::as_str).collect();
    let said = proxy.cli().refused(&arguments);
    assert!(said.contains("has not drained after 1.0s: connections left: 1"), "{said}");
    // Another one waits for it, and for its removal.
    let cli = proxy.cli();
    let mut remove = verb("remove", "slow", slow.address());
    remove.push("--wait".to_owned());
    let mut waiting = cli.command().args(&remove).stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut said = BufReader::new(waiting.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert!(said.any(|line| line.starts_with("Waiting for backend slow")), "it says that it waits");
    client.send("end");
    assert!(said.any(|line| line.contains("backend slow") && line.ends_with("has drained")), "it says when");
    assert_eq!(waiting.wait().expect("our own child").code(), Some(0));
    let event = events.next();
    assert_eq!(event.kind(), EventKind::RemovedBackendHasNoConnections);
    assert_eq!((event.cluster_id.as_deref(), event.backend_id.as_deref()), (Some("a"), Some("slow")));
    // What carries nothing is told of at once, and nobody waits for what was never there.
    proxy.command().ok(requests::add_backend("a", "idle", slow.address()));
    run(&proxy, &verb("drain", "idle", slow.address()));
    assert_eq!(events.next().kind(), EventKind::BackendDrained);
    proxy.cli().ok(&["cluster", "remove", "--id", "a", "--wait"]);
    assert_eq!(events.next().kind(), EventKind::RemovedBackendHasNoConnections);
    assert_eq!(events.next().kind(), EventKind::ClusterDrained);
    proxy.stop();
}

#[test]
fn a_killed_worker_carries_nothing() {
    let slow = slow_backend();
    let proxy = Proxy::builder().workers(2).cluster("a", "a.test", &[]).start();
    proxy.command().ok(requests::add_backend("a", "slow", slow.address()));
    let mut events = Events::of(&proxy);
    let _client = begin(&proxy);
    run(&proxy, &verb("remove", "slow", slow.address()));
    for pid in proxy.worker_pids() {
        send_signal(pid, Signal::SIGKILL);
    }
    assert_eq!(events.next().kind(), EventKind::RemovedBackendHasNoConnections);
    proxy.stop();
}

#[test]
fn a_listener_that_goes_answers_each_connection_once_more() {
    let slow = slow_backend();
    let proxy = Proxy::builder().workers(2).cluster("a", "a.test", &[slow.address()]).start();
    let mut events = Events::of(&proxy);
    let mut idle: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = Client::connect(proxy.address());
            assert_eq!(client.get("a.test", "/").status(), 200);
            client
        })
        .collect();
    let mut busy = begin(&proxy);
    let at = proxy.address().to_string();
    proxy.cli().ok(&["listener", "http", "deactivate", "-a", &at]);
    for client in &mut idle {
        let answer = client.get("a.test", "/");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.field("connection"), Some("close"));
        let mut rest = Vec::new();
        (&mut client.stream()).read_to_end(&mut rest).expect("an orderly end");
        assert_eq!(rest, b"");
    }
    busy.send("end");
    let mut rest = Vec::new();
    (&mut busy.stream()).read_to_end(&mut rest).expect("an orderly end");
    assert!(rest.ends_with(b"done"));
    let event = events.next();
    assert_eq!(event.kind(), EventKind::ListenerDrained);
    assert_eq!(event.address, Some(requests::wire_address(proxy.address())));
    proxy.cli().ok(&["listener", "http", "deactivate", "-a", &at, "--wait"]);
    // It comes back, and is removed: who stands has a last answer still.
    proxy.cli().ok(&["listener", "http", "activate", "-a", &at]);
    let mut last = Client::connect(proxy.address());
    assert_eq!(last.get("a.test", "/").text(), "done");
    proxy.cli().ok(&["listener", "http", "remove", "-a", &at]);
    let answer = last.get("a.test", "/");
    assert_eq!((answer.status(), answer.field("connection")), (200, Some("close")));
    let event = events.next();
    assert_eq!(event.kind(), EventKind::ListenerDrained);
    proxy.stop();
}
