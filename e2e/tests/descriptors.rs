//! File descriptors: what is configured is held against what there is, and running out of them is survived without a
//! turn of any loop too many.

use std::time::Duration;

use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::{await_true, run_for};
use kakehi_e2e::http::{After, Backend, Client, get};
use kakehi_e2e::{CommandClient, Proxy, process, requests};

/// How long a process is watched that has nothing to do.
const WATCHED: Duration = Duration::from_secs(3);

/// A loop that spins takes all of it.
const IDLE_MAX: Duration = Duration::from_millis(400);

/// Answers each request once its body is there; a large answer if it asks for one.
fn backend() -> Backend {
    Backend::start(|exchange| {
        let (length, _) = exchange.body_digest()?;
        let answer = match exchange.head.target.as_str() {
            "/large" => "x".repeat(300_000),
            _ => format!("{length} bytes"),
        };
        exchange.answer(&answer)?;
        Ok(After::KeepAlive)
    })
}

/// What a process takes while it is watched.
fn watch(pid: u32) -> Duration {
    let before = process::processor_time(pid).expect("it runs");
    run_for(WATCHED);
    process::processor_time(pid).expect("it runs") - before
}

fn starve(pid: u32) {
    process::limit_fds(pid, Some(process::lowest_unused_fd(pid)));
}

fn await_metric(command: &mut CommandClient, name: &str, value: i64) {
    await_true(&format!("{name} is {value}"), || command.metric(name) == value);
}

#[test]
fn more_than_there_may_be_is_refused_with_both_numbers() {
    let builder = Proxy::builder().setting("max_connections = 5000");
    let mut proxy = builder.spawn_with_fds(4096);
    assert_eq!(proxy.await_exit().code(), Some(1));
    let output = proxy.output();
    let needed = 2 * 5000 + 2 * 256 + 256 + 1 + 32;
    for words in [
        &format!("max_connections = 5000 needs {needed} file descriptors in each worker"),
        "the hard limit of this process is 4096",
        "LimitNOFILE=",
        "or lower max_connections to 1647",
    ] {
        assert!(output.contains(words), "{output}");
    }
    // What it says would do does.
    let backend = backend();
    let builder =
        Proxy::builder().setting("max_connections = 1647").cluster("a", "a.test", &[backend.address()]);
    let mut proxy = builder.spawn_with_fds(4096);
    proxy.await_running(2);
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "0 bytes");
    assert!(!proxy.output().contains("descriptors"), "{}", proxy.output());
}

#[test]
fn what_nobody_has_written_is_lowered_to_what_there_is() {
    let mut proxy = Proxy::builder().workers(1).spawn_with_fds(1200);
    proxy.await_running(1);
    let output = proxy.output();
    assert!(output.contains("max_connections is 199, not 10000"), "{output}");
    assert_eq!(proxy.command().metric("client.connections_max"), 199);
}

#[test]
fn connections_wait_in_the_kernel_while_descriptors_are_short() {
    if !process::may_look_inside() {
        return;
    }
    let backend = backend();
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    let worker = proxy.worker_pids()[0];
    let mut command = proxy.command();
    let mut under_way = Client::connect(proxy.address());
    under_way.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nfirst");
    let mut idle = Client::connect(proxy.address());
    assert_eq!(idle.get("a.test", "/missing").status(), 200);
    let leaving = Client::connect(proxy.address());
    await_metric(&mut command, "client.connections", 3);
    // The one that is kept idle goes first: its descriptor is a client's then.
    starve(worker);
    let mut waiting: Vec<Client> = (0..20).map(|_| Client::connect(proxy.address())).collect();
    for client in &mut waiting {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    await_true("accepting fails", || command.metric("accept.errors") > 0);
    await_metric(&mut command, "client.connections", 4);
    assert_eq!(command.metric("backend.pool.size"), 0);
    let spent = watch(worker);
    println!("processor time within {WATCHED:?}: {spent:?}");
    assert!(spent < IDLE_MAX, "{spent:?} of {WATCHED:?}");
    // Once for each that came, and once a second.
    assert!(command.metric("accept.errors") < 60, "{}", command.metric("accept.errors"));

    // What is served goes on; whoever needs a connection to a backend is told so at once, and that is nobody's fault.
    under_way.send("other");
    assert_eq!(under_way.response("POST").text(), "10 bytes");
    let before = command.metric("backend.connections.error");
    drop(under_way);
    // Whichever of those who wait takes the place of one that ends.
    await_true("another takes its place", || command.metric("listener.accepted.total") > 4);
    starve(worker);
    drop(leaving);
    await_true("and one more", || command.metric("listener.accepted.total") > 5);
    idle.set_patience(Duration::from_secs(2));
    let refused = |client: &mut Client| client.get("a.test", "/").status();
    await_true("no descriptor is left for a backend", || refused(&mut idle) == 503);
    assert!(command.metric("backend.connections.error") > before);
    assert_eq!(command.metric("backend.down"), 0, "the backend is not to blame");
    assert!(watch(worker) < IDLE_MAX);

    process::limit_fds(worker, None);
    let served = waiting.iter_mut().map(|client| client.response("GET").status());
    let statuses: Vec<u16> = served.collect();
    // Those who came in while there was no descriptor for a backend have their answer, too.
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.iter().filter(|status| **status == 200).count() >= 15, "{statuses:?}");
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    assert_eq!(proxy.worker_pids(), [worker]);
}

