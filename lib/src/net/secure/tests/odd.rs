//! What peers do that is odd, and allowed.

use super::*;

#[test]
fn an_end_that_came_with_data_keeps_nobody_awake_who_discards() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut pair = Pair::new(version, usize::MAX, usize::MAX);
        pair.run();
        pair.client.writer().write_all(b"last").expect("no limit");
        pair.client.send_close_notify();
        pair.turn_client();
        pair.socket.note(BOTH);
        let mut into = [0; 100];
        let read = pair.server.read(&mut pair.socket, &mut into);
        assert!(matches!(read, Read::Bytes(4)), "{version:?}: {read:?}");
        let read = pair.server.discard(&mut pair.socket, &mut into);
        assert!(matches!(read, Read::Nothing), "{version:?}: the socket goes on, {read:?}");
        assert!(!pair.server.wants_turn(true), "{version:?}: there is nothing to do before an event");
        pair.to_server.borrow_mut().ended = true;
        pair.socket.note(BOTH);
        let read = pair.server.discard(&mut pair.socket, &mut into);
        assert!(matches!(read, Read::End), "{version:?}: {read:?}");
    }
}

#[test]
fn the_version_of_a_record_says_nothing() {
    // RFC 8446 §5.1: it "MUST be ignored for all purposes". Those of a hello are not in any transcript.
    let site = Site::new();
    let mut config = (*site.client(&rustls::version::TLS13)).clone();
    config.max_fragment_size = Some(64);
    let mut pair = Pair::with(&site, Arc::new(config), usize::MAX, usize::MAX);
    pair.turn_client();
    let record = 64;
    assert_eq!(pair.to_server.borrow().bytes.get(record), Some(&22), "a second record of the hello");
    pair.to_server.borrow_mut().bytes[record + 2] ^= 1;
    pair.run();
    assert_eq!(pair.server.take_news(), Some(News::Established));
}

#[test]
fn what_was_taken_of_a_record_is_known_before_it_has_gone() {
    let mut pair = Pair::new(&rustls::version::TLS13, usize::MAX, 1000);
    pair.run();
    pair.server.flush(&mut pair.socket);
    pair.run();
    let before = pair.server.untold();
    let bytes = [7; 10_000];
    for round in 1..=10 {
        pair.socket.note(BOTH);
        let written = pair.server.write(&mut pair.socket, &bytes, &[]);
        assert!(matches!(written, Write::Nothing), "no writer is told in round {round}: {written:?}");
        assert_eq!(pair.server.untold() - before, round * 1000);
        pair.turn_client();
    }
    pair.socket.note(BOTH);
    assert!(matches!(pair.server.write(&mut pair.socket, &bytes, &[]), Write::Bytes(10_000)));
    assert!((1..100).contains(&(pair.server.untold() - before)), "what a record has beside its bytes");
}
