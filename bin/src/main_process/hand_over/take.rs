//! Going on from what the program has left that this process ran before.
//!
//! Until all of it stands, nothing of what was left is touched: descriptors are duplicated, and files are left alone.
//! So whatever goes wrong, the program before can be executed again and goes on itself.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kakehi_command::order::Order;
use kakehi_command::proto::EventKind;
use kakehi_command::proto::hand_over as wire;

use super::super::adoption::{Refuge, Rendezvous};
use super::super::audit::{Audit, AuditTargets};
use super::super::clients::failure;
use super::super::command_socket::CommandSocket;
use super::super::files::Source;
use super::super::limits::LimitMemory;
use super::super::mutations::ok;
use super::super::sessions::SessionMemory;
use super::super::sockets::ListenSockets;
use super::super::start::StartError;
use super::super::supervisor::{Companion, Configuration, Prepared, Settings, Supervisor, event, read_clock};
use super::super::telemetry;
use super::super::workers::{WorkerLog, WorkerWalls};
use super::file::{self, Told};
use super::{FILE_VARIABLE, Left, REFUSED_VARIABLE, execute};
use crate::process::descriptors;
use crate::process::log_target::LogTarget;
use crate::process::logging::{self, Filter};
use crate::process::pid_file::PidFile;
use crate::process::signals::Signals;

/// How descriptors that were named become this program's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Taking {
    /// By duplicates: the program before may have to go on with those that were named.
    Duplicates,
    /// As they are: this is the program before.
    Itself,
}

impl Taking {
    /// A descriptor by its number. Each is taken once.
    pub(in super::super) fn own(self, fd: u32) -> io::Result<OwnedFd> {
        let number = RawFd::try_from(fd).map_err(|_| io::ErrorKind::InvalidInput)?;
        match self {
            Self::Duplicates => descriptors::duplicate(number),
            Self::Itself => descriptors::adopt(number),
        }
    }
}

/// A time so many milliseconds ago, as far as there was one.
pub(in super::super) fn ago(now: Instant, ms: u64) -> Instant {
    now.checked_sub(Duration::from_millis(ms)).unwrap_or(now)
}

/// A time in so many milliseconds.
pub(in super::super) fn in_ms(now: Instant, ms: u64) -> Instant {
    now.checked_add(Duration::from_millis(ms)).unwrap_or(now)
}

/// Whether this program was executed to take over from another one.
pub(crate) fn is_asked_for() -> bool {
    variable(FILE_VARIABLE).is_some()
}

/// Whether this program could go on from what was left, as far as that can be told without doing so.
pub(super) fn check(told: &Told) -> Result<(), String> {
    let settings = &told.told.settings;
    Filter::parse(&settings.log_filter).map_err(|error| error.to_string())?;
    settings.unix_sockets.parse::<kakehi_command::config::UnixSockets>().map_err(|()| {
        format!("worker_unix_sockets = {:?} is not known to this version", settings.unix_sockets)
    })?;
    source_of(settings).map(drop)
}

