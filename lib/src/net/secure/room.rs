//! What the TLS connections of a worker share: buffers for records, and the count of handshakes under way.
//!
//! A record has to be complete before a byte of it can be believed, and one that was sealed can't be taken back: so
//! each connection may hold one that came in part and one that was sent in part. The buffers for them are bounded
//! as all others are (`max_record_buffers`); a connection that has nothing under way holds none.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;

use crate::protocol::tls_record::RecordLayer;
use crate::tls::secrets::SecretCatcher;

/// The longest record: header and protected fragment (RFC 8446 §5.2).
pub(super) const RECORD_BYTES_MAX: usize = 5 + (1 << 14) + 256;

/// What one record holds (RFC 8446 §5.1).
pub(super) const PLAIN_BYTES_MAX: usize = 1 << 14;

/// What is read and sealed of a long body at a time: a system call for each record would cost a fifth of it.
pub(super) const LONG_BYTES: usize = 4 * PLAIN_BYTES_MAX;

/// See the module.
pub struct Room {
    free: RefCell<Vec<Box<[u8]>>>,
    in_use: Cell<usize>,
    buffers_max: usize,
    /// Buffers for long bodies, each as large as several records.
    free_large: RefCell<Vec<Box<[u8]>>>,
    large_in_use: Cell<usize>,
    /// Where long bodies are read to, within one call.
    pub(super) long: RefCell<Vec<u8>>,
    handshakes: Cell<usize>,
    handshakes_max: usize,
    /// Handshakes under way, by where they come from.
    sources: RefCell<HashMap<IpAddr, u32>>,
    /// What rustls wants to have sent, within one call.
    pub(super) flight: RefCell<Vec<u8>>,
    /// What rustls has decrypted, within one call.
    pub(super) plain: RefCell<Vec<u8>>,
    /// Where rustls tells the secrets of a handshake.
    pub(super) catcher: Arc<SecretCatcher>,
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("in_use", &self.in_use)
            .field("handshakes", &self.handshakes)
            .finish_non_exhaustive()
    }
}

/// Why no handshake may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowded {
    /// As many are under way as may be (`max_handshakes`).
    Worker,
    /// As many are under way from this address (`max_handshakes_per_source`).
    Source,
}

/// A handshake that is under way, for as long as it lives.
#[derive(Debug)]
pub struct Permit {
    room: Rc<Room>,
    source: Option<IpAddr>,
}

/// A buffer for one record, which goes back by itself.
pub(super) struct Held {
    bytes: Box<[u8]>,
    room: Rc<Room>,
    large: bool,
}

impl Room {
    /// At most so many buffers, and so many handshakes of clients at a time.
    pub fn new(buffers_max: usize, handshakes_max: usize, catcher: Arc<SecretCatcher>) -> Rc<Self> {
        Rc::new(Self {
            free: RefCell::default(),
            in_use: Cell::new(0),
            buffers_max,
            free_large: RefCell::default(),
            large_in_use: Cell::new(0),
            long: RefCell::default(),
            handshakes: Cell::new(0),
            handshakes_max,
            sources: RefCell::default(),
            flight: RefCell::default(),
            plain: RefCell::default(),
            catcher,
        })
    }

    /// Where the rustls configurations of this worker tell their secrets.
    pub fn catcher(&self) -> &Arc<SecretCatcher> {
        &self.catcher
    }

    /// Whether a buffer is free.
    pub fn has_buffer(&self) -> bool {
        self.in_use.get() < self.buffers_max
    }

    /// Buffers in use.
    pub fn buffers_in_use(&self) -> usize {
        self.in_use.get()
    }

    /// Handshakes of clients under way.
    pub fn handshakes(&self) -> usize {
        self.handshakes.get()
    }

    /// Counts a client's handshake, if one more may begin. `per_source` is how many of this address there may be.
    ///
    /// # Errors
    /// There may be no more.
    pub fn permit(self: &Rc<Self>, source: IpAddr, per_source: Option<u32>) -> Result<Permit, Crowded> {
        if self.handshakes.get() >= self.handshakes_max {
            return Err(Crowded::Worker);
        }
        let source = source_of(source);
        let mut sources = self.sources.borrow_mut();
        let count = sources.entry(source).or_default();
        if per_source.is_some_and(|max| *count >= max) {
            return Err(Crowded::Source);
        }
        *count += 1;
        self.handshakes.set(self.handshakes.get() + 1);
        Ok(Permit { room: self.clone(), source: Some(source) })
    }

