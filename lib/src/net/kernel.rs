//! Sockets of the kernel, through mio.

use std::io::{self, IoSlice, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use kakehi_command::order::{BackendTarget, UnixPath};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::libc::{c_int, linger};
use nix::sys::socket::sockopt::{Linger, TcpNoDelay};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::unistd::pipe2;

use super::unacknowledged::unacknowledged;
use super::{Network, Ready, Stream, Token};

/// A pipe of the kernel: its reading and its writing end.
#[derive(Debug)]
pub struct KernelPipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// Nothing of this may wait: not for the pipe, and the sockets are non-blocking by themselves.
const SPLICE: SpliceFFlags = SpliceFFlags::SPLICE_F_NONBLOCK.union(SpliceFFlags::SPLICE_F_MOVE);

/// A connection of the kernel, over TCP or to a Unix socket.
///
/// What sessions do with either are the same system calls on a descriptor, so that both are held as mio's
/// `TcpStream`, and no call has to look which it is but for what only TCP can tell.
#[derive(Debug)]
pub struct KernelStream {
    socket: TcpStream,
    is_unix: bool,
}

impl KernelStream {
    fn tcp(socket: TcpStream) -> Self {
        Self { socket, is_unix: false }
    }

    fn unix(socket: OwnedFd) -> Self {
        Self { socket: TcpStream::from_std(std::net::TcpStream::from(socket)), is_unix: true }
    }
}

impl Stream for KernelStream {
    type Pipe = KernelPipe;

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut self.socket, into)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut self.socket, bytes)
    }

    fn write_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        self.socket.write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    fn peek(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.peek(into)
    }

    fn is_quiet(&mut self) -> bool {
        matches!(self.socket.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn abort(&mut self) {
        // tcp(7), SO_LINGER with no time: close(2) throws away what was not sent and resets. Unix sockets have no
        // reset; the option does nothing there.
        if let Err(error) = setsockopt(&self.socket, Linger, &linger { l_onoff: 1, l_linger: 0 }) {
            log::debug!("SO_LINGER: {error}");
        }
    }

    fn fill(&mut self, pipe: &mut KernelPipe, max: usize) -> io::Result<usize> {
        Ok(splice(&self.socket, None, &pipe.writer, None, max, SPLICE)?)
    }

    fn drain(&mut self, pipe: &mut KernelPipe, max: usize) -> io::Result<usize> {
        Ok(splice(&pipe.reader, None, &self.socket, None, max, SPLICE)?)
    }

    fn unacknowledged(&mut self) -> Option<u64> {
        // Of a Unix socket the kernel tells the memory that waits for its peer, which is more than the bytes, and
        // none of it once the peer has closed, read or not (unix(7), SIOCOUTQ).
        if self.is_unix { None } else { unacknowledged(&self.socket) }
    }
}

/// The kernel's stream sockets, registered with one poll.
#[derive(Debug)]
pub struct Kernel {
    registry: Registry,
}

impl Kernel {
    /// Sockets made here report to the poll behind `registry`.
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }
}

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

impl Network for Kernel {
    type Stream = KernelStream;
    type Listener = TcpListener;

    fn connect(&mut self, to: &BackendTarget, token: Token) -> io::Result<KernelStream> {
        let mut stream = match to {
            BackendTarget::Tcp(address) => {
                let socket = TcpStream::connect(*address)?;
                set_nodelay(&socket);
                KernelStream::tcp(socket)
            }
            BackendTarget::Unix(path) => KernelStream::unix(connect_unix(path)?),
        };
        self.registry.register(&mut stream.socket, mio::Token(token), BOTH)?;
        Ok(stream)
    }

    fn watch(&mut self, stream: &mut KernelStream, token: Token) -> io::Result<()> {
        self.registry.register(&mut stream.socket, mio::Token(token), BOTH)
    }

    fn watch_listener(&mut self, listener: &mut TcpListener, token: Token) -> io::Result<()> {
        self.registry.register(listener, mio::Token(token), Interest::READABLE)
    }

    fn unwatch_listener(&mut self, listener: &mut TcpListener) {
        if let Err(error) = self.registry.deregister(listener) {
            log::warn!("a listening socket stays in the poll: {error}");
        }
    }

    fn pipe(&mut self, bytes: usize) -> io::Result<KernelPipe> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let wanted = c_int::try_from(bytes).unwrap_or(c_int::MAX);
        // What unprivileged users may have together is limited (pipe(7)): a smaller one works as well.
        if let Err(error) = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(wanted)) {
            log::debug!("F_SETPIPE_SZ: {error}");
        }
        Ok(KernelPipe { reader, writer })
    }

    fn accept(&mut self, listener: &mut TcpListener) -> io::Result<(KernelStream, SocketAddr)> {
        let (socket, address) = listener.accept()?;
        Ok((KernelStream::tcp(socket), address))
    }

    fn elapsed(&self, since: Instant) -> Duration {
        since.elapsed()
    }
}

/// Connects to a Unix socket, at once or not at all: there is nobody far away to wait for.
fn connect_unix(path: &UnixPath) -> io::Result<OwnedFd> {
    let address = match path.abstract_name() {
        None => UnixAddr::new(path.as_str())?,
        Some(name) => UnixAddr::new_abstract(name.as_bytes())?,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

/// Small writes leave at once. A socket that refuses the option still works, only later.
fn set_nodelay(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        log::debug!("TCP_NODELAY: {error}");
    }
}

/// A listening socket as main hands it over: bound, listening, non-blocking. What is accepted from it has
/// its options: small writes leave at once, without a call for each connection.
pub fn adopt_listener(fd: OwnedFd) -> TcpListener {
    if let Err(error) = setsockopt(&fd, TcpNoDelay, &true) {
        log::debug!("TCP_NODELAY: {error}");
    }
    TcpListener::from_std(std::net::TcpListener::from(fd))
}

/// What mio's event says, in our words.
pub fn readiness(event: &mio::event::Event) -> Ready {
    Ready {
        readable: event.is_readable(),
        writable: event.is_writable(),
        read_closed: event.is_read_closed(),
        gone: event.is_error() || event.is_write_closed(),
    }
}

/// Takes what waits on a refused connection, so that closing it does not reset the refusal away.
pub fn swallow(stream: &mut impl Stream, scratch: &mut [u8]) {
    // Nothing there, or broken: both are fine, the connection ends anyway.
    let _ = stream.read(scratch);
}

#[cfg(test)]
mod tests;
