//! What session tickets cost a worker: to seal one, to open one of its own, and one of another worker.
//!
//! `cargo bench -p kakehi-lib --bench tickets` prints it. Not a test: nothing is asserted about time. Without
//! cargo's `--bench` (as under `cargo test --benches`) it runs with few tickets.

use std::hint::black_box;
use std::sync::Arc;

use kakehi_lib::tls::clock::Clock;
use kakehi_lib::tls::ticket_keys::TicketKeys;
use kakehi_lib::tls::tickets::{SharedTicketKeys, Ticketer};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::ProducesTickets;

const TICKETS: usize = 200_000;
const TICKETS_IN_TESTS: usize = 100;
/// A session without a client's certificate: secret, name, protocol.
const SESSION: &[u8] = &[7; 120];

fn main() {
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let count = if measuring { TICKETS } else { TICKETS_IN_TESTS };
    let keys = Arc::new(SharedTicketKeys::default());
    keys.replace(TicketKeys::default().rotate(1, &[7; 48]));
    let worker =
        || Ticketer::new(keys.clone(), [1; 32], Arc::new(Clock::default()), default_provider().secure_random);
    let (own, other) = (worker(), worker());
    let ticket = own.encrypt(SESSION).expect("there are keys");
    let seal = time(count, || drop(black_box(own.encrypt(SESSION).expect("there are keys"))));
    let open = time(count, || drop(black_box(own.decrypt(&ticket).expect("it is ours"))));
    let foreign = time(count, || drop(black_box(other.decrypt(&ticket).expect("it has the key"))));
    let unknown = time(count, || assert!(black_box(own.decrypt(&[0; 180])).is_none()));
    println!("seal      {seal:>8.0} ns");
    println!("open      {open:>8.0} ns");
    println!("          {foreign:>8.0} ns, of another worker");
    println!("          {unknown:>8.0} ns, of nobody");
}

/// Nanoseconds of processor time a call.
fn time(calls: usize, mut call: impl FnMut()) -> f64 {
    let start = processor_nanos();
    (0..calls).for_each(|_| call());
    (processor_nanos() - start) / f64::from(u32::try_from(calls.max(1)).unwrap_or(u32::MAX))
}

/// Time this process has run (proc(5), schedstat), so that a busy machine does not count.
fn processor_nanos() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default()
}
