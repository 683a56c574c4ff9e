//! One case for each rule of RFC 8446, with the alert that it asks for.

use rustls::AlertDescription as Description;

use super::*;

const TICKET_BYTES: usize = 14;
/// A session ticket of the shortest kind: nothing in it is looked at.
const TICKET: [u8; 4 + TICKET_BYTES] = [4, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 7, 0, 0];
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// The records break a rule, the last of them; the peer is told so, and nothing works afterwards.
fn refused(
    role: Role,
    records: impl FnOnce(&mut Peer) -> Vec<Vec<u8>>,
    violation: Violation,
    told: Description,
) {
    let (mut layer, mut peer) = Peer::new(role);
    let mut records = records(&mut peer);
    let mut last = records.pop().expect("a record");
    for record in &mut records {
        opened(&mut layer, record).expect("only the last is wrong");
    }
    assert_eq!(layer.open(&mut last), Err(violation), "{violation}");
    assert_eq!(layer.open(&mut peer.record(APPLICATION_DATA, b"more")), Err(violation), "it stays so");

    let mut out = [0; ALERT_RECORD_BYTES];
    assert_eq!(layer.alert(&violation, &mut out), out.len());
    assert_eq!(peer.read(&out), [(ALERT, vec![2, told.into()])], "{violation}");
    assert_eq!(layer.alert(&violation, &mut out), 0, "told once");
    assert_eq!(layer.close_notify(&mut out), 0);
    assert_eq!(layer.seal(b"more", &[], &mut [0; 100]), Err(SealError::Closed));
}

fn accepted(role: Role, records: impl FnOnce(&mut Peer) -> Vec<Vec<u8>>, data: &[u8]) -> RecordLayer {
    let (mut layer, mut peer) = Peer::new(role);
    let mut input = records(&mut peer).concat();
    let (read, _) = opened(&mut layer, &mut input).expect("nothing is wrong");
    assert_eq!(read, data);
    layer
}

fn one(record: Vec<u8>) -> Vec<Vec<u8>> {
    vec![record]
}

#[test]
fn outer_types() {
    for kind in [0, 20, 21, 22, 24, 255] {
        // Told by the first byte: nothing more is waited for.
        let records = |_: &mut Peer| one(vec![kind]);
        refused(Role::Server, records, Violation::Unprotected(kind), Description::UnexpectedMessage);
    }
    let change_cipher_spec = |_: &mut Peer| one(vec![20, 3, 3, 0, 1, 1]);
    refused(Role::Client, change_cipher_spec, Violation::Unprotected(20), Description::UnexpectedMessage);
}

#[test]
fn lengths() {
    let header = |length: u16| [&[23, 3, 3][..], &length.to_be_bytes()].concat();
    for (length, bytes) in [(16_641, 16_641), (u16::MAX, 65_535)] {
        let records = |_: &mut Peer| one(header(length));
        refused(Role::Server, records, Violation::RecordTooLong(bytes), Description::RecordOverflow);
    }
    for length in [0, 1, 15, 16, 17] {
        let records = |_: &mut Peer| one([header(length), vec![9; length.into()]].concat());
        refused(Role::Server, records, Violation::BadMac, Description::BadRecordMac);
    }
    let longest = vec![7; PLAINTEXT_BYTES_MAX];
    accepted(Role::Server, |peer| one(peer.record(APPLICATION_DATA, &longest)), &longest);
    // One byte of content too many, and the same with padding.
    let content = [&longest[..], &[7]].concat();
    let too_long = Violation::ContentTooLong(PLAINTEXT_BYTES_MAX + 2);
    let records = |peer: &mut Peer| one(peer.record(APPLICATION_DATA, &content));
    refused(Role::Server, records, too_long, Description::RecordOverflow);
    let records = |peer: &mut Peer| one(peer.padded(APPLICATION_DATA, &longest, 1));
    refused(Role::Server, records, too_long, Description::RecordOverflow);
    // The longest that can be sealed at all.
    let longest = SEALED_BYTES_MAX - TAG_BYTES;
    let records = |peer: &mut Peer| one(peer.padded(APPLICATION_DATA, &[], longest - 1));
    refused(Role::Server, records, Violation::ContentTooLong(longest), Description::RecordOverflow);
}

