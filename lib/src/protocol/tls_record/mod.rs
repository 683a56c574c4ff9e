//! The TLS 1.3 record layer after the handshake (RFC 8446 §5): what rustls has begun, run to its end.
//!
//! ```text
//!   0     1     3     5                                     5 + length
//!   ├─────┼─────┼─────┼─────────────────────────────────┬───┤
//!   │ 23  │ 3,3 │ len │ content │ type │ zeros │         │tag│
//!   └─────┴─────┴─────┴─────────┴──────┴───────┴─────────┴───┘
//!    header, authenticated     sealed: at most 2^14 + 1      16
//! ```
//!
//! Read [`RecordLayer`] first. It holds no bytes of the connection: records are opened where they were
//! received and sealed where they are sent from. Handshakes are not done here, nor are TLS 1.2, early data,
//! and padding of ours. A peer's session tickets are read over, and a ChangeCipherSpec is refused, as its
//! time has passed (§5).
//!
//! Whatever state there is can be taken out ([`RecordLayer::freeze`]) and put to use by another process.

mod frozen;
mod handshake;
mod key;
mod suite;
#[cfg(test)]
mod tests;
mod violation;

use std::fmt;
use std::ops::Range;

use rustls::AlertDescription;

pub use frozen::{FROZEN_BYTES_MAX, Frozen, Unthawable};
use handshake::{Awaited, KEY_UPDATE_NOT_REQUESTED, KeyUpdate};
use key::{APPLICATION_DATA, Direction, Unopenable, Unsealable};
pub use key::{Traffic, TrafficSecret};
pub use suite::{Suite, UnknownSuite};
pub use violation::Violation;

/// Type, version and length in front of each record.
pub const HEADER_BYTES: usize = 5;
/// The content's type, sealed behind it.
const CONTENT_TYPE_BYTES: usize = 1;
/// All suites have tags of this length.
const TAG_BYTES: usize = 16;
/// What follows the plaintext in a record of ours.
pub const TRAILER_BYTES: usize = CONTENT_TYPE_BYTES + TAG_BYTES;
/// By how much a record of ours is longer than its plaintext.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TRAILER_BYTES;

/// Most plaintext in a record (RFC 8446 §5.1).
pub const PLAINTEXT_BYTES_MAX: usize = 1 << 14;
/// Most bytes of a received record behind its header (§5.2).
const SEALED_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + 256;
/// Longest record that is received: a buffer of this size holds any.
pub const RECORD_BYTES_MAX: usize = HEADER_BYTES + SEALED_BYTES_MAX;

/// What a KeyUpdate of ours takes.
pub const KEY_UPDATE_RECORD_BYTES: usize = OVERHEAD_BYTES + KEY_UPDATE_NOT_REQUESTED.len();
/// What an alert of ours takes.
pub const ALERT_RECORD_BYTES: usize = OVERHEAD_BYTES + 2;

/// Records that we seal with one key, the KeyUpdate that ends it included. For AES-GCM the bound is 2^24.5
/// (RFC 8446 §5.5); ChaCha20-Poly1305 has none, but one rule for all suites is tested with each.
pub const RECORDS_PER_KEY_MAX: u64 = 1 << 24;

/// Records without data in a row: empty ones, key updates, tickets and their parts. Each costs us work and the
/// peer next to nothing. OpenSSL, BoringSSL and rustls stop at 32, too.
pub const SILENT_RECORDS_MAX: u8 = 32;

const _: () = assert!(SEALED_BYTES_MAX + TAG_BYTES <= u16::MAX as usize, "a length has 16 bits");
const _: () = assert!(SILENT_RECORDS_MAX > 10, "the longest ticket, in records of full size, and an answer");

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

const LEVEL_WARNING: u8 = 1;
const LEVEL_FATAL: u8 = 2;

/// Which side we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Towards clients.
    Server,
    /// Towards backends.
    Client,
}

/// Why a connection cannot be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Of another suite.
    #[error("a traffic secret of {bytes} bytes, {expected} are needed")]
    SecretLength {
        /// What was given.
        bytes: usize,
        /// What the suite has.
        expected: usize,
    },
    /// The provider refused to make a key; it has no reason to.
    #[error("a key cannot be derived")]
    Derivation,
}

/// What came of the first record of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// There is no whole record. Nothing was changed.
    Partial {
        /// Bytes that the input needs before it is worth another call; always more than it has.
        wanted: usize,
    },
    /// A record.
    Record {
        /// Its bytes.
        consumed: usize,
        /// Where in the input its data is: empty for a record that brings none.
        data: Range<usize>,
    },
    /// The peer has said that it sends nothing more (RFC 8446 §6.1).
    Closed {
        /// The alert's bytes; all of the input, when it had come before.
        consumed: usize,
    },
}

