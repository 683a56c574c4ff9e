//! The vector files, each line checked whole and in every split.

use proptest::test_runner::TestRunner;

use super::{LIMITS, with_request};
use crate::protocol::h1::body::{BodyReader, Relay};
use crate::protocol::h1::head::{Asked, FieldStorage, HeadScanner, Parsed, RequestHead, ResponseHead};
use crate::protocol::h1::head::{parse_request, parse_response};
use crate::protocol::h1::tests::bodies::relay_in_pieces;
use crate::protocol::h1::write::write_request;
use crate::protocol::http::{Framing, RequestMethod};

const REQUESTS: &str = include_str!("../vectors/requests.txt");
const RESPONSES: &str = include_str!("../vectors/responses.txt");
const CHUNKED: &str = include_str!("../vectors/chunked.txt");

/// The lines of a vector file that are neither empty nor comments, with their numbers.
fn lines(file: &'static str) -> impl Iterator<Item = (usize, &'static str)> {
    file.lines().enumerate().map(|(index, line)| (index + 1, line)).filter(|(_, line)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    })
}

/// Expands the escapes of the vector files.
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
                let end = closing_brace(tail);
                let repeated = expand(&tail[..end]).repeat(count.parse().expect("{N*text}"));
                out.extend(repeated);
                rest = &tail[end + 1..];
            }
            _ => out.extend(character.to_string().bytes()),
        }
    }
    out
}

fn closing_brace(text: &str) -> usize {
    let mut depth = 0;
    text.find(|character| {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        depth < 0
    })
    .expect("a closing brace")
}

fn framing(framing: Framing) -> String {
    match framing {
        Framing::None => "none".to_owned(),
        Framing::Length(length) => format!("length({length})"),
        Framing::Chunked => "chunked".to_owned(),
        Framing::UntilClose => "until-close".to_owned(),
    }
}

fn keep(keep_alive: bool) -> &'static str {
    if keep_alive { "keep" } else { "close" }
}

fn request_verdict(head: &RequestHead<'_, '_>) -> String {
    let host = if head.host.is_empty() { "-" } else { head.host };
    let expect = if head.expect_continue { " continue" } else { "" };
    let path = head.target.path();
    let upgrade = upgrade(head.upgrade);
    format!("{} {} {host} {path}{expect}{upgrade}", framing(head.framing), keep(head.keep_alive))
}

fn upgrade(protocol: Option<&[u8]>) -> String {
    protocol.map(|protocol| format!(" upgrade={}", protocol.escape_ascii())).unwrap_or_default()
}

fn judge_request(input: &[u8]) -> Option<String> {
    match parse_request(input, &mut FieldStorage::new(), &LIMITS) {
        Ok(Parsed::Partial) => None,
        Ok(Parsed::Complete { head, .. }) => Some(request_verdict(&head)),
        Err(error) => Some(format!("{} {error:?}", error.status())),
    }
}

fn response_verdict(head: &ResponseHead<'_, '_>) -> String {
    let absent =
        head.content_length_of_absent_body.map(|length| format!(" absent={length}")).unwrap_or_default();
    let upgrade = upgrade(head.upgrade);
    format!("{} {} {}{absent}{upgrade}", head.status, framing(head.framing), keep(head.keep_alive))
}

fn judge_response(input: &[u8], asked: Asked<'_>) -> Option<String> {
    match parse_response(input, &mut FieldStorage::new(), &LIMITS, asked) {
        Ok(Parsed::Partial) => None,
        Ok(Parsed::Complete { head, .. }) => Some(response_verdict(&head)),
        Err(error) => Some(format!("{error:?}")),
    }
}

/// Feeds a head in pieces, parsing when the scanner says so.
fn judge_in_pieces(
    input: &[u8],
    piece_bytes: usize,
    mut judge: impl FnMut(&[u8]) -> Option<String>,
) -> Option<String> {
    let mut scanner = HeadScanner::new();
    (1..=input.len()).filter(|&end| end % piece_bytes == 0 || end == input.len()).find_map(|end| {
        let so_far = &input[..end];
        scanner.should_parse(so_far, LIMITS.request_line_max).then(|| judge(so_far)).flatten()
    })
}

/// Whether a verdict is a refusal.
fn is_refusal(verdict: &str) -> bool {
    !["keep", "close"].iter().any(|word| verdict.split(' ').any(|part| part == *word))
}

