//! The rules of TCP listeners and frontends.

use super::{
    rules::check,
    values::{
        activate, add_cluster, add_listener, certificate, cluster, fingerprint, local, order, remove_cluster,
        state, tcp_frontend, tcp_listener,
    },
};
use crate::{
    order::{ListenerKey, Order},
    proto::{self, request::RequestType},
    state::{ConfigState, Effect},
};

const PROXY: i32 = 2;

fn add_tcp_listener(port: u16, interface: Option<&str>) -> Order {
    order(RequestType::AddTcpListener(tcp_listener(port, interface)))
}

fn ends_tls(port: u16) -> Order {
    let tls = Some(proto::HttpsListenerConfig::default());
    order(RequestType::AddTcpListener(proto::TcpListenerConfig { tls, ..tcp_listener(port, None) }))
}

fn update(edit: impl FnOnce(&mut proto::UpdateTcpListenerConfig)) -> Order {
    let mut wire = proto::UpdateTcpListenerConfig { address: local(80), ..Default::default() };
    edit(&mut wire);
    order(RequestType::UpdateTcpListener(wire))
}

fn activate_tcp(port: u16) -> Order {
    let wire = proto::ActivateListener { address: local(port), proxy: PROXY, ..Default::default() };
    order(RequestType::ActivateListener(wire))
}

fn deactivate_tcp(port: u16) -> Order {
    let wire = proto::DeactivateListener { address: local(port), proxy: PROXY, ..Default::default() };
    order(RequestType::DeactivateListener(wire))
}

fn remove_listener(port: u16, proxy: i32) -> Order {
    order(RequestType::RemoveListener(proto::RemoveListener { address: local(port), interface: None, proxy }))
}

fn add(id: &str, sni: Option<&str>, alpn: &[&str]) -> Order {
    order(RequestType::AddTcpFrontend(tcp_frontend(id, 80, sni, alpn)))
}

fn remove(id: &str, sni: Option<&str>, alpn: &[&str]) -> Order {
    order(RequestType::RemoveTcpFrontend(tcp_frontend(id, 80, sni, alpn)))
}

#[test]
fn a_listener_is_active_only_once_activated() {
    let claims = proto::TcpListenerConfig { active: true, ..tcp_listener(80, None) };
    let state = check(&[
        (activate_tcp(80), "tcp listener 127.0.0.1:80 does not exist"),
        (order(RequestType::AddTcpListener(claims)), "ok"),
        (add_tcp_listener(80, None), "tcp listener 127.0.0.1:80 already exists"),
        (deactivate_tcp(80), "same"),
        (activate_tcp(80), "ok"),
        (activate_tcp(80), "same"),
        (deactivate_tcp(80), "ok"),
        (remove_listener(80, PROXY), "ok"),
        (remove_listener(80, PROXY), "does not exist"),
        (add_tcp_listener(80, Some("eth0")), "ok"),
    ]);
    assert_eq!((state.counts().tcp_listeners, state.len()), (1, 1));
}

#[test]
fn an_address_speaks_one_protocol() {
    check(&[
        (add_listener(80, None), "ok"),
        (
            add_tcp_listener(80, None),
            "tcp listener 127.0.0.1:80 cannot be added: the listener that is there speaks http",
        ),
        (remove_listener(80, PROXY), "tcp listener 127.0.0.1:80 does not exist"),
        (activate_tcp(80), "does not exist"),
        (remove_listener(80, 0), "ok"),
        (add_tcp_listener(80, None), "ok"),
        (
            add_listener(80, None),
            "http listener 127.0.0.1:80 cannot be added: the listener that is there speaks tcp",
        ),
        (activate(80, None), "http listener 127.0.0.1:80 does not exist"),
    ]);
}

#[test]
fn a_patch_changes_what_it_names() {
    let about_tls = |it: &mut proto::UpdateTcpListenerConfig| it.tls = Some(Default::default());
    let faster = |it: &mut proto::UpdateTcpListenerConfig| it.front_timeout = Some(7);
    let state = check(&[
        (update(faster), "tcp listener 127.0.0.1:80 does not exist"),
        (add_tcp_listener(80, None), "ok"),
        (activate_tcp(80), "ok"),
        (update(|_| {}), "same"),
        (update(faster), "ok"),
        (update(faster), "same"),
        (update(about_tls), "tls cannot be changed"),
    ]);
    let listener = state.tcp_listeners().next().expect("there");
    assert_eq!((listener.front_timeout().as_secs(), listener.active()), (7, true));
    check(&[
        (add_tcp_listener(80, None), "ok"),
        (add_tcp_listener(80, Some("eth0")), "ok"),
        (update(faster), "several listeners share the address 127.0.0.1:80"),
    ]);
}

