//! What is configured in front of the backends: hosts, and what the operator wants done with each.
//!
//! A plain reading of the reference, next to the configuration that says the same to the worker.

use std::net::SocketAddr;

use kakehi_command::proto::{
    Cluster, Header, HeaderPosition, PassiveHealth, PathRule, PathRuleKind, RedirectPolicy, RedirectScheme,
    RequestHttpFrontend, RulePosition,
};
use sha2::{Digest, Sha256};

use super::rng::Rng;

/// A host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    /// Leads to its cluster.
    Plain,
    /// Fields are added and removed on the way, in both directions.
    Edited,
    /// The cluster is asked for another host and path.
    Rewritten,
    /// Asks for a password.
    Guarded(Credentials),
    /// Refuses everybody.
    Denied,
    /// Leads elsewhere, with this status.
    Moved(u16),
    /// Leads to https.
    Secure,
    /// Ends the connection without a word.
    Silent,
    /// Comes and goes, and its cluster with it.
    Sometimes,
    /// Is not configured.
    Nowhere,
}

/// What a client of [`Site::Guarded`] proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credentials {
    Right,
    Wrong,
    None,
}

const PASSWORD: &str = "open sesame";

/// What [`Site::Edited`] adds to requests and answers.
pub(super) const ADDED: (&str, &str) = ("X-Added", "by the operator");

/// What it removes from them.
pub(super) const UNWANTED: &str = "X-Unwanted";

impl Site {
    /// Those that end a connection without a word are only for who asks one thing at a time: what they
    /// were answered before would be lost with it.
    pub(super) fn draw(pipelined: bool, rng: &mut Rng) -> Self {
        use Credentials::{None, Right, Wrong};
        match rng.below(100) {
            0..=7 => Site::Edited,
            8..=15 => Site::Rewritten,
            16..=21 => Site::Guarded(rng.pick(&[Right, Right, Wrong, None])),
            22..=23 => Site::Denied,
            24..=26 => Site::Moved(rng.pick(&[301, 302, 308])),
            27 => Site::Secure,
            28 if !pipelined => Site::Silent,
            29..=33 => Site::Sometimes,
            34..=36 => Site::Nowhere,
            _ => Site::Plain,
        }
    }

    /// Those that are always configured.
    pub(super) fn lasting() -> [Site; 10] {
        [
            Site::Plain,
            Site::Edited,
            Site::Rewritten,
            Site::Guarded(Credentials::Right),
            Site::Denied,
            Site::Moved(301),
            Site::Moved(302),
            Site::Moved(308),
            Site::Secure,
            Site::Silent,
        ]
    }

