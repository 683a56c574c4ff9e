//! Answers from the operator's templates, filled in for one request.
//!
//! Everything filled in is escaped for where it stands: in a body by the template's `Content-Type` (HTML and
//! XML, JSON and scripts, else text), and without one as if it were HTML. The fields that frame the answer
//! are written anew.

mod escape;

use std::fmt::{self, Write};

use kakehi_command::order::{AnswerTemplate, Hsts, Part, Variable};

use super::redirect::UriText;
use crate::protocol::h1::error::HeadTooLarge;
use crate::protocol::h1::write::HeadWriter;
use escape::{Echo, Escaped, NoControls};

/// Most bytes of a text that is echoed in a body, before escaping; the rest becomes dots. A location is
/// never cut: it is there to be followed.
pub const ECHO_BYTES_MAX: usize = 1024;

/// What variables stand for. Empty: nothing is known; the field of an empty [`Variable::WwwAuthenticate`] or
/// [`Variable::RetryAfter`] is left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Values<'a> {
    /// What was asked for: host and path.
    pub route: &'a str,
    /// Our id for the request.
    pub request_id: &'a str,
    /// The cluster that was to serve it.
    pub cluster_id: &'a str,
    /// The backend that was to serve it.
    pub backend_id: &'a str,
    /// What went wrong, for a human.
    pub message: &'a str,
    /// Where in a message the parser was.
    pub phase: &'a str,
    /// What the parser had accepted.
    pub successfully_parsed: &'a str,
    /// What it was at.
    pub partially_parsed: &'a str,
    /// What it refused.
    pub invalid: &'a str,
    /// How long was waited.
    pub duration: &'a str,
    /// The bytes that there is room for.
    pub capacity: &'a str,
    /// Where a redirect leads.
    pub redirect_location: &'a str,
    /// The cluster's challenge.
    pub www_authenticate: &'a str,
    /// Seconds to wait.
    pub retry_after: &'a str,
    /// The name under which the template is configured.
    pub template_name: &'a str,
    /// The policy that clients are told (RFC 6797), unless the template has one of its own.
    pub hsts: Option<&'a Hsts>,
}

impl<'a> Values<'a> {
    fn of(&self, variable: Variable) -> &'a str {
        match variable {
            Variable::Route => self.route,
            Variable::RequestId => self.request_id,
            Variable::ClusterId => self.cluster_id,
            Variable::BackendId => self.backend_id,
            Variable::Message => self.message,
            Variable::Phase => self.phase,
            Variable::SuccessfullyParsed => self.successfully_parsed,
            Variable::PartiallyParsed => self.partially_parsed,
            Variable::Invalid => self.invalid,
            Variable::Duration => self.duration,
            Variable::Capacity => self.capacity,
            Variable::RedirectLocation => self.redirect_location,
            Variable::WwwAuthenticate => self.www_authenticate,
            Variable::RetryAfter => self.retry_after,
            Variable::TemplateName => self.template_name,
        }
    }
}

/// Writes an answer and gives its length. It says that the connection ends if it does, which is so where
/// `close` or the template wants it ([`AnswerTemplate::closes`]).
///
/// `head_only` leaves out the body, as for `HEAD` (RFC 9110 §9.3.2).
///
/// # Errors
/// It does not fit: another answer has to do.
pub fn write_template(
    out: &mut [u8],
    template: &AnswerTemplate,
    values: &Values<'_>,
    close: bool,
    head_only: bool,
) -> Result<usize, HeadTooLarge> {
    let mut out = HeadWriter::new(out);
    let status = template.status();
    let reason = template.reason();
    out.formatted(format_args!("HTTP/1.1 {status:03} {reason}\r\n"))?;
    for (name, value) in template.fields() {
        if !is_left_out(value, values) {
            out.formatted(format_args!("{name}: {}\r\n", FieldValue { parts: value, values }))?;
        }
    }
    let body = Body { parts: template.body(), values, echo: Echo::of(template) };
    // Neither has a body; a length would be one of something else (RFC 9110 §8.6).
    if !matches!(status, 204 | 304) {
        let mut length = Counter(0);
        write!(length, "{body}").map_err(|fmt::Error| HeadTooLarge)?;
        out.formatted_field("Content-Length", format_args!("{}", length.0))?;
    }
    let own_hsts = |name: &str| name.eq_ignore_ascii_case("Strict-Transport-Security");
    if let Some(hsts) = values.hsts.filter(|_| !template.fields().iter().any(|(name, _)| own_hsts(name))) {
        out.formatted_field("Strict-Transport-Security", format_args!("{hsts}"))?;
    }
    if close || template.closes() {
        out.field("Connection", b"close")?;
    }
    out.push(b"\r\n")?;
    if !head_only {
        out.formatted(format_args!("{body}"))?;
    }
    Ok(out.len())
}

/// Whether a field exists for the sake of a value that there is not.
fn is_left_out(value: &[Part], values: &Values<'_>) -> bool {
    value.iter().any(|part| match part {
        Part::Variable(variable @ (Variable::WwwAuthenticate | Variable::RetryAfter)) => {
            values.of(*variable).is_empty()
        }
        Part::Variable(_) | Part::Text(_) => false,
    })
}

/// The value of a field. Control characters are left out; what is a part of a URI, stays one, so that the
/// quotes and brackets that the template has around it close where they should.
struct FieldValue<'a> {
    parts: &'a [Part],
    values: &'a Values<'a>,
}

impl fmt::Display for FieldValue<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.parts {
            match part {
                Part::Text(text) => out.write_str(text)?,
                Part::Variable(variable @ (Variable::Route | Variable::RedirectLocation)) => {
                    write!(out, "{}", UriText(self.values.of(*variable)))?;
                }
                Part::Variable(variable) => write!(out, "{}", NoControls(self.values.of(*variable)))?,
            }
        }
        Ok(())
    }
}

/// The body, formatted twice: once to count it, once to write it.
struct Body<'a> {
    parts: &'a [Part],
    values: &'a Values<'a>,
    echo: Echo,
}

impl fmt::Display for Body<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.parts {
            match part {
                Part::Text(text) => out.write_str(text)?,
                Part::Variable(variable) => {
                    let text = self.values.of(*variable);
                    let uncut = *variable == Variable::RedirectLocation;
                    let echoed = if uncut { text } else { cut(text) };
                    write!(out, "{}", Escaped { text: echoed, echo: self.echo })?;
                    if echoed.len() < text.len() {
                        out.write_str("...")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The first [`ECHO_BYTES_MAX`] bytes, or some fewer so that no character is cut.
fn cut(text: &str) -> &str {
    let end = (0..=ECHO_BYTES_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

struct Counter(usize);

impl Write for Counter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
