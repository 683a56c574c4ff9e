//! What becomes of a request: from its head and the rule that it matches. Nothing is done here.
//!
//! In this order: a route (404), its redirect, its denial (401), the cluster's redirect to https, its
//! credentials (401), the limit on bodies (413), rewrites. The redirect to https comes before the question
//! for a password, which would be answered in the clear.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use kakehi_command::order::{FrontendPolicy, HttpListener, Redirect, TrustedProxies};

use super::answer::Refusal;
use super::request::Origin;
use crate::listener::{Listeners, Route};
use crate::net::secure::Facts;
use crate::policy::auth;
use crate::policy::redirect::{Location, is_https};
use crate::protocol::h1::head::RequestHead;
use crate::protocol::http::Framing;
use crate::protocol::http::field::Field;
use crate::routing::Fields;
use crate::session::backends::{Backends, ClusterKey};
use crate::session::{Scratch, Settings};

/// The host that is asked for has to be one that the connection's certificate stands for, if the listener is strict:
/// what a name is reached by may have other rules for clients (RFC 9110 §7.4, §15.5.20).
fn misdirected(host: &str, listener: Option<&Arc<HttpListener>>, tls: Option<&Facts>) -> Option<Refusal> {
    let facts = tls?;
    let strict = listener?.tls()?.strict_sni_binding();
    let served = facts.served.as_ref()?;
    let fits = !strict || served.covers(host);
    (!fits).then(|| Refusal::new(421, "this connection's certificate is not for this host"))
}

/// What becomes of a request.
pub(super) enum Verdict<'r> {
    /// It goes to a backend.
    Forward(Decided<'r>),
    /// It is answered here.
    Answer(Refusal),
    /// The connection ends without a word.
    Close,
}

/// Where a request goes.
pub(super) struct Decided<'r> {
    pub(super) route: &'r Route,
    pub(super) cluster: ClusterKey,
    /// What to ask for instead is in the scratch space.
    pub(super) rewrites_host: bool,
    pub(super) rewrites_path: bool,
}

/// What of a request its routing may depend on.
struct Told<'a, 'h, 'b> {
    head: &'a RequestHead<'h, 'b>,
    peer: IpAddr,
    trusted_proxies: Option<&'a TrustedProxies>,
}

impl Fields for Told<'_, '_, '_> {
    /// What is not believed, and dropped on the way to the backend, is not there for us either.
    fn first(&self, name: &str) -> Option<&[u8]> {
        let believed =
            || self.trusted_proxies.is_some_and(|trusted_proxies| trusted_proxies.contains(self.peer));
        (!Field::of(name.as_bytes()).is_claim() || believed()).then(|| self.head.field(name))?
    }
}

/// The one `Authorization` field (RFC 9110 §11.6.2). Of several the backend may take another one than we do.
fn authorization<'b>(head: &RequestHead<'_, 'b>) -> Option<&'b [u8]> {
    let mut found = head.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"authorization"));
    let first = found.next()?;
    found.next().is_none().then_some(first.value)
}

