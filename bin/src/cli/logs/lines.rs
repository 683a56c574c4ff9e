//! [`Lines`]: the lines of a file of any size, in constant memory.

use std::io::{self, Read};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// What stands between two line feeds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Without its line feed.
    Whole(&'a [u8]),
    /// It was longer than lines may be, and is lost.
    TooLong,
}

/// A buffer that hands out lines. It holds at most one line and one chunk.
#[derive(Debug)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Where the line begins that comes next.
    start: usize,
    /// Up to here there is no line feed from `start` on.
    searched: usize,
    /// End of what was read.
    end: usize,
    /// Longest line, in bytes.
    max: usize,
    /// Inside a line that is too long.
    skipping: bool,
}

impl Lines {
    /// Nothing read yet. `max` is the longest line, in bytes, its end not counted.
    pub(super) fn new(max: usize) -> Self {
        Self { buffer: vec![0; CHUNK_BYTES], start: 0, searched: 0, end: 0, max, skipping: false }
    }

    /// The next line of what was read; none if its end was not read yet.
    pub(super) fn next(&mut self) -> Option<Line<'_>> {
        let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..self.end]) else {
            self.searched = self.end;
            if self.end - self.start > self.max {
                self.skipping = true;
                self.start = self.end;
            }
            return None;
        };
        let (from, to) = (self.start, self.searched + at);
        self.start = to + 1;
        self.searched = self.start;
        Some(self.line(from, to))
    }

    /// Reads on; gives how many bytes came, 0 at the end of the source.
    ///
    /// # Errors
    /// Those of the source.
    pub(super) fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.searched, self.end) = (0, 0, 0);
        } else if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.searched -= self.start;
                self.end -= self.start;
                self.start = 0;
            } else {
                // A line beyond the bound was dropped before, so that this ends.
                self.buffer.resize(self.buffer.len() + CHUNK_BYTES, 0);
            }
        }
        loop {
            match source.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What was read since the last line feed, if anything: the last line of a file that ends without one.
    pub(super) fn rest(&mut self) -> Option<Line<'_>> {
        let (from, to) = (self.start, self.end);
        (self.start, self.searched) = (to, to);
        (from < to || self.skipping).then(|| self.line(from, to))
    }

    fn line(&mut self, from: usize, to: usize) -> Line<'_> {
        if std::mem::take(&mut self.skipping) || to - from > self.max {
            return Line::TooLong;
        }
        Line::Whole(&self.buffer[from..to])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives as many bytes at a time as it is told.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            let (now, later) = self.0.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn read(text: &[u8], piece: usize, max: usize) -> Vec<Option<Vec<u8>>> {
        let (mut lines, mut source, mut out) = (Lines::new(max), Pieces(text, piece), Vec::new());
        let owned = |line: Line<'_>| match line {
            Line::Whole(line) => Some(line.to_vec()),
            Line::TooLong => None,
        };
        loop {
            while let Some(line) = lines.next() {
                out.push(owned(line));
            }
            if lines.fill(&mut source).unwrap() == 0 {
                out.extend(lines.rest().map(owned));
                return out;
            }
        }
    }

    fn check(text: &str, max: usize, expected: &[Option<&str>]) {
        let expected: Vec<_> =
            expected.iter().map(|line| line.map(|line| line.as_bytes().to_vec())).collect();
        for piece in [1, 2, 3, 1000] {
            assert_eq!(read(text.as_bytes(), piece, max), expected, "{text:?} by {piece}");
        }
    }

    #[test]
    fn lines_are_the_same_however_they_are_read() {
        check("", 9, &[]);
        check("one\ntwo\n", 9, &[Some("one"), Some("two")]);
        check("one\n\ntwo", 9, &[Some("one"), Some(""), Some("two")]);
    }

    #[test]
    fn what_is_too_long_is_told_once_and_left() {
        check("123456789\n1\n", 9, &[Some("123456789"), Some("1")]);
        check("1234567890\n1\n", 9, &[None, Some("1")]);
        check("1\n123456789012345678901234567890", 9, &[Some("1"), None]);
    }

    #[test]
    fn memory_is_bounded_by_the_longest_line() {
        let mut lines = Lines::new(CHUNK_BYTES * 2);
        let mut endless = io::repeat(b'x');
        for _ in 0..100 {
            assert!(lines.next().is_none());
            lines.fill(&mut endless).unwrap();
        }
        assert!(lines.buffer.len() <= CHUNK_BYTES * 4, "{}", lines.buffer.len());
        let text: Vec<u8> = [vec![b'a'; CHUNK_BYTES * 2], b"\nb\n".to_vec()].concat();
        assert_eq!(read(&text, 10_000, CHUNK_BYTES * 2).len(), 2);
        assert_eq!(read(&text, 10_000, CHUNK_BYTES * 2)[1].as_deref(), Some(&b"b"[..]));
    }
}
