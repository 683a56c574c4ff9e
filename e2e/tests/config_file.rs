//! A config file in Sōzu's format: what it says is what runs, and what is not served is said.

use std::fs;

use kakehi_e2e::http::{Backend, get};
use kakehi_e2e::{Cli, CliOutput, Proxy};

/// `config check` on a text.
fn check(text: &str) -> CliOutput {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("proxy.toml");
    fs::write(&config, text).expect("a fresh directory");
    Cli::new(Some(&config), directory.path()).run(&["config", "check"])
}

#[test]
fn file_with_all_kinds_of_routes_is_served() {
    let (web, api) = (Backend::named("web"), Backend::named("api"));
    let builder = Proxy::builder();
    let listener = builder.address();
    let proxy = builder
        .tables(&format!(
            r#"
[clusters.web]
protocol = "http"
load_balancing = "ROUND_ROBIN"
frontends = [
  {{ address = "{listener}", hostname = "site.test" }},
  {{ address = "{listener}", hostname = "*.site.test", tags = {{ owner = "team" }} }},
]
backends = [{{ address = "{web}", backend_id = "web-1", weight = 50 }}]

[clusters.api]
protocol = "http"
[[clusters.api.frontends]]
address = "{listener}"
hostname = "site.test"
path = "/api"
[[clusters.api.frontends]]
address = "{listener}"
hostname = "site.test"
path = "/exact"
path_type = "EQUALS"
method = "GET"
[[clusters.api.backends]]
address = "{api}"
"#,
            web = web.address(),
            api = api.address()
        ))
        .start();
    // The longest path wins, whatever the order of the file: left-out positions are TREE.
    for (host, path, expected) in [
        ("site.test", "/", "web"),
        ("www.site.test", "/api", "web"),
        ("site.test", "/api/v1", "api"),
        ("site.test", "/exact", "api"),
        ("site.test", "/exact/not", "web"),
    ] {
        assert_eq!(get(listener, host, path).text(), expected, "{host}{path}");
    }
    proxy.stop();
}

#[test]
fn frontend_makes_the_listener_it_names() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().without_listener().cluster("a", "a.test", &[backend.address()]).start();
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "hello");
}

#[test]
fn listeners_can_be_left_inactive() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .setting("activate_listeners = false")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    assert!(kakehi_e2e::http::Client::try_connect(proxy.address()).is_err());
    proxy.command().ok(kakehi_e2e::requests::activate_listener(proxy.address()));
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "hello");
}

#[test]
fn backend_names_are_resolved() {
    let backend = Backend::named("hello");
    let builder = Proxy::builder();
    let tables = format!(
        "[clusters.a]\nprotocol = \"http\"\nfrontends = [{{ address = \"{}\", hostname = \"a.test\" }}]\n\
         backends = [{{ address = \"localhost:{}\" }}]\n",
        builder.address(),
        backend.address().port()
    );
    let proxy = builder.workers(1).tables(&tables).start();
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "hello");
    drop(proxy);
    let text = tables.replace("localhost", "no-such-host.invalid");
    let output = check(&text);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("no-such-host.invalid"), "{output:?}");
}

#[test]
fn worker_count_is_what_runs() {
    for count in [1, 3] {
        let proxy = Proxy::builder().workers(count).start();
        assert_eq!(proxy.workers().len(), count);
        assert_eq!(kakehi_e2e::process::children(proxy.main_pid()).len(), count);
    }
}

#[test]
fn pid_file_is_written() {
    let proxy = Proxy::builder().setting("pid_file_path = \"proxy.pid\"").start();
    let path = proxy.directory().join("proxy.pid");
    let pid = fs::read_to_string(&path).expect("written at start");
    assert_eq!(pid.trim(), proxy.main_pid().to_string());
}

#[test]
fn unknown_keys_are_named_with_a_suggestion() {
    let output = check(
        "worker_cuont = 1\n[[listeners]]\nprotocol = \"http\"\naddress = \"127.0.0.1:1\"\nfront_timeuot = 3\n",
    );
    assert_eq!(output.code, Some(0), "a warning, not an error: {output:?}");
    let said = format!("{}{}", output.stdout, output.stderr);
    for expected in
        ["proxy.toml:1", "worker_cuont", "worker_count", "proxy.toml:5", "front_timeuot", "front_timeout"]
    {
        assert!(said.contains(expected), "{expected} is missing: {said}");
    }
}

#[test]
fn what_is_not_served_yet_is_said() {
    let listener = "[[listeners]]\nprotocol = \"http\"\naddress = \"127.0.0.1:1\"\n";
    let cluster = |frontend: &str, cluster: &str| {
        format!(
            "{listener}[clusters.a]\nprotocol = \"http\"\n{cluster}\n\
             frontends = [{{ address = \"127.0.0.1:1\", hostname = \"a.test\"{frontend} }}]\n\
             backends = [{{ address = \"127.0.0.1:2\" }}]\n"
        )
    };
    for (text, key) in [
        ("[[listeners]]\nprotocol = \"udp\"\naddress = \"127.0.0.1:1\"\n".to_owned(), "udp"),
        (cluster("", "http2 = true"), "http2"),
    ] {
        let output = check(&text);
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(said.contains("not served yet") && said.contains(key), "{key}: {said}");
    }
}

#[test]
fn unsafe_omissions_are_errors() {
    // Backends that speak HTTP/2 would be spoken to in HTTP/1.1.
    let output = check(
        "[[listeners]]\nprotocol = \"http\"\naddress = \"127.0.0.1:1\"\n\
         [clusters.a]\nprotocol = \"http\"\nhttp2 = true\nbackends = []\n\
         frontends = [{ address = \"127.0.0.1:1\", hostname = \"a.test\" }]\n",
    );
    assert_eq!(output.code, Some(1), "{output:?}");
}

#[test]
fn embedded_file_is_a_valid_file() {
    let output = check(include_str!("../../config.toml"));
    assert_eq!(output.code, Some(0), "{output:?}");
    // One warning: the demo backend is the embedded file's alone.
    assert_eq!(output.stderr.matches("warning:").count(), 1, "{}", output.stderr);
    assert!(output.stderr.contains("clusters.hello.backends[0].address"), "{}", output.stderr);
}
