//! Draining: what is in flight goes on, nothing new comes.

use std::net::SocketAddr;

use kakehi_e2e::http::{After, Backend, Client, get};
use kakehi_e2e::load::{Connections, Load, Target};
use kakehi_e2e::{Proxy, requests};

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
