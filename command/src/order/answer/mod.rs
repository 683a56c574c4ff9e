//! Answers of the operator's own: a full HTTP/1.1 answer as text, parsed once.
//!
//! ```text
//! HTTP/1.1 503 Service Unavailable
//! Cache-Control: no-cache
//! Connection: close
//!
//! No backend of %CLUSTER_ID could be reached (%REQUEST_ID).
//! ```
//! Lines end in LF or CRLF. What frames the answer (`Content-Length`, `Transfer-Encoding`, `Connection`
//! and its like) is taken out: it is written anew with each answer, so that a template cannot lie about
//! its length. Filling it in, and escaping what is filled in, is the data path's. Read [`AnswerTemplate`].

mod variable;

use std::{collections::BTreeMap, sync::Arc};

use super::{OrderError, error::Excerpt, is_field_value, is_token};
use crate::proto;

use variable::{Room, variables};

pub use variable::Variable;

/// Longest template, in bytes: a page with its style inline.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Longest name of a template that is not configured under a status code, in bytes.
pub const ANSWER_NAME_BYTES_MAX: usize = 64;
/// Most templates of one listener or cluster: every status that we answer with, three times.
pub const ANSWERS_MAX: usize = 64;

/// An answer of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerTemplate {
    status: u16,
    reason: Box<str>,
    fields: Box<[(Box<str>, Vec<Part>)]>,
    body: Box<[Part]>,
    closes: bool,
    text: Box<str>,
}

/// A part of a field's value or of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Text(Box<str>),
    /// To be filled in.
    Variable(Variable),
}

impl AnswerTemplate {
    /// Parses the answer that is configured for `status`, or under another name or for a redirect of its
    /// own (`None`). Variables that such an answer does not have stay as they are written.
    ///
    /// # Errors
    /// Why it is no answer, as a predicate: "has no empty line after its head".
    pub fn parse(text: &str, status: Option<u16>) -> Result<Self, String> {
        if text.len() > ANSWER_BYTES_MAX {
            return Err(format!("is longer than {ANSWER_BYTES_MAX} bytes"));
        }
        let (head, body) = split_head(text).ok_or("has no empty line after its head")?;
        let mut lines = head.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let (code, reason) = status_line(lines.next().unwrap_or_default())?;
        let mut scan = Scan { status, variables: variables(status), seen: Vec::new() };
        let mut fields = Vec::new();
        let mut closes = false;
        for line in lines {
            let (name, value) = field_line(line)?;
            if name.eq_ignore_ascii_case("connection") {
                closes |= value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"));
            } else if !is_framing(name) {
                fields.push((name.into(), scan.parts(value, Room::FieldOnly)?));
            }
        }
        let body = scan.parts(body, Room::BodyOnly)?;
        if !body.is_empty() && matches!(code, 204 | 304) {
            return Err(format!("has a body, which an answer of status {code} cannot have"));
        }
        Ok(Self {
            status: code,
            reason: reason.into(),
            fields: fields.into(),
            body: body.into(),
            closes,
            text: text.into(),
        })
    }

    /// The status it answers with, 200 to 599: usually that for which it is configured.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The words behind the status; may be empty.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Names and values of its fields, those of framing left out.
    #[must_use]
    pub fn fields(&self) -> &[(Box<str>, Vec<Part>)] {
        &self.fields
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> &[Part] {
        &self.body
    }

    /// Whether it asks for the end of the connection.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// The whole answer as it is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The head's lines without the last one's end, and the body behind the empty line.
fn split_head(text: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    while let Some(end) = text[from..].find('\n').map(|at| from + at) {
        let rest = &text[end + 1..];
        if let Some(body) = rest.strip_prefix('\n').or_else(|| rest.strip_prefix("\r\n")) {
            return Some((&text[..end], body));
        }
        from = end + 1;
    }
    None
}

fn status_line(line: &str) -> Result<(u16, &str), String> {
    let rest = line
        .strip_prefix("HTTP/1.1 ")
        .ok_or_else(|| format!("does not begin with `HTTP/1.1 ` and a status: {}", Excerpt::of(line)))?;
    let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_status = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    let code = code.parse().ok().filter(|code| is_status && (200..=599).contains(code));
    let code =
        code.ok_or_else(|| format!("has a status that is not from 200 to 599: {}", Excerpt::of(line)))?;
    if !is_field_value(reason) {
        return Err("has a control character in its status line".to_owned());
    }
    Ok((code, reason.trim()))
}

/// Name and value of a field line (RFC 9112 §5).
fn field_line(line: &str) -> Result<(&str, &str), String> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| format!("has a field line without a colon:{}", Excerpt::of(line)))?;
    if !is_token(name) {
        return Err(format!("has a field whose name is not a token:{}", Excerpt::of(name)));
    }
    if !is_field_value(value) {
        return Err(format!("has a control character in its field {name}"));
    }
    Ok((name, value.trim_matches([' ', '\t'])))
}

