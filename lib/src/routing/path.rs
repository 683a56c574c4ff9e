//! The rules of one host: by path, then by method.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};
use std::sync::{Arc, LazyLock};

use kakehi_command::order::PathRule;
use regex::bytes::Regex;

use super::RouteError;
use super::pattern::{Case, compile};
use super::text::Text;

/// The rules of one host.
///
/// Most hosts have a single rule for a prefix and any method; a table of a million hosts is as small as
/// that variant.
#[derive(Debug)]
pub(super) enum PathRules<T> {
    /// One rule: a prefix, any method.
    Prefix(Text, T),
    /// Anything else. Empty while the first rule is on its way.
    Many(Box<PathTable<T>>),
}

impl<T> Default for PathRules<T> {
    fn default() -> Self {
        Self::Many(Box::default())
    }
}

impl<T> PathRules<T> {
    pub(super) fn insert(
        &mut self,
        path: &PathRule,
        method: Option<&str>,
        target: T,
    ) -> Result<(), RouteError> {
        if let (PathRule::Prefix(prefix), None, true) = (path, method, self.is_empty()) {
            *self = Self::Prefix(shared(prefix), target);
            return Ok(());
        }
        match self {
            Self::Many(table) => table.insert(path, method, target),
            Self::Prefix(..) => {
                let mut table = Box::new(PathTable::default());
                // The new rule first: if it is refused, nothing has changed.
                if let (PathRule::Prefix(prefix), None, Self::Prefix(other, _)) = (path, method, &*self)
                    && **prefix == *other.0
                {
                    return Err(RouteError::Duplicate);
                }
                table.insert(path, method, target)?;
                if let Self::Prefix(prefix, target) = std::mem::replace(self, Self::Many(table))
                    && let Self::Many(table) = self
                {
                    table.insert(&PathRule::Prefix(prefix.0), None, target)?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn remove(&mut self, path: &PathRule, method: Option<&str>) -> Option<T> {
        match self {
            Self::Many(table) => table.remove(path, method),
            Self::Prefix(prefix, _) => {
                let PathRule::Prefix(removed) = path else { return None };
                if method.is_some() || **removed != *prefix.0 {
                    return None;
                }
                match std::mem::take(self) {
                    Self::Prefix(_, target) => Some(target),
                    Self::Many(_) => None,
                }
            }
        }
    }

    pub(super) fn find(&self, path: &[u8], method: &[u8]) -> Option<&T> {
        match self {
            Self::Prefix(prefix, target) => path.starts_with(prefix.as_bytes()).then_some(target),
            Self::Many(table) => table.find(path, method),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Many(table) if table.is_empty())
    }

    /// Checks the tables and counts the rules.
    pub(super) fn check_invariants(&self) -> usize {
        match self {
            Self::Prefix(..) => 1,
            Self::Many(table) => table.check_invariants(),
        }
    }
}

/// The text of a prefix; one and the same for `/`, which nearly all hosts have, so that it stays in the
/// processor's cache.
fn shared(prefix: &Arc<str>) -> Text {
    static ROOT: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("/"));
    Text(if **prefix == **ROOT { ROOT.clone() } else { prefix.clone() })
}

/// Rules of one host, in any number.
#[derive(Debug)]
pub(super) struct PathTable<T> {
    equals: BTreeMap<Text, MethodRules<T>>,
    prefixes: BTreeMap<Text, MethodRules<T>>,
    /// The longest text first, then by the alphabet: the order of insertion does not count.
    expressions: BTreeMap<(Reverse<usize>, Text), (Regex, MethodRules<T>)>,
}

impl<T> Default for PathTable<T> {
    fn default() -> Self {
        Self { equals: BTreeMap::new(), prefixes: BTreeMap::new(), expressions: BTreeMap::new() }
    }
}

impl<T> PathTable<T> {
    fn insert(&mut self, path: &PathRule, method: Option<&str>, target: T) -> Result<(), RouteError> {
        let rules = match path {
            PathRule::Equals(text) => self.equals.entry(Text(text.clone())).or_default(),
            PathRule::Prefix(text) => self.prefixes.entry(Text(text.clone())).or_default(),
            PathRule::Regex(text) => {
                let key = (Reverse(text.len()), Text(text.clone()));
                if !self.expressions.contains_key(&key) {
                    let regex = compile(text, Case::Counts)?;
                    self.expressions.insert(key.clone(), (regex, MethodRules::default()));
                }
                match self.expressions.get_mut(&key) {
                    Some((_, rules)) => rules,
                    None => return Ok(()),
                }
            }
        };
        rules.insert(method, target)
    }

    fn remove(&mut self, path: &PathRule, method: Option<&str>) -> Option<T> {
        match path {
            PathRule::Equals(text) => remove_from(&mut self.equals, text, method),
            PathRule::Prefix(text) => remove_from(&mut self.prefixes, text, method),
            PathRule::Regex(text) => {
                let key = (Reverse(text.len()), Text(text.clone()));
                let (_, rules) = self.expressions.get_mut(&key)?;
                let target = rules.remove(method)?;
                if rules.is_empty() {
                    self.expressions.remove(&key);
                }
                Some(target)
            }
        }
    }

    fn find(&self, path: &[u8], method: &[u8]) -> Option<&T> {
        let equal = || self.equals.get(path)?.find(method);
        let expression = || {
            let mut fitting = self.expressions.values().filter(|(regex, _)| regex.is_match(path));
            fitting.find_map(|(_, rules)| rules.find(method))
        };
        equal().or_else(|| self.find_prefix(path, method)).or_else(expression)
    }

    /// The longest prefix that has a rule for the method.
    ///
    /// In sorted order, all prefixes of a path stand before it, and what stands between a prefix and its
    /// path begins with that prefix. So the greatest text up to the path either is the longest prefix, or
    /// all prefixes are within what it has in common with the path; that is shorter, and so on.
    fn find_prefix(&self, path: &[u8], method: &[u8]) -> Option<&T> {
        let mut limit = path;
        loop {
            let (prefix, rules) = self.prefixes.range::<[u8], _>((Unbounded, Included(limit))).next_back()?;
            let prefix = prefix.as_bytes();
            let common = limit.iter().zip(prefix).take_while(|(a, b)| a == b).count();
            let shorter = if common < prefix.len() {
                common
            } else if let Some(target) = rules.find(method) {
                return Some(target);
            } else {
                common.checked_sub(1)?
            };
            limit = limit.get(..shorter)?;
        }
    }

    fn is_empty(&self) -> bool {
        self.equals.is_empty() && self.prefixes.is_empty() && self.expressions.is_empty()
    }

    fn check_invariants(&self) -> usize {
        let plain = self.equals.values().chain(self.prefixes.values());
        let all = plain.chain(self.expressions.values().map(|(_, rules)| rules));
        all.map(MethodRules::check_invariants).sum()
    }
}

fn remove_from<T>(rules: &mut BTreeMap<Text, MethodRules<T>>, text: &str, method: Option<&str>) -> Option<T> {
    let of_path = rules.get_mut(text.as_bytes())?;
    let target = of_path.remove(method)?;
    if of_path.is_empty() {
        rules.remove(text.as_bytes());
    }
    Some(target)
}

/// The rules of one path.
#[derive(Debug)]
struct MethodRules<T> {
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
    fn insert(&mut self, method: Option<&str>, target: T) -> Result<(), RouteError> {
        match method {
            None if self.any.is_some() => return Err(RouteError::Duplicate),
            None => self.any = Some(target),
            Some(method) if self.named.iter().any(|(name, _)| **name == *method) => {
                return Err(RouteError::Duplicate);
            }
            Some(method) => self.named.push((method.into(), target)),
        }
        Ok(())
    }

    fn remove(&mut self, method: Option<&str>) -> Option<T> {
        let Some(method) = method else { return self.any.take() };
        let index = self.named.iter().position(|(name, _)| **name == *method)?;
        Some(self.named.swap_remove(index).1)
    }

    fn find(&self, method: &[u8]) -> Option<&T> {
        let named = self.named.iter().find(|(name, _)| name.as_bytes() == method);
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
