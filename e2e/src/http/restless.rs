//! A well-behaved backend with little patience: it closes connections that were idle for a random time, and
//! counts how often it executed each request.
//!
//! One thread, one poll: nothing is between "it is time" and the close but the poll that says that nothing
//! came. It executes a request only when it has all of it; what is in its kernel when it closes was not.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::content::SeededContent;

/// How often it looks whether it is to stop.
const TICK: Duration = Duration::from_millis(50);

/// See the module.
pub struct RestlessBackend {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Executed>>,
}

/// What it did.
#[derive(Debug, Default)]
pub struct Executed {
    /// How often the request `/N` was executed, by N.
    pub times: Vec<u32>,
    /// Connections accepted.
    pub accepted: usize,
    /// Connections closed for being idle.
    pub closed: usize,
    /// Of those, the ones whose kernel held unread bytes a moment later: the race that this is about.
    pub races: usize,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    closes_at: Instant,
}

struct Dice(SeededContent);

impl Dice {
    /// Evenly from nothing up to `most`.
    fn up_to(&mut self, most: Duration) -> Duration {
        let mut word = [0; 8];
        self.0.fill(&mut word);
        let nanoseconds = u64::try_from(most.as_nanos()).expect("short").max(1);
        Duration::from_nanos(u64::from_le_bytes(word) % nanoseconds)
    }
}

impl RestlessBackend {
    /// Starts one that closes after up to `idle_max` of idling, and expects requests `/0` to `/(requests - 1)`.
    pub fn start(idle_max: Duration, requests: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the kernel has a free port");
        listener.set_nonblocking(true).expect("an option of a fresh socket");
        let address = listener.local_addr().expect("a bound socket has an address");
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut executed = Executed { times: vec![0; requests], ..Executed::default() };
            serve(&listener, idle_max, &stopping, &mut executed);
            executed
        });
        RestlessBackend { address, stop, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it; gives what it did.
    ///
    /// # Panics
    /// If it did, over a request that it could not read.
    pub fn stop(mut self) -> Executed {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().expect("the backend reads every request")
    }
}

impl Drop for RestlessBackend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn serve(listener: &TcpListener, idle_max: Duration, stop: &AtomicBool, executed: &mut Executed) {
    let mut dice = Dice(SeededContent::new(5));
    let mut connections: Vec<Connection> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let next = connections.iter().map(|connection| connection.closes_at).min();
        let wait = next.map_or(TICK, |at| at.saturating_duration_since(now)).min(TICK);
        let readable = await_readable(listener, &connections, wait);
        let now = Instant::now();
        let mut index = 0;
        connections.retain_mut(|connection| {
            index += 1;
            if readable.get(index).is_some_and(|readable| *readable) {
                return connection.read(executed, &mut dice, idle_max);
            }
            let stays = connection.closes_at > now || !connection.input.is_empty();
            if !stays {
                executed.closed += 1;
                executed.races += usize::from(connection.has_unread());
            }
            stays
        });
        while readable.first().is_some_and(|readable| *readable) {
            let Ok((stream, _)) = listener.accept() else { break };
            stream.set_nonblocking(true).expect("an option of a fresh socket");
            stream.set_nodelay(true).expect("an option of a fresh socket");
            executed.accepted += 1;
            // A new connection is not idle: its client has just begun.
            connections.push(Connection {
                stream,
                input: Vec::new(),
                closes_at: now + Duration::from_secs(5),
            });
        }
    }
}

/// Which of the listener and the connections can be read.
fn await_readable(listener: &TcpListener, connections: &[Connection], wait: Duration) -> Vec<bool> {
    let mut fds = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    fds.extend(connections.iter().map(|it| PollFd::new(it.stream.as_fd(), PollFlags::POLLIN)));
    // Whole milliseconds, rounded down: below one it asks again at once.
    let wait = PollTimeout::try_from(wait).expect("at most a tick");
    poll(&mut fds, wait).expect("polling sockets of ours");
    fds.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect()
}

impl Connection {
    fn has_unread(&self) -> bool {
        self.stream.peek(&mut [0]).is_ok_and(|count| count > 0)
    }

    /// Reads what came and executes what is whole; false when the connection is over.
    fn read(&mut self, executed: &mut Executed, dice: &mut Dice, idle_max: Duration) -> bool {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(0) => return false,
            Ok(count) => self.input.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        while let Some((id, bytes)) = whole_request(&self.input) {
            self.input.drain(..bytes);
            executed.times[id] += 1;
            let text = id.to_string();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            if self.stream.write_all(answer.as_bytes()).is_err() {
                return false;
            }
            self.closes_at = Instant::now() + dice.up_to(idle_max);
        }
        true
    }
}

/// The number and the length of the request at the start of `input`, if all of it is there.
fn whole_request(input: &[u8]) -> Option<(usize, usize)> {
    let end = input.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&input[..end]).expect("the proxy writes plain heads");
    let target = head.split(' ').nth(1).expect("a request line has a target");
    let id = target.strip_prefix('/').and_then(|id| id.parse().ok()).expect("a numbered target");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
    (input.len() >= end + length).then_some((id, end + length))
}
