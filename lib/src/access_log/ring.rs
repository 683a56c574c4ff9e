//! Records that wait to be written: bytes in a ring of fixed size.
//!
//! A record lies in one piece, so that it can be written by one call. What does not fit is not taken.

use std::collections::VecDeque;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ring {
    bytes: Vec<u8>,
    capacity: usize,
    head: usize,
    tail: usize,
    /// The records go on at the start of the memory after this point.
    wrap: Option<usize>,
    lengths: VecDeque<u16>,
    /// Bytes of the first record that are gone already.
    gone: usize,
}

impl Ring {
    /// A ring of so many bytes. The memory is taken as it is used.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Records that wait.
    pub(super) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        match self.wrap {
            Some(wrap) => wrap - self.head + self.tail,
            None => self.tail - self.head,
        }
    }

    /// Takes a record; false if there is no room for it.
    pub(super) fn push(&mut self, record: &[u8]) -> bool {
        let Ok(length) = u16::try_from(record.len()) else { return false };
        if self.lengths.is_empty() {
            (self.head, self.tail, self.wrap) = (0, 0, None);
        }
        if self.wrap.is_none() && self.tail + record.len() > self.capacity && record.len() < self.head {
            self.wrap = Some(self.tail);
            self.tail = 0;
        }
        let limit = if self.wrap.is_some() { self.head } else { self.capacity + 1 };
        let end = self.tail + record.len();
        if end >= limit {
            return false;
        }
        if end > self.bytes.len() {
            self.bytes.truncate(self.tail);
            self.bytes.extend_from_slice(record);
        } else if let Some(place) = self.bytes.get_mut(self.tail..end) {
            place.copy_from_slice(record);
        }
        self.tail = end;
        self.lengths.push_back(length);
        true
    }

    /// The first records that lie in one piece and have so many bytes together at most, and how many they are;
    /// at least one if there is any.
    pub(super) fn front(&self, bytes_max: usize, records_max: usize) -> (&[u8], usize) {
        let end = self.wrap.unwrap_or(self.tail);
        let (mut bytes, mut count) = (0, 0);
        for (nth, &length) in self.lengths.iter().take(records_max).enumerate() {
            let length = usize::from(length) - if nth == 0 { self.gone } else { 0 };
            if self.head + bytes + length > end || (nth > 0 && bytes + length > bytes_max) {
                break;
            }
            bytes += length;
            count += 1;
        }
        (self.bytes.get(self.head..self.head + bytes).unwrap_or_default(), count)
    }

    /// So many bytes at the front were written. Gives how many records ended with that.
    pub(super) fn consume(&mut self, mut bytes: usize) -> usize {
        let mut ended = 0;
        while let Some(&length) = self.lengths.front() {
            let left = usize::from(length) - self.gone;
            let step = left.min(bytes);
            self.head += step;
            bytes -= step;
            if step < left {
                self.gone += step;
                break;
            }
            self.gone = 0;
            self.lengths.pop_front();
            ended += 1;
            if self.wrap == Some(self.head) {
                self.head = 0;
                self.wrap = None;
            }
            if bytes == 0 {
                break;
            }
        }
        ended
    }

    /// Gives up the rest of a record of which a part was written: whoever listens now has not seen its beginning. True
    /// if there was one.
    pub(super) fn drop_begun(&mut self) -> bool {
        let Some(&length) = self.lengths.front() else { return false };
        let begun = self.gone > 0;
        if begun {
            self.consume(usize::from(length) - self.gone);
        }
        begun
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What comes out is what went in, in order and in whole records; what is refused is not there.
        #[test]
        fn records_come_out_as_they_went_in(
            capacity in 16usize..200,
            steps in proptest::collection::vec((any::<bool>(), 1usize..40), 1..300),
        ) {
            let mut ring = Ring::new(capacity);
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            let mut next = 0u8;
            for (push, size) in steps {
                if push {
                    next = next.wrapping_add(1);
                    let record = vec![next; size];
                    let taken = ring.push(&record);
                    prop_assert!(taken || !model.is_empty() || size > capacity, "an empty ring takes what fits");
                    if taken {
                        model.push_back(record);
                    }
                } else {
                    let (bytes, count) = ring.front(size, 3);
                    let expected: Vec<u8> = model.iter().take(count).flatten().copied().collect();
                    prop_assert_eq!(bytes, &expected[..]);
                    prop_assert_eq!(count > 0, !model.is_empty());
                    let length = bytes.len();
                    prop_assert_eq!(ring.consume(length), count);
                    model.drain(..count);
                }
                prop_assert_eq!(ring.len(), model.len());
                prop_assert_eq!(ring.bytes(), model.iter().map(Vec::len).sum::<usize>());
                prop_assert!(ring.bytes() <= capacity);
            }
        }
    }

    #[test]
    fn a_part_of_a_record_can_be_gone() {
        let mut ring = Ring::new(100);
        assert!(ring.push(b"hello") && ring.push(b"world"));
        assert_eq!(ring.consume(2), 0);
        assert_eq!(ring.front(100, 9), (&b"lloworld"[..], 2));
        assert!(ring.drop_begun());
        assert_eq!(ring.front(100, 9), (&b"world"[..], 1));
        assert!(!ring.drop_begun());
    }
}
