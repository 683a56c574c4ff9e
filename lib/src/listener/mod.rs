//! Listeners of this worker, and the routes behind their addresses.
//!
//! The table follows the configuration state; the sockets come from main, which owns them. A listener
//! that is removed stays in the table, without a socket, until its last session ends.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kakehi_command::order::{
    Certificate, CertificateKey, HttpFrontend, HttpListener, ListenerKey, ListenerKind, ListenerLimits,
    TcpFrontend, TcpListener, TlsSettings,
};
use slab::Slab;

use crate::net::Token;
use crate::net::secure::Acceptor;
use crate::policy::Rewriter;
use crate::routing::{Fields, RouteError, Router, ServerNames};
use crate::session::backends::ClusterKey;
#[cfg(test)]
use crate::tls::provider::Randomness;
use crate::tls::server_config::{Shared as SharedTls, server_config};
use crate::tls::settings::{default_entry, server_settings};

mod certificates;
mod tcp;

use certificates::AddressCertificates;
use tcp::TcpRoutes;

pub use tcp::TcpRoute;

/// Index of a listener in the table. Valid while its sessions are counted.
pub type ListenerIndex = usize;

/// What a rule leads to.
#[derive(Debug)]
pub struct Route {
    /// The rule, and what is done with requests that match.
    pub frontend: Arc<HttpFrontend>,
    /// Its cluster, if it has one; held.
    pub cluster: Option<ClusterKey>,
    /// Compiled, if it rewrites.
    pub rewriter: Option<Box<Rewriter>>,
}

/// Whose rules: those of HTTPS listeners are others than those of HTTP ones.
type Place = (bool, SocketAddr);

/// The rules of one address.
#[derive(Debug)]
struct RouteTable {
    place: Place,
    router: Router<Route>,
    /// Listeners at this address: more than one only if they are bound to interfaces.
    listeners: usize,
}

/// The settings of a listener of any kind.
#[derive(Debug, Clone)]
pub enum ListenerConfig {
    /// HTTP, with TLS or without.
    Http(Arc<HttpListener>),
    /// TCP, likewise.
    Tcp(Arc<TcpListener>),
}

impl ListenerConfig {
    /// What names it.
    pub fn key(&self) -> &ListenerKey {
        match self {
            Self::Http(listener) => listener.key(),
            Self::Tcp(listener) => listener.key(),
        }
    }

    /// What is served.
    pub fn kind(&self) -> ListenerKind {
        match self {
            Self::Http(listener) => listener.kind(),
            Self::Tcp(_) => ListenerKind::Tcp,
        }
    }

    /// Whether it is to accept.
    pub fn active(&self) -> bool {
        match self {
            Self::Http(listener) => listener.active(),
            Self::Tcp(listener) => listener.active(),
        }
    }

    /// How it speaks TLS, if it does.
    pub fn tls(&self) -> Option<&TlsSettings> {
        match self {
            Self::Http(listener) => listener.tls(),
            Self::Tcp(listener) => listener.tls(),
        }
    }
}

/// What there is of an HTTP listener alone.
#[derive(Debug)]
pub struct HttpService {
    config: Arc<HttpListener>,
    /// Another one for each of its settings, and for each listener.
    generation: u64,
    /// Index of the rules of its address.
    routes: usize,
}

impl HttpService {
    /// Its settings now.
    pub fn config(&self) -> &Arc<HttpListener> {
        &self.config
    }

    /// What was derived from its settings holds as long as this is the same.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

#[derive(Debug)]
enum Service {
    Http(HttpService),
    Tcp(Arc<TcpListener>),
}

/// One listener.
#[derive(Debug)]
pub struct Listener<L> {
    /// Its key in words, for limits that are counted over all workers.
    id: Box<[u8]>,
    /// Its next connection is counted in its accept rate.
    pub(crate) has_paid: bool,
    service: Service,
    /// With TLS: what its clients are served with.
    acceptor: Option<Acceptor>,
    socket: Option<(L, Token)>,
    sessions: usize,
    removed: bool,
    /// The revision that made it leave, until it is told that it has nothing left.
    leaves_at: Option<u64>,
}

impl<L> Listener<L> {
    /// What distinguishes it from all other listeners, in words.
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    /// What it takes in, and from whom.
    pub fn limits(&self) -> &ListenerLimits {
        match &self.service {
            Service::Http(service) => service.config.limits(),
            Service::Tcp(config) => config.limits(),
        }
    }

