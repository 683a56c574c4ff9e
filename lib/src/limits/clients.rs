//! How many connections one source may have to one cluster.

use std::net::IpAddr;
use std::time::Instant;

use kakehi_command::order::{Cluster, ClusterId, ConnectionLimit};

use super::key::{Key, Scope};
use super::shared_counters::{Added, Permit};
use super::tables::SharedTables;

/// The kinds of limit.
const KINDS: usize = ConnectionLimit::ALL.len();

/// What a source is let in with: one of each kind that is limited.
pub type Permits = [Option<Permit>; KINDS];

/// Seconds after which a client may come again, where nothing is configured.
const RETRY_AFTER_DEFAULT: u32 = 60;

/// The limits of one worker, and where it counts.
#[derive(Debug, Clone, Copy)]
pub struct ClientLimits {
    pub(super) tables: Option<SharedTables>,
    /// Of each kind, 0 for none. A cluster may have others.
    of_all: [u64; KINDS],
    retry_after: u32,
    /// Bits of a network of IPv4, and of IPv6.
    pub(super) prefixes: (u8, u8),
    /// A time, and what the clock that all workers share said then, in nanoseconds.
    pub(super) clock: Option<(Instant, u64)>,
}

/// What became of a connection that a cluster may not take.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may be served; what it was counted as has to be given back.
    Admitted(Permits),
    /// It may be served, and some of it could not be counted.
    Uncounted(Permits),
    /// Its source has as many already.
    Over(ConnectionLimit),
}

impl Default for ClientLimits {
    /// None, and nowhere to count.
    fn default() -> Self {
        Self {
            tables: None,
            of_all: [0; KINDS],
            retry_after: RETRY_AFTER_DEFAULT,
            prefixes: (32, 128),
            clock: None,
        }
    }
}

impl ClientLimits {
    /// What does not change while a worker runs: `Retry-After` in seconds, and the bits of networks.
    pub fn set_fixed(&mut self, retry_after: u32, prefixes: (u8, u8)) {
        self.retry_after = retry_after;
        self.prefixes = (prefixes.0.min(32), prefixes.1.min(128));
    }

    /// Where it counts from now on. To be said before there are connections.
    pub fn set_tables(&mut self, tables: SharedTables) {
        self.tables = Some(tables);
    }

    /// The tables, for others that count.
    pub fn tables(&self) -> Option<&SharedTables> {
        self.tables.as_ref()
    }

    /// Changes a limit of all clusters that have none of their own; 0: none.
    pub fn set(&mut self, limit: ConnectionLimit, value: u64) {
        if let Some(place) = self.of_all.get_mut(limit as usize) {
            *place = value;
        }
    }

    /// The limits of a cluster, by kind, if it has any.
    pub fn of(&self, cluster: Option<&Cluster>) -> Option<[u64; KINDS]> {
        let mut limits = self.of_all;
        if let Some(cluster) = cluster {
            for (place, kind) in limits.iter_mut().zip(ConnectionLimit::ALL) {
                *place = cluster.connection_limit(kind).unwrap_or(*place);
            }
        }
        (limits != [0; KINDS]).then_some(limits)
    }

    /// After how many seconds who was over a limit may come again; none: untold.
    pub fn retry_after(&self, cluster: Option<&Cluster>) -> Option<u32> {
        let seconds = cluster.and_then(Cluster::retry_after).unwrap_or(self.retry_after);
        (seconds > 0).then_some(seconds)
    }

    /// Counts one connection of a source to a cluster with these limits, if each of them allows it.
    pub fn admit(&self, cluster: &ClusterId, source: IpAddr, limits: [u64; KINDS]) -> Admission {
        let Some(tables) = &self.tables else { return Admission::Uncounted(Permits::default()) };
        let mut permits = Permits::default();
        let mut uncounted = false;
        for ((place, kind), limit) in permits.iter_mut().zip(ConnectionLimit::ALL).zip(limits) {
            if limit == 0 {
                continue;
            }
            match tables.counters().try_add(self.key(tables, cluster, source, kind), limit) {
                Added::Counted(permit) => *place = Some(permit),
                Added::Uncounted => uncounted = true,
                Added::OverLimit => {
                    self.dismiss(permits);
                    return Admission::Over(kind);
                }
            }
        }
        if uncounted { Admission::Uncounted(permits) } else { Admission::Admitted(permits) }
    }

    /// The connection is over.
    pub fn dismiss(&self, permits: Permits) {
        if let Some(tables) = &self.tables {
            permits.into_iter().flatten().for_each(|permit| tables.counters().sub(permit));
        }
    }

