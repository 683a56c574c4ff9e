//! `kakehi`: a reverse proxy that changes while it runs.
//!
//! One program, several roles: the command line ([`cli`]) is also what starts the others, namely the
//! main process ([`main_process`]), which starts the workers ([`worker`]), and the demo backend
//! ([`demo`]). [`process`] has what Unix processes need around their work.

mod cli;
mod demo;
mod main_process;
mod process;
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    // All of them may hold private keys: the command line reads them from files.
    process::memory::forbid_dumps();
    cli::run(std::env::args_os())
}
