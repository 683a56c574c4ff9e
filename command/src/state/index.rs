//! How frontends and backends are filed: sets of shared values, ordered by what identifies them.
//!
//! A set of pointers costs a tenth of a map of maps when most clusters have one backend and one
//! frontend. Sets ordered by cluster first are searched by [`Place`], so that "all of this cluster" is
//! a range, found in O(log n), and removing a cluster never looks at another one's things.

use std::{borrow::Borrow, cmp::Ordering, collections::BTreeSet, net::SocketAddr, ops::Bound, sync::Arc};

use super::Turn;
use crate::order::{Backend, BackendKey, HttpFrontend, Identity, RulePosition, TcpFrontend, TcpIdentity};

/// A place in a set that is ordered by cluster first: that of an element, or a cluster's edge.
pub(super) trait Place {
    fn cluster(&self) -> &str;
    fn within(&self) -> Within<'_>;
}

/// A place among the things of one cluster. The order of variants is the order of places; one set
/// holds elements of one kind only.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Within<'a> {
    First,
    Backend(&'a str, SocketAddr),
    Frontend(Identity<'a>),
    TcpFrontend(TcpIdentity<'a>),
    Last,
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.cluster().cmp(other.cluster()).then_with(|| self.within().cmp(&other.within()))
    }
}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for dyn Place + '_ {}

/// Before or after everything that a cluster has.
struct Edge<'a> {
    cluster: &'a str,
    last: bool,
}

impl Place for Edge<'_> {
    fn cluster(&self) -> &str {
        self.cluster
    }

    fn within(&self) -> Within<'_> {
        if self.last { Within::Last } else { Within::First }
    }
}

/// The elements of one cluster, in order.
pub(super) fn of_cluster<'a, T>(
    set: &'a BTreeSet<T>,
    cluster: &str,
) -> impl Iterator<Item = &'a T> + use<'a, T>
where
    T: for<'p> Borrow<dyn Place + 'p> + Ord,
{
    let first: &dyn Place = &Edge { cluster, last: false };
    let last: &dyn Place = &Edge { cluster, last: true };
    set.range::<dyn Place, _>((Bound::Excluded(first), Bound::Excluded(last)))
}

/// A backend, by cluster, id and address: entries compare by these alone.
#[derive(Clone, Debug)]
pub(super) struct BackendEntry(pub(super) Arc<Backend>);

impl Place for BackendEntry {
    fn cluster(&self) -> &str {
        self.0.cluster_id()
    }

    fn within(&self) -> Within<'_> {
        Within::Backend(self.0.backend_id(), self.0.address())
    }
}

impl Place for BackendKey {
    fn cluster(&self) -> &str {
        &self.cluster_id
    }

    fn within(&self) -> Within<'_> {
        Within::Backend(&self.backend_id, self.address)
    }
}

/// A frontend that has a cluster, by cluster and identity: entries compare by these alone.
#[derive(Clone, Debug)]
pub(super) struct ByCluster(pub(super) Arc<HttpFrontend>);

impl Place for ByCluster {
    fn cluster(&self) -> &str {
        self.0.cluster_id().map_or("", |id| id)
    }

    fn within(&self) -> Within<'_> {
        Within::Frontend(self.0.identity())
    }
}

/// A TCP frontend, by cluster and identity: entries compare by these alone.
#[derive(Clone, Debug)]
pub(super) struct TcpByCluster(pub(super) Arc<TcpFrontend>);

impl Place for TcpByCluster {
    fn cluster(&self) -> &str {
        self.0.cluster_id()
    }

    fn within(&self) -> Within<'_> {
        Within::TcpFrontend(self.0.identity())
    }
}

macro_rules! ordered_by_place {
    ($entry:ident) => {
        impl<'p> Borrow<dyn Place + 'p> for $entry {
            fn borrow(&self) -> &(dyn Place + 'p) {
                self
            }
        }

        impl Ord for $entry {
            fn cmp(&self, other: &Self) -> Ordering {
                let (this, other): (&dyn Place, &dyn Place) = (self, other);
                this.cmp(other)
            }
        }

        impl PartialOrd for $entry {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl PartialEq for $entry {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other) == Ordering::Equal
            }
        }

        impl Eq for $entry {}
    };
}

ordered_by_place!(BackendEntry);
ordered_by_place!(ByCluster);
ordered_by_place!(TcpByCluster);

/// A frontend, by identity, with its place among the ordered ones. Entries compare by identity alone.
#[derive(Clone, Debug)]
pub(super) struct FrontendEntry {
    pub(super) frontend: Arc<HttpFrontend>,
    /// Of PRE and POST frontends; 0 in the tree.
    pub(super) sequence: u64,
}

impl FrontendEntry {
    /// A frontend to look up: only its identity counts.
    pub(super) fn probe(frontend: &Arc<HttpFrontend>) -> Self {
        Self { frontend: frontend.clone(), sequence: 0 }
    }

    /// Its turn, if it is tried in the order of insertion.
    pub(super) fn turn(&self) -> Option<Turn> {
        let position = self.frontend.position();
        let list = (self.frontend.is_https(), self.frontend.address(), position);
        (position != RulePosition::Tree).then_some((list, self.sequence))
    }
}

impl Ord for FrontendEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.frontend.identity().cmp(&other.frontend.identity())
    }
}

impl PartialOrd for FrontendEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for FrontendEntry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for FrontendEntry {}
