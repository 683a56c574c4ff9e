//! The orders that lead from one state to another, with the least disturbance.
//!
//! What stays is not mentioned. Removals come first, so that a freed identity can be taken again;
//! listeners that are to accept do so last, when everything behind them is in place.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use super::{ConfigState, List, index::FrontendEntry};
use crate::order::{
    HttpFrontend, HttpListener, Identity, ListenerKey, ListenerKind, Order, RulePosition, TcpFrontend,
};

impl ConfigState {
    /// Orders that, applied to this state, make it equal `to`.
    ///
    /// A listener is patched where a patch can say it; only if a setting is to be absent again is it
    /// removed and added anew.
    #[must_use]
    pub fn diff(&self, to: &Self) -> Vec<Order> {
        let mut orders: Vec<Order> = to.limits.orders_from(self.limits).collect();
        let kept = kept_frontends(self, to);
        self.removals(to, &kept, &mut orders);
        let mut activations = Vec::new();
        self.listener_removals(to, &mut orders);
        self.listener_changes(to, &mut orders, &mut activations);
        self.tcp_listener_changes(to, &mut orders, &mut activations);
        self.certificate_changes(to, &mut orders);
        self.additions(to, &kept, &mut orders);
        orders.append(&mut activations);
        orders
    }

    fn removals(&self, to: &Self, kept: &Kept<'_>, orders: &mut Vec<Order>) {
        for entry in &self.http_frontends {
            if !kept.contains(&entry.frontend.identity()) && !cascades(entry.frontend.as_ref(), self, to) {
                orders.push(Order::RemoveHttpFrontend(entry.frontend.clone()));
            }
        }
        for frontend in self.tcp_frontends() {
            let cascades = removed(frontend.cluster_id(), self, to);
            if !cascades && !is_kept(frontend, self, to) {
                orders.push(Order::RemoveTcpFrontend(frontend.clone()));
            }
        }
        for entry in &self.backends {
            // One that leaves its Unix socket may have to make room for another at its address.
            let stays = to
                .backends
                .get(entry)
                .is_some_and(|wanted| entry.0.unix_path().is_none() || wanted.0.unix_path().is_some());
            if !stays && to.clusters.contains_key(entry.0.cluster_id()) {
                orders.push(Order::RemoveBackend(entry.0.key()));
            }
        }
        let gone = self.clusters.keys().filter(|id| !to.clusters.contains_key(*id));
        orders.extend(gone.map(|id| Order::RemoveCluster(id.clone())));
    }

    /// Before any is added: what was there may speak TCP, and what comes HTTP.
    fn listener_removals(&self, to: &Self, orders: &mut Vec<Order>) {
        for (key, listener) in &self.http_listeners {
            if !to.http_listeners.contains_key(key) {
                orders.push(Order::RemoveListener { kind: listener.kind(), key: key.clone() });
            }
        }
        for key in self.tcp_listeners.keys() {
            if !to.tcp_listeners.contains_key(key) {
                orders.push(Order::RemoveListener { kind: ListenerKind::Tcp, key: key.clone() });
            }
        }
    }

    fn listener_changes(&self, to: &Self, orders: &mut Vec<Order>, activations: &mut Vec<Order>) {
        let remove = |listener: &HttpListener| Order::RemoveListener {
            kind: listener.kind(),
            key: listener.key().clone(),
        };
        for (key, wanted) in &to.http_listeners {
            let present = self.http_listeners.get(key);
            let mut active = present.is_some_and(|present| present.active());
            // Updates name an address alone: where interfaces share it, in between too, they cannot be used.
            let alone = [self, to].iter().all(|state| state.listeners_at(key.address) == 1);
            let patch = present.filter(|_| alone).and_then(|present| present.patch_to(wanted));
            match (present, patch) {
                (Some(present), _) if **present == wanted.with_active(active) => {}
                (Some(_), Some(patch)) => orders.push(Order::UpdateHttpListener(patch.into())),
                (present, _) => {
                    orders.extend(present.map(|present| remove(present)));
                    orders.push(Order::AddHttpListener(wanted.clone()));
                    active = false;
                }
            }
            let kind = wanted.kind();
            match (active, wanted.active()) {
                (false, true) => activations.push(Order::ActivateListener { kind, key: key.clone() }),
                (true, false) => orders.push(Order::DeactivateListener { kind, key: key.clone() }),
                _ => {}
            }
        }
    }

    /// As for HTTP.
    fn tcp_listener_changes(&self, to: &Self, orders: &mut Vec<Order>, activations: &mut Vec<Order>) {
        let kind = ListenerKind::Tcp;
        for (key, wanted) in &to.tcp_listeners {
            let present = self.tcp_listeners.get(key);
            let mut active = present.is_some_and(|present| present.active());
            let alone = [self, to].iter().all(|state| state.tcp_listeners_at(key.address) == 1);
            let patch = present.filter(|_| alone).and_then(|present| present.patch_to(wanted));
            match (present, patch) {
                (Some(present), _) if **present == wanted.with_active(active) => {}
                (Some(_), Some(patch)) => orders.push(Order::UpdateTcpListener(patch.into())),
                (present, _) => {
                    orders.extend(present.map(|_| Order::RemoveListener { kind, key: key.clone() }));
                    orders.push(Order::AddTcpListener(wanted.clone()));
                    active = false;
                }
            }
            match (active, wanted.active()) {
                (false, true) => activations.push(Order::ActivateListener { kind, key: key.clone() }),
                (true, false) => orders.push(Order::DeactivateListener { kind, key: key.clone() }),
                _ => {}
            }
        }
    }

