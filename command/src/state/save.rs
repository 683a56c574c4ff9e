//! State files: the format of Sōzu, written and read as a stream.
//!
//! A record is the JSON text of one `WorkerRequest`, then `\n` and `\0`. There is no header, no version
//! and no checksum. Enumerations are numbers, addresses too; `tests/state_file.rs` has
//! one of each record to the byte.
//! Opening, replacing and protecting files is the caller's; nothing here knows a path.

use std::io::{self, BufRead, Write};

use super::ConfigState;
use crate::proto::{Request, WorkerRequest};

/// The least limit for a record that a reader should use, in bytes, whatever the command buffers are.
pub const STATE_RECORD_BYTES_MIN: usize = 200_000;

/// Ends a record. JSON escapes control characters in strings, so neither byte is inside one.
const RECORD_END: &[u8] = b"\n\0";

/// Writes the whole state; returns the number of records.
///
/// # Errors
/// Those of `out`.
pub fn write_state(state: &ConfigState, out: &mut impl Write) -> io::Result<usize> {
    let mut records = 0;
    for order in state.orders() {
        let record = WorkerRequest { id: format!("SAVE-{records}"), content: order.to_request() };
        serde_json::to_writer(&mut *out, &record)?;
        out.write_all(RECORD_END)?;
        records += 1;
    }
    Ok(records)
}

/// Reads records one by one, holding one in memory. See [`StateFile`].
pub fn read_state<R: BufRead>(input: R, record_bytes_max: usize) -> StateFile<R> {
    StateFile { input, record_bytes_max, record: 0, offset: 0, buffer: Vec::new(), ended: false }
}

/// The requests in a state file: unchecked, in order.
///
/// After a record that is not a request the reading can go on behind it, for the record's end is known;
/// after any other fault there is nothing more.
#[derive(Debug)]
pub struct StateFile<R> {
    input: R,
    record_bytes_max: usize,
    record: usize,
    offset: u64,
    buffer: Vec<u8>,
    ended: bool,
}

/// What is wrong in a state file, and where.
#[derive(Debug, thiserror::Error)]
#[error("record {record} at byte {offset}: {fault}")]
pub struct StateFileError {
    /// The record's number, from 0.
    pub record: usize,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// What is wrong with it.
    #[source]
    pub fault: StateFileFault,
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum StateFileFault {
    /// The file cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// The record is no request that this version knows.
    #[error("not a request: {0}")]
    NotARequest(#[from] serde_json::Error),
    /// The record does not fit into the limit.
    #[error("longer than {max} bytes (max_command_buffer_size)")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// The file ends within a record: it was cut, or is no state file.
    #[error("the file ends in the middle of it")]
    Truncated,
}

impl<R: BufRead> StateFile<R> {
    /// The next record's bytes, without what ends it. None at the end of the file.
    fn next_record(&mut self) -> Result<Option<&[u8]>, StateFileFault> {
        self.buffer.clear();
        // One byte more than allowed tells "too long" from "as long as allowed"; two end the record.
        let max = self.record_bytes_max.saturating_add(RECORD_END.len());
        loop {
            let available = match self.input.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if available.is_empty() {
                let blank = self.buffer.iter().all(u8::is_ascii_whitespace);
                return if blank { Ok(None) } else { Err(StateFileFault::Truncated) };
            }
            let end = available.iter().position(|byte| *byte == 0);
            let take = end.map_or(available.len(), |end| end + 1);
            if self.buffer.len() + take > max {
                return Err(StateFileFault::TooLong { max: self.record_bytes_max });
            }
            self.buffer.extend_from_slice(&available[..take]);
            self.input.consume(take);
            if end.is_some() {
                return Ok(Some(&self.buffer[..self.buffer.len() - 1]));
            }
        }
    }
}

impl<R: BufRead> Iterator for StateFile<R> {
    type Item = Result<Request, StateFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let (record, offset) = (self.record, self.offset);
        let parsed = match self.next_record() {
            Ok(Some(text)) => serde_json::from_slice::<WorkerRequest>(text).map_err(StateFileFault::from),
            Ok(None) => {
                self.ended = true;
                return None;
            }
            Err(fault) => {
                self.ended = true;
                Err(fault)
            }
        };
        self.record += 1;
        self.offset += self.buffer.len() as u64;
        Some(parsed.map(|record| record.content).map_err(|fault| StateFileError { record, offset, fault }))
    }
}
