//! From a request head to what is done about it.

use std::net::SocketAddr;
use std::sync::Arc;

use kakehi_command::order::{HttpFrontend, HttpListener, TraceContext};

use super::account::Account;
use super::affinity::{self, Sticky};
use super::answer::{self, About, Refusal};
use super::decide::{self, Verdict};
use super::rates;
use crate::limits::{Of, Scope};
use crate::listener::ListenerIndex;
use crate::metrics::Metric;
use crate::net::Network;
use crate::net::buffers::{Buffer, Use};
use crate::net::request_id::RequestId;
use crate::net::secure::Facts as TlsFacts;
use crate::protocol::h1::body::Relay;
use crate::protocol::h1::error::{FramingError, RequestError};
use crate::protocol::h1::forwarded::{Forward, NewTrace, Subject};
use crate::protocol::h1::head::{FieldStorage, Parsed, RequestHead, parse_request};
use crate::protocol::h1::write::write_request;
use crate::protocol::http::field::Field;
use crate::protocol::http::{Framing, HeadLimits, RequestMethod, Version, is_idempotent, is_safe};
use crate::session::backends::ClusterKey;
use crate::session::counted::Counted;
use crate::session::{Shared, random};

/// What the exchange has to know of its request once the head is gone.
#[derive(Debug)]
pub(super) struct Facts {
    /// Where it goes; held for the exchange.
    pub(super) cluster: ClusterKey,
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
    /// How its body goes to the backend.
    pub(super) relay: Relay,
    /// The protocol that the client would change to.
    pub(super) upgrade: Option<Box<[u8]>>,
    /// The frontend, if it edits the answer.
    pub(super) editor: Option<Arc<HttpFrontend>>,
    /// The most bytes of a body that is not announced.
    pub(super) body_bytes_max: u64,
    /// The hash of what the choice of a backend goes by, if that is not the client's address.
    pub(super) affinity: Option<u64>,
    /// Its sticky cookie, where the cluster has one.
    pub(super) sticky: Option<Sticky>,
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
    /// It is answered here; `consumed` bytes were its head, and the connection may go on behind it if `keep`.
    Answer { answer: Buffer, consumed: usize, keep: bool },
    /// A whole head, and no buffer for ours: it has to wait for one.
    Wait,
    /// It must not be done twice, and may have been played back: it has to wait for the end of the handshake.
    Delay,
    /// It should be answered here, but there is no buffer for it.
    NoBuffer,
    /// The connection ends without a word.
    Close,
}

/// Where the request came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) peer: SocketAddr,
    pub(super) listener: ListenerIndex,
    /// What its TLS connection is, if it has one.
    pub(super) tls: Option<&'a TlsFacts>,
    /// The handshake with its client is not over.
    pub(super) early: bool,
    /// What is known from an earlier request on the connection.
    pub(super) prepared: &'a Prepared,
}

/// The forwarding fields of a connection, kept from its second request on: of most connections there is no
/// third, and of those that go on each request has the same.
#[derive(Debug, Default)]
pub(in crate::session) struct Prepared {
    /// Of the listener whose settings they follow.
    generation: u64,
    text: Box<[u8]>,
}

impl Prepared {
    fn for_generation(&self, generation: u64) -> &[u8] {
        if self.generation == generation { &self.text } else { &[] }
    }

    /// Puts them together for this connection, unless that was done.
    pub(super) fn update<N: Network>(
        &mut self,
        peer: SocketAddr,
        listener: ListenerIndex,
        shared: &Shared<N>,
    ) {
        let Some(listener) = shared.listeners.http(listener) else { return };
        if self.generation != listener.generation() {
            self.generation = listener.generation();
            self.text = forward(peer, listener.config(), &RequestId::NONE).prepare();
        }
    }
}

