//! Those that wait until a cluster has room: a line for each cluster, first come, first served, within a worker.
//!
//! The first of a line is driven when something of its cluster ends in this worker; where others wait in other workers
//! too, each worker takes what it frees itself only up to its part ([`Shared::leaves_room`]). What is freed elsewhere is
//! found by looking, every [`POLL_EVERY`] while somebody waits; so are deadlines, and backends that come back. Only the
//! first of a line looks, so that to wait costs nothing.
//!
//! A place is an entry in one table, linked to its neighbours: to leave is as cheap as to come. The table holds no more
//! than the worker has sessions, each line no more than its cluster's `max_queue` allows.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kakehi_command::order::ClusterId;
use slab::Slab;

use super::backends::ClusterKey;
use super::{Shared, random};
use crate::limits::{Added, Permit, Scope, SharedTables};
use crate::metrics::Metric;
use crate::net::Network;

/// How long a place that another worker freed may go unnoticed.
pub const POLL_EVERY: Duration = Duration::from_millis(2);

/// Names a place in a line. Valid until it is left.
pub type PlaceKey = usize;

#[derive(Debug)]
struct Place {
    /// The session that waits.
    index: usize,
    cluster: ClusterKey,
    before: Option<PlaceKey>,
    after: Option<PlaceKey>,
    /// It is counted over all workers.
    permit: Option<Permit>,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    first: PlaceKey,
    last: PlaceKey,
    count: usize,
}

/// Where in its line somebody comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Before all others: its turn had come already.
    Front,
    /// Behind them.
    Back,
}

/// See the module.
#[derive(Debug)]
pub struct Waiting {
    places: Slab<Place>,
    lines: HashMap<ClusterKey, Line>,
    /// When the first of each line looks whether there is room, and how often.
    next_look: Option<Instant>,
    look_every: Duration,
    /// Room to list clusters in.
    scratch: Vec<ClusterKey>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            places: Slab::new(),
            lines: HashMap::new(),
            next_look: None,
            look_every: POLL_EVERY,
            scratch: Vec::new(),
        }
    }
}

impl Waiting {
    /// Another interval than [`POLL_EVERY`]. To be said before anybody waits.
    #[cfg(test)]
    pub(crate) fn set_look_every(&mut self, time: Duration) {
        self.look_every = time;
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody does.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many wait for this cluster.
    pub fn count(&self, cluster: ClusterKey) -> usize {
        self.lines.get(&cluster).map_or(0, |line| line.count)
    }

    /// The session that is first in this line, and its place.
    pub fn first(&self, cluster: ClusterKey) -> Option<(usize, PlaceKey)> {
        let first = self.lines.get(&cluster)?.first;
        Some((self.places.get(first)?.index, first))
    }

    /// Whether this place is the first of its line.
    pub fn is_first(&self, place: PlaceKey) -> bool {
        self.places.get(place).is_some_and(|place| place.before.is_none())
    }

    /// When [`is_due`](Self::is_due) is true next, if nobody comes or leaves.
    pub fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Whether it is time to look for room. If so, the next time is later.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next_look.is_some_and(|at| at <= now);
        if due {
            self.next_look = (!self.is_empty()).then_some(now + self.look_every);
        }
        due
    }

    /// Lends the list of clusters with a line; to be [given back](Self::give_back).
    pub fn lend_clusters(&mut self) -> Vec<ClusterKey> {
        let mut clusters = std::mem::take(&mut self.scratch);
        clusters.clear();
        clusters.extend(self.lines.keys());
        clusters
    }

    /// See [`lend_clusters`](Self::lend_clusters).
    pub fn give_back(&mut self, clusters: Vec<ClusterKey>) {
        self.scratch = clusters;
    }

    fn join(
        &mut self,
        cluster: ClusterKey,
        index: usize,
        at: At,
        permit: Option<Permit>,
        now: Instant,
    ) -> PlaceKey {
        let key = self.places.insert(Place { index, cluster, before: None, after: None, permit });
        let line = self.lines.entry(cluster).or_insert(Line { first: key, last: key, count: 0 });
        if line.count > 0 {
            let (before, after) = match at {
                At::Front => (None, Some(std::mem::replace(&mut line.first, key))),
                At::Back => (Some(std::mem::replace(&mut line.last, key)), None),
            };
            link(&mut self.places, before, after, key);
        }
        line.count += 1;
        self.next_look.get_or_insert(now + self.look_every);
        key
    }

