//! Routing: which frontend a request matches.
//!
//! The frontends of one listener address, in three stages; the first that has a match decides.
//!
//! | stage | order |
//! |---|---|
//! | PRE | first match in the order of insertion |
//! | TREE, the default | the most specific; the order of insertion is irrelevant |
//! | POST | first match in the order of insertion |
//!
//! In the tree, a host is looked for exactly, then under a wildcard (for one label), then among regular
//! expressions, then under `*`. Among the rules of a host, an equal path comes before the longest prefix,
//! that before a regular expression; of two rules with the same path the one with a method comes first. A
//! rule whose method differs, and a host none of whose rules match, are passed over: the search goes on.
//!
//! Rules with header predicates are looked at only if all of them hold. Within a host of the tree, and within
//! PRE and POST, such a rule outranks every rule without; among themselves those of a host are compared as
//! all rules are, and after the method by the number of predicates, more before fewer.
//!
//! Looking up costs the same for ten frontends and for a million: hosts and paths are found by hash or in
//! sorted order. Only regular expressions are tried one after the other, and only those whose literal
//! labels at the end of the host fit. A look-up does not allocate, but for what an expression's engine keeps
//! of its states the first times, up to a bound.
//!
//! What a match means (forward, deny, redirect) is the target's affair, see [`crate::policy`].
//!
//! Read [`Router`] first.

mod host;
mod host_map;
mod list;
mod path;
mod pattern;
mod predicate;
mod same_path;
mod server_names;
mod text;
mod tree;

use kakehi_command::order::{HttpFrontend, RulePosition};

use host::Host;
use list::FirstMatch;
use tree::Tree;

pub(crate) use pattern::{Case, compile};
pub use predicate::{Fields, NoFields};
pub use server_names::{ServerNames, Unmatched};

/// Why a rule cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There is a rule for the same host, path, method and predicates at the same position.
    #[error("there is a rule for this host, path, method and header predicates already")]
    Duplicate,
    /// A regular expression does not compile.
    #[error("the expression `{expression}` does not compile")]
    Expression {
        /// As it was written.
        expression: String,
    },
}

/// The rules of one listener address, each with the target it leads to.
#[derive(Debug)]
pub struct Router<T> {
    pre: FirstMatch<T>,
    tree: Tree<T>,
    post: FirstMatch<T>,
    len: usize,
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { pre: FirstMatch::default(), tree: Tree::default(), post: FirstMatch::default(), len: 0 }
    }
}

impl<T> Router<T> {
    /// Adds a rule.
    ///
    /// # Errors
    /// A rule that is there already, or an expression that does not compile; then nothing changed.
    pub fn insert(&mut self, rule: &HttpFrontend, target: T) -> Result<(), RouteError> {
        match rule.position() {
            RulePosition::Pre => self.pre.insert(rule, target),
            RulePosition::Tree => self.tree.insert(rule, target),
            RulePosition::Post => self.post.insert(rule, target),
        }?;
        self.len += 1;
        Ok(())
    }

    /// Removes the rule with the same position, host, path, method and predicates, and gives its target.
    pub fn remove(&mut self, rule: &HttpFrontend) -> Option<T> {
        let target = match rule.position() {
            RulePosition::Pre => self.pre.remove(rule),
            RulePosition::Tree => self.tree.remove(rule),
            RulePosition::Post => self.post.remove(rule),
        }?;
        self.len -= 1;
        Some(target)
    }

    /// The target of the rule that matches, if one does.
    ///
    /// `host` is without its port, in any case; one longer than any name (253 bytes) matches `*` only.
    /// `path` is the request target in origin form, with the query. `fields` are asked for only where a
    /// rule that fits otherwise has header predicates.
    pub fn route(&self, host: &[u8], path: &[u8], method: &[u8], fields: &dyn Fields) -> Option<&T> {
        Host::with_lower(host, |host| self.find(&Request { host, path, method, fields }))
    }

    #[inline(never)]
    fn find(&self, request: &Request<'_>) -> Option<&T> {
        let pre = || self.pre.find(request);
        let tree = || self.tree.find(request);
        let post = || self.post.find(request);
        pre().or_else(tree).or_else(post)
    }

    /// Rules, at all positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Checks the tables against each other.
    ///
    /// # Panics
    /// If they disagree, which is an error of ours.
    pub fn check_invariants(&self) {
        let counted =
            self.pre.check_invariants() + self.tree.check_invariants() + self.post.check_invariants();
        assert_eq!(counted, self.len);
    }
}

/// What a request says about where it wants to go.
struct Request<'a> {
    host: Host<'a>,
    path: &'a [u8],
    method: &'a [u8],
    fields: &'a dyn Fields,
}

#[cfg(test)]
mod tests;
