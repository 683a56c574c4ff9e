//! What we write of what we read.

use kakehi_command::order::{ForwardedHeaders, HeaderEdit};
use proptest::prelude::*;

use super::{ID, LIMITS, forward, reply, with_request, with_response, written};
use crate::protocol::h1::error::HeadTooLarge;
use crate::protocol::h1::forwarded::{Forward, NewTrace};
use crate::protocol::h1::head::{Asked, FieldStorage, Parsed, parse_request, parse_response};
use crate::protocol::h1::write::{Reply, write_informational, write_request, write_response};
use crate::protocol::http::{RequestMethod, Version};

/// Writes a request; our id is shown as `ID`.
fn rewrite(request: &str, forward: &Forward<'_>) -> String {
    let out = with_request(request.as_bytes(), |head, _| written(|out| write_request(out, head, forward)));
    String::from_utf8_lossy(&out).replace(ID, "ID")
}

/// The fields that every request gets when nothing else is asked for.
fn quiet() -> Forward<'static> {
    Forward { forwarded: ForwardedHeaders::None, ..forward() }
}

#[track_caller]
fn check_request(forward: &Forward<'_>, fields: &str, expected: &str) {
    let out = rewrite(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), forward);
    let fields = out.strip_prefix("GET / HTTP/1.1\r\nHost: a\r\n").and_then(|out| out.strip_suffix("\r\n"));
    assert_eq!(fields, Some(expected), "{out}");
}

#[test]
fn a_request_in_full() {
    let request = "\r\nPOST http://B.test:81/x?y HTTP/1.1\r\nhost: b.test:81\r\nACCEPT:  */* \t\r\n\
                   Content-Length: 005\r\nConnection: close\r\n\
                   Expect: 100-continue\r\nX: caf\u{e9}\r\n\r\n";
    assert_eq!(
        rewrite(request, &forward()),
        "POST /x?y HTTP/1.1\r\nHost: B.test:81\r\nACCEPT: */*\r\nExpect: 100-continue\r\nX: caf\u{e9}\r\n\
         X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 8080\r\n\
         Forwarded: proto=http;for=\"192.0.2.1:4711\";by=198.51.100.1\r\nX-Request-Id: ID\r\nSozu-Id: ID\r\n\
         Content-Length: 5\r\n\r\n"
    );
}

#[test]
fn a_request_of_http_10_becomes_one_of_http_11() {
    assert_eq!(
        rewrite("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", &quiet()),
        "POST / HTTP/1.1\r\nHost: 198.51.100.1:8080\r\nX-Request-Id: ID\r\nSozu-Id: ID\r\n\
         Content-Length: 1\r\n\r\n"
    );
}

#[test]
fn hop_by_hop_request_fields_are_dropped() {
    let ours = "X-Request-Id: ID\r\nSozu-Id: ID\r\n";
    let check = |fields: &str, kept: &str| check_request(&quiet(), fields, &format!("{kept}{ours}"));
    check("", "");
    check("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n", "");
    check("TE: trailers\r\nUpgrade: x, y\r\nConnection: Upgrade, X-Settings\r\nX-Settings: z\r\n", "");
    check("Proxy-Authorization: x\r\nProxy-Authenticate: y\r\nAuthorization: z\r\n", "Authorization: z\r\n");
    check("X-Private: 1\r\nX-Public: 2\r\nconnection: x-private\r\n", "X-Public: 2\r\n");
    check("X: 1\r\nConnection: close\r\nY: 2\r\nConnection: ,x , y,\r\nZ: 3\r\n", "Z: 3\r\n");
    // Names that Connection has no power over.
    check(
        "Connection: Host, Cookie, Authorization\r\nCookie: c\r\nAuthorization: z\r\n",
        "Cookie: c\r\nAuthorization: z\r\n",
    );
    check(
        "Connection: X-Forwarded-For, X-Real-IP, Forwarded\r\n\
         X-Forwarded-For: 1\r\nX-Real-IP: 2\r\nForwarded: for=x\r\n",
        "X-Forwarded-For: 1\r\nX-Real-IP: 2\r\nForwarded: for=x\r\n",
    );
    check_request(
        &quiet(),
        "Connection: X-Request-Id, Sozu-Id\r\nX-Request-Id: r\r\n",
        "X-Request-Id: r\r\nSozu-Id: ID\r\n",
    );
    check_request(
        &quiet(),
        "Trailer: X-Sum\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
        &format!("Trailer: X-Sum\r\n{ours}Transfer-Encoding: chunked\r\n"),
    );
}

