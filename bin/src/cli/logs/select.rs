//! [`Selection`]: from a line to what is printed of it.

use std::io::{self, Write};

use serde_json::Value;
use serde_json::value::RawValue;
use serde_json_path::JsonPath;

use super::super::CliError;
use super::super::table::visible;
use super::filter::Filter;
use super::record::{Names, member};

/// What stands for a field that a record does not have.
const MISSING: &str = "-";

/// What is chosen, and what of that is shown.
#[derive(Debug)]
pub(super) struct Selection {
    /// The members of records that are looked at.
    names: Names,
    query: Option<Query>,
    /// None: all.
    fields: Vec<Field>,
    json: bool,
}

#[derive(Debug)]
struct Query {
    path: JsonPath,
    /// What is decided without it.
    filter: Option<Filter>,
}

/// A member, or a member of one, by `name.name`.
#[derive(Debug)]
struct Field {
    shown: String,
    /// Of the whole name, which wins.
    whole: usize,
    /// Of its first part, with the other parts.
    part: Option<(usize, Vec<String>)>,
}

/// Why there is nothing to be had from a line.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadLine {
    #[error("it is longer than {0} bytes (--max-line)")]
    TooLong(usize),
    #[error("it is not UTF-8")]
    NotText,
    #[error("it is no JSON object: {0}")]
    NotJson(#[from] serde_json::Error),
}

/// What became of a line.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was chosen and written.
    Chosen,
    /// It was not chosen.
    Left,
    /// It is none of ours.
    Bad(BadLine),
}

impl Selection {
    /// # Errors
    /// The query is none.
    pub(super) fn new(query: Option<&str>, fields: &[String], json: bool) -> Result<Self, CliError> {
        let mut names = Names::default();
        let query = match query {
            None => None,
            Some(text) => {
                let path = JsonPath::parse(text).map_err(|error| {
                    let at = error.position();
                    CliError::Unusable(format!(
                        "`{text}` is not a JSONPath (RFC 9535): at character {}: {}. A filter looks like \
                         $[?@.status >= 500 && @.cluster == \"x\"]",
                        at + 1,
                        error.message()
                    ))
                })?;
                Some(Query { path, filter: Filter::of(text, &mut names) })
            }
        };
        let fields = fields.iter().map(|field| Field::new(field, &mut names)).collect();
        Ok(Self { names, query, fields, json })
    }

    /// Writes what is chosen of a line.
    ///
    /// # Errors
    /// Those of `out` alone.
    pub(super) fn write(&self, line: &[u8], out: &mut impl Write) -> io::Result<Outcome> {
        let Ok(text) = std::str::from_utf8(line) else { return Ok(Outcome::Bad(BadLine::NotText)) };
        let text = text.trim_ascii();
        let values = match self.names.of(text) {
            Ok(values) => values,
            Err(error) => return Ok(Outcome::Bad(error.into())),
        };
        let Some(query) = &self.query else {
            self.write_record(text, &values, out)?;
            return Ok(Outcome::Chosen);
        };
        match query.filter.as_ref().map(|filter| (filter.passes(&values), filter.is_whole)) {
            Some((Some(false), _)) => return Ok(Outcome::Left),
            Some((Some(true), true)) => {
                self.write_record(text, &values, out)?;
                return Ok(Outcome::Chosen);
            }
            _ => {}
        }
        // RFC 9535 asks an array of records; each line is one of a single record.
        let records = match serde_json::from_str::<Value>(text) {
            Ok(record) => Value::Array(vec![record]),
            Err(error) => return Ok(Outcome::Bad(error.into())),
        };
        let mut outcome = Outcome::Left;
        for node in query.path.query(&records) {
            outcome = Outcome::Chosen;
            if std::ptr::eq(node, &records) || std::ptr::eq(node, &records[0]) {
                self.write_record(text, &values, out)?;
            } else {
                self.write_part(&node.to_string(), out)?;
            }
        }
        Ok(outcome)
    }

    /// A piece of a record that the query leads to.
    fn write_part(&self, text: &str, out: &mut impl Write) -> io::Result<()> {
        match self.names.of(text) {
            Ok(values) => self.write_record(text, &values, out),
            // Not an object: it has no fields.
            Err(_) => writeln!(out, "{text}"),
        }
    }

