//! One connection: requests in, greetings out. HTTP/1.1 as in RFC 9112, bodies read to their end and
//! thrown away, connections kept alive.
//!
//! Generic over the stream, so that tests need no socket.

use std::io::{self, Read, Write};

/// Bytes of a request's head, and of one line of a chunked body; more is refused.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Fields of a request's head.
const FIELDS_MAX: usize = 128;

/// Bytes read at a time.
const READ_BYTES: usize = 8 * 1024;

/// What the head says about the rest.
struct Request {
    greeting: String,
    body: Body,
    head_only: bool,
    keep_alive: bool,
    /// An HTTP/1.0 client has to be told that its connection stays open.
    old: bool,
    expects_continue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunked,
}

/// Serves requests until the peer closes the connection, or asks for that.
pub(super) fn serve<S>(stream: S, greeting: &str) -> io::Result<()>
where
    S: Read + Write,
{
    let mut connection = Connection { stream, unread: Vec::new() };
    while let Some(head) = connection.read_head()? {
        let Some(request) = parse(&head, greeting) else {
            return connection.write_answer("400 Bad Request", "This is no HTTP/1.1 request.\n", false, None);
        };
        if request.expects_continue {
            connection.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        match request.body {
            Body::Length(bytes) => connection.skip(bytes)?,
            Body::Chunked => connection.skip_chunks()?,
        }
        let connection_field = match (request.keep_alive, request.old) {
            (false, _) => Some("close"),
            (true, true) => Some("keep-alive"),
            (true, false) => None,
        };
        connection.write_answer("200 OK", &request.greeting, request.head_only, connection_field)?;
        if !request.keep_alive {
            break;
        }
    }
    Ok(())
}

/// A stream, and what has been read from it and not yet been looked at.
struct Connection<S> {
    stream: S,
    unread: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    /// The bytes up to the empty line, or `None` if the peer closed between requests.
    fn read_head(&mut self) -> io::Result<Option<Vec<u8>>> {
        const END: &[u8] = b"\r\n\r\n";
        let mut searched = 0;
        loop {
            let from = searched.min(self.unread.len());
            if let Some(at) = self.unread[from..].windows(END.len()).position(|window| window == END) {
                return Ok(Some(self.unread.drain(..from + at + END.len()).collect()));
            }
            if self.unread.len() > HEAD_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            // The empty line may have begun at the end of what is here.
            searched = self.unread.len().saturating_sub(END.len() - 1);
            if !self.read_more()? {
                return if self.unread.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    fn read_line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.unread.windows(2).position(|window| window == b"\r\n") {
                let mut line: Vec<u8> = self.unread.drain(..at + 2).collect();
                line.truncate(at);
                return Ok(line);
            }
            if self.unread.len() > HEAD_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.read_some()?;
        }
    }

    fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            if self.unread.is_empty() {
                self.read_some()?;
            }
            let here = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.unread.len());
            self.unread.drain(..here);
            bytes -= here as u64;
        }
        Ok(())
    }

    /// RFC 9112 §7.1: chunks up to one of size 0, then trailer lines up to an empty one.
    fn skip_chunks(&mut self) -> io::Result<()> {
        loop {
            let line = self.read_line()?;
            let size = chunk_size(&line).ok_or(io::ErrorKind::InvalidData)?;
            if size == 0 {
                while !self.read_line()?.is_empty() {}
                return Ok(());
            }
            self.skip(size)?;
            if !self.read_line()?.is_empty() {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }

    fn read_some(&mut self) -> io::Result<()> {
        if self.read_more()? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// False at the end of the stream.
    fn read_more(&mut self) -> io::Result<bool> {
        let mut bytes = [0; READ_BYTES];
        let count = self.stream.read(&mut bytes)?;
        self.unread.extend_from_slice(&bytes[..count]);
        Ok(count > 0)
    }

    fn write_answer(
        &mut self,
        status: &str,
        text: &str,
        head_only: bool,
        connection: Option<&str>,
    ) -> io::Result<()> {
        let connection = connection.map(|value| format!("Connection: {value}\r\n")).unwrap_or_default();
        let length = text.len();
        let body = if head_only { "" } else { text };
        // One write: head and body share a packet.
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
             {connection}\r\n{body}"
        );
        self.stream.write_all(answer.as_bytes())
    }
}

/// The size in front of a chunk; extensions are ignored.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let all_hex = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    all_hex.then(|| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).flatten()
}