/// RFC 8470 §5.1.
#[test]
fn what_may_have_been_played_back_is_marked_once() {
    let ours = "X-Request-Id: ID\r\nSozu-Id: ID\r\n";
    let marked = format!("{ours}Early-Data: 1\r\n");
    let early = Forward { early: true, ..quiet() };
    check_request(&quiet(), "", ours);
    check_request(&early, "", &marked);
    for theirs in
        ["Early-Data: 1\r\n", "early-data: 1\r\nEarly-Data: 1\r\n", "Early-Data: 0\r\n", "Early-Data:\r\n"]
    {
        check_request(&quiet(), theirs, &marked);
        check_request(&early, theirs, &marked);
    }
    check_request(&quiet(), "Connection: Early-Data\r\nEarly-Data: 1\r\n", &marked);
}

#[test]
fn ids_are_kept_or_made() {
    check_request(&quiet(), "X-Request-Id: mine\r\n", "X-Request-Id: mine\r\nSozu-Id: ID\r\n");
    check_request(&quiet(), "X-Request-Id:\r\n", "X-Request-Id: ID\r\nSozu-Id: ID\r\n");
    check_request(&quiet(), "SOZU-ID: spoofed\r\n", "X-Request-Id: ID\r\nSozu-Id: ID\r\n");
    let renamed = Forward { sozu_id_header: "X-Trace", ..quiet() };
    check_request(
        &renamed,
        "Sozu-Id: other\r\nx-trace: spoofed\r\n",
        "Sozu-Id: other\r\nX-Request-Id: ID\r\nX-Trace: ID\r\n",
    );
    let merged = Forward { sozu_id_header: "X-Request-ID", ..quiet() };
    check_request(&merged, "X-Request-Id: mine\r\n", "X-Request-ID: ID\r\n");
}

/// Checks the fields that tell where a request came from.
#[track_caller]
fn check_origin(forward: &Forward<'_>, fields: &str, expected: &str) {
    check_request(forward, fields, &format!("{expected}X-Request-Id: ID\r\nSozu-Id: ID\r\n"));
}

#[test]
fn x_forwarded_fields_follow_what_the_client_said() {
    let forward = Forward { forwarded: ForwardedHeaders::XForwarded, ..forward() };
    let rest = "X-Forwarded-Proto: http\r\nX-Forwarded-Port: 8080\r\n";
    let check = |fields: &str, expected: &str| check_origin(&forward, fields, &format!("{expected}{rest}"));
    check("", "X-Forwarded-For: 192.0.2.1\r\n");
    check("X-Forwarded-For: 6.6.6.6\r\n", "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n");
    check(
        "X-Forwarded-For: 6.6.6.6, 7.7.7.7\r\nx-forwarded-for:\r\nX-Forwarded-For: x\r\n",
        "X-Forwarded-For: 6.6.6.6, 7.7.7.7, x, 192.0.2.1\r\n",
    );
    check(
        "X-Forwarded-Host: h\r\nForwarded: for=x\r\nX-Real-IP: 6.6.6.6\r\n",
        "X-Forwarded-Host: h\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n",
    );
    check_origin(
        &forward,
        "X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n",
        "X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Forwarded-For: 192.0.2.1\r\n",
    );
    let secure = Forward { https: true, public: "[::1]:443".parse().unwrap(), ..forward };
    check_origin(
        &secure,
        "",
        "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n",
    );
    let mapped = Forward { peer: "[::ffff:192.0.2.7]:1".parse().unwrap(), ..forward };
    check_origin(&mapped, "", &format!("X-Forwarded-For: 192.0.2.7\r\n{rest}"));
}

