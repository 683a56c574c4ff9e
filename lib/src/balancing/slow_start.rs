//! Slow start: a backend that has just come takes less than its share at first, while its caches are cold and its
//! code is not compiled yet.
//!
//! Not for the algorithms that hash: with each step of the weight keys would move there, and with the next ones
//! more; each client that moves leaves its session or its cached data behind.

use std::time::Duration;

/// Weights are this many times finer where there is a slow start: the least weight has a tenth, too.
pub const SCALE: u32 = 10;

/// The weight, [`SCALE`] times as fine, of a backend that came so long ago, where the whole weight is reached
/// after `period`: from a tenth on, evenly.
#[must_use]
pub fn weight(weight: u32, age: Duration, period: Duration) -> u32 {
    let whole = weight.saturating_mul(SCALE);
    if age >= period {
        return whole;
    }
    let rest = u128::from(whole - weight);
    // Less than `rest`, as the age is less than the period.
    let gained = rest * age.as_millis() / period.as_millis().max(1);
    weight + u32::try_from(gained).unwrap_or(whole - weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_grow_evenly_from_a_tenth() {
        let at = |seconds| weight(100, Duration::from_secs(seconds), Duration::from_secs(90));
        assert_eq!([0, 10, 45, 89, 90, 10_000].map(at), [100, 200, 550, 990, 1_000, 1_000]);
        assert_eq!(weight(1, Duration::ZERO, Duration::from_secs(1)), 1);
        assert_eq!(weight(1, Duration::from_millis(500), Duration::from_secs(1)), 5);
        assert_eq!(weight(65_535, Duration::MAX, Duration::from_secs(u32::MAX.into())), 655_350);
        let forever = Duration::from_secs(u32::MAX.into());
        assert!(weight(65_535, forever / 2, forever).abs_diff(360_442) <= 1);
        assert_eq!(weight(7, Duration::ZERO, Duration::ZERO), 70);
    }
}
