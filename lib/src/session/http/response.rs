//! From the back to the client.

use std::borrow::Cow;

use kakehi_command::order::HttpListener;

use super::exchange::{Exchange, Progress, Trouble};
use super::flow::Flush;
use super::{HttpSession, affinity, answer, no_body, secured, take_buffer};
use crate::metrics::Metric;
use crate::net::buffers::{Buffer, Use};
use crate::net::{Network, Read, Stream};
use crate::protocol::h1::body::BodyReader;
use crate::protocol::h1::error::{FramingError, ResponseError};
use crate::protocol::h1::head::{Asked, FieldStorage, Parsed, parse_response};
use crate::protocol::h1::scan::HeadScanner;
use crate::protocol::h1::write::{Reply, write_informational, write_response};
use crate::protocol::http::cookie::SetCookie;
use crate::protocol::http::{Framing, HeadLimits, Version};
use crate::session::Shared;
use crate::session::backends::Outcome;

/// 1xx heads before the final one. Each is a sign of life, which must not go on for ever.
const INFORMATIONAL_MAX: usize = 32;

impl<S: Stream> HttpSession<S> {
    /// Back to client. `Ok(true)` if something moved.
    pub(super) fn pump_response<N: Network<Stream = S>>(
        &mut self,
        shared: &mut Shared<N>,
    ) -> Result<bool, Trouble> {
        let mut moved = false;
        let mut head = HeadStep::Partial;
        if self.progress() == Progress::Awaited && !self.response.unparsed().is_empty() {
            head = self.take_head(shared)?;
            moved |= head == HeadStep::Taken;
            if head == HeadStep::Taken {
                // However long it took: from here on it is the client's time.
                self.back_active = shared.now;
            }
        }
        if self.progress() == Progress::Flowing {
            self.response.advance().map_err(|error| {
                log::debug!("backend answer: {error}");
                shared.metrics.incr(Metric::HttpBackendParseErrors);
                Trouble::Answer(self.blame(502, error.to_string(), shared).phase("response body"))
            })?;
            self.note_end();
        }
        if self.response.has_output() {
            moved |= self.flush_response(shared)?;
        }
        // Behind what may be a whole head nothing is read: the end of the connection, heard before that head
        // is taken, would pass for a cut within it.
        let ahead = self.progress() == Progress::Awaited && head != HeadStep::Partial;
        if self.progress() != Progress::Over && !ahead && !self.response.is_full() {
            moved |= self.read_response(shared)?;
        }
        Ok(moved)
    }

    fn progress(&self) -> Progress {
        self.exchange.as_ref().map_or(Progress::Over, |exchange| exchange.progress)
    }

    fn note_end(&mut self) {
        if self.response.body.is_complete()
            && let Some(exchange) = self.exchange.as_mut()
        {
            exchange.progress = Progress::Over;
        }
    }

    fn flush_response<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Result<bool, Trouble> {
        let before = self.response.written;
        let flush = self.response.flush(&mut self.front, &shared.pipes);
        let written = self.response.written - before;
        if written > 0 {
            self.front_active = shared.now;
            shared.metrics.add(Metric::BytesOut, written);
        }
        match flush {
            Flush::Failed(_) => Err(Trouble::FrontGone),
            Flush::Blocked => Ok(written > 0),
            Flush::Thirsty => {
                self.thirst(Use::Record, shared);
                Ok(written > 0)
            }
            Flush::Done => {
                shared.give_back(&mut self.response.head);
                if self.response.is_drained() {
                    shared.give_back(&mut self.response.bytes);
                }
                Ok(written > 0)
            }
        }
    }

