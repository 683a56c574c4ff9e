//! Which worker probes a backend: rendezvous hashing (Thaler and Ravishankar 1998).
//!
//! All workers work it out alike from the list of those that probe, which main keeps. When one leaves, its backends
//! are shared out among the rest, and no other backend changes hands.

use std::net::{IpAddr, SocketAddr};

/// What a backend is known by here, the same in every process.
pub fn identity_of(cluster_id: &str, backend_id: &str, address: SocketAddr) -> u64 {
    // FNV-1a, a zero between the parts: no id holds one.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut feed = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    feed(cluster_id.as_bytes());
    feed(&[0]);
    feed(backend_id.as_bytes());
    feed(&[0]);
    match address.ip() {
        IpAddr::V4(ip) => feed(&ip.octets()),
        IpAddr::V6(ip) => feed(&ip.octets()),
    }
    feed(&address.port().to_be_bytes());
    hash
}

/// The worker that probes this backend; none if nobody probes.
pub fn prober_of(identity: u64, probers: &[u32]) -> Option<u32> {
    probers.iter().copied().max_by_key(|&worker| (mix(identity ^ mix(u64::from(worker) + 1)), worker))
}

/// The finalizer of SplitMix64: every bit of what goes in changes about half of what comes out.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(n: u16) -> u64 {
        identity_of("app", &format!("b{n}"), SocketAddr::from(([127, 0, 0, 1], n)))
    }

    #[test]
    fn backends_are_shared_out_and_few_change_hands() {
        let four = [3, 5, 6, 9];
        let mut shares = [0_usize; 4];
        for n in 0..10_000 {
            let owner = prober_of(identity(n), &four).expect("somebody");
            shares[four.iter().position(|it| *it == owner).expect("one of them")] += 1;
            let without: Vec<u32> = four.iter().copied().filter(|worker| *worker != 5).collect();
            let next = prober_of(identity(n), &without).expect("somebody");
            assert!(next == owner || owner == 5, "only those of the one that left move");
        }
        assert!(shares.iter().all(|share| (2_200..2_800).contains(share)), "{shares:?}");
        assert_eq!(prober_of(identity(1), &[]), None);
    }
}
