//! For how long a backend lets idle connections be, as far as it has shown.
//!
//! What it showed is forgotten after a while: a backend that was restarted closed all of its connections, however
//! young, and is as patient as before.

use std::time::{Duration, Instant};

/// What was seen counts for so long at least, and for twice as long at most.
const MEMORY: Duration = Duration::from_secs(60);

/// The least time after which a connection was closed, in this period and in the one before.
#[derive(Debug)]
pub(super) struct IdleLimit {
    present: Duration,
    before: Duration,
    /// When the present period began.
    since: Instant,
}

impl IdleLimit {
    /// Nothing is known.
    pub(super) fn unknown(now: Instant) -> Self {
        Self { present: Duration::MAX, before: Duration::MAX, since: now }
    }

    /// It closed a connection that had been idle for so long.
    pub(super) fn closed_after(&mut self, idle: Duration, now: Instant) {
        self.turn(now);
        self.present = self.present.min(idle);
    }

    /// Whether a connection that has been idle for so long may be used for what can't be sent twice: half of the
    /// time that it has at least is left.
    pub(super) fn allows(&mut self, idle: Duration, now: Instant) -> bool {
        self.turn(now);
        idle.saturating_mul(2) < self.present.min(self.before)
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age >= MEMORY {
            self.before = if age < 2 * MEMORY { self.present } else { Duration::MAX };
            self.present = Duration::MAX;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
    fn what_was_seen_is_remembered_for_a_while() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let seconds = Duration::from_secs;
        let mut limit = IdleLimit::unknown(start);
        assert!(limit.allows(seconds(1_000), at(0)));
        limit.closed_after(seconds(5), at(10));
        limit.closed_after(seconds(8), at(50));
        assert!(!limit.allows(seconds(3), at(50)) && limit.allows(seconds(2), at(50)));
        assert!(!limit.allows(seconds(3), at(60)), "of the period before");
        limit.closed_after(seconds(8), at(100));
        assert!(!limit.allows(seconds(3), at(119)));
        assert!(limit.allows(seconds(3), at(120)), "that of a patient backend is left");
        assert!(!limit.allows(seconds(4), at(120)));
        assert!(limit.allows(seconds(4), at(300)));
        limit.closed_after(seconds(0), at(300));
        assert!(!limit.allows(seconds(0), at(300)) && !limit.allows(seconds(0), at(360)));
        assert!(limit.allows(seconds(0), at(420)));
    }
}
