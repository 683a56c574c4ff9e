//! One client connection that speaks HTTP/1, and the back connection that its request uses.
//!
//! ```text
//!             head complete, routed             answer and request over, keep-alive
//!   +------+ ---------------------> +----------+ -----------------------------------> Head
//!   | Head |                        | Exchange | ----> Lingering | over
//!   +------+ <--+                   +----------+ ----> Tunnel ----> over (101)
//!      |        | keep-alive             | no backend, bad answer, timeout: nothing sent yet
//!      | no route, bad head, timeout     v
//!      +------------------------> +-----------+
//!                                 | Answering | ----> Lingering | over
//!                                 +-----------+
//! ```
//! Before its Exchange, or when it needs another backend, a request may have to wait: while its cluster has as much in
//! flight as it may, in the stage Waiting.
//!
//! [`HttpSession::drive`] is the one place that moves between stages. Its helpers pump bytes and report
//! what happened (`Trouble`); what follows from it is decided there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::listener::ListenerIndex;
use crate::metrics::Metric;
use crate::net::buffers::{Buffer, Use};
use crate::net::{Network, Peer, Read, Ready, Stream, Token};
use crate::protocol::h1::body::BodyReader;
use crate::protocol::h1::scan::HeadScanner;
use crate::protocol::http::RequestMethod;

use super::back::Back;
use super::counted::Counted;
use super::flow::{self, Flow, Flush, no_body, take_buffer};
use super::relay::Relay;
use super::table::Resting;
use super::{Drive, Owner, STEPS_PER_TURN_MAX, Shared, Step, secured};

pub(super) mod account;
mod affinity;
pub(crate) mod answer;
mod closing;
mod deadline;
mod decide;
mod early;
mod exchange;
mod hold;
mod lingering;
mod rates;
pub(super) mod request;
mod response;
mod times;
mod tunnel;
mod waiting;

use account::Account;
use answer::{About, Refusal};
use deadline::Patience;
use exchange::{Exchange, Trouble};
use request::{Begin, Origin, Prepared};
use times::Times;

/// How long a client that was not put into the poll is left out of it.
const UNWATCHED_TIME_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    /// Until the cluster has room.
    Waiting,
    Exchange,
    Tunnel,
    Answering,
    Lingering,
}

/// See the module.
#[derive(Debug)]
pub struct HttpSession<S: Stream> {
    index: usize,
    front: Peer<S>,
    address: SocketAddr,
    listener: ListenerIndex,
    stage: Stage,
    /// Client to backend.
    request: Flow<S::Pipe>,
    /// Backend to client.
    response: Flow<S::Pipe>,
    scanner: HeadScanner,
    response_scanner: HeadScanner,
    exchange: Option<Exchange>,
    back: Option<Back<S>>,
    tunnel: Option<Box<Relay>>,
    /// The answer that is being written is a 101: a tunnel follows.
    switches: bool,
    /// Requests that were begun on this connection.
    requests: u64,
    prepared: Prepared,
    /// For the access log.
    account: Account,
    /// Names the connection in the access log, once it has a name there.
    session_number: u64,
    /// When the current head began; none while the connection is idle.
    head_since: Option<Instant>,
    front_active: Instant,
    back_active: Instant,
    discarded: u64,
    /// How much longer the client is waited for in this exchange.
    patience: Patience,
    /// What its kernel had acknowledged of the answer when it was last looked at for want of other signs, and when.
    acknowledged: (Instant, u64),
    /// In the queue of half heads since then.
    half_head: Option<Instant>,
    /// In the queue of those that hold what they can't use since then, when so many bytes of the body had been.
    unused: Option<(Instant, u64)>,
    /// In the queue of those that stall since then, when so many bytes had been written.
    stall: Option<(Instant, u64)>,
    /// In the queue of those that hold a record since then, when so many bytes had come and gone.
    record: Option<(Instant, u64)>,
    /// After the answer of ours that is being written, the connection goes on.
    keep_after_answer: bool,
    /// The request whose head is there waits for the end of the handshake.
    delayed: bool,
    /// The clusters that count the connection.
    counted: Counted,
    timer_at: Option<Instant>,
    /// In the queue of those that wait for a buffer.
    thirsty: [bool; Use::ALL.len()],
    /// In the queue of those that have more to do.
    queued: bool,
    /// Stays awake with nothing to do.
    dozing: bool,
}

