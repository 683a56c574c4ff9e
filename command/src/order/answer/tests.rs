//! Templates as texts, and what becomes of them.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> AnswerTemplate {
    AnswerTemplate::parse(text, Some(503)).expect("a template")
}

fn check_refused(text: &str, status: u16, expected: &str) {
    let reason = AnswerTemplate::parse(text, Some(status)).expect_err("refused");
    assert!(reason.contains(expected), "{text:?}: {reason}");
    assert!(reason.len() < 300, "{} bytes", reason.len());
}

/// A body behind the least head.
fn with_body(body: &str) -> String {
    format!("HTTP/1.1 400 No\r\n\r\n{body}")
}

fn shown(parts: &[Part]) -> String {
    let part = |part: &Part| match part {
        Part::Text(text) => text.to_string(),
        Part::Variable(variable) => format!("<{}>", variable.name()),
    };
    parts.iter().map(part).collect()
}

#[test]
fn an_answer_is_taken_apart() {
    let text =
        "HTTP/1.1 503 Out to lunch\r\nX-Id: a %REQUEST_ID b\r\nCache-Control:no-cache \r\n\r\n%CLUSTER_ID\n";
    let template = parse(text);
    assert_eq!((template.status(), template.reason(), template.closes()), (503, "Out to lunch", false));
    let fields: Vec<_> = template.fields().iter().map(|(name, value)| (&**name, shown(value))).collect();
    assert_eq!(fields, [("X-Id", "a <REQUEST_ID> b".to_owned()), ("Cache-Control", "no-cache".to_owned())]);
    assert_eq!(shown(template.body()), "<CLUSTER_ID>\n");
    assert_eq!(template.text(), text);
}

#[test]
fn lines_end_in_lf_or_crlf() {
    let dos = parse("HTTP/1.1 404 Gone\r\nA: b\r\n\r\nbody\n\nmore");
    let unix = parse("HTTP/1.1 404 Gone\nA: b\n\nbody\n\nmore");
    assert_eq!((dos.fields(), dos.body()), (unix.fields(), unix.body()));
    assert_eq!(shown(unix.body()), "body\n\nmore");
    assert_eq!(parse("HTTP/1.1 404\n\n").reason(), "");
}

#[test]
fn framing_is_taken_out() {
    let template = parse(
        "HTTP/1.1 503 No\nContent-Length: 3\ntransfer-encoding: chunked\nKeep-Alive: timeout=5\n\
         Connection: foo, Close\nA: b\n\nx",
    );
    assert_eq!(template.fields().len(), 1);
    assert!(template.closes());
    assert!(!parse("HTTP/1.1 503 No\nConnection: keep-alive\n\n").closes());
}

#[test]
fn what_is_no_answer_is_refused() {
    check_refused("", 404, "no empty line");
    check_refused("HTTP/1.1 404 Gone\r\n", 404, "no empty line");
    check_refused("Not found\n\n", 404, "does not begin with `HTTP/1.1 `");
    check_refused("HTTP/1.0 404 Gone\n\n", 404, "does not begin with `HTTP/1.1 `");
    check_refused("HTTP/1.1 100 Go on\n\n", 404, "not from 200 to 599");
    check_refused("HTTP/1.1 600 No\n\n", 404, "not from 200 to 599");
    check_refused("HTTP/1.1 4040 No\n\n", 404, "not from 200 to 599");
    check_refused("HTTP/1.1 404 a\u{1}\n\n", 404, "control character in its status line");
    check_refused("HTTP/1.1 404 No\nA\n\n", 404, "without a colon: `A`");
    check_refused("HTTP/1.1 404 No\n folded: x\n\n", 404, "not a token");
    check_refused("HTTP/1.1 404 No\nA : x\n\n", 404, "not a token");
    check_refused("HTTP/1.1 404 No\nA: x\ry\n\n", 404, "control character in its field A");
    check_refused("HTTP/1.1 204 No\n\nx", 404, "has a body");
    check_refused(&with_body(&"x".repeat(ANSWER_BYTES_MAX)), 404, "longer than 65536 bytes");
    check_refused(&format!("HTTP/1.1 404 No\n{}\n\n", "x".repeat(9999)), 404, "without a colon");
}

#[test]
fn an_answer_has_the_variables_of_its_status() {
    let check = |status, expected: &str| {
        let body = "%ROUTE %DURATION %CLUSTER_ID %CAPACITY %MESSAGE %PHASE %INVALID";
        let template = AnswerTemplate::parse(&with_body(body), status).expect("a template");
        assert_eq!(shown(template.body()), expected, "{status:?}");
    };
    check(Some(404), "<ROUTE> %DURATION %CLUSTER_ID %CAPACITY %MESSAGE %PHASE %INVALID");
    check(Some(400), "<ROUTE> %DURATION %CLUSTER_ID %CAPACITY <MESSAGE> <PHASE> <INVALID>");
    check(Some(504), "<ROUTE> <DURATION> <CLUSTER_ID> %CAPACITY %MESSAGE %PHASE %INVALID");
    check(Some(507), "<ROUTE> %DURATION <CLUSTER_ID> <CAPACITY> <MESSAGE> <PHASE> %INVALID");
    check(None, "<ROUTE> %DURATION <CLUSTER_ID> %CAPACITY %MESSAGE %PHASE %INVALID");
    check(Some(431), "<ROUTE> %DURATION <CLUSTER_ID> %CAPACITY %MESSAGE %PHASE %INVALID");
}

