//! One backend in the table: what is known of it, and its idle connections.

use std::sync::Arc;
use std::time::Instant;

use kakehi_command::order::Backend;

use super::idle_limit::IdleLimit;
use crate::health::Backoff;
use crate::net::Peer;

/// See the module.
#[derive(Debug)]
pub(super) struct Node<S> {
    pub(super) config: Arc<Backend>,
    pub(super) backoff: Backoff,
    /// Those idle for longest first.
    pub(super) idle: Vec<Idle<S>>,
    /// Tells it from an earlier one with the same key.
    pub(super) serial: u64,
    /// In the queue of those that have had idle connections.
    pub(super) listed: bool,
    /// For how long the backend lets idle connections be.
    pub(super) idle_limit: IdleLimit,
    /// Connections that sessions use now.
    pub(super) active: usize,
    pub(super) removed: bool,
}

/// A connection in the pool.
#[derive(Debug)]
pub(super) struct Idle<S> {
    pub(super) peer: Peer<S>,
    pub(super) since: Instant,
}

impl<S> Node<S> {
    pub(super) fn new(config: Arc<Backend>, serial: u64, now: Instant) -> Self {
        Self {
            config,
            backoff: Backoff::new(now),
            idle: Vec::new(),
            serial,
            listed: false,
            idle_limit: IdleLimit::unknown(now),
            active: 0,
            removed: false,
        }
    }

    /// Whether a request may go there now.
    pub(super) fn may_take(&self, now: Instant) -> bool {
        // A connection that stands is no attempt to connect.
        !self.is_leaving() && (!self.idle.is_empty() || self.backoff.is_available(now))
    }

    /// Whether it only finishes what it carries: nothing is pooled for it, either.
    pub(super) fn is_leaving(&self) -> bool {
        self.removed || self.config.draining()
    }
}
