//! Addresses for proxies under test: a port chosen by the kernel, on a loopback address of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

static RESERVED: AtomicU32 = AtomicU32::new(0);

/// A loopback address that nothing listens on, and that nothing else will come to use.
///
/// The port is released before the proxy binds it. To keep it free in between, each reservation has
/// an IP of its own within 127.0.0.0/8: outgoing connections take their local ports on 127.0.0.1,
/// so neither they nor their TIME_WAIT can ever collide with it. As long as nobody binds it, it is
/// also an address that refuses connections.
pub fn free_address() -> SocketAddr {
    let count = RESERVED.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let [_, _, _, host] = (count % 254 + 1).to_be_bytes();
    // 127.0.0.x is left to everybody else.
    let ip = Ipv4Addr::new(127, high.max(1), low, host);
    let listener = TcpListener::bind((ip, 0)).expect("loopback addresses are usable");
    listener.local_addr().expect("a bound socket has an address")
}

/// An address that somebody else listens on, for as long as the guard lives.
pub fn taken_address() -> (SocketAddr, TcpListener) {
    let address = free_address();
    (address, TcpListener::bind(address).expect("just reserved"))
}
