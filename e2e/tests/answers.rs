//! Answers of the operator's own, and what they must not let through.

use std::collections::BTreeMap;

use kakehi_command::proto;
use kakehi_command::proto::UpdateHttpListenerConfig;
use kakehi_command::proto::request::RequestType;
use kakehi_e2e::address::free_address;
use kakehi_e2e::http::{Backend, Client, get};
use kakehi_e2e::rules::{Rule, Rules};
use kakehi_e2e::{Proxy, requests};

const OF_LISTENER: &str = "HTTP/1.1 404 Nothing Here\r\nContent-Type: text/plain\r\nX-Route: %ROUTE\r\n\
                           Content-Length: 7\r\n\r\nlistener: %ROUTE (%REQUEST_ID) %UNKNOWN";
const OF_LISTENER_503: &str = "HTTP/1.1 503 Down\nContent-Type: text/plain\n\nlistener %CLUSTER_ID";
const OF_CLUSTER_503: &str = "HTTP/1.1 503 Down\nContent-Type: application/json\nConnection: close\n\n\
                              {\"cluster\":\"%CLUSTER_ID\",\"backend\":\"%BACKEND_ID\",\"route\":\"%ROUTE\"}";

#[test]
fn the_nearest_answer_is_given() {
    let nobody = free_address();
    let toml = |text: &str| text.replace('\r', "\\r").replace('\n', "\\n").replace('"', "\\\"");
    let rules = Rules {
        listener_keys: &format!(
            "answers = {{ \"404\" = \"{}\", \"503\" = \"{}\" }}\n",
            toml(OF_LISTENER),
            toml(OF_LISTENER_503)
        ),
        listener_flags: &[
            "--answer",
            &format!("404={OF_LISTENER}"),
            "--answer",
            &format!("503={OF_LISTENER_503}"),
        ],
        cluster_keys: &format!("answers = {{ \"503\" = \"{}\" }}\n", toml(OF_CLUSTER_503)),
        cluster_flags: &["--answer", &format!("503={OF_CLUSTER_503}")],
        frontends: &[Rule { keys: r#"hostname = "a.test""#, flags: &["--hostname", "a.test"] }],
    };
    rules.check(nobody, |proxy| {
        let mut client = Client::connect(proxy.address());
        let response = client.get("b.test", "/x?y");
        assert_eq!((response.status(), response.head.reason.as_str()), (404, "Nothing Here"));
        assert_eq!(response.field("X-Route"), Some("b.test/x?y"));
        let text = response.text();
        assert!(text.starts_with("listener: b.test/x?y (") && text.ends_with(") %UNKNOWN"), "{text}");
        assert_eq!(response.field("Content-Length"), Some(text.len().to_string().as_str()));
        let response = client.get("a.test", "/x");
        assert_eq!(response.status(), 503);
        assert!(response.head.closes(), "as the template says");
        let value: serde_json::Value = serde_json::from_str(&response.text()).expect("JSON");
        assert_eq!((&value["cluster"], &value["route"]), (&"c".into(), &"a.test/x".into()), "{value}");
        client.expect_close();
    });
}

#[test]
fn what_is_echoed_is_escaped() {
    let template = |kind: &str| {
        format!("HTTP/1.1 404 Not Found\r\nContent-Type: {kind}\r\nX-Route: \"%ROUTE\"\r\n\r\n[\"%ROUTE\"]")
    };
    let proxy = Proxy::builder().workers(1).start();
    let cli = proxy.cli();
    let listener = proxy.address().to_string();
    for kind in ["text/html; charset=utf-8", "application/json", "text/plain", "application/xhtml+xml"] {
        let answer = format!("404={}", template(kind));
        cli.ok(&["listener", "http", "update", "--address", &listener, "--answer", &answer]);
        for path in [
            "/<script>alert(1)</script>",
            "/'\"><img/onerror=x>",
            "/%0d%0aX-Injected:%201",
            "/\\\"];alert(1)//",
            "/?a=&b=%3Cscript%3E",
        ] {
            let response = get(proxy.address(), "x.test", path);
            if response.status() == 400 {
                continue;
            }
            assert_eq!(response.status(), 404);
            assert_eq!(response.field("X-Injected"), None, "{kind}: {path}");
            let field = response.field("X-Route").expect("the template's");
            assert_eq!(field.matches('"').count(), 2, "{kind}: {path}: {field}");
            let text = response.text();
            assert!(!text.contains('\r') && !text.contains('\n'), "{kind}: {text}");
            if kind != "text/plain" {
                assert!(!text.contains("<script") && !text.contains("<img"), "{kind}: {text}");
            }
            if kind == "application/json" {
                let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                assert_eq!(value[0], format!("x.test{path}"));
            }
        }
    }
}

#[test]
fn parse_errors_are_echoed_escaped_or_not_at_all() {
    let answer = "400=HTTP/1.1 400 Bad\r\nContent-Type: text/html\r\n\r\n\
                  <p>%MESSAGE|%PHASE|%SUCCESSFULLY_PARSED|%PARTIALLY_PARSED|%INVALID</p>";
    let proxy = Proxy::builder().workers(1).start();
    let listener = proxy.address().to_string();
    proxy.cli().ok(&["listener", "http", "update", "--address", &listener, "--answer", answer]);
    for request in [
        "GET / HTTP/1.1\r\nHost: <script>alert(1)</script>\r\n\r\n",
        "GET / HTTP/1.1\r\n<script>: x\r\nHost: a\r\n\r\n",
        "<script> / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\u{7f}<script> HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut client = Client::connect(proxy.address());
        client.send(request);
        let response = client.response("GET");
        assert_eq!(response.status(), 400, "{request:?}");
        let text = response.text();
        assert!(text.starts_with("<p>") && text.contains("|request&#32;head|"), "{text}");
        assert_eq!(text.matches('<').count(), 2, "{text}");
        // Nothing can be wrong behind a malformed request that would make it safe to go on.
        assert!(response.head.closes());
        client.expect_close();
    }
}

#[test]
fn an_answer_without_close_leaves_the_connection() {
    let backend = Backend::named("hello");
    let keep = "503=HTTP/1.1 503 Later\r\n\r\nlater";
    let proxy = Proxy::builder()
        .workers(1)
        .cluster("a", "a.test", &[backend.address()])
        .cluster("b", "b.test", &[])
        .start();
    let listener = proxy.address().to_string();
    let mut client = Client::connect(proxy.address());
    let response = client.get("b.test", "/");
    assert_eq!((response.status(), response.head.closes()), (503, true), "the built-in one");
    proxy.cli().ok(&["listener", "http", "update", "--address", &listener, "--answer", keep]);
    let mut client = Client::connect(proxy.address());
    let response = client.get("b.test", "/");
    assert_eq!((response.status(), response.text().as_str()), (503, "later"));
    if !response.head.closes() {
        assert_eq!(client.get("a.test", "/").text(), "hello");
    }
}

#[test]
fn answers_that_are_changed_hold_from_the_next_request_on() {
    let proxy = Proxy::builder().start();
    let mut command = proxy.command();
    let mut client = Client::connect(proxy.address());
    for round in 0..10 {
        let text = format!("HTTP/1.1 404 No\r\n\r\nround {round}");
        command.ok(RequestType::UpdateHttpListener(UpdateHttpListenerConfig {
            address: requests::wire_address(proxy.address()),
            answers: BTreeMap::from([("404".to_owned(), text)]),
            ..Default::default()
        }));
        assert_eq!(client.get("x.test", "/").text(), format!("round {round}"));
    }
    let cluster = |answer: &str| {
        RequestType::AddCluster(proto::Cluster {
            cluster_id: "c".into(),
            answers: BTreeMap::from([("503".to_owned(), answer.to_owned())]),
            ..Default::default()
        })
    };
    command.ok(cluster("HTTP/1.1 503 A\r\n\r\nfirst"));
    command.ok(requests::add_frontend("c", proxy.address(), "c.test"));
    assert_eq!(get(proxy.address(), "c.test", "/").text(), "first");
    command.ok(cluster("HTTP/1.1 503 A\r\n\r\nsecond"));
    assert_eq!(get(proxy.address(), "c.test", "/").text(), "second");
}

#[test]
fn templates_that_are_no_answer_are_refused() {
    let proxy = Proxy::builder().workers(1).start();
    let mut command = proxy.command();
    for text in [
        "404 Not Found",
        "HTTP/1.1 404 Not Found",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 404 X\r\nno colon\r\n\r\n",
        "HTTP/1.1 204 X\r\n\r\nbody",
        &format!("HTTP/1.1 404 X\r\n\r\n{}", "x".repeat(70_000)),
    ] {
        let reason = command.refused(RequestType::UpdateHttpListener(UpdateHttpListenerConfig {
            address: requests::wire_address(proxy.address()),
            answers: BTreeMap::from([("404".to_owned(), text.to_owned())]),
            ..Default::default()
        }));
        assert!(reason.contains("404"), "{reason}");
    }
    assert_eq!(get(proxy.address(), "x.test", "/").status(), 404, "the built-in one");
}

#[test]
fn an_answer_of_our_own_that_is_too_large_gives_way_to_the_built_in() {
    let proxy = Proxy::builder().workers(1).setting("buffer_size = 8192").start();
    let listener = proxy.address().to_string();
    let answer = format!("404=HTTP/1.1 404 Large\r\n\r\n{}", "x".repeat(20_000));
    let output =
        proxy.cli().run(&["listener", "http", "update", "--address", &listener, "--answer", &answer]);
    let response = get(proxy.address(), "x.test", "/");
    assert_eq!(response.status(), 404);
    assert!(response.text().contains("\"status_code\": 404"), "{output:?} {}", response.text());
}
