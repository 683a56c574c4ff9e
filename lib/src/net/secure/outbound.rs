//! The way out of a connection: records, and what rustls wants to have sent, one after the other.

use std::io;

use super::engine::Engine;
use super::inbound::rest_of;
use super::room::{Held, LONG_BYTES, PLAIN_BYTES_MAX, RECORD_BYTES_MAX, Room};
use super::{State, Tls};
use crate::net::socket::Socket;
use crate::net::{Read, Stream, Write};
use crate::protocol::tls_record::RecordLayer;

/// Above this what waits to be sent goes alone instead of before a record in the same buffer.
pub(super) const DEFERRED_BYTES_MAX: usize = 4096;

/// Bytes of a buffer that a record leaves free while a handshake is under way, for what rustls has to send at its end:
/// at most 16 tickets of some hundred bytes.
const TICKETS_BYTES_MAX: usize = 4096;

/// What is to be sent before anything else.
#[derive(Debug)]
pub(super) enum Outbound {
    Nothing,
    /// Messages of a handshake. Deferred: it may wait for the next write.
    Flight {
        bytes: Vec<u8>,
        sent: usize,
        deferred: bool,
    },
    /// A record of `taken` bytes of a writer who does not know yet.
    Record {
        held: Held,
        sent: usize,
        end: usize,
        taken: usize,
    },
}

/// How far something got that a socket may hold up.
pub(super) enum Sent {
    All,
    Blocked,
    Failed(io::Error),
}

impl Tls {
    /// What rustls wants sent. Once the handshake is over it may wait for the next write. False if there is no place
    /// for it, and the connection can't go on without.
    pub(super) fn queue(&mut self, flight: &[u8]) -> bool {
        match &mut self.outbound {
            Outbound::Flight { bytes, .. } => bytes.extend_from_slice(flight),
            Outbound::Nothing => {
                self.outbound = Outbound::Flight { bytes: flight.to_vec(), sent: 0, deferred: false };
            }
            // Behind an answer to early data, which leaves room for it, or in TLS 1.2 the refusal of a renegotiation: it has
            // a number already, so that nothing behind it could be read without it.
            Outbound::Record { held, end, .. } => {
                let room = held.get_mut(*end..*end + flight.len());
                let fits = room.map(|room| room.copy_from_slice(flight)).is_some();
                *end += if fits { flight.len() } else { 0 };
                return fits;
            }
        }
        true
    }

    /// Writes `first`, then `second`; see the module for what is told.
    pub fn write<S: Stream>(&mut self, socket: &mut Socket<S>, first: &[u8], second: &[u8]) -> Write {
        if let Outbound::Record { taken, .. } = self.outbound {
            let told = self.finish_record(socket);
            // What answers a KeyUpdate is no writer's: these bytes are still to be sent.
            let is_next =
                taken == 0 && matches!((&told, &self.outbound), (Write::Nothing, Outbound::Nothing));
            if !is_next || (first.is_empty() && second.is_empty()) {
                return told;
            }
        }
        match &self.state {
            State::Handshake(handshake) if handshake.may_write => {}
            State::Handshake(_) => {
                return match self.send_flight(socket) {
                    Sent::Failed(error) => Write::Failed(error),
                    Sent::All | Sent::Blocked => Write::Nothing,
                };
            }
            State::Over => return Write::Failed(io::ErrorKind::NotConnected.into()),
            State::Records(_) | State::Legacy(_) => {}
        }
        if !socket.is_writable() {
            return Write::Nothing;
        }
        if matches!(&self.outbound, Outbound::Flight { bytes, .. } if bytes.len() > DEFERRED_BYTES_MAX) {
            match self.send_flight(socket) {
                Sent::All => {}
                Sent::Blocked => return Write::Nothing,
                Sent::Failed(error) => return Write::Failed(error),
            }
        }
        let Some(mut held) = self.room.buffer() else { return Write::Thirsty };
        let mut end = 0;
        if let Outbound::Flight { bytes, sent, .. } = &self.outbound {
            let rest = bytes.get(*sent..).unwrap_or_default();
            if let Some(room) = held.get_mut(..rest.len()) {
                room.copy_from_slice(rest);
                end = rest.len();
            }
        }
        let sealed = match &mut self.state {
            State::Records(layer) => {
                let most = RecordLayer::sealed_bytes_max(PLAIN_BYTES_MAX).min(held.len() - end);
                let room = held.get_mut(end..end + most).unwrap_or_default();
                layer.seal(first, second, room).map(|sealed| (sealed.taken, sealed.produced)).ok()
            }
            State::Legacy(engine) => {
                let rest = rest_of(&mut self.inbound);
                seal_legacy(engine, rest, &self.room, first, second, &mut held, end)
            }
            State::Handshake(handshake) => {
                let rest = rest_of(&mut self.inbound).get_mut(..handshake.seen).unwrap_or_default();
                let room = held.len().saturating_sub(TICKETS_BYTES_MAX);
                let held = held.get_mut(..room).unwrap_or_default();
                seal_legacy(&mut handshake.engine, rest, &self.room, first, second, held, end)
            }
            State::Over => None,
        };
        let Some((taken, produced)) = sealed else {
            return Write::Failed(io::Error::other("no more records may be sealed with these keys"));
        };
        self.outbound = Outbound::Record { held, sent: 0, end: end + produced, taken };
        self.finish_record(socket)
    }

