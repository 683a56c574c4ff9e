//! One run: a worker, its clients and backends, and a seed that decides everything else.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use kakehi_command::order::ListenerKey;
use kakehi_command::proto::supervision::Subject;

use super::backend::Backend;
use super::certificates::{Shelf, is_about_certificates};
use super::client::Client;
use super::counters;
use super::engine::Engine;
use super::ledger::{Ledger, Outcome, Seen};
use super::model::{Fault, Plan};
use super::narrow::{LOOK_EVERY, Neighbour};
use super::network::SimListener;
use super::orders;
use super::rng::Rng;
use super::secured::Handshakes;
use super::setting::Setting;
use super::site::Site;
use super::stranger::Stranger;
use super::terms::Terms;
use super::tls::User;
use super::world::{Door, Faults, Lapse, Sabotage, World};
use crate::metrics::Metric;
use crate::net::Ready;
use crate::server::worker::{Configuration, Idle};
use crate::session::Settings;

/// Back connections are given up after this.
const BACK_IDLE: Duration = Duration::from_secs(55);

/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(100_000_000);

/// What a run is, besides its seed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Options {
    pub(super) trace: bool,
    pub(super) sabotage: Option<Sabotage>,
}

/// What a run did, for the curious.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stats {
    pub(super) rounds: usize,
    pub(super) requests: usize,
    pub(super) planned: usize,
    /// What the worker counted of [`WATCHED`].
    pub(super) watched: [i64; WATCHED.len()],
}

/// What must happen now and then: what never happens is not tested.
pub(super) const WATCHED: [Metric; 23] = [
    Metric::TlsHandshakeTimeouts,
    Metric::TlsBroken,
    Metric::TlsHandshakesCapped,
    Metric::TlsVersion12,
    Metric::TlsHandshakesResumed,
    Metric::TlsDefaultCertUsed,
    Metric::TlsFailedNoCertificate,
    Metric::Http421Errors,
    Metric::BytesSpliced,
    Metric::HttpUpgrades,
    Metric::TunnelTimeouts,
    Metric::ClientsTooSlow,
    Metric::HalfHeadsEvicted,
    Metric::HttpSilentCloses,
    Metric::BackendRetryStaleUpstream,
    Metric::BackendPoolHit,
    Metric::BufferWaits,
    Metric::BackendConnectTimeouts,
    Metric::QueueServed,
    Metric::QueueFull,
    Metric::QueueTimeouts,
    Metric::QueueAbandoned,
    Metric::QueueEvicted,
];

impl super::Tally for Stats {
    fn add(&mut self, other: Stats) {
        self.rounds += other.rounds;
        self.requests += other.requests;
        self.planned += other.planned;
        for (sum, count) in self.watched.iter_mut().zip(other.watched) {
            *sum += count;
        }
    }
}

/// How a run went, or why it is no good; and all that happened, if it was traced.
#[derive(Debug)]
pub(super) struct Report<S> {
    pub(super) result: Result<S, String>,
    pub(super) trace: Vec<String>,
}

/// See the module.
struct Run {
    engine: Engine,
    ledger: Ledger,
    clients: Vec<Client>,
    backends: Vec<Backend>,
    strangers: Vec<Stranger>,
    setting: Setting,
    rng: Rng,
    changes: orders::Changes,
    moved_last: Option<Agent>,
    /// The listener that is not there was removed, not only deactivated.
    removed: bool,
    /// Main says of backends that they are dead: not where those that are well are needed.
    judges: bool,
    /// Another worker, where what is in flight is limited.
    neighbour: Option<Neighbour>,
}

/// Who does something in a round.
#[derive(Debug, Clone, Copy)]
enum Agent {
    Client(usize),
    Backend(usize),
    Stranger(usize),
    Network,
    Worker,
    Changes,
}

