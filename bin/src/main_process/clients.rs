//! The command socket's clients: connections, their bounded queues, and whose turn it is.
//!
//! A client's requests are answered one after another, in order, however many it sends ahead: while one
//! is being worked on, the next stay in its channel, then in the kernel, then in the client. Likewise a
//! client that does not read its answers is not read from. Only events are pushed without being asked
//! for: a subscriber that does not keep up with them is dropped. So each client costs a bounded amount
//! of memory, whatever it does.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use kakehi_command::channel::{Channel, ChannelError, Flushed, FrameError, LENGTH_BYTES, Received};
use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::{Request, Response, ResponseStatus};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use prost::Message;

use super::audit::Answered;
use super::supervisor::TOKEN_STEP;

/// With more answer bytes than this waiting for a client, its next request waits too.
const ANSWERS_AHEAD_BYTES: usize = 64 * 1024;

/// How long word that a request is being worked on waits for the answer to go with.
const HELD_BACK_MAX: Duration = Duration::from_millis(100);

/// A client that has not taken a byte of what waits for it for so long is dropped.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Requests of one client that are taken up in one turn of the loop, before others have theirs.
const REQUESTS_PER_TURN: usize = 16;

/// Connections accepted in one turn of the loop.
const ACCEPTS_PER_TURN: usize = 64;

/// How long accepting pauses when it fails for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A connection of a client. Never reused, so that an answer cannot reach a successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientId(pub(super) Token);

impl fmt::Display for ClientId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.fmt(formatter)
    }
}

/// Who is at the other end, as the kernel knew it when the connection was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    /// User id.
    pub(super) uid: u32,
    /// Group id.
    pub(super) gid: u32,
    /// Name of its program, as the kernel has it: at most 15 bytes.
    pub(super) comm: Rc<str>,
    /// Process id.
    pub(super) pid: i32,
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "uid {} pid {}", self.uid, self.pid)
    }
}

/// What bounds the clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientLimits {
    /// Connections at the same time.
    pub(super) clients_max: usize,
    /// Bytes of one frame in either direction.
    pub(super) frame_bytes_max: usize,
}

/// What a client's turn gives.
#[derive(Debug)]
pub(super) enum Turn {
    /// A request to be answered.
    Request(Box<Request>),
    /// Something that is none: the answer, and whether the connection ends with it.
    Garbage(FrameError),
    /// Nothing now.
    Nothing,
}

#[derive(Debug)]
struct Client {
    channel: Channel<Response, Request>,
    peer: Peer,
    /// A request of this client is being worked on.
    busy: bool,
    subscribed: bool,
    /// The client will send nothing more.
    finished: bool,
    /// Everything it sent was taken up, too: it is closed once it has its answers.
    exhausted: bool,
    /// The socket may have more to read.
    readable: bool,
    /// An end was told of, or an error.
    ending: bool,
    /// An event comes when there is room to write.
    watched_for_room: bool,
    /// Since when something waits that is sent with what follows it.
    held_back_since: Option<Instant>,
    /// Since when nothing of what waits could be sent.
    stalled_since: Option<Instant>,
}

/// All clients.
#[derive(Debug)]
pub(super) struct Clients {
    clients: BTreeMap<ClientId, Client>,
    /// Clients that may have a request to be taken up. May name clients that are gone, or more than once.
    ready: VecDeque<ClientId>,
    limits: ClientLimits,
    registry: Registry,
    next_token: Token,
    /// Set while accepting pauses, or has work left over.
    accept_at: Option<Instant>,
    /// Since they were taken last.
    answered: Vec<Answered>,
    counts: Counts,
}

/// What became of those who were not served.
#[derive(Debug, Default)]
struct Counts {
    /// Connections beyond `max_command_clients`.
    refused: i64,
    /// Clients that were dropped.
    dropped: i64,
    /// Frames that are no requests.
    garbage: i64,
}