#[test]
fn forwarded_is_appended_to_lines_that_are_well_formed() {
    let forward = Forward { forwarded: ForwardedHeaders::Rfc7239, ..forward() };
    let ours = "proto=http;for=\"192.0.2.1:4711\";by=198.51.100.1";
    let check = |fields: &str, theirs: &str| {
        check_origin(&forward, fields, &format!("Forwarded: {theirs}{ours}\r\n"));
    };
    check("", "");
    check("Forwarded: for=1.2.3.4\r\n", "for=1.2.3.4, ");
    check(
        "Forwarded: for=a;proto=http, for=b\r\nforwarded: For=\"[::1]:80\"; by=_x\r\n",
        "for=a;proto=http, for=b, For=\"[::1]:80\"; by=_x, ",
    );
    check("Forwarded: for=\"a\\\"b,;\"\r\n", "for=\"a\\\"b,;\", ");
    check("Forwarded: for=a,,;;\r\n", "for=a,,;;, ");
    for malformed in [
        "for",
        "for=",
        "=a",
        "for=\"a",
        "for=\"a\\\"",
        "for=\"a\"b",
        "for=a b",
        "for=[::1]",
        "for = a",
        "for=1.2.3.4:80",
        "\"",
    ] {
        check(&format!("Forwarded: {malformed}\r\nForwarded: for=a\r\n"), "for=a, ");
    }
    // The other family, contradicting ours, is removed.
    check("X-Forwarded-For: 1\r\nX-Forwarded-Proto: 2\r\nX-Forwarded-Port: 3\r\nX-Forwarded-Host: 4\r\n", "");
    let v6 = Forward {
        peer: "[2001:db8::1]:4711".parse().unwrap(),
        public: "[::1]:80".parse().unwrap(),
        ..forward
    };
    check_origin(&v6, "", "Forwarded: proto=http;for=\"[2001:db8::1]:4711\";by=\"[::1]\"\r\n");
}

#[test]
fn nobody_else_is_believed() {
    let theirs = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n\
                  X-Forwarded-Host: h\r\nForwarded: for=x\r\nX-Real-IP: 6.6.6.6\r\n";
    let stranger = Forward { trusted: false, ..forward() };
    let x_forwarded = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 8080\r\n";
    let rfc7239 = "Forwarded: proto=http;for=\"192.0.2.1:4711\";by=198.51.100.1\r\n";
    let check = |forwarded, expected: &str| {
        check_origin(&Forward { forwarded, ..stranger }, theirs, expected);
    };
    check(ForwardedHeaders::Both, &format!("{x_forwarded}{rfc7239}"));
    check(ForwardedHeaders::XForwarded, x_forwarded);
    check(ForwardedHeaders::Rfc7239, rfc7239);
    check(ForwardedHeaders::None, "");
    let told = Forward { send_x_real_ip: true, forwarded: ForwardedHeaders::None, ..stranger };
    check_origin(&told, theirs, "X-Real-IP: 192.0.2.1\r\n");
}

#[test]
fn what_is_prepared_for_a_peer_is_what_would_be_written() {
    let stranger = Forward { trusted: false, send_x_real_ip: true, ..forward() };
    for peer in ["192.0.2.1:1", "[2001:db8:1:2:3:4:5:6]:65535", "[::ffff:192.0.2.7]:1"] {
        for forwarded in [ForwardedHeaders::Both, ForwardedHeaders::XForwarded, ForwardedHeaders::Rfc7239] {
            let plain = Forward { peer: peer.parse().unwrap(), forwarded, ..stranger };
            let text = plain.prepare();
            assert!(!text.is_empty());
            let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX: y\r\n\r\n";
            assert_eq!(rewrite(request, &Forward { prepared: &text, ..plain }), rewrite(request, &plain));
        }
    }
    assert!(forward().prepare().is_empty(), "a trusted peer may say something else each time");
    assert!(Forward { host: Some(b"other"), ..stranger }.prepare().is_empty());
    let text = stranger.prepare();
    let rewritten = Forward { host: Some(b"other"), ..stranger };
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(rewrite(request, &Forward { prepared: &text, ..rewritten }), rewrite(request, &rewritten));
}

