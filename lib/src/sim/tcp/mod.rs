//! The same for TCP listeners: clients and backends that send each other bytes of which the proxy understands nothing.
//!
//! Checked are, next to what [`Engine`] checks after each turn,
//!
//! - bytes arrive in order, at the one end that they were for, and nothing else does ([`book`]);
//! - where neither end cuts the connection, nor the network does, all of them arrive, and each end is passed on;
//!   a client that can tell an end from a cut (TLS) is never told that a part is the whole;
//! - nothing is given up before its time, and everything is after it;
//! - nobody is turned away while there is somewhere to go, and nothing goes to a backend, or a cluster, that was
//!   removed before;
//! - where PROXY headers are expected ([`intro`]) nobody is let in without; where they are sent they are right;
//! - no session and nothing of one is left behind, and counters add up.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use kakehi_command::order::ListenerKey;

use self::actor::{Actor, Awaited};
use self::book::{Book, Plan, Rules};
use self::intro::Intro;
use self::setting::Setting;
use super::counters;
use super::engine::Engine;
use super::model::Side;
use super::network::SimListener;
use super::orders::{BACKENDS_MAX, backend_address, front_address};
use super::rng::Rng;
use super::script::millis;
use super::tls::{Tls, User};
use super::world::{Door, Faults, Lapse, Sabotage, World};
use super::{Options, Report};
use crate::metrics::Metric;
use crate::server::worker::Idle;

mod actor;
mod book;
mod intro;
mod orders;
mod setting;
#[cfg(test)]
mod tests;

/// What must happen now and then: what never happens is not tested.
const WATCHED: [Metric; 11] = [
    Metric::TcpRequests,
    Metric::TcpNoRoute,
    Metric::TcpNoBackend,
    Metric::TcpIdleTimeouts,
    Metric::TcpEvicted,
    Metric::BytesSpliced,
    Metric::BackendConnectTimeouts,
    Metric::BackendConnectRetriesExhausted,
    Metric::ProxyProtocolErrors,
    Metric::TlsHandshakesDone,
    Metric::ProtocolProxySend,
];

/// What runs did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stats {
    rounds: usize,
    clients: usize,
    /// Of these, those that met a backend.
    met: usize,
    watched: [i64; WATCHED.len()],
}

impl super::Tally for Stats {
    fn add(&mut self, other: Self) {
        self.rounds += other.rounds;
        self.clients += other.clients;
        self.met += other.met;
        for (sum, count) in self.watched.iter_mut().zip(other.watched) {
            *sum += count;
        }
    }
}

/// A client that has not come yet.
#[derive(Debug)]
struct Guest {
    at: Instant,
    from: SocketAddr,
    plan: Plan,
    intro: Intro,
}

struct Run {
    engine: Engine,
    setting: Setting,
    book: Book,
    guests: Vec<Guest>,
    clients: Vec<Actor>,
    backends: Vec<Actor>,
    user: Option<User>,
    rng: Rng,
    changes: orders::Changes,
    /// Where connections may go, and how many there were when that was looked at last.
    allowed: BTreeSet<SocketAddr>,
    looked: usize,
}

