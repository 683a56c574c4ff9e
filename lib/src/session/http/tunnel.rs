//! A connection that has changed its protocol (RFC 9110 §7.8): bytes both ways, and nothing is understood.
//!
//! Each direction ends by itself: its end is passed on when all that came before it was. One whose sink breaks
//! is over, while what comes the other way, which may be the reason, is still passed on. The tunnel is over
//! with the second direction, or when nothing moved for the listener's `tunnel_timeout`.
//! A worker that drains ends a tunnel when nothing of it is in flight.

use super::flow::{Flow, Flush};
use super::{HttpSession, Stage, Step, take_buffer};
use crate::metrics::Metric;
use crate::net::buffers::Use;
use crate::net::{Network, Peer, Read, Stream};
use crate::protocol::h1::body::{BodyReader, Relay};
use crate::protocol::http::Framing;
use crate::session::Shared;

/// What goes through a pipe at least, to be worth it: otherwise bytes pass through a buffer again.
const SPLICED_BYTES_WORTH: usize = 16 * 1024;

/// Both directions of a tunnel.
#[derive(Debug, Default)]
pub(super) struct Tunnel {
    /// From the client.
    up: Direction,
    /// To the client.
    down: Direction,
}

#[derive(Debug, Default)]
struct Direction {
    /// Its source has ended.
    ended: bool,
    /// Its sink was told, or has broken.
    shut: bool,
    /// Its sink has broken: what still comes is read and thrown away, so that it does not turn our closing
    /// into a reset.
    lost: bool,
    /// The last read gave as much as there was room for: a pipe takes more at a time.
    bulk: bool,
}

/// How a direction went in one step.
#[derive(Debug, Clone, Copy, Default)]
struct Relayed {
    /// Bytes that came.
    read: usize,
    /// Bytes that went.
    written: u64,
    /// Anything else happened after which it is worth to look again.
    moved: bool,
    /// There is no buffer for it now.
    thirsty: bool,
    /// There is none for a TLS record.
    wants_record: bool,
}

