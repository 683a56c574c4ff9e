//! The main process' loop: what can wake it, and what each turn does.
//!
//! A turn: wait; take what signals, workers and clients say; replace who is lost; answer what is
//! complete; take up a bounded number of requests; send. The clock is read once a turn. What requests
//! mean is in the neighbouring files, which extend [`Supervisor`]: [`super::mutations`],
//! [`super::queries`], [`super::stop`]; workers are in [`super::watch`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kakehi_command::config::UnixSockets;
use kakehi_command::order::{ClusterId, verb_of};
use kakehi_command::proto::hand_over::Child;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::supervision::{LimitsConfig, ProbeSecret};
use kakehi_command::proto::{
    Event, EventKind, Request, Response, ResponseContent, ResponseStatus, ServerConfig,
};
use kakehi_command::state::ConfigState;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use super::adoption::Refuge;
use super::audit::{Audit, AuditTargets, is_audited};
use super::clients::{ClientId, ClientLimits, Clients, Turn, failure};
use super::command_socket::CommandSocket;
use super::dispatch::{self, Question, Route};
use super::drains::Drains;
use super::expiry::Expiry;
use super::files::{FileThread, Source};
use super::gather::Lost;
use super::hand_over::{HandingOver, Named, Taking};
use super::health::Health;
use super::limits::LimitMemory;
use super::sessions::SessionMemory;
use super::sockets::ListenSockets;
use super::soundness::Soundness;
use super::start::{OnReady, Ready, StartError};
use super::stop::Stopping;
use super::tasks::{Task, TaskId, Tasks, Work};
use super::telemetry::{self, FIRST_SCRAPE, Telemetry};
use super::tickets::Tickets;
use super::workers::{Fleet, FleetSettings, Worker, WorkerLog, WorkerWalls};
use crate::process::child::Process;
use crate::process::signals::{Asked, Signals};

const COMMAND_SOCKET: Token = Token(0);
const SIGNALS: Token = Token(1);
const FILES: Token = Token(2);
const SCRAPES: Token = Token(3);
/// Of processes that are not children.
pub(super) const ENDS: Token = Token(4);
/// Clients have the even tokens from here on, workers the odd ones; none is used twice.
const FIRST_CLIENT: Token = Token(16);
const FIRST_WORKER: Token = Token(17);
/// From one token of a kind to the next.
pub(super) const TOKEN_STEP: usize = 2;

/// Events taken from the kernel at once; the rest come in the next turn.
const EVENTS_PER_TURN: usize = 256;

/// What a waiting client is told, it is told at least this often, whatever its own patience.
const NOTE_EVERY_MAX: Duration = Duration::from_secs(5);

/// A boot or a change with many orders is given this much more time for each of them.
const TIME_PER_ORDER: Duration = Duration::from_millis(10);

/// A deadline is never stretched beyond this many times the configured one.
const STRETCH_MAX: u32 = 10;

/// Largest frame between main and a worker, bytes: an answer about a million clusters fits, and so does
/// whatever fits on the command socket.
pub(super) const WORKER_FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What does not change while the proxy runs.
#[derive(Debug)]
pub(super) struct Settings {
    /// Time for workers to answer.
    pub(super) worker_timeout: Duration,
    /// How long a worker that was replaced may take to finish what it carries, before its idle connections are closed.
    pub(super) worker_drain_timeout: Duration,
    /// Time a client of the command line waits for a sign of life; `None`: for ever.
    pub(super) client_timeout: Option<Duration>,
    /// How long workers serve on if this process is killed, seconds; 0: until another one comes.
    pub(super) worker_orphan_timeout: u32,
    /// The Unix sockets that workers may connect to.
    pub(super) unix_sockets: UnixSockets,
    /// Who may send requests; `None`: whoever can open the socket.
    pub(super) allowed_uids: Option<Vec<u32>>,
    /// Largest frame on the command socket, bytes.
    pub(super) frame_bytes_max: usize,
    /// What workers are configured with.
    pub(super) server: ServerConfig,
    /// As `server`, for what only Kakehi has.
    pub(super) limits: LimitsConfig,
    /// What a reload without a path reads.
    pub(super) source: Source,
    /// The file with the id of this process.
    pub(super) pid_file_path: Option<PathBuf>,
    /// Where an upgrade finds its program.
    pub(super) program: PathBuf,
    /// Where it is told who has changed what.
    pub(super) audit: AuditTargets,
}

