//! The shape of the file: TOML text to sections whose values have been checked one by one.
//!
//! [`check`] walks the whole document against the declared keys once, whatever will be made of it:
//! wrong types, values out of range and unknown keys are reported wherever they are. After that a
//! [`Section`] hands out values; one that was reported reads as absent. What only makes sense between
//! keys, and what this version serves, is `resolve`'s.

use std::net::SocketAddr;

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::diagnostic::{Diagnostics, Place};
use super::keys::{Key, SECTIONS, Served, Shape};

/// A table of the file, with the keys it may hold.
#[derive(Debug, Clone)]
pub(super) struct Section<'d> {
    table: &'d DeTable<'d>,
    keys: &'static [Key],
    /// Path from the top: `clusters.app.backends[2]`; empty at the top.
    pub(super) path: String,
    /// Where it starts: what is missing in it is reported there.
    pub(super) place: Place,
}

/// A value with the place it stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A key that is present, before anything is made of its value.
pub(super) struct Present<'d> {
    pub(super) key: &'static Key,
    pub(super) place: Place,
    value: &'d DeValue<'d>,
}

impl Present<'_> {
    /// Whether the value is the declared default.
    pub(super) fn is_default(&self) -> bool {
        let default = self.key.default.replace('_', "-");
        literal(self.value).is_some_and(|written| written.eq_ignore_ascii_case(&default))
    }

    /// Whether the value asks for something: not when it is the default, or switches off.
    pub(super) fn is_used(&self) -> bool {
        let is_off = match self.value {
            DeValue::Boolean(flag) => !flag && self.key.default.is_empty(),
            DeValue::String(text) => text.is_empty(),
            DeValue::Array(array) => array.is_empty(),
            DeValue::Table(table) => table.is_empty(),
            _ => false,
        };
        !is_off && !self.is_default()
    }
}

impl<'d> Section<'d> {
    pub(super) fn top(document: &'d Spanned<DeTable<'d>>, keys: &'static [Key]) -> Self {
        Self { table: document.get_ref(), keys, path: String::new(), place: Place(0) }
    }

    /// The path of one of its keys.
    pub(super) fn key_path(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Whether there can be such a key here.
    pub(super) fn declares(&self, name: &str) -> bool {
        find(self.keys, name).is_some()
    }

    /// Whether the key is there, well-formed or not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// Reports a key that has to be there and is not.
    pub(super) fn required(&self, name: &str, diagnostics: &mut Diagnostics) -> Option<()> {
        if !self.has(name) {
            diagnostics.error(self.place, self.key_path(name), "is required");
            return None;
        }
        Some(())
    }

    /// Where a key's value stands, or else where the section starts.
    pub(super) fn place_of(&self, name: &str) -> Place {
        self.raw(name).map_or(self.place, place_of)
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.raw(name)?.get_ref().as_bool()
    }

    pub(super) fn integer(&self, name: &str) -> Option<u64> {
        let Shape::Integer { min, max } = self.declared(name).shape else {
            debug_assert!(false, "`{name}` is not declared as an integer");
            return None;
        };
        integer(self.raw(name)?.get_ref().as_integer()?).filter(|value| (min..=max).contains(value))
    }

    /// The integer, or the default that the table of keys declares.
    pub(super) fn integer_or_default(&self, name: &str) -> u64 {
        self.integer(name).unwrap_or_else(|| {
            self.declared(name).default.parse().expect("keys read with their default declare one")
        })
    }

    pub(super) fn text(&self, name: &str) -> Option<&'d str> {
        self.raw(name)?.get_ref().as_str()
    }

