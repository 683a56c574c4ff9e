//! The TREE: rules by specificity, whatever the order they came in.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use kakehi_command::order::{HostPattern, HttpFrontend};

use super::host::Host;
use super::host_map::HostMap;
use super::path::PathRules;
use super::pattern::{HostExpression, literal_suffix, specificity};
use super::text::Text;
use super::{Request, RouteError};

/// Rules by host, then by path.
#[derive(Debug)]
pub(super) struct Tree<T> {
    exact: HostMap<PathRules<T>>,
    /// By what follows the star and its dot.
    wildcards: HostMap<PathRules<T>>,
    /// By the literal labels at the end, so that a host meets those expressions only that may fit.
    expressions: HostMap<BTreeMap<ExpressionKey, (HostExpression, PathRules<T>)>>,
    any: PathRules<T>,
}

/// Sorts the expressions of one suffix by how specific they are; names one by its text.
type ExpressionKey = (u128, Reverse<usize>, Box<str>);

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self {
            exact: HostMap::default(),
            wildcards: HostMap::default(),
            expressions: HostMap::default(),
            any: PathRules::default(),
        }
    }
}

impl<T> Tree<T> {
    pub(super) fn insert(&mut self, rule: &HttpFrontend, target: T) -> Result<(), RouteError> {
        match rule.hostname() {
            HostPattern::Exact(host) => insert_under(&mut self.exact, Text(host.clone()), rule, target),
            HostPattern::Wildcard(suffix) => {
                insert_under(&mut self.wildcards, Text(suffix.clone()), rule, target)
            }
            HostPattern::Any => self.any.insert(rule, target),
            pattern @ HostPattern::Regex(text) => {
                let suffix = literal_suffix(pattern);
                let key = specificity(pattern, text);
                let mut known = self.expressions.get_mut(Host::lower(suffix.as_bytes()));
                if let Some((_, rules)) = known.as_mut().and_then(|of_suffix| of_suffix.get_mut(&key)) {
                    return rules.insert(rule, target);
                }
                let expression = HostExpression::compile(pattern)?;
                let mut rules = PathRules::default();
                rules.insert(rule, target)?;
                let entry = (key, (expression, rules));
                match known {
                    Some(of_suffix) => drop(of_suffix.insert(entry.0, entry.1)),
                    None => self.expressions.insert(Text::from(suffix.as_str()), BTreeMap::from([entry])),
                }
                Ok(())
            }
        }
    }

    pub(super) fn remove(&mut self, rule: &HttpFrontend) -> Option<T> {
        match rule.hostname() {
            HostPattern::Exact(host) => remove_under(&mut self.exact, host, rule),
            HostPattern::Wildcard(suffix) => remove_under(&mut self.wildcards, suffix, rule),
            HostPattern::Any => self.any.remove(rule),
            pattern @ HostPattern::Regex(text) => {
                let suffix = literal_suffix(pattern);
                let suffix = Host::lower(suffix.as_bytes());
                let key = specificity(pattern, text);
                let of_suffix = self.expressions.get_mut(suffix)?;
                let (_, rules) = of_suffix.get_mut(&key)?;
                let target = rules.remove(rule)?;
                if rules.is_empty() {
                    of_suffix.remove(&key);
                }
                if of_suffix.is_empty() {
                    self.expressions.remove(suffix);
                }
                Some(target)
            }
        }
    }

    pub(super) fn find(&self, request: &Request<'_>) -> Option<&T> {
        let exact = || self.exact.get(request.host)?.find(request);
        let wildcard = || {
            // Saves a hash where there are none.
            if self.wildcards.is_empty() {
                return None;
            }
            self.wildcards.get(request.host.parent()?)?.find(request)
        };
        let any = || self.any.find(request);
        exact().or_else(wildcard).or_else(|| self.find_expression(request)).or_else(any)
    }

    /// A longer literal suffix is more specific: right to left, it has a literal where others have an
    /// expression. So the first match in this order is the most specific.
    fn find_expression(&self, request: &Request<'_>) -> Option<&T> {
        if self.expressions.is_empty() {
            return None;
        }
        let of_suffix = |suffix: Host<'_>| {
            let fitting = self.expressions.get(suffix)?.values();
            fitting
                .filter(|(expression, _)| expression.matches(request.host))
                .find_map(|(_, rules)| rules.find(request))
        };
        request.host.suffixes().find_map(of_suffix)
    }

    pub(super) fn check_invariants(&self) -> usize {
        self.exact.check_invariants();
        self.wildcards.check_invariants();
        self.expressions.check_invariants();
        let hosts = self.exact.values().chain(self.wildcards.values());
        let expressions = self.expressions.values().flat_map(|of_suffix| {
            assert!(!of_suffix.is_empty(), "what has no rule is forgotten");
            of_suffix.values().map(|(_, rules)| rules)
        });
        let listed = hosts.chain(expressions).map(|rules| {
            assert!(!rules.is_empty(), "what has no rule is forgotten");
            rules.check_invariants()
        });
        listed.sum::<usize>() + self.any.check_invariants()
    }
}

fn insert_under<T>(
    hosts: &mut HostMap<PathRules<T>>,
    host: Text,
    rule: &HttpFrontend,
    target: T,
) -> Result<(), RouteError> {
    if let Some(rules) = hosts.get_mut(Host::lower(host.as_bytes())) {
        return rules.insert(rule, target);
    }
    let mut rules = PathRules::default();
    rules.insert(rule, target)?;
    hosts.insert(host, rules);
    Ok(())
}

fn remove_under<T>(hosts: &mut HostMap<PathRules<T>>, host: &str, rule: &HttpFrontend) -> Option<T> {
    let host = Host::lower(host.as_bytes());
    let rules = hosts.get_mut(host)?;
    let target = rules.remove(rule)?;
    if rules.is_empty() {
        hosts.remove(host);
    }
    Some(target)
}
