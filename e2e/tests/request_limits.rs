//! What is too long: bodies (413), request lines (414), heads (431). Each is told as soon as it is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kakehi_command::proto::UpdateHttpListenerConfig;
use kakehi_command::proto::request::RequestType;
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::http::{After, Backend, Client, Response};
use kakehi_e2e::rules::{Rule, Rules};
use kakehi_e2e::{Proxy, requests};

const ONE: &[Rule] = &[Rule { keys: r#"hostname = "a.test""#, flags: &["--hostname", "a.test"] }];

/// The answer to these bytes, sent as they are, on a connection of their own.
fn answer_to(proxy: &Proxy, bytes: &str) -> (Response, Client) {
    let mut client = Client::connect(proxy.address());
    client.send(bytes);
    let response = client.response("POST");
    (response, client)
}

#[test]
fn bodies_have_a_bound_where_one_is_set() {
    let backend = Backend::named("hello");
    let rules = Rules {
        listener_keys: "max_body_bytes = 1000\n",
        listener_flags: &["--max-body-bytes", "1000"],
        frontends: ONE,
        ..Rules::default()
    };
    rules.check(backend.address(), |proxy| {
        while backend.has_request() {}
        let post = |fields: &str, body: &str| {
            answer_to(proxy, &format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n\r\n{body}"))
        };
        let fits = "x".repeat(1000);
        assert_eq!(post("Content-Length: 1000", &fits).0.status(), 200);
        backend.next_request();
        // Announced: refused before a byte of it came.
        let (response, mut client) = post("Content-Length: 1001", "");
        assert_eq!(response.status(), 413);
        assert!(response.head.closes());
        client.expect_close();
        assert!(!backend.has_request(), "the backend does not hear of it");
        // Not announced: as soon as it is too much.
        let chunked = |sizes: &[usize]| {
            let chunks: String =
                sizes.iter().map(|size| format!("{size:x}\r\n{}\r\n", "x".repeat(*size))).collect();
            post("Transfer-Encoding: chunked", &format!("{chunks}0\r\n\r\n"))
        };
        let (response, mut client) = chunked(&[600, 600]);
        assert_eq!(response.status(), 413, "{}", response.text());
        client.expect_close();
        // Framing is not a part of the body.
        assert_eq!(chunked(&[1; 1000]).0.status(), 200, "a thousand bytes in a thousand chunks");
        let (response, mut client) =
            post("Transfer-Encoding: chunked", &format!("3E9\r\n{}", "x".repeat(900)));
        assert_eq!(
            response.status(),
            413,
            "a chunk that is longer than all that is allowed: {}",
            response.text()
        );
        client.expect_close();
        assert_eq!(proxy.command().metric("http.413.errors"), 3);
    });
}

#[test]
fn a_body_that_is_refused_does_not_cut_an_answer_that_has_begun() {
    for rest in ["3e8\r\n", "not a size\r\n"] {
        let refused = Arc::new(AtomicBool::new(false));
        let goes_on = Arc::clone(&refused);
        let backend = Backend::start(move |exchange| {
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nfirst ")?;
            await_true("the rest was refused", || goes_on.load(Ordering::Relaxed));
            exchange.write("second")?;
            Ok(After::Close)
        });
        let proxy = Proxy::builder()
            .listener_setting("max_body_bytes = 1000")
            .cluster("a", "a.test", &[backend.address()])
            .start();
        let mut client = Client::connect(proxy.address());
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
        let (head, framing) = client.try_head("POST").expect("an early answer");
        assert!(head.status == 200 && head.closes(), "{head:?}");
        let before = proxy.command().metric("bytes_in");
        client.send(rest);
        await_true("the rest is read", || proxy.command().metric("bytes_in") > before);
        refused.store(true, Ordering::Relaxed);
        let mut body = Vec::new();
        client.stream_body(framing, |piece| body.extend_from_slice(piece)).expect("a whole answer");
        assert_eq!(String::from_utf8_lossy(&body), "first second", "{rest:?}");
        client.expect_close();
    }
}

#[test]
fn a_client_that_asks_first_is_told_before_it_sends() {
    let backend = Backend::named("hello");
    let rules = Rules { listener_keys: "max_body_bytes = 1000\n", frontends: ONE, ..Rules::default() };
    let proxy = rules.by_file(backend.address());
    let (response, _) = answer_to(
        &proxy,
        "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n",
    );
    assert_eq!((response.status(), response.head.informational.len()), (413, 0));
}

#[test]
fn request_lines_have_a_bound() {
    let backend = Backend::named("hello");
    let rules = Rules {
        listener_keys: "max_request_line = 300\n",
        listener_flags: &["--max-request-line", "300"],
        frontends: ONE,
        ..Rules::default()
    };
    let line = |length: usize| {
        let rest = "GET / HTTP/1.1".len();
        format!("GET /{} HTTP/1.1", "x".repeat(length - rest))
    };
    rules.check(backend.address(), |proxy| {
        let (response, _) = answer_to(proxy, &format!("{}\r\nHost: a.test\r\n\r\n", line(300)));
        assert_eq!(response.status(), 200);
        let (response, mut client) = answer_to(proxy, &format!("{}\r\nHost: a.test\r\n\r\n", line(301)));
        assert_eq!(response.status(), 414);
        client.expect_close();
        // At once: the line's end need not come.
        let (response, mut client) = answer_to(proxy, &line(1000));
        assert_eq!(response.status(), 414);
        client.expect_close();
        assert_eq!(proxy.command().metric("http.414.errors"), 2);
    });
}

#[test]
fn the_default_bound_of_request_lines_is_8192() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    let request = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "x".repeat(length));
    assert_eq!(answer_to(&proxy, &request(8000)).0.status(), 200, "RFC 9112 §3");
    assert_eq!(answer_to(&proxy, &request(8192)).0.status(), 414);
}

#[test]
fn heads_have_a_bound() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(1)
        .setting("max_header_fields = 20")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let check = |fields: &str, status: u16| {
        let (response, mut client) =
            answer_to(&proxy, &format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}"));
        assert_eq!(response.status(), status);
        if status != 200 {
            client.expect_close();
        }
    };
    check(&format!("{}\r\n", "X: y\r\n".repeat(19)), 200);
    check(&format!("{}\r\n", "X: y\r\n".repeat(20)), 431);
    check(&format!("X: {}\r\n\r\n", "y".repeat(15_000)), 200);
    // At once, without its end.
    check(&format!("X: {}", "y".repeat(17_000)), 431);
    check(&format!("X: {}\r\n\r\n", "y".repeat(40_000)), 431);
    check(&"X: y\r\n".repeat(10_000), 431);
}

