//! `metrics`: what the proxy counts. [`tables`] shows it.

mod tables;

use std::time::Duration;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{MetricsConfiguration, QueryMetricsOptions};

use super::CliError;
use super::client::{Patience, Proxy};

pub(super) use tables::{render, render_names};

/// Home, then clear to the end of the screen.
const REDRAW: &str = "\u{1b}[H\u{1b}[2J";

/// Verbs of `metrics`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(super) enum Metrics {
    /// Show metrics: of the main process, of all workers together, by cluster and by backend
    Get(Get),
    /// Count again, after `disable`
    Enable,
    /// Stop counting
    Disable,
    /// Begin again at zero
    Clear,
}

/// Arguments of `metrics get`.
#[derive(clap::Args, Debug)]
pub(super) struct Get {
    /// List the names of metrics instead
    #[arg(short, long)]
    list: bool,
    /// Show them again every so many seconds, until Ctrl-C
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    refresh: Option<u64>,
    /// Show these metrics alone
    #[arg(short, long, value_name = "NAMES", value_delimiter = ',')]
    names: Vec<String>,
    /// Show these clusters alone
    #[arg(short = 'k', long, value_name = "CLUSTERS", value_delimiter = ',')]
    clusters: Vec<String>,
    /// Show these backends alone
    #[arg(short, long, value_name = "BACKENDS", value_delimiter = ',')]
    backends: Vec<String>,
    /// Leave clusters and backends out
    #[arg(long)]
    no_clusters: bool,
    /// Show each worker by itself
    #[arg(short, long)]
    workers: bool,
}

impl Metrics {
    /// Sends the request and shows the answer.
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        let configure = |change: MetricsConfiguration| RequestType::ConfigureMetrics(change.into());
        match self {
            Self::Get(get) => get.run(proxy),
            Self::Enable => proxy.tell(configure(MetricsConfiguration::Enabled)),
            Self::Disable => proxy.tell(configure(MetricsConfiguration::Disabled)),
            Self::Clear => proxy.tell(configure(MetricsConfiguration::Clear)),
        }
    }
}

impl Get {
    fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        let request = RequestType::QueryMetrics(QueryMetricsOptions {
            list: self.list,
            cluster_ids: self.clusters,
            backend_ids: self.backends,
            metric_names: self.names,
            no_clusters: self.no_clusters,
            workers: self.workers,
            ..QueryMetricsOptions::default()
        });
        let Some(period) = self.refresh.map(Duration::from_secs) else { return proxy.tell(request) };
        loop {
            let answer = proxy.ask(request.clone(), Patience::AsConfigured)?;
            if proxy.output.width().is_some() {
                proxy.output.print(REDRAW)?;
            }
            proxy.output.answer(&answer)?;
            pause(period);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a screen for human eyes is redrawn by the clock")]
fn pause(period: Duration) {
    std::thread::sleep(period);
}
