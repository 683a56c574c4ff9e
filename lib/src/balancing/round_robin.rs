//! Weighted round robin, as stride scheduling (Waldspurger and Weihl 1995).
//!
//! A candidate that was chosen waits for one stride, a span inversely proportional to its weight, and the
//! one with the least left to wait is next. With equal weights that is the plain rotation; with others,
//! choices of the heavy are spread between those of the light.
//!
//! The usual smooth weighted round robin keeps credits in proportion to the total weight. A backend in
//! debt when a heavy one leaves then starves until the rest have made up for that one's weight. A wait is
//! at most one's own stride, so here nobody owes anything when the set of candidates changes.
//!
//! Waits are kept as points in a time that only choices move on, and who waits is in a heap by them: a choice
//! takes the root. Who turns out not to be available there leaves the heap. Nobody tells when it is available
//! again, nor that a weight was raised: each choice looks at a few members in turn, so that it is noticed
//! within as many choices as the members divided by [`LOOKS`].

/// The stride of weight 1. Keeps the rounding of the greatest weight's stride below 2^-16.
const STRIDE_OF_ONE: u64 = 1 << 48;

/// Members that each choice looks at besides the one it takes.
const LOOKS: usize = 8;

/// The place of who is not in the heap.
const OUT: u32 = u32::MAX;

/// When a member's turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    /// `None` until it could be chosen for the first time. 2^64 choices don't overflow it.
    due: Option<u128>,
    /// Where it is in the heap, or [`OUT`].
    place: u32,
}

impl Wait {
    const NEW: Self = Self { due: None, place: OUT };
}

/// Whose turn it is among the members of a cluster, which it knows by their indexes.
///
/// Between any two members that can be chosen all the time, the numbers of choices divided by the weights
/// never differ by more than one choice of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoundRobin {
    waits: Vec<Wait>,
    /// Those known to be available, the next one first: of a heap's entry at `n`, those at `2n + 1` and `2n + 2`
    /// are not before it.
    heap: Vec<u32>,
    /// What was due last.
    now: u128,
    /// The member to look at next.
    cursor: usize,
    /// Members that were looked at since they were added; those after them were not.
    known: usize,
}

impl RoundRobin {
    /// A member was added after all others. Optional: members not heard of before count as added.
    pub fn inserted(&mut self) {
        self.waits.push(Wait::NEW);
    }

    /// The member at `index` was removed; those after it moved down by one.
    pub fn removed(&mut self, index: usize) {
        if index >= self.waits.len() {
            return;
        }
        self.take_out(index);
        self.waits.remove(index);
        self.known -= usize::from(index < self.known);
        // Who comes before whom is as it was.
        for member in &mut self.heap {
            *member -= u32::from(*member as usize > index);
        }
    }

    /// Chooses among `members` members: `weight` gives the weight of one, or `None` if it cannot be chosen
    /// now. A weight of 0 counts as 1. `None` if there is nobody to choose.
    ///
    /// Costs a few questions, and steps by the logarithm of the members; where nobody was available, a question for
    /// each.
    pub fn pick(&mut self, members: usize, weight: impl Fn(usize) -> Option<u32>) -> Option<usize> {
        self.fit(members);
        for index in self.known..members {
            self.look_at(index, &weight);
        }
        self.known = members;
        for _ in 0..LOOKS.min(members) {
            self.cursor = if self.cursor < members { self.cursor } else { 0 };
            self.look_at(self.cursor, &weight);
            self.cursor += 1;
        }
        if let Some(index) = self.take_root(&weight) {
            return Some(index);
        }
        (0..members).for_each(|index| self.look_at(index, &weight));
        self.take_root(&weight)
    }

    /// The same for a choice among some of the members only, which are others each time: who is not one of them
    /// is not taken for unavailable.
    ///
    /// Costs one question per member, asked once.
    pub fn pick_of_some(&mut self, members: usize, weight: impl Fn(usize) -> Option<u32>) -> Option<usize> {
        self.fit(members);
        let mut best: Option<(u128, usize, u64)> = None;
        for index in 0..members {
            let Some(stride) = weight(index).map(stride) else { continue };
            let due = self.advance(index, stride);
            if best.is_none_or(|(least, ..)| due < least) {
                best = Some((due, index, stride));
            }
        }
        let (due, index, stride) = best?;
        self.now = due;
        self.set_due(index, due + u128::from(stride));
        Some(index)
    }

