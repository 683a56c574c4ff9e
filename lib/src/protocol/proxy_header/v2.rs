//! Version 2: binary, and open to additions (§2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{BYTES_MAX, Ends, Header, Malformed, one_family};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and protocol, length.
const FIXED_BYTES: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// PP2_TYPE_CRC32C.
const CHECKSUM: u8 = 3;

const INET_STREAM: u8 = 0x11;
const INET6_STREAM: u8 = 0x21;

/// What a header says besides the addresses: types, lengths and values (§2.2.1 and after), whole ones only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    /// None at all.
    pub const NONE: Self = Self(&[]);

    /// `bytes` if they are whole additions.
    ///
    /// # Errors
    /// They end in the middle of one.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = after_first(rest).ok_or(Malformed::Tlv)?;
        }
        Ok(Self(bytes))
    }

    /// Those that hold for another header too: all but the checksum of this one (PP2_TYPE_CRC32C, §2.2.4).
    pub fn lasting(self) -> Vec<u8> {
        let mut lasting = Vec::with_capacity(self.0.len());
        let mut rest = self.0;
        while let Some(next) = after_first(rest) {
            let one = rest.get(..rest.len() - next.len()).unwrap_or_default();
            if one.first() != Some(&CHECKSUM) {
                lasting.extend_from_slice(one);
            }
            rest = next;
        }
        lasting
    }

    /// As they came.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// What follows the first of some additions: a type, a length of two bytes, a value.
fn after_first(bytes: &[u8]) -> Option<&[u8]> {
    let (&[_, high, low], rest) = bytes.split_first_chunk::<3>()?;
    rest.get(usize::from(u16::from_be_bytes([high, low]))..)
}

pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header<'_>>, Malformed> {
    if !bytes.iter().zip(SIGNATURE).all(|(got, wanted)| got == wanted) {
        return Err(Malformed::NoHeader);
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let [.., command, family, high, low] = *fixed;
    if command != LOCAL && command != PROXY {
        return Err(Malformed::Command(command));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED_BYTES + length > BYTES_MAX {
        return Err(Malformed::Long(FIXED_BYTES + length));
    }
    // What is wrong already will not be mended by what comes.
    let address_bytes = address_bytes(family)?;
    if length < address_bytes && command == PROXY {
        return Err(Malformed::Short(length));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let header = |ends, tlvs| Ok(Some(Header { ends, tlvs, bytes: FIXED_BYTES + length }));
    if command == LOCAL {
        // Its addresses and all else have to be ignored.
        return header(Ends::Own, Tlvs::NONE);
    }
    let (addresses, tlvs) = body.split_at_checked(address_bytes).ok_or(Malformed::Short(length))?;
    // Without a family nobody knows where additions begin.
    let tlvs = if address_bytes == 0 { Tlvs::NONE } else { Tlvs::new(tlvs)? };
    header(ends(family, addresses).unwrap_or(Ends::Own), tlvs)
}

/// Bytes of both addresses of a family.
fn address_bytes(family: u8) -> Result<usize, Malformed> {
    if family & 0x0f > 2 {
        return Err(Malformed::Family(family));
    }
    match family >> 4 {
        0 => Ok(0),
        1 => Ok(12),
        2 => Ok(36),
        3 => Ok(216),
        _ => Err(Malformed::Family(family)),
    }
}

/// Those of IP; paths of Unix sockets tell nothing of the client.
fn ends(family: u8, bytes: &[u8]) -> Option<Ends> {
    let (source, destination, ports): (IpAddr, IpAddr, &[u8]) = match family >> 4 {
        1 => {
            let (source, rest) = bytes.split_first_chunk::<4>()?;
            let (destination, ports) = rest.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*source).into(), Ipv4Addr::from(*destination).into(), ports)
        }
        2 => {
            let (source, rest) = bytes.split_first_chunk::<16>()?;
            let (destination, ports) = rest.split_first_chunk::<16>()?;
            (Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into(), ports)
        }
        _ => return None,
    };
    let &[a, b, c, d] = ports else { return None };
    Some(Ends::Proxied {
        source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
    })
}

pub(super) fn write(ends: Ends, tlvs: Tlvs<'_>, into: &mut Vec<u8>) {
    into.extend_from_slice(SIGNATURE);
    let (command, family, addresses) = match ends {
        Ends::Own => (LOCAL, 0, 0),
        Ends::Proxied { source, destination } => match one_family(source, destination).0 {
            SocketAddr::V4(_) => (PROXY, INET_STREAM, 12),
            SocketAddr::V6(_) => (PROXY, INET6_STREAM, 36),
        },
    };
    // Those of a header that was read fit; a longer list is not made.
    let tlvs = if addresses == 0 { &[] } else { tlvs.bytes() };
    let length = u16::try_from(addresses + tlvs.len()).unwrap_or(u16::MAX);
    into.extend_from_slice(&[command, family]);
    into.extend_from_slice(&length.to_be_bytes());
    if let Ends::Proxied { source, destination } = ends {
        let (source, destination) = one_family(source, destination);
        for address in [source, destination] {
            match address.ip() {
                IpAddr::V4(ip) => into.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => into.extend_from_slice(&ip.octets()),
            }
        }
        for address in [source, destination] {
            into.extend_from_slice(&address.port().to_be_bytes());
        }
    }
    into.extend_from_slice(tlvs);
}
