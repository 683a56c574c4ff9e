//! [`Followed`]: a file that is read on as it grows, also when it is rotated or truncated.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How often a file that does not grow is looked at. A line is not shown later than that.
const POLL: Duration = Duration::from_millis(100);

/// What a wait ended with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// There may be more to read, or not.
    Grown,
    /// Reading begins anew, with what is in the file now. What was the last line without a line feed is gone.
    Truncated,
    /// There is another file in its place, which is read from its beginning.
    Rotated,
}

/// A file under a name that may come to mean another one.
#[derive(Debug)]
pub(super) struct Followed {
    path: PathBuf,
    file: File,
    /// Bytes read of it.
    position: u64,
}

impl Followed {
    /// Opens it, at its end if so asked.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(path: &Path, at_end: bool) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let position = if at_end { file.seek(SeekFrom::End(0))? } else { 0 };
        Ok(Self { path: path.to_owned(), file, position })
    }

    /// Waits a little, then sees what has become of the file. Call it when all was read.
    ///
    /// # Errors
    /// The file cannot be looked at, or its successor not be opened.
    pub(super) fn wait(&mut self) -> io::Result<News> {
        pause();
        self.look()
    }

    fn look(&mut self) -> io::Result<News> {
        let mine = self.file.metadata()?;
        if mine.len() < self.position {
            self.position = self.file.seek(SeekFrom::Start(0))?;
            return Ok(News::Truncated);
        }
        if mine.len() > self.position {
            return Ok(News::Grown);
        }
        match File::open(&self.path) {
            // Between a rename and the new file there is none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(News::Grown),
            Err(error) => Err(error),
            Ok(file) if is_same(&file.metadata()?, &mine) => Ok(News::Grown),
            // What its writer wrote into it after the rename would be lost now.
            Ok(_) if self.file.metadata()?.len() > self.position => Ok(News::Grown),
            Ok(file) => {
                (self.file, self.position) = (file, 0);
                Ok(News::Rotated)
            }
        }
    }
}

impl Read for Followed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[expect(clippy::disallowed_methods, reason = "a file that grows does not tell")]
fn pause() {
    thread::sleep(POLL);
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(followed: &mut Followed) -> String {
        let mut text = String::new();
        followed.read_to_string(&mut text).expect("a readable file");
        text
    }

    #[test]
    fn a_file_is_followed_through_rotation_and_truncation() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        std::fs::write(&path, "one\n").expect("writable");
        let mut followed = Followed::open(&path, false).expect("a file");
        assert_eq!(read(&mut followed), "one\n");
        assert_eq!(followed.look().expect("still there"), News::Grown);

        // The writer goes on in the old file for a while.
        let mut old = File::options().append(true).open(&path).expect("a file");
        std::fs::rename(&path, directory.path().join("log.1")).expect("renamed");
        assert_eq!(followed.look().expect("no file yet"), News::Grown);
        std::fs::write(&path, "three\n").expect("writable");
        old.write_all(b"two\n").expect("writable");
        assert_eq!(followed.look().expect("more in the old one"), News::Grown);
        assert_eq!(read(&mut followed), "two\n");
        assert_eq!(followed.look().expect("another file"), News::Rotated);
        assert_eq!(read(&mut followed), "three\n");

        std::fs::write(&path, "4\n").expect("writable");
        assert_eq!(followed.look().expect("shorter"), News::Truncated);
        assert_eq!(read(&mut followed), "4\n");
        let mut at_end = Followed::open(&path, true).expect("a file");
        assert_eq!(read(&mut at_end), "");
    }
}
