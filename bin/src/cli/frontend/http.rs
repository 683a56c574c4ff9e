//! `frontend http` and `frontend https`, `add` and `remove`: one rule, and where it sends.
//!
//! What plain HTTP has no use for (HSTS) is sent for either: the proxy says so.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    Header, HeaderMatchKind, HeaderPosition, HeaderPredicate, PathRule, PathRuleKind, RedirectPolicy,
    RedirectScheme, RequestHttpFrontend, RulePosition,
};

use super::super::hsts::Hsts;
use super::super::values;

/// Verbs of `frontend http` and of `frontend https`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(in super::super) enum Http {
    /// Add a frontend: requests that match go to a cluster, or are denied
    Add(Box<Add>),
    /// Remove a frontend, given by the same match and the same destination
    Remove(Box<Remove>),
}

/// Which requests a frontend is about.
#[derive(clap::Args, Debug)]
struct Match {
    /// Address of the listener
    #[arg(short, long, value_name = "IP:PORT")]
    address: SocketAddr,
    /// Host name; `*.example.com` for one label before it, `*` for every host
    #[arg(long, visible_alias = "host", value_name = "HOST")]
    hostname: String,
    /// Paths that begin so; all of them if no path is given
    #[arg(short, long, value_name = "PREFIX")]
    path_prefix: Option<String>,
    /// Paths that match this regular expression
    #[arg(long, value_name = "REGEX")]
    path_regex: Option<String>,
    /// This path alone
    #[arg(long, value_name = "PATH")]
    path_equals: Option<String>,
    /// Requests with this method alone
    #[arg(short, long, value_name = "METHOD")]
    method: Option<String>,
    /// Requests with this field alone: `exact=NAME=VALUE`, `regex=NAME=REGEX` or `present=NAME`; may be
    /// repeated, and then all must be there
    #[arg(long, value_name = "MATCH", value_parser = predicate)]
    match_header: Vec<HeaderPredicate>,
}

/// Where a frontend sends.
#[derive(clap::Subcommand, Clone, Debug)]
enum Destination {
    /// Send the requests to a cluster
    Id { cluster: String },
    /// Send them to no cluster: answer 401, unless --redirect says otherwise
    Deny,
}

/// Arguments of `remove`.
#[derive(clap::Args, Debug)]
#[command(disable_help_subcommand = true, subcommand_value_name = "DESTINATION")]
#[command(subcommand_help_heading = "Destination")]
pub(in super::super) struct Remove {
    #[command(flatten)]
    matching: Match,
    #[command(subcommand)]
    destination: Destination,
}

/// Arguments of `add`.
#[derive(clap::Args, Debug)]
#[command(disable_help_subcommand = true, subcommand_value_name = "DESTINATION")]
#[command(subcommand_help_heading = "Destination")]
pub(in super::super) struct Add {
    #[command(flatten)]
    matching: Match,
    /// Tags for the access log, as `key=value, key=value`
    #[arg(long, value_name = "TAGS", value_parser = values::tags)]
    tags: Option<BTreeMap<String, String>>,
    /// What happens to the requests, other than going to the cluster: permanent is a redirect with 301,
    /// found with 302, permanent_redirect with 308; unauthorized is 401
    #[arg(long, value_name = "WHAT", value_enum)]
    redirect: Option<Action>,
    /// Scheme of a redirect's location
    #[arg(long, value_enum, value_name = "SCHEME")]
    redirect_scheme: Option<Scheme>,
    /// The answer that redirects: the text of a whole HTTP answer with `%REDIRECT_LOCATION` in it
    #[arg(long, value_name = "TEXT")]
    redirect_template: Option<String>,
    /// Host to ask for, or to redirect to, instead; `$HOST[n]` and `$PATH[n]` stand for what was matched
    #[arg(long, value_name = "HOST")]
    rewrite_host: Option<String>,
    /// Path to ask for, or to redirect to, instead; captures as in the host
    #[arg(long, value_name = "PATH")]
    rewrite_path: Option<String>,
    /// Port of a redirect, or of the Host that the backend sees
    #[arg(long, value_name = "PORT")]
    rewrite_port: Option<u16>,
    /// Ask for one of the users that the cluster knows (its --authorized-hash)
    #[arg(long)]
    required_auth: bool,
    /// Add a field: `request=NAME=VALUE`, `response=NAME=VALUE` or `both=NAME=VALUE`; an empty value
    /// deletes all of that name; may be repeated
    #[arg(long, value_name = "EDIT", value_parser = header)]
    header: Vec<Header>,
    #[command(flatten)]
    hsts: Hsts,
    #[command(subcommand)]
    destination: Destination,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
#[value(rename_all = "snake_case")]
enum Action {
    Forward,
    Permanent,
    Found,
    PermanentRedirect,
    Unauthorized,
    SilentClose,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Scheme {
    #[value(name = "use-same")]
    Same,
    #[value(name = "use-http")]
    Http,
    #[value(name = "use-https")]
    Https,
}

impl Http {
    /// The request these arguments stand for, about HTTPS listeners.
    pub(super) fn https_request(self) -> RequestType {
        match self {
            Self::Add(add) => RequestType::AddHttpsFrontend(add.frontend()),
            Self::Remove(remove) => {
                RequestType::RemoveHttpsFrontend(remove.matching.frontend(remove.destination))
            }
        }
    }

