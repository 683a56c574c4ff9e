//! The worker's end of the talk with main: orders in, acknowledgements and answers out.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use kakehi_command::channel::{Channel, ChannelError, Flushed, Received};
use kakehi_command::order::{ListenerKey, OrderError, SessionsOf};
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::supervision as proto;
use kakehi_command::proto::supervision::{
    Answer, Applied, Batch, Boot, Departure, Departures, Drained, FromWorker, ListenSockets, Query, Ready,
    Refused, ToWorker, Verdict, Verdicts, from_worker, to_worker,
};
use kakehi_command::proto::{
    ClusterHashes, ClusterInformations, MetricsConfiguration, QueryCertificatesFilters, Request,
    ResponseContent, ResponseStatus,
};
use kakehi_command::state::ConfigState;
use mio::net::TcpListener;
use prost::Message as _;

use super::orphan::{Keepsakes, Telling};
use super::worker::{Configuration, Idle, Worker};
use super::{ErrorLog, logs};
use crate::limits::{Layout, SharedTables};
use crate::metrics;
use crate::net::kernel::{Kernel, adopt_listener};
use crate::net::log_sink::LogSink;
use crate::net::shared_memory;
use crate::session::Settings;
use crate::tls::session_table::SessionTable;
use crate::tls::settings::ticket_keys;

/// Frames that are handled in one turn before traffic has its own.
const FRAMES_PER_TURN_MAX: usize = 256;

/// The largest frame between main and a worker, both directions: an answer that lists everything of
/// 100,000 clusters fits. State and orders come in smaller parts.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// What main wants of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Go on.
    Serve,
    /// Finish what is in flight, then say so and end.
    Drain(Idle),
    /// End now.
    Stop,
}

/// The state is told to main as far ahead as this, bytes.
const TELL_AHEAD_BYTES: usize = 256 * 1024;

/// See the module.
pub(super) struct Control {
    /// None while main is gone.
    channel: Option<Channel<FromWorker, ToWorker>>,
    keepsakes: Keepsakes,
    /// How this program is handed over to, for a main process that comes after another.
    protocol: u32,
    telling: Option<Telling>,
    log: ErrorLog,
    /// Parts of a batch whose last part has not come.
    pending: Vec<Request>,
    /// Frames are left from the last turn.
    unread: bool,
    /// An end of the channel was told of.
    ending: bool,
    /// It has come.
    ended: bool,
    /// Main has said that the worker has everything.
    started: bool,
    /// An event comes when the channel has room.
    watched_for_room: bool,
}

impl Control {
    pub(super) fn new(stream: UnixStream, protocol: u32, log: ErrorLog) -> Self {
        Self {
            channel: Some(Channel::with_fds(stream, FRAME_BYTES_MAX)),
            keepsakes: Keepsakes::default(),
            protocol,
            telling: None,
            log,
            pending: Vec::new(),
            unread: false,
            ending: false,
            ended: false,
            started: false,
            watched_for_room: false,
        }
    }

    /// Whether there are frames to handle without waiting for the socket.
    pub(super) fn has_unread(&self) -> bool {
        self.unread
    }

    /// Reads the first frame, if it has come.
    pub(super) fn receive_boot(&mut self) -> Result<Option<Boot>, ControlError> {
        let Some(channel) = self.channel.as_mut() else { return Err(ControlError::MainIsGone) };
        let received = channel.receive()?;
        match channel.next() {
            Some(Ok(ToWorker { message: Some(to_worker::Message::Boot(boot)) })) => {
                // Frames behind it are handled in the first turn.
                self.unread = true;
                Ok(Some(boot))
            }
            Some(Ok(_)) => Err(ControlError::Protocol("the first frame is not Boot")),
            Some(Err(_)) => Err(ControlError::Protocol("the first frame cannot be decoded")),
            None if received == Received::Closed => Err(ControlError::MainIsGone),
            None => Ok(None),
        }
    }