/// What a call of [`RecordLayer::seal`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Bytes of plaintext that are in records now.
    pub taken: usize,
    /// Bytes of output.
    pub produced: usize,
}

/// Why nothing was sealed. Never the peer's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// After our close_notify or alert nothing may follow.
    #[error("this side of the connection is closed")]
    Closed,
    /// More than [`PLAINTEXT_BYTES_MAX`] for one record, or less room than it takes.
    #[error("no room for a record")]
    NoRoom,
    /// The provider failed, or the connection was taken over with a record number out of range.
    #[error("the record cannot be sealed")]
    Exhausted,
}

impl From<Unsealable> for SealError {
    fn from(error: Unsealable) -> Self {
        match error {
            Unsealable::NoRoom => Self::NoRoom,
            Unsealable::Numbers | Unsealable::Cipher => Self::Exhausted,
        }
    }
}

/// What may still come from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    Closed,
    Failed(Violation),
}

/// A connection after its handshake, either role.
///
/// [`open`](Self::open) is called while there is input, one record each time. If it tells of a violation,
/// [`alert`](Self::alert) gives what is sent before the connection is closed. Output is made by
/// [`seal`](Self::seal); when [`owes_output`](Self::owes_output) after an `open`, also without data. The two
/// directions are closed apart: by [`close_notify`](Self::close_notify), and by [`Opened::Closed`]. An input
/// that ends without the latter was cut off; what that means is the caller's to judge.
pub struct RecordLayer {
    role: Role,
    suite: Suite,
    ours: Direction,
    theirs: Direction,
    reading: Reading,
    /// We have sent close_notify or an alert.
    closed: bool,
    /// The peer has asked us to change our key, and we have not yet.
    update_owed: bool,
    /// Records without data since the last with some.
    silent: u8,
    awaited: Awaited,
}

impl RecordLayer {
    /// Takes over where a handshake has ended: `ours` is what we seal with, `theirs` what we open with.
    ///
    /// # Errors
    /// If a secret is not of the suite's length.
    pub fn new(role: Role, suite: Suite, ours: Traffic, theirs: Traffic) -> Result<Self, SetupError> {
        let expected = suite.secret_bytes();
        let direction = |traffic: Traffic| {
            let bytes = traffic.secret.as_bytes().len();
            if bytes != expected {
                return Err(SetupError::SecretLength { bytes, expected });
            }
            Direction::new(suite, traffic).map_err(|_| SetupError::Derivation)
        };
        Ok(Self {
            role,
            suite,
            ours: direction(ours)?,
            theirs: direction(theirs)?,
            reading: Reading::Open,
            closed: false,
            update_owed: false,
            silent: 0,
            awaited: Awaited::START,
        })
    }

    /// Which side we are.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What the connection is protected with.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Opens the first record of `input`, in place.
    ///
    /// # Errors
    /// What the peer did wrong; then, the same at each further call.
    pub fn open(&mut self, input: &mut [u8]) -> Result<Opened, Violation> {
        match self.reading {
            Reading::Open => {}
            // What follows is ignored (RFC 8446 §6.1).
            Reading::Closed => return Ok(Opened::Closed { consumed: input.len() }),
            Reading::Failed(violation) => return Err(violation),
        }
        let opened = self.open_record(input);
        match opened {
            Ok(Opened::Closed { .. }) => self.reading = Reading::Closed,
            Ok(_) => {}
            Err(violation) => self.reading = Reading::Failed(violation),
        }
        opened
    }

