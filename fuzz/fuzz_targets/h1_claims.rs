//! What clients claim of where they come from.
//!
//! - Of a peer that is not believed nothing gets through: a head full of claims, under names that look alike
//!   too, is forwarded with the same fields as one without any, whatever is written, prepared or not.
//! - Of one that is believed, only names that count are passed on, and a trace is one.

#![no_main]

use std::net::{Ipv6Addr, SocketAddr};

use kakehi_command::order::ForwardedHeaders;
use kakehi_fuzz::{ADDED_BYTES_MAX, LIMITS, LIMITS_WRITTEN, forward};
use kakehi_lib::protocol::h1::forwarded::{Forward, NewTrace};
use kakehi_lib::protocol::h1::head::{FieldStorage, Parsed, RequestHead, parse_request};
use kakehi_lib::protocol::h1::write::write_request;
use libfuzzer_sys::fuzz_target;

const CLAIMS: &[&str] = &[
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];

type Fields = Vec<(String, Vec<u8>)>;

/// The fields of a request as the backend gets it.
fn forwarded(head: &RequestHead<'_, '_>, input_bytes: usize, forward: &Forward<'_>) -> Fields {
    let mut out = vec![0; 2 * input_bytes + ADDED_BYTES_MAX];
    let length = write_request(&mut out, head, forward).expect("there is room");
    let mut storage = FieldStorage::new();
    let parsed = parse_request(&out[..length], &mut storage, &LIMITS_WRITTEN);
    let Ok(Parsed::Complete { head, .. }) = parsed else {
        panic!("we do not accept what we write: {:?}", String::from_utf8_lossy(&out[..length]));
    };
    let text = |name: &[u8]| String::from_utf8(name.to_vec()).expect("a token");
    head.fields.iter().map(|field| (text(field.name), field.value.to_vec())).collect()
}

/// Those fields that tell where a request comes from, to whoever folds case and separators.
fn claims(fields: &Fields) -> Fields {
    let fold = |it: char| if it.is_ascii_alphanumeric() { it.to_ascii_lowercase() } else { '-' };
    let is_claim = |name: &str| CLAIMS.contains(&name.chars().map(fold).collect::<String>().as_str());
    fields.iter().filter(|(name, _)| is_claim(name)).cloned().collect()
}

fn way(flags: u8) -> Forward<'static> {
    let families = [
        ForwardedHeaders::Both,
        ForwardedHeaders::XForwarded,
        ForwardedHeaders::Rfc7239,
        ForwardedHeaders::None,
    ];
    let plain = forward(false, families[usize::from(flags >> 4 & 3)]);
    Forward {
        peer: if flags & 1 == 0 { plain.peer } else { SocketAddr::from((Ipv6Addr::LOCALHOST, 4711)) },
        https: flags & 2 != 0,
        send_x_real_ip: flags & 4 != 0,
        elide_x_real_ip: flags & 8 != 0,
        trace: (flags & 64 != 0).then_some(NewTrace { trace_id: 1, parent_id: 2 }),
        host: (flags & 128 != 0).then_some(b"b.test"),
        ..plain
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&flags, fields)) = input.split_first() else { return };
    let start = b"GET / HTTP/1.1\r\nHost: a.test\r\n";
    let input = [start, fields, b"\r\n\r\n"].concat();
    let alone = [&start[..], b"\r\n"].concat();
    let (mut storage, mut storage_alone) = (FieldStorage::new(), FieldStorage::new());
    let Ok(Parsed::Complete { head, .. }) = parse_request(&input, &mut storage, &LIMITS) else { return };
    let Ok(Parsed::Complete { head: alone, .. }) = parse_request(&alone, &mut storage_alone, &LIMITS) else {
        panic!("the plainest of heads");
    };

    let forward = way(flags);
    let expected = claims(&forwarded(&alone, start.len(), &forward));
    assert_eq!(claims(&forwarded(&head, input.len(), &forward)), expected);
    let prepared = forward.prepare();
    let forward = Forward { prepared: &prepared, ..forward };
    assert_eq!(claims(&forwarded(&head, input.len(), &forward)), expected, "prepared");

    let forward = Forward { trusted: true, prepared: &[], ..forward };
    let fields = forwarded(&head, input.len(), &forward);
    for (name, _) in claims(&fields) {
        assert!(CLAIMS.iter().any(|known| name.eq_ignore_ascii_case(known)), "{name}");
    }
    let traces = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("traceparent")).count();
    assert!(forward.trace.is_none() || traces == 1, "{traces} traces");
    let real = claims(&fields).iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-real-ip")).count();
    assert!(!forward.send_x_real_ip || !forward.elide_x_real_ip || real == 1, "{real} addresses");
});
