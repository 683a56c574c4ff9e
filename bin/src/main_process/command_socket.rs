//! The command socket's file: taken without stealing it from a running instance, and without a moment
//! in which others than its mode allows could connect.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, fchmod};

/// Longest path that fits a `sockaddr_un`, its closing NUL left out (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// Only the owner, until the configured mode is set.
const MODE_WHILE_BINDING: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// Why the command socket could not be opened. All of them are for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandSocketError {
    /// Somebody accepts connections on it.
    #[error("command_socket {}: another instance serves it; stop that one, or use another path", path.display())]
    Served {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has this name.
    #[error("command_socket {}: the file exists and is not a socket; it is left alone", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// A Unix socket's name is short.
    #[error("command_socket {}: the path has {bytes} bytes, a Unix socket's has at most {PATH_BYTES_MAX}", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The kernel refused a step.
    #[error("command_socket {}: cannot {step}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The listening command socket; dropping it removes its file, if that is still its own.
#[derive(Debug)]
pub(crate) struct CommandSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file made here.
    identity: (u64, u64),
}

impl CommandSocket {
    /// Opens the socket at `path`, accessible as `mode` says. A file left behind by a dead instance is
    /// replaced; one that somebody serves is an error.
    ///
    /// The folder is locked (flock) for the while, so that of two instances started together the
    /// second finds the first's socket served, rather than removing it just before it is.
    pub(crate) fn open(path: &Path, mode: u32) -> Result<Self, CommandSocketError> {
        let failed = |step, source: io::Error| CommandSocketError::Io { path: path.to_owned(), step, source };
        let bytes = path.as_os_str().as_bytes().len();
        if bytes > PATH_BYTES_MAX {
            return Err(CommandSocketError::PathTooLong { path: path.to_owned(), bytes });
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let folder = File::open(folder).map_err(|error| failed("open its folder", error))?;
        // A file system without locks must not keep the proxy from starting: the check below still
        // protects every instance that is already running.
        let _lock = Flock::lock(folder, FlockArg::LockExclusive)
            .inspect_err(|(_, error)| log::warn!("cannot lock the command socket's folder: {error}"))
            .ok();
        remove_if_abandoned(path)?;
        let listener = bind_private(path).map_err(|error| failed("bind it", error.into()))?;
        // From here on the file is ours to remove, also if a later step fails.
        let metadata = fs::symlink_metadata(path).map_err(|error| failed("look at it", error))?;
        let opened = Self {
            listener: UnixListener::from(listener),
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
        };
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(|error| failed("set its mode", error))?;
        Ok(opened)
    }

    /// The socket that the program has opened which this process was before. Its file stays that one's until it is
    /// [claimed](Self::claim).
    pub(super) fn inherited(listener: OwnedFd, path: PathBuf) -> Self {
        Self { listener: UnixListener::from(listener), path, identity: (0, 0) }
    }

    /// The file is this program's from now on.
    pub(super) fn claim(&mut self, identity: (u64, u64)) {
        self.identity = identity;
    }

    /// Device and inode of its file.
    pub(super) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// The listening socket, non-blocking.
    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for CommandSocket {
    fn drop(&mut self) {
        let is_own =
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if is_own && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove the command socket {}: {error}", self.path.display());
        }
    }
}

/// Removes a socket file that nobody serves; refuses to touch anything else.
fn remove_if_abandoned(path: &Path) -> Result<(), CommandSocketError> {
    let failed = |step, source: io::Error| CommandSocketError::Io { path: path.to_owned(), step, source };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at it", error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(CommandSocketError::NotASocket { path: path.to_owned() });
    }
    match is_served(path) {
        Ok(true) => Err(CommandSocketError::Served { path: path.to_owned() }),
        Ok(false) => fs::remove_file(path).map_err(|error| failed("remove what a dead instance left", error)),
        Err(error) => Err(failed("ask whether another instance serves it", error.into())),
    }
}

/// Whether somebody listens at `path`. A queue that is full is somebody's, too: the connection is not
/// waited for, so that a hung instance cannot hang this one.
fn is_served(path: &Path) -> nix::Result<bool> {
    let probe = stream_socket()?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) | Err(Errno::EAGAIN) => Ok(true),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Binds so that the file is its owner's alone from its first moment. Linux gives a socket's file the
/// mode of the unbound socket, which a process-wide umask would only approximate.
fn bind_private(path: &Path) -> nix::Result<OwnedFd> {
    let listener = stream_socket()?;
    fchmod(&listener, MODE_WHILE_BINDING)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&listener, Backlog::MAXCONN)?;
    Ok(listener)
}

fn stream_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn it_has_its_mode_and_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.sock");
        let socket = CommandSocket::open(&path, 0o660).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o660);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn an_instance_that_serves_keeps_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.sock");
        let first = CommandSocket::open(&path, 0o600).unwrap();
        let error = CommandSocket::open(&path, 0o600).unwrap_err();
        assert!(matches!(error, CommandSocketError::Served { .. }), "{error}");
        assert!(error.to_string().contains("another instance serves it"));
        UnixStream::connect(&path).unwrap();
        drop(first);
    }

    #[test]
    fn what_a_dead_instance_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = CommandSocket::open(&path, 0o600).unwrap();
        UnixStream::connect(socket.path()).unwrap();
    }

    #[test]
    fn other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious.txt");
        fs::write(&path, "precious").unwrap();
        let error = CommandSocket::open(&path, 0o600).unwrap_err();
        assert!(matches!(error, CommandSocketError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_successors_file_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.sock");
        let socket = CommandSocket::open(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        let _successor = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[test]
    fn errors_say_what_to_mend() {
        let folder = tempfile::tempdir().unwrap();
        let missing = CommandSocket::open(&folder.path().join("no/k.sock"), 0o600).unwrap_err();
        assert!(missing.to_string().contains("cannot open its folder"), "{missing}");
        let long = CommandSocket::open(&folder.path().join("k".repeat(120)), 0o600).unwrap_err();
        assert!(matches!(long, CommandSocketError::PathTooLong { .. }), "{long}");
    }
}
