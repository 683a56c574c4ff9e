//! Names, and the certificates of each.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::super::names::wildcard_suffix;
use super::Entry;

/// Tables a name table is cut into. A single one of 100,000 names stops the worker for milliseconds when it
/// doubles, for it hashes every name again; one of these, for a tenth of one.
const SHARDS: usize = 32;

/// Names by what is looked up: the name, or what follows its wildcard.
#[derive(Debug, Default)]
pub(super) struct NameTable {
    /// None before the first insertion, since most addresses have no wildcards.
    shards: Option<Box<[HashTable<Name>; SHARDS]>>,
    hasher: RandomState,
}

/// A name that is served; it has at least one certificate.
#[derive(Debug)]
struct Name {
    /// With its wildcard. The same allocation as in the entry.
    text: Arc<str>,
    candidates: Candidates,
}

/// The certificates of a name, the best first. Nearly every name has one.
#[derive(Debug)]
enum Candidates {
    One(Arc<Entry>),
    Several(Vec<Arc<Entry>>),
}

impl NameTable {
    pub(super) fn insert(&mut self, text: &Arc<str>, entry: &Arc<Entry>) {
        let shards = self.shards.get_or_insert_with(|| Box::new([const { HashTable::new() }; SHARDS]));
        let hash = self.hasher.hash_one(key(text));
        let shard = &mut shards[shard_of(hash)];
        if let Some(name) = shard.find_mut(hash, |name| name.key() == key(text)) {
            name.candidates.insert(entry);
        } else {
            let name = Name { text: text.clone(), candidates: Candidates::One(entry.clone()) };
            shard.insert_unique(hash, name, |name| self.hasher.hash_one(name.key()));
        }
    }

    /// Takes a certificate from a name; does nothing if it is not there.
    pub(super) fn remove(&mut self, text: &str, entry: &Arc<Entry>) {
        let Some(shards) = self.shards.as_deref_mut() else { return };
        let hash = self.hasher.hash_one(key(text));
        let shard = &mut shards[shard_of(hash)];
        let Ok(mut found) = shard.find_entry(hash, |name| name.key() == key(text)) else { return };
        if found.get_mut().candidates.remove(entry) {
            found.remove();
        }
    }

    /// The certificates of a name, the best first; for a wildcard, of what follows it.
    pub(super) fn get(&self, key: &str) -> &[Arc<Entry>] {
        let Some(shards) = self.shards.as_deref() else { return &[] };
        let hash = self.hasher.hash_one(key);
        let found = shards[shard_of(hash)].find(hash, |name| name.key() == key);
        found.map_or(&[], |name| name.candidates.as_slice())
    }

    fn names(&self) -> impl Iterator<Item = &Name> {
        self.shards.iter().flat_map(|shards| shards.iter().flatten())
    }

    /// How many certificates there are at all names together.
    pub(super) fn candidates(&self) -> usize {
        self.names().map(|name| name.candidates.as_slice().len()).sum()
    }

    pub(super) fn check_invariants(&self) {
        for name in self.names() {
            let candidates = name.candidates.as_slice();
            assert!(!candidates.is_empty(), "{}", name.text);
            assert!(candidates.is_sorted_by(|a, b| a.rank() < b.rank()), "{}", name.text);
            assert!(matches!(self.get(name.key()), [first, ..] if Arc::ptr_eq(first, &candidates[0])));
            for entry in candidates {
                assert!(entry.names().any(|other| other == &*name.text), "{}", name.text);
            }
        }
    }
}

impl Name {
    fn key(&self) -> &str {
        key(&self.text)
    }
}

/// What a name is looked up by.
fn key(text: &str) -> &str {
    wildcard_suffix(text).unwrap_or(text)
}

/// The shard of a hash: bits that the tables use neither for the place (the lowest) nor to tell neighbours
/// apart (the seven topmost).
fn shard_of(hash: u64) -> usize {
    usize::from(hash.to_le_bytes()[5]) % SHARDS
}

impl Candidates {
    fn as_slice(&self) -> &[Arc<Entry>] {
        match self {
            Self::One(entry) => std::slice::from_ref(entry),
            Self::Several(entries) => entries,
        }
    }

    /// Adds a certificate, unless it is there: one may have a name twice.
    fn insert(&mut self, entry: &Arc<Entry>) {
        let entries = self.as_slice();
        if entries.iter().any(|other| Arc::ptr_eq(other, entry)) {
            return;
        }
        let place = entries.partition_point(|other| other.rank() < entry.rank());
        match self {
            Self::One(other) => {
                let mut entries = vec![other.clone()];
                entries.insert(place, entry.clone());
                *self = Self::Several(entries);
            }
            Self::Several(entries) => entries.insert(place, entry.clone()),
        }
    }

    /// Removes a certificate, and says whether none is left; the last one stays, with its name to be removed.
    fn remove(&mut self, entry: &Arc<Entry>) -> bool {
        match self {
            Self::One(other) => Arc::ptr_eq(other, entry),
            Self::Several(entries) => {
                entries.retain(|other| !Arc::ptr_eq(other, entry));
                if let [last] = &entries[..] {
                    *self = Self::One(last.clone());
                }
                false
            }
        }
    }
}
