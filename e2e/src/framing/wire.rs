//! Messages as the played client and backend read them, without trusting the proxy: how far what it
//! sent is from the one canonical form is part of what is found.

use std::fmt::Write;

/// What of a message's body came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// None is announced.
    None,
    /// As long as `Content-Length` says.
    Length(Vec<u8>),
    /// In chunks; then the trailers.
    Chunked(Vec<u8>, Vec<String>),
    /// Everything up to the end of the connection.
    UntilEnd(Vec<u8>),
    /// The connection ended, or a chunk was malformed, before the body did.
    Cut,
}

/// A request, as the backend got it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The target as it stood in the line.
    pub target: String,
    /// Name and value of each field.
    pub fields: Vec<(String, String)>,
    /// Its body.
    pub body: Body,
    /// In what it is not canonical.
    pub faults: Vec<String>,
}

/// A response, as the client got it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Name and value of each field.
    pub fields: Vec<(String, String)>,
    /// Its body.
    pub body: Body,
    /// In what it is not canonical.
    pub faults: Vec<String>,
}

/// Fields that proxies write themselves, or that tell nothing about a vector.
const EXPECTED: [&str; 14] = [
    "host",
    "content-length",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-port",
    "forwarded",
    "x-request-id",
    "sozu-id",
    "date",
    "server",
    "content-type",
    "cache-control",
    "keep-alive",
];

impl Request {
    /// Whether this is what the test sends behind each vector.
    pub fn is(&self, target: &str) -> bool {
        self.target == target
    }

    /// `POST / 5 bytes, X: y`: what is worth knowing of it.
    pub fn summary(&self) -> String {
        let mut text = format!("{} {}{}", self.method, shortened(&self.target), body_summary(&self.body));
        let host = self.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("Host"));
        match host {
            Some((_, host)) if host != "a.test" => push(&mut text, &format!("Host: {host}")),
            Some(_) => {}
            None => push(&mut text, "no Host"),
        }
        push_fields(&mut text, &self.fields);
        for fault in &self.faults {
            push(&mut text, fault);
        }
        text
    }
}

impl Answer {
    /// `200 5 bytes, X: y`; of an error that the proxy wrote, the status alone.
    pub fn summary(&self) -> String {
        let mut text = self.status.to_string();
        let own = self.status >= 400 && self.body_bytes() != b"hello";
        if !own {
            text.push_str(&body_summary(&self.body));
            push_fields(&mut text, &self.fields);
            for fault in &self.faults {
                push(&mut text, fault);
            }
        }
        text
    }

    /// The body's bytes.
    pub fn body_bytes(&self) -> &[u8] {
        match &self.body {
            Body::Length(bytes) | Body::Chunked(bytes, _) | Body::UntilEnd(bytes) => bytes,
            Body::None | Body::Cut => b"",
        }
    }
}

/// The fields that are of interest, as many as a cell holds.
fn push_fields(text: &mut String, fields: &[(String, String)]) {
    const MAX: usize = 4;
    let mut interesting = interesting(fields);
    for (name, value) in interesting.by_ref().take(MAX) {
        push(text, &format!("{name}: {value}"));
    }
    match interesting.count() {
        0 => {}
        more => push(text, &format!("{more} fields more")),
    }
}

fn push(text: &mut String, more: &str) {
    write!(text, ", {}", shortened(more)).expect("writing into a string");
}

fn shortened(text: &str) -> String {
    const MAX: usize = 40;
    let escaped = text.escape_default().to_string();
    if escaped.len() > MAX { format!("{}…", &escaped[..MAX]) } else { escaped }
}

fn interesting(fields: &[(String, String)]) -> impl Iterator<Item = &(String, String)> {
    fields.iter().filter(|(name, value)| {
        let name = name.to_ascii_lowercase();
        let silent = name == "connection" && matches!(value.as_str(), "close" | "keep-alive");
        !silent && !EXPECTED.contains(&name.as_str())
    })
}

