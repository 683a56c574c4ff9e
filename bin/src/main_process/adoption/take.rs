//! Going on with the workers of a main process that was killed; and seeing to it that the next one could.

use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;

use kakehi_command::proto::hand_over as wire;
use kakehi_command::proto::supervision::{self, to_worker};

use super::super::feed::Feed;
use super::super::gather::WorkerId;
use super::super::hand_over::{Named, PROTOCOL};
use super::super::start::StartError;
use super::super::supervisor::{Supervisor, read_clock};
use super::super::watch::send_sockets;
use super::{Found, Rendezvous, Will};
use crate::process::logging::{self, Filter};

/// What it takes for the next main process to find the workers of this one.
#[derive(Debug)]
pub(crate) struct Refuge {
    pub(in super::super) rendezvous: Rendezvous,
    will: Will,
    /// Something has changed that belongs into the will.
    is_stale: bool,
}

impl Refuge {
    /// With an empty will.
    pub(in super::super) fn new(rendezvous: Rendezvous) -> io::Result<Self> {
        Ok(Self { rendezvous, will: Will::create()?, is_stale: true })
    }
}

impl Supervisor {
    /// Takes over workers, and what is known of them. The state is this one's already.
    pub(in super::super) fn adopt_workers(&mut self, found: Found) -> Result<(), StartError> {
        let failed = |source| StartError::Io { step: "watch the workers that serve", source };
        let Found { told, workers, revision, .. } = found;
        let now = read_clock();
        self.now = now;
        self.is_adopting = true;
        self.tickets.take_over(&told.ticket_keys, now);
        self.health.take_over(&told.health, &self.configuration.state, revision, now);
        self.drains.take_over(&told.leaving, now);
        let ids: BTreeSet<WorkerId> = workers.iter().map(|worker| worker.id).collect();
        self.drains.keep_waiting_for(&ids);
        self.fleet.set_log_filter(&told.log_filter);
        match Filter::parse(&told.log_filter) {
            Ok(filter) => logging::set_filter(filter),
            Err(error) => log::warn!("the log filter that was set cannot be read: {error}"),
        }
        let all = workers.len();
        let mut rest = Vec::new();
        for mut worker in workers {
            let open: BTreeSet<_> = worker.sockets.drain(..).map(|(key, _)| key).collect();
            let missing: Vec<_> = self.sockets.keys().filter(|key| !open.contains(*key)).cloned().collect();
            if let Some(refuge) = &mut self.refuge {
                refuge.rendezvous.keep_place(worker.id, worker.place.name.clone());
            }
            let (behind, said) = (std::mem::take(&mut worker.behind), std::mem::take(&mut worker.said));
            rest.push((worker.id, missing, behind, said));
            self.fleet.adopt(worker, now).map_err(failed)?;
        }
        self.fleet.settle_adopted(told.next_worker_id, self.settings.worker_drain_timeout, now);
        self.renew_wills();
        for (id, missing, behind, _) in &mut rest {
            let Some(worker) = self.fleet.by_id(*id).filter(|_| !behind.is_empty()) else { continue };
            send_sockets(worker, &self.sockets, missing);
            worker.feed(Feed::new(Rc::from(std::mem::take(behind)), revision));
        }
        self.share_out_probes_anew();
        for (id, _, _, said) in rest {
            for message in said {
                self.take_message(id, message)?;
            }
        }
        let retiring = all - self.fleet.holders();
        log::warn!(
            "took over from a main process that was killed (version {}): revision {revision}, {} workers serve, \
             {retiring} retire, {} slots get a new one",
            told.version,
            self.fleet.holders(),
            self.fleet.slots() - self.fleet.holders(),
        );
        Ok(())
    }

    /// Gives a worker that starts a place to wait at, should this process be killed.
    pub(in super::super) fn give_place(&mut self, id: WorkerId) {
        let Some(refuge) = &mut self.refuge else { return };
        let Some(worker) = self.fleet.by_id(id) else { return };
        let fds = refuge.rendezvous.make_place(id, worker.pid()).and_then(|listener| {
            let testament = refuge.will.for_reading()?;
            Ok(vec![listener, testament])
        });
        match fds {
            Ok(fds) => {
                let rendezvous = supervision::Rendezvous {
                    slot: u32::try_from(worker.slot()).unwrap_or(u32::MAX),
                    uid: nix::unistd::geteuid().as_raw(),
                    timeout: self.settings.worker_orphan_timeout,
                };
                worker.send_with_all(to_worker::Message::Rendezvous(rendezvous), fds);
            }
            Err(error) => {
                log::error!("worker {id} will end if the main process is killed: no place for it: {error}");
            }
        }
    }

    /// A worker is gone.
    pub(in super::super) fn remove_place(&mut self, id: WorkerId) {
        if let Some(refuge) = &mut self.refuge {
            refuge.rendezvous.remove_place(id);
        }
    }

    /// Workers that hold the will of another main process, or another program, get this one's.
    pub(in super::super) fn renew_wills(&mut self) {
        let Some(refuge) = &self.refuge else { return };
        for worker in self.fleet.workers_mut() {
            if !refuge.rendezvous.has_place(worker.id()) {
                continue;
            }
            match refuge.will.for_reading() {
                Ok(fd) => {
                    let message = to_worker::Message::Testament(supervision::Testament {});
                    worker.send_with(message, fd);
                }
                Err(error) => log::error!("worker {} keeps an old will: {error}", worker.id()),
            }
        }
    }

    /// What the next main process should know has changed.
    pub(in super::super) fn note_for_will(&mut self) {
        if let Some(refuge) = &mut self.refuge {
            refuge.is_stale = true;
        }
    }

    /// Writes down what the next main process should know, before any worker hears of it.
    pub(in super::super) fn settle_will(&mut self) {
        if !self.refuge.as_ref().is_some_and(|refuge| refuge.is_stale) {
            return;
        }
        let testament = self.testament();
        let Some(refuge) = &mut self.refuge else { return };
        refuge.is_stale = false;
        if let Err(error) = refuge.will.write(testament) {
            log::error!(
                "what the next main process should know, if this is killed, cannot be written: {error}"
            );
        }
    }

    fn testament(&self) -> wire::Testament {
        // Of descriptors only the numbers are told, which mean nothing to another process: workers have them.
        let mut named = Named::default();
        let (log, ..) = self.fleet.habits();
        wire::Testament {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            written_at: 0,
            slots: u32::try_from(self.fleet.slots()).unwrap_or(u32::MAX),
            next_worker_id: self.fleet.next_id(),
            ticket_keys: self.tickets.wire(),
            sessions: self.sessions.as_ref().map(|memory| memory.left(&mut named)),
            limits: self.limits.left(&mut named),
            health: self.health.left(self.now),
            leaving: self.drains.left(self.now),
            log_filter: log.filter.clone(),
        }
    }
}
