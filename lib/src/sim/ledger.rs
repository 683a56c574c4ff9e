//! What each side saw, and whether that may be.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::model::{Framed, Plan};
use super::narrow::Narrow;
use super::orders::Removals;
use super::secured::Handshakes;
use super::site::Site;
use super::terms::Terms;
use super::tunnel::{End, Ending};
use super::verdicts::Verdicts;
use super::world::{ConnectionId, Sabotage, World};

/// How the proxy says that a request was given up for others.
const EVICTED: &[u8] = b"half sent";

/// How a request ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The planned answer, exactly; or a tunnel that went as planned.
    Planned,
    /// An answer of the proxy itself.
    Own(u16),
    /// The connection ended without a byte.
    Silence,
    /// No answer, or not all of it, and that was plain to see.
    Cut,
}

/// What was seen of one request.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// When its head reached a backend: which one, and whether that connection had served another request before.
    pub(super) arrivals: Vec<(SocketAddr, bool)>,
    pub(super) outcome: Option<Outcome>,
    /// The era in which the client began to ask, and when that was.
    pub(super) asked: Option<(usize, Instant)>,
    /// Since when the connection stands on which it was asked.
    pub(super) connected: Option<Instant>,
    /// Both ends of its tunnel.
    pub(super) tunnel: Tunnelled,
    /// The client was refused with its handshake.
    pub(super) turned_away: bool,
    /// Was asked on a connection whose certificate is for others.
    pub(super) misdirected: bool,
    /// Its client, which had asked for nothing more, was not listened to any more when it said so.
    pub(super) unheard: bool,
}

/// A tunnel, as both of its ends saw it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tunnelled {
    /// The connection of each end, and how many bytes of each of its directions were no part of the tunnel.
    pub(super) front: Option<Base>,
    pub(super) back: Option<Base>,
    /// When either side last sent or got a byte.
    pub(super) moved_at: Option<Instant>,
}

/// Where on a connection a tunnel begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base {
    pub(super) connection: ConnectionId,
    /// Bytes to the proxy before.
    pub(super) sent: u64,
    /// Bytes from the proxy before.
    pub(super) got: u64,
}

/// What may happen in this run besides the plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Anything but a lie.
    pub(super) faults: bool,
    /// 503, or no answer, before the request went anywhere.
    pub(super) scarce: bool,
    /// The proxy is stopping.
    pub(super) draining: bool,
    pub(super) terms: Terms,
    /// What one cluster may have in flight.
    pub(super) narrow: Option<Narrow>,
}

impl Rules {
    /// Whether requests are refused that would have to wait.
    pub(super) fn refuses(&self) -> bool {
        self.narrow.is_some_and(Narrow::refuses)
    }

    /// Whether a record that came or went in part may be given up for others, and its connection with it.
    pub(super) fn gives_records_up(&self) -> bool {
        self.scarce && self.terms.tls.is_some()
    }
}

/// What is configured of [`Site::Sometimes`]. Each change begins an era.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Era {
    pub(super) number: usize,
    pub(super) frontend: bool,
    pub(super) cluster: bool,
    pub(super) backends: bool,
}

impl Era {
    /// How the proxy answers by itself now; not at all if it has a backend to ask.
    fn own_status(self) -> Option<u16> {
        match (self.frontend, self.cluster && self.backends) {
            (false, _) => Some(404),
            (true, false) => Some(503),
            (true, true) => None,
        }
    }
}

/// Plans and what became of them.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) plans: Vec<Plan>,
    pub(super) seen: Vec<Seen>,
    pub(super) rules: Rules,
    pub(super) era: Era,
    /// When the worker was told to stop.
    pub(super) drained_at: Option<Instant>,
    /// Until when the listener was gone last.
    pub(super) gone_until: Option<Instant>,
    /// Pooled connections whose backend closed within the head of the next request.
    pub(super) races: usize,
    /// Pooled connections that a backend closed without a word. A race too, if the proxy was sending.
    pub(super) closed_silently: Vec<ConnectionId>,
    /// Backends that nobody is to be sent to.
    pub(super) removals: Removals,
    pub(super) verdicts: Verdicts,
    /// Where the listener speaks TLS.
    pub(super) handshakes: Option<Handshakes>,
}

