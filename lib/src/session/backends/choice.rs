//! The choice of a backend: what is asked, who is a candidate, and the algorithm that decides between them.
//!
//! In this order: the backend that the client's sticky cookie names; the client's shard of the primaries, where
//! the cluster is sharded; the primaries; the backups. Backends that the request was tried on already come after
//! all others. One that has as much in flight as it may is no candidate.

use std::net::IpAddr;
use std::time::Instant;

use kakehi_command::order::{Cluster, LoadBalancing, LoadMetric, Sharding};

use super::node::Node;
use super::{BackendKey, Backends, ClusterKey, NoBackend};
use crate::balancing::{
    Burden, Draws, Maglev, RoundRobin, Seat, Shard, hash, least_loaded, power_of_two, random, rendezvous,
    slow_start,
};
use crate::limits::SharedTables;
use crate::net::Stream;

/// Backends that are remembered as tried.
const TRIED_MAX: usize = 4;

/// Choices for one request whose place another worker takes in the same instant, before it has to wait.
const RACES_MAX: usize = 4;

/// What a choice depends on besides the cluster.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Where the client is.
    pub source: IpAddr,
    /// The hash of what keeps the client at a backend, if that is not its address.
    pub affinity: Option<u64>,
    /// The hash of its sticky cookie.
    pub sticky: Option<u64>,
    /// Where the request was tried.
    pub tried: Tried,
    /// A random number.
    pub random: u64,
}

impl Ask {
    fn key(&self) -> u64 {
        self.affinity.unwrap_or_else(|| hash::source(self.source))
    }
}

/// The backends that a request was tried on last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried {
    keys: [Option<BackendKey>; TRIED_MAX],
}

impl Tried {
    /// It was tried there, too.
    pub fn add(&mut self, key: BackendKey) {
        self.keys.rotate_right(1);
        if let Some(first) = self.keys.first_mut() {
            *first = Some(key);
        }
    }

    pub(crate) fn has(&self, key: BackendKey) -> bool {
        self.keys.contains(&Some(key))
    }

    fn is_empty(&self) -> bool {
        self.keys.first().is_none_or(Option::is_none)
    }
}

/// How often shards had nobody to take a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardCounts {
    /// It was refused.
    pub exhausted: u64,
    /// It went to the other backends.
    pub spillover: u64,
}

/// An algorithm and what it knows of the members of its cluster.
#[derive(Debug)]
pub(super) enum Policy {
    RoundRobin(RoundRobin),
    /// The greatest weight of all members, once it was asked for.
    Random(Option<u32>),
    LeastLoaded,
    PowerOfTwo,
    Hrw,
    /// The table, once it was asked for.
    Maglev(Option<Box<Maglev>>),
}

impl Default for Policy {
    fn default() -> Self {
        Self::RoundRobin(RoundRobin::default())
    }
}

impl Policy {
    /// The algorithm is this one from now on.
    pub(super) fn become_one(&mut self, kind: LoadBalancing) {
        if self.kind() != kind {
            *self = match kind {
                LoadBalancing::RoundRobin => Self::default(),
                LoadBalancing::Random => Self::Random(None),
                LoadBalancing::LeastLoaded => Self::LeastLoaded,
                LoadBalancing::PowerOfTwo => Self::PowerOfTwo,
                LoadBalancing::Hrw => Self::Hrw,
                LoadBalancing::Maglev => Self::Maglev(None),
            };
        }
    }

    fn kind(&self) -> LoadBalancing {
        match self {
            Self::RoundRobin(_) => LoadBalancing::RoundRobin,
            Self::Random(_) => LoadBalancing::Random,
            Self::LeastLoaded => LoadBalancing::LeastLoaded,
            Self::PowerOfTwo => LoadBalancing::PowerOfTwo,
            Self::Hrw => LoadBalancing::Hrw,
            Self::Maglev(_) => LoadBalancing::Maglev,
        }
    }

