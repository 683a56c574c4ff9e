//! Bodies: the same outcome in any split and with data that passes by unseen, output that never overtakes
//! input, output that is itself a body which passes unchanged, and the data that a plain reader finds.

#![no_main]

use kakehi_lib::protocol::h1::body::{BodyReader, Relay};
use kakehi_lib::protocol::h1::error::BodyError;
use kakehi_lib::protocol::http::Framing;
use libfuzzer_sys::fuzz_target;

/// What was passed on, and whether the body was complete.
fn relay(
    framing: Framing,
    relay: Relay,
    input: &[u8],
    piece_bytes: usize,
    pass: bool,
) -> Result<(Vec<u8>, bool), BodyError> {
    let mut reader = BodyReader::new(framing, relay);
    let (mut output, mut held) = (Vec::new(), Vec::new());
    for piece in input.chunks(piece_bytes) {
        held.extend_from_slice(piece);
        let by = usize::try_from(reader.may_pass()).unwrap_or(usize::MAX).min(held.len());
        if pass && by > 0 {
            output.extend(held.drain(..by));
            reader.passed(by as u64);
        }
        let progress = reader.advance(&mut held)?;
        assert!(progress.produced <= progress.consumed && progress.consumed <= held.len());
        output.extend_from_slice(&held[..progress.produced]);
        held.drain(..progress.consumed);
    }
    Ok((output, reader.is_complete()))
}

/// The data of a body in canonical chunks, and where its trailers begin.
fn plain_chunks(body: &[u8]) -> (Vec<u8>, usize) {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let line = body[at..].split(|&byte| byte == b'\r').next().expect("a size");
        let size = usize::from_str_radix(std::str::from_utf8(line).expect("digits"), 16).expect("digits");
        assert!(size == 0 || line[0] != b'0', "leading zeros");
        assert_eq!(&body[at + line.len()..at + line.len() + 2], b"\r\n");
        at += line.len() + 2;
        if size == 0 {
            return (data, at);
        }
        data.extend(&body[at..at + size]);
        assert_eq!(&body[at + size..at + size + 2], b"\r\n");
        at += size + 2;
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&piece, input)) = input.split_first() else { return };
    let piece_bytes = usize::from(piece).max(1);
    for framing in [Framing::Chunked, Framing::Length(piece.into()), Framing::UntilClose] {
        for kind in [Relay::Keep, Relay::Strip] {
            let whole = relay(framing, kind, input, usize::MAX, false);
            assert_eq!(whole, relay(framing, kind, input, piece_bytes, false), "in pieces of {piece_bytes}");
            assert_eq!(whole, relay(framing, kind, input, piece_bytes, true), "passing by");
            if let (Relay::Keep, Ok((output, complete))) = (kind, whole) {
                assert_eq!(relay(framing, kind, &output, usize::MAX, false), Ok((output.clone(), complete)));
                if framing == Framing::Chunked && complete {
                    let (data, trailers) = plain_chunks(&output);
                    assert_eq!(relay(framing, Relay::Strip, input, usize::MAX, false), Ok((data, true)));
                    assert!(output[trailers..].ends_with(b"\r\n"));
                }
            }
        }
    }
});