    /// New ones first: a name that has another certificate now is never without one.
    fn certificate_changes(&self, to: &Self, orders: &mut Vec<Order>) {
        for wanted in to.certificates() {
            match self.certificate(&wanted.key_in_state()) {
                Some(present) if present == wanted => {}
                Some(present) => {
                    orders
                        .push(Order::ReplaceCertificate { new: wanted.clone(), old: present.fingerprint() });
                }
                None => orders.push(Order::AddCertificate(wanted.clone())),
            }
        }
        let gone =
            self.certificates().map(|it| it.key_in_state()).filter(|key| to.certificate(key).is_none());
        orders.extend(gone.map(Order::RemoveCertificate));
    }

    fn listeners_at(&self, address: SocketAddr) -> usize {
        let lowest = ListenerKey { address, interface: None };
        self.http_listeners.range(lowest..).take_while(|(key, _)| key.address == address).count()
    }

    fn tcp_listeners_at(&self, address: SocketAddr) -> usize {
        let lowest = ListenerKey { address, interface: None };
        self.tcp_listeners.range(lowest..).take_while(|(key, _)| key.address == address).count()
    }

    fn additions(&self, to: &Self, kept: &Kept<'_>, orders: &mut Vec<Order>) {
        for (id, cluster) in &to.clusters {
            if self.clusters.get(id) != Some(cluster) {
                orders.push(Order::AddCluster(cluster.clone()));
            }
        }
        for entry in &to.backends {
            // Removed before, if it leaves its Unix socket: then it differs, too.
            if self.backends.get(entry).is_none_or(|present| present.0 != entry.0) {
                orders.push(Order::AddBackend(entry.0.clone()));
            }
        }
        for frontend in to.http_frontends() {
            if !kept.contains(&frontend.identity()) {
                orders.push(Order::AddHttpFrontend(frontend.clone()));
            }
        }
        for frontend in to.tcp_frontends() {
            let present = self.tcp_frontends.get(frontend);
            if !present.is_some_and(|present| is_kept(present, self, to)) {
                orders.push(Order::AddTcpFrontend(frontend.clone()));
            }
        }
    }
}

/// Frontends that need no order.
type Kept<'a> = BTreeSet<Identity<'a>>;

/// Those that are the same in both states, and whose cluster is not removed on the way. Of a PRE or
/// POST list, only as many as leave the rest of `to`'s list to be appended.
fn kept_frontends<'a>(from: &'a ConfigState, to: &'a ConfigState) -> Kept<'a> {
    let same = |frontend: &Arc<HttpFrontend>| {
        let other = to.http_frontends.get(&FrontendEntry::probe(frontend));
        other.is_some_and(|other| other.frontend == *frontend) && !cascades(frontend, from, to)
    };
    let tree = from.http_frontends.iter().map(|entry| &entry.frontend);
    let tree = tree.filter(|frontend| frontend.position() == RulePosition::Tree && same(frontend));
    let mut kept: Kept<'_> = tree.map(|frontend| frontend.identity()).collect();

    let mut lists: BTreeMap<List, Vec<&Arc<HttpFrontend>>> = BTreeMap::new();
    for ((list, _), frontend) in &to.ordered_frontends {
        lists.entry(*list).or_default().push(frontend);
    }
    // The longest start of `to`'s list that is in `from`'s list in this order: one pass over each.
    let mut wanted: BTreeMap<_, _> =
        lists.iter().map(|(list, frontends)| (*list, frontends.iter().peekable())).collect();
    for ((list, _), frontend) in &from.ordered_frontends {
        if let Some(next) = wanted.get_mut(list)
            && next.peek().is_some_and(|next| **next == frontend)
            && !cascades(frontend, from, to)
        {
            next.next();
            kept.insert(frontend.identity());
        }
    }
    kept
}

/// Whether the removal of its cluster, on the way from one state to the other, removes the frontend.
fn cascades(frontend: &HttpFrontend, from: &ConfigState, to: &ConfigState) -> bool {
    frontend.cluster_id().is_some_and(|id| removed(id, from, to))
}

/// Whether a cluster is removed on the way from one state to the other.
fn removed(cluster_id: &str, from: &ConfigState, to: &ConfigState) -> bool {
    from.clusters.contains_key(cluster_id) && !to.clusters.contains_key(cluster_id)
}

/// Whether a TCP frontend of the one state needs no order to be in the other.
fn is_kept(frontend: &TcpFrontend, from: &ConfigState, to: &ConfigState) -> bool {
    let wanted = to.tcp_frontends.get(frontend);
    wanted.is_some_and(|wanted| **wanted == *frontend) && !removed(frontend.cluster_id(), from, to)
}
