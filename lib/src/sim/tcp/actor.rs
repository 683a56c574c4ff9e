//! One end of a connection: sends what is planned for it, and hands what comes to the [`Book`].

use std::time::Instant;

use super::super::script::{Act, Left, Script};
use super::super::world::{ActorRead, ConnectionId, World};
use super::book::{Book, Last, Seen};
use super::intro::{Said, read};

/// A header that a backend waits for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Awaited {
    pub(super) version: u8,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Actor {
    id: usize,
    connection: ConnectionId,
    script: Script,
    awaited: Option<Awaited>,
    early: Vec<u8>,
    said: Option<Said>,
}

impl Actor {
    pub(super) fn new(id: usize, connection: ConnectionId, awaited: Option<Awaited>, book: &Book) -> Self {
        let script = book.script(id);
        Self { id, connection, script, awaited, early: Vec::new(), said: None }
    }

    pub(super) fn id(&self) -> usize {
        self.id
    }

    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        self.script.next_wakeup()
    }

    /// Whom a backend was told that it speaks with.
    pub(super) fn said(&self) -> Option<&Said> {
        self.said.as_ref()
    }

    /// Does one thing, if there is one to do. None once it is over.
    pub(super) fn step(&mut self, world: &mut World, book: &mut Book) -> Result<Option<bool>, String> {
        let sent = world.sent_by_actor(self.connection);
        // A socket that was reset sends nothing any more, no end either.
        if world.connections[self.connection].actor_reset {
            self.script.clear();
        }
        let first = world.rng.percent(50);
        let mut moved = first && self.script.step(self.connection, true, world);
        if !moved && self.receive(world, book)? {
            moved = true;
        }
        if !moved && !first {
            moved = self.script.step(self.connection, true, world);
        }
        if world.sent_by_actor(self.connection) > sent {
            book.ends[self.id].moved = world.now;
        }
        let over = match self.script.left {
            Left::Closed => true,
            Left::No | Left::Finished => self.is_over(book),
            Left::Vanished => book.ends[self.id].seen.is_some(),
        };
        if !over {
            return Ok(Some(moved));
        }
        if self.script.left != Left::Closed && !world.connections[self.connection].actor_reset {
            world.close(self.connection);
        }
        book.ends[self.id].over = Some(world.now);
        Ok(None)
    }

    fn is_over(&self, book: &Book) -> bool {
        match book.ends[self.id].seen {
            None => false,
            Some(Seen::Cut) => true,
            Some(Seen::End) => self.script.is_empty(),
        }
    }

    fn receive(&mut self, world: &mut World, book: &mut Book) -> Result<bool, String> {
        if book.ends[self.id].seen.is_some() {
            return Ok(false);
        }
        let vanished = self.script.left == Left::Vanished;
        let max = if vanished { 0 } else { world.pace.draw(&mut world.rng) };
        let seen = match world.receive(self.connection, max) {
            ActorRead::Nothing => return Ok(false),
            ActorRead::Progress => return Ok(true),
            ActorRead::Bytes(bytes) => {
                self.take(bytes, world, book)?;
                return Ok(true);
            }
            ActorRead::End => Seen::End,
            ActorRead::Reset | ActorRead::Truncated => Seen::Cut,
            // As many handshakes as there may be, or as connections.
            ActorRead::Broken(_) if book.rules.scarce => Seen::Cut,
            ActorRead::Broken(error) => return Err(format!("end {}: TLS: {error:?}", self.id)),
        };
        if vanished {
            book.ends[self.id].seen = Some(seen);
            return Ok(true);
        }
        book.end(self.id, seen, world)?;
        let second = book.ends[self.id].plan.last == Last::FinishSecond;
        if second && seen == Seen::End && self.script.left == Left::No && book.ends[self.id].intro.is_good() {
            self.script.push(Act::Finish);
        }
        Ok(true)
    }

    fn take(&mut self, bytes: Vec<u8>, world: &World, book: &mut Book) -> Result<(), String> {
        let Some(awaited) = self.awaited.filter(|_| self.said.is_none()) else {
            return book.take(self.id, &bytes, world.now);
        };
        self.early.extend(bytes);
        book.ends[self.id].moved = world.now;
        self.said = read(awaited.version, &mut self.early)?;
        if self.said.is_some() && !self.early.is_empty() {
            let rest = std::mem::take(&mut self.early);
            book.take(self.id, &rest, world.now)?;
        }
        Ok(())
    }
}
