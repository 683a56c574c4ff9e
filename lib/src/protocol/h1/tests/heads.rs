//! Properties of reading heads: splits, garbage, and the scanner against a plain search.

use proptest::prelude::*;

use super::LIMITS;
use crate::protocol::h1::error::RequestError;
use crate::protocol::h1::head::{
    Asked, EMPTY_LINES_MAX, FIELDS_MAX, FieldStorage, HeadScanner, Parsed, Target, parse_request,
    parse_response,
};
use crate::protocol::http::field::Field;
use crate::protocol::http::{HeadLimits, RequestMethod};

/// What is left of an outcome once its borrow ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Partial,
    Complete { bytes: usize, head: String },
    Refused,
}

fn read_request(input: &[u8]) -> Outcome {
    match parse_request(input, &mut FieldStorage::new(), &LIMITS) {
        Ok(Parsed::Partial) => Outcome::Partial,
        Ok(Parsed::Complete { head, bytes }) => Outcome::Complete { bytes, head: format!("{head:?}") },
        Err(_) => Outcome::Refused,
    }
}

fn read_response(input: &[u8]) -> Outcome {
    match parse_response(
        input,
        &mut FieldStorage::new(),
        &LIMITS,
        Asked { method: RequestMethod::Other, upgrade: None },
    ) {
        Ok(Parsed::Partial) => Outcome::Partial,
        Ok(Parsed::Complete { head, bytes }) => Outcome::Complete { bytes, head: format!("{head:?}") },
        Err(_) => Outcome::Refused,
    }
}

/// Heads that are mostly fine, with a few bytes after them.
fn head(start: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let field = prop::sample::select(vec![
        "Host: a.test",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Connection: close, x",
        "X: y",
        "X:",
        "Expect: 100-continue",
        "X-Forwarded-For: 1.2.3.4",
        "Accept:  a \t",
        "",
        " folded",
    ]);
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r"]);
    let fields = prop::collection::vec((field, end), 0..6);
    let mutations = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2);
    (prop::sample::select(start), fields, "[\r\na]{0,4}", mutations).prop_map(
        |(start, fields, rest, mutations)| {
            let mut out = start.as_bytes().to_vec();
            for (field, end) in fields {
                out.extend(field.bytes().chain(end.bytes()));
            }
            out.extend(b"\r\n");
            out.extend(rest.bytes());
            for (at, byte) in mutations {
                let at = at.index(out.len());
                out[at] = byte;
            }
            out
        },
    )
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    head(&[
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\n",
        "\r\nPOST /x?y HTTP/1.1\r\nHost: a\r\n",
        "GET http://a:1/ HTTP/1.0\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
        "\r\n\r\n\r\n",
    ])
}

/// Bytes of the head at the start of `input`, found line by line, or `None`.
fn naive_head_bytes(input: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut begun = false;
    loop {
        let line = input.get(at..)?;
        let end = line.windows(2).position(|pair| pair == b"\r\n")?;
        at += end + 2;
        if end > 0 {
            begun = true;
        } else if begun {
            return Some(at);
        }
    }
}

/// Feeds prefixes that end at `cuts` and the whole input, parsing when the scanner says so.
fn read_in_pieces(input: &[u8], cuts: &[prop::sample::Index], read: impl Fn(&[u8]) -> Outcome) -> Outcome {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    ends.push(input.len());
    ends.sort_unstable();
    let mut scanner = HeadScanner::new();
    for end in ends {
        if scanner.should_parse(&input[..end], LIMITS.request_line_max) {
            let outcome = read(&input[..end]);
            if outcome != Outcome::Partial {
                return outcome;
            }
        }
    }
    Outcome::Partial
}

