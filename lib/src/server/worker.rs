//! A worker without its loop: everything that events, timers and orders do.
//!
//! The loop ([`super::run`]) feeds it the kernel's events; the simulator feeds it its own. Each entry
//! point does a bounded amount of work: a session that has more to do is put into a queue and gets its
//! next turn after all others.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use kakehi_command::proto::supervision::{ProbeSecrets, Verdict};
use kakehi_command::state::ConfigState;
use slab::Slab;

use crate::access_log::{self, AccessLog};
use crate::limits::{ClientLimits, SharedTables};
use crate::listener::{ListenerIndex, Listeners};
use crate::metrics::{Metric, Metrics};
use crate::net::buffers::{BufferPool, Use};
use crate::net::log_sink::LogSink;
use crate::net::request_id::RequestIds;
use crate::net::secure::Room;
use crate::net::{Network, Pipes, Ready, Stream, Token};
use crate::session::backends::{BackendKey, Backends};
use crate::session::handshakes::Handshakes;
use crate::session::probe::Probes;
use crate::session::table::{Session, Sessions};
use crate::session::waiting::Waiting;
use crate::session::{Drive, Hold, Owner, Scratch, Settings, Shared};
use crate::tls::client_config::SystemAuthorities;
use crate::tls::session_table::SessionTable;
use crate::tls::ticket_keys::TicketKeys;

use super::timers::TimerWheel;
use entry::Entries;
use eviction::Eviction;

/// Sessions that go on in one turn after having used up their share in an earlier one.
const YIELDED_PER_TURN_MAX: usize = 64;

/// Sessions that room is made for at start; a larger table grows.
const SESSIONS_RESERVED_MAX: usize = 1 << 16;

/// Entries of a queue of those that are held up that may be out of date, besides two for each session.
const HELD_UP_SLACK: usize = 1024;

/// Resolution of all timeouts. They are configured in seconds.
const TIMER_TICK: Duration = Duration::from_millis(50);

/// What a worker is made of, besides its network.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// Limits and times of its sessions.
    pub settings: Settings,
    /// Buffers that are allocated at start.
    pub buffers_min: usize,
    /// Buffers at most.
    pub buffers_max: usize,
    /// Bytes in a buffer.
    pub buffer_bytes: usize,
    /// Seed of all random choices.
    pub seed: u64,
    /// This worker's number.
    pub worker_id: u32,
}

/// The time of a turn of the loop.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// When the poll was asked for the events of this turn.
    pub asked: Instant,
    /// When it gave them.
    pub now: Instant,
    /// The same in nanoseconds since [`Worker::origin`].
    pub nanos: u64,
    /// The same as wall time, in nanoseconds since 1970.
    pub unix_ns: u64,
}

/// What becomes of connections that carry nothing, while the worker drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// They are closed.
    Closed,
    /// They stay until their client sends something, which is answered as the last of the connection, or ends them.
    Kept,
}

/// See the module.
pub struct Worker<N: Network> {
    pub(crate) shared: Shared<N>,
    sessions: Sessions<N::Stream>,
    /// Sessions that have more to do.
    yielded: VecDeque<usize>,
    /// Sessions in a handshake that have more to do.
    handshaking: VecDeque<usize>,
    /// Listeners that have more connections waiting.
    crowded: VecDeque<ListenerIndex>,
    /// Listeners on which accepting failed for want of descriptors or memory.
    starved: Vec<ListenerIndex>,
    /// When the log was told so last.
    starve_told: Option<Instant>,
    /// The configuration that this worker serves.
    pub(super) state: ConfigState,
    pub(super) revision: u64,
    pub(super) serving: bool,
    due: Vec<usize>,
    scratch: Box<[u8]>,
    /// What listeners count connections as.
    entries: Entries,
    eviction: Eviction,
    /// Connects for one request, unless main says otherwise.
    pub(super) attempts_configured: u8,
    /// Lines of the error log that were lost, as far as they are counted.
    lines_lost: u64,
}

