//! Chunked bodies: the same outcome in any split, output that never overtakes input, and output
//! that is itself a body which passes unchanged.

#![no_main]

use kakehi_lib::protocol::h1::body::{BodyReader, Relay};
use kakehi_lib::protocol::h1::error::BodyError;
use kakehi_lib::protocol::http::Framing;
use libfuzzer_sys::fuzz_target;

/// What was passed on, and whether the body was complete.
fn relay(relay: Relay, input: &[u8], piece_bytes: usize) -> Result<(Vec<u8>, bool), BodyError> {
    let mut reader = BodyReader::new(Framing::Chunked, relay);
    let (mut output, mut held) = (Vec::new(), Vec::new());
    for piece in input.chunks(piece_bytes) {
        held.extend_from_slice(piece);
        let progress = reader.advance(&mut held)?;
        assert!(progress.produced <= progress.consumed && progress.consumed <= held.len());
        output.extend_from_slice(&held[..progress.produced]);
        held.drain(..progress.consumed);
    }
    Ok((output, reader.is_complete()))
}

fuzz_target!(|input: &[u8]| {
    let Some((piece_bytes, input)) = input.split_first() else { return };
    let piece_bytes = usize::from(*piece_bytes).max(1);
    for kind in [Relay::Keep, Relay::Strip] {
        let whole = relay(kind, input, usize::MAX);
        assert_eq!(whole, relay(kind, input, piece_bytes), "split in pieces of {piece_bytes}");
        if let (Relay::Keep, Ok((output, complete))) = (kind, whole) {
            assert_eq!(relay(kind, &output, usize::MAX), Ok((output.clone(), complete)));
        }
    }
});
