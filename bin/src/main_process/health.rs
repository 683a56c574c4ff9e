//! What is known of the health of backends: gathered from the workers, told to all of them, and kept for the next.
//!
//! Each backend is probed by one worker; which one, all of them work out from the list of those that serve, which
//! they have from here. What a worker has found out comes here and goes from here to every worker, that one included:
//! all hear the same in the same order. A worker that starts hears all of it behind the state, before it serves. Only
//! what is not as usual is kept. Ejections are decided here, where the share of a cluster that is out is known, and
//! end here.
//!
//! Values of secret headers are in the memory of main and its workers, and nowhere else.

mod hand_over;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use kakehi_command::order::{BackendKey, Cluster, ClusterId, PassiveHealth};
use kakehi_command::proto::supervision::{
    ProbeSecret, ProbeSecrets, Probers, Subject, Verdict, Verdicts, to_worker,
};
use kakehi_command::proto::{BackendHealth, Event, EventKind, HealthChecksList, RemoveBackend};
use kakehi_command::state::ConfigState;

use super::gather::WorkerId;
use super::supervisor::Supervisor;
use super::workers::{Phase, Worker};

/// Verdicts in one message for a worker.
const VERDICTS_PER_MESSAGE: usize = 1000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Backends that are not as usual, by cluster.
    known: BTreeMap<ClusterId, BTreeMap<BackendKey, Known>>,
    /// When ejections end.
    ejections: BTreeSet<(Instant, BackendKey)>,
    /// Clusters whose availability may have changed.
    dirty: BTreeSet<ClusterId>,
    /// Clusters that have backends, and none that is available.
    stranded: BTreeSet<ClusterId>,
    /// Workers that probe.
    probers: Vec<u32>,
    /// The revision of which nothing is kept that it does not have.
    pruned_for: u64,
    secrets: BTreeMap<ClusterId, BTreeMap<String, ProbeSecret>>,
    /// Those of the change that is being made: kept and sent if it is accepted.
    offered: Vec<(ClusterId, ProbeSecret)>,
    counts: Counts,
}

/// What has happened since the start.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    stranded: i64,
    recovered: i64,
    ejected: i64,
    not_ejected: i64,
}

/// What is known of one backend.
#[derive(Debug, Default)]
struct Known {
    /// Why the last probe failed, if probes say that it is unhealthy.
    unhealthy: Option<String>,
    ejected_until: Option<Instant>,
    /// Ejections that followed soon upon each other.
    ejections: u32,
    /// When the last of them ended.
    back_since: Option<Instant>,
    /// Workers that cannot connect to it.
    unreachable: BTreeSet<WorkerId>,
}

impl Known {
    fn is_available(&self) -> bool {
        self.unhealthy.is_none() && self.ejected_until.is_none() && self.unreachable.is_empty()
    }

    /// Whether there is nothing to be remembered.
    fn is_usual(&self) -> bool {
        self.is_available() && self.ejections == 0
    }
}

impl Health {
    /// Values of secret headers for the change that comes next.
    pub(super) fn offer_secrets(&mut self, secrets: Vec<(ClusterId, ProbeSecret)>) {
        self.offered = secrets;
    }

    /// Values that came with the configuration at the start.
    pub(super) fn keep_secrets(&mut self, secrets: Vec<(ClusterId, ProbeSecret)>) {
        self.offered = secrets;
        self.take_offered();
    }

    /// Keeps the values that were offered; what workers have to be told.
    fn take_offered(&mut self) -> Vec<to_worker::Message> {
        let mut by_cluster: BTreeMap<ClusterId, Vec<ProbeSecret>> = BTreeMap::new();
        for (cluster, secret) in std::mem::take(&mut self.offered) {
            let kept = self.secrets.entry(cluster.clone()).or_default();
            kept.insert(secret.fingerprint.clone(), secret.clone());
            by_cluster.entry(cluster).or_default().push(secret);
        }
        by_cluster.into_iter().map(|(cluster, secrets)| secrets_message(&cluster, secrets)).collect()
    }

