//! Sessions of listeners that take early data: in a table that all workers share, each for one resumption.
//!
//! rustls takes early data only where it keeps sessions itself, and hands out their keys as tickets (32 random
//! bytes): a sealed ticket can be played back, a session that was taken out is gone. What is in the table is sealed
//! as tickets are, so that it opens no longer than their keys live, and only at the listener that it is from. The
//! key is sealed with it: of a slot that two have written nothing is believed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::server::{ProducesTickets, StoresServerSessions};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::clock::Clock;
use super::session_table::{Key, Put, SessionTable};
use super::ticket_keys::LIFETIME_DEFAULT;
use super::tickets::{Context, Ticketer};

/// The table of a worker, and what became of what was to be kept. Shared by all its listeners.
#[derive(Debug, Default)]
pub struct SharedSessions {
    table: OnceLock<SessionTable>,
    stored: AtomicU64,
    evicted: AtomicU64,
    refused: AtomicU64,
}

/// What became of sessions since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionCounts {
    /// Kept.
    pub stored: u64,
    /// Gone though they might still have been resumed.
    pub evicted: u64,
    /// Not kept.
    pub refused: u64,
}

impl SharedSessions {
    /// From now on sessions are kept here. Before, none are. The first table stays.
    pub fn set_table(&self, table: SessionTable) {
        let _ = self.table.set(table);
    }

    /// What became of sessions since this was asked last.
    pub fn take_counts(&self) -> SessionCounts {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        SessionCounts {
            stored: take(&self.stored),
            evicted: take(&self.evicted),
            refused: take(&self.refused),
        }
    }

    fn count(&self, put: Put) -> bool {
        let add = |count: &AtomicU64| count.fetch_add(1, Ordering::Relaxed);
        match put {
            Put::Stored => drop(add(&self.stored)),
            Put::Evicted => {
                add(&self.stored);
                add(&self.evicted);
            }
            Put::Refused => drop(add(&self.refused)),
        }
        put != Put::Refused
    }
}

/// The sessions of one listener, for rustls.
#[derive(Debug)]
pub struct Sessions {
    shared: Arc<SharedSessions>,
    ticketer: Ticketer,
    context: Context,
    clock: Arc<Clock>,
}

impl Sessions {
    /// Sessions that `ticketer` seals, and that are good where the context is the same.
    pub fn new(shared: Arc<SharedSessions>, ticketer: Ticketer, context: Context, clock: Arc<Clock>) -> Self {
        Self { shared, ticketer, context, clock }
    }

    /// Where a session is. Tickets do not tell: who sees one on its way must not find out which slot it is in.
    fn key(&self, ticket: &[u8]) -> Key {
        Sha256::new().chain_update(self.context).chain_update(ticket).finalize().into()
    }

    /// Of seconds since 1970 the lower 32 bits.
    fn now(&self) -> u32 {
        u32::try_from(self.clock.unix_seconds() & u64::from(u32::MAX)).unwrap_or_default()
    }

    fn open(&self, key: &Key, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut opened = Zeroizing::new(self.ticketer.decrypt(sealed)?);
        opened.starts_with(key).then(|| opened.split_off(key.len()))
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, ticket: Vec<u8>, session: Vec<u8>) -> bool {
        let session = Zeroizing::new(session);
        let Some(table) = self.shared.table.get() else { return false };
        let key = self.key(&ticket);
        let keyed = Zeroizing::new([&key[..], &session].concat());
        // Without ticket keys, for the moment, there is none.
        let Some(sealed) = self.ticketer.encrypt(&keyed) else { return self.shared.count(Put::Refused) };
        let lifetime = u32::try_from(LIFETIME_DEFAULT).unwrap_or(u32::MAX);
        self.shared.count(table.put(&key, &sealed, self.now(), lifetime))
    }

    fn get(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let key = self.key(ticket);
        self.open(&key, &self.shared.table.get()?.get(&key)?)
    }

    fn take(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let key = self.key(ticket);
        self.open(&key, &self.shared.table.get()?.take(&key, self.now())?)
    }

