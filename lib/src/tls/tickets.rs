//! Session tickets, for TLS 1.2 (RFC 5077) and 1.3 (RFC 8446 §4.6.1): the whole session, sealed, in the
//! hands of the client.
//!
//! ```text
//! ticket = name of the key (16) | salt (16) | nonce (12) | AES-256-GCM(session), tag (16)
//! ```
//!
//! Tickets are not sealed with the key itself. GCM with random nonces may be used 2^32 times with one key
//! (NIST SP 800-38D §8.3), and many workers that share one for hours get near that. So each worker draws a
//! salt for each listener and key, and seals with what HKDF-SHA-256 derives from the key, the salt, and the
//! listener's context, and draws another salt after 2^32 tickets. Nonces are random rather than counted, so that
//! tickets do not tell how many there are.
//!
//! The context is a hash of all that a resumed session takes for granted and is not asked again, above all
//! who had to show which client certificate. A ticket from elsewhere, or from before the policy changed,
//! opens with no key, and its client makes a full handshake.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use rustls::crypto::SecureRandom;
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use super::clock::Clock;
use super::resolver::Choices;
use super::ticket_keys::{TicketKey, TicketKeys};

const NAME_BYTES: usize = 16;
const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = NAME_BYTES + SALT_BYTES + NONCE_LEN;

/// The largest session that is sealed: one with a client's chain of a few certificates. Tickets come back in
/// the first flight of the client, which should stay small; larger sessions are not resumed.
const SESSION_BYTES_MAX: usize = 8 * 1024;

/// How many tickets are sealed under one salt (NIST SP 800-38D §8.3).
const SEALS_MAX: u64 = 1 << 32;

/// In front of a session: until when its client is believed to be who it is, in seconds since 1970.
const END_BYTES: usize = size_of::<u64>();

/// What separates these keys from any others that might be derived from the same secret.
const LABEL: &[u8] = b"kakehi session ticket v1";

/// What a ticket is good for: hash it from the listener and its policy towards clients.
pub type Context = [u8; 32];

/// The keys of a worker, shared by all its listeners and the orders that replace them.
#[derive(Debug, Default)]
pub struct SharedTicketKeys {
    keys: RwLock<TicketKeys>,
    /// Counts replacements, so that listeners see that what they derived is stale.
    generation: AtomicU64,
}

