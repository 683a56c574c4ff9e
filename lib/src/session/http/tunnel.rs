//! A connection that has changed its protocol (RFC 9110 §7.8): bytes both ways, and nothing is understood.
//!
//! It ends when both sides have ended ([`Relay`]), or when nothing moved for the listener's `tunnel_timeout`.
//! A worker that drains ends a tunnel when nothing of it is in flight.

use super::exchange::Exchange;
use super::{HttpSession, Stage, Step};
use crate::metrics::Metric;
use crate::net::buffers::Use;
use crate::net::{Network, Stream};
use crate::session::Shared;
use crate::session::relay::Relay;

impl<S: Stream> HttpSession<S> {
    /// The 101 has gone to the client: from here on the protocol is theirs. What either side sent already
    /// is a part of it.
    pub(super) fn begin_tunnel<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        let may_begin = self.exchange.as_ref().is_some_and(Exchange::may_switch);
        if !may_begin || self.back.is_none() {
            return Step::End;
        }
        self.count_completed(shared);
        shared.give_back(&mut self.request.head);
        shared.give_back(&mut self.response.head);
        Relay::begin(&mut self.request);
        Relay::begin(&mut self.response);
        self.front_active = shared.now;
        self.tunnel = Some(Box::default());
        self.stage = Stage::Tunnel;
        shared.metrics.incr(Metric::HttpUpgrades);
        shared.metrics.incr(Metric::WebsocketActiveRequests);
        shared.metrics.incr(self.protocol_of_tunnel());
        Step::Again
    }

    pub(super) fn step_tunnel<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        let (Some(tunnel), Some(back)) = (self.tunnel.as_mut(), self.back.as_mut()) else { return Step::End };
        let relayed = tunnel.step((&mut self.front, &mut self.request), (back, &mut self.response), shared);
        let (over, lost) = (tunnel.is_over(), tunnel.is_backend_lost());
        for purpose in Use::ALL {
            if relayed.wanted[purpose as usize] {
                self.thirst(purpose, shared);
            }
        }
        if relayed.up || relayed.down {
            self.front_active = shared.now;
        }
        if over {
            self.tell_account("WS::Complete", false, shared);
            self.end_tunnel(shared);
            // The client may not know yet that nobody listens.
            return if lost { self.linger() } else { Step::End };
        }
        if relayed.moved {
            return Step::Again;
        }
        let quiet = self.request.is_drained() && self.response.is_drained();
        if !(shared.closes_idle() && quiet) {
            return Step::Wait;
        }
        self.tell_account("WS::Drained", false, shared);
        self.end_tunnel(shared);
        self.part(shared)
    }

    pub(super) fn end_tunnel<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        if self.tunnel.take().is_some() {
            shared.metrics.decr(Metric::WebsocketActiveRequests);
            shared.metrics.decr(self.protocol_of_tunnel());
        }
    }

    fn protocol_of_tunnel(&self) -> Metric {
        if self.front.is_secured() { Metric::ProtocolWss } else { Metric::ProtocolWs }
    }
}
