//! `frontend`: rules that send requests and connections to clusters. [`http`], [`tcp`] and [`udp`] have the arguments of a
//! rule, [`list`] shows them.

mod http;
mod list;
mod tcp;
mod udp;

use kakehi_command::proto::FrontendFilters;
use kakehi_command::proto::request::RequestType;

use super::CliError;
use super::client::Proxy;

pub(super) use list::{path_text, render};

/// Verbs of `frontend`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(super) enum Frontend {
    /// List the frontends, all of them unless flags narrow it
    List(List),
    /// Add and remove frontends of HTTP listeners
    #[command(subcommand)]
    Http(http::Http),
    /// Add and remove frontends of HTTPS listeners
    #[command(subcommand)]
    Https(http::Http),
    /// Add and remove frontends of TCP listeners
    #[command(subcommand)]
    Tcp(tcp::Tcp),
    /// Add and remove frontends of UDP listeners (not served yet)
    #[command(subcommand)]
    Udp(udp::Udp),
}

/// Arguments of `frontend list`.
#[derive(clap::Args, Debug)]
pub(super) struct List {
    /// Frontends of HTTP listeners
    #[arg(long)]
    http: bool,
    /// Frontends of HTTPS listeners
    #[arg(long)]
    https: bool,
    /// Frontends of TCP and UDP listeners
    #[arg(long)]
    tcp: bool,
    /// Frontends whose host name contains this text
    #[arg(short, long, value_name = "TEXT")]
    domain: Option<String>,
    /// Frontends of this cluster
    #[arg(short = 'i', long, value_name = "CLUSTER")]
    cluster_id: Option<String>,
}

impl Frontend {
    /// Sends the request and shows the answer.
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        proxy.tell(match self {
            Self::List(List { http, https, tcp, domain, cluster_id }) => {
                RequestType::ListFrontends(FrontendFilters { http, https, tcp, domain, cluster_id })
            }
            Self::Http(http) => http.request(),
            Self::Https(https) => https.https_request(),
            Self::Tcp(tcp) => tcp.request(),
            Self::Udp(verb) => verb.request(),
        })
    }
}
