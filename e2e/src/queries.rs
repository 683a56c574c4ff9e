//! Questions to the proxy whose answers tests compare: revision, clusters, metrics.

use std::collections::BTreeMap;

use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{AggregatedMetrics, FilteredMetrics, QueryMetricsOptions};

use crate::{CommandClient, requests};

impl CommandClient {
    /// The revision of main's state.
    ///
    /// # Panics
    /// If the proxy does not tell.
    pub fn revision(&mut self) -> u64 {
        match self.ok(requests::query_revision()) {
            Some(ContentType::Revision(info)) => info.revision,
            other => panic!("a revision is answered by {other:?}"),
        }
    }

    /// Cluster ids and their hashes, as `main` and each worker know them.
    ///
    /// # Panics
    /// If the proxy does not tell.
    pub fn cluster_hashes(&mut self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let Some(ContentType::WorkerResponses(responses)) = self.ok(requests::cluster_hashes()) else {
            panic!("hashes are answered by something else");
        };
        responses
            .map
            .into_iter()
            .map(|(process, content)| match content.content_type {
                Some(ContentType::ClusterHashes(hashes)) => (process, hashes.map),
                other => panic!("{process} answers {other:?}"),
            })
            .collect()
    }

    /// Cluster ids and their hashes, as main knows them.
    ///
    /// # Panics
    /// If the proxy does not tell.
    pub fn main_hashes(&mut self) -> BTreeMap<String, u64> {
        self.cluster_hashes().remove("main").expect("main is among those that answer")
    }

    /// Metrics, as they are asked for.
    ///
    /// # Panics
    /// If the proxy does not tell.
    pub fn metrics(&mut self, options: QueryMetricsOptions) -> AggregatedMetrics {
        match self.ok(RequestType::QueryMetrics(options)) {
            Some(ContentType::Metrics(metrics)) => metrics,
            other => panic!("metrics are answered by {other:?}"),
        }
    }

    /// The metric `name` of all workers and the main process together, as `metrics get` shows them; 0 if it was never set.
    ///
    /// # Panics
    /// If the proxy does not tell.
    pub fn metric(&mut self, name: &str) -> i64 {
        let options = QueryMetricsOptions { metric_names: vec![name.to_owned()], ..Default::default() };
        let metrics = self.metrics(options);
        let number = |metrics: &BTreeMap<String, FilteredMetrics>| match metrics.get(name)?.inner.clone()? {
            Inner::Gauge(value) => Some(i64::try_from(value).expect("a gauge in range")),
            Inner::Count(value) => Some(value),
            _ => None,
        };
        [&metrics.proxying, &metrics.main].into_iter().filter_map(number).sum()
    }

    /// The count `name` of a cluster, all workers together; 0 if it was never counted.
    ///
    /// # Panics
    /// If the proxy does not tell.
    pub fn count_of(&mut self, cluster: &str, name: &str) -> i64 {
        let options = QueryMetricsOptions { metric_names: vec![name.to_owned()], ..Default::default() };
        let numbers = self.metrics(options).clusters.remove(cluster).map(|numbers| numbers.cluster);
        match numbers.and_then(|mut numbers| numbers.remove(name)?.inner) {
            Some(Inner::Count(value)) => value,
            _ => 0,
        }
    }
}
