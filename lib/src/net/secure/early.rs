//! Data that a client sends before its handshake is over (RFC 8446 §2.3): what was taken of it, and what has to be
//! passed over where none is taken (§4.2.10).
//!
//! A client that offers early data sends it at once, protected with a key that a server which does not take it
//! may not even have. rustls passes over what it can't open, up to a bound that it counts anew each time that it
//! sees the same bytes, and leaves them in the buffer. So it is not shown them: what the client's handshake goes on
//! with is protected with a key that is known here, too, and what is not is dropped. The bound is that of all
//! handshakes.

use rustls::HandshakeKind;

use crate::protocol::tls_record::{Suite, TrafficSecret, is_first_under};
use crate::tls::secrets::Secret;

/// Early data that was taken and not read yet. rustls bounds it (`max_early_data`).
#[derive(Debug, Default)]
pub(super) struct EarlyBytes {
    bytes: Vec<u8>,
    read: usize,
}

impl EarlyBytes {
    pub(super) fn push(&mut self, plain: &[u8]) {
        self.bytes.extend_from_slice(plain);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.read >= self.bytes.len()
    }

    /// Moves what fits.
    pub(super) fn read(&mut self, into: &mut [u8]) -> usize {
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(into), Some(from)) = (into.get_mut(..count), rest.get(..count)) {
            into.copy_from_slice(from);
            self.read += count;
        }
        count
    }
}

/// It is somebody's request.
impl Drop for EarlyBytes {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.bytes);
    }
}

/// What a client said in its hello about early data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Its hello has not come, or not in one record: it may.
    Unknown,
    Yes,
    No,
}

/// What is to be done with a record before rustls sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// rustls shall see it.
    Show,
    /// Likewise; if rustls makes nothing of it, it is dropped.
    Try,
    /// It is early data that is not taken.
    Drop,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Offer {
    said: Said,
    /// What the client protects the rest of its handshake with, once it is known.
    secret: Option<Secret>,
    /// Nothing is to be passed over any more.
    over: bool,
}

impl Offer {
    /// A client that has not said anything.
    pub(super) fn of_client() -> Self {
        Self { said: Said::Unknown, secret: None, over: false }
    }

    /// Of ourselves, who offer none.
    pub(super) fn of_us() -> Self {
        Self { said: Said::No, secret: None, over: true }
    }

    /// Whether the client said that it sends some.
    pub(super) fn was_made(&self) -> bool {
        self.said == Said::Yes
    }

    /// rustls told what the client protects its handshake with.
    pub(super) fn learn(&mut self, secret: Option<Secret>) {
        if !self.over && secret.is_some() {
            self.secret = secret;
        }
    }

    /// Early data was taken: rustls tells it from the rest.
    pub(super) fn accept(&mut self) {
        self.over = true;
        self.secret = None;
    }

    /// What is to be done with a whole record, the next one that the client sent. `suite` and `kind` are those of the
    /// handshake, as far as it has come.
    pub(super) fn judge(
        &mut self,
        record: &[u8],
        suite: Option<Suite>,
        kind: Option<HandshakeKind>,
    ) -> Verdict {
        if self.over {
            return Verdict::Show;
        }
        match record.first() {
            Some(&HANDSHAKE) if self.said == Said::Unknown => {
                self.said = match offers_early_data(record) {
                    Some(true) => Said::Yes,
                    Some(false) => Said::No,
                    None => Said::Unknown,
                };
                self.over = self.said == Said::No;
                return Verdict::Show;
            }
            Some(&APPLICATION_DATA) => {}
            _ => return Verdict::Show,
        }
        let (Some(secret), Some(suite)) = (&self.secret, suite) else {
            // The first hello was refused, and what came with it goes before the second (§4.1.2).
            return match kind {
                Some(HandshakeKind::FullWithHelloRetryRequest) => Verdict::Drop,
                _ => Verdict::Show,
            };
        };
        let mut copy = record.to_vec();
        let secret = TrafficSecret::new(secret.as_bytes());
        if secret.is_none_or(|secret| is_first_under(secret, suite, &mut copy)) {
            self.over = true;
            self.secret = None;
            return Verdict::Show;
        }
        // rustls alone knows whether it takes some, and it may only where a session is resumed. If it does not, for want
        // of freshness, it has a bound of its own: `max_early_data`, with what records have around them.
        if kind == Some(HandshakeKind::Resumed) { Verdict::Try } else { Verdict::Drop }
    }
}

const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
/// The extension `early_data` (RFC 8446 §4.2).
const EARLY_DATA: [u8; 2] = [0, 42];

/// Whether the hello in this record has the extension; none if it does not end there, or is none.
fn offers_early_data(record: &[u8]) -> Option<bool> {
    let message = record.get(5..).filter(|message| message.first() == Some(&CLIENT_HELLO))?;
    let (hello, _) = vector::<3>(message.get(1..)?)?;
    // Version, random.
    let rest = hello.get(2 + 32..)?;
    let (_session_id, rest) = vector::<1>(rest)?;
    let (_suites, rest) = vector::<2>(rest)?;
    let (_compression, rest) = vector::<1>(rest)?;
    if rest.is_empty() {
        return Some(false);
    }
    let (mut extensions, _) = vector::<2>(rest)?;
    while let Some((kind, rest)) = extensions.split_first_chunk::<2>() {
        if *kind == EARLY_DATA {
            return Some(true);
        }
        (_, extensions) = vector::<2>(rest)?;
    }
    Some(false)
}

/// A vector whose length has so many bytes (§3.4), and what is behind it.
fn vector<const LENGTH: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A hello with these extensions, in a record.
    fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut listed = Vec::new();
        for (kind, body) in extensions {
            listed.extend(kind.to_be_bytes());
            listed.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
            listed.extend(*body);
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([2, 9, 9]);
        body.extend([0, 2, 0x13, 0x01]);
        body.extend([1, 0]);
        body.extend(u16::try_from(listed.len()).expect("short").to_be_bytes());
        body.extend(listed);
        let length = u16::try_from(body.len()).expect("short");
        let mut record = vec![22, 3, 1];
        record.extend((length + 4).to_be_bytes());
        record.extend([1, 0]);
        record.extend(length.to_be_bytes());
        record.extend(body);
        record
    }

    #[test]
    fn the_extension_is_found_among_others() {
        assert_eq!(offers_early_data(&hello(&[])), Some(false));
        assert_eq!(offers_early_data(&hello(&[(0, b"abc"), (42, b""), (41, b"x")])), Some(true));
        assert_eq!(offers_early_data(&hello(&[(0, &[0, 42, 0, 0]), (43, b"")])), Some(false));
        assert_eq!(offers_early_data(b"GET / HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn a_part_of_a_hello_tells_nothing_wrong() {
        let whole = hello(&[(0, b"abc"), (42, b""), (41, b"x")]);
        for end in 0..whole.len() {
            assert_ne!(offers_early_data(&whole[..end]), Some(false), "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = offers_early_data(&bytes);
        }
    }

    #[test]
    fn early_bytes_come_in_pieces() {
        let mut early = EarlyBytes::default();
        assert!(early.is_empty());
        early.push(b"one ");
        early.push(b"two");
        let mut into = [0; 5];
        assert_eq!(early.read(&mut into), 5);
        assert_eq!(&into, b"one t");
        assert!(!early.is_empty());
        assert_eq!((early.read(&mut []), early.read(&mut into), early.read(&mut into)), (0, 2, 0));
        assert!(early.is_empty());
    }
}
