//! The rules of each verb, as short scripts: each order is accepted, does nothing, or is refused.

use super::values::{
    activate, add_backend, add_cluster, add_frontend, add_listener, backend, certificate, cluster,
    fingerprint, frontend, listener, local, order, remove_backend, remove_cluster, remove_frontend, state,
};
use crate::{
    order::{ListenerKey, Order},
    proto::{self, RulePosition, request::RequestType},
    state::{ConfigState, Effect},
};

/// Applies the orders to an empty state: "ok" is a change, "same" an accepted order without effect, and
/// anything else a part of the refusal's text.
pub(super) fn check(script: &[(Order, &str)]) -> ConfigState {
    let mut state = ConfigState::default();
    for (order, expected) in script {
        let outcome = match state.apply(order) {
            Ok(change) if change.is_empty() => "same".to_owned(),
            Ok(_) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(outcome.contains(expected), "{order:?}: {outcome}, not {expected}");
    }
    state.check_invariants();
    state
}

#[test]
fn a_cluster_is_set_again_and_removed_once() {
    let sticky = proto::Cluster { sticky_session: true, ..cluster("a") };
    check(&[
        (add_cluster("a"), "ok"),
        (add_cluster("a"), "same"),
        (order(RequestType::AddCluster(sticky)), "ok"),
        (remove_cluster("a"), "ok"),
        (remove_cluster("a"), "cluster `a` does not exist"),
    ]);
}

#[test]
fn removing_a_cluster_takes_its_own_along_and_nothing_else() {
    let mut state = state(&[
        add_cluster("a"),
        add_cluster("ab"),
        add_backend("a", "x", 1),
        add_backend("ab", "x", 1),
        add_frontend("a", "a.test", "/"),
        add_frontend("ab", "ab.test", "/"),
        add_frontend("", "denied.test", "/"),
    ]);
    let change = state.apply(&remove_cluster("a")).expect("accepted");
    assert_eq!(change.effects().len(), 3);
    assert_eq!(change.effects().last(), Some(&Effect::ClusterRemoved("a".into())));
    let counts = state.counts();
    assert_eq!((counts.clusters, counts.backends, counts.http_frontends), (1, 1, 2));
    // What went along may be removed again, as clients do.
    for gone in [remove_frontend("a", "a.test", "/"), remove_backend("a", "x", 1)] {
        assert!(state.apply(&gone).expect("accepted").is_empty());
    }
}

#[test]
fn a_backend_needs_its_cluster() {
    let heavier = proto::AddBackend {
        load_balancing_parameters: Some(proto::LoadBalancingParams { weight: 7 }),
        ..backend("a", "x", 1)
    };
    let state = check(&[
        (add_backend("a", "x", 1), "cluster `a` does not exist"),
        (add_cluster("a"), "ok"),
        (add_backend("a", "x", 1), "ok"),
        (add_backend("a", "x", 1), "same"),
        (order(RequestType::AddBackend(heavier)), "ok"),
        (add_backend("a", "x", 2), "ok"),
        (remove_backend("a", "x", 1), "ok"),
        (remove_backend("a", "x", 1), "backend `x` at 127.0.0.1:1 of cluster `a` does not exist"),
    ]);
    assert_eq!(state.backends("a").map(|backend| backend.address().port()).collect::<Vec<_>>(), [2]);
}

#[test]
fn the_address_of_a_backend_on_a_unix_socket_is_its_own() {
    let unix = |backend_id: &str, port: u16, path: &str| {
        let wire = proto::AddBackend { unix_path: Some(path.into()), ..backend("a", backend_id, port) };
        order(RequestType::AddUnixBackend(wire))
    };
    let taken = "backend `y` at 127.0.0.1:1 of cluster `a` cannot be beside backend `x`";
    let state = check(&[
        (add_cluster("a"), "ok"),
        (add_backend("a", "x", 1), "ok"),
        (unix("y", 1, "/run/y"), taken),
        (unix("x", 1, "/run/x"), "ok"),
        (unix("x", 1, "/run/x"), "same"),
        (add_backend("a", "y", 1), taken),
        (unix("y", 2, "/run/x"), "ok"),
        (add_backend("a", "x", 1), "ok"),
        (add_backend("a", "y", 1), "ok"),
    ]);
    let targets: Vec<_> = state.backends("a").map(|backend| backend.target().to_string()).collect();
    assert_eq!(targets, ["127.0.0.1:1", "127.0.0.1:1", "/run/x"]);
}

#[test]
fn a_backend_on_a_unix_socket_has_no_other_port_to_probe() {
    let probed = |port: Option<u32>| {
        let config = proto::HealthCheckConfig { uri: "/up".into(), interval: 1, port, ..Default::default() };
        let cluster_id = "a".to_owned();
        order(RequestType::SetHealthCheck(proto::SetHealthCheck { cluster_id, config }))
    };
    let unix = || {
        let wire = proto::AddBackend { unix_path: Some("/run/x".into()), ..backend("a", "x", 1) };
        order(RequestType::AddUnixBackend(wire))
    };
    let refused = "cluster `a` has health_check.port = 81, and its backend `x` a unix_path";
    check(&[
        (add_cluster("a"), "ok"),
        (unix(), "ok"),
        (probed(Some(81)), refused),
        (probed(None), "ok"),
        // Of another cluster it is.
        (add_cluster("b"), "ok"),
        (add_backend("a", "x", 1), "ok"),
        (probed(Some(81)), "ok"),
        (unix(), refused),
        (add_backend("a", "y", 2), "ok"),
        (probed(None), "ok"),
        (unix(), "ok"),
    ]);
}

#[test]
fn a_frontend_is_unique_whatever_its_cluster_and_position() {
    let pre =
        proto::RequestHttpFrontend { position: RulePosition::Pre.into(), ..frontend("b", "A.test", "/") };
    let get = proto::RequestHttpFrontend { method: Some("GET".into()), ..frontend("b", "a.test", "/") };
    check(&[
        (add_frontend("a", "a.test", "/"), "ok"),
        (add_frontend("a", "a.test", "/"), "http frontend 127.0.0.1:80 host a.test path `/` already exists"),
        (order(RequestType::AddHttpFrontend(pre)), "already exists"),
        (order(RequestType::AddHttpFrontend(get)), "ok"),
        (remove_frontend("b", "a.test", "/"), "belongs to cluster `a`, not to cluster `b`"),
        (remove_frontend("", "a.test", "/"), "belongs to cluster `a`, not to no cluster"),
        (remove_frontend("a", "a.test", "/"), "ok"),
        (remove_frontend("", "a.test", "/"), "does not exist"),
        (add_cluster("a"), "ok"),
        (remove_frontend("a", "a.test", "/"), "does not exist"),
    ]);
}

#[test]
fn ordered_frontends_keep_their_order_and_the_tree_has_none() {
    let at = |position: RulePosition, path: &str| {
        let wire = proto::RequestHttpFrontend { position: position.into(), ..frontend("a", "a.test", path) };
        order(RequestType::AddHttpFrontend(wire))
    };
    use RulePosition::{Pre, Tree};
    let paths = |state: &ConfigState| {
        state.http_frontends().map(|frontend| frontend.path().value().to_owned()).collect::<Vec<_>>()
    };
    let ordered = state(&[at(Pre, "/z"), at(Pre, "/a")]);
    assert_eq!(paths(&ordered), ["/z", "/a"]);
    assert_ne!(ordered, state(&[at(Pre, "/a"), at(Pre, "/z")]));
    assert_eq!(state(&[at(Tree, "/z"), at(Tree, "/a")]), state(&[at(Tree, "/a"), at(Tree, "/z")]));
    // A removal undone is back at its place.
    let mut undone = ordered.clone();
    let change = undone.apply(&remove_frontend("a", "a.test", "/z")).expect("accepted");
    undone.undo(change);
    assert_eq!(paths(&undone), ["/z", "/a"]);
}

#[test]
fn a_listener_is_active_only_once_activated() {
    let claims = proto::HttpListenerConfig { active: true, ..listener(80, None) };
    let deactivate = RequestType::DeactivateListener(proto::DeactivateListener {
        address: local(80),
        ..Default::default()
    });
    let remove =
        RequestType::RemoveListener(proto::RemoveListener { address: local(80), ..Default::default() });
    check(&[
        (activate(80, None), "http listener 127.0.0.1:80 does not exist"),
        (order(RequestType::AddHttpListener(claims)), "ok"),
        (add_listener(80, None), "http listener 127.0.0.1:80 already exists"),
        (order(deactivate.clone()), "same"),
        (activate(80, None), "ok"),
        (activate(80, None), "same"),
        (activate(80, Some("eth0")), "http listener 127.0.0.1:80%eth0 does not exist"),
        (order(deactivate), "ok"),
        (order(remove.clone()), "ok"),
        (order(remove), "http listener 127.0.0.1:80 does not exist"),
    ]);
}

#[test]
fn a_patch_changes_what_it_names() {
    let patch = |edit: fn(&mut proto::UpdateHttpListenerConfig)| {
        let mut wire = proto::UpdateHttpListenerConfig { address: local(80), ..Default::default() };
        edit(&mut wire);
        order(RequestType::UpdateHttpListener(wire))
    };
    let rename = || patch(|wire| wire.sozu_id_header = Some("X-Id".into()));
    let state = check(&[
        (rename(), "http listener 127.0.0.1:80 does not exist"),
        (add_listener(80, None), "ok"),
        (activate(80, None), "ok"),
        (rename(), "ok"),
        (rename(), "same"),
        (patch(|wire| wire.back_timeout = Some(7)), "ok"),
        (patch(|wire| drop(wire.answers.insert("404".into(), String::new()))), "same"),
        (patch(|wire| drop(wire.answers.insert("404".into(), "HTTP/1.1 404 No\n\n".into()))), "ok"),
        (patch(|wire| wire.trusted_proxies = trusted(&["10.0.0.0/8"])), "ok"),
        (patch(|wire| wire.trusted_proxies = trusted(&["10.0.0.0/8"])), "same"),
        (patch(|wire| wire.max_body_bytes = Some(7)), "ok"),
        (patch(|wire| wire.max_body_bytes = Some(0)), "ok"),
        (patch(|wire| wire.trusted_proxies = trusted(&[])), "ok"),
    ]);
    let key = ListenerKey { address: "127.0.0.1:80".parse().expect("an address"), interface: None };
    let listener = state.http_listener(&key).expect("there");
    assert_eq!(
        (listener.sozu_id_header(), listener.back_timeout().as_secs(), listener.active()),
        (&"X-Id".into(), 7, true)
    );
    assert!(listener.answer(404).is_some() && listener.answer(503).is_none());
    assert!(listener.trusted_proxies().is_empty() && listener.max_body_bytes().is_none());
}

fn trusted(texts: &[&str]) -> Option<proto::TrustedProxies> {
    Some(proto::TrustedProxies { values: texts.iter().map(|text| (*text).to_owned()).collect() })
}

#[test]
fn a_listener_has_no_more_answers_than_it_may() {
    let answers = |prefix: &str, count: usize| {
        let name = |nth: usize| (format!("{prefix}{nth}"), "HTTP/1.1 200 OK\n\n".to_owned());
        (0..count).map(name).collect()
    };
    let patch = |answers| {
        let wire = proto::UpdateHttpListenerConfig { address: local(80), answers, ..Default::default() };
        order(RequestType::UpdateHttpListener(wire))
    };
    check(&[
        (add_listener(80, None), "ok"),
        (patch(answers("a", 60)), "ok"),
        (patch(answers("b", 5)), "answers are more than 64"),
        (patch(answers("b", 4)), "ok"),
    ]);
}

#[test]
fn a_patch_of_an_address_with_several_interfaces_is_ambiguous() {
    let patch =
        proto::UpdateHttpListenerConfig { address: local(80), front_timeout: Some(1), ..Default::default() };
    check(&[
        (add_listener(80, Some("eth0")), "ok"),
        (order(RequestType::UpdateHttpListener(patch.clone())), "ok"),
        (add_listener(80, None), "ok"),
        (order(RequestType::UpdateHttpListener(patch)), "several listeners share the address 127.0.0.1:80"),
    ]);
}

#[test]
fn a_patch_with_an_unusable_value_is_no_order() {
    let check = |edit: fn(&mut proto::UpdateHttpListenerConfig), expected: &str| {
        let mut wire = proto::UpdateHttpListenerConfig { address: local(80), ..Default::default() };
        edit(&mut wire);
        let request = RequestType::UpdateHttpListener(wire).into();
        let error = Order::from_request(&request).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(|wire| wire.h2_max_concurrent_streams = Some(0), "h2_max_concurrent_streams `0` must be >= 1");
    check(|wire| wire.h2_stream_shrink_ratio = Some(1), "h2_stream_shrink_ratio `1` must be >= 2");
    check(|wire| wire.front_timeout = Some(0), "front_timeout `0` must be >= 1");
    check(|wire| wire.sozu_id_header = Some("a b".into()), "sozu_id_header `a b` is not a token");
    check(|wire| wire.expect_proxy_from = trusted(&["::1", "me"]), "expect_proxy_from `me` is neither");
    check(|wire| wire.forwarded_headers = Some(4), "forwarded_headers `4` is not known");
    check(|wire| wire.address.port = 0, "has port 0");
    check(|wire| wire.tunnel_timeout = Some(0), "tunnel_timeout `0` must be >= 1");
    check(|wire| wire.max_request_line = Some(255), "max_request_line `255` is below 256");
    check(|wire| wire.trace_context = Some(2), "trace_context `2` is not known");
    check(|wire| wire.trusted_proxies = trusted(&["::1", "me"]), "trusted_proxies `me` is neither");
    check(|wire| drop(wire.answers.insert("404".into(), "No".into())), "answers `404` has no empty line");
}

#[test]
fn a_refused_transaction_names_every_culprit() {
    let mut state = state(&[add_cluster("a")]);
    let before = state.clone();
    let refused = state.transact(&[
        add_backend("a", "x", 1),
        remove_cluster("b"),
        add_frontend("a", "a.test", "/"),
        add_frontend("a", "a.test", "/"),
    ]);
    let text = refused.expect_err("refused").to_string();
    assert_eq!(
        text,
        "order 1 (remove_cluster): cluster `b` does not exist; \
         order 3 (add_http_frontend): http frontend 127.0.0.1:80 host a.test path `/` already exists"
    );
    assert_eq!(state, before);
    let many: Vec<_> = (0..1000).map(|_| remove_cluster("b")).collect();
    let text = state.transact(&many).expect_err("refused").to_string();
    assert!(text.ends_with("; and 990 more") && text.len() < 2000, "{text}");
}

#[test]
fn a_frontend_that_outlives_its_cluster_is_added_again_by_a_diff() {
    let frontend = || add_frontend("a", "a.test", "/");
    let from = state(&[add_cluster("a"), frontend()]);
    let to = state(&[frontend()]);
    // Removing the cluster takes the frontend along.
    assert_eq!(from.diff(&to), [remove_cluster("a"), frontend()]);
    assert_eq!(to.diff(&from), [add_cluster("a")]);
}

#[test]
fn a_diff_disturbs_no_listener_that_a_patch_can_change() {
    let known = RequestType::UpdateHttpListener(proto::UpdateHttpListenerConfig {
        address: local(80),
        public_address: Some(local(8080)),
        ..Default::default()
    });
    let base = state(&[add_listener(80, None), activate(80, None)]);
    let known = order(known);
    let named = state(&[add_listener(80, None), activate(80, None), known.clone()]);
    assert_eq!(base.diff(&named), [known]);
    // No patch can take a setting back: the listener is replaced, and active again at the very end.
    let verbs: Vec<_> = named.diff(&base).iter().map(Order::verb).collect();
    assert_eq!(verbs, ["remove_listener", "add_http_listener", "activate_listener"]);
}

#[test]
fn clusters_are_found_by_host_and_path() {
    let state = state(&[
        add_cluster("a"),
        add_cluster("b"),
        add_frontend("a", "x.test", "/a"),
        add_frontend("b", "x.test", "/b"),
        add_frontend("b", "*.test", ""),
        add_frontend("", "x.test", ""),
        add_backend("b", "b-0", 1),
    ]);
    let check = |host: &str, path: Option<&str>, expected: &[&str]| {
        let found = state.query_clusters_by_domain(host, path);
        let ids: Vec<_> =
            found.iter().flat_map(|it| &it.configuration).map(|it| it.cluster_id.as_str()).collect();
        assert_eq!(ids, expected);
    };
    check("x.test", None, &["a", "b"]);
    check("X.Test", Some("/b"), &["b"]);
    check("*.test", None, &["b"]);
    check("y.test", None, &[]);
    let b = state.query_cluster_by_id("b").expect("there");
    assert_eq!((b.http_frontends.len(), b.backends.len()), (2, 1));
    assert_eq!(state.query_cluster_by_id("c"), None);
}

#[test]
fn frontends_are_listed_by_kind_domain_and_cluster() {
    let state = state(&[
        add_cluster("a"),
        add_frontend("a", "x.test", "/"),
        add_frontend("a", "y.example", "/"),
        add_frontend("", "z.test", "/"),
    ]);
    let check = |filters: proto::FrontendFilters, expected: usize| {
        assert_eq!(state.list_frontends(&filters).http_frontends.len(), expected, "{filters:?}");
    };
    let none = proto::FrontendFilters::default;
    check(none(), 3);
    check(proto::FrontendFilters { http: true, ..none() }, 3);
    check(proto::FrontendFilters { https: true, ..none() }, 0);
    check(proto::FrontendFilters { domain: Some(".TEST".into()), ..none() }, 2);
    check(proto::FrontendFilters { cluster_id: Some("a".into()), ..none() }, 2);
    check(proto::FrontendFilters { cluster_id: Some("a".into()), domain: Some("x".into()), ..none() }, 2);
    check(proto::FrontendFilters { cluster_id: Some("a".into()), domain: Some("x.".into()), ..none() }, 1);
    check(proto::FrontendFilters { cluster_id: Some("b".into()), ..none() }, 0);
}

#[test]
fn listeners_are_listed_under_their_keys() {
    let state = state(&[add_listener(80, None), add_listener(80, Some("eth0")), activate(80, None)]);
    let listed = state.list_listeners().http_listeners;
    let shown: Vec<_> = listed.iter().map(|(key, wire)| (key.as_str(), wire.active)).collect();
    assert_eq!(shown, [("127.0.0.1:80", true), ("127.0.0.1:80%eth0", false)]);
}

fn add_https_listener(port: u16) -> Order {
    order(RequestType::AddHttpsListener(proto::HttpsListenerConfig {
        address: local(port),
        ..Default::default()
    }))
}

#[test]
fn an_address_speaks_one_protocol() {
    let of_kind = |proxy| proto::RemoveListener { address: local(80), proxy, ..Default::default() };
    let remove = |proxy| order(RequestType::RemoveListener(of_kind(proxy)));
    let patch = proto::UpdateHttpsListenerConfig {
        address: local(80),
        handshake_timeout: Some(5),
        ..Default::default()
    };
    let patch = || order(RequestType::UpdateHttpsListener(patch.clone()));
    check(&[
        (add_listener(80, None), "ok"),
        (
            add_https_listener(80),
            "https listener 127.0.0.1:80 cannot be added: the listener that is there speaks http",
        ),
        (patch(), "https listener 127.0.0.1:80 does not exist"),
        (remove(1), "https listener 127.0.0.1:80 does not exist"),
        (remove(0), "ok"),
        (add_https_listener(80), "ok"),
        (add_https_listener(80), "https listener 127.0.0.1:80 already exists"),
        (
            add_listener(80, None),
            "http listener 127.0.0.1:80 cannot be added: the listener that is there speaks https",
        ),
        (activate(80, None), "http listener 127.0.0.1:80 does not exist"),
        (patch(), "ok"),
        (patch(), "same"),
    ]);
}

#[test]
fn a_listener_of_another_kind_takes_the_place_in_a_diff() {
    let (from, to) = (state(&[add_listener(80, None)]), state(&[add_https_listener(80)]));
    let verbs: Vec<_> = from.diff(&to).iter().map(Order::verb).collect();
    assert_eq!(verbs, ["remove_listener", "add_https_listener"]);
}

#[test]
fn frontends_of_http_and_https_do_not_meet() {
    let https = |path| RequestType::AddHttpsFrontend(frontend("a", "a.test", path));
    let remove = RequestType::RemoveHttpsFrontend(frontend("a", "a.test", "/"));
    let state = check(&[
        (add_cluster("a"), "ok"),
        (add_frontend("a", "a.test", "/"), "ok"),
        (order(remove.clone()), "https frontend 127.0.0.1:80 host a.test path `/` does not exist"),
        (order(https("/")), "ok"),
        (order(https("/")), "https frontend 127.0.0.1:80 host a.test path `/` already exists"),
        (order(https("/b")), "ok"),
        (order(remove), "ok"),
    ]);
    let listed = state.list_frontends(&proto::FrontendFilters::default());
    assert_eq!((listed.http_frontends.len(), listed.https_frontends.len()), (1, 1));
    let https = proto::FrontendFilters { https: true, ..Default::default() };
    let listed = state.list_frontends(&https);
    assert_eq!((listed.http_frontends.len(), listed.https_frontends.len()), (0, 1));
    let information = state.query_cluster_by_id("a").expect("there");
    assert_eq!((information.http_frontends.len(), information.https_frontends.len()), (1, 1));
}

fn add_certificate(nth: usize, port: u16) -> Order {
    order(RequestType::AddCertificate(certificate(nth, port)))
}

fn remove_certificate(nth: usize, port: u16) -> Order {
    let (address, fingerprint) = (local(port), fingerprint(nth));
    order(RequestType::RemoveCertificate(proto::RemoveCertificate { address, fingerprint }))
}

fn replace_certificate(new: usize, old: usize, port: u16, ocsp: &[u8]) -> Order {
    let mut certificate = certificate(new, port);
    certificate.certificate.ocsp_response = Some(ocsp.to_vec()).filter(|ocsp| !ocsp.is_empty());
    order(RequestType::ReplaceCertificate(proto::ReplaceCertificate {
        address: local(port),
        new_certificate: certificate.certificate,
        old_fingerprint: fingerprint(old),
        new_expired_at: None,
    }))
}

#[test]
fn certificates_belong_to_addresses() {
    let state = check(&[
        (remove_certificate(0, 80), "same"),
        (add_certificate(0, 80), "ok"),
        (add_certificate(0, 80), "same"),
        (add_certificate(0, 81), "ok"),
        (add_certificate(1, 80), "ok"),
        (remove_certificate(0, 80), "ok"),
        (remove_certificate(0, 80), "same"),
    ]);
    let ports: Vec<_> = state.certificates().map(|it| it.address().port()).collect();
    assert_eq!(ports, [80, 81]);
}

#[test]
fn a_replacement_is_there_before_the_replaced_one_goes() {
    check(&[
        (replace_certificate(1, 0, 80, &[]), "cannot replace another: 127.0.0.1:80 has no certificates"),
        (add_certificate(0, 80), "ok"),
        (replace_certificate(0, 0, 80, &[]), "same"),
        (replace_certificate(0, 0, 80, &[7]), "ok"),
        (replace_certificate(0, 2, 80, &[7]), "same"),
        (replace_certificate(1, 0, 80, &[]), "ok"),
        (replace_certificate(1, 0, 80, &[]), "same"),
    ]);
    let mut state = state(&[add_certificate(0, 80)]);
    let before = state.clone();
    let change = state.apply(&replace_certificate(1, 0, 80, &[])).expect("accepted");
    let told: Vec<_> = change.effects().iter().map(|it| matches!(it, Effect::CertificateSet(_))).collect();
    assert_eq!(told, [true, false]);
    state.undo(change);
    assert_eq!(state, before);
    state.check_invariants();
}

#[test]
fn certificates_with_one_issuer_share_it() {
    let state = state(&[add_certificate(0, 80), add_certificate(1, 81), add_certificate(0, 81)]);
    let issuers: Vec<_> = state.certificates().map(|it| it.chain()[1].clone()).collect();
    assert!(issuers.iter().all(|issuer| std::sync::Arc::ptr_eq(issuer, &issuers[0])));
}

#[test]
fn certificates_are_found_by_name_and_fingerprint() {
    let state = state(&[
        add_https_listener(80),
        add_https_listener(81),
        add_certificate(0, 80),
        add_certificate(1, 80),
        add_certificate(1, 81),
        add_certificate(2, 82),
    ]);
    let check = |domain: Option<&str>, of: Option<usize>, expected: &[(u16, usize)]| {
        let filters = proto::QueryCertificatesFilters {
            domain: domain.map(str::to_owned),
            fingerprint: of.map(fingerprint),
        };
        let listed = state.summarise_certificates(&filters).expect("listed").certificates;
        let mut found: Vec<_> = listed
            .iter()
            .flat_map(|it| it.certificate_summaries.iter().map(|one| (it.address.port, &one.fingerprint)))
            .collect();
        found.dedup();
        let expected: Vec<_> =
            expected.iter().map(|(port, nth)| (u32::from(*port), fingerprint(*nth))).collect();
        let expected: Vec<_> = expected.iter().map(|(port, print)| (*port, print)).collect();
        assert_eq!(found, expected, "{domain:?} {of:?}");
        let full = state.query_certificates(&filters).expect("found");
        assert!(full.certs.values().all(|it| it.key.is_empty()));
        assert!(full.certs.keys().all(|print| expected.iter().any(|(_, it)| *it == print)));
    };
    check(Some("X.test"), None, &[(80, 0), (81, 1)]);
    check(Some("y.test"), None, &[(80, 1), (81, 1)]);
    check(Some("other.test"), None, &[(80, 1), (81, 1)]);
    check(Some("a.other.test"), None, &[]);
    check(None, Some(2), &[(82, 2)]);
    check(Some("y.test"), Some(0), &[(80, 1), (81, 1)]);
    let bad = proto::QueryCertificatesFilters { fingerprint: Some("x".into()), domain: None };
    assert!(state.query_certificates(&bad).is_err());
}

#[test]
fn private_keys_are_in_no_list() {
    let certificate = certificate(0, 80).certificate;
    let listener = RequestType::AddHttpsListener(proto::HttpsListenerConfig {
        address: local(80),
        certificate: Some(certificate.certificate.clone()),
        certificate_chain: certificate.certificate_chain.clone(),
        key: Some(certificate.key.clone()),
        ..Default::default()
    });
    let mut tls = proto::BackendTls::default();
    tls.client_certificate = Some(certificate.certificate.clone());
    tls.client_key = Some(certificate.key.clone());
    let secured = RequestType::AddCluster(proto::Cluster { tls: Some(tls), ..cluster("a") });
    let state = state(&[order(listener), order(secured)]);
    let listed = &state.list_listeners().https_listeners["127.0.0.1:80"];
    assert!(listed.key.is_none() && listed.certificate.is_some());
    let listed = state.query_cluster_by_id("a").and_then(|it| it.configuration).expect("there");
    let listed = listed.tls.as_ref().expect("there");
    assert!(listed.client_key.is_none() && listed.client_certificate.is_some());
}
