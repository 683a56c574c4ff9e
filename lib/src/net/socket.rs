//! A stream with its remembered readiness.
//!
//! Sockets are registered once, for both directions, edge-triggered. A flag is set by an event and
//! cleared by the call that finds nothing more to do, so that no call is made that would only say
//! "try again" (one avoidable system call is 2-3% of a request).

use std::io;

use super::{Network, Ready, Stream, Token};

/// What a read gave.
#[derive(Debug)]
pub enum Read {
    /// This many bytes came, at least one.
    Bytes(usize),
    /// Nothing now; an event will tell.
    Nothing,
    /// A buffer for a TLS record is wanted, and none is free.
    Thirsty,
    /// The peer has ended its direction.
    End,
    /// The connection is broken.
    Failed(io::Error),
}

/// What a write gave.
#[derive(Debug)]
pub enum Write {
    /// This many bytes were taken.
    Bytes(usize),
    /// Nothing now; an event will tell.
    Nothing,
    /// A buffer for a TLS record is wanted, and none is free.
    Thirsty,
    /// The connection is broken, or could not be made.
    Failed(io::Error),
}

/// A stream and what is known of it.
#[derive(Debug)]
pub struct Socket<S> {
    /// None in a place that a peer was taken from.
    stream: Option<S>,
    token: Token,
    readable: bool,
    writable: bool,
    /// The peer has ended its direction or is gone: reads go on until they say so.
    ending: bool,
    gone: bool,
    watched: bool,
}

impl<S: Stream> Socket<S> {
    /// A stream that was just accepted: bytes may be there already, so it is watched only once it
    /// has to wait.
    pub fn accepted(stream: S, token: Token) -> Self {
        Self {
            stream: Some(stream),
            token,
            readable: true,
            writable: true,
            ending: false,
            gone: false,
            watched: false,
        }
    }

    /// A stream that is being connected, and watched. A write finds out whether it stands.
    pub fn connecting(stream: S, token: Token) -> Self {
        Self {
            stream: Some(stream),
            token,
            readable: false,
            writable: true,
            ending: false,
            gone: false,
            watched: true,
        }
    }

    /// A place for a peer.
    pub fn vacant() -> Self {
        Self {
            stream: None,
            token: Token::MAX,
            readable: false,
            writable: false,
            ending: false,
            gone: false,
            watched: false,
        }
    }

