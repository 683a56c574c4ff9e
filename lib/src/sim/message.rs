//! HTTP/1 messages as a plain, independent reader understands them.
//!
//! Knows nothing of the proxy's own parser: what both understand alike is what was meant. It is strict,
//! since the proxy promises one canonical form.

/// A start line and its fields.
#[derive(Debug, Clone, Default)]
pub(super) struct Head {
    pub(super) start: String,
    pub(super) fields: Vec<(String, String)>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "a head that is not UTF-8")?;
        let mut lines = text.split("\r\n");
        let start = lines.next().ok_or("a head without a start line")?.to_owned();
        let field = |line: &str| -> Result<(String, String), String> {
            let (name, value) = line.split_once(": ").ok_or_else(|| format!("field line {line:?}"))?;
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if name.is_empty() || !name.chars().all(is_name) || value.contains(['\r', '\n']) {
                return Err(format!("field line {line:?}"));
            }
            Ok((name.to_owned(), value.to_owned()))
        };
        Ok(Self { start, fields: lines.map(field).collect::<Result<_, _>>()? })
    }

    /// All values of a field.
    pub(super) fn all<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let same = move |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str())
    }

    pub(super) fn first(&self, name: &'static str) -> Option<&str> {
        self.all(name).next()
    }

    /// The status of a response.
    pub(super) fn status(&self) -> Result<u16, String> {
        let rest =
            self.start.strip_prefix("HTTP/1.1 ").ok_or_else(|| format!("status line {:?}", self.start))?;
        let digits = rest.get(..3).filter(|_| rest.get(3..4) == Some(" "));
        digits.and_then(|text| text.parse().ok()).ok_or_else(|| format!("status line {:?}", self.start))
    }

    /// Method and target of a request.
    pub(super) fn request_line(&self) -> Result<(&str, &str), String> {
        let line =
            self.start.strip_suffix(" HTTP/1.1").ok_or_else(|| format!("request line {:?}", self.start))?;
        line.split_once(' ').ok_or_else(|| format!("request line {:?}", self.start))
    }

    pub(super) fn closes(&self) -> bool {
        self.all("Connection").any(|value| value.eq_ignore_ascii_case("close"))
    }

    /// What the fields say of the body's end; none if they say nothing.
    fn announced(&self) -> Result<Option<Delimiter>, String> {
        let lengths: Vec<&str> = self.all("Content-Length").collect();
        let codings: Vec<&str> = self.all("Transfer-Encoding").collect();
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(None),
            ([length], []) => {
                let length = length.parse().map_err(|_| format!("length {length:?}"))?;
                Ok(Some(Delimiter::Length(length)))
            }
            ([], ["chunked"]) => Ok(Some(Delimiter::Chunked)),
            _ => Err(format!("ambiguous framing: {lengths:?} {codings:?}")),
        }
    }

    pub(super) fn request_delimiter(&self) -> Result<Delimiter, String> {
        Ok(self.announced()?.unwrap_or(Delimiter::Length(0)))
    }

    pub(super) fn response_delimiter(&self, to_head: bool) -> Result<Delimiter, String> {
        let announced = self.announced()?;
        let status = self.status()?;
        if status < 200 || status == 204 {
            return match announced {
                None => Ok(Delimiter::Length(0)),
                Some(_) => Err(format!("{status} announces a body")),
            };
        }
        if to_head || status == 304 {
            return Ok(Delimiter::Length(0));
        }
        Ok(announced.unwrap_or(Delimiter::End))
    }
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delimiter {
    Length(usize),
    Chunked,
    /// With the connection.
    End,
}

/// What became complete.
#[derive(Debug)]
pub(super) enum Event {
    Head(Head),
    Body { body: Vec<u8>, trailers: Vec<(String, String)> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Data { left: usize },
    ChunkLine,
    ChunkData { left: usize },
    ChunkEnd,
    Trailers,
    ToEnd,
}

/// Takes a connection's bytes apart. After a head, tell it about the body.
#[derive(Debug)]
pub(super) struct Reader {
    bytes: Vec<u8>,
    /// Of `bytes`, done with.
    at: usize,
    /// Of `bytes`, known to hold no end of what is looked for.
    seen: usize,
    state: State,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { bytes: vec![], at: 0, seen: 0, state: State::Head, body: vec![], trailers: vec![] }
    }
}

