//! From a configuration to a running proxy: everything that can fail is done before the first worker
//! is spawned, so that a start either succeeds or leaves nothing behind.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kakehi_command::config::Config;
use kakehi_command::order::ListenerKind;
use kakehi_command::state::{ConfigState, TransactionError};

use super::adoption::{self, Found, Refuge, Rendezvous, RendezvousError};
use super::audit::{Audit, AuditTargets};
use super::command_socket::{CommandSocket, CommandSocketError};
use super::files::{self, Snapshot, Source};
use super::hand_over::program_path;
use super::limits::LimitMemory;
use super::sessions::SessionMemory;
use super::sockets::ListenSockets;
use super::soundness::Soundness;
use super::supervisor::{Companion, Configuration, Prepared, Settings, Supervisor};
use super::telemetry::{self, Exporter};
use super::vetting::vet_keys;
use super::workers::{WorkerLog, WorkerWalls};
use crate::process::descriptors::{self, DescriptorError};
use crate::process::log_target::LogTarget;
use crate::process::logging::{self, Filter, FilterError};
use crate::process::pid_file::PidFile;
use crate::process::signals::Signals;

/// What `start` is told beside the configuration.
pub(crate) struct StartOptions {
    /// The file the configuration came from; `None` for the one embedded in the binary.
    pub(crate) config_path: Option<PathBuf>,
    /// Processes that are to end with the proxy.
    pub(crate) companions: Vec<Companion>,
    /// Called once, when all workers serve the whole configuration.
    pub(crate) on_ready: OnReady,
}

/// Called once, with what runs.
pub(crate) type OnReady = Box<dyn FnOnce(&Ready)>;

/// What runs, for the banner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ready {
    /// The active listeners: what they speak, and where.
    pub(crate) listeners: Vec<(ListenerKind, SocketAddr)>,
    /// Path of the command socket.
    pub(crate) command_socket: PathBuf,
    /// Process ids of the workers, in the order of their slots.
    pub(crate) worker_pids: Vec<u32>,
}

