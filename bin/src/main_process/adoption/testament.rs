//! What this main process knows beside the state, for the next one if this is killed.
//!
//! It is in memory that workers hold and only main can write: two copies, of which the older one is overwritten, each
//! with its digest. So whenever main is killed, one of them is whole.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use kakehi_command::proto::hand_over::Testament;
use nix::sys::memfd::{MFdFlags, memfd_create};
use prost::Message;
use zeroize::Zeroizing;

/// Bytes of one copy, its head among them: what is known of hundreds of thousands of sick backends fits.
const COPY_BYTES: u64 = 64 << 20;

/// The digest of what follows, and how long that is.
const HEAD_BYTES: usize = DIGEST_BYTES + 8;
const DIGEST_BYTES: usize = 32;

/// The file of the testament.
#[derive(Debug)]
pub(crate) struct Will {
    file: File,
    /// The copy that is written next.
    next: u64,
    last: Zeroizing<Vec<u8>>,
}

impl Will {
    /// An empty one.
    pub(in super::super) fn create() -> io::Result<Self> {
        let file = File::from(memfd_create(c"kakehi testament", MFdFlags::MFD_CLOEXEC)?);
        Ok(Self { file, next: 0, last: Zeroizing::default() })
    }

    /// For a worker, which can't write it.
    pub(in super::super) fn for_reading(&self) -> io::Result<OwnedFd> {
        Ok(File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))?.into())
    }

    /// Writes it down, unless it is there already. The time is set here.
    pub(in super::super) fn write(&mut self, mut testament: Testament) -> io::Result<()> {
        testament.written_at = 0;
        let bytes = Zeroizing::new(testament.encode_to_vec());
        if *bytes == *self.last {
            return Ok(());
        }
        testament.written_at = microseconds();
        let dated = Zeroizing::new(testament.encode_to_vec());
        if (dated.len() + HEAD_BYTES) as u64 > COPY_BYTES {
            return Err(io::Error::other(format!("it has {} bytes, too many", dated.len())));
        }
        let mut copy = Zeroizing::new(Vec::with_capacity(HEAD_BYTES + dated.len()));
        copy.extend_from_slice(digest(&SHA256, &dated).as_ref());
        copy.extend_from_slice(&(dated.len() as u64).to_ne_bytes());
        copy.extend_from_slice(&dated);
        self.file.write_all_at(&copy, self.next * COPY_BYTES)?;
        self.next = 1 - self.next;
        self.last = bytes;
        Ok(())
    }
}

/// The last one that is whole; none if there is none.
pub(super) fn read(file: &File) -> Option<Testament> {
    let copies = [0, 1].into_iter().filter_map(|copy| read_copy(file, copy * COPY_BYTES));
    copies.max_by_key(|testament| testament.written_at)
}

fn read_copy(file: &File, at: u64) -> Option<Testament> {
    let mut head = [0; HEAD_BYTES];
    file.read_exact_at(&mut head, at).ok()?;
    let (expected, length) = head.split_at(DIGEST_BYTES);
    let length = u64::from_ne_bytes(length.try_into().ok()?);
    if length > COPY_BYTES {
        return None;
    }
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(length).ok()?]);
    file.read_exact_at(&mut bytes, at + HEAD_BYTES as u64).ok()?;
    if digest(&SHA256, &bytes).as_ref() != expected {
        return None;
    }
    Testament::decode(&**bytes).ok()
}

#[expect(clippy::disallowed_methods, reason = "two processes compare it")]
fn microseconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn testament(slots: u32) -> Testament {
        Testament { slots, ..Default::default() }
    }

    fn slots(file: &File) -> Option<u32> {
        read(file).map(|testament| testament.slots)
    }

    #[test]
    fn the_last_one_that_is_whole_is_read() {
        let mut will = Will::create().unwrap();
        let reader = File::from(will.for_reading().unwrap());
        assert_eq!(slots(&reader), None);
        for count in 1..5 {
            will.write(testament(count)).unwrap();
            assert_eq!(slots(&reader), Some(count));
        }
        // The fourth is in the second copy; a fifth breaks off there and then.
        will.file.write_all_at(b"half of something", HEAD_BYTES as u64).unwrap();
        assert_eq!(slots(&reader), Some(4));
        will.file.write_all_at(b"and the other, too", COPY_BYTES + HEAD_BYTES as u64).unwrap();
        assert_eq!(slots(&reader), None);
    }

    #[test]
    fn what_has_not_changed_is_not_written_again() {
        let mut will = Will::create().unwrap();
        will.write(testament(1)).unwrap();
        will.write(testament(2)).unwrap();
        will.write(testament(2)).unwrap();
        assert_eq!(will.next, 0);
    }

    #[test]
    fn workers_cannot_write_it() {
        let will = Will::create().unwrap();
        let reader = File::from(will.for_reading().unwrap());
        assert!(reader.write_all_at(b"forged", 0).is_err());
    }
}