#[test]
fn a_trace_is_continued_or_begun() {
    let trace = NewTrace { trace_id: 0xABC, parent_id: 0xDEF };
    let ours = "traceparent: 00-00000000000000000000000000000abc-0000000000000def-01\r\n";
    let making = Forward { trace: Some(trace), ..quiet() };
    let id = "0123456789abcdef0123456789abcdef";
    let good = format!("traceparent: 00-{id}-0123456789abcdef-00\r\ntracestate: a=b\r\n");
    check_origin(&quiet(), &good, &good);
    check_origin(&making, &good, &good);
    check_origin(&making, "", ours);
    let later = format!("Traceparent: cc-{id}-0123456789abcdef-01-more\r\n");
    check_origin(&making, &later, &later);
    let zeros = "0".repeat(32);
    for bad in [
        String::new(),
        format!("00-{id}-0123456789abcdef-0"),
        format!("00-{id}-0123456789abcdef-01-more"),
        format!("ff-{id}-0123456789abcdef-01"),
        format!("0x-{id}-0123456789abcdef-01"),
        format!("cc-{id}-0123456789abcdef-01more"),
        format!("00-{zeros}-0123456789abcdef-01"),
        format!("00-{id}-0000000000000000-01"),
        format!("00-{}-0123456789abcdef-01", id.to_uppercase()),
        format!("00_{id}_0123456789abcdef_01"),
    ] {
        check_origin(&making, &format!("traceparent: {bad}\r\ntracestate: a=b\r\n"), ours);
        check_origin(&quiet(), &format!("traceparent: {bad}\r\n"), &format!("traceparent: {bad}\r\n"));
    }
    check_origin(&making, &format!("{good}{good}"), ours);
}

#[test]
fn the_operator_s_edits_come_last() {
    let edit = |request, response, name: &str, value: &str| HeaderEdit {
        request,
        response,
        name: name.into(),
        value: value.into(),
    };
    let edits = [
        edit(true, false, "X-A", ""),
        edit(true, false, "x-new", "1"),
        edit(true, true, "Both", "2"),
        edit(false, true, "Server", ""),
        edit(true, false, "Set", ""),
        edit(true, false, "Set", "3"),
    ];
    check_request(
        &Forward { edits: &edits, ..quiet() },
        "X-A: 1\r\nx-a: 2\r\nServer: s\r\nset: 0\r\nBoth: 0\r\n",
        "Server: s\r\nBoth: 0\r\nX-Request-Id: ID\r\nSozu-Id: ID\r\nx-new: 1\r\nBoth: 2\r\nSet: 3\r\n",
    );
    let response = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nserver: s\r\nContent-Length: 0\r\n\r\n";
    let out = with_response(response, RequestMethod::Other, |head| {
        written(|out| write_response(out, head, &Reply { edits: &edits, ..reply(Version::Http11, false) }))
    });
    assert_eq!(
        String::from_utf8_lossy(&out).replace(ID, "ID"),
        "HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 0\r\nSozu-Id: ID\r\nBoth: 2\r\n\r\n"
    );
}

#[test]
fn host_and_path_are_rewritten() {
    let rewritten = Forward {
        host: Some(b"inner:81"),
        path: Some(b"/new?x"),
        forwarded: ForwardedHeaders::XForwarded,
        trusted: false,
        ..forward()
    };
    assert_eq!(
        rewrite("GET /old HTTP/1.1\r\nHost: outer:80\r\n\r\n", &rewritten),
        "GET /new?x HTTP/1.1\r\nHost: inner:81\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Port: 8080\r\nX-Forwarded-Host: outer:80\r\nX-Request-Id: ID\r\nSozu-Id: ID\r\n\r\n"
    );
}

