//! What records and signatures cost, by provider: nanoseconds for sealing and opening a record
//! of 100 bytes and of 16 KiB with each suite, and for the signature of a handshake.
//!
//! `cargo bench -p kakehi-lib --bench tls_record` prints it. Not a test: nothing is asserted about time. Without
//! cargo's `--bench` (as under `cargo test --benches`) everything is done a few times only.

use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::encoding::AsDer;
use kakehi_lib::protocol::tls_record::{
    HEADER_BYTES, OVERHEAD_BYTES, Opened, RecordLayer, Role, Suite, Traffic, TrafficSecret,
};

const SIZES: [usize; 2] = [100, 16_384];
const TAG_BYTES: usize = 16;
/// A figure is the best of so many runs, each shorter than a slice of the processor's time: others use the
/// machine as well.
const RUNS: usize = 400;
const RUNS_IN_TESTS: usize = 1;
/// Plaintext in a run: some tens of microseconds.
const RUN_BYTES: usize = 200_000;

fn main() {
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let runs = if measuring { RUNS } else { RUNS_IN_TESTS };
    println!(
        "{:<18} {:>6}  {:>24}  {:>24}  {:>24}",
        "ns a record", "bytes", "RecordLayer", "aws-lc-rs", "ring"
    );
    for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305] {
        for bytes in SIZES {
            let columns = [layer(suite, bytes, runs), aws(suite, bytes, runs), ring(suite, bytes, runs)];
            let [ours, aws, ring] = columns.map(|(seal, open)| format!("seal {seal:>6.0} open {open:>6.0}"));
            println!("{:<18} {bytes:>6}  {ours:>24}  {aws:>24}  {ring:>24}", format!("{suite:?}"));
        }
    }
    println!();
    println!("{:<18} {:>10} {:>10}", "us a signature", "aws-lc-rs", "ring");
    for (name, (aws, ring)) in [("ECDSA P-256", p256(runs)), ("RSA-PSS 2048", rsa(runs))] {
        println!("{name:<18} {:>10.1} {:>10.1}", aws / 1e3, ring / 1e3);
    }
}

/// Nanoseconds for each of `calls` calls of `call`, with `prepare` before each run.
fn nanos<S>(
    runs: usize,
    calls: usize,
    state: &mut S,
    prepare: impl Fn(&mut S),
    call: impl Fn(&mut S, usize),
) -> f64 {
    let run = |state: &mut S| {
        prepare(state);
        let start = now();
        (0..calls).for_each(|i| call(state, i));
        start.elapsed().as_secs_f64() * 1e9
    };
    let best = (0..runs).map(|_| run(state)).fold(f64::INFINITY, f64::min);
    best / f64::from(u32::try_from(calls).expect("few"))
}

#[expect(clippy::disallowed_methods, reason = "a measurement of real time")]
fn now() -> Instant {
    Instant::now()
}

/// As a connection seals and opens, headers included.
fn layer(suite: Suite, bytes: usize, runs: usize) -> (f64, f64) {
    struct Ends {
        server: RecordLayer,
        client: RecordLayer,
        plain: Vec<u8>,
        records: Vec<u8>,
    }
    impl Ends {
        fn seal(&mut self, i: usize) {
            let each = self.plain.len() + OVERHEAD_BYTES;
            let out = &mut self.records[i * each..][..each];
            let sealed = self.server.seal(&self.plain, &[], out).expect("an open connection");
            assert_eq!(sealed.produced, each);
        }

        fn open(&mut self, i: usize) {
            let each = self.plain.len() + OVERHEAD_BYTES;
            let opened = self.client.open(&mut self.records[i * each..][..each]).expect("a record");
            assert!(matches!(opened, Opened::Record { consumed, .. } if consumed == each));
        }
    }
    let calls = RUN_BYTES / bytes;
    let new = || {
        let traffic = |fill: u8| {
            let secret = vec![fill; suite.secret_bytes()];
            Traffic { secret: TrafficSecret::new(&secret).expect("a secret"), sequence: 0 }
        };
        let layer = |role, ours, theirs| RecordLayer::new(role, suite, traffic(ours), traffic(theirs));
        Ends {
            server: layer(Role::Server, 1, 2).expect("secrets of the suite's length"),
            client: layer(Role::Client, 2, 1).expect("secrets of the suite's length"),
            plain: vec![7; bytes],
            records: vec![0; calls * (bytes + OVERHEAD_BYTES)],
        }
    };
    let seal = nanos(runs, calls, &mut new(), |_| (), Ends::seal);
    let open = nanos(runs, calls, &mut new(), |ends| (0..calls).for_each(|i| ends.seal(i)), Ends::open);
    (seal, open)
}

