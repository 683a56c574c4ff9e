//! Applying orders, taking changes back, and doing several at once or not at all.
//!
//! Every order is decided before the first write. Costs are O(log n) plus what the order changes:
//! removing a cluster looks at its own frontends and backends only.

use std::{fmt, sync::Arc};

use super::{
    Change, ConfigState, Effect,
    change::Before,
    index::{BackendEntry, ByCluster, FrontendEntry, of_cluster},
};
use crate::order::{
    Backend, BackendKey, Certificate, CertificateKey, Cluster, ClusterId, Fingerprint, HealthCheck,
    HttpFrontend, HttpListener, HttpListenerPatch, ListenerKey, ListenerKind, Noun, Order, OrderError,
    RulePosition,
};

/// Why a transaction is refused. Nothing has changed.
#[derive(Debug, PartialEq)]
pub struct TransactionError {
    /// Every refused order, by index. An order that is refused only because an earlier one was (a
    /// backend of a refused cluster) is among them.
    pub culprits: Vec<Culprit>,
}

/// A refused order of a transaction.
#[derive(Debug, PartialEq)]
pub struct Culprit {
    /// Its place in the transaction, from 0.
    pub index: usize,
    /// What it was.
    pub verb: &'static str,
    /// Why it is refused.
    pub error: OrderError,
}

/// Culprits that the error's text names; the rest are counted.
const CULPRITS_NAMED_MAX: usize = 10;

