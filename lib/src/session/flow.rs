//! One direction of a session.
//!
//! ```text
//!            head (ours, rewritten)          bytes (the source's)                 pipe
//!   sink <-- [ sent | to be sent ]  then <-- [ ready | not parsed yet ]  then <-- [ .. ] <-- source
//! ```
//! Body bytes are not copied on the way: they are written from the buffer that they were read into. What is
//! long and passes as it is goes through a pipe of the kernel, and never comes to us at all.

use super::Shared;
use crate::net::buffers::{Buffer, Use};
use crate::net::{Network, Peer, Pipes, Read, Stream, Write};
use crate::protocol::h1::body::{BodyReader, Progress, Relay};
use crate::protocol::h1::error::BodyError;
use crate::protocol::http::Framing;

/// A body prefix up to this size is copied behind the head instead of being a second element of a
/// vectored write, which costs more than the copy.
const JOINED_BYTES_MAX: usize = 4096;

/// How far a flush came.
#[derive(Debug)]
pub(super) enum Flush {
    /// Everything that may be written was.
    Done,
    /// The sink takes no more now.
    Blocked,
    /// The sink would, but for want of a buffer for a TLS record.
    Thirsty,
    /// The sink is broken.
    Failed(std::io::Error),
}

/// A pipe in use by a flow.
#[derive(Debug)]
struct Spliced<P> {
    pipe: P,
    /// Bytes in it.
    held: usize,
    /// How much is put into it at a time: as much as it holds, half as much each time that the sink did not
    /// take all of it, so that a slow reader soon holds little, and twice as much each time that it did.
    window: usize,
}

/// See the module. `P` is the kind of its pipe.
#[derive(Debug)]
pub(super) struct Flow<P> {
    /// A head that we wrote. Kept after it was sent if it may have to be sent again.
    pub(super) head: Option<Buffer>,
    /// How much of `head` was written to the sink.
    sent: usize,
    /// What was read from the source.
    pub(super) bytes: Option<Buffer>,
    /// How much of `bytes` may be written to the sink.
    ready: usize,
    pipe: Option<Spliced<P>>,
    /// Bytes that the sink has sealed, and has not sent all of.
    sealed: usize,
    /// What delimits the body.
    pub(super) body: BodyReader,
    /// Body bytes were written that are not held any more: `head` alone can't repeat the message.
    spilled: bool,
    /// Bytes written to the sink.
    pub(super) written: u64,
    /// Bytes of the body that were let through, chunk sizes included.
    pub(super) body_bytes: u64,
}

impl<P> Flow<P> {
    pub(super) fn new() -> Self {
        Self {
            head: None,
            sent: 0,
            bytes: None,
            ready: 0,
            pipe: None,
            sealed: 0,
            body: no_body(),
            spilled: false,
            written: 0,
            body_bytes: 0,
        }
    }

    /// A new message: `head` goes first, then what `body` lets through.
    pub(super) fn begin(&mut self, head: Buffer, body: BodyReader) {
        debug_assert!(self.head.is_none(), "the last head was given back");
        debug_assert!(self.piped() == 0, "the last body is through");
        self.head = Some(head);
        self.sent = 0;
        self.ready = 0;
        self.spilled = false;
        self.written = 0;
        self.begin_body(body);
    }

    /// From here on `body` decides what is let through.
    pub(super) fn begin_body(&mut self, body: BodyReader) {
        self.body = body;
        self.body_bytes = 0;
    }

    /// Source bytes that were not parsed yet.
    pub(super) fn unparsed(&self) -> &[u8] {
        self.bytes.as_ref().and_then(|bytes| bytes.data().get(self.ready..)).unwrap_or_default()
    }

    /// Drops the first `count` bytes that were not parsed yet.
    pub(super) fn drop_unparsed(&mut self, count: usize) {
        if let Some(bytes) = self.bytes.as_mut() {
            if self.ready == 0 {
                bytes.consume(count);
            } else {
                bytes.remove_gap(self.ready, count);
            }
        }
    }

    /// Lets the body reader see what came.
    pub(super) fn advance(&mut self) -> Result<(), BodyError> {
        if self.body.is_complete() {
            return Ok(());
        }
        let Some(bytes) = self.bytes.as_mut() else { return Ok(()) };
        let Some(raw) = bytes.data_mut().get_mut(self.ready..) else { return Ok(()) };
        if raw.is_empty() {
            return Ok(());
        }
        let Progress { consumed, produced } = self.body.advance(raw)?;
        debug_assert!(produced <= consumed, "a body never grows in place");
        if consumed > produced {
            bytes.remove_gap(self.ready + produced, consumed - produced);
        }
        self.ready += produced;
        self.body_bytes += produced as u64;
        Ok(())
    }

