//! Handshake messages after the handshake (RFC 8446 §4.6), however they are spread over records.
//!
//! ```text
//!               4 bytes of head             value
//!   ┌─> Head ───────┬────────────> KeyUpdate ─────> keys change: the record must end here
//!   │               └────────────> Ticket ──┐
//!   └──────────────── all of it skipped ────┘
//! ```
//! Session tickets are read over: a connection to a backend outlives many requests, and the next one does a
//! handshake of its own.

use super::violation::Violation;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Type and length of a handshake message.
pub(super) const HEAD_BYTES: usize = 4;

/// A KeyUpdate that asks for none, and one that does.
pub(super) const KEY_UPDATE_NOT_REQUESTED: [u8; HEAD_BYTES + 1] = [KEY_UPDATE, 0, 0, 1, 0];

/// Shortest and longest body of a NewSessionTicket: the sum of its fields' bounds (RFC 8446 §4.6.1).
const TICKET_BYTES_MIN: usize = 4 + 4 + 1 + (2 + 1) + 2;
const TICKET_BYTES_MAX: usize = 4 + 4 + (1 + 255) + (2 + 65_535) + (2 + 65_534);

/// Which keys change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyUpdate {
    /// The peer's.
    Theirs,
    /// The peer's, and ours before we send data again.
    Both,
}

/// Where in a handshake message the peer's last record ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The rest of a head, of which so many bytes have come.
    Head { bytes: [u8; HEAD_BYTES], filled: usize },
    /// The value of a KeyUpdate.
    KeyUpdate,
    /// So many bytes of a ticket.
    Ticket { left: usize },
}

impl Awaited {
    /// Between two messages.
    pub(super) const START: Self = Self::Head { bytes: [0; HEAD_BYTES], filled: 0 };

    /// Reads the content of a record; `tickets` tells whether this peer may send them.
    pub(super) fn read(&mut self, content: &[u8], tickets: bool) -> Result<Option<KeyUpdate>, Violation> {
        let mut rest = content;
        while let Some((&byte, behind)) = rest.split_first() {
            match self {
                Self::Head { bytes, filled } => {
                    if *filled == 0 && byte != KEY_UPDATE && !(tickets && byte == NEW_SESSION_TICKET) {
                        return Err(Violation::HandshakeType(byte));
                    }
                    if let Some(place) = bytes.get_mut(*filled) {
                        *place = byte;
                    }
                    *filled += 1;
                    rest = behind;
                    if *filled == HEAD_BYTES {
                        *self = Self::body(*bytes)?;
                    }
                }
                Self::KeyUpdate => {
                    let update = match byte {
                        0 => KeyUpdate::Theirs,
                        1 => KeyUpdate::Both,
                        value => return Err(Violation::KeyUpdateValue(value)),
                    };
                    if !behind.is_empty() {
                        return Err(Violation::AcrossKeys);
                    }
                    *self = Self::START;
                    return Ok(Some(update));
                }
                Self::Ticket { left } => {
                    let skipped = rest.len().min(*left);
                    rest = rest.get(skipped..).unwrap_or_default();
                    *left -= skipped;
                    if *left == 0 {
                        *self = Self::START;
                    }
                }
            }
        }
        Ok(None)
    }

    fn body([kind, high, middle, low]: [u8; HEAD_BYTES]) -> Result<Self, Violation> {
        let bytes = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match (kind, bytes) {
            (KEY_UPDATE, 1) => Ok(Self::KeyUpdate),
            (NEW_SESSION_TICKET, TICKET_BYTES_MIN..=TICKET_BYTES_MAX) => Ok(Self::Ticket { left: bytes }),
            _ => Err(Violation::HandshakeLength { kind, bytes }),
        }
    }
}
