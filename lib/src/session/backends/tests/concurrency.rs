//! Limits of what is in flight.

use std::sync::atomic::AtomicU64;

use kakehi_command::proto;
use proptest::prelude::*;

use super::*;
use crate::limits::Layout;

/// Tables of so many workers, with so many entries.
fn tables(entries: usize, workers: usize) -> Vec<SharedTables> {
    let layout = Layout { entries, lanes: workers };
    let words: Vec<AtomicU64> = (0..layout.bytes() / 8).map(|_| AtomicU64::new(0)).collect();
    let words = Vec::leak(words);
    (0..workers).map(|lane| SharedTables::new(words, layout, lane, &[0; 16]).expect("they fit")).collect()
}

fn limit(table: &mut Backends<Quiet>, max: u32, per_backend: u32) -> ClusterKey {
    let wire = proto::Cluster {
        cluster_id: "a".to_owned(),
        max_connections: Some(max),
        max_connections_per_backend: Some(per_backend),
        ..Default::default()
    };
    let cluster = Arc::new(Cluster::from_wire(wire).expect("a good cluster"));
    table.set_cluster(cluster, |_| Err(String::new())).expect("no TLS is asked for");
    let key = table.key(&"a".into()).expect("it is there");
    table.settle_limits(key);
    key
}

fn limited(backends: u16, max: u32, per_backend: u32, tables: SharedTables) -> (Backends<Quiet>, ClusterKey) {
    let mut table = table(backends);
    table.set_tables(tables);
    let key = limit(&mut table, max, per_backend);
    (table, key)
}

fn take(table: &mut Backends<Quiet>, cluster: ClusterKey) -> Result<BackendKey, NoBackend> {
    let ask = Ask {
        source: [127, 0, 0, 1].into(),
        affinity: None,
        sticky: None,
        tried: Tried::default(),
        random: 7,
    };
    let key = table.choose(cluster, &ask, now())?;
    table.opened(key);
    table.check_invariants();
    Ok(key)
}

#[test]
fn who_is_full_is_not_chosen_and_all_workers_count() {
    let tables = tables(64, 2);
    let (mut one, cluster) = limited(2, 0, 2, tables[0]);
    let (mut other, _) = limited(2, 0, 2, tables[1]);
    let mut keys = vec![take(&mut one, cluster), take(&mut other, cluster)];
    keys.extend([take(&mut one, cluster), take(&mut one, cluster)]);
    assert!(keys.iter().all(Result::is_ok), "{keys:?}");
    assert_eq!(take(&mut one, cluster), Err(NoBackend::Full));
    assert_eq!(take(&mut other, cluster), Err(NoBackend::Full));
    let key = keys[1].expect("checked");
    other.closed(key);
    assert_eq!(take(&mut one, cluster), Ok(key), "what the other freed");
    assert_eq!((one.permit_counts().1, other.permit_counts().1), (4, 0));
}

#[test]
fn the_cluster_has_a_limit_of_its_own() {
    let tables = tables(64, 1);
    let (mut table, cluster) = limited(3, 2, 2, tables[0]);
    let first = take(&mut table, cluster).expect("there is room");
    take(&mut table, cluster).expect("there is room");
    assert_eq!(take(&mut table, cluster), Err(NoBackend::Full));
    assert_eq!(table.permit_counts(), (2, 2), "the backend's was given back");
    table.closed(first);
    assert!(take(&mut table, cluster).is_ok());
}

#[test]
fn what_is_full_is_told_from_what_fails() {
    let tables = tables(64, 1);
    let (mut table, cluster) = limited(2, 0, 1, tables[0]);
    let key = take(&mut table, cluster).expect("there is room");
    table.connect_failed(1 - key, now(), 1);
    assert_eq!(take(&mut table, cluster), Err(NoBackend::Full), "the one that could take it is full");
    table.closed(key);
    table.connect_failed(key, now(), 1);
    assert_eq!(take(&mut table, cluster), Err(NoBackend::AllFailing));
}

#[test]
fn what_was_chosen_and_not_used_is_given_back() {
    let tables = tables(64, 1);
    let (mut table, cluster) = limited(1, 1, 1, tables[0]);
    let ask = Ask {
        source: [127, 0, 0, 1].into(),
        affinity: None,
        sticky: None,
        tried: Tried::default(),
        random: 7,
    };
    let key = table.choose(cluster, &ask, now()).expect("there is room");
    assert_eq!(table.permit_counts(), (1, 1));
    table.forgo(key);
    assert_eq!(table.permit_counts(), (0, 0));
    let key = table.choose(cluster, &ask, now()).expect("there is room");
    // A pooled connection is found dead, and another one opened in its place.
    table.opened(key);
    table.closed_unused(key);
    assert_eq!(table.permit_counts(), (1, 1));
    table.opened(key);
    table.check_invariants();
    assert_eq!(take(&mut table, cluster), Err(NoBackend::Full));
    // A session panics between the choice and its connect.
    table.closed(key);
    table.choose(cluster, &ask, now()).expect("there is room");
    table.recount_permits();
    assert_eq!(table.permit_counts(), (0, 0));
    table.check_invariants();
}

