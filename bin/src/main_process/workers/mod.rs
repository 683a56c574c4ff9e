//! The fleet: one slot per configured worker, each with at most one process that serves it.
//!
//! A slot outlives its workers: it owns the accept queues ([`super::sockets`]) and remembers how its
//! last workers died. A worker that is lost is killed, handed to the list of the dying until the kernel
//! reports its end, and replaced: at once, or after a delay if the slot is in a crash loop. One that is
//! replaced while it serves goes on until its successor does, and then retires ([`succession`]).

mod adoption;
mod hand_over;
mod spawn;
mod succession;
mod worker;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use kakehi_command::channel::{Channel, ChannelError};
use kakehi_command::proto::supervision::to_worker;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::backoff::Backoff;
use super::gather::WorkerId;
use super::supervisor::TOKEN_STEP;
use crate::process::child::{End, Process};
pub(crate) use spawn::{WorkerLog, WorkerWalls};
pub(crate) use succession::RETIRING_PER_SLOT_MAX;
use succession::Retiring;
pub(crate) use worker::{HEARTBEAT, Phase, Worker};

/// How long the process id of a worker that was reaped counts as its own: far longer than its last connection to the
/// command socket waits to be accepted, and far shorter than a kernel takes to give the number to somebody else.
const REAPED_KNOWN_FOR: Duration = Duration::from_secs(30);

/// All workers and the places they serve in.
#[derive(Debug)]
pub(super) struct Fleet {
    slots: Vec<Slot>,
    /// Replaced by a successor that serves; each finishes what it carries.
    retiring: Vec<Retiring>,
    dying: Vec<Dying>,
    tokens: BTreeMap<Token, WorkerId>,
    next_id: u32,
    next_token: Token,
    registry: Registry,
    log: WorkerLog,
    walls: WorkerWalls,
    /// Workers that were reaped not long ago, and when.
    reaped: VecDeque<(u32, Instant)>,
    frame_bytes_max: usize,
    /// Whether a lost worker gets a successor.
    restart: bool,
    /// How long a worker may say nothing, and then how long it may take to answer.
    patience: Duration,
}

#[derive(Debug, Default)]
struct Slot {
    worker: Option<Worker>,
    /// The worker that is to take its place, and does not serve yet.
    successor: Option<Worker>,
    backoff: Backoff,
    /// The last worker that was lost here, and its process id.
    last: Option<(WorkerId, u32)>,
    /// When the next worker is due; `None` while one runs, or if there will be none.
    respawn_at: Option<Instant>,
}

/// A process that was killed and not reaped yet.
#[derive(Debug)]
struct Dying {
    id: WorkerId,
    child: Process,
}

/// A process that ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Which worker it was.
    pub(super) id: WorkerId,
    /// Its process id.
    pub(super) pid: u32,
    /// How it ended.
    pub(super) status: End,
    /// True if it still held its slot: nobody knew yet.
    pub(super) unexpected: bool,
}

/// What a worker is in its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The one that serves there.
    Holder,
    /// The one that is about to.
    Successor,
    /// One that did, and has been replaced.
    Retiring,
}

/// What a fleet is made of.
#[derive(Debug, Clone)]
pub(super) struct FleetSettings {
    /// Workers.
    pub(super) slots: usize,
    /// How they log.
    pub(super) log: WorkerLog,
    /// What they give up.
    pub(super) walls: WorkerWalls,
    /// Bytes of one frame on their channels.
    pub(super) frame_bytes_max: usize,
    /// Whether a lost worker gets a successor.
    pub(super) restart: bool,
    /// How long a worker may say nothing, and then how long it may take to answer.
    pub(super) patience: Duration,
}

/// What the log tells about a lost worker.
#[derive(Debug)]
pub(super) struct Loss {
    /// The worker.
    pub(super) id: WorkerId,
    /// Its process id.
    pub(super) pid: u32,
    /// Its slot.
    pub(super) slot: usize,
    /// What it was there.
    pub(super) role: Role,
    /// How long it lived.
    pub(super) lifetime: Duration,
    /// The last revision it applied.
    pub(super) acknowledged: u64,
    /// How long its successor waits; `None` if there will be none.
    pub(super) delay: Option<Duration>,
    /// Young deaths of its slot in a row, this one included.
    pub(super) young_deaths: u32,
}

