//! Weighted round robin, as stride scheduling (Waldspurger and Weihl 1995).
//!
//! A candidate that was chosen waits for one stride, a span inversely proportional to its weight, and the
//! one with the least left to wait is next. With equal weights that is the plain rotation; with others,
//! choices of the heavy are spread between those of the light.
//!
//! The usual smooth weighted round robin keeps credits in proportion to the total weight. A backend in
//! debt when a heavy one leaves then starves until the rest have made up for that one's weight. A wait is
//! at most one's own stride, so here nobody owes anything when the set of candidates changes.

/// The stride of weight 1. Keeps the rounding of the greatest weight's stride below 2^-16.
const STRIDE_OF_ONE: u64 = 1 << 48;

/// A wait not yet begun: see [`RoundRobin::inserted`].
const NEW: u64 = u64::MAX;

/// Whose turn it is among the members of a cluster, which it knows by their indexes.
///
/// Between any two members that can be chosen all the time, the numbers of choices divided by the weights
/// never differ by more than one choice of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoundRobin {
    /// What is left to wait, by member; at most the member's stride when it was last chosen.
    waits: Vec<u64>,
}

impl RoundRobin {
    /// A member was added after all others. Optional: members not heard of before count as added.
    pub fn inserted(&mut self) {
        self.waits.push(NEW);
    }

    /// The member at `index` was removed; those after it moved down by one.
    pub fn removed(&mut self, index: usize) {
        if index < self.waits.len() {
            self.waits.remove(index);
        }
    }

    /// Chooses among `members` members: `weight` gives the weight of one, or `None` if it cannot be chosen
    /// now. A weight of 0 counts as 1. `None` if there is nobody to choose.
    ///
    /// Costs one question per member, asked once.
    pub fn pick(&mut self, members: usize, weight: impl Fn(usize) -> Option<u32>) -> Option<usize> {
        // Allocates only when a member is new.
        self.waits.resize(members, NEW);
        let mut chosen: Option<Turn> = None;
        for (index, wait) in self.waits.iter_mut().enumerate() {
            let Some(weight) = weight(index) else { continue };
            let turn = Turn::new(index, *wait, weight.max(1));
            *wait = turn.wait;
            if chosen.as_ref().is_none_or(|best| turn.wait < best.wait) {
                chosen = Some(turn);
            }
        }
        let turn = chosen?;
        // Time passes for all, also for those that cannot be chosen: they come back owing nothing, and
        // are owed nothing either.
        for wait in &mut self.waits {
            if *wait != NEW {
                *wait = wait.saturating_sub(turn.wait);
            }
        }
        if let Some(wait) = self.waits.get_mut(turn.index) {
            *wait = turn.stride();
        }
        Some(turn.index)
    }
}

/// A member that could be next.
struct Turn {
    index: usize,
    wait: u64,
    weight: u32,
}

impl Turn {
    fn new(index: usize, wait: u64, weight: u32) -> Self {
        let mut turn = Self { index, wait, weight };
        if wait == NEW {
            // Half a stride puts the choices of the light amid those of the heavy.
            turn.wait = turn.stride() / 2;
        } else if wait.saturating_mul(u64::from(weight)) > STRIDE_OF_ONE {
            // Its weight was raised since: it need not wait longer than it now would.
            turn.wait = turn.stride();
        }
        turn
    }

