//! TLS over a socket: rustls makes the handshake, our own record layer runs the connection from there on
//! (TLS 1.3), or rustls does (TLS 1.2).
//!
//! ```text
//!                handshake over, 1.3        close_notify, or cut
//!   Handshake ----------------------> Records ------------------+
//!       |  \                                                    v
//!       |   +---------------------> Legacy -------------------> Over
//!       |     handshake over, 1.2                               ^
//!       +-------------------------------------------------------+
//!         refused, or broken: an alert says why
//! ```
//! A connection holds buffers only for what is under way: a record that came in part, or that was sent in part.
//! What is handed out was authenticated, and what was sealed is sent before anything else is.
//!
//! A write that the socket takes only a part of is told as "nothing" until all of it has gone; then as many bytes
//! are told as the record held. So whoever writes offers the same bytes again, and knows of no byte that it was sent
//! before it was. What rustls has to send after a handshake (session tickets; a client's `Finished`) waits for the
//! next write, with which it shares a system call, or for [`Tls::flush`].
//!
//! Data that a client sends before the handshake is over is kept apart ([`Tls::take_early`]): it may have been played
//! back by somebody else, so whoever does not ask for it gets it when that is out of the question. What is written
//! then is sealed by rustls, which counts the records up to the take-over.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{CipherSuite, ClientConfig, ProtocolVersion, ServerConfig};

use self::early::{EarlyBytes, Offer, Verdict};
use self::engine::{Engine, Fed};
use self::inbound::{Inbound, open_records, record_bytes, rest_of};
use self::outbound::{DEFERRED_BYTES_MAX, Outbound, Sent};
use super::socket::Socket;
use super::{Read, Stream};
use crate::protocol::tls_record::{RecordLayer, Suite};
use crate::tls::failure::Failure;
use crate::tls::resolver::{Choice, Choices, Served};
use crate::tls::secrets::TrafficSecrets;

mod early;
mod engine;
mod farewell;
mod inbound;
mod outbound;
mod room;
mod takeover;

pub use room::{Crowded, Permit, Room};

/// Bytes that a peer may send within a handshake, all flights together: a certificate chain of a client is what is
/// long. Also the bound of what rustls holds of them.
const HANDSHAKE_BYTES_MAX: usize = 128 * 1024;

/// What is known of a connection once its handshake is over, or early data was taken.
#[derive(Debug)]
pub struct Facts {
    /// TLS 1.2 or 1.3.
    pub version: ProtocolVersion,
    /// What protects its records.
    pub suite: CipherSuite,
    /// It went on from an earlier connection.
    pub resumed: bool,
    /// The certificate that a client was shown, and the name that it asked for.
    pub served: Option<Served>,
    /// The application protocol that was agreed on (RFC 7301).
    pub protocol: Option<Box<[u8]>>,
    /// The subject of the client's certificate, if it showed one that was verified: for a header.
    pub subject: Option<Box<str>>,
    /// What became of data that it sent before the end of the handshake.
    pub early: EarlyData,
}

/// What became of data that a client sent before the end of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyData {
    /// There was none, as far as is known.
    None,
    /// It was taken.
    Taken,
    /// It was offered, and none was taken.
    Refused,
}

/// How a handshake went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It is over: see [`Tls::facts`].
    Established,
    /// It failed.
    Failed(Failure),
    /// The connection had been established, and the peer broke the protocol.
    Broken,
}

/// What a listener's clients are served with.
#[derive(Debug, Clone)]
pub struct Acceptor {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// Where it tells which certificate it chose.
    pub choices: Arc<Choices>,
}

/// See the module.
#[derive(Debug)]
pub struct Tls {
    room: Rc<Room>,
    state: State,
    inbound: Option<Inbound>,
    outbound: Outbound,
    /// See [`Tls::untold`].
    untold: u64,
    /// Early data that was not read yet: before all else that came.
    early: Option<Box<EarlyBytes>>,
    facts: Option<Box<Facts>>,
    news: Option<News>,
    /// The peer said that it sends no more.
    ended: bool,
    /// A read has told so.
    told_end: bool,
    /// Our farewell was sent, or none may be.
    left: bool,
    /// Of our farewell, or of what is before it, the socket has not taken everything.
    parting: bool,
    /// The socket's direction ends behind it.
    shuts: bool,
}

#[derive(Debug)]
enum State {
    Handshake(Box<Handshake>),
    Legacy(Engine),
    Records(Box<RecordLayer>),
    Over,
}