#[test]
fn padding() {
    for zeros in [1, 2, 15, 300, PLAINTEXT_BYTES_MAX - 3] {
        accepted(Role::Server, |peer| one(peer.padded(APPLICATION_DATA, b"a\0\0", zeros)), b"a\0\0");
    }
    accepted(Role::Server, |peer| one(peer.padded(ALERT, &[1, 0], 9)), b"");
    accepted(Role::Server, |peer| one(peer.padded(HANDSHAKE, &KEY_UPDATE, 9)), b"");
    for zeros in [0, 1, PLAINTEXT_BYTES_MAX] {
        let records = |peer: &mut Peer| one(peer.record(0, &vec![0; zeros]));
        refused(Role::Server, records, Violation::OnlyPadding, Description::UnexpectedMessage);
    }
}

#[test]
fn inner_types() {
    for kind in [1, 20, 24, 255] {
        let records = |peer: &mut Peer| one(peer.record(kind, b"x"));
        refused(Role::Client, records, Violation::ContentType(kind), Description::UnexpectedMessage);
    }
    for kind in [ALERT, HANDSHAKE] {
        let records = |peer: &mut Peer| one(peer.record(kind, b""));
        refused(Role::Client, records, Violation::EmptyRecord(kind), Description::UnexpectedMessage);
    }
}

#[test]
fn alerts() {
    for bytes in [1, 3, 4] {
        let records = |peer: &mut Peer| one(peer.record(ALERT, &vec![1; bytes]));
        refused(Role::Server, records, Violation::AlertLength(bytes), Description::DecodeError);
    }
    // Errors whatever their level, unknown ones included; not answered.
    for (level, code) in [(2, 20), (1, 20), (2, 40), (1, 100), (2, 200), (0, 80)] {
        let (mut layer, mut peer) = Peer::new(Role::Server);
        let violation = Violation::Alert(code.into());
        assert_eq!(layer.open(&mut peer.record(ALERT, &[level, code])), Err(violation));
        assert_eq!(layer.alert(&violation, &mut [0; 100]), 0);
    }
    // Whatever its level.
    for level in [1, 2] {
        accepted(Role::Server, |peer| one(peer.record(ALERT, &[level, 0])), b"");
    }
    let layer = accepted(
        Role::Server,
        |peer| {
            vec![
                peer.record(ALERT, &[1, 90]),
                peer.record(APPLICATION_DATA, b"last"),
                peer.record(ALERT, &[1, 0]),
            ]
        },
        b"last",
    );
    assert_eq!(layer.reading, Reading::Closed);
}

#[test]
fn what_follows_close_notify_is_ignored() {
    let (mut layer, mut peer) = Peer::new(Role::Server);
    let mut input = peer.record(ALERT, &[1, 0]);
    let consumed = input.len();
    input.extend(peer.record(APPLICATION_DATA, b"late"));
    assert_eq!(layer.open(&mut input), Ok(Opened::Closed { consumed }));
    assert_eq!(layer.open(&mut input[consumed..]), Ok(Opened::Closed { consumed: 26 }));
    assert_eq!(layer.open(b"anything".to_vec().as_mut()), Ok(Opened::Closed { consumed: 8 }));
    // The other direction lives on.
    let output = sealed(&mut layer, b"answer");
    assert_eq!(peer.read(&output), [(APPLICATION_DATA, b"answer".to_vec())]);
    let mut out = [0; ALERT_RECORD_BYTES];
    assert_eq!(layer.close_notify(&mut out[1..]), 0, "no room");
    assert!(!layer.is_closed());
    assert_eq!(layer.close_notify(&mut out), out.len());
    assert_eq!(peer.read(&out), [(ALERT, vec![1, 0])]);
    assert!(layer.is_closed());
    assert_eq!(layer.close_notify(&mut out), 0);
    assert_eq!(layer.seal_in_place(&mut [0; 100], 1), Err(SealError::Closed));
}

