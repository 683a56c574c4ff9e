//! Orders from a small universe, so that random ones meet, clash and repeat.

use std::{collections::BTreeMap, net::SocketAddr, sync::LazyLock};

use proptest::{collection::vec, option, prelude::*};

use crate::{
    order::{Order, OrderError, certificate::testing},
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
    let affinity = option::weighted(0.1, Just("X-Key".to_owned()));
    let user = (option::weighted(0.2, prop_oneof!["ada", "grace"]), affinity);
    (cluster_id(), settings, any_answers(), user).prop_map(
        |(id, (sticky_session, load_balancing, max_connection_attempts), answers, (user, affinity))| {
            let settings = proto::Cluster {
                sticky_session,
                load_balancing,
                max_connection_attempts,
                answer_503: answers.get("503").cloned(),
                answers,
                authorized_hashes: user.iter().map(|user| format!("{user}:{}", "0f".repeat(32))).collect(),
                www_authenticate: user,
                // What is about choosing goes together: it is kept or not as one.
                slow_start: affinity.as_ref().map(|_| 30),
                sticky_http_only: affinity.as_ref().map(|_| sticky_session),
                sticky_same_site: affinity.as_ref().map(|_| proto::SameSite::Lax.into()),
                rate_limits: max_connection_attempts.map(|n| rate_limits(n).values).unwrap_or_default(),
                max_connections: affinity.as_ref().map(|_| 8),
                max_queue: affinity.as_ref().map(|_| 100),
                affinity_header: affinity,
                ..cluster(&id)
            };
            RequestType::AddCluster(settings)
        },
    )
}

/// So many.
fn rate_limits(count: u32) -> proto::RateLimits {
    let limit = |at| proto::RateLimit { key: format!("header:x{at}"), rate: 1 + at, burst: None };
    proto::RateLimits { values: (0..count % 3).map(limit).collect() }
}

/// None, most of the time; now and then one that says nothing.
fn any_answers() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = prop_oneof!["404", "503", "other"];
    let text = prop_oneof![1 => Just(String::new()), 3 => "HTTP/1\\.1 50[0-2] No\n\n%ROUTE"];
    option::weighted(0.3, (name, text)).prop_map(|answer| answer.into_iter().collect())
}

