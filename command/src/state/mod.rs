//! The configuration state: a pure value that orders change. It has no paths, no sockets, no clock.
//!
//! Main and every worker hold one and apply the same orders to it. Its laws, as property tests in
//! `tests.rs`: `apply(a, diff(a, b)) == b`; a refused order changes nothing; `undo` is the exact
//! inverse of `apply`; `load(save(s)) == s`; the order of independent orders is irrelevant.
//!
//! Read [`ConfigState`] first, then `apply.rs`. Values are shared with the orders they came in, so a
//! clone of the state copies pointers only.

mod apply;
mod certificates;
mod change;
mod diff;
mod index;
mod limits;
mod query;
mod save;
mod tcp;
mod tcp_frontends;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use crate::order::{
    Backend, BackendKey, Certificate, CertificateKey, Cluster, ClusterId, HttpFrontend, HttpListener,
    ListenerKey, ListenerKind, Order, RulePosition, TcpFrontend, TcpListener,
};

pub use apply::{Culprit, TransactionError};
use certificates::Certificates;
pub use change::{Change, Effect};
use index::{BackendEntry, ByCluster, FrontendEntry, Place, of_cluster};
use limits::ConnectionLimits;
pub use save::{STATE_RECORD_BYTES_MIN, StateFile, StateFileError, StateFileFault, read_state, write_state};
pub(crate) use tcp_frontends::TcpFrontends;

/// Listeners, clusters, frontends, certificates and backends.
///
/// Two states are equal if they behave alike: frontends in PRE and POST positions are compared in the
/// order in which they are tried, all others whatever the order in which they came.
#[derive(Clone, Default, Debug)]
pub struct ConfigState {
    /// HTTP and HTTPS ones.
    http_listeners: BTreeMap<ListenerKey, Arc<HttpListener>>,
    /// None has the key of an HTTP or HTTPS one.
    tcp_listeners: BTreeMap<ListenerKey, Arc<TcpListener>>,
    certificates: Certificates,
    clusters: BTreeMap<ClusterId, Arc<Cluster>>,
    /// By cluster, so that one cluster's are found without looking at others.
    backends: BTreeSet<BackendEntry>,
    /// Of these, those on Unix sockets.
    unix_backends: usize,
    /// Of HTTP and HTTPS listeners, by identity.
    http_frontends: BTreeSet<FrontendEntry>,
    /// Those that have a cluster, by cluster.
    frontends_by_cluster: BTreeSet<ByCluster>,
    /// PRE and POST frontends, in the order in which they are tried.
    ordered_frontends: BTreeMap<Turn, Arc<HttpFrontend>>,
    tcp_frontends: TcpFrontends,
    limits: ConnectionLimits,
    /// The sequence of the next PRE or POST frontend; grows only.
    next_sequence: u64,
}

/// When an ordered frontend's turn comes: its list, then its place in it.
type Turn = (List, u64);

/// Which list an ordered frontend is in: of HTTPS listeners or of HTTP ones, of which address and position.
type List = (bool, SocketAddr, RulePosition);

/// How many of each noun there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// HTTP and HTTPS listeners, active or not.
    pub http_listeners: usize,
    /// TCP listeners, active or not.
    pub tcp_listeners: usize,
    /// Certificates, those of listeners not counted.
    pub certificates: usize,
    /// Clusters.
    pub clusters: usize,
    /// HTTP and HTTPS frontends.
    pub http_frontends: usize,
    /// TCP frontends.
    pub tcp_frontends: usize,
    /// Backends.
    pub backends: usize,
}