    fn unsent_head(&self) -> &[u8] {
        self.head.as_ref().and_then(|head| head.data().get(self.sent..)).unwrap_or_default()
    }

    fn piped(&self) -> usize {
        self.pipe.as_ref().map_or(0, |spliced| spliced.held) + self.sealed
    }

    /// Whether something waits to be written.
    pub(super) fn has_output(&self) -> bool {
        self.ready > 0 || self.piped() > 0 || !self.unsent_head().is_empty()
    }

    /// Whether the source must wait: there is no room for what it sends.
    pub(super) fn is_full(&self) -> bool {
        self.piped() > 0 || self.bytes.as_ref().is_some_and(Buffer::is_full)
    }

    /// Whether it holds neither bytes nor anything to hold them in.
    pub(super) fn holds_nothing(&self) -> bool {
        self.head.is_none()
            && self.bytes.is_none()
            && self.pipe.is_none()
            && self.ready == 0
            && self.sealed == 0
    }

    /// Whether all that it holds of the source is what it can't use yet.
    pub(super) fn holds_unused(&self) -> bool {
        !self.unparsed().is_empty() && !self.has_output()
    }

    /// Whether nothing of the source is held.
    pub(super) fn is_drained(&self) -> bool {
        self.piped() == 0 && self.bytes.as_ref().is_none_or(Buffer::is_empty)
    }

    /// Whether what comes next may go through a pipe: long enough, and nothing is to be written before it.
    pub(super) fn may_splice(&self, pipes: &Pipes<P>) -> bool {
        let worth = pipes.worth_bytes() as u64;
        let enough = match self.body.may_pass() {
            0 => false,
            _ if self.pipe.is_some() => true,
            // Nobody knows how much is to come; as much came already.
            u64::MAX => self.body_bytes >= worth,
            left => left >= worth,
        };
        enough && self.is_drained() && !self.has_output()
    }

    /// Moves bytes from the source into a pipe; none if there is no pipe to be had.
    pub(super) fn splice<N>(
        &mut self,
        source: &mut Peer<N::Stream>,
        net: &mut N,
        pipes: &mut Pipes<P>,
    ) -> Option<Read>
    where
        N: Network,
        N::Stream: Stream<Pipe = P>,
    {
        if self.pipe.is_none() {
            let window = pipes.bytes();
            self.pipe = pipes.take(|bytes| net.pipe(bytes)).map(|pipe| Spliced { pipe, held: 0, window });
        }
        let spliced = self.pipe.as_mut()?;
        debug_assert_eq!(spliced.held, 0, "only an empty pipe is filled");
        let max = usize::try_from(self.body.may_pass()).unwrap_or(usize::MAX).min(spliced.window);
        let read = source.fill(&mut spliced.pipe, max);
        if let Read::Bytes(count) = read {
            spliced.held += count;
            self.spilled = true;
            self.body_bytes += count as u64;
            self.body.passed(count as u64);
        }
        Some(read)
    }

    /// Moves bytes from the source into records of the sink; none if they have to go another way.
    pub(super) fn seal_through<S: Stream>(
        &mut self,
        source: &mut Peer<S>,
        sink: &mut Peer<S>,
    ) -> Option<Read> {
        debug_assert_eq!(self.sealed, 0, "what was sealed is sent first");
        let max = usize::try_from(self.body.may_pass()).unwrap_or(usize::MAX);
        let read = sink.seal_from(source, max)?;
        if let Read::Bytes(count) = read {
            self.sealed = count;
            self.spilled = true;
            self.body_bytes += count as u64;
            self.body.passed(count as u64);
        }
        Some(read)
    }

    /// Gives the pipe back, or throws it away if something is left in it.
    pub(super) fn release_pipe(&mut self, pipes: &mut Pipes<P>) {
        match self.pipe.take() {
            Some(Spliced { pipe, held: 0, .. }) => pipes.give_back(pipe),
            Some(_) => pipes.lost(),
            None => {}
        }
    }

