//! Keys that session tickets are sealed with, and when they change.
//!
//! The main process makes them, hands them to all workers, and keeps them over upgrades, so that a session
//! can be resumed with any worker. Pure: time and randomness are handed in.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// How long a key may open tickets, in seconds, and so how long any session can be resumed without another
/// full handshake: whoever gets hold of a key can read the sessions of this time, if their clients have not
/// exchanged fresh keys too.
pub const LIFETIME_DEFAULT: u64 = 12 * 60 * 60;

/// The longest lifetime there may be, in seconds (RFC 8446 §4.6.1).
pub const LIFETIME_MAX: u64 = 7 * 24 * 60 * 60;

/// Age at which a key seals no more, in parts of its lifetime: the tickets it sealed last are good for the
/// other half.
const ROTATIONS_PER_LIFETIME: u64 = 2;

/// How many keys there may be. Two are enough; more come from changing the lifetime or the clock.
pub const KEYS_MAX: usize = 16;

/// A key that tickets are sealed with. Wiped when it is dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct TicketKey {
    /// What tickets call it; random, and no secret.
    pub name: [u8; 16],
    /// What the keys of each worker and listener are derived from.
    pub secret: [u8; 32],
    /// When it was made, in seconds since 1970.
    pub created_at: u64,
}

impl std::fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TicketKey")
            .field("name", &self.name)
            .field("created_at", &self.created_at)
            .finish_non_exhaustive()
    }
}

/// The keys of a proxy: the first seals, all open. None: no tickets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketKeys {
    keys: Vec<TicketKey>,
    lifetime: u64,
}

impl Default for TicketKeys {
    fn default() -> Self {
        Self::new(Vec::new(), LIFETIME_DEFAULT)
    }
}

impl TicketKeys {
    /// These keys, the first [`KEYS_MAX`] of them, of which each is good for `lifetime` seconds, from a minute
    /// up to [`LIFETIME_MAX`].
    pub fn new(mut keys: Vec<TicketKey>, lifetime: u64) -> Self {
        keys.truncate(KEYS_MAX);
        Self { keys, lifetime: lifetime.clamp(60, LIFETIME_MAX) }
    }

    /// The keys; the first seals.
    pub fn keys(&self) -> &[TicketKey] {
        &self.keys
    }

    /// How long each is good for, in seconds.
    pub fn lifetime(&self) -> u64 {
        self.lifetime
    }

    /// The key that seals at this time, and the seconds that tickets have which it seals.
    pub fn sealing(&self, now: u64) -> Option<(&TicketKey, u64)> {
        let key = self.keys.first()?;
        Some((key, self.time_left(key, now)?))
    }

    /// The key of this name, if it still opens tickets at this time.
    pub fn opening(&self, name: &[u8], now: u64) -> Option<&TicketKey> {
        self.keys.iter().find(|key| key.name == name).filter(|key| self.time_left(key, now).is_some())
    }

    fn time_left(&self, key: &TicketKey, now: u64) -> Option<u64> {
        // A key from the future is of a clock that was set back; it is good for as long as any.
        let age = now.saturating_sub(key.created_at);
        self.lifetime.checked_sub(age).filter(|&left| left > 0)
    }

    /// When [`TicketKeys::rotate`] is due, in seconds since 1970; 0 if it is overdue.
    pub fn rotation_due_at(&self) -> u64 {
        let interval = self.lifetime / ROTATIONS_PER_LIFETIME;
        self.keys.first().map_or(0, |key| key.created_at.saturating_add(interval))
    }

    /// The keys from `now` on: a new one made of `random` in front, and those before it that still open
    /// tickets. Tickets that a worker seals with the new key before another one has heard of it cost a full
    /// handshake there; that is a matter of milliseconds.
    #[must_use]
    pub fn rotate(&self, now: u64, random: &[u8; 48]) -> Self {
        let (name, rest) = random.split_first_chunk().unwrap_or((&[0; 16], &[]));
        let mut secret = [0; 32];
        secret.copy_from_slice(rest.first_chunk().unwrap_or(&[0; 32]));
        let mut keys = vec![TicketKey { name: *name, secret, created_at: now }];
        secret.zeroize();
        keys.extend(self.keys.iter().filter(|key| self.time_left(key, now).is_some()).cloned());
        Self::new(keys, self.lifetime)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 60 * 60;

    fn random(seed: u8) -> [u8; 48] {
        std::array::from_fn(|i| seed.wrapping_add(u8::try_from(i).unwrap_or_default()))
    }

    #[test]
    fn keys_change_twice_in_their_life() {
        let mut keys = TicketKeys::default();
        assert_eq!(keys.rotation_due_at(), 0, "at once");
        assert_eq!(keys.sealing(0), None);
        let mut sealed_with = Vec::new();
        for turn in 0..5 {
            let now = 100 * HOUR + u64::from(turn) * 6 * HOUR;
            keys = keys.rotate(now, &random(turn));
            assert_eq!(keys.rotation_due_at(), now + 6 * HOUR);
            let (key, left) = keys.sealing(now).expect("a new one");
            assert_eq!((key.created_at, left), (now, LIFETIME_DEFAULT));
            sealed_with.push(key.name);
            assert_eq!(keys.keys().len(), sealed_with.len().min(2));
            // One that has just come to its end is gone; the one before the newest opens for the other half.
            let opens = |name: &[u8; 16], at| keys.opening(name, at).is_some();
            for (age, name) in sealed_with.iter().rev().enumerate() {
                assert_eq!(opens(name, now), age < 2, "{turn} {age}");
            }
            assert!(opens(&key.name, now + 12 * HOUR - 1) && !opens(&key.name, now + 12 * HOUR));
        }
    }

    #[test]
    fn a_new_key_is_made_of_all_the_randomness() {
        let keys = TicketKeys::default().rotate(1, &random(7));
        let key = &keys.keys()[0];
        assert_eq!([&key.name[..], &key.secret].concat(), random(7));
    }

    #[test]
    fn keys_are_not_shown() {
        let keys =
            TicketKeys::new(vec![TicketKey { name: [1; 16], secret: [0xab; 32], created_at: 5 }], HOUR);
        assert!(!format!("{keys:?}").contains("171"), "{keys:?}");
    }

    #[test]
    fn nothing_outlives_a_week() {
        assert_eq!(TicketKeys::new(Vec::new(), u64::MAX).lifetime(), LIFETIME_MAX);
        let key = TicketKey { name: [1; 16], secret: [2; 32], created_at: 0 };
        assert_eq!(TicketKeys::new(vec![key; 99], 0).keys().len(), KEYS_MAX);
    }

    proptest! {
        /// Whatever clocks do, there is a key that seals, and few that open.
        #[test]
        fn rotation_keeps_few_and_fresh(steps in proptest::collection::vec((0..100 * HOUR, any::<u8>()), 1..60)) {
            let mut keys = TicketKeys::default();
            for (now, seed) in steps {
                keys = keys.rotate(now, &random(seed));
                prop_assert!(keys.keys().len() <= KEYS_MAX);
                prop_assert_eq!(keys.sealing(now).map(|(_, left)| left), Some(LIFETIME_DEFAULT));
                for key in keys.keys() {
                    prop_assert!(now.saturating_sub(key.created_at) < LIFETIME_DEFAULT);
                }
            }
        }
    }
}
