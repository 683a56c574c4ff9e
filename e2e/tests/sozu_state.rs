//! State files both ways: those of Sōzu load, of its version 1.1.1 too; ours say only what Sōzu can read.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};

use kakehi_command::proto::request::RequestType;
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::http::{Backend, get};
use kakehi_e2e::tcp::{TcpBackend, TcpClient};
use kakehi_e2e::tls::Authority;
use kakehi_e2e::{Cli, Proxy, requests};
use serde_json::Value;

/// An address as it stands in a record.
fn wire(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => {
            format!(r#"{{"ip":{{"inner":{{"V4":{}}}}},"port":{}}}"#, u32::from(*v4.ip()), v4.port())
        }
        SocketAddr::V6(_) => unreachable!("the tests' addresses are IPv4"),
    }
}

fn file(records: &[String]) -> String {
    let record = |(n, text): (usize, &String)| {
        format!("{{\"id\":\"SAVE-{n}\",\"content\":{{\"request_type\":{{{text}}}}}}}\n\0")
    };
    records.iter().enumerate().map(record).collect()
}

fn load(proxy: &Proxy, text: &str) -> String {
    let path = proxy.directory().join("sozu.state");
    fs::write(&path, text).expect("our own directory");
    let answer = proxy.command().request(RequestType::LoadState(path.display().to_string()));
    answer.message
}

