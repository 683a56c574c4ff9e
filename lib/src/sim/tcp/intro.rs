//! PROXY headers as clients of a listener send them that expects one, and as backends read them.
//!
//! Written and read here by the specification alone (HAProxy's `proxy-protocol.txt`, §2).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::rng::Rng;
use super::super::script::{Act, Script};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// PP2_TYPE_UNIQUE_ID: holds for any header, so that it is handed on.
const UNIQUE_ID: u8 = 5;

/// What comes before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intro {
    /// Nothing: none is expected.
    None,
    /// A header of this version with somebody else's addresses, cut at a percentage by a pause of so many ms.
    Named { version: u8, six: bool, tlv: bool, pause: Option<(usize, usize)> },
    /// One without addresses.
    Unnamed { version: u8 },
    /// Something else.
    Garbage,
    /// One that never ends.
    Long { version: u8 },
    /// A part of one, and the end.
    Half { version: u8, percent: usize },
    /// A part of one, or nothing, for ever.
    Silent { version: u8, percent: usize },
    /// Nothing, and the end.
    Gone,
}

impl Intro {
    pub(super) fn draw(pause_ms_max: usize, rng: &mut Rng) -> Self {
        let version = rng.pick(&[1, 2]);
        let percent = rng.below(100);
        match rng.below(100) {
            0..=69 => {
                let pause = rng.percent(40).then(|| (percent, rng.within(1..=pause_ms_max)));
                Self::Named { version, six: rng.percent(30), tlv: version == 2 && rng.percent(50), pause }
            }
            70..=79 => Self::Unnamed { version },
            80..=83 => Self::Garbage,
            84..=87 => Self::Long { version },
            88..=92 => Self::Half { version, percent },
            93..=97 => Self::Silent { version, percent },
            _ => Self::Gone,
        }
    }

    /// Whether the client is let in.
    pub(super) fn is_good(self) -> bool {
        matches!(self, Self::None | Self::Named { .. } | Self::Unnamed { .. })
    }

    /// Whether it counts as wrong: all that is not good, but for who says nothing and goes.
    pub(super) fn is_wrong(self) -> bool {
        let quiet = matches!(self, Self::Half { .. } | Self::Gone) && self.header().is_empty();
        !self.is_good() && !quiet
    }

    /// Whether nothing, or nothing more, comes of it.
    pub(super) fn is_silent(self) -> bool {
        matches!(self, Self::Silent { .. })
    }

    /// Whether it says something that is to be handed on.
    pub(super) fn has_addition(self) -> bool {
        matches!(self, Self::Named { tlv: true, .. })
    }

    /// Who it says the client is, and where it went.
    pub(super) fn ends(self) -> Option<(SocketAddr, SocketAddr)> {
        let Self::Named { six, .. } = self else { return None };
        Some(if six {
            let at = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
            (SocketAddr::from((at(7), 7007)), SocketAddr::from((at(8), 443)))
        } else {
            let at = |last: u8| Ipv4Addr::new(203, 0, 113, last);
            (SocketAddr::from((at(7), 7007)), SocketAddr::from((at(8), 443)))
        })
    }

    fn header(self) -> Vec<u8> {
        let whole = |version: u8| Self::Named { version, six: false, tlv: false, pause: None }.header();
        match self {
            Self::None | Self::Gone => Vec::new(),
            Self::Named { version: 1, six, .. } => {
                let (from, to) = self.ends().expect("it is named");
                let family = if six { "TCP6" } else { "TCP4" };
                let (ips, ports) = ((from.ip(), to.ip()), (from.port(), to.port()));
                format!("PROXY {family} {} {} {} {}\r\n", ips.0, ips.1, ports.0, ports.1).into_bytes()
            }
            Self::Named { six, tlv, .. } => {
                let (from, to) = self.ends().expect("it is named");
                let mut rest = Vec::new();
                for end in [from, to] {
                    match end {
                        SocketAddr::V4(end) => rest.extend(end.ip().octets()),
                        SocketAddr::V6(end) => rest.extend(end.ip().octets()),
                    }
                }
                rest.extend([from, to].iter().flat_map(|end| end.port().to_be_bytes()));
                if tlv {
                    rest.extend([UNIQUE_ID, 0, 3, b's', b'i', b'm']);
                }
                v2(0x21, if six { 0x21 } else { 0x11 }, &rest)
            }
            Self::Unnamed { version: 1 } => b"PROXY UNKNOWN\r\n".to_vec(),
            Self::Unnamed { .. } => v2(0x20, 0, &[]),
            Self::Garbage => b"QUIT\r\n".to_vec(),
            Self::Long { version: 1 } => format!("PROXY UNKNOWN {}", "x".repeat(200)).into_bytes(),
            Self::Long { .. } => v2(0x21, 0x11, &[0; 5000])[..40].to_vec(),
            Self::Half { version, percent } | Self::Silent { version, percent } => {
                let mut header = whole(version);
                header.truncate(header.len() * percent / 100);
                header
            }
        }
    }

