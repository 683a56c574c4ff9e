//! The host of a request, ready to be looked up.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use kakehi_command::order::HOST_BYTES_MAX;

/// A host in lower case (RFC 9110 §4.2.3), or what follows one of its dots, and its hash: it is computed
/// once, for all tables it is looked up in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host<'a> {
    name: &'a [u8],
    hash: u64,
}

impl<'a> Host<'a> {
    /// A host that is in lower case, as those of rules are.
    pub(super) fn lower(name: &'a [u8]) -> Self {
        Self { name, hash: hash(name) }
    }

    /// Hands a host as it came to `look_up`, in lower case. One longer than any name becomes empty, which no
    /// pattern but `*` matches.
    #[inline]
    pub(super) fn with_lower<R>(host: &[u8], look_up: impl FnOnce(Host<'_>) -> R) -> R {
        // Nearly all clients send names in lower case.
        if host.len() > HOST_BYTES_MAX || may_have_upper_case(host) {
            lowered(host, look_up)
        } else {
            look_up(Host::lower(host))
        }
    }

    pub(super) fn name(&self) -> &'a [u8] {
        self.name
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// What is left without the first label, if that is a label at all: what a wildcard stands before.
    pub(super) fn parent(&self) -> Option<Host<'a>> {
        let dot = memchr::memchr(b'.', self.name).filter(|&dot| dot > 0)?;
        self.name.get(dot + 1..).map(Host::lower)
    }

    /// Every suffix that begins after a dot, the longest first, and at last the empty one.
    pub(super) fn suffixes(&self) -> impl Iterator<Item = Host<'a>> {
        let name = self.name;
        let suffixes = memchr::memchr_iter(b'.', name).filter_map(move |dot| name.get(dot + 1..));
        suffixes.chain([&b""[..]]).map(Host::lower)
    }

    /// The labels, left to right.
    pub(super) fn labels(&self) -> impl Iterator<Item = &'a [u8]> {
        self.name.split(|&byte| byte == b'.')
    }
}

#[cold]
fn lowered<R>(host: &[u8], look_up: impl FnOnce(Host<'_>) -> R) -> R {
    let mut space = [0; HOST_BYTES_MAX];
    // None for a host that is too long.
    let lower = space.get_mut(..host.len()).unwrap_or_default();
    for (to, from) in lower.iter_mut().zip(host) {
        *to = from.to_ascii_lowercase();
    }
    look_up(Host::lower(lower))
}

/// Whether there may be an ASCII letter in upper case: surely not in a name of lower-case letters, digits,
/// dots and dashes.
///
/// This is done for every request, so eight bytes are looked at at a time, and no more of them than is
/// needed: where `0x40` is set and `0x20` is not, there are the letters in upper case and a few signs. What
/// is left over at the end is looked at together with what is before it, which is quicker than by itself.
#[inline]
fn may_have_upper_case(text: &[u8]) -> bool {
    if let (Some(first), Some(last)) = (text.first_chunk::<16>(), text.last_chunk::<16>()) {
        let (_, rest) = text.split_at(16);
        let mut found = suspects(first) | suspects(last);
        // Most names end before this.
        for pair in rest.chunks_exact(16) {
            found |= pair.first_chunk::<16>().map_or(0, suspects);
        }
        found != 0
    } else if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        let both = [*first, *last];
        both.as_flattened().first_chunk::<16>().is_some_and(|both| suspects(both) != 0)
    } else {
        text.iter().any(|byte| byte & 0x60 == 0x40)
    }
}

/// The bits of the bytes that may be letters in upper case.
#[inline]
fn suspects(bytes: &[u8; 16]) -> u128 {
    let bytes = u128::from_ne_bytes(*bytes);
    bytes & !(bytes << 1) & u128::from_ne_bytes([0x40; 16])
}

/// The hash of a host, under a key of this process: whoever registers hosts cannot choose such that
/// collide. (Who merely asks for hosts adds nothing to any table.)
fn hash(name: &[u8]) -> u64 {
    struct Key {
        seed: u64,
        shared: SharedSeed,
    }
    static KEY: LazyLock<Key> = LazyLock::new(|| {
        // The standard tables' key, which the kernel's randomness went into.
        let random = RandomState::new();
        Key { seed: random.hash_one(0), shared: SharedSeed::from_u64(random.hash_one(1)) }
    });
    let key = &*KEY;
    let mut hasher = FoldHasher::with_seed(key.seed, &key.shared);
    hasher.write(name);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parents_and_suffixes() {
        let check = |host: &str, parent: Option<&str>, suffixes: &[&str]| {
            Host::with_lower(host.as_bytes(), |host| {
                assert_eq!(host.parent().map(|parent| parent.name()), parent.map(str::as_bytes));
                assert!(
                    host.suffixes().map(|suffix| suffix.name()).eq(suffixes.iter().map(|s| s.as_bytes()))
                );
            });
        };
        check("A.Example.COM", Some("example.com"), &["example.com", "com", ""]);
        check("localhost", None, &[""]);
        check(".com", None, &["com", ""]);
        check("com.", Some(""), &["", ""]);
        check("", None, &[""]);
        check(&"a".repeat(254), None, &[""]);
    }

    #[test]
    fn the_longest_name_fits() {
        let check = |byte: u8, len: usize, expected: &[u8]| {
            Host::with_lower(&vec![byte; len], |host| assert_eq!(host.name(), expected));
        };
        check(b'A', 253, &[b'a'; 253]);
        check(b'a', 253, &[b'a'; 253]);
        check(b'A', 254, b"");
        check(b'a', 254, b"");
    }

    #[test]
    fn every_byte_is_lowered_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for len in 1..20 {
                for at in 0..len {
                    let mut host = vec![b'-'; len];
                    host[at] = byte;
                    let expected = host.to_ascii_lowercase();
                    Host::with_lower(&host, |host| assert_eq!(host.name(), expected));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn hosts_are_lowered(host in proptest::collection::vec(any::<u8>(), 0..=HOST_BYTES_MAX)) {
            let expected = host.to_ascii_lowercase();
            Host::with_lower(&host, |lower| {
                assert_eq!(lower.name(), expected);
                assert_eq!(lower.hash(), Host::lower(&expected).hash());
            });
        }
    }
}