    fn read_response<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Result<bool, Trouble> {
        if !self.back.as_ref().is_some_and(|back| back.peer.is_readable() && !back.owes_preface()) {
            return Ok(false);
        }
        let flowing = self.progress() == Progress::Flowing;
        let Some(back) = self.back.as_mut() else { return Err(Trouble::Cut) };
        let long = flowing && back.peer.can_splice() && self.response.may_splice(&shared.pipes);
        let may_splice = long && self.front.can_splice();
        let mut spliced = None;
        if may_splice {
            shared.give_back(&mut self.response.bytes);
            spliced = self.response.splice(&mut back.peer, &mut shared.net, &mut shared.pipes);
        }
        if let Some(Read::Bytes(count)) = spliced {
            shared.metrics.add(Metric::BytesSpliced, count);
        }
        if long && !may_splice {
            shared.give_back(&mut self.response.bytes);
            spliced = self.response.seal_through(&mut back.peer, &mut self.front);
        }
        let read = match spliced {
            Some(read) => read,
            None => {
                let Some(bytes) = take_buffer(&mut self.response.bytes, Use::Response, shared) else {
                    self.thirst(Use::Response, shared);
                    return Ok(false);
                };
                back.peer.read(bytes)
            }
        };
        // Once the handshake is over the request can go.
        let news = back.peer.take_news();
        if let Some(news) = news {
            secured::tell_of_backend(news, shared);
        }
        match read {
            Read::Bytes(_) if back.reused && self.request.written == 0 => {
                // Nothing was asked yet: whatever this answers, it is not for our client.
                shared.give_back(&mut self.response.bytes);
                self.response_ended(true, shared)
            }
            Read::Bytes(count) => {
                shared.metrics.add(Metric::BackBytesIn, count);
                if let Some(exchange) = self.exchange.as_mut() {
                    let of_head = exchange.progress == Progress::Awaited;
                    // A head has its time from its first byte on, however many more come one by one. What comes behind it
                    // may find that the client has to wait: that begins now.
                    if !(exchange.in_head && of_head) {
                        self.back_active = shared.now;
                    }
                    exchange.answered = true;
                    exchange.in_head = of_head;
                }
                Ok(true)
            }
            Read::Nothing => {
                if self.response.is_drained() {
                    shared.give_back(&mut self.response.bytes);
                }
                Ok(news.is_some())
            }
            Read::Thirsty => {
                self.thirst(Use::Record, shared);
                Ok(false)
            }
            Read::End => self.response_ended(false, shared),
            Read::Failed(_) => self.response_ended(true, shared),
        }
    }

    fn response_ended<N: Network<Stream = S>>(
        &mut self,
        broken: bool,
        shared: &mut Shared<N>,
    ) -> Result<bool, Trouble> {
        let Some(exchange) = self.exchange.as_mut() else { return Err(Trouble::Cut) };
        exchange.keep_back = false;
        if exchange.progress == Progress::Awaited {
            if exchange.answered {
                shared.metrics.incr(Metric::HttpBackendParseErrors);
                self.note_failure(shared);
                let text = "the backend closed the connection within the head of its answer";
                return Err(Trouble::Answer(self.blame(502, text, shared)));
            }
            return self.back_ended(shared);
        }
        if broken || self.response.body.at_eof().is_err() {
            shared.metrics.incr(Metric::H1BackendEofBeforeMessageComplete);
            return Err(Trouble::Cut);
        }
        self.note_end();
        Ok(true)
    }

    /// Parses the head at the start of what came: a 1xx, or the final one. What the last head left to
    /// write was written before.
    fn take_head<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Result<HeadStep, Trouble> {
        if self.response.has_output() {
            return Ok(HeadStep::Held);
        }
        let full = self.response.is_full();
        if !self.response_scanner.should_parse(self.response.unparsed(), usize::MAX) && !full {
            return Ok(HeadStep::Partial);
        }
        let Some(mut out) = shared.buffer(Use::Answer) else {
            self.thirst(Use::Answer, shared);
            return Ok(HeadStep::Held);
        };
        let Some(exchange) = self.exchange.as_mut() else { return Err(Trouble::Cut) };
        // The rest of a request that is answered early must never be taken for another request. What was
        // read of it and waits for the back is dropped with the back, so the client has to be told here.
        let last = !exchange.request_over || exchange.sink_failed || shared.is_leaving(self.listener);
        let Some(listener) = shared.listeners.http(self.listener) else { return Err(Trouble::Cut) };
        let limits =
            HeadLimits { fields_max: shared.settings.header_fields_max, request_line_max: usize::MAX };
        let config = listener.config();
        let backend = self.back.as_ref().and_then(|back| shared.backends.backend(back.key));
        let owed = affinity::owed(exchange.sticky(), backend.map(|backend| &**backend));
        let cluster = shared.backends.cluster(exchange.cluster());
        let set_cookie = owed.as_deref().map(|value| SetCookie {
            name: config.sticky_name(),
            value,
            attributes: cluster.map(|cluster| cluster.sticky_attributes()).unwrap_or_default(),
            secured: config.tls().is_some(),
        });
        let bytes = self.response.unparsed();
        let rewritten = rewrite(bytes, &mut out, exchange, last, limits, config, set_cookie);
        if let Rewritten::BadLength(_) = rewritten {
            shared.metrics.incr(Metric::HttpBackContentLength);
        }
        match rewritten {
            Rewritten::Switch { consumed } => {
                self.response.drop_unparsed(consumed);
                self.response.begin(out, no_body());
                let class = shared.metrics.count_status(101);
                exchange.times.answered(class, consumed, shared.micros);
                self.account.note_answer(101, shared.micros);
                self.switches = true;
                Ok(HeadStep::Taken)
            }
            Rewritten::Final { status, body, consumed } => {
                let class = shared.metrics.count_status(status);
                exchange.times.answered(class, consumed, shared.micros);
                self.account.note_answer(status, shared.micros);
                if let Some(back) = &self.back {
                    shared.note_outcome(back.key, Outcome::Answered(status));
                }
                // The backend's time is not the client's.
                self.acknowledged = (shared.now, self.front.untold());
                self.response.drop_unparsed(consumed);
                self.response.begin(out, body);
                Ok(HeadStep::Taken)
            }
            Rewritten::Informational { consumed } => {
                self.response_scanner = HeadScanner::default();
                exchange.in_head = false;
                self.response.drop_unparsed(consumed);
                self.response.begin(out, no_body());
                Ok(HeadStep::Taken)
            }
            Rewritten::Dropped { consumed } => {
                self.response_scanner = HeadScanner::default();
                exchange.in_head = false;
                self.response.drop_unparsed(consumed);
                shared.give_back(&mut Some(out));
                Ok(HeadStep::Taken)
            }
            Rewritten::Partial if !full => {
                shared.give_back(&mut Some(out));
                Ok(HeadStep::Partial)
            }
            Rewritten::Partial | Rewritten::TooLarge => {
                shared.give_back(&mut Some(out));
                let text = "the head of the backend's answer is larger than a buffer";
                let refusal = self.blame(507, text, shared).phase("response head");
                Err(Trouble::Answer(refusal.capacity(shared.buffers.buffer_bytes())))
            }
            Rewritten::Bad(message) | Rewritten::BadLength(message) => {
                shared.give_back(&mut Some(out));
                shared.metrics.incr(Metric::HttpBackendParseErrors);
                Err(Trouble::Answer(self.blame(502, message, shared).phase("response head")))
            }
        }
    }
}

