//! A live TLS connection is moved between two processes a hundred times, and its client notices nothing.
//!
//! ```text
//!   client (rustls, a thread of the test)
//!      │ one TCP connection throughout
//!      ├────────────────────────────────────────┐
//!   owner A ── Unix socket: its descriptor, ── owner B     the owners are processes: the test, executed anew
//!              then the frozen connection
//! ```
//! The test does the handshake with rustls, and is the first to give the connection away. Each owner thaws it,
//! answers one message, freezes it, closes its descriptor, and only then sends the frozen bytes: there is
//! never anybody else who could write.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use kakehi_command::channel::scm::{self, ControlBuffer, Wait};
use kakehi_lib::protocol::tls_record::{
    ALERT_RECORD_BYTES, FROZEN_BYTES_MAX, Frozen, Opened, RECORD_BYTES_MAX, RecordLayer, Role, Suite,
    Traffic, TrafficSecret,
};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::{ClientConfig, ClientConnection, KeyLog, RootCertStore, ServerConfig, ServerConnection};

const MOVES: usize = 100;
/// The client asks for new keys with each of so many messages.
const KEY_UPDATE_EVERY: usize = 7;
/// Whoever hears nothing for so long fails, instead of hanging.
const DEADLINE: Duration = Duration::from_secs(60);
/// What the environment tells an owner.
const MARK: &str = "KAKEHI_TEST_TLS_RECORD_OWNER";

/// A message is its length, then so many bytes. The answer has the owner's process id in front of these.
const LENGTH_BYTES: usize = 4;
const MESSAGE_BYTES_MAX: usize = 40_000;

#[test]
fn a_live_connection_moves_a_hundred_times() {
    for suite in [
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        let provider = Arc::new(CryptoProvider { cipher_suites: vec![suite], ..default_provider() });
        move_connection(provider);
    }
}

fn move_connection(provider: Arc<CryptoProvider>) {
    let (client, server, secrets) = configurations(provider);
    #[expect(clippy::disallowed_methods, reason = "the connection under test")]
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let client = std::thread::spawn(move || {
        #[expect(clippy::disallowed_methods, reason = "the connection under test")]
        let socket = TcpStream::connect(address).expect("the listener");
        converse(client, socket)
    });

    let (socket, _) = listener.accept().expect("the client");
    let (a, b) = UnixStream::pair().expect("a socket pair");
    for socket in [&a, &b] {
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
    }
    let layer = take_over(server, &secrets, &socket);
    give(&a, layer, socket.into());
    let mut owners = [owner(b), owner(a)];

    let processes = client.join().expect("the client has checked everything");
    let ids = [owners[0].id(), owners[1].id()];
    let expected: Vec<u32> = ids.into_iter().cycle().take(MOVES).collect();
    assert_eq!(processes, expected, "each owner has answered in turn");
    for owner in &mut owners {
        assert!(owner.wait().expect("an owner").success());
    }
}

/// The client: rustls, and no idea of what happens at the other end. Tells who has answered.
fn converse(mut connection: ClientConnection, mut socket: TcpStream) -> Vec<u32> {
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).expect("a greeting");
    let mut processes = Vec::new();
    for round in 0..MOVES {
        if round % KEY_UPDATE_EVERY == KEY_UPDATE_EVERY - 1 {
            stream.conn.refresh_traffic_keys().expect("a connection of TLS 1.3");
        }
        let bytes = round * 7919 % MESSAGE_BYTES_MAX;
        let message: Vec<u8> = (0..=255).cycle().skip(round).take(bytes).collect();
        let length = u32::try_from(bytes).expect("short").to_be_bytes();
        stream.write_all(&[&length[..], &message].concat()).expect("a connection");
        stream.flush().expect("a connection");
        let mut process = [0; 4];
        stream.read_exact(&mut process).expect("an answer");
        processes.push(u32::from_be_bytes(process));
        let mut answer = vec![0; bytes];
        stream.read_exact(&mut answer).expect("an answer");
        assert!(answer == message, "message {round}");
    }
    stream.conn.send_close_notify();
    stream.flush().expect("a connection");
    assert_eq!(stream.read(&mut [0]).expect("close_notify"), 0);
    processes
}

/// The server's handshake, and what is needed to go on without rustls.
fn take_over(
    mut connection: ServerConnection,
    secrets: &mpsc::Receiver<(String, Vec<u8>)>,
    mut socket: &TcpStream,
) -> RecordLayer {
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).expect("a handshake");
    }
    // The client says nothing before: there is nothing of it in rustls.
    connection.writer().write_all(b"ready").expect("short");
    while connection.wants_write() {
        connection.write_tls(&mut socket).expect("a connection");
    }
    let suite = connection.negotiated_cipher_suite().expect("a suite").suite();
    let suite = Suite::try_from(suite).expect("one of ours");
    let numbers = connection.dangerous_extract_secrets().expect("a handshake that is over");
    let secrets: Vec<_> = secrets.try_iter().collect();
    let traffic = |label: &str, sequence| {
        let (_, secret) = secrets.iter().find(|(name, _)| name == label).expect("a secret");
        Traffic { secret: TrafficSecret::new(secret).expect("a secret"), sequence }
    };
    let ours = traffic("SERVER_TRAFFIC_SECRET_0", numbers.tx.0);
    let theirs = traffic("CLIENT_TRAFFIC_SECRET_0", numbers.rx.0);
    RecordLayer::new(Role::Server, suite, ours, theirs).expect("a connection")
}