impl<N: Network> Worker<N> {
    /// A worker with an empty configuration, which accepts nothing before [`Worker::start`].
    pub fn new(net: N, configuration: Configuration, now: Instant) -> Self {
        let seed = configuration.seed.max(1);
        let buffers =
            BufferPool::new(configuration.buffers_min, configuration.buffers_max, configuration.buffer_bytes);
        let connections_max = configuration.settings.connections_max.min(SESSIONS_RESERVED_MAX);
        let mut metrics = Metrics::default();
        metrics.set(Metric::BufferCapacity, buffers.capacity());
        metrics.set(Metric::ClientConnectionsMax, configuration.settings.connections_max);
        let settings = &configuration.settings;
        let listeners = Listeners::default();
        let secrets = listeners.tls().secrets.clone();
        let room = Room::new(settings.record_buffers_max, settings.handshakes_max, secrets);
        let attempts_configured = settings.connection_attempts_max;
        let mut backends = Backends::default();
        backends.set_series_max(settings.metric_series_max);
        backends.set_series_off(settings.metric_series_off);
        let mut limits = ClientLimits::default();
        limits.set_clock(now, 0);
        let shared = Shared {
            now,
            micros: 0,
            origin: now,
            asked: now,
            unix_ms: 0,
            net,
            owners: Slab::new(),
            released: Vec::new(),
            timers: TimerWheel::new(now, TIMER_TICK),
            buffers,
            authorities: SystemAuthorities::default(),
            room,
            handshakes: Handshakes::default(),
            pipes: Pipes::new(
                configuration.settings.splice_pipes_max,
                configuration.settings.splice_pipe_bytes,
            ),
            thirsty: Default::default(),
            held_up: Default::default(),
            listeners,
            backends,
            waiting: Waiting::default(),
            limits,
            probes: Probes::new(configuration.worker_id, configuration.settings.probes_max, now),
            metrics,
            access: AccessLog::off(seed),
            revision: 0,
            ids: RequestIds::new(u128::from(seed) << 64 | u128::from(seed.rotate_left(32))),
            seed,
            scratch: Scratch::default(),
            draining: false,
            keeps_idle: false,
            settings: configuration.settings,
        };
        Self {
            shared,
            // Grown once: a table that moves while it is in use stalls everybody.
            sessions: Sessions::with_capacity(connections_max),
            yielded: VecDeque::new(),
            handshaking: VecDeque::new(),
            crowded: VecDeque::new(),
            starved: Vec::new(),
            starve_told: None,
            state: ConfigState::default(),
            revision: 0,
            serving: false,
            due: Vec::new(),
            scratch: vec![0; configuration.buffer_bytes].into_boxed_slice(),
            entries: Entries::default(),
            eviction: Eviction::default(),
            attempts_configured,
            lines_lost: 0,
        }
    }

    /// Whose certificates the system takes, as read already.
    pub fn take_authorities(&mut self, authorities: SystemAuthorities) {
        self.shared.authorities = authorities;
    }

    /// What session tickets are sealed and opened with from now on.
    pub fn set_ticket_keys(&mut self, keys: TicketKeys) {
        self.shared.listeners.tls().ticket_keys.replace(keys);
    }

    /// What of the limits does not change: `Retry-After` in seconds, and the bits of networks.
    pub fn set_fixed_limits(&mut self, retry_after: u32, prefixes: (u8, u8)) {
        self.shared.limits.set_fixed(retry_after, prefixes);
    }

    /// At this time the clock that all workers share said so many nanoseconds.
    pub fn set_limit_clock(&mut self, at: Instant, nanoseconds: u64) {
        self.shared.limits.set_clock(at, nanoseconds);
    }

    /// Where connections are counted, over all workers; without it limits of sources refuse nobody.
    pub fn set_limit_tables(&mut self, tables: SharedTables) {
        self.shared.backends.set_tables(tables);
        self.shared.limits.set_tables(tables);
    }

    /// Where listeners with early data keep their sessions; without it they keep none, and take none.
    pub fn set_session_table(&mut self, table: SessionTable) {
        self.shared.listeners.tls().sessions.set_table(table);
    }

    /// The random numbers of handshakes come from there. To be said before there are listeners.
    #[cfg(test)]
    pub(crate) fn fix_randomness(&mut self, randomness: crate::tls::provider::Randomness) {
        self.shared.listeners.fix_randomness(randomness);
    }

