//! The table against a model that looks at every certificate.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::testing::{self, Kind};
use super::*;
use crate::tls::material::KeyClass;

const P256: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
const P384: SignatureScheme = SignatureScheme::ECDSA_NISTP384_SHA384;
const RSA: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;
const ED25519: SignatureScheme = SignatureScheme::ED25519;
const ALL: &[SignatureScheme] = &[RSA, ED25519, P384, P256];

/// One of each kind of key: the table looks at nothing else of them.
static MATERIALS: LazyLock<[Arc<Material>; 4]> = LazyLock::new(|| {
    [Kind::P256, Kind::P384, Kind::Ed25519, Kind::Rsa]
        .map(|kind| testing::certificate(kind, &["a.test"]).material())
});

fn material(algorithm: KeyAlgorithm) -> Arc<Material> {
    let found = MATERIALS.iter().find(|material| material.algorithm() == algorithm);
    found.expect("there is one of each").clone()
}

fn entry(number: u8, names: &[&str], not_after: i64, algorithm: KeyAlgorithm) -> Entry {
    Entry::new([number; 32], names.iter().copied(), not_after, material(algorithm))
}

fn table(entries: impl IntoIterator<Item = Entry>) -> Certificates {
    let mut table = Certificates::default();
    for entry in entries {
        assert!(table.insert(entry));
        table.check_invariants();
    }
    table
}

fn number(found: Option<&Arc<Entry>>) -> Option<u8> {
    found.map(|entry| entry.fingerprint[0])
}

#[test]
fn the_most_specific_name_wins() {
    use KeyAlgorithm::EcdsaP256;
    let table = table([
        entry(1, &["*.Example.com", "example.com"], 9, EcdsaP256),
        entry(2, &["www.example.com"], 5, EcdsaP256),
        entry(3, &["*.a.example.com"], 9, EcdsaP256),
    ]);
    let check = |name: &str, expected| assert_eq!(number(table.resolve(name, ALL, 0)), expected, "{name:?}");
    check("www.example.com", Some(2));
    check("WWW.Example.com", Some(2));
    check("www.example.com.", Some(2));
    check("api.example.com", Some(1));
    check("example.com", Some(1));
    check("b.a.example.com", Some(3));
    check("c.b.a.example.com", None);
    check("com", None);
    check("", None);
    check(".", None);
    check(".example.com", None);
    check("*.example.com", Some(1));
    check(&format!("{}.example.com", "A".repeat(300)), None);
    check(&format!("{}.example.com", "a".repeat(300)), Some(1));
    check("ÄÖ\u{0}.example.com", Some(1));
}

#[test]
fn the_client_chooses_by_what_it_verifies() {
    use KeyAlgorithm::{EcdsaP256, EcdsaP384, Ed25519, Rsa};
    let table = table([
        entry(1, &["a.test"], 99, Rsa),
        entry(2, &["a.test"], 50, EcdsaP384),
        entry(3, &["a.test"], 60, Ed25519),
        entry(4, &["a.test"], 40, EcdsaP256),
        entry(5, &["*.test", "b.test"], 99, Rsa),
    ]);
    let check = |name: &str, schemes: &[SignatureScheme], now, expected| {
        assert_eq!(number(table.resolve(name, schemes, now)), Some(expected), "{name} {schemes:?} {now}");
    };
    check("a.test", ALL, 0, 2);
    check("a.test", &[RSA, P256], 0, 4);
    check("a.test", &[RSA, ED25519], 0, 3);
    check("a.test", &[SignatureScheme::RSA_PKCS1_SHA256], 0, 1);
    // Nothing in common: the client shall hear so.
    check("b.test", &[P256], 0, 5);
    check("a.test", &[], 0, 2);
    // What has expired is passed over as long as anything else will do.
    check("a.test", ALL, 50, 2);
    check("a.test", ALL, 51, 3);
    check("a.test", ALL, 61, 1);
    check("a.test", &[P256], 61, 4);
    check("a.test", ALL, 200, 2);
}

#[test]
fn an_exact_name_that_will_not_do_leaves_it_to_the_wildcard() {
    let table = table([
        entry(1, &["a.test"], 50, KeyAlgorithm::Rsa),
        entry(2, &["*.test"], 99, KeyAlgorithm::EcdsaP256),
    ]);
    let check = |schemes: &[SignatureScheme], now, expected| {
        assert_eq!(number(table.resolve("a.test", schemes, now)), Some(expected), "{schemes:?} {now}");
    };
    check(ALL, 0, 1);
    check(&[P256], 0, 2);
    check(ALL, 51, 2);
}

#[test]
fn the_longest_lived_is_served_and_of_equals_the_last() {
    use KeyAlgorithm::EcdsaP256;
    let mut table = table([
        entry(1, &["a.test"], 10, EcdsaP256),
        entry(2, &["a.test"], 20, EcdsaP256),
        entry(3, &["a.test"], 20, EcdsaP256),
        entry(4, &["a.test"], 5, EcdsaP256),
    ]);
    for expected in [3, 2, 1, 4] {
        assert_eq!(number(table.resolve("a.test", ALL, 0)), Some(expected));
        assert!(table.remove(&[expected; 32]).is_some());
        table.check_invariants();
    }
    assert!(table.is_empty() && table.remove(&[4; 32]).is_none());
}

