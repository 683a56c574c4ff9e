//! Backends whose connections an operator closes.

use std::collections::HashSet;

use kakehi_command::order::SessionsOf;

use super::{BackendKey, Backends};
use crate::net::{Peer, Stream};

impl<S: Stream> Backends<S> {
    /// The backends that are meant, and those that were removed but are in use still.
    pub fn meant_by(&self, sessions: &SessionsOf) -> HashSet<BackendKey> {
        self.nodes.iter().filter(|(_, node)| sessions.has(&node.config)).map(|(key, _)| key).collect()
    }

    /// Takes all idle connections to these backends out of the pool, to be closed.
    #[must_use]
    pub fn take_all_idle(&mut self, keys: &HashSet<BackendKey>) -> Vec<Peer<S>> {
        let mut taken = Vec::new();
        for &key in keys {
            let Some(node) = self.nodes.get_mut(key) else { continue };
            let idle = std::mem::take(&mut node.idle);
            self.idle -= idle.len();
            taken.extend(idle.into_iter().map(|idle| idle.peer));
        }
        taken
    }
}
