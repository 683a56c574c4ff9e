//! `top`: a screen of what the proxy does now, drawn anew each second.
//!
//! [`numbers`] makes rates out of two answers of the proxy, [`view`] lines out of those, and [`terminal`] is the only one
//! that touches a terminal. With `--snapshot` none of it is needed: the lines go to standard output, as text or JSON.

mod events;
mod numbers;
mod terminal;
mod view;

use std::time::{Duration, Instant};

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{
    AggregatedMetrics, ListListeners, ListenersList, MetricDetail, QueryMetricsOptions, SetMetricDetail,
    Status, WorkerInfos,
};

use super::CliError;
use super::client::{Patience, Proxy};
use events::Events;
use numbers::{Now, Order};
use terminal::{Key, Terminal};

/// A lease is renewed when so much of it is over.
const RENEW_AFTER: u32 = 2;

/// What is shown, from the whole down to each backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Detail {
    /// The proxy as a whole
    Process,
    /// Listeners, too
    Frontend,
    /// Clusters, too
    Cluster,
    /// The backends of each cluster, too
    Backend,
}

/// How graphs would be drawn, of which there are none.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Glyphs {
    Braille,
    Block,
    Tty,
}

/// Arguments of `top`.
#[derive(clap::Args, Debug)]
pub(super) struct Top {
    /// Draw the screen anew every so many milliseconds
    #[arg(long, value_name = "MS", default_value = "1000", value_parser = clap::value_parser!(u64).range(100..))]
    refresh_ms: u64,
    /// How much to show; the proxy is asked to tell that much for as long as this runs (set_metric_detail) [default:
    /// what it is configured to tell]
    #[arg(long, value_enum)]
    detail: Option<Detail>,
    /// How long the proxy goes on telling that much if this program dies
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u32).range(2..=3600))]
    lease_ttl_seconds: u32,
    /// Print so many screens on standard output, without a terminal, and end; objects with --json
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    snapshot: Option<u64>,
    /// As --snapshot 1
    #[arg(long)]
    tick_once: bool,
    /// Taken as Sōzu takes it: the mouse is never used
    #[arg(long, hide_short_help = true)]
    no_mouse: bool,
    /// Taken as Sōzu takes it: there are no colours to change
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    skin: Option<std::path::PathBuf>,
    /// Taken as Sōzu takes it: there are no graphs
    #[arg(long, value_enum, hide_short_help = true)]
    glyphs: Option<Glyphs>,
}

/// What the proxy has told at one time.
#[derive(Debug, Clone, Default)]
struct Sample {
    at: Option<Instant>,
    metrics: AggregatedMetrics,
    workers: WorkerInfos,
    listeners: ListenersList,
    revision: Option<u64>,
}

impl Top {
    /// Runs until `q`, or for as many screens as were asked for.
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        let mut lease = self.detail.map(|detail| Lease::new(detail, self.lease_ttl_seconds));
        let result = self.watch(proxy, &mut lease);
        if let Some(lease) = &lease {
            // The proxy may be gone; a lease of a program that has died ends by itself.
            let _ended = proxy.ask(lease.request(true), Patience::AsConfigured);
        }
        result
    }

    fn watch(&self, proxy: &mut Proxy, lease: &mut Option<Lease>) -> Result<(), CliError> {
        let detail = self.detail.unwrap_or(Detail::Cluster);
        let renew = |proxy: &mut Proxy, lease: &mut Option<Lease>| match lease {
            Some(lease) => lease.renew(proxy),
            None => Ok(()),
        };
        renew(proxy, lease)?;
        let every = Duration::from_millis(self.refresh_ms);
        let mut before = sample(proxy)?;
        let mut events = Events::subscribe(proxy)?;
        let screens = self.snapshot.or(self.tick_once.then_some(1));
        if let Some(screens) = screens {
            for _ in 0..screens {
                terminal::pause(every);
                renew(proxy, lease)?;
                let sample = sample(proxy)?;
                let now = Now::between(&before, &sample, Order::Requests);
                if proxy.output.is_json() {
                    proxy.output.print(&format!("{}\n", view::json(&now, detail)))?;
                } else {
                    let lines = view::lines(&now, detail, events.recent(), None);
                    proxy.output.print(&format!("{}\n\n", lines.join("\n")))?;
                }
                before = sample;
            }
            return Ok(());
        }
        let mut terminal = Terminal::open()?;
        let mut order = Order::Requests;
        let mut shown = Now::between(&Sample::default(), &before, order);
        loop {
            shown.sort(order);
            terminal.draw(|size| view::lines(&shown, detail, events.recent(), Some(size)))?;
            match terminal.wait(every)? {
                Some(Key::Quit) => return Ok(()),
                Some(Key::NextOrder) => order = order.next(),
                Some(Key::Other) => {}
                None => {
                    renew(proxy, lease)?;
                    let sample = sample(proxy)?;
                    shown = Now::between(&before, &sample, order);
                    before = sample;
                }
            }
        }
    }
}