/// Runs one seed. A panic is a finding like any other.
pub(super) fn run(seed: u64, origin: Instant, options: Options) -> Report<Stats> {
    let mut run = Run::new(seed, origin, options);
    let result = catch_unwind(AssertUnwindSafe(|| run.whole())).unwrap_or_else(super::panicked);
    let trace = run.engine.world.borrow_mut().trace.take().unwrap_or_default();
    let result = match result {
        Ok(()) => {
            let outcomes = run.ledger.seen.iter();
            let planned = outcomes.filter(|seen| seen.outcome == Some(Outcome::Planned)).count();
            let requests = run.ledger.plans.len();
            let metrics = run.engine.worker.metrics();
            let watched = WATCHED.map(|metric| metrics.get(metric));
            Ok(Stats { rounds: run.engine.rounds, requests, planned, watched })
        }
        Err(text) => Err(format!("{text}\n{:?}", run.setting)),
    };
    Report { result, trace }
}

impl Run {
    fn new(seed: u64, origin: Instant, options: Options) -> Self {
        let mut rng = Rng::new(seed);
        let setting = Setting::draw(&mut rng);
        let mut world = World::new(origin, rng.fork(), setting.pace, setting.capacity_max);
        world.trace = options.trace.then(Vec::new);
        world.sabotage = options.sabotage;
        world.faults = setting.faults;
        let configuration = Configuration {
            settings: Settings {
                connections_max: setting.connections_max,
                evicts_idle: false,
                header_fields_max: 64,
                idle_back_connections_max: rng.pick(&[1, 2, 64]),
                back_idle_timeout: BACK_IDLE,
                connection_attempts_max: 3,
                splice_pipe_bytes: rng.pick(&[50, 100, 3000, 150_000]),
                splice_pipes_max: setting.pipes_max,
                record_buffers_max: setting.record_buffers_max,
                handshakes_max: setting.handshakes_max,
                probes_max: 8,
                metric_series_max: 64,
                metric_series_off: false,
                basic_auth_bytes_max: 4096,
            },
            buffers_min: 1,
            buffers_max: setting.buffers,
            buffer_bytes: setting.buffer_bytes,
            seed: rng.next(),
            worker_id: 0,
        };
        let tls = setting.rules.terms.tls;
        let mut engine = Engine::new(world, configuration, tls.is_some(), &mut rng);
        engine.worker.set_look_every(LOOK_EVERY);
        let neighbour = setting.rules.narrow.map(|narrow| {
            let (neighbour, tables) = Neighbour::new(narrow);
            engine.worker.set_limit_tables(tables);
            neighbour
        });
        let handshakes = tls.map(|tls| Handshakes::new(&tls, Shelf::draw(tls.has_default, &mut rng)));
        let mut run = Self {
            engine,
            ledger: Ledger::new(setting.rules, handshakes),
            clients: Vec::new(),
            backends: Vec::new(),
            strangers: Vec::new(),
            judges: setting.rules.faults || setting.ill > 0,
            changes: orders::Changes::new(setting.healthy, setting.timeouts, setting.scale.dawdlers),
            setting,
            rng,
            moved_last: None,
            removed: false,
            neighbour,
        };
        run.furnish();
        run
    }

    fn furnish(&mut self) {
        for index in 0..orders::BACKENDS_MAX {
            let address = orders::backend_address(index);
            let slow = Door::Slow { ms_max: 2000 };
            let ill = [Door::Refusing, Door::BlackHole, Door::Unreachable];
            let door = match index {
                _ if index < self.setting.healthy => self.rng.pick(&[Door::Open, Door::Open, slow]),
                _ if index < self.setting.healthy + self.setting.ill => self.rng.pick(&ill),
                _ => Door::Open,
            };
            self.engine.world.borrow_mut().doors.insert(address, door);
            self.backends.push(Backend::new(address, self.rng.fork()));
        }
        for index in 0..self.setting.clients {
            let count = self.rng.within(1..=6);
            let address = client_address(index);
            let queue = (0..count).map(|_| self.plan(address)).collect();
            self.add_client(address, queue, self.setting.depth);
        }
        for index in 0..self.setting.strangers {
            self.add_stranger(index);
        }
    }

