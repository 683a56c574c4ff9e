//! Every verb against a canned proxy: what it asks, what it prints, and its exit status, as golden files.

use std::fs;
use std::process::Output;

use kakehi_command::proto::{EventKind, Request, Response};

use crate::fake_proxy::{FakeProxy, Then};
use crate::responses as canned;
use crate::support::{check_golden, check_no_stale_golden, run};

/// One run of the program.
struct Case {
    file: &'static str,
    command: &'static str,
    responses: Vec<Response>,
    then: Then,
}

fn case(file: &'static str, command: &'static str, response: Response) -> Case {
    Case { file, command, responses: vec![response], then: Then::Wait }
}

/// A verb whose answer is not the point.
fn plain(file: &'static str, command: &'static str) -> Case {
    case(file, command, canned::ok("Successfully applied request to all workers"))
}

fn cases() -> Vec<Case> {
    [
        process_cases(),
        cluster_cases(),
        frontend_cases(),
        listener_cases(),
        https_cases(),
        tcp_cases(),
        udp_cases(),
        certificate_cases(),
        metrics_cases(),
        trouble_cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn process_cases() -> Vec<Case> {
    let events = || {
        vec![
            canned::event("main", EventKind::EventsSubscribed, None),
            canned::event("0", EventKind::BackendDown, Some(("app", "app-1", "10.0.0.1:80"))),
        ]
    };
    vec![
        case("status", "status", canned::workers()),
        case("status_json", "status --json", canned::workers()),
        plain("shutdown", "shutdown"),
        plain("shutdown_hard", "shutdown --hard"),
        plain("logging", "logging info,kakehi_lib::session=debug"),
        plain("reload", "reload"),
        plain("reload_file", "reload -f new.toml"),
        plain("state_save", "state save -f state.json"),
        plain("state_load", "state load --file /var/lib/kakehi/state.json"),
        case("state_stats", "state stats", canned::request_counts()),
        plain("upgrade_worker", "upgrade --worker 1 --json"),
        case("upgrade_refused", "upgrade", canned::failure("the program on disk does not start")),
        Case { file: "events", command: "events", responses: events(), then: Then::Close },
        Case { file: "events_json", command: "-j events", responses: events(), then: Then::Close },
    ]
}

fn cluster_cases() -> Vec<Case> {
    vec![
        plain("cluster_add", "cluster add -i app"),
        plain(
            "cluster_add_everything",
            "cluster add --id app --load-balancing-policy LEAST_LOADED -s -r --send-proxy --expect-proxy \
             --http2 --https-redirect-port 8443 --www-authenticate realm --authorized-hash ada:00 \
             --answer 503=busy --affinity-header x-user --shard-percent 20 --shard-min-backends 4 \
             --shard-strict --max-connection-attempts 3",
        ),
        plain("cluster_remove", "cluster remove --id app"),
        case("cluster_close_sessions", "cluster close-sessions -i app", canned::closed_sessions()),
        case(
            "cluster_close_sessions_json",
            "cluster close-sessions --id app --backend-id app-1 -a 10.0.0.1:80 --json",
            canned::closed_sessions(),
        ),
        case("cluster_list", "cluster list", canned::cluster_hashes()),
        case("cluster_list_id", "cluster list --id app", canned::cluster_in_full()),
        case("cluster_list_id_json", "cluster list --id app --json", canned::cluster_in_full()),
        case("cluster_list_domain", "cluster list -d app.example.com/shop/cart", canned::no_cluster()),
        case("cluster_tags", "cluster tags -i app", canned::tagged_frontends()),
        case("cluster_tags_json", "cluster tags -i app -j", canned::tagged_frontends()),
        plain("backend_add", "backend add --id app --backend-id app-1 --address 127.0.0.1:8000"),
        plain(
            "backend_add_everything",
            "backend add -i app --backend-id app-1 -a [::1]:8000 -s one --backup true --unix-path /run/app.sock",
        ),
        plain("backend_remove", "backend remove -i app --backend-id app-1 -a 127.0.0.1:8000 --json"),
    ]
}

fn frontend_cases() -> Vec<Case> {
    vec![
        case("frontend_list", "frontend list", canned::frontends()),
        plain("frontend_list_filtered", "frontend list --http -d example -i app"),
        plain("frontend_add", "frontend http add -a 127.0.0.1:80 --hostname app.example.com id app"),
        plain(
            "frontend_add_deny",
            "frontend http add -a 127.0.0.1:80 --host *.example.com --path-regex ^/admin -m POST \
             --tags owner=ada,tier=1 deny",
        ),
        plain(
            "frontend_add_everything",
            "frontend http add -a 127.0.0.1:80 --hostname a -p /p --redirect permanent --redirect-scheme \
             use-https --redirect-template t --rewrite-host h --rewrite-path /q --rewrite-port 81 \
             --required-auth --header both=x-a=b --header request=x-d= --match-header present=x-c \
             --match-header regex=x-e=a|b --hsts-preload id app",
        ),
        plain(
            "frontend_add_redirect",
            "frontend http add -a 127.0.0.1:80 --hostname a --redirect permanent_redirect deny",
        ),
        plain(
            "frontend_remove_predicates",
            "frontend http remove -a 127.0.0.1:80 --hostname a --match-header exact=x-c=1 id app",
        ),
        plain("frontend_remove", "frontend http remove -a 127.0.0.1:80 --hostname a --path-equals /x id app"),
    ]
}

fn listener_cases() -> Vec<Case> {
    vec![
        case("listener_list", "listener list", canned::listeners()),
        case("listener_list_json", "listener list --json", canned::listeners()),
        plain("listener_add", "listener http add -a 127.0.0.1:8080"),
        plain(
            "listener_add_everything",
            "listener http add -a 127.0.0.1:8080 --interface lo --public-address 203.0.113.1:80 --front-timeout 1 \
             --back-timeout 2 --connect-timeout 3 --request-timeout 4 --forwarded-headers x_forwarded \
             --sticky-name S --expect-proxy --answer-404 answer.http --answer 431=file://answer.http \
             --trusted-proxy 10.0.0.0/8 --trusted-proxy ::1 --trace-context make --tunnel-timeout 5 \
             --max-request-line 300 --max-body-bytes 0 --min-transfer-rate 0",
        ),
        plain("listener_update", "listener http update -a 127.0.0.1:8080 --front-timeout 5"),
        plain(
            "listener_update_everything",
            "listener http update -a 127.0.0.1:8080 --no-expect-proxy --sozu-id-header X-Id \
             --forwarded-headers none --answer-503 answer.http --answer 431=busy \
             --h2-max-concurrent-streams 50 --trusted-proxy 192.0.2.1 --trace-context pass \
             --tunnel-timeout 5 --max-request-line 300 --max-body-bytes 7 --min-transfer-rate 8",
        ),
        plain("listener_update_distrust", "listener http update -a 127.0.0.1:8080 --no-trusted-proxies"),
        plain("listener_remove", "listener http remove -a 127.0.0.1:8080"),
        plain("listener_activate", "listener http activate -a 127.0.0.1:8080"),
        plain("listener_deactivate", "listener http deactivate -a 127.0.0.1:8080 --interface lo"),
    ]
}

fn udp_cases() -> Vec<Case> {
    let refused = || canned::failure("UDP listeners and frontends are not served yet by this version");
    vec![
        case("udp_listener_add", "listener udp add -a 127.0.0.1:53", refused()),
        plain(
            "udp_listener_add_everything",
            "listener udp add -a 127.0.0.1:53 --interface lo --public-address 203.0.113.1:53 --front-timeout 1 \
             --back-timeout 2 --max-rx-datagram-size 9000 --max-flows 10",
        ),
        plain("udp_listener_update", "listener udp update -a 127.0.0.1:53 --max-flows 0"),
        plain("udp_listener_remove", "listener udp remove -a 127.0.0.1:53"),
        plain("udp_listener_activate", "listener udp activate -a 127.0.0.1:53"),
        plain("udp_listener_deactivate", "listener udp deactivate -a 127.0.0.1:53 --interface lo"),
        plain("udp_frontend_add", "frontend udp add -i dns -a 127.0.0.1:53 --tags owner=ada,tier=1"),
        plain("udp_frontend_remove", "frontend udp remove -i dns -a 127.0.0.1:53"),
    ]
}

fn https_cases() -> Vec<Case> {
    vec![
        plain(
            "https_frontend_add",
            "frontend https add -a 127.0.0.1:443 --hostname a --hsts-max-age 60 id app",
        ),
        plain("https_frontend_remove", "frontend https remove -a 127.0.0.1:443 --hostname a id app"),
        plain("https_listener_add", "listener https add -a 127.0.0.1:443"),
        plain(
            "https_listener_add_everything",
            "listener https add -a 127.0.0.1:443 --front-timeout 1 --tls-versions TLS_V12 --tls-versions TLSv1.3 \
             --tls-cipher-list TLS13_AES_128_GCM_SHA256 --tls-groups-list P-256 --certificate certificate.pem \
             --key key.pem --certificate-chain chain.pem --send-tls13-tickets 2 --alpn-protocols h2,http/1.1 \
             --no-strict-sni-binding --client-auth required --client-ca chain.pem --client-crl crl.pem \
             --client-subject-header X-Subject --max-early-data 512 --handshake-timeout 5 \
             --max-handshakes-per-source 0 --hsts-preload",
        ),
        plain("https_listener_update", "listener https update -a 127.0.0.1:443 --front-timeout 5"),
        plain(
            "https_listener_update_everything",
            "listener https update -a 127.0.0.1:443 --reset-alpn --strict-sni-binding --enable-http11 \
             --client-auth none --client-subject-header= --max-early-data 0 --handshake-timeout 5 \
             --max-handshakes-per-source 9 --hsts-disabled --h2-max-concurrent-streams 50",
        ),
        plain("https_listener_activate", "listener https activate -a 127.0.0.1:443 --interface lo"),
        plain("https_listener_deactivate", "listener https deactivate -a 127.0.0.1:443"),
        plain("https_listener_remove", "listener https remove -a 127.0.0.1:443"),
        plain(
            "cluster_add_tls",
            "cluster add -i app --tls --tls-server-name b.test --tls-ca chain.pem --tls-skip-verification \
             --tls-client-certificate certificate.pem --tls-client-key key.pem",
        ),
    ]
}

fn tcp_cases() -> Vec<Case> {
    vec![
        plain("tcp_frontend_add", "frontend tcp add -i mail -a 127.0.0.1:465"),
        plain(
            "tcp_frontend_add_everything",
            "frontend tcp add -i mail -a 127.0.0.1:465 --sni *.mail.example --alpn smtp --alpn imap --tags owner=ada",
        ),
        plain("tcp_frontend_remove", "frontend tcp remove -i mail -a 127.0.0.1:465 --sni a.test --alpn h2"),
        plain("tcp_listener_add", "listener tcp add -a 127.0.0.1:465"),
        plain(
            "tcp_listener_add_everything",
            "listener tcp add -a 127.0.0.1:465 --interface lo --public-address 203.0.113.1:465 --expect-proxy \
             --front-timeout 1 --back-timeout 2 --connect-timeout 3 --sni-preread-timeout 4 \
             --sni-preread-max-bytes 512",
        ),
        plain(
            "tcp_listener_add_tls",
            "listener tcp add -a 127.0.0.1:465 --tls --tls-versions TLS_V13 --tls-cipher-list \
             TLS13_AES_128_GCM_SHA256 --tls-groups-list P-256 --certificate certificate.pem --key key.pem \
             --certificate-chain chain.pem --send-tls13-tickets 2 --alpn-protocols smtp,imap --client-auth required \
             --client-ca chain.pem --client-crl crl.pem --handshake-timeout 5 --max-handshakes-per-source 0",
        ),
        plain("tcp_listener_update", "listener tcp update -a 127.0.0.1:465 --front-timeout 5"),
        plain(
            "tcp_listener_update_everything",
            "listener tcp update -a 127.0.0.1:465 --public-address 203.0.113.1:465 --back-timeout 2 \
             --connect-timeout 3 --no-expect-proxy --sni-preread-timeout 4 --sni-preread-max-bytes 512 \
             --reset-alpn --client-auth none --handshake-timeout 5 --max-handshakes-per-source 9",
        ),
        plain("tcp_listener_activate", "listener tcp activate -a 127.0.0.1:465 --interface lo"),
        plain("tcp_listener_deactivate", "listener tcp deactivate -a 127.0.0.1:465"),
        plain("tcp_listener_remove", "listener tcp remove -a 127.0.0.1:465"),
    ]
}

fn certificate_cases() -> Vec<Case> {
    vec![
        case("certificate_list", "certificate list", canned::certificates()),
        case("certificate_list_json", "certificate list -d app.example.com --json", canned::certificates()),
        case("certificate_list_workers", "certificate list --workers", canned::certificate_summaries()),
        case(
            "certificate_list_fingerprint",
            "certificate list -w -f 00ff",
            canned::certificates_of_workers(),
        ),
        plain(
            "certificate_add",
            "certificate add -a 127.0.0.1:443 --certificate certificate.pem --key key.pem",
        ),
        plain(
            "certificate_add_everything",
            "certificate add -a 127.0.0.1:443 --certificate certificate.pem --certificate-chain chain.pem \
             --key key.pem --tls-versions TLS_V13 --name a.test --name *.a.test --ocsp ocsp.der",
        ),
        plain("certificate_remove", "certificate remove -a 127.0.0.1:443 --cert certificate.pem"),
        plain("certificate_remove_fingerprint", "certificate remove -a 127.0.0.1:443 -f 00ff"),
        plain(
            "certificate_replace",
            "certificate replace -a 127.0.0.1:443 --new-certificate certificate.pem --new-key key.pem \
             --new-certificate-chain chain.pem --old-cert certificate.pem",
        ),
        plain(
            "certificate_replace_fingerprint",
            "certificate replace -a 127.0.0.1:443 --new-certificate certificate.pem --new-key key.pem -f 00ff",
        ),
    ]
}

fn metrics_cases() -> Vec<Case> {
    vec![
        case("metrics_get", "metrics get", canned::metrics()),
        case("metrics_get_json", "metrics get -j", canned::metrics_by_worker()),
        case(
            "metrics_get_workers",
            "metrics get -w -n requests,latency -k app -b app-1",
            canned::metrics_by_worker(),
        ),
        case("metrics_get_list", "metrics get --list --no-clusters", canned::metric_names()),
        plain("metrics_enable", "metrics enable"),
        plain("metrics_disable", "metrics disable"),
        plain("metrics_clear", "metrics clear"),
    ]
}

fn trouble_cases() -> Vec<Case> {
    let no_answer = |file, command, then| Case { file, command, responses: Vec::new(), then };
    let processed = vec![canned::processing("Processing worker request..."), canned::ok("Done.")];
    vec![
        case("refused", "cluster remove -i nobody", canned::failure("no cluster \"nobody\"")),
        case("refused_json", "cluster remove -i nobody -j", canned::failure("no cluster \"nobody\"")),
        case("control_characters", "status", canned::ok("hello \u{1b}[31mred")),
        Case { file: "processing", command: "status", responses: processed, then: Then::Wait },
        no_answer("silent", "status --timeout 50", Then::Wait),
        no_answer("closed", "status", Then::Close),
        no_answer(
            "arguments_without_tls",
            "listener tcp add -a 127.0.0.1:1 --tls-versions TLS_V13",
            Then::Close,
        ),
        no_answer("arguments_without_sni", "frontend tcp add -i a -a 127.0.0.1:1 --alpn h2", Then::Close),
        no_answer("arguments_missing", "backend add -i app", Then::Close),
        no_answer("arguments_conflict", "cluster list -i app -d app.example.com", Then::Close),
        no_answer("arguments_bad_address", "backend remove -i a --backend-id b -a localhost:80", Then::Close),
        no_answer(
            "certificate_too_long",
            "certificate remove -a 127.0.0.1:443 --certificate long.pem",
            Then::Close,
        ),
        no_answer("certificate_which", "certificate remove -a 127.0.0.1:443", Then::Close),
        no_answer("file_missing", "listener http add -a 127.0.0.1:80 --answer-404 nowhere.http", Then::Close),
    ]
}

#[test]
fn verbs_ask_and_print_as_reviewed() {
    let mut files = Vec::new();
    for case in cases() {
        let file = format!("{}.txt", case.file);
        let command = case.command;
        check_golden(&format!("answers/{file}"), &transcript(command, case));
        assert!(!files.contains(&file), "{file} is written twice");
        files.push(file);
    }
    check_no_stale_golden("answers", &files);
}

#[test]
fn flags_may_stand_before_or_after_the_verb() {
    for command in ["-j -t 1000 status", "status -j -t 1000", "--json --timeout 1000 status"] {
        let text = transcript("status --json", case("", command, canned::workers()));
        check_golden("answers/status_json.txt", &text);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let config = config_in(&directory);
    let proxy =
        FakeProxy::start(&directory.path().join("kakehi.sock"), vec![canned::listeners()], Then::Wait);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_kakehi"))
        .args(["listener", "list", "-c", &config])
        .current_dir(directory.path())
        .stdout(writer)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    assert!(proxy.finish().is_some());
}

/// Writes what a run needs into its directory; gives the config file's name.
fn config_in(directory: &tempfile::TempDir) -> String {
    fs::write(directory.path().join("config.toml"), "command_socket = \"kakehi.sock\"\nback_timeout = 33\n")
        .unwrap();
    fs::write(directory.path().join("answer.http"), "HTTP/1.1 404 Not Found\r\n\r\n").unwrap();
    let files: [(&str, &[u8]); 6] = [
        ("certificate.pem", canned::CERTIFICATE.as_bytes()),
        ("chain.pem", b"chain"),
        ("key.pem", b"key"),
        ("crl.pem", b"list"),
        ("ocsp.der", &[1, 2, 255]),
        ("long.pem", &[b'x'; 2 << 20]),
    ];
    for (name, content) in files {
        fs::write(directory.path().join(name), content).unwrap();
    }
    "config.toml".to_owned()
}

/// Runs a case; gives what was asked and what was printed, under the title `shown`.
fn transcript(shown: &str, case: Case) -> String {
    let directory = tempfile::tempdir().unwrap();
    let config = config_in(&directory);
    let proxy = FakeProxy::start(&directory.path().join("kakehi.sock"), case.responses, case.then);
    // Flags go last, where a verb that is not served must not mind them.
    let arguments = case.command.split_whitespace().chain(["-c", &config]);
    let output = run("kakehi", directory.path(), arguments);
    let text = compose(shown, proxy.finish().as_ref(), &output);
    text.replace(&directory.path().display().to_string(), "DIR")
}

fn compose(shown: &str, request: Option<&Request>, output: &Output) -> String {
    let request = match request {
        Some(request) => {
            serde_json::to_string_pretty(&set_members(&serde_json::to_value(request).unwrap())).unwrap()
        }
        None => "none".to_owned(),
    };
    let status = output.status.code().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!(
        "$ kakehi {shown}\n--- request\n{request}\n--- standard output\n{stdout}--- standard error\n{stderr}--- exit status\n{status}\n"
    )
}

/// The value without members that are unset or empty: what a request says.
fn set_members(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(members) => {
            let unset = |value: &Value| match value {
                Value::Null => true,
                Value::Array(values) => values.is_empty(),
                Value::Object(members) => members.is_empty(),
                _ => false,
            };
            let set = members.iter().map(|(name, value)| (name.clone(), set_members(value)));
            // The verb itself may have nothing to say, and still is one.
            let is_verb = |name: &str| name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            Value::Object(set.filter(|(name, value)| is_verb(name) || !unset(value)).collect())
        }
        other => other.clone(),
    }
}
