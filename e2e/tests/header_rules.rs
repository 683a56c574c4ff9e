//! Fields that a frontend adds and deletes, and fields by which a frontend is chosen.

use std::net::SocketAddr;

use kakehi_command::proto;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    HeaderMatchKind, HeaderPosition, HeaderPredicate, RequestHttpFrontend, RulePosition,
};
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::http::{After, Backend, Client};
use kakehi_e2e::rules::{Rule, Rules};
use kakehi_e2e::{Proxy, requests};

/// A backend whose answers have fields to delete.
fn talkative() -> Backend {
    Backend::raw(
        "HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nX-Powered-By: magic\r\nX-Powered-By: more\r\nX-Kept: yes\r\n\
         Content-Length: 2\r\n\r\nok",
        After::KeepAlive,
    )
}

#[test]
fn fields_are_added_and_deleted_on_both_sides() {
    let backend = talkative();
    let rules = Rules {
        frontends: &[Rule {
            keys: r#"hostname = "a.test", headers = [
                { position = "request", key = "X-Tenant", value = "blue" },
                { position = "request", key = "X-Debug", value = "" },
                { position = "response", key = "X-Powered-By", value = "" },
                { position = "response", key = "Server", value = "" },
                { position = "response", key = "Server", value = "kakehi" },
                { position = "both", key = "X-Both", value = "1" },
            ]"#,
            flags: &[
                "--hostname",
                "a.test",
                "--header",
                "request=X-Tenant=blue",
                "--header",
                "request=X-Debug=",
                "--header",
                "response=X-Powered-By=",
                "--header",
                "response=Server=",
                "--header",
                "response=Server=kakehi",
                "--header",
                "both=X-Both=1",
            ],
        }],
        ..Rules::default()
    };
    rules.check(backend.address(), |proxy| {
        let mut client = Client::connect(proxy.address());
        client.send(
            "GET / HTTP/1.1\r\nHost: a.test\r\nX-Debug: 1\r\nx-debug: 2\r\nX-Tenant: red\r\nX-Kept: a\r\n\r\n",
        );
        let response = client.response("GET");
        assert_eq!(response.status(), 200);
        assert_eq!(response.head.fields.all("Server"), ["kakehi"]);
        assert_eq!(response.head.fields.all("X-Powered-By"), [""; 0]);
        assert_eq!(response.field("X-Both"), Some("1"));
        assert_eq!(response.field("X-Kept"), Some("yes"));
        assert_eq!(response.field("X-Tenant"), None);
        let head = backend.next_request();
        assert_eq!(head.fields.all("X-Debug"), [""; 0]);
        assert_eq!(head.fields.all("X-Tenant"), ["red", "blue"], "added, not replaced");
        assert_eq!(head.fields.get("X-Both"), Some("1"));
        assert_eq!(head.fields.get("X-Kept"), Some("a"));
    });
}

#[test]
fn fields_of_ours_are_the_operators_to_delete() {
    let backend = Backend::named("hello");
    let rules = Rules {
        frontends: &[Rule {
            keys: r#"hostname = "a.test", headers = [
                { position = "request", key = "User-Agent", value = "" },
                { position = "request", key = "User-Agent", value = "kakehi" },
            ]"#,
            flags: &[
                "--hostname",
                "a.test",
                "--header",
                "request=User-Agent=",
                "--header",
                "request=User-Agent=kakehi",
            ],
        }],
        ..Rules::default()
    };
    rules.check(backend.address(), |proxy| {
        let mut client = Client::connect(proxy.address());
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nUser-Agent: curl/8\r\n\r\n");
        assert_eq!(client.response("GET").status(), 200);
        assert_eq!(backend.next_request().fields.all("User-Agent"), ["kakehi"]);
    });
}