    /// Its settings now.
    pub fn config(&self) -> ListenerConfig {
        match &self.service {
            Service::Http(service) => ListenerConfig::Http(service.config.clone()),
            Service::Tcp(config) => ListenerConfig::Tcp(config.clone()),
        }
    }

    /// What is served.
    pub fn kind(&self) -> ListenerKind {
        match &self.service {
            Service::Http(service) => service.config.kind(),
            Service::Tcp(_) => ListenerKind::Tcp,
        }
    }

    /// How it speaks TLS, if it does.
    pub fn tls(&self) -> Option<&TlsSettings> {
        match &self.service {
            Service::Http(service) => service.config.tls(),
            Service::Tcp(config) => config.tls(),
        }
    }

    /// Whether connections of this peer have to begin with a PROXY header.
    pub fn expects_proxy_header(&self, peer: IpAddr) -> bool {
        match &self.service {
            Service::Http(service) => service.config.expects_proxy_header(peer),
            Service::Tcp(config) => config.expects_proxy_header(peer),
        }
    }

    /// What its clients are served with, if it has TLS.
    pub fn acceptor(&self) -> Option<&Acceptor> {
        self.acceptor.as_ref()
    }

    /// The socket and its token, while it accepts.
    pub fn socket_mut(&mut self) -> Option<(&mut L, Token)> {
        self.socket.as_mut().map(|(socket, token)| (socket, *token))
    }
}

/// The table. `L` is the kind of socket that listens.
#[derive(Debug)]
pub struct Listeners<L> {
    entries: Slab<Listener<L>>,
    by_key: HashMap<ListenerKey, ListenerIndex>,
    route_tables: Slab<RouteTable>,
    tables_by_place: HashMap<Place, usize>,
    tcp_routes: TcpRoutes,
    certificates: AddressCertificates,
    tls: SharedTls,
    /// Settings that listeners have had.
    generations: u64,
    /// Sockets that came before, or without, the order that activates their listener.
    waiting: HashMap<ListenerKey, L>,
    /// Those that have nothing left, and the revisions that made them leave.
    departures: Vec<(ListenerKey, u64)>,
}

impl<L> Default for Listeners<L> {
    fn default() -> Self {
        Self {
            entries: Slab::new(),
            by_key: HashMap::new(),
            route_tables: Slab::new(),
            tables_by_place: HashMap::new(),
            tcp_routes: TcpRoutes::default(),
            certificates: AddressCertificates::default(),
            tls: SharedTls::default(),
            generations: 0,
            waiting: HashMap::new(),
            departures: Vec::new(),
        }
    }
}

impl<L> Listeners<L> {
    /// What all its TLS listeners share.
    pub fn tls(&self) -> &SharedTls {
        &self.tls
    }

    /// Random numbers come from there, for listeners that are yet to be.
    #[cfg(test)]
    pub(crate) fn fix_randomness(&mut self, randomness: Randomness) {
        self.tls.randomness = randomness;
    }

    /// Adds a certificate, or replaces what is known of it: from the next handshake on.
    ///
    /// # Errors
    /// Its key is not its own, or of a kind that can't be served.
    pub fn set_certificate(&mut self, certificate: &Arc<Certificate>) -> Result<(), String> {
        self.certificates.set(certificate)
    }

    /// Removes a certificate: from the next handshake on.
    pub fn remove_certificate(&mut self, key: &CertificateKey) {
        self.certificates.remove(key);
    }

