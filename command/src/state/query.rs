//! Answers about the state, the same in main and in workers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use prost::Message;

use super::{ConfigState, index::of_cluster};
use crate::{
    order::{Certificate, CertificateKey, Cluster, Fingerprint, HttpFrontend, ListenerKind, OrderError},
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
    /// by cluster (denying frontends have none). TCP frontends have no host name: a part of one leaves them out.
    #[must_use]
    pub fn list_frontends(&self, filters: &proto::FrontendFilters) -> proto::ListedFrontends {
        let every_kind = !filters.http && !filters.https && !filters.tcp;
        let domain = filters.domain.as_deref().map(str::to_ascii_lowercase);
        let passes = |frontend: &HttpFrontend| {
            domain.as_deref().is_none_or(|domain| frontend.hostname().to_string().contains(domain))
        };
        let to_wire = |frontend: &HttpFrontend| proto::RequestHttpFrontend::from(frontend);
        let all: Vec<_> = match filters.cluster_id.as_deref() {
            Some(id) => of_cluster(&self.frontends_by_cluster, id)
                .map(|entry| &*entry.0)
                .filter(|it| passes(it))
                .collect(),
            None => self.http_frontends().map(|it| &**it).filter(|it| passes(it)).collect(),
        };
        let of_kind = |wanted: bool, https: bool| {
            let of_kind = all.iter().filter(move |it| wanted && it.is_https() == https);
            of_kind.map(|it| to_wire(it)).collect()
        };
        proto::ListedFrontends {
            http_frontends: of_kind(filters.http || every_kind, false),
            https_frontends: of_kind(filters.https || every_kind, true),
            tcp_frontends: self.list_tcp_frontends(filters, filters.tcp || every_kind),
            ..Default::default()
        }
    }

    /// A part of a host name leaves them out: they have none.
    fn list_tcp_frontends(
        &self,
        filters: &proto::FrontendFilters,
        wanted: bool,
    ) -> Vec<proto::RequestTcpFrontend> {
        if !wanted || filters.domain.is_some() {
            return Vec::new();
        }
        let of_cluster = filters.cluster_id.as_deref().map(|id| self.tcp_frontends_of(id));
        match of_cluster {
            Some(frontends) => frontends.map(|it| (&**it).into()).collect(),
            None => self.tcp_frontends().map(|it| (&**it).into()).collect(),
        }
    }

    /// All listeners, under the text of their keys, without private keys.
    #[must_use]
    pub fn list_listeners(&self) -> proto::ListenersList {
        let mut list = proto::ListenersList::default();
        for listener in self.http_listeners.values() {
            let key = listener.key().to_string();
            match listener.public_https_wire() {
                Some(wire) => drop(list.https_listeners.insert(key, wire)),
                None => drop(list.http_listeners.insert(key, (&**listener).into())),
            }
        }
        let tcp = self.tcp_listeners.values();
        list.tcp_listeners = tcp.map(|it| (it.key().to_string(), it.public_wire())).collect();
        list
    }

    /// The certificates that pass the filters, without their keys, under their fingerprints: those that a
    /// handshake for `domain` would get, or the one with this `fingerprint`, or all.
    ///
    /// # Errors
    /// The fingerprint is none.
    pub fn query_certificates(
        &self,
        filters: &proto::QueryCertificatesFilters,
    ) -> Result<proto::CertificatesWithFingerprints, OrderError> {
        let found = self.filtered_certificates(filters)?;
        let certs = found.map(|it| (it.fingerprint().to_string(), it.public_wire())).collect();
        Ok(proto::CertificatesWithFingerprints { certs })
    }

    /// Likewise, but names and fingerprints alone, by address.
    ///
    /// # Errors
    /// The fingerprint is none.
    pub fn summarise_certificates(
        &self,
        filters: &proto::QueryCertificatesFilters,
    ) -> Result<proto::ListOfCertificatesByAddress, OrderError> {
        // Listeners without a certificate are named, too.
        let tls = self.http_listeners().filter(|listener| listener.tls().is_some());
        let mut by_address: BTreeMap<SocketAddr, Vec<proto::CertificateSummary>> =
            tls.map(|listener| (listener.key().address, Vec::new())).collect();
        let domain = filters.domain.as_deref().map(str::to_ascii_lowercase);
        for certificate in self.filtered_certificates(filters)? {
            let fingerprint = certificate.fingerprint().to_string();
            let summary = |domain: &str| proto::CertificateSummary {
                domain: domain.to_owned(),
                fingerprint: fingerprint.clone(),
            };
            let names = certificate.names().iter();
            let matching = names.filter(|name| domain.as_deref().is_none_or(|it| covers(name, it)));
            by_address.entry(certificate.address()).or_default().extend(matching.map(|name| summary(name)));
        }
        let certificates = by_address
            .into_iter()
            .map(|(address, certificate_summaries)| proto::CertificatesByAddress {
                address: address.into(),
                certificate_summaries,
            })
            .collect();
        Ok(proto::ListOfCertificatesByAddress { certificates })
    }

    fn filtered_certificates(
        &self,
        filters: &proto::QueryCertificatesFilters,
    ) -> Result<impl Iterator<Item = &Arc<Certificate>>, OrderError> {
        let fingerprint = filters.fingerprint.as_deref().map(str::parse::<Fingerprint>).transpose()?;
        let chosen = filters.domain.as_deref().map(|domain| self.certificates_for(domain));
        Ok(self.certificates().filter(move |it| match (&chosen, fingerprint) {
            (Some(chosen), _) => chosen.contains(&it.key_in_state()),
            (None, Some(fingerprint)) => it.fingerprint() == fingerprint,
            (None, None) => true,
        }))
    }

    /// For each address with a listener at which TLS ends, the certificate for this host: under its own name rather
    /// than a wildcard, and the one that is valid longest of several.
    fn certificates_for(&self, domain: &str) -> BTreeSet<CertificateKey> {
        let domain = domain.to_ascii_lowercase();
        let https = self.http_listeners.values().filter(|it| it.kind() == ListenerKind::Https);
        let tcp = self.tcp_listeners.values().filter(|it| it.tls().is_some());
        let addresses = https.map(|listener| listener.address()).chain(tcp.map(|it| it.address()));
        let addresses: BTreeSet<_> = addresses.collect();
        let best = |address| {
            let rank = |it: &&Arc<Certificate>| {
                let exact = it.names().iter().any(|name| **name == *domain);
                (exact, it.not_after(), it.fingerprint())
            };
            let covering = |it: &&Arc<Certificate>| it.names().iter().any(|name| covers(name, &domain));
            self.certificates_at(address).filter(covering).max_by_key(rank)
        };
        addresses.into_iter().filter_map(best).map(|it| it.key_in_state()).collect()
    }

    fn information(&self, cluster: &Cluster) -> proto::ClusterInformation {
        let of_kind = |https: bool| {
            let frontends = self.http_frontends_of(cluster.id()).filter(|it| it.is_https() == https);
            frontends.map(|frontend| (&**frontend).into()).collect()
        };
        proto::ClusterInformation {
            configuration: Some(cluster.public_wire()),
            http_frontends: of_kind(false),
            https_frontends: of_kind(true),
            tcp_frontends: self.tcp_frontends_of(cluster.id()).map(|it| (&**it).into()).collect(),
            backends: self.backends(cluster.id()).map(|backend| (&**backend).into()).collect(),
            ..Default::default()
        }
    }

    fn hash(&self, cluster: &Cluster) -> u64 {
        fnv1a(&self.information(cluster).encode_to_vec())
    }
}

/// Whether a certificate's name is this host's, or a wildcard whose star stands for its first label.
fn covers(name: &str, host: &str) -> bool {
    let of_wildcard = || {
        let (first, rest) = host.split_once('.')?;
        Some(!first.is_empty() && name.strip_prefix("*.") == Some(rest))
    };
    name == host || of_wildcard() == Some(true)
}

/// FNV-1a, 64 bits: fixed for ever, unlike std's hasher, so that two builds can be compared. Nobody
/// gains by a collision.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
