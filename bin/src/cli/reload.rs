//! `reload`: apply a configuration file to the running proxy.

use std::path::PathBuf;

use kakehi_command::proto::request::RequestType;

use super::client::Proxy;
use super::{CliError, values};

/// Arguments of `reload`.
#[derive(clap::Args, Debug)]
pub(super) struct Reload {
    /// The file, read by the proxy; without one, the configuration it was started with
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Reload {
    /// Asks the proxy to read the file.
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        let path = self.file.as_deref().map(values::absolute).transpose()?.unwrap_or_default();
        proxy.tell(RequestType::ReloadConfiguration(path))
    }
}
