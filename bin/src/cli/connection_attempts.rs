//! `connection-attempts`: how many connects to backends there are for one request, unless its cluster says otherwise.

use kakehi_command::proto::request::RequestType;

use super::CliError;
use super::client::Proxy;

/// Its verbs.
#[derive(clap::Subcommand, Debug)]
pub(super) enum ConnectionAttempts {
    /// Change it, at once and in all workers
    Set {
        /// Connects for one request, or TCP connection, the first included
        #[arg(value_parser = clap::value_parser!(u32).range(1..=255))]
        attempts: u32,
    },
    /// Go back to what the configuration says (max_connection_attempts)
    #[command(alias = "unset")]
    Remove,
}

impl ConnectionAttempts {
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        proxy.tell(RequestType::SetMaxConnectionAttempts(match self {
            Self::Set { attempts } => attempts,
            Self::Remove => 0,
        }))
    }
}
