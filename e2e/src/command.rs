//! A client of the command socket, with its own framing: eight bytes of little-endian length, which
//! count themselves, then one bare protobuf message.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{Request, Response, ResponseStatus};
use prost::Message;

use crate::deadline::PATIENCE;

/// One connection to the command socket.
pub struct CommandClient {
    stream: UnixStream,
}

/// Why no response could be read.
#[derive(Debug, PartialEq, Eq)]
pub enum ReceiveError {
    /// The proxy closed the connection.
    Closed,
    /// Nothing came within the deadline.
    TimedOut,
    /// Something came that is not a response.
    Garbage(String),
}

impl CommandClient {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(CommandClient { stream })
    }

    /// Changes how long a response is awaited.
    pub fn set_patience(&mut self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("a non-zero time-out");
        self.stream.set_write_timeout(Some(patience)).expect("a non-zero time-out");
    }

    /// The frame of one request, for tests that cut or join frames themselves.
    pub fn frame(request: RequestType) -> Vec<u8> {
        Self::raw_frame(&Request { request_type: Some(request) }.encode_to_vec())
    }

    /// A frame around any payload.
    pub fn raw_frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u64 + 8).to_le_bytes().to_vec();
        frame.extend_from_slice(payload);
        frame
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// Those of `write(2)`; the time-out included.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends one request, without waiting for its answer.
    pub fn send(&mut self, request: RequestType) {
        self.send_bytes(&Self::frame(request)).expect("the command socket takes a request");
    }

    /// The next response, PROCESSING included.
    ///
    /// # Errors
    /// If none comes, see [`ReceiveError`].
    pub fn receive(&mut self) -> Result<Response, ReceiveError> {
        let mut length = [0; 8];
        self.read(&mut length)?;
        let length = u64::from_le_bytes(length);
        let Some(payload) = length.checked_sub(8).filter(|payload| *payload < 1 << 30) else {
            return Err(ReceiveError::Garbage(format!("a frame of length {length}")));
        };
        let mut payload = vec![0; usize::try_from(payload).expect("below 1 GiB")];
        self.read(&mut payload)?;
        Response::decode(payload.as_slice()).map_err(|error| ReceiveError::Garbage(error.to_string()))
    }

    fn read(&mut self, out: &mut [u8]) -> Result<(), ReceiveError> {
        self.stream.read_exact(out).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => ReceiveError::TimedOut,
            _ => ReceiveError::Closed,
        })
    }

    /// The next final response: OK or FAILURE.
    ///
    /// # Errors
    /// If none comes, see [`ReceiveError`].
    pub fn receive_final(&mut self) -> Result<Response, ReceiveError> {
        loop {
            let response = self.receive()?;
            if response.status() != ResponseStatus::Processing {
                return Ok(response);
            }
        }
    }

    /// Sends a request and awaits its final response.
    ///
    /// # Panics
    /// If none comes.
    pub fn request(&mut self, request: RequestType) -> Response {
        let shown = format!("{request:?}");
        self.send(request);
        self.receive_final().unwrap_or_else(|error| panic!("no answer ({error:?}) to {shown:.300}"))
    }

    /// Sends a request that must succeed; gives its content.
    ///
    /// # Panics
    /// If it is answered by FAILURE, or not at all.
    pub fn ok(&mut self, request: RequestType) -> Option<ContentType> {
        let shown = format!("{request:?}");
        let response = self.request(request);
        assert_eq!(
            response.status(),
            ResponseStatus::Ok,
            "the proxy refused {shown:.300}: {}",
            response.message
        );
        response.content.and_then(|content| content.content_type)
    }

    /// Sends a request that must be refused; gives the reason.
    ///
    /// # Panics
    /// If it is accepted, or not answered.
    pub fn refused(&mut self, request: RequestType) -> String {
        let shown = format!("{request:?}");
        let response = self.request(request);
        assert_eq!(response.status(), ResponseStatus::Failure, "the proxy accepted {shown:.300}");
        response.message
    }
}
