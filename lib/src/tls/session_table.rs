//! Sessions that can be resumed once, in memory that all workers of a proxy share.
//!
//! Early data (RFC 8446 §8) must not be taken twice, whichever worker it is played back to: so a session is
//! *taken* out of the table, by one compare-exchange, and whoever comes second finds nothing (§8.1, single-use
//! tickets).
//!
//! ```text
//!   slot:  state | key (32) | length | sealed session ...            512 bytes
//!   state: when (32 bits) | number of the change (30) | kind (2)
//!
//!           put               put done             take             take done
//!   Free ---------> Busy -----------------> Full -----------> Busy -----------> Free
//! ```
//! A key has one of [`WAYS`] slots. When all are full the oldest session makes room, and its client makes a full
//! handshake some day. Every word is atomic, so there is no data race whoever else writes; and every change has
//! another state word, so that a compare-exchange succeeds only on what was read.
//!
//! A worker may die, or be stopped for long, while a slot is Busy: after ten seconds another takes the slot
//! over. If the first goes on writing then, it spoils what is there. So nothing is believed of what comes out of a
//! slot: callers seal what they put in, and its key with it.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 512;

/// Slots that a key may have.
pub const WAYS: usize = 8;

/// The longest session, sealed. Longer ones, with a client's certificates, are not kept.
pub const SESSION_BYTES_MAX: usize = (SLOT_WORDS - HEAD_WORDS) * WORD_BYTES;

/// How long a slot may be Busy, in seconds: writing takes a microsecond.
const BUSY_SECONDS_MAX: u32 = 10;

const WORD_BYTES: usize = 8;
const SLOT_WORDS: usize = SLOT_BYTES / WORD_BYTES;
const KEY_WORDS: usize = 4;
/// State, key, length.
const HEAD_WORDS: usize = 1 + KEY_WORDS + 1;

/// What a session is found by: evenly distributed, as hashes are.
pub type Key = [u8; KEY_WORDS * WORD_BYTES];

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct SessionTable {
    words: &'static [AtomicU64],
}

/// What became of a session that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is there.
    Stored,
    /// It is there, and another one, which might still have been resumed, is gone.
    Evicted,
    /// It is not there: it is too long, or others were faster.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Free,
    Busy,
    Full,
}

/// A state word. All zeros is Free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State(u64);

impl State {
    fn kind(self) -> Kind {
        match self.0 & 3 {
            1 => Kind::Busy,
            2 => Kind::Full,
            // 3 is never written.
            _ => Kind::Free,
        }
    }

    fn since(self) -> u32 {
        u32::try_from(self.0 >> 32).unwrap_or_default()
    }

    /// The state that follows this one.
    fn next(self, kind: Kind, now: u32) -> Self {
        let number = ((self.0 >> 2) + 1) & ((1 << 30) - 1);
        let kind = match kind {
            Kind::Free => 0,
            Kind::Busy => 1,
            Kind::Full => 2,
        };
        Self(u64::from(now) << 32 | number << 2 | kind)
    }
}

/// One slot's words.
#[derive(Clone, Copy)]
struct Slot<'t> {
    state: &'t AtomicU64,
    key: &'t [AtomicU64],
    length: &'t AtomicU64,
    session: &'t [AtomicU64],
}

impl SessionTable {
    /// A table in these words, which are zero or were those of a table before. Those behind the last whole set of
    /// slots are not used. None if there is not one set.
    pub fn new(words: &'static [AtomicU64]) -> Option<Self> {
        (words.len() >= WAYS * SLOT_WORDS).then_some(Self { words })
    }

    /// Bytes of a table for so many sessions, rounded up.
    pub fn bytes_for(sessions: usize) -> usize {
        sessions.max(1).next_multiple_of(WAYS).saturating_mul(SLOT_BYTES)
    }

    /// How many sessions it may hold.
    pub fn capacity(&self) -> usize {
        self.words.len() / (WAYS * SLOT_WORDS) * WAYS
    }

