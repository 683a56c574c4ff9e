//! What is done with requests: redirects, rewrites, fields, users, answers; and whom listeners trust.

use super::*;
use crate::order::{HeaderMatch, RedirectScheme, TraceContext};

fn config(text: &str) -> Config {
    let config = parse_text(text, &file()).expect("accepted");
    assert_applies(&config);
    assert_eq!(config.warnings, [], "for\n{text}");
    config
}

/// The listener of a file that is nothing but `keys` for it.
fn listener_of(keys: &str) -> std::sync::Arc<crate::order::HttpListener> {
    match config(&http_listener(keys)).orders.swap_remove(0) {
        Order::AddHttpListener(listener) => listener,
        other => panic!("{other:?}"),
    }
}

fn frontend_of(keys: &str) -> std::sync::Arc<crate::order::HttpFrontend> {
    let order = config(&app(keys, "")).orders.into_iter().find_map(|order| match order {
        Order::AddHttpFrontend(frontend) => Some(frontend),
        _ => None,
    });
    order.expect("a frontend")
}

fn cluster_of(keys: &str) -> std::sync::Arc<crate::order::Cluster> {
    let order = config(&app_cluster(keys)).orders.into_iter().find_map(|order| match order {
        Order::AddCluster(cluster) => Some(cluster),
        _ => None,
    });
    order.expect("a cluster")
}

/// Each text is refused for this reason alone.
fn check_refused(text: &str, expected: &str) {
    let errors = parse_text(text, &file()).expect_err("refused");
    assert_eq!(errors.errors.len(), 1, "{errors}");
    assert!(errors.to_string().contains(expected), "{errors}");
}

#[test]
fn a_frontend_redirects_in_any_spelling() {
    for (text, status) in [
        ("forward", None),
        ("permanent", Some(301)),
        ("FOUND", Some(302)),
        ("permanent-redirect", Some(308)),
        ("Permanent_Redirect", Some(308)),
        ("unauthorized", None),
        ("SILENT-CLOSE", None),
    ] {
        assert_eq!(frontend_of(&format!("redirect = \"{text}\"")).redirect().status(), status, "{text}");
    }
    check_refused(&app("redirect = \"301\"", ""), "\"301\" is not one of");
}

#[test]
fn a_frontend_has_the_policy_of_its_keys() {
    let frontend = frontend_of(
        r#"
        path = "/api"
        redirect = "found"
        redirect_scheme = "USE_HTTPS"
        redirect_template = "HTTP/1.1 302 Go\r\nLocation: %REDIRECT_LOCATION\r\n\r\n"
        rewrite_host = "b.test"
        rewrite_path = "/v2$PATH[1]"
        rewrite_port = 8443
        required_auth = true
        headers = [{ position = "both", key = "X-A", value = "" }, { position = "response", key = "X-B", value = "b" }]
        header_predicates = [{ name = "X-C", match = "present" }, { name = "X-B", match = "regex", value = "a|b" }]
        "#,
    );
    let policy = frontend.policy().expect("one");
    assert_eq!(policy.redirect_scheme(), RedirectScheme::UseHttps);
    assert_eq!(policy.redirect_template().expect("one").status(), 302);
    assert_eq!(policy.rewrite_host().expect("one").to_string(), "b.test");
    assert_eq!(policy.rewrite_path().expect("one").parts().len(), 2);
    assert_eq!((policy.rewrite_port(), policy.required_auth()), (Some(8443), true));
    let edits: Vec<_> = policy.header_edits().iter().map(|it| (&*it.name, it.request, it.response)).collect();
    assert_eq!(edits, [("X-A", true, true), ("X-B", false, true)]);
    let predicates: Vec<_> =
        frontend.header_predicates().iter().map(|it| (it.name(), it.matcher().clone())).collect();
    assert_eq!(predicates, [("x-b", HeaderMatch::Regex("a|b".into())), ("x-c", HeaderMatch::Present)]);
}

#[test]
fn frontends_may_differ_in_their_predicates_alone() {
    let canary = "[[clusters.app.frontends]]\naddress = \"127.0.0.1:80\"\nhostname = \"a.test\"\n\
                  header_predicates = [{ name = \"x\", match = \"present\" }]";
    let config = config(&app(canary, ""));
    let frontends = config.orders.iter().filter(|order| matches!(order, Order::AddHttpFrontend(_)));
    assert_eq!(frontends.count(), 2);
}

#[test]
fn what_a_policy_lacks_is_told_where_it_is() {
    check(
        &app("headers = [{ key = \"A\" }]\nheader_predicates = [{ value = \"a\" }]", ""),
        &[
            "error 6: clusters.app.frontends[0].headers[0].position: is required",
            "error 6: clusters.app.frontends[0].headers[0].value: is required",
            "error 7: clusters.app.frontends[0].header_predicates[0].name: is required",
            "error 7: clusters.app.frontends[0].header_predicates[0].match: is required",
        ],
    );
    check(
        &app("headers = [{ position = \"both\", key = \"Host\", value = \"a\" }]", ""),
        &[
            "error 6: clusters.app.frontends[0].headers: `Host` cannot be edited: it frames the message, or is \
           for one hop only",
        ],
    );
    check(
        &app("rewrite_path = \"/$PATH[2]\"", ""),
        &["error 6: clusters.app.frontends[0].rewrite_path: `/$PATH[2]` has $PATH[2]: there is one capture \
           beyond [0]"],
    );
    check_refused(&app("rewrite_port = 0", ""), "rewrite_port: 0 is out of range");
    check_refused(
        &app("header_predicates = [{ name = \"x\", match = \"exact\" }]", ""),
        "header_predicates: `x` has no value to compare with",
    );
}