    /// The declared text that the value is, whatever its case.
    pub(super) fn choice(&self, name: &str) -> Option<&'static str> {
        match self.declared(name).shape {
            Shape::OneOf(choices) => choices.iter().copied().find(|choice| Some(*choice) == self.text(name)),
            Shape::OneOfAnyCase(choices) => choice_any_case(choices, self.text(name)?),
            _ => None,
        }
    }

    pub(super) fn address(&self, name: &str) -> Option<Located<SocketAddr>> {
        let value = self.text(name)?.parse().ok()?;
        Some(Located { value, place: self.place_of(name) })
    }

    pub(super) fn integers(&self, name: &str) -> Option<Vec<u64>> {
        let values = self.raw(name)?.get_ref().as_array()?.iter();
        Some(values.filter_map(|value| integer(value.get_ref().as_integer()?)).collect())
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let values = self.raw(name).and_then(|value| value.get_ref().as_array()).into_iter().flatten();
        values.filter_map(|value| value.get_ref().as_str()).map(str::to_owned).collect()
    }

    /// A table of texts under the operator's own names.
    pub(super) fn text_map(&self, name: &str) -> impl Iterator<Item = (&'d str, &'d str)> {
        let table = self.raw(name).and_then(|value| value.get_ref().as_table());
        table.into_iter().flat_map(|table| {
            table.iter().filter_map(|(key, value)| Some((key.get_ref().as_ref(), value.get_ref().as_str()?)))
        })
    }

    /// The tables of an array, in order.
    pub(super) fn tables(&self, name: &str) -> Vec<Section<'d>> {
        let Shape::Tables(keys) = self.declared(name).shape else {
            debug_assert!(false, "`{name}` is not declared as an array of tables");
            return Vec::new();
        };
        let Some(array) = self.raw(name).and_then(|value| value.get_ref().as_array()) else {
            return Vec::new();
        };
        numbered(&self.key_path(name), array, keys).collect()
    }

    /// The tables under the operator's own names, in the order of the file.
    pub(super) fn named_tables(&self, name: &str) -> Vec<(&'d str, Section<'d>)> {
        let Shape::NamedTables(keys) = self.declared(name).shape else {
            debug_assert!(false, "`{name}` is not declared as a table of tables");
            return Vec::new();
        };
        let Some(table) = self.raw(name).and_then(|value| value.get_ref().as_table()) else {
            return Vec::new();
        };
        let mut sections: Vec<_> = named(&self.key_path(name), table, keys).collect();
        sections.sort_by_key(|(_, section)| section.place);
        sections
    }

    /// The table under a key.
    pub(super) fn table(&self, name: &str) -> Option<Section<'d>> {
        let Shape::Table(keys) = self.declared(name).shape else { return None };
        let value = self.raw(name)?;
        let table = value.get_ref().as_table()?;
        Some(Section { table, keys, path: self.key_path(name), place: place_of(value) })
    }

    /// The keys it may hold.
    #[cfg(test)]
    pub(super) fn keys(&self) -> &'static [Key] {
        self.keys
    }

    /// The declared keys that are present.
    pub(super) fn present(&self) -> impl Iterator<Item = Present<'d>> {
        self.table.iter().filter_map(|(name, value)| {
            let key = find(self.keys, name.get_ref())?;
            Some(Present { key, place: Place(name.span().start), value: value.get_ref() })
        })
    }

    fn raw(&self, name: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        debug_assert!(find(self.keys, name).is_some(), "`{name}` is not a declared key");
        self.table.get(name)
    }

    fn declared(&self, name: &str) -> &'static Key {
        find(self.keys, name).expect("only declared keys are read")
    }
}

/// Reports every value of the wrong shape and every unknown key, in this section and below.
pub(super) fn check(section: &Section<'_>, diagnostics: &mut Diagnostics) {
    for (name, value) in section.table {
        let path = section.key_path(name.get_ref());
        match find(section.keys, name.get_ref()) {
            Some(key) => check_value(&path, value, key.shape, diagnostics),
            None => {
                let text = unknown_key(name.get_ref(), section.keys);
                diagnostics.warning(Place(name.span().start), path, text);
            }
        }
    }
}

