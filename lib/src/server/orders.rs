//! Applying a revision: the state first, then the tables that are derived from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kakehi_command::order::{BackendTls, ClusterId, ListenerKey, Order};
use kakehi_command::proto::Request;
use kakehi_command::state::Effect;
use rustls::pki_types::ServerName;

use crate::listener::ListenerConfig;
use crate::net::Network;
use crate::session::Owner;
use crate::session::backends::Secured;
use crate::tls::client_config::{SystemAuthorities, client_config};
use crate::tls::server_config::Shared as SharedTls;
use crate::tls::settings::client_settings;

use super::worker::Worker;

/// The last word of a revision on each listener that it touches; none if it is removed.
type Listeners = BTreeMap<ListenerKey, Option<ListenerConfig>>;

impl<N: Network> Worker<N> {
    /// Applies all requests as revision `revision`, or says why not. Main has accepted them, so a
    /// refusal means that this worker has drifted: it must be replaced, whatever it applied.
    pub fn apply(&mut self, revision: u64, requests: &[Request]) -> Result<(), String> {
        let mut touched = Listeners::new();
        self.shared.backends.begin_revision(revision);
        let mut clusters = BTreeSet::new();
        for request in requests {
            let order = Order::from_request(request).map_err(|error| error.to_string())?;
            let change = self.state.apply(&order).map_err(|error| error.to_string())?;
            for effect in change.effects() {
                clusters.extend(cluster_of(effect).cloned());
                self.take_effect(effect, &mut touched)?;
            }
        }
        for id in &clusters {
            self.shared.settle_health(id);
            self.shared.settle_limits(id);
        }
        for (key, listener) in touched {
            self.settle_listener(&key, listener, revision)?;
        }
        // Sockets come before the revision that wants them. One that nobody wanted would take in
        // connections that nobody accepts.
        self.shared.listeners.forget_offered();
        self.revision = revision;
        self.shared.revision = revision;
        Ok(())
    }

    fn take_effect(&mut self, effect: &Effect, touched: &mut Listeners) -> Result<(), String> {
        let shared = &mut self.shared;
        match effect {
            Effect::ClusterSet(cluster) => {
                let (tls, system) = (shared.listeners.tls(), &shared.authorities);
                let secure = |settings: &BackendTls| secured(settings, tls, system);
                for peer in shared.backends.set_cluster(cluster.clone(), secure)? {
                    shared.release_token(peer.token());
                }
            }
            Effect::ClusterRemoved(id) => shared.backends.remove_cluster(id),
            Effect::BackendSet(backend) => {
                if shared.backends.moves(backend) {
                    shared.forget_target(&backend.key());
                }
                for peer in shared.backends.set_backend(backend.clone(), shared.now) {
                    shared.release_token(peer.token());
                }
            }
            Effect::BackendRemoved(key) => {
                shared.forget_target(key);
                for peer in shared.backends.remove_backend(key) {
                    shared.release_token(peer.token());
                }
            }
            Effect::HttpFrontendAdded(frontend) => {
                let cluster = frontend.cluster_id().map(|id| shared.backends.hold(id));
                shared.listeners.add_frontend(frontend, cluster).map_err(|error| error.to_string())?;
            }
            Effect::HttpFrontendRemoved(frontend) => {
                let route = shared.listeners.remove_frontend(frontend);
                if let Some(cluster) = route.and_then(|route| route.cluster) {
                    shared.backends.release(cluster);
                }
            }
            Effect::CertificateSet(certificate) => shared.listeners.set_certificate(certificate)?,
            Effect::CertificateRemoved(key) => shared.listeners.remove_certificate(key),
            Effect::HttpListenerSet(listener) => {
                touched.insert(listener.key().clone(), Some(ListenerConfig::Http(listener.clone())));
            }
            Effect::TcpFrontendAdded(frontend) => {
                let cluster = shared.backends.hold(frontend.cluster_id());
                shared.listeners.add_tcp_frontend(frontend, cluster);
            }
            Effect::TcpFrontendRemoved(frontend) => {
                if let Some(route) = shared.listeners.remove_tcp_frontend(frontend) {
                    shared.backends.release(route.cluster);
                }
            }
            Effect::TcpListenerSet(listener) => {
                touched.insert(listener.key().clone(), Some(ListenerConfig::Tcp(listener.clone())));
            }
            Effect::ConnectionLimitSet { limit, value } => shared.limits.set(*limit, *value),
            Effect::ConnectionAttemptsSet(value) => {
                shared.settings.connection_attempts_max = value.unwrap_or(self.attempts_configured);
            }
            Effect::HttpListenerRemoved(key) | Effect::TcpListenerRemoved(key) => {
                touched.insert(key.clone(), None);
            }
        }
        Ok(())
    }

