//! Probes of backends: this worker's share of them, when each is due, and their sockets.
//!
//! Each backend whose cluster has a health check is probed by one of the workers ([`prober_of`]). What is to be probed
//! is a target: it waits for its time, then for its turn (no more than `max_probes` are under way), then for its
//! answer. What it finds is told to main, which tells all workers; see [`Verdict`].
//!
//! The first probe of a target comes at a random point of its interval, so that a thousand backends that were added
//! together are not probed together; later intervals are longer or shorter at random by the check's own jitter.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kakehi_command::order::{
    BackendKey as BackendIdentity, BackendTarget, Cluster, ClusterId, HealthCheck, ProbeKind,
};
use kakehi_command::proto::supervision::{ProbeSecrets, Subject, Verdict};
use slab::Slab;
use zeroize::Zeroizing;

use super::backends::{BackendKey, ClusterKey, Mark, Outcome};
use super::{Owner, Shared, back, random, secured};
use crate::health::check::{Failure, Probe};
use crate::health::{Standing, identity_of, prober_of};
use crate::metrics::Metric;
use crate::net::buffers::{Buffer, BufferPool, Use};
use crate::net::secure::Tls;
use crate::net::{Network, Peer, Read, Ready, Stream, Token, Write};
use crate::server::timers::TimerWheel;

/// Probes that are begun in one turn of the loop: traffic has its own.
const STARTED_PER_TURN_MAX: usize = 32;

/// Steps that one probe may take in a turn.
const STEPS_PER_TURN_MAX: usize = 8;

/// Bytes that are read at a time.
const READ_BYTES: usize = 4096;

/// When a probe looks again that waits for a buffer for TLS records.
const THIRST: Duration = Duration::from_millis(50);

/// Resolution of intervals and timeouts, which are whole seconds.
const TICK: Duration = Duration::from_millis(20);

/// What waits for main is not looked through below this number.
const NEWS_MAX: usize = 1024;

/// The probes of one worker.
pub struct Probes<S> {
    /// This worker, and all that probe, as main numbers them.
    worker: u32,
    probers: Vec<u32>,
    targets: Slab<Target<S>>,
    /// When a target is due, or its probe late.
    wheel: TimerWheel,
    /// Targets that are due and wait for their turn.
    queue: VecDeque<usize>,
    /// Targets whose probes wait for a buffer.
    thirsty: Vec<usize>,
    running: usize,
    running_max: usize,
    due: Vec<usize>,
    /// Bytes of answers, one after the other.
    pool: BufferPool,
    /// What main is to be told.
    news: Vec<Verdict>,
    /// When that is condensed, if main is not there to take it.
    news_max: usize,
    /// Values of secret headers, by cluster and fingerprint.
    secrets: HashMap<ClusterId, HashMap<String, Zeroizing<Vec<u8>>>>,
}

/// A backend that this worker probes.
struct Target<S> {
    backend: BackendKey,
    cluster: ClusterKey,
    /// The settings with the check.
    config: Arc<Cluster>,
    standing: Standing,
    stage: Stage<S>,
    /// When the last probe began.
    started: Instant,
}

enum Stage<S> {
    /// Until it is due.
    Waiting,
    /// In the queue.
    Queued,
    Running(Box<Running<S>>),
}

/// A probe under way.
struct Running<S> {
    peer: Peer<S>,
    probe: Probe,
    stands: bool,
}

/// What a probe came to in one step.
enum Step {
    Again,
    Wait,
    Thirsty,
    Over(Result<(), Failure>),
}

impl<S: Stream> Probes<S> {
    /// Nothing to probe yet, for worker `worker`, with at most so many probes under way.
    pub fn new(worker: u32, running_max: usize, now: Instant) -> Self {
        Self {
            worker,
            probers: Vec::new(),
            targets: Slab::new(),
            wheel: TimerWheel::new(now, TICK),
            queue: VecDeque::new(),
            thirsty: Vec::new(),
            running: 0,
            running_max,
            due: Vec::new(),
            pool: BufferPool::new(1, 1, READ_BYTES),
            news: Vec::new(),
            news_max: NEWS_MAX,
            secrets: HashMap::new(),
        }
    }

    /// Probes under way.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Backends that this worker probes.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Of these, those that it found healthy, or about which it has no opinion.
    pub fn healthy(&self) -> usize {
        self.targets.iter().filter(|(_, target)| target.standing.is_healthy()).count()
    }

    /// What main is to be told.
    pub fn take_news(&mut self) -> Vec<Verdict> {
        std::mem::take(&mut self.news)
    }

