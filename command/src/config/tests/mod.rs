//! A text in, and all that is said about it out: errors, or warnings and orders, one line each.

mod embedded;
mod health;
mod limits;
mod policies;
mod tcp;
mod tls;

use super::*;
use crate::state::ConfigState;

/// Parses `text` as the file `x.toml`; `db.test:PORT` resolves to two addresses, no other name does.
fn parse_text(text: &str, origin: &Origin) -> Result<Config, ConfigErrors> {
    let look_up = |name: &str| match name.strip_prefix("db.test:") {
        Some(port) => Ok(["10.0.0.2", "10.0.0.1"]
            .iter()
            .map(|ip| format!("{ip}:{port}").parse().expect("an address"))
            .collect()),
        None => Err(io::Error::other("no such host")),
    };
    let directory = match origin {
        Origin::File(_) => Path::new("/etc/kakehi"),
        Origin::Embedded { .. } => origin.directory(),
    };
    let outside = Outside {
        look_up: &look_up,
        read_answer: &read_answer,
        read_pem: Some(&tls::read_pem),
        read_secret: Some(&health::read_secret),
    };
    parse_with(text, origin, directory, outside)
}

/// `404.http` is an answer, `bad.http` is none; no other file is there.
fn read_answer(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("404.http") => Ok("HTTP/1.1 404 Not Here\n\n%ROUTE".to_owned()),
        Some("bad.http") => Ok("Not here".to_owned()),
        _ => Err(io::Error::other("no such file")),
    }
}

fn file() -> Origin {
    Origin::File("x.toml".into())
}

fn embedded() -> Origin {
    Origin::Embedded { cores: 6, runtime_dir: "/run/user/7".into() }
}

/// What a text comes to, without the file's name.
fn outcome(text: &str) -> Vec<String> {
    let lines: Vec<String> = match parse_text(text, &file()) {
        Err(errors) => errors.errors.iter().map(|error| format!("error {error}")).collect(),
        Ok(config) => {
            assert_applies(&config);
            let warnings = config.warnings.iter().map(|warning| format!("warning {warning}"));
            warnings.chain(config.orders.iter().map(describe)).collect()
        }
    };
    lines.iter().map(|line| line.replace("x.toml:", "")).collect()
}

/// The promise of `Config::orders`.
fn assert_applies(config: &Config) {
    let mut state = ConfigState::default();
    for order in &config.orders {
        let _change = state.apply(order).unwrap_or_else(|error| panic!("{order:?}: {error}"));
    }
}

fn describe(order: &Order) -> String {
    let what = match order {
        Order::AddHttpListener(listener) => listener.key().to_string(),
        Order::AddTcpListener(listener) => listener.key().to_string(),
        Order::ActivateListener { key, .. } => key.to_string(),
        Order::AddCluster(cluster) => cluster.id().to_string(),
        Order::AddHttpFrontend(it) => {
            let method = it.method().map(|method| format!(" {method}")).unwrap_or_default();
            format!("{} {:?} {:?}{method} {:?}", it.hostname(), it.path(), it.position(), it.redirect())
        }
        Order::AddTcpFrontend(it) => it.identity().to_string(),
        Order::AddCertificate(it) => format!("{} {}", it.address(), it.names().join(" ")),
        Order::AddBackend(it) => format!("{} {} {}", it.backend_id(), it.address(), it.weight()),
        Order::SetConnectionLimit { value, .. } => value.to_string(),
        other => panic!("a file gives no {}", other.verb()),
    };
    format!("{} {what}", order.verb())
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(outcome(text), expected, "\n--- for\n{text}");
}

/// A cluster `app` around the given frontend and backend keys, beginning on line 1.
fn app(frontend: &str, backend: &str) -> String {
    format!(
        "[clusters.app]\nprotocol = \"http\"\n\
         [[clusters.app.frontends]]\naddress = \"127.0.0.1:80\"\nhostname = \"a.test\"\n{frontend}\n\
         [[clusters.app.backends]]\naddress = \"127.0.0.1:81\"\n{backend}\n"
    )
}

