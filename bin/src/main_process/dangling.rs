//! What a change refers to and is not there. It is accepted, since the order of independent changes does not matter, but
//! whoever made a typing error should hear of it.

use kakehi_command::order::Order;
use kakehi_command::state::ConfigState;

/// Notes for the answer, of orders that the state has taken.
pub(super) fn notes(state: &ConfigState, orders: &[Order]) -> Vec<String> {
    let mut notes: Vec<String> = orders.iter().flat_map(|order| missing(state, order)).collect();
    notes.sort_unstable();
    notes.dedup();
    notes
}

fn missing(state: &ConfigState, order: &Order) -> Vec<String> {
    let (cluster, listener) = match order {
        Order::AddHttpFrontend(frontend) => {
            let address = frontend.address();
            let is_there = state.http_listeners().any(|listener| listener.address() == address);
            (frontend.cluster_id(), (!is_there).then_some(("HTTP or HTTPS", address)))
        }
        Order::AddTcpFrontend(frontend) => {
            let address = frontend.address();
            let is_there = state.tcp_listeners().any(|listener| listener.address() == address);
            (Some(frontend.cluster_id()), (!is_there).then_some(("TCP", address)))
        }
        Order::AddBackend(backend) => (Some(backend.cluster_id()), None),
        _ => return Vec::new(),
    };
    let cluster = cluster.filter(|id| state.cluster(id.as_str()).is_none());
    let cluster = cluster.map(|id| format!("there is no cluster {id} yet"));
    let listener = listener.map(|(kind, address)| format!("there is no {kind} listener {address} yet"));
    listener.into_iter().chain(cluster).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use kakehi_command::proto::request::RequestType;
    use kakehi_command::proto::{
        ActivateListener, AddBackend, Cluster, HttpListenerConfig, PathRule, Request, RequestHttpFrontend,
        RequestTcpFrontend, RulePosition,
    };

    use super::*;

    fn order(request: RequestType) -> Order {
        Order::from_request(&Request { request_type: Some(request) }).unwrap()
    }

    fn address() -> kakehi_command::proto::SocketAddress {
        SocketAddr::from(([127, 0, 0, 1], 80)).into()
    }

    fn frontend() -> Order {
        order(RequestType::AddHttpFrontend(RequestHttpFrontend {
            cluster_id: Some("a".to_owned()),
            address: address(),
            hostname: "a.test".to_owned(),
            path: PathRule { kind: 0, value: "/".to_owned() },
            position: RulePosition::Tree.into(),
            ..RequestHttpFrontend::default()
        }))
    }

    fn backend() -> Order {
        order(RequestType::AddBackend(AddBackend {
            cluster_id: "a".to_owned(),
            backend_id: "one".to_owned(),
            address: address(),
            ..AddBackend::default()
        }))
    }

    #[test]
    fn what_is_not_there_yet_is_told_once() {
        let state = ConfigState::default();
        let tcp = order(RequestType::AddTcpFrontend(RequestTcpFrontend {
            cluster_id: "a".to_owned(),
            address: address(),
            ..RequestTcpFrontend::default()
        }));
        let expected = [
            "there is no HTTP or HTTPS listener 127.0.0.1:80 yet",
            "there is no TCP listener 127.0.0.1:80 yet",
            "there is no cluster a yet",
        ];
        assert_eq!(notes(&state, &[frontend(), tcp, backend()]), expected);
    }

    #[test]
    fn what_is_there_or_comes_with_it_is_not_told() {
        let mut state = ConfigState::default();
        let mut all = vec![
            order(RequestType::AddHttpListener(HttpListenerConfig {
                address: address(),
                front_timeout: 60,
                back_timeout: 30,
                connect_timeout: 3,
                request_timeout: 10,
                ..HttpListenerConfig::default()
            })),
            order(RequestType::AddCluster(Cluster { cluster_id: "a".to_owned(), ..Cluster::default() })),
        ];
        all.extend([frontend(), backend()]);
        for order in &all {
            state.apply(order).unwrap();
        }
        all.push(order(RequestType::ActivateListener(ActivateListener {
            address: address(),
            ..ActivateListener::default()
        })));
        assert!(notes(&state, &all).is_empty());
    }
}