#[test]
fn variables_end_where_their_name_does() {
    let check = |body: &str, expected: &str| {
        let template = AnswerTemplate::parse(&with_body(body), Some(400)).expect("a template");
        assert_eq!(shown(template.body()), expected);
    };
    check("%ROUTE_%REQUEST_ID.", "<ROUTE>_<REQUEST_ID>.");
    check("100% of %%ROUTE %route %ROUT %", "100% of %<ROUTE> %route %ROUT %");
    check("é%ROUTEé", "é<ROUTE>é");
}

#[test]
fn variables_stand_where_they_can() {
    let check = |status, text: &str, expected: &str| check_refused(text, status, expected);
    check(400, "HTTP/1.1 400 No\nA: %MESSAGE\n\n", "%MESSAGE in a field");
    check(502, "HTTP/1.1 502 No\nA: %INVALID\n\n", "%INVALID in a field");
    check(401, "HTTP/1.1 401 No\n\n%WWW_AUTHENTICATE", "%WWW_AUTHENTICATE in its body");
    check(429, "HTTP/1.1 429 No\nRetry-After: %RETRY_AFTER\nA: %RETRY_AFTER\n\n", "more than once");
    check(301, "HTTP/1.1 301 Go\nLocation: %REDIRECT_LOCATION\n\n%REDIRECT_LOCATION", "more than once");
    let page = "HTTP/1.1 302 Go\nLocation: %REDIRECT_LOCATION\n\n%REDIRECT_LOCATION";
    assert!(AnswerTemplate::parse(page, None).is_ok(), "a redirect's own");
    // Where it is no variable it is text, as often as one likes.
    assert!(
        AnswerTemplate::parse("HTTP/1.1 404 No\nA: %MESSAGE\n\n%RETRY_AFTER%RETRY_AFTER", Some(404)).is_ok()
    );
    assert!(
        AnswerTemplate::parse("HTTP/1.1 401 No\nWWW-Authenticate: %WWW_AUTHENTICATE\n\n", Some(401)).is_ok()
    );
}

fn answers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn the_newer_form_beats_the_older_one() {
    let older = proto::CustomHttpAnswers {
        answer_404: Some("HTTP/1.1 404 Older\n\n".into()),
        answer_503: Some("HTTP/1.1 503 Older\n\n".into()),
        answer_400: Some(String::new()),
        ..Default::default()
    };
    let newer =
        answers(&[("404", "HTTP/1.1 404 Newer\n\n"), ("503", ""), ("maintenance", "HTTP/1.1 200 OK\n\n")]);
    let all = Answers::from_wire(&newer, super::older(Some(&older))).expect("accepted");
    let reason = |status| all.get(status).map(AnswerTemplate::reason);
    assert_eq!(
        (reason(404), reason(503), reason(400), reason(200)),
        (Some("Newer"), Some("Older"), None, None)
    );
    let mut notes = Vec::new();
    note_unused(&newer, &mut notes);
    assert_eq!(notes, ["answers `maintenance` is kept, but only status codes are answered with"]);
}

#[test]
fn a_refused_answer_is_named() {
    let check = |newer: &[(&str, &str)], older: Option<&str>, expected: &str| {
        let older = older.map(|text| ("answer_503", 503, text));
        let error = Answers::from_wire(&answers(newer), older.into_iter()).expect_err("refused").to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check(&[("404", "Gone")], None, "answers `404` has no empty line");
    check(&[("4 4", "HTTP/1.1 404 No\n\n")], None, "answers `4 4` is neither a status code nor a name");
    check(&[], Some("Gone"), "answer_503 has no empty line");
    let many: BTreeMap<_, _> = (0..65).map(|i| (i.to_string(), String::new())).collect();
    assert!(Answers::from_wire(&many, std::iter::empty()).is_err());
}

#[test]
fn no_variable_is_the_beginning_of_another() {
    let all: Vec<_> = (0..600).flat_map(|status| variables(Some(status))).collect();
    for one in &all {
        let longer = all.iter().find(|it| it != &one && it.name().starts_with(one.name()));
        assert_eq!(longer, None);
    }
}

proptest! {
    /// Nothing is lost, nothing is made up: the parts are the body, cut at its variables.
    #[test]
    fn the_parts_are_the_text(body in "(%?(ROUTE|MESSAGE|DURATION|[a-zé%\n ]{0,4})){0,8}", status in 200..600_u16) {
        let template = AnswerTemplate::parse(&with_body(&body), Some(status)).expect("a template");
        let joined: String = template.body().iter().map(|part| match part {
            Part::Text(text) => text.to_string(),
            Part::Variable(variable) => format!("%{}", variable.name()),
        }).collect();
        prop_assert_eq!(joined, body);
        prop_assert!(template.body().windows(2).all(|pair| !matches!(pair, [Part::Text(_), Part::Text(_)])));
    }

    #[test]
    fn no_text_panics(text in "(HTTP/1.1 |[0-9]{3}|[a-z]{1,3}: ?|%[A-Z_]{1,9}|\r?\n|[^a]){0,12}") {
        let _ = AnswerTemplate::parse(&text, Some(502));
    }
}
