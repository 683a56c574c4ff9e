//! What handshakes may take of a turn of the loop.
//!
//! One step of a handshake costs as much as a good many requests: 0.1 ms with an ECDSA key, some milliseconds with a
//! long RSA one. Those who are served already come first, so handshakes get two shares of each turn, in steps and in
//! time: one for clients of whom something came, and one for those that wait in a queue since their share was used up.

use std::time::Duration;

/// Steps in one share.
const STEPS_MAX: usize = 4;

/// Time in one share. The step that is under way is finished, however dear it is.
const TIME_MAX: Duration = Duration::from_millis(1);

/// What is left of a share.
#[derive(Debug)]
pub struct Handshakes {
    steps: usize,
    /// When its first step began, as time of the turn.
    first: Option<Duration>,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { steps: STEPS_MAX, first: None }
    }
}

impl Handshakes {
    /// A share begins.
    pub fn renew(&mut self) {
        *self = Self::default();
    }

    /// Whether a step may be taken now, so long after the turn began. If so it is counted.
    pub fn begin_step(&mut self, elapsed: Duration) -> bool {
        let first = *self.first.get_or_insert(elapsed);
        if self.steps == 0 || elapsed.saturating_sub(first) >= TIME_MAX {
            self.steps = 0;
            return false;
        }
        self.steps -= 1;
        true
    }

    /// Whether nothing is left.
    pub fn are_used_up(&self) -> bool {
        self.steps == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_so_many_steps() {
        let mut handshakes = Handshakes::default();
        for _ in 0..2 {
            assert!((0..STEPS_MAX).all(|_| handshakes.begin_step(Duration::ZERO)));
            assert!(!handshakes.begin_step(Duration::ZERO) && handshakes.are_used_up());
            handshakes.renew();
        }
    }

    #[test]
    fn dear_steps_are_fewer() {
        let mut handshakes = Handshakes::default();
        // What others took before the first step is not counted.
        let at = |us: u64| Duration::from_micros(100_000 + us);
        assert!(handshakes.begin_step(at(0)));
        assert!(handshakes.begin_step(at(300)));
        assert!(!handshakes.begin_step(at(5300)), "the second took five milliseconds");
        assert!(handshakes.are_used_up());
        handshakes.renew();
        assert!(handshakes.begin_step(at(6000)), "each share has one");
    }
}
