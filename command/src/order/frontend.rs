//! HTTP frontends: which requests of a listener go to which cluster.

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

/// Longest path of a rule, in bytes: half of a default buffer, so that a request matching it fits.
pub const PATH_BYTES_MAX: usize = 8192;
/// Longest method of a rule, in bytes. The longest one registered with IANA has 17.
pub const METHOD_BYTES_MAX: usize = 64;
/// Most tags on one frontend.
pub const TAGS_MAX: usize = 64;
/// Longest key or value of a tag, in bytes; they end up in every access-log line.
pub const TAG_BYTES_MAX: usize = 1024;

/// A rule of the HTTP listeners at one address, checked.
///
/// Its identity is address, host, path and method ([`HttpFrontend::identity`]): there is at most one
/// frontend of an identity, whatever its cluster, position and policy.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpFrontend {
    cluster_id: Option<ClusterId>,
    address: SocketAddr,
    hostname: HostPattern,
    path: PathRule,
    method: Option<Arc<str>>,
    position: RulePosition,
    redirect: Redirect,
    tags: Option<Arc<BTreeMap<String, String>>>,
    inert: Option<Box<Inert>>,
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
}

/// What distinguishes a frontend from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity<'a> {
    address: SocketAddr,
    hostname: &'a HostPattern,
    path: &'a PathRule,
    method: Option<&'a str>,
}

/// Settings without effect on plain HTTP without redirects: kept for those who read them back.
#[derive(Clone, Debug, PartialEq)]
struct Inert {
    redirect_scheme: Option<i32>,
    redirect_template: Option<String>,
    hsts: Option<proto::HstsConfig>,
}

impl HttpFrontend {
    /// Checks a frontend that came from outside. Spellings of the same (`redirect` unset or FORWARD,
    /// `required_auth` unset or false) become one.
    ///
    /// # Errors
    /// A value that can never match or be acted on, or a feature not served yet.
    pub fn from_wire(wire: proto::RequestHttpFrontend) -> Result<Self, OrderError> {
        refuse_not_served(&wire)?;
        let redirect = redirect(wire.redirect)?;
        let method = wire.method.as_deref().map(check_method).transpose()?;
        check_tags(&wire.tags)?;
        let inert = Inert {
            redirect_scheme: wire.redirect_scheme,
            redirect_template: wire.redirect_template,
            hsts: wire.hsts,
        };
        let is_inert =
            inert.redirect_scheme.is_some() || inert.redirect_template.is_some() || inert.hsts.is_some();
        Ok(Self {
            cluster_id: wire.cluster_id.as_deref().map(ClusterId::parse).transpose()?,
            address: address("address", &wire.address)?,
            hostname: HostPattern::parse(&wire.hostname)?,
            path: PathRule::from_wire(&wire.path)?,
            method,
            position: RulePosition::from_wire(wire.position)?,
            redirect,
            tags: Some(wire.tags).filter(|tags| !tags.is_empty()).map(Arc::new),
            inert: is_inert.then(|| Box::new(inert)),
        })
    }

    /// Where matching requests go; none: they are denied with 401.
    #[must_use]
    pub fn cluster_id(&self) -> Option<&ClusterId> {
        self.cluster_id.as_ref()
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

    /// What distinguishes it from all other frontends.
    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        Identity { address: self.address, hostname: &self.hostname, path: &self.path, method: self.method() }
    }

    pub(super) fn notes(&self, notes: &mut Vec<String>) {
        let Some(inert) = &self.inert else { return };
        if inert.redirect_template.is_some() {
            notes.push("redirect_template has no effect without a redirect".into());
        }
        if inert.hsts.is_some() {
            notes.push("hsts has no effect on plain HTTP".into());
        }
    }
}

impl From<&HttpFrontend> for proto::RequestHttpFrontend {
    fn from(frontend: &HttpFrontend) -> Self {
        let redirect = match frontend.redirect {
            Redirect::Forward => None,
            Redirect::Unauthorized => Some(proto::RedirectPolicy::Unauthorized.into()),
        };
        let inert = frontend.inert.as_deref();
        Self {
            cluster_id: frontend.cluster_id.as_ref().map(ToString::to_string),
            address: frontend.address.into(),
            hostname: frontend.hostname.to_string(),
            path: (&frontend.path).into(),
            method: frontend.method.as_deref().map(str::to_owned),
            position: frontend.position.to_wire().into(),
            tags: frontend.tags().clone(),
            redirect,
            redirect_scheme: inert.and_then(|inert| inert.redirect_scheme),
            redirect_template: inert.and_then(|inert| inert.redirect_template.clone()),
            hsts: inert.and_then(|inert| inert.hsts),
            ..Self::default()
        }
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

/// Shortened for error texts: the parts are bounded, but a path may be long.
impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.path {
            PathRule::Prefix(_) => "",
            PathRule::Regex(_) => " regex",
            PathRule::Equals(_) => " equals",
        };
        write!(f, "{} host {} path{kind} {}", self.address, self.hostname, excerpt(self.path.value()))?;
        match self.method {
            Some(method) => write!(f, " method {method}"),
            None => Ok(()),
        }
    }
}