#[test]
fn the_same_certificate_again_changes_nothing_unless_it_is_replaced() {
    use KeyAlgorithm::EcdsaP256;
    let mut table = table([entry(1, &["a.test", "A.test"], 10, EcdsaP256)]);
    assert!(!table.insert(entry(1, &["b.test"], 10, EcdsaP256)));
    assert_eq!(number(table.resolve("b.test", ALL, 0)), None);
    table.replace(&[1; 32], entry(1, &["b.test"], 10, EcdsaP256));
    table.check_invariants();
    assert_eq!(number(table.resolve("a.test", ALL, 0)), None);
    assert_eq!(number(table.resolve("b.test", ALL, 0)), Some(1));
    table.replace(&[7; 32], entry(2, &["b.test"], 9, EcdsaP256));
    table.check_invariants();
    assert_eq!(table.len(), 2);
    assert_eq!(number(table.resolve("b.test", ALL, 0)), Some(1));
}

#[test]
fn names_in_lower_case_are_shared_with_the_table() {
    let name: Arc<str> = "a.test".into();
    let mut table = Certificates::default();
    table.insert(Entry::new([1; 32], [name.clone()], 1, material(KeyAlgorithm::Rsa)));
    assert_eq!(Arc::strong_count(&name), 3);
}

/// What the room's documentation says, word by word.
fn model<'a>(
    entries: &'a [(u8, Vec<String>, i64, KeyAlgorithm)],
    host: &str,
    schemes: &[SignatureScheme],
    now: u64,
) -> Option<&'a u8> {
    let (_, parent) = host.split_once('.').unwrap_or_default();
    let wildcard = format!("*.{parent}");
    let candidates = entries.iter().enumerate().flat_map(|(order, (number, names, not_after, algorithm))| {
        [(host, true), (wildcard.as_str(), false)].into_iter().filter_map(move |(name, is_exact)| {
            let found = names.iter().any(|other| other.eq_ignore_ascii_case(name));
            let is_taken = schemes.iter().any(|scheme| match *scheme {
                P256 => *algorithm == KeyAlgorithm::EcdsaP256,
                P384 => *algorithm == KeyAlgorithm::EcdsaP384,
                ED25519 => *algorithm == KeyAlgorithm::Ed25519,
                _ => *algorithm == KeyAlgorithm::Rsa,
            });
            let class = match algorithm.class() {
                KeyClass::Ecdsa => 2,
                KeyClass::Ed25519 => 1,
                KeyClass::Rsa => 0,
            };
            // Among those that cannot be verified, it does not matter whether they have expired.
            let is_valid = is_taken && u64::try_from(*not_after).is_ok_and(|end| end >= now);
            found.then_some(((is_taken, is_valid, is_exact, class, *not_after, order), number))
        })
    });
    candidates.max().map(|(_, number)| number)
}

proptest! {
    #[test]
    fn as_the_model_says(
        steps in proptest::collection::vec(
            (0..12_u8, proptest::collection::vec("(\\*\\.)?[aA]\\.(b|c\\.b)|b", 1..4), -1..6_i64, 0..4_usize, 0..4_u8),
            1..40,
        ),
        schemes in proptest::sample::subsequence(ALL.to_vec(), 0..=4),
        now in 0..7_u64,
    ) {
        let mut table = Certificates::default();
        let mut entries = Vec::new();
        for (number, names, not_after, kind, step) in steps {
            let algorithm = MATERIALS[kind].algorithm();
            let texts: Vec<&str> = names.iter().map(String::as_str).collect();
            let new = entry(number, &texts, not_after, algorithm);
            if step == 0 {
                prop_assert_eq!(table.remove(&[number; 32]).is_some(), entries.iter().any(|old: &(u8, _, _, _)| old.0 == number));
                entries.retain(|old| old.0 != number);
            } else if step == 1 {
                let old = number / 2;
                table.replace(&[old; 32], new);
                entries.retain(|other| other.0 != old);
                if !entries.iter().any(|other| other.0 == number) {
                    entries.push((number, names, not_after, algorithm));
                }
            } else if table.insert(new) {
                entries.push((number, names, not_after, algorithm));
            }
            table.check_invariants();
            prop_assert_eq!(table.len(), entries.len());
            for host in ["a.b", "x.b", "b", "x.c.b", "a.c.b", "c.b", "x.a.b", "A.B"] {
                let expected = model(&entries, &host.to_lowercase(), &schemes, now).copied();
                prop_assert_eq!(number_of(&table, host, &schemes, now), expected, "{}", host);
            }
        }
    }
}

fn number_of(table: &Certificates, host: &str, schemes: &[SignatureScheme], now: u64) -> Option<u8> {
    number(table.resolve(host, schemes, now))
}