fn check_value(path: &str, value: &Spanned<DeValue<'_>>, shape: Shape, diagnostics: &mut Diagnostics) {
    let place = place_of(value);
    let mismatch = match (shape, value.get_ref()) {
        (Shape::Flag, DeValue::Boolean(_)) => None,
        (Shape::Integer { min, max }, DeValue::Integer(number)) => out_of_range(number, min, max),
        (Shape::Text, DeValue::String(_)) => None,
        (Shape::OneOf(choices), DeValue::String(text)) => {
            (!choices.contains(&text.as_ref())).then(|| not_one_of(text, choices))
        }
        (Shape::OneOfAnyCase(choices), DeValue::String(text)) => {
            choice_any_case(choices, text).is_none().then(|| not_one_of(text, choices))
        }
        (Shape::Address, DeValue::String(text)) => {
            text.parse::<SocketAddr>().is_err().then(|| not_an_address(text))
        }
        (Shape::Texts | Shape::TextsOf(_) | Shape::Integers { .. }, DeValue::Array(array)) => {
            for (index, item) in array.iter().enumerate() {
                check_value(&format!("{path}[{index}]"), item, item_shape(shape), diagnostics);
            }
            None
        }
        (Shape::TextMap, DeValue::Table(table)) => {
            for (name, item) in table {
                check_value(&join(path, name.get_ref()), item, Shape::Text, diagnostics);
            }
            None
        }
        (Shape::Table(keys), DeValue::Table(table)) => {
            check(&Section { table, keys, path: path.to_owned(), place }, diagnostics);
            None
        }
        (Shape::Tables(keys), DeValue::Array(array)) => {
            check_items(path, array.iter(), diagnostics);
            numbered(path, array, keys).for_each(|section| check(&section, diagnostics));
            None
        }
        (Shape::NamedTables(keys), DeValue::Table(table)) => {
            for (name, item) in table.iter().filter(|(_, item)| !item.get_ref().is_table()) {
                let text = format!("expected a table, found {}", described(item.get_ref()));
                diagnostics.error(place_of(item), join(path, name.get_ref()), text);
            }
            named(path, table, keys).for_each(|(_, section)| check(&section, diagnostics));
            None
        }
        (shape, found) => Some(format!("expected {}, found {}", expected(shape), described(found))),
    };
    if let Some(text) = mismatch {
        diagnostics.error(place, path, text);
    }
}

fn check_items<'a, 'd: 'a>(
    path: &str,
    items: impl Iterator<Item = &'a Spanned<DeValue<'d>>>,
    diagnostics: &mut Diagnostics,
) {
    for (index, item) in items.enumerate().filter(|(_, item)| !item.get_ref().is_table()) {
        let text = format!("expected a table, found {}", described(item.get_ref()));
        diagnostics.error(place_of(item), format!("{path}[{index}]"), text);
    }
}

fn numbered<'d>(
    path: &str,
    array: &'d DeArray<'d>,
    keys: &'static [Key],
) -> impl Iterator<Item = Section<'d>> {
    array.iter().enumerate().filter_map(move |(index, item)| {
        let table = item.get_ref().as_table()?;
        Some(Section { table, keys, path: format!("{path}[{index}]"), place: place_of(item) })
    })
}

fn named<'d>(
    path: &str,
    table: &'d DeTable<'d>,
    keys: &'static [Key],
) -> impl Iterator<Item = (&'d str, Section<'d>)> {
    table.iter().filter_map(move |(name, item)| {
        let name_text: &'d str = name.get_ref();
        let table = item.get_ref().as_table()?;
        let place = place_of(item);
        Some((name_text, Section { table, keys, path: join(path, name_text), place }))
    })
}

fn item_shape(shape: Shape) -> Shape {
    match shape {
        Shape::TextsOf(choices) => Shape::OneOf(choices),
        Shape::Integers { max } => Shape::Integer { min: 0, max },
        _ => Shape::Text,
    }
}

fn find(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name == name)
}

fn place_of(value: &Spanned<DeValue<'_>>) -> Place {
    Place(value.span().start)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn integer(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn choice_any_case(choices: &'static [&'static str], text: &str) -> Option<&'static str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    choices.iter().copied().find(|choice| plain(choice) == plain(text))
}

