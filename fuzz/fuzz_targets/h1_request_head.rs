//! Request heads: what is accepted is written as a head that reads back as the same request,
//! however it arrived.

#![no_main]

use kakehi_command::order::ForwardedHeaders;
use kakehi_lib::protocol::h1::forwarded::Forward;
use kakehi_lib::protocol::h1::head::{FIELDS_MAX, FieldStorage, HeadScanner, Parsed, parse_request};
use kakehi_lib::protocol::h1::write::write_request;
use kakehi_lib::protocol::http::HeadLimits;
use libfuzzer_sys::fuzz_target;

/// More than what a request gains on its way.
const ADDED_BYTES_MAX: usize = 1024;

fuzz_target!(|input: &[u8]| {
    let mut storage = FieldStorage::new();
    // Room for the fields that we add.
    let limits = HeadLimits { fields_max: FIELDS_MAX - 16 };
    let Ok(Parsed::Complete { head, bytes }) = parse_request(input, &mut storage, &limits) else { return };
    assert!(bytes <= input.len());
    assert!(HeadScanner::new().should_parse(input), "the scanner sees the end that the parser sees");

    let forward = Forward {
        peer: ([192, 0, 2, 1], 4711).into(),
        public: ([198, 51, 100, 1], 80).into(),
        https: false,
        forwarded: ForwardedHeaders::Both,
        send_x_real_ip: true,
        elide_x_real_ip: true,
        request_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        sozu_id_header: "Sozu-Id",
    };
    let mut out = vec![0; 2 * input.len() + ADDED_BYTES_MAX];
    let written = write_request(&mut out, &head, &forward).expect("there is room");
    let mut storage = FieldStorage::new();
    let limits = HeadLimits { fields_max: FIELDS_MAX };
    let Ok(Parsed::Complete { head: again, bytes }) = parse_request(&out[..written], &mut storage, &limits)
    else {
        panic!("we do not accept what we write: {:?}", String::from_utf8_lossy(&out[..written]));
    };
    assert_eq!(bytes, written);
    assert_eq!(again.method, head.method);
    assert_eq!(again.target.path(), head.target.path());
    assert_eq!(again.framing, head.framing);
});
