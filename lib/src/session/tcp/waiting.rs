//! A connection whose cluster has as many as it may: it waits in line, and nothing of it is read meanwhile. A client
//! that ends its direction is taken as gone.

use super::{Refusal, Stage, TcpSession};
use crate::metrics::Metric;
use crate::net::{Network, Stream};
use crate::session::backends::ClusterKey;
use crate::session::waiting::At;
use crate::session::{Shared, Step};

impl<S: Stream> TcpSession<S> {
    /// There is no room for the connection: it waits, if it may.
    pub(super) fn line_up<N: Network<Stream = S>>(
        &mut self,
        cluster: ClusterKey,
        shared: &mut Shared<N>,
    ) -> Step {
        if self.place.is_some() {
            return Step::Wait;
        }
        let at = if self.attempts > 0 { At::Front } else { At::Back };
        match shared.line_up(cluster, self.index, at) {
            Some((place, until)) => {
                self.place = Some(place);
                self.waits_until.get_or_insert(until);
                self.account.queued.get_or_insert(shared.micros);
                self.stage = Stage::Waiting;
                Step::Again
            }
            None => self.refuse(Refusal::Busy, shared),
        }
    }

    pub(super) fn step_waiting<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        if self.front.is_gone() || self.front.is_ending() {
            shared.count_with(self.cluster, Metric::QueueAbandoned);
            return Step::End;
        }
        if self.waits_until.is_some_and(|until| until <= shared.now) {
            return self.expire_wait(shared);
        }
        if !self.place.is_some_and(|place| shared.waiting.is_first(place)) {
            return Step::Wait;
        }
        let step = self.attach(shared);
        if self.stage == Stage::Connect {
            self.leave_line(shared);
            shared.count_with(self.cluster, Metric::QueueServed);
        }
        step
    }

    /// It has waited for as long as it may.
    pub(super) fn expire_wait<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        shared.count_with(self.cluster, Metric::QueueTimeouts);
        self.refuse(Refusal::Busy, shared)
    }

    /// It does not wait any more, if it did.
    pub(super) fn leave_line<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        if let Some(place) = self.place.take() {
            shared.leave_line(place);
        }
    }
}
