//! A worker that dies young again and again is restarted ever more slowly, and the others serve on.

use std::time::{Duration, Instant};

use kakehi_e2e::http::Backend;
use kakehi_e2e::load::{Connections, Load, Target};
use kakehi_e2e::{Proxy, await_replaced, send_signal};
use nix::sys::signal::Signal;

#[test]
#[expect(clippy::disallowed_methods, reason = "measures delays")]
fn crash_loop_backs_off_and_ends_when_the_worker_lives() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let target = Target { address: proxy.address(), host: "a.test".into(), path: "/".into() };
    let keep_alive = Load::start(&target, Connections::KeepAlive, 4);
    let mut delays = Vec::new();
    let first = proxy.workers();
    let survivor = first[1].pid;
    let mut victim = u32::try_from(first[0].pid).expect("a pid");
    for _crash in 0..6 {
        let killed = Instant::now();
        send_signal(victim, Signal::SIGKILL);
        let workers = await_replaced(&proxy, victim, 2);
        delays.push(killed.elapsed());
        let successor = workers.iter().find(|worker| worker.pid != survivor).expect("a second worker");
        victim = u32::try_from(successor.pid).expect("a pid");
    }
    println!("delays of a slot's restarts: {delays:?}");
    let (first, last) = (delays[0], delays[delays.len() - 1]);
    assert!(last > first * 2 && last > Duration::from_millis(100), "no back-off: {delays:?}");
    assert!(proxy.workers().iter().any(|worker| worker.pid == survivor), "the other worker was touched");
    let report = keep_alive.stop();
    assert_eq!(report.failed_to_connect, 0, "{:#?}", report.reasons);
    proxy.stop();
}