    /// Of much that waits for main, keeps the last about each backend and subject.
    pub fn condense_news(&mut self) {
        if self.news.len() < self.news_max {
            return;
        }
        let mut seen = HashSet::new();
        let mut kept: Vec<Verdict> = Vec::new();
        for verdict in std::mem::take(&mut self.news).into_iter().rev() {
            let address = SocketAddr::try_from(&verdict.address).ok();
            let about = (verdict.cluster_id.clone(), verdict.backend_id.clone(), address, verdict.subject);
            if seen.insert(about) {
                kept.push(verdict);
            }
        }
        kept.reverse();
        self.news_max = NEWS_MAX.max(2 * kept.len());
        self.news = kept;
    }

    /// This worker, as main numbers it.
    pub fn worker(&self) -> u32 {
        self.worker
    }

    /// When there is something to do.
    pub fn next_wakeup(&self, now: Instant) -> Option<Instant> {
        let thirst = (!self.thirsty.is_empty()).then(|| now + THIRST);
        self.wheel.next_wakeup().into_iter().chain(thirst).min()
    }

    fn has_more(&self) -> bool {
        !self.queue.is_empty() && self.running < self.running_max
    }

    /// Every count agrees with what it counts.
    pub fn check_invariants(&self) {
        let running = self.targets.iter().filter(|(_, it)| matches!(it.stage, Stage::Running(_))).count();
        assert_eq!(running, self.running, "probes under way");
        assert!(running <= self.running_max, "no more than may be");
        for (index, target) in &self.targets {
            let queued = self.queue.iter().filter(|it| **it == index).count();
            assert_eq!(queued, usize::from(matches!(target.stage, Stage::Queued)), "in the queue once");
            let timed = !matches!(target.stage, Stage::Queued);
            assert_eq!(self.wheel.is_set(index), timed, "what waits has a timer");
        }
    }
}

impl<N: Network> Shared<N> {
    /// The workers that probe are these from now on.
    pub fn set_probers(&mut self, workers: &[u32]) {
        self.probes.probers = workers.to_vec();
        for cluster in self.backends.cluster_keys() {
            self.settle_probes(cluster);
        }
    }

    /// Values of secret headers came.
    pub fn set_probe_secrets(&mut self, mut wire: ProbeSecrets) {
        let Ok(cluster) = ClusterId::parse(&wire.cluster_id) else { return };
        let known = self.probes.secrets.entry(cluster).or_default();
        for secret in &mut wire.secrets {
            let value = Zeroizing::new(std::mem::take(&mut secret.value));
            known.insert(std::mem::take(&mut secret.fingerprint), value);
        }
    }

    /// The settings of a cluster, or its backends, have changed.
    pub fn settle_health(&mut self, id: &ClusterId) {
        let check = self.backends.key(id).and_then(|key| self.backends.cluster(key)?.health_check());
        if let Some(check) = check
            && let Some(known) = self.probes.secrets.get_mut(id)
        {
            known.retain(|fingerprint, _| check.secret_headers().any(|(_, named)| named == fingerprint));
        } else {
            self.probes.secrets.remove(id);
        }
        let Some(key) = self.backends.key(id) else { return };
        self.backends.recount(key);
        self.settle_probes(key);
    }

    /// A backend is about to be removed.
    pub fn forget_target(&mut self, backend: &BackendIdentity) {
        let key = self.backends.backend_key(&backend.cluster_id, backend);
        if let Some(target) = key.and_then(|key| self.backends.target(key)) {
            self.drop_target(target);
        }
    }

    /// No more probes.
    pub fn stop_probes(&mut self) {
        self.set_probers(&[]);
    }

    /// Sees to it that each backend of the cluster is probed if it is this worker's to probe, and not otherwise.
    fn settle_probes(&mut self, cluster: ClusterKey) {
        let config = self.backends.cluster(cluster).filter(|config| config.health_check().is_some()).cloned();
        // Its members change nothing of the list while they are looked at.
        for place in 0.. {
            let Some(&member) = self.backends.members(cluster).get(place) else { break };
            let target = self.backends.target(member);
            let mine = config.as_ref().filter(|_| self.is_mine(member));
            match (target, mine) {
                (None, Some(config)) => self.add_target(cluster, member, config),
                (Some(index), Some(config)) => self.refresh_target(index, config),
                (Some(index), None) => self.drop_target(index),
                (None, None) => {}
            }
        }
    }

    fn is_mine(&self, backend: BackendKey) -> bool {
        let Some(config) = self.backends.backend(backend) else { return false };
        let identity = identity_of(config.cluster_id(), config.backend_id(), config.address());
        prober_of(identity, &self.probes.probers) == Some(self.probes.worker)
    }