#[test]
fn an_upgrade_is_passed_on_in_both_directions() {
    let request =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nX: 1\r\n\r\n";
    assert_eq!(
        rewrite(request, &quiet()),
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX-Request-Id: ID\r\nSozu-Id: ID\r\nConnection: upgrade\r\n\
         Upgrade: websocket\r\n\r\n"
    );
    let response = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: x\r\n\r\n";
    let asked = Asked { method: RequestMethod::Other, upgrade: Some(b"websocket") };
    let mut storage = FieldStorage::new();
    let Ok(Parsed::Complete { head, .. }) = parse_response(response, &mut storage, &LIMITS, asked) else {
        panic!("a good answer");
    };
    let out = written(|out| write_response(out, &head, &reply(Version::Http11, false)));
    assert_eq!(
        String::from_utf8_lossy(&out).replace(ID, "ID"),
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: upgrade\r\n\
         Upgrade: WebSocket\r\nSozu-Id: ID\r\n\r\n"
    );
}

#[test]
fn x_real_ip_is_sent_and_elided_as_told() {
    let told = |send_x_real_ip, elide_x_real_ip| Forward { send_x_real_ip, elide_x_real_ip, ..quiet() };
    let theirs = "X-Real-IP: 6.6.6.6\r\n";
    check_origin(&told(false, false), theirs, theirs);
    check_origin(&told(false, true), theirs, "");
    check_origin(&told(true, false), theirs, theirs);
    check_origin(&told(true, true), theirs, "X-Real-IP: 192.0.2.1\r\n");
    check_origin(&told(true, false), "", "X-Real-IP: 192.0.2.1\r\n");
}

#[track_caller]
fn check_response(method: RequestMethod, client: Version, close: bool, response: &str, expected: &str) {
    let out = with_response(response.as_bytes(), method, |head| {
        written(|out| write_response(out, head, &reply(client, close)))
    });
    assert_eq!(String::from_utf8_lossy(&out).replace(ID, "ID"), expected);
}

#[test]
fn responses_are_framed_for_the_client_at_hand() {
    use RequestMethod::{Head, Other};
    use Version::{Http10, Http11};
    let check = |method, client, close, fields: &str, expected: &str| {
        let response = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let expected = format!("HTTP/1.1 200 OK\r\n{expected}Sozu-Id: ID\r\n\r\n");
        check_response(method, client, close, &response, &expected);
    };
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    let (keep_alive, closing) = ("Connection: keep-alive\r\n", "Connection: close\r\n");
    check(Other, Http11, false, length, length);
    check(Other, Http11, true, length, &format!("{length}{closing}"));
    check(Other, Http10, false, length, &format!("{length}{keep_alive}"));
    check(Other, Http10, true, length, &format!("{length}{closing}"));
    check(Other, Http11, false, chunked, chunked);
    check(Other, Http10, false, chunked, closing);
    check(Other, Http11, false, "", closing);
    check(Other, Http10, false, "", closing);
    check(Head, Http11, false, length, length);
    check(Head, Http11, false, chunked, "");
    check(Head, Http10, false, "", keep_alive);
    // Trailers are announced to those who will get them.
    let announced = format!("{chunked}Trailer: X\r\n");
    check(Other, Http11, false, &announced, &format!("Trailer: X\r\n{chunked}"));
    check(Other, Http10, false, &announced, closing);
    check(Other, Http11, false, &format!("{length}Trailer: X\r\n"), length);
    check(Other, Http11, false, &format!("{length}Connection: close\r\n"), length);
}

#[test]
fn responses_keep_their_fields_and_lose_their_hops() {
    check_response(
        RequestMethod::Other,
        Version::Http11,
        false,
        "HTTP/1.0 299 Odd  Reason\r\nserver: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nsozu-id: y\r\nDate: d\r\n\
         Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: z\r\n\
         Content-Length: 2\r\n\r\n",
        "HTTP/1.1 299 Odd  Reason\r\nserver: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nDate: d\r\n\
         Content-Length: 2\r\nSozu-Id: ID\r\n\r\n",
    );
    check_response(
        RequestMethod::Other,
        Version::Http11,
        false,
        "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 700\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 700\r\nSozu-Id: ID\r\n\r\n",
    );
    check_response(
        RequestMethod::Other,
        Version::Http11,
        false,
        "HTTP/1.1 204 caf\u{e9}\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 \r\nSozu-Id: ID\r\n\r\n",
    );
}

