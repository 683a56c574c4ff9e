//! Tests of HTTP/1 that cross its files: vectors (see `../vectors/`), and properties of whole messages.

mod bodies;
mod heads;
mod rewriting;
mod vectors;

use super::forwarded::Forward;
use super::head::{
    Asked, FIELDS_MAX, FieldStorage, Parsed, RequestHead, ResponseHead, parse_request, parse_response,
};
use super::write::{HeadWriter, Reply};
use crate::protocol::http::{HeadLimits, RequestMethod, Version};
use kakehi_command::order::ForwardedHeaders;

const LIMITS: HeadLimits = HeadLimits { fields_max: 128, request_line_max: 8192 };
const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn forward() -> Forward<'static> {
    Forward {
        peer: "192.0.2.1:4711".parse().unwrap(),
        trusted: true,
        public: "198.51.100.1:8080".parse().unwrap(),
        https: false,
        forwarded: ForwardedHeaders::Both,
        send_x_real_ip: false,
        elide_x_real_ip: false,
        request_id: ID.as_bytes(),
        sozu_id_header: "Sozu-Id",
        trace: None,
        host: None,
        path: None,
        subject: None,
        edits: &[],
        early: false,
        sticky_name: None,
        prepared: b"",
    }
}

fn reply(client: Version, close: bool) -> Reply<'static> {
    let (sozu_id_header, request_id) = ("Sozu-Id", ID.as_bytes());
    Reply { sozu_id_header, request_id, client, close, edits: &[], hsts: None, set_cookie: None }
}

/// Runs `write` on a buffer that is large enough and returns what it wrote.
fn written<E: std::fmt::Debug>(write: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Vec<u8> {
    let mut out = vec![0; 64 * 1024];
    let length = write(&mut out).expect("large enough");
    out.truncate(length);
    out
}

/// Parses a request that must be whole and acceptable, and shows it to `see`.
fn with_request<T>(input: &[u8], see: impl FnOnce(&RequestHead<'_, '_>, usize) -> T) -> T {
    // What we write has more fields than what we read.
    let limits = HeadLimits { fields_max: FIELDS_MAX, ..LIMITS };
    match parse_request(input, &mut FieldStorage::new(), &limits) {
        Ok(Parsed::Complete { head, bytes }) => see(&head, bytes),
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(input)),
    }
}

/// Parses a response that must be whole and acceptable, and shows it to `see`.
fn with_response<T>(input: &[u8], method: RequestMethod, see: impl FnOnce(&ResponseHead<'_, '_>) -> T) -> T {
    match parse_response(input, &mut FieldStorage::new(), &LIMITS, Asked { method, upgrade: None }) {
        Ok(Parsed::Complete { head, .. }) => see(&head),
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(input)),
    }
}

#[test]
fn a_writer_takes_all_or_nothing() {
    let mut space = [0; 5];
    let mut out = HeadWriter::new(&mut space);
    assert!(out.is_empty());
    out.push(b"abc").unwrap();
    out.push(b"def").unwrap_err();
    assert_eq!(out.len(), 3);
    out.push(b"de").unwrap();
    out.push(b"").unwrap();
    out.push(b"f").unwrap_err();
    assert_eq!(&space, b"abcde");
}
