//! Addresses for proxies under test: a port chosen by the kernel, on a loopback address of its own.
//!
//! Other tests of the same process start programs at any time: between fork and exec such a child
//! holds a copy of every socket that is open here, so that closing one does not free its port at
//! once. Nothing here depends on that it does.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::socket::sockopt::ReuseAddr;
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, SockaddrIn, bind, getsockname, setsockopt, shutdown, socket,
};

static RESERVED: AtomicU32 = AtomicU32::new(0);

/// A loopback address that nothing listens on, and that nothing else will come to use.
///
/// The port is released before the proxy binds it. To keep it free in between, each reservation has
/// an IP of its own within 127.0.0.0/8: outgoing connections take their local ports on 127.0.0.1,
/// so neither they nor their TIME_WAIT can ever collide with it. As long as nobody binds it, it is
/// also an address that refuses connections.
pub fn free_address() -> SocketAddr {
    // With SO_REUSEADDR and without listening, a copy of it in a child is in nobody's way.
    let reserved = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .expect("sockets can be made");
    setsockopt(&reserved, ReuseAddr, &true).expect("a plain option");
    bind(reserved.as_raw_fd(), &SockaddrIn::from(own_ip())).expect("loopback addresses are usable");
    let address: SockaddrIn = getsockname(reserved.as_raw_fd()).expect("a bound socket has an address");
    SocketAddr::V4(address.into())
}

/// An address that somebody else listens on, for as long as the guard lives.
pub fn taken_address() -> (SocketAddr, Taken) {
    let listener = TcpListener::bind(own_ip()).expect("loopback addresses are usable");
    (listener.local_addr().expect("a bound socket has an address"), Taken(listener))
}

/// Listens until it is dropped.
pub struct Taken(TcpListener);

impl Drop for Taken {
    fn drop(&mut self) {
        // Unlike closing, this ends it whoever holds a copy.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}

/// Any port of an IP that is this reservation's own.
fn own_ip() -> SocketAddrV4 {
    let count = RESERVED.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let [_, _, _, host] = (count % 254 + 1).to_be_bytes();
    // 127.0.0.x is left to everybody else.
    SocketAddrV4::new(Ipv4Addr::new(127, high.max(1), low, host), 0)
}
