//! Whatever came and went, processes, file descriptors and memory are at the end what they were.

use std::time::Duration;

use kakehi_e2e::deadline::{await_true, await_value_within};
use kakehi_e2e::http::{Backend, Client, get};
use kakehi_e2e::{CommandClient, Proxy, address, await_replaced, process, requests, send_signal};
use nix::sys::signal::Signal;

fn proxy_for(backend: &Backend) -> Proxy {
    Proxy::builder().setting("back_idle_timeout = 1").cluster("a", "a.test", &[backend.address()]).start()
}

/// Waits until `pid` has as many file descriptors as it had.
fn expect_fds(pid: u32, count: usize, what: &str) {
    let settled = kakehi_e2e::deadline::try_await_value(Duration::from_secs(10), || {
        (process::open_fds(pid)? <= count).then_some(())
    });
    assert!(
        settled.is_some(),
        "{what}: {count} descriptors before, {:?} now: {:#?}",
        process::open_fds(pid),
        process::fd_targets(pid)
    );
}

#[test]
fn no_descriptor_survives_an_exec() {
    if !process::may_look_inside() {
        return;
    }
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let _client = CommandClient::connect(proxy.socket()).expect("served");
    let mut client = Client::connect(proxy.address());
    client.get("a.test", "/");
    // Not even those that whoever runs the tests left open for all of us.
    for pid in proxy.worker_pids().into_iter().chain([proxy.main_pid()]) {
        assert_eq!(process::inheritable_fds(pid), [], "of process {pid}");
    }
}

#[test]
fn workers_hold_only_their_own_sockets() {
    if !process::may_look_inside() {
        return;
    }
    // Neither the command socket's clients nor the other slots' listeners.
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let pids = proxy.worker_pids();
    let counts: Vec<_> = pids.iter().filter_map(|pid| process::open_fds(*pid)).collect();
    let _clients: Vec<_> = (0..20).map(|_| proxy.command()).collect();
    let victim = pids[0];
    send_signal(victim, Signal::SIGKILL);
    await_replaced(&proxy, victim, 2);
    for pid in proxy.worker_pids() {
        let count = process::open_fds(pid).expect("it runs");
        assert!(
            counts.iter().all(|before| count <= *before),
            "{counts:?}, then {count}: {:#?}",
            process::fd_targets(pid)
        );
    }
}

#[test]
fn clients_and_listeners_come_and_go_without_a_trace_in_main() {
    if !process::may_look_inside() {
        return;
    }
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let mut command = proxy.command();
    command.ok(requests::status());
    let before = process::open_fds(proxy.main_pid()).expect("it runs");
    for _ in 0..50 {
        let mut client = proxy.command();
        client.ok(requests::status());
    }
    // Clients that leave in the middle of a frame, or of an answer.
    for _ in 0..50 {
        let mut client = proxy.command();
        client.send_bytes(&[42, 0, 0, 0, 0, 0, 0, 0, 1]).expect("taken");
        let mut client = proxy.command();
        client.send(requests::status());
    }
    for _ in 0..20 {
        let listener = address::free_address();
        command.ok(requests::add_listener(listener));
        command.ok(requests::activate_listener(listener));
        command.ok(requests::deactivate_listener(listener));
        command.ok(requests::remove_listener(listener));
        let listener = address::free_address();
        command.ok(requests::add_listener(listener));
        command.ok(requests::activate_listener(listener));
        command.ok(requests::remove_listener(listener));
    }
    expect_fds(proxy.main_pid(), before, "main, after clients and listeners");
}

#[test]
fn crashed_workers_are_reaped_and_leave_nothing_in_main() {
    if !process::may_look_inside() {
        return;
    }
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let before = process::open_fds(proxy.main_pid()).expect("it runs");
    for _ in 0..4 {
        let victim = proxy.worker_pids()[0];
        send_signal(victim, Signal::SIGKILL);
        await_replaced(&proxy, victim, 2);
        await_true("the dead worker is reaped", || process::state(victim).is_none());
    }
    assert!(process::zombies(proxy.main_pid()).is_empty());
    assert_eq!(process::children(proxy.main_pid()).len(), 2);
    expect_fds(proxy.main_pid(), before, "main, after crashes");
}

#[test]
fn sessions_come_and_go_without_a_trace_in_workers() {
    if !process::may_look_inside() {
        return;
    }
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(1)
        .setting("back_idle_timeout = 1")
        .cluster("a", "a.test", &[backend.address()])
        .cluster("b", "b.test", &[address::free_address()])
        .start();
    let worker = proxy.worker_pids()[0];
    // Once through everything first: what is built lazily belongs to the start.
    get(proxy.address(), "a.test", "/");
    let before = await_value_within(Duration::from_secs(10), "the pool drains", || {
        (backend.open() == 0).then(|| process::open_fds(worker)).flatten()
    });
    for round in 0..300 {
        let mut client = Client::connect(proxy.address());
        match round % 6 {
            0 => drop(client.get("a.test", "/")),
            1 => drop(client.get("b.test", "/")),
            2 => client.send("GET / HT"),
            3 => client.send("garbage\r\n\r\n"),
            4 => client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            _ => client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\npart"),
        }
    }
    expect_fds(worker, before, "worker, after sessions");
    assert_eq!(proxy.command().metric("buffer.in_use"), 0);
    assert_eq!(proxy.command().metric("client.connections"), 0);
    assert_eq!(proxy.worker_pids(), [worker], "the worker died on the way");
}

#[test]
fn memory_returns_after_many_changes() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let mut command = proxy.command();
    let mut churn = |rounds: usize| {
        for round in 0..rounds {
            let cluster = format!("c{}", round % 100);
            command.ok(requests::add_cluster(&cluster));
            command.ok(requests::add_backend(&cluster, "b", backend.address()));
            command.ok(requests::add_frontend(&cluster, proxy.address(), &format!("{cluster}.test")));
            command.ok(requests::remove_cluster(&cluster));
        }
    };
    churn(300);
    let pids: Vec<u32> = proxy.worker_pids().into_iter().chain([proxy.main_pid()]).collect();
    let before: Vec<u64> = pids.iter().filter_map(|pid| process::resident_bytes(*pid)).collect();
    churn(2_000);
    let after: Vec<u64> = pids.iter().filter_map(|pid| process::resident_bytes(*pid)).collect();
    println!("resident bytes before {before:?}, after 2,000 more rounds {after:?}");
    for (before, after) in before.iter().zip(&after) {
        assert!(*after < before + 4 * 1024 * 1024, "memory grows with changes: {before} then {after}");
    }
}
