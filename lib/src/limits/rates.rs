//! How many a second, over all workers: the generic cell rate algorithm (ITU-T I.371), one word for each key.
//!
//! The word is the *theoretical arrival time*: when the next would be due if all came evenly. Each that is admitted
//! moves it on by one interval, and it may be ahead of the time by a burst. It is the leaky bucket without anything
//! that leaks: an entry whose time has passed says the same as no entry, and may be given to another key.
//!
//! How exact: two compare-exchanges on one word never both succeed, so over any time `t` no more than `burst + t *
//! rate` are admitted, whichever workers they come to. Rates are rounded up to whole nanoseconds between two, which is
//! one part in 10^4 at 100,000 a second. A worker sees the time of its turn, so it may refuse one whose turn took long. Who
//! writes to an entry while it is reclaimed charges one interval to its next owner.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::key::Key;
use super::slots::{Slots, Word};

const NANOSECONDS: u64 = 1_000_000_000;

/// Attempts to move a time on that others move meanwhile.
const TRIES_MAX: usize = 64;

/// So many a second, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    interval: u64,
    tolerance: u64,
}

impl Rate {
    /// `per_second` of 1 to 10^9, and `burst` of 1 or more that may come at once; what is less counts as 1.
    pub fn new(per_second: u64, burst: u64) -> Self {
        let interval = NANOSECONDS.div_ceil(per_second.max(1));
        Self { interval, tolerance: interval.saturating_mul(burst.max(1)) }
    }
}

/// What became of one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is within the rate.
    Within,
    /// It is not, and is not counted: it would be after this time.
    Over(Duration),
    /// The table has no room for its key: it is admitted and not counted.
    Uncounted,
}

/// The handle of one worker. See the module.
#[derive(Debug)]
pub struct Rates<W: 'static = AtomicU64> {
    slots: Slots<W>,
}

impl<W> Clone for Rates<W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Rates<W> {}

#[expect(private_bounds, reason = "the other kind of word is a test's")]
impl<W: Word> Rates<W> {
    /// Rates in these words, for the worker with this lane. `None` if there are too few.
    pub fn new(words: &'static [W], lane: usize) -> Option<Self> {
        Slots::new(words, 1, lane).map(|slots| Self { slots })
    }

    /// Words for so many entries, rounded up to whole buckets.
    pub fn words_for(entries: usize) -> usize {
        Slots::<W>::words_for(entries, 1)
    }

    /// One more comes at `now`, in nanoseconds of a clock that all workers share.
    pub fn take(&self, key: Key, rate: Rate, now: u64) -> Verdict {
        let is_idle = |payload: &[W]| payload.first().is_none_or(|time| time.load() <= now);
        for _ in 0..TRIES_MAX {
            let Ok(entry) = self.slots.find_or_put(key, &is_idle) else { return Verdict::Uncounted };
            let Some(time) = self.slots.payload(entry).first() else { return Verdict::Uncounted };
            let due = time.load();
            let latest = now.saturating_add(rate.tolerance);
            // Farther ahead than this rate can bring it: the rate was another one.
            if due > latest {
                let _ = time.replace(due, latest);
                continue;
            }
            let next = due.max(now).saturating_add(rate.interval);
            if next > latest {
                return Verdict::Over(Duration::from_nanos(next - latest));
            }
            if time.replace(due, next) && self.slots.is_of(entry, key) {
                return Verdict::Within;
            }
        }
        Verdict::Uncounted
    }

    /// When the next is within the rate, without taking it: zero if now.
    pub fn wait(&self, key: Key, rate: Rate, now: u64) -> Duration {
        let Some(time) = self.slots.find(key).and_then(|entry| self.slots.payload(entry).first()) else {
            return Duration::ZERO;
        };
        let latest = now.saturating_add(rate.tolerance);
        let next = time.load().clamp(now, latest).saturating_add(rate.interval);
        Duration::from_nanos(next.saturating_sub(latest))
    }

    /// Gives up what the process with this lane was at when it died.
    pub fn clear_lane(&self) {
        self.slots.clean(|_| {});
    }
}

#[cfg(test)]
mod tests;
