//! What is noted of a request on its way, and counted when it is over.
//!
//! Times are numbers of the worker's own clock ([`Shared::micros`]), so that to compare them costs next to nothing. Most
//! requests are taken up, sent, answered and over in two turns of the loop: all that is kept of them is counted at once.

use super::HttpSession;
use super::exchange::Progress;
use crate::metrics::{Metric, Took};
use crate::net::{Network, Stream};
use crate::session::Shared;
use crate::session::backends::{Carried, Served, Whole};

/// See the module. In microseconds.
#[derive(Debug)]
pub(super) struct Times {
    /// The first byte of the request came; none once its time was counted.
    begun: Option<u64>,
    /// The first byte of it went to the backend that has it now; none once that was counted.
    sent: Option<u64>,
    /// The class of the answer's status.
    class: Option<Metric>,
    /// How long the head of the answer took.
    header_time: Option<u64>,
    /// Bytes of the client's head.
    head_bytes: u64,
    /// Bytes of the backend's.
    back_head_bytes: u64,
    /// How long backends were waited for.
    waited: u64,
}

impl Times {
    /// The first byte came at `begun`, and the head has so many.
    #[inline]
    pub(super) fn new(begun: u64, head_bytes: usize) -> Self {
        Self {
            begun: Some(begun),
            sent: None,
            class: None,
            header_time: None,
            head_bytes: head_bytes as u64,
            back_head_bytes: 0,
            waited: 0,
        }
    }

    /// The first byte goes to a backend.
    #[inline]
    pub(super) fn sent(&mut self, now: u64) {
        self.sent = Some(now);
    }

    /// The head of the answer came, with a status of this class and so many bytes.
    #[inline]
    pub(super) fn answered(&mut self, class: Metric, bytes: usize, now: u64) {
        self.class = Some(class);
        self.back_head_bytes = bytes as u64;
        self.header_time = self.sent.map(|sent| now.saturating_sub(sent));
    }
}

impl<S: Stream> HttpSession<S> {
    /// Counts what the backend has done for the request, if it was sent to one and that was not counted yet.
    pub(super) fn count_served<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        self.count_at_backend(false, shared);
    }

    /// The same, and how long the request took: it is over.
    pub(super) fn count_completed<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        self.count_at_backend(true, shared);
    }

    #[inline(always)]
    fn count_at_backend<N: Network<Stream = S>>(&mut self, is_over: bool, shared: &mut Shared<N>) {
        let (Some(back), Some(exchange)) = (&self.back, &mut self.exchange) else { return };
        let times = &mut exchange.times;
        let Some(sent) = times.sent.take() else { return };
        let waited = shared.micros_of(self.back_active).saturating_sub(sent);
        times.waited = times.waited.saturating_add(waited);
        let at_backend = Took::micros(waited);
        // What took as long as something else lies in the same bucket.
        let took = |micros| if micros == waited { at_backend } else { Took::micros(micros) };
        let response_time = (exchange.progress == Progress::Over).then_some(at_backend);
        let header_time = times.header_time.map(took);
        if let Some(took) = header_time {
            shared.metrics.time(Metric::BackendHeaderTime, took);
        }
        if let Some(took) = response_time {
            shared.metrics.time(Metric::BackendResponseTime, took);
        }
        let mut whole = None;
        if is_over && let Some(begun) = times.begun.take() {
            let micros = shared.micros.saturating_sub(begun);
            let own = Took::micros(micros.saturating_sub(times.waited));
            let of_request = Whole { cluster: exchange.cluster(), request: took(micros), own };
            shared.metrics.time(Metric::RequestTime, of_request.request);
            shared.metrics.time(Metric::ServiceTime, own);
            whole = Some(of_request);
        }
        let times = &exchange.times;
        let served = Served {
            class: times.class,
            carried: Carried {
                bytes_in: times.head_bytes + self.request.body_bytes,
                bytes_out: self.response.written,
                back_bytes_in: times.back_head_bytes + self.response.body_bytes,
                back_bytes_out: self.request.written,
            },
            header_time,
            response_time,
            whole,
        };
        shared.backends.served(back.key, &served);
    }

    /// Counts how long the request took, once.
    #[inline]
    pub(super) fn end_times<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        let Some(exchange) = &mut self.exchange else { return };
        let Some(begun) = exchange.times.begun.take() else { return };
        let whole = Whole::of(exchange.cluster(), shared.micros.saturating_sub(begun), exchange.times.waited);
        shared.metrics.time(Metric::RequestTime, whole.request);
        shared.metrics.time(Metric::ServiceTime, whole.own);
        shared.backends.completed(whole);
    }
}
