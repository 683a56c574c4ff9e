//! A request and its answer, between the front and a back.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use kakehi_command::order::{HeaderEdit, HttpFrontend};

use super::affinity::Sticky;
use super::answer::Refusal;
use super::flow::Flush;
use super::request::Facts;
use super::times::Times;
use super::{Back, HttpSession, Step, flow, no_body, take_buffer};
use crate::metrics::Metric;
use crate::net::buffers::Use;
use crate::net::request_id::RequestId;
use crate::net::{Network, Read, Stream};
use crate::protocol::http::{RequestMethod, Version};
use crate::session::back::{Client, Speaks};
use crate::session::backends::{Ask, ClusterKey, NoBackend, Outcome, Reuse, Tried};
use crate::session::waiting::PlaceKey;
use crate::session::{Owner, Shared, random};

/// Once this part of all buffers is in use, as a divisor, no head is kept only for being sent again. Far from
/// where clients have to wait for buffers, which those would never give back who wait themselves.
const KEPT_HEADS_DIVISOR: usize = 4;

/// What went wrong in an exchange. Whether it can still be told to the client is decided elsewhere.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The client is gone.
    FrontGone,
    /// To be answered by ourselves if nothing of an answer was sent, else cut.
    Answer(Refusal),
    /// There is no room at its cluster now.
    Full,
    /// The client must not take what it got for the whole: close without another word.
    Cut,
}

/// How far the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// No final head yet.
    Awaited,
    /// The head came; its body flows.
    Flowing,
    /// All of it came.
    Over,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Exchange {
    facts: Facts,
    pub(super) progress: Progress,
    /// A byte of an answer came from the back: the request was processed, or may have been.
    pub(super) answered: bool,
    /// A part of the final head came, or of a 1xx before it.
    pub(super) in_head: bool,
    /// A byte of the request's body came.
    body_began: bool,
    /// How many 1xx heads came from the back.
    pub(super) informational: usize,
    /// The end of the connection is the end of the answer.
    pub(super) until_close: bool,
    /// The whole request was written, or its rest is not wanted.
    pub(super) request_over: bool,
    /// The back takes no more of the request; its answer may still come.
    pub(super) sink_failed: bool,
    /// The client may send another request after this one.
    pub(super) keep_front: bool,
    /// The back may serve another request after this one.
    pub(super) keep_back: bool,
    /// Connects made for this request.
    attempts: u8,
    /// Backends that could not be connected to.
    tried: Tried,
    /// A connection that ended without an answer cost a replay already: only fresh connections from now on.
    replayed: bool,
    /// Where it waits for room, if it does.
    place: Option<PlaceKey>,
    /// Until when it waits, once it had to.
    waits_until: Option<Instant>,
    /// When it took its place in line.
    lined_up: Option<Instant>,
    /// That was a fresh one: only to a backend on which the request was not tried.
    elsewhere: bool,
    /// Nothing may follow it: no request, and no tunnel.
    last: bool,
    pub(super) times: Times,
}

impl Exchange {
    pub(super) fn new(facts: Facts, times: Times) -> Self {
        let keep_front = facts.keep_alive;
        Self {
            facts,
            progress: Progress::Awaited,
            answered: false,
            in_head: false,
            body_began: false,
            informational: 0,
            until_close: false,
            request_over: false,
            sink_failed: false,
            keep_front,
            keep_back: true,
            attempts: 0,
            tried: Tried::default(),
            replayed: false,
            place: None,
            waits_until: None,
            lined_up: None,
            elsewhere: false,
            last: false,
            times,
        }
    }

    /// Nothing may follow it, on either side.
    pub(super) fn make_last(&mut self) {
        self.last = true;
        self.keep_front = false;
        self.keep_back = false;
    }

    /// Whether a tunnel may follow it.
    pub(super) fn may_switch(&self) -> bool {
        !self.last && self.is_request_sent()
    }

    /// Whether it was on its way to a backend before.
    pub(super) fn had_its_turn(&self) -> bool {
        self.attempts > 0 || self.replayed
    }

    /// It waits there from now on, and until then at most; less if it waited before.
    pub(super) fn wait_in(&mut self, place: PlaceKey, until: Instant, now: Instant) {
        self.place = Some(place);
        self.lined_up = Some(now);
        self.waits_until.get_or_insert(until);
    }

    /// Where it waits, and until when, if it does.
    pub(super) fn waits(&self) -> Option<(PlaceKey, Instant)> {
        self.place.zip(self.waits_until)
    }

    /// Since when it waits, if it does.
    pub(super) fn lined_up(&self) -> Option<Instant> {
        self.lined_up.filter(|_| self.place.is_some())
    }