    fn leave(&mut self, key: PlaceKey) -> Option<Place> {
        let place = self.places.try_remove(key)?;
        if let Some(before) = place.before.and_then(|before| self.places.get_mut(before)) {
            before.after = place.after;
        }
        if let Some(after) = place.after.and_then(|after| self.places.get_mut(after)) {
            after.before = place.before;
        }
        if let Some(line) = self.lines.get_mut(&place.cluster) {
            line.count -= 1;
            line.first = if line.first == key { place.after.unwrap_or(key) } else { line.first };
            line.last = if line.last == key { place.before.unwrap_or(key) } else { line.last };
            if line.count == 0 {
                self.lines.remove(&place.cluster);
            }
        }
        if self.places.is_empty() {
            self.next_look = None;
        }
        Some(place)
    }

    /// Each line is one chain from its first to its last.
    pub fn check_invariants(&self) {
        let mut total = 0;
        for (cluster, line) in &self.lines {
            let (mut at, mut before, mut count) = (Some(line.first), None, 0);
            while let Some(key) = at {
                let place = self.places.get(key).expect("links lead to places");
                assert_eq!((place.cluster, place.before), (*cluster, before), "a chain in both directions");
                (at, before, count) = (place.after, at, count + 1);
            }
            assert_eq!((before, count), (Some(line.last), line.count), "all of the line");
            assert!(count > 0, "a line has somebody in it");
            total += count;
        }
        assert_eq!(total, self.places.len(), "each place is in a line");
        assert_eq!(self.next_look.is_none(), self.is_empty(), "somebody looks while somebody waits");
    }
}

/// Puts a place between its neighbours.
fn link(places: &mut Slab<Place>, before: Option<PlaceKey>, after: Option<PlaceKey>, key: PlaceKey) {
    if let Some(before) = before.and_then(|before| places.get_mut(before)) {
        before.after = Some(key);
    }
    if let Some(after) = after.and_then(|after| places.get_mut(after)) {
        after.before = Some(key);
    }
    if let Some(place) = places.get_mut(key) {
        (place.before, place.after) = (before, after);
    }
}

impl<N: Network> Shared<N> {
    /// The session with this index waits for a cluster from now on. Gives its place, and until when it waits.
    /// None: as many wait as may, which is counted.
    pub fn line_up(&mut self, cluster: ClusterKey, index: usize, at: At) -> Option<(PlaceKey, Instant)> {
        let terms = self.backends.queue_terms(cluster)?;
        let max = u64::from(terms.max);
        let own = self.waiting.count(cluster) as u64;
        let added = match (max > own).then(|| self.queue_key(cluster)).flatten() {
            Some((tables, key)) => tables.counters().try_add(key, max),
            None if max > own => Added::Uncounted,
            None => Added::OverLimit,
        };
        let permit = match added {
            Added::Counted(permit) => Some(permit),
            Added::Uncounted => None,
            Added::OverLimit => {
                self.count_with(Some(cluster), Metric::QueueFull);
                return None;
            }
        };
        let place = self.waiting.join(cluster, index, at, permit, self.now);
        self.backends.set_waiting(cluster, self.waiting.count(cluster));
        Some((place, self.now + terms.timeout))
    }

    /// It does not wait any more.
    pub fn leave_line(&mut self, place: PlaceKey) {
        let Some(Place { cluster, permit, .. }) = self.waiting.leave(place) else { return };
        if let (Some(permit), Some(tables)) = (permit, self.limits.tables()) {
            tables.counters().sub(permit);
        }
        self.backends.set_waiting(cluster, self.waiting.count(cluster));
    }

    fn queue_key(&self, cluster: ClusterKey) -> Option<(&SharedTables, crate::limits::Key)> {
        let tables = self.limits.tables()?;
        let id = self.backends.cluster_id(cluster)?;
        Some((tables, tables.key(Scope::Queue, &[id.as_bytes()])))
    }

    /// Whether what this worker has freed is left for other workers in which somebody waits: it has its part of what
    /// the cluster does, going by what it has in flight and in line. Where that is not a whole number it is thrown for.
    pub fn leaves_room(&mut self, cluster: ClusterKey) -> bool {
        let Some((tables, key)) = self.queue_key(cluster) else { return false };
        let own_waiting = self.waiting.count(cluster) as u64;
        let all_waiting = tables.counters().count(key);
        let (own_active, all_active) = self.backends.in_flight(cluster);
        let (own_active, Some(all_active)) = (own_active as u64, all_active) else { return false };
        if all_waiting <= own_waiting {
            return false;
        }
        let demand = all_active + all_waiting;
        // In units of one part of `demand`: what it may have of all that are there with the one that was freed.
        let part = (all_active + 1) * (own_active + own_waiting);
        let rest = part.saturating_sub(own_active * demand);
        rest < demand && random(&mut self.seed) % demand >= rest
    }

    /// Limits of this cluster, or its backends, may have changed.
    pub fn settle_limits(&mut self, id: &ClusterId) {
        if let Some(key) = self.backends.key(id) {
            self.backends.settle_limits(key);
        }
    }
}

#[cfg(test)]
mod tests;
