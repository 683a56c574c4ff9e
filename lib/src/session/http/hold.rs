//! Sessions that hold a buffer and do nothing with it, because of their client; see [`Hold`].

use std::time::Instant;

use super::answer::Refusal;
use super::exchange::Exchange;
use super::{Drive, HttpSession, Stage, Step};
use crate::metrics::Metric;
use crate::net::buffers::Use;
use crate::net::{Network, Ready, Stream};
use crate::session::{Hold, Shared};

impl<S: Stream> HttpSession<S> {
    /// Puts the session into the queue of those that are held up by their client, if it has come to that.
    pub(super) fn note_hold<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        if self.stage == Stage::Head
            && let (Some(since), None) = (self.head_since, self.half_head)
            && self.is_half_head()
        {
            self.half_head = Some(since);
            shared.held_up[Hold::HalfHead as usize].push_back((self.index, since));
        }
        let body_bytes = self.request.body_bytes;
        if !self.holds_unused() {
            self.unused = None;
        } else if self.unused.is_none_or(|(_, before)| before != body_bytes) {
            self.unused = Some((shared.now, body_bytes));
            shared.held_up[Hold::Unused as usize].push_back((self.index, shared.now));
        }
        let written = self.response.written;
        if self.stalls() && self.stall.is_none_or(|(_, before)| before != written) {
            self.stall = Some((shared.now, written));
            shared.held_up[Hold::Stall as usize].push_back((self.index, shared.now));
        }
        if self.front.holds_record() {
            let moved = self.moved();
            if self.record.is_none_or(|(_, before)| before != moved) {
                self.record = Some((shared.now, moved));
                shared.held_up[Hold::Record as usize].push_back((self.index, shared.now));
            }
        }
    }

    /// Changes with each byte that the client sends or takes.
    fn moved(&self) -> u64 {
        let request = self.request.bytes.as_ref().map_or(0, |bytes| bytes.data().len() as u64);
        self.requests
            .wrapping_add(self.request.body_bytes)
            .wrapping_add(self.response.written)
            .wrapping_add(request)
    }

    /// Whether a part of a head is all that is held. One that waits for a buffer to go on is whole.
    fn is_half_head(&self) -> bool {
        self.stage == Stage::Head && self.request.bytes.is_some() && !self.thirsty[Use::Head as usize]
    }

    /// Whether a buffer is held for bytes that are of no use before something else comes.
    fn holds_unused(&self) -> bool {
        self.stage == Stage::Exchange && self.request.holds_unused()
    }

    /// Whether buffers are held for bytes that the client has to take.
    fn stalls(&self) -> bool {
        self.response.has_output() && (self.response.head.is_some() || self.response.bytes.is_some())
    }

    /// Whether its client has held it up since then, and nothing has moved.
    pub fn is_held_up(&self, hold: Hold, since: Instant) -> bool {
        match hold {
            Hold::HalfHead => self.head_since == Some(since) && self.is_half_head(),
            Hold::Unused => self.unused == Some((since, self.request.body_bytes)) && self.holds_unused(),
            Hold::Stall => self.stall == Some((since, self.response.written)) && self.stalls(),
            Hold::Record => self.record == Some((since, self.moved())) && self.front.holds_record(),
            Hold::Line => {
                self.stage == Stage::Waiting
                    && self.exchange.as_ref().and_then(Exchange::lined_up) == Some(since)
            }
        }
    }

    /// Since when it has been between two requests; none: it has something to do.
    pub fn idle_since(&self) -> Option<Instant> {
        (self.is_idle() && self.could_rest()).then_some(self.front_active)
    }

    /// Its place is needed for another: it ends, unless a request has come that nobody has looked at yet.
    pub fn evict_idle<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        self.front.note(Ready { readable: true, ..Ready::default() });
        match self.drive(shared) {
            Drive::Waiting if self.idle_since().is_some() => {
                self.finish(shared);
                Drive::Finished
            }
            drive => drive,
        }
    }

    /// Its buffers are needed for others.
    pub fn evict<N: Network<Stream = S>>(&mut self, hold: Hold, shared: &mut Shared<N>) -> Drive {
        if matches!(hold, Hold::Stall | Hold::Record) {
            shared.metrics.incr(match hold {
                Hold::Record => Metric::TlsRecordsEvicted,
                _ => Metric::StalledEvicted,
            });
            self.cut(shared);
            self.finish(shared);
            return Drive::Finished;
        }
        if hold == Hold::Line {
            return match self.evict_from_line(shared) {
                Step::End => {
                    self.finish(shared);
                    Drive::Finished
                }
                Step::Again | Step::Wait | Step::Yield => {
                    shared.give_back(&mut self.request.head);
                    self.drive(shared)
                }
            };
        }
        shared.metrics.incr(Metric::HalfHeadsEvicted);
        let text = "too many requests are half sent: this one took longest";
        let step = if hold == Hold::Unused {
            if self.forgo_rest(shared) {
                return Drive::Waiting;
            }
            self.expire_exchange(503, text, shared)
        } else {
            self.refuse(&Refusal::new(503, text), shared)
        };
        match step {
            Step::End => {
                self.finish(shared);
                Drive::Finished
            }
            Step::Again | Step::Wait | Step::Yield => {
                shared.give_back(&mut self.request.bytes);
                self.drive(shared)
            }
        }
    }
}
