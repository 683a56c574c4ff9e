//! Watching the workers: spawning who is due, hearing what they say, replacing who is lost.

use std::os::unix::process::ExitStatusExt as _;
use std::rc::Rc;
use std::time::Duration;

use kakehi_command::channel::Received;
use kakehi_command::order::{ListenerKey, Order};
use kakehi_command::proto::EventKind;
use kakehi_command::proto::supervision::{Boot, Start, from_worker, to_worker};
use mio::Token;
use nix::sys::signal::Signal;

use super::feed::Feed;
use super::gather::{Lost, WorkerId};
use super::health::send_all;
use super::logs::{access_target, send_target};
use super::sessions::SessionMemory;
use super::sockets::ListenSockets;
use super::start::StartError;
use super::supervisor::{Configuration, Supervisor, event};
use super::telemetry::FIRST_QUESTION;
use super::workers::{Ended, HEARTBEAT, Loss, Role, Worker};

/// Before the proxy is up, a slot's workers may die so often in a row; then the start has failed.
const DEATHS_AT_START_MAX: u32 = 4;

impl Supervisor {
    /// Collects the processes that have ended; several may be behind one signal.
    pub(super) fn reap(&mut self) -> Result<(), StartError> {
        loop {
            let ended = self.fleet.reap(self.now);
            let mut again = false;
            for end in ended {
                self.last_end = format!("worker {} (pid {}) ended with {}", end.id, end.pid, end.status);
                report_end(&end, &self.last_end);
                self.limits.ended(end.id);
                self.remove_place(end.id);
                self.note_for_will();
                if end.unexpected {
                    again = true;
                    self.lose_worker(end.id, &Lost::Died, &end.status.to_string())?;
                }
            }
            if !again {
                return Ok(());
            }
        }
    }

    /// Reads all that a worker has sent.
    pub(super) fn take_worker(&mut self, token: Token, ending: bool) -> Result<(), StartError> {
        loop {
            let Some(worker) = self.fleet.by_token(token) else { return Ok(()) };
            let id = worker.id();
            let received = worker.receive(ending);
            while let Some(worker) = self.fleet.by_token(token)
                && let Some(message) = worker.next()
            {
                match message {
                    Ok(message) => self.take_message(id, message)?,
                    Err(reason) => return self.lose_worker(id, &Lost::Died, &reason),
                }
            }
            match received {
                Ok(Received::More) => {}
                Ok(Received::Open) => return Ok(()),
                Ok(Received::Closed) => return self.lose_worker(id, &Lost::Died, "it closed its channel"),
                Err(error) => return self.lose_worker(id, &Lost::Died, &error.to_string()),
            }
        }
    }

    pub(super) fn take_message(
        &mut self,
        id: WorkerId,
        message: from_worker::Message,
    ) -> Result<(), StartError> {
        use from_worker::Message;
        let Some(worker) = self.fleet.by_id(id) else { return Ok(()) };
        worker.heard(self.now);
        match message {
            Message::Answer(answer) if answer.id == HEARTBEAT => {}
            Message::Answer(answer) if answer.id >= FIRST_QUESTION => self.take_numbers(id, answer),
            Message::Ready(ready) => {
                log::info!(
                    "worker {id} (pid {}) serves revision {} after {:?}",
                    worker.pid(),
                    ready.revision,
                    self.now.saturating_duration_since(worker.spawned_at())
                );
                worker.serves();
                worker.acknowledge(ready.revision);
                self.tasks.applied(id, ready.revision);
                self.sockets.close_applied(self.fleet.applied_by_all());
                self.share_out_probes();
            }
            Message::Applied(applied) => {
                worker.acknowledge(applied.revision);
                self.tasks.applied(id, applied.revision);
                self.sockets.close_applied(self.fleet.applied_by_all());
            }
            Message::Refused(refused) => {
                let reason = format!("it refused revision {}: {}", refused.revision, refused.reason);
                return self.lose_worker(id, &Lost::Refused(refused.reason), &reason);
            }
            Message::Answer(answer) => {
                if !self.tasks.answered(id, answer) {
                    log::debug!("worker {id} answered late");
                }
            }
            Message::Drained(_) => log::info!("worker {id} (pid {}) has drained", worker.pid()),
            Message::Departures(departures) => self.take_departures(id, departures.departures),
            Message::Verdicts(verdicts) => self.take_verdicts(id, &verdicts.verdicts),
            Message::Event(event) => self.publish(&id.to_string(), event),
            Message::Orphan(_) | Message::Sockets(_) | Message::State(_) => {
                log::debug!("worker {id} tells what it was asked for before");
            }
        }
        Ok(())
    }

    /// A worker is lost: what it owes is settled, and its slot gets a successor.
    pub(super) fn lose_worker(&mut self, id: WorkerId, lost: &Lost, why: &str) -> Result<(), StartError> {
        let Some(loss) = self.fleet.lose(id, self.now) else { return Ok(()) };
        self.tasks.lose(id, lost);
        self.drains.lose(id);
        self.telemetry.lose(id);
        self.sockets.close_applied(self.fleet.applied_by_all());
        if self.stopping.is_some() {
            log::info!("worker {id} (pid {}) has ended", loss.pid);
            return Ok(());
        }
        if loss.role == Role::Retiring {
            log::info!("worker {id} (pid {}), which was replaced, has ended: {why}", loss.pid);
            return Ok(());
        }
        self.report_loss(&loss, why);
        self.share_out_probes();
        self.publish(&id.to_string(), event(EventKind::WorkerKilled));
        let hopeless =
            !self.is_adopting && (loss.delay.is_none() || loss.young_deaths >= DEATHS_AT_START_MAX);
        if self.on_ready.is_some() && hopeless {
            let how = if self.last_end.is_empty() { why.to_owned() } else { self.last_end.clone() };
            return Err(StartError::WorkersDie { how });
        }
        Ok(())
    }

