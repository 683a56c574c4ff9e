//! What is measured: one file per way of measuring, one entry per line of the table of targets.

mod changes;
mod instructions;
mod latency;
mod memory;
mod overload;
mod setting;
mod traffic;

pub(crate) use instructions::profile;

use std::time::Duration;

use crate::content::{BULK_BYTES, Kind};
use crate::failure::Failure;
use crate::load::Reuse;
use crate::peers::{Peer, Running, Site, Stage, Wrapper};
use crate::report::Row;
use crate::stats::float;
use crate::tls::Handshakes;

/// Connections that are kept busy, whoever is measured.
pub(crate) const CONCURRENCY: usize = 64;
/// Clients that each proxy is configured for, where it does not matter.
const CONNECTIONS_MAX: usize = 1_000;
/// A measurement is made in so many slices, the proxies taking turns: what the machine does beside changes
/// within seconds, and is to hit all alike.
pub(crate) const SLICES: usize = 12;
/// In which the kernel counts a core's busy time.
const TICK: Duration = Duration::from_millis(10);
/// Hosts of the scenario of many, and the clusters they are spread over.
const HOSTS_MANY: usize = 10_000;
const CLUSTERS_MANY: usize = 10;

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// Keep-alive GET, answers of 100 B, 64 connections.
    Keepalive,
    /// The same among 10,000 hosts.
    Hosts,
    /// User-space instructions per request in these two, by callgrind.
    Instructions,
    /// A new connection for each request.
    Connections,
    /// Answers of 1 MiB.
    Large,
    /// Uploads of 64 KiB.
    Uploads,
    /// Memory per idle keep-alive connection.
    Memory,
    /// One backend added and removed.
    Changes,
    /// The first row over TLS 1.3.
    TlsKeepalive,
    /// User-space instructions per request in it, by callgrind.
    TlsInstructions,
    /// A new connection for each request, with a full handshake.
    TlsFull,
    /// A new connection for each request, with a handshake that resumes an earlier one's session.
    TlsResumed,
    /// Answers of 1 MiB over TLS 1.3.
    TlsLarge,
    /// Memory per idle keep-alive connection over TLS 1.3.
    TlsMemory,
    /// How long a keep-alive GET takes at 4,000 requests/s, whatever the proxy could do.
    Latency,
    /// How long answers take that are served while four times as many are asked for, against four fifths as many.
    Overload,
    /// A tunnel: messages of some hundred bytes, each way in turn.
    TcpMessages,
    /// A tunnel: 16 MiB at a time.
    TcpBulk,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Measurements of each peer, interleaved.
    pub pairs: usize,
    /// Divides the work of each measurement.
    pub divisor: u64,
}

impl Effort {
    /// As many, made fewer; never none.
    fn of(self, count: u64) -> u64 {
        (count / self.divisor).max(1)
    }
}

/// Measures one scenario. What fails voids its rows.
pub(crate) fn measure(scenario: Scenario, stage: &Stage, effort: Effort) -> Vec<Row> {
    match scenario {
        Scenario::Instructions => [
            (Scenario::Keepalive, "user-space instructions per request, first row"),
            (Scenario::Hosts, "user-space instructions per request, 10,000 hosts"),
        ]
        .map(|(of, title)| {
            let targets = [(Peer::Haproxy, 0.30), (Peer::Nginx, 0.50)];
            instructions::measure(of, title, &targets, stage, effort)
        })
        .into(),
        Scenario::TlsInstructions => {
            let title = "user-space instructions per request over TLS 1.3";
            vec![instructions::measure(Scenario::TlsKeepalive, title, &[], stage, effort)]
        }
        Scenario::Memory => {
            let (title, targets) =
                ("memory per idle keep-alive connection", [(Peer::Haproxy, 0.4), (Peer::Nginx, 0.6)]);
            vec![memory::measure(Scenario::Keepalive, title, &targets, stage, effort)]
        }
        Scenario::TlsMemory => {
            let (title, targets) =
                ("memory per idle TLS connection", [(Peer::Haproxy, 0.2), (Peer::Nginx, 0.2)]);
            vec![memory::measure(Scenario::TlsKeepalive, title, &targets, stage, effort)]
        }
        Scenario::Changes => vec![changes::measure(stage, effort)],
        Scenario::Latency => latency::measure(&KEEPALIVE, stage, effort),
        Scenario::Overload => vec![overload::measure(stage, effort)],
        Scenario::Keepalive
        | Scenario::Hosts
        | Scenario::Connections
        | Scenario::Large
        | Scenario::Uploads
        | Scenario::TlsKeepalive
        | Scenario::TlsFull
        | Scenario::TlsResumed
        | Scenario::TlsLarge
        | Scenario::TcpMessages
        | Scenario::TcpBulk => {
            traffic_shape(scenario).iter().map(|shape| traffic::measure(shape, stage, effort)).collect()
        }
    }
}

