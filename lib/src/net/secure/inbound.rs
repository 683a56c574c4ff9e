//! What came of a connection and was not read yet.

use std::ops::Range;

use super::room::Held;
use crate::protocol::tls_record::{Opened, RecordLayer, Violation};

/// What came: `[ .. | data | .. | records not opened ]`.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) held: Held,
    /// Opened, and not read yet.
    pub(super) data: Range<usize>,
    /// Not opened yet.
    pub(super) records: Range<usize>,
    /// The last look found no whole record.
    pub(super) partial: bool,
}

impl Inbound {
    /// Whether there is data, or there are records that nobody has looked at.
    pub(super) fn has_unread(&self) -> bool {
        !self.data.is_empty() || (!self.records.is_empty() && !self.partial)
    }

    /// Moves what is left to the front.
    pub(super) fn compact(&mut self) {
        debug_assert!(self.data.is_empty(), "what was opened is read before more comes");
        self.data = 0..0;
        if self.records.start > 0 {
            self.held.copy_within(self.records.clone(), 0);
            self.records = 0..self.records.len();
        }
    }

    /// rustls has consumed so many bytes and found `plain` in them, which is never longer.
    pub(super) fn took(&mut self, consumed: usize, plain: &[u8]) {
        let consumed = consumed.min(self.records.len());
        self.records.start += consumed;
        self.partial = true;
        debug_assert!(plain.len() <= self.records.start, "opened records are shorter");
        if let Some(room) = self.held.get_mut(..plain.len()) {
            room.copy_from_slice(plain);
            self.data = 0..plain.len();
        }
    }
}

/// The length of the record at the start of `bytes`, if all of it is there (RFC 8446 §5.1).
pub(super) fn record_bytes(bytes: &[u8]) -> Option<usize> {
    let [_, _, _, high, low, ..] = bytes else { return None };
    let length = 5 + usize::from(u16::from_be_bytes([*high, *low]));
    (bytes.len() >= length).then_some(length)
}

/// What came and was not opened yet.
pub(super) fn rest_of(inbound: &mut Option<Inbound>) -> &mut [u8] {
    inbound.as_mut().and_then(|inbound| inbound.held.get_mut(inbound.records.clone())).unwrap_or_default()
}

/// Opens records until one brings data, or none is whole.
pub(super) fn open_records(
    layer: &mut RecordLayer,
    inbound: &mut Inbound,
    ended: &mut bool,
) -> Result<(), Violation> {
    while inbound.data.is_empty() && !*ended {
        let start = inbound.records.start;
        let Some(bytes) = inbound.held.get_mut(inbound.records.clone()) else { return Ok(()) };
        match layer.open(bytes)? {
            Opened::Partial { .. } => {
                inbound.partial = true;
                return Ok(());
            }
            Opened::Record { consumed, data } => {
                inbound.data = start + data.start..start + data.end;
                inbound.records.start += consumed;
            }
            Opened::Closed { consumed } => {
                inbound.records.start += consumed;
                *ended = true;
            }
        }
    }
    Ok(())
}