    /// When an ejection ends.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.ejections.first().map(|(at, _)| *at)
    }

    /// What a worker that starts hears before the state: values of secret headers.
    pub(super) fn before_state(&self) -> impl Iterator<Item = to_worker::Message> + '_ {
        self.secrets.iter().map(|(id, secrets)| secrets_message(id, secrets.values().cloned().collect()))
    }

    /// What it hears behind the state.
    pub(super) fn behind_state(&self) -> Vec<to_worker::Message> {
        let mut verdicts = Vec::new();
        for (key, known) in self.known.values().flatten() {
            if let Some(reason) = &known.unhealthy {
                verdicts.push(verdict(key, Subject::Probes, false, Some(reason.clone())));
            }
            if known.ejected_until.is_some() {
                verdicts.push(verdict(key, Subject::Requests, false, None));
            }
        }
        let parts = verdicts.chunks(VERDICTS_PER_MESSAGE);
        parts.map(|part| to_worker::Message::Verdicts(Verdicts { verdicts: part.to_vec() })).collect()
    }

    /// Numbers for whoever asks: name, value, whether it counts.
    pub(super) fn numbers(&self, state: &ConfigState) -> [(&'static str, i64, bool); 6] {
        let total = i64::try_from(state.counts().backends).unwrap_or(i64::MAX);
        let out = self.known.values().flatten().filter(|(_, known)| !known.is_available()).count();
        let available = total.saturating_sub(i64::try_from(out).unwrap_or(i64::MAX));
        [
            ("cluster.total_backends", total, false),
            ("cluster.available_backends", available, false),
            ("cluster.no_available_backends", self.counts.stranded, true),
            ("cluster.available_recovered", self.counts.recovered, true),
            ("backend.ejected", self.counts.ejected, true),
            ("backend.ejection_refused", self.counts.not_ejected, true),
        ]
    }

    /// All health checks, or that of one cluster, and what is known of backends: of one cluster all of them, of all
    /// clusters those that are not as usual.
    pub(super) fn list(&self, state: &ConfigState, cluster: Option<&str>, now: Instant) -> HealthChecksList {
        let mut list = HealthChecksList::default();
        for it in state.clusters().filter(|it| cluster.is_none_or(|id| **it.id() == *id)) {
            if let Some(check) = it.health_check() {
                list.map.insert(it.id().to_string(), check.wire().clone());
            }
            let missing_secret = self.misses_secret(it);
            let known = self.known.get(it.id());
            if cluster.is_none() && known.is_none() && !missing_secret {
                continue;
            }
            for backend in state.backends(it.id()) {
                let known = known.and_then(|known| known.get(&backend.key()));
                if cluster.is_none() && known.is_none_or(Known::is_available) && !missing_secret {
                    continue;
                }
                let left = known.and_then(|known| known.ejected_until);
                let left = left.map(|at| at.saturating_duration_since(now).as_millis());
                list.backends.push(BackendHealth {
                    cluster_id: it.id().to_string(),
                    backend_id: backend.backend_id().to_string(),
                    address: backend.address().into(),
                    healthy: known.is_none_or(|known| known.unhealthy.is_none()),
                    ejected_ms: left.map(|left| u64::try_from(left).unwrap_or(u64::MAX)),
                    unreachable_from: known
                        .map_or(0, |known| u32::try_from(known.unreachable.len()).unwrap_or(u32::MAX)),
                    reason: known.and_then(|known| known.unhealthy.clone()),
                    missing_secret,
                });
            }
        }
        list
    }

    fn misses_secret(&self, cluster: &Cluster) -> bool {
        let Some(check) = cluster.health_check() else { return false };
        let values = self.secrets.get(cluster.id());
        let has = |fingerprint: &str| values.is_some_and(|values| values.contains_key(fingerprint));
        check.secret_headers().any(|(_, fingerprint)| !has(fingerprint))
    }

    /// Forgets what the state has no place for any more.
    fn prune(&mut self, state: &ConfigState) {
        for (id, backends) in &mut self.known {
            let cluster = state.cluster(id);
            let probed = cluster.is_some_and(|cluster| cluster.health_check().is_some());
            let passive = cluster.is_some_and(|cluster| cluster.passive_health().is_some());
            backends.retain(|key, known| {
                if !probed {
                    known.unhealthy = None;
                }
                if !passive {
                    (known.ejected_until, known.ejections) = (None, 0);
                }
                state.backend(key).is_some() && !known.is_usual()
            });
            self.dirty.insert(id.clone());
        }
        self.known.retain(|_, backends| !backends.is_empty());
        let known = &self.known;
        self.ejections
            .retain(|(at, key)| known_of(known, key).is_some_and(|known| known.ejected_until == Some(*at)));
        self.dirty.extend(self.stranded.iter().cloned());
        self.secrets.retain(|id, secrets| {
            let check = state.cluster(id).and_then(|cluster| cluster.health_check());
            let named = |fingerprint: &str| {
                check.is_some_and(|check| check.secret_headers().any(|(_, named)| named == fingerprint))
            };
            secrets.retain(|fingerprint, _| named(fingerprint));
            !secrets.is_empty()
        });
    }

    /// Whether none of a cluster's backends is available.
    fn is_stranded(&self, state: &ConfigState, id: &ClusterId) -> bool {
        let Some(known) = self.known.get(id) else { return false };
        let out = known.values().filter(|known| !known.is_available()).count();
        out > 0 && state.backends(id).count() <= out
    }

    /// How long a backend whose requests fail is out, if it is to be: no more than so many of a cluster are at a time,
    /// but always one.
    fn ejection(
        &self,
        state: &ConfigState,
        passive: &PassiveHealth,
        key: &BackendKey,
        now: Instant,
        random: u64,
    ) -> Option<(Duration, u32)> {
        let others = self.known.get(&key.cluster_id);
        let out = others.map_or(0, |known| known.values().filter(|it| it.ejected_until.is_some()).count());
        let all = state.backends(&key.cluster_id).count();
        let most = (all * passive.max_ejected_percent() as usize / 100).max(1);
        if out >= most {
            return None;
        }
        let known = others.and_then(|known| known.get(key));
        let soon = known.is_some_and(|known| {
            known.back_since.is_some_and(|at| now.saturating_duration_since(at) <= passive.max_ejection())
        });
        let before = if soon { known.map_or(0, |known| known.ejections) } else { 0 };
        let doubled = passive.base_ejection().saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX));
        let length = doubled.min(passive.max_ejection());
        // Up to a tenth longer: backends that went together do not come back together.
        let more =
            (length / 10).mul_f64(f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX));
        Some((length + more, before.saturating_add(1)))
    }
}