#[test]
fn handshake_messages() {
    // ClientHello, EndOfEarlyData, Certificate, CertificateRequest, Finished: all of the handshake is over.
    for kind in [0, 1, 2, 5, 8, 11, 13, 15, 20, 254] {
        for role in [Role::Server, Role::Client] {
            let records = |peer: &mut Peer| one(peer.record(HANDSHAKE, &[kind]));
            refused(role, records, Violation::HandshakeType(kind), Description::UnexpectedMessage);
        }
    }
    // Tickets come from servers.
    let records = |peer: &mut Peer| one(peer.record(HANDSHAKE, &TICKET));
    refused(Role::Server, records, Violation::HandshakeType(4), Description::UnexpectedMessage);
    accepted(Role::Client, records, b"");

    let lengths = [
        ([24, 0, 0, 0], 0),
        ([24, 0, 0, 2], 2),
        ([24, 0, 1, 1], 257),
        ([24, 255, 255, 255], 16_777_215),
        ([4, 0, 0, 0], 0),
        ([4, 0, 0, 13], 13),
        ([4, 2, 1, 10], 131_338),
    ];
    for (head, bytes) in lengths {
        let violation = Violation::HandshakeLength { kind: head[0], bytes };
        let records = |peer: &mut Peer| one(peer.record(HANDSHAKE, &head));
        refused(Role::Client, records, violation, Description::DecodeError);
    }
    for value in [2, 255] {
        let records = |peer: &mut Peer| one(peer.record(HANDSHAKE, &[24, 0, 0, 1, value]));
        refused(Role::Client, records, Violation::KeyUpdateValue(value), Description::IllegalParameter);
    }
}

#[test]
fn messages_spread_over_records() {
    for cut in 1..KEY_UPDATE.len() {
        let (first, second) = KEY_UPDATE.split_at(cut);
        accepted(
            Role::Server,
            |peer| {
                let update = vec![peer.record(HANDSHAKE, first), peer.record(HANDSHAKE, second)];
                peer.rekey();
                [update, one(peer.record(APPLICATION_DATA, b"new key"))].concat()
            },
            b"new key",
        );
        for (kind, content) in [(APPLICATION_DATA, &b"x"[..]), (APPLICATION_DATA, b""), (ALERT, &[1, 0])] {
            let records = |peer: &mut Peer| vec![peer.record(HANDSHAKE, first), peer.record(kind, content)];
            refused(Role::Server, records, Violation::Interleaved(kind), Description::UnexpectedMessage);
        }
    }
    // Tickets, one after the other and a KeyUpdate last, however they are cut.
    let messages = [&TICKET[..], &TICKET, &KEY_UPDATE].concat();
    for bytes in 2..=messages.len() {
        accepted(
            Role::Client,
            |peer| {
                let mut records: Vec<_> =
                    messages.chunks(bytes).map(|piece| peer.record(HANDSHAKE, piece)).collect();
                peer.rekey();
                records.push(peer.record(APPLICATION_DATA, b"new key"));
                records
            },
            b"new key",
        );
    }
}

#[test]
fn the_longest_ticket_is_read_over() {
    let mut ticket = vec![4, 2, 1, 9];
    ticket.resize(4 + 131_337, 0);
    let read = |peer: &mut Peer| {
        let mut records: Vec<_> =
            ticket.chunks(PLAINTEXT_BYTES_MAX).map(|piece| peer.record(HANDSHAKE, piece)).collect();
        records.push(peer.record(APPLICATION_DATA, b"data"));
        records
    };
    accepted(Role::Client, read, b"data");
}

#[test]
fn a_key_update_ends_its_record() {
    for behind in [&KEY_UPDATE[..], &TICKET, b"x"] {
        let records = |peer: &mut Peer| one(peer.record(HANDSHAKE, &[&KEY_UPDATE, behind].concat()));
        refused(Role::Client, records, Violation::AcrossKeys, Description::UnexpectedMessage);
    }
    // The old key is of no use behind it.
    let records = |peer: &mut Peer| {
        vec![peer.record(HANDSHAKE, &KEY_UPDATE), peer.record(APPLICATION_DATA, b"old key")]
    };
    refused(Role::Server, records, Violation::BadMac, Description::BadRecordMac);
}

#[test]
fn requested_updates_are_answered_once_before_data() {
    for suite in SUITES {
        let (mut layer, mut peer) = Peer::join(Role::Server, suite, 0, 0);
        opened(&mut layer, &mut peer.update(0)).expect("a KeyUpdate");
        assert!(!layer.owes_output(), "not requested");
        for _ in 0..3 {
            opened(&mut layer, &mut peer.update(1)).expect("a KeyUpdate");
            assert!(layer.owes_output());
        }
        assert_eq!(
            layer.seal(b"data", &[], &mut [0; KEY_UPDATE_RECORD_BYTES - 1]),
            Ok(Sealed { taken: 0, produced: 0 })
        );
        let output = sealed(&mut layer, b"data");
        assert!(!layer.owes_output());
        let update = (HANDSHAKE, KEY_UPDATE.to_vec());
        assert_eq!(peer.read(&output), [update.clone(), (APPLICATION_DATA, b"data".to_vec())]);

        // Without data, too.
        opened(&mut layer, &mut peer.update(1)).expect("a KeyUpdate");
        let output = sealed(&mut layer, b"");
        assert_eq!(peer.read(&output), [update]);
        assert_eq!(sealed(&mut layer, b""), b"");
        // Nothing is owed any more when nothing may be sent.
        opened(&mut layer, &mut peer.update(1)).expect("a KeyUpdate");
        assert_eq!(layer.close_notify(&mut [0; 100]), ALERT_RECORD_BYTES);
        assert!(!layer.owes_output());
    }
}

