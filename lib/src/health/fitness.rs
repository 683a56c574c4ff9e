//! When so few backends of a cluster are fit that verdicts are left out of account.
//!
//! Verdicts may all be wrong together: a probe may ask for what was renamed. And a few backends that are left may not
//! bear the load of all. Then requests go to all primaries, fit or not, unless a backup is fit.

/// Backends of a cluster, counted by what is said of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fitness {
    /// Backends that are no backups.
    pub primaries: usize,
    /// Of these, those that are unhealthy or ejected.
    pub unfit_primaries: usize,
    /// Backups.
    pub backups: usize,
    /// Of these, those that are unhealthy or ejected.
    pub unfit_backups: usize,
}

impl Fitness {
    /// Whether verdicts are left out of account, with fewer fit primaries than so many percent; `None`: with none,
    /// `Some(0)`: never.
    pub fn is_panic(&self, threshold_percent: Option<u32>) -> bool {
        if self.backups > self.unfit_backups {
            return false;
        }
        // A cluster of backups alone is like one of primaries.
        let (all, unfit) = match self.primaries {
            0 => (self.backups, self.unfit_backups),
            primaries => (primaries, self.unfit_primaries),
        };
        if all == 0 {
            return false;
        }
        match threshold_percent {
            None => unfit == all,
            Some(0) => false,
            Some(percent) => {
                (all - unfit.min(all)).saturating_mul(100) < all.saturating_mul(percent as usize)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_is_a_matter_of_percent() {
        let check = |primaries, unfit_primaries, backups, unfit_backups, threshold, expected: bool| {
            let fitness = Fitness { primaries, unfit_primaries, backups, unfit_backups };
            assert_eq!(fitness.is_panic(threshold), expected, "{fitness:?}, {threshold:?}");
        };
        check(3, 2, 0, 0, None, false);
        check(3, 3, 0, 0, None, true);
        check(3, 3, 0, 0, Some(0), false);
        check(4, 2, 0, 0, Some(50), false);
        check(4, 3, 0, 0, Some(50), true);
        check(4, 0, 0, 0, Some(100), false);
        check(3, 3, 1, 0, Some(50), false);
        check(3, 3, 1, 1, Some(50), true);
        check(0, 0, 2, 2, None, true);
        check(0, 0, 0, 0, Some(50), false);
    }
}
