//! Timers: one deadline per key, set and cleared in constant time.
//!
//! A hierarchical wheel (Varghese and Lauck 1987). Time is counted in ticks since the wheel was made, and
//! a tick is read as a number of base 64. A timer lies on the level of the highest digit in which its
//! deadline differs from the present, in the slot of its deadline's digit there. When the present reaches
//! a slot of a higher level, what lies in it moves down; what it reaches on level 0 is due. Eleven levels
//! of six bits hold every 64-bit tick, so no deadline is too far and no jump of the clock too long.
//!
//! Slots are doubly linked lists threaded through a table indexed by key. Keys are meant to be the dense
//! tokens of a slab: the table is as long as the greatest key, and nothing is allocated once it has grown
//! to that.
//!
//! The clock is not read here: the caller passes the time it read for this turn of its loop. Read
//! [`TimerWheel`] first.

use std::time::{Duration, Instant};

/// Bits of a tick per level.
const LEVEL_BITS: u32 = 6;
/// Slots per level; a level's occupancy fits one word.
const LEVEL_SLOTS: usize = 1 << LEVEL_BITS;
/// Levels that hold any 64-bit tick.
const LEVELS: usize = 64_usize.div_ceil(LEVEL_BITS as usize);
/// The list of timers that were already over when they were set.
const OVERDUE: usize = LEVELS * LEVEL_SLOTS;
/// Lists in all.
const LISTS: usize = OVERDUE + 1;

/// Ends a list; also "in no list".
const NONE: u32 = u32::MAX;

const _: () = assert!(LEVELS * LEVEL_BITS as usize >= u64::BITS as usize);

/// Deadlines by key.
///
/// A timer never fires early, and is due at the latest one tick after its deadline.
#[derive(Debug)]
pub struct TimerWheel {
    origin: Instant,
    tick: Duration,
    /// The present, in ticks: every timer in the wheel proper lies after it.
    elapsed: u64,
    /// First key of each list.
    heads: Box<[u32; LISTS]>,
    /// One bit per slot that is not empty, a word per level.
    occupied: [u64; LEVELS],
    /// By key.
    entries: Vec<Entry>,
    /// Timers set.
    len: usize,
}

/// The timer of one key, if it is in a list.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// In ticks; rounded up, so that the timer is never early.
    deadline: u64,
    previous: u32,
    next: u32,
    /// Index into `heads`, `NONE` when the timer is not set.
    list: u32,
}

const UNSET: Entry = Entry { deadline: 0, previous: NONE, next: NONE, list: NONE };

impl TimerWheel {
    /// A wheel without timers. `tick` is its precision, at least a nanosecond.
    pub fn new(now: Instant, tick: Duration) -> Self {
        Self {
            origin: now,
            tick: tick.max(Duration::from_nanos(1)),
            elapsed: 0,
            heads: Box::new([NONE; LISTS]),
            occupied: [0; LEVELS],
            entries: Vec::new(),
            len: 0,
        }
    }

    /// Sets the timer of `key`, in place of the one it had. A deadline in the past is due at once.
    ///
    /// Keys are below 2^32 - 1: the tokens of a table that fits into memory.
    pub fn set(&mut self, key: usize, at: Instant) {
        let deadline = self.ticks_up_to(at);
        if let Some(entry) = self.entries.get(key)
            && entry.list != NONE
        {
            // Pushing a timeout back by less than a tick is the common case of a busy session.
            if entry.deadline == deadline {
                return;
            }
            self.unlink(key);
        }
        if key >= self.entries.len() {
            debug_assert!(key < NONE as usize, "keys are tokens of a slab");
            self.entries.resize(key + 1, UNSET);
        }
        self.link(key, deadline);
    }

    /// Forgets the timer of `key`, if it has one.
    pub fn clear(&mut self, key: usize) {
        if self.is_set(key) {
            self.unlink(key);
        }
    }

