//! Every verb of Sōzu's command line against Kakehi, and that traffic follows.
//!
//! By our own program, called as `sozu`; and, where `SOZU_BIN` names it, by the command line of the real one:
//! `cargo install sozu --version 2.3.3 --root /tmp/sozu`, then `SOZU_BIN=/tmp/sozu/bin/sozu cargo test -p kakehi-e2e --test
//! cli_verbs -- --ignored`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::http::{Backend, Client, get};
use kakehi_e2e::tcp::{TcpBackend, TcpClient};
use kakehi_e2e::tls::{Authority, Issued};
use kakehi_e2e::{Cli, CliOutput, Proxy, kakehi_binary};

#[test]
fn our_own_program_called_as_sozu_in_words() {
    let (_link, program) = link();
    every_verb(&program, false);
}

#[test]
fn our_own_program_called_as_sozu_in_json() {
    let (_link, program) = link();
    every_verb(&program, true);
}

#[test]
#[ignore = "needs the real command line: SOZU_BIN"]
fn the_real_command_line_in_words() {
    every_verb(&real(), false);
}

#[test]
#[ignore = "needs the real command line: SOZU_BIN"]
fn the_real_command_line_in_json() {
    every_verb(&real(), true);
}

/// What scripts parse is the same, byte for byte.
#[test]
#[ignore = "needs the real command line: SOZU_BIN"]
fn our_json_is_that_of_the_real_command_line() {
    let (_link, ours) = link();
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let [ours, real] = [ours, real()].map(|program| Verbs { cli: proxy.cli().by(&program), json: true });
    let (https, authority) = (free_address(), Authority::default());
    write_pem(&proxy, "old", &authority.issue(&["tls.test"]), &authority);
    ours.ok(&format!("listener https add -a {https}"));
    ours.ok(&format!("listener https activate -a {https}"));
    ours.ok(&format!(
        "certificate add -a {https} --certificate old.pem --certificate-chain old.chain --key old.key"
    ));
    ours.ok("cluster health-check set --id a --mode tcp --interval 60");
    for command in [
        "status",
        "cluster list",
        "cluster list --id a",
        "cluster list --domain a.test",
        "cluster tags --id a",
        "cluster health-check list",
        "cluster close-sessions --id a",
        "cluster add --id b --load-balancing-policy hrw",
        "frontend list",
        "listener list",
        "certificate list --workers",
        "certificate list --domain tls.test",
        "connection-limit show",
        "subnet-connection-limit show",
        "logging info",
    ] {
        assert_eq!(ours.ok(command), real.ok(command), "{command}");
    }
}

fn link() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("sozu");
    symlink(kakehi_binary(), &program).expect("a fresh link");
    (directory, program)
}

fn real() -> PathBuf {
    PathBuf::from(std::env::var_os("SOZU_BIN").expect("SOZU_BIN names the real command line"))
}

/// One program in one of its two forms of output.
struct Verbs {
    cli: Cli,
    json: bool,
}

impl Verbs {
    fn run(&self, command: &str) -> CliOutput {
        let form = self.json.then_some("--json");
        self.cli.run(&form.into_iter().chain(command.split_whitespace()).collect::<Vec<_>>())
    }

    /// A verb that changes something, or tells something that is not looked at.
    fn ok(&self, command: &str) -> String {
        let output = self.run(command);
        assert_eq!(output.code, Some(0), "{command}: {output:#?}");
        if self.json {
            let value = serde_json::from_str::<serde_json::Value>(&output.stdout);
            assert!(value.is_ok(), "{command}: {value:?}: {output:#?}");
        }
        output.stdout
    }

    /// A verb that says what contains this.
    fn tells(&self, command: &str, text: &str) {
        let told = self.ok(command);
        assert!(told.contains(text), "{command}: no {text} in\n{told}");
    }

    /// A verb that is refused with words that contain this.
    fn refused(&self, command: &str, reason: &str) {
        let output = self.run(command);
        assert_eq!(output.code, Some(1), "{command}: {output:#?}");
        let told = format!("{}{}", output.stdout, output.stderr);
        assert!(told.contains(reason), "{command}: no {reason} in\n{told}");
    }
}