impl<S: Stream> HttpSession<S> {
    /// A session without a connection: see [`wake`](Self::wake). Any time will do.
    pub fn vacant(now: Instant) -> Self {
        Self {
            index: 0,
            front: Peer::vacant(),
            address: SocketAddr::from(([0; 4], 0)),
            listener: 0,
            stage: Stage::Head,
            request: Flow::new(),
            response: Flow::new(),
            scanner: HeadScanner::default(),
            response_scanner: HeadScanner::default(),
            exchange: None,
            back: None,
            tunnel: None,
            switches: false,
            requests: 0,
            prepared: Prepared::default(),
            account: Account::default(),
            session_number: 0,
            head_since: None,
            front_active: now,
            back_active: now,
            discarded: 0,
            patience: Patience::new(Duration::MAX),
            acknowledged: (now, 0),
            half_head: None,
            unused: None,
            stall: None,
            record: None,
            keep_after_answer: false,
            delayed: false,
            counted: Counted::default(),
            timer_at: None,
            thirsty: Default::default(),
            queued: false,
            dozing: false,
        }
    }

    /// Takes on a connection that rested, with the index that it has in the worker's table.
    pub fn wake(&mut self, index: usize, resting: Resting<S>) {
        let Resting {
            front,
            address,
            listener,
            requests,
            prepared,
            since,
            timer_at,
            counted,
            session_number,
        } = resting;
        debug_assert!(self.holds_nothing());
        self.index = index;
        self.front = front;
        self.address = address;
        self.listener = listener;
        self.requests = requests;
        self.prepared = prepared;
        self.session_number = session_number;
        self.counted = counted;
        // The time for the first head runs from the accept, for a further one from its first byte.
        self.head_since = (requests == 0).then_some(since);
        self.front_active = since;
        self.back_active = since;
        self.timer_at = timer_at;
        self.half_head = None;
        self.unused = None;
        self.stall = None;
        self.record = None;
    }

    /// What is left of the session if all that it does is to wait for a request.
    pub fn rest(&mut self) -> Option<Resting<S>> {
        self.dozing = false;
        if !self.could_rest() {
            return None;
        }
        Some(Resting {
            front: self.front.take(),
            address: self.address,
            listener: self.listener,
            requests: self.requests,
            prepared: std::mem::take(&mut self.prepared),
            since: self.head_since.unwrap_or(self.front_active),
            timer_at: self.timer_at,
            counted: std::mem::take(&mut self.counted),
            session_number: self.session_number,
        })
    }

    /// Whether all that it does is to wait for a request.
    pub fn could_rest(&self) -> bool {
        let fresh = self.requests == 0;
        self.holds_nothing() && self.head_since.is_some() == fresh
    }

    /// Stays awake for a while. False if it shall not: nothing was asked of it yet.
    pub fn doze(&mut self) -> bool {
        self.dozing = self.requests > 0;
        self.dozing
    }

    /// Whether it stays awake for a while, or did until it had something to do again.
    pub fn is_dozing(&self) -> bool {
        self.dozing
    }

    /// Closes the connection and makes the session fit for another one. False if it holds anything.
    pub fn vacate(&mut self) -> bool {
        self.front = Peer::vacant();
        self.stage = Stage::Head;
        self.scanner = HeadScanner::default();
        self.thirsty = Default::default();
        self.queued = false;
        self.dozing = false;
        self.switches = false;
        self.account.shut();
        self.delayed = false;
        debug_assert!(self.counted.is_empty(), "it was dismissed when the session finished");
        self.holds_nothing()
    }

