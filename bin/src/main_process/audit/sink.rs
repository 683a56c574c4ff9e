//! A file of lines: appended to, opened anew when somebody has moved it away, readable by its owner and group alone.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The owner writes, the group reads.
const MODE: u32 = 0o640;

/// See the module.
#[derive(Debug)]
pub(super) struct Sink {
    path: PathBuf,
    file: File,
    /// Lines that could not be written since one could.
    lost: u64,
}

impl Sink {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: open(path)?, lost: 0 })
    }

    /// Writes a line, which has no line feed in it. What fails is told to the log: nobody waits for it.
    pub(super) fn write(&mut self, line: &str) {
        let moved = match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(now), Ok(own)) => (now.dev(), now.ino()) != (own.dev(), own.ino()),
            _ => true,
        };
        if moved {
            match open(&self.path) {
                Ok(file) => self.file = file,
                Err(error) => log::error!("audit: cannot open {} again: {error}", self.path.display()),
            }
        }
        match self.file.write_all(format!("{line}\n").as_bytes()) {
            Ok(()) if self.lost > 0 => {
                log::warn!("audit: {} lines are missing in {}", self.lost, self.path.display());
                self.lost = 0;
            }
            Ok(()) => {}
            Err(error) => {
                self.lost += 1;
                log::error!("audit: cannot write to {}: {error}", self.path.display());
            }
        }
    }
}

/// One that is open wider is narrowed: it tells who administrates what.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_file() && mode & !MODE != 0 {
        file.set_permissions(Permissions::from_mode(mode & MODE))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_and_a_file_that_was_moved_is_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        fs::write(&path, "before\n").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("set");
        let mut sink = Sink::open(&path).expect("opened");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o640);
        sink.write("one");
        let moved = folder.path().join("audit.log.1");
        fs::rename(&path, &moved).expect("moved");
        sink.write("two");
        assert_eq!(fs::read_to_string(&moved).expect("read"), "before\none\n");
        assert_eq!(fs::read_to_string(&path).expect("read"), "two\n");
    }

    #[test]
    fn what_cannot_be_opened_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Sink::open(&folder.path().join("none/audit.log")).is_err());
    }
}
