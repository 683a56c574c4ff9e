//! The listener at which Prometheus finds metrics: a small HTTP/1 server of one resource, `/metrics`.
//!
//! A connection carries one request and its answer. Everything is bounded: connections, the bytes of a request, the time
//! for it, what is held of an answer that is read slowly, how much is written in one turn of main's loop, and how many
//! snapshots slow readers keep alive. At its limit the oldest connection that has not asked yet makes room for a new one;
//! if all have asked, the new one is closed.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use kakehi_command::config::Prometheus;
use kakehi_command::proto::MetricDetail;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::collect::Snapshot;
use super::exposition::{Exposition, Format};

/// Bytes of a request's head.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// Pieces of an answer that are written in one turn to one connection.
const PIECES_PER_TURN: usize = 2;

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 16;

/// How long accepting pauses when it fails for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Snapshots that connections may hold. Later ones share the youngest of these.
const SNAPSHOTS_MAX: usize = 2;

/// An answer may take so many times as long as a pause of its reader.
const ANSWER_TIMEOUTS: u32 = 6;

/// Names of connections in the poll: far above those of anything else in main.
pub(in super::super) const FIRST: Token = Token(1 << 62);

#[derive(Debug)]
enum State {
    /// The head of the request is read.
    Head(Vec<u8>),
    /// Numbers are awaited.
    Waiting { format: Format, chunked: bool },
    /// The answer goes.
    Sending { out: Vec<u8>, sent: usize, body: Option<(Exposition, Rc<Snapshot>)>, chunked: bool },
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    state: State,
    /// Its begin, and the last time it got on.
    since: Instant,
    active: Instant,
}

/// What comes of a step.
enum Step {
    Wait,
    More,
    Over,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Exporter {
    listener: TcpListener,
    settings: Prometheus,
    connections: BTreeMap<Token, Connection>,
    next: Token,
    /// Connections with more to write.
    busy: Vec<Token>,
    accept_at: Option<Instant>,
    pub(super) answered: i64,
    pub(super) refused: i64,
}

impl Exporter {
    /// Binds the listener.
    pub(crate) fn bind(settings: Prometheus) -> io::Result<Self> {
        Ok(Self::of(settings, TcpListener::bind(settings.address)?))
    }

    /// With the listener that the program has bound which this process ran before.
    pub(super) fn taken_over(settings: Prometheus, listener: OwnedFd) -> Self {
        Self::of(settings, TcpListener::from_std(listener.into()))
    }

    fn of(settings: Prometheus, listener: TcpListener) -> Self {
        Self {
            listener,
            settings,
            connections: BTreeMap::new(),
            next: FIRST,
            busy: Vec::new(),
            accept_at: None,
            answered: 0,
            refused: 0,
        }
    }

    /// The listener's.
    pub(super) fn descriptor(&self) -> RawFd {
        self.listener.as_raw_fd()
    }

    /// Has the poll tell of new connections by this name.
    pub(in super::super) fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.listener, token, Interest::READABLE)
    }

    /// Accepts who waits.
    pub(super) fn accept(&mut self, registry: &Registry, now: Instant) {
        self.accept_at = None;
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, _)) => self.add(stream, registry, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::warn!("the listener for metrics: {error}");
                    self.accept_at = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        self.accept_at = Some(now);
    }

    fn add(&mut self, mut stream: TcpStream, registry: &Registry, now: Instant) {
        if self.connections.len() >= self.settings.connections_max {
            self.refused += 1;
            let idle = |connection: &Connection| matches!(connection.state, State::Head(_));
            let oldest = self.connections.iter().find(|(_, it)| idle(it)).map(|(token, _)| *token);
            match oldest {
                Some(token) => drop(self.connections.remove(&token)),
                None => return,
            }
        }
        let token = self.next;
        self.next = Token(self.next.0 + 1);
        if let Err(error) = registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE) {
            log::warn!("a connection for metrics can't be watched: {error}");
            return;
        }
        let state = State::Head(Vec::new());
        self.connections.insert(token, Connection { stream, state, since: now, active: now });
        self.go_on(token, now);
    }

    /// A connection can be read or written.
    pub(super) fn woken(&mut self, token: Token, now: Instant) {
        self.go_on(token, now);
    }

    fn go_on(&mut self, token: Token, now: Instant) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        match connection.step(now) {
            Ok(Step::Wait) => {}
            Ok(Step::More) => self.busy.push(token),
            Ok(Step::Over) => {
                self.answered += 1;
                self.connections.remove(&token);
            }
            Err(error) => {
                log::debug!("a connection for metrics: {error}");
                self.connections.remove(&token);
            }
        }
    }

    /// Whether anybody waits for numbers.
    pub(super) fn wants_numbers(&self) -> bool {
        self.connections.values().any(|connection| matches!(connection.state, State::Waiting { .. }))
    }

    /// Answers all that wait.
    pub(super) fn answer(&mut self, latest: &Rc<Snapshot>, detail: MetricDetail, now: Instant) {
        let mut held: Vec<&Rc<Snapshot>> = Vec::new();
        // Later connections hold later snapshots, if not always the latest.
        for connection in self.connections.values() {
            if let State::Sending { body: Some((_, snapshot)), .. } = &connection.state
                && !held.iter().any(|known| Rc::ptr_eq(known, snapshot))
            {
                held.push(snapshot);
            }
        }
        let one_more = held.len() < SNAPSHOTS_MAX || held.iter().any(|known| Rc::ptr_eq(known, latest));
        let snapshot = Rc::clone(if one_more { latest } else { held.last().unwrap_or(&latest) });
        let mut begun = Vec::new();
        for (token, connection) in &mut self.connections {
            if let State::Waiting { format, chunked } = connection.state {
                let transfer = if chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
                let kind = format.content_type();
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{transfer}Connection: close\r\n\r\n");
                let body = Exposition::new(Rc::clone(&snapshot), format, detail);
                let body = Some((body, Rc::clone(&snapshot)));
                connection.state = State::Sending { out: head.into_bytes(), sent: 0, body, chunked };
                connection.active = now;
                begun.push(*token);
            }
        }
        begun.into_iter().for_each(|token| self.go_on(token, now));
    }

    /// Goes on with those that have more to write, and closes who was silent for too long.
    pub(super) fn settle(&mut self, registry: &Registry, now: Instant) {
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept(registry, now);
        }
        for token in std::mem::take(&mut self.busy) {
            self.go_on(token, now);
        }
        let timeout = self.settings.timeout;
        let late: Vec<Token> = self
            .connections
            .iter()
            .filter(|(_, it)| it.ends_at(timeout) <= now)
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            self.refused += 1;
            self.connections.remove(&token);
        }
    }

    /// When to settle at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let ends = self.connections.values().map(|connection| connection.ends_at(self.settings.timeout));
        ends.chain(self.accept_at).min()
    }

    /// Whether there is something to do without waiting.
    pub(super) fn has_work(&self) -> bool {
        !self.busy.is_empty()
    }
}