    /// Whether `key` has a timer that has not been handed out.
    pub fn is_set(&self, key: usize) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.list != NONE)
    }

    /// When to call [`expire`](Self::expire) next; `None` when no timer is set.
    ///
    /// Not after the first deadline's tick, but perhaps before it: then that call only moves timers
    /// nearer, at most once per level.
    pub fn next_wakeup(&self) -> Option<Instant> {
        if self.heads[OVERDUE] != NONE {
            return Some(self.instant(self.elapsed));
        }
        self.next_slot().map(|slot| self.instant(slot.start))
    }

    /// Appends the keys whose timers are over to `due`, in no particular order, and forgets those timers.
    pub fn expire(&mut self, now: Instant, due: &mut Vec<usize>) {
        let present = self.ticks_passed(now);
        self.drain(OVERDUE, present, due);
        while let Some(slot) = self.next_slot()
            && slot.start <= present
        {
            self.elapsed = slot.start;
            self.drain(slot.list, present, due);
        }
        // Every slot left begins after `present`, so its timers differ from it in the same highest
        // digit as before: they stay where they are. A clock that went back changes nothing.
        self.elapsed = self.elapsed.max(present);
    }

    /// Timers set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Checks every list against the table, the occupancy and the present.
    ///
    /// # Panics
    /// If they disagree, which is an error of ours.
    pub fn check_invariants(&self) {
        let mut seen = 0;
        for (list, &head) in self.heads.iter().enumerate() {
            if list != OVERDUE {
                let marked = self.occupied[list / LEVEL_SLOTS] >> (list % LEVEL_SLOTS) & 1 == 1;
                assert_eq!(marked, head != NONE, "occupancy of list {list}");
            }
            let (mut previous, mut key) = (NONE, head);
            while key != NONE {
                let entry = self.entries[key as usize];
                assert_eq!(entry.list as usize, list, "list of key {key}");
                assert_eq!(entry.previous, previous, "back link of key {key}");
                assert_eq!(self.list_for(entry.deadline), list, "place of key {key}");
                seen += 1;
                (previous, key) = (key, entry.next);
            }
        }
        assert_eq!(seen, self.len);
        assert_eq!(self.entries.iter().filter(|entry| entry.list != NONE).count(), self.len);
    }

    /// Empties a list: what is over goes to `due`, the rest back into the wheel, nearer.
    fn drain(&mut self, list: usize, present: u64, due: &mut Vec<usize>) {
        let mut next = self.heads[list];
        while let Some(&Entry { deadline, next: following, .. }) = self.entries.get(next as usize) {
            let key = next as usize;
            self.unlink(key);
            if deadline <= present || list == OVERDUE {
                due.push(key);
            } else {
                self.link(key, deadline);
            }
            next = following;
        }
    }

    /// Puts a key that is in no list into the one its deadline asks for.
    fn link(&mut self, key: usize, deadline: u64) {
        let list = self.list_for(deadline);
        let head = self.heads[list];
        let (key_link, list_link) = (to_link(key), to_link(list));
        self.entries[key] = Entry { deadline, previous: NONE, next: head, list: list_link };
        if let Some(entry) = self.entries.get_mut(head as usize) {
            entry.previous = key_link;
        }
        self.heads[list] = key_link;
        if list != OVERDUE {
            self.occupied[list / LEVEL_SLOTS] |= 1 << (list % LEVEL_SLOTS);
        }
        self.len += 1;
    }

    /// Takes a key that is in a list out of it.
    fn unlink(&mut self, key: usize) {
        let Entry { previous, next, list, .. } = std::mem::replace(&mut self.entries[key], UNSET);
        let list = list as usize;
        match self.entries.get_mut(previous as usize) {
            Some(entry) => entry.next = next,
            None => self.heads[list] = next,
        }
        if let Some(entry) = self.entries.get_mut(next as usize) {
            entry.previous = previous;
        }
        if list != OVERDUE && self.heads[list] == NONE {
            self.occupied[list / LEVEL_SLOTS] &= !(1 << (list % LEVEL_SLOTS));
        }
        self.len -= 1;
    }

    /// The list a deadline belongs to at present.
    fn list_for(&self, deadline: u64) -> usize {
        if deadline <= self.elapsed {
            return OVERDUE;
        }
        let level = (self.elapsed ^ deadline).ilog2() / LEVEL_BITS;
        level as usize * LEVEL_SLOTS + digit(deadline, level)
    }

    /// The first slot that is not empty. Slots of a lower level all come before those of a higher one.
    fn next_slot(&self) -> Option<Slot> {
        let (level, &word) = (0u32..).zip(&self.occupied).find(|&(_, &word)| word != 0)?;
        let index = word.trailing_zeros();
        let shift = level * LEVEL_BITS;
        let below = u64::MAX.checked_shl(shift + LEVEL_BITS).unwrap_or(0);
        Some(Slot {
            list: level as usize * LEVEL_SLOTS + index as usize,
            start: (self.elapsed & below) | (u64::from(index) << shift),
        })
    }

    /// Whole ticks from the origin to `at`, rounded down: how much has certainly passed.
    fn ticks_passed(&self, at: Instant) -> u64 {
        let passed = at.saturating_duration_since(self.origin);
        u64::try_from(passed.as_nanos() / self.tick.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whole ticks from the origin to `at`, rounded up: when it has certainly come.
    fn ticks_up_to(&self, at: Instant) -> u64 {
        let passed = at.saturating_duration_since(self.origin);
        u64::try_from(passed.as_nanos().div_ceil(self.tick.as_nanos())).unwrap_or(u64::MAX)
    }

    /// When a tick begins, or 584 years after the origin if that is sooner: waking up early is harmless.
    fn instant(&self, ticks: u64) -> Instant {
        let nanos = u128::from(ticks).saturating_mul(self.tick.as_nanos());
        let passed = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.origin.checked_add(passed).unwrap_or(self.origin)
    }
}

/// A slot that is not empty, and the first tick that belongs to it.
struct Slot {
    list: usize,
    start: u64,
}

/// The digit of `tick` on `level`.
fn digit(tick: u64, level: u32) -> usize {
    ((tick >> (level * LEVEL_BITS)) & 0x3F) as usize
}

/// An index as a link; `NONE` for one out of range, which [`TimerWheel::set`] rules out.
fn to_link(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NONE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(10);

    /// Some instant to begin at; tests only add to it.
    fn origin() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant cannot be made otherwise; only differences count"
        )]
        Instant::now()
    }

    fn due_at(wheel: &mut TimerWheel, now: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        wheel.expire(now, &mut due);
        wheel.check_invariants();
        due.sort_unstable();
        due
    }

    #[test]
    fn a_timer_fires_in_the_tick_after_its_deadline() {
        let check = |deadline_us: u64, early_us: u64, late_us: u64| {
            let start = origin();
            let mut wheel = TimerWheel::new(start, TICK);
            wheel.set(3, start + Duration::from_micros(deadline_us));
            assert!(due_at(&mut wheel, start + Duration::from_micros(early_us)).is_empty(), "{early_us}");
            assert_eq!(due_at(&mut wheel, start + Duration::from_micros(late_us)), [3], "{late_us}");
            assert!(wheel.is_empty());
        };
        check(1, 0, 10_000);
        check(10_000, 9_999, 10_000);
        check(10_001, 19_999, 20_000);
        check(640_000, 639_999, 640_000);
        check(40_960_000, 40_959_999, 40_960_000);
        check(86_400_000_000, 86_399_999_999, 86_400_000_000);
    }

    #[test]
    fn a_deadline_that_has_passed_is_due_at_once() {
        let start = origin();
        let mut wheel = TimerWheel::new(start, TICK);
        let now = start + Duration::from_secs(5);
        assert!(due_at(&mut wheel, now).is_empty());
        wheel.set(0, start);
        wheel.set(1, now);
        assert!(wheel.next_wakeup().expect("two are set") <= now);
        assert_eq!(due_at(&mut wheel, now), [0, 1]);
        assert_eq!(wheel.next_wakeup(), None);
    }

    #[test]
    fn setting_again_replaces() {
        let start = origin();
        let mut wheel = TimerWheel::new(start, TICK);
        wheel.set(0, start + Duration::from_secs(1));
        wheel.set(0, start + Duration::from_secs(3));
        assert_eq!(wheel.len(), 1);
        assert!(due_at(&mut wheel, start + Duration::from_secs(2)).is_empty());
        assert_eq!(due_at(&mut wheel, start + Duration::from_secs(3)), [0]);
    }

    #[test]
    fn clearing_what_is_not_set_does_nothing() {
        let start = origin();
        let mut wheel = TimerWheel::new(start, TICK);
        wheel.clear(9);
        wheel.set(1, start + TICK);
        wheel.clear(1);
        wheel.clear(1);
        assert!(!wheel.is_set(1));
        assert!(due_at(&mut wheel, start + TICK).is_empty());
    }

    #[test]
    fn the_longest_deadlines_fit() {
        let start = origin();
        let mut wheel = TimerWheel::new(start, Duration::from_nanos(1));
        let century = start + Duration::from_secs(100 * 365 * 86_400);
        wheel.set(0, start + Duration::from_secs(1_000 * 365 * 86_400));
        wheel.set(1, century);
        wheel.check_invariants();
        assert!(wheel.next_wakeup().expect("two are set") <= century);
        assert_eq!(due_at(&mut wheel, century), [1]);
        assert!(wheel.is_set(0));
    }

    #[test]
    fn a_clock_that_goes_back_harms_nothing() {
        let start = origin();
        let mut wheel = TimerWheel::new(start, TICK);
        assert!(due_at(&mut wheel, start + Duration::from_secs(60)).is_empty());
        wheel.set(0, start + Duration::from_secs(61));
        assert!(due_at(&mut wheel, start).is_empty());
        assert_eq!(due_at(&mut wheel, start + Duration::from_secs(61)), [0]);
    }

    #[test]
    fn nothing_is_allocated_once_the_keys_are_known() {
        let start = origin();
        let mut wheel = TimerWheel::new(start, TICK);
        let mut due = Vec::new();
        wheel.set(99, start);
        let (entries, mut now) = (wheel.entries.capacity(), start);
        for round in 0..1_000u64 {
            for key in 0..100 {
                wheel.set(key, now + Duration::from_millis(round * 7 + key as u64 * 13));
            }
            now += Duration::from_millis(400);
            due.clear();
            wheel.expire(now, &mut due);
        }
        assert_eq!(wheel.entries.capacity(), entries);
        wheel.check_invariants();
    }

    #[derive(Debug, Clone)]
    enum Step {
        Set(usize, Duration),
        Clear(usize),
        Advance(Duration),
        /// Sleep as the loop does: to the next wakeup.
        Sleep,
    }

    /// Delays from microseconds to years, so that every level is used.
    fn delay() -> impl Strategy<Value = Duration> {
        (0u32..46, 0u64..1_000).prop_map(|(scale, part)| Duration::from_micros((1 << scale) / 1_000 * part))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0usize..12, delay()).prop_map(|(key, delay)| Step::Set(key, delay)),
            1 => (0usize..12).prop_map(Step::Clear),
            2 => delay().prop_map(Step::Advance),
            2 => Just(Step::Sleep),
        ]
    }

    proptest! {
        /// Against a list of deadlines: never early, at most a tick late, nothing lost, nothing twice.
        #[test]
        fn a_wheel_is_a_sorted_list(
            tick_us in prop_oneof![Just(1u64), Just(1_000), Just(10_000)],
            steps in proptest::collection::vec(step(), 0..120),
        ) {
            let tick = Duration::from_micros(tick_us);
            let mut now = origin();
            let mut wheel = TimerWheel::new(now, tick);
            let mut model: Vec<(usize, Instant)> = Vec::new();
            for step in steps {
                match step {
                    Step::Set(key, delay) => {
                        wheel.set(key, now + delay);
                        model.retain(|timer| timer.0 != key);
                        model.push((key, now + delay));
                    }
                    Step::Clear(key) => {
                        wheel.clear(key);
                        model.retain(|timer| timer.0 != key);
                    }
                    Step::Advance(delay) => now += delay,
                    Step::Sleep => now = wheel.next_wakeup().unwrap_or(now).max(now),
                }
                let mut due = Vec::new();
                wheel.expire(now, &mut due);
                wheel.check_invariants();
                for key in due {
                    let at = model.iter().position(|timer| timer.0 == key);
                    let (_, deadline) = model.swap_remove(at.expect("due once, and only if set"));
                    prop_assert!(deadline <= now, "early by {:?}", deadline - now);
                }
                for &(_, deadline) in &model {
                    prop_assert!(now < deadline + tick, "late by {:?}", now - deadline);
                }
                prop_assert_eq!(wheel.len(), model.len());
                let first = model.iter().map(|timer| timer.1).min();
                prop_assert_eq!(wheel.next_wakeup().is_some(), first.is_some());
                if let (Some(wakeup), Some(first)) = (wheel.next_wakeup(), first) {
                    prop_assert!(wakeup > now, "a loop would spin");
                    prop_assert!(wakeup < first + tick, "a loop would oversleep");
                }
            }
        }
    }
}
