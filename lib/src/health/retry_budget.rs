//! How many attempts beyond the first of each request a cluster may cost.
//!
//! Each request pays in a part of an attempt; time pays in [`FLOOR_PER_SECOND`], so that a cluster with few requests
//! is not without any; each further attempt takes one out. Backends that are all in trouble get little more to do
//! than there are requests, however many attempts one request may make.

use std::time::{Duration, Instant};

/// Attempts that time pays in, a second.
const FLOOR_PER_SECOND: u64 = 10;
/// Attempts that are kept at most, so that a quiet hour pays for no storm: ten seconds' worth of the floor.
const KEPT_MAX: u64 = 100;
/// Parts of an attempt: a request pays in so many as its cluster has percent.
const PARTS: u64 = 100;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct RetryBudget {
    parts: u64,
    paid_until: Instant,
}

impl RetryBudget {
    /// A budget that holds what time pays in a second.
    pub fn new(now: Instant) -> Self {
        Self { parts: FLOOR_PER_SECOND * PARTS, paid_until: now }
    }

    /// A request came, of a cluster with so many percent.
    pub fn pay_in(&mut self, percent: u32) {
        self.parts = (self.parts + u64::from(percent)).min(KEPT_MAX * PARTS);
    }

    /// Takes out one attempt; false if there is none left.
    pub fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.paid_until).min(Duration::from_secs(KEPT_MAX));
        let due = passed.as_millis().try_into().unwrap_or(0_u64) * FLOOR_PER_SECOND * PARTS / 1000;
        if due > 0 {
            self.parts = (self.parts + due).min(KEPT_MAX * PARTS);
            self.paid_until = now;
        }
        let enough = self.parts >= PARTS;
        if enough {
            self.parts -= PARTS;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
    fn attempts_follow_the_requests_with_a_floor() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(start);
        let drawn = |budget: &mut RetryBudget, now| (0..1_000).filter(|_| budget.take(now)).count();
        assert_eq!(drawn(&mut budget, start), 10, "the floor");
        for _ in 0..200 {
            budget.pay_in(20);
        }
        assert_eq!(drawn(&mut budget, start), 40, "20 percent of 200 requests");
        assert_eq!(drawn(&mut budget, start + Duration::from_millis(500)), 5, "time pays");
        assert_eq!(drawn(&mut budget, start + Duration::from_secs(3600)), 100, "no more is kept");
        for _ in 0..100_000 {
            budget.pay_in(100);
        }
        assert_eq!(drawn(&mut budget, start + Duration::from_secs(3600)), 100, "nor of requests");
    }
}
