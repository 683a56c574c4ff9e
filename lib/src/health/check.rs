//! One probe: what is sent, and what the answer says.
//!
//! [`Probe`] is asked for [`unsent`](Probe::unsent) and told of what was [`sent`](Probe::sent) and
//! [`received`](Probe::received), until it has an answer. Of a response it reads the status line (RFC 9112 §4), past
//! those that only inform (RFC 9110 §15.2); the rest is nobody's business. How long it all takes is for the caller to
//! watch.

use std::fmt;
use std::io;

/// Bytes of an answer that are read at most: 1xx heads before the status.
pub const PROBE_ANSWER_BYTES_MAX: usize = 16 * 1024;

/// `HTTP/1.1 200`, and what ends it.
const STATUS_LINE_BYTES: usize = 13;

/// See the module.
#[derive(Debug)]
pub struct Probe {
    request: Vec<u8>,
    sent: usize,
    line: [u8; STATUS_LINE_BYTES],
    line_len: usize,
    /// The end of a 1xx head is awaited; how much of it was seen.
    skipping: Option<BlankLine>,
    taken: usize,
}

/// How much of an empty line the last bytes were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlankLine {
    /// Within a line.
    No,
    /// At the beginning of one.
    Begin,
    /// A carriage return is all that is in it.
    Return,
}

/// Why a probe failed. Told in the log, in events and to whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens, or nobody is there.
    Connect(Option<io::ErrorKind>),
    /// It was not over in time.
    Timeout,
    /// The backend closed the connection before it answered.
    Closed,
    /// What came is no answer.
    NoHttp,
    /// The status is none of those that are taken.
    Status(u16),
    /// TLS could not be agreed on, or the backend is not who it should be.
    Tls,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(Some(kind)) => write!(f, "cannot connect: {kind}"),
            Self::Connect(None) => f.write_str("cannot connect"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Closed => f.write_str("the connection was closed without an answer"),
            Self::NoHttp => f.write_str("what came is no HTTP answer"),
            Self::Status(status) => write!(f, "answered by {status}"),
            Self::Tls => f.write_str("TLS failed"),
        }
    }
}

impl Probe {
    /// A probe that sends this request.
    pub fn new(request: Vec<u8>) -> Self {
        Self { request, sent: 0, line: [0; STATUS_LINE_BYTES], line_len: 0, skipping: None, taken: 0 }
    }

    /// What is still to be sent.
    pub fn unsent(&self) -> &[u8] {
        self.request.get(self.sent..).unwrap_or_default()
    }

    /// So many more bytes were sent.
    pub fn sent(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count).min(self.request.len());
    }

    /// These bytes came. The status, or what is wrong with them, once that can be told.
    pub fn received(&mut self, bytes: &[u8]) -> Option<Result<u16, Failure>> {
        for &byte in bytes {
            self.taken += 1;
            if self.taken > PROBE_ANSWER_BYTES_MAX {
                return Some(Err(Failure::NoHttp));
            }
            if let Some(blank) = self.skipping {
                self.skip(blank, byte);
                continue;
            }
            if let Some(slot) = self.line.get_mut(self.line_len) {
                *slot = byte;
                self.line_len += 1;
            }
            if self.line_len < STATUS_LINE_BYTES {
                if is_no_beginning(self.line.get(..self.line_len).unwrap_or_default()) {
                    return Some(Err(Failure::NoHttp));
                }
                continue;
            }
            match status(&self.line) {
                None => return Some(Err(Failure::NoHttp)),
                // What follows is no HTTP any more, and nobody asked for that.
                Some(101) => return Some(Err(Failure::NoHttp)),
                Some(100..=199) => {
                    self.line_len = 0;
                    self.skipping = Some(if byte == b'\n' { BlankLine::Begin } else { BlankLine::No });
                }
                Some(status) => return Some(Ok(status)),
            }
        }
        None
    }

    fn skip(&mut self, blank: BlankLine, byte: u8) {
        self.skipping = match (blank, byte) {
            (BlankLine::Begin | BlankLine::Return, b'\n') => None,
            (_, b'\n') => Some(BlankLine::Begin),
            (BlankLine::Begin, b'\r') => Some(BlankLine::Return),
            _ => Some(BlankLine::No),
        };
    }
}