fn out_of_range(number: &DeInteger<'_>, min: u64, max: u64) -> Option<String> {
    let fits = integer(number).is_some_and(|value| (min..=max).contains(&value));
    (!fits).then(|| format!("{number} is out of range: {min} to {max}"))
}

fn not_one_of(text: &str, choices: &[&str]) -> String {
    let same_but_for_case = choices.iter().find(|choice| choice.eq_ignore_ascii_case(text));
    match same_but_for_case {
        Some(choice) => format!("\"{text}\" is written \"{choice}\""),
        None => format!("\"{}\" is not one of {}", text.escape_debug(), quoted(choices)),
    }
}

fn not_an_address(text: &str) -> String {
    format!(
        "\"{}\" is not an address of the form IP:PORT, such as 127.0.0.1:8080 or [::1]:8080",
        text.escape_debug()
    )
}

fn quoted(choices: &[&str]) -> String {
    choices.iter().map(|choice| format!("\"{choice}\"")).collect::<Vec<_>>().join(", ")
}

fn expected(shape: Shape) -> &'static str {
    match shape {
        Shape::Flag => "true or false",
        Shape::Integer { .. } => "an integer",
        Shape::Text | Shape::OneOf(_) | Shape::OneOfAnyCase(_) => "a string",
        Shape::Address => "a string of the form IP:PORT",
        Shape::Texts | Shape::TextsOf(_) => "an array of strings",
        Shape::Integers { .. } => "an array of integers",
        Shape::TextMap => "a table of strings",
        Shape::Table(_) => "a table",
        Shape::Tables(_) => "an array of tables",
        Shape::NamedTables(_) => "tables with a name each",
    }
}

fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The value as it would be written in the table of keys, `_` as `-`; `None` for tables.
fn literal(value: &DeValue<'_>) -> Option<String> {
    Some(match value {
        DeValue::String(text) => format!("\"{}\"", text.replace('_', "-").escape_debug()),
        DeValue::Integer(number) => integer(number)?.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Table(table) if table.is_empty() => "{}".to_owned(),
        DeValue::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| literal(item.get_ref())).collect();
            format!("[{}]", items?.join(", "))
        }
        _ => return None,
    })
}

/// What a key that nobody declared could have been.
fn unknown_key(name: &str, keys: &[Key]) -> String {
    if let Some(key) = nearest(name, keys) {
        return format!("unknown key, ignored; did you mean `{}`?", key.name);
    }
    let elsewhere: Vec<_> = SECTIONS
        .iter()
        .filter(|(_, keys)| keys.iter().any(|key| key.name == name))
        .map(|(section, _)| *section)
        .collect();
    match elsewhere.as_slice() {
        [] => "unknown key, ignored".to_owned(),
        sections => format!("unknown key here, ignored; it belongs to {}", sections.join(" or ")),
    }
}

/// The declared key one or a few typing errors away: at most a third of the letters differ.
fn nearest<'k>(name: &str, keys: &'k [Key]) -> Option<&'k Key> {
    let distance =
        |key: &Key| strsim::damerau_levenshtein(&name.to_ascii_lowercase().replace('-', "_"), key.name);
    let best = keys.iter().min_by_key(|key| distance(key))?;
    (distance(best) <= name.len().min(best.name.len()) / 3).then_some(best)
}

impl Served {
    /// What an operator who used the key, of or on a listener that speaks `protocol` if any, is told; `Err`
    /// when it must not be ignored.
    pub(super) fn remark(self, protocol: &str) -> Option<Result<String, String>> {
        match self {
            Self::OnlyFor(kind) | Self::Misplaced(kind) if kind == protocol => None,
            Self::Yes | Self::Needless => None,
            Self::NotYet => Some(Ok("not served yet by this version: it has no effect".to_owned())),
            Self::OnlyFor(kind) => Some(Ok(format!("it has no effect: only {kind} listeners use it"))),
            Self::Misplaced(kind) => Some(Err(format!("only {kind} listeners can have it"))),
            Self::NotIgnorable(consequence) => Some(Err(format!(
                "not served yet by this version, and it cannot be left out of account: {consequence}"
            ))),
        }
    }
}
