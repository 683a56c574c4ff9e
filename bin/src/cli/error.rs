//! [`CliError`]: everything that makes a verb end with exit status 1, in the operator's words.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use kakehi_command::channel::ChannelError;
use kakehi_command::config::ConfigErrors;

use super::program;
use super::runtime_dir::RuntimeDirError;
use crate::demo::DemoError;
use crate::main_process::StartError;

/// Why a verb did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The configuration file; one line for each error, then for each warning.
    #[error("{}{}", .0, warnings(.0))]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    RuntimeDir(#[from] RuntimeDirError),
    /// A file named on the command line.
    #[error("cannot read {path}: {error}")]
    File { path: PathBuf, error: io::Error },
    /// A file or directory that is to be written.
    #[error("cannot write {path}: {error}")]
    Write { path: PathBuf, error: io::Error },
    #[error(
        "{}cannot reach the proxy at {socket}: {error}\n{}",
        in_sozus_words("could not create channel to Sōzu. Are you sure the proxy is up?: "),
        advice(error.kind(), config.as_deref()),
        socket = socket.display()
    )]
    Unreachable { socket: PathBuf, config: Option<PathBuf>, error: io::Error },
    #[error(
        "{}no answer within {} ms from the proxy at {}. It may still do what it was asked; --timeout waits \
         longer",
        in_sozus_words("could not read message on a blocking channel: Timeout is reached: "),
        limit.as_millis(),
        socket.display()
    )]
    Silent { socket: PathBuf, limit: Duration },
    #[error("the conversation with the proxy at {} broke off: {error}", socket.display())]
    Channel { socket: PathBuf, error: ChannelError },
    /// The proxy answered by FAILURE. Sōzu's words, which scripts look for.
    #[error("Request failed: {0}")]
    Refused(String),
    /// Arguments that contradict each other, or are out of bounds.
    #[error("{0}")]
    Unusable(String),
    #[error("top needs a terminal; --snapshot N prints N screens without one")]
    NoTerminal,
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the demo backend: {0}")]
    Demo(#[from] DemoError),
    #[error("cannot print the answer: {0}")]
    Print(io::Error),
}

impl CliError {
    /// Whether the proxy closed the connection instead of answering.
    pub(super) fn is_hang_up(&self) -> bool {
        matches!(self, Self::Channel { error: ChannelError::Closed | ChannelError::Io(_), .. })
    }

    /// Whether nobody answers at the socket, for now.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Silent { .. }) || self.is_hang_up()
    }

    /// Whether the reader of our output has gone away, as `head` does: nothing to complain about.
    pub(super) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Print(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The warnings of a file with errors: told in the same run, or the next one would be for them.
fn warnings(file: &ConfigErrors) -> String {
    file.warnings.iter().map(|warning| format!("\nwarning: {warning}")).collect()
}

/// What scripts for Sōzu's command line look for, if that is what we were called as.
fn in_sozus_words(words: &'static str) -> &'static str {
    if program::is_sozu() { words } else { "" }
}

/// What to do when the proxy cannot be reached.
fn advice(kind: io::ErrorKind, config: Option<&std::path::Path>) -> String {
    let (flag, other) = match config {
        Some(path) => (format!(" --config {}", path.display()), String::new()),
        None => (String::new(), "; a proxy with a configuration file is found by --config FILE".to_owned()),
    };
    match kind {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!("Is it running? `{} start{flag}` starts it{other}.", program::name())
        }
        io::ErrorKind::PermissionDenied => {
            "This user may not use the socket (command_socket_mode in the configuration).".to_owned()
        }
        _ => format!("It should have been started by `{} start{flag}`{other}.", program::name()),
    }
}