#[test]
fn an_address_is_for_one_cluster_or_for_names() {
    check(&[
        (add("a", None, &[]), "ok"),
        (add("a", None, &[]), "tcp frontend 127.0.0.1:80 already exists"),
        (add("b", None, &[]), "tcp frontend 127.0.0.1:80 already exists"),
        (
            add("b", Some("b.test"), &[]),
            "tcp frontend 127.0.0.1:80 sni b.test cannot be beside 127.0.0.1:80 of cluster `a`: an address has either",
        ),
        (order(RequestType::AddTcpFrontend(tcp_frontend("b", 81, Some("b.test"), &[]))), "ok"),
        (remove("a", None, &[]), "ok"),
        (add("b", Some("*.test"), &[]), "ok"),
        (add("b", Some("b.test"), &[]), "ok"),
        (
            add("a", None, &[]),
            "tcp frontend 127.0.0.1:80 cannot be beside 127.0.0.1:80 sni b.test of cluster `b`",
        ),
    ]);
}

#[test]
fn a_name_has_each_protocol_once_and_one_frontend_for_the_rest() {
    let state = check(&[
        (add("a", Some("A.test"), &[]), "ok"),
        (add("b", Some("a.test"), &[]), "tcp frontend 127.0.0.1:80 sni a.test already exists"),
        (add("b", Some("a.test"), &["h2", "mqtt"]), "ok"),
        (add("c", Some("a.test"), &["mqtt", "h2"]), "already exists"),
        (
            add("c", Some("a.test"), &["h2"]),
            "tcp frontend 127.0.0.1:80 sni a.test alpn h2 cannot be beside 127.0.0.1:80 sni a.test alpn h2 alpn \
             mqtt of cluster `b`: both are for the same alpn",
        ),
        (add("c", Some("a.test"), &["smtp"]), "ok"),
        (add("c", Some("b.test"), &["h2"]), "ok"),
    ]);
    assert_eq!((state.counts().tcp_frontends, state.tcp_frontends_of("c").count()), (4, 2));
}

#[test]
fn a_frontend_is_removed_by_all_that_identifies_it() {
    check(&[
        (add_cluster("a"), "ok"),
        (add("a", Some("a.test"), &["h2"]), "ok"),
        (remove("a", Some("a.test"), &[]), "tcp frontend 127.0.0.1:80 sni a.test does not exist"),
        (remove("a", None, &[]), "does not exist"),
        (remove("b", Some("a.test"), &["h2"]), "belongs to cluster `a`, not to cluster `b`"),
        (remove("a", Some("a.test"), &["h2"]), "ok"),
        (remove("a", Some("a.test"), &["h2"]), "does not exist"),
        // Of a cluster that is gone, nothing is left to remove.
        (remove("b", Some("a.test"), &["h2"]), "same"),
    ]);
}

#[test]
fn removing_a_cluster_takes_its_frontends_along() {
    let mut state = state(&[
        add_cluster("a"),
        add("a", Some("a.test"), &[]),
        add("a", Some("b.test"), &[]),
        add("b", Some("c.test"), &[]),
    ]);
    let before = state.clone();
    let change = state.apply(&remove_cluster("a")).expect("accepted");
    assert_eq!(change.effects().len(), 3);
    assert_eq!(change.effects().last(), Some(&Effect::ClusterRemoved("a".into())));
    assert_eq!(state.counts().tcp_frontends, 1);
    assert!(state.apply(&remove("a", Some("a.test"), &[])).expect("accepted").is_empty());
    state.undo(change);
    assert_eq!(state, before);
}

#[test]
fn a_cluster_with_tcp_frontends_has_nothing_that_needs_http() {
    let with = |edit: fn(&mut proto::Cluster)| {
        let mut wire = cluster("a");
        edit(&mut wire);
        order(RequestType::AddCluster(wire))
    };
    let by_header = || with(|it| it.affinity_header = Some("X-Key".into()));
    let by_cookie = || with(|it| it.affinity_cookie = Some("key".into()));
    let sends = || with(|it| it.proxy_protocol = Some(proto::ProxyProtocolConfig::SendHeader.into()));
    check(&[
        (add_cluster("a"), "ok"),
        (add("a", None, &[]), "ok"),
        (by_header(), "affinity_header `X-Key` needs HTTP"),
        (by_cookie(), "affinity_cookie `key` needs HTTP"),
        (sends(), "ok"),
        (remove("a", None, &[]), "ok"),
        (by_header(), "ok"),
        (add("a", None, &[]), "affinity_header `X-Key` needs HTTP"),
        (sends(), "ok"),
        (add("a", None, &[]), "ok"),
    ]);
}

