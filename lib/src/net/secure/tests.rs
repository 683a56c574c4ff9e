//! Against rustls on the other side, over a wire that takes and gives as little as it likes.

mod early;
mod odd;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;
use rustls::ClientConnection;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::room::PLAIN_BYTES_MAX;
use super::*;
use crate::net::{Ready, Stream, Write};
use crate::tls::certificates::Entry;
use crate::tls::material::{Material, Source};
use crate::tls::server_config::{ServerSettings, Shared as SharedTls, server_config};
use crate::tls::ticket_keys::{LIFETIME_DEFAULT, TicketKeys};

/// One direction.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// Bytes that it holds at most.
    room: usize,
    ended: bool,
}

type Shared = Rc<RefCell<Pipe>>;

/// A certificate for localhost, and what a worker serves it with.
struct Site {
    room: Rc<Room>,
    acceptor: Acceptor,
    der: Vec<u8>,
    tls: SharedTls,
    entry: Arc<Entry>,
}

#[derive(Debug)]
struct Identity {
    der: Vec<u8>,
    key: Vec<u8>,
}

impl Source for Identity {
    fn chain(&self) -> Vec<CertificateDer<'_>> {
        vec![CertificateDer::from(&*self.der)]
    }

    fn key(&self) -> PrivateKeyDer<'_> {
        PrivateKeyDer::Pkcs8(self.key.as_slice().into())
    }

    fn ocsp_response(&self) -> Option<&[u8]> {
        None
    }
}

impl Site {
    fn new() -> Self {
        Self::with(&ServerSettings::default())
    }

    fn with(settings: &ServerSettings) -> Self {
        let key = rcgen::KeyPair::generate().expect("keys can be made");
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("it can be signed");
        let der = certificate.der().to_vec();
        let source = Identity { der: der.clone(), key: key.serialize_der() };
        let material = Material::new(Arc::new(source)).expect("it can be served");
        let entry = Arc::new(Entry::new([0; 32], ["localhost"], i64::MAX, Arc::new(material)));
        let tls = SharedTls::default();
        tls.clock.set(1_700_000_000);
        let keys = TicketKeys::new(Vec::new(), LIFETIME_DEFAULT).rotate(1_700_000_000, &[7; 48]);
        tls.ticket_keys.replace(keys);
        let room = Room::new(4, 4, tls.secrets.clone());
        let config = server_config(settings, &tls, Arc::default(), Some(entry.clone())).expect("sound");
        let acceptor = Acceptor { config, choices: tls.choices.clone() };
        Self { room, acceptor, der, tls, entry }
    }

