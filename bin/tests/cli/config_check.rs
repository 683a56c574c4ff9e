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
