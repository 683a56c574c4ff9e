//! Clusters, their backends, and the pool of connections to them.
//!
//! The pool is per backend and shared by all front sessions of the worker: last in, first out, so that
//! the connection that was used last, which its peer is least likely to have closed, is used next. A
//! backend that was removed while in use stays until its last connection ends; it takes nothing new. Nor does
//! one that drains, which stays configured.
//!
//! What names a cluster on the way of a request is a [`ClusterKey`], an index: routes and running requests
//! hold on to it, so that it never comes to name another one.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kakehi_command::order::{
    Backend, BackendKey as BackendIdentity, BackendTarget, BackendTls, Cluster, ClusterId,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use slab::Slab;

use crate::health::{BackendTurn, Fitness, RetryBudget};
use crate::limits::SharedTables;
use crate::metrics::ClusterSeries;
use crate::net::{Peer, Stream, Token};

mod choice;
mod closing;
mod concurrency;
mod health;
mod idle_limit;
mod leaving;
mod node;
mod series;

pub use choice::{Ask, ShardCounts, Tried};
use choice::{Policy, StickyIndex};
use concurrency::Berths;
pub use concurrency::QueueTerms;
pub use health::{Mark, Outcome};
use node::{Idle, Node};
pub use series::{Carried, SERIES_MAX_DEFAULT, Served, Whole};
use series::{Kept, SeriesRoom};

/// Names a backend in the table of this worker. Valid while a connection to it is counted.
pub type BackendKey = usize;

/// Names a cluster in the table of this worker. Valid from [`Backends::hold`] to [`Backends::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterKey(u32);

impl ClusterKey {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// How the backends of a cluster are spoken to over TLS.
#[derive(Debug)]
pub struct Secured {
    /// For rustls, to speak HTTP.
    pub config: Arc<ClientConfig>,
    /// The same, to speak what clients of TCP listeners do: no protocol is offered.
    pub bytes_config: Arc<ClientConfig>,
    /// Who they have to prove to be; none: whose address they have.
    pub name: Option<ServerName<'static>>,
}

impl Secured {
    /// Who the backend at this address has to prove to be.
    pub fn name_of(&self, address: SocketAddr) -> ServerName<'static> {
        self.name.clone().unwrap_or_else(|| ServerName::IpAddress(address.ip().into()))
    }
}

#[derive(Debug)]
struct ClusterEntry {
    id: ClusterId,
    config: Option<Arc<Cluster>>,
    /// With TLS: how its backends are spoken to.
    secured: Option<Arc<Secured>>,
    members: Vec<BackendKey>,
    policy: Policy,
    /// Where sticky cookies lead, once one was asked for.
    sticky: Option<Box<StickyIndex>>,
    /// Routes that lead here and requests on their way.
    holders: usize,
    /// What is said of the health of its members.
    fitness: Fitness,
    /// So little that it is left out of account.
    panics: bool,
    /// Attempts beyond the first of each request that it may still cost; none: nobody has asked yet.
    retries: Option<RetryBudget>,
    /// Connections to its backends that sessions use now.
    active: usize,
    /// What is counted of them over all workers, where that is limited.
    berths: Option<Box<Berths>>,
    /// Sessions that wait for room.
    waiting: usize,
    /// There may be some.
    freed: bool,
    series: Kept<ClusterSeries>,
}

impl ClusterEntry {
    fn is_used(&self) -> bool {
        self.config.is_some() || !self.members.is_empty() || self.holders > 0 || self.active > 0
    }
}

/// Entries of the queue of backends that may be out of date, besides one for each.
const QUEUE_SLACK: usize = 64;

/// Why no backend was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBackend {
    /// The cluster is not configured.
    UnknownCluster,
    /// It has no backend.
    Empty,
    /// All its backends drain.
    AllDraining,
    /// All that do not drain failed a moment ago, or are known to be unhealthy.
    AllFailing,
    /// Those that this client may go to did.
    ShardExhausted,
    /// Those that could take it, or the cluster, have as much in flight as they may.
    Full,
}

impl NoBackend {
    /// In words, for the answer's body.
    pub fn message(self) -> &'static str {
        match self {
            Self::UnknownCluster => "the cluster of this frontend is not configured",
            Self::Empty => "the cluster has no backend",
            Self::AllDraining => "all backends of the cluster are draining",
            Self::AllFailing => "all backends of the cluster are failing",
            Self::Full => "the cluster has as much in flight as it may",
            Self::ShardExhausted => "all backends of the cluster for this client are failing",
        }
    }
}

