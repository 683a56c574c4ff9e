//! A backend: reads requests, judges them by the plan, and answers as planned.

use std::net::SocketAddr;
use std::time::Instant;

use super::ledger::{Base, Ledger};
use super::message::{Event, Reader};
use super::model::{After, Fault, Side};
use super::rng::Rng;
use super::script::{Act, Left, Script, millis};
use super::tunnel::{End, Ending};
use super::world::{ActorRead, ConnectionId, Sabotage, World};

/// See the module.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    connections: Vec<Live>,
    rng: Rng,
}

/// One connection from the proxy.
#[derive(Debug)]
struct Live {
    id: ConnectionId,
    reader: Reader,
    script: Script,
    /// The request that is being read or answered.
    current: Option<usize>,
    /// The body of `current` was read.
    read: bool,
    /// Closes then, unless a request comes.
    close_at: Option<Instant>,
    /// Is closed after the script.
    close_after_ms: Option<usize>,
    over: bool,
    /// A request has come before.
    served: bool,
    tunnel: Option<End>,
    splits_strays: bool,
    /// The head that changes the protocol is sent when the script has so many acts left.
    switches_at: Option<usize>,
}

impl Backend {
    pub(super) fn new(address: SocketAddr, rng: Rng) -> Self {
        Self { address, connections: Vec::new(), rng }
    }

    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        let times = self.connections.iter().flat_map(|live| [live.script.next_wakeup(), live.close_at]);
        times.flatten().min()
    }

    /// Requests, and tunnels, that it has in flight of this cluster, as far as the proxy has not left.
    pub(super) fn busy(&self, cluster: &str, world: &World, ledger: &Ledger) -> usize {
        let is_of_cluster = |id: usize| ledger.plans[id].request.site.cluster() == cluster;
        let of_live = |live: &&Live| live.current.or_else(|| live.tunnel.as_ref().map(End::id));
        let there = self.connections.iter().filter(|live| !live.over && !world.is_left_by_proxy(live.id));
        there.filter(|live| of_live(live).is_some_and(is_of_cluster)).count()
    }

    /// Each connection does something, or with `all` unset perhaps not.
    pub(super) fn step(&mut self, all: bool, world: &mut World, ledger: &mut Ledger) -> Result<bool, String> {
        let mut moved = false;
        while (all || self.rng.percent(70))
            && let Some(id) = world.accept_back(self.address)
        {
            moved = true;
            self.connections.push(Live {
                id,
                reader: Reader::default(),
                script: Script::new(),
                current: None,
                read: true,
                close_at: None,
                close_after_ms: None,
                over: false,
                served: false,
                tunnel: None,
                splits_strays: world.sabotage == Some(Sabotage::SplitStrays),
                switches_at: None,
            });
        }
        for live in &mut self.connections {
            if all || self.rng.percent(70) {
                moved |= live.step(&mut self.rng, world, ledger)?;
            }
        }
        self.connections.retain(|live| !live.over);
        Ok(moved)
    }
}

impl Live {
    fn step(&mut self, rng: &mut Rng, world: &mut World, ledger: &mut Ledger) -> Result<bool, String> {
        let sent = world.sent_by_actor(self.id);
        if self.script.step(self.id, false, world) {
            if let Some(end) = &self.tunnel
                && world.sent_by_actor(self.id) > sent
            {
                ledger.tunnel_moved(end.id(), world.now);
            }
            let forgets = world.sabotage == Some(Sabotage::ForgetSwitches);
            self.switches_at = self
                .switches_at
                .filter(|_| forgets)
                .or(self.switches_at.filter(|&left| self.script.len() > left));
            self.after_script(world);
            return Ok(true);
        }
        if self.tunnel.is_some() {
            return self.step_tunnel(world, ledger);
        }
        match self.script.left {
            Left::Vanished => {
                self.over = matches!(world.receive(self.id, 0), ActorRead::End | ActorRead::Reset);
                if self.over {
                    world.close(self.id);
                }
                return Ok(self.over);
            }
            Left::Closed => {
                self.over = true;
                return Ok(true);
            }
            Left::No | Left::Finished => {}
        }
        if self.close_at.is_some_and(|at| world.now >= at) {
            if self.reader.is_at_boundary() {
                ledger.closed_silently.push(self.id);
            } else {
                ledger.races += 1;
            }
            world.close(self.id);
            self.over = true;
            return Ok(true);
        }
        if self.is_stalled_reader() {
            return Ok(false);
        }
        let max = world.pace.draw(&mut world.rng);
        match world.receive(self.id, max) {
            ActorRead::Nothing | ActorRead::Progress => Ok(false),
            ActorRead::Bytes(bytes) => {
                if self.script.left == Left::Finished && self.read {
                    return Err("bytes for a backend that had said that it closes".to_owned());
                }
                self.reader.feed(&bytes);
                while self.tunnel.is_none()
                    && let Some(event) = self.reader.next()?
                {
                    self.take(event, rng, world, ledger)?;
                }
                Ok(true)
            }
            ActorRead::End | ActorRead::Reset | ActorRead::Truncated | ActorRead::Broken(_) => {
                // An early answer frees the proxy from sending the rest.
                let terms = &ledger.rules.terms;
                let may_be_left = match self.current.map(|id| &ledger.plans[id]) {
                    Some(plan) => {
                        let refused = plan.is_too_large(terms) || plan.dawdles_too_much();
                        // Or no buffer becomes free for the rest, while others wait for what never comes.
                        plan.response.early || refused || plan.response.stray || ledger.rules.scarce
                    }
                    // Its body was refused before we knew whose head this is.
                    None => terms.body_bytes_max.is_some(),
                };
                let within = self.current.is_some() || !self.reader.is_at_boundary();
                if within && !may_be_left && self.script.left == Left::No && !ledger.rules.faults {
                    return Err(format!("the proxy left a backend within request {:?}", self.current));
                }
                world.close(self.id);
                self.over = true;
                Ok(true)
            }
        }
    }

