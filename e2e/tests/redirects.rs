//! Frontends that answer instead of their cluster: by redirects, by refusing, by closing.

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{RedirectPolicy, RequestHttpFrontend};
use kakehi_e2e::http::{Backend, Client, get};
use kakehi_e2e::rules::{Rule, Rules};
use kakehi_e2e::{Proxy, requests};

/// A rule per way to redirect, each on a host of its own.
const REDIRECTS: &[Rule] = &[
    Rule {
        keys: r#"hostname = "moved.test", path = "/", redirect = "permanent""#,
        flags: &["--hostname", "moved.test", "--path-prefix", "/", "--redirect", "permanent"],
    },
    Rule {
        keys: r#"hostname = "found.test", path = "/", redirect = "found", redirect_scheme = "use-http""#,
        flags: &[
            "--hostname",
            "found.test",
            "-p",
            "/",
            "--redirect",
            "found",
            "--redirect-scheme",
            "use-http",
        ],
    },
    Rule {
        keys: r#"hostname = "secure.test", path = "/", redirect = "permanent_redirect", redirect_scheme = "use-https""#,
        flags: &[
            "--hostname",
            "secure.test",
            "--path-prefix",
            "/",
            "--redirect",
            "permanent_redirect",
            "--redirect-scheme",
            "use-https",
        ],
    },
    Rule {
        keys: r#"hostname = "port.test", path = "/", redirect = "found", redirect_scheme = "use-https", rewrite_port = 8443"#,
        flags: &[
            "--hostname",
            "port.test",
            "--path-prefix",
            "/",
            "--redirect",
            "found",
            "--redirect-scheme",
            "use-https",
            "--rewrite-port",
            "8443",
        ],
    },
    Rule {
        keys: r#"hostname = "default.test", path = "/", redirect = "found", redirect_scheme = "use-https", rewrite_port = 443"#,
        flags: &[
            "--hostname",
            "default.test",
            "--path-prefix",
            "/",
            "--redirect",
            "found",
            "--redirect-scheme",
            "use-https",
            "--rewrite-port",
            "443",
        ],
    },
    Rule {
        keys: r#"hostname = "*.old.test", path = "/v1", redirect = "permanent", rewrite_host = "$HOST[1].new.test", rewrite_path = "/v2$PATH[1]""#,
        flags: &[
            "--hostname",
            "*.old.test",
            "--path-prefix",
            "/v1",
            "--redirect",
            "permanent",
            "--rewrite-host",
            "$HOST[1].new.test",
            "--rewrite-path",
            "/v2$PATH[1]",
        ],
    },
    Rule {
        keys: r#"hostname = "template.test", path = "/", redirect = "found", redirect_template = "HTTP/1.1 303 See Other\r\nLocation: %REDIRECT_LOCATION\r\nX-Ours: yes\r\nContent-Type: text/plain\r\n\r\ngo to %REDIRECT_LOCATION""#,
        flags: &[
            "--hostname",
            "template.test",
            "--path-prefix",
            "/",
            "--redirect",
            "found",
            "--redirect-template",
            "HTTP/1.1 303 See Other\r\nLocation: %REDIRECT_LOCATION\r\nX-Ours: yes\r\nContent-Type: text/plain\r\n\r\ngo to %REDIRECT_LOCATION",
        ],
    },
];

#[test]
fn redirects_lead_where_they_say() {
    let backend = Backend::named("never");
    let rules = Rules { frontends: REDIRECTS, ..Rules::default() };
    rules.check(backend.address(), |proxy| {
        // One connection for all of them: a redirect does not cost it.
        let mut client = Client::connect(proxy.address());
        let mut check = |host: &str, path: &str, status: u16, location: &str| {
            let response = client.get(host, path);
            assert_eq!(response.status(), status, "{host}: {}", response.text());
            assert_eq!(response.field("Location"), Some(location), "{host}");
            assert!(!response.head.closes(), "{host}");
            response
        };
        check("moved.test", "/x?y=1&z", 301, "http://moved.test/x?y=1&z");
        check("moved.test:8080", "/", 301, "http://moved.test/");
        check("MOVED.test", "/%2e/a", 301, "http://MOVED.test/%2e/a");
        check("found.test", "/a/b", 302, "http://found.test/a/b");
        check("secure.test", "/a?b", 308, "https://secure.test/a?b");
        check("port.test", "/", 302, "https://port.test:8443/");
        check("default.test", "/", 302, "https://default.test/");
        check("a.old.test", "/v1/users?x", 301, "http://a.new.test/v2/users?x");
        let made = check("template.test", "/t", 303, "http://template.test/t");
        assert_eq!(
            (made.field("X-Ours"), made.text().as_str()),
            (Some("yes"), "go to http://template.test/t")
        );
        assert_eq!(client.get("a.old.test", "/v2").status(), 404, "a path that no rule has");
    });
    assert!(!backend.has_request(), "a redirect does not reach the cluster");
}

