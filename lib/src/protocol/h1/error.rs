//! What can be wrong with a message, and what we answer then.

/// A fault in the fields that delimit a body or name connection options, on either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// `Content-Length` is not a number, or not one that fits 64 bits (RFC 9110 §8.6).
    #[error("Content-Length is not a valid number")]
    LengthMalformed,
    /// More than one `Content-Length`, equal or not (RFC 9112 §6.3).
    #[error("more than one Content-Length")]
    LengthRepeated,
    /// Both `Content-Length` and `Transfer-Encoding`: the mark of request smuggling (RFC 9112 §6.1).
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    /// A list of codings that ends in `chunked`, as it must, but holds others, which we do not implement.
    #[error("a transfer coding other than chunked is not implemented")]
    CodingNotImplemented,
    /// `Transfer-Encoding` without `chunked` at its end, with it twice, or malformed (RFC 9112 §6.3).
    #[error("Transfer-Encoding is not chunked")]
    CodingNotChunked,
    /// `Transfer-Encoding` in a message of HTTP/1.0, where nobody agrees on what it means (RFC 9112 §6.1).
    #[error("Transfer-Encoding in an HTTP/1.0 message")]
    CodingInHttp10,
    /// A body announced where none can be: `CONNECT` and `TRACE` (RFC 9110 §9.3.6, §9.3.8), answers of
    /// 1xx and 204 (§8.6).
    #[error("a body where none can be")]
    BodyOutOfPlace,
    /// A name that differs from `Content-Length` or `Transfer-Encoding` in its separators alone, which
    /// gateways behind us may not tell from it.
    #[error("a field that looks like Content-Length or Transfer-Encoding")]
    LookAlike,
    /// `Connection` names more fields than we look for in every other field.
    #[error("more than {max} connection options")]
    ConnectionOptionsTooMany {
        /// Most options accepted.
        max: usize,
    },
}

/// Why a request head is refused. Always the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// More empty lines before the request line than RFC 9112 §2.2 asks to tolerate.
    #[error("too many empty lines before the request")]
    EmptyLines,
    /// The request line is longer than allowed (RFC 9112 §3).
    #[error("the request line is longer than {max} bytes")]
    LineTooLong {
        /// Most bytes accepted, its CRLF not counted.
        max: usize,
    },
    /// The method is not a token followed by one space.
    #[error("malformed method")]
    Method,
    /// The target has a character or a form it must not have (RFC 9112 §3.2).
    #[error("malformed request target")]
    Target,
    /// The version is not `HTTP/` digit `.` digit.
    #[error("malformed HTTP version")]
    Version,
    /// A well-formed version other than 1.0 and 1.1.
    #[error("HTTP version not supported")]
    VersionNotSupported,
    /// The preface of HTTP/2 (RFC 9113 §3.4) where only HTTP/1 is spoken.
    #[error("HTTP/2 is not spoken here")]
    Http2Preface,
    /// A line that does not end in CRLF (RFC 9112 §2.2).
    #[error("a line does not end in CRLF")]
    LineEnd,
    /// A field name that is no token, is followed by a space, or begins with one (folding, RFC 9112 §5.2).
    #[error("malformed field name")]
    FieldName,
    /// A control character in a field value.
    #[error("malformed field value")]
    FieldValue,
    /// More field lines than allowed.
    #[error("more than {max} fields")]
    TooManyFields {
        /// Most field lines accepted.
        max: usize,
    },
    /// The head does not fit its buffer. Not found by the parser: for the session that owns the buffer.
    #[error("the head is larger than {max} bytes")]
    HeadTooLarge {
        /// Most bytes a head may have.
        max: usize,
    },
    /// HTTP/1.1 without `Host` (RFC 9112 §3.2).
    #[error("no Host")]
    HostMissing,
    /// More than one `Host` (RFC 9112 §3.2).
    #[error("more than one Host")]
    HostRepeated,
    /// `Host`, or the authority of the target, is not `host [":" port]` (RFC 9110 §7.2).
    #[error("malformed Host")]
    HostMalformed,
    /// `Host` is not what an absolute target names (RFC 9112 §3.2.2).
    #[error("Host differs from the request target")]
    HostDiffers,
    /// `Expect` is not `100-continue`, once (RFC 9110 §10.1.1).
    #[error("an expectation that cannot be met")]
    Expectation,
    /// An upgrade to HTTP/2 in clear text, which RFC 9113 §3.1 has abolished and which leads past every rule of ours.
    #[error("an upgrade to HTTP/2 in clear text")]
    Http2Upgrade,
    /// The body cannot be delimited.
    #[error(transparent)]
    Framing(#[from] FramingError),
}