/// Executes this test anew, as an owner with the channel as its standard input.
fn owner(channel: UnixStream) -> Child {
    let binary = std::env::current_exe().expect("this test");
    Command::new(binary)
        .args(["--exact", "owner_process", "--ignored", "--nocapture"])
        .env(MARK, "1")
        .stdin(Stdio::from(OwnedFd::from(channel)))
        .stdout(Stdio::null())
        .spawn()
        .expect("a process")
}

#[test]
#[ignore = "a process that the other test starts"]
fn owner_process() {
    #[expect(clippy::disallowed_methods, reason = "so that nobody starts it otherwise")]
    let started = std::env::var(MARK);
    started.expect("only a_live_connection_moves_a_hundred_times starts this");
    let channel = std::io::stdin().as_fd().try_clone_to_owned().expect("a channel");
    let channel = UnixStream::from(channel);
    while let Some((layer, socket)) = take(&channel) {
        match answer(layer, &socket) {
            Some(layer) => give(&channel, layer, socket.into()),
            // The client is done: the other owner is told by the end of this channel.
            None => break,
        }
    }
}

/// The descriptor goes first, and is closed here before the frozen bytes follow.
fn give(mut channel: &UnixStream, layer: RecordLayer, socket: OwnedFd) {
    let frozen = layer.freeze().encode();
    let fds = [socket];
    assert_eq!(scm::send(channel.as_fd(), &[0], &fds, Wait::AsSocket).expect("the other owner"), 1);
    drop(fds);
    let length = u16::try_from(frozen.len()).expect("at most FROZEN_BYTES_MAX").to_be_bytes();
    channel.write_all(&length).expect("the other owner");
    channel.write_all(&frozen).expect("the other owner");
}

/// `None` once the other owner has ended.
fn take(mut channel: &UnixStream) -> Option<(RecordLayer, TcpStream)> {
    let (mut control, mut fds) = (ControlBuffer::new(), VecDeque::new());
    let received = scm::receive(channel.as_fd(), &mut [0], Some(&mut control), &mut fds, Wait::AsSocket);
    if received.expect("the other owner") == 0 {
        return None;
    }
    let socket = TcpStream::from(fds.pop_front().expect("a descriptor"));
    let mut length = [0; 2];
    channel.read_exact(&mut length).expect("the other owner");
    let mut frozen = vec![0; u16::from_be_bytes(length).into()];
    assert!(frozen.len() <= FROZEN_BYTES_MAX);
    channel.read_exact(&mut frozen).expect("the other owner");
    let frozen = Frozen::decode(&frozen).expect("what was encoded");
    Some((RecordLayer::thaw(frozen).expect("what was frozen"), socket))
}

/// Reads one message and answers it. `None` if the client has closed instead.
fn answer(mut layer: RecordLayer, mut socket: &TcpStream) -> Option<RecordLayer> {
    let (mut message, mut held) = (Vec::new(), Vec::new());
    let mut space = vec![0; RECORD_BYTES_MAX];
    while !is_whole(&message) || !held.is_empty() {
        match layer.open(&mut held).expect("a client that keeps the rules") {
            Opened::Partial { .. } => {
                let read = socket.read(&mut space).expect("the client");
                assert!(read > 0, "cut off");
                held.extend_from_slice(&space[..read]);
            }
            Opened::Record { consumed, data } => {
                message.extend_from_slice(&held[data]);
                held.drain(..consumed);
            }
            Opened::Closed { .. } => {
                let mut out = [0; ALERT_RECORD_BYTES];
                assert_eq!(layer.close_notify(&mut out), out.len());
                socket.write_all(&out).expect("the client");
                return None;
            }
        }
    }
    let body = &message[LENGTH_BYTES..];
    let process = std::process::id().to_be_bytes();
    let mut out = vec![0; RecordLayer::sealed_bytes_max(process.len() + body.len())];
    let sealed = layer.seal(&process, body, &mut out).expect("an open connection");
    assert_eq!(sealed.taken, process.len() + body.len());
    socket.write_all(&out[..sealed.produced]).expect("the client");
    Some(layer)
}

fn is_whole(message: &[u8]) -> bool {
    let Some((&length, body)) = message.split_first_chunk::<LENGTH_BYTES>() else { return false };
    let wanted = usize::try_from(u32::from_be_bytes(length)).expect("64 bits");
    assert!(body.len() <= wanted, "the client waits for its answer");
    body.len() == wanted
}

/// Passes secrets on.
#[derive(Debug)]
struct Catch(mpsc::Sender<(String, Vec<u8>)>);

impl KeyLog for Catch {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        self.0.send((label.to_owned(), secret.to_vec())).expect("the test listens");
    }
}

type Configurations = (ClientConnection, ServerConnection, mpsc::Receiver<(String, Vec<u8>)>);

fn configurations(provider: Arc<CryptoProvider>) -> Configurations {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).expect("a root");
    let client = ClientConfig::builder_with_provider(provider.clone())
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
    let (sender, secrets) = mpsc::channel();
    server.key_log = Arc::new(Catch(sender));
    server.enable_secret_extraction = true;
    let name = "localhost".try_into().expect("a name");
    let client = ClientConnection::new(Arc::new(client), name).expect("a configuration");
    (client, ServerConnection::new(Arc::new(server)).expect("a configuration"), secrets)
}
