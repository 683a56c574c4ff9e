//! Signals as something to read: blocked for the whole process, and delivered through a descriptor.
//!
//! A process that reads its signals in its loop has no handlers, hence no code that may run between
//! any two instructions. Blocking must happen before the first thread is started, since threads
//! inherit the mask; so do child processes, which is why a worker needs no further care to be deaf to
//! a Ctrl-C or a SIGTERM that was meant for the main process.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal asks of the main process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGINT, SIGTERM, or SIGHUP (the terminal is gone): stop.
    Stop,
    /// SIGCHLD: a child changed its state; which one must be asked.
    Reap,
    /// SIGUSR1: open the logs anew.
    Reopen,
}

/// The readable end of this process's signals.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    /// Blocks the signals and opens the descriptor. Call it before any thread is started.
    pub(crate) fn open() -> nix::Result<Self> {
        let mut mask = stopping();
        mask.add(Signal::SIGCHLD);
        mask.add(Signal::SIGUSR1);
        mask.thread_block()?;
        let descriptor = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { descriptor })
    }

    /// The next signal, if one is waiting.
    pub(crate) fn next(&self) -> nix::Result<Option<Asked>> {
        loop {
            let Some(info) = self.descriptor.read_signal()? else { return Ok(None) };
            let number = i32::try_from(info.ssi_signo).map_err(|_| Errno::EINVAL)?;
            match Signal::try_from(number)? {
                Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP => return Ok(Some(Asked::Stop)),
                Signal::SIGCHLD => return Ok(Some(Asked::Reap)),
                Signal::SIGUSR1 => return Ok(Some(Asked::Reopen)),
                // Not in the mask, so it cannot come; if it did, there is nothing to do for it.
                _ => {}
            }
        }
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

/// Takes away their effect of the signals by which an operator stops the main process: a worker is told over its
/// channel, and told what to do with its connections. SIGINT and SIGTERM can be read, which a worker does that has no
/// main process any more; a terminal that is gone is no reason to end.
pub(crate) fn read_stop() -> nix::Result<OwnedFd> {
    let mut mask = stopping();
    // Main tells its workers where to log.
    mask.add(Signal::SIGUSR1);
    mask.thread_block()?;
    let read: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    let descriptor = SignalFd::with_flags(&read, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    descriptor.as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE)
}

fn stopping() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read() {
        // The test runs in a thread of its own: the mask is this thread's, and raise(3) sends to it.
        let signals = Signals::open().unwrap();
        assert_eq!(signals.next().unwrap(), None);
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        assert_eq!(signals.next().unwrap(), Some(Asked::Stop));
        assert_eq!(signals.next().unwrap(), None);
    }
}