fn known_of<'k>(
    known: &'k BTreeMap<ClusterId, BTreeMap<BackendKey, Known>>,
    key: &BackendKey,
) -> Option<&'k Known> {
    known.get(&key.cluster_id)?.get(key)
}

impl Supervisor {
    /// A worker has found something out.
    pub(super) fn take_verdicts(&mut self, from: WorkerId, verdicts: &[Verdict]) {
        let mut told = Vec::new();
        for verdict in verdicts {
            let Some(key) = key_of(verdict) else { continue };
            // What comes of a backend that is gone, or of a check that was taken away, was on its way too long.
            let state = &self.configuration.state;
            let Some(cluster) =
                state.cluster(&key.cluster_id).filter(|_| state.backend(&key).is_some()).cloned()
            else {
                continue;
            };
            match verdict.subject() {
                Subject::Probes if cluster.health_check().is_some() => {
                    self.take_probe(&key, verdict);
                    told.push(verdict.clone());
                }
                Subject::Requests if !verdict.good => {
                    if let Some(passive) = cluster.passive_health()
                        && self.eject(&key, passive, verdict)
                    {
                        told.push(verdict.clone());
                    }
                }
                Subject::Connects => self.take_connects(from, &key, verdict.good),
                Subject::Probes | Subject::Requests => {}
            }
        }
        if !told.is_empty() {
            self.fleet.broadcast(&to_worker::Message::Verdicts(Verdicts { verdicts: told }));
        }
    }

