//! Answers that end early must not look whole, and answers without a body must not have one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use kakehi_e2e::Proxy;
use kakehi_e2e::address::free_address;
use kakehi_e2e::http::{Client, Framing};

/// A backend that sends `bytes` to the first request it gets, then nothing, until the proxy gives up.
#[expect(clippy::disallowed_methods, reason = "a peer of the proxy")]
fn falls_silent_after(bytes: &'static str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the proxy connects");
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).expect("a request") > 0);
        stream.write_all(bytes.as_bytes()).expect("the proxy reads");
        // An end or a reset: both say that the proxy has given up.
        let _ended = stream.read(&mut request);
    });
    (address, thread)
}

#[test]
fn an_answer_that_only_its_end_delimits_is_reset_when_it_is_cut() {
    let (address, backend) = falls_silent_after("HTTP/1.1 200 OK\r\n\r\nfirst half");
    let proxy = Proxy::builder().setting("back_timeout = 1").cluster("a", "a.test", &[address]).start();
    let mut client = Client::connect(proxy.address());
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (head, framing) = client.try_head("GET").expect("a head");
    assert_eq!((head.status, framing), (200, Framing::UntilClose));
    let mut body = Vec::new();
    let read = client.stream_body(framing, |piece| body.extend_from_slice(piece));
    assert!(read.is_err(), "taken for the whole: {:?}", String::from_utf8_lossy(&body));
    backend.join().expect("the proxy gave up");
}

#[test]
fn a_head_request_is_refused_without_a_body() {
    // Nothing listens there.
    let proxy = Proxy::builder().cluster("a", "a.test", &[free_address()]).start();
    let mut client = Client::connect(proxy.address());
    for (host, status) in [("unknown.test", 404), ("unknown.test", 404), ("a.test", 503)] {
        client.send(format!("HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        // A single byte behind the head would not be one of the next (RFC 9110 §9.3.2).
        assert_eq!(client.response("HEAD").status(), status, "{host}");
    }
    client.expect_close();
}
