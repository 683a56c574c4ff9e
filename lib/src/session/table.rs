//! The client connections of a worker.
//!
//! Most of them rest: between two requests a connection is a socket, an address and a few times. Only one that
//! has something to do has a session around it, taken from a stock of used ones; and a few that had just now: a
//! connection that is in use will be again, and to lay it to rest and wake it costs a twentieth of a request. Those of
//! TCP listeners never rest: of them nobody knows when they have nothing to do.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use slab::Slab;

use super::backends::BackendKey;
use super::counted::Counted;
use super::http::HttpSession;
use super::http::request::Prepared;
use super::opening::OpeningSession;
use super::tcp::TcpSession;
use super::{Drive, Hold, Shared};
use crate::listener::ListenerIndex;
use crate::net::buffers::Use;
use crate::net::{Network, Peer, Ready, Stream, Token};

/// Sessions that stay awake though they could rest. Of more connections than that, used in turn, each would be found at
/// rest again; and together they are to be small.
const DOZING_MAX: usize = 64;

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
    /// Who counts it.
    pub(super) counted: Counted,
    /// Names it in the access log, once it has a name there.
    pub(super) session_number: u64,
}

impl<S: Stream> Resting<S> {
    /// A connection that was just accepted.
    pub fn accepted(front: Peer<S>, address: SocketAddr, listener: ListenerIndex, now: Instant) -> Self {
        Self {
            front,
            address,
            listener,
            requests: 0,
            prepared: Prepared::default(),
            since: now,
            timer_at: None,
            counted: Counted::default(),
            session_number: 0,
        }
    }

    /// The same, from this other end, which is not the client.
    pub fn behind(self, peer: Option<SocketAddr>) -> Self {
        Self { counted: Counted::behind(peer), ..self }
    }
}

/// What stands for a connection now. Most do the former, and should not take the latter's room.
enum Slot<S: Stream> {
    Resting(Resting<S>),
    Awake(Box<HttpSession<S>>),
    Tcp(Box<TcpSession<S>>),
    Opening(Box<OpeningSession<S>>),
    /// On the way from one to the other.
    Turning,
}

/// A session that is awake, of any kind.
pub enum Session<'a, S: Stream> {
    /// Of an HTTP listener.
    Http(&'a mut HttpSession<S>),
    /// Of a TCP listener.
    Tcp(&'a mut TcpSession<S>),
    /// Of a listener of either kind, before its PROXY header has come.
    Opening(&'a mut OpeningSession<S>),
}

/// What comes of a connection once its PROXY header was read.
pub enum Turned<S: Stream> {
    /// On an HTTP listener.
    Http(Resting<S>),
    /// On a TCP listener.
    Tcp(Box<TcpSession<S>>),
}

/// Passes a call on to the session.
macro_rules! of_either {
    ($session:expr, $call:ident($($argument:expr),*)) => {
        match $session {
            Self::Http(session) => session.$call($($argument),*),
            Self::Tcp(session) => session.$call($($argument),*),
            Self::Opening(session) => session.$call($($argument),*),
        }
    };
}

impl<S: Stream> Session<'_, S> {
    /// An event for the front.
    pub fn front_ready(&mut self, ready: Ready) {
        of_either!(self, front_ready(ready));
    }

    /// An event for the back.
    pub fn back_ready(&mut self, ready: Ready) {
        of_either!(self, back_ready(ready));
    }

    /// A buffer may be free again.
    pub fn quench(&mut self, purpose: Use) {
        of_either!(self, quench(purpose));
    }

    /// Marks the session as queued for another turn; false if it is already.
    pub fn enqueue(&mut self) -> bool {
        of_either!(self, enqueue())
    }

    /// Whether its TLS handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        match self {
            Self::Http(session) => session.is_handshaking(),
            Self::Tcp(session) => session.is_handshaking(),
            Self::Opening(_) => false,
        }
    }

    /// Its turn has come.
    pub fn dequeue(&mut self) {
        of_either!(self, dequeue());
    }

    /// Moves what can be moved now, within the bounds of one turn.
    pub fn drive<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        of_either!(self, drive(shared))
    }

    /// The timer fired.
    pub fn on_timer<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        of_either!(self, on_timer(shared))
    }

    /// Its place is needed for a new connection, and it does nothing.
    pub fn evict_idle<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        match self {
            Self::Http(session) => session.evict_idle(shared),
            Self::Tcp(_) | Self::Opening(_) => Drive::Waiting,
        }
    }

    /// Its buffers are needed for others.
    pub fn evict<N: Network<Stream = S>>(&mut self, hold: Hold, shared: &mut Shared<N>) -> Drive {
        of_either!(self, evict(hold, shared))
    }

    /// An operator closes what goes to its backend. What goes on is in flight, and ends with its answer.
    pub fn close<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        match self {
            Self::Http(session) => session.close(shared),
            Self::Tcp(session) => {
                session.finish(shared);
                Drive::Finished
            }
            Self::Opening(_) => Drive::Waiting,
        }
    }

    /// Gives back all that the session holds. Nothing may be done with it afterwards.
    pub fn finish<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        of_either!(self, finish(shared));
    }
}

