//! Freezing and thawing: nothing is lost, and nothing strange is let in.

use super::*;

fn moved(layer: RecordLayer) -> RecordLayer {
    let bytes = layer.freeze().encode();
    assert!(bytes.len() <= FROZEN_BYTES_MAX);
    RecordLayer::thaw(Frozen::decode(&bytes).expect("what was encoded")).expect("what was frozen")
}

#[test]
fn both_directions_go_on() {
    for suite in SUITES {
        for role in [Role::Server, Role::Client] {
            let (mut layer, mut peer) = Peer::join(role, suite, 5, 7);
            for round in 0_u8..9 {
                let mut input = peer.record(APPLICATION_DATA, &[round]);
                assert_eq!(opened(&mut layer, &mut input), Ok((vec![round], false)));
                layer = moved(layer);
                if round % 3 == 1 {
                    opened(&mut layer, &mut peer.update(round % 2)).expect("a KeyUpdate");
                    layer = moved(layer);
                }
                let output = sealed(&mut layer, &[round; 3]);
                assert_eq!(peer.read(&output).pop(), Some((APPLICATION_DATA, vec![round; 3])));
            }
            assert_eq!((layer.role(), layer.suite()), (role, suite));
        }
    }
}

#[test]
fn a_handshake_message_may_be_half_read() {
    let mut ticket = [0; 4 + 300];
    ticket[..4].copy_from_slice(&[4, 0, 1, 44]);
    let messages = [&ticket[..], &[24, 0, 0, 1, 1]].concat();
    for cut in 1..messages.len() {
        let (mut layer, mut peer) = Peer::new(Role::Client);
        let (first, second) = messages.split_at(cut);
        opened(&mut layer, &mut peer.record(HANDSHAKE, first)).expect("the first part");
        let mut layer = moved(layer);
        opened(&mut layer, &mut peer.record(HANDSHAKE, second)).expect("the second part");
        peer.rekey();
        assert!(moved(layer).owes_output());
    }
}

#[test]
fn what_counts_is_kept() {
    let (mut layer, mut peer) = Peer::new(Role::Server);
    for _ in 0..SILENT_RECORDS_MAX {
        opened(&mut layer, &mut peer.record(APPLICATION_DATA, b"")).expect("so many are allowed");
    }
    let mut layer = moved(layer);
    assert_eq!(layer.open(&mut peer.record(APPLICATION_DATA, b"")), Err(Violation::Silent));
    assert_eq!(RecordLayer::thaw(layer.freeze()).err(), Some(Unthawable::Failed));

    let (mut layer, mut peer) = Peer::new(Role::Server);
    opened(&mut layer, &mut peer.record(ALERT, &[1, 0])).expect("close_notify");
    let mut layer = moved(layer);
    assert_eq!(layer.open(&mut [1, 2, 3]), Ok(Opened::Closed { consumed: 3 }));
    assert_eq!(layer.close_notify(&mut [0; 100]), ALERT_RECORD_BYTES);
    assert!(moved(layer).is_closed());
}

#[test]
fn what_was_not_frozen_is_refused() {
    type Change = fn(&mut Frozen);
    let frozen = || Peer::new(Role::Server).0.freeze();
    assert!(RecordLayer::thaw(frozen()).is_ok());
    let changes: [(Change, &str); 8] = [
        (|frozen| frozen.suite = 0x1304, "TLS13_AES_128_CCM_SHA256 is no suite of our record layer"),
        (|frozen| frozen.suite = 0x10000, "suite is out of range"),
        (|frozen| frozen.our_secret = vec![0; 48], "a traffic secret of 48 bytes, 32 are needed"),
        (|frozen| frozen.their_secret = vec![0; 99], "a traffic secret of 99 bytes, 32 are needed"),
        (|frozen| frozen.silent = 33, "silent is out of range"),
        (|frozen| frozen.message_head = vec![0; 4], "the handshake message is out of range"),
        (
            |frozen| (frozen.in_key_update, frozen.ticket_left) = (true, 1),
            "the handshake message is out of range",
        ),
        (|frozen| frozen.failed = true, "a connection that had failed before it was frozen"),
    ];
    for (change, reason) in changes {
        let mut frozen = frozen();
        change(&mut frozen);
        let refused = RecordLayer::thaw(frozen).expect_err(reason);
        assert_eq!(refused.to_string(), reason);
    }
    assert!(matches!(Frozen::decode(&[0xff; 10]), Err(Unthawable::Undecodable(_))));
    assert_eq!(Frozen::decode(&[0; 257]).err(), Some(Unthawable::TooLong(257)));
}