#[test]
fn what_is_deleted_comes_neither_by_another_spelling_nor_behind_the_body() {
    let backend = Backend::start(|exchange| {
        let (body, trailers) = exchange.body()?;
        let seen = format!("{:?} {} {trailers:?}", exchange.head.fields, String::from_utf8_lossy(&body));
        exchange.answer(&seen)?;
        Ok(After::KeepAlive)
    });
    let seen = |headers: &str, setting: &str| {
        let mut builder = Proxy::builder().workers(1).listener_setting(setting);
        let frontend = format!(
            "[clusters.a]\nprotocol = \"http\"\nbackends = [{{ address = \"{}\" }}]\nfrontends = [{{ address = \
             \"{}\", hostname = \"a.test\", headers = [{headers}] }}]\n",
            backend.address(),
            builder.address()
        );
        builder = builder.tables(&frontend);
        let proxy = builder.start();
        let mut client = Client::connect(proxy.address());
        client.send(
            "POST / HTTP/1.1\r\nHost: a.test\r\nX_User: evil\r\nx-USER: evil\r\nSozu_Id: evil\r\n\
             Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-User: evil\r\nX-Sum: trailer\r\n\
             Sozu-Id: forged\r\nsozu_id: forged\r\n\r\n",
        );
        client.response("POST").text()
    };
    let default = "sozu_id_header = \"Sozu-Id\"";
    let deleted = seen(r#"{ position = "request", key = "X-User", value = "" }"#, default);
    assert!(deleted.contains("body"), "{deleted}");
    assert!(!deleted.contains("evil") && !deleted.contains("trailer"), "{deleted}");
    let passed = seen("", default);
    assert!(passed.contains("trailer"), "trailers pass where nothing is edited: {passed}");
    assert!(!passed.contains("forged"), "our id is not the client's to tell: {passed}");
    let renamed = seen("", "sozu_id_header = \"X-Trace\"");
    assert!(!renamed.contains("trailer"), "{renamed}");
}

#[test]
fn edits_that_would_break_the_message_are_refused() {
    let proxy = Proxy::builder().workers(1).cluster("c", "a.test", &[]).start();
    let mut command = proxy.command();
    let mut refused = |key: &str, val: &str| {
        let frontend = RequestHttpFrontend {
            headers: vec![proto::Header {
                position: HeaderPosition::Both.into(),
                key: key.into(),
                val: val.into(),
            }],
            ..requests::frontend("c", proxy.address(), "b.test", "/")
        };
        command.refused(RequestType::AddHttpFrontend(frontend))
    };
    for name in ["Content-Length", "transfer-encoding", "Connection", "Host", "Upgrade", "TE", "Keep-Alive"] {
        let reason = refused(name, "1");
        assert!(reason.to_lowercase().contains(&name.to_lowercase()), "{reason}");
    }
    for (name, value) in [("X", "a\r\nY: b"), ("X", "a\0"), ("X Y", "a"), ("", "a"), ("X:", "a")] {
        refused(name, value);
    }
}

/// A cluster that says its name, and how to get there.
struct Place {
    backend: Backend,
    name: &'static str,
}

fn place(proxy: &Proxy, name: &'static str) -> Place {
    let backend = Backend::named(name);
    let mut command = proxy.command();
    command.ok(requests::add_cluster(name));
    command.ok(requests::add_backend(name, "b", backend.address()));
    Place { backend, name }
}

fn predicate(name: &str, kind: HeaderMatchKind, value: Option<&str>) -> HeaderPredicate {
    HeaderPredicate { name: name.into(), kind: kind.into(), value: value.map(str::to_owned) }
}

fn frontend(listener: SocketAddr, cluster: &str, predicates: Vec<HeaderPredicate>) -> RequestHttpFrontend {
    RequestHttpFrontend {
        header_predicates: predicates,
        ..requests::frontend(cluster, listener, "a.test", "/")
    }
}

fn reached(client: &mut Client, fields: &str) -> String {
    client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
    let response = client.response("GET");
    if response.status() == 200 { response.text() } else { response.status().to_string() }
}

#[test]
fn predicates_choose_the_frontend() {
    let plain = Backend::named("plain");
    let canary = Backend::named("canary");
    let config = format!(
        r#"
[clusters.canary]
protocol = "http"
backends = [{{ address = "{canary}" }}]
frontends = [
    {{ address = "LISTENER", hostname = "a.test", path = "/", header_predicates = [{{ name = "X-Canary", match = "exact", value = "yes" }}] }},
    {{ address = "LISTENER", hostname = "a.test", path = "/", header_predicates = [{{ name = "User-Agent", match = "regex", value = "bot/[0-9]+" }}] }},
    {{ address = "LISTENER", hostname = "a.test", path = "/", header_predicates = [{{ name = "X-Debug", match = "present" }}] }},
]
"#,
        canary = canary.address()
    );
    let check = |proxy: &Proxy| {
        let mut client = Client::connect(proxy.address());
        let mut check = |fields: &str, expected: &str| {
            assert_eq!(reached(&mut client, fields), expected, "{fields:?}");
        };
        check("", "plain");
        check("X-Canary: yes\r\n", "canary");
        check("x-canary:   yes  \r\n", "canary");
        check("X-Canary: Yes\r\n", "plain");
        check("X-Canary: yes, no\r\n", "plain");
        check("X-Canary: no\r\nX-Canary: yes\r\n", "plain");
        check("User-Agent: bot/42\r\n", "canary");
        check("User-Agent: bot/\r\n", "plain");
        check("User-Agent: robot/42\r\n", "plain");
        check("X-Debug:\r\n", "canary");
        check("X-Debug: anything\r\n", "canary");
    };
    let builder = Proxy::builder().workers(1).cluster("plain", "a.test", &[plain.address()]);
    let tables = config.replace("LISTENER", &builder.address().to_string());
    check(&builder.tables(&tables).start());

    let proxy = Proxy::builder().workers(1).cluster("plain", "a.test", &[plain.address()]).start();
    let cli = proxy.cli();
    let (listener, backend) = (proxy.address().to_string(), canary.address().to_string());
    cli.ok(&["cluster", "add", "--id", "canary"]);
    cli.ok(&["backend", "add", "--id", "canary", "--backend-id", "b", "--address", &backend]);
    for predicate in ["exact=X-Canary=yes", "regex=User-Agent=bot/[0-9]+", "present=X-Debug"] {
        let at = ["--address", &listener, "--hostname", "a.test", "--path-prefix", "/"];
        let to = ["--match-header", predicate, "id", "canary"];
        cli.ok(&[&["frontend", "http", "add"], at.as_slice(), to.as_slice()].concat());
    }
    check(&proxy);
    // Gone again: by the same match.
    for predicate in ["exact=X-Canary=yes", "regex=User-Agent=bot/[0-9]+", "present=X-Debug"] {
        let at = ["--address", &listener, "--hostname", "a.test", "--path-prefix", "/"];
        let to = ["--match-header", predicate, "id", "canary"];
        cli.ok(&[&["frontend", "http", "remove"], at.as_slice(), to.as_slice()].concat());
    }
    let mut client = Client::connect(proxy.address());
    assert_eq!(reached(&mut client, "X-Canary: yes\r\nX-Debug: 1\r\n"), "plain");
}

#[test]
fn predicates_do_not_believe_what_the_backend_is_not_told() {
    for (trusted, expected) in [("", "plain"), ("trusted_proxies = [\"127.0.0.1\"]", "canary")] {
        let mut builder = Proxy::builder().workers(1);
        if !trusted.is_empty() {
            builder = builder.listener_setting(trusted);
        }
        let proxy = builder.start();
        let (plain, canary) = (place(&proxy, "plain"), place(&proxy, "canary"));
        let mut command = proxy.command();
        let exact = |name| vec![predicate(name, HeaderMatchKind::Exact, Some("10.0.0.1"))];
        command.ok(RequestType::AddHttpFrontend(frontend(proxy.address(), plain.name, vec![])));
        for name in ["X-Real-IP", "X-Forwarded-For", "Forwarded"] {
            let frontend = frontend(proxy.address(), canary.name, exact(name));
            command.ok(RequestType::AddHttpFrontend(frontend.clone()));
            let mut client = Client::connect(proxy.address());
            assert_eq!(reached(&mut client, &format!("{name}: 10.0.0.1\r\n")), expected, "{name}");
            command.ok(RequestType::RemoveHttpFrontend(frontend));
        }
        drop((plain.backend, canary.backend));
    }
}

#[test]
fn more_predicates_win() {
    let proxy = Proxy::builder().workers(1).start();
    let places: Vec<Place> = ["none", "one", "two"].map(|name| place(&proxy, name)).into();
    let mut command = proxy.command();
    let a = || predicate("X-A", HeaderMatchKind::Exact, Some("1"));
    let b = || predicate("X-B", HeaderMatchKind::Present, None);
    // The order in which they are added does not count.
    for (cluster, predicates) in [("one", vec![a()]), ("two", vec![b(), a()]), ("none", vec![])] {
        command.ok(RequestType::AddHttpFrontend(frontend(proxy.address(), cluster, predicates)));
    }
    let mut client = Client::connect(proxy.address());
    assert_eq!(reached(&mut client, ""), "none");
    assert_eq!(reached(&mut client, "X-A: 1\r\n"), "one");
    assert_eq!(reached(&mut client, "X-B: 1\r\n"), "none");
    assert_eq!(reached(&mut client, "X-A: 1\r\nX-B: 1\r\n"), "two");
    // Predicates are a part of what names a frontend, in any order.
    command.ok(RequestType::RemoveHttpFrontend(frontend(proxy.address(), "two", vec![a(), b()])));
    assert_eq!(reached(&mut client, "X-A: 1\r\nX-B: 1\r\n"), "one");
    for place in places {
        // A backend counts behind its answer.
        await_true(place.name, || place.backend.served() > 0);
    }
}

#[test]
fn positions_keep_their_order_with_predicates() {
    let proxy = Proxy::builder().workers(1).start();
    let _places: Vec<Place> = ["pre", "tree", "post", "tree_a"].map(|name| place(&proxy, name)).into();
    let mut command = proxy.command();
    let mut add = |cluster: &str, position: RulePosition, predicates: Vec<HeaderPredicate>| {
        command.ok(RequestType::AddHttpFrontend(RequestHttpFrontend {
            position: position.into(),
            ..frontend(proxy.address(), cluster, predicates)
        }));
    };
    let with = |name: &str| vec![predicate(name, HeaderMatchKind::Present, None)];
    add("post", RulePosition::Post, with("X-Post"));
    add("pre", RulePosition::Pre, with("X-Pre"));
    add("tree_a", RulePosition::Tree, with("X-A"));
    let mut client = Client::connect(proxy.address());
    // In the tree nothing is left without its field: what comes after it is asked.
    assert_eq!(reached(&mut client, ""), "404");
    assert_eq!(reached(&mut client, "X-Post: 1\r\n"), "post");
    assert_eq!(reached(&mut client, "X-Post: 1\r\nX-A: 1\r\n"), "tree_a");
    assert_eq!(reached(&mut client, "X-Post: 1\r\nX-A: 1\r\nX-Pre: 1\r\n"), "pre");
    add("tree", RulePosition::Tree, vec![]);
    assert_eq!(reached(&mut client, ""), "tree");
    assert_eq!(reached(&mut client, "X-Post: 1\r\n"), "tree");
    assert_eq!(reached(&mut client, "X-A: 1\r\n"), "tree_a");
}

#[test]
fn predicates_that_mean_nothing_are_refused() {
    let proxy = Proxy::builder().workers(1).cluster("c", "a.test", &[]).start();
    let mut command = proxy.command();
    for predicate in [
        predicate("Host", HeaderMatchKind::Exact, Some("a")),
        predicate("cookie", HeaderMatchKind::Present, None),
        predicate("X", HeaderMatchKind::Regex, Some("(")),
        predicate("X", HeaderMatchKind::Exact, None),
        predicate("X Y", HeaderMatchKind::Present, None),
        predicate("", HeaderMatchKind::Present, None),
    ] {
        command.refused(RequestType::AddHttpFrontend(frontend(proxy.address(), "c", vec![predicate])));
    }
}