    pub(super) fn host(self) -> &'static str {
        match self {
            Site::Plain => "a.test",
            Site::Edited => "edited.test",
            Site::Rewritten => "old.test",
            Site::Guarded(_) => "guarded.test",
            Site::Denied => "denied.test",
            Site::Moved(301) => "moved-301.test",
            Site::Moved(302) => "moved-302.test",
            Site::Moved(_) => "moved-308.test",
            Site::Secure => "secure.test",
            Site::Silent => "silent.test",
            Site::Sometimes => "sometimes.test",
            Site::Nowhere => "nowhere.test",
        }
    }

    /// The cluster behind it.
    pub(super) fn cluster(self) -> &'static str {
        match self {
            Site::Guarded(_) => "guarded",
            Site::Secure => "secure",
            Site::Sometimes => "sometimes",
            _ => "a",
        }
    }

    pub(super) fn cluster_config(self) -> Cluster {
        let guarded = matches!(self, Site::Guarded(_));
        let hash: String = Sha256::digest(PASSWORD).iter().map(|byte| format!("{byte:02x}")).collect();
        Cluster {
            cluster_id: self.cluster().to_owned(),
            https_redirect: self == Site::Secure,
            https_redirect_port: (self == Site::Secure).then_some(8443),
            authorized_hashes: if guarded { vec![format!("u:{hash}")] } else { Vec::new() },
            www_authenticate: self.challenge().map(str::to_owned),
            // Without it what main says of its backends is forgotten with the next order.
            passive_health: (self == Site::Plain).then_some(PassiveHealth {
                consecutive_failures: 2,
                base_ejection: 30,
                max_ejection: 300,
                max_ejected_percent: 100,
                count_server_errors: true,
            }),
            ..Cluster::default()
        }
    }

    pub(super) fn frontend(self, address: SocketAddr) -> RequestHttpFrontend {
        let plain = RequestHttpFrontend {
            cluster_id: Some(self.cluster().to_owned()),
            address: address.into(),
            hostname: self.host().to_owned(),
            path: PathRule { kind: PathRuleKind::Prefix.into(), value: "/".to_owned() },
            position: RulePosition::Tree.into(),
            ..RequestHttpFrontend::default()
        };
        let redirect = |policy: RedirectPolicy, scheme: RedirectScheme| RequestHttpFrontend {
            redirect: Some(policy.into()),
            redirect_scheme: Some(scheme.into()),
            ..plain.clone()
        };
        match self {
            Site::Plain | Site::Secure | Site::Sometimes | Site::Nowhere => plain,
            Site::Edited => {
                let edit = |key: &str, val: &str| Header {
                    position: HeaderPosition::Both.into(),
                    key: key.to_owned(),
                    val: val.to_owned(),
                };
                RequestHttpFrontend { headers: vec![edit(ADDED.0, ADDED.1), edit(UNWANTED, "")], ..plain }
            }
            Site::Rewritten => RequestHttpFrontend {
                rewrite_host: Some("new.$HOST[0]".to_owned()),
                rewrite_path: Some("/deep$PATH[0]".to_owned()),
                ..plain
            },
            Site::Guarded(_) => RequestHttpFrontend { required_auth: Some(true), ..plain },
            Site::Denied => redirect(RedirectPolicy::Unauthorized, RedirectScheme::UseSame),
            Site::Moved(301) => redirect(RedirectPolicy::Permanent, RedirectScheme::UseHttps),
            Site::Moved(302) => redirect(RedirectPolicy::Found, RedirectScheme::UseSame),
            Site::Moved(_) => RequestHttpFrontend {
                rewrite_path: Some("/moved$PATH[0]".to_owned()),
                ..redirect(RedirectPolicy::PermanentRedirect, RedirectScheme::UseSame)
            },
            Site::Silent => redirect(RedirectPolicy::SilentClose, RedirectScheme::UseSame),
        }
    }

    /// Whether requests go to a backend, if nothing else is in the way.
    pub(super) fn is_served(self) -> bool {
        use Site::{Edited, Guarded, Plain, Rewritten, Sometimes};
        matches!(self, Plain | Edited | Rewritten | Sometimes | Guarded(Credentials::Right))
    }

    /// How the proxy answers for it, if it always does.
    pub(super) fn own_status(self) -> Option<u16> {
        match self {
            Site::Nowhere => Some(404),
            Site::Denied | Site::Guarded(Credentials::Wrong | Credentials::None) => Some(401),
            Site::Moved(status) => Some(status),
            Site::Secure => Some(301),
            _ => None,
        }
    }

    /// Where it leads, from a target.
    pub(super) fn location(self, target: &str, secured: bool) -> Option<String> {
        let same = if secured { "https" } else { "http" };
        let host = self.host();
        match self {
            Site::Moved(301) => Some(format!("https://{host}{target}")),
            Site::Moved(302) => Some(format!("{same}://{host}{target}")),
            Site::Moved(_) => Some(format!("{same}://{host}/moved{target}")),
            Site::Secure => Some(format!("https://{host}:8443{target}")),
            _ => None,
        }
    }

    /// How it asks for a password.
    pub(super) fn challenge(self) -> Option<&'static str> {
        matches!(self, Site::Guarded(_)).then_some("Basic realm=\"sim\"")
    }

    /// The host that a backend is asked for.
    pub(super) fn host_behind(self) -> &'static str {
        if self == Site::Rewritten { "new.old.test" } else { self.host() }
    }

    /// The target that a backend is asked for.
    pub(super) fn target_behind(self, target: &str) -> String {
        if self == Site::Rewritten { format!("/deep{target}") } else { target.to_owned() }
    }

    /// What a client says to prove who it is.
    pub(super) fn authorization(self) -> Option<&'static str> {
        match self {
            // "u:open sesame" and "u:guess", in base64.
            Site::Guarded(Credentials::Right) => Some("Basic dTpvcGVuIHNlc2FtZQ=="),
            Site::Guarded(Credentials::Wrong) => Some("Basic dTpndWVzcw=="),
            _ => None,
        }
    }
}
