//! Where the connections of TCP listeners go.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use kakehi_command::order::TcpFrontend;

use crate::routing::ServerNames;
use crate::session::backends::ClusterKey;

/// What a frontend leads to.
#[derive(Debug)]
pub struct TcpRoute {
    /// The frontend.
    pub frontend: Arc<TcpFrontend>,
    /// Its cluster; held.
    pub cluster: ClusterKey,
}

/// The frontends of each address, whatever listeners are there.
#[derive(Debug, Default)]
pub(super) struct TcpRoutes {
    by_address: HashMap<SocketAddr, ServerNames<TcpRoute>>,
}

impl TcpRoutes {
    /// Adds a frontend.
    pub(super) fn add(&mut self, route: TcpRoute) {
        let frontend = route.frontend.clone();
        let names = self.by_address.entry(frontend.address()).or_default();
        names.insert(frontend.sni(), frontend.alpn(), route);
    }

    /// Removes a frontend.
    pub(super) fn remove(&mut self, frontend: &TcpFrontend) -> Option<TcpRoute> {
        let names = self.by_address.get_mut(&frontend.address())?;
        let route = names.remove(frontend.sni(), frontend.alpn());
        if names.is_empty() {
            self.by_address.remove(&frontend.address());
        }
        route
    }

    /// The frontends of an address.
    pub(super) fn at(&self, address: SocketAddr) -> Option<&ServerNames<TcpRoute>> {
        self.by_address.get(&address)
    }

    pub(super) fn check_invariants(&self) {
        for names in self.by_address.values() {
            assert!(!names.is_empty(), "what nobody uses is forgotten");
            names.check_invariants();
        }
    }
}