    fn client(&self, version: &'static rustls::SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone().into()).expect("a certificate");
        let provider = crate::tls::provider::provider(&[], &[]);
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

/// Our end of a wire.
struct Wire {
    incoming: Shared,
    outgoing: Shared,
    /// Bytes that one call moves at most.
    step: usize,
}

impl Stream for Wire {
    type Pipe = ();

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.incoming.borrow_mut();
        if pipe.bytes.is_empty() {
            return if pipe.ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = into.len().min(self.step).min(pipe.bytes.len());
        for (slot, byte) in into.iter_mut().zip(pipe.bytes.drain(..count)) {
            *slot = byte;
        }
        Ok(count)
    }

    fn peek(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let pipe = self.incoming.borrow();
        if pipe.bytes.is_empty() && !pipe.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(into.iter_mut().zip(&pipe.bytes).map(|(slot, byte)| *slot = *byte).count())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.outgoing.borrow_mut();
        let count = bytes.len().min(self.step).min(pipe.room - pipe.bytes.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        pipe.bytes.extend(&bytes[..count]);
        Ok(count)
    }

    fn write_pair(&mut self, first: &[u8], _second: &[u8]) -> io::Result<usize> {
        self.write(first)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.outgoing.borrow_mut().ended = true;
        Ok(())
    }

    fn is_quiet(&mut self) -> bool {
        let pipe = self.incoming.borrow();
        pipe.bytes.is_empty() && !pipe.ended
    }

    fn abort(&mut self) {}

    fn fill(&mut self, (): &mut (), _max: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn drain(&mut self, (): &mut (), _max: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unacknowledged(&mut self) -> Option<u64> {
        None
    }
}

/// A client of rustls and our server, joined.
struct Pair {
    client: ClientConnection,
    socket: Socket<Wire>,
    server: Box<Tls>,
    to_server: Shared,
    to_client: Shared,
    room: Rc<Room>,
    /// What our side read.
    read: Vec<u8>,
    /// What it has yet to write.
    unwritten: VecDeque<u8>,
    ended: Option<bool>,
    received: Vec<u8>,
}

const BOTH: Ready = Ready { readable: true, writable: true, read_closed: false, gone: false };

impl Pair {
    fn new(version: &'static rustls::SupportedProtocolVersion, step: usize, room_bytes: usize) -> Self {
        let site = Site::new();
        let client = site.client(version);
        Self::with(&site, client, step, room_bytes)
    }

    fn with(site: &Site, client: Arc<ClientConfig>, step: usize, room_bytes: usize) -> Self {
        let Site { room, acceptor, .. } = site;
        let to_server = Shared::default();
        let to_client = Shared::default();
        to_server.borrow_mut().room = usize::MAX;
        to_client.borrow_mut().room = room_bytes;
        let wire = Wire { incoming: to_server.clone(), outgoing: to_client.clone(), step };
        let permit = room.permit([127, 0, 0, 1].into(), None).expect("the first");
        let name = ServerName::try_from("localhost").expect("a name");
        Self {
            client: ClientConnection::new(client, name).expect("a client"),
            socket: Socket::accepted(wire, 0),
            server: Tls::accept(room, acceptor, permit).expect("a server"),
            to_server,
            to_client,
            room: room.clone(),
            read: Vec::new(),
            unwritten: VecDeque::new(),
            ended: None,
            received: Vec::new(),
        }
    }

    /// Lets the client send what it has, and take what there is.
    fn turn_client(&mut self) -> bool {
        let mut moved = false;
        while self.client.wants_write() {
            let mut bytes = Vec::new();
            moved |= self.client.write_tls(&mut bytes).expect("memory") > 0;
            self.to_server.borrow_mut().bytes.extend(bytes);
        }
        let bytes: Vec<u8> = self.to_client.borrow_mut().bytes.drain(..).collect();
        moved |= !bytes.is_empty();
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).expect("memory");
            self.client.process_new_packets().expect("our records are sound");
            let mut plain = [0; 4096];
            while let Ok(count) = self.client.reader().read(&mut plain) {
                if count == 0 {
                    break;
                }
                self.received.extend(&plain[..count]);
            }
        }
        moved
    }

    fn turn_server(&mut self) -> bool {
        self.socket.note(BOTH);
        let mut moved = false;
        let mut into = [0; 3000];
        while self.ended.is_none() && (self.socket.is_readable() || self.server.wants_turn(true)) {
            match self.server.read(&mut self.socket, &mut into) {
                Read::Bytes(count) => {
                    self.read.extend(&into[..count]);
                    moved = true;
                }
                Read::Nothing => break,
                Read::Thirsty => panic!("there are buffers"),
                Read::End => self.ended = Some(true),
                Read::Failed(_) => self.ended = Some(false),
            }
        }
        while !self.unwritten.is_empty() {
            let (first, second) = self.unwritten.as_slices();
            match self.server.write(&mut self.socket, first, second) {
                Write::Bytes(count) => {
                    self.unwritten.drain(..count);
                    moved = true;
                }
                Write::Nothing => break,
                Write::Thirsty => panic!("there are buffers"),
                Write::Failed(error) => panic!("{error}"),
            }
        }
        moved
    }

    fn run(&mut self) {
        for _ in 0..100_000 {
            let client = self.turn_client();
            let waiting = self.to_server.borrow().bytes.len();
            let server = self.turn_server();
            let took = self.to_server.borrow().bytes.len() < waiting;
            let brought = !self.to_client.borrow().bytes.is_empty();
            if !client && !server && !took && !brought {
                return;
            }
        }
        panic!("they go on for ever");
    }
}

fn exchange(
    version: &'static rustls::SupportedProtocolVersion,
    step: usize,
    room: usize,
    up: &[u8],
    down: &[u8],
) {
    let mut pair = Pair::new(version, step, room);
    pair.client.set_buffer_limit(None);
    pair.client.writer().write_all(up).expect("no limit");
    pair.unwritten.extend(down);
    pair.run();
    assert!(!pair.server.is_handshaking());
    assert_eq!(pair.server.take_news(), Some(News::Established));
    assert_eq!(pair.read, up);
    assert_eq!(pair.received, down);
    assert_eq!(pair.server.facts().map(|facts| facts.version), Some(version.version));
    assert!(!pair.server.holds_record(), "nothing is under way");
    assert_eq!(pair.room.buffers_in_use(), 0);
    assert_eq!(pair.room.handshakes(), 0);
    pair.client.send_close_notify();
    pair.run();
    assert_eq!(pair.ended, Some(true), "an orderly end");
    pair.server.close_notify(&mut pair.socket);
    pair.run();
    while pair.server.owes_farewell() {
        pair.socket.note(BOTH);
        pair.server.flush(&mut pair.socket);
        pair.turn_client();
    }
    assert!(pair.client.process_new_packets().expect("sound").peer_has_closed());
    pair.room.check_invariants();
}

#[test]
fn both_versions_carry_both_ways() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        exchange(version, usize::MAX, usize::MAX, b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        legacy in any::<bool>(),
        step in prop_oneof![1..40usize, 1000..70_000usize],
        room in prop_oneof![1..200usize, 1000..70_000usize],
        up in proptest::collection::vec(any::<u8>(), 0..60_000),
        down in proptest::collection::vec(any::<u8>(), 0..60_000),
    ) {
        let version = if legacy { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
        exchange(version, step, room, &up, &down);
    }
}

#[test]
fn our_direction_ends_behind_a_farewell_that_had_to_wait() {
    let mut pair = Pair::new(&rustls::version::TLS13, usize::MAX, 1000);
    pair.run();
    pair.server.flush(&mut pair.socket);
    pair.run();
    pair.to_client.borrow_mut().room = 5;
    pair.server.shutdown_write(&mut pair.socket);
    assert!(pair.server.owes_farewell() && !pair.to_client.borrow().ended);
    pair.turn_client();
    pair.to_client.borrow_mut().room = 1000;
    pair.turn_server();
    assert!(!pair.server.owes_farewell() && pair.to_client.borrow().ended);
    pair.turn_client();
    assert!(pair.client.process_new_packets().expect("sound").peer_has_closed());
}

#[test]
fn bytes_follow_an_answer_to_a_key_update_at_once() {
    let mut pair = Pair::new(&rustls::version::TLS13, usize::MAX, 1000);
    pair.run();
    pair.server.flush(&mut pair.socket);
    pair.run();
    pair.client.refresh_traffic_keys().expect("TLS 1.3");
    pair.turn_client();
    pair.turn_server();
    pair.to_client.borrow_mut().room = 10;
    pair.server.flush(&mut pair.socket);
    assert!(pair.server.holds_record(), "a part of the answer has gone");
    pair.turn_client();
    pair.to_client.borrow_mut().room = 1000;
    pair.socket.note(BOTH);
    let written = pair.server.write(&mut pair.socket, b"x", &[]);
    assert!(matches!(written, Write::Bytes(1)), "no other event will come: {written:?}");
    pair.run();
    assert_eq!(pair.received, b"x");
}

#[test]
fn an_end_that_came_with_data_is_told_behind_it() {
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
        assert!(pair.server.wants_turn(false), "{version:?}: no event tells of the end");
        let read = pair.server.read(&mut pair.socket, &mut into);
        assert!(matches!(read, Read::End), "{version:?}: {read:?}");
        assert!(!pair.server.wants_turn(false), "{version:?}: told once");
    }
}

#[test]
fn a_cut_is_no_end() {
    let mut pair = Pair::new(&rustls::version::TLS13, usize::MAX, usize::MAX);
    pair.run();
    assert!(!pair.server.is_handshaking());
    pair.to_server.borrow_mut().ended = true;
    pair.run();
    assert_eq!(pair.ended, Some(false));
}

#[test]
fn key_updates_go_on() {
    let mut pair = Pair::new(&rustls::version::TLS13, usize::MAX, usize::MAX);
    for round in 0..5_u8 {
        pair.client.writer().write_all(&[round]).expect("room");
        // Not before the handshake is over.
        let _ = pair.client.refresh_traffic_keys();
        pair.unwritten.extend([round, round]);
        pair.run();
    }
    assert_eq!(pair.read, [0, 1, 2, 3, 4]);
    assert_eq!(pair.received, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
}

#[test]
fn what_is_no_handshake_is_told_so() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0],
        &[22, 3, 1, 255, 255, 1],
    ] {
        let mut pair = Pair::new(&rustls::version::TLS13, usize::MAX, usize::MAX);
        pair.to_server.borrow_mut().bytes.extend(bytes);
        pair.turn_server();
        assert_eq!(pair.ended, Some(false), "{bytes:?}");
        assert!(matches!(pair.server.take_news(), Some(News::Failed(_))));
        assert_eq!(pair.to_client.borrow().bytes.front(), Some(&21), "an alert");
        assert_eq!(pair.room.handshakes(), 0);
    }
}

