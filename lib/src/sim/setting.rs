//! What is drawn before anything moves.

use super::ledger::Rules;
use super::model::Scale;
use super::narrow::Narrow;
use super::orders;
use super::pipe::Pace;
use super::rng::Rng;
use super::terms::Terms;
use super::world::Faults;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) rules: Rules,
    pub(super) drains: bool,
    pub(super) timeouts: orders::Timeouts,
    pub(super) scale: Scale,
    pub(super) pace: Pace,
    pub(super) capacity_max: usize,
    pub(super) buffer_bytes: usize,
    pub(super) buffers: usize,
    pub(super) connections_max: usize,
    pub(super) clients: usize,
    pub(super) healthy: usize,
    pub(super) ill: usize,
    pub(super) depth: usize,
    pub(super) fault_percent: usize,
    pub(super) faults: Faults,
    pub(super) pipes_max: usize,
    pub(super) strangers: usize,
    pub(super) record_buffers_max: usize,
    pub(super) handshakes_max: usize,
}

impl Setting {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let faults = rng.percent(50);
        let scarce = rng.percent(20);
        let drains = !scarce && rng.percent(15);
        let timeouts = orders::Timeouts {
            front: rng.pick(&[3, 5, 30, 60]),
            back: rng.pick(&[3, 5, 30, 60]),
            connect: 3,
            request: rng.pick(&[5, 10]),
        };
        let (pace, body_bytes_max, capacity_max) = match rng.below(10) {
            0..=4 => (Pace::Trickle, 120, 60),
            5..=7 => (Pace::Pieces, 3000, 1500),
            _ => (Pace::Gushes, rng.pick(&[20_000, 20_000, 20_000, 200_000]), rng.pick(&[4000, 40_000])),
        };
        // Room for what is added to a head.
        let buffer_bytes = rng.within(1500..=4096);
        let terms = Terms::draw(body_bytes_max, scarce, rng);
        let clients = rng.within(1..=if scarce { 7 } else { 4 });
        let depth = if rng.percent(30) { rng.within(2..=4) } else { 1 };
        let ms = |seconds: u32, tenths: usize| usize::try_from(seconds).expect("fits") * 100 * tenths;
        // Two stalls of a client may follow each other: after an answer and within the next request. Where
        // buffers are few one's stall is another's wait, so there they are short.
        let stall = |limit: usize| if scarce { limit.min(100) } else { limit };
        let scale = Scale {
            body_bytes_max,
            padding_max: buffer_bytes - 1300,
            // A head that is sent so slowly is not waited for where others have no buffer.
            head_stall_ms_max: ms(timeouts.request, 4),
            front_stall_ms_max: stall(ms(timeouts.front, 4)),
            back_stall_ms_max: stall(ms(timeouts.back, 8)),
            pipelined: depth > 1,
            silent_closes: rng.percent(40),
            front_ms: ms(timeouts.front, 10),
            capacity_max,
            hesitant: scarce,
            dawdlers: !scarce && timeouts.front <= 5,
            terms,
        };
        let narrow = rng.percent(33).then(|| Narrow::draw(rng));
        Self {
            rules: Rules { faults, scarce, draining: false, terms, narrow },
            drains,
            timeouts,
            scale,
            pace,
            capacity_max,
            buffer_bytes,
            buffers: if scarce { rng.within(4..=8) } else { 128 },
            connections_max: if scarce && rng.percent(50) { rng.within(1..=3) } else { 100 },
            clients,
            healthy: rng.within(1..=3),
            ill: usize::from(rng.percent(20)),
            depth,
            fault_percent: if faults { rng.pick(&[0, 10, 40]) } else { 0 },
            faults: if faults { draw_faults(&timeouts, rng) } else { Faults::default() },
            pipes_max: rng.pick(&[0, 1, 2, 4]),
            strangers: if terms.tls.is_some() { rng.below(4) } else { 0 },
            record_buffers_max: if scarce { rng.within(2..=8) } else { 64 },
            handshakes_max: if scarce && rng.percent(50) { rng.within(1..=4) } else { 64 },
        }
    }
}

fn draw_faults(timeouts: &orders::Timeouts, rng: &mut Rng) -> Faults {
    let longest = usize::try_from(timeouts.front.max(timeouts.back)).expect("fits");
    Faults {
        reset_per_myriad: rng.pick(&[0, 0, 5, 50]),
        freeze_per_myriad: rng.pick(&[0, 0, 20]),
        freeze_ms_max: longest * 1500,
        accept_percent: rng.pick(&[0, 0, 20]),
    }
}