/// See the module.
pub struct Sessions<S: Stream> {
    slots: Slab<Slot<S>>,
    /// Sessions without a connection: no more than were awake at a time.
    spare: Vec<Box<HttpSession<S>>>,
    /// Those that stay awake, though they have nothing to do: the one that has been among them for longest comes
    /// first. Some may be gone, or have something to do again.
    dozing: VecDeque<usize>,
    dozing_max: usize,
}

impl<S: Stream> Sessions<S> {
    /// A table with room for so many connections; it grows beyond.
    pub fn with_capacity(connections: usize) -> Self {
        Self {
            slots: Slab::with_capacity(connections),
            spare: Vec::new(),
            dozing: VecDeque::new(),
            dozing_max: DOZING_MAX,
        }
    }

    /// So many may stay awake with nothing to do. To be said before there are any.
    #[cfg(test)]
    pub(crate) fn set_dozing_max(&mut self, count: usize) {
        self.dozing_max = count;
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

    /// Adds a connection of a TCP listener.
    pub fn insert_tcp(&mut self, session: TcpSession<S>) {
        self.slots.insert(Slot::Tcp(Box::new(session)));
    }

    /// Adds a connection whose PROXY header is to come.
    pub fn insert_opening(&mut self, session: OpeningSession<S>) {
        self.slots.insert(Slot::Opening(Box::new(session)));
    }

    /// Puts another session, which is made of it, in the place of one whose PROXY header was read.
    pub fn turn_opened(&mut self, index: usize, turn: impl FnOnce(OpeningSession<S>) -> Turned<S>) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        match std::mem::replace(slot, Slot::Turning) {
            Slot::Opening(session) => {
                *slot = match turn(*session) {
                    Turned::Http(resting) => Slot::Resting(resting),
                    Turned::Tcp(session) => Slot::Tcp(session),
                }
            }
            other => *slot = other,
        }
    }

    /// Those that are between two requests, and since when.
    pub fn idle(&self) -> impl Iterator<Item = (Instant, usize)> {
        self.slots.iter().filter_map(|(index, slot)| match slot {
            Slot::Resting(resting) if resting.requests > 0 => Some((resting.since, index)),
            Slot::Awake(session) => session.idle_since().map(|since| (since, index)),
            _ => None,
        })
    }

    /// Indexes of all connections.
    pub fn indexes(&self) -> Vec<usize> {
        self.slots.iter().map(|(index, _)| index).collect()
    }

