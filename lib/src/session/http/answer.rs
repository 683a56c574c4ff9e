//! Answers of our own: the operator's templates, else built-in ones. Not the hot path: here, and only here,
//! words are worth an allocation.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use kakehi_command::order::{
    AnswerTemplate, Cluster, ClusterId, ConnectionLimit, FrontendPolicy, Hsts, HttpFrontend, HttpListener,
    RateKey,
};

use crate::metrics::Metric;
use crate::net::Network;
use crate::net::buffers::{Buffer, Use};
use crate::net::request_id::RequestId;
use crate::policy::template::{Values, write_template};
use crate::protocol::http::answer::{Answer, write_answer};
use crate::session::Shared;
use crate::session::backends::ClusterKey;

/// What is said when there is not even a buffer for an answer.
pub(crate) const BARE_503: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Cache-Control: no-cache\r\n\
    Connection: close\r\n\
    Content-Length: 0\r\n\r\n";

/// Why a request is answered here.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The answer's status.
    pub(super) status: u16,
    details: Box<Details>,
}

/// What the answer tells besides its status.
#[derive(Debug, Default)]
struct Details {
    /// For the reader of the answer.
    message: Cow<'static, str>,
    cluster: Option<ClusterId>,
    backend: Option<String>,
    location: Option<String>,
    challenge: Option<String>,
    phase: &'static str,
    /// What there is room for, in bytes.
    capacity: Option<u64>,
    /// How long was waited, in seconds.
    duration: Option<u64>,
    /// After how many seconds the client may come again.
    retry_after: Option<u32>,
    /// Nothing is wrong with the connection: the client may go on, later.
    may_go_on: bool,
    /// The frontend that it is the answer of.
    frontend: Option<Arc<HttpFrontend>>,
    /// The frontend, if it has a template for its redirects.
    template: Option<Arc<HttpFrontend>>,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, details: Box::new(Details { message: message.into(), ..Details::default() }) }
    }

    /// 413: the body is longer than it may be.
    pub(super) fn too_large(bytes_max: u64) -> Self {
        let refusal = Self::new(413, format!("the request body is longer than {bytes_max} bytes"));
        refusal.with(|details| {
            details.capacity = Some(bytes_max);
            details.phase = "request body";
        })
    }

    /// 429: as many connections are there already as may be.
    pub(super) fn over_limit(limit: ConnectionLimit, retry_after: Option<u32>) -> Self {
        let message = match limit {
            ConnectionLimit::PerSource => "too many connections from this address",
            ConnectionLimit::PerSubnet => "too many connections from this network",
        };
        Self::new(429, message).with(|details| details.retry_after = retry_after)
    }

    /// 429: more requests came than may in this time.
    pub(super) fn over_rate(by: &RateKey, wait: Duration) -> Self {
        let message = match by {
            RateKey::Source => "too many requests from this source",
            RateKey::Host => "too many requests for this host",
            RateKey::Header(_) => "too many requests with this value of a header",
        };
        let seconds = u32::try_from(wait.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
        Self::new(429, message).with(|details| {
            details.retry_after = Some(seconds.max(1));
            details.may_go_on = true;
        })
    }

    /// 503: the cluster has as much to do as it may.
    pub(super) fn busy(message: &'static str, retry_after: Option<u32>) -> Self {
        Self::new(503, message).with(|details| {
            details.retry_after = retry_after;
            details.may_go_on = true;
        })
    }

    fn with(mut self, set: impl FnOnce(&mut Details)) -> Self {
        set(&mut self.details);
        self
    }

    /// For the reader of the answer, and of the log.
    pub(super) fn message(&self) -> &Cow<'static, str> {
        &self.details.message
    }

    /// The cluster that it is about.
    pub(super) fn cluster_id(&self) -> Option<&ClusterId> {
        self.details.cluster.as_ref()
    }

    /// The rule that it is the answer of.
    pub(super) fn frontend(&self) -> Option<&Arc<HttpFrontend>> {
        self.details.frontend.as_ref()
    }

    /// Names the cluster in the answer.
    pub(super) fn cluster(self, cluster: Option<&ClusterId>) -> Self {
        self.with(|details| details.cluster = cluster.cloned())
    }

    /// Names the backend in the answer.
    pub(super) fn backend(self, backend: Option<&str>) -> Self {
        self.with(|details| details.backend = backend.map(str::to_owned))
    }

    /// Where a redirect leads.
    pub(super) fn location(self, location: String) -> Self {
        self.with(|details| details.location = Some(location))
    }

    /// How a client may prove who it is.
    pub(super) fn challenge(self, challenge: Option<&str>) -> Self {
        self.with(|details| details.challenge = challenge.map(str::to_owned))
    }

    /// Where in a message it went wrong.
    pub(super) fn phase(self, phase: &'static str) -> Self {
        self.with(|details| details.phase = phase)
    }

    /// What there is room for.
    pub(super) fn capacity(self, bytes: usize) -> Self {
        self.with(|details| details.capacity = Some(bytes as u64))
    }

    /// How long was waited.
    pub(super) fn duration(self, duration: Duration) -> Self {
        self.with(|details| details.duration = Some(duration.as_secs()))
    }

    /// A frontend whose template is used.
    pub(super) fn template(self, frontend: Option<Arc<HttpFrontend>>) -> Self {
        self.with(|details| details.template = frontend)
    }

    /// The rule that it is the answer of.
    pub(super) fn of_frontend(self, frontend: &Arc<HttpFrontend>) -> Self {
        self.with(|details| details.frontend = Some(frontend.clone()))
    }

    /// The operator's template: the frontend's, else the cluster's, else the listener's.
    fn template_of<'t>(
        &'t self,
        cluster: Option<&'t Cluster>,
        listener: &'t HttpListener,
    ) -> Option<&'t AnswerTemplate> {
        let frontend = self.details.template.as_ref().and_then(|frontend| frontend.policy());
        frontend
            .and_then(FrontendPolicy::redirect_template)
            .or_else(|| cluster.and_then(|cluster| cluster.answer(self.status)))
            .or_else(|| listener.answer(self.status))
    }

    /// Whether the client may well go on after it: nothing is wrong with the connection.
    fn leaves_connection_usable(&self) -> bool {
        self.details.may_go_on || matches!(self.status, 301 | 302 | 308 | 401 | 404)
    }
}