    /// Makes a listener what it is at the end of a revision, whatever it was on the way there.
    fn settle_listener(
        &mut self,
        key: &ListenerKey,
        listener: Option<ListenerConfig>,
        revision: u64,
    ) -> Result<(), String> {
        // Another kind has other rules and other sessions: it is another listener.
        if let (Some(index), Some(wanted)) = (self.shared.listeners.find(key), &listener)
            && self.shared.listeners.get(index).is_some_and(|it| it.kind() != wanted.kind())
        {
            self.retire_listener(index, revision);
            self.shared.listeners.remove(key);
        }
        match listener {
            Some(listener) => {
                let active = listener.active();
                let index = self.shared.listeners.set(listener)?;
                if active {
                    return self.open_listener(index);
                }
                self.retire_listener(index, revision);
            }
            None => {
                if let Some(index) = self.shared.listeners.find(key) {
                    self.retire_listener(index, revision);
                }
                self.shared.listeners.remove(key);
            }
        }
        Ok(())
    }

    /// A listening socket of this worker's slot came.
    pub fn offer_socket(&mut self, key: &ListenerKey, socket: N::Listener) {
        self.shared.listeners.offer_socket(key.clone(), socket);
        if let Some(index) = self.shared.listeners.find(key) {
            let active = self.shared.listeners.get(index).is_some_and(|entry| entry.config().active());
            // One that accepts already has no use for it: it is closed with the revision that follows.
            if active && let Err(error) = self.open_listener(index) {
                log::error!("{error}");
            }
        }
    }

    /// Accepts on the socket that was handed over, if the listener does not accept already.
    fn open_listener(&mut self, index: usize) -> Result<(), String> {
        let shared = &mut self.shared;
        let Some(entry) = shared.listeners.get_mut(index) else { return Ok(()) };
        if entry.socket_mut().is_some() {
            return Ok(());
        }
        let key = entry.config().key().clone();
        let Some(mut socket) = shared.listeners.take_offered(&key) else {
            // At boot the sockets come after the state; later they come before it.
            return if self.serving { Err(format!("no socket came for listener {key}")) } else { Ok(()) };
        };
        let token = shared.owners.insert(Owner::Listener(index));
        shared
            .net
            .watch_listener(&mut socket, token)
            .map_err(|error| format!("listener {key} cannot be watched: {error}"))?;
        shared.listeners.open(index, socket, token);
        Ok(())
    }
}

/// The cluster whose settings or backends have changed.
fn cluster_of(effect: &Effect) -> Option<&ClusterId> {
    match effect {
        Effect::ClusterSet(cluster) => Some(cluster.id()),
        Effect::ClusterRemoved(id) => Some(id),
        Effect::BackendSet(backend) => Some(backend.cluster_id()),
        Effect::BackendRemoved(key) => Some(&key.cluster_id),
        _ => None,
    }
}

/// What rustls needs to speak to the backends of a cluster.
fn secured(settings: &BackendTls, tls: &SharedTls, system: &SystemAuthorities) -> Result<Secured, String> {
    let name = settings.server_name().map(|name| ServerName::try_from(name.to_owned())).transpose();
    let name = name.map_err(|error| format!("tls.server_name: {error}"))?;
    let settings = client_settings(settings).map_err(|error| format!("tls.client_certificate: {error}"))?;
    let config = client_config(&settings, tls, system).map_err(|error| format!("tls: {error}"))?;
    let mut bytes_config = (*config).clone();
    bytes_config.alpn_protocols.clear();
    Ok(Secured { config, bytes_config: Arc::new(bytes_config), name })
}
