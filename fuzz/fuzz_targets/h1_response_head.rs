//! Response heads: what is accepted is written as a head that reads back with the same status and framing.

#![no_main]

use kakehi_lib::protocol::h1::head::{FIELDS_MAX, FieldStorage, HeadScanner, Parsed, parse_response};
use kakehi_lib::protocol::h1::write::{Reply, write_informational, write_response};
use kakehi_lib::protocol::http::{HeadLimits, RequestMethod, Version};
use libfuzzer_sys::fuzz_target;

/// More than what a response gains on its way.
const ADDED_BYTES_MAX: usize = 1024;

fuzz_target!(|input: &[u8]| {
    for method in [RequestMethod::Other, RequestMethod::Head, RequestMethod::Connect] {
        let mut storage = FieldStorage::new();
        // Room for the fields that we add.
        let limits = HeadLimits { fields_max: FIELDS_MAX - 16 };
        let Ok(Parsed::Complete { head, bytes }) = parse_response(input, &mut storage, &limits, method)
        else {
            continue;
        };
        assert!(bytes <= input.len());
        assert!(HeadScanner::new().should_parse(input), "the scanner sees the end that the parser sees");

        let reply = Reply {
            sozu_id_header: "Sozu-Id",
            request_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            client: Version::Http11,
            close: false,
        };
        let mut out = vec![0; 2 * input.len() + ADDED_BYTES_MAX];
        let written = if head.is_informational() {
            write_informational(&mut out, &head)
        } else {
            write_response(&mut out, &head, &reply)
        };
        let out = &out[..written.expect("there is room")];
        let mut storage = FieldStorage::new();
        let limits = HeadLimits { fields_max: FIELDS_MAX };
        let Ok(Parsed::Complete { head: again, bytes }) = parse_response(out, &mut storage, &limits, method)
        else {
            panic!("we do not accept what we write: {:?}", String::from_utf8_lossy(out));
        };
        assert_eq!(bytes, out.len());
        assert_eq!(again.status, head.status);
        assert_eq!(again.framing, head.framing);
    }
});
