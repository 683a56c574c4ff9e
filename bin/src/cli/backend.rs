//! `backend`: the addresses that serve a cluster.

use std::net::SocketAddr;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{AddBackend, LoadBalancingParams, RemoveBackend};

use super::CliError;
use super::client::Proxy;
use super::wait::Wait;

mod drain;

/// Verbs of `backend`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(super) enum Backend {
    /// Add a backend to a cluster, or change it; it serves from the next request on
    Add(Add),
    /// Send nothing new to a backend, which stays configured: what it carries goes on until it ends
    Drain {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        wait: Wait,
    },
    /// Send new requests and connections to a backend again that was drained
    Undrain {
        #[command(flatten)]
        key: Key,
    },
    /// Remove a backend: requests in flight finish, later ones go elsewhere
    Remove {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        wait: Wait,
    },
}

/// Which backend of which cluster.
#[derive(clap::Args, Debug)]
pub(super) struct Key {
    /// Name of the cluster
    #[arg(short, long, value_name = "CLUSTER")]
    id: String,
    /// Name of the backend
    #[arg(long, value_name = "BACKEND")]
    backend_id: String,
    /// Where it listens
    #[arg(short, long, value_name = "IP:PORT")]
    address: SocketAddr,
}

/// Arguments of `backend add`.
#[derive(clap::Args, Debug)]
pub(super) struct Add {
    #[command(flatten)]
    key: Key,
    /// The value of the cookie that leads here, where the cluster has --sticky-session [default: its name]
    #[arg(short, long, value_name = "VALUE")]
    sticky_id: Option<String>,
    /// Use it only while no other backend of the cluster is available
    #[arg(short, long, value_name = "true|false", hide_possible_values = true)]
    backup: Option<bool>,
    /// The Unix socket on which it listens, a path or an abstract name: connections go there, and its address is
    /// but a name, of its own in the cluster
    #[arg(long, value_name = "PATH|@NAME")]
    unix_path: Option<String>,
    /// Requests (over TCP: connections) that it may have at a time; 0: no limit [default: the cluster's
    /// max_connections_per_backend]
    #[arg(long, value_name = "N")]
    max_connections: Option<u32>,
}

impl Backend {
    /// Sends the request and shows the answer.
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        proxy.tell(match self {
            // By the verb's variant: whoever does not know of Unix sockets must not dial the address.
            Self::Add(add) if add.unix_path.is_some() => RequestType::AddUnixBackend(add.backend()),
            Self::Drain { key, wait } => return drain::drain(proxy, key, wait),
            Self::Undrain { key } => return drain::undrain(proxy, key),
            Self::Add(add) => RequestType::AddBackend(add.backend()),
            Self::Remove { key: Key { id: cluster_id, backend_id, address }, wait } => {
                let it = RemoveBackend { cluster_id, backend_id, address: address.into() };
                return wait.tell(proxy, RequestType::RemoveBackend(it));
            }
        })
    }
}

impl Add {
    fn backend(self) -> AddBackend {
        AddBackend {
            cluster_id: self.key.id,
            backend_id: self.key.backend_id,
            address: self.key.address.into(),
            sticky_id: self.sticky_id,
            // No flag sets the weight; zero stands for the default, as Sōzu's command line sends it.
            load_balancing_parameters: Some(LoadBalancingParams { weight: 0 }),
            backup: self.backup,
            unix_path: self.unix_path,
            draining: None,
            max_connections: self.max_connections,
        }
    }
}