    /// Keeps a session from `now` on; one that has been kept for `lifetime` is of no use any more. Both in seconds.
    pub fn put(&self, key: &Key, session: &[u8], now: u32, lifetime: u32) -> Put {
        if session.len() > SESSION_BYTES_MAX {
            return Put::Refused;
        }
        // Others are at the same slots: once around is as good as any bound.
        for _ in 0..WAYS {
            let Some((slot, found, evicts)) = self.place_for(key, now, lifetime) else { break };
            let Some(busy) = slot.claim(found, now) else { continue };
            slot.write(key, session);
            // Not if somebody has taken us for dead.
            if slot.change(busy, busy.next(Kind::Full, now)) {
                return if evicts { Put::Evicted } else { Put::Stored };
            }
        }
        Put::Refused
    }

    /// The session with this key, once: nobody else gets it, here or in any other process.
    pub fn take(&self, key: &Key, now: u32) -> Option<Vec<u8>> {
        for slot in self.set(key) {
            let found = slot.load();
            if found.kind() != Kind::Full || !slot.has(key) {
                continue;
            }
            let Some(busy) = slot.claim(found, now) else { continue };
            let session = slot.read(key);
            // If somebody has taken us for dead the slot is theirs by now.
            let _ = slot.change(busy, busy.next(Kind::Free, now));
            if session.is_some() {
                return session;
            }
        }
        None
    }

    /// The session with this key, which stays: for TLS 1.2, where no data comes early.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        self.set(key).find_map(|slot| {
            let before = slot.load();
            let session = (before.kind() == Kind::Full).then(|| slot.read(key))??;
            // What was read is what that state stood for, unless it has changed meanwhile.
            fence(Ordering::Acquire);
            (slot.state.load(Ordering::Relaxed) == before.0).then_some(session)
        })
    }

    /// The best slot for a session: its own, an unused one, or else the oldest; and whether that is still of use.
    fn place_for(&self, key: &Key, now: u32, lifetime: u32) -> Option<(Slot<'static>, State, bool)> {
        // Of those that are equally old not always the first: it would be the newest, most of the time.
        let start = key.last().map_or(0, |byte| usize::from(*byte));
        let rank = |(index, slot): (usize, Slot<'static>)| {
            let found = slot.load();
            let age = found.since().abs_diff(now);
            let (rank, evicts) = match found.kind() {
                Kind::Full if slot.has(key) => (0, false),
                Kind::Free => (1, false),
                Kind::Busy if age > BUSY_SECONDS_MAX => (2, false),
                Kind::Busy => return None,
                Kind::Full if age >= lifetime => (3, false),
                Kind::Full => (4, true),
            };
            Some(((rank, u32::MAX - age, (index + start) % WAYS), (slot, found, evicts)))
        };
        self.set(key).enumerate().filter_map(rank).min_by_key(|(order, _)| *order).map(|(_, place)| place)
    }

    fn set(&self, key: &Key) -> impl Iterator<Item = Slot<'static>> + use<> {
        let sets = self.words.len() / (WAYS * SLOT_WORDS);
        let hash = key.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let set = usize::try_from(hash % sets.max(1) as u64).unwrap_or(0);
        let start = set * WAYS * SLOT_WORDS;
        let words = self.words.get(start..start + WAYS * SLOT_WORDS).unwrap_or_default();
        words.chunks_exact(SLOT_WORDS).filter_map(Slot::of)
    }
}

impl Slot<'static> {
    fn of(words: &'static [AtomicU64]) -> Option<Self> {
        let (state, rest) = words.split_first()?;
        let (key, rest) = rest.split_at_checked(KEY_WORDS)?;
        let (length, session) = rest.split_first()?;
        Some(Self { state, key, length, session })
    }
}

