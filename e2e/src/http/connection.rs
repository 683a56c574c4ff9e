//! A socket with the bytes that were read too far: what client and backend have in common.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::message::{Fields, Framing, ReadError};

/// More than any head a test sends or expects.
const LINE_BYTES_MAX: usize = 1 << 20;

const READ_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    input: Vec<u8>,
    start: usize,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Connection { stream, input: Vec::new(), start: 0 }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.stream.write_all(bytes).map_err(|error| classify(error, "write"))
    }

    /// Bytes that are there already, without reading more.
    pub(super) fn buffered(&self) -> &[u8] {
        &self.input[self.start..]
    }

    pub(super) fn take_buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.input).split_off(std::mem::take(&mut self.start))
    }

    /// Bytes as they come, whatever they mean; none at the end of the stream.
    pub(super) fn some(&mut self) -> Result<Vec<u8>, ReadError> {
        if self.buffered().is_empty() {
            self.fill("bytes")?;
        }
        Ok(self.take_buffered())
    }

    /// Exactly `count` bytes, whatever they mean.
    pub(super) fn raw(&mut self, count: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::with_capacity(count);
        self.exactly(count as u64, &mut |piece: &[u8]| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// Reads once; `false` at the end of the stream.
    pub(super) fn fill(&mut self, what: &'static str) -> Result<bool, ReadError> {
        if self.start > 0 {
            self.input.drain(..self.start);
            self.start = 0;
        }
        let len = self.input.len();
        self.input.resize(len + READ_BYTES, 0);
        let result = self.stream.read(&mut self.input[len..]);
        self.input.truncate(len + result.as_ref().map_or(0, |count| *count));
        match result {
            Ok(count) => Ok(count > 0),
            Err(error) => Err(classify(error, what)),
        }
    }

    /// One line without its CRLF; `None` if the stream ends before its first byte.
    fn line(&mut self, what: &'static str) -> Result<Option<String>, ReadError> {
        loop {
            if let Some(end) = self.buffered().iter().position(|byte| *byte == b'\n') {
                let line = self.buffered()[..end].to_vec();
                self.start += end + 1;
                let line = line.strip_suffix(b"\r").ok_or_else(|| malformed("a lone LF", &line))?;
                if line.contains(&b'\r') {
                    return Err(malformed("a lone CR", line));
                }
                let line = String::from_utf8(line.to_vec()).map_err(|_| malformed("not UTF-8", line))?;
                return Ok(Some(line));
            }
            if self.buffered().len() > LINE_BYTES_MAX {
                return Err(malformed("an endless line", b""));
            }
            if !self.fill(what)? {
                return if self.buffered().is_empty() { Ok(None) } else { Err(ReadError::Truncated(what)) };
            }
        }
    }

    /// A start line and the fields; `None` if the stream ends cleanly before.
    pub(super) fn head(&mut self) -> Result<Option<(String, Fields)>, ReadError> {
        let Some(start_line) = self.line("head")? else { return Ok(None) };
        Ok(Some((start_line, self.fields("head")?)))
    }

    fn fields(&mut self, what: &'static str) -> Result<Fields, ReadError> {
        let mut fields = Vec::new();
        loop {
            let line = self.line(what)?.ok_or(ReadError::Truncated(what))?;
            if line.is_empty() {
                return Ok(Fields(fields));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| malformed("no colon", line.as_bytes()))?;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(malformed("field name", line.as_bytes()));
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// Reads a body in pieces; gives its trailers.
    pub(super) fn body(
        &mut self,
        framing: Framing,
        mut piece: impl FnMut(&[u8]),
    ) -> Result<Fields, ReadError> {
        match framing {
            Framing::None => {}
            Framing::Length(length) => self.exactly(length, &mut piece)?,
            Framing::UntilClose => loop {
                let buffered = self.buffered();
                piece(buffered);
                self.start += buffered.len();
                if !self.fill("body")? {
                    break;
                }
            },
            Framing::Chunked => loop {
                let line = self.line("chunk head")?.ok_or(ReadError::Truncated("chunk head"))?;
                let size =
                    u64::from_str_radix(&line, 16).map_err(|_| malformed("chunk size", line.as_bytes()))?;
                if size == 0 {
                    return self.fields("trailers");
                }
                self.exactly(size, &mut piece)?;
                match self.line("chunk")?.as_deref() {
                    Some("") => {}
                    other => return Err(ReadError::Malformed(format!("{other:?} after a chunk"))),
                }
            },
        }
        Ok(Fields::default())
    }

    fn exactly(&mut self, mut left: u64, piece: &mut impl FnMut(&[u8])) -> Result<(), ReadError> {
        while left > 0 {
            if self.buffered().is_empty() && !self.fill("body")? {
                return Err(ReadError::Truncated("body"));
            }
            let available = self.buffered();
            let count = available.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            piece(&available[..count]);
            self.start += count;
            left -= count as u64;
        }
        Ok(())
    }
}

fn malformed(what: &str, bytes: &[u8]) -> ReadError {
    let shown = &bytes[..bytes.len().min(200)];
    ReadError::Malformed(format!("{what}: {:?}", String::from_utf8_lossy(shown)))
}

fn classify(error: std::io::Error, what: &'static str) -> ReadError {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ReadError::TimedOut(what),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => ReadError::Reset,
        _ => ReadError::Io(error),
    }
}
