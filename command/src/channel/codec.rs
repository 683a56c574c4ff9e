//! Framing: `length ++ payload`, where `length` is 8 bytes, little-endian, and counts itself.
//!
//! Pure: no sockets, no file descriptors, no message types beyond "something prost can encode". The
//! wire form is Sōzu's on 64-bit machines, whatever the machine. A payload is one bare protobuf message.

use prost::Message;
use thiserror::Error;

/// Bytes of the length prefix, which counts itself.
pub const LENGTH_BYTES: usize = 8;

/// Where a reader's buffer starts, and what it shrinks back to once drained: most requests of a
/// controller are below it. Bytes.
const BUFFER_BYTES_START: usize = 4096;

const _: () = assert!(BUFFER_BYTES_START > LENGTH_BYTES);

/// A frame that cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length prefix, or the message to be sent, exceeds what this channel allows. On the reading
    /// side nothing after it can be trusted: the reader yields this once and then nothing more.
    #[error("a frame of {length} bytes exceeds the limit of {max} bytes (max_command_buffer_size)")]
    TooLarge {
        /// Bytes of the whole frame, as announced or as it would be.
        length: u64,
        /// The ceiling, bytes.
        max: usize,
    },
    /// The length prefix does not even count itself. Its 8 bytes are dropped and reading goes on.
    #[error("a frame length of {length} is shorter than the {LENGTH_BYTES} bytes that hold it")]
    TooShort {
        /// The length announced.
        length: u64,
    },
    /// The payload is not the message expected. The frame is dropped and reading goes on.
    #[error("a frame holds no valid message: {0}")]
    Undecodable(#[from] prost::DecodeError),
}

impl FrameError {
    /// Whether the peer can no longer be understood, so that the channel has to be closed.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::TooLarge { .. })
    }
}

/// Appends `message` to `out` as one frame.
///
/// # Errors
/// [`FrameError::TooLarge`] if the frame, prefix included, would exceed `frame_bytes_max`; `out` is then
/// unchanged, and nothing was encoded.
pub fn encode_frame_within(
    message: &impl Message,
    frame_bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let frame_bytes = message.encoded_len().saturating_add(LENGTH_BYTES);
    if frame_bytes > frame_bytes_max {
        return Err(FrameError::TooLarge { length: frame_bytes as u64, max: frame_bytes_max });
    }
    let end = out.len() + frame_bytes;
    out.reserve(frame_bytes);
    out.extend_from_slice(&(frame_bytes as u64).to_le_bytes());
    message.encode_raw(out);
    debug_assert_eq!(out.len(), end, "a message encodes to its announced length");
    Ok(())
}

/// Appends `message` to `out` as one frame of any size.
///
/// # Errors
/// None in practice: a message larger than the address space cannot exist.
pub fn encode_frame(message: &impl Message, out: &mut Vec<u8>) -> Result<(), FrameError> {
    encode_frame_within(message, usize::MAX, out)
}

/// Cuts a stream of bytes into frames.
///
/// Bytes come in by [`feed`](Self::feed), or without a copy by [`space`](Self::space) and
/// [`filled`](Self::filled); payloads come out of [`next_payload`](Self::next_payload). The buffer
/// starts at 4096 bytes, doubles when bytes (not promises: a length prefix alone allocates nothing)
/// fill it, never exceeds the largest frame allowed, and shrinks back once drained.
///
/// Back-pressure: when [`space`](Self::space) is empty a whole frame is waiting, or the reader has
/// failed; the caller drains the frames and reads on.
#[derive(Debug)]
pub struct FrameReader {
    /// Storage, zeroed once when it grows; its length is its capacity.
    buffer: Vec<u8>,
    /// Unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
    frame_bytes_max: usize,
    /// A frame was too large: the boundaries of all that follows are unknown.
    failed: bool,
}

impl FrameReader {
    /// A reader of frames of at most `frame_bytes_max` bytes, prefix included (at least 8).
    pub fn new(frame_bytes_max: usize) -> Self {
        let frame_bytes_max = frame_bytes_max.max(LENGTH_BYTES);
        Self { buffer: Vec::new(), start: 0, end: 0, frame_bytes_max, failed: false }
    }

    /// The largest frame it accepts, bytes.
    pub fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    /// Bytes received and not yet given out.
    pub fn buffered_bytes(&self) -> usize {
        self.end - self.start
    }

