//! The client connections of a worker.
//!
//! Most of them rest: between two requests a connection is a socket, an address and a few times. Only one that
//! has something to do has a session around it, taken from a stock of used ones.

use std::net::SocketAddr;
use std::time::Instant;

use slab::Slab;

use super::http::HttpSession;
use super::http::request::Prepared;
use crate::listener::ListenerIndex;
use crate::net::secure::Tls;
use crate::net::{Peer, Stream, Token};

/// A connection that waits for its client's next request, or its first.
#[derive(Debug)]
pub struct Resting<S> {
    pub(super) front: Peer<S>,
    pub(super) address: SocketAddr,
    pub(super) listener: ListenerIndex,
    /// Requests that were begun on it.
    pub(super) requests: u64,
    pub(super) prepared: Prepared,
    /// Since when it rests.
    pub(super) since: Instant,
    pub(super) timer_at: Option<Instant>,
}

impl<S: Stream> Resting<S> {
    /// A connection that was just accepted.
    pub fn accepted(
        stream: S,
        token: Token,
        address: SocketAddr,
        listener: ListenerIndex,
        now: Instant,
        tls: Option<Box<Tls>>,
    ) -> Self {
        let front = Peer::accepted(stream, token);
        Self {
            front: match tls {
                Some(tls) => front.secured(tls),
                None => front,
            },
            address,
            listener,
            requests: 0,
            prepared: Prepared::default(),
            since: now,
            timer_at: None,
        }
    }
}

/// What stands for a connection now. Most do the former, and should not take the latter's room.
enum Slot<S: Stream> {
    Resting(Resting<S>),
    Awake(Box<HttpSession<S>>),
    /// On the way from one to the other.
    Turning,
}

/// See the module.
pub struct Sessions<S: Stream> {
    slots: Slab<Slot<S>>,
    /// Sessions without a connection: no more than were awake at a time.
    spare: Vec<Box<HttpSession<S>>>,
}

impl<S: Stream> Sessions<S> {
    /// A table with room for so many connections; it grows beyond.
    pub fn with_capacity(connections: usize) -> Self {
        Self { slots: Slab::with_capacity(connections), spare: Vec::new() }
    }

    /// Connections.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The index of the next connection.
    pub fn next_index(&self) -> usize {
        self.slots.vacant_key()
    }

    /// Adds a connection.
    pub fn insert(&mut self, resting: Resting<S>) {
        self.slots.insert(Slot::Resting(resting));
    }

    /// Indexes of all connections.
    pub fn indexes(&self) -> Vec<usize> {
        self.slots.iter().map(|(index, _)| index).collect()
    }

    /// The session at this index, woken if it rests.
    pub fn wake(&mut self, index: usize) -> Option<&mut HttpSession<S>> {
        let slot = self.slots.get_mut(index)?;
        if !matches!(slot, Slot::Awake(_))
            && let Slot::Resting(resting) = std::mem::replace(slot, Slot::Turning)
        {
            let mut session =
                self.spare.pop().unwrap_or_else(|| Box::new(HttpSession::vacant(resting.since)));
            session.wake(index, resting);
            *slot = Slot::Awake(session);
        }
        match slot {
            Slot::Awake(session) => Some(session),
            Slot::Resting(_) | Slot::Turning => None,
        }
    }

    /// The session at this index, if it is awake.
    pub fn awake(&self, index: usize) -> Option<&HttpSession<S>> {
        match self.slots.get(index)? {
            Slot::Awake(session) => Some(session),
            Slot::Resting(_) | Slot::Turning => None,
        }
    }

    /// The session at this index, if it is awake.
    pub fn awake_mut(&mut self, index: usize) -> Option<&mut HttpSession<S>> {
        match self.slots.get_mut(index)? {
            Slot::Awake(session) => Some(session),
            Slot::Resting(_) | Slot::Turning => None,
        }
    }

    /// Lets the session at this index rest, if it has nothing else to do.
    pub fn rest(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Slot::Awake(session) = slot else { return };
        let Some(resting) = session.rest() else { return };
        if let Slot::Awake(session) = std::mem::replace(slot, Slot::Resting(resting)) {
            self.spare.push(session);
        }
    }

    /// Closes a connection whose session has given back all that it held. Gives its listener.
    pub fn remove(&mut self, index: usize) -> Option<ListenerIndex> {
        match self.slots.try_remove(index)? {
            Slot::Resting(resting) => Some(resting.listener),
            Slot::Awake(mut session) => {
                let listener = session.listener();
                // One that panicked may hold something still: it is not used again.
                if session.vacate() {
                    self.spare.push(session);
                }
                Some(listener)
            }
            Slot::Turning => None,
        }
    }

    /// The token of a connection's front.
    pub fn token(&self, index: usize) -> Option<Token> {
        match self.slots.get(index)? {
            Slot::Resting(resting) => Some(resting.front.token()),
            Slot::Awake(session) => Some(session.token()),
            Slot::Turning => None,
        }
    }

    /// Nothing is on its way, and connections that rest are small.
    pub fn check_invariants(&self) {
        assert!(self.slots.iter().all(|(_, slot)| !matches!(slot, Slot::Turning)));
    }
}

#[cfg(test)]
mod tests {
    use mio::net::TcpStream;

    use super::*;

    #[test]
    fn a_connection_that_rests_is_small() {
        let bytes = size_of::<Slot<TcpStream>>();
        assert!(bytes <= 160, "{bytes} bytes");
    }
}
