//! Whom numbers are told to, for the next program of this process. What is counted in the workers stays there; leases of
//! detail end, and are renewed by those who hold them.

use std::io;
use std::time::Duration;

use kakehi_command::config::{Metrics, Prometheus, Statsd};
use kakehi_command::proto::{MetricDetail, hand_over as wire};

use super::super::hand_over::{Named, Taking};
use super::{Exporter, Prepared, Telemetry};

impl Telemetry {
    /// For the next program of this process.
    pub(in super::super) fn left(&self, named: &mut Named) -> wire::Metrics {
        let settings = &self.settings;
        let timeout_ms = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        wire::Metrics {
            clusters_off: settings.clusters_off,
            series_max: settings.series_max as u64,
            detail: settings.detail.into(),
            statsd: settings.statsd.as_ref().map(|it| wire::Statsd {
                address: it.address.to_string(),
                tagged: it.tagged,
                prefix: it.prefix.clone(),
            }),
            prometheus: settings.prometheus.zip(self.exporter.as_ref()).map(|(it, exporter)| {
                wire::Prometheus {
                    address: it.address.to_string(),
                    connections_max: it.connections_max as u64,
                    timeout_ms: timeout_ms(it.timeout),
                    fd: named.name_raw(exporter.descriptor()),
                }
            }),
        }
    }
}

impl Prepared {
    /// What the program has left which this process ran before.
    pub(in super::super) fn taken_over(left: &wire::Metrics, taking: Taking) -> io::Result<Self> {
        let wrong = |_| io::Error::from(io::ErrorKind::InvalidData);
        let statsd = left.statsd.as_ref().map(|it| -> io::Result<Statsd> {
            Ok(Statsd {
                address: it.address.parse().map_err(wrong)?,
                tagged: it.tagged,
                prefix: it.prefix.clone(),
            })
        });
        let prometheus = left.prometheus.as_ref().map(|it| -> io::Result<_> {
            let settings = Prometheus {
                address: it.address.parse().map_err(wrong)?,
                connections_max: usize::try_from(it.connections_max).unwrap_or(usize::MAX),
                timeout: Duration::from_millis(it.timeout_ms),
            };
            Ok((settings, Exporter::taken_over(settings, taking.own(it.fd)?)))
        });
        let (prometheus, exporter) = prometheus.transpose()?.unzip();
        let settings = Metrics {
            clusters_off: left.clusters_off,
            series_max: usize::try_from(left.series_max).unwrap_or(usize::MAX),
            detail: MetricDetail::try_from(left.detail).unwrap_or(MetricDetail::DetailCluster),
            statsd: statsd.transpose()?,
            prometheus,
        };
        Ok(Self { settings, exporter })
    }
}
