//! One end of a tunnel: sends what is planned, and judges what comes through.

use super::model::{Side, content};
use super::rng::Rng;
use super::script::{Act, Left, Script};

/// Who ends a tunnel, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Each side ends its direction once it has sent everything.
    Each,
    /// The client ends its direction first; the backend goes on, and ends its own after that.
    ClientFirst,
    BackendFirst,
    /// Nobody does: it is for the proxy to see that nothing moves.
    Nobody,
    /// Sends everything and closes, without a look at what still comes.
    ClientLeaves,
    BackendLeaves,
    /// Resets after a part of what it has to send, in percent.
    ClientResets {
        percent: usize,
    },
    BackendResets {
        percent: usize,
    },
}

impl Ending {
    /// Whether everything reaches the other side, in both directions.
    pub(super) fn is_orderly(self) -> bool {
        matches!(self, Ending::Each | Ending::ClientFirst | Ending::BackendFirst | Ending::Nobody)
    }

    /// What the side that sends `side` does behind its last byte, and whether only a part is sent.
    fn of(self, side: Side) -> (Option<Act>, Option<usize>) {
        let is_client = side == Side::Up;
        match self {
            Ending::Each => (Some(Act::Finish), None),
            Ending::ClientFirst if is_client => (Some(Act::Finish), None),
            Ending::BackendFirst if !is_client => (Some(Act::Finish), None),
            Ending::ClientLeaves if is_client => (Some(Act::Close), None),
            Ending::BackendLeaves if !is_client => (Some(Act::Close), None),
            Ending::ClientResets { percent } if is_client => (Some(Act::Reset), Some(percent)),
            Ending::BackendResets { percent } if !is_client => (Some(Act::Reset), Some(percent)),
            _ => (None, None),
        }
    }
}

/// What one side sends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    bytes: usize,
    /// Of these, sent right behind the head.
    early: usize,
    /// Where the side stalls, in percent of the rest, and for how many ms.
    stall: Option<(usize, usize)>,
}

impl Stream {
    fn draw(bytes_max: usize, stall_ms_max: usize, rng: &mut Rng) -> Self {
        let bytes = if rng.percent(10) { 0 } else { rng.below(bytes_max) };
        let early = if rng.percent(50) { rng.below(bytes + 1) } else { 0 };
        let stall = rng.percent(30).then(|| (rng.below(100), rng.within(1..=stall_ms_max)));
        Self { bytes, early, stall }
    }
}

/// What both sides of a tunnel mean to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct TunnelPlan {
    up: Stream,
    down: Stream,
    pub(super) ending: Ending,
}

impl TunnelPlan {
    pub(super) fn draw(bytes_max: usize, stall_ms_max: usize, rng: &mut Rng) -> Self {
        let percent = rng.below(100);
        let ending = rng.pick(&[
            Ending::Each,
            Ending::Each,
            Ending::ClientFirst,
            Ending::BackendFirst,
            Ending::Nobody,
            Ending::ClientLeaves,
            Ending::BackendLeaves,
            Ending::ClientResets { percent },
            Ending::BackendResets { percent },
        ]);
        let [up, down] = [(); 2].map(|()| Stream::draw(bytes_max, stall_ms_max, rng));
        Self { up, down, ending }
    }

    /// The client sends nothing before the protocol was changed.
    pub(super) fn wait_for_answer(&mut self) {
        self.up.early = 0;
    }

    fn stream(&self, side: Side) -> Stream {
        if side == Side::Up { self.up } else { self.down }
    }

    /// What a side sends right behind its head.
    pub(super) fn early(&self, id: usize, side: Side) -> Vec<u8> {
        let stream = self.stream(side);
        let mut bytes = content(id, side, stream.bytes);
        bytes.truncate(stream.early);
        bytes
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct End {
    id: usize,
    /// What it sends.
    side: Side,
    plan: TunnelPlan,
    expected: Vec<u8>,
    received: usize,
    /// The other side's end has come.
    ended: bool,
    /// Our own is in the script, or was.
    finishes: bool,
}

impl End {
    /// Begins behind the head: the rest is put into the script.
    pub(super) fn new(id: usize, side: Side, plan: TunnelPlan, script: &mut Script) -> Self {
        let stream = plan.stream(side);
        let mut rest = content(id, side, stream.bytes).split_off(stream.early);
        let (last, part) = plan.ending.of(side);
        if let Some(percent) = part {
            rest.truncate(rest.len() * percent / 100);
        }
        script.push_bytes(rest, stream.stall);
        let finishes = last.is_some();
        if let Some(act) = last {
            script.push(act);
        }
        let other = if side == Side::Up { Side::Down } else { Side::Up };
        let expected = content(id, other, plan.stream(other).bytes);
        Self { id, side, plan, expected, received: 0, ended: false, finishes }
    }

    /// Bytes came through.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Self { id, side, received, .. } = *self;
        if self.ended {
            return Err(format!("tunnel {id}: bytes behind the end, for who sends {side:?}"));
        }
        if !self.expected[received..].starts_with(bytes) {
            return Err(format!("tunnel {id}: other bytes at {received}, for who sends {side:?}"));
        }
        self.received += bytes.len();
        Ok(())
    }

    /// The other side's direction has ended.
    pub(super) fn end(&mut self, script: &mut Script) {
        self.ended = true;
        if !std::mem::replace(&mut self.finishes, true) && script.left == Left::No {
            script.push(Act::Finish);
        }
    }

    /// Whether the other side's end has come.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Both directions are over, as far as this side sees.
    pub(super) fn is_over(&self, script: &Script) -> bool {
        self.ended && script.is_empty()
    }

    /// What is missing, if something is that must have come.
    pub(super) fn complain(&self) -> Option<String> {
        let Self { id, side, received, .. } = *self;
        let due = self.expected.len();
        let missing = self.plan.ending.is_orderly() && received < due;
        missing.then(|| format!("tunnel {id}: over after {received} of {due} bytes, for who sends {side:?}"))
    }

    pub(super) fn id(&self) -> usize {
        self.id
    }

    pub(super) fn ending(&self) -> Ending {
        self.plan.ending
    }
}