    /// While its answer stalls a backend does not read either.
    fn is_stalled_reader(&self) -> bool {
        self.script.next_wakeup().is_some()
    }

    /// The script may have come to its end: what follows.
    fn after_script(&mut self, world: &World) {
        if self.script.is_empty() && self.read {
            self.current = None;
            if let Some(ms) = self.close_after_ms.take() {
                self.close_at = Some(world.now + millis(ms));
            }
        }
    }

    fn take(
        &mut self,
        event: Event,
        rng: &mut Rng,
        world: &mut World,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        match event {
            Event::Head(head) => {
                let (_, target) = head.request_line()?;
                let id = target.split_once("/r/").and_then(|(_, rest)| rest.split('?').next()?.parse().ok());
                let id: usize = id.ok_or_else(|| format!("a request for {target:?} reached a backend"))?;
                if let Some(before) = self.current {
                    return Err(format!("request {id} was sent before {before} was answered"));
                }
                if ledger.plans.len() <= id {
                    return Err("a request that nobody sent".to_owned());
                }
                ledger.arrive(id, world.address_of(self.id), self.served)?;
                let plan = &ledger.plans[id];
                let checked = plan.check_request_head(&head, &ledger.rules.terms);
                checked.map_err(|error| format!("request {id}: {error}"))?;
                world.note(|| format!("c{} backend has the head of {id}", self.id));
                self.served = true;
                self.close_at = None;
                self.current = Some(id);
                self.read = false;
                self.reader.expect_body(head.request_delimiter()?);
                if plan.request.expect && plan.response.continues {
                    self.script.push_bytes(plan.informational_wire(100), None);
                }
                if plan.fault == Some(Fault::BackendDiesUnread) {
                    self.script.clear();
                    self.script.push(Act::Close);
                } else if plan.response.early {
                    self.answer(id, rng, ledger);
                }
            }
            Event::Body { body, trailers } => {
                let id = self.current.ok_or("a body without a request")?;
                let plan = &ledger.plans[id];
                plan.check_request_body(&body, &trailers)
                    .map_err(|error| format!("request {id}: {error}"))?;
                world.note(|| format!("c{} backend has all of {id}", self.id));
                self.read = true;
                if plan.switches() || plan.switches_unasked() {
                    self.switch(id, world, ledger)?;
                } else if !plan.response.early {
                    self.answer(id, rng, ledger);
                }
                self.after_script(world);
            }
        }
        Ok(())
    }