impl Reader {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.at == self.bytes.len() {
            self.bytes.clear();
            (self.at, self.seen) = (0, 0);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes of the next message, or of what is no message.
    pub(super) fn is_at_boundary(&self) -> bool {
        self.state == State::Head && self.at == self.bytes.len()
    }

    pub(super) fn expect_body(&mut self, delimiter: Delimiter) {
        self.state = match delimiter {
            Delimiter::Length(left) => State::Data { left },
            Delimiter::Chunked => State::ChunkLine,
            Delimiter::End => State::ToEnd,
        };
    }

    /// What came behind the last message, to be understood by others.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.bytes.split_off(self.at);
        self.seen = self.at;
        rest
    }

    /// The connection ended: whether that completes a message.
    pub(super) fn end(&mut self) -> Result<Option<Event>, String> {
        match self.state {
            State::ToEnd => Ok(Some(self.complete())),
            State::Head if self.at == self.bytes.len() => Ok(None),
            _ => Err(format!("the connection ended within a message, at {:?}", self.state)),
        }
    }

    fn complete(&mut self) -> Event {
        self.state = State::Head;
        self.seen = self.at;
        Event::Body { body: std::mem::take(&mut self.body), trailers: std::mem::take(&mut self.trailers) }
    }

    /// Takes what ends in `end`; gives it without.
    fn take_until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        let from = self.seen.max(self.at);
        let Some(found) = self.bytes[from..].windows(end.len()).position(|window| window == end) else {
            self.seen = (self.bytes.len() + 1).saturating_sub(end.len()).max(self.at);
            return None;
        };
        let taken = self.bytes[self.at..from + found].to_vec();
        self.at = from + found + end.len();
        self.seen = self.at;
        Some(taken)
    }

    fn take_data(&mut self, left: usize) -> usize {
        let count = left.min(self.bytes.len() - self.at);
        self.body.extend_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        self.seen = self.at;
        left - count
    }

    pub(super) fn next(&mut self) -> Result<Option<Event>, String> {
        loop {
            match self.state {
                State::Head => {
                    let Some(head) = self.take_until(b"\r\n\r\n") else { return Ok(None) };
                    return Ok(Some(Event::Head(Head::parse(&head)?)));
                }
                State::Data { left } => match self.take_data(left) {
                    0 => return Ok(Some(self.complete())),
                    left => {
                        self.state = State::Data { left };
                        return Ok(None);
                    }
                },
                State::ToEnd => {
                    self.take_data(usize::MAX);
                    return Ok(None);
                }
                State::ChunkLine => {
                    let Some(line) = self.take_until(b"\r\n") else { return Ok(None) };
                    let text = String::from_utf8(line).map_err(|_| "a chunk size that is not UTF-8")?;
                    let left =
                        usize::from_str_radix(&text, 16).map_err(|_| format!("chunk size {text:?}"))?;
                    self.state = if left == 0 { State::Trailers } else { State::ChunkData { left } };
                }
                State::ChunkData { left } => match self.take_data(left) {
                    0 => self.state = State::ChunkEnd,
                    left => {
                        self.state = State::ChunkData { left };
                        return Ok(None);
                    }
                },
                State::ChunkEnd => match self.take_until(b"\r\n") {
                    Some(line) if line.is_empty() => self.state = State::ChunkLine,
                    Some(line) => return Err(format!("{line:?} behind a chunk")),
                    None => return Ok(None),
                },
                State::Trailers => {
                    let Some(line) = self.take_until(b"\r\n") else { return Ok(None) };
                    if line.is_empty() {
                        return Ok(Some(self.complete()));
                    }
                    let mut text = b"x\r\n".to_vec();
                    text.extend(line);
                    self.trailers.extend(Head::parse(&text)?.fields);
                }
            }
        }
    }
}