    fn acceptor(&mut self, config: &ListenerConfig) -> Result<Option<Acceptor>, String> {
        let Some(tls) = config.tls() else { return Ok(None) };
        let key = config.key();
        let settings = server_settings(config.kind(), key, tls);
        let table = self.certificates.table(key.address);
        let config = server_config(&settings, &self.tls, table, default_entry(tls)?)
            .map_err(|error| error.to_string())?;
        Ok(Some(Acceptor { config, choices: self.tls.choices.clone() }))
    }

    /// Adds a listener or replaces its settings; running sessions of HTTP see them from their next request on, those of
    /// TLS from the next connection on.
    ///
    /// # Errors
    /// rustls has no use for its settings.
    pub fn set(&mut self, config: ListenerConfig) -> Result<ListenerIndex, String> {
        let acceptor = self.acceptor(&config)?;
        self.generations += 1;
        let generation = self.generations;
        let known =
            self.by_key.get(config.key()).and_then(|&index| Some((index, self.entries.get_mut(index)?)));
        if let Some((index, listener)) = known {
            listener.acceptor = acceptor;
            match (&mut listener.service, config) {
                (Service::Http(service), ListenerConfig::Http(config)) => {
                    service.config = config;
                    service.generation = generation;
                }
                (Service::Tcp(known), ListenerConfig::Tcp(config)) => *known = config,
                (Service::Http(_), ListenerConfig::Tcp(_)) | (Service::Tcp(_), ListenerConfig::Http(_)) => {
                    debug_assert!(false, "a listener of another kind is another listener");
                }
            }
            return Ok(index);
        }
        let key = config.key().clone();
        let id = key.to_string().into_bytes().into();
        let service = match config {
            ListenerConfig::Http(config) => {
                let routes = self.route_table((config.kind() == ListenerKind::Https, key.address));
                if let Some(table) = self.route_tables.get_mut(routes) {
                    table.listeners += 1;
                }
                Service::Http(HttpService { config, generation, routes })
            }
            ListenerConfig::Tcp(config) => Service::Tcp(config),
        };
        let index = self.entries.insert(Listener {
            id,
            has_paid: false,
            service,
            acceptor,
            socket: None,
            sessions: 0,
            removed: false,
            leaves_at: None,
        });
        self.by_key.insert(key, index);
        Ok(index)
    }

    /// Removes a listener that accepts no more.
    pub fn remove(&mut self, key: &ListenerKey) {
        let Some(index) = self.by_key.remove(key) else { return };
        if let Some(listener) = self.entries.get_mut(index) {
            debug_assert!(listener.socket.is_none(), "it was closed before");
            listener.removed = true;
        }
        self.forget_if_unused(index);
    }

    fn forget_if_unused(&mut self, index: ListenerIndex) {
        if self.entries.get(index).is_some_and(|listener| listener.removed && listener.sessions == 0) {
            let listener = self.entries.remove(index);
            if let Service::Http(HttpService { routes, .. }) = listener.service {
                if let Some(table) = self.route_tables.get_mut(routes) {
                    table.listeners = table.listeners.saturating_sub(1);
                }
                self.forget_table_if_unused(routes);
            }
            drop(listener.acceptor);
            self.certificates.forget_unused();
        }
    }

    /// The rules of an address; made if there are none yet.
    fn route_table(&mut self, place: Place) -> usize {
        let tables = &mut self.route_tables;
        *self
            .tables_by_place
            .entry(place)
            .or_insert_with(|| tables.insert(RouteTable { place, router: Router::default(), listeners: 0 }))
    }

    fn forget_table_if_unused(&mut self, index: usize) {
        let unused = |table: &RouteTable| table.listeners == 0 && table.router.is_empty();
        if self.route_tables.get(index).is_some_and(unused) {
            let table = self.route_tables.remove(index);
            self.tables_by_place.remove(&table.place);
        }
    }

