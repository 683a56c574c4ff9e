//! What is noted of a request on its way, and counted when it is over.

use std::time::{Duration, Instant};

use super::HttpSession;
use super::exchange::Progress;
use crate::metrics::Metric;
use crate::net::{Network, Stream};
use crate::session::Shared;
use crate::session::backends::{Carried, Served};

/// See the module.
#[derive(Debug)]
pub(super) struct Times {
    /// The first byte of the request came; none once its time was counted.
    begun: Option<Instant>,
    /// The first byte of it went to the backend that has it now; none once that was counted.
    sent: Option<Instant>,
    /// Bytes of the client's head.
    head_bytes: u64,
    /// Bytes of the backend's.
    back_head_bytes: u64,
    status: Option<u16>,
    header_time: Option<Duration>,
    /// How long backends were waited for.
    waited: Duration,
}

impl Times {
    /// The first byte came at `begun`, and the head has so many.
    pub(super) fn new(begun: Instant, head_bytes: usize) -> Self {
        Self {
            begun: Some(begun),
            sent: None,
            head_bytes: head_bytes as u64,
            back_head_bytes: 0,
            status: None,
            header_time: None,
            waited: Duration::ZERO,
        }
    }

    /// The first byte goes to a backend.
    pub(super) fn sent(&mut self, now: Instant) {
        self.sent = Some(now);
    }

    /// The head of the answer came, with so many bytes. Gives how long that took.
    pub(super) fn answered(&mut self, status: u16, bytes: usize, now: Instant) -> Option<Duration> {
        self.status = Some(status);
        self.back_head_bytes = bytes as u64;
        self.header_time = self.sent.map(|sent| now.saturating_duration_since(sent));
        self.header_time
    }
}

impl<S: Stream> HttpSession<S> {
    /// Counts what the backend has done for the request, if it was sent to one and that was not counted yet.
    pub(super) fn count_served<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        let (Some(back), Some(exchange)) = (&self.back, &mut self.exchange) else { return };
        let times = &mut exchange.times;
        let Some(sent) = times.sent.take() else { return };
        let waited = self.back_active.saturating_duration_since(sent);
        times.waited += waited;
        let response_time = (exchange.progress == Progress::Over).then_some(waited);
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
            header_time: times.header_time,
            response_time,
        };
        shared.backends.served(back.key, &served);
    }

    /// Counts how long the request took, once.
    pub(super) fn end_times<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        let Some(exchange) = &mut self.exchange else { return };
        let Some(begun) = exchange.times.begun.take() else { return };
        let took = shared.now.saturating_duration_since(begun);
        let own = took.saturating_sub(exchange.times.waited);
        shared.metrics.time(Metric::RequestTime, took);
        shared.metrics.time(Metric::ServiceTime, own);
        if let Some(series) = shared.backends.cluster_series(exchange.cluster()) {
            series.time(Metric::RequestTime, took);
            series.time(Metric::ServiceTime, own);
        }
    }
}
