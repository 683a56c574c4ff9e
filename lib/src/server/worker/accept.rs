//! How connections come in: taken from the kernel, and turned into sessions or away.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kakehi_command::order::ListenerKind;

use super::Worker;
use super::entry::give_back;
use crate::listener::{Listener, ListenerIndex};
use crate::metrics::Metric;
use crate::net::buffers::Use;
use crate::net::kernel::swallow;
use crate::net::secure::{Crowded, Tls};
use crate::net::{Network, Peer, Stream};
use crate::session::http::answer::BARE_503;
use crate::session::table::Resting;
use crate::session::tcp::TcpSession;
use crate::session::{Hold, Owner};

/// Connections that one listener may bring in one turn.
const ACCEPTS_PER_TURN_MAX: usize = 64;

/// When accepting is tried again after the kernel was out of descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// The log is told no oftener that connections can't be accepted.
const STARVE_TOLD_EVERY: Duration = Duration::from_secs(10);

/// An alert before any handshake: fatal, internal_error (RFC 8446 §6, §5.1 for the version).
pub(super) const BARE_ALERT: &[u8] = &[21, 3, 1, 0, 2, 2, 80];

/// Whether `max_accept_rate` holds. Who waits for a listener that is closed would be reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Kept,
    Left,
}

impl<N: Network> Worker<N> {
    pub(super) fn accept(&mut self, index: ListenerIndex) {
        if self.accept_some(index, Pace::Kept) {
            self.crowded.push_back(index);
        }
    }

    /// Takes in some of the connections that wait. True if more may wait.
    fn accept_some(&mut self, index: ListenerIndex, pace: Pace) -> bool {
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            if !self.serving {
                return false;
            }
            let wait = if pace == Pace::Kept { self.accept_wait(index) } else { Duration::ZERO };
            let Some((socket, token)) = self.shared.listeners.get_mut(index).and_then(Listener::socket_mut)
            else {
                return false;
            };
            if !wait.is_zero() {
                // They wait in the kernel's queue, and are looked at again when the next one may come.
                self.shared.timers.set(token, self.shared.now + wait);
                self.shared.metrics.incr(Metric::ListenerAcceptsHeld);
                return false;
            }
            match self.shared.net.accept(socket) {
                Ok((stream, address)) => {
                    if let Some(entry) = self.shared.listeners.get_mut(index) {
                        entry.has_paid = false;
                    }
                    self.accepted(index, stream, address);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if is_of_one_connection(&error) => {}
                // Clients come before connections that are only kept for later.
                Err(_) if self.shared.pipes.close_free() || self.shared.evict_idle() => {}
                Err(error) => {
                    self.shared.timers.set(token, self.shared.now + ACCEPT_RETRY);
                    self.starve(index, &error);
                    return false;
                }
            }
        }
        true
    }

    /// Out of descriptors or memory: connections wait in the kernel's queue, and are looked at again when
    /// a session ends, the next one comes, or after a while: without a session there may be no other
    /// occasion.
    fn starve(&mut self, index: ListenerIndex, error: &io::Error) {
        self.shared.metrics.incr(Metric::AcceptErrors);
        if !self.starved.contains(&index) {
            self.starved.push(index);
        }
        let now = self.shared.now;
        if self.starve_told.is_none_or(|told| now.saturating_duration_since(told) >= STARVE_TOLD_EVERY) {
            self.starve_told = Some(now);
            log::warn!("accept: {error}; until a connection ends, others wait in the kernel");
        }
    }

