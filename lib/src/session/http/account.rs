//! What is remembered of a request for the access log, until it ends.
//!
//! Its texts are in one piece of memory that the session keeps from request to request. Where nothing is logged
//! nothing is remembered.

use std::borrow::Cow;
use std::sync::Arc;

use kakehi_command::order::{BackendTarget, ClusterId, HttpFrontend};

use super::answer::Refusal;
use super::exchange::Exchange;
use super::{HttpSession, Stage};
use crate::access_log::{Http, Kept, Record, Tls, Trace};
use crate::metrics::Metric;
use crate::net::request_id::RequestId;
use crate::net::secure::Facts;
use crate::net::{Network, Stream};
use crate::protocol::h1::forwarded::NewTrace;
use crate::protocol::h1::head::RequestHead;
use crate::protocol::http::field::Field;
use crate::session::backends::BackendKey;
use crate::session::{Shared, random};

/// More of a field is not logged; see the forms.
const FIELD_BYTES_MAX: usize = 1100;

/// Texts of a request: method, host, path, User-Agent, X-Request-Id, X-Forwarded-For.
const TEXTS: usize = 6;

/// See the module. Times are those of [`Shared::micros`].
#[derive(Debug)]
pub(super) struct Account {
    /// There is something to tell.
    open: bool,
    id: Option<RequestId>,
    texts: Vec<u8>,
    ends: [usize; TEXTS],
    /// Bytes of the head.
    head_bytes: u64,
    /// Its first byte came.
    since: Option<u64>,
    /// It began to wait for room at its cluster.
    queued: Option<u64>,
    queue_time: Option<u64>,
    /// A backend was chosen.
    chosen: Option<u64>,
    connect_time: Option<u64>,
    /// The head of the answer came.
    answered: Option<u64>,
    status: Option<u16>,
    backend: Option<BackendKey>,
    cluster: Option<ClusterId>,
    /// The frontend, if it has tags.
    frontend: Option<Arc<HttpFrontend>>,
    trace: Option<Trace>,
    /// The connection with this number is called so: worked out once, as long as the session is awake.
    named: (u64, RequestId),
    /// Why it ended, if that is known before it does.
    message: Cow<'static, str>,
    upgraded: bool,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            open: false,
            id: None,
            texts: Vec::new(),
            ends: [0; TEXTS],
            head_bytes: 0,
            since: None,
            queued: None,
            queue_time: None,
            chosen: None,
            connect_time: None,
            answered: None,
            status: None,
            backend: None,
            cluster: None,
            frontend: None,
            trace: None,
            named: (0, RequestId::NONE),
            message: Cow::Borrowed(""),
            upgraded: false,
        }
    }
}

impl Account {
    /// A request whose first byte came then.
    pub(super) fn begin(&mut self, since: u64) {
        self.texts.clear();
        let texts = std::mem::take(&mut self.texts);
        *self = Self { texts, since: Some(since), named: self.named, ..Self::default() };
    }

    /// What its head says.
    pub(super) fn note_head(&mut self, head: &RequestHead<'_, '_>, bytes: usize, id: RequestId) {
        let (mut user_agent, mut x_request_id): (&[u8], &[u8]) = (&[], &[]);
        let mut is_forwarded = false;
        for (field, kind) in head.fields.iter().zip(head.kinds) {
            match kind {
                Field::XRequestId => x_request_id = field.value,
                Field::XForwardedFor => is_forwarded = true,
                Field::Other if field.name.eq_ignore_ascii_case(b"user-agent") => user_agent = field.value,
                _ => {}
            }
        }
        let path = head.target.path().as_bytes();
        let all = [head.method.as_bytes(), head.authority.as_bytes(), path, user_agent, x_request_id];
        self.texts.clear();
        for (text, end) in all.into_iter().zip(&mut self.ends) {
            self.texts.extend_from_slice(text.get(..FIELD_BYTES_MAX).unwrap_or(text));
            *end = self.texts.len();
        }
        if is_forwarded {
            self.note_forwarded(head);
        }
        self.ends[TEXTS - 1] = self.texts.len();
        self.head_bytes = bytes as u64;
        self.id = Some(id);
    }

    #[cold]
    fn note_forwarded(&mut self, head: &RequestHead<'_, '_>) {
        let start = self.texts.len();
        let fields = head.fields.iter().zip(head.kinds).filter(|(_, kind)| **kind == Field::XForwardedFor);
        for (field, _) in fields {
            if self.texts.len() > start {
                self.texts.extend_from_slice(b", ");
            }
            let left = FIELD_BYTES_MAX.saturating_sub(self.texts.len() - start);
            self.texts.extend_from_slice(field.value.get(..left).unwrap_or(field.value));
        }
    }

