//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): who the client is, told by a proxy in
//! front before the first byte of the client's own.
//!
//! [`parse`] looks at what has come so far and says whether more is needed; nothing is kept between calls.
//! [`write`](fn@write) makes a header for a backend. Bounds: a header of version 1 is at most 107 bytes long (§2.1),
//! one of version 2 at most [`BYTES_MAX`], which is far more than what its additions (TLVs) need in practice.

#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::net::SocketAddr;

pub use v2::Tlvs;

/// The longest header that is read.
pub const BYTES_MAX: usize = 4096;

/// Whom a connection is from and to, as far as the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The proxy speaks for itself (LOCAL, as its health checks do), or does not know: those of the connection hold.
    Own,
    /// Those of the client's connection.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
}

/// A header that is all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Whom it is about.
    pub ends: Ends,
    /// What a header of version 2 says besides.
    pub tlvs: Tlvs<'a>,
    /// Bytes of the whole header: what comes behind is the client's.
    pub bytes: usize,
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It begins as neither version does.
    #[error("no PROXY header: the connection begins otherwise")]
    NoHeader,
    /// A line of version 1 does not end within 107 bytes.
    #[error("the line of the PROXY header does not end within 107 bytes")]
    LongLine,
    /// A line of version 1 is not what it should be.
    #[error("the line of the PROXY header has {0}")]
    Line(&'static str),
    /// Neither version 2, nor LOCAL or PROXY.
    #[error("the PROXY header has version and command {0:#04x}")]
    Command(u8),
    /// No family that there is.
    #[error("the PROXY header has address family and protocol {0:#04x}")]
    Family(u8),
    /// The addresses do not fit into its length.
    #[error("the PROXY header is too short for its addresses: {0} bytes")]
    Short(usize),
    /// More than is read.
    #[error("the PROXY header is longer than {BYTES_MAX} bytes: {0}")]
    Long(usize),
    /// The additions do not fill what is left of its length.
    #[error("the additions of the PROXY header end in the middle of one")]
    Tlv,
}

/// Reads the header at the beginning of `bytes`. `None`: it is not all there.
///
/// # Errors
/// Whatever comes, it will be no header.
pub fn parse(bytes: &[u8]) -> Result<Option<Header<'_>>, Malformed> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => v1::parse(bytes),
        Some(b'\r') => v2::parse(bytes),
        Some(_) => Err(Malformed::NoHeader),
    }
}

/// Which version to write, and what can be said in it.
#[derive(Debug, Clone, Copy)]
pub enum Form<'a> {
    /// A line.
    V1,
    /// Binary, with these additions.
    V2(Tlvs<'a>),
}

/// Writes a header behind what `into` has.
pub fn write(form: Form<'_>, ends: Ends, into: &mut Vec<u8>) {
    match form {
        Form::V1 => v1::write(ends, into),
        Form::V2(tlvs) => v2::write(ends, tlvs, into),
    }
}

/// Both addresses in one family: IPv4 ones become IPv6 where the other is.
fn one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let mapped = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        v6 @ SocketAddr::V6(_) => v6,
    };
    let (source, destination) = (plain(source), plain(destination));
    match source.is_ipv4() == destination.is_ipv4() {
        true => (source, destination),
        false => (mapped(source), mapped(destination)),
    }
}