    /// Changes the protocol, as planned or not.
    fn switch(&mut self, id: usize, world: &World, ledger: &mut Ledger) -> Result<(), String> {
        let plan = &ledger.plans[id];
        for &status in &plan.response.informational {
            self.script.push_bytes(plan.informational_wire(status), None);
        }
        let wire = plan.switch_wire();
        if !plan.switches() {
            self.script.push_bytes(wire, plan.response.stall);
            return Ok(());
        }
        // Until we have answered, what is behind the head might be another request.
        if !self.reader.take_rest().is_empty() {
            return Err(format!("request {id}: bytes of a protocol that was not changed to"));
        }
        let head = wire.len();
        let informational: usize =
            plan.response.informational.iter().map(|&status| plan.informational_wire(status).len()).sum();
        self.script.push_bytes(wire, plan.response.stall);
        let with_head = self.script.len();
        self.script.push_bytes(plan.tunnel.early(id, Side::Down), None);
        let sent = world.sent_by_actor(self.id) + (head + informational) as u64;
        let got = world.read_by_actor(self.id);
        ledger.seen[id].tunnel.back = Some(Base { connection: self.id, sent, got });
        self.tunnel = Some(End::new(id, Side::Down, plan.tunnel, &mut self.script));
        self.switches_at = Some(self.script.len() - with_head);
        self.current = None;
        Ok(())
    }

    fn step_tunnel(&mut self, world: &mut World, ledger: &mut Ledger) -> Result<bool, String> {
        let Some(end) = &mut self.tunnel else { return Ok(false) };
        if self.script.left == Left::Closed {
            self.over = true;
            return Ok(true);
        }
        // It looks at nothing before it leaves.
        if end.ending() == Ending::BackendLeaves && world.rng.percent(50) && !self.script.is_empty() {
            return Ok(false);
        }
        let max = world.pace.draw(&mut world.rng);
        match world.receive(self.id, max) {
            ActorRead::Nothing if end.is_over(&self.script) => {}
            ActorRead::Nothing | ActorRead::Progress => return Ok(false),
            ActorRead::Bytes(bytes) => {
                if self.switches_at.is_some() {
                    return Err(format!("tunnel {}: bytes before the protocol was changed", end.id()));
                }
                end.take(&bytes)?;
                ledger.tunnel_moved(end.id(), world.now);
                return Ok(true);
            }
            ActorRead::End if !end.is_over(&self.script) => {
                if !end.has_ended() {
                    ledger.check_tunnel_end(end, world.now)?;
                    end.end(&mut self.script);
                    return Ok(true);
                }
                return Ok(false);
            }
            ActorRead::End => {}
            ActorRead::Reset | ActorRead::Truncated | ActorRead::Broken(_) => {
                ledger.check_tunnel_reset(end)?;
            }
        }
        world.close(self.id);
        self.over = true;
        Ok(true)
    }

    fn answer(&mut self, id: usize, rng: &mut Rng, ledger: &Ledger) {
        let plan = &ledger.plans[id];
        for &status in &plan.response.informational {
            self.script.push_bytes(plan.informational_wire(status), None);
        }
        let mut wire = plan.response_wire(rng);
        match plan.fault {
            Some(Fault::BackendDiesSilent { reset }) => {
                self.script.clear();
                self.script.push(if reset { Act::Reset } else { Act::Close });
                return;
            }
            Some(Fault::BackendTruncates { percent, reset }) => {
                wire.truncate(wire.len() * percent / 100);
                self.script.push_bytes(wire, None);
                self.script.push(if reset { Act::Reset } else { Act::Close });
                return;
            }
            Some(Fault::BackendHangs { percent }) => {
                wire.truncate(wire.len() * percent / 100);
                self.script.push_bytes(wire, None);
                self.script.push(Act::Vanish);
                return;
            }
            Some(Fault::BackendTalksGarbage { kind }) => {
                self.script.push_bytes(GARBAGE[kind % GARBAGE.len()].to_vec(), None);
                return;
            }
            _ => {}
        }
        if plan.response.stray
            && let Some(last) = wire.pop()
        {
            self.script.push_bytes(wire, plan.response.stall);
            let stray = b"HTTP/1.1 200 OK\r\nX-Sim-Id: stray\r\nContent-Length: 0\r\n\r\n";
            if self.splits_strays {
                self.script.push_bytes(vec![last], None);
                self.script.push_bytes(stray.to_vec(), Some((0, 1)));
            } else {
                self.script.push(Act::SendWhole([&[last], stray.as_slice()].concat()));
            }
        } else {
            self.script.push_bytes(wire, plan.response.stall);
        }
        if plan.response.close {
            self.script.push(Act::Finish);
            return;
        }
        match plan.response.after {
            After::Keep => {}
            After::CloseAtOnce => self.close_after_ms = Some(0),
            After::CloseIn { ms } => self.close_after_ms = Some(ms),
        }
    }
}

/// Nothing that a client may be told.
const GARBAGE: [&[u8]; 6] = [
    b"\0\0\0\0\r\n\r\n",
    b"HTTP/1.1 2x0 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    b"HTTP/2 200\r\nbad name: x\r\n\r\n",
];
