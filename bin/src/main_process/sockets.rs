//! The listening sockets: one per active listener and worker slot, all of them owned here.
//!
//! They belong to the slot and not to its worker, so that a dead worker's accept queue waits in the
//! kernel for the successor. Each worker gets a duplicate of its slot's sockets. Sockets of a listener
//! that was deactivated are kept until every worker has let go of its own: activating it again
//! meanwhile takes them back, where binding anew would find the port still taken by ourselves.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use kakehi_command::order::ListenerKey;
use kakehi_command::proto::hand_over as wire;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{BindToDevice, Ipv6V6Only, ReuseAddr, ReusePort};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
};

use super::hand_over::{Named, Taking};

/// Connections the kernel may hold for a socket until they are accepted. The kernel takes the lower of
/// this and `net.core.somaxconn`; the latter is what an operator tunes, hence the highest value here.
const ACCEPT_QUEUE: Backlog = Backlog::MAXCONN;

/// Why a listener's sockets could not be opened.
#[derive(Debug)]
pub(crate) struct BindError {
    address: SocketAddr,
    interface: Option<String>,
    step: &'static str,
    source: Errno,
}

impl fmt::Display for BindError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, interface, step, source } = self;
        write!(formatter, "cannot listen on {address}")?;
        if let Some(interface) = interface {
            write!(formatter, " of interface {interface}")?;
        }
        match source {
            Errno::EADDRINUSE => write!(formatter, ": the port is taken (something listens on it already)"),
            Errno::EADDRNOTAVAIL => write!(formatter, ": this machine has no such address"),
            Errno::EACCES if address.port() < 1024 => {
                write!(formatter, ": ports below 1024 need the capability CAP_NET_BIND_SERVICE")
            }
            Errno::EMFILE | Errno::ENFILE => {
                write!(formatter, ": no file descriptor is left (ulimit -n)")
            }
            _ => write!(formatter, " ({step}): {}", io::Error::from(*source)),
        }
    }
}

impl std::error::Error for BindError {}

/// All listening sockets.
#[derive(Debug)]
pub(super) struct ListenSockets {
    slots: usize,
    by_listener: BTreeMap<ListenerKey, Listening>,
}

#[derive(Debug)]
struct Listening {
    /// One per slot.
    sockets: Vec<OwnedFd>,
    /// Set when the listener was deactivated: closed once every worker has applied this revision.
    let_go_at: Option<u64>,
}

/// What [`ListenSockets::open`] did, so that it can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// New sockets were bound.
    Bound,
    /// Sockets that were being let go, since the given revision, are used again.
    TakenBack(u64),
    /// They were open.
    Already,
}

impl ListenSockets {
    /// No sockets yet, for `slots` workers.
    pub(super) fn new(slots: usize) -> Self {
        Self { slots, by_listener: BTreeMap::new() }
    }

    /// The sockets that the program has left which this process ran before.
    pub(super) fn taken_over(slots: usize, left: &[wire::Listener], taking: Taking) -> io::Result<Self> {
        let mut sockets = Self::new(slots);
        for listener in left {
            let key = ListenerKey::from_wire(&listener.address, listener.interface.as_deref())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let owned = listener.fds.iter().map(|fd| taking.own(*fd)).collect::<io::Result<_>>()?;
            sockets.by_listener.insert(key, Listening { sockets: owned, let_go_at: listener.let_go_at });
        }
        Ok(sockets)
    }

    /// The sockets of a main process that was killed, from its workers, by slot. For slots without a worker, and
    /// listeners that a worker has not heard of, new ones are opened beside those.
    pub(super) fn adopted<'k>(
        slots: usize,
        listeners: impl Iterator<Item = &'k ListenerKey>,
        mut found: BTreeMap<(ListenerKey, usize), OwnedFd>,
    ) -> Result<Self, BindError> {
        let mut sockets = Self::new(slots);
        for key in listeners {
            let of_slot = |slot| match found.remove(&(key.clone(), slot)) {
                Some(socket) => Ok(socket),
                None => listening_socket(key, Sharing::Slot),
            };
            let owned = (0..slots).map(of_slot).collect::<Result<_, _>>()?;
            sockets.by_listener.insert(key.clone(), Listening { sockets: owned, let_go_at: None });
        }
        Ok(sockets)
    }

    /// For the next program of this process.
    pub(super) fn left(&self, named: &mut Named) -> Vec<wire::Listener> {
        let listeners = self.by_listener.iter().map(|(key, listening)| wire::Listener {
            address: key.address.into(),
            interface: key.interface.clone(),
            fds: listening.sockets.iter().map(|socket| named.name(socket)).collect(),
            let_go_at: listening.let_go_at,
        });
        listeners.collect()
    }

    /// Makes sure that a listener has its sockets. Nothing is left open if one of them fails.
    pub(super) fn open(&mut self, key: &ListenerKey) -> Result<Opened, BindError> {
        if let Some(listening) = self.by_listener.get_mut(key) {
            return Ok(listening.let_go_at.take().map_or(Opened::Already, Opened::TakenBack));
        }
        // Sockets with SO_REUSEPORT share a port with any other such socket of this user: without a
        // probe, a second instance would quietly take half of the first one's connections.
        listening_socket(key, Sharing::Probe)?;
        let sockets =
            (0..self.slots).map(|_| listening_socket(key, Sharing::Slot)).collect::<Result<_, _>>()?;
        self.by_listener.insert(key.clone(), Listening { sockets, let_go_at: None });
        Ok(Opened::Bound)
    }

    /// Takes back what [`open`](Self::open) did.
    pub(super) fn undo(&mut self, key: &ListenerKey, opened: Opened) {
        match opened {
            Opened::Already => {}
            Opened::Bound => drop(self.by_listener.remove(key)),
            Opened::TakenBack(revision) => self.let_go(key, revision),
        }
    }

    /// The listener is inactive from `revision` on: its sockets are closed by
    /// [`close_applied`](Self::close_applied) once every worker has applied that.
    pub(super) fn let_go(&mut self, key: &ListenerKey, revision: u64) {
        if let Some(listening) = self.by_listener.get_mut(key) {
            listening.let_go_at.get_or_insert(revision);
        }
    }

    /// Every worker has applied `revision`: closes what was let go until then.
    pub(super) fn close_applied(&mut self, revision: u64) {
        self.by_listener.retain(|_, listening| listening.let_go_at.is_none_or(|at| at > revision));
    }

    /// Closes everything: the proxy stops.
    pub(super) fn close_all(&mut self) {
        self.by_listener.clear();
    }

    /// Whether a listener's sockets are open, and not being let go.
    pub(super) fn is_open(&self, key: &ListenerKey) -> bool {
        self.by_listener.get(key).is_some_and(|listening| listening.let_go_at.is_none())
    }

    /// The active listeners.
    pub(super) fn keys(&self) -> impl Iterator<Item = &ListenerKey> {
        self.by_listener.iter().filter(|(_, listening)| listening.let_go_at.is_none()).map(|(key, _)| key)
    }

    /// The socket of one listener and slot.
    pub(super) fn socket(&self, key: &ListenerKey, slot: usize) -> Option<BorrowedFd<'_>> {
        self.by_listener.get(key)?.sockets.get(slot).map(AsFd::as_fd)
    }
}

