//! How long a slot waits before its next worker, so that a crash loop does not eat the machine.
//!
//! A worker that served for a while is replaced at once, and so is the first that died young: an
//! accident is no loop. From the second young death in a row on there is a delay, which doubles.

use std::time::Duration;

/// A worker that lives shorter than this died young.
const YOUNG: Duration = Duration::from_secs(1);

/// The delay after the second young death in a row.
const DELAY_FIRST: Duration = Duration::from_millis(100);

/// No delay is longer. Connections that the kernel gives to the slot's sockets wait as long, while other
/// slots serve theirs; and a start every few seconds costs nothing.
const DELAY_MAX: Duration = Duration::from_secs(5);

/// Doublings after which the delay has certainly reached [`DELAY_MAX`].
const DOUBLINGS_MAX: u32 = 10;

const _: () = assert!(DELAY_FIRST.as_millis() << DOUBLINGS_MAX > DELAY_MAX.as_millis());

/// The memory of one slot.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Young deaths in a row.
    young_deaths: u32,
}

impl Backoff {
    /// A worker of this slot died after `lifetime`: how long its successor has to wait.
    pub(super) fn after_death(&mut self, lifetime: Duration) -> Duration {
        if lifetime >= YOUNG {
            self.young_deaths = 0;
            return Duration::ZERO;
        }
        let before = self.young_deaths;
        self.young_deaths = before.saturating_add(1);
        match before.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => (DELAY_FIRST * 2_u32.pow(doublings.min(DOUBLINGS_MAX))).min(DELAY_MAX),
        }
    }

    /// Young deaths since a worker of this slot last lived long enough.
    pub(super) fn young_deaths(&self) -> u32 {
        self.young_deaths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn a_worker_that_served_is_replaced_at_once() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.after_death(YOUNG), Duration::ZERO);
        assert_eq!(backoff.after_death(Duration::from_secs(86_400)), Duration::ZERO);
    }

    #[test]
    fn young_deaths_double_the_delay_up_to_the_cap() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..12).map(|_| backoff.after_death(SHORT).as_millis()).collect();
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000, 5000]);
    }

    #[test]
    fn a_long_life_forgives() {
        let mut backoff = Backoff::default();
        backoff.after_death(SHORT);
        backoff.after_death(SHORT);
        backoff.after_death(YOUNG);
        assert_eq!(backoff.young_deaths(), 0);
        assert_eq!(backoff.after_death(SHORT), Duration::ZERO);
        assert_eq!(backoff.after_death(SHORT), DELAY_FIRST);
    }

    #[test]
    fn counting_never_overflows() {
        let mut backoff = Backoff { young_deaths: u32::MAX };
        assert_eq!(backoff.after_death(SHORT), DELAY_MAX);
        assert_eq!(backoff.young_deaths(), u32::MAX);
    }
}
