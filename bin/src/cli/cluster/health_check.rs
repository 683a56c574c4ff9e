//! `cluster health-check`: probes of a cluster's backends, and what they found out.

use std::io::Read;
use std::path::Path;

use kakehi_command::order::{HealthCheck as Checked, PROBE_HEADER_BYTES_MAX, fingerprint_text, status_range};
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    BackendHealth, HealthCheckConfig, HealthCheckHeader, HealthCheckHeaderValue, HealthCheckMode,
    HealthChecksList, QueryHealthChecks, QueryProtectedHealthCheckSupport, SetHealthCheck,
    SetProtectedHealthCheck,
};

use super::super::CliError;
use super::super::client::{Patience, Proxy};
use super::super::table::Table;
use super::super::values::{address_text, split_pair};

/// Verbs of `cluster health-check`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(in super::super) enum HealthCheck {
    /// Give a cluster a health check, in place of the one it has
    Set(Box<Set>),
    /// Take a cluster's health check away: all its backends count as healthy
    Remove {
        /// Name of the cluster
        #[arg(short, long, value_name = "CLUSTER")]
        id: String,
    },
    /// List health checks, and the backends that are not as usual; of one cluster, all its backends
    List {
        /// Name of the cluster [default: all]
        #[arg(short, long, value_name = "CLUSTER")]
        id: Option<String>,
    },
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Mode {
    /// A GET that has to be answered by an accepted status
    Http,
    /// A connect that has to succeed
    Tcp,
}

/// Arguments of `cluster health-check set`.
#[derive(clap::Args, Debug)]
pub(in super::super) struct Set {
    /// Name of the cluster
    #[arg(short, long, value_name = "CLUSTER")]
    id: String,
    /// What a probe does
    #[arg(long, value_enum, ignore_case = true, default_value = "http")]
    mode: Mode,
    /// What is asked for
    #[arg(short, long, value_name = "PATH", default_value = "/")]
    uri: String,
    /// Seconds from one probe of a backend to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    interval: u32,
    /// Seconds that a probe may take
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    probe_timeout: u32,
    /// Successes in a row that bring a backend back
    #[arg(long, value_name = "N", default_value_t = 3)]
    healthy_threshold: u32,
    /// Failures in a row that take a backend out
    #[arg(long, value_name = "N", default_value_t = 3)]
    unhealthy_threshold: u32,
    /// The status that is a success; 0: any 2xx
    #[arg(long, value_name = "STATUS", default_value_t = 0)]
    expected_status: u32,
    /// Statuses that are successes: 200, 200-399, 2xx or any, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    accepted_statuses: Vec<String>,
    /// The port that is probed [default: the backend's]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The Host of probes [default: the backend's address]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// How far an interval may be from the one above, in percent [default: 10]
    #[arg(long, value_name = "PERCENT")]
    jitter_percent: Option<u32>,
    /// A header whose value, which is kept secret, is in a file; `-` is standard input; may be repeated
    #[arg(long, value_name = "NAME=FILE", value_parser = split_pair)]
    header_file: Vec<(String, String)>,
}

impl HealthCheck {
    /// Sends the request and shows the answer.
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        match self {
            Self::Set(set) => set.run(proxy),
            Self::Remove { id } => proxy.tell(RequestType::RemoveHealthCheck(id)),
            Self::List { id } => {
                proxy.tell(RequestType::QueryHealthChecks(QueryHealthChecks { cluster_id: id }))
            }
        }
    }
}