    /// See [`Sessions::set_dozing_max`].
    #[cfg(test)]
    pub(crate) fn set_dozing_max(&mut self, count: usize) {
        self.sessions.set_dozing_max(count);
    }

    /// See [`Waiting::set_look_every`].
    #[cfg(test)]
    pub(crate) fn set_look_every(&mut self, time: Duration) {
        self.shared.waiting.set_look_every(time);
    }

    /// Logs accesses from now on.
    pub fn log_accesses(&mut self, settings: access_log::Settings) {
        self.shared.access.configure(settings);
    }

    /// Writes the access log there from now on.
    pub fn set_access_sink(&mut self, sink: LogSink) {
        self.shared.access.set_sink(sink);
    }

    /// Writes what waits for the access log, as far as that can be done without waiting: all of it if this is the end.
    pub fn flush_log(&mut self, is_end: bool) {
        if is_end {
            self.shared.access.flush_all(self.shared.now);
        } else {
            self.shared.access.flush(self.shared.now);
        }
    }

    /// What the TLS connections of the worker share.
    #[cfg(test)]
    pub(crate) fn room(&self) -> &Room {
        &self.shared.room
    }

    /// Begins a turn at this time, and at this wall time in ms since 1970; tells when the poll was asked for the events
    /// that it will be given.
    pub fn tick(&mut self, asked: Instant, now: Instant, unix_ms: u64) {
        let elapsed = now.saturating_duration_since(self.shared.origin);
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.begin_turn(&Turn { asked, now, nanos, unix_ns: unix_ms.saturating_mul(1_000_000) });
    }

    /// Begins a turn.
    pub fn begin_turn(&mut self, turn: &Turn) {
        self.shared.reuse_tokens();
        self.shared.handshakes.renew();
        self.shared.asked = turn.asked;
        self.shared.now = turn.now;
        self.shared.micros = turn.nanos / 1_000;
        self.shared.unix_ms = turn.unix_ns / 1_000_000;
        self.shared.access.set_time(turn.unix_ns);
        self.shared.listeners.tls().clock.set(self.shared.unix_ms / 1_000);
    }

    /// Since when the nanoseconds of a [`Turn`] are counted.
    pub fn origin(&self) -> Instant {
        self.shared.origin
    }

    /// A token for a socket that is not a session's.
    pub fn reserve_token(&mut self, owner: Owner) -> Token {
        self.shared.owners.insert(owner)
    }

    /// Who events for this token are for.
    pub fn owner(&self, token: Token) -> Option<Owner> {
        self.shared.owners.get(token).copied()
    }

    /// What the poll said of the sockets in this turn. Pooled back connections come first: none that has
    /// ended, or on which something came that nobody asked for, is to be used in this turn.
    pub fn handle_events(&mut self, events: impl Iterator<Item = (Token, Ready)> + Clone) {
        for (token, ready) in events.clone() {
            if matches!(self.owner(token), Some(Owner::Idle(_))) {
                self.handle_ready(token, ready);
            }
        }
        for (token, ready) in events {
            // One that was pooled in this turn has been read to its last byte since the event was taken. Only
            // an end is still news.
            let pooled = matches!(self.owner(token), Some(Owner::Idle(_)));
            if !pooled || ready.read_closed || ready.gone {
                self.handle_ready(token, ready);
            }
        }
    }

    /// What the poll said of a socket.
    pub fn handle_ready(&mut self, token: Token, ready: Ready) {
        match self.owner(token) {
            Some(Owner::Listener(index)) => self.accept(index),
            Some(Owner::Front(index)) => self.dispatch(index, |session, shared| {
                session.front_ready(ready);
                session.drive(shared)
            }),
            // A session with a back is awake.
            Some(Owner::Back(index)) => self.dispatch(index, |session, shared| {
                session.back_ready(ready);
                session.drive(shared)
            }),
            // Whatever an idle connection says, it says that it can't be used again.
            Some(Owner::Idle(key)) if ready.readable || ready.read_closed || ready.gone => {
                if self.shared.backends.idle_was_closed(key, token, self.shared.now).is_some() {
                    self.shared.release_token(token);
                }
            }
            Some(Owner::Probe(index)) => self.shared.probe_ready(index, token, ready),
            Some(Owner::Idle(_) | Owner::Channel | Owner::Closed) | None => {}
        }
    }