    fn open_record(&mut self, input: &mut [u8]) -> Result<Opened, Violation> {
        // Judged as early as it can be told, so that what is no TLS is not waited for. The version is not:
        // but as part of the header it is authenticated.
        if let Some(&other) = input.first().filter(|&&kind| kind != APPLICATION_DATA) {
            return Err(Violation::Unprotected(other));
        }
        let Some((&mut header, rest)) = input.split_first_chunk_mut::<HEADER_BYTES>() else {
            return Ok(Opened::Partial { wanted: HEADER_BYTES });
        };
        let [_, _, _, high, low] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > SEALED_BYTES_MAX {
            return Err(Violation::RecordTooLong(length));
        }
        let consumed = HEADER_BYTES + length;
        let Some(body) = rest.get_mut(..length) else {
            return Ok(Opened::Partial { wanted: consumed });
        };
        let inner = self.theirs.open(header, body).map_err(|error| match error {
            Unopenable::Mac => Violation::BadMac,
            Unopenable::Numbers => Violation::Numbers,
        })?;
        if inner.len() > PLAINTEXT_BYTES_MAX + CONTENT_TYPE_BYTES {
            return Err(Violation::ContentTooLong(inner.len()));
        }
        // Padding is zeros, a type is none (RFC 8446 §5.4).
        let bytes = inner.iter().rposition(|&byte| byte != 0).ok_or(Violation::OnlyPadding)?;
        let (content, padded) = inner.split_at(bytes);
        let kind = padded.first().copied().unwrap_or_default();
        if kind != HANDSHAKE && self.awaited != Awaited::START {
            return Err(Violation::Interleaved(kind));
        }
        if kind == APPLICATION_DATA && bytes > 0 {
            self.silent = 0;
            return Ok(Opened::Record { consumed, data: HEADER_BYTES..HEADER_BYTES + bytes });
        }
        if kind != APPLICATION_DATA && bytes == 0 && matches!(kind, ALERT | HANDSHAKE) {
            return Err(Violation::EmptyRecord(kind));
        }
        match kind {
            APPLICATION_DATA => {}
            ALERT => match judge_alert(content)? {
                AlertDescription::CloseNotify => return Ok(Opened::Closed { consumed }),
                // Only says why close_notify will follow.
                AlertDescription::UserCanceled => {}
                // The level says nothing, and unknown ones are errors as well (RFC 8446 §6.2).
                description => return Err(Violation::Alert(description)),
            },
            HANDSHAKE => {
                if let Some(update) = self.awaited.read(content, self.role == Role::Client)? {
                    self.update_theirs(update)?;
                }
            }
            other => return Err(Violation::ContentType(other)),
        }
        self.silent += 1;
        if self.silent > SILENT_RECORDS_MAX {
            return Err(Violation::Silent);
        }
        Ok(Opened::Record { consumed, data: HEADER_BYTES..HEADER_BYTES })
    }

    fn update_theirs(&mut self, update: KeyUpdate) -> Result<(), Violation> {
        self.theirs = self.theirs.next(self.suite).map_err(|_| Violation::Derivation)?;
        // Several requests before we write are answered by one (RFC 8446 §4.6.3).
        self.update_owed |= update == KeyUpdate::Both;
        Ok(())
    }

    /// Most bytes that [`seal`](Self::seal) writes for so much plaintext, a KeyUpdate included.
    pub const fn sealed_bytes_max(plain: usize) -> usize {
        KEY_UPDATE_RECORD_BYTES + plain + plain.div_ceil(PLAINTEXT_BYTES_MAX) * OVERHEAD_BYTES
    }

    /// Whether a KeyUpdate waits to be sent, data or not. [`seal`](Self::seal) writes it.
    pub fn owes_output(&self) -> bool {
        self.update_owed && !self.closed
    }

    /// Whether close_notify or an alert has been written, so that nothing may follow.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Seals as much of `first`, then of `second`, as `out` has room for, which may be nothing. A KeyUpdate that
    /// is due goes first, also without data.
    ///
    /// The plaintext is read once: sealed from where it is into `out`, unless a record has parts of both.
    ///
    /// # Errors
    /// See [`SealError`]. What earlier records of this call have in `out` is then lost, and so is the
    /// connection.
    pub fn seal(&mut self, first: &[u8], second: &[u8], out: &mut [u8]) -> Result<Sealed, SealError> {
        if self.closed {
            return Err(SealError::Closed);
        }
        let (mut first, mut second) = (first, second);
        let mut sealed = Sealed { taken: 0, produced: 0 };
        loop {
            let room = out.get_mut(sealed.produced..).unwrap_or_default();
            let waiting = first.len() + second.len();
            if self.update_due(waiting) {
                if room.len() < KEY_UPDATE_RECORD_BYTES {
                    return Ok(sealed);
                }
                sealed.produced += self.update_ours(room)?;
                continue;
            }
            let plain = waiting.min(PLAINTEXT_BYTES_MAX).min(room.len().saturating_sub(OVERHEAD_BYTES));
            if plain == 0 {
                return Ok(sealed);
            }
            sealed.produced += self.seal_record(&mut first, &mut second, plain, room)?;
            sealed.taken += plain;
        }
    }

    /// Seals the next `plain` bytes, and moves the slices behind them.
    fn seal_record(
        &mut self,
        first: &mut &[u8],
        second: &mut &[u8],
        plain: usize,
        record: &mut [u8],
    ) -> Result<usize, SealError> {
        let (head, first_rest) = first.split_at(plain.min(first.len()));
        let (tail, second_rest) = second.split_at((plain - head.len()).min(second.len()));
        (*first, *second) = (first_rest, second_rest);
        let bytes = match (head, tail) {
            (content, []) | ([], content) => self.ours.seal(APPLICATION_DATA, content, record)?,
            _ => {
                let body = record.get_mut(HEADER_BYTES..HEADER_BYTES + plain).ok_or(SealError::NoRoom)?;
                let (head_place, tail_place) = body.split_at_mut(head.len());
                head_place.copy_from_slice(head);
                tail_place.copy_from_slice(tail);
                self.ours.seal_in_place(APPLICATION_DATA, record, plain)?
            }
        };
        Ok(bytes)
    }