fn every_verb(program: &Path, json: bool) {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().start();
    let verbs = Verbs { cli: proxy.cli().by(program), json };
    let at = proxy.address();
    processes(&verbs, &proxy);
    clusters(&verbs, at, &backend);
    health_checks(&verbs);
    http(&verbs, &backend);
    tls(&verbs, &proxy, &backend);
    tcp(&verbs);
    udp(&verbs);
    limits(&verbs);
    metrics(&verbs, at);
    events(&verbs);
    state(&verbs, &proxy, at);
    stop(&verbs, proxy);
}

fn processes(verbs: &Verbs, proxy: &Proxy) {
    for worker in proxy.worker_pids() {
        verbs.tells("status", &worker.to_string());
    }
    verbs.ok("logging debug");
    verbs.ok("logging info");
    let checked = verbs.run("config check");
    assert_eq!(checked.code, Some(0), "{checked:#?}");
    let version = verbs.run("--version");
    assert!(version.stdout.starts_with("sozu ") && version.stdout.contains("-tui"), "{version:#?}");
    for command in ["upgrade --worker 0", "upgrade"] {
        let before = proxy.worker_pids();
        // The real one prints `upgrade` as words, `--json` or not.
        let output = verbs.run(command);
        assert_eq!(output.code, Some(0), "{command}: {output:#?}");
        let serving: Vec<_> = proxy.workers().into_iter().filter(|worker| worker.run_state == 0).collect();
        assert_eq!(serving.len(), 2, "{command}: {output:#?}");
        let is_new = |pid: i32| !before.iter().any(|old| i64::from(*old) == i64::from(pid));
        assert!(serving.iter().any(|worker| is_new(worker.pid)), "{command}: {serving:?}");
    }
}

fn clusters(verbs: &Verbs, at: SocketAddr, backend: &Backend) {
    let to = backend.address();
    verbs.ok("cluster add --id app --load-balancing-policy ROUND_ROBIN --sticky-session --max-connection-attempts 3");
    verbs.ok(&format!("backend add --id app --backend-id b1 --address {to} --backup false --sticky-id one"));
    verbs.ok(&format!(
        "frontend http add -a {at} --hostname app.test --path-prefix / --tags owner=ada,tier=1 id app"
    ));
    assert_eq!(get(at, "app.test", "/").text(), "hello");
    verbs.ok(&format!("frontend http add -a {at} --host denied.test --path-equals /x -m POST deny"));
    assert_eq!(get(at, "denied.test", "/x").status(), 404, "another method");
    verbs.ok(&format!(
        "frontend http add -a {at} --hostname moved.test --path-regex ^/[a-z]+$ --redirect permanent --redirect-scheme \
         use-https --header response=x-a=b --match-header present=x-c --required-auth id app"
    ));

    verbs.tells("cluster list", "app");
    verbs.tells("cluster list --id app", "app.test");
    verbs.tells("cluster list --domain app.test", "app.test");
    verbs.tells("frontend list", "denied.test");
    verbs.tells("frontend list --http", "app.test");
    verbs.tells("frontend list --domain moved", "moved.test");
    verbs.tells("frontend list --cluster-id app", "owner");
    for kind in ["--https", "--tcp"] {
        assert!(!verbs.ok(&format!("frontend list {kind}")).contains("app.test"), "{kind}");
    }
    verbs.tells("cluster tags --id app", "owner");

    verbs.ok("cluster connection-attempts set --id app 7");
    verbs.ok("cluster h2 disable --id app");
    verbs.refused("cluster h2 enable --id app", "not served yet");
    verbs.ok("cluster connection-attempts unset --id app");
    // What was not meant is as it was.
    assert!(get(at, "app.test", "/").field("set-cookie").is_some(), "still sticky");
    verbs.ok("cluster close-sessions --id app");
    verbs.ok(&format!("cluster close-sessions --id app --backend-id b1 --address {to}"));
    assert_eq!(get(at, "app.test", "/").text(), "hello");

    verbs.ok(&format!(
        "frontend http remove -a {at} --hostname moved.test --path-regex ^/[a-z]+$ --match-header present=x-c id app"
    ));
    verbs.ok(&format!("frontend http remove -a {at} --hostname denied.test --path-equals /x -m POST deny"));
    verbs.refused(
        &format!("frontend http remove -a {at} --hostname denied.test --path-equals /x -m POST deny"),
        "denied.test",
    );
    verbs.refused("cluster remove --id missing", "missing");
    assert_eq!(verbs.run("cluster add").code, Some(2));
}

