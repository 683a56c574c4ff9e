//! Frontends from messages and back, and what is refused.

use super::*;

fn wire() -> proto::RequestHttpFrontend {
    proto::RequestHttpFrontend {
        cluster_id: Some("app".into()),
        address: "127.0.0.1:80".parse::<SocketAddr>().expect("an address").into(),
        hostname: "Example.com".into(),
        path: proto::PathRule { kind: proto::PathRuleKind::Prefix.into(), value: "/api".into() },
        method: Some("GET".into()),
        position: proto::RulePosition::Tree.into(),
        tags: BTreeMap::from([("owner".into(), "team".into())]),
        ..Default::default()
    }
}

fn check(edit: impl FnOnce(&mut proto::RequestHttpFrontend), expected: &str) {
    let mut wire = wire();
    edit(&mut wire);
    let error = HttpFrontend::from_wire(wire).expect_err("refused").to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_frontend_goes_back_to_the_wire_as_it_came_but_normalised() {
    let mut expected = wire();
    let mut spelt = expected.clone();
    spelt.redirect = Some(proto::RedirectPolicy::Forward.into());
    spelt.required_auth = Some(false);
    expected.hostname = "example.com".into();
    let frontend = HttpFrontend::from_wire(spelt).expect("accepted");
    assert_eq!(proto::RequestHttpFrontend::from(&frontend), expected);
}

#[test]
fn a_prost_default_position_is_the_tree() {
    let wire = proto::RequestHttpFrontend { hostname: "*".into(), ..wire() };
    let default =
        proto::RequestHttpFrontend { position: proto::RequestHttpFrontend::default().position, ..wire };
    assert_eq!(HttpFrontend::from_wire(default).expect("accepted").position(), RulePosition::Tree);
}

#[test]
fn unusable_values_are_refused() {
    check(|wire| wire.cluster_id = Some(String::new()), "cluster_id `` is empty");
    check(|wire| wire.address.port = 70_000, "address has port 70000");
    check(|wire| wire.path.value = "/a b".into(), "path `/a b` contains a space");
    check(|wire| wire.path = proto::PathRule { kind: 1, value: "(".into() }, "does not compile");
    check(|wire| wire.path.kind = 9, "path.kind `9` is not known");
    check(|wire| wire.method = Some("GE T".into()), "is not a token");
    check(|wire| wire.position = 7, "position `7` is not known");
    check(
        |wire| wire.tags = (0..65).map(|i| (i.to_string(), String::new())).collect(),
        "tags are more than 64",
    );
    check(|wire| drop(wire.tags.insert("a".into(), "\n".into())), "control character");
}

#[test]
fn a_frontend_with_everything_goes_back_to_the_wire() {
    let full = full();
    let frontend = HttpFrontend::from_wire(full.clone()).expect("accepted");
    assert_eq!(proto::RequestHttpFrontend::from(&frontend), full);
    assert_eq!(HttpFrontend::from_wire(full), Ok(frontend));
}

#[test]
fn spellings_of_the_same_are_the_same() {
    let mut spelt = full();
    spelt.header_predicates.reverse();
    spelt.header_predicates.push(predicate("x-user", proto::HeaderMatchKind::Regex, Some("a.*")));
    assert_eq!(HttpFrontend::from_wire(spelt), HttpFrontend::from_wire(full()));
    let mut plain = wire();
    plain.redirect_scheme = Some(proto::RedirectScheme::UseSame.into());
    plain.redirect_template = Some(String::new());
    plain.required_auth = Some(false);
    assert_eq!(HttpFrontend::from_wire(plain), HttpFrontend::from_wire(wire()));
}

#[test]
fn a_plain_frontend_has_no_policy_and_is_small() {
    let plain = HttpFrontend::from_wire(wire()).expect("accepted");
    assert!(plain.policy().is_none() && plain.extras.is_none() && plain.header_predicates().is_empty());
    assert!(size_of::<HttpFrontend>() <= 136, "{} bytes", size_of::<HttpFrontend>());
    // Predicates alone are nothing to do.
    let mut predicated = wire();
    predicated.header_predicates = full().header_predicates;
    assert!(HttpFrontend::from_wire(predicated).expect("accepted").policy().is_none());
}

#[test]
fn a_policy_is_what_the_message_says() {
    let frontend = HttpFrontend::from_wire(full()).expect("accepted");
    assert_eq!(frontend.redirect().status(), Some(308));
    let policy = frontend.policy().expect("one");
    assert_eq!(policy.redirect_scheme(), RedirectScheme::UseHttps);
    assert_eq!(policy.redirect_template().expect("one").status(), 308);
    assert_eq!(policy.rewrite_host().expect("one").to_string(), "$HOST[1].internal");
    assert_eq!(policy.rewrite_path().expect("one").to_string(), "/v2$PATH[1]");
    assert_eq!((policy.rewrite_port(), policy.required_auth()), (Some(8443), true));
    let edits: Vec<_> =
        policy.header_edits().iter().map(|it| (it.request, it.response, &*it.name, &*it.value)).collect();
    assert_eq!(
        edits,
        [(true, true, "X-Both", "a"), (true, false, "X-Out", ""), (false, true, "X-In", "b\tc")]
    );
}

#[test]
fn predicates_are_part_of_the_identity() {
    let mut other = full();
    other.header_predicates.pop();
    let (one, other) = (HttpFrontend::from_wire(full()), HttpFrontend::from_wire(other));
    let (one, other) = (one.expect("accepted"), other.expect("accepted"));
    assert_ne!(one.identity(), other.identity());
    assert_eq!(
        one.identity().to_string(),
        "127.0.0.1:80 host *.example.com path `/api` method GET header x-canary header x-debug header x-user"
    );
}

#[test]
fn unusable_predicates_are_refused() {
    use proto::HeaderMatchKind::{Exact, Present, Regex};
    let refused = |predicates: &[proto::HeaderPredicate], expected: &str| {
        check(|wire| wire.header_predicates = predicates.to_vec(), expected);
    };
    let one = |name: &str, kind, value: Option<&str>, expected: &str| {
        refused(&[predicate(name, kind, value)], expected);
    };
    one("", Present, None, "header_predicates `` has a name that is not a token");
    one("x y", Present, None, "not a token");
    one("Host", Present, None, "cannot be matched");
    one("COOKIE", Exact, Some("a"), "cannot be matched");
    one(&"x".repeat(129), Present, None, "longer than 128 bytes");
    one("x", Exact, None, "has no value");
    one("x", Regex, None, "has no value");
    one("x", Present, Some("a"), "is to be present only");
    one("x", Exact, Some("a\nb"), "control character");
    one("x", Exact, Some("a "), "white space around");
    one("x", Exact, Some(&"a".repeat(1025)), "longer than 1024 bytes");
    one("x", Regex, Some("("), "`x` has an expression that does not compile");
    refused(
        &[predicate("X", Exact, Some("a")), predicate("x", Exact, Some("b"))],
        "`x` has two values at once",
    );
    let many: Vec<_> = (0..17).map(|i| predicate(&format!("x{i}"), Present, None)).collect();
    refused(&many, "header_predicates are more than 16");
    let unknown = proto::HeaderPredicate { name: "x".into(), kind: 3, value: None };
    refused(&[unknown], "header_predicates.kind `3` is not known");
}

#[test]
fn unusable_edits_are_refused() {
    let refused = |key: &str, val: &str, position: i32, expected: &str| {
        let edit = proto::Header { position, key: key.into(), val: val.into() };
        check(|wire| wire.headers = vec![edit], expected);
    };
    refused("x y", "", 1, "headers `x y` is not a token");
    refused("X", "a\r\nB: c", 1, "`X` has a value with a control character");
    refused("X", "", 0, "`X` has no position");
    refused("X", "", 4, "headers.position `4` is not known");
    for name in ["Host", "content-length", "Transfer_Encoding", "CONNECTION", "TE", "Upgrade", "Keep-Alive"] {
        refused(name, "", 3, "cannot be edited");
    }
    let edit = |bytes| proto::Header { position: 1, key: "X".into(), val: "a".repeat(bytes) };
    check(|wire| wire.headers = vec![edit(1); 65], "headers are more than 64");
    check(|wire| wire.headers = vec![edit(4096); 2], "headers have more than 8192 bytes in all");
}

#[test]
fn unusable_policies_are_refused() {
    check(|wire| wire.redirect = Some(6), "redirect `6` is not known");
    check(|wire| wire.redirect_scheme = Some(3), "redirect_scheme `3` is not known");
    check(|wire| wire.rewrite_port = Some(0), "rewrite_port `0` is not a port");
    check(|wire| wire.rewrite_port = Some(65_536), "rewrite_port `65536` is not a port");
    check(|wire| wire.redirect_template = Some("Gone".into()), "redirect_template has no empty line");
}

#[test]
fn what_needs_a_redirect_is_noted_without_one() {
    let notes = |redirect| {
        let wire = proto::RequestHttpFrontend { redirect, ..full() };
        let mut notes = Vec::new();
        HttpFrontend::from_https_wire(wire).expect("accepted").notes(&mut notes);
        notes
    };
    assert!(notes(Some(proto::RedirectPolicy::Found.into())).is_empty());
    assert_eq!(notes(None).len(), 2);
}

fn predicate(name: &str, kind: proto::HeaderMatchKind, value: Option<&str>) -> proto::HeaderPredicate {
    proto::HeaderPredicate { name: name.into(), kind: kind.into(), value: value.map(str::to_owned) }
}

/// Everything that a frontend can have, in its normal form.
fn full() -> proto::RequestHttpFrontend {
    use proto::{HeaderMatchKind, HeaderPosition};
    let header = |position: HeaderPosition, key: &str, val: &str| proto::Header {
        position: position.into(),
        key: key.into(),
        val: val.into(),
    };
    proto::RequestHttpFrontend {
        hostname: "*.example.com".into(),
        redirect: Some(proto::RedirectPolicy::PermanentRedirect.into()),
        redirect_scheme: Some(proto::RedirectScheme::UseHttps.into()),
        redirect_template: Some("HTTP/1.1 308 Go\nLocation: %REDIRECT_LOCATION\n\n".into()),
        rewrite_host: Some("$HOST[1].internal".into()),
        rewrite_path: Some("/v2$PATH[1]".into()),
        rewrite_port: Some(8443),
        required_auth: Some(true),
        headers: vec![
            header(HeaderPosition::Both, "X-Both", "a"),
            header(HeaderPosition::Request, "X-Out", ""),
            header(HeaderPosition::Response, "X-In", "b\tc"),
        ],
        header_predicates: vec![
            predicate("x-canary", HeaderMatchKind::Exact, Some("1")),
            predicate("x-debug", HeaderMatchKind::Present, None),
            predicate("x-user", HeaderMatchKind::Regex, Some("a.*")),
        ],
        ..wire()
    }
}

#[test]
fn hsts_is_for_https_alone() {
    let hsts = Some(proto::HstsConfig { enabled: Some(true), ..Default::default() });
    let full = || proto::RequestHttpFrontend { hsts, ..full() };
    let error = HttpFrontend::from_wire(full()).expect_err("refused").to_string();
    assert_eq!(error, "hsts is for https frontends: on plain HTTP it has no effect");
    let frontend = HttpFrontend::from_https_wire(full()).expect("accepted");
    let hsts = frontend.policy().and_then(FrontendPolicy::hsts).expect("there");
    assert_eq!(hsts.header_value().as_deref(), Some("max-age=31536000"));
    assert!(frontend.is_https() && !hsts.forces());
    assert_eq!(proto::RequestHttpFrontend::from(&frontend), full());
    let undecided = proto::RequestHttpFrontend { hsts: Some(proto::HstsConfig::default()), ..wire() };
    let error = HttpFrontend::from_https_wire(undecided).expect_err("refused").to_string();
    assert_eq!(error, "hsts does not say whether it is enabled");
}
