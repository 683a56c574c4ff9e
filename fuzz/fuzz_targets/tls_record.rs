//! The TLS 1.3 record layer, in two games. The first bytes choose the game, the suite and the record numbers.
//!
//! - Two of them talk, with every operation there is in any order, cut and moved as the input says: both read
//!   what the other sent, whatever keys change meanwhile.
//! - One of them hears records that are made here, with the right key but any content, some of them changed
//!   afterwards, and bytes that are no records. The records, and what has to come of them, are worked out a
//!   second time, from the RFC.

#![no_main]

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use aws_lc_rs::hmac;
use kakehi_lib::protocol::tls_record::{
    ALERT_RECORD_BYTES, Frozen, HEADER_BYTES, Opened, PLAINTEXT_BYTES_MAX, RECORD_BYTES_MAX,
    RECORDS_PER_KEY_MAX, RecordLayer, Role, SILENT_RECORDS_MAX, SealError, Suite, Traffic, TrafficSecret,
    Violation,
};
use libfuzzer_sys::fuzz_target;

const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305];

fn secret(suite: Suite, fill: u8) -> Vec<u8> {
    vec![fill; suite.secret_bytes()]
}

fn layer(
    role: Role,
    suite: Suite,
    (our_fill, ours): (u8, u64),
    (their_fill, theirs): (u8, u64),
) -> RecordLayer {
    let traffic = |fill, sequence| Traffic {
        secret: TrafficSecret::new(&secret(suite, fill)).expect("a secret"),
        sequence,
    };
    RecordLayer::new(role, suite, traffic(our_fill, ours), traffic(their_fill, theirs))
        .expect("secrets that fit")
}

fn moved(layer: RecordLayer) -> RecordLayer {
    let bytes = layer.freeze().encode();
    RecordLayer::thaw(Frozen::decode(&bytes).expect("what was encoded")).expect("what was frozen")
}

/// One of the two that talk.
struct Side {
    layer: Option<RecordLayer>,
    /// On the way to it, and there without being read.
    coming: Vec<u8>,
    held: Vec<u8>,
    sent: Vec<u8>,
    read: Vec<u8>,
    told_closed: bool,
}

impl Side {
    fn new(layer: RecordLayer) -> Self {
        let layer = Some(layer);
        let (coming, held, sent, read) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { layer, coming, held, sent, read, told_closed: false }
    }

    fn layer(&mut self) -> &mut RecordLayer {
        self.layer.as_mut().expect("there, unless it moves")
    }

    /// Sends some bytes, in as much room as given; what goes out.
    fn send(&mut self, bytes: usize, split: usize, room: usize) -> Vec<u8> {
        let at = self.sent.len();
        let plain: Vec<u8> = (at..at + bytes).map(|i| (i * 31 >> 2) as u8).collect();
        let (first, second) = plain.split_at(split.min(bytes));
        let mut out = vec![0; room];
        match self.layer().seal(first, second, &mut out) {
            Ok(sealed) => {
                assert!(sealed.taken <= bytes && sealed.produced <= room);
                assert!(sealed.produced <= RecordLayer::sealed_bytes_max(sealed.taken));
                assert!(
                    room < RecordLayer::sealed_bytes_max(bytes) || sealed.taken == bytes,
                    "there was room"
                );
                self.sent.extend(&plain[..sealed.taken]);
                out.truncate(sealed.produced);
                out
            }
            Err(error) => {
                assert_eq!(error, SealError::Closed);
                assert!(self.layer().is_closed());
                Vec::new()
            }
        }
    }

