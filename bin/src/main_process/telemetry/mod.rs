//! What becomes of the workers' numbers outside: statsd is sent them, Prometheus fetches them.
//!
//! Workers keep numbers and answer questions about them; they send nothing anywhere, which their sandbox would not let them
//! do either. Main asks them when somebody wants to know ([`collect`]), and does a bounded part of the work in each turn of
//! its loop: gathering, adding up, writing ([`exposition`], [`statsd`]), sending ([`exporter`]). What is asked for is told
//! from a snapshot that is a second old at most, however many ask.

use std::net::UdpSocket;
use std::rc::Rc;
use std::time::{Duration, Instant};

use kakehi_command::config::{Metrics, Statsd};
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::supervision::{self, to_worker};
use kakehi_command::proto::{
    Event, EventKind, MetricDetailStatus, MetricDetailTransition, MetricsConfiguration, QueryMetricsOptions,
    Request, SetMetricDetail, WorkerMetricDetailStatus, filtered_metrics::Inner,
};
use mio::{Registry, Token};

use super::clients::{ClientId, failure};
use super::gather::WorkerId;
use super::mutations::ok;
use super::supervisor::{Supervisor, event};
use super::workers::{Phase, Worker};

mod changes;
mod collect;
#[cfg(test)]
mod document;
mod exporter;
mod exposition;
mod hand_over;
mod leases;
pub(crate) mod own;
mod statsd;

pub(super) use changes::Changes;
use collect::{Ask, Collector, Snapshot};
pub(crate) use exporter::Exporter;
pub(super) use exporter::FIRST as FIRST_SCRAPE;
use leases::{Holder, Leases, Transition};
use statsd::Round;

/// From one round of statsd to the next: a line per key and second, as Sōzu has it.
const STATSD_EVERY: Duration = Duration::from_secs(1);

/// One round in so many sends levels that have not changed.
const WHOLE_ROUNDS: u64 = 10;

/// A snapshot is good for so long.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// Questions of ours to workers have ids from here on; those of tasks never come so far.
pub(super) const FIRST_QUESTION: u64 = 1 << 63;

/// What was made ready before the loop began.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) settings: Metrics,
    pub(crate) exporter: Option<Exporter>,
}

/// Statsd, and how far it was told.
#[derive(Debug)]
struct Sender {
    settings: Statsd,
    socket: Option<UdpSocket>,
    tick_at: Instant,
    /// A snapshot is awaited.
    due: bool,
    told: Rc<Snapshot>,
    round: Option<Round>,
    rounds: u64,
    sent: i64,
    dropped: i64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Telemetry {
    settings: Metrics,
    collector: Collector,
    /// Of the questions that are under way.
    question: u64,
    latest: Option<(Rc<Snapshot>, Instant)>,
    leases: Leases,
    exporter: Option<Exporter>,
    sender: Option<Sender>,
}

impl Telemetry {
    pub(super) fn new(prepared: Prepared, now: Instant) -> Self {
        let settings = prepared.settings.clone();
        let sender = prepared.settings.statsd.map(|settings| Sender {
            socket: connect(&settings),
            settings,
            tick_at: now + STATSD_EVERY,
            due: false,
            told: Rc::default(),
            round: None,
            rounds: 0,
            sent: 0,
            dropped: 0,
        });
        Self {
            settings,
            collector: Collector::default(),
            question: FIRST_QUESTION,
            latest: None,
            leases: Leases::new(prepared.settings.detail),
            exporter: prepared.exporter,
            sender,
        }
    }

    /// Has the poll tell of connections of the listener.
    pub(super) fn watch(&mut self, registry: &Registry, token: Token) -> std::io::Result<()> {
        self.exporter.as_mut().map_or(Ok(()), |exporter| exporter.watch(registry, token))
    }

    /// An event for the listener (none) or one of its connections.
    pub(super) fn woken(&mut self, token: Option<Token>, registry: &Registry, now: Instant) {
        let Some(exporter) = &mut self.exporter else { return };
        match token {
            None => exporter.accept(registry, now),
            Some(token) => exporter.woken(token, now),
        }
    }