    /// The trace that its backend is told of.
    pub(super) fn note_trace(&mut self, trace: Option<NewTrace>) {
        self.trace = trace.map(|trace| Trace { trace_id: trace.trace_id, span_id: trace.parent_id });
    }

    /// The frontend that it matches.
    pub(super) fn note_frontend(&mut self, frontend: &Arc<HttpFrontend>) {
        if !frontend.tags().is_empty() {
            self.frontend = Some(frontend.clone());
        }
    }

    /// It is answered by ourselves.
    pub(super) fn note_refusal(&mut self, refusal: &Refusal, id: RequestId) {
        self.id.get_or_insert(id);
        self.status = Some(refusal.status);
        if self.message.is_empty() {
            self.message = refusal.message().clone();
        }
        if let Some(cluster) = refusal.cluster_id() {
            self.cluster = Some(cluster.clone());
        }
        if let Some(frontend) = refusal.frontend() {
            self.note_frontend(frontend);
        }
    }

    /// It is closed without a word, on purpose.
    pub(super) fn note_silence(&mut self) {
        self.status = Some(444);
    }

    /// From here on there is something to tell.
    pub(super) fn open(&mut self) {
        self.open = true;
    }

    /// There is nothing to tell any more.
    pub(super) fn shut(&mut self) {
        self.open = false;
        self.message = Cow::Borrowed("");
        self.frontend = None;
        self.cluster = None;
    }

    /// It waits for room.
    pub(super) fn note_wait(&mut self, now: u64) {
        self.queued.get_or_insert(now);
    }

    /// It goes to this backend.
    pub(super) fn note_backend(&mut self, backend: BackendKey, now: u64) {
        self.backend = Some(backend);
        self.chosen.get_or_insert(now);
        if let Some(queued) = self.queued.take() {
            self.queue_time = Some(now.saturating_sub(queued));
        }
    }

    /// The connect took so long.
    pub(super) fn note_connect(&mut self, time: u64) {
        self.connect_time = Some(time);
    }

    /// The backend answers.
    pub(super) fn note_answer(&mut self, status: u16, now: u64) {
        self.status = Some(status);
        self.answered = Some(now);
        self.upgraded = status == 101;
    }

    /// Why it ends.
    pub(super) fn note_end(&mut self, message: &'static str) {
        if self.message.is_empty() {
            self.message = Cow::Borrowed(message);
        }
    }

    fn text(&self, nth: usize) -> &[u8] {
        let start = nth.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default();
        self.ends.get(nth).and_then(|&end| self.texts.get(start..end)).unwrap_or_default()
    }
}

/// Of a TLS connection, for a record.
pub(in crate::session) fn tls_of(facts: &Facts) -> Tls<'_> {
    use rustls::ProtocolVersion;
    let served = facts.served.as_ref();
    Tls {
        version: match facts.version {
            ProtocolVersion::TLSv1_2 => "TLSv1.2",
            ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "",
        },
        cipher: facts.suite.as_str().unwrap_or_default(),
        sni: served.and_then(|served| served.server_name.as_deref()).unwrap_or_default(),
        alpn: facts.protocol.as_deref().and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default(),
    }
}

impl<S: Stream> HttpSession<S> {
    /// An answer of ours before there was a whole head.
    pub(super) fn open_account<N: Network<Stream = S>>(
        &mut self,
        refusal: &Refusal,
        id: RequestId,
        shared: &Shared<N>,
    ) {
        if !shared.access.is_on() {
            return;
        }
        if !self.account.open {
            // Why it ends may be known already.
            let message = std::mem::take(&mut self.account.message);
            self.account.begin(self.head_since.map_or(shared.micros, |since| shared.micros_of(since)));
            self.account.message = message;
            self.account.open();
        }
        self.account.note_refusal(refusal, id);
    }

