//! Unix sockets of backends: listening ones, and requests that lead to them.

use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};

use kakehi_command::proto;
use kakehi_command::proto::request::RequestType;

use crate::requests::wire_address;

/// The address of a path, or of `@` and an abstract name.
///
/// # Panics
/// If it is none.
pub fn address(name: &str) -> UnixAddress {
    match name.strip_prefix('@') {
        Some(name) => UnixAddress::from_abstract_name(name),
        None => UnixAddress::from_pathname(name),
    }
    .expect("a name that fits an address")
}

/// Listens there; what has the path is replaced.
///
/// # Panics
/// If the kernel refuses.
pub fn listen(name: &str) -> UnixListener {
    if !name.starts_with('@') {
        let _nobody_was_there = fs::remove_file(name);
    }
    UnixListener::bind_addr(&address(name)).expect("the name is free")
}

/// `AddUnixBackend`; of its address only the port is given, since it is but a name.
pub fn add_unix_backend(cluster: &str, id: &str, port: u16, path: &str) -> RequestType {
    RequestType::AddUnixBackend(proto::AddBackend {
        cluster_id: cluster.into(),
        backend_id: id.into(),
        address: wire_address(SocketAddr::from(([192, 0, 2, 1], port))),
        unix_path: Some(path.into()),
        ..Default::default()
    })
}

/// Passes what comes on a Unix socket on to a TCP server, and back, each direction to its own end. For as long as the
/// test runs.
///
/// # Panics
/// If the name is taken.
pub fn bridge(name: &str, to: SocketAddr) {
    let listener = listen(name);
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            // How it ends is seen on both sides.
            let _ended = join(near, to);
        }
    });
}

fn join(near: UnixStream, to: SocketAddr) -> io::Result<()> {
    let far = TcpStream::connect(to)?;
    let (mut near_in, mut far_in) = (near.try_clone()?, far.try_clone()?);
    let (mut near, mut far) = (near, far);
    std::thread::spawn(move || {
        let _broken = io::copy(&mut near_in, &mut far);
        far.shutdown(Shutdown::Write)
    });
    std::thread::spawn(move || {
        let _broken = io::copy(&mut far_in, &mut near);
        near.shutdown(Shutdown::Write)
    });
    Ok(())
}
