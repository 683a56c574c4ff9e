//! Requests of the command protocol, as short as a test wants them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use kakehi_command::proto;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{IpAddress, Uint128, ip_address};

/// An address on the wire.
pub fn wire_address(address: SocketAddr) -> proto::SocketAddress {
    let inner = match address.ip() {
        IpAddr::V4(ip) => ip_address::Inner::V4(u32::from(ip)),
        IpAddr::V6(ip) => {
            let bits = u128::from(ip);
            let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).expect("masked to 64 bits");
            ip_address::Inner::V6(Uint128 { low: half(bits), high: half(bits >> 64) })
        }
    };
    proto::SocketAddress { ip: IpAddress { inner: Some(inner) }, port: u32::from(address.port()) }
}

/// `AddCluster`, round robin.
pub fn add_cluster(id: &str) -> RequestType {
    RequestType::AddCluster(proto::Cluster { cluster_id: id.into(), ..Default::default() })
}

/// `RemoveCluster`.
pub fn remove_cluster(id: &str) -> RequestType {
    RequestType::RemoveCluster(id.into())
}

/// `AddBackend`.
pub fn add_backend(cluster: &str, id: &str, address: SocketAddr) -> RequestType {
    RequestType::AddBackend(proto::AddBackend {
        cluster_id: cluster.into(),
        backend_id: id.into(),
        address: wire_address(address),
        ..Default::default()
    })
}

/// `RemoveBackend`.
pub fn remove_backend(cluster: &str, id: &str, address: SocketAddr) -> RequestType {
    RequestType::RemoveBackend(proto::RemoveBackend {
        cluster_id: cluster.into(),
        backend_id: id.into(),
        address: wire_address(address),
    })
}

/// A frontend: `hostname` and the path prefix on a listener, to a cluster.
pub fn frontend(
    cluster: &str,
    listener: SocketAddr,
    hostname: &str,
    prefix: &str,
) -> proto::RequestHttpFrontend {
    proto::RequestHttpFrontend {
        cluster_id: Some(cluster.into()),
        address: wire_address(listener),
        hostname: hostname.into(),
        path: proto::PathRule { kind: proto::PathRuleKind::Prefix.into(), value: prefix.into() },
        position: proto::RulePosition::Tree.into(),
        tags: BTreeMap::new(),
        ..Default::default()
    }
}

/// `AddHttpFrontend` for `/` of a host.
pub fn add_frontend(cluster: &str, listener: SocketAddr, hostname: &str) -> RequestType {
    RequestType::AddHttpFrontend(frontend(cluster, listener, hostname, "/"))
}

/// `RemoveHttpFrontend` for `/` of a host.
pub fn remove_frontend(cluster: &str, listener: SocketAddr, hostname: &str) -> RequestType {
    RequestType::RemoveHttpFrontend(frontend(cluster, listener, hostname, "/"))
}

/// The settings of an HTTP listener, with the protocol's defaults.
pub fn http_listener(address: SocketAddr) -> proto::HttpListenerConfig {
    proto::HttpListenerConfig {
        address: wire_address(address),
        sticky_name: "SOZUBALANCEID".into(),
        front_timeout: 60,
        back_timeout: 30,
        connect_timeout: 3,
        request_timeout: 10,
        ..Default::default()
    }
}

/// `AddHttpListener`; it listens after [`activate_listener`].
pub fn add_listener(address: SocketAddr) -> RequestType {
    RequestType::AddHttpListener(http_listener(address))
}

/// The settings of an HTTPS listener, with the protocol's defaults.
pub fn https_listener(address: SocketAddr) -> proto::HttpsListenerConfig {
    proto::HttpsListenerConfig {
        address: wire_address(address),
        sticky_name: "SOZUBALANCEID".into(),
        front_timeout: 60,
        back_timeout: 30,
        connect_timeout: 3,
        request_timeout: 10,
        send_tls13_tickets: 4,
        ..Default::default()
    }
}

/// `ActivateListener` of an HTTPS listener.
pub fn activate_https_listener(address: SocketAddr) -> RequestType {
    RequestType::ActivateListener(proto::ActivateListener {
        address: wire_address(address),
        proxy: proto::ListenerType::Https.into(),
        from_scm: false,
        ..Default::default()
    })
}

/// `AddHttpsFrontend` for `/` of a host.
pub fn add_https_frontend(cluster: &str, listener: SocketAddr, hostname: &str) -> RequestType {
    RequestType::AddHttpsFrontend(frontend(cluster, listener, hostname, "/"))
}

/// `ActivateListener`.
pub fn activate_listener(address: SocketAddr) -> RequestType {
    RequestType::ActivateListener(proto::ActivateListener {
        address: wire_address(address),
        proxy: proto::ListenerType::Http.into(),
        from_scm: false,
        ..Default::default()
    })
}

/// `DeactivateListener`.
pub fn deactivate_listener(address: SocketAddr) -> RequestType {
    RequestType::DeactivateListener(proto::DeactivateListener {
        address: wire_address(address),
        proxy: proto::ListenerType::Http.into(),
        to_scm: false,
        ..Default::default()
    })
}

/// `RemoveListener`.
pub fn remove_listener(address: SocketAddr) -> RequestType {
    RequestType::RemoveListener(proto::RemoveListener {
        address: wire_address(address),
        proxy: proto::ListenerType::Http.into(),
        ..Default::default()
    })
}

/// `Transaction`: all of `requests` or none.
pub fn transaction(requests: Vec<RequestType>, if_revision: Option<u64>) -> RequestType {
    RequestType::Transaction(proto::Transaction {
        requests: requests
            .into_iter()
            .map(|request| proto::Request { request_type: Some(request) })
            .collect(),
        if_revision,
    })
}

/// `QueryRevision`.
pub fn query_revision() -> RequestType {
    RequestType::QueryRevision(proto::QueryRevision {})
}

/// `Status`.
pub fn status() -> RequestType {
    RequestType::Status(proto::Status {})
}

/// `QueryClustersHashes`.
pub fn cluster_hashes() -> RequestType {
    RequestType::QueryClustersHashes(proto::QueryClustersHashes {})
}
