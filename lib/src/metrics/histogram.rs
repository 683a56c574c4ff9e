//! A histogram of times in fixed memory.
//!
//! Buckets are log-linear: each power of two of microseconds is divided into four, so that what is told of a
//! time is at most a quarter too much. Recording is a shift and an addition; nothing is ever allocated.

use std::time::Duration;

use kakehi_command::proto::{Bucket, FilteredHistogram, Percentiles};

/// Parts of each power of two, as a power of two.
const PARTS_LOG: u32 = 2;
const PARTS: usize = 1 << PARTS_LOG;

/// The longest time that is told apart from longer ones: 2^32 µs, somewhat more than an hour.
const BUCKETS: usize = PARTS * (33 - PARTS_LOG as usize);

/// In what a histogram is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// As Sōzu tells them.
    Milliseconds,
    /// For whoever can divide.
    Microseconds,
}

impl Resolution {
    fn of(self, micros: u64) -> u64 {
        match self {
            Self::Milliseconds => micros / 1000,
            Self::Microseconds => micros,
        }
    }
}

/// A time, and its bucket: worked out once, however many histograms it goes into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    micros: u64,
    bucket: usize,
}

impl Took {
    /// So many microseconds.
    #[inline]
    pub fn micros(micros: u64) -> Self {
        Self { micros, bucket: bucket_of(u32::try_from(micros).unwrap_or(u32::MAX)) }
    }
}

impl From<Duration> for Took {
    fn from(time: Duration) -> Self {
        Self::micros(time.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(time.subsec_micros())))
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    sum_micros: u64,
    max_micros: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum_micros: 0, max_micros: 0 }
    }
}

impl Histogram {
    /// One more time.
    #[inline]
    pub fn record(&mut self, took: Took) {
        if let Some(bucket) = self.buckets.get_mut(took.bucket) {
            *bucket += 1;
        }
        self.sum_micros = self.sum_micros.saturating_add(took.micros);
        self.max_micros = self.max_micros.max(took.micros);
    }

    /// So many more, all as long as this.
    pub fn record_many(&mut self, took: Took, count: u64) {
        if let Some(bucket) = self.buckets.get_mut(took.bucket) {
            *bucket += count;
        }
        self.sum_micros = self.sum_micros.saturating_add(took.micros.saturating_mul(count));
        self.max_micros = self.max_micros.max(took.micros);
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Back to nothing.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The least bound of a bucket at or below which this part of all times lies; never more than the longest.
    fn percentile(&self, millionths: u64, count: u64, resolution: Resolution) -> u64 {
        // Rounded up, so that the highest percentiles of few samples are the longest of them.
        let wanted = u128::from(count) * u128::from(millionths);
        let rank = u64::try_from(wanted.div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1);
        let mut seen = 0_u64;
        for (index, in_bucket) in self.buckets.iter().enumerate() {
            seen += in_bucket;
            if seen >= rank {
                return resolution.of(last_of(index).min(self.max_micros));
            }
        }
        resolution.of(self.max_micros)
    }

    /// As the command protocol carries percentiles.
    pub fn percentiles(&self, resolution: Resolution) -> Percentiles {
        let count = self.count();
        let at = |millionths| self.percentile(millionths, count, resolution);
        Percentiles {
            samples: count,
            p_50: at(500_000),
            p_90: at(900_000),
            p_99: at(990_000),
            p_99_9: at(999_000),
            p_99_99: at(999_900),
            p_99_999: at(999_990),
            p_100: resolution.of(self.max_micros),
            sum: resolution.of(self.sum_micros),
        }
    }

    /// As the command protocol carries histograms: a bucket for each power of two, each with the times above the
    /// bound of the bucket before, empty ones left out.
    pub fn to_proto(&self, resolution: Resolution) -> FilteredHistogram {
        let mut buckets: Vec<Bucket> = Vec::new();
        for (index, &count) in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            // The whole bucket lies at or below its last time, told in whole units.
            let le = resolution.of(last_of(index)).max(1).next_power_of_two();
            match buckets.last_mut().filter(|last| last.le == le) {
                Some(last) => last.count += count,
                None => buckets.push(Bucket { count, le }),
            }
        }
        FilteredHistogram { sum: resolution.of(self.sum_micros), count: self.count(), buckets }
    }
}