/// The same with a key of the cluster itself, on line 3.
fn app_cluster(key: &str) -> String {
    app("", "").replacen("\"http\"\n", &format!("\"http\"\n{key}\n"), 1)
}

fn http_listener(keys: &str) -> String {
    format!("[[listeners]]\naddress = \"127.0.0.1:80\"\nprotocol = \"http\"\n{keys}\n")
}

#[test]
fn orders_come_in_the_order_that_builds_a_state() {
    check(
        r#"
        [[listeners]]
        address = "0.0.0.0:80"
        protocol = "http"

        [clusters.zeta]
        protocol = "http"
        frontends = [
            { address = "0.0.0.0:80", hostname = "Z.test", path = "/a" },
            { address = "0.0.0.0:80", hostname = "z.test", path = "/a", path_type = "EQUALS", method = "GET", position = "PRE" },
            { address = "0.0.0.0:90", hostname = "*", redirect = "Unauthorized" },
        ]
        backends = [{ address = "[::1]:1" }, { address = "db.test:2", backend_id = "db", weight = 7 }]

        [clusters.alpha]
        protocol = "http"
        frontends = []
        backends = []
        "#,
        &[
            "add_http_listener 0.0.0.0:80",
            "add_http_listener 0.0.0.0:90",
            "add_cluster zeta",
            "add_http_frontend z.test Prefix(\"/a\") Tree Forward",
            "add_http_frontend z.test Equals(\"/a\") Pre GET Forward",
            "add_http_frontend * Prefix(\"\") Tree Unauthorized",
            "add_backend zeta-0-[::1]:1 [::1]:1 100",
            "add_backend db 10.0.0.1:2 7",
            "add_backend db 10.0.0.2:2 7",
            "add_cluster alpha",
            "activate_listener 0.0.0.0:80",
            "activate_listener 0.0.0.0:90",
        ],
    );
    check(&format!("activate_listeners = false\n{}", http_listener("")), &["add_http_listener 127.0.0.1:80"]);
}

#[test]
fn all_errors_are_told_in_one_run_in_the_order_of_the_file() {
    check(
        r#"
worker_count = 0
worker_timeout = "10"
command_socket_mode = "0477"
[[listeners]]
address = "127.0.0.1"
protocol = "HTTP"
[[listeners]]
protocol = "http"
[clusters.app]
protocol = "http"
backends = [{ address = "nowhere.test:80" }, { weight = 300 }]
[[clusters.app.frontends]]
address = "127.0.0.1:80"
hostname = "a..b"
"#,
        &[
            "error 2: worker_count: 0 is out of range: 1 to 1024",
            "error 3: worker_timeout: expected an integer, found a string",
            "error 4: command_socket_mode: \"0477\" would shut out the owner: the mode has to contain 0600",
            "error 6: listeners[0].address: \"127.0.0.1\" is not an address of the form IP:PORT, such as 127.0.0.1:8080 or [::1]:8080",
            "error 7: listeners[0].protocol: \"HTTP\" is written \"http\"",
            "error 8: listeners[1].address: is required",
            "error 12: clusters.app.backends[0].address: \"nowhere.test:80\" cannot be resolved: no such host",
            "error 12: clusters.app.backends[1].address: is required",
            "error 12: clusters.app.backends[1].weight: 300 is out of range: 0 to 255",
            "error 15: clusters.app.frontends[0].hostname: `a..b` has an empty label",
        ],
    );
}

#[test]
fn syntax_errors_are_told_with_their_line() {
    for (text, line) in
        [("a = ", 1), ("\n\n[clusters", 3), ("worker_count = 1\nworker_count = 2\n", 2), ("x = 1 y", 1)]
    {
        let errors = parse_text(text, &file()).expect_err("refused");
        assert_eq!(errors.errors[0].line, Some(line), "{text:?}: {errors}");
        assert!(errors.to_string().starts_with(&format!("x.toml:{line}: ")), "{errors}");
    }
}