#[derive(Debug)]
struct Handshake {
    engine: Engine,
    /// Where the certificate that a client is shown is told; none on our own way to a backend.
    choices: Option<Arc<Choices>>,
    /// Until when the client is believed to be who it is.
    identity_end: Option<u64>,
    served: Option<Served>,
    /// There is no certificate for the client.
    refused: bool,
    secrets: Option<TrafficSecrets>,
    bytes: usize,
    /// Of what was not consumed rustls has seen so many bytes: the beginning of a message.
    seen: usize,
    /// What its client said about early data.
    offer: Offer,
    /// Some was taken.
    early: bool,
    /// Data may be sent.
    may_write: bool,
    /// Counts it, while it is under way.
    _permit: Option<Permit>,
}

impl Tls {
    /// A client's connection, from its first byte on.
    ///
    /// # Errors
    /// rustls has no use for the configuration.
    pub fn accept(room: &Rc<Room>, acceptor: &Acceptor, permit: Permit) -> Result<Box<Self>, Failure> {
        let engine = Engine::server(acceptor.config.clone()).map_err(|error| Failure::of(&error))?;
        Ok(Self::begin(room, engine, Some(acceptor.choices.clone()), Some(permit)))
    }

    /// A connection to a backend that is to prove that it is `name`.
    ///
    /// # Errors
    /// rustls has no use for the configuration.
    pub fn connect(
        room: &Rc<Room>,
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Box<Self>, Failure> {
        let engine = Engine::client(config.clone(), name).map_err(|error| Failure::of(&error))?;
        let mut tls = Self::begin(room, engine, None, None);
        // The first word is ours.
        tls.feed();
        Ok(tls)
    }

    fn begin(
        room: &Rc<Room>,
        engine: Engine,
        choices: Option<Arc<Choices>>,
        permit: Option<Permit>,
    ) -> Box<Self> {
        let handshake = Handshake {
            engine,
            offer: if choices.is_some() { Offer::of_client() } else { Offer::of_us() },
            early: false,
            may_write: false,
            choices,
            identity_end: None,
            served: None,
            refused: false,
            secrets: None,
            bytes: 0,
            seen: 0,
            _permit: permit,
        };
        Box::new(Self {
            room: room.clone(),
            state: State::Handshake(Box::new(handshake)),
            inbound: None,
            outbound: Outbound::Nothing,
            untold: 0,
            early: None,
            facts: None,
            news: None,
            ended: false,
            told_end: false,
            left: false,
            parting: false,
            shuts: false,
        })
    }

    /// What is known of the connection; nothing before the handshake is over, or early data was taken.
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.as_deref()
    }

    /// How the handshake went, told once.
    pub fn take_news(&mut self) -> Option<News> {
        self.news.take()
    }

