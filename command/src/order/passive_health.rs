//! Passive health: backends are taken out by what becomes of requests.

use std::num::NonZeroU32;
use std::time::Duration;

use super::OrderError;
use crate::proto;

/// When backends of a cluster are taken out for a while, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveHealth {
    consecutive_failures: NonZeroU32,
    base_ejection: Duration,
    max_ejection: Duration,
    max_ejected_percent: u32,
    count_server_errors: bool,
}

impl PassiveHealth {
    /// Checks settings that came from outside.
    pub(super) fn from_wire(wire: &proto::PassiveHealth) -> Result<Self, OrderError> {
        let at_least_one = |field, value: u32| match NonZeroU32::new(value) {
            Some(value) => Ok(value),
            None => Err(OrderError::invalid(field, "0", "is not at least 1")),
        };
        let consecutive_failures =
            at_least_one("passive_health.consecutive_failures", wire.consecutive_failures)?;
        let base = at_least_one("passive_health.base_ejection", wire.base_ejection)?.get();
        if wire.max_ejection < base {
            let (field, value) = ("passive_health.max_ejection", wire.max_ejection.to_string());
            return Err(OrderError::invalid(field, &value, "is less than base_ejection"));
        }
        if !(1..=100).contains(&wire.max_ejected_percent) {
            let (field, value) = ("passive_health.max_ejected_percent", wire.max_ejected_percent.to_string());
            return Err(OrderError::invalid(field, &value, "is not from 1 to 100"));
        }
        Ok(Self {
            consecutive_failures,
            base_ejection: Duration::from_secs(base.into()),
            max_ejection: Duration::from_secs(wire.max_ejection.into()),
            max_ejected_percent: wire.max_ejected_percent,
            count_server_errors: wire.count_server_errors,
        })
    }

    /// Failures in a row, as one worker sees them, that take a backend out.
    #[must_use]
    pub fn consecutive_failures(&self) -> NonZeroU32 {
        self.consecutive_failures
    }

    /// For how long at first, at least a second.
    #[must_use]
    pub fn base_ejection(&self) -> Duration {
        self.base_ejection
    }

    /// For how long at most.
    #[must_use]
    pub fn max_ejection(&self) -> Duration {
        self.max_ejection
    }

    /// How many of the cluster's backends at a time, in percent, 1 to 100; one always may be.
    #[must_use]
    pub fn max_ejected_percent(&self) -> u32 {
        self.max_ejected_percent
    }

    /// Whether an answer of 5xx is a failure.
    #[must_use]
    pub fn count_server_errors(&self) -> bool {
        self.count_server_errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused() {
        let good = proto::PassiveHealth {
            consecutive_failures: 5,
            base_ejection: 30,
            max_ejection: 300,
            max_ejected_percent: 10,
            count_server_errors: true,
        };
        let check = |wire: proto::PassiveHealth, expected: &str| {
            let error = PassiveHealth::from_wire(&wire).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        };
        let settings = PassiveHealth::from_wire(&good).expect("accepted");
        assert_eq!(settings.consecutive_failures().get(), 5);
        assert_eq!(settings.base_ejection(), Duration::from_secs(30));
        check(proto::PassiveHealth { consecutive_failures: 0, ..good }, "consecutive_failures `0`");
        check(proto::PassiveHealth { base_ejection: 0, ..good }, "base_ejection `0`");
        check(proto::PassiveHealth { max_ejection: 29, ..good }, "is less than base_ejection");
        check(proto::PassiveHealth { max_ejected_percent: 101, ..good }, "is not from 1 to 100");
    }
}
