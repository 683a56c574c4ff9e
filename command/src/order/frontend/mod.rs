//! Frontends: which requests of an HTTP listener go to which cluster, and what is done with them; which
//! connections of a TCP listener go to which cluster ([`tcp`]).
//!
//! [`HttpFrontend`] is a rule of HTTP, [`predicate`] the header fields it asks for, [`policy`] what it does
//! beyond forwarding, [`rewrite`] the hosts and paths it puts together.

mod policy;
mod predicate;
mod rewrite;
mod tcp;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use super::{
    Case, ClusterId, HostPattern, OrderError, address, compile_expression,
    error::{Excerpt, excerpt},
    is_token, wire_enum,
};
use crate::proto;

pub use policy::{FrontendPolicy, HEADER_EDITS_BYTES_MAX, HEADER_EDITS_MAX, HeaderEdit, RedirectScheme};
pub use predicate::{
    HeaderMatch, HeaderPredicate, PREDICATE_NAME_BYTES_MAX, PREDICATE_VALUE_BYTES_MAX, PREDICATES_MAX,
};
pub use rewrite::{REWRITE_BYTES_MAX, Rewrite, RewritePart};
pub use tcp::{TcpFrontend, TcpIdentity};

/// Longest path of a rule, in bytes: half of a default buffer, so that a request matching it fits.
pub const PATH_BYTES_MAX: usize = 8192;
/// Longest method of a rule, in bytes. The longest one registered with IANA has 17.
pub const METHOD_BYTES_MAX: usize = 64;
/// Most tags on one frontend.
pub const TAGS_MAX: usize = 64;
/// Longest key or value of a tag, in bytes; they end up in every access-log line.
pub const TAG_BYTES_MAX: usize = 1024;

/// A rule of the HTTP or HTTPS listeners at one address, checked.
///
/// Its identity is which of the two, address, host, path, method and header predicates ([`HttpFrontend::identity`]): there
/// is at most one frontend of an identity, whatever its cluster, position and policy.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpFrontend {
    cluster_id: Option<ClusterId>,
    https: bool,
    address: SocketAddr,
    hostname: HostPattern,
    path: PathRule,
    method: Option<Arc<str>>,
    position: RulePosition,
    redirect: Redirect,
    tags: Option<Arc<BTreeMap<String, String>>>,
    /// Nearly all frontends have none, and a hundred thousand of them should not pay for it.
    extras: Option<Box<Extras>>,
}

/// What few frontends have.
#[derive(Clone, Debug, Default, PartialEq)]
struct Extras {
    /// Sorted, each once.
    predicates: Box<[HeaderPredicate]>,
    policy: Option<FrontendPolicy>,
}

/// Which paths a rule is for. The query string is part of the path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathRule {
    /// Paths that begin with this; empty: every path.
    Prefix(Arc<str>),
    /// Paths that match this expression, anchored at both ends.
    Regex(Arc<str>),
    /// This path only.
    Equals(Arc<str>),
}

/// When a rule is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RulePosition {
    /// Before the tree: first match in the order of insertion.
    Pre,
    /// By specificity. The outcome does not depend on the order of insertion.
    Tree,
    /// After the tree: first match in the order of insertion.
    Post,
}

/// What happens to a request that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// It goes to the cluster.
    Forward,
    /// It is answered with 401.
    Unauthorized,
    /// It is answered with 301.
    Permanent,
    /// It is answered with 302.
    Found,
    /// It is answered with 308, which keeps the method.
    PermanentRedirect,
    /// Its connection is closed without an answer.
    SilentClose,
}

/// What distinguishes a frontend from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity<'a> {
    https: bool,
    address: SocketAddr,
    hostname: &'a HostPattern,
    path: &'a PathRule,
    method: Option<&'a str>,
    predicates: &'a [HeaderPredicate],
}

impl HttpFrontend {
    /// Checks a frontend of HTTP listeners that came from outside. Spellings of the same (`redirect` unset
    /// or FORWARD, `required_auth` unset or false, predicates in another order) become one.
    ///
    /// # Errors
    /// A value that can never match or be acted on; HSTS, which clients do not take from plain HTTP
    /// (RFC 6797 §7.2).
    pub fn from_wire(wire: proto::RequestHttpFrontend) -> Result<Self, OrderError> {
        if wire.hsts.is_some() {
            return Err(OrderError::plain("hsts", "is for https frontends: on plain HTTP it has no effect"));
        }
        Self::checked(wire, false)
    }

    /// Likewise for a frontend of HTTPS listeners.
    ///
    /// # Errors
    /// A value that can never match or be acted on.
    pub fn from_https_wire(wire: proto::RequestHttpFrontend) -> Result<Self, OrderError> {
        Self::checked(wire, true)
    }

