//! The rules of one host: by path, then by method and header predicates.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};
use std::sync::Arc;

use kakehi_command::order::{HttpFrontend, PathRule};
use regex::bytes::Regex;

use super::pattern::{Case, compile};
use super::same_path::{MethodRules, PredicateRules, SamePath};
use super::text::Text;
use super::{Request, RouteError};

/// The prefix that nearly all hosts have for their only rule.
const ROOT: &str = "/";

/// The rules of one host.
///
/// Most hosts have a single rule, for the prefix `/` and nothing else; a table of a million hosts is as
/// small as that variant.
#[derive(Debug, Default)]
pub(super) enum PathRules<T> {
    /// None: while the first rule is on its way, and once the last is gone.
    #[default]
    Empty,
    /// One rule: the prefix `/`, any method, no predicates.
    Root(T),
    /// One rule: another prefix, any method, no predicates.
    Prefix(Box<(Text, T)>),
    /// Anything else.
    Many(Box<PathTable<T>>),
}

impl<T> PathRules<T> {
    pub(super) fn insert(&mut self, rule: &HttpFrontend, target: T) -> Result<(), RouteError> {
        let lone_prefix = lone_prefix(rule);
        match self {
            Self::Empty => {
                *self = match lone_prefix {
                    Some(prefix) if is_root(prefix) => Self::Root(target),
                    Some(prefix) => Self::Prefix(Box::new((Text(prefix.clone()), target))),
                    None => {
                        let mut table = Box::new(PathTable::default());
                        table.insert(rule, target)?;
                        Self::Many(table)
                    }
                };
                Ok(())
            }
            Self::Root(_) if lone_prefix.is_some_and(is_root) => Err(RouteError::Duplicate),
            Self::Prefix(prefix) if lone_prefix == Some(&prefix.0.0) => Err(RouteError::Duplicate),
            Self::Many(table) => table.insert(rule, target),
            Self::Root(_) | Self::Prefix(_) => {
                let mut table = Box::new(PathTable::default());
                // The new rule first: if it is refused, nothing has changed.
                table.insert(rule, target)?;
                match std::mem::take(self) {
                    Self::Root(target) => table.add_lone_prefix(Text::from(ROOT), target),
                    Self::Prefix(prefix) => table.add_lone_prefix(prefix.0, prefix.1),
                    Self::Empty | Self::Many(_) => {}
                }
                *self = Self::Many(table);
                Ok(())
            }
        }
    }

    pub(super) fn remove(&mut self, rule: &HttpFrontend) -> Option<T> {
        let lone_prefix = lone_prefix(rule);
        match self {
            Self::Many(table) => {
                let target = table.remove(rule)?;
                if table.is_empty() {
                    *self = Self::Empty;
                }
                return Some(target);
            }
            Self::Root(_) if lone_prefix.is_some_and(is_root) => {}
            Self::Prefix(prefix) if lone_prefix == Some(&prefix.0.0) => {}
            Self::Empty | Self::Root(_) | Self::Prefix(_) => return None,
        }
        match std::mem::take(self) {
            Self::Root(target) => Some(target),
            Self::Prefix(prefix) => Some(prefix.1),
            Self::Empty | Self::Many(_) => None,
        }
    }

    #[inline]
    pub(super) fn find(&self, request: &Request<'_>) -> Option<&T> {
        match self {
            Self::Root(target) => request.path.starts_with(ROOT.as_bytes()).then_some(target),
            _ => self.find_other(request),
        }
    }

    fn find_other(&self, request: &Request<'_>) -> Option<&T> {
        match self {
            Self::Prefix(prefix) => request.path.starts_with(prefix.0.as_bytes()).then_some(&prefix.1),
            Self::Many(table) => table.find(request),
            Self::Empty | Self::Root(_) => None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Checks the tables and counts the rules.
    pub(super) fn check_invariants(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Root(_) => 1,
            Self::Prefix(prefix) => {
                assert!(!is_root(&prefix.0.0), "there is a smaller variant for it");
                1
            }
            Self::Many(table) => {
                assert!(!table.is_empty(), "what has no rule is forgotten");
                table.check_invariants()
            }
        }
    }
}

/// The prefix of a rule that asks for nothing else.
fn lone_prefix(rule: &HttpFrontend) -> Option<&Arc<str>> {
    match rule.path() {
        PathRule::Prefix(prefix) if rule.method().is_none() && rule.header_predicates().is_empty() => {
            Some(prefix)
        }
        _ => None,
    }
}

fn is_root(prefix: &Arc<str>) -> bool {
    **prefix == *ROOT
}

/// Rules of one host, in any number.
#[derive(Debug)]
pub(super) struct PathTable<T> {
    /// Those with header predicates, which outrank all others. Few hosts have any.
    with_predicates: Option<Box<ByPath<PredicateRules<T>>>>,
    plain: ByPath<MethodRules<T>>,
}

impl<T> Default for PathTable<T> {
    fn default() -> Self {
        Self { with_predicates: None, plain: ByPath::default() }
    }
}

impl<T> PathTable<T> {
    fn insert(&mut self, rule: &HttpFrontend, target: T) -> Result<(), RouteError> {
        if rule.header_predicates().is_empty() {
            return self.plain.insert(rule, target);
        }
        let mut with_predicates = self.with_predicates.take().unwrap_or_default();
        let inserted = with_predicates.insert(rule, target);
        self.with_predicates = Some(with_predicates).filter(|rules| !rules.is_empty());
        inserted
    }