#[test]
fn location_cannot_be_forged() {
    let backend = Backend::named("never");
    let rules = Rules { frontends: REDIRECTS, ..Rules::default() };
    let proxy = rules.by_file(backend.address());
    let mut client = Client::connect(proxy.address());
    // Encoded line ends stay encoded; what no URI has is encoded.
    let response = client.get("moved.test", "/%0d%0aSet-Cookie:%20a=b");
    assert_eq!(response.field("Location"), Some("http://moved.test/%0d%0aSet-Cookie:%20a=b"));
    assert_eq!(response.field("Set-Cookie"), None);
    let response = client.get("moved.test", "//evil.test/");
    assert_eq!(response.field("Location"), Some("http://moved.test//evil.test/"), "our host stays in front");
    for path in ["/\"<script>alert(1)</script>", "/<img>"] {
        let response = get(proxy.address(), "template.test", path);
        if response.status() == 303 {
            let location = response.field("Location").expect("a redirect");
            assert!(!location.contains(['<', '>', '"']), "{location}");
        } else {
            assert_eq!(response.status(), 400, "{path}");
        }
        assert!(!response.text().contains("<script>") && !response.text().contains("<img>"));
    }
}

#[test]
fn a_location_that_is_too_long_is_an_answer_all_the_same() {
    let backend = Backend::named("never");
    let rules = Rules { frontends: REDIRECTS, ..Rules::default() };
    let proxy = rules.by_file(backend.address());
    // Each quote is three bytes of a Location.
    let path = format!("/{}", "\"".repeat(6000));
    for (host, status) in [("moved.test", 414), ("secure.test", 414), ("template.test", 414)] {
        let mut client = Client::connect(proxy.address());
        let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        client.send(format!("{}{}", request(&path), request("/second")));
        let response = client.response("GET");
        assert_eq!(response.status(), status, "{host}");
        assert!(response.head.closes() && response.field("Location").is_none(), "{host}");
        // The second request is not answered in the place of the first.
        client.expect_close();
    }
    let mut command = proxy.command();
    assert_eq!((command.metric("http.414.errors"), command.metric("http.301.redirection")), (3, 0));
}

#[test]
fn methods_and_bodies_are_of_no_consequence() {
    let backend = Backend::named("never");
    let rules = Rules { frontends: REDIRECTS, ..Rules::default() };
    let proxy = rules.by_file(backend.address());
    let mut client = Client::connect(proxy.address());
    client.send("HEAD /x HTTP/1.1\r\nHost: moved.test\r\n\r\n");
    let response = client.response("HEAD");
    assert_eq!((response.status(), response.body.len()), (301, 0));
    // The connection is in step: what follows is an answer, not the body of the one before.
    assert_eq!(client.get("moved.test", "/").status(), 301);
    // A body that nobody reads is never taken for a request.
    client.send("POST /x HTTP/1.1\r\nHost: secure.test\r\nContent-Length: 47\r\n\r\n");
    client.send("GET /smuggled HTTP/1.1\r\nHost: found.test\r\n\r\n\r\n\r\n");
    let response = client.response("POST");
    assert_eq!((response.status(), response.head.closes()), (308, true));
    client.expect_close();
}

