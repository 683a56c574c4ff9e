//! The pool of byte buffers: all the memory that sessions may hold bytes in.
//!
//! Every buffer has the same size. The pool allocates `min` of them at the start, grows one at a time
//! up to `max` and never beyond; what it has allocated it keeps. A connection holds a buffer only while
//! bytes wait in it, so `max` bounds the bytes in flight and not the number of idle connections.
//!
//! Buffers go out last in, first out: the one given back a moment ago is still in the cache. They are
//! not wiped between uses; [`Buffer::data`] shows only what the present holder has written.
//!
//! Read [`BufferPool`] first.

use std::fmt;

/// The share of the pool that requests leave alone, as a divisor: the last quarter, at least two buffers.
///
/// A request in flight ends only when its response has passed. Were requests allowed to take every
/// buffer, then none would be left to carry those responses, and the requests would wait for ever for
/// what they themselves hold. What responses and answers take is given back as the client reads, so the
/// reserve always comes back.
const REQUEST_RESERVE_DIVISOR: usize = 4;

/// The share that bytes of clients leave alone besides: another sixteenth, at least one buffer.
///
/// A request takes two for a moment: one for the client's bytes, then one for the head that is made of them.
/// Were all taken for bytes, by heads that never end, then no whole one could go on.
const HEAD_RESERVE_DIVISOR: usize = 16;

/// The share that the bytes of responses leave alone: the last eighth, at least one buffer.
///
/// A response takes two: one for the backend's bytes, then one for the head that is made of them. Were
/// all taken for bytes, each would wait for the second. Heads and answers depend on the client alone.
const RESPONSE_RESERVE_DIVISOR: usize = 8;

/// What a buffer is wanted for; decides whether the reserve may be touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Bytes from a client. Refused once only the reserves are left.
    Request,
    /// A head for a backend. Refused once only the reserve for responses is left.
    Head,
    /// Bytes from a backend. Refused once only the reserve for heads is left.
    Response,
    /// A head for a client, an answer of our own included.
    Answer,
    /// A TLS record: from a pool of their own ([`super::secure::Room`]).
    Record,
}

impl Use {
    /// All uses, those that may take the most first.
    pub const ALL: [Use; 5] = [Use::Answer, Use::Response, Use::Head, Use::Request, Use::Record];
}

/// A bounded stock of equal buffers.
#[derive(Debug)]
pub struct BufferPool {
    /// Given back and ready, the most recent last.
    free: Vec<Box<[u8]>>,
    buffer_bytes: usize,
    /// Buffers that exist, in use or free.
    allocated: usize,
    capacity: usize,
    /// How many may be out for each use.
    limits: [usize; Use::ALL.len()],
    in_use: usize,
}

impl BufferPool {
    /// A pool of at most `max` buffers of `buffer_bytes` each, `min` of them allocated now.
    ///
    /// A `min` above `max` counts as `max`.
    pub fn new(min: usize, max: usize, buffer_bytes: usize) -> Self {
        let min = min.min(max);
        let mut free = Vec::with_capacity(max);
        free.resize_with(min, || vec![0; buffer_bytes].into_boxed_slice());
        let limits = [Use::Request, Use::Head, Use::Response, Use::Answer, Use::Record]
            .map(|wanted| limit(max, wanted));
        Self { free, buffer_bytes, allocated: min, capacity: max, limits, in_use: 0 }
    }

    /// An empty buffer, or `None` at the limit that holds for this use.
    ///
    /// `None` is not an error: the caller stops reading, or refuses the connection, until something is
    /// given back.
    pub fn checkout(&mut self, wanted: Use) -> Option<Buffer> {
        if self.in_use >= self.limit(wanted) {
            return None;
        }
        let bytes = match self.free.pop() {
            Some(bytes) => bytes,
            None => {
                debug_assert!(
                    self.allocated < self.capacity,
                    "in use and free make up all that is allocated"
                );
                self.allocated += 1;
                vec![0; self.buffer_bytes].into_boxed_slice()
            }
        };
        self.in_use += 1;
        Some(Buffer { bytes, start: 0, end: 0 })
    }

    /// Whether [`checkout`](Self::checkout) would succeed now.
    pub fn has_room(&self, wanted: Use) -> bool {
        self.in_use < self.limit(wanted)
    }

    /// Takes a buffer back, with whatever is still in it.
    pub fn give_back(&mut self, buffer: Buffer) {
        debug_assert_eq!(buffer.capacity(), self.buffer_bytes, "a buffer returns to the pool it came from");
        debug_assert!(self.in_use > 0, "only what was checked out comes back");
        self.in_use = self.in_use.saturating_sub(1);
        self.free.push(buffer.bytes);
    }

