//! Orders from a small universe, so that random ones meet, clash and repeat.

use std::{collections::BTreeMap, net::SocketAddr};

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
    let settings = (any::<bool>(), 0..6_i32, option::of(1..=2_u32));
    (cluster_id(), settings, any_answers(), option::weighted(0.2, prop_oneof!["ada", "grace"])).prop_map(
        |(id, (sticky_session, load_balancing, max_connection_attempts), answers, user)| {
            let settings = proto::Cluster {
                sticky_session,
                load_balancing,
                max_connection_attempts,
                answer_503: answers.get("503").cloned(),
                answers,
                authorized_hashes: user.iter().map(|user| format!("{user}:{}", "0f".repeat(32))).collect(),
                www_authenticate: user,
                ..cluster(&id)
            };
            RequestType::AddCluster(settings)
        },
    )
}

/// None, most of the time; now and then one that says nothing.
fn any_answers() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = prop_oneof!["404", "503", "other"];
    let text = prop_oneof![1 => Just(String::new()), 3 => "HTTP/1\\.1 50[0-2] No\n\n%ROUTE"];
    option::weighted(0.3, (name, text)).prop_map(|answer| answer.into_iter().collect())
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
    let place = (0..3_i32, option::weighted(0.1, Just("GET".to_owned())), 80..82_u16);
    let what = (option::weighted(0.2, 0..6_i32), any_predicates(), any_policy());
    (rule, place, what, prop::bool::weighted(0.3), any::<bool>()).prop_map(
        |((id, host, kind), (position, method, port), (redirect, predicates, policy), remove, variant)| {
            let wire = proto::RequestHttpFrontend {
                address: local(port),
                path: proto::PathRule { kind, value: "/p".into() },
                position,
                method,
                redirect,
                tags: redirect.map(|_| ("owner".to_owned(), "us".to_owned())).into_iter().collect(),
                header_predicates: predicates,
                redirect_scheme: policy,
                required_auth: policy.map(|scheme| scheme > 0),
                rewrite_host: policy.map(|_| "$HOST[0]".to_owned()),
                rewrite_port: policy.map(|scheme| 80 + scheme.unsigned_abs()),
                headers: policy
                    .map(|position| proto::Header {
                        position: position + 1,
                        key: "X".into(),
                        val: "a".into(),
                    })
                    .into_iter()
                    .collect(),
                ..frontend(&id, host, "")
            };
            match (remove, variant) {
                (false, false) => RequestType::AddHttpFrontend(wire),
                (false, true) => RequestType::AddHttpFrontendWithHeaderPredicates(wire),
                (true, false) => RequestType::RemoveHttpFrontend(wire),
                (true, true) => RequestType::RemoveHttpFrontendWithHeaderPredicates(wire),
            }
        },
    )
}

fn any_predicates() -> impl Strategy<Value = Vec<proto::HeaderPredicate>> {
    let predicate = |name: &str, kind: i32| proto::HeaderPredicate {
        name: name.to_owned(),
        kind,
        value: (kind < 2).then(|| "v".to_owned()),
    };
    let one = (prop_oneof![Just("x-a"), Just("X-A"), Just("x-b")], 0..3_i32);
    prop_oneof![
        3 => Just(Vec::new()),
        1 => vec(one.prop_map(move |(name, kind)| predicate(name, kind)), 1..3),
    ]
}

/// None, most of the time; otherwise a number that its parts are made of.
fn any_policy() -> impl Strategy<Value = Option<i32>> {
    option::weighted(0.2, 0..3_i32)
}

fn any_listener() -> impl Strategy<Value = RequestType> {
    let key = (80..82_u16, option::weighted(0.3, Just("eth0".to_owned())));
    let settings = (1..3_u32, option::of(Just(local(8080))), option::of(1..3_u32), option::of(0..4_i32));
    let ours = (any_answers(), option::of(prop_oneof!["10\\.0\\.0\\.[01]", Just(String::new())]));
    (key, settings, ours, 0..6).prop_map(|((port, interface), settings, (answers, trusted), verb)| {
        let (timeout, public_address, limit, forwarded_headers) = settings;
        let trusted = trusted.map(|text| Some(text).filter(|text| !text.is_empty()).into_iter().collect());
        let address = local(port);
        match verb {
            0 | 1 => RequestType::AddHttpListener(proto::HttpListenerConfig {
                front_timeout: timeout,
                public_address,
                h2_max_concurrent_streams: limit,
                forwarded_headers,
                answers,
                active: timeout == 1,
                trusted_proxies: trusted.unwrap_or_default(),
                tunnel_timeout: limit,
                max_body_bytes: limit.map(u64::from),
                trace_context: forwarded_headers.map(|number| number % 2),
                ..listener(port, interface.as_deref())
            }),
            2 => RequestType::UpdateHttpListener(proto::UpdateHttpListenerConfig {
                address,
                front_timeout: Some(timeout),
                public_address,
                h2_max_concurrent_streams: limit,
                forwarded_headers,
                answers,
                trusted_proxies: trusted.map(|values| proto::TrustedProxies { values }),
                max_request_line: limit.map(|limit| 256 + limit),
                min_transfer_rate: limit.map(|limit| limit - 1),
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