impl Set {
    fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        let config = self.config()?;
        if self.header_file.is_empty() {
            let wire = SetHealthCheck { cluster_id: self.id, config };
            return proxy.tell(RequestType::SetHealthCheck(wire));
        }
        if self.header_file.iter().filter(|(_, file)| file == "-").count() > 1 {
            return Err(CliError::Unusable("--header-file: standard input can be read once".to_owned()));
        }
        let mut values = Vec::new();
        for (name, file) in &self.header_file {
            values.push(HealthCheckHeaderValue { name: name.clone(), value: read_value(file)? });
        }
        // A peer that does not know secret headers would probe without them.
        proxy.ask(
            RequestType::QueryProtectedHealthCheckSupport(QueryProtectedHealthCheckSupport {}),
            Patience::AsConfigured,
        )?;
        let wire = SetProtectedHealthCheck { cluster_id: self.id, config, values };
        proxy.tell(RequestType::SetProtectedHealthCheck(wire))
    }

    /// The check that these arguments describe, found to be one.
    fn config(&self) -> Result<HealthCheckConfig, CliError> {
        let mut accepted_statuses = Vec::new();
        for text in &self.accepted_statuses {
            let Some(range) = status_range(text) else {
                let text = format!("--accepted-statuses: `{text}` is none of 200, 200-399, 2xx and any");
                return Err(CliError::Unusable(text));
            };
            accepted_statuses.push(range);
        }
        // The proxy replaces the fingerprints by its own.
        let nothing = fingerprint_text(&[0; 16], &[0; 32]);
        let header = |name: &String| HealthCheckHeader { name: name.clone(), fingerprint: nothing.clone() };
        let config = HealthCheckConfig {
            uri: self.uri.clone(),
            interval: self.interval,
            timeout: self.probe_timeout,
            healthy_threshold: self.healthy_threshold,
            unhealthy_threshold: self.unhealthy_threshold,
            expected_status: self.expected_status,
            mode: match self.mode {
                Mode::Http => HealthCheckMode::Http,
                Mode::Tcp => HealthCheckMode::Tcp,
            }
            .into(),
            accepted_statuses,
            port: self.port.map(u32::from),
            headers: self.header_file.iter().map(|(name, _)| header(name)).collect(),
            host: self.host.clone(),
            jitter_percent: self.jitter_percent,
        };
        let checked = Checked::from_wire(config).map_err(|error| CliError::Unusable(error.to_string()))?;
        Ok(checked.wire().clone())
    }
}

/// The value in a file, without the line's end.
fn read_value(file: &str) -> Result<Vec<u8>, CliError> {
    let limit = PROBE_HEADER_BYTES_MAX as u64 + 2;
    let mut value = Vec::new();
    let read = if file == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut value)
    } else {
        std::fs::File::open(Path::new(file)).and_then(|opened| opened.take(limit).read_to_end(&mut value))
    };
    read.map_err(|error| CliError::File { path: file.into(), error })?;
    if value.ends_with(b"\n") {
        value.pop();
        if value.ends_with(b"\r") {
            value.pop();
        }
    }
    Ok(value)
}

/// Shows health checks, and backends.
pub(in super::super) fn render(list: &HealthChecksList, width: Option<usize>) -> String {
    if list.map.is_empty() && list.backends.is_empty() {
        return "no health check\n".to_owned();
    }
    let mut checks = Table::new([
        "cluster",
        "uri",
        "interval",
        "timeout",
        "healthy threshold",
        "unhealthy threshold",
        "expected status",
    ]);
    for (id, check) in &list.map {
        let uri = if check.mode() == HealthCheckMode::Tcp { "(connects)" } else { &check.uri };
        checks.row([
            id.clone(),
            uri.to_owned(),
            check.interval.to_string(),
            check.timeout.to_string(),
            check.healthy_threshold.to_string(),
            check.unhealthy_threshold.to_string(),
            statuses(check),
        ]);
    }
    let mut text = if list.map.is_empty() { String::new() } else { checks.render(width) };
    if !list.backends.is_empty() {
        let mut backends = Table::new(["cluster", "backend", "address", "state"]);
        for backend in &list.backends {
            let address = address_text(&backend.address);
            backends.row([backend.cluster_id.clone(), backend.backend_id.clone(), address, state(backend)]);
        }
        text.push_str(&backends.render(width));
    }
    text
}

fn statuses(check: &HealthCheckConfig) -> String {
    if check.mode() == HealthCheckMode::Tcp {
        return String::new();
    }
    let ranges: Vec<String> = check
        .accepted_statuses
        .iter()
        .map(|range| {
            if range.start == range.end {
                range.start.to_string()
            } else {
                format!("{}-{}", range.start, range.end)
            }
        })
        .collect();
    match (ranges.is_empty(), check.expected_status) {
        (false, _) => ranges.join(","),
        (true, 0) => "2xx".to_owned(),
        (true, status) => status.to_string(),
    }
}

fn state(backend: &BackendHealth) -> String {
    let mut states = Vec::new();
    if !backend.healthy {
        states.push(match &backend.reason {
            Some(reason) => format!("unhealthy: {reason}"),
            None => "unhealthy".to_owned(),
        });
    }
    if let Some(left) = backend.ejected_ms {
        states.push(format!("out for {} s", left.div_ceil(1000)));
    }
    if backend.unreachable_from > 0 {
        states.push(format!("unreachable from {} workers", backend.unreachable_from));
    }
    if backend.missing_secret {
        states.push("not probed: values of headers are missing".to_owned());
    }
    if states.is_empty() { "healthy".to_owned() } else { states.join(", ") }
}
