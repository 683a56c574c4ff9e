//! The vector files.

use std::str::FromStr;

const REQUESTS: &str = include_str!("../../vectors/requests.txt");
const RESPONSES: &str = include_str!("../../vectors/responses.txt");

const GET: &str = r"GET / HTTP/1.1\r\nHost: a.test\r\n";
const POST: &str = r"POST / HTTP/1.1\r\nHost: a.test\r\n";
const TE: &str = r"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
const OK: &str = r"HTTP/1.1 200 OK\r\n";
const END: &str = "<END>";

/// What has to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Must {
    /// So many messages pass, then nothing, or a refusal.
    Forward {
        /// Messages that reach the other side.
        count: usize,
        /// Whether what follows them is refused.
        then_refuse: bool,
    },
    /// Nothing of it passes.
    Refuse,
    /// It is begun, and visibly not finished.
    Cut,
}

impl FromStr for Must {
    type Err = String;

    fn from_str(text: &str) -> Result<Must, String> {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
        match words[..] {
            ["refuse"] => Ok(Must::Refuse),
            ["cut"] => Ok(Must::Cut),
            ["forward"] => Ok(Must::Forward { count: 1, then_refuse: false }),
            ["forward", count] => Ok(Must::Forward { count: number(count)?, then_refuse: false }),
            ["forward", count, "refuse"] => Ok(Must::Forward { count: number(count)?, then_refuse: true }),
            _ => Err(format!("{text}: refuse, cut, forward, forward N, forward N refuse")),
        }
    }
}

/// A message, and what has to become of it.
#[derive(Debug)]
pub struct Vector {
    /// Unique in its direction.
    pub name: &'static str,
    /// The section it is about: `9112 §6.1`.
    pub section: &'static str,
    /// The heading it stands under.
    pub chapter: &'static str,
    /// As it is written in the file.
    pub must_text: &'static str,
    /// What has to become of it.
    pub must: Must,
    /// Of a response: what it is the answer to, a method and `+protocol`.
    pub asked: Option<&'static str>,
    /// As it is written in the file.
    pub text: &'static str,
    /// As it is sent.
    pub bytes: Vec<u8>,
    /// The sender ends the connection behind it.
    pub end: bool,
}

/// All messages of clients.
pub fn requests() -> Vec<Vector> {
    read(REQUESTS, false)
}

/// All messages of backends.
pub fn responses() -> Vec<Vector> {
    read(RESPONSES, true)
}

fn read(file: &'static str, with_asked: bool) -> Vec<Vector> {
    let mut chapter = "";
    let mut vectors = Vec::new();
    for line in file.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            chapter = heading;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let columns: Vec<&'static str> = line.splitn(if with_asked { 5 } else { 4 }, " | ").collect();
        let (name, section, must, asked, text) = match columns[..] {
            [name, section, must, text] => (name, section, must, None, text),
            [name, section, must, asked, text] => (name, section, must, Some(asked), text),
            _ => panic!("too few columns: {line}"),
        };
        vectors.push(vector(chapter, name, section, must, asked, text));
    }
    vectors
}

fn vector(
    chapter: &'static str,
    name: &'static str,
    section: &'static str,
    must_text: &'static str,
    asked: Option<&'static str>,
    text: &'static str,
) -> Vector {
    let must = must_text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
    let (sent, end) = text.strip_suffix(END).map_or((text, false), |sent| (sent, true));
    let sent = sent.replace("<GET>", GET).replace("<POST>", POST).replace("<TE>", TE).replace("<OK>", OK);
    Vector { name, section, chapter, must_text, must, asked, text, bytes: expand(&sent), end }
}

/// Expands `\r` and the like, and `{N*text}`.
fn expand(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '\\' => {
                let (escape, tail) = rest.split_at(1);
                rest = tail;
                out.push(match escape {
                    "r" => b'\r',
                    "n" => b'\n',
                    "t" => b'\t',
                    "0" => 0,
                    "\\" => b'\\',
                    "x" => {
                        let (digits, tail) = rest.split_at(2);
                        rest = tail;
                        u8::from_str_radix(digits, 16).expect("two hexadecimal digits")
                    }
                    _ => panic!("unknown escape \\{escape} in {text}"),
                });
            }
            '{' => {
                let (count, tail) = rest.split_once('*').expect("{N*text}");
                let (repeated, tail) = tail.split_once('}').expect("{N*text}");
                out.extend(expand(repeated).repeat(count.parse().expect("{N*text}")));
                rest = tail;
            }
            _ => out.extend(character.to_string().bytes()),
        }
    }
    out
}
