//! PROXY headers: where one ends does not depend on the pieces it comes in, nor on what follows; what we write of one is
//! read as the same; no header is longer than it may be.

#![no_main]

use kakehi_fuzz::Cut;
use kakehi_lib::protocol::proxy_header::{BYTES_MAX, Ends, Form, Header, Malformed, Tlvs, parse, write};
use libfuzzer_sys::fuzz_target;

/// Longest line of version 1.
const LINE_BYTES_MAX: usize = 107;

/// As the session does: all that has come, again with each piece.
fn in_pieces(bytes: &[u8], cut: Cut) -> Result<Option<Header<'_>>, Malformed> {
    let mut end = 0;
    for piece in cut.pieces(bytes) {
        end += piece.len();
        let seen = &bytes[..end];
        if let Some(header) = parse(seen)? {
            assert!(header.bytes <= seen.len());
            return Ok(Some(header));
        }
    }
    Ok(None)
}

fn written(form: Form<'_>, ends: Ends) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(form, ends, &mut bytes);
    bytes
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = Cut::take(input) else { return };
    let told = parse(bytes);
    match (in_pieces(bytes, cut), &told) {
        // What is wrong may be seen earlier, and then as something else.
        (Err(_), told) => assert!(told.is_err()),
        (pieces, told) => assert_eq!(&pieces, told),
    }
    let Ok(Some(header)) = told else { return };
    let max = if bytes.starts_with(b"P") { LINE_BYTES_MAX } else { BYTES_MAX };
    assert!(header.bytes <= max.min(bytes.len()));
    // Nothing behind it counts, and nothing of it is needless.
    assert_eq!(parse(&bytes[..header.bytes]), Ok(Some(header)));
    for end in 0..header.bytes {
        assert_eq!(parse(&bytes[..end]), Ok(None), "{end} of {}", header.bytes);
    }
    // What is passed on.
    let lasting = header.tlvs.lasting();
    let lasting = Tlvs::new(&lasting).expect("whole additions");
    for form in [Form::V1, Form::V2(lasting)] {
        let bytes = written(form, header.ends);
        let again = parse(&bytes).expect("what we write is right").expect("and whole");
        assert_eq!(again.bytes, bytes.len());
        // Addresses of two families have become those of one; from then on they stay.
        assert_eq!(matches!(again.ends, Ends::Own), matches!(header.ends, Ends::Own));
        assert_eq!(written(form, again.ends), bytes);
        if let (Form::V2(_), Ends::Proxied { .. }) = (form, header.ends) {
            assert_eq!(again.tlvs, lasting);
        }
    }
});