#[test]
fn without_a_pipe_bodies_are_copied() {
    if !process::may_look_inside() {
        return;
    }
    let backend = backend();
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    let worker = proxy.worker_pids()[0];
    let mut client = Client::connect(proxy.address());
    assert_eq!(client.get("a.test", "/").text(), "0 bytes");
    starve(worker);
    assert_eq!(client.get("a.test", "/large").text().len(), 300_000);
    assert_eq!(proxy.command().metric("bytes_spliced"), 0);
    assert!(watch(worker) < IDLE_MAX);
    process::limit_fds(worker, None);
    assert_eq!(client.get("a.test", "/large").text().len(), 300_000);
    assert!(proxy.command().metric("bytes_spliced") > 0);
}

#[test]
fn a_probe_that_has_no_descriptor_says_nothing_of_its_backend() {
    if !process::may_look_inside() {
        return;
    }
    let backend = backend();
    let check = "health_check = { uri = \"/up\", interval = 1, timeout = 1, healthy_threshold = 1, \
                 unhealthy_threshold = 1, jitter_percent = 0 }";
    let frontend = ["hostname = \"a.test\", path = \"/\""];
    let proxy = Proxy::builder().workers(1).cluster_with("a", check, &frontend, &[backend.address()]).start();
    let worker = proxy.worker_pids()[0];
    let mut command = proxy.command();
    await_true("it is probed", || command.metric("health_check.success") > 0);
    await_metric(&mut command, "health_check.in_flight", 0);
    starve(worker);
    assert!(watch(worker) < IDLE_MAX);
    let answered = command.metric("health_check.success");
    run_for(Duration::from_secs(2));
    assert_eq!(command.metric("health_check.success"), answered, "no probe can be sent");
    assert_eq!(command.metric("health_check.failure"), 0);
    assert_eq!(command.metric("health_check.healthy_backends"), 1);
    process::limit_fds(worker, None);
    await_true("it is probed again", || command.metric("health_check.success") > answered);
}

#[test]
fn main_without_descriptors_serves_whom_it_has() {
    if !process::may_look_inside() {
        return;
    }
    let proxy = Proxy::builder().workers(1).start();
    let main = proxy.main_pid();
    let mut command = proxy.command();
    command.ok(requests::status());
    starve(main);
    let waiting: Vec<CommandClient> =
        (0..5).map(|_| CommandClient::connect(proxy.socket()).expect("the kernel takes it")).collect();
    assert!(watch(main) < IDLE_MAX);
    command.ok(requests::status());
    let listener = free_address();
    command.ok(requests::add_listener(listener));
    let refusal = command.refused(requests::activate_listener(listener));
    assert!(refusal.contains("no file descriptor is left"), "{refusal}");
    process::limit_fds(main, None);
    for mut client in waiting {
        client.ok(requests::status());
    }
    command.ok(requests::activate_listener(listener));
}
