//! A hash table in memory that several processes share: which entry belongs to a key. No lock, so nobody waits for a
//! process that was stopped or has died.
//!
//! A key has [`WAYS`] places, its bucket: one cache line of tags. What is behind a tag, its payload, is the caller's;
//! an entry whose payload is *idle* may be given to another key.
//!
//! ```text
//!   tag word:  tag (48 bits) | owner (14) | kind (2)
//!
//!              put by W            nobody else had the key
//!      Free ------------> Tentative(W) ------------------> Used
//!        ^                 |   ^                           ^  |
//!        |  withdrawn, or  |   |  idle still               |  | idle, W wants it
//!        +-- killed by ----+   +------- Reclaiming(W) -----+<-+
//!            another putter                              busy again, or its own key asks
//! ```
//! Why a key never has two Used entries: take two, and let A's have become Tentative before B's. Between its own
//! Tentative and its own Used, B looks at each place of the bucket. It meets A's as Tentative, and kills it unless that
//! fails since A got on; or as Used or Reclaiming, and withdraws. Why the owner is in the word: whoever was killed must
//! not take another's Tentative for its own.
//!
//! Every access is sequentially consistent: the argument needs "I wrote mine, then read yours" of both sides.

use std::sync::atomic::{AtomicU64, Ordering};

use super::key::Key;

/// Places that a key may have.
pub(super) const WAYS: usize = 8;

/// Attempts before somebody gives up: each that fails means that another process got on in the same bucket.
const TRIES_MAX: usize = 32;

/// Lanes, and so owners, at most.
pub(super) const OWNERS_MAX: usize = 1 << OWNER_BITS;

const OWNER_BITS: u32 = 14;
const KIND_BITS: u32 = 2;
const TAG_SHIFT: u32 = OWNER_BITS + KIND_BITS;

/// A word that processes share. There is a second kind of it in tests, which decides who goes first.
pub(super) trait Word: 'static {
    fn load(&self) -> u64;
    fn replace(&self, from: u64, to: u64) -> bool;
    fn add(&self, value: u64);
    fn sub(&self, value: u64);
    fn mask(&self, bits: u64);
}

impl Word for AtomicU64 {
    fn load(&self) -> u64 {
        self.load(Ordering::SeqCst)
    }

    fn replace(&self, from: u64, to: u64) -> bool {
        self.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn add(&self, value: u64) {
        self.fetch_add(value, Ordering::SeqCst);
    }

    fn sub(&self, value: u64) {
        self.fetch_sub(value, Ordering::SeqCst);
    }

    fn mask(&self, bits: u64) {
        self.fetch_and(bits, Ordering::SeqCst);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Free,
    Tentative,
    Used,
    Reclaiming,
}

/// What a tag word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag(u64);

impl Tag {
    /// Free, and not for the first time: something may have been written behind it.
    const FREED: Self = Self(1 << TAG_SHIFT);

    fn new(key: Key, kind: Kind, owner: usize) -> Self {
        let kind = match kind {
            Kind::Free => 0,
            Kind::Tentative => 1,
            Kind::Used => 2,
            Kind::Reclaiming => 3,
        };
        Self(key.0 >> TAG_SHIFT << TAG_SHIFT | (owner as u64) << KIND_BITS | kind)
    }

    fn used(key: Key) -> Self {
        Self::new(key, Kind::Used, 0)
    }

    fn kind(self) -> Kind {
        match self.0 & 3 {
            1 => Kind::Tentative,
            2 => Kind::Used,
            3 => Kind::Reclaiming,
            _ => Kind::Free,
        }
    }

    fn owner(self) -> usize {
        usize::try_from(self.0 >> KIND_BITS).unwrap_or(0) & (OWNERS_MAX - 1)
    }

    /// As it was before somebody began to reclaim it.
    fn restored(self) -> Self {
        Self::used(Key(self.0))
    }

    fn reclaimed_by(self, owner: usize) -> Self {
        Self::new(Key(self.0), Kind::Reclaiming, owner)
    }

    fn is_of(self, key: Key) -> bool {
        self.kind() != Kind::Free && self.0 >> TAG_SHIFT == key.0 >> TAG_SHIFT
    }
}

/// Why there is no entry for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoEntry {
    /// All its places are in use.
    Full,
    /// Others were at the same bucket each time.
    Contended,
}

/// See the module. A word of tags for each entry, then the payloads.
#[derive(Debug)]
pub(super) struct Slots<W: 'static> {
    tags: &'static [W],
    payloads: &'static [W],
    payload_words: usize,
    /// Whose changes these are.
    owner: usize,
}