#[test]
fn records_without_data_are_bounded() {
    type Silence = fn(&mut Peer) -> Vec<u8>;
    let silences: [Silence; 5] = [
        |peer| peer.record(APPLICATION_DATA, b""),
        |peer| peer.padded(APPLICATION_DATA, b"", 100),
        |peer| peer.update(1),
        |peer| peer.record(HANDSHAKE, &TICKET),
        |peer| peer.record(ALERT, &[1, 90]),
    ];
    let most = usize::from(SILENT_RECORDS_MAX);
    for silence in silences {
        accepted(
            Role::Client,
            |peer| {
                let mut records: Vec<_> = (0..most).map(|_| silence(peer)).collect();
                records.push(peer.record(APPLICATION_DATA, b"a"));
                records.extend((0..most).map(|_| silence(peer)));
                records.push(peer.record(APPLICATION_DATA, b"b"));
                records
            },
            b"ab",
        );
        let records = |peer: &mut Peer| (0..=most).map(|_| silence(peer)).collect();
        refused(Role::Client, records, Violation::Silent, Description::UnexpectedMessage);
    }
}

#[test]
fn our_key_changes_before_it_is_worn_out() {
    for suite in SUITES {
        let (mut layer, mut peer) = Peer::join(Role::Server, suite, RECORDS_PER_KEY_MAX - 3, 0);
        let plain = vec![7; 4 * PLAINTEXT_BYTES_MAX];
        let mut out = vec![0; RecordLayer::sealed_bytes_max(plain.len())];
        let sealed = layer.seal(&plain, &[], &mut out).expect("an open connection");
        assert_eq!(sealed, Sealed { taken: plain.len(), produced: out.len() }, "the bound is exact here");
        let kinds: Vec<_> = peer.read(&out).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(
            kinds,
            [APPLICATION_DATA, APPLICATION_DATA, HANDSHAKE, APPLICATION_DATA, APPLICATION_DATA]
        );
        assert_eq!(layer.ours.traffic().sequence, 2);
        // Not for nothing.
        let (mut layer, _) = Peer::join(Role::Server, suite, RECORDS_PER_KEY_MAX, 0);
        assert_eq!(layer.seal(&[], &[], &mut out), Ok(Sealed { taken: 0, produced: 0 }));
        assert!(!layer.owes_output());
    }
}

#[test]
fn numbers_do_not_wrap() {
    let (mut layer, mut peer) = Peer::join(Role::Server, Suite::Aes128Gcm, u64::MAX, u64::MAX - 1);
    assert_eq!(layer.open(&mut peer.record(APPLICATION_DATA, b"last")).map(|_| ()), Ok(()));
    let mut record = [&[23, 3, 3, 0, 20][..], &[0; 20]].concat();
    assert_eq!(layer.open(&mut record), Err(Violation::Numbers));
    assert_eq!(layer.seal(b"data", &[], &mut [0; 100]), Err(SealError::Exhausted));
    assert_eq!(layer.close_notify(&mut [0; 100]), 0);
}

#[test]
fn sealing_takes_what_there_is_room_for() {
    let plain: Vec<u8> = (0..=255).cycle().take(2 * PLAINTEXT_BYTES_MAX + 100).collect();
    let lengths =
        [0, 1, 100, PLAINTEXT_BYTES_MAX - 1, PLAINTEXT_BYTES_MAX, PLAINTEXT_BYTES_MAX + 1, plain.len()];
    for room in (0..60).chain([16_405, 16_406, 16_407, 16_428, 16_429, 40_000]) {
        for split in lengths {
            let (mut layer, mut peer) = Peer::new(Role::Client);
            let (first, second) = plain.split_at(split);
            let mut out = vec![0; room];
            let Sealed { taken, produced } = layer.seal(first, second, &mut out).expect("an open connection");
            let contents = peer.read(&out[..produced]);
            assert!(contents.iter().all(|(kind, content)| *kind == APPLICATION_DATA && !content.is_empty()));
            let read: Vec<u8> = contents.into_iter().flat_map(|(_, content)| content).collect();
            assert_eq!(read, plain[..taken], "{room} bytes of room, split at {split}");
            assert!(taken == plain.len() || room - produced <= OVERHEAD_BYTES, "no room is left over");
        }
    }
}