impl Ledger {
    pub(super) fn new(rules: Rules, handshakes: Option<Handshakes>) -> Self {
        Self {
            plans: Vec::new(),
            seen: Vec::new(),
            rules,
            era: Era::default(),
            drained_at: None,
            gone_until: None,
            races: 0,
            closed_silently: Vec::new(),
            removals: Removals::default(),
            verdicts: Verdicts::default(),
            handshakes,
        }
    }

    pub(super) fn handshakes_mut(&mut self) -> Result<&mut Handshakes, String> {
        self.handshakes.as_mut().ok_or_else(|| "handshakes where there is no TLS".to_owned())
    }

    /// Whether a request may be the last on its connection though both sides would go on: the listener was gone since.
    /// One that was removed and comes back is another listener.
    pub(super) fn ends_early(&self, id: usize) -> bool {
        let connected = self.seen[id].connected;
        let gone = self.gone_until.is_some_and(|until| connected.is_none_or(|at| at <= until));
        gone || self.rules.draining || self.rules.faults
    }

    /// The client begins to ask.
    pub(super) fn ask(&mut self, id: usize, world: &World, connected: Instant) {
        self.seen[id].connected = Some(connected);
        let late = Duration::from_secs(u64::from(world.sabotage == Some(Sabotage::ForgetBeginnings)));
        self.seen[id].asked = Some((self.era.number, world.now + late));
    }

    /// A request reached a backend.
    pub(super) fn arrive(&mut self, id: usize, at: SocketAddr, again: bool) -> Result<(), String> {
        self.seen[id].arrivals.push((at, again));
        let cluster = self.plans[id].request.site.cluster();
        let removed = self.removals.since(cluster, at);
        if let (Some(removed), Some((_, asked))) = (removed, self.seen[id].asked)
            && asked > removed
        {
            return Err(format!("request {id}: sent to {at}, which was removed before it was asked for"));
        }
        if let Some((_, asked)) = self.seen[id].asked
            && cluster == Site::Plain.cluster()
            && !self.verdicts.may(at, asked)
        {
            return Err(format!(
                "request {id}: sent to {at}, which was said to be dead before it was asked for"
            ));
        }
        Ok(())
    }

    /// A half-sent head is given up for others, but not one that has only just begun.
    pub(super) fn check_eviction(&self, id: usize, body: &[u8], now: Instant) -> Result<(), String> {
        let evicted = body.windows(EVICTED.len()).any(|window| window == EVICTED);
        let since = self.seen[id].asked.map(|(_, since)| now.saturating_duration_since(since));
        // A handshake is a beginning, too.
        let secured = self.rules.terms.tls.is_some();
        if evicted && ((since < Some(Duration::from_millis(500)) && !secured) || !self.rules.scarce) {
            return Err(format!("request {id}: given up for others after {since:?}"));
        }
        Ok(())
    }

    pub(super) fn settle(&mut self, id: usize, outcome: Outcome) -> Result<(), String> {
        if let Some(before) = self.seen[id].outcome.replace(outcome) {
            return Err(format!("request {id}: {outcome:?} after {before:?}"));
        }
        let Rules { faults, scarce, draining, .. } = self.rules;
        let lenient = faults || scarce || draining;
        let misdirected = self.seen[id].misdirected;
        let refused = outcome == Outcome::Own(421);
        if (refused && !misdirected) || (misdirected && !refused && (!lenient || outcome == Outcome::Planned))
        {
            return Err(format!("request {id}: {outcome:?}, misdirected: {misdirected}"));
        }
        if misdirected || self.seen[id].turned_away {
            return Ok(());
        }
        let same_era = self.seen[id].asked.is_some_and(|(era, _)| era == self.era.number);
        if self.plans[id].request.site != Site::Sometimes || !same_era || lenient {
            return Ok(());
        }
        let own = matches!(outcome, Outcome::Own(404 | 503));
        match self.era.own_status() {
            // What is too large goes nowhere, whether there is somebody or not.
            Some(503) if outcome == Outcome::Own(413) => Ok(()),
            Some(status) if outcome != Outcome::Own(status) => {
                Err(format!("request {id}: {outcome:?} while only {status} was right"))
            }
            None if own => Err(format!("request {id}: {outcome:?} while its site was there")),
            _ => Ok(()),
        }
    }

