//! Writing down what this program leaves to the next one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use kakehi_command::proto::hand_over as wire;

use super::super::files::Source;
use super::super::replacements::Replacement;
use super::super::supervisor::Supervisor;
use super::super::tasks::{Task, Work};
use super::{Left, PROTOCOL, file};

/// The descriptors that are named.
#[derive(Debug, Default)]
pub(in super::super) struct Named(Vec<RawFd>);

impl Named {
    /// A descriptor's number, which the next program knows it by.
    pub(in super::super) fn name(&mut self, descriptor: &impl AsFd) -> u32 {
        self.name_raw(descriptor.as_fd().as_raw_fd())
    }

    /// As [`name`](Self::name).
    pub(in super::super) fn name_raw(&mut self, descriptor: RawFd) -> u32 {
        self.0.push(descriptor);
        descriptor.unsigned_abs()
    }
}

/// Milliseconds from an earlier instant to a later one; none if it is not later.
pub(in super::super) fn ms_between(earlier: Instant, later: Instant) -> u64 {
    ms(later.saturating_duration_since(earlier))
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Supervisor {
    /// Writes everything down. Nothing has changed afterwards.
    pub(super) fn leave(&self) -> io::Result<Left> {
        let mut named = Named::default();
        // The program that runs, also if another one has its name by now.
        let program = File::open("/proc/self/exe")?;
        let (sessions, limits) = (self.sessions.as_ref(), &self.limits);
        let told = wire::HandOver {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: self.configuration.revision,
            requests: self.configuration.state.orders().count() as u64,
            settings: self.settings_left(),
            command_socket: {
                let (device, inode) = self.command_socket.identity();
                let fd = named.name(self.command_socket.listener());
                let path = self.command_socket.path().to_string_lossy().into_owned();
                wire::CommandSocket { fd, path, device, inode }
            },
            listeners: self.sockets.left(&mut named),
            workers: self.fleet.left(self.now, &mut named),
            dying: self.fleet.dying_left(&mut named),
            next_worker_id: self.fleet.next_id(),
            ticket_keys: self.tickets.wire(),
            sessions: sessions.map(|memory| memory.left(&mut named)),
            limits: limits.left(&mut named),
            health: self.health.left(self.now),
            leaving: self.drains.left(self.now),
            changes: self.changes.numbers().map(|(name, count)| (name.to_owned(), count)).collect(),
            counts: self.counts.iter().map(|(verb, count)| (verb.to_string(), *count)).collect(),
            clients: {
                let mut clients = Vec::new();
                for (id, mut client) in self.clients.left(&mut named) {
                    let task = self.tasks.iter().find(|task| task.client == id);
                    client.task = task.and_then(|task| task_left(task, self.now));
                    clients.push(client);
                }
                clients
            },
            uptime_ms: ms_between(self.started, self.now),
            program: named.name(&program),
            metrics: self.telemetry.left(&mut named),
            companions: self.companions.iter().map(|it| it.left(&mut named)).collect(),
            rendezvous: self.refuge.as_ref().map(|it| it.rendezvous.left(&mut named)),
        };
        let file = file::write(&told, self.configuration.state.orders())?;
        Ok(Left { file, descriptors: named.0, _program: Some(program) })
    }

    fn settings_left(&self) -> wire::Settings {
        let settings = &self.settings;
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let (source_path, source_orders) = match &settings.source {
            Source::File(path) => (Some(text(path)), Vec::new()),
            Source::Orders(orders) => (None, orders.iter().map(|order| order.to_request()).collect()),
        };
        let (log, walls, restart) = self.fleet.habits();
        wire::Settings {
            worker_timeout_ms: ms(settings.worker_timeout),
            worker_drain_timeout_ms: ms(settings.worker_drain_timeout),
            worker_orphan_timeout: Some(settings.worker_orphan_timeout),
            client_timeout_ms: settings.client_timeout.map(ms),
            unix_sockets: settings.unix_sockets.to_string(),
            allowed_uids: settings.allowed_uids.clone().map(|uids| wire::Uids { uids }),
            frame_bytes_max: settings.frame_bytes_max as u64,
            clients_max: self.clients.max() as u64,
            server: settings.server.clone(),
            limits: settings.limits,
            source_path,
            source_orders,
            slots: u32::try_from(self.fleet.slots()).unwrap_or(u32::MAX),
            restart,
            sandbox: walls.sandbox,
            log_filter: log.filter.clone(),
            log_target: log.target.clone(),
            pid_file_path: settings.pid_file_path.as_deref().map(text),
            program_path: text(&settings.program),
            audit_text_path: settings.audit.text.as_deref().map(text),
            audit_json_path: settings.audit.json.as_deref().map(text),
        }
    }
}

/// What a client waits for. `None` for what is finished before.
fn task_left(task: &Task, now: Instant) -> Option<wire::Task> {
    let work = match &task.work {
        Work::HandOver => wire::task::Work::HandOver(true),
        Work::Drained { asked, .. } => wire::task::Work::WaitDrained(asked.clone()),
        Work::Replace(replacement) => wire::task::Work::Replacement(match *replacement {
            Replacement::Waiting(worker) => wire::Replacement { worker: worker.0, successor: None },
            Replacement::Booting(worker, successor) | Replacement::Retiring(worker, successor) => {
                wire::Replacement { worker: worker.0, successor: Some(successor.0) }
            }
        }),
        Work::Apply(_) | Work::Query(_) | Work::Files => return None,
    };
    Some(wire::Task {
        age_ms: ms_between(task.started, now),
        deadline_in_ms: task.deadline.map(|at| ms_between(now, at)),
        work: Some(work),
    })
}