impl RequestError {
    /// The status we answer with. The connection is closed after each of them: where the next request would
    /// begin is unknown.
    pub fn status(&self) -> u16 {
        match self {
            RequestError::EmptyLines
            | RequestError::Method
            | RequestError::Target
            | RequestError::Version
            | RequestError::Http2Preface
            | RequestError::LineEnd
            | RequestError::FieldName
            | RequestError::FieldValue
            | RequestError::HostMissing
            | RequestError::HostRepeated
            | RequestError::HostMalformed
            | RequestError::HostDiffers
            | RequestError::Http2Upgrade => 400,
            // RFC 9110 §15.5.18.
            RequestError::Expectation => 417,
            // RFC 9110 §15.5.15.
            RequestError::LineTooLong { .. } => 414,
            // RFC 9110 §15.6.6.
            RequestError::VersionNotSupported => 505,
            // RFC 6585 §5.
            RequestError::TooManyFields { .. } | RequestError::HeadTooLarge { .. } => 431,
            RequestError::Framing(framing) => match framing {
                // RFC 9112 §6.1 says 501 to `gzip, chunked`, which is honest as long as nobody between
                // us and the client sees another end of the body. We don't rely on that.
                FramingError::CodingNotImplemented
                | FramingError::LengthMalformed
                | FramingError::LengthRepeated
                | FramingError::LengthAndCoding
                | FramingError::CodingNotChunked
                | FramingError::CodingInHttp10
                | FramingError::LookAlike
                | FramingError::BodyOutOfPlace => 400,
                FramingError::ConnectionOptionsTooMany { .. } => 431,
            },
        }
    }

    /// Which part of the head was being read.
    pub fn phase(&self) -> &'static str {
        match self {
            RequestError::EmptyLines
            | RequestError::LineTooLong { .. }
            | RequestError::Method
            | RequestError::Target
            | RequestError::Version
            | RequestError::VersionNotSupported
            | RequestError::Http2Preface => "request line",
            RequestError::LineEnd
            | RequestError::FieldName
            | RequestError::FieldValue
            | RequestError::TooManyFields { .. }
            | RequestError::HeadTooLarge { .. }
            | RequestError::Expectation
            | RequestError::Http2Upgrade => "fields",
            RequestError::HostMissing
            | RequestError::HostRepeated
            | RequestError::HostMalformed
            | RequestError::HostDiffers => "host",
            RequestError::Framing(_) => "framing",
        }
    }
}

/// Why a response head is refused. Always the backend's fault: the client gets a 502.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The status line is malformed, or of a version other than 1.0 and 1.1.
    #[error("malformed status line")]
    StatusLine,
    /// A status below 100.
    #[error("status {status} is out of range")]
    StatusOutOfRange {
        /// What the backend sent.
        status: u16,
    },
    /// `101 Switching Protocols` to something that was not asked for (RFC 9110 §7.8).
    #[error("an upgrade nobody asked for")]
    UnaskedUpgrade,
    /// A `101 Switching Protocols` that does not say to what, or has a body.
    #[error("a malformed upgrade")]
    MalformedUpgrade,
    /// A line that does not end in CRLF (RFC 9112 §2.2).
    #[error("a line does not end in CRLF")]
    LineEnd,
    /// A field name that is no token, is followed by a space, or begins with one (folding, RFC 9112 §5.2).
    #[error("malformed field name")]
    FieldName,
    /// A control character in a field value.
    #[error("malformed field value")]
    FieldValue,
    /// More field lines than allowed.
    #[error("more than {max} fields")]
    TooManyFields {
        /// Most field lines accepted.
        max: usize,
    },
    /// The body cannot be delimited.
    #[error(transparent)]
    Framing(#[from] FramingError),
}

impl ResponseError {
    /// The status we answer with.
    pub fn status(&self) -> u16 {
        502
    }

    /// Which part of the head was being read.
    pub fn phase(&self) -> &'static str {
        match self {
            ResponseError::StatusLine
            | ResponseError::StatusOutOfRange { .. }
            | ResponseError::UnaskedUpgrade
            | ResponseError::MalformedUpgrade => "status line",
            ResponseError::LineEnd
            | ResponseError::FieldName
            | ResponseError::FieldValue
            | ResponseError::TooManyFields { .. } => "fields",
            ResponseError::Framing(_) => "framing",
        }
    }
}

/// Why a body cannot be walked further. The peer that sent it is at fault; its connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A chunk does not begin with a hexadecimal size and CRLF (RFC 9112 §7.1), or its size exceeds 64 bits.
    #[error("malformed chunk size")]
    ChunkSize,
    /// A chunk's size with its extension is longer than allowed.
    #[error("a chunk head is longer than {max} bytes")]
    ChunkHeadTooLong {
        /// Most bytes accepted, CRLF included.
        max: usize,
    },
    /// Chunk heads that outweigh the data they announce: work for nothing (RFC 9112 §7.1.1).
    #[error("chunk extensions outweigh the data")]
    ChunkOverhead,
    /// The data of a chunk is not followed by CRLF.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// A trailer that is no field line (RFC 9112 §7.1.2).
    #[error("malformed trailer")]
    Trailer,
    /// More trailers, or longer ones, than allowed.
    #[error("too many trailers")]
    TrailersTooLarge,
    /// The connection ended before the body did.
    #[error("the body is cut short")]
    Truncated,
}

impl BodyError {
    /// The status we answer a *request* body with, if no response was begun. A response body that
    /// fails is a 502 as long as its head was not passed on, and a cut connection afterwards.
    pub fn status(&self) -> u16 {
        match self {
            BodyError::ChunkSize
            | BodyError::ChunkHeadTooLong { .. }
            | BodyError::ChunkOverhead
            | BodyError::ChunkEnd
            | BodyError::Trailer
            | BodyError::Truncated => 400,
            BodyError::TrailersTooLarge => 431,
        }
    }
}

/// The head to write does not fit the space given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the head does not fit the buffer")]
pub struct HeadTooLarge;
