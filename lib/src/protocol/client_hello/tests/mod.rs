//! Hellos of real clients, hellos put together field by field, and both in any pieces.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::client::{EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs;
use rustls::crypto::hpke::Hpke;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

const BYTES_MAX: usize = 16 * 1024;

/// What a hello says, owned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Told {
    server_name: Option<String>,
    protocols: Vec<Vec<u8>>,
    ech_outer: bool,
}

impl Told {
    fn name(name: &str) -> Self {
        Self { server_name: Some(name.to_owned()), ..Self::default() }
    }
}

/// A ClientHello, put together field by field.
#[derive(Debug, Clone)]
struct Message {
    kind: u8,
    version: [u8; 2],
    session_id: Vec<u8>,
    suites: Vec<u8>,
    compressions: Vec<u8>,
    /// None: not even their length.
    extensions: Option<Vec<u8>>,
    /// Behind all.
    rest: Vec<u8>,
}

impl Default for Message {
    fn default() -> Self {
        Self {
            kind: 1,
            version: [3, 3],
            session_id: vec![7; 32],
            // A value to be ignored, and a real one.
            suites: vec![0x1a, 0x1a, 0x13, 0x01],
            compressions: vec![0],
            extensions: Some(Vec::new()),
            rest: Vec::new(),
        }
    }
}

fn vector(length_bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[length.len() - length_bytes..], content].concat()
}

impl Message {
    fn extension(mut self, kind: u16, content: &[u8]) -> Self {
        let extension = [&kind.to_be_bytes()[..], &vector(2, content)].concat();
        self.extensions.get_or_insert_default().extend(extension);
        self
    }

    fn server_name(self, name: &[u8]) -> Self {
        let entry = [&[0][..], &vector(2, name)].concat();
        self.extension(0, &vector(2, &entry))
    }

    fn protocols(self, names: &[&[u8]]) -> Self {
        let list: Vec<u8> = names.iter().flat_map(|name| vector(1, name)).collect();
        self.extension(16, &vector(2, &list))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut content = [&self.version[..], &[9; 32]].concat();
        content.extend(vector(1, &self.session_id));
        content.extend(vector(2, &self.suites));
        content.extend(vector(1, &self.compressions));
        content.extend(self.extensions.iter().flat_map(|extensions| vector(2, extensions)));
        content.extend(&self.rest);
        [&[self.kind][..], &vector(3, &content)].concat()
    }

    fn record(&self) -> Vec<u8> {
        in_records(&self.bytes(), &[RECORD_CONTENT_BYTES_MAX])
    }
}

/// A message in records of these sizes, over and over.
fn in_records(message: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut rest = message;
    let mut records = Vec::new();
    for size in sizes.iter().cycle() {
        let (content, behind) = rest.split_at((*size).min(rest.len()));
        records.extend([22, 3, 1]);
        records.extend(vector(2, content));
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    records
}

/// What comes of bytes of which so many come at a time. None: more are waited for.
fn told_in(bytes: &[u8], step: usize, bytes_max: usize) -> Result<Option<Told>, Rejection> {
    let mut scanner = Scanner::default();
    let mut assembly = Assembly::default();
    let mut end = 0;
    while end < bytes.len() {
        end = (end + step).min(bytes.len());
        if scanner.scan(&bytes[..end], bytes_max)? {
            let hello = assembly.read(&bytes[..end])?;
            return Ok(Some(Told {
                server_name: hello.server_name.map(str::to_owned),
                protocols: hello.protocols().map(<[u8]>::to_vec).collect(),
                ech_outer: hello.ech_outer,
            }));
        }
    }
    Ok(None)
}

fn told(bytes: &[u8]) -> Result<Option<Told>, Rejection> {
    let at_once = told_in(bytes, bytes.len(), BYTES_MAX);
    assert_eq!(told_in(bytes, 1, BYTES_MAX), at_once, "byte by byte");
    at_once
}

/// The captures of `openssl.hex`.
fn openssl() -> Vec<Vec<u8>> {
    let mut hellos = Vec::new();
    for line in include_str!("openssl.hex").lines() {
        if line.starts_with('#') {
            hellos.push(Vec::new());
            continue;
        }
        let bytes = (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16));
        hellos.last_mut().expect("a title comes first").extend(bytes.map(|byte| byte.expect("hex")));
    }
    hellos
}

