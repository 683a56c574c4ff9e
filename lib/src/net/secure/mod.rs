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

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{CipherSuite, ClientConfig, ProtocolVersion, ServerConfig};

use self::engine::{Engine, Fed};
use self::inbound::{Inbound, open_records, record_bytes, rest_of};
use self::room::{Held, LONG_BYTES, PLAIN_BYTES_MAX, RECORD_BYTES_MAX};
use super::socket::Socket;
use super::{Read, Stream, Write};
use crate::protocol::tls_record::{RecordLayer, Violation};
use crate::tls::failure::Failure;
use crate::tls::resolver::{Choice, Choices, Served};
use crate::tls::secrets::TrafficSecrets;

mod engine;
mod inbound;
mod room;
mod takeover;

pub use room::{Crowded, Permit, Room};

/// Above this what waits to be sent goes alone instead of before a record in the same buffer.
const DEFERRED_BYTES_MAX: usize = 4096;

/// Bytes that a peer may send within a handshake, all flights together: a certificate chain of a client is what is
/// long. Also the bound of what rustls holds of them.
const HANDSHAKE_BYTES_MAX: usize = 128 * 1024;

/// What is known of a connection once its handshake is over.
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
    facts: Option<Box<Facts>>,
    news: Option<News>,
    /// The peer said that it sends no more.
    ended: bool,
    /// Our farewell was sent, or none may be.
    left: bool,
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
    served: Option<Served>,
    /// There is no certificate for the client.
    refused: bool,
    secrets: Option<TrafficSecrets>,
    bytes: usize,
    /// Of what was not consumed rustls has seen so many bytes: the beginning of a message.
    seen: usize,
    /// Counts it, while it is under way.
    _permit: Option<Permit>,
}

