//! A worker that serves is replaced by one that takes over its slot: the successor boots beside it, on the same
//! listening sockets; once it serves, the predecessor takes nothing new and retires.
//!
//! Who retires keeps the connections that carry nothing, so that no client finds one closed that it is just about to
//! use: each ends with its next request. At the first deadline what is idle is closed, and at the second all of it.

use std::io;
use std::time::{Duration, Instant};

use kakehi_command::proto::supervision::{Stop, to_worker};

use super::{Fleet, Role, Worker};
use crate::main_process::gather::WorkerId;

/// Workers of one slot that retire at the same time. What is limited over all workers has room for so many.
pub(crate) const RETIRING_PER_SLOT_MAX: usize = 2;

/// A worker that has been replaced.
#[derive(Debug)]
pub(super) struct Retiring {
    pub(super) worker: Worker,
    /// When its idle connections are closed; `None` once they are.
    pub(super) close_idle_at: Option<Instant>,
    /// When it is killed.
    pub(super) kill_at: Instant,
}

impl Retiring {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        Some(self.close_idle_at.unwrap_or(self.kill_at))
    }
}

impl Fleet {
    /// Spawns a successor for the worker that holds a slot. Gives it, to be fed.
    pub(in crate::main_process) fn spawn_successor(
        &mut self,
        slot: usize,
        now: Instant,
        ready_by: Instant,
    ) -> io::Result<&mut Worker> {
        debug_assert!(self.slots[slot].successor.is_none(), "one successor at a time");
        let worker = self.spawn_for(slot, now, ready_by)?;
        Ok(self.slots[slot].successor.insert(worker))
    }

    /// The successor of this slot serves: it has the slot from now on, and who had it retires. Gives that one.
    pub(in crate::main_process) fn promote(
        &mut self,
        slot: usize,
        now: Instant,
        patience: Duration,
    ) -> Option<WorkerId> {
        let grace = self.patience;
        let place = self.slots.get_mut(slot)?;
        let successor = place.successor.take()?;
        place.respawn_at = None;
        let mut predecessor = place.worker.replace(successor)?;
        predecessor.send(to_worker::Message::Stop(Stop { hard: false, patient: Some(true) }));
        let id = predecessor.id();
        let close_idle_at = now + patience;
        self.retiring.push(Retiring {
            worker: predecessor,
            close_idle_at: Some(close_idle_at),
            kill_at: close_idle_at + grace,
        });
        Some(id)
    }

    /// Tells those whose time to finish is over, and kills those that have had more. Gives the latter.
    pub(in crate::main_process) fn hurry(&mut self, now: Instant) -> Vec<WorkerId> {
        let mut late = Vec::new();
        for retiring in &mut self.retiring {
            if retiring.close_idle_at.is_some_and(|at| at <= now) {
                retiring.close_idle_at = None;
                retiring.worker.send(to_worker::Message::Stop(Stop { hard: false, patient: None }));
            }
            if retiring.kill_at <= now {
                late.push(retiring.worker.id());
            }
        }
        late
    }

    /// Lets the worker of this slot that retires for the longest time finish at once, if there are so many that one
    /// more would be too many. Whether there are.
    pub(in crate::main_process) fn make_way(&mut self, slot: usize, now: Instant) -> bool {
        let grace = self.patience;
        let of_slot = |retiring: &&mut Retiring| retiring.worker.slot() == slot;
        if self.retiring.iter_mut().filter(of_slot).count() < RETIRING_PER_SLOT_MAX {
            return false;
        }
        let oldest = self.retiring.iter_mut().filter(of_slot).min_by_key(|retiring| retiring.kill_at);
        if let Some(retiring) = oldest
            && retiring.close_idle_at.is_some()
        {
            retiring.close_idle_at = Some(now);
            retiring.kill_at = now + grace;
        }
        true
    }

    /// The worker that holds a slot and has this id: its slot.
    pub(in crate::main_process) fn slot_held_by(&self, id: WorkerId) -> Option<usize> {
        let holds = |slot: &super::Slot| slot.worker.as_ref().is_some_and(|worker| worker.id() == id);
        self.slots.iter().position(holds)
    }

    /// What a worker that runs is in its slot.
    pub(in crate::main_process) fn role(&self, id: WorkerId) -> Option<Role> {
        let is = |worker: &Option<Worker>| worker.as_ref().is_some_and(|worker| worker.id() == id);
        for slot in &self.slots {
            if is(&slot.worker) {
                return Some(Role::Holder);
            }
            if is(&slot.successor) {
                return Some(Role::Successor);
            }
        }
        self.retiring.iter().any(|retiring| retiring.worker.id() == id).then_some(Role::Retiring)
    }

    /// Whether a worker was killed, or has said that it ends, and the kernel has not said that it has.
    pub(in crate::main_process) fn is_dying(&self, id: WorkerId) -> bool {
        self.dying.iter().any(|dying| dying.id == id)
    }

    /// Whether a slot has a worker, or one that is about to take it over.
    pub(in crate::main_process) fn holds(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(|slot| slot.worker.is_some() || slot.successor.is_some())
    }

    /// Whether a worker is about to take over a slot.
    pub(in crate::main_process) fn has_successor(&self) -> bool {
        self.slots.iter().any(|slot| slot.successor.is_some())
    }
}
