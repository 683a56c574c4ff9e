//! What the worker has counted, held against what the network saw of it.

use super::orders;
use super::world::{Connection, World};
use crate::metrics::{Metric, Metrics};

/// What is there only while something is under way.
const GAUGES: [Metric; 11] = [
    Metric::ClientConnections,
    Metric::HttpActiveRequests,
    Metric::WebsocketActiveRequests,
    Metric::ProtocolTcp,
    Metric::BackendConnections,
    Metric::BackendPoolSize,
    Metric::BufferInUse,
    Metric::SplicePipes,
    Metric::ClusterInFlight,
    Metric::BackendInFlight,
    Metric::QueueSize,
];

/// Once everything is over: nothing is counted that is not there any more, and nothing was missed.
pub(super) fn check(metrics: &Metrics, world: &World) -> Result<(), String> {
    for gauge in GAUGES {
        same(gauge, metrics, 0)?;
    }
    let fronts = || world.connections.iter().filter(|connection| is_front(connection));
    let accepted = fronts().filter(|front| front.accepted_at.is_some()).count();
    same(Metric::ListenerAcceptedTotal, metrics, accepted as u64)?;
    let backs = || world.connections.iter().filter(|connection| !is_front(connection));
    // Of what is sealed the worker counts what is in it.
    if backs().all(|back| back.tls.is_none()) {
        same(Metric::BackBytesIn, metrics, backs().map(|back| back.to_proxy.read).sum())?;
        same(Metric::BackBytesOut, metrics, backs().map(|back| back.to_actor.sent).sum())?;
    }
    Ok(())
}

fn is_front(connection: &Connection) -> bool {
    connection.to == orders::front_address()
}

/// The worker's count is what the network saw.
pub(super) fn same(metric: Metric, metrics: &Metrics, seen: u64) -> Result<(), String> {
    let counted = metrics.get(metric);
    if u64::try_from(counted) != Ok(seen) {
        return Err(format!("{metric:?}: {counted} counted, {seen} seen"));
    }
    Ok(())
}
