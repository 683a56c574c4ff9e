//! `shutdown`: a soft stop that waits for open sessions, or a hard one that cuts them.

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{HardStop, SoftStop};

use super::CliError;
use super::client::{Patience, Proxy};

/// Arguments of `shutdown`.
#[derive(clap::Args, Debug)]
pub(super) struct Shutdown {
    /// Stop at once: open connections are cut
    #[arg(long)]
    hard: bool,
}

impl Shutdown {
    /// Asks for the stop, and waits until it is done.
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        let request =
            if self.hard { RequestType::HardStop(HardStop {}) } else { RequestType::SoftStop(SoftStop {}) };
        // Both end when the last worker has, which a soft stop's slowest client decides.
        let answer = proxy.ask(request, Patience::Unlimited)?;
        proxy.output.answer(&answer)
    }
}