impl<S: Stream> HttpSession<S> {
    /// The 101 has gone to the client: from here on the protocol is theirs. What either side sent already
    /// is a part of it.
    pub(super) fn begin_tunnel<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        let whole = self.exchange.as_ref().is_some_and(|exchange| exchange.is_request_sent());
        if !whole || self.back.is_none() {
            return Step::End;
        }
        shared.give_back(&mut self.request.head);
        shared.give_back(&mut self.response.head);
        self.request.begin_body(BodyReader::new(Framing::UntilClose, Relay::Keep));
        self.response.begin_body(BodyReader::new(Framing::UntilClose, Relay::Keep));
        self.front_active = shared.now;
        self.tunnel = Some(Box::default());
        self.stage = Stage::Tunnel;
        shared.metrics.incr(Metric::HttpUpgrades);
        shared.metrics.incr(Metric::WebsocketActiveRequests);
        Step::Again
    }

    pub(super) fn step_tunnel<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        let (Some(tunnel), Some(back)) = (self.tunnel.as_mut(), self.back.as_mut()) else { return Step::End };
        let up =
            relay(&mut tunnel.up, &mut self.request, &mut self.front, &mut back.peer, Use::Request, shared);
        let down = relay(
            &mut tunnel.down,
            &mut self.response,
            &mut back.peer,
            &mut self.front,
            Use::Response,
            shared,
        );
        let (over, lost) = (tunnel.up.shut && tunnel.down.shut, tunnel.up.lost);
        shared.metrics.add(Metric::BytesIn, up.read);
        shared.metrics.add(Metric::BackBytesOut, up.written);
        shared.metrics.add(Metric::BackBytesIn, down.read);
        shared.metrics.add(Metric::BytesOut, down.written);
        for (relayed, purpose) in [(up, Use::Request), (down, Use::Response)] {
            if relayed.thirsty {
                self.thirst(purpose, shared);
            }
            if relayed.wants_record {
                self.thirst(Use::Record, shared);
            }
        }
        let bytes = up.read > 0 || up.written > 0 || down.read > 0 || down.written > 0;
        if bytes {
            self.front_active = shared.now;
        }
        if over {
            self.end_tunnel(shared);
            // The client may not know yet that nobody listens.
            return if lost { self.linger() } else { Step::End };
        }
        if bytes || up.moved || down.moved {
            return Step::Again;
        }
        let quiet = self.request.is_drained() && self.response.is_drained();
        if shared.draining && quiet { Step::End } else { Step::Wait }
    }

    pub(super) fn end_tunnel<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        if self.tunnel.take().is_some() {
            shared.metrics.decr(Metric::WebsocketActiveRequests);
        }
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
) -> Relayed {
    let mut relayed = Relayed::default();
    if direction.lost {
        return discard(flow, source, purpose, shared);
    }
    // Nothing delimits these bytes, so that nothing can be wrong with them.
    let _ = flow.advance();
    if flow.has_output() {
        let before = flow.written;
        let flush = flow.flush(sink, &shared.pipes);
        relayed.written = flow.written - before;
        match flush {
            Flush::Failed(_) => {
                (direction.ended, direction.shut, direction.lost) = (true, true, true);
                flow.release_pipe(&mut shared.pipes);
                relayed.moved = true;
                return relayed;
            }
            Flush::Blocked => return relayed,
            Flush::Thirsty => {
                relayed.wants_record = true;
                return relayed;
            }
            Flush::Done => {}
        }
    }
    if direction.ended {
        if !std::mem::replace(&mut direction.shut, true) {
            sink.shutdown_write();
            relayed.moved = true;
            shared.give_back(&mut flow.bytes);
            flow.release_pipe(&mut shared.pipes);
        }
        return relayed;
    }
    if !source.is_readable() {
        if flow.is_drained() {
            shared.give_back(&mut flow.bytes);
            flow.release_pipe(&mut shared.pipes);
        }
        return relayed;
    }
    let mut read = None;
    if direction.bulk && source.can_splice() && sink.can_splice() {
        shared.give_back(&mut flow.bytes);
        read = flow.splice(source, &mut shared.net, &mut shared.pipes);
    }
    let spliced = read.is_some();
    let read = match read {
        Some(read) => read,
        None => {
            let Some(bytes) = take_buffer(&mut flow.bytes, purpose, shared) else {
                relayed.thirsty = true;
                return relayed;
            };
            let read = source.read(bytes);
            direction.bulk = bytes.is_full();
            read
        }
    };
    match read {
        Read::Bytes(count) => {
            relayed.read = count;
            if spliced {
                shared.metrics.add(Metric::BytesSpliced, count);
                direction.bulk = count >= SPLICED_BYTES_WORTH;
            }
        }
        Read::Nothing => relayed.moved = true,
        Read::Thirsty => relayed.wants_record = true,
        // What came before a break is passed on like what came before an end.
        Read::End | Read::Failed(_) => {
            direction.ended = true;
            relayed.moved = true;
        }
    }
    relayed
}

/// Reads what nobody wants, at most a buffer of it.
fn discard<N: Network>(
    flow: &mut Flow<<N::Stream as Stream>::Pipe>,
    source: &mut Peer<N::Stream>,
    purpose: Use,
    shared: &mut Shared<N>,
) -> Relayed {
    let mut relayed = Relayed::default();
    if !source.is_readable() {
        shared.give_back(&mut flow.bytes);
        return relayed;
    }
    let Some(bytes) = take_buffer(&mut flow.bytes, purpose, shared) else {
        relayed.thirsty = true;
        return relayed;
    };
    bytes.clear();
    match source.read(bytes) {
        Read::Bytes(count) => relayed.read = count,
        Read::Thirsty => relayed.wants_record = true,
        Read::Nothing | Read::End | Read::Failed(_) => relayed.moved = true,
    }
    bytes.clear();
    relayed
}
