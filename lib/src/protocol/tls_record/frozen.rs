//! A connection on its way to another process: a plain value, which can also be a field of a larger message.
//!
//! It can be had only by giving up the [`RecordLayer`], and is used up by becoming one again. Who carries it
//! sees to it that the old side has nothing left to write with before the new side thaws: the same number
//! used twice with one key gives both plaintexts away.

use std::fmt;

use prost::Message;
use rustls::CipherSuite;
use zeroize::{Zeroize, Zeroizing};

use super::handshake::{Awaited, HEAD_BYTES};
use super::key::{Traffic, TrafficSecret};
use super::suite::{Suite, UnknownSuite};
use super::{Reading, RecordLayer, Role, SILENT_RECORDS_MAX, SetupError};

/// Longest encoding: what is longer is none of ours. Two secrets of 48 bytes, and a few numbers.
pub const FROZEN_BYTES_MAX: usize = 256;

/// All there is to know of a connection that lies between two processes. Overwritten when dropped.
#[derive(Message)]
#[prost(skip_debug)]
pub struct Frozen {
    #[prost(bool, tag = "1")]
    pub(super) client: bool,
    /// As in RFC 8446 §B.4.
    #[prost(uint32, tag = "2")]
    pub(super) suite: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) our_secret: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(super) our_sequence: u64,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) their_secret: Vec<u8>,
    #[prost(uint64, tag = "6")]
    pub(super) their_sequence: u64,
    #[prost(bool, tag = "7")]
    pub(super) update_owed: bool,
    #[prost(bool, tag = "8")]
    pub(super) our_side_closed: bool,
    #[prost(bool, tag = "9")]
    pub(super) their_side_closed: bool,
    #[prost(bool, tag = "10")]
    pub(super) failed: bool,
    #[prost(uint32, tag = "11")]
    pub(super) silent: u32,
    /// Of a handshake message's head that is not whole.
    #[prost(bytes = "vec", tag = "12")]
    pub(super) message_head: Vec<u8>,
    #[prost(bool, tag = "13")]
    pub(super) in_key_update: bool,
    /// Bytes left of a ticket.
    #[prost(uint32, tag = "14")]
    pub(super) ticket_left: u32,
}

/// Why what came from another process is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unthawable {
    /// Not the encoding of a frozen connection.
    #[error("a frozen connection that cannot be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// Longer than any.
    #[error("a frozen connection of {0} bytes")]
    TooLong(usize),
    /// A suite that this version does not have.
    #[error(transparent)]
    Suite(#[from] UnknownSuite),
    /// Secrets that are none.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The peer had broken the protocol: what is left to do with it is an alert, which had to be sent before.
    #[error("a connection that had failed before it was frozen")]
    Failed,
    /// A field is out of its range.
    #[error("{0} is out of range")]
    Range(&'static str),
}

impl Frozen {
    /// As bytes, which are overwritten when dropped.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Allocated once, at its full size: growing would leave a copy behind.
        Zeroizing::new(self.encode_to_vec())
    }

    /// From bytes. These are the caller's to overwrite.
    ///
    /// # Errors
    /// If they are not what [`encode`](Self::encode) gives.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unthawable> {
        if bytes.len() > FROZEN_BYTES_MAX {
            return Err(Unthawable::TooLong(bytes.len()));
        }
        Ok(<Self as Message>::decode(bytes)?)
    }

    fn awaited(&self) -> Result<Awaited, Unthawable> {
        let left = usize::try_from(self.ticket_left).map_err(|_| Unthawable::Range("ticket_left"))?;
        let filled = self.message_head.len();
        match (filled, self.in_key_update, left) {
            (0, true, 0) => Ok(Awaited::KeyUpdate),
            (0, false, 1..) => Ok(Awaited::Ticket { left }),
            (0..HEAD_BYTES, false, 0) => {
                let mut bytes = [0; HEAD_BYTES];
                for (place, byte) in bytes.iter_mut().zip(&self.message_head) {
                    *place = *byte;
                }
                Ok(Awaited::Head { bytes, filled })
            }
            _ => Err(Unthawable::Range("the handshake message")),
        }
    }
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen")
            .field("suite", &self.suite)
            .field("our_sequence", &self.our_sequence)
            .field("their_sequence", &self.their_sequence)
            .finish_non_exhaustive()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.our_secret.zeroize();
        self.their_secret.zeroize();
    }
}

impl RecordLayer {
    /// Takes the connection out of this process.
    pub fn freeze(self) -> Frozen {
        let (mut message_head, mut in_key_update, mut ticket_left) = (Vec::new(), false, 0);
        match self.awaited {
            Awaited::Head { bytes, filled } => message_head.extend(bytes.iter().take(filled)),
            Awaited::KeyUpdate => in_key_update = true,
            Awaited::Ticket { left } => ticket_left = u32::try_from(left).unwrap_or(u32::MAX),
        }
        let (ours, theirs) = (self.ours.into_traffic(), self.theirs.into_traffic());
        Frozen {
            client: self.role == Role::Client,
            suite: u16::from(CipherSuite::from(self.suite)).into(),
            our_secret: ours.secret.as_bytes().to_vec(),
            our_sequence: ours.sequence,
            their_secret: theirs.secret.as_bytes().to_vec(),
            their_sequence: theirs.sequence,
            update_owed: self.update_owed,
            our_side_closed: self.closed,
            their_side_closed: self.reading == Reading::Closed,
            failed: matches!(self.reading, Reading::Failed(_)),
            silent: self.silent.into(),
            message_head,
            in_key_update,
            ticket_left,
        }
    }

    /// Puts it to use in this one.
    ///
    /// # Errors
    /// If it is not what [`freeze`](Self::freeze) gave, or had failed before.
    #[expect(clippy::needless_pass_by_value, reason = "it is used up: nobody is to thaw it a second time")]
    pub fn thaw(frozen: Frozen) -> Result<Self, Unthawable> {
        if frozen.failed {
            return Err(Unthawable::Failed);
        }
        let suite = u16::try_from(frozen.suite).map_err(|_| Unthawable::Range("suite"))?;
        let suite = Suite::try_from(CipherSuite::from(suite))?;
        let traffic = |secret: &[u8], sequence| {
            let wrong = SetupError::SecretLength { bytes: secret.len(), expected: suite.secret_bytes() };
            Ok::<_, SetupError>(Traffic { secret: TrafficSecret::new(secret).ok_or(wrong)?, sequence })
        };
        let role = if frozen.client { Role::Client } else { Role::Server };
        let ours = traffic(&frozen.our_secret, frozen.our_sequence)?;
        let theirs = traffic(&frozen.their_secret, frozen.their_sequence)?;
        let mut layer = Self::new(role, suite, ours, theirs)?;
        layer.closed = frozen.our_side_closed;
        layer.update_owed = frozen.update_owed;
        layer.silent = u8::try_from(frozen.silent)
            .ok()
            .filter(|&silent| silent <= SILENT_RECORDS_MAX)
            .ok_or(Unthawable::Range("silent"))?;
        layer.awaited = frozen.awaited()?;
        if frozen.their_side_closed {
            layer.reading = Reading::Closed;
        }
        Ok(layer)
    }
}
