//! Back-off: a backend that fails to connect is left alone for a while.
//!
//! The n-th failure in a row bars the backend for a random time in [1, 2^n) seconds, the first for exactly
//! one second. From [`TRIES_MAX`] on the range grows no more, so that a backend that comes back is found
//! within about a minute; from [`DOWN_AFTER`] on it counts as down, which is some seconds after the first.
//! One success forgets everything.
//!
//! The time is random so that workers, and backends that fell together, do not come back in one wave.

use std::time::{Duration, Instant};

/// Failures in a row after which the wait grows no more: 2 to the power of it bounds it.
const TRIES_MAX: u32 = 6;

/// Failures in a row after which a backend counts as down: one may be a hiccup, two a restart.
const DOWN_AFTER: u32 = 3;

/// The least wait, and the unit of the greatest.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// A backend's connect failures and what follows from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Not to be tried before this.
    until: Instant,
    /// In a row; stays at [`TRIES_MAX`].
    failures: u32,
}

/// A change worth telling: an event, a metric, a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendTurn {
    /// It failed too often in a row.
    Down,
    /// It was down, and a connection succeeded.
    Up,
}

impl Backoff {
    /// A backend of which nothing is known: it may be tried.
    pub fn new(now: Instant) -> Self {
        Self { until: now, failures: 0 }
    }

    /// Whether it may be tried. When the wait is over everybody may, not one probe only: failures cost
    /// each request one more attempt at most.
    pub fn is_available(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Whether it failed too often in a row, and has not succeeded since.
    pub fn is_down(&self) -> bool {
        self.failures >= DOWN_AFTER
    }

    /// When it may be tried again, if a failure bars it; in the past when the wait is over.
    pub fn barred_until(&self) -> Option<Instant> {
        (self.failures > 0).then_some(self.until)
    }

    /// An attempt to connect failed. `random` is uniform over its type and draws the wait.
    ///
    /// Attempts that were under way when the wait began tell nothing new: a burst of requests that meet
    /// a dead backend together is one failure, not ten.
    pub fn failed(&mut self, now: Instant, random: u64) -> Option<BackendTurn> {
        if !self.is_available(now) {
            return None;
        }
        let was_down = self.is_down();
        self.failures = (self.failures + 1).min(TRIES_MAX);
        self.until = now + wait(self.failures, random);
        (self.is_down() && !was_down).then_some(BackendTurn::Down)
    }

    /// An attempt to connect succeeded.
    pub fn succeeded(&mut self, now: Instant) -> Option<BackendTurn> {
        let was_down = self.is_down();
        *self = Self::new(now);
        was_down.then_some(BackendTurn::Up)
    }
}

/// The wait after so many failures.
fn wait(failures: u32, random: u64) -> Duration {
    if failures <= 1 {
        return WAIT_MIN;
    }
    let wait_max = WAIT_MIN * (1 << failures.min(TRIES_MAX));
    let range_nanos = (wait_max - WAIT_MIN).as_nanos();
    // Scales without bias worth mentioning: the range is far below 2^64.
    let beyond_nanos = (range_nanos * u128::from(random)) >> u64::BITS;
    WAIT_MIN + Duration::from_nanos(u64::try_from(beyond_nanos).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant cannot be made otherwise; only differences count"
        )]
        Instant::now()
    }

    #[test]
    fn waits_grow_and_stop_growing() {
        let check = |failures, random, seconds: f64| {
            let wait = wait(failures, random).as_secs_f64();
            assert!((wait - seconds).abs() < 1e-6, "{failures} failures: {wait}");
        };
        check(1, 0, 1.0);
        check(1, u64::MAX, 1.0);
        check(2, 0, 1.0);
        check(2, u64::MAX, 4.0);
        check(3, 1 << 63, 4.5);
        check(6, u64::MAX, 64.0);
        check(60, u64::MAX, 64.0);
    }

    #[test]
    fn failures_under_way_when_the_wait_began_count_once() {
        let now = origin();
        let mut backoff = Backoff::new(now);
        for _ in 0..100 {
            assert_eq!(backoff.failed(now, u64::MAX), None);
        }
        assert_eq!(backoff.barred_until(), Some(now + WAIT_MIN));
        assert!(!backoff.is_available(now));
        assert!(!backoff.is_available(now + WAIT_MIN - Duration::from_nanos(1)));
        assert!(backoff.is_available(now + WAIT_MIN));
    }

    #[test]
    fn down_and_up_are_told_once() {
        let mut now = origin();
        let mut backoff = Backoff::new(now);
        let mut turns = Vec::new();
        for _ in 0..TRIES_MAX + 3 {
            turns.push(backoff.failed(now, 7));
            now = backoff.barred_until().expect("it failed");
        }
        assert_eq!(turns.iter().flatten().count(), 1);
        assert_eq!(turns[DOWN_AFTER as usize - 1], Some(BackendTurn::Down));
        assert!(backoff.is_down());
        assert_eq!(backoff.succeeded(now), Some(BackendTurn::Up));
        assert_eq!(backoff.succeeded(now), None);
        assert!(!backoff.is_down());
    }

    #[test]
    fn success_forgets() {
        let now = origin();
        let mut backoff = Backoff::new(now);
        backoff.failed(now, 0);
        let later = now + WAIT_MIN;
        backoff.failed(later, u64::MAX);
        assert!(!backoff.is_available(later));
        assert_eq!(backoff.succeeded(later), None);
        assert!(backoff.is_available(later));
        assert_eq!(backoff.barred_until(), None);
        backoff.failed(later, u64::MAX);
        assert_eq!(backoff.barred_until(), Some(later + WAIT_MIN), "the first again");
    }

    proptest! {
        #[test]
        fn a_wait_stays_in_its_range(failures in 1u32..20, random: u64) {
            let wait = wait(failures, random);
            prop_assert!(wait >= WAIT_MIN);
            prop_assert!(wait < WAIT_MIN * (1 << failures.min(TRIES_MAX)));
        }
    }
}
