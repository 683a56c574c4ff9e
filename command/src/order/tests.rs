//! Orders as a whole: from requests and back.

use super::*;

fn round_trip(request: &proto::Request) -> Order {
    let order = Order::from_request(request).expect("accepted");
    assert_eq!(&order.to_request(), request);
    assert_eq!(verb_of(request), Some(order.verb()));
    order
}

fn local(port: u16) -> proto::SocketAddress {
    SocketAddr::from(([127, 0, 0, 1], port)).into()
}

#[test]
fn orders_come_from_requests_and_go_back() {
    let id = || "app".to_owned();
    round_trip(&RequestType::AddCluster(proto::Cluster { cluster_id: id(), ..Default::default() }).into());
    round_trip(&RequestType::RemoveCluster(id()).into());
    let key = proto::RemoveBackend { cluster_id: id(), backend_id: id(), address: local(1) };
    round_trip(&RequestType::RemoveBackend(key).into());
    let listener =
        proto::HttpListenerConfig { address: local(80), sticky_name: "S".into(), ..Default::default() };
    round_trip(&RequestType::AddHttpListener(listener).into());
    let patch = proto::UpdateHttpListenerConfig { address: local(80), ..Default::default() };
    round_trip(&RequestType::UpdateHttpListener(patch).into());
    let activate = proto::ActivateListener { address: local(80), ..Default::default() };
    round_trip(&RequestType::ActivateListener(activate).into());
    let deactivate = proto::DeactivateListener {
        interface: Some("eth0".into()),
        address: local(80),
        ..Default::default()
    };
    round_trip(&RequestType::DeactivateListener(deactivate).into());
    round_trip(
        &RequestType::RemoveListener(proto::RemoveListener { address: local(80), ..Default::default() })
            .into(),
    );
}

#[test]
fn variants_are_decided_by_their_content() {
    let frontend =
        proto::RequestHttpFrontend { address: local(80), hostname: "a".into(), ..Default::default() };
    let variant = RequestType::AddHttpFrontendWithSilentClose(frontend.clone()).into();
    let plain = RequestType::AddHttpFrontend(frontend).into();
    assert_eq!(Order::from_request(&variant), Order::from_request(&plain));
}

#[test]
fn orders_are_said_by_the_variant_of_their_content() {
    use proto::{HeaderMatchKind, RedirectPolicy};
    let predicates = |it: &mut proto::RequestHttpFrontend| {
        let kind = HeaderMatchKind::Present.into();
        it.header_predicates = vec![proto::HeaderPredicate { name: "x".into(), kind, value: None }];
    };
    let silent_close = |it: &mut proto::RequestHttpFrontend| {
        it.redirect = Some(RedirectPolicy::SilentClose.into());
    };
    let frontend = |edits: &[&dyn Fn(&mut proto::RequestHttpFrontend)]| {
        let mut frontend =
            proto::RequestHttpFrontend { address: local(80), hostname: "a".into(), ..Default::default() };
        edits.iter().for_each(|edit| edit(&mut frontend));
        frontend
    };
    round_trip(&RequestType::AddHttpFrontend(frontend(&[])).into());
    round_trip(&RequestType::RemoveHttpFrontend(frontend(&[&silent_close])).into());
    round_trip(&RequestType::AddHttpFrontendWithHeaderPredicates(frontend(&[&predicates])).into());
    round_trip(&RequestType::RemoveHttpFrontendWithHeaderPredicates(frontend(&[&predicates])).into());
    round_trip(&RequestType::AddHttpFrontendWithSilentClose(frontend(&[&silent_close])).into());
    round_trip(&RequestType::AddHttpFrontendWithSilentClose(frontend(&[&silent_close, &predicates])).into());
    // However it came.
    let plain = RequestType::AddHttpFrontend(frontend(&[&predicates])).into();
    let order = Order::from_request(&plain).expect("accepted");
    assert_eq!(order.verb(), "add_http_frontend_with_header_predicates");
}