    fn known_mut(&mut self, key: &BackendKey) -> &mut Known {
        self.note_for_will();
        self.health.dirty.insert(key.cluster_id.clone());
        self.health.known.entry(key.cluster_id.clone()).or_default().entry(key.clone()).or_default()
    }

    fn take_probe(&mut self, key: &BackendKey, verdict: &Verdict) {
        let reason = verdict.reason.clone().unwrap_or_default();
        let known = self.known_mut(key);
        let was_healthy = known.unhealthy.is_none();
        known.unhealthy = (!verdict.good).then(|| reason.clone());
        if verdict.good == was_healthy {
            return;
        }
        let BackendKey { cluster_id, backend_id, address } = key;
        if verdict.good {
            log::info!("backend {backend_id} of cluster {cluster_id} at {address} is healthy again");
            self.publish("main", event_of(EventKind::HealthCheckHealthy, key));
        } else {
            log::warn!("backend {backend_id} of cluster {cluster_id} at {address} is unhealthy: {reason}");
            self.publish("main", event_of(EventKind::HealthCheckUnhealthy, key));
        }
    }

    /// Takes a backend out, unless it is, or too many are.
    fn eject(&mut self, key: &BackendKey, passive: &PassiveHealth, verdict: &Verdict) -> bool {
        if known_of(&self.health.known, key).is_some_and(|known| known.ejected_until.is_some()) {
            return false;
        }
        let random = RandomState::new().hash_one(self.health.counts.ejected);
        let (now, state) = (self.now, &self.configuration.state);
        let BackendKey { cluster_id, backend_id, address } = key;
        let Some((length, ejections)) = self.health.ejection(state, passive, key, now, random) else {
            self.health.counts.not_ejected += 1;
            log::warn!(
                "backend {backend_id} of cluster {cluster_id} at {address} stays in: as many as may be are out"
            );
            return false;
        };
        let until = now + length;
        let known = self.known_mut(key);
        (known.ejected_until, known.ejections) = (Some(until), ejections);
        self.health.ejections.insert((until, key.clone()));
        self.health.counts.ejected += 1;
        let reason = verdict.reason.as_deref().unwrap_or_default();
        log::warn!(
            "backend {backend_id} of cluster {cluster_id} at {address} is out for {length:?}: {reason}"
        );
        self.publish("main", event_of(EventKind::BackendDown, key));
        true
    }

    /// Ejections that are over.
    pub(super) fn end_ejections(&mut self) {
        let mut told = Vec::new();
        while let Some((at, _)) = self.health.ejections.first()
            && *at <= self.now
        {
            let Some((_, key)) = self.health.ejections.pop_first() else { break };
            let now = self.now;
            let known = self.known_mut(&key);
            (known.ejected_until, known.back_since) = (None, Some(now));
            log::info!(
                "backend {} of cluster {} at {} is given another chance",
                key.backend_id,
                key.cluster_id,
                key.address
            );
            told.push(verdict(&key, Subject::Requests, true, None));
            self.publish("main", event_of(EventKind::BackendUp, &key));
        }
        if !told.is_empty() {
            self.fleet.broadcast(&to_worker::Message::Verdicts(Verdicts { verdicts: told }));
        }
    }

    /// Told once, not once for each worker: by the first that cannot connect, and by the last that can again.
    fn take_connects(&mut self, from: WorkerId, key: &BackendKey, good: bool) {
        let known = self.known_mut(key);
        let was_reachable = known.unreachable.is_empty();
        if good {
            known.unreachable.remove(&from);
        } else {
            known.unreachable.insert(from);
        }
        let is_reachable = known.unreachable.is_empty();
        if was_reachable != is_reachable {
            let kind = if is_reachable { EventKind::BackendUp } else { EventKind::BackendDown };
            self.publish("main", event_of(kind, key));
        }
    }

