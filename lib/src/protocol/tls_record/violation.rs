//! What a peer can do wrong, and the alert that tells it (RFC 8446 §6.2).

use rustls::AlertDescription;

/// Why a connection is over. Always the peer's doing; the connection cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A record that is not protected, ChangeCipherSpec among them (RFC 8446 §5).
    #[error("an unprotected record, of type {0}")]
    Unprotected(u8),
    /// A protected record longer than 2^14 + 256 bytes (§5.2).
    #[error("a record of {0} bytes")]
    RecordTooLong(usize),
    /// Content, type and padding together longer than 2^14 + 1 bytes (§5.4).
    #[error("a record with {0} bytes of content and padding")]
    ContentTooLong(usize),
    /// The record was not sealed with the peer's key, in this place of the stream (§5.2).
    #[error("a record that cannot be authenticated")]
    BadMac,
    /// Nothing but padding in a record (§5.4).
    #[error("a record without a type")]
    OnlyPadding,
    /// Content of a type that has no place after the handshake (§5).
    #[error("content of type {0}")]
    ContentType(u8),
    /// Neither an alert nor a handshake message may be empty (§5.4).
    #[error("an empty record of type {0}")]
    EmptyRecord(u8),
    /// An alert has two bytes, and a record to itself (§5.1).
    #[error("an alert of {0} bytes")]
    AlertLength(usize),
    /// Something else within a handshake message that is spread over records (§5.1).
    #[error("content of type {0} within a handshake message")]
    Interleaved(u8),
    /// A handshake message that has no place after the handshake, or not from this side (§4.6).
    #[error("a handshake message of type {0}")]
    HandshakeType(u8),
    /// A handshake message with a length that its type cannot have (§4.6).
    #[error("a handshake message of type {kind} and {bytes} bytes")]
    HandshakeLength {
        /// The message's type.
        kind: u8,
        /// The length it claims.
        bytes: usize,
    },
    /// A KeyUpdate that neither requests nor does not (§4.6.3).
    #[error("a KeyUpdate with the value {0}")]
    KeyUpdateValue(u8),
    /// More handshake bytes in the record that a KeyUpdate ends (§5.1).
    #[error("handshake messages across a change of keys")]
    AcrossKeys,
    /// More records in a row without data than [`super::SILENT_RECORDS_MAX`].
    #[error("too many records without data")]
    Silent,
    /// The peer has sent 2^64 records with one key (§5.3).
    #[error("no record number is left")]
    Numbers,
    /// The next key could not be derived; our provider's doing, never seen.
    #[error("the peer's next key cannot be derived")]
    Derivation,
    /// The peer has ended the connection with this alert (§6.2).
    #[error("the peer's alert {0:?}")]
    Alert(AlertDescription),
}

impl Violation {
    /// What the peer is told. `None` if it has ended the connection itself, which is not answered.
    pub fn alert(self) -> Option<AlertDescription> {
        match self {
            Self::Unprotected(_)
            | Self::OnlyPadding
            | Self::ContentType(_)
            | Self::EmptyRecord(_)
            | Self::Interleaved(_)
            | Self::HandshakeType(_)
            | Self::AcrossKeys
            | Self::Silent => Some(AlertDescription::UnexpectedMessage),
            Self::RecordTooLong(_) | Self::ContentTooLong(_) => Some(AlertDescription::RecordOverflow),
            Self::BadMac => Some(AlertDescription::BadRecordMac),
            Self::AlertLength(_) | Self::HandshakeLength { .. } => Some(AlertDescription::DecodeError),
            Self::KeyUpdateValue(_) => Some(AlertDescription::IllegalParameter),
            Self::Numbers | Self::Derivation => Some(AlertDescription::InternalError),
            Self::Alert(_) => None,
        }
    }
}