/// Why the proxy did not start, or could not go on. The text is for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The log filter is none.
    #[error("log_level: {0}")]
    LogFilter(#[from] FilterError),
    /// The log cannot be written.
    #[error("{key}: {why}")]
    LogTarget {
        /// Which log.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The audit log cannot be written.
    #[error("audit_logs_target, audit_logs_json_target: cannot open {}: {source}", path.display())]
    AuditTarget {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The configuration fits together, and yet can't be served.
    #[error("the configuration cannot be served: {0}")]
    Unsound(String),
    /// Too few file descriptors.
    #[error(transparent)]
    Descriptors(#[from] DescriptorError),
    /// The configuration contradicts itself.
    #[error("the configuration cannot be applied: {0}")]
    Orders(#[from] TransactionError),
    /// Certificates of the configuration cannot be served; all of them are named.
    #[error("{}", .0.join("\n"))]
    Certificates(Vec<String>),
    /// The state file is unreadable.
    #[error("saved_state: {0}")]
    SavedState(String),
    /// The command socket cannot be opened.
    #[error(transparent)]
    CommandSocket(#[from] CommandSocketError),
    /// Somebody else has the workers of the command socket.
    #[error(transparent)]
    Rendezvous(#[from] RendezvousError),
    /// Workers serve that this program can't go on with.
    #[error("workers of a main process that was killed serve on, and cannot be taken over: {why}")]
    Adopt {
        /// What is wrong.
        why: String,
    },
    /// Listeners cannot be bound; all of them are named.
    #[error("{}", .0.join("\n"))]
    Listeners(Vec<String>),
    /// The PID file cannot be written.
    #[error("pid_file_path: cannot write {}: {source}", path.display())]
    PidFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Workers cannot run.
    #[error("workers do not come up: {how}; their log says more")]
    WorkersDie {
        /// How the last one did.
        how: String,
    },
    /// It was to go on where another program has stopped.
    #[error("cannot take over: {why}")]
    TakeOver {
        /// What is wrong.
        why: String,
    },
    /// The kernel refused something every start needs.
    #[error("cannot {step}: {source}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Runs the main process until it is stopped. The configuration's warnings are the caller's to show.
///
/// # Errors
/// The start failed, and nothing of it is left; or, rarely, the loop lost what it cannot do without.
pub(crate) fn run(mut config: Config, options: StartOptions) -> Result<ExitCode, StartError> {
    let worker_log = install_logger(&config)?;
    if let Err(error) = descriptors::close_inherited_on_exec() {
        log::debug!("inherited descriptors stay open in workers: {error}");
    }
    let descriptors = descriptors::raise_limit()?;
    log::debug!("{descriptors} file descriptors per process");
    // Before the first thread is started: threads inherit the mask.
    let signals = Signals::open()
        .map_err(|error| StartError::Io { step: "take over signals", source: error.into() })?;
    let command_socket = CommandSocket::open(&config.command_socket, config.command_socket_mode)?;
    // The demo ends with its main process, so its workers may as well.
    let rendezvous = if options.companions.is_empty() { open_rendezvous(&config)? } else { None };
    let find = |rendezvous: &Rendezvous| adoption::find(rendezvous, config.worker_timeout);
    let found = rendezvous.as_ref().map(find).transpose().map_err(|why| StartError::Adopt { why })?.flatten();
    let configuration = match &found {
        Some(found) => {
            Configuration { state: found.state.clone(), revision: found.revision, last_verb: "start" }
        }
        None => initial_state(&config)?,
    };
    let listeners = configuration.state.active_listeners().count() as u64;
    for lowered in descriptors::fit(&mut config, listeners, descriptors)? {
        log::warn!("{lowered}");
    }
    let mut found = found;
    let Shared { workers, sockets, limits, sessions } = match &mut found {
        Some(found) => shared_by(found, &config)?,
        None => new_shared(&configuration.state, &config)?,
    };
    let exporter = config.metrics.prometheus.map(Exporter::bind).transpose();
    let exporter = exporter.map_err(|source| StartError::Io {
        step: "open the listener for metrics (prometheus_address)",
        source,
    })?;
    let pid_file = config.pid_file_path.as_deref().map(write_pid_file).transpose()?;
    let settings = Settings {
        worker_timeout: config.worker_timeout,
        worker_drain_timeout: config.worker_drain_timeout,
        worker_orphan_timeout: config.worker_orphan_timeout,
        client_timeout: config.ctl_command_timeout,
        unix_sockets: config.worker_unix_sockets,
        allowed_uids: config.command_allowed_uids.clone(),
        frame_bytes_max: config.max_command_buffer_size,
        server: config.server_config(),
        limits: config.limits(),
        source: match options.config_path {
            Some(path) => Source::File(path),
            None => Source::Orders(config.orders.into()),
        },
        pid_file_path: config.pid_file_path.clone(),
        program: program_path(),
        audit: AuditTargets {
            text: config.audit_logs_target.clone(),
            json: config.audit_logs_json_target.clone(),
        },
    };
    let audit = open_audit(&settings.audit)?;
    let refuge = rendezvous.map(Refuge::new).transpose();
    let refuge =
        refuge.map_err(|source| StartError::Io { step: "make memory for the next main process", source })?;
    let mut supervisor = Supervisor::new(Prepared {
        settings,
        worker_log,
        probe_secrets: config.probe_secrets,
        worker_walls: WorkerWalls {
            sandbox: config.worker_sandbox,
            unix_sockets: config.worker_unix_sockets,
        },
        restart: config.worker_automatic_restart,
        sessions,
        limits,
        telemetry: telemetry::Prepared { settings: config.metrics, exporter },
        clients_max: config.max_command_clients,
        workers,
        configuration,
        sockets,
        command_socket,
        signals,
        audit,
        companions: options.companions,
        refuge,
        on_ready: options.on_ready,
    })?;
    if let Some(found) = found {
        supervisor.adopt_workers(found)?;
    }
    supervisor.run()?;
    log::info!("stopped");
    drop(pid_file);
    Ok(ExitCode::SUCCESS)
}

/// Who changes what has to be told, if that is asked for.
fn open_audit(targets: &AuditTargets) -> Result<Audit, StartError> {
    Audit::open(targets).map_err(|(path, source)| StartError::AuditTarget { path, source })
}

/// Where workers wait if this process is killed. Without such a place they end then.
fn open_rendezvous(config: &Config) -> Result<Option<Rendezvous>, StartError> {
    match Rendezvous::open(&config.command_socket) {
        Ok(rendezvous) => Ok(Some(rendezvous)),
        Err(error @ RendezvousError::Taken { .. }) => Err(error.into()),
        Err(error) => {
            log::warn!("workers will end if the main process is killed: {error}");
            Ok(None)
        }
    }
}

/// What all workers have parts of.
struct Shared {
    workers: usize,
    sockets: ListenSockets,
    limits: LimitMemory,
    sessions: Option<SessionMemory>,
}

fn new_shared(state: &ConfigState, config: &Config) -> Result<Shared, StartError> {
    let workers = usize::from(config.worker_count);
    let sockets = bind_listeners(state, config, workers)?;
    let limits =
        LimitMemory::create(config.max_limit_entries, workers, config.max_connections).map_err(|source| {
            StartError::Io { step: "make the memory for limits (max_limit_entries)", source }
        })?;
    Ok(Shared { workers, sockets, limits, sessions: session_memory(config.max_early_data_sessions) })
}

/// The same, of workers that serve: they have it.
fn shared_by(found: &mut Found, config: &Config) -> Result<Shared, StartError> {
    let wrong = |source: io::Error| StartError::Adopt { why: format!("the memory for limits: {source}") };
    let workers = found.told.slots as usize;
    if workers != usize::from(config.worker_count) {
        log::warn!(
            "worker_count: {workers} as before, not {}: that takes a stop and a start",
            config.worker_count
        );
    }
    let mut sockets = BTreeMap::new();
    for worker in &found.workers {
        for (key, socket) in &worker.sockets {
            let socket = socket.try_clone().map_err(wrong)?;
            sockets.insert((key.clone(), worker.slot), socket);
        }
    }
    let listeners = found.state.active_listeners().map(|(_, key)| key);
    let sockets = ListenSockets::adopted(workers, listeners, sockets)
        .map_err(|error| StartError::Listeners(vec![error.to_string()]))?;
    let lanes = found.workers.iter().filter_map(|worker| Some((worker.lane?, worker.id)));
    let limits = found.limits.try_clone().map_err(wrong)?;
    let limits = LimitMemory::adopted(limits, &found.told.limits, lanes).map_err(wrong)?;
    let sessions = found.sessions.take().zip(found.told.sessions.as_ref());
    let sessions = sessions.and_then(|(fd, left)| SessionMemory::adopted(fd, left));
    Ok(Shared { workers, sockets, limits, sessions })
}

/// A kernel that has none to give is no reason not to serve.
fn session_memory(sessions: usize) -> Option<SessionMemory> {
    SessionMemory::create(sessions)
        .inspect_err(|error| log::warn!("no memory for TLS sessions: {error}; no early data is taken"))
        .ok()
}

fn install_logger(config: &Config) -> Result<WorkerLog, StartError> {
    let from_environment = logging::filter_from_environment();
    let filter = match from_environment {
        Some(filter) => filter?,
        None => Filter::parse(&config.log_level)?,
    };
    let failed = |key| move |why: String| StartError::LogTarget { key, why };
    let target = LogTarget::parse(&config.log_target).map_err(failed("log_target"))?;
    let worker_log = WorkerLog {
        filter: filter.to_string(),
        target: config.log_target.clone(),
        colored: config.log_colored,
    };
    logging::install(filter, &target, config.log_colored, "MAIN").map_err(failed("log_target"))?;
    logging::set_rate(config.max_log_rate);
    // Each worker is given its own later.
    if config.access_logs_target != "none" {
        let target = LogTarget::parse(&config.access_logs_target);
        target.and_then(|target| target.open()).map_err(failed("access_logs_target"))?;
    }
    Ok(worker_log)
}

/// The configuration's orders, then the saved state on top of them.
fn initial_state(config: &Config) -> Result<Configuration, StartError> {
    let mut configuration = Configuration { state: sound_state(config)?, revision: 1, last_verb: "start" };
    if let Some(path) = config.saved_state.as_deref().filter(|path| is_wanted(path)) {
        let base = Snapshot {
            state: configuration.state,
            revision: configuration.revision,
            unix_sockets: config.worker_unix_sockets,
            buffer_bytes: config.buffer_size,
        };
        let loaded =
            files::load(path, base, config.max_command_buffer_size).map_err(StartError::SavedState)?;
        log::info!(
            "{}: {} records applied, {} left out",
            path.display(),
            loaded.orders.len(),
            loaded.refused
        );
        configuration.state = loaded.state;
    }
    Ok(configuration)
}

/// Whether a configuration could be served, as far as that can be told without serving it.
///
/// # Errors
/// A key is not that of its certificate or cannot be used, orders contradict each other, or what they ask for cannot be
/// served.
pub(crate) fn check_config(config: &Config) -> Result<(), StartError> {
    sound_state(config).map(drop)
}

/// What the configuration's orders make.
fn sound_state(config: &Config) -> Result<ConfigState, StartError> {
    let unfit = vet_all_keys(config);
    if !unfit.is_empty() {
        return Err(StartError::Certificates(unfit));
    }
    let mut state = ConfigState::default();
    let changes = state.transact(&config.orders)?;
    Soundness::new(config.buffer_size).check_or_undo(&mut state, changes).map_err(StartError::Unsound)?;
    Ok(state)
}

/// What is wrong with certificates and keys of a configuration, each with its place in the file.
pub(super) fn vet_all_keys(config: &Config) -> Vec<String> {
    let errors = config.orders.iter().filter_map(|order| {
        let error = vet_keys(order).err()?;
        let placed = config.remark_order(order, error.as_str()).map(|remark| remark.to_string());
        Some(placed.unwrap_or_else(|| format!("the configuration cannot be applied: {error}")))
    });
    errors.collect()
}

/// A saved state that was never saved is no error: the first start comes before the first save.
fn is_wanted(path: &Path) -> bool {
    let exists = path.exists();
    if !exists {
        log::info!("saved_state: {} does not exist yet", path.display());
    }
    exists
}

/// Opens the sockets of every active listener; tries all of them, so that one run names all troubles.
fn bind_listeners(state: &ConfigState, config: &Config, workers: usize) -> Result<ListenSockets, StartError> {
    let mut sockets = ListenSockets::new(workers);
    let errors: Vec<String> = state
        .active_listeners()
        .filter_map(|(kind, key)| {
            let error = sockets.open(key).err()?.to_string();
            // A listener of the saved state has no place in the file.
            let placed = config.remark(key, error.as_str()).map(|remark| remark.to_string());
            Some(placed.unwrap_or_else(|| format!("{kind} listener: {error}")))
        })
        .collect();
    if errors.is_empty() { Ok(sockets) } else { Err(StartError::Listeners(errors)) }
}

fn write_pid_file(path: &Path) -> Result<PidFile, StartError> {
    PidFile::write(path).map_err(|source| StartError::PidFile { path: path.to_owned(), source })
}

impl fmt::Debug for StartOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StartOptions").field("config_path", &self.config_path).finish_non_exhaustive()
    }
}
