//! TCP in memory, with the semantics that the worker relies on.
//!
//! The proxy holds one end of each connection ([`SimStream`](super::network::SimStream)), an actor the other. What the kernel
//! promises holds here, and no more than that:
//!
//! - A write takes what fits. A short or refused one is followed by an edge when there is room again.
//! - A read gives all that has arrived, up to the space: a short read means drained. Randomness comes
//!   from how much arrives at a time.
//! - Edges, not levels: an event comes when something new happened, and shows all that holds when it is
//!   taken ([`World::take_events`]). Watching a stream reports what holds already.
//! - Events of one turn are taken together: one may be for a socket that is closed before its turn comes.
//! - Closing with unread bytes, or being sent bytes after closing, resets the connection; a reset may
//!   overtake what was sent before and take away what has not been read. Its error is told once: later
//!   reads see an end.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::pipe::{Pace, Pipe};
use super::rng::Rng;
use super::tls::Tls;
use crate::net::{Ready, Token};

pub(super) type ConnectionId = usize;

/// What somebody who connects to an address meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// A connection at once.
    Open,
    /// A connection, after this many milliseconds at most.
    Slow { ms_max: usize },
    /// A refusal, a little later.
    Refusing,
    /// Nothing, ever.
    BlackHole,
    /// The kernel knows no way there.
    Unreachable,
}

/// How far the handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Under way; until then, if ever, and then open or refused.
    Opening {
        at: Option<Instant>,
        opens: bool,
    },
    Open,
    Refused,
}

/// What a deliberately broken network does, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// The n-th byte that the proxy reads is another.
    Corrupt { nth: usize },
    /// The n-th write of the proxy takes one byte less than it says.
    LoseByte { nth: usize },
    /// Peers' ends raise no events.
    HideEnds,
    /// Room after a full write raises no events.
    HideRoom,
    /// The n-th write into a tunnel or behind it is counted and not done.
    SwallowWrite { nth: usize },
    /// Ends of the proxy's direction reach nobody.
    LoseTunnelEnds,
    /// Tunnels that end while the worker drains could have ended earlier.
    ForgetDraining,
    /// The n-th byte that leaves a pipe is another.
    CorruptPipe { nth: usize },
    /// Pipes are not closed.
    KeepPipes,
    /// Nothing is ever acknowledged to the proxy.
    ForgetAcknowledgements,
    /// What comes behind an answer comes by itself.
    SplitStrays,
    /// Backends forget that they have changed the protocol.
    ForgetSwitches,
    /// Clients begin later than they think.
    ForgetBeginnings,
    /// The worker is configured otherwise than everybody thinks.
    Misconfigure(Lapse),
}

/// What is missing in the worker's configuration, or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lapse {
    /// Bodies of any size.
    BodyLimit,
    /// Clients may be as slow as they like.
    NoRate,
    /// Clients have to be faster than they know.
    HighRate,
    /// Tunnels may idle for ever.
    TunnelTimeout,
    /// Everybody is believed.
    Trust,
    /// Only the built-in page.
    Page,
    /// Every frontend just leads to its cluster.
    Policies,
    /// The site that comes and goes never goes.
    Removal,
    /// Nobody is ever dead.
    Verdicts,
    /// Certificates never change.
    Certificates,
    /// Nobody has to ask for the host whose certificate they were shown.
    Binding,
    /// Handshakes may take for ever.
    HandshakeTimeout,
    /// As much in flight as comes.
    Limits,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) to_proxy: Pipe,
    pub(super) to_actor: Pipe,
    pub(super) link: Link,
    /// Who connected: the client's address, or ours.
    pub(super) from: SocketAddr,
    /// To a Unix socket: what its ends do is known to both at once, and only that.
    pub(super) local: bool,
    /// Where it went.
    pub(super) to: SocketAddr,
    pub(super) token: Option<Token>,
    /// Something happened since the last event.
    pub(super) edge: bool,
    /// The proxy's last write found no room.
    pub(super) full: bool,
    pub(super) proxy_closed: bool,
    /// The proxy wants its closing to be a reset.
    pub(super) aborted: bool,
    pub(super) actor_closed: bool,
    /// A reset is under way, in that direction.
    pub(super) reset_to_proxy: bool,
    pub(super) reset_to_actor: bool,
    /// A reset has arrived.
    pub(super) proxy_reset: bool,
    pub(super) actor_reset: bool,
    /// The error that the proxy's next call tells.
    pub(super) error: Option<io::ErrorKind>,
    /// Nothing moves before this: a stall in the network.
    pub(super) frozen_until: Option<Instant>,
    /// The proxy sent something to an actor that had closed already.
    pub(super) sent_to_closed: bool,
    /// The actor has closed with bytes of the proxy's that had arrived, and that it had not read.
    pub(super) closed_unread: bool,
    /// The actor had gone before the proxy's direction ended.
    pub(super) actor_left: bool,
    /// Reset on purpose, or held up by the network.
    pub(super) torn: bool,
    /// Held up by the network: its ends do not agree on when something moved last.
    pub(super) frozen: bool,
    /// What its client speaks TLS with.
    pub(super) tls: Option<Box<Tls>>,
    /// The proxy closed it before it had read its client's farewell.
    pub(super) unheard: bool,
    /// Since when the proxy knows of it.
    pub(super) accepted_at: Option<Instant>,
    /// Which certificates were served when the proxy wrote first.
    pub(super) answered_in: Option<usize>,
}

