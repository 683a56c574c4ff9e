//! Bodies against a model that sees the whole input at once.

use proptest::prelude::*;
use proptest::test_runner::TestRng;

use crate::protocol::h1::body::{BodyReader, Relay, TRAILER_LINE_BYTES_MAX};
use crate::protocol::h1::error::BodyError;
use crate::protocol::http::Framing;

/// What a body became on its way through.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) output: Vec<u8>,
    pub(super) complete: bool,
    pub(super) consumed: usize,
}

/// Feeds a body in pieces, as a session does: what is not consumed is given again, with the next
/// piece behind it. Bytes behind the input are noise, so that nothing can be read there unnoticed.
pub(super) fn relay_in_pieces(
    mut reader: BodyReader,
    input: &[u8],
    mut piece_bytes: impl FnMut() -> usize,
    noise: &mut TestRng,
) -> Result<Outcome, BodyError> {
    let mut output = Vec::new();
    let mut held = Vec::new();
    let mut fed = 0;
    loop {
        let piece = piece_bytes().clamp(1, input.len().saturating_sub(fed).max(1));
        let end = (fed + piece).min(input.len());
        held.extend_from_slice(&input[fed..end]);
        fed = end;
        let length = held.len();
        held.push(noise.random());
        let progress = reader.advance(&mut held[..length])?;
        held.truncate(length);
        assert!(progress.produced <= progress.consumed, "{progress:?}");
        assert!(progress.consumed <= length, "{progress:?}");
        output.extend_from_slice(&held[..progress.produced]);
        held.drain(..progress.consumed);
        assert!(reader.is_complete() || held.len() < TRAILER_LINE_BYTES_MAX, "held back {}", held.len());
        if fed == input.len() {
            // Given the same bytes again, nothing more happens.
            let before = reader.clone();
            let again = reader.advance(&mut held)?;
            assert_eq!((again.consumed, again.produced), (0, 0));
            assert_eq!(before, reader);
            return Ok(Outcome { output, complete: reader.is_complete(), consumed: fed - held.len() });
        }
    }
}

fn relay(reader: BodyReader, input: &[u8]) -> Result<Outcome, BodyError> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    relay_in_pieces(reader, input, || usize::MAX, runner.rng())
}

/// A chunked body that is well-formed, as parts.
#[derive(Debug, Clone)]
struct Chunked {
    chunks: Vec<Chunk>,
    last_zeros: usize,
    trailers: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
struct Chunk {
    zeros: usize,
    upper_case: bool,
    extension: String,
    data: Vec<u8>,
}

impl Chunk {
    fn size(&self) -> String {
        if self.upper_case { format!("{:X}", self.data.len()) } else { format!("{:x}", self.data.len()) }
    }
}

impl Chunked {
    fn sent(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in &self.chunks {
            out.extend(format!("{}{}{}\r\n", "0".repeat(chunk.zeros), chunk.size(), chunk.extension).bytes());
            out.extend(&chunk.data);
            out.extend(b"\r\n");
        }
        out.extend(format!("{}\r\n", "0".repeat(self.last_zeros)).bytes());
        for (name, value) in &self.trailers {
            out.extend(format!("{name}:{value}\r\n").bytes());
        }
        out.extend(b"\r\n");
        out
    }

    fn kept(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in &self.chunks {
            out.extend(format!("{}\r\n", chunk.size()).bytes());
            out.extend(&chunk.data);
            out.extend(b"\r\n");
        }
        out.extend(b"0\r\n");
        for (name, value) in self.trailers.iter().filter(|(name, _)| name.starts_with("X-T")) {
            out.extend(format!("{name}:{value}\r\n").bytes());
        }
        out.extend(b"\r\n");
        out
    }

