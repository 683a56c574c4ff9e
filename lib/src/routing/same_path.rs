//! The rules of one host and path: by method, or by method and header predicates.

use std::cmp::Reverse;

use kakehi_command::order::{HeaderPredicate, HttpFrontend};

use super::predicate::Predicates;
use super::{Request, RouteError};

/// Rules of one host and path.
pub(super) trait SamePath: Default {
    /// What a rule leads to.
    type Target;

    /// On failure nothing has changed.
    fn insert(&mut self, rule: &HttpFrontend, target: Self::Target) -> Result<(), RouteError>;
    fn remove(&mut self, rule: &HttpFrontend) -> Option<Self::Target>;
    fn find(&self, request: &Request<'_>) -> Option<&Self::Target>;
    fn is_empty(&self) -> bool;
    /// Checks the tables and counts the rules.
    fn check_invariants(&self) -> usize;
}

/// Rules without predicates: that of the method, else that of all methods.
#[derive(Debug)]
pub(super) struct MethodRules<T> {
    any: Option<T>,
    /// Few: there are only so many methods.
    named: Vec<(Box<str>, T)>,
}

impl<T> Default for MethodRules<T> {
    fn default() -> Self {
        Self { any: None, named: Vec::new() }
    }
}

impl<T> MethodRules<T> {
    /// The rule of all methods, which is new.
    pub(super) fn set_any(&mut self, target: T) {
        debug_assert!(self.any.is_none());
        self.any = Some(target);
    }
}

impl<T> SamePath for MethodRules<T> {
    type Target = T;

    fn insert(&mut self, rule: &HttpFrontend, target: T) -> Result<(), RouteError> {
        match rule.method() {
            None if self.any.is_some() => return Err(RouteError::Duplicate),
            None => self.set_any(target),
            Some(method) if self.named.iter().any(|(name, _)| **name == *method) => {
                return Err(RouteError::Duplicate);
            }
            Some(method) => self.named.push((method.into(), target)),
        }
        Ok(())
    }

    fn remove(&mut self, rule: &HttpFrontend) -> Option<T> {
        let Some(method) = rule.method() else { return self.any.take() };
        let index = self.named.iter().position(|(name, _)| **name == *method)?;
        Some(self.named.swap_remove(index).1)
    }

    fn find(&self, request: &Request<'_>) -> Option<&T> {
        let named = self.named.iter().find(|(name, _)| name.as_bytes() == request.method);
        named.map(|(_, target)| target).or(self.any.as_ref())
    }

    fn is_empty(&self) -> bool {
        self.any.is_none() && self.named.is_empty()
    }

    fn check_invariants(&self) -> usize {
        assert!(!self.is_empty(), "what has no rule is forgotten");
        self.named.len() + usize::from(self.any.is_some())
    }
}

/// Rules with predicates: tried one after the other, the most specific first.
#[derive(Debug)]
pub(super) struct PredicateRules<T>(Vec<PredicateRule<T>>);

#[derive(Debug)]
struct PredicateRule<T> {
    method: Option<Box<str>>,
    predicates: Predicates,
    target: T,
}

/// Where a rule stands among those of its path: with a method before without, more predicates before
/// fewer. After that the texts decide, so that the order of insertion does not.
type Rank<'a> = (bool, Reverse<usize>, &'a [HeaderPredicate], Option<&'a str>);

impl<T> PredicateRule<T> {
    fn rank(&self) -> Rank<'_> {
        rank(self.method.as_deref(), self.predicates.sources())
    }
}

fn rank<'a>(method: Option<&'a str>, predicates: &'a [HeaderPredicate]) -> Rank<'a> {
    (method.is_none(), Reverse(predicates.len()), predicates, method)
}

impl<T> Default for PredicateRules<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> PredicateRules<T> {
    /// The index of a rule, or where it would have to be.
    fn search(&self, rule: &HttpFrontend) -> Result<usize, usize> {
        self.0.binary_search_by(|other| other.rank().cmp(&rank(rule.method(), rule.header_predicates())))
    }
}

impl<T> SamePath for PredicateRules<T> {
    type Target = T;

    fn insert(&mut self, rule: &HttpFrontend, target: T) -> Result<(), RouteError> {
        let Err(index) = self.search(rule) else { return Err(RouteError::Duplicate) };
        let predicates = Predicates::compile(rule.header_predicates())?;
        self.0.insert(index, PredicateRule { method: rule.method().map(Box::from), predicates, target });
        Ok(())
    }

    fn remove(&mut self, rule: &HttpFrontend) -> Option<T> {
        let index = self.search(rule).ok()?;
        Some(self.0.remove(index).target)
    }

    fn find(&self, request: &Request<'_>) -> Option<&T> {
        let fits = |rule: &&PredicateRule<T>| {
            rule.method.as_ref().is_none_or(|method| method.as_bytes() == request.method)
                && rule.predicates.hold(request.fields)
        };
        self.0.iter().find(fits).map(|rule| &rule.target)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn check_invariants(&self) -> usize {
        assert!(!self.is_empty(), "what has no rule is forgotten");
        assert!(self.0.is_sorted_by(|a, b| a.rank() < b.rank()), "the most specific is first");
        assert!(self.0.iter().all(|rule| !rule.predicates.sources().is_empty()));
        self.0.len()
    }
}
