//! Hosts and paths that backends are asked for instead of the client's.

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{PathRuleKind, RequestHttpFrontend};
use kakehi_e2e::http::{Backend, Client, RequestHead};
use kakehi_e2e::rules::{Rule, Rules};
use kakehi_e2e::{Proxy, requests};

/// A rule per kind of pattern that captures something.
const REWRITES: &[Rule] = &[
    Rule {
        keys: r#"hostname = "prefix.test", path = "/api", rewrite_path = "/v2$PATH[1]""#,
        flags: &["--hostname", "prefix.test", "--path-prefix", "/api", "--rewrite-path", "/v2$PATH[1]"],
    },
    Rule {
        keys: r#"hostname = "strip.test", path = "/app", rewrite_path = "$PATH[1]""#,
        flags: &["--hostname", "strip.test", "--path-prefix", "/app", "--rewrite-path", "$PATH[1]"],
    },
    Rule {
        keys: r#"hostname = "*.wild.test", rewrite_host = "$HOST[1].inner.test""#,
        flags: &["--hostname", "*.wild.test", "--rewrite-host", "$HOST[1].inner.test"],
    },
    Rule {
        keys: r#"hostname = "/shop([0-9]+)/.regex.test", path = "/item/([a-z]+)/([0-9]+)", path_type = "REGEX", rewrite_host = "s$HOST[1].test", rewrite_path = "/$PATH[2]/$PATH[1]""#,
        flags: &[
            "--hostname",
            "/shop([0-9]+)/.regex.test",
            "--path-regex",
            "/item/([a-z]+)/([0-9]+)",
            "--rewrite-host",
            "s$HOST[1].test",
            "--rewrite-path",
            "/$PATH[2]/$PATH[1]",
        ],
    },
    Rule {
        keys: r#"hostname = "whole.test", path = "/old", path_type = "EQUALS", rewrite_host = "x-$HOST[0]", rewrite_path = "/seen$PATH[0]""#,
        flags: &[
            "--hostname",
            "whole.test",
            "--path-equals",
            "/old",
            "--rewrite-host",
            "x-$HOST[0]",
            "--rewrite-path",
            "/seen$PATH[0]",
        ],
    },
    Rule {
        keys: r#"hostname = "port.test", path = "/", rewrite_host = "inner.test", rewrite_port = 9000"#,
        flags: &[
            "--hostname",
            "port.test",
            "--path-prefix",
            "/",
            "--rewrite-host",
            "inner.test",
            "--rewrite-port",
            "9000",
        ],
    },
];

/// What the backend is asked for when the client asks for `path` of `host`.
fn ask(client: &mut Client, backend: &Backend, host: &str, path: &str) -> RequestHead {
    let response = client.get(host, path);
    assert_eq!(response.status(), 200, "{host}{path}: {}", response.text());
    backend.next_request()
}

#[test]
fn captures_go_where_they_are_named() {
    let backend = Backend::named("hello");
    let rules = Rules { frontends: REWRITES, ..Rules::default() };
    rules.check(backend.address(), |proxy| {
        let mut client = Client::connect(proxy.address());
        let mut check = |host: &str, path: &str, inner_host: &str, inner_path: &str| {
            let head = ask(&mut client, &backend, host, path);
            assert_eq!(head.fields.get("Host"), Some(inner_host), "{host}{path}");
            assert_eq!(head.target, inner_path, "{host}{path}");
            // What the client asked for is told only where it was changed.
            let told = (inner_host != host).then_some(host);
            assert_eq!(head.fields.get("X-Forwarded-Host"), told, "{host}{path}");
        };
        check("prefix.test", "/api", "prefix.test", "/v2");
        check("prefix.test", "/api/users?a=b&c", "prefix.test", "/v2/users?a=b&c");
        check("prefix.test", "/api//x/%2F", "prefix.test", "/v2//x/%2F");
        check("strip.test", "/app/x?y", "strip.test", "/x?y");
        check("strip.test", "/app", "strip.test", "/");
        check("strip.test", "/app?y", "strip.test", "/?y");
        check("a.wild.test", "/x", "a.inner.test", "/x");
        check("a.wild.test:8080", "/", "a.inner.test", "/");
        check("shop42.regex.test", "/item/tea/7", "s42.test", "/7/tea");
        check("whole.test", "/old", "x-whole.test", "/seen/old");
        check("port.test", "/x", "inner.test:9000", "/x");
    });
}

