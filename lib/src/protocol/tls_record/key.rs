//! One direction of a connection: its secret, the key made of it, and the number of the next record.
//!
//! ```text
//!   secret ── "traffic upd" ──> next secret     (RFC 8446 §7.2)
//!     ├────── "key" ──────────> key             (§7.3)
//!     └────── "iv"  ──────────> iv;  nonce = iv XOR record number (§5.3)
//! ```
//! The number goes up before a record is sealed, whatever comes of that: no nonce is ever used twice.

use std::fmt;

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{KeyType, Prk};
use rustls::ConnectionTrafficSecrets;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::suite::Suite;
use super::{CONTENT_TYPE_BYTES, HEADER_BYTES, TAG_BYTES, TRAILER_BYTES};

/// Longest secret: that of SHA-384.
pub(super) const SECRET_BYTES_MAX: usize = 48;
/// Longest key.
const KEY_BYTES_MAX: usize = 32;

/// Longest plaintext that is copied before it is sealed. Otherwise the provider deals with the content's type
/// apart, which costs ChaCha20-Poly1305 a block of its key stream: more than copying a few hundred bytes.
const COPIED_BYTES_MAX: usize = 1024;

/// `opaque_type` of every protected record (RFC 8446 §5.2).
pub(super) const APPLICATION_DATA: u8 = 23;
/// `legacy_record_version` of every protected record.
const VERSION: [u8; 2] = [3, 3];

/// A traffic secret (RFC 8446 §7.1). Overwritten when dropped, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TrafficSecret {
    bytes: [u8; SECRET_BYTES_MAX],
    length: usize,
}

impl TrafficSecret {
    /// Takes a copy. `None` if no suite has secrets of this length.
    pub fn new(secret: &[u8]) -> Option<Self> {
        let mut bytes = [0; SECRET_BYTES_MAX];
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(Self { bytes, length: secret.len() })
    }

    /// The secret itself, for whoever moves it to another process.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The secret that follows (RFC 8446 §7.2).
    pub fn next(&self, suite: Suite) -> Option<Self> {
        let mut secret = self.clone();
        let next = secret.bytes.get_mut(..secret.length)?;
        self.expand(suite, b"traffic upd", next).ok()?;
        Some(secret)
    }

    /// Whether these are the keys that are made of it.
    pub fn yields(&self, suite: Suite, keys: &ConnectionTrafficSecrets) -> bool {
        use ConnectionTrafficSecrets as Keys;
        let (Keys::Aes128Gcm { iv, .. } | Keys::Aes256Gcm { iv, .. } | Keys::Chacha20Poly1305 { iv, .. }) =
            keys
        else {
            return false;
        };
        let mut own = Zeroizing::new([0; NONCE_LEN]);
        // Keys of two secrets share no bit but by chance: 96 of them tell.
        self.expand(suite, b"iv", own.as_mut_slice()).is_ok() && iv.as_ref() == own.as_slice()
    }

    /// HKDF-Expand-Label without a context (RFC 8446 §7.1).
    fn expand(&self, suite: Suite, label: &[u8], out: &mut [u8]) -> Result<(), Underivable> {
        // Panics above 64 bytes; ours has at most 48.
        let secret = Prk::new_less_safe(suite.hash(), self.as_bytes());
        let length = u16::try_from(out.len()).map_err(|_| Underivable)?.to_be_bytes();
        let label_length = [u8::try_from(LABEL_PREFIX.len() + label.len()).map_err(|_| Underivable)?];
        let info: [&[u8]; 5] = [&length, &label_length, LABEL_PREFIX, label, &[0]];
        secret.expand(&info, Length(out.len()))?.fill(out)?;
        Ok(())
    }
}

const LABEL_PREFIX: &[u8] = b"tls13 ";

impl fmt::Debug for TrafficSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrafficSecret({} bytes)", self.length)
    }
}

/// How far one direction of a connection has come. Not to be had twice: two that seal with the same key and
/// number give both plaintexts away.
#[derive(Debug)]
pub struct Traffic {
    /// What the key is made of.
    pub secret: TrafficSecret,
    /// Number of the next record under this key.
    pub sequence: u64,
}

/// The provider refused to make a key; it has no reason to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Underivable;

impl From<aws_lc_rs::error::Unspecified> for Underivable {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self
    }
}

/// How many bytes HKDF is to give.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Why nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsealable {
    /// The record has no room for the plaintext and what belongs around it.
    NoRoom,
    /// No record number is left.
    Numbers,
    /// The provider failed; it has no reason to.
    Cipher,
}

/// Why nothing was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unopenable {
    /// Not sealed with this key and number, or too short to be.
    Mac,
    /// No record number is left.
    Numbers,
}

/// One direction, ready for use.
pub(super) struct Direction {
    /// The provider overwrites it when it is freed.
    key: LessSafeKey,
    iv: Zeroizing<[u8; NONCE_LEN]>,
    traffic: Traffic,
}