    fn add_stranger(&mut self, index: usize) {
        let mut rng = self.rng.fork();
        let old = rng.percent(30);
        let user = User::draw(old, self.setting.scale.body_bytes_max, &self.engine.clock, &mut rng);
        let now = self.engine.world.borrow().now;
        let unserved = old && self.setting.rules.terms.tls.is_some_and(|tls| !tls.old);
        let user = (user.plain(), unserved);
        self.strangers.push(Stranger::draw(client_address(40 + index), user, now, rng));
    }

    fn add_client(&mut self, address: SocketAddr, queue: VecDeque<usize>, depth: usize) {
        let mut rng = self.rng.fork();
        let user = self.setting.rules.terms.tls.map(|tls| {
            let old = tls.old && rng.percent(30);
            User::draw(old, self.setting.scale.body_bytes_max, &self.engine.clock, &mut rng)
        });
        self.clients.push(Client::new(address, queue, depth, user, rng));
    }

    fn plan(&mut self, client: SocketAddr) -> usize {
        let id = self.ledger.plans.len();
        let mut plan = Plan::draw(id, client, &self.setting.scale, &mut self.rng);
        if self.rng.percent(self.setting.fault_percent) {
            plan.fault = Some(Fault::draw(&mut self.rng));
        }
        self.ledger.plans.push(plan);
        self.ledger.seen.push(Seen::default());
        id
    }

    fn apply(&mut self, requests: &[kakehi_command::proto::Request]) -> Result<(), String> {
        self.ledger.removals.heed(requests, self.engine.world.borrow().now);
        self.ledger.verdicts.heed(requests, self.engine.world.borrow().now);
        let limits = self.engine.world.borrow().sabotage != Some(Sabotage::Misconfigure(Lapse::Limits));
        let narrow = self.setting.rules.narrow.filter(|_| limits);
        let requests = narrow.map_or_else(|| requests.to_vec(), |narrow| narrow.write(requests));
        match self.told().tls {
            Some(tls) => self.engine.apply(&tls.secure(&requests)),
            None => self.engine.apply(&requests),
        }
    }

    /// What the worker is told of the listener.
    fn told(&self) -> Terms {
        let terms = self.setting.rules.terms;
        match self.engine.world.borrow().sabotage {
            Some(Sabotage::Misconfigure(lapse)) => terms.with(lapse),
            _ => terms,
        }
    }

    /// Configures the worker and lets it accept.
    fn start(&mut self) -> Result<(), String> {
        let lapse = self.engine.world.borrow().sabotage;
        let Setting { healthy, ill, timeouts, .. } = &self.setting;
        let mut initial = orders::initial(healthy + ill, *healthy, timeouts, &self.told());
        if lapse == Some(Sabotage::Misconfigure(Lapse::Policies)) {
            initial.iter_mut().for_each(orders::forget_policy);
        }
        if let Some(handshakes) = &self.ledger.handshakes {
            initial.extend(handshakes.shelf().initial());
        }
        self.apply(&initial)?;
        let listener = SimListener::open(&self.engine.world, orders::front_address());
        let key = ListenerKey { address: orders::front_address(), interface: None };
        self.engine.worker.offer_socket(&key, listener);
        self.engine.worker.start();
        Ok(())
    }

    /// From an empty worker to one that was stopped.
    fn whole(&mut self) -> Result<(), String> {
        self.start()?;
        self.play()?;
        self.check_quiet()?;
        if !self.ledger.rules.draining {
            if self.setting.rules.faults {
                self.probe()?;
            }
            self.drain();
            self.play()?;
            self.check_quiet()?;
        }
        let rules = self.ledger.rules;
        if let Some(handshakes) = &self.ledger.handshakes {
            handshakes.check_metrics(self.engine.worker.metrics(), &rules)?;
        }
        self.ledger.check_outcomes(&self.engine.world.borrow())?;
        counters::check(self.engine.worker.metrics(), &self.engine.world.borrow())
    }

    fn drain(&mut self) {
        self.engine.world.borrow_mut().note(|| "the worker drains".to_owned());
        self.ledger.rules.draining = true;
        self.ledger.drained_at = Some(self.engine.world.borrow().now);
        if self.engine.world.borrow().sabotage != Some(Sabotage::ForgetDraining) {
            self.engine.tick();
            self.engine.worker.drain(Idle::Closed);
        }
    }

