//! A hash table of hosts whose growth is spread out.
//!
//! A single table of a million hosts stops the worker for a large part of a second when it doubles, for
//! it hashes every name again. Cut into shards, one of which doubles at a time, it is a few milliseconds.

use std::collections::HashMap;

use super::text::Text;

/// Tables a map is cut into.
const SHARDS: usize = 128;

/// Values by host.
#[derive(Debug)]
pub(super) struct HostMap<V> {
    /// `SHARDS` of them; none before the first insertion, since most listeners have no wildcards.
    shards: Vec<HashMap<Text, V>>,
    len: usize,
}

impl<V> Default for HostMap<V> {
    fn default() -> Self {
        Self { shards: Vec::new(), len: 0 }
    }
}

impl<V> HostMap<V> {
    pub(super) fn get(&self, host: &[u8]) -> Option<&V> {
        self.shards.get(shard_of(host))?.get(host)
    }

    pub(super) fn get_mut(&mut self, host: &[u8]) -> Option<&mut V> {
        self.shards.get_mut(shard_of(host))?.get_mut(host)
    }

    pub(super) fn insert(&mut self, host: Text, value: V) {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, HashMap::new);
        }
        if let Some(shard) = self.shards.get_mut(shard_of(host.as_bytes()))
            && shard.insert(host, value).is_none()
        {
            self.len += 1;
        }
    }

    pub(super) fn remove(&mut self, host: &[u8]) -> Option<V> {
        let removed = self.shards.get_mut(shard_of(host))?.remove(host)?;
        self.len -= 1;
        if self.len == 0 {
            self.shards = Vec::new();
        }
        Some(removed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(HashMap::values)
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.len, self.values().count());
        for (index, shard) in self.shards.iter().enumerate() {
            assert!(shard.keys().all(|host| shard_of(host.as_bytes()) == index));
        }
    }
}

/// The shard of a host: a mix of its bytes, eight at a time.
///
/// Whoever chooses hosts could put all into one shard. That makes it as slow to grow as if there were
/// no shards, and no slower: within, the standard table has a keyed hash.
fn shard_of(host: &[u8]) -> usize {
    const SHARD_MASK: u64 = SHARDS as u64 - 1;
    const _: () = assert!(SHARD_MASK == u64::MAX >> 57);
    /// Odd, with bits all over: 2^64 divided by the golden ratio.
    const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |hash: u64, chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(MULTIPLIER)
    };
    let hash = host.chunks(8).fold(0, mix);
    // The topmost bits are the best mixed.
    ((hash >> 57) & SHARD_MASK) as usize
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
        let fullest = map.shards.iter().map(HashMap::len).max();
        assert!(fullest < Some(300), "{fullest:?} where 100 are due");
    }

    #[test]
    fn an_empty_map_holds_nothing() {
        let mut map = HostMap::default();
        assert_eq!(map.get(b"a"), None);
        assert_eq!(map.remove(b"a"), None);
        map.insert(Text::from("a"), 1);
        map.insert(Text::from("a"), 2);
        assert_eq!(map.get(b"a"), Some(&2));
        assert_eq!(map.remove(b"a"), Some(2));
        assert!(map.is_empty() && map.shards.is_empty());
        map.check_invariants();
    }
}
