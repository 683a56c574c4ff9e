//! What a connection's record layer costs in memory, what the provider allocates for it included: a worker has
//! tens of thousands that idle. A process of its own, so that nothing else is counted.

use kakehi_lib::protocol::tls_record::{RecordLayer, Role, Suite, Traffic, TrafficSecret};

/// Most bytes of a connection, the allocator's own among them.
const BYTES_MAX: usize = 1536;
/// Enough that what is there in any case does not count.
const CONNECTIONS: usize = 20_000;

#[test]
fn a_record_layer_is_small() {
    // Kept to the end: memory that was given back would be used again, and not be seen.
    let mut kept = Vec::new();
    for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305] {
        let traffic = |fill: u8| {
            let secret = vec![fill; suite.secret_bytes()];
            Traffic { secret: TrafficSecret::new(&secret).expect("a secret"), sequence: 0 }
        };
        let layer = || RecordLayer::new(Role::Server, suite, traffic(1), traffic(2)).expect("a connection");
        let mut layers = Vec::with_capacity(CONNECTIONS);
        layers.push(layer());
        let before = resident_bytes();
        layers.resize_with(CONNECTIONS, layer);
        let each = resident_bytes().saturating_sub(before) / CONNECTIONS;
        println!("{suite:?}: {each} bytes a connection, {} of them in place", size_of::<RecordLayer>());
        assert!(each >= size_of::<RecordLayer>(), "the measurement is of use");
        assert!(each <= BYTES_MAX, "{suite:?}: {each} bytes a connection");
        kept.push(layers);
    }
}

/// What this process has in memory (proc_pid_statm(5)).
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}
