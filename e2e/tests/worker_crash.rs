//! `kill -9` of a worker under load: it costs what was in flight on it, and nothing else.

use std::fmt::Write;
use std::time::{Duration, Instant};

use kakehi_e2e::http::{Backend, get};
use kakehi_e2e::load::{Connections, Load, Target};
use kakehi_e2e::{Proxy, await_replaced, requests, send_signal};
use nix::sys::signal::Signal;

const CLUSTERS: usize = 1_000;
const THREADS: usize = 4;

/// The goal is 100 ms on an idle machine in a release build; a debug build on a loaded one gets more.
const BACK_MAX: Duration = Duration::from_secs(2);

fn thousand_clusters(backend: &Backend) -> Proxy {
    let builder = Proxy::builder();
    let listener = builder.address();
    let mut tables = String::new();
    for n in 0..CLUSTERS {
        write!(
            tables,
            "[clusters.c{n}]\nprotocol = \"http\"\n\
             frontends = [{{ address = \"{listener}\", hostname = \"h{n}.test\" }}]\n\
             backends = [{{ address = \"{}\" }}]\n",
            backend.address()
        )
        .expect("writing into a string");
    }
    builder.tables(&tables).start()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "measures the time a worker is away")]
fn killed_worker_costs_its_requests_in_flight_and_is_back_at_once() {
    let backend = Backend::named("hello");
    let proxy = thousand_clusters(&backend);
    let target = Target { address: proxy.address(), host: "h7.test".into(), path: "/".into() };
    let keep_alive = Load::start(&target, Connections::KeepAlive, THREADS);
    let new = Load::start(&target, Connections::New, THREADS);
    let mut away = Vec::new();
    for round in 0..4 {
        keep_alive.await_more(200);
        new.await_more(200);
        let workers = proxy.workers();
        let victim = u32::try_from(workers[round % 2].pid).expect("a pid");
        let killed = Instant::now();
        send_signal(victim, Signal::SIGKILL);
        await_replaced(&proxy, victim, 2);
        away.push(killed.elapsed());
        check_full_state(&proxy);
        // A worker that has lived for a while is replaced without delay: let it.
        kakehi_e2e::deadline::run_for(Duration::from_millis(1_500));
    }
    keep_alive.await_more(200);
    new.await_more(200);
    let (keep_alive, new) = (keep_alive.stop(), new.stop());
    println!("a killed worker is back, with {CLUSTERS} clusters, after {away:?}");
    println!("slowest request on a new connection: {:?}", new.slowest);
    println!(
        "keep-alive: {} ok, {} failed; new: {} ok, {} failed",
        keep_alive.ok, keep_alive.failed, new.ok, new.failed
    );
    // Each thread has at most one request in flight at each kill.
    let in_flight_max = (4 * THREADS) as u64;
    assert!(keep_alive.failed <= in_flight_max, "{:#?}", keep_alive.reasons);
    assert!(new.failed <= in_flight_max, "{:#?}", new.reasons);
    assert_eq!(keep_alive.failed_to_connect, 0, "{:#?}", keep_alive.reasons);
    assert_eq!(new.failed_to_connect, 0, "{:#?}", new.reasons);
    for time in &away {
        assert!(*time < BACK_MAX, "a worker was away for {time:?}");
    }
    proxy.stop();
}

/// Every worker holds what main holds, and serves it.
fn check_full_state(proxy: &Proxy) {
    let hashes: Vec<_> = proxy.command().cluster_hashes().into_values().collect();
    assert_eq!(hashes.len(), 3, "main and two workers");
    assert_eq!(hashes[0].len(), CLUSTERS);
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "a worker's clusters differ from main's");
    for n in (0..CLUSTERS).step_by(50) {
        assert_eq!(get(proxy.address(), &format!("h{n}.test"), "/").text(), "hello");
    }
}

#[test]
fn changes_made_around_a_crash_are_served_by_the_successor() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let mut command = proxy.command();
    for round in 0..5 {
        let victim = proxy.worker_pids()[0];
        let (before, after) = (format!("before{round}.test"), format!("after{round}.test"));
        command.ok(requests::add_frontend("a", proxy.address(), &before));
        send_signal(victim, Signal::SIGKILL);
        // While it is away or booting: an order must reach the successor, in order, once.
        command.ok(requests::add_frontend("a", proxy.address(), &after));
        await_replaced(&proxy, victim, 2);
        for _connection in 0..20 {
            assert_eq!(get(proxy.address(), &before, "/").text(), "hello");
            assert_eq!(get(proxy.address(), &after, "/").text(), "hello");
        }
        kakehi_e2e::deadline::run_for(Duration::from_millis(1_200));
    }
    proxy.stop();
}

#[test]
fn stopped_worker_that_does_not_answer_is_replaced() {
    let backend = Backend::named("hello");
    let proxy =
        Proxy::builder().setting("worker_timeout = 1").cluster("a", "a.test", &[backend.address()]).start();
    let victim = proxy.worker_pids()[0];
    // Alive for the kernel, deaf for main.
    send_signal(victim, Signal::SIGSTOP);
    let answer = proxy.command().request(requests::add_frontend("a", proxy.address(), "b.test"));
    await_replaced(&proxy, victim, 2);
    assert!(!kakehi_e2e::process::is_alive(victim), "the deaf worker was left running");
    println!("answered: {}", answer.message);
    for _connection in 0..20 {
        assert_eq!(get(proxy.address(), "b.test", "/").text(), "hello");
    }
}

#[test]
fn a_worker_that_hangs_is_replaced_though_nobody_asks_it_anything() {
    let backend = Backend::named("hello");
    let proxy =
        Proxy::builder().setting("worker_timeout = 1").cluster("a", "a.test", &[backend.address()]).start();
    let victim = proxy.worker_pids()[0];
    send_signal(victim, Signal::SIGSTOP);
    // Seen in the process table, not asked of the proxy: a question would be a reason of its own.
    kakehi_e2e::deadline::await_true("the stopped worker is gone", || !kakehi_e2e::process::is_alive(victim));
    await_replaced(&proxy, victim, 2);
    let counted = ["workers.lost", "workers.relaunched"].map(|name| proxy.command().metric(name));
    assert_eq!(counted, [1, 1]);
    for _ in 0..20 {
        assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    }
}
