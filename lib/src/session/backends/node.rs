//! One backend in the table: what is known of it, and its idle connections.

use std::sync::Arc;
use std::time::Instant;

use kakehi_command::order::Backend;

use super::ClusterKey;
use super::concurrency::Berths;
use super::health::{Failures, Marks};
use super::idle_limit::IdleLimit;
use super::series::Kept;
use crate::balancing::{ConnectTime, hash};
use crate::health::Backoff;
use crate::limits::SharedTables;
use crate::metrics::BackendSeries;
use crate::net::Peer;

/// See the module.
#[derive(Debug)]
pub(super) struct Node<S> {
    /// Whose it is, or was.
    pub(super) cluster: ClusterKey,
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
    /// What is counted of them over all workers, where that is limited.
    pub(super) berths: Option<Box<Berths>>,
    pub(super) removed: bool,
    /// The revision that made it leave, until it is told that it has nothing left.
    pub(super) leaves_at: Option<u64>,
    /// What is said of its health.
    pub(super) marks: Marks,
    /// Requests that failed in a row.
    pub(super) failures: Failures,
    /// What stands for it among those that this worker probes.
    pub(super) target: Option<usize>,
    /// The hash of where it is.
    pub(super) place: u64,
    /// When it came, or came back last.
    pub(super) since: Instant,
    /// How long connecting to it takes.
    pub(super) connect_time: ConnectTime,
    /// What is counted of it.
    pub(super) series: Kept<BackendSeries>,
}

/// A connection in the pool.
#[derive(Debug)]
pub(super) struct Idle<S> {
    pub(super) peer: Peer<S>,
    pub(super) since: Instant,
}

impl<S> Node<S> {
    pub(super) fn new(config: Arc<Backend>, cluster: ClusterKey, serial: u64, now: Instant) -> Self {
        Self {
            cluster,
            place: hash::place(config.address()),
            since: now,
            connect_time: ConnectTime::default(),
            config,
            backoff: Backoff::new(now),
            idle: Vec::new(),
            serial,
            listed: false,
            idle_limit: IdleLimit::unknown(now),
            active: 0,
            berths: None,
            removed: false,
            leaves_at: None,
            marks: Marks::default(),
            failures: Failures::default(),
            target: None,
            series: Kept::Nothing,
        }
    }

    /// Whether a request may go there now.
    pub(super) fn may_take(&self, now: Instant) -> bool {
        // A connection that stands is no attempt to connect.
        !self.is_leaving() && self.marks.allow() && (!self.idle.is_empty() || self.backoff.is_available(now))
    }

    /// Whether a request may go there now, and it has room for one.
    pub(super) fn takes(&self, now: Instant, tables: Option<&SharedTables>) -> bool {
        self.may_take(now)
            && !self.berths.as_ref().is_some_and(|berths| berths.are_taken(self.active, tables))
    }

    /// Whether it only finishes what it carries: nothing is pooled for it, either.
    pub(super) fn is_leaving(&self) -> bool {
        self.removed || self.config.draining()
    }
}
