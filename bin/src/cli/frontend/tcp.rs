//! `frontend tcp`, `add` and `remove`: which connections go to a cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kakehi_command::proto::RequestTcpFrontend;
use kakehi_command::proto::request::RequestType;

use super::super::values;

/// Verbs of `frontend tcp`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(in super::super) enum Tcp {
    /// Add a frontend: all connections of an address go to a cluster, or those that ask for a name over TLS
    Add {
        #[command(flatten)]
        rule: Rule,
        /// Tags for the access log, as `key=value, key=value`
        #[arg(long, value_name = "TAGS", value_parser = values::tags)]
        tags: Option<BTreeMap<String, String>>,
    },
    /// Remove a frontend, given by the same cluster, address, sni and alpn
    Remove {
        #[command(flatten)]
        rule: Rule,
    },
}

/// What identifies a frontend, and where it leads.
#[derive(clap::Args, Debug)]
pub(in super::super) struct Rule {
    /// Cluster that the connections go to
    #[arg(short, long, value_name = "CLUSTER")]
    id: String,
    /// Address of the listener
    #[arg(short, long, value_name = "IP:PORT")]
    address: SocketAddr,
    /// Connections whose TLS ClientHello asks for this name alone; `*.example.com` for one label before it
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// And offers this protocol; may be repeated, and then one of them is enough. Without it the frontend is
    /// for what no other one of the name is for
    #[arg(long, value_name = "PROTOCOL", requires = "sni")]
    alpn: Vec<String>,
}

impl Tcp {
    /// The request these arguments stand for.
    pub(super) fn request(self) -> RequestType {
        match self {
            Self::Add { rule, tags } => RequestType::AddTcpFrontend(rule.frontend(tags.unwrap_or_default())),
            Self::Remove { rule } => RequestType::RemoveTcpFrontend(rule.frontend(BTreeMap::new())),
        }
    }
}

impl Rule {
    fn frontend(self, tags: BTreeMap<String, String>) -> RequestTcpFrontend {
        RequestTcpFrontend {
            cluster_id: self.id,
            address: self.address.into(),
            tags,
            sni: self.sni,
            alpn: self.alpn,
        }
    }
}
