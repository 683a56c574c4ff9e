//! [`Channel`]: messages and descriptors, queued and non-blocking, over one Unix stream socket.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use prost::Message;
use thiserror::Error;

use super::codec::{FrameError, FrameReader, encode_frame_within};
use super::scm::{self, ControlBuffer, FDS_PER_MESSAGE_MAX, Wait};

/// Received descriptors that may wait for the frame that claims them: four full messages. More means
/// that the peer sends descriptors no frame of its speaks of.
const FDS_WAITING_MAX: usize = 4 * FDS_PER_MESSAGE_MAX;

/// Why a channel can no longer be used, or refused a message.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// This message cannot be sent; nothing of it was queued and the channel goes on.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer does not read: what waits for it, with this message, would exceed the ceiling. Nothing
    /// of the message was queued.
    #[error("{queued} bytes already wait for a peer that does not read; {max} may")]
    QueueFull {
        /// Bytes waiting.
        queued: usize,
        /// Bytes that may wait.
        max: usize,
    },
    /// More descriptors than one message can carry; nothing was queued.
    #[error("{count} file descriptors in one message; {FDS_PER_MESSAGE_MAX} fit")]
    TooManyFds {
        /// Descriptors given.
        count: usize,
    },
    /// The peer has sent descriptors that none of its frames claims. Fatal.
    #[error("{waiting} file descriptors were received that no message speaks of")]
    UnclaimedFds {
        /// Descriptors waiting.
        waiting: usize,
    },
    /// The peer has closed the channel before a whole answer came. Only blocking channels say so.
    #[error("the other side has closed the channel")]
    Closed,
    /// The deadline passed. Only blocking channels say so.
    #[error("the deadline has passed")]
    TimedOut,
    /// The socket failed. Fatal.
    #[error("the channel's socket failed: {0}")]
    Io(#[from] io::Error),
}

/// What [`Channel::flush`] reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Flushed {
    /// Nothing waits any more.
    Done,
    /// The peer has to read first: flush again when the socket is writable.
    Blocked,
}

/// What [`Channel::receive`] reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Received {
    /// All that had arrived was read: wait for the socket to be readable.
    Open,
    /// The read buffer is full: take the frames out and receive again, without waiting for the socket.
    More,
    /// The peer will send nothing more, or sent a frame too large to go on. Frames that came whole
    /// are still to be taken.
    Closed,
}

/// One end of a talk: sends `Tx`, receives `Rx`, and descriptors beside frames.
///
/// Every call returns at once, whatever the socket's own mode. Per readable event: [`receive`], then
/// [`next`] until `None`, and both again if `receive` said [`Received::More`]. After queueing, and per
/// writable event: [`flush`].
///
/// Descriptors arrive in the order they were sent and no later than the frame they were sent with, so
/// that a message states how many are its own and the receiver takes as many with [`take_fds`]. They
/// are only accepted by a channel built with [`with_fds`]: from anyone else (a controller, say) they
/// are closed by the kernel on arrival, so that a client cannot fill this process' descriptor table.
///
/// Back-pressure: reading stops at one frame of the largest size; a writer sees
/// [`queued_bytes`](Self::queued_bytes) and stops feeding, and past twice the largest frame
/// [`queue`](Self::queue) refuses.
///
/// [`receive`]: Self::receive
/// [`next`]: Self::next
/// [`flush`]: Self::flush
/// [`take_fds`]: Self::take_fds
/// [`with_fds`]: Self::with_fds
#[derive(Debug)]
pub struct Channel<Tx, Rx> {
    stream: UnixStream,
    reader: FrameReader,
    received_fds: VecDeque<OwnedFd>,
    /// Present on channels that accept descriptors.
    control: Option<ControlBuffer>,
    outgoing: Outgoing,
    messages: PhantomData<fn(Tx) -> Rx>,
}

impl<Tx: Message, Rx: Message + Default> Channel<Tx, Rx> {
    /// A channel that accepts no descriptors (it may still send some). Frames of more than
    /// `frame_bytes_max` bytes are neither read nor written.
    pub fn new(stream: UnixStream, frame_bytes_max: usize) -> Self {
        Self {
            stream,
            reader: FrameReader::new(frame_bytes_max),
            received_fds: VecDeque::new(),
            control: None,
            outgoing: Outgoing::default(),
            messages: PhantomData,
        }
    }

    /// As [`new`](Self::new), and accepts descriptors: for a peer that is trusted with them.
    pub fn with_fds(stream: UnixStream, frame_bytes_max: usize) -> Self {
        Self { control: Some(ControlBuffer::new()), ..Self::new(stream, frame_bytes_max) }
    }

