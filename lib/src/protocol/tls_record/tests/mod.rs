//! A peer that says whatever it is told to, and what several tests ask.

mod differential;
mod moving;
mod rules;

use super::key::Direction;
use super::*;

const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305];

fn traffic(suite: Suite, fill: u8, sequence: u64) -> Traffic {
    let secret =
        TrafficSecret::new(&vec![fill; suite.secret_bytes()]).expect("a secret of the suite's length");
    Traffic { secret, sequence }
}

/// The other end, with the keys but none of the rules.
struct Peer {
    suite: Suite,
    sealing: Direction,
    opening: Direction,
}

impl Peer {
    /// A connection of which `role` is ours, at these record numbers.
    fn join(role: Role, suite: Suite, our_sequence: u64, their_sequence: u64) -> (RecordLayer, Self) {
        let ours = || traffic(suite, 1, our_sequence);
        let theirs = || traffic(suite, 2, their_sequence);
        let layer = RecordLayer::new(role, suite, ours(), theirs()).expect("secrets of the suite's length");
        let direction = |traffic| Direction::new(suite, traffic).expect("a key");
        (layer, Self { suite, sealing: direction(theirs()), opening: direction(ours()) })
    }

    fn new(role: Role) -> (RecordLayer, Self) {
        Self::join(role, Suite::Aes128Gcm, 0, 0)
    }

    /// A record without padding.
    fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut record = vec![0; content.len() + OVERHEAD_BYTES];
        let bytes = self.sealing.seal(kind, content, &mut record).expect("a record");
        assert_eq!(bytes, record.len());
        record
    }

    /// A record with so many zeros behind its type, at least one.
    fn padded(&mut self, kind: u8, content: &[u8], zeros: usize) -> Vec<u8> {
        let inner = [content, &[kind], &vec![0; zeros - 1]].concat();
        self.record(0, &inner)
    }

    /// A KeyUpdate, and the new key.
    fn update(&mut self, value: u8) -> Vec<u8> {
        let record = self.record(HANDSHAKE, &[24, 0, 0, 1, value]);
        self.rekey();
        record
    }

    fn rekey(&mut self) {
        self.sealing = self.sealing.next(self.suite).expect("a key");
    }

    /// What is in our records: types and contents. Follows our key updates.
    fn read(&mut self, mut output: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut contents = Vec::new();
        while let Some((&header, rest)) = output.split_first_chunk::<HEADER_BYTES>() {
            assert_eq!(header[..3], [23, 3, 3]);
            let (body, rest) = rest.split_at(u16::from_be_bytes([header[3], header[4]]).into());
            let mut body = body.to_vec();
            let inner = self.opening.open(header, &mut body).expect("sealed with our key");
            let (&mut kind, content) = inner.split_last_mut().expect("a type");
            if kind == HANDSHAKE {
                assert_eq!(content, KEY_UPDATE_NOT_REQUESTED);
                self.opening = self.opening.next(self.suite).expect("a key");
            }
            contents.push((kind, content.to_vec()));
            output = rest;
        }
        assert!(output.is_empty(), "whole records");
        contents
    }
}

/// All that `layer` writes for this plaintext, in a buffer with room for it.
fn sealed(layer: &mut RecordLayer, plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0; RecordLayer::sealed_bytes_max(plain.len())];
    let Sealed { taken, produced } = layer.seal(plain, &[], &mut out).expect("an open connection");
    assert_eq!(taken, plain.len());
    out.truncate(produced);
    out
}

/// Opens all of `input`: its data, and whether it ends with close_notify.
fn opened(layer: &mut RecordLayer, input: &mut [u8]) -> Result<(Vec<u8>, bool), Violation> {
    let (mut data, mut at) = (Vec::new(), 0);
    while at < input.len() {
        match layer.open(&mut input[at..])? {
            Opened::Partial { wanted } => panic!("{wanted} bytes wanted of {}", input.len() - at),
            Opened::Record { consumed, data: range } => {
                data.extend_from_slice(&input[at..][range]);
                at += consumed;
            }
            Opened::Closed { consumed } => {
                assert_eq!(at + consumed, input.len());
                return Ok((data, true));
            }
        }
    }
    Ok((data, false))
}