#[test]
fn tickets_wait_for_the_first_answer() {
    let mut pair = Pair::new(&rustls::version::TLS13, usize::MAX, usize::MAX);
    pair.run();
    assert_eq!(pair.server.take_news(), Some(News::Established));
    assert!(matches!(pair.server.outbound, Outbound::Flight { deferred: true, .. }));
    assert!(pair.to_client.borrow().bytes.is_empty());
    pair.server.flush(&mut pair.socket);
    assert!(matches!(pair.server.outbound, Outbound::Nothing));
    assert!(!pair.to_client.borrow().bytes.is_empty());
}

#[test]
fn a_writer_is_told_of_no_byte_that_was_not_sent() {
    let mut pair = Pair::new(&rustls::version::TLS13, usize::MAX, usize::MAX);
    pair.run();
    pair.server.flush(&mut pair.socket);
    pair.to_client.borrow_mut().bytes.clear();
    pair.to_client.borrow_mut().room = 50;
    pair.socket.note(BOTH);
    assert!(matches!(pair.server.write(&mut pair.socket, &[7; 100], &[]), Write::Nothing));
    assert!(pair.server.has_begun_write() && pair.server.holds_record());
    pair.to_client.borrow_mut().room = usize::MAX;
    pair.socket.note(BOTH);
    // More may follow what was offered.
    assert!(matches!(pair.server.write(&mut pair.socket, &[7; 100], &[8; 100]), Write::Bytes(100)));
    assert!(!pair.server.has_begun_write() && !pair.server.holds_record());
}

