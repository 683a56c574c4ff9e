//! The promise: changes under load are immediate and disturb nothing.
//!
//! With nginx as backends where it is installed, and with backends of our own everywhere.

use std::net::SocketAddr;

use kakehi_e2e::http::{Backend, Client, get};
use kakehi_e2e::load::{Connections, Load, Target};
use kakehi_e2e::nginx::Nginx;
use kakehi_e2e::{CommandClient, Proxy, requests};

const ROUNDS: usize = 1_000;

/// Two interchangeable backends: what they answer, and where.
struct Pair {
    names: [&'static str; 2],
    addresses: [SocketAddr; 2],
}

fn change_under_load(pair: &Pair, rounds: usize) {
    let proxy = Proxy::builder().cluster("steady", "steady.test", &[]).start();
    let listener = proxy.address();
    let mut command = proxy.command();
    command.ok(requests::add_backend("steady", pair.names[1], pair.addresses[1]));
    let target = Target { address: listener, host: "steady.test".into(), path: "/".into() };
    let keep_alive = Load::start(&target, Connections::KeepAlive, 4);
    let new = Load::start(&target, Connections::New, 4);
    keep_alive.await_more(20);
    new.await_more(20);
    let mut observer = Client::connect(listener);
    for round in 0..rounds {
        let (add, remove) = (round % 2, (round + 1) % 2);
        command.ok(requests::add_backend("steady", pair.names[add], pair.addresses[add]));
        command.ok(requests::remove_backend("steady", pair.names[remove], pair.addresses[remove]));
        // Visible to the next request: on an old connection and on a new one.
        assert_eq!(observer.get("steady.test", "/").text(), pair.names[add], "round {round}");
        assert_eq!(get(listener, "steady.test", "/").text(), pair.names[add], "round {round}");
        add_and_remove_cluster(&mut command, &mut observer, listener, pair, round);
    }
    // Neither load may have been starved by the changes.
    keep_alive.await_more(20);
    new.await_more(20);
    keep_alive.stop().assert_flawless("keep-alive load");
    new.stop().assert_flawless("new-connection load");
    drop(observer);
    proxy.stop();
}

fn add_and_remove_cluster(
    command: &mut CommandClient,
    observer: &mut Client,
    listener: SocketAddr,
    pair: &Pair,
    round: usize,
) {
    let (cluster, host) = (format!("c{round}"), format!("host{round}.test"));
    command.ok(requests::add_cluster(&cluster));
    command.ok(requests::add_backend(&cluster, "only", pair.addresses[0]));
    command.ok(requests::add_frontend(&cluster, listener, &host));
    assert_eq!(observer.get(&host, "/").text(), pair.names[0], "round {round}");
    command.ok(requests::remove_frontend(&cluster, listener, &host));
    // Our own answers may end the connection: ask on one that may end.
    assert_eq!(get(listener, &host, "/").status(), 404, "round {round}");
    command.ok(requests::remove_cluster(&cluster));
}

#[test]
fn thousand_rounds_with_nginx_lose_no_request() {
    let (Some(a), Some(b)) = (Nginx::start("nginx-a"), Nginx::start("nginx-b")) else { return };
    change_under_load(&Pair { names: ["nginx-a", "nginx-b"], addresses: [a.address(), b.address()] }, ROUNDS);
}

#[test]
fn changes_with_scripted_backends_lose_no_request() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    change_under_load(&Pair { names: ["a", "b"], addresses: [a.address(), b.address()] }, ROUNDS / 5);
}

#[test]
fn request_in_flight_survives_the_removal_of_all_it_came_by() {
    let backend = Backend::start(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nbe")?;
        if exchange.head.target == "/slow" {
            // Held until the test has finished its changes: the client says when, by its body.
            exchange.body_digest()?;
        }
        exchange.write("gun-it")?;
        Ok(kakehi_e2e::http::After::KeepAlive)
    });
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    let mut client = Client::connect(proxy.address());
    client.send("POST /slow HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n");
    let (head, framing) = client.try_head("POST").expect("the head passes at once");
    assert_eq!(head.status, 200);
    let mut command = proxy.command();
    command.ok(requests::remove_frontend("a", proxy.address(), "a.test"));
    command.ok(requests::remove_cluster("a"));
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 404);
    client.send("end");
    let mut body = Vec::new();
    client.stream_body(framing, |piece| body.extend_from_slice(piece)).expect("the rest");
    assert_eq!(body, b"begun-it");
}

#[test]
fn listener_comes_and_goes_while_another_serves() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let target = Target { address: proxy.address(), host: "a.test".into(), path: "/".into() };
    let load = Load::start(&target, Connections::New, 2);
    let mut command = proxy.command();
    for round in 0..50 {
        let second = kakehi_e2e::address::free_address();
        command.ok(requests::add_listener(second));
        assert!(Client::try_connect(second).is_err(), "round {round}: listening before it is active");
        command.ok(requests::add_frontend("a", second, "a.test"));
        command.ok(requests::activate_listener(second));
        let mut kept = Client::connect(second);
        assert_eq!(kept.get("a.test", "/").text(), "hello", "round {round}");
        command.ok(requests::deactivate_listener(second));
        assert!(Client::try_connect(second).is_err(), "round {round}: listening after deactivation");
        // Twice: the address is free again, and the state is what it was.
        command.ok(requests::activate_listener(second));
        assert_eq!(get(second, "a.test", "/").text(), "hello", "round {round}");
        command.ok(requests::deactivate_listener(second));
        command.ok(requests::remove_frontend("a", second, "a.test"));
        command.ok(requests::remove_listener(second));
    }
    load.stop().assert_flawless("load on the other listener");
}

#[test]
fn listener_timeouts_can_be_changed() {
    use kakehi_command::proto::request::RequestType;
    let backend = Backend::hanging();
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    proxy.command().ok(RequestType::UpdateHttpListener(kakehi_command::proto::UpdateHttpListenerConfig {
        address: requests::wire_address(proxy.address()),
        back_timeout: Some(1),
        ..Default::default()
    }));
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 504);
}
