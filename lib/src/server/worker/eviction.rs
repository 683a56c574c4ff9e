//! Room for new connections where there are as many as may be: those that have been idle for longest go.

use std::time::{Duration, Instant};

use super::Worker;
use crate::metrics::Metric;
use crate::net::Network;

/// One of so many connections goes at a time, and at least one: to look for them costs a look at all.
const EVICTED_DIVISOR: usize = 100;

/// After nobody was found to be idle, they are looked at again so much later.
const RETRY: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Eviction {
    /// When nobody was found last.
    in_vain: Option<Instant>,
    /// Since when who is idle; kept for its room.
    idle: Vec<(Instant, usize)>,
}

impl<N: Network> Worker<N> {
    /// Closes connections that are between two requests. False if there is no room afterwards.
    pub(super) fn make_room(&mut self) -> bool {
        let now = self.shared.now;
        let waits = self.eviction.in_vain.is_some_and(|at| now.saturating_duration_since(at) < RETRY);
        if !self.shared.settings.evicts_idle || waits {
            return false;
        }
        let most = self.shared.settings.connections_max;
        let count = (most / EVICTED_DIVISOR).max(1);
        let mut idle = std::mem::take(&mut self.eviction.idle);
        idle.clear();
        idle.extend(self.sessions.idle());
        if idle.len() > count {
            idle.select_nth_unstable(count);
            idle.truncate(count);
        }
        let before = self.sessions.len();
        for &(_, index) in &idle {
            self.dispatch(index, |session, shared| session.evict_idle(shared));
        }
        self.eviction.idle = idle;
        let gone = before.saturating_sub(self.sessions.len());
        self.shared.metrics.add(Metric::SessionsEvicted, gone);
        self.eviction.in_vain = (gone == 0).then_some(now);
        self.sessions.len() < most
    }
}
