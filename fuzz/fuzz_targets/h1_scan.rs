//! Heads that arrive in pieces: whatever the split, parsing when the scanner says so comes to what parsing the
//! whole comes to, and is tried seldom.

#![no_main]

use kakehi_fuzz::LIMITS;
use kakehi_lib::protocol::h1::head::{
    Asked, FieldStorage, HeadScanner, Parsed, parse_request, parse_response,
};
use kakehi_lib::protocol::http::RequestMethod;
use libfuzzer_sys::fuzz_target;

/// What came of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Partial,
    Complete(usize),
    Refused,
}

fn request(input: &[u8]) -> Verdict {
    match parse_request(input, &mut FieldStorage::new(), &LIMITS) {
        Ok(Parsed::Partial) => Verdict::Partial,
        Ok(Parsed::Complete { bytes, .. }) => Verdict::Complete(bytes),
        Err(_) => Verdict::Refused,
    }
}

fn response(input: &[u8]) -> Verdict {
    let asked = Asked { method: RequestMethod::Other, upgrade: Some(b"websocket") };
    match parse_response(input, &mut FieldStorage::new(), &LIMITS, asked) {
        Ok(Parsed::Partial) => Verdict::Partial,
        Ok(Parsed::Complete { bytes, .. }) => Verdict::Complete(bytes),
        Err(_) => Verdict::Refused,
    }
}

/// Feeds pieces of the sizes that `cuts` says, over and over.
fn in_pieces(input: &[u8], cuts: &[u8], line_max: usize, judge: fn(&[u8]) -> Verdict) -> Verdict {
    let mut scanner = HeadScanner::new();
    let (mut end, mut looked_at) = (0, 0);
    for cut in cuts.iter().cycle() {
        end = (end + usize::from(*cut).max(1)).min(input.len());
        let so_far = &input[..end];
        if scanner.should_parse(so_far, line_max) {
            looked_at += so_far.len();
            let verdict = judge(so_far);
            if verdict != Verdict::Partial {
                return verdict;
            }
        } else {
            assert!(!matches!(judge(so_far), Verdict::Complete(_)), "the scanner missed the end");
        }
        if end == input.len() {
            break;
        }
    }
    assert!(looked_at <= 4 * input.len(), "{looked_at} bytes parsed of {}", input.len());
    Verdict::Partial
}

fuzz_target!(|input: &[u8]| {
    let Some((cuts, input)) = input.split_at_checked(4) else { return };
    for (line_max, judge) in
        [(LIMITS.request_line_max, request as fn(&[u8]) -> Verdict), (usize::MAX, response)]
    {
        let whole = judge(input);
        let pieces = in_pieces(input, cuts, line_max, judge);
        // What is refused may be noticed later, when the input has doubled, but never forgotten.
        let late = whole == Verdict::Refused && pieces == Verdict::Partial;
        assert!(whole == pieces || late, "{whole:?}, in pieces {pieces:?}");
        if late {
            let longer = [input, &vec![b'a'; input.len()]].concat();
            assert_eq!(in_pieces(&longer, cuts, line_max, judge), Verdict::Refused);
        }
    }
});