impl Settings {
    /// Bytes of a worker's buffers.
    pub(super) fn buffer_bytes(&self) -> usize {
        usize::try_from(self.server.buffer_size).unwrap_or(usize::MAX)
    }
}

/// The configuration being served, or about to be.
#[derive(Debug)]
pub(super) struct Configuration {
    /// Listeners, clusters, frontends, backends.
    pub(super) state: ConfigState,
    /// How often it has changed.
    pub(super) revision: u64,
    /// The last change, for the log when workers die of it.
    pub(super) last_verb: &'static str,
}

/// Everything that was made ready before the first worker is spawned.
pub(super) struct Prepared {
    /// What does not change.
    pub(super) settings: Settings,
    /// How workers log.
    pub(super) worker_log: WorkerLog,
    /// Values of secret headers of health checks.
    pub(super) probe_secrets: Vec<(ClusterId, ProbeSecret)>,
    /// What workers give up.
    pub(super) worker_walls: WorkerWalls,
    /// Whether lost workers are replaced.
    pub(super) restart: bool,
    /// Where workers keep TLS sessions, if there is such a place.
    pub(super) sessions: Option<SessionMemory>,
    /// Where workers count what is limited over all of them.
    pub(super) limits: LimitMemory,
    /// Who is told the workers' numbers.
    pub(super) telemetry: telemetry::Prepared,
    /// Clients at the same time.
    pub(super) clients_max: usize,
    /// Number of workers.
    pub(super) workers: usize,
    /// The state to serve.
    pub(super) configuration: Configuration,
    /// Its listening sockets.
    pub(super) sockets: ListenSockets,
    /// The command socket.
    pub(super) command_socket: CommandSocket,
    /// The signals.
    pub(super) signals: Signals,
    /// Where workers wait if this process is killed; none if they don't.
    pub(super) refuge: Option<Refuge>,
    /// Opened at the targets of the settings.
    pub(super) audit: Audit,
    /// Processes that live as long as this one.
    pub(super) companions: Vec<Companion>,
    /// Called when everything is served.
    pub(super) on_ready: OnReady,
}

/// A process beside the proxy, which ends with it: when its standard input is closed.
#[derive(Debug)]
pub(crate) struct Companion {
    process: Process,
    stdin: OwnedFd,
}

impl Companion {
    /// One that this program has started.
    pub(crate) fn new(process: Process, stdin: OwnedFd) -> Self {
        Self { process, stdin }
    }

    /// One that the program has left which this process ran before.
    pub(super) fn taken_over(left: &Child, taking: Taking) -> io::Result<Self> {
        let stdin = taking.own(left.fd.ok_or(io::ErrorKind::InvalidData)?)?;
        Ok(Self { process: Process::known(left.pid), stdin })
    }

