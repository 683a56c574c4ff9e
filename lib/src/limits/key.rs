//! What an entry of the shared tables is found by.

use std::hash::Hasher;
#[expect(deprecated, reason = "the only hash of the standard library whose key can be chosen")]
use std::hash::SipHasher;

use arrayvec::ArrayVec;

/// Bytes of the secret of a start, which all its workers have.
pub const SECRET_BYTES: usize = 16;

/// A key's parts together, if they are no longer.
const JOINED_BYTES: usize = 128;

/// What is counted. The same bytes are another key in each scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Client connections of a source to a cluster.
    ClusterSource = 1,
    /// Client connections of a source's network to a cluster.
    ClusterSubnet = 2,
    /// Client connections of a listener.
    Listener = 3,
    /// Client connections of a source to a listener.
    ListenerSource = 4,
    /// Connections that a listener accepts in a second.
    AcceptRate = 5,
    /// Requests in a second that a listener limits.
    ListenerRate = 6,
    /// Requests in a second that a cluster limits.
    ClusterRate = 7,
    /// What a cluster has in flight.
    Cluster = 8,
    /// What a backend has in flight.
    Backend = 9,
    /// What waits for a cluster.
    Queue = 20,
}

/// A keyed hash (SipHash-2-4) of a scope and what is counted in it. Of two keys of a table one in 2^58 or so are the
/// same to it (48 bits of tag, and the bucket), and nobody who does not know the secret can say which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(pub(super) u64);

/// Makes keys.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    secret: [u64; 2],
}

impl Keys {
    /// With the secret of this start.
    pub fn new(secret: &[u8; SECRET_BYTES]) -> Self {
        let (words, _) = secret.as_chunks();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        Self { secret: [words.next().unwrap_or(0), words.next().unwrap_or(0)] }
    }

    /// The key of what these parts together name: where one ends and the next begins counts too.
    pub fn key(&self, scope: Scope, parts: &[&[u8]]) -> Key {
        let [first, second] = self.secret;
        #[expect(deprecated, reason = "see above")]
        let mut hasher = SipHasher::new_with_keys(first, second);
        // Each piece that it is given costs about as much as its bytes do: most keys are one.
        let mut joined = ArrayVec::<u8, JOINED_BYTES>::from_iter([scope as u8]);
        for part in parts {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes();
            for piece in [&length, *part] {
                if joined.try_extend_from_slice(piece).is_err() {
                    hasher.write(&joined);
                    joined.clear();
                    hasher.write(piece);
                }
            }
        }
        hasher.write(&joined);
        Key(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_secret_scope_and_parts() {
        let keys = Keys::new(&[7; SECRET_BYTES]);
        let base = keys.key(Scope::Listener, &[b"ab", b"c"]);
        assert_eq!(base, Keys::new(&[7; SECRET_BYTES]).key(Scope::Listener, &[b"ab", b"c"]));
        let others = [
            Keys::new(&[8; SECRET_BYTES]).key(Scope::Listener, &[b"ab", b"c"]),
            keys.key(Scope::Cluster, &[b"ab", b"c"]),
            keys.key(Scope::Listener, &[b"a", b"bc"]),
            keys.key(Scope::Listener, &[b"abc"]),
            keys.key(Scope::Listener, &[]),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(*other, base, "number {at}");
        }
    }

    #[test]
    fn long_parts_count_to_their_last_byte() {
        let keys = Keys::new(&[7; SECRET_BYTES]);
        let mut seen = std::collections::BTreeSet::new();
        for length in (0..3 * JOINED_BYTES).step_by(5) {
            let mut bytes = vec![b'a'; length + 1];
            let base = keys.key(Scope::Listener, &[b"x", &bytes, b"y"]);
            assert_eq!(base, keys.key(Scope::Listener, &[b"x", &bytes, b"y"]));
            assert!(seen.insert(base.0), "{length}");
            bytes[length] = b'b';
            assert!(seen.insert(keys.key(Scope::Listener, &[b"x", &bytes, b"y"]).0), "{length}");
            assert!(seen.insert(keys.key(Scope::Listener, &[b"x", &bytes]).0), "{length}");
        }
    }
}
