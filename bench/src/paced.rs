//! A load at a fixed rate, whatever the proxy does: how long each answer takes from when its request was due.
//!
//! Requests are due at equal distances. One that finds all connections busy waits for one, and its time counts from
//! when it was due: a proxy that stands still for a while is not spared those who would have come meanwhile, as it
//! is by clients that wait for its answers before they ask again.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::content::Exchange;
use crate::failure::{Context, Failure};
use crate::stream::{Came, Stream, not_now};
use crate::wire::{AnswerReader, Verdict};

/// Nothing comes for this long: something hangs.
const SILENCE_MAX: Duration = Duration::from_secs(20);
const READ_BYTES: usize = 64 * 1024;
/// Above any connection's.
const TIMER: Token = Token(usize::MAX);

/// How long things took, a value for each request.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// From when a request was due until its answer was whole.
    pub latency: Vec<Duration>,
    /// The same of those that were refused.
    pub refused: Vec<Duration>,
    /// From when it was due until it was begun: what the load generator, or a proxy that keeps all connections
    /// busy, is to blame for.
    pub late: Vec<Duration>,
}

/// Plain keep-alive connections to one proxy.
pub(crate) struct Paced<'e> {
    target: SocketAddr,
    exchange: &'e Exchange,
    poll: Poll,
    /// The poll counts in milliseconds, this in nanoseconds.
    timer: TimerFd,
    clients: Vec<Client>,
    /// Those that wait for a request.
    idle: Vec<usize>,
    buffer: Vec<u8>,
    /// The next of the exchange's requests.
    turn: usize,
    /// A 503 is no failure.
    may_be_refused: bool,
}

struct Client {
    stream: Stream,
    reader: AnswerReader,
    /// When the request that is under way was due.
    due: Option<Instant>,
    request: usize,
    sent: usize,
}

impl<'e> Paced<'e> {
    /// So many connections.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn connect(
        target: SocketAddr,
        exchange: &'e Exchange,
        connections: usize,
    ) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK).context("a timer")?;
        poll.registry().register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)?;
        let clients =
            (0..connections).map(|key| Client::connect(target, &poll, key)).collect::<Result<_, _>>()?;
        let idle = (0..connections).collect();
        let buffer = vec![0; READ_BYTES];
        Ok(Paced { target, exchange, poll, timer, clients, idle, buffer, turn: 0, may_be_refused: false })
    }

    /// Requests may be refused from now on, and a connection that was refused one may end with that: it is made anew.
    #[must_use]
    pub(crate) fn or_refused(mut self) -> Self {
        self.may_be_refused = true;
        self
    }

    /// Sends `count` requests, `per_second` of them in a second, and awaits all answers.
    ///
    /// # Errors
    /// If an answer is wrong, does not come, or a connection breaks.
    pub(crate) fn run(&mut self, count: u32, per_second: u32, times: &mut Times) -> Result<(), Failure> {
        let gap = Duration::from_secs(1) / per_second;
        self.timer.set(Expiration::Interval(gap.into()), TimerSetTimeFlags::empty()).context("a timer")?;
        let start = Instant::now();
        let (mut begun, mut answered) = (0, 0);
        let mut events = Events::with_capacity(1024);
        let mut heard = start;
        while answered < count {
            while begun < count {
                let (now, due) = (Instant::now(), start + gap * begun);
                if due > now {
                    break;
                }
                let Some(key) = self.idle.pop() else { break };
                times.late.push(now - due);
                self.begin(key, due)?;
                begun += 1;
            }
            match self.poll.poll(&mut events, Some(SILENCE_MAX)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                if event.token() == TIMER {
                    match self.timer.wait() {
                        Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                } else if let Some((latency, verdict)) = self.advance(event.token().0)? {
                    match verdict {
                        Verdict::Served => times.latency.push(latency),
                        Verdict::Refused => times.refused.push(latency),
                    }
                    answered += 1;
                    heard = Instant::now();
                }
            }
            if heard.elapsed() > SILENCE_MAX {
                return Err(Failure::new(format!("{} answers have not come", count - answered)));
            }
        }
        self.timer.unset().context("a timer")
    }

    fn begin(&mut self, key: usize, due: Instant) -> Result<(), Failure> {
        let Some(client) = self.clients.get_mut(key) else { return Ok(()) };
        client.due = Some(due);
        client.request = self.turn;
        client.sent = 0;
        self.turn = (self.turn + 1) % self.exchange.requests.len();
        client.send(&self.exchange.requests)
    }

    /// How long its request took, if the answer is whole now.
    fn advance(&mut self, key: usize) -> Result<Option<(Duration, Verdict)>, Failure> {
        let Some(client) = self.clients.get_mut(key) else { return Ok(None) };
        client.send(&self.exchange.requests)?;
        let mut took = None;
        loop {
            let Client { stream, reader, due, .. } = client;
            let came = stream.read(&mut self.buffer, |bytes| {
                let since = due.context("bytes that nobody asked for")?;
                let expected = &self.exchange.answer_body;
                let verdict = if self.may_be_refused {
                    reader.feed_or_refusal(bytes, expected)
                } else {
                    reader.feed(bytes, expected).map(|whole| whole.then_some(Verdict::Served))
                };
                if let Some(verdict) = verdict.context("a wrong answer")? {
                    took = Some((since.elapsed(), verdict));
                    *due = None;
                }
                Ok(())
            })?;
            match came {
                Came::Some => {}
                Came::Last | Came::Nothing => break,
                Came::End if client.reader.closes() => {
                    *client = Client::connect(self.target, &self.poll, key)?;
                    self.idle.push(key);
                    return Ok(took);
                }
                Came::End => return Err(Failure::new("the proxy closed a connection it should have kept")),
            }
        }
        if took.is_some() && !client.reader.closes() {
            self.idle.push(key);
        }
        Ok(took)
    }
}

impl Client {
    fn connect(target: SocketAddr, poll: &Poll, key: usize) -> Result<Self, Failure> {
        let stream = Stream::connect(target, None, false, poll.registry(), Token(key))?;
        Ok(Self { stream, reader: AnswerReader::default(), due: None, request: 0, sent: 0 })
    }

    /// Writes what is left of the request, as far as the socket takes it.
    fn send(&mut self, requests: &[Vec<u8>]) -> Result<(), Failure> {
        if self.due.is_none() {
            return Ok(());
        }
        let request = requests.get(self.request).map(Vec::as_slice).unwrap_or_default();
        while let Some(rest) = request.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if not_now(&error) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending a request"),
            }
        }
        Ok(())
    }
}