    /// Allocates only when a member is new.
    fn fit(&mut self, members: usize) {
        if self.waits.len() != members {
            (members..self.waits.len()).for_each(|index| self.take_out(index));
            self.waits.resize(members, Wait::NEW);
            self.heap.reserve(members.saturating_sub(self.heap.len()));
            self.known = self.known.min(members);
        }
    }

    /// When a member is due if it can be chosen now. Time passes for all, also for those that could not be chosen: they
    /// come back owing nothing, and are owed nothing either.
    fn due(&self, index: usize, stride: u64) -> u128 {
        match self.waits.get(index).and_then(|wait| wait.due) {
            // Its weight may have been raised since: it need not wait longer than it now would.
            Some(due) => due.clamp(self.now, self.now + u128::from(stride)),
            // Half a stride puts the choices of the light amid those of the heavy.
            None => self.now + u128::from(stride / 2),
        }
    }

    /// Takes in who is available again, and who need not wait as long as it does.
    fn look_at(&mut self, index: usize, weight: &impl Fn(usize) -> Option<u32>) {
        let Some(stride) = weight(index).map(stride) else { return };
        self.advance(index, stride);
        if self.waits.get(index).is_some_and(|wait| wait.place == OUT) {
            self.put_in(index);
        }
    }

    /// Brings up to date when a member that can be chosen is due.
    fn advance(&mut self, index: usize, stride: u64) -> u128 {
        let due = self.due(index, stride);
        if self.waits.get(index).is_some_and(|wait| wait.due != Some(due)) {
            self.set_due(index, due);
        }
        due
    }

    /// Chooses the first of the heap that is available; those before it leave the heap.
    fn take_root(&mut self, weight: &impl Fn(usize) -> Option<u32>) -> Option<usize> {
        loop {
            let index = *self.heap.first()? as usize;
            let Some(stride) = weight(index).map(stride) else {
                self.take_out(index);
                continue;
            };
            let due = self.due(index, stride);
            self.now = due;
            self.set_due(index, due + u128::from(stride));
            return Some(index);
        }
    }

    /// In whose order the heap is: of several that are due at the same time the one that was added first.
    fn turn(&self, member: u32) -> Option<(u128, u32)> {
        self.waits.get(member as usize)?.due.map(|due| (due, member))
    }

    fn set_due(&mut self, index: usize, due: u128) {
        let Some(wait) = self.waits.get_mut(index) else { return };
        wait.due = Some(due);
        if wait.place != OUT {
            let place = wait.place as usize;
            self.rise(place);
            self.sink(place);
        }
    }

    fn put_in(&mut self, index: usize) {
        let (Ok(member), Ok(place)) = (u32::try_from(index), u32::try_from(self.heap.len())) else { return };
        let Some(wait) = self.waits.get_mut(index) else { return };
        wait.place = place;
        self.heap.push(member);
        self.rise(place as usize);
    }

    fn take_out(&mut self, index: usize) {
        let Some(wait) = self.waits.get_mut(index).filter(|wait| wait.place != OUT) else { return };
        let place = std::mem::replace(&mut wait.place, OUT) as usize;
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.settle(place);
            self.rise(place);
            self.sink(place);
        }
    }

    /// Towards the root, as long as whoever is above comes later.
    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let above = (place - 1) / 2;
            if !self.comes_before(place, above) {
                break;
            }
            self.swap(place, above);
            place = above;
        }
    }

    /// Away from the root, as long as somebody below comes earlier.
    fn sink(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let below = if self.comes_before(right, left) { right } else { left };
            if !self.comes_before(below, place) {
                break;
            }
            self.swap(below, place);
            place = below;
        }
    }

    /// Whether there is somebody at `place`, and comes before who is at `other`.
    fn comes_before(&self, place: usize, other: usize) -> bool {
        let at = |place: usize| self.heap.get(place).and_then(|&member| self.turn(member));
        at(place).is_some_and(|turn| at(other).is_some_and(|other| turn < other))
    }

    fn swap(&mut self, place: usize, other: usize) {
        self.heap.swap(place, other);
        self.settle(place);
        self.settle(other);
    }

    /// Tells who is at `place` so.
    fn settle(&mut self, place: usize) {
        let Some(&member) = self.heap.get(place) else { return };
        if let (Some(wait), Ok(place)) = (self.waits.get_mut(member as usize), u32::try_from(place)) {
            wait.place = place;
        }
    }
}

