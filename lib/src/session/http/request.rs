//! From a request head to what is done about it.

use std::net::SocketAddr;

use kakehi_command::order::{ClusterId, HttpListener, Redirect};

use super::answer::{self, About, Refusal};
use crate::metrics::Metric;
use crate::net::Network;
use crate::net::buffers::{Buffer, Use};
use crate::net::request_id::RequestId;
use crate::protocol::h1::forwarded::Forward;
use crate::protocol::h1::head::{FieldStorage, Parsed, RequestHead, parse_request};
use crate::protocol::h1::write::write_request;
use crate::protocol::http::{Framing, HeadLimits, RequestMethod, Version, is_idempotent};
use crate::session::Shared;

/// What the exchange has to know of its request once the head is gone.
#[derive(Debug)]
pub(super) struct Facts {
    /// Where it goes.
    pub(super) cluster: ClusterId,
    /// Decides whether the answer has a body.
    pub(super) method: RequestMethod,
    /// It may be sent twice: RFC 9110 §9.2.2.
    pub(super) idempotent: bool,
    /// The client's version.
    pub(super) version: Version,
    /// The client wants to keep the connection.
    pub(super) keep_alive: bool,
    /// The client waits for 100 Continue before it sends the body.
    pub(super) expect_continue: bool,
    /// What delimits the body.
    pub(super) framing: Framing,
    /// Its id, in our headers and logs.
    pub(super) id: RequestId,
}

/// What becomes of the bytes at hand.
#[derive(Debug)]
pub(super) enum Begin {
    /// They are not a whole head yet.
    Partial,
    /// It goes to a backend: our head, and how many bytes the client's took.
    Forward { head: Buffer, facts: Facts, consumed: usize },
    /// It is answered here.
    Answer { answer: Buffer },
    /// It should be answered here, but there is no buffer for it.
    NoBuffer,
}

/// Where the request came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) peer: SocketAddr,
    pub(super) listener: &'a HttpListener,
}

/// Parses the head at the start of `bytes`, routes it and writes the head that is sent on.
pub(super) fn begin<N: Network>(bytes: &[u8], origin: Origin<'_>, shared: &mut Shared<N>) -> Begin {
    let mut storage = FieldStorage::new();
    let limits = HeadLimits {
        fields_max: shared.settings.header_fields_max,
        request_line_max: super::REQUEST_LINE_BYTES_MAX,
    };
    match parse_request(bytes, &mut storage, &limits) {
        Ok(Parsed::Partial) => Begin::Partial,
        Ok(Parsed::Complete { head, bytes: consumed }) => {
            shared.metrics.incr(Metric::Requests);
            shared.metrics.incr(Metric::HttpRequests);
            let id = shared.ids.next(shared.unix_ms);
            match forward(&head, origin, id, shared) {
                Ok((out, facts)) => Begin::Forward { head: out, facts, consumed },
                Err(refusal) => answered(&refusal, origin.listener, shared, Some(&head), id),
            }
        }
        Err(error) => {
            shared.metrics.incr(Metric::HttpFrontendParseErrors);
            let id = shared.ids.next(shared.unix_ms);
            let refusal = Refusal::new(error.status(), error.to_string());
            answered(&refusal, origin.listener, shared, None, id)
        }
    }
}

fn answered<N: Network>(
    refusal: &Refusal,
    listener: &HttpListener,
    shared: &mut Shared<N>,
    head: Option<&RequestHead<'_, '_>>,
    id: RequestId,
) -> Begin {
    let route = head.map(|head| format!("{}{}", head.authority, head.target.path())).unwrap_or_default();
    let head_only = head.is_some_and(|head| head.method_kind() == RequestMethod::Head);
    match answer::write(refusal, listener, shared, About { route: &route, head_only }, id) {
        Some(answer) => Begin::Answer { answer },
        None => Begin::NoBuffer,
    }
}

fn forward<N: Network>(
    head: &RequestHead<'_, '_>,
    origin: Origin<'_>,
    id: RequestId,
    shared: &mut Shared<N>,
) -> Result<(Buffer, Facts), Refusal> {
    let cluster = route(head, origin, shared)?;
    let mut out = shared.buffer(Use::Request).ok_or_else(|| Refusal::new(503, "no buffer is free"))?;
    let listener = origin.listener;
    let forward = Forward {
        peer: origin.peer,
        public: listener.public_address().unwrap_or_else(|| listener.address()),
        https: false,
        forwarded: listener.forwarded_headers(),
        send_x_real_ip: listener.send_x_real_ip(),
        elide_x_real_ip: listener.elide_x_real_ip(),
        request_id: id.as_str(),
        sozu_id_header: listener.sozu_id_header(),
    };
    match write_request(out.space(), head, &forward) {
        Ok(count) => out.filled(count),
        Err(_too_large) => {
            shared.give_back(&mut Some(out));
            let text = "the head does not fit into one buffer with the forwarding fields added";
            return Err(Refusal::new(431, text).cluster(&cluster));
        }
    }
    let facts = Facts {
        cluster,
        method: head.method_kind(),
        idempotent: is_idempotent(head.method),
        version: head.version,
        keep_alive: head.keep_alive,
        expect_continue: head.expect_continue,
        framing: head.framing,
        id,
    };
    Ok((out, facts))
}

fn route<N: Network>(
    head: &RequestHead<'_, '_>,
    origin: Origin<'_>,
    shared: &Shared<N>,
) -> Result<ClusterId, Refusal> {
    if head.method == "CONNECT" {
        return Err(Refusal::new(400, "CONNECT is not served"));
    }
    let address = origin.listener.address();
    let path = head.target.route_path().as_bytes();
    let frontend = shared
        .listeners
        .route(&address, head.host.as_bytes(), path, head.method.as_bytes())
        .ok_or_else(|| Refusal::new(404, "no frontend matches this host and path"))?;
    if frontend.redirect() == Redirect::Unauthorized {
        return Err(Refusal::new(401, "this frontend denies access"));
    }
    let Some(cluster) = frontend.cluster_id() else {
        return Err(Refusal::new(401, "this frontend denies access"));
    };
    let redirect = shared.backends.cluster(cluster).filter(|config| config.https_redirect());
    if let Some(config) = redirect {
        return Err(Refusal::redirect(head, config.https_redirect_port()).cluster(cluster));
    }
    Ok(cluster.clone())
}
