//! [`Names`]: the members of a record that are asked for, and the only ones that are looked at.
//!
//! A line is read once from its beginning to its end, so that one that is no JSON is found; values that nobody asked
//! for are skipped where they stand, those asked for are kept as the text they are.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Names of members, each once.
#[derive(Debug, Default, Clone)]
pub(super) struct Names(Vec<Box<str>>);

/// The values of [`Names`] in one record, in their order.
pub(super) type Values<'l> = Vec<Option<&'l RawValue>>;

impl Names {
    /// The place of `name`, which gets one if it has none.
    pub(super) fn place(&mut self, name: &str) -> usize {
        self.find(name).unwrap_or_else(|| {
            self.0.push(name.into());
            self.0.len() - 1
        })
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|known| **known == *name)
    }

    /// The members of the object that `text` is; of those that occur twice, the last.
    ///
    /// # Errors
    /// It is not an object, or not JSON.
    pub(super) fn of<'l>(&self, text: &'l str) -> Result<Values<'l>, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let values = deserializer.deserialize_map(Members(self))?;
        deserializer.end()?;
        Ok(values)
    }
}

/// The value of the member `name` of what `text` is; none if it is no object, or has none.
pub(super) fn member<'l>(text: &'l str, name: &str) -> Option<&'l RawValue> {
    if !text.starts_with('{') {
        return None;
    }
    Names(vec![name.into()]).of(text).ok()?.pop()?
}

struct Members<'n>(&'n Names);

impl<'l> Visitor<'l> for Members<'_> {
    type Value = Values<'l>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'l>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.0.0.len()];
        while let Some(place) = map.next_key_seed(Name(self.0))? {
            match place.and_then(|place| values.get_mut(place)) {
                Some(value) => *value = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

/// A name in a record: its place.
struct Name<'n>(&'n Names);

impl<'l> DeserializeSeed<'l> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'l>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.find(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<[Option<&str>; 2]>) {
        let mut names = Names::default();
        assert_eq!((names.place("a"), names.place("b"), names.place("a")), (0, 1, 0));
        let values = names.of(text).ok();
        let values =
            values.map(|values| values.iter().map(|value| value.map(RawValue::get)).collect::<Vec<_>>());
        assert_eq!(values, expected.map(|values| values.to_vec()), "{text}");
    }

    #[test]
    fn members_are_found_by_name() {
        check(r#"{"a":1,"c":[{"a":9}],"b":"x\"y"}"#, Some([Some("1"), Some(r#""x\"y""#)]));
        check(r#" { "\u0061" : { "b" : 2 } } "#, Some([Some(r#"{ "b" : 2 }"#), None]));
        check(r#"{"a":1,"a":2}"#, Some([Some("2"), None]));
        check("{}", Some([None, None]));
    }

    #[test]
    fn what_is_no_object_is_none() {
        for text in ["", "[1]", "1", "{", r#"{"a":1"#, r#"{"a":1}x"#, r#"{"c":01}"#, "{\"c\":\"\u{1}\"}"] {
            check(text, None);
        }
    }

    #[test]
    fn members_of_members_are_found() {
        assert_eq!(member(r#"{"team":"x"}"#, "team").map(RawValue::get), Some("\"x\""));
        assert!(member("[1]", "team").is_none() && member("{}", "team").is_none());
    }
}
