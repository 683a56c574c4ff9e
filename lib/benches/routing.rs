//! What the router costs with a million hosts: time per look-up and per change, memory per host.
//!
//! `cargo bench -p kakehi-lib --bench routing [-- HOSTS]` prints it. Not a test: nothing is asserted
//! about time. Without cargo's `--bench` (as under `cargo test --benches`) it runs with few hosts.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kakehi_command::order::HttpFrontend;
use kakehi_command::proto::{PathRule, PathRuleKind, RequestHttpFrontend, RulePosition};
use kakehi_lib::routing::Router;

const HOSTS_DEFAULT: usize = 1_000_000;
const HOSTS_IN_TESTS: usize = 1_000;
const LOOK_UPS: usize = 2_000_000;
/// Coprime to any number of hosts below it: steps through them in an order no cache expects.
const STRIDE: usize = 1_000_000_007;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = arguments.iter().find_map(|argument| argument.parse().ok());
    let measuring = arguments.iter().any(|argument| argument == "--bench");
    let hosts: usize = asked.unwrap_or(if measuring { HOSTS_DEFAULT } else { HOSTS_IN_TESTS });
    let frontends: Vec<Arc<HttpFrontend>> = (0..hosts).map(|i| frontend(&name(i))).collect();
    let mut router = Router::default();
    let before = resident_bytes();
    let mut slowest = Duration::ZERO;
    let insertion = time(hosts, |i| {
        let start = now();
        router.insert(&frontends[i], frontends[i].clone()).expect("each host is there once");
        slowest = slowest.max(start.elapsed());
    });
    println!("{hosts} hosts");
    println!("insert    {insertion:>8.0} ns, the slowest {:.1} ms", slowest.as_secs_f64() * 1e3);
    println!("memory    {:>8} bytes a host", resident_bytes().saturating_sub(before) / hosts.max(1));

    let wildcard = frontend("*.wild.test");
    router.insert(&wildcard, wildcard.clone()).expect("it is new");
    let look_up = |name: &dyn Fn(usize) -> String| {
        // Some names in advance, so that making them is not measured; far enough apart to be cold.
        let names: Vec<String> =
            (0..hosts.min(200_000)).map(|i| name(i.wrapping_mul(STRIDE) % hosts)).collect();
        let empty = time(LOOK_UPS, |i| {
            black_box(names[i % names.len()].bytes().fold(0, u8::wrapping_add));
        });
        time(LOOK_UPS, |i| {
            black_box(router.route(names[i % names.len()].as_bytes(), b"/some/path?q=1", b"GET"));
        }) - empty
    };
    println!("known     {:>8.0} ns a look-up", look_up(&name));
    println!("wildcard  {:>8.0} ns", look_up(&|i| format!("host-{i}.wild.test")));
    println!("unknown   {:>8.0} ns", look_up(&|i| format!("no-host-{i}.example.test")));
    let removal = time(hosts, |i| drop(black_box(router.remove(&frontends[i.wrapping_mul(STRIDE) % hosts]))));
    println!("remove    {removal:>8.0} ns");
    assert_eq!(router.len(), 1, "only the wildcard is left");
}

fn name(i: usize) -> String {
    format!("host-{i}.example{}.test", i % 1_000)
}

fn frontend(hostname: &str) -> Arc<HttpFrontend> {
    let frontend = HttpFrontend::from_wire(RequestHttpFrontend {
        cluster_id: Some("app".to_owned()),
        address: SocketAddr::from(([127, 0, 0, 1], 80)).into(),
        hostname: hostname.to_owned(),
        path: PathRule { kind: PathRuleKind::Prefix.into(), value: "/".to_owned() },
        position: RulePosition::Tree.into(),
        ..Default::default()
    });
    Arc::new(frontend.expect("a frontend that is served"))
}

/// Nanoseconds of processor time a call.
fn time(calls: usize, mut call: impl FnMut(usize)) -> f64 {
    let start = processor_nanos();
    (0..calls).for_each(&mut call);
    (processor_nanos() - start) / f64::from(u32::try_from(calls.max(1)).unwrap_or(u32::MAX))
}

/// Time this process has run (proc(5), schedstat), so that a busy machine does not count.
fn processor_nanos() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "a measurement of real time")]
fn now() -> Instant {
    Instant::now()
}

/// What this process has in memory (proc_pid_statm(5)), or 0 where that cannot be told.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4096
}
