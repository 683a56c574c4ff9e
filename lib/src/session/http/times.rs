//! What is noted of a request on its way, and counted when it is over.
//!
//! Most requests are taken up, sent, answered and over in two turns of the loop: what took as long as something else is not
//! worked out a second time.

use std::time::Instant;

use super::HttpSession;
use super::exchange::Progress;
use crate::metrics::{Metric, Took};
use crate::net::{Network, Stream};
use crate::session::Shared;
use crate::session::backends::{Carried, Served};

/// See the module. Times are in microseconds.
#[derive(Debug)]
pub(super) struct Times {
    /// The first byte of the request came; none once its time was counted.
    begun: Option<Instant>,
    /// The first byte of it went to the backend that has it now; none once that was counted.
    sent: Option<Instant>,
    /// Both at the same time.
    at_once: bool,
    status: Option<u16>,
    /// When the head of the answer came, and how long it took.
    answered: Option<(Instant, u64)>,
    /// Bytes of the client's head.
    head_bytes: u64,
    /// Bytes of the backend's.
    back_head_bytes: u64,
    /// How long backends were waited for.
    waited: u64,
}

impl Times {
    /// The first byte came at `begun`, and the head has so many.
    pub(super) fn new(begun: Instant, head_bytes: usize) -> Self {
        Self {
            begun: Some(begun),
            sent: None,
            at_once: false,
            status: None,
            answered: None,
            head_bytes: head_bytes as u64,
            back_head_bytes: 0,
            waited: 0,
        }
    }

    /// The first byte goes to a backend.
    pub(super) fn sent(&mut self, now: Instant) {
        self.sent = Some(now);
        self.at_once = self.begun == Some(now);
    }

    /// The head of the answer came, with so many bytes. Gives how long that took.
    pub(super) fn answered(&mut self, status: u16, bytes: usize, now: Instant) -> Option<Took> {
        self.status = Some(status);
        self.back_head_bytes = bytes as u64;
        let took = micros(self.sent?, now);
        self.answered = Some((now, took));
        Some(Took::micros(took))
    }

    /// From the first byte sent until then.
    fn since_sent(&self, sent: Instant, until: Instant) -> u64 {
        match self.answered {
            Some((at, took)) if at == until => took,
            _ => micros(sent, until),
        }
    }

    /// From the first byte until then.
    fn since_begun(&self, begun: Instant, until: Instant) -> u64 {
        match self.answered {
            Some((at, took)) if self.at_once && at == until => took,
            _ => micros(begun, until),
        }
    }
}

fn micros(since: Instant, until: Instant) -> u64 {
    let time = until.saturating_duration_since(since);
    time.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(time.subsec_micros()))
}

impl<S: Stream> HttpSession<S> {
    /// Counts what the backend has done for the request, if it was sent to one and that was not counted yet.
    pub(super) fn count_served<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        let (Some(back), Some(exchange)) = (&self.back, &mut self.exchange) else { return };
        let times = &mut exchange.times;
        let Some(sent) = times.sent.take() else { return };
        let waited = times.since_sent(sent, self.back_active);
        times.waited = times.waited.saturating_add(waited);
        let response_time = (exchange.progress == Progress::Over).then(|| Took::micros(waited));
        if let Some(took) = response_time {
            shared.metrics.time(Metric::BackendResponseTime, took);
        }
        let served = Served {
            status: times.status,
            carried: Carried {
                bytes_in: times.head_bytes + self.request.body_bytes,
                bytes_out: self.response.written,
                back_bytes_in: times.back_head_bytes + self.response.body_bytes,
                back_bytes_out: self.request.written,
            },
            header_time: times.answered.map(|(_, took)| Took::micros(took)),
            response_time,
        };
        shared.backends.served(back.key, &served);
    }

    /// Counts how long the request took, once.
    pub(super) fn end_times<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        let Some(exchange) = &mut self.exchange else { return };
        let times = &mut exchange.times;
        let Some(begun) = times.begun.take() else { return };
        let took = times.since_begun(begun, shared.now);
        let own = Took::micros(took.saturating_sub(times.waited));
        let took = Took::micros(took);
        shared.metrics.time(Metric::RequestTime, took);
        shared.metrics.time(Metric::ServiceTime, own);
        if let Some(series) = shared.backends.cluster_series(exchange.cluster()) {
            series.time(Metric::RequestTime, took);
            series.time(Metric::ServiceTime, own);
        }
    }
}