impl ConfigState {
    /// How many of each noun there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            http_listeners: self.http_listeners.len(),
            tcp_listeners: self.tcp_listeners.len(),
            certificates: self.certificates.len(),
            clusters: self.clusters.len(),
            http_frontends: self.http_frontends.len(),
            tcp_frontends: self.tcp_frontends.len(),
            backends: self.backends.len(),
        }
    }

    /// How many things there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let Counts {
            http_listeners,
            tcp_listeners,
            certificates,
            clusters,
            http_frontends,
            tcp_frontends,
            backends,
        } = self.counts();
        let listeners = http_listeners + tcp_listeners;
        listeners + certificates + clusters + http_frontends + tcp_frontends + backends
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All HTTP and HTTPS listeners, by address.
    pub fn http_listeners(&self) -> impl Iterator<Item = &Arc<HttpListener>> {
        self.http_listeners.values()
    }

    /// One HTTP or HTTPS listener.
    #[must_use]
    pub fn http_listener(&self, key: &ListenerKey) -> Option<&Arc<HttpListener>> {
        self.http_listeners.get(key)
    }

    /// All TCP listeners, by address.
    pub fn tcp_listeners(&self) -> impl Iterator<Item = &Arc<TcpListener>> {
        self.tcp_listeners.values()
    }

    /// One TCP listener.
    #[must_use]
    pub fn tcp_listener(&self, key: &ListenerKey) -> Option<&Arc<TcpListener>> {
        self.tcp_listeners.get(key)
    }

    /// The listeners that accept connections, whatever they speak.
    pub fn active_listeners(&self) -> impl Iterator<Item = (ListenerKind, &ListenerKey)> {
        let http = self.http_listeners.values().filter(|listener| listener.active());
        let tcp = self.tcp_listeners.values().filter(|listener| listener.active());
        let http = http.map(|listener| (listener.kind(), listener.key()));
        http.chain(tcp.map(|listener| (ListenerKind::Tcp, listener.key())))
    }

    /// Whether a listener is there and accepts connections, whatever it speaks.
    #[must_use]
    pub fn is_active(&self, key: &ListenerKey) -> bool {
        self.http_listeners.get(key).is_some_and(|listener| listener.active())
            || self.tcp_listeners.get(key).is_some_and(|listener| listener.active())
    }

    /// Whether there is such a listener, active or not.
    pub fn has_listener(&self, key: &ListenerKey) -> bool {
        self.http_listeners.contains_key(key) || self.tcp_listeners.contains_key(key)
    }

    /// All certificates, by address and fingerprint; not those that listeners have of their own.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.certificates.iter()
    }

    /// The certificates of one address, by fingerprint.
    pub fn certificates_at(&self, address: SocketAddr) -> impl Iterator<Item = &Arc<Certificate>> {
        self.certificates.at(address)
    }

    /// One certificate.
    #[must_use]
    pub fn certificate(&self, key: &CertificateKey) -> Option<&Arc<Certificate>> {
        self.certificates.get(key)
    }

    /// All clusters, by id.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }

    /// One cluster.
    #[must_use]
    pub fn cluster(&self, id: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(id)
    }

    /// The backends of one cluster, by id and address.
    pub fn backends<'a>(&'a self, cluster_id: &'a str) -> impl Iterator<Item = &'a Arc<Backend>> {
        of_cluster(&self.backends, cluster_id).map(|entry| &entry.0)
    }

    /// One backend.
    #[must_use]
    pub fn backend(&self, key: &BackendKey) -> Option<&Arc<Backend>> {
        self.backends.get(key as &dyn Place).map(|entry| &entry.0)
    }

    /// The HTTP and HTTPS frontends of one cluster, by identity.
    pub fn http_frontends_of<'a>(
        &'a self,
        cluster_id: &'a str,
    ) -> impl Iterator<Item = &'a Arc<HttpFrontend>> {
        of_cluster(&self.frontends_by_cluster, cluster_id).map(|entry| &entry.0)
    }

    /// All HTTP and HTTPS frontends: those in the tree, by identity, then PRE and POST ones in the order in which
    /// they are tried.
    pub fn http_frontends(&self) -> impl Iterator<Item = &Arc<HttpFrontend>> {
        let tree = self.http_frontends.iter().map(|entry| &entry.frontend);
        tree.filter(|frontend| frontend.position() == RulePosition::Tree)
            .chain(self.ordered_frontends.values())
    }

    /// All TCP frontends, by identity.
    pub fn tcp_frontends(&self) -> impl Iterator<Item = &Arc<TcpFrontend>> {
        self.tcp_frontends.iter()
    }

    /// The TCP frontends of one cluster, by identity.
    pub fn tcp_frontends_of<'a>(&'a self, cluster_id: &str) -> impl Iterator<Item = &'a Arc<TcpFrontend>> {
        self.tcp_frontends.of(cluster_id)
    }

    /// The whole state as orders, in the order of a state file. Applied to an empty state they give an
    /// equal one.
    pub fn orders(&self) -> impl Iterator<Item = Order> + '_ {
        let listeners = [ListenerKind::Http, ListenerKind::Https].into_iter().flat_map(|kind| {
            let of_kind = self.http_listeners.values().filter(move |listener| listener.kind() == kind);
            of_kind.flat_map(move |listener| {
                let key = listener.key();
                let activate = listener.active().then(|| Order::ActivateListener { kind, key: key.clone() });
                [Some(Order::AddHttpListener(listener.clone())), activate].into_iter().flatten()
            })
        });
        let tcp_listeners = self.tcp_listeners.values().flat_map(|listener| {
            let (kind, key) = (ListenerKind::Tcp, listener.key());
            let activate = listener.active().then(|| Order::ActivateListener { kind, key: key.clone() });
            [Some(Order::AddTcpListener(listener.clone())), activate].into_iter().flatten()
        });
        let clusters = self.clusters.values().map(|cluster| Order::AddCluster(cluster.clone()));
        let frontends = |https| {
            let of_kind = self.http_frontends().filter(move |frontend| frontend.is_https() == https);
            of_kind.map(|frontend| Order::AddHttpFrontend(frontend.clone()))
        };
        let certificates = self.certificates().map(|it| Order::AddCertificate(it.clone()));
        let backends = self.backends.iter().map(|entry| Order::AddBackend(entry.0.clone()));
        let tcp_frontends = self.tcp_frontends.iter().map(|it| Order::AddTcpFrontend(it.clone()));
        let limits = self.limits.orders_from(ConnectionLimits::default());
        let http = limits.chain(listeners).chain(tcp_listeners).chain(clusters).chain(frontends(false));
        http.chain(certificates).chain(frontends(true)).chain(tcp_frontends).chain(backends)
    }

    /// Checks that every index agrees with what it indexes. For tests and the simulator.
    ///
    /// # Panics
    /// When one does not.
    pub fn check_invariants(&self) {
        for (key, listener) in &self.http_listeners {
            assert_eq!(key, listener.key(), "a listener is filed under its own key");
        }
        for (key, listener) in &self.tcp_listeners {
            assert_eq!(key, listener.key(), "a listener is filed under its own key");
            assert!(!self.http_listeners.contains_key(key), "one socket speaks one protocol");
        }
        self.certificates.check_invariants();
        self.tcp_frontends.check_invariants();
        for frontend in self.tcp_frontends.iter() {
            let cluster = self.clusters.get(frontend.cluster_id());
            assert!(cluster.is_none_or(|it| it.check_fit_for_tcp().is_ok()), "a cluster fits its frontends");
        }
        for (id, cluster) in &self.clusters {
            assert_eq!(id, cluster.id(), "a cluster is filed under its own id");
        }
        for BackendEntry(backend) in &self.backends {
            assert!(self.clusters.contains_key(backend.cluster_id()), "a backend has a cluster");
        }
        let mut clustered = 0;
        let mut ordered = 0;
        for entry in &self.http_frontends {
            let frontend = &entry.frontend;
            if frontend.cluster_id().is_some() {
                clustered += 1;
                let indexed = self.frontends_by_cluster.get(&ByCluster(frontend.clone()));
                assert!(
                    indexed.is_some_and(|ByCluster(other)| Arc::ptr_eq(frontend, other)),
                    "indexed by cluster"
                );
            }
            if let Some(turn) = entry.turn() {
                ordered += 1;
                let indexed = self.ordered_frontends.get(&turn);
                assert!(indexed.is_some_and(|other| Arc::ptr_eq(frontend, other)), "has its turn");
                assert!(entry.sequence < self.next_sequence, "sequences are not used twice");
            }
        }
        assert_eq!(self.frontends_by_cluster.len(), clustered, "the index holds nothing else");
        assert_eq!(self.ordered_frontends.len(), ordered, "no turn is left behind");
        let unix = self.backends.iter().filter(|entry| entry.0.unix_path().is_some()).count();
        assert_eq!(self.unix_backends, unix, "those on Unix sockets are counted");
    }
}

impl PartialEq for ConfigState {
    fn eq(&self, other: &Self) -> bool {
        self.http_listeners == other.http_listeners
            && self.tcp_listeners == other.tcp_listeners
            && self.tcp_frontends == other.tcp_frontends
            && self.certificates == other.certificates
            && self.clusters == other.clusters
            && self.limits == other.limits
            && self.backends.iter().map(|entry| &entry.0).eq(other.backends.iter().map(|entry| &entry.0))
            && frontends(self).eq(frontends(other))
            && turns(self).eq(turns(other))
    }
}

fn frontends(state: &ConfigState) -> impl Iterator<Item = &HttpFrontend> {
    state.http_frontends.iter().map(|entry| &*entry.frontend)
}

/// The ordered lists without the sequences, of which only the order means something.
fn turns(state: &ConfigState) -> impl Iterator<Item = (&List, &HttpFrontend)> {
    state.ordered_frontends.iter().map(|((list, _), frontend)| (list, &**frontend))
}