/// What the answer has to know of the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    /// Host and path, to be echoed; empty if they are not at hand.
    pub(super) route: &'a str,
    /// It was a HEAD: the answer has no body (RFC 9110 §9.3.2).
    pub(super) head_only: bool,
    /// The whole request was read, and its client may send another.
    pub(super) may_keep: bool,
    /// The frontend of the request, where the refusal names none.
    pub(super) frontend: Option<&'a HttpFrontend>,
}

/// Writes the answer into a buffer, if one is free, and tells whether the connection may go on after it.
pub(super) fn write<N: Network>(
    refusal: &Refusal,
    listener: &HttpListener,
    shared: &mut Shared<N>,
    about: About<'_>,
    id: RequestId,
) -> Option<(Buffer, bool)> {
    let mut out = shared.buffer(Use::Answer)?;
    let details = &*refusal.details;
    let may_keep = about.may_keep;
    let hsts = hsts(listener, details.frontend.as_deref().or(about.frontend));
    let cluster = details.cluster.as_ref().and_then(|id| shared.backends.key(id));
    let key = cluster;
    let cluster = key.and_then(|key| shared.backends.cluster(key)).map(|config| &**config);
    if let Some(template) = refusal.template_of(cluster, listener) {
        let keep = may_keep && !template.closes();
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let (capacity, duration) = (number(details.capacity), number(details.duration));
        let retry_after = number(details.retry_after.map(u64::from));
        let status = refusal.status.to_string();
        let values = Values {
            route: about.route,
            request_id: id.as_str(),
            cluster_id: details.cluster.as_deref().unwrap_or_default(),
            backend_id: details.backend.as_deref().unwrap_or_default(),
            message: &details.message,
            phase: details.phase,
            duration: &duration,
            capacity: &capacity,
            redirect_location: details.location.as_deref().unwrap_or_default(),
            www_authenticate: details.challenge.as_deref().unwrap_or_default(),
            template_name: &status,
            retry_after: &retry_after,
            hsts,
            ..Values::default()
        };
        match write_template(out.space(), template, &values, !keep, about.head_only) {
            Ok(count) => {
                out.filled(count);
                tally(refusal.status, key, shared);
                return Some((out, keep));
            }
            Err(_) => log::warn!(
                "the template for status {} does not fit into a buffer: the built-in answer is sent",
                refusal.status
            ),
        }
    }
    let keep = may_keep && refusal.leaves_connection_usable();
    let answer = Answer {
        status: refusal.status,
        route: about.route,
        request_id: id.as_str(),
        cluster_id: details.cluster.as_deref(),
        backend_id: details.backend.as_deref(),
        message: &details.message,
        location: details.location.as_deref(),
        challenge: details.challenge.as_deref(),
        retry_after: details.retry_after,
        hsts,
        close: !keep,
        head_only: about.head_only,
    };
    let count = write_answer(out.space(), &answer, listener.sozu_id_header());
    out.filled(count);
    if count > 0 {
        tally(refusal.status, key, shared);
        return Some((out, keep));
    }
    // What was asked for is too long to be told where it is, or a challenge too long for a buffer. Not a warning:
    // a client could write the log full.
    let status = if answer.location.is_some() { 414 } else { 500 };
    log::debug!("an answer with status {} does not fit into a buffer: {status} is sent", answer.status);
    let bare = Answer { head_only: about.head_only, ..Answer::new(status, id.as_str()) };
    let count = write_answer(out.space(), &bare, listener.sozu_id_header());
    debug_assert!(count > 0, "a buffer holds any answer without its details");
    out.filled(count);
    tally(status, key, shared);
    Some((out, false))
}

