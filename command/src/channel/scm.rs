//! The two system calls that carry file descriptors beside bytes (`SCM_RIGHTS`, see unix(7)).
//!
//! A descriptor travels with a byte: the receiver gets it with the `recvmsg` that returns that byte.
//! Every descriptor received is close-on-exec from the moment it exists here (`MSG_CMSG_CLOEXEC`), so
//! that no process started meanwhile can inherit it. Sends never raise SIGPIPE (`MSG_NOSIGNAL`).

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Descriptors that one message can carry: the kernel's `SCM_MAX_FD`.
pub const FDS_PER_MESSAGE_MAX: usize = 253;

/// What to do when the socket is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Return `WouldBlock`, whatever the socket's own mode.
    Never,
    /// Wait as the socket's mode and time-outs say.
    AsSocket,
}

impl Wait {
    fn flags(self) -> MsgFlags {
        match self {
            Self::Never => MsgFlags::MSG_DONTWAIT,
            Self::AsSocket => MsgFlags::empty(),
        }
    }
}

/// Memory for the control part of a received message: [`FDS_PER_MESSAGE_MAX`] descriptors.
#[derive(Debug)]
pub struct ControlBuffer(Vec<u8>);

impl ControlBuffer {
    /// Allocates it once, for use with any number of calls.
    pub fn new() -> Self {
        Self(cmsg_space!([RawFd; FDS_PER_MESSAGE_MAX]))
    }
}

impl Default for ControlBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// Sends some of `bytes`, and with the first of them all of `fds`; tells how many bytes went out.
///
/// `fds` have gone out if and only if the result is `Ok`. They stay open here.
///
/// # Errors
/// `InvalidInput` for more than [`FDS_PER_MESSAGE_MAX`] descriptors, or for descriptors without a byte
/// to travel with; else sendmsg(2)'s. Interrupted calls are repeated.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[OwnedFd], wait: Wait) -> io::Result<usize> {
    if fds.len() > FDS_PER_MESSAGE_MAX || (bytes.is_empty() && !fds.is_empty()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    let flags = wait.flags() | MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Reads some bytes into `space` and appends the descriptors that came with them to `fds`; tells how
/// many bytes came, 0 for end of stream.
///
/// Without a `control` buffer descriptors are not accepted: the kernel closes them on the way.
///
/// # Errors
/// `InvalidData` if descriptors were lost on the way, which happens when this process may open no
/// more; else recvmsg(2)'s. Interrupted calls are repeated.
pub fn receive(
    socket: BorrowedFd<'_>,
    space: &mut [u8],
    control: Option<&mut ControlBuffer>,
    fds: &mut VecDeque<OwnedFd>,
    wait: Wait,
) -> io::Result<usize> {
    let flags = wait.flags() | MsgFlags::MSG_CMSG_CLOEXEC;
    let accepts_fds = control.is_some();
    let mut control = control.map(|buffer| buffer.0.as_mut_slice());
    let mut vectors = [IoSliceMut::new(space)];
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut vectors, control.as_deref_mut(), flags) {
            Err(Errno::EINTR) => {}
            result => break result?,
        }
    };
    if !accepts_fds {
        // A truncation flag here tells of descriptors the kernel has closed for us, as intended.
        return Ok(message.bytes);
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "file descriptors were lost: this process may open no more (RLIMIT_NOFILE)",
        ));
    }
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = part {
            fds.extend(received.into_iter().map(|fd| {
                // SAFETY: the kernel has just opened this descriptor for this message, nothing else
                // in the process knows its number yet, and this is the only place that wraps it.
                unsafe { OwnedFd::from_raw_fd(fd) }
            }));
        }
    }
    Ok(message.bytes)
}
