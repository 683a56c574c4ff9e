//! What several targets have in common: how a request goes on, and what a head must look like that is ours.

use kakehi_command::order::ForwardedHeaders;
use kakehi_lib::protocol::h1::forwarded::Forward;
use kakehi_lib::protocol::h1::head::{FIELDS_MAX, Header};
use kakehi_lib::protocol::h1::write::Reply;
use kakehi_lib::protocol::http::{HeadLimits, Version};

/// More than a head gains on its way.
pub const ADDED_BYTES_MAX: usize = 1024;

/// Room for the fields that we add.
pub const LIMITS: HeadLimits = HeadLimits { fields_max: FIELDS_MAX - 16, request_line_max: 2048 };

/// What we wrote is read without bounds.
pub const LIMITS_WRITTEN: HeadLimits = HeadLimits { fields_max: FIELDS_MAX, request_line_max: usize::MAX };

/// The field that carries our id.
pub const ID_HEADER: &str = "Sozu-Id";

const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// The way of a request from a peer that is believed, or not.
pub fn forward(trusted: bool, forwarded: ForwardedHeaders) -> Forward<'static> {
    Forward {
        peer: ([192, 0, 2, 1], 4711).into(),
        trusted,
        public: ([198, 51, 100, 1], 80).into(),
        https: false,
        forwarded,
        send_x_real_ip: true,
        elide_x_real_ip: false,
        request_id: ID.as_bytes(),
        sozu_id_header: ID_HEADER,
        trace: None,
        host: None,
        path: None,
        subject: None,
        edits: &[],
        early: false,
        sticky_name: None,
        prepared: &[],
    }
}

/// The way of a response to a client of HTTP/1.1.
pub fn reply() -> Reply<'static> {
    Reply {
        sozu_id_header: ID_HEADER,
        request_id: ID.as_bytes(),
        client: Version::Http11,
        close: false,
        edits: &[],
        hsts: None,
        set_cookie: None,
    }
}

/// A head that we wrote has one form: lines of `name: value`, ended by CRLF, and nothing that a recipient
/// could read in two ways.
pub fn check_canonical(head: &[u8], fields: &[Header<'_>]) {
    let first = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut expected = [first, b"\r\n"].concat();
    for field in fields {
        expected.extend([field.name, b": ", field.value, b"\r\n"].concat());
    }
    expected.extend(b"\r\n");
    assert_eq!(String::from_utf8_lossy(head), String::from_utf8_lossy(&expected));
    assert!(head.iter().filter(|&&byte| byte == b'\n').count() == fields.len() + 2, "a lone LF");
    let count = |name: &[u8]| fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
    assert!(count(b"host") <= 1);
    assert!(count(b"content-length") + count(b"transfer-encoding") <= 1);
    for name in [&b"keep-alive"[..], b"proxy-connection", b"te", b"http2-settings", b"content_length"] {
        assert_eq!(count(name), 0, "{}", name.escape_ascii());
    }
}

/// How an input is cut into pieces: sizes that its first bytes tell, over and over.
#[derive(Debug, Clone, Copy)]
pub struct Cut([u8; 4]);

impl Cut {
    /// Takes the sizes off an input.
    pub fn take(input: &[u8]) -> Option<(Cut, &[u8])> {
        input.split_first_chunk().map(|(sizes, rest)| (Cut(*sizes), rest))
    }

    /// The sizes, without end; never 0.
    pub fn sizes(&self) -> impl Iterator<Item = usize> + use<> {
        self.0.into_iter().cycle().map(|size| usize::from(size).max(1))
    }

    /// The pieces of an input.
    pub fn pieces<'i>(&self, input: &'i [u8]) -> impl Iterator<Item = &'i [u8]> + use<'i> {
        let mut rest = input;
        self.sizes().map_while(move |size| {
            let (piece, behind) = rest.split_at(size.min(rest.len()));
            rest = behind;
            (!piece.is_empty()).then_some(piece)
        })
    }
}