    /// For the next program of this process.
    pub(super) fn left(&self, named: &mut Named) -> Child {
        Child { id: 0, pid: self.process.id(), fd: Some(named.name(&self.stdin)) }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // It may have ended already: then there is nothing left to do.
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// The main process.
pub(super) struct Supervisor {
    pub(super) poll: Poll,
    signals: Signals,
    pub(super) command_socket: CommandSocket,
    pub(super) on_ready: Option<OnReady>,
    pub(super) settings: Settings,
    pub(super) clients: Clients,
    pub(super) fleet: Fleet,
    pub(super) sockets: ListenSockets,
    pub(super) configuration: Configuration,
    pub(super) tasks: Tasks,
    pub(super) files: FileThread,
    pub(super) changes: telemetry::Changes,
    pub(super) counts: BTreeMap<Cow<'static, str>, i32>,
    pub(super) tickets: Tickets,
    pub(super) sessions: Option<SessionMemory>,
    pub(super) limits: LimitMemory,
    pub(super) soundness: Soundness,
    pub(super) health: Health,
    pub(super) drains: Drains,
    pub(super) telemetry: Telemetry,
    pub(super) stopping: Option<Stopping>,
    pub(super) handing_over: Option<HandingOver>,
    pub(super) audit: Audit,
    pub(super) refuge: Option<Refuge>,
    /// Its workers served before it started.
    pub(super) is_adopting: bool,
    /// Dropped last: requests in flight need them.
    pub(super) companions: Vec<Companion>,
    pub(super) expiry: Expiry,
    /// How the last process ended, for the error if the start fails.
    pub(super) last_end: String,
    pub(super) started: Instant,
    /// The time of this turn.
    pub(super) now: Instant,
}

impl Supervisor {
    /// Joins what was prepared to a poll. No worker runs yet: [`run`](Self::run) spawns them.
    pub(super) fn new(prepared: Prepared) -> Result<Self, StartError> {
        let failed = |step| move |source| StartError::Io { step, source };
        let poll = Poll::new().map_err(failed("open an epoll instance"))?;
        let now = read_clock();
        let mut health = Health::default();
        health.keep_secrets(prepared.probe_secrets);
        let registry = || poll.registry().try_clone().map_err(failed("copy the epoll instance"));
        let frame_bytes_max = prepared.settings.frame_bytes_max;
        let limits = ClientLimits { clients_max: prepared.clients_max, frame_bytes_max };
        let fleet = FleetSettings {
            slots: prepared.workers,
            log: prepared.worker_log,
            walls: prepared.worker_walls,
            frame_bytes_max: WORKER_FRAME_BYTES_MAX.max(frame_bytes_max.saturating_mul(2)),
            restart: prepared.restart,
            patience: prepared.settings.worker_timeout,
        };
        let clients = Clients::new(limits, registry()?, FIRST_CLIENT);
        let fleet = Fleet::new(fleet, registry()?, FIRST_WORKER, now);
        let waker = Waker::new(poll.registry(), FILES).map_err(failed("open a waker"))?;
        let files = FileThread::start(waker).map_err(failed("start a thread"))?;
        register(poll.registry(), &prepared.signals, SIGNALS).map_err(failed("watch signals"))?;
        register(poll.registry(), prepared.command_socket.listener(), COMMAND_SOCKET)
            .map_err(failed("watch the command socket"))?;
        let mut telemetry = Telemetry::new(prepared.telemetry, now);
        telemetry.watch(poll.registry(), SCRAPES).map_err(failed("watch the listener for metrics"))?;
        let soundness = Soundness::new(prepared.settings.buffer_bytes());
        Ok(Self {
            poll,
            signals: prepared.signals,
            command_socket: prepared.command_socket,
            on_ready: Some(prepared.on_ready),
            settings: prepared.settings,
            clients,
            fleet,
            sockets: prepared.sockets,
            configuration: prepared.configuration,
            tasks: Tasks::default(),
            files,
            changes: telemetry::Changes::default(),
            counts: BTreeMap::new(),
            tickets: Tickets::new(now),
            sessions: prepared.sessions,
            limits: prepared.limits,
            soundness,
            health,
            drains: Drains::default(),
            telemetry,
            stopping: None,
            handing_over: None,
            audit: prepared.audit,
            refuge: prepared.refuge,
            is_adopting: false,
            companions: prepared.companions,
            expiry: Expiry::new(now),
            last_end: String::new(),
            started: now,
            now,
        })
    }

    /// Runs until the proxy was stopped and every process has ended.
    pub(super) fn run(mut self) -> Result<(), StartError> {
        let result = self.turns();
        let is_starting = self.on_ready.is_some() && !self.is_adopting;
        if result.is_err() && (is_starting || self.refuge.is_none()) {
            self.fleet.stop_restarting();
            self.fleet.kill_all();
        } else if result.is_err() {
            log::error!("the main process ends; its workers serve on: start another one");
            return result;
        }
        if let Some(refuge) = &mut self.refuge {
            refuge.rendezvous.clear();
        }
        result
    }

    fn turns(&mut self) -> Result<(), StartError> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            self.spawn_due();
            self.settle_will();
            self.flush_workers()?;
            self.wait(&mut events).map_err(|source| StartError::Io { step: "wait for events", source })?;
            self.now = read_clock();
            for event in &events {
                let ending = event.is_read_closed() || event.is_write_closed() || event.is_error();
                self.take_event(event.token(), event.is_readable(), ending)?;
            }
            if self.clients.accept_at().is_some_and(|at| at <= self.now) {
                self.accept_clients();
            }
            self.take_files();
            self.take_deadlines()?;
            self.settle();
            self.serve_clients();
            self.settle_health();
            self.settle_drains();
            self.settle_replacements()?;
            self.settle_telemetry();
            self.settle_audit();
            self.announce();
            self.settle_hand_over();
            self.clients.tidy(self.now);
            if self.is_stopped() {
                self.settle_audit();
                return Ok(());
            }
        }
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let deadline = [
            self.fleet.next_deadline(),
            self.clients.next_deadline(),
            self.tasks.next_deadline(),
            self.stop_deadline(),
            Some(self.tickets.next_deadline()),
            Some(self.expiry.deadline()),
            self.health.next_deadline(),
            self.hand_over_deadline(),
            self.telemetry.deadline(),
        ];
        let is_awaited = self.clients.has_ready() && !self.is_handing_over();
        let timeout = if is_awaited || self.telemetry.has_work() {
            Some(Duration::ZERO)
        } else {
            deadline.into_iter().flatten().min().map(|at| at.saturating_duration_since(self.now))
        };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            result => result,
        }
    }

    fn take_event(&mut self, token: Token, readable: bool, ending: bool) -> Result<(), StartError> {
        match token {
            COMMAND_SOCKET => self.accept_clients(),
            SIGNALS => self.take_signals()?,
            ENDS => self.reap()?,
            FILES => {} // Every turn looks at what the thread has finished.
            SCRAPES => self.telemetry.woken(None, self.poll.registry(), self.now),
            scrape if scrape >= FIRST_SCRAPE => {
                self.telemetry.woken(Some(scrape), self.poll.registry(), self.now);
            }
            token => match self.clients.by_token(token) {
                Some(client) => self.clients.woken(client, readable, ending, self.now),
                None => self.take_worker(token, ending)?,
            },
        }
        Ok(())
    }

    /// Workers, which may connect to Unix sockets of backends, are not among those who may ask for anything.
    fn accept_clients(&mut self) {
        let (fleet, now) = (&self.fleet, self.now);
        self.clients.accept(self.command_socket.listener(), now, |pid| fleet.is_worker(pid, now));
    }

    fn take_signals(&mut self) -> Result<(), StartError> {
        loop {
            match self.signals.next() {
                Ok(Some(Asked::Stop)) => self.stop_by_signal(),
                Ok(Some(Asked::Reap)) => self.reap()?,
                Ok(Some(Asked::Reopen)) => {
                    if let Err(error) = self.reopen_logs() {
                        log::error!("{error}");
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    return Err(StartError::Io { step: "read signals", source: error.into() });
                }
            }
        }
    }

    fn take_deadlines(&mut self) -> Result<(), StartError> {
        for id in self.fleet.late(self.now) {
            self.lose_worker(id, &Lost::Silent, "it did not come up in time")?;
        }
        for id in self.fleet.silent(self.now, self.configuration.revision) {
            self.lose_worker(id, &Lost::Silent, "it does not answer any more")?;
        }
        for id in self.tasks.expire(self.now) {
            self.lose_worker(id, &Lost::Silent, "it did not apply a change in time")?;
        }
        let every = self.note_every();
        for (client, note) in self.tasks.notes_due(self.now, |now| now + every) {
            self.clients.processing(client, note, self.now);
        }
        self.take_stop_deadline();
        self.rotate_tickets();
        self.end_ejections();
        self.look_for_expiry();
        Ok(())
    }

    /// Answers the tasks that wait for nobody any more.
    pub(super) fn settle(&mut self) {
        for id in self.tasks.complete() {
            if let Some(task) = self.tasks.take(id) {
                self.finish(task);
            }
        }
    }

    fn finish(&mut self, task: Task) {
        let (client, verb) = (task.client, task.verb);
        let took = self.now.saturating_duration_since(task.started);
        let response = match task.work {
            Work::Apply(apply) => self.finish_apply(apply),
            Work::Query(query) => self.finish_query(query),
            Work::Files | Work::Drained { .. } | Work::Replace(_) | Work::HandOver => {
                failure("the request was given up")
            }
        };
        log::debug!("client {client}: {verb} answered {:?} after {took:?}", response.status());
        self.clients.answer(client, &response, self.now);
    }

    /// Gives each client that may have a request its turn.
    fn serve_clients(&mut self) {
        // They wait for the program that will answer them.
        if self.is_handing_over() {
            return;
        }
        for client in self.clients.take_ready() {
            let mut turns = 0;
            loop {
                if turns == Clients::requests_per_turn() {
                    self.clients.put_back(client);
                    break;
                }
                turns += 1;
                match self.clients.next(client) {
                    Turn::Request(request) => self.take_request(client, &request),
                    Turn::Garbage(error) => self.clients.answer_garbage(client, &error, self.now),
                    Turn::Nothing => break,
                }
            }
        }
        self.settle();
    }

    fn take_request(&mut self, client: ClientId, request: &Request) {
        let Some(peer) = self.clients.peer(client) else { return };
        let verb = verb_of(request).unwrap_or("unknown");
        let count = self.counts.entry(Cow::Borrowed(verb)).or_default();
        *count = count.saturating_add(1);
        self.clients.set_busy(client);
        if is_audited(request) {
            self.begin_audit(client, verb, request);
        }
        let allowed = self.settings.allowed_uids.as_ref().is_none_or(|uids| uids.contains(&peer.uid));
        if !allowed {
            log::warn!("client {client} ({peer}): {verb} refused, its user is not in command_allowed_uids");
            let text = format!("unauthorized: actor UID {} not in command_allowed_uids", peer.uid);
            return self.clients.answer(client, &failure(text), self.now);
        }
        match dispatch::route(request) {
            Ok(route) => self.act(client, verb, route, request),
            Err(refusal) => {
                log::info!("client {client} ({peer}): {verb} refused: {refusal}");
                self.clients.answer(client, &failure(refusal.to_string()), self.now);
            }
        }
    }

    fn act(&mut self, client: ClientId, verb: &'static str, route: Route, request: &Request) {
        let changes = matches!(
            route,
            Route::Change(_)
                | Route::ProtectedHealthCheck(_)
                | Route::Transaction { .. }
                | Route::LoadState(_)
                | Route::Reload(_)
        );
        if changes && self.stopping.is_some() {
            let response = failure("the proxy is stopping: nothing changes any more");
            return self.clients.answer(client, &response, self.now);
        }
        match route {
            Route::Change(order) => self.change(client, verb, order),
            Route::Transaction { orders, if_revision } => self.transaction(client, verb, orders, if_revision),
            Route::SaveState(path) => self.save_state(client, verb, path),
            Route::LoadState(path) => self.load_state(client, verb, path),
            Route::Reload(path) => self.reload(client, verb, path),
            Route::ProtectedHealthCheck(wire) => self.change_protected(client, verb, *wire),
            Route::Stop { hard } => self.stop(hard, Some(client)),
            Route::Logging(filter) => self.change_logging(client, verb, &filter, request),
            Route::ReopenLogs => self.reopen_logs_for(client, verb, request),
            Route::Subscribe => self.subscribe(client),
            Route::WaitDrained(asked) => self.wait_drained(client, verb, asked),
            Route::MetricDetail(asked) => self.set_metric_detail(client, &asked),
            Route::Ask(question) => self.answer_question(client, &question),
            Route::UpgradeWorker(worker) => self.upgrade_worker(client, verb, worker),
            Route::UpgradeMain => self.upgrade_main(client, verb),
            Route::AskWorkers(question) => self.ask_workers(client, verb, question, request),
        }
    }

    fn answer_question(&mut self, client: ClientId, question: &Question) {
        let response = self.ask(question);
        self.clients.answer(client, &response, self.now);
    }

    /// There is no answer but the events, the first of which is the subscription itself.
    fn subscribe(&mut self, client: ClientId) {
        self.clients.subscribe(client);
        self.publish("main", event(EventKind::EventsSubscribed));
    }

    /// Tells an event to all subscribers.
    pub(super) fn publish(&mut self, source: &str, event: Event) {
        self.changes.count_event(event.kind());
        let response = Response {
            status: ResponseStatus::Processing.into(),
            message: source.to_owned(),
            content: Some(ResponseContent { content_type: Some(ContentType::Event(event)) }),
        };
        self.clients.publish(&response, self.now);
    }

    /// Adds a task for a client.
    pub(super) fn add_task(
        &mut self,
        client: ClientId,
        verb: &'static str,
        patience: Option<Duration>,
        work: Work,
    ) -> TaskId {
        let deadline = patience.map(|patience| self.now + patience);
        let note_at = self.now + self.note_every();
        self.tasks.add(Task { client, verb, started: self.now, deadline, note_at, work })
    }

    /// How long workers may take for a change of this many orders.
    pub(super) fn patience(&self, orders: usize) -> Duration {
        let timeout = self.settings.worker_timeout;
        let more = TIME_PER_ORDER.saturating_mul(u32::try_from(orders).unwrap_or(u32::MAX));
        timeout.saturating_add(more).min(timeout.saturating_mul(STRETCH_MAX))
    }

    /// Often enough for the command line not to give up: half its patience.
    pub(super) fn note_every(&self) -> Duration {
        self.settings.client_timeout.map_or(NOTE_EVERY_MAX, |timeout| NOTE_EVERY_MAX.min(timeout / 2))
    }

    /// Says that everything is served, once.
    fn announce(&mut self) {
        if self.on_ready.is_none() || self.stopping.is_some() || !self.fleet.all_serve() {
            return;
        }
        let ready = Ready {
            listeners: {
                let active = self.configuration.state.active_listeners();
                active.map(|(kind, key)| (kind, key.address)).collect()
            },
            command_socket: PathBuf::from(self.command_socket.path()),
            worker_pids: self.fleet.workers().map(Worker::pid).collect(),
        };
        log::info!(
            "revision {} is served; workers: {}, listeners: {}, command socket: {}",
            self.configuration.revision,
            ready.worker_pids.len(),
            ready.listeners.len(),
            ready.command_socket.display()
        );
        if let Some(on_ready) = self.on_ready.take() {
            on_ready(&ready);
        }
    }
}

/// An event that is about nothing in particular.
pub(super) fn event(kind: EventKind) -> Event {
    Event { kind: kind.into(), ..Default::default() }
}

fn register(registry: &Registry, source: &impl AsRawFd, token: Token) -> io::Result<()> {
    registry.register(&mut SourceFd(&source.as_raw_fd()), token, Interest::READABLE)
}

#[expect(clippy::disallowed_methods, reason = "the loop's clock")]
pub(super) fn read_clock() -> Instant {
    Instant::now()
}
