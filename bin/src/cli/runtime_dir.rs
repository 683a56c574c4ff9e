//! Where the command socket of the embedded configuration lives: a directory of this user's own.
//!
//! `$XDG_RUNTIME_DIR/kakehi` if that variable names a directory of ours, else `/tmp/kakehi-<uid>`. The
//! proxy and every later verb come to the same answer by the same rule. `/tmp` is everybody's: the
//! directory there is trusted only if it is a real directory (no link), owned by us, and closed to
//! others; otherwise another user could lend us a socket of theirs, or take ours away.

use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeDirError {
    /// mkdir(2) or lstat(2) failed.
    #[error("cannot use {path} for the command socket: {error}")]
    Io { path: PathBuf, error: io::Error },
    /// Somebody else could tamper with it.
    #[error(
        "{path} is not safe for the command socket: {reason}. Remove it, or name another place by XDG_RUNTIME_DIR or by command_socket in a configuration file (-c)"
    )]
    Unsafe { path: PathBuf, reason: &'static str },
}

/// The directory's path; nothing is created.
pub(crate) fn path() -> PathBuf {
    // An unset, relative or foreign directory is as good as none (the XDG specification says to
    // ignore relative ones; after `su` the variable still names the first user's).
    let xdg = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    choose(xdg.filter(|path| path.is_absolute() && is_own_directory(path)), Uid::effective().as_raw())
}

fn choose(xdg: Option<PathBuf>, uid: u32) -> PathBuf {
    match xdg {
        Some(directory) => directory.join("kakehi"),
        None => PathBuf::from(format!("/tmp/kakehi-{uid}")),
    }
}

fn is_own_directory(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == Uid::effective().as_raw())
}

/// Creates the directory if it is missing, for this user alone, and checks it.
pub(crate) fn create(path: &Path) -> Result<(), RuntimeDirError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(RuntimeDirError::Io { path: path.to_owned(), error })
        }
        Ok(()) | Err(_) => check(path),
    }
}

/// Checks that nobody else can put anything into the directory.
pub(crate) fn check(path: &Path) -> Result<(), RuntimeDirError> {
    // Not following links: a link in /tmp could be anybody's.
    let metadata = std::fs::symlink_metadata(path)
        .map_err(|error| RuntimeDirError::Io { path: path.to_owned(), error })?;
    match unsafe_because(&metadata, Uid::effective().as_raw()) {
        Some(reason) => Err(RuntimeDirError::Unsafe { path: path.to_owned(), reason }),
        None => Ok(()),
    }
}

fn unsafe_because(metadata: &Metadata, uid: u32) -> Option<&'static str> {
    if !metadata.is_dir() {
        Some("it is not a directory")
    } else if metadata.uid() != uid {
        Some("it belongs to another user")
    } else if metadata.mode() & 0o077 != 0 {
        Some("other users may enter it (its mode should be 0700)")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_runtime_directory_wins_over_tmp() {
        assert_eq!(choose(Some("/run/user/7".into()), 7), Path::new("/run/user/7/kakehi"));
        assert_eq!(choose(None, 7), Path::new("/tmp/kakehi-7"));
    }

    #[test]
    fn a_directory_is_created_for_its_user_alone_and_found_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("kakehi");
        create(&path).unwrap();
        create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_others_could_tamper_with_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let refused = |name: &str| {
            let error = create(&parent.path().join(name)).unwrap_err();
            assert!(matches!(error, RuntimeDirError::Unsafe { .. }), "{error}");
        };
        fs::create_dir(parent.path().join("real")).unwrap();
        symlink(parent.path().join("real"), parent.path().join("link")).unwrap();
        refused("link");
        fs::write(parent.path().join("file"), "").unwrap();
        refused("file");
        fs::create_dir(parent.path().join("open")).unwrap();
        fs::set_permissions(parent.path().join("open"), Permissions::from_mode(0o770)).unwrap();
        refused("open");
        let metadata = fs::symlink_metadata(parent.path()).unwrap();
        assert_eq!(unsafe_because(&metadata, metadata.uid() + 1), Some("it belongs to another user"));
    }
}
