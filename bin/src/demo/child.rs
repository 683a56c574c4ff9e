//! [`DemoChild`]: a demo backend as a child process, which ends with its parent.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::{DemoError, first_line};
use crate::main_process::Companion;
use crate::process::child::Process;

/// More than any address is long.
const REPORT_BYTES_MAX: u64 = 256;

/// A running demo backend. It ends when this is dropped, and also when this process dies without
/// dropping it: the kernel closes the pipe that is its standard input.
#[derive(Debug)]
pub(crate) struct DemoChild {
    child: Child,
    address: SocketAddr,
    /// It belongs to somebody else.
    is_companion: bool,
}

impl DemoChild {
    /// Starts this program as a demo backend on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If the process cannot be started, or ends instead of saying where it listens.
    pub(crate) fn start(name: &str) -> Result<Self, DemoError> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("kakehi")
            .args(["demo-backend", "--until-stdin-ends", "--name", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the proxy: while it drains, requests still need their backend.
            .process_group(0)
            .spawn()?;
        let report = match child.stdout.take() {
            Some(stdout) => first_line(stdout, REPORT_BYTES_MAX),
            None => Ok(String::new()),
        };
        let report = report.inspect_err(|_| end(&mut child))?;
        match report.parse() {
            Ok(address) => Ok(Self { child, address, is_companion: false }),
            Err(_) => {
                end(&mut child);
                Err(DemoError::Report(report))
            }
        }
    }

    /// As a process that ends when what it is given here is dropped.
    ///
    /// # Errors
    /// The kernel has no descriptor for its standard input.
    pub(crate) fn into_companion(mut self) -> io::Result<Companion> {
        let stdin =
            self.child.stdin.as_ref().ok_or(io::ErrorKind::BrokenPipe)?.as_fd().try_clone_to_owned()?;
        self.is_companion = true;
        Ok(Companion::new(Process::known(self.child.id()), stdin))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for DemoChild {
    fn drop(&mut self) {
        if !self.is_companion {
            end(&mut self.child);
        }
    }
}

/// Ends the child and reaps it.
fn end(child: &mut Child) {
    drop(child.stdin.take());
    // It may have ended, and been reaped, already: then there is nothing left to do.
    let _gone = child.kill();
    let _reaped = child.wait();
}