    /// Takes the peer out of its place.
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::vacant())
    }

    /// The name under which events for this stream come.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Takes in what an event said.
    pub fn note(&mut self, ready: Ready) {
        self.readable |= ready.readable || ready.read_closed || ready.gone;
        self.writable |= ready.writable || ready.gone;
        self.ending |= ready.read_closed || ready.gone;
        self.gone |= ready.gone;
    }

    /// Whether a read may give something.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether a write may take something.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether the peer was seen to be gone in both directions.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether the peer was seen to end its direction (the bytes before may not have been read).
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// Reads into `space`, which must not be empty.
    pub fn read(&mut self, space: &mut [u8]) -> Read {
        let room = space.len();
        debug_assert!(room > 0, "a read needs room, else its 0 looks like the end");
        if room == 0 {
            return Read::Nothing;
        }
        let read = self.take_in(|stream| stream.read(space));
        // A short read has drained the socket, unless its end is waiting behind the bytes: both came as one
        // edge, and no other event will tell.
        if matches!(read, Read::Bytes(count) if count < room) && !self.ending {
            self.readable = false;
        }
        read
    }

    /// What a read would give, and takes nothing. Whoever wants more than there is says so
    /// ([`await_more`](Self::await_more)).
    pub fn peek(&mut self, into: &mut [u8]) -> Read {
        self.take_in(|stream| stream.peek(into))
    }

    /// What is there is not enough: the next edge tells of more. False if there will be no more.
    pub fn await_more(&mut self) -> bool {
        self.readable = self.ending;
        !self.ending
    }

    /// Writes `first`, then `second`, as far as the socket takes them.
    pub fn write(&mut self, first: &[u8], second: &[u8]) -> Write {
        let written = self.put_out(|stream| match (first.is_empty(), second.is_empty()) {
            (false, false) => stream.write_pair(first, second),
            (true, _) => stream.write(second),
            (_, true) => stream.write(first),
        });
        if matches!(written, Write::Bytes(count) if count < first.len() + second.len()) {
            self.writable = false;
        }
        written
    }

    /// Moves bytes into an empty pipe, at most `max`.
    pub fn fill(&mut self, pipe: &mut S::Pipe, max: usize) -> Read {
        debug_assert!(max > 0, "a read needs room, else its 0 looks like the end");
        if max == 0 {
            return Read::Nothing;
        }
        // Fewer than `max` says little: a pipe is full by pieces as well as by bytes.
        self.take_in(|stream| stream.fill(pipe, max))
    }

    /// Moves bytes out of a pipe that holds `held`.
    pub fn drain(&mut self, pipe: &mut S::Pipe, held: usize) -> Write {
        // Short or not: only an error tells that the socket has no room.
        self.put_out(|stream| stream.drain(pipe, held))
    }

    /// What one call brings that takes bytes from the socket, with room for some.
    #[inline]
    fn take_in(&mut self, mut call: impl FnMut(&mut S) -> io::Result<usize>) -> Read {
        if !self.readable {
            return Read::Nothing;
        }
        let Some(stream) = &mut self.stream else { return Read::End };
        loop {
            let read = match call(stream) {
                Ok(0) => Read::End,
                Ok(count) => return Read::Bytes(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Read::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Read::Failed(error),
            };
            self.readable = false;
            return read;
        }
    }

    /// How one call goes that gives bytes to the socket.
    #[inline]
    fn put_out(&mut self, mut call: impl FnMut(&mut S) -> io::Result<usize>) -> Write {
        if !self.writable {
            return Write::Nothing;
        }
        let Some(stream) = &mut self.stream else { return Write::Nothing };
        loop {
            let written = match call(stream) {
                // There was something to write: who takes none of it would be asked for ever.
                Ok(0) => return Write::Failed(io::ErrorKind::WriteZero.into()),
                Ok(count) => return Write::Bytes(count),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    Write::Nothing
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Write::Failed(error),
            };
            self.writable = false;
            return written;
        }
    }

    /// Bytes that were written and that the peer's kernel has not acknowledged, if that is known.
    pub fn unacknowledged(&mut self) -> Option<u64> {
        self.stream.as_mut()?.unacknowledged()
    }

    /// Ends our direction.
    pub fn shutdown_write(&mut self) {
        // A peer that is gone already needs no farewell.
        let _ = self.stream.as_mut().map(Stream::shutdown_write);
    }

    /// Whether nothing can be read now, not even an end: asks the kernel, since an event may be under way.
    pub fn is_quiet(&mut self) -> bool {
        self.stream.as_mut().is_some_and(Stream::is_quiet)
    }

    /// Whether everything that came was read. Asks the kernel only if the last read does not tell: what went
    /// through a pipe may have been all there was, or not.
    pub fn is_read_out(&mut self) -> bool {
        if self.readable && !self.ending && self.is_quiet() {
            self.readable = false;
        }
        !self.readable
    }

    /// Makes closing the connection a reset: the peer must not take what it got for the whole.
    pub fn abort(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.abort();
        }
    }

    /// Whether events come for it.
    pub fn is_watched(&self) -> bool {
        self.watched
    }

    /// Sees to it that an event comes when a direction that has to wait becomes ready.
    pub fn watch<N: Network<Stream = S>>(&mut self, net: &mut N) -> io::Result<()> {
        if self.watched || (self.readable && self.writable) {
            return Ok(());
        }
        let Some(stream) = &mut self.stream else { return Ok(()) };
        net.watch(stream, self.token)?;
        self.watched = true;
        Ok(())
    }
}