    /// Buffers checked out now.
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// The most buffers that can be checked out at a time.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Size of each buffer, in bytes.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Checks that the counts agree with what the pool holds.
    ///
    /// # Panics
    /// If they do not: a buffer was dropped instead of given back, or our arithmetic is wrong.
    pub fn check_invariants(&self) {
        assert!(self.allocated <= self.capacity);
        assert_eq!(self.in_use + self.free.len(), self.allocated);
        assert!(self.free.iter().all(|bytes| bytes.len() == self.buffer_bytes));
    }

    fn limit(&self, wanted: Use) -> usize {
        self.limits[wanted as usize]
    }
}

/// How many of `capacity` buffers may be out for a use.
fn limit(capacity: usize, wanted: Use) -> usize {
    let for_responses = (capacity / REQUEST_RESERVE_DIVISOR).max(2);
    let reserve = match wanted {
        Use::Request => for_responses + (capacity / HEAD_RESERVE_DIVISOR).max(1),
        Use::Head => for_responses,
        Use::Response => (capacity / RESPONSE_RESERVE_DIVISOR).max(1),
        Use::Answer | Use::Record => 0,
    };
    // A pool too small to share is better used than not.
    capacity.saturating_sub(reserve).max(capacity.min(1))
}

/// Bytes that wait: written at the end, consumed from the start.
///
/// ```text
///   0        start           end        capacity
///   | consumed |     data     |    space    |
/// ```
///
/// Consuming moves nothing; [`compact`](Self::compact) moves the data to the front when room at the end
/// is wanted. A buffer drained to nothing starts over at the front by itself.
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// What was written and not yet consumed.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The same, to be changed in place.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// Room after the data. Its content is arbitrary; report what was written with
    /// [`filled`](Self::filled).
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// The first `n` bytes of the space are data from now on; at most the whole space.
    pub fn filled(&mut self, n: usize) {
        debug_assert!(n <= self.capacity() - self.end, "no more is filled than there was space");
        self.end = self.end.saturating_add(n).min(self.capacity());
    }

    /// Drops the first `n` bytes of the data; at most all of it.
    pub fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.len(), "no more is consumed than there was data");
        self.start = self.start.saturating_add(n).min(self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    /// Drops the last data bytes until `n` are left; nothing if there are fewer.
    pub fn truncate(&mut self, n: usize) {
        self.end = self.end.min(self.start.saturating_add(n));
        if self.start == self.end {
            self.clear();
        }
    }

    /// Drops `n` bytes of the data beginning at offset `at`: what follows them moves down.
    ///
    /// Costs the length of what follows. Offsets past the data are cut to it.
    pub fn remove_gap(&mut self, at: usize, n: usize) {
        debug_assert!(at <= self.len() && n <= self.len() - at, "the gap lies inside the data");
        let gap_start = self.start.saturating_add(at).min(self.end);
        let gap_end = gap_start.saturating_add(n).min(self.end);
        if gap_start == self.start {
            self.consume(gap_end - gap_start);
            return;
        }
        self.bytes.copy_within(gap_end..self.end, gap_start);
        self.end -= gap_end - gap_start;
    }

    /// Moves the data to the front, so that all free bytes are space.
    pub fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Appends as much of `bytes` as the space takes; gives how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let space = self.space();
        let n = bytes.len().min(space.len());
        space[..n].copy_from_slice(&bytes[..n]);
        self.filled(n);
        n
    }

    /// Forgets all data.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Bytes of data.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there is no data.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether the data fills the whole buffer, so that not even [`compact`](Self::compact) gives space.
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// Bytes the buffer can hold.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl fmt::Debug for Buffer {
    /// Positions only: the bytes are a peer's, and may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("start", &self.start)
            .field("end", &self.end)
            .field("capacity", &self.capacity())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUFFER_BYTES: usize = 16;

    #[test]
    fn requests_and_responses_leave_their_reserves() {
        let check = |max: usize, for_requests: usize, for_heads: usize, for_responses: usize| {
            let mut pool = BufferPool::new(0, max, BUFFER_BYTES);
            let mut held: Vec<Buffer> = std::iter::from_fn(|| pool.checkout(Use::Request)).collect();
            assert_eq!(held.len(), for_requests, "of {max}");
            assert!(!pool.has_room(Use::Request));
            held.extend(std::iter::from_fn(|| pool.checkout(Use::Head)));
            assert_eq!(held.len(), for_heads, "of {max}");
            held.extend(std::iter::from_fn(|| pool.checkout(Use::Response)));
            assert_eq!(held.len(), for_responses, "of {max}");
            held.extend(std::iter::from_fn(|| pool.checkout(Use::Answer)));
            assert_eq!(held.len(), max, "answers reach the end");
        };
        check(0, 0, 0, 0);
        check(1, 1, 1, 1);
        check(3, 1, 1, 2);
        check(4, 1, 2, 3);
        check(8, 5, 6, 7);
        check(1000, 688, 750, 875);
    }

    #[test]
    fn last_in_is_first_out() {
        let mut pool = BufferPool::new(3, 3, BUFFER_BYTES);
        let first = pool.checkout(Use::Response).expect("three are free");
        let second = pool.checkout(Use::Response).expect("two are free");
        let address = second.bytes.as_ptr();
        pool.give_back(first);
        pool.give_back(second);
        let again = pool.checkout(Use::Response).expect("three are free");
        assert_eq!(again.bytes.as_ptr(), address);
    }

    #[test]
    fn a_minimum_above_the_maximum_is_cut() {
        let pool = BufferPool::new(9, 2, BUFFER_BYTES);
        assert_eq!(pool.free.len(), 2);
        pool.check_invariants();
    }

    #[test]
    fn nothing_of_the_last_holder_shows() {
        let mut pool = BufferPool::new(1, 1, BUFFER_BYTES);
        let mut buffer = pool.checkout(Use::Response).expect("one is free");
        buffer.append(b"secret");
        pool.give_back(buffer);
        let buffer = pool.checkout(Use::Response).expect("one is free");
        assert!(buffer.data().is_empty());
        assert!(!format!("{buffer:?}").contains("secret"));
    }

    proptest! {
        /// Counts and limits hold under any sequence of checking out and giving back.
        #[test]
        fn the_pool_never_exceeds_its_limits(
            min in 0usize..8, max in 0usize..8, steps in proptest::collection::vec(0u8..5, 0..64),
        ) {
            let mut pool = BufferPool::new(min, max, BUFFER_BYTES);
            let mut held = Vec::new();
            for step in steps {
                let wanted = match step {
                    0 => Use::Request,
                    1 => Use::Response,
                    2 => Use::Answer,
                    3 => Use::Head,
                    _ => {
                        if let Some(buffer) = held.pop() {
                            pool.give_back(buffer);
                        }
                        continue;
                    }
                };
                let limit = pool.limit(wanted);
                prop_assert!(limit <= max);
                let room = pool.has_room(wanted);
                let got = pool.checkout(wanted);
                prop_assert_eq!(got.is_some(), held.len() < limit);
                prop_assert_eq!(got.is_some(), room);
                held.extend(got);
                prop_assert_eq!(pool.in_use(), held.len());
                pool.check_invariants();
            }
        }

        /// A buffer behaves like a vector of bytes, whatever is done to it.
        #[test]
        fn a_buffer_is_a_bounded_vector(steps in proptest::collection::vec((0u8..6, 0usize..20, 0usize..20), 0..80)) {
            let mut pool = BufferPool::new(1, 1, BUFFER_BYTES);
            let mut buffer = pool.checkout(Use::Response).expect("one is free");
            let mut model: Vec<u8> = Vec::new();
            let mut next = 0u8;
            for (step, a, b) in steps {
                match step {
                    0 | 1 => {
                        let bytes: Vec<u8> = (0..a).map(|_| { next = next.wrapping_add(1); next }).collect();
                        let n = buffer.append(&bytes);
                        prop_assert!(n == a || buffer.space().is_empty());
                        model.extend(&bytes[..n]);
                    }
                    2 => {
                        let n = a.min(model.len());
                        buffer.consume(n);
                        model.drain(..n);
                    }
                    3 => {
                        let at = a.min(model.len());
                        let n = b.min(model.len() - at);
                        buffer.remove_gap(at, n);
                        model.drain(at..at + n);
                    }
                    4 => {
                        buffer.compact();
                        prop_assert_eq!(buffer.space().len(), BUFFER_BYTES - model.len());
                    }
                    _ => {
                        buffer.truncate(a);
                        model.truncate(a);
                    }
                }
                prop_assert_eq!(buffer.data(), &model[..]);
                prop_assert_eq!(buffer.data_mut().len(), model.len());
                prop_assert_eq!(buffer.is_empty(), model.is_empty());
                prop_assert_eq!(buffer.is_full(), model.len() == BUFFER_BYTES);
                if model.is_empty() {
                    prop_assert_eq!(buffer.space().len(), BUFFER_BYTES, "a drained buffer starts over");
                }
            }
        }
    }
}
