//! `frontend udp`, `add` and `remove`. The proxy refuses them as long as it serves no UDP.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kakehi_command::proto::RequestUdpFrontend;
use kakehi_command::proto::request::RequestType;

use super::super::values;

/// Verbs of `frontend udp`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(in super::super) enum Udp {
    /// Add a frontend: all datagrams to an address go to a cluster (not served yet)
    Add(UdpRule),
    /// Remove a frontend, given by the same flags (not served yet)
    Remove(UdpRule),
}

/// A frontend.
#[derive(clap::Args, Debug)]
pub(in super::super) struct UdpRule {
    /// Cluster that the datagrams go to
    #[arg(short, long, value_name = "CLUSTER")]
    id: String,
    /// Address of the listener
    #[arg(short, long, value_name = "IP:PORT")]
    address: SocketAddr,
    /// Tags for the access log, as `key=value, key=value`
    #[arg(long, value_name = "TAGS", value_parser = values::tags)]
    tags: Option<BTreeMap<String, String>>,
}

impl Udp {
    /// The request these arguments stand for.
    pub(super) fn request(self) -> RequestType {
        match self {
            Self::Add(rule) => RequestType::AddUdpFrontend(rule.frontend()),
            Self::Remove(rule) => RequestType::RemoveUdpFrontend(rule.frontend()),
        }
    }
}

impl UdpRule {
    fn frontend(self) -> RequestUdpFrontend {
        RequestUdpFrontend {
            cluster_id: self.id,
            address: self.address.into(),
            tags: self.tags.unwrap_or_default(),
        }
    }
}