    /// A channel that goes on where another one of this socket, in another program, has stopped: with what that one had
    /// [read](Self::unread) and [not sent](Self::unsent). It accepts no descriptors.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] if more was read than a frame may have bytes.
    pub fn resume(
        stream: UnixStream,
        frame_bytes_max: usize,
        unread: &[u8],
        unsent: &[u8],
    ) -> Result<Self, FrameError> {
        let mut channel = Self::new(stream, frame_bytes_max);
        if channel.reader.feed(unread) < unread.len() {
            return Err(FrameError::TooLarge { length: unread.len() as u64, max: frame_bytes_max });
        }
        channel.outgoing.bytes = unsent.to_vec();
        Ok(channel)
    }

    /// What was read and not taken out yet.
    pub fn unread(&self) -> &[u8] {
        self.reader.buffered()
    }

    /// What is queued and not sent yet. Descriptors that go with it are not in it.
    pub fn unsent(&self) -> &[u8] {
        &self.outgoing.bytes[self.outgoing.sent..]
    }

    /// Queues one message; [`flush`](Self::flush) sends it.
    ///
    /// # Errors
    /// [`ChannelError::Frame`] if it is too large, [`ChannelError::QueueFull`] if too much waits. The
    /// channel is unchanged then.
    pub fn queue(&mut self, message: &Tx) -> Result<(), ChannelError> {
        self.queue_with_fds(message, Vec::new())
    }

    /// Queues one message with descriptors, which are closed here once they are on their way.
    ///
    /// # Errors
    /// As [`queue`](Self::queue), and [`ChannelError::TooManyFds`] above [`FDS_PER_MESSAGE_MAX`].
    pub fn queue_with_fds(&mut self, message: &Tx, fds: Vec<OwnedFd>) -> Result<(), ChannelError> {
        if fds.len() > FDS_PER_MESSAGE_MAX {
            return Err(ChannelError::TooManyFds { count: fds.len() });
        }
        let frame_bytes_max = self.reader.frame_bytes_max();
        // A full answer must fit behind one that the peer is still reading.
        let max = frame_bytes_max.saturating_mul(2);
        let queued = self.outgoing.waiting_bytes();
        let length = message.encoded_len();
        // What would never fit is the message's fault and not the peer's: the frame's error says so.
        if length <= frame_bytes_max && queued.saturating_add(length) > max {
            return Err(ChannelError::QueueFull { queued, max });
        }
        self.outgoing.push(message, fds, frame_bytes_max)?;
        Ok(())
    }

    /// Bytes queued and not yet taken by the kernel.
    pub fn queued_bytes(&self) -> usize {
        self.outgoing.waiting_bytes()
    }

    /// Whether [`flush`](Self::flush) has something to send.
    pub fn wants_write(&self) -> bool {
        self.queued_bytes() > 0
    }

    /// Sends what is queued, as far as the kernel takes it now.
    ///
    /// # Errors
    /// [`ChannelError::Io`]: the peer is gone, or descriptors in flight exceed the kernel's limit.
    pub fn flush(&mut self) -> Result<Flushed, ChannelError> {
        self.outgoing.send(self.stream.as_fd(), Wait::Never)
    }

    /// Reads what has arrived, until the socket is empty or the buffer full.
    ///
    /// # Errors
    /// [`ChannelError::Io`] and [`ChannelError::UnclaimedFds`]: the channel is to be closed.
    pub fn receive(&mut self) -> Result<Received, ChannelError> {
        self.receive_all(false)
    }

