//! `completions` and `man`: what a shell and `man` need, made from the definition that also parses.

use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;

use super::output::Output;
use super::{CliError, program};

/// Arguments of `completions`.
#[derive(clap::Args, Debug)]
pub(super) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Kind,
}

/// Shells there are scripts for.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Kind {
    Bash,
    Zsh,
    Fish,
}

/// Arguments of `man`.
#[derive(clap::Args, Debug)]
pub(super) struct Man {
    /// Where the pages go, one for each verb; it is created if need be
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

impl Completions {
    /// Prints the script.
    pub(super) fn run(self) -> Result<(), CliError> {
        let shell = match self.shell {
            Kind::Bash => Shell::Bash,
            Kind::Zsh => Shell::Zsh,
            Kind::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut visible(&program::command()), program::name(), &mut script);
        Output::new(false).print(&String::from_utf8_lossy(&script))
    }
}

impl Man {
    /// Writes the pages.
    pub(super) fn run(self, json: bool) -> Result<(), CliError> {
        let unusable = |error| CliError::Write { path: self.directory.clone(), error };
        std::fs::create_dir_all(&self.directory).map_err(unusable)?;
        clap_mangen::generate_to(program::command(), &self.directory).map_err(unusable)?;
        let message = format!("man pages are in {}", shown(&self.directory));
        Output::new(json).done(&message)
    }
}

/// Without the verbs that are hidden from the help, which generators do not leave out.
fn visible(command: &Command) -> Command {
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    Command::new(program::name())
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments())
        .subcommands(verbs)
}

fn shown(directory: &Path) -> String {
    directory.display().to_string()
}
