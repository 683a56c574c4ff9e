//! A new user's first minutes: `kakehi start` without a file, and what it tells to try.

use kakehi_e2e::http::{After, Backend, Client, get};
use kakehi_e2e::{Proxy, process};
use nix::sys::signal::Signal;

/// The embedded configuration has a fixed port: if a neighbour holds it, this cannot be tested here.
fn start() -> Option<Proxy> {
    if Client::try_connect(([127, 0, 0, 1], 8080).into()).is_ok() {
        kakehi_e2e::skipped("something listens on 127.0.0.1:8080 already");
        return None;
    }
    let cores = std::thread::available_parallelism().expect("the kernel knows").get();
    let mut proxy = Proxy::spawn_embedded();
    proxy.await_running(cores);
    kakehi_e2e::deadline::await_true("it says what to try", || proxy.stdout().contains("Ctrl-C"));
    Some(proxy)
}

/// Arguments of the printed lines that are commands of ours, in order.
fn printed_commands(text: &str) -> Vec<Vec<String>> {
    let words = |line: &str| -> Option<Vec<String>> {
        let line = line.trim().trim_start_matches("$ ");
        let arguments = match line.split_once(" -- ") {
            Some((cargo, arguments)) if cargo.starts_with("cargo run") => arguments,
            _ => {
                let (program, arguments) = line.split_once(' ')?;
                (program.rsplit('/').next() == Some("kakehi")).then_some(arguments)?
            }
        };
        Some(arguments.split_whitespace().map(|word| word.trim_matches(['\'', '"']).to_owned()).collect())
    };
    text.lines().filter_map(words).collect()
}

/// One test: the port is one for all.
#[test]
fn five_minutes_of_a_new_user() {
    let Some(mut proxy) = start() else { return };
    let text = proxy.stdout();
    println!("{text}");

    // The curl it prints works.
    let curl = text.lines().find(|line| line.contains("curl ")).expect("a curl to try");
    assert!(curl.contains("127.0.0.1:8080"), "{curl}");
    let response = get(proxy.address(), "127.0.0.1:8080", "/");
    assert_eq!(response.status(), 200, "{}", response.text());
    assert!(!response.text().is_empty());

    // So do the changes, as printed, in order.
    let commands = printed_commands(&text);
    assert!(commands.len() >= 3, "three hot changes to try, found {commands:?}");
    for command in &commands {
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        proxy.cli().ok(&arguments);
        assert!(get(proxy.address(), "127.0.0.1:8080", "/").status() < 500, "after {command:?}");
    }

    // And one's own backend.
    let backend = Backend::named("mine");
    let address = backend.address().to_string();
    proxy.cli().ok(&["cluster", "add", "--id", "mine", "--load-balancing-policy", "round_robin"]);
    proxy.cli().ok(&["backend", "add", "--id", "mine", "--backend-id", "m1", "--address", &address]);
    let frontend =
        ["frontend", "http", "add", "-a", "127.0.0.1:8080", "--hostname", "mine.test", "id", "mine"];
    proxy.cli().ok(&frontend);
    assert_eq!(get(proxy.address(), "mine.test", "/").text(), "mine");

    ctrl_c_drains(&mut proxy);
}

/// Ctrl-C: the request in flight is finished, new connections are refused, nothing is left.
fn ctrl_c_drains(proxy: &mut Proxy) {
    let slow = Backend::start(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsl")?;
        exchange.body_digest()?;
        exchange.write("ow")?;
        Ok(After::KeepAlive)
    });
    let address = slow.address().to_string();
    proxy.cli().ok(&["cluster", "add", "--id", "slow", "--load-balancing-policy", "round_robin"]);
    proxy.cli().ok(&["backend", "add", "--id", "slow", "--backend-id", "s1", "--address", &address]);
    proxy.cli().ok(&[
        "frontend",
        "http",
        "add",
        "-a",
        "127.0.0.1:8080",
        "--hostname",
        "slow.test",
        "id",
        "slow",
    ]);
    let mut client = Client::connect(proxy.address());
    client.send("POST / HTTP/1.1\r\nHost: slow.test\r\nContent-Length: 3\r\n\r\n");
    let (_, framing) = client.try_head("POST").expect("the head comes");
    let children = process::children(proxy.main_pid());
    proxy.signal(Signal::SIGINT);
    kakehi_e2e::deadline::await_true("new connections are refused", || {
        Client::try_connect(proxy.address()).is_err()
    });
    assert!(proxy.exit_status().is_none(), "it did not wait for the request in flight");
    client.send("end");
    let mut body = Vec::new();
    client.stream_body(framing, |piece| body.extend_from_slice(piece)).expect("the rest of the response");
    assert_eq!(body, b"slow");
    let status = proxy.await_exit();
    assert_eq!(status.code(), Some(0), "{}", proxy.output());
    proxy.assert_nothing_left(&children);
}