impl Fleet {
    /// `slots` places, all empty and due now.
    /// Their tokens are `first_token` and every [`TOKEN_STEP`]th after it.
    pub(super) fn new(settings: FleetSettings, registry: Registry, first_token: Token, now: Instant) -> Self {
        let FleetSettings { slots, log, walls, frame_bytes_max, restart, patience } = settings;
        let slots = (0..slots).map(|_| Slot { respawn_at: Some(now), ..Slot::default() }).collect();
        Self {
            slots,
            retiring: Vec::new(),
            dying: Vec::new(),
            tokens: BTreeMap::new(),
            next_id: 0,
            next_token: first_token,
            registry,
            log,
            walls,
            reaped: VecDeque::new(),
            frame_bytes_max,
            restart,
            patience,
        }
    }

    /// Spawns a worker for an empty slot and registers its channel. Gives the worker, to be fed. If it
    /// cannot be spawned, the slot waits as after a young death.
    pub(super) fn spawn(&mut self, slot: usize, now: Instant, ready_by: Instant) -> io::Result<&mut Worker> {
        debug_assert!(self.slots[slot].worker.is_none(), "a slot has one worker");
        self.slots[slot].respawn_at = None;
        match self.spawn_for(slot, now, ready_by) {
            Ok(worker) => Ok(self.slots[slot].worker.insert(worker)),
            Err(error) => {
                let place = &mut self.slots[slot];
                place.respawn_at = Some(now + place.backoff.after_death(Duration::ZERO));
                Err(error)
            }
        }
    }

    fn spawn_for(&mut self, slot: usize, now: Instant, ready_by: Instant) -> io::Result<Worker> {
        let id = WorkerId(self.next_id);
        self.next_id += 1;
        let (child, stream) = spawn::spawn(id, &self.log, self.walls)?;
        let channel = Channel::new(stream, self.frame_bytes_max);
        let mut worker = Worker::new(id, slot, child, channel, now, ready_by);
        match self.watch(&mut worker) {
            Ok(()) => Ok(worker),
            Err(error) => {
                self.dying.push(Dying::kill(worker));
                Err(error)
            }
        }
    }

    fn watch(&mut self, worker: &mut Worker) -> io::Result<()> {
        let token = self.next_token;
        self.next_token.0 += TOKEN_STEP;
        self.registry.register(&mut SourceFd(&worker.descriptor()), token, Interest::READABLE)?;
        worker.set_token(token);
        self.tokens.insert(token, worker.id());
        Ok(())
    }

    /// Takes a worker out of its place, kills what is left of it, and plans its successor. `None` if it
    /// has no place any more.
    pub(super) fn lose(&mut self, id: WorkerId, now: Instant) -> Option<Loss> {
        let (worker, role) = self.take(id)?;
        // The descriptor leaves the poll when it is closed; this also works if somebody else holds it.
        let _gone = self.registry.deregister(&mut SourceFd(&worker.descriptor()));
        self.tokens.remove(&worker.token());
        let slot = worker.slot();
        let place = &mut self.slots[slot];
        let lifetime = now.saturating_duration_since(worker.spawned_at());
        let stopping = worker.phase() == Phase::Stopping;
        let mut delay = None;
        if role == Role::Holder {
            place.last = Some((id, worker.pid()));
        }
        // Whoever is to take its place does so as soon as it serves.
        let is_empty = place.worker.is_none() && place.successor.is_none();
        if role != Role::Retiring && is_empty && self.restart && !stopping {
            let wait = place.backoff.after_death(lifetime);
            delay = Some(wait);
            place.respawn_at = Some(now + wait);
        }
        let loss = Loss {
            id,
            pid: worker.pid(),
            slot,
            role,
            lifetime,
            acknowledged: worker.acknowledged(),
            delay,
            young_deaths: place.backoff.young_deaths(),
        };
        self.dying.push(Dying::kill(worker));
        Some(loss)
    }

