//! What cannot work is said at once, in the operator's terms, and leaves nothing half started.

use std::fs;
use std::path::Path;

use kakehi_e2e::address::{free_address, taken_address};
use kakehi_e2e::http::Client;
use kakehi_e2e::{Cli, CommandClient, Proxy, ProxyBuilder, process};

/// Starts what must not start; gives what it said.
fn start_fails(builder: &ProxyBuilder) -> String {
    let mut proxy = builder.spawn();
    let status = proxy.await_exit();
    let output = proxy.output();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(!proxy.socket().exists(), "a socket was left\n{output}");
    assert!(!output.contains("panicked"), "{output}");
    output
}

/// Runs `start` on a config file with this text; gives what it said on standard error.
fn config_fails(text: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("proxy.toml");
    fs::write(&config, text).expect("a fresh directory");
    let cli = Cli::new(Some(&config), directory.path());
    let checked = cli.refused(&["config", "check"]);
    let started = cli.refused(&["start"]);
    for line in checked.lines().filter(|line| line.contains("proxy.toml")) {
        assert!(started.contains(line), "`config check` and `start` disagree:\n{checked}\n{started}");
    }
    let left: Vec<_> =
        fs::read_dir(directory.path()).expect("ours").flatten().map(|entry| entry.path()).collect();
    assert_eq!(left, [config], "something was left behind");
    started
}

#[test]
fn taken_port_is_named() {
    let (address, _guard) = taken_address();
    let builder = Proxy::builder()
        .without_listener()
        .tables(&format!("[[listeners]]\nprotocol = \"http\"\naddress = \"{address}\"\n"));
    let output = start_fails(&builder);
    assert!(output.contains(&address.to_string()), "{output}");
    assert!(output.contains("taken"), "{output}");
    // File, line and key: where to change it.
    let line = builder.config_text().lines().position(|line| line.contains(&address.to_string()));
    let line = line.expect("the address is in the file") + 1;
    assert!(output.contains(&format!(".toml:{line}: listeners[0]: ")), "{output}");
}

#[test]
fn nothing_is_left_when_the_second_listener_fails() {
    let (address, _guard) = taken_address();
    let builder =
        Proxy::builder().tables(&format!("[[listeners]]\nprotocol = \"http\"\naddress = \"{address}\"\n"));
    let first = builder.address();
    start_fails(&builder);
    assert!(Client::try_connect(first).is_err(), "the first listener was left");
}

#[test]
fn port_of_another_instance_is_as_taken_as_any() {
    let first = Proxy::builder().start();
    let builder = Proxy::builder()
        .without_listener()
        .tables(&format!("[[listeners]]\nprotocol = \"http\"\naddress = \"{}\"\n", first.address()));
    let output = start_fails(&builder);
    assert!(output.contains(&first.address().to_string()), "{output}");
    assert_eq!(kakehi_e2e::http::get(first.address(), "any.test", "/").status(), 404);
}

#[test]
fn socket_of_a_living_instance_is_respected() {
    let first = Proxy::builder().start();
    let text = format!(
        "command_socket = \"{}\"\nworker_count = 1\n[[listeners]]\nprotocol = \"http\"\naddress = \"{}\"\n",
        first.socket().display(),
        free_address()
    );
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("second.toml");
    fs::write(&config, text).expect("a fresh directory");
    let said = Cli::new(Some(&config), directory.path()).refused(&["start"]);
    assert!(said.contains(&*first.socket().display().to_string()), "{said}");
    CommandClient::connect(first.socket()).expect("still served").ok(kakehi_e2e::requests::status());
    first.stop();
}

#[test]
fn socket_of_a_dead_instance_is_replaced() {
    let builder = Proxy::builder();
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a fresh directory"));
    assert!(socket.exists());
    let text = builder.config_text().replace("command.sock", &socket.display().to_string());
    let mut proxy = spawn_with(&text, &socket);
    kakehi_e2e::deadline::await_true("it serves", || {
        assert!(proxy.try_wait().expect("our own child").is_none(), "it did not start");
        CommandClient::connect(&socket)
            .is_ok_and(|mut client| client.request(kakehi_e2e::requests::status()).content.is_some())
    });
    CommandClient::connect(&socket)
        .expect("served")
        .ok(kakehi_command::proto::request::RequestType::HardStop(Default::default()));
    proxy.wait().expect("our own child");
}

