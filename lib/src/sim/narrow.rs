//! A cluster that may not have all of its requests in flight at once, and another worker that has a part of it.
//!
//! The other worker is played: it takes places at the cluster, at its backends and in its line as our worker does, in
//! the same tables, and gives them back some time later without a word.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use kakehi_command::proto::Request;
use kakehi_command::proto::request::RequestType;

use super::orders::{BACKENDS_MAX, backend_address};
use super::rng::Rng;
use super::script::millis;
use super::site::Site;
use crate::limits::key::SECRET_BYTES;
use crate::limits::{Added, Key, Layout, Permit, Scope, SharedTables};

/// The most that may be in flight, and in line. 0: no limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Narrow {
    max: u32,
    per_backend: u32,
    queue: u32,
    timeout_ms: u32,
}

/// Nobody waits for so long.
const PATIENT_MS: u32 = 600_000;

/// More than there are clients.
const LONG: u32 = 100;

/// How long the other worker has a place at most.
const HELD_MS_MAX: usize = 3000;

impl Narrow {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let (max, per_backend) = match rng.below(3) {
            0 => (1 + rng.pick(&[0, 0, 1, 2]), 0),
            1 => (0, rng.pick(&[1, 1, 2])),
            _ => (rng.pick(&[2, 3]), 1),
        };
        let patient = rng.percent(50);
        let queue = if patient { LONG } else { rng.pick(&[0, 1, 2, LONG]) };
        let timeout_ms = if patient { PATIENT_MS } else { rng.pick(&[1, 50, 400, 3000]) };
        Self { max, per_backend, queue, timeout_ms }
    }

    /// Whether there are some who do not get their turn.
    pub(super) fn refuses(self) -> bool {
        self.queue < LONG || self.timeout_ms < PATIENT_MS
    }

    /// The same orders, with the limits in them.
    pub(super) fn write(self, requests: &[Request]) -> Vec<Request> {
        let mut requests = requests.to_vec();
        for request in &mut requests {
            if let Some(RequestType::AddCluster(cluster)) = &mut request.request_type
                && cluster.cluster_id == Site::Plain.cluster()
            {
                cluster.max_connections = Some(self.max);
                cluster.max_connections_per_backend = Some(self.per_backend);
                cluster.max_queue = Some(self.queue);
                cluster.queue_timeout_ms = Some(self.timeout_ms);
            }
        }
        requests
    }

    /// Whether so many may be in flight, by backend.
    pub(super) fn check(self, busy: &[(SocketAddr, usize)]) -> Result<(), String> {
        let all: usize = busy.iter().map(|(_, count)| count).sum();
        if self.max > 0 && all > self.max as usize {
            return Err(format!("{all} in flight, of {} at most", self.max));
        }
        let over = busy.iter().find(|(_, count)| self.per_backend > 0 && *count > self.per_backend as usize);
        over.map_or(Ok(()), |(at, count)| {
            Err(format!("{count} in flight at {at}, of {} at most", self.per_backend))
        })
    }
}

/// The other worker.
#[derive(Debug)]
pub(super) struct Neighbour {
    tables: SharedTables,
    narrow: Narrow,
    held: Vec<(Permit, Instant)>,
}

impl Neighbour {
    /// It, and the tables of ours. There may be little room in them.
    pub(super) fn new(narrow: Narrow) -> (Self, SharedTables) {
        let layout = Layout { entries: 64, lanes: 2 };
        let words: Vec<AtomicU64> = (0..layout.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
        let words = Vec::leak(words);
        let tables = |lane| SharedTables::new(words, layout, lane, &[1; SECRET_BYTES]).expect("they fit");
        (Self { tables: tables(1), narrow, held: Vec::new() }, tables(0))
    }

    fn keys(&self) -> Vec<(Key, u32)> {
        let cluster = Site::Plain.cluster().as_bytes();
        let mut keys = Vec::new();
        if self.narrow.max > 0 {
            keys.push((self.tables.key(Scope::Cluster, &[cluster]), self.narrow.max));
        }
        if self.narrow.queue == LONG {
            // Room enough is left for ours.
            keys.push((self.tables.key(Scope::Queue, &[cluster]), LONG / 2));
        }
        for index in (0..BACKENDS_MAX).filter(|_| self.narrow.per_backend > 0) {
            let (id, address) = (format!("b{index}"), backend_address(index).to_string());
            let key = self.tables.key(Scope::Backend, &[cluster, id.as_bytes(), address.as_bytes()]);
            keys.push((key, self.narrow.per_backend));
        }
        keys
    }

    /// Takes a place now and then, while there is `work`, and gives back those whose time is over.
    pub(super) fn step(&mut self, work: bool, now: Instant, rng: &mut Rng) -> bool {
        let mut moved = false;
        while let Some(at) = self.held.iter().position(|(_, until)| *until <= now) {
            self.tables.counters().sub(self.held.swap_remove(at).0);
            moved = true;
        }
        if work && rng.below(200) == 0 {
            let (key, limit) = rng.pick(&self.keys());
            if let Added::Counted(permit) = self.tables.counters().try_add(key, limit.into()) {
                self.held.push((permit, now + millis(rng.within(1..=HELD_MS_MAX))));
                moved = true;
            }
        }
        moved
    }

    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        self.held.iter().map(|(_, until)| *until).min()
    }

    /// Nobody has anything any more: nothing is counted.
    pub(super) fn check_end(&self) -> Result<(), String> {
        let counted = self.keys().into_iter().map(|(key, _)| self.tables.counters().count(key));
        let left: u64 = counted.sum::<u64>().saturating_sub(self.held.len() as u64);
        if left > 0 { Err(format!("{left} places are taken by nobody")) } else { Ok(()) }
    }
}

/// How often our worker looks for places that the other one has given back.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);
