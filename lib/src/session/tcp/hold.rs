//! Sessions that hold a buffer and do nothing with it, because of a peer; see [`Hold`].

use std::time::Instant;

use super::{Refusal, Stage, TcpSession};
use crate::metrics::Metric;
use crate::net::{Network, Stream};
use crate::session::{Drive, Hold, Shared, Step};

impl<S: Stream> TcpSession<S> {
    /// Puts the session into the queue of those that are held up, if it has come to that.
    pub(super) fn note_hold<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        if self.is_half_hello() && !std::mem::replace(&mut self.half_hello, true) {
            shared.held_up[Hold::HalfHead as usize].push_back((self.index, self.since));
        }
        let written = self.written();
        if self.stalls() && self.stall.is_none_or(|(_, before)| before != written) {
            self.stall = Some((shared.now, written));
            shared.held_up[Hold::Stall as usize].push_back((self.index, shared.now));
        }
        let moved = self.moved();
        if self.holds_record() && self.record.is_none_or(|(_, before)| before != moved) {
            self.record = Some((shared.now, moved));
            shared.held_up[Hold::Record as usize].push_back((self.index, shared.now));
        }
    }

    fn written(&self) -> u64 {
        self.up.written.wrapping_add(self.down.written)
    }

    /// Changes with each byte that comes or goes.
    fn moved(&self) -> u64 {
        let held = [&self.up, &self.down].map(|flow| flow.bytes.as_ref().map_or(0, |bytes| bytes.len()));
        held.iter().fold(self.written(), |moved, held| moved.wrapping_add(*held as u64))
    }

    /// Whether a part of a hello is all that is held.
    fn is_half_hello(&self) -> bool {
        self.stage == Stage::Preread && self.up.bytes.is_some()
    }

    /// Whether a buffer is held for bytes that the other side has to take.
    fn stalls(&self) -> bool {
        let flows = [&self.up, &self.down];
        self.stage == Stage::Relay && flows.iter().any(|flow| flow.has_output() && flow.bytes.is_some())
    }

    /// Whether a part of a record is held.
    fn holds_record(&self) -> bool {
        self.front.holds_record() || self.back.as_ref().is_some_and(|back| back.peer.holds_record())
    }

    /// Whether it has been held up since then, and nothing has moved.
    pub fn is_held_up(&self, hold: Hold, since: Instant) -> bool {
        match hold {
            Hold::HalfHead => self.since == since && self.is_half_hello(),
            Hold::Unused | Hold::Line => false,
            Hold::Stall => self.stall == Some((since, self.written())) && self.stalls(),
            Hold::Record => self.record == Some((since, self.moved())) && self.holds_record(),
        }
    }

    /// Its buffers are needed for others.
    pub fn evict<N: Network<Stream = S>>(&mut self, hold: Hold, shared: &mut Shared<N>) -> Drive {
        let step = match hold {
            Hold::HalfHead => self.refuse(Refusal::Evicted, shared),
            Hold::Unused | Hold::Stall | Hold::Record | Hold::Line => {
                shared.metrics.incr(match hold {
                    Hold::Record => Metric::TlsRecordsEvicted,
                    _ => Metric::TcpEvicted,
                });
                // Neither side must take what it got for the whole.
                self.front.abort();
                if let Some(back) = &mut self.back {
                    back.peer.abort();
                }
                Step::End
            }
        };
        match step {
            Step::End => {
                self.finish(shared);
                Drive::Finished
            }
            Step::Again | Step::Wait | Step::Yield => {
                shared.give_back(&mut self.up.bytes);
                self.drive(shared)
            }
        }
    }
}
