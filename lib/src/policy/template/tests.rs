//! Templates filled in, and what nasty values make of them.

use proptest::prelude::*;

use super::*;

fn template(text: &str) -> AnswerTemplate {
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    AnswerTemplate::parse(text, status).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Fills a template in; head and body apart.
fn fill(text: &str, values: &Values<'_>, close: bool) -> (String, String) {
    let mut out = vec![0; 65_536];
    let length = write_template(&mut out, &template(text), values, close, false).expect("there is room");
    let answer = String::from_utf8(out[..length].to_vec()).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

fn body_of(content_type: &str, route: &str) -> String {
    let text = format!("HTTP/1.1 404 Not Found\r\nContent-Type: {content_type}\r\n\r\n\"%ROUTE\"");
    let (head, body) = fill(&text, &Values { route, ..Values::default() }, false);
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}");
    body.strip_prefix('"')
        .and_then(|body| body.strip_suffix('"'))
        .expect("what was in the template")
        .to_owned()
}

const NASTY: &str = "</a>\"'`&\\$=; {}\r\n\u{1b}\u{85}\u{2028}é";

#[test]
fn an_answer_is_framed_anew() {
    let text = "HTTP/1.1 503 Try later\nContent-Length: 7\nTransfer-Encoding: chunked\nX-Id: %REQUEST_ID\n\nnot now: %MESSAGE";
    let values = Values { request_id: "ID", message: "é", ..Values::default() };
    let (head, body) = fill(text, &values, false);
    assert_eq!(head, "HTTP/1.1 503 Try later\r\nX-Id: ID\r\nContent-Length: 11");
    assert_eq!(body, "not now: é");
}

#[test]
fn the_connection_ends_if_either_wants_it() {
    let check = |connection: &str, close: bool, expected: bool| {
        let (head, _) = fill(&format!("HTTP/1.1 404 No\r\n{connection}\r\n"), &Values::default(), close);
        assert_eq!(head.matches("\r\nConnection: close").count(), usize::from(expected), "{head}");
        assert_eq!(head.matches("Connection").count(), usize::from(expected), "{head}");
    };
    check("", false, false);
    check("", true, true);
    check("Connection: close\r\n", false, true);
    check("Connection: close\r\n", true, true);
    check("Connection: keep-alive\r\n", false, false);
}

#[test]
fn without_a_body_none_is_written() {
    let text = "HTTP/1.1 404 No\r\n\r\nnothing here";
    let mut out = [0; 256];
    let length = write_template(&mut out, &template(text), &Values::default(), false, true).expect("it fits");
    assert_eq!(&out[..length], b"HTTP/1.1 404 No\r\nContent-Length: 12\r\n\r\n");
    let (head, body) = fill("HTTP/1.1 204 Nothing\r\n\r\n", &Values::default(), false);
    assert_eq!((&*head, &*body), ("HTTP/1.1 204 Nothing", ""));
}

#[test]
fn fields_that_say_nothing_are_left_out() {
    let text = "HTTP/1.1 401 No\r\nWWW-Authenticate: %WWW_AUTHENTICATE\r\nX: %CLUSTER_ID|\r\n\r\n";
    let (head, _) = fill(text, &Values { www_authenticate: "Basic realm=\"x\"", ..Values::default() }, false);
    assert!(head.contains("\r\nWWW-Authenticate: Basic realm=\"x\"\r\n"), "{head}");
    let (head, _) = fill(text, &Values::default(), false);
    assert_eq!(head, "HTTP/1.1 401 No\r\nX: %CLUSTER_ID|\r\nContent-Length: 0");

    let text = "HTTP/1.1 429 Slower\r\nRetry-After: %RETRY_AFTER\r\n\r\n";
    let (head, _) = fill(text, &Values { retry_after: "7", ..Values::default() }, false);
    assert!(head.contains("\r\nRetry-After: 7\r\n"), "{head}");
    let (head, _) = fill(text, &Values::default(), false);
    assert!(!head.contains("Retry-After"), "{head}");
}

#[test]
fn each_variable_has_its_value() {
    let values = Values {
        route: "route",
        request_id: "id",
        cluster_id: "cluster",
        backend_id: "backend",
        message: "message",
        phase: "phase",
        successfully_parsed: "parsed",
        partially_parsed: "partially",
        invalid: "invalid",
        duration: "duration",
        capacity: "capacity",
        redirect_location: "location",
        www_authenticate: "challenge",
        retry_after: "1",
        template_name: "name",
        hsts: None,
    };
    let check = |status: u16, text: &str, expected: &str| {
        let text = format!("HTTP/1.1 {status} x\r\nContent-Type: text/plain\r\n\r\n{text}");
        assert_eq!(fill(&text, &values, false).1, expected);
    };
    let parse = "%MESSAGE %PHASE %SUCCESSFULLY_PARSED %PARTIALLY_PARSED %INVALID";
    check(
        502,
        &format!("%CLUSTER_ID %BACKEND_ID {parse}"),
        "cluster backend message phase parsed partially invalid",
    );
    check(507, "%CAPACITY %ROUTE %REQUEST_ID", "capacity route id");
    check(504, "%DURATION", "duration");
    check(301, "%REDIRECT_LOCATION", "location");
    check(404, "%MESSAGE 100%", "%MESSAGE 100%");
}

#[test]
fn bodies_are_escaped_by_their_type() {
    let html = "&#60;/a&#62;&#34;&#39;&#96;&#38;&#92;&#36;&#61;&#59;&#32;&#123;&#125;&#8232;é";
    let json = r"\u003c/a\u003e\u0022\u0027\u0060\u0026\u005c\u0024=; {}\u000d\u000a\u001b\u0085\u2028é";
    let plain = "</a>\"'`&\\$=; {}\u{2028}é";
    let check = |content_type: &str, expected: &str| {
        assert_eq!(body_of(content_type, NASTY), expected, "{content_type}");
    };
    check("text/html; charset=utf-8", html);
    check("Text/HTML", html);
    check("application/xhtml+xml", html);
    check("image/svg+xml", html);
    check("", html);
    check("nonsense", html);
    check("application/json", json);
    check("application/problem+json; charset=utf-8", json);
    check("text/javascript", json);
    check("text/plain; note=html", plain);
}

#[test]
fn without_a_type_a_body_may_be_taken_for_a_page() {
    let (_, body) =
        fill("HTTP/1.1 404 x\r\n\r\n%ROUTE", &Values { route: "<b>", ..Values::default() }, false);
    assert_eq!(body, "&#60;b&#62;");
    let twice = "HTTP/1.1 404 x\r\nContent-Type: text/plain\r\ncontent-type: text/html\r\n\r\n%ROUTE";
    let (_, body) = fill(twice, &Values { route: "<b>", ..Values::default() }, false);
    assert_eq!(body, "&#60;b&#62;");
}

#[test]
fn a_location_stays_what_it_is() {
    let location = "https://a.test:8443/x?y=1&z=%20";
    let text = "HTTP/1.1 301 x\r\nLocation: %REDIRECT_LOCATION\r\n\r\n";
    let (head, _) = fill(text, &Values { redirect_location: location, ..Values::default() }, false);
    assert!(head.contains(&format!("\r\nLocation: {location}\r\n")), "{head}");
}

#[test]
fn long_texts_are_cut_but_not_locations() {
    let long = "é".repeat(ECHO_BYTES_MAX);
    let values = Values { message: &long, redirect_location: &long, ..Values::default() };
    let (_, body) = fill("HTTP/1.1 503 x\r\nContent-Type: text/plain\r\n\r\n%MESSAGE", &values, false);
    assert_eq!(body, format!("{}...", "é".repeat(ECHO_BYTES_MAX / 2)));
    let (_, body) =
        fill("HTTP/1.1 302 x\r\nContent-Type: text/plain\r\n\r\n%REDIRECT_LOCATION", &values, false);
    assert_eq!(body, long);
}

#[test]
fn what_does_not_fit_is_told() {
    let text = "HTTP/1.1 404 No\r\nX: %ROUTE\r\n\r\n%ROUTE";
    let (template, values) = (template(text), Values { route: "a/b", ..Values::default() });
    let needed = b"HTTP/1.1 404 No\r\nX: a/b\r\nContent-Length: 3\r\n\r\na/b".len();
    for space in 0..needed + 2 {
        let written = write_template(&mut vec![0; space], &template, &values, false, false);
        assert_eq!(written, if space < needed { Err(HeadTooLarge) } else { Ok(needed) });
    }
}

proptest! {
    /// Nothing that is echoed ends the element, attribute, script string or comment it stands in.
    #[test]
    fn html_is_not_left(route in "\\PC*|[ -~\r\n\t]*") {
        let body = body_of("text/html", &route);
        prop_assert!(!body.contains(['<', '>', '"', '\'', '`', '=', ' ', '\\', '$', '\r', '\n', '{']), "{body}");
        let references = body.matches("&#").count();
        prop_assert_eq!(body.matches('&').count(), references, "{}", body);
    }

    /// A string of JSON gives back what was echoed.
    #[test]
    fn json_is_not_left(route: String) {
        let body = body_of("application/json", &route);
        prop_assert!(!body.contains(['<', '>', '"', '\'', '&', '\r', '\n']), "{body}");
        let mut decoded = String::new();
        let mut rest = body.as_str();
        while let Some((before, escape)) = rest.split_once('\\') {
            let (digits, after) = escape.strip_prefix('u').and_then(|hex| hex.split_at_checked(4)).expect("an escape");
            decoded.push_str(before);
            decoded.extend(u32::from_str_radix(digits, 16).ok().and_then(char::from_u32));
            rest = after;
        }
        decoded.push_str(rest);
        prop_assert_eq!(decoded, cut(&route).to_owned() + if route.len() > ECHO_BYTES_MAX { "..." } else { "" });
    }

    #[test]
    fn text_has_no_control_characters(route: String) {
        let body = body_of("text/plain", &route);
        prop_assert!(!body.contains(char::is_control), "{body}");
        prop_assert!(route.len() > ECHO_BYTES_MAX || body == route.replace(char::is_control, ""));
    }

    /// Values cannot begin another line, and those that are URIs cannot end a quoted string.
    #[test]
    fn fields_are_not_left(text: String) {
        let template = "HTTP/1.1 503 x\r\nX: \"%ROUTE\"\r\nY: %CLUSTER_ID|%BACKEND_ID\r\nZ: z\r\n\r\n";
        let values = Values { route: &text, cluster_id: &text, backend_id: &text, ..Values::default() };
        let (head, _) = fill(template, &values, false);
        let lines: Vec<&str> = head.split("\r\n").collect();
        prop_assert_eq!(lines.len(), 5, "{}", head);
        prop_assert!(!head.replace("\r\n", "").contains(char::is_control), "{head}");
        prop_assert!(lines[1].starts_with("X: \"") && lines[1].ends_with('"') && lines[1].matches('"').count() == 2, "{head}");
        let kept = text.replace(char::is_control, "");
        prop_assert_eq!(lines[2], format!("Y: {kept}|{kept}"));
    }
}
