//! `config check`, and verbs that find no proxy: no socket is served here.

use std::fs;
use std::process::Output;

use crate::support::run;

struct Sandbox(tempfile::TempDir);

impl Sandbox {
    fn with_config(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config.toml"), text).unwrap();
        Self(directory)
    }

    /// Runs it, and checks exit status, standard output and standard error.
    fn check(&self, command: &str, status: i32, stdout: &str, stderr: &str) {
        let output: Output = run("kakehi", self.0.path(), command.split_whitespace());
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).replace(&self.0.path().display().to_string(), "DIR")
        };
        assert_eq!(
            (output.status.code(), text(&output.stdout).as_str(), text(&output.stderr).as_str()),
            (Some(status), stdout, stderr),
            "{command}"
        );
    }
}

const VALID: &str = "Configuration file is valid\n";

#[test]
fn a_valid_file_is_valid() {
    let sandbox = Sandbox::with_config("worker_count = 3\n");
    sandbox.check("config check -c config.toml", 0, VALID, "");
    sandbox.check("-c config.toml --json config check", 0, "{}\n", "");
    sandbox.check("config check", 0, VALID, "");
}

#[test]
fn warnings_are_told_beside_the_verdict() {
    Sandbox::with_config("worker_cuont = 3\n").check(
        "config check -c config.toml",
        0,
        VALID,
        "warning: config.toml:1: worker_cuont: unknown key, ignored; did you mean `worker_count`?\n",
    );
}

#[test]
fn all_errors_are_told_at_once() {
    let sandbox = Sandbox::with_config("worker_count = 0\nfront_timeout = \"x\"\n");
    let output = run("kakehi", sandbox.0.path(), ["config", "check", "-c", "config.toml"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(lines[0].starts_with("config.toml:1: worker_count: "), "{stderr}");
    assert!(lines[1].starts_with("config.toml:2: front_timeout: "), "{stderr}");
}

#[test]
fn start_refuses_a_wrong_file() {
    let sandbox = Sandbox::with_config("worker_count = 0\n");
    let output = run("kakehi", sandbox.0.path(), ["start", "-c", "config.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("config.toml:1: worker_count: "), "{stderr}");
    assert!(output.stdout.is_empty());
}

#[test]
fn without_a_proxy_verbs_say_where_they_looked() {
    let sandbox = Sandbox::with_config("command_socket = \"proxy.sock\"\n");
    sandbox.check(
        "status -c config.toml",
        1,
        "",
        "cannot reach the proxy at DIR/proxy.sock: No such file or directory (os error 2)\n\
         Is it running? `kakehi start --config config.toml` starts it.\n",
    );
    sandbox.check(
        "status",
        1,
        "",
        "cannot reach the proxy at DIR/kakehi/kakehi.sock: No such file or directory (os error 2)\n\
         Is it running? `kakehi start` starts it; a proxy with a configuration file is found by --config FILE.\n",
    );
}

/// Fifteen mistakes of as many kinds, and two warnings.
const WRONG: &str = r#"worker_count = 0
worker_cuont = 3
command_socket_mode = "0999"
log_level = "loud"
front_timeout = "soon"
command_allowed_uids = []
saved_state = 7

[[listeners]]
protocol = "htp"
address = "127.0.0.1:8080"

[[listeners]]
protocol = "http"
address = "127.0.0.1"

[[listeners]]
protocol = "http"
address = "127.0.0.1:8081"

[[listeners]]
protocol = "http"
address = "127.0.0.1:8081"

[[listeners]]
protocol = "https"
address = "127.0.0.1:8443"

[clusters.a]
protocol = "http"
answers = { "404" = "file:///missing.http" }
frontends = [
  { address = "127.0.0.1:8081", hostname = "a..test" },
  { address = "127.0.0.1:8443", hostname = "b.test", certificate = "missing.pem", key = "config.toml" },
  { address = "127.0.0.1:8443", hostname = "c.test", certificate = "config.toml", key = "config.toml" },
  { address = "127.0.0.1:8081", hostname = "d.test", pathtype = "PREFIX" },
  { address = "127.0.0.1:8081", hostname = "d.test" },
]
backends = [
  { address = "127.0.0.1:99999" },
  { address = "127.0.0.1:9000", weight = 300 },
]

[clusters.b]
frontends = []
backends = []
"#;

#[test]
fn every_kind_of_mistake_is_told_in_one_run_with_line_and_key() {
    let sandbox = Sandbox::with_config(WRONG);
    let output = run("kakehi", sandbox.0.path(), ["config", "check", "-c", "config.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let told: Vec<&str> = stderr
        .lines()
        .map(|line| line.splitn(4, ": ").collect::<Vec<_>>())
        .map(|parts| {
            // Warnings have one part more in front.
            let from = usize::from(parts[0] == "warning");
            assert!(parts[from].starts_with("config.toml:"), "{stderr}");
            parts[from + 1]
        })
        .collect();
    let lines: Vec<&str> = stderr
        .lines()
        .map(|line| {
            line.trim_start_matches("warning: ")
                .split(": ")
                .next()
                .unwrap()
                .trim_start_matches("config.toml:")
        })
        .collect();
    let expected = [
        ("1", "worker_count"),
        ("3", "command_socket_mode"),
        ("4", "log_level"),
        ("5", "front_timeout"),
        ("6", "command_allowed_uids"),
        ("7", "saved_state"),
        ("10", "listeners[0].protocol"),
        ("15", "listeners[1].address"),
        ("23", "listeners[3].address"),
        ("31", "clusters.a.answers.404"),
        ("33", "clusters.a.frontends[0].hostname"),
        ("34", "clusters.a.frontends[1].certificate"),
        ("35", "clusters.a.frontends[2].certificate"),
        ("37", "clusters.a.frontends[4]"),
        ("40", "clusters.a.backends[0].address"),
        ("41", "clusters.a.backends[1].weight"),
        ("44", "clusters.b.protocol"),
        ("2", "worker_cuont"),
        ("36", "clusters.a.frontends[3].pathtype"),
    ];
    let found: Vec<(&str, &str)> = lines.into_iter().zip(told).collect();
    assert_eq!(found, expected, "{stderr}");
    assert!(stderr.contains("did you mean `path_type`?"), "{stderr}");
}

#[test]
fn keys_of_other_certificates_are_all_told_with_their_places() {
    let pair = || rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let (one, two) = (pair(), pair());
    let frontend = |host: &str, certificate: &str, key: &str| {
        format!(
            "  {{ address = \"127.0.0.1:8443\", hostname = \"{host}\", certificate = \"{certificate}\", key = \"{key}\" }},\n"
        )
    };
    let text = format!(
        "[clusters.a]\nprotocol = \"http\"\nfrontends = [\n{}{}]\nbackends = []\n",
        frontend("a.test", "one.pem", "two.key"),
        frontend("b.test", "two.pem", "one.key")
    );
    let sandbox = Sandbox::with_config(&text);
    for (name, pair) in [("one", &one), ("two", &two)] {
        fs::write(sandbox.0.path().join(format!("{name}.pem")), pair.cert.pem()).unwrap();
        fs::write(sandbox.0.path().join(format!("{name}.key")), pair.signing_key.serialize_pem()).unwrap();
    }
    let output = run("kakehi", sandbox.0.path(), ["config", "check", "-c", "config.toml"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!((output.status.code(), lines.len()), (Some(1), 2), "{stderr}");
    assert!(lines[0].starts_with("config.toml:4: clusters.a.frontends[0].certificate: "), "{stderr}");
    assert!(lines[1].starts_with("config.toml:5: clusters.a.frontends[1].certificate: "), "{stderr}");
}