/// How a socket treats others on its port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// Not at all: fails if anyone listens.
    Probe,
    /// The kernel spreads connections over the sockets of all slots.
    Slot,
}

fn listening_socket(key: &ListenerKey, sharing: Sharing) -> Result<OwnedFd, BindError> {
    let failed = |step| {
        move |source| BindError { address: key.address, interface: key.interface.clone(), step, source }
    };
    let (family, is_v6) = match key.address {
        SocketAddr::V4(_) => (AddressFamily::Inet, false),
        SocketAddr::V6(_) => (AddressFamily::Inet6, true),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None).map_err(failed("socket"))?;
    // Connections of an earlier instance in TIME_WAIT are no reason not to start.
    setsockopt(&socket, ReuseAddr, &true).map_err(failed("SO_REUSEADDR"))?;
    if sharing == Sharing::Slot {
        setsockopt(&socket, ReusePort, &true).map_err(failed("SO_REUSEPORT"))?;
    }
    if is_v6 {
        // `[::]:80` must not depend on net.ipv6.bindv6only, nor get in the way of `0.0.0.0:80`.
        setsockopt(&socket, Ipv6V6Only, &true).map_err(failed("IPV6_V6ONLY"))?;
    }
    if let Some(interface) = &key.interface {
        setsockopt(&socket, BindToDevice, &interface.into()).map_err(failed("SO_BINDTODEVICE"))?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(key.address)).map_err(failed("bind"))?;
    if sharing == Sharing::Slot {
        listen(&socket, ACCEPT_QUEUE).map_err(failed("listen"))?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// A port that was free a moment ago.
    fn free() -> ListenerKey {
        #[expect(clippy::disallowed_methods, reason = "the kernel chooses a free port")]
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        ListenerKey { address: listener.local_addr().unwrap(), interface: None }
    }

    #[test]
    fn each_slot_has_its_own_socket() {
        let (key, mut sockets) = (free(), ListenSockets::new(3));
        assert_eq!(sockets.open(&key).unwrap(), Opened::Bound);
        assert_eq!(sockets.open(&key).unwrap(), Opened::Already);
        assert!((0..3).all(|slot| sockets.socket(&key, slot).is_some()));
        assert!(sockets.socket(&key, 3).is_none());
    }

    #[test]
    fn a_port_somebody_listens_on_is_refused_even_if_it_could_be_shared() {
        let (key, mut sockets, mut other) = (free(), ListenSockets::new(1), ListenSockets::new(2));
        sockets.open(&key).unwrap();
        let error = other.open(&key).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("cannot listen on {}: the port is taken (something listens on it already)", key.address)
        );
        assert!(!other.is_open(&key));
    }

    #[test]
    fn sockets_let_go_close_when_all_workers_have() {
        let (key, mut sockets, mut other) = (free(), ListenSockets::new(1), ListenSockets::new(1));
        sockets.open(&key).unwrap();
        sockets.let_go(&key, 7);
        assert!(!sockets.is_open(&key));
        sockets.close_applied(6);
        assert!(other.open(&key).is_err(), "revision 7 is not applied yet");
        sockets.close_applied(7);
        assert_eq!(other.open(&key).unwrap(), Opened::Bound);
    }

    #[test]
    fn sockets_being_let_go_can_be_taken_back() {
        let (key, mut sockets) = (free(), ListenSockets::new(1));
        sockets.open(&key).unwrap();
        sockets.let_go(&key, 7);
        assert_eq!(sockets.open(&key).unwrap(), Opened::TakenBack(7));
        assert!(sockets.is_open(&key));
        sockets.undo(&key, Opened::TakenBack(7));
        assert!(!sockets.is_open(&key));
        sockets.close_applied(7);
        assert_eq!(sockets.open(&key).unwrap(), Opened::Bound);
        sockets.undo(&key, Opened::Bound);
        assert!(!sockets.is_open(&key));
    }
}
