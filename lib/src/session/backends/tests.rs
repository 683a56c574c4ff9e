//! Tests of the table.

use std::io;
use std::net::SocketAddr;

use kakehi_command::proto::AddBackend;

use super::*;

struct Quiet;

impl Stream for Quiet {
    type Pipe = ();

    fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
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

#[test]
fn a_backend_that_drains_takes_nothing_new_and_pools_nothing() {
    let (mut table, start) = (table(2), now());
    let wire = kakehi_command::proto::Cluster { cluster_id: "a".to_owned(), ..Default::default() };
    let cluster = Arc::new(Cluster::from_wire(wire).expect("a good cluster"));
    let closed = table.set_cluster(cluster, |_| Err("it has no TLS".to_owned())).expect("a good cluster");
    assert!(closed.is_empty());
    let cluster = table.hold(&ClusterId::parse("a").expect("a good name"));
    let ask = Ask { source: IpAddr::from([127, 0, 0, 1]) };
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
