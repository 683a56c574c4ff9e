//! Which time limit applies now, and what follows when it passes.
//!
//! The timer of a session is set lazily: it stands at or before the deadline, is left alone while bytes
//! flow, and looks again when it fires. So a request costs no timer operation.

use std::time::{Duration, Instant};

use super::answer::Refusal;
use super::exchange::{Exchange, Progress};
use super::{Drive, HttpSession, Stage, Step};
use crate::metrics::Metric;
use crate::net::buffers::Use;
use crate::net::{Network, Stream};
use crate::session::Shared;

/// How long a client may take to read our last answer and close.
const LINGERING_TIME_MAX: Duration = Duration::from_secs(2);

/// Who is being waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// The client: the end of a head, since its first byte (or the accept).
    Head,
    /// The client: another request.
    NextRequest,
    /// The backend: a connect.
    Connect,
    /// The backend: to take or to give bytes.
    Back,
    /// The client: to take or to give bytes.
    Front,
    /// The client: to close.
    Close,
}

impl<S: Stream> HttpSession<S> {
    fn deadline<N: Network<Stream = S>>(&self, shared: &Shared<N>) -> Option<(Awaited, Instant)> {
        let config = shared.listeners.get(self.listener)?.config();
        Some(match self.stage {
            Stage::Head => match self.head_since {
                Some(since) => (Awaited::Head, since + config.request_timeout()),
                None => (Awaited::NextRequest, self.front_active + config.front_timeout()),
            },
            Stage::Lingering => (Awaited::Close, self.front_active + LINGERING_TIME_MAX),
            Stage::Answering => (Awaited::Front, self.front_active + config.front_timeout()),
            Stage::Exchange => match &self.back {
                Some(back) if !back.connected => (Awaited::Connect, back.since + config.connect_timeout()),
                _ if self.waits_for_client() => (Awaited::Front, self.last_active() + config.front_timeout()),
                _ => (Awaited::Back, self.last_active() + config.back_timeout()),
            },
        })
    }

    /// When the present wait in an exchange began, at the latest: as long as one side was waited for, the
    /// other could not do anything, and its silence is no fault of its own.
    fn last_active(&self) -> Instant {
        self.front_active.max(self.back_active)
    }

    /// In an exchange: the client has to take the answer, or to send more of the request. Once it is being
    /// answered it owes nothing more: told that we close, it may well have stopped sending.
    fn waits_for_client(&self) -> bool {
        let awaited = self.exchange.as_ref().is_some_and(|exchange| exchange.progress == Progress::Awaited);
        let starved = awaited && !self.request.body.is_complete() && !self.request.has_output();
        self.response.has_output() || starved
    }

    /// Makes sure that the timer fires no later than the deadline.
    pub(super) fn arm<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        let Some((_, at)) = self.deadline(shared) else { return };
        if self.timer_at.is_none_or(|set| at < set) {
            self.timer_at = Some(at);
            shared.timers.set(self.front.token(), at);
        }
    }

    /// The timer fired.
    pub fn on_timer<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        self.timer_at = None;
        let step = match self.deadline(shared) {
            Some((awaited, at)) if at <= shared.now => self.expire(awaited, shared),
            Some(_) => Step::Wait,
            None => Step::End,
        };
        match step {
            Step::Again => self.drive(shared),
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

    fn expire<N: Network<Stream = S>>(&mut self, awaited: Awaited, shared: &mut Shared<N>) -> Step {
        match awaited {
            Awaited::Close | Awaited::NextRequest => Step::End,
            Awaited::Head if self.thirsty[Use::Request as usize] => {
                self.refuse(&Refusal::new(503, "no buffer became free in time"), shared)
            }
            Awaited::Head => {
                self.refuse(&Refusal::new(408, "the request head was not complete in time"), shared)
            }
            Awaited::Connect => {
                shared.metrics.incr(Metric::BackendConnectTimeouts);
                match self.reconnect(shared) {
                    Ok(()) => Step::Again,
                    Err(trouble) => self.resolve(trouble, shared),
                }
            }
            Awaited::Back => self.expire_exchange(504, "the backend did not answer in time", shared),
            // The client may rightly have waited for a word of the backend (RFC 9110 §10.1.1).
            Awaited::Front if self.exchange.as_ref().is_some_and(Exchange::owes_continue) => {
                self.expire_exchange(504, "the backend did not tell the client to continue in time", shared)
            }
            Awaited::Front => {
                self.expire_exchange(408, "the client did not send its request body in time", shared)
            }
        }
    }

    fn expire_exchange<N: Network<Stream = S>>(
        &mut self,
        status: u16,
        message: &'static str,
        shared: &mut Shared<N>,
    ) -> Step {
        let awaited = self.exchange.as_ref().is_some_and(|exchange| exchange.progress == Progress::Awaited);
        if self.stage != Stage::Exchange || !awaited || !self.may_answer() {
            return self.cut(shared);
        }
        let refusal = self.blame(status, message, shared);
        self.drop_back(shared);
        self.refuse(&refusal, shared)
    }
}
