//! When to parse a head that arrives in pieces.

use memchr::memchr;

use super::head::EMPTY_LINES_MAX;

/// Follows a head as it grows and tells when parsing it is worth while.
///
/// A parser that starts over with each arriving byte costs the square of the head's length, which a
/// slow client can make large. This looks at each byte once and asks for a parse when the head is
/// whole, and before that only on the first bytes and whenever they have doubled: garbage is
/// refused early, and all parses together touch a head at most four times.
#[derive(Debug, Clone, Default)]
pub struct HeadScanner {
    /// Bytes looked at: all lines before this offset are known.
    scanned: usize,
    /// Where the current line begins.
    line_start: usize,
    /// Empty lines seen before the first line.
    empty_lines: usize,
    /// The first line that is not empty has begun before `line_start`.
    begun: bool,
    /// Bytes there were at the last parse.
    parsed: usize,
    /// The head is whole, or beyond repair: parse whatever comes.
    decided: bool,
}

impl HeadScanner {
    /// A scanner for a message of which no byte has arrived.
    pub fn new() -> HeadScanner {
        HeadScanner::default()
    }

    /// Whether to parse `input` now: all bytes of the message so far, which must begin with those
    /// of earlier calls.
    ///
    /// Always true once the end of the head is in `input`, and once the first line is longer than `line_max`
    /// bytes, its CRLF not counted: requests have [`HeadLimits::request_line_max`], responses no such bound.
    ///
    /// [`HeadLimits::request_line_max`]: crate::protocol::http::HeadLimits::request_line_max
    pub fn should_parse(&mut self, input: &[u8], line_max: usize) -> bool {
        if self.parsed == 0 {
            // Most heads come in one piece: the parser finds that out by itself.
            self.parsed = input.len();
            return !input.is_empty();
        }
        while !self.decided {
            let Some(offset) = input.get(self.scanned..).and_then(|fresh| memchr(b'\n', fresh)) else {
                self.scanned = self.scanned.max(input.len());
                break;
            };
            let line_feed = self.scanned + offset;
            self.end_line(input.get(self.line_start..line_feed).unwrap_or_default(), line_max);
            self.scanned = line_feed + 1;
            self.line_start = line_feed + 1;
        }
        self.decided |= !self.begun && input.len() - self.line_start > line_max.saturating_add(1);
        let worth = self.decided || input.len() >= self.parsed.saturating_mul(2).max(1);
        if worth {
            self.parsed = input.len();
        }
        worth
    }

    /// Takes note of a line, given without its line feed.
    fn end_line(&mut self, line: &[u8], line_max: usize) {
        match line {
            b"\r" if self.begun => self.decided = true,
            b"\r" => {
                self.empty_lines += 1;
                self.decided = self.empty_lines > EMPTY_LINES_MAX;
            }
            // A bare line feed: the parser refuses it.
            _ if line.last() != Some(&b'\r') => self.decided = true,
            _ => {
                self.decided |= !self.begun && line.len() > line_max.saturating_add(1);
                self.begun = true;
            }
        }
    }
}