#[test]
fn unknown_keys_are_warnings_with_a_suggestion() {
    check(
        "worker_cuont = 4",
        &["warning 1: worker_cuont: unknown key, ignored; did you mean `worker_count`?"],
    );
    check("xyzzy = 4", &["warning 1: xyzzy: unknown key, ignored"]);
    check(
        "sticky_session = true",
        &["warning 1: sticky_session: unknown key here, ignored; it belongs to [clusters.NAME]"],
    );
    let outcome = outcome(&app("pathtype = \"EQUALS\"", "wieght = 1"));
    assert_eq!(
        outcome[..2],
        [
            "warning 6: clusters.app.frontends[0].pathtype: unknown key, ignored; did you mean `path_type`?",
            "warning 9: clusters.app.backends[0].wieght: unknown key, ignored; did you mean `weight`?",
        ]
    );
}

#[test]
fn values_of_the_wrong_shape_are_named() {
    let cases = [
        ("activate_listeners = 1", "activate_listeners: expected true or false, found an integer"),
        ("log_level = 3", "log_level: expected a string, found an integer"),
        ("command_allowed_uids = 0", "command_allowed_uids: expected an array of integers, found an integer"),
        ("command_allowed_uids = [0, -1]", "command_allowed_uids[1]: -1 is out of range: 0 to 4294967295"),
        ("listeners = 1", "listeners: expected an array of tables, found an integer"),
        ("listeners = [1]", "listeners[0]: expected a table, found an integer"),
        ("clusters = []", "clusters: expected tables with a name each, found an array"),
        ("clusters.a = 1.5", "clusters.a: expected a table, found a float"),
        ("metrics = 1979-05-27", "metrics: expected a table, found a date"),
        (
            "max_connections = 99999999999999999999",
            "max_connections: 99999999999999999999 is out of range: 1 to 4294967295",
        ),
        ("buffer_size = 0x10", "buffer_size: 0x10 is out of range: 4096 to 1073741824"),
    ];
    for (text, expected) in cases {
        check(text, &[&format!("error 1: {expected}")]);
    }
}

#[test]
fn keys_are_checked_against_each_other() {
    check(
        "max_command_buffer_size = 999999",
        &[
            "error 1: max_command_buffer_size: max_command_buffer_size (999999) is smaller than command_buffer_size (1000000)",
        ],
    );
    check(
        "command_buffer_size = 3000000",
        &[
            "error 1: command_buffer_size: max_command_buffer_size (2000000) is smaller than command_buffer_size (3000000)",
        ],
    );
    check(
        "automatic_state_save = true",
        &["error 1: automatic_state_save: needs saved_state, the file to save to"],
    );
    for mode in ["0800", "00600", "", "rw", "1600", "+600"] {
        check(
            &format!("command_socket_mode = {mode:?}"),
            &[&format!(
                "error 1: command_socket_mode: {mode:?} is not a mode of up to four octal digits, \"0777\" at most"
            )],
        );
    }
    check(
        "log_level = \"info,noise\"",
        &[
            "error 1: log_level: \"noise\" is neither a level (off, error, warn, info, debug, trace) nor module::path=level",
        ],
    );
    check("log_level = \"info,kakehi_lib::session=debug, off\"", &[]);
    check("log_target = \"file:///var/log/x\"", &[]);
    check("log_target = \"udp://127.0.0.1:514\"", &[]);
    check(
        "log_target = \"/var/log/x\"",
        &[
            "error 1: log_target: \"/var/log/x\" is not one of stdout, file://PATH, udp://IP:PORT, tcp://IP:PORT, unix://PATH",
        ],
    );
    let long = format!("/{}", "x".repeat(107));
    check(
        &format!("command_socket = {long:?}"),
        &[&format!(
            "error 1: command_socket: \"{long}\" has 108 bytes; the path of a Unix socket has at most 107"
        )],
    );
}