/// What a request may be sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Any idle connection: if it turns out to be dead, the request is sent again.
    Any,
    /// Only one that its backend is not about to close: the request can't be sent twice.
    Lasting,
}

/// The table. `S` is the kind of stream that is pooled.
#[derive(Debug)]
pub struct Backends<S> {
    clusters: Slab<ClusterEntry>,
    by_id: HashMap<ClusterId, ClusterKey>,
    nodes: Slab<Node<S>>,
    /// Backends with idle connections, each once. Some have none any more, or are gone.
    with_idle: VecDeque<(BackendKey, u64)>,
    /// Of the next backend.
    next_serial: u64,
    idle: usize,
    active: usize,
    /// Choices that left verdicts out of account.
    fail_open: u64,
    /// Room to find shards in.
    scratch: Vec<u64>,
    shard_counts: ShardCounts,
    /// Where what is limited is counted.
    tables: Option<SharedTables>,
    tally: concurrency::Tally,
    /// Clusters for which somebody waits, and that may have room.
    freed: Vec<ClusterKey>,
    departures: leaving::Departures,
    series_room: SeriesRoom,
}

impl<S> Default for Backends<S> {
    fn default() -> Self {
        Self {
            clusters: Slab::new(),
            by_id: HashMap::new(),
            nodes: Slab::new(),
            with_idle: VecDeque::new(),
            next_serial: 0,
            idle: 0,
            active: 0,
            fail_open: 0,
            scratch: Vec::new(),
            shard_counts: ShardCounts::default(),
            tables: None,
            tally: concurrency::Tally::default(),
            freed: Vec::new(),
            departures: leaving::Departures::default(),
            series_room: SeriesRoom::default(),
        }
    }
}

impl<S: Stream> Backends<S> {
    /// Adds a cluster or replaces its settings. Gives the idle connections that these are not for: they are to be
    /// closed.
    ///
    /// # Errors
    /// `secure` has no use for what it says of TLS; nothing has changed.
    pub fn set_cluster(
        &mut self,
        cluster: Arc<Cluster>,
        secure: impl FnOnce(&BackendTls) -> Result<Secured, String>,
    ) -> Result<Vec<Peer<S>>, String> {
        let known = self.by_id.get(cluster.id()).and_then(|key| self.clusters.get(key.index()));
        let before = known.and_then(|entry| entry.config.as_ref()).and_then(|config| config.tls());
        let same = before == cluster.tls();
        let secured = match cluster.tls() {
            Some(tls) if !same => Some(Arc::new(secure(tls)?)),
            _ => None,
        };
        let key = self.entry(cluster.id());
        let Some(entry) = self.clusters.get_mut(key.index()) else { return Ok(Vec::new()) };
        entry.policy.become_one(cluster.load_balancing());
        if !cluster.sticky_session() {
            entry.sticky = None;
        }
        entry.config = Some(cluster);
        if same {
            return Ok(Vec::new());
        }
        entry.secured = secured;
        let mut closed = Vec::new();
        for &member in &entry.members {
            if let Some(node) = self.nodes.get_mut(member) {
                self.idle -= node.idle.len();
                closed.extend(node.idle.drain(..).map(|idle| idle.peer));
            }
        }
        Ok(closed)
    }

    /// How the backends of a cluster are spoken to over TLS; none: in the clear.
    pub fn secured(&self, key: ClusterKey) -> Option<&Arc<Secured>> {
        self.clusters.get(key.index())?.secured.as_ref()
    }

    /// Forgets a cluster; its backends are removed by effects of their own.
    pub fn remove_cluster(&mut self, id: &ClusterId) {
        let Some(&key) = self.by_id.get(id) else { return };
        if let Some(entry) = self.clusters.get_mut(key.index()) {
            entry.config = None;
        }
        self.forget_cluster_if_unused(key);
    }

    fn entry(&mut self, id: &ClusterId) -> ClusterKey {
        if let Some(&key) = self.by_id.get(id) {
            return key;
        }
        let index = self.clusters.insert(ClusterEntry {
            id: id.clone(),
            config: None,
            secured: None,
            members: Vec::new(),
            policy: Policy::default(),
            sticky: None,
            holders: 0,
            fitness: Fitness::default(),
            panics: false,
            retries: None,
            active: 0,
            berths: None,
            waiting: 0,
            freed: false,
            series: Kept::Nothing,
        });
        debug_assert!(u32::try_from(index).is_ok(), "more clusters than memory holds");
        let key = ClusterKey(u32::try_from(index).unwrap_or(u32::MAX));
        self.by_id.insert(id.clone(), key);
        key
    }

