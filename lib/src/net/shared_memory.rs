//! Memory that main makes and all its workers map: words that each of them reads and writes.
//!
//! Only atomic words come out of here, so whatever another process writes is a value at worst, never undefined
//! behaviour. The memory is zero at first, takes no room before it is written to, and is gone with the last process
//! that has it.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::unistd::ftruncate;

/// The most that is mapped at once: what is asked for beyond is a mistake.
const BYTES_MAX: usize = 1 << 32;

/// The size of what was made can't be changed any more, by nobody.
const FIXED_SIZE: SealFlag =
    SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// Makes memory of so many bytes, to be handed to other processes.
///
/// # Errors
/// Those of the kernel: it has no memfd, or no descriptor is left.
pub fn create(bytes: usize) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"kakehi", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let length = i64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    ftruncate(&fd, length)?;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(FIXED_SIZE))?;
    Ok(fd)
}

/// Maps memory that [`create`] has made, of which `bytes` has to be the size, until this process ends. The
/// descriptor is not needed afterwards.
///
/// # Errors
/// Those of the kernel; or it is no such memory.
pub fn map(fd: &OwnedFd, bytes: usize) -> io::Result<&'static [AtomicU64]> {
    let length = NonZeroUsize::new(bytes).filter(|length| length.get() <= BYTES_MAX);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    // A page that is gone would end the process at the next access (SIGBUS).
    let seals = SealFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GET_SEALS)?);
    if !seals.contains(FIXED_SIZE) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the size of the memory is not fixed"));
    }
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping, wherever the kernel likes, so nothing that is in use is mapped over; it is never
    // unmapped.
    let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, fd.as_fd(), 0) }?;
    let words = bytes / size_of::<AtomicU64>();
    // SAFETY: the mapping is `bytes` long, which holds `words` words; it begins at a page, so they are aligned; it
    // lasts as long as the process; every value is a valid `AtomicU64`. Nobody has another kind of reference to it:
    // here it is made once for each mapping, and other processes reach the memory through their own, by this
    // function. The size of the file can't change (its seals), and main, which chose it, says what it is.
    Ok(unsafe { std::slice::from_raw_parts(start.as_ptr().cast(), words) })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::thread;

    use super::*;
    use crate::tls::session_table::{Put, SessionTable};

    #[test]
    fn two_mappings_are_the_same_memory() {
        let fd = create(8192).expect("memory");
        let [one, other] = [(); 2].map(|()| map(&fd, 8192).expect("mapped"));
        assert_eq!((one.len(), other.len()), (1024, 1024));
        assert_ne!(one.as_ptr(), other.as_ptr());
        assert!(one.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        one[1023].store(7, Ordering::Relaxed);
        assert_eq!(other[1023].load(Ordering::Relaxed), 7);
    }

    #[test]
    fn its_size_is_fixed() {
        let fd = create(8192).expect("memory");
        for bytes in [0, 4096, 16384] {
            assert!(ftruncate(&fd, bytes).is_err());
        }
        let loose = memfd_create(c"loose", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING);
        assert!(map(&loose.expect("memory"), 4096).is_err());
        assert!(map(&fd, 0).is_err());
    }

    /// As many workers, each with its own mapping: a session is taken by one of them at most.
    #[test]
    fn a_session_is_taken_once_over_all_mappings() {
        const WORKERS: usize = 4;
        const ROUNDS: u32 = 500;
        let bytes = SessionTable::bytes_for(64);
        let fd = create(bytes).expect("memory");
        let table = || SessionTable::new(map(&fd, bytes).expect("mapped")).expect("large enough");
        let maker = table();
        let workers: Vec<_> = (0..WORKERS).map(|_| table()).collect();
        for round in 0..ROUNDS {
            let mut key = [1; 32];
            key[..4].copy_from_slice(&round.to_le_bytes());
            assert_ne!(maker.put(&key, b"session", round, u32::MAX), Put::Refused);
            let taken: usize = thread::scope(|scope| {
                let threads: Vec<_> = workers
                    .iter()
                    .map(|table| scope.spawn(move || usize::from(table.take(&key, round).is_some())))
                    .collect();
                threads.into_iter().map(|thread| thread.join().expect("it ends")).sum()
            });
            assert_eq!(taken, 1, "round {round}");
        }
    }
}
