//! One direction of a connection: what was sent, what has arrived, and how it ends.

use std::collections::VecDeque;

use super::rng::Rng;

/// How many bytes move at a time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// One to three.
    Trickle,
    /// Up to a few hundred.
    Pieces,
    /// All there is, mostly.
    Gushes,
}

impl Pace {
    pub(super) fn draw(self, rng: &mut Rng) -> usize {
        match self {
            Pace::Trickle => rng.within(1..=3),
            Pace::Pieces => rng.within(1..=300),
            Pace::Gushes => rng.pick(&[1, 700, 5000, 100_000]),
        }
    }
}

/// See the module. The sizes of both queues together are what a window and two socket buffers bound.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Sent, not yet arrived.
    pub(super) flying: VecDeque<u8>,
    /// Arrived, not yet read.
    pub(super) arrived: VecDeque<u8>,
    capacity: usize,
    /// The writer has ended this direction.
    pub(super) fin_sent: bool,
    /// Its end has arrived.
    pub(super) fin_arrived: bool,
    /// Bytes that were sent and have not arrived, lost ones included.
    pub(super) unacknowledged: u64,
    /// Bytes that were ever sent, and read.
    pub(super) sent: u64,
    pub(super) read: u64,
    /// A part that arrives as a whole: where it begins and ends.
    whole: Option<(u64, u64)>,
}

impl Pipe {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            flying: VecDeque::new(),
            arrived: VecDeque::new(),
            capacity,
            fin_sent: false,
            fin_arrived: false,
            unacknowledged: 0,
            sent: 0,
            read: 0,
            whole: None,
        }
    }

    /// Bytes that a write would take now.
    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.flying.len() + self.arrived.len())
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes a prefix of `bytes`; gives its length.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.push_all(&bytes[..count]);
        count
    }

    /// Takes all of it, whether there is room or not.
    pub(super) fn push_all(&mut self, bytes: &[u8]) {
        self.flying.extend(bytes);
        self.unacknowledged += bytes.len() as u64;
        self.sent += bytes.len() as u64;
    }

    /// Takes back what was sent last.
    pub(super) fn unsend(&mut self, count: usize) {
        self.flying.truncate(self.flying.len() - count);
        self.sent -= count as u64;
        self.unacknowledged -= count as u64;
    }

    /// Takes all of `bytes`, or as much as there is ever room for, to arrive as a whole. False if that can't
    /// be now.
    pub(super) fn push_whole(&mut self, bytes: &[u8]) -> bool {
        let bytes = &bytes[..bytes.len().min(self.capacity)];
        let fits =
            self.room() >= bytes.len() && self.whole.is_none_or(|(_, end)| self.arrived_until() >= end);
        if fits {
            self.whole = Some((self.sent, self.sent + bytes.len() as u64));
            self.push(bytes);
        }
        fits
    }

    fn arrived_until(&self) -> u64 {
        self.sent - self.flying.len() as u64
    }

    /// Reads a prefix of what has arrived.
    pub(super) fn pull(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.arrived.len());
        for (slot, byte) in into.iter_mut().zip(self.arrived.drain(..count)) {
            *slot = byte;
        }
        self.read += count as u64;
        count
    }

    /// Lets up to `count` bytes arrive, and the end behind the last of them if `with_end`. True if
    /// anything did.
    pub(super) fn deliver(&mut self, count: usize, with_end: bool) -> bool {
        let mut count = count.min(self.flying.len());
        let from = self.arrived_until();
        if let Some((start, end)) = self.whole
            && (start + 1..end).contains(&(from + count as u64))
        {
            let until = if from < start { start } else { end };
            count = usize::try_from(until - from).expect("it is flying");
        }
        self.arrived.extend(self.flying.drain(..count));
        self.unacknowledged -= count as u64;
        let ends = self.fin_sent && !self.fin_arrived && self.flying.is_empty() && (with_end || count == 0);
        self.fin_arrived |= ends;
        count > 0 || ends
    }

    /// Whether something is still under way.
    pub(super) fn is_moving(&self) -> bool {
        !self.flying.is_empty() || (self.fin_sent && !self.fin_arrived)
    }

    /// What is under way is lost; what has arrived too, if `arrived_too`.
    pub(super) fn lose(&mut self, arrived_too: bool) {
        self.flying.clear();
        if arrived_too {
            self.arrived.clear();
        }
    }
}