    fn write_record(&self, text: &str, values: &[Option<&RawValue>], out: &mut impl Write) -> io::Result<()> {
        if self.fields.is_empty() {
            return writeln!(out, "{text}");
        }
        let found = self.fields.iter().map(|field| (field, field.find(values)));
        if self.json {
            let mut separator = '{';
            for (field, value) in found {
                if let Some(value) = value {
                    write!(out, "{separator}{}:{value}", Value::from(field.shown.as_str()))?;
                    separator = ',';
                }
            }
            return out.write_all(if separator == '{' { b"{}\n" } else { b"}\n" });
        }
        for (index, (_, value)) in found.enumerate() {
            if index > 0 {
                out.write_all(b"\t")?;
            }
            write_text(value.unwrap_or(MISSING), out)?;
        }
        out.write_all(b"\n")
    }
}

/// A string without its quotes, and with nothing that moves a cursor; anything else as it is.
fn write_text(json: &str, out: &mut impl Write) -> io::Result<()> {
    match json.starts_with('"').then(|| serde_json::from_str::<String>(json)) {
        Some(Ok(text)) => out.write_all(visible(&text).replace('\n', "\\n").as_bytes()),
        _ => out.write_all(json.as_bytes()),
    }
}

impl Field {
    fn new(field: &str, names: &mut Names) -> Self {
        let mut parts = field.split('.').map(str::to_owned);
        let first = parts.next().unwrap_or_default();
        let rest: Vec<String> = parts.collect();
        let whole = names.place(field);
        let part = (!rest.is_empty()).then(|| (names.place(&first), rest));
        Self { shown: field.to_owned(), whole, part }
    }

    fn find<'l>(&self, values: &[Option<&'l RawValue>]) -> Option<&'l str> {
        let at = |place: usize| values.get(place).copied().flatten().map(RawValue::get);
        let nested = || {
            let (place, rest) = self.part.as_ref()?;
            rest.iter().try_fold(at(*place)?, |text, name| member(text, name).map(RawValue::get))
        };
        at(self.whole).or_else(nested)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str =
        r#"{"time":"t","status":503,"host":"a\tb\u001b[1m","tags":{"team":"x","n":[1, 2]},"a.b":1}"#;

    fn check(query: Option<&str>, fields: &[&str], json: bool, expected: &str) {
        let fields: Vec<_> = fields.iter().map(ToString::to_string).collect();
        let selection = Selection::new(query, &fields, json).expect("a query");
        let mut out = Vec::new();
        let outcome = selection.write(RECORD.as_bytes(), &mut out).expect("memory can be written to");
        let out = String::from_utf8(out).expect("UTF-8");
        assert_eq!(out, expected, "{query:?} {fields:?}");
        assert_eq!(matches!(outcome, Outcome::Chosen), !expected.is_empty(), "{outcome:?}");
    }

    #[test]
    fn what_is_chosen_is_written_as_it_came() {
        let whole = format!("{RECORD}\n");
        for query in
            [None, Some("$[?@.status == 503]"), Some("$[?length(@.time) == 1]"), Some("$[0]"), Some("$")]
        {
            check(query, &[], false, &whole);
            check(query, &[], true, &whole);
        }
        for query in ["$[?@.status == 504]", "$[?length(@.time) == 2]", "$..missing", "$[1]"] {
            check(Some(query), &[], false, "");
        }
    }

    #[test]
    fn fields_are_columns_or_an_object() {
        let fields = ["time", "host", "missing", "tags.team", "a.b", "tags.n"];
        check(None, &fields, false, "t\ta\\tb\\u{1b}[1m\t-\tx\t1\t[1, 2]\n");
        check(
            Some("$[?@.status]"),
            &fields,
            true,
            "{\"time\":\"t\",\"host\":\"a\\tb\\u001b[1m\",\"tags.team\":\"x\",\"a.b\":1,\"tags.n\":[1, 2]}\n",
        );
        check(None, &["missing"], true, "{}\n");
    }

    #[test]
    fn a_path_into_records_gives_what_it_leads_to() {
        check(Some("$[?@.status > 500].time"), &[], false, "\"t\"\n");
        check(Some("$[*].tags"), &["team"], false, "x\n");
        check(Some("$..n[*]"), &["team"], false, "1\n2\n");
    }

    #[test]
    fn lines_that_are_none_of_ours_say_why() {
        let selection = Selection::new(Some("$[?@.status]"), &[], false).expect("a query");
        for line in [&b"hello"[..], b"[1]", b"{", b"{\"a\":\"\xff\"}", b"{} {}"] {
            let outcome = selection.write(line, &mut Vec::new()).expect("memory");
            assert!(matches!(outcome, Outcome::Bad(_)), "{outcome:?}");
        }
        let error = Selection::new(Some("$[?@.status >"), &[], false).expect_err("half a query").to_string();
        assert!(error.contains("RFC 9535"), "{error}");
    }
}
