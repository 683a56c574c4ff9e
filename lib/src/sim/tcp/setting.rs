//! What is drawn before anything moves.

use std::time::Duration;

use super::super::pipe::Pace;
use super::super::rng::Rng;
use super::super::secured::TlsTerms;
use super::super::world::{Door, Faults};
use crate::server::worker::Configuration;
use crate::session::Settings;

/// Of a connection at most, where an eighth of it is to hold a PROXY header.
const HEADER_ROOM: usize = 8 * 128;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) faulty: bool,
    pub(super) scarce: bool,
    /// The worker may drain at any time.
    pub(super) drains: bool,
    /// Faults have stopped, and everybody does as they should.
    pub(super) settled: bool,
    pub(super) faults: Faults,
    pub(super) front_timeout: u32,
    pub(super) back_timeout: u32,
    pub(super) pace: Pace,
    pub(super) capacity_max: usize,
    pub(super) bytes_max: usize,
    pub(super) stall_ms_max: usize,
    pub(super) clients: usize,
    /// Backends that work, and others.
    pub(super) healthy: usize,
    pub(super) ill: usize,
    /// PROXY headers are expected from clients; the version of those that backends get.
    pub(super) expects: bool,
    pub(super) sends: Option<u8>,
    pub(super) tls: Option<TlsTerms>,
    buffers: usize,
    pipes_max: usize,
}

impl Setting {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let faulty = rng.percent(50);
        let scarce = rng.percent(20);
        let (front_timeout, back_timeout) = (rng.pick(&[2, 5, 30]), rng.pick(&[2, 5, 30]));
        let longest = usize::try_from(front_timeout.max(back_timeout)).expect("fits");
        let (pace, bytes_max, capacity_max) = match rng.below(10) {
            0..=3 => (Pace::Trickle, 120, 60),
            4..=6 => (Pace::Pieces, 3000, 1500),
            _ => (Pace::Gushes, rng.pick(&[20_000, 200_000]), rng.pick(&[4000, 40_000])),
        };
        let faults = Faults {
            reset_per_myriad: rng.pick(&[0, 5, 50]),
            freeze_per_myriad: rng.pick(&[0, 0, 20]),
            freeze_ms_max: longest * 1500,
            accept_percent: rng.pick(&[0, 0, 20]),
        };
        let expects = rng.percent(30);
        Self {
            faulty,
            scarce,
            drains: rng.percent(15),
            settled: false,
            faults: if faulty { faults } else { Faults::default() },
            front_timeout,
            back_timeout,
            pace,
            // A header is only looked at until it is all there: no socket has room for less.
            capacity_max: if expects { capacity_max.max(HEADER_ROOM) } else { capacity_max },
            bytes_max,
            stall_ms_max: longest * 800,
            clients: rng.within(1..=8),
            healthy: rng.within(1..=3),
            ill: usize::from(rng.percent(30)),
            expects,
            sends: rng.pick(&[None, None, Some(1), Some(2)]),
            tls: (!expects && rng.percent(30)).then(|| TlsTerms::draw(rng)),
            buffers: if scarce { rng.within(3..=6) } else { 128 },
            pipes_max: rng.pick(&[0, 1, 2, 8]),
        }
    }

    /// What who connects to that backend meets at first.
    pub(super) fn door(&self, index: usize, rng: &mut Rng) -> Door {
        let slow = Door::Slow { ms_max: 2000 };
        match index {
            _ if index < self.healthy => rng.pick(&[Door::Open, Door::Open, slow]),
            _ if index < self.healthy + self.ill => {
                rng.pick(&[Door::Refusing, Door::BlackHole, Door::Unreachable])
            }
            _ => Door::Open,
        }
    }

    pub(super) fn configuration(&self, rng: &mut Rng) -> Configuration {
        Configuration {
            settings: Settings {
                evicts_idle: false,
                connections_max: if self.scarce && rng.percent(50) { rng.within(1..=4) } else { 100 },
                header_fields_max: 64,
                idle_back_connections_max: 1,
                back_idle_timeout: Duration::from_secs(55),
                connection_attempts_max: 3,
                splice_pipe_bytes: rng.pick(&[100, 3000, 20_000, 150_000]),
                splice_pipes_max: self.pipes_max,
                record_buffers_max: if self.scarce { rng.within(2..=8) } else { 64 },
                handshakes_max: 64,
                probes_max: 8,
                metric_series_max: 64,
                metric_series_off: false,
                basic_auth_bytes_max: 4096,
            },
            buffers_min: 1,
            buffers_max: self.buffers,
            buffer_bytes: rng.within(500..=4096),
            seed: rng.next(),
            worker_id: 0,
        }
    }
}
