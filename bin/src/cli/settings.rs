//! Which configuration a verb works with: the file given by `--config`, or the embedded one.

use std::num::NonZero;
use std::path::Path;

use kakehi_command::config::{self, Config, ConfigErrors, EMBEDDED, Origin};

use super::runtime_dir;

/// The configuration to run, names of backends looked up.
pub(super) fn load(file: Option<&Path>) -> Result<Config, ConfigErrors> {
    match file {
        Some(path) => config::load(path),
        None => config::parse(EMBEDDED, &embedded()),
    }
}

/// The settings of the configuration that a running proxy was started with: where its socket is.
pub(super) fn load_settings(file: Option<&Path>) -> Result<Config, ConfigErrors> {
    match file {
        Some(path) => config::load_settings(path),
        None => config::parse(EMBEDDED, &embedded()),
    }
}

fn embedded() -> Origin {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    Origin::Embedded { cores: u16::try_from(cores).unwrap_or(u16::MAX), runtime_dir: runtime_dir::path() }
}
