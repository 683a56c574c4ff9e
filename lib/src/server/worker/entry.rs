//! What a listener lets in: so many connections, so many of one address, so many a second.

use std::net::IpAddr;
use std::time::Duration;

use kakehi_command::order::{ListenerKind, OverLimit};

use super::Worker;
use super::accept::BARE_ALERT;
use crate::limits::{Added, ClientLimits, Permit};
use crate::listener::ListenerIndex;
use crate::metrics::Metric;
use crate::net::Network;

/// What a connection is counted as: one of its listener, and one of its source there.
pub(super) type Admission = [Option<Permit>; 2];

/// What the connections with limits of their listeners are counted as, by the index of their session. Empty where no
/// listener has such limits, and no longer than there were connections at a time.
#[derive(Debug, Default)]
pub(super) struct Entries(Vec<Admission>);

impl Entries {
    pub(super) fn keep(&mut self, index: usize, admission: Admission) {
        for (place, permit) in admission.into_iter().enumerate().filter(|(_, permit)| permit.is_some()) {
            if self.0.len() <= index {
                self.0.resize_with(index + 1, Admission::default);
            }
            if let Some(kept) = self.0.get_mut(index).and_then(|entry| entry.get_mut(place)) {
                debug_assert!(kept.is_none(), "a connection is counted once");
                *kept = permit;
            }
        }
    }

    /// The connection is over.
    pub(super) fn leave(&mut self, index: usize, limits: &ClientLimits) {
        if let Some(entry) = self.0.get_mut(index) {
            give_back(std::mem::take(entry), limits);
        }
    }
}

pub(super) fn give_back(admission: Admission, limits: &ClientLimits) {
    admission.into_iter().flatten().for_each(|permit| limits.leave(permit));
}

impl<N: Network> Worker<N> {
    /// Counts a connection of the listener.
    ///
    /// # Errors
    /// The listener has as many as it may: the metric that says so, which is counted.
    pub(super) fn enter(&mut self, listener: ListenerIndex) -> Result<Admission, ()> {
        let limit = self.shared.listeners.get(listener).map_or(0, |entry| entry.limits().connections);
        let permit = self.count(listener, None, limit, Metric::ListenerOverConnections)?;
        Ok([permit, None])
    }

    /// Counts a connection of the listener as one of its source.
    ///
    /// # Errors
    /// The source has as many as it may; what was counted before is given back.
    pub(super) fn enter_from(
        &mut self,
        listener: ListenerIndex,
        source: IpAddr,
        before: Admission,
    ) -> Result<Admission, ()> {
        let limit =
            self.shared.listeners.get(listener).map_or(0, |entry| entry.limits().connections_per_source);
        match self.count(listener, Some(source), limit, Metric::ListenerOverSource) {
            Ok(permit) => {
                let [of_listener, _] = before;
                Ok([of_listener, permit])
            }
            Err(()) => {
                give_back(before, &self.shared.limits);
                Err(())
            }
        }
    }

    fn count(
        &mut self,
        listener: ListenerIndex,
        source: Option<IpAddr>,
        limit: u64,
        over: Metric,
    ) -> Result<Option<Permit>, ()> {
        let Some(entry) = self.shared.listeners.get(listener).filter(|_| limit > 0) else { return Ok(None) };
        match self.shared.limits.enter(entry.id(), source, limit) {
            Added::Counted(permit) => Ok(Some(permit)),
            Added::Uncounted => {
                self.shared.metrics.incr(Metric::LimitsUncounted);
                Ok(None)
            }
            Added::OverLimit => {
                self.shared.metrics.incr(over);
                Err(())
            }
        }
    }

    /// What a connection is told that its listener may not have; none: it is closed.
    pub(super) fn words_beyond(&self, listener: ListenerIndex) -> Option<Vec<u8>> {
        let entry = self.shared.listeners.get(listener)?;
        match (entry.limits().over, entry.kind()) {
            (OverLimit::Close, _) => None,
            _ if entry.acceptor().is_some() => Some(BARE_ALERT.to_vec()),
            // Of what its clients speak nothing is known.
            (_, ListenerKind::Tcp) => None,
            _ => {
                let retry = self.shared.limits.retry_after(None);
                let retry = retry.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
                let head = "HTTP/1.1 503 Service Unavailable\r\nCache-Control: no-cache\r\n";
                Some(format!("{head}{retry}Connection: close\r\nContent-Length: 0\r\n\r\n").into_bytes())
            }
        }
    }

    /// How long the next connection has to wait in the kernel's queue; zero: not at all. Then it is counted already, and
    /// that holds for the next one that there is.
    pub(super) fn accept_wait(&mut self, listener: ListenerIndex) -> Duration {
        let Some(entry) = self.shared.listeners.get_mut(listener) else { return Duration::ZERO };
        let rate = entry.limits().accept_rate;
        if rate == 0 || entry.has_paid {
            return Duration::ZERO;
        }
        let wait = self.shared.limits.accept_wait(entry.id(), rate, self.shared.now);
        entry.has_paid = wait.is_zero();
        wait
    }
}
