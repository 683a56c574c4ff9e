//! Request heads: what is accepted is written as a head of one form that reads back as the same request, and
//! no prefix of it is refused.

#![no_main]

use kakehi_command::order::ForwardedHeaders;
use kakehi_fuzz::{ADDED_BYTES_MAX, LIMITS, LIMITS_WRITTEN, check_canonical, forward};
use kakehi_lib::protocol::h1::head::{FieldStorage, Parsed, RequestHead, parse_request};
use kakehi_lib::protocol::h1::write::write_request;
use libfuzzer_sys::fuzz_target;

fn check_same(again: &RequestHead<'_, '_>, head: &RequestHead<'_, '_>) {
    assert_eq!(again.method, head.method);
    assert_eq!(again.target.path(), head.target.path());
    assert_eq!(again.framing, head.framing);
    assert_eq!(again.upgrade, head.upgrade);
    assert_eq!(again.expect_continue, head.expect_continue);
    assert!(head.authority.is_empty() || again.authority == head.authority);
    assert!(again.keep_alive);
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, input)) = input.split_first() else { return };
    let mut storage = FieldStorage::new();
    let Ok(Parsed::Complete { head, bytes }) = parse_request(input, &mut storage, &LIMITS) else { return };
    assert!(bytes <= input.len());
    assert_eq!(head.fields.len(), head.kinds.len());
    assert!(input[..bytes].ends_with(b"\r\n\r\n"));
    let prefix = &input[..usize::from(*cut).min(bytes - 1)];
    let mut storage = FieldStorage::new();
    assert!(matches!(parse_request(prefix, &mut storage, &LIMITS), Ok(Parsed::Partial)), "a prefix");

    let mut out = vec![0; 2 * input.len() + ADDED_BYTES_MAX];
    let forward = forward(cut & 1 == 0, ForwardedHeaders::Both);
    let written = write_request(&mut out, &head, &forward).expect("there is room");
    let out = &out[..written];
    let mut storage = FieldStorage::new();
    let Ok(Parsed::Complete { head: again, bytes }) = parse_request(out, &mut storage, &LIMITS_WRITTEN)
    else {
        panic!("we do not accept what we write: {:?}", String::from_utf8_lossy(out));
    };
    assert_eq!(bytes, written);
    check_canonical(out, again.fields);
    check_same(&again, &head);
});