pub(super) fn decide<'r, L, S: crate::net::Stream>(
    head: &RequestHead<'_, '_>,
    origin: Origin<'_>,
    listeners: &'r Listeners<L>,
    backends: &Backends<S>,
    settings: &Settings,
    scratch: &mut Scratch,
) -> Verdict<'r> {
    let Origin { peer, listener, tls, .. } = origin;
    let peer = peer.ip();
    if head.method == "CONNECT" {
        return Verdict::Answer(Refusal::new(400, "CONNECT is not served"));
    }
    if let Some(refusal) = misdirected(head.host, listeners.http(listener).map(|entry| entry.config()), tls) {
        return Verdict::Answer(refusal);
    }
    let path = head.target.route_path();
    let trusted_proxies = listeners.http(listener).map(|entry| entry.config().trusted_proxies());
    let told = Told { head, peer, trusted_proxies };
    let Some(route) =
        listeners.route(listener, head.host.as_bytes(), path.as_bytes(), head.method.as_bytes(), &told)
    else {
        return Verdict::Answer(Refusal::new(404, "no frontend matches this host and path"));
    };
    let config = route.cluster.and_then(|cluster| backends.cluster(cluster));
    let policy = route.frontend.policy();
    let redirect = route.frontend.redirect();
    let https_port = config.and_then(|config| config.https_redirect_port());
    if redirect == Redirect::SilentClose {
        return Verdict::Close;
    }
    if let Some(status) = redirect.status() {
        let secured = tls.is_some();
        let refusal = redirected(status, head, route, https_port, secured, scratch);
        return Verdict::Answer(refusal.of_frontend(&route.frontend));
    }
    let challenge = config.and_then(|config| config.www_authenticate());
    let denied = |challenge: Option<&str>| {
        Refusal::new(401, "this frontend denies access")
            .cluster(route.frontend.cluster_id())
            .of_frontend(&route.frontend)
            .challenge(challenge)
    };
    let (Some(cluster), true) = (route.cluster, redirect == Redirect::Forward) else {
        return Verdict::Answer(denied(challenge));
    };
    if tls.is_none() && config.is_some_and(|config| config.https_redirect()) {
        let location = Location { https: true, host: head.host, port: https_port, path };
        let refusal = Refusal::new(301, "this host is served over https");
        let refusal = refusal.cluster(route.frontend.cluster_id()).location(location.to_string());
        return Verdict::Answer(refusal);
    }
    if policy.is_some_and(FrontendPolicy::required_auth) {
        let credentials = config.map(|config| config.credentials()).unwrap_or_default();
        let bytes_max = settings.basic_auth_bytes_max;
        if !auth::check(authorization(head), credentials, bytes_max, &mut scratch.host) {
            // Without a challenge no client would ask its user (RFC 9110 §15.5.2).
            let challenge = challenge.unwrap_or("Basic realm=\"restricted\"");
            return Verdict::Answer(denied(Some(challenge)));
        }
    }
    let bytes_max = listeners.http(listener).and_then(|entry| entry.config().max_body_bytes());
    if let (Framing::Length(length), Some(bytes_max)) = (head.framing, bytes_max)
        && length > bytes_max
    {
        let refusal = Refusal::too_large(bytes_max);
        return Verdict::Answer(refusal.cluster(route.frontend.cluster_id()));
    }
    let (rewrites_host, rewrites_path) = match policy {
        Some(policy) => match rewrite(head, route, policy.rewrite_port(), scratch) {
            Some(rewrites) => rewrites,
            None => {
                let text = "what this frontend's rewrite makes of the request is not a host or a path";
                return Verdict::Answer(Refusal::new(400, text).cluster(route.frontend.cluster_id()));
            }
        },
        None => (false, false),
    };
    Verdict::Forward(Decided { route, cluster, rewrites_host, rewrites_path })
}

/// Puts what to ask for instead into the scratch space, and tells whether there is a host and a path. `None`
/// if what comes of it is neither.
fn rewrite(
    head: &RequestHead<'_, '_>,
    route: &Route,
    port: Option<u16>,
    scratch: &mut Scratch,
) -> Option<(bool, bool)> {
    scratch.host.clear();
    scratch.path.clear();
    let (host, path) = (head.host, head.target.route_path());
    let rewriter = route.rewriter.as_deref();
    let wants_host = rewriter.is_some_and(|rewriter| rewriter.rewrites_host());
    let wants_path = rewriter.is_some_and(|rewriter| rewriter.rewrites_path());
    if let Some(rewriter) = rewriter {
        let host_made = !wants_host || rewriter.host(host, path, &mut scratch.host);
        let path_made = !wants_path || rewriter.path(host, path, &mut scratch.path);
        if !host_made || !path_made {
            return None;
        }
    }
    if let Some(port) = port {
        if !wants_host {
            scratch.host.extend_from_slice(host.as_bytes());
        }
        let mut digits = String::new();
        // Writing to a string does not fail.
        let _ = write!(digits, ":{port}");
        scratch.host.extend_from_slice(digits.as_bytes());
    }
    Some((wants_host || port.is_some(), wants_path))
}

/// The answer of a frontend that redirects.
fn redirected(
    status: u16,
    head: &RequestHead<'_, '_>,
    route: &Route,
    https_port: Option<u16>,
    secured: bool,
    scratch: &mut Scratch,
) -> Refusal {
    let policy = route.frontend.policy();
    let Some((rewrites_host, rewrites_path)) = rewrite(head, route, None, scratch) else {
        return Refusal::new(400, "what this frontend's redirect makes of the request is not a location");
    };
    let text = |made: bool, bytes: &[u8], own: &str| {
        if made { String::from_utf8_lossy(bytes).into_owned() } else { own.to_owned() }
    };
    let host = text(rewrites_host, &scratch.host, head.host);
    let path = text(rewrites_path, &scratch.path, head.target.route_path());
    let scheme = policy.map(FrontendPolicy::redirect_scheme).unwrap_or_default();
    let location = Location {
        https: is_https(scheme, secured),
        host: &host,
        port: policy.and_then(FrontendPolicy::rewrite_port).or(https_port),
        path: &path,
    };
    Refusal::new(status, "this host and path have moved")
        .cluster(route.frontend.cluster_id())
        .location(location.to_string())
        .template(policy.and_then(FrontendPolicy::redirect_template).map(|_| route.frontend.clone()))
}
