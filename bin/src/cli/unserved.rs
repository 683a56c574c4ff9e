//! Verbs of Sōzu that this version does not serve yet: they say so, whatever their arguments.

use super::CliError;

/// Any arguments: none of them is looked at.
#[derive(clap::Args, Debug)]
#[command(disable_help_flag = true)]
pub(super) struct Unserved {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _arguments: Vec<std::ffi::OsString>,
}

impl Unserved {
    /// The error that names the verb.
    pub(super) fn refuse(&self, verb: &'static str) -> CliError {
        CliError::NotServed { verb }
    }
}
