//! What is said of the health of backends, and what follows for who may be chosen.
//!
//! Two marks take a backend out: probes say that it is unhealthy, or requests that failed had it ejected. Both come
//! from main, the same for all workers. When so few are left that a cluster panics ([`Fitness`]) its backends are
//! chosen as if they had no marks: [`Node::may_take`](super::node::Node::may_take) is asked in either case.

use std::time::Instant;

use kakehi_command::order::{BackendKey as BackendIdentity, Cluster, ClusterId};

use super::{BackendKey, Backends, ClusterKey};
use crate::health::{Fitness, RetryBudget};
use crate::net::{Peer, Stream};

/// What is said of a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Probes say that it is not healthy.
    pub(super) unhealthy: bool,
    /// It is out because of requests that failed.
    pub(super) ejected: bool,
    /// The cluster panics: it is chosen all the same.
    pub(super) disregarded: bool,
}

impl Marks {
    /// Whether nothing is said against it.
    pub(super) fn is_fit(self) -> bool {
        !self.unhealthy && !self.ejected
    }

    /// Whether it can be chosen.
    pub(super) fn allow(self) -> bool {
        self.disregarded || self.is_fit()
    }
}

/// Which mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Set by probes.
    Unhealthy,
    /// Set by requests.
    Ejected,
}

/// Requests to a backend that failed one after the other.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Failures {
    row: u32,
    /// How many of them are told; 0: they are not counted.
    limit: u32,
    server_errors: bool,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The backend answered with this status.
    Answered(u16),
    /// It did not answer.
    Failed,
}

impl<S: Stream> Backends<S> {
    /// The members of a cluster.
    pub fn members(&self, cluster: ClusterKey) -> &[BackendKey] {
        self.clusters.get(cluster.index()).map_or(&[], |entry| &entry.members)
    }

    /// All clusters.
    pub fn cluster_keys(&self) -> Vec<ClusterKey> {
        self.by_id.values().copied().collect()
    }

    /// A backend by what it is known by outside.
    pub fn backend_key(&self, cluster: &ClusterId, identity: &BackendIdentity) -> Option<BackendKey> {
        self.find(cluster, |backend| {
            *backend.backend_id() == identity.backend_id && backend.address() == identity.address
        })
    }

    /// The probe's target that stands for this backend.
    pub fn target(&self, key: BackendKey) -> Option<usize> {
        self.nodes.get(key)?.target
    }

