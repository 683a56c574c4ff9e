//! What certificates cost: memory of each, time to add one, to find one, to hand one to a handshake.
//!
//! `cargo bench -p kakehi-lib --bench certificates [-- CERTIFICATES] [rsa2048|rsa4096]` prints it, for ECDSA
//! P-256 unless told otherwise; of RSA keys, which take long to make, a few serve all certificates. Not a
//! test: nothing is asserted about time. Without cargo's `--bench` (as under `cargo test --benches`) it runs
//! with few certificates.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kakehi_lib::tls::certificates::{Certificates, Entry, Fingerprint};
use kakehi_lib::tls::material::{Material, Source};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, RsaKeySize};
use rustls::SignatureScheme;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

const CERTIFICATES_DEFAULT: usize = 20_000;
const CERTIFICATES_IN_TESTS: usize = 20;
const LOOK_UPS: usize = 1_000_000;
const HAND_OVERS: usize = 200_000;
/// Coprime to any number of certificates below it: steps through them in an order no cache expects.
const STRIDE: usize = 1_000_000_007;
/// Of each certificate: four exact ones and a wildcard.
const NAMES: usize = 5;
/// RSA keys that are made; certificates take turns.
const RSA_KEYS: usize = 8;

/// A certificate as the configuration holds it.
#[derive(Debug)]
struct Configured {
    chain: [Arc<[u8]>; 2],
    key: PrivateKeyDer<'static>,
    fingerprint: Fingerprint,
    names: Vec<Arc<str>>,
}

impl Source for Configured {
    fn chain(&self) -> Vec<CertificateDer<'_>> {
        self.chain.iter().map(|der| CertificateDer::from(&**der)).collect()
    }

    fn key(&self) -> PrivateKeyDer<'_> {
        PrivateKeyDer::Pkcs8(self.key.secret_der().into())
    }

    fn ocsp_response(&self) -> Option<&[u8]> {
        None
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = arguments.iter().find_map(|argument| argument.parse().ok());
    let is_asked = |what: &str| arguments.iter().any(|argument| argument == what);
    let count: usize =
        asked.unwrap_or(if is_asked("--bench") { CERTIFICATES_DEFAULT } else { CERTIFICATES_IN_TESTS });
    let rsa = match (is_asked("rsa2048"), is_asked("rsa4096")) {
        (true, _) => Some(RsaKeySize::_2048),
        (_, true) => Some(RsaKeySize::_4096),
        _ => None,
    };
    let per_certificate = |bytes: usize| bytes / count.max(1);

    let before = resident_bytes();
    let configured = configure(count, rsa);
    let filled = resident_bytes();
    let mut table = Certificates::default();
    let mut slowest = Duration::ZERO;
    let adding = time(count, |i| {
        let start = now();
        add(&mut table, &configured[i]);
        slowest = slowest.max(start.elapsed());
    });
    let derived = resident_bytes();
    let der: usize = configured.iter().map(|one| one.chain[0].len() + one.key.secret_der().len()).sum();
    println!(
        "{count} certificates with {NAMES} names each, {}",
        rsa.map_or("ECDSA P-256".to_owned(), |size| format!("RSA {size:?}"))
    );
    println!("memory    {:>8} bytes each derived", per_certificate(derived.saturating_sub(filled)));
    println!(
        "          {:>8} more in the configuration, as this measurement has it",
        per_certificate(filled.saturating_sub(before))
    );
    println!("          {:>8} of that certificate and key in DER", per_certificate(der));
    println!("add       {:>8.1} us, the slowest {:.1} us", adding / 1e3, slowest.as_secs_f64() * 1e6);
    look_ups(&table, &configured);
    let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256];
    let checking =
        time(count, |i| drop(black_box(Material::new(configured[i].clone()).expect("it can be served"))));
    println!("check     {:>8.1} us, of the main process", checking / 1e3);
    let signing = time(count, |i| {
        let entry = table.get(&configured[i].fingerprint).expect("it is there");
        let signer = entry
            .material()
            .certified(0)
            .expect("it has a key")
            .key
            .choose_scheme(&schemes)
            .expect("it can sign");
        black_box(signer.sign(b"a transcript's hash").expect("it can sign"));
    });
    println!("sign      {:>8.1} us, the first time, with reading the key", signing / 1e3);
    let used = resident_bytes();
    println!(
        "memory    {:>8} bytes each derived, once each has signed",
        per_certificate(used.saturating_sub(filled))
    );
    let removing = time(count, |i| {
        drop(black_box(table.remove(&configured[i.wrapping_mul(STRIDE) % count].fingerprint)));
    });
    println!("remove    {:>8.1} us", removing / 1e3);
    assert!(table.is_empty());
}

