//! What the proxy says itself, when there is no backend's answer to pass on.

use kakehi_e2e::Proxy;
use kakehi_e2e::address::free_address;
use kakehi_e2e::http::{After, Backend, Client, Framing, Response, get};

fn proxy_for(backend: &Backend) -> Proxy {
    Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start()
}

/// Every answer of our own: framed, explained, traceable.
fn check_answer(response: &Response, status: u16) {
    assert_eq!(response.status(), status, "{}", response.text());
    assert!(matches!(response.framing, Framing::Length(_)), "{:?}", response.head);
    assert_eq!(response.field("Cache-Control"), Some("no-cache"));
    let id = response.field("Sozu-Id").expect("a correlation id");
    assert_eq!(id.len(), 26);
    let text = response.text();
    assert!(text.contains("\"status_code\"") && text.contains(&status.to_string()), "{text}");
    assert!(text.contains(id), "{text}");
}

#[test]
fn bad_requests_are_refused_and_the_connection_closed() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let cases: &[(&str, &str)] = &[
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n"),
        ("bad host", "GET / HTTP/1.1\r\nHost: a.test/evil\r\n\r\n"),
        (
            "two framings",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "differing lengths",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        ),
        ("signed length", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: +3\r\n\r\nabc"),
        ("huge length", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        ("chunked not last", "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked, gzip\r\n\r\n"),
        ("space before colon", "GET / HTTP/1.1\r\nHost : a.test\r\n\r\n"),
        ("folded field", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\r\n b\r\n\r\n"),
        ("lone LF", "GET / HTTP/1.1\nHost: a.test\n\n"),
        ("lone CR", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\rb\r\n\r\n"),
        ("NUL", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n"),
        ("no version", "GET /\r\n\r\n"),
        ("bad method", "G@T / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n"),
        ("chunked in 1.0", "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ];
    for (name, request) in cases {
        let mut client = Client::connect(proxy.address());
        client.send(request);
        let response = client.try_response("GET").unwrap_or_else(|error| panic!("{name}: {error}"));
        let status = response.status();
        assert!(matches!(status, 400 | 501), "{name}: {status}");
        check_answer(&response, status);
        assert!(response.head.closes(), "{name}");
        client.expect_close();
    }
    assert!(!backend.has_request(), "a bad request reached the backend");
}

#[test]
fn unknown_version_is_refused() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    client.send("GET / HTTP/2.0\r\nHost: a.test\r\n\r\n");
    let status = client.response("GET").status();
    assert!(matches!(status, 400 | 505), "{status}");
}

#[test]
fn http2_preface_is_refused() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let status = client.response("GET").status();
    assert!(matches!(status, 400 | 505), "{status}");
}

#[test]
fn bad_chunk_ends_the_request() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    );
    // Refused, or cut if the backend had begun to answer: never passed on as complete.
    if let Ok(response) = client.try_response("POST") {
        assert_eq!(response.status(), 400);
    }
    client.expect_close();
    assert_eq!(backend.served(), 0);
}

#[test]
fn unknown_host_is_404_and_keeps_nothing_secret() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let response = get(proxy.address(), "unknown.test", "/a/path");
    check_answer(&response, 404);
}

#[test]
fn echoed_text_is_escaped() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    for (host, path) in [("unknown.test", "/<script>alert(1)</script>"), ("unknown.test", "/\"'&<b>")] {
        let text = get(proxy.address(), host, path).text();
        assert!(!text.contains("<script>alert") && !text.contains("<b>"), "{text}");
    }
}

#[test]
fn head_request_is_answered_without_a_body() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    client.send("HEAD / HTTP/1.1\r\nHost: unknown.test\r\nConnection: close\r\n\r\n");
    let response = client.response("HEAD");
    assert_eq!(response.status(), 404);
    client.expect_close();
}

