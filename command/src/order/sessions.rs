//! `close_sessions`: which sessions are meant. It changes no configuration, so it is no [`Order`](super::Order).

use std::{fmt, net::SocketAddr};

use super::{Backend, BackendId, ClusterId, OrderError, address};
use crate::proto::CloseSessions;

/// The sessions with connections to a cluster, or to some of its backends. Neither has to be configured: what was
/// removed may carry some still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionsOf {
    cluster_id: ClusterId,
    backend_id: Option<BackendId>,
    address: Option<SocketAddr>,
}

impl SessionsOf {
    /// Checks what a request names.
    ///
    /// # Errors
    /// An id or the address cannot be one.
    pub fn from_wire(wire: &CloseSessions) -> Result<Self, OrderError> {
        Ok(Self {
            cluster_id: ClusterId::parse(&wire.cluster_id)?,
            backend_id: wire.backend_id.as_deref().map(BackendId::parse).transpose()?,
            address: wire.address.as_ref().map(|wire| address("address", wire)).transpose()?,
        })
    }

    /// The cluster.
    #[must_use]
    pub fn cluster_id(&self) -> &ClusterId {
        &self.cluster_id
    }

    /// Whether connections to this backend are among them.
    #[must_use]
    pub fn has(&self, backend: &Backend) -> bool {
        *backend.cluster_id() == self.cluster_id
            && self.backend_id.as_ref().is_none_or(|id| id == backend.backend_id())
            && self.address.is_none_or(|address| address == backend.address())
    }
}

impl fmt::Display for SessionsOf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.backend_id {
            Some(id) => write!(formatter, "backend {id} of cluster {}", self.cluster_id)?,
            None => write!(formatter, "cluster {}", self.cluster_id)?,
        }
        self.address.map_or(Ok(()), |address| write!(formatter, " at {address}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto;

    fn wire(backend_id: Option<&str>, port: Option<u16>) -> CloseSessions {
        CloseSessions {
            cluster_id: "a".to_owned(),
            backend_id: backend_id.map(str::to_owned),
            address: port.map(|port| SocketAddr::from(([127, 0, 0, 1], port)).into()),
        }
    }

    fn backend(cluster: &str, id: &str, port: u16) -> Backend {
        let wire = proto::AddBackend {
            cluster_id: cluster.to_owned(),
            backend_id: id.to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], port)).into(),
            ..proto::AddBackend::default()
        };
        Backend::from_wire(&wire).expect("a good backend")
    }

    #[test]
    fn each_name_narrows() {
        let backends =
            [backend("a", "x", 1), backend("a", "x", 2), backend("a", "y", 1), backend("b", "x", 1)];
        let check = |wire: CloseSessions, expected: [bool; 4], text: &str| {
            let of = SessionsOf::from_wire(&wire).expect("good names");
            assert_eq!(backends.each_ref().map(|backend| of.has(backend)), expected, "{of}");
            assert_eq!(of.to_string(), text);
        };
        check(wire(None, None), [true, true, true, false], "cluster a");
        check(wire(Some("x"), None), [true, true, false, false], "backend x of cluster a");
        check(wire(None, Some(1)), [true, false, true, false], "cluster a at 127.0.0.1:1");
        check(wire(Some("x"), Some(2)), [false, true, false, false], "backend x of cluster a at 127.0.0.1:2");
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        let refused = |wire: CloseSessions| SessionsOf::from_wire(&wire).expect_err("refused").to_string();
        assert!(
            refused(CloseSessions { cluster_id: String::new(), ..wire(None, None) }).contains("cluster_id")
        );
        assert!(refused(wire(Some(""), None)).contains("backend_id"));
        let mut bad = wire(None, Some(1));
        bad.address.as_mut().expect("it has one").port = 70_000;
        assert!(refused(bad).contains("address"));
    }
}
