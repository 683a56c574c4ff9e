//! Which time limit applies now, and what follows when it passes.
//!
//! The timer of a session is set lazily: it stands at or before the deadline, is left alone while bytes
//! flow, and looks again when it fires. So a request costs no timer operation.
//!
//! A client that is waited for uses up our patience ([`Patience`]), and each byte buys some of it back: at
//! `min_transfer_rate` as much as it took. So a byte now and then does not extend a request for ever.

use std::time::{Duration, Instant};

use super::answer::Refusal;
use super::exchange::{Exchange, Progress};
use super::{Drive, HttpSession, Stage, Step, UNWATCHED_TIME_MAX};
use crate::metrics::Metric;
use crate::net::buffers::Use;
use crate::net::{Network, Stream};
use crate::session::Shared;
use crate::tls::failure::TIMED_OUT;

/// How long a client may take to read our last answer and close.
const LINGERING_TIME_MAX: Duration = Duration::from_secs(2);

/// Who is being waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// The client: the end of a TLS handshake, since the accept.
    Handshake,
    /// The client: the end of a head, since its first byte (or the accept).
    Head,
    /// The client: another request.
    NextRequest,
    /// Others: to make room at the cluster.
    Room,
    /// The backend: a connect.
    Connect,
    /// The backend: to take or to give bytes.
    Back,
    /// The client: to take or to give bytes.
    Front,
    /// Either side of a tunnel.
    Tunnel,
    /// The client: to close.
    Close,
}

/// How much longer a client is waited for, over one request and its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    left: Duration,
    /// Since when the client is being waited for, if it is.
    waiting_since: Option<Instant>,
    /// Bytes that it sent and took up to the last look.
    moved: u64,
}

impl Patience {
    /// A full measure.
    pub(super) fn new(measure: Duration) -> Self {
        Self { left: measure, waiting_since: None, moved: 0 }
    }

    /// What is left now, given the bytes that moved so far. `measure` is the most there may be, `rate` the
    /// bytes that buy back a second.
    fn look(&mut self, waits: bool, moved: u64, now: Instant, measure: Duration, rate: u32) {
        let seconds = moved.saturating_sub(self.moved) as f64 / f64::from(rate.max(1));
        let bought = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let spent = self.waiting_since.map(|since| now.saturating_duration_since(since)).unwrap_or_default();
        self.left = self.left.saturating_add(bought).saturating_sub(spent).min(measure);
        self.moved = moved;
        self.waiting_since = waits.then_some(now);
    }

    /// When there is none left, if nothing moves.
    fn ends_at(&self) -> Option<Instant> {
        Some(self.waiting_since? + self.left)
    }
}

impl<S: Stream> HttpSession<S> {
    /// Looks how the client is doing, before a wait and when a timer fires.
    fn look_at_client<N: Network<Stream = S>>(&mut self, shared: &Shared<N>) {
        let waits = match self.stage {
            Stage::Exchange => self.waits_for_client(),
            Stage::Answering => true,
            Stage::Head | Stage::Waiting | Stage::Tunnel | Stage::Lingering => return,
        };
        if !waits && self.patience.waiting_since.is_none() {
            return;
        }
        let Some(config) = shared.listeners.http(self.listener).map(|entry| entry.config()) else { return };
        let Some(rate) = config.min_transfer_rate() else { return };
        let moved = self.request.body_bytes.saturating_add(self.response.written);
        self.patience.look(waits, moved, shared.now, config.front_timeout(), rate);
    }

