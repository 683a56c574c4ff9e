//! Shuffle sharding: a client meets few of the backends, always the same ones, and hardly any two clients meet the
//! same few. What one client breaks stays with those who share a backend with it.
//!
//! A client's backends are those with the best hashes of client and backend: like in [`super::rendezvous`], one
//! that comes or goes changes one place in some shards, and nothing in the others.

use super::hash;

/// Keeps the hashes apart from those that algorithms choose by.
const SALT: u64 = 0x7368_6172_6400_0001;

/// The backends of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    key: u64,
    /// The hash of the last one that belongs to it.
    last: u64,
}

impl Shard {
    /// How many of `members` make a shard: `percent` of them, rounded up, and two at least.
    #[must_use]
    pub fn size(percent: u8, members: usize) -> usize {
        (members * usize::from(percent)).div_ceil(100).max(2)
    }

    /// The shard of a client: the best `size` of these backends, given by their hashes. `scratch` is room to sort
    /// in.
    pub fn new(key: u64, ids: impl Iterator<Item = u64>, size: usize, scratch: &mut Vec<u64>) -> Self {
        let key = hash::mix(key, SALT);
        scratch.clear();
        scratch.extend(ids.map(|id| hash::mix(key, id)));
        let last = match size.checked_sub(1) {
            Some(position) if position < scratch.len() => *scratch.select_nth_unstable(position).1,
            Some(_) => u64::MAX,
            None => 0,
        };
        Self { key, last }
    }

    /// Whether the backend with this hash belongs to it.
    #[must_use]
    pub fn has(&self, id: u64) -> bool {
        hash::mix(self.key, id) <= self.last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(shard: &Shard, ids: &[u64]) -> Vec<u64> {
        ids.iter().copied().filter(|&id| shard.has(id)).collect()
    }

    #[test]
    fn sizes_are_rounded_up() {
        let sizes = [(1, 8), (10, 100), (10, 101), (100, 50), (1, 2), (33, 10)];
        assert_eq!(sizes.map(|(percent, members)| Shard::size(percent, members)), [2, 10, 11, 50, 2, 4]);
    }

    #[test]
    fn clients_share_few() {
        let ids: Vec<u64> = (0..100).map(|id| hash::mix(id, 5)).collect();
        let shard =
            |key| members(&Shard::new(hash::mix(key, 9), ids.iter().copied(), 5, &mut Vec::new()), &ids);
        let same = (1..2_000).filter(|&key| shard(key) == shard(0)).count();
        assert_eq!(same, 0);
        let mut loads = [0usize; 100];
        for key in 0..2_000 {
            for id in shard(key) {
                loads[ids.iter().position(|&other| other == id).expect("of them")] += 1;
            }
        }
        assert!(loads.iter().all(|load| (50..160).contains(load)), "{loads:?}");
    }

    proptest! {
        /// So many, the same whatever the order; one that goes is replaced by one, one that comes replaces one at
        /// most.
        #[test]
        fn one_place_changes_at_a_time(ids in proptest::collection::hash_set(any::<u64>(), 2..40), key: u64,
            size in 1usize..10) {
            let ids: Vec<u64> = ids.into_iter().collect();
            let shard = |ids: &[u64]| Shard::new(key, ids.iter().rev().copied(), size, &mut Vec::new());
            let before = members(&shard(&ids), &ids);
            prop_assert_eq!(before.len(), size.min(ids.len()));
            let (gone, rest) = ids.split_first().expect("two at least");
            let after = members(&shard(rest), rest);
            let lost: Vec<_> = before.iter().filter(|id| !after.contains(id)).collect();
            prop_assert!(lost.iter().all(|id| *id == gone));
            prop_assert!(after.iter().filter(|id| !before.contains(id)).count() <= 1);
        }
    }
}