#[test]
fn a_diff_leads_over_what_cannot_be_side_by_side() {
    let all = state(&[add_cluster("a"), add("a", None, &[]), add_listener(80, None), activate(80, None)]);
    let named = state(&[
        add_cluster("b"),
        add("b", Some("a.test"), &["h2"]),
        add_tcp_listener(80, None),
        activate_tcp(80),
    ]);
    for (from, to) in [(&all, &named), (&named, &all)] {
        let mut state = from.clone();
        for order in from.diff(to) {
            state.apply(&order).unwrap_or_else(|error| panic!("{order:?}: {error}"));
        }
        assert_eq!(&state, to);
    }
}

#[test]
fn a_diff_disturbs_no_listener_that_a_patch_can_change() {
    let from = state(&[add_tcp_listener(80, None), activate_tcp(80)]);
    let mut to = from.clone();
    to.apply(&update(|it| it.sni_preread_timeout = Some(1))).expect("accepted");
    let verbs: Vec<_> = from.diff(&to).iter().map(Order::verb).collect();
    assert_eq!(verbs, ["update_tcp_listener"]);
    let verbs: Vec<_> = to.diff(&from).iter().map(Order::verb).collect();
    assert_eq!(verbs, ["remove_listener", "add_tcp_listener", "activate_listener"]);
}

#[test]
fn listeners_and_frontends_are_listed() {
    let state = state(&[
        add_cluster("a"),
        add_tcp_listener(80, Some("eth0")),
        ends_tls(81),
        add("a", Some("a.test"), &["h2"]),
        add("b", Some("b.test"), &[]),
    ]);
    let listed = state.list_listeners().tcp_listeners;
    assert_eq!(listed.keys().collect::<Vec<_>>(), ["127.0.0.1:80%eth0", "127.0.0.1:81"]);
    assert_eq!(listed.values().map(|it| it.tls.is_some()).collect::<Vec<_>>(), [false, true]);
    let key = ListenerKey::from_wire(&local(81), None).expect("a key");
    assert!(state.tcp_listener(&key).is_some_and(|it| it.tls().is_some()));
    let names = |filters: proto::FrontendFilters| -> Vec<String> {
        let listed = state.list_frontends(&filters).tcp_frontends;
        listed.into_iter().filter_map(|it| it.sni).collect()
    };
    let all = proto::FrontendFilters::default;
    assert_eq!(names(all()), ["a.test", "b.test"]);
    assert_eq!(names(proto::FrontendFilters { tcp: true, ..all() }), ["a.test", "b.test"]);
    assert!(names(proto::FrontendFilters { http: true, ..all() }).is_empty());
    assert!(names(proto::FrontendFilters { domain: Some("test".into()), ..all() }).is_empty());
    assert_eq!(names(proto::FrontendFilters { cluster_id: Some("b".into()), ..all() }), ["b.test"]);
    let cluster = state.query_cluster_by_id("a").expect("there");
    assert_eq!(cluster.tcp_frontends, [tcp_frontend("a", 80, Some("a.test"), &["h2"])]);
}

#[test]
fn a_clusters_hash_tells_its_tcp_frontends() {
    let hash = |orders: &[Order]| state(orders).cluster_hashes().remove("a");
    let bare = hash(&[add_cluster("a")]);
    let named = hash(&[add_cluster("a"), add("a", Some("a.test"), &[])]);
    assert_ne!(bare, named);
    assert_ne!(named, hash(&[add_cluster("a"), add("a", Some("a.test"), &["h2"])]));
}

#[test]
fn certificates_are_found_where_tls_ends() {
    let chosen = |listener: Order| {
        let added = order(RequestType::AddCertificate(certificate(0, 80)));
        let state: ConfigState = state(&[listener, added]);
        let filters = proto::QueryCertificatesFilters { domain: Some("x.test".into()), fingerprint: None };
        let found = state.query_certificates(&filters).expect("a domain");
        found.certs.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(chosen(ends_tls(80)), [fingerprint(0)]);
    assert!(chosen(add_tcp_listener(80, None)).is_empty());
}

#[test]
fn private_keys_are_in_no_list() {
    let made = certificate(0, 80).certificate;
    let tls = Some(proto::HttpsListenerConfig {
        certificate: Some(made.certificate.clone()),
        certificate_chain: made.certificate_chain.clone(),
        key: Some(made.key.clone()),
        ..Default::default()
    });
    let added = RequestType::AddTcpListener(proto::TcpListenerConfig { tls, ..tcp_listener(80, None) });
    let state = state(&[order(added)]);
    let listed = state.list_listeners().tcp_listeners.into_values().next().and_then(|it| it.tls);
    let listed = listed.expect("there");
    assert_eq!((listed.key, listed.certificate.is_some()), (None, true));
    let saved = state.orders().next().expect("there").to_request();
    let Some(RequestType::AddTcpListener(saved)) = saved.request_type else { panic!("not a TCP listener") };
    assert!(saved.tls.and_then(|tls| tls.key).is_some_and(|key| key.contains("PRIVATE KEY")));
}