    /// Takes a worker out of wherever it is.
    fn take(&mut self, id: WorkerId) -> Option<(Worker, Role)> {
        let is_it = |worker: &mut Worker| worker.id() == id;
        for place in &mut self.slots {
            if let Some(worker) = place.worker.take_if(is_it) {
                return Some((worker, Role::Holder));
            }
            if let Some(worker) = place.successor.take_if(is_it) {
                return Some((worker, Role::Successor));
            }
        }
        let index = self.retiring.iter().position(|retiring| retiring.worker.id() == id)?;
        Some((self.retiring.swap_remove(index).worker, Role::Retiring))
    }

    /// Collects every process that has ended.
    pub(super) fn reap(&mut self, now: Instant) -> Vec<Ended> {
        let mut ended = Vec::new();
        let remembered = |(_, at): &(u32, Instant)| now.saturating_duration_since(*at) < REAPED_KNOWN_FOR;
        self.reaped.retain(remembered);
        for worker in self.workers_mut() {
            if let Ok(Some(status)) = worker.child.try_wait() {
                ended.push(Ended { id: worker.id(), pid: worker.pid(), status, unexpected: true });
            }
        }
        self.dying.retain_mut(|Dying { id, child }| match child.try_wait() {
            Ok(Some(status)) => {
                ended.push(Ended { id: *id, pid: child.id(), status, unexpected: false });
                self.reaped.push_back((child.id(), now));
                false
            }
            Ok(None) => true,
            Err(error) => {
                log::error!("cannot wait for worker {id} (pid {}): {error}", child.id());
                false
            }
        });
        ended
    }

    /// Whether a process is a worker, or was one until not long ago: what it left on its way may still come.
    pub(super) fn is_worker(&self, pid: i32, now: Instant) -> bool {
        let dying = self.dying.iter().map(|dying| dying.child.id());
        let known = |(_, at): &&(u32, Instant)| now.saturating_duration_since(*at) < REAPED_KNOWN_FOR;
        let reaped = self.reaped.iter().filter(known).map(|(pid, _)| *pid);
        let pids = self.workers().map(Worker::pid).chain(dying).chain(reaped);
        u32::try_from(pid).is_ok_and(|pid| pids.into_iter().any(|known| known == pid))
    }

    /// No lost worker gets a successor from now on: the proxy stops.
    pub(super) fn stop_restarting(&mut self) {
        self.restart = false;
        for slot in &mut self.slots {
            slot.respawn_at = None;
        }
    }

    /// Kills every worker that still runs.
    pub(super) fn kill_all(&mut self) {
        for worker in self.workers_mut() {
            kill(&mut worker.child);
        }
    }

    /// Queues a message for every worker.
    pub(super) fn broadcast(&mut self, message: &to_worker::Message) {
        for worker in self.workers_mut() {
            worker.send(message.clone());
        }
    }

    /// Sends what waits; names the workers whose channels have failed.
    pub(super) fn pump(&mut self) -> Vec<(WorkerId, ChannelError)> {
        let mut failed = Vec::new();
        for worker in every(&mut self.slots, &mut self.retiring) {
            let mut pumped = worker.pump();
            // Room is of interest from the first time on that there is none: a worker reads, and each message
            // that it takes would wake us otherwise.
            if pumped.is_ok() && worker.needs_room() {
                let both = Interest::READABLE | Interest::WRITABLE;
                let watched =
                    self.registry.reregister(&mut SourceFd(&worker.descriptor()), worker.token(), both);
                pumped = watched.map_err(ChannelError::from);
            }
            if let Err(error) = pumped {
                failed.push((worker.id(), error));
            }
        }
        failed
    }

    /// Slots whose next worker is due.
    pub(super) fn due(&self, now: Instant) -> Vec<usize> {
        let is_due = |slot: &Slot| slot.respawn_at.is_some_and(|at| at <= now);
        (0..self.slots.len()).filter(|index| is_due(&self.slots[*index])).collect()
    }

    /// Workers that should serve by now and do not.
    pub(super) fn late(&self, now: Instant) -> Vec<WorkerId> {
        self.workers()
            .filter(|worker| matches!(worker.phase(), Phase::Booting(ready_by) if ready_by <= now))
            .map(Worker::id)
            .collect()
    }

