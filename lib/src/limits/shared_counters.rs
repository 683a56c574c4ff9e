//! How many there are of something at a time, over all workers.
//!
//! An entry has one lane for each worker, and a worker changes its own alone: the count is the sum of the lanes. A
//! worker that dies leaves a lane with what it had; main clears it once the process is gone, and no other lane is
//! touched. So a count survives a crash exactly, without anybody knowing what the dead had been doing.
//!
//! [`Counters::try_add`] adds first and looks afterwards, and takes back if that made too many. Of those that were
//! admitted and are still there, the one that added last saw all others: so never more than the limit are admitted.
//! The price: two that come for the last place in the same instant may both be refused.
//!
//! An entry whose lanes are all zero may be given to another key (see `slots`). Who adds to one looks at its tag
//! again afterwards, and takes back if it has changed.

use std::sync::atomic::AtomicU64;

use super::key::Key;
use super::slots::{Entry, NoEntry, Slots, Word};

/// Lanes of 32 bits in a word.
const LANES_PER_WORD: usize = 2;
const LANE_BITS: usize = 32;
const LANE_MASK: u64 = (1 << LANE_BITS) - 1;

/// Attempts to add to an entry that others reclaim meanwhile.
const TRIES_MAX: usize = 32;

/// One that is counted; to be given back to [`Counters::sub`]. It does not give itself back: it is kept in sessions,
/// which are small.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is counted has to be given back"]
pub struct Permit {
    entry: u32,
}

/// What became of one more.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    /// It is counted.
    Counted(Permit),
    /// It would be one too many, and is not counted.
    OverLimit,
    /// The table has no room for its key: it is admitted and not counted. To refuse it would let whoever fills the
    /// table lock out all others.
    Uncounted,
}

/// The handle of one worker, or of main for the lane of one. See the module.
#[derive(Debug)]
pub struct Counters<W: 'static = AtomicU64> {
    slots: Slots<W>,
    /// The word of a payload that has our lane, and how far up it is there.
    word: usize,
    shift: usize,
}

impl<W> Clone for Counters<W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Counters<W> {}

#[expect(private_bounds, reason = "the other kind of word is a test's")]
impl<W: Word> Counters<W> {
    /// Counters in these words, of `lanes` lanes, of which `lane` is ours. `None` if they do not fit.
    pub fn new(words: &'static [W], lanes: usize, lane: usize) -> Option<Self> {
        let slots = Slots::new(words, lanes.div_ceil(LANES_PER_WORD), lane)?;
        let shift = lane % LANES_PER_WORD * LANE_BITS;
        (lane < lanes).then_some(Self { slots, word: lane / LANES_PER_WORD, shift })
    }

    /// Words for so many entries, rounded up to whole buckets.
    pub fn words_for(entries: usize, lanes: usize) -> usize {
        Slots::<W>::words_for(entries, lanes.div_ceil(LANES_PER_WORD))
    }

    /// Adds one, unless there are `limit` already.
    pub fn try_add(&self, key: Key, limit: u64) -> Added {
        for _ in 0..TRIES_MAX {
            let entry = match self.slots.find_or_put(key, &is_idle) {
                Ok(entry) => entry,
                Err(NoEntry::Full | NoEntry::Contended) => return Added::Uncounted,
            };
            let payload = self.slots.payload(entry);
            // Who is refused now does not disturb those that come and go meanwhile.
            if sum(payload) >= limit && self.slots.is_of(entry, key) {
                return Added::OverLimit;
            }
            let (Some(lane), Ok(number)) = (payload.get(self.word), u32::try_from(entry)) else {
                return Added::Uncounted;
            };
            lane.add(1 << self.shift);
            if !self.slots.is_of(entry, key) {
                lane.sub(1 << self.shift);
                continue;
            }
            if sum(payload) > limit {
                lane.sub(1 << self.shift);
                return Added::OverLimit;
            }
            return Added::Counted(Permit { entry: number });
        }
        Added::Uncounted
    }

    /// Adds one, whatever the limit. `None` if there is no room for its key.
    pub fn add(&self, key: Key) -> Option<Permit> {
        match self.try_add(key, u64::MAX) {
            Added::Counted(permit) => Some(permit),
            Added::OverLimit | Added::Uncounted => None,
        }
    }

    /// Takes one away that was counted with this handle.
    #[expect(clippy::needless_pass_by_value, reason = "a permit is given back once")]
    pub fn sub(&self, permit: Permit) {
        if let Some(lane) = self.lane(permit.entry as Entry) {
            debug_assert!(lane.load() >> self.shift & LANE_MASK > 0, "what is taken away was added");
            lane.sub(1 << self.shift);
        }
    }

    /// How many there are.
    pub fn count(&self, key: Key) -> u64 {
        self.slots.find(key).map_or(0, |entry| sum(self.slots.payload(entry)))
    }

    /// How many there are of what a permit is one of: [`count`](Self::count) without a search.
    pub fn count_at(&self, permit: &Permit) -> u64 {
        sum(self.slots.payload(permit.entry as Entry))
    }

    /// Forgets all that was counted on this lane: its worker is gone. Only for main, between the end of a process
    /// and the start of the next one that has the lane.
    pub fn clear_lane(&self) {
        let rest = !(LANE_MASK << self.shift);
        self.slots.clean(|payload| {
            if let Some(word) = payload.get(self.word) {
                word.mask(rest);
            }
        });
    }

    /// Keys that have an entry now, those that count nothing any more included. Looks at all of them.
    pub fn entries_used(&self) -> usize {
        self.slots.used()
    }

    fn lane(&self, entry: Entry) -> Option<&'static W> {
        self.slots.payload(entry).get(self.word)
    }
}

fn is_idle<W: Word>(payload: &[W]) -> bool {
    payload.iter().all(|word| word.load() == 0)
}

fn sum<W: Word>(payload: &[W]) -> u64 {
    let both = |word: &W| {
        let lanes = word.load();
        (lanes & LANE_MASK) + (lanes >> LANE_BITS)
    };
    payload.iter().map(both).sum()
}

#[cfg(test)]
mod tests;