fn health_checks(verbs: &Verbs) {
    verbs.ok(
        "cluster health-check set --id app --mode tcp --interval 60 --probe-timeout 2 --healthy-threshold 1",
    );
    verbs.ok(
        "cluster health-check set --id app --uri /up --interval 60 --unhealthy-threshold 9 --expected-status 200",
    );
    verbs.tells("cluster health-check list", "/up");
    verbs.tells("cluster health-check list --id app", "/up");
    // The check is a setting of the cluster that another verb leaves alone.
    verbs.ok("cluster connection-attempts set --id app 2");
    verbs.tells("cluster health-check list", "/up");
    verbs.ok("cluster health-check remove --id app");
    assert!(!verbs.ok("cluster health-check list").contains("/up"));
}

fn http(verbs: &Verbs, backend: &Backend) {
    let at = free_address();
    verbs.ok(&format!(
        "listener http add -a {at} --front-timeout 7 --back-timeout 8 --request-timeout 9 --connect-timeout 2 \
         --sticky-name S --forwarded-headers rfc7239"
    ));
    assert!(Client::try_connect(at).is_err(), "a new listener is not active");
    verbs.ok(&format!("listener http activate -a {at}"));
    verbs.ok("cluster add -i two --load-balancing-policy least_loaded");
    verbs.ok(&format!("backend add -i two --backend-id b -a {}", backend.address()));
    verbs.ok(&format!("frontend http add -a {at} --hostname two.test id two"));
    assert_eq!(get(at, "two.test", "/any").text(), "hello");
    // The real one writes addresses in words as it holds them.
    verbs.tells("listener list", &at.port().to_string());
    verbs.ok(&format!(
        "listener http update -a {at} --front-timeout 17 --sozu-id-header X-Id --sticky-name T --h2-max-concurrent-streams \
         10 --h2-max-rst-stream-per-window 20 --no-expect-proxy"
    ));
    verbs.tells("listener list", "17");
    assert_eq!(get(at, "two.test", "/any").text(), "hello");
    verbs.ok(&format!("listener http deactivate -a {at}"));
    assert!(Client::try_connect(at).is_err());
    verbs.ok(&format!("listener http remove -a {at}"));
    verbs.ok(&format!("backend remove -i two --backend-id b -a {}", backend.address()));
    verbs.ok("cluster remove -i two");
}

/// Writes a certificate and its key into the proxy's directory, where paths start.
fn write_pem(proxy: &Proxy, name: &str, issued: &Issued, authority: &Authority) {
    for (suffix, text) in [("pem", &issued.certificate), ("key", &issued.key), ("chain", &authority.pem)] {
        fs::write(proxy.directory().join(format!("{name}.{suffix}")), text).expect("a directory of ours");
    }
}

