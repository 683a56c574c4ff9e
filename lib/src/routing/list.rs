//! PRE and POST: the first rule that matches, in the order of insertion.
//!
//! The order is the operator's, and no rule is more specific than another. Still a request need not meet
//! every rule: those for one host, or for the names under one wildcard, are kept apart by that host, and of
//! the first match in each group the one inserted first is taken. Rules for expressions and for every
//! host are met one after the other.

use std::collections::HashMap;

use kakehi_command::order::{HostPattern, HttpFrontend, PathRule};
use regex::bytes::Regex;

use super::pattern::{Case, HostExpression, compile};
use super::text::Text;
use super::{Request, RouteError};

/// Rules in the order of insertion.
#[derive(Debug)]
pub(super) struct FirstMatch<T> {
    exact: HashMap<Text, Vec<Rule<T>>>,
    /// By what follows the star and its dot.
    wildcards: HashMap<Text, Vec<Rule<T>>>,
    /// For expressions and for every host.
    others: Vec<Rule<T>>,
    /// The place of the next rule; places are never used again.
    next_place: u64,
}

#[derive(Debug)]
struct Rule<T> {
    /// Rises in every group: rules are only added at the end.
    place: u64,
    host: HostPattern,
    /// Compiled, if the host is an expression.
    host_expression: Option<Box<HostExpression>>,
    path: PathRule,
    /// Compiled, if the path is an expression.
    path_expression: Option<Regex>,
    method: Option<Box<str>>,
    target: T,
}

impl<T> Default for FirstMatch<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcards: HashMap::new(), others: Vec::new(), next_place: 0 }
    }
}

impl<T> FirstMatch<T> {
    pub(super) fn insert(&mut self, rule: &HttpFrontend, target: T) -> Result<(), RouteError> {
        if self.group(rule.hostname()).iter().any(|other| other.is(rule)) {
            return Err(RouteError::Duplicate);
        }
        let compiled = Rule::compile(rule, self.next_place, target)?;
        self.next_place += 1;
        let group = match rule.hostname() {
            HostPattern::Exact(host) => self.exact.entry(Text(host.clone())).or_default(),
            HostPattern::Wildcard(suffix) => self.wildcards.entry(Text(suffix.clone())).or_default(),
            HostPattern::Regex(_) | HostPattern::Any => &mut self.others,
        };
        group.push(compiled);
        Ok(())
    }

    pub(super) fn remove(&mut self, rule: &HttpFrontend) -> Option<T> {
        match rule.hostname() {
            HostPattern::Exact(host) => remove_under(&mut self.exact, host, rule),
            HostPattern::Wildcard(suffix) => remove_under(&mut self.wildcards, suffix, rule),
            HostPattern::Regex(_) | HostPattern::Any => remove_from(&mut self.others, rule),
        }
    }

    pub(super) fn find(&self, request: &Request<'_>) -> Option<&T> {
        if self.is_empty() {
            return None;
        }
        let exact = self.exact.get(request.host.as_bytes());
        let wildcards = request.host.parent().and_then(|parent| self.wildcards.get(parent));
        let groups = [exact, wildcards, Some(&self.others)];
        let first_of = |group: &&Vec<Rule<T>>| group.iter().position(|rule| rule.matches(request));
        let firsts = groups.into_iter().flatten().filter_map(|group| group.get(first_of(&group)?));
        firsts.min_by_key(|rule| rule.place).map(|rule| &rule.target)
    }

    fn group(&self, host: &HostPattern) -> &[Rule<T>] {
        let group = match host {
            HostPattern::Exact(host) => self.exact.get(host.as_bytes()),
            HostPattern::Wildcard(suffix) => self.wildcards.get(suffix.as_bytes()),
            HostPattern::Regex(_) | HostPattern::Any => Some(&self.others),
        };
        group.map_or(&[], Vec::as_slice)
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty() && self.others.is_empty()
    }

    pub(super) fn check_invariants(&self) -> usize {
        let by_host = self.exact.values().chain(self.wildcards.values());
        let groups = by_host.inspect(|group| assert!(!group.is_empty(), "what has no rule is forgotten"));
        let count = |group: &Vec<Rule<T>>| {
            assert!(group.is_sorted_by(|a, b| a.place < b.place), "each group is in order");
            assert!(group.iter().all(|rule| rule.place < self.next_place));
            group.len()
        };
        groups.chain([&self.others]).map(count).sum()
    }
}

impl<T> Rule<T> {
    fn compile(rule: &HttpFrontend, place: u64, target: T) -> Result<Self, RouteError> {
        let host = rule.hostname();
        let host_expression = match host {
            HostPattern::Regex(_) => Some(Box::new(HostExpression::compile(host)?)),
            _ => None,
        };
        let path_expression = match rule.path() {
            PathRule::Regex(source) => Some(compile(source, Case::Counts)?),
            _ => None,
        };
        Ok(Self {
            place,
            host: host.clone(),
            host_expression,
            path: rule.path().clone(),
            path_expression,
            method: rule.method().map(Box::from),
            target,
        })
    }

    fn is(&self, rule: &HttpFrontend) -> bool {
        self.host == *rule.hostname() && self.path == *rule.path() && self.method.as_deref() == rule.method()
    }

    /// Whether it matches a request whose host belongs to its group.
    fn matches(&self, request: &Request<'_>) -> bool {
        let path = match (&self.path, &self.path_expression) {
            (PathRule::Equals(path), _) => path.as_bytes() == request.path,
            (PathRule::Prefix(prefix), _) => request.path.starts_with(prefix.as_bytes()),
            (PathRule::Regex(_), regex) => regex.as_ref().is_some_and(|regex| regex.is_match(request.path)),
        };
        let method = self.method.as_ref().is_none_or(|method| method.as_bytes() == request.method);
        path && method && self.host_expression.as_ref().is_none_or(|host| host.matches(request.host))
    }
}

fn remove_under<T>(groups: &mut HashMap<Text, Vec<Rule<T>>>, host: &str, rule: &HttpFrontend) -> Option<T> {
    let group = groups.get_mut(host.as_bytes())?;
    let target = remove_from(group, rule)?;
    if group.is_empty() {
        groups.remove(host.as_bytes());
    }
    Some(target)
}

fn remove_from<T>(group: &mut Vec<Rule<T>>, rule: &HttpFrontend) -> Option<T> {
    let index = group.iter().position(|other| other.is(rule))?;
    Some(group.remove(index).target)
}