    fn data(&self) -> Vec<u8> {
        self.chunks.iter().flat_map(|chunk| chunk.data.clone()).collect()
    }
}

fn chunked() -> impl Strategy<Value = Chunked> {
    let chunk = (
        0..4usize,
        any::<bool>(),
        prop_oneof![
            Just(String::new()),
            "(;[a-z]{1,5}(=[a-z0-9]{1,5})?){1,3}",
            "[ \t]?;[a-z]=\"[a-z; ]{0,9}\""
        ],
        prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 1..40),
            1 => prop::collection::vec(prop::sample::select(b"\r\n0;5".to_vec()), 1..40),
            1 => prop::collection::vec(any::<u8>(), 200..600),
        ],
    )
        .prop_map(|(zeros, upper_case, extension, data)| Chunk { zeros, upper_case, extension, data });
    let trailer = (
        prop_oneof![
            "X-T[a-z]{0,8}",
            Just("Content-Length".to_owned()),
            Just("HOST".to_owned()),
            Just("x-forwarded-for".to_owned())
        ],
        "[ \t]{0,2}[!-~]{0,10}",
    );
    (prop::collection::vec(chunk, 0..8), 1..5usize, prop::collection::vec(trailer, 0..4))
        .prop_map(|(chunks, last_zeros, trailers)| Chunked { chunks, last_zeros, trailers })
}

/// One byte changed, removed, doubled or inserted.
fn mutated(mut bytes: Vec<u8>, mutations: &[(u8, prop::sample::Index, u8)]) -> Vec<u8> {
    for (kind, at, byte) in mutations {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        match kind % 4 {
            0 => bytes[at] = *byte,
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, bytes[at]),
            _ => bytes.insert(at, *byte),
        }
    }
    bytes
}

fn mutations() -> impl Strategy<Value = Vec<(u8, prop::sample::Index, u8)>> {
    let byte = prop_oneof![prop::sample::select(b"\r\n:;0fF \t\0,".to_vec()), any::<u8>()];
    prop::collection::vec((any::<u8>(), any::<prop::sample::Index>(), byte), 0..4)
}

proptest! {
    #[test]
    fn chunked_bodies_follow_the_model(
        body in chunked(), next in prop::collection::vec(any::<u8>(), 0..20), seed in any::<[u8; 32]>()
    ) {
        let sent = body.sent();
        let mut input = sent.clone();
        input.extend(&next);
        for (relay, expected) in [(Relay::Keep, body.kept()), (Relay::Strip, body.data())] {
            let mut rng = TestRng::from_seed(prop::test_runner::RngAlgorithm::ChaCha, &seed);
            let mut pieces = TestRng::from_seed(prop::test_runner::RngAlgorithm::ChaCha, &seed);
            let reader = BodyReader::new(Framing::Chunked, relay);
            let outcome = relay_in_pieces(reader, &input, || pieces.random_range(1..50), &mut rng);
            let expected = Outcome { output: expected, complete: true, consumed: sent.len() };
            prop_assert_eq!(outcome, Ok(expected));
        }
    }

    #[test]
    fn what_is_passed_on_passes_unchanged(body in chunked()) {
        let kept = body.kept();
        let outcome = relay(BodyReader::new(Framing::Chunked, Relay::Keep), &kept);
        prop_assert_eq!(outcome, Ok(Outcome { consumed: kept.len(), output: kept, complete: true }));
    }

    #[test]
    fn broken_bodies_end_the_same_way_in_any_split(
        body in chunked(), mutations in mutations(), relay_kept in any::<bool>(), seed in any::<[u8; 32]>()
    ) {
        let input = mutated(body.sent(), &mutations);
        let reader = BodyReader::new(Framing::Chunked, if relay_kept { Relay::Keep } else { Relay::Strip });
        let whole = relay(reader.clone(), &input);
        let mut rng = TestRng::from_seed(prop::test_runner::RngAlgorithm::ChaCha, &seed);
        let mut pieces = TestRng::from_seed(prop::test_runner::RngAlgorithm::ChaCha, &seed);
        let split = relay_in_pieces(reader, &input, || pieces.random_range(1..50), &mut rng);
        prop_assert_eq!(&split, &whole);
        // What was passed on as chunks is well-formed as far as it goes.
        if let (true, Ok(outcome)) = (relay_kept, whole) {
            let again = relay(BodyReader::new(Framing::Chunked, Relay::Keep), &outcome.output);
            let again = again.map(|again| (again.output, again.complete));
            prop_assert_eq!(again, Ok((outcome.output, outcome.complete)));
        }
    }

    #[test]
    fn random_bytes_do_no_harm(input in prop::collection::vec(any::<u8>(), 0..300), piece in 1..40usize) {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        for relay in [Relay::Keep, Relay::Strip] {
            // Asserts within; errors are fine.
            relay_in_pieces(BodyReader::new(Framing::Chunked, relay), &input, || piece, runner.rng()).ok();
        }
    }

    #[test]
    fn plain_bodies_pass_as_they_are(
        input in prop::collection::vec(any::<u8>(), 0..100), length in 0..100u64, piece in 1..40usize
    ) {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let count = input.len().min(usize::try_from(length).unwrap());
        for (framing, consumed, complete) in [
            (Framing::None, 0, true),
            (Framing::Length(length), count, count as u64 == length),
            (Framing::UntilClose, input.len(), false),
        ] {
            let reader = BodyReader::new(framing, Relay::Strip);
            let outcome = relay_in_pieces(reader, &input, || piece, runner.rng());
            let output = input[..consumed].to_vec();
            prop_assert_eq!(outcome, Ok(Outcome { output, complete, consumed }), "{:?}", framing);
        }
    }
}