    /// Sessions and connections whose time is over.
    pub fn handle_timers(&mut self) {
        self.shared.handle_probe_timers();
        let mut due = std::mem::take(&mut self.due);
        self.shared.timers.expire(self.shared.now, &mut due);
        for token in due.drain(..) {
            match self.owner(token) {
                Some(Owner::Front(index)) => self.dispatch(index, |session, shared| session.on_timer(shared)),
                Some(Owner::Idle(key)) => self.expire_idle(key, token),
                Some(Owner::Listener(index)) => self.accept(index),
                // A connection that was idle when the timer was set, and is in use again.
                Some(Owner::Back(_) | Owner::Channel | Owner::Probe(_) | Owner::Closed) | None => {}
            }
        }
        self.due = due;
    }

    /// Sessions that had used up their share, or waited for a buffer, and connections that wait to be
    /// accepted. True if there is still more to do: the loop must not sleep.
    pub fn handle_leftovers(&mut self) -> bool {
        for _ in 0..self.yielded.len().min(YIELDED_PER_TURN_MAX) {
            if let Some(index) = self.yielded.pop_front() {
                if let Some(mut session) = self.sessions.awake_mut(index) {
                    session.dequeue();
                }
                self.dispatch(index, |session, shared| session.drive(shared));
            }
        }
        self.shared.handshakes.renew();
        for _ in 0..self.handshaking.len() {
            if self.shared.handshakes.are_used_up() {
                break;
            }
            if let Some(index) = self.handshaking.pop_front() {
                if let Some(mut session) = self.sessions.awake_mut(index) {
                    session.dequeue();
                }
                self.dispatch(index, |session, shared| session.drive(shared));
            }
        }
        for _ in 0..self.crowded.len() {
            if let Some(index) = self.crowded.pop_front() {
                self.accept(index);
            }
        }
        let lines = self.serve_lines();
        self.evict_held_up();
        for purpose in Use::ALL {
            for _ in 0..self.shared.thirsty[purpose as usize].len() {
                if !self.shared.has_room(purpose) {
                    break;
                }
                let Some(index) = self.shared.thirsty[purpose as usize].pop_front() else { break };
                if let Some(mut session) = self.sessions.awake_mut(index) {
                    session.quench(purpose);
                    self.dispatch(index, |session, shared| session.drive(shared));
                }
            }
        }
        let shared = &self.shared;
        let waits = |purpose: Use| !shared.thirsty[purpose as usize].is_empty();
        let quenchable = Use::ALL.iter().any(|&purpose| waits(purpose) && shared.has_room(purpose));
        let probes = self.shared.start_probes();
        probes
            || lines
            || !self.yielded.is_empty()
            || !self.handshaking.is_empty()
            || !self.crowded.is_empty()
            || quenchable
    }

    /// Takes buffers from sessions that are held up by their client, for those that have none.
    fn evict_held_up(&mut self) {
        for purpose in Use::ALL {
            for _ in 0..self.shared.thirsty[purpose as usize].len() {
                if self.shared.has_room(purpose) || !self.evict_one(purpose) {
                    break;
                }
            }
        }
        for hold in Hold::ALL {
            if self.shared.held_up[hold as usize].len() > 2 * self.sessions.len() + HELD_UP_SLACK {
                let sessions = &self.sessions;
                self.shared.held_up[hold as usize].retain(|&entry| is_held_up(sessions, hold, entry));
            }
        }
    }

    /// The one that is held up for longest, half heads before others; false if none is for long enough.
    fn evict_one(&mut self, purpose: Use) -> bool {
        for hold in Hold::ALL.into_iter().filter(|hold| hold.frees(purpose)) {
            while let Some(&entry) = self.shared.held_up[hold as usize].front() {
                let (index, since) = entry;
                let current = is_held_up(&self.sessions, hold, entry);
                if current && self.shared.now.saturating_duration_since(since) < hold.age_min() {
                    break;
                }
                if current && hold == Hold::Line {
                    return self.evict_from_line();
                }
                self.shared.held_up[hold as usize].pop_front();
                if current {
                    self.dispatch(index, |session, shared| session.evict(hold, shared));
                    return true;
                }
            }
        }
        false
    }