    /// Puts it before all else.
    pub(super) fn write(self, script: &mut Script) {
        let header = self.header();
        match self {
            Self::None => {}
            Self::Named { pause, .. } => script.push_bytes(header, pause),
            Self::Half { .. } | Self::Gone => {
                script.push(Act::Send(header));
                script.push(Act::Finish);
            }
            _ => script.push(Act::Send(header)),
        }
    }
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(rest.len()).expect("short").to_be_bytes());
    header.extend(rest);
    header
}

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// An addition that was handed on.
    pub(super) named: bool,
}

/// Reads a header of that version off the beginning of `bytes`; none if it is not all there.
pub(super) fn read(version: u8, bytes: &mut Vec<u8>) -> Result<Option<Said>, String> {
    if version == 1 {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
            return if bytes.len() > 107 { Err("an endless header".to_owned()) } else { Ok(None) };
        };
        let line: Vec<u8> = bytes.drain(..=end).collect();
        let line = String::from_utf8(line).map_err(|error| error.to_string())?;
        let wrong = || format!("a header of version 1: {line:?}");
        let words: Vec<&str> = line.strip_suffix("\r\n").ok_or_else(wrong)?.split(' ').collect();
        let [_, _, from, to, from_port, to_port] = words[..] else { return Err(wrong()) };
        let end = |ip: &str, port: &str| -> Option<SocketAddr> {
            Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
        };
        let (Some(from), Some(to)) = (end(from, from_port), end(to, to_port)) else { return Err(wrong()) };
        let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
        if words[..2] != ["PROXY", family] || from.is_ipv4() != to.is_ipv4() {
            return Err(wrong());
        }
        return Ok(Some(Said { from, to, named: false }));
    }
    if bytes.len() < 16 {
        return Ok(None);
    }
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if bytes.len() < 16 + length {
        return Ok(None);
    }
    let header: Vec<u8> = bytes.drain(..16 + length).collect();
    let wrong = || format!("a header of version 2: {header:x?}");
    let (ip_bytes, rest) = match (&header[..12] == SIGNATURE, header[12], header[13]) {
        (true, 0x21, 0x11) => (4, &header[16..]),
        (true, 0x21, 0x21) => (16, &header[16..]),
        _ => return Err(wrong()),
    };
    let addresses = 2 * ip_bytes + 4;
    if rest.len() < addresses {
        return Err(wrong());
    }
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let end = |ip: &[u8], port: u16| match <[u8; 4]>::try_from(ip) {
        Ok(four) => SocketAddr::from((four, port)),
        Err(_) => SocketAddr::from((<[u8; 16]>::try_from(ip).expect("sixteen"), port)),
    };
    let from = end(&rest[..ip_bytes], port(2 * ip_bytes));
    let to = end(&rest[ip_bytes..2 * ip_bytes], port(2 * ip_bytes + 2));
    let mut additions = &rest[addresses..];
    let mut named = false;
    while !additions.is_empty() {
        let [kind, high, low, more @ ..] = additions else { return Err(wrong()) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let value = more.get(..length).ok_or_else(wrong)?;
        named |= *kind == UNIQUE_ID && value == b"sim";
        additions = &more[length..];
    }
    Ok(Some(Said { from, to, named }))
}
