//! A client connection whose PROXY header has not come yet.
//!
//! The header goes before all else, TLS included. It is only looked at until it is all there, and then taken off to its
//! last byte: what follows is for the session that comes after this one. Until then the connection holds no buffer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Drive, Hold, Shared};
use crate::listener::{ListenerConfig, ListenerIndex};
use crate::metrics::Metric;
use crate::net::buffers::Use;
use crate::net::{Network, Peer, Read, Ready, Stream, Token, Write};
use crate::protocol::proxy_header::{self, Ends, Header};

/// What a client's header says that goes on to a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Where the client connected to.
    pub destination: SocketAddr,
    /// Additions of a header of version 2, those that hold for any header.
    pub tlvs: Vec<u8>,
    /// Who said so.
    pub peer: SocketAddr,
}

/// See the module.
#[derive(Debug)]
pub struct OpeningSession<S> {
    front: Peer<S>,
    /// The peer's; once the header is read, the client's.
    address: SocketAddr,
    listener: ListenerIndex,
    since: Instant,
    timer_set: bool,
    told: Option<Box<Told>>,
    queued: bool,
}

/// Why a connection does not go on.
enum End {
    /// Nobody has said anything.
    Quiet,
    /// In the log's words.
    Wrong(String),
}

impl<S: Stream> OpeningSession<S> {
    /// A connection that was just accepted. It is counted from here on.
    pub fn accepted<N: Network<Stream = S>>(
        front: Peer<S>,
        address: SocketAddr,
        listener: ListenerIndex,
        shared: &mut Shared<N>,
    ) -> Self {
        shared.metrics.incr(Metric::ProtocolProxyExpect);
        Self { front, address, listener, since: shared.now, timer_set: false, told: None, queued: false }
    }

    /// The token of the front.
    pub fn token(&self) -> Token {
        self.front.token()
    }

    /// The listener that accepted it.
    pub fn listener(&self) -> ListenerIndex {
        self.listener
    }

    /// Whom it is from: the client once the header is read.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the next session goes on with; this one is over.
    pub fn introduce<N: Network<Stream = S>>(
        self,
        shared: &mut Shared<N>,
    ) -> (Peer<S>, SocketAddr, Option<Box<Told>>) {
        shared.metrics.decr(Metric::ProtocolProxyExpect);
        shared.timers.clear(self.front.token());
        (self.front, self.address, self.told)
    }

    /// Refuses the connection with these words.
    pub fn refuse(&mut self, words: &[u8]) {
        // Few enough for any socket to which nothing was written.
        if let Write::Failed(error) = self.front.write_plain(words) {
            log::debug!("client {}: {error}", self.address);
        }
        self.front.shutdown_write();
    }

    /// An event for the front.
    pub fn front_ready(&mut self, ready: Ready) {
        self.front.note(ready);
    }

    /// There is no back yet.
    pub fn back_ready(&mut self, _: Ready) {}

    /// It waits for no buffer.
    pub fn quench(&mut self, _: Use) {}

    /// Marks the session as queued for another turn; false if it is already.
    pub fn enqueue(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }

    /// Its turn has come.
    pub fn dequeue(&mut self) {
        self.queued = false;
    }

    /// Looks whether the header is there.
    pub fn drive<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        match self.look(shared) {
            Ok(true) => Drive::Introduced,
            Ok(false) => self.settle(shared),
            Err(End::Quiet) => {
                self.finish(shared);
                Drive::Finished
            }
            Err(End::Wrong(what)) => self.fail(&what, shared),
        }
    }

    /// True once the header is read.
    fn look<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Result<bool, End> {
        let mut seen = [0; proxy_header::BYTES_MAX];
        let count = match self.front.peek_plain(&mut seen) {
            Read::Bytes(count) => count,
            Read::Nothing | Read::Thirsty => return Ok(false),
            Read::End | Read::Failed(_) => return Err(End::Quiet),
        };
        let bytes = seen.get(..count).unwrap_or_default();
        let header = match proxy_header::parse(bytes) {
            Ok(Some(header)) => header,
            Ok(None) if count < proxy_header::BYTES_MAX && self.front.await_more() => return Ok(false),
            Ok(None) => return Err(End::Wrong("the connection ends within the PROXY header".to_owned())),
            Err(malformed) => return Err(End::Wrong(malformed.to_string())),
        };
        let header_bytes = header.bytes;
        self.heed(&header);
        self.take_off(seen.get_mut(..header_bytes).unwrap_or_default())?;
        shared.metrics.add(Metric::BytesIn, header_bytes);
        Ok(true)
    }

    fn heed(&mut self, header: &Header<'_>) {
        if let Ends::Proxied { source, destination } = header.ends {
            let peer = std::mem::replace(&mut self.address, source);
            self.told = Some(Box::new(Told { destination, tlvs: header.tlvs.lasting(), peer }));
        }
    }

    /// Reads what was seen.
    fn take_off(&mut self, mut space: &mut [u8]) -> Result<(), End> {
        while !space.is_empty() {
            let Read::Bytes(count) = self.front.read_plain(space) else { return Err(End::Quiet) };
            space = space.get_mut(count..).unwrap_or_default();
        }
        // A read that came to the last byte that is there may have told so; the end may be behind it.
        self.front.note(Ready { readable: true, ..Ready::default() });
        Ok(())
    }

    /// Before waiting: events and the timer must be able to wake the session.
    fn settle<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        if let Err(error) = self.front.watch(&mut shared.net) {
            log::warn!("client {}: cannot be watched: {error}", self.address);
            self.finish(shared);
            return Drive::Finished;
        }
        if !self.timer_set
            && let Some(at) = self.deadline(shared)
        {
            self.timer_set = true;
            shared.timers.set(self.front.token(), at);
        }
        Drive::Waiting
    }

    /// As long as the first bytes of a client are waited for: `request_timeout` of HTTP and HTTPS listeners,
    /// `sni_preread_timeout` of TCP ones.
    fn deadline<N: Network<Stream = S>>(&self, shared: &Shared<N>) -> Option<Instant> {
        let time: Duration = match shared.listeners.get(self.listener)?.config() {
            ListenerConfig::Http(config) => config.request_timeout(),
            ListenerConfig::Tcp(config) => config.sni_preread_timeout(),
        };
        Some(self.since + time)
    }

    /// The timer fired.
    pub fn on_timer<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        self.timer_set = false;
        if self.deadline(shared).is_some_and(|at| at > shared.now) {
            return self.settle(shared);
        }
        self.fail("no PROXY header in time", shared)
    }

    fn fail<N: Network<Stream = S>>(&mut self, what: &str, shared: &mut Shared<N>) -> Drive {
        // At debug level only: strangers fill the log otherwise.
        log::debug!("client {}: {what}", self.address);
        shared.metrics.incr(Metric::ProxyProtocolErrors);
        self.finish(shared);
        Drive::Finished
    }

    /// It holds nothing that others could use.
    pub fn evict<N: Network<Stream = S>>(&mut self, _: Hold, _: &mut Shared<N>) -> Drive {
        Drive::Waiting
    }

    /// Gives back all that the session holds. Nothing may be done with it afterwards.
    pub fn finish<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        shared.metrics.decr(Metric::ProtocolProxyExpect);
        shared.release_token(self.front.token());
    }
}