    /// The session at this index, woken if it rests.
    pub fn wake(&mut self, index: usize) -> Option<Session<'_, S>> {
        let slot = self.slots.get_mut(index)?;
        if matches!(slot, Slot::Resting(_))
            && let Slot::Resting(resting) = std::mem::replace(slot, Slot::Turning)
        {
            let mut session =
                self.spare.pop().unwrap_or_else(|| Box::new(HttpSession::vacant(resting.since)));
            session.wake(index, resting);
            *slot = Slot::Awake(session);
        }
        awake(slot)
    }

    /// Whether there is a session at this index that is awake.
    pub fn is_awake(&self, index: usize) -> bool {
        matches!(self.slots.get(index), Some(Slot::Awake(_) | Slot::Tcp(_) | Slot::Opening(_)))
    }

    /// Whether the session at this index has been held up since then.
    pub fn is_held_up(&self, index: usize, hold: Hold, since: Instant) -> bool {
        match self.slots.get(index) {
            Some(Slot::Awake(session)) => session.is_held_up(hold, since),
            Some(Slot::Tcp(session)) => session.is_held_up(hold, since),
            Some(Slot::Resting(_) | Slot::Opening(_) | Slot::Turning) | None => false,
        }
    }

    /// The session at this index, if it is awake.
    pub fn awake_mut(&mut self, index: usize) -> Option<Session<'_, S>> {
        awake(self.slots.get_mut(index)?)
    }

    /// Lets the session at this index rest, if it has nothing else to do; one that was in use, a little later.
    pub fn rest(&mut self, index: usize) {
        let Some(Slot::Awake(session)) = self.slots.get_mut(index) else { return };
        if session.is_dozing() || !session.could_rest() {
            return;
        }
        if self.dozing_max == 0 || !session.doze() {
            return self.lay_to_rest(index);
        }
        if self.dozing.len() >= self.dozing_max
            && let Some(oldest) = self.dozing.pop_front()
        {
            self.lay_to_rest(oldest);
        }
        self.dozing.push_back(index);
    }

    fn lay_to_rest(&mut self, index: usize) {
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
            Slot::Tcp(session) => Some(session.listener()),
            Slot::Opening(session) => Some(session.listener()),
            Slot::Turning => None,
        }
    }

    /// The backend to which a connection is tied now.
    pub fn backend_of(&self, index: usize) -> Option<BackendKey> {
        match self.slots.get(index)? {
            Slot::Awake(session) => session.backend(),
            Slot::Tcp(session) => session.backend(),
            Slot::Resting(_) | Slot::Opening(_) | Slot::Turning => None,
        }
    }

    /// The token of a connection's front.
    pub fn token(&self, index: usize) -> Option<Token> {
        match self.slots.get(index)? {
            Slot::Resting(resting) => Some(resting.front.token()),
            Slot::Awake(session) => Some(session.token()),
            Slot::Tcp(session) => Some(session.token()),
            Slot::Opening(session) => Some(session.token()),
            Slot::Turning => None,
        }
    }

    /// Nothing is on its way, and few stay awake for nothing.
    pub fn check_invariants(&self) {
        assert!(self.slots.iter().all(|(_, slot)| !matches!(slot, Slot::Turning)));
        assert!(self.dozing.len() <= self.dozing_max, "no more doze than may");
        for (index, slot) in &self.slots {
            if let Slot::Awake(session) = slot {
                assert!(!session.is_dozing() || self.dozing.contains(&index), "who dozes is known");
                assert!(session.is_dozing() || !session.could_rest(), "who could rest does, or dozes");
            }
        }
    }
}

fn awake<S: Stream>(slot: &mut Slot<S>) -> Option<Session<'_, S>> {
    match slot {
        Slot::Awake(session) => Some(Session::Http(session)),
        Slot::Tcp(session) => Some(Session::Tcp(session)),
        Slot::Opening(session) => Some(Session::Opening(session)),
        Slot::Resting(_) | Slot::Turning => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::net::kernel::KernelStream;

    use super::*;

    #[test]
    fn a_connection_that_rests_is_small() {
        let bytes = size_of::<Slot<KernelStream>>();
        assert!(bytes <= 168, "{bytes} bytes");
    }
}
