//! What opens a connection and what does not: every form, every cut, whatever bytes.

use proptest::prelude::*;

use super::*;

fn proxied(source: &str, destination: &str) -> Ends {
    Ends::Proxied {
        source: source.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
    }
}

fn ends_of(bytes: &[u8]) -> Ends {
    let header = parse(bytes).expect("a header").expect("all of it");
    assert_eq!(header.bytes, bytes.len());
    header.ends
}

/// Signature, then what is given.
fn v2(rest: &[u8]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n", rest].concat()
}

#[test]
fn lines_of_version_1() {
    let ends = ends_of(b"PROXY TCP4 192.0.2.1 198.51.100.9 56324 443\r\n");
    assert_eq!(ends, proxied("192.0.2.1:56324", "198.51.100.9:443"));
    let ends = ends_of(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n");
    assert_eq!(ends, proxied("[2001:db8::1]:1", "[2001:db8::2]:65535"));
    assert_eq!(ends_of(b"PROXY UNKNOWN\r\n"), Ends::Own);
    assert_eq!(ends_of(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), Ends::Own);
    let header = parse(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n").expect("a header").expect("all of it");
    assert_eq!(header.bytes, 15);
}

#[test]
fn lines_that_are_none() {
    let check = |line: &[u8], expected: Malformed| assert_eq!(parse(line), Err(expected), "{line:?}");
    check(b"GET / HTTP/1.1\r\n", Malformed::NoHeader);
    check(b"PUT / HTTP/1.1\r\n", Malformed::NoHeader);
    check(b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", Malformed::Line("too few words"));
    check(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", Malformed::Line("too many words"));
    check(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n", Malformed::Line("a port that is none"));
    check(b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", Malformed::Line("a port that is none"));
    check(b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", Malformed::Line("a port that is none"));
    let family = Malformed::Line("an address that is not of its family");
    check(b"PROXY TCP4 ::1 5.6.7.8 1 2\r\n", family);
    check(b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n", family);
    check(b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n", Malformed::Line("too many words"));
    let unknown = Malformed::Line("a family that is not TCP4, TCP6 or UNKNOWN");
    check(b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", unknown);
    check(&[b"PROXY TCP4 ".as_slice(), &[b'1'; 120]].concat(), Malformed::LongLine);
}

#[test]
fn headers_of_version_2() {
    let v4 = v2(&[0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 9, 0, 1, 1, 0xbb]);
    assert_eq!(ends_of(&v4), proxied("192.0.2.1:1", "198.51.100.9:443"));
    // A health check of the proxy; whatever it says of addresses is to be ignored.
    assert_eq!(ends_of(&v2(&[0x20, 0, 0, 0])), Ends::Own);
    assert_eq!(ends_of(&v2(&[0x20, 0x11, 0, 2, 1, 2])), Ends::Own);
    assert_eq!(ends_of(&v2(&[0x21, 0, 0, 1, 9])), Ends::Own);
    let unix = v2(&[&[0x21, 0x31, 0, 216][..], &[0; 216]].concat());
    assert_eq!(ends_of(&unix), Ends::Own);
    let tlv = [&[0x21, 0x11, 0, 17][..], &[1; 12], &[2, 0, 2, b'h', b'i']].concat();
    let tlv = v2(&tlv);
    assert_eq!(parse(&tlv).expect("a header").expect("all").tlvs.bytes(), &[2, 0, 2, b'h', b'i']);
}

#[test]
fn headers_of_version_2_that_are_none() {
    let check = |rest: &[u8], expected: Malformed| assert_eq!(parse(&v2(rest)), Err(expected), "{rest:?}");
    check(&[0x11, 0x11, 0, 12], Malformed::Command(0x11));
    check(&[0x22, 0x11, 0, 12], Malformed::Command(0x22));
    check(&[0x21, 0x41, 0, 12], Malformed::Family(0x41));
    check(&[0x21, 0x13, 0, 12], Malformed::Family(0x13));
    check(&[0x21, 0x11, 0, 11], Malformed::Short(11));
    check(&[0x21, 0x21, 0, 35], Malformed::Short(35));
    check(&[0x21, 0x11, 0xff, 0xff], Malformed::Long(65551));
    let cut = [&[0x21, 0x11, 0, 16][..], &[1; 12], &[2, 0, 2, b'h']].concat();
    check(&cut, Malformed::Tlv);
    assert_eq!(parse(b"\r\nGET / HTTP/1.1"), Err(Malformed::NoHeader));
}

#[test]
fn a_checksum_is_of_one_header_only() {
    let tlvs = [3, 0, 4, 1, 2, 3, 4, 2, 0, 1, b'a', 3, 0, 0, 4, 0, 0];
    assert_eq!(Tlvs::new(&tlvs).expect("whole ones").lasting(), [2, 0, 1, b'a', 4, 0, 0]);
    assert!(Tlvs::NONE.lasting().is_empty());
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

proptest! {
    /// What is written reads back, whatever comes behind; no beginning of it is a whole or is malformed.
    #[test]
    fn what_is_written_reads_back(
        source in any_address(),
        destination in any_address(),
        values in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..5),
        behind: Vec<u8>,
        text: bool,
    ) {
        let mut tlvs = Vec::new();
        for (kind, value) in &values {
            tlvs.push(*kind);
            tlvs.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
            tlvs.extend_from_slice(value);
        }
        let tlvs = Tlvs::new(&tlvs).expect("whole ones");
        let mut bytes = Vec::new();
        write(if text { Form::V1 } else { Form::V2(tlvs) }, Ends::Proxied { source, destination }, &mut bytes);
        let length = bytes.len();
        for end in 0..length {
            prop_assert_eq!(parse(&bytes[..end]), Ok(None));
        }
        bytes.extend_from_slice(&behind);
        let header = parse(&bytes).expect("a header").expect("all of it");
        prop_assert_eq!(header.bytes, length);
        let (source, destination) = one_family(source, destination);
        prop_assert_eq!(header.ends, Ends::Proxied { source, destination });
        prop_assert_eq!(header.tlvs, if text { Tlvs::NONE } else { tlvs });
    }

    /// Nothing panics, and a header is never longer than what came or what is allowed.
    #[test]
    fn any_bytes_are_judged(start in 0usize..3, bytes: Vec<u8>) {
        let prefix: [&[u8]; 3] = [b"", b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11"];
        let bytes = [prefix[start], &bytes].concat();
        if let Ok(Some(header)) = parse(&bytes) {
            prop_assert!(header.bytes <= bytes.len() && header.bytes <= BYTES_MAX);
        }
    }
}