#[test]
fn long_bodies_are_sealed_by_several_records() {
    for room in [usize::MAX, 10_000] {
        let mut pair = Pair::new(&rustls::version::TLS13, usize::MAX, room);
        pair.run();
        pair.server.flush(&mut pair.socket);
        let body: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let incoming = Shared::default();
        incoming.borrow_mut().bytes.extend(&body);
        let source = Wire { incoming, outgoing: Shared::default(), step: usize::MAX };
        let mut source = Socket::accepted(source, 1);
        let mut told = 0;
        while told < body.len() {
            source.note(BOTH);
            let Some(Read::Bytes(count)) = pair.server.seal_from(&mut source, body.len() - told) else {
                panic!("there are bytes, and a buffer for them");
            };
            assert!(count > PLAIN_BYTES_MAX || told + count == body.len());
            assert!(pair.server.seal_from(&mut source, 1).is_none(), "one after the other");
            loop {
                pair.socket.note(BOTH);
                let written = pair.server.write(&mut pair.socket, &[], &[]);
                pair.turn_client();
                match written {
                    Write::Bytes(taken) => {
                        assert_eq!(taken, count);
                        break;
                    }
                    Write::Nothing => {}
                    other => panic!("{other:?}"),
                }
            }
            told += count;
        }
        assert!(pair.received == body);
        pair.room.check_invariants();
    }
}