    /// What was received and not yet given out.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Bytes of memory held.
    pub fn capacity_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Whether a frame was too large, after which nothing more is read.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether [`next_payload`](Self::next_payload) has something to say.
    pub fn has_frame(&self) -> bool {
        !self.failed
            && self.announced().is_some_and(|length| {
                length < LENGTH_BYTES as u64
                    || length > self.frame_bytes_max as u64
                    || length <= self.buffered_bytes() as u64
            })
    }

    /// Room for the next bytes of the stream, to be confirmed by [`filled`](Self::filled). Empty when
    /// the reader is full or has failed.
    pub fn space(&mut self) -> &mut [u8] {
        if self.failed {
            return &mut [];
        }
        if self.end == self.buffer.len() {
            self.make_room();
        }
        &mut self.buffer[self.end..]
    }

    /// Confirms that the first `bytes` of [`space`](Self::space) now hold input.
    pub fn filled(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.buffer.len() - self.end, "filled beyond the space offered");
        self.end = (self.end + bytes).min(self.buffer.len());
    }

    /// Takes what fits of `bytes`, and tells how many that was: less than all when frames have to be
    /// taken out first, or when the reader has failed.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let space = self.space();
            let fit = space.len().min(bytes.len() - taken);
            if fit == 0 {
                break;
            }
            space[..fit].copy_from_slice(&bytes[taken..taken + fit]);
            self.filled(fit);
            taken += fit;
        }
        taken
    }

    /// The payload of the next frame that has arrived whole.
    ///
    /// # Errors
    /// [`FrameError::TooShort`], after which reading goes on, or [`FrameError::TooLarge`], once, after
    /// which there is only `None`.
    pub fn next_payload(&mut self) -> Option<Result<&[u8], FrameError>> {
        if self.failed {
            return None;
        }
        let Some(length) = self.announced() else {
            self.shrink_if_drained();
            return None;
        };
        if length < LENGTH_BYTES as u64 {
            self.start += LENGTH_BYTES;
            return Some(Err(FrameError::TooShort { length }));
        }
        let frame_bytes = match usize::try_from(length) {
            Ok(bytes) if bytes <= self.frame_bytes_max => bytes,
            _ => {
                self.fail();
                return Some(Err(FrameError::TooLarge { length, max: self.frame_bytes_max }));
            }
        };
        if frame_bytes > self.buffered_bytes() {
            return None;
        }
        let payload = self.start + LENGTH_BYTES..self.start + frame_bytes;
        self.start += frame_bytes;
        Some(Ok(&self.buffer[payload]))
    }

    /// The next frame's length, once its prefix has arrived.
    fn announced(&self) -> Option<u64> {
        let prefix = self.buffer[self.start..self.end].first_chunk::<LENGTH_BYTES>()?;
        Some(u64::from_le_bytes(*prefix))
    }

    /// Called with the storage's end reached: makes space by moving the unread bytes to the front, or
    /// by doubling, unless a whole frame is there to be taken first.
    fn make_room(&mut self) {
        if self.has_frame() && self.buffer.len() >= self.frame_bytes_max {
            return;
        }
        // Moving is worth it when it frees at least half of the storage, or when nothing else can.
        let may_grow = self.buffer.len() < self.frame_bytes_max;
        if self.start > 0 && (self.start >= self.buffer.len() / 2 || !may_grow) {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        } else if may_grow {
            let doubled = (self.buffer.len() * 2).max(BUFFER_BYTES_START);
            self.buffer.resize(doubled.min(self.frame_bytes_max), 0);
        }
    }

    /// Between frames the storage goes back to its first size, so that one large request does not
    /// stay in memory for as long as its client is connected.
    fn shrink_if_drained(&mut self) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.buffer.len() > BUFFER_BYTES_START {
                self.buffer.truncate(BUFFER_BYTES_START);
                self.buffer.shrink_to_fit();
            }
        }
    }

    fn fail(&mut self) {
        self.failed = true;
        self.buffer = Vec::new();
        self.start = 0;
        self.end = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::Response;

    const MAX: usize = 20_000;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() + LENGTH_BYTES) as u64;
        [&length.to_le_bytes(), payload].concat()
    }

    /// Feeds `input` in pieces of the given sizes, over and over, and gathers what comes out.
    fn read(input: &[u8], pieces: &[usize], frame_bytes_max: usize) -> Vec<Result<Vec<u8>, FrameError>> {
        let mut reader = FrameReader::new(frame_bytes_max);
        let mut frames = Vec::new();
        let mut pieces = pieces.iter().cycle();
        let mut rest = input;
        while !rest.is_empty() && !reader.has_failed() {
            let piece = rest.len().min(*pieces.next().expect("a cycle"));
            let taken = reader.feed(&rest[..piece]);
            rest = &rest[taken..];
            assert!(reader.capacity_bytes() <= reader.frame_bytes_max());
            while let Some(payload) = reader.next_payload() {
                frames.push(payload.map(<[u8]>::to_vec));
            }
            assert!(!reader.has_frame(), "what has_frame promises, next_payload gives");
            assert!(
                reader.buffered_bytes() < reader.frame_bytes_max(),
                "the largest frame leaves room for no more"
            );
        }
        frames
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..8),
            pieces in prop::collection::vec(1_usize..10_000, 1..20),
        ) {
            let input: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload)).collect();
            let expected: Vec<_> = payloads.into_iter().map(Ok).collect();
            prop_assert_eq!(read(&input, &pieces, MAX), expected);
        }

        #[test]
        fn garbage_gives_the_same_in_any_split_and_never_more_than_the_limit(
            input in prop::collection::vec(prop_oneof![3 => Just(0_u8), 1 => 0_u8..30, 1 => any::<u8>()], 0..600),
            pieces in prop::collection::vec(1_usize..40, 1..20),
            max in LENGTH_BYTES..200,
        ) {
            let frames = read(&input, &pieces, max);
            for (index, frame) in frames.iter().enumerate() {
                match frame {
                    Ok(payload) => prop_assert!(payload.len() + LENGTH_BYTES <= max),
                    Err(FrameError::TooShort { length }) => prop_assert!(*length < LENGTH_BYTES as u64),
                    Err(error) => prop_assert!(error.is_fatal() && index + 1 == frames.len()),
                }
            }
            prop_assert_eq!(frames, read(&input, &[input.len().max(1)], max));
        }

        #[test]
        fn a_message_round_trips(text in ".{0,100}", status in 0..3) {
            let message = Response { status, message: text, content: None };
            let mut bytes = vec![1, 2, 3];
            encode_frame_within(&message, MAX, &mut bytes).expect("it is small");
            let frames = read(&bytes[3..], &[5], MAX);
            prop_assert_eq!(frames.len(), 1);
            let payload = frames[0].as_ref().expect("a frame");
            prop_assert_eq!(Response::decode(payload.as_slice()).expect("a message"), message);
        }
    }

    #[test]
    fn the_limit_counts_the_prefix() {
        let whole = frame(&[7; 92]);
        assert_eq!(read(&whole, &[100], 100), [Ok(vec![7; 92])]);
        assert_eq!(read(&whole, &[1], 99), [Err(FrameError::TooLarge { length: 100, max: 99 })]);

        let message = Response { status: 0, message: "x".repeat(86), content: None };
        let mut out = Vec::new();
        assert_eq!(
            encode_frame_within(&message, 97, &mut out),
            Err(FrameError::TooLarge { length: 98, max: 97 })
        );
        assert!(out.is_empty());
        encode_frame_within(&message, 98, &mut out).expect("it fits");
        assert_eq!(out.len(), 98);
    }

    #[test]
    fn a_promise_allocates_nothing_and_a_drained_reader_shrinks() {
        let mut reader = FrameReader::new(2_000_000);
        assert_eq!(reader.feed(&2_000_000_u64.to_le_bytes()), 8);
        assert_eq!(reader.capacity_bytes(), BUFFER_BYTES_START);
        assert_eq!(reader.next_payload(), None);

        assert_eq!(reader.feed(&vec![0; 1_999_992]), 1_999_992);
        assert_eq!(reader.feed(&[1]), 0, "the largest frame fills the reader");
        assert_eq!(reader.next_payload().expect("whole").expect("sound").len(), 1_999_992);
        assert_eq!(reader.next_payload(), None);
        assert_eq!(reader.capacity_bytes(), BUFFER_BYTES_START);
    }
}
