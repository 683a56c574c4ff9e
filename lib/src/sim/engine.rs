//! The worker of a run and what is around it, whatever its clients and backends speak: its clock, its turns, and
//! what has to hold after each of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kakehi_command::proto::Request;

use super::network::SimNet;
use super::randomness;
use super::rng::Rng;
use super::secured::ticket_keys;
use super::world::World;
use crate::metrics::Metric;
use crate::server::worker::{Configuration, Worker};
use crate::tls::clock::Clock;
use crate::tls::provider::Randomness;

/// Rounds of one run. Runs that need a tenth of it are rare.
const ROUNDS_MAX: usize = 400_000;

/// Turns that say "more to do" one after the other without a byte moving.
const IDLE_TURNS_MAX: usize = 4;

/// The same where records that came together are opened one after the other.
const OPENING_TURNS_MAX: usize = 1000;

/// See the module.
pub(super) struct Engine {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) worker: Worker<SimNet>,
    /// What clients believe the time to be.
    pub(super) clock: Arc<Clock>,
    pub(super) rounds: usize,
    revision: u64,
    pipes_max: usize,
    idle_turns_max: usize,
    /// The worker said that it has more to do.
    busy: bool,
    idle_turns: usize,
}

impl Engine {
    /// A worker without a configuration. `secured`: its listener speaks TLS.
    pub(super) fn new(world: World, configuration: Configuration, secured: bool, rng: &mut Rng) -> Self {
        let origin = world.origin;
        let world = Rc::new(RefCell::new(world));
        let pipes_max = configuration.settings.splice_pipes_max;
        let mut worker = Worker::new(SimNet::new(world.clone()), configuration, origin);
        randomness::begin(rng.fork());
        worker.fix_randomness(Randomness::fixed(randomness::fix));
        worker.set_ticket_keys(ticket_keys());
        // With more than there are clients, nobody ever rests.
        worker.set_dozing_max(rng.pick(&[0, 1, 2, 64]));
        Self {
            world,
            worker,
            clock: Arc::default(),
            rounds: 0,
            revision: 0,
            pipes_max,
            idle_turns_max: if secured { OPENING_TURNS_MAX } else { IDLE_TURNS_MAX },
            busy: false,
            idle_turns: 0,
        }
    }

    /// One more round begins.
    pub(super) fn count_round(&mut self) -> Result<(), String> {
        self.rounds += 1;
        if self.rounds > ROUNDS_MAX {
            return Err("no end: everybody goes round in circles".to_owned());
        }
        Ok(())
    }

    /// Orders are carried out, all at once.
    pub(super) fn apply(&mut self, requests: &[Request]) -> Result<(), String> {
        self.revision += 1;
        self.tick();
        self.worker.apply(self.revision, requests)?;
        self.worker.check_invariants();
        Ok(())
    }

    /// Moves something of some connections, or of `all`.
    pub(super) fn deliver(&mut self, all: bool, rng: &mut Rng) -> bool {
        let mut world = self.world.borrow_mut();
        let mut moved = false;
        for id in world.live() {
            if all || rng.percent(70) {
                moved |= world.deliver(id);
            }
        }
        moved
    }

    /// The worker learns what time it is.
    pub(super) fn tick(&mut self) {
        let (now, elapsed) = (self.world.borrow().now, self.world.borrow().elapsed());
        let unix_ms = 1_700_000_000_000 + u64::try_from(elapsed.as_millis()).expect("fits");
        // When it had slept, some time has gone by since the poll was asked.
        let slept = if self.busy { Duration::ZERO } else { Duration::from_secs(1) };
        self.clock.set(unix_ms / 1000);
        self.worker.tick(now.checked_sub(slept).unwrap_or(now), now, unix_ms);
    }

    /// A turn of the worker's loop, if something wakes it.
    pub(super) fn turn(&mut self) -> Result<bool, String> {
        let now = self.world.borrow().now;
        let due = self.worker.next_wakeup().is_some_and(|at| at <= now);
        if !self.busy && !due && !self.world.borrow().has_events() {
            return Ok(false);
        }
        let events = self.world.borrow_mut().take_events();
        let before = self.world.borrow().achievements;
        self.tick();
        self.worker.handle_timers();
        let woken = due || !events.is_empty();
        for (token, ready) in &events {
            self.world.borrow_mut().note(|| format!("event t{token} {ready:?}"));
        }
        self.worker.handle_events(events.into_iter());
        self.busy = self.worker.handle_leftovers();
        self.worker.check_invariants();
        let worked = self.world.borrow().achievements > before;
        self.idle_turns = if woken || worked || !self.busy { 0 } else { self.idle_turns + 1 };
        if self.idle_turns > self.idle_turns_max {
            return Err("a busy loop: the worker wants turns and does nothing with them".to_owned());
        }
        let pipes = self.world.borrow().pipes;
        if pipes > self.pipes_max {
            return Err(format!("{pipes} pipes, of {} at most", self.pipes_max));
        }
        if self.worker.metrics().get(Metric::Panic) > 0 {
            return Err("a session panicked".to_owned());
        }
        Ok(true)
    }

    /// When the network or the worker does something by itself.
    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        let times = [self.world.borrow().next_wakeup(), self.worker.next_wakeup()];
        times.into_iter().flatten().min()
    }

    /// Everybody is gone and every wait is over: nothing may be left behind.
    pub(super) fn check_quiet(&self) -> Result<(), String> {
        let world = self.world.borrow();
        let sessions = self.worker.session_count();
        let held = world.held_by_proxy();
        let waiting = world.never_accepted();
        if sessions + held + waiting > 0 {
            return Err(format!(
                "left behind: {sessions} sessions, {held} connections, {waiting} never accepted"
            ));
        }
        let room = self.worker.room();
        let (handshakes, records) = (room.handshakes(), room.buffers_in_use());
        if handshakes + records > 0 {
            return Err(format!("left behind: {handshakes} handshakes, {records} record buffers"));
        }
        Ok(())
    }
}
