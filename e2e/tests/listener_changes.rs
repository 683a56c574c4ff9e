//! Listeners that come and go: within one revision, and with clients waiting.

use std::net::SocketAddr;

use kakehi_e2e::address::free_address;
use kakehi_e2e::http::{Backend, Client, get};
use kakehi_e2e::{Proxy, requests, send_signal};
use nix::sys::signal::Signal;

/// More than are accepted in one turn of a worker's loop.
const WAITING: usize = 150;

fn serves(listener: SocketAddr) -> bool {
    Client::try_connect(listener).is_ok_and(|mut client| client.get("a.test", "/").status() == 200)
}

#[test]
fn a_listener_is_what_it_is_at_the_end_of_a_transaction() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let pids = proxy.worker_pids();
    let mut command = proxy.command();
    let address = free_address();
    command.ok(requests::add_frontend("a", address, "a.test"));
    let order = |verb: char| match verb {
        '+' => requests::add_listener(address),
        '-' => requests::remove_listener(address),
        'A' => requests::activate_listener(address),
        'D' => requests::deactivate_listener(address),
        other => panic!("no verb {other}"),
    };
    for (orders, active) in [
        ("+A", true),
        ("DA", true),
        ("DADA", true),
        ("-+A", true),
        ("-+A-+A", true),
        ("-+", false),
        ("AD", false),
        ("ADA", true),
        ("ADAD", false),
        ("A-", false),
        ("+ADA", true),
    ] {
        command.ok(requests::transaction(orders.chars().map(order).collect(), None));
        assert_eq!(serves(address), active, "after {orders}");
        assert_eq!(get(proxy.address(), "a.test", "/").status(), 200, "the other listener, after {orders}");
    }
    assert_eq!(proxy.worker_pids(), pids, "no worker had to be replaced");
}

#[test]
fn who_waits_to_be_accepted_is_served_when_the_listener_closes() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    let address = free_address();
    let mut command = proxy.command();
    for request in [
        requests::add_listener(address),
        requests::activate_listener(address),
        requests::add_frontend("a", address, "a.test"),
    ] {
        command.ok(request);
    }
    let worker = proxy.worker_pids()[0];
    send_signal(worker, Signal::SIGSTOP);
    let clients: Vec<Client> = (0..WAITING)
        .map(|_| {
            let mut client = Client::connect(address);
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            client
        })
        .collect();
    command.send(requests::deactivate_listener(address));
    send_signal(worker, Signal::SIGCONT);
    command.receive_final().expect("an answer");
    for mut client in clients {
        assert_eq!(client.response("GET").status(), 200);
    }
}
