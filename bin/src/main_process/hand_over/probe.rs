//! Whether the program on disk could go on from here: it is asked, in a process of its own, and shown all that it would
//! have to go on from.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{PROTOCOL, file, take};
use crate::process::child::Process;

/// Of what it complains about, the end is told.
const COMPLAINT_BYTES_MAX: u64 = 2048;

/// A program that is asked. It is killed when this is dropped before it has answered.
#[derive(Debug)]
pub(super) struct Probe {
    process: Process,
    complaints: File,
}

impl Probe {
    /// Asks a program.
    pub(super) fn start(program: &Path, left: &File) -> Result<Self, String> {
        let start = || -> io::Result<Self> {
            let complaints = File::from(memfd_create(c"kakehi probe", MFdFlags::MFD_CLOEXEC)?);
            let child = Command::new(program)
                .args(["upgrade-probe", "--hand-over", "--protocol"])
                .arg(PROTOCOL.to_string())
                .stdin(Stdio::from(left.try_clone()?))
                .stdout(Stdio::null())
                .stderr(Stdio::from(complaints.try_clone()?))
                .spawn()?;
            Ok(Self { process: child.into(), complaints })
        };
        start().map_err(|error| format!("cannot start {}: {error}", program.display()))
    }

    /// Whether it has said that it could. An error if it can't.
    pub(super) fn has_agreed(&mut self) -> Result<bool, String> {
        match self.process.try_wait() {
            Ok(None) => Ok(false),
            Ok(Some(end)) if end.status().is_some_and(|status| status.success()) => Ok(true),
            Ok(Some(end)) => {
                let complaint = self.complaint();
                let complaint = if complaint.is_empty() { end.to_string() } else { complaint };
                Err(format!("the new program cannot take over: {complaint}"))
            }
            Err(error) => Err(format!("cannot wait for the new program: {error}")),
        }
    }

    fn complaint(&self) -> String {
        let length = self.complaints.metadata().map_or(0, |metadata| metadata.len());
        let begin = length.saturating_sub(COMPLAINT_BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(length - begin).unwrap_or(0)];
        match self.complaints.read_exact_at(&mut bytes, begin) {
            Ok(()) => String::from_utf8_lossy(&bytes).trim().replace('\n', "; "),
            Err(_) => String::new(),
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            // It may have ended just now. It is waited for: a killed process takes no time to end.
            let _killed = self.process.kill();
            let _reaped = self.process.wait();
        }
    }
}

/// The other side: whether this program speaks a protocol, and could go on from what is on its standard input, if it is
/// to look at that.
///
/// # Errors
/// In words: why not.
pub(crate) fn examine(protocol: u32, look: bool) -> Result<(), String> {
    if protocol != PROTOCOL {
        return Err(format!(
            "version {} hands over by protocol {PROTOCOL}, and not by {protocol}",
            env!("CARGO_PKG_VERSION")
        ));
    }
    if !look {
        return Ok(());
    }
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    let mut input = File::from(input);
    // A pipe is no such file.
    input.seek(SeekFrom::Start(0)).map_err(|error| format!("standard input: {error}"))?;
    let told = file::read(&input)?;
    take::check(&told)?;
    io::stdout().flush().map_err(|error| error.to_string())
}
