//! Maglev hashing (Eisenbud et al. 2016, §3.4), with weights: a table of many more slots than backends, in which
//! each backend has its share, and a key belongs to whoever has its slot.
//!
//! Backends take turns in taking the first free slot of a permutation of their own. When one comes or goes its
//! slots change hands, and of the others' a few per cent. A choice is one look at the table, however many backends
//! there are; building it is what costs.
//!
//! A backend that is unavailable keeps its slots, so that nobody else's keys move: its keys go to whoever has the
//! next slot, which is another one for each of them.

use super::hash;

/// Slots for each backend, at least: shares are exact to a part in so many.
const SLOTS_PER_SEAT_MIN: usize = 64;

/// Sizes of tables: great primes below powers of 2. From one size to the next all keys are dealt anew, so there are few: up
/// to 255 backends have the first. The last one bounds the memory and the time that one cluster may take; with more than
/// 2,047 backends each has fewer slots.
const SIZES: [usize; 3] = [16_381, 65_521, 131_071];

/// Slots to look at behind one whose backend is unavailable.
const STEPS_MAX: usize = 64;

/// Nobody has this slot yet.
const FREE: u16 = u16::MAX;

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// What the caller knows it by; below [`Maglev::MEMBERS_MAX`].
    pub index: u16,
    /// Its hash, the same in all workers.
    pub id: u64,
    /// Its share relative to the others; 0 counts as 1.
    pub weight: u32,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maglev {
    slots: Box<[u16]>,
}

/// The way of one backend through the table.
struct Turn {
    index: u16,
    position: usize,
    skip: usize,
    /// Slots it may take, as parts of 2^32, and how many more with each round.
    credit: u64,
    gain: u64,
}

const ONE: u64 = 1 << 32;

impl Maglev {
    /// Members that a table can tell apart.
    pub const MEMBERS_MAX: usize = FREE as usize;

    /// The table of these, whose order does not matter.
    #[must_use]
    pub fn new(mut seats: Vec<Seat>) -> Self {
        match seats[..] {
            [] => return Self { slots: Box::default() },
            // Whatever the size of the next table: nobody has anything to lose.
            [only] => return Self { slots: Box::new([only.index]) },
            _ => {}
        }
        seats.sort_unstable_by_key(|seat| (seat.id, seat.weight));
        let wanted = seats.len() * SLOTS_PER_SEAT_MIN;
        let size = SIZES.into_iter().find(|&size| size >= wanted).unwrap_or(SIZES[SIZES.len() - 1]);
        let total: u64 = seats.iter().map(|seat| u64::from(seat.weight.max(1))).sum();
        let rounds_share = |weight: u32| {
            let share =
                u128::from(weight.max(1)) * (seats.len() as u128) * u128::from(ONE) / u128::from(total);
            u64::try_from(share).unwrap_or(u64::MAX).max(1)
        };
        let mut turns: Vec<Turn> = seats
            .iter()
            .map(|seat| Turn {
                index: seat.index,
                position: remainder(hash::mix(seat.id, 1), size),
                skip: remainder(hash::mix(seat.id, 2), size - 1) + 1,
                // Whoever takes part has a slot.
                credit: ONE - rounds_share(seat.weight).min(ONE),
                gain: rounds_share(seat.weight),
            })
            .collect();
        let mut slots = vec![FREE; size].into_boxed_slice();
        let mut free = size;
        // Each round gives away as many slots as there are backends.
        while free > 0 {
            for turn in &mut turns {
                turn.credit += turn.gain;
                while turn.credit >= ONE && free > 0 {
                    turn.credit -= ONE;
                    turn.take(&mut slots);
                    free -= 1;
                }
            }
        }
        Self { slots }
    }

    /// Who has this key among those who `may` be chosen now; `None` if nobody is found close to its slot.
    ///
    /// Costs one question if its own backend may be chosen.
    pub fn pick(&self, key: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let start = remainder(hash::mix(key, 3), self.slots.len());
        let (before, from) = self.slots.split_at_checked(start)?;
        from.iter().chain(before).take(STEPS_MAX).map(|&index| usize::from(index)).find(|&index| may(index))
    }