    /// The listener with this key.
    pub fn find(&self, key: &ListenerKey) -> Option<ListenerIndex> {
        self.by_key.get(key).copied()
    }

    /// Keeps a socket that main handed over until its listener is active.
    pub fn offer_socket(&mut self, key: ListenerKey, socket: L) {
        self.waiting.insert(key, socket);
    }

    /// The socket that main handed over for this listener.
    pub fn take_offered(&mut self, key: &ListenerKey) -> Option<L> {
        self.waiting.remove(key)
    }

    /// Closes the sockets that were handed over and not taken.
    pub fn forget_offered(&mut self) {
        self.waiting.clear();
    }

    /// The listener accepts on this socket from now on.
    pub fn open(&mut self, index: ListenerIndex, socket: L, token: Token) {
        if let Some(listener) = self.entries.get_mut(index) {
            listener.leaves_at = None;
            listener.socket = Some((socket, token));
        }
    }

    /// The listener accepts no more. Gives its socket, to be closed.
    #[must_use]
    pub fn close(&mut self, index: ListenerIndex) -> Option<(L, Token)> {
        self.entries.get_mut(index)?.socket.take()
    }

    /// The listener, which accepts no more, leaves by this revision: it will be told when its last session ends.
    pub fn leave(&mut self, index: ListenerIndex, revision: u64) {
        if let Some(listener) = self.entries.get_mut(index) {
            listener.leaves_at.get_or_insert(revision);
            self.tell_if_left(index);
        }
    }

    fn tell_if_left(&mut self, index: ListenerIndex) {
        let Some(listener) = self.entries.get_mut(index).filter(|it| it.sessions == 0) else { return };
        if let Some(revision) = listener.leaves_at.take() {
            let key = listener.config().key().clone();
            self.departures.push((key, revision));
        }
    }

    /// Listeners that have nothing left since the last call, and the revisions that made them leave.
    pub fn take_departures(&mut self) -> Vec<(ListenerKey, u64)> {
        std::mem::take(&mut self.departures)
    }

    /// Connections of this listener that stayed when it accepted no more.
    pub fn left_in(&self, key: &ListenerKey) -> usize {
        let leaving = self.entries.iter().filter(|(_, it)| it.leaves_at.is_some());
        leaving.filter(|(_, it)| it.config().key() == key).map(|(_, it)| it.sessions).sum()
    }

    /// Whether the listener accepts no more: its connections end with the next answer.
    pub fn is_leaving(&self, index: ListenerIndex) -> bool {
        self.entries.get(index).is_none_or(|listener| listener.socket.is_none())
    }

    /// The listener at this index.
    pub fn get(&self, index: ListenerIndex) -> Option<&Listener<L>> {
        self.entries.get(index)
    }

    /// The HTTP listener at this index.
    pub fn http(&self, index: ListenerIndex) -> Option<&HttpService> {
        match &self.entries.get(index)?.service {
            Service::Http(service) => Some(service),
            Service::Tcp(_) => None,
        }
    }

    /// The TCP listener at this index.
    pub fn tcp(&self, index: ListenerIndex) -> Option<&Arc<TcpListener>> {
        match &self.entries.get(index)?.service {
            Service::Tcp(config) => Some(config),
            Service::Http(_) => None,
        }
    }

    /// The listener at this index.
    pub fn get_mut(&mut self, index: ListenerIndex) -> Option<&mut Listener<L>> {
        self.entries.get_mut(index)
    }

    /// Indexes of all listeners.
    pub fn indexes(&self) -> Vec<ListenerIndex> {
        self.entries.iter().map(|(index, _)| index).collect()
    }

    /// A session of this listener begins.
    pub fn session_opened(&mut self, index: ListenerIndex) {
        if let Some(listener) = self.entries.get_mut(index) {
            listener.sessions += 1;
        }
    }