    fn can_cache(&self) -> bool {
        self.shared.table.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::super::session_table::tests::table;
    use super::super::ticket_keys::{TicketKey, TicketKeys};
    use super::super::tickets::SharedTicketKeys;
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn keys(seed: u8, created_at: u64) -> TicketKeys {
        TicketKeys::new(
            vec![TicketKey { name: [seed; 16], secret: [seed; 32], created_at }],
            LIFETIME_DEFAULT,
        )
    }

    struct Worker {
        keys: Arc<SharedTicketKeys>,
        clock: Arc<Clock>,
        shared: Arc<SharedSessions>,
    }

    impl Worker {
        fn new(table: SessionTable) -> Self {
            let keys = Arc::new(SharedTicketKeys::default());
            keys.replace(self::keys(1, NOW));
            let clock = Arc::new(Clock::default());
            clock.set(NOW);
            let shared = Arc::new(SharedSessions::default());
            shared.set_table(table);
            Self { keys, clock, shared }
        }

        fn listener(&self, context: u8) -> Sessions {
            let (context, random) = ([context; 32], default_provider().secure_random);
            let ticketer = Ticketer::new(self.keys.clone(), context, self.clock.clone(), random);
            Sessions::new(self.shared.clone(), ticketer, context, self.clock.clone())
        }
    }

    #[test]
    fn one_worker_keeps_and_another_takes_once() {
        let table = table(64);
        let (a, b) = (Worker::new(table), Worker::new(table));
        assert!(a.listener(0).can_cache());
        assert!(a.listener(0).put(b"ticket".to_vec(), b"session".to_vec()));
        assert_eq!(b.listener(1).take(b"ticket"), None, "another listener's");
        assert_eq!(b.listener(0).get(b"ticket").as_deref(), Some(&b"session"[..]));
        assert_eq!(b.listener(0).take(b"ticket").as_deref(), Some(&b"session"[..]));
        assert_eq!(a.listener(0).take(b"ticket"), None);
        assert_eq!(b.listener(0).take(b"ticket"), None);
        assert_eq!(a.shared.take_counts(), SessionCounts { stored: 1, evicted: 0, refused: 0 });
        assert_eq!(a.shared.take_counts(), SessionCounts::default());
    }

    #[test]
    fn without_a_table_or_keys_nothing_is_kept() {
        let worker = Worker::new(table(8));
        worker.keys.replace(TicketKeys::default());
        assert!(!worker.listener(0).put(b"ticket".to_vec(), b"session".to_vec()));
        assert_eq!(worker.shared.take_counts().refused, 1);
        let worker = Worker { shared: Arc::default(), ..worker };
        assert!(!worker.listener(0).can_cache());
        assert!(!worker.listener(0).put(b"ticket".to_vec(), b"session".to_vec()));
        assert_eq!(worker.listener(0).take(b"ticket"), None);
    }

    #[test]
    fn sessions_end_with_their_ticket_key() {
        let worker = Worker::new(table(8));
        let listener = worker.listener(0);
        assert!(listener.put(b"ticket".to_vec(), b"session".to_vec()));
        worker.clock.set(NOW + LIFETIME_DEFAULT);
        assert_eq!(listener.get(b"ticket"), None);
        worker.clock.set(NOW);
        worker.keys.replace(keys(2, NOW));
        assert_eq!(listener.get(b"ticket"), None);
    }

    #[test]
    fn what_is_in_another_s_place_is_not_believed() {
        let table = table(8);
        let worker = Worker::new(table);
        let listener = worker.listener(0);
        listener.put(b"ticket".to_vec(), b"session".to_vec());
        let sealed = table.get(&listener.key(b"ticket")).expect("it is there");
        table.put(&listener.key(b"other"), &sealed, 0, 9);
        assert_eq!(listener.take(b"other"), None);
        let mut spoilt = sealed;
        *spoilt.last_mut().expect("a tag") ^= 1;
        table.put(&listener.key(b"ticket"), &spoilt, 0, 9);
        assert_eq!(listener.take(b"ticket"), None);
        assert!(!listener.put(b"long".to_vec(), vec![0; 512]), "as with a client's certificates");
    }
}