fn rustls_hello(name: &'static str, protocols: &[&[u8]], ech: Option<EchMode>) -> Vec<u8> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = match ech {
        Some(ech) => builder.with_ech(ech).expect("TLS 1.3 is there"),
        None => builder.with_safe_default_protocol_versions().expect("versions are there"),
    };
    let mut config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let name = name.try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("memory takes all");
    bytes
}

#[test]
fn real_clients_are_understood() {
    let [named, nameless] = &openssl()[..] else { panic!("two captures") };
    let both = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let expected = Told { protocols: both.clone(), ..Told::name("www.example.com") };
    assert_eq!(told(named), Ok(Some(expected)));
    assert_eq!(told(nameless), Ok(Some(Told::default())));

    let hello = rustls_hello("a.example.com", &[b"h2", b"http/1.1"], None);
    assert_eq!(told(&hello), Ok(Some(Told { protocols: both, ..Told::name("a.example.com") })));
    assert_eq!(told(&rustls_hello("192.0.2.1", &[], None)), Ok(Some(Told::default())));
}

#[test]
fn an_encrypted_hello_is_seen_from_outside() {
    let suite: &'static dyn Hpke = aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
    let (key, _) = suite.generate_key_pair().expect("a key");
    let ech = EchMode::Grease(EchGreaseConfig::new(suite, key));
    let hello = rustls_hello("outside.example.com", &[], Some(ech));
    assert_eq!(told(&hello), Ok(Some(Told { ech_outer: true, ..Told::name("outside.example.com") })));
    // The inner form, as a server in front of others passes it on: it says the real name.
    let inner = Message::default().extension(0xfe0d, &[1]).server_name(b"a").record();
    assert_eq!(told(&inner), Ok(Some(Told::name("a"))));
}

#[test]
fn what_may_be_left_out_or_is_unknown_is_passed_over() {
    let check = |message: Message, expected: Told| {
        assert_eq!(told(&message.record()), Ok(Some(expected)), "{message:?}");
    };
    check(Message::default(), Told::default());
    check(Message { extensions: None, ..Message::default() }, Told::default());
    check(Message { session_id: Vec::new(), ..Message::default() }, Told::default());
    // Values to be ignored (RFC 8701): as an extension, with and without content, and as a protocol.
    let ignored = Message::default().extension(0x0a0a, &[]).extension(0xfafa, &[0]).extension(0x0a0a, &[]);
    check(ignored.clone().server_name(b"a.b"), Told::name("a.b"));
    let protocols = vec![vec![0x8a, 0x8a], b"h2".to_vec()];
    check(ignored.protocols(&[&[0x8a, 0x8a], b"h2"]), Told { protocols, ..Told::default() });
    // A name of another kind is no host's.
    let other = [&[1][..], &vector(2, b"x")].concat();
    check(Message::default().extension(0, &vector(2, &other)), Told::default());
    check(Message::default().server_name(b"A_b-C.eXample.COM."), Told::name("a_b-c.example.com"));
    check(Message::default().server_name(&[b'a'; 63]), Told::name(&"a".repeat(63)));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let check = |message: Message| {
        assert_eq!(told(&message.record()), Err(Rejection::MalformedHandshake), "{message:?}");
    };
    check(Message { kind: 2, ..Message::default() });
    check(Message { version: [2, 0], ..Message::default() });
    check(Message { session_id: vec![0; 33], ..Message::default() });
    check(Message { suites: Vec::new(), ..Message::default() });
    check(Message { suites: vec![0; 3], ..Message::default() });
    check(Message { compressions: Vec::new(), ..Message::default() });
    check(Message { rest: vec![0], ..Message::default() });
    check(Message { extensions: Some(vec![0]), ..Message::default() });
    check(Message { extensions: Some(vec![0x0a, 0x0a, 0, 1]), ..Message::default() });
    // Twice: one for us, another for the backend.
    check(Message::default().server_name(b"a").server_name(b"b"));
    check(Message::default().protocols(&[b"a"]).protocols(&[b"b"]));
    check(Message::default().extension(0xfe0d, &[0]).extension(0xfe0d, &[0]));
    let two = [[&[0][..], &vector(2, b"a")].concat(), [&[0][..], &vector(2, b"b")].concat()].concat();
    check(Message::default().extension(0, &vector(2, &two)));
    // Lists.
    check(Message::default().extension(0, &[]));
    check(Message::default().extension(0, &[0, 0]));
    check(Message::default().extension(0, &[0, 1, 0]));
    check(Message::default().extension(0, &[&vector(2, &[0, 0, 1, b'a'])[..], &[0]].concat()));
    check(Message::default().extension(16, &[0, 0]));
    check(Message::default().extension(16, &[0, 1, 0, 0]));
    check(Message::default().protocols(&[b""]));
    check(Message::default().extension(16, &[0, 2, 2, b'h']));
    check(Message::default().extension(0xfe0d, &[]));
}

