//! A worker whose main process is gone: it serves on as it is, and waits for another one.
//!
//! What the next main process can't make anew it gets from its workers, so each of them keeps its part: the listening
//! sockets of its slot, the memory that all of them share, and what main has left ([`Keepsakes`]). The state is the
//! worker's own: whoever asks is told all of it, in parts ([`Telling`]).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use kakehi_command::channel::FDS_PER_MESSAGE_MAX;
use kakehi_command::order::Order;
use kakehi_command::proto::ListenerType;
use kakehi_command::proto::supervision::{
    Batch, ListenSocket, ListenSockets, Orphan, Rendezvous, from_worker,
};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use prost::Message;

use super::worker::Worker;
use crate::net::kernel::Kernel;

/// Those who come and are not let in are given up for this turn after so many.
const CALLERS_PER_TURN_MAX: usize = 16;

/// A part of the state is closed when its requests reach this many bytes.
const PART_BYTES: usize = 64 * 1024;

/// Who may do anything to anybody.
const ROOT: u32 = 0;

/// What a worker holds for the main process that comes next.
#[derive(Debug, Default)]
pub(super) struct Keepsakes {
    rendezvous: Option<(UnixListener, Rendezvous)>,
    testament: Option<OwnedFd>,
    sessions: Option<OwnedFd>,
    /// And the lane of this worker.
    limits: Option<(OwnedFd, u32)>,
}

impl Keepsakes {
    /// Where another main process comes to.
    pub(super) fn wait_at(&mut self, listener: OwnedFd, rendezvous: Rendezvous) {
        self.rendezvous = Some((UnixListener::from(listener), rendezvous));
    }

    /// What main leaves.
    pub(super) fn keep_testament(&mut self, testament: OwnedFd) {
        self.testament = Some(testament);
    }

    /// The memory of TLS sessions.
    pub(super) fn keep_sessions(&mut self, memory: OwnedFd) {
        self.sessions = Some(memory);
    }

    /// The memory of limits, and this worker's lane there.
    pub(super) fn keep_limits(&mut self, memory: OwnedFd, lane: u32) {
        self.limits = Some((memory, lane));
    }

    /// The descriptor to watch while main is gone; none if nobody can come.
    pub(super) fn descriptor(&self) -> Option<RawFd> {
        self.rendezvous.as_ref().map(|(listener, _)| listener.as_raw_fd())
    }

    /// How long this worker serves on alone; `None`: for ever.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let (_, rendezvous) = self.rendezvous.as_ref()?;
        (rendezvous.timeout > 0).then(|| Duration::from_secs(rendezvous.timeout.into()))
    }

    /// The next main process, if one has come that may.
    pub(super) fn next_main(&self) -> Option<UnixStream> {
        let (listener, rendezvous) = self.rendezvous.as_ref()?;
        for _ in 0..CALLERS_PER_TURN_MAX {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => {
                    log::warn!("nobody could be let in who came for this worker: {error}");
                    return None;
                }
            };
            match getsockopt(&stream, PeerCredentials) {
                Ok(peer) if peer.uid() == rendezvous.uid || peer.uid() == ROOT => return Some(stream),
                Ok(peer) => log::warn!("user {} wanted to have this worker, and may not", peer.uid()),
                Err(error) => log::warn!("who wants to have this worker can't be told: {error}"),
            }
        }
        None
    }

    /// What this worker is, for a main process that has come; and the messages behind it.
    pub(super) fn introduce(
        &self,
        worker: &mut Worker<Kernel>,
        protocol: u32,
    ) -> Vec<(from_worker::Message, Vec<OwnedFd>)> {
        let sockets = listening(worker);
        let mut fds = Vec::new();
        let mut copy = |fd: Option<&OwnedFd>| match fd.map(OwnedFd::try_clone) {
            Some(Ok(fd)) => {
                fds.push(fd);
                true
            }
            Some(Err(error)) => {
                log::error!("a descriptor can't be duplicated for the main process: {error}");
                false
            }
            None => false,
        };
        let has_testament = copy(self.testament.as_ref());
        let has_sessions = copy(self.sessions.as_ref());
        let has_limits = copy(self.limits.as_ref().map(|(fd, _)| fd));
        let orphan = Orphan {
            protocol,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            worker_id: worker.id(),
            slot: self.rendezvous.as_ref().map_or(u32::MAX, |(_, it)| it.slot),
            revision: worker.state().1,
            retires: worker.is_draining(),
            lane: self.limits.as_ref().map(|(_, lane)| *lane),
            has_testament,
            has_sessions,
            has_limits,
            sockets: u32::try_from(sockets.len()).unwrap_or(u32::MAX),
        };
        let mut messages = vec![(from_worker::Message::Orphan(orphan), fds)];
        let mut sockets = sockets.into_iter().peekable();
        while sockets.peek().is_some() {
            let (sockets, fds) = sockets.by_ref().take(FDS_PER_MESSAGE_MAX).unzip();
            messages.push((from_worker::Message::Sockets(ListenSockets { sockets }), fds));
        }
        messages
    }
}

/// The listening sockets, as duplicates.
fn listening(worker: &mut Worker<Kernel>) -> Vec<(ListenSocket, OwnedFd)> {
    let listeners = &mut worker.shared.listeners;
    let mut sockets = Vec::new();
    for index in listeners.indexes() {
        let Some(listener) = listeners.get_mut(index) else { continue };
        let key = listener.config().key().clone();
        let Some((socket, _)) = listener.socket_mut() else { continue };
        match socket.as_fd().try_clone_to_owned() {
            Ok(socket) => {
                let proxy = ListenerType::Http.into();
                sockets.push((
                    ListenSocket { address: key.address.into(), proxy, interface: key.interface },
                    socket,
                ));
            }
            Err(error) => log::error!("the socket of listener {key} can't be duplicated: {error}"),
        }
    }
    sockets
}

/// The state on its way to main.
#[derive(Debug)]
pub(super) struct Telling {
    orders: std::vec::IntoIter<Order>,
    revision: u64,
    finished: bool,
}

impl Telling {
    /// All of it, as it is now.
    pub(super) fn of(worker: &Worker<Kernel>) -> Self {
        let (state, revision) = worker.state();
        Self { orders: state.orders().collect::<Vec<_>>().into_iter(), revision, finished: false }
    }

    /// The next part; none behind the last.
    pub(super) fn next_part(&mut self) -> Option<Batch> {
        if self.finished {
            return None;
        }
        let mut part = Batch { revision: self.revision, requests: Vec::new(), last: false };
        let mut bytes = 0;
        while bytes < PART_BYTES
            && let Some(order) = self.orders.next()
        {
            let request = order.to_request();
            bytes += request.encoded_len();
            part.requests.push(request);
        }
        self.finished = self.orders.len() == 0;
        part.last = self.finished;
        Some(part)
    }
}
