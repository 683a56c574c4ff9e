//! The only room that speaks to the kernel.
//!
//! [`Network`] and [`Stream`] are what sessions see of it; [`kernel`] implements them on mio, the
//! simulator in memory. [`socket::Socket`] adds what every session needs: remembered readiness, so that a
//! socket is registered once and never re-armed. [`Peer`] adds TLS ([`secure`]), where there is some.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kakehi_command::order::BackendTarget;

pub mod buffers;
pub mod kernel;
pub mod log_sink;
pub mod peer;
pub mod pipes;
pub mod request_id;
pub mod secure;
pub mod shared_memory;
pub mod socket;
mod unacknowledged;

pub use peer::Peer;
pub use pipes::Pipes;
pub use socket::{Read, Write};

/// Names a registered socket in the loop: an index into the worker's token table.
pub type Token = usize;

/// What the poll said of a socket. Edge-triggered: each fact is told once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ready {
    /// Bytes, a connection, an end of stream or an error can be read.
    pub readable: bool,
    /// Bytes can be written, or a connect has ended.
    pub writable: bool,
    /// The peer will send nothing more: a read must go on until it says so, even after a short one.
    pub read_closed: bool,
    /// Both directions are over (reset, or an error): what is written is read by nobody.
    pub gone: bool,
}

/// A byte stream to one peer. All calls return at once.
pub trait Stream {
    /// Holds bytes on their way from one stream to another, which are never copied to us.
    type Pipe;

    /// Reads into `into`; 0 is the end of the stream.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// Writes a prefix of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Writes a prefix of `first` followed by `second`, in one system call.
    fn write_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize>;
    /// Ends our direction; the peer's goes on.
    fn shutdown_write(&mut self) -> io::Result<()>;
    /// What a read would give; takes nothing.
    fn peek(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// Whether nothing at all can be read: no byte, no end, no error. Takes nothing.
    fn is_quiet(&mut self) -> bool;
    /// Makes closing the stream a reset instead of an orderly end.
    fn abort(&mut self);
    /// Moves at most `max` bytes into an empty pipe; 0 is the end of the stream. Fewer than `max` does not
    /// mean that no more are there.
    fn fill(&mut self, pipe: &mut Self::Pipe, max: usize) -> io::Result<usize>;
    /// Moves at most `max` bytes out of a pipe that holds as many.
    fn drain(&mut self, pipe: &mut Self::Pipe, max: usize) -> io::Result<usize>;
    /// Bytes that were written and that the peer's kernel has not acknowledged; also after a reset. `None` if
    /// that cannot be told, as of Unix sockets.
    fn unacknowledged(&mut self) -> Option<u64>;
}

/// Where streams come from.
pub trait Network {
    /// Connected, or connecting.
    type Stream: Stream;
    /// A listening socket.
    type Listener;

    /// Starts a connection and watches it as `token`. `Ok` says that it has started, not that it
    /// stands: the first write tells. One to a Unix socket stands.
    ///
    /// # Errors
    /// The kernel refuses at once; `WouldBlock`: as many wait at the Unix socket as may (connect(2), EAGAIN).
    fn connect(&mut self, to: &BackendTarget, token: Token) -> io::Result<Self::Stream>;
    /// Reports the stream's readiness as `token` from now on; what is ready already is reported too.
    fn watch(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()>;
    /// Reports waiting connections as `token`.
    fn watch_listener(&mut self, listener: &mut Self::Listener, token: Token) -> io::Result<()>;
    /// Ends what [`watch_listener`](Self::watch_listener) began. Needed before a listener is closed:
    /// main holds the same socket, so that the kernel would go on reporting it. Streams, which nobody
    /// else holds, need no such call.
    fn unwatch_listener(&mut self, listener: &mut Self::Listener);
    /// A pipe that holds about this many bytes, or as many as the kernel allows.
    fn pipe(&mut self, bytes: usize) -> io::Result<<Self::Stream as Stream>::Pipe>;
    /// Takes the next waiting connection.
    fn accept(&mut self, listener: &mut Self::Listener) -> io::Result<(Self::Stream, SocketAddr)>;
    /// How long ago this was, by the clock and not by the turn's time.
    fn elapsed(&self, since: Instant) -> Duration;
}
