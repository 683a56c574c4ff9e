//! Answers of our own. Not the hot path: here, and only here, words are worth an allocation.

use std::borrow::Cow;

use kakehi_command::order::{ClusterId, HttpListener};

use crate::metrics::Metric;
use crate::net::Network;
use crate::net::buffers::{Buffer, Use};
use crate::net::request_id::RequestId;
use crate::protocol::h1::head::RequestHead;
use crate::protocol::http::answer::{Answer, write_answer};
use crate::session::Shared;

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
    /// For the reader of the answer.
    message: Cow<'static, str>,
    cluster: Option<ClusterId>,
    backend: Option<String>,
    location: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), cluster: None, backend: None, location: None }
    }

    /// Names the cluster in the answer.
    pub(super) fn cluster(mut self, cluster: &ClusterId) -> Self {
        self.cluster = Some(cluster.clone());
        self
    }

    /// Names the backend in the answer.
    pub(super) fn backend(mut self, backend: Option<&str>) -> Self {
        self.backend = backend.map(str::to_owned);
        self
    }

    /// 301 to the same place over https: the host without its port, `port` unless it is the default.
    pub(super) fn redirect(head: &RequestHead<'_, '_>, port: Option<u16>) -> Self {
        let port = port.filter(|&port| port != 443).map(|port| format!(":{port}")).unwrap_or_default();
        let location = format!("https://{}{port}{}", head.host, head.target.route_path());
        Self { location: Some(location), ..Self::new(301, "this host is served over https") }
    }
}

/// What the answer has to know of the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    /// Host and path, to be echoed; empty if they are not at hand.
    pub(super) route: &'a str,
    /// It was a HEAD: the answer has no body (RFC 9110 §9.3.2).
    pub(super) head_only: bool,
}

/// Writes the answer into a buffer, if one is free. It always closes the connection.
pub(super) fn write<N: Network>(
    refusal: &Refusal,
    listener: &HttpListener,
    shared: &mut Shared<N>,
    about: About<'_>,
    id: RequestId,
) -> Option<Buffer> {
    count(refusal.status, shared);
    shared.metrics.count_status(refusal.status);
    let mut out = shared.buffer(Use::Answer)?;
    let answer = Answer {
        status: refusal.status,
        route: about.route,
        request_id: id.as_str(),
        cluster_id: refusal.cluster.as_deref(),
        backend_id: refusal.backend.as_deref(),
        message: &refusal.message,
        location: refusal.location.as_deref(),
        close: true,
        head_only: about.head_only,
    };
    let count = write_answer(out.space(), &answer, listener.sozu_id_header());
    out.filled(count);
    Some(out)
}

/// Counts an answer of ours by its status.
pub(super) fn count<N: Network>(status: u16, shared: &mut Shared<N>) {
    shared.metrics.incr(Metric::HttpErrors);
    if let Some(metric) = Metric::of_own_answer(status) {
        shared.metrics.incr(metric);
    }
}
