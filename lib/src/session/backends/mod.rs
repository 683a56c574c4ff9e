//! Clusters, their backends, and the pool of connections to them.
//!
//! The pool is per backend and shared by all front sessions of the worker: last in, first out, so that
//! the connection that was used last, which its peer is least likely to have closed, is used next. A
//! backend that was removed while in use stays until its last connection ends; it takes nothing new.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use kakehi_command::order::{Backend, BackendKey as BackendIdentity, Cluster, ClusterId};
use slab::Slab;

use crate::balancing::RoundRobin;
use crate::health::{BackendTurn, Backoff};
use crate::net::{Peer, Stream, Token};

/// Names a backend in the table of this worker. Valid while a connection to it is counted.
pub type BackendKey = usize;

/// Entries of the order of idle connections that may be out of date, besides a few for each idle one.
const IDLE_ORDER_SLACK: usize = 1024;

#[derive(Debug)]
struct ClusterEntry {
    config: Option<Arc<Cluster>>,
    members: Vec<BackendKey>,
    rotation: RoundRobin,
}

#[derive(Debug)]
struct Node<S> {
    config: Arc<Backend>,
    backoff: Backoff,
    idle: Vec<Peer<S>>,
    /// Connections that sessions use now.
    active: usize,
    removed: bool,
}

/// Why no backend was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBackend {
    /// The cluster is not configured.
    UnknownCluster,
    /// It has no backend.
    Empty,
    /// All its backends failed a moment ago.
    AllFailing,
}

impl NoBackend {
    /// In words, for the answer's body.
    pub fn message(self) -> &'static str {
        match self {
            Self::UnknownCluster => "the cluster of this frontend is not configured",
            Self::Empty => "the cluster has no backend",
            Self::AllFailing => "all backends of the cluster are failing",
        }
    }
}

/// The table. `S` is the kind of stream that is pooled.
#[derive(Debug)]
pub struct Backends<S> {
    clusters: HashMap<ClusterId, ClusterEntry>,
    nodes: Slab<Node<S>>,
    /// Idle connections by backend and token, those idle for longest first. Some are not idle any more.
    idle_order: VecDeque<(BackendKey, Token)>,
    idle: usize,
    active: usize,
}

impl<S> Default for Backends<S> {
    fn default() -> Self {
        Self { clusters: HashMap::new(), nodes: Slab::new(), idle_order: VecDeque::new(), idle: 0, active: 0 }
    }
}

impl<S: Stream> Backends<S> {
    /// Adds a cluster or replaces its settings.
    pub fn set_cluster(&mut self, cluster: Arc<Cluster>) {
        let entry = self.entry(cluster.id().clone());
        entry.config = Some(cluster);
    }

    /// Forgets a cluster; its backends are removed by effects of their own.
    pub fn remove_cluster(&mut self, id: &ClusterId) {
        if let Some(entry) = self.clusters.get_mut(id) {
            entry.config = None;
            if entry.members.is_empty() {
                self.clusters.remove(id);
            }
        }
    }

    fn entry(&mut self, id: ClusterId) -> &mut ClusterEntry {
        self.clusters.entry(id).or_insert_with(|| ClusterEntry {
            config: None,
            members: Vec::new(),
            rotation: RoundRobin::default(),
        })
    }

    /// The settings of a cluster.
    pub fn cluster(&self, id: &ClusterId) -> Option<&Arc<Cluster>> {
        self.clusters.get(id)?.config.as_ref()
    }

    fn find(&self, cluster: &ClusterId, identity: impl Fn(&Backend) -> bool) -> Option<BackendKey> {
        let members = &self.clusters.get(cluster)?.members;
        members.iter().copied().find(|&key| self.nodes.get(key).is_some_and(|node| identity(&node.config)))
    }

    /// Adds a backend or replaces its settings.
    pub fn set_backend(&mut self, backend: Arc<Backend>, now: Instant) {
        let same = |other: &Backend| {
            other.backend_id() == backend.backend_id() && other.address() == backend.address()
        };
        if let Some(key) = self.find(backend.cluster_id(), same) {
            if let Some(node) = self.nodes.get_mut(key) {
                node.config = backend;
            }
            return;
        }
        let cluster = backend.cluster_id().clone();
        let key = self.nodes.insert(Node {
            config: backend,
            backoff: Backoff::new(now),
            idle: Vec::new(),
            active: 0,
            removed: false,
        });
        let entry = self.entry(cluster);
        entry.members.push(key);
        entry.rotation.inserted();
    }