    /// Whether there is something to do without waiting.
    pub(super) fn has_work(&self) -> bool {
        self.collector.has_work()
            || self.exporter.as_ref().is_some_and(Exporter::has_work)
            || self.sender.as_ref().is_some_and(|sender| sender.round.is_some())
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let tick = self.sender.as_ref().filter(|sender| sender.round.is_none()).map(|sender| sender.tick_at);
        let exporter = self.exporter.as_ref().and_then(Exporter::deadline);
        [tick, exporter, self.collector.deadline(), self.leases.deadline()].into_iter().flatten().min()
    }

    /// A worker has ended.
    pub(super) fn lose(&mut self, worker: WorkerId) {
        self.collector.lose(worker);
    }

    /// All counts have begun anew.
    pub(super) fn clear(&mut self) {
        self.collector.clear();
        self.latest = None;
    }

    /// What is counted here.
    pub(super) fn numbers(&self) -> [(&'static str, Inner); 5] {
        let exporter =
            self.exporter.as_ref().map_or((0, 0), |exporter| (exporter.answered, exporter.refused));
        let sender = self.sender.as_ref().map_or((0, 0), |sender| (sender.sent, sender.dropped));
        [
            ("metrics.scrapes", Inner::Count(exporter.0)),
            ("metrics.scrapes_refused", Inner::Count(exporter.1)),
            ("metrics.statsd_datagrams", Inner::Count(sender.0)),
            ("metrics.statsd_dropped", Inner::Count(sender.1)),
            ("metrics.detail_leases", Inner::Gauge(self.leases.count() as u64)),
        ]
    }

    /// Whether the workers are to be asked now; if there is an answer already, it is given.
    fn is_wanted(&mut self, now: Instant) -> bool {
        if let Some(sender) =
            self.sender.as_mut().filter(|sender| sender.tick_at <= now && sender.round.is_none())
        {
            // One that is late does not make up for it.
            sender.tick_at = now + STATSD_EVERY;
            sender.due = true;
        }
        let due = self.sender.as_ref().is_some_and(|sender| sender.due);
        let detail = self.leases.effective();
        let Some(exporter) = self.exporter.as_mut().filter(|exporter| exporter.wants_numbers()) else {
            return due && self.collector.is_idle();
        };
        if let Some((snapshot, at)) = &self.latest
            && now.saturating_duration_since(*at) < FRESH_FOR
        {
            exporter.answer(snapshot, detail, now);
            return due && self.collector.is_idle();
        }
        self.collector.is_idle()
    }

    /// A snapshot is there: who waits for it gets it.
    fn put(&mut self, snapshot: Snapshot, now: Instant) {
        let snapshot = Rc::new(snapshot);
        let detail = self.leases.effective();
        self.latest = Some((Rc::clone(&snapshot), now));
        if let Some(exporter) = &mut self.exporter {
            exporter.answer(&snapshot, detail, now);
        }
        if let Some(sender) = self.sender.as_mut().filter(|sender| sender.due) {
            sender.due = false;
            let whole = sender.rounds % WHOLE_ROUNDS == 0;
            sender.rounds += 1;
            let told = std::mem::replace(&mut sender.told, Rc::clone(&snapshot));
            sender.round = Some(Round::new(told, snapshot, detail, whole));
        }
    }
}

impl Sender {
    /// Sends what is due in this turn. A datagram that the kernel does not take at once is dropped.
    fn go_on(&mut self) {
        let Some(round) = &mut self.round else { return };
        let Some(datagrams) = round.next_datagrams(&self.settings) else {
            self.round = None;
            return;
        };
        if self.socket.is_none() {
            self.socket = connect(&self.settings);
        }
        for datagram in datagrams {
            // Nobody listens: that is told once for each datagram that came before, and is no reason to stop.
            let sent = self.socket.as_ref().is_some_and(|socket| socket.send(datagram.as_bytes()).is_ok());
            *if sent { &mut self.sent } else { &mut self.dropped } += 1;
        }
    }
}

/// A socket for statsd; none if the kernel has none now.
fn connect(settings: &Statsd) -> Option<UdpSocket> {
    let any = if settings.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.connect(settings.address)?;
        Ok(socket)
    });
    socket.inspect_err(|error| log::warn!("statsd at {}: {error}", settings.address)).ok()
}