#[test]
fn https_redirect_of_a_cluster() {
    let backend = Backend::named("never");
    let rules = Rules {
        cluster_keys: "https_redirect = true\nhttps_redirect_port = 8443\n",
        cluster_flags: &["--https-redirect", "--https-redirect-port", "8443"],
        frontends: &[
            Rule { keys: r#"hostname = "a.test""#, flags: &["--hostname", "a.test"] },
            Rule {
                keys: r#"hostname = "b.test", redirect = "found", redirect_scheme = "use-https""#,
                flags: &["--hostname", "b.test", "--redirect", "found", "--redirect-scheme", "use-https"],
            },
        ],
        ..Rules::default()
    };
    rules.check(backend.address(), |proxy| {
        let mut client = Client::connect(proxy.address());
        let response = client.get("a.test:8080", "/x?y");
        assert_eq!(response.status(), 301);
        assert_eq!(response.field("Location"), Some("https://a.test:8443/x?y"));
        let response = client.get("b.test", "/x");
        assert_eq!((response.status(), response.field("Location")), (302, Some("https://b.test:8443/x")));
    });
}

#[test]
fn denied_is_401_and_the_connection_goes_on() {
    let backend = Backend::named("open");
    let rules = Rules {
        cluster_keys: "www_authenticate = 'Basic realm=\"c\"'\n",
        cluster_flags: &["--www-authenticate", "Basic realm=\"c\""],
        frontends: &[
            Rule { keys: r#"hostname = "a.test""#, flags: &["--hostname", "a.test"] },
            Rule {
                keys: r#"hostname = "a.test", path = "/secret", redirect = "unauthorized""#,
                flags: &["--hostname", "a.test", "--path-prefix", "/secret", "--redirect", "unauthorized"],
            },
        ],
        ..Rules::default()
    };
    rules.check(backend.address(), |proxy| {
        let mut client = Client::connect(proxy.address());
        let response = client.get("a.test", "/secret/x");
        assert_eq!(response.status(), 401);
        assert_eq!(response.field("WWW-Authenticate"), Some("Basic realm=\"c\""));
        assert_eq!(client.get("a.test", "/").text(), "open", "on the same connection");
        assert_eq!(backend.next_request().target, "/");
        // A frontend without a cluster denies, too; only the command line can say that.
        let listener = proxy.address().to_string();
        let deny = ["--address", &listener, "--hostname", "a.test", "--path-equals", "/no", "deny"];
        proxy.cli().ok(&[&["frontend", "http", "add"], deny.as_slice()].concat());
        assert_eq!(client.get("a.test", "/no").status(), 401);
        proxy.cli().ok(&[&["frontend", "http", "remove"], deny.as_slice()].concat());
        assert_eq!(client.get("a.test", "/no").text(), "open");
        assert_eq!(backend.next_request().target, "/no");
    });
}

#[test]
fn silent_close_says_nothing() {
    let backend = Backend::named("open");
    let rules = Rules {
        frontends: &[
            Rule { keys: r#"hostname = "a.test""#, flags: &["--hostname", "a.test"] },
            Rule {
                keys: r#"hostname = "a.test", path = "/wp-admin", redirect = "silent_close""#,
                flags: &["--hostname", "a.test", "--path-prefix", "/wp-admin", "--redirect", "silent_close"],
            },
        ],
        ..Rules::default()
    };
    rules.check(backend.address(), |proxy| {
        let mut client = Client::connect(proxy.address());
        assert_eq!(client.get("a.test", "/").text(), "open");
        client.send("GET /wp-admin/x HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.expect_close();
        assert_eq!(proxy.command().metric("http.silent_closes"), 1);
        assert_eq!(backend.next_request().target, "/");
        assert!(!backend.has_request(), "the cluster hears nothing of it");
    });
}

#[test]
fn a_redirect_that_is_changed_holds_from_the_next_request_on() {
    let backend = Backend::named("open");
    let proxy =
        Proxy::builder().cluster_with("c", "", &[r#"hostname = "a.test""#], &[backend.address()]).start();
    let mut command = proxy.command();
    // A frontend is named by what it matches: its policy goes with it.
    let frontend = |redirect: RedirectPolicy| RequestHttpFrontend {
        redirect: Some(redirect.into()),
        ..requests::frontend("c", proxy.address(), "a.test", "/go")
    };
    let mut client = Client::connect(proxy.address());
    assert_eq!(client.get("a.test", "/go").text(), "open");
    for redirect in [RedirectPolicy::Permanent, RedirectPolicy::Found, RedirectPolicy::PermanentRedirect] {
        command.ok(RequestType::AddHttpFrontend(frontend(redirect)));
        let status = match redirect {
            RedirectPolicy::Permanent => 301,
            RedirectPolicy::Found => 302,
            _ => 308,
        };
        assert_eq!(client.get("a.test", "/go").status(), status);
        command.ok(RequestType::RemoveHttpFrontend(frontend(redirect)));
        assert_eq!(client.get("a.test", "/go").text(), "open");
    }
}