    /// As [`receive`](Self::receive), but takes a short read for the last: one system call less. For an
    /// edge-triggered event that told of bytes alone: an end that came with them is not told again.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn receive_bytes(&mut self) -> Result<Received, ChannelError> {
        self.receive_all(true)
    }

    fn receive_all(&mut self, short_is_last: bool) -> Result<Received, ChannelError> {
        loop {
            let room = self.reader.space().len();
            let fds = self.received_fds.len();
            match self.receive_some(Wait::Never) {
                Ok(Some(0)) => return Ok(Received::Closed),
                // A read ends behind descriptors, whatever follows them (unix(7)).
                Ok(Some(bytes)) if short_is_last && bytes < room && self.received_fds.len() == fds => {
                    return Ok(Received::Open);
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Received::More),
                Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Received::Open);
                }
                // A peer that died with our bytes unread: its last frames are in the buffer, if any.
                Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Received::Closed);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next message that has arrived whole.
    ///
    /// # Errors
    /// A frame that holds no valid message is an error in its place, so that it can be answered; the
    /// following frames come after it, unless the error [is fatal](FrameError::is_fatal).
    #[allow(clippy::should_implement_trait, reason = "an iterator would borrow the channel between messages")]
    pub fn next(&mut self) -> Option<Result<Rx, FrameError>> {
        let payload = match self.reader.next_payload()? {
            Ok(payload) => payload,
            Err(error) => return Some(Err(error)),
        };
        Some(Rx::decode(payload).map_err(FrameError::Undecodable))
    }

    /// The next `count` descriptors in order of arrival, or `None` if fewer came. All are close-on-exec.
    pub fn take_fds(&mut self, count: usize) -> Option<Vec<OwnedFd>> {
        debug_assert!(self.control.is_some(), "descriptors need a channel built by Channel::with_fds");
        (count <= self.received_fds.len()).then(|| self.received_fds.drain(..count).collect())
    }

    /// Whether bytes of an unfinished frame are there: if the peer closes now, it broke off.
    pub fn is_mid_frame(&self) -> bool {
        self.reader.buffered_bytes() > 0 && !self.reader.has_frame()
    }

    /// The socket, for its peer's credentials or its time-outs. Reading or writing it directly would
    /// break the framing.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// One read. `None`: no room before frames are taken out. `Some(0)`: nothing more will come.
    pub(super) fn receive_some(&mut self, wait: Wait) -> Result<Option<usize>, ChannelError> {
        if self.reader.has_failed() {
            return Ok(Some(0));
        }
        if self.received_fds.len() + FDS_PER_MESSAGE_MAX > FDS_WAITING_MAX {
            if self.reader.has_frame() {
                return Ok(None);
            }
            return Err(ChannelError::UnclaimedFds { waiting: self.received_fds.len() });
        }
        let space = self.reader.space();
        if space.is_empty() {
            return Ok(None);
        }
        let control = self.control.as_mut();
        let bytes = scm::receive(self.stream.as_fd(), space, control, &mut self.received_fds, wait)?;
        self.reader.filled(bytes);
        Ok(Some(bytes))
    }

    /// Sends all that is queued, waiting as the socket's mode and time-outs say.
    pub(super) fn flush_waiting(&mut self) -> Result<Flushed, ChannelError> {
        self.outgoing.send(self.stream.as_fd(), Wait::AsSocket)
    }
}

impl<Tx, Rx> AsFd for Channel<Tx, Rx> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<Tx, Rx> AsRawFd for Channel<Tx, Rx> {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// Frames on their way out, and the descriptors that go with some of them.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    /// Bytes of `bytes` already sent.
    sent: usize,
    /// Descriptors by the offset in `bytes` of the frame they go with; offsets ascend.
    fds: VecDeque<(usize, Vec<OwnedFd>)>,
}

impl Outgoing {
    fn waiting_bytes(&self) -> usize {
        self.bytes.len() - self.sent
    }

    fn push(
        &mut self,
        message: &impl Message,
        fds: Vec<OwnedFd>,
        frame_bytes_max: usize,
    ) -> Result<(), FrameError> {
        self.drop_sent_if_large();
        let offset = self.bytes.len();
        encode_frame_within(message, frame_bytes_max, &mut self.bytes)?;
        if !fds.is_empty() {
            self.fds.push_back((offset, fds));
        }
        Ok(())
    }

    fn send(&mut self, socket: BorrowedFd<'_>, wait: Wait) -> Result<Flushed, ChannelError> {
        while self.sent < self.bytes.len() {
            let carries_fds = self.fds.front().is_some_and(|(offset, _)| *offset == self.sent);
            // One call must not reach into the next frame with descriptors: they would come early.
            let next_fds = self.fds.get(usize::from(carries_fds));
            let end = next_fds.map_or(self.bytes.len(), |(offset, _)| *offset);
            let fds = self.fds.front().filter(|_| carries_fds).map_or(&[][..], |(_, fds)| fds);
            match scm::send(socket, &self.bytes[self.sent..end], fds, wait) {
                Ok(bytes) => {
                    self.sent += bytes;
                    if carries_fds {
                        self.fds.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                Err(error) => return Err(error.into()),
            }
        }
        debug_assert!(self.fds.is_empty(), "descriptors left without the frame they belong to");
        // Given back whole: between messages a channel holds no memory for sending.
        self.bytes = Vec::new();
        self.sent = 0;
        Ok(Flushed::Done)
    }

    /// Forgets the part already sent once it is the larger one, so that a queue that never runs quite
    /// empty does not grow, at a cost of less than one moved byte per byte sent.
    fn drop_sent_if_large(&mut self) {
        if self.sent > self.waiting_bytes() {
            self.bytes.drain(..self.sent);
            for (offset, _) in &mut self.fds {
                *offset -= self.sent;
            }
            self.sent = 0;
        }
    }
}