    /// A session of this listener is over.
    pub fn session_closed(&mut self, index: ListenerIndex) {
        if let Some(listener) = self.entries.get_mut(index) {
            debug_assert!(listener.sessions > 0, "a session closes once");
            listener.sessions = listener.sessions.saturating_sub(1);
            self.tell_if_left(index);
            self.forget_if_unused(index);
        }
    }

    /// Adds a rule. `cluster` is held for it, unless it is refused.
    pub fn add_frontend(
        &mut self,
        frontend: &Arc<HttpFrontend>,
        cluster: Option<ClusterKey>,
    ) -> Result<(), RouteError> {
        let rewriter = Rewriter::compile(frontend)?.map(Box::new);
        let route = Route { frontend: frontend.clone(), cluster, rewriter };
        let index = self.route_table((frontend.is_https(), frontend.address()));
        let Some(table) = self.route_tables.get_mut(index) else { return Ok(()) };
        let inserted = table.router.insert(frontend, route);
        self.forget_table_if_unused(index);
        inserted
    }

    /// Removes a rule, and gives what it led to.
    #[must_use]
    pub fn remove_frontend(&mut self, frontend: &HttpFrontend) -> Option<Route> {
        let &index = self.tables_by_place.get(&(frontend.is_https(), frontend.address()))?;
        let route = self.route_tables.get_mut(index)?.router.remove(frontend);
        self.forget_table_if_unused(index);
        route
    }

    /// Where a request on this listener goes: the rule that matches best. `host` is without its port, in
    /// any case; `path` includes the query.
    pub fn route(
        &self,
        listener: ListenerIndex,
        host: &[u8],
        path: &[u8],
        method: &[u8],
        fields: &dyn Fields,
    ) -> Option<&Route> {
        let table = self.route_tables.get(self.http(listener)?.routes)?;
        table.router.route(host, path, method, fields)
    }

    /// Adds a TCP frontend, for which `cluster` is held.
    pub fn add_tcp_frontend(&mut self, frontend: &Arc<TcpFrontend>, cluster: ClusterKey) {
        self.tcp_routes.add(TcpRoute { frontend: frontend.clone(), cluster });
    }

    /// Removes a TCP frontend, and gives what it led to.
    #[must_use]
    pub fn remove_tcp_frontend(&mut self, frontend: &TcpFrontend) -> Option<TcpRoute> {
        self.tcp_routes.remove(frontend)
    }

    /// Open connections of all listeners of a kind, those that accept no more included.
    pub fn sessions_of(&self, kind: ListenerKind) -> usize {
        self.entries.iter().filter(|(_, entry)| entry.kind() == kind).map(|(_, entry)| entry.sessions).sum()
    }

    /// Where connections of a TCP listener go; none if there are no frontends at its address.
    pub fn tcp_routes(&self, listener: ListenerIndex) -> Option<&ServerNames<TcpRoute>> {
        self.tcp_routes.at(self.tcp(listener)?.address())
    }

    /// Every count agrees with what it counts.
    pub fn check_invariants(&self) {
        for (key, &index) in &self.by_key {
            let listener = self.entries.get(index).expect("a listed listener exists");
            assert_eq!(listener.config().key(), key);
            assert!(!listener.removed);
        }
        for (_, listener) in &self.entries {
            assert!(!listener.removed || listener.sessions > 0, "a removed listener stays only while used");
        }
        assert_eq!(self.route_tables.len(), self.tables_by_place.len());
        for (&place, &index) in &self.tables_by_place {
            let table = self.route_tables.get(index).expect("a listed table exists");
            assert_eq!(table.place, place);
            let uses =
                |listener: &Listener<L>| matches!(&listener.service, Service::Http(it) if it.routes == index);
            let listeners = self.entries.iter().filter(|(_, listener)| uses(listener)).count();
            assert_eq!(table.listeners, listeners, "listeners at {place:?}");
            assert!(listeners > 0 || !table.router.is_empty(), "what nobody uses is forgotten");
            table.router.check_invariants();
        }
        self.tcp_routes.check_invariants();
    }
}