    fn forget_cluster_if_unused(&mut self, key: ClusterKey) {
        if self.clusters.get(key.index()).is_some_and(|entry| !entry.is_used()) {
            let mut entry = self.clusters.remove(key.index());
            self.by_id.remove(&entry.id);
            self.series_room.leave(&mut entry.series);
        }
    }

    /// A route leads to this cluster from now on, which need not exist yet. Ends with
    /// [`release`](Self::release).
    pub fn hold(&mut self, id: &ClusterId) -> ClusterKey {
        let key = self.entry(id);
        self.hold_on(key);
        key
    }

    /// A request goes to a cluster that is held. Ends with [`release`](Self::release).
    pub fn hold_on(&mut self, key: ClusterKey) {
        if let Some(entry) = self.clusters.get_mut(key.index()) {
            entry.holders += 1;
        }
    }

    /// The route is gone, or the request over.
    pub fn release(&mut self, key: ClusterKey) {
        let Some(entry) = self.clusters.get_mut(key.index()) else { return };
        debug_assert!(entry.holders > 0, "who holds releases once");
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders == 0 {
            self.forget_cluster_if_unused(key);
        }
    }

    /// The key of a cluster that is held already.
    pub fn key(&self, id: &ClusterId) -> Option<ClusterKey> {
        self.by_id.get(id).copied()
    }

    /// The settings of a cluster, if it is configured.
    pub fn cluster(&self, key: ClusterKey) -> Option<&Arc<Cluster>> {
        self.clusters.get(key.index())?.config.as_ref()
    }

    /// The name of a cluster.
    pub fn cluster_id(&self, key: ClusterKey) -> Option<&ClusterId> {
        self.clusters.get(key.index()).map(|entry| &entry.id)
    }

    fn find(&self, cluster: &ClusterId, identity: impl Fn(&Backend) -> bool) -> Option<BackendKey> {
        let members = &self.clusters.get(self.by_id.get(cluster)?.index())?.members;
        members.iter().copied().find(|&key| self.nodes.get(key).is_some_and(|node| identity(&node.config)))
    }

    /// Adds a backend or replaces its settings. One whose connections go elsewhere from now on is another one. Gives
    /// the idle connections to where they went, and those of one that drains from now on, to be closed.
    #[must_use]
    pub fn set_backend(&mut self, backend: Arc<Backend>, now: Instant) -> Vec<Peer<S>> {
        let mut marks = health::Marks::default();
        let mut closed = Vec::new();
        let same = |other: &Backend| {
            other.backend_id() == backend.backend_id() && other.address() == backend.address()
        };
        if let Some(key) = self.find(backend.cluster_id(), same) {
            let cluster = self.entry(backend.cluster_id());
            match self.nodes.get_mut(key) {
                Some(node) if node.config.unix_path() == backend.unix_path() => {
                    node.config = backend;
                    let idle = if node.is_leaving() { std::mem::take(&mut node.idle) } else { Vec::new() };
                    self.idle -= idle.len();
                    if let Some(entry) = self.clusters.get_mut(cluster.index()) {
                        entry.policy.changed();
                        entry.sticky = None;
                    }
                    self.note_leaving(key);
                    return idle.into_iter().map(|idle| idle.peer).collect();
                }
                // It goes on elsewhere, and what is said of its health goes with it.
                Some(node) => {
                    marks = node.marks;
                    closed = self.remove_backend(&backend.key());
                }
                None => {}
            }
        }
        let cluster = self.entry(backend.cluster_id());
        self.next_serial += 1;
        let key = self.nodes.insert(Node { marks, ..Node::new(backend, cluster, self.next_serial, now) });
        if let Some(entry) = self.clusters.get_mut(cluster.index()) {
            entry.members.push(key);
            entry.policy.inserted();
            entry.sticky = None;
        }
        self.note_leaving(key);
        closed
    }

    /// Whether these settings make the backend another one to connect to.
    pub fn moves(&self, backend: &Backend) -> bool {
        let same = |other: &Backend| {
            other.backend_id() == backend.backend_id() && other.address() == backend.address()
        };
        let node = self.find(backend.cluster_id(), same).and_then(|key| self.nodes.get(key));
        node.is_some_and(|node| node.config.unix_path() != backend.unix_path())
    }

