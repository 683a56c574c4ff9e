//! The first bytes of a TLS client: whatever pieces they come in, and whatever records the message is cut into, they
//! are read as the same. Of what rustls takes for a hello we read the same name and protocols.

#![no_main]

use kakehi_fuzz::Cut;
use kakehi_lib::protocol::client_hello::{Assembly, Rejection, Scanner};
use libfuzzer_sys::fuzz_target;
use rustls::server::Acceptor;

const BYTES_MAX: usize = 4096;

#[derive(Debug, PartialEq, Eq)]
struct Told {
    server_name: Option<String>,
    protocols: Vec<Vec<u8>>,
    ech_outer: bool,
}

fn read(bytes: &[u8]) -> Result<Told, Rejection> {
    let mut assembly = Assembly::default();
    let hello = assembly.read(bytes)?;
    Ok(Told {
        server_name: hello.server_name.map(str::to_owned),
        protocols: hello.protocols().map(<[u8]>::to_vec).collect(),
        ech_outer: hello.ech_outer,
    })
}

fn at_once(bytes: &[u8]) -> Result<Option<Told>, Rejection> {
    let whole = Scanner::default().scan(bytes, BYTES_MAX)?;
    whole.then(|| read(bytes)).transpose()
}

fn in_pieces(bytes: &[u8], cut: Cut) -> Result<Option<Told>, Rejection> {
    let mut scanner = Scanner::default();
    let mut end = 0;
    for piece in cut.pieces(bytes) {
        end += piece.len();
        if scanner.scan(&bytes[..end], BYTES_MAX)? {
            return read(&bytes[..end]).map(Some);
        }
    }
    Ok(None)
}

/// The message of a first record that holds all of it, in many records.
fn in_records(bytes: &[u8], cut: Cut) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes([*bytes.get(3)?, *bytes.get(4)?]));
    let message = bytes.get(5..5 + length)?;
    let needed = message.get(1..4)?.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
    if message.len() < 4 + needed {
        return None;
    }
    let mut records = Vec::new();
    for content in cut.pieces(message) {
        records.extend([22, 3, 1, 0, u8::try_from(content.len()).ok()?]);
        records.extend(content);
    }
    Some(records).filter(|records| records.len() <= BYTES_MAX)
}

/// What rustls reads, if it takes the bytes for a hello.
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

fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = Cut::take(input) else { return };
    let told = at_once(bytes);
    assert_eq!(in_pieces(bytes, cut), told);
    let Ok(Some(told)) = told else { return };
    if let Some(records) = in_records(bytes, cut) {
        assert_eq!(at_once(&records), Ok(Some(read(bytes).expect("it was read before"))));
    }
    if let Some((server_name, protocols)) = rustls_reads(bytes) {
        assert_eq!(told.protocols, protocols);
        // It passes over names that are addresses.
        let server_name = server_name.map(|name| name.strip_suffix('.').unwrap_or(&name).to_owned());
        assert!(server_name.is_none() || server_name == told.server_name);
    }
});