    /// It does not wait any more. Gives the place that is to be left.
    pub(super) fn leave(&mut self) -> Option<PlaceKey> {
        self.place.take()
    }

    /// Connects and sendings beyond the first.
    pub(super) fn retries(&self) -> u32 {
        u32::from(self.attempts.saturating_sub(1)) + u32::from(self.replayed)
    }

    pub(super) fn id(&self) -> RequestId {
        self.facts.id
    }

    pub(super) fn cluster(&self) -> ClusterKey {
        self.facts.cluster
    }

    /// The protocol that the client would change to.
    pub(super) fn upgrade(&self) -> Option<&[u8]> {
        self.facts.upgrade.as_deref()
    }

    /// The frontend, if it has a say in the answer.
    pub(super) fn editor(&self) -> Option<&Arc<HttpFrontend>> {
        self.facts.editor.as_ref()
    }

    /// What the operator adds to the answer and removes from it.
    pub(super) fn edits(&self) -> &[HeaderEdit] {
        let policy = self.facts.editor.as_deref().and_then(HttpFrontend::policy);
        policy.map(|policy| policy.header_edits()).unwrap_or_default()
    }

    /// What its sticky cookie says, where the cluster has one.
    pub(super) fn sticky(&self) -> Option<Sticky> {
        self.facts.sticky
    }

    pub(super) fn method(&self) -> RequestMethod {
        self.facts.method
    }

    pub(super) fn version(&self) -> Version {
        self.facts.version
    }

    /// Whether all of the request went to the back.
    pub(super) fn is_request_sent(&self) -> bool {
        self.request_over && !self.sink_failed
    }

    /// Whether 1xx heads are all that came.
    pub(super) fn only_informed(&self) -> bool {
        self.informational > 0 && self.progress == Progress::Awaited
    }

    /// Whether the client said that it sends nothing after this request.
    pub(super) fn is_last_wanted(&self) -> bool {
        !self.facts.keep_alive
    }

    /// Whether the client may send another request if this one is not served: all of it was read. Behind one for an
    /// upgrade there may be something else already.
    pub(super) fn may_keep_refused(&self) -> bool {
        let facts = &self.facts;
        facts.keep_alive
            && facts.framing.is_empty()
            && facts.upgrade.is_none()
            && facts.version == Version::Http11
    }

    /// Whether the client waits for a word before it sends the body (RFC 9110 §10.1.1).
    pub(super) fn owes_continue(&self) -> bool {
        self.facts.expect_continue
            && !self.body_began
            && self.informational == 0
            && self.progress == Progress::Awaited
    }

    pub(super) fn keeps_front(&self) -> bool {
        self.keep_front && self.request_over && !self.sink_failed
    }

    pub(super) fn keeps_back(&self) -> bool {
        self.keep_back && self.request_over && !self.sink_failed && self.progress == Progress::Over
    }
}

