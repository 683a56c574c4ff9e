//! One record for each request, and for each connection of a TCP listener.
//!
//! A record is formatted in the turn in which its request ends, into a ring of bounded size; the loop writes
//! what waits there at the end of a turn, by calls that never block. What finds no room is counted and lost:
//! nobody waits for the log. A record has less than [`RECORD_BYTES_MAX`] bytes, so that each reaches a pipe or a
//! file in one piece, whatever other processes write there: long fields are cut, which a `…` tells.
//!
//! Nothing is allocated for a record once the ring has its size.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::net::log_sink::{LogSink, Written};
use crate::net::request_id::RequestId;

mod json;
mod out;
mod protobuf;
mod ring;
mod text;
mod time;

use out::Out;
use ring::Ring;
use time::Clock;

/// A record has less bytes than that: a write of so many to a pipe is not mixed with others (POSIX's PIPE_BUF).
pub const RECORD_BYTES_MAX: usize = 4096;

/// Bytes written by one call at most, where records need not be written one by one.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Calls for one turn of the loop at most: datagrams are sent one by one.
const WRITES_PER_TURN_MAX: usize = 64;

/// As long as less than that waits, it may wait for company.
const BATCH_BYTES: usize = 4096;

/// How long a record waits for company, and how long a target is left alone that takes nothing.
const BATCH_TIME: Duration = Duration::from_millis(10);

/// How long a target that is broken is left alone.
const REPAIR_TIME: Duration = Duration::from_secs(1);

/// How a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Sōzu's lines.
    Text {
        /// With colours, for a terminal.
        colored: bool,
    },
    /// One JSON object a line.
    Json,
    /// Sōzu's `ProtobufAccessLog`: its length as a varint, the message, two zero bytes.
    Protobuf,
}

/// What is left out of records (`access_logs_redact`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redaction {
    /// The client's address, and whatever else tells of it: X-Forwarded-For, and who its PROXY header came from.
    pub client: bool,
    /// The same, but for its network: of the client's address what tells it from its neighbours: the last byte of an IPv4 address, the last ten of
    /// an IPv6 address, and the port.
    pub client_host: bool,
    /// Host.
    pub host: bool,
    /// Path and query.
    pub path: bool,
    /// The query.
    pub query: bool,
    /// User-Agent.
    pub user_agent: bool,
    /// X-Request-Id.
    pub x_request_id: bool,
    /// The name that a TLS client asked for.
    pub sni: bool,
    /// The frontend's tags.
    pub tags: bool,
}

impl Redaction {
    /// The keys that there are.
    pub const KEYS: [&'static str; 9] =
        ["client", "client.host", "host", "path", "path.query", "user_agent", "x_request_id", "sni", "tags"];

    /// Whether nothing is left out.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Leaves out what this key names; false if there is no such key.
    pub fn add(&mut self, key: &str) -> bool {
        let flag = match key {
            "client" => &mut self.client,
            "client.host" => &mut self.client_host,
            "host" => &mut self.host,
            "path" => &mut self.path,
            "path.query" => &mut self.query,
            "user_agent" => &mut self.user_agent,
            "x_request_id" => &mut self.x_request_id,
            "sni" => &mut self.sni,
            "tags" => &mut self.tags,
            _ => return false,
        };
        *flag = true;
        true
    }
}

/// How a worker logs accesses.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How records are written.
    pub format: Format,
    /// Bytes that may wait to be written (`access_log_buffer`).
    pub buffer_bytes: usize,
    /// Of so many requests one is logged, in millionths: a million is all (`access_logs_sampling`).
    pub sampling_ppm: u32,
    /// Answers with a status from 500 on are logged whatever the sampling says.
    pub keeps_errors: bool,
    /// What is left out.
    pub redaction: Redaction,
    /// The tag of this process: `WRK-00`.
    pub tag: String,
    /// This worker's number.
    pub worker: u32,
}

/// What ended, in borrowed parts. Texts are empty where nothing is known.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Names the connection.
    pub session_id: RequestId,
    /// Names the request; on a TCP listener the connection again.
    pub request_id: RequestId,
    /// The client, as its PROXY header tells if it has one.
    pub client: SocketAddr,
    /// Who said so: the other end of the connection, where that is not the client.
    pub client_peer: Option<SocketAddr>,
    /// The listener's address.
    pub listener: Option<SocketAddr>,
    /// `HTTP`, `HTTPS`, `WS`, `WSS`, `TCP` or `TLS`.
    pub protocol: &'static str,
    /// The rest of an HTTP request.
    pub http: Option<Http<'a>>,
    /// Where it went.
    pub cluster: &'a str,
    /// Where it went there.
    pub backend: &'a str,
    /// That backend's address; of a Unix socket there is none.
    pub backend_address: Option<SocketAddr>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// From the first byte of the request, or the accept, to the end: microseconds, as all times here.
    pub request_time: u64,
    /// How long it waited for room at the cluster.
    pub queue_time: Option<u64>,
    /// How long the connect to the backend took; none if a kept connection was used.
    pub connect_time: Option<u64>,
    /// From when a backend was chosen to the head of its answer.
    pub service_time: Option<u64>,
    /// From there to the end.
    pub response_time: Option<u64>,
    /// Of a TLS connection.
    pub tls: Option<Tls<'a>>,
    /// Of the frontend.
    pub tags: Option<&'a std::collections::BTreeMap<String, String>>,
    /// How it ended.
    pub message: &'a str,
    /// It did not end as it should.
    pub failed: bool,
    /// Connects and sendings beyond the first.
    pub retries: u32,
    /// The configuration's revision.
    pub revision: u64,
}