/// Fields that say where an answer ends, or are between two neighbours only (RFC 9110 §7.6.1).
fn is_framing(name: &str) -> bool {
    const FRAMING: [&str; 7] =
        ["Content-Length", "Transfer-Encoding", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Upgrade"];
    FRAMING.iter().any(|framing| framing.eq_ignore_ascii_case(name))
}

struct Scan {
    /// The status for which the answer is configured.
    status: Option<u16>,
    variables: &'static [Variable],
    /// Of those that can stand once only.
    seen: Vec<Variable>,
}

impl Scan {
    /// Takes a text apart; `room` is where it stands.
    fn parts(&mut self, text: &str, room: Room) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        let (mut literal, mut at) = (0, 0);
        while let Some(percent) = text[at..].find('%').map(|found| at + found) {
            at = percent + 1;
            let Some(variable) = self.variables.iter().copied().find(|it| text[at..].starts_with(it.name()))
            else {
                continue;
            };
            self.check(variable, room)?;
            if literal < percent {
                parts.push(Part::Text(text[literal..percent].into()));
            }
            parts.push(Part::Variable(variable));
            at += variable.name().len();
            literal = at;
        }
        if literal < text.len() {
            parts.push(Part::Text(text[literal..].into()));
        }
        Ok(parts)
    }

    fn check(&mut self, variable: Variable, room: Room) -> Result<(), String> {
        let name = variable.name();
        match variable.room() {
            Room::BodyOnly if room != Room::BodyOnly => {
                return Err(format!("has %{name} in a field; it can stand in the body only"));
            }
            Room::FieldOnly if room != Room::FieldOnly => {
                return Err(format!("has %{name} in its body; it can stand in a field only"));
            }
            _ => {}
        }
        if variable.is_unique(self.status) {
            if self.seen.contains(&variable) {
                return Err(format!("has %{name} more than once"));
            }
            self.seen.push(variable);
        }
        Ok(())
    }
}

/// The templates of a listener or a cluster, by the status for which they are configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answers(Option<Arc<[(u16, AnswerTemplate)]>>);

impl Answers {
    /// Checks the newer form, `answers`, and those of the older ones that it does not replace. Empty
    /// texts say nothing.
    pub(super) fn from_wire<'a>(
        answers: &BTreeMap<String, String>,
        older: impl Iterator<Item = (&'static str, u16, &'a str)>,
    ) -> Result<Self, OrderError> {
        if answers.len() > ANSWERS_MAX {
            let reason = format!("are more than {ANSWERS_MAX}");
            return Err(OrderError::Invalid {
                field: "answers",
                value: Excerpt::NONE,
                reason: reason.into(),
            });
        }
        let mut by_status = BTreeMap::new();
        for (field, status, text) in older.filter(|(_, _, text)| !text.is_empty()) {
            let template = AnswerTemplate::parse(text, Some(status)).map_err(|reason| {
                OrderError::Invalid { field, value: Excerpt::NONE, reason: reason.into() }
            })?;
            by_status.insert(status, template);
        }
        for (name, text) in answers.iter().filter(|(_, text)| !text.is_empty()) {
            check_name(name)?;
            let status = status_of(name);
            let template = AnswerTemplate::parse(text, status)
                .map_err(|reason| OrderError::invalid("answers", name, reason))?;
            if let Some(status) = status {
                by_status.insert(status, template);
            }
        }
        Ok(Self((!by_status.is_empty()).then(|| by_status.into_iter().collect())))
    }

    /// The template for this status.
    pub(super) fn get(&self, status: u16) -> Option<&AnswerTemplate> {
        self.0.as_deref()?.iter().find(|(of, _)| *of == status).map(|(_, template)| template)
    }
}

/// What is said of templates that nothing asks for.
pub(super) fn note_unused(answers: &BTreeMap<String, String>, notes: &mut Vec<String>) {
    let unused = answers.iter().filter(|(name, text)| !text.is_empty() && status_of(name).is_none());
    notes.extend(unused.map(|(name, _)| {
        format!("answers{} is kept, but only status codes are answered with", Excerpt::of(name))
    }));
}

fn check_name(name: &str) -> Result<(), OrderError> {
    if name.len() > ANSWER_NAME_BYTES_MAX {
        return Err(OrderError::invalid("answers", name, "is a name longer than 64 bytes"));
    }
    if !is_token(name) {
        return Err(OrderError::invalid("answers", name, "is neither a status code nor a name"));
    }
    Ok(())
}

/// The status that a name is, if it is one.
fn status_of(name: &str) -> Option<u16> {
    let is_status = name.len() == 3 && name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|status| is_status && (200..=599).contains(status))
}

/// The older form of a listener's answers, one field for each status.
pub(super) fn older(
    answers: Option<&proto::CustomHttpAnswers>,
) -> impl Iterator<Item = (&'static str, u16, &str)> {
    macro_rules! fields {
        ($answers:ident, $($field:ident $status:literal),*) => {
            [$((stringify!($field), $status, $answers.$field.as_deref().unwrap_or_default())),*]
        };
    }
    answers.into_iter().flat_map(|answers| {
        fields!(
            answers, answer_301 301, answer_400 400, answer_401 401, answer_404 404, answer_408 408,
            answer_413 413, answer_421 421, answer_429 429, answer_502 502, answer_503 503, answer_504 504,
            answer_507 507
        )
    })
}

#[cfg(test)]
mod tests;
