//! The first message of a TLS client, read without a key: for whom it is, and what it wants to speak.
//!
//! This is how a TLS connection is routed that we do not terminate. Nothing is consumed or changed: the bytes go to a
//! backend as they came. [`Scanner`] says when the message is whole, whatever pieces it comes in, and
//! [`Assembly`] reads it: in place if it is in one record, as nearly all are, else from a copy no longer than the bytes
//! themselves.
//!
//! What is looked at has to be well-formed (RFC 8446 §4.1.2, §5.1; RFC 6066 §3; RFC 7301 §3.1): a name that we and a backend
//! could read in two ways would be a way around the routes. What is not looked at is the backend's business: versions,
//! suites, other extensions and what follows the message. Values that are there to be ignored (RFC 8701) are.

mod message;

#[cfg(test)]
mod tests;

pub use message::{Assembly, Hello};

/// Type, version and length of a record (RFC 8446 §5.1).
const RECORD_HEADER_BYTES: usize = 5;

/// Bytes of a record's content in the clear at most (RFC 8446 §5.1).
const RECORD_CONTENT_BYTES_MAX: usize = 1 << 14;

/// The content type of handshake messages (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// The first byte of every version that a record may say: all are taken alike (RFC 8446 §5.1).
const VERSION_MAJOR: u8 = 3;

/// Type and length of a handshake message (RFC 8446 §4).
const MESSAGE_HEADER_BYTES: usize = 4;

/// The handshake message that is read (RFC 8446 §4).
const CLIENT_HELLO: u8 = 1;

/// Why the first bytes of a connection are no message that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// They are of another protocol, or of a TLS older than any that knows server names.
    #[error("the first bytes are not those of TLS")]
    NotTls,
    /// A record is empty, too long, or of another kind than the one before.
    #[error("a record is not one of a handshake, or of a length that none may have")]
    MalformedRecord,
    /// The message is not a ClientHello, or its parts contradict each other.
    #[error("the message is not a well-formed ClientHello")]
    MalformedHandshake,
    /// The message is longer than it may be.
    #[error("the ClientHello is longer than it may be")]
    TooLarge,
}

/// Tells when a ClientHello is whole. One for each connection, given all that has come of it so far whenever more came.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scanner {
    /// Where the first record begins that was not seen to its end.
    record: usize,
    /// Bytes of the message in the records before it.
    gathered: usize,
    /// The first bytes of the message, as far as they came.
    header: [u8; MESSAGE_HEADER_BYTES],
}

impl Scanner {
    /// Whether `bytes`, all that came since the beginning, hold a whole message. At most `bytes_max` of them are looked
    /// at, the headers of records included. Costs in all what it costs to look once at each record.
    ///
    /// # Errors
    /// What is there is no such message, or does not end within `bytes_max`. Then it stays so.
    pub fn scan(&mut self, bytes: &[u8], bytes_max: usize) -> Result<bool, Rejection> {
        let bytes = bytes.get(..bytes_max).unwrap_or(bytes);
        loop {
            let content = match self.record_content(bytes)? {
                Some(content) => content,
                None if bytes.len() >= bytes_max => return Err(Rejection::TooLarge),
                None => return Ok(false),
            };
            let (came, length) = content;
            let seen = self.gathered + came.len();
            if let Some(missing) = self.header.get_mut(self.gathered..) {
                for (to, from) in missing.iter_mut().zip(came) {
                    *to = *from;
                }
            }
            let [kind, long @ ..] = self.header;
            if seen > 0 && kind != CLIENT_HELLO {
                return Err(Rejection::MalformedHandshake);
            }
            if seen >= MESSAGE_HEADER_BYTES {
                let message = MESSAGE_HEADER_BYTES + length_of(&long);
                if message.saturating_add(RECORD_HEADER_BYTES) > bytes_max {
                    return Err(Rejection::TooLarge);
                }
                if seen >= message {
                    return Ok(true);
                }
            }
            if came.len() < length {
                return if bytes.len() >= bytes_max { Err(Rejection::TooLarge) } else { Ok(false) };
            }
            self.gathered += length;
            self.record += RECORD_HEADER_BYTES + length;
        }
    }

    /// What came of the present record's content, and how long that is to be; none before its header is whole.
    fn record_content<'b>(&self, bytes: &'b [u8]) -> Result<Option<(&'b [u8], usize)>, Rejection> {
        let bytes = bytes.get(self.record..).unwrap_or_default();
        let strange = if self.record == 0 { Rejection::NotTls } else { Rejection::MalformedRecord };
        if bytes.first().is_some_and(|&kind| kind != HANDSHAKE)
            || bytes.get(1).is_some_and(|&major| major != VERSION_MAJOR)
        {
            return Err(strange);
        }
        let Some((header, rest)) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>() else { return Ok(None) };
        let [_, _, _, length @ ..] = header;
        let length = length_of(length);
        if !(1..=RECORD_CONTENT_BYTES_MAX).contains(&length) {
            return Err(Rejection::MalformedRecord);
        }
        Ok(Some((rest.get(..length).unwrap_or(rest), length)))
    }
}

/// A length on the wire, of two or three bytes.
fn length_of(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte))
}