/// What is to be sent before anything else.
#[derive(Debug)]
enum Outbound {
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
enum Sent {
    All,
    Blocked,
    Failed(io::Error),
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
            choices,
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
            facts: None,
            news: None,
            ended: false,
            left: false,
        })
    }

    /// What is known of the connection; nothing before the handshake is over.
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

    /// Whether a read gives something, or gets something on its way, without a word from the socket but that it
    /// takes bytes.
    pub fn wants_turn(&self, writable: bool) -> bool {
        let unread = self.inbound.as_ref().is_some_and(Inbound::has_unread);
        let due = matches!(self.outbound, Outbound::Flight { deferred: false, .. });
        unread || (due && writable)
    }

    /// Reads what the peer sent into `into`, which must not be empty.
    pub fn read<S: Stream>(&mut self, socket: &mut Socket<S>, into: &mut [u8]) -> Read {
        if matches!(self.outbound, Outbound::Flight { deferred: false, .. })
            && let Sent::Failed(error) = self.send_flight(socket)
        {
            return self.break_off(error);
        }
        loop {
            if let Some(count) = self.deliver(into) {
                return Read::Bytes(count);
            }
            if self.ended {
                return Read::End;
            }
            if let Err(failed) = self.open(socket) {
                return failed;
            }
            // Or a handshake is over, and what is behind it has not been looked at.
            if self.ended || self.inbound.as_ref().is_some_and(Inbound::has_unread) {
                continue;
            }
            match self.receive(socket) {
                Read::Bytes(_) => {}
                Read::End => {
                    // What was whole was read; but nobody said that this was all (RFC 8446 §6.1).
                    return if self.is_handshaking() {
                        self.fail(Failure::Closed);
                        Read::End
                    } else {
                        self.break_off(io::ErrorKind::UnexpectedEof.into())
                    };
                }
                Read::Nothing => {
                    self.inbound.take_if(|inbound| inbound.records.is_empty());
                    return Read::Nothing;
                }
                other => return other,
            }
        }
    }

    /// Hands out what was opened.
    fn deliver(&mut self, into: &mut [u8]) -> Option<usize> {
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
        let fed = self.feed_into(&mut flight, &mut plain);
        if !flight.is_empty() {
            self.queue(&flight);
        }
        let mut moved = false;
        match fed {
            Ok(fed) => {
                moved = before > 0 && (fed.consumed > 0 || seen(self) > seen_before);
                if let Some(inbound) = self.inbound.as_mut() {
                    inbound.took(fed.consumed, &plain);
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

    fn feed_into(&mut self, flight: &mut Vec<u8>, plain: &mut Vec<u8>) -> Result<Fed, Failure> {
        let bytes = rest_of(&mut self.inbound);
        match &mut self.state {
            State::Handshake(handshake) => {
                // A part of a record is shown as well: it may be none.
                let whole = record_bytes(bytes.get(handshake.seen..).unwrap_or_default());
                let shown = whole.map_or(bytes.len(), |record| handshake.seen + record);
                let fed = handshake.engine.feed(bytes.get_mut(..shown).unwrap_or_default(), flight, plain);
                handshake.overhear(&self.room);
                let fed = fed.map_err(|error| handshake.failure(&error))?;
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

    /// What rustls wants sent. Once the handshake is over it may wait for the next write.
    fn queue(&mut self, flight: &[u8]) {
        match &mut self.outbound {
            Outbound::Flight { bytes, .. } => bytes.extend_from_slice(flight),
            Outbound::Nothing => {
                self.outbound = Outbound::Flight { bytes: flight.to_vec(), sent: 0, deferred: false };
            }
            // TLS 1.2 only, where nothing but refusals of a renegotiation comes here: they have no claim to be sent.
            Outbound::Record { .. } => {}
        }
    }

    /// The handshake is over.
    fn establish(&mut self) {
        let handshake = match std::mem::replace(&mut self.state, State::Over) {
            State::Handshake(handshake) => *handshake,
            other => {
                self.state = other;
                return;
            }
        };
        match takeover::take_over(handshake) {
            Ok((facts, state)) => {
                self.facts = Some(Box::new(facts));
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

    /// Writes `first`, then `second`; see the module for what is told.
    pub fn write<S: Stream>(&mut self, socket: &mut Socket<S>, first: &[u8], second: &[u8]) -> Write {
        if let Outbound::Record { .. } = self.outbound {
            return self.finish_record(socket);
        }
        match &self.state {
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
            State::Handshake(_) | State::Over => None,
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
        match send(socket, held, sent, *end) {
            Sent::All => {
                let taken = *taken;
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
        if owes && matches!(self.outbound, Outbound::Nothing) {
            let _ = self.write(socket, &[], &[]);
        }
    }

    fn send_flight_unless_deferred<S: Stream>(&mut self, socket: &mut Socket<S>) -> Sent {
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
        let went = send(socket, bytes, sent, end);
        if let Sent::All = went {
            self.outbound = Outbound::Nothing;
        }
        went
    }

    /// Says that we send no more, once, as far as the socket takes it.
    pub fn close_notify<S: Stream>(&mut self, socket: &mut Socket<S>) {
        self.last_words(socket, |state, rest, words| match state {
            State::Records(layer) => {
                let mut alert = [0; ALERT_BYTES_MAX];
                let count = layer.close_notify(&mut alert);
                words.extend_from_slice(alert.get(..count).unwrap_or_default());
            }
            State::Legacy(engine) => engine.close(rest, words),
            State::Handshake(_) | State::Over => {}
        });
    }

    /// Tells the peer what it did wrong.
    fn alert<S: Stream>(&mut self, violation: &Violation, socket: &mut Socket<S>) {
        self.last_words(socket, |state, _, words| {
            if let State::Records(layer) = state {
                let mut alert = [0; ALERT_BYTES_MAX];
                let count = layer.alert(violation, &mut alert);
                words.extend_from_slice(alert.get(..count).unwrap_or_default());
            }
        });
    }

    /// Says one last thing, behind what waits for a write that does not come any more: session tickets, above all. Not
    /// behind a record that the socket does not take.
    fn last_words<S: Stream>(
        &mut self,
        socket: &mut Socket<S>,
        say: impl FnOnce(&mut State, &mut [u8], &mut Vec<u8>),
    ) {
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        let mut words = match std::mem::replace(&mut self.outbound, Outbound::Nothing) {
            Outbound::Nothing => Vec::new(),
            Outbound::Flight { mut bytes, sent, .. } => bytes.split_off(sent.min(bytes.len())),
            record @ Outbound::Record { .. } => {
                self.outbound = record;
                return;
            }
        };
        say(&mut self.state, rest_of(&mut self.inbound), &mut words);
        if !words.is_empty() {
            let _ = socket.write(&words, &[]);
        }
    }

    /// No farewell is to be sent any more.
    pub fn leave(&mut self) {
        self.left = true;
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

/// An alert record: header, two bytes, the content type, the tag.
const ALERT_BYTES_MAX: usize = 64;

/// Seals what fits of `first`, or else of `second`, in a record behind the first `end` bytes of `held`.
fn seal_legacy(
    engine: &mut Engine,
    rest: &mut [u8],
    room: &Room,
    first: &[u8],
    second: &[u8],
    held: &mut Held,
    end: usize,
) -> Option<(usize, usize)> {
    let all = if first.is_empty() { second } else { first };
    let most = RECORD_BYTES_MAX.saturating_sub(end + LEGACY_OVERHEAD_MAX);
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

/// What a record of TLS 1.2 has besides its bytes: header, explicit nonce and tag, for two records.
const LEGACY_OVERHEAD_MAX: usize = 2 * (5 + 8 + 16);

/// Sends `bytes` up to `end`, from `sent` on.
fn send<S: Stream>(socket: &mut Socket<S>, bytes: &[u8], sent: &mut usize, end: usize) -> Sent {
    while *sent < end {
        match socket.write(bytes.get(*sent..end).unwrap_or_default(), &[]) {
            Write::Bytes(count) => *sent += count,
            Write::Nothing | Write::Thirsty => return Sent::Blocked,
            Write::Failed(error) => return Sent::Failed(error),
        }
    }
    Sent::All
}

impl Handshake {
    /// Takes what rustls told on the way: secrets, and which certificate it chose.
    fn overhear(&mut self, room: &Room) {
        if let Some(secrets) = room.catcher.take() {
            self.secrets = Some(secrets);
        }
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

    fn failure(&self, error: &rustls::Error) -> Failure {
        log::debug!("TLS handshake: {error}");
        if self.refused { Failure::NoCertificate } else { Failure::of(error) }
    }
}

#[cfg(test)]
mod tests;
