//! System calls per request, counted by strace in a run of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::failure::{Context, Failure};
use crate::peers::{Peer, send_signal};
use crate::report::Calls;
use crate::stats::float;

/// Attaches to all processes, does the work, and counts.
///
/// # Errors
/// If strace is not installed or may not attach, or the work fails.
pub(crate) fn count(
    peer: Peer,
    pids: &[u32],
    requests: u64,
    work: impl FnOnce() -> Result<(), Failure>,
) -> Result<Calls, Failure> {
    let directory = tempfile::tempdir()?;
    let summary = directory.path().join("summary");
    let child = Command::new("strace")
        .args(["-c", "-f", "-o"])
        .arg(&summary)
        .args(pids.iter().flat_map(|pid| ["-p".to_owned(), pid.to_string()]))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("strace")?;
    let mut tracer = Tracer(child);
    tracer.await_attached(pids.len())?;
    let done = work();
    tracer.end();
    done?;
    let text = std::fs::read_to_string(&summary).context("strace's summary")?;
    let each = parse(&text).into_iter().map(|(name, calls)| (name, float(calls) / float(requests)));
    Ok(Calls { peer, each: each.collect() })
}

/// A running strace; it lets go of its processes when dropped.
struct Tracer(Child);

impl Tracer {
    fn await_attached(&mut self, processes: usize) -> Result<(), Failure> {
        let stderr = self.0.stderr.take().context("strace's standard error is a pipe")?;
        let mut attached = 0;
        for line in BufReader::new(stderr).lines() {
            let line = line?;
            if !line.contains("attached") {
                return Err(Failure::new(line));
            }
            attached += 1;
            if attached == processes {
                return Ok(());
            }
        }
        Err(Failure::new("strace ended"))
    }

    fn end(&mut self) {
        // SIGINT makes it detach and write its summary.
        send_signal(self.0.id(), Signal::SIGINT);
        let _status = self.0.wait();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.end();
        }
    }
}

/// Name and number of calls from strace's table, most frequent first.
fn parse(summary: &str) -> Vec<(String, u64)> {
    let mut calls: Vec<(String, u64)> = summary.lines().filter_map(line).collect();
    calls.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    calls
}

/// `% time  seconds  usecs/call  calls  [errors]  syscall`
fn line(text: &str) -> Option<(String, u64)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let name = *words.last()?;
    let calls = words.get(3)?.parse().ok()?;
    (name != "total").then(|| (name.to_owned(), calls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_read() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 57.45    0.004123           2      2000         3 recvfrom
 42.55    0.003054           1      3000           sendto
  0.00    0.000000           0         1           close
------ ----------- ----------- --------- --------- ----------------
100.00    0.007177           1      5001         3 total
";
        let expected = [("sendto", 3000), ("recvfrom", 2000), ("close", 1)];
        assert_eq!(parse(summary), expected.map(|(name, calls)| (name.to_owned(), calls)));
    }
}