#[test]
fn names_that_no_host_has_are_refused() {
    for name in [
        &b""[..],
        b".",
        b"a..b",
        b".a",
        b"a.b..",
        b"a b",
        b"a\0.b",
        b"*.a",
        b"a:443",
        b"[::1]",
        b"\xc3\xbc.de",
    ] {
        let hello = Message::default().server_name(name).record();
        assert_eq!(told(&hello), Err(Rejection::MalformedHandshake), "{}", name.escape_ascii());
    }
    let long_label = Message::default().server_name(&[b'a'; 64]).record();
    assert_eq!(told(&long_label), Err(Rejection::MalformedHandshake));
    let longest = [b"a.".repeat(126), b"b".to_vec()].concat();
    assert!(matches!(told(&Message::default().server_name(&longest).record()), Ok(Some(_))));
    let longer = [b"a.".repeat(126), b"bb".to_vec()].concat();
    let refused = told(&Message::default().server_name(&longer).record());
    assert_eq!(refused, Err(Rejection::MalformedHandshake));
}

#[test]
fn other_protocols_are_told_by_their_first_bytes() {
    let check = |bytes: &[u8], expected: Result<Option<Told>, Rejection>| {
        assert_eq!(told(bytes), expected, "{}", bytes.escape_ascii());
    };
    check(b"", Ok(None));
    check(b"G", Err(Rejection::NotTls));
    check(b"SSH-2.0-x", Err(Rejection::NotTls));
    // The hello of SSL 2, which has no names.
    check(&[0x80, 0x2e, 1, 3, 1], Err(Rejection::NotTls));
    check(&[22], Ok(None));
    check(&[22, 4], Err(Rejection::NotTls));
    check(&[21, 3, 1, 0, 2, 1, 0], Err(Rejection::NotTls));
    check(&[22, 3, 9, 0x40, 0], Ok(None));
    check(&[22, 3, 1, 0, 0], Err(Rejection::MalformedRecord));
    check(&[22, 3, 1, 0x40, 1], Err(Rejection::MalformedRecord));
    check(&[22, 3, 1, 0, 1, 1], Ok(None));
    check(&[22, 3, 1, 0, 1, 1, 23], Err(Rejection::MalformedRecord));
    check(&[22, 3, 1, 0, 1, 1, 22, 2], Err(Rejection::MalformedRecord));
    check(&[22, 3, 1, 0, 1, 0], Err(Rejection::MalformedHandshake));
}

#[test]
fn a_hello_ends_within_what_it_may_have() {
    let message = Message::default().server_name(b"a.example.com").bytes();
    for sizes in [&[RECORD_CONTENT_BYTES_MAX][..], &[1], &[3, 50]] {
        let bytes = in_records(&message, sizes);
        for step in [1, bytes.len()] {
            let at = |bytes_max| told_in(&bytes, step, bytes_max).map(|told| told.is_some());
            assert_eq!(at(bytes.len()), Ok(true), "{sizes:?}");
            assert_eq!(at(bytes.len() - 1), Err(Rejection::TooLarge), "{sizes:?}");
            assert_eq!(at(RECORD_HEADER_BYTES), Err(Rejection::TooLarge), "{sizes:?}");
        }
    }
    // One that says so itself is not waited for.
    assert_eq!(told(&[22, 3, 1, 0, 4, 1, 1, 0, 0]), Err(Rejection::TooLarge));
}