#[test]
fn a_file_of_1_1_1_loads_without_the_fields_that_came_later() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().without_listener().start();
    let (listener, address) = (free_address(), wire(backend.address()));
    let at = wire(listener);
    let records = [
        format!(r#""ADD_HTTP_LISTENER":{{"address":{at},"public_address":null,"expect_proxy":false,"sticky_name":"SOZUBALANCEID","front_timeout":60,"back_timeout":30,"connect_timeout":3,"request_timeout":10,"active":true,"http_answers":null}}"#),
        format!(r#""ACTIVATE_LISTENER":{{"address":{at},"proxy":0,"from_scm":false}}"#),
        r#""ADD_CLUSTER":{"cluster_id":"a","sticky_session":false,"https_redirect":false,"proxy_protocol":null,"load_balancing":0,"answer_503":null,"load_metric":null}"#.to_owned(),
        format!(r#""ADD_HTTP_FRONTEND":{{"cluster_id":"a","address":{at},"hostname":"a.test","path":{{"kind":0,"value":"/"}},"method":null,"position":2,"tags":{{"owner":"team"}}}}"#),
        format!(r#""ADD_BACKEND":{{"cluster_id":"a","backend_id":"a-0","address":{address},"sticky_id":null,"load_balancing_parameters":{{"weight":100}},"backup":null}}"#),
    ];
    let told = load(&proxy, &file(&records));
    assert!(told.contains("5 records applied") && !told.contains("left out"), "{told}");
    assert_eq!(get(listener, "a.test", "/").text(), "hello");
}

#[test]
fn a_file_of_2_3_loads() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().without_listener().start();
    let (listener, address) = (free_address(), wire(backend.address()));
    let at = wire(listener);
    let nulls = |names: &[&str]| names.iter().map(|name| format!(",\"{name}\":null")).collect::<String>();
    let h2 = nulls(&[
        "h2_max_rst_stream_per_window",
        "h2_max_ping_per_window",
        "h2_initial_connection_window",
        "h2_max_concurrent_streams",
        "h2_max_header_fields",
        "interface",
        "forwarded_headers",
        "sozu_id_header",
        "elide_x_real_ip",
        "send_x_real_ip",
        "a_member_of_a_later_version",
    ]);
    let cluster = nulls(&[
        "proxy_protocol",
        "answer_503",
        "load_metric",
        "http2",
        "https_redirect_port",
        "www_authenticate",
        "max_connections_per_ip",
        "retry_after",
        "health_check",
        "udp",
        "affinity_header",
        "shard_percent",
    ]);
    let frontend = nulls(&[
        "method",
        "redirect",
        "required_auth",
        "redirect_scheme",
        "redirect_template",
        "rewrite_host",
        "rewrite_path",
        "rewrite_port",
        "hsts",
    ]);
    let records = [
        format!(
            r#""ADD_HTTP_LISTENER":{{"address":{at},"public_address":null,"expect_proxy":false,"sticky_name":"SOZUBALANCEID","front_timeout":60,"back_timeout":30,"connect_timeout":3,"request_timeout":10,"active":true,"http_answers":null,"answers":{{"404":"HTTP/1.1 404 Not Found\r\nX-Own: yes\r\nContent-Length: 0\r\n\r\n"}}{h2}}}"#
        ),
        format!(r#""ACTIVATE_LISTENER":{{"address":{at},"proxy":0,"from_scm":false,"interface":null}}"#),
        format!(
            r#""ADD_CLUSTER":{{"cluster_id":"a","sticky_session":false,"https_redirect":false,"load_balancing":0,"answers":{{}},"authorized_hashes":[]{cluster}}}"#
        ),
        format!(
            r#""ADD_HTTP_FRONTEND":{{"cluster_id":"a","address":{at},"hostname":"a.test","path":{{"kind":0,"value":""}},"position":2,"tags":{{}},"headers":[],"header_predicates":[]{frontend}}}"#
        ),
        format!(
            r#""ADD_HTTP_FRONTEND_WITH_HEADER_PREDICATES":{{"cluster_id":"a","address":{at},"hostname":"p.test","path":{{"kind":0,"value":""}},"position":2,"tags":{{}},"headers":[],"header_predicates":[{{"name":"x-beta","kind":0,"value":"1"}}]{frontend}}}"#
        ),
        format!(
            r#""ADD_BACKEND":{{"cluster_id":"a","backend_id":"a-0","address":{address},"sticky_id":null,"load_balancing_parameters":{{"weight":100}},"backup":false,"unix_path":null}}"#
        ),
    ];
    let told = load(&proxy, &file(&records));
    assert!(told.contains("6 records applied") && !told.contains("left out"), "{told}");
    assert_eq!(get(listener, "a.test", "/").text(), "hello");
    let own = get(listener, "nobody.test", "/");
    assert_eq!((own.status(), own.field("x-own")), (404, Some("yes")));
    // A second time nothing fits, and nothing breaks.
    let told = load(&proxy, &file(&records));
    assert!(told.contains("left out"), "{told}");
    assert_eq!(get(listener, "a.test", "/").text(), "hello");
}

/// Verbs that Sōzu 2.3 knows, as far as a state without own features needs them.
const VERBS: &[&str] = &[
    "ADD_HTTP_LISTENER",
    "ADD_HTTPS_LISTENER",
    "ADD_TCP_LISTENER",
    "ACTIVATE_LISTENER",
    "ADD_CLUSTER",
    "ADD_HTTP_FRONTEND",
    "ADD_HTTP_FRONTEND_WITH_HEADER_PREDICATES",
    "ADD_CERTIFICATE",
    "ADD_HTTPS_FRONTEND",
    "ADD_TCP_FRONTEND",
    "ADD_BACKEND",
];

#[test]
fn ours_says_only_what_sozu_can_read() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .cluster("a", "a.test", &[backend.address()])
        .cluster("b", "*.b.test", &[backend.address()])
        .start();
    proxy.command().ok(requests::add_listener(free_address()));
    let path = proxy.directory().join("state");
    proxy.command().ok(RequestType::SaveState(path.display().to_string()));
    let text = fs::read_to_string(&path).expect("it was written");
    assert!(text.ends_with("\n\0"));
    // Fields that are ours alone: numbers from 1000 on in command.proto.
    let proto = include_str!("../../command/proto/command.proto");
    let ours: Vec<&str> = proto
        .lines()
        .filter_map(|line| {
            let (left, right) = line.trim().split_once(" = ")?;
            let number: u32 = right.split([';', ' ']).next()?.parse().ok()?;
            (number >= 1000 && line.starts_with("  optional")).then(|| left.rsplit(' ').next()).flatten()
        })
        .collect();
    assert!(ours.contains(&"trusted_proxies") || ours.contains(&"tunnel_timeout"), "{ours:?}");
    let mut own = Vec::new();
    for (n, record) in text.split_terminator("\n\0").enumerate() {
        let record: Value = serde_json::from_str(record).expect("each record is one JSON text");
        assert_eq!(record["id"], format!("SAVE-{n}"));
        let verbs = record["content"]["request_type"].as_object().expect("one verb");
        let (verb, payload) = verbs.iter().next().expect("one verb");
        assert!(VERBS.contains(&verb.as_str()), "{verb}");
        let members = payload.as_object().expect("a message");
        let is_set = |value: &Value| !(value.is_null() || value.as_array().is_some_and(Vec::is_empty));
        own.extend(
            members
                .iter()
                .filter(|(name, value)| {
                    // Names that Sōzu has in another message are looked at where they are ours.
                    ours.contains(&name.as_str()) && is_set(value)
                })
                .map(|(name, value)| format!("{verb}.{name} = {value}")),
        );
    }
    assert!(own.is_empty(), "set, and unknown to Sōzu, which ignores them: {own:?}");
}

/// What both have, saved here and loaded there: the real one, where `SOZU_BIN` names it, leaves nothing out and serves it.
#[test]
#[ignore = "needs the real program: SOZU_BIN"]
fn ours_loads_into_the_real_one() {
    let sozu = std::env::var_os("SOZU_BIN").expect("SOZU_BIN names the real program");
    let (backend, echo) = (Backend::named("hello"), TcpBackend::echo("echo"));
    let ours = Proxy::builder().workers(1).without_listener().start();
    let [http, https, tcp] = [free_address(), free_address(), free_address()];
    let authority = Authority::default();
    let issued = authority.issue(&["tls.test"]);
    for (name, text) in [("c.pem", &issued.certificate), ("c.key", &issued.key), ("c.chain", &authority.pem)]
    {
        fs::write(ours.directory().join(name), text).expect("our own directory");
    }
    let (to, mail) = (backend.address(), echo.address());
    for verb in [
        &format!("listener http add -a {http} --front-timeout 7 --forwarded-headers rfc7239"),
        &format!("listener http activate -a {http}"),
        &format!("listener https add -a {https} --tls-versions TLS_V12 --tls-versions TLS_V13"),
        &format!("listener https activate -a {https}"),
        &format!("listener tcp add -a {tcp}"),
        &format!("listener tcp activate -a {tcp}"),
        "cluster add -i app --sticky-session --load-balancing-policy hrw --affinity-header x-user --max-connection-attempts 3",
        &format!("backend add -i app --backend-id b -a {to} --sticky-id one"),
        &format!("frontend http add -a {http} --hostname a.test --path-prefix / --tags owner=ada id app"),
        &format!(
            "frontend http add -a {http} --hostname b.test --path-regex ^/[a-z]+$ -m GET --match-header \
             exact=x-a=1 --header response=x-own=yes id app"
        ),
        &format!(
            "frontend http add -a {http} --hostname c.test --redirect permanent --redirect-scheme use-https id app"
        ),
        &format!("frontend http add -a {http} --hostname *.d.test deny"),
        "cluster health-check set --id app --uri / --interval 60",
        &format!("certificate add -a {https} --certificate c.pem --certificate-chain c.chain --key c.key"),
        &format!("frontend https add -a {https} --hostname tls.test --hsts-max-age 60 id app"),
        "cluster add -i mail --load-balancing-policy least_loaded",
        &format!("backend add -i mail --backend-id m -a {mail}"),
        &format!("frontend tcp add -i mail -a {tcp}"),
        "state save --file saved",
    ] {
        ours.cli().ok(&verb.split_whitespace().collect::<Vec<_>>());
    }
    let saved = ours.directory().join("saved");
    let records = fs::read_to_string(&saved).expect("it was written").matches('\0').count();
    let kept = fs::read(&saved).expect("it was written");
    // The addresses are free for the other one.
    ours.stop();

    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("config.toml");
    let text = "command_socket = \"s.sock\"\nworker_count = 1\nlog_level = \"warn\"\nmax_connections = 100\n";
    fs::write(&config, text).expect("our own directory");
    fs::write(directory.path().join("saved"), kept).expect("our own directory");
    let log = fs::File::create(directory.path().join("log")).expect("our own directory");
    let mut theirs = Command::new(&sozu)
        .args(["start", "-c"])
        .arg(&config)
        .current_dir(directory.path())
        .stdout(log.try_clone().expect("a descriptor"))
        .stderr(log)
        .spawn()
        .map(Theirs)
        .expect("the real program runs");
    let cli = Cli::new(Some(&config), directory.path()).by(Path::new(&sozu));
    await_true("it is up", || cli.run(&["status"]).code == Some(0));
    let loaded = cli.run(&["state", "load", "--file", "saved"]);
    let log = || fs::read_to_string(directory.path().join("log")).unwrap_or_default();
    assert_eq!(loaded.code, Some(0), "{loaded:#?}\n{}", log());
    assert!(loaded.stdout.contains(&format!("{records} ok messages, 0 errors")), "{loaded:#?}\n{}", log());
    assert!(!log().contains("skip"), "{}", log());
    assert_eq!(get(http, "a.test", "/").text(), "hello");
    assert_eq!(get(http, "c.test", "/").status(), 301);
    assert_eq!(get(http, "x.d.test", "/").status(), 401);
    let mut client = authority.client().connect(https, "tls.test").expect("a handshake");
    assert_eq!(client.get("tls.test", "/").expect("an answer").text(), "hello");
    TcpClient::connect(tcp).hears("echo");
    cli.ok(&["shutdown", "--hard"]);
    await_true("it ends", || theirs.0.try_wait().expect("our own child").is_some());
}

/// Ended with the test, whatever becomes of it. Its workers end with it.
struct Theirs(Child);

impl Drop for Theirs {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}
