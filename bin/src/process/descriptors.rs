//! The limit on open file descriptors, raised as far as it may be, and held against what the configured limits
//! need; and what becomes of those that were open before us.
//!
//! Workers inherit the limit of the main process, so it is raised once, before they are spawned.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use kakehi_command::config::Config;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A client connection has a back at most; those that are kept idle are among the backs, of which there are no more
/// than client connections may be. Which kind a back is, TCP or a Unix socket, does not matter.
const PER_CONNECTION: u64 = 2;

/// A pipe has two ends.
const PER_PIPE: u64 = 2;

/// Of a worker, in main: its channel, and one that is about to take its place.
const PER_WORKER: u64 = 2;

/// What a process has besides: standard streams, log, poll, channel, signals, timers, locks, files that are read or
/// written, what came with an order and is not at its place yet, a connection that is refused. With one listener and two
/// workers 6 were open in a worker at rest, and 13 in main.
const OWN: u64 = 32;

/// Why the configured limits do not fit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum DescriptorError {
    /// The operator asks for more than a process may hold.
    #[error(
        "{key} = {value} needs {needed} file descriptors in {whom} ({formula}), and the hard limit of this process is \
         {hard}: raise it (LimitNOFILE= in systemd, ulimit -Hn in a shell) or {remedy}"
    )]
    HardLimit {
        /// The setting that asks for most of them.
        key: &'static str,
        /// Its value.
        value: u64,
        /// Descriptors needed.
        needed: u64,
        /// The process that needs them.
        whom: &'static str,
        /// How that comes about.
        formula: &'static str,
        /// Descriptors the process may have at most.
        hard: u64,
        /// What else would help.
        remedy: String,
    },
    /// The kernel refused a limit that is not above the hard one.
    #[error("cannot raise the limit on file descriptors to {wanted}: {source}")]
    Kernel {
        /// The limit asked for.
        wanted: u64,
        /// What the kernel said.
        source: Errno,
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

/// Whether the next program of this process has these descriptors, too.
///
/// # Errors
/// One of them is not open.
pub(crate) fn keep_on_exec(descriptors: &[RawFd], keep: bool) -> io::Result<()> {
    let flag = if keep { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    for descriptor in descriptors {
        // SAFETY: the number is only given to fcntl(2), which refuses one that is not open.
        let descriptor = unsafe { BorrowedFd::borrow_raw(*descriptor) };
        fcntl(descriptor, FcntlArg::F_SETFD(flag))?;
    }
    Ok(())
}

/// A duplicate of a descriptor of which only the number is known: the program that this process was before has told
/// it. The duplicate is closed on exec; the other stays as it is.
///
/// # Errors
/// It is not open, or no descriptor is left.
pub(crate) fn duplicate(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is only given to fcntl(2), which refuses one that is not open, and is not -1.
    unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()
}

/// A descriptor of which only the number is known, as this program's own: the program that this process was before has
/// told it, and nothing else here knows it.
///
/// # Errors
/// It is not open.
pub(crate) fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    keep_on_exec(&[descriptor], false)?;
    // SAFETY: it is open, as fcntl(2) has just said; it was opened by another program, so that nothing in this one owns
    // it; and whoever calls this takes each number once, as it was told.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A descriptor that stands for a process (pidfd_open(2), Linux 5.3), whoever its parent is.
///
/// # Errors
/// There is no such process, or the kernel has no pidfds.
pub(crate) fn pidfd_of(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes two numbers and gives one; no memory is involved.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just opened it, close-on-exec, and nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Kills the process behind a pidfd; one that has ended needs none.
///
/// # Errors
/// This user may not.
pub(crate) fn kill_by_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    let null = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: numbers, and a null pointer where the call takes one (pidfd_send_signal(2)).
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, null, 0) };
    match Errno::result(sent) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Closes descriptors of which only the numbers are known, and which nothing here owns.
pub(crate) fn close(descriptors: &[RawFd]) {
    for descriptor in descriptors {
        // One that is not open is no loss.
        let _closed = nix::unistd::close(*descriptor);
    }
}

/// Raises the soft limit to the hard one, which is given. Nothing here goes through all descriptors there could be,
/// so that a high limit costs nothing.
pub(crate) fn raise_limit() -> Result<u64, DescriptorError> {
    let kernel = |wanted| move |source| DescriptorError::Kernel { wanted, source };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(kernel(0))?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(kernel(hard))?;
    }
    Ok(hard)
}