    /// Until nothing moves any more, and nothing would by waiting.
    fn play(&mut self) -> Result<(), String> {
        loop {
            self.engine.count_round().map_err(|error| format!("{error}: {:?}", self.moved_last))?;
            if self.round(false)? || self.round(true)? {
                continue;
            }
            let Some(at) = self.next_wakeup() else { return self.check_done() };
            let mut world = self.engine.world.borrow_mut();
            world.now = world.now.max(at);
        }
    }

    fn next_wakeup(&self) -> Option<Instant> {
        let clients = self.clients.iter().filter_map(Client::next_wakeup);
        let backends = self.backends.iter().filter_map(Backend::next_wakeup);
        let strangers = self.strangers.iter().filter_map(Stranger::next_wakeup);
        let neighbour = self.neighbour.as_ref().and_then(Neighbour::next_wakeup);
        clients.chain(backends).chain(strangers).chain(neighbour).chain(self.engine.next_wakeup()).min()
    }

    /// Everybody does something, in any order; with `all` unset some leave it.
    fn round(&mut self, all: bool) -> Result<bool, String> {
        let mut agents = vec![Agent::Network, Agent::Worker, Agent::Changes];
        agents.extend((0..self.clients.len()).map(Agent::Client));
        agents.extend((0..self.backends.len()).map(Agent::Backend));
        agents.extend((0..self.strangers.len()).map(Agent::Stranger));
        self.rng.shuffle(&mut agents);
        let mut moved = false;
        for agent in agents {
            if !all && self.rng.percent(30) {
                continue;
            }
            let moves = match agent {
                Agent::Client(index) => {
                    self.clients[index].step(&mut self.engine.world.borrow_mut(), &mut self.ledger)?
                }
                Agent::Backend(index) => {
                    self.backends[index].step(all, &mut self.engine.world.borrow_mut(), &mut self.ledger)?
                }
                Agent::Stranger(index) => {
                    self.strangers[index].step(&mut self.engine.world.borrow_mut(), &mut self.ledger)?
                }
                Agent::Network => self.engine.deliver(all, &mut self.rng),
                Agent::Worker => self.engine.turn()?,
                Agent::Changes => self.change()?,
            };
            self.moved_last = if moves { Some(agent) } else { self.moved_last };
            moved |= moves;
        }
        moved |= self.neighbour_step();
        self.check_narrow()?;
        let mut world = self.engine.world.borrow_mut();
        world.now += Duration::from_micros(self.rng.next() % 20);
        Ok(moved)
    }

    fn neighbour_step(&mut self) -> bool {
        let Some(neighbour) = &mut self.neighbour else { return false };
        let work = !self.clients.iter().all(Client::is_done);
        neighbour.step(work, self.engine.world.borrow().now, &mut self.rng)
    }

    /// What backends have in flight is no more than they may have.
    fn check_narrow(&self) -> Result<(), String> {
        let Some(narrow) = self.setting.rules.narrow else { return Ok(()) };
        let world = self.engine.world.borrow();
        let of =
            |backend: &Backend| (backend.address, backend.busy(Site::Plain.cluster(), &world, &self.ledger));
        narrow.check(&self.backends.iter().map(of).collect::<Vec<_>>())
    }

    fn check_quiet(&self) -> Result<(), String> {
        self.engine.check_quiet()?;
        self.neighbour.as_ref().map_or(Ok(()), Neighbour::check_end)
    }