    fn holds_nothing(&self) -> bool {
        self.stage == Stage::Head
            && self.request.holds_nothing()
            && self.response.holds_nothing()
            && self.exchange.is_none()
            && self.back.is_none()
            && self.tunnel.is_none()
            && !self.queued
            && self.thirsty == [false; Use::ALL.len()]
            && !self.front.holds_record()
    }

    /// The token of the front.
    pub fn token(&self) -> Token {
        self.front.token()
    }

    /// The listener that accepted it.
    pub fn listener(&self) -> ListenerIndex {
        self.listener
    }

    /// An event for the front.
    pub fn front_ready(&mut self, ready: Ready) {
        self.front.note(ready);
    }

    /// An event for the back.
    pub fn back_ready(&mut self, ready: Ready) {
        if let Some(back) = &mut self.back {
            back.peer.note(ready);
        }
    }

    /// A buffer may be free again.
    pub fn quench(&mut self, purpose: Use) {
        self.thirsty[purpose as usize] = false;
    }

    /// Whether its TLS handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        self.front.is_handshaking()
    }

    /// Marks the session as queued for another turn; false if it is already.
    pub fn enqueue(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }

    /// Its turn has come.
    pub fn dequeue(&mut self) {
        self.queued = false;
    }

    /// Whether nothing is in flight: no request, not even a part of one.
    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Head && self.request.is_drained() && self.requests > 0
    }

    /// Moves what can be moved now, within the bounds of one turn.
    pub fn drive<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        for _ in 0..STEPS_PER_TURN_MAX {
            let step = match self.stage {
                Stage::Head => self.step_head(shared),
                Stage::Waiting => self.step_waiting(shared),
                Stage::Exchange => self.step_exchange(shared),
                Stage::Tunnel => self.step_tunnel(shared),
                Stage::Answering => self.step_answering(shared),
                Stage::Lingering => self.step_lingering(shared),
            };
            match step {
                Step::Again => {}
                Step::Wait => return self.settle(shared),
                Step::Yield => return Drive::Yielded,
                Step::End => {
                    self.finish(shared);
                    return Drive::Finished;
                }
            }
        }
        Drive::Yielded
    }

    /// Before waiting: events and the timer must be able to wake the session.
    fn settle<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        if self.stage == Stage::Head {
            self.front.flush();
        }
        if !self.needs_no_watch()
            && let Err(error) = self.front.watch(&mut shared.net)
        {
            log::warn!("client {}: cannot be watched: {error}", self.address);
            self.finish(shared);
            return Drive::Finished;
        }
        self.arm(shared);
        self.note_hold(shared);
        Drive::Waiting
    }

    /// Gives back all that the session holds. Nothing may be done with it afterwards.
    pub fn finish<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        self.tell_account("the client left", true, shared);
        self.drop_back(shared);
        self.end_tunnel(shared);
        self.end_exchange(shared);
        self.counted.dismiss(shared);
        for flow in [&mut self.request, &mut self.response] {
            flow::release(flow, shared);
        }
        self.front.farewell();
        shared.release_token(self.front.token());
    }

    fn thirst<N: Network<Stream = S>>(&mut self, purpose: Use, shared: &mut Shared<N>) {
        if !self.thirsty[purpose as usize] {
            self.thirsty[purpose as usize] = true;
            shared.thirsty[purpose as usize].push_back(self.index);
            shared.metrics.incr(Metric::BufferWaits);
        }
    }

    fn step_head<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        // What came early is looked at once no more is there: with the end of the handshake it is as good as any.
        let is_early = self.front.is_handshaking();
        if !is_early && let Some(step) = self.begin_if_whole(shared) {
            return step;
        }
        if self.request.is_full() && !is_early {
            let refusal = Refusal::new(431, "the request head is larger than a buffer");
            let refusal = refusal.phase("request head").capacity(shared.buffers.buffer_bytes());
            return self.refuse(&refusal, shared);
        }
        self.read_head(shared)
    }

    fn read_head<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        if self.front.is_gone() {
            return Step::End;
        }
        if !self.front.is_readable() {
            if let Some(step) = self.begin_early(shared) {
                return step;
            }
            return if shared.closes_idle() && self.is_idle() { self.retire() } else { Step::Wait };
        }
        let was_early = self.front.is_handshaking();
        if was_early && !shared.begin_handshake_step() {
            return Step::Yield;
        }
        let Some(bytes) = take_buffer(&mut self.request.bytes, Use::Request, shared) else {
            self.thirst(Use::Request, shared);
            return Step::Wait;
        };
        // Full only of what came early, and has to wait.
        let read = if bytes.is_full() { self.front.advance() } else { self.front.read(bytes) };
        self.tell_news(shared);
        match read {
            Read::Bytes(count) => {
                self.front_active = shared.now;
                self.head_since.get_or_insert(shared.now);
                shared.metrics.add(Metric::BytesIn, count);
                Step::Again
            }
            Read::Nothing => {
                if let Some(step) = self.begin_early(shared) {
                    return step;
                }
                if self.request.is_drained() {
                    shared.give_back(&mut self.request.bytes);
                } else if was_early && !self.front.is_handshaking() {
                    return Step::Again;
                }
                if shared.closes_idle() && self.is_idle() { self.retire() } else { Step::Wait }
            }
            Read::Thirsty => {
                self.thirst(Use::Record, shared);
                Step::Wait
            }
            Read::End | Read::Failed(_) => {
                if !self.request.is_drained() {
                    shared.metrics.incr(Metric::HttpCloseRequestIncomplete);
                }
                Step::End
            }
        }
    }

    /// Ends a connection between two requests. Who has begun to send a record would meet a closed socket with its rest, and
    /// lose the last answer to that.
    fn retire(&mut self) -> Step {
        if self.front.holds_record() { self.linger() } else { Step::End }
    }

    /// Looks whether a whole head is there, and starts what it asks for.
    #[inline(always)]
    fn begin<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Option<Step> {
        if self.requests > 0 {
            self.prepared.update(self.address, self.listener, shared);
        }
        let logs = shared.access.is_on();
        if logs {
            // The time for a first head runs from the accept, that of the request from its first byte.
            let since = self.head_since.filter(|_| self.requests > 0).unwrap_or(self.front_active);
            self.account.begin(shared.micros_of(since));
        }
        let tls = self.front.facts();
        let origin = Origin {
            peer: self.address,
            listener: self.listener,
            tls,
            early: self.front.is_handshaking(),
            prepared: &self.prepared,
        };
        let account = logs.then_some(&mut self.account);
        let begin = request::begin(self.request.unparsed(), origin, &mut self.counted, account, shared);
        if logs && !matches!(begin, Begin::Partial | Begin::Wait | Begin::Delay) {
            self.account.open();
        }
        match begin {
            Begin::Partial => None,
            Begin::Forward { head, facts, consumed } => {
                let begun = self.head_since.map_or(shared.micros, |since| shared.micros_of(since));
                let times = Times::new(begun, consumed);
                self.begin_message(shared.now);
                self.request.drop_unparsed(consumed);
                self.request.begin(head, BodyReader::new(facts.framing, facts.relay));
                self.exchange = Some(Exchange::new(facts, times));
                shared.metrics.add(Metric::HttpActiveRequests, 1);
                self.stage = Stage::Exchange;
                Some(match self.attach(shared) {
                    Ok(()) => Step::Again,
                    Err(trouble) => self.resolve(trouble, shared),
                })
            }
            Begin::Answer { answer, consumed, keep } => {
                self.begin_message(shared.now);
                self.request.drop_unparsed(consumed);
                Some(self.begin_answer(answer, keep))
            }
            Begin::Wait => {
                self.thirst(Use::Head, shared);
                Some(Step::Wait)
            }
            Begin::Delay => {
                self.note_delay(shared);
                None
            }
            Begin::NoBuffer => Some(self.refuse_bare(shared)),
            Begin::Close => {
                self.account.note_end("closed without an answer");
                self.tell_account("", false, shared);
                Some(Step::End)
            }
        }
    }

    fn begin_message(&mut self, now: Instant) {
        self.requests += 1;
        self.delayed = false;
        self.acknowledged = (now, self.front.untold());
        self.patience = Patience::new(Duration::MAX);
        self.half_head = None;
        self.stall = None;
        // Of the answer to this one: of the one before, all was.
        self.response.written = 0;
        self.head_since = None;
        self.scanner = HeadScanner::default();
        self.response_scanner = HeadScanner::default();
    }

    fn begin_answer(&mut self, answer: Buffer, keep: bool) -> Step {
        self.response.begin(answer, no_body());
        self.keep_after_answer = keep;
        self.stage = Stage::Answering;
        Step::Again
    }

    /// Answers by ourselves. Only while nothing of another answer was sent.
    fn refuse<N: Network<Stream = S>>(&mut self, refusal: &Refusal, shared: &mut Shared<N>) -> Step {
        shared.give_back(&mut self.response.head);
        shared.give_back(&mut self.response.bytes);
        let id = match &self.exchange {
            Some(exchange) => exchange.id(),
            None => shared.ids.next(shared.unix_ms),
        };
        self.open_account(refusal, id, shared);
        let Some(listener) = shared.listeners.http(self.listener).map(|entry| entry.config().clone()) else {
            return Step::End;
        };
        // The client may have waited for a backend for longer than it may now take to read.
        self.front_active = shared.now;
        let head_only =
            self.exchange.as_ref().is_some_and(|exchange| exchange.method() == RequestMethod::Head);
        let route = self.request.head.as_ref().map(|head| answer::route_of(head.data())).unwrap_or_default();
        let frontend = self.exchange.as_ref().and_then(Exchange::editor).map(|editor| &**editor);
        let may_keep = self.exchange.as_ref().is_some_and(Exchange::may_keep_refused)
            && !shared.is_leaving(self.listener);
        let about = About { route: &route, head_only, may_keep, frontend };
        match answer::write(refusal, &listener, shared, about, id) {
            Some((answer, keep)) => self.begin_answer(answer, keep),
            None => self.refuse_bare(shared),
        }
    }

    /// The answer of last resort, which needs no buffer: sent as far as the socket takes it.
    fn refuse_bare<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        answer::count(503, shared);
        let refusal = Refusal::new(503, "no buffer is free");
        let id = self.exchange.as_ref().map_or_else(|| shared.ids.next(shared.unix_ms), Exchange::id);
        self.open_account(&refusal, id, shared);
        self.response.written = answer::BARE_503.len() as u64;
        self.tell_account("", true, shared);
        let _ = self.front.write(answer::BARE_503, &[]);
        self.linger()
    }

    fn step_answering<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        let before = self.response.written;
        let flush = self.response.flush(&mut self.front, &shared.pipes);
        if self.response.written > before {
            self.front_active = shared.now;
            shared.metrics.add(Metric::BytesOut, self.response.written - before);
        }
        match flush {
            Flush::Blocked => Step::Wait,
            Flush::Thirsty => {
                self.thirst(Use::Record, shared);
                Step::Wait
            }
            Flush::Failed(_) => Step::End,
            Flush::Done => {
                self.tell_account("H1::Complete", false, shared);
                self.end_exchange(shared);
                shared.give_back(&mut self.response.head);
                shared.give_back(&mut self.request.head);
                if self.keep_after_answer { self.next_message(shared) } else { self.linger() }
            }
        }
    }

    /// What follows from trouble in an exchange.
    fn resolve<N: Network<Stream = S>>(&mut self, trouble: Trouble, shared: &mut Shared<N>) -> Step {
        match trouble {
            Trouble::FrontGone => Step::End,
            Trouble::Full if self.may_answer() => self.line_up(shared),
            Trouble::Answer(refusal) if self.may_answer() => {
                self.drop_back(shared);
                self.refuse(&refusal, shared)
            }
            Trouble::Answer(_) | Trouble::Full | Trouble::Cut => self.cut(shared),
        }
    }

    /// Ends an answer of which the client got a part: it must see that this was not the whole.
    fn cut<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        self.tell_account("the answer was cut off", true, shared);
        self.drop_back(shared);
        self.front.leave();
        if self.exchange.as_ref().is_some_and(|exchange| exchange.until_close) {
            // An orderly end would be the end of the answer (RFC 9112 §8).
            self.front.abort();
        }
        Step::End
    }

    /// Whether the client has not seen any byte of an answer to this request.
    fn may_answer(&self) -> bool {
        let informed = self.exchange.as_ref().is_some_and(Exchange::only_informed);
        !self.front.has_begun_write()
            && (self.response.written == 0 || (informed && !self.response.has_output()))
    }

    fn end_exchange<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        self.leave_line(shared);
        self.end_times(shared);
        if let Some(exchange) = self.exchange.take() {
            shared.backends.release(exchange.cluster());
            shared.metrics.add(Metric::HttpActiveRequests, -1);
        }
    }

    /// Closes the back connection.
    fn drop_back<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        self.count_served(shared);
        if let Some(back) = self.back.take() {
            back.close(shared);
        }
    }

    /// The request is not over, or more than it came: closing now would reset our answer away.
    fn has_unread(&self) -> bool {
        self.front.is_readable() || !self.request.is_drained() || !self.request.body.is_complete()
    }

    /// The answer is sent: what becomes of both connections.
    fn complete<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        if std::mem::take(&mut self.switches) {
            return self.begin_tunnel(shared);
        }
        let keep = self.exchange.as_ref().is_some_and(Exchange::keeps_front);
        // A client that did not ask for the end may be sending its next request: bytes that meet a closed
        // socket would reset our answer away.
        let may_send = !self.exchange.as_ref().is_some_and(Exchange::is_last_wanted);
        self.count_completed(shared);
        self.tell_account("H1::Complete", false, shared);
        self.pool_back(shared);
        self.end_exchange(shared);
        flow::release(&mut self.response, shared);
        self.request.release_pipe(&mut shared.pipes);
        shared.give_back(&mut self.request.head);
        if !keep {
            // An answer may end with the connection: it ends where TLS says so, and else was cut.
            return if may_send || self.has_unread() { self.linger() } else { self.part(shared) };
        }
        self.next_message(shared)
    }

    /// The connection goes on with the next request, of which a part may be there.
    fn next_message<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        if self.request.is_drained() {
            shared.give_back(&mut self.request.bytes);
        } else {
            self.head_since = Some(shared.now);
        }
        self.front_active = shared.now;
        self.scanner = HeadScanner::default();
        self.stage = Stage::Head;
        Step::Again
    }

    /// Keeps the back connection for others if it is at a message boundary.
    fn pool_back<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        let secured = self.exchange.as_ref().and_then(|it| shared.backends.secured(it.cluster()));
        let is_current = match (secured, self.back.as_ref().and_then(|back| back.secured.as_ref())) {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            (now, then) => now.is_none() && then.is_none(),
        };
        let reusable = is_current
            && self.exchange.as_ref().is_some_and(Exchange::keeps_back)
            && self.response.is_drained()
            && !shared.draining
            && self.back.as_mut().is_some_and(|back| {
                back.preface.is_none() && !back.peer.is_ending() && back.peer.is_read_out()
            });
        if !reusable {
            self.drop_back(shared);
            return;
        }
        let Some(back) = self.back.take() else { return };
        let token = back.peer.token();
        let idle_max = shared.settings.idle_back_connections_max;
        match shared.backends.put_idle(back.key, back.peer, shared.now, idle_max) {
            None => {
                if let Some(owner) = shared.owners.get_mut(token) {
                    *owner = Owner::Idle(back.key);
                }
                // One that stands already fires in time to be set anew: no timer is moved per request.
                if !shared.timers.is_set(token) {
                    shared.timers.set(token, shared.now + shared.settings.back_idle_timeout);
                }
            }
            Some(refused) => shared.release_token(refused.token()),
        }
    }
}
