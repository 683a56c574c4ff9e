//! How much clusters and backends have in flight, where that is limited.
//!
//! A connection that a session uses is one request in flight (of a TCP listener: one connection), so what is counted is
//! what is *active*. [`Berths`] hold the permits for it in the tables that all workers share. They are not handed to
//! sessions: of a backend, all permits are alike, and there are never more of them than connections in use, but for the
//! moment between a choice and its connect. Whatever a connection ends by, [`Backends::closed`] makes that so again.
//!
//! Limits hold over all workers, exactly, with three exceptions. What was begun before there was a limit is counted
//! from then on, and may be more than it; where the tables have no room (`max_limit_entries`) the limit holds for each
//! worker; and two that come for the last place in the same instant may both be refused it for now.

use std::num::NonZeroU32;
use std::time::Duration;

use kakehi_command::order::{Backend, Cluster};

use super::{BackendKey, Backends, ClusterKey, NoBackend};
use crate::limits::{Added, Key, Permit, Scope, SharedTables};
use crate::net::Stream;

/// What is counted of a cluster or a backend.
#[derive(Debug)]
pub(super) struct Berths {
    /// The most there may be, over all workers.
    max: Option<NonZeroU32>,
    /// Whether more are counted at all.
    counts: bool,
    key: Option<Key>,
    /// One for each that is counted.
    permits: Vec<Permit>,
}

/// What all berths together have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Permits of clusters.
    clusters: usize,
    /// Permits of backends.
    backends: usize,
    /// Those that found no room to be counted in.
    uncounted: u64,
}

/// Who may wait for a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueTerms {
    /// How many, over all workers.
    pub max: u32,
    /// How long each of them.
    pub timeout: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// It is taken.
    Yes,
    /// It is, and could not be counted.
    Uncounted,
    /// All are in use.
    No,
}

impl Berths {
    fn limit(&self) -> u64 {
        self.max.map_or(u64::MAX, |max| max.get().into())
    }

    /// Whether all are in use, of which this worker has `active`.
    pub(super) fn are_taken(&self, active: usize, tables: Option<&SharedTables>) -> bool {
        let Some(max) = self.max else { return false };
        if active >= max.get() as usize {
            return true;
        }
        let Some(counters) = tables.map(SharedTables::counters) else { return false };
        let count = match (self.permits.last(), self.key) {
            (Some(permit), _) => counters.count_at(permit),
            (None, Some(key)) => counters.count(key),
            (None, None) => 0,
        };
        count >= self.limit()
    }

    /// Takes one, of which this worker uses `active` now.
    fn take(&mut self, active: usize, tables: Option<&SharedTables>) -> Taken {
        if !self.counts {
            return Taken::Yes;
        }
        let has_room = (active as u64) < self.limit();
        let (Some(tables), Some(key)) = (tables, self.key) else {
            return if has_room { Taken::Yes } else { Taken::No };
        };
        match tables.counters().try_add(key, self.limit()) {
            Added::Counted(permit) => {
                self.permits.push(permit);
                Taken::Yes
            }
            Added::Uncounted if has_room => Taken::Uncounted,
            Added::Uncounted | Added::OverLimit => Taken::No,
        }
    }

    /// No more are counted than are in use. Gives how many were given back.
    fn trim(&mut self, active: usize, tables: Option<&SharedTables>) -> usize {
        let Some(tables) = tables else { return 0 };
        let surplus = self.permits.len().saturating_sub(active);
        for permit in self.permits.drain(active.min(self.permits.len())..) {
            tables.counters().sub(permit);
        }
        surplus
    }

    /// Counts those in use that are not counted yet. Gives how many there were.
    fn count_all(&mut self, active: usize, tables: Option<&SharedTables>) -> usize {
        let (Some(tables), Some(key), true) = (tables, self.key, self.counts) else { return 0 };
        let before = self.permits.len();
        let missing = active.saturating_sub(before);
        self.permits.extend((0..missing).map_while(|_| tables.counters().add(key)));
        self.permits.len() - before
    }