    /// Whether the handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        matches!(self.state, State::Handshake(_))
    }

    /// Whether the peer said that it sends no more.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether it holds a buffer of the pool.
    pub fn holds_record(&self) -> bool {
        self.inbound.is_some() || matches!(self.outbound, Outbound::Record { .. })
    }

    /// Whether a writer has yet to be told that bytes of its were taken.
    pub fn has_begun_write(&self) -> bool {
        matches!(self.outbound, Outbound::Record { taken: 1.., .. })
    }

    /// Bytes that the socket has taken and no writer was told of: those of a record that is under way, and what records
    /// and handshakes have beside the bytes of writers.
    pub fn untold(&self) -> u64 {
        self.untold
    }

    /// Whether a read gives something, or gets something on its way, without a word from the socket but that it
    /// takes bytes.
    pub fn wants_turn(&self, writable: bool) -> bool {
        let unread = self.inbound.as_ref().is_some_and(Inbound::has_unread)
            || (self.has_early() && !self.is_handshaking());
        let due = matches!(self.outbound, Outbound::Flight { deferred: false, .. });
        // An end that came together with data, which rustls has seen at once (TLS 1.2).
        let ends = self.ended && !self.told_end;
        unread || ends || (due && writable)
    }

    /// Whether there is data that came before the end of the handshake, and nobody has read.
    pub fn has_early(&self) -> bool {
        self.early.as_ref().is_some_and(|early| !early.is_empty())
    }

    /// Moves what came before the end of the handshake, which is under way: it may come from somebody who plays back
    /// what he has seen (RFC 8446 §8). Gives how many bytes there were.
    pub fn take_early(&mut self, into: &mut [u8]) -> usize {
        self.early.as_mut().map_or(0, |early| early.read(into))
    }

    /// Reads what the peer sent into `into`, which must not be empty. What came before the end of a handshake comes
    /// after it, unless it was taken before.
    pub fn read<S: Stream>(&mut self, socket: &mut Socket<S>, into: &mut [u8]) -> Read {
        if let Some(failed) = self.send_due(socket) {
            return failed;
        }
        loop {
            if let Some(count) = self.deliver(into) {
                return Read::Bytes(count);
            }
            if self.ended {
                self.told_end = true;
                return Read::End;
            }
            if let Some(read) = self.bring(socket) {
                return read;
            }
        }
    }

    /// Goes on with the handshake, and reads nothing beyond it. `Nothing`: it is over, or more has to come.
    pub fn advance<S: Stream>(&mut self, socket: &mut Socket<S>) -> Read {
        if let Some(failed) = self.send_due(socket) {
            return failed;
        }
        while self.is_handshaking() {
            if self.ended {
                return Read::End;
            }
            if let Some(read) = self.bring(socket) {
                return read;
            }
        }
        Read::Nothing
    }

    fn send_due<S: Stream>(&mut self, socket: &mut Socket<S>) -> Option<Read> {
        match self.send_flight_unless_deferred(socket) {
            Sent::Failed(error) => Some(self.break_off(error)),
            Sent::All | Sent::Blocked => None,
        }
    }

    /// Opens what came, or else gets more from the socket. None: it is worth another look.
    fn bring<S: Stream>(&mut self, socket: &mut Socket<S>) -> Option<Read> {
        if let Err(failed) = self.open(socket) {
            return Some(failed);
        }
        // Or a handshake is over, and what is behind it has not been looked at.
        let unread = self.inbound.as_ref().is_some_and(Inbound::has_unread);
        if self.ended || unread || (self.has_early() && !self.is_handshaking()) {
            return None;
        }
        match self.receive(socket) {
            Read::Bytes(_) => None,
            // What was whole was read; but nobody said that this was all (RFC 8446 §6.1).
            Read::End if self.is_handshaking() => {
                self.fail(Failure::Closed);
                Some(Read::End)
            }
            Read::End => Some(self.break_off(io::ErrorKind::UnexpectedEof.into())),
            Read::Nothing => {
                self.inbound.take_if(|inbound| inbound.records.is_empty());
                Some(Read::Nothing)
            }
            other => Some(other),
        }
    }

    /// Reads what the peer sent into `into`, which must not be empty, and opens none of it: what comes behind our farewell
    /// is of no use but to be taken from the socket.
    pub fn discard<S: Stream>(&mut self, socket: &mut Socket<S>, into: &mut [u8]) -> Read {
        self.inbound = None;
        if let Sent::Failed(error) = self.send_flight_unless_deferred(socket) {
            return self.break_off(error);
        }
        let read = socket.read(into);
        self.ended |= matches!(read, Read::End);
        // An end that was seen before is no news either: told again and again, it would be all that anybody does.
        self.told_end = self.ended;
        read
    }

    /// Hands out what was opened.
    fn deliver(&mut self, into: &mut [u8]) -> Option<usize> {
        if !self.is_handshaking()
            && let Some(mut early) = self.early.take()
        {
            let count = early.read(into);
            if !early.is_empty() {
                self.early = Some(early);
            }
            if count > 0 {
                return Some(count);
            }
        }
        let inbound = self.inbound.as_mut()?;
        let count = inbound.data.len().min(into.len());
        let data = inbound.held.get(inbound.data.start..inbound.data.start + count)?;
        if count == 0 {
            return None;
        }
        into.get_mut(..count)?.copy_from_slice(data);
        inbound.data.start += count;
        if inbound.data.is_empty() && inbound.records.is_empty() {
            self.inbound = None;
        }
        Some(count)
    }

    /// More from the socket, behind what is there.
    fn receive<S: Stream>(&mut self, socket: &mut Socket<S>) -> Read {
        if !socket.is_readable() {
            return Read::Nothing;
        }
        if self.inbound.is_none() {
            let Some(held) = self.room.buffer() else { return Read::Thirsty };
            self.inbound = Some(Inbound { held, data: 0..0, records: 0..0, partial: false });
        }
        let Some(inbound) = self.inbound.as_mut() else { return Read::Nothing };
        inbound.compact();
        let end = inbound.records.end;
        let space = inbound.held.get_mut(end..).unwrap_or_default();
        if space.is_empty() {
            // Longer than any record: the record layer refuses those by their first bytes, rustls may not.
            self.fail(Failure::OversizedRecord);
            return Read::Failed(io::ErrorKind::InvalidData.into());
        }
        let read = socket.read(space);
        if let Read::Bytes(count) = read {
            inbound.records.end += count;
            inbound.partial = false;
            if let State::Handshake(handshake) = &mut self.state {
                handshake.bytes += count;
            }
        }
        read
    }

    /// Opens what came: the first record, or as much as rustls has use for.
    fn open<S: Stream>(&mut self, socket: &mut Socket<S>) -> Result<(), Read> {
        let opened = match &mut self.state {
            State::Records(layer) => {
                let Some(inbound) = self.inbound.as_mut() else { return Ok(()) };
                open_records(layer, inbound, &mut self.ended)
            }
            State::Handshake(_) | State::Legacy(_) => {
                let came = self.inbound.as_ref().map_or(0, |inbound| inbound.records.len());
                if came > 0 {
                    // Record by record up to the end of a handshake: what comes behind it is not for rustls.
                    while self.feed() && self.is_handshaking() {}
                }
                let sent = self.send_flight_unless_deferred(socket);
                return match sent {
                    Sent::Failed(error) => Err(self.break_off(error)),
                    _ if matches!(self.state, State::Over) => {
                        Err(Read::Failed(io::ErrorKind::InvalidData.into()))
                    }
                    Sent::All | Sent::Blocked => Ok(()),
                };
            }
            State::Over => return Err(Read::Failed(io::ErrorKind::NotConnected.into())),
        };
        opened.map_err(|violation| {
            log::debug!("TLS: {violation}");
            self.alert(&violation, socket);
            self.news = Some(News::Broken);
            self.break_off(io::ErrorKind::InvalidData.into())
        })
    }

    /// Lets rustls see what was not opened yet: in a handshake, one record more of it. Whether there was a whole one.
    fn feed(&mut self) -> bool {
        let room = self.room.clone();
        let mut flight = std::mem::take(&mut *room.flight.borrow_mut());
        let mut plain = std::mem::take(&mut *room.plain.borrow_mut());
        let before = self.inbound.as_ref().map_or(0, |inbound| inbound.records.len());
        let seen = |tls: &Self| match &tls.state {
            State::Handshake(handshake) => handshake.seen,
            _ => 0,
        };
        let seen_before = seen(self);
        let mut fed = self.feed_into(&mut flight, &mut plain);
        if !flight.is_empty() && !self.queue(&flight) {
            fed = Err(Failure::Other);
        }
        let mut moved = false;
        match fed {
            Ok(fed) => {
                moved = before > 0 && (fed.consumed > 0 || seen(self) > seen_before);
                let is_early = !fed.established && self.is_handshaking();
                if let Some(inbound) = self.inbound.as_mut() {
                    inbound.took(fed.consumed, if is_early { &[] } else { &plain });
                }
                if is_early && !plain.is_empty() {
                    self.early.get_or_insert_default().push(&plain);
                    self.note_early();
                }
                self.ended |= fed.closed;
                if fed.established {
                    self.establish();
                }
            }
            Err(failure) => self.fail(failure),
        }
        zeroize::Zeroize::zeroize(plain.as_mut_slice());
        plain.clear();
        flight.clear();
        *room.flight.borrow_mut() = flight;
        *room.plain.borrow_mut() = plain;
        moved
    }

    /// Early data is taken: from now on it is known whose connection this is going to be.
    fn note_early(&mut self) {
        let State::Handshake(handshake) = &mut self.state else { return };
        handshake.early = true;
        handshake.offer.accept();
        if self.facts.is_none() {
            self.facts = takeover::facts(handshake).ok().map(Box::new);
        }
    }

    fn feed_into(&mut self, flight: &mut Vec<u8>, plain: &mut Vec<u8>) -> Result<Fed, Failure> {
        let bytes = rest_of(&mut self.inbound);
        match &mut self.state {
            State::Handshake(handshake) => {
                // A part of a record is shown as well: it may be none.
                let whole = record_bytes(bytes.get(handshake.seen..).unwrap_or_default());
                let shown = whole.map_or(bytes.len(), |record| handshake.seen + record);
                let verdict = match bytes.get(..shown) {
                    // Behind a part of a message nothing comes that is early.
                    Some(record) if whole.is_some() && handshake.seen == 0 => handshake.judge(record),
                    _ => Verdict::Show,
                };
                if handshake.bytes > HANDSHAKE_BYTES_MAX && verdict != Verdict::Show {
                    return Err(Failure::OversizedRecord);
                }
                if verdict == Verdict::Drop {
                    return Ok(Fed { consumed: shown, ..Fed::default() });
                }
                if let Some(choices) = &handshake.choices {
                    choices.set_identity_end(handshake.identity_end);
                }
                let fed = handshake.engine.feed(bytes.get_mut(..shown).unwrap_or_default(), flight, plain);
                handshake.overhear(&self.room);
                let mut fed = fed.map_err(|error| handshake.failure(&error))?;
                handshake.may_write |= fed.may_write;
                if verdict == Verdict::Try && fed.consumed == 0 {
                    fed.consumed = shown;
                }
                if whole.is_some() {
                    handshake.seen = shown;
                }
                handshake.seen = handshake.seen.saturating_sub(fed.consumed);
                if handshake.bytes > HANDSHAKE_BYTES_MAX && !fed.established {
                    return Err(Failure::OversizedRecord);
                }
                Ok(fed)
            }
            State::Legacy(engine) => engine.feed(bytes, flight, plain).map_err(|error| Failure::of(&error)),
            State::Records(_) | State::Over => Ok(Fed::default()),
        }
    }

    /// The handshake is over.
    fn establish(&mut self) {
        let mut handshake = match std::mem::replace(&mut self.state, State::Over) {
            State::Handshake(handshake) => *handshake,
            other => {
                self.state = other;
                return;
            }
        };
        let facts = self.facts.take().map_or_else(|| takeover::facts(&mut handshake).map(Box::new), Ok);
        match facts.and_then(|facts| Ok((takeover::take_over(handshake, &facts)?, facts))) {
            Ok((state, facts)) => {
                self.facts = Some(facts);
                self.state = state;
                self.news = Some(News::Established);
                // In 1.2 the client waits for what is left: our Finished.
                if let (State::Records(_), Outbound::Flight { deferred, bytes, sent }) =
                    (&self.state, &mut self.outbound)
                {
                    *deferred = *sent == 0 && bytes.len() <= DEFERRED_BYTES_MAX;
                }
            }
            Err(failure) => self.fail(failure),
        }
        if let Some(inbound) = self.inbound.as_mut() {
            inbound.partial = false;
        }
    }

    /// Whether nothing came that anybody has to read; what the record layer alone is told does not count.
    pub fn is_quiet<S: Stream>(&mut self, socket: &mut Socket<S>) -> bool {
        if !socket.is_readable() && !self.wants_turn(false) {
            // An event may be under way.
            return socket.is_quiet();
        }
        let mut byte = [0];
        matches!(self.read(socket, &mut byte), Read::Nothing)
    }

    fn fail(&mut self, failure: Failure) {
        self.news = Some(if self.is_handshaking() { News::Failed(failure) } else { News::Broken });
        self.state = State::Over;
        self.left = true;
    }

    fn break_off(&mut self, error: io::Error) -> Read {
        if self.is_handshaking() {
            self.fail(Failure::Closed);
        }
        self.state = State::Over;
        self.left = true;
        self.inbound = None;
        Read::Failed(error)
    }
}