impl<S: Stream> HttpSession<S> {
    #[inline(always)]
    pub(super) fn step_exchange<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        if self.front.is_gone() {
            return self.resolve(Trouble::FrontGone, shared);
        }
        if self.front.is_handshaking() && self.front.is_readable() && !self.go_on_with_handshake(shared) {
            return self.resolve(Trouble::FrontGone, shared);
        }
        let moved = self
            .pump_request(shared)
            .and_then(|sent| self.pump_response(shared).map(|received| sent || received));
        match moved {
            Err(trouble) => self.resolve(trouble, shared),
            Ok(_) if self.is_answered() => self.complete(shared),
            Ok(true) => Step::Again,
            Ok(false) => {
                self.forgo_replay(shared);
                Step::Wait
            }
        }
    }

    /// Drops what came behind the request, which is then the last one of its connection. False if it is not all
    /// there, or what came may belong to a tunnel.
    pub(super) fn forgo_rest<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> bool {
        let Some(exchange) = self.exchange.as_mut().filter(|it| it.request_over && it.upgrade().is_none())
        else {
            return false;
        };
        exchange.keep_front = false;
        shared.give_back(&mut self.request.bytes);
        true
    }

    /// A head that was sent is kept for being sent again, but a wait may be long, for the client's body or for
    /// a backend that thinks: once buffers are no longer plenty, others have more use for it.
    fn forgo_replay<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        let plenty = shared.buffers.in_use() < shared.buffers.capacity() / KEPT_HEADS_DIVISOR;
        if !plenty && !self.request.has_output() {
            shared.give_back(&mut self.request.head);
        }
    }

    fn is_answered(&self) -> bool {
        !self.response.has_output()
            && self.exchange.as_ref().is_some_and(|exchange| exchange.progress == Progress::Over)
    }

    /// Gives the exchange a back connection: a pooled one, else a new one.
    pub(super) fn attach<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Result<(), Trouble> {
        let Some(exchange) = self.exchange.as_mut() else { return Err(Trouble::Cut) };
        let attempts_max = shared
            .backends
            .cluster(exchange.cluster())
            .and_then(|cluster| cluster.max_connection_attempts())
            .unwrap_or(shared.settings.connection_attempts_max);
        self.back_active = shared.now;
        let is_first_look = !exchange.had_its_turn() && exchange.place.is_none();
        if is_first_look {
            shared.backends.pay_for_retries(exchange.cluster(), shared.now);
        }
        if is_first_look && shared.backends.has_line(exchange.cluster()) {
            return Err(Trouble::Full);
        }
        loop {
            let ask = Ask {
                source: self.address.ip(),
                affinity: exchange.facts.affinity,
                sticky: exchange.facts.sticky.and_then(|sticky| sticky.cookie),
                tried: exchange.tried,
                random: random(&mut shared.seed),
            };
            let cluster = exchange.cluster();
            let key = match shared.backends.choose(cluster, &ask, shared.now) {
                Ok(key) => key,
                Err(NoBackend::Full) => return Err(Trouble::Full),
                Err(reason) => {
                    shared.metrics.incr(Metric::HttpFailedBackendMatching);
                    shared.backends.count_of(cluster, Metric::HttpFailedBackendMatching);
                    let refusal = Refusal::new(503, reason.message());
                    return Err(Trouble::Answer(refusal.cluster(shared.backends.cluster_id(cluster))));
                }
            };
            if exchange.elsewhere && exchange.tried.has(key) {
                shared.backends.forgo(key);
                let refusal = Refusal::new(502, "no other backend is left")
                    .cluster(shared.backends.cluster_id(cluster))
                    .backend(shared.backends.backend(key).map(|backend| &**backend.backend_id()));
                return Err(Trouble::Answer(refusal));
            }
            let reuse = if exchange.facts.idempotent { Reuse::Any } else { Reuse::Lasting };
            let introduces =
                shared.backends.cluster(cluster).is_some_and(|config| config.sends_proxy_header().is_some());
            let pooled = if exchange.replayed || introduces { None } else { shared.take_pooled(key, reuse) };
            if let Some(peer) = pooled {
                shared.metrics.incr(Metric::BackendPoolHit);
                if let Some(owner) = shared.owners.get_mut(peer.token()) {
                    *owner = Owner::Back(self.index);
                }
                let since = shared.now;
                let secured = shared.backends.secured(cluster).cloned();
                let (reused, connected, stands) = (true, true, true);
                let preface = None;
                self.back = Some(Back { peer, key, secured, reused, connected, stands, preface, since });
                break;
            }
            if exchange.attempts >= attempts_max {
                shared.backends.forgo(key);
                shared.metrics.incr(Metric::BackendConnectRetriesExhausted);
                let refusal = Refusal::new(503, "no backend could be connected to")
                    .cluster(shared.backends.cluster_id(cluster))
                    .backend(shared.backends.backend(key).map(|backend| &**backend.backend_id()));
                return Err(Trouble::Answer(refusal));
            }
            if exchange.attempts > 0 && !shared.backends.may_retry(cluster, shared.now) {
                shared.backends.forgo(key);
                shared.metrics.incr(Metric::BackendRetryBudgetExhausted);
                let refusal =
                    Refusal::new(503, "no backend could be connected to, and the cluster may not try more")
                        .cluster(shared.backends.cluster_id(cluster));
                return Err(Trouble::Answer(refusal));
            }
            exchange.attempts += 1;
            shared.metrics.incr(Metric::BackendPoolMiss);
            let client = Client { address: self.address, listener: self.listener, told: None };
            if let Some(back) = Back::connect(self.index, cluster, key, Speaks::Http, &client, shared) {
                self.back = Some(back);
                break;
            }
            shared.backends.forgo(key);
            exchange.tried.add(key);
        }
        if let Some(back) = self.back.as_ref().filter(|_| shared.access.is_on()) {
            self.account.note_backend(back.key, shared.micros);
        }
        Ok(())
    }

    /// The connect failed or took too long: another backend, if one is left.
    pub(super) fn reconnect<N: Network<Stream = S>>(
        &mut self,
        shared: &mut Shared<N>,
    ) -> Result<(), Trouble> {
        if let Some(key) = self.back.as_ref().map(|back| back.key) {
            shared.connect_failed(key);
            if let Some(exchange) = self.exchange.as_mut() {
                exchange.tried.add(key);
            }
        }
        self.drop_back(shared);
        self.attach(shared)
    }

    /// Client to back. `Ok(true)` if something moved.
    fn pump_request<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Result<bool, Trouble> {
        let Some(exchange) = self.exchange.as_mut() else { return Err(Trouble::Cut) };
        if exchange.request_over {
            return Ok(false);
        }
        if let Err(error) = self.request.advance() {
            shared.metrics.incr(Metric::HttpFrontendParseErrors);
            let refusal = Refusal::new(400, error.to_string()).phase("request body");
            return self.refuse_body(refusal, shared);
        }
        exchange.body_began |= !self.request.is_drained();
        if self.request.body.announced() > exchange.facts.body_bytes_max {
            let refusal = Refusal::too_large(exchange.facts.body_bytes_max);
            return self.refuse_body(refusal, shared);
        }
        let mut moved = false;
        if self.request.has_output() {
            moved |= self.flush_request(shared)?;
        }
        let Some(exchange) = self.exchange.as_mut() else { return Err(Trouble::Cut) };
        if self.request.body.is_complete() {
            if !self.request.has_output() || exchange.sink_failed {
                exchange.request_over = true;
                if self.request.is_drained() {
                    shared.give_back(&mut self.request.bytes);
                }
            }
            return Ok(moved);
        }
        if self.request.is_full() || exchange.sink_failed {
            return Ok(moved);
        }
        Ok(self.read_request_body(shared)? || moved)
    }

    /// The rest of the body is refused. An answer that the client is getting already goes on: it was told that it
    /// is the last one.
    fn refuse_body<N: Network<Stream = S>>(
        &mut self,
        refusal: Refusal,
        shared: &mut Shared<N>,
    ) -> Result<bool, Trouble> {
        let may_answer = self.may_answer();
        let Some(exchange) = self.exchange.as_mut() else { return Err(Trouble::Cut) };
        if may_answer {
            return Err(Trouble::Answer(refusal.cluster(shared.backends.cluster_id(exchange.cluster()))));
        }
        exchange.sink_failed = true;
        exchange.request_over = true;
        flow::release(&mut self.request, shared);
        self.request.begin_body(no_body());
        // The backend is not told by an end of our direction: many take that for the client's having left.
        Ok(true)
    }

    fn flush_request<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Result<bool, Trouble> {
        let (Some(back), Some(exchange)) = (self.back.as_mut(), self.exchange.as_mut()) else {
            return Err(Trouble::Cut);
        };
        if exchange.sink_failed {
            return Ok(false);
        }
        match back.send_preface(&mut shared.metrics) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => {
                log::debug!("the PROXY header to a backend: {error}");
                return self.reconnect(shared).map(|()| true);
            }
        }
        let before = self.request.written;
        let flush = self.request.flush(&mut back.peer, &shared.pipes);
        let written = self.request.written - before;
        if written > 0 {
            self.back_active = shared.now;
            shared.metrics.add(Metric::BackBytesOut, written);
            if before == 0 {
                exchange.times.sent(shared.micros);
            }
            if !back.connected {
                back.connected = true;
                shared.connected(back.key, back.since);
                self.account.note_connect(shared.micros.saturating_sub(shared.micros_of(back.since)));
            }
        }
        match flush {
            Flush::Thirsty => {
                self.thirst(Use::Record, shared);
                Ok(written > 0)
            }
            Flush::Done | Flush::Blocked => {
                if !self.could_replay() && !self.request.has_output() {
                    shared.give_back(&mut self.request.head);
                }
                Ok(written > 0)
            }
            Flush::Failed(error) if !back.connected => {
                log::debug!("connect to a backend failed: {error}");
                self.reconnect(shared).map(|()| true)
            }
            Flush::Failed(_) => {
                // It may have answered before it stopped listening: the read side tells.
                exchange.sink_failed = true;
                back.peer.note(crate::net::Ready { readable: true, read_closed: true, ..Default::default() });
                Ok(true)
            }
        }
    }

    fn read_request_body<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Result<bool, Trouble> {
        if !self.front.is_readable() {
            return Ok(false);
        }
        let mut spliced = None;
        let can_splice =
            self.front.can_splice() && self.back.as_ref().is_some_and(|back| back.peer.can_splice());
        if can_splice && self.request.may_splice(&shared.pipes) {
            shared.give_back(&mut self.request.bytes);
            spliced = self.request.splice(&mut self.front, &mut shared.net, &mut shared.pipes);
        }
        if let Some(Read::Bytes(count)) = spliced {
            shared.metrics.add(Metric::BytesSpliced, count);
        }
        let read = match spliced {
            Some(read) => read,
            None => {
                let Some(bytes) = take_buffer(&mut self.request.bytes, Use::Request, shared) else {
                    self.thirst(Use::Request, shared);
                    return Ok(false);
                };
                self.front.read(bytes)
            }
        };
        match read {
            Read::Bytes(count) => {
                self.front_active = shared.now;
                shared.metrics.add(Metric::BytesIn, count);
                Ok(true)
            }
            Read::Nothing => {
                if self.request.is_drained() {
                    shared.give_back(&mut self.request.bytes);
                }
                Ok(false)
            }
            Read::Thirsty => {
                self.thirst(Use::Record, shared);
                Ok(false)
            }
            Read::End | Read::Failed(_) => {
                shared.metrics.incr(Metric::HttpCloseRequestIncomplete);
                Err(Trouble::FrontGone)
            }
        }
    }

    /// Whether the request could be sent again on another connection: nothing was answered on this one, and all
    /// that was sent is still there.
    pub(super) fn could_replay(&self) -> bool {
        let (Some(back), Some(exchange)) = (&self.back, &self.exchange) else { return false };
        // That a fresh connection was closed tells of no reason why the request would not have been seen.
        let excused = back.reused || exchange.facts.idempotent;
        excused && !exchange.answered && !exchange.replayed && self.request.is_repeatable()
    }

    /// Whether it may, now that the back has ended: the method allows it (RFC 9110 §9.2.2), nothing was sent,
    /// or of what was sent the backend's kernel acknowledged nothing, so that no backend has seen it.
    fn may_replay(&mut self) -> bool {
        if !self.could_replay() {
            return false;
        }
        let (Some(back), Some(exchange)) = (&mut self.back, &self.exchange) else { return false };
        let written = self.request.written;
        exchange.facts.idempotent
            || written == 0
            // Of records no byte count tells what of it was seen.
            || (!back.peer.is_secured() && back.peer.unacknowledged().is_some_and(|unseen| unseen >= written))
    }

    /// The back ended before it answered: replay, or tell the client.
    pub(super) fn back_ended<N: Network<Stream = S>>(
        &mut self,
        shared: &mut Shared<N>,
    ) -> Result<bool, Trouble> {
        if self.back.as_ref().is_some_and(|back| !back.connected) {
            return self.reconnect(shared).map(|()| true);
        }
        let fresh = self.back.as_ref().is_some_and(|back| !back.reused);
        let unanswered = "the backend closed the connection without an answer";
        let refusal = Trouble::Answer(self.blame(502, unanswered, shared));
        let again = self.may_replay();
        // A kept connection may end at any time.
        if fresh || !again {
            self.note_failure(shared);
        }
        if !again {
            return Err(refusal);
        }
        let key = self.back.as_ref().map(|back| back.key);
        self.drop_back(shared);
        self.request.rewind();
        if let (Some(exchange), Some(key)) = (self.exchange.as_mut(), key) {
            exchange.replayed = true;
            exchange.sink_failed = false;
            exchange.request_over = false;
            if fresh {
                exchange.elsewhere = true;
                exchange.tried.add(key);
            } else {
                shared.backends.was_stale(key, shared.now);
            }
        }
        if !fresh {
            shared.metrics.incr(Metric::BackendRetryStaleUpstream);
            return self.attach(shared).map(|()| true);
        }
        match self.attach(shared) {
            Ok(()) => {
                shared.metrics.incr(Metric::BackendRetryUnanswered);
                Ok(true)
            }
            // What the client is told is what became of its request, not why it was not tried once more.
            Err(Trouble::Answer(_)) => Err(refusal),
            Err(other) => Err(other),
        }
    }

    /// The backend did not answer.
    pub(super) fn note_failure<N: Network<Stream = S>>(&self, shared: &mut Shared<N>) {
        if let Some(back) = &self.back {
            shared.note_outcome(back.key, Outcome::Failed);
        }
    }

    /// An answer of ours that names cluster and backend.
    pub(super) fn blame<N: Network<Stream = S>>(
        &self,
        status: u16,
        message: impl Into<Cow<'static, str>>,
        shared: &Shared<N>,
    ) -> Refusal {
        let backend = self.back.as_ref().and_then(|back| shared.backends.backend(back.key));
        let refusal = Refusal::new(status, message).backend(backend.map(|backend| &**backend.backend_id()));
        let cluster = self.exchange.as_ref().map(Exchange::cluster);
        refusal.cluster(cluster.and_then(|cluster| shared.backends.cluster_id(cluster)))
    }
}
