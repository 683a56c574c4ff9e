//! One side of a session: a socket, and the TLS connection over it if there is one.
//!
//! Whoever reads and writes here need not know which it is, but for two things: what is secured can't pass
//! through a pipe of the kernel, and it needs buffers of its own ([`Read::Thirsty`], [`Write::Thirsty`]).

use super::buffers::Buffer;
use super::secure::{Facts, News, Tls};
use super::socket::Socket;
use super::{Network, Read, Ready, Stream, Token, Write};

/// See the module.
#[derive(Debug)]
pub struct Peer<S> {
    socket: Socket<S>,
    tls: Option<Box<Tls>>,
}

impl<S: Stream> Peer<S> {
    /// A stream that was just accepted: bytes may be there already, so it is watched only once it
    /// has to wait.
    pub fn accepted(stream: S, token: Token) -> Self {
        Self { socket: Socket::accepted(stream, token), tls: None }
    }

    /// A stream that is being connected, and watched. A write finds out whether it stands.
    pub fn connecting(stream: S, token: Token) -> Self {
        Self { socket: Socket::connecting(stream, token), tls: None }
    }

    /// A place for a peer.
    pub fn vacant() -> Self {
        Self { socket: Socket::vacant(), tls: None }
    }

    /// The same, with TLS over it from its first byte on.
    #[must_use]
    pub fn secured(mut self, tls: Box<Tls>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Takes the peer out of its place.
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::vacant())
    }

    /// The name under which events for this stream come.
    pub fn token(&self) -> Token {
        self.socket.token()
    }

    /// Takes in what an event said.
    pub fn note(&mut self, ready: Ready) {
        self.socket.note(ready);
    }

    /// Whether a read may give something, or does something else that is due.
    pub fn is_readable(&self) -> bool {
        self.socket.is_readable()
            || self.tls.as_ref().is_some_and(|tls| tls.wants_turn(self.socket.is_writable()))
    }

    /// Whether a write may take something.
    pub fn is_writable(&self) -> bool {
        self.socket.is_writable()
    }

    /// Whether the peer was seen to be gone in both directions.
    pub fn is_gone(&self) -> bool {
        self.socket.is_gone()
    }

    /// Whether the peer was seen to end its direction (the bytes before may not have been read).
    pub fn is_ending(&self) -> bool {
        self.socket.is_ending() || self.tls.as_ref().is_some_and(|tls| tls.is_ended())
    }

    /// What the TLS connection is, once its handshake is over, or early data was taken.
    pub fn facts(&self) -> Option<&Facts> {
        self.tls.as_ref().and_then(|tls| tls.facts())
    }

    /// Whether it has TLS.
    pub fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether a TLS handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// How the handshake went, told once.
    pub fn take_news(&mut self) -> Option<News> {
        self.tls.as_mut().and_then(|tls| tls.take_news())
    }

    /// Whether it holds a buffer of the pool of TLS records.
    pub fn holds_record(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.holds_record())
    }

    /// Whether bytes were taken from a writer whom a write has not told yet: what they were can't be taken back.
    pub fn has_begun_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_begun_write())
    }

    /// Reads into the buffer's free space; the buffer must not be full.
    pub fn read(&mut self, buffer: &mut Buffer) -> Read {
        let capacity = buffer.capacity();
        let mut space = buffer.space();
        if space.len() < capacity / 4 {
            buffer.compact();
            space = buffer.space();
        }
        let read = match &mut self.tls {
            None => self.socket.read(space),
            Some(tls) => tls.read(&mut self.socket, space),
        };
        if let Read::Bytes(count) = read {
            buffer.filled(count);
        }
        read
    }

    /// What a read of the socket would give, whatever TLS there is; takes nothing.
    pub fn peek_plain(&mut self, into: &mut [u8]) -> Read {
        self.socket.peek(into)
    }

    /// What can be peeked at is not enough: an event will tell of more. False if there will be no more.
    pub fn await_more(&mut self) -> bool {
        self.socket.await_more()
    }

    /// Reads from the socket, whatever TLS there is: what comes before its first byte.
    pub fn read_plain(&mut self, into: &mut [u8]) -> Read {
        self.socket.read(into)
    }

    /// Writes to the socket, whatever TLS there is: what goes before its first byte.
    pub fn write_plain(&mut self, bytes: &[u8]) -> Write {
        self.socket.write(bytes, &[])
    }

    /// Whether data came before the end of a TLS handshake, and nobody has read it.
    pub fn has_early(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_early())
    }

    /// Moves data that came before the end of the handshake, which is under way, into the buffer's free space, as much
    /// as there is room for: whoever reads it so knows that it may have been played back. [`read`](Self::read) gives
    /// it once the handshake is over.
    pub fn take_early(&mut self, buffer: &mut Buffer) -> usize {
        if buffer.space().len() < buffer.capacity() / 4 {
            buffer.compact();
        }
        let count = self.tls.as_mut().map_or(0, |tls| tls.take_early(buffer.space()));
        buffer.filled(count);
        count
    }

    /// Goes on with the handshake, and reads nothing. `Nothing`: it is over, or more has to come.
    pub fn advance(&mut self) -> Read {
        match &mut self.tls {
            None => Read::Nothing,
            Some(tls) => tls.advance(&mut self.socket),
        }
    }

    /// The same for bytes that nobody wants to know: they are not opened.
    pub fn discard(&mut self, buffer: &mut Buffer) -> Read {
        match &mut self.tls {
            None => self.read(buffer),
            Some(tls) => tls.discard(&mut self.socket, buffer.space()),
        }
    }

    /// Writes `first`, then `second`, as far as the socket takes them. After `Nothing` the same bytes have to be
    /// offered again, others may follow them: a secured connection may hold them in a record already.
    pub fn write(&mut self, first: &[u8], second: &[u8]) -> Write {
        match &mut self.tls {
            None => self.socket.write(first, second),
            Some(tls) => tls.write(&mut self.socket, first, second),
        }
    }

    /// Sends what was kept back to go with the next write, which may be long in coming.
    pub fn flush(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.flush(&mut self.socket);
        }
    }

    /// Whether its bytes can pass through a pipe of the kernel.
    pub fn can_splice(&self) -> bool {
        self.tls.is_none()
    }

    /// Moves bytes into an empty pipe, at most `max`.
    pub fn fill(&mut self, pipe: &mut S::Pipe, max: usize) -> Read {
        debug_assert!(self.can_splice(), "records have to be opened");
        self.socket.fill(pipe, max)
    }

    /// Moves bytes out of a pipe that holds `held`.
    pub fn drain(&mut self, pipe: &mut S::Pipe, held: usize) -> Write {
        debug_assert!(self.can_splice(), "records have to be sealed");
        self.socket.drain(pipe, held)
    }

    /// Reads a part of a long body from `source` and seals it at once; see [`Tls::seal_from`]. None if it has to go
    /// another way.
    pub fn seal_from(&mut self, source: &mut Self, max: usize) -> Option<Read> {
        let plain = source.tls.is_none();
        self.tls.as_mut().filter(|_| plain)?.seal_from(&mut source.socket, max)
    }

    /// Bytes that the socket has taken and that the peer's kernel has not acknowledged, if that is known: some of those
    /// that were written, and of those that are [`untold`](Self::untold).
    pub fn unacknowledged(&mut self) -> Option<u64> {
        self.socket.unacknowledged()
    }

    /// Bytes that the socket has taken beside those that writers were told of: of a secured connection, whose records
    /// are told of only once they have gone as a whole.
    pub fn untold(&self) -> u64 {
        self.tls.as_ref().map_or(0, |tls| tls.untold())
    }

    /// Ends our direction; of a secured one, once the farewell has gone ([`owes_farewell`](Self::owes_farewell)).
    pub fn shutdown_write(&mut self) {
        match &mut self.tls {
            None => self.socket.shutdown_write(),
            Some(tls) => tls.shutdown_write(&mut self.socket),
        }
    }

    /// Whether a farewell waits for room in the socket: to close now would make all that was sent look cut. Reads and
    /// [`flush`](Self::flush) send it.
    pub fn owes_farewell(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.owes_farewell())
    }

    /// Tells a TLS peer that what it got is all there is (RFC 8446 §6.1). Needed before a connection is closed
    /// that is not to look cut.
    pub fn farewell(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close_notify(&mut self.socket);
        }
    }

    /// Whether nothing can be read now, not even an end: asks the kernel, since an event may be under way.
    pub fn is_quiet(&mut self) -> bool {
        match &mut self.tls {
            None => self.socket.is_quiet(),
            Some(tls) => tls.is_quiet(&mut self.socket),
        }
    }

    /// Whether everything that came was read. Asks the kernel only if the last read does not tell: what went
    /// through a pipe may have been all there was, or not.
    pub fn is_read_out(&mut self) -> bool {
        match &mut self.tls {
            None => self.socket.is_read_out(),
            Some(tls) => {
                !self.socket.is_readable() && !tls.wants_turn(false) || tls.is_quiet(&mut self.socket)
            }
        }
    }

    /// Makes closing the connection a reset: the peer must not take what it got for the whole.
    pub fn abort(&mut self) {
        self.leave();
        self.socket.abort();
    }

    /// From here on no farewell is sent: the peer must see that this was not the whole.
    pub fn leave(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.leave();
        }
    }

    /// Whether events come for it.
    pub fn is_watched(&self) -> bool {
        self.socket.is_watched()
    }

    /// Sees to it that an event comes when a direction that has to wait becomes ready.
    pub fn watch<N: Network<Stream = S>>(&mut self, net: &mut N) -> std::io::Result<()> {
        self.socket.watch(net)
    }
}
