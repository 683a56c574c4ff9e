//! The command line as operators and scripts use it: words, tables, JSON and exit codes.

use kakehi_e2e::address::free_address;
use kakehi_e2e::http::{Backend, Client, get};
use kakehi_e2e::{Cli, Proxy};

const ADD: [&str; 6] = ["cluster", "add", "--load-balancing-policy", "round_robin", "--id", "new"];

#[test]
fn cluster_life_by_the_command_line() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().start();
    let (listener, address) = (proxy.address().to_string(), backend.address().to_string());
    let cli = proxy.cli();
    let frontend = |verb: &'static str| {
        vec![
            "frontend",
            "http",
            verb,
            "-a",
            &listener,
            "--hostname",
            "new.test",
            "--path-prefix",
            "/",
            "id",
            "new",
        ]
    };
    assert!(cli.ok(&ADD).starts_with("Success: "));
    cli.ok(&["backend", "add", "--id", "new", "--backend-id", "b1", "--address", &address]);
    cli.ok(&frontend("add"));
    assert_eq!(get(proxy.address(), "new.test", "/").text(), "hello");

    assert!(cli.ok(&["cluster", "list"]).contains("new"));
    let detail = cli.ok(&["cluster", "list", "--id", "new"]);
    assert!(detail.contains("new.test") && detail.contains(&address), "{detail}");
    assert!(cli.ok(&["cluster", "list", "--domain", "new.test"]).contains("new"));
    let frontends = cli.ok(&["frontend", "list", "--http"]);
    assert!(frontends.contains("new.test"), "{frontends}");

    let reason = cli.refused(&frontend("add"));
    assert!(reason.contains("Request failed: "), "{reason}");
    cli.ok(&frontend("remove"));
    assert_eq!(get(proxy.address(), "new.test", "/").status(), 404);
    cli.ok(&["backend", "remove", "--id", "new", "--backend-id", "b1", "--address", &address]);
    cli.ok(&["cluster", "remove", "--id", "new"]);
    let reason = cli.refused(&["cluster", "remove", "--id", "new"]);
    assert!(reason.contains("new"), "{reason}");
}

#[test]
fn listener_life_by_the_command_line() {
    let proxy = Proxy::builder().start();
    let address = free_address();
    let text = address.to_string();
    let cli = proxy.cli();
    cli.ok(&["listener", "http", "add", "-a", &text, "--front-timeout", "7"]);
    assert!(Client::try_connect(address).is_err(), "a new listener is not active");
    cli.ok(&["listener", "http", "activate", "-a", &text]);
    assert_eq!(get(address, "any.test", "/").status(), 404);
    let list = cli.ok(&["listener", "list"]);
    assert!(list.contains(&text), "{list}");
    cli.ok(&["listener", "http", "update", "-a", &text, "--back-timeout", "9"]);
    let listeners = cli.json(&["listener", "list"]);
    let shown = &listeners["LISTENERS_LIST"]["http_listeners"][&text];
    assert_eq!((&shown["front_timeout"], &shown["back_timeout"]), (&7.into(), &9.into()), "{listeners}");
    cli.ok(&["listener", "http", "deactivate", "-a", &text]);
    assert!(Client::try_connect(address).is_err());
    cli.ok(&["listener", "http", "remove", "-a", &text]);
    cli.refused(&["listener", "http", "remove", "-a", &text]);
}

#[test]
fn json_is_all_there_is_on_standard_output() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let cli = proxy.cli();
    let status = cli.json(&["status"]);
    let workers = status["WORKERS"]["vec"].as_array().expect("a list of workers");
    assert_eq!(workers.len(), 2);
    assert!(workers.iter().all(|worker| worker["run_state"] == 0), "enums are numbers: {status}");
    assert_eq!(cli.json(&ADD), serde_json::json!({}), "no content is an empty object");
    for verb in [
        &["cluster", "list"][..],
        &["cluster", "list", "--id", "a"],
        &["cluster", "list", "--domain", "a.test"],
        &["frontend", "list"],
        &["listener", "list"],
        &["state", "stats"],
    ] {
        let value = cli.json(verb);
        assert!(value.is_object(), "{verb:?}: {value}");
    }
    assert!(cli.json(&["cluster", "list", "--id", "a"])["WORKER_RESPONSES"].is_object());
    // A refusal is no JSON on standard output, and exit status 1.
    let refused = cli.run(&["--json", "cluster", "remove", "--id", "missing"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
}

#[test]
fn status_shows_every_worker() {
    let proxy = Proxy::builder().start();
    let text = proxy.cli().ok(&["status"]);
    assert_eq!(text.matches("RUNNING").count(), 2, "{text}");
    for pid in proxy.worker_pids() {
        assert!(text.contains(&pid.to_string()), "{text}");
    }
}

#[test]
fn state_is_saved_and_loaded() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let cli = proxy.cli();
    // Relative: to where the operator stands.
    cli.ok(&["state", "save", "--file", "saved"]);
    let file = proxy.directory().join("saved");
    assert!(file.is_file());
    cli.ok(&["cluster", "remove", "--id", "a"]);
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 404);
    cli.run(&["state", "load", "--file", &file.display().to_string()]);
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "hello");
    cli.refused(&["state", "load", "--file", "/nowhere/at/all"]);
}

