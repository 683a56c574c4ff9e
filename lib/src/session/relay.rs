//! Bytes both ways between a client and a backend, of which nothing is understood.
//!
//! Each direction ends by itself: its end is passed on when all that came before it was. One whose sink breaks
//! is over, while what comes the other way, which may be the reason, is still passed on. All is over
//! with the second direction.
//!
//! Where neither side has TLS, long runs of bytes pass through a pipe of the kernel; where the sink alone has, they are
//! sealed as they are read.

use std::io;

use super::Shared;
use super::back::Back;
use super::backends::Carried;
use super::flow::{Flow, Flush, take_buffer};
use crate::metrics::Metric;
use crate::net::buffers::Use;
use crate::net::{Network, Peer, Read, Stream};
use crate::protocol::h1::body::{self, BodyReader};
use crate::protocol::http::Framing;

/// What goes through a pipe at least, to be worth it: otherwise bytes pass through a buffer again.
const SPLICED_BYTES_WORTH: usize = 16 * 1024;

/// Both directions.
#[derive(Debug, Default)]
pub(super) struct Relay {
    /// From the client.
    up: Direction,
    /// To the client.
    down: Direction,
}

#[derive(Debug, Default)]
struct Direction {
    /// Its source has ended.
    ended: bool,
    /// Its source has not said so: it broke.
    broken: bool,
    /// Its sink is being told.
    telling: bool,
    /// Its sink was told, or has broken.
    shut: bool,
    /// Its sink has broken: what still comes is read and thrown away, so that it does not turn our closing
    /// into a reset.
    lost: bool,
    /// It broke before it had ended its own direction. The kernel tells that once: reads of it just see an end.
    torn: bool,
    /// The last read gave as much as there was room for: a pipe takes more at a time.
    bulk: bool,
}

/// How one step went.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Relayed {
    /// Bytes came from the client, or went to the backend.
    pub(super) up: bool,
    /// Bytes came from the backend, or went to the client.
    pub(super) down: bool,
    /// Anything happened after which it is worth to look again.
    pub(super) moved: bool,
    /// Buffers that are wanted and can't be had now, by `Use as usize`.
    pub(super) wanted: [bool; Use::ALL.len()],
}

/// How a direction went in one step.
#[derive(Debug, Clone, Copy, Default)]
struct Moved {
    /// Bytes that came.
    read: usize,
    /// Bytes that went.
    written: u64,
    /// Anything else happened after which it is worth to look again.
    otherwise: bool,
    /// There is no buffer for it now.
    thirsty: bool,
    /// There is none for a TLS record.
    wants_record: bool,
}

impl Relay {
    /// Lets the flow pass everything on, what it holds already first.
    pub(super) fn begin<P>(flow: &mut Flow<P>) {
        flow.begin_body(BodyReader::new(Framing::UntilClose, body::Relay::Keep));
    }

    /// Moves what can be moved, at most a buffer or a pipe of it in each direction.
    pub(super) fn step<N: Network>(
        &mut self,
        (front, up): (&mut Peer<N::Stream>, &mut Flow<<N::Stream as Stream>::Pipe>),
        (back, down): (&mut Back<N::Stream>, &mut Flow<<N::Stream as Stream>::Pipe>),
        shared: &mut Shared<N>,
    ) -> Relayed {
        let Back { peer: back, key, .. } = back;
        let upwards = relay(&mut self.up, up, front, back, Use::Request, shared);
        self.down.broken |= self.up.torn;
        let downwards = relay(&mut self.down, down, back, front, Use::Response, shared);
        self.up.broken |= self.down.torn;
        shared.metrics.add(Metric::BytesIn, upwards.read);
        shared.metrics.add(Metric::BackBytesOut, upwards.written);
        shared.metrics.add(Metric::BackBytesIn, downwards.read);
        shared.metrics.add(Metric::BytesOut, downwards.written);
        let carried = Carried {
            bytes_in: upwards.read as u64,
            bytes_out: downwards.written,
            back_bytes_in: downwards.read as u64,
            back_bytes_out: upwards.written,
        };
        if carried != Carried::default() {
            shared.backends.carried(*key, carried);
        }
        let mut relayed = Relayed {
            up: upwards.read > 0 || upwards.written > 0,
            down: downwards.read > 0 || downwards.written > 0,
            ..Relayed::default()
        };
        relayed.moved = relayed.up || relayed.down || upwards.otherwise || downwards.otherwise;
        relayed.wanted[Use::Request as usize] = upwards.thirsty;
        relayed.wanted[Use::Response as usize] = downwards.thirsty;
        relayed.wanted[Use::Record as usize] = upwards.wants_record || downwards.wants_record;
        relayed
    }

