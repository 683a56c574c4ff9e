//! `upgrade-probe`: what a main process asks a program that is to take its place.

use std::process::ExitCode;

use clap::Args;

use crate::main_process;

#[derive(Args, Debug)]
pub(super) struct UpgradeProbe {
    /// The protocol of the hand-over
    #[arg(long, value_name = "N")]
    protocol: u32,
    /// Read the file of a hand-over on standard input, and say whether it could be gone on from
    #[arg(long)]
    hand_over: bool,
}

impl UpgradeProbe {
    /// Exit status: 0 if it could.
    pub(super) fn run(&self) -> ExitCode {
        match main_process::examine(self.protocol, self.hand_over) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{why}");
                ExitCode::FAILURE
            }
        }
    }
}
