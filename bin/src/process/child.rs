//! A process known by its id alone: a child, which this program has started or the one that it was before an upgrade; or
//! one that is nobody's here, and known by its pidfd.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::descriptors;

/// A wait status keeps the exit code, and the flag that a core was written, in these bits (wait(2)).
const CODE_SHIFT: i32 = 8;
const CORE_FLAG: i32 = 0x80;

/// How a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As its parent was told.
    Status(ExitStatus),
    /// Somebody else was its parent.
    Unknown,
}

impl End {
    /// The status, if it is known.
    pub(crate) fn status(self) -> Option<ExitStatus> {
        match self {
            Self::Status(status) => Some(status),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(formatter),
            Self::Unknown => formatter.write_str("a status that only its parent knows"),
        }
    }
}

/// A process whose id nobody else can have: a child that is not reaped yet, or one whose pidfd is held.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    ended: Option<End>,
    /// Of one that is not a child.
    pidfd: Option<OwnedFd>,
}

impl Process {
    /// A child of this process by its id, which was told by the program that this process was before.
    pub(crate) fn known(pid: u32) -> Self {
        // The kernel's process ids are positive and fit an i32 (PID_MAX_LIMIT).
        Self { pid: Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)), ended: None, pidfd: None }
    }

    /// A process that is not a child of this one.
    pub(crate) fn foreign(pid: u32, pidfd: OwnedFd) -> Self {
        Self { pidfd: Some(pidfd), ..Self::known(pid) }
    }

    /// The pidfd of one that is not a child: readable once it has ended.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// How it has ended, if it has.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<End>> {
        if let (None, Some(pidfd)) = (self.ended, &self.pidfd) {
            if has_ended(pidfd.as_fd(), PollTimeout::ZERO)? {
                self.ended = Some(End::Unknown);
            }
        } else if self.ended.is_none() {
            let status = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::Exited(_, code) => Some(ExitStatus::from_raw((code & 0xff) << CODE_SHIFT)),
                WaitStatus::Signaled(_, signal, core) => {
                    Some(ExitStatus::from_raw(signal as i32 | if core { CORE_FLAG } else { 0 }))
                }
                _ => None,
            };
            self.ended = status.map(End::Status);
        }
        Ok(self.ended)
    }

    /// Waits until it ends.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        while self.ended.is_none() {
            if let Some(pidfd) = &self.pidfd {
                if has_ended(pidfd.as_fd(), PollTimeout::NONE)? {
                    self.ended = Some(End::Unknown);
                }
                continue;
            }
            match waitpid(self.pid, None) {
                Ok(WaitStatus::Exited(_, code)) => {
                    self.ended = Some(End::Status(ExitStatus::from_raw((code & 0xff) << CODE_SHIFT)));
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    self.ended = Some(End::Status(ExitStatus::from_raw(signal as i32)));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Kills it, unless it has been reaped.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        match (self.ended, &self.pidfd) {
            (Some(_), _) => Ok(()),
            (None, Some(pidfd)) => descriptors::kill_by_pidfd(pidfd.as_fd()),
            (None, None) => match kill(self.pid, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => Ok(()),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// Whether the process behind a pidfd has ended.
fn has_ended(pidfd: BorrowedFd<'_>, timeout: PollTimeout) -> io::Result<bool> {
    match poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self::known(child.id())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn wait(process: &mut Process) -> ExitStatus {
        loop {
            if let Some(end) = process.try_wait().expect("a child") {
                return end.status().expect("a child");
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn how_it_ends_is_told_as_by_the_standard_library() {
        let mut exits = Process::from(Command::new("sh").args(["-c", "exit 7"]).spawn().expect("sh"));
        assert_eq!(wait(&mut exits).code(), Some(7));
        assert_eq!(
            exits.try_wait().expect("known").and_then(End::status).and_then(|it| it.code()),
            Some(7),
            "asked again"
        );
        let mut killed = Process::from(Command::new("sleep").arg("60").spawn().expect("sleep"));
        assert_eq!(killed.try_wait().expect("a child"), None);
        killed.kill().expect("killed");
        assert_eq!(wait(&mut killed).signal(), Some(9));
        killed.kill().expect("nothing to be done");
    }

    #[test]
    fn one_that_is_not_a_child_is_watched_by_its_pidfd() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let pidfd = descriptors::pidfd_of(child.id()).expect("it runs");
        let mut process = Process::foreign(child.id(), pidfd);
        assert_eq!(process.try_wait().expect("watched"), None);
        process.kill().expect("killed");
        process.wait().expect("it ends");
        assert_eq!(process.try_wait().expect("watched"), Some(End::Unknown));
        child.wait().expect("reaped here");
        process.kill().expect("nothing to be done");
        assert!(descriptors::pidfd_of(child.id()).is_err());
    }
}