    /// Whether both directions are over.
    pub(super) fn is_over(&self) -> bool {
        self.up.shut && self.down.shut
    }

    /// Whether the backend is gone, and the client may not know yet that nobody listens.
    pub(super) fn is_backend_lost(&self) -> bool {
        self.up.lost
    }
}

/// Moves what can be moved in one direction, at most a buffer or a pipe of it.
fn relay<N: Network>(
    direction: &mut Direction,
    flow: &mut Flow<<N::Stream as Stream>::Pipe>,
    source: &mut Peer<N::Stream>,
    sink: &mut Peer<N::Stream>,
    purpose: Use,
    shared: &mut Shared<N>,
) -> Moved {
    let mut moved = Moved::default();
    if direction.lost {
        return discard(flow, source, purpose, shared);
    }
    // Nothing delimits these bytes, so that nothing can be wrong with them.
    let _ = flow.advance();
    if flow.has_output() {
        let before = flow.written;
        let flush = flow.flush(sink, &shared.pipes);
        moved.written = flow.written - before;
        match flush {
            Flush::Failed(error) => {
                // It would be a broken pipe if its end had come before.
                direction.torn = error.kind() != io::ErrorKind::BrokenPipe;
                (direction.ended, direction.shut, direction.lost) = (true, true, true);
                flow.release_pipe(&mut shared.pipes);
                moved.otherwise = true;
                return moved;
            }
            Flush::Blocked => return moved,
            Flush::Thirsty => {
                moved.wants_record = true;
                return moved;
            }
            Flush::Done => {}
        }
    }
    if direction.ended {
        if !std::mem::replace(&mut direction.telling, true) {
            // TLS tells an end from a cut (RFC 8446 §6.1).
            if direction.broken {
                sink.leave();
            }
            sink.shutdown_write();
            moved.otherwise = true;
            shared.give_back(&mut flow.bytes);
            flow.release_pipe(&mut shared.pipes);
        } else if !direction.shut {
            sink.flush();
        }
        // One that speaks TLS may have no room for that now.
        direction.shut = !sink.owes_farewell();
        return moved;
    }
    if !source.is_readable() {
        if flow.is_drained() {
            shared.give_back(&mut flow.bytes);
            flow.release_pipe(&mut shared.pipes);
        }
        return moved;
    }
    let mut read = None;
    let spliced = direction.bulk && source.can_splice() && sink.can_splice();
    if spliced {
        shared.give_back(&mut flow.bytes);
        read = flow.splice(source, &mut shared.net, &mut shared.pipes);
        if let Some(Read::Bytes(count)) = read {
            shared.metrics.add(Metric::BytesSpliced, count);
        }
    } else if direction.bulk && source.can_splice() {
        shared.give_back(&mut flow.bytes);
        read = flow.seal_through(source, sink);
    }
    let unbuffered = read.is_some();
    let read = match read {
        Some(read) => read,
        None => {
            let Some(bytes) = take_buffer(&mut flow.bytes, purpose, shared) else {
                moved.thirsty = true;
                return moved;
            };
            let read = source.read(bytes);
            direction.bulk = bytes.is_full();
            read
        }
    };
    match read {
        Read::Bytes(count) => {
            moved.read = count;
            if unbuffered {
                direction.bulk = count >= SPLICED_BYTES_WORTH;
            }
        }
        Read::Nothing => moved.otherwise = true,
        Read::Thirsty => moved.wants_record = true,
        // What came before a break is passed on like what came before an end.
        end @ (Read::End | Read::Failed(_)) => {
            direction.ended = true;
            direction.broken |= matches!(end, Read::Failed(_));
            moved.otherwise = true;
        }
    }
    moved
}

/// Reads what nobody wants, at most a buffer of it.
fn discard<N: Network>(
    flow: &mut Flow<<N::Stream as Stream>::Pipe>,
    source: &mut Peer<N::Stream>,
    purpose: Use,
    shared: &mut Shared<N>,
) -> Moved {
    let mut moved = Moved::default();
    if !source.is_readable() {
        shared.give_back(&mut flow.bytes);
        return moved;
    }
    let Some(bytes) = take_buffer(&mut flow.bytes, purpose, shared) else {
        moved.thirsty = true;
        return moved;
    };
    bytes.clear();
    match source.read(bytes) {
        Read::Bytes(count) => moved.read = count,
        Read::Thirsty => moved.wants_record = true,
        Read::Nothing | Read::End | Read::Failed(_) => moved.otherwise = true,
    }
    bytes.clear();
    moved
}
