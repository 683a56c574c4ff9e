//! Requests that come before the handshake with their client is over (RFC 8470).
//!
//! Somebody who has seen them on their way may play them back. TLS takes them once at most, whichever worker they
//! come to; a client whose request was lost that way sends it again by itself. So what asks for nothing to be changed is
//! done at once, and its backend is told (`Early-Data: 1`, §5.1): it may still refuse (425, §5.2), which the client is
//! told. Whatever else comes waits where it is until the handshake is over (§3), and is then like any other.

use super::{HttpSession, Step, secured, take_buffer};
use crate::metrics::Metric;
use crate::net::buffers::Use;
use crate::net::secure::News;
use crate::net::{Network, Read, Stream};
use crate::protocol::h1::scan::HeadScanner;
use crate::session::Shared;
use crate::tls::failure::Failure;

impl<S: Stream> HttpSession<S> {
    /// Takes up what came before the end of the handshake, if that is what the session has. None: it has to wait for
    /// more of it, or for the end.
    #[inline(always)]
    pub(super) fn begin_early<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Option<Step> {
        if self.front.is_handshaking() { self.take_up_early(shared) } else { None }
    }

    #[cold]
    fn take_up_early<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Option<Step> {
        // Without facts nobody could tell which hosts the client may ask for.
        if self.front.has_early() && self.front.facts().is_some() {
            let Some(bytes) = take_buffer(&mut self.request.bytes, Use::Request, shared) else {
                self.thirst(Use::Request, shared);
                return Some(Step::Wait);
            };
            let count = self.front.take_early(bytes);
            self.front_active = shared.now;
            self.head_since.get_or_insert(shared.now);
            shared.metrics.add(Metric::BytesIn, count);
        }
        self.begin_if_whole(shared)
    }

    /// As `begin`, once it is worth a look.
    #[inline(always)]
    pub(super) fn begin_if_whole<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Option<Step> {
        let unparsed = self.request.unparsed();
        if unparsed.is_empty() {
            return None;
        }
        let listener = shared.listeners.http(self.listener).map(|entry| entry.config());
        let line_max = listener.map_or(0, |config| config.max_request_line());
        if !self.scanner.should_parse(unparsed, line_max) {
            return None;
        }
        self.begin(shared)
    }

    /// The request whose head is there has to wait, which is counted once.
    pub(super) fn note_delay<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        if !std::mem::replace(&mut self.delayed, true) {
            shared.metrics.incr(Metric::TlsEarlyDelayed);
        }
    }

    /// Tells how the handshake with the client went, once.
    pub(super) fn tell_news<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        if let Some(news) = self.front.take_news() {
            // What came early and had to wait is looked at anew, a part of a head included: it may be refused by now.
            self.scanner = HeadScanner::default();
            secured::tell(news, &self.front, (self.address, self.front_active), shared);
            if news == News::Established {
                shared.metrics.incr(Metric::HttpAlpnHttp11);
            }
            // Who only looks whether somebody listens is not worth a record.
            if let News::Failed(failure) = news
                && failure != Failure::Closed
            {
                self.tell_failed_handshake(failure.told(), shared);
            }
        }
    }

    /// Goes on with the handshake beside an answer to what came early. False if it failed: then its client has not
    /// asked for anything.
    pub(super) fn go_on_with_handshake<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> bool {
        let read = self.front.advance();
        self.tell_news(shared);
        // Without a buffer it is for a later turn.
        matches!(read, Read::Nothing | Read::Bytes(_) | Read::Thirsty)
    }
}