/// Takes over, and runs until the proxy is stopped.
///
/// # Errors
/// It could not, and neither could the program before; or as for a start.
pub(crate) fn run() -> Result<ExitCode, StartError> {
    let file = variable(FILE_VARIABLE).and_then(|fd| fd.parse().ok()).unwrap_or(RawFd::MAX);
    let refused = variable(REFUSED_VARIABLE);
    let lost = |why: String| StartError::TakeOver { why };
    let left = descriptors::duplicate(file).map(File::from);
    let left = left.map_err(|error| lost(format!("{FILE_VARIABLE} is not for you to set: {error}")))?;
    let Told { told, state } = match file::read(&left) {
        Ok(told) => told,
        // Without it, nothing is known of the way back either, unless its head can be read.
        Err(why) => return Err(lost(go_back(&left, why))),
    };
    let (protocol, numbers) = (told.version.clone(), numbers_of(&told, file));
    let program = told.program;
    let taking = if refused.is_some() { Taking::Itself } else { Taking::Duplicates };
    // A bug in here must not be the end of everything.
    let prepared = catch_unwind(AssertUnwindSafe(|| prepare(&told, state, taking)));
    let prepared = prepared.unwrap_or_else(|_| Err("it panicked".to_owned()));
    let (mut supervisor, pid_file) = match prepared {
        Ok(prepared) => prepared,
        Err(why) if refused.is_some() => return Err(lost(why)),
        Err(why) => return Err(lost(way_back(program, left, numbers, &why))),
    };
    // From here on there is no way back, and nothing to go back for.
    drop(left);
    match taking {
        Taking::Duplicates => descriptors::close(&numbers),
        Taking::Itself => descriptors::close(&[file, RawFd::try_from(program).unwrap_or(file)]),
    }
    if let Err(error) = descriptors::close_inherited_on_exec() {
        log::debug!("inherited descriptors stay open in workers: {error}");
    }
    match refused {
        None => log::info!("version {} has taken over from version {protocol}", env!("CARGO_PKG_VERSION")),
        Some(ref why) => log::error!("the main process goes on as it was: {why}"),
    }
    supervisor.answer_hand_over(refused.as_deref());
    let result = supervisor.run();
    drop(pid_file);
    result?;
    log::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Everything that can fail.
fn prepare(
    told: &wire::HandOver,
    state: kakehi_command::state::ConfigState,
    taking: Taking,
) -> Result<(Supervisor, Option<PidFile>), String> {
    let settings = &told.settings;
    let worker_log = WorkerLog {
        filter: settings.log_filter.clone(),
        target: settings.log_target.clone(),
        colored: settings.server.log_colored,
    };
    let filter = Filter::parse(&settings.log_filter).map_err(|error| error.to_string())?;
    let target = LogTarget::parse(&settings.log_target)?;
    logging::install(filter, &target, settings.server.log_colored, "MAIN")
        .map_err(|error| format!("log_target: {error}"))?;
    logging::set_rate(settings.server.max_log_rate());
    descriptors::raise_limit().map_err(|error| error.to_string())?;
    let signals = Signals::open().map_err(|error| format!("cannot take over signals: {error}"))?;
    let lost = |what: &'static str| move |error: io::Error| format!("cannot take over {what}: {error}");
    let listener = taking.own(told.command_socket.fd).map_err(lost("the command socket"))?;
    let socket = &told.command_socket;
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let unix_sockets = settings.unix_sockets.parse().map_err(|()| "unix_sockets".to_owned())?;
    let slots = settings.slots as usize;
    let identity = (socket.device, socket.inode);
    let pid_file = settings.pid_file_path.as_ref().map(PathBuf::from);
    let audit = AuditTargets {
        text: settings.audit_text_path.as_ref().map(PathBuf::from),
        json: settings.audit_json_path.as_ref().map(PathBuf::from),
    };
    let prepared = Prepared {
        settings: Settings {
            worker_timeout: Duration::from_millis(settings.worker_timeout_ms),
            worker_drain_timeout: Duration::from_millis(settings.worker_drain_timeout_ms),
            worker_orphan_timeout: settings.worker_orphan_timeout(),
            client_timeout: settings.client_timeout_ms.map(Duration::from_millis),
            unix_sockets,
            allowed_uids: settings.allowed_uids.clone().map(|it| it.uids),
            frame_bytes_max: number(settings.frame_bytes_max),
            server: settings.server.clone(),
            limits: settings.limits,
            source: source_of(settings)?,
            pid_file_path: pid_file.clone(),
            program: PathBuf::from(&settings.program_path),
            audit: audit.clone(),
        },
        worker_log,
        probe_secrets: Vec::new(),
        worker_walls: WorkerWalls { sandbox: settings.sandbox, unix_sockets },
        restart: settings.restart,
        sessions: told
            .sessions
            .as_ref()
            .map(|memory| SessionMemory::taken_over(memory, taking))
            .transpose()
            .map_err(lost("TLS sessions"))?,
        limits: LimitMemory::taken_over(&told.limits, taking).map_err(lost("the memory for limits"))?,
        clients_max: number(settings.clients_max),
        workers: slots,
        configuration: Configuration { state, revision: told.revision, last_verb: "upgrade_main" },
        sockets: ListenSockets::taken_over(slots, &told.listeners, taking)
            .map_err(lost("listening sockets"))?,
        command_socket: CommandSocket::inherited(listener, PathBuf::from(&socket.path)),
        telemetry: telemetry::Prepared::taken_over(&told.metrics, taking).map_err(lost("metrics"))?,
        signals,
        audit: Audit::open(&audit)
            .map_err(|(path, error)| format!("cannot open {}: {error}", path.display()))?,
        companions: told
            .companions
            .iter()
            .map(|companion| Companion::taken_over(companion, taking))
            .collect::<Result<_, _>>()
            .map_err(lost("the demo"))?,
        refuge: refuge_of(told, taking).map_err(lost("the folder of the workers"))?,
        on_ready: Box::new(|_| {}),
    };
    let mut supervisor = Supervisor::new(prepared).map_err(|error| error.to_string())?;
    supervisor.take_over(told, taking).map_err(lost("what was under way"))?;
    supervisor.command_socket.claim(identity);
    Ok((supervisor, pid_file.map(PidFile::inherited)))
}

/// Without one it can be done: then workers end if this process is killed.
fn refuge_of(told: &wire::HandOver, taking: Taking) -> io::Result<Option<Refuge>> {
    let rendezvous = match &told.rendezvous {
        Some(left) => Rendezvous::taken_over(left, taking)?,
        // The version before had none; the demo needs none.
        None if !told.companions.is_empty() => return Ok(None),
        None => match Rendezvous::open(&PathBuf::from(&told.command_socket.path)) {
            Ok(rendezvous) => rendezvous,
            Err(error) => {
                log::warn!("workers will end if the main process is killed: {error}");
                return Ok(None);
            }
        },
    };
    Refuge::new(rendezvous).map(Some)
}

fn source_of(settings: &wire::Settings) -> Result<Source, String> {
    if let Some(path) = &settings.source_path {
        return Ok(Source::File(PathBuf::from(path)));
    }
    let orders = settings.source_orders.iter().map(Order::from_request).collect::<Result<Vec<_>, _>>();
    Ok(Source::Orders(orders.map_err(|error| format!("the configuration at the start: {error}"))?.into()))
}

impl Supervisor {
    /// Takes over workers, clients, and what is known.
    fn take_over(&mut self, told: &wire::HandOver, taking: Taking) -> io::Result<()> {
        let now = read_clock();
        self.now = now;
        self.started = ago(now, told.uptime_ms);
        self.on_ready = None;
        self.tickets.take_over(&told.ticket_keys, now);
        self.health.take_over(&told.health, &self.configuration.state, told.revision, now);
        self.drains.take_over(&told.leaving, now);
        self.fleet.take_over(told, taking, now)?;
        self.renew_wills();
        self.changes.take_over(told.changes.iter().map(|(name, count)| (name.as_str(), *count)));
        for (verb, count) in &told.counts {
            self.counts.insert(Cow::Owned(verb.clone()), *count);
        }
        for client in &told.clients {
            let id = self.clients.take_over(client, taking)?;
            if let Some(task) = &client.task {
                self.take_over_task(id, task);
            }
        }
        Ok(())
    }

    /// Tells who asked for the upgrade how it went.
    fn answer_hand_over(&mut self, refused: Option<&str>) {
        let task = self.tasks.iter_ids().find(|(_, task)| task.is_hand_over()).map(|(id, _)| id);
        let Some(task) = task.and_then(|id| self.tasks.take(id)) else { return };
        let response = match refused {
            None => {
                ok(format!("version {} of the main process has taken over", env!("CARGO_PKG_VERSION")), None)
            }
            Some(why) => failure(format!("nothing was upgraded: the new program could not take over: {why}")),
        };
        if refused.is_none() {
            self.publish("main", event(EventKind::MainUpgraded));
        }
        self.clients.answer(task.client, &response, self.now);
    }
}

/// All numbers of descriptors that were named, and the file's own.
fn numbers_of(told: &wire::HandOver, file: RawFd) -> Vec<RawFd> {
    let own = [Some(told.command_socket.fd), Some(told.limits.fd), Some(told.program)];
    let own = own.into_iter().chain([told.sessions.as_ref().map(|memory| memory.fd)]).flatten();
    let listeners = told.listeners.iter().flat_map(|listener| listener.fds.iter().copied());
    let workers = told.workers.iter().flat_map(|worker| [Some(worker.fd), worker.pidfd]).flatten();
    let dying = told.dying.iter().filter_map(|it| it.fd);
    let rendezvous = told.rendezvous.iter().map(|it| it.fd);
    let clients = told.clients.iter().map(|client| client.fd);
    let companions = told.companions.iter().filter_map(|companion| companion.fd);
    let metrics = told.metrics.prometheus.iter().map(|it| it.fd);
    let own = own.chain(dying).chain(rendezvous);
    let named = own.chain(metrics).chain(listeners).chain(workers).chain(clients).chain(companions);
    named.filter_map(|fd| RawFd::try_from(fd).ok()).chain([file]).collect()
}

/// The way back, for a file that this program does not understand: its head may still tell of the program before.
fn go_back(left: &File, why: String) -> String {
    match file::head(left) {
        Some(told) => {
            let numbers = numbers_of(&told, RawFd::MAX);
            match left.try_clone() {
                Ok(left) => way_back(told.program, left, numbers, &why),
                Err(error) => format!("{why}; and back: {error}"),
            }
        }
        None => why,
    }
}

/// Executes the program before. Returns what is wrong, if it does.
fn way_back(program: u32, file: File, descriptors: Vec<RawFd>, why: &str) -> String {
    let descriptors = descriptors.into_iter().filter(|fd| *fd != RawFd::MAX).collect();
    let program_path = PathBuf::from(format!("/proc/self/fd/{program}"));
    let left = Left { file, descriptors, _program: File::open("/dev/null").ok() };
    let back = execute(&program_path, &left, Some(why));
    format!("{why}; and back: {back}")
}

#[expect(clippy::disallowed_methods, reason = "the program before tells in the environment where to go on")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
