//! Where a log goes, as configured, and opening that.
//!
//! What is opened never makes its writer wait. Standard output belongs to somebody else, too: it is opened anew, by way of
//! /proc, so that what is set for us is not set for a shell; where that is denied, it is asked before each write.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use kakehi_command::proto::supervision::LogTarget as Wire;
use kakehi_command::proto::supervision::log_target::Kind;
use kakehi_lib::net::log_sink::LogSink;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::{SFlag, fstat};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file, appended to; or a FIFO that somebody reads.
    File(PathBuf),
    /// Datagrams of UDP, one a line.
    Udp(SocketAddr),
    /// A TCP connection of each process.
    Tcp(SocketAddr),
    /// Datagrams to a Unix socket, one a line.
    Unix(PathBuf),
}

/// What was opened.
#[derive(Debug)]
pub(crate) enum Opened {
    /// A descriptor of this kind.
    Descriptor(Kind, OwnedFd),
    /// To be connected to by each process itself.
    Tcp(SocketAddr),
}

impl LogTarget {
    /// Reads `stdout`, `file://PATH`, `udp://IP:PORT`, `tcp://IP:PORT` or `unix://PATH`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let refused = || {
            format!("{text:?} is not one of stdout, file://PATH, udp://IP:PORT, tcp://IP:PORT, unix://PATH")
        };
        let address = |text: &str| text.parse().map_err(|_| refused());
        match text.split_once("://") {
            None if text == "stdout" => Ok(Self::Stdout),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("udp", to)) => Ok(Self::Udp(address(to)?)),
            Some(("tcp", to)) => Ok(Self::Tcp(address(to)?)),
            _ => Err(refused()),
        }
    }

    /// Opens it. Nothing waits: a FIFO without a reader is an error, and a TCP connection is made later.
    pub(crate) fn open(&self) -> Result<Opened, String> {
        self.try_open().map_err(|error| format!("cannot open {self}: {error}"))
    }

    fn try_open(&self) -> io::Result<Opened> {
        match self {
            Self::Stdout => stdout(),
            Self::File(path) => {
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                    .open(path)?;
                let kind = if is(&file, SFlag::S_IFREG)? { Kind::File } else { Kind::Pipe };
                Ok(Opened::Descriptor(kind, file.into()))
            }
            Self::Udp(to) => {
                let any = match to {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(to)?;
                Ok(Opened::Descriptor(Kind::Datagrams, socket.into()))
            }
            Self::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Opened::Descriptor(Kind::Datagrams, socket.into()))
            }
            Self::Tcp(to) => Ok(Opened::Tcp(*to)),
        }
    }
}

impl std::fmt::Display for LogTarget {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => formatter.write_str("stdout"),
            Self::File(path) => write!(formatter, "file://{}", path.display()),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Udp(to) => write!(formatter, "udp://{to}"),
            Self::Tcp(to) => write!(formatter, "tcp://{to}"),
        }
    }
}

fn is(file: impl AsFd, kind: SFlag) -> io::Result<bool> {
    Ok(SFlag::from_bits_truncate(fstat(file)?.st_mode) & SFlag::S_IFMT == kind)
}

fn stdout() -> io::Result<Opened> {
    let own = io::stdout();
    let own = own.as_fd();
    if is(own, SFlag::S_IFSOCK)? {
        let kind = match getsockopt(&own, sockopt::SockType)? {
            SockType::Stream => Kind::Stream,
            _ => Kind::Datagrams,
        };
        return Ok(Opened::Descriptor(kind, own.try_clone_to_owned()?));
    }
    if is(own, SFlag::S_IFREG)? {
        // Several processes write there, and not all by way of this: each write has to go to the end. Whoever shares it
        // with us has only good of that.
        let flags = OFlag::from_bits_truncate(fcntl(own, FcntlArg::F_GETFL)?);
        fcntl(own, FcntlArg::F_SETFL(flags | OFlag::O_APPEND))?;
        return Ok(Opened::Descriptor(Kind::File, own.try_clone_to_owned()?));
    }
    let anew = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open("/proc/self/fd/1");
    Ok(match anew {
        Ok(file) => Opened::Descriptor(Kind::Pipe, file.into()),
        Err(_) => Opened::Descriptor(Kind::SharedPipe, own.try_clone_to_owned()?),
    })
}

impl Opened {
    /// For another process.
    pub(crate) fn into_wire(self) -> (Wire, Option<OwnedFd>) {
        match self {
            Self::Descriptor(kind, fd) => (Wire { kind: kind.into(), address: None }, Some(fd)),
            Self::Tcp(to) => (Wire { kind: Kind::Tcp.into(), address: Some(to.to_string()) }, None),
        }
    }

    /// To write to.
    pub(crate) fn into_sink(self) -> LogSink {
        match self {
            Self::Tcp(to) => LogSink::tcp(to),
            Self::Descriptor(Kind::File, fd) => LogSink::File(File::from(fd)),
            Self::Descriptor(Kind::Pipe, fd) => LogSink::Pipe { file: File::from(fd), shared: false },
            Self::Descriptor(Kind::SharedPipe, fd) => LogSink::Pipe { file: File::from(fd), shared: true },
            Self::Descriptor(Kind::Datagrams, fd) => LogSink::Datagrams(fd),
            Self::Descriptor(Kind::Stream | Kind::Tcp, fd) => LogSink::Stream(fd),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for text in
            ["stdout", "file:///var/log/k.log", "udp://127.0.0.1:514", "tcp://[::1]:514", "unix:///dev/log"]
        {
            assert_eq!(LogTarget::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["", "stderr", "file://", "unix://", "udp://localhost:514", "tcp://127.0.0.1", "/var/log/k"]
        {
            assert!(LogTarget::parse(text).is_err(), "{text:?}");
        }
    }
}