    /// Removes a backend: nothing new goes there. Gives its idle connections, to be closed.
    #[must_use]
    pub fn remove_backend(&mut self, identity: &BackendIdentity) -> Vec<Peer<S>> {
        let same = |backend: &Backend| {
            *backend.backend_id() == identity.backend_id && backend.address() == identity.address
        };
        let Some(key) = self.find(&identity.cluster_id, same) else { return Vec::new() };
        if let Some(entry) = self.clusters.get_mut(&identity.cluster_id) {
            if let Some(position) = entry.members.iter().position(|&member| member == key) {
                entry.members.remove(position);
                entry.rotation.removed(position);
            }
            if entry.members.is_empty() && entry.config.is_none() {
                self.clusters.remove(&identity.cluster_id);
            }
        }
        let Some(node) = self.nodes.get_mut(key) else { return Vec::new() };
        node.removed = true;
        let idle = std::mem::take(&mut node.idle);
        self.idle -= idle.len();
        self.forget_if_unused(key);
        idle
    }

    fn forget_if_unused(&mut self, key: BackendKey) {
        if self.nodes.get(key).is_some_and(|node| node.removed && node.active == 0) {
            self.nodes.remove(key);
        }
    }

    /// Chooses a backend: primaries that are not backing off, else backups.
    pub fn choose(&mut self, cluster: &ClusterId, now: Instant) -> Result<BackendKey, NoBackend> {
        let entry = self.clusters.get_mut(cluster).ok_or(NoBackend::UnknownCluster)?;
        if entry.config.is_none() {
            return Err(NoBackend::UnknownCluster);
        }
        if entry.members.is_empty() {
            return Err(NoBackend::Empty);
        }
        let nodes = &self.nodes;
        for backup in [false, true] {
            let weight = |index: usize| {
                let node = entry.members.get(index).and_then(|&key| nodes.get(key))?;
                // A connection that stands is no attempt to connect.
                let reachable = node.backoff.is_available(now) || !node.idle.is_empty();
                let usable = node.config.backup() == backup && reachable;
                usable.then(|| node.config.weight())
            };
            if let Some(index) = entry.rotation.pick(entry.members.len(), weight) {
                return entry.members.get(index).copied().ok_or(NoBackend::Empty);
            }
        }
        Err(NoBackend::AllFailing)
    }

    /// Where a backend listens.
    pub fn address(&self, key: BackendKey) -> Option<SocketAddr> {
        self.nodes.get(key).map(|node| node.config.address())
    }

    /// The settings of a backend.
    pub fn backend(&self, key: BackendKey) -> Option<&Arc<Backend>> {
        self.nodes.get(key).map(|node| &node.config)
    }

    /// Takes the connection to this backend that was used last. It counts as active from now on.
    pub fn take_idle(&mut self, key: BackendKey) -> Option<Peer<S>> {
        let node = self.nodes.get_mut(key)?;
        let peer = node.idle.pop()?;
        self.idle -= 1;
        self.active += 1;
        node.active += 1;
        Some(peer)
    }