    fn add_lone_prefix(&mut self, prefix: Text, target: T) {
        self.plain.prefixes.entry(prefix).or_default().set_any(target);
    }

    fn remove(&mut self, rule: &HttpFrontend) -> Option<T> {
        if rule.header_predicates().is_empty() {
            return self.plain.remove(rule);
        }
        let with_predicates = self.with_predicates.as_mut()?;
        let target = with_predicates.remove(rule)?;
        if with_predicates.is_empty() {
            self.with_predicates = None;
        }
        Some(target)
    }

    fn find(&self, request: &Request<'_>) -> Option<&T> {
        let with_predicates = self.with_predicates.as_ref().and_then(|rules| rules.find(request));
        with_predicates.or_else(|| self.plain.find(request))
    }

    fn is_empty(&self) -> bool {
        self.with_predicates.is_none() && self.plain.is_empty()
    }

    fn check_invariants(&self) -> usize {
        let with_predicates = self.with_predicates.as_ref().map_or(0, |rules| {
            assert!(!rules.is_empty(), "what has no rule is forgotten");
            rules.check_invariants()
        });
        with_predicates + self.plain.check_invariants()
    }
}

/// Rules by path: an equal path before the longest prefix, that before expressions.
#[derive(Debug)]
struct ByPath<R> {
    equals: BTreeMap<Text, R>,
    prefixes: BTreeMap<Text, R>,
    /// The longest text first, then by the alphabet: the order of insertion does not count.
    expressions: BTreeMap<(Reverse<usize>, Text), (Regex, R)>,
}

impl<R> Default for ByPath<R> {
    fn default() -> Self {
        Self { equals: BTreeMap::new(), prefixes: BTreeMap::new(), expressions: BTreeMap::new() }
    }
}

impl<R: SamePath> ByPath<R> {
    /// On failure nothing is left behind: whatever had to be made for the rule is forgotten again.
    fn insert(&mut self, rule: &HttpFrontend, target: R::Target) -> Result<(), RouteError> {
        match rule.path() {
            PathRule::Equals(text) => insert_into(&mut self.equals, Text(text.clone()), rule, target),
            PathRule::Prefix(text) => insert_into(&mut self.prefixes, Text(text.clone()), rule, target),
            PathRule::Regex(text) => {
                let key = (Reverse(text.len()), Text(text.clone()));
                if let Some((_, rules)) = self.expressions.get_mut(&key) {
                    return rules.insert(rule, target);
                }
                let regex = compile(text, Case::Counts)?;
                let mut rules = R::default();
                rules.insert(rule, target)?;
                self.expressions.insert(key, (regex, rules));
                Ok(())
            }
        }
    }

    fn remove(&mut self, rule: &HttpFrontend) -> Option<R::Target> {
        match rule.path() {
            PathRule::Equals(text) => remove_from(&mut self.equals, text, rule),
            PathRule::Prefix(text) => remove_from(&mut self.prefixes, text, rule),
            PathRule::Regex(text) => {
                let key = (Reverse(text.len()), Text(text.clone()));
                let (_, rules) = self.expressions.get_mut(&key)?;
                let target = rules.remove(rule)?;
                if rules.is_empty() {
                    self.expressions.remove(&key);
                }
                Some(target)
            }
        }
    }

    fn find(&self, request: &Request<'_>) -> Option<&R::Target> {
        let equal = || self.equals.get(request.path)?.find(request);
        let expression = || {
            let mut fitting = self.expressions.values().filter(|(regex, _)| regex.is_match(request.path));
            fitting.find_map(|(_, rules)| rules.find(request))
        };
        equal().or_else(|| self.find_prefix(request)).or_else(expression)
    }

    /// The longest prefix that has a rule for the rest of the request.
    ///
    /// In sorted order, all prefixes of a path stand before it, and what stands between a prefix and its
    /// path begins with that prefix. So the greatest text up to the path either is the longest prefix, or
    /// all prefixes are within what it has in common with the path; that is shorter, and so on.
    fn find_prefix(&self, request: &Request<'_>) -> Option<&R::Target> {
        let mut limit = request.path;
        loop {
            let (prefix, rules) = self.prefixes.range::<[u8], _>((Unbounded, Included(limit))).next_back()?;
            let prefix = prefix.as_bytes();
            let common = limit.iter().zip(prefix).take_while(|(a, b)| a == b).count();
            let shorter = if common < prefix.len() {
                common
            } else if let Some(target) = rules.find(request) {
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
        all.map(R::check_invariants).sum()
    }
}

fn insert_into<R: SamePath>(
    paths: &mut BTreeMap<Text, R>,
    path: Text,
    rule: &HttpFrontend,
    target: R::Target,
) -> Result<(), RouteError> {
    if let Some(rules) = paths.get_mut(path.as_bytes()) {
        return rules.insert(rule, target);
    }
    let mut rules = R::default();
    rules.insert(rule, target)?;
    paths.insert(path, rules);
    Ok(())
}

fn remove_from<R: SamePath>(
    paths: &mut BTreeMap<Text, R>,
    text: &str,
    rule: &HttpFrontend,
) -> Option<R::Target> {
    let of_path = paths.get_mut(text.as_bytes())?;
    let target = of_path.remove(rule)?;
    if of_path.is_empty() {
        paths.remove(text.as_bytes());
    }
    Some(target)
}