impl Clients {
    /// No clients yet. Their tokens are `first_token` and every [`TOKEN_STEP`]th after it.
    pub(super) fn new(limits: ClientLimits, registry: Registry, first_token: Token) -> Self {
        Self {
            clients: BTreeMap::new(),
            ready: VecDeque::new(),
            limits,
            registry,
            next_token: first_token,
            accept_at: None,
            answered: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// What `metrics get` shows of them.
    pub(super) fn numbers(&self) -> [(&'static str, Inner); 4] {
        [
            ("command.clients", Inner::Gauge(self.clients.len() as u64)),
            ("command.clients_refused", Inner::Count(self.counts.refused)),
            ("command.clients_dropped", Inner::Count(self.counts.dropped)),
            ("command.frames_refused", Inner::Count(self.counts.garbage)),
        ]
    }

    /// The answers since this was called last.
    pub(super) fn take_answered(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.answered)
    }

    /// Accepts who waits at `listener`, but for our own workers.
    pub(super) fn accept(&mut self, listener: &UnixListener, now: Instant, is_worker: impl Fn(i32) -> bool) {
        self.accept_at = None;
        for _ in 0..ACCEPTS_PER_TURN {
            match listener.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = self.admit(stream, &is_worker) {
                        log::warn!("a client of the command socket is turned away: {error}");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    log::warn!("cannot accept clients on the command socket for now: {error}");
                    self.accept_at = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        // The socket reports only changes: who still waits must be asked for.
        self.accept_at = Some(now);
    }

    /// When accepting goes on, if it was interrupted.
    pub(super) fn accept_at(&self) -> Option<Instant> {
        self.accept_at
    }

    fn admit(&mut self, stream: UnixStream, is_worker: impl Fn(i32) -> bool) -> io::Result<()> {
        let credentials = getsockopt(&stream, PeerCredentials)?;
        let peer = Peer {
            uid: credentials.uid(),
            gid: credentials.gid(),
            comm: program_of(credentials.pid()),
            pid: credentials.pid(),
        };
        // It has no business here, whatever its user may do: somebody else has taken it over, or command_socket is
        // the unix_path of a backend.
        if is_worker(peer.pid) {
            return Err(io::Error::other(format!("{peer} is a worker of this proxy")));
        }
        let mut channel = Channel::new(stream, self.limits.frame_bytes_max);
        if self.clients.len() >= self.limits.clients_max {
            self.counts.refused += 1;
            let max = self.limits.clients_max;
            // One attempt: an empty socket takes this much, and nothing is owed beyond it.
            let _attempt = channel
                .queue(&failure(format!("too many clients: {max} are connected (max_command_clients)")))
                .and_then(|()| channel.flush());
            return Err(io::Error::other(format!(
                "{max} are connected (max_command_clients); this one is {peer}"
            )));
        }
        let id = ClientId(self.next_token);
        self.next_token.0 += TOKEN_STEP;
        self.registry.register(&mut SourceFd(&channel.as_raw_fd()), id.0, Interest::READABLE)?;
        let client = Client {
            channel,
            peer,
            busy: false,
            subscribed: false,
            finished: false,
            exhausted: false,
            readable: true,
            ending: false,
            watched_for_room: false,
            held_back_since: None,
            stalled_since: None,
        };
        self.clients.insert(id, client);
        self.ready.push_back(id);
        Ok(())
    }

    /// The client behind an event.
    pub(super) fn by_token(&self, token: Token) -> Option<ClientId> {
        let id = ClientId(token);
        self.clients.contains_key(&id).then_some(id)
    }

    /// Something happened on the client's socket: it may be read, and perhaps its end.
    pub(super) fn woken(&mut self, id: ClientId, readable: bool, ending: bool, now: Instant) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.readable |= readable || ending;
        client.ending |= ending;
        self.ready.push_back(id);
        if client.stalled_since.is_some() {
            self.flush(id, now);
        }
    }

    /// Clients that may have something to take up in this turn of the loop.
    pub(super) fn take_ready(&mut self) -> VecDeque<ClientId> {
        std::mem::take(&mut self.ready)
    }

    /// Whether a turn of the loop would find something to do without waiting.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The client's next request, if it may have one now. Call it up to [`REQUESTS_PER_TURN`] times,
    /// then [`put_back`](Self::put_back).
    pub(super) fn next(&mut self, id: ClientId) -> Turn {
        let Some(client) = self.clients.get_mut(&id) else { return Turn::Nothing };
        match client.turn() {
            Ok(turn) => turn,
            Err(error) => {
                self.drop_client(id, &error);
                Turn::Nothing
            }
        }
    }

    /// The client's turn is over although it may have more.
    pub(super) fn put_back(&mut self, id: ClientId) {
        self.ready.push_back(id);
    }

    /// Requests of one client taken up in a turn of the loop.
    pub(super) fn requests_per_turn() -> usize {
        REQUESTS_PER_TURN
    }

    /// A request of the client is being worked on: its next ones wait.
    pub(super) fn set_busy(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            debug_assert!(!client.busy, "one request at a time");
            client.busy = true;
        }
    }

    /// Sends the final answer of the request being worked on.
    pub(super) fn answer(&mut self, id: ClientId, response: &Response, now: Instant) {
        debug_assert!(response.status() != ResponseStatus::Processing, "the final answer");
        self.answered.push(Answered::new(id, response));
        if let Some(client) = self.clients.get_mut(&id) {
            client.busy = false;
            self.ready.push_back(id);
        }
        self.send(id, response, now);
    }

    /// Tells the client that its request is still being worked on: with the answer if that comes soon.
    pub(super) fn processing(&mut self, id: ClientId, message: String, now: Instant) {
        let response = Response { status: ResponseStatus::Processing.into(), message, content: None };
        if self.queue(id, &response)
            && let Some(client) = self.clients.get_mut(&id)
        {
            client.held_back_since.get_or_insert(now);
        }
    }

    /// Answers what was no request; ends the connection if nothing after it can be understood.
    pub(super) fn answer_garbage(&mut self, id: ClientId, error: &FrameError, now: Instant) {
        if let Some(client) = self.clients.get_mut(&id) {
            log::warn!("client {id} ({}) sent no valid request: {error}", client.peer);
            self.counts.garbage += 1;
            client.finished |= error.is_fatal();
            self.ready.push_back(id);
        }
        self.send(id, &failure(error.to_string()), now);
    }

    /// From now on the client gets events; they are the answer, and it may go on asking.
    pub(super) fn subscribe(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.subscribed = true;
            client.busy = false;
            self.ready.push_back(id);
        }
    }

    /// Sends an event to all subscribers.
    pub(super) fn publish(&mut self, response: &Response, now: Instant) {
        let subscribers: Vec<ClientId> =
            self.clients.iter().filter(|(_, client)| client.subscribed).map(|(id, _)| *id).collect();
        for id in subscribers {
            self.send(id, response, now);
        }
    }

    /// Who a client is.
    pub(super) fn peer(&self, id: ClientId) -> Option<Peer> {
        self.clients.get(&id).map(|client| client.peer.clone())
    }

    /// Closes what is over, and drops who has stalled. Call it once a turn.
    pub(super) fn tidy(&mut self, now: Instant) {
        let held_back = |client: &Client| {
            client.held_back_since.is_some_and(|since| now.saturating_duration_since(since) >= HELD_BACK_MAX)
        };
        let due: Vec<ClientId> =
            self.clients.iter().filter(|(_, client)| held_back(client)).map(|(id, _)| *id).collect();
        for id in due {
            self.flush(id, now);
        }
        let mut over = Vec::new();
        for (id, client) in &self.clients {
            let stalled =
                client.stalled_since.is_some_and(|since| now.saturating_duration_since(since) >= STALL_MAX);
            if stalled || client.is_over() {
                over.push((*id, stalled));
            }
        }
        for (id, stalled) in over {
            if stalled {
                self.drop_client(id, &"it does not read what is sent to it");
            } else {
                self.remove(id);
            }
        }
    }

    /// When [`tidy`](Self::tidy) may drop somebody next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let stalls = self.clients.values().filter_map(|client| client.stalled_since);
        let held_back = self.clients.values().filter_map(|client| client.held_back_since);
        let ends =
            [stalls.min().map(|since| since + STALL_MAX), held_back.min().map(|since| since + HELD_BACK_MAX)];
        ends.into_iter().flatten().chain(self.accept_at).min()
    }

