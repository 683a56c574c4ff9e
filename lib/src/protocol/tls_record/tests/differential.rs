//! rustls as the other end: handshakes in memory, one side of which is then ours.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use proptest::prelude::*;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{AlertDescription, CipherSuite, ClientConfig, Connection, KeyLog, RootCertStore, ServerConfig};

use super::*;

/// Passes secrets on.
#[derive(Debug)]
struct Catch(Sender<(String, Vec<u8>)>);

impl KeyLog for Catch {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        // Nobody listens to the log of the side that is not ours.
        self.0.send((label.to_owned(), secret.to_vec())).ok();
    }
}

/// A connection of which one side is ours.
struct Joined {
    layer: RecordLayer,
    peer: Connection,
    /// What the peer has sent already: tickets.
    input: Vec<u8>,
}

fn connections(suite: Suite, catch: &Arc<Catch>) -> (Connection, Connection) {
    let suites = default_provider().cipher_suites;
    let chosen = suites.into_iter().filter(|known| known.suite() == CipherSuite::from(suite)).collect();
    let provider = Arc::new(CryptoProvider { cipher_suites: chosen, ..default_provider() });
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).expect("a root");
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a suite of TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a suite of TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .expect("a certificate with its key");
    (client.enable_secret_extraction, server.enable_secret_extraction) = (true, true);
    server.key_log = catch.clone();
    let name = "localhost".try_into().expect("a name");
    let client = rustls::ClientConnection::new(Arc::new(client), name).expect("a configuration");
    let server = rustls::ServerConnection::new(Arc::new(server)).expect("a configuration");
    (client.into(), server.into())
}

fn join(role: Role, suite: Suite) -> Joined {
    let (sender, secrets): (_, Receiver<_>) = mpsc::channel();
    let (mut client, mut server) = connections(suite, &Arc::new(Catch(sender)));
    while client.is_handshaking() || server.is_handshaking() {
        feed(&mut server, &written(&mut client)).expect("a handshake");
        if !server.is_handshaking() {
            break;
        }
        feed(&mut client, &written(&mut server)).expect("a handshake");
    }
    let mut input = written(&mut server);
    let (ours, peer) = match role {
        Role::Client => (client, server),
        Role::Server => {
            feed(&mut client, &std::mem::take(&mut input)).expect("tickets");
            (server, client)
        }
    };
    let numbers = ours.dangerous_extract_secrets().expect("a handshake that is over");
    let secrets: Vec<_> = secrets.try_iter().collect();
    let traffic = |label: &str, sequence| {
        let (_, secret) = secrets.iter().find(|(name, _)| name == label).expect("a secret");
        Traffic { secret: TrafficSecret::new(secret).expect("a secret"), sequence }
    };
    let (ours, theirs) = match role {
        Role::Client => ("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"),
        Role::Server => ("SERVER_TRAFFIC_SECRET_0", "CLIENT_TRAFFIC_SECRET_0"),
    };
    let (ours, theirs) = (traffic(ours, numbers.tx.0), traffic(theirs, numbers.rx.0));
    let layer = RecordLayer::new(role, suite, ours, theirs).expect("secrets of the suite's length");
    Joined { layer, peer, input }
}

/// All that rustls has to send.
fn written(connection: &mut Connection) -> Vec<u8> {
    let mut output = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut output).expect("a vector takes all");
    }
    output
}

/// What rustls reads in these bytes.
fn feed(connection: &mut Connection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut data = Vec::new();
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes).expect("memory can be read");
        let waiting = connection.process_new_packets()?.plaintext_bytes_to_read();
        let at = data.len();
        data.resize(at + waiting, 0);
        connection.reader().read_exact(&mut data[at..]).expect("so much is there");
    }
    Ok(data)
}

#[derive(Debug, Clone)]
enum Step {
    /// We send so much, the first part of it in the first slice, into room for so much.
    Seal {
        bytes: usize,
        first: usize,
        room: usize,
    },
    SealInPlace(usize),
    /// rustls sends so much.
    Send(usize),
    /// What rustls has sent arrives, in pieces of this size.
    Arrive(usize),
    UpdateOurs,
    UpdateTheirs,
    Move,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = || prop_oneof![0_usize..40, 0_usize..3_000, 16_000_usize..50_000];
    let step = prop_oneof![
        3 => (size(), size(), 60_usize..40_000)
            .prop_map(|(bytes, first, room)| Step::Seal { bytes, first: first.min(bytes), room }),
        1 => (0..=PLAINTEXT_BYTES_MAX).prop_map(Step::SealInPlace),
        3 => size().prop_map(Step::Send),
        3 => prop_oneof![1_usize..50, 1_usize..20_000].prop_map(Step::Arrive),
        1 => Just(Step::UpdateOurs),
        1 => Just(Step::UpdateTheirs),
        2 => Just(Step::Move),
    ];
    // Fewer than the updates in a row that either side bears with.
    prop::collection::vec(step, 1..30)
}

