//! The load generator: one thread, each connection kept busy, every answer checked.
//!
//! It sends a fixed number of requests rather than for a fixed time: every proxy does the same work.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::content::Exchange;
use crate::failure::{Context, Failure};
use crate::stream::{Came, Stream, not_now};
use crate::tls;
use crate::wire::AnswerReader;

/// Nothing at all happens for this long: something hangs. Under valgrind, requests take milliseconds.
const SILENCE_MAX: Duration = Duration::from_secs(20);
const READ_BYTES: usize = 256 * 1024;

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// It carries the next request.
    KeepAlive,
    /// The proxy closes it, as asked; the next request comes on a new one.
    Close,
}

/// Connections to one proxy, and what they ask.
pub(crate) struct Load<'e> {
    target: SocketAddr,
    exchange: &'e Exchange,
    reuse: Reuse,
    /// Who makes connections over TLS; `None` for plain ones.
    tls: Option<tls::Client>,
    /// Handshakes may be full where resumed ones are asked for: there are no tickets yet.
    warming_up: bool,
    poll: Poll,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    /// Requests begun and requests answered, since the start.
    begun: u64,
    answered: u64,
    /// Where `begun` has to stop.
    goal: u64,
    /// The next of the exchange's requests.
    turn: usize,
}

struct Client {
    stream: Option<Stream>,
    reader: AnswerReader,
    /// Which request is being sent or answered; `None` between two.
    request: Option<usize>,
    sent: usize,
    /// The answer is complete, the end of the connection is awaited.
    closing: bool,
}

impl<'e> Load<'e> {
    /// `connections` clients of `target`. Connections are made when they are first used.
    ///
    /// # Errors
    /// If the kernel gives no poll.
    pub(crate) fn new(
        target: SocketAddr,
        exchange: &'e Exchange,
        reuse: Reuse,
        tls: Option<tls::Client>,
        connections: usize,
    ) -> Result<Load<'e>, Failure> {
        let fresh = || Client {
            stream: None,
            reader: AnswerReader::default(),
            request: None,
            sent: 0,
            closing: false,
        };
        Ok(Load {
            target,
            exchange,
            reuse,
            tls,
            warming_up: false,
            poll: Poll::new()?,
            clients: std::iter::repeat_with(fresh).take(connections).collect(),
            buffer: vec![0; READ_BYTES],
            begun: 0,
            answered: 0,
            goal: 0,
            turn: 0,
        })
    }

    /// As [`Load::run`], but to fill pools, caches and the store of tickets.
    ///
    /// # Errors
    /// As for [`Load::run`].
    pub(crate) fn warm_up(&mut self, count: u64) -> Result<(), Failure> {
        self.warming_up = true;
        self.run(count)?;
        self.warming_up = false;
        Ok(())
    }

    /// Sends `count` requests over all connections and awaits all answers; tells how long that took.
    ///
    /// # Errors
    /// If an answer is wrong, does not come, or a connection breaks.
    pub(crate) fn run(&mut self, count: u64) -> Result<Duration, Failure> {
        let from = Instant::now();
        self.goal += count;
        for key in 0..self.clients.len() {
            self.begin(key)?;
        }
        self.finish()?;
        Ok(from.elapsed())
    }

    /// One request on each connection, `at_once` at a time.
    ///
    /// # Errors
    /// As for [`Load::run`].
    pub(crate) fn run_once_each(&mut self, at_once: usize) -> Result<(), Failure> {
        for first in (0..self.clients.len()).step_by(at_once) {
            for key in first..self.clients.len().min(first + at_once) {
                self.goal += 1;
                self.begin(key)?;
            }
            self.finish()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(1024);
        while self.answered < self.goal {
            match self.poll.poll(&mut events, Some(SILENCE_MAX)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            if events.is_empty() {
                let left = self.goal - self.answered;
                return Err(Failure::new(format!("{left} answers have not come")));
            }
            for event in &events {
                self.advance(event.token().0)?;
            }
        }
        Ok(())
    }

    /// The next request on an idle connection, unless enough have begun.
    fn begin(&mut self, key: usize) -> Result<(), Failure> {
        let Some(client) = self.clients.get_mut(key) else { return Ok(()) };
        if self.begun == self.goal || client.request.is_some() {
            return Ok(());
        }
        client.request = Some(self.turn);
        client.sent = 0;
        self.begun += 1;
        self.turn = (self.turn + 1) % self.exchange.requests.len();
        if client.stream.is_some() {
            return client.send(&self.exchange.requests);
        }
        let registry = self.poll.registry();
        let stream = Stream::connect(self.target, self.tls.as_ref(), self.warming_up, registry, Token(key))?;
        client.stream = Some(stream);
        // Sent when the connection is there: that is an event.
        Ok(())
    }

    fn advance(&mut self, key: usize) -> Result<(), Failure> {
        loop {
            let Some(client) = self.clients.get_mut(key) else { return Ok(()) };
            client.send(&self.exchange.requests)?;
            let Client { stream, reader, request, closing, .. } = client;
            let Some(stream) = stream.as_mut() else { return Ok(()) };
            let mut complete = false;
            let came = stream.read(&mut self.buffer, |bytes| {
                if request.is_none() || *closing || complete {
                    return Err(Failure::new("bytes that nobody asked for"));
                }
                complete = reader.feed(bytes, &self.exchange.answer_body).context("a wrong answer")?;
                Ok(())
            })?;
            if complete {
                match self.reuse {
                    Reuse::KeepAlive => {
                        *request = None;
                        self.answered += 1;
                        self.begin(key)?;
                    }
                    Reuse::Close => *closing = true,
                }
            }
            match came {
                Came::Some => {}
                Came::Last if self.reuse == Reuse::Close => {}
                Came::Last | Came::Nothing => return Ok(()),
                Came::End => return self.closed(key),
            }
        }
    }

    fn closed(&mut self, key: usize) -> Result<(), Failure> {
        match self.clients.get_mut(key) {
            Some(client) if client.closing => {
                client.stream = None;
                client.closing = false;
                client.request = None;
                self.answered += 1;
                self.begin(key)
            }
            _ => Err(Failure::new("the proxy closed a connection it should have kept")),
        }
    }
}

impl Client {
    /// Writes what is left of the request, as far as the socket takes it.
    fn send(&mut self, requests: &[Vec<u8>]) -> Result<(), Failure> {
        let (Some(stream), Some(request)) = (self.stream.as_mut(), self.request) else { return Ok(()) };
        stream.flush().context("sending a request")?;
        let request = requests.get(request).map(Vec::as_slice).unwrap_or_default();
        while let Some(rest) = request.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match stream.write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if not_now(&error) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending a request"),
            }
        }
        Ok(())
    }
}