#[test]
fn informational_responses_pass_without_additions() {
    let response =
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X\r\nX: 1\r\nContent-Length: 0\r\n\r\n";
    let out = with_response(response, RequestMethod::Other, |head| {
        assert!(head.is_informational());
        written(|out| write_informational(out, head))
    });
    assert_eq!(String::from_utf8_lossy(&out), "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
}

#[test]
fn a_head_that_does_not_fit_is_not_begun_elsewhere() {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    let whole = with_request(request, |head, _| written(|out| write_request(out, head, &forward())));
    for space in 0..whole.len() {
        let mut out = vec![0; space];
        let outcome = with_request(request, |head, _| write_request(&mut out, head, &forward()));
        assert_eq!(outcome, Err(HeadTooLarge), "{space} bytes");
    }
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\n";
    let reply = reply(Version::Http11, true);
    let whole = with_response(response, RequestMethod::Other, |head| {
        written(|out| write_response(out, head, &reply))
    });
    for space in 0..whole.len() {
        let mut out = vec![0; space];
        let outcome =
            with_response(response, RequestMethod::Other, |head| write_response(&mut out, head, &reply));
        assert_eq!(outcome, Err(HeadTooLarge), "{space} bytes");
    }
}

/// Fields that matter to a hop, by name and by value.
const NAMES: &[&str] = &[
    "Connection",
    "Connection",
    "keep-alive",
    "TE",
    "Upgrade",
    "Proxy-Connection",
    "Proxy-Authorization",
    "X-A",
    "X-B",
    "Trailer",
    "Forwarded",
    "X-Forwarded-For",
    "X-Real-IP",
    "Sozu-Id",
    "X-Request-Id",
    "Transfer-Encoding",
];
const VALUES: &[&str] = &[
    "chunked",
    "close",
    "X-A",
    "x-b, Host",
    "Content-Length, Sozu-Id",
    "for=x",
    "\"",
    "",
    "X-Forwarded-For, Transfer-Encoding",
];

proptest! {
    #[test]
    fn nothing_of_a_hop_survives(
        fields in prop::collection::vec((prop::sample::select(NAMES), prop::sample::select(VALUES)), 0..12)
    ) {
        check_hop(&fields);
    }
}

/// Whatever fields a client sends, the backend sees none that was meant for us alone, and one framing.
fn check_hop(sent: &[(&str, &str)]) {
    let fields: String = sent.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let input = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let mut storage = FieldStorage::new();
    let Ok(Parsed::Complete { head, .. }) = parse_request(input.as_bytes(), &mut storage, &LIMITS) else {
        return;
    };
    let out = written(|out| write_request(out, &head, &forward()));
    let options: Vec<String> = sent
        .iter()
        .filter(|(name, _)| *name == "Connection")
        .flat_map(|(_, value)| value.split(", "))
        .map(str::to_ascii_lowercase)
        .collect();
    with_request(&out, |again, bytes| {
        assert_eq!(bytes, out.len());
        assert_eq!(again.framing, head.framing);
        let count =
            |name: &str| again.fields.iter().filter(|f| f.name.eq_ignore_ascii_case(name.as_bytes())).count();
        for gone in ["Connection", "Keep-Alive", "TE", "Upgrade", "Proxy-Connection", "Proxy-Authorization"] {
            assert_eq!(count(gone), 0, "{gone}");
        }
        for once in ["Host", "Sozu-Id", "X-Forwarded-For", "Forwarded"] {
            assert_eq!(count(once), 1, "{once}");
        }
        assert!(count("X-Request-Id") >= 1);
        for private in ["x-a", "x-b"] {
            let all = sent.iter().filter(|(name, _)| name.eq_ignore_ascii_case(private)).count();
            let named = options.iter().any(|option| option == private);
            assert_eq!(count(private), if named { 0 } else { all }, "{private}");
        }
        let chain = again.field("X-Forwarded-For").unwrap();
        assert!(chain == b"192.0.2.1" || chain.ends_with(b", 192.0.2.1"), "{chain:?}");
    });
}
