//! What main is told of those that leave: the last connection to a backend, or of a listener, has ended.

use std::net::SocketAddr;

use kakehi_command::order::{BackendKey, ClusterId, ListenerKey};
use kakehi_command::proto::WaitDrained;
use kakehi_command::proto::supervision::Departure;
use kakehi_command::proto::supervision::departure::{Backend, Listener};

use super::Worker;
use crate::listener::ListenerIndex;
use crate::net::Network;
use crate::session::Shared;

impl<N: Network> Worker<N> {
    /// Accepts no more. Connections that stand stay until their clients have sent what they are about to send: a
    /// connection that is closed in between would lose a request.
    pub(in crate::server) fn retire_listener(&mut self, index: ListenerIndex, revision: u64) {
        self.close_listener(index);
        self.shared.listeners.leave(index, revision);
    }

    /// What was removed, deactivated or drained and has nothing left since the last call, for main.
    pub fn take_departures(&mut self) -> Vec<Departure> {
        let shared = &mut self.shared;
        let backends = shared.backends.take_departures().into_iter().map(departed_backend);
        let listeners = shared.listeners.take_departures().into_iter().map(departed_listener);
        backends.chain(listeners).collect()
    }

    /// How many connections are left of what is asked for.
    pub fn left_of(&self, asked: &WaitDrained) -> usize {
        left_of(&self.shared, asked)
    }
}

fn departed_backend((key, revision): (BackendKey, u64)) -> Departure {
    let backend = Backend {
        cluster_id: key.cluster_id.to_string(),
        backend_id: key.backend_id.to_string(),
        address: key.address.into(),
    };
    Departure { backend: Some(backend), listener: None, revision }
}

fn departed_listener((key, revision): (ListenerKey, u64)) -> Departure {
    let listener = Listener { address: key.address.into(), interface: key.interface };
    Departure { backend: None, listener: Some(listener), revision }
}

/// Connections that are left of what is asked for.
fn left_of<N: Network>(shared: &Shared<N>, asked: &WaitDrained) -> usize {
    let address = asked.address.as_ref().and_then(|address| SocketAddr::try_from(address).ok());
    let Some(cluster) = &asked.cluster_id else {
        let interface = asked.interface.clone();
        return address.map_or(0, |address| shared.listeners.left_in(&ListenerKey { address, interface }));
    };
    let cluster_id = ClusterId::from(cluster.as_str());
    let backend = asked.backend_id.as_deref().zip(address).map(|(id, address)| BackendKey {
        cluster_id: cluster_id.clone(),
        backend_id: id.into(),
        address,
    });
    shared.backends.left_in(&cluster_id, backend.as_ref())
}