    /// Asks workers that have said nothing for a while whether they are there, and gives those that do not
    /// answer. A worker that hangs serves nobody, and nothing else would tell.
    pub(super) fn silent(&mut self, now: Instant, revision: u64) -> Vec<WorkerId> {
        let patience = self.patience;
        let mut silent = Vec::new();
        for worker in self.workers_mut() {
            worker.ask_if_there(now, patience);
            if worker.is_silent(now, patience, revision) {
                silent.push(worker.id());
            }
        }
        silent
    }

    /// When something is due next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let boots = self.workers().filter_map(|worker| match worker.phase() {
            Phase::Booting(ready_by) => Some(ready_by),
            Phase::Serving | Phase::Stopping => None,
        });
        let heartbeats = self.workers().filter_map(|worker| worker.next_heartbeat(self.patience));
        let retirements = self.retiring.iter().filter_map(|retiring| retiring.next_deadline());
        let respawns = self.slots.iter().filter_map(|slot| slot.respawn_at);
        respawns.chain(boots).chain(heartbeats).chain(retirements).min()
    }

    /// The worker behind an event.
    pub(super) fn by_token(&mut self, token: Token) -> Option<&mut Worker> {
        let id = *self.tokens.get(&token)?;
        self.by_id(id)
    }

    /// A worker that runs.
    pub(super) fn by_id(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers_mut().find(|worker| worker.id() == id)
    }

    /// Workers that run: those that hold a slot, in the order of the slots, each with its successor if that is
    /// about to take its place; then those that retire.
    pub(super) fn workers(&self) -> impl Iterator<Item = &Worker> {
        let placed = self.slots.iter().flat_map(|slot| slot.worker.iter().chain(&slot.successor));
        placed.chain(self.retiring.iter().map(|retiring| &retiring.worker))
    }

    /// As [`workers`](Self::workers).
    pub(super) fn workers_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        every(&mut self.slots, &mut self.retiring)
    }

    /// The last worker of each slot that has none now, and its process id.
    pub(super) fn without_successor(&self) -> impl Iterator<Item = (WorkerId, u32)> {
        self.slots.iter().filter(|slot| slot.worker.is_none()).filter_map(|slot| slot.last)
    }

    /// Ids of the workers that run.
    pub(super) fn ids(&self) -> Vec<WorkerId> {
        self.workers().map(Worker::id).collect()
    }

    /// True once every slot has a worker that serves.
    pub(super) fn all_serve(&self) -> bool {
        self.slots
            .iter()
            .all(|slot| slot.worker.as_ref().is_some_and(|worker| worker.phase() == Phase::Serving))
    }

    /// True once no process is left, not even one to be reaped.
    pub(super) fn is_gone(&self) -> bool {
        self.dying.is_empty() && self.workers().next().is_none()
    }

    /// The revision that every worker has applied; without workers, any.
    pub(super) fn applied_by_all(&self) -> u64 {
        self.workers().map(Worker::acknowledged).min().unwrap_or(u64::MAX)
    }

    /// What workers spawned from now on log.
    pub(super) fn set_log_filter(&mut self, filter: &str) {
        filter.clone_into(&mut self.log.filter);
    }
}

/// As [`Fleet::workers`], with the rest of the fleet left free.
fn every<'f>(slots: &'f mut [Slot], retiring: &'f mut [Retiring]) -> impl Iterator<Item = &'f mut Worker> {
    let placed = slots.iter_mut().flat_map(|slot| slot.worker.iter_mut().chain(&mut slot.successor));
    placed.chain(retiring.iter_mut().map(|retiring| &mut retiring.worker))
}

impl Dying {
    fn kill(worker: Worker) -> Self {
        let id = worker.id();
        let mut child = worker.child;
        kill(&mut child);
        Self { id, child }
    }
}

fn kill(child: &mut Process) {
    // It may have ended by itself meanwhile; nothing else can fail for a child of ours.
    if let Err(error) = child.kill() {
        log::debug!("cannot kill pid {}: {error}", child.id());
    }
}