    /// Counts a new connection as active.
    pub fn opened(&mut self, key: BackendKey) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.active += 1;
            self.active += 1;
        }
    }

    /// Puts a connection that is at a message boundary into the pool; gives it back if the pool of this
    /// backend is full or the backend was removed.
    pub fn put_idle(&mut self, key: BackendKey, peer: Peer<S>, idle_max: usize) -> Option<Peer<S>> {
        let refused = match self.nodes.get_mut(key) {
            Some(node) if !node.removed && node.idle.len() < idle_max => {
                self.idle_order.push_back((key, peer.token()));
                node.idle.push(peer);
                self.idle += 1;
                None
            }
            _ => Some(peer),
        };
        self.closed(key);
        self.tidy_order();
        refused
    }

    /// Keeps the order no longer than a few times what is idle.
    fn tidy_order(&mut self) {
        if self.idle_order.len() <= 4 * self.idle + IDLE_ORDER_SLACK {
            return;
        }
        let nodes = &self.nodes;
        let mut seen = HashSet::new();
        // A connection that was idle several times stands several times: the last one counts.
        let mut kept: VecDeque<_> = VecDeque::with_capacity(self.idle);
        for &(key, token) in self.idle_order.iter().rev() {
            let idle = nodes.get(key).is_some_and(|node| node.idle.iter().any(|peer| peer.token() == token));
            if idle && seen.insert(token) {
                kept.push_front((key, token));
            }
        }
        self.idle_order = kept;
    }

    /// Takes the connection out of the pool that has been idle for longest, or nearly so, to close it.
    #[must_use]
    pub fn take_oldest_idle(&mut self) -> Option<Peer<S>> {
        while let Some((key, token)) = self.idle_order.pop_front() {
            if let Some(peer) = self.remove_idle(key, token) {
                return Some(peer);
            }
        }
        None
    }

    /// An active connection is over.
    pub fn closed(&mut self, key: BackendKey) {
        if let Some(node) = self.nodes.get_mut(key) {
            debug_assert!(node.active > 0, "a connection closes once");
            node.active = node.active.saturating_sub(1);
            self.active = self.active.saturating_sub(1);
            self.forget_if_unused(key);
        }
    }

    /// Takes one idle connection out of the pool, to close it.
    pub fn remove_idle(&mut self, key: BackendKey, token: usize) -> Option<Peer<S>> {
        let node = self.nodes.get_mut(key)?;
        let position = node.idle.iter().position(|peer| peer.token() == token)?;
        self.idle -= 1;
        Some(node.idle.remove(position))
    }

    /// Takes all idle connections out of the pool, to close them.
    #[must_use]
    pub fn drain_idle(&mut self) -> Vec<Peer<S>> {
        self.idle = 0;
        self.nodes.iter_mut().flat_map(|(_, node)| std::mem::take(&mut node.idle)).collect()
    }

    /// A connect failed: the backend is left alone for a while. `random` draws how long.
    pub fn connect_failed(&mut self, key: BackendKey, now: Instant, random: u64) -> Option<BackendTurn> {
        self.nodes.get_mut(key)?.backoff.failed(now, random)
    }

    /// A connect succeeded.
    pub fn connect_succeeded(&mut self, key: BackendKey, now: Instant) -> Option<BackendTurn> {
        self.nodes.get_mut(key)?.backoff.succeeded(now)
    }

    /// Idle connections in the pool.
    pub fn idle_count(&self) -> usize {
        self.idle
    }

    /// Connections that sessions use.
    pub fn active_count(&self) -> usize {
        self.active
    }

    /// Every count agrees with what it counts.
    pub fn check_invariants(&self) {
        let idle: usize = self.nodes.iter().map(|(_, node)| node.idle.len()).sum();
        assert_eq!(idle, self.idle, "idle connections");
        let active: usize = self.nodes.iter().map(|(_, node)| node.active).sum();
        assert_eq!(active, self.active, "active connections");
        for (_, node) in &self.nodes {
            assert!(!node.removed || node.active > 0, "a removed backend stays only while it is in use");
            assert!(!node.removed || node.idle.is_empty(), "a removed backend pools nothing");
        }
        for entry in self.clusters.values() {
            for &member in &entry.members {
                assert!(self.nodes.get(member).is_some_and(|node| !node.removed), "members are live");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;

    use kakehi_command::proto::AddBackend;

    use super::*;

    struct Quiet;

    impl Stream for Quiet {
        fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn write_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
            Ok(first.len() + second.len())
        }

        fn shutdown_write(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn is_quiet(&mut self) -> bool {
            true
        }

        fn abort(&mut self) {}
    }

    fn table(backends: u16) -> Backends<Quiet> {
        #[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
        let now = Instant::now();
        let mut table = Backends::default();
        for port in 1..=backends {
            let wire = AddBackend {
                cluster_id: "a".to_owned(),
                backend_id: port.to_string(),
                address: SocketAddr::from(([127, 0, 0, 1], port)).into(),
                ..Default::default()
            };
            table.set_backend(Arc::new(Backend::from_wire(&wire).expect("a good backend")), now);
        }
        table
    }

    fn put(table: &mut Backends<Quiet>, key: BackendKey, token: Token) {
        table.opened(key);
        assert!(table.put_idle(key, Peer::connecting(Quiet, token), 8).is_none(), "there is room");
        table.check_invariants();
    }

    #[test]
    fn the_oldest_goes_first_whatever_its_backend() {
        let mut table = table(2);
        for (key, token) in [(0, 10), (1, 11), (0, 12)] {
            put(&mut table, key, token);
        }
        // Used again, and the last one now; its older entry is out of date.
        let peer = table.take_idle(1).expect("it is idle");
        assert!(table.put_idle(1, peer, 8).is_none());
        let gone: Vec<Token> =
            std::iter::from_fn(|| table.take_oldest_idle()).map(|peer| peer.token()).collect();
        assert_eq!(gone.len(), 3);
        assert_eq!(gone.first(), Some(&10));
        assert_eq!(table.idle_count(), 0);
        table.check_invariants();
    }

    #[test]
    fn the_order_does_not_grow_with_use() {
        let mut table = table(1);
        put(&mut table, 0, 7);
        for _ in 0..10 * IDLE_ORDER_SLACK {
            let peer = table.take_idle(0).expect("it is idle");
            assert!(table.put_idle(0, peer, 8).is_none());
            assert!(table.idle_order.len() <= 4 + IDLE_ORDER_SLACK + 1);
        }
        assert_eq!(table.take_oldest_idle().map(|peer| peer.token()), Some(7));
    }
}
