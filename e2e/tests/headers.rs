//! Which fields the proxy adds, keeps and drops on the way to the backend and back.

use kakehi_e2e::Proxy;
use kakehi_e2e::http::{After, Backend, Client, RequestHead};

fn seen_by_backend(listener_setting: &str, fields: &str) -> (RequestHead, Client, Proxy) {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(1)
        .listener_setting(listener_setting)
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let mut client = Client::connect(proxy.address());
    client.send(format!("GET /x?y=z HTTP/1.1\r\nHost: a.test:1234\r\n{fields}\r\n"));
    assert_eq!(client.response("GET").status(), 200);
    (backend.next_request(), client, proxy)
}

#[test]
fn backend_learns_who_asked_and_how() {
    let (head, client, proxy) = seen_by_backend("", "");
    let peer = client.local_address();
    assert_eq!(
        (head.method.as_str(), head.target.as_str(), head.version.as_str()),
        ("GET", "/x?y=z", "HTTP/1.1")
    );
    assert_eq!(head.fields.get("Host"), Some("a.test:1234"));
    assert_eq!(head.fields.get("X-Forwarded-For"), Some(peer.ip().to_string().as_str()));
    assert_eq!(head.fields.get("X-Forwarded-Proto"), Some("http"));
    assert_eq!(head.fields.get("X-Forwarded-Port"), Some(proxy.address().port().to_string().as_str()));
    let forwarded = format!("proto=http;for=\"{peer}\";by={}", proxy.address().ip());
    assert_eq!(head.fields.get("Forwarded"), Some(forwarded.as_str()));
    assert_eq!(head.fields.get("X-Real-IP"), None);
    let id = head.fields.get("Sozu-Id").expect("a correlation id");
    assert_eq!(id.len(), 26, "a ULID: {id}");
    assert_eq!(head.fields.get("X-Request-Id"), Some(id));
}

#[test]
fn forwarded_families_follow_the_listener() {
    for (setting, x_forwarded, rfc7239) in [
        ("forwarded_headers = \"both\"", true, true),
        ("forwarded_headers = \"x_forwarded\"", true, false),
        ("forwarded_headers = \"rfc7239\"", false, true),
        ("forwarded_headers = \"none\"", false, false),
    ] {
        let (head, ..) = seen_by_backend(setting, "");
        assert_eq!(head.fields.get("X-Forwarded-For").is_some(), x_forwarded, "{setting}");
        assert_eq!(head.fields.get("X-Forwarded-Proto").is_some(), x_forwarded, "{setting}");
        assert_eq!(head.fields.get("Forwarded").is_some(), rfc7239, "{setting}");
    }
}

#[test]
fn peer_is_the_last_forwarded_address_whatever_the_client_claims() {
    let (head, client, _proxy) = seen_by_backend("", "X-Forwarded-For: 6.6.6.6\r\n");
    let chain = head.fields.all("X-Forwarded-For").join(", ");
    let last = chain.rsplit(',').next().map(str::trim);
    assert_eq!(last, Some(client.local_address().ip().to_string().as_str()), "{chain}");
}

#[test]
fn request_id_of_the_client_is_kept() {
    let (head, ..) = seen_by_backend("", "X-Request-Id: mine-42\r\n");
    assert_eq!(head.fields.get("X-Request-Id"), Some("mine-42"));
    assert_ne!(head.fields.get("Sozu-Id"), Some("mine-42"));
}

#[test]
fn real_ip_is_the_peers_or_nobodys() {
    let (head, client, _proxy) =
        seen_by_backend("send_x_real_ip = true\nelide_x_real_ip = true", "X-Real-IP: 6.6.6.6\r\n");
    assert_eq!(head.fields.get("X-Real-IP"), Some(client.local_address().ip().to_string().as_str()));
    let (head, ..) = seen_by_backend("elide_x_real_ip = true", "X-Real-IP: 6.6.6.6\r\n");
    assert_eq!(head.fields.get("X-Real-IP"), None);
}

#[test]
fn correlation_header_can_be_renamed() {
    let (head, ..) =
        seen_by_backend("sozu_id_header = \"X-Trace\"", "Sozu-Id: spoofed\r\nX-Trace: spoofed\r\n");
    assert_eq!(head.fields.get("X-Trace").map(str::len), Some(26));
}

#[test]
fn hop_by_hop_fields_stop_here() {
    let (head, ..) = seen_by_backend(
        "",
        "Connection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\
         Proxy-Authorization: Basic eDp5\r\nProxy-Connection: keep-alive\r\nX-Public: 2\r\n",
    );
    for name in ["X-Private", "Keep-Alive", "Proxy-Connection"] {
        assert_eq!(head.fields.get(name), None, "{name}");
    }
    assert!(!head.fields.has_token("Connection", "X-Private"));
    assert_eq!(head.fields.get("X-Public"), Some("2"));
}

#[test]
fn end_to_end_fields_pass_unchanged_and_in_order() {
    let fields = "Accept: */*\r\nCookie: a=1; b=2\r\nX-Twice: one\r\nX-Empty:\r\nX-Twice: two\r\n\
                  X-Bytes: caf\u{e9} \t tab\r\n";
    let (head, ..) = seen_by_backend("", fields);
    assert_eq!(head.fields.get("Accept"), Some("*/*"));
    assert_eq!(head.fields.get("Cookie"), Some("a=1; b=2"));
    assert_eq!(head.fields.all("X-Twice"), ["one", "two"]);
    assert_eq!(head.fields.get("X-Empty"), Some(""));
    assert_eq!(head.fields.get("X-Bytes"), Some("caf\u{e9} \t tab"));
}

#[test]
fn absolute_target_becomes_a_path() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    let mut client = Client::connect(proxy.address());
    client.send("GET http://a.test/path?q HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response("GET").status(), 200);
    let head = backend.next_request();
    assert_eq!(head.target, "/path?q");
    assert_eq!(head.fields.get("Host"), Some("a.test"));
    // Where the two differ, others could take either.
    client.send("GET http://a.test/path?q HTTP/1.1\r\nHost: other.test\r\n\r\n");
    assert_eq!(client.response("GET").status(), 400);
    assert!(!backend.has_request());
}

#[test]
fn response_keeps_its_fields_and_loses_its_hops() {
    let backend = Backend::raw(
        "HTTP/1.1 299 Odd Reason\r\nServer: x/1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
         Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok",
        After::KeepAlive,
    );
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    let mut client = Client::connect(proxy.address());
    let response = client.get("a.test", "/");
    assert_eq!((response.status(), response.head.reason.as_str()), (299, "Odd Reason"));
    assert_eq!(response.field("Server"), Some("x/1"));
    assert_eq!(response.head.fields.all("Set-Cookie"), ["a=1", "b=2"]);
    assert_eq!(response.field("X-Hop"), None);
    assert_eq!(response.field("Keep-Alive"), None);
    assert_eq!(response.field("Sozu-Id"), backend.next_request().fields.get("Sozu-Id"));
}

#[test]
fn public_address_is_what_backends_hear_of() {
    let (head, ..) = seen_by_backend("public_address = \"192.0.2.1:80\"", "");
    assert_eq!(head.fields.get("X-Forwarded-Port"), Some("80"));
    assert!(head.fields.get("Forwarded").is_some_and(|value| value.ends_with("by=192.0.2.1")));
}
