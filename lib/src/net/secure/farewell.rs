//! How our direction of a connection ends: with a farewell, an alert, or without a word.

use super::inbound::rest_of;
use super::outbound::{Outbound, Sent, send};
use super::{State, Tls};
use crate::net::Stream;
use crate::net::socket::Socket;
use crate::protocol::tls_record::Violation;

/// An alert record: header, two bytes, the content type, the tag.
pub(super) const ALERT_BYTES_MAX: usize = 64;

impl Tls {
    /// Whether a farewell waits for room. Whoever wants it to arrive keeps the connection until it has gone: reads and
    /// [`flush`](Self::flush) send it.
    pub fn owes_farewell(&self) -> bool {
        self.parting && matches!(self.outbound, Outbound::Flight { .. })
    }

    /// Ends our direction, behind a farewell.
    pub fn shutdown_write<S: Stream>(&mut self, socket: &mut Socket<S>) {
        self.close_notify(socket);
        self.shuts = self.owes_farewell();
        if !self.shuts {
            socket.shutdown_write();
        }
    }

    /// Says that we send no more, once. What the socket does not take at once waits: [`owes_farewell`](Self::owes_farewell).
    pub fn close_notify<S: Stream>(&mut self, socket: &mut Socket<S>) {
        let rest = self.last_words(socket, |state, rest, words| match state {
            State::Records(layer) => {
                let mut alert = [0; ALERT_BYTES_MAX];
                let count = layer.close_notify(&mut alert);
                words.extend_from_slice(alert.get(..count).unwrap_or_default());
            }
            State::Legacy(engine) => engine.close(rest, words),
            State::Handshake(handshake) if handshake.may_write => {
                let rest = rest.get_mut(..handshake.seen).unwrap_or_default();
                handshake.engine.close(rest, words);
            }
            State::Handshake(_) | State::Over => {}
        });
        if !rest.is_empty() {
            self.parting = true;
            self.outbound = Outbound::Flight { bytes: rest, sent: 0, deferred: false };
        }
    }

    /// Tells the peer what it did wrong.
    pub(super) fn alert<S: Stream>(&mut self, violation: &Violation, socket: &mut Socket<S>) {
        // Whoever broke the protocol is not waited for.
        let _ = self.last_words(socket, |state, _, words| {
            if let State::Records(layer) = state {
                let mut alert = [0; ALERT_BYTES_MAX];
                let count = layer.alert(violation, &mut alert);
                words.extend_from_slice(alert.get(..count).unwrap_or_default());
            }
        });
    }

    /// Says one last thing, behind what waits for a write that does not come any more: session tickets, above all. Not
    /// behind a record of a writer that the socket does not take. Gives what did not go.
    fn last_words<S: Stream>(
        &mut self,
        socket: &mut Socket<S>,
        say: impl FnOnce(&mut State, &mut [u8], &mut Vec<u8>),
    ) -> Vec<u8> {
        if std::mem::replace(&mut self.left, true) {
            return Vec::new();
        }
        let mut words = match std::mem::replace(&mut self.outbound, Outbound::Nothing) {
            Outbound::Nothing => Vec::new(),
            Outbound::Flight { mut bytes, sent, .. } => bytes.split_off(sent.min(bytes.len())),
            // Nobody's bytes: an answer to a KeyUpdate.
            Outbound::Record { held, sent, end, taken: 0 } => {
                held.get(sent..end).unwrap_or_default().to_vec()
            }
            record @ Outbound::Record { .. } => {
                self.outbound = record;
                return Vec::new();
            }
        };
        say(&mut self.state, rest_of(&mut self.inbound), &mut words);
        let mut sent = 0;
        let end = words.len();
        match send(socket, &words, &mut sent, end) {
            Sent::All | Sent::Failed(_) => Vec::new(),
            Sent::Blocked => words.split_off(sent),
        }
    }

    /// No farewell is to be sent any more.
    pub fn leave(&mut self) {
        self.left = true;
    }
}