#[test]
fn answers_are_texts_or_files() {
    let listener = listener_of(
        r#"
        answer_404 = "404.http"
        answers = { "503" = "HTTP/1.1 503 Inline\n\n", "404" = "", "431" = "file://404.http" }
        "#,
    );
    let reason = |status| listener.answer(status).map(|template| template.reason().to_owned());
    assert_eq!(reason(404).as_deref(), Some("Not Here"));
    assert_eq!(reason(503).as_deref(), Some("Inline"));
    assert_eq!((reason(431).as_deref(), reason(500)), (Some("Not Here"), None));

    let cluster = cluster_of("answer_503 = \"404.http\"\nanswers = { \"502\" = \"file://404.http\" }");
    assert!(cluster.answer(503).is_some() && cluster.answer(502).is_some() && cluster.answer(404).is_none());
}

#[test]
fn answers_that_cannot_be_had_are_told() {
    check(
        &http_listener(
            "answer_503 = \"nowhere.http\"\nanswer_502 = \"bad.http\"\nanswers = { \"404\" = \"file://gone\" }",
        ),
        &[
            "error 4: listeners[0].answer_503: \"nowhere.http\" cannot be read: no such file",
            "error 5: listeners[0].answer_502: has no empty line after its head",
            "error 6: listeners[0].answers.404: \"gone\" cannot be read: no such file",
        ],
    );
    check(
        &http_listener("answers = { \"404\" = \"Gone\" }"),
        &["error 4: listeners[0].answers: `404` has no empty line after its head"],
    );
    let outcome = outcome(&app_cluster("answer_503 = \"nowhere.http\""));
    assert_eq!(
        outcome[0],
        "warning 3: clusters.app.answer_503: \"nowhere.http\" cannot be read: no such file: the listener's answer is sent"
    );
}

#[test]
fn files_of_answers_are_read_where_the_program_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let answer = directory.path().join("404.http");
    std::fs::write(&answer, "HTTP/1.1 404 Read\n\n").expect("written");
    let path = directory.path().join("k.toml");
    let text = |name: &Path| http_listener(&format!("answer_404 = {name:?}"));
    std::fs::write(&path, text(&answer)).expect("written");
    let config = load(&path).expect("accepted");
    let Some(Order::AddHttpListener(listener)) = config.orders.first() else { panic!("no listener") };
    assert_eq!(listener.answer(404).expect("read").reason(), "Read");

    // A name alone is not looked for beside the configuration, as Sōzu does not either.
    std::fs::write(&path, text(Path::new("404.http"))).expect("written");
    assert!(load(&path).expect_err("elsewhere").to_string().contains("\"404.http\" cannot be read"));
    assert!(load_settings(&path).is_ok(), "clients have no use for answers");

    std::fs::write(&path, text(directory.path())).expect("written");
    assert!(load(&path).expect_err("a directory").to_string().contains("it is not a regular file"));
    std::fs::write(&answer, "x".repeat(100_000)).expect("written");
    std::fs::write(&path, text(&answer)).expect("written");
    assert!(load(&path).expect_err("too long").to_string().contains("is longer than 65536 bytes"));
}

#[test]
fn a_listener_has_the_limits_of_its_keys() {
    let listener = listener_of(
        "trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\ntrace_context = \"make\"\ntunnel_timeout = 5\n\
         max_request_line = 300\nmax_body_bytes = 10\nmin_transfer_rate = 0",
    );
    assert!(listener.trusted_proxies().contains([10, 0, 0, 1].into()));
    assert_eq!(listener.trace_context(), TraceContext::Make);
    assert_eq!(listener.tunnel_timeout(), Duration::from_secs(5));
    assert_eq!((listener.max_request_line(), listener.max_body_bytes()), (300, Some(10)));
    assert_eq!(listener.min_transfer_rate(), None);
    check(
        &http_listener("trusted_proxies = [\"10.0.0.1/8\"]"),
        &["error 4: listeners[0].trusted_proxies: `10.0.0.1/8` has bits beyond its prefix: the network is \
           10.0.0.0/8"],
    );
}

#[test]
fn users_have_hashes() {
    let hash = "5e".repeat(32);
    let cluster = cluster_of(&format!("authorized_hashes = [\"ada:{hash}\"]\nwww_authenticate = \"Basic\""));
    assert_eq!((cluster.credentials().len(), cluster.www_authenticate()), (1, Some("Basic")));
    check_refused(
        &app_cluster("authorized_hashes = [\"ada:secret\"]"),
        "clusters.app.authorized_hashes: `ada` is not followed by",
    );
}

#[test]
fn limits_of_a_worker_are_those_of_the_file() {
    let limits = |text: &str| {
        let limits = config(text).limits();
        (limits.splice_pipe_bytes, limits.splice_pipes_max, limits.basic_auth_bytes_max)
    };
    assert_eq!(limits(""), (1_048_576, 256, 4096));
    let text =
        "splice_pipe_capacity_bytes = 65536\nmax_splice_pipes = 0\nbasic_auth_max_credential_bytes = 512";
    assert_eq!(limits(text), (65_536, 0, 512));
    assert_eq!(limits("basic_auth_max_credential_bytes = 0"), (1_048_576, 256, 4096));
    check(
        "buffer_size = 4096\nbasic_auth_max_credential_bytes = 1365",
        &[
            "warning 2: basic_auth_max_credential_bytes: 1365 is a third of buffer_size (4096) or more: heads \
           that hold as much may not fit",
        ],
    );
    check_refused("splice_pipe_capacity_bytes = 0", "0 is out of range: 4096 to");
}