impl SharedTicketKeys {
    /// From now on these keys, and no others.
    pub fn replace(&self, keys: TicketKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn read<R>(&self, read: impl FnOnce(&TicketKeys) -> R) -> R {
        read(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Seals and opens the tickets of one listener.
pub struct Ticketer {
    keys: Arc<SharedTicketKeys>,
    context: Context,
    clock: Arc<Clock>,
    random: &'static dyn SecureRandom,
    sealer: RwLock<Option<Arc<Sealer>>>,
    /// Where it is told how long a client is believed to be who it is, if tickets say so.
    identities: Option<Arc<Choices>>,
}

/// What this worker seals with; it opens its own tickets with it, too.
struct Sealer {
    generation: u64,
    name: [u8; NAME_BYTES],
    salt: [u8; SALT_BYTES],
    key: LessSafeKey,
    seals: AtomicU64,
}

impl Ticketer {
    /// Tickets that are good where the context is the same.
    pub fn new(
        keys: Arc<SharedTicketKeys>,
        context: Context,
        clock: Arc<Clock>,
        random: &'static dyn SecureRandom,
    ) -> Self {
        Self { keys, context, clock, random, sealer: RwLock::new(None), identities: None }
    }

    /// Tickets that are good no longer than what their clients have shown; see `tls::identity`. They can't be
    /// mistaken for others: listeners that ask for certificates have contexts of their own.
    pub fn of_identities(self, choices: Arc<Choices>) -> Self {
        Self { identities: Some(choices), ..self }
    }

    /// What to seal with: derived anew after the keys were replaced, or when it is worn out.
    fn sealer(&self) -> Option<Arc<Sealer>> {
        let generation = self.keys.generation.load(Ordering::Acquire);
        let current = self.sealer.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sealer) = current.filter(|sealer| sealer.serves(generation)) {
            return Some(sealer);
        }
        let mut salt = [0; SALT_BYTES];
        self.random.fill(&mut salt).ok()?;
        let sealer = self.keys.read(|keys| {
            let key = keys.keys().first()?;
            let derived = derive(key, &salt, &self.context)?;
            Some(Arc::new(Sealer {
                generation,
                name: key.name,
                salt,
                key: derived,
                seals: AtomicU64::new(0),
            }))
        });
        *self.sealer.write().unwrap_or_else(PoisonError::into_inner) = sealer.clone();
        sealer
    }

    fn open_with(
        &self,
        name: &[u8],
        salt: &[u8],
        open: impl FnOnce(&LessSafeKey) -> Option<usize>,
    ) -> Option<usize> {
        let now = self.clock.unix_seconds();
        let own = self.sealer().filter(|sealer| sealer.name == name && sealer.salt == salt);
        match own {
            Some(sealer) => {
                self.keys.read(|keys| keys.opening(name, now).map(drop))?;
                open(&sealer.key)
            }
            None => {
                let key = self.keys.read(|keys| derive(keys.opening(name, now)?, salt, &self.context))?;
                open(&key)
            }
        }
    }
}

impl Sealer {
    fn serves(&self, generation: u64) -> bool {
        self.generation == generation && self.seals.load(Ordering::Relaxed) < SEALS_MAX
    }
}

impl ProducesTickets for Ticketer {
    /// Always: without keys no ticket is sent, and none opens.
    fn enabled(&self) -> bool {
        true
    }

    /// Seconds that the tickets sealed now can be opened.
    fn lifetime(&self) -> u32 {
        let now = self.clock.unix_seconds();
        let left = self.keys.read(|keys| keys.sealing(now).map_or(0, |(_, left)| left));
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let now = self.clock.unix_seconds();
        self.keys.read(|keys| keys.sealing(now).map(drop))?;
        let sealer = self.sealer()?;
        if session.len() > SESSION_BYTES_MAX {
            return None;
        }
        sealer.seals.fetch_add(1, Ordering::Relaxed);
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(HEAD_BYTES + END_BYTES + session.len() + TAG_BYTES);
        ticket.extend_from_slice(&sealer.name);
        ticket.extend_from_slice(&sealer.salt);
        ticket.extend_from_slice(&nonce);
        if let Some(choices) = &self.identities {
            let end = choices.take_identity_end();
            choices.set_identity_end(end);
            ticket.extend_from_slice(&end.unwrap_or(u64::MAX).to_be_bytes());
        }
        ticket.extend_from_slice(session);
        let (head, sealed) = ticket.split_at_mut(HEAD_BYTES);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = sealer.key.seal_in_place_separate_tag(nonce, Aad::from(head), sealed).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (head, sealed) = ticket.split_at_checked(HEAD_BYTES)?;
        if sealed.len() > END_BYTES + SESSION_BYTES_MAX + TAG_BYTES {
            return None;
        }
        let (name, rest) = head.split_at_checked(NAME_BYTES)?;
        let (salt, nonce) = rest.split_at_checked(SALT_BYTES)?;
        let mut session = sealed.to_vec();
        let len = self.open_with(name, salt, |key| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            key.open_in_place(nonce, Aad::from(head), &mut session).ok().map(|session| session.len())
        })?;
        session.truncate(len);
        let Some(choices) = &self.identities else { return Some(session) };
        let end = u64::from_be_bytes(*session.first_chunk()?);
        if end < self.clock.unix_seconds() {
            return None;
        }
        // New tickets for the same client end with this one.
        choices.set_identity_end(Some(end).filter(|end| *end < u64::MAX));
        session.drain(..END_BYTES);
        Some(session)
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticketer").finish_non_exhaustive()
    }
}

/// The key for a salt and a context (RFC 5869). The secret is uniformly random, so it needs no extraction.
fn derive(key: &TicketKey, salt: &[u8], context: &Context) -> Option<LessSafeKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    let info = [LABEL, salt, context];
    let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &key.secret);
    prk.expand(&info, hkdf::HKDF_SHA256).ok()?.fill(&mut *bytes).ok()?;
    UnboundKey::new(&AES_256_GCM, &*bytes).ok().map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::*;

    const NOW: u64 = 1_000_000;

    struct Fixture {
        keys: Arc<SharedTicketKeys>,
        clock: Arc<Clock>,
    }

    impl Fixture {
        /// As a worker: its keys, and the time.
        fn new(keys: &TicketKeys) -> Self {
            let shared = Arc::new(SharedTicketKeys::default());
            shared.replace(keys.clone());
            let clock = Arc::new(Clock::default());
            clock.set(NOW);
            Self { keys: shared, clock }
        }

        fn ticketer(&self, context: u8) -> Ticketer {
            let random = default_provider().secure_random;
            Ticketer::new(self.keys.clone(), [context; 32], self.clock.clone(), random)
        }
    }

    fn keys(seeds: &[u8]) -> TicketKeys {
        let keys =
            seeds.iter().map(|&seed| TicketKey { name: [seed; 16], secret: [seed; 32], created_at: NOW });
        TicketKeys::new(keys.collect(), 3600)
    }

    #[test]
    fn workers_open_each_others_tickets() {
        let (a, b) = (Fixture::new(&keys(&[1])), Fixture::new(&keys(&[1])));
        let (a, b) = (a.ticketer(0), b.ticketer(0));
        for session in [&b""[..], b"session", &[7; SESSION_BYTES_MAX]] {
            let ticket = a.encrypt(session).expect("there are keys");
            assert_eq!(ticket.len(), HEAD_BYTES + session.len() + TAG_BYTES);
            assert_eq!(a.decrypt(&ticket).as_deref(), Some(session));
            assert_eq!(b.decrypt(&ticket).as_deref(), Some(session));
        }
        assert_eq!(a.encrypt(&[7; SESSION_BYTES_MAX + 1]), None);
    }