/// `None` for what is no request, or one whose body cannot be told from the next request.
fn parse(head: &[u8], greeting: &str) -> Option<Request> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    if !parsed.parse(head).ok()?.is_complete() {
        return None;
    }
    let (method, path, version) = (parsed.method?, parsed.path?, parsed.version?);
    let values = |name: &'static str| {
        parsed
            .headers
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    };
    let first = |name| values(name).next().map(String::from_utf8_lossy);
    let lists = |name, token: &str| {
        values(name).any(|value| {
            value
                .split(|byte| *byte == b',')
                .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        })
    };
    let body = match (values("transfer-encoding").count(), values("content-length").count()) {
        (0, 0) => Body::Length(0),
        (0, 1) => Body::Length(decimal(values("content-length").next()?)?),
        (1, 0) if values("transfer-encoding").all(|value| value.eq_ignore_ascii_case(b"chunked")) => {
            Body::Chunked
        }
        _ => return None,
    };
    let old = version == 0;
    let keep_alive = if old { lists("connection", "keep-alive") } else { !lists("connection", "close") };
    let mut greeting = format!("{greeting}You asked for {method} {path}");
    for (before, field) in [(" on ", "host"), (", says the proxy, from ", "x-forwarded-for")] {
        if let Some(value) = first(field) {
            greeting.push_str(before);
            greeting.push_str(&value);
        }
    }
    greeting.push_str(".\n");
    Some(Request {
        greeting,
        body,
        head_only: method == "HEAD",
        keep_alive,
        old,
        expects_continue: !old && lists("expect", "100-continue"),
    })
}

fn decimal(text: &[u8]) -> Option<u64> {
    let all_digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    all_digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that has sent everything already, in pieces of `piece` bytes.
    struct Peer<'a> {
        input: &'a [u8],
        piece: usize,
        output: Vec<u8>,
    }

    impl Read for Peer<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.piece.min(self.input.len()).min(into.len());
            into[..count].copy_from_slice(&self.input[..count]);
            self.input = &self.input[count..];
            Ok(count)
        }
    }

    impl Write for Peer<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.output.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the peer receives, however its bytes are split; and whether the connection ended well.
    fn converse(input: &str) -> (String, bool) {
        let run = |piece| {
            let mut peer = Peer { input: input.as_bytes(), piece, output: Vec::new() };
            let ended_well = serve(&mut peer, "Hello.\n").is_ok();
            (String::from_utf8(peer.output).unwrap(), ended_well)
        };
        let whole = run(usize::MAX);
        for piece in 1..=16 {
            assert_eq!(run(piece), whole, "in pieces of {piece} bytes");
        }
        whole
    }

    /// The paths greeted for, in order.
    fn check(input: &str, expected: &[&str]) {
        let (output, ended_well) = converse(input);
        assert!(ended_well, "{output}");
        let paths: Vec<&str> =
            output.lines().filter_map(|line| line.strip_prefix("You asked for ")).collect();
        assert_eq!(paths, expected);
    }

    #[test]
    fn requests_on_one_connection_are_all_answered() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &["GET / on a."]);
        check("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n", &["GET /1.", "GET /2."]);
        check("", &[]);
    }

    #[test]
    fn bodies_are_read_to_their_end() {
        check(
            "POST /1 HTTP/1.1\r\nContent-Length: 4\r\n\r\nGET GET /2 HTTP/1.1\r\n\r\n",
            &["POST /1.", "GET /2."],
        );
        check(
            "POST /1 HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n\
             3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\nGET /2 HTTP/1.1\r\n\r\n",
            &["POST /1.", "GET /2."],
        );
    }

    #[test]
    fn connections_close_when_asked_to() {
        check("GET /1 HTTP/1.1\r\nConnection: x, Close\r\n\r\nGET /2 HTTP/1.1\r\n\r\n", &["GET /1."]);
        check("GET /1 HTTP/1.0\r\n\r\nGET /2 HTTP/1.0\r\n\r\n", &["GET /1."]);
        check(
            "GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
            &["GET /1.", "GET /2."],
        );
    }

    #[test]
    fn a_head_request_gets_the_length_and_no_body() {
        let (output, _) = converse("HEAD / HTTP/1.1\r\n\r\n");
        assert!(output.ends_with("\r\nContent-Length: 29\r\n\r\n"), "{output}");
    }

    #[test]
    fn a_client_that_waits_is_told_to_continue() {
        let (output, _) = converse("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx");
        assert!(output.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{output}");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for input in [
            "nonsense\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        ] {
            let (output, _) = converse(input);
            assert!(output.starts_with("HTTP/1.1 400 "), "{input:?}: {output}");
        }
    }

    #[test]
    fn a_body_that_breaks_off_is_not_answered() {
        for input in [
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nx",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
            "GET / HTT",
        ] {
            assert_eq!(converse(input), (String::new(), false), "{input:?}");
        }
    }
}