    /// Whether an answer is still on its way to somebody.
    pub(super) fn owe_answers(&self) -> bool {
        self.clients.values().any(|client| client.channel.wants_write())
    }

    fn send(&mut self, id: ClientId, response: &Response, now: Instant) {
        if self.queue(id, response) {
            self.flush(id, now);
        }
    }

    /// Puts a response behind those that wait for the client. False if it is dropped, or was not there.
    fn queue(&mut self, id: ClientId, response: &Response) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return false };
        let frame_bytes = response.encoded_len().saturating_add(LENGTH_BYTES);
        let max = self.limits.frame_bytes_max;
        let sent = if frame_bytes <= max {
            client.channel.queue(response)
        } else {
            // The client must hear something: instead of what fits in no frame, a word about it.
            let error = FrameError::TooLarge { length: frame_bytes as u64, max };
            client.channel.queue(&failure(format!("the answer is too large: {error}; ask for less")))
        };
        if let Err(error) = sent {
            self.drop_client(id, &error);
            return false;
        }
        true
    }

    fn flush(&mut self, id: ClientId, now: Instant) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let before = client.channel.queued_bytes();
        client.held_back_since = None;
        match client.channel.flush() {
            Ok(Flushed::Done) => {
                // Whoever waited for room has it.
                if client.stalled_since.take().is_some() {
                    self.ready.push_back(id);
                }
            }
            Ok(Flushed::Blocked) => {
                // Room is of interest from the first time on that there is none: most clients read, and each
                // answer that they take would wake us otherwise.
                if !std::mem::replace(&mut client.watched_for_room, true) {
                    let both = Interest::READABLE | Interest::WRITABLE;
                    let watched =
                        self.registry.reregister(&mut SourceFd(&client.channel.as_raw_fd()), id.0, both);
                    if let Err(error) = watched {
                        log::warn!("client {id}: cannot be watched: {error}");
                    }
                }
                let moved = client.channel.queued_bytes() < before;
                if moved {
                    client.stalled_since = Some(now);
                } else {
                    client.stalled_since.get_or_insert(now);
                }
            }
            Err(error) => {
                // The usual end of a client that did not wait for its answer.
                log::debug!("client {id} ({}) is gone: {error}", client.peer);
                self.remove(id);
            }
        }
    }

    fn drop_client(&mut self, id: ClientId, why: &dyn fmt::Display) {
        if let Some(client) = self.clients.get(&id) {
            self.counts.dropped += 1;
            log::warn!("client {id} ({}) is dropped: {why}", client.peer);
        }
        self.remove(id);
    }

    fn remove(&mut self, id: ClientId) {
        if let Some(client) = self.clients.remove(&id) {
            // Closing the descriptor, which follows, takes it out of the poll in any case.
            let _gone = self.registry.deregister(&mut SourceFd(&client.channel.as_raw_fd()));
        }
    }
}