    fn deadline<N: Network<Stream = S>>(&self, shared: &Shared<N>) -> Option<(Awaited, Instant)> {
        let config = shared.listeners.http(self.listener)?.config();
        Some(match self.stage {
            Stage::Head if self.front.is_handshaking() => {
                let time = config.tls().map_or(config.request_timeout(), |tls| tls.handshake_timeout());
                (Awaited::Handshake, self.head_since.unwrap_or(self.front_active) + time)
            }
            Stage::Head => match self.head_since {
                Some(since) => (Awaited::Head, since + config.request_timeout()),
                None => (Awaited::NextRequest, self.front_active + config.front_timeout()),
            },
            // What was sent before the farewell is on its way to the client.
            Stage::Lingering if self.front.owes_farewell() => {
                (Awaited::Close, self.front_active + config.front_timeout().max(LINGERING_TIME_MAX))
            }
            Stage::Lingering => (Awaited::Close, self.front_active + LINGERING_TIME_MAX),
            Stage::Tunnel => (Awaited::Tunnel, self.front_active + config.tunnel_timeout()),
            Stage::Answering => (Awaited::Front, self.front_active + config.front_timeout()),
            Stage::Waiting => {
                let until = self.exchange.as_ref().and_then(Exchange::waits).map(|(_, until)| until);
                (Awaited::Room, until.unwrap_or(shared.now))
            }
            Stage::Exchange => match &self.back {
                Some(back) if !back.connected => (Awaited::Connect, back.since + config.connect_timeout()),
                _ if self.waits_for_client() => {
                    let silence = self.last_active() + config.front_timeout();
                    (Awaited::Front, self.patience.ends_at().map_or(silence, |at| at.min(silence)))
                }
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

    /// Whether the front has nothing more to say before it is closed: its only request was read, and its
    /// answer can be written when it comes. If it takes long the front is watched after all
    /// ([`UNWATCHED_TIME_MAX`]), for the client may give up.
    pub(super) fn needs_no_watch(&self) -> bool {
        self.stage == Stage::Exchange
            && self.request.body.is_complete()
            && self.exchange.as_ref().is_some_and(Exchange::is_last_wanted)
            && self.front.is_writable()
            && !self.front.is_watched()
            && !self.front.is_handshaking()
    }

    /// Makes sure that the timer fires no later than the deadline.
    pub(super) fn arm<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        self.look_at_client(shared);
        let Some((_, mut at)) = self.deadline(shared) else { return };
        if self.needs_no_watch() {
            at = at.min(shared.now + UNWATCHED_TIME_MAX);
        }
        if self.timer_at.is_none_or(|set| at < set) {
            self.timer_at = Some(at);
            shared.timers.set(self.front.token(), at);
        }
    }

    /// The timer fired.
    pub fn on_timer<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        self.timer_at = None;
        self.look_at_client(shared);
        let step = match self.deadline(shared) {
            Some((Awaited::Front, at)) if at <= shared.now && self.takes_what_was_sent(shared) => Step::Wait,
            Some((awaited, at)) if at <= shared.now => self.expire(awaited, shared),
            Some(_) => Step::Wait,
            None => Step::End,
        };
        match step {
            Step::Again | Step::Yield => self.drive(shared),
            Step::Wait => {
                if self.front.watch(&mut shared.net).is_err() {
                    self.finish(shared);
                    return Drive::Finished;
                }
                self.arm(shared);
                Drive::Waiting
            }
            Step::End => {
                self.finish(shared);
                Drive::Finished
            }
        }
    }

    /// Whether the client has taken enough of the answer since the last such look, though the socket takes no more
    /// of it: the kernel may hold megabytes, and tells of room only once a good part of them is gone. If so its
    /// time begins anew.
    fn takes_what_was_sent<N: Network<Stream = S>>(&mut self, shared: &Shared<N>) -> bool {
        if !self.response.has_output() {
            return false;
        }
        let Some(config) = shared.listeners.http(self.listener).map(|entry| entry.config()) else {
            return false;
        };
        let Some(waiting) = self.front.unacknowledged() else { return false };
        let (since, before) = self.acknowledged;
        // A record is told of once all of it has gone, which takes a slow client longer than it is waited for.
        let acknowledged = (self.response.written + self.front.untold()).saturating_sub(waiting);
        let seconds = shared.now.saturating_duration_since(since).as_secs();
        let least =
            config.min_transfer_rate().map_or(1, |rate| u64::from(rate).saturating_mul(seconds).max(1));
        if acknowledged.saturating_sub(before) < least {
            return false;
        }
        self.acknowledged = (shared.now, acknowledged);
        self.front_active = shared.now;
        self.patience = Patience::new(config.front_timeout());
        self.look_at_client(shared);
        true
    }

    fn expire<N: Network<Stream = S>>(&mut self, awaited: Awaited, shared: &mut Shared<N>) -> Step {
        match awaited {
            Awaited::Close | Awaited::NextRequest => Step::End,
            Awaited::Handshake => {
                shared.metrics.incr(Metric::TlsHandshakeTimeouts);
                self.tell_failed_handshake(TIMED_OUT, shared);
                Step::End
            }
            Awaited::Tunnel => {
                shared.metrics.incr(Metric::TunnelTimeouts);
                self.tell_account("client_timeout", false, shared);
                self.end_tunnel(shared);
                self.part(shared)
            }
            Awaited::Head if self.thirsty[Use::Request as usize] || self.thirsty[Use::Head as usize] => {
                self.refuse(&Refusal::new(503, "no buffer became free in time"), shared)
            }
            Awaited::Head => {
                self.account.note_end("client_timeout");
                let config = shared.listeners.http(self.listener).map(|entry| entry.config());
                let limit = config.map(|config| config.request_timeout()).unwrap_or_default();
                let refusal = Refusal::new(408, "the request head was not complete in time");
                self.refuse(&refusal.duration(limit), shared)
            }
            Awaited::Room => self.expire_wait(shared),
            Awaited::Connect => {
                shared.metrics.incr(Metric::BackendConnectTimeouts);
                match self.reconnect(shared) {
                    Ok(()) => Step::Again,
                    Err(trouble) => self.resolve(trouble, shared),
                }
            }
            Awaited::Back | Awaited::Front if self.is_thirsty() => {
                self.expire_exchange(503, "no buffer became free in time", shared)
            }
            Awaited::Back => {
                if self.exchange.as_ref().is_some_and(|exchange| exchange.progress == Progress::Awaited) {
                    self.note_failure(shared);
                }
                self.expire_exchange(504, "the backend did not answer in time", shared)
            }
            // The client may rightly have waited for a word of the backend (RFC 9110 §10.1.1).
            Awaited::Front if self.exchange.as_ref().is_some_and(Exchange::owes_continue) => {
                self.expire_exchange(504, "the backend did not tell the client to continue in time", shared)
            }
            Awaited::Front => {
                shared.metrics.incr(Metric::ClientsTooSlow);
                self.expire_exchange(408, "the client did not send its request body in time", shared)
            }
        }
    }

    /// Whether it is neither the client nor the backend that is waited for, but a buffer.
    fn is_thirsty(&self) -> bool {
        self.thirsty != [false; Use::ALL.len()]
    }

    pub(super) fn expire_exchange<N: Network<Stream = S>>(
        &mut self,
        status: u16,
        message: &'static str,
        shared: &mut Shared<N>,
    ) -> Step {
        let awaited = self.exchange.as_ref().is_some_and(|exchange| exchange.progress == Progress::Awaited);
        self.account.note_end(match (status, awaited) {
            (408, true) => "client_timeout",
            (408, false) => "client_timeout_during_response",
            (504, true) => "backend_timeout",
            (504, false) => "backend_response_timeout",
            _ => message,
        });
        if self.stage != Stage::Exchange || !awaited || !self.may_answer() {
            return self.cut(shared);
        }
        let refusal = self.blame(status, message, shared);
        let config = shared.listeners.http(self.listener).map(|entry| entry.config());
        let limit =
            config.map(|config| if status == 408 { config.front_timeout() } else { config.back_timeout() });
        self.drop_back(shared);
        self.refuse(&refusal.duration(limit.unwrap_or_default()), shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Patience over steps of seconds and bytes, while the client is waited for: when it ends, if it does.
    fn ends_after(steps: &[(u64, u64)]) -> Option<u64> {
        #[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
        let mut now = Instant::now();
        let start = now;
        let measure = Duration::from_secs(60);
        let mut patience = Patience::new(measure);
        let mut moved = 0;
        patience.look(true, moved, now, measure, 240);
        for &(seconds, bytes) in steps {
            now += Duration::from_secs(seconds);
            if patience.ends_at().is_some_and(|at| at <= now) {
                return patience.ends_at().map(|at| at.duration_since(start).as_secs());
            }
            moved += bytes;
            patience.look(true, moved, now, measure, 240);
        }
        None
    }

    #[test]
    fn silence_is_tolerated_once() {
        assert_eq!(ends_after(&[(60, 0)]), Some(60));
        assert_eq!(ends_after(&[(59, 240 * 60), (59, 240 * 60), (59, 0)]), None);
        assert_eq!(ends_after(&[(59, 0), (1, 0)]), Some(60));
    }

    #[test]
    fn a_byte_now_and_then_does_not_extend_it_for_ever() {
        assert_eq!(ends_after(&[(1, 1); 100]), Some(60));
        assert_eq!(ends_after(&[(1, 120); 200]), Some(119));
        assert_eq!(ends_after(&[(1, 240); 10_000]), None);
    }

    #[test]
    fn a_backend_s_time_is_not_the_client_s() {
        #[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
        let now = Instant::now();
        let measure = Duration::from_secs(60);
        let mut patience = Patience::new(measure);
        patience.look(false, 0, now, measure, 240);
        let later = now + Duration::from_secs(500);
        patience.look(true, 0, later, measure, 240);
        assert_eq!(patience.ends_at(), Some(later + measure));
    }
}