fn sample(proxy: &mut Proxy) -> Result<Sample, CliError> {
    let mut sample = Sample { metrics: metrics(proxy)?, ..Sample::default() };
    for request in [
        RequestType::Status(Status {}),
        RequestType::ListListeners(ListListeners {}),
        RequestType::QueryRevision(Default::default()),
    ] {
        // Sōzu has no revisions.
        let optional = matches!(request, RequestType::QueryRevision(_));
        match proxy.ask(request, Patience::AsConfigured) {
            Ok(answer) => match answer.content {
                Some(ContentType::Workers(workers)) => sample.workers = workers,
                Some(ContentType::ListenersList(listeners)) => sample.listeners = listeners,
                Some(ContentType::Revision(info)) => sample.revision = Some(info.revision),
                _ => {}
            },
            Err(CliError::Refused(_)) if optional => {}
            Err(error) => return Err(error),
        }
    }
    sample.at = Some(terminal::now());
    Ok(sample)
}

/// All numbers; where those of clusters are too many for one answer, the others.
fn metrics(proxy: &mut Proxy) -> Result<AggregatedMetrics, CliError> {
    let whole = QueryMetricsOptions::default();
    let less = QueryMetricsOptions { no_clusters: true, ..QueryMetricsOptions::default() };
    let answer = match proxy.ask(RequestType::QueryMetrics(whole), Patience::AsConfigured) {
        Err(CliError::Refused(_)) => proxy.ask(RequestType::QueryMetrics(less), Patience::AsConfigured),
        answer => answer,
    };
    match answer?.content {
        Some(ContentType::Metrics(metrics)) => Ok(metrics),
        _ => Ok(AggregatedMetrics::default()),
    }
}

/// The level of detail that is asked for, while this runs.
#[derive(Debug)]
struct Lease {
    client_id: String,
    detail: MetricDetail,
    ttl_seconds: u32,
    renew_at: Option<Instant>,
}

impl Lease {
    fn new(detail: Detail, ttl_seconds: u32) -> Self {
        let detail = match detail {
            Detail::Process => MetricDetail::DetailProcess,
            Detail::Frontend => MetricDetail::DetailFrontend,
            Detail::Cluster => MetricDetail::DetailCluster,
            Detail::Backend => MetricDetail::DetailBackend,
        };
        let mut random = [0; 4];
        // Two programs of one process id, in two containers, are told apart by it; without it the pid does.
        let _without = aws_lc_rs::rand::fill(&mut random);
        let client_id = format!("top:{}:{:08x}", std::process::id(), u32::from_ne_bytes(random));
        Self { client_id, detail, ttl_seconds, renew_at: None }
    }

    fn renew(&mut self, proxy: &mut Proxy) -> Result<(), CliError> {
        let now = terminal::now();
        if self.renew_at.is_none_or(|at| at <= now) {
            proxy.ask(self.request(false), Patience::AsConfigured)?;
            self.renew_at = Some(now + Duration::from_secs(self.ttl_seconds.into()) / RENEW_AFTER);
        }
        Ok(())
    }

    fn request(&self, clear: bool) -> RequestType {
        RequestType::SetMetricDetail(SetMetricDetail {
            client_id: self.client_id.clone(),
            detail: (!clear).then(|| self.detail.into()),
            ttl_seconds: (!clear).then_some(self.ttl_seconds),
            clear: clear.then_some(true),
            ..SetMetricDetail::default()
        })
    }
}
