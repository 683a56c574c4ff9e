//! `Forwarded` and `X-Forwarded-For` of a peer that is believed: whatever it says, our part comes last, as an
//! element of its own. Of a peer that is not, ours is all there is.

#![no_main]

use kakehi_command::order::ForwardedHeaders;
use kakehi_fuzz::{ADDED_BYTES_MAX, LIMITS, LIMITS_WRITTEN, forward};
use kakehi_lib::protocol::h1::head::{FieldStorage, Parsed, parse_request};
use kakehi_lib::protocol::h1::write::write_request;
use libfuzzer_sys::fuzz_target;

const OURS: &[u8] = b"proto=http;for=\"192.0.2.1:4711\";by=198.51.100.1";

/// The elements of a list as a reader takes them apart who knows of quoted strings.
fn elements(list: &[u8]) -> Vec<&[u8]> {
    let (mut elements, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                elements.push(list[start..at].trim_ascii());
                start = at + 1;
            }
            _ => {}
        }
    }
    assert!(!quoted, "an open quote: {}", list.escape_ascii());
    elements.push(list[start..].trim_ascii());
    elements
}

fuzz_target!(|input: &[u8]| {
    let request = [
        &b"GET / HTTP/1.1\r\nHost: a\r\nForwarded: "[..],
        input,
        b"\r\nX-Forwarded-For: ",
        input,
        b"\r\n\r\n",
    ];
    let request = request.concat();
    let mut storage = FieldStorage::new();
    let Ok(Parsed::Complete { head, bytes }) = parse_request(&request, &mut storage, &LIMITS) else { return };
    if bytes < request.len() {
        return;
    }
    for trusted in [true, false] {
        let mut out = vec![0; 2 * request.len() + ADDED_BYTES_MAX];
        let forward = forward(trusted, ForwardedHeaders::Both);
        let written = write_request(&mut out, &head, &forward).expect("there is room");
        let mut storage = FieldStorage::new();
        let Ok(Parsed::Complete { head: again, .. }) =
            parse_request(&out[..written], &mut storage, &LIMITS_WRITTEN)
        else {
            panic!("we do not accept what we write: {:?}", String::from_utf8_lossy(&out[..written]));
        };
        let values = |name: &[u8]| -> Vec<&[u8]> {
            let fields = again.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            fields.map(|field| field.value).collect()
        };
        let [forwarded] = values(b"forwarded")[..] else { panic!("one Forwarded") };
        let [addresses] = values(b"x-forwarded-for")[..] else { panic!("one X-Forwarded-For") };
        assert_eq!(elements(forwarded).last(), Some(&OURS));
        assert_eq!(
            addresses.split(|&byte| byte == b',').next_back().map(<[u8]>::trim_ascii),
            Some(&b"192.0.2.1"[..])
        );
        assert!(trusted || (forwarded == OURS && addresses == b"192.0.2.1"));
    }
});
