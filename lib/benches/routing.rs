//! What the router costs with a million hosts, a tenth of them wildcards: time per look-up and per change,
//! memory per host.
//!
//! `cargo bench -p kakehi-lib --bench routing [-- HOSTS] [exact|wildcard|unknown]` prints it. Not a test: nothing is asserted
//! about time. Without cargo's `--bench` (as under `cargo test --benches`) it runs with few hosts.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kakehi_command::order::HttpFrontend;
use kakehi_command::proto::{PathRule, PathRuleKind, RequestHttpFrontend, RulePosition};
use kakehi_lib::listener::Route;
use kakehi_lib::routing::{NoFields, Router};

const HOSTS_DEFAULT: usize = 1_000_000;
const HOSTS_IN_TESTS: usize = 1_000;
const LOOK_UPS: usize = 2_000_000;
/// Coprime to any number of hosts below it: steps through them in an order no cache expects.
const STRIDE: usize = 1_000_000_007;
/// One host in so many is a wildcard.
const WILDCARD_EVERY: usize = 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = arguments.iter().find_map(|argument| argument.parse().ok());
    let measuring = arguments.iter().any(|argument| argument == "--bench");
    let hosts: usize = asked.unwrap_or(if measuring { HOSTS_DEFAULT } else { HOSTS_IN_TESTS });
    let before = resident_bytes();
    let frontends: Vec<Arc<HttpFrontend>> = (0..hosts).map(|i| frontend(&pattern(i))).collect();
    let mut router = Router::default();
    let per_host = |bytes: usize| bytes / hosts.max(1);
    let filled = resident_bytes();
    let mut slowest = Duration::ZERO;
    let insertion = time(hosts, |i| {
        let start = now();
        router.insert(&frontends[i], route(&frontends[i])).expect("each host is there once");
        slowest = slowest.max(start.elapsed());
    });
    println!("{hosts} hosts, one in {WILDCARD_EVERY} a wildcard");
    println!("insert    {insertion:>8.0} ns, the slowest {:.1} ms", slowest.as_secs_f64() * 1e3);
    println!("memory    {:>8} bytes a host", per_host(resident_bytes().saturating_sub(filled)));
    println!("          {:>8} more in the frontend it refers to", per_host(filled.saturating_sub(before)));

    let look_up = |found: bool, name: &dyn Fn(usize) -> String| {
        // Some names in advance, so that making them is not measured; far enough apart to be cold.
        let names: Vec<String> =
            (0..hosts.min(200_000)).map(|i| name(i.wrapping_mul(STRIDE) % hosts)).collect();
        let empty = time(LOOK_UPS, |i| {
            black_box(names[i % names.len()].bytes().fold(0, u8::wrapping_add));
        });
        let nanos = time(LOOK_UPS, |i| {
            let target =
                router.route(names[i % names.len()].as_bytes(), b"/some/path?q=1", b"GET", &NoFields);
            assert_eq!(black_box(target).is_some(), found);
        });
        nanos - empty
    };
    let exact = |i: usize| if is_wildcard(i) { (i + 1) % hosts } else { i };
    let wildcard = |i: usize| i - i % WILDCARD_EVERY;
    let kinds = ["exact", "wildcard", "unknown"];
    let is_asked = |kind: &str| arguments.iter().any(|argument| argument == kind);
    let all = !kinds.into_iter().any(is_asked);
    for kind in kinds.into_iter().filter(|kind| all || is_asked(kind)) {
        let nanos = match kind {
            "exact" => look_up(true, &|i| name(exact(i))),
            "wildcard" => look_up(true, &|i| format!("www.{}", name(wildcard(i)))),
            _ => look_up(false, &|i| format!("no-host-{i}.example.test")),
        };
        println!("{kind:<9} {nanos:>8.0} ns a look-up");
    }
    let removal = time(hosts, |i| drop(black_box(router.remove(&frontends[i.wrapping_mul(STRIDE) % hosts]))));
    println!("remove    {removal:>8.0} ns");
    assert!(router.is_empty());
}

fn is_wildcard(i: usize) -> bool {
    i.is_multiple_of(WILDCARD_EVERY)
}

/// The pattern of the frontend of this number.
fn pattern(i: usize) -> String {
    if is_wildcard(i) { format!("*.{}", name(i)) } else { name(i) }
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

/// What a worker's tables have for a frontend that only forwards.
fn route(frontend: &Arc<HttpFrontend>) -> Route {
    Route { frontend: frontend.clone(), cluster: None, rewriter: None }
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
