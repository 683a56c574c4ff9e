//! The keys that session tickets are sealed with: made here, the same for all workers, and new ones from time to time.
//!
//! A worker that is replaced gets them with its first words, so that sessions go on with it. They are nowhere but in the
//! memory of main and its workers.

use std::time::{Duration, Instant, SystemTime};

use kakehi_command::proto::supervision::{TicketKeys as Wire, to_worker};
use kakehi_lib::tls::settings::{ticket_keys, ticket_keys_wire};
use kakehi_lib::tls::ticket_keys::{LIFETIME_DEFAULT, TicketKeys};
use zeroize::Zeroizing;

use super::supervisor::Supervisor;

/// When it is tried again to make a key, after the kernel had no randomness.
const RETRY: Duration = Duration::from_secs(60);

/// The keys, and when they are due to be rotated.
#[derive(Debug)]
pub(super) struct Tickets {
    keys: TicketKeys,
    due: Instant,
}

impl Tickets {
    /// With a first key.
    pub(super) fn new(now: Instant) -> Self {
        let mut tickets = Self { keys: TicketKeys::new(Vec::new(), LIFETIME_DEFAULT), due: now };
        tickets.rotate(now);
        tickets
    }

    /// A new key that seals; those before it open what they have sealed.
    fn rotate(&mut self, now: Instant) {
        let mut random = Zeroizing::new([0; 48]);
        if aws_lc_rs::rand::fill(random.as_mut_slice()).is_err() {
            log::error!("the kernel gives no randomness: session tickets are sealed with the old key");
            self.due = now + RETRY;
            return;
        }
        let wall = wall_clock();
        self.keys = self.keys.rotate(wall, &random);
        let left = self.keys.rotation_due_at().saturating_sub(wall);
        self.due = now + Duration::from_secs(left).max(RETRY);
    }

    /// When there is something to do.
    pub(super) fn next_deadline(&self) -> Instant {
        self.due
    }

    /// For a worker.
    pub(super) fn message(&self) -> to_worker::Message {
        to_worker::Message::TicketKeys(self.wire())
    }

    /// Those of the program that this process ran before.
    pub(super) fn take_over(&mut self, wire: &Wire, now: Instant) {
        self.keys = ticket_keys(wire);
        let left = self.keys.rotation_due_at().saturating_sub(wall_clock());
        self.due = now + Duration::from_secs(left);
    }

    /// All of them.
    pub(super) fn wire(&self) -> Wire {
        ticket_keys_wire(&self.keys)
    }
}

impl Supervisor {
    /// Rotates the keys if that is due, and tells all workers.
    pub(super) fn rotate_tickets(&mut self) {
        if self.tickets.due > self.now {
            return;
        }
        self.tickets.rotate(self.now);
        self.note_for_will();
        for worker in self.fleet.workers_mut() {
            worker.send(self.tickets.message());
        }
        log::info!("session tickets are sealed with a new key");
    }
}

#[expect(clippy::disallowed_methods, reason = "keys age by the wall clock: they outlive processes")]
fn wall_clock() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_rotated_in_time_and_old_ones_still_open() {
        #[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
        let start = Instant::now();
        let mut tickets = Tickets::new(start);
        let first = tickets.keys.keys()[0].clone();
        let wait = tickets.next_deadline() - start;
        assert!(wait > RETRY && wait <= Duration::from_secs(LIFETIME_DEFAULT), "{wait:?}");
        tickets.rotate(tickets.due);
        assert_eq!(tickets.keys.keys().len(), 2);
        assert!(tickets.keys.keys()[0] != first && tickets.keys.keys()[1] == first);
        assert_eq!(tickets.wire().keys.len(), 2);
    }
}