fn tls(verbs: &Verbs, proxy: &Proxy, backend: &Backend) {
    let (at, authority) = (free_address(), Authority::default());
    let (old, new) = (authority.issue(&["tls.test"]), authority.issue(&["tls.test"]));
    write_pem(proxy, "old", &old, &authority);
    write_pem(proxy, "new", &new, &authority);
    let files = |name: &str, prefix: &str| {
        format!(
            "--{prefix}certificate {name}.pem --{prefix}certificate-chain {name}.chain --{prefix}key {name}.key"
        )
    };
    let served = || {
        let mut client = authority.client().connect(at, "tls.test").expect("a handshake");
        assert_eq!(client.get("tls.test", "/").expect("an answer").text(), "hello");
        client.served().to_vec()
    };
    verbs.ok(&format!("listener https add -a {at} --tls-versions TLS_V12 --tls-versions TLS_V13"));
    verbs.ok(&format!("listener https activate -a {at}"));
    verbs.ok(&format!("certificate add -a {at} {}", files("old", "")));
    verbs.ok("cluster add -i tls --load-balancing-policy random");
    verbs.ok(&format!("backend add -i tls --backend-id b -a {}", backend.address()));
    verbs.ok(&format!("frontend https add -a {at} --hostname tls.test --hsts-max-age 60 id tls"));
    assert_eq!(served(), old.der.to_vec());

    verbs.tells("certificate list", &old.fingerprint());
    verbs.tells("certificate list --domain tls.test", &old.fingerprint());
    verbs.tells(&format!("certificate list --fingerprint {}", old.fingerprint()), &old.fingerprint());
    verbs.tells("certificate list --workers", &old.fingerprint());
    verbs.tells("certificate list --workers --domain tls.test", &old.fingerprint());
    verbs.ok(&format!("certificate list --workers --fingerprint {}", old.fingerprint()));
    let unknown = verbs.run(&format!("certificate list --workers --fingerprint {}", new.fingerprint()));
    assert_eq!(unknown.code, Some(1), "no worker has it: {unknown:#?}");
    verbs.ok(&format!("certificate replace -a {at} {} --old-cert old.pem", files("new", "new-")));
    assert_eq!(served(), new.der.to_vec());
    verbs.ok(&format!(
        "certificate replace -a {at} {} --fingerprint {}",
        files("old", "new-"),
        new.fingerprint()
    ));
    assert_eq!(served(), old.der.to_vec());

    verbs.ok(&format!(
        "listener https update -a {at} --front-timeout 11 --no-strict-sni-binding --hsts-max-age 5 --h2-max-header-fields 5"
    ));
    verbs.ok(&format!("listener https update -a {at} --alpn-protocols http/1.1"));
    verbs.ok(&format!("listener https update -a {at} --reset-alpn"));
    verbs.tells("frontend list --https", "tls.test");
    assert_eq!(served(), old.der.to_vec());
    verbs.ok(&format!("frontend https remove -a {at} --hostname tls.test id tls"));
    verbs.ok(&format!("certificate remove -a {at} --cert old.pem"));
    verbs.ok(&format!("certificate add -a {at} {}", files("new", "")));
    verbs.ok(&format!("certificate remove -a {at} --fingerprint {}", new.fingerprint()));
    verbs.ok(&format!("listener https deactivate -a {at}"));
    verbs.ok(&format!("listener https remove -a {at}"));
    verbs.ok("cluster remove -i tls");
}

fn tcp(verbs: &Verbs) {
    let (at, echo) = (free_address(), TcpBackend::echo("echo"));
    verbs.ok(&format!("listener tcp add -a {at} --sni-preread-timeout 3 --sni-preread-max-bytes 4096"));
    verbs.ok("cluster add -i mail --load-balancing-policy power_of_two");
    verbs.ok(&format!("backend add -i mail --backend-id b -a {}", echo.address()));
    verbs.ok(&format!("frontend tcp add -i mail -a {at} --tags owner=ada"));
    verbs.ok(&format!("listener tcp activate -a {at}"));
    TcpClient::connect(at).hears("echo");
    verbs
        .ok(&format!("listener tcp update -a {at} --front-timeout 12 --back-timeout 13 --connect-timeout 4"));
    verbs.tells("frontend list --tcp", "mail");
    TcpClient::connect(at).hears("echo");
    verbs.ok(&format!("frontend tcp remove -i mail -a {at}"));
    verbs.ok(&format!("frontend tcp add -i mail -a {at} --sni mail.test --alpn imap"));
    verbs.ok(&format!("frontend tcp remove -i mail -a {at} --sni mail.test --alpn imap"));
    verbs.ok(&format!("listener tcp deactivate -a {at}"));
    verbs.ok(&format!("listener tcp remove -a {at}"));
    verbs.ok("cluster remove -i mail");
}