/// How far the head at the start of a backend's bytes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadStep {
    /// It was taken.
    Taken,
    /// More of it has to come.
    Partial,
    /// It waits: for a 1xx before it to be written, or for a buffer.
    Held,
}

/// What became of the head at the start of a backend's bytes.
enum Rewritten {
    /// Not a whole head yet.
    Partial,
    /// A 1xx, to be sent on.
    Informational { consumed: usize },
    /// A 1xx that this client can't read.
    Dropped { consumed: usize },
    /// A 101 that was asked for.
    Switch { consumed: usize },
    /// The final head.
    Final { status: u16, body: BodyReader, consumed: usize },
    /// Ours does not fit into one buffer.
    TooLarge,
    /// Nobody should read on.
    Bad(Cow<'static, str>),
    /// The same, for its length.
    BadLength(Cow<'static, str>),
}

fn rewrite(
    bytes: &[u8],
    out: &mut Buffer,
    exchange: &mut Exchange,
    last: bool,
    limits: HeadLimits,
    listener: &HttpListener,
    set_cookie: Option<SetCookie<'_>>,
) -> Rewritten {
    let mut storage = FieldStorage::new();
    let asked = Asked { method: exchange.method(), upgrade: exchange.upgrade() };
    let (head, consumed) = match parse_response(bytes, &mut storage, &limits, asked) {
        Ok(Parsed::Partial) => return Rewritten::Partial,
        Ok(Parsed::Complete { head, bytes }) => (head, bytes),
        Err(ResponseError::Framing(
            error @ (FramingError::LengthMalformed | FramingError::LengthRepeated),
        )) => return Rewritten::BadLength(error.to_string().into()),
        Err(error) => return Rewritten::Bad(error.to_string().into()),
    };
    match head.status {
        101 => {}
        100..=199 if exchange.informational >= INFORMATIONAL_MAX => {
            return Rewritten::Bad("the backend sends informational answers without end".into());
        }
        100..=199 if exchange.version() == Version::Http10 => {
            exchange.informational += 1;
            return Rewritten::Dropped { consumed };
        }
        100..=199 => {
            let Ok(count) = write_informational(out.space(), &head) else { return Rewritten::TooLarge };
            out.filled(count);
            exchange.informational += 1;
            return Rewritten::Informational { consumed };
        }
        _ => {}
    }
    let version = exchange.version();
    exchange.until_close = head.framing.ends_with_connection(version);
    exchange.keep_front &= !last && !exchange.until_close;
    exchange.keep_back &= head.keep_alive && head.framing != Framing::UntilClose;
    let id = exchange.id();
    let reply = Reply {
        sozu_id_header: listener.sozu_id_header(),
        request_id: id.as_bytes(),
        client: version,
        close: !exchange.keep_front,
        edits: exchange.edits(),
        hsts: answer::hsts(listener, exchange.editor().map(|editor| &**editor)),
        set_cookie,
    };
    let Ok(count) = write_response(out.space(), &head, &reply) else { return Rewritten::TooLarge };
    out.filled(count);
    if head.upgrade.is_some() {
        exchange.progress = Progress::Over;
        return Rewritten::Switch { consumed };
    }
    let body = BodyReader::new(head.framing, reply.relay());
    exchange.progress = Progress::Flowing;
    Rewritten::Final { status: head.status, body, consumed }
}
