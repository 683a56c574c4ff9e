//! Backends that were removed or drain: when they carry nothing any more.

use kakehi_command::order::{BackendKey as BackendIdentity, ClusterId};

use super::{BackendKey, Backends};
use crate::net::Stream;

/// What is told of those that leave.
#[derive(Debug, Default)]
pub(super) struct Departures {
    /// The revision that is being applied.
    revision: u64,
    told: Vec<(BackendIdentity, u64)>,
}

impl<S: Stream> Backends<S> {
    /// Who leaves from now on leaves by this revision.
    pub fn begin_revision(&mut self, revision: u64) {
        self.departures.revision = revision;
    }

    /// Backends that carry nothing any more since the last call, and the revisions that made them leave.
    pub fn take_departures(&mut self) -> Vec<(BackendIdentity, u64)> {
        std::mem::take(&mut self.departures.told)
    }

    /// Connections to what was removed or drains: of one cluster, or of one of its backends.
    pub fn left_in(&self, cluster: &ClusterId, backend: Option<&BackendIdentity>) -> usize {
        let is_asked = |identity: &BackendIdentity| match backend {
            Some(backend) => identity == backend,
            None => identity.cluster_id == *cluster,
        };
        let leaving = self.nodes.iter().filter(|(_, node)| node.is_leaving() && node.active > 0);
        leaving.filter(|(_, node)| is_asked(&node.config.key())).map(|(_, node)| node.active).sum()
    }

    /// Its settings are new, or it was removed.
    pub(super) fn note_leaving(&mut self, key: BackendKey) {
        let revision = self.departures.revision;
        let Some(node) = self.nodes.get_mut(key) else { return };
        if !node.is_leaving() {
            node.leaves_at = None;
            return;
        }
        node.leaves_at.get_or_insert(revision);
        self.tell_if_left(key);
    }

    /// A connection to it has ended.
    pub(super) fn tell_if_left(&mut self, key: BackendKey) {
        let Some(node) = self.nodes.get_mut(key).filter(|node| node.active == 0) else { return };
        if let Some(revision) = node.leaves_at.take() {
            self.departures.told.push((node.config.key(), revision));
        }
    }
}
