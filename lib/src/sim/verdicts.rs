//! What main says of the health of backends: drawn here, told to the worker, and held against where requests go.
//!
//! Whoever asks after a backend was said to be dead is not led there, as long as the cluster has another one of which
//! nothing was said: with all of them dead, requests go to all (fail open).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use kakehi_command::proto::Request;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::supervision::{Subject, Verdict};

use super::orders::{backend_address, backend_index};
use super::site::Site;

/// What is known of the cluster whose backends come and go.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    present: BTreeSet<SocketAddr>,
    /// Of each backend that is dead, since when.
    dead: BTreeMap<SocketAddr, Instant>,
    /// When there was last no backend that is not dead.
    open_at: Option<Instant>,
}

impl Verdicts {
    /// Orders are carried out now.
    pub(super) fn heed(&mut self, requests: &[Request], now: Instant) {
        let cluster = Site::Plain.cluster();
        self.look(now);
        for request in requests {
            match &request.request_type {
                Some(RequestType::AddBackend(backend)) if backend.cluster_id == cluster => {
                    self.present.extend(backend_index(&backend.address).map(backend_address));
                }
                Some(RequestType::RemoveBackend(backend)) if backend.cluster_id == cluster => {
                    if let Some(at) = backend_index(&backend.address).map(backend_address) {
                        self.present.remove(&at);
                        self.dead.remove(&at);
                    }
                }
                _ => {}
            }
            self.look(now);
        }
    }

    /// What main says now of the backend with this number.
    pub(super) fn say(&mut self, index: usize, good: bool, now: Instant) -> Verdict {
        let at = backend_address(index);
        self.look(now);
        if good {
            self.dead.remove(&at);
        } else if self.present.contains(&at) {
            self.dead.entry(at).or_insert(now);
        }
        self.look(now);
        Verdict {
            cluster_id: Site::Plain.cluster().to_owned(),
            backend_id: format!("b{index}"),
            address: at.into(),
            subject: Subject::Requests.into(),
            good,
            reason: None,
        }
    }

    /// Whether a request that was asked for then may be led there now.
    pub(super) fn may(&self, at: SocketAddr, asked: Instant) -> bool {
        let dead = self.dead.get(&at).is_some_and(|since| asked > *since);
        !dead || self.all_are_dead() || self.open_at.is_some_and(|open| open >= asked)
    }

    /// Before and after each change: with all of them dead it is now that the last of that time is over.
    fn look(&mut self, now: Instant) {
        if self.all_are_dead() {
            self.open_at = Some(now);
        }
    }

    fn all_are_dead(&self) -> bool {
        self.present.iter().all(|at| self.dead.contains_key(at))
    }
}
