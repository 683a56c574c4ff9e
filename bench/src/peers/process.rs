//! A proxy as processes: started on its core, listed, and ended whatever happens.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{Peer, Wrapper, kakehi};
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
    wrapped: bool,
    child: Option<Child>,
    address: SocketAddr,
    directory: TempDir,
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
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]);
        if peer == Peer::Kakehi {
            // Its workers are executed by way of /proc/self/exe, where tools lose sight of them.
            command.env(kakehi::WORKER_WRAPPER, wrapper.0.join(" "));
        } else {
            command.args(&wrapper.0);
        }
        let child = command
            .arg(search(program))
            .args(arguments)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context(format_args!("starting {program}"))?;
        Ok(Running { peer, wrapped: !wrapper.0.is_empty(), child: Some(child), address, directory })
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

    /// Whether the process that was started only supervises. Under a tool, nginx runs without.
    fn has_main(&self) -> bool {
        match self.peer {
            Peer::Kakehi => true,
            Peer::Nginx | Peer::NginxLargeBuffers => !self.wrapped,
            Peer::Haproxy | Peer::HaproxyLargeBuffers | Peer::Relay => false,
        }
    }

    fn has_worker(&self) -> bool {
        !self.has_main() || !procfs::children(self.pid()).is_empty()
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
        let own = self.pid();
        if self.has_main() { procfs::children(own).first().copied().unwrap_or(own) } else { own }
    }

    /// Asks the proxy to end, waits for all of its processes, and enforces it if that takes too long.
    fn end(&mut self) {
        let pids = self.pids();
        let Some(mut child) = self.child.take() else { return };
        send(child.id(), Signal::SIGTERM);
        let until = Instant::now() + END_MAX;
        while Instant::now() < until {
            // Reaped here, so that it is not a zombie to those below.
            let ended = !matches!(child.try_wait(), Ok(None));
            if ended && !pids.iter().any(|pid| is_alive(*pid)) {
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        for pid in pids.into_iter().filter(|pid| is_alive(*pid)) {
            send(pid, Signal::SIGKILL);
        }
        // Killed, it does end; how is of no interest.
        let _status = child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
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