    /// The request these arguments stand for, about HTTP listeners.
    pub(super) fn request(self) -> RequestType {
        match self {
            Self::Add(add) => RequestType::AddHttpFrontend(add.frontend()),
            Self::Remove(remove) => {
                RequestType::RemoveHttpFrontend(remove.matching.frontend(remove.destination))
            }
        }
    }
}

impl Match {
    fn frontend(self, destination: Destination) -> RequestHttpFrontend {
        let (kind, value) = match (self.path_prefix, self.path_regex, self.path_equals) {
            (Some(prefix), _, _) => (PathRuleKind::Prefix, prefix),
            (None, Some(regex), _) => (PathRuleKind::Regex, regex),
            (None, None, Some(path)) => (PathRuleKind::Equals, path),
            (None, None, None) => (PathRuleKind::Prefix, String::new()),
        };
        RequestHttpFrontend {
            cluster_id: match destination {
                Destination::Id { cluster } => Some(cluster),
                Destination::Deny => None,
            },
            address: self.address.into(),
            hostname: self.hostname,
            path: PathRule { kind: kind.into(), value },
            method: self.method,
            position: RulePosition::Tree.into(),
            header_predicates: self.match_header,
            ..RequestHttpFrontend::default()
        }
    }
}

impl Add {
    fn frontend(self) -> RequestHttpFrontend {
        RequestHttpFrontend {
            tags: self.tags.unwrap_or_default(),
            redirect: self.redirect.map(|redirect| RedirectPolicy::from(redirect).into()),
            required_auth: self.required_auth.then_some(true),
            redirect_scheme: self.redirect_scheme.map(|scheme| RedirectScheme::from(scheme).into()),
            redirect_template: self.redirect_template,
            rewrite_host: self.rewrite_host,
            rewrite_path: self.rewrite_path,
            rewrite_port: self.rewrite_port.map(u32::from),
            headers: self.header,
            hsts: self.hsts.config(),
            ..self.matching.frontend(self.destination)
        }
    }
}

impl From<Action> for RedirectPolicy {
    fn from(action: Action) -> Self {
        match action {
            Action::Forward => Self::Forward,
            Action::Permanent => Self::Permanent,
            Action::Found => Self::Found,
            Action::PermanentRedirect => Self::PermanentRedirect,
            Action::Unauthorized => Self::Unauthorized,
            Action::SilentClose => Self::SilentClose,
        }
    }
}

impl From<Scheme> for RedirectScheme {
    fn from(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Same => Self::UseSame,
            Scheme::Http => Self::UseHttp,
            Scheme::Https => Self::UseHttps,
        }
    }
}

/// Parser of `POSITION=NAME=VALUE`.
fn header(text: &str) -> Result<Header, String> {
    let (position, rest) = values::split_pair(text)?;
    let (key, val) = values::split_pair(&rest)?;
    let position = match position.as_str() {
        "request" => HeaderPosition::Request,
        "response" => HeaderPosition::Response,
        "both" => HeaderPosition::Both,
        other => return Err(format!("`{other}` is not one of request, response, both")),
    };
    Ok(Header { position: position.into(), key, val })
}

/// Parser of `exact=NAME=VALUE`, `regex=NAME=RE`, `present=NAME`.
fn predicate(text: &str) -> Result<HeaderPredicate, String> {
    let (kind, rest) = values::split_pair(text)?;
    let kind = match kind.as_str() {
        "exact" => HeaderMatchKind::Exact,
        "regex" => HeaderMatchKind::Regex,
        "present" => {
            return Ok(HeaderPredicate { name: rest, kind: HeaderMatchKind::Present.into(), value: None });
        }
        other => return Err(format!("`{other}` is not one of exact, regex, present")),
    };
    let (name, value) = values::split_pair(&rest)?;
    Ok(HeaderPredicate { name, kind: kind.into(), value: Some(value) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_their_position() {
        let expected = Header { position: HeaderPosition::Both.into(), key: "x".into(), val: "a=b".into() };
        assert_eq!(header("both=x=a=b"), Ok(expected));
        assert!(header("both=x").is_err());
        assert!(header("neither=x=y").is_err());
    }

    #[test]
    fn predicates_name_their_kind() {
        let check = |text: &str, kind: HeaderMatchKind, value: Option<&str>| {
            let value = value.map(str::to_owned);
            assert_eq!(predicate(text), Ok(HeaderPredicate { name: "x".into(), kind: kind.into(), value }));
        };
        check("exact=x=a=b", HeaderMatchKind::Exact, Some("a=b"));
        check("regex=x=^a$", HeaderMatchKind::Regex, Some("^a$"));
        check("present=x", HeaderMatchKind::Present, None);
        assert!(predicate("exact=x").is_err());
        assert!(predicate("absent=x").is_err());
    }
}
