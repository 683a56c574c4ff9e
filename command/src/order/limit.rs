//! Limits of the whole proxy that can be changed while it runs.

/// A number of client connections that one source may have to one cluster, unless the cluster says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionLimit {
    /// From one address (`max_connections_per_ip`).
    PerSource,
    /// From one network (`max_connections_per_subnet`).
    PerSubnet,
}

impl ConnectionLimit {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::PerSource, Self::PerSubnet];
}
