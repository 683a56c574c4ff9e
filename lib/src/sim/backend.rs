//! A backend: reads requests, judges them by the plan, and answers as planned.

use std::net::SocketAddr;
use std::time::Instant;

use super::message::{Event, Reader};
use super::model::{After, Fault, Ledger};
use super::rng::Rng;
use super::script::{Act, Left, Script, millis};
use super::world::{ActorRead, ConnectionId, World};

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
}

impl Backend {
    pub(super) fn new(address: SocketAddr, rng: Rng) -> Self {
        Self { address, connections: Vec::new(), rng }
    }

    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        let times = self.connections.iter().flat_map(|live| [live.script.next_wakeup(), live.close_at]);
        times.flatten().min()
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
        if self.script.step(self.id, false, world) {
            self.after_script(world);
            return Ok(true);
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
            ActorRead::Nothing => Ok(false),
            ActorRead::Bytes(bytes) => {
                if self.script.left == Left::Finished && self.read {
                    return Err("bytes for a backend that had said that it closes".to_owned());
                }
                self.reader.feed(&bytes);
                while let Some(event) = self.reader.next()? {
                    self.take(event, rng, world, ledger)?;
                }
                Ok(true)
            }
            ActorRead::End | ActorRead::Reset => {
                // An early answer frees the proxy from sending the rest.
                let early = self.current.is_some_and(|id| ledger.plans[id].response.early);
                let within = self.current.is_some() || !self.reader.is_at_boundary();
                if within && !early && self.script.left == Left::No && !ledger.rules.faults {
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
                let id = target.strip_prefix("/r/").and_then(|rest| rest.split('?').next()?.parse().ok());
                let id: usize = id.ok_or_else(|| format!("a request for {target:?} reached a backend"))?;
                if let Some(before) = self.current {
                    return Err(format!("request {id} was sent before {before} was answered"));
                }
                let plan = ledger.plans.get(id).ok_or("a request that nobody sent")?;
                plan.check_request_head(&head).map_err(|error| format!("request {id}: {error}"))?;
                world.note(|| format!("c{} backend has the head of {id}", self.id));
                ledger.seen[id].arrivals.push(self.served);
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
                if !plan.response.early {
                    self.answer(id, rng, ledger);
                }
                self.after_script(world);
            }
        }
        Ok(())
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
        self.script.push_bytes(wire, plan.response.stall);
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
