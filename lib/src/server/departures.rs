//! What main is told of those that leave: the last connection to a backend, or of a listener, has ended.

use std::net::SocketAddr;

use kakehi_command::order::{BackendKey, ClusterId, ListenerKey};
use kakehi_command::proto::WaitDrained;
use kakehi_command::proto::supervision::Departure;
use kakehi_command::proto::supervision::departure::{Backend, Listener};

use crate::net::Network;
use crate::session::Shared;

pub(super) fn departed_backend((key, revision): (BackendKey, u64)) -> Departure {
    let backend = Backend {
        cluster_id: key.cluster_id.to_string(),
        backend_id: key.backend_id.to_string(),
        address: key.address.into(),
    };
    Departure { backend: Some(backend), listener: None, revision }
}

pub(super) fn departed_listener((key, revision): (ListenerKey, u64)) -> Departure {
    let listener = Listener { address: key.address.into(), interface: key.interface };
    Departure { backend: None, listener: Some(listener), revision }
}

/// Connections that are left of what is asked for.
pub(super) fn left_of<N: Network>(shared: &Shared<N>, asked: &WaitDrained) -> usize {
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
