//! What an order changed: for those who derive tables from the state, and to take it back.

use std::sync::Arc;

use crate::order::{
    Backend, BackendKey, Certificate, CertificateKey, Cluster, ClusterId, ConnectionLimit, HttpFrontend,
    HttpListener, ListenerKey, TcpFrontend, TcpListener,
};

/// What an accepted order really changed, cascades included. Empty if everything was so already.
///
/// A change that is not undone must be passed on: tables derived from the state follow its effects.
#[derive(Debug, Default)]
pub struct Change {
    pub(super) effects: Vec<Effect>,
    /// For each effect, what was there before.
    pub(super) before: Vec<Before>,
}

/// One change of one thing.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The cluster is new, or has new settings.
    ClusterSet(Arc<Cluster>),
    /// The cluster is gone. Effects before this one removed its frontends and backends.
    ClusterRemoved(ClusterId),
    /// The backend is new, or has new settings.
    BackendSet(Arc<Backend>),
    /// The backend is gone.
    BackendRemoved(BackendKey),
    /// The frontend is new; in PRE and POST positions it comes after all others.
    HttpFrontendAdded(Arc<HttpFrontend>),
    /// The frontend is gone.
    HttpFrontendRemoved(Arc<HttpFrontend>),
    /// The listener is new, has new settings, or has been activated or deactivated.
    HttpListenerSet(Arc<HttpListener>),
    /// The listener is gone.
    HttpListenerRemoved(ListenerKey),
    /// The TCP frontend is new.
    TcpFrontendAdded(Arc<TcpFrontend>),
    /// The TCP frontend is gone.
    TcpFrontendRemoved(Arc<TcpFrontend>),
    /// The TCP listener is new, has new settings, or has been activated or deactivated.
    TcpListenerSet(Arc<TcpListener>),
    /// The TCP listener is gone.
    TcpListenerRemoved(ListenerKey),
    /// The certificate is new, or has something new beside itself. What a replacement removes follows.
    CertificateSet(Arc<Certificate>),
    /// The certificate is gone.
    CertificateRemoved(CertificateKey),
    /// The limit is another one.
    ConnectionLimitSet {
        /// Which.
        limit: ConnectionLimit,
        /// The most connections; 0: as many as come.
        value: u64,
    },
    /// Connects for one request at most are so many; none: as configured.
    ConnectionAttemptsSet(Option<u8>),
}

/// What an effect replaced.
#[derive(Debug)]
pub(super) enum Before {
    Nothing,
    Cluster(Arc<Cluster>),
    Backend(Arc<Backend>),
    HttpListener(Arc<HttpListener>),
    TcpListener(Arc<TcpListener>),
    TcpFrontend(Arc<TcpFrontend>),
    Certificate(Arc<Certificate>),
    ConnectionLimit(u64),
    ConnectionAttempts(Option<u8>),
    /// The removed frontend's place among the ordered ones.
    HttpFrontend {
        sequence: u64,
    },
}

impl Change {
    /// What changed, in the order in which it did.
    #[must_use]
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// Whether nothing changed: the order asked for what was so already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    pub(super) fn push(&mut self, effect: Effect, before: Before) {
        self.effects.push(effect);
        self.before.push(before);
    }
}