    fn add_target(&mut self, cluster: ClusterKey, backend: BackendKey, config: &Arc<Cluster>) {
        let standing = Standing::known(self.backends.is_marked_healthy(backend));
        let first = spread(config, random(&mut self.seed));
        let (config, started) = (Arc::clone(config), self.now);
        let target = Target { backend, cluster, config, standing, stage: Stage::Waiting, started };
        let index = self.probes.targets.insert(target);
        self.backends.set_target(backend, Some(index));
        self.probes.wheel.set(index, self.now + first);
    }

    /// Goes on with the settings that hold now; with another check from the beginning.
    fn refresh_target(&mut self, index: usize, config: &Arc<Cluster>) {
        let Some(target) = self.probes.targets.get_mut(index) else { return };
        let same = target.config.health_check() == config.health_check();
        target.config = Arc::clone(config);
        if same {
            return;
        }
        let (cluster, backend) = (target.cluster, target.backend);
        self.drop_target(index);
        self.add_target(cluster, backend, config);
    }

    fn drop_target(&mut self, index: usize) {
        let Some(target) = self.probes.targets.try_remove(index) else { return };
        self.probes.wheel.clear(index);
        self.backends.set_target(target.backend, None);
        match target.stage {
            Stage::Waiting => {}
            Stage::Queued => self.probes.queue.retain(|queued| *queued != index),
            Stage::Running(running) => {
                self.probes.running -= 1;
                self.release_token(running.peer.token());
            }
        }
        self.probes.thirsty.retain(|thirsty| *thirsty != index);
    }

    /// Targets that are due, and probes that are late.
    pub fn handle_probe_timers(&mut self) {
        let mut due = std::mem::take(&mut self.probes.due);
        self.probes.wheel.expire(self.now, &mut due);
        for index in due.drain(..) {
            let Some(target) = self.probes.targets.get_mut(index) else { continue };
            match target.stage {
                Stage::Waiting => {
                    target.stage = Stage::Queued;
                    self.probes.queue.push_back(index);
                }
                Stage::Queued => {}
                Stage::Running(_) => self.end_probe(index, Some(Err(Failure::Timeout))),
            }
        }
        self.probes.due = due;
        for index in std::mem::take(&mut self.probes.thirsty) {
            self.drive_probe(index);
        }
    }

    /// Begins probes whose turn has come. True if there are more to begin in the next turn.
    pub fn start_probes(&mut self) -> bool {
        for _ in 0..STARTED_PER_TURN_MAX {
            if !self.probes.has_more() {
                break;
            }
            let Some(index) = self.probes.queue.pop_front() else { break };
            self.start_probe(index);
        }
        let more = self.probes.has_more();
        if !more && !self.probes.queue.is_empty() {
            self.metrics.incr(Metric::HealthCheckDelayed);
        }
        more
    }

