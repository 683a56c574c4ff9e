//! The memory that all workers share: the counters, and the rates behind them.

use std::sync::atomic::AtomicU64;

use super::key::{Key, Keys, SECRET_BYTES, Scope};
use super::rates::Rates;
use super::shared_counters::Counters;

const WORD_BYTES: usize = 8;

/// How the memory is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Entries of each table (`max_limit_entries`).
    pub entries: usize,
    /// Processes that may count at a time.
    pub lanes: usize,
}

impl Layout {
    /// Bytes that the memory has.
    pub fn bytes(&self) -> usize {
        self.counter_words()
            .saturating_add(Rates::<AtomicU64>::words_for(self.entries))
            .saturating_mul(WORD_BYTES)
    }

    fn counter_words(&self) -> usize {
        Counters::<AtomicU64>::words_for(self.entries, self.lanes)
    }
}

/// What one process has of it.
#[derive(Debug, Clone, Copy)]
pub struct SharedTables {
    keys: Keys,
    counters: Counters,
    rates: Rates,
}

impl SharedTables {
    /// The tables in these words, for the process with this lane. `None` if they do not fit.
    pub fn new(
        words: &'static [AtomicU64],
        layout: Layout,
        lane: usize,
        secret: &[u8; SECRET_BYTES],
    ) -> Option<Self> {
        let (counters, rates) = words.split_at_checked(layout.counter_words())?;
        Some(Self {
            keys: Keys::new(secret),
            counters: Counters::new(counters, layout.lanes, lane)?,
            rates: Rates::new(rates, lane)?,
        })
    }

    /// Tables of one worker alone.
    #[cfg(test)]
    pub(crate) fn of_one(entries: usize) -> Option<Self> {
        let layout = Layout { entries, lanes: 1 };
        let words: Vec<AtomicU64> = (0..layout.bytes() / WORD_BYTES).map(|_| AtomicU64::new(0)).collect();
        Self::new(Vec::leak(words), layout, 0, &[0; SECRET_BYTES])
    }

    /// The key of what these parts together name.
    pub fn key(&self, scope: Scope, parts: &[&[u8]]) -> Key {
        self.keys.key(scope, parts)
    }

    /// What is counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What comes a second.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// The process with this lane is gone: what it counted is forgotten.
    pub fn clear_lane(&self) {
        self.counters.clear_lane();
        self.rates.clear_lane();
    }
}
