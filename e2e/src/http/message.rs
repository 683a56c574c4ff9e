//! Messages as they were seen on the wire, and why one could not be read.

use std::fmt;
use std::io;

/// Header or trailer fields, in order, names as they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The value of the field `name` (any case).
    ///
    /// # Panics
    /// If the field is there more than once: use [`Fields::all`] where that is expected.
    pub fn get(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() <= 1, "{name} is there {} times: {self:?}", values.len());
        values.first().copied()
    }

    /// All values of the field `name` (any case), in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|field| field.0.eq_ignore_ascii_case(name))
            .map(|field| field.1.as_str())
            .collect()
    }

    /// Whether a comma-separated field holds `token`.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .iter()
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    }
}

/// How the end of a body is known, RFC 9112 §6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the connection is closed.
    UntilClose,
}

/// The head of a request, as a backend received it.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// `GET`, ...
    pub method: String,
    /// Request target.
    pub target: String,
    /// `HTTP/1.1`.
    pub version: String,
    /// Header fields.
    pub fields: Fields,
}

impl RequestHead {
    /// How the request's body is framed.
    ///
    /// # Errors
    /// If a strict server would not know.
    pub fn framing(&self) -> Result<Framing, ReadError> {
        Ok(declared_framing(&self.fields)?.unwrap_or(Framing::None))
    }
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// `HTTP/1.1`.
    pub version: String,
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// Header fields.
    pub fields: Fields,
    /// Status and fields of the 1xx responses that came before.
    pub informational: Vec<(u16, Fields)>,
}

impl ResponseHead {
    /// How the response's body is framed, RFC 9112 §6.3.
    ///
    /// # Errors
    /// If a strict client would not know.
    pub fn framing(&self, request_method: &str) -> Result<Framing, ReadError> {
        let declared = declared_framing(&self.fields)?;
        if request_method == "HEAD" || self.status < 200 || self.status == 204 || self.status == 304 {
            return Ok(Framing::None);
        }
        Ok(declared.unwrap_or(Framing::UntilClose))
    }

    /// Whether the sender will close the connection after this response.
    pub fn closes(&self) -> bool {
        self.fields.has_token("Connection", "close")
            || (self.version == "HTTP/1.0" && !self.fields.has_token("Connection", "keep-alive"))
    }
}

fn declared_framing(fields: &Fields) -> Result<Option<Framing>, ReadError> {
    let lengths = fields.all("Content-Length");
    let codings = fields.all("Transfer-Encoding");
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(None),
        ([length], []) => match length.parse() {
            Ok(length) => Ok(Some(Framing::Length(length))),
            Err(_) => Err(ReadError::Malformed(format!("Content-Length: {length}"))),
        },
        ([], ["chunked"]) => Ok(Some(Framing::Chunked)),
        _ => Err(ReadError::Malformed(format!("framing {lengths:?} and {codings:?}"))),
    }
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status line, fields, and the 1xx that came before.
    pub head: ResponseHead,
    /// The body, chunks joined.
    pub body: Vec<u8>,
    /// Trailer fields of a chunked body.
    pub trailers: Fields,
    /// How the body was framed.
    pub framing: Framing,
}

impl Response {
    /// Status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// See [`Fields::get`].
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.fields.get(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why a message could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// The peer closed before the first byte.
    Closed,
    /// The peer closed in the middle.
    Truncated(&'static str),
    /// Nothing came in time.
    TimedOut(&'static str),
    /// The peer reset the connection.
    Reset,
    /// The bytes are not HTTP/1.
    Malformed(String),
    /// Any other failure of the socket.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Closed => write!(f, "closed before the first byte"),
            ReadError::Truncated(what) => write!(f, "closed within the {what}"),
            ReadError::TimedOut(what) => write!(f, "nothing came in time, waiting for the {what}"),
            ReadError::Reset => write!(f, "connection reset"),
            ReadError::Malformed(what) => write!(f, "malformed: {what}"),
            ReadError::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ReadError {}
