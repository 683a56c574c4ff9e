//! The PID file: written once everything listens, removed when the process ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A written PID file; dropping it removes the file if it still names this process.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes this process's id and a line feed to `path`, replacing what was there.
    pub(crate) fn write(path: &Path) -> io::Result<Self> {
        fs::write(path, contents())?;
        Ok(Self { path: path.to_owned() })
    }

    /// The file that the program has written which this process was before.
    pub(crate) fn inherited(path: PathBuf) -> Self {
        Self { path }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A successor may have put its own id there by now: that file is not ours to remove.
        if fs::read_to_string(&self.path).is_ok_and(|found| found == contents())
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove the PID file {}: {error}", self.path.display());
        }
    }
}

fn contents() -> String {
    format!("{}\n", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lives_as_long_as_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kakehi.pid");
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), contents());
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_successors_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kakehi.pid");
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
    }
}