    /// Removes a backend: nothing new goes there. Gives its idle connections, to be closed.
    #[must_use]
    pub fn remove_backend(&mut self, identity: &BackendIdentity) -> Vec<Peer<S>> {
        let same = |backend: &Backend| {
            *backend.backend_id() == identity.backend_id && backend.address() == identity.address
        };
        let Some(key) = self.find(&identity.cluster_id, same) else { return Vec::new() };
        if let Some(&cluster) = self.by_id.get(&identity.cluster_id) {
            if let Some(entry) = self.clusters.get_mut(cluster.index())
                && let Some(position) = entry.members.iter().position(|&member| member == key)
            {
                entry.members.remove(position);
                entry.policy.removed(position);
                entry.sticky = None;
            }
            self.forget_cluster_if_unused(cluster);
        }
        let Some(node) = self.nodes.get_mut(key) else { return Vec::new() };
        node.removed = true;
        let idle = std::mem::take(&mut node.idle);
        self.idle -= idle.len();
        self.note_leaving(key);
        self.forget_if_unused(key);
        idle.into_iter().map(|idle| idle.peer).collect()
    }

    fn forget_if_unused(&mut self, key: BackendKey) {
        if self.nodes.get(key).is_some_and(|node| node.removed && node.active == 0) {
            let mut node = self.nodes.remove(key);
            self.series_room.leave(&mut node.series);
        }
    }

    /// Where connections to a backend go, and the address that is its name.
    pub fn destination(&self, key: BackendKey) -> Option<(BackendTarget, SocketAddr)> {
        self.nodes.get(key).map(|node| (node.config.target(), node.config.address()))
    }

    /// The settings of a backend.
    pub fn backend(&self, key: BackendKey) -> Option<&Arc<Backend>> {
        self.nodes.get(key).map(|node| &node.config)
    }

    /// Takes the connection to this backend that was used last. It counts as active from now on.
    pub fn take_idle(&mut self, key: BackendKey, reuse: Reuse, now: Instant) -> Option<Peer<S>> {
        let node = self.nodes.get_mut(key)?;
        let age = now.saturating_duration_since(node.idle.last()?.since);
        if reuse == Reuse::Lasting && !node.idle_limit.allows(age, now) {
            return None;
        }
        let idle = node.idle.pop()?;
        self.idle -= 1;
        self.opened(key);
        Some(idle.peer)
    }