    fn send_in_place(&mut self, bytes: usize, room: usize) -> Vec<u8> {
        let at = self.sent.len();
        let mut record = vec![0; room.max(HEADER_BYTES + bytes)];
        for (place, i) in record[HEADER_BYTES..HEADER_BYTES + bytes].iter_mut().zip(at..) {
            *place = (i * 31 >> 2) as u8;
        }
        let plain = record[HEADER_BYTES..HEADER_BYTES + bytes].to_vec();
        match self.layer().seal_in_place(&mut record, bytes) {
            Ok(produced) => {
                assert!(produced <= RecordLayer::sealed_bytes_max(bytes));
                self.sent.extend(plain);
                record.truncate(produced);
                record
            }
            Err(SealError::NoRoom) => {
                assert!(bytes > PLAINTEXT_BYTES_MAX || record.len() < RecordLayer::sealed_bytes_max(bytes));
                assert_eq!(record[HEADER_BYTES..HEADER_BYTES + bytes], plain);
                Vec::new()
            }
            Err(error) => {
                assert_eq!(error, SealError::Closed);
                Vec::new()
            }
        }
    }

    /// Reads so many of the bytes that are on the way.
    fn arrive(&mut self, bytes: usize) {
        let bytes = bytes.min(self.coming.len());
        self.held.extend(self.coming.drain(..bytes));
        loop {
            let mut held = std::mem::take(&mut self.held);
            let opened = self.layer().open(&mut held).expect("the other keeps the rules");
            let consumed = match opened {
                Opened::Partial { wanted } => {
                    assert!(wanted > held.len());
                    self.held = held;
                    return;
                }
                Opened::Record { consumed, data } => {
                    self.read.extend(&held[data]);
                    consumed
                }
                Opened::Closed { consumed } => {
                    self.told_closed = true;
                    consumed
                }
            };
            held.drain(..consumed);
            self.held = held;
            if self.told_closed {
                return;
            }
        }
    }
}

/// Two that talk.
fn talk(suite: Suite, numbers: [u8; 2], mut input: &[u8]) {
    // Close before the change of keys, if at all.
    let number =
        |byte: u8| if byte < 128 { byte.into() } else { RECORDS_PER_KEY_MAX - u64::from(byte - 127) };
    let [ours, theirs] = [(1, number(numbers[0])), (2, number(numbers[1]))];
    let mut sides = [
        Side::new(layer(Role::Server, suite, ours, theirs)),
        Side::new(layer(Role::Client, suite, theirs, ours)),
    ];
    while let Some((&[operation, x, y], rest)) = input.split_first_chunk() {
        input = rest;
        let who = usize::from(operation & 1);
        let (size, other) = (usize::from(x) * usize::from(x), usize::from(y) * 9);
        let output = match operation >> 1 & 7 {
            0 => sides[who].send(size, other, RecordLayer::sealed_bytes_max(size)),
            1 => sides[who].send(size, usize::from(y), usize::from(y) * 64),
            2 => sides[who].send_in_place(size.min(PLAINTEXT_BYTES_MAX + 1), size + other),
            3 => {
                sides[who].layer = sides[who].layer.take().map(moved);
                Vec::new()
            }
            4 if x == 0 && y == 0 => {
                let mut out = [0; ALERT_RECORD_BYTES];
                let bytes = sides[who].layer().close_notify(&mut out);
                out[..bytes].to_vec()
            }
            _ => {
                sides[who].arrive(size * 4 + usize::from(y));
                Vec::new()
            }
        };
        sides[1 - who].coming.extend(output);
    }
    let [a, b] = &mut sides;
    a.arrive(usize::MAX);
    b.arrive(usize::MAX);
    assert!(a.read == b.sent && b.read == a.sent, "both read what the other sent");
    assert!(a.told_closed == b.layer().is_closed() && b.told_closed == a.layer().is_closed());
}

/// Makes records from the RFC's own words, with its own idea of keys.
struct Sealer {
    suite: Suite,
    hash: hmac::Algorithm,
    cipher: &'static Algorithm,
    secret: Vec<u8>,
    sequence: u64,
}