    /// The request is over: `message` says how, unless more is known.
    pub(super) fn tell_account<N: Network<Stream = S>>(
        &mut self,
        message: &'static str,
        failed: bool,
        shared: &mut Shared<N>,
    ) {
        if !std::mem::take(&mut self.account.open) {
            return;
        }
        let account = &self.account;
        if !shared.access.wants_all() {
            let roll = random(&mut shared.seed);
            if !shared.access.wants(account.status, roll) {
                return;
            }
        }
        if self.session_number == 0 {
            self.session_number = shared.access.next_session(shared.unix_ms);
        }
        if self.account.named.0 != self.session_number {
            self.account.named = (self.session_number, shared.access.session_id(self.session_number));
        }
        let account = &self.account;
        let facts = self.front.facts();
        let exchange = self.exchange.as_ref();
        let cluster = exchange
            .and_then(|exchange| shared.backends.cluster_id(exchange.cluster()))
            .or(account.cluster.as_ref());
        let backend = account.backend.and_then(|key| shared.backends.backend(key));
        let listener = shared.listeners.get(self.listener);
        let protocol = match (facts.is_some(), account.upgraded) {
            (false, false) => "HTTP",
            (true, false) => "HTTPS",
            (false, true) => "WS",
            (true, true) => "WSS",
        };
        let upward = if self.stage == Stage::Tunnel { self.request.written } else { self.request.body_bytes };
        let since = |at: u64| shared.micros.saturating_sub(at);
        let id = account.id.unwrap_or(RequestId::NONE);
        let own_fault = account.status.is_none_or(|status| status >= 500) && account.answered.is_none();
        let record = Record {
            session_id: account.named.1,
            request_id: id,
            client: self.address,
            client_peer: self.counted.peer(),
            listener: listener.map(|entry| entry.config().key().address),
            protocol,
            http: Some(Http {
                method: account.text(0),
                host: account.text(1),
                path: account.text(2),
                status: account.status,
                user_agent: account.text(3),
                x_request_id: account.text(4),
                x_forwarded_for: account.text(5),
                trace: account.trace,
            }),
            cluster: cluster.map(|id| &**id).unwrap_or_default(),
            backend: backend.map(|backend| &**backend.backend_id()).unwrap_or_default(),
            backend_address: backend.and_then(|backend| match backend.target() {
                BackendTarget::Tcp(address) => Some(address),
                BackendTarget::Unix(_) => None,
            }),
            bytes_in: account.head_bytes + upward,
            bytes_out: self.response.written,
            request_time: account.since.map(since).unwrap_or_default(),
            queue_time: account.queue_time.or(account.queued.map(since)),
            connect_time: account.connect_time,
            service_time: account
                .chosen
                .map(|chosen| account.answered.unwrap_or(shared.micros).saturating_sub(chosen)),
            response_time: account.answered.map(since),
            tls: facts.map(tls_of),
            tags: account.frontend.as_ref().map(|frontend| frontend.tags()),
            message: if account.message.is_empty() { message } else { &account.message },
            failed: failed || own_fault,
            retries: exchange.map(Exchange::retries).unwrap_or_default(),
            revision: shared.revision,
        };
        let kept = shared.access.take(&record, shared.now);
        count(kept, shared);
        self.account.shut();
    }
}

impl<S: Stream> HttpSession<S> {
    /// The client could not be spoken to: there will be no request.
    #[cold]
    pub(super) fn tell_failed_handshake<N: Network<Stream = S>>(
        &mut self,
        message: &'static str,
        shared: &mut Shared<N>,
    ) {
        let roll = random(&mut shared.seed);
        // Of a request that came early there is more to tell.
        if self.account.open || !shared.access.wants(None, roll) {
            return;
        }
        let number = shared.access.next_session(shared.unix_ms);
        let id = shared.access.session_id(number);
        let record = Record {
            session_id: id,
            request_id: id,
            client: self.address,
            client_peer: self.counted.peer(),
            listener: shared.listeners.get(self.listener).map(|entry| entry.config().key().address),
            protocol: "HTTPS",
            http: Some(Http::default()),
            cluster: "",
            backend: "",
            backend_address: None,
            bytes_in: 0,
            bytes_out: 0,
            request_time: shared.micros.saturating_sub(shared.micros_of(self.front_active)),
            queue_time: None,
            connect_time: None,
            service_time: None,
            response_time: None,
            tls: None,
            tags: None,
            message,
            failed: true,
            retries: 0,
            revision: shared.revision,
        };
        let kept = shared.access.take(&record, shared.now);
        count(kept, shared);
    }
}

/// Counts what became of a record.
pub(in crate::session) fn count<N: Network>(kept: Kept, shared: &mut Shared<N>) {
    match kept {
        Kept::Taken => shared.metrics.incr(Metric::AccessLogsCount),
        Kept::Dropped => shared.metrics.incr(Metric::AccessLogsDropped),
        Kept::LeftOut => {}
    }
}
