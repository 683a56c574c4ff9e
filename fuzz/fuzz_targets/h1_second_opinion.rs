//! Heads as another parser reads them, and field by field.
//!
//! - What we accept, httparse accepts as the same message; what we write of it too.
//! - What we write holds the fields that came, in their order, and ours: nothing else, nothing twice, nothing
//!   that is meant for the next hop or named by `Connection`, under names that only look alike either.
//! - Written again it is the same text.

#![no_main]

use kakehi_command::order::ForwardedHeaders;
use kakehi_fuzz::{ADDED_BYTES_MAX, ID_HEADER, LIMITS, LIMITS_WRITTEN, forward};
use kakehi_lib::protocol::h1::forwarded::Forward;
use kakehi_lib::protocol::h1::head::{Asked, FIELDS_MAX, FieldStorage, Header, Parsed};
use kakehi_lib::protocol::h1::head::{RequestHead, ResponseHead, parse_request, parse_response};
use kakehi_lib::protocol::h1::write::{Reply, write_informational, write_request, write_response};
use kakehi_lib::protocol::http::field::Field;
use kakehi_lib::protocol::http::{Framing, RequestMethod, Version};
use libfuzzer_sys::fuzz_target;

const ID: &[u8] = b"01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// Names and values.
type Fields<'b> = Vec<(&'b [u8], &'b [u8])>;

fn pairs<'b>(fields: &[Header<'b>]) -> Fields<'b> {
    fields.iter().map(|field| (field.name, field.value)).collect()
}

fn assert_same_fields(ours: &[Header<'_>], theirs: &[httparse::Header<'_>]) {
    let theirs: Fields<'_> = theirs.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
    assert_eq!(pairs(ours), theirs);
}

fn check_request(head: &RequestHead<'_, '_>, input: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut theirs = httparse::Request::new(&mut fields);
    assert_eq!(theirs.parse(input), Ok(httparse::Status::Complete(input.len())));
    assert_eq!(theirs.method, Some(head.method));
    assert_eq!(theirs.version, Some(u8::from(head.version == Version::Http11)));
    let target = theirs.path.expect("a target");
    // Of an absolute target the authority was taken off, and a path given to it that it lacked.
    assert!(target.ends_with(head.target.path()) || matches!(head.target.path(), "/" | "*"), "{target}");
    assert_same_fields(head.fields, theirs.headers);
}

fn check_response(head: &ResponseHead<'_, '_>, input: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut theirs = httparse::Response::new(&mut fields);
    assert_eq!(theirs.parse(input), Ok(httparse::Status::Complete(input.len())));
    assert_eq!(theirs.code, Some(head.status));
    assert_eq!(theirs.version, Some(u8::from(head.version == Version::Http11)));
    assert_same_fields(head.fields, theirs.headers);
}

/// How many fields have one of these names, as who folds case and separators sees them (RFC 3875 §4.1.18).
fn count(fields: &Fields<'_>, names: &[&str]) -> usize {
    let fold = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    let is_like = |name: &[u8]| {
        let folded: Vec<u8> = name.iter().map(fold).collect();
        names.iter().any(|known| known.as_bytes() == folded)
    };
    fields.iter().filter(|(name, _)| is_like(name)).count()
}

const DELIMITING: &[&str] = &["content-length", "transfer-encoding"];
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "upgrade",
];

/// Nothing that `Connection` names goes on, but for names that mean something to us.
fn check_named(sent: &Fields<'_>, written: &Fields<'_>) {
    for (_, value) in sent.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"connection")) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let yields = |name: &[u8]| name.eq_ignore_ascii_case(option) && Field::of(name) == Field::Other;
            assert!(written.iter().all(|(name, value)| !yields(name) || *value == ID), "{option:?}");
        }
    }
}

/// The way of a request that has nothing of its own to say.
fn plain() -> Forward<'static> {
    Forward { send_x_real_ip: false, ..forward(false, ForwardedHeaders::None) }
}

fn written_request(head: &RequestHead<'_, '_>, input_bytes: usize) -> Vec<u8> {
    let mut out = vec![0; 2 * input_bytes + ADDED_BYTES_MAX];
    let length = write_request(&mut out, head, &plain()).expect("there is room");
    out.truncate(length);
    out
}

/// The fields that the backend has to get, by what the parser says they are.
fn expected_request<'b>(head: &RequestHead<'_, 'b>, length: &'b str) -> Fields<'b> {
    let host = if head.authority.is_empty() { "198.51.100.1:80" } else { head.authority };
    let kept = head.fields.iter().zip(head.kinds).filter(|(field, kind)| match kind {
        Field::Other => !field.name.eq_ignore_ascii_case(ID_HEADER.as_bytes()),
        Field::EndToEnd | Field::Trailer | Field::TraceParent | Field::TraceState => true,
        Field::Expect => head.version == Version::Http11,
        Field::XRequestId => !field.value.is_empty(),
        _ => false,
    });
    let mut expected: Fields<'b> = vec![(b"Host", host.as_bytes())];
    expected.extend(kept.map(|(field, _)| (field.name, field.value)));
    if !expected.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"X-Request-Id")) {
        expected.push((b"X-Request-Id", ID));
    }
    expected.push((ID_HEADER.as_bytes(), ID));
    if let Some(protocol) = head.upgrade {
        expected.extend([(&b"Connection"[..], &b"upgrade"[..]), (b"Upgrade", protocol)]);
    }
    match head.framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Length(_) => expected.push((b"Content-Length", length.as_bytes())),
        Framing::Chunked => expected.push((b"Transfer-Encoding", b"chunked")),
    }
    expected
}

