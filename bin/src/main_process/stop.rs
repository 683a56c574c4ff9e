//! Stopping: nothing new from now on, what is open finished or cut, then everybody gone.
//!
//! A soft stop waits for the last session without a limit, as the protocol promises; a hard stop, which
//! may follow it, waits for a few seconds and then kills. The clients that asked are answered when the
//! last worker is gone, just before the process ends.

use std::time::{Duration, Instant};

use kakehi_command::proto::EventKind;
use kakehi_command::proto::supervision::{Stop, to_worker};

use super::clients::ClientId;
use super::mutations::ok;
use super::supervisor::{Supervisor, event};

/// How long workers have to end when they are told to at once.
const HARD_STOP_MAX: Duration = Duration::from_secs(3);

/// How long the last answers may take to be read by those who asked.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(1);

/// A stop that is under way.
#[derive(Debug)]
pub(super) struct Stopping {
    hard: bool,
    /// Who asked for it, over the command socket.
    clients: Vec<ClientId>,
    /// When workers that have not ended are killed.
    kill_at: Option<Instant>,
    /// Set when every worker is gone: when to leave, with or without the last answers read.
    leave_at: Option<Instant>,
    /// When the waiting clients are told so.
    note_at: Instant,
}

impl Supervisor {
    /// SIGINT, SIGTERM or SIGHUP: the first stops softly, the next one hard.
    pub(super) fn stop_by_signal(&mut self) {
        let hard = self.stopping.is_some();
        log::info!("{} stop, asked for by a signal", if hard { "hard" } else { "soft" });
        self.stop(hard, None);
    }

    /// Begins to stop, or goes on from a soft stop to a hard one.
    pub(super) fn stop(&mut self, hard: bool, client: Option<ClientId>) {
        if let Some(client) = client {
            log::info!("{} stop, asked for by client {client}", if hard { "hard" } else { "soft" });
            let text = if hard { "Performing hard stop..." } else { "Performing soft stop..." };
            self.clients.processing(client, text.to_owned(), self.now);
        }
        let is_first = self.stopping.is_none();
        if is_first {
            self.fleet.stop_restarting();
            // Workers have duplicates: the ports are free once they have let go of theirs, too.
            self.sockets.close_all();
            self.publish("main", event(EventKind::SozuStopRequested));
        }
        let note_at = self.now + self.note_every();
        let stopping = self.stopping.get_or_insert(Stopping {
            hard,
            clients: Vec::new(),
            kill_at: None,
            leave_at: None,
            note_at,
        });
        stopping.clients.extend(client);
        if !is_first && (stopping.hard || !hard) {
            return;
        }
        stopping.hard = hard;
        stopping.kill_at = hard.then(|| self.now + HARD_STOP_MAX);
        self.fleet.broadcast(&to_worker::Message::Stop(Stop { hard, patient: None }));
    }

    /// When the stop needs attention next.
    pub(super) fn stop_deadline(&self) -> Option<Instant> {
        let stopping = self.stopping.as_ref()?;
        let note_at = (!stopping.clients.is_empty()).then_some(stopping.note_at);
        [stopping.kill_at, stopping.leave_at, note_at].into_iter().flatten().min()
    }

    /// Kills who did not end in time, and tells who waits.
    pub(super) fn take_stop_deadline(&mut self) {
        let every = self.note_every();
        let Some(stopping) = &mut self.stopping else { return };
        if stopping.kill_at.is_some_and(|at| at <= self.now) {
            stopping.kill_at = None;
            log::warn!("workers are killed: they did not end within {HARD_STOP_MAX:?}");
            self.fleet.kill_all();
        }
        if stopping.note_at <= self.now && stopping.leave_at.is_none() {
            stopping.note_at = self.now + every;
            for client in &stopping.clients {
                let text = "Still waiting for open sessions to end...".to_owned();
                self.clients.processing(*client, text, self.now);
            }
        }
    }

    /// Answers those who asked once every process is gone; true once they have heard it.
    pub(super) fn is_stopped(&mut self) -> bool {
        let Some(stopping) = &mut self.stopping else { return false };
        if !self.fleet.is_gone() {
            return false;
        }
        let leave_at = *stopping.leave_at.get_or_insert(self.now + LAST_ANSWERS_MAX);
        let text = if stopping.hard {
            "Successfully performed hard stop"
        } else {
            "Successfully performed soft stop"
        };
        for client in std::mem::take(&mut stopping.clients) {
            self.clients.answer(client, &ok(text, None), self.now);
        }
        !self.clients.owe_answers() || leave_at <= self.now
    }
}