impl Connection {
    fn ends_at(&self, timeout: Duration) -> Instant {
        match self.state {
            // However it drips.
            State::Head(_) => self.since + timeout,
            State::Waiting { .. } | State::Sending { .. } => {
                (self.active + timeout).min(self.since + timeout * ANSWER_TIMEOUTS)
            }
        }
    }

    fn step(&mut self, now: Instant) -> io::Result<Step> {
        if let State::Head(bytes) = &mut self.state {
            match read_head(&mut self.stream, bytes)? {
                Head::Partial => return Ok(Step::Wait),
                Head::Whole => {}
            }
            self.state = answer_to(bytes);
            self.active = now;
        }
        let State::Sending { out, sent, body, chunked } = &mut self.state else { return Ok(Step::Wait) };
        let mut pieces = 0;
        loop {
            while let Some(rest) = out.get(*sent..).filter(|rest| !rest.is_empty()) {
                match self.stream.write(rest) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        *sent += count;
                        self.active = now;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Wait),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            out.clear();
            *sent = 0;
            let Some((exposition, _)) = body else { return Ok(Step::Over) };
            if pieces == PIECES_PER_TURN {
                return Ok(Step::More);
            }
            pieces += 1;
            match exposition.next_piece() {
                Some(piece) if piece.is_empty() => {}
                Some(piece) if *chunked => {
                    out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    out.extend_from_slice(piece.as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
                Some(piece) => *out = piece.into_bytes(),
                None => {
                    if *chunked {
                        out.extend_from_slice(b"0\r\n\r\n");
                    }
                    *body = None;
                }
            }
        }
    }
}

enum Head {
    Partial,
    Whole,
}

fn read_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Head> {
    let mut room = [0; 1024];
    loop {
        match stream.read(&mut room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes.extend_from_slice(room.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Head::Partial),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if is_whole(bytes) || bytes.len() > REQUEST_BYTES_MAX {
            return Ok(Head::Whole);
        }
    }
}

fn is_whole(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|window| window == b"\r\n\r\n")
}

/// What follows from a request.
fn answer_to(head: &[u8]) -> State {
    if !is_whole(head) {
        return refusal("431 Request Header Fields Too Large", "");
    }
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return refusal("400 Bad Request", "");
    };
    let chunked = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return refusal("400 Bad Request", ""),
    };
    let path = target.split('?').next().unwrap_or_default();
    if path != "/metrics" {
        return refusal("404 Not Found", "");
    }
    let accept =
        lines.filter_map(|line| line.split_once(':')).filter(|(name, _)| name.eq_ignore_ascii_case("accept"));
    let accept: Vec<&str> = accept.map(|(_, value)| value.trim()).collect();
    let format = Format::wanted(&accept.join(","));
    match method {
        "GET" => State::Waiting { format, chunked },
        "HEAD" => {
            let kind = format.content_type();
            sending(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n"))
        }
        _ => refusal("405 Method Not Allowed", "Allow: GET, HEAD\r\n"),
    }
}

fn refusal(status: &str, fields: &str) -> State {
    sending(format!(
        "HTTP/1.1 {status}\r\n{fields}Content-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{status}\n",
        status.len() + 1
    ))
}

fn sending(answer: String) -> State {
    State::Sending { out: answer.into_bytes(), sent: 0, body: None, chunked: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let check = |head: &str, expected: &str| {
            let said = match answer_to(head.as_bytes()) {
                State::Waiting { format, chunked } => format!("{format:?} {chunked}"),
                State::Sending { out, .. } => {
                    String::from_utf8_lossy(&out).lines().next().unwrap_or_default().to_owned()
                }
                State::Head(_) => "head".to_owned(),
            };
            assert_eq!(said, expected, "{head:?}");
        };
        check("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "Text true");
        check("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "Text false");
        let accept = "ACCEPT: application/openmetrics-text; version=1.0.0";
        check(&format!("GET /metrics HTTP/1.1\r\n{accept}\r\n\r\n"), "OpenMetrics true");
        check("HEAD /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK");
        check("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found");
        check("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed");
        check("GET /metrics\r\n\r\n", "HTTP/1.1 400 Bad Request");
        check("\u{0}\r\n\r\n", "HTTP/1.1 400 Bad Request");
        check("GET /metrics HTTP/1.1\r\nA", "HTTP/1.1 431 Request Header Fields Too Large");
    }
}
