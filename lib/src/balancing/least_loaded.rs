//! The one with the least load for its weight.

use super::{Burden, Draws};

/// Chooses among `members` candidates: `burden` gives what one has to do, or `None` if it cannot be chosen now. Of
/// several with the same load for their weight, one at random in proportion to the weights: otherwise all workers
/// would send what they have to the same idle backend. `None` if there is nobody to choose.
///
/// Costs one question per member: [`super::power_of_two`] is nearly as even, and does not.
pub fn pick(members: usize, draws: &mut Draws, burden: impl Fn(usize) -> Option<Burden>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    // The weights of all that are as good as the best.
    let mut even: u64 = 0;
    for index in 0..members {
        let Some(burden) = burden(index) else { continue };
        let (load, weight) = (burden.per_weight(), u64::from(burden.weight.max(1)));
        match best {
            Some((_, least)) if load > least => {}
            Some((_, least)) if load == least => {
                even += weight;
                if draws.below(even) < weight {
                    best = Some((index, load));
                }
            }
            _ => {
                even = weight;
                best = Some((index, load));
            }
        }
    }
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_is_nobody() {
        let idle = Burden { weight: 1, load: 0.0 };
        assert_eq!(pick(0, &mut Draws::new(1), |_| Some(idle)), None);
        assert_eq!(pick(3, &mut Draws::new(1), |_| None), None);
    }

    #[test]
    fn who_is_idle_is_chosen_by_weight() {
        let weights = [30, 10, 60];
        let mut counts = [0u32; 3];
        for seed in 0..10_000 {
            let burden = |i: usize| Some(Burden { weight: weights[i], load: 0.0 });
            counts[pick(3, &mut Draws::new(seed), burden).expect("somebody")] += 1;
        }
        for (count, weight) in counts.into_iter().zip(weights) {
            assert!(count.abs_diff(weight * 100) < 300, "{counts:?}");
        }
    }

    proptest! {
        /// Nobody who could be chosen has less to do for their weight.
        #[test]
        fn it_is_the_least(
            burdens in proptest::collection::vec(proptest::option::of((1u32..500, 0u32..20)), 1..30),
            seed: u64,
        ) {
            let burden = |i: usize| burdens[i].map(|(weight, load)| Burden { weight, load: load.into() });
            let chosen = pick(burdens.len(), &mut Draws::new(seed), burden);
            prop_assert_eq!(chosen.is_some(), burdens.iter().any(Option::is_some));
            if let Some(chosen) = chosen {
                let least = burden(chosen).expect("it may be chosen").per_weight();
                prop_assert!((0..burdens.len()).filter_map(burden).all(|other| other.per_weight() >= least));
            }
        }

        /// What lasts long ends up where the weights say.
        #[test]
        fn long_loads_are_shared_by_weight(weights in proptest::collection::vec(1u32..50, 2..8), seed: u64) {
            let mut loads = vec![0u32; weights.len()];
            let total: u32 = weights.iter().sum();
            let mut draws = Draws::new(seed);
            for _ in 0..total * 10 {
                let burden = |i: usize| Some(Burden { weight: weights[i], load: loads[i].into() });
                let chosen = pick(weights.len(), &mut draws, burden).expect("all may be chosen");
                loads[chosen] += 1;
            }
            for (load, weight) in loads.into_iter().zip(weights) {
                prop_assert!(load.abs_diff(weight * 10) <= weight + 1, "{load} of {}", weight * 10);
            }
        }
    }
}