fn any_backend() -> impl Strategy<Value = RequestType> {
    let unix_path = option::weighted(0.3, prop_oneof!["/run/a", "@b"]);
    let means = (option::of(0..3), option::of(any::<bool>()), unix_path);
    (cluster_id(), prop_oneof!["x", "y"], 1..3_u16, means, any::<bool>()).prop_map(
        |(cluster_id, backend_id, port, (weight, draining, unix_path), remove)| {
            let wire = proto::AddBackend {
                unix_path,
                draining,
                max_connections: draining.map(u32::from),
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
    let place = (0..3_i32, option::weighted(0.1, Just("GET".to_owned())), 80..82_u16, any::<bool>());
    let what = (option::weighted(0.2, 0..6_i32), any_predicates(), any_policy());
    (rule, place, what, prop::bool::weighted(0.3), any::<bool>()).prop_map(
        |(
            (id, host, kind),
            (position, method, port, https),
            (redirect, predicates, policy),
            remove,
            variant,
        )| {
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
            let hsts = || policy.map(|_| proto::HstsConfig { enabled: Some(true), ..Default::default() });
            match (remove, variant) {
                (false, _) if https => {
                    RequestType::AddHttpsFrontend(proto::RequestHttpFrontend { hsts: hsts(), ..wire })
                }
                (true, _) if https => RequestType::RemoveHttpsFrontend(wire),
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
    let tls = (any::<bool>(), any_tls());
    (key, settings, ours, 0..6, tls).prop_map(
        |((port, interface), settings, (answers, trusted), verb, tls)| {
            let (https, tls) = tls;
            let proxy = i32::from(https);
            let (timeout, public_address, limit, forwarded_headers) = settings;
            let trusted =
                trusted.map(|text| Some(text).filter(|text| !text.is_empty()).into_iter().collect());
            let address = local(port);
            match verb {
                0 | 1 if https => RequestType::AddHttpsListener(proto::HttpsListenerConfig {
                    address,
                    interface,
                    front_timeout: timeout,
                    public_address,
                    answers,
                    active: timeout == 1,
                    trusted_proxies: trusted.unwrap_or_default(),
                    ..tls
                }),
                2 if https => RequestType::UpdateHttpsListener(proto::UpdateHttpsListenerConfig {
                    address,
                    front_timeout: Some(timeout),
                    answers,
                    alpn_protocols: limit
                        .map(|_| proto::AlpnProtocols { values: tls.alpn_protocols.clone() }),
                    strict_sni_binding: tls.strict_sni_binding,
                    hsts: tls.hsts,
                    client_auth_policy: public_address.map(|_| proto::ClientAuthPolicy {
                        client_auth: tls.client_auth,
                        client_ca_certificates: tls.client_ca_certificates.clone(),
                        client_ca_crls: Vec::new(),
                    }),
                    client_subject_header: Some(tls.client_subject_header.unwrap_or_default()),
                    ..Default::default()
                }),
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
                    rate_limits: limit.map(rate_limits),
                    max_connections_per_source: limit.map(u64::from),
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
                    rate_limits: limit.map(|limit| rate_limits(limit - 1)),
                    max_connections: limit.map(u64::from),
                    min_transfer_rate: limit.map(|limit| limit - 1),
                    ..Default::default()
                }),
                3 => RequestType::RemoveListener(proto::RemoveListener { address, interface, proxy }),
                4 => RequestType::ActivateListener(proto::ActivateListener {
                    address,
                    interface,
                    proxy,
                    ..Default::default()
                }),
                _ => RequestType::DeactivateListener(proto::DeactivateListener {
                    address,
                    interface,
                    proxy,
                    ..Default::default()
                }),
            }
        },
    )
}

pub(super) fn tcp_listener(port: u16, interface: Option<&str>) -> proto::TcpListenerConfig {
    proto::TcpListenerConfig {
        address: local(port),
        interface: interface.map(str::to_owned),
        front_timeout: 60,
        back_timeout: 30,
        connect_timeout: 3,
        ..Default::default()
    }
}

/// A frontend of a TCP listener; without a name: of all connections.
pub(super) fn tcp_frontend(
    cluster_id: &str,
    port: u16,
    sni: Option<&str>,
    alpn: &[&str],
) -> proto::RequestTcpFrontend {
    proto::RequestTcpFrontend {
        cluster_id: cluster_id.into(),
        address: local(port),
        sni: sni.map(str::to_owned),
        alpn: alpn.iter().map(|name| (*name).to_owned()).collect(),
        tags: BTreeMap::new(),
    }
}

fn any_tcp_frontend() -> impl Strategy<Value = RequestType> {
    let name = prop_oneof![
        1 => Just(None),
        2 => prop_oneof!["a\\.test", "b\\.test", "\\*\\.test"].prop_map(Some),
    ];
    let alpn = vec(prop_oneof!["h2", "mqtt"], 0..3);
    let tagged = option::weighted(0.2, Just("us".to_owned()));
    (cluster_id(), 80..82_u16, name, alpn, (tagged, prop::bool::weighted(0.3))).prop_map(
        |(id, port, sni, alpn, (owner, remove))| {
            let alpn = if sni.is_some() { alpn } else { Vec::new() };
            let alpn: Vec<&str> = alpn.iter().map(String::as_str).collect();
            let wire = proto::RequestTcpFrontend {
                tags: owner.map(|owner| ("owner".to_owned(), owner)).into_iter().collect(),
                ..tcp_frontend(&id, port, sni.as_deref(), &alpn)
            };
            if remove { RequestType::RemoveTcpFrontend(wire) } else { RequestType::AddTcpFrontend(wire) }
        },
    )
}

fn any_tcp_listener() -> impl Strategy<Value = RequestType> {
    let key = (80..82_u16, option::weighted(0.3, Just("eth0".to_owned())));
    let settings = (1..3_u32, option::of(Just(local(8080))), option::of(1..3_u32));
    let tls = option::of((any_tls(), option::of(1..3_u32)));
    (key, settings, tls, 0..6).prop_map(|((port, interface), (timeout, public_address, limit), tls, verb)| {
        let (address, proxy) = (local(port), 2);
        let tls = tls.map(|(tls, handshake_timeout)| proto::HttpsListenerConfig {
            strict_sni_binding: None,
            hsts: None,
            client_subject_header: None,
            handshake_timeout,
            ..tls
        });
        match verb {
            0 | 1 => RequestType::AddTcpListener(proto::TcpListenerConfig {
                front_timeout: timeout,
                public_address,
                sni_preread_timeout: limit,
                active: timeout == 1,
                tls,
                ..tcp_listener(port, interface.as_deref())
            }),
            2 => RequestType::UpdateTcpListener(proto::UpdateTcpListenerConfig {
                address,
                front_timeout: Some(timeout),
                public_address,
                sni_preread_timeout: limit,
                sni_preread_max_bytes: limit.map(|limit| limit + 5),
                tls: tls.map(|tls| proto::UpdateHttpsListenerConfig {
                    address,
                    alpn_protocols: limit
                        .map(|_| proto::AlpnProtocols { values: tls.alpn_protocols.clone() }),
                    handshake_timeout: tls.handshake_timeout,
                    client_auth_policy: public_address.map(|_| proto::ClientAuthPolicy {
                        client_auth: tls.client_auth,
                        client_ca_certificates: tls.client_ca_certificates.clone(),
                        client_ca_crls: Vec::new(),
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            3 => RequestType::RemoveListener(proto::RemoveListener { address, interface, proxy }),
            4 => RequestType::ActivateListener(proto::ActivateListener {
                address,
                interface,
                proxy,
                ..Default::default()
            }),
            _ => RequestType::DeactivateListener(proto::DeactivateListener {
                address,
                interface,
                proxy,
                ..Default::default()
            }),
        }
    })
}

/// A listener's own settings of TLS, in a message that is otherwise empty.
fn any_tls() -> impl Strategy<Value = proto::HttpsListenerConfig> {
    let client = (any::<bool>(), option::of(Just("X-Subject".to_owned())));
    let of_tls = (option::of(any::<bool>()), option::of(any::<bool>()), option::weighted(0.2, 0..2_usize));
    (of_tls, client, any::<bool>()).prop_map(|((strict, hsts, own), (asks, header), both)| {
        let own = own.map(|nth| CERTIFICATES[nth].wire());
        proto::HttpsListenerConfig {
            address: local(80),
            front_timeout: 60,
            back_timeout: 30,
            connect_timeout: 3,
            request_timeout: 10,
            alpn_protocols: both.then(|| "http/1.1".to_owned()).into_iter().collect(),
            certificate: own.as_ref().map(|own| own.certificate.clone()),
            certificate_chain: own.as_ref().map(|own| own.certificate_chain.clone()).unwrap_or_default(),
            key: own.as_ref().map(|own| own.key.clone()),
            strict_sni_binding: strict,
            hsts: hsts.map(|enabled| proto::HstsConfig { enabled: Some(enabled), ..Default::default() }),
            client_auth: asks.then_some(1),
            client_ca_certificates: asks.then(|| testing::authority().pem).into_iter().collect(),
            client_subject_header: header,
            ..Default::default()
        }
    })
}

/// Two with the same issuer, one with none.
static CERTIFICATES: LazyLock<[testing::Made; 3]> = LazyLock::new(|| {
    [testing::leaf(&["x.test"]), testing::leaf(&["*.test", "y.test"]), testing::self_signed(&["x.test"])]
});

pub(super) fn certificate(nth: usize, port: u16) -> proto::AddCertificate {
    proto::AddCertificate { address: local(port), certificate: CERTIFICATES[nth].wire(), expired_at: None }
}

pub(super) fn fingerprint(nth: usize) -> String {
    match order(RequestType::AddCertificate(certificate(nth, 80))) {
        Order::AddCertificate(certificate) => certificate.fingerprint().to_string(),
        other => panic!("{other:?}"),
    }
}

fn any_certificate() -> impl Strategy<Value = RequestType> {
    let which = (0..3_usize, 0..3_usize, 80..82_u16);
    let beside = (option::weighted(0.3, 0..2_i64), option::weighted(0.3, Just(vec![1])), any::<bool>());
    (which, beside, 0..4).prop_map(|((nth, other, port), (expired_at, ocsp_response, named), verb)| {
        let mut wire = proto::AddCertificate { expired_at, ..certificate(nth, port) };
        wire.certificate.ocsp_response = ocsp_response;
        wire.certificate.names = named.then(|| "given.test".to_owned()).into_iter().collect();
        let address = wire.address;
        match verb {
            0 | 1 => RequestType::AddCertificate(wire),
            2 => RequestType::ReplaceCertificate(proto::ReplaceCertificate {
                address,
                new_certificate: wire.certificate,
                old_fingerprint: fingerprint(other),
                new_expired_at: expired_at,
            }),
            _ => RequestType::RemoveCertificate(proto::RemoveCertificate {
                address,
                fingerprint: fingerprint(nth),
            }),
        }
    })
}

fn any_health_check() -> impl Strategy<Value = RequestType> {
    (cluster_id(), option::of(1..3_u32), option::of(0..2_u32)).prop_map(|(cluster_id, interval, jitter)| {
        let Some(interval) = interval else { return RequestType::RemoveHealthCheck(cluster_id) };
        let config = proto::HealthCheckConfig {
            uri: "/up".into(),
            interval,
            jitter_percent: jitter,
            port: jitter.filter(|jitter| *jitter == 1).map(|_| 81),
            ..Default::default()
        };
        RequestType::SetHealthCheck(proto::SetHealthCheck { cluster_id, config })
    })
}

pub(super) fn any_order() -> impl Strategy<Value = Order> {
    prop_oneof![
        2 => any_cluster(),
        1 => cluster_id().prop_map(RequestType::RemoveCluster),
        1 => any_health_check(),
        4 => any_backend(),
        6 => any_frontend(),
        3 => any_listener(),
        2 => any_tcp_listener(),
        3 => any_tcp_frontend(),
        3 => any_certificate(),
        1 => (0..3_u64).prop_map(RequestType::SetMaxConnectionsPerIp),
        1 => (0..3_u64).prop_map(RequestType::SetMaxConnectionsPerSubnet),
        1 => (0..3_u32).prop_map(RequestType::SetMaxConnectionAttempts),
    ]
    .prop_map(order)
}

pub(super) fn any_orders() -> impl Strategy<Value = Vec<Order>> {
    vec(any_order(), 0..60)
}
