//! One direction of an exchange.
//!
//! ```text
//!            head (ours, rewritten)          bytes (the source's)
//!   sink <-- [ sent | to be sent ]  then <-- [ ready | not parsed yet ] <-- source
//! ```
//! Body bytes are not copied on the way: they are written from the buffer that they were read into.

use super::no_body;
use crate::net::buffers::Buffer;
use crate::net::{Peer, Stream, Write};
use crate::protocol::h1::body::{BodyReader, Progress};
use crate::protocol::h1::error::BodyError;

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
    /// The sink is broken.
    Failed(std::io::Error),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Flow {
    /// A head that we wrote. Kept after it was sent if it may have to be sent again.
    pub(super) head: Option<Buffer>,
    /// How much of `head` was written to the sink.
    sent: usize,
    /// What was read from the source.
    pub(super) bytes: Option<Buffer>,
    /// How much of `bytes` may be written to the sink.
    ready: usize,
    /// What delimits the body.
    pub(super) body: BodyReader,
    /// Body bytes were written from `bytes`: `head` alone can't repeat the message.
    spilled: bool,
    /// Bytes written to the sink.
    pub(super) written: u64,
}

impl Flow {
    pub(super) fn new() -> Self {
        Self { head: None, sent: 0, bytes: None, ready: 0, body: no_body(), spilled: false, written: 0 }
    }

    /// A new message: `head` goes first, then what `body` lets through.
    pub(super) fn begin(&mut self, head: Buffer, body: BodyReader) {
        debug_assert!(self.head.is_none(), "the last head was given back");
        self.head = Some(head);
        self.sent = 0;
        self.body = body;
        self.ready = 0;
        self.spilled = false;
        self.written = 0;
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
        Ok(())
    }

    fn unsent_head(&self) -> &[u8] {
        self.head.as_ref().and_then(|head| head.data().get(self.sent..)).unwrap_or_default()
    }

    /// Whether something waits to be written.
    pub(super) fn has_output(&self) -> bool {
        self.ready > 0 || !self.unsent_head().is_empty()
    }

    /// Whether the source must wait: its buffer has no room.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.as_ref().is_some_and(Buffer::is_full)
    }

    /// Whether nothing of the source is held.
    pub(super) fn is_drained(&self) -> bool {
        self.bytes.as_ref().is_none_or(Buffer::is_empty)
    }

    /// Writes what may be written, as far as the sink takes it.
    pub(super) fn flush<S: Stream>(&mut self, sink: &mut Peer<S>) -> Flush {
        self.join();
        while self.has_output() {
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
                Write::Failed(error) => return Flush::Failed(error),
            }
        }
        Flush::Done
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
    }
}
