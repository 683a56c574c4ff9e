//! Instructions in user space, counted by valgrind's callgrind: free of noise, blind to the kernel.
//!
//! Counts are taken from a running worker, between two points that it is asked to dump them at
//! (vgdb(1)): neither its start nor its end is in them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::failure::{Context, Failure};
use crate::peers::{Peer, Running, Site, Stage, Wrapper};

/// A proxy whose worker runs under callgrind.
pub(crate) struct Counted {
    running: Running,
    worker: u32,
    dumps: u32,
    directory: TempDir,
}

impl Counted {
    /// Starts a proxy with its worker under callgrind.
    ///
    /// # Errors
    /// If valgrind is not installed, or the proxy does not start under it.
    pub(crate) fn start(stage: &Stage, peer: Peer, site: &Site<'_>) -> Result<Counted, Failure> {
        let directory = tempfile::tempdir()?;
        let out = format!("--callgrind-out-file={}/out.%p", directory.path().display());
        let wrapper = Wrapper(["valgrind", "--tool=callgrind", &out].map(str::to_owned).into());
        let running = stage.start(peer, site, &wrapper)?;
        let worker = running.worker();
        Ok(Counted { running, worker, dumps: 0, directory })
    }

    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    /// Instructions since the last call, or since the start. The profile is copied to `keep`.
    ///
    /// # Errors
    /// If valgrind does not write them.
    pub(crate) fn instructions(&mut self, keep: Option<&Path>) -> Result<u64, Failure> {
        let status = Command::new("vgdb")
            .arg(format!("--pid={}", self.worker))
            .arg("dump")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("vgdb")?;
        if !status.success() {
            return Err(Failure::new(format!("vgdb does not reach the worker: {}", self.running.log())));
        }
        self.dumps += 1;
        let profile = self.directory.path().join(format!("out.{}.{}", self.worker, self.dumps));
        let text = fs::read_to_string(&profile).context("the worker's profile")?;
        if let Some(keep) = keep {
            fs::write(keep, without_open_costs(&text)).context(keep.display())?;
        }
        totals(&text).context("no totals in the worker's profile")
    }
}

/// The sum of all instructions in a profile.
fn totals(profile: &str) -> Option<u64> {
    let line = profile.lines().rev().find_map(|line| line.strip_prefix("totals:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A profile without the cost of calls that were under way when the count began. It has them as calls that were made
/// no time, and callgrind_annotate takes their cost, which is all there is, for the caller's own.
fn without_open_costs(profile: &str) -> String {
    let mut kept = String::with_capacity(profile.len());
    let mut open = false;
    for line in profile.lines() {
        // The position stays: what follows may be told from there.
        let position = line.split(' ').next().filter(|_| open);
        match position {
            Some(position) => kept.extend([position, " 0\n"]),
            None => kept.extend([line, "\n"]),
        }
        open = line.starts_with("calls=0 ");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_were_under_way_are_no_costs_of_their_callers() {
        let profile = "fn=(1) main\ncfn=(2) run\ncalls=0 29 \n360 900\n\nfn=(2) run\n7 5\ncfn=(3) step\n\
                       calls=2 4\n* 895\n\ntotals: 900\n";
        let kept = profile.replace("360 900", "360 0");
        assert_eq!(without_open_costs(profile), kept);
    }

    #[test]
    fn the_sum_is_read() {
        assert_eq!(totals("events: Ir\nfn=(1)\n0 5\n\ntotals: 123456\n"), Some(123_456));
        assert_eq!(totals("events: Ir\n"), None);
    }
}
