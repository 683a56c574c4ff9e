//! PRE and POST: the first rule that matches, in the order of insertion.
//!
//! The order is the operator's, and no rule is more specific than another; only those with header
//! predicates go before those without. Still a request need not meet every rule: those for one host, or
//! for the names under one wildcard, are kept apart by that host, and of the first match in each group the
//! one inserted first is taken. Rules for expressions and for every host are met one after the other.

use kakehi_command::order::{HostPattern, HttpFrontend, PathRule};
use regex::bytes::Regex;

use super::host::Host;
use super::host_map::HostMap;
use super::pattern::{Case, HostExpression, compile};
use super::predicate::Predicates;
use super::text::Text;
use super::{Request, RouteError};

/// The rules of one position.
#[derive(Debug)]
pub(super) struct FirstMatch<T> {
    /// `None` while there are none: few listeners have rules here.
    with_predicates: Option<Box<Rules<T>>>,
    plain: Option<Box<Rules<T>>>,
}

impl<T> Default for FirstMatch<T> {
    fn default() -> Self {
        Self { with_predicates: None, plain: None }
    }
}

impl<T> FirstMatch<T> {
    pub(super) fn insert(&mut self, rule: &HttpFrontend, target: T) -> Result<(), RouteError> {
        let of_kind = self.rules_like(rule);
        let mut rules = of_kind.take().unwrap_or_default();
        let inserted = rules.insert(rule, target);
        *of_kind = Some(rules).filter(|rules| !rules.is_empty());
        inserted
    }

    pub(super) fn remove(&mut self, rule: &HttpFrontend) -> Option<T> {
        let of_kind = self.rules_like(rule);
        let rules = of_kind.as_mut()?;
        let target = rules.remove(rule)?;
        if rules.is_empty() {
            *of_kind = None;
        }
        Some(target)
    }

    #[inline]
    pub(super) fn find(&self, request: &Request<'_>) -> Option<&T> {
        let with_predicates = self.with_predicates.as_ref().and_then(|rules| rules.find(request));
        with_predicates.or_else(|| self.plain.as_ref()?.find(request))
    }

    fn rules_like(&mut self, rule: &HttpFrontend) -> &mut Option<Box<Rules<T>>> {
        if rule.header_predicates().is_empty() { &mut self.plain } else { &mut self.with_predicates }
    }

    pub(super) fn check_invariants(&self) -> usize {
        let all = [&self.with_predicates, &self.plain].into_iter().flatten();
        let counts = all.map(|rules| {
            assert!(!rules.is_empty(), "what has no rule is forgotten");
            rules.check_invariants()
        });
        counts.sum()
    }
}

/// Rules in the order of insertion.
#[derive(Debug)]
struct Rules<T> {
    exact: HostMap<Vec<Rule<T>>>,
    /// By what follows the star and its dot.
    wildcards: HostMap<Vec<Rule<T>>>,
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
    predicates: Predicates,
    target: T,
}

impl<T> Default for Rules<T> {
    fn default() -> Self {
        Self { exact: HostMap::default(), wildcards: HostMap::default(), others: Vec::new(), next_place: 0 }
    }
}

impl<T> Rules<T> {
    fn insert(&mut self, rule: &HttpFrontend, target: T) -> Result<(), RouteError> {
        if self.group(rule.hostname()).iter().any(|other| other.is(rule)) {
            return Err(RouteError::Duplicate);
        }
        let compiled = Rule::compile(rule, self.next_place, target)?;
        self.next_place += 1;
        match rule.hostname() {
            HostPattern::Exact(host) => insert_under(&mut self.exact, Text(host.clone()), compiled),
            HostPattern::Wildcard(suffix) => {
                insert_under(&mut self.wildcards, Text(suffix.clone()), compiled);
            }
            HostPattern::Regex(_) | HostPattern::Any => self.others.push(compiled),
        }
        Ok(())
    }

    fn remove(&mut self, rule: &HttpFrontend) -> Option<T> {
        match rule.hostname() {
            HostPattern::Exact(host) => remove_under(&mut self.exact, host, rule),
            HostPattern::Wildcard(suffix) => remove_under(&mut self.wildcards, suffix, rule),
            HostPattern::Regex(_) | HostPattern::Any => remove_from(&mut self.others, rule),
        }
    }

    fn find(&self, request: &Request<'_>) -> Option<&T> {
        let exact = self.exact.get(request.host);
        let wildcard = || {
            // Saves a hash where there are none.
            if self.wildcards.is_empty() {
                return None;
            }
            self.wildcards.get(request.host.parent()?)
        };
        let groups = [exact, wildcard(), Some(&self.others)];
        let first_of = |group: &&Vec<Rule<T>>| group.iter().position(|rule| rule.matches(request));
        let firsts = groups.into_iter().flatten().filter_map(|group| group.get(first_of(&group)?));
        firsts.min_by_key(|rule| rule.place).map(|rule| &rule.target)
    }

    fn group(&self, host: &HostPattern) -> &[Rule<T>] {
        let group = match host {
            HostPattern::Exact(host) => self.exact.get(Host::lower(host.as_bytes())),
            HostPattern::Wildcard(suffix) => self.wildcards.get(Host::lower(suffix.as_bytes())),
            HostPattern::Regex(_) | HostPattern::Any => Some(&self.others),
        };
        group.map_or(&[], Vec::as_slice)
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty() && self.others.is_empty()
    }

    fn check_invariants(&self) -> usize {
        self.exact.check_invariants();
        self.wildcards.check_invariants();
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
            predicates: Predicates::compile(rule.header_predicates())?,
            target,
        })
    }

    fn is(&self, rule: &HttpFrontend) -> bool {
        self.host == *rule.hostname()
            && self.path == *rule.path()
            && self.method.as_deref() == rule.method()
            && self.predicates.sources() == rule.header_predicates()
    }

    /// Whether it matches a request whose host belongs to its group.
    fn matches(&self, request: &Request<'_>) -> bool {
        let path = match (&self.path, &self.path_expression) {
            (PathRule::Equals(path), _) => path.as_bytes() == request.path,
            (PathRule::Prefix(prefix), _) => request.path.starts_with(prefix.as_bytes()),
            (PathRule::Regex(_), regex) => regex.as_ref().is_some_and(|regex| regex.is_match(request.path)),
        };
        path && self.method.as_ref().is_none_or(|method| method.as_bytes() == request.method)
            && self.host_expression.as_ref().is_none_or(|host| host.matches(request.host))
            && self.predicates.hold(request.fields)
    }
}

fn insert_under<T>(groups: &mut HostMap<Vec<Rule<T>>>, host: Text, rule: Rule<T>) {
    match groups.get_mut(Host::lower(host.as_bytes())) {
        Some(group) => group.push(rule),
        None => groups.insert(host, vec![rule]),
    }
}

fn remove_under<T>(groups: &mut HostMap<Vec<Rule<T>>>, host: &str, rule: &HttpFrontend) -> Option<T> {
    let host = Host::lower(host.as_bytes());
    let group = groups.get_mut(host)?;
    let target = remove_from(group, rule)?;
    if group.is_empty() {
        groups.remove(host);
    }
    Some(target)
}

fn remove_from<T>(group: &mut Vec<Rule<T>>, rule: &HttpFrontend) -> Option<T> {
    let index = group.iter().position(|other| other.is(rule))?;
    Some(group.remove(index).target)
}
