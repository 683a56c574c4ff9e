//! Whether a connection is within the rates of its listener, or its cluster.

use super::TcpSession;
use crate::limits::{Of, Rated, Scope};
use crate::metrics::Metric;
use crate::net::{Network, Stream};
use crate::session::Shared;
use crate::session::backends::ClusterKey;

impl<S: Stream> TcpSession<S> {
    pub(super) fn is_over_listeners_rate<N: Network<Stream = S>>(&self, shared: &mut Shared<N>) -> bool {
        let Some(entry) = shared.listeners.get(self.listener) else { return false };
        let rates = &*entry.limits().rates;
        if rates.is_empty() {
            return false;
        }
        let of = Of { scope: Scope::ListenerRate, name: entry.id() };
        let rated = shared.limits.rate(of, rates, &self.address.ip(), shared.now);
        let (over, metric) = told(&rated, Metric::RateLimitedByListener);
        metric.into_iter().for_each(|metric| shared.metrics.incr(metric));
        over
    }

    pub(super) fn is_over_clusters_rate<N: Network<Stream = S>>(
        &self,
        cluster: ClusterKey,
        shared: &mut Shared<N>,
    ) -> bool {
        let rates = shared.backends.cluster(cluster).map(|config| config.rate_limits()).unwrap_or_default();
        let (false, Some(id)) = (rates.is_empty(), shared.backends.cluster_id(cluster)) else { return false };
        let of = Of { scope: Scope::ClusterRate, name: id.as_bytes() };
        let rated = shared.limits.rate(of, rates, &self.address.ip(), shared.now);
        let (over, metric) = told(&rated, Metric::RateLimitedByCluster);
        metric.into_iter().for_each(|metric| shared.count_with(Some(cluster), metric));
        over
    }
}

/// Whether it is refused, and what counts that.
fn told(rated: &Rated<'_>, refused: Metric) -> (bool, Option<Metric>) {
    match rated {
        Rated::Within => (false, None),
        Rated::Uncounted => (false, Some(Metric::LimitsUncounted)),
        Rated::Over(..) => (true, Some(refused)),
    }
}