/// Runs one seed. A panic is a finding like any other.
pub(super) fn run(seed: u64, origin: Instant, options: Options) -> Report<Stats> {
    let mut run = Run::new(seed, origin, options);
    let result = catch_unwind(AssertUnwindSafe(|| run.whole())).unwrap_or_else(super::panicked);
    let trace = run.engine.world.borrow_mut().trace.take().unwrap_or_default();
    let result = result.map_err(|text| format!("{text}\n{:?}", run.setting)).map(|met| {
        let metrics = run.engine.worker.metrics();
        let watched = WATCHED.map(|metric| metrics.get(metric));
        let clients = run.book.ends.iter().filter(|end| end.plan.side == Side::Up).count();
        Stats { rounds: run.engine.rounds, clients, met, watched }
    });
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
        for index in 0..BACKENDS_MAX {
            world.doors.insert(backend_address(index), setting.door(index, &mut rng));
        }
        let configuration = setting.configuration(&mut rng);
        let engine = Engine::new(world, configuration, setting.tls.is_some(), &mut rng);
        let rules = Rules {
            faults: setting.faulty,
            scarce: setting.scarce,
            idle: Duration::from_secs(setting.front_timeout.max(setting.back_timeout).into()),
        };
        let user = setting.tls.map(|tls| {
            let old = tls.old && rng.percent(30);
            User::draw(old, setting.bytes_max, &engine.clock, &mut rng)
        });
        let changes = orders::Changes::new(setting.healthy, setting.ill);
        let mut run = Self {
            engine,
            book: Book::new(rules),
            guests: Vec::new(),
            clients: Vec::new(),
            backends: Vec::new(),
            user,
            rng,
            changes,
            allowed: BTreeSet::new(),
            looked: 0,
            setting,
        };
        for index in 0..run.setting.clients {
            let mut guest = run.guest(index);
            guest.at += millis(run.rng.below(8000));
            run.guests.push(guest);
        }
        run
    }

    fn guest(&mut self, index: usize) -> Guest {
        let index = u8::try_from(index).expect("few");
        let Setting { bytes_max, stall_ms_max, .. } = self.setting;
        let plan = Plan::draw(Side::Up, bytes_max, stall_ms_max, &mut self.rng);
        let intro = match self.setting.expects {
            true => Intro::draw(800, &mut self.rng),
            false => Intro::None,
        };
        let from = SocketAddr::from(([192, 0, 2, index + 1], 5000 + u16::from(index)));
        Guest { at: self.engine.world.borrow().now, from, plan, intro }
    }

    fn offer_socket(&mut self) {
        let listener = SimListener::open(&self.engine.world, front_address());
        let key = ListenerKey { address: front_address(), interface: None };
        self.engine.worker.offer_socket(&key, listener);
    }

    /// From an empty worker to one that was stopped; gives how many clients met a backend.
    fn whole(&mut self) -> Result<usize, String> {
        let lapse = self.engine.world.borrow().sabotage;
        let initial = self.changes.initial(&self.setting, lapse);
        self.apply(&initial)?;
        self.offer_socket();
        self.engine.worker.start();
        self.play()?;
        self.engine.check_quiet()?;
        if self.setting.faulty && self.book.drained.is_none() {
            self.probe()?;
        }
        if self.book.drained.is_none() {
            self.drain();
            self.play()?;
            self.engine.check_quiet()?;
        }
        self.check_counters()?;
        self.book.check()
    }

    fn apply(&mut self, requests: &[kakehi_command::proto::Request]) -> Result<(), String> {
        self.engine.world.borrow_mut().note(|| format!("orders: {requests:?}"));
        self.allowed = self.changes.addresses();
        let now = self.engine.world.borrow().now;
        self.book.turn(self.changes.leads_somewhere(), now);
        self.engine.apply(requests)
    }

    fn drain(&mut self) {
        self.engine.world.borrow_mut().note(|| "the worker drains".to_owned());
        self.book.drained = Some(self.engine.world.borrow().now);
        self.engine.tick();
        self.engine.worker.drain(Idle::Closed);
    }

    /// Faults have stopped: a new client gets what it asks for.
    fn probe(&mut self) -> Result<(), String> {
        {
            let mut world = self.engine.world.borrow_mut();
            world.faults = Faults::default();
            world.now += Duration::from_secs(120);
            world.note(|| "faults stop".to_owned());
            world.doors.values_mut().for_each(|door| *door = Door::Open);
        }
        if self.engine.world.borrow().paused {
            self.turn_listener()?;
        }
        let requests = self.changes.restore();
        self.apply(&requests)?;
        self.setting.settled = true;
        let mut guest = self.guest(99);
        guest.plan = Plan::orderly(Side::Up, 100);
        guest.intro = if self.setting.expects { Intro::Unnamed { version: 1 } } else { Intro::None };
        self.guests.push(guest);
        self.play()?;
        self.engine.check_quiet()?;
        let probe = self.book.ends.iter().rposition(|end| end.plan.side == Side::Up).ok_or("no probe")?;
        if !self.setting.scarce && !self.book.is_served(probe) {
            return Err(format!("end {probe}, after the faults: {:?}", self.book.ends[probe].seen));
        }
        Ok(())
    }

    fn play(&mut self) -> Result<(), String> {
        loop {
            self.engine.count_round()?;
            if self.round(false)? || self.round(true)? {
                continue;
            }
            let actors = self.clients.iter().chain(&self.backends).filter_map(Actor::next_wakeup);
            let guests = self.guests.iter().map(|guest| guest.at);
            let now = self.engine.world.borrow().now;
            let next = actors.chain(guests).chain(self.engine.next_wakeup()).filter(|at| *at > now).min();
            match next {
                Some(at) => self.engine.world.borrow_mut().now = at,
                None if self.clients.is_empty() && self.guests.is_empty() && self.backends.is_empty() => {
                    return Ok(());
                }
                // Guests wait for a listener that no change of this run turns on again.
                None if self.engine.world.borrow().paused => self.turn_listener()?,
                None => return Err(format!("stuck: {:?} {:?}", self.clients.first(), self.backends.first())),
            }
        }
    }

    fn round(&mut self, all: bool) -> Result<bool, String> {
        let mut agents = [0, 1, 2, 3, 4];
        self.rng.shuffle(&mut agents);
        let mut moved = false;
        for agent in agents {
            if !all && self.rng.percent(20) {
                continue;
            }
            moved |= match agent {
                0 => self.engine.deliver(all, &mut self.rng),
                1 => {
                    let turned = self.engine.turn()?;
                    self.look()?;
                    turned
                }
                2 => self.step_clients()?,
                3 => self.step_backends()?,
                _ => self.change()?,
            };
        }
        self.engine.world.borrow_mut().now += Duration::from_micros(self.rng.next() % 20);
        Ok(moved)
    }

    /// Where new connections went.
    fn look(&mut self) -> Result<(), String> {
        let world = self.engine.world.borrow();
        for connection in &world.connections[self.looked..] {
            let backwards = connection.to != front_address();
            if backwards && !self.allowed.contains(&connection.to) {
                return Err(format!("a connection to {}, past its removal", connection.to));
            }
        }
        self.looked = world.connections.len();
        Ok(())
    }

    fn step_clients(&mut self) -> Result<bool, String> {
        let mut world = self.engine.world.borrow_mut();
        let mut moved = false;
        for at in (0..self.guests.len()).rev() {
            if self.guests[at].at > world.now {
                continue;
            }
            let tls = self.user.as_ref().filter(|_| self.guests[at].intro == Intro::None);
            let tls = tls.map(|user| Tls::new(user, Some("a.test"), self.rng.fork()));
            let secured = tls.is_some();
            match world.connect_client(self.guests[at].from, tls) {
                Some(connection) => {
                    let guest = self.guests.swap_remove(at);
                    let id = self.book.begin(guest.plan, guest.intro, connection, world.now);
                    self.book.ends[id].secured = secured;
                    self.clients.push(Actor::new(id, connection, None, &self.book));
                }
                None if self.book.drained.is_some() => drop(self.guests.swap_remove(at)),
                None if world.paused => self.guests[at].at = world.now + millis(self.rng.within(1..=50)),
                None => return Err("nobody listens".to_owned()),
            }
            moved = true;
        }
        step_all(&mut self.clients, &mut world, &mut self.book).map(|stepped| moved || stepped)
    }

    fn step_backends(&mut self) -> Result<bool, String> {
        let mut world = self.engine.world.borrow_mut();
        let mut moved = false;
        for index in 0..BACKENDS_MAX {
            let Some(connection) = world.accept_back(backend_address(index)) else { continue };
            if world.connections[connection].proxy_closed {
                world.close(connection);
                continue;
            }
            let Setting { bytes_max, stall_ms_max, sends, settled, .. } = self.setting;
            let plan = match settled {
                true => Plan::orderly(Side::Down, 100),
                false => Plan::draw(Side::Down, bytes_max, stall_ms_max, &mut self.rng),
            };
            let id = self.book.begin(plan, Intro::None, connection, world.now);
            let awaited = sends.map(|version| Awaited { version });
            self.backends.push(Actor::new(id, connection, awaited, &self.book));
            world.note(|| format!("c{connection} is taken by backend {index}, as end {id}"));
            moved = true;
        }
        for backend in &self.backends {
            self.book.check_said(backend.id(), self.setting.sends.unwrap_or(0), backend.said(), &world)?;
        }
        step_all(&mut self.backends, &mut world, &mut self.book).map(|stepped| moved || stepped)
    }

    fn change(&mut self) -> Result<bool, String> {
        let quiet = self.clients.is_empty() && self.guests.is_empty();
        if self.setting.settled || quiet || self.book.drained.is_some() || self.rng.below(300) > 0 {
            return Ok(false);
        }
        if self.setting.drains && self.rng.percent(20) {
            self.drain();
            return Ok(true);
        }
        if self.rng.percent(30) && (self.setting.faulty || self.setting.ill > 0) {
            let doors =
                [Door::Open, Door::Slow { ms_max: 4000 }, Door::Refusing, Door::BlackHole, Door::Unreachable];
            let index = match self.setting.faulty {
                true => self.rng.below(BACKENDS_MAX),
                false => self.setting.healthy,
            };
            let door = self.rng.pick(&doors);
            let mut world = self.engine.world.borrow_mut();
            world.doors.insert(backend_address(index), door);
            world.note(|| format!("backend {index} is {door:?}"));
            return Ok(true);
        }
        if self.rng.percent(10) || self.engine.world.borrow().paused {
            return self.turn_listener().map(|()| true);
        }
        let mut requests = self.changes.draw(&mut self.rng);
        if self.engine.world.borrow().sabotage == Some(Sabotage::Misconfigure(Lapse::Removal)) {
            requests.retain(|request| !orders::is_removal(request));
        }
        self.apply(&requests).map(|()| true)
    }

    /// Takes the listener away, or puts it there again. Connections that stand are not touched by that.
    fn turn_listener(&mut self) -> Result<(), String> {
        let paused = self.engine.world.borrow().paused;
        let requests = orders::turn_listener(paused);
        if paused {
            self.offer_socket();
        }
        self.apply(&requests)?;
        if paused {
            self.engine.worker.start();
        }
        self.engine.world.borrow_mut().paused = !paused;
        Ok(())
    }

    fn check_counters(&mut self) -> Result<(), String> {
        let world = self.engine.world.borrow();
        let metrics = self.engine.worker.metrics();
        counters::check(metrics, &world)?;
        if self.setting.tls.is_none() {
            let fronts = || world.connections.iter().filter(|it| it.to == front_address());
            let sent: u64 = fronts().map(|front| front.to_actor.sent).sum();
            counters::same(Metric::BytesOut, metrics, sent)?;
        }
        let (counted, wrong) = (metrics.get(Metric::ProxyProtocolErrors), self.book.wrong_intros());
        if !wrong.contains(&counted) && !self.book.is_lenient() {
            return Err(format!("{counted} PROXY headers counted as wrong, of {wrong:?}"));
        }
        Ok(())
    }
}

/// Each does something. Whether any did.
fn step_all(actors: &mut Vec<Actor>, world: &mut World, book: &mut Book) -> Result<bool, String> {
    let mut moved = false;
    for at in (0..actors.len()).rev() {
        let stepped = actors[at].step(world, book)?;
        moved |= stepped != Some(false);
        if stepped.is_none() {
            actors.swap_remove(at);
        }
    }
    Ok(moved)
}