/// Starts proxies, for one pair of measurements: where the memory of a process happens to lie is worth several per
/// cent, for as long as it lives.
fn start_all(peers: &[Peer], stage: &Stage, site: &Site<'_>) -> Result<Vec<(Peer, Running)>, Failure> {
    peers.iter().map(|&peer| Ok((peer, stage.start(peer, site, &Wrapper::default())?))).collect()
}

/// A scenario of traffic: who is asked what, how often.
pub(crate) struct Shape {
    pub title: &'static str,
    pub unit: Unit,
    pub kind: Kind,
    pub reuse: Reuse,
    /// Kept busy.
    pub connections: usize,
    pub hosts: usize,
    pub clusters: usize,
    /// By a TCP listener, to a single backend: the proxy knows nothing of requests.
    pub tunnel: bool,
    /// Over TLS, and with which handshakes.
    pub tls: Option<Handshakes>,
    /// How long the backend takes for an answer.
    pub service: Duration,
    /// How many requests may be in flight at a time; others are refused.
    pub in_flight_max: Option<usize>,
    /// Requests in one measurement: about a second or more of a proxy's time.
    pub requests: u64,
    pub peers: &'static [Peer],
    pub targets: &'static [(Peer, f64)],
}

/// What processor time is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Request,
    /// Of 2^30 bytes of answers, as long as [`Kind::Bulk`] has them.
    Gibibyte,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Request => "us of processor time per request",
            Unit::Gibibyte => "ms of processor time per GiB",
        }
    }

    fn of(self, cpu_seconds: f64, requests: u64) -> f64 {
        const BULK_PER_GIBIBYTE: usize = (1 << 30) / BULK_BYTES;
        let each = cpu_seconds / float(requests);
        match self {
            Unit::Request => each * 1e6,
            Unit::Gibibyte => each * float(BULK_PER_GIBIBYTE as u64) * 1e3,
        }
    }
}

const ALL: &[Peer] = &[Peer::Kakehi, Peer::Haproxy, Peer::Nginx];
const ALL_AND_RELAY: &[Peer] = &[Peer::Kakehi, Peer::Haproxy, Peer::Nginx, Peer::Relay];

