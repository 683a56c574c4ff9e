//! Escaping of what a template's body echoes, by what the body is.

use std::fmt::{self, Write};

use kakehi_command::order::{AnswerTemplate, Part};

/// What an answer's body is, as far as escaping goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Echo {
    /// HTML and XML, and what a browser may take for it since nothing is said: every character that
    /// means something in text, attributes or scripts becomes a reference. Inside `<script>`, where
    /// references mean nothing, that still cannot end a string.
    Html,
    /// JSON, and scripts: escaped as in a string. `<`, `>` and `&` too, so that it may be put into a page.
    Json,
    /// Text of any other kind: control characters are left out.
    Plain,
}

impl Echo {
    /// By the `Content-Type` of a template. Of several the most dangerous counts: clients differ on which
    /// they take.
    pub(super) fn of(template: &AnswerTemplate) -> Echo {
        let values = template.fields().iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let kinds = values.map(|(_, value)| of_media_type(value));
        kinds.min_by_key(|echo| *echo as u8).unwrap_or(Echo::Html)
    }
}

fn of_media_type(value: &[Part]) -> Echo {
    let texts = value.iter().map(|part| match part {
        Part::Text(text) => text.to_ascii_lowercase(),
        // Whoever chooses the value chooses the type.
        Part::Variable(_) => "html".to_owned(),
    });
    let whole = texts.collect::<String>();
    let media_type = whole.split(';').next().unwrap_or_default().trim();
    let says = |names: &[&str]| names.iter().any(|name| media_type.contains(name));
    if !media_type.contains('/') || says(&["html", "xml"]) {
        Echo::Html
    } else if says(&["json", "script"]) {
        Echo::Json
    } else {
        Echo::Plain
    }
}

/// Text in the body of an answer.
pub(super) struct Escaped<'a> {
    pub(super) text: &'a str,
    pub(super) echo: Echo,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.echo == Echo::Plain {
            return write!(out, "{}", NoControls(self.text));
        }
        for character in self.text.chars() {
            match self.echo {
                Echo::Html if is_html_text(character) => out.write_char(character)?,
                // Control characters have no reference (HTML §13.1.4).
                Echo::Html if character.is_control() => {}
                Echo::Html => write!(out, "&#{};", u32::from(character))?,
                _ if is_json_text(character) => out.write_char(character)?,
                // All of these are in the first plane: one escape each (RFC 8259 §7).
                _ => write!(out, "\\u{:04x}", u32::from(character))?,
            }
        }
        Ok(())
    }
}

/// Letters, digits, and punctuation that means nothing in HTML, not even in an attribute without quotes.
fn is_html_text(character: char) -> bool {
    match character {
        '\u{2028}' | '\u{2029}' => false,
        _ if character.is_ascii() => character.is_ascii_alphanumeric() || "-._~/:,?@%+*!".contains(character),
        _ => !character.is_control(),
    }
}

/// What stands for itself in a string, and ends neither that nor a script around it.
fn is_json_text(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '"' | '\\' | '<' | '>' | '&' | '\'' | '`' | '$' | '\u{2028}' | '\u{2029}')
}

/// Text without its control characters.
pub(super) struct NoControls<'a>(pub(super) &'a str);

impl fmt::Display for NoControls<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.split(char::is_control).try_for_each(|piece| out.write_str(piece))
    }
}
