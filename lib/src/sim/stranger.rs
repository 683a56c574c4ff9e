//! A client that means no good, or has none to say: it stalls within its handshake, sends what is no TLS, spoils its
//! records. It asks for nothing that it is to be given. It has to be got rid of in time, and nobody else may notice.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustls::Error;

use super::ledger::Ledger;
use super::rng::Rng;
use super::script::millis;
use super::tls::{Tls, User};
use super::world::{ActorRead, ConnectionId, World};

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mischief {
    /// Sends a part of its hello, or all of it and nothing that must follow.
    Stalls { percent: usize },
    /// The same, and goes.
    Leaves { percent: usize, resets: bool },
    /// Sends what is no TLS.
    TalksGarbage { kind: usize },
    /// A byte of its hello is another.
    SpoilsHello { percent: usize },
    /// Its first record behind the handshake is not what was sealed.
    SpoilsRecord { at: u64 },
    /// Sends a part of that record.
    Halves { at: u64 },
    /// Has nothing to say once it is through.
    Idles,
}

impl Mischief {
    fn draw(rng: &mut Rng) -> Self {
        let percent = rng.within(0..=100);
        let at = rng.below(60) as u64;
        match rng.below(8) {
            0 => Self::Stalls { percent },
            1 => Self::Stalls { percent: 100 },
            2 => Self::Leaves { percent, resets: rng.percent(50) },
            3 => Self::TalksGarbage { kind: rng.below(GARBAGE.len()) },
            4 => Self::SpoilsHello { percent },
            5 => Self::SpoilsRecord { at },
            6 => Self::Halves { at },
            _ => Self::Idles,
        }
    }

    /// Whether it never comes to the end of a handshake, and says nothing wrong.
    fn stalls(self) -> bool {
        matches!(self, Self::Stalls { .. })
    }
}

const GARBAGE: [&[u8]; 8] = [
    b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    // Of SSL 2, once.
    b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10\x01\x00\x80",
    // A record that is longer than any, an empty one, and such of kinds that can't come first.
    b"\x16\x03\x01\xff\xff\x01",
    b"\x16\x03\x01\x00\x00",
    b"\x17\x03\x03\x00\x01\x00",
    b"\x15\x03\x01\x00\x02\x01\x00",
    // A hello that is too long for any record, of which nothing comes.
    b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
];

/// What it would ask for.
const REQUEST: &[u8] = b"GET /stranger HTTP/1.1\r\nHost: nowhere.test\r\n\r\n";

/// See the module.
#[derive(Debug)]
pub(super) struct Stranger {
    address: SocketAddr,
    mischief: Mischief,
    user: User,
    /// It speaks a version that the listener does not.
    unserved: bool,
    starts_at: Instant,
    live: Option<ConnectionId>,
    /// What it wanted to do was done.
    acted: bool,
    answered: bool,
    done: bool,
    rng: Rng,
}

impl Stranger {
    pub(super) fn draw(
        address: SocketAddr,
        (user, unserved): (User, bool),
        now: Instant,
        mut rng: Rng,
    ) -> Self {
        let latest = rng.pick(&[20, 3000]);
        let starts_at = now + millis(rng.below(latest));
        let mischief = Mischief::draw(&mut rng);
        let (live, acted, answered, done) = (None, false, false, false);
        Self { address, mischief, user, unserved, starts_at, live, acted, answered, done, rng }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        (!self.done && self.live.is_none()).then_some(self.starts_at)
    }

    /// Does one thing, if there is one to do.
    pub(super) fn step(&mut self, world: &mut World, ledger: &mut Ledger) -> Result<bool, String> {
        if self.done || world.now < self.starts_at {
            return Ok(false);
        }
        let Some(id) = self.live else {
            self.connect(world);
            return Ok(true);
        };
        let max = world.pace.draw(&mut world.rng);
        let got = world.receive(id, max);
        if world.is_answered(id) && !std::mem::replace(&mut self.answered, true) {
            ledger.handshakes_mut()?.answer();
        }
        match got {
            ActorRead::Progress => Ok(true),
            // All that it may be told is that it took too long.
            ActorRead::Bytes(bytes) if self.spoils_record() && bytes.starts_with(b"HTTP/1.1 404") => {
                Err(format!("{:?} was answered", self.mischief))
            }
            ActorRead::Bytes(_) => Ok(true),
            ActorRead::Nothing => self.act(id, world),
            ActorRead::End | ActorRead::Reset | ActorRead::Truncated => self.leave(None, world, ledger),
            ActorRead::Broken(error) => self.leave(Some(&error), world, ledger),
        }
    }