#[test]
fn duplicates_name_both_places() {
    let twice = http_listener("").repeat(2);
    check(
        &twice,
        &["error 6: listeners[1].address: 127.0.0.1:80 is already the address of listeners[0] (line 2)"],
    );

    let interfaces = format!("{}{}", http_listener(""), http_listener("interface = \"eth0\""));
    check(
        &interfaces,
        &[
            "add_http_listener 127.0.0.1:80",
            "add_http_listener 127.0.0.1:80%eth0",
            "activate_listener 127.0.0.1:80",
            "activate_listener 127.0.0.1:80%eth0",
        ],
    );
    let protocols = interfaces.replacen("\"http\"", "\"tcp\"", 1);
    check(
        &protocols,
        &["error 6: listeners[1].address: 127.0.0.1:80 is shared with listeners[0] (line 2), which is tcp: \
           listeners of one address, on whatever interfaces, speak the same protocol"],
    );

    let frontends =
        format!("{}{}", app("", ""), app("", "").replace("app", "other").replace("a.test", "A.TEST"));
    check(
        &frontends,
        &[
            "error 12: clusters.other.frontends[0]: address, hostname, path, method and header_predicates are \
           already those of clusters.app.frontends[0] (line 3)",
        ],
    );

    let backends = app(
        "",
        "backend_id = \"b\"\n[[clusters.app.backends]]\naddress = \"127.0.0.1:81\"\nbackend_id = \"b\"",
    );
    check(
        &backends,
        &[
            "error 10: clusters.app.backends[1]: backend b at 127.0.0.1:81 is already clusters.app.backends[0] (line 7)",
        ],
    );
}

#[test]
fn what_is_not_served_is_a_warning_when_used() {
    let warns = |text: &str, expected: &[&str]| {
        let outcome = outcome(text);
        let warnings: Vec<_> = outcome.iter().filter(|line| !line.starts_with("a")).collect();
        assert_eq!(warnings, expected, "\n--- for\n{text}");
    };
    warns(
        "handle_process_affinity = true",
        &["warning 1: handle_process_affinity: not served yet by this version: it has no effect"],
    );
    // A default spelt out, and what switches off, asks for nothing.
    warns(
        "evict_on_queue_full = false\nretry_after = 60\nmax_connections_per_ip = 0\naccess_logs_format = \"ascii\"",
        &[],
    );
    warns("slab_entries_per_connection = 8\nzombie_check_interval = 60", &[]);
    warns("[metrics]\naddress = \"127.0.0.1:8125\"", &[]);
    warns(
        &http_listener("h2_max_concurrent_streams = 7\ntls_versions = [\"TLS_V13\"]\nhsts = {}"),
        &[
            "warning 4: listeners[0].h2_max_concurrent_streams: not served yet by this version: it has no effect",
            "warning 5: listeners[0].tls_versions: it has no effect: only https listeners use it",
        ],
    );
    warns(
        &app_cluster(
            "retry_after = 5\nudp = { responses = 1 }\nload_balancing = \"MAGLEV\"\nauthorized_hashes = []",
        ),
        &["warning 4: clusters.app.udp: it has no effect: only udp listeners use it"],
    );
    warns(
        &app("required_auth = false\nredirect_scheme = \"USE_SAME\"", "weight = 0\nsticky_id = \"s\""),
        &[
            "warning 10: clusters.app.backends[0].weight: 0 counts as the default, 100; to take a backend out of use, set draining = true",
        ],
    );
}

#[test]
fn what_must_not_be_left_out_of_account_is_an_error() {
    let refused = |text: String, key: &str, why: &str| {
        let errors = parse_text(&text, &file()).expect_err("refused");
        assert_eq!(errors.errors.len(), 1, "{errors}");
        let error = &errors.errors[0];
        assert!(error.key.ends_with(key) && error.text.contains(why), "{error}");
    };
    let frontends = [
        ("hsts = { enabled = true }", "hsts", "only https listeners"),
        ("certificate = \"c.pem\"", "certificate", "only https listeners"),
    ];
    for (key, name, why) in frontends {
        refused(format!("{}{}", http_listener(""), app(key, "")), name, why);
    }
    refused(app_cluster("http2 = true"), "http2", "HTTP/1.1");
    refused(http_listener("expect_proxy_from = [\"me\"]"), "expect_proxy_from", "neither an IP");
    refused(http_listener("client_auth = \"required\""), "client_auth", "only https listeners");
    refused(http_listener("hsts = { enabled = true }"), "hsts", "only https listeners");
}

