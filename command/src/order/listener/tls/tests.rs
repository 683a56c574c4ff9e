//! TLS settings: what is made of their messages.

use std::net::SocketAddr;

use super::*;
use crate::order::{HttpListener, HttpListenerPatch, ListenerKind, certificate::testing};

fn wire() -> proto::HttpsListenerConfig {
    proto::HttpsListenerConfig {
        address: SocketAddr::from(([127, 0, 0, 1], 443)).into(),
        sticky_name: "S".into(),
        send_tls13_tickets: 2,
        ..Default::default()
    }
}

fn parse(edit: impl FnOnce(&mut proto::HttpsListenerConfig)) -> Result<HttpListener, OrderError> {
    let mut wire = wire();
    edit(&mut wire);
    HttpListener::from_https_wire(wire)
}

fn check_refused(edit: impl FnOnce(&mut proto::HttpsListenerConfig), expected: &str) {
    let error = parse(edit).expect_err("refused").to_string();
    assert!(error.contains(expected), "{error}");
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Everything that a listener can have.
fn full() -> proto::HttpsListenerConfig {
    let certificate = testing::leaf(&["a.test"]);
    proto::HttpsListenerConfig {
        interface: Some("eth0".into()),
        active: true,
        public_address: Some(SocketAddr::from(([192, 0, 2, 1], 443)).into()),
        versions: vec![5, 4],
        cipher_list: texts(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS13_AES_128_GCM_SHA256"]),
        cipher_suites: texts(&["anything"]),
        signature_algorithms: texts(&["ECDSA+SHA256"]),
        groups_list: texts(&["P-256", "x25519"]),
        certificate: Some(certificate.pem),
        certificate_chain: certificate.issuers,
        key: Some(certificate.key),
        alpn_protocols: texts(&["h2", "http/1.1"]),
        h2_max_header_list_size: Some(5),
        strict_sni_binding: Some(false),
        disable_http11: Some(false),
        answers: [("503".to_owned(), "HTTP/1.1 503 Busy\n\n".to_owned())].into(),
        hsts: Some(proto::HstsConfig { enabled: Some(true), ..Default::default() }),
        client_auth: Some(1),
        client_ca_certificates: vec![testing::authority().pem],
        client_ca_crls: testing::revocation_lists().into(),
        trusted_proxies: texts(&["10.0.0.0/8"]),
        tunnel_timeout: Some(7),
        client_subject_header: Some("X-Subject".into()),
        max_early_data: Some(0),
        handshake_timeout: Some(5),
        max_handshakes_per_source: Some(0),
        ..wire()
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let listener = parse(|_| {}).expect("accepted");
    let tls = listener.tls().expect("https");
    assert_eq!(listener.kind(), ListenerKind::Https);
    assert_eq!(tls.versions(), [TlsVersion::V1_2, TlsVersion::V1_3]);
    assert_eq!((tls.cipher_suites(), tls.groups()), (CipherSuite::ALL, Group::ALL));
    assert_eq!((tls.alpn(), tls.send_tls13_tickets()), (&[Alpn::Http11][..], 2));
    assert!(tls.strict_sni_binding() && tls.default_certificate().is_none() && tls.hsts().is_none());
    assert!(tls.client_auth().is_none() && tls.client_subject_header().is_none());
    assert_eq!((tls.max_early_data(), tls.handshake_timeout().as_secs()), (0, 10));
    assert_eq!(tls.max_handshakes_per_source(), Some(MAX_HANDSHAKES_PER_SOURCE_DEFAULT));
    assert_eq!(listener.https_wire(), Some(wire()));
}

#[test]
fn what_is_set_is_at_hand_and_goes_back() {
    let listener = HttpListener::from_https_wire(full()).expect("accepted");
    let tls = listener.tls().expect("https");
    let suites = [CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, CipherSuite::TLS13_AES_128_GCM_SHA256];
    assert_eq!((tls.cipher_suites(), tls.groups()), (&suites[..], &[Group::P256, Group::X25519][..]));
    assert!(!tls.strict_sni_binding() && tls.hsts().is_some_and(Hsts::enabled));
    let auth = tls.client_auth().expect("asked");
    assert_eq!((auth.required(), auth.authorities().len(), auth.crls().len()), (false, 1, 2));
    assert_eq!(tls.client_subject_header().map(|name| &**name), Some("X-Subject"));
    assert_eq!((tls.max_early_data(), tls.handshake_timeout().as_secs()), (0, 5));
    assert_eq!(tls.max_handshakes_per_source(), None);
    let certificate = tls.default_certificate().expect("there");
    assert_eq!((certificate.names().len(), certificate.chain().len()), (1, 2));
    // What all listeners have is read by what reads them.
    assert_eq!((listener.tunnel_timeout().as_secs(), listener.active()), (7, true));
    assert!(listener.trusted_proxies().contains([10, 0, 0, 1].into()) && listener.answer(503).is_some());
    assert_eq!(listener.https_wire(), Some(full_like(&listener)));
    let public = listener.public_https_wire().expect("https");
    assert_eq!((public.key, public.certificate), (None, full_like(&listener).certificate));
    assert_eq!(HttpListener::from_https_wire(listener.https_wire().expect("https")), Ok(listener));
}

/// `full`, with the certificate that is made anew each time taken from `listener`.
fn full_like(listener: &HttpListener) -> proto::HttpsListenerConfig {
    let certificate = listener.tls().and_then(TlsSettings::default_certificate).expect("there").wire();
    proto::HttpsListenerConfig {
        certificate: Some(certificate.certificate.clone()),
        certificate_chain: certificate.certificate_chain.clone(),
        key: Some(certificate.key.clone()),
        ..full()
    }
}

#[test]
fn a_listeners_own_certificate_needs_no_name() {
    let made = testing::old("My Server");
    let listener = parse(|wire| {
        wire.certificate = Some(made.pem.clone());
        wire.key = Some(made.key.clone());
    })
    .expect("accepted");
    assert!(listener.tls().and_then(TlsSettings::default_certificate).expect("there").names().is_empty());
    let mut notes = Vec::new();
    let error = listener.check_validity(2_000_000_000, &mut notes).expect_err("expired").to_string();
    assert!(error.starts_with("certificate without a name expired on"), "{error}");
}

#[test]
fn values_that_cannot_work_are_refused() {
    check_refused(|wire| wire.versions = vec![2, 3], "versions leave nothing: only TLS 1.2 and 1.3");
    check_refused(|wire| wire.versions = vec![6], "versions `6` is not known");
    check_refused(|wire| wire.cipher_list = texts(&["RC4"]), "cipher_list `RC4` is no cipher suite");
    check_refused(
        |wire| (wire.versions, wire.cipher_list) = (vec![4], texts(&["TLS13_AES_128_GCM_SHA256"])),
        "cipher_list leaves no cipher suite for the versions",
    );
    check_refused(|wire| wire.groups_list = texts(&["sect571"]), "groups_list `sect571`");
    check_refused(|wire| wire.alpn_protocols = texts(&["h3"]), "alpn_protocols `h3` is neither h2 nor");
    check_refused(|wire| wire.alpn_protocols = texts(&["h2"]), "h2 alone (ALPN) are not served yet");
    check_refused(|wire| wire.disable_http11 = Some(true), "(disable_http11) are not served yet");
    check_refused(|wire| wire.handshake_timeout = Some(0), "handshake_timeout `0` must be >= 1");
    check_refused(|wire| wire.max_early_data = Some(20_000), "max_early_data `20000` is more than");
    check_refused(
        |wire| (wire.versions, wire.max_early_data) = (vec![4], Some(512)),
        "max_early_data `512` needs TLS 1.3",
    );
    check_refused(
        |wire| {
            wire.max_early_data = Some(512);
            wire.client_auth = Some(1);
            wire.client_ca_certificates = vec![testing::authority().pem];
        },
        "max_early_data `512` cannot be had together with client_auth",
    );
    check_refused(|wire| wire.client_subject_header = Some("a b".into()), "`a b` is not a token");
    check_refused(|wire| wire.client_subject_header = Some("Host".into()), "another meaning");
    check_refused(|wire| wire.hsts = Some(proto::HstsConfig::default()), "hsts does not say");
    check_refused(|wire| wire.key = Some("x".into()), "certificate is missing beside its key");
    check_refused(|wire| wire.certificate = Some("x".into()), "key is missing beside the certificate");
    check_refused(|wire| wire.front_timeout = 0, "front_timeout `0` must be >= 1");
}

#[test]
fn clients_are_asked_only_with_somebody_to_trust() {
    let (authority, [lapsed, current]) = (testing::authority().pem, testing::revocation_lists());
    check_refused(|wire| wire.client_auth = Some(2), "client_ca_certificates are missing");
    check_refused(|wire| wire.client_auth = Some(3), "client_auth `3` is not known");
    check_refused(|wire| wire.client_ca_certificates = vec![authority.clone()], "without client_auth");
    check_refused(|wire| wire.client_ca_crls = vec![current.clone()], "client_ca_crls are given without");
    let asking = |certificates: &[&str], lists: &[&str]| {
        let (certificates, lists) = (texts(certificates), texts(lists));
        parse(|wire| {
            (wire.client_auth, wire.client_ca_certificates, wire.client_ca_crls) =
                (Some(2), certificates, lists);
        })
    };
    let refused = |certificates: &[&str], lists: &[&str], expected: &str| {
        let error = asking(certificates, lists).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&["garbage"], &[], "client_ca_certificates has no certificate in PEM");
    refused(&[&authority], &[&authority], "client_ca_crls has no revocation list (X509 CRL) in PEM");
    let validity = |lists: &[&str]| {
        let listener = asking(&[&authority], lists).expect("accepted");
        listener.check_validity(1_700_000_000, &mut Vec::new()).map_err(|error| error.to_string())
    };
    assert_eq!(validity(&[&current]), Ok(()));
    let error = validity(&[&current, &lapsed]).expect_err("lapsed");
    assert!(error.contains("client_ca_crls have one that should have been replaced by Jan  1"), "{error}");
}

#[test]
fn what_has_no_effect_is_noted() {
    let notes = |edit: &dyn Fn(&mut proto::HttpsListenerConfig)| {
        let mut notes = Vec::new();
        parse(edit).expect("accepted").notes(&mut notes);
        notes
    };
    assert!(notes(&|_| {}).is_empty());
    let check = |edit: &dyn Fn(&mut proto::HttpsListenerConfig), expected: &str| {
        assert!(notes(edit).concat().contains(expected), "{expected}");
    };
    check(&|wire| wire.versions = vec![0, 1, 2, 3, 4], "versions before TLS 1.2 are ignored");
    check(&|wire| wire.groups_list = texts(&["x", "P-384"]), "group `x` is not known");
    check(&|wire| wire.alpn_protocols = texts(&["h2", "http/1.1"]), "h2 in alpn_protocols is kept");
    check(&|wire| wire.send_tls13_tickets = 17, "send_tls13_tickets is more than 16");
    check(&|wire| wire.client_subject_header = Some("X".into()), "client_subject_header has no effect");
    let short = proto::HstsConfig { enabled: Some(true), max_age: Some(1), ..Default::default() };
    check(&move |wire| wire.hsts = Some(short), "hsts.max_age 1 is less than a day");
}

fn patch(edit: impl FnOnce(&mut proto::UpdateHttpsListenerConfig)) -> Result<HttpListenerPatch, OrderError> {
    let mut patch = proto::UpdateHttpsListenerConfig { address: wire().address, ..Default::default() };
    edit(&mut patch);
    HttpListenerPatch::from_https_wire(patch)
}

#[test]
fn a_patch_changes_what_it_names() {
    let from = HttpListener::from_https_wire(full()).expect("accepted");
    let check = |edit: &dyn Fn(&mut proto::UpdateHttpsListenerConfig),
                 expected: &dyn Fn(&TlsSettings) -> bool| {
        let patched = from.patched(&patch(edit).expect("accepted")).expect("accepted");
        assert!(expected(patched.tls().expect("https")));
        // And a patch leads there, and back.
        for (from, to) in [(&from, &patched), (&patched, &from)] {
            if let Some(patch) = from.patch_to(to) {
                assert_eq!(from.patched(&patch).as_ref(), Ok(to));
            }
        }
        assert!(from.patch_to(&patched).is_some());
    };
    check(&|it| it.strict_sni_binding = Some(true), &TlsSettings::strict_sni_binding);
    check(&|it| it.alpn_protocols = Some(proto::AlpnProtocols::default()), &|tls| {
        tls.wire.alpn_protocols.is_empty()
    });
    check(&|it| it.client_auth_policy = Some(proto::ClientAuthPolicy::default()), &|tls| {
        tls.client_auth().is_none()
    });
    check(&|it| it.client_subject_header = Some(String::new()), &|tls| tls.client_subject_header().is_none());
    let without_auth = Some(proto::ClientAuthPolicy::default());
    check(&|it| (it.client_auth_policy, it.max_early_data) = (without_auth.clone(), Some(512)), &|tls| {
        tls.max_early_data() == 512
    });
    check(&|it| it.handshake_timeout = Some(3), &|tls| tls.handshake_timeout().as_secs() == 3);
    check(&|it| it.max_handshakes_per_source = Some(9), &|tls| tls.max_handshakes_per_source() == Some(9));
    let off = proto::HstsConfig { enabled: Some(false), ..Default::default() };
    check(&move |it| it.hsts = Some(off), &|tls| tls.hsts().is_some_and(|hsts| !hsts.enabled()));
    check(&|it| it.front_timeout = Some(3), &|tls| tls.default_certificate().is_some());
}

#[test]
fn a_patch_with_an_unusable_value_is_none() {
    let check = |edit: &dyn Fn(&mut proto::UpdateHttpsListenerConfig), expected: &str| {
        let error = patch(edit).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&|it| it.disable_http11 = Some(true), "not served yet");
    check(
        &|it| it.alpn_protocols = Some(proto::AlpnProtocols { values: texts(&["x"]) }),
        "is neither h2 nor",
    );
    check(&|it| it.hsts = Some(proto::HstsConfig::default()), "hsts does not say");
    check(&|it| it.handshake_timeout = Some(0), "must be >= 1");
    check(&|it| it.h2_stream_shrink_ratio = Some(1), "must be >= 2");
    let nobody = proto::ClientAuthPolicy { client_auth: Some(2), ..Default::default() };
    check(&move |it| it.client_auth_policy = Some(nobody.clone()), "client_ca_certificates are missing");
    let lapsed = proto::ClientAuthPolicy {
        client_auth: Some(1),
        client_ca_certificates: vec![testing::authority().pem],
        client_ca_crls: vec![testing::revocation_lists()[0].clone()],
    };
    let lapsed = patch(|it| it.client_auth_policy = Some(lapsed)).expect("accepted");
    assert!(lapsed.check_validity(1_700_000_000).is_err() && lapsed.check_validity(1_500_000_000).is_ok());
}
