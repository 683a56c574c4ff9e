//! Starting a worker process.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::main_process::gather::WorkerId;
use crate::worker::{ID_VARIABLE, LOG_TARGET_VARIABLE};

/// This very program, also if its file was replaced or removed since it was started.
const SELF: &str = "/proc/self/exe";

/// How workers log; passed in their environment.
#[derive(Debug, Clone)]
pub(crate) struct WorkerLog {
    /// `RUST_LOG` of the worker.
    pub(crate) filter: String,
    /// As `log_target` in the configuration.
    pub(crate) target: String,
}

/// Starts a worker and gives its process and this side of the channel to it.
///
/// The other side becomes the worker's standard input: everything else here is close-on-exec. The
/// worker gets a process group of its own, so that a Ctrl-C at the terminal reaches the main process
/// alone.
pub(super) fn spawn(id: WorkerId, log: &WorkerLog) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new(SELF)
        .arg0(OsStr::new("kakehi"))
        .arg("worker")
        .env(ID_VARIABLE, id.to_string())
        .env(LOG_TARGET_VARIABLE, &log.target)
        .env("RUST_LOG", &log.filter)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .process_group(0)
        .spawn()?;
    Ok((child, ours))
}