fn stride(weight: u32) -> u64 {
    STRIDE_OF_ONE / u64::from(weight.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl RoundRobin {
        fn check_invariants(&self) {
            for (place, &member) in self.heap.iter().enumerate() {
                assert_eq!(self.waits[member as usize].place as usize, place, "of {member}");
                assert!(place == 0 || !self.comes_before(place, (place - 1) / 2), "{place}");
            }
            let inside = self.waits.iter().filter(|wait| wait.place != OUT).count();
            assert_eq!(inside, self.heap.len());
        }
    }

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
        assert_eq!(rotation.waits, [Wait::NEW; 3]);
        assert_eq!(rotation.pick_of_some(3, |_| None), None);
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

    #[test]
    fn of_many_nobody_is_forgotten_who_was_away() {
        let mut rotation = RoundRobin::default();
        let picks = |rotation: &mut RoundRobin, available: &dyn Fn(usize) -> bool, count: usize| {
            let mut counts = vec![0; 1_000];
            for _ in 0..count {
                let index = rotation.pick(1_000, |i| available(i).then_some(100)).expect("somebody");
                assert!(available(index));
                counts[index] += 1;
            }
            rotation.check_invariants();
            counts
        };
        assert_eq!(picks(&mut rotation, &|_| true, 2_000), vec![2; 1_000]);
        let odd = picks(&mut rotation, &|i| i % 2 == 1, 1_000);
        assert!((0..1_000).all(|i| odd[i] == 2 * (i % 2)), "{odd:?}");
        // Noticed within a thousand choices divided by those looked at in each; then all have their shares.
        picks(&mut rotation, &|_| true, 1_000 / LOOKS);
        let after = picks(&mut rotation, &|_| true, 3_000);
        assert!(after.iter().all(|count| (2..=4).contains(count)), "{after:?}");
        assert_eq!(picks(&mut rotation, &|i| i == 77, 5)[77], 5);
    }

    #[test]
    fn one_that_is_added_to_many_joins_within_a_round() {
        let mut rotation = RoundRobin::default();
        for _ in 0..1_500 {
            rotation.pick(1_000, |_| Some(1));
        }
        rotation.inserted();
        assert!((0..1_000).any(|_| rotation.pick(1_001, |_| Some(1)) == Some(1_000)));
    }

    #[test]
    fn the_few_of_a_shard_have_their_turns() {
        let mut rotation = RoundRobin::default();
        let mut counts = [0; 12];
        for client in 0..1_200 {
            let shard = |i: usize| (i % 4 == client % 4).then_some(10);
            counts[rotation.pick_of_some(12, shard).expect("three are there")] += 1;
        }
        assert!(counts.iter().all(|count| (99..=101).contains(count)), "{counts:?}");
        rotation.check_invariants();
    }

    proptest! {
        /// A choice among some is the same choice, as long as they are as few as are looked at each time.
        #[test]
        fn both_ways_choose_the_same(
            script in proptest::collection::vec(
                (proptest::collection::vec(proptest::option::of(0u32..300), 1..=LOOKS), any::<bool>()), 1..60),
        ) {
            let (mut one, mut other) = (RoundRobin::default(), RoundRobin::default());
            for (weights, mixed) in script {
                let chosen = one.pick(weights.len(), |i| weights[i]);
                let expected = match mixed {
                    true => other.pick(weights.len(), |i| weights[i]),
                    false => other.pick_of_some(weights.len(), |i| weights[i]),
                };
                prop_assert_eq!(chosen, expected);
                one.check_invariants();
                other.check_invariants();
            }
        }

        /// Whatever comes and goes, the heap is one, and nobody is chosen who cannot be.
        #[test]
        fn the_heap_stays_one(
            script in proptest::collection::vec((0u8..6, any::<prop::sample::Index>(), 0u64..u64::MAX), 1..200),
        ) {
            let mut rotation = RoundRobin::default();
            let mut members = 20;
            for (what, which, mask) in script {
                match what {
                    0 => {
                        rotation.inserted();
                        members += 1;
                    }
                    1 if members > 1 => {
                        rotation.removed(which.index(members));
                        members -= 1;
                    }
                    _ => {
                        let may = |i: usize| (mask >> (i % 64) & 1 == 1).then_some([0, 1, 2, 50, 100, 100, 9][i % 7]);
                        let chosen = rotation.pick(members, may);
                        prop_assert_eq!(chosen.is_some(), (0..members).any(|i| may(i).is_some()));
                        prop_assert!(chosen.is_none_or(|i| may(i).is_some()));
                    }
                }
                rotation.check_invariants();
            }
        }

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