/// Parses the head at the start of `bytes`, routes it and writes the head that is sent on.
#[inline(always)]
pub(super) fn begin<N: Network>(
    bytes: &[u8],
    origin: Origin<'_>,
    counted: &mut Counted,
    mut account: Option<&mut Account>,
    shared: &mut Shared<N>,
) -> Begin {
    let Some(entry) = shared.listeners.http(origin.listener) else { return Begin::Close };
    let listener = &**entry.config();
    let limits = HeadLimits {
        fields_max: shared.settings.header_fields_max,
        request_line_max: listener.max_request_line(),
    };
    let mut storage = FieldStorage::new();
    let (head, consumed) = match parse_request(bytes, &mut storage, &limits) {
        Ok(Parsed::Partial) => return Begin::Partial,
        Ok(Parsed::Complete { head, bytes }) => (head, bytes),
        Err(_) if origin.early => return Begin::Delay,
        Err(error) => {
            shared.metrics.incr(Metric::HttpFrontendParseErrors);
            match error {
                RequestError::Framing(FramingError::LengthMalformed | FramingError::LengthRepeated) => {
                    shared.metrics.incr(Metric::HttpFrontContentLength);
                }
                RequestError::Framing(
                    FramingError::LengthAndCoding
                    | FramingError::CodingNotChunked
                    | FramingError::CodingInHttp10
                    | FramingError::LookAlike,
                ) => shared.metrics.incr(Metric::HttpFrontSmuggling),
                _ => {}
            }
            let refusal = Refusal::new(error.status(), error.to_string()).phase("request head");
            let id = shared.ids.next(shared.unix_ms);
            return answered(&refusal, origin, shared, None, id, 0, account);
        }
    };
    if origin.early && !may_be_played_back(&head) {
        return Begin::Delay;
    }
    if !shared.buffers.has_room(Use::Head) {
        return Begin::Wait;
    }
    if origin.early {
        shared.metrics.incr(Metric::TlsEarlyRequests);
    }
    shared.metrics.incr(Metric::Requests);
    shared.metrics.incr(Metric::HttpRequests);
    shared.metrics.incr(if head.has(Field::XRequestId) {
        Metric::HttpRequestIdPropagated
    } else {
        Metric::HttpRequestIdGenerated
    });
    let id = shared.ids.next(shared.unix_ms);
    if let Some(account) = &mut account {
        account.note_head(&head, consumed, id);
    }
    let source = origin.peer.ip();
    let asked = rates::Request { head: &head, source, trusted_proxies: listener.trusted_proxies() };
    let of_listener = &*listener.limits().rates;
    if !of_listener.is_empty()
        && let Some(entry) = shared.listeners.get(origin.listener)
    {
        let of = Of { scope: Scope::ListenerRate, name: entry.id() };
        let checked = asked.check(of, of_listener, &shared.limits, &mut shared.metrics, shared.now);
        if let Err(refusal) = checked {
            return answered(&refusal, origin, shared, Some(&head), id, consumed, account);
        }
    }
    let verdict = decide::decide(
        &head,
        origin,
        &shared.listeners,
        &shared.backends,
        &shared.settings,
        &mut shared.scratch,
    );
    let decided = match verdict {
        Verdict::Forward(decided) => decided,
        Verdict::Answer(refusal) => {
            return answered(&refusal, origin, shared, Some(&head), id, consumed, account);
        }
        Verdict::Close => {
            shared.metrics.incr(Metric::HttpSilentCloses);
            if let Some(account) = &mut account {
                account.note_silence();
            }
            return Begin::Close;
        }
    };
    let cluster = decided.cluster;
    shared.backends.count_of(cluster, Metric::Requests);
    if let Some(account) = &mut account {
        account.note_frontend(&decided.route.frontend);
    }
    let of_cluster = shared.backends.cluster(cluster).map(|config| config.rate_limits()).unwrap_or_default();
    if !of_cluster.is_empty()
        && let Some(cluster_id) = shared.backends.cluster_id(cluster)
    {
        let of = Of { scope: Scope::ClusterRate, name: cluster_id.as_bytes() };
        let checked = asked.check(of, of_cluster, &shared.limits, &mut shared.metrics, shared.now);
        if let Err(refusal) = checked {
            let refusal = refusal.cluster(Some(cluster_id));
            shared.backends.count_of(cluster, Metric::RateLimitedByCluster);
            return answered(&refusal, origin, shared, Some(&head), id, consumed, account);
        }
    }
    if let Err(limit) =
        counted.admit(cluster, source, &shared.limits, &mut shared.backends, &mut shared.metrics)
    {
        let config = shared.backends.cluster(cluster).map(|config| &**config);
        let refusal = Refusal::over_limit(limit, shared.limits.retry_after(config));
        let refusal = refusal.cluster(decided.route.frontend.cluster_id());
        return answered(&refusal, origin, shared, Some(&head), id, consumed, account);
    }
    let policy = decided.route.frontend.policy();
    let edits = policy.map(|policy| policy.header_edits()).unwrap_or_default();
    let has_say = edits.iter().any(|edit| edit.response)
        || (origin.tls.is_some() && policy.is_some_and(|policy| policy.hsts().is_some()));
    let editor = has_say.then(|| decided.route.frontend.clone());
    let config = shared.backends.cluster(cluster);
    let affinity = config.and_then(|config| affinity::key(&head, config));
    let sticky = config.and_then(|config| affinity::sticky(&head, config, listener));
    let subject = subject(listener, origin.tls);
    let edited = edits.iter().any(|edit| edit.request) || subject.is_some();
    let relay = Relay::chunks(edited, listener.sozu_id_header());
    let Some(mut out) = shared.buffers.checkout(Use::Head) else {
        let refusal = Refusal::new(503, "no buffer is free");
        return answered(&refusal, origin, shared, Some(&head), id, consumed, account);
    };
    let forward = Forward {
        host: decided.rewrites_host.then_some(&*shared.scratch.host),
        path: decided.rewrites_path.then_some(&*shared.scratch.path),
        subject,
        edits,
        trace: match listener.trace_context() {
            TraceContext::Pass => None,
            TraceContext::Make => {
                Some(NewTrace { trace_id: id.to_bits(), parent_id: random(&mut shared.seed) })
            }
        },
        early: origin.early,
        sticky_name: sticky.and_then(|sticky| sticky.cookie).map(|_| listener.sticky_name()),
        prepared: origin.prepared.for_generation(entry.generation()),
        ..forward(origin.peer, listener, &id)
    };
    if let Some(account) = &mut account {
        account.note_trace(forward.trace_of(&head));
    }
    match write_request(out.space(), &head, &forward) {
        Ok(count) => out.filled(count),
        Err(_too_large) => {
            shared.buffers.give_back(out);
            let text = "the head does not fit into one buffer with the forwarding fields added";
            let refusal = Refusal::new(431, text);
            return answered(&refusal, origin, shared, Some(&head), id, consumed, account);
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
        relay,
        upgrade: head.upgrade.map(Box::from),
        editor,
        body_bytes_max: listener.max_body_bytes().unwrap_or(u64::MAX),
        affinity,
        sticky,
        id,
    };
    shared.backends.hold_on(cluster);
    Begin::Forward { head: out, facts, consumed }
}

/// Whether it does no harm if this is done for somebody who has seen it on its way, and sends it again: it changes
/// nothing (RFC 9110 §9.2.1), and nothing follows it.
fn may_be_played_back(head: &RequestHead<'_, '_>) -> bool {
    is_safe(head.method) && head.framing.is_empty() && head.upgrade.is_none()
}

/// What every request of this client on this listener is given.
fn forward<'a>(peer: SocketAddr, listener: &'a HttpListener, id: &'a RequestId) -> Forward<'a> {
    let trusted_proxies = listener.trusted_proxies();
    Forward {
        peer,
        trusted: !trusted_proxies.is_empty() && trusted_proxies.contains(peer.ip()),
        public: listener.advertised_address(),
        https: listener.tls().is_some(),
        forwarded: listener.forwarded_headers(),
        send_x_real_ip: listener.send_x_real_ip(),
        elide_x_real_ip: listener.elide_x_real_ip(),
        request_id: id.as_bytes(),
        sozu_id_header: listener.sozu_id_header(),
        trace: None,
        host: None,
        path: None,
        subject: None,
        edits: &[],
        early: false,
        sticky_name: None,
        prepared: &[],
    }
}

/// The field that tells who the client is, where the listener has one.
fn subject<'a>(listener: &'a HttpListener, tls: Option<&'a TlsFacts>) -> Option<Subject<'a>> {
    let header = listener.tls()?.client_subject_header()?;
    Some(Subject { header, value: tls.and_then(|facts| facts.subject.as_deref()) })
}

fn answered<N: Network>(
    refusal: &Refusal,
    origin: Origin<'_>,
    shared: &mut Shared<N>,
    head: Option<&RequestHead<'_, '_>>,
    id: RequestId,
    consumed: usize,
    account: Option<&mut Account>,
) -> Begin {
    if let Some(account) = account {
        account.note_refusal(refusal, id);
    }
    let Some(listener) = shared.listeners.http(origin.listener).map(|entry| entry.config().clone()) else {
        return Begin::Close;
    };
    let route = head.map(|head| format!("{}{}", head.authority, head.target.path())).unwrap_or_default();
    let about = About {
        route: &route,
        head_only: head.is_some_and(|head| head.method_kind() == RequestMethod::Head),
        // Behind the head is the next request, and the client may send it.
        frontend: None,
        may_keep: head.is_some_and(|head| {
            head.keep_alive && head.framing.is_empty() && head.version == Version::Http11
        }) && !shared.is_leaving(origin.listener),
    };
    match answer::write(refusal, &listener, shared, about, id) {
        Some((answer, keep)) => Begin::Answer { answer, consumed, keep },
        None => Begin::NoBuffer,
    }
}