    /// Bytes of a tunnel were sent, or came.
    pub(super) fn tunnel_moved(&mut self, id: usize, now: Instant) {
        self.seen[id].tunnel.moved_at = Some(now);
    }

    /// A direction of a tunnel has ended.
    pub(super) fn check_tunnel_end(&self, end: &End, now: Instant) -> Result<(), String> {
        if self.rules.faults {
            return Ok(());
        }
        self.check_time(end, now).map_err(|error| format!("tunnel {}: {error}", end.id()))?;
        end.complain().filter(|_| !self.rules.draining).map_or(Ok(()), Err)
    }

    /// A tunnel broke.
    pub(super) fn check_tunnel_reset(&self, end: &End) -> Result<(), String> {
        let Rules { faults, draining, .. } = self.rules;
        if faults || draining || self.rules.gives_records_up() || !end.ending().is_orderly() {
            return Ok(());
        }
        Err(format!("tunnel {}: a reset, where both sides ended in order", end.id()))
    }

    /// When a tunnel may end: when its sides have ended it, when nothing moved for its time, or when the worker
    /// stops and nothing moves.
    fn check_time(&self, end: &End, now: Instant) -> Result<(), String> {
        let moved_at = self.seen[end.id()].tunnel.moved_at.ok_or("never began")?;
        let slack = Duration::from_millis(500);
        if let Some(drained_at) = self.drained_at {
            let late = now.saturating_duration_since(moved_at.max(drained_at)) > slack;
            return if late { Err("was held open while the worker drained".to_owned()) } else { Ok(()) };
        }
        let idle = now.saturating_duration_since(moved_at);
        let limit = Duration::from_secs(self.rules.terms.tunnel_seconds.into());
        if end.ending() == Ending::Nobody && (idle + slack < limit || idle > limit + slack) {
            return Err(format!("ended after {idle:?} without a byte, instead of {limit:?}"));
        }
        if end.ending() != Ending::Nobody && idle > limit.mul_f64(0.9) {
            return Err(format!("ended after {idle:?} without a byte, though both sides had ended it"));
        }
        Ok(())
    }

    /// Judges all outcomes once everything is over.
    pub(super) fn check_outcomes(&self, world: &World) -> Result<(), String> {
        let (mut raced, mut raced_heads) = (0, 0);
        for (plan, seen) in self.plans.iter().zip(&self.seen) {
            let id = plan.id;
            let outcome = seen.outcome.ok_or_else(|| format!("request {id}: no outcome"))?;
            let arrivals = seen.arrivals.len();
            let arrivals_max = if plan.is_idempotent() && self.rules.faults { 2 } else { 1 };
            if arrivals > arrivals_max {
                return Err(format!(
                    "request {id} {}: reached backends {arrivals} times",
                    plan.request.method
                ));
            }
            if let [(first, false), (second, _)] = seen.arrivals[..]
                && first == second
            {
                return Err(format!("request {id}: sent again to {first}, whose fresh connection failed"));
            }
            if (seen.misdirected || seen.turned_away) && arrivals > 0 {
                return Err(format!("request {id}: reached a backend past a refusal of TLS"));
            }
            if !plan.request.site.is_served() && arrivals > 0 {
                return Err(format!("request {id}: reached a backend past {:?}", plan.request.site));
            }
            let given_up = self.rules.gives_records_up() && outcome == Outcome::Cut;
            check_conservation(seen, world, self.drained_at.is_some(), given_up)
                .map_err(|error| format!("tunnel {id}: {error}"))?;
            if self.rules.faults {
                continue;
            }
            let lost = outcome == Outcome::Own(502) && arrivals == 0;
            raced += usize::from(lost);
            raced_heads += usize::from(lost && plan.request.body.bytes == 0);
            let unheard = seen.unheard && outcome == Outcome::Cut;
            if !(seen.misdirected || seen.turned_away || unheard || self.may_be(plan, outcome, arrivals)) {
                return Err(format!(
                    "request {id}: {outcome:?} with {arrivals} arrivals, in a run without faults: {plan:?}"
                ));
            }
        }
        let closed = |sent_to: &dyn Fn(ConnectionId) -> bool| {
            self.races + self.closed_silently.iter().filter(|&&id| sent_to(id)).count()
        };
        let races = closed(&|id| world.was_sent_to_closed(id));
        if raced > races {
            return Err(format!("{raced} requests failed for {races} races with closing backends"));
        }
        // A head of which no backend can have seen a byte is sent again, whatever its method.
        let seen = closed(&|id| world.was_closed_unread(id));
        if raced_heads > seen && !self.rules.scarce {
            return Err(format!("{raced_heads} heads failed for {seen} of which a backend had a part"));
        }
        Ok(())
    }

