//! Workers have given up what they do not need before they serve, and one switch turns that off. What each
//! rule refuses is tested beside the rules; here it is the real process that is looked at.

use std::fs;

use kakehi_e2e::http::{Backend, get};
use kakehi_e2e::{Proxy, ProxyBuilder, await_replaced, deadline, process, send_signal};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

/// The value of a line of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("a line that every kernel writes").trim().to_owned()
}

fn proxy(backend: &Backend) -> ProxyBuilder {
    Proxy::builder().cluster("a", "a.test", &[backend.address()])
}

#[test]
fn workers_are_confined_and_serve() {
    let backend = Backend::named("hello");
    let proxy = proxy(&backend).start();
    for pid in proxy.worker_pids() {
        // 2: filters decide.
        assert_eq!((status(pid, "Seccomp"), status(pid, "NoNewPrivs")), ("2".into(), "1".into()), "{pid}");
        assert_eq!((status(pid, "CapEff"), status(pid, "CapPrm")), ("0".repeat(16), "0".repeat(16)), "{pid}");
    }
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "hello");
    assert_eq!(proxy.stdout().matches("sandbox: no new privileges").count(), 2, "{}", proxy.output());
    proxy.stop();
}

#[test]
fn successors_are_confined_too() {
    let backend = Backend::named("hello");
    let proxy = proxy(&backend).workers(1).start();
    let first = proxy.worker_pids()[0];
    send_signal(first, Signal::SIGKILL);
    let successor = u32::try_from(await_replaced(&proxy, first, 1)[0].pid).expect("a pid");
    assert_eq!(status(successor, "Seccomp"), "2");
    proxy.stop();
}

#[test]
fn the_switch_turns_it_off() {
    let backend = Backend::named("hello");
    let proxy = proxy(&backend).setting("worker_sandbox = false").start();
    for pid in proxy.worker_pids() {
        assert_eq!((status(pid, "Seccomp"), status(pid, "NoNewPrivs")), ("0".into(), "0".into()), "{pid}");
    }
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "hello");
    assert_eq!(proxy.stdout().matches("sandbox: none (worker_sandbox)").count(), 2, "{}", proxy.output());
    proxy.stop();
}

#[test]
fn the_main_process_keeps_its_abilities() {
    let proxy = Proxy::builder().start();
    // It starts workers, binds ports and writes state files.
    assert_eq!(status(proxy.main_pid(), "Seccomp"), "0");
    proxy.stop();
}

#[test]
fn a_worker_that_does_what_none_does_is_named_in_the_log() {
    let backend = Backend::named("hello");
    let proxy = proxy(&backend).start();
    let victim = proxy.worker_pids()[0];
    // What the kernel sends to a process that made a deadly call.
    send_signal(victim, Signal::SIGSYS);
    await_replaced(&proxy, victim, 2);
    let line = format!("(pid {victim}) ended with signal: 31 (SIGSYS)");
    deadline::await_true("the log says why", || {
        proxy.stdout().lines().any(|entry| entry.contains(&line) && entry.contains("its sandbox"))
    });
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "hello");
    proxy.stop();
}

/// Private keys are in the memory of both kinds of processes, whatever `worker_sandbox` says.
#[test]
fn no_process_leaves_a_core() {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).expect("a process has limits");
    setrlimit(Resource::RLIMIT_CORE, hard, hard).expect("up to the hard limit");
    for switch in ["worker_sandbox = true", "worker_sandbox = false"] {
        let mut proxy = Proxy::builder().setting(switch).start();
        let worker = proxy.worker_pids()[0];
        send_signal(worker, Signal::SIGABRT);
        await_replaced(&proxy, worker, 2);
        let workers = proxy.worker_pids();
        // How std writes the status of a process; one that left a core is `(SIGABRT) (core dumped)`.
        deadline::await_true("the log says how", || proxy.stdout().contains("signal: 6 (SIGABRT)"));
        assert!(!proxy.stdout().contains("core dumped"), "{}", proxy.output());
        proxy.signal(Signal::SIGABRT);
        let status = proxy.await_exit();
        assert!(!status.to_string().contains("core dumped"), "{status}");
        for pid in workers {
            // Those that serve on are told one by one.
            send_signal(pid, Signal::SIGTERM);
            deadline::await_true("workers follow", || !process::is_alive(pid));
        }
    }
}
