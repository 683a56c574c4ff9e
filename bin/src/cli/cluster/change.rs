//! `cluster connection-attempts` and `cluster h2`: one setting of a cluster, the others as they are.

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{
    Cluster, ClusterInformations, QueryRevision, Request, Transaction, WorkerResponses,
};

use super::super::CliError;
use super::super::client::{Patience, Proxy};

/// Who is asked first: what the main process has is what workers will have.
const MAIN: &str = "main";

/// Verbs of `cluster connection-attempts`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(in super::super) enum ConnectionAttempts {
    /// Connects to try for one request, or TCP connection, the first included
    Set {
        /// Name of the cluster
        #[arg(short, long, value_name = "CLUSTER")]
        id: String,
        /// How many
        #[arg(value_parser = clap::value_parser!(u32).range(1..=255))]
        attempts: u32,
    },
    /// Go back to what holds for all clusters (max_connection_attempts)
    Unset {
        /// Name of the cluster
        #[arg(short, long, value_name = "CLUSTER")]
        id: String,
    },
}

/// Verbs of `cluster h2`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(in super::super) enum H2 {
    /// Speak HTTP/2 to the backends
    Enable {
        /// Name of the cluster
        #[arg(short, long, value_name = "CLUSTER")]
        id: String,
    },
    /// Speak HTTP/1.1 to the backends
    Disable {
        /// Name of the cluster
        #[arg(short, long, value_name = "CLUSTER")]
        id: String,
    },
}

impl ConnectionAttempts {
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        let (id, attempts) = match self {
            Self::Set { id, attempts } => (id, Some(attempts)),
            Self::Unset { id } => (id, None),
        };
        change(proxy, &id, |cluster| cluster.max_connection_attempts = attempts)
    }
}

impl H2 {
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        let (id, enabled) = match self {
            Self::Enable { id } => (id, true),
            Self::Disable { id } => (id, false),
        };
        change(proxy, &id, |cluster| cluster.http2 = Some(enabled))
    }
}

/// Reads the cluster; what adds it again with the setting is refused if the state has changed in between.
fn change(proxy: &mut Proxy, id: &str, set: impl FnOnce(&mut Cluster)) -> Result<(), CliError> {
    let before = proxy.ask(RequestType::QueryRevision(QueryRevision {}), Patience::AsConfigured);
    // A proxy that is not Kakehi has no revision: there the change is made as it is.
    let revision = match before {
        Ok(answer) => match answer.content {
            Some(ContentType::Revision(info)) => Some(info.revision),
            _ => None,
        },
        Err(CliError::Refused(_)) => None,
        Err(error) => return Err(error),
    };
    let answer = proxy.ask(RequestType::QueryClusterById(id.to_owned()), Patience::AsConfigured)?;
    let Some(mut cluster) = answer.content.and_then(configuration) else {
        return Err(CliError::Refused(format!("no cluster `{id}`")));
    };
    set(&mut cluster);
    let add = RequestType::AddCluster(cluster);
    proxy.tell(match revision {
        Some(_) => RequestType::Transaction(Transaction {
            requests: vec![Request { request_type: Some(add) }],
            if_revision: revision,
        }),
        None => add,
    })
}

/// The cluster as the main process has it, or else as some worker has.
fn configuration(content: ContentType) -> Option<Cluster> {
    match content {
        ContentType::Clusters(clusters) => of(clusters),
        ContentType::WorkerResponses(WorkerResponses { mut map }) => {
            let main = map.remove(MAIN);
            main.into_iter().chain(map.into_values()).find_map(|content| match content.content_type {
                Some(ContentType::Clusters(clusters)) => of(clusters),
                _ => None,
            })
        }
        _ => None,
    }
}

fn of(clusters: ClusterInformations) -> Option<Cluster> {
    clusters.vec.into_iter().find_map(|cluster| cluster.configuration)
}