    /// Seals the plaintext at `record[HEADER_BYTES..HEADER_BYTES + plain]` where it is, and tells how long that
    /// became. Room of [`sealed_bytes_max`](Self::sealed_bytes_max) always suffices; less does unless a
    /// KeyUpdate is due, which goes first and moves the record.
    ///
    /// # Errors
    /// See [`SealError`]. After [`SealError::NoRoom`] everything is as before.
    pub fn seal_in_place(&mut self, record: &mut [u8], plain: usize) -> Result<usize, SealError> {
        if self.closed {
            return Err(SealError::Closed);
        }
        if plain > PLAINTEXT_BYTES_MAX {
            return Err(SealError::NoRoom);
        }
        let mut front = 0;
        if self.update_due(plain) {
            if record.len() < Self::sealed_bytes_max(plain) {
                return Err(SealError::NoRoom);
            }
            let to = KEY_UPDATE_RECORD_BYTES + HEADER_BYTES;
            record.copy_within(HEADER_BYTES..HEADER_BYTES + plain, to);
            front = self.update_ours(record)?;
        }
        if plain == 0 {
            return Ok(front);
        }
        let record = record.get_mut(front..).ok_or(SealError::NoRoom)?;
        Ok(front + self.ours.seal_in_place(APPLICATION_DATA, record, plain)?)
    }

    /// Whether our key changes before so many bytes of data are sealed.
    fn update_due(&self, plain: usize) -> bool {
        // The last record of a key is the KeyUpdate that ends it.
        self.update_owed || (plain > 0 && self.ours.traffic().sequence >= RECORDS_PER_KEY_MAX - 1)
    }

    fn update_ours(&mut self, out: &mut [u8]) -> Result<usize, SealError> {
        let bytes = self.ours.seal(HANDSHAKE, &KEY_UPDATE_NOT_REQUESTED, out)?;
        self.ours = self.ours.next(self.suite).map_err(|_| SealError::Exhausted)?;
        self.update_owed = false;
        Ok(bytes)
    }

    /// Writes close_notify: after it, nothing is sealed any more. 0 if that was written before, or if there is
    /// less room than [`ALERT_RECORD_BYTES`].
    pub fn close_notify(&mut self, out: &mut [u8]) -> usize {
        self.write_alert(LEVEL_WARNING, AlertDescription::CloseNotify, out)
    }

    /// Writes the alert that tells the peer what it did. 0 if it has ended the connection itself, if we had
    /// closed it, or if there is less room than [`ALERT_RECORD_BYTES`].
    pub fn alert(&mut self, violation: &Violation, out: &mut [u8]) -> usize {
        match violation.alert() {
            Some(description) => self.write_alert(LEVEL_FATAL, description, out),
            None => 0,
        }
    }

    fn write_alert(&mut self, level: u8, description: AlertDescription, out: &mut [u8]) -> usize {
        if self.closed || out.len() < ALERT_RECORD_BYTES {
            return 0;
        }
        self.closed = true;
        // There is nobody to tell, and nothing to do, if it fails: the connection ends in any case.
        self.ours.seal(ALERT, &[level, description.into()], out).unwrap_or(0)
    }
}

impl fmt::Debug for RecordLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordLayer")
            .field("role", &self.role)
            .field("suite", &self.suite)
            .field("ours", self.ours.traffic())
            .field("theirs", self.theirs.traffic())
            .field("reading", &self.reading)
            .field("closed", &self.closed)
            .field("update_owed", &self.update_owed)
            .finish_non_exhaustive()
    }
}

/// Whether `record`, header included, is the first one that this secret's key protects. It is spoilt afterwards.
pub fn is_first_under(secret: TrafficSecret, suite: Suite, record: &mut [u8]) -> bool {
    let Some((&mut header, body)) = record.split_first_chunk_mut::<HEADER_BYTES>() else { return false };
    Direction::new(suite, Traffic { secret, sequence: 0 })
        .is_ok_and(|mut direction| direction.open(header, body).is_ok())
}

/// The description in an alert, which has a record to itself (RFC 8446 §5.1).
fn judge_alert(content: &[u8]) -> Result<AlertDescription, Violation> {
    match content {
        &[_level, description] => Ok(description.into()),
        _ => Err(Violation::AlertLength(content.len())),
    }
}
