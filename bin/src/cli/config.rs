//! `config check`: what `start` would say about a configuration file.

use super::output::Output;
use super::{CliError, Globals, settings, start};
use crate::main_process::check_config;

/// Verbs of `config`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(super) enum Config {
    /// Check a configuration file: every error and warning, with its line
    Check,
}

impl Config {
    /// Needs no running proxy.
    pub(super) fn run(self, globals: &Globals) -> Result<(), CliError> {
        match self {
            Self::Check => {
                let config = settings::load(globals.config.as_deref())?;
                start::warn(&config);
                check_config(&config)?;
                let output = Output::new(globals.json);
                output.print(if globals.json { "{}\n" } else { "Configuration file is valid\n" })
            }
        }
    }
}
