//! Random numbers for one choice, made from one that the caller drew.

use super::hash::finalize;

/// SplitMix64: as many numbers as a choice takes, which depend on the seed alone.
#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    /// Numbers that depend on this one.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        finalize(self.0)
    }

    /// A number below `bound`, each as likely as any other but for one part in 2^64 / `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// An index of a list of so many.
    pub fn index(&mut self, count: usize) -> usize {
        // Below `count`, so that it fits.
        usize::try_from(self.below(count as u64)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_spread_and_stay_below() {
        let mut draws = Draws::new(7);
        let mut counts = [0u32; 10];
        for _ in 0..10_000 {
            counts[draws.index(10)] += 1;
        }
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
        assert_eq!((draws.below(0), draws.below(1), draws.index(0)), (0, 0, 0));
    }
}
