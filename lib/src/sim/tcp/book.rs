//! What each end of a TCP connection means to send, what it got, and what must hold of both.
//!
//! What an end sends begins with its number ([`Entry::stream`]): that tells who met whom, of which nobody else here knows
//! anything. Everything behind it is different for every end, at every offset.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::super::model::{Side, content};
use super::super::orders::front_address;
use super::super::rng::Rng;
use super::super::script::{Act, Script};
use super::super::world::{ConnectionId, World};
use super::intro::{Intro, Said};
use super::orders::PREREAD_SECONDS;

/// Bytes of a number.
const NUMBER_BYTES: usize = 8;

/// For how long a backend is barred that failed twice in a row.
const BARRED_MAX: Duration = Duration::from_secs(4);

/// What an end does behind its last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// Ends its direction, and reads on.
    Finish,
    /// The same once the other side has.
    FinishSecond,
    /// Closes without a look at what still comes.
    Leave,
    /// Resets after a part of it, in percent.
    Reset { percent: usize },
    /// Does nothing any more after a part of it, and reads nothing.
    Vanish { percent: usize },
}

/// What an end means to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) side: Side,
    /// Behind its number; none: not even that.
    bytes: Option<usize>,
    /// Where it stalls, in percent, and for how many ms.
    stall: Option<(usize, usize)>,
    pub(super) last: Last,
}

impl Plan {
    pub(super) fn draw(side: Side, bytes_max: usize, stall_ms_max: usize, rng: &mut Rng) -> Self {
        let percent = rng.below(100);
        let last = match rng.below(100) {
            0..=54 => Last::Finish,
            55..=84 => Last::FinishSecond,
            85..=89 => Last::Leave,
            90..=95 => Last::Reset { percent },
            _ => Last::Vanish { percent },
        };
        let bytes = (!rng.percent(5)).then(|| rng.below(bytes_max));
        let stall = rng.percent(30).then(|| (rng.below(100), rng.within(1..=stall_ms_max)));
        Self { side, bytes, stall, last }
    }

    /// Sends everything, and waits for the other side.
    pub(super) fn orderly(side: Side, bytes: usize) -> Self {
        Self { side, bytes: Some(bytes), stall: None, last: Last::Finish }
    }

    fn is_orderly(&self) -> bool {
        matches!(self.last, Last::Finish | Last::FinishSecond)
    }
}

/// How an end saw that the other side sends no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// As it should be.
    End,
    /// An end that tells that it is none (TLS), or a reset.
    Cut,
}

/// What became of an end.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) plan: Plan,
    /// How a client introduced itself.
    pub(super) intro: Intro,
    pub(super) connection: ConnectionId,
    pub(super) secured: bool,
    /// All that it would send.
    stream: Vec<u8>,
    /// Whose number came.
    met: Option<usize>,
    number: Vec<u8>,
    received: usize,
    pub(super) seen: Option<Seen>,
    /// When it began and when it was over, and when it last sent or got something.
    pub(super) began: Instant,
    pub(super) over: Option<Instant>,
    pub(super) moved: Instant,
}

/// What may happen in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The network fails now and then.
    pub(super) faults: bool,
    /// Buffers and connections are few.
    pub(super) scarce: bool,
    /// For how long nothing may move.
    pub(super) idle: Duration,
}

/// Whether a backend may have been barred when a client came: one that resets a connection before it has taken the
/// PROXY header counts as one that can't be connected to.
fn barred(back: &Entry, client: &Entry) -> bool {
    let silent = back.plan.side == Side::Down && back.number.is_empty();
    let reset = silent && matches!(back.plan.last, Last::Reset { .. });
    let before =
        |over: Instant| client.over.is_none_or(|end| over <= end) && client.began <= over + BARRED_MAX;
    reset && back.over.is_some_and(before)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) rules: Rules,
    pub(super) ends: Vec<Entry>,
    /// Times without a cluster or without a frontend: who comes then is turned away.
    absences: Vec<(Instant, Option<Instant>)>,
    /// Since when the worker drains.
    pub(super) drained: Option<Instant>,
}