#[test]
fn a_client_cannot_speak_as_x_forwarded_host() {
    let backend = Backend::named("hello");
    let rules = Rules { frontends: REWRITES, ..Rules::default() };
    let proxy = rules.by_file(backend.address());
    let mut client = Client::connect(proxy.address());
    for (host, told) in [("a.wild.test", Some("a.wild.test")), ("prefix.test", None)] {
        client.send(format!("GET /api HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: evil.test\r\n\r\n"));
        assert_eq!(client.response("GET").status(), 200);
        assert_eq!(backend.next_request().fields.get("X-Forwarded-Host"), told, "{host}");
    }
}

#[test]
fn what_is_captured_stays_in_its_place() {
    let backend = Backend::named("hello");
    let rules = Rules { frontends: REWRITES, ..Rules::default() };
    let proxy = rules.by_file(backend.address());
    // The rest of a prefix may be anything that a path may be: never more than one request line.
    for rest in ["%0d%0aX:%20y", "/a/../../b", "?a=/v1", "/$HOST[0]", "/%00"] {
        let mut client = Client::connect(proxy.address());
        let head = ask(&mut client, &backend, "prefix.test", &format!("/api{rest}"));
        assert_eq!(head.target, format!("/v2{rest}"));
        assert_eq!(head.fields.get("X"), None);
    }
    assert!(!backend.has_request());
}

#[test]
fn captures_that_there_are_not_are_refused() {
    let proxy = Proxy::builder().workers(1).cluster("c", "a.test", &[]).start();
    let mut command = proxy.command();
    let mut refused = |host: &str, kind: PathRuleKind, path: &str, edit: fn(&mut RequestHttpFrontend)| {
        let mut frontend = requests::frontend("c", proxy.address(), host, path);
        frontend.path.kind = kind.into();
        edit(&mut frontend);
        command.refused(RequestType::AddHttpFrontend(frontend))
    };
    let reason = refused("b.test", PathRuleKind::Prefix, "/", |frontend| {
        frontend.rewrite_host = Some("$HOST[1].test".into());
    });
    assert!(reason.contains("$HOST[1]"), "{reason}");
    let reason = refused("*.b.test", PathRuleKind::Prefix, "/", |frontend| {
        frontend.rewrite_path = Some("/$PATH[2]".into());
    });
    assert!(reason.contains("$PATH[2]"), "{reason}");
    refused("b.test", PathRuleKind::Equals, "/x", |frontend| {
        frontend.rewrite_path = Some("/$PATH[1]".into());
    });
    refused("b.test", PathRuleKind::Regex, "/(a|b)", |frontend| {
        frontend.rewrite_path = Some("/$PATH[2]".into());
    });
    for path in ["no-slash", "/a b", "/a\r\nX: y"] {
        let mut frontend = requests::frontend("c", proxy.address(), "b.test", "/");
        frontend.rewrite_path = Some(path.into());
        proxy.command().refused(RequestType::AddHttpFrontend(frontend));
    }
}

#[test]
fn a_rewrite_that_is_changed_holds_from_the_next_request_on() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(1)
        .cluster_with("c", "", &[r#"hostname = "a.test""#], &[backend.address()])
        .start();
    let mut command = proxy.command();
    let mut client = Client::connect(proxy.address());
    for round in 0..20 {
        let frontend = RequestHttpFrontend {
            rewrite_path: Some(format!("/round{round}$PATH[1]")),
            rewrite_host: Some(format!("r{round}.test")),
            ..requests::frontend("c", proxy.address(), "a.test", "/api")
        };
        command.ok(RequestType::AddHttpFrontend(frontend.clone()));
        let head = ask(&mut client, &backend, "a.test", "/api/x");
        assert_eq!(head.target, format!("/round{round}/x"));
        assert_eq!(head.fields.get("Host"), Some(format!("r{round}.test").as_str()));
        command.ok(RequestType::RemoveHttpFrontend(frontend));
        assert_eq!(ask(&mut client, &backend, "a.test", "/api/x").target, "/api/x");
    }
}
