//! Both ends' reading of HTTP/1.1, no more than the benchmark's own messages need. Pure.
//!
//! Strict on purpose: whatever a proxy changes beyond its duty (another status, another framing, a
//! byte of a body) is an error, and voids the figure.

use httparse::{EMPTY_HEADER, Header, Status};

use crate::content;

/// More than any proxy adds to our four.
const FIELDS_MAX: usize = 32;

/// A message that is not what it has to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("a head that does not parse: {0}")]
    Head(httparse::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("a body framed otherwise than by the Content-Length expected")]
    Framing,
    #[error("a body that differs from the expected one")]
    Body,
    #[error("bytes after the end of the message")]
    Extra,
    #[error("a request for what nobody asked for")]
    Request,
}

/// What the backend is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Small,
    Large,
    Bulk,
}

/// Reads one answer after the other; for the load generator.
#[derive(Debug, Default)]
pub(crate) struct AnswerReader {
    /// A head that came in parts.
    head: Vec<u8>,
    /// Bytes of the body that have come; `None` while the head has not.
    body_seen: Option<usize>,
    /// Bytes of a refusal's body that are still to come.
    refusal_left: usize,
    /// The refusal said that it is the connection's last answer.
    closes: bool,
}

/// How a request ended that may be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Served,
    /// By a 503, whatever is in it.
    Refused,
}

impl AnswerReader {
    /// As [`Self::feed`], but a 503 is an answer, too.
    ///
    /// # Errors
    /// If it is neither.
    pub(crate) fn feed_or_refusal(&mut self, bytes: &[u8], body: &[u8]) -> Result<Option<Verdict>, Wrong> {
        if self.refusal_left > 0 {
            self.refusal_left = self.refusal_left.checked_sub(bytes.len()).ok_or(Wrong::Extra)?;
            return Ok((self.refusal_left == 0).then_some(Verdict::Refused));
        }
        if self.body_seen.is_none() {
            self.head.extend_from_slice(bytes);
            if let Some((head_length, body_length, closes)) = refusal_head(&self.head)? {
                self.closes = closes;
                let came = self.head.len() - head_length;
                self.head.clear();
                self.refusal_left = body_length.checked_sub(came).ok_or(Wrong::Extra)?;
                return Ok((self.refusal_left == 0).then_some(Verdict::Refused));
            }
            let all = std::mem::take(&mut self.head);
            return Ok(self.feed(&all, body)?.then_some(Verdict::Served));
        }
        Ok(self.feed(bytes, body)?.then_some(Verdict::Served))
    }

    /// Whether nothing follows the refusal on its connection (RFC 9112 §9.6).
    pub(crate) fn closes(&self) -> bool {
        self.closes
    }

    /// Takes in all of `bytes`; true when the answer is complete.
    ///
    /// # Errors
    /// If it is not exactly a 200 with `body`.
    pub(crate) fn feed(&mut self, bytes: &[u8], body: &[u8]) -> Result<bool, Wrong> {
        let (seen, rest) = match self.body_seen {
            Some(seen) => (seen, bytes),
            None if self.head.is_empty() => match answer_head(bytes, body.len())? {
                Some(head_length) => (0, bytes.get(head_length..).unwrap_or_default()),
                None => {
                    self.head.extend_from_slice(bytes);
                    return Ok(false);
                }
            },
            None => {
                let before = self.head.len();
                self.head.extend_from_slice(bytes);
                let Some(head_length) = answer_head(&self.head, body.len())? else { return Ok(false) };
                self.head.clear();
                (0, bytes.get(head_length - before..).unwrap_or_default())
            }
        };
        let expected = body.get(seen..).unwrap_or_default();
        if rest.len() > expected.len() {
            return Err(Wrong::Extra);
        }
        if !expected.starts_with(rest) {
            return Err(Wrong::Body);
        }
        let complete = rest.len() == expected.len();
        self.body_seen = (!complete).then_some(seen + rest.len());
        Ok(complete)
    }
}