    fn checked(wire: proto::RequestHttpFrontend, https: bool) -> Result<Self, OrderError> {
        let hostname = HostPattern::parse(&wire.hostname)?;
        let path = PathRule::from_wire(&wire.path)?;
        let extras = Extras::from_wire(&wire, &hostname, &path)?;
        check_tags(&wire.tags)?;
        Ok(Self {
            cluster_id: wire.cluster_id.as_deref().map(ClusterId::parse).transpose()?,
            https,
            address: address("address", &wire.address)?,
            hostname,
            path,
            method: wire.method.as_deref().map(check_method).transpose()?,
            position: RulePosition::from_wire(wire.position)?,
            redirect: Redirect::from_wire(wire.redirect)?,
            tags: Some(wire.tags).filter(|tags| !tags.is_empty()).map(Arc::new),
            extras: (extras != Extras::default()).then(|| Box::new(extras)),
        })
    }

    /// Where matching requests go; none: they are denied with 401.
    #[must_use]
    pub fn cluster_id(&self) -> Option<&ClusterId> {
        self.cluster_id.as_ref()
    }

    /// Whether it is a rule of HTTPS listeners, not of HTTP ones.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The address of the listeners it is a rule of.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The hosts it is for.
    #[must_use]
    pub fn hostname(&self) -> &HostPattern {
        &self.hostname
    }

    /// The paths it is for.
    #[must_use]
    pub fn path(&self) -> &PathRule {
        &self.path
    }

    /// The method it is for, compared with regard to case; none: any.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// When it is looked at.
    #[must_use]
    pub fn position(&self) -> RulePosition {
        self.position
    }

    /// What happens to a request that matches.
    #[must_use]
    pub fn redirect(&self) -> Redirect {
        self.redirect
    }

    /// Words for the access log.
    #[must_use]
    pub fn tags(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.tags.as_deref().unwrap_or(&NONE)
    }

    /// The header fields that it asks for: all of them, sorted, each once.
    #[must_use]
    pub fn header_predicates(&self) -> &[HeaderPredicate] {
        self.extras.as_ref().map_or(&[], |extras| &extras.predicates)
    }

    /// What it does beyond forwarding or redirecting; none: nothing.
    #[must_use]
    pub fn policy(&self) -> Option<&FrontendPolicy> {
        self.extras.as_ref()?.policy.as_ref()
    }

    /// What distinguishes it from all other frontends.
    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            https: self.https,
            address: self.address,
            hostname: &self.hostname,
            path: &self.path,
            method: self.method(),
            predicates: self.header_predicates(),
        }
    }

    pub(super) fn notes(&self, notes: &mut Vec<String>) {
        let Some(extras) = &self.extras else { return };
        if let Some(policy) = &extras.policy {
            policy.notes(self.redirect, notes);
        }
    }
}

impl Extras {
    fn from_wire(
        wire: &proto::RequestHttpFrontend,
        hostname: &HostPattern,
        path: &PathRule,
    ) -> Result<Self, OrderError> {
        let policy = FrontendPolicy::from_wire(wire, hostname, path)?;
        Ok(Self {
            predicates: predicate::predicates(&wire.header_predicates)?,
            policy: (policy != FrontendPolicy::default()).then_some(policy),
        })
    }
}

impl From<&HttpFrontend> for proto::RequestHttpFrontend {
    fn from(frontend: &HttpFrontend) -> Self {
        let mut wire = Self {
            cluster_id: frontend.cluster_id.as_ref().map(ToString::to_string),
            address: frontend.address.into(),
            hostname: frontend.hostname.to_string(),
            path: (&frontend.path).into(),
            method: frontend.method.as_deref().map(str::to_owned),
            position: frontend.position.to_wire().into(),
            tags: frontend.tags().clone(),
            redirect: frontend.redirect.to_wire().map(Into::into),
            header_predicates: frontend.header_predicates().iter().map(Into::into).collect(),
            ..Self::default()
        };
        if let Some(policy) = frontend.policy() {
            policy.put_into(&mut wire);
        }
        wire
    }
}

impl PathRule {
    /// Checks a rule that came from outside.
    ///
    /// # Errors
    /// An unknown kind, too long, spaces or control characters, or an expression that does not compile.
    pub fn from_wire(wire: &proto::PathRule) -> Result<Self, OrderError> {
        let text = &wire.value;
        if text.len() > PATH_BYTES_MAX {
            return Err(OrderError::invalid("path", text, "is longer than 8192 bytes"));
        }
        match wire_enum("path.kind", wire.kind)? {
            proto::PathRuleKind::Regex => match compile_expression(text, Case::Counts) {
                Ok(_) => Ok(Self::Regex(text.as_str().into())),
                Err(reason) => Err(OrderError::invalid("path", text, reason)),
            },
            // No request target has such characters (RFC 9112 §3.2): the rule would never match.
            _ if text.chars().any(|c| c.is_control() || c == ' ') => {
                Err(OrderError::invalid("path", text, "contains a space or a control character"))
            }
            proto::PathRuleKind::Prefix => Ok(Self::Prefix(text.as_str().into())),
            proto::PathRuleKind::Equals => Ok(Self::Equals(text.as_str().into())),
        }
    }