/// The policy that clients of this listener are told: the rule's, else the listener's. Never without TLS (RFC 6797 §7.2).
pub(super) fn hsts<'a>(listener: &'a HttpListener, frontend: Option<&'a HttpFrontend>) -> Option<&'a Hsts> {
    let tls = listener.tls()?;
    let own = frontend.and_then(HttpFrontend::policy).and_then(FrontendPolicy::hsts);
    own.or_else(|| tls.hsts()).filter(|hsts| hsts.enabled())
}

/// Counts an answer of ours that is going to be sent.
fn tally<N: Network>(status: u16, cluster: Option<ClusterKey>, shared: &mut Shared<N>) {
    count(status, shared);
    let class = shared.metrics.count_status(status);
    let Some(cluster) = cluster else { return };
    shared.backends.count_of(cluster, class);
    if status >= 400 {
        shared.backends.count_of(cluster, Metric::HttpErrors);
    }
}

/// Host and path of a request's head as we write it; empty if it is none.
pub(super) fn route_of(head: &[u8]) -> String {
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut line = || lines.next().and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let path = line().split(' ').nth(1).unwrap_or_default();
    line().strip_prefix("Host: ").map(|host| format!("{host}{path}")).unwrap_or_default()
}

/// Counts an answer of ours by its status.
pub(super) fn count<N: Network>(status: u16, shared: &mut Shared<N>) {
    if status >= 400 {
        shared.metrics.incr(Metric::HttpErrors);
    }
    if status == 421 {
        shared.metrics.incr(Metric::HttpSniAuthorityMismatch);
    }
    if let Some(metric) = Metric::of_own_answer(status) {
        shared.metrics.incr(metric);
    }
}
