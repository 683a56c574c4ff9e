//! Starting a worker process.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use kakehi_command::config::UnixSockets;

use crate::main_process::gather::WorkerId;
use crate::process::child::Process;
use crate::worker::{
    ID_VARIABLE, LOG_COLORED_VARIABLE, LOG_TARGET_VARIABLE, SANDBOX_VARIABLE, UNIX_SOCKETS_VARIABLE,
};

/// This very program, also if its file was replaced or removed since it was started.
const SELF: &str = "/proc/self/exe";

/// Environment: a program to run workers under, with its arguments, separated by spaces: a profiler or a
/// debugger. For those who measure; a worker under it is started by its path. A tool that works within the
/// worker's process, as valgrind does, needs `worker_sandbox = false`.
const WRAPPER_VARIABLE: &str = "KAKEHI_WORKER_WRAPPER";

/// Environment: blocks from this size on are mapped of their own by glibc's allocator, 128 KiB as it begins with, and for
/// good: otherwise the first of them that is given back raises the bound, up to 32 MiB, and every table that grows from
/// then on leaves the room that it had behind. Mapped, it moves without a copy, and takes what it touches.
const MAPPED_FROM: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "131072");

/// How workers log; passed in their environment.
#[derive(Debug, Clone)]
pub(crate) struct WorkerLog {
    /// `RUST_LOG` of the worker.
    pub(crate) filter: String,
    /// As `log_target` in the configuration.
    pub(crate) target: String,
    /// As `log_colored` there.
    pub(crate) colored: bool,
}

/// What workers give up; passed in their environment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerWalls {
    /// Whether they enter a sandbox.
    pub(crate) sandbox: bool,
    /// The Unix sockets that stay in reach there.
    pub(crate) unix_sockets: UnixSockets,
}

/// Starts a worker and gives its process and this side of the channel to it.
///
/// The other side becomes the worker's standard input: everything else here is close-on-exec. The
/// worker gets a process group of its own, so that a Ctrl-C at the terminal reaches the main process
/// alone.
pub(super) fn spawn(id: WorkerId, log: &WorkerLog, walls: WorkerWalls) -> io::Result<(Process, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = worker_program()?
        .arg("worker")
        .env(ID_VARIABLE, id.to_string())
        .env(LOG_TARGET_VARIABLE, &log.target)
        .env(LOG_COLORED_VARIABLE, log.colored.to_string())
        .env(SANDBOX_VARIABLE, walls.sandbox.to_string())
        .env(UNIX_SOCKETS_VARIABLE, walls.unix_sockets.to_string())
        .env("RUST_LOG", &log.filter)
        .env(MAPPED_FROM.0, MAPPED_FROM.1)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .process_group(0)
        .spawn()?;
    Ok((child.into(), ours))
}

fn worker_program() -> io::Result<Command> {
    #[expect(clippy::disallowed_methods, reason = "main hands its environment's wish to its workers")]
    let wrapper = std::env::var(WRAPPER_VARIABLE).unwrap_or_default();
    let mut words = wrapper.split_ascii_whitespace();
    let Some(program) = words.next() else {
        let mut command = Command::new(SELF);
        command.arg0(OsStr::new("kakehi"));
        return Ok(command);
    };
    let mut command = Command::new(program);
    command.args(words).arg(std::env::current_exe()?);
    Ok(command)
}