fn add(table: &mut Certificates, one: &Arc<Configured>) {
    let material = Material::accepted(one.clone()).expect("it can be served");
    let entry =
        Entry::new(one.fingerprint, one.names.iter().map(|name| &**name), i64::MAX, Arc::new(material));
    assert!(table.insert(entry));
}

fn look_ups(table: &Certificates, configured: &[Arc<Configured>]) {
    // As browsers offer them.
    let schemes = [
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::RSA_PSS_SHA256,
        SignatureScheme::RSA_PKCS1_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::RSA_PSS_SHA384,
    ];
    let look_up = |what: &str, found: bool, name: &dyn Fn(usize) -> String| {
        let count = configured.len();
        // Made in advance, so that this is not measured; far enough apart to be cold.
        let names: Vec<String> = (0..count * NAMES).map(|i| name(i.wrapping_mul(STRIDE) % count)).collect();
        let empty = time(LOOK_UPS, |i| {
            black_box(names[i % names.len()].bytes().fold(0, u8::wrapping_add));
        });
        let nanos = time(LOOK_UPS, |i| {
            let entry = table.resolve(&names[i % names.len()], &schemes, 1);
            assert_eq!(black_box(entry).is_some(), found);
        });
        println!("{what:<9} {:>8.0} ns a look-up", nanos - empty);
    };
    look_up("exact", true, &|i| format!("www{}.{}", i % (NAMES - 1), domain(i)));
    look_up("wildcard", true, &|i| format!("any.{}", domain(i)));
    look_up("unknown", false, &|i| format!("no-{i}.unknown.test"));
    let few = configured.len().min(100);
    let hand_over = time(HAND_OVERS, |i| {
        let one = &configured[i % few];
        let entry = table.get(&one.fingerprint).expect("it is there");
        drop(black_box(entry.material().certified(0).expect("it has a key")));
    });
    println!("hand over {hand_over:>8.0} ns, once its key is read");
}

fn domain(i: usize) -> String {
    format!("site-{i}.example{}.test", i % 1_000)
}

fn names(i: usize) -> Vec<String> {
    let exact = (0..NAMES - 1).map(|n| format!("www{n}.{}", domain(i)));
    exact.chain([format!("*.{}", domain(i))]).collect()
}

/// Certificates of one intermediate authority.
fn configure(count: usize, rsa: Option<RsaKeySize>) -> Vec<Arc<Configured>> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key_pair = KeyPair::generate().expect("keys can be made");
    let authority: Arc<[u8]> = params.self_signed(&key_pair).expect("it can be signed").der().to_vec().into();
    let issuer = Issuer::new(params, key_pair);
    let make = || match rsa {
        Some(size) => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size),
        None => KeyPair::generate(),
    };
    let few: Vec<KeyPair> =
        (0..rsa.map_or(0, |_| RSA_KEYS)).map(|_| make().expect("keys can be made")).collect();
    let mut configured = Vec::with_capacity(count);
    for i in 0..count {
        let own = few.is_empty().then(|| make().expect("keys can be made"));
        let Some(key_pair) = own.as_ref().or_else(|| few.get(i % few.len())) else { continue };
        let params = CertificateParams::new(names(i)).expect("names");
        let der = params.signed_by(key_pair, &issuer).expect("it can be signed").der().to_vec();
        configured.push(Arc::new(Configured {
            fingerprint: Sha256::digest(&der).into(),
            chain: [der.into(), authority.clone()],
            key: PrivateKeyDer::Pkcs8(key_pair.serialize_der().into()),
            names: names(i).iter().map(|name| name.as_str().into()).collect(),
        }));
    }
    configured
}

/// Nanoseconds of processor time a call.
fn time(calls: usize, mut call: impl FnMut(usize)) -> f64 {
    let start = processor_nanos();
    (0..calls).for_each(&mut call);
    (processor_nanos() - start) / f64::from(u32::try_from(calls.max(1)).unwrap_or(u32::MAX))
}

/// Time this process has run (proc(5), schedstat), so that a busy machine does not count.
fn processor_nanos() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "a measurement of real time")]
fn now() -> Instant {
    Instant::now()
}

/// What this process has in memory (proc_pid_statm(5)), or 0 where that cannot be told.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4096
}
