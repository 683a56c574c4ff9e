//! The folder beside the command socket in which each worker has a socket to wait at.
//!
//! It is its owner's alone, and locked (flock) by the main process that lives: so whoever has the lock knows that
//! no other has these workers. Names of sockets are not to be guessed: workers can't list the folder, so that none of
//! them can pass for a main process.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kakehi_command::proto::hand_over as wire;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, fchmod};

use super::super::gather::WorkerId;
use super::super::hand_over::{Named, Taking};

/// What is put behind the path of the command socket.
const SUFFIX: &str = ".workers";

/// Main processes that may wait for a worker; there is one, but for some that have just died.
const QUEUE: i32 = 16;

/// Bytes of a name that are not to be guessed.
const SECRET_BYTES: usize = 16;

/// A main process that was killed is waited for so long: it has the lock until the kernel has cleared it away.
const LOCK_MAX: Duration = Duration::from_secs(5);

/// Between two looks at the lock.
const LOCK_LOOK: Duration = Duration::from_millis(20);

/// Why there is no such folder.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RendezvousError {
    /// Somebody else has it.
    #[error("{}: another main process has the workers of this command socket; stop that one, or use another path", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// It can't be had; the proxy can do without.
    #[error("{}: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Rendezvous {
    folder: File,
    path: PathBuf,
    /// The sockets' names.
    names: BTreeMap<WorkerId, String>,
}

/// A socket that was found: whose it is, as far as its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) worker: WorkerId,
    pub(super) pid: u32,
}

impl Rendezvous {
    /// The folder beside this command socket, made if need be, and locked.
    pub(crate) fn open(command_socket: &Path) -> Result<Self, RendezvousError> {
        let mut path = command_socket.as_os_str().to_owned();
        path.push(SUFFIX);
        let path = PathBuf::from(path);
        let failed = |source: io::Error| RendezvousError::Io { path: path.clone(), source };
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let folder =
            File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(&path);
        let folder = folder.map_err(failed)?;
        let metadata = folder.metadata().map_err(failed)?;
        let own = metadata.uid() == nix::unistd::geteuid().as_raw();
        if !own || metadata.mode() & 0o077 != 0 {
            let error = "the folder is not this user's alone: remove it";
            return Err(failed(io::Error::other(error)));
        }
        let until = now() + LOCK_MAX;
        loop {
            match folder.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if now() < until => wait(LOCK_LOOK),
                Err(TryLockError::WouldBlock) => return Err(RendezvousError::Taken { path }),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        Ok(Self { folder, path, names: BTreeMap::new() })
    }

    /// The folder of the program that this process ran before: its lock is this process', and stays.
    pub(in super::super) fn taken_over(left: &wire::Rendezvous, taking: Taking) -> io::Result<Self> {
        let folder = File::from(taking.own(left.fd)?);
        let mut rendezvous = Self { folder, path: PathBuf::from(&left.path), names: BTreeMap::new() };
        for place in rendezvous.places()? {
            rendezvous.names.insert(place.worker, place.name);
        }
        Ok(rendezvous)
    }

    /// For the next program of this process.
    pub(in super::super) fn left(&self, named: &mut Named) -> wire::Rendezvous {
        let path = self.path.to_string_lossy().into_owned();
        wire::Rendezvous { fd: named.name(&self.folder), path }
    }

    /// A listening socket for a worker.
    pub(in super::super) fn make_place(&mut self, worker: WorkerId, pid: u32) -> io::Result<OwnedFd> {
        let mut secret = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| io::Error::other("the kernel gives no randomness"))?;
        let secret = u128::from_ne_bytes(secret);
        let name = format!("{worker}-{pid}-{secret:032x}");
        let listener = stream_socket()?;
        fchmod(&listener, Mode::S_IRUSR | Mode::S_IWUSR)?;
        bind(listener.as_raw_fd(), &self.address(&name)?)?;
        self.names.insert(worker, name);
        listen(&listener, Backlog::new(QUEUE)?)?;
        Ok(listener)
    }

