//! `listener`: bound addresses and their settings. [`http`], [`https`], [`tcp`] and [`udp`] have the arguments, [`list`] shows them.

mod answers;
mod h2;
mod http;
mod https;
mod limits;
mod list;
mod tcp;
mod tls;
mod udp;

use kakehi_command::proto::ListListeners;
use kakehi_command::proto::request::RequestType;

use super::CliError;
use super::client::Proxy;
use super::wait::Wait;

pub(super) use list::render;

/// Verbs of `listener`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(super) enum Listener {
    /// List the listeners and their settings
    List,
    /// Work on HTTP listeners
    #[command(subcommand)]
    Http(http::Http),
    /// Work on HTTPS listeners
    #[command(subcommand)]
    Https(https::Https),
    /// Work on TCP listeners
    #[command(subcommand)]
    Tcp(tcp::Tcp),
    /// Work on UDP listeners (not served yet)
    #[command(subcommand)]
    Udp(udp::Udp),
}

impl Listener {
    /// Sends the request and shows the answer.
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        let wait = match &self {
            Self::Http(http) => http.wait(),
            Self::Https(https) => https.wait(),
            Self::Tcp(tcp) => tcp.wait(),
            Self::List | Self::Udp(_) => Wait::default(),
        };
        let request = match self {
            Self::List => RequestType::ListListeners(ListListeners {}),
            Self::Http(http) => http.request(proxy.config())?,
            Self::Https(https) => https.request(proxy.config())?,
            Self::Tcp(tcp) => tcp.request(proxy.config())?,
            Self::Udp(verb) => verb.request(proxy.config()),
        };
        wait.tell(proxy, request)
    }
}