/// The shape of a scenario of traffic; the others have none.
fn traffic_shape(scenario: Scenario) -> Option<Shape> {
    let shape = match scenario {
        Scenario::Keepalive => KEEPALIVE,
        Scenario::Hosts => Shape {
            title: "the same among 10,000 hosts",
            hosts: HOSTS_MANY,
            clusters: CLUSTERS_MANY,
            peers: ALL,
            targets: &[(Peer::Haproxy, 0.68), (Peer::Nginx, 0.88)],
            ..KEEPALIVE
        },
        Scenario::Connections => Shape {
            title: "a new connection per request",
            kind: Kind::SmallAndClose,
            reuse: Reuse::Close,
            requests: 20_000,
            peers: ALL,
            targets: &[(Peer::Haproxy, 0.90), (Peer::Nginx, 0.95)],
            ..KEEPALIVE
        },
        Scenario::Large => Shape {
            title: "1 MiB answers",
            kind: Kind::Large,
            requests: 4_800,
            peers: &[Peer::Kakehi, Peer::Haproxy, Peer::Nginx, Peer::NginxLargeBuffers],
            targets: &[(Peer::Haproxy, 0.95), (Peer::Nginx, 0.35)],
            ..KEEPALIVE
        },
        Scenario::Uploads => Shape {
            title: "64 KiB uploads",
            kind: Kind::Upload,
            requests: 15_000,
            peers: ALL,
            targets: &[(Peer::Haproxy, 0.90), (Peer::Nginx, 0.95)],
            ..KEEPALIVE
        },
        Scenario::TlsKeepalive => TLS_KEEPALIVE,
        Scenario::TlsFull => TLS_FULL,
        Scenario::TlsResumed => Shape {
            title: "a resumed handshake per request",
            tls: Some(Handshakes::Resumed),
            requests: 6_000,
            targets: &[(Peer::Haproxy, 0.70), (Peer::Nginx, 0.70)],
            ..TLS_FULL
        },
        Scenario::TlsLarge => Shape {
            title: "1 MiB answers over TLS 1.3",
            kind: Kind::Large,
            requests: 2_400,
            peers: &[
                Peer::Kakehi,
                Peer::Haproxy,
                Peer::Nginx,
                Peer::HaproxyLargeBuffers,
                Peer::NginxLargeBuffers,
            ],
            targets: &[(Peer::Haproxy, 0.60), (Peer::Nginx, 0.65)],
            ..TLS_KEEPALIVE
        },
        Scenario::TcpMessages => TCP_MESSAGES,
        Scenario::TcpBulk => Shape {
            title: "a TCP tunnel, 16 MiB at a time, 4 connections",
            unit: Unit::Gibibyte,
            kind: Kind::Bulk,
            connections: 4,
            requests: 192,
            peers: &[Peer::Kakehi, Peer::Haproxy, Peer::Nginx, Peer::NginxLargeBuffers],
            targets: &[(Peer::Haproxy, 1.0), (Peer::Nginx, 0.5)],
            ..TCP_MESSAGES
        },
        Scenario::Instructions
        | Scenario::Memory
        | Scenario::Changes
        | Scenario::Latency
        | Scenario::Overload
        | Scenario::TlsInstructions
        | Scenario::TlsMemory => return None,
    };
    Some(shape)
}

/// The first row, of which most others are variations.
const KEEPALIVE: Shape = Shape {
    title: "keep-alive GET, 100 B answer, 64 connections",
    kind: Kind::Small,
    unit: Unit::Request,
    reuse: Reuse::KeepAlive,
    connections: CONCURRENCY,
    hosts: 1,
    clusters: 1,
    tunnel: false,
    tls: None,
    service: Duration::ZERO,
    in_flight_max: None,
    requests: 60_000,
    peers: ALL_AND_RELAY,
    targets: &[(Peer::Haproxy, 0.72), (Peer::Nginx, 0.78), (Peer::Relay, 1.25)],
};

const TLS_KEEPALIVE: Shape = Shape {
    title: "keep-alive GET over TLS 1.3, 100 B answer, 64 connections",
    tls: Some(Handshakes::Full),
    requests: 40_000,
    peers: ALL,
    targets: &[(Peer::Haproxy, 0.70), (Peer::Nginx, 0.75)],
    ..KEEPALIVE
};

const TCP_MESSAGES: Shape = Shape {
    title: "a TCP tunnel, small messages in turn, 64 connections",
    tunnel: true,
    targets: &[(Peer::Haproxy, 0.98)],
    ..KEEPALIVE
};

const TLS_FULL: Shape = Shape {
    title: "a full handshake per request",
    kind: Kind::SmallAndClose,
    reuse: Reuse::Close,
    requests: 3_000,
    targets: &[(Peer::Haproxy, 0.55), (Peer::Nginx, 0.60)],
    ..TLS_KEEPALIVE
};