    fn start_probe(&mut self, index: usize) {
        let now = self.now;
        let Some(target) = self.probes.targets.get_mut(index) else { return };
        target.started = now;
        target.stage = Stage::Waiting;
        let (backend, cluster) = (target.backend, target.cluster);
        let config = Arc::clone(&target.config);
        let Some(check) = config.health_check() else { return };
        let Some((destination, address)) = self.backends.destination(backend) else { return };
        let request = match check.kind() {
            ProbeKind::Tcp => Some(Vec::new()),
            ProbeKind::Http => {
                let secrets = self.probes.secrets.get(config.id());
                let value = |fingerprint: &str| Some(secrets?.get(fingerprint)?.as_slice());
                check.request(address, value)
            }
        };
        let Some(request) = request else {
            self.metrics.incr(Metric::HealthCheckMissingSecret);
            return self.await_next(index);
        };
        let token = self.owners.insert(Owner::Probe(index));
        let destination = match destination {
            BackendTarget::Tcp(address) => BackendTarget::Tcp(check.target(address)),
            unix @ BackendTarget::Unix(_) => unix,
        };
        let mut connected = self.net.connect(&destination, token);
        if connected.as_ref().is_err_and(back::is_our_own_want) && self.evict_idle() {
            connected = self.net.connect(&destination, token);
        }
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) => {
                self.release_token(token);
                // What this worker is short of is nothing that the backend has done.
                let failed = Some(Err(Failure::Connect(Some(error.kind()))));
                return self.judge(index, if back::is_our_own_want(&error) { None } else { failed });
            }
        };
        let mut peer = Peer::connecting(stream, token);
        if check.kind() == ProbeKind::Http
            && let Some(tls) = self.backends.secured(cluster).cloned()
        {
            match Tls::connect(&self.room, &tls.config, tls.name_of(address)) {
                Ok(tls) => peer = peer.secured(tls),
                Err(_) => {
                    self.release_token(token);
                    return self.judge(index, Some(Err(Failure::Tls)));
                }
            }
        }
        if let Some(target) = self.probes.targets.get_mut(index) {
            let running = Running { peer, probe: Probe::new(request), stands: false };
            target.stage = Stage::Running(Box::new(running));
            self.probes.running += 1;
            self.probes.wheel.set(index, now + check.timeout());
        }
    }

    /// What the poll said of a probe's socket.
    pub fn probe_ready(&mut self, index: usize, token: Token, ready: Ready) {
        let Some(target) = self.probes.targets.get_mut(index) else { return };
        let Stage::Running(running) = &mut target.stage else { return };
        if running.peer.token() != token {
            return;
        }
        running.peer.note(ready);
        if !running.stands && (ready.writable || ready.gone) {
            running.stands = !ready.gone;
            if !running.stands {
                return self.end_probe(index, Some(Err(Failure::Connect(None))));
            }
        }
        self.drive_probe(index);
    }

    fn drive_probe(&mut self, index: usize) {
        let Some(mut buffer) = self.probes.pool.checkout(Use::Answer) else { return };
        for _ in 0..STEPS_PER_TURN_MAX {
            let Some(target) = self.probes.targets.get_mut(index) else { break };
            let Stage::Running(running) = &mut target.stage else { break };
            let Some(check) = target.config.health_check() else { break };
            buffer.clear();
            let step = running.step(check, &mut buffer);
            if let Some(news) = running.peer.take_news() {
                secured::tell_of_backend(news, self);
            }
            match step {
                Step::Again => {}
                Step::Wait => break,
                Step::Thirsty => {
                    self.probes.thirsty.push(index);
                    break;
                }
                Step::Over(result) => {
                    self.end_probe(index, Some(result));
                    break;
                }
            }
        }
        buffer.clear();
        self.probes.pool.give_back(buffer);
    }

    /// Closes a probe's socket, and judges what it found out.
    fn end_probe(&mut self, index: usize, result: Option<Result<(), Failure>>) {
        let Some(target) = self.probes.targets.get_mut(index) else { return };
        let stage = std::mem::replace(&mut target.stage, Stage::Waiting);
        if let Stage::Running(running) = stage {
            self.probes.running -= 1;
            self.release_token(running.peer.token());
        }
        self.probes.thirsty.retain(|thirsty| *thirsty != index);
        self.judge(index, result);
    }

    fn judge(&mut self, index: usize, result: Option<Result<(), Failure>>) {
        self.await_next(index);
        let Some(result) = result else { return };
        let Some(target) = self.probes.targets.get_mut(index) else { return };
        let Some(check) = target.config.health_check() else { return };
        self.metrics.incr(match result {
            Ok(()) => Metric::HealthCheckSuccess,
            Err(_) => Metric::HealthCheckFailure,
        });
        let (rise, fall) = (check.healthy_threshold(), check.unhealthy_threshold());
        let turned = target.standing.note(result.is_ok(), rise, fall);
        let (cluster, backend) = (target.cluster, target.backend);
        let Some(healthy) = turned else { return };
        self.metrics.incr(if healthy { Metric::HealthCheckUp } else { Metric::HealthCheckDown });
        self.mark(cluster, backend, Mark::Unhealthy, !healthy);
        let reason = result.err().map(|failure| failure.to_string());
        self.report(backend, Subject::Probes, healthy, reason);
    }

    /// Sets when the next probe of a target is due.
    fn await_next(&mut self, index: usize) {
        let Some(target) = self.probes.targets.get(index) else { return };
        let Some(check) = target.config.health_check() else { return };
        let next = target.started + jittered(check, random(&mut self.seed));
        self.probes.wheel.set(index, next.max(self.now));
    }

    /// Marks a backend, and closes what is not to be used any more. One that probes find healthy again is tried again
    /// at once, whatever connects to it came to before.
    fn mark(&mut self, cluster: ClusterKey, backend: BackendKey, mark: Mark, set: bool) {
        let recovers = mark == Mark::Unhealthy && !set && !self.backends.is_marked_healthy(backend);
        for peer in self.backends.mark(cluster, backend, mark, set, self.now) {
            self.release_token(peer.token());
        }
        if recovers {
            self.connect_succeeded(backend, self.now);
        }
    }

    /// What main says of backends. One that this worker does not know is gone already, or not there yet.
    pub fn apply_verdicts(&mut self, verdicts: &[Verdict]) {
        for verdict in verdicts {
            let Some((cluster, backend)) = self.subject_of(verdict) else { continue };
            let mark = match verdict.subject() {
                Subject::Probes => Mark::Unhealthy,
                Subject::Requests => Mark::Ejected,
                Subject::Connects => continue,
            };
            self.mark(cluster, backend, mark, !verdict.good);
            if mark == Mark::Unhealthy
                && let Some(index) = self.backends.target(backend)
                && let Some(target) = self.probes.targets.get_mut(index)
                && target.standing.is_healthy() != verdict.good
            {
                target.standing = Standing::known(verdict.good);
            }
        }
    }

    fn subject_of(&self, verdict: &Verdict) -> Option<(ClusterKey, BackendKey)> {
        let identity = BackendIdentity::from_wire(&kakehi_command::proto::RemoveBackend {
            cluster_id: verdict.cluster_id.clone(),
            backend_id: verdict.backend_id.clone(),
            address: verdict.address,
        })
        .ok()?;
        let cluster = self.backends.key(&identity.cluster_id)?;
        Some((cluster, self.backends.backend_key(&identity.cluster_id, &identity)?))
    }

    /// What became of a request to this backend, for the count of those that failed in a row.
    pub fn note_outcome(&mut self, backend: BackendKey, outcome: Outcome) {
        if self.backends.note_outcome(backend, outcome) {
            let reason = match outcome {
                Outcome::Answered(status) => format!("requests fail, the last one by {status}"),
                Outcome::Failed => "requests are not answered".to_owned(),
            };
            self.report(backend, Subject::Requests, false, Some(reason));
        }
    }

    /// Puts something about a backend down for main.
    pub(super) fn report(
        &mut self,
        backend: BackendKey,
        subject: Subject,
        good: bool,
        reason: Option<String>,
    ) {
        let Some(config) = self.backends.backend(backend) else { return };
        self.probes.news.push(Verdict {
            cluster_id: config.cluster_id().to_string(),
            backend_id: config.backend_id().to_string(),
            address: config.address().into(),
            subject: subject.into(),
            good,
            reason,
        });
    }
}