    /// The channel's socket; none while main is gone.
    pub(super) fn descriptor(&self) -> Option<RawFd> {
        self.channel.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Whether main has ended the channel, or is gone.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether main is gone, and none has come since.
    pub(super) fn is_orphan(&self) -> bool {
        self.channel.is_none()
    }

    /// Whether main has said that the worker has everything.
    pub(super) fn has_started(&self) -> bool {
        self.started
    }

    /// What is kept for the next main process.
    pub(super) fn keepsakes(&self) -> &Keepsakes {
        &self.keepsakes
    }

    /// Closes what is left of the channel. What came of it and is not whole is forgotten.
    pub(super) fn lose_main(&mut self) {
        self.channel = None;
        self.pending = Vec::new();
        self.telling = None;
        (self.unread, self.ending, self.ended, self.watched_for_room) = (false, false, false, false);
    }

    /// Another main process has come.
    pub(super) fn take_main(&mut self, stream: UnixStream) {
        self.lose_main();
        self.channel = Some(Channel::with_fds(stream, FRAME_BYTES_MAX));
    }

    /// Whether the channel must be watched for room, from now on.
    pub(super) fn needs_room(&mut self) -> bool {
        !std::mem::replace(&mut self.watched_for_room, true)
    }

    /// An event told that main has ended the channel, or is gone.
    pub(super) fn note_end(&mut self) {
        self.ending = true;
    }

    /// Handles what main sent, up to a bound. See [`has_ended`](Self::has_ended) afterwards.
    pub(super) fn receive(&mut self, worker: &mut Worker<Kernel>) -> Result<Wish, ControlError> {
        let mut wish = Wish::Serve;
        let mut handled = 0;
        self.unread = false;
        loop {
            let Some(channel) = self.channel.as_mut() else { return Ok(wish) };
            let received = if self.ending { channel.receive() } else { channel.receive_bytes() };
            let received = match received {
                // A socket that fails has nobody behind it.
                Err(ChannelError::Io(error)) => {
                    log::debug!("the channel to the main process: {error}");
                    Received::Closed
                }
                received => received?,
            };
            loop {
                if handled >= FRAMES_PER_TURN_MAX {
                    self.unread = true;
                    return Ok(wish);
                }
                let Some(frame) = self.channel.as_mut().and_then(Channel::next) else { break };
                handled += 1;
                let frame = frame.map_err(|_| ControlError::Protocol("a frame cannot be decoded"))?;
                match self.handle(frame, worker)? {
                    Wish::Serve => {}
                    Wish::Stop => return Ok(Wish::Stop),
                    other => wish = other,
                }
            }
            match received {
                Received::More => {}
                Received::Open => return Ok(wish),
                Received::Closed => {
                    self.ended = true;
                    return Ok(wish);
                }
            }
        }
    }

    fn handle(&mut self, frame: ToWorker, worker: &mut Worker<Kernel>) -> Result<Wish, ControlError> {
        match frame.message {
            Some(to_worker::Message::Batch(batch)) => self.apply(batch, worker)?,
            Some(to_worker::Message::ListenSockets(sockets)) => self.adopt(&sockets, worker)?,
            Some(to_worker::Message::Start(_)) => {
                worker.start();
                self.started = true;
                self.send(from_worker::Message::Ready(Ready { revision: worker.state().1 }))?;
            }
            Some(to_worker::Message::TicketKeys(keys)) => {
                worker.set_ticket_keys(ticket_keys(&keys));
            }
            Some(to_worker::Message::Probers(probers)) => worker.set_probers(&probers.worker_ids),
            Some(to_worker::Message::Verdicts(verdicts)) => worker.apply_verdicts(&verdicts.verdicts),
            Some(to_worker::Message::ProbeSecrets(secrets)) => worker.set_probe_secrets(secrets),
            Some(to_worker::Message::SessionTable(table)) => self.map_sessions(&table, worker)?,
            Some(to_worker::Message::LimitTables(tables)) => self.map_limits(&tables, worker)?,
            Some(to_worker::Message::AccessTarget(target)) => worker.set_access_sink(self.sink(&target)?),
            Some(to_worker::Message::LogTarget(target)) => (self.log.set_sink)(self.sink(&target)?),
            Some(to_worker::Message::Query(query)) => self.answer(query, worker)?,
            Some(to_worker::Message::Stop(stop)) => {
                let idle = if stop.patient() { Idle::Kept } else { Idle::Closed };
                return Ok(if stop.hard { Wish::Stop } else { Wish::Drain(idle) });
            }
            Some(to_worker::Message::Rendezvous(rendezvous)) => {
                let fds = self.take_fds(2, "too few descriptors of the rendezvous")?;
                if let Ok([listener, testament]) = <[OwnedFd; 2]>::try_from(fds) {
                    self.keepsakes.wait_at(listener, rendezvous);
                    self.keepsakes.keep_testament(testament);
                }
            }
            Some(to_worker::Message::Testament(_)) => {
                let fd = self.take_fd("no descriptor of the testament")?;
                self.keepsakes.keep_testament(fd);
            }
            Some(to_worker::Message::Adopt(adopt)) => {
                log::info!("a main process of version {} asks for this worker", adopt.version);
                let messages = self.keepsakes.introduce(worker, self.protocol);
                for (message, fds) in messages {
                    self.send_with(message, fds)?;
                }
            }
            Some(to_worker::Message::TellState(_)) => self.telling = Some(Telling::of(worker)),
            Some(to_worker::Message::Boot(_)) | None => {
                return Err(ControlError::Protocol("a frame that is not for a running worker"));
            }
        }
        Ok(Wish::Serve)
    }

    fn apply(&mut self, batch: Batch, worker: &mut Worker<Kernel>) -> Result<(), ControlError> {
        self.pending.extend(batch.requests);
        if !batch.last {
            return Ok(());
        }
        let requests = std::mem::take(&mut self.pending);
        let revision = batch.revision;
        let message = match worker.apply(revision, &requests) {
            Ok(()) => from_worker::Message::Applied(Applied { revision }),
            Err(reason) => {
                log::error!("revision {revision} cannot be applied: {reason}");
                from_worker::Message::Refused(Refused { revision, reason })
            }
        };
        self.send(message)
    }

    fn adopt(&mut self, sockets: &ListenSockets, worker: &mut Worker<Kernel>) -> Result<(), ControlError> {
        let fds = self.take_fds(sockets.sockets.len(), "fewer descriptors than listening sockets")?;
        for (socket, fd) in sockets.sockets.iter().zip(fds) {
            let key = ListenerKey::from_wire(&socket.address, socket.interface.as_deref())
                .map_err(|_| ControlError::Protocol("a listening socket without an address"))?;
            let listener: TcpListener = adopt_listener(fd);
            worker.offer_socket(&key, listener);
        }
        Ok(())
    }

    fn sink(&mut self, target: &proto::LogTarget) -> Result<LogSink, ControlError> {
        let fd = match logs::has_descriptor(target) {
            true => self.take_fd("no descriptor of a log").ok(),
            false => None,
        };
        logs::sink(target, fd).ok_or(ControlError::Protocol("the target of a log is not one"))
    }

    /// Without the memory there is no early data, and nothing else is amiss.
    fn map_sessions(
        &mut self,
        table: &proto::SessionTable,
        worker: &mut Worker<Kernel>,
    ) -> Result<(), ControlError> {
        let fd = self.take_fd("no descriptor of the session table")?;
        let bytes = usize::try_from(table.bytes).unwrap_or(usize::MAX);
        match shared_memory::map(&fd, bytes).map(SessionTable::new) {
            Ok(Some(table)) => worker.set_session_table(table),
            Ok(None) => log::error!("the session table is too small: no early data is taken"),
            Err(error) => log::error!("the session table cannot be mapped: {error}; no early data is taken"),
        }
        self.keepsakes.keep_sessions(fd);
        Ok(())
    }

    /// Without the memory no limit would hold: this worker can't serve.
    fn map_limits(
        &mut self,
        tables: &proto::LimitTables,
        worker: &mut Worker<Kernel>,
    ) -> Result<(), ControlError> {
        let fd = self.take_fd("no descriptor of the tables of limits")?;
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let layout = Layout { entries: number(tables.entries), lanes: number(tables.lanes.into()) };
        let secret = tables.secret.as_slice().try_into();
        let secret = secret.map_err(|_| ControlError::Protocol("a secret that is not 16 bytes long"))?;
        let words = shared_memory::map(&fd, layout.bytes()).map_err(ControlError::Memory)?;
        self.keepsakes.keep_limits(fd, tables.lane);
        let tables = SharedTables::new(words, layout, number(tables.lane.into()), secret);
        worker.set_limit_tables(tables.ok_or(ControlError::Protocol("the tables of limits do not fit"))?);
        Ok(())
    }

    fn answer(&mut self, query: Query, worker: &mut Worker<Kernel>) -> Result<(), ControlError> {
        let (status, message, content) = match query.request.request_type {
            Some(RequestType::WaitDrained(asked)) => {
                (ResponseStatus::Ok, worker.left_of(&asked).to_string(), None)
            }
            Some(request) => match self.content_of(request, worker) {
                Ok(content) => (ResponseStatus::Ok, String::new(), content),
                Err(message) => (ResponseStatus::Failure, message, None),
            },
            None => (ResponseStatus::Failure, "the query is empty".to_owned(), None),
        };
        let answer = |status: ResponseStatus, message: String, content: Option<ContentType>| {
            from_worker::Message::Answer(Answer {
                id: query.id,
                status: status.into(),
                message,
                content: content.map(|content| ResponseContent { content_type: Some(content) }),
            })
        };
        match self.send(answer(status, message, content)) {
            Err(ControlError::Channel(ChannelError::Frame(error))) => {
                self.send(answer(ResponseStatus::Failure, error.to_string(), None))
            }
            sent => sent,
        }
    }

    /// What a question that changes nothing of the configuration is answered with.
    fn content_of(
        &self,
        request: RequestType,
        worker: &mut Worker<Kernel>,
    ) -> Result<Option<ContentType>, String> {
        if let RequestType::QueryMetrics(options) = &request {
            worker.note_lost_lines((self.log.lost)());
            return Ok(Some(if options.list {
                ContentType::AvailableMetrics(metrics::names())
            } else {
                ContentType::WorkerMetrics(worker.tell_metrics(options))
            }));
        }
        if let RequestType::ConfigureMetrics(change) = &request {
            let change = MetricsConfiguration::try_from(*change);
            return change
                .map(|change| {
                    worker.note_lost_lines((self.log.lost)());
                    worker.configure_metrics(change);
                })
                .map(|()| None)
                .map_err(|error| error.to_string());
        }
        if let RequestType::CloseSessions(wire) = &request {
            let sessions = SessionsOf::from_wire(wire).map_err(|error| error.to_string())?;
            return Ok(Some(ContentType::ClosedSessions(worker.close_sessions(&sessions))));
        }
        let (state, _) = worker.state();
        Ok(Some(match request {
            // Of the new targets it was told before.
            RequestType::Status(_) | RequestType::ReopenLogs(_) => return Ok(None),
            RequestType::Logging(filter) => return (self.log.set_filter)(&filter).map(|()| None),
            RequestType::QueryClusterById(id) => ContentType::Clusters(ClusterInformations {
                vec: state.query_cluster_by_id(&id).into_iter().collect(),
            }),
            RequestType::QueryClustersByDomain(query) => ContentType::Clusters(ClusterInformations {
                vec: state.query_clusters_by_domain(&query.hostname, query.path.as_deref()),
            }),
            RequestType::QueryClustersHashes(_) => {
                ContentType::ClusterHashes(ClusterHashes { map: state.cluster_hashes() })
            }
            RequestType::QueryCertificatesFromWorkers(filters) => {
                return certificates(state, &filters).map(Some);
            }
            _ => return Err("a worker does not answer this".to_owned()),
        }))
    }

    /// Tells main what was found out about backends.
    pub(super) fn report(&mut self, verdicts: Vec<Verdict>) -> Result<(), ControlError> {
        if verdicts.is_empty() {
            return Ok(());
        }
        self.send(from_worker::Message::Verdicts(Verdicts { verdicts }))
    }

    /// Tells main what has nothing left to finish.
    pub(super) fn report_departures(&mut self, departures: Vec<Departure>) -> Result<(), ControlError> {
        if departures.is_empty() {
            return Ok(());
        }
        self.send(from_worker::Message::Departures(Departures { departures }))
    }

    /// Everything in flight is finished.
    pub(super) fn drained(&mut self) -> Result<(), ControlError> {
        self.send(from_worker::Message::Drained(Drained {}))
    }

    fn send(&mut self, message: from_worker::Message) -> Result<(), ControlError> {
        self.send_with(message, Vec::new())
    }

    fn send_with(&mut self, message: from_worker::Message, fds: Vec<OwnedFd>) -> Result<(), ControlError> {
        let Some(channel) = self.channel.as_mut() else { return Ok(()) };
        Ok(channel.queue_with_fds(&FromWorker { message: Some(message) }, fds)?)
    }

    fn take_fds(&mut self, count: usize, without: &'static str) -> Result<Vec<OwnedFd>, ControlError> {
        let fds = self.channel.as_mut().and_then(|channel| channel.take_fds(count));
        fds.ok_or(ControlError::Protocol(without))
    }

    fn take_fd(&mut self, without: &'static str) -> Result<OwnedFd, ControlError> {
        self.take_fds(1, without)?.pop().ok_or(ControlError::Protocol(without))
    }

    /// Queues some of the state, if main has asked for it. True if there is more.
    pub(super) fn tell_more(&mut self) -> Result<bool, ControlError> {
        let Some(telling) = self.telling.as_mut() else { return Ok(false) };
        let mut parts = Vec::new();
        let mut bytes = self.channel.as_ref().map_or(0, Channel::queued_bytes);
        while bytes < TELL_AHEAD_BYTES {
            let Some(part) = telling.next_part() else {
                self.telling = None;
                break;
            };
            bytes += part.encoded_len();
            parts.push(part);
        }
        for part in parts {
            self.send(from_worker::Message::State(part))?;
        }
        Ok(self.telling.is_some())
    }

    /// Sends what is queued. False while something waits for main to read. A channel that fails has ended, which the
    /// next [`receive`](Self::receive) finds.
    pub(super) fn flush(&mut self) -> Result<bool, ControlError> {
        let Some(channel) = self.channel.as_mut().filter(|channel| channel.wants_write()) else {
            return Ok(true);
        };
        match channel.flush() {
            Ok(flushed) => Ok(flushed == Flushed::Done),
            Err(ChannelError::Io(error)) => {
                log::debug!("the channel to the main process: {error}");
                (self.ending, self.unread) = (true, true);
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A fingerprint asks for the certificate, anything else for names. One that is not held is a failure: who
/// asks wants to know whether every worker has it.
fn certificates(state: &ConfigState, filters: &QueryCertificatesFilters) -> Result<ContentType, String> {
    let refused = |error: OrderError| error.to_string();
    let Some(fingerprint) = filters.fingerprint.as_deref().filter(|_| filters.domain.is_none()) else {
        return Ok(ContentType::CertificatesByAddress(
            state.summarise_certificates(filters).map_err(refused)?,
        ));
    };
    let found = state.query_certificates(filters).map_err(refused)?;
    if found.certs.is_empty() {
        return Err(format!("no certificate has the fingerprint {fingerprint}"));
    }
    Ok(ContentType::CertificatesWithFingerprints(found))
}

/// What main configured, in the worker's own terms. Zeros where main never sends one become the least
/// value that works.
pub(super) fn configuration(boot: &Boot, seed: u64) -> Configuration {
    let config = &boot.config;
    let limits = &boot.limits;
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX).max(1);
    Configuration {
        settings: Settings {
            connections_max: count(config.max_connections),
            evicts_idle: config.evict_on_queue_full(),
            header_fields_max: count(limits.header_fields_max),
            idle_back_connections_max: count(limits.idle_back_connections_max),
            back_idle_timeout: Duration::from_secs(u64::from(limits.back_idle_timeout.max(1))),
            connection_attempts_max: u8::try_from(config.max_connection_attempts()).unwrap_or(u8::MAX).max(1),
            splice_pipe_bytes: count(limits.splice_pipe_bytes),
            splice_pipes_max: usize::try_from(limits.splice_pipes_max).unwrap_or(usize::MAX),
            basic_auth_bytes_max: count(limits.basic_auth_bytes_max),
            record_buffers_max: count(limits.record_buffers_max),
            handshakes_max: count(limits.handshakes_max),
            probes_max: count(limits.probes_max),
            metric_series_max: usize::try_from(limits.metric_series_max).unwrap_or(usize::MAX),
            metric_series_off: limits.metric_series_off,
        },
        buffers_min: count(config.min_buffers),
        buffers_max: count(config.max_buffers),
        buffer_bytes: count(config.buffer_size),
        seed,
        worker_id: boot.worker_id,
    }
}

/// Why the talk with main can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Main closed the channel before the worker was booted.
    #[error("the main process closed the channel")]
    MainIsGone,
    /// Main and worker do not understand each other.
    #[error("the main process said something unexpected: {0}")]
    Protocol(&'static str),
    /// The kernel did not map what main made.
    #[error("the memory of the limits cannot be mapped: {0}")]
    Memory(io::Error),
    /// The channel itself.
    #[error("the channel to the main process: {0}")]
    Channel(#[from] ChannelError),
}

/// A deadline from now, as a poll's timeout.
pub(super) fn until(at: Option<Instant>, now: Instant) -> Option<Duration> {
    at.map(|at| at.saturating_duration_since(now))
}