/// A head is read alike in any split. What is refused may take the scanner until the input has
/// doubled to notice.
fn check_split(
    input: &[u8],
    cuts: &[prop::sample::Index],
    read: impl Fn(&[u8]) -> Outcome,
) -> Result<(), TestCaseError> {
    let whole = read(input);
    if whole != Outcome::Refused {
        prop_assert_eq!(read_in_pieces(input, cuts, &read), whole);
    } else {
        let mut longer = input.to_vec();
        longer.resize(input.len() * 2, b'a');
        prop_assert_eq!(read_in_pieces(&longer, cuts, &read), Outcome::Refused);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_split_of_a_request_is_read_alike(
        input in request(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)
    ) {
        check_split(&input, &cuts, read_request)?;
    }

    #[test]
    fn any_split_of_a_response_is_read_alike(
        input in head(&["HTTP/1.1 200 OK\r\n", "HTTP/1.0 404 x\r\n", "HTTP/1.1 204\r\n", "\r\n"]),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)
    ) {
        check_split(&input, &cuts, read_response)?;
    }

    #[test]
    fn a_prefix_is_never_refused_if_the_whole_is_not(input in request(), at in any::<prop::sample::Index>()) {
        let prefix = read_request(&input[..at.index(input.len())]);
        if let whole @ Outcome::Complete { .. } = read_request(&input) {
            prop_assert!(prefix == Outcome::Partial || prefix == whole, "{prefix:?}");
        } else if prefix == Outcome::Refused {
            prop_assert_eq!(read_request(&input), Outcome::Refused);
        }
    }

    #[test]
    fn a_head_ends_where_a_plain_search_says(input in request()) {
        if let Outcome::Complete { bytes, .. } = read_request(&input) {
            prop_assert_eq!(Some(bytes), naive_head_bytes(&input));
        }
    }

    #[test]
    fn the_scanner_never_misses_an_end(
        input in request(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)
    ) {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        ends.sort_unstable();
        let mut scanner = HeadScanner::new();
        for end in ends {
            let parse = scanner.should_parse(&input[..end], LIMITS.request_line_max);
            if naive_head_bytes(&input[..end]).is_some() {
                prop_assert!(parse, "the end is within {end} bytes");
            }
        }
    }

    #[test]
    fn what_is_accepted_is_read_alike_by_another_parser(input in request()) {
        let mut storage = FieldStorage::new();
        if let Ok(Parsed::Complete { head, bytes }) = parse_request(&input, &mut storage, &LIMITS) {
            let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let mut other = httparse::Request::new(&mut fields);
            prop_assert_eq!(other.parse(&input), Ok(httparse::Status::Complete(bytes)));
            prop_assert_eq!(other.method, Some(head.method));
            let fields: Vec<(&[u8], &[u8])> = head.fields.iter().map(|field| (field.name, field.value)).collect();
            let others: Vec<(&[u8], &[u8])> =
                other.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
            prop_assert_eq!(fields, others);
        }
    }

    #[test]
    fn random_bytes_do_no_harm(input in prop::collection::vec(any::<u8>(), 0..200)) {
        read_request(&input);
        read_response(&input);
        let mut behind = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        behind.extend(&input);
        read_request(&behind);
    }
}

#[test]
fn a_slow_head_is_parsed_seldom() {
    for start in ["GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX: "] {
        let mut input = start.as_bytes().to_vec();
        input.resize(16 * 1024, b'x');
        let mut scanner = HeadScanner::new();
        let parses: Vec<usize> = (1..=input.len())
            .filter(|&end| scanner.should_parse(&input[..end], LIMITS.request_line_max))
            .collect();
        let doubled: Vec<usize> = (0..=14).map(|power| 1 << power).collect();
        assert_eq!(parses, doubled, "{start:?}");
    }
}

#[test]
fn garbage_is_refused_with_its_first_bytes() {
    for input in [
        &b"\x16\x03\x01"[..],
        b"SSH-2.0-x\r\n",
        b"\0",
        b"GET\n",
        b"G\x80",
        b"GET / HTTP/1.1\nHost: a",
        b"GET / HTTP/1.1\r\nHost: a\nX",
    ] {
        let mut scanner = HeadScanner::new();
        assert!(scanner.should_parse(input, LIMITS.request_line_max));
        assert_eq!(read_request(input), Outcome::Refused, "{input:?}");
    }
}

#[test]
fn limits_hold_whatever_they_are() {
    let request = |fields: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(fields));
    for (fields_max, fields, accepted) in [
        (1, 0, true),
        (1, 1, false),
        (FIELDS_MAX, FIELDS_MAX - 1, true),
        (FIELDS_MAX, FIELDS_MAX, false),
        (usize::MAX, FIELDS_MAX - 1, true),
        (usize::MAX, FIELDS_MAX, false),
        (0, 0, false),
    ] {
        let input = request(fields);
        let limits = HeadLimits { fields_max, ..LIMITS };
        let mut storage = FieldStorage::new();
        let outcome = parse_request(input.as_bytes(), &mut storage, &limits);
        assert_eq!(outcome.is_ok(), accepted, "{fields} fields of {fields_max}: {outcome:?}");
    }
    let empty_lines = "\r\n".repeat(EMPTY_LINES_MAX);
    assert_eq!(read_request(empty_lines.as_bytes()), Outcome::Partial);
}

