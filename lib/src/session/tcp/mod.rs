//! One client connection of a TCP listener, and the connection to a backend that its bytes go to.
//!
//! ```text
//!            frontends have names, no TLS
//!   Accepted ----------------------------> Preread --+
//!     |  \                                           |  a route
//!     |   +---> Handshake ---------------------------+-----------> Connect ------> Relay ----> over
//!     |   TLS                                        |              |  ^             |
//!     +----------------------------------------------+              +--+             v
//!       one frontend for all                             the next backend      Lingering | over
//! ```
//! Before Connect it may have to wait: while its cluster has as many connections as it may, in the stage Waiting.
//!
//! Whatever refuses a connection on the way ends it: with an alert, where the client speaks TLS, and else without a
//! word. What was read to find its route goes to the backend as it came.
//!
//! [`TcpSession::drive`] is the one place that moves between stages; a step says which is next.

use std::net::SocketAddr;
use std::time::Instant;

use super::back::Back;
use super::backends::{BackendKey, ClusterKey, Tried};
use super::counted::Counted;
use super::flow::{self, Flow, take_buffer};
use super::opening::Told;
use super::relay::Relay;
use super::waiting::PlaceKey;
use super::{Drive, STEPS_PER_TURN_MAX, Shared, Step, secured};
use crate::listener::ListenerIndex;
use crate::metrics::Metric;
use crate::net::buffers::Use;
use crate::net::secure::News;
use crate::net::{Network, Peer, Read, Ready, Stream, Token};
use crate::protocol::client_hello::Scanner;

mod account;
mod connect;
mod deadline;
mod hold;
mod preread;
mod rates;
mod refusal;
mod waiting;

use account::Account;
use refusal::Refusal;

/// What is discarded after our last byte, so that a client that still sends reads it instead of a reset.
const LINGERING_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Accepted,
    Preread,
    Handshake,
    Waiting,
    Connect,
    Relay,
    Lingering,
}

/// See the module.
#[derive(Debug)]
pub struct TcpSession<S: Stream> {
    index: usize,
    front: Peer<S>,
    address: SocketAddr,
    /// What its PROXY header said besides, if it had one.
    told: Option<Box<Told>>,
    listener: ListenerIndex,
    stage: Stage,
    /// Client to backend.
    up: Flow<S::Pipe>,
    /// Backend to client.
    down: Flow<S::Pipe>,
    relay: Relay,
    /// Its TLS, if it speaks that, is not ours.
    passed_through: bool,
    /// How far the client's hello came.
    scanner: Scanner,
    back: Option<Back<S>>,
    /// Whether the connect to the backend succeeded, once that is known.
    stands: Option<bool>,
    /// Where it goes; held.
    cluster: Option<ClusterKey>,
    /// Whether that cluster counts it.
    counted_by: Counted,
    /// Connects made.
    attempts: u8,
    /// Backends that could not be connected to.
    tried: Tried,
    /// Where it waits for room, if it does.
    place: Option<PlaceKey>,
    /// Until when it waits, once it had to.
    waits_until: Option<Instant>,
    /// When it was accepted.
    since: Instant,
    /// When anything moved last; while it lingers, when that began.
    active: Instant,
    /// What moved last came from the client: an answer may be under way.
    awaits_answer: bool,
    /// What both kernels had acknowledged when they were last looked at for want of other signs.
    acknowledged: u64,
    discarded: u64,
    /// In the queue of half hellos.
    half_hello: bool,
    /// In the queue of those that stall since then, when so many bytes had been written.
    stall: Option<(Instant, u64)>,
    /// In the queue of those that hold a record since then, when so many bytes had come and gone.
    record: Option<(Instant, u64)>,
    /// For the access log.
    account: Account,
    /// It is counted among the open ones.
    counted: bool,
    timer_at: Option<Instant>,
    /// In the queue of those that wait for a buffer.
    thirsty: [bool; Use::ALL.len()],
    /// In the queue of those that have more to do.
    queued: bool,
}

