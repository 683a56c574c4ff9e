//! Tests of the table.

use std::io;
use std::net::SocketAddr;

use kakehi_command::order::SessionsOf;
use kakehi_command::proto::{AddBackend, CloseSessions};

use super::*;

struct Quiet;

impl Stream for Quiet {
    type Pipe = ();

    fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn peek(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn write_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        Ok(first.len() + second.len())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn is_quiet(&mut self) -> bool {
        true
    }

    fn abort(&mut self) {}

    fn fill(&mut self, (): &mut (), _max: usize) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn drain(&mut self, (): &mut (), max: usize) -> io::Result<usize> {
        Ok(max)
    }

    fn unacknowledged(&mut self) -> Option<u64> {
        None
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
fn now() -> Instant {
    Instant::now()
}

fn table(backends: u16) -> Backends<Quiet> {
    let now = now();
    let mut table = Backends::default();
    for port in 1..=backends {
        assert!(table.set_backend(backend(port, None), now).is_empty(), "nothing was pooled");
    }
    table
}

fn backend(port: u16, draining: Option<bool>) -> Arc<Backend> {
    let wire = AddBackend {
        cluster_id: "a".to_owned(),
        backend_id: port.to_string(),
        address: SocketAddr::from(([127, 0, 0, 1], port)).into(),
        draining,
        ..Default::default()
    };
    Arc::new(Backend::from_wire(&wire).expect("a good backend"))
}

fn put(table: &mut Backends<Quiet>, key: BackendKey, token: Token) {
    table.opened(key);
    assert!(table.put_idle(key, Peer::connecting(Quiet, token), now(), 8).is_none(), "there is room");
    table.check_invariants();
}

#[test]
fn the_oldest_goes_first_whatever_its_backend() {
    let mut table = table(2);
    for (key, token) in [(0, 10), (1, 11), (0, 12)] {
        put(&mut table, key, token);
    }
    // Used again, and the last one now.
    let peer = table.take_idle(1, Reuse::Any, now()).expect("it is idle");
    assert!(table.put_idle(1, peer, now(), 8).is_none());
    let gone: Vec<Token> = std::iter::from_fn(|| table.take_oldest_idle()).map(|peer| peer.token()).collect();
    assert_eq!(gone.len(), 3);
    assert_eq!(gone.first(), Some(&10));
    assert_eq!(table.idle_count(), 0);
    table.check_invariants();
}

#[test]
fn a_request_that_cannot_be_repeated_shuns_what_is_about_to_close() {
    let (mut table, start) = (table(1), now());
    let after = |ms| start + Duration::from_millis(ms);
    let put = |table: &mut Backends<Quiet>, token, at| {
        table.opened(0);
        assert!(table.put_idle(0, Peer::connecting(Quiet, token), at, 8).is_none());
    };
    put(&mut table, 1, start);
    assert!(table.take_idle(0, Reuse::Lasting, after(50_000)).is_some(), "nothing is known yet");
    table.closed(0);
    put(&mut table, 2, start);
    assert!(table.idle_was_closed(0, 2, after(100)).is_some());
    put(&mut table, 3, start);
    assert!(table.take_idle(0, Reuse::Lasting, after(50)).is_none());
    assert!(table.take_idle(0, Reuse::Lasting, after(49)).is_some());
    table.closed(0);
    put(&mut table, 4, start);
    table.was_stale(0, start);
    assert!(table.take_idle(0, Reuse::Lasting, start).is_none());
    assert!(table.take_idle(0, Reuse::Any, after(50_000)).is_some());
    table.closed(0);
    table.check_invariants();
}

#[test]
fn a_cluster_is_forgotten_with_its_last_holder() {
    let mut table: Backends<Quiet> = Backends::default();
    let route = table.hold(&"a".into());
    table.hold_on(route);
    table.remove_cluster(&"a".into());
    table.release(route);
    table.check_invariants();
    assert_eq!(table.hold(&"b".into()), ClusterKey(1), "the key of a cluster in use is not used again");
    table.release(route);
    table.check_invariants();
    assert_eq!(table.key(&"a".into()), None);
    assert_eq!(table.hold(&"c".into()), route);
}

#[test]
fn the_queue_of_backends_does_not_grow_with_use() {
    let mut table = table(1);
    put(&mut table, 0, 7);
    for _ in 0..100 {
        let peer = table.take_idle(0, Reuse::Any, now()).expect("it is idle");
        assert!(table.put_idle(0, peer, now(), 8).is_none());
    }
    assert_eq!(table.with_idle.len(), 1);
    assert_eq!(table.take_oldest_idle().map(|peer| peer.token()), Some(7));
    assert!(table.take_oldest_idle().is_none() && table.with_idle.is_empty());
    table.check_invariants();
}

mod concurrency;

mod choosing {
    use kakehi_command::proto;

    use super::*;

    fn ask(source: u8, random: u64) -> Ask {
        let source = [127, 0, 0, source].into();
        Ask { source, affinity: None, sticky: None, tried: Tried::default(), random }
    }

    fn configured(backends: u16, edit: impl FnOnce(&mut proto::Cluster)) -> (Backends<Quiet>, ClusterKey) {
        let mut table = table(backends);
        let mut wire = proto::Cluster { cluster_id: "a".to_owned(), ..Default::default() };
        edit(&mut wire);
        let cluster = Arc::new(Cluster::from_wire(wire).expect("a good cluster"));
        table.set_cluster(cluster, |_| Err(String::new())).expect("no TLS is asked for");
        let key = table.key(&"a".into()).expect("it is there");
        (table, key)
    }

    fn algorithms() -> impl Iterator<Item = i32> {
        0..6
    }

    #[test]
    fn every_algorithm_uses_all_and_leaves_out_the_failing() {
        for algorithm in algorithms() {
            let (mut table, cluster) = configured(5, |wire| wire.load_balancing = algorithm);
            let now = now();
            let counts = |table: &mut Backends<Quiet>| {
                let mut counts = [0; 5];
                for i in 0..200 {
                    let ask = Ask { affinity: Some(i), ..ask(1, i * 7_919) };
                    counts[table.choose(cluster, &ask, now).expect("somebody")] += 1;
                }
                counts
            };
            let before = counts(&mut table);
            assert!(before.iter().all(|&count| count > 0), "{algorithm}: {before:?}");
            table.connect_failed(2, now, 1);
            let after = counts(&mut table);
            assert_eq!(after[2], 0, "{algorithm}: {after:?}");
            for other in [0, 1, 3, 4] {
                table.connect_failed(other, now, 1);
            }
            assert_eq!(table.choose(cluster, &ask(1, 1), now), Err(NoBackend::AllFailing));
        }
    }

    #[test]
    fn who_was_tried_comes_last() {
        for algorithm in algorithms() {
            let (mut table, cluster) = configured(3, |wire| wire.load_balancing = algorithm);
            let now = now();
            let mut ask = ask(1, 99);
            let mut seen = Vec::new();
            for _ in 0..3 {
                let key = table.choose(cluster, &ask, now).expect("somebody");
                assert!(!seen.contains(&key), "{algorithm}: {seen:?}");
                seen.push(key);
                ask.tried.add(key);
            }
            assert!(table.choose(cluster, &ask, now).is_ok(), "all were tried: once more");
        }
    }

    #[test]
    fn hashing_keeps_a_client_where_it_is_until_its_backend_fails() {
        for algorithm in [proto::LoadBalancingAlgorithms::Hrw, proto::LoadBalancingAlgorithms::Maglev] {
            let (mut table, cluster) = configured(7, |wire| wire.load_balancing = algorithm.into());
            let now = now();
            let homes: Vec<_> = (0..100).map(|i| table.choose(cluster, &ask(i, 1), now)).collect();
            assert!(homes.iter().any(|home| home != &homes[0]));
            table.connect_failed(3, now, 1);
            for (i, home) in (0..100).zip(&homes) {
                let at = table.choose(cluster, &ask(i, u64::from(i)), now);
                assert!(*home == at || *home == Ok(3), "{home:?} {at:?}");
            }
            let named = Ask { affinity: Some(5), ..ask(1, 1) };
            let elsewhere = Ask { affinity: Some(5), ..ask(2, 9) };
            assert_eq!(table.choose(cluster, &named, now), table.choose(cluster, &elsewhere, now));
        }
    }

    #[test]
    fn a_cookie_leads_back_by_the_id_that_is_not_declared() {
        let (mut table, cluster) = configured(4, |wire| wire.sticky_session = true);
        let now = now();
        let bound =
            |id: &str| Ask { sticky: Some(crate::balancing::hash::bytes(id.as_bytes())), ..ask(1, 1) };
        for _ in 0..10 {
            assert_eq!(table.choose(cluster, &bound("3"), now), Ok(2));
        }
        table.connect_failed(2, now, 1);
        assert_ne!(table.choose(cluster, &bound("3"), now).expect("somebody"), 2);
        assert!(table.choose(cluster, &bound("nobody"), now).is_ok());
        let identity = table.backend(0).expect("it is there").key();
        assert!(table.remove_backend(&identity).is_empty());
        assert_eq!(table.choose(cluster, &bound("4"), now), Ok(3), "indexes moved");
    }

    #[test]
    fn a_shard_is_left_or_not_as_it_says() {
        for strict in [false, true] {
            let (mut table, cluster) = configured(20, |wire| {
                wire.shard_percent = Some(10);
                wire.shard_mode = strict.then_some(proto::ShardMode::Strict.into());
            });
            let now = now();
            let mut shard = std::collections::BTreeSet::new();
            for i in 0..100 {
                shard.insert(table.choose(cluster, &ask(1, i), now).expect("somebody"));
            }
            assert_eq!(shard.len(), 2, "{shard:?}");
            for &key in &shard {
                table.connect_failed(key, now, 1);
            }
            let left = table.choose(cluster, &ask(1, 1), now);
            let counts = table.take_shard_counts();
            if strict {
                assert_eq!(left, Err(NoBackend::ShardExhausted));
                assert_eq!(counts, ShardCounts { exhausted: 1, spillover: 0 });
            } else {
                assert!(left.is_ok_and(|key| !shard.contains(&key)));
                assert_eq!(counts, ShardCounts { exhausted: 0, spillover: 1 });
            }
        }
    }

    #[test]
    fn a_loaded_backend_takes_less() {
        for algorithm in
            [proto::LoadBalancingAlgorithms::LeastLoaded, proto::LoadBalancingAlgorithms::PowerOfTwo]
        {
            let (mut table, cluster) = configured(3, |wire| wire.load_balancing = algorithm.into());
            table.opened(1);
            for random in 0..50 {
                assert_ne!(table.choose(cluster, &ask(1, random), now()), Ok(1));
            }
            table.closed(1);
        }
        let (mut table, cluster) = configured(2, |wire| {
            wire.load_balancing = proto::LoadBalancingAlgorithms::LeastLoaded.into();
            wire.load_metric = Some(proto::LoadMetric::ConnectionTime.into());
        });
        let start = now();
        let later = start + Duration::from_millis(300);
        table.connect_succeeded(0, start, later);
        assert_eq!(table.choose(cluster, &ask(1, 1), later), Ok(1));
    }

    #[test]
    fn one_that_comes_starts_slowly() {
        let (mut table, cluster) = configured(2, |wire| wire.slow_start = Some(100));
        let start = now() + Duration::from_secs(1_000);
        let wire = AddBackend {
            cluster_id: "a".to_owned(),
            backend_id: "new".to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 9)).into(),
            ..Default::default()
        };
        assert!(
            table.set_backend(Arc::new(Backend::from_wire(&wire).expect("a good backend")), start).is_empty()
        );
        let mut share = |at| (0..210).filter(|&i| table.choose(cluster, &ask(1, i), at) == Ok(2)).count();
        assert!((9..=12).contains(&share(start)), "a tenth of the others'");
        let whole = share(start + Duration::from_secs(100));
        assert!((68..=72).contains(&whole), "{whole}");
    }
}

#[test]
fn a_backend_that_moves_to_a_unix_socket_leaves_its_connections_behind() {
    let (mut table, now) = (table(2), now());
    put(&mut table, 0, 10);
    table.opened(0);
    let wire = AddBackend {
        cluster_id: "a".to_owned(),
        backend_id: "1".to_owned(),
        address: SocketAddr::from(([127, 0, 0, 1], 1)).into(),
        unix_path: Some("/run/a".to_owned()),
        ..Default::default()
    };
    let moved = Arc::new(Backend::from_wire(&wire).expect("a good backend"));
    let idle: Vec<Token> = table.set_backend(moved.clone(), now).iter().map(Peer::token).collect();
    assert_eq!(idle, [10], "they are closed");
    table.check_invariants();
    // The one in use ends where it began, and is not pooled.
    assert!(table.put_idle(0, Peer::connecting(Quiet, 11), now, 8).is_some());
    table.check_invariants();
    assert!(table.set_backend(moved, now).is_empty(), "the same again changes nothing");
    let targets: Vec<String> =
        (0..4).filter_map(|key| table.destination(key)).map(|(target, _)| target.to_string()).collect();
    assert!(
        targets.contains(&"/run/a".to_owned()) && targets.contains(&"127.0.0.1:2".to_owned()),
        "{targets:?}"
    );
    assert_eq!(targets.len(), 2);
}

#[test]
fn a_backend_that_drains_takes_nothing_new_and_pools_nothing() {
    let (mut table, start) = (table(2), now());
    let wire = kakehi_command::proto::Cluster { cluster_id: "a".to_owned(), ..Default::default() };
    let cluster = Arc::new(Cluster::from_wire(wire).expect("a good cluster"));
    let closed = table.set_cluster(cluster, |_| Err("it has no TLS".to_owned())).expect("a good cluster");
    assert!(closed.is_empty());
    let cluster = table.hold(&ClusterId::parse("a").expect("a good name"));
    let source = [127, 0, 0, 1].into();
    let ask = Ask { source, affinity: None, sticky: None, tried: Tried::default(), random: 1 };
    put(&mut table, 0, 10);
    table.opened(0);
    let closed: Vec<Token> =
        table.set_backend(backend(1, Some(true)), start).iter().map(Peer::token).collect();
    assert_eq!(closed, [10], "what is idle is closed, what is in use is not");
    assert_eq!((table.idle_count(), table.active_count()), (0, 1));
    table.check_invariants();
    for _ in 0..8 {
        assert_eq!(table.choose(cluster, &ask, start), Ok(1), "the other takes all");
    }
    assert!(table.put_idle(0, Peer::connecting(Quiet, 11), start, 8).is_some(), "it is not kept");
    assert_eq!(table.active_count(), 0);
    assert!(table.set_backend(backend(2, Some(true)), start).is_empty());
    assert_eq!(table.choose(cluster, &ask, start), Err(NoBackend::AllDraining));
    assert!(table.set_backend(backend(1, Some(false)), start).is_empty());
    assert_eq!(table.choose(cluster, &ask, start), Ok(0), "it is back");
    table.check_invariants();
}

#[test]
fn what_is_idle_of_some_backends_can_be_closed_and_they_go_on() {
    let mut table = table(2);
    put(&mut table, 0, 10);
    put(&mut table, 0, 11);
    put(&mut table, 1, 12);
    table.opened(1);
    let of = |backend_id: Option<&str>| {
        let wire = CloseSessions {
            cluster_id: "a".to_owned(),
            backend_id: backend_id.map(str::to_owned),
            ..CloseSessions::default()
        };
        SessionsOf::from_wire(&wire).expect("good names")
    };
    let mut close = |of: SessionsOf| {
        let keys = table.meant_by(&of);
        let mut closed: Vec<Token> = table.take_all_idle(&keys).iter().map(Peer::token).collect();
        closed.sort_unstable();
        table.check_invariants();
        (keys.len(), closed)
    };
    assert_eq!(close(of(Some("nobody"))), (0, vec![]));
    assert_eq!(close(of(Some("1"))), (1, vec![10, 11]));
    assert_eq!(close(of(None)), (2, vec![12]));
    assert_eq!(close(of(None)), (2, vec![]));
    assert_eq!((table.idle_count(), table.active_count()), (0, 1), "what is in use is not idle");
    put(&mut table, 0, 13);
    assert_eq!(table.idle_count(), 1);
}
