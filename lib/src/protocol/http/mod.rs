//! The message model shared by every version of HTTP (RFC 9110).
//!
//! Types only, with the rules that do not depend on how a version puts them on the wire: how a body is
//! delimited, which fields mean something to a proxy ([`field`]), and the answers we write ourselves
//! ([`answer`]). Reading and writing bytes is the business of [`super::h1`].

pub mod answer;
pub mod cookie;
pub mod field;

/// The version a message was sent in. Only those of HTTP/1 are served yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945): no chunks, no `100 Continue`, one request per connection unless asked.
    Http10,
    /// HTTP/1.1 (RFC 9112).
    Http11,
}

/// How the body of a message is delimited (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body, and none announced.
    None,
    /// Exactly this many bytes; 0 differs from [`Framing::None`] in that it is announced.
    Length(u64),
    /// Chunks, each with its length, then optional trailers.
    Chunked,
    /// Everything up to the end of the connection. Responses only.
    UntilClose,
}

impl Framing {
    /// Whether a client of this version learns the end of such a *response* only from the end of
    /// the connection, which therefore must be closed after it. Chunks are unknown to HTTP/1.0:
    /// they are stripped.
    pub fn ends_with_connection(self, client: Version) -> bool {
        match self {
            Framing::None | Framing::Length(_) => false,
            Framing::Chunked => client == Version::Http10,
            Framing::UntilClose => true,
        }
    }

    /// The length, if it is announced.
    pub fn length(self) -> Option<u64> {
        match self {
            Framing::Length(length) => Some(length),
            Framing::None | Framing::Chunked | Framing::UntilClose => None,
        }
    }

    /// Whether no byte of a body will follow the head.
    pub fn is_empty(self) -> bool {
        matches!(self, Framing::None | Framing::Length(0))
    }
}

/// Bounds on a message head. Its bytes are bounded by the buffer that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Most field lines accepted; values above [`super::h1::head::FIELDS_MAX`] count as that.
    pub fields_max: usize,
    /// Most bytes of a request line, its CRLF not counted; more is answered with 414. No bound for status lines.
    pub request_line_max: usize,
}

/// What of a request's method changes the framing of its response (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestMethod {
    /// The response has a head only.
    Head,
    /// A 2xx turns the connection into a tunnel.
    Connect,
    /// Any other method.
    Other,
}

impl RequestMethod {
    /// Classifies a method name; names are case-sensitive (RFC 9110 §9.1).
    pub fn of(method: &str) -> RequestMethod {
        match method {
            "HEAD" => RequestMethod::Head,
            "CONNECT" => RequestMethod::Connect,
            _ => RequestMethod::Other,
        }
    }
}

/// Whether sending the request twice has the effect of sending it once (RFC 9110 §9.2.2), so that it may be
/// replayed after a back connection was lost without an answer.
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
}

/// Whether the request asks for nothing to be changed (RFC 9110 §9.2.1), so that somebody who plays it back changes
/// nothing either.
pub fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
}

/// The reason phrase of a status code (RFC 9110 §15, RFC 6585), empty when unknown.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        103 => "Early Hints",
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}
