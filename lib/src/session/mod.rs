//! Pure machines joined to sockets.
//!
//! A session is one accepted connection and the backs it owns. It is driven by the loop: an event, a
//! timeout, or its turn after it had used up its share ([`table::Session::drive`]). Everything that
//! sessions of a worker share is in [`Shared`]; nothing is shared between workers.
//!
//! Back-pressure, hop by hop: a flow has one buffer a direction. While it is full its source is not
//! read, so the kernel's receive window closes and the sender waits. Whoever drains the buffer reads
//! the source again in the same turn, or is woken by the socket's edge.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use kakehi_command::proto::supervision::Subject;
use slab::Slab;

use crate::access_log::AccessLog;
use crate::health::BackendTurn;
use crate::limits::ClientLimits;
use crate::listener::Listeners;
use crate::metrics::{Metric, Metrics, Took};
use crate::net::buffers::{Buffer, BufferPool, Use};
use crate::net::request_id::RequestIds;
use crate::net::secure::Room;
use crate::net::{Network, Peer, Pipes, Stream, Token};
use crate::protocol::client_hello::Assembly;
use crate::server::timers::TimerWheel;
use crate::tls::client_config::SystemAuthorities;

mod back;
pub mod backends;
mod counted;
mod flow;
pub mod handshakes;
pub mod http;
pub mod opening;
pub mod probe;
mod relay;
mod secured;
pub mod table;
pub mod tcp;
pub mod waiting;

use backends::{BackendKey, Backends, ClusterKey, Reuse};
use handshakes::Handshakes;
use probe::Probes;
use waiting::Waiting;

/// Steps that one session may take in a turn before the others have theirs. A step moves at most one
/// buffer in each direction.
const STEPS_PER_TURN_MAX: usize = 32;

/// What the loop does with the session next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    /// It waits for an event or its timer.
    Waiting,
    /// It used up its turn and has more to do.
    Yielded,
    /// Its PROXY header is read: from here on it is a session of its listener's kind.
    Introduced,
    /// It is over: all it held is given back.
    Finished,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something moved: look again.
    Again,
    /// Nothing can move before an event.
    Wait,
    /// There is more to do, once others have had their turn.
    Yield,
    /// The connection is over.
    End,
}

/// Who an event for a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The channel to main.
    Channel,
    /// A listening socket.
    Listener(usize),
    /// The front of the session with this index.
    Front(usize),
    /// The back that the session with this index uses now.
    Back(usize),
    /// A back connection in the pool.
    Idle(BackendKey),
    /// The probe of the target with this index.
    Probe(usize),
    /// Nobody: its socket was closed in this turn.
    Closed,
}

/// Limits and times of a worker, as main configured them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Client connections at a time (`max_connections`).
    pub connections_max: usize,
    /// At `connections_max`, whether idle connections make room for new ones (`evict_on_queue_full`).
    pub evicts_idle: bool,
    /// Fields in a head (`max_header_fields`).
    pub header_fields_max: usize,
    /// Idle connections kept for each backend (`max_idle_back_connections`).
    pub idle_back_connections_max: usize,
    /// How long an idle back connection is kept (`back_idle_timeout`).
    pub back_idle_timeout: Duration,
    /// Connects for one request, the first included (`max_connection_attempts`).
    pub connection_attempts_max: u8,
    /// Bytes that a pipe for splicing may hold (`splice_pipe_capacity_bytes`).
    pub splice_pipe_bytes: usize,
    /// Pipes for splicing at a time; 0: none (`max_splice_pipes`).
    pub splice_pipes_max: usize,
    /// Buffers for TLS records at a time (`max_record_buffers`).
    pub record_buffers_max: usize,
    /// TLS handshakes of clients at a time (`max_handshakes`).
    pub handshakes_max: usize,
    /// Probes of backends at a time (`max_probes`).
    pub probes_max: usize,
    /// Clusters and backends with numbers of their own.
    pub metric_series_max: usize,
    /// None has.
    pub metric_series_off: bool,
    /// Bytes of a user's name and password in a request, decoded (`basic_auth_max_credential_bytes`).
    pub basic_auth_bytes_max: usize,
}

