//! The proxy's view of the [`World`]: what the kernel is to it otherwise.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use kakehi_command::order::BackendTarget;

use super::orders;
use super::world::{ConnectionId, Door, Link, ListenerState, Sabotage, World};
use crate::net::{Network, Ready, Stream, Token};

/// The proxy's end of a connection.
#[derive(Debug)]
pub(super) struct SimStream {
    world: Rc<RefCell<World>>,
    id: ConnectionId,
}

/// A pipe of the proxy's.
#[derive(Debug)]
pub(super) struct SimPipe {
    world: Rc<RefCell<World>>,
    bytes: VecDeque<u8>,
}

impl Drop for SimPipe {
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        if world.sabotage != Some(Sabotage::KeepPipes) {
            world.pipes -= 1;
        }
    }
}

impl Stream for SimStream {
    type Pipe = SimPipe;

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        let id = self.id;
        let connection = &mut world.connections[id];
        if matches!(connection.link, Link::Opening { .. }) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = connection.to_proxy.pull(into);
        if count > 0 {
            world.achievements += 1;
            if let Some(Sabotage::Corrupt { nth }) = world.sabotage
                && let Some(at) = world.sabotaged(nth, count)
            {
                into[at] ^= 1;
            }
            world.note(|| format!("c{id} proxy reads {count}"));
            return Ok(count);
        }
        if connection.to_proxy.fin_arrived {
            return Ok(0);
        }
        if connection.proxy_reset || connection.link == Link::Refused {
            return connection.error.take().map_or(Ok(0), |kind| Err(kind.into()));
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn peek(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let world = self.world.borrow();
        let connection = &world.connections[self.id];
        let arrived = &connection.to_proxy.arrived;
        if arrived.is_empty() && !connection.to_proxy.fin_arrived && !connection.proxy_reset {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(into.iter_mut().zip(arrived).map(|(place, byte)| *place = *byte).count())
    }

    fn is_quiet(&mut self) -> bool {
        let world = self.world.borrow();
        let connection = &world.connections[self.id];
        let ended = connection.to_proxy.fin_arrived || (connection.local && connection.actor_closed);
        connection.to_proxy.arrived.is_empty() && !ended && !connection.proxy_reset
    }

    fn abort(&mut self) {
        self.world.borrow_mut().connections[self.id].aborted = true;
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_pair(bytes, &[])
    }

    fn write_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        let (id, era) = (self.id, world.certificate_era);
        let connection = &mut world.connections[id];
        if connection.proxy_reset || connection.link == Link::Refused {
            return Err(connection.error.take().unwrap_or(io::ErrorKind::BrokenPipe).into());
        }
        if connection.to_actor.fin_sent || (connection.local && connection.actor_closed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if matches!(connection.link, Link::Opening { .. }) || connection.to_actor.room() == 0 {
            connection.full = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = connection.to_actor.push(first) + connection.to_actor.push(second);
        connection.answered_in.get_or_insert(era);
        connection.full = count < first.len() + second.len();
        connection.sent_to_closed |= connection.actor_closed;
        if count > 0 {
            world.achievements += 1;
        }
        if let Some(Sabotage::SwallowWrite { nth }) = world.sabotage
            && world.connections[id].to_actor.sent > 2000
            && world.sabotaged(nth, 1).is_some()
        {
            world.connections[id].to_actor.unsend(count);
        }
        if let Some(Sabotage::LoseByte { nth }) = world.sabotage
            && world.sabotaged(nth, 1).is_some()
        {
            world.connections[id].to_actor.flying.pop_back();
        }
        world.note(|| format!("c{id} proxy writes {count} of {}", first.len() + second.len()));
        Ok(count)
    }

    fn fill(&mut self, pipe: &mut SimPipe, max: usize) -> io::Result<usize> {
        assert!(pipe.bytes.is_empty(), "only an empty pipe is filled");
        // Seldom all that has arrived: the pieces of a pipe are few.
        let max = self.world.borrow_mut().rng.within(1..=max);
        let mut bytes = vec![0; max];
        let count = self.read(&mut bytes)?;
        pipe.bytes.extend(&bytes[..count]);
        Ok(count)
    }

    fn drain(&mut self, pipe: &mut SimPipe, max: usize) -> io::Result<usize> {
        assert_eq!(pipe.bytes.len(), max, "what is in the pipe is known");
        let mut front = pipe.bytes.as_slices().0.to_vec();
        let sabotage = self.world.borrow().sabotage;
        if let Some(Sabotage::CorruptPipe { nth }) = sabotage
            && let Some(at) = self.world.borrow_mut().sabotaged(nth, front.len())
        {
            front[at] ^= 1;
        }
        let count = self.write(&front)?;
        pipe.bytes.drain(..count);
        Ok(count)
    }

    fn unacknowledged(&mut self) -> Option<u64> {
        let world = self.world.borrow();
        if world.connections[self.id].local {
            return None;
        }
        let forgets = world.sabotage == Some(Sabotage::ForgetAcknowledgements);
        Some(if forgets { u64::MAX } else { world.connections[self.id].to_actor.unacknowledged })
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let id = self.id;
        let hides = world.sabotage == Some(Sabotage::LoseTunnelEnds);
        let connection = &mut world.connections[id];
        if connection.proxy_reset || connection.link != Link::Open {
            return Err(io::ErrorKind::NotConnected.into());
        }
        connection.to_actor.fin_sent = !hides;
        // With both directions over the kernel reports a hang-up.
        connection.edge |= connection.to_proxy.fin_arrived;
        world.achievements += 1;
        world.note(|| format!("c{id} proxy ends its direction"));
        Ok(())
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        let id = self.id;
        let connection = &mut world.connections[id];
        connection.proxy_closed = true;
        connection.token = None;
        let unread = connection.to_proxy.arrived.len();
        let under_way = unread + connection.to_proxy.flying.len();
        connection.unheard = connection.tls.as_ref().is_some_and(|tls| tls.is_farewell_under_way(under_way));
        if connection.link == Link::Open && !connection.proxy_reset && !connection.actor_reset {
            if unread > 0 || connection.aborted {
                connection.reset_to_actor = true;
                connection.to_proxy.lose(true);
            } else {
                connection.to_actor.fin_sent = true;
            }
        }
        world.achievements += 1;
        world.note(|| format!("c{id} proxy closes, {unread} unread"));
    }
}

/// The proxy's listening socket. Only one at a time.
#[derive(Debug)]
pub(super) struct SimListener {
    world: Rc<RefCell<World>>,
    address: SocketAddr,
}

impl SimListener {
    pub(super) fn open(world: &Rc<RefCell<World>>, address: SocketAddr) -> Self {
        world.borrow_mut().listener = Some(ListenerState { address, token: None, edge: false });
        Self { world: world.clone(), address }
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        world.listener = None;
        for id in world.waiting.remove(&self.address).unwrap_or_default() {
            let connection = &mut world.connections[id];
            connection.proxy_closed = true;
            connection.reset_to_actor = true;
        }
        world.note(|| "the listener closes".to_owned());
    }
}

/// The proxy's way to its network.
#[derive(Debug)]
pub(super) struct SimNet {
    world: Rc<RefCell<World>>,
}

impl SimNet {
    pub(super) fn new(world: Rc<RefCell<World>>) -> Self {
        Self { world }
    }

    /// At once or not at all, as it is with Unix sockets.
    fn connect_unix(&mut self, to: SocketAddr, token: Token) -> io::Result<SimStream> {
        let mut world = self.world.borrow_mut();
        match world.doors.get(&to).copied().unwrap_or(Door::Refusing) {
            Door::Open | Door::Slow { .. } => {}
            Door::Refusing => return Err(io::ErrorKind::ConnectionRefused.into()),
            // As many wait as may.
            Door::BlackHole => return Err(io::ErrorKind::WouldBlock.into()),
            Door::Unreachable => return Err(io::ErrorKind::NotFound.into()),
        }
        let from = SocketAddr::from(([10, 0, 0, 1], 40_000));
        let id = world.open(from, to, Link::Open);
        let connection = &mut world.connections[id];
        (connection.token, connection.local, connection.edge) = (Some(token), true, true);
        world.waiting.entry(to).or_default().push_back(id);
        world.achievements += 1;
        world.note(|| format!("c{id} proxy connects to the Unix socket of {to} as t{token}"));
        Ok(SimStream { world: self.world.clone(), id })
    }
}

impl Network for SimNet {
    type Stream = SimStream;
    type Listener = SimListener;

    fn connect(&mut self, to: &BackendTarget, token: Token) -> io::Result<SimStream> {
        let to = match to {
            BackendTarget::Tcp(address) => *address,
            BackendTarget::Unix(path) => return self.connect_unix(orders::behind_unix_path(path), token),
        };
        let mut world = self.world.borrow_mut();
        let door = world.doors.get(&to).copied().unwrap_or(Door::Refusing);
        let now = world.now;
        let soon = |world: &mut World, ms_max: usize| {
            let ms = u64::try_from(world.rng.within(0..=ms_max)).expect("fits");
            Some(now + Duration::from_millis(ms))
        };
        let link = match door {
            Door::Open => Link::Opening { at: Some(now), opens: true },
            Door::Slow { ms_max } => Link::Opening { at: soon(&mut world, ms_max), opens: true },
            Door::Refusing => Link::Opening { at: soon(&mut world, 20), opens: false },
            Door::BlackHole => Link::Opening { at: None, opens: false },
            Door::Unreachable => return Err(io::ErrorKind::NetworkUnreachable.into()),
        };
        let from = SocketAddr::from(([10, 0, 0, 1], 40_000));
        let id = world.open(from, to, link);
        world.connections[id].token = Some(token);
        world.achievements += 1;
        if door == Door::Open && world.rng.percent(50) {
            world.advance_handshake(id);
        }
        world.note(|| format!("c{id} proxy connects to {to} as t{token}: {door:?}"));
        Ok(SimStream { world: self.world.clone(), id })
    }

    fn watch(&mut self, stream: &mut SimStream, token: Token) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let connection = &mut world.connections[stream.id];
        connection.token = Some(token);
        connection.edge = connection.ready() != Ready::default();
        let id = stream.id;
        world.note(|| format!("c{id} is watched as t{token}"));
        Ok(())
    }

    fn watch_listener(&mut self, listener: &mut SimListener, token: Token) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let waits = world.waiting.get(&listener.address).is_some_and(|queue| !queue.is_empty());
        if let Some(state) = &mut world.listener {
            state.token = Some(token);
            state.edge = waits;
        }
        Ok(())
    }

    fn unwatch_listener(&mut self, _listener: &mut SimListener) {
        if let Some(state) = &mut self.world.borrow_mut().listener {
            state.token = None;
        }
    }

    fn pipe(&mut self, _bytes: usize) -> io::Result<SimPipe> {
        let mut world = self.world.borrow_mut();
        let percent = world.faults.accept_percent;
        if percent > 0 && world.rng.percent(percent) {
            return Err(io::Error::from_raw_os_error(nix::libc::EMFILE));
        }
        world.pipes += 1;
        Ok(SimPipe { world: self.world.clone(), bytes: VecDeque::new() })
    }

    fn elapsed(&self, since: Instant) -> Duration {
        self.world.borrow().now.saturating_duration_since(since)
    }

    fn accept(&mut self, listener: &mut SimListener) -> io::Result<(SimStream, SocketAddr)> {
        let mut world = self.world.borrow_mut();
        let Some(&id) = world.waiting.get(&listener.address).and_then(VecDeque::front) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let faulty = world.faults.accept_percent > 0 && {
            let percent = world.faults.accept_percent;
            world.rng.percent(percent)
        };
        if faulty && world.rng.percent(50) {
            world.note(|| "accept: out of descriptors".to_owned());
            return Err(io::Error::from_raw_os_error(nix::libc::EMFILE));
        }
        world.waiting.get_mut(&listener.address).expect("it has a front").pop_front();
        world.achievements += 1;
        if faulty {
            world.note(|| format!("c{id} accept: aborted"));
            world.connections[id].proxy_closed = true;
            world.connections[id].reset_to_actor = true;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let (from, now) = (world.connections[id].from, world.now);
        world.connections[id].accepted_at = Some(now);
        world.note(|| format!("c{id} is accepted"));
        Ok((SimStream { world: self.world.clone(), id }, from))
    }
}