impl Slot<'_> {
    /// What is read behind it is of this state or a later one.
    fn load(self) -> State {
        State(self.state.load(Ordering::Acquire))
    }

    /// From one state to another, if it is still in that one. What was written before is seen by whoever sees it.
    fn change(self, from: State, to: State) -> bool {
        self.state.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn claim(self, from: State, now: u32) -> Option<State> {
        let busy = from.next(Kind::Busy, now);
        let claimed = self.change(from, busy);
        // No word is written before others can see that the slot is Busy: `get` looks at the state last.
        fence(Ordering::Release);
        claimed.then_some(busy)
    }

    fn has(self, key: &Key) -> bool {
        let (words, _) = key.as_chunks();
        self.key.iter().zip(words).all(|(word, key)| word.load(Ordering::Relaxed) == u64::from_le_bytes(*key))
    }

    fn write(self, key: &Key, session: &[u8]) {
        let (words, _) = key.as_chunks();
        for (word, key) in self.key.iter().zip(words) {
            word.store(u64::from_le_bytes(*key), Ordering::Relaxed);
        }
        self.length.store(session.len() as u64, Ordering::Relaxed);
        for (word, bytes) in self.session.iter().zip(session.chunks(WORD_BYTES)) {
            let mut whole = [0; WORD_BYTES];
            if let Some(room) = whole.get_mut(..bytes.len()) {
                room.copy_from_slice(bytes);
            }
            word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
        }
    }

    fn read(self, key: &Key) -> Option<Vec<u8>> {
        if !self.has(key) {
            return None;
        }
        let length = usize::try_from(self.length.load(Ordering::Relaxed)).ok()?;
        if length > SESSION_BYTES_MAX {
            return None;
        }
        let words = self.session.iter().take(length.div_ceil(WORD_BYTES));
        let mut session: Vec<u8> =
            words.flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
        session.truncate(length);
        Some(session)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Barrier;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    const NOW: u32 = 1_700_000_000;
    const LIFETIME: u32 = 3600;

    /// A table in memory of this process alone, which stays for good.
    pub(crate) fn table(sessions: usize) -> SessionTable {
        let words = SessionTable::bytes_for(sessions) / WORD_BYTES;
        let words: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
        SessionTable::new(Vec::leak(words)).expect("one set at least")
    }

    fn key(number: u64) -> Key {
        let mut key = [0xa5; 32];
        // All in one set of a small table, and apart otherwise.
        key[..8].copy_from_slice(&number.to_le_bytes());
        key
    }

    #[test]
    fn what_was_put_is_taken_once() {
        let table = table(64);
        assert_eq!(table.capacity(), 64);
        for length in [0, 1, 7, 8, 9, SESSION_BYTES_MAX] {
            let session = vec![7; length];
            assert_eq!(table.put(&key(1), &session, NOW, LIFETIME), Put::Stored);
            assert_eq!(table.get(&key(1)), Some(session.clone()), "which leaves it there");
            assert_eq!(table.take(&key(2), NOW), None);
            assert_eq!(table.take(&key(1), NOW), Some(session));
            assert_eq!((table.take(&key(1), NOW), table.get(&key(1))), (None, None));
        }
        assert_eq!(table.put(&key(1), &[7; SESSION_BYTES_MAX + 1], NOW, LIFETIME), Put::Refused);
        assert_eq!(table.take(&key(1), NOW), None);
    }

    #[test]
    fn a_key_has_one_session() {
        let table = table(64);
        table.put(&key(1), b"first", NOW, LIFETIME);
        assert_eq!(table.put(&key(1), b"second", NOW, LIFETIME), Put::Stored);
        assert_eq!(table.take(&key(1), NOW).as_deref(), Some(&b"second"[..]));
        assert_eq!(table.take(&key(1), NOW), None);
    }

    #[test]
    fn the_oldest_makes_room_and_the_expired_before_it() {
        let table = table(WAYS);
        for (n, now) in (0..).zip(NOW..).take(WAYS) {
            assert_eq!(table.put(&key(n), b"session", now, LIFETIME), Put::Stored);
        }
        assert_eq!(table.put(&key(100), b"session", NOW + 20, LIFETIME), Put::Evicted);
        assert_eq!(table.get(&key(0)), None, "the oldest");
        assert!(table.get(&key(1)).is_some());
        // By now number 1 has expired: nobody misses it.
        assert_eq!(table.put(&key(101), b"session", NOW + 1 + LIFETIME, LIFETIME), Put::Stored);
        assert_eq!(table.get(&key(1)), None);
    }

    #[test]
    fn a_slot_whose_owner_died_comes_back() {
        let table = table(WAYS);
        for slot in table.set(&key(0)) {
            assert!(slot.claim(slot.load(), NOW).is_some());
        }
        assert_eq!(table.put(&key(1), b"session", NOW + BUSY_SECONDS_MAX, LIFETIME), Put::Refused);
        let later = NOW + BUSY_SECONDS_MAX + 1;
        assert_eq!(table.put(&key(1), b"session", later, LIFETIME), Put::Stored);
        assert_eq!(table.take(&key(1), later).as_deref(), Some(&b"session"[..]));
    }

    #[test]
    fn who_was_taken_for_dead_changes_no_state() {
        let table = table(WAYS);
        let slot = table.set(&key(0)).next().expect("the first");
        let mine = slot.claim(slot.load(), NOW).expect("free");
        let theirs = slot.claim(slot.load(), NOW + 60).expect("they think that I am dead");
        assert!(!slot.change(mine, mine.next(Kind::Full, NOW)));
        assert!(slot.change(theirs, theirs.next(Kind::Full, NOW)));
    }

    #[test]
    fn threads_take_each_session_once() {
        const THREADS: u64 = 4;
        const SESSIONS: u64 = 2000;
        let table = table(256);
        let start = Barrier::new(4);
        let run = |number: u64| {
            start.wait();
            let mut taken = Vec::new();
            for n in 0..SESSIONS {
                // Each is put by one of them, and all are after it.
                if n % THREADS == number {
                    table.put(&key(n), &n.to_le_bytes().repeat(20), NOW, LIFETIME);
                }
                for back in 0..4 {
                    let n = n.saturating_sub(back);
                    if let Some(session) = table.take(&key(n), NOW) {
                        assert_eq!(session, n.to_le_bytes().repeat(20), "of {n}, and whole");
                        taken.push(n);
                    }
                    if let Some(session) = table.get(&key(n)) {
                        assert_eq!(session, n.to_le_bytes().repeat(20), "of {n}, and whole");
                    }
                }
            }
            taken
        };
        let mut taken: Vec<u64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || run(n))).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no assertion failed")).collect()
        });
        let all = taken.len();
        assert!(all > 0);
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), all, "none twice");
    }

    #[derive(Debug, Clone)]
    enum Operation {
        Put(u64, u8),
        Take(u64),
        Get(u64),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            (0..40_u64, any::<u8>()).prop_map(|(key, fill)| Operation::Put(key, fill)),
            (0..40_u64).prop_map(Operation::Take),
            (0..40_u64).prop_map(Operation::Get),
        ]
    }

    proptest! {
        /// As a map that may forget.
        #[test]
        fn it_holds_what_a_map_would_or_nothing(operations in proptest::collection::vec(operation(), 1..200)) {
            let table = table(2 * WAYS);
            let mut model = std::collections::HashMap::new();
            for (turn, operation) in operations.into_iter().enumerate() {
                let now = NOW + u32::try_from(turn).expect("few");
                match operation {
                    Operation::Put(n, fill) => {
                        let session = vec![fill; usize::from(fill)];
                        let put = table.put(&key(n), &session, now, LIFETIME);
                        prop_assert_ne!(put, Put::Refused);
                        model.insert(n, session);
                    }
                    Operation::Take(n) => {
                        let (taken, known) = (table.take(&key(n), now), model.remove(&n));
                        prop_assert!(taken.is_none() || taken == known, "{:?} {:?}", taken, known);
                        prop_assert_eq!(table.take(&key(n), now), None);
                    }
                    Operation::Get(n) => {
                        let (got, known) = (table.get(&key(n)), model.get(&n));
                        prop_assert!(got.is_none() || got.as_ref() == known, "{:?} {:?}", got, known);
                    }
                }
            }
        }

        /// Other words than ours, as of a version that has another layout: never more than nothing, or garbage.
        #[test]
        fn whatever_is_there_it_goes_on(garbage in proptest::collection::vec(any::<u64>(), WAYS * SLOT_WORDS), at in any::<u64>()) {
            let words: Vec<AtomicU64> = garbage.into_iter().map(AtomicU64::new).collect();
            let table = SessionTable::new(Vec::leak(words)).expect("one set");
            prop_assert_eq!(table.take(&key(at), NOW), None);
            let _ = table.put(&key(at), b"session", NOW, LIFETIME);
        }
    }
}