impl Connection {
    fn new(from: SocketAddr, to: SocketAddr, link: Link, capacity: usize) -> Self {
        Self {
            to_proxy: Pipe::new(capacity),
            to_actor: Pipe::new(capacity),
            link,
            from,
            local: false,
            to,
            token: None,
            edge: false,
            full: false,
            proxy_closed: false,
            aborted: false,
            actor_closed: false,
            reset_to_proxy: false,
            reset_to_actor: false,
            proxy_reset: false,
            actor_reset: false,
            error: None,
            frozen_until: None,
            sent_to_closed: false,
            closed_unread: false,
            actor_left: false,
            torn: false,
            frozen: false,
            tls: None,
            unheard: false,
            accepted_at: None,
            answered_in: None,
        }
    }

    pub(super) fn ready(&self) -> Ready {
        let broken = self.proxy_reset || self.link == Link::Refused;
        let ended = self.to_proxy.fin_arrived;
        let we_ended = self.to_actor.fin_sent;
        let opening = matches!(self.link, Link::Opening { .. });
        Ready {
            readable: !self.to_proxy.arrived.is_empty() || ended || broken,
            writable: !opening && (self.to_actor.room() > 0 || we_ended || broken),
            read_closed: ended || broken,
            gone: broken || (ended && (we_ended || (self.local && self.actor_closed))),
        }
    }

    /// Whether nobody will ever learn anything new from it.
    fn is_over(&self) -> bool {
        self.proxy_closed && (self.actor_closed || self.actor_reset || self.link != Link::Open)
    }
}

/// What an actor's read gave.
#[derive(Debug, PartialEq)]
pub(super) enum ActorRead {
    Bytes(Vec<u8>),
    Nothing,
    End,
    Reset,
    /// Bytes of TLS, and none of the peer's.
    Progress,
    /// An end that nobody has announced, where it has to be.
    Truncated,
    /// An alert of the proxy's, or something that rustls does not take.
    Broken(rustls::Error),
}

/// Chances of faults, in percent of the occasions. All 0 in a run without faults.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// A connection is reset, for each delivery. In 1/10,000.
    pub(super) reset_per_myriad: usize,
    /// A connection freezes for up to this long, for each delivery. In 1/10,000.
    pub(super) freeze_per_myriad: usize,
    pub(super) freeze_ms_max: usize,
    /// An accept fails.
    pub(super) accept_percent: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) origin: Instant,
    pub(super) rng: Rng,
    pub(super) connections: Vec<Connection>,
    /// Those that are not over.
    pub(super) live: Vec<ConnectionId>,
    pub(super) doors: BTreeMap<SocketAddr, Door>,
    /// Connections that wait to be accepted, by address. The proxy's listener is one of them.
    pub(super) waiting: BTreeMap<SocketAddr, VecDeque<ConnectionId>>,
    pub(super) listener: Option<ListenerState>,
    pub(super) pace: Pace,
    pub(super) capacity_max: usize,
    pub(super) faults: Faults,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) sabotage_count: usize,
    /// Counts what the proxy achieved: to tell work from a busy loop.
    pub(super) achievements: u64,
    pub(super) trace: Option<Vec<String>>,
    /// Nobody listens for a while.
    pub(super) paused: bool,
    /// Pipes that exist.
    pub(super) pipes: usize,
    /// What is served to secured clients: so many changes of certificates ago the run began.
    pub(super) certificate_era: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ListenerState {
    pub(super) address: SocketAddr,
    pub(super) token: Option<Token>,
    pub(super) edge: bool,
}