impl Handshake {
    /// Takes what rustls told on the way: secrets, and which certificate it chose.
    fn overhear(&mut self, room: &Room) {
        let caught = room.catcher.take_all();
        self.offer.learn(caught.handshake);
        if let Some(secrets) = caught.traffic {
            self.secrets = Some(secrets);
        }
        self.identity_end = self.choices.as_ref().and_then(|choices| choices.take_identity_end());
        match self.choices.as_ref().and_then(|choices| choices.take()) {
            Some(Choice::Served(served)) => self.served = Some(served),
            Some(Choice::Refused) => self.refused = true,
            Some(Choice::Unusable(entry, error)) => {
                log::error!("the certificate {entry:?} was accepted and cannot be served: {error}");
                self.refused = true;
            }
            None => {}
        }
    }

    /// What is to be done with a record of the client.
    fn judge(&mut self, record: &[u8]) -> Verdict {
        let common = self.engine.common();
        let suite = common.negotiated_cipher_suite().and_then(|suite| Suite::try_from(suite.suite()).ok());
        self.offer.judge(record, suite, common.handshake_kind())
    }

    fn failure(&self, error: &rustls::Error) -> Failure {
        log::debug!("TLS handshake: {error}");
        if self.refused { Failure::NoCertificate } else { Failure::of(error) }
    }
}

#[cfg(test)]
mod tests;