fn check_splits(number: usize, input: &[u8], verdict: &str, judge: impl Fn(&[u8]) -> Option<String>) {
    for piece_bytes in [1, 2, 3, 7, 16, 64] {
        let split = judge_in_pieces(input, piece_bytes, &judge)
            .unwrap_or_else(|| panic!("line {number}: undecided in pieces of {piece_bytes}"));
        // Of two faults a split input may show the other one first.
        if is_refusal(verdict) {
            assert!(is_refusal(&split), "line {number} in pieces of {piece_bytes}: {split}");
        } else {
            assert_eq!(split, verdict, "line {number} in pieces of {piece_bytes}");
        }
    }
}

#[test]
fn requests() {
    let mut count = 0;
    for (number, line) in lines(REQUESTS) {
        let (verdict, request) = line.split_once(" | ").expect("verdict | request");
        let (verdict, request) = (verdict.trim(), expand(request));
        assert_eq!(judge_request(&request).as_deref(), Some(verdict), "line {number}");
        check_splits(number, &request, verdict, judge_request);
        if !is_refusal(verdict) {
            check_read_back(number, &request);
        }
        count += 1;
    }
    assert!(count >= 150, "{count} vectors");
}

/// What we write is read back as the same request, by ourselves.
fn check_read_back(number: usize, request: &[u8]) {
    with_request(request, |head, bytes| {
        assert_eq!(bytes, request.len(), "line {number}: vectors are heads only");
        let out = super::written(|out| write_request(out, head, &super::forward()));
        with_request(&out, |again, bytes| {
            assert_eq!(bytes, out.len(), "line {number}");
            assert_eq!(again.method, head.method, "line {number}");
            assert_eq!(again.target.path(), head.target.path(), "line {number}");
            assert_eq!(again.framing, head.framing, "line {number}");
            assert_eq!(again.expect_continue, head.expect_continue, "line {number}");
            assert_eq!(again.upgrade, head.upgrade, "line {number}");
            assert!(again.keep_alive, "line {number}");
            let authority = if head.authority.is_empty() { "198.51.100.1:8080" } else { head.authority };
            assert_eq!(again.authority, authority, "line {number}");
        });
    });
}

#[test]
fn responses() {
    for (number, line) in lines(RESPONSES) {
        let (expected, response) = line.split_once(" | ").expect("method verdict | response");
        let (method, verdict) = expected.trim().split_once(' ').expect("method verdict");
        let (method, upgrade) =
            method.split_once('+').map_or((method, None), |(m, u)| (m, Some(u.as_bytes())));
        let (asked, response) = (Asked { method: RequestMethod::of(method), upgrade }, expand(response));
        assert_eq!(judge_response(&response, asked).as_deref(), Some(verdict), "line {number}");
        check_splits(number, &response, verdict, |input| judge_response(input, asked));
    }
}

#[test]
fn chunked_bodies() {
    for (number, line) in lines(CHUNKED) {
        let columns: Vec<&str> = line.split("=>").map(str::trim).collect();
        let (input, complete) = match columns[0].strip_suffix("...") {
            Some(input) => (expand(input), false),
            None => (expand(columns[0]), true),
        };
        let mut runner = TestRunner::deterministic();
        for (relay, column) in [(Relay::Keep, 1), (Relay::Strip, 2)] {
            let expected = match columns.len() {
                3 => Ok((expand(columns[column]), complete)),
                2 => Err(columns[1].to_owned()),
                _ => panic!("line {number}: input => output => data, or input => error"),
            };
            for piece_bytes in [usize::MAX, 1, 2, 3, 5, 64] {
                let reader = BodyReader::new(Framing::Chunked, relay);
                let outcome = relay_in_pieces(reader, &input, || piece_bytes, runner.rng());
                let outcome = outcome
                    .map(|outcome| (outcome.output, outcome.complete))
                    .map_err(|error| format!("{error:?}"));
                assert_eq!(outcome, expected, "line {number}, {relay:?}, pieces of {piece_bytes}");
            }
        }
    }
}

#[test]
fn escapes_of_the_vector_files() {
    assert_eq!(expand(r"a\r\n\t\0\\\x7bé"), "a\r\n\t\0\\{é".as_bytes());
    assert_eq!(expand("{2*a{2*b}}c"), b"abbabbc");
}
