//! How much of what was written the peer's kernel has not acknowledged: the one question to the kernel for
//! which there is no safe wrapper.

use std::os::fd::{AsFd, AsRawFd};

use nix::libc::{TIOCOUTQ, c_int};

mod raw {
    use super::{TIOCOUTQ, c_int};

    nix::ioctl_read_bad!(tiocoutq, TIOCOUTQ, c_int);
}

/// Bytes in the socket's send queue: not sent, or sent and not acknowledged (tcp(7), SIOCOUTQ). The kernel
/// goes on to tell it when the peer has reset the connection.
pub(super) fn unacknowledged(socket: &impl AsFd) -> Option<u64> {
    let mut bytes: c_int = 0;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel writes one int, for which `bytes` is
    // the place.
    let outcome = unsafe { raw::tiocoutq(socket.as_fd().as_raw_fd(), &raw mut bytes) };
    outcome.ok().and_then(|_| u64::try_from(bytes).ok())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a real connection is what this is about")]
    fn what_a_closed_peer_never_got_stays_unacknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut ours = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
        let (mut theirs, _) = listener.accept().expect("the other end");
        ours.write_all(b"first").expect("written");
        let mut read = [0; 5];
        theirs.read_exact(&mut read).expect("read");
        theirs.write_all(b"answer").expect("written");
        ours.read_exact(&mut [0; 6]).expect("the answer, and with it the acknowledgement");
        assert_eq!(unacknowledged(&ours), Some(0));
        drop(theirs);
        ours.write_all(b"second").expect("the kernel takes it");
        // The peer's kernel has answered with a reset.
        let error = loop {
            match ours.read(&mut [0; 1]) {
                Ok(0) => {}
                Ok(_) => unreachable!("nobody wrote"),
                Err(error) => break Some(error),
            }
            if unacknowledged(&ours) == Some(6) {
                break None;
            }
        };
        assert_eq!(unacknowledged(&ours), Some(6), "{error:?}");
    }
}
