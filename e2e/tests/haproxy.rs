//! HAProxy in front of us and behind us: another strict proxy reads what we write, both ways.

use kakehi_e2e::Proxy;
use kakehi_e2e::haproxy::Haproxy;
use kakehi_e2e::http::{Backend, Client};

const ROUNDS: usize = 200;

/// GETs and chunked POSTs in turn over one connection, all answered by the backend.
fn converse(address: std::net::SocketAddr) {
    let mut client = Client::connect(address);
    for round in 0..ROUNDS {
        client.send(format!("GET /{round} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        let response = client.response("GET");
        assert_eq!((response.status(), response.text().as_str()), (200, "hello"), "GET {round}");
        client.send(format!(
            "POST /{round} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
             5;x=y\r\nfirst\r\n06\r\nsecond\r\n0\r\n\r\n"
        ));
        let response = client.response("POST");
        assert_eq!((response.status(), response.text().as_str()), (200, "hello"), "POST {round}");
    }
}

#[test]
fn in_front_of_us() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let Some(haproxy) = Haproxy::start(proxy.address()) else { return };
    converse(haproxy.address());
}

#[test]
fn behind_us() {
    let backend = Backend::named("hello");
    let Some(haproxy) = Haproxy::start(backend.address()) else { return };
    let proxy = Proxy::builder().cluster("a", "a.test", &[haproxy.address()]).start();
    converse(proxy.address());
}