/// Of an HTTP request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Http<'a> {
    /// The method.
    pub method: &'a [u8],
    /// Host and port as asked for.
    pub host: &'a [u8],
    /// Path and query as asked for.
    pub path: &'a [u8],
    /// The answer's status; 444 if the connection was closed without one, on purpose.
    pub status: Option<u16>,
    /// User-Agent.
    pub user_agent: &'a [u8],
    /// X-Request-Id.
    pub x_request_id: &'a [u8],
    /// X-Forwarded-For as the client sent it, several of them joined.
    pub x_forwarded_for: &'a [u8],
    /// The trace that the backend was told of.
    pub trace: Option<Trace>,
}

/// Of a distributed trace (W3C Trace Context).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Names the trace.
    pub trace_id: u128,
    /// Names the part of it that what the backend did belongs to.
    pub span_id: u64,
}

/// Of a TLS connection.
#[derive(Debug, Clone, Copy)]
pub struct Tls<'a> {
    /// TLSv1.3 or TLSv1.2.
    pub version: &'static str,
    /// As IANA names it.
    pub cipher: &'a str,
    /// The name that was asked for.
    pub sni: &'a str,
    /// The protocol that was agreed on.
    pub alpn: &'a str,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It waits to be written.
    Taken,
    /// There was no room.
    Dropped,
    /// It is not to be logged.
    LeftOut,
}

/// See the module.
#[derive(Debug)]
pub struct AccessLog {
    settings: Option<Settings>,
    sink: Option<LogSink>,
    ring: Ring,
    /// A record is put together here, of [`RECORD_BYTES_MAX`] bytes once it is on.
    line: Box<[u8]>,
    clock: Clock,
    /// Of lines of text.
    heading: Option<text::Heading>,
    /// Sessions that were named.
    sessions: u64,
    /// What session ids are mixed with.
    seed: u64,
    /// When what waits is to be written.
    due: Option<Instant>,
    /// Records lost since this was asked last.
    lost: u64,
}

impl AccessLog {
    /// No log. Session ids of workers with other seeds are others.
    pub fn off(seed: u64) -> Self {
        Self {
            settings: None,
            sink: None,
            ring: Ring::default(),
            line: Box::default(),
            clock: Clock::default(),
            heading: None,
            sessions: 0,
            seed,
            due: None,
            lost: 0,
        }
    }

    /// Logs from now on, once there is a [sink](Self::set_sink).
    pub fn configure(&mut self, settings: Settings) {
        self.ring = Ring::new(settings.buffer_bytes.max(RECORD_BYTES_MAX));
        self.line = vec![0; RECORD_BYTES_MAX].into();
        self.heading = match settings.format {
            Format::Text { colored } => Some(text::Heading::new(std::process::id(), &settings.tag, colored)),
            Format::Json | Format::Protobuf => None,
        };
        self.settings = Some(settings);
    }

    /// Writes there from now on.
    pub fn set_sink(&mut self, sink: LogSink) {
        self.sink = Some(sink);
        self.lost += u64::from(self.ring.drop_begun());
        self.due = None;
    }

