//! The backend: one thread, answers made beforehand, every request checked and counted.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use slab::Slab;

use crate::content::{self, pattern};
use crate::failure::{Context, Failure};
use crate::wire::{Asked, RequestReader};

/// Tokens above any connection's.
const WAKER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);
const LISTENERS_FROM: usize = usize::MAX - 1_001;
/// Bytes per read; uploads come in few of them.
const READ_BYTES: usize = 256 * 1024;

/// What the backend has seen since it was started.
#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    wrong: AtomicU64,
}

/// The backend's thread; it ends when this is dropped.
pub(crate) struct Backend {
    addresses: Vec<SocketAddr>,
    counters: Arc<Counters>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Starts it with `count` addresses, on the calling thread's core. It takes `service` for each answer, however many
    /// it has under way.
    ///
    /// # Errors
    /// If the kernel gives no sockets or no thread.
    pub(crate) fn start(count: usize, service: Duration) -> Result<Backend, Failure> {
        let poll = Poll::new()?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK).context("a timer")?;
        poll.registry().register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for index in 0..count {
            let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            poll.registry().register(&mut listener, Token(LISTENERS_FROM + index), Interest::READABLE)?;
            addresses.push(listener.local_addr()?);
            listeners.push(listener);
        }
        let counters = Arc::new(Counters::default());
        let worker = Worker {
            poll,
            listeners,
            connections: Slab::new(),
            service,
            timer,
            due: VecDeque::new(),
            counters: Arc::clone(&counters),
            answers: Answers {
                small: answer(content::SMALL_BYTES),
                large: answer(content::LARGE_BYTES),
                bulk: answer(content::BULK_BYTES),
            },
            upload: pattern(content::UPLOAD_BYTES),
            buffer: vec![0; READ_BYTES],
        };
        let thread = std::thread::Builder::new()
            .name("backend".into())
            .spawn(move || worker.run())
            .context("a thread for the backend")?;
        Ok(Backend { addresses, counters, waker, thread: Some(thread) })
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Complete and correct requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.counters.requests.load(Ordering::Acquire)
    }

    /// Requests that were not what the load generator sends.
    pub(crate) fn wrong(&self) -> u64 {
        self.counters.wrong.load(Ordering::Acquire)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A panic of the thread has been printed; there is nothing else to do about it.
            let _ended = thread.join();
        }
    }
}

fn answer(body_length: usize) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\
         Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: {body_length}\r\n\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(&pattern(body_length));
    bytes
}

/// Made beforehand.
struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
    bulk: Vec<u8>,
}

impl Answers {
    fn to(&self, asked: Asked) -> &[u8] {
        match asked {
            Asked::Small => &self.small,
            Asked::Large => &self.large,
            Asked::Bulk => &self.bulk,
        }
    }
}

struct Connection {
    stream: TcpStream,
    reader: RequestReader,
    /// The answer that does not fit the socket yet, and how much of it is gone.
    sending: Option<(Asked, usize)>,
    /// The answer is not to begin yet.
    waits: bool,
}

struct Worker {
    poll: Poll,
    listeners: Vec<TcpListener>,
    connections: Slab<Connection>,
    service: Duration,
    timer: TimerFd,
    /// Whose answer is to begin, and when; in order of time.
    due: VecDeque<(Instant, usize)>,
    counters: Arc<Counters>,
    answers: Answers,
    upload: Vec<u8>,
    buffer: Vec<u8>,
}

impl Worker {
    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    eprintln!("the backend cannot poll: {error}");
                    return;
                }
            }
            for event in &events {
                match event.token() {
                    WAKER => return,
                    TIMER => self.answer_due(),
                    Token(token) if token >= LISTENERS_FROM => self.accept(token - LISTENERS_FROM),
                    Token(key) => self.serve(key),
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) {
        let Some(listener) = self.listeners.get(listener) else { return };
        loop {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    let entry = self.connections.vacant_entry();
                    let both = Interest::READABLE | Interest::WRITABLE;
                    let ready = stream
                        .set_nodelay(true)
                        .and_then(|()| self.poll.registry().register(&mut stream, Token(entry.key()), both));
                    if ready.is_ok() {
                        entry.insert(Connection {
                            stream,
                            reader: RequestReader::default(),
                            sending: None,
                            waits: false,
                        });
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn serve(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let waited = connection.waits;
        if !connection.advance(&mut self.buffer, &self.upload, &self.answers, &self.counters, self.service) {
            self.connections.remove(key);
        } else if connection.waits && !waited {
            if self.due.is_empty() {
                set(&self.timer, self.service);
            }
            self.due.push_back((Instant::now() + self.service, key));
        }
    }

    /// Begins the answers whose time has come.
    fn answer_due(&mut self) {
        // Read, so that it tells of the next time, too.
        let _told = self.timer.wait();
        let now = Instant::now();
        while let Some(&(at, key)) = self.due.front() {
            if at > now {
                set(&self.timer, at - now);
                return;
            }
            self.due.pop_front();
            // Gone meanwhile, it is nobody's, or another's that waits for nothing.
            if let Some(connection) = self.connections.get_mut(key)
                && std::mem::take(&mut connection.waits)
            {
                self.serve(key);
            }
        }
    }
}

/// Once, after this time.
fn set(timer: &TimerFd, after: Duration) {
    let after = after.max(Duration::from_nanos(1));
    if let Err(error) = timer.set(Expiration::OneShot(after.into()), TimerSetTimeFlags::empty()) {
        eprintln!("the backend's timer: {error}");
    }
}

impl Connection {
    /// Writes what is left, reads what has come, answers; false when the connection is over.
    fn advance(
        &mut self,
        buffer: &mut [u8],
        upload: &[u8],
        answers: &Answers,
        counters: &Counters,
        service: Duration,
    ) -> bool {
        loop {
            if self.waits {
                return true;
            }
            match self.flush(answers) {
                Ok(true) => {}
                Ok(false) => return true,
                Err(_) => return false,
            }
            let count = match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            match self.reader.feed(buffer.get(..count).unwrap_or_default(), upload) {
                Ok(None) => {}
                Ok(Some(asked)) => {
                    counters.requests.fetch_add(1, Ordering::AcqRel);
                    self.sending = Some((asked, 0));
                    self.waits = !service.is_zero();
                }
                Err(wrong) => {
                    if counters.wrong.fetch_add(1, Ordering::AcqRel) == 0 {
                        eprintln!("the backend got {wrong}");
                    }
                    return false;
                }
            }
        }
    }

    /// True when nothing is left to write.
    fn flush(&mut self, answers: &Answers) -> io::Result<bool> {
        while let Some((asked, sent)) = &mut self.sending {
            let answer = answers.to(*asked);
            match self.stream.write(answer.get(*sent..).unwrap_or_default()) {
                Ok(count) => {
                    *sent += count;
                    if *sent >= answer.len() {
                        self.sending = None;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