fn refuse_not_served(wire: &proto::RequestHttpFrontend) -> Result<(), OrderError> {
    let rewrites = wire.rewrite_host.is_some() || wire.rewrite_path.is_some() || wire.rewrite_port.is_some();
    let features = [
        (!wire.header_predicates.is_empty(), "header_predicates are"),
        (wire.required_auth == Some(true), "required_auth is"),
        (rewrites, "rewrite_host, rewrite_path and rewrite_port are"),
        (!wire.headers.is_empty(), "header edits (headers) are"),
    ];
    match features.into_iter().find(|(used, _)| *used) {
        Some((_, what)) => Err(OrderError::NotServed { what }),
        None => Ok(()),
    }
}

fn redirect(wire: Option<i32>) -> Result<Redirect, OrderError> {
    match wire.map(|wire| wire_enum("redirect", wire)).transpose()? {
        None | Some(proto::RedirectPolicy::Forward) => Ok(Redirect::Forward),
        Some(proto::RedirectPolicy::Unauthorized) => Ok(Redirect::Unauthorized),
        Some(_) => Err(OrderError::NotServed { what: "redirects and silent_close are" }),
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
mod tests {
    use super::*;

    fn wire() -> proto::RequestHttpFrontend {
        proto::RequestHttpFrontend {
            cluster_id: Some("app".into()),
            address: "127.0.0.1:80".parse::<SocketAddr>().expect("an address").into(),
            hostname: "Example.com".into(),
            path: proto::PathRule { kind: proto::PathRuleKind::Prefix.into(), value: "/api".into() },
            method: Some("GET".into()),
            position: proto::RulePosition::Tree.into(),
            tags: BTreeMap::from([("owner".into(), "team".into())]),
            ..Default::default()
        }
    }

    fn check(edit: impl FnOnce(&mut proto::RequestHttpFrontend), expected: &str) {
        let mut wire = wire();
        edit(&mut wire);
        let error = HttpFrontend::from_wire(wire).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_frontend_goes_back_to_the_wire_as_it_came_but_normalised() {
        let mut expected = wire();
        expected.hsts = Some(proto::HstsConfig { enabled: Some(true), ..Default::default() });
        let mut spelt = expected.clone();
        spelt.redirect = Some(proto::RedirectPolicy::Forward.into());
        spelt.required_auth = Some(false);
        expected.hostname = "example.com".into();
        let frontend = HttpFrontend::from_wire(spelt).expect("accepted");
        assert_eq!(proto::RequestHttpFrontend::from(&frontend), expected);
    }

    #[test]
    fn a_prost_default_position_is_the_tree() {
        let wire = proto::RequestHttpFrontend { hostname: "*".into(), ..wire() };
        let default =
            proto::RequestHttpFrontend { position: proto::RequestHttpFrontend::default().position, ..wire };
        assert_eq!(HttpFrontend::from_wire(default).expect("accepted").position(), RulePosition::Tree);
    }

    #[test]
    fn what_would_be_ignored_at_a_cost_is_refused() {
        check(|wire| wire.required_auth = Some(true), "required_auth is not served yet");
        check(|wire| wire.rewrite_path = Some("/".into()), "not served yet");
        check(|wire| wire.redirect = Some(proto::RedirectPolicy::Found.into()), "redirects and silent_close");
        check(|wire| wire.headers.push(proto::Header::default()), "header edits");
        check(|wire| wire.header_predicates.push(proto::HeaderPredicate::default()), "header_predicates");
    }

    #[test]
    fn unusable_values_are_refused() {
        check(|wire| wire.cluster_id = Some(String::new()), "cluster_id `` is empty");
        check(|wire| wire.address.port = 70_000, "address has port 70000");
        check(|wire| wire.path.value = "/a b".into(), "path `/a b` contains a space");
        check(|wire| wire.path = proto::PathRule { kind: 1, value: "(".into() }, "does not compile");
        check(|wire| wire.path.kind = 9, "path.kind `9` is not known");
        check(|wire| wire.method = Some("GE T".into()), "is not a token");
        check(|wire| wire.position = 7, "position `7` is not known");
        check(
            |wire| wire.tags = (0..65).map(|i| (i.to_string(), String::new())).collect(),
            "tags are more than 64",
        );
        check(|wire| drop(wire.tags.insert("a".into(), "\n".into())), "control character");
    }
}