    /// Writes what may be written, as far as the sink takes it.
    pub(super) fn flush<S: Stream<Pipe = P>>(&mut self, sink: &mut Peer<S>, pipes: &Pipes<P>) -> Flush {
        self.join();
        while self.ready > 0 || !self.unsent_head().is_empty() {
            let head = self.unsent_head();
            let body =
                self.bytes.as_ref().and_then(|bytes| bytes.data().get(..self.ready)).unwrap_or_default();
            let head_bytes = head.len();
            match sink.write(head, body) {
                Write::Bytes(count) => {
                    let of_head = count.min(head_bytes);
                    let of_body = count - of_head;
                    self.sent += of_head;
                    self.ready -= of_body;
                    if of_body > 0 {
                        self.spilled = true;
                        if let Some(bytes) = self.bytes.as_mut() {
                            bytes.consume(of_body);
                        }
                    }
                    self.written += count as u64;
                }
                Write::Nothing => return Flush::Blocked,
                Write::Thirsty => return Flush::Thirsty,
                Write::Failed(error) => return Flush::Failed(error),
            }
        }
        if self.sealed > 0 {
            match sink.write(&[], &[]) {
                Write::Bytes(count) => {
                    debug_assert_eq!(count, self.sealed, "all of it is told at once");
                    self.written += count as u64;
                    self.sealed = 0;
                }
                Write::Nothing => return Flush::Blocked,
                Write::Thirsty => return Flush::Thirsty,
                Write::Failed(error) => return Flush::Failed(error),
            }
        }
        match self.pipe.as_mut().filter(|spliced| spliced.held > 0) {
            Some(spliced) => {
                let held = spliced.held;
                let flush = spliced.flush(sink, pipes);
                self.written += (held - spliced.held) as u64;
                flush
            }
            None => Flush::Done,
        }
    }

    /// Copies a small beginning of the body behind the head.
    fn join(&mut self) {
        if self.ready == 0 || self.ready > JOINED_BYTES_MAX || self.unsent_head().is_empty() || self.spilled {
            return;
        }
        let (Some(head), Some(bytes)) = (self.head.as_mut(), self.bytes.as_mut()) else { return };
        if let (Some(room), Some(body)) = (head.space().get_mut(..self.ready), bytes.data().get(..self.ready))
        {
            room.copy_from_slice(body);
            head.filled(self.ready);
            bytes.consume(self.ready);
            self.ready = 0;
        }
    }

    /// Whether all that was written so far is still held in `head`, so that it can be written again.
    pub(super) fn is_repeatable(&self) -> bool {
        self.head.is_some() && !self.spilled
    }

    /// Starts over with the same message, on another sink.
    pub(super) fn rewind(&mut self) {
        debug_assert!(self.is_repeatable(), "what was written is still held");
        self.sent = 0;
        self.written = 0;
    }
}

impl<P> Spliced<P> {
    /// Writes what the pipe holds, as far as the sink takes it.
    fn flush<S: Stream<Pipe = P>>(&mut self, sink: &mut Peer<S>, pipes: &Pipes<P>) -> Flush {
        while self.held > 0 {
            match sink.drain(&mut self.pipe, self.held) {
                Write::Bytes(count) => self.held -= count.min(self.held),
                Write::Nothing | Write::Thirsty => {
                    self.window = (self.window / 2).max(pipes.window_bytes_min());
                    return Flush::Blocked;
                }
                Write::Failed(error) => return Flush::Failed(error),
            }
        }
        self.window = (self.window * 2).min(pipes.bytes());
        Flush::Done
    }
}

/// Gives back all that a flow holds.
pub(super) fn release<N: Network>(flow: &mut Flow<<N::Stream as Stream>::Pipe>, shared: &mut Shared<N>) {
    shared.give_back(&mut flow.head);
    shared.give_back(&mut flow.bytes);
    flow.release_pipe(&mut shared.pipes);
    flow.sent = 0;
    flow.ready = 0;
    flow.sealed = 0;
}

/// What delimits a message that is only a head.
pub(super) fn no_body() -> BodyReader {
    BodyReader::new(Framing::None, Relay::Keep)
}

/// The buffer in `slot`, taken from the pool if there is none yet.
pub(super) fn take_buffer<'a, N: Network>(
    slot: &'a mut Option<Buffer>,
    purpose: Use,
    shared: &mut Shared<N>,
) -> Option<&'a mut Buffer> {
    if slot.is_none() {
        *slot = shared.buffer(purpose);
    }
    slot.as_mut()
}