/// A provider's own calls, in place, with the content's type already behind the plaintext.
macro_rules! provider {
    ($name:ident, $provider:ident, $open:expr) => {
        fn $name(suite: Suite, bytes: usize, runs: usize) -> (f64, f64) {
            use $provider::aead::{
                AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
            };
            let algorithm = match suite {
                Suite::Aes128Gcm => &AES_128_GCM,
                Suite::Aes256Gcm => &AES_256_GCM,
                Suite::Chacha20Poly1305 => &CHACHA20_POLY1305,
            };
            let key = vec![1; algorithm.key_len()];
            let key = LessSafeKey::new(UnboundKey::new(algorithm, &key).expect("a key"));
            let aad = || Aad::from([0; HEADER_BYTES]);
            let nonce = || Nonce::assume_unique_for_key([0; 12]);
            let (calls, each) = (RUN_BYTES / bytes, bytes + 1 + TAG_BYTES);
            let seal = |records: &mut Vec<u8>, i: usize| {
                let (body, tag) = records[i * each..][..each].split_at_mut(bytes + 1);
                let sealed = key.seal_in_place_separate_tag(nonce(), aad(), body).expect("sealed");
                tag.copy_from_slice(sealed.as_ref());
            };
            let open = |records: &mut Vec<u8>, i: usize| {
                let record = &mut records[i * each..][..each];
                black_box($open(&key, nonce(), aad(), record, bytes + 1));
            };
            let records = || vec![7; calls * each];
            let sealing = nanos(runs, calls, &mut records(), |_| (), seal);
            let opening =
                nanos(runs, calls, &mut records(), |all| (0..calls).for_each(|i| seal(all, i)), open);
            (sealing, opening)
        }
    };
}

provider!(aws, aws_lc_rs, |key: &LessSafeKey, nonce, aad, record: &mut [u8], at| {
    let (body, tag) = record.split_at_mut(at);
    key.open_in_place_separate_tag(nonce, aad, tag, body).expect("opened").len()
});
provider!(ring, ring, |key: &LessSafeKey, nonce, aad, record: &mut [u8], _| {
    key.open_in_place(nonce, aad, record).expect("opened").len()
});

/// In a run.
const SIGNATURES: usize = 4;
/// What CertificateVerify signs: 64 spaces, a label, a hash (RFC 8446 §4.4.3).
const SIGNED: [u8; 64 + 34 + 32] = [0x20; 130];

fn p256(runs: usize) -> (f64, f64) {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = aws_lc_rs::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
    let key = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).expect("a key");
    let aws = nanos(
        runs,
        SIGNATURES,
        &mut (),
        |()| (),
        |(), _| {
            black_box(key.sign(&random, &SIGNED).expect("a signature"));
        },
    );
    let random = ring::rand::SystemRandom::new();
    let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let key = ring::signature::EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("a key");
    let ring = nanos(
        runs,
        SIGNATURES,
        &mut (),
        |()| (),
        |(), _| {
            black_box(key.sign(&random, &SIGNED).expect("a signature"));
        },
    );
    (aws, ring)
}

fn rsa(runs: usize) -> (f64, f64) {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key");
    let mut signature = vec![0; key.public_modulus_len()];
    let aws = nanos(
        runs,
        SIGNATURES,
        &mut signature,
        |_| (),
        |signature, _| {
            let algorithm = &aws_lc_rs::signature::RSA_PSS_SHA256;
            key.sign(algorithm, &random, &SIGNED, signature).expect("a signature");
        },
    );
    let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().expect("a key");
    let random = ring::rand::SystemRandom::new();
    let key = ring::signature::RsaKeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key");
    let ring = nanos(
        runs,
        SIGNATURES,
        &mut signature,
        |_| (),
        |signature, _| {
            let algorithm = &ring::signature::RSA_PSS_SHA256;
            key.sign(algorithm, &random, &SIGNED, signature).expect("a signature");
        },
    );
    (aws, ring)
}

const _: () = assert!(OVERHEAD_BYTES == HEADER_BYTES + 1 + TAG_BYTES);