    /// A member was added after all others.
    pub(super) fn inserted(&mut self) {
        match self {
            Self::RoundRobin(rotation) => rotation.inserted(),
            _ => self.changed(),
        }
    }

    /// The member at `index` was removed; those after it moved down by one.
    pub(super) fn removed(&mut self, index: usize) {
        match self {
            Self::RoundRobin(rotation) => rotation.removed(index),
            _ => self.changed(),
        }
    }

    /// Settings of a member changed: what was made of them is made anew when it is asked for.
    pub(super) fn changed(&mut self) {
        match self {
            Self::Random(weight_max) => *weight_max = None,
            Self::Maglev(table) => *table = None,
            Self::RoundRobin(_) | Self::LeastLoaded | Self::PowerOfTwo | Self::Hrw => {}
        }
    }
}

/// Sticky cookies and where they lead: their hashes in order, each with the index of a member.
#[derive(Debug)]
pub(super) struct StickyIndex(Vec<(u64, u32)>);

impl StickyIndex {
    fn new<S>(members: &[BackendKey], nodes: &slab::Slab<Node<S>>) -> Self {
        let mut entries: Vec<_> = (0u32..)
            .zip(members)
            .filter_map(|(index, &key)| {
                let node = nodes.get(key)?;
                Some((hash::bytes(node.config.sticky_value().as_bytes()), index))
            })
            .collect();
        entries.sort_unstable();
        Self(entries)
    }

    /// The members that a cookie leads to, the one that came first at first.
    fn members(&self, cookie: u64) -> impl Iterator<Item = usize> + '_ {
        let start = self.0.partition_point(|&(hash, _)| hash < cookie);
        let rest = self.0.get(start..).unwrap_or_default().iter();
        rest.take_while(move |&&(hash, _)| hash == cookie).map(|&(_, index)| index as usize)
    }
}

/// Who of the members is a candidate.
struct Candidates<'a, S> {
    members: &'a [BackendKey],
    nodes: &'a slab::Slab<Node<S>>,
    cluster: &'a Cluster,
    now: Instant,
    tables: Option<&'a SharedTables>,
    backup: bool,
    /// Not those that were tried.
    but: Option<&'a Tried>,
    /// Only those of a shard.
    shard: Option<Shard>,
}

