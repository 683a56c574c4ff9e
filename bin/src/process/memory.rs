//! Keeping what is in memory there: private keys must not end up in a core file, nor with another process.

use nix::sys::prctl;

/// Makes this process undumpable: it leaves no core file and, but for root, nobody attaches a debugger to it
/// or reads its memory through `/proc`. An exec undoes it, so every process of ours calls this by itself.
///
/// It covers the whole memory, wherever a library may have copied a key to, which marking single pages as not
/// to be dumped could not.
pub(crate) fn forbid_dumps() {
    // Linux refuses no process this. An emulated kernel might, and then nothing else would help.
    if let Err(error) = prctl::set_dumpable(false) {
        log::warn!("PR_SET_DUMPABLE: {error}; a crash may leave private keys in a core file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undumpable_process_is_one() {
        prctl::set_dumpable(true).unwrap();
        forbid_dumps();
        assert_eq!(prctl::get_dumpable(), Ok(false));
    }
}