#[test]
fn only_a_body_without_announced_end_may_end_with_the_connection() {
    let cases: &[(Framing, &[u8], Result<(), BodyError>)] = &[
        (Framing::None, b"", Ok(())),
        (Framing::Length(0), b"", Ok(())),
        (Framing::Length(2), b"ab", Ok(())),
        (Framing::Length(3), b"ab", Err(BodyError::Truncated)),
        (Framing::UntilClose, b"", Ok(())),
        (Framing::UntilClose, b"ab", Ok(())),
        (Framing::Chunked, b"", Err(BodyError::Truncated)),
        (Framing::Chunked, b"5\r\nhe", Err(BodyError::Truncated)),
        (Framing::Chunked, b"2\r\nhe", Err(BodyError::Truncated)),
        (Framing::Chunked, b"2\r\nhe\r\n", Err(BodyError::Truncated)),
        (Framing::Chunked, b"0\r\n", Err(BodyError::Truncated)),
        (Framing::Chunked, b"0\r\n\r\n", Ok(())),
    ];
    for (framing, input, expected) in cases {
        let mut reader = BodyReader::new(*framing, Relay::Keep);
        reader.advance(&mut input.to_vec()).unwrap();
        assert_eq!(reader.at_eof(), *expected, "{framing:?} {:?}", String::from_utf8_lossy(input));
        assert_eq!(reader.is_complete(), expected.is_ok(), "{framing:?}");
    }
}

#[test]
fn the_hint_counts_data_alone() {
    let mut reader = BodyReader::new(Framing::Length(10), Relay::Keep);
    assert_eq!(reader.may_pass(), 10);
    reader.advance(&mut b"abc".to_vec()).unwrap();
    assert_eq!(reader.may_pass(), 7);
    let mut reader = BodyReader::new(Framing::Chunked, Relay::Keep);
    assert_eq!(reader.may_pass(), 0);
    reader.advance(&mut b"10\r\nabc".to_vec()).unwrap();
    assert_eq!(reader.may_pass(), 13);
    assert_eq!(BodyReader::new(Framing::UntilClose, Relay::Keep).may_pass(), u64::MAX);
    assert_eq!(BodyReader::new(Framing::None, Relay::Keep).may_pass(), 0);
}
