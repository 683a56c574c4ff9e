//! One client connection to the proxy.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

use super::connection::Connection;
use super::message::{Framing, ReadError, Response, ResponseHead};
use crate::deadline::PATIENCE;

/// A client that sends what it is told, byte for byte, and reads responses strictly.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
}

/// One `GET` on a connection of its own, closed afterwards.
///
/// # Panics
/// If no complete response comes.
pub fn get(address: SocketAddr, host: &str, path: &str) -> Response {
    Client::connect(address).get(host, path)
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("connecting to {address}: {error}"))
    }

    /// Connects.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub fn try_connect(address: SocketAddr) -> Result<Self, ReadError> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(ReadError::Io)?;
        Self::over(stream).map_err(ReadError::Io)
    }

    /// Connects from an address of ours: all of 127.0.0.0/8 is.
    ///
    /// # Panics
    /// If nobody listens, or an address is not ours or not of IPv4.
    pub fn connect_from(source: Ipv4Addr, address: SocketAddr) -> Self {
        let SocketAddr::V4(address) = address else { panic!("{address} is not of IPv4") };
        let socket =
            socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source, 0)))
            .unwrap_or_else(|error| panic!("binding to {source}: {error}"));
        connect(socket.as_raw_fd(), &SockaddrIn::from(address))
            .unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
        Self::over(TcpStream::from(socket)).expect("options of a fresh socket")
    }

    /// A client over a socket that is connected already, or a second handle of one.
    ///
    /// # Errors
    /// If its options cannot be set.
    pub fn over(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { connection: Connection::new(stream) })
    }

    /// The socket, for options and for reading or writing past this client.
    pub fn stream(&self) -> &TcpStream {
        &self.connection.stream
    }

    /// Our address, as the proxy should see it.
    pub fn local_address(&self) -> SocketAddr {
        self.connection.stream.local_addr().expect("a connected socket has an address")
    }

    /// Changes how long a response is awaited.
    pub fn set_patience(&mut self, patience: Duration) {
        self.connection.stream.set_read_timeout(Some(patience)).expect("a non-zero time-out");
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).unwrap_or_else(|error| panic!("sending: {error}"));
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub fn try_send(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.connection.write(bytes)
    }

    /// Says that nothing more will be sent, and stays open for reading.
    pub fn finish_sending(&mut self) {
        self.connection.stream.shutdown(Shutdown::Write).expect("a connected socket can be half closed");
    }

    /// Sends a `GET` and reads its response.
    ///
    /// # Panics
    /// If no complete response comes.
    pub fn get(&mut self, host: &str, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.response("GET")
    }

    /// The response to a request of the given method.
    ///
    /// # Panics
    /// If no complete response comes.
    pub fn response(&mut self, method: &str) -> Response {
        self.try_response(method).unwrap_or_else(|error| panic!("no response to {method}: {error}"))
    }

    /// The response to a request of the given method.
    ///
    /// # Errors
    /// If no complete and well-formed response comes.
    pub fn try_response(&mut self, method: &str) -> Result<Response, ReadError> {
        let mut body = Vec::new();
        let (head, framing) = self.try_head(method)?;
        let trailers = self.connection.body(framing, |piece| body.extend_from_slice(piece))?;
        Ok(Response { head, body, trailers, framing })
    }

    /// Only the final head; the body is left to [`Client::stream_body`].
    ///
    /// # Errors
    /// If no well-formed head comes.
    pub fn try_head(&mut self, method: &str) -> Result<(ResponseHead, Framing), ReadError> {
        let mut informational = Vec::new();
        loop {
            let mut head = self.read_head()?;
            // 101 is final here: what follows is another protocol.
            if (100..200).contains(&head.status) && head.status != 101 {
                informational.push((head.status, head.fields));
                continue;
            }
            head.informational = informational;
            let framing = head.framing(method)?;
            return Ok((head, framing));
        }
    }

    /// The next head, final or not.
    ///
    /// # Errors
    /// If no well-formed head comes.
    pub fn read_head(&mut self) -> Result<ResponseHead, ReadError> {
        let (line, fields) = self.connection.head()?.ok_or(ReadError::Closed)?;
        let mut parts = line.splitn(3, ' ');
        let (version, status, reason) = (parts.next(), parts.next(), parts.next());
        match (version, status.and_then(|status| status.parse::<u16>().ok()), reason) {
            (Some(version @ ("HTTP/1.1" | "HTTP/1.0")), Some(status @ 100..=999), Some(reason)) => {
                Ok(ResponseHead {
                    version: version.to_owned(),
                    status,
                    reason: reason.to_owned(),
                    fields,
                    informational: Vec::new(),
                })
            }
            _ => Err(ReadError::Malformed(format!("status line {line:?}"))),
        }
    }

    /// Reads a body in pieces, for those that are too large to keep.
    ///
    /// # Errors
    /// If the body is cut or malformed.
    pub fn stream_body(&mut self, framing: Framing, piece: impl FnMut(&[u8])) -> Result<(), ReadError> {
        self.connection.body(framing, piece).map(|_| ())
    }

    /// Bytes as they come, whatever they mean; none at the end of the stream.
    ///
    /// # Errors
    /// If none come in time, or the connection breaks.
    pub fn read_some(&mut self) -> Result<Vec<u8>, ReadError> {
        self.connection.some()
    }

    /// The next `count` bytes, whatever they mean.
    ///
    /// # Panics
    /// If they do not come.
    pub fn read_raw(&mut self, count: usize) -> Vec<u8> {
        self.connection.raw(count).unwrap_or_else(|error| panic!("waiting for {count} bytes: {error}"))
    }

    /// Awaits the proxy's closing of the connection; whatever else comes before fails the test.
    ///
    /// # Panics
    /// If bytes come, or nothing happens in time. A reset counts as closing.
    pub fn expect_close(&mut self) {
        match self.connection.fill("close") {
            Ok(false) | Err(ReadError::Reset) => {
                let rest = String::from_utf8_lossy(self.connection.buffered());
                assert!(rest.is_empty(), "bytes after the end of the last response: {rest:?}");
            }
            Ok(true) => {
                let rest = String::from_utf8_lossy(self.connection.buffered());
                panic!("expected the connection to be closed, got {rest:?}")
            }
            Err(error) => panic!("expected the connection to be closed: {error}"),
        }
    }
}