#[test]
fn a_new_limit_counts_what_is_in_flight() {
    let tables = tables(64, 1);
    let (mut table, cluster) = limited(1, 0, 0, tables[0]);
    for _ in 0..3 {
        take(&mut table, cluster).expect("no limit");
    }
    assert_eq!(table.permit_counts(), (0, 0));
    limit(&mut table, 4, 4);
    assert_eq!(table.permit_counts(), (3, 3));
    take(&mut table, cluster).expect("there is room for one");
    assert_eq!(take(&mut table, cluster), Err(NoBackend::Full));
    limit(&mut table, 0, 0);
    take(&mut table, cluster).expect("no limit");
    (0..5).for_each(|_| table.closed(0));
    assert_eq!((table.permit_counts(), table.active_count()), ((0, 0), 0));
    table.check_invariants();
}

#[test]
fn a_backend_that_comes_back_has_what_it_carries() {
    let tables = tables(64, 1);
    let (mut table, cluster) = limited(1, 0, 1, tables[0]);
    take(&mut table, cluster).expect("there is room");
    let same = backend(1, None);
    assert!(table.remove_backend(&same.key()).is_empty());
    assert!(table.set_backend(same, now()).is_empty());
    table.settle_limits(cluster);
    assert_eq!(take(&mut table, cluster), Err(NoBackend::Full));
    table.closed(0);
    assert_eq!(take(&mut table, cluster), Ok(1));
}

#[test]
fn where_nothing_can_be_counted_each_worker_has_the_limit() {
    // Eight entries, one bucket: all taken by others.
    let tables = tables(8, 2);
    for n in 0..8_u8 {
        let key = tables[1].key(crate::limits::Scope::Listener, &[&[n]]);
        assert!(tables[1].counters().add(key).is_some());
    }
    let (mut table, cluster) = limited(1, 2, 2, tables[0]);
    take(&mut table, cluster).expect("there is room");
    take(&mut table, cluster).expect("there is room");
    assert_eq!(take(&mut table, cluster), Err(NoBackend::Full));
    assert_eq!(table.take_uncounted(), 4, "at the cluster and at the backend");
}

#[derive(Debug, Clone)]
enum Act {
    Take {
        worker: usize,
    },
    /// The n-th connection ends.
    End(usize),
    Limit {
        worker: usize,
        max: u32,
        per_backend: u32,
    },
    /// A worker is killed and comes back.
    Die {
        worker: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let limits = (0..2_usize, 0..5_u32, 0..4_u32);
    prop_oneof![
        8 => (0..2_usize).prop_map(|worker| Act::Take { worker }),
        5 => (0..9_usize).prop_map(Act::End),
        1 => limits.prop_map(|(worker, max, per_backend)| Act::Limit { worker, max, per_backend }),
        1 => (0..2_usize).prop_map(|worker| Act::Die { worker }),
    ]
}

proptest! {
    /// Two workers with limits that do not change: what is in flight is never more, and nothing is lost.
    #[test]
    fn limits_hold_and_all_is_given_back(acts in prop::collection::vec(act(), 0..60), max in 0..5_u32, per in 1..3_u32) {
        let tables = tables(64, 2);
        let mut workers = [limited(2, max, per, tables[0]).0, limited(2, max, per, tables[1]).0];
        let cluster = workers[0].key(&"a".into()).expect("it is there");
        let mut open: Vec<(usize, BackendKey)> = Vec::new();
        for act in acts {
            match act {
                Act::Take { worker } => {
                    let of = |key| open.iter().filter(|(_, of)| *of == key).count();
                    let full = (max > 0 && open.len() >= max as usize)
                        || [0, 1].into_iter().all(|key| of(key) >= per as usize);
                    match take(&mut workers[worker], cluster) {
                        Ok(key) => {
                            prop_assert!(!full && of(key) < per as usize);
                            open.push((worker, key));
                        }
                        Err(reason) => prop_assert!(full && reason == NoBackend::Full),
                    }
                }
                Act::End(n) if n < open.len() => {
                    let (worker, key) = open.swap_remove(n);
                    workers[worker].closed(key);
                }
                Act::End(_) => {}
                // Limits that come and go on the way: what counts is counted all the same.
                Act::Limit { worker, max: other, per_backend } => {
                    limit(&mut workers[worker], other, per_backend);
                    limit(&mut workers[worker], max, per);
                }
                Act::Die { worker } => {
                    tables[worker].clear_lane();
                    workers[worker] = limited(2, max, per, tables[worker]).0;
                    open.retain(|(of, _)| *of != worker);
                }
            }
            workers.iter().for_each(Backends::check_invariants);
        }
        for (worker, key) in open {
            workers[worker].closed(key);
        }
        prop_assert_eq!(tables[0].counters().count(tables[0].key(crate::limits::Scope::Cluster, &[b"a"])), 0);
        prop_assert!(workers.iter().all(|worker| worker.permit_counts() == (0, 0)));
    }
}
