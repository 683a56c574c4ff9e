//! Backends: the addresses, and the Unix sockets, that serve a cluster.

use std::{borrow::Cow, fmt, net::SocketAddr, num::NonZeroU32, sync::Arc};

use super::{BackendId, ClusterId, OrderError, UnixPath, address};
use crate::proto;

/// Weight of a backend that has none.
pub const WEIGHT_DEFAULT: u32 = 100;
/// Highest weight that counts; more is taken as this, so that sums of weights stay far from overflow.
pub const WEIGHT_MAX: u32 = 65_535;
/// Longest sticky id, in bytes: it travels in a cookie with each request.
pub const STICKY_ID_BYTES_MAX: usize = 255;

/// One address serving a cluster, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    cluster_id: ClusterId,
    backend_id: BackendId,
    address: SocketAddr,
    sticky_id: Option<Arc<str>>,
    /// As it came, so that it reads back the same; `weight()` says what it means.
    weight: Option<i32>,
    backup: Option<bool>,
    unix_path: Option<UnixPath>,
    draining: Option<bool>,
    max_connections: Option<u32>,
}

/// Where connections to a backend go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendTarget {
    /// Over TCP.
    Tcp(SocketAddr),
    /// To a Unix socket of this machine.
    Unix(UnixPath),
}

impl fmt::Display for BackendTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.fmt(f),
        }
    }
}

/// What distinguishes a backend from all others. One `backend_id` may have several addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    /// The cluster it serves.
    pub cluster_id: ClusterId,
    /// Its name in the cluster.
    pub backend_id: BackendId,
    /// Its address.
    pub address: SocketAddr,
}

impl Backend {
    /// Checks a backend that came from outside.
    ///
    /// Port 0 is accepted: nothing listens there, and the embedded configuration marks its own demo
    /// backend so.
    ///
    /// # Errors
    /// An unusable id, address or name of a Unix socket.
    pub fn from_wire(wire: &proto::AddBackend) -> Result<Self, OrderError> {
        let sticky_id = wire.sticky_id.as_deref().map(check_sticky_id).transpose()?;
        Ok(Self {
            cluster_id: ClusterId::parse(&wire.cluster_id)?,
            backend_id: BackendId::parse(&wire.backend_id)?,
            address: address("address", &wire.address)?,
            sticky_id,
            weight: wire.load_balancing_parameters.map(|parameters| parameters.weight),
            backup: wire.backup,
            unix_path: wire.unix_path.as_deref().map(UnixPath::parse).transpose()?,
            draining: wire.draining,
            max_connections: wire.max_connections,
        })
    }

    /// The cluster it serves.
    #[must_use]
    pub fn cluster_id(&self) -> &ClusterId {
        &self.cluster_id
    }

    /// Its name in the cluster.
    #[must_use]
    pub fn backend_id(&self) -> &BackendId {
        &self.backend_id
    }

    /// Where it listens; with a [`unix_path`](Self::unix_path) only a part of its name.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The Unix socket on which it listens, if it does not on its address.
    #[must_use]
    pub fn unix_path(&self) -> Option<&UnixPath> {
        self.unix_path.as_ref()
    }

    /// Where connections to it go.
    #[must_use]
    pub fn target(&self) -> BackendTarget {
        match &self.unix_path {
            None => BackendTarget::Tcp(self.address),
            Some(path) => BackendTarget::Unix(path.clone()),
        }
    }

    /// Its share of the traffic relative to the others, from 1 to [`WEIGHT_MAX`]. Unset and 0 are
    /// [`WEIGHT_DEFAULT`] (clients send 0 for "unset"); a negative one is 1.
    #[must_use]
    pub fn weight(&self) -> u32 {
        match self.weight {
            None | Some(0) => WEIGHT_DEFAULT,
            Some(weight) => u32::try_from(weight).unwrap_or(1).min(WEIGHT_MAX),
        }
    }

    /// Whether it serves only when no other can.
    #[must_use]
    pub fn backup(&self) -> bool {
        self.backup == Some(true)
    }

    /// Whether it takes nothing new, and only finishes what it carries.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.draining == Some(true)
    }

    /// Requests in flight (with TCP frontends: connections) that it may have, over all workers; none: no limit.
    /// `of_cluster` is for those that have no limit of their own.
    #[must_use]
    pub fn max_connections(&self, of_cluster: Option<NonZeroU32>) -> Option<NonZeroU32> {
        self.max_connections.map_or(of_cluster, NonZeroU32::new)
    }

    /// The value of the sticky cookie that leads here, if not the backend's id.
    #[must_use]
    pub fn sticky_id(&self) -> Option<&str> {
        self.sticky_id.as_deref()
    }

    /// What distinguishes it from all other backends.
    #[must_use]
    pub fn key(&self) -> BackendKey {
        BackendKey {
            cluster_id: self.cluster_id.clone(),
            backend_id: self.backend_id.clone(),
            address: self.address,
        }
    }

    /// The value of the sticky cookie that leads here: the sticky id, else the backend's id, with `%` and what a
    /// cookie cannot hold percent-encoded. Allocates for such ids only.
    #[must_use]
    pub fn sticky_value(&self) -> Cow<'_, str> {
        if let Some(id) = self.sticky_id() {
            return id.into();
        }
        let is_plain = |byte: u8| is_cookie_octet(byte) && byte != b'%';
        if self.backend_id.bytes().all(is_plain) {
            return self.backend_id.as_str().into();
        }
        let piece = |byte: u8| match is_plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        };
        self.backend_id.bytes().map(piece).collect()
    }

    /// The same backend elsewhere.
    #[must_use]
    pub fn at(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }
}

