//! Orders from a small universe, so that random ones meet, clash and repeat.

use std::net::SocketAddr;

use proptest::{collection::vec, option, prelude::*};

use crate::{
    order::{Order, OrderError},
    proto::{self, RulePosition, request::RequestType},
    state::ConfigState,
};

pub(super) fn order(request: RequestType) -> Order {
    Order::from_request(&request.into()).expect("a valid order")
}

pub(super) fn local(port: u16) -> proto::SocketAddress {
    SocketAddr::from(([127, 0, 0, 1], port)).into()
}

pub(super) fn cluster(id: &str) -> proto::Cluster {
    proto::Cluster { cluster_id: id.into(), ..Default::default() }
}

pub(super) fn add_cluster(id: &str) -> Order {
    order(RequestType::AddCluster(cluster(id)))
}

pub(super) fn remove_cluster(id: &str) -> Order {
    order(RequestType::RemoveCluster(id.into()))
}

pub(super) fn backend(cluster_id: &str, backend_id: &str, port: u16) -> proto::AddBackend {
    let address = local(port);
    proto::AddBackend {
        cluster_id: cluster_id.into(),
        backend_id: backend_id.into(),
        address,
        ..Default::default()
    }
}

pub(super) fn add_backend(cluster_id: &str, backend_id: &str, port: u16) -> Order {
    order(RequestType::AddBackend(backend(cluster_id, backend_id, port)))
}

pub(super) fn remove_backend(cluster_id: &str, backend_id: &str, port: u16) -> Order {
    let address = local(port);
    let key = proto::RemoveBackend { cluster_id: cluster_id.into(), backend_id: backend_id.into(), address };
    order(RequestType::RemoveBackend(key))
}

/// A frontend at port 80, of a cluster or (empty) of none.
pub(super) fn frontend(cluster_id: &str, hostname: &str, path: &str) -> proto::RequestHttpFrontend {
    proto::RequestHttpFrontend {
        cluster_id: Some(cluster_id.to_owned()).filter(|id| !id.is_empty()),
        address: local(80),
        hostname: hostname.into(),
        path: proto::PathRule { kind: proto::PathRuleKind::Prefix.into(), value: path.into() },
        position: RulePosition::Tree.into(),
        ..Default::default()
    }
}

pub(super) fn add_frontend(cluster_id: &str, hostname: &str, path: &str) -> Order {
    order(RequestType::AddHttpFrontend(frontend(cluster_id, hostname, path)))
}

pub(super) fn remove_frontend(cluster_id: &str, hostname: &str, path: &str) -> Order {
    order(RequestType::RemoveHttpFrontend(frontend(cluster_id, hostname, path)))
}

pub(super) fn listener(port: u16, interface: Option<&str>) -> proto::HttpListenerConfig {
    proto::HttpListenerConfig {
        address: local(port),
        interface: interface.map(str::to_owned),
        front_timeout: 60,
        back_timeout: 30,
        connect_timeout: 3,
        request_timeout: 10,
        ..Default::default()
    }
}

pub(super) fn add_listener(port: u16, interface: Option<&str>) -> Order {
    order(RequestType::AddHttpListener(listener(port, interface)))
}

pub(super) fn activate(port: u16, interface: Option<&str>) -> Order {
    let interface = interface.map(str::to_owned);
    order(RequestType::ActivateListener(proto::ActivateListener {
        address: local(port),
        interface,
        ..Default::default()
    }))
}

/// The state after these orders, the refused ones left out.
pub(super) fn state(orders: &[Order]) -> ConfigState {
    let mut state = ConfigState::default();
    for order in orders {
        let _: Result<_, OrderError> = state.apply(order);
    }
    state.check_invariants();
    state
}

fn cluster_id() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("c".to_owned())]
}

fn any_cluster() -> impl Strategy<Value = RequestType> {
    (cluster_id(), any::<bool>(), 0..6_i32, option::of(1..=2_u32)).prop_map(
        |(id, sticky_session, load_balancing, max_connection_attempts)| {
            let settings =
                proto::Cluster { sticky_session, load_balancing, max_connection_attempts, ..cluster(&id) };
            RequestType::AddCluster(settings)
        },
    )
}

