//! `[metrics]`: what is counted of clusters and backends, and who is told.

use std::net::SocketAddr;
use std::time::Duration;

use super::diagnostic::Diagnostics;
use super::file::Section;
use super::resolve::report_unserved;
use crate::proto::{MetricDetail, ServerMetricsConfig};

/// Longest prefix of names, bytes: what is sent to statsd has to fit into a datagram.
const PREFIX_BYTES_MAX: usize = 64;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// No numbers of clusters and backends (`disable_cluster_metrics`).
    pub clusters_off: bool,
    /// Clusters and backends that each worker keeps numbers of. Ours.
    pub series_max: usize,
    /// Down to what statsd and Prometheus are told.
    pub detail: MetricDetail,
    /// Where to send them, if anywhere.
    pub statsd: Option<Statsd>,
    /// Where they are to be had, if anywhere. Ours.
    pub prometheus: Option<Prometheus>,
}

/// How metrics are sent to statsd, by UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statsd {
    /// To whom.
    pub address: SocketAddr,
    /// Labels as tags, in InfluxDB's manner, instead of within names.
    pub tagged: bool,
    /// Before each name. At most 64 bytes, none of which has a meaning in statsd's lines.
    pub prefix: String,
}

/// Where Prometheus finds metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prometheus {
    /// The listener's.
    pub address: SocketAddr,
    /// Connections at a time; one more closes the oldest that waits for a request, or is closed itself.
    pub connections_max: usize,
    /// For a request to come, and for a pause while the answer is taken.
    pub timeout: Duration,
}

impl Metrics {
    /// As a worker receives them; none without statsd.
    pub(super) fn server_config(&self) -> Option<ServerMetricsConfig> {
        self.statsd.as_ref().map(|statsd| ServerMetricsConfig {
            address: statsd.address.to_string(),
            tagged_metrics: statsd.tagged,
            prefix: Some(statsd.prefix.clone()),
            detail: Some(self.detail.into()),
        })
    }
}

/// What the file says, and defaults.
pub(super) fn resolve(top: &Section<'_>, diagnostics: &mut Diagnostics) -> Metrics {
    let clusters_off = top.flag("disable_cluster_metrics").unwrap_or(false);
    let Some(section) = top.table("metrics") else {
        return Metrics {
            clusters_off,
            series_max: 4096,
            detail: MetricDetail::DetailCluster,
            statsd: None,
            prometheus: None,
        };
    };
    report_unserved(&section, "", diagnostics);
    let address = section.address("address");
    let prometheus = section.address("prometheus_address");
    if prometheus.is_none() {
        // As in Sōzu, where there is nothing else to be said here.
        let _ = section.required("address", diagnostics);
    }
    let prefix = section.text("prefix").unwrap_or("sozu");
    let plain =
        |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b'|' | b',' | b'=' | b'@' | b'#');
    if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX || !prefix.bytes().all(plain) {
        let text =
            format!("has to be 1 to {PREFIX_BYTES_MAX} printable characters, none of them one of :|,=@#");
        diagnostics.error(section.place_of("prefix"), section.key_path("prefix"), text);
    }
    for (name, address) in [("address", &address), ("prometheus_address", &prometheus)] {
        if address.as_ref().is_some_and(|address| address.value.port() == 0) {
            diagnostics.error(section.place_of(name), section.key_path(name), "port 0 is no port");
        }
    }
    let size = |name| usize::try_from(section.integer_or_default(name)).unwrap_or(usize::MAX);
    Metrics {
        clusters_off,
        series_max: size("max_series"),
        detail: match section.choice("detail") {
            Some("process") => MetricDetail::DetailProcess,
            Some("frontend") => MetricDetail::DetailFrontend,
            Some("backend") => MetricDetail::DetailBackend,
            _ => MetricDetail::DetailCluster,
        },
        statsd: address.map(|address| Statsd {
            address: address.value,
            tagged: section.flag("tagged_metrics").unwrap_or(false),
            prefix: prefix.to_owned(),
        }),
        prometheus: prometheus.map(|address| Prometheus {
            address: address.value,
            connections_max: size("prometheus_max_connections"),
            timeout: Duration::from_secs(section.integer_or_default("prometheus_timeout")),
        }),
    }
}