fn body_summary(body: &Body) -> String {
    let bytes =
        |bytes: &[u8]| if bytes.len() == 1 { "1 byte".to_owned() } else { format!("{} bytes", bytes.len()) };
    match body {
        Body::None => String::new(),
        Body::Length(body) => format!(", {}", bytes(body)),
        Body::Chunked(body, trailers) if trailers.is_empty() => format!(", {} in chunks", bytes(body)),
        Body::Chunked(body, trailers) => {
            format!(", {} in chunks, trailer {}", bytes(body), shortened(&trailers.join(", ")))
        }
        Body::UntilEnd(body) => format!(", {} up to the end", bytes(body)),
        Body::Cut => ", cut".to_owned(),
    }
}

/// A head, as far as it can be read at all.
struct Head {
    first: String,
    fields: Vec<(String, String)>,
    faults: Vec<String>,
    bytes: usize,
}

/// Reads a head; `None` if it is not whole.
fn read_head(input: &[u8]) -> Option<Head> {
    let end = input.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text: String = input[..end].iter().map(|&byte| char::from(byte)).collect();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let mut head = Head { first, fields: Vec::new(), faults: Vec::new(), bytes: end + 4 };
    let mut canonical = format!("{}\r\n", head.first);
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        head.fields.push((name.to_owned(), value.trim().to_owned()));
        write!(canonical, "{name}: {}\r\n", value.trim_matches([' ', '\t'])).expect("writing into a string");
    }
    let control =
        |character: char| character.is_control() && !matches!(character, '\t' | '\u{80}'..='\u{9f}');
    if format!("{text}\r\n") != canonical {
        head.faults.push("lines not canonical".to_owned());
    }
    if head
        .fields
        .iter()
        .any(|(name, value)| name.chars().any(|c| !c.is_ascii_graphic()) || value.chars().any(control))
    {
        head.faults.push("odd characters".to_owned());
    }
    Some(head)
}

impl Head {
    fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| value.as_str()).collect()
    }

    /// The framing that the head announces, whatever else it says: chunks first (RFC 9112 §6.3).
    fn framing(&mut self) -> Announced {
        let lengths: Vec<String> = self.values("Content-Length").into_iter().map(str::to_owned).collect();
        let codings: Vec<String> = self.values("Transfer-Encoding").into_iter().map(str::to_owned).collect();
        if lengths.len() + codings.len() > 1 {
            self.faults.push("several framings".to_owned());
        }
        if codings.iter().any(|coding| coding != "chunked") {
            self.faults.push(format!("Transfer-Encoding: {}", codings.join(", ")));
        }
        if codings.iter().any(|coding| coding.to_ascii_lowercase().contains("chunked")) {
            return Announced::Chunked;
        }
        match lengths.first().map(|length| (length, length.parse::<usize>())) {
            Some((text, Ok(length))) if *text == length.to_string() => Announced::Length(length),
            Some((text, length)) => {
                self.faults.push(format!("Content-Length: {text}"));
                length.map_or(Announced::None, Announced::Length)
            }
            None => Announced::None,
        }
    }
}

enum Announced {
    None,
    Length(usize),
    Chunked,
}

/// Reads the body at the start of `input`, with its size there; `None` if more has to come.
fn read_body(announced: &Announced, input: &[u8], faults: &mut Vec<String>) -> Option<(Body, usize)> {
    match announced {
        Announced::None => Some((Body::None, 0)),
        Announced::Length(length) => Some((Body::Length(input.get(..*length)?.to_vec()), *length)),
        Announced::Chunked => read_chunks(input, faults),
    }
}