impl<S> Candidates<'_, S> {
    fn get(&self, index: usize) -> Option<&Node<S>> {
        let key = *self.members.get(index)?;
        let node = self.nodes.get(key)?;
        let fits = node.config.backup() == self.backup
            && self.shard.is_none_or(|shard| shard.has(node.place))
            && !self.but.is_some_and(|tried| tried.has(key));
        (fits && node.takes(self.now, self.tables)).then_some(node)
    }

    /// The weight where weights may change with time.
    fn weight(&self, index: usize) -> Option<u32> {
        self.get(index).map(|node| self.weight_of(node))
    }

    fn weight_of(&self, node: &Node<S>) -> u32 {
        let weight = node.config.weight();
        match self.cluster.slow_start() {
            Some(period) => {
                slow_start::weight(weight, self.now.saturating_duration_since(node.since), period)
            }
            None => weight,
        }
    }

    fn burden(&self, index: usize, metric: LoadMetric) -> Option<Burden> {
        let node = self.get(index)?;
        // Far below 2^53.
        let active = node.active as f64;
        let load = match metric {
            // As long as backends are spoken to in HTTP/1, a connection in use carries one request.
            LoadMetric::Connections | LoadMetric::Requests => active,
            // Who was not measured yet, or not for long, has a microsecond: then connections decide.
            LoadMetric::ConnectionTime => (node.connect_time.seconds(self.now) + 1e-6) * (active + 1.0),
        };
        Some(Burden { weight: self.weight_of(node), load })
    }

    fn rendezvous(&self, key: u64) -> Option<usize> {
        rendezvous::pick(self.members.len(), key, |index| {
            self.get(index).map(|node| (node.place, node.config.weight()))
        })
    }

    fn pick(&self, policy: &mut Policy, ask: &Ask) -> Option<usize> {
        let count = self.members.len();
        let mut draws = Draws::new(ask.random);
        let metric = self.cluster.load_metric();
        match policy {
            // Each client's shard is another one, and backups are not primaries that are down.
            Policy::RoundRobin(rotation) if self.backup || self.shard.is_some() => {
                rotation.pick_of_some(count, |index| self.weight(index))
            }
            Policy::RoundRobin(rotation) => rotation.pick(count, |index| self.weight(index)),
            Policy::Random(weight_max) => {
                let weight_max = *weight_max.get_or_insert_with(|| self.weight_max());
                let scale = self.cluster.slow_start().map_or(1, |_| slow_start::SCALE);
                random::pick(count, weight_max.saturating_mul(scale), &mut draws, |index| self.weight(index))
            }
            Policy::LeastLoaded => least_loaded::pick(count, &mut draws, |index| self.burden(index, metric)),
            Policy::PowerOfTwo => power_of_two::pick(count, &mut draws, |index| self.burden(index, metric)),
            Policy::Hrw => self.rendezvous(ask.key()),
            Policy::Maglev(table) => {
                let key = ask.key();
                // The table is that of the primaries. Of few backups, or where nobody near is available,
                // rendezvous hashing finds the one that every worker finds.
                let found = match self.backup {
                    false => table
                        .get_or_insert_with(|| Box::new(self.table()))
                        .pick(key, |index| self.get(index).is_some()),
                    true => None,
                };
                found.or_else(|| self.rendezvous(key))
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = (usize, &Node<S>)> {
        let nodes = self.members.iter().enumerate();
        nodes.filter_map(|(index, &key)| Some((index, self.nodes.get(key)?)))
    }

    fn weight_max(&self) -> u32 {
        self.all().map(|(_, node)| node.config.weight()).max().unwrap_or(1)
    }

    fn table(&self) -> Maglev {
        if self.members.len() > Maglev::MEMBERS_MAX {
            return Maglev::new(Vec::new());
        }
        let seats = self.all().filter(|(_, node)| !node.config.backup()).filter_map(|(index, node)| {
            let index = u16::try_from(index).ok()?;
            Some(Seat { index, id: node.place, weight: node.config.weight() })
        });
        Maglev::new(seats.collect())
    }
}

/// Why none of them can be chosen.
fn nobody<S>(members: &[BackendKey], nodes: &slab::Slab<Node<S>>, now: Instant) -> NoBackend {
    let drains = |key: &BackendKey| nodes.get(*key).is_some_and(Node::is_leaving);
    let may = |key: &BackendKey| nodes.get(*key).is_some_and(|node| node.may_take(now));
    match members {
        members if members.iter().any(may) => NoBackend::Full,
        members if members.iter().all(drains) => NoBackend::AllDraining,
        _ => NoBackend::AllFailing,
    }
}

impl<S: Stream> Backends<S> {
    /// Chooses a backend for what is asked; see the module. Where concurrency is limited the place there is taken: a
    /// connection has to be [`opened`](Self::opened) or taken from the pool next, or the place
    /// [forgone](Self::forgo).
    ///
    /// # Errors
    /// Nobody can take it, and why.
    pub fn choose(&mut self, cluster: ClusterKey, ask: &Ask, now: Instant) -> Result<BackendKey, NoBackend> {
        for _ in 0..RACES_MAX {
            let chosen = self.choose_among(cluster, ask, now)?;
            if self.reserve(cluster, chosen)? {
                let panics = self.clusters.get(cluster.index()).is_some_and(|entry| entry.panics);
                self.fail_open += u64::from(panics);
                return Ok(chosen);
            }
        }
        Err(NoBackend::Full)
    }

    fn choose_among(
        &mut self,
        cluster: ClusterKey,
        ask: &Ask,
        now: Instant,
    ) -> Result<BackendKey, NoBackend> {
        let entry = self.clusters.get_mut(cluster.index()).ok_or(NoBackend::UnknownCluster)?;
        let config = entry.config.as_deref().ok_or(NoBackend::UnknownCluster)?;
        let (nodes, tables) = (&self.nodes, self.tables.as_ref());
        let members = entry.members.as_slice();
        match members {
            [] => return Err(NoBackend::Empty),
            [key] => {
                let takes = nodes.get(*key).is_some_and(|node| node.takes(now, tables));
                return if takes { Ok(*key) } else { Err(nobody(members, nodes, now)) };
            }
            _ => {}
        }
        let of = |index: usize| members.get(index).copied().ok_or(NoBackend::Empty);
        if let Some(cookie) = ask.sticky
            && config.sticky_session()
        {
            let sticky = entry.sticky.get_or_insert_with(|| Box::new(StickyIndex::new(members, nodes)));
            let mut found = sticky.members(cookie).filter_map(|index| members.get(index).copied());
            let takes = |key: &BackendKey| {
                !ask.tried.has(*key) && nodes.get(*key).is_some_and(|node| node.takes(now, tables))
            };
            if let Some(key) = found.find(takes) {
                return Ok(key);
            }
        }
        let all = Candidates {
            members,
            nodes,
            cluster: config,
            now,
            tables,
            backup: false,
            but: None,
            shard: None,
        };
        let untried = (!ask.tried.is_empty()).then_some(&ask.tried);
        let sharding = config.sharding();
        let shard = sharding.and_then(|sharding| all.shard_of(sharding, ask, &mut self.scratch));
        // One of them is full, and nothing else is amiss with it.
        let waits_for = |shard: Option<Shard>| {
            all.all().any(|(index, node)| {
                let tried = members.get(index).is_some_and(|key| ask.tried.has(*key));
                !tried && shard.is_none_or(|shard| shard.has(node.place)) && node.may_take(now)
            })
        };
        if shard.is_some() {
            for but in [untried, None] {
                let candidates = Candidates { but, shard, ..all };
                if let Some(index) = candidates.pick(&mut entry.policy, ask) {
                    return of(index);
                }
                if waits_for(shard) {
                    break;
                }
            }
            if sharding.is_some_and(|sharding| sharding.strict) {
                if waits_for(shard) {
                    return Err(NoBackend::Full);
                }
                self.shard_counts.exhausted += 1;
                return Err(NoBackend::ShardExhausted);
            }
        }
        for but in [untried, None] {
            for backup in [false, true] {
                let candidates = Candidates { but, backup, ..all };
                if let Some(index) = candidates.pick(&mut entry.policy, ask) {
                    self.shard_counts.spillover += u64::from(shard.is_some());
                    return of(index);
                }
            }
            // Rather wait for one that has too much to do than try again what failed.
            if untried.is_none() || waits_for(None) {
                break;
            }
        }
        Err(nobody(members, nodes, now))
    }

    /// How often shards had nobody since this was asked last.
    pub fn take_shard_counts(&mut self) -> ShardCounts {
        std::mem::take(&mut self.shard_counts)
    }
}

impl<S> Candidates<'_, S> {
    /// The client's shard, if there are as many primaries as it takes, whether they can be chosen now or not.
    fn shard_of(&self, sharding: Sharding, ask: &Ask, scratch: &mut Vec<u64>) -> Option<Shard> {
        let primaries = || self.all().filter(|(_, node)| !node.config.backup()).map(|(_, node)| node.place);
        let count = primaries().count();
        let size = Shard::size(sharding.percent, count);
        let is_sharded = count >= sharding.min_backends as usize && size < count;
        is_sharded.then(|| Shard::new(ask.key(), primaries(), size, scratch))
    }
}
