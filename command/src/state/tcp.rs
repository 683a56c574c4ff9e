//! Orders about TCP listeners and frontends; see [`super::apply`].

use std::sync::Arc;

use super::{
    Change, ConfigState, Effect,
    apply::{already_exists, not_found},
    change::Before,
    tcp_frontends::Clash,
};
use crate::order::{ListenerKey, ListenerKind, Noun, OrderError, TcpFrontend, TcpListener, TcpListenerPatch};

const LISTENER: Noun = Noun::Listener(ListenerKind::Tcp);

impl ConfigState {
    pub(super) fn add_tcp_listener(
        &mut self,
        listener: &Arc<TcpListener>,
        change: &mut Change,
    ) -> Result<(), OrderError> {
        let key = listener.key();
        self.check_free(ListenerKind::Tcp, key)?;
        // As for HTTP: activating is an order of its own.
        let listener =
            if listener.active() { Arc::new(listener.with_active(false)) } else { listener.clone() };
        self.set_tcp_listener(listener, change);
        Ok(())
    }

    pub(super) fn update_tcp_listener(
        &mut self,
        patch: &TcpListenerPatch,
        change: &mut Change,
    ) -> Result<(), OrderError> {
        let address = patch.address();
        let lowest = ListenerKey { address, interface: None };
        let mut at_address =
            self.tcp_listeners.range(&lowest..).map(|(_, it)| it).take_while(|it| it.address() == address);
        let listener = at_address.next().ok_or_else(|| not_found(LISTENER, &lowest))?.clone();
        if at_address.next().is_some() {
            return Err(OrderError::AmbiguousListener { address });
        }
        let patched = listener.patched(patch)?;
        if patched != *listener {
            self.set_tcp_listener(patched.into(), change);
        }
        Ok(())
    }

    pub(super) fn remove_tcp_listener(
        &mut self,
        key: &ListenerKey,
        change: &mut Change,
    ) -> Result<(), OrderError> {
        let listener = self.tcp_listeners.remove(key).ok_or_else(|| not_found(LISTENER, key))?;
        change.push(Effect::TcpListenerRemoved(key.clone()), Before::TcpListener(listener));
        Ok(())
    }

    pub(super) fn set_tcp_active(
        &mut self,
        key: &ListenerKey,
        active: bool,
        change: &mut Change,
    ) -> Result<(), OrderError> {
        let listener = self.tcp_listeners.get(key).ok_or_else(|| not_found(LISTENER, key))?;
        if listener.active() != active {
            let listener = listener.with_active(active);
            self.set_tcp_listener(listener.into(), change);
        }
        Ok(())
    }

    fn set_tcp_listener(&mut self, listener: Arc<TcpListener>, change: &mut Change) {
        let before = self.tcp_listeners.insert(listener.key().clone(), listener.clone());
        change.push(Effect::TcpListenerSet(listener), before.map_or(Before::Nothing, Before::TcpListener));
    }

    pub(super) fn add_tcp_frontend(
        &mut self,
        frontend: &Arc<TcpFrontend>,
        change: &mut Change,
    ) -> Result<(), OrderError> {
        if self.tcp_frontends.get(frontend).is_some() {
            return Err(already_exists(Noun::TcpFrontend, &frontend.identity()));
        }
        if let Some(Clash { present, reason }) = self.tcp_frontends.clash(frontend) {
            return Err(OrderError::TcpFrontendClash {
                key: frontend.identity().to_string(),
                present: present.identity().to_string(),
                owner: present.cluster_id().clone(),
                reason,
            });
        }
        self.clusters.get(frontend.cluster_id()).map_or(Ok(()), |cluster| cluster.check_fit_for_tcp())?;
        self.tcp_frontends.insert(frontend);
        change.push(Effect::TcpFrontendAdded(frontend.clone()), Before::Nothing);
        Ok(())
    }

    pub(super) fn remove_tcp_frontend(
        &mut self,
        frontend: &TcpFrontend,
        change: &mut Change,
    ) -> Result<(), OrderError> {
        let id = frontend.cluster_id();
        let Some(present) = self.tcp_frontends.get(frontend).cloned() else {
            // As for HTTP: removing the cluster removed its frontends.
            return match self.clusters.contains_key(id) {
                true => Err(not_found(Noun::TcpFrontend, &frontend.identity())),
                false => Ok(()),
            };
        };
        if present.cluster_id() != id {
            return Err(OrderError::OtherCluster {
                noun: Noun::TcpFrontend,
                key: present.identity().to_string(),
                owner: format!("cluster `{}`", present.cluster_id()),
                named: format!("cluster `{id}`"),
            });
        }
        self.take_tcp_frontend(&present, change);
        Ok(())
    }

    /// Removes the TCP frontends of a cluster.
    pub(super) fn remove_tcp_frontends_of(&mut self, cluster_id: &str, change: &mut Change) {
        let frontends: Vec<_> = self.tcp_frontends.of(cluster_id).cloned().collect();
        for frontend in frontends {
            self.take_tcp_frontend(&frontend, change);
        }
    }

    fn take_tcp_frontend(&mut self, frontend: &TcpFrontend, change: &mut Change) {
        if let Some(removed) = self.tcp_frontends.remove(frontend) {
            change.push(Effect::TcpFrontendRemoved(removed.clone()), Before::TcpFrontend(removed));
        }
    }
}
