//! Message bodies: where they end, and chunks made canonical in place (RFC 9112 §6, §7).
//!
//! ```text
//!            size line, size > 0            data taken
//!   ┌─> Head ───────────────────> Data ──────────────┐
//!   │     │                                          v
//!   │     │ size line, size 0                     DataEnd
//!   │     v                                          │
//!   │  Trailers ── empty line ──> Done               │
//!   └────────────────────── CRLF ────────────────────┘
//! ```

use memchr::memchr;

use super::classes::{is_token_byte, is_value_byte};
use super::error::BodyError;
use super::fields::{field_kind, looks_like};
use crate::protocol::http::Framing;

/// Longest chunk size with its extension, CRLF included. Extensions have no use between strangers;
/// RFC 9112 §7.1.1 asks to limit them.
pub const CHUNK_HEAD_BYTES_MAX: usize = 256;

/// By how many bytes chunk heads may outweigh the data they announce, each head having 16 bytes
/// free. Bounds the work that bytes which nobody receives can cause (CVE-2023-39326 was this).
pub const CHUNK_OVERHEAD_BYTES_MAX: u64 = 16 * 1024;

/// Longest trailer line, CRLF included. A line is held back until it is whole, so buffers must exceed this.
pub const TRAILER_LINE_BYTES_MAX: usize = 4096;

/// Most trailer lines, dropped ones included.
pub const TRAILERS_MAX: usize = 64;

/// Most bytes of all trailer lines together.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

const _: () = assert!(CHUNK_HEAD_BYTES_MAX <= TRAILER_LINE_BYTES_MAX, "one bound for what may be held back");
const _: () = assert!(TRAILER_LINE_BYTES_MAX <= TRAILER_BYTES_MAX);

/// How a chunked body is passed on. Other framings are not affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    /// As chunks: sizes written anew, extensions dropped, trailers filtered.
    Keep,
    /// As chunks, without trailers (RFC 9110 §6.5.1 lets anybody drop them).
    KeepWithoutTrailers,
    /// As bare data, for a peer of HTTP/1.0; trailers are lost.
    Strip,
}

/// The name that our id has unless the operator gives it another one.
const ID_HEADER: &[u8] = b"sozu-id";

impl Relay {
    /// How a message goes on whose fields are `edited`, or not, and whose id is in `id_header`. What is removed
    /// from the head, or ours, is not to come behind the body.
    pub fn chunks(edited: bool, id_header: &str) -> Relay {
        // Only one name is known to the filter of trailers.
        let filtered = id_header.as_bytes().eq_ignore_ascii_case(ID_HEADER);
        if edited || !filtered { Relay::KeepWithoutTrailers } else { Relay::Keep }
    }
}

/// What one call of [`BodyReader::advance`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of input done with. What is left is an incomplete line, or belongs to the next message.
    pub consumed: usize,
    /// Bytes of output, at the front; never more than `consumed`.
    pub produced: usize,
}

/// Walks one body. Knows where it ends, holds none of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyReader {
    state: State,
    relay: Relay,
    /// Bytes by which chunk heads outweigh their data so far.
    overhead: u64,
    /// Bytes of data that chunk heads have announced.
    announced: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// So many bytes of plain data are left; never 0.
    Length {
        left: u64,
    },
    UntilClose,
    ChunkHead,
    /// So many bytes of this chunk are left; never 0.
    ChunkData {
        left: u64,
    },
    ChunkDataEnd,
    Trailers {
        lines: usize,
        bytes: usize,
    },
    Done,
}

