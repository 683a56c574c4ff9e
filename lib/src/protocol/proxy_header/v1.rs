//! Version 1: one line of text (§2.1).

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str;

use super::{Ends, Header, Malformed, Tlvs, one_family};

const PREFIX: &[u8] = b"PROXY ";

/// The longest line with its CRLF; without it there was room for it in a buffer of 108 with a final NUL.
const LINE_BYTES_MAX: usize = 107;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header<'_>>, Malformed> {
    if !bytes.iter().zip(PREFIX).all(|(got, wanted)| got == wanted) {
        return Err(Malformed::NoHeader);
    }
    let seen = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() >= LINE_BYTES_MAX { Err(Malformed::LongLine) } else { Ok(None) };
    };
    let line = seen.get(PREFIX.len()..end).ok_or(Malformed::NoHeader)?;
    Ok(Some(Header { ends: ends(line)?, tlvs: Tlvs::NONE, bytes: end + 2 }))
}

fn ends(line: &[u8]) -> Result<Ends, Malformed> {
    let line = str::from_utf8(line).map_err(|_| Malformed::Line("bytes that are not ASCII"))?;
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored.
        return Ok(Ends::Own);
    }
    let mut word = || words.next().ok_or(Malformed::Line("too few words"));
    let (source, destination, source_port, destination_port) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(Malformed::Line("too many words"));
    }
    let address = |text: &str| -> Result<IpAddr, Malformed> {
        const WRONG: Malformed = Malformed::Line("an address that is not of its family");
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::from).map_err(|_| WRONG),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::from).map_err(|_| WRONG),
            _ => Err(Malformed::Line("a family that is not TCP4, TCP6 or UNKNOWN")),
        }
    };
    let port = |text: &str| {
        let canonical = text == "0" || !text.starts_with(['0', '+']);
        text.parse::<u16>().ok().filter(|_| canonical).ok_or(Malformed::Line("a port that is none"))
    };
    Ok(Ends::Proxied {
        source: SocketAddr::new(address(source)?, port(source_port)?),
        destination: SocketAddr::new(address(destination)?, port(destination_port)?),
    })
}

pub(super) fn write(ends: Ends, into: &mut Vec<u8>) {
    // Writing into a vector does not fail.
    let _ = match ends {
        Ends::Own => into.write_all(b"PROXY UNKNOWN\r\n"),
        Ends::Proxied { source, destination } => {
            let (source, destination) = one_family(source, destination);
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            write!(into, "PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port())
        }
    };
}
