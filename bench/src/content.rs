//! What is asked and what must come back: the bodies, known to both ends, and the requests.

/// Bodies in bytes, as the scenarios name them.
pub(crate) const SMALL_BYTES: usize = 100;
pub(crate) const LARGE_BYTES: usize = 1024 * 1024;
pub(crate) const UPLOAD_BYTES: usize = 64 * 1024;
/// Through a tunnel: long enough that its beginning does not count.
pub(crate) const BULK_BYTES: usize = 16 * 1024 * 1024;

/// Paths by which the backend knows what is asked.
pub(crate) const SMALL_PATH: &str = "/small";
pub(crate) const LARGE_PATH: &str = "/large";
pub(crate) const UPLOAD_PATH: &str = "/upload";
pub(crate) const BULK_PATH: &str = "/bulk";

/// `length` bytes without a period, so that bytes lost, doubled or displaced are seen.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state: u32 = 0x9E37_79B9;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        // Marsaglia's xorshift32.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// One host's name.
pub(crate) fn host(index: usize) -> String {
    format!("host-{index}.bench.test")
}

/// What the load generator sends, in turn, and the body that must come back.
pub(crate) struct Exchange {
    /// One after the other, from the front again after the last.
    pub requests: Vec<Vec<u8>>,
    pub answer_body: Vec<u8>,
}

/// How a request is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Small,
    /// As `Small`, but the client asks for the connection to be closed.
    SmallAndClose,
    Large,
    Upload,
    Bulk,
}

impl Exchange {
    /// Requests of one kind for each of `hosts` hosts.
    pub(crate) fn new(kind: Kind, hosts: usize) -> Exchange {
        let requests = (0..hosts).map(|turn| request(kind, &host(scattered(turn, hosts)))).collect();
        let answer_body = pattern(match kind {
            Kind::Small | Kind::SmallAndClose | Kind::Upload => SMALL_BYTES,
            Kind::Large => LARGE_BYTES,
            Kind::Bulk => BULK_BYTES,
        });
        Exchange { requests, answer_body }
    }
}

/// Neighbours in time should not be neighbours in anybody's table: a stride without a common divisor.
fn scattered(turn: usize, hosts: usize) -> usize {
    const PRIME: usize = 7_919;
    debug_assert!(!hosts.is_multiple_of(PRIME));
    turn * PRIME % hosts
}

fn request(kind: Kind, host: &str) -> Vec<u8> {
    let (method, path, more) = match kind {
        Kind::Small => ("GET", SMALL_PATH, String::new()),
        Kind::SmallAndClose => ("GET", SMALL_PATH, "Connection: close\r\n".to_owned()),
        Kind::Large => ("GET", LARGE_PATH, String::new()),
        Kind::Bulk => ("GET", BULK_PATH, String::new()),
        Kind::Upload => ("POST", UPLOAD_PATH, format!("Content-Length: {UPLOAD_BYTES}\r\n")),
    };
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kakehi-bench\r\nAccept: */*\r\n{more}\r\n"
    )
    .into_bytes();
    if kind == Kind::Upload {
        bytes.extend_from_slice(&pattern(UPLOAD_BYTES));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_host_is_asked_for_once_in_a_turn() {
        for hosts in [1, 10, 10_000] {
            let asked: HashSet<usize> = (0..hosts).map(|turn| scattered(turn, hosts)).collect();
            assert_eq!(asked.len(), hosts);
        }
    }

    #[test]
    fn a_pattern_is_told_from_itself_displaced() {
        let bytes = pattern(LARGE_BYTES);
        assert_eq!(bytes.len(), LARGE_BYTES);
        assert_ne!(bytes[..4096], bytes[4096..8192]);
        assert_ne!(bytes[..4096], bytes[1..4097]);
        assert_eq!(bytes[..SMALL_BYTES], pattern(SMALL_BYTES));
    }
}