fn read_chunks(input: &[u8], faults: &mut Vec<String>) -> Option<(Body, usize)> {
    let (mut data, mut canonical, mut at) = (Vec::new(), Vec::new(), 0);
    loop {
        let line = read_line(&input[at..])?;
        let digits = line.split(|byte| !byte.is_ascii_hexdigit()).next().unwrap_or_default();
        let Some(size) =
            std::str::from_utf8(digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok())
        else {
            faults.push("malformed chunk".to_owned());
            return Some((Body::Cut, input.len()));
        };
        at += line.len() + 2;
        canonical.extend(format!("{size:x}\r\n").bytes());
        if size == 0 {
            break;
        }
        let end = at.checked_add(size)?;
        let chunk = input.get(at..end)?;
        if input.get(end..end + 2)? != b"\r\n" {
            faults.push("malformed chunk".to_owned());
            return Some((Body::Cut, input.len()));
        }
        data.extend(chunk);
        canonical.extend(chunk);
        canonical.extend(b"\r\n");
        at = end + 2;
    }
    if !input[..at].eq_ignore_ascii_case(&canonical) {
        faults.push("chunks not canonical".to_owned());
    }
    let mut trailers = Vec::new();
    loop {
        let line = read_line(&input[at..])?;
        at += line.len() + 2;
        if line.is_empty() {
            return Some((Body::Chunked(data, trailers), at));
        }
        trailers.push(String::from_utf8_lossy(line).into_owned());
    }
}

fn read_line(input: &[u8]) -> Option<&[u8]> {
    input.windows(2).position(|window| window == b"\r\n").map(|end| &input[..end])
}

/// Reads the request at the start of `input`, with its size there; `None` if more has to come.
pub(super) fn read_request(input: &[u8]) -> Option<(Request, usize)> {
    let mut head = read_head(input)?;
    let announced = head.framing();
    if head.values("Host").len() > 1 {
        head.faults.push("several Hosts".to_owned());
    }
    let (body, body_bytes) = read_body(&announced, &input[head.bytes..], &mut head.faults)?;
    Some((request(head, body), body_bytes))
        .map(|((request, head_bytes), body_bytes)| (request, head_bytes + body_bytes))
}

/// What there is of a request that will not be finished; `None` if not even its head is there.
pub(super) fn read_cut_request(input: &[u8]) -> Option<Request> {
    read_head(input).map(|head| request(head, Body::Cut).0)
}

fn request(head: Head, body: Body) -> (Request, usize) {
    let mut faults = head.faults;
    let words: Vec<&str> = head.first.split(' ').collect();
    let (method, target) = match words[..] {
        [method, target, "HTTP/1.1" | "HTTP/1.0"] => (method.to_owned(), target.to_owned()),
        _ => {
            faults.push(format!("line: {}", head.first));
            (String::new(), String::new())
        }
    };
    (Request { method, target, fields: head.fields, body, faults }, head.bytes)
}

/// Reads all answers that a client got up to the end of the connection. `methods` says what they answer,
/// the last one all the rest. What is no answer stands at the end as it is.
pub fn read_answers(input: &[u8], methods: &[&str]) -> (Vec<Answer>, Vec<u8>) {
    let (mut answers, mut at): (Vec<Answer>, usize) = (Vec::new(), 0);
    let mut finals = 0;
    while at < input.len() {
        let Some(mut head) = read_head(&input[at..]) else { break };
        let Some(status) = head.first.split(' ').nth(1).and_then(|status| status.parse().ok()) else { break };
        if !head.first.starts_with("HTTP/1.1 ") {
            head.faults.push(format!("line: {}", head.first));
        }
        at += head.bytes;
        let announced = head.framing();
        let method = methods.get(finals).or(methods.last()).copied().unwrap_or("GET");
        let (body, bytes) = match announced {
            _ if matches!(status, 100..200 | 204 | 304) || method == "HEAD" => (Body::None, 0),
            Announced::None => (Body::UntilEnd(input[at..].to_vec()), input.len() - at),
            announced => {
                read_body(&announced, &input[at..], &mut head.faults).unwrap_or((Body::Cut, input.len() - at))
            }
        };
        at += bytes;
        finals += usize::from(!(100..200).contains(&status));
        answers.push(Answer { status, fields: head.fields, body, faults: head.faults });
        if status == 101 {
            break;
        }
    }
    (answers, input[at..].to_vec())
}