    /// Counts a new connection as active.
    pub fn opened(&mut self, key: BackendKey) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.active += 1;
            self.active += 1;
            if let Some(entry) = self.clusters.get_mut(node.cluster.index()) {
                entry.active += 1;
            }
        }
    }

    /// Puts a connection that is at a message boundary into the pool; gives it back if the pool of this
    /// backend is full, or the backend was removed or drains.
    pub fn put_idle(
        &mut self,
        key: BackendKey,
        peer: Peer<S>,
        now: Instant,
        idle_max: usize,
    ) -> Option<Peer<S>> {
        let refused = match self.nodes.get_mut(key) {
            Some(node) if !node.is_leaving() && node.marks.allow() && node.idle.len() < idle_max => {
                node.idle.push(Idle { peer, since: now });
                self.idle += 1;
                if !std::mem::replace(&mut node.listed, true) {
                    self.with_idle.push_back((key, node.serial));
                    self.tidy_queue();
                }
                None
            }
            _ => Some(peer),
        };
        self.closed(key);
        refused
    }

    /// Keeps the queue no longer than a few times what is in it.
    fn tidy_queue(&mut self) {
        if self.with_idle.len() > 2 * self.nodes.len() + QUEUE_SLACK {
            let nodes = &self.nodes;
            self.with_idle.retain(|&(key, serial)| nodes.get(key).is_some_and(|node| node.serial == serial));
        }
    }

    /// Takes a connection out of the pool that has been idle for long, to close it: of each backend the
    /// oldest, one backend after the other.
    #[must_use]
    pub fn take_oldest_idle(&mut self) -> Option<Peer<S>> {
        while let Some((key, serial)) = self.with_idle.pop_front() {
            let Some(node) = self.nodes.get_mut(key).filter(|node| node.serial == serial) else { continue };
            if node.idle.is_empty() {
                node.listed = false;
                continue;
            }
            self.with_idle.push_back((key, serial));
            self.idle -= 1;
            return Some(node.idle.remove(0).peer);
        }
        None
    }

    /// An active connection is over.
    pub fn closed(&mut self, key: BackendKey) {
        self.closed_unused(key);
        self.free(key);
    }

    /// The same of one that was taken, and not used: another one is to take its place.
    pub fn closed_unused(&mut self, key: BackendKey) {
        if let Some(node) = self.nodes.get_mut(key) {
            debug_assert!(node.active > 0, "a connection closes once");
            node.active = node.active.saturating_sub(1);
            self.active = self.active.saturating_sub(1);
            if let Some(entry) = self.clusters.get_mut(node.cluster.index()) {
                entry.active = entry.active.saturating_sub(1);
            }
        }
    }

    fn position(&self, key: BackendKey, token: Token) -> Option<usize> {
        self.nodes.get(key)?.idle.iter().position(|idle| idle.peer.token() == token)
    }

    /// Since when a connection in the pool is idle.
    pub fn idle_since(&self, key: BackendKey, token: Token) -> Option<Instant> {
        Some(self.nodes.get(key)?.idle.get(self.position(key, token)?)?.since)
    }

    /// Takes one idle connection out of the pool, to close it.
    pub fn remove_idle(&mut self, key: BackendKey, token: Token) -> Option<Peer<S>> {
        let position = self.position(key, token)?;
        let node = self.nodes.get_mut(key)?;
        self.idle -= 1;
        Some(node.idle.remove(position).peer)
    }

    /// The backend has closed this idle connection: how long it lets them be is known better now. Takes it
    /// out of the pool.
    pub fn idle_was_closed(&mut self, key: BackendKey, token: Token, now: Instant) -> Option<Peer<S>> {
        let since = self.idle_since(key, token)?;
        if let Some(node) = self.nodes.get_mut(key) {
            node.idle_limit.closed_after(now.saturating_duration_since(since), now);
        }
        self.remove_idle(key, token)
    }

    /// A connection was found dead when it was used again: the backend closes idle ones at any time.
    pub fn was_stale(&mut self, key: BackendKey, now: Instant) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.idle_limit.closed_after(Duration::ZERO, now);
        }
    }

    /// Takes all idle connections out of the pool, to close them.
    #[must_use]
    pub fn drain_idle(&mut self) -> Vec<Peer<S>> {
        self.idle = 0;
        let taken = self.nodes.iter_mut().flat_map(|(_, node)| std::mem::take(&mut node.idle));
        taken.map(|idle| idle.peer).collect()
    }

    /// A connect failed: the backend is left alone for a while. `random` draws how long.
    pub fn connect_failed(&mut self, key: BackendKey, now: Instant, random: u64) -> Option<BackendTurn> {
        self.nodes.get_mut(key)?.backoff.failed(now, random)
    }

    /// A connect that began at `since` succeeded.
    pub fn connect_succeeded(
        &mut self,
        key: BackendKey,
        since: Instant,
        now: Instant,
    ) -> Option<BackendTurn> {
        let node = self.nodes.get_mut(key)?;
        node.connect_time.observe(now.saturating_duration_since(since), now);
        let turn = node.backoff.succeeded(now);
        if turn == Some(BackendTurn::Up) {
            node.since = now;
        }
        turn
    }

    /// Idle connections in the pool.
    pub fn idle_count(&self) -> usize {
        self.idle
    }

    /// Connections that sessions use.
    pub fn active_count(&self) -> usize {
        self.active
    }

    /// Routes and requests that hold clusters.
    pub fn holders_count(&self) -> usize {
        self.clusters.iter().map(|(_, entry)| entry.holders).sum()
    }

    /// Every count agrees with what it counts.
    pub fn check_invariants(&self) {
        let idle: usize = self.nodes.iter().map(|(_, node)| node.idle.len()).sum();
        assert_eq!(idle, self.idle, "idle connections");
        let active: usize = self.nodes.iter().map(|(_, node)| node.active).sum();
        assert_eq!(active, self.active, "active connections");
        for (key, node) in &self.nodes {
            let listed = self.with_idle.iter().filter(|&&entry| entry == (key, node.serial)).count();
            assert_eq!(listed, usize::from(node.listed), "each backend is listed once");
        }
        for (_, node) in &self.nodes {
            assert!(!node.removed || node.active > 0, "a removed backend stays only while used");
            assert!(!node.is_leaving() || node.idle.is_empty(), "who takes nothing new pools nothing");
            assert!(node.idle.is_empty() || node.listed, "idle connections can be found");
            assert!(node.idle.is_sorted_by_key(|idle| idle.since), "the oldest come first");
        }
        self.check_health();
        self.check_series();
        self.check_concurrency();
        assert_eq!(self.by_id.len(), self.clusters.len());
        for (id, key) in &self.by_id {
            let entry = self.clusters.get(key.index()).expect("a named cluster exists");
            assert_eq!(entry.id, *id);
            assert!(entry.is_used(), "what nobody uses is forgotten");
            for &member in &entry.members {
                assert!(self.nodes.get(member).is_some_and(|node| !node.removed), "members are live");
            }
        }
    }
}

#[cfg(test)]
mod tests;