impl World {
    pub(super) fn new(now: Instant, rng: Rng, pace: Pace, capacity_max: usize) -> Self {
        Self {
            now,
            origin: now,
            rng,
            connections: Vec::new(),
            live: Vec::new(),
            doors: BTreeMap::new(),
            waiting: BTreeMap::new(),
            listener: None,
            pace,
            capacity_max,
            faults: Faults::default(),
            sabotage: None,
            sabotage_count: 0,
            achievements: 0,
            trace: None,
            paused: false,
            pipes: 0,
            certificate_era: 0,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now.saturating_duration_since(self.origin)
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        let at = self.elapsed();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:9.3} {}", at.as_secs_f64(), line()));
        }
    }

    pub(super) fn open(&mut self, from: SocketAddr, to: SocketAddr, link: Link) -> ConnectionId {
        let capacity = self.rng.within(self.capacity_max / 8 + 1..=self.capacity_max);
        let id = self.connections.len();
        self.connections.push(Connection::new(from, to, link, capacity));
        self.live.push(id);
        id
    }

    // What actors do.

    /// A client connects to the proxy; none if nobody listens.
    pub(super) fn connect_client(&mut self, from: SocketAddr, tls: Option<Box<Tls>>) -> Option<ConnectionId> {
        let to = self.listener?.address;
        let id = self.open(from, to, Link::Open);
        self.connections[id].tls = tls;
        self.waiting.entry(to).or_default().push_back(id);
        if let Some(listener) = &mut self.listener {
            listener.edge = true;
        }
        self.note(|| format!("c{id} client {from} connects"));
        Some(id)
    }

    /// A backend takes the next connection to its address.
    pub(super) fn accept_back(&mut self, at: SocketAddr) -> Option<ConnectionId> {
        self.waiting.get_mut(&at)?.pop_front()
    }

    /// Bytes taken, none if the connection is broken.
    pub(super) fn send(&mut self, id: ConnectionId, bytes: &[u8]) -> Option<usize> {
        let connection = &mut self.connections[id];
        if connection.actor_reset || connection.actor_closed || connection.to_proxy.fin_sent {
            return None;
        }
        if connection.tls.is_some() {
            return Some(self.send_secured(id, bytes));
        }
        Some(connection.to_proxy.push(bytes))
    }

    /// Bytes of the wire that have arrived at an actor.
    pub(super) fn pull(&mut self, id: ConnectionId, bytes: &mut [u8]) -> usize {
        let connection = &mut self.connections[id];
        let count = connection.to_actor.pull(bytes);
        let room = connection.to_actor.room();
        let enough = room * 3 >= connection.to_actor.capacity() || connection.to_actor.arrived.is_empty();
        if count > 0 && connection.full && enough && room > 0 {
            connection.full = false;
            connection.edge |= self.sabotage != Some(Sabotage::HideRoom);
        }
        count
    }

    pub(super) fn receive(&mut self, id: ConnectionId, max: usize) -> ActorRead {
        if self.connections[id].tls.is_some() {
            return self.receive_secured(id, max);
        }
        let mut bytes = vec![0; max.min(self.connections[id].to_actor.arrived.len())];
        if self.pull(id, &mut bytes) > 0 {
            return ActorRead::Bytes(bytes);
        }
        let connection = &self.connections[id];
        if connection.to_actor.fin_arrived {
            ActorRead::End
        } else if connection.actor_reset {
            ActorRead::Reset
        } else {
            ActorRead::Nothing
        }
    }

    /// Sends something that arrives as a whole: false if there is no room for it now, none if the connection
    /// is broken.
    pub(super) fn send_whole(&mut self, id: ConnectionId, bytes: &[u8]) -> Option<bool> {
        let connection = &mut self.connections[id];
        if connection.actor_reset || connection.actor_closed || connection.to_proxy.fin_sent {
            return None;
        }
        Some(connection.to_proxy.push_whole(bytes))
    }

    /// Bytes of this connection that the proxy has ever read.
    pub(super) fn taken_by_proxy(&self, id: ConnectionId) -> u64 {
        self.secured_taken_by_proxy(id).unwrap_or(self.connections[id].to_proxy.read)
    }

    /// Bytes that the proxy has ever written to it.
    pub(super) fn given_by_proxy(&self, id: ConnectionId) -> u64 {
        self.secured_read(id).unwrap_or(self.connections[id].to_actor.sent)
    }

    /// Bytes that its actor has sent.
    pub(super) fn sent_by_actor(&self, id: ConnectionId) -> u64 {
        self.secured_sent(id).unwrap_or(self.connections[id].to_proxy.sent)
    }

    /// Whether the proxy has closed it.
    pub(super) fn is_left_by_proxy(&self, id: ConnectionId) -> bool {
        self.connections[id].proxy_closed
    }

    /// Bytes that its actor has read.
    pub(super) fn read_by_actor(&self, id: ConnectionId) -> u64 {
        self.secured_read(id).unwrap_or(self.connections[id].to_actor.read)
    }

    /// Where a connection leads.
    pub(super) fn address_of(&self, id: ConnectionId) -> SocketAddr {
        self.connections[id].to
    }

    /// The same in bytes of the wire.
    pub(super) fn wire_read_by_actor(&self, id: ConnectionId) -> u64 {
        self.connections[id].to_actor.read
    }

    /// Whether nothing ever kept the proxy from giving this actor what it had for it.
    pub(super) fn is_unbroken(&self, id: ConnectionId) -> bool {
        let connection = &self.connections[id];
        // What came sealed and was not read before it was closed was not opened either.
        let unopened = connection.tls.is_some() && connection.closed_unread;
        !connection.actor_left && !connection.proxy_reset && !connection.torn && !unopened
    }

    /// Whether its actor, or the network, tore it.
    pub(super) fn is_torn(&self, id: ConnectionId) -> bool {
        self.connections[id].torn
    }

    /// The actor ends its direction and reads on.
    pub(super) fn finish(&mut self, id: ConnectionId) {
        self.note(|| format!("c{id} actor ends its direction"));
        if self.connections[id].tls.is_some() {
            return self.finish_secured(id);
        }
        self.connections[id].to_proxy.fin_sent = true;
    }

    /// The actor closes. Bytes it has not read turn that into a reset.
    pub(super) fn close(&mut self, id: ConnectionId) {
        self.note(|| format!("c{id} actor closes"));
        self.close_secured(id);
        let connection = &mut self.connections[id];
        connection.actor_closed = true;
        connection.actor_left |= !connection.to_actor.fin_arrived;
        let on_its_way = !connection.to_actor.flying.is_empty();
        // What is written to a Unix socket is in the queue of the other end at once.
        let unread = !connection.to_actor.arrived.is_empty() || (connection.local && on_its_way);
        connection.closed_unread |= unread;
        connection.sent_to_closed |= on_its_way || unread;
        if !unread {
            connection.to_proxy.fin_sent = true;
        } else {
            connection.reset_to_proxy = true;
        }
    }

    /// The actor, or something in between, resets the connection.
    pub(super) fn reset(&mut self, id: ConnectionId) {
        self.note(|| format!("c{id} actor resets"));
        let connection = &mut self.connections[id];
        connection.actor_closed = true;
        connection.torn = true;
        connection.reset_to_proxy = true;
    }

    /// An actor that reads nothing any more.
    pub(super) fn vanish(&mut self, id: ConnectionId) {
        self.note(|| format!("c{id} actor vanishes"));
        self.connections[id].actor_left = true;
    }

    /// The name under which the proxy watches a connection.
    pub(super) fn token(&self, id: ConnectionId) -> Option<Token> {
        self.connections[id].token
    }

    /// Whether a client's farewell came when the proxy had closed. A client that had said that it asks for nothing more
    /// is not waited for (RFC 9112 §9.6 would have it so), and over plain TCP it has nothing more to send.
    pub(super) fn is_unheard(&self, id: ConnectionId) -> bool {
        self.connections[id].unheard
    }

    /// Whether the proxy has sent bytes that an actor, who had closed before, never read.
    pub(super) fn was_sent_to_closed(&self, id: ConnectionId) -> bool {
        self.connections[id].sent_to_closed
    }

    /// Whether bytes that an actor never read had arrived when it closed.
    pub(super) fn was_closed_unread(&self, id: ConnectionId) -> bool {
        self.connections[id].closed_unread
    }

    // What the network does.

    /// Moves something of one connection. True if anything moved.
    pub(super) fn deliver(&mut self, id: ConnectionId) -> bool {
        let (now, faults) = (self.now, self.faults);
        if self.connections[id].frozen_until.is_some_and(|until| now < until) {
            return false;
        }
        self.connections[id].frozen_until = None;
        if faults.freeze_per_myriad > 0 && self.rng.below(10_000) < faults.freeze_per_myriad {
            let ms = u64::try_from(self.rng.within(1..=faults.freeze_ms_max)).expect("fits");
            self.connections[id].frozen_until = Some(now + Duration::from_millis(ms));
            (self.connections[id].torn, self.connections[id].frozen) = (true, true);
            self.note(|| format!("c{id} freezes for {ms} ms"));
            return true;
        }
        let pumped = self.pump(id);
        if self.advance_handshake(id) {
            return true;
        }
        if self.connections[id].link != Link::Open {
            return false;
        }
        if faults.reset_per_myriad > 0 && self.rng.below(10_000) < faults.reset_per_myriad {
            self.note(|| format!("c{id} is reset by the network"));
            let connection = &mut self.connections[id];
            connection.torn = true;
            connection.reset_to_proxy = !connection.proxy_reset;
            connection.reset_to_actor = !connection.actor_reset;
            return true;
        }
        let (up, down) = (self.pace.draw(&mut self.rng), self.pace.draw(&mut self.rng));
        let moved = self.deliver_to_proxy(id, up);
        self.deliver_to_actor(id, down) || moved || pumped
    }

    pub(super) fn advance_handshake(&mut self, id: ConnectionId) -> bool {
        let connection = &mut self.connections[id];
        let Link::Opening { at: Some(at), opens } = connection.link else { return false };
        if self.now < at {
            return false;
        }
        connection.edge = true;
        if opens {
            connection.link = Link::Open;
            let to = connection.to;
            self.waiting.entry(to).or_default().push_back(id);
        } else {
            connection.link = Link::Refused;
            connection.error = Some(io::ErrorKind::ConnectionRefused);
        }
        self.note(|| format!("c{id} {}", if opens { "stands" } else { "is refused" }));
        true
    }

    fn deliver_to_proxy(&mut self, id: ConnectionId, count: usize) -> bool {
        let (with_end, now_reset, overtake) =
            (self.rng.percent(50), self.rng.percent(50), self.rng.percent(50));
        let hide_ends = self.sabotage == Some(Sabotage::HideEnds);
        let connection = &mut self.connections[id];
        if connection.reset_to_proxy && (now_reset || !connection.to_proxy.is_moving()) {
            connection.reset_to_proxy = false;
            if connection.proxy_closed {
                return true;
            }
            let kind = if connection.to_proxy.fin_arrived {
                io::ErrorKind::BrokenPipe
            } else {
                io::ErrorKind::ConnectionReset
            };
            connection.error = Some(kind);
            connection.proxy_reset = true;
            // What has arrived with its end is read to its end, reset or not: so Linux has it.
            connection.to_proxy.lose(overtake && !connection.to_proxy.fin_arrived);
            connection.to_actor.lose(false);
            connection.edge = true;
            self.note(|| format!("c{id} reset reaches the proxy"));
            return true;
        }
        if connection.proxy_closed {
            let late = !connection.to_proxy.flying.is_empty();
            connection.to_proxy.lose(true);
            if late && !connection.actor_reset {
                connection.reset_to_actor = true;
                self.note(|| format!("c{id} bytes reach a proxy that has closed"));
            }
            return late;
        }
        if connection.proxy_reset {
            return false;
        }
        let ended = connection.to_proxy.fin_arrived;
        let arrived = connection.to_proxy.arrived.len();
        if !connection.to_proxy.deliver(count, with_end) {
            return false;
        }
        let bytes = connection.to_proxy.arrived.len() - arrived;
        let ends = connection.to_proxy.fin_arrived && !ended;
        connection.edge |= bytes > 0 || !hide_ends;
        self.note(|| {
            format!("c{id} {bytes} bytes reach the proxy{}", if ends { ", and the end" } else { "" })
        });
        true
    }

    fn deliver_to_actor(&mut self, id: ConnectionId, count: usize) -> bool {
        let (with_end, now_reset, overtake) =
            (self.rng.percent(50), self.rng.percent(50), self.rng.percent(50));
        let connection = &mut self.connections[id];
        if connection.reset_to_actor && (now_reset || !connection.to_actor.is_moving()) {
            connection.reset_to_actor = false;
            connection.actor_reset = true;
            connection.to_actor.lose(overtake);
            connection.to_proxy.lose(false);
            self.note(|| format!("c{id} reset reaches the actor"));
            return true;
        }
        if connection.actor_closed {
            let late = !connection.to_actor.flying.is_empty();
            connection.to_actor.lose(true);
            if late && !connection.proxy_reset {
                connection.reset_to_proxy = true;
                self.note(|| format!("c{id} bytes reach an actor that has closed"));
            }
            return late;
        }
        !connection.actor_reset && connection.to_actor.deliver(count, with_end)
    }

    /// Connections that may still move, those that are over forgotten.
    pub(super) fn live(&mut self) -> Vec<ConnectionId> {
        let connections = &self.connections;
        self.live.retain(|&id| !connections[id].is_over());
        self.live.clone()
    }

    /// When something moves by itself.
    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        let times = self.live.iter().flat_map(|&id| {
            let connection = &self.connections[id];
            let handshake = match connection.link {
                Link::Opening { at, .. } if !connection.proxy_closed => at,
                _ => None,
            };
            [handshake, connection.frozen_until]
        });
        times.flatten().filter(|&at| at > self.now).min()
    }

    /// Whether there are events to take.
    pub(super) fn has_events(&self) -> bool {
        self.listener.is_some_and(|listener| listener.edge && listener.token.is_some())
            || self.live.iter().any(|&id| self.connections[id].edge && self.connections[id].token.is_some())
    }

    /// What the poll gives: some or all of what happened, in any order.
    pub(super) fn take_events(&mut self) -> Vec<(Token, Ready)> {
        let mut events = Vec::new();
        let all = self.rng.percent(70);
        for &id in &self.live {
            let connection = &mut self.connections[id];
            let Some(token) = connection.token else { continue };
            if !connection.edge || (!all && self.rng.percent(30)) {
                continue;
            }
            connection.edge = false;
            let ready = connection.ready();
            if ready != Ready::default() {
                events.push((token, ready));
            }
        }
        if let Some(listener) = &mut self.listener
            && let Some(token) = listener.token
            && std::mem::take(&mut listener.edge)
        {
            let waits = self.waiting.get(&listener.address).is_some_and(|queue| !queue.is_empty());
            if waits {
                events.push((token, Ready { readable: true, ..Ready::default() }));
            }
        }
        self.rng.shuffle(&mut events);
        events
    }

    /// Connections that the proxy holds open.
    pub(super) fn held_by_proxy(&self) -> usize {
        let mine = |&&id: &&ConnectionId| {
            let connection = &self.connections[id];
            let accepted = !self.waiting.get(&connection.to).is_some_and(|queue| queue.contains(&id));
            let is_back = self.doors.contains_key(&connection.to);
            !connection.proxy_closed && (is_back || accepted)
        };
        self.live.iter().filter(mine).count()
    }

    /// Clients that the proxy never accepted, and that still wait for it.
    pub(super) fn never_accepted(&self) -> usize {
        let Some(listener) = self.listener else { return 0 };
        let Some(queue) = self.waiting.get(&listener.address) else { return 0 };
        queue.iter().filter(|&&id| !self.connections[id].actor_closed).count()
    }

    pub(super) fn sabotaged(&mut self, nth: usize, count: usize) -> Option<usize> {
        let before = self.sabotage_count;
        self.sabotage_count += count;
        (before < nth && nth <= self.sabotage_count).then(|| nth - before - 1)
    }
}
