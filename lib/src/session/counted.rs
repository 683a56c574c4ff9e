//! The clusters that count a client connection, from its first request to each until it closes.

use std::net::IpAddr;

use kakehi_command::order::ConnectionLimit;

use super::Shared;
use super::backends::{Backends, ClusterKey};
use crate::limits::{Admission, ClientLimits, Permits};
use crate::metrics::{Metric, Metrics};
use crate::net::{Network, Stream};

/// See the module. Nothing is allocated for a connection that no limit is about.
#[derive(Debug, Default)]
#[expect(
    clippy::box_collection,
    reason = "one word in each connection that rests; a list is for few of them"
)]
pub(super) struct Counted(Option<Box<Vec<Entry>>>);

#[derive(Debug)]
struct Entry {
    /// Held.
    cluster: ClusterKey,
    permits: Permits,
}

impl Counted {
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
        if self.0.iter().flat_map(|entries| entries.iter()).any(|entry| entry.cluster == cluster) {
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
                metrics.incr(match limit {
                    ConnectionLimit::PerSource => Metric::RejectedPerClusterIp,
                    ConnectionLimit::PerSubnet => Metric::RejectedPerClusterSubnet,
                });
                return Err(limit);
            }
        };
        backends.hold_on(cluster);
        self.0.get_or_insert_default().push(Entry { cluster, permits });
        Ok(())
    }

    /// The connection is over.
    pub(super) fn dismiss<N: Network>(&mut self, shared: &mut Shared<N>) {
        for Entry { cluster, permits } in self.0.take().into_iter().flat_map(|entries| entries.into_iter()) {
            shared.limits.dismiss(permits);
            shared.backends.release(cluster);
        }
    }

    /// Whether no cluster counts it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}