    fn connect(&mut self, world: &mut World) {
        let tls = match self.mischief {
            Mischief::TalksGarbage { .. } => None,
            mischief => {
                let mut tls = Tls::new(&self.user, Some("a.test"), self.rng.fork());
                match mischief {
                    Mischief::Stalls { percent } | Mischief::Leaves { percent, .. } => tls.mute(percent),
                    Mischief::SpoilsHello { percent } => tls.spoil(percent),
                    _ => {}
                }
                Some(tls)
            }
        };
        self.live = world.connect_client(self.address, tls);
        // Nobody listens.
        self.done = self.live.is_none();
        world.note(|| format!("{}: {:?}", self.address, self.mischief));
    }

    /// Does what it came for, once.
    fn act(&mut self, id: ConnectionId, world: &mut World) -> Result<bool, String> {
        let established = world.handshaken(id).is_some() && world.is_sent(id);
        if self.acted {
            return Ok(false);
        }
        match self.mischief {
            Mischief::TalksGarbage { kind } => {
                let rest = GARBAGE[kind];
                let sent = usize::try_from(world.sent_by_actor(id)).expect("fits");
                let count = world.send(id, &rest[sent..]).unwrap_or(rest.len());
                self.acted = sent + count >= rest.len();
                return Ok(count > 0);
            }
            Mischief::Leaves { resets, .. } if world.is_sent(id) => {
                self.acted = true;
                self.done = resets;
                if resets {
                    world.reset(id);
                } else {
                    world.finish(id);
                }
                return Ok(true);
            }
            Mischief::SpoilsRecord { at } | Mischief::Halves { at } if established => {
                self.acted = true;
                let halves = matches!(self.mischief, Mischief::Halves { .. });
                world.spoil_next(id, at, halves);
                return Ok(world.send(id, REQUEST).is_some());
            }
            _ => {}
        }
        Ok(false)
    }

    /// The proxy has ended it.
    fn leave(
        &mut self,
        error: Option<&Error>,
        world: &mut World,
        ledger: &mut Ledger,
    ) -> Result<bool, String> {
        let Some(id) = self.live else { return Ok(false) };
        let established = world.handshaken(id).is_some();
        world.close(id);
        self.done = true;
        let rules = ledger.rules;
        let handshakes = ledger.handshakes_mut()?;
        let mischief = self.mischief;
        // Refused for want of a certificate, as may be: who sends on behind its hello may be reset before it reads that.
        if !established || matches!(mischief, Mischief::SpoilsHello { .. }) {
            handshakes.spoil();
        }
        // What the proxy wrote is fine, if it could know what we said.
        let may_differ = matches!(mischief, Mischief::SpoilsHello { .. });
        match error {
            Some(Error::AlertReceived(_)) | None if self.unserved => return Ok(true),
            Some(Error::AlertReceived(_)) | None => {}
            Some(_) if may_differ => {}
            Some(other) => return Err(format!("{mischief:?}: {other:?}")),
        }
        let lenient = rules.faults || rules.scarce || rules.draining;
        let Some(waited) = world.since_accepted(id).filter(|_| !lenient) else { return Ok(true) };
        let limit = handshakes.time();
        let slack = Duration::from_millis(300);
        // A hello that differs where nobody looks (RFC 8446 §5.1: the version of a record) is as good as any.
        let in_handshake = !self.mischief_is_late() && !established;
        if in_handshake && waited > limit + slack {
            return Err(format!("{mischief:?}: ended after {waited:?}, instead of {limit:?}"));
        }
        if mischief.stalls() {
            if waited + slack < limit {
                return Err(format!("{mischief:?}: ended after {waited:?}, before {limit:?}"));
            }
            handshakes.time_out();
        }
        Ok(true)
    }

    fn spoils_record(&self) -> bool {
        matches!(self.mischief, Mischief::SpoilsRecord { .. })
    }

    /// Whether it comes to the end of its handshake.
    fn mischief_is_late(&self) -> bool {
        matches!(self.mischief, Mischief::SpoilsRecord { .. } | Mischief::Halves { .. } | Mischief::Idles)
    }
}
