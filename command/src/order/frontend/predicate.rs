//! Header predicates: fields that a request must have for a frontend to be its.

use crate::order::{
    Case, OrderError, compile_expression, error::Excerpt, is_field_value, is_token, wire_enum,
};
use crate::proto;

/// Most predicates of one frontend.
pub const PREDICATES_MAX: usize = 16;
/// Longest name of a field, in bytes.
pub const PREDICATE_NAME_BYTES_MAX: usize = 128;
/// Longest value or expression, in bytes.
pub const PREDICATE_VALUE_BYTES_MAX: usize = 1024;

const FIELD: &str = "header_predicates";

/// What a field of the request must be. The first field line of the name counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderPredicate {
    name: Box<str>,
    matcher: HeaderMatch,
}

/// How a field's value is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeaderMatch {
    /// It is this, byte for byte.
    Exact(Box<str>),
    /// It matches this expression, anchored at both ends, case counting. The expression compiles with
    /// [`compile_expression`].
    Regex(Box<str>),
    /// It is there.
    Present,
}

impl HeaderPredicate {
    /// Checks a predicate that came from outside.
    fn from_wire(wire: &proto::HeaderPredicate) -> Result<Self, OrderError> {
        let name = &wire.name;
        let refuse = |reason| Err(OrderError::invalid(FIELD, name, reason));
        if name.len() > PREDICATE_NAME_BYTES_MAX {
            return refuse("has a name longer than 128 bytes");
        }
        if !is_token(name) {
            return refuse("has a name that is not a token");
        }
        if ["host", "cookie"].iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return refuse("cannot be matched: Host is what routing begins with, and Cookie is a list");
        }
        let value = wire.value.as_deref();
        if value.is_some_and(|value| value.len() > PREDICATE_VALUE_BYTES_MAX) {
            return refuse("has a value longer than 1024 bytes");
        }
        let matcher = match (wire_enum("header_predicates.kind", wire.kind)?, value) {
            (proto::HeaderMatchKind::Present, None | Some("")) => HeaderMatch::Present,
            (proto::HeaderMatchKind::Present, Some(_)) => {
                return refuse("has a value, and is to be present only");
            }
            (_, None) => return refuse("has no value to compare with"),
            (proto::HeaderMatchKind::Exact, Some(value)) if !is_field_value(value) => {
                return refuse("has a value with a control character");
            }
            (proto::HeaderMatchKind::Exact, Some(value)) if value.trim_matches([' ', '\t']) != value => {
                return refuse("has white space around its value, which is never part of a field");
            }
            (proto::HeaderMatchKind::Exact, Some(value)) => HeaderMatch::Exact(value.into()),
            (proto::HeaderMatchKind::Regex, Some(source)) => match compile_expression(source, Case::Counts) {
                Ok(_) => HeaderMatch::Regex(source.into()),
                Err(reason) => return Err(OrderError::invalid(FIELD, name, reason)),
            },
        };
        Ok(Self { name: name.to_ascii_lowercase().into(), matcher })
    }

    /// The field's name, in lower case.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its value is looked at.
    #[must_use]
    pub fn matcher(&self) -> &HeaderMatch {
        &self.matcher
    }
}

impl From<&HeaderPredicate> for proto::HeaderPredicate {
    fn from(predicate: &HeaderPredicate) -> Self {
        let (kind, value) = match &predicate.matcher {
            HeaderMatch::Exact(value) => (proto::HeaderMatchKind::Exact, Some(value.to_string())),
            HeaderMatch::Regex(source) => (proto::HeaderMatchKind::Regex, Some(source.to_string())),
            HeaderMatch::Present => (proto::HeaderMatchKind::Present, None),
        };
        Self { name: predicate.name.to_string(), kind: kind.into(), value }
    }
}

/// Checks the predicates of a frontend: a set, in the order in which they identify it.
pub(super) fn predicates(wire: &[proto::HeaderPredicate]) -> Result<Box<[HeaderPredicate]>, OrderError> {
    if wire.len() > PREDICATES_MAX {
        return Err(OrderError::Invalid {
            field: FIELD,
            value: Excerpt::NONE,
            reason: "are more than 16".into(),
        });
    }
    let mut predicates = wire.iter().map(HeaderPredicate::from_wire).collect::<Result<Vec<_>, _>>()?;
    predicates.sort();
    predicates.dedup();
    for pair in predicates.windows(2) {
        if let [HeaderPredicate { name, matcher: HeaderMatch::Exact(_) }, next] = pair
            && *name == next.name
            && matches!(next.matcher, HeaderMatch::Exact(_))
        {
            return Err(OrderError::invalid(FIELD, name, "has two values at once, which no field can have"));
        }
    }
    Ok(predicates.into())
}
