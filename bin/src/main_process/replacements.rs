//! `upgrade_worker`: a worker is replaced by a successor on the same listening sockets, and nobody connected notices.
//!
//! One successor boots at a time, so that the machine never carries more than one worker more than usual that does not
//! serve yet. What goes wrong before it serves changes nothing: the worker that was to be replaced serves on.

use std::rc::Rc;
use std::time::Duration;

use kakehi_command::proto::hand_over as wire;
use kakehi_command::proto::{EventKind, Response, ResponseStatus};

use super::clients::{ClientId, failure};
use super::drains::leaver_of;
use super::gather::{Lost, WorkerId};
use super::hand_over::ago;
use super::mutations::ok;
use super::start::StartError;
use super::supervisor::{Supervisor, event};
use super::tasks::{TaskId, Work};
use super::workers::{Phase, Role};

/// How far the replacement of a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replacement {
    /// Others come first, or too many of its slot still retire.
    Waiting(WorkerId),
    /// The first is to be replaced by the second, which does not serve yet.
    Booting(WorkerId, WorkerId),
    /// The first retires, the second serves in its place.
    Retiring(WorkerId, WorkerId),
}

impl Replacement {
    /// The worker that is replaced.
    pub(super) fn predecessor(self) -> WorkerId {
        match self {
            Self::Waiting(worker) | Self::Booting(worker, _) | Self::Retiring(worker, _) => worker,
        }
    }

    /// What it waits for, for who asked for it.
    pub(super) fn waits_for(self) -> String {
        match self {
            Self::Waiting(worker) => format!("Worker {worker} is replaced after others..."),
            Self::Booting(_, successor) => format!("Still waiting for worker {successor} to serve..."),
            Self::Retiring(worker, successor) => {
                format!("Worker {successor} serves, worker {worker} finishes what it carries...")
            }
        }
    }
}

impl Supervisor {
    /// Replaces a worker.
    pub(super) fn upgrade_worker(&mut self, client: ClientId, verb: &'static str, id: WorkerId) {
        let refused = if self.stopping.is_some() {
            Some("the proxy is stopping".to_owned())
        } else if self.fleet.slot_held_by(id).is_none() {
            let ids: Vec<String> = self.fleet.ids().iter().map(ToString::to_string).collect();
            Some(format!("no worker {id} serves (those that run: {})", ids.join(", ")))
        } else if self.tasks.replacements().any(|(_, it)| it.predecessor() == id) {
            Some(format!("worker {id} is being replaced already"))
        } else {
            None
        };
        if let Some(text) = refused {
            log::info!("client {client}: {verb} refused: {text}");
            return self.clients.answer(client, &failure(text), self.now);
        }
        self.clients.processing(client, format!("Replacing worker {id}..."), self.now);
        self.add_task(client, verb, None, Work::Replace(Replacement::Waiting(id)));
    }

    /// Takes each replacement a step further, if it can be.
    pub(super) fn settle_replacements(&mut self) -> Result<(), StartError> {
        if self.stopping.is_none() {
            for id in self.fleet.hurry(self.now) {
                self.lose_worker(id, &Lost::Silent, "it had not finished in time (worker_drain_timeout)")?;
            }
        }
        let replacements: Vec<(TaskId, Replacement)> = self.tasks.replacements().collect();
        for (task, replacement) in replacements {
            match replacement {
                Replacement::Waiting(worker) => self.begin_replacement(task, worker),
                Replacement::Booting(worker, successor) => {
                    self.watch_successor(task, worker, successor);
                }
                Replacement::Retiring(worker, successor) => {
                    if self.fleet.role(worker).is_none() && !self.fleet.is_dying(worker) {
                        let text = format!(
                            "worker {successor} serves in the place of worker {worker}, which has ended"
                        );
                        self.end_replacement(task, &ok(text, None));
                    }
                }
            }
        }
        Ok(())
    }

