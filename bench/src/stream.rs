//! The client's end of a connection: plain, or over TLS. Both read and write without waiting.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::{ClientConnection, HandshakeKind};

use crate::failure::{Context, Failure};
use crate::tls;

/// What reading has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// Bytes, though perhaps none of an answer; there may be more.
    Some,
    /// The same, but the socket is drained: more bytes are another event, the end may have come with these.
    Last,
    /// None.
    Nothing,
    /// The proxy's end, in good order.
    End,
}

pub(crate) struct Stream {
    socket: TcpStream,
    tls: Option<Box<Tls>>,
}

struct Tls {
    connection: ClientConnection,
    expected: HandshakeKind,
    /// A full handshake will do, whatever is expected.
    any_kind: bool,
    checked: bool,
    /// close_notify has come (RFC 8446 §6.1): what follows cannot be cut off by anybody else.
    ended: bool,
}

impl Stream {
    /// Begins to connect; `any_kind` is for handshakes that are there for the tickets they bring.
    ///
    /// # Errors
    /// If the kernel refuses at once.
    pub(crate) fn connect(
        target: SocketAddr,
        client: Option<&tls::Client>,
        any_kind: bool,
        registry: &Registry,
        token: Token,
    ) -> Result<Stream, Failure> {
        let mut socket = TcpStream::connect(target).context("connecting to the proxy")?;
        socket.set_nodelay(true)?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        let tls = |client: &tls::Client| -> Result<Box<Tls>, Failure> {
            Ok(Box::new(Tls {
                connection: client.connection()?,
                expected: client.expected(),
                any_kind,
                checked: false,
                ended: false,
            }))
        };
        Ok(Stream { socket, tls: client.map(tls).transpose()? })
    }

    /// Writes as much as is taken; over TLS, that is kept until the handshake is over.
    ///
    /// # Errors
    /// As for a socket that does not wait.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.write(bytes),
            Some(tls) => {
                let count = tls.connection.writer().write(bytes)?;
                self.flush()?;
                Ok(count)
            }
        }
    }

    /// Sends what TLS has to say.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.connection.wants_write() {
            match tls.connection.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if not_now(&error) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads from the socket once, by way of `buffer`, and hands `take` what has come of an answer.
    ///
    /// # Errors
    /// If the connection breaks, the handshake is not what it has to be, or `take` says so.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Came, Failure> {
        let count = loop {
            match self.socket.read(buffer) {
                Ok(count) => break count,
                Err(error) if not_now(&error) => return Ok(Came::Nothing),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("reading an answer"),
            }
        };
        let came = if count < buffer.len() { Came::Last } else { Came::Some };
        let bytes = buffer.get(..count).unwrap_or_default();
        match &mut self.tls {
            None if count == 0 => return Ok(Came::End),
            None => take(bytes)?,
            Some(tls) if count == 0 => {
                return if tls.ended {
                    Ok(Came::End)
                } else {
                    Err(Failure::new("an end without close_notify"))
                };
            }
            Some(tls) => {
                tls.decrypt(bytes, take)?;
                self.flush().context("sending a handshake")?;
            }
        }
        Ok(came)
    }
}

impl Tls {
    fn decrypt(
        &mut self,
        mut bytes: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while !bytes.is_empty() {
            if self.connection.read_tls(&mut bytes)? == 0 {
                return Err(Failure::new("bytes after close_notify"));
            }
            let state = self.connection.process_new_packets().context("TLS")?;
            self.ended = state.peer_has_closed();
            if !self.checked && !self.connection.is_handshaking() {
                tls::check(&self.connection, self.expected, self.any_kind)?;
                self.checked = true;
            }
            let mut left = state.plaintext_bytes_to_read();
            let mut reader = self.connection.reader();
            while left > 0 {
                let plain = reader.fill_buf()?;
                let count = plain.len();
                take(plain)?;
                reader.consume(count);
                left = left.saturating_sub(count);
            }
        }
        Ok(())
    }
}

/// Not a failure: an event will tell when it is worth another try.
pub(crate) fn not_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}