fn any_backend() -> impl Strategy<Value = RequestType> {
    (cluster_id(), prop_oneof!["x", "y"], 1..3_u16, option::of(0..3), any::<bool>()).prop_map(
        |(cluster_id, backend_id, port, weight, remove)| {
            let wire = proto::AddBackend {
                load_balancing_parameters: weight.map(|weight| proto::LoadBalancingParams { weight }),
                ..backend(&cluster_id, &backend_id, port)
            };
            if remove {
                let proto::AddBackend { cluster_id, backend_id, address, .. } = wire;
                RequestType::RemoveBackend(proto::RemoveBackend { cluster_id, backend_id, address })
            } else {
                RequestType::AddBackend(wire)
            }
        },
    )
}

/// Few enough that two states often have the same one, with and without its cluster.
fn any_frontend() -> impl Strategy<Value = RequestType> {
    let rule = (prop_oneof!["", "a", "b", "c"], prop_oneof![Just("x.test"), Just("*")], 0..2_i32);
    let policy = (0..3_i32, option::weighted(0.1, Just("GET".to_owned())), 80..82_u16);
    let redirect = option::weighted(0.1, Just(2));
    (rule, policy, redirect, prop::bool::weighted(0.3)).prop_map(
        |((id, host, kind), (position, method, port), redirect, remove)| {
            let wire = proto::RequestHttpFrontend {
                address: local(port),
                path: proto::PathRule { kind, value: "/p".into() },
                position,
                method,
                redirect,
                tags: redirect.map(|_| ("owner".to_owned(), "us".to_owned())).into_iter().collect(),
                ..frontend(&id, host, "")
            };
            if remove { RequestType::RemoveHttpFrontend(wire) } else { RequestType::AddHttpFrontend(wire) }
        },
    )
}

fn any_listener() -> impl Strategy<Value = RequestType> {
    let key = (80..82_u16, option::weighted(0.3, Just("eth0".to_owned())));
    let settings =
        (1..3_u32, option::of(Just(local(8080))), option::of(1..3_u32), option::of(0..4_i32), any::<bool>());
    (key, settings, 0..6).prop_map(|((port, interface), settings, verb)| {
        let (timeout, public_address, limit, forwarded_headers, answers) = settings;
        let answers =
            answers.then(|| ("503".to_owned(), format!("HTTP/1.1 503 {timeout}"))).into_iter().collect();
        let address = local(port);
        match verb {
            0 | 1 => RequestType::AddHttpListener(proto::HttpListenerConfig {
                front_timeout: timeout,
                public_address,
                h2_max_concurrent_streams: limit,
                forwarded_headers,
                answers,
                active: timeout == 1,
                ..listener(port, interface.as_deref())
            }),
            2 => RequestType::UpdateHttpListener(proto::UpdateHttpListenerConfig {
                address,
                front_timeout: Some(timeout),
                public_address,
                h2_max_concurrent_streams: limit,
                forwarded_headers,
                answers,
                ..Default::default()
            }),
            3 => RequestType::RemoveListener(proto::RemoveListener {
                address,
                interface,
                ..Default::default()
            }),
            4 => RequestType::ActivateListener(proto::ActivateListener {
                address,
                interface,
                ..Default::default()
            }),
            _ => RequestType::DeactivateListener(proto::DeactivateListener {
                address,
                interface,
                ..Default::default()
            }),
        }
    })
}

pub(super) fn any_order() -> impl Strategy<Value = Order> {
    prop_oneof![
        2 => any_cluster(),
        1 => cluster_id().prop_map(RequestType::RemoveCluster),
        4 => any_backend(),
        6 => any_frontend(),
        3 => any_listener(),
    ]
    .prop_map(order)
}

pub(super) fn any_orders() -> impl Strategy<Value = Vec<Order>> {
    vec(any_order(), 0..60)
}