#[test]
fn what_is_on_protocols_not_served_is_skipped() {
    check(
        r#"
[[listeners]]
address = "127.0.0.1:53"
protocol = "udp"
expect_proxy = true
hsts = { enabled = true }
[clusters.dns]
protocol = "tcp"
frontends = [{ address = "127.0.0.1:53" }]
backends = [{ address = "127.0.0.1:54" }]
[clusters.app]
protocol = "http"
backends = []
[[clusters.app.frontends]]
address = "127.0.0.1:53"
hostname = "a.test"
required_auth = true
"#,
        &[
            "warning 4: listeners[0].protocol: udp listeners are not served yet by this version: this one is skipped, with all that is on it",
            "warning 9: clusters.dns.frontends[0].address: the listener at 127.0.0.1:53, listeners[0] (line 3), is udp, which is not served yet by this version: this frontend is skipped",
            "warning 15: clusters.app.frontends[0].address: the listener at 127.0.0.1:53, listeners[0] (line 3), is udp, which is not served yet by this version: this frontend is skipped",
            "add_cluster dns",
            "add_backend dns-0-127.0.0.1:54 127.0.0.1:54 100",
            "add_cluster app",
        ],
    );
}

#[test]
fn addresses_of_backends_are_addresses_or_names() {
    for (address, complaint) in [
        ("", "is neither IP:PORT nor NAME:PORT"),
        ("db.test", "is neither IP:PORT nor NAME:PORT"),
        ("::1:80", "is neither IP:PORT nor NAME:PORT"),
        ("db.test:70000", "is neither IP:PORT nor NAME:PORT"),
        ("http://db.test:80", "is neither IP:PORT nor NAME:PORT"),
        ("other.test:80", "cannot be resolved: no such host"),
    ] {
        let text = app("", "").replace("127.0.0.1:81", address);
        check(&text, &[&format!("error 8: clusters.app.backends[0].address: \"{address}\" {complaint}")]);
    }
}

#[test]
fn defaults_are_those_of_the_table() {
    let config = parse_text("", &file()).expect("an empty file is a configuration");
    assert_eq!(config.command_socket, Path::new("/etc/kakehi/kakehi.sock"));
    assert_eq!(config.command_socket_mode, 0o600);
    assert_eq!((config.command_buffer_size, config.max_command_buffer_size), (1_000_000, 2_000_000));
    assert_eq!(config.worker_count, 2);
    assert_eq!(config.ctl_command_timeout, Some(Duration::from_secs(1)));
    assert_eq!((config.max_buffers, config.min_buffers, config.buffer_size), (1000, 1, 16_393));
    assert_eq!(config.command_allowed_uids, None);
    // The schema's own defaults are the same ones.
    let expected = proto::ServerConfig {
        access_log_format: proto::ProtobufAccessLogFormat::Ascii.into(),
        max_connection_attempts: Some(5),
        evict_on_queue_full: Some(false),
        max_connections: proto::ServerConfig::default().max_connections,
        retry_after: Some(60),
        subnet_ipv4_prefix: Some(32),
        subnet_ipv6_prefix: Some(128),
        ..config.server_config()
    };
    assert_eq!(config.server_config(), expected);
    let limits = config.limits();
    assert_eq!(
        (
            limits.header_fields_max,
            limits.idle_back_connections_max,
            limits.back_idle_timeout,
            limits.request_timeout
        ),
        (128, 64, 55, 10)
    );
}

#[test]
fn settings_are_what_the_file_says() {
    let text = r#"
        command_socket = "run/x.sock"
        command_socket_mode = "660"
        command_allowed_uids = [0, 1_000]
        ctl_command_timeout = 0
        saved_state = "/var/lib/state"
        worker_count = 1024
        min_buffers = 50
        max_buffers = 20
        front_timeout = 7
        request_timeout = 8
        max_header_fields = 200
        [[listeners]]
        address = "127.0.0.1:80"
        protocol = "http"
        back_timeout = 9
        forwarded_headers = "rfc7239"
        send_x_real_ip = true
    "#;
    let config = parse_text(text, &file()).expect("accepted");
    assert_eq!(config.command_socket, Path::new("/etc/kakehi/run/x.sock"));
    assert_eq!(config.command_socket_mode, 0o660);
    assert_eq!(config.command_allowed_uids, Some(vec![0, 1000]));
    assert_eq!(config.ctl_command_timeout, None);
    assert_eq!(config.saved_state.as_deref(), Some(Path::new("/var/lib/state")));
    assert_eq!(config.worker_count, 1024);
    assert_eq!((config.max_buffers, config.min_buffers), (20, 20));
    assert_eq!(config.server_config().front_timeout, 7);
    assert_eq!((config.limits().header_fields_max, config.limits().request_timeout), (200, 8));
    let Some(Order::AddHttpListener(listener)) = config.orders.first() else { panic!("no listener") };
    assert_eq!(listener.front_timeout(), Duration::from_secs(7), "the top-level value");
    assert_eq!(listener.back_timeout(), Duration::from_secs(9));
    assert_eq!(listener.forwarded_headers(), crate::order::ForwardedHeaders::Rfc7239);
    assert!(listener.send_x_real_ip() && !listener.elide_x_real_ip() && !listener.active());
}