    /// These are the terms from now on, for what has `active` in use. None if nothing has to be kept.
    fn settle(
        present: Option<Box<Self>>,
        (max, counts): (Option<NonZeroU32>, bool),
        key: impl FnOnce() -> Option<Key>,
    ) -> Option<Box<Self>> {
        let idle = present.as_ref().is_none_or(|berths| berths.permits.is_empty());
        if !counts && idle {
            return None;
        }
        let fresh = || Box::new(Self { max: None, counts: false, key: None, permits: Vec::new() });
        let mut berths = present.unwrap_or_else(fresh);
        (berths.max, berths.counts) = (max, counts);
        if berths.key.is_none() {
            berths.key = key();
        }
        Some(berths)
    }
}

impl<S: Stream> Backends<S> {
    /// Where what is limited is counted from now on. To be said before there are connections.
    pub fn set_tables(&mut self, tables: SharedTables) {
        self.tables = Some(tables);
        for cluster in self.cluster_keys() {
            self.settle_limits(cluster);
        }
    }

    /// The configuration of a cluster or of its backends has changed: limits are what it says from now on, and who
    /// waits looks again.
    pub fn settle_limits(&mut self, cluster: ClusterKey) {
        let tables = self.tables.as_ref();
        let Some(entry) = self.clusters.get_mut(cluster.index()) else { return };
        let config = entry.config.as_deref();
        let max = config.and_then(Cluster::max_connections);
        let per_backend = config.and_then(Cluster::max_connections_per_backend);
        // Who waits has to know how much the others have, whatever the limit is of.
        let counts = max.is_some() || config.is_some_and(|config| config.max_queue() > 0);
        let id = &entry.id;
        let key = || tables.map(|tables| tables.key(Scope::Cluster, &[id.as_bytes()]));
        entry.berths = Berths::settle(entry.berths.take(), (max, counts), key);
        if let Some(berths) = &mut entry.berths {
            self.tally.clusters += berths.count_all(entry.active, tables);
        }
        for &member in &entry.members {
            let Some(node) = self.nodes.get_mut(member) else { continue };
            let max = node.config.max_connections(per_backend);
            let config = &node.config;
            let key = || tables.map(|tables| key_of(config, tables));
            node.berths = Berths::settle(node.berths.take(), (max, max.is_some()), key);
            if let Some(berths) = &mut node.berths {
                self.tally.backends += berths.count_all(node.active, tables);
            }
        }
        self.wake(cluster);
    }

