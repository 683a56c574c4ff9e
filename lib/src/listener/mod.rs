//! Listeners of this worker, and the routes behind their addresses.
//!
//! The table follows the configuration state; the sockets come from main, which owns them. A listener
//! that is removed stays in the table, without a socket, until its last session ends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use kakehi_command::order::{
    Certificate, CertificateKey, HttpFrontend, HttpListener, ListenerKey, ListenerKind,
};
use slab::Slab;

use crate::net::Token;
use crate::net::secure::Acceptor;
use crate::policy::Rewriter;
use crate::routing::{Fields, RouteError, Router};
use crate::session::backends::ClusterKey;
use crate::tls::server_config::{Shared as SharedTls, server_config};
use crate::tls::settings::{default_entry, server_settings};

mod certificates;

use certificates::AddressCertificates;

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

/// One listener.
#[derive(Debug)]
pub struct Listener<L> {
    config: Arc<HttpListener>,
    /// With TLS: what its clients are served with.
    acceptor: Option<Acceptor>,
    /// Another one for each of its settings, and for each listener.
    generation: u64,
    /// Index of the rules of its address.
    routes: usize,
    socket: Option<(L, Token)>,
    sessions: usize,
    removed: bool,
}

impl<L> Listener<L> {
    /// Its settings now.
    pub fn config(&self) -> &Arc<HttpListener> {
        &self.config
    }

    /// What its clients are served with, if it has TLS.
    pub fn acceptor(&self) -> Option<&Acceptor> {
        self.acceptor.as_ref()
    }

    /// What was derived from its settings holds as long as this is the same.
    pub fn generation(&self) -> u64 {
        self.generation
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
    certificates: AddressCertificates,
    tls: SharedTls,
    /// Settings that listeners have had.
    generations: u64,
    /// Sockets that came before, or without, the order that activates their listener.
    waiting: HashMap<ListenerKey, L>,
}

impl<L> Default for Listeners<L> {
    fn default() -> Self {
        Self {
            entries: Slab::new(),
            by_key: HashMap::new(),
            route_tables: Slab::new(),
            tables_by_place: HashMap::new(),
            certificates: AddressCertificates::default(),
            tls: SharedTls::default(),
            generations: 0,
            waiting: HashMap::new(),
        }
    }
}

impl<L> Listeners<L> {
    /// What all its TLS listeners share.
    pub fn tls(&self) -> &SharedTls {
        &self.tls
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

    fn acceptor(&mut self, config: &HttpListener) -> Result<Option<Acceptor>, String> {
        let Some(settings) = server_settings(config) else { return Ok(None) };
        let table = self.certificates.table(config.address());
        let config = server_config(&settings, &self.tls, table, default_entry(config)?)
            .map_err(|error| error.to_string())?;
        Ok(Some(Acceptor { config, choices: self.tls.choices.clone() }))
    }

    /// Adds a listener or replaces its settings; running sessions see them from their next request on, those of TLS
    /// from the next connection on.
    ///
    /// # Errors
    /// rustls has no use for its settings.
    pub fn set(&mut self, config: Arc<HttpListener>) -> Result<ListenerIndex, String> {
        let acceptor = self.acceptor(&config)?;
        if let Some(&index) = self.by_key.get(config.key())
            && let Some(listener) = self.entries.get_mut(index)
        {
            listener.config = config;
            listener.acceptor = acceptor;
            self.generations += 1;
            listener.generation = self.generations;
            return Ok(index);
        }
        let key = config.key().clone();
        let routes = self.route_table((config.kind() == ListenerKind::Https, key.address));
        if let Some(table) = self.route_tables.get_mut(routes) {
            table.listeners += 1;
        }
        self.generations += 1;
        let generation = self.generations;
        let listener =
            Listener { config, acceptor, generation, routes, socket: None, sessions: 0, removed: false };
        let index = self.entries.insert(listener);
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
            if let Some(table) = self.route_tables.get_mut(listener.routes) {
                table.listeners = table.listeners.saturating_sub(1);
            }
            self.forget_table_if_unused(listener.routes);
            drop(listener);
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
            listener.socket = Some((socket, token));
        }
    }

    /// The listener accepts no more. Gives its socket, to be closed.
    #[must_use]
    pub fn close(&mut self, index: ListenerIndex) -> Option<(L, Token)> {
        self.entries.get_mut(index)?.socket.take()
    }

    /// The listener at this index.
    pub fn get(&self, index: ListenerIndex) -> Option<&Listener<L>> {
        self.entries.get(index)
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
        let table = self.route_tables.get(self.entries.get(listener)?.routes)?;
        table.router.route(host, path, method, fields)
    }

    /// Every count agrees with what it counts.
    pub fn check_invariants(&self) {
        for (key, &index) in &self.by_key {
            let listener = self.entries.get(index).expect("a listed listener exists");
            assert_eq!(listener.config.key(), key);
            assert!(!listener.removed);
        }
        for (_, listener) in &self.entries {
            assert!(!listener.removed || listener.sessions > 0, "a removed listener stays only while used");
        }
        assert_eq!(self.route_tables.len(), self.tables_by_place.len());
        for (&place, &index) in &self.tables_by_place {
            let table = self.route_tables.get(index).expect("a listed table exists");
            assert_eq!(table.place, place);
            let listeners = self.entries.iter().filter(|(_, listener)| listener.routes == index).count();
            assert_eq!(table.listeners, listeners, "listeners at {place:?}");
            assert!(listeners > 0 || !table.router.is_empty(), "what nobody uses is forgotten");
            table.router.check_invariants();
        }
    }
}
