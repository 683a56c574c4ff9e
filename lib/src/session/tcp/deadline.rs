//! Which time limit applies now, and what follows when it passes.
//!
//! The timer of a session is set lazily: it stands at or before the deadline, is left alone while bytes
//! flow, and looks again when it fires.

use std::time::{Duration, Instant};

use super::{Refusal, Stage, TcpSession};
use crate::metrics::Metric;
use crate::net::{Network, Stream};
use crate::session::{Drive, Shared, Step};
use crate::tls::failure::TIMED_OUT;

/// How long a client may take to read our last bytes and close.
const LINGERING_TIME_MAX: Duration = Duration::from_secs(2);

impl<S: Stream> TcpSession<S> {
    fn deadline<N: Network<Stream = S>>(&self, shared: &Shared<N>) -> Option<Instant> {
        let config = shared.listeners.tcp(self.listener)?;
        Some(match self.stage {
            Stage::Accepted | Stage::Preread => self.since + config.sni_preread_timeout(),
            Stage::Handshake => {
                self.since + config.tls().map_or(config.front_timeout(), |tls| tls.handshake_timeout())
            }
            Stage::Waiting => self.waits_until.unwrap_or(shared.now),
            Stage::Connect => {
                self.back.as_ref().map_or(shared.now, |back| back.since + config.connect_timeout())
            }
            // Whoever is silent may be listening: only silence of both sides ends a connection.
            Stage::Relay => self.active + config.front_timeout().max(config.back_timeout()),
            Stage::Lingering => self.active + LINGERING_TIME_MAX,
        })
    }

    /// Makes sure that the timer fires no later than the deadline.
    pub(super) fn arm<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        let Some(at) = self.deadline(shared) else { return };
        if self.timer_at.is_none_or(|set| at < set) {
            self.timer_at = Some(at);
            shared.timers.set(self.front.token(), at);
        }
    }

    /// The timer fired.
    pub fn on_timer<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        self.timer_at = None;
        let step = match self.deadline(shared) {
            Some(at) if at > shared.now || self.is_being_taken(shared) => {
                self.arm(shared);
                return Drive::Waiting;
            }
            Some(_) => self.expire(shared),
            None => Step::End,
        };
        match step {
            Step::Again | Step::Yield => self.drive(shared),
            Step::Wait => {
                self.arm(shared);
                Drive::Waiting
            }
            Step::End => {
                self.finish(shared);
                Drive::Finished
            }
        }
    }

    fn expire<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        match self.stage {
            Stage::Accepted | Stage::Lingering => Step::End,
            Stage::Preread => self.refuse(Refusal::Late, shared),
            Stage::Handshake => {
                shared.metrics.incr(Metric::TlsHandshakeTimeouts);
                self.account.failed_handshake = Some(TIMED_OUT);
                Step::End
            }
            Stage::Waiting => self.expire_wait(shared),
            Stage::Connect => {
                shared.metrics.incr(Metric::BackendConnectTimeouts);
                self.reconnect(shared)
            }
            Stage::Relay => {
                log::debug!("client {}: nothing moved for too long", self.address);
                shared.metrics.incr(Metric::TcpIdleTimeouts);
                Step::End
            }
        }
    }

    /// Whether either side has taken something since the last such look, though its socket takes no more: the kernel
    /// may hold megabytes, and tells of room only once a good part of them is gone. If so its time begins anew.
    fn is_being_taken<N: Network<Stream = S>>(&mut self, shared: &Shared<N>) -> bool {
        if self.stage != Stage::Relay {
            return false;
        }
        let mut acknowledged = 0;
        if self.down.has_output()
            && let Some(waiting) = self.front.unacknowledged()
        {
            acknowledged += (self.down.written + self.front.untold()).saturating_sub(waiting);
        }
        if self.up.has_output()
            && let Some(back) = self.back.as_mut()
            && let Some(waiting) = back.peer.unacknowledged()
        {
            acknowledged += (self.up.written + back.peer.untold()).saturating_sub(waiting);
        }
        let before = std::mem::replace(&mut self.acknowledged, acknowledged);
        if acknowledged <= before {
            return false;
        }
        self.active = shared.now;
        true
    }
}