impl From<&Backend> for proto::AddBackend {
    fn from(backend: &Backend) -> Self {
        Self {
            cluster_id: backend.cluster_id.to_string(),
            backend_id: backend.backend_id.to_string(),
            address: backend.address.into(),
            sticky_id: backend.sticky_id.as_deref().map(str::to_owned),
            load_balancing_parameters: backend.weight.map(|weight| proto::LoadBalancingParams { weight }),
            backup: backend.backup,
            unix_path: backend.unix_path.as_ref().map(|path| path.as_str().to_owned()),
            draining: backend.draining,
            max_connections: backend.max_connections,
        }
    }
}

impl BackendKey {
    /// Checks a key that came from outside.
    ///
    /// # Errors
    /// An unusable id or address.
    pub fn from_wire(wire: &proto::RemoveBackend) -> Result<Self, OrderError> {
        Ok(Self {
            cluster_id: ClusterId::parse(&wire.cluster_id)?,
            backend_id: BackendId::parse(&wire.backend_id)?,
            address: address("address", &wire.address)?,
        })
    }
}

impl From<&BackendKey> for proto::RemoveBackend {
    fn from(key: &BackendKey) -> Self {
        Self {
            cluster_id: key.cluster_id.to_string(),
            backend_id: key.backend_id.to_string(),
            address: key.address.into(),
        }
    }
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` at {} of cluster `{}`", self.backend_id, self.address, self.cluster_id)
    }
}

/// RFC 6265 §4.1.1: anything else would end the cookie or the header early.
fn is_cookie_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\')
}

fn check_sticky_id(id: &str) -> Result<Arc<str>, OrderError> {
    if id.len() > STICKY_ID_BYTES_MAX {
        return Err(OrderError::invalid("sticky_id", id, "is longer than 255 bytes"));
    }
    if id.bytes().all(is_cookie_octet) {
        Ok(id.into())
    } else {
        Err(OrderError::invalid("sticky_id", id, "contains a character that a cookie cannot hold"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> proto::AddBackend {
        proto::AddBackend {
            cluster_id: "app".into(),
            backend_id: "app-0".into(),
            address: "[::1]:8080".parse::<SocketAddr>().expect("an address").into(),
            sticky_id: Some("s0".into()),
            load_balancing_parameters: Some(proto::LoadBalancingParams { weight: 0 }),
            backup: Some(false),
            unix_path: None,
            draining: Some(true),
            max_connections: Some(0),
        }
    }

    #[test]
    fn a_backend_goes_back_to_the_wire_as_it_came() {
        let backend = Backend::from_wire(&wire()).expect("accepted");
        assert_eq!(proto::AddBackend::from(&backend), wire());
    }

    #[test]
    fn a_unix_socket_is_where_connections_go() {
        let wire = proto::AddBackend { unix_path: Some("@app".into()), ..wire() };
        let backend = Backend::from_wire(&wire).expect("accepted");
        assert_eq!(proto::AddBackend::from(&backend), wire);
        assert_eq!((backend.target().to_string(), backend.address().port()), ("@app".into(), 8080));
        let at_address = Backend { unix_path: None, ..backend };
        assert_eq!(at_address.target().to_string(), "[::1]:8080");
    }

    #[test]
    fn weights_are_what_clients_mean() {
        let weight = |weight: Option<i32>| {
            let load_balancing_parameters = weight.map(|weight| proto::LoadBalancingParams { weight });
            Backend::from_wire(&proto::AddBackend { load_balancing_parameters, ..wire() })
                .expect("accepted")
                .weight()
        };
        assert_eq!(weight(None), 100);
        assert_eq!(weight(Some(0)), 100);
        assert_eq!(weight(Some(-3)), 1);
        assert_eq!(weight(Some(7)), 7);
        assert_eq!(weight(Some(i32::MAX)), WEIGHT_MAX);
    }

    #[test]
    fn a_backend_has_its_own_limit_or_its_cluster_s() {
        let limit = |max_connections, of_cluster| {
            let wire = proto::AddBackend { max_connections, ..wire() };
            let backend = Backend::from_wire(&wire).expect("accepted");
            backend.max_connections(NonZeroU32::new(of_cluster)).map(NonZeroU32::get)
        };
        assert_eq!(limit(None, 0), None);
        assert_eq!(limit(None, 4), Some(4));
        assert_eq!(limit(Some(7), 4), Some(7));
        assert_eq!(limit(Some(0), 4), None, "none, whatever its cluster says");
    }

    #[test]
    fn a_cookie_can_hold_every_sticky_value() {
        let value = |backend_id: &str, sticky_id: Option<&str>| {
            let wire = proto::AddBackend {
                backend_id: backend_id.into(),
                sticky_id: sticky_id.map(str::to_owned),
                ..wire()
            };
            Backend::from_wire(&wire).expect("accepted").sticky_value().into_owned()
        };
        assert_eq!(value("app-0", Some("s%0")), "s%0");
        assert_eq!(value("app-0-127.0.0.1:80", None), "app-0-127.0.0.1:80");
        assert_eq!(value("a b;c%\u{e9}", None), "a%20b%3Bc%25%C3%A9");
    }

    #[test]
    fn unusable_values_are_refused() {
        let check = |edit: fn(&mut proto::AddBackend), expected: &str| {
            let mut wire = wire();
            edit(&mut wire);
            let error = Backend::from_wire(&wire).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(|wire| wire.backend_id.clear(), "backend_id `` is empty");
        check(|wire| wire.address = proto::SocketAddress::default(), "address has no IP address");
        check(|wire| wire.sticky_id = Some("a;b".into()), "cookie");
        check(|wire| wire.unix_path = Some("run/x".into()), "unix_path `run/x` is neither an absolute path");
    }
}