#[test]
fn files_are_loaded_relative_to_their_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("k.toml");
    let errors = load(&path).expect_err("nothing there");
    assert_eq!(errors.to_string(), format!("{}: there is no such file", path.display()));

    std::fs::write(&path, app("", "").replace("127.0.0.1:81", "name.invalid:81")).expect("written");
    let settings = load_settings(&path).expect("names are not looked up for settings");
    assert_eq!(settings.command_socket, directory.path().join("kakehi.sock"));
    assert_eq!(settings.orders, []);
    assert_eq!(settings.ctl_command_timeout, Some(Duration::from_secs(1)));

    // What stands before the first table is all that a client needs; a line in a list or a text begins none.
    for (text, fits) in [
        ("ctl_command_timeout = 7\ncommand_socket = \"x\"\n[clusters.a]\nnonsense", true),
        ("ctl_command_timeout = 7\ncommand_allowed_uids = [\n1,\n2]\ncommand_socket = \"x\"\n", true),
        ("command_socket = \"\"\"\\\n[x\"\"\"\nctl_command_timeout = 7\n", true),
        ("command_socket = \"\"\"\\\n[x\"\"\"\nctl_command_timeout = 7\n[clusters.a]\nnonsense", false),
        ("ctl_command_timeout = \"x\"\ncommand_socket = \"x\"\n[clusters.a]\nnonsense", false),
    ] {
        std::fs::write(&path, text).expect("written");
        match load_settings(&path) {
            Ok(settings) if fits => assert_eq!(settings.ctl_command_timeout, Some(Duration::from_millis(7))),
            Err(_) if !fits => {}
            other => panic!("{text}: {other:?}"),
        }
    }

    std::fs::write(&path, [0xff]).expect("written");
    assert_eq!(load(&path).expect_err("no text").errors[0].text, "the file is not UTF-8 text");
}

proptest::proptest! {
    /// Whatever a file holds is answered with diagnostics.
    #[test]
    fn no_text_panics(text in "(\\[\\[?(listeners|clusters\\.a|clusters\\.a\\.(frontends|backends)|metrics)\\]\\]?\n|(address|protocol|hostname|weight|frontends|backends|headers|hsts|log_level|answers|xyzzy|worker_count) = (1|-1|\"http\"|\"127\\.0\\.0\\.1:80\"|\"\"|true|\\[\\]|\\[\\{\\}\\]|\\{\\}|\\{ a = 1 \\}|[0-9]{1,25}|\"[^\"\\\\]{0,8}\")\n){0,12}") {
        let _ = parse_text(&text, &file());
    }
}
#[test]
fn what_is_missing_is_told_where_its_table_begins() {
    for (text, expected) in [
        (
            "\n\n[[clusters.a.frontends]]\naddress = \"127.0.0.1:80\"\n",
            ["error 3: clusters.a.backends: is required", "error 3: clusters.a.protocol: is required"],
        ),
        (
            "\nclusters.a.protocol = \"http\"\n",
            ["error 2: clusters.a.frontends: is required", "error 2: clusters.a.backends: is required"],
        ),
        (
            "listeners = [\n\n  {}]",
            ["error 3: listeners[0].address: is required", "error 3: listeners[0].protocol: is required"],
        ),
    ] {
        check(text, &expected);
    }
}