#[test]
fn https_is_said_as_http_is() {
    use crate::order::certificate::testing;
    let frontend = |hostname: &str| proto::RequestHttpFrontend {
        address: local(443),
        hostname: hostname.into(),
        ..Default::default()
    };
    round_trip(&RequestType::AddHttpsFrontend(frontend("a")).into());
    round_trip(&RequestType::RemoveHttpsFrontend(frontend("a")).into());
    let silent = Some(proto::RedirectPolicy::SilentClose.into());
    let silent = proto::RequestHttpFrontend { redirect: silent, ..frontend("a") };
    round_trip(&RequestType::AddHttpsFrontendWithSilentClose(silent).into());
    let predicate = proto::HeaderPredicate {
        name: "x".into(),
        kind: proto::HeaderMatchKind::Present.into(),
        value: None,
    };
    let predicated = proto::RequestHttpFrontend { header_predicates: vec![predicate], ..frontend("a") };
    round_trip(&RequestType::AddHttpsFrontendWithHeaderPredicates(predicated.clone()).into());
    round_trip(&RequestType::RemoveHttpsFrontendWithHeaderPredicates(predicated).into());
    let plain = proto::HttpsListenerConfig { address: local(443), ..Default::default() };
    round_trip(&RequestType::AddHttpsListener(plain.clone()).into());
    let (mode, authority) = (proto::ClientAuthMode::ClientAuthRequired, testing::authority().pem);
    let asking = proto::HttpsListenerConfig {
        client_auth: Some(mode.into()),
        client_ca_certificates: vec![authority.clone()],
        ..plain
    };
    round_trip(&RequestType::AddHttpsListenerWithClientAuth(asking).into());
    let patch = proto::UpdateHttpsListenerConfig {
        address: local(443),
        front_timeout: Some(5),
        ..Default::default()
    };
    round_trip(&RequestType::UpdateHttpsListener(patch.clone()).into());
    let policy = proto::ClientAuthPolicy {
        client_auth: Some(mode.into()),
        client_ca_certificates: vec![authority],
        client_ca_crls: Vec::new(),
    };
    let patch = proto::UpdateHttpsListenerConfig { client_auth_policy: Some(policy), ..patch };
    round_trip(&RequestType::UpdateHttpsListenerWithClientAuth(patch).into());
    let certificate = testing::leaf(&["a.test"]);
    let address = local(443);
    let added = proto::AddCertificate { address, certificate: certificate.wire(), expired_at: Some(7) };
    let order = round_trip(&RequestType::AddCertificate(added).into());
    assert!(!format!("{order:?}").contains("PRIVATE"), "{order:?}");
    let Order::AddCertificate(added) = order else { panic!("{order:?}") };
    let fingerprint = added.fingerprint().to_string();
    round_trip(
        &RequestType::ReplaceCertificate(proto::ReplaceCertificate {
            address,
            new_certificate: certificate.wire(),
            old_fingerprint: fingerprint.clone(),
            new_expired_at: None,
        })
        .into(),
    );
    round_trip(&RequestType::RemoveCertificate(proto::RemoveCertificate { address, fingerprint }).into());
}

#[test]
fn orders_about_tcp_go_there_and_back() {
    let (address, proxy) = (local(443), 2);
    let tls = proto::HttpsListenerConfig { address, handshake_timeout: Some(3), ..Default::default() };
    let added = proto::TcpListenerConfig {
        address,
        front_timeout: 60,
        sni_preread_timeout: Some(2),
        tls: Some(tls),
        ..Default::default()
    };
    round_trip(&RequestType::AddTcpListener(added).into());
    let tls = proto::UpdateHttpsListenerConfig { address, handshake_timeout: Some(4), ..Default::default() };
    let update = proto::UpdateTcpListenerConfig {
        address,
        sni_preread_max_bytes: Some(5),
        tls: Some(tls),
        ..Default::default()
    };
    round_trip(&RequestType::UpdateTcpListener(update).into());
    let interface = Some("eth0".to_owned());
    let activate = proto::ActivateListener { address, proxy, interface, ..Default::default() };
    round_trip(&RequestType::ActivateListener(activate).into());
    let frontend = proto::RequestTcpFrontend {
        cluster_id: "a".into(),
        address,
        tags: [("owner".to_owned(), "us".to_owned())].into(),
        sni: Some("*.test".into()),
        alpn: vec!["h2".into()],
    };
    round_trip(&RequestType::AddTcpFrontend(frontend.clone()).into());
    round_trip(&RequestType::RemoveTcpFrontend(frontend).into());
}

fn check_refused(request: impl Into<proto::Request>, expected: &str) {
    let error = Order::from_request(&request.into()).expect_err("refused").to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_is_no_order_is_refused_by_name() {
    check_refused(proto::Request::default(), "has no type");
    check_refused(RequestType::Status(proto::Status {}), "status does not change the configuration");
    check_refused(RequestType::Transaction(proto::Transaction::default()), "transaction does not change");
}

#[test]
fn later_features_are_refused_as_such() {
    check_refused(RequestType::AddUdpFrontend(Default::default()), "UDP listeners and frontends are not");
    check_refused(RequestType::SetHealthCheck(Default::default()), "cluster_id");
    let udp = proto::ActivateListener { address: local(443), proxy: 3, ..Default::default() };
    check_refused(RequestType::ActivateListener(udp), "UDP listeners and frontends are not served yet");
}

#[test]
fn a_patch_tells_what_of_it_is_not_served_yet() {
    let patch = |wire: proto::UpdateHttpListenerConfig| {
        let address = SocketAddr::from(([127, 0, 0, 1], 80)).into();
        let request = RequestType::UpdateHttpListener(proto::UpdateHttpListenerConfig { address, ..wire });
        Order::from_request(&request.into()).expect("accepted").notes()
    };
    assert!(
        patch(proto::UpdateHttpListenerConfig { front_timeout: Some(5), ..Default::default() }).is_empty()
    );
    let answers = [("404".to_owned(), "HTTP/1.1 404 Gone\r\n\r\n".to_owned())].into();
    let notes = patch(proto::UpdateHttpListenerConfig {
        answers,
        h2_max_ping_per_window: Some(5),
        ..Default::default()
    });
    assert_eq!(notes, ["h2_* settings are kept but not served yet by this version"]);
}