    /// Reads a part of a long body from `source` and seals it at once, several records of it, at most `max` bytes. The next
    /// [`write`](Self::write) sends them and tells how many bytes they were. None if it has to go another way: something
    /// else waits to be sent, or there is no buffer.
    pub fn seal_from<S: Stream>(&mut self, source: &mut Socket<S>, max: usize) -> Option<Read> {
        let (State::Records(layer), Outbound::Nothing) = (&mut self.state, &self.outbound) else {
            return None;
        };
        let mut held = self.room.large_buffer()?;
        let mut long = self.room.long.borrow_mut();
        long.resize(LONG_BYTES, 0);
        let read = source.read(long.get_mut(..max.min(LONG_BYTES))?);
        if let Read::Bytes(count) = read {
            let sealed = layer.seal(long.get(..count)?, &[], &mut held);
            let Ok(sealed) = sealed else {
                return Some(Read::Failed(io::Error::other("no more records may be sealed with these keys")));
            };
            debug_assert_eq!(sealed.taken, count, "there is room for all of it");
            self.outbound = Outbound::Record { held, sent: 0, end: sealed.produced, taken: sealed.taken };
        }
        Some(read)
    }

    /// Sends the rest of a record, and tells its writer once all of it has gone.
    fn finish_record<S: Stream>(&mut self, socket: &mut Socket<S>) -> Write {
        let Outbound::Record { held, sent, end, taken } = &mut self.outbound else { return Write::Nothing };
        let before = *sent;
        let went = send(socket, held, sent, *end);
        self.untold += (*sent - before) as u64;
        match went {
            Sent::All => {
                let taken = *taken;
                self.untold = self.untold.saturating_sub(taken as u64);
                self.outbound = Outbound::Nothing;
                if taken == 0 { Write::Nothing } else { Write::Bytes(taken) }
            }
            Sent::Blocked => Write::Nothing,
            Sent::Failed(error) => Write::Failed(error),
        }
    }

    /// Sends what waits for a write that may be long in coming.
    pub fn flush<S: Stream>(&mut self, socket: &mut Socket<S>) {
        // A socket that is broken is found out by the next read.
        let _ = self.send_flight(socket);
        let owes = matches!(&self.state, State::Records(layer) if layer.owes_output());
        let begun = matches!(self.outbound, Outbound::Record { taken: 0, .. });
        if begun || (owes && matches!(self.outbound, Outbound::Nothing)) {
            let _ = self.write(socket, &[], &[]);
        }
    }

    pub(super) fn send_flight_unless_deferred<S: Stream>(&mut self, socket: &mut Socket<S>) -> Sent {
        match self.outbound {
            Outbound::Flight { deferred: false, .. } => self.send_flight(socket),
            _ => Sent::All,
        }
    }

    fn send_flight<S: Stream>(&mut self, socket: &mut Socket<S>) -> Sent {
        let Outbound::Flight { bytes, sent, deferred } = &mut self.outbound else { return Sent::All };
        // What did not go at once goes as soon as there is room.
        *deferred = false;
        let end = bytes.len();
        let before = *sent;
        let went = send(socket, bytes, sent, end);
        self.untold += (*sent - before) as u64;
        if let Sent::All = went {
            self.outbound = Outbound::Nothing;
            self.parting = false;
            if std::mem::take(&mut self.shuts) {
                socket.shutdown_write();
            }
        }
        went
    }
}

/// Seals what fits of `first`, or else of `second`, in a record behind the first `end` bytes of `held`.
fn seal_legacy(
    engine: &mut Engine,
    rest: &mut [u8],
    room: &Room,
    first: &[u8],
    second: &[u8],
    held: &mut [u8],
    end: usize,
) -> Option<(usize, usize)> {
    let all = if first.is_empty() { second } else { first };
    let most = held.len().min(RECORD_BYTES_MAX).saturating_sub(end + LEGACY_OVERHEAD_MAX);
    let plain = all.get(..most.min(all.len()))?;
    let mut sealed = std::mem::take(&mut *room.flight.borrow_mut());
    sealed.clear();
    let done = engine.seal(rest, plain, &mut sealed);
    let fits = held.get_mut(end..end + sealed.len());
    let produced = fits.map(|to| {
        to.copy_from_slice(&sealed);
        (plain.len(), sealed.len())
    });
    sealed.clear();
    *room.flight.borrow_mut() = sealed;
    produced.filter(|_| done)
}

/// What a record of TLS 1.2 has besides its bytes: header, explicit nonce and tag, for two records and an alert. One of 1.3
/// has less.
const LEGACY_OVERHEAD_MAX: usize = 3 * (5 + 8 + 16) + 2;

/// Sends `bytes` up to `end`, from `sent` on.
pub(super) fn send<S: Stream>(socket: &mut Socket<S>, bytes: &[u8], sent: &mut usize, end: usize) -> Sent {
    while *sent < end {
        match socket.write(bytes.get(*sent..end).unwrap_or_default(), &[]) {
            Write::Bytes(count) => *sent += count,
            Write::Nothing | Write::Thirsty => return Sent::Blocked,
            Write::Failed(error) => return Sent::Failed(error),
        }
    }
    Sent::All
}
