//! Header predicates: fields that a request must have for a rule to be looked at.

use kakehi_command::order::{HeaderMatch, HeaderPredicate};
use regex::bytes::Regex;

use super::RouteError;
use super::pattern::{Case, compile};

/// The fields of a request, as far as rules ask for them.
pub trait Fields {
    /// The value of the first field line of this name, if there is one. `name` is in lower case; names of
    /// fields compare without regard to case (RFC 9110 §5.1).
    fn first(&self, name: &str) -> Option<&[u8]>;
}

/// A request without fields: no predicate holds.
#[derive(Debug, Clone, Copy)]
pub struct NoFields;

impl Fields for NoFields {
    fn first(&self, _name: &str) -> Option<&[u8]> {
        None
    }
}

/// The predicates of one rule, compiled. All must hold.
#[derive(Debug, Default)]
pub(super) struct Predicates {
    /// Sorted, no two alike; what tells rules of the same host, path and method apart.
    sources: Box<[HeaderPredicate]>,
    /// For each source that is an expression, in their order.
    expressions: Box<[Regex]>,
}

impl Predicates {
    pub(super) fn compile(sources: &[HeaderPredicate]) -> Result<Self, RouteError> {
        let expression = |source: &HeaderPredicate| match source.matcher() {
            HeaderMatch::Regex(source) => Some(compile(source, Case::Counts)),
            HeaderMatch::Exact(_) | HeaderMatch::Present => None,
        };
        Ok(Self {
            expressions: sources.iter().filter_map(expression).collect::<Result<_, _>>()?,
            sources: sources.into(),
        })
    }

    pub(super) fn sources(&self) -> &[HeaderPredicate] {
        &self.sources
    }

    /// Whether all hold. Of several field lines of one name the first counts.
    pub(super) fn hold(&self, fields: &dyn Fields) -> bool {
        let mut expressions = self.expressions.iter();
        self.sources.iter().all(|source| {
            let value = fields.first(source.name());
            match source.matcher() {
                HeaderMatch::Exact(expected) => value == Some(expected.as_bytes()),
                HeaderMatch::Present => value.is_some(),
                HeaderMatch::Regex(_) => {
                    let expression = expressions.next();
                    value.zip(expression).is_some_and(|(value, expression)| expression.is_match(value))
                }
            }
        })
    }
}
