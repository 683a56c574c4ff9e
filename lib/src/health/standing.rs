//! What probes one after the other say of a backend.

/// A backend as its prober sees it: its verdict, and how many probes in a row speak against that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    healthy: bool,
    against: u32,
}

impl Standing {
    /// One that is known so, with no probe against it.
    pub fn known(healthy: bool) -> Self {
        Self { healthy, against: 0 }
    }

    /// Whether it is healthy.
    pub fn is_healthy(self) -> bool {
        self.healthy
    }

    /// A probe succeeded or failed. `rise` successes in a row turn it healthy, `fall` failures unhealthy; what it
    /// is from now on, if it has turned.
    pub fn note(&mut self, success: bool, rise: u32, fall: u32) -> Option<bool> {
        if success == self.healthy {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        if self.against < if success { rise } else { fall } {
            return None;
        }
        *self = Self::known(success);
        Some(success)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The verdict is what the last turn said, and it turns exactly when as many probes in a row as the
        /// threshold says speak against it.
        #[test]
        fn it_turns_with_the_threshold(
            probes in proptest::collection::vec(any::<bool>(), 0..60),
            rise in 1..5_u32,
            fall in 1..5_u32,
        ) {
            let mut standing = Standing::known(true);
            let (mut healthy, mut row) = (true, 0);
            for success in probes {
                row = if success == healthy { 0 } else { row + 1 };
                let turned = row == if success { rise } else { fall } && success != healthy;
                prop_assert_eq!(standing.note(success, rise, fall), turned.then_some(success));
                if turned {
                    (healthy, row) = (success, 0);
                }
                prop_assert_eq!(standing.is_healthy(), healthy);
            }
        }
    }
}
