//! Rendezvous hashing, or highest random weight (Thaler and Ravishankar 1998), with weights.
//!
//! Key and candidate make a number, and the candidate with the highest one has the key. Who comes takes keys from
//! everybody in proportion to its weight; who goes leaves its own keys, and theirs alone, to the others in
//! proportion to theirs.

use super::hash;

/// Chooses among `members` candidates: `candidate` gives the hash and weight (0 counts as 1) of one, or `None` if
/// it cannot be chosen now. The same key has the same answer whatever the order of candidates. `None` if there is
/// nobody to choose.
///
/// Costs one question per member: [`super::Maglev`] does not.
pub fn pick(members: usize, key: u64, candidate: impl Fn(usize) -> Option<(u64, u32)>) -> Option<usize> {
    let mut best: Option<(usize, f64, u32)> = None;
    for index in 0..members {
        let Some((id, weight)) = candidate(index) else { continue };
        let (unit, weight) = (unit(hash::mix(key, id)), weight.max(1));
        let beats = match best {
            None => true,
            // Logarithms are for those who need them.
            Some((_, best_unit, best_weight)) if best_weight == weight => unit > best_unit,
            Some((_, best_unit, best_weight)) => score(unit, weight) > score(best_unit, best_weight),
        };
        if beats {
            best = Some((index, unit, weight));
        }
    }
    best.map(|(index, ..)| index)
}

/// A number between 0 and 1, neither of them.
fn unit(bits: u64) -> f64 {
    const STEPS: f64 = (1u64 << 52) as f64;
    ((bits >> 12) as f64 + 0.5) / STEPS
}

/// The logarithm of `unit` to the power of 1 / `weight`: the highest of these is that of a candidate with a
/// probability of its weight in the sum of all.
fn score(unit: f64, weight: u32) -> f64 {
    unit.ln() / f64::from(weight)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(candidates: &[(u64, u32)], key: u64) -> Option<u64> {
        let index = pick(candidates.len(), hash::mix(key, 0), |i| Some(candidates[i]))?;
        Some(candidates[index].0)
    }

    fn candidates(weights: &[u32]) -> Vec<(u64, u32)> {
        weights.iter().enumerate().map(|(i, &weight)| (hash::mix(i as u64, 77), weight)).collect()
    }

    #[test]
    fn nobody_is_nobody() {
        assert_eq!(pick(0, 1, |_| Some((1, 1))), None);
        assert_eq!(pick(3, 1, |_| None), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn shares_are_those_of_the_weights(weights in proptest::collection::vec(1u32..100, 1..10)) {
            const KEYS: f64 = 8_000.0;
            let all = candidates(&weights);
            let total: u32 = weights.iter().sum();
            for (id, weight) in &all {
                let got = (0..8_000).filter(|&key| of(&all, key) == Some(*id)).count() as f64;
                let p = f64::from(*weight) / f64::from(total);
                let margin = 5.5 * (KEYS * p * (1.0 - p)).sqrt() + 1.0;
                prop_assert!((got - p * KEYS).abs() <= margin, "{got} of {}", p * KEYS);
            }
        }

        /// Who leaves takes nobody else's keys along; a weight that falls only gives keys away.
        #[test]
        fn only_the_keys_of_one_move(
            weights in proptest::collection::vec(1u32..100, 2..12), which: prop::sample::Index, lighter in 1u32..100,
        ) {
            let all = candidates(&weights);
            let which = which.index(all.len());
            let mut without = all.clone();
            let (gone, weight) = without.remove(which);
            let mut fallen = all.clone();
            fallen[which].1 = lighter.min(weight);
            fallen.reverse();
            for key in 0..500 {
                let before = of(&all, key);
                let after = of(&without, key);
                prop_assert!(before == after || before == Some(gone));
                let after = of(&fallen, key);
                prop_assert!(before == after || before == Some(gone));
            }
        }
    }
}
