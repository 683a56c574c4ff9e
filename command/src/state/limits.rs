//! Limits of the whole proxy; see [`super::apply`].

use super::{Change, ConfigState, Effect, change::Before};
use crate::order::{ConnectionLimit, Order};

/// Each is 0, or absent, where there is none.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct ConnectionLimits {
    per_source: u64,
    per_subnet: u64,
    connection_attempts: Option<u8>,
}

impl ConnectionLimits {
    pub(super) fn get(self, limit: ConnectionLimit) -> u64 {
        match limit {
            ConnectionLimit::PerSource => self.per_source,
            ConnectionLimit::PerSubnet => self.per_subnet,
        }
    }

    pub(super) fn set(&mut self, limit: ConnectionLimit, value: u64) {
        match limit {
            ConnectionLimit::PerSource => self.per_source = value,
            ConnectionLimit::PerSubnet => self.per_subnet = value,
        }
    }

    pub(super) fn restore_attempts(&mut self, value: Option<u8>) {
        self.connection_attempts = value;
    }

    /// The orders that lead from other limits to these.
    pub(super) fn orders_from(self, other: Self) -> impl Iterator<Item = Order> {
        let differs = move |limit: &ConnectionLimit| self.get(*limit) != other.get(*limit);
        let order = move |limit| Order::SetConnectionLimit { limit, value: self.get(limit) };
        let attempts = (self.connection_attempts != other.connection_attempts)
            .then_some(Order::SetConnectionAttempts(self.connection_attempts));
        ConnectionLimit::ALL.into_iter().filter(differs).map(order).chain(attempts)
    }
}

impl ConfigState {
    /// A limit of the whole proxy; 0: none.
    #[must_use]
    pub fn connection_limit(&self, limit: ConnectionLimit) -> u64 {
        self.limits.get(limit)
    }

    /// Connects for one request at most, where it is not as configured.
    #[must_use]
    pub fn connection_attempts(&self) -> Option<u8> {
        self.limits.connection_attempts
    }

    pub(super) fn set_connection_attempts(&mut self, value: Option<u8>, change: &mut Change) {
        let before = self.limits.connection_attempts;
        if before != value {
            self.limits.connection_attempts = value;
            change.push(Effect::ConnectionAttemptsSet(value), Before::ConnectionAttempts(before));
        }
    }

    pub(super) fn set_connection_limit(&mut self, limit: ConnectionLimit, value: u64, change: &mut Change) {
        let before = self.limits.get(limit);
        if before != value {
            self.limits.set(limit, value);
            change.push(Effect::ConnectionLimitSet { limit, value }, Before::ConnectionLimit(before));
        }
    }
}