    /// The rule's text, whatever its kind.
    #[must_use]
    pub fn value(&self) -> &str {
        match self {
            Self::Prefix(text) | Self::Regex(text) | Self::Equals(text) => text,
        }
    }
}

impl From<&PathRule> for proto::PathRule {
    fn from(rule: &PathRule) -> Self {
        let kind = match rule {
            PathRule::Prefix(_) => proto::PathRuleKind::Prefix,
            PathRule::Regex(_) => proto::PathRuleKind::Regex,
            PathRule::Equals(_) => proto::PathRuleKind::Equals,
        };
        Self { kind: kind.into(), value: rule.value().to_owned() }
    }
}

impl RulePosition {
    fn from_wire(wire: i32) -> Result<Self, OrderError> {
        Ok(match wire_enum("position", wire)? {
            proto::RulePosition::Pre => Self::Pre,
            proto::RulePosition::Post => Self::Post,
            proto::RulePosition::Tree => Self::Tree,
        })
    }

    fn to_wire(self) -> proto::RulePosition {
        match self {
            Self::Pre => proto::RulePosition::Pre,
            Self::Post => proto::RulePosition::Post,
            Self::Tree => proto::RulePosition::Tree,
        }
    }
}

impl Redirect {
    /// The status of a redirect; none: it is another thing that happens.
    #[must_use]
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Permanent => Some(301),
            Self::Found => Some(302),
            Self::PermanentRedirect => Some(308),
            Self::Forward | Self::Unauthorized | Self::SilentClose => None,
        }
    }

    fn from_wire(wire: Option<i32>) -> Result<Self, OrderError> {
        use proto::RedirectPolicy as Wire;
        Ok(match wire.map(|wire| wire_enum("redirect", wire)).transpose()? {
            None | Some(Wire::Forward) => Self::Forward,
            Some(Wire::Unauthorized) => Self::Unauthorized,
            Some(Wire::Permanent) => Self::Permanent,
            Some(Wire::Found) => Self::Found,
            Some(Wire::PermanentRedirect) => Self::PermanentRedirect,
            Some(Wire::SilentClose) => Self::SilentClose,
        })
    }

    fn to_wire(self) -> Option<proto::RedirectPolicy> {
        use proto::RedirectPolicy as Wire;
        match self {
            Self::Forward => None,
            Self::Unauthorized => Some(Wire::Unauthorized),
            Self::Permanent => Some(Wire::Permanent),
            Self::Found => Some(Wire::Found),
            Self::PermanentRedirect => Some(Wire::PermanentRedirect),
            Self::SilentClose => Some(Wire::SilentClose),
        }
    }
}

/// Shortened for error texts: the parts are bounded, but a path may be long.
impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.path {
            PathRule::Prefix(_) => "",
            PathRule::Regex(_) => " regex",
            PathRule::Equals(_) => " equals",
        };
        write!(f, "{} host {} path{kind} {}", self.address, self.hostname, excerpt(self.path.value()))?;
        if let Some(method) = self.method {
            write!(f, " method {method}")?;
        }
        self.predicates.iter().try_for_each(|predicate| write!(f, " header {}", predicate.name()))
    }
}

fn check_method(method: &str) -> Result<Arc<str>, OrderError> {
    // Methods are few: one allocation each serves a hundred thousand frontends.
    static COMMON: LazyLock<[Arc<str>; 7]> =
        LazyLock::new(|| ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"].map(Arc::from));
    if let Some(common) = COMMON.iter().find(|common| ***common == *method) {
        return Ok(common.clone());
    }
    if method.len() > METHOD_BYTES_MAX {
        return Err(OrderError::invalid("method", method, "is longer than 64 bytes"));
    }
    if !is_token(method) {
        return Err(OrderError::invalid("method", method, "is not a token"));
    }
    Ok(method.into())
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), OrderError> {
    if tags.len() > TAGS_MAX {
        return Err(OrderError::Invalid {
            field: "tags",
            value: Excerpt::NONE,
            reason: "are more than 64".into(),
        });
    }
    for text in tags.iter().flat_map(|(key, value)| [key, value]) {
        if text.len() > TAG_BYTES_MAX {
            return Err(OrderError::invalid("tags", text, "is longer than 1024 bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err(OrderError::invalid("tags", text, "contains a control character"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