impl BodyReader {
    /// A reader at the first byte of a body.
    pub fn new(framing: Framing, relay: Relay) -> BodyReader {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::ChunkHead,
            Framing::UntilClose => State::UntilClose,
        };
        BodyReader { state, relay, overhead: 0, announced: 0 }
    }

    /// Takes input from the front of `bytes` and puts what is to be passed on in its place.
    ///
    /// Output is `bytes[..produced]`; input not taken begins at `consumed` and must be given again,
    /// with more behind it. That is at most one line: with [`TRAILER_LINE_BYTES_MAX`] bytes of
    /// input there is always progress or an error. Once the body is complete nothing is taken.
    /// Where lengths delimit it, nothing moves.
    pub fn advance(&mut self, bytes: &mut [u8]) -> Result<Progress, BodyError> {
        let mut cursor = Cursor { bytes, read: 0, written: 0 };
        while self.step(&mut cursor)? {}
        debug_assert!(cursor.written <= cursor.read, "output overtook input");
        Ok(Progress { consumed: cursor.read, produced: cursor.written })
    }

    /// Whether all of the body was taken.
    pub fn is_complete(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of data that the chunks of this body have announced so far, taken or still to come. 0 where a body
    /// is not in chunks.
    pub fn announced(&self) -> u64 {
        self.announced
    }

    /// Tells that the sender closed the connection. Only a body without announced end may end so
    /// (RFC 9112 §8).
    pub fn at_eof(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Done => Ok(()),
            State::Length { .. }
            | State::ChunkHead
            | State::ChunkData { .. }
            | State::ChunkDataEnd
            | State::Trailers { .. } => Err(BodyError::Truncated),
        }
    }

    /// How many bytes may pass by this reader, to be told with [`passed`](Self::passed): the next ones, if
    /// they go on as they are. 0 if none may.
    pub fn may_pass(&self) -> u64 {
        match self.state {
            State::Length { left } | State::ChunkData { left } => left,
            State::UntilClose => u64::MAX,
            State::ChunkHead | State::ChunkDataEnd | State::Trailers { .. } | State::Done => 0,
        }
    }

    /// So many bytes were taken and passed on without being seen here; no more than
    /// [`may_pass`](Self::may_pass).
    pub fn passed(&mut self, count: u64) {
        debug_assert!(count <= self.may_pass());
        self.state = match self.state {
            State::Length { left } if left <= count => State::Done,
            State::Length { left } => State::Length { left: left - count },
            State::ChunkData { left } if left <= count => State::ChunkDataEnd,
            State::ChunkData { left } => State::ChunkData { left: left - count },
            State::UntilClose
            | State::ChunkHead
            | State::ChunkDataEnd
            | State::Trailers { .. }
            | State::Done => return,
        };
    }

    /// One step; false when there is nothing more to do with this input.
    fn step(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, BodyError> {
        match self.state {
            State::Done => Ok(false),
            State::UntilClose => {
                cursor.keep_up_to(u64::MAX);
                Ok(false)
            }
            State::Length { left } => {
                let left = left - cursor.keep_up_to(left);
                self.state = if left == 0 { State::Done } else { State::Length { left } };
                Ok(false)
            }
            State::ChunkData { left } => {
                let left = left - cursor.keep_up_to(left);
                self.state = if left == 0 { State::ChunkDataEnd } else { State::ChunkData { left } };
                Ok(left == 0)
            }
            State::ChunkHead => self.chunk_head(cursor),
            State::ChunkDataEnd => match cursor.rest() {
                [b'\r', b'\n', ..] => {
                    self.take_line(cursor, 2, 0..2);
                    self.state = State::ChunkHead;
                    Ok(true)
                }
                [] | [b'\r'] => Ok(false),
                _ => Err(BodyError::ChunkEnd),
            },
            State::Trailers { lines, bytes } => self.trailer(cursor, lines, bytes),
        }
    }

    fn chunk_head(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, BodyError> {
        // Refused before the line is whole: a peer that speaks something else may never end it.
        if cursor.rest().first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
            return Err(BodyError::ChunkSize);
        }
        let too_long = BodyError::ChunkHeadTooLong { max: CHUNK_HEAD_BYTES_MAX };
        let Some(line) = cursor.line(CHUNK_HEAD_BYTES_MAX).map_err(|TooLong| too_long)? else {
            return Ok(false);
        };
        let head = ChunkHead::parse(line).ok_or(BodyError::ChunkSize)?;
        let line_bytes = line.len();
        let allowance = head.size.saturating_mul(2).saturating_add(16);
        self.overhead = (self.overhead + line_bytes as u64).saturating_sub(allowance);
        if self.overhead > CHUNK_OVERHEAD_BYTES_MAX {
            return Err(BodyError::ChunkOverhead);
        }
        self.announced = self.announced.saturating_add(head.size);
        if self.relay != Relay::Strip {
            // The CRLF goes with the digits: moved first, it leaves no gap for what followed them.
            cursor.close_gap_in_line(head.digits.end, line_bytes);
        }
        self.take_line(cursor, line_bytes, head.digits.start..head.digits.end + 2);
        self.state = match head.size {
            0 => State::Trailers { lines: 0, bytes: 0 },
            left => State::ChunkData { left },
        };
        Ok(true)
    }

    fn trailer(&mut self, cursor: &mut Cursor<'_>, lines: usize, bytes: usize) -> Result<bool, BodyError> {
        let Some(line) =
            cursor.line(TRAILER_LINE_BYTES_MAX).map_err(|TooLong| BodyError::TrailersTooLarge)?
        else {
            return Ok(false);
        };
        let line_bytes = line.len();
        if line == b"\r\n" {
            self.take_line(cursor, line_bytes, 0..line_bytes);
            self.state = State::Done;
            return Ok(false);
        }
        let (lines, bytes) = (lines + 1, bytes + line_bytes);
        if lines > TRAILERS_MAX || bytes > TRAILER_BYTES_MAX {
            return Err(BodyError::TrailersTooLarge);
        }
        let kept = is_kept_trailer(line)? && self.relay == Relay::Keep;
        self.take_line(cursor, line_bytes, if kept { 0..line_bytes } else { 0..0 });
        self.state = State::Trailers { lines, bytes };
        Ok(true)
    }

    /// Takes a line; of it, `kept` is passed on, unless framing is stripped altogether.
    fn take_line(&self, cursor: &mut Cursor<'_>, line_bytes: usize, kept: std::ops::Range<usize>) {
        cursor.take(line_bytes, if self.relay == Relay::Strip { 0..0 } else { kept });
    }
}