    /// A buffer, if one is free.
    pub(super) fn buffer(self: &Rc<Self>) -> Option<Held> {
        if !self.has_buffer() {
            return None;
        }
        let free = self.free.borrow_mut().pop();
        let bytes = free.unwrap_or_else(|| vec![0; RECORD_BYTES_MAX].into_boxed_slice());
        self.in_use.set(self.in_use.get() + 1);
        Some(Held { bytes, room: self.clone(), large: false })
    }

    /// A buffer for several records of a long body, if one is free. They are as many bytes as the others in all, so that
    /// twice of what is configured bounds both.
    pub(super) fn large_buffer(self: &Rc<Self>) -> Option<Held> {
        if self.large_in_use.get() >= self.buffers_max / (LONG_BYTES / PLAIN_BYTES_MAX) {
            return None;
        }
        let free = self.free_large.borrow_mut().pop();
        let bytes =
            free.unwrap_or_else(|| vec![0; RecordLayer::sealed_bytes_max(LONG_BYTES)].into_boxed_slice());
        self.large_in_use.set(self.large_in_use.get() + 1);
        Some(Held { bytes, room: self.clone(), large: true })
    }

    /// Every count agrees with what it counts.
    pub fn check_invariants(&self) {
        assert!(self.in_use.get() <= self.buffers_max);
        assert!(self.large_in_use.get() <= self.buffers_max);
        assert!(self.handshakes.get() <= self.handshakes_max);
        let by_source: u32 = self.sources.borrow().values().sum();
        assert_eq!(usize::try_from(by_source), Ok(self.handshakes.get()));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(source) = self.source.take() else { return };
        self.room.handshakes.set(self.room.handshakes.get().saturating_sub(1));
        let mut sources = self.room.sources.borrow_mut();
        if let Some(count) = sources.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                sources.remove(&source);
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (in_use, free) = if self.large {
            (&self.room.large_in_use, &self.room.free_large)
        } else {
            (&self.room.in_use, &self.room.free)
        };
        in_use.set(in_use.get().saturating_sub(1));
        free.borrow_mut().push(std::mem::take(&mut self.bytes));
    }
}

impl std::ops::Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::ops::DerefMut for Held {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// What was in it is nobody's business.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

/// Who an address counts for: whoever has one of IPv6 has at least a network of 64 bits of them.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(buffers: usize, handshakes: usize) -> Rc<Room> {
        Room::new(buffers, handshakes, Arc::default())
    }

    #[test]
    fn buffers_are_bounded_and_come_back_by_themselves() {
        let room = room(2, 1);
        let first = room.buffer();
        let second = room.buffer();
        assert!(first.is_some() && second.is_some());
        assert!(room.buffer().is_none(), "both are out");
        drop(first);
        assert!(room.has_buffer());
        assert!(room.buffer().is_some());
        drop(second);
        assert_eq!(room.buffers_in_use(), 0);
        room.check_invariants();
    }

    #[test]
    fn handshakes_are_bounded_in_all_and_by_source() {
        let room = room(1, 3);
        let one = IpAddr::from([127, 0, 0, 1]);
        let other = IpAddr::from([127, 0, 0, 2]);
        let first = room.permit(one, Some(2));
        let second = room.permit("::ffff:127.0.0.1".parse().expect("an address"), Some(2));
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(room.permit(one, Some(2)).err(), Some(Crowded::Source));
        let third = room.permit(other, Some(2));
        assert!(third.is_ok());
        assert_eq!(room.permit(other, None).err(), Some(Crowded::Worker));
        room.check_invariants();
        drop(first);
        assert!(room.permit(one, Some(2)).is_ok(), "one is over");
        drop((second, third));
        assert_eq!(room.handshakes(), 0);
        room.check_invariants();
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let room = room(1, 10);
        let permit = |address: &str| room.permit(address.parse().expect("an address"), Some(1));
        let first = permit("2001:db8:1:2::1");
        assert!(first.is_ok());
        assert!(permit("2001:db8:1:2:ffff::7").is_err(), "of the same 64 bits");
        assert!(permit("2001:db8:1:3::1").is_ok());
    }
}
