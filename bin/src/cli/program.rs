//! Under which name the program was called: as `sozu` it answers as the command line of that name.

use std::ffi::OsStr;
use std::path::Path;

use clap::{Command, CommandFactory};

use super::Cli;

/// Our own name.
const NAME: &str = "kakehi";

/// The name that scripts and habits of Sōzu's operators use, by a link to our program.
const SOZU: &str = "sozu";

/// What `--version` says beside the version; `-V` has the version alone.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nKakehi ",
    env!("CARGO_PKG_VERSION"),
    ", with the command line, command protocol and files of Sōzu 2.3\n-http2 -udp -tui"
);

/// The name by which this process goes.
pub(super) fn name() -> &'static str {
    name_of(std::env::args_os().next().as_deref())
}

/// Whether this process was called as `sozu`.
pub(super) fn is_sozu() -> bool {
    name() == SOZU
}

fn name_of(called: Option<&OsStr>) -> &'static str {
    match called.and_then(|called| Path::new(called).file_name()) {
        Some(file) if file == SOZU => SOZU,
        _ => NAME,
    }
}

/// The definition of the whole command line, under that name: what parses it, completes it and documents it.
pub(super) fn command() -> Command {
    let name = name();
    Cli::command().name(name).long_version(LONG_VERSION).after_help(format!(
        "Without --config the configuration embedded in the program is used: `{name} start` runs a demo on \
         127.0.0.1:8080, and every other verb finds it.\n\
         Not served yet by this version: HTTP/2 and UDP."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_file() {
        for (called, expected) in [
            ("sozu", "sozu"),
            ("/usr/bin/sozu", "sozu"),
            ("/opt/sozu/kakehi", "kakehi"),
            ("sozu-old", "kakehi"),
            ("", "kakehi"),
        ] {
            assert_eq!(name_of(Some(OsStr::new(called))), expected, "{called}");
        }
        assert_eq!(name_of(None), "kakehi");
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }
}