    /// Configuration changes and, in runs with faults, backends that come and go.
    fn change(&mut self) -> Result<bool, String> {
        if self.rng.below(400) > 0 || self.clients.iter().all(Client::is_done) || self.ledger.rules.draining {
            return Ok(false);
        }
        if self.setting.drains && self.rng.percent(20) {
            self.drain();
            return Ok(true);
        }
        let flaps = self.setting.ill > 0 && !self.setting.rules.faults && self.rng.percent(20);
        if flaps || (self.setting.rules.faults && self.rng.percent(40)) {
            let slow = Door::Slow { ms_max: 4000 };
            let all = [Door::Open, slow, Door::Refusing, Door::BlackHole, Door::Unreachable];
            // Where nothing goes wrong, there are others that can be asked.
            let ill = self.setting.healthy;
            let index = if flaps { ill } else { self.rng.below(orders::BACKENDS_MAX) };
            let door = self.rng.pick(&all);
            let mut world = self.engine.world.borrow_mut();
            world.doors.insert(orders::backend_address(index), door);
            world.note(|| format!("backend {index} is {door:?}"));
            return Ok(true);
        }
        if self.rng.percent(15) || self.removed {
            return self.turn_listener().map(|()| true);
        }
        if self.judges && self.rng.percent(30) {
            self.judge();
            return Ok(true);
        }
        let mut requests = match &mut self.ledger.handshakes {
            Some(handshakes) if self.rng.percent(40) => {
                let mut shelf = handshakes.shelf();
                let requests = shelf.change(&mut self.rng);
                self.engine.world.borrow_mut().certificate_era = handshakes.changed(shelf);
                requests
            }
            _ => self.changes.draw(&mut self.ledger.era, &mut self.rng),
        };
        if self.engine.world.borrow().sabotage == Some(Sabotage::Misconfigure(Lapse::Certificates)) {
            requests.retain(|request| !is_about_certificates(request));
        }
        if self.engine.world.borrow().sabotage == Some(Sabotage::Misconfigure(Lapse::Removal)) {
            requests.retain(|request| !orders::is_removal_of_frontend(request));
        }
        self.engine.world.borrow_mut().note(|| format!("orders: {requests:?}"));
        self.apply(&requests)?;
        self.engine.worker.check_invariants();
        Ok(true)
    }

    /// Main says something of the health of a backend: what the worker found out, or another one.
    fn judge(&mut self) {
        let plain = Site::Plain.cluster();
        let news = self.engine.worker.take_verdicts();
        let mut found = news
            .iter()
            .filter(|news| news.subject() == Subject::Requests && news.cluster_id == plain && !news.good);
        let ill = self.setting.healthy..self.setting.healthy + self.setting.ill;
        let found = found
            .find_map(|news| orders::backend_index(&news.address))
            .filter(|index| self.setting.rules.faults || ill.contains(index));
        let (index, good) = match found {
            Some(index) => (index, false),
            None if self.setting.rules.faults => (self.rng.below(orders::BACKENDS_MAX), self.rng.percent(40)),
            None => (self.setting.healthy, self.rng.percent(40)),
        };
        self.say(index, good);
    }

    fn say(&mut self, index: usize, good: bool) {
        let now = self.engine.world.borrow().now;
        let verdict = self.ledger.verdicts.say(index, good, now);
        self.engine.world.borrow_mut().note(|| format!("backend {index} is said to be well: {good}"));
        if self.engine.world.borrow().sabotage != Some(Sabotage::Misconfigure(Lapse::Verdicts)) {
            self.engine.tick();
            self.engine.worker.apply_verdicts(&[verdict]);
            self.engine.worker.check_invariants();
        }
    }

    /// Takes the listener away, or puts it there again. Connections that stand end with what they carry.
    fn turn_listener(&mut self) -> Result<(), String> {
        let paused = self.engine.world.borrow().paused;
        self.engine.world.borrow_mut().note(|| format!("the listener goes: {}", !paused));
        if paused {
            let timeouts = self.changes.timeouts;
            if std::mem::take(&mut self.removed) {
                self.apply(&[orders::add_listener(&timeouts, &self.told())])?;
            }
            let listener = SimListener::open(&self.engine.world, orders::front_address());
            let key = ListenerKey { address: orders::front_address(), interface: None };
            self.engine.worker.offer_socket(&key, listener);
            self.apply(&[orders::activate()])?;
            self.engine.worker.start();
        } else {
            self.removed = self.rng.percent(50);
            let mut requests = vec![orders::deactivate()];
            if self.removed {
                requests.push(orders::remove_listener());
            }
            self.apply(&requests)?;
        }
        let now = self.engine.world.borrow().now;
        self.ledger.gone_until = Some(if paused { now } else { now + FOR_EVER });
        self.engine.world.borrow_mut().paused = !paused;
        self.engine.worker.check_invariants();
        Ok(())
    }

