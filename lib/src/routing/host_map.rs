//! A hash table of hosts whose growth is spread out.
//!
//! A single table of a million hosts stops the worker for a large part of a second when it doubles, for
//! it hashes every name again. Cut into shards, one of which doubles at a time, it is a few milliseconds.

use hashbrown::HashTable;

use super::host::Host;
use super::text::Text;

/// Tables a map is cut into.
const SHARDS: usize = 128;

/// A table this empty or emptier, in one part of so many, gives memory back.
const SPARSE: usize = 8;

/// Room of a table that is too little to be given back.
const CAPACITY_KEPT: usize = 64;

/// Values by host.
#[derive(Debug)]
pub(super) struct HostMap<V> {
    /// None before the first insertion, since most listeners have no wildcards.
    shards: Option<Box<[HashTable<Entry<V>>; SHARDS]>>,
    len: usize,
}

#[derive(Debug)]
struct Entry<V> {
    host: Text,
    value: V,
}

impl<V> Default for HostMap<V> {
    fn default() -> Self {
        Self { shards: None, len: 0 }
    }
}

impl<V> HostMap<V> {
    pub(super) fn get(&self, host: Host<'_>) -> Option<&V> {
        let shard = &self.shards.as_deref()?[shard_of(host)];
        shard.find(host.hash(), |entry| entry.host.as_bytes() == host.name()).map(|entry| &entry.value)
    }

    pub(super) fn get_mut(&mut self, host: Host<'_>) -> Option<&mut V> {
        let shard = &mut self.shards.as_deref_mut()?[shard_of(host)];
        let entry = shard.find_mut(host.hash(), |entry| entry.host.as_bytes() == host.name())?;
        Some(&mut entry.value)
    }

    /// Adds a host, in lower case, that is not there yet.
    pub(super) fn insert(&mut self, host: Text, value: V) {
        let key = Host::lower(host.as_bytes());
        debug_assert!(self.get(key).is_none(), "it is new");
        let shards = self.shards.get_or_insert_with(|| Box::new([const { HashTable::new() }; SHARDS]));
        shards[shard_of(key)].insert_unique(key.hash(), Entry { host, value }, Entry::hash);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, host: Host<'_>) -> Option<V> {
        let shard = &mut self.shards.as_deref_mut()?[shard_of(host)];
        let found = shard.find_entry(host.hash(), |entry| entry.host.as_bytes() == host.name());
        let (removed, _) = found.ok()?.remove();
        // Moves few, and the next time is far: most of what has grown was removed one by one.
        if shard.capacity() > CAPACITY_KEPT && shard.len() < shard.capacity() / SPARSE {
            shard.shrink_to(shard.len() * 2, Entry::hash);
        }
        self.len -= 1;
        if self.len == 0 {
            self.shards = None;
        }
        Some(removed.value)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(|shards| shards.iter().flatten()).map(|entry| &entry.value)
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.len, self.values().count());
        for (index, shard) in self.shards.iter().flat_map(|shards| shards.iter().enumerate()) {
            assert!(shard.iter().all(|entry| shard_of(Host::lower(entry.host.as_bytes())) == index));
        }
    }
}

impl<V> Entry<V> {
    fn hash(&self) -> u64 {
        Host::lower(self.host.as_bytes()).hash()
    }
}

/// The shard of a host: bits of its hash that the tables use neither for the place (the lowest) nor to tell
/// neighbours apart (the seven topmost).
fn shard_of(host: Host<'_>) -> usize {
    usize::from(host.hash().to_le_bytes()[5]) % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names_spread_over_the_shards() {
        let mut map = HostMap::default();
        for i in 0..SHARDS * 100 {
            map.insert(Text::from(format!("host-{i}.example.com").as_str()), i);
        }
        map.check_invariants();
        let shards = map.shards.as_deref().expect("there are hosts");
        let fullest = shards.iter().map(HashTable::len).max();
        assert!(fullest < Some(200), "{fullest:?} where 100 are due");
    }

    #[test]
    fn an_empty_map_holds_nothing() {
        let mut map = HostMap::default();
        let a = Host::lower(b"a");
        assert_eq!(map.get(a), None);
        assert_eq!(map.remove(a), None);
        map.insert(Text::from("a"), 1);
        assert_eq!(map.get(a), Some(&1));
        assert_eq!(map.remove(a), Some(1));
        assert!(map.is_empty() && map.shards.is_none());
        map.check_invariants();
    }

    #[test]
    fn memory_is_given_back() {
        let mut map = HostMap::default();
        let name = |i: usize| format!("host-{i}.example.com");
        for i in 0..SHARDS * 1_000 {
            map.insert(Text::from(name(i).as_str()), i);
        }
        for i in 10..SHARDS * 1_000 {
            assert_eq!(map.remove(Host::lower(name(i).as_bytes())), Some(i));
        }
        map.check_invariants();
        for i in 0..10 {
            assert_eq!(map.get(Host::lower(name(i).as_bytes())), Some(&i));
        }
        let shards = map.shards.as_deref().expect("there are hosts");
        let room = shards.iter().map(HashTable::capacity).max();
        assert!(room <= Some(2 * CAPACITY_KEPT), "{room:?}");
    }
}