impl Sealer {
    fn new(suite: Suite, secret: Vec<u8>, sequence: u64) -> Self {
        let (hash, cipher) = match suite {
            Suite::Aes128Gcm => (hmac::HMAC_SHA256, &AES_128_GCM),
            Suite::Aes256Gcm => (hmac::HMAC_SHA384, &AES_256_GCM),
            Suite::Chacha20Poly1305 => (hmac::HMAC_SHA256, &CHACHA20_POLY1305),
        };
        Self { suite, hash, cipher, secret, sequence }
    }

    /// HKDF-Expand-Label for at most one block of the hash: HMAC(secret, label || 1).
    fn expand(&self, label: &str, bytes: usize) -> Vec<u8> {
        let label = format!("tls13 {label}");
        let info = [&[0, bytes as u8, label.len() as u8], label.as_bytes(), &[0, 1]].concat();
        hmac::sign(&hmac::Key::new(self.hash, &self.secret), &info).as_ref()[..bytes].to_vec()
    }

    fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
        let key = self.expand("key", self.cipher.key_len());
        let key = LessSafeKey::new(UnboundKey::new(self.cipher, &key).expect("a key"));
        let mut nonce: [u8; 12] = self.expand("iv", 12).try_into().expect("12 bytes");
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence += 1;
        let length = u16::try_from(inner.len() + 16).expect("short");
        let header = [23, 3, 3, (length >> 8) as u8, length as u8];
        let mut body = inner.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, Aad::from(header), &mut body).expect("sealed");
        [&header[..], &body].concat()
    }

    fn rekey(&mut self) {
        let secret = self.expand("traffic upd", self.suite.secret_bytes());
        *self = Self::new(self.suite, secret, 0);
    }
}

/// What has to come of a record, by a plain reading of RFC 8446.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Data,
    Silent,
    Rekey,
    Closed,
    Refused,
}

fn judge(kind: u8, content: &[u8], stream: &mut Vec<u8>, client: bool) -> Verdict {
    if kind != 22 && !stream.is_empty() {
        return Verdict::Refused;
    }
    match (kind, content) {
        (23, []) => Verdict::Silent,
        (23, _) => Verdict::Data,
        (21, [_, 0]) => Verdict::Closed,
        (21, [_, 90]) => Verdict::Silent,
        (22, [_, ..]) => {
            stream.extend(content);
            loop {
                let length = match stream[..] {
                    [] => return Verdict::Silent,
                    [24, ..] | [4, ..] if stream[0] == 24 || client => {
                        let Some(&[_, a, b, c]) = stream.first_chunk() else { return Verdict::Silent };
                        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
                    }
                    _ => return Verdict::Refused,
                };
                if stream[0] == 24 {
                    return match stream[..] {
                        [24, 0, 0, 1] => Verdict::Silent,
                        [24, 0, 0, 1, 0 | 1] => Verdict::Rekey,
                        _ => Verdict::Refused,
                    };
                }
                if !(14..=131_337).contains(&length) {
                    return Verdict::Refused;
                }
                if stream.len() < 4 + length {
                    return Verdict::Silent;
                }
                stream.drain(..4 + length);
            }
        }
        _ => Verdict::Refused,
    }
}

