//! Where a log goes: a descriptor that is written to without ever waiting.
//!
//! A descriptor of somebody else's, such as standard output, may be shared with a shell or another service: it is never
//! made non-blocking itself. The main process opens it anew where that can be; where it cannot, each write is asked
//! for beforehand.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use mio::net::TcpStream;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// So many bytes were taken.
    Bytes(usize),
    /// None now.
    Nothing,
    /// The target takes none of these bytes, and others perhaps.
    Refused,
    /// The target is broken: it has to be repaired first.
    Broken,
}

/// See the module.
#[derive(Debug)]
pub enum LogSink {
    /// A regular file, opened to append.
    File(File),
    /// A pipe or a terminal. If `shared`, its description is not our own.
    Pipe {
        /// What is written to.
        file: File,
        /// It may block: it is asked before each write.
        shared: bool,
    },
    /// A connected socket of datagrams.
    Datagrams(OwnedFd),
    /// A stream socket that somebody else connected.
    Stream(OwnedFd),
    /// A TCP connection of our own, which is connected again when it broke.
    Tcp {
        /// Where to.
        address: SocketAddr,
        /// None while it is broken.
        stream: Option<TcpStream>,
    },
}

impl LogSink {
    /// A TCP connection, which is begun with the first write.
    pub fn tcp(address: SocketAddr) -> Self {
        Self::Tcp { address, stream: None }
    }

    /// Whether each write is a datagram.
    pub fn is_of_datagrams(&self) -> bool {
        matches!(self, Self::Datagrams(_))
    }

    /// Whether a long write is as good as several short ones. To a pipe, a long one may be mixed with those of others.
    pub fn takes_any_length(&self) -> bool {
        matches!(self, Self::File(_) | Self::Tcp { .. })
    }

    /// Writes a prefix of these bytes, or a datagram. Never waits.
    pub fn write(&mut self, bytes: &[u8]) -> Written {
        let result = match self {
            Self::File(file) => (&*file).write(bytes),
            Self::Pipe { file, shared } => {
                if *shared && !has_room(file) {
                    return Written::Nothing;
                }
                (&*file).write(bytes)
            }
            Self::Datagrams(socket) | Self::Stream(socket) => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                send(socket.as_raw_fd(), bytes, flags).map_err(io::Error::from)
            }
            Self::Tcp { address, stream } => {
                if stream.is_none() {
                    *stream = TcpStream::connect(*address).ok();
                }
                let Some(connected) = stream else { return Written::Broken };
                let result = connected.write(bytes);
                if let Err(error) = &result
                    && !is_for_now(error)
                {
                    *stream = None;
                    return Written::Broken;
                }
                result
            }
        };
        match result {
            Ok(count) => Written::Bytes(count),
            Err(error) if is_for_now(&error) => Written::Nothing,
            // No space, or nobody to read: others are in no better a position, but each is tried.
            Err(error) if error.kind() == ErrorKind::StorageFull => Written::Broken,
            Err(_) => Written::Refused,
        }
    }
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected)
        || error.raw_os_error() == Some(nix::libc::ENOBUFS)
}

/// Whether a write of a record would not wait. Another process that writes there may take the room in between.
fn has_room(file: &File) -> bool {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(count) => count > 0,
        Err(_) => false,
    }
}