#[test]
fn sealing_in_place() {
    for suite in SUITES {
        for plain in [1, 15, 100, PLAINTEXT_BYTES_MAX] {
            let (mut layer, mut peer) = Peer::join(Role::Server, suite, 0, 0);
            let content: Vec<u8> = (0..=255).cycle().take(plain).collect();
            let fresh = |room: usize| {
                let mut record = vec![0; room];
                record[HEADER_BYTES..][..plain].copy_from_slice(&content);
                record
            };
            let mut record = fresh(plain + OVERHEAD_BYTES);
            assert_eq!(layer.seal_in_place(&mut record, plain), Ok(record.len()));
            assert_eq!(peer.read(&record), [(APPLICATION_DATA, content.clone())]);
            // A KeyUpdate that is due moves it, and needs the room.
            opened(&mut layer, &mut peer.update(1)).expect("a KeyUpdate");
            let mut record = fresh(RecordLayer::sealed_bytes_max(plain) - 1);
            assert_eq!(layer.seal_in_place(&mut record, plain), Err(SealError::NoRoom));
            assert_eq!(record[HEADER_BYTES..][..plain], content);
            let mut record = fresh(RecordLayer::sealed_bytes_max(plain));
            assert_eq!(layer.seal_in_place(&mut record, plain), Ok(record.len()));
            let expected = [(HANDSHAKE, KEY_UPDATE.to_vec()), (APPLICATION_DATA, content.clone())];
            assert_eq!(peer.read(&record), expected);
        }
        let (mut layer, _) = Peer::join(Role::Server, suite, 0, 0);
        let mut record = vec![0; 2 * PLAINTEXT_BYTES_MAX];
        assert_eq!(layer.seal_in_place(&mut record, PLAINTEXT_BYTES_MAX + 1), Err(SealError::NoRoom));
        assert_eq!(layer.seal_in_place(&mut record[..HEADER_BYTES + 1], 1), Err(SealError::NoRoom));
        assert_eq!(layer.seal_in_place(&mut record, 0), Ok(0));
        assert_eq!(layer.ours.traffic().sequence, 0, "no number is spent on what is not sealed");
    }
}

#[test]
fn what_is_incomplete_is_waited_for() {
    let (mut layer, mut peer) = Peer::new(Role::Server);
    let mut record = peer.record(APPLICATION_DATA, b"hello");
    for bytes in 0..record.len() {
        let wanted = if bytes < HEADER_BYTES { HEADER_BYTES } else { record.len() };
        let before = record.clone();
        assert_eq!(layer.open(&mut record[..bytes]), Ok(Opened::Partial { wanted }));
        assert_eq!(record, before);
    }
    let consumed = record.len();
    assert_eq!(layer.open(&mut record), Ok(Opened::Record { consumed, data: 5..10 }));
}

#[test]
fn secrets_of_another_suite_are_refused() {
    for (suite, other) in [(Suite::Aes128Gcm, Suite::Aes256Gcm), (Suite::Aes256Gcm, Suite::Chacha20Poly1305)]
    {
        let (bytes, expected) = (other.secret_bytes(), suite.secret_bytes());
        let refused = RecordLayer::new(Role::Server, suite, traffic(suite, 1, 0), traffic(other, 2, 0));
        assert_eq!(refused.err(), Some(SetupError::SecretLength { bytes, expected }));
    }
    assert!(TrafficSecret::new(&[0; 49]).is_none());
    assert!(Suite::try_from(rustls::CipherSuite::TLS13_AES_128_CCM_SHA256).is_err());
}

#[test]
fn secrets_are_not_shown() {
    let (layer, _) = Peer::new(Role::Server);
    for shown in [format!("{layer:?}"), format!("{:#?}", layer.freeze())] {
        assert!(!shown.contains("1, 1, 1") && !shown.contains("0101"), "{shown}");
        assert!(shown.contains("sequence"), "{shown}");
    }
}