/// One that hears anything.
fn hear(suite: Suite, client: bool, number: u8, mut input: &[u8]) {
    let role = if client { Role::Client } else { Role::Server };
    let mut layer = layer(role, suite, (1, 0), (2, number.into()));
    let mut sealer = Sealer::new(suite, secret(suite, 2), number.into());
    let (mut stream, mut silent) = (Vec::new(), 0);
    while let Some((&[operation, kind, size], rest)) = input.split_first_chunk() {
        let (content, rest) = rest.split_at(usize::from(size).min(rest.len()));
        input = rest;
        let kind = match kind & 7 {
            0 => kind,
            1 | 2 => 22,
            3 => 21,
            _ => 23,
        };
        let zeros = usize::from(operation >> 4) * usize::from(operation >> 4) * 75;
        if operation & 3 == 3 {
            layer = moved(layer);
        }
        if operation & 12 == 12 {
            // No record of anybody's, or the beginning of one.
            let mut bytes = content.to_vec();
            match layer.open(&mut bytes) {
                Ok(Opened::Partial { wanted }) => assert!(wanted > bytes.len() && bytes == content),
                Ok(opened) => panic!("{opened:?} from nowhere"),
                Err(violation) => return refused(layer, violation),
            }
            continue;
        }
        let mut record = sealer.seal(&[content, &[kind], &vec![0; zeros]].concat());
        if operation & 12 == 8 {
            // Not the length: that may make it wait for more.
            let at = [0, 1, 2, 5, 6, 7, 8][usize::from(size) % 7];
            record[at] ^= 1 << (operation & 3);
            let violation = layer.open(&mut record).expect_err("a changed record");
            assert_eq!(violation == Violation::BadMac, at > 0 && record.len() <= RECORD_BYTES_MAX);
            return refused(layer, violation);
        }
        let mut verdict = if content.len() + 1 + zeros > PLAINTEXT_BYTES_MAX + 1 {
            Verdict::Refused
        } else if kind == 0 {
            // Then the content's last byte that is not zero is the type.
            let kind = content.iter().rposition(|&byte| byte != 0);
            kind.map_or(Verdict::Refused, |at| judge(content[at], &content[..at], &mut stream, client))
        } else {
            judge(kind, content, &mut stream, client)
        };
        match verdict {
            Verdict::Data => silent = 0,
            Verdict::Silent | Verdict::Rekey => silent += 1,
            Verdict::Closed | Verdict::Refused => {}
        }
        if silent > SILENT_RECORDS_MAX {
            verdict = Verdict::Refused;
        }
        let bytes = record.len();
        match (layer.open(&mut record), verdict) {
            (Ok(Opened::Record { consumed, data }), Verdict::Data) => {
                assert_eq!(consumed, bytes);
                assert!(content.starts_with(&record[data.clone()]) && !data.is_empty());
                assert!(kind == 0 || data.len() == content.len());
            }
            (Ok(Opened::Record { consumed, data }), verdict @ (Verdict::Silent | Verdict::Rekey)) => {
                assert_eq!(consumed, bytes);
                assert!(data.is_empty());
                if verdict == Verdict::Rekey {
                    sealer.rekey();
                    stream.clear();
                }
            }
            (Ok(Opened::Closed { consumed }), Verdict::Closed) => {
                assert_eq!(consumed, bytes);
                assert_eq!(layer.open(&mut record), Ok(Opened::Closed { consumed: bytes }));
                return;
            }
            (Err(violation), Verdict::Refused) => return refused(layer, violation),
            (opened, verdict) => panic!("{opened:?} where it should be {verdict:?}"),
        }
        if layer.owes_output() {
            let mut out = [0; RecordLayer::sealed_bytes_max(0)];
            assert_eq!(layer.seal(&[], &[], &mut out).map(|sealed| sealed.produced), Ok(out.len()));
            assert!(!layer.owes_output());
        }
    }
}

/// The end of a connection that has been judged.
fn refused(mut layer: RecordLayer, violation: Violation) {
    let mut out = [0; ALERT_RECORD_BYTES];
    let told = layer.alert(&violation, &mut out);
    assert_eq!(told, if matches!(violation, Violation::Alert(_)) { 0 } else { out.len() });
    assert_eq!(layer.open(&mut []), Err(violation));
}

fuzz_target!(|input: &[u8]| {
    let Some((&[game, x, y], input)) = input.split_first_chunk() else { return };
    let suite = SUITES[usize::from(game >> 2) % SUITES.len()];
    match game & 1 {
        0 => talk(suite, [x, y], input),
        _ => hear(suite, game & 2 == 2, x, input),
    }
});
