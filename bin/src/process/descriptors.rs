//! The limit on open file descriptors, raised to what the configured number of connections needs; and
//! what becomes of those that were open before us.
//!
//! Workers inherit the limit of the main process, so it is raised once, before they are spawned.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A proxied connection is two descriptors: its front and its back.
const DESCRIPTORS_PER_CONNECTION_MIN: u64 = 2;

/// What is asked for if the hard limit allows it: pipes and pooled back connections need their own.
const DESCRIPTORS_PER_CONNECTION: u64 = 4;

/// Why the limit could not be raised far enough.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum DescriptorError {
    /// The operator asks for more connections than the process may hold.
    #[error(
        "max_connections = {max_connections} needs {needed} file descriptors, and the hard limit of this process \
         is {hard}: raise it (ulimit -Hn, LimitNOFILE= in systemd) or lower max_connections to {possible}"
    )]
    HardLimit {
        /// Connections asked for, per worker.
        max_connections: u64,
        /// Descriptors they need.
        needed: u64,
        /// Descriptors the process may have at most.
        hard: u64,
        /// The highest `max_connections` that would fit.
        possible: u64,
    },
    /// The kernel refused a limit below the hard one.
    #[error("cannot raise the limit on file descriptors to {wanted}: {source}")]
    Kernel {
        /// The limit asked for.
        wanted: u64,
        /// What the kernel said.
        source: nix::errno::Errno,
    },
}

/// Marks all descriptors but the standard three close-on-exec: whoever started us may have left some
/// open that were not meant for us, and even less for workers, which outlive a shell and would hold a
/// pipe of its open. Call it before any of our own are open.
///
/// # Errors
/// The list of descriptors cannot be read.
pub(crate) fn close_inherited_on_exec() -> io::Result<()> {
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        // SAFETY: the number is only given to fcntl(2), which refuses one that is not open (that of the
        // directory just read is closed by now); nothing is read, written or closed through it.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let _closed_meanwhile = fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
    Ok(())
}

/// Raises the soft limit for `max_connections` connections per worker. Gives the limit now in force.
pub(crate) fn raise_limit(max_connections: u64) -> Result<u64, DescriptorError> {
    let kernel = |source| DescriptorError::Kernel { wanted: 0, source };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(kernel)?;
    let wanted = wanted_limit(max_connections, soft, hard)?;
    if wanted > soft {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
            .map_err(|source| DescriptorError::Kernel { wanted, source })?;
    }
    Ok(wanted)
}

/// The soft limit to set: never lower than it was, never above the hard one.
fn wanted_limit(max_connections: u64, soft: u64, hard: u64) -> Result<u64, DescriptorError> {
    let needed = max_connections.saturating_mul(DESCRIPTORS_PER_CONNECTION_MIN);
    if needed > hard {
        let possible = hard / DESCRIPTORS_PER_CONNECTION_MIN;
        return Err(DescriptorError::HardLimit { max_connections, needed, hard, possible });
    }
    Ok(soft.max(hard.min(max_connections.saturating_mul(DESCRIPTORS_PER_CONNECTION))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_follows_the_connections() {
        assert_eq!(wanted_limit(10_000, 1024, 1_048_576), Ok(40_000));
        assert_eq!(wanted_limit(10_000, 1024, 20_000), Ok(20_000), "the hard limit caps it");
        assert_eq!(wanted_limit(10, 1024, 4096), Ok(1024), "never lowered");
    }

    #[test]
    fn a_hard_limit_too_low_names_what_would_fit() {
        let error = wanted_limit(10_000, 1024, 4096).unwrap_err();
        assert_eq!(
            error,
            DescriptorError::HardLimit {
                max_connections: 10_000,
                needed: 20_000,
                hard: 4096,
                possible: 2048
            }
        );
    }
}