fn spawn_with(text: &str, socket: &Path) -> std::process::Child {
    let config = socket.with_extension("toml");
    fs::write(&config, text).expect("our own directory");
    std::process::Command::new(kakehi_e2e::kakehi_binary())
        .args(["start", "-c"])
        .arg(&config)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the binary under test runs")
}

#[test]
fn file_that_is_not_a_socket_is_not_deleted() {
    let directory = tempfile::tempdir().expect("a directory");
    let precious = directory.path().join("precious");
    fs::write(&precious, "data").expect("a fresh directory");
    let config = directory.path().join("proxy.toml");
    fs::write(&config, format!("command_socket = \"{}\"\n", precious.display())).expect("ours");
    let said = Cli::new(Some(&config), directory.path()).refused(&["start"]);
    assert!(said.contains("precious"), "{said}");
    assert_eq!(fs::read_to_string(&precious).expect("still there"), "data");
}

#[test]
fn wrong_value_names_file_line_and_key() {
    for (line, key) in [
        ("worker_count = \"two\"", "worker_count"),
        ("worker_count = 70000", "worker_count"),
        ("command_socket_mode = \"0400\"", "command_socket_mode"),
        ("front_timeout = -1", "front_timeout"),
        ("[[listeners]]\naddress = \"127.0.0.1\"\nprotocol = \"http\"", "listeners[0].address"),
        ("[[listeners]]\nprotocol = \"http\"", "address"),
        ("[[listeners]]\naddress = \"127.0.0.1:1\"\nprotocol = \"gopher\"", "listeners[0].protocol"),
    ] {
        let said = config_fails(&format!("# first line\n{line}\n"));
        assert!(said.contains(key), "{line}: {said}");
        assert!(
            (2..=4).any(|line| said.contains(&format!("proxy.toml:{line}:"))),
            "{line}: the line is not named: {said}"
        );
    }
}

#[test]
fn syntax_error_names_file_and_line() {
    let said = config_fails("worker_count = 1\n\n[[listeners\n");
    assert!(said.contains("proxy.toml:3:"), "{said}");
}

#[test]
fn all_errors_are_told_in_one_run() {
    let said = config_fails(
        "worker_count = \"two\"\nfront_timeout = \"long\"\n[[listeners]]\nprotocol = \"http\"\naddress = \"nowhere\"\n",
    );
    for expected in ["proxy.toml:1:", "proxy.toml:2:", "proxy.toml:5:"] {
        assert!(said.contains(expected), "{expected} is missing: {said}");
    }
}

#[test]
fn missing_file_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let said = Cli::new(Some(&directory.path().join("missing.toml")), directory.path()).refused(&["start"]);
    assert!(said.contains("missing.toml"), "{said}");
}

#[test]
fn broken_saved_state_stops_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("broken.state");
    fs::write(&file, "this is not a state file").expect("ours");
    let builder = Proxy::builder().setting(&format!("saved_state = \"{}\"", file.display()));
    let output = start_fails(&builder);
    assert!(output.contains("broken.state"), "{output}");
    assert!(Client::try_connect(builder.address()).is_err());
}

#[test]
fn failed_start_leaves_no_process() {
    let (address, _guard) = taken_address();
    let builder = Proxy::builder()
        .without_listener()
        .tables(&format!("[[listeners]]\nprotocol = \"http\"\naddress = \"{address}\"\n"));
    let mut proxy = builder.spawn();
    let mut children = Vec::new();
    while proxy.exit_status().is_none() {
        children.extend(process::children(proxy.main_pid()));
    }
    kakehi_e2e::deadline::await_true("its workers are gone", || {
        children.iter().all(|pid| !process::is_alive(*pid) || !process::is_called(*pid, "kakehi"))
    });
}
