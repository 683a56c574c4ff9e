//! [`BlockingChannel`]: one question, one answer, for the CLI and for tools.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message;

use super::channel::{Channel, ChannelError, Flushed};
use super::scm::Wait;

/// A [`Channel`] whose calls wait. Not for event loops.
///
/// ```no_run
/// use kakehi_command::channel::BlockingChannel;
/// use kakehi_command::proto::{Request, Response, Status, request::RequestType};
///
/// # fn main() -> Result<(), kakehi_command::channel::ChannelError> {
/// let mut channel = BlockingChannel::<Request, Response>::connect("/run/kakehi.sock".as_ref(), 2_000_000)?;
/// channel.send(&Request { request_type: Some(RequestType::Status(Status {})) })?;
/// let response = channel.receive_deadline(Some(std::time::Duration::from_secs(1)))?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct BlockingChannel<Tx, Rx> {
    channel: Channel<Tx, Rx>,
}

impl<Tx: Message, Rx: Message + Default> BlockingChannel<Tx, Rx> {
    /// Connects to the command socket at `path`.
    ///
    /// # Errors
    /// connect(2)'s: `NotFound` if there is no such socket, `ConnectionRefused` if nobody listens on it.
    pub fn connect(path: &Path, frame_bytes_max: usize) -> Result<Self, ChannelError> {
        Self::new(UnixStream::connect(path)?, frame_bytes_max)
    }

    /// Wraps a connected socket, which is made blocking. Accepts no descriptors.
    ///
    /// # Errors
    /// fcntl(2)'s.
    pub fn new(stream: UnixStream, frame_bytes_max: usize) -> Result<Self, ChannelError> {
        Self::from_channel(Channel::new(stream, frame_bytes_max))
    }

    /// Wraps a channel, with what it has already received and queued.
    ///
    /// # Errors
    /// fcntl(2)'s.
    pub fn from_channel(channel: Channel<Tx, Rx>) -> Result<Self, ChannelError> {
        channel.stream().set_nonblocking(false)?;
        Ok(Self { channel })
    }

    /// Gives the channel back, with what it has received beyond the last message taken. Its calls
    /// return at once again, although the socket stays in blocking mode.
    pub fn into_channel(self) -> Channel<Tx, Rx> {
        self.channel
    }

    /// Sends one message, waiting for as long as the peer takes to read it.
    ///
    /// # Errors
    /// See [`ChannelError`]; [`ChannelError::Io`] with `BrokenPipe` when the peer is gone.
    pub fn send(&mut self, message: &Tx) -> Result<(), ChannelError> {
        self.send_deadline(message, None)
    }

    /// Sends one message, waiting for at most `limit` at each step of it. After
    /// [`ChannelError::TimedOut`] a part of it may have gone out: close the channel.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub fn send_deadline(&mut self, message: &Tx, limit: Option<Duration>) -> Result<(), ChannelError> {
        self.channel.stream().set_write_timeout(limit.map(at_least_a_tick))?;
        self.channel.queue(message)?;
        match self.channel.flush_waiting()? {
            Flushed::Done => Ok(()),
            Flushed::Blocked => Err(ChannelError::TimedOut),
        }
    }

    /// Waits for the next message, for at most `limit` (`None`: for ever).
    ///
    /// # Errors
    /// [`ChannelError::TimedOut`], after which the channel can still be used, [`ChannelError::Closed`],
    /// [`ChannelError::Frame`] for a frame that holds no valid message, [`ChannelError::Io`].
    #[expect(clippy::disallowed_methods, reason = "a deadline over several reads needs the clock")]
    pub fn receive_deadline(&mut self, limit: Option<Duration>) -> Result<Rx, ChannelError> {
        // A limit beyond what the clock can express is no limit.
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            if let Some(message) = self.channel.next() {
                return Ok(message?);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(ChannelError::TimedOut);
            }
            self.channel.stream().set_read_timeout(left.map(at_least_a_tick))?;
            match self.channel.receive_some(Wait::AsSocket) {
                Ok(Some(0)) => return Err(ChannelError::Closed),
                Ok(_) => {}
                Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// See [`Channel::take_fds`].
    pub fn take_fds(&mut self, count: usize) -> Option<Vec<OwnedFd>> {
        self.channel.take_fds(count)
    }

    /// See [`Channel::stream`].
    pub fn stream(&self) -> &UnixStream {
        self.channel.stream()
    }
}

/// Sockets read a time-out of zero as "none", and count in microseconds.
fn at_least_a_tick(limit: Duration) -> Duration {
    limit.max(Duration::from_micros(1))
}
