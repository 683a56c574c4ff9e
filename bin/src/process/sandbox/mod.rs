//! What a worker may ask of the kernel, once it has all it needs: [`enter`] gives up the rest, for good.
//!
//! Capabilities go first: as root, a worker would have all of them. Then there are two walls, each as far as the kernel
//! has it. [`landlock`] takes the whole file system, listening on ports,
//! and reaching for other processes. [`seccomp`] leaves the system calls that carrying traffic takes. They
//! overlap on purpose: a kernel without one of them still has most of what matters.
//!
//! What is open already stays open: the channel to the main process, the log, and every socket that comes over
//! the channel. So a worker never opens or binds anything itself, and what it will need some day (another log
//! file, a secret) has to come as a descriptor from the main process.
//!
//! Unix sockets of backends are the one thing that cannot be handed over beforehand: a backend may come at any time. So a
//! worker may make them, unless `worker_unix_sockets` says otherwise, and where to connect is left to the file system's
//! permissions. The command socket is not among what it can use: the main process turns its own workers away.
//!
//! A kernel without these walls is no reason not to serve: what is not in force is said, and the worker goes on.

mod landlock;
mod seccomp;
#[cfg(test)]
mod tests;

use std::fmt;

use caps::CapSet;
use caps::errors::CapsError;
use kakehi_command::config::UnixSockets;

/// What came of [`enter`].
#[derive(Debug, Default)]
pub(crate) struct Sandbox {
    in_force: Vec<String>,
    missing: Vec<String>,
}

/// Gives up what a worker does not need. For a process of one thread: the rules are its calling thread's, and
/// those of all it could ever start.
pub(crate) fn enter(unix_sockets: UnixSockets) -> Sandbox {
    let mut sandbox = Sandbox::default();
    sandbox.add("no new privileges", nix::sys::prctl::set_no_new_privs());
    sandbox.add("no capabilities", drop_capabilities());
    // Landlock's own system calls are among those that seccomp takes away.
    match landlock::enter(unix_sockets) {
        Ok(abi) => sandbox.in_force.push(format!("Landlock ABI {abi}")),
        Err(error) => sandbox.missing.push(format!("Landlock ({error})")),
    }
    sandbox.add("seccomp", seccomp::enter(unix_sockets));
    sandbox
}

/// Whoever starts a proxy as root has given its workers all of them. Nothing that they do takes one, and with no new
/// privileges none comes back.
fn drop_capabilities() -> Result<(), CapsError> {
    [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable]
        .into_iter()
        .try_for_each(|set| caps::clear(None, set))
}

impl Sandbox {
    /// What the kernel did not grant, with its reasons.
    pub(crate) fn missing(&self) -> &[String] {
        &self.missing
    }

    fn add<E: fmt::Display>(&mut self, name: &str, outcome: Result<(), E>) {
        match outcome {
            Ok(()) => self.in_force.push(name.to_owned()),
            Err(error) => self.missing.push(format!("{name} ({error})")),
        }
    }
}

/// What is in force.
impl fmt::Display for Sandbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.in_force.as_slice() {
            [] => formatter.write_str("nothing"),
            parts => formatter.write_str(&parts.join(", ")),
        }
    }
}
