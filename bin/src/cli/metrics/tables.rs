//! Metrics as tables: numbers, percentiles and histograms of each section.

use std::collections::{BTreeMap, BTreeSet};

use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::{
    AggregatedMetrics, AvailableMetrics, ClusterMetrics, FilteredMetrics, WorkerMetrics,
};

use super::super::table::{Table, visible};

type Named = BTreeMap<String, FilteredMetrics>;

/// Sections for the main process, for the workers together or one by one, and for each cluster.
pub(in super::super) fn render(aggregated: &AggregatedMetrics, width: Option<usize>) -> String {
    let mut out = String::new();
    section(&mut out, "MAIN PROCESS", &aggregated.main, width);
    section(&mut out, "PROXYING", &aggregated.proxying, width);
    clusters(&mut out, &aggregated.clusters, width);
    let mut workers: Vec<(&String, &WorkerMetrics)> = aggregated.workers.iter().collect();
    workers.sort_by_key(|(id, _)| id.parse::<u64>().unwrap_or(u64::MAX));
    for (id, worker) in workers {
        section(&mut out, &format!("Worker {id}"), &worker.proxy, width);
        clusters(&mut out, &worker.clusters, width);
    }
    if out.is_empty() { "no metrics\n".to_owned() } else { out }
}

/// Two lists of names.
pub(in super::super) fn render_names(names: &AvailableMetrics) -> String {
    let list = |title: &str, names: &[String]| {
        let lines: String = names.iter().map(|name| format!("    {}\n", visible(name))).collect();
        format!("{title}\n{lines}")
    };
    list("Proxy metrics:", &names.proxy_metrics) + &list("Cluster metrics:", &names.cluster_metrics)
}

fn clusters(out: &mut String, clusters: &BTreeMap<String, ClusterMetrics>, width: Option<usize>) {
    for (cluster_id, metrics) in clusters {
        section(out, &format!("Cluster {cluster_id}"), &metrics.cluster, width);
        for backend in &metrics.backends {
            section(out, &format!("{cluster_id}/{}", backend.backend_id), &backend.metrics, width);
        }
    }
}

/// A title and up to three tables; nothing if there are no metrics.
fn section(out: &mut String, title: &str, metrics: &Named, width: Option<usize>) {
    let tables = [numbers(metrics), percentiles(metrics), histograms(metrics)];
    if tables.iter().all(|(_, table)| table.is_empty()) {
        return;
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(&visible(title));
    out.push('\n');
    for (title, table) in tables.iter().filter(|(_, table)| !table.is_empty()) {
        out.push_str(title);
        out.push_str(&table.render(width));
    }
}

fn numbers(metrics: &Named) -> (&'static str, Table) {
    let mut table = Table::new(["", "gauge", "count"]);
    for (name, metric) in metrics {
        match &metric.inner {
            Some(Inner::Gauge(value)) => table.row([name.clone(), value.to_string()]),
            Some(Inner::Count(value)) => table.row([name.clone(), String::new(), value.to_string()]),
            _ => {}
        }
    }
    ("", table)
}

fn percentiles(metrics: &Named) -> (&'static str, Table) {
    let mut table = Table::new(["", "samples", "p50", "p90", "p99", "p99.9", "p99.99", "p99.999", "p100"]);
    for (name, metric) in metrics {
        if let Some(Inner::Percentiles(p)) = &metric.inner {
            let values = [p.samples, p.p_50, p.p_90, p.p_99, p.p_99_9, p.p_99_99, p.p_99_999, p.p_100];
            table.row([name.clone()].into_iter().chain(values.iter().map(ToString::to_string)));
        }
    }
    ("Percentiles\n", table)
}

fn histograms(metrics: &Named) -> (&'static str, Table) {
    let all = || {
        metrics.iter().filter_map(|(name, metric)| match &metric.inner {
            Some(Inner::Histogram(histogram)) => Some((name, histogram)),
            _ => None,
        })
    };
    let bounds: BTreeSet<u64> = all().flat_map(|(_, h)| h.buckets.iter().map(|bucket| bucket.le)).collect();
    let head = ["", "sum", "count"].map(str::to_owned).into_iter();
    let mut table = Table::new(head.chain(bounds.iter().map(ToString::to_string)));
    for (name, histogram) in all() {
        let counts: BTreeMap<u64, u64> = histogram.buckets.iter().map(|b| (b.le, b.count)).collect();
        let buckets = bounds.iter().map(|le| counts.get(le).map(u64::to_string).unwrap_or_default());
        let row = [name.clone(), histogram.sum.to_string(), histogram.count.to_string()];
        table.row(row.into_iter().chain(buckets));
    }
    ("Histograms (ms)\n", table)
}