    fn begin_replacement(&mut self, task: TaskId, worker: WorkerId) {
        if self.stopping.is_some() {
            return self.end_replacement(task, &failure("nothing was replaced: the proxy is stopping"));
        }
        let Some(slot) = self.fleet.slot_held_by(worker) else {
            let text =
                format!("worker {worker} has ended meanwhile; another one serves in its place, or will");
            return self.end_replacement(task, &failure(text));
        };
        if self.fleet.has_successor() || self.fleet.make_way(slot, self.now) || self.is_handing_over() {
            return;
        }
        let orders: Rc<[_]> = self.configuration.state.orders().collect();
        let ready_by = self.now + self.patience(orders.len());
        let successor = match self.fleet.spawn_successor(slot, self.now, ready_by) {
            Ok(successor) => successor.id(),
            Err(error) => {
                let text = format!("worker {worker} serves on: no successor can be started: {error}");
                return self.end_replacement(task, &failure(text));
            }
        };
        self.equip(successor, &orders);
        log::info!("worker {successor} starts in slot {slot}, to take the place of worker {worker}");
        self.tasks.set_replacement(task, Replacement::Booting(worker, successor));
    }

    fn watch_successor(&mut self, task: TaskId, worker: WorkerId, successor: WorkerId) {
        match self.fleet.role(successor) {
            Some(Role::Successor) => {
                let serves = self.fleet.by_id(successor).is_some_and(|it| it.phase() == Phase::Serving);
                let Some(slot) = self.fleet.by_id(successor).map(|it| it.slot()).filter(|_| serves) else {
                    return;
                };
                let retires = self.fleet.promote(slot, self.now, self.settings.worker_drain_timeout);
                log::info!("worker {successor} serves in slot {slot}; worker {worker} takes nothing new");
                self.share_out_probes();
                self.publish(&successor.to_string(), event(EventKind::WorkerUpgraded));
                if retires.is_some() {
                    self.tasks.set_replacement(task, Replacement::Retiring(worker, successor));
                } else {
                    let text = format!("worker {successor} serves; worker {worker} had died meanwhile");
                    self.end_replacement(task, &ok(text, None));
                }
            }
            Some(_) => {}
            None => {
                let fate = if self.fleet.slot_held_by(worker).is_some() { "serves on" } else { "has ended" };
                let text =
                    format!("worker {worker} {fate}: its successor, worker {successor}, did not come up");
                self.end_replacement(task, &failure(text));
            }
        }
    }

    /// What a client waits for that the program has left which this process ran before.
    pub(super) fn take_over_task(&mut self, client: ClientId, left: &wire::Task) {
        let (verb, work) = match &left.work {
            None => return self.clients.answer(client, &failure("the request was given up"), self.now),
            Some(wire::task::Work::HandOver(_)) => ("upgrade_main", Work::HandOver),
            Some(wire::task::Work::WaitDrained(asked)) => match leaver_of(asked) {
                Ok(who) => ("wait_drained", Work::Drained { who, asked: asked.clone(), is_late: false }),
                Err(text) => return self.clients.answer(client, &failure(text), self.now),
            },
            Some(wire::task::Work::Replacement(it)) => {
                let worker = WorkerId(it.worker);
                let replacement = match it.successor.map(WorkerId) {
                    None => Replacement::Waiting(worker),
                    Some(successor) => Replacement::Retiring(worker, successor),
                };
                ("upgrade_worker", Work::Replace(replacement))
            }
        };
        match &work {
            Work::HandOver => self.resume_audit(client, verb, "the proxy".to_owned()),
            Work::Replace(it) => self.resume_audit(client, verb, format!("worker {}", it.predecessor())),
            _ => {}
        }
        let id = self.add_task(client, verb, left.deadline_in_ms.map(Duration::from_millis), work);
        self.tasks.set_started(id, ago(self.now, left.age_ms));
    }

    fn end_replacement(&mut self, id: TaskId, response: &Response) {
        let Some(task) = self.tasks.take(id) else { return };
        if response.status() == ResponseStatus::Failure {
            log::warn!("{}: {}", task.verb, response.message);
        }
        self.clients.answer(task.client, response, self.now);
    }
}