/// A run, with what each side has sent and read.
struct Run {
    joined: Joined,
    sent_by_us: Vec<u8>,
    read_by_peer: Vec<u8>,
    sent_by_peer: Vec<u8>,
    read_by_us: Vec<u8>,
    counter: u8,
}

impl Run {
    fn new(role: Role, suite: Suite) -> Self {
        Self {
            joined: join(role, suite),
            sent_by_us: Vec::new(),
            read_by_peer: Vec::new(),
            sent_by_peer: Vec::new(),
            read_by_us: Vec::new(),
            counter: 0,
        }
    }

    fn plaintext(&mut self, bytes: usize) -> Vec<u8> {
        self.counter = self.counter.wrapping_add(41);
        (self.counter..=255).cycle().take(bytes).collect()
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Seal { bytes, first, room } => {
                let plain = self.plaintext(bytes);
                let mut taken = 0;
                while taken < bytes {
                    let (first, second) = plain.split_at(first.max(taken));
                    let mut out = vec![0; room];
                    let sealed = self.joined.layer.seal(&first[taken.min(first.len())..], second, &mut out);
                    let sealed = sealed.expect("an open connection");
                    assert!(sealed.taken > 0 || sealed.produced > 0, "progress");
                    taken += sealed.taken;
                    self.deliver(&out[..sealed.produced]);
                }
                self.sent_by_us.extend(plain);
            }
            Step::SealInPlace(bytes) => {
                let plain = self.plaintext(bytes);
                let mut record = vec![0; RecordLayer::sealed_bytes_max(bytes)];
                record[HEADER_BYTES..][..bytes].copy_from_slice(&plain);
                let sealed = self.joined.layer.seal_in_place(&mut record, bytes).expect("an open connection");
                self.deliver(&record[..sealed]);
                self.sent_by_us.extend(plain);
            }
            Step::Send(bytes) => {
                let plain = self.plaintext(bytes);
                self.joined.peer.writer().write_all(&plain).expect("no limit");
                self.sent_by_peer.extend(plain);
                let output = written(&mut self.joined.peer);
                self.joined.input.extend(output);
            }
            Step::Arrive(piece) => self.arrive(piece),
            Step::UpdateOurs => self.joined.layer.update_owed = true,
            Step::UpdateTheirs => {
                self.joined.peer.refresh_traffic_keys().expect("a connection of TLS 1.3");
                let output = written(&mut self.joined.peer);
                self.joined.input.extend(output);
            }
            Step::Move => {
                // Taken out of its place, as a process would: there is never a second one.
                let (spare, _) = Peer::new(Role::Server);
                let bytes = std::mem::replace(&mut self.joined.layer, spare).freeze().encode();
                let frozen = Frozen::decode(&bytes).expect("what was encoded");
                self.joined.layer = RecordLayer::thaw(frozen).expect("what was frozen");
            }
        }
    }

    fn deliver(&mut self, output: &[u8]) {
        let data = feed(&mut self.joined.peer, output).expect("rustls accepts what we send");
        self.read_by_peer.extend(data);
        // Its answer to a KeyUpdate would be here.
        let output = written(&mut self.joined.peer);
        self.joined.input.extend(output);
    }

    /// All that is on the way, so many bytes at a time.
    fn arrive(&mut self, piece: usize) {
        let input = std::mem::take(&mut self.joined.input);
        let mut held = Vec::new();
        for piece in input.chunks(piece) {
            held.extend_from_slice(piece);
            loop {
                match self.joined.layer.open(&mut held).expect("we accept what rustls sends") {
                    Opened::Partial { wanted } => {
                        assert!(wanted > held.len());
                        break;
                    }
                    Opened::Record { consumed, data } => {
                        self.read_by_us.extend_from_slice(&held[data]);
                        held.drain(..consumed);
                    }
                    Opened::Closed { .. } => panic!("rustls did not close"),
                }
            }
        }
        assert!(held.is_empty(), "whole records");
        if self.joined.layer.owes_output() {
            let output = sealed(&mut self.joined.layer, b"");
            assert!(!output.is_empty());
            self.deliver(&output);
        }
    }

    /// Both sides say good-bye, and have read what was sent.
    fn finish(mut self) {
        self.arrive(1_000);
        assert!(self.read_by_us == self.sent_by_peer, "we read what rustls sent");
        assert!(self.read_by_peer == self.sent_by_us, "rustls reads what we sent");
        let Joined { layer, peer, .. } = &mut self.joined;
        let mut out = [0; ALERT_RECORD_BYTES];
        assert_eq!(layer.close_notify(&mut out), out.len());
        peer.read_tls(&mut &out[..]).expect("memory can be read");
        assert!(peer.process_new_packets().expect("an alert").peer_has_closed());
        peer.send_close_notify();
        let mut output = written(peer);
        let consumed = output.len();
        assert_eq!(layer.open(&mut output), Ok(Opened::Closed { consumed }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn traffic_with_rustls(steps in steps(), suite in prop::sample::select(&SUITES[..]), server: bool) {
        let mut run = Run::new(if server { Role::Server } else { Role::Client }, suite);
        for step in &steps {
            run.step(step);
        }
        run.finish();
    }

    #[test]
    fn what_is_corrupted_is_noticed(
        bytes in 0_usize..100,
        at in any::<prop::sample::Index>(),
        mask in 1_u8..,
        suite in prop::sample::select(&SUITES[..]),
    ) {
        let Joined { mut layer, mut peer, .. } = join(Role::Server, suite);
        // An empty write of rustls makes no record.
        peer.writer().write_all(&vec![7; bytes + 1]).expect("no limit");
        let mut record = written(&mut peer);
        let at = at.index(record.len());
        record[at] ^= mask;
        match (at, layer.open(&mut record)) {
            // A longer record is waited for.
            (3..=4, Ok(Opened::Partial { .. })) => {}
            (_, Err(violation)) => {
                let told = match at {
                    0 => AlertDescription::UnexpectedMessage,
                    3 if violation != Violation::BadMac => AlertDescription::RecordOverflow,
                    _ => AlertDescription::BadRecordMac,
                };
                let mut out = [0; ALERT_RECORD_BYTES];
                assert_eq!(layer.alert(&violation, &mut out), out.len());
                assert_eq!(feed(&mut peer, &out), Err(rustls::Error::AlertReceived(told)));
            }
            (_, opened) => panic!("{opened:?}"),
        }
    }

    #[test]
    fn rustls_notices_what_is_corrupted(
        bytes in 1_usize..100,
        at in any::<prop::sample::Index>(),
        mask in 1_u8..,
        suite in prop::sample::select(&SUITES[..]),
    ) {
        let Joined { mut layer, mut peer, mut input } = join(Role::Client, suite);
        opened(&mut layer, &mut input).expect("tickets");
        let mut record = sealed(&mut layer, &vec![7; bytes]);
        // Not the header: what rustls makes of that is its own.
        let at = HEADER_BYTES + at.index(record.len() - HEADER_BYTES);
        record[at] ^= mask;
        assert_eq!(feed(&mut peer, &record), Err(rustls::Error::DecryptError));
        let told = layer.open(&mut written(&mut peer));
        assert_eq!(told, Err(Violation::Alert(AlertDescription::BadRecordMac)));
    }
}

#[test]
fn nothing_comes_of_a_record_that_was_cut_off() {
    let Joined { mut layer, mut peer, .. } = join(Role::Server, Suite::Chacha20Poly1305);
    let record = sealed(&mut layer, b"a request");
    for bytes in 0..record.len() {
        let data = feed(&mut peer, &record[bytes..=bytes]).expect("one byte after the other");
        assert_eq!(data.is_empty(), bytes + 1 < record.len());
    }
    peer.writer().write_all(b"an answer").expect("no limit");
    let mut record = written(&mut peer);
    for bytes in 0..record.len() {
        assert!(matches!(layer.open(&mut record[..bytes]), Ok(Opened::Partial { .. })), "{bytes}");
    }
    assert_eq!(opened(&mut layer, &mut record), Ok((b"an answer".to_vec(), false)));
    // An end of input without close_notify: rustls calls it so, too.
    assert_eq!(peer.read_tls(&mut &[][..]).expect("memory can be read"), 0);
    peer.process_new_packets().expect("nothing new");
    let error = peer.reader().read(&mut [0]).expect_err("no close_notify came");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn tickets_of_rustls_are_read_over() {
    let Joined { mut layer, mut peer, mut input } = join(Role::Client, Suite::Aes256Gcm);
    assert!(input.len() > 100, "there are some");
    assert_eq!(opened(&mut layer, &mut input), Ok((Vec::new(), false)));
    peer.writer().write_all(b"data").expect("no limit");
    assert_eq!(opened(&mut layer, &mut written(&mut peer)), Ok((b"data".to_vec(), false)));
}
