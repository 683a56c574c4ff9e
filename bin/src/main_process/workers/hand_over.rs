//! The workers, for the next program of this process: they are its children as they were this one's.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use kakehi_command::channel::Channel;
use kakehi_command::proto::hand_over as wire;

use super::super::gather::WorkerId;
use super::super::hand_over::{Named, Taking, ago, in_ms, ms_between};
use super::{Dying, Fleet, Phase, Retiring, Worker, WorkerLog, WorkerWalls};
use crate::process::child::Process;

impl Fleet {
    /// Whether nothing is on its way to a worker, and none is starting.
    pub(in super::super) fn is_quiet(&self) -> bool {
        self.workers().all(|worker| worker.is_idle() && !matches!(worker.phase(), Phase::Booting(_)))
    }

    /// For the next program of this process; all of them serve or retire.
    pub(in super::super) fn left(&self, now: Instant, named: &mut Named) -> Vec<wire::Worker> {
        let mut left = Vec::new();
        for worker in self.workers() {
            let retiring = self.retiring.iter().find(|retiring| retiring.worker.id() == worker.id());
            left.push(wire::Worker {
                id: worker.id().0,
                pid: worker.pid(),
                slot: u32::try_from(worker.slot()).unwrap_or(u32::MAX),
                fd: named.name_raw(worker.descriptor()),
                pidfd: worker.child.pidfd().map(|pidfd| named.name(&pidfd)),
                unread: worker.unread().to_vec(),
                acknowledged: worker.acknowledged(),
                age_ms: ms_between(worker.spawned_at(), now),
                retiring: retiring.map(|retiring| wire::Retiring {
                    close_idle_in_ms: retiring.close_idle_at.map(|at| ms_between(now, at)),
                    kill_in_ms: ms_between(now, retiring.kill_at),
                }),
            });
        }
        left
    }

    /// Those that were killed and have not been seen ending.
    pub(in super::super) fn dying_left(&self, named: &mut Named) -> Vec<wire::Child> {
        let dying = self.dying.iter().map(|dying| wire::Child {
            id: dying.id.0,
            pid: dying.child.id(),
            fd: dying.child.pidfd().map(|pidfd| named.name(&pidfd)),
        });
        dying.collect()
    }

    /// The id that the next worker gets.
    pub(in super::super) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Places for workers.
    pub(in super::super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// How workers log, what they give up, and whether lost ones are replaced.
    pub(in super::super) fn habits(&self) -> (&WorkerLog, WorkerWalls, bool) {
        (&self.log, self.walls, self.restart)
    }

    /// The workers that the program has left which this process ran before. A slot without one gets one.
    pub(in super::super) fn take_over(
        &mut self,
        told: &wire::HandOver,
        taking: Taking,
        now: Instant,
    ) -> io::Result<()> {
        self.next_id = told.next_worker_id;
        for left in &told.workers {
            let slot = left.slot as usize;
            if slot >= self.slots.len() {
                return Err(io::Error::other(format!("worker {} has slot {slot}, which is none", left.id)));
            }
            let stream = UnixStream::from(taking.own(left.fd)?);
            let channel = Channel::resume(stream, self.frame_bytes_max, &left.unread, &[]);
            let channel = channel.map_err(|error| io::Error::other(error.to_string()))?;
            let born = ago(now, left.age_ms);
            let child = self.process_taken_over(left.pid, left.pidfd, taking)?;
            let mut worker = Worker::new(WorkerId(left.id), slot, child, channel, born, now);
            worker.go_on(left.acknowledged, left.retiring.is_some(), now);
            self.watch(&mut worker)?;
            match &left.retiring {
                Some(it) => self.retiring.push(Retiring {
                    worker,
                    close_idle_at: it.close_idle_in_ms.map(|ms| in_ms(now, ms)),
                    kill_at: in_ms(now, it.kill_in_ms),
                }),
                None => {
                    self.slots[slot].respawn_at = None;
                    self.slots[slot].worker = Some(worker);
                }
            }
        }
        for it in &told.dying {
            let child = self.process_taken_over(it.pid, it.fd, taking)?;
            self.dying.push(Dying { id: WorkerId(it.id), child });
        }
        Ok(())
    }

    /// A child of this process, or one that is watched by its pidfd.
    fn process_taken_over(&self, pid: u32, pidfd: Option<u32>, taking: Taking) -> io::Result<Process> {
        match pidfd {
            None => Ok(Process::known(pid)),
            Some(pidfd) => {
                let process = Process::foreign(pid, taking.own(pidfd)?);
                self.watch_end(&process)?;
                Ok(process)
            }
        }
    }
}