fn request(input: &[u8]) {
    let mut storage = FieldStorage::new();
    let Ok(Parsed::Complete { head, bytes }) = parse_request(input, &mut storage, &LIMITS) else { return };
    check_request(&head, &input[..bytes]);
    let written = written_request(&head, bytes);
    let mut storage = FieldStorage::new();
    let Ok(Parsed::Complete { head: again, .. }) = parse_request(&written, &mut storage, &LIMITS_WRITTEN)
    else {
        panic!("we do not accept what we write: {:?}", String::from_utf8_lossy(&written));
    };
    check_request(&again, &written);
    let found = pairs(again.fields);
    let length = head.framing.length().unwrap_or_default().to_string();
    assert_eq!(found, expected_request(&head, &length));
    assert_eq!(count(&found, &["host"]), 1);
    assert_eq!(count(&found, DELIMITING), usize::from(head.framing != Framing::None));
    assert_eq!(count(&found, HOP_BY_HOP), if head.upgrade.is_some() { 2 } else { 0 });
    check_named(&pairs(head.fields), &found);
    assert_eq!(written_request(&again, written.len()), written, "written again");
}

fn written_response(head: &ResponseHead<'_, '_>, reply: &Reply<'_>, input_bytes: usize) -> Vec<u8> {
    let mut out = vec![0; 2 * input_bytes + ADDED_BYTES_MAX];
    let length = if head.is_informational() && head.upgrade.is_none() {
        write_informational(&mut out, head)
    } else {
        write_response(&mut out, head, reply)
    };
    out.truncate(length.expect("there is room"));
    out
}

fn check_response_fields(sent: &ResponseHead<'_, '_>, found: &Fields<'_>, client: Version) {
    let is_final = !sent.is_informational() || sent.upgrade.is_some();
    let trailers = is_final && sent.framing == Framing::Chunked && client == Version::Http11;
    let kept = sent.fields.iter().zip(sent.kinds).filter(|(field, kind)| match kind {
        Field::Host | Field::ContentLength | Field::TransferEncoding => false,
        Field::Connection | Field::HopByHop => false,
        Field::Trailer => trailers,
        _ => !is_final || !field.name.eq_ignore_ascii_case(ID_HEADER.as_bytes()),
    });
    let kept: Fields<'_> = kept.map(|(field, _)| (field.name, field.value)).collect();
    let (copied, ours) = found.split_at(kept.len());
    assert_eq!(copied, kept);
    let ours = ours.to_vec();
    assert!(is_final || ours.is_empty(), "{ours:?}");
    assert_eq!(ours.iter().filter(|field| **field == (ID_HEADER.as_bytes(), ID)).count(), ours.len().min(1));
    let framing = count(&ours, DELIMITING) + count(&ours, &["connection", "upgrade"]);
    assert_eq!(framing + usize::from(is_final), ours.len(), "{ours:?}");
    assert!(count(found, DELIMITING) <= 1 && count(found, &["connection"]) <= 1);
    assert_eq!(count(found, &["upgrade"]), usize::from(sent.upgrade.is_some()));
    assert_eq!(count(found, HOP_BY_HOP), count(&ours, &["connection", "upgrade"]));
    check_named(&pairs(sent.fields), &copied.to_vec());
}

fn response(input: &[u8], asked: Asked<'_>, client: Version, close: bool) {
    let mut storage = FieldStorage::new();
    let parsed = parse_response(input, &mut storage, &LIMITS, asked);
    let Ok(Parsed::Complete { head, bytes }) = parsed else { return };
    check_response(&head, &input[..bytes]);
    let reply = Reply {
        sozu_id_header: ID_HEADER,
        request_id: ID,
        client,
        close,
        edits: &[],
        hsts: None,
        set_cookie: None,
    };
    let written = written_response(&head, &reply, bytes);
    let mut storage = FieldStorage::new();
    let parsed = parse_response(&written, &mut storage, &LIMITS_WRITTEN, asked);
    let Ok(Parsed::Complete { head: again, .. }) = parsed else {
        panic!("we do not accept what we write: {:?}", String::from_utf8_lossy(&written));
    };
    check_response(&again, &written);
    assert_eq!((again.status, again.reason), (head.status, head.reason));
    let ends = head.framing.ends_with_connection(client);
    assert_eq!(again.framing, if ends { Framing::UntilClose } else { head.framing });
    assert_eq!(again.keep_alive, head.is_informational() || !(close || ends));
    check_response_fields(&head, &pairs(again.fields), client);
    assert_eq!(written_response(&again, &reply, written.len()), written, "written again");
}

fuzz_target!(|input: &[u8]| {
    let Some((&flags, input)) = input.split_first() else { return };
    request(input);
    let client = if flags & 1 == 0 { Version::Http11 } else { Version::Http10 };
    let upgrade = (flags & 2 != 0).then_some(&b"websocket"[..]);
    for method in [RequestMethod::Other, RequestMethod::Head, RequestMethod::Connect] {
        response(input, Asked { method, upgrade }, client, flags & 4 != 0);
    }
});