impl<S: Stream> Running<S> {
    fn step(&mut self, check: &HealthCheck, buffer: &mut Buffer) -> Step {
        if !self.stands {
            return Step::Wait;
        }
        if check.kind() == ProbeKind::Tcp {
            return Step::Over(Ok(()));
        }
        if self.peer.is_handshaking() {
            self.peer.flush();
        } else if !self.probe.unsent().is_empty() {
            match self.peer.write(self.probe.unsent(), &[]) {
                Write::Bytes(count) => {
                    self.probe.sent(count);
                    return Step::Again;
                }
                Write::Nothing => {}
                Write::Thirsty => return Step::Thirsty,
                // It may have answered before it stopped listening.
                Write::Failed(_) if self.peer.is_readable() => {}
                Write::Failed(_) => return Step::Over(Err(Failure::Closed)),
            }
        }
        if !self.peer.is_readable() {
            return Step::Wait;
        }
        let handshaking = self.peer.is_handshaking();
        match self.peer.read(buffer) {
            Read::Bytes(_) => match self.probe.received(buffer.data()) {
                None => Step::Again,
                Some(Err(failure)) => Step::Over(Err(failure)),
                Some(Ok(status)) if check.accepts(status) => Step::Over(Ok(())),
                Some(Ok(status)) => Step::Over(Err(Failure::Status(status))),
            },
            Read::Nothing if handshaking && !self.peer.is_handshaking() => Step::Again,
            Read::Nothing => Step::Wait,
            Read::Thirsty => Step::Thirsty,
            Read::End | Read::Failed(_) if handshaking => Step::Over(Err(Failure::Tls)),
            Read::End | Read::Failed(_) => Step::Over(Err(Failure::Closed)),
        }
    }
}

/// A random point of the first interval.
fn spread(config: &Cluster, random: u64) -> Duration {
    let interval = config.health_check().map_or(Duration::ZERO, HealthCheck::interval);
    interval.mul_f64(fraction(random))
}

/// The check's interval, longer or shorter by its jitter.
fn jittered(check: &HealthCheck, random: u64) -> Duration {
    let jitter = f64::from(check.jitter_percent()) / 100.0;
    check.interval().mul_f64((1.0 + jitter * (2.0 * fraction(random) - 1.0)).max(0.0)).max(TICK)
}

/// From 0 to 1.
fn fraction(random: u64) -> f64 {
    // The upper 32 bits are as many as intervals of seconds can make use of.
    f64::from(u32::try_from(random >> 32).unwrap_or(u32::MAX)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests;