#[test]
fn limits_that_are_changed_hold_from_the_next_request_on() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let mut command = proxy.command();
    let mut update = |patch: UpdateHttpListenerConfig| {
        command.ok(RequestType::UpdateHttpListener(UpdateHttpListenerConfig {
            address: requests::wire_address(proxy.address()),
            ..patch
        }));
    };
    let mut client = Client::connect(proxy.address());
    let post = |client: &mut Client, length: usize| {
        let body = "x".repeat(length);
        client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{body}"));
        client.response("POST").status()
    };
    assert_eq!(post(&mut client, 100), 200);
    update(UpdateHttpListenerConfig { max_body_bytes: Some(50), ..Default::default() });
    assert_eq!(post(&mut client, 100), 413);
    let mut client = Client::connect(proxy.address());
    assert_eq!(post(&mut client, 50), 200);
    update(UpdateHttpListenerConfig { max_body_bytes: Some(0), ..Default::default() });
    assert_eq!(post(&mut client, 100), 200);
    let long = format!("/{}", "x".repeat(1000));
    assert_eq!(client.get("a.test", &long).status(), 200);
    update(UpdateHttpListenerConfig { max_request_line: Some(500), ..Default::default() });
    assert_eq!(client.get("a.test", &long).status(), 414);
    // A bound that would keep every request out is refused.
    proxy.command().refused(RequestType::UpdateHttpListener(UpdateHttpListenerConfig {
        address: requests::wire_address(proxy.address()),
        max_request_line: Some(10),
        ..Default::default()
    }));
}