    #[test]
    fn tickets_stay_in_their_context() {
        let worker = Fixture::new(&keys(&[1]));
        let ticket = worker.ticketer(0).encrypt(b"session").expect("there are keys");
        assert_eq!(worker.ticketer(1).decrypt(&ticket), None);
        assert!(worker.ticketer(0).decrypt(&ticket).is_some());
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let worker = Fixture::new(&keys(&[1]));
        let ticketer = worker.ticketer(0);
        let old = ticketer.encrypt(b"old").expect("there are keys");
        worker.keys.replace(keys(&[2, 1]));
        let new = ticketer.encrypt(b"new").expect("there are keys");
        assert_eq!(new[..NAME_BYTES], [2; 16]);
        assert_eq!(ticketer.decrypt(&old).as_deref(), Some(&b"old"[..]));
        assert_eq!(ticketer.decrypt(&new).as_deref(), Some(&b"new"[..]));
        worker.keys.replace(keys(&[2]));
        assert_eq!(ticketer.decrypt(&old), None);
        assert_eq!(ticketer.decrypt(&new).as_deref(), Some(&b"new"[..]));
        worker.keys.replace(TicketKeys::default());
        assert_eq!(ticketer.decrypt(&new), None);
        assert_eq!(ticketer.encrypt(b"none"), None);
    }

    #[test]
    fn a_key_of_the_same_name_is_another_one() {
        let worker = Fixture::new(&keys(&[1]));
        let ticketer = worker.ticketer(0);
        let ticket = ticketer.encrypt(b"session").expect("there are keys");
        let other = TicketKey { name: [1; 16], secret: [9; 32], created_at: NOW };
        worker.keys.replace(TicketKeys::new(vec![other], 3600));
        assert_eq!(ticketer.decrypt(&ticket), None);
    }

    #[test]
    fn tickets_are_good_as_long_as_their_key() {
        let worker = Fixture::new(&keys(&[1]));
        let ticketer = worker.ticketer(0);
        assert_eq!(ticketer.lifetime(), 3600);
        worker.clock.set(NOW + 3000);
        assert_eq!(ticketer.lifetime(), 600);
        let ticket = ticketer.encrypt(b"session").expect("the key is good");
        worker.clock.set(NOW + 3599);
        assert!(ticketer.decrypt(&ticket).is_some());
        worker.clock.set(NOW + 3600);
        assert_eq!(ticketer.decrypt(&ticket), None, "even if main has forgotten to rotate");
        assert_eq!(ticketer.encrypt(b"session"), None);
        assert_eq!(ticketer.lifetime(), 0);
    }

    #[test]
    fn no_two_tickets_are_alike() {
        let worker = Fixture::new(&keys(&[1]));
        let seal = || worker.ticketer(0).encrypt(b"session").expect("there are keys");
        let (a, b) = (seal(), seal());
        assert_ne!(a[NAME_BYTES..][..SALT_BYTES], b[NAME_BYTES..][..SALT_BYTES], "each draws a salt");
        let ticketer = worker.ticketer(0);
        let seal = || ticketer.encrypt(b"session").expect("there are keys");
        let (a, b) = (seal(), seal());
        assert_eq!(a[..NAME_BYTES + SALT_BYTES], b[..NAME_BYTES + SALT_BYTES]);
        assert_ne!(a[NAME_BYTES + SALT_BYTES..][..NONCE_LEN], b[NAME_BYTES + SALT_BYTES..][..NONCE_LEN]);
    }

    #[test]
    fn a_salt_is_not_used_too_often() {
        let worker = Fixture::new(&keys(&[1]));
        let ticketer = worker.ticketer(0);
        let sealer = ticketer.sealer().expect("there are keys");
        sealer.seals.store(SEALS_MAX - 1, Ordering::Relaxed);
        let [last, first] = [(); 2].map(|()| ticketer.encrypt(b"session").expect("there are keys"));
        assert_eq!(last[NAME_BYTES..][..SALT_BYTES], sealer.salt);
        assert_ne!(first[NAME_BYTES..][..SALT_BYTES], sealer.salt);
        assert!(ticketer.decrypt(&last).is_some() && ticketer.decrypt(&first).is_some());
    }

    proptest! {
        #[test]
        fn what_was_tampered_with_does_not_open(at in 0..HEAD_BYTES + 7 + TAG_BYTES, bit in 0..8_u32, cut in 0..99_usize) {
            let worker = Fixture::new(&keys(&[1, 2]));
            let mut ticket = worker.ticketer(0).encrypt(b"session").expect("there are keys");
            prop_assert!(worker.ticketer(0).decrypt(&ticket[..cut.min(ticket.len() - 1)]).is_none());
            ticket[at] ^= 1 << bit;
            prop_assert!(worker.ticketer(0).decrypt(&ticket).is_none());
        }

        #[test]
        fn garbage_does_not_open(mut garbage: Vec<u8>, is_named: bool) {
            let worker = Fixture::new(&keys(&[1]));
            if is_named {
                garbage.splice(0..0, [1; 16]);
            }
            prop_assert_eq!(worker.ticketer(0).decrypt(&garbage), None);
        }
    }
}
