//! What is measured: one file per way of measuring, one entry per line of the table of targets.

mod changes;
mod instructions;
mod memory;
mod traffic;

pub(crate) use instructions::profile;

use crate::content::Kind;
use crate::failure::Failure;
use crate::load::Reuse;
use crate::peers::{Peer, Running, Site, Stage, Wrapper};
use crate::report::Row;

/// Connections that are kept busy, whoever is measured.
pub(crate) const CONCURRENCY: usize = 64;
/// Clients that each proxy is configured for, where it does not matter.
const CONNECTIONS_MAX: usize = 1_000;
/// A measurement is made in so many slices, the proxies taking turns: what the machine does beside changes
/// within seconds, and is to hit all alike.
pub(crate) const SLICES: usize = 12;
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
        Scenario::Instructions => instructions::measure(stage, effort),
        Scenario::Memory => vec![memory::measure(stage, effort)],
        Scenario::Changes => vec![changes::measure(stage, effort)],
        Scenario::Keepalive
        | Scenario::Hosts
        | Scenario::Connections
        | Scenario::Large
        | Scenario::Uploads => {
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
    pub kind: Kind,
    pub reuse: Reuse,
    pub hosts: usize,
    pub clusters: usize,
    /// Requests in one measurement: about a second or more of a proxy's time.
    pub requests: u64,
    pub peers: &'static [Peer],
    pub targets: &'static [(Peer, f64)],
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
        Scenario::Instructions | Scenario::Memory | Scenario::Changes => return None,
    };
    Some(shape)
}

/// The first row, of which most others are variations.
const KEEPALIVE: Shape = Shape {
    title: "keep-alive GET, 100 B answer, 64 connections",
    kind: Kind::Small,
    reuse: Reuse::KeepAlive,
    hosts: 1,
    clusters: 1,
    requests: 60_000,
    peers: ALL_AND_RELAY,
    targets: &[(Peer::Haproxy, 0.72), (Peer::Nginx, 0.78), (Peer::Relay, 1.25)],
};