#[test]
fn request_body_does_not_confuse_the_next_request() {
    // A 404 may close or read on; what it may not do is to take the body for a request.
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    client
        .send(format!("POST / HTTP/1.1\r\nHost: unknown.test\r\nContent-Length: {}\r\n\r\n", smuggled.len()));
    client.send(smuggled);
    let response = client.response("POST");
    check_answer(&response, 404);
    if response.head.closes() {
        client.expect_close();
    } else {
        assert_eq!(client.get("a.test", "/next").text(), "hello");
        assert_eq!(backend.next_request().target, "/next");
    }
    assert!(!backend.has_request());
}

#[test]
fn head_over_the_buffer_is_431_at_once() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Large: {}\r\n\r\n", "x".repeat(40_000));
    // The answer may come, and the connection be closed, while we are still writing.
    let _cut = client.try_send(request.as_bytes());
    check_answer(&client.response("GET"), 431);
}

#[test]
fn too_many_fields_are_431() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    let fields: String = (0..300).map(|n| format!("X-{n}: y\r\n")).collect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
    check_answer(&client.response("GET"), 431);
}

#[test]
fn unparsable_backend_is_502() {
    for garbage in [
        "this is not HTTP\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n",
        "HTTP/1.1 999999 Odd\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBroken field\r\n\r\n",
    ] {
        let backend = Backend::raw(garbage, After::Close);
        let proxy = proxy_for(&backend);
        check_answer(&get(proxy.address(), "a.test", "/"), 502);
    }
}

#[test]
fn backend_that_closes_without_a_word_is_502() {
    let backend = Backend::raw("", After::Close);
    let proxy = proxy_for(&backend);
    let response = get(proxy.address(), "a.test", "/");
    assert!(matches!(response.status(), 502 | 503), "{}", response.text());
    check_answer(&response, response.status());
}

#[test]
fn backend_head_over_the_buffer_is_refused() {
    let head = format!("HTTP/1.1 200 OK\r\nX-Large: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(40_000));
    let backend = Backend::raw(head, After::Close);
    let proxy = proxy_for(&backend);
    check_answer(&get(proxy.address(), "a.test", "/"), 507);
}

#[test]
fn cluster_without_backends_is_503() {
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[]).start();
    let response = get(proxy.address(), "a.test", "/");
    check_answer(&response, 503);
    assert!(response.text().contains("\"cluster_id\"") && response.text().contains('a'));
}

#[test]
fn refusing_backend_is_503_and_the_others_are_tried() {
    let refusing = free_address();
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[refusing]).start();
    check_answer(&get(proxy.address(), "a.test", "/"), 503);
    drop(proxy);

    let backend = Backend::named("hello");
    let backends = [refusing, backend.address(), free_address()];
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &backends).start();
    for _ in 0..20 {
        let response = get(proxy.address(), "a.test", "/");
        assert_eq!((response.status(), response.text().as_str()), (200, "hello"));
    }
}

#[test]
fn denied_route_is_401() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let mut frontend = kakehi_e2e::requests::frontend("", proxy.address(), "denied.test", "/");
    frontend.cluster_id = None;
    proxy.command().ok(kakehi_command::proto::request::RequestType::AddHttpFrontend(frontend));
    assert_eq!(get(proxy.address(), "denied.test", "/").status(), 401);
}

#[test]
fn a_cluster_that_wants_https_sends_its_clients_there() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let cli = proxy.cli();
    cli.ok(&["cluster", "add", "--id", "a", "--load-balancing-policy", "round_robin", "--https-redirect"]);
    let response = get(proxy.address(), "a.test", "/x?y=1");
    assert_eq!(response.status(), 301, "{}", response.text());
    // A redirect may be kept (RFC 9110 §15.4.2).
    assert_eq!(response.field("Cache-Control"), None);
    assert_eq!(response.field("Location"), Some("https://a.test/x?y=1"));
    cli.ok(&[
        "cluster",
        "add",
        "--id",
        "a",
        "--load-balancing-policy",
        "round_robin",
        "--https-redirect",
        "--https-redirect-port",
        "8443",
    ]);
    let response = get(proxy.address(), "a.test", "/");
    assert_eq!(response.field("Location"), Some("https://a.test:8443/"));
}
