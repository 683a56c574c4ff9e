//! `cluster`: named services. [`add`] is the long list of what a cluster can have, [`list`] shows them.

mod add;
mod change;
mod close_sessions;
mod health_check;
mod list;
mod settings;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{FrontendFilters, QueryClusterByDomain, QueryClustersHashes};

use super::CliError;
use super::client::{Patience, Proxy};
use super::wait::Wait;

use close_sessions::CloseSessions;

pub(super) use close_sessions::render as render_closed;
pub(super) use health_check::render as render_health_checks;
pub(super) use list::render;

/// Verbs of `cluster`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(super) enum Cluster {
    /// List all clusters and whether the workers agree on them, or show one in full
    List {
        /// Show this cluster, with its frontends and backends
        #[arg(short, long, value_name = "CLUSTER", conflicts_with = "domain")]
        id: Option<String>,
        /// Show the clusters with a frontend for this host, and path if one is given
        #[arg(short, long, value_name = "HOST[/PATH]")]
        domain: Option<String>,
    },
    /// Add a cluster, or change one: what is not given returns to its default
    Add(Box<add::Add>),
    /// Remove a cluster, with its frontends and backends
    Remove {
        /// Name of the cluster
        #[arg(short, long, value_name = "CLUSTER")]
        id: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Show the access-log tags of a cluster's frontends
    Tags {
        /// Name of the cluster
        #[arg(short, long, value_name = "CLUSTER")]
        id: String,
    },

    /// Probe a cluster's backends, and see what that finds out
    #[command(subcommand)]
    HealthCheck(health_check::HealthCheck),

    /// Close what goes to a cluster's backends: tunnels, TCP and idle connections now, others after their answer
    CloseSessions(CloseSessions),

    /// Change how many connects there are for one request to this cluster
    #[command(subcommand)]
    ConnectionAttempts(change::ConnectionAttempts),
    /// Choose between HTTP/2 and HTTP/1.1 to the backends
    #[command(subcommand)]
    H2(change::H2),
}

impl Cluster {
    /// Sends the request and shows the answer.
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        proxy.tell(match self {
            Self::List { id: Some(id), .. } => RequestType::QueryClusterById(id),
            Self::List { domain: Some(domain), .. } => by_domain(&domain),
            Self::List { .. } => RequestType::QueryClustersHashes(QueryClustersHashes {}),
            Self::Add(add) => RequestType::AddCluster(add.cluster()?),
            Self::Remove { id, wait } => return wait.tell(proxy, RequestType::RemoveCluster(id)),
            Self::Tags { id } => return tags(proxy, id),
            Self::ConnectionAttempts(verb) => return verb.run(proxy),
            Self::CloseSessions(verb) => verb.request(),
            Self::H2(verb) => return verb.run(proxy),
            Self::HealthCheck(verb) => return verb.run(proxy),
        })
    }
}

/// `HOST` or `HOST/PATH`; the path keeps its slash.
fn by_domain(domain: &str) -> RequestType {
    let (hostname, path) = domain.split_at(domain.find('/').unwrap_or(domain.len()));
    let path = (!path.is_empty()).then(|| path.to_owned());
    RequestType::QueryClustersByDomain(QueryClusterByDomain { hostname: hostname.to_owned(), path })
}

fn tags(proxy: &mut Proxy, id: String) -> Result<(), CliError> {
    let filters =
        FrontendFilters { http: false, https: false, tcp: false, domain: None, cluster_id: Some(id.clone()) };
    let answer = proxy.ask(RequestType::ListFrontends(filters), Patience::AsConfigured)?;
    let tags = list::Tags::gather(id, answer.content.as_ref());
    if proxy.output.is_json() {
        proxy.output.json(&tags)
    } else {
        proxy.output.answer_by(&answer, |_| tags.render(proxy.output.width()))
    }
}
