//! What drains, for the next program of this process.

use std::net::SocketAddr;
use std::time::Instant;

use kakehi_command::order::{BackendKey, ClusterId, ListenerKey};
use kakehi_command::proto::hand_over as wire;

use super::super::gather::WorkerId;
use super::super::hand_over::{ago, ms_between};
use super::{Drains, Leaver, Leaving};

impl Drains {
    /// For the next program of this process.
    pub(in super::super) fn left(&self, now: Instant) -> Vec<wire::Leaving> {
        let leaving = self.under_way.iter().map(|(who, leaving)| wire::Leaving {
            who: name(who),
            revision: leaving.revision,
            since_ms: ms_between(leaving.since, now),
            removed: leaving.removed,
            waiting: leaving.waiting.iter().map(|worker| worker.0).collect(),
            parts: leaving.parts.iter().map(name).collect(),
        });
        leaving.collect()
    }

    /// What the program has left which this process ran before.
    pub(in super::super) fn take_over(&mut self, left: &[wire::Leaving], now: Instant) {
        for it in left {
            let Some(who) = named(&it.who) else { continue };
            let leaving = Leaving {
                revision: it.revision,
                since: ago(now, it.since_ms),
                removed: it.removed,
                waiting: it.waiting.iter().copied().map(WorkerId).collect(),
                parts: it.parts.iter().filter_map(named).collect(),
            };
            self.under_way.insert(who, leaving);
        }
    }
}

fn name(who: &Leaver) -> wire::Leaver {
    match who {
        Leaver::Backend(key) => wire::Leaver {
            cluster_id: Some(key.cluster_id.to_string()),
            backend_id: Some(key.backend_id.to_string()),
            address: Some(key.address.into()),
            interface: None,
        },
        Leaver::Cluster(id) => wire::Leaver { cluster_id: Some(id.to_string()), ..Default::default() },
        Leaver::Listener(key) => wire::Leaver {
            address: Some(key.address.into()),
            interface: key.interface.clone(),
            ..Default::default()
        },
    }
}

fn named(wire: &wire::Leaver) -> Option<Leaver> {
    let address = wire.address.as_ref().and_then(|address| SocketAddr::try_from(address).ok());
    match (wire.cluster_id.as_deref(), wire.backend_id.as_deref(), address) {
        (Some(cluster), Some(backend), Some(address)) => Some(Leaver::Backend(BackendKey {
            cluster_id: ClusterId::from(cluster),
            backend_id: backend.into(),
            address,
        })),
        (Some(cluster), None, None) => Some(Leaver::Cluster(ClusterId::from(cluster))),
        (None, None, Some(address)) => {
            Some(Leaver::Listener(ListenerKey { address, interface: wire.interface.clone() }))
        }
        _ => None,
    }
}