impl<W> Clone for Slots<W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Slots<W> {}

/// An entry: its number.
pub(super) type Entry = usize;

enum Seized {
    /// The place is ours, tentatively.
    Yes,
    /// It is in use.
    InUse,
    /// Somebody else is at it.
    Busy,
}

impl<W: Word> Slots<W> {
    /// A table in these words, all of them zero at first. `None` if there is not one bucket.
    pub(super) fn new(words: &'static [W], payload_words: usize, owner: usize) -> Option<Self> {
        let entries = words.len() / (1 + payload_words) / WAYS * WAYS;
        let (tags, payloads) = words.split_at_checked(entries)?;
        (entries > 0 && owner < OWNERS_MAX).then_some(Self { tags, payloads, payload_words, owner })
    }

    /// Words of a table with so many entries, rounded up.
    pub(super) fn words_for(entries: usize, payload_words: usize) -> usize {
        entries.max(1).next_multiple_of(WAYS).saturating_mul(1 + payload_words)
    }

    /// The payload of an entry.
    pub(super) fn payload(&self, entry: Entry) -> &'static [W] {
        let start = entry.saturating_mul(self.payload_words);
        self.payloads.get(start..start.saturating_add(self.payload_words)).unwrap_or_default()
    }

    /// Whether the entry is this key's, at this moment. Ask after each write to the payload of an entry that may have
    /// been idle: if it is not, take back what was written.
    pub(super) fn is_of(&self, entry: Entry, key: Key) -> bool {
        self.tags.get(entry).is_some_and(|tag| tag.load() == Tag::used(key).0)
    }

    /// The entry of a key, if it has one.
    pub(super) fn find(&self, key: Key) -> Option<Entry> {
        self.bucket(key).find(|&entry| self.meet(entry, key) == Some(Kind::Used))
    }

    /// The entry of a key; made if it has none, of one that `is_idle` if need be.
    pub(super) fn find_or_put(&self, key: Key, is_idle: &impl Fn(&[W]) -> bool) -> Result<Entry, NoEntry> {
        for _ in 0..TRIES_MAX {
            if let Some(entry) = self.find(key) {
                return Ok(entry);
            }
            if let Some(entry) = self.put(key, is_idle)? {
                return Ok(entry);
            }
        }
        Err(NoEntry::Contended)
    }

    /// What this process's predecessor left behind when it died, entry by entry: all that were ever written to.
    /// Nobody else may use this owner meanwhile.
    pub(super) fn clean(&self, mut clear: impl FnMut(&[W])) {
        for (entry, tag) in self.tags.iter().enumerate() {
            let found = Tag(tag.load());
            if found.0 == 0 {
                continue;
            }
            if found.kind() != Kind::Used && found.owner() == self.owner {
                // If it fails somebody has dealt with it.
                match found.kind() {
                    Kind::Tentative => drop(tag.replace(found.0, Tag::FREED.0)),
                    Kind::Reclaiming => drop(tag.replace(found.0, found.restored().0)),
                    Kind::Free | Kind::Used => {}
                }
            }
            clear(self.payload(entry));
        }
    }

    /// Tags that are in use now.
    pub(super) fn used(&self) -> usize {
        self.tags.iter().filter(|tag| Tag(tag.load()).kind() == Kind::Used).count()
    }

    fn bucket(&self, key: Key) -> impl Iterator<Item = Entry> + use<W> {
        // The low bits: the high ones are the tag.
        let buckets = (self.tags.len() / WAYS).max(1) as u64;
        let mixed = key.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let start = usize::try_from(mixed % buckets).unwrap_or(0) * WAYS;
        start..start + WAYS
    }

    /// What this key has at this place. An entry that is being reclaimed is taken back.
    fn meet(&self, entry: Entry, key: Key) -> Option<Kind> {
        let tag = self.tags.get(entry)?;
        for _ in 0..TRIES_MAX {
            let found = Tag(tag.load());
            if !found.is_of(key) {
                return None;
            }
            match found.kind() {
                Kind::Reclaiming => drop(tag.replace(found.0, Tag::used(key).0)),
                kind => return Some(kind),
            }
        }
        // Somebody is always at it: there is something, at any rate.
        Some(Kind::Reclaiming)
    }

    /// Makes an entry. `None`: look again.
    fn put(&self, key: Key, is_idle: &impl Fn(&[W]) -> bool) -> Result<Option<Entry>, NoEntry> {
        let mine = Tag::new(key, Kind::Tentative, self.owner);
        let mut busy = false;
        let mut own = None;
        for entry in self.bucket(key) {
            match self.seize(entry, mine, is_idle) {
                Seized::Yes => {
                    own = Some(entry);
                    break;
                }
                Seized::InUse => {}
                Seized::Busy => busy = true,
            }
        }
        let Some(own) = own else { return if busy { Ok(None) } else { Err(NoEntry::Full) } };
        let Some(tag) = self.tags.get(own) else { return Err(NoEntry::Full) };
        for other in self.bucket(key).filter(|&other| other != own) {
            for _ in 0..TRIES_MAX {
                match self.meet(other, key) {
                    None | Some(Kind::Free) => break,
                    Some(Kind::Tentative) => self.kill(other, key),
                    Some(Kind::Used | Kind::Reclaiming) => {
                        // Theirs it is. If this fails ours is gone already.
                        let _ = tag.replace(mine.0, Tag::FREED.0);
                        return Ok(None);
                    }
                }
            }
        }
        Ok(tag.replace(mine.0, Tag::used(key).0).then_some(own))
    }

    /// Frees another's tentative entry for this key. It will notice.
    fn kill(&self, entry: Entry, key: Key) {
        let Some(tag) = self.tags.get(entry) else { return };
        let found = Tag(tag.load());
        if found.is_of(key) && found.kind() == Kind::Tentative {
            let _ = tag.replace(found.0, Tag::FREED.0);
        }
    }

    /// Takes a place that is free, or idle.
    fn seize(&self, entry: Entry, mine: Tag, is_idle: &impl Fn(&[W]) -> bool) -> Seized {
        let Some(tag) = self.tags.get(entry) else { return Seized::InUse };
        let found = Tag(tag.load());
        let yes = |seized| if seized { Seized::Yes } else { Seized::Busy };
        match found.kind() {
            Kind::Free => yes(tag.replace(found.0, mine.0)),
            Kind::Tentative | Kind::Reclaiming => Seized::Busy,
            // Made since we looked for it.
            Kind::Used if found.0 >> TAG_SHIFT == mine.0 >> TAG_SHIFT => Seized::Busy,
            Kind::Used if !is_idle(self.payload(entry)) => Seized::InUse,
            Kind::Used => {
                let reclaiming = found.reclaimed_by(self.owner);
                if !tag.replace(found.0, reclaiming.0) {
                    return Seized::Busy;
                }
                // From here on whoever writes to it sees that it is not theirs; who wrote before is seen by us.
                if is_idle(self.payload(entry)) {
                    return yes(tag.replace(reclaiming.0, mine.0));
                }
                let _ = tag.replace(reclaiming.0, found.0);
                Seized::InUse
            }
        }
    }
}