/// What the poll tells is taken as what is, for so long from when it was asked. A connection across a network
/// is seen no better; and a worker may be stopped for long at any point of a turn.
const FRESH_MAX: Duration = Duration::from_millis(5);

/// Why a session holds a buffer that it does nothing with: it is up to its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// A part of a head came.
    HalfHead,
    /// Bytes came for which there is no use yet: a part of a line within a body, or the beginning of a request
    /// behind one that is not answered.
    Unused,
    /// The client takes nothing of its answer, or of what its tunnel brings.
    Stall,
    /// A part of a TLS record came, or went.
    Record,
    /// The request waits in line for room at its cluster, which may be taken by one that waits for a buffer.
    Line,
}

impl Hold {
    /// All of them, those that are given up first.
    pub const ALL: [Hold; 5] = [Hold::HalfHead, Hold::Unused, Hold::Stall, Hold::Record, Hold::Line];

    /// How long a session may be held up before its buffers are given to others, if there are no more: a
    /// client on a bad line is silent for that long.
    pub fn age_min(self) -> Duration {
        match self {
            Self::HalfHead => Duration::from_millis(500),
            Self::Unused | Self::Stall | Self::Record | Self::Line => Duration::from_secs(1),
        }
    }

    /// Whether its end gives what is wanted for this use.
    pub fn frees(self, purpose: Use) -> bool {
        (self == Self::Record) == (purpose == Use::Record)
    }
}

/// See [`Shared::scratch`].
#[derive(Debug, Default)]
pub struct Scratch {
    /// A host.
    pub host: Vec<u8>,
    /// A path and query.
    pub path: Vec<u8>,
    /// A ClientHello.
    pub hello: Assembly,
}

/// The next of a worker's random numbers (xorshift64*), never 0: for back-off times and the like, not for
/// secrets. `seed` must not be 0.
pub fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    seed.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

/// What the sessions of one worker share.
pub struct Shared<N: Network> {
    /// The time of this loop turn.
    pub now: Instant,
    /// The same in microseconds since [`Self::origin`].
    pub micros: u64,
    /// When the worker began.
    pub origin: Instant,
    /// When the poll was asked for the events of this turn: nothing that happened before is still unknown.
    pub asked: Instant,
    /// The time of this turn as wall time in ms since 1970: for ids.
    pub unix_ms: u64,
    /// Where sockets come from.
    pub net: N,
    /// Who each token belongs to.
    pub owners: Slab<Owner>,
    /// Tokens whose sockets were closed in this turn; see [`Shared::release_token`].
    pub released: Vec<Token>,
    /// At most one timer a token.
    pub timers: TimerWheel,
    /// All memory that holds peers' bytes.
    pub buffers: BufferPool,
    /// Whose certificates the system takes.
    pub authorities: SystemAuthorities,
    /// What TLS connections share.
    pub room: Rc<Room>,
    /// What TLS handshakes may still take of this turn.
    pub handshakes: Handshakes,
    /// Where long bodies pass through the kernel.
    pub pipes: Pipes<<N::Stream as Stream>::Pipe>,
    /// Sessions that wait for a buffer, by what for (`Use as usize`), in the order in which they asked.
    pub thirsty: [VecDeque<usize>; Use::ALL.len()],
    /// Sessions that hold buffers and wait for their client, by why (`Hold as usize`) and since when. Some
    /// have got on since.
    pub held_up: [VecDeque<(usize, Instant)>; Hold::ALL.len()],
    /// Listeners and their routes.
    pub listeners: Listeners<N::Listener>,
    /// Clusters, their backends and the pool of connections to them.
    pub backends: Backends<N::Stream>,
    /// Those that wait until a cluster has room.
    pub waiting: Waiting,
    /// Limits that hold over all workers.
    pub limits: ClientLimits,
    /// Probes of these backends.
    pub probes: Probes<N::Stream>,
    /// Counters and gauges.
    pub metrics: Metrics,
    /// What is written of requests.
    pub access: AccessLog,
    /// The configuration's revision.
    pub revision: u64,
    /// Request ids.
    pub ids: RequestIds,
    /// State of the worker's random numbers; see [`random`].
    pub seed: u64,
    /// Room to put texts together in, within one call.
    pub scratch: Scratch,
    /// Stopping: finish what is in flight, keep nothing alive.
    pub draining: bool,
    /// While draining: connections that carry nothing stay until their client sends something, or ends them.
    pub keeps_idle: bool,
    /// Limits and times.
    pub settings: Settings,
}

