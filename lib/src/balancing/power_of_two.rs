//! The less loaded of two at random (Mitzenmacher 2001).
//!
//! Two questions suffice for loads nearly as even as if everybody was asked, and workers that know nothing of each
//! other do not all run to the one that is idle.

use super::{Burden, Draws};

/// Guesses for each of the two before every candidate is looked at.
const GUESSES: usize = 8;

/// Chooses among `members` candidates: `burden` gives what one has to do, or `None` if it cannot be chosen now. Of
/// two with the same load for their weight, one at random in proportion to the weights. `None` if there is nobody
/// to choose.
pub fn pick(members: usize, draws: &mut Draws, burden: impl Fn(usize) -> Option<Burden>) -> Option<usize> {
    let (first, one) = draw(members, None, draws, &burden)?;
    let Some((second, other)) = draw(members, Some(first), draws, &burden) else { return Some(first) };
    let (load, other_load) = (one.per_weight(), other.per_weight());
    let takes_first = if load == other_load {
        let (weight, other_weight) = (u64::from(one.weight.max(1)), u64::from(other.weight.max(1)));
        draws.below(weight + other_weight) < weight
    } else {
        load < other_load
    };
    Some(if takes_first { first } else { second })
}

/// Somebody who may be chosen, but not `but`.
fn draw(
    members: usize,
    but: Option<usize>,
    draws: &mut Draws,
    burden: &impl Fn(usize) -> Option<Burden>,
) -> Option<(usize, Burden)> {
    if members == 0 {
        return None;
    }
    let ask = |index: usize| (Some(index) != but).then(|| burden(index))?.map(|burden| (index, burden));
    for _ in 0..GUESSES {
        if let Some(found) = ask(draws.index(members)) {
            return Some(found);
        }
    }
    let count = (0..members).filter_map(ask).count();
    (0..members).filter_map(ask).nth(draws.index(count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_is_nobody_and_the_only_one_is_found() {
        let idle = Burden { weight: 1, load: 0.0 };
        assert_eq!(pick(0, &mut Draws::new(1), |_| Some(idle)), None);
        assert_eq!(pick(3, &mut Draws::new(1), |_| None), None);
        assert_eq!(pick(1, &mut Draws::new(1), |_| Some(idle)), Some(0));
        assert_eq!(pick(500, &mut Draws::new(1), |i| (i == 300).then_some(idle)), Some(300));
    }

    #[test]
    fn two_that_are_idle_are_chosen_by_weight() {
        let mut heavy = 0;
        for seed in 0..10_000 {
            let burden = |i: usize| Some(Burden { weight: [75, 25][i], load: 0.0 });
            heavy += u32::from(pick(2, &mut Draws::new(seed), burden) == Some(0));
        }
        assert!(heavy.abs_diff(7_500) < 250, "{heavy}");
    }

    proptest! {
        /// The one with the most to do is chosen only if nobody else may be.
        #[test]
        fn the_worst_is_never_chosen(
            others in proptest::collection::vec(proptest::option::of(0u32..10), 1..20), seed: u64,
        ) {
            let burden = |i: usize| match others.get(i) {
                Some(load) => load.map(|load| Burden { weight: 1, load: load.into() }),
                None => Some(Burden { weight: 1, load: 99.0 }),
            };
            let chosen = pick(others.len() + 1, &mut Draws::new(seed), burden).expect("one may be");
            prop_assert_eq!(chosen == others.len(), others.iter().all(Option::is_none));
        }

        /// What lasts long ends up close to where the weights say.
        #[test]
        fn long_loads_are_shared_by_weight(weights in proptest::collection::vec(20u32..50, 2..8), seed: u64) {
            let mut loads = vec![0u32; weights.len()];
            let total: u32 = weights.iter().sum();
            let mut draws = Draws::new(seed);
            for _ in 0..total * 10 {
                let burden = |i: usize| Some(Burden { weight: weights[i], load: loads[i].into() });
                let chosen = pick(weights.len(), &mut draws, burden).expect("all may be chosen");
                loads[chosen] += 1;
            }
            for (load, weight) in loads.into_iter().zip(weights) {
                prop_assert!(load.abs_diff(weight * 10) <= weight * 2, "{load} of {}", weight * 10);
            }
        }
    }
}
