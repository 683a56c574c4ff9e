//! `logging`: change the log filter of the running proxy. `reopen-logs`: open its files anew.

use kakehi_command::proto::ReopenLogs;
use kakehi_command::proto::request::RequestType;

use super::CliError;
use super::client::Proxy;

/// Arguments of `logging`.
#[derive(clap::Args, Debug)]
pub(super) struct Logging {
    /// A level (error, warn, info, debug, trace, off), or levels by module, as in
    /// `info,kakehi_lib::session=debug`
    filter: String,
}

impl Logging {
    /// Main and workers change together; workers started later inherit it.
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        proxy.tell(RequestType::Logging(self.filter))
    }
}

/// `reopen-logs`: all processes write to files of the configured names.
pub(super) fn reopen(proxy: &mut Proxy) -> Result<(), CliError> {
    proxy.tell(RequestType::ReopenLogs(ReopenLogs {}))
}
