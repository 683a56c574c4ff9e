//! TCP listeners: what is made of their messages.

use super::*;
use crate::order::{CipherSuite, certificate::testing};

fn wire() -> proto::TcpListenerConfig {
    proto::TcpListenerConfig {
        address: SocketAddr::from(([127, 0, 0, 1], 443)).into(),
        front_timeout: 60,
        back_timeout: 30,
        connect_timeout: 3,
        ..Default::default()
    }
}

fn parse(edit: impl FnOnce(&mut proto::TcpListenerConfig)) -> Result<TcpListener, OrderError> {
    let mut wire = wire();
    edit(&mut wire);
    TcpListener::from_wire(wire)
}

fn check_refused(edit: impl FnOnce(&mut proto::TcpListenerConfig), expected: &str) {
    let error = parse(edit).expect_err("refused").to_string();
    assert!(error.contains(expected), "{error}");
}

/// A listener at which TLS ends, with these settings.
fn with_tls(edit: impl FnOnce(&mut proto::HttpsListenerConfig)) -> Result<TcpListener, OrderError> {
    let mut tls = proto::HttpsListenerConfig { send_tls13_tickets: 2, ..Default::default() };
    edit(&mut tls);
    parse(|wire| wire.tls = Some(tls))
}

fn tls(listener: &TcpListener) -> &TlsSettings {
    listener.tls().expect("TLS ends here")
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn what_is_left_out_has_its_default() {
    let listener = parse(|_| {}).expect("accepted");
    assert_eq!((listener.public_address(), listener.active()), (None, false));
    assert_eq!(listener.sni_preread_timeout(), Duration::from_secs(5));
    assert_eq!(listener.sni_preread_bytes_max(), 16384);
    assert!(listener.tls().is_none());
    assert_eq!(listener.wire(), wire());
}

#[test]
fn what_is_set_is_at_hand_and_goes_back() {
    let public: SocketAddr = "203.0.113.1:443".parse().expect("an address");
    let full = proto::TcpListenerConfig {
        public_address: Some(public.into()),
        interface: Some("eth0".into()),
        active: true,
        sni_preread_timeout: Some(2),
        sni_preread_max_bytes: Some(5),
        ..wire()
    };
    let listener = TcpListener::from_wire(full.clone()).expect("accepted");
    assert_eq!(listener.key().to_string(), "127.0.0.1:443%eth0");
    assert_eq!((listener.public_address(), listener.active()), (Some(public), true));
    let timeouts = [listener.front_timeout(), listener.back_timeout(), listener.connect_timeout()];
    assert_eq!(timeouts.map(|timeout| timeout.as_secs()), [60, 30, 3]);
    assert_eq!((listener.sni_preread_timeout().as_secs(), listener.sni_preread_bytes_max()), (2, 5));
    assert_eq!(listener.wire(), full);
    assert!(!listener.with_active(false).active());
}

#[test]
fn a_client_hello_takes_no_longer_than_a_front_may_be_silent() {
    let listener = parse(|wire| wire.front_timeout = 3).expect("accepted");
    assert_eq!(listener.sni_preread_timeout(), Duration::from_secs(3));
}

#[test]
fn values_out_of_range_are_refused() {
    check_refused(|wire| wire.front_timeout = 0, "front_timeout `0` must be >= 1");
    check_refused(|wire| wire.back_timeout = 0, "back_timeout `0` must be >= 1");
    check_refused(|wire| wire.connect_timeout = 0, "connect_timeout `0` must be >= 1");
    check_refused(|wire| wire.sni_preread_timeout = Some(0), "sni_preread_timeout `0` must be >= 1");
    check_refused(|wire| wire.sni_preread_max_bytes = Some(4), "sni_preread_max_bytes `4` is below 5");
    check_refused(
        |wire| wire.expect_proxy_from = vec!["10.0.0.1/8".into()],
        "expect_proxy_from `10.0.0.1/8` has",
    );
    check_refused(|wire| wire.interface = Some("a/b".into()), "is not the name of an interface");
    check_refused(
        |wire| wire.address = SocketAddr::from(([127, 0, 0, 1], 0)).into(),
        "has port 0, which nobody can connect to",
    );
}

#[test]
fn tls_that_ends_here_has_what_handshakes_need() {
    let made = testing::leaf(&["a.test"]);
    let listener = with_tls(|tls| {
        tls.versions = vec![5];
        tls.cipher_list = texts(&["TLS13_AES_128_GCM_SHA256"]);
        tls.alpn_protocols = texts(&["mqtt", "h2", "mqtt"]);
        tls.certificate = Some(made.pem.clone());
        tls.certificate_chain = made.issuers.clone();
        tls.key = Some(made.key.clone());
        tls.client_auth = Some(2);
        tls.client_ca_certificates = vec![testing::authority().pem];
        tls.handshake_timeout = Some(4);
        tls.max_handshakes_per_source = Some(9);
    })
    .expect("accepted");
    let tls = tls(&listener);
    assert_eq!(tls.cipher_suites(), [CipherSuite::TLS13_AES_128_GCM_SHA256]);
    assert_eq!((tls.alpn_names(), tls.alpn().len()), (vec!["mqtt", "h2"], 0));
    assert!(tls.default_certificate().is_some() && tls.client_auth().is_some_and(|auth| auth.required()));
    assert_eq!((tls.handshake_timeout().as_secs(), tls.max_handshakes_per_source()), (4, Some(9)));
    let mut notes = Vec::new();
    listener.notes(&mut notes);
    assert!(notes.is_empty(), "{notes:?}");
    // What it reads as reads back.
    assert_eq!(TcpListener::from_wire(listener.wire()).as_ref(), Ok(&listener));
    let (secret, public) = (listener.wire().tls.expect("TLS"), listener.public_wire().tls.expect("TLS"));
    assert!(secret.key.is_some_and(|key| key.contains("PRIVATE KEY")));
    assert_eq!((public.key, public.certificate), (None, secret.certificate));
    assert!(!format!("{:?}", listener.wire()).contains("PRIVATE"));
}

#[test]
fn no_protocol_is_offered_unless_named() {
    let listener = with_tls(|_| {}).expect("accepted");
    assert!(tls(&listener).alpn_names().is_empty());
    assert!(with_tls(|tls| tls.alpn_protocols = texts(&[""])).is_err());
}

#[test]
fn what_is_about_http_is_refused_in_tls() {
    let check = |edit: fn(&mut proto::HttpsListenerConfig), expected: &str| {
        let error = with_tls(edit).expect_err("refused").to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check(|tls| tls.strict_sni_binding = Some(true), "tls.strict_sni_binding is about HTTP");
    check(|tls| tls.disable_http11 = Some(false), "tls.disable_http11 is about HTTP");
    check(|tls| tls.client_subject_header = Some("X".into()), "tls.client_subject_header is about HTTP");
    check(|tls| tls.hsts = Some(proto::HstsConfig::default()), "tls.hsts is about HTTP");
    check(|tls| tls.max_early_data = Some(1), "tls.max_early_data is not for TCP listeners");
    check(|tls| tls.tunnel_timeout = Some(1), "tls.tunnel_timeout is about HTTP");
    check(|tls| tls.h2_max_glitch_count = Some(1), "tls.h2_max_glitch_count is about HTTP");
    check(|tls| drop(tls.answers.insert("503".into(), "x".into())), "tls.answers is about HTTP");
    check(|tls| tls.trusted_proxies = texts(&["10.0.0.0/8"]), "tls.trusted_proxies is about HTTP");
    // Said with nothing.
    let silent = with_tls(|tls| {
        (tls.max_early_data, tls.client_subject_header) = (Some(0), Some(String::new()));
        (tls.front_timeout, tls.sticky_name) = (9, "S".into());
    });
    assert_eq!(silent, with_tls(|_| {}));
}

fn patch(edit: impl FnOnce(&mut proto::UpdateTcpListenerConfig)) -> Result<TcpListenerPatch, OrderError> {
    let mut patch = proto::UpdateTcpListenerConfig { address: wire().address, ..Default::default() };
    edit(&mut patch);
    TcpListenerPatch::from_wire(patch)
}

#[test]
fn a_patch_changes_what_it_names() {
    let made = testing::leaf(&["a.test"]);
    let from = with_tls(|tls| {
        (tls.certificate, tls.key) = (Some(made.pem.clone()), Some(made.key.clone()));
        tls.certificate_chain = made.issuers.clone();
        tls.alpn_protocols = texts(&["mqtt"]);
    });
    let from = from.expect("accepted");
    let check = |edit: &dyn Fn(&mut proto::UpdateTcpListenerConfig),
                 expected: &dyn Fn(&TcpListener) -> bool| {
        let made = patch(edit).expect("accepted");
        assert_eq!(TcpListenerPatch::from_wire(made.wire()), Ok(made.clone()));
        let patched = from.patched(&made).expect("accepted");
        assert!(expected(&patched) && patched != from);
        assert!(tls(&patched).default_certificate().is_some());
        let again = from.patch_to(&patched).expect("a patch can say it");
        assert_eq!(from.patched(&again), Ok(patched));
    };
    check(&|it| it.front_timeout = Some(7), &|it| it.front_timeout().as_secs() == 7);
    check(&|it| it.back_timeout = Some(7), &|it| it.back_timeout().as_secs() == 7);
    check(&|it| it.connect_timeout = Some(7), &|it| it.connect_timeout().as_secs() == 7);
    check(&|it| it.public_address = Some(it.address), &|it| it.public_address().is_some());
    check(&|it| it.sni_preread_timeout = Some(1), &|it| it.sni_preread_timeout().as_secs() == 1);
    check(&|it| it.sni_preread_max_bytes = Some(8), &|it| it.sni_preread_bytes_max() == 8);
    let of_tls = |edit: &dyn Fn(&mut proto::UpdateHttpsListenerConfig),
                  expected: &dyn Fn(&TlsSettings) -> bool| {
        let edit = |it: &mut proto::UpdateTcpListenerConfig| edit(it.tls.get_or_insert_default());
        check(&edit, &|it| expected(tls(it)));
    };
    let alpn = |values: &[&str]| Some(proto::AlpnProtocols { values: texts(values) });
    of_tls(&|it| it.alpn_protocols = alpn(&["smtp"]), &|tls| tls.alpn_names() == ["smtp"]);
    of_tls(&|it| it.alpn_protocols = alpn(&[]), &|tls| tls.alpn_names().is_empty());
    of_tls(&|it| it.handshake_timeout = Some(1), &|tls| tls.handshake_timeout().as_secs() == 1);
    of_tls(&|it| it.max_handshakes_per_source = Some(0), &|tls| tls.max_handshakes_per_source().is_none());
    let policy = proto::ClientAuthPolicy {
        client_auth: Some(1),
        client_ca_certificates: vec![testing::authority().pem],
        client_ca_crls: Vec::new(),
    };
    of_tls(&|it| it.client_auth_policy = Some(policy.clone()), &|tls| tls.client_auth().is_some());
}

#[test]
fn what_a_patch_cannot_say_is_none() {
    let (plain, ended) = (parse(|_| {}).expect("accepted"), with_tls(|_| {}).expect("accepted"));
    assert!(plain.patch_to(&ended).is_none() && ended.patch_to(&plain).is_none());
    let elsewhere = parse(|wire| wire.interface = Some("eth0".into())).expect("accepted");
    assert!(plain.patch_to(&elsewhere).is_none());
    let limited = parse(|wire| wire.sni_preread_timeout = Some(1)).expect("accepted");
    assert!(plain.patch_to(&limited).is_some() && limited.patch_to(&plain).is_none());
    let about_tls = patch(|it| it.tls = Some(proto::UpdateHttpsListenerConfig::default())).expect("accepted");
    let error = plain.patched(&about_tls).expect_err("refused").to_string();
    assert!(error.contains("the listener passes TLS on as it is"), "{error}");
}

#[test]
fn a_patch_with_an_unusable_value_is_none() {
    let check = |edit: &dyn Fn(&mut proto::UpdateTcpListenerConfig), expected: &str| {
        let error = patch(edit).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    let some = proto::TrustedProxies { values: vec!["me".into()] };
    check(&|it| it.expect_proxy_from = Some(some.clone()), "expect_proxy_from `me` is neither");
    check(&|it| it.back_timeout = Some(0), "back_timeout `0` must be >= 1");
    check(&|it| it.sni_preread_max_bytes = Some(1), "is below 5");
    let of_tls = |edit: &dyn Fn(&mut proto::UpdateHttpsListenerConfig), expected: &str| {
        check(&|it| edit(it.tls.get_or_insert_default()), expected);
    };
    of_tls(&|it| it.handshake_timeout = Some(0), "handshake_timeout `0` must be >= 1");
    of_tls(&|it| it.strict_sni_binding = Some(false), "tls.strict_sni_binding is about HTTP");
    of_tls(&|it| it.max_early_data = Some(5), "tls.max_early_data is not for TCP");
    of_tls(&|it| it.sozu_id_header = Some("X".into()), "tls.sozu_id_header is about HTTP");
    of_tls(&|it| it.trusted_proxies = Some(proto::TrustedProxies::default()), "tls.trusted_proxies is");
    let unnamed = Some(proto::AlpnProtocols { values: texts(&[""]) });
    of_tls(&|it| it.alpn_protocols = unnamed.clone(), "alpn_protocols has an empty name");
    let nobody = proto::ClientAuthPolicy { client_auth: Some(2), ..Default::default() };
    of_tls(&|it| it.client_auth_policy = Some(nobody.clone()), "client_ca_certificates are missing");
}