    fn key(&self, tables: &SharedTables, cluster: &ClusterId, source: IpAddr, kind: ConnectionLimit) -> Key {
        let (scope, source) = match kind {
            ConnectionLimit::PerSource => (Scope::ClusterSource, source.to_canonical()),
            ConnectionLimit::PerSubnet => (Scope::ClusterSubnet, network(source, self.prefixes)),
        };
        match source {
            IpAddr::V4(address) => tables.key(scope, &[cluster.as_bytes(), &address.octets()]),
            IpAddr::V6(address) => tables.key(scope, &[cluster.as_bytes(), &address.octets()]),
        }
    }
}

/// The network of an address, of so many bits. An IPv4 address written as IPv6 is one of IPv4 (RFC 4291 §2.5.5.2).
pub(super) fn network(source: IpAddr, (v4, v6): (u8, u8)) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(v4.min(32))).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(v6.min(128))).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use kakehi_command::proto;

    use super::*;

    fn limits() -> ClientLimits {
        let mut limits = ClientLimits::default();
        limits.set_fixed(7, (24, 64));
        limits.set_tables(SharedTables::of_one(64).expect("it fits"));
        limits
    }

    fn cluster(edit: impl FnOnce(&mut proto::Cluster)) -> Cluster {
        let mut wire = proto::Cluster { cluster_id: "app".to_owned(), ..Default::default() };
        edit(&mut wire);
        Cluster::from_wire(wire).expect("a cluster")
    }

    #[test]
    fn networks_are_cut_at_their_prefix() {
        let check = |source: &str, prefixes, expected: &str| {
            let source: IpAddr = source.parse().expect("an address");
            assert_eq!(network(source, prefixes).to_string(), expected, "{source} {prefixes:?}");
        };
        check("192.0.2.77", (24, 64), "192.0.2.0");
        check("192.0.2.77", (32, 64), "192.0.2.77");
        check("192.0.2.77", (0, 64), "0.0.0.0");
        check("::ffff:192.0.2.77", (24, 64), "192.0.2.0");
        check("2001:db8:1:2:3::4", (24, 64), "2001:db8:1:2::");
        check("2001:db8:1:2:3::4", (24, 0), "::");
        check("2001:db8:1:2:3::4", (24, 128), "2001:db8:1:2:3::4");
    }

    #[test]
    fn a_cluster_has_its_own_limits_or_those_of_all() {
        let mut limits = limits();
        assert_eq!(limits.of(Some(&cluster(|_| {}))), None);
        limits.set(ConnectionLimit::PerSource, 5);
        assert_eq!(limits.of(Some(&cluster(|_| {}))), Some([5, 0]));
        assert_eq!(limits.of(Some(&cluster(|it| it.max_connections_per_ip = Some(2)))), Some([2, 0]));
        assert_eq!(limits.of(Some(&cluster(|it| it.max_connections_per_ip = Some(0)))), None);
        assert_eq!(limits.of(Some(&cluster(|it| it.max_connections_per_subnet = Some(9)))), Some([5, 9]));
        assert_eq!(limits.retry_after(None), Some(7));
        assert_eq!(limits.retry_after(Some(&cluster(|it| it.retry_after = Some(0)))), None);
    }

    #[test]
    fn both_must_admit_and_what_one_refuses_the_other_does_not_count() {
        let limits = limits();
        let id = ClusterId::parse("app").expect("an id");
        let from = |last: u8| limits.admit(&id, IpAddr::from([192, 0, 2, last]), [2, 3]);
        let admitted = |admission| match admission {
            Admission::Admitted(permits) => permits,
            other => panic!("{other:?}"),
        };
        let first = admitted(from(1));
        let _second = admitted(from(1));
        assert_eq!(from(1), Admission::Over(ConnectionLimit::PerSource));
        let _third = admitted(from(2));
        assert_eq!(from(3), Admission::Over(ConnectionLimit::PerSubnet));
        limits.dismiss(first);
        let _again = admitted(from(3));
        assert_eq!(
            from(3),
            Admission::Over(ConnectionLimit::PerSubnet),
            "and not counted for its source either"
        );
        let other = ClusterId::parse("other").expect("an id");
        let _other = admitted(limits.admit(&other, IpAddr::from([192, 0, 2, 1]), [2, 3]));
    }

    #[test]
    fn without_tables_nobody_is_refused() {
        let id = ClusterId::parse("app").expect("an id");
        let admission = ClientLimits::default().admit(&id, IpAddr::from([127, 0, 0, 1]), [1, 1]);
        assert_eq!(admission, Admission::Uncounted(Permits::default()));
    }
}