    /// Whether a request may end so where nothing goes wrong.
    fn may_be(&self, plan: &Plan, outcome: Outcome, arrivals: usize) -> bool {
        let Rules { scarce, draining, terms, .. } = self.rules;
        let untouched = arrivals == 0;
        let site = plan.request.site;
        let too_large = plan.is_too_large(&terms);
        let slow_sender = plan.dawdles_too_much() && plan.request.trickle.is_some();
        let slow_reader = plan.dawdles_too_much() && plan.request.sip.is_some();
        match outcome {
            Outcome::Planned => {
                // One in chunks may be answered before it is.
                let announced = plan.request.body.framed == Framed::Length;
                let refused_size = too_large && (announced || !plan.response.early);
                let refused = refused_size || plan.dawdles_too_much() || plan.switches_unasked();
                arrivals == 1 && site.is_served() && !refused
            }
            // A part of the request may have gone when the rest has no buffer to come to.
            Outcome::Own(503) if scarce => arrivals <= 1,
            Outcome::Own(503) if site == Site::Sometimes => untouched,
            Outcome::Own(503) if self.rules.refuses() => site.is_served() && untouched,
            Outcome::Own(404) if site == Site::Sometimes => untouched,
            Outcome::Own(413) => site.is_served() && too_large,
            Outcome::Own(408) => slow_sender,
            Outcome::Own(502) if plan.switches_unasked() => arrivals <= 1,
            // A reset may overtake the head that changes the protocol.
            Outcome::Own(502) if plan.switches() && arrivals == 1 => !plan.tunnel.ending.is_orderly(),
            // Where buffers are few no head is kept for being sent again.
            Outcome::Own(502) => site.is_served() && (scarce || !plan.is_replayable()) && untouched,
            Outcome::Own(status) => site.own_status() == Some(status) && untouched,
            Outcome::Silence => site == Site::Silent && untouched,
            Outcome::Cut if slow_reader => true,
            Outcome::Cut if self.rules.gives_records_up() => true,
            Outcome::Cut if plan.switches() && arrivals == 1 => draining || !plan.tunnel.ending.is_orderly(),
            Outcome::Cut => (scarce || draining) && untouched,
        }
    }
}

/// What the proxy took from one end of a tunnel it gave to the other, unless that was not to be had.
fn check_conservation(seen: &Seen, world: &World, drained: bool, given_up: bool) -> Result<(), String> {
    let Tunnelled { front: Some(front), back: Some(back), .. } = seen.tunnel else { return Ok(()) };
    for (from, to) in [(front, back), (back, front)] {
        let taken = world.taken_by_proxy(from.connection).saturating_sub(from.sent);
        let given = world.given_by_proxy(to.connection).saturating_sub(to.got);
        // One that ends with the worker is read out until its farewell has gone.
        let read_out = drained && world.tls(from.connection).is_some();
        let whole = world.is_unbroken(to.connection) && !world.is_torn(from.connection);
        let sound = whole && !read_out && !given_up;
        if given > taken || (given < taken && sound) {
            return Err(format!(
                "{taken} bytes taken from c{}, {given} given to c{}",
                from.connection, to.connection
            ));
        }
    }
    Ok(())
}