impl Book {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, ends: Vec::new(), absences: Vec::new(), drained: None }
    }

    /// One more end; gives its number.
    pub(super) fn begin(
        &mut self,
        plan: Plan,
        intro: Intro,
        connection: ConnectionId,
        now: Instant,
    ) -> usize {
        let id = self.ends.len();
        let mut stream = Vec::new();
        if let Some(bytes) = plan.bytes {
            stream.extend(format!("{id:0NUMBER_BYTES$}").into_bytes());
            stream.extend(content(id, plan.side, bytes));
        }
        self.ends.push(Entry {
            plan,
            stream,
            intro,
            connection,
            secured: false,
            met: None,
            number: Vec::new(),
            received: 0,
            seen: None,
            began: now,
            over: None,
            moved: now,
        });
        id
    }

    /// What an end has to do, behind its introduction.
    pub(super) fn script(&self, id: usize) -> Script {
        let plan = self.ends[id].plan;
        let mut script = Script::new();
        let mut stream = self.ends[id].stream.clone();
        if let Last::Reset { percent } | Last::Vanish { percent } = plan.last {
            stream.truncate(stream.len() * percent / 100);
        }
        self.ends[id].intro.write(&mut script);
        if self.ends[id].intro.is_good() {
            script.push_bytes(stream, plan.stall);
            match plan.last {
                Last::Finish => script.push(Act::Finish),
                Last::FinishSecond => {}
                Last::Leave => script.push(Act::Close),
                Last::Reset { .. } => script.push(Act::Reset),
                Last::Vanish { .. } => script.push(Act::Vanish),
            }
        }
        script
    }

    /// Bytes came to an end.
    pub(super) fn take(&mut self, id: usize, mut bytes: &[u8], now: Instant) -> Result<(), String> {
        let end = &mut self.ends[id];
        end.moved = now;
        if end.seen.is_some() {
            return Err(format!("end {id}: bytes behind the end"));
        }
        if end.met.is_none() {
            let count = bytes.len().min(NUMBER_BYTES - end.number.len());
            end.number.extend(&bytes[..count]);
            bytes = &bytes[count..];
            if end.number.len() < NUMBER_BYTES {
                return Ok(());
            }
            let number = std::str::from_utf8(&end.number).ok().and_then(|digits| digits.parse().ok());
            let other: usize = number.ok_or_else(|| format!("end {id}: other bytes at its beginning"))?;
            self.ends[id].received = NUMBER_BYTES;
            self.meet(id, other)?;
        }
        let end = &self.ends[id];
        let other = end.met.ok_or("nobody was met")?;
        let due = &self.ends[other].stream;
        if !due[end.received..].starts_with(bytes) {
            return Err(format!("end {id}: other bytes at {} of those of end {other}", end.received));
        }
        self.ends[id].received += bytes.len();
        Ok(())
    }

    fn meet(&mut self, id: usize, other: usize) -> Result<(), String> {
        let side = |id: usize| self.ends.get(id).map(|end| end.plan.side);
        if side(other).is_none() || side(id) == side(other) {
            return Err(format!("end {id} has met {other}, which is none for it"));
        }
        let theirs = self.ends[other].met;
        let rival = self.ends.iter().any(|end| end.met == Some(other));
        if rival || theirs.is_some_and(|theirs| theirs != id) {
            return Err(format!("end {id} has met {other}, which is another's: {theirs:?}"));
        }
        self.ends[id].met = Some(other);
        Ok(())
    }

    /// Whom this end met, as one of both knows.
    fn other(&self, id: usize) -> Option<usize> {
        self.ends[id].met.or_else(|| self.ends.iter().position(|end| end.met == Some(id)))
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self, id: usize, seen: Seen, world: &World) -> Result<(), String> {
        self.ends[id].seen.get_or_insert(seen);
        let Some(other) = self.other(id) else { return Ok(()) };
        let end = &self.ends[id];
        let whole = end.received == self.ends[other].stream.len();
        let theirs = &self.ends[other];
        let second = |end: &Entry| end.plan.last == Last::FinishSecond;
        let alive = second(end) && second(theirs) && theirs.seen.is_none() && !self.is_tolerant(id);
        let idle = world.now.saturating_duration_since(end.moved.max(theirs.moved));
        // Timers have their grain.
        let timed_out = idle + Duration::from_millis(50) >= self.rules.idle;
        if alive && whole && !timed_out {
            return Err(format!("end {id}: given up after {idle:?} without a byte"));
        }
        // Who can tell an end from a cut is told of the whole alone.
        // Who vanished may close in the middle, as if that were all. Who left and is sent more resets the connection
        // behind its end: here, that may take away what came before the end.
        let left = matches!(theirs.plan.last, Last::Vanish { .. } | Last::Leave);
        let frozen = [end, theirs].iter().any(|end| world.connections[end.connection].frozen);
        let given_up = timed_out || frozen || left || self.drained.is_some();
        if seen == Seen::End && end.secured && !whole && !given_up {
            return Err(format!("end {id}: an end that looks whole, after {} bytes", end.received));
        }
        Ok(())
    }

    /// Whether something but the ends themselves may have cut it.
    fn is_tolerant(&self, id: usize) -> bool {
        let over = self.ends[id].over;
        let drained = self.drained.is_some_and(|at| over.is_none_or(|over| over >= at));
        self.rules.faults || self.rules.scarce || drained
    }

    /// Clients whose PROXY headers were wrong: as many at least, and at most, since a reset may cut a good one.
    pub(super) fn wrong_intros(&self) -> RangeInclusive<i64> {
        let count = |is_such: fn(&Entry) -> bool| {
            i64::try_from(self.ends.iter().filter(|end| is_such(end)).count()).expect("few")
        };
        let wrong = count(|end| end.intro.is_wrong());
        let resets = |end: &Entry| {
            let named = end.intro.is_good() && end.intro != Intro::None;
            named && matches!(end.plan.last, Last::Reset { .. })
        };
        wrong..=wrong + count(resets)
    }

    /// Whether clients may be lost for no fault of theirs.
    pub(super) fn is_lenient(&self) -> bool {
        self.rules.faults
            || self.rules.scarce
            || self
                .drained
                .is_some_and(|at| self.ends.iter().any(|end| end.over.is_none_or(|over| over >= at)))
    }

    /// Whether a client got all that its backend had to say.
    pub(super) fn is_served(&self, id: usize) -> bool {
        self.other(id).is_some_and(|other| self.ends[id].received == self.ends[other].stream.len())
    }

    /// A backend was told by a PROXY header whom it speaks with.
    pub(super) fn check_said(
        &self,
        id: usize,
        version: u8,
        said: Option<&Said>,
        world: &World,
    ) -> Result<(), String> {
        let (Some(said), Some(other)) = (said, self.other(id)) else { return Ok(()) };
        let client = &self.ends[other];
        let from = world.connections[client.connection].from;
        let (from, to) = client.intro.ends().unwrap_or((from, front_address()));
        if (said.from, said.to) != (from, to) {
            return Err(format!("end {id} was told {said:?} of {from} to {to}"));
        }
        if said.named != (client.intro.has_addition() && version == 2) {
            return Err(format!("end {id} was told {said:?}, where {:?} was said", client.intro));
        }
        Ok(())
    }

    /// From now on there is somewhere to go, or nowhere.
    pub(super) fn turn(&mut self, present: bool, now: Instant) {
        match self.absences.last_mut() {
            Some((_, until @ None)) if present => *until = Some(now),
            Some((_, None)) => {}
            _ if present => {}
            _ => self.absences.push((now, None)),
        }
    }

    fn may_be_turned_away(&self, end: &Entry) -> bool {
        let overlaps = |&(from, until): &(Instant, Option<Instant>)| {
            end.over.is_none_or(|over| from <= over) && until.is_none_or(|until| until >= end.began)
        };
        self.absences.iter().any(overlaps) || self.ends.iter().any(|back| barred(back, end))
    }

    /// Everything is over: what was promised was done. Gives how many clients met a backend.
    pub(super) fn check(&self) -> Result<usize, String> {
        let mut met = 0;
        let ends = self.ends.iter().enumerate();
        // Backends that nobody knows of: they did not say who they are, and asked nobody.
        let mut strangers =
            ends.clone().filter(|(id, end)| end.plan.side == Side::Down && self.other(*id).is_none()).count();
        for (id, end) in ends.filter(|(_, end)| end.plan.side == Side::Up) {
            self.check_silence(id)?;
            if let Some(other) = self.other(id) {
                met += 1;
                self.check_pair(id, other)?;
                self.check_pair(other, id)?;
                if !end.intro.is_good() {
                    return Err(format!("end {id} was let in with {:?}", end.intro));
                }
            } else if end.intro.is_good() && end.plan.is_orderly() && !self.is_tolerant(id) {
                let excused = end.plan.bytes.is_none() || self.may_be_turned_away(end);
                if !excused && strangers == 0 {
                    return Err(format!("end {id} was turned away: {:?}, {:?}", end.plan, end.seen));
                }
                strangers = strangers.saturating_sub(usize::from(!excused));
            }
        }
        Ok(met)
    }

    /// Who says nothing is waited for as long as was said, and no longer.
    fn check_silence(&self, id: usize) -> Result<(), String> {
        let end = &self.ends[id];
        let Some(over) = end.over.filter(|_| end.intro.is_silent() && !self.is_tolerant(id)) else {
            return Ok(());
        };
        let (took, due) = (over - end.began, Duration::from_secs(PREREAD_SECONDS.into()));
        if took < due || took > due + Duration::from_secs(1) {
            return Err(format!("end {id}: its PROXY header was waited for {took:?}"));
        }
        Ok(())
    }

    /// An end got what its other one had to say.
    fn check_pair(&self, id: usize, other: usize) -> Result<(), String> {
        let (end, theirs) = (&self.ends[id], &self.ends[other]);
        if self.is_tolerant(id) || !end.plan.is_orderly() || !theirs.plan.is_orderly() {
            return Ok(());
        }
        let (due, received) = (self.ends[other].stream.len(), end.received.max(end.number.len()));
        if received < due {
            return Err(format!("end {id}: {received} bytes of {due} of end {other}"));
        }
        let idles = end.plan.last == Last::FinishSecond && theirs.plan.last == Last::FinishSecond;
        if end.seen != Some(Seen::End) && !idles {
            return Err(format!("end {id}: ended by {:?}, where {other} ended its direction", end.seen));
        }
        Ok(())
    }
}
