//! Server names to certificates, for one listening address.
//!
//! A look-up costs two hashes and no allocation, however many certificates there are. Where several will do
//! for a name, in this order: one the client can verify; one that has not expired; an exact name before a
//! wildcard; ECDSA before Ed25519 before RSA; the latest end of validity; the last added.

mod name_table;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::SignatureScheme;

use self::name_table::NameTable;
use super::material::{KeyAlgorithm, Material};
use super::names::{absolute, parent, wildcard_suffix};

/// SHA-256 of a certificate's DER.
pub type Fingerprint = [u8; 32];

/// The longest host there is (RFC 1035 §2.3.4, as text without the final dot).
const HOST_BYTES_MAX: usize = 253;

/// The certificates of one listening address.
#[derive(Debug, Default)]
pub struct Certificates {
    /// A tree: a hash table of all certificates would move all of them in one step, when it doubles.
    entries: BTreeMap<Fingerprint, Arc<Entry>>,
    exact: NameTable,
    /// By what follows the wildcard.
    wildcards: NameTable,
    /// The number of the next entry.
    added: u64,
}

/// A certificate and what it is served for.
#[derive(Debug)]
pub struct Entry {
    fingerprint: Fingerprint,
    names: Box<[Arc<str>]>,
    not_after: i64,
    added: u64,
    /// Of the material; here, so that a look-up need not go there.
    algorithm: KeyAlgorithm,
    material: Arc<Material>,
}

impl Entry {
    /// A certificate for these names, which ends at `not_after` (seconds since 1970). Names are put in lower
    /// case; one that comes in lower case, as an [`Arc`], is shared.
    pub fn new<N: Into<Arc<str>>>(
        fingerprint: Fingerprint,
        names: impl IntoIterator<Item = N>,
        not_after: i64,
        material: Arc<Material>,
    ) -> Self {
        let names = names.into_iter().map(|name| lowered(name.into())).collect();
        Self { fingerprint, names, not_after, added: 0, algorithm: material.algorithm(), material }
    }

    /// SHA-256 of its DER.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// What it is served for, in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// The end of its validity, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// What it is served with.
    pub fn material(&self) -> &Arc<Material> {
        &self.material
    }

    /// Sorts the better certificates of a name first.
    fn rank(&self) -> impl Ord {
        (self.algorithm.class(), Reverse(self.not_after), Reverse(self.added))
    }

    fn is_expired(&self, now: u64) -> bool {
        u64::try_from(self.not_after).is_ok_and(|end| end < now) || self.not_after < 0
    }
}

fn lowered(name: Arc<str>) -> Arc<str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name }
}

impl Certificates {
    /// Adds a certificate. Says whether it is new; one that is already there stays as it was.
    pub fn insert(&mut self, entry: Entry) -> bool {
        if self.entries.contains_key(&entry.fingerprint) {
            return false;
        }
        let entry = Arc::new(Entry { added: self.added, ..entry });
        self.added += 1;
        for name in &entry.names {
            match wildcard_suffix(name) {
                Some(_) => self.wildcards.insert(name, &entry),
                None => self.exact.insert(name, &entry),
            }
        }
        self.entries.insert(entry.fingerprint, entry);
        true
    }

    /// Removes a certificate, if it is there. Handshakes under way that have chosen it go on with it.
    pub fn remove(&mut self, fingerprint: &Fingerprint) -> Option<Arc<Entry>> {
        let entry = self.entries.remove(fingerprint)?;
        for name in &entry.names {
            match wildcard_suffix(name) {
                Some(_) => self.wildcards.remove(name, &entry),
                None => self.exact.remove(name, &entry),
            }
        }
        Some(entry)
    }

    /// Puts a certificate in the place of another, which need not be there, and may be the same one with
    /// other names or another OCSP response.
    pub fn replace(&mut self, old: &Fingerprint, entry: Entry) {
        self.remove(old);
        self.insert(entry);
    }

    /// The certificate for a client that sent this name and verifies these signatures.
    ///
    /// If it can verify none of those for this name, it gets one all the same: that the handshake then fails
    /// for want of a common algorithm is the truth, whereas the certificate of another name would be a riddle.
    pub fn resolve(&self, server_name: &str, schemes: &[SignatureScheme], now: u64) -> Option<&Arc<Entry>> {
        let name = absolute(server_name);
        if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.resolve_lower(name, schemes, now);
        }
        let mut space = [0; HOST_BYTES_MAX];
        let lower = space.get_mut(..name.len())?;
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        self.resolve_lower(std::str::from_utf8(lower).ok()?, schemes, now)
    }

    fn resolve_lower(&self, name: &str, schemes: &[SignatureScheme], now: u64) -> Option<&Arc<Entry>> {
        let exact = self.exact.get(name);
        let is_good = |entry: &&Arc<Entry>| entry.algorithm.is_taken(schemes) && !entry.is_expired(now);
        // Nearly always this is all.
        if let Some(entry) = exact.iter().find(is_good) {
            return Some(entry);
        }
        let wildcard = parent(name).map_or(&[][..], |parent| self.wildcards.get(parent));
        let all = || exact.iter().chain(wildcard);
        let is_taken = |entry: &&Arc<Entry>| entry.algorithm.is_taken(schemes);
        wildcard.iter().find(is_good).or_else(|| all().find(is_taken)).or_else(|| all().next())
    }

    /// The certificate of this fingerprint.
    pub fn get(&self, fingerprint: &Fingerprint) -> Option<&Arc<Entry>> {
        self.entries.get(fingerprint)
    }

    /// All of them, by fingerprint.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Panics unless all tables agree.
    pub fn check_invariants(&self) {
        self.exact.check_invariants();
        self.wildcards.check_invariants();
        let mut named = 0;
        for (fingerprint, entry) in &self.entries {
            assert_eq!(fingerprint, &entry.fingerprint);
            assert!(entry.added < self.added);
            let mut names: Vec<_> = entry.names().collect();
            names.sort_unstable();
            names.dedup();
            named += names.len();
            for name in names {
                assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name}");
                let candidates = match wildcard_suffix(name) {
                    Some(suffix) => self.wildcards.get(suffix),
                    None => self.exact.get(name),
                };
                assert!(candidates.iter().any(|candidate| Arc::ptr_eq(candidate, entry)), "{name}");
            }
        }
        assert_eq!(self.exact.candidates() + self.wildcards.candidates(), named, "no other is found by name");
    }
}