impl Client {
    fn turn(&mut self) -> Result<Turn, ChannelError> {
        if self.busy || self.channel.queued_bytes() > ANSWERS_AHEAD_BYTES {
            return Ok(Turn::Nothing);
        }
        loop {
            match self.channel.next() {
                Some(Ok(request)) => return Ok(Turn::Request(Box::new(request))),
                Some(Err(error)) => return Ok(Turn::Garbage(error)),
                None if self.finished => {
                    self.exhausted = true;
                    return Ok(Turn::Nothing);
                }
                None if !self.readable => return Ok(Turn::Nothing),
                None => {}
            }
            let received = if self.ending { self.channel.receive() } else { self.channel.receive_bytes() };
            match received? {
                Received::Open => self.readable = false,
                Received::More => {}
                Received::Closed => self.finished = true,
            }
        }
    }

    /// Nothing is owed to the client, and nothing will come from it.
    fn is_over(&self) -> bool {
        self.exhausted && !self.busy && !self.channel.wants_write()
    }
}

/// The name of the program that a process runs; `-` if it is gone already.
fn program_of(pid: i32) -> Rc<str> {
    let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let comm = String::from_utf8_lossy(&comm);
    let comm = comm.trim_end_matches('\n');
    Rc::from(if comm.is_empty() { "-" } else { comm })
}

/// A final answer that says no.
pub(super) fn failure(message: impl Into<String>) -> Response {
    Response { status: ResponseStatus::Failure.into(), message: message.into(), content: None }
}

mod hand_over;
#[cfg(test)]
mod tests;