/// The bucket of so many microseconds.
fn bucket_of(micros: u32) -> usize {
    let exponent = 31 - (micros | 1).leading_zeros();
    if exponent < PARTS_LOG {
        return micros as usize;
    }
    let part = (micros >> (exponent - PARTS_LOG)) as usize & (PARTS - 1);
    (exponent - PARTS_LOG + 1) as usize * PARTS + part
}

/// The longest time of a bucket, microseconds.
fn last_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let parts = PARTS as u64;
    if bucket < parts {
        return bucket;
    }
    let shift = bucket / parts - 1;
    (((parts + bucket % parts + 1) << shift) - 1).min(u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        micros.iter().for_each(|&micros| histogram.record(Duration::from_micros(micros).into()));
        histogram
    }

    #[test]
    fn each_time_lies_in_its_bucket_and_buckets_leave_no_gap() {
        let mut next = 0;
        for bucket in 0..BUCKETS {
            let last = last_of(bucket);
            assert!(last >= next, "bucket {bucket}");
            for micros in [next, last] {
                assert_eq!(bucket_of(u32::try_from(micros).expect("within")), bucket, "{micros}");
            }
            next = last + 1;
        }
        assert_eq!(next, 1 << 32, "the last bucket ends where the range does");
    }

    #[test]
    fn percentiles_are_at_most_a_quarter_too_long() {
        let micros: Vec<u64> = (1..=1000).map(|ms| ms * 1000).collect();
        let told = of(&micros).percentiles(Resolution::Milliseconds);
        assert_eq!((told.samples, told.p_100, told.sum), (1000, 1000, 500_500));
        for (told, exact) in [(told.p_50, 500), (told.p_90, 900), (told.p_99, 990), (told.p_99_9, 999)] {
            assert!((exact..=exact * 5 / 4).contains(&told), "{told} for {exact}");
        }
        assert!(told.p_99 <= told.p_100);
    }

    #[test]
    fn few_samples_have_the_longest_at_the_top() {
        let told = of(&[1000, 2000, 900_000]).percentiles(Resolution::Microseconds);
        assert_eq!((told.p_99, told.p_99_999, told.p_100), (900_000, 900_000, 900_000));
        assert_eq!(Histogram::default().percentiles(Resolution::Milliseconds), Percentiles::default());
    }

    #[test]
    fn what_is_told_are_powers_of_two_and_all_of_it() {
        let told = of(&[100, 900, 1_500, 3_000, 3_500, 9_000]).to_proto(Resolution::Milliseconds);
        let buckets: Vec<_> = told.buckets.iter().map(|bucket| (bucket.le, bucket.count)).collect();
        assert_eq!(told.count, buckets.iter().map(|(_, count)| count).sum::<u64>());
        assert!(buckets.iter().all(|(le, _)| le.is_power_of_two()), "{buckets:?}");
        assert!(buckets.is_sorted(), "{buckets:?}");
        assert_eq!((told.count, told.sum), (6, 18));
    }

    #[test]
    fn many_are_as_many_one_by_one() {
        let mut many = Histogram::default();
        many.record_many(Took::micros(700), 3);
        assert_eq!(many, of(&[700, 700, 700]));
    }

    #[test]
    fn endless_times_count_as_the_longest() {
        let told = of(&[u64::MAX, 5_000_000_000]).percentiles(Resolution::Microseconds);
        assert_eq!((told.samples, told.p_100), (2, u64::MAX));
        assert_eq!(of(&[5_000_000_000]).to_proto(Resolution::Microseconds).buckets[0].le, 1 << 32);
    }
}