    /// Whoever probes begins anew, and says again what is not known here.
    pub(super) fn share_out_probes_anew(&mut self) {
        self.health.probers.clear();
        self.fleet.broadcast(&to_worker::Message::Probers(Probers::default()));
        self.share_out_probes();
    }

    /// A worker serves, or is lost: who probes what is worked out anew, and what only a lost one said is forgotten.
    pub(super) fn share_out_probes(&mut self) {
        let serving: Vec<u32> = self
            .fleet
            .workers()
            .filter(|worker| worker.phase() == Phase::Serving)
            .map(|worker| worker.id().0)
            .collect();
        if serving == self.health.probers {
            return;
        }
        self.note_for_will();
        self.health.probers.clone_from(&serving);
        self.fleet.broadcast(&to_worker::Message::Probers(Probers { worker_ids: serving }));
        let mut reachable = Vec::new();
        for (key, known) in self.health.known.values_mut().flatten() {
            let was_reachable = known.unreachable.is_empty();
            known.unreachable.retain(|worker| self.health.probers.contains(&worker.0));
            if !was_reachable && known.unreachable.is_empty() {
                reachable.push(key.clone());
            }
        }
        for key in reachable {
            self.health.dirty.insert(key.cluster_id.clone());
            self.publish("main", event_of(EventKind::BackendUp, &key));
        }
    }

    /// Tells of clusters that have no available backend any more, or have one again; once a turn.
    pub(super) fn settle_health(&mut self) {
        if self.health.pruned_for != self.configuration.revision {
            self.health.pruned_for = self.configuration.revision;
            self.health.prune(&self.configuration.state);
        }
        for id in std::mem::take(&mut self.health.dirty) {
            let stranded = self.health.is_stranded(&self.configuration.state, &id);
            let event = |kind: EventKind| Event {
                kind: kind.into(),
                cluster_id: Some(id.to_string()),
                ..Event::default()
            };
            if stranded && self.health.stranded.insert(id.clone()) {
                self.health.counts.stranded += 1;
                log::error!("cluster {id} has no available backend");
                self.publish("main", event(EventKind::NoAvailableBackends));
            } else if !stranded && self.health.stranded.remove(&id) {
                self.health.counts.recovered += 1;
                log::info!("cluster {id} has an available backend again");
                self.publish("main", event(EventKind::ClusterRecovered));
            }
        }
    }

    /// The change is certain: values of secret headers go to the workers before it.
    pub(super) fn send_offered_secrets(&mut self) {
        for message in self.health.take_offered() {
            self.fleet.broadcast(&message);
        }
    }
}

/// Queues messages for a worker.
pub(super) fn send_all(worker: &mut Worker, messages: impl IntoIterator<Item = to_worker::Message>) {
    for message in messages {
        worker.send(message);
    }
}

fn secrets_message(cluster: &ClusterId, secrets: Vec<ProbeSecret>) -> to_worker::Message {
    to_worker::Message::ProbeSecrets(ProbeSecrets { cluster_id: cluster.to_string(), secrets })
}

fn verdict(key: &BackendKey, subject: Subject, good: bool, reason: Option<String>) -> Verdict {
    Verdict {
        cluster_id: key.cluster_id.to_string(),
        backend_id: key.backend_id.to_string(),
        address: key.address.into(),
        subject: subject.into(),
        good,
        reason,
    }
}

fn key_of(verdict: &Verdict) -> Option<BackendKey> {
    let wire = RemoveBackend {
        cluster_id: verdict.cluster_id.clone(),
        backend_id: verdict.backend_id.clone(),
        address: verdict.address,
    };
    BackendKey::from_wire(&wire).ok()
}

fn event_of(kind: EventKind, key: &BackendKey) -> Event {
    Event {
        kind: kind.into(),
        cluster_id: Some(key.cluster_id.to_string()),
        backend_id: Some(key.backend_id.to_string()),
        address: Some(key.address.into()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests;