    /// Takes a place at a cluster and at the backend that was chosen. False if another worker was faster with the
    /// latter.
    ///
    /// # Errors
    /// The cluster is full.
    pub(super) fn reserve(&mut self, cluster: ClusterKey, key: BackendKey) -> Result<bool, NoBackend> {
        let tables = self.tables.as_ref();
        let (Some(entry), Some(node)) = (self.clusters.get_mut(cluster.index()), self.nodes.get_mut(key))
        else {
            return Ok(true);
        };
        if let Some(berths) = &mut entry.berths {
            let before = berths.permits.len();
            let taken = berths.take(entry.active, tables);
            self.tally.clusters += berths.permits.len() - before;
            self.tally.uncounted += u64::from(taken == Taken::Uncounted);
            if taken == Taken::No {
                return Err(NoBackend::Full);
            }
        }
        if let Some(berths) = &mut node.berths {
            let before = berths.permits.len();
            let taken = berths.take(node.active, tables);
            self.tally.backends += berths.permits.len() - before;
            self.tally.uncounted += u64::from(taken == Taken::Uncounted);
            if taken == Taken::No {
                self.trim(cluster, key);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What was chosen is not used.
    pub fn forgo(&mut self, key: BackendKey) {
        self.free(key);
    }

    /// No more is counted of a backend and its cluster than is in use; who waits looks again.
    pub(super) fn free(&mut self, key: BackendKey) {
        let Some(cluster) = self.nodes.get(key).map(|node| node.cluster) else { return };
        self.trim(cluster, key);
        self.tell_if_left(key);
        self.forget_if_unused(key);
        if self.clusters.get(cluster.index()).is_some_and(|entry| entry.waiting > 0) {
            self.wake(cluster);
        }
        self.forget_cluster_if_unused(cluster);
    }

    fn trim(&mut self, cluster: ClusterKey, key: BackendKey) {
        let tables = self.tables.as_ref();
        if let Some(node) = self.nodes.get_mut(key)
            && let Some(berths) = &mut node.berths
        {
            self.tally.backends -= berths.trim(node.active, tables);
        }
        if let Some(entry) = self.clusters.get_mut(cluster.index())
            && let Some(berths) = &mut entry.berths
        {
            self.tally.clusters -= berths.trim(entry.active, tables);
        }
    }

    /// A session panicked, perhaps between a choice and its connect: what it had taken is given back.
    pub fn recount_permits(&mut self) {
        let keys: Vec<_> = self.nodes.iter().map(|(key, node)| (node.cluster, key)).collect();
        for (cluster, key) in keys {
            self.trim(cluster, key);
        }
    }

    /// Permits of clusters and of backends that this worker has.
    pub fn permit_counts(&self) -> (usize, usize) {
        (self.tally.clusters, self.tally.backends)
    }

    /// How many could not be counted since this was asked last.
    pub fn take_uncounted(&mut self) -> u64 {
        std::mem::take(&mut self.tally.uncounted)
    }

    /// Who may wait for a cluster; none: it is not configured.
    pub fn queue_terms(&self, cluster: ClusterKey) -> Option<QueueTerms> {
        let config = self.cluster(cluster)?;
        Some(QueueTerms { max: config.max_queue(), timeout: config.queue_timeout() })
    }

    /// Whether somebody waits for a cluster.
    pub fn has_line(&self, cluster: ClusterKey) -> bool {
        self.clusters.get(cluster.index()).is_some_and(|entry| entry.waiting > 0)
    }

    /// So many wait for a cluster now.
    pub fn set_waiting(&mut self, cluster: ClusterKey, count: usize) {
        if let Some(entry) = self.clusters.get_mut(cluster.index()) {
            entry.waiting = count;
        }
    }

    /// Connections to a cluster that sessions use, and those over all workers, as far as that is counted.
    pub fn in_flight(&self, cluster: ClusterKey) -> (usize, Option<u64>) {
        let Some(entry) = self.clusters.get(cluster.index()) else { return (0, None) };
        let key = entry.berths.as_ref().and_then(|berths| berths.key);
        let count = self.tables.as_ref().zip(key).map(|(tables, key)| tables.counters().count(key));
        (entry.active, count)
    }

    /// Somebody who waits for this cluster has to look for room in the next turn.
    pub fn look_again(&mut self, cluster: ClusterKey) {
        self.wake(cluster);
    }

    /// There may be room at a cluster for which somebody waits.
    fn wake(&mut self, cluster: ClusterKey) {
        if let Some(entry) = self.clusters.get_mut(cluster.index())
            && entry.waiting > 0
            && !std::mem::replace(&mut entry.freed, true)
        {
            self.freed.push(cluster);
        }
    }

    /// One of the clusters that may have room, and for which somebody may wait.
    pub fn take_freed(&mut self) -> Option<ClusterKey> {
        let cluster = self.freed.pop()?;
        if let Some(entry) = self.clusters.get_mut(cluster.index()) {
            entry.freed = false;
        }
        Some(cluster)
    }

    /// Nothing is counted that is not in use.
    pub(super) fn check_concurrency(&self) {
        let permits = |berths: &Option<Box<Berths>>| berths.as_ref().map_or(0, |it| it.permits.len());
        let mut tally = Tally { uncounted: self.tally.uncounted, ..Tally::default() };
        for (index, entry) in &self.clusters {
            assert!(permits(&entry.berths) <= entry.active, "{} has permits that nobody uses", entry.id);
            tally.clusters += permits(&entry.berths);
            let of_cluster = self.nodes.iter().filter(|(_, node)| node.cluster.index() == index);
            let active: usize = of_cluster.map(|(_, node)| node.active).sum();
            assert_eq!(active, entry.active, "active connections to {}", entry.id);
        }
        for (_, node) in &self.nodes {
            assert!(permits(&node.berths) <= node.active, "a backend has permits that nobody uses");
            tally.backends += permits(&node.berths);
        }
        assert_eq!(tally, self.tally, "all permits are counted");
    }
}

/// A backend that is removed and added again has the same, and what it still carries counts.
fn key_of(backend: &Backend, tables: &SharedTables) -> Key {
    let address = backend.address().to_string();
    let parts = [backend.cluster_id().as_bytes(), backend.backend_id().as_bytes(), address.as_bytes()];
    tables.key(Scope::Backend, &parts)
}