fn udp(verbs: &Verbs) {
    let at = free_address();
    for command in [
        "listener udp add -a AT --max-flows 9 --max-rx-datagram-size 1400",
        "listener udp update -a AT --max-flows 8",
        "listener udp activate -a AT",
        "listener udp deactivate -a AT",
        "listener udp remove -a AT",
        "frontend udp add -i app -a AT --tags owner=ada",
        "frontend udp remove -i app -a AT",
    ] {
        verbs.refused(&command.replace("AT", &at.to_string()), "not served yet");
    }
}

fn limits(verbs: &Verbs) {
    for noun in ["connection-limit", "subnet-connection-limit"] {
        verbs.ok(&format!("{noun} set 100"));
        verbs.ok(&format!("{noun} show"));
        verbs.ok(&format!("{noun} remove"));
    }
    verbs.ok("connection-attempts set 4");
}

fn metrics(verbs: &Verbs, at: SocketAddr) {
    assert_eq!(get(at, "app.test", "/").text(), "hello");
    verbs.ok("metrics enable");
    // What it prints is not JSON alone: the real one moves the cursor.
    for command in [
        "metrics get",
        "metrics get --list",
        "metrics get --names http.requests",
        "metrics get --no-clusters",
        "metrics get --workers",
        "metrics get --clusters app",
        "metrics get --backends b1",
    ] {
        let output = verbs.run(command);
        assert_eq!(output.code, Some(0), "{command}: {output:#?}");
        assert!(!output.stdout.is_empty() && !output.stdout.contains("Failure"), "{command}: {output:#?}");
    }
    verbs.ok("metrics clear");
    verbs.ok("metrics disable");
    verbs.ok("metrics enable");
}

fn events(verbs: &Verbs) {
    // The real one prints events by its logger, which `--json` switches off.
    if verbs.json {
        return;
    }
    let file = tempfile::NamedTempFile::new().expect("a file for the output");
    let mut child = verbs
        .cli
        .command()
        .arg("events")
        .stdout(file.reopen().expect("the same file"))
        .stderr(file.reopen().expect("the same file"))
        .spawn()
        .expect("the program runs");
    let gone = format!("--id app --backend-id gone --address {}", free_address());
    await_true("an event is shown", || {
        // The first of them may come before the subscription.
        verbs.ok(&format!("backend add {gone}"));
        verbs.ok(&format!("backend remove {gone}"));
        let told = fs::read_to_string(file.path()).unwrap_or_default();
        told.to_lowercase().contains("removed")
    });
    child.kill().expect("our own child");
    child.wait().expect("our own child");
}

fn state(verbs: &Verbs, proxy: &Proxy, at: SocketAddr) {
    verbs.ok("state stats");
    verbs.ok("state save --file saved.json");
    assert!(proxy.directory().join("saved.json").is_file());
    verbs.ok("cluster remove --id app");
    assert_eq!(get(at, "app.test", "/").status(), 404);
    // Records that are there already may be refused; what is missing comes back.
    let loaded = verbs.run(&format!("state load --file {}", proxy.directory().join("saved.json").display()));
    assert!(matches!(loaded.code, Some(0 | 1)), "{loaded:#?}");
    assert_eq!(get(at, "app.test", "/").text(), "hello");
    verbs.refused("state load --file /nowhere/at/all", "nowhere");
    verbs.refused("reload --file /nowhere/at/all", "nowhere");
    verbs.ok("reload");
}

fn stop(verbs: &Verbs, mut proxy: Proxy) {
    let workers = proxy.worker_pids();
    let output = verbs.run(if verbs.json { "shutdown --hard" } else { "shutdown" });
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert_eq!(proxy.await_exit().code(), Some(0));
    proxy.assert_nothing_left(&workers);
}