impl Direction {
    pub(super) fn new(suite: Suite, traffic: Traffic) -> Result<Self, Underivable> {
        let mut key = Zeroizing::new([0; KEY_BYTES_MAX]);
        let key = key.get_mut(..suite.cipher().key_len()).ok_or(Underivable)?;
        traffic.secret.expand(suite, b"key", key)?;
        let mut iv = Zeroizing::new([0; NONCE_LEN]);
        traffic.secret.expand(suite, b"iv", iv.as_mut_slice())?;
        Ok(Self { key: LessSafeKey::new(UnboundKey::new(suite.cipher(), key)?), iv, traffic })
    }

    /// The keys that follow (RFC 8446 §7.2).
    pub(super) fn next(&self, suite: Suite) -> Result<Self, Underivable> {
        let secret = self.traffic.secret.next(suite).ok_or(Underivable)?;
        Self::new(suite, Traffic { secret, sequence: 0 })
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(super) fn into_traffic(self) -> Traffic {
        self.traffic
    }

    /// Opens a record of which `header` and `body` are all; gives content, type and padding.
    pub(super) fn open<'b>(
        &mut self,
        header: [u8; HEADER_BYTES],
        body: &'b mut [u8],
    ) -> Result<&'b mut [u8], Unopenable> {
        let plain = body.len().checked_sub(TAG_BYTES).ok_or(Unopenable::Mac)?;
        let (body, tag) = body.split_at_mut_checked(plain).ok_or(Unopenable::Mac)?;
        let nonce = self.nonce().ok_or(Unopenable::Numbers)?;
        // Not `open_in_place`, which moves the plaintext onto itself afterwards.
        self.key.open_in_place_separate_tag(nonce, Aad::from(header), tag, body).map_err(|_| Unopenable::Mac)
    }

    /// Seals what is in `record` behind its header already; gives the record's length.
    pub(super) fn seal_in_place(
        &mut self,
        content_type: u8,
        record: &mut [u8],
        plain: usize,
    ) -> Result<usize, Unsealable> {
        let parts = Parts::of(record, plain, CONTENT_TYPE_BYTES)?;
        let nonce = self.nonce().ok_or(Unsealable::Numbers)?;
        if let Some(place) = parts.body.last_mut() {
            *place = content_type;
        }
        self.key
            .seal_in_place_scatter(nonce, Aad::from(*parts.header), parts.body, &[], parts.trailer)
            .map_err(|_| Unsealable::Cipher)?;
        Ok(HEADER_BYTES + plain + TRAILER_BYTES)
    }

    /// Seals `plain` into `record`; gives the record's length.
    pub(super) fn seal(
        &mut self,
        content_type: u8,
        plain: &[u8],
        record: &mut [u8],
    ) -> Result<usize, Unsealable> {
        if plain.len() <= COPIED_BYTES_MAX {
            let end = HEADER_BYTES + plain.len();
            record.get_mut(HEADER_BYTES..end).ok_or(Unsealable::NoRoom)?.copy_from_slice(plain);
            return self.seal_in_place(content_type, record, plain.len());
        }
        let parts = Parts::of(record, plain.len(), 0)?;
        let nonce = self.nonce().ok_or(Unsealable::Numbers)?;
        let (aad, extra) = (Aad::from(*parts.header), &[content_type]);
        self.key
            .seal_out_of_place_scatter(nonce, aad, plain, parts.body, extra, parts.trailer)
            .map_err(|_| Unsealable::Cipher)?;
        Ok(HEADER_BYTES + plain.len() + TRAILER_BYTES)
    }

    /// The next record's, once.
    fn nonce(&mut self) -> Option<Nonce> {
        let number = self.traffic.sequence;
        self.traffic.sequence = number.checked_add(1)?;
        let mut nonce = *self.iv;
        // The number is as if padded with zeros on the left (RFC 8446 §5.3).
        for (byte, number) in nonce.iter_mut().rev().zip(number.to_le_bytes()) {
            *byte ^= number;
        }
        Some(Nonce::assume_unique_for_key(nonce))
    }
}

/// A record that is about to be sealed.
struct Parts<'r> {
    header: &'r mut [u8; HEADER_BYTES],
    body: &'r mut [u8],
    /// For the tag, and what of the content's type is not in the body.
    trailer: &'r mut [u8],
}

impl<'r> Parts<'r> {
    /// Writes the header. The body gets so many bytes of the trailer.
    fn of(record: &'r mut [u8], plain: usize, trailing: usize) -> Result<Self, Unsealable> {
        let length = plain + TRAILER_BYTES;
        let (header, rest) = record.split_first_chunk_mut().ok_or(Unsealable::NoRoom)?;
        let sealed = rest.get_mut(..length).ok_or(Unsealable::NoRoom)?;
        let (body, trailer) = sealed.split_at_mut_checked(plain + trailing).ok_or(Unsealable::NoRoom)?;
        let [high, low] = u16::try_from(length).map_err(|_| Unsealable::NoRoom)?.to_be_bytes();
        *header = [APPLICATION_DATA, VERSION[0], VERSION[1], high, low];
        Ok(Self { header, body, trailer })
    }
}
