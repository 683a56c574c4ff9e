//! Answers about the state, the same in main and in workers.

use std::collections::BTreeMap;

use prost::Message;

use super::{ConfigState, index::of_cluster};
use crate::{
    order::{Cluster, HttpFrontend},
    proto,
};

impl ConfigState {
    /// One cluster with its frontends and backends.
    #[must_use]
    pub fn query_cluster_by_id(&self, id: &str) -> Option<proto::ClusterInformation> {
        self.clusters.get(id).map(|cluster| self.information(cluster))
    }

    /// The clusters of the frontends whose host is `hostname` and, if `path` is given, whose path is
    /// `path`; each once, by id. The host is compared in lower case, wildcards and expressions as text.
    #[must_use]
    pub fn query_clusters_by_domain(
        &self,
        hostname: &str,
        path: Option<&str>,
    ) -> Vec<proto::ClusterInformation> {
        let lower = hostname.to_ascii_lowercase();
        let mut found = BTreeMap::new();
        for entry in &self.http_frontends {
            let frontend = &entry.frontend;
            let Some(id) = frontend.cluster_id() else { continue };
            let host = frontend.hostname().to_string();
            if (host == lower || host == hostname) && path.is_none_or(|path| path == frontend.path().value())
            {
                found.insert(id, ());
            }
        }
        found.keys().filter_map(|id| self.query_cluster_by_id(id)).collect()
    }

    /// A hash of each cluster with its frontends and backends. Equal hashes in main and a worker mean
    /// that they agree, also between two builds; the value means nothing else.
    #[must_use]
    pub fn cluster_hashes(&self) -> BTreeMap<String, u64> {
        self.clusters.values().map(|cluster| (cluster.id().to_string(), self.hash(cluster))).collect()
    }

    /// The frontends that pass the filters: by kind (none set: all kinds), by a part of the host name,
    /// by cluster (denying frontends have none).
    #[must_use]
    pub fn list_frontends(&self, filters: &proto::FrontendFilters) -> proto::ListedFrontends {
        let every_kind = !filters.http && !filters.https && !filters.tcp;
        if !filters.http && !every_kind {
            return proto::ListedFrontends::default();
        }
        let domain = filters.domain.as_deref().map(str::to_ascii_lowercase);
        let passes = |frontend: &HttpFrontend| {
            domain.as_deref().is_none_or(|domain| frontend.hostname().to_string().contains(domain))
        };
        let to_wire = |frontend: &HttpFrontend| proto::RequestHttpFrontend::from(frontend);
        let http_frontends = match filters.cluster_id.as_deref() {
            Some(id) => of_cluster(&self.frontends_by_cluster, id)
                .map(|entry| &*entry.0)
                .filter(|it| passes(it))
                .map(to_wire)
                .collect(),
            None => self.http_frontends().map(|it| &**it).filter(|it| passes(it)).map(to_wire).collect(),
        };
        proto::ListedFrontends { http_frontends, ..Default::default() }
    }

    /// All listeners, under the text of their keys.
    #[must_use]
    pub fn list_listeners(&self) -> proto::ListenersList {
        let http = self.http_listeners.values();
        let http_listeners =
            http.map(|listener| (listener.key().to_string(), (&**listener).into())).collect();
        proto::ListenersList { http_listeners, ..Default::default() }
    }

    fn information(&self, cluster: &Cluster) -> proto::ClusterInformation {
        proto::ClusterInformation {
            configuration: Some(cluster.wire()),
            http_frontends: self
                .http_frontends_of(cluster.id())
                .map(|frontend| (&**frontend).into())
                .collect(),
            backends: self.backends(cluster.id()).map(|backend| (&**backend).into()).collect(),
            ..Default::default()
        }
    }

    fn hash(&self, cluster: &Cluster) -> u64 {
        fnv1a(&self.information(cluster).encode_to_vec())
    }
}

/// FNV-1a, 64 bits: fixed for ever, unlike std's hasher, so that two builds can be compared. Nobody
/// gains by a collision.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