#[test]
fn a_hello_may_come_byte_by_byte() {
    let mut pair = Pair::new(&rustls::version::TLS13, 1, usize::MAX);
    pair.turn_client();
    let hello = pair.to_server.borrow().bytes.len();
    assert!(hello * hello / 2 > HANDSHAKE_BYTES_MAX, "{hello} bytes, with a hybrid key share");
    pair.run();
    assert_eq!(pair.server.take_news(), Some(News::Established));
}

/// What a client says together with its `Finished`.
fn together(
    version: &'static rustls::SupportedProtocolVersion,
    say: impl FnOnce(&mut ClientConnection),
) -> Pair {
    let mut pair = Pair::new(version, usize::MAX, usize::MAX);
    for _ in 0..4 {
        pair.turn_client();
        pair.turn_server();
        let bytes: Vec<u8> = pair.to_client.borrow_mut().bytes.drain(..).collect();
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            pair.client.read_tls(&mut bytes).expect("memory");
            pair.client.process_new_packets().expect("our records are sound");
        }
        if !pair.client.is_handshaking() {
            break;
        }
    }
    say(&mut pair.client);
    pair
}

#[test]
fn what_comes_with_the_end_of_a_handshake_is_heeded() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut pair = together(version, |client| {
            client.writer().write_all(b"request").expect("room");
            client.send_close_notify();
        });
        pair.unwritten.extend(b"answer");
        pair.run();
        assert_eq!((&pair.read[..], &pair.received[..]), (&b"request"[..], &b"answer"[..]), "{version:?}");
        assert_eq!(pair.ended, Some(true), "{version:?}");
        assert_eq!(pair.room.handshakes(), 0);
    }
}

#[test]
fn a_key_update_with_the_end_of_a_handshake_is_answered() {
    let mut pair = together(&rustls::version::TLS13, |client| {
        client.refresh_traffic_keys().expect("established");
        client.writer().write_all(b"request").expect("room");
    });
    pair.unwritten.extend(b"answer");
    pair.run();
    assert_eq!((&pair.read[..], &pair.received[..]), (&b"request"[..], &b"answer"[..]));
}

#[test]
fn one_read_gives_what_came_with_the_end_of_a_handshake() {
    let mut pair = together(&rustls::version::TLS13, |client| {
        client.writer().write_all(b"request").expect("room");
    });
    pair.turn_client();
    pair.socket.note(BOTH);
    let mut into = [0; 100];
    assert!(matches!(pair.server.read(&mut pair.socket, &mut into), Read::Bytes(7)));
}

#[test]
fn a_violation_is_told_behind_the_tickets_that_wait() {
    let mut pair = Pair::new(&rustls::version::TLS13, usize::MAX, usize::MAX);
    pair.run();
    assert!(matches!(pair.server.outbound, Outbound::Flight { deferred: true, .. }));
    // A record that nobody sealed.
    pair.to_server.borrow_mut().bytes.extend([23, 3, 3, 0, 20]);
    pair.to_server.borrow_mut().bytes.extend([0; 20]);
    pair.turn_server();
    assert_eq!(pair.ended, Some(false));
    let bytes: Vec<u8> = pair.to_client.borrow_mut().bytes.drain(..).collect();
    pair.client.read_tls(&mut &bytes[..]).expect("memory");
    let told = pair.client.process_new_packets();
    assert_eq!(told.err(), Some(rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac)));
}
