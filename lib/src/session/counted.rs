//! What few client connections have to remember for as long as they are open: the clusters that count them, from the first
//! request to each on; and the other end of the connection, where that is not the client.

use std::net::{IpAddr, SocketAddr};

use kakehi_command::order::ConnectionLimit;

use super::Shared;
use super::backends::{Backends, ClusterKey};
use crate::limits::{Admission, ClientLimits, Permits};
use crate::metrics::{Metric, Metrics};
use crate::net::{Network, Stream};

/// See the module. Nothing is allocated for a connection that has nothing of this: it is one word in each that rests.
#[derive(Debug, Default)]
pub(super) struct Counted(Option<Box<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    entries: Vec<Entry>,
    peer: Option<SocketAddr>,
}

#[derive(Debug)]
struct Entry {
    /// Held.
    cluster: ClusterKey,
    permits: Permits,
}

impl Counted {
    /// The connection's other end is this, and its client somebody else.
    pub(super) fn behind(peer: Option<SocketAddr>) -> Self {
        Self(peer.map(|peer| Box::new(Kept { peer: Some(peer), ..Kept::default() })))
    }

    /// The connection's other end, where that is not the client.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.0.as_ref()?.peer
    }

    /// The connection is routed to this cluster, which is held by the route.
    ///
    /// # Errors
    /// Its source has as many connections to it as it may; this one is not counted.
    pub(super) fn admit<S: Stream>(
        &mut self,
        cluster: ClusterKey,
        source: IpAddr,
        limits: &ClientLimits,
        backends: &mut Backends<S>,
        metrics: &mut Metrics,
    ) -> Result<(), ConnectionLimit> {
        let Some(of_cluster) = limits.of(backends.cluster(cluster).map(|config| &**config)) else {
            return Ok(());
        };
        if self.0.iter().flat_map(|kept| &kept.entries).any(|entry| entry.cluster == cluster) {
            return Ok(());
        }
        let Some(id) = backends.cluster_id(cluster) else { return Ok(()) };
        let permits = match limits.admit(id, source, of_cluster) {
            Admission::Admitted(permits) => permits,
            Admission::Uncounted(permits) => {
                metrics.incr(Metric::LimitsUncounted);
                permits
            }
            Admission::Over(limit) => {
                let metric = match limit {
                    ConnectionLimit::PerSource => Metric::RejectedPerClusterIp,
                    ConnectionLimit::PerSubnet => Metric::RejectedPerClusterSubnet,
                };
                metrics.incr(metric);
                backends.count_of(cluster, metric);
                return Err(limit);
            }
        };
        backends.hold_on(cluster);
        self.0.get_or_insert_default().entries.push(Entry { cluster, permits });
        Ok(())
    }

    /// The connection is over.
    pub(super) fn dismiss<N: Network>(&mut self, shared: &mut Shared<N>) {
        for Entry { cluster, permits } in self.0.take().into_iter().flat_map(|kept| kept.entries) {
            shared.limits.dismiss(permits);
            shared.backends.release(cluster);
        }
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}