    /// Of those that wait in line the one that came last: who came first is served first.
    fn evict_from_line(&mut self) -> bool {
        while let Some(entry) = self.shared.held_up[Hold::Line as usize].pop_back() {
            if is_held_up(&self.sessions, Hold::Line, entry) {
                self.dispatch(entry.0, |session, shared| session.evict(Hold::Line, shared));
                return true;
            }
        }
        false
    }

    /// When [`Worker::handle_timers`] has something to do.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let timers = self.shared.timers.next_wakeup();
        // Whoever waits for a buffer gets that of one who was held up for long enough, and holds one of that kind.
        let waits = |purpose: Use| !self.shared.thirsty[purpose as usize].is_empty();
        let wanted = |hold: &Hold| Use::ALL.into_iter().any(|purpose| hold.frees(purpose) && waits(purpose));
        let oldest =
            |hold: Hold| self.shared.held_up[hold as usize].front().map(|&(_, since)| since + hold.age_min());
        let eviction = Hold::ALL.into_iter().filter(wanted).filter_map(oldest).min();
        let probes = self.shared.probes.next_wakeup(self.shared.now);
        let look = self.shared.waiting.next_look();
        let access = self.shared.access.next_wakeup();
        timers.into_iter().chain(eviction).chain(probes).chain(look).chain(access).min()
    }

    /// Runs one session. A panic costs that session and nothing else.
    fn dispatch(
        &mut self,
        index: usize,
        what: impl FnOnce(&mut Session<'_, N::Stream>, &mut Shared<N>) -> Drive,
    ) {
        let Some(mut session) = self.sessions.wake(index) else { return };
        let shared = &mut self.shared;
        match catch_unwind(AssertUnwindSafe(|| what(&mut session, shared))) {
            Ok(Drive::Waiting) => self.sessions.rest(index),
            Ok(Drive::Yielded) => {
                if session.enqueue() {
                    let queue =
                        if session.is_handshaking() { &mut self.handshaking } else { &mut self.yielded };
                    queue.push_back(index);
                }
            }
            Ok(Drive::Introduced) => self.introduced(index),
            Ok(Drive::Finished) => self.forget(index),
            Err(_) => self.bury(index),
        }
    }

    /// A session panicked: what it held is given back as far as that goes without another panic.
    fn bury(&mut self, index: usize) {
        log::error!("session {index} panicked and is closed; this is a bug");
        self.shared.metrics.incr(Metric::Panic);
        let Some(mut session) = self.sessions.awake_mut(index) else { return };
        let shared = &mut self.shared;
        if catch_unwind(AssertUnwindSafe(|| session.finish(shared))).is_err() {
            log::error!("session {index} panicked again while it was closed; its buffers are lost");
        }
        self.shared.backends.recount_permits();
        self.forget(index);
    }

    fn forget(&mut self, index: usize) {
        if let Some(listener) = self.sessions.remove(index) {
            self.shared.listeners.session_closed(listener);
            self.entries.leave(index, &self.shared.limits);
            self.crowded.extend(self.starved.drain(..));
            self.shared.metrics.set(Metric::ClientConnections, self.sessions.len());
        }
    }

    /// A pooled connection's time may be over: its timer stands since it was first idle.
    fn expire_idle(&mut self, key: BackendKey, token: Token) {
        let shared = &mut self.shared;
        let Some(since) = shared.backends.idle_since(key, token) else { return };
        let until = since + shared.settings.back_idle_timeout;
        if until > shared.now {
            shared.timers.set(token, until);
        } else if shared.backends.remove_idle(key, token).is_some() {
            shared.release_token(token);
        }
    }

    /// Client connections.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The configuration is complete: accept from now on.
    pub fn start(&mut self) {
        self.serving = true;
        for index in self.shared.listeners.indexes() {
            self.accept(index);
        }
    }

    /// Closes all listeners, lets what is in flight finish, and keeps nothing alive. May be called again, to close
    /// those that were kept.
    pub fn drain(&mut self, idle: Idle) {
        self.shared.draining = true;
        self.shared.keeps_idle = idle == Idle::Kept;
        for index in self.shared.listeners.indexes() {
            self.close_listener(index);
        }
        self.serving = false;
        self.close_pooled();
        self.shared.stop_probes();
        for index in self.sessions.indexes() {
            self.dispatch(index, |session, shared| session.drive(shared));
        }
    }

    fn close_pooled(&mut self) {
        for peer in self.shared.backends.drain_idle() {
            self.shared.release_token(peer.token());
        }
    }

    /// The workers that probe backends are these from now on.
    pub fn set_probers(&mut self, workers: &[u32]) {
        if !self.shared.draining {
            self.shared.set_probers(workers);
        }
    }

    /// What main says of the health of backends.
    pub fn apply_verdicts(&mut self, verdicts: &[Verdict]) {
        self.shared.apply_verdicts(verdicts);
    }

    /// Values of secret headers for probes came.
    pub fn set_probe_secrets(&mut self, secrets: ProbeSecrets) {
        self.shared.set_probe_secrets(secrets);
    }

    /// What this worker has found out about backends since the last call, for main.
    pub fn take_verdicts(&mut self) -> Vec<Verdict> {
        self.shared.probes.take_news()
    }

    /// Keeps the last of what was found out about each backend, if much waits: nobody takes it for a while.
    pub fn condense_verdicts(&mut self) {
        self.shared.probes.condense_news();
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.shared.probes.worker()
    }

    /// Whether it takes nothing new any more.
    pub fn is_draining(&self) -> bool {
        self.shared.draining
    }

    /// Closes the sockets that were handed over and not taken.
    pub fn forget_offered(&mut self) {
        self.shared.listeners.forget_offered();
    }

    /// Counters and gauges, as they are now.
    pub fn metrics(&mut self) -> &Metrics {
        self.refresh_gauges();
        &self.shared.metrics
    }

    /// The configuration that is served, and its revision.
    pub fn state(&self) -> (&ConfigState, u64) {
        (&self.state, self.revision)
    }

    /// Every count agrees with what it counts.
    pub fn check_invariants(&self) {
        self.shared.backends.check_invariants();
        self.shared.waiting.check_invariants();
        self.shared.probes.check_invariants();
        self.shared.listeners.check_invariants();
        self.shared.buffers.check_invariants();
        self.shared.room.check_invariants();
        self.sessions.check_invariants();
        if self.sessions.is_empty() {
            assert_eq!(self.shared.backends.active_count(), 0, "no session, no active back");
            assert!(self.shared.waiting.is_empty(), "no session, nobody waits");
            assert_eq!(self.shared.buffers.in_use(), 0, "no session, no buffer in use");
            assert_eq!(self.shared.pipes.in_use(), 0, "no session, no pipe in use");
        }
        let (mut fronts, mut backs, mut idle, mut probes, mut timers) = (0, 0, 0, 0, 0);
        for (token, owner) in &self.shared.owners {
            timers += usize::from(self.shared.timers.is_set(token));
            match *owner {
                Owner::Front(index) => {
                    assert_eq!(self.sessions.token(index), Some(token), "a front token has its session");
                    fronts += 1;
                }
                Owner::Back(index) => {
                    assert!(self.sessions.is_awake(index), "a back has its session");
                    backs += 1;
                }
                Owner::Idle(_) => idle += 1,
                Owner::Probe(_) => probes += 1,
                Owner::Closed => assert!(self.shared.released.contains(&token), "closed in this turn"),
                Owner::Listener(_) | Owner::Channel => {}
            }
        }
        assert_eq!(fronts, self.sessions.len(), "each session has one front");
        assert_eq!(backs, self.shared.backends.active_count(), "each back in use has a token");
        assert_eq!(idle, self.shared.backends.idle_count(), "each pooled back has a token");
        assert_eq!(probes, self.shared.probes.running(), "each probe has a token");
        assert_eq!(timers, self.shared.timers.len(), "no timer without a socket");
    }
}

/// Whether an entry of the queue of those that are held up still holds.
fn is_held_up<S: Stream>(sessions: &Sessions<S>, hold: Hold, (index, since): (usize, Instant)) -> bool {
    sessions.is_held_up(index, hold, since)
}

mod accept;
mod closing;
mod departures;
mod entry;
mod eviction;
mod lines;
mod metrics;
mod opening;
#[cfg(test)]
mod tests;
