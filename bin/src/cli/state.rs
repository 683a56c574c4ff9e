//! `state`: what the proxy is configured to do, to a file and back, and what it has been asked so far.

use std::path::PathBuf;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{CountRequests, RequestCounts};

use super::client::Proxy;
use super::table::Table;
use super::{CliError, values};

/// Verbs of `state`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(super) enum State {
    /// Save the state into a file, written by the proxy
    Save {
        /// The file; one that exists is replaced
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Apply a saved state on top of the present one; the file is read by the proxy
    Load {
        /// The file, as `state save` or Sōzu wrote it
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Count the requests the proxy has received since it started
    Stats,
}

impl State {
    /// Sends the request. Paths are sent absolute: the proxy's working directory is not the caller's.
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        proxy.tell(match self {
            Self::Save { file } => RequestType::SaveState(values::absolute(&file)?),
            Self::Load { file } => RequestType::LoadState(values::absolute(&file)?),
            Self::Stats => RequestType::CountRequests(CountRequests {}),
        })
    }
}

/// One row for each kind of request.
pub(super) fn render(counts: &RequestCounts, width: Option<usize>) -> String {
    let mut table = Table::new(["request type", "count"]);
    for (name, count) in &counts.map {
        table.row([name.clone(), count.to_string()]);
    }
    table.render(width)
}
