//! Listeners of this worker, and the routes behind their addresses.
//!
//! The table follows the configuration state; the sockets come from main, which owns them. A listener
//! that is removed stays in the table, without a socket, until its last session ends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use kakehi_command::order::{HttpFrontend, HttpListener, ListenerKey};
use slab::Slab;

use crate::net::Token;
use crate::routing::{RouteError, Router};

/// Index of a listener in the table. Valid while its sessions are counted.
pub type ListenerIndex = usize;

/// One listener.
#[derive(Debug)]
pub struct Listener<L> {
    config: Arc<HttpListener>,
    socket: Option<(L, Token)>,
    sessions: usize,
    removed: bool,
}

impl<L> Listener<L> {
    /// Its settings now.
    pub fn config(&self) -> &Arc<HttpListener> {
        &self.config
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
    routers: HashMap<SocketAddr, Router<Arc<HttpFrontend>>>,
    /// Sockets that came before, or without, the order that activates their listener.
    waiting: HashMap<ListenerKey, L>,
}

impl<L> Default for Listeners<L> {
    fn default() -> Self {
        Self {
            entries: Slab::new(),
            by_key: HashMap::new(),
            routers: HashMap::new(),
            waiting: HashMap::new(),
        }
    }
}

impl<L> Listeners<L> {
    /// Adds a listener or replaces its settings; running sessions see them from their next request on.
    pub fn set(&mut self, config: Arc<HttpListener>) -> ListenerIndex {
        if let Some(&index) = self.by_key.get(config.key())
            && let Some(listener) = self.entries.get_mut(index)
        {
            listener.config = config;
            return index;
        }
        let key = config.key().clone();
        let index = self.entries.insert(Listener { config, socket: None, sessions: 0, removed: false });
        self.by_key.insert(key, index);
        index
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
            self.entries.remove(index);
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

    /// Adds a route.
    pub fn add_frontend(&mut self, frontend: &Arc<HttpFrontend>) -> Result<(), RouteError> {
        self.routers.entry(frontend.address()).or_default().insert(frontend, frontend.clone())
    }

    /// Removes a route.
    pub fn remove_frontend(&mut self, frontend: &HttpFrontend) {
        if let Some(router) = self.routers.get_mut(&frontend.address()) {
            router.remove(frontend);
            if router.is_empty() {
                self.routers.remove(&frontend.address());
            }
        }
    }

    /// The frontend that a request on this address matches best. `host` is without its port, in any
    /// case; `path` includes the query.
    pub fn route(
        &self,
        address: &SocketAddr,
        host: &[u8],
        path: &[u8],
        method: &[u8],
    ) -> Option<&Arc<HttpFrontend>> {
        self.routers.get(address)?.route(host, path, method)
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
    }
}
