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
        let wire = AddBackend {
            cluster_id: "a".to_owned(),
            backend_id: port.to_string(),
            address: SocketAddr::from(([127, 0, 0, 1], port)).into(),
            ..Default::default()
        };
        table.set_backend(Arc::new(Backend::from_wire(&wire).expect("a good backend")), now);
    }
    table
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
