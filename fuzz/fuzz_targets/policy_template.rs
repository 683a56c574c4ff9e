//! Answers from the operator's templates.
//!
//! Whatever a request puts into it, an answer has the fields of its template and ours, its body is as long as
//! it says, and no character that means something where it stands comes from the request. httparse reads it,
//! so that nothing is taken for right because we take it for right.

#![no_main]

use kakehi_command::order::{AnswerTemplate, Part, Variable};
use kakehi_lib::policy::template::{Values, write_template};
use libfuzzer_sys::fuzz_target;

/// Statuses with variables of their own, and none.
const STATUSES: [Option<u16>; 8] =
    [None, Some(301), Some(400), Some(401), Some(404), Some(429), Some(502), Some(503)];

const FIELDS_MAX: usize = 1024;

/// Names and values of the head, and the body.
fn read(answer: &[u8], status: u16) -> (Vec<(String, Vec<u8>)>, String) {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(bytes)) = head.parse(answer) else {
        panic!("no answer: {:?}", String::from_utf8_lossy(answer));
    };
    assert_eq!((head.code, head.version), (Some(status), Some(1)));
    let body = std::str::from_utf8(&answer[bytes..]).expect("text").to_owned();
    let fields = head.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec()));
    (fields.collect(), body)
}

/// How often characters of some kind are in a body, and how often the template has them there.
fn counts(template: &AnswerTemplate, body: &str, is_special: impl Fn(char) -> bool) -> (usize, usize) {
    let texts = template.body().iter().map(|part| match part {
        Part::Text(text) => text.chars().filter(|it| is_special(*it)).count(),
        Part::Variable(_) => 0,
    });
    (body.chars().filter(|it| is_special(*it)).count(), texts.sum())
}

/// The template's only type, if it is plain text and no more.
fn content_type(template: &AnswerTemplate) -> Option<&str> {
    let mut types = template.fields().iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    match (types.next(), types.next()) {
        (None, _) => Some("text/html"),
        (Some((_, value)), None) => match &value[..] {
            [Part::Text(text)] => Some(text),
            _ => None,
        },
        (Some(_), Some(_)) => None,
    }
}

fn check_body(template: &AnswerTemplate, body: &str) {
    let ours: fn(char) -> bool = match content_type(template) {
        Some("text/html" | "text/html; charset=utf-8" | "application/xml") => {
            |it| it.is_control() || "<>\"'`=\\${}".contains(it)
        }
        Some("application/json" | "text/javascript") => |it| it.is_control() || "<>\"'`&$".contains(it),
        Some("text/plain") => char::is_control,
        _ => return,
    };
    let (found, expected) = counts(template, body, ours);
    assert_eq!(found, expected, "{body:?}");
}

fn is_missing(value: &[Part], values: &Values<'_>) -> bool {
    value.iter().any(|part| match part {
        Part::Variable(Variable::WwwAuthenticate) => values.www_authenticate.is_empty(),
        Part::Variable(Variable::RetryAfter) => values.retry_after.is_empty(),
        Part::Variable(_) | Part::Text(_) => false,
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((&flags, text)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let mut texts = text.split('\0');
    let mut next = || texts.next().unwrap_or_default();
    let status = STATUSES[usize::from(flags & 7)];
    let Ok(template) = AnswerTemplate::parse(next(), status) else { return };
    assert_eq!(AnswerTemplate::parse(template.text(), status).as_ref(), Ok(&template));
    if template.fields().len() + 3 > FIELDS_MAX {
        return;
    }
    let (one, two, three) = (next(), next(), next());
    let values = Values {
        route: one,
        request_id: "ID",
        cluster_id: two,
        backend_id: three,
        message: one,
        phase: two,
        successfully_parsed: one,
        partially_parsed: two,
        invalid: three,
        duration: one,
        capacity: two,
        redirect_location: one,
        hsts: None,
        www_authenticate: two,
        retry_after: three,
        template_name: two,
    };
    let (close, head_only) = (flags & 8 != 0, flags & 16 != 0);
    let mut out = vec![0; 16 * text.len() * text.len().min(64) + 4096];
    let length = write_template(&mut out, &template, &values, close, head_only).expect("there is room");
    let (fields, body) = read(&out[..length], template.status());

    let wanted = template.fields().iter().filter(|(_, value)| !is_missing(value, &values));
    let mut expected: Vec<&str> = wanted.map(|(name, _)| &**name).collect();
    let has_length = !matches!(template.status(), 204 | 304);
    expected.extend(has_length.then_some("Content-Length"));
    expected.extend((close || template.closes()).then_some("Connection"));
    assert!(fields.iter().map(|(name, _)| name).eq(&expected), "{fields:?} {expected:?}");
    if head_only {
        assert!(body.is_empty());
    } else {
        let said = fields.iter().find(|(name, _)| name == "Content-Length").map(|(_, value)| value.clone());
        assert_eq!(said, has_length.then(|| body.len().to_string().into_bytes()));
        check_body(&template, &body);
    }
    let mut short = vec![0; length - 1];
    write_template(&mut short, &template, &values, close, head_only).expect_err("not in fewer bytes");
});