    /// Whether a worker has a place.
    pub(in super::super) fn has_place(&self, worker: WorkerId) -> bool {
        self.names.contains_key(&worker)
    }

    /// The worker is gone, and its place with it.
    pub(in super::super) fn remove_place(&mut self, worker: WorkerId) {
        if let Some(name) = self.names.remove(&worker) {
            self.remove(&name);
        }
    }

    /// A place that was found is this worker's.
    pub(super) fn keep_place(&mut self, worker: WorkerId, name: String) {
        self.names.insert(worker, name);
    }

    /// All sockets in the folder. What else may be there is left alone.
    pub(super) fn places(&self) -> io::Result<Vec<Place>> {
        let mut places = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            places.extend(entry?.file_name().to_str().and_then(place_of));
        }
        places.sort_by_key(|place| place.worker);
        Ok(places)
    }

    /// Knocks where a worker waits, without waiting oneself. None if nobody has this socket any more.
    pub(super) fn knock(&self, place: &Place) -> io::Result<Option<UnixStream>> {
        let stream = stream_socket()?;
        match connect(stream.as_raw_fd(), &self.address(&place.name)?) {
            Ok(()) => Ok(Some(UnixStream::from(stream))),
            Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a socket of the folder.
    pub(super) fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.path.join(name))
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("cannot remove {}: {error}", self.path.join(name).display());
        }
    }

    /// By way of the open folder: the path of a Unix socket is short, that of the folder may not be.
    fn address(&self, name: &str) -> nix::Result<UnixAddr> {
        UnixAddr::new(format!("/proc/self/fd/{}/{name}", self.folder.as_fd().as_raw_fd()).as_str())
    }

    /// Every worker is gone.
    pub(in super::super) fn clear(&mut self) {
        for name in std::mem::take(&mut self.names).into_values() {
            self.remove(&name);
        }
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        // Not if somebody waits there.
        let _in_use = fs::remove_dir(&self.path);
    }
}

fn stream_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

fn place_of(name: &str) -> Option<Place> {
    let mut parts = name.splitn(3, '-');
    let worker = WorkerId(parts.next()?.parse().ok()?);
    let pid = parts.next()?.parse().ok()?;
    parts.next()?;
    Some(Place { name: name.to_owned(), worker, pid })
}

#[expect(clippy::disallowed_methods, reason = "a deadline before there is a loop")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the kernel tells nobody when a lock is free")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_place_is_found_by_the_next_and_goes_with_its_worker() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("k".repeat(90));
        let mut first = Rendezvous::open(&socket).unwrap();
        let held = UnixListener::from(first.make_place(WorkerId(7), 42).unwrap());
        let _gone = first.make_place(WorkerId(8), 43).unwrap();
        drop(_gone);
        assert!(first.has_place(WorkerId(7)) && !first.has_place(WorkerId(9)));
        // As if it were killed: nothing is cleared.
        drop(first);
        let next = Rendezvous::open(&socket).unwrap();
        let places = next.places().unwrap();
        let found: Vec<(u32, u32)> = places.iter().map(|it| (it.worker.0, it.pid)).collect();
        assert_eq!(found, [(7, 42), (8, 43)]);
        assert!(next.knock(&places[0]).unwrap().is_some());
        assert!(held.accept().is_ok());
        assert!(next.knock(&places[1]).unwrap().is_none(), "nobody has it");
        places.iter().for_each(|place| next.remove(&place.name));
        let path = next.path.clone();
        drop(next);
        assert!(!path.exists());
    }

    #[test]
    fn one_has_it_at_a_time_and_nobody_else_may_look() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("k.sock");
        let first = Rendezvous::open(&socket).unwrap();
        assert_eq!(first.folder.metadata().unwrap().mode() & 0o777, 0o700);
        let error = Rendezvous::open(&socket).unwrap_err();
        assert!(matches!(error, RendezvousError::Taken { .. }), "{error}");
        let path = first.path.clone();
        drop(first);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let error = Rendezvous::open(&socket).unwrap_err();
        assert!(error.to_string().contains("not this user's alone"), "{error}");
    }
}
