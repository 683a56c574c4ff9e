//! Limits of the whole proxy that can be changed while it runs.

use super::OrderError;

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

/// Checks how many connects there may be for one request; 0: as configured.
pub(super) fn attempts(value: u32) -> Result<Option<u8>, OrderError> {
    match u8::try_from(value) {
        Ok(value) => Ok((value > 0).then_some(value)),
        Err(_) => Err(OrderError::invalid(
            "set_max_connection_attempts",
            &value.to_string(),
            "is not from 0 to 255",
        )),
    }
}
