//! Peers whose word is taken for where a request comes from.

use std::net::IpAddr;

use crate::order::{OrderError, error::Excerpt};

/// Most entries of one listener: more than any content network publishes.
pub const TRUSTED_PROXIES_MAX: usize = 1024;

/// Addresses and networks, ready to be looked up. IPv4 addresses in IPv6 form (RFC 4291 §2.5.5.2) count as
/// what they are, and a network of IPv6 has none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// First and last address of each range, sorted, none touching another.
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl TrustedProxies {
    /// Checks addresses and networks in CIDR form.
    pub(super) fn parse(field: &'static str, texts: &[String]) -> Result<Self, OrderError> {
        if texts.len() > TRUSTED_PROXIES_MAX {
            let reason = format!("are more than {TRUSTED_PROXIES_MAX}");
            return Err(OrderError::Invalid { field, value: Excerpt::NONE, reason: reason.into() });
        }
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for text in texts {
            match network(text).map_err(|reason| OrderError::invalid(field, text, reason))? {
                Network::V4(first, last) => v4.push((first, last)),
                Network::V6(first, last) => v6.push((first, last)),
            }
        }
        Ok(Self { v4: merged(v4), v6: merged(v6) })
    }

    /// Whether a peer's word is taken.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        match peer.to_canonical() {
            IpAddr::V4(address) => is_in(&self.v4, address.to_bits()),
            IpAddr::V6(address) => is_in(&self.v6, address.to_bits()),
        }
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

enum Network {
    V4(u32, u32),
    V6(u128, u128),
}

fn network(text: &str) -> Result<Network, String> {
    const NEITHER: &str = "is neither an IP address nor a network such as 10.0.0.0/8";
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| NEITHER)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let digits = |prefix: &str| !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix: u32 = match prefix {
        None => bits,
        Some(prefix) => prefix.parse().ok().filter(|_| digits(prefix)).ok_or(NEITHER)?,
    };
    if prefix > bits {
        return Err(format!("has a prefix longer than {bits} bits"));
    }
    // In IPv6 form an IPv4 address has 96 bits before it.
    let (address, prefix) = match (address.to_canonical(), address) {
        (IpAddr::V4(canonical), IpAddr::V6(_)) if prefix >= 96 => (IpAddr::V4(canonical), prefix - 96),
        _ => (address, prefix),
    };
    match address {
        IpAddr::V4(address) => {
            let hosts = u32::MAX.checked_shr(prefix).unwrap_or(0);
            let first = address.to_bits() & !hosts;
            if first != address.to_bits() {
                let network: std::net::Ipv4Addr = first.into();
                return Err(format!("has bits beyond its prefix: the network is {network}/{prefix}"));
            }
            Ok(Network::V4(first, first | hosts))
        }
        IpAddr::V6(address) => {
            let hosts = u128::MAX.checked_shr(prefix).unwrap_or(0);
            let first = address.to_bits() & !hosts;
            if first != address.to_bits() {
                let network: std::net::Ipv6Addr = first.into();
                return Err(format!("has bits beyond its prefix: the network is {network}/{prefix}"));
            }
            Ok(Network::V6(first, first | hosts))
        }
    }
}

/// Sorts ranges and joins those that overlap.
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let overlaps = next.0 <= before.1;
        if overlaps {
            before.1 = before.1.max(next.1);
        }
        overlaps
    });
    ranges.into()
}

fn is_in<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind > 0 && address <= ranges[behind - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<TrustedProxies, OrderError> {
        TrustedProxies::parse(
            "trusted_proxies",
            &list.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        )
    }

    fn check(list: &str, inside: &[&str], outside: &[&str]) {
        let trusted = parse(list).expect("accepted");
        let contains = |peer: &&str| trusted.contains(peer.parse().expect("an address"));
        for peer in inside {
            assert!(contains(peer), "{list} has {peer}");
        }
        for peer in outside {
            assert!(!contains(peer), "{list} does not have {peer}");
        }
    }

    fn check_refused(text: &str, expected: &str) {
        let error = parse(text).expect_err("refused").to_string();
        assert!(error.starts_with("trusted_proxies ") && error.contains(expected), "{error}");
    }

    #[test]
    fn nobody_is_trusted_unless_named() {
        assert!(parse("").expect("accepted").is_empty());
        check("", &[], &["127.0.0.1", "::1", "0.0.0.0"]);
        assert!(!parse("::1").expect("accepted").is_empty());
    }

    #[test]
    fn addresses_and_networks_hold_their_own() {
        check("10.0.0.1", &["10.0.0.1", "::ffff:10.0.0.1"], &["10.0.0.0", "10.0.0.2"]);
        check("10.0.0.0/8", &["10.0.0.0", "10.255.255.255"], &["9.255.255.255", "11.0.0.0"]);
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::1"]);
        check("2001:db8::/32", &["2001:db8::", "2001:db8:ffff::1"], &["2001:db7::", "2001:db9::"]);
        check("::1", &["::1"], &["::2", "0.0.0.1"]);
        check(
            "192.0.2.4/30 192.0.2.8 192.0.2.6/31",
            &["192.0.2.4", "192.0.2.7", "192.0.2.8"],
            &["192.0.2.9"],
        );
    }

    #[test]
    fn an_ipv4_address_in_ipv6_form_is_one() {
        check("::ffff:10.0.0.0/104", &["10.1.2.3"], &["11.0.0.0"]);
        check("::/0", &["::", "2001:db8::1"], &["10.0.0.1", "::ffff:10.0.0.1"]);
    }

    #[test]
    fn typing_errors_are_refused() {
        check_refused("localhost", "neither an IP address nor a network");
        check_refused("10.0.0.0/", "neither");
        check_refused("10.0.0.0/+8", "neither");
        check_refused("10.0.0.0/33", "longer than 32 bits");
        check_refused("::/129", "longer than 128 bits");
        check_refused("10.0.0.1/8", "beyond its prefix: the network is 10.0.0.0/8");
        check_refused("2001:db8::1/32", "the network is 2001:db8::/32");
    }

    proptest::proptest! {
        #[test]
        fn a_network_has_the_addresses_with_its_prefix(base: u32, prefix in 0..=32_u32, peer: u32) {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            let network = std::net::Ipv4Addr::from_bits(base & mask);
            let trusted = parse(&format!("{network}/{prefix} 0.0.0.0/32 255.0.0.0/8")).expect("accepted");
            let peer = if peer % 2 == 0 { peer } else { base ^ (peer >> 20) };
            let expected = peer & mask == base & mask || peer == 0 || peer >> 24 == 255;
            let peer = IpAddr::V4(std::net::Ipv4Addr::from_bits(peer));
            proptest::prop_assert_eq!(trusted.contains(peer), expected);
        }
    }
}