#[test]
fn what_follows_is_left_alone() {
    let mut bytes = Message::default().server_name(b"a").record();
    let end = bytes.len();
    bytes.extend_from_slice(b"\x17\x03\x03\x00\x01early");
    assert_eq!(told_in(&bytes, bytes.len(), BYTES_MAX), Ok(Some(Told::name("a"))));
    assert_eq!(told_in(&bytes, end, BYTES_MAX), Ok(Some(Told::name("a"))));
}

fn message() -> impl Strategy<Value = (Message, Told)> {
    let name = proptest::option::of("[a-z0-9]{1,9}(\\.[a-z0-9-]{1,20}){0,4}");
    let protocols = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..9), 0..5);
    let padding = proptest::option::of(0usize..600);
    (name, protocols, padding, any::<bool>()).prop_map(|(server_name, protocols, padding, ech_outer)| {
        let mut message = Message::default();
        if ech_outer {
            message = message.extension(0xfe0d, &[0, 1, 2]);
        }
        if let Some(padding) = padding {
            message = message.extension(21, &vec![0; padding]);
        }
        if let Some(name) = &server_name {
            message = message.server_name(name.to_ascii_uppercase().as_bytes());
        }
        if !protocols.is_empty() {
            let names: Vec<&[u8]> = protocols.iter().map(Vec::as_slice).collect();
            message = message.protocols(&names);
        }
        (message, Told { server_name, protocols, ech_outer })
    })
}

/// What rustls reads, if it takes the bytes for a hello: the name and the protocols.
fn rustls_reads(bytes: &[u8]) -> Option<(Option<String>, Vec<Vec<u8>>)> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let protocols = hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
            return Some((hello.server_name().map(str::to_ascii_lowercase), protocols));
        }
    }
    None
}

proptest! {
    /// What both take for a hello, rustls and we read alike.
    #[test]
    fn rustls_reads_the_same(
        sizes in proptest::collection::vec(20usize..400, 1..4),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut hello = rustls_hello("a.example.com", &[b"h2", b"http/1.1"], None).split_off(RECORD_HEADER_BYTES);
        for (at, byte) in damage {
            let at = at.index(hello.len());
            hello[at] = byte;
        }
        let bytes = in_records(&hello, &sizes);
        let theirs = rustls_reads(&bytes);
        if let (Ok(Some(ours)), Some((server_name, protocols))) = (told_in(&bytes, bytes.len(), BYTES_MAX), theirs) {
            prop_assert_eq!(ours.protocols, protocols);
            // It passes over names that are addresses.
            prop_assert!(server_name.is_none() || server_name == ours.server_name);
        }
    }

    /// Whatever records it is in and whatever pieces these come in.
    #[test]
    fn any_split_tells_the_same(
        (message, expected) in message(),
        sizes in proptest::collection::vec(1usize..400, 1..6),
        step in 1usize..50,
    ) {
        let bytes = in_records(&message.bytes(), &sizes);
        prop_assert_eq!(told_in(&bytes, step, BYTES_MAX), Ok(Some(expected.clone())));
        for cut in 1..bytes.len() {
            prop_assert_eq!(told_in(&bytes[..cut], cut, BYTES_MAX), Ok(None), "cut at {}", cut);
        }
        prop_assert_eq!(told_in(&bytes, bytes.len(), bytes.len()), Ok(Some(expected)));
    }

    /// What has been damaged is read as the same in any pieces, or refused for the same reason.
    #[test]
    fn damage_is_seen_alike(
        (message, _) in message(),
        sizes in proptest::collection::vec(1usize..400, 1..6),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        step in 1usize..50,
        bytes_max in 5usize..2000,
    ) {
        let mut bytes = in_records(&message.bytes(), &sizes);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = told_in(&bytes, bytes.len(), bytes_max);
        prop_assert_eq!(told_in(&bytes, step, bytes_max), whole);
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let prefix = [&[22, 3, 1][..], &bytes].concat();
        let _ = told(&prefix);
        let _ = Assembly::default().read(&prefix);
        let _ = told(&bytes);
    }
}
