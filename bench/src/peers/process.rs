//! A proxy as processes: started on its core, listed, and ended whatever happens.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{Peer, Wrapper};
use crate::failure::{Context, Failure};
use crate::machine::search;
use crate::procfs;

/// Under valgrind, with 10,000 hosts, a start takes its time.
const START_MAX: Duration = Duration::from_secs(120);
/// How long an ending may take before it is enforced.
const END_MAX: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A running proxy with all its processes; they are ended when this is dropped.
pub(crate) struct Running {
    peer: Peer,
    child: Option<Child>,
    address: SocketAddr,
    directory: TempDir,
}

/// How a proxy ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself, when asked.
    Orderly,
    /// It had to be killed.
    Killed,
}

impl Running {
    /// Starts the processes on the calling thread's core.
    pub(super) fn spawn(
        peer: Peer,
        program: &str,
        arguments: &[String],
        wrapper: &Wrapper,
        address: SocketAddr,
        directory: TempDir,
    ) -> Result<Running, Failure> {
        let log = fs::File::create(directory.path().join("log")).context("a log")?;
        // Should the benchmark be killed, the kernel asks the proxy to end.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .args(&wrapper.0)
            .arg(search(program))
            .args(arguments)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context(format_args!("starting {program}"))?;
        Ok(Running { peer, child: Some(child), address, directory })
    }

    pub(super) fn await_listening(mut self) -> Result<Running, Failure> {
        let until = Instant::now() + START_MAX;
        loop {
            if TcpStream::connect(self.address).is_ok() && self.has_worker() {
                return Ok(self);
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > until {
                return Err(Failure::new(format!("{} does not start: {}", self.peer.name(), self.log())));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn has_worker(&self) -> bool {
        !matches!(self.peer, Peer::Kakehi | Peer::Nginx) || !procfs::children(self.pid()).is_empty()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A file of the proxy's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What it has printed, shortened to what fits a line.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        text.lines().rev().take(5).collect::<Vec<_>>().join(" | ")
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// All processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        procfs::tree(self.pid())
    }

    /// The process that carries traffic.
    pub(crate) fn worker(&self) -> u32 {
        match self.peer {
            Peer::Kakehi | Peer::Nginx => procfs::children(self.pid()).first().copied().unwrap_or(self.pid()),
            Peer::Haproxy | Peer::Relay => self.pid(),
        }
    }

    /// Asks the proxy to end and waits for all of its processes.
    pub(crate) fn end(mut self) -> Ending {
        self.end_all()
    }

    fn end_all(&mut self) -> Ending {
        let pids = self.pids();
        let Some(mut child) = self.child.take() else { return Ending::Orderly };
        send(child.id(), Signal::SIGTERM);
        let until = Instant::now() + END_MAX;
        let mut ended: Option<ExitStatus> = None;
        while Instant::now() < until {
            ended = ended.or_else(|| child.try_wait().ok().flatten());
            if ended.is_some() && pids.iter().all(|pid| !is_alive(*pid)) {
                let killed = ended.and_then(|status| status.signal()) == Some(Signal::SIGKILL as i32);
                return if killed { Ending::Killed } else { Ending::Orderly };
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        for pid in pids.into_iter().filter(|pid| is_alive(*pid)) {
            send(pid, Signal::SIGKILL);
        }
        // Reaped for tidiness; that it is gone is all that matters.
        let _status = child.wait();
        Ending::Killed
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end_all();
    }
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Signals a process; one that is gone already needs none.
pub(crate) fn send(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _gone = kill(Pid::from_raw(pid), signal);
    }
}
