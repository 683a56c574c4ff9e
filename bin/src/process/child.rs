//! A child process known by its id alone: one that this program started, or the program that it was before an upgrade.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A wait status keeps the exit code, and the flag that a core was written, in these bits (wait(2)).
const CODE_SHIFT: i32 = 8;
const CORE_FLAG: i32 = 0x80;

/// A child that is not reaped yet: until then nobody else can have its id.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    ended: Option<ExitStatus>,
}

impl Process {
    /// A child of this process by its id, which was told by the program that this process was before.
    pub(crate) fn known(pid: u32) -> Self {
        // The kernel's process ids are positive and fit an i32 (PID_MAX_LIMIT).
        Self { pid: Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)), ended: None }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// How it has ended, if it has.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::Exited(_, code) => Some(ExitStatus::from_raw((code & 0xff) << CODE_SHIFT)),
                WaitStatus::Signaled(_, signal, core) => {
                    Some(ExitStatus::from_raw(signal as i32 | if core { CORE_FLAG } else { 0 }))
                }
                _ => None,
            };
        }
        Ok(self.ended)
    }

    /// Waits until it ends.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        while self.ended.is_none() {
            match waitpid(self.pid, None) {
                Ok(WaitStatus::Exited(_, code)) => {
                    self.ended = Some(ExitStatus::from_raw((code & 0xff) << CODE_SHIFT));
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    self.ended = Some(ExitStatus::from_raw(signal as i32));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Kills it, unless it has been reaped.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        match self.ended {
            Some(_) => Ok(()),
            None => match kill(self.pid, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => Ok(()),
                Err(error) => Err(error.into()),
            },
        }
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
            if let Some(status) = process.try_wait().expect("a child") {
                return status;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn how_it_ends_is_told_as_by_the_standard_library() {
        let mut exits = Process::from(Command::new("sh").args(["-c", "exit 7"]).spawn().expect("sh"));
        assert_eq!(wait(&mut exits).code(), Some(7));
        assert_eq!(exits.try_wait().expect("known").and_then(|status| status.code()), Some(7), "asked again");
        let mut killed = Process::from(Command::new("sleep").arg("60").spawn().expect("sleep"));
        assert_eq!(killed.try_wait().expect("a child"), None);
        killed.kill().expect("killed");
        assert_eq!(wait(&mut killed).signal(), Some(9));
        killed.kill().expect("nothing to be done");
    }
}
