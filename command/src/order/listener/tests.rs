//! Listeners: what is made of their messages.

use super::*;

fn wire() -> proto::HttpListenerConfig {
    proto::HttpListenerConfig {
        address: SocketAddr::from(([127, 0, 0, 1], 80)).into(),
        front_timeout: 60,
        back_timeout: 30,
        connect_timeout: 3,
        request_timeout: 10,
        ..Default::default()
    }
}

fn check(edit: impl FnOnce(&mut proto::HttpListenerConfig), expected: &str) {
    let mut wire = wire();
    edit(&mut wire);
    let error = HttpListener::from_wire(wire).expect_err("refused").to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_is_left_out_has_its_default() {
    let listener = HttpListener::from_wire(wire()).expect("accepted");
    assert_eq!(listener.advertised_address(), listener.address());
    assert_eq!(listener.tunnel_timeout(), Duration::from_secs(3600));
    assert_eq!((listener.max_request_line(), listener.max_body_bytes()), (8192, None));
    assert_eq!((listener.min_transfer_rate(), listener.trace_context()), (Some(240), TraceContext::Pass));
    assert_eq!((&**listener.sozu_id_header(), listener.sticky_name()), ("Sozu-Id", "SOZUBALANCEID"));
    assert!(listener.trusted_proxies().is_empty() && listener.answer(503).is_none());
}

#[test]
fn what_is_set_is_at_hand() {
    let public: SocketAddr = "203.0.113.1:443".parse().expect("an address");
    let full = proto::HttpListenerConfig {
        public_address: Some(public.into()),
        sozu_id_header: Some("X-Id".into()),
        tunnel_timeout: Some(5),
        max_request_line: Some(256),
        max_body_bytes: Some(1 << 40),
        min_transfer_rate: Some(0),
        trace_context: Some(proto::TraceContext::Make.into()),
        trusted_proxies: vec!["10.0.0.0/8".into()],
        http_answers: Some(proto::CustomHttpAnswers {
            answer_404: Some("HTTP/1.1 404 Ours\n\n".into()),
            ..Default::default()
        }),
        ..wire()
    };
    let listener = HttpListener::from_wire(full.clone()).expect("accepted");
    assert_eq!(listener.advertised_address(), public);
    assert_eq!((&**listener.sozu_id_header(), listener.tunnel_timeout().as_secs()), ("X-Id", 5));
    assert_eq!((listener.max_request_line(), listener.max_body_bytes()), (256, Some(1 << 40)));
    assert_eq!((listener.min_transfer_rate(), listener.trace_context()), (None, TraceContext::Make));
    assert!(listener.trusted_proxies().contains([10, 1, 2, 3].into()));
    assert_eq!(listener.answer(404).map(AnswerTemplate::reason), Some("Ours"));
    assert_eq!(proto::HttpListenerConfig::from(&listener), full);
    assert!(listener.with_active(true).answer(404).is_some());
}

#[test]
fn values_out_of_range_are_refused() {
    check(|wire| wire.front_timeout = 0, "front_timeout `0` must be >= 1");
    check(|wire| wire.tunnel_timeout = Some(0), "tunnel_timeout `0` must be >= 1");
    check(|wire| wire.max_request_line = Some(0), "max_request_line `0` is below 256");
    check(|wire| wire.trace_context = Some(7), "trace_context `7` is not known");
    check(|wire| wire.trusted_proxies = vec!["10.0.0.0/33".into()], "trusted_proxies `10.0.0.0/33` has");
    check(|wire| drop(wire.answers.insert("503".into(), "No".into())), "answers `503` has no empty line");
    check(|wire| wire.sticky_name = "a b".into(), "sticky_name `a b` is not a token");
    check(|wire| wire.interface = Some("a/b".into()), "is not the name of an interface");
}