impl<N: Network> Shared<N> {
    /// One more, of all and of a cluster, if it is of one.
    pub(crate) fn count_with(&mut self, cluster: Option<ClusterKey>, metric: Metric) {
        self.metrics.incr(metric);
        if let Some(cluster) = cluster {
            self.backends.count_of(cluster, metric);
        }
    }

    /// A time as [`Self::micros`] tells it. Most are that of this turn.
    #[inline(always)]
    pub(crate) fn micros_of(&self, at: Instant) -> u64 {
        if at == self.now { self.micros } else { self.micros_of_another(at) }
    }

    fn micros_of_another(&self, at: Instant) -> u64 {
        let ago = self.now.saturating_duration_since(at);
        let micros = ago.as_secs().saturating_mul(1_000_000).saturating_add(ago.subsec_micros().into());
        self.micros.saturating_sub(micros)
    }

    /// Whether connections that carry nothing are to end now.
    pub(crate) fn closes_idle(&self) -> bool {
        self.draining && !self.keeps_idle
    }

    /// Whether connections of this listener end with the request that they carry: it accepts no more, or the whole
    /// worker drains.
    pub(crate) fn is_leaving(&self, listener: usize) -> bool {
        self.draining || self.listeners.is_leaving(listener)
    }

    /// Whether one more step of a TLS handshake may be taken in this turn. If so it is counted.
    pub fn begin_handshake_step(&mut self) -> bool {
        self.handshakes.begin_step(self.net.elapsed(self.now))
    }

    /// Whether there is a buffer for this use.
    pub fn has_room(&self, purpose: Use) -> bool {
        match purpose {
            Use::Record => self.room.has_buffer(),
            _ => self.buffers.has_room(purpose),
        }
    }

    /// Takes a buffer, if the pool still has one for this use.
    pub fn buffer(&mut self, purpose: Use) -> Option<Buffer> {
        self.buffers.checkout(purpose)
    }

    /// Gives a buffer back, if there is one.
    pub fn give_back(&mut self, buffer: &mut Option<Buffer>) {
        if let Some(buffer) = buffer.take() {
            self.buffers.give_back(buffer);
        }
    }

    /// Brings those numbers up to date that are counted elsewhere: they are read far less often than they
    /// change.
    pub fn refresh_gauges(&mut self) {
        self.metrics.set(Metric::BufferInUse, self.buffers.in_use());
        self.metrics.set(Metric::BackendConnections, self.backends.active_count());
        self.metrics.set(Metric::BackendPoolSize, self.backends.idle_count());
        self.metrics.set(Metric::QueueSize, self.waiting.len());
        let (clusters, backends) = self.backends.permit_counts();
        self.metrics.set(Metric::ClusterInFlight, clusters);
        self.metrics.set(Metric::BackendInFlight, backends);
        self.metrics.add(Metric::LimitsUncounted, self.backends.take_uncounted());
        self.metrics.set(Metric::SplicePipes, self.pipes.in_use());
        self.metrics.set(Metric::TlsRecordBuffers, self.room.buffers_in_use());
        self.metrics.set(Metric::ProtocolTlsHandshake, self.room.handshakes());
        self.metrics.set(Metric::HealthCheckInFlight, self.probes.running());
        self.metrics.set(Metric::HealthCheckHealthyBackends, self.probes.healthy());
        self.metrics.add(Metric::BackendsFailOpen, self.backends.take_fail_open());
        self.metrics.add(Metric::AccessLogsDropped, self.access.take_lost());
        let sessions = self.listeners.tls().sessions.take_counts();
        self.metrics.add(Metric::TlsSessionsStored, sessions.stored);
        self.metrics.add(Metric::TlsSessionsEvicted, sessions.evicted);
        self.metrics.add(Metric::TlsSessionsRefused, sessions.refused);
        let shards = self.backends.take_shard_counts();
        self.metrics.add(Metric::BackendShardExhausted, shards.exhausted);
        self.metrics.add(Metric::BackendShardSpillover, shards.spillover);
        let (kept, refused) = self.backends.series_counts();
        self.metrics.set(Metric::MetricSeries, kept);
        self.metrics.set(Metric::MetricSeriesRefused, refused);
    }

