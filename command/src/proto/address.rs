//! Socket addresses on the wire, to and from those of std.
//!
//! IPv4 is a number with the most significant octet first, IPv6 two halves of a 128-bit number. The
//! wire has no place for an IPv6 scope or flow label: both are zero after a round trip.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::command::{IpAddress, SocketAddress, Uint128, ip_address::Inner};

/// Why a wire address is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither an IPv4 nor an IPv6 address is set.
    #[error("has no IP address")]
    NoIp,
    /// Ports are numbers of 16 bits.
    #[error("has port {port}, above 65535")]
    Port {
        /// As it came.
        port: u32,
    },
}

impl From<IpAddr> for IpAddress {
    fn from(ip: IpAddr) -> Self {
        let inner = match ip {
            IpAddr::V4(v4) => Inner::V4(v4.to_bits()),
            IpAddr::V6(v6) => Inner::V6(v6.to_bits().into()),
        };
        Self { inner: Some(inner) }
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        Self { ip: address.ip().into(), port: address.port().into() }
    }
}

impl TryFrom<&SocketAddress> for SocketAddr {
    type Error = AddressError;

    fn try_from(wire: &SocketAddress) -> Result<Self, AddressError> {
        let port = u16::try_from(wire.port).map_err(|_| AddressError::Port { port: wire.port })?;
        let ip = match wire.ip.inner {
            Some(Inner::V4(bits)) => IpAddr::V4(Ipv4Addr::from_bits(bits)),
            Some(Inner::V6(bits)) => IpAddr::V6(Ipv6Addr::from_bits(bits.into())),
            None => return Err(AddressError::NoIp),
        };
        Ok(Self::new(ip, port))
    }
}

impl From<u128> for Uint128 {
    fn from(value: u128) -> Self {
        // Truncation is the point: the number's two halves.
        #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
        let low = value as u64;
        let high = (value >> 64) as u64;
        Self { low, high }
    }
}

impl From<Uint128> for u128 {
    fn from(value: Uint128) -> Self {
        Self::from(value.high) << 64 | Self::from(value.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) {
        let address: SocketAddr = text.parse().expect("an address");
        assert_eq!(SocketAddr::try_from(&SocketAddress::from(address)), Ok(address));
    }

    #[test]
    fn addresses_survive_a_round_trip() {
        check("127.0.0.1:8080");
        check("255.255.255.255:65535");
        check("[::1]:80");
        check("[2001:db8:1:2:3:4:5:6]:443");
    }

    #[test]
    fn an_ipv6_address_is_two_halves() {
        let wire = SocketAddress::from("[1:2:3:4:5:6:7:8]:1".parse::<SocketAddr>().expect("an address"));
        let halves = Uint128 { low: 0x0005_0006_0007_0008, high: 0x0001_0002_0003_0004 };
        assert_eq!(wire.ip.inner, Some(Inner::V6(halves)));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let port = SocketAddress { ip: Ipv4Addr::LOCALHOST.to_bits().into_ip(), port: 65_536 };
        assert_eq!(SocketAddr::try_from(&port), Err(AddressError::Port { port: 65_536 }));
        assert_eq!(SocketAddr::try_from(&SocketAddress::default()), Err(AddressError::NoIp));
    }

    trait IntoIp {
        fn into_ip(self) -> IpAddress;
    }

    impl IntoIp for u32 {
        fn into_ip(self) -> IpAddress {
            IpAddress { inner: Some(Inner::V4(self)) }
        }
    }
}