/// A chunk's size line, understood.
struct ChunkHead {
    size: u64,
    /// Where the digits are, leading zeros left out.
    digits: std::ops::Range<usize>,
}

/// Most digits of a chunk size: as many as 64 bits have. More say nothing that fewer can't, and some
/// recipients cut them off.
const CHUNK_SIZE_DIGITS_MAX: usize = 16;

impl ChunkHead {
    /// `chunk-size [ chunk-ext ] CRLF`.
    fn parse(line: &[u8]) -> Option<ChunkHead> {
        let line = line.strip_suffix(b"\r\n")?;
        let digits_end = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extensions) = line.split_at_checked(digits_end)?;
        if digits.is_empty() || digits.len() > CHUNK_SIZE_DIGITS_MAX || !are_extensions(extensions) {
            return None;
        }
        let size = digits.iter().try_fold(0, |size, digit| {
            char::from(*digit).to_digit(16).map(|digit| size << 4 | u64::from(digit))
        })?;
        // Who counts with a sign would see a negative size beyond this.
        i64::try_from(size).ok()?;
        let zeros = digits.iter().take_while(|&&digit| digit == b'0').count().min(digits_end - 1);
        Some(ChunkHead { size, digits: zeros..digits_end })
    }
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )` (RFC 9112 §7.1.1). Nobody reads them; what
/// is no extension may be part of the size, or the end of the line, to somebody else.
fn are_extensions(text: &[u8]) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let Some(tail) = blanks(rest).strip_prefix(b";") else { return false };
        let Some(tail) = after_token(blanks(tail)) else { return false };
        rest = match blanks(tail) {
            [b'=', value @ ..] => match after_value(blanks(value)) {
                Some(tail) => tail,
                None => return false,
            },
            _ => tail,
        };
    }
    true
}

/// What follows the blanks at the start.
fn blanks(text: &[u8]) -> &[u8] {
    let count = text.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
    text.get(count..).unwrap_or_default()
}

fn after_token(text: &[u8]) -> Option<&[u8]> {
    let count = text.iter().take_while(|&&byte| is_token_byte(byte)).count();
    if count == 0 { None } else { text.get(count..) }
}

/// What follows a token or a quoted string (RFC 9110 §5.6.4).
fn after_value(text: &[u8]) -> Option<&[u8]> {
    let Some(mut rest) = text.strip_prefix(b"\"") else { return after_token(text) };
    loop {
        rest = match rest {
            [b'"', tail @ ..] => return Some(tail),
            [b'\\', escaped, tail @ ..] if is_value_byte(*escaped) => tail,
            [byte, tail @ ..] if *byte != b'\\' && is_value_byte(*byte) => tail,
            _ => return None,
        };
    }
}

/// Whether a trailer line is passed on; an error if it is no field line.
fn is_kept_trailer(line: &[u8]) -> Result<bool, BodyError> {
    let line = line.strip_suffix(b"\r\n").ok_or(BodyError::Trailer)?;
    let colon = memchr(b':', line).ok_or(BodyError::Trailer)?;
    let (name, value) = line.split_at_checked(colon).ok_or(BodyError::Trailer)?;
    if name.is_empty() || !name.iter().all(|&byte| is_token_byte(byte)) {
        return Err(BodyError::Trailer);
    }
    if !value.iter().all(|&byte| is_value_byte(byte)) {
        return Err(BodyError::Trailer);
    }
    if looks_like(ID_HEADER, name) {
        return Ok(false);
    }
    // Names that look like those of framing fields are no better than these.
    Ok(field_kind(name).is_ok_and(|kind| !kind.is_forbidden_in_trailers()))
}

struct TooLong;

/// Input ahead of `read`, output behind `written`, in one buffer.
struct Cursor<'a> {
    bytes: &'a mut [u8],
    read: usize,
    written: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.read..).unwrap_or_default()
    }

    /// The next line with its line feed, if it is whole; an error once it must be longer than `max`.
    fn line(&self, max: usize) -> Result<Option<&[u8]>, TooLong> {
        let rest = self.rest();
        let within = rest.get(..max).unwrap_or(rest);
        match memchr(b'\n', within) {
            Some(line_feed) => Ok(within.get(..=line_feed)),
            None if within.len() == max => Err(TooLong),
            None => Ok(None),
        }
    }

    /// Passes on at most `max` bytes as they are; says how many.
    fn keep_up_to(&mut self, max: u64) -> u64 {
        let available = self.rest().len();
        let count = usize::try_from(max).map_or(available, |max| max.min(available));
        self.take(count, 0..count);
        count as u64
    }

    /// Consumes `count` bytes, of which those in `kept`, counted from here, are passed on.
    fn take(&mut self, count: usize, kept: std::ops::Range<usize>) {
        debug_assert!(kept.end <= count && self.read + count <= self.bytes.len());
        let (start, end) = (self.read + kept.start, self.read + kept.end);
        if start != self.written && start < end {
            self.bytes.copy_within(start..end, self.written);
        }
        self.written += end - start;
        self.read += count;
    }

    /// Moves the CRLF at the end of the coming line to `at`, both counted from here.
    fn close_gap_in_line(&mut self, at: usize, line_bytes: usize) {
        let line = self.bytes.get_mut(self.read..self.read + line_bytes).unwrap_or_default();
        if let Some(place) = line.get_mut(at..at + 2) {
            place.copy_from_slice(b"\r\n");
        }
    }
}