/// Length of the answer's head; `None` while it is not complete.
fn answer_head(bytes: &[u8], body_length: usize) -> Result<Option<usize>, Wrong> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut answer = httparse::Response::new(&mut fields);
    let Status::Complete(length) = answer.parse(bytes).map_err(Wrong::Head)? else { return Ok(None) };
    match answer.code {
        Some(200) => {}
        code => return Err(Wrong::Status(code.unwrap_or_default())),
    }
    if framing(answer.headers)? != Some(body_length) {
        return Err(Wrong::Framing);
    }
    Ok(Some(length))
}

/// Lengths of a refusal's head and body, and whether the connection ends with it, if that is what it is, and its head
/// is complete.
fn refusal_head(bytes: &[u8]) -> Result<Option<(usize, usize, bool)>, Wrong> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut answer = httparse::Response::new(&mut fields);
    let Status::Complete(length) = answer.parse(bytes).map_err(Wrong::Head)? else { return Ok(None) };
    if answer.code != Some(503) {
        return Ok(None);
    }
    let closes = answer.headers.iter().any(|field| {
        field.name.eq_ignore_ascii_case("connection") && field.value.eq_ignore_ascii_case(b"close")
    });
    Ok(Some((length, framing(answer.headers)?.ok_or(Wrong::Framing)?, closes)))
}

/// The one Content-Length there is, if any. A Transfer-Encoding is none of ours.
fn framing(fields: &[Header<'_>]) -> Result<Option<usize>, Wrong> {
    let mut found = None;
    for field in fields {
        if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Wrong::Framing);
        }
        if field.name.eq_ignore_ascii_case("content-length") {
            let value = str::from_utf8(field.value).ok().and_then(|text| text.parse().ok());
            if found.is_some() || value.is_none() {
                return Err(Wrong::Framing);
            }
            found = value;
        }
    }
    Ok(found)
}

/// Reads one request after the other; for the backend.
#[derive(Debug, Default)]
pub(crate) struct RequestReader {
    head: Vec<u8>,
    /// Bytes of the upload that have come; `None` outside of one.
    upload_seen: Option<usize>,
}

impl RequestReader {
    /// Takes in all of `bytes`; tells what is asked once a request is complete.
    ///
    /// # Errors
    /// If it is not exactly a request of [`content`], with `upload` as its body if it has one.
    pub(crate) fn feed(&mut self, bytes: &[u8], upload: &[u8]) -> Result<Option<Asked>, Wrong> {
        if let Some(seen) = self.upload_seen {
            return self.feed_upload(seen, bytes, upload);
        }
        let joined;
        let message = if self.head.is_empty() {
            bytes
        } else {
            joined = [self.head.as_slice(), bytes].concat();
            &joined
        };
        let Some((length, kind)) = request_head(message, upload.len())? else {
            self.head.extend_from_slice(bytes);
            return Ok(None);
        };
        self.head.clear();
        let rest = message.get(length..).unwrap_or_default();
        match kind {
            RequestKind::Upload => self.feed_upload(0, rest, upload),
            RequestKind::Get(_) if !rest.is_empty() => Err(Wrong::Extra),
            RequestKind::Get(asked) => Ok(Some(asked)),
        }
    }

    fn feed_upload(&mut self, seen: usize, bytes: &[u8], upload: &[u8]) -> Result<Option<Asked>, Wrong> {
        let expected = upload.get(seen..).unwrap_or_default();
        if bytes.len() > expected.len() {
            return Err(Wrong::Extra);
        }
        if !expected.starts_with(bytes) {
            return Err(Wrong::Body);
        }
        let complete = bytes.len() == expected.len();
        self.upload_seen = (!complete).then_some(seen + bytes.len());
        Ok(complete.then_some(Asked::Small))
    }
}

enum RequestKind {
    Get(Asked),
    Upload,
}