    /// The same, to be changed.
    pub fn set_target(&mut self, key: BackendKey, target: Option<usize>) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.target = target;
        }
    }

    /// Whether probes say that the backend is healthy, or say nothing.
    pub fn is_marked_healthy(&self, key: BackendKey) -> bool {
        self.nodes.get(key).is_none_or(|node| !node.marks.unhealthy)
    }

    /// Whether nothing is said against the backend.
    #[cfg(test)]
    pub(crate) fn is_fit(&self, key: BackendKey) -> bool {
        self.nodes.get(key).is_none_or(|node| node.marks.is_fit())
    }

    /// Sets or takes away a mark. Gives idle connections, to be closed, of a backend that nothing goes to from now
    /// on.
    #[must_use]
    pub fn mark(
        &mut self,
        cluster: ClusterKey,
        key: BackendKey,
        mark: Mark,
        set: bool,
        now: Instant,
    ) -> Vec<Peer<S>> {
        let Some(node) = self.nodes.get_mut(key).filter(|node| !node.removed) else { return Vec::new() };
        let was_fit = node.marks.is_fit();
        match mark {
            Mark::Unhealthy => node.marks.unhealthy = set,
            Mark::Ejected => node.marks.ejected = set,
        }
        node.failures.row = 0;
        let (fit, backup) = (node.marks.is_fit(), node.config.backup());
        if fit && !was_fit {
            // It comes back: its share grows as that of a new one.
            node.since = now;
        }
        let idle = if fit { Vec::new() } else { std::mem::take(&mut node.idle) };
        self.idle -= idle.len();
        if fit != was_fit
            && let Some(entry) = self.clusters.get_mut(cluster.index())
        {
            let fitness = &mut entry.fitness;
            let unfit = if backup { &mut fitness.unfit_backups } else { &mut fitness.unfit_primaries };
            *unfit = if fit { unfit.saturating_sub(1) } else { *unfit + 1 };
            self.heed_or_panic(cluster);
        }
        idle.into_iter().map(|idle| idle.peer).collect()
    }

    /// The configuration of a cluster or of its backends has changed: what is said of them is forgotten where there is
    /// nobody any more to say it, and counted anew.
    pub fn recount(&mut self, cluster: ClusterKey) {
        let Some(entry) = self.clusters.get_mut(cluster.index()) else { return };
        let config = entry.config.as_deref();
        let probed = config.is_some_and(|config| config.health_check().is_some());
        let passive = config.and_then(Cluster::passive_health);
        let (limit, server_errors) = passive.map_or((0, false), |passive| {
            (passive.consecutive_failures().get(), passive.count_server_errors())
        });
        let mut fitness = Fitness::default();
        for &member in &entry.members {
            let Some(node) = self.nodes.get_mut(member) else { continue };
            node.marks.unhealthy &= probed;
            node.marks.ejected &= passive.is_some();
            node.failures.limit = limit;
            node.failures.server_errors = server_errors;
            let unfit = usize::from(!node.marks.is_fit());
            if node.config.backup() {
                fitness.backups += 1;
                fitness.unfit_backups += unfit;
            } else {
                fitness.primaries += 1;
                fitness.unfit_primaries += unfit;
            }
            // Who is new does not know yet.
            node.marks.disregarded = entry.panics;
        }
        entry.fitness = fitness;
        self.heed_or_panic(cluster);
    }

    fn heed_or_panic(&mut self, cluster: ClusterKey) {
        let Some(entry) = self.clusters.get_mut(cluster.index()) else { return };
        let threshold = entry.config.as_deref().and_then(Cluster::panic_threshold);
        let panics = entry.fitness.is_panic(threshold);
        if panics == entry.panics {
            return;
        }
        entry.panics = panics;
        for &member in &entry.members {
            if let Some(node) = self.nodes.get_mut(member) {
                node.marks.disregarded = panics;
            }
        }
    }

    /// A request to this backend is over, as far as that tells of the backend. True if as many failed in a row as
    /// its cluster bears.
    pub fn note_outcome(&mut self, key: BackendKey, outcome: Outcome) -> bool {
        let Some(failures) = self.nodes.get_mut(key).map(|node| &mut node.failures) else { return false };
        if failures.limit == 0 {
            return false;
        }
        let failed = match outcome {
            Outcome::Answered(status) => failures.server_errors && status >= 500,
            Outcome::Failed => true,
        };
        failures.row = if failed { failures.row + 1 } else { 0 };
        let full = failures.row >= failures.limit;
        if full {
            failures.row = 0;
        }
        full
    }

    /// A request goes to a cluster: what it pays into the budget of further attempts.
    pub fn pay_for_retries(&mut self, cluster: ClusterKey, now: Instant) {
        let Some(entry) = self.clusters.get_mut(cluster.index()) else { return };
        if let Some(percent) = entry.config.as_deref().and_then(Cluster::retry_budget_percent) {
            entry.retries.get_or_insert_with(|| RetryBudget::new(now)).pay_in(percent);
        }
    }

    /// Takes one further attempt out of the cluster's budget, if it has one.
    pub fn may_retry(&mut self, cluster: ClusterKey, now: Instant) -> bool {
        let Some(entry) = self.clusters.get_mut(cluster.index()) else { return true };
        if entry.config.as_deref().and_then(Cluster::retry_budget_percent).is_none() {
            return true;
        }
        entry.retries.get_or_insert_with(|| RetryBudget::new(now)).take(now)
    }

    /// Choices since the last call that left verdicts out of account.
    pub fn take_fail_open(&mut self) -> u64 {
        std::mem::take(&mut self.fail_open)
    }

    /// Of each cluster the counts agree with what they count.
    pub(super) fn check_health(&self) {
        for (_, entry) in &self.clusters {
            let members = entry.members.iter().filter_map(|&member| self.nodes.get(member));
            let unfit = members.clone().filter(|node| !node.marks.is_fit()).count();
            let counted = entry.fitness.unfit_primaries + entry.fitness.unfit_backups;
            assert_eq!(unfit, counted, "unfit backends of {}", entry.id);
            for node in members {
                assert_eq!(node.marks.disregarded, entry.panics, "all of a cluster panic together");
            }
        }
    }
}