    fn stride(&self) -> u64 {
        STRIDE_OF_ONE / u64::from(self.weight)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns(rotation: &mut RoundRobin, weights: &[Option<u32>], picks: usize) -> Vec<usize> {
        (0..picks).map(|_| rotation.pick(weights.len(), |i| weights[i]).expect("somebody")).collect()
    }

    fn check(weights: &[u32], expected: &[usize]) {
        let weights: Vec<_> = weights.iter().copied().map(Some).collect();
        assert_eq!(turns(&mut RoundRobin::default(), &weights, expected.len()), expected, "{weights:?}");
    }

    #[test]
    fn equal_weights_rotate() {
        check(&[100], &[0, 0, 0]);
        check(&[100, 100, 100], &[0, 1, 2, 0, 1, 2, 0]);
        check(&[7, 7], &[0, 1, 0, 1, 0]);
        check(&[0, 1], &[0, 1, 0, 1, 0]);
    }

    #[test]
    fn heavy_and_light_are_interleaved() {
        check(&[2, 1], &[0, 1, 0, 0, 1, 0]);
        check(&[4, 1, 1], &[0, 0, 1, 2, 0, 0, 0, 0, 1, 2, 0, 0]);
    }

    #[test]
    fn nobody_is_nobody() {
        let mut rotation = RoundRobin::default();
        assert_eq!(rotation.pick(0, |_| Some(1)), None);
        assert_eq!(rotation.pick(3, |_| None), None);
        assert_eq!(rotation, RoundRobin { waits: vec![NEW; 3] });
    }

    #[test]
    fn who_cannot_be_chosen_is_passed_over_and_not_owed_for_it() {
        let mut rotation = RoundRobin::default();
        assert_eq!(turns(&mut rotation, &[Some(1), None, Some(1)], 4), [0, 2, 0, 2]);
        assert_eq!(turns(&mut rotation, &[Some(1), Some(1), Some(1)], 6), [1, 0, 2, 1, 0, 2]);
    }

    #[test]
    fn the_light_do_not_starve_when_the_heavy_leaves() {
        let mut rotation = RoundRobin::default();
        let weights = [Some(1_000_000), Some(1), Some(1)];
        while turns(&mut rotation, &weights, 1) != [1] {}
        let without = turns(&mut rotation, &[None, Some(1), Some(1)], 10);
        assert_eq!(without.iter().filter(|&&index| index == 1).count(), 5);
    }

    #[test]
    fn a_raised_weight_counts_at_once() {
        let mut rotation = RoundRobin::default();
        turns(&mut rotation, &[Some(1_000_000), Some(1)], 600_000);
        let after = turns(&mut rotation, &[Some(100), Some(100)], 10);
        assert_eq!(after.iter().filter(|&&index| index == 1).count(), 5);
    }

    #[test]
    fn the_turns_of_others_survive_a_removal() {
        let mut rotation = RoundRobin::default();
        turns(&mut rotation, &[Some(1); 4], 6);
        // 2 and 3 were next; they are 1 and 2 now.
        rotation.removed(0);
        assert_eq!(turns(&mut rotation, &[Some(1); 3], 4), [1, 2, 0, 1]);
    }

    #[test]
    fn a_new_member_joins_the_rotation() {
        let mut rotation = RoundRobin::default();
        turns(&mut rotation, &[Some(1); 2], 3);
        let after = turns(&mut rotation, &[Some(1); 3], 9);
        for index in 0..3 {
            assert_eq!(after.iter().filter(|&&turn| turn == index).count(), 3, "{index} of {after:?}");
        }
    }

    proptest! {
        /// The promise on the type, while others come, go and change their weights.
        #[test]
        fn two_that_stay_get_their_shares(
            stay in (1u32..2_000, 1u32..2_000),
            others in proptest::collection::vec(
                (proptest::collection::vec(proptest::option::of(0u32..3_000), 0..6), 1usize..40), 1..20),
        ) {
            let mut rotation = RoundRobin::default();
            let mut chosen = [0f64; 2];
            let (a, b) = (f64::from(stay.0), f64::from(stay.1));
            for (crowd, picks) in others {
                let weights: Vec<_> = [Some(stay.0), Some(stay.1)].into_iter().chain(crowd).collect();
                for _ in 0..picks {
                    let index = rotation.pick(weights.len(), |i| weights[i]).expect("two are there");
                    prop_assert!(weights[index].is_some());
                    if index < 2 {
                        chosen[index] += 1.0;
                    }
                    let apart = (chosen[0] / a - chosen[1] / b).abs();
                    prop_assert!(apart <= 1.0 / a + 1.0 / b + 1e-6, "{chosen:?} of {stay:?}");
                }
            }
        }

        /// Nobody waits longer than a whole round.
        #[test]
        fn everybody_comes_within_a_round(weights in proptest::collection::vec(1u32..50, 1..10)) {
            let mut rotation = RoundRobin::default();
            let total: u32 = weights.iter().sum();
            let weights: Vec<_> = weights.into_iter().map(Some).collect();
            let turns = turns(&mut rotation, &weights, total as usize * 3);
            for (index, weight) in weights.iter().enumerate() {
                let got = turns.iter().filter(|&&turn| turn == index).count();
                let due = weight.expect("all have one") as usize * 3;
                prop_assert!(got.abs_diff(due) <= 1, "{index} got {got} of {due}");
            }
        }
    }
}
