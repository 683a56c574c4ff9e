//! Response heads: what is accepted is written as a head of one form that reads back with the same status,
//! framing and upgrade, and no prefix of it is refused.

#![no_main]

use kakehi_fuzz::{ADDED_BYTES_MAX, LIMITS, LIMITS_WRITTEN, check_canonical, reply};
use kakehi_lib::protocol::h1::head::{Asked, FieldStorage, Parsed, parse_response};
use kakehi_lib::protocol::h1::write::{write_informational, write_response};
use kakehi_lib::protocol::http::RequestMethod;
use libfuzzer_sys::fuzz_target;

fn check(input: &[u8], cut: u8, asked: Asked<'_>) {
    let mut storage = FieldStorage::new();
    let Ok(Parsed::Complete { head, bytes }) = parse_response(input, &mut storage, &LIMITS, asked) else {
        return;
    };
    assert!(input[..bytes].ends_with(b"\r\n\r\n"));
    assert_eq!(head.fields.len(), head.kinds.len());
    assert_eq!(head.upgrade.is_some(), head.status == 101, "a 101 is an upgrade that was asked for");
    assert!(head.status != 101 || asked.upgrade.is_some());
    let prefix = &input[..usize::from(cut).min(bytes - 1)];
    let mut storage = FieldStorage::new();
    assert!(matches!(parse_response(prefix, &mut storage, &LIMITS, asked), Ok(Parsed::Partial)), "a prefix");

    let mut out = vec![0; 2 * input.len() + ADDED_BYTES_MAX];
    let written = if head.is_informational() && head.upgrade.is_none() {
        write_informational(&mut out, &head)
    } else {
        write_response(&mut out, &head, &reply())
    };
    let out = &out[..written.expect("there is room")];
    let mut storage = FieldStorage::new();
    let Ok(Parsed::Complete { head: again, bytes }) =
        parse_response(out, &mut storage, &LIMITS_WRITTEN, asked)
    else {
        panic!("we do not accept what we write: {:?}", String::from_utf8_lossy(out));
    };
    assert_eq!(bytes, out.len());
    check_canonical(out, again.fields);
    assert_eq!(again.status, head.status);
    assert_eq!(again.framing, head.framing);
    assert_eq!(again.upgrade, head.upgrade);
    assert_eq!(again.content_length_of_absent_body, head.content_length_of_absent_body);
}

fuzz_target!(|input: &[u8]| {
    let Some((&cut, input)) = input.split_first() else { return };
    for method in [RequestMethod::Other, RequestMethod::Head, RequestMethod::Connect] {
        check(input, cut, Asked { method, upgrade: None });
    }
    check(input, cut, Asked { method: RequestMethod::Other, upgrade: Some(b"websocket") });
});