fn request_head(bytes: &[u8], upload_length: usize) -> Result<Option<(usize, RequestKind)>, Wrong> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let Status::Complete(length) = request.parse(bytes).map_err(Wrong::Head)? else { return Ok(None) };
    let body_length = framing(request.headers)?;
    let kind = match (request.method, request.path) {
        (Some("GET"), Some(content::SMALL_PATH)) => RequestKind::Get(Asked::Small),
        (Some("GET"), Some(content::LARGE_PATH)) => RequestKind::Get(Asked::Large),
        (Some("GET"), Some(content::BULK_PATH)) => RequestKind::Get(Asked::Bulk),
        (Some("POST"), Some(content::UPLOAD_PATH)) => RequestKind::Upload,
        _ => return Err(Wrong::Request),
    };
    let expected = matches!(kind, RequestKind::Upload).then_some(upload_length);
    if body_length != expected {
        return Err(Wrong::Framing);
    }
    Ok(Some((length, kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"0123456789";
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nServer: any\r\ncontent-length: 10\r\n\r\n0123456789";

    fn check_answer(text: &str, expected: &Result<bool, Wrong>) {
        assert_eq!(&AnswerReader::default().feed(text.as_bytes(), BODY), expected, "{text:?}");
    }

    #[test]
    fn answers_are_what_they_have_to_be() {
        check_answer(ANSWER, &Ok(true));
        check_answer(&ANSWER.replace("200 OK", "502 Bad Gateway"), &Err(Wrong::Status(502)));
        check_answer(&ANSWER.replace("content-length: 10", "Content-Length: 11"), &Err(Wrong::Framing));
        check_answer(&ANSWER.replace("content-length: 10", "X: 10"), &Err(Wrong::Framing));
        check_answer(
            &ANSWER.replace("content-length: 10", "Transfer-Encoding: chunked"),
            &Err(Wrong::Framing),
        );
        check_answer(&ANSWER.replace("56789", "56780"), &Err(Wrong::Body));
        check_answer(&ANSWER.replace("56789", "56789\n"), &Err(Wrong::Extra));
        check_answer(&ANSWER.replace("56789", "5678"), &Ok(false));
    }

    #[test]
    fn answers_may_come_in_any_two_parts() {
        for cut in 1..ANSWER.len() {
            let (first, second) = ANSWER.as_bytes().split_at(cut);
            let mut reader = AnswerReader::default();
            assert_eq!(reader.feed(first, BODY), Ok(false), "cut at {cut}");
            assert_eq!(reader.feed(second, BODY), Ok(true), "cut at {cut}");
            assert_eq!(reader.feed(ANSWER.as_bytes(), BODY), Ok(true), "the next one after a cut at {cut}");
        }
    }

    fn check_request(text: &str, expected: &Result<Option<Asked>, Wrong>) {
        assert_eq!(&RequestReader::default().feed(text.as_bytes(), BODY), expected, "{text:?}");
    }

    const UPLOAD: &str = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789";

    #[test]
    fn requests_are_what_they_have_to_be() {
        check_request("GET /small HTTP/1.1\r\nHost: a\r\n\r\n", &Ok(Some(Asked::Small)));
        check_request("GET /large HTTP/1.1\r\nHost: a\r\n\r\n", &Ok(Some(Asked::Large)));
        check_request("GET /other HTTP/1.1\r\nHost: a\r\n\r\n", &Err(Wrong::Request));
        check_request("GET /small HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", &Err(Wrong::Framing));
        check_request("GET /small HTTP/1.1\r\nHost: a\r\n\r\nGET", &Err(Wrong::Extra));
        check_request(UPLOAD, &Ok(Some(Asked::Small)));
        check_request(&UPLOAD.replace("0123", "0124"), &Err(Wrong::Body));
        check_request(
            &UPLOAD.replace("Content-Length: 10", "Transfer-Encoding: chunked"),
            &Err(Wrong::Framing),
        );
    }

    #[test]
    fn requests_may_come_in_any_two_parts() {
        for cut in 1..UPLOAD.len() {
            let (first, second) = UPLOAD.as_bytes().split_at(cut);
            let mut reader = RequestReader::default();
            assert_eq!(reader.feed(first, BODY), Ok(None), "cut at {cut}");
            assert_eq!(reader.feed(second, BODY), Ok(Some(Asked::Small)), "cut at {cut}");
        }
    }
}