/// Holds what the configuration needs against the `limit`, with so many listeners. What the operator has written and
/// can't be had is an error; what nobody has written is lowered to what fits, of which the texts tell.
///
/// # Errors
/// A written value needs more than there is, or nothing at all would fit.
pub(crate) fn fit(config: &mut Config, listeners: u64, limit: u64) -> Result<Vec<String>, DescriptorError> {
    let workers = u64::from(config.worker_count);
    let pipes = PER_PIPE.saturating_mul(config.max_splice_pipes as u64);
    let demands = [
        Demand {
            key: "max_connections",
            value: &mut config.max_connections,
            is_default: config.max_connections_is_default,
            each: PER_CONNECTION,
            others: pipes
                .saturating_add(config.max_probes as u64)
                .saturating_add(listeners)
                .saturating_add(OWN),
            whom: "each worker",
            formula: "2 x max_connections + 2 x max_splice_pipes + max_probes + listeners + 32",
        },
        Demand {
            key: "max_command_clients",
            value: &mut config.max_command_clients,
            is_default: config.max_command_clients_is_default,
            each: 1,
            others: workers.saturating_mul(listeners.saturating_add(PER_WORKER)).saturating_add(OWN),
            whom: "the main process",
            formula: "max_command_clients + worker_count x (listeners + 2) + 32",
        },
    ];
    let mut lowered = Vec::new();
    for demand in demands {
        lowered.extend(demand.fit(limit)?);
    }
    Ok(lowered)
}

/// What one setting asks for in one process.
struct Demand<'a> {
    key: &'static str,
    value: &'a mut usize,
    is_default: bool,
    each: u64,
    /// Descriptors for all else.
    others: u64,
    whom: &'static str,
    formula: &'static str,
}

impl Demand<'_> {
    /// What it has become, if it was lowered.
    fn fit(self, hard: u64) -> Result<Option<String>, DescriptorError> {
        let Self { key, whom, formula, .. } = self;
        let value = *self.value as u64;
        let needed = self.each.saturating_mul(value).saturating_add(self.others);
        if needed <= hard {
            return Ok(None);
        }
        let possible = hard.saturating_sub(self.others) / self.each;
        match usize::try_from(possible) {
            Ok(fitting) if self.is_default && fitting > 0 => {
                *self.value = fitting;
                Ok(Some(format!(
                    "{key} is {possible}, not {value}: that needs {needed} file descriptors in {whom} ({formula}), \
                     and the hard limit of this process is {hard}: raise it (LimitNOFILE= in systemd, ulimit -Hn in a \
                     shell), or write {key} = {possible} to have this unsaid"
                )))
            }
            _ => {
                let remedy = match possible {
                    0 => format!("lower what else there is: that alone needs {}", self.others),
                    _ => format!("lower {key} to {possible}"),
                };
                Err(DescriptorError::HardLimit { key, value, needed, whom, formula, hard, remedy })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kakehi_command::config::{Origin, parse_alone};

    use super::*;

    /// What becomes of `max_connections` and `max_command_clients`, and what is said.
    fn check(settings: &str, limit: u64, expected: Result<(usize, usize, &[&str]), &str>) {
        let text = format!("command_socket = \"/run/x.sock\"\nworker_count = 3\n{settings}");
        let origin = Origin::File(Path::new("/x.toml").to_owned());
        let mut config = parse_alone(&text, &origin).expect("a configuration");
        match (fit(&mut config, 10, limit), expected) {
            (Ok(said), Ok((connections, clients, words))) => {
                assert_eq!((config.max_connections, config.max_command_clients), (connections, clients));
                assert_eq!(said.len(), words.len(), "{said:?}");
                for (said, words) in said.iter().zip(words) {
                    assert!(said.starts_with(words), "{said}");
                }
            }
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (got, _) => panic!("{settings} within {limit}: {got:?}"),
        }
    }

    #[test]
    fn what_fits_is_left_alone() {
        // 2 x 10000 + 2 x 256 + 256 + 10 + 32.
        check("", 20_810, Ok((10_000, 1_024, &[])));
        check("max_connections = 500", 1_810, Ok((500, 1_024, &[])));
        check("max_connections = 500\nmax_splice_pipes = 0", 1_298, Ok((500, 1_024, &[])));
        // 1024 + 3 x (10 + 2) + 32.
        check("max_connections = 100", 1_092, Ok((100, 1_024, &[])));
    }

    #[test]
    fn what_is_written_is_kept_or_refused() {
        let words = "max_connections = 500 needs 1810 file descriptors in each worker (2 x max_connections + 2 x \
                     max_splice_pipes + max_probes + listeners + 32), and the hard limit of this process is 1809: \
                     raise it (LimitNOFILE= in systemd, ulimit -Hn in a shell) or lower max_connections to 499";
        check("max_connections = 500", 1_809, Err(words));
        let words = "max_command_clients = 1024 needs 1092 file descriptors in the main process";
        check("max_connections = 9\nmax_command_clients = 1024", 1_091, Err(words));
        let words = "lower what else there is: that alone needs 810";
        check("max_connections = 1", 810, Err(words));
    }

    #[test]
    fn what_nobody_has_written_is_lowered() {
        check("", 4_096, Ok((1_643, 1_024, &["max_connections is 1643, not 10000: that needs 20810 "])));
        let both: &[&str] = &["max_connections is 107, not 10000", "max_command_clients is 956, not 1024"];
        check("", 1_024, Ok((107, 956, both)));
        check("", 811, Err("that alone needs 810"));
    }
}