    /// A connect to this backend failed: it is left alone for a while.
    pub fn connect_failed(&mut self, key: BackendKey) {
        self.metrics.incr(Metric::BackendConnectionsError);
        self.backends.count_at(key, Metric::BackendConnectionsError);
        let random = random(&mut self.seed);
        let turn = self.backends.connect_failed(key, self.now, random);
        self.tell(key, turn);
    }

    /// A connect to this backend that began at `since` succeeded.
    pub fn connect_succeeded(&mut self, key: BackendKey, since: Instant) {
        let turn = self.backends.connect_succeeded(key, since, self.now);
        self.tell(key, turn);
    }

    /// The same of a session's connect, whose time counts.
    pub fn connected(&mut self, key: BackendKey, since: Instant) {
        let took = Took::from(self.now.saturating_duration_since(since));
        self.metrics.time(Metric::BackendConnectionTime, took);
        self.backends.time_at(key, Metric::BackendConnectionTime, took);
        self.connect_succeeded(key, since);
    }

    fn tell(&mut self, key: BackendKey, turn: Option<BackendTurn>) {
        let (Some(turn), Some(backend)) = (turn, self.backends.backend(key)) else { return };
        let (cluster, id, target) = (backend.cluster_id(), backend.backend_id(), backend.target());
        match turn {
            BackendTurn::Down => {
                self.metrics.incr(Metric::BackendDown);
                log::warn!("backend {id} of cluster {cluster} at {target} is down");
            }
            BackendTurn::Up => {
                self.metrics.incr(Metric::BackendUp);
                log::info!("backend {id} of cluster {cluster} at {target} is up again");
            }
        }
        self.report(key, Subject::Connects, turn == BackendTurn::Up, None);
    }

    /// Closes a listening socket.
    pub fn drop_listener(&mut self, mut socket: N::Listener, token: Token) {
        self.net.unwatch_listener(&mut socket);
        self.release_token(token);
    }

    /// Takes an idle connection to this backend that can be used: one on which nothing came that nobody asked
    /// for, not even its end. What the poll told of it has been heeded by now; whether anything came since is
    /// asked of the kernel, unless the poll was asked just now and the request may be sent twice.
    pub fn take_pooled(&mut self, key: BackendKey, reuse: Reuse) -> Option<Peer<N::Stream>> {
        let looks = reuse != Reuse::Any || self.net.elapsed(self.asked) > FRESH_MAX;
        while let Some(mut peer) = self.backends.take_idle(key, reuse, self.now) {
            if !looks || peer.is_quiet() {
                return Some(peer);
            }
            self.backends.was_stale(key, self.now);
            // The place that was taken for it is for the next one.
            self.backends.closed_unused(key);
            self.release_token(peer.token());
        }
        None
    }

    /// Closes the back connection that has been idle for longest, whatever its backend. False if there
    /// is none.
    pub fn evict_idle(&mut self) -> bool {
        let Some(peer) = self.backends.take_oldest_idle() else { return false };
        self.release_token(peer.token());
        true
    }

    /// Forgets a token whose socket is closed. It is used again from the next turn on: among the events
    /// that were taken for this one there may be some for the closed socket, and they must not reach
    /// another.
    pub fn release_token(&mut self, token: Token) {
        self.timers.clear(token);
        if let Some(owner) = self.owners.get_mut(token)
            && *owner != Owner::Closed
        {
            *owner = Owner::Closed;
            self.released.push(token);
        }
    }

    /// The events of the last turn have been handled.
    pub fn reuse_tokens(&mut self) {
        for token in self.released.drain(..) {
            self.owners.try_remove(token);
        }
    }
}
