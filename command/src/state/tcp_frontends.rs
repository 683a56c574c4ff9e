//! The TCP frontends of a state, by address and name, and what two of one address may not both say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use super::index::{TcpByCluster, of_cluster};
use crate::order::{HostPattern, TcpFrontend};

/// See the module.
#[derive(Clone, Default, Debug)]
pub(crate) struct TcpFrontends {
    /// Those of one name differ in their protocols, and are few; sorted by identity. Without a name there is
    /// one at most.
    by_name: BTreeMap<Name, Vec<Arc<TcpFrontend>>>,
    /// By cluster, so that one cluster's are found without looking at others.
    by_cluster: BTreeSet<TcpByCluster>,
}

/// An address, and a name that is asked for there. The address without a name sorts before all of its names.
type Name = (SocketAddr, Option<HostPattern>);

/// Why two frontends cannot be at one address.
pub(crate) struct Clash<'a> {
    /// The one that is there.
    pub(crate) present: &'a Arc<TcpFrontend>,
    /// What is at odds.
    pub(crate) reason: &'static str,
}

impl TcpFrontends {
    /// The one of the same identity.
    pub(crate) fn get(&self, frontend: &TcpFrontend) -> Option<&Arc<TcpFrontend>> {
        let same_name = self.by_name.get(&name(frontend))?;
        same_name.iter().find(|it| it.identity() == frontend.identity())
    }

    /// What keeps a frontend from being added, that of its identity aside.
    pub(crate) fn clash(&self, frontend: &TcpFrontend) -> Option<Clash<'_>> {
        let lowest = (frontend.address(), None);
        let mut of_address = self.by_name.range(lowest..).map(|(_, it)| it);
        let first =
            of_address.next().and_then(|it| it.first()).filter(|it| it.address() == frontend.address());
        if let Some(present) = first
            && present.sni().is_none() != frontend.sni().is_none()
        {
            let reason = "an address has either one frontend for all connections or frontends with an sni";
            return Some(Clash { present, reason });
        }
        self.by_name.get(&name(frontend))?.iter().find_map(|present| {
            let shared = frontend.alpn().iter().any(|protocol| present.alpn().contains(protocol));
            shared.then_some(Clash { present, reason: "both are for the same alpn" })
        })
    }

    /// Files a frontend that clashes with none.
    pub(crate) fn insert(&mut self, frontend: &Arc<TcpFrontend>) {
        let same_name = self.by_name.entry(name(frontend)).or_default();
        let at = same_name.partition_point(|it| it.identity() < frontend.identity());
        same_name.insert(at, frontend.clone());
        self.by_cluster.insert(TcpByCluster(frontend.clone()));
    }

    /// Takes out the one of the same identity.
    pub(super) fn remove(&mut self, frontend: &TcpFrontend) -> Option<Arc<TcpFrontend>> {
        let name = name(frontend);
        let same_name = self.by_name.get_mut(&name)?;
        let at = same_name.iter().position(|it| it.identity() == frontend.identity())?;
        let removed = same_name.remove(at);
        if same_name.is_empty() {
            self.by_name.remove(&name);
        }
        self.by_cluster.remove(&TcpByCluster(removed.clone()));
        Some(removed)
    }

    /// All of them, by identity.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<TcpFrontend>> {
        self.by_name.values().flatten()
    }

    /// Those of one cluster, by identity.
    pub(super) fn of<'a>(&'a self, cluster_id: &str) -> impl Iterator<Item = &'a Arc<TcpFrontend>> + use<'a> {
        of_cluster(&self.by_cluster, cluster_id).map(|entry| &entry.0)
    }

    pub(super) fn len(&self) -> usize {
        self.by_cluster.len()
    }

    /// See [`super::ConfigState::check_invariants`].
    pub(super) fn check_invariants(&self) {
        let mut filed = 0;
        let mut named: BTreeMap<SocketAddr, bool> = BTreeMap::new();
        for (filed_under, same_name) in &self.by_name {
            assert!(!same_name.is_empty(), "no name is left behind");
            assert!(
                same_name.is_sorted_by(|one, other| one.identity() < other.identity()),
                "each once, sorted"
            );
            let is_named = filed_under.1.is_some();
            assert_eq!(
                *named.entry(filed_under.0).or_insert(is_named),
                is_named,
                "either all have a name or none"
            );
            assert!(is_named || same_name.len() == 1, "one without a name");
            let mut protocols = BTreeSet::new();
            for frontend in same_name {
                filed += 1;
                assert_eq!(filed_under, &name(frontend), "a frontend is filed under its own name");
                assert!(
                    frontend.alpn().iter().all(|protocol| protocols.insert(protocol)),
                    "no protocol is shared"
                );
                let indexed = self.by_cluster.get(&TcpByCluster(frontend.clone()));
                assert!(
                    indexed.is_some_and(|TcpByCluster(other)| Arc::ptr_eq(frontend, other)),
                    "indexed by cluster"
                );
            }
        }
        assert_eq!(self.by_cluster.len(), filed, "the index holds nothing else");
    }
}

fn name(frontend: &TcpFrontend) -> Name {
    (frontend.address(), frontend.sni().cloned())
}

impl PartialEq for TcpFrontends {
    fn eq(&self, other: &Self) -> bool {
        self.by_name == other.by_name
    }
}