    fn report_loss(&self, loss: &Loss, why: &str) {
        let Loss { id, pid, slot, role: _, lifetime, acknowledged, delay, young_deaths } = loss;
        let next = match delay {
            None if self.fleet.holds(*slot) => "another one has its slot".to_owned(),
            Some(Duration::ZERO) => "replaced at once".to_owned(),
            Some(delay) => format!("death {young_deaths} in a row: replaced in {delay:?}"),
            None => "not replaced (worker_automatic_restart)".to_owned(),
        };
        let Configuration { revision, last_verb, .. } = &self.configuration;
        log::error!(
            "worker {id} (pid {pid}, slot {slot}) is lost after {lifetime:?}: {why}; it had applied revision \
             {acknowledged} of {revision}, the last change was {last_verb}; {next}"
        );
    }

    /// Spawns the workers that are due, and gives each the state and its slot's sockets.
    pub(super) fn spawn_due(&mut self) {
        let due = self.fleet.due(self.now);
        if due.is_empty() {
            return;
        }
        let orders: Rc<[_]> = self.configuration.state.orders().collect();
        let ready_by = self.now + self.patience(orders.len());
        for slot in due {
            let relaunched = self.on_ready.is_none();
            let id = match self.fleet.spawn(slot, self.now, ready_by) {
                Ok(worker) => worker.id(),
                Err(error) => {
                    log::error!("cannot start a worker for slot {slot}: {error}; it is tried again");
                    continue;
                }
            };
            self.equip(id, &orders);
            log::debug!("worker {id} starts in slot {slot}");
            if relaunched {
                self.publish(&id.to_string(), event(EventKind::WorkerRelaunched));
            }
        }
    }

    /// Gives a new worker all that it needs to serve.
    pub(super) fn equip(&mut self, id: WorkerId, orders: &Rc<[Order]>) {
        let Some(worker) = self.fleet.by_id(id) else { return };
        worker.send(to_worker::Message::Boot(Boot {
            worker_id: id.0,
            config: self.settings.server.clone(),
            limits: self.settings.limits,
        }));
        self.note_for_will();
        self.give_place(id);
        let Some(worker) = self.fleet.by_id(id) else { return };
        if let Some((message, fd)) = access_target(&self.settings.server) {
            send_target(worker, message, fd);
        }
        worker.send(self.tickets.message());
        match self.sessions.as_ref().map(SessionMemory::message).transpose() {
            Ok(Some((message, fd))) => worker.send_with(message, fd),
            Ok(None) => {}
            Err(error) => log::warn!("worker {id} gets no memory for TLS sessions: {error}"),
        }
        match self.limits.message(id) {
            Ok((message, fd)) => worker.send_with(message, fd),
            Err(error) => log::error!("worker {id} counts nothing for limits: {error}"),
        }
        send_all(worker, self.health.before_state());
        worker.feed(Feed::new(Rc::clone(orders), self.configuration.revision));
        send_all(worker, self.health.behind_state());
        let keys: Vec<_> = self.sockets.keys().cloned().collect();
        send_sockets(worker, &self.sockets, &keys);
        worker.send(to_worker::Message::Start(Start {}));
    }

    /// Sends what waits for workers; loses those whose channel has failed.
    pub(super) fn flush_workers(&mut self) -> Result<(), StartError> {
        for (id, error) in self.fleet.pump() {
            self.lose_worker(id, &Lost::Died, &format!("its channel failed: {error}"))?;
        }
        Ok(())
    }
}

/// Says what a worker died of, where its loss was not or will not be reported with it.
fn report_end(end: &Ended, how: &str) {
    match end.status.status().and_then(|status| status.signal()).map(Signal::try_from) {
        Some(Ok(Signal::SIGSYS)) => log::error!(
            "{how}: its sandbox stopped a system call that no worker ever makes. Either it was taken over, or \
             this is a bug of ours. The kernel's log names the call (audit: type=1326, syscall=)"
        ),
        // Usually its channel is seen closing before it is reaped, and that is all that was said then. SIGKILL
        // is what we send to those.
        Some(Ok(Signal::SIGKILL)) | None => log::debug!("{how}"),
        Some(_) if end.unexpected => log::debug!("{how}"),
        Some(_) => log::error!("{how}"),
    }
}

/// Queues duplicates of a slot's sockets for its worker.
pub(super) fn send_sockets(worker: &mut Worker, sockets: &ListenSockets, keys: &[ListenerKey]) {
    let duplicates = keys.iter().filter_map(|key| {
        let socket = sockets.socket(key, worker.slot())?;
        match socket.try_clone_to_owned() {
            Ok(duplicate) => Some((key.clone(), duplicate)),
            Err(error) => {
                // The worker will miss it, say so, and be replaced.
                log::error!("cannot duplicate the socket of listener {key}: {error}");
                None
            }
        }
    });
    let duplicates = duplicates.collect();
    worker.send_sockets(duplicates);
}
