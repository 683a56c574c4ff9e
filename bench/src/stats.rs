//! Medians, ratios of pairs, spreads. Pure.

/// The middle value; of an even number the mean of the two in the middle. `None` for none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(middle - 1)?, upper))
}

/// The smallest of these values, sorted, that so great a part of them does not exceed: one that was measured, not one
/// between two. `None` for none.
pub(crate) fn percentile<T: Copy + Ord>(sorted: &[T], part: f64) -> Option<T> {
    debug_assert!(sorted.is_sorted());
    let mut rank = 1;
    while rank < sorted.len() && float(rank as u64) < part * float(sorted.len() as u64) {
        rank += 1;
    }
    sorted.get(rank - 1).copied()
}

/// A ratio that was measured several times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub pairs: usize,
}

/// Ours over theirs, pair by pair: what was measured one after the other is compared, so that a slow
/// drift of the machine drops out. `None` if there is no pair.
pub(crate) fn ratio(ours: &[f64], theirs: &[f64]) -> Option<Ratio> {
    let ratios: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .filter(|(_, theirs)| **theirs > 0.0)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    Some(Ratio {
        median: median(&ratios)?,
        min: ratios.iter().copied().min_by(f64::total_cmp)?,
        max: ratios.iter().copied().max_by(f64::total_cmp)?,
        pairs: ratios.len(),
    })
}

/// A count as a float, for ratios: exact below 2^53, which nothing counted here comes near.
#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds of minutes stay below 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_median(values: &[f64], expected: Option<f64>) {
        assert_eq!(median(values), expected, "{values:?}");
    }

    #[test]
    fn medians() {
        check_median(&[], None);
        check_median(&[3.0], Some(3.0));
        check_median(&[9.0, 1.0, 2.0], Some(2.0));
        check_median(&[4.0, 1.0, 2.0, 100.0], Some(3.0));
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<u32> = (1..=1000).collect();
        for (part, expected) in [(0.0, 1), (0.001, 1), (0.5, 500), (0.99, 990), (0.9991, 1000), (1.0, 1000)] {
            assert_eq!(percentile(&values, part), Some(expected), "{part}");
        }
        assert_eq!(percentile(&[7], 0.99), Some(7));
        assert_eq!(percentile::<u32>(&[], 0.5), None);
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        // The machine was twice as slow in the second pair: that is not seen.
        let found = ratio(&[10.0, 20.0, 12.0], &[20.0, 40.0, 20.0]).expect("three pairs");
        assert_eq!(found, Ratio { median: 0.5, min: 0.5, max: 0.6, pairs: 3 });
    }

    #[test]
    fn pairs_without_a_measure_do_not_count() {
        assert_eq!(ratio(&[1.0], &[0.0]), None);
        assert_eq!(ratio(&[1.0, 2.0], &[2.0]).expect("one pair").pairs, 1);
    }
}