    fn accepted(&mut self, listener: ListenerIndex, mut stream: N::Stream, address: SocketAddr) {
        self.shared.metrics.incr(Metric::ListenerAcceptedTotal);
        let Some(entry) = self.shared.listeners.get(listener) else { return };
        let (kind, secured) = (entry.kind(), entry.acceptor().is_some());
        let expects_header = entry.expects_proxy_header(address.ip());
        let manner = match kind {
            _ if secured => BARE_ALERT,
            // Of what its clients speak nothing is known.
            ListenerKind::Tcp => &[],
            _ => BARE_503,
        };
        self.shared.metrics.incr(match kind {
            ListenerKind::Tcp => Metric::ListenerAcceptedTcp,
            _ if secured => Metric::ListenerAcceptedHttps,
            _ => Metric::ListenerAcceptedHttp,
        });
        let full = self.sessions.len() >= self.shared.settings.connections_max && !self.make_room();
        let parched = self.is_parched();
        if full || parched {
            let reason =
                if full { Metric::ListenerConnectionCapped } else { Metric::ListenerConnectionNoBuffer };
            self.shared.metrics.incr(reason);
            refuse(&mut stream, manner, &mut self.scratch);
            return;
        }
        let Ok(admission) = self.enter(listener) else { return self.turn_away(listener, stream) };
        if expects_header {
            return self.open(listener, stream, address, admission);
        }
        let Ok(admission) = self.enter_from(listener, address.ip(), admission) else {
            return self.turn_away(listener, stream);
        };
        let tls = match self.begin_tls(listener, address.ip()) {
            Ok(tls) => tls,
            Err(reason) => {
                self.shared.metrics.incr(reason);
                give_back(admission, &self.shared.limits);
                refuse(&mut stream, manner, &mut self.scratch);
                return;
            }
        };
        let index = self.sessions.next_index();
        self.entries.keep(index, admission);
        let token = self.shared.owners.insert(Owner::Front(index));
        let now = self.shared.now;
        let front = match tls {
            Some(tls) => Peer::accepted(stream, token).secured(tls),
            None => Peer::accepted(stream, token),
        };
        if kind == ListenerKind::Tcp {
            self.sessions.insert_tcp(TcpSession::accepted(index, front, address, listener, now, None));
        } else {
            self.sessions.insert(Resting::accepted(front, address, listener, now));
        }
        self.shared.listeners.session_opened(listener);
        self.shared.metrics.set(Metric::ClientConnections, self.sessions.len());
        self.dispatch(index, |session, shared| session.drive(shared));
    }

    /// The listener may not have it.
    fn turn_away(&mut self, listener: ListenerIndex, mut stream: N::Stream) {
        if let Some(words) = self.words_beyond(listener) {
            refuse(&mut stream, &words, &mut self.scratch);
        }
    }

    /// TLS for a connection that was just accepted, if its listener has it; otherwise the metric that says why it is
    /// refused.
    pub(super) fn begin_tls(
        &mut self,
        listener: ListenerIndex,
        source: IpAddr,
    ) -> Result<Option<Box<Tls>>, Metric> {
        let Some(entry) = self.shared.listeners.get(listener) else { return Ok(None) };
        let Some(acceptor) = entry.acceptor() else { return Ok(None) };
        let per_source = entry.tls().and_then(|tls| tls.max_handshakes_per_source());
        let room = &self.shared.room;
        let permit = room.permit(source, per_source).map_err(|crowded| match crowded {
            Crowded::Worker => Metric::TlsHandshakesCapped,
            Crowded::Source => Metric::TlsHandshakesCappedBySource,
        })?;
        Tls::accept(room, acceptor, permit).map(Some).map_err(|_| Metric::TlsHandshakesCapped)
    }

    /// Whether sessions wait for buffers, and nobody knows how long. Where clients hold them up it is known: one
    /// more may wait as well.
    fn is_parched(&self) -> bool {
        let waits = |purpose: &Use| !self.shared.thirsty[*purpose as usize].is_empty();
        let is_held_up = |hold: Hold| !self.shared.held_up[hold as usize].is_empty();
        let known = |purpose| Hold::ALL.into_iter().any(|hold| hold.frees(purpose) && is_held_up(hold));
        Use::ALL.into_iter().filter(waits).any(|purpose| !known(purpose))
    }

    /// Takes in what waits already, then closes the socket.
    pub(in crate::server) fn close_listener(&mut self, index: ListenerIndex) {
        let rounds_max = self.shared.settings.connections_max / ACCEPTS_PER_TURN_MAX + 1;
        for _ in 0..rounds_max {
            if !self.accept_some(index, Pace::Left) {
                break;
            }
        }
        if let Some((socket, token)) = self.shared.listeners.close(index) {
            self.shared.drop_listener(socket, token);
        }
    }
}

/// At once and in words, as far as its protocol has some: read what came, so that the refusal is not reset away, and go.
fn refuse<S: Stream>(stream: &mut S, words: &[u8], scratch: &mut [u8]) {
    swallow(stream, scratch);
    if !words.is_empty() {
        let _ = stream.write(words);
    }
    let _ = stream.shutdown_write();
}

/// Errors that accept(2) passes on from the connection that it took: the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::Interrupted
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::PermissionDenied
            | Kind::TimedOut
    )
}
