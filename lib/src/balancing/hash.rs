//! Hashes that all workers agree on, today and after every restart and upgrade.
//!
//! Keys (an address, a cookie, a header) and the names of backends are hashed by SipHash-2-4 (Aumasson and
//! Bernstein 2012) under a fixed key. That the key is known does no harm: a client that finds values which lead to
//! one backend could as well send one such value all the time. What is hashed already is combined by [`mix`].

use std::hash::Hasher;
#[expect(
    deprecated,
    reason = "it is SipHash-2-4 by its documentation; its successor may change with any release"
)]
use std::hash::SipHasher;
use std::net::{IpAddr, SocketAddr};

/// The fixed key. Another one would send every client elsewhere.
const KEY: (u64, u64) = (0x6b61_6b65_6869_0001, 0x6261_6c61_6e63_6502);

/// The hash of a value.
#[must_use]
pub fn bytes(value: &[u8]) -> u64 {
    sip(KEY, value)
}

/// The hash of a client's address; that of an IPv4 address does not depend on the family of its socket.
#[must_use]
pub fn source(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => bytes(&address.octets()),
        IpAddr::V6(address) => bytes(&address.octets()),
    }
}

/// The hash of where a backend is.
#[must_use]
pub fn place(address: SocketAddr) -> u64 {
    mix(source(address.ip()), address.port().into())
}

/// One number that depends on every bit of both (the finalizer of SplitMix64, applied to each in turn).
#[must_use]
pub fn mix(a: u64, b: u64) -> u64 {
    finalize(finalize(a).wrapping_add(b).wrapping_add(0x9e37_79b9_7f4a_7c15))
}

/// Steele, Lea and Flood 2014; Stafford's variant 13.
pub(super) fn finalize(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[expect(deprecated, reason = "see its import")]
fn sip((first, second): (u64, u64), value: &[u8]) -> u64 {
    let mut hasher = SipHasher::new_with_keys(first, second);
    hasher.write(value);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appendix A of the paper.
    #[test]
    fn it_is_siphash_2_4() {
        let input: Vec<u8> = (0..15).collect();
        let key = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(sip(key, &input), 0xa129_ca61_49be_45e5);
    }

    /// A change here sends clients elsewhere.
    #[test]
    fn hashes_are_what_they_were() {
        assert_eq!(bytes(b"user-1"), HASH_OF_USER_1);
        assert_eq!(mix(1, 2), MIX_OF_1_AND_2);
        assert_ne!(mix(1, 2), mix(2, 1));
    }

    const HASH_OF_USER_1: u64 = 0xbb64_ba18_a422_6c9a;
    const MIX_OF_1_AND_2: u64 = 0xd04b_a4a2_b36a_25f3;

    #[test]
    fn the_family_of_the_socket_does_not_matter() {
        assert_eq!(source("192.0.2.1".parse().unwrap()), source("::ffff:192.0.2.1".parse().unwrap()));
        assert_ne!(source("192.0.2.1".parse().unwrap()), source("192.0.2.2".parse().unwrap()));
        assert_ne!(place("192.0.2.1:1".parse().unwrap()), place("192.0.2.1:2".parse().unwrap()));
    }
}