#[test]
fn a_request_line_is_refused_as_soon_as_it_is_too_long() {
    let line = "GET /12345 HTTP/1.1";
    let head = format!("{line}\r\nHost: a\r\n\r\n");
    for (max, accepted) in [(line.len(), true), (line.len() - 1, false)] {
        let limits = HeadLimits { request_line_max: max, ..LIMITS };
        let outcome = |bytes: usize| {
            let mut storage = FieldStorage::new();
            let outcome = parse_request(&head.as_bytes()[..bytes], &mut storage, &limits);
            outcome.map(|parsed| matches!(parsed, Parsed::Complete { .. }))
        };
        assert_eq!(
            outcome(head.len()),
            if accepted { Ok(true) } else { Err(RequestError::LineTooLong { max }) }
        );
        assert_eq!(outcome(max + 1), Ok(false), "the last byte may be half of the line's end");
        assert_eq!(outcome(max + 2).is_ok(), accepted);
    }
    // The scanner asks in time, though the input has not doubled.
    let mut scanner = HeadScanner::new();
    let input = [b'x'; 100];
    assert!(scanner.should_parse(&input[..60], 70));
    assert!(!scanner.should_parse(&input[..71], 70));
    assert!(scanner.should_parse(&input[..72], 70));
    // Also if the line has ended meanwhile.
    let mut scanner = HeadScanner::new();
    let input = format!("{}\r\n", "x".repeat(80));
    assert!(scanner.should_parse(&input.as_bytes()[..60], 70));
    assert!(scanner.should_parse(input.as_bytes(), 70));
    // Lines behind the first one may be longer.
    let mut scanner = HeadScanner::new();
    let input = format!("\r\n{}\r\n{}", "x".repeat(50), "y".repeat(80));
    assert!(scanner.should_parse(&input.as_bytes()[..70], 70));
    assert!(!scanner.should_parse(&input.as_bytes()[..133], 70));
}

#[test]
fn kinds_stand_beside_fields() {
    use Field::{Connection, ContentLength, EndToEnd, Expect, HopByHop, Host, Other};
    let check = |fields: &str, kinds: &[Field]| {
        let request = format!("PUT / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        super::with_request(request.as_bytes(), |head, _| {
            assert_eq!(head.kinds.len(), head.fields.len());
            assert_eq!(head.kinds, [&[Host], kinds].concat(), "{fields}");
        });
    };
    check("", &[]);
    check("X: 1\r\nCookie: 2\r\n", &[Other, EndToEnd]);
    check("Expect: 100-continue\r\nContent-Length: 1\r\n", &[Expect, ContentLength]);
    check("Expect: 100-continue\r\nContent-Length: 0\r\n", &[HopByHop, ContentLength]);
    check("X: 1\r\nConnection: y, close, X\r\nY: 2\r\nZ: 3\r\n", &[HopByHop, Connection, HopByHop, Other]);
    check("Connection: Cookie, close\r\nCookie: 1\r\n", &[Connection, EndToEnd]);
    check(
        "X_Forwarded_For: 1\r\nX-Real_IP: 2\r\nX_Y: 3\r\nForwarded_: 4\r\n",
        &[HopByHop, HopByHop, Other, Other],
    );
}

#[test]
fn what_comes_after_a_head_is_left_alone() {
    let input = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\n\n\0GET";
    super::with_request(input, |head, bytes| {
        assert_eq!(&input[bytes..], b"\n\n\0GET");
        assert_eq!(head.field("HOST"), Some(&b"a"[..]));
        assert_eq!(head.field("Hos"), None);
    });
}

#[test]
fn routing_sees_a_path_for_every_target() {
    for (request, path, route_path) in [
        ("GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n", "/a?b", "/a?b"),
        ("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", "/", "/"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "*", "/"),
        ("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "*", "/"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "a:1", "/"),
    ] {
        super::with_request(request.as_bytes(), |head, _| {
            assert_eq!((head.target.path(), head.target.route_path()), (path, route_path), "{request}");
        });
    }
    super::with_request(b"GET http://b:1/c HTTP/1.1\r\nHost: B:1\r\n\r\n", |head, _| {
        assert_eq!(head.target, Target::Absolute { authority: "b:1", path: "/c", default_port: 80 });
        assert_eq!((head.authority, head.host), ("b:1", "b"));
    });
}
