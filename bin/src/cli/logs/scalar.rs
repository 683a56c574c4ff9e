//! [`Scalar`]: a value that is compared without making a tree of it. RFC 9535 §2.3.5.2.2.

use std::borrow::Cow;
use std::cmp::Ordering;

/// A value, or that there is none.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar<'a> {
    /// There is no such member; equal to itself and nothing else.
    Nothing,
    Null,
    Bool(bool),
    /// Exact up to 2^53, as JSON's numbers are between programs (RFC 8259 §6).
    Number(f64),
    Text(Cow<'a, str>),
    /// An array or an object: not equal to any other kind.
    Structure,
    /// What cannot be told apart here: numbers beyond those bounds, strings with broken escapes.
    Unknown,
}

/// The sign between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// Beyond it, whole numbers are not told apart as floating-point numbers.
const EXACT_MAX: f64 = 9_007_199_254_740_991.0;

impl<'a> Scalar<'a> {
    /// The value that a piece of JSON is.
    pub(super) fn of(json: &'a str) -> Self {
        match json.as_bytes() {
            [b'"', text @ .., b'"'] if !text.contains(&b'\\') => Self::Text(json[1..json.len() - 1].into()),
            [b'"', ..] => {
                serde_json::from_str::<String>(json).map_or(Self::Unknown, |text| Self::Text(text.into()))
            }
            b"null" => Self::Null,
            b"true" => Self::Bool(true),
            b"false" => Self::Bool(false),
            [b'[' | b'{', ..] => Self::Structure,
            _ => Self::number(json).unwrap_or(Self::Unknown),
        }
    }

    /// The number that `text` is; none if it is out of bounds.
    pub(super) fn number(text: &str) -> Option<Self> {
        // The usual ones, such as a status, cost next to nothing.
        let small = text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if small { text.parse::<u32>().ok().map(f64::from) } else { text.parse().ok() };
        number.filter(|number: &f64| number.abs() <= EXACT_MAX).map(Self::Number)
    }

    /// The same value, for as long as this one.
    pub(super) fn borrowed(&self) -> Scalar<'_> {
        match self {
            Self::Text(text) => Scalar::Text(Cow::Borrowed(text)),
            Self::Number(number) => Scalar::Number(*number),
            Self::Bool(value) => Scalar::Bool(*value),
            Self::Null => Scalar::Null,
            Self::Nothing => Scalar::Nothing,
            Self::Structure => Scalar::Structure,
            Self::Unknown => Scalar::Unknown,
        }
    }

    /// Whether the comparison holds; none if that cannot be told here.
    pub(super) fn compare(&self, comparison: Comparison, other: &Self) -> Option<bool> {
        let order = match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => return None,
            // Whether they are equal is told by the library.
            (Self::Structure, Self::Structure) => {
                return matches!(comparison, Comparison::Less | Comparison::Greater).then_some(false);
            }
            (Self::Number(left), Self::Number(right)) => left.partial_cmp(right),
            (Self::Text(left), Self::Text(right)) => Some(left.cmp(right)),
            // These are equal or not, and have no order.
            (left, right) => (left == right).then_some(Ordering::Equal),
        };
        Some(match comparison {
            Comparison::Equal => order == Some(Ordering::Equal),
            Comparison::NotEqual => order != Some(Ordering::Equal),
            Comparison::Less => order == Some(Ordering::Less),
            Comparison::AtMost => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Comparison::Greater => order == Some(Ordering::Greater),
            Comparison::AtLeast => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read() {
        for (json, expected) in [
            ("\"a b\"", Scalar::Text("a b".into())),
            ("\"a\\u0062\"", Scalar::Text("ab".into())),
            ("\"\\ud800\"", Scalar::Unknown),
            ("null", Scalar::Null),
            ("true", Scalar::Bool(true)),
            ("503", Scalar::Number(503.0)),
            ("-1.5e1", Scalar::Number(-15.0)),
            ("9007199254740993", Scalar::Unknown),
            ("1e999", Scalar::Unknown),
            ("[1]", Scalar::Structure),
            ("{}", Scalar::Structure),
        ] {
            assert_eq!(Scalar::of(json), expected, "{json}");
        }
    }

    /// RFC 9535 §2.3.5.3, Table 11, as far as it is about scalars.
    #[test]
    fn the_examples_of_the_rfc_hold() {
        let check = |left: Scalar<'_>, comparison, right: Scalar<'_>, expected: bool| {
            assert_eq!(left.compare(comparison, &right), Some(expected), "{left:?} {comparison:?} {right:?}");
        };
        let text = |text: &'static str| Scalar::Text(text.into());
        check(Scalar::Nothing, Comparison::Equal, Scalar::Nothing, true);
        check(Scalar::Nothing, Comparison::AtMost, Scalar::Nothing, true);
        check(Scalar::Nothing, Comparison::Equal, text("g"), false);
        check(Scalar::Nothing, Comparison::NotEqual, Scalar::Nothing, false);
        check(Scalar::Nothing, Comparison::NotEqual, text("g"), true);
        check(Scalar::Number(1.0), Comparison::AtMost, Scalar::Number(2.0), true);
        check(Scalar::Number(1.0), Comparison::Greater, Scalar::Number(2.0), false);
        check(Scalar::Number(13.0), Comparison::Equal, text("13"), false);
        check(text("a"), Comparison::AtMost, text("b"), true);
        check(text("a"), Comparison::Greater, text("b"), false);
        check(Scalar::Structure, Comparison::Equal, Scalar::Number(17.0), false);
        check(Scalar::Structure, Comparison::NotEqual, Scalar::Number(17.0), true);
        check(Scalar::Structure, Comparison::Less, Scalar::Structure, false);
        check(Scalar::Bool(true), Comparison::AtMost, Scalar::Bool(true), true);
        check(Scalar::Bool(true), Comparison::Greater, Scalar::Bool(true), false);
        check(Scalar::Number(1.0), Comparison::AtMost, text("a"), false);
    }

    #[test]
    fn kinds_are_not_mixed() {
        let check = |left: &str, comparison, right: &str, expected| {
            assert_eq!(Scalar::of(left).compare(comparison, &Scalar::of(right)), expected, "{left} {right}");
        };
        check("1", Comparison::Equal, "1.0", Some(true));
        check("1", Comparison::Equal, "\"1\"", Some(false));
        check("1", Comparison::Less, "\"2\"", Some(false));
        check("\"a\"", Comparison::Less, "\"b\"", Some(true));
        check("true", Comparison::AtMost, "true", Some(true));
        check("false", Comparison::Less, "true", Some(false));
        check("[1]", Comparison::Equal, "[1]", None);
        check("[1]", Comparison::NotEqual, "1", Some(true));
        assert_eq!(Scalar::Nothing.compare(Comparison::Equal, &Scalar::Nothing), Some(true));
        assert_eq!(Scalar::Nothing.compare(Comparison::Equal, &Scalar::Null), Some(false));
    }
}