    /// Faults have stopped: a new client gets what it asks for.
    fn probe(&mut self) -> Result<(), String> {
        let healthy: Vec<SocketAddr> = (0..orders::BACKENDS_MAX).map(orders::backend_address).collect();
        {
            let mut world = self.engine.world.borrow_mut();
            world.faults = Faults::default();
            world.now += Duration::from_secs(120);
            world.note(|| "faults stop".to_owned());
            world.doors.extend(healthy.into_iter().map(|address| (address, Door::Open)));
        }
        self.judges = false;
        for index in 0..orders::BACKENDS_MAX {
            self.say(index, true);
        }
        self.setting.rules.faults = false;
        self.setting.fault_percent = 0;
        self.setting.drains = false;
        if self.engine.world.borrow().paused {
            self.turn_listener()?;
        }
        let address = client_address(98);
        let ids = [self.plan(address), self.plan(address)];
        for &id in &ids {
            self.ledger.plans[id].request.site = Site::Plain;
        }
        self.add_client(address, VecDeque::from(ids), 1);
        self.play()?;
        self.check_quiet()?;
        for id in ids {
            let plan = &self.ledger.plans[id];
            match self.ledger.seen[id].outcome {
                Some(Outcome::Planned) => {}
                Some(Outcome::Own(421)) if self.ledger.seen[id].misdirected => {}
                _ if !plan.is_served(&self.setting.rules.terms) => {}
                _ if plan.switches_unasked() || plan.dawdles_too_much() => {}
                Some(Outcome::Cut | Outcome::Own(502))
                    if plan.switches() && !plan.tunnel.ending.is_orderly() => {}
                Some(Outcome::Own(503) | Outcome::Cut) if self.setting.rules.scarce => {}
                Some(Outcome::Own(503)) if self.setting.rules.refuses() => {}
                Some(Outcome::Own(502)) if !plan.is_replayable() && self.setting.scale.silent_closes => {}
                other => return Err(format!("request {id}, after the faults: {other:?}")),
            }
        }
        Ok(())
    }

    fn check_done(&self) -> Result<(), String> {
        if let Some(stranger) = self.strangers.iter().find(|stranger| !stranger.is_done()) {
            return Err(format!("stuck: {stranger:?}"));
        }
        match self.clients.iter().find(|client| !client.is_done()) {
            Some(client) => Err(format!("stuck: {client:?}")),
            None => Ok(()),
        }
    }
}

fn client_address(index: usize) -> SocketAddr {
    let index = u8::try_from(index).expect("few");
    SocketAddr::from(([192, 0, 2, index + 1], 5000 + u16::from(index)))
}

/// Events of a turn are taken together. One may be for a socket that was closed earlier in that turn, when
/// its token could have been given to another already.
#[test]
fn a_late_event_reaches_no_successor() {
    let mut run = Run::new(0, super::origin(), Options::default());
    run.start().expect("the configuration is accepted");
    let connect = |run: &mut Run, port: u16| {
        let from = SocketAddr::from(([192, 0, 2, 1], port));
        run.engine.world.borrow_mut().connect_client(from, None).expect("the worker listens")
    };
    let first = connect(&mut run, 1);
    run.engine.worker.start();
    let token = run.engine.world.borrow().token(first).expect("it waits for the first byte");
    let gone = Ready { readable: true, writable: true, read_closed: true, gone: true };
    connect(&mut run, 2);
    let now = run.engine.world.borrow().now;
    run.engine.worker.tick(now, now, 0);
    run.engine.worker.handle_ready(token, gone);
    assert_eq!(run.engine.worker.session_count(), 0);
    run.engine.worker.start();
    run.engine.worker.handle_ready(token, gone);
    assert_eq!(
        run.engine.worker.session_count(),
        1,
        "the second client knows nothing of the first one's end"
    );
    run.engine.worker.check_invariants();
}