impl Supervisor {
    /// What is due of the metrics in this turn of the loop.
    pub(super) fn settle_telemetry(&mut self) {
        let now = self.now;
        if let Some(exporter) = &mut self.telemetry.exporter {
            exporter.settle(self.poll.registry(), now);
        }
        if let Some(turn) = self.telemetry.leases.expire(now) {
            self.tell_detail(&turn);
        }
        if self.telemetry.is_wanted(now) {
            self.telemetry.question += 1;
            let serving = self.fleet.workers().filter(|worker| worker.phase() == Phase::Serving);
            let serving: Vec<WorkerId> = serving.map(Worker::id).collect();
            for ask in self.telemetry.collector.begin(serving.into_iter(), now) {
                self.ask_numbers(&ask);
            }
        }
        let state = &self.configuration.state;
        let exists = |id: &str| state.cluster(id).is_some();
        if let Some(mut snapshot) = self.telemetry.collector.step(now, exists) {
            snapshot.main = self.own_metrics(&QueryMetricsOptions::default());
            self.telemetry.put(snapshot, now);
        }
        if let Some(sender) = &mut self.telemetry.sender {
            sender.go_on();
        }
    }

    fn ask_numbers(&mut self, ask: &Ask) {
        let id = self.telemetry.question;
        let options = QueryMetricsOptions { exact: Some(true), from: Some(ask.from), ..Default::default() };
        let request = Request { request_type: Some(RequestType::QueryMetrics(options)) };
        if let Some(worker) = self.fleet.by_id(ask.worker) {
            worker.send(to_worker::Message::Query(supervision::Query { id, request }));
        }
    }

    /// A worker has answered a question of ours, or an earlier one.
    pub(super) fn take_numbers(&mut self, worker: WorkerId, answer: supervision::Answer) {
        if answer.id != self.telemetry.question {
            return;
        }
        match answer.content.and_then(|content| content.content_type) {
            Some(ContentType::WorkerMetrics(part)) => {
                if let Some(ask) = self.telemetry.collector.take(worker, part) {
                    self.ask_numbers(&ask);
                }
            }
            _ => self.telemetry.collector.give_up(worker),
        }
    }

    /// What workers are to do about their numbers, those that start later included.
    pub(super) fn note_metrics_configuration(&mut self, change: MetricsConfiguration) {
        match change {
            MetricsConfiguration::Enabled => self.settings.limits.metric_series_off = false,
            MetricsConfiguration::Disabled => self.settings.limits.metric_series_off = true,
            MetricsConfiguration::Clear => {}
        }
    }

    /// Leases a level of detail, or gives it back.
    pub(super) fn set_metric_detail(&mut self, client: ClientId, asked: &SetMetricDetail) {
        let Some(peer) = self.clients.peer(client) else { return };
        let holder = Holder { pid: peer.pid, connection: client.0.0 };
        let response = match self.telemetry.leases.set(asked, holder, self.now) {
            Ok(turn) => {
                if turn.before != turn.now {
                    self.tell_detail(&turn);
                }
                let status = self.detail_status(&turn);
                ok("Successfully set the level of detail", Some(ContentType::MetricDetailStatus(status)))
            }
            Err(reason) => failure(reason),
        };
        self.clients.answer(client, &response, self.now);
    }

    /// Main holds the leases, for all workers: each is at the same level.
    fn detail_status(&self, turn: &Transition) -> MetricDetailStatus {
        let leases = &self.telemetry.leases;
        let (configured, effective) = (leases.configured().into(), turn.now.into());
        let previous_effective = turn.before.into();
        let of_worker = WorkerMetricDetailStatus {
            configured,
            effective,
            previous_effective,
            active_lease_count: u32::try_from(leases.count()).unwrap_or(u32::MAX),
        };
        let workers = self.fleet.workers().map(|worker| (worker.id().to_string(), of_worker)).collect();
        MetricDetailStatus { configured, effective, previous_effective, workers }
    }

    fn tell_detail(&mut self, turn: &Transition) {
        self.changes.count_detail();
        let transition = MetricDetailTransition {
            previous_effective: turn.before.into(),
            effective: turn.now.into(),
            transition_kind: turn.kind.to_owned(),
            client_id: turn.client_id.clone(),
        };
        let workers: Vec<String> = self.fleet.workers().map(|worker| worker.id().to_string()).collect();
        for worker in workers {
            let metric_detail = Some(transition.clone());
            self.publish(&worker, Event { metric_detail, ..event(EventKind::MetricDetailChanged) });
        }
    }
}