/// Whether no status line begins so.
fn is_no_beginning(line: &[u8]) -> bool {
    line.iter().zip(b"HTTP/1.").any(|(byte, expected)| byte != expected)
}

/// The status of a line of which this is the beginning: `HTTP/1.`, a digit, a space, three digits, and their end.
fn status(line: &[u8; STATUS_LINE_BYTES]) -> Option<u16> {
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, b' ', hundreds, tens, ones, end] = *line else {
        return None;
    };
    let digits = [minor, hundreds, tens, ones].iter().all(u8::is_ascii_digit);
    let ends = matches!(end, b' ' | b'\r' | b'\n');
    let digit = |byte: u8| u16::from(byte.wrapping_sub(b'0'));
    let status = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
    (digits && ends && (100..=599).contains(&status)).then_some(status)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(answer: &[u8]) -> Option<Result<u16, Failure>> {
        Probe::new(Vec::new()).received(answer)
    }

    #[test]
    fn a_status_is_read_and_nothing_behind_it() {
        let check =
            |answer: &[u8], expected| assert_eq!(whole(answer), expected, "{}", answer.escape_ascii());
        check(b"HTTP/1.1 200 OK\r\n", Some(Ok(200)));
        check(b"HTTP/1.0 503 \r\n", Some(Ok(503)));
        check(b"HTTP/1.1 204\r\n", Some(Ok(204)));
        check(b"HTTP/1.1 200", None);
        check(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n", Some(Ok(204)));
        check(b"HTTP/1.1 103\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK", Some(Ok(200)));
        check(b"HTTP/1.1 103\nLink: HTTP/1.1 200\n\nHTTP/1.1 500 No", Some(Ok(500)));
        check(b"HTTP/1.1 101 Switching\r\n\r\n", Some(Err(Failure::NoHttp)));
        for garbage in [
            &b"SSH-2.0-x\r\n"[..],
            b"HTTP/2.0 200 OK",
            b"HTTP/1.1 2000 ",
            b"HTTP/1.1  200 ",
            b"HTTP/1.1 99  ",
        ] {
            check(garbage, Some(Err(Failure::NoHttp)));
        }
    }

    #[test]
    fn an_answer_without_end_is_given_up() {
        let mut probe = Probe::new(Vec::new());
        assert_eq!(probe.received(b"HTTP/1.1 100 Continue\r\nX: "), None);
        let piece = [b'a'; 1000];
        let mut rounds = 0;
        while probe.received(&piece).is_none() {
            rounds += 1;
            assert!(rounds <= PROBE_ANSWER_BYTES_MAX / piece.len() + 1, "it reads on for ever");
        }
        assert!(probe.taken <= PROBE_ANSWER_BYTES_MAX + 1);
    }

    #[test]
    fn what_was_sent_is_not_sent_again() {
        let mut probe = Probe::new(b"GET".to_vec());
        probe.sent(2);
        assert_eq!(probe.unsent(), b"T");
        probe.sent(9);
        assert_eq!(probe.unsent(), b"");
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes: Vec<u8>) {
            let _verdict = whole(&bytes);
        }

        #[test]
        fn however_it_is_cut_an_answer_says_the_same(
            informed in 0..3_usize,
            status in 200..600_u16,
            cuts in proptest::collection::vec(0..200_usize, 0..6),
        ) {
            let mut answer = b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n".repeat(informed);
            answer.extend_from_slice(format!("HTTP/1.1 {status} X\r\n\r\n").as_bytes());
            let mut places: Vec<_> = cuts.iter().map(|cut| cut % answer.len()).chain([0, answer.len()]).collect();
            places.sort_unstable();
            let mut probe = Probe::new(Vec::new());
            let said = places.windows(2).find_map(|pair| probe.received(&answer[pair[0]..pair[1]]));
            prop_assert_eq!(said, Some(Ok(status)));
        }
    }
}
