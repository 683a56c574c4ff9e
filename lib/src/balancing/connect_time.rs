//! How long connecting to a backend takes: a moving average that follows peaks at once.

use std::time::{Duration, Instant};

/// What was measured counts for 1/e of it after so long.
const DECAY: Duration = Duration::from_secs(1);

/// See the module. A backend of which nothing is known takes no time: it is tried, and then something is known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ConnectTime {
    seconds: f32,
    at: Option<Instant>,
}

impl ConnectTime {
    /// A connect took so long.
    pub fn observe(&mut self, took: Duration, now: Instant) {
        let took = took.as_secs_f32();
        let rest = self.rest(now);
        // A peak counts at once, and what is better only bit by bit.
        self.seconds = if took >= self.seconds { took } else { self.seconds * rest + took * (1.0 - rest) };
        self.at = Some(now);
    }

    /// What it takes as far as is known, in seconds. It fades when nothing is measured: who was slow is tried
    /// again.
    #[must_use]
    pub fn seconds(&self, now: Instant) -> f64 {
        (self.seconds * self.rest(now)).into()
    }

    /// The part that is left of what was measured.
    fn rest(&self, now: Instant) -> f32 {
        let age = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        (-age.as_secs_f32() / DECAY.as_secs_f32()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
    fn peaks_count_at_once_and_fade() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut time = ConnectTime::default();
        assert_eq!(time.seconds(start), 0.0);
        time.observe(Duration::from_millis(10), start);
        assert!((time.seconds(start) - 0.010).abs() < 1e-6);
        time.observe(Duration::from_millis(500), at(0));
        assert!((time.seconds(at(0)) - 0.5).abs() < 1e-6);
        time.observe(Duration::from_millis(10), at(0));
        assert!((time.seconds(at(0)) - 0.5).abs() < 1e-6, "one good one is no proof");
        time.observe(Duration::from_millis(10), at(1_000));
        assert!((time.seconds(at(1_000)) - 0.190).abs() < 0.001, "{}", time.seconds(at(1_000)));
        assert!(time.seconds(at(11_000)) < 1e-4, "and is tried again");
    }
}