    /// Whether records are wanted.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.sink.is_some() && self.settings.is_some()
    }

    /// The wall time of this turn, nanoseconds since 1970.
    pub fn set_time(&mut self, unix_ns: u64) {
        self.clock.set(unix_ns);
    }

    /// A number that names a connection; see [`Self::session_id`]. Never 0.
    pub fn next_session(&mut self, unix_ms: u64) -> u64 {
        self.sessions = self.sessions.wrapping_add(1);
        ((unix_ms & ((1 << 48) - 1)) << 16 | (self.sessions & 0xFFFF)).max(1)
    }

    /// The id of the connection with this number: a ULID with the time when it was named.
    pub fn session_id(&self, number: u64) -> RequestId {
        // 80 bits that no other connection of the millisecond has, in no other worker either.
        let mixed = |salt: u64| {
            let mut word = number ^ self.seed.rotate_left(17) ^ salt;
            word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word ^ (word >> 31)
        };
        let low = u128::from(mixed(0)) | (u128::from(mixed(0x9E37_79B9_7F4A_7C15) & 0xFFFF) << 64);
        RequestId::from_bits((u128::from(number >> 16) << 80) | low)
    }

    /// Whether every request is to be logged.
    #[inline]
    pub fn wants_all(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.sampling_ppm >= 1_000_000)
            && self.sink.is_some()
    }

    /// Whether a request with this answer is to be logged. `random` is a random number.
    pub fn wants(&self, status: Option<u16>, random: u64) -> bool {
        let Some(settings) = self.settings.as_ref().filter(|_| self.sink.is_some()) else { return false };
        settings.sampling_ppm >= 1_000_000
            || (settings.keeps_errors && status.is_some_and(|status| status >= 500))
            || random % 1_000_000 < u64::from(settings.sampling_ppm)
    }

    /// Takes a record.
    pub fn take(&mut self, record: &Record<'_>, now: Instant) -> Kept {
        let Some(settings) = &self.settings else { return Kept::LeftOut };
        let redacted;
        let record = if settings.redaction.is_none() {
            record
        } else {
            redacted = redact(*record, &settings.redaction);
            &redacted
        };
        self.clock.tell();
        let mut out = Out::new(&mut self.line);
        match (settings.format, &self.heading) {
            (Format::Text { .. }, Some(heading)) => text::write(&mut out, record, &self.clock, heading),
            (Format::Protobuf, _) => protobuf::write(&mut out, record, self.clock.now(), &settings.tag),
            (Format::Json | Format::Text { .. }, _) => {
                json::write(&mut out, record, &self.clock, settings.worker);
            }
        }
        debug_assert!(out.len() < RECORD_BYTES_MAX, "fields are cut so that they fit together");
        if !self.ring.push(out.written_mut(0)) {
            return Kept::Dropped;
        }
        self.due.get_or_insert(now + BATCH_TIME);
        Kept::Taken
    }

    /// Records that the target did not take, since this was asked last.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// When [`Self::flush`] has something to do.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.due
    }

    /// Writes what waits, if there is enough of it or it has waited for long enough.
    pub fn flush(&mut self, now: Instant) {
        let Some(due) = self.due else { return };
        // A target that takes nothing has a time of its own: `due` alone counts then.
        let enough = self.ring.bytes() >= BATCH_BYTES && due <= now + BATCH_TIME;
        if due <= now || enough {
            self.write(now);
        }
    }

    /// Writes what waits, as far as the target takes it: there is no later.
    pub fn flush_all(&mut self, now: Instant) {
        let mut before = usize::MAX;
        while self.ring.len() < before && !self.ring.is_empty() {
            before = self.ring.len();
            self.write(now);
        }
    }

    fn write(&mut self, now: Instant) {
        let Some(sink) = &mut self.sink else { return };
        self.due = None;
        for _ in 0..WRITES_PER_TURN_MAX {
            let (bytes_max, records_max) = if sink.is_of_datagrams() {
                (RECORD_BYTES_MAX, 1)
            } else if sink.takes_any_length() {
                (WRITE_BYTES_MAX, usize::MAX)
            } else {
                (RECORD_BYTES_MAX, usize::MAX)
            };
            let (bytes, count) = self.ring.front(bytes_max, records_max);
            if count == 0 {
                return;
            }
            match sink.write(bytes) {
                Written::Bytes(written) => {
                    self.ring.consume(written);
                }
                Written::Nothing => {
                    self.due = Some(now + BATCH_TIME);
                    return;
                }
                Written::Refused => {
                    let length = bytes.len();
                    self.lost += self.ring.consume(length) as u64;
                }
                Written::Broken => {
                    self.lost += u64::from(self.ring.drop_begun());
                    self.due = Some(now + REPAIR_TIME);
                    return;
                }
            }
        }
        if !self.ring.is_empty() {
            self.due = Some(now);
        }
    }
}

#[cold]
fn redact<'a>(mut record: Record<'a>, redaction: &Redaction) -> Record<'a> {
    if redaction.client {
        record.client = SocketAddr::from(([0, 0, 0, 0], 0));
    } else if redaction.client_host {
        record.client = match record.client {
            SocketAddr::V4(address) => {
                let [a, b, c, _] = address.ip().octets();
                SocketAddr::from(([a, b, c, 0], 0))
            }
            SocketAddr::V6(address) => {
                let [a, b, c, ..] = address.ip().segments();
                SocketAddr::from(([a, b, c, 0, 0, 0, 0, 0], 0))
            }
        };
    }
    if redaction.client || redaction.client_host {
        record.client_peer = None;
    }
    if redaction.tags {
        record.tags = None;
    }
    if let Some(tls) = record.tls.as_mut().filter(|_| redaction.sni) {
        tls.sni = "";
    }
    let Some(http) = &mut record.http else { return record };
    if redaction.client || redaction.client_host {
        http.x_forwarded_for = &[];
    }
    if redaction.host {
        http.host = &[];
    }
    if redaction.path {
        http.path = &[];
    } else if redaction.query {
        http.path = http.path.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    }
    if redaction.user_agent {
        http.user_agent = &[];
    }
    if redaction.x_request_id {
        http.x_request_id = &[];
    }
    record
}

#[cfg(test)]
mod tests;