impl fmt::Display for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, culprit) in self.culprits.iter().take(CULPRITS_NAMED_MAX).enumerate() {
            let separator = if nth == 0 { "" } else { "; " };
            write!(f, "{separator}order {} ({}): {}", culprit.index, culprit.verb, culprit.error)?;
        }
        match self.culprits.len().saturating_sub(CULPRITS_NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for TransactionError {}

impl ConfigState {
    /// Applies one order.
    ///
    /// Asking for what is so already is accepted and changes nothing: setting a cluster or backend to
    /// what it is, activating an active listener, adding a certificate that is there, removing one that is
    /// not, removing a frontend or backend of a cluster that does not exist (removing the cluster removed
    /// it).
    ///
    /// # Errors
    /// The order does not fit the state, which then is as before.
    pub fn apply(&mut self, order: &Order) -> Result<Change, OrderError> {
        let mut change = Change::default();
        match order {
            Order::AddHttpListener(listener) => self.add_http_listener(listener, &mut change)?,
            Order::UpdateHttpListener(patch) => self.update_http_listener(patch, &mut change)?,
            Order::AddTcpListener(listener) => self.add_tcp_listener(listener, &mut change)?,
            Order::UpdateTcpListener(patch) => self.update_tcp_listener(patch, &mut change)?,
            Order::RemoveListener { kind, key } => self.remove_listener(*kind, key, &mut change)?,
            Order::ActivateListener { kind, key } => self.set_active(*kind, key, true, &mut change)?,
            Order::DeactivateListener { kind, key } => self.set_active(*kind, key, false, &mut change)?,
            Order::AddCluster(cluster) => self.add_cluster(cluster, &mut change)?,
            Order::RemoveCluster(id) => self.remove_cluster(id, &mut change)?,
            Order::SetHealthCheck { cluster, check } => {
                self.set_health_check(cluster, Some(check), &mut change)?;
            }
            Order::RemoveHealthCheck(id) => self.set_health_check(id, None, &mut change)?,
            Order::AddHttpFrontend(frontend) => self.add_http_frontend(frontend, &mut change)?,
            Order::RemoveHttpFrontend(frontend) => self.remove_http_frontend(frontend, &mut change)?,
            Order::AddTcpFrontend(frontend) => self.add_tcp_frontend(frontend, &mut change)?,
            Order::RemoveTcpFrontend(frontend) => self.remove_tcp_frontend(frontend, &mut change)?,
            Order::AddCertificate(certificate) => {
                if self.certificates.get(&certificate.key_in_state()).is_none() {
                    self.set_certificate(certificate, &mut change);
                }
            }
            Order::RemoveCertificate(key) => self.remove_certificate(key, &mut change),
            Order::ReplaceCertificate { new, old } => self.replace_certificate(new, *old, &mut change)?,
            Order::AddBackend(backend) => self.add_backend(backend, &mut change)?,
            Order::RemoveBackend(key) => self.remove_backend(key, &mut change)?,
            Order::SetConnectionLimit { limit, value } => {
                self.set_connection_limit(*limit, *value, &mut change);
            }
            Order::SetConnectionAttempts(value) => self.set_connection_attempts(*value, &mut change),
        }
        Ok(change)
    }

    /// Takes a change back. Changes are taken back in the reverse of the order in which they were made.
    pub fn undo(&mut self, change: Change) {
        for (effect, before) in change.effects.into_iter().zip(change.before).rev() {
            match (effect, before) {
                (_, Before::Cluster(cluster)) => {
                    self.clusters.insert(cluster.id().clone(), cluster);
                }
                (_, Before::Backend(backend)) => {
                    self.file_backend(backend);
                }
                (_, Before::HttpListener(listener)) => {
                    self.http_listeners.insert(listener.key().clone(), listener);
                }
                (_, Before::TcpListener(listener)) => {
                    self.tcp_listeners.insert(listener.key().clone(), listener);
                }
                (Effect::ConnectionLimitSet { limit, .. }, Before::ConnectionLimit(value)) => {
                    self.limits.set(limit, value);
                }
                (_, Before::ConnectionAttempts(value)) => self.limits.restore_attempts(value),
                (_, Before::TcpFrontend(frontend)) => self.tcp_frontends.insert(&frontend),
                (_, Before::Certificate(certificate)) => {
                    self.certificates.set(&certificate);
                }
                (Effect::HttpFrontendRemoved(frontend), Before::HttpFrontend { sequence }) => {
                    self.file_frontend(FrontendEntry { frontend, sequence });
                }
                (added, Before::Nothing) => self.take_back(added),
                (effect, before) => debug_assert!(false, "no such pair is recorded: {effect:?}, {before:?}"),
            }
        }
    }

    fn take_back(&mut self, added: Effect) {
        match added {
            Effect::ClusterSet(cluster) => {
                self.clusters.remove(cluster.id());
            }
            Effect::BackendSet(backend) => {
                self.take_backend(&backend);
            }
            Effect::HttpListenerSet(listener) => {
                self.http_listeners.remove(listener.key());
            }
            Effect::HttpFrontendAdded(frontend) => {
                self.take_frontend(&frontend);
            }
            Effect::TcpListenerSet(listener) => {
                self.tcp_listeners.remove(listener.key());
            }
            Effect::TcpFrontendAdded(frontend) => {
                self.tcp_frontends.remove(&frontend);
            }
            Effect::CertificateSet(certificate) => {
                self.certificates.remove(&certificate.key_in_state());
            }
            Effect::ClusterRemoved(_)
            | Effect::BackendRemoved(_)
            | Effect::HttpListenerRemoved(_)
            | Effect::TcpListenerRemoved(_)
            | Effect::TcpFrontendRemoved(_)
            | Effect::CertificateRemoved(_)
            | Effect::ConnectionLimitSet { .. }
            | Effect::ConnectionAttemptsSet(_)
            | Effect::HttpFrontendRemoved(_) => debug_assert!(false, "a removal records what it removed"),
        }
    }

    /// Applies all orders, or none.
    ///
    /// # Errors
    /// Some order does not fit the state that those before it leave; the error names each one that
    /// does not, and the state is as before.
    pub fn transact(&mut self, orders: &[Order]) -> Result<Vec<Change>, TransactionError> {
        let mut changes = Vec::with_capacity(orders.len());
        let mut culprits = Vec::new();
        for (index, order) in orders.iter().enumerate() {
            match self.apply(order) {
                Ok(change) => changes.push(change),
                Err(error) => culprits.push(Culprit { index, verb: order.verb(), error }),
            }
        }
        if culprits.is_empty() {
            return Ok(changes);
        }
        for change in changes.into_iter().rev() {
            self.undo(change);
        }
        Err(TransactionError { culprits })
    }

    fn add_http_listener(
        &mut self,
        listener: &Arc<HttpListener>,
        change: &mut Change,
    ) -> Result<(), OrderError> {
        self.check_free(listener.kind(), listener.key())?;
        // A listener is active only once it has been activated, whatever its message says: `active`
        // without a bound socket would be a lie.
        let listener =
            if listener.active() { Arc::new(listener.with_active(false)) } else { listener.clone() };
        self.set_http_listener(listener, change);
        Ok(())
    }

    /// One socket speaks one protocol: no listener of whatever kind may have this key yet.
    pub(super) fn check_free(&self, wanted: ListenerKind, key: &ListenerKey) -> Result<(), OrderError> {
        let http = self.http_listeners.get(key).map(|listener| listener.kind());
        match http.or_else(|| self.tcp_listeners.get(key).map(|_| ListenerKind::Tcp)) {
            None => Ok(()),
            Some(kind) if kind == wanted => Err(already_exists(Noun::Listener(kind), key)),
            Some(present) => Err(OrderError::OtherKind { key: key.to_string(), wanted, present }),
        }
    }

    fn update_http_listener(
        &mut self,
        patch: &HttpListenerPatch,
        change: &mut Change,
    ) -> Result<(), OrderError> {
        let address = patch.address();
        let lowest = ListenerKey { address, interface: None };
        let mut at_address = self
            .http_listeners
            .range(&lowest..)
            .map(|(_, listener)| listener)
            .take_while(|it| it.address() == address)
            .filter(|it| it.kind() == patch.kind());
        let listener =
            at_address.next().ok_or_else(|| not_found(Noun::Listener(patch.kind()), &lowest))?.clone();
        if at_address.next().is_some() {
            return Err(OrderError::AmbiguousListener { address });
        }
        let patched = listener.patched(patch)?;
        if patched != *listener {
            self.set_http_listener(patched.into(), change);
        }
        Ok(())
    }

    fn remove_listener(
        &mut self,
        kind: ListenerKind,
        key: &ListenerKey,
        change: &mut Change,
    ) -> Result<(), OrderError> {
        if kind == ListenerKind::Tcp {
            return self.remove_tcp_listener(key, change);
        }
        let listener = self.listener_of(kind, key)?.clone();
        self.http_listeners.remove(key);
        change.push(Effect::HttpListenerRemoved(key.clone()), Before::HttpListener(listener));
        Ok(())
    }

    fn set_active(
        &mut self,
        kind: ListenerKind,
        key: &ListenerKey,
        active: bool,
        change: &mut Change,
    ) -> Result<(), OrderError> {
        if kind == ListenerKind::Tcp {
            return self.set_tcp_active(key, active, change);
        }
        let listener = self.listener_of(kind, key)?;
        if listener.active() != active {
            let listener = listener.with_active(active);
            self.set_http_listener(listener.into(), change);
        }
        Ok(())
    }

    fn listener_of(&self, kind: ListenerKind, key: &ListenerKey) -> Result<&Arc<HttpListener>, OrderError> {
        let listener = self.http_listeners.get(key).filter(|listener| listener.kind() == kind);
        listener.ok_or_else(|| not_found(Noun::Listener(kind), key))
    }

    fn set_http_listener(&mut self, listener: Arc<HttpListener>, change: &mut Change) {
        let before = self.http_listeners.insert(listener.key().clone(), listener.clone());
        change.push(Effect::HttpListenerSet(listener), before.map_or(Before::Nothing, Before::HttpListener));
    }

    fn set_certificate(&mut self, certificate: &Arc<Certificate>, change: &mut Change) {
        let (filed, before) = self.certificates.set(certificate);
        change.push(Effect::CertificateSet(filed), before.map_or(Before::Nothing, Before::Certificate));
    }

    fn remove_certificate(&mut self, key: &CertificateKey, change: &mut Change) {
        if let Some(certificate) = self.certificates.remove(key) {
            change.push(Effect::CertificateRemoved(*key), Before::Certificate(certificate));
        }
    }

    /// The new one comes before the old one goes: nobody who looks in between finds neither.
    fn replace_certificate(
        &mut self,
        new: &Arc<Certificate>,
        old: Fingerprint,
        change: &mut Change,
    ) -> Result<(), OrderError> {
        let address = new.address();
        if self.certificates.at(address).next().is_none() {
            return Err(OrderError::NothingToReplace { address, new: new.fingerprint() });
        }
        if self.certificates.get(&new.key_in_state()) != Some(new) {
            self.set_certificate(new, change);
        }
        if old != new.fingerprint() {
            self.remove_certificate(&CertificateKey { address, fingerprint: old }, change);
        }
        Ok(())
    }

    fn add_cluster(&mut self, cluster: &Arc<Cluster>, change: &mut Change) -> Result<(), OrderError> {
        if self.clusters.get(cluster.id()).is_some_and(|present| present == cluster) {
            return Ok(());
        }
        if self.tcp_frontends.of(cluster.id()).next().is_some() {
            cluster.check_fit_for_tcp()?;
        }
        if self.unix_backends > 0 {
            for BackendEntry(backend) in of_cluster(&self.backends, cluster.id()) {
                check_probe_port(cluster, backend)?;
            }
        }
        let before = self.clusters.insert(cluster.id().clone(), cluster.clone());
        change.push(Effect::ClusterSet(cluster.clone()), before.map_or(Before::Nothing, Before::Cluster));
        Ok(())
    }

    fn set_health_check(
        &mut self,
        id: &ClusterId,
        check: Option<&Arc<HealthCheck>>,
        change: &mut Change,
    ) -> Result<(), OrderError> {
        let cluster = self.clusters.get(id).ok_or_else(|| not_found(Noun::Cluster, &format!("`{id}`")))?;
        if cluster.health_check() == check.map(|check| &**check) {
            return Ok(());
        }
        let cluster = Arc::new(cluster.with_health_check(check.map(|check| (**check).clone())));
        self.add_cluster(&cluster, change)
    }

    fn remove_cluster(&mut self, id: &ClusterId, change: &mut Change) -> Result<(), OrderError> {
        let cluster = self.clusters.remove(id).ok_or_else(|| not_found(Noun::Cluster, &format!("`{id}`")))?;
        let frontends: Vec<_> =
            of_cluster(&self.frontends_by_cluster, id).map(|entry| entry.0.clone()).collect();
        for frontend in frontends {
            self.remove_filed(&frontend, change);
        }
        self.remove_tcp_frontends_of(id, change);
        let backends: Vec<_> = of_cluster(&self.backends, id).cloned().collect();
        for entry in backends {
            self.take_backend(&entry.0);
            change.push(Effect::BackendRemoved(entry.0.key()), Before::Backend(entry.0));
        }
        change.push(Effect::ClusterRemoved(id.clone()), Before::Cluster(cluster));
        Ok(())
    }

    fn add_http_frontend(
        &mut self,
        frontend: &Arc<HttpFrontend>,
        change: &mut Change,
    ) -> Result<(), OrderError> {
        let probe = FrontendEntry::probe(frontend);
        if self.http_frontends.contains(&probe) {
            return Err(already_exists(noun(frontend), &frontend.identity()));
        }
        let sequence = match frontend.position() {
            RulePosition::Tree => 0,
            RulePosition::Pre | RulePosition::Post => {
                self.next_sequence += 1;
                self.next_sequence - 1
            }
        };
        self.file_frontend(FrontendEntry { sequence, ..probe });
        change.push(Effect::HttpFrontendAdded(frontend.clone()), Before::Nothing);
        Ok(())
    }

    fn remove_http_frontend(
        &mut self,
        frontend: &Arc<HttpFrontend>,
        change: &mut Change,
    ) -> Result<(), OrderError> {
        let present = match self.http_frontends.get(&FrontendEntry::probe(frontend)) {
            Some(entry) => entry.frontend.clone(),
            // Removing the cluster removed its frontends; a client that goes on to remove them one by one
            // gets what it wants.
            None => match frontend.cluster_id() {
                Some(id) if !self.clusters.contains_key(id) => return Ok(()),
                _ => return Err(not_found(noun(frontend), &frontend.identity())),
            },
        };
        if present.cluster_id() != frontend.cluster_id() {
            let name =
                |id: Option<&ClusterId>| id.map_or("no cluster".into(), |id| format!("cluster `{id}`"));
            return Err(OrderError::OtherCluster {
                noun: noun(frontend),
                key: present.identity().to_string(),
                owner: name(present.cluster_id()),
                named: name(frontend.cluster_id()),
            });
        }
        self.remove_filed(&present, change);
        Ok(())
    }

    fn add_backend(&mut self, backend: &Arc<Backend>, change: &mut Change) -> Result<(), OrderError> {
        let id = backend.cluster_id();
        let cluster = self.clusters.get(id).ok_or_else(|| not_found(Noun::Cluster, &format!("`{id}`")))?;
        let entry = BackendEntry(backend.clone());
        if self.backends.get(&entry).is_some_and(|present| present.0 == *backend) {
            return Ok(());
        }
        check_probe_port(cluster, backend)?;
        self.check_address_of(backend)?;
        let before = self.file_backend(backend.clone()).map_or(Before::Nothing, Before::Backend);
        change.push(Effect::BackendSet(backend.clone()), before);
        Ok(())
    }

    /// The address of a backend on a Unix socket is but a name: two of one cluster never have the same, nor one of
    /// them and a backend at that very address.
    fn check_address_of(&self, backend: &Backend) -> Result<(), OrderError> {
        // Where there are none, nothing has to be looked at.
        if self.unix_backends == 0 && backend.unix_path().is_none() {
            return Ok(());
        }
        let clash = of_cluster(&self.backends, backend.cluster_id()).find(|BackendEntry(other)| {
            other.address() == backend.address()
                && other.backend_id() != backend.backend_id()
                && (other.unix_path().is_some() || backend.unix_path().is_some())
        });
        match clash {
            None => Ok(()),
            Some(BackendEntry(other)) => Err(OrderError::BackendAddressTaken {
                key: backend.key().to_string(),
                present: other.backend_id().clone(),
            }),
        }
    }

    fn remove_backend(&mut self, key: &BackendKey, change: &mut Change) -> Result<(), OrderError> {
        let Some(backend) = self.backend(key).cloned() else {
            // As for frontends: the cluster took it along.
            return match self.clusters.contains_key(&key.cluster_id) {
                true => Err(not_found(Noun::Backend, key)),
                false => Ok(()),
            };
        };
        self.take_backend(&backend);
        change.push(Effect::BackendRemoved(key.clone()), Before::Backend(backend));
        Ok(())
    }

    fn file_backend(&mut self, backend: Arc<Backend>) -> Option<Arc<Backend>> {
        self.unix_backends += usize::from(backend.unix_path().is_some());
        let before = self.backends.replace(BackendEntry(backend))?.0;
        self.unix_backends -= usize::from(before.unix_path().is_some());
        Some(before)
    }

    fn take_backend(&mut self, backend: &Arc<Backend>) {
        if let Some(BackendEntry(taken)) = self.backends.take(&BackendEntry(backend.clone())) {
            self.unix_backends -= usize::from(taken.unix_path().is_some());
        }
    }

    fn remove_filed(&mut self, frontend: &Arc<HttpFrontend>, change: &mut Change) {
        if let Some(entry) = self.take_frontend(frontend) {
            change.push(
                Effect::HttpFrontendRemoved(entry.frontend),
                Before::HttpFrontend { sequence: entry.sequence },
            );
        }
    }

    fn file_frontend(&mut self, entry: FrontendEntry) {
        let frontend = &entry.frontend;
        if frontend.cluster_id().is_some() {
            self.frontends_by_cluster.insert(ByCluster(frontend.clone()));
        }
        if let Some(turn) = entry.turn() {
            self.ordered_frontends.insert(turn, frontend.clone());
        }
        self.http_frontends.insert(entry);
    }

    fn take_frontend(&mut self, frontend: &Arc<HttpFrontend>) -> Option<FrontendEntry> {
        let entry = self.http_frontends.take(&FrontendEntry::probe(frontend))?;
        if entry.frontend.cluster_id().is_some() {
            self.frontends_by_cluster.remove(&ByCluster(entry.frontend.clone()));
        }
        if let Some(turn) = entry.turn() {
            self.ordered_frontends.remove(&turn);
        }
        Some(entry)
    }
}

/// Probes of a backend on a Unix socket go to that socket.
fn check_probe_port(cluster: &Cluster, backend: &Backend) -> Result<(), OrderError> {
    match (backend.unix_path(), cluster.health_check().and_then(HealthCheck::port)) {
        (Some(_), Some(port)) => Err(OrderError::ProbePortOfUnixSocket {
            cluster: cluster.id().clone(),
            port,
            backend: backend.backend_id().clone(),
        }),
        _ => Ok(()),
    }
}

fn noun(frontend: &HttpFrontend) -> Noun {
    if frontend.is_https() { Noun::HttpsFrontend } else { Noun::HttpFrontend }
}

pub(super) fn already_exists(noun: Noun, key: &impl fmt::Display) -> OrderError {
    OrderError::AlreadyExists { noun, key: key.to_string() }
}

pub(super) fn not_found(noun: Noun, key: &impl fmt::Display) -> OrderError {
    OrderError::NotFound { noun, key: key.to_string() }
}