#[test]
fn soft_shutdown_finishes_what_is_open() {
    let backend = Backend::start(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsl")?;
        exchange.body_digest()?;
        exchange.write("ow")?;
        Ok(kakehi_e2e::http::After::KeepAlive)
    });
    let mut proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let workers = proxy.worker_pids();
    let mut idle = Client::connect(proxy.address());
    idle.get("missing.test", "/");
    let mut client = Client::connect(proxy.address());
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n");
    let (_, framing) = client.try_head("POST").expect("the head comes");
    let cli = proxy.cli();
    let stopping = std::thread::spawn(move || cli.run(&["shutdown"]));
    kakehi_e2e::deadline::await_true("new connections are refused", || {
        Client::try_connect(proxy.address()).is_err()
    });
    client.send("end");
    let mut body = Vec::new();
    client.stream_body(framing, |piece| body.extend_from_slice(piece)).expect("the rest of the response");
    assert_eq!(body, b"slow");
    let output = stopping.join().expect("the verb ends");
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(proxy.await_exit().code(), Some(0));
    proxy.assert_nothing_left(&workers);
}

#[test]
fn hard_shutdown_does_not_wait() {
    let backend = Backend::hanging();
    let mut proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let workers = proxy.worker_pids();
    let mut client = Client::connect(proxy.address());
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    backend.next_request();
    proxy.cli().ok(&["shutdown", "--hard"]);
    assert_eq!(proxy.await_exit().code(), Some(0));
    client.expect_close();
    proxy.assert_nothing_left(&workers);
}

#[test]
fn proxy_that_is_not_there_is_an_error_that_helps() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("proxy.toml");
    std::fs::write(&config, "command_socket = \"nobody.sock\"\n").expect("ours");
    let said = Cli::new(Some(&config), directory.path()).refused(&["status"]);
    assert!(said.contains("nobody.sock") && said.contains("start"), "{said}");
}

#[test]
fn wrong_arguments_are_exit_status_2() {
    let directory = tempfile::tempdir().expect("a directory");
    let cli = Cli::new(None, directory.path());
    for arguments in
        [&["no-such-verb"][..], &["cluster", "add"], &["backend", "add", "--id", "a", "--address", "x"]]
    {
        let output = cli.run(arguments);
        assert_eq!(output.code, Some(2), "{arguments:?}: {output:?}");
    }
    assert_eq!(cli.run(&["--help"]).code, Some(0));
    assert!(cli.ok(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn verbs_of_later_versions_say_so() {
    let proxy = Proxy::builder().workers(1).start();
    proxy.cli().ok(&["cluster", "add", "-i", "a"]);
    for arguments in [
        &["cluster", "h2", "enable", "-i", "a"][..],
        &["frontend", "udp", "add", "-i", "a", "-a", "127.0.0.1:1"],
    ] {
        let output = proxy.cli().run(arguments);
        assert_ne!(output.code, Some(0), "{arguments:?}");
        assert!(output.stderr.contains("not served yet"), "{arguments:?}: {output:?}");
    }
}

#[test]
fn silent_proxy_is_given_up_on() {
    let proxy = Proxy::builder().workers(1).start();
    proxy.signal(nix::sys::signal::Signal::SIGSTOP);
    let output = proxy.cli().run(&["--timeout", "300", "status"]);
    proxy.signal(nix::sys::signal::Signal::SIGCONT);
    assert_eq!(output.code, Some(1), "{output:?}");
    proxy.cli().ok(&["status"]);
}
