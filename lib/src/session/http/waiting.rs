//! A request whose cluster has as much in flight as it may: it waits in line, with what was read of it.
//!
//! Nothing more is read of its client meanwhile. A client that ends its direction is taken as gone, unless it has said
//! that this request is its last: most that do have given up, and their places are for others.

use super::answer::Refusal;
use super::exchange::{Exchange, Trouble};
use super::{HttpSession, Stage, Step};
use crate::metrics::Metric;
use crate::net::{Network, Stream};
use crate::session::waiting::At;
use crate::session::{Hold, Shared};

impl<S: Stream> HttpSession<S> {
    /// There is no room for the request: it waits, if it may.
    pub(super) fn line_up<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        let Some(exchange) = self.exchange.as_mut() else { return Step::End };
        let at = if exchange.had_its_turn() { At::Front } else { At::Back };
        match shared.line_up(exchange.cluster(), self.index, at) {
            Some((place, until)) => {
                exchange.wait_in(place, until, shared.now);
                shared.held_up[Hold::Line as usize].push_back((self.index, shared.now));
                if self.request.is_drained() {
                    shared.give_back(&mut self.request.bytes);
                }
                self.account.note_wait(shared.micros);
                self.stage = Stage::Waiting;
                Step::Again
            }
            None => self.refuse_busy("the cluster has as much in flight as it may", shared),
        }
    }

    pub(super) fn step_waiting<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        let lost =
            self.front.is_handshaking() && self.front.is_readable() && !self.go_on_with_handshake(shared);
        let last = self.exchange.as_ref().is_some_and(Exchange::is_last_wanted);
        if lost || self.front.is_gone() || (self.front.is_ending() && !last) {
            self.count_waited(Metric::QueueAbandoned, shared);
            return self.resolve(Trouble::FrontGone, shared);
        }
        let Some((place, until)) = self.exchange.as_ref().and_then(Exchange::waits) else { return Step::End };
        if until <= shared.now {
            return self.expire_wait(shared);
        }
        if !shared.waiting.is_first(place) {
            return Step::Wait;
        }
        match self.attach(shared) {
            Ok(()) => {
                self.leave_line(shared);
                self.count_waited(Metric::QueueServed, shared);
                self.stage = Stage::Exchange;
                Step::Again
            }
            Err(Trouble::Full) => Step::Wait,
            Err(trouble) => {
                self.leave_line(shared);
                self.resolve(trouble, shared)
            }
        }
    }

    /// It has waited for as long as it may.
    pub(super) fn expire_wait<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        self.count_waited(Metric::QueueTimeouts, shared);
        self.refuse_busy("the cluster had as much in flight as it may for too long", shared)
    }

    /// Others need the buffers that it waits with.
    pub(super) fn evict_from_line<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        self.count_waited(Metric::QueueEvicted, shared);
        self.refuse_busy(
            "the cluster has as much in flight as it may, and there are no buffers to wait with",
            shared,
        )
    }

    fn count_waited<N: Network<Stream = S>>(&self, metric: Metric, shared: &mut Shared<N>) {
        shared.count_with(self.exchange.as_ref().map(Exchange::cluster), metric);
    }

    fn refuse_busy<N: Network<Stream = S>>(&mut self, message: &'static str, shared: &mut Shared<N>) -> Step {
        let cluster = self.exchange.as_ref().map(Exchange::cluster);
        let config = cluster.and_then(|cluster| shared.backends.cluster(cluster)).map(|config| &**config);
        let retry_after = shared.limits.retry_after(config);
        let id = cluster.and_then(|cluster| shared.backends.cluster_id(cluster));
        let refusal = Refusal::busy(message, retry_after).cluster(id);
        self.leave_line(shared);
        self.resolve(Trouble::Answer(refusal), shared)
    }

    /// It does not wait any more, if it did.
    pub(super) fn leave_line<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        if let Some(place) = self.exchange.as_mut().and_then(Exchange::leave) {
            shared.leave_line(place);
        }
    }
}
