//! Workers of a main process that was killed: they are not children of this one.

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use kakehi_command::proto::supervision::{Stop, to_worker};
use mio::Interest;
use mio::unix::SourceFd;

use super::{Fleet, Phase, Retiring, Worker};
use crate::main_process::adoption::FoundWorker;
use crate::main_process::supervisor::ENDS;
use crate::process::child::Process;

impl Fleet {
    /// A worker that serves, or retires. To be followed by [`settle_adopted`](Self::settle_adopted).
    pub(in crate::main_process) fn adopt(&mut self, found: FoundWorker, now: Instant) -> io::Result<()> {
        let FoundWorker { id, slot, process, channel, revision, retires, .. } = found;
        self.watch_end(&process)?;
        let mut worker = Worker::new(id, slot, process, channel, now, now);
        worker.go_on(revision, retires, now);
        self.watch(&mut worker)?;
        self.next_id = self.next_id.max(id.0 + 1);
        let retires_for_another = match &self.slots[slot].worker {
            // It was about to take over: the younger one does.
            Some(holder) => holder.id() > id,
            None => false,
        };
        if retires || retires_for_another {
            self.retiring.push(Retiring { worker, close_idle_at: None, kill_at: now });
            return Ok(());
        }
        self.slots[slot].respawn_at = None;
        if let Some(worker) = self.slots[slot].worker.replace(worker) {
            self.retiring.push(Retiring { worker, close_idle_at: None, kill_at: now });
        }
        Ok(())
    }

    /// Those that retire have their time from now on; who serves beside another one of its slot retires, too.
    pub(in crate::main_process) fn settle_adopted(&mut self, next_id: u32, drain: Duration, now: Instant) {
        self.next_id = self.next_id.max(next_id);
        let grace = self.patience;
        for retiring in &mut self.retiring {
            if retiring.worker.phase() != Phase::Stopping {
                let stop = Stop { hard: false, patient: Some(true) };
                retiring.worker.send(to_worker::Message::Stop(stop));
            }
            retiring.close_idle_at = Some(now + drain);
            retiring.kill_at = now + drain + grace;
        }
    }

    /// Has the loop wake when a process ends that is not a child.
    pub(super) fn watch_end(&self, process: &Process) -> io::Result<()> {
        let Some(pidfd) = process.pidfd() else { return Ok(()) };
        self.registry.register(&mut SourceFd(&pidfd.as_raw_fd()), ENDS, Interest::READABLE)
    }

    /// Slots with a worker.
    pub(in crate::main_process) fn holders(&self) -> usize {
        self.slots.iter().filter(|slot| slot.worker.is_some()).count()
    }
}