impl<S: Stream> TcpSession<S> {
    /// A connection that was just accepted, with the index that it has in the worker's table.
    pub fn accepted(
        index: usize,
        front: Peer<S>,
        address: SocketAddr,
        listener: ListenerIndex,
        now: Instant,
        told: Option<Box<Told>>,
    ) -> Self {
        Self {
            index,
            front,
            address,
            told,
            listener,
            stage: Stage::Accepted,
            up: Flow::new(),
            down: Flow::new(),
            relay: Relay::default(),
            passed_through: false,
            scanner: Scanner::default(),
            back: None,
            stands: None,
            cluster: None,
            counted_by: Counted::default(),
            attempts: 0,
            tried: Tried::default(),
            place: None,
            waits_until: None,
            since: now,
            active: now,
            awaits_answer: false,
            acknowledged: 0,
            discarded: 0,
            half_hello: false,
            stall: None,
            record: None,
            account: Account::default(),
            counted: false,
            timer_at: None,
            thirsty: Default::default(),
            queued: false,
        }
    }

    /// The token of the front.
    pub fn token(&self) -> Token {
        self.front.token()
    }

    /// Whether its TLS handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        self.front.is_handshaking()
    }

    /// The backend that it has a connection to.
    pub fn backend(&self) -> Option<BackendKey> {
        self.back.as_ref().map(|back| back.key)
    }

    /// The listener that accepted it.
    pub fn listener(&self) -> ListenerIndex {
        self.listener
    }

    /// An event for the front.
    pub fn front_ready(&mut self, ready: Ready) {
        self.front.note(ready);
    }

    /// An event for the back: the first one tells how the connect went.
    pub fn back_ready(&mut self, ready: Ready) {
        let Some(back) = &mut self.back else { return };
        back.peer.note(ready);
        if ready.gone || ready.writable {
            self.stands.get_or_insert(!ready.gone);
        }
    }

    /// A buffer may be free again.
    pub fn quench(&mut self, purpose: Use) {
        self.thirsty[purpose as usize] = false;
    }

    /// Marks the session as queued for another turn; false if it is already.
    pub fn enqueue(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }

    /// Its turn has come.
    pub fn dequeue(&mut self) {
        self.queued = false;
    }

    /// Moves what can be moved now, within the bounds of one turn.
    pub fn drive<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        for _ in 0..STEPS_PER_TURN_MAX {
            let step = match self.stage {
                Stage::Accepted => self.step_accepted(shared),
                Stage::Preread => self.step_preread(shared),
                Stage::Handshake => self.step_handshake(shared),
                Stage::Waiting => self.step_waiting(shared),
                Stage::Connect => self.step_connect(shared),
                Stage::Relay => self.step_relay(shared),
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

    /// Before waiting: what is to go with a next write goes now, and events and the timer must be able to wake the
    /// session.
    fn settle<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        self.front.flush();
        if self.stage == Stage::Relay
            && let Some(back) = &mut self.back
        {
            back.peer.flush();
        }
        if let Err(error) = self.front.watch(&mut shared.net) {
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
        self.tell_account(shared);
        self.drop_back(shared);
        self.leave_line(shared);
        self.end_preread(shared);
        self.counted_by.dismiss(shared);
        if let Some(cluster) = self.cluster.take() {
            shared.backends.release(cluster);
        }
        if std::mem::take(&mut self.counted) {
            shared.metrics.decr(Metric::ProtocolTcp);
        }
        for flow in [&mut self.up, &mut self.down] {
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

    fn step_accepted<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        self.counted = true;
        shared.metrics.incr(Metric::ProtocolTcp);
        if self.is_over_listeners_rate(shared) {
            return self.refuse(Refusal::OverRate, shared);
        }
        if self.front.is_secured() {
            self.stage = Stage::Handshake;
            return Step::Again;
        }
        let Some(names) = shared.listeners.tcp_routes(self.listener) else {
            return self.refuse(Refusal::NoRoute, shared);
        };
        let Some(route) = names.any() else { return self.begin_preread(shared) };
        let cluster = route.cluster;
        self.account.note_frontend(&route.frontend);
        self.begin_connect(cluster, shared)
    }

    fn step_handshake<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        if self.front.is_gone() {
            return Step::End;
        }
        if !self.front.is_readable() {
            return Step::Wait;
        }
        if !shared.begin_handshake_step() {
            return Step::Yield;
        }
        let Some(bytes) = take_buffer(&mut self.up.bytes, Use::Request, shared) else {
            self.thirst(Use::Request, shared);
            return Step::Wait;
        };
        let read = self.front.read(bytes);
        if let Some(news) = self.front.take_news() {
            secured::tell(news, &self.front, (self.address, self.since), shared);
            if let News::Failed(failure) = news {
                self.account.failed_handshake = Some(failure.told());
            }
        }
        if self.up.is_drained() {
            shared.give_back(&mut self.up.bytes);
        }
        match read {
            Read::Thirsty => {
                self.thirst(Use::Record, shared);
                Step::Wait
            }
            Read::End | Read::Failed(_) => Step::End,
            Read::Bytes(count) => {
                shared.metrics.add(Metric::BytesIn, count);
                self.route_secured(shared)
            }
            Read::Nothing if self.front.is_handshaking() => Step::Wait,
            Read::Nothing => self.route_secured(shared),
        }
    }

    /// By the name that the client asked for and the protocol that was agreed on.
    fn route_secured<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        let facts = self.front.facts();
        let served = facts.and_then(|facts| facts.served.as_ref());
        let name = served.and_then(|served| served.server_name.as_deref()).unwrap_or_default();
        let protocol = facts.and_then(|facts| facts.protocol.as_deref());
        let Some(names) = shared.listeners.tcp_routes(self.listener) else {
            return self.refuse(Refusal::NoRoute, shared);
        };
        let route = match names.any() {
            Some(route) => Ok(route),
            None => names.route(name, protocol.into_iter()),
        };
        let Ok(route) = route else { return self.refuse(Refusal::NoRoute, shared) };
        let cluster = route.cluster;
        self.account.note_frontend(&route.frontend);
        self.begin_connect(cluster, shared)
    }

    fn step_relay<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        let Some(back) = self.back.as_mut() else { return Step::End };
        let relayed = self.relay.step((&mut self.front, &mut self.up), (back, &mut self.down), shared);
        for purpose in Use::ALL {
            if relayed.wanted[purpose as usize] {
                self.thirst(purpose, shared);
            }
        }
        if relayed.up || relayed.down {
            self.active = shared.now;
            self.awaits_answer = relayed.up;
        }
        if self.relay.is_over() {
            self.account.complete = true;
            // The client may not know yet that nobody listens.
            return if self.relay.is_backend_lost() { self.linger(shared) } else { Step::End };
        }
        if relayed.moved {
            return Step::Again;
        }
        let quiet = self.up.is_drained() && self.down.is_drained() && !self.awaits_answer;
        if shared.closes_idle() && quiet { Step::End } else { Step::Wait }
    }

    /// The connection comes to nothing.
    fn refuse<N: Network<Stream = S>>(&mut self, refusal: Refusal, shared: &mut Shared<N>) -> Step {
        log::debug!("client {}: {refusal}", self.address);
        self.account.refusal = Some(refusal);
        if let Some(metric) = refusal.metric() {
            shared.metrics.incr(metric);
        }
        self.leave_line(shared);
        self.end_preread(shared);
        match refusal.alert().filter(|_| self.passed_through) {
            Some(alert) => {
                let _ = self.front.write(&alert, &[]);
                self.linger(shared)
            }
            None if self.front.is_secured() => self.linger(shared),
            None => Step::End,
        }
    }

    /// Ends our direction. A client that may still be sending is read out for a while.
    fn linger<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        if self.front.is_gone() && self.stage != Stage::Relay {
            return Step::End;
        }
        self.account.bytes = Some((self.up.written, self.down.written));
        self.drop_back(shared);
        flow::release(&mut self.down, shared);
        self.up.release_pipe(&mut shared.pipes);
        self.front.shutdown_write();
        self.active = shared.now;
        self.discarded = 0;
        self.stage = Stage::Lingering;
        Step::Again
    }

    fn step_lingering<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        // "Gone" is no news here: once both sides have ended it is said of a healthy connection too. Reads tell the
        // end, or the break.
        if self.discarded > LINGERING_BYTES_MAX {
            return Step::End;
        }
        if !self.front.is_readable() {
            flow::release(&mut self.up, shared);
            return Step::Wait;
        }
        let Some(bytes) = take_buffer(&mut self.up.bytes, Use::Request, shared) else {
            // Closing now would reset our last word away; the time for this is short anyway.
            self.thirst(Use::Request, shared);
            return Step::Wait;
        };
        bytes.clear();
        let read =
            if self.front.is_handshaking() { self.front.read(bytes) } else { self.front.discard(bytes) };
        match read {
            Read::Bytes(count) => {
                self.discarded += count as u64;
                Step::Again
            }
            Read::Nothing => Step::Again,
            Read::Thirsty => {
                self.thirst(Use::Record, shared);
                Step::Wait
            }
            Read::End if self.front.owes_farewell() => Step::Wait,
            Read::End | Read::Failed(_) => Step::End,
        }
    }
}
