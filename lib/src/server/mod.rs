//! A place for the loop.

pub mod timers;

use std::os::unix::net::UnixStream;

/// What a worker is started with.
#[derive(Debug)]
pub struct WorkerArguments {
    /// The channel to the main process.
    pub channel: UnixStream,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Told to stop, and everything in flight was finished.
    Drained,
    /// Told to stop at once.
    Stopped,
    /// The main process is gone; everything in flight was finished.
    Orphaned,
}

/// Why a worker could not run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The kernel refused something the loop needs.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// Runs one worker until it is told to stop.
pub fn run(arguments: WorkerArguments) -> Result<Exit, WorkerError> {
    drop(arguments);
    Ok(Exit::Stopped)
}
