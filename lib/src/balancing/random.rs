//! At random, in proportion to the weights.

use super::Draws;

/// Guesses before every candidate is looked at. With equal weights and all of them available the first one hits.
const GUESSES: usize = 16;

/// Chooses among `members` candidates: `weight` gives the weight of one (0 counts as 1), or `None` if it cannot be
/// chosen now; none of them is greater than `weight_max`. `None` if there is nobody to choose.
///
/// Somebody is guessed, and taken with a probability of their weight in `weight_max`: that costs a few questions,
/// however many there are. After some misses everybody is asked, so that the odds are the same either way.
pub fn pick(
    members: usize,
    weight_max: u32,
    draws: &mut Draws,
    weight: impl Fn(usize) -> Option<u32>,
) -> Option<usize> {
    if members == 0 {
        return None;
    }
    for _ in 0..GUESSES {
        let index = draws.index(members);
        if let Some(weight) = weight(index)
            && draws.below(weight_max.into()) < weight.max(1).into()
        {
            return Some(index);
        }
    }
    let share = |index| weight(index).map(|weight| u64::from(weight.max(1)));
    let total: u64 = (0..members).filter_map(share).sum();
    let mut left = draws.below(total);
    (0..members).find(|&index| match share(index) {
        Some(share) if left < share => true,
        Some(share) => {
            left -= share;
            false
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(weights: &[Option<u32>], weight_max: u32, picks: usize) -> Vec<f64> {
        let mut counts = vec![0.0; weights.len()];
        for seed in 0..picks {
            let mut draws = Draws::new(seed as u64 * 1_000_003);
            counts[pick(weights.len(), weight_max, &mut draws, |i| weights[i]).expect("somebody")] += 1.0;
        }
        counts
    }

    #[test]
    fn nobody_is_nobody() {
        assert_eq!(pick(0, 1, &mut Draws::new(1), |_| Some(1)), None);
        assert_eq!(pick(9, 1, &mut Draws::new(1), |_| None), None);
    }

    #[test]
    fn the_only_one_of_many_is_found() {
        for seed in 0..100 {
            let pick = pick(1_000, 100, &mut Draws::new(seed), |i| (i == 700).then_some(1));
            assert_eq!(pick, Some(700));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// In proportion to the weights, whether guesses hit often or hardly ever.
        #[test]
        fn shares_are_those_of_the_weights(
            weights in proptest::collection::vec(proptest::option::weighted(0.7, 1u32..200), 1..12),
            slack in prop_oneof![Just(1u32), Just(1_000)],
        ) {
            prop_assume!(weights.iter().any(Option::is_some));
            const PICKS: f64 = 8_000.0;
            let total: u32 = weights.iter().flatten().sum();
            let max = weights.iter().flatten().max().expect("one is there") * slack;
            for (index, got) in counts(&weights, max, 8_000).into_iter().enumerate() {
                let p = f64::from(weights[index].unwrap_or(0)) / f64::from(total);
                // Five and a half standard deviations.
                let margin = 5.5 * (PICKS * p * (1.0 - p)).sqrt() + 1.0;
                prop_assert!((got - p * PICKS).abs() <= margin, "{index}: {got} of {}", p * PICKS);
            }
        }
    }
}