    /// Slots of the table; the memory it takes is twice that.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nobody takes part.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

impl Turn {
    /// Takes the first free slot of its permutation, of which there is one.
    fn take(&mut self, slots: &mut [u16]) {
        loop {
            let position = self.position;
            self.position += self.skip;
            if self.position >= slots.len() {
                self.position -= slots.len();
            }
            match slots.get_mut(position) {
                Some(slot) if *slot == FREE => {
                    *slot = self.index;
                    return;
                }
                Some(_) => {}
                None => return,
            }
        }
    }
}

fn remainder(bits: u64, size: usize) -> usize {
    // Below `size`, so it fits.
    usize::try_from(bits % size as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seats(weights: &[u32]) -> Vec<Seat> {
        let ids = (0u16..).map(|index| (index, hash::mix(index.into(), 31)));
        ids.zip(weights).map(|((index, id), &weight)| Seat { index, id, weight }).collect()
    }

    fn counts(table: &Maglev, members: usize) -> Vec<usize> {
        let mut counts = vec![0; members];
        table.slots.iter().for_each(|&index| counts[usize::from(index)] += 1);
        counts
    }

    #[test]
    fn sizes_are_prime_and_fit() {
        for size in SIZES {
            assert!((2..size).take_while(|n| n * n <= size).all(|n| size % n != 0), "{size}");
        }
        assert_eq!(Maglev::new(seats(&[1])).len(), 1);
        for count in [2, 3, 4, 8, 9, 64, 255] {
            assert_eq!(
                Maglev::new(seats(&vec![1; count])).len(),
                16_381,
                "{count}: what belongs to whom stays"
            );
        }
        assert_eq!(Maglev::new(seats(&[1; 256])).len(), 65_521);
        assert_eq!(Maglev::new(seats(&[1; 1_000])).len(), 65_521);
        assert_eq!(Maglev::new(seats(&[1; 5_000])).len(), 131_071);
        assert!(Maglev::new(Vec::new()).is_empty());
        assert_eq!(Maglev::new(Vec::new()).pick(1, |_| true), None);
    }

    #[test]
    fn one_of_great_weight_leaves_a_slot_to_the_light() {
        let mut weights = [1; 200];
        weights[0] = 65_535;
        let counts = counts(&Maglev::new(seats(&weights)), weights.len());
        assert!(counts.iter().all(|&count| count >= 1));
        assert!(counts[0] > 16_381 - 600, "{}", counts[0]);
    }

    #[test]
    fn the_keys_of_one_that_is_unavailable_spread() {
        let table = Maglev::new(seats(&[100; 10]));
        let mut others = [0; 10];
        for key in 0..10_000 {
            let usual = table.pick(key, |_| true).expect("all may be chosen");
            let now = table.pick(key, |index| index != 3).expect("nine may be chosen");
            assert!(usual == 3 || usual == now);
            if usual == 3 {
                others[now] += 1;
            }
        }
        let moved: usize = others.iter().sum();
        assert!(others[3] == 0 && moved > 800);
        for (index, &count) in others.iter().enumerate().filter(|(index, _)| *index != 3) {
            assert!((moved / 25..moved / 4).contains(&count), "{index}: {others:?}");
        }
        assert_eq!(table.pick(1, |_| false), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// To a slot or two.
        #[test]
        fn shares_are_those_of_the_weights(weights in proptest::collection::vec(1u32..256, 1..80)) {
            let table = Maglev::new(seats(&weights));
            let total: u32 = weights.iter().sum();
            for (count, &weight) in counts(&table, weights.len()).into_iter().zip(&weights) {
                let due = table.len() as f64 * f64::from(weight) / f64::from(total);
                // The last round may end before everybody had their turn in it.
                let round = f64::from(weight) * weights.len() as f64 / f64::from(total);
                prop_assert!((count as f64 - due).abs() <= round + 2.0, "{count} of {due}");
            }
        }

        /// The order does not matter; one that goes takes few slots of others along.
        #[test]
        fn few_slots_of_others_change_hands(count in 2usize..200, which: prop::sample::Index) {
            let all = seats(&vec![100; count]);
            let table = Maglev::new(all.clone());
            let mut reversed = all.clone();
            reversed.reverse();
            prop_assert_eq!(&table, &Maglev::new(reversed));
            let mut rest = all;
            let gone = rest.remove(which.index(count)).index;
            let after = Maglev::new(rest);
            // The only one that is left has a table of one slot, and all of the keys.
            let both = table.slots.iter().zip(after.slots.iter().cycle());
            let moved = both.filter(|(before, after)| **before != gone && before != after).count();
            prop_assert!(moved * 100 <= table.len() * MOVED_PERCENT_MAX, "{moved} of {}", table.len());
        }
    }

    /// Of the slots of others, when one of them leaves.
    const MOVED_PERCENT_MAX: usize = 12;
}
