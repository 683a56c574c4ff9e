//! The end of a connection whose client may still be sending: it is read out for a while, so that our last answer is not
//! reset away (RFC 9112 §9.6).

use super::{HttpSession, Stage, Step, flow, take_buffer};
use crate::net::buffers::Use;
use crate::net::{Network, Read, Stream};
use crate::session::Shared;

/// What is discarded after our last byte, so that a client that still sends reads our answer instead
/// of a reset (RFC 9112 §9.6).
const LINGERING_BYTES_MAX: u64 = 1 << 20;

impl<S: Stream> HttpSession<S> {
    /// Ends our direction. A client that may still be sending is read out for a while.
    pub(super) fn linger(&mut self) -> Step {
        if self.front.is_gone() {
            return Step::End;
        }
        self.front.shutdown_write();
        self.front_active = self.front_active.max(self.back_active);
        self.discarded = 0;
        self.stage = Stage::Lingering;
        Step::Again
    }

    /// Ends what has come to its end: a TLS peer is told so, even if that has to wait for room.
    pub(super) fn part<N: Network<Stream = S>>(&mut self, shared: &Shared<N>) -> Step {
        self.front.farewell();
        if !self.front.owes_farewell() {
            return Step::End;
        }
        self.front_active = shared.now;
        self.linger()
    }

    pub(super) fn step_lingering<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        self.drop_back(shared);
        flow::release(&mut self.response, shared);
        self.request.release_pipe(&mut shared.pipes);
        shared.give_back(&mut self.request.head);
        // "Gone" is no news here: once both sides have ended it is said of a healthy connection too, whose
        // last bytes have to be read. Reads tell the end, or the break.
        if self.discarded > LINGERING_BYTES_MAX {
            return Step::End;
        }
        if !self.front.is_readable() {
            shared.give_back(&mut self.request.bytes);
            return Step::Wait;
        }
        let Some(bytes) = take_buffer(&mut self.request.bytes, Use::Request, shared) else {
            // Closing now would reset the answer away; the time for this is short anyway.
            self.thirst(Use::Request, shared);
            return Step::Wait;
        };
        bytes.clear();
        let read =
            if self.front.is_handshaking() { self.front.read(bytes) } else { self.front.discard(bytes) };
        self.tell_news(shared);
        match read {
            Read::Bytes(count) => {
                self.discarded += count as u64;
                Step::Again
            }
            Read::Nothing => Step::Again,
            Read::Thirsty => {
                self.thirst(Use::Record, shared);
                Step::Wait
            }
            Read::End if self.front.owes_farewell() => Step::Wait,
            Read::End | Read::Failed(_) => Step::End,
        }
    }
}
