//! A client: sends its requests in order, on as few connections as the answers allow, and judges what
//! comes back.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use super::ledger::{Base, Ledger, Outcome, Rules};
use super::message::{Delimiter, Event, Head, Reader};
use super::model::{Fault, Plan, Side, content, expect};
use super::rng::Rng;
use super::script::{Act, Left, Script, millis};
use super::site::Site;
use super::terms::Page;
use super::tls::{Handshaken, Tls, User};
use super::tunnel::End;
use super::world::{ActorRead, ConnectionId, World};

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    queue: VecDeque<usize>,
    live: Option<Live>,
    /// Requests under way at a time.
    depth: usize,
    /// Ends its direction after the last request, and reads on.
    half_closes: bool,
    /// Leaves its last connection open, idle, until the proxy closes it.
    idles: bool,
    resting_until: Option<Instant>,
    /// What it speaks TLS with, if it does.
    user: Option<User>,
    /// It was refused with another name than the one that it needs: no more of that.
    rebuffed: bool,
    rng: Rng,
}

/// One connection.
#[derive(Debug)]
struct Live {
    id: ConnectionId,
    since: Instant,
    script: Script,
    awaiting: VecDeque<usize>,
    reader: Reader,
    informed: Vec<u16>,
    head: Option<Head>,
    /// The answer said that it is the last one.
    closing: bool,
    /// We said that we ask nothing more on this connection.
    last_asked: bool,
    continued: bool,
    read_from: Option<Instant>,
    tunnel: Option<End>,
    /// The name that its handshake asked for.
    sni: Option<&'static str>,
    handshaken: Option<Handshaken>,
    /// Something came of the handshake, and behind it.
    answered: bool,
    confirmed: bool,
    /// The next request can't be asked here.
    unfit: bool,
}

impl Client {
    pub(super) fn new(
        address: SocketAddr,
        queue: VecDeque<usize>,
        depth: usize,
        user: Option<User>,
        mut rng: Rng,
    ) -> Self {
        let (half_closes, idles) = (rng.percent(10), rng.percent(10));
        let (live, resting_until, rebuffed) = (None, None, false);
        Self { address, queue, live, depth, half_closes, idles, resting_until, user, rebuffed, rng }
    }

    pub(super) fn is_done(&self) -> bool {
        self.queue.is_empty() && self.live.is_none()
    }

    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        let live = self.live.as_ref();
        let times =
            [self.resting_until, live.and_then(|l| l.script.next_wakeup()), live.and_then(|l| l.read_from)];
        times.into_iter().flatten().min()
    }

    /// Does one thing, if there is one to do.
    pub(super) fn step(&mut self, world: &mut World, ledger: &mut Ledger) -> Result<bool, String> {
        if self.resting_until.is_some_and(|until| world.now < until) {
            return Ok(false);
        }
        self.resting_until = None;
        if self.live.is_none() {
            return self.connect(world, ledger);
        }
        self.feed(world, ledger);
        if self.live.as_ref().is_some_and(|live| live.tunnel.is_some()) {
            return self.step_tunnel(world, ledger);
        }
        if self.rng.percent(50) && self.send(world) {
            return Ok(true);
        }
        Ok(self.receive(world, ledger)? || self.send(world))
    }

    fn connect(&mut self, world: &mut World, ledger: &mut Ledger) -> Result<bool, String> {
        let Some(&first) = self.queue.front() else { return Ok(false) };
        let host = ledger.plans[first].request.site.host();
        let others = [None, Some("elsewhere.example"), Some("sometimes.test"), Some("a.test")];
        let strays = !self.rebuffed && self.user.is_some() && self.rng.percent(20);
        let sni = if strays { self.rng.pick(&others) } else { Some(host) };
        let rng = &mut self.rng;
        let tls = self.user.as_ref().map(|user| Tls::new(user, sni, rng.fork()));
        match world.connect_client(self.address, tls) {
            Some(id) => {
                self.live = Some(Live {
                    id,
                    since: world.now,
                    script: Script::new(),
                    awaiting: VecDeque::new(),
                    reader: Reader::default(),
                    informed: Vec::new(),
                    head: None,
                    closing: false,
                    last_asked: false,
                    continued: false,
                    read_from: None,
                    tunnel: None,
                    sni,
                    handshaken: None,
                    answered: false,
                    confirmed: false,
                    unfit: false,
                });
            }
            None if ledger.rules.draining => {
                for id in std::mem::take(&mut self.queue) {
                    ledger.settle(id, Outcome::Cut)?;
                }
            }
            None if world.paused => {
                self.resting_until = Some(world.now + millis(self.rng.within(1..=20)));
            }
            None => return Err("nobody listens".to_owned()),
        }
        Ok(true)
    }

    /// Takes the next requests from the queue, as far as pipelining goes.
    fn feed(&mut self, world: &World, ledger: &mut Ledger) {
        let Some(live) = &mut self.live else { return };
        if live.closing || live.last_asked || live.script.left != Left::No || !live.script.is_empty() {
            return;
        }
        if let Some(&id) = self.queue.front()
            && !may_ask(id, live, ledger, self.user.is_some())
        {
            return;
        }
        if live.awaiting.len() < self.depth
            && let Some(id) = self.queue.pop_front()
        {
            if live.awaiting.is_empty() {
                live.continued = false;
            }
            live.awaiting.push_back(id);
            let plan = &ledger.plans[id];
            // What came behind an upgrade might belong to the other protocol.
            live.last_asked = !plan.request.keep_alive || plan.request.upgrade;
            let (switches, sound) = (plan.switches(), plan.fault.is_none());
            ledger.ask(id, world, live.since);
            write_request(&mut live.script, id, ledger, &mut self.rng);
            if switches && sound {
                let early = ledger.plans[id].tunnel.early(id, Side::Up).len();
                let sent = world.sent_by_actor(live.id) + (live.script.unsent() - early) as u64;
                ledger.seen[id].tunnel.front = Some(Base { connection: live.id, sent, got: u64::MAX });
            }
            // Who has to wait, and might ask for more, is not to end its direction. An upgrade does not say that it is the
            // last.
            let says_last = !ledger.plans[id].request.keep_alive;
            let may_end = ledger.rules.narrow.is_none() || (self.depth == 1 && says_last);
            if self.queue.is_empty() && self.half_closes && may_end && !ledger.plans[id].switches() {
                live.script.push(Act::Finish);
            }
        }
    }

    fn send(&mut self, world: &mut World) -> bool {
        self.live.as_mut().is_some_and(|live| live.script.step(live.id, live.continued, world))
    }

    fn receive(&mut self, world: &mut World, ledger: &mut Ledger) -> Result<bool, String> {
        let Some(live) = &mut self.live else { return Ok(false) };
        if live.script.left == Left::Closed {
            return self.leave(true, world, ledger).map(|()| true);
        }
        if live.read_from.is_some_and(|from| world.now < from) {
            return Ok(false);
        }
        live.read_from = None;
        let mut max = world.pace.draw(&mut world.rng);
        let through = self.user.is_none() || live.handshaken.is_some();
        let sip = live.awaiting.front().filter(|_| through).and_then(|&id| ledger.plans[id].request.sip);
        if let Some(sip) = sip {
            max = max.min(sip.piece);
        }
        if live.script.left == Left::Vanished {
            // It reads nothing, and only learns that the connection is over.
            let over =
                matches!(world.receive(live.id, 0), ActorRead::End | ActorRead::Reset | ActorRead::Truncated);
            return if over { self.leave(true, world, ledger).map(|()| true) } else { Ok(false) };
        }
        let before = world.wire_read_by_actor(live.id);
        let got = world.receive(live.id, max);
        let taken = usize::try_from(world.wire_read_by_actor(live.id) - before).expect("fits");
        live.look(&got, world, ledger)?;
        // Who sips sips of what comes, whatever it means.
        live.read_from = sip.filter(|_| taken > 0).map(|sip| world.now + millis(sip.ms * taken / sip.piece));
        match got {
            ActorRead::Nothing => self.retire(world, ledger),
            ActorRead::Progress => Ok(true),
            ActorRead::Broken(error) => self.give_up(&error, world, ledger).map(|()| true),
            ActorRead::Bytes(bytes) => {
                live.reader.feed(&bytes);
                while let Some(live) = &mut self.live
                    && live.tunnel.is_none()
                    && let Some(event) = live.reader.next()?
                {
                    self.take(event, world, ledger)?;
                }
                Ok(true)
            }
            ActorRead::End => {
                let ended = live.reader.end();
                let broken = ended.is_err();
                if let Ok(Some(event)) = ended {
                    self.take(event, world, ledger)?;
                }
                self.leave(broken, world, ledger)?;
                Ok(true)
            }
            ActorRead::Reset | ActorRead::Truncated => {
                let broken = live.head.is_some() || !live.reader.is_at_boundary();
                self.leave(broken, world, ledger)?;
                Ok(true)
            }
        }
    }

    fn step_tunnel(&mut self, world: &mut World, ledger: &mut Ledger) -> Result<bool, String> {
        let Some(live) = &mut self.live else { return Ok(false) };
        let Some(end) = &mut live.tunnel else { return Ok(false) };
        let sent = world.sent_by_actor(live.id);
        if self.rng.percent(50) && live.script.step(live.id, true, world) {
            if world.sent_by_actor(live.id) > sent {
                ledger.tunnel_moved(end.id(), world.now);
            }
            return Ok(true);
        }
        if live.script.left == Left::Closed {
            return self.leave_tunnel(world, ledger).map(|()| true);
        }
        let max = world.pace.draw(&mut world.rng);
        match world.receive(live.id, max) {
            ActorRead::Bytes(bytes) => {
                end.take(&bytes)?;
                ledger.tunnel_moved(end.id(), world.now);
                return Ok(true);
            }
            ActorRead::End if !end.has_ended() => {
                ledger.check_tunnel_end(end, world.now)?;
                end.end(&mut live.script);
                return Ok(true);
            }
            ActorRead::Nothing | ActorRead::End if !end.is_over(&live.script) => {
                let moved = live.script.step(live.id, true, world);
                if world.sent_by_actor(live.id) > sent {
                    ledger.tunnel_moved(end.id(), world.now);
                }
                return Ok(moved);
            }
            ActorRead::Nothing | ActorRead::End => {}
            ActorRead::Progress => return Ok(true),
            ActorRead::Broken(error) => return Err(format!("tunnel {}: TLS: {error:?}", end.id())),
            ActorRead::Reset | ActorRead::Truncated => ledger.check_tunnel_reset(end)?,
        }
        self.leave_tunnel(world, ledger).map(|()| true)
    }

    fn leave_tunnel(&mut self, world: &mut World, ledger: &mut Ledger) -> Result<(), String> {
        let Some(live) = self.live.take() else { return Ok(()) };
        if live.script.left != Left::Closed {
            world.close(live.id);
        }
        match live.tunnel {
            Some(end) if end.complain().is_none() => ledger.settle(end.id(), Outcome::Planned),
            Some(end) => ledger.settle(end.id(), Outcome::Cut),
            None => Ok(()),
        }
    }

    /// Everything asked was answered: closes, or waits to be closed.
    fn retire(&mut self, world: &mut World, ledger: &mut Ledger) -> Result<bool, String> {
        let Some(live) = &self.live else { return Ok(false) };
        let answered = live.awaiting.is_empty() && live.script.is_empty() && self.queue.is_empty();
        let told = live.closing && live.head.is_none();
        let unfit = live.unfit && live.awaiting.is_empty() && live.script.is_empty();
        let over = ((answered || told) && !self.idles || unfit) && live.script.left == Left::No;
        if over {
            self.leave(false, world, ledger)?;
        }
        Ok(over)
    }

    fn take(&mut self, event: Event, world: &mut World, ledger: &mut Ledger) -> Result<(), String> {
        let Some(live) = &mut self.live else { return Ok(()) };
        let &id = live.awaiting.front().ok_or("an answer that nobody asked for")?;
        let plan = &ledger.plans[id];
        match event {
            Event::Head(head) if head.status()? == 101 => {
                plan.check_switch(&head, &live.informed).map_err(|error| format!("request {id}: {error}"))?;
                world.note(|| format!("{} has a tunnel for {id}", self.address));
                let rest = live.reader.take_rest();
                let got = world.read_by_actor(live.id) - rest.len() as u64;
                if let Some(front) = &mut ledger.seen[id].tunnel.front {
                    front.got = got;
                }
                let mut end = End::new(id, Side::Up, plan.tunnel, &mut live.script);
                ledger.tunnel_moved(id, world.now);
                end.take(&rest)?;
                live.tunnel = Some(end);
            }
            Event::Head(head) if head.status()? < 200 => {
                let named = head.first("X-Sim-Id");
                if named != Some(id.to_string().as_str()) {
                    return Err(format!("request {id}: got a 1xx for {named:?}"));
                }
                let status = head.status()?;
                live.continued |= status == 100;
                live.informed.push(status);
                live.reader.expect_body(head.response_delimiter(false)?);
            }
            Event::Head(head) => {
                let to_head = plan.request.method == "HEAD";
                live.reader.expect_body(head.response_delimiter(to_head)?);
                live.continued = true;
                if head.closes() {
                    live.closing = true;
                    live.script.clear();
                }
                if let Some(ms) = plan.request.read_stall_ms
                    && !(live.closing && plan.response.early)
                {
                    live.read_from = Some(world.now + millis(ms));
                }
                world.note(|| format!("{} gets for {id}: {head:?}", self.address));
                // The protocol stays, so that another request may follow.
                live.last_asked &= !plan.request.upgrade;
                live.head = Some(head);
            }
            // Of a 1xx.
            Event::Body { .. } if live.head.is_none() => {}
            Event::Body { body, trailers } => {
                let head = live.head.take().ok_or("a body without a head")?;
                let informed = std::mem::take(&mut live.informed);
                live.awaiting.pop_front();
                live.continued = false;
                live.read_from = None;
                ledger.seen[id].misdirected = live.misdirects(id, ledger);
                let outcome = judge(id, &head, &informed, &body, &trailers, ledger)?;
                if let Outcome::Own(_) = outcome {
                    ledger.check_eviction(id, &body, world.now)?;
                }
                ledger.settle(id, outcome)?;
                world.note(|| format!("{} has {id}: {outcome:?}", self.address));
                if outcome != Outcome::Planned {
                    world.note(|| String::from_utf8_lossy(&body).replace('\n', " "));
                }
                if self.rng.percent(20) && self.depth == 1 {
                    self.resting_until = Some(world.now + millis(self.rng.within(1..=300)));
                }
            }
        }
        Ok(())
    }

    /// TLS is broken: the proxy has refused us, or else that is a finding.
    fn give_up(
        &mut self,
        error: &rustls::Error,
        world: &mut World,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let Some(live) = &mut self.live else { return Ok(()) };
        let asked = world.asked_for(live.id);
        let Some(handshakes) = &mut ledger.handshakes else { return Ok(()) };
        if handshakes.check_broken(error, asked, live.handshaken.is_some(), &ledger.rules)? {
            for id in std::mem::take(&mut live.awaiting) {
                ledger.seen[id].turned_away = true;
                ledger.settle(id, Outcome::Cut)?;
            }
        }
        self.leave(true, world, ledger)
    }

    /// The connection is over. What was not answered on it is asked again if the proxy said that it would
    /// close.
    fn leave(&mut self, broken: bool, world: &mut World, ledger: &mut Ledger) -> Result<(), String> {
        let Some(live) = self.live.take() else { return Ok(()) };
        self.rebuffed = live.sni.is_some() && live.handshaken.is_none();
        let within = live.head.is_some();
        let silent = |id: &usize| ledger.plans[*id].request.site == Site::Silent;
        let untouched = !within && live.informed.is_empty() && live.reader.is_at_boundary();
        if untouched && live.awaiting.front().is_some_and(silent) && live.awaiting.len() == 1 {
            if live.script.left != Left::Closed {
                world.close(live.id);
            }
            return ledger.settle(live.awaiting[0], Outcome::Silence);
        }
        if live.script.left != Left::Closed {
            world.close(live.id);
        }
        // Its farewell met a socket that was closed, and the reset that follows took the answer away.
        let unheard = world.is_unheard(live.id);
        let tolerated = unheard || ledger.rules.faults || ledger.rules.scarce || ledger.rules.draining;
        for id in &live.awaiting {
            ledger.seen[*id].unheard = unheard;
        }
        let mut unanswered = live.awaiting;
        if within {
            let Some(id) = unanswered.pop_front() else { return Err("an answer to nothing".to_owned()) };
            let cut_off = ledger.plans[id].request.sip.is_some_and(|sip| sip.too_slow);
            if !ledger.rules.faults && !cut_off && !unheard && !ledger.rules.gives_records_up() {
                return Err(format!("request {id}: its answer was cut (broken: {broken})"));
            }
            ledger.settle(id, Outcome::Cut)?;
            if cut_off && !unanswered.is_empty() {
                return Err(format!("requests {unanswered:?}: behind a client that is too slow"));
            }
        }
        // So slow that not even the head came before the proxy's patience ended.
        let cut_off = |id: &usize| ledger.plans[*id].request.sip.is_some_and(|sip| sip.too_slow);
        if !within && unanswered.front().is_some_and(cut_off) {
            let Some(id) = unanswered.pop_front() else { return Ok(()) };
            ledger.settle(id, Outcome::Cut)?;
        }
        if live.closing && !within {
            for id in unanswered.into_iter().rev() {
                self.queue.push_front(id);
            }
            return Ok(());
        }
        if unanswered.is_empty() {
            return Ok(());
        }
        if !tolerated {
            return Err(format!("requests {unanswered:?}: the connection ended without an answer"));
        }
        for id in unanswered {
            ledger.settle(id, Outcome::Cut)?;
        }
        Ok(())
    }
}

impl Live {
    /// What came tells of the handshake, too.
    fn look(&mut self, got: &ActorRead, world: &World, ledger: &mut Ledger) -> Result<(), String> {
        let Some(handshakes) = &mut ledger.handshakes else { return Ok(()) };
        if world.is_answered(self.id) && !std::mem::replace(&mut self.answered, true) {
            handshakes.answer();
        }
        if self.handshaken.is_none() {
            self.handshaken = world.handshaken(self.id);
            if let Some(done) = &self.handshaken {
                handshakes.complete(done)?;
            }
        }
        if matches!(got, ActorRead::Bytes(_)) && !std::mem::replace(&mut self.confirmed, true) {
            handshakes.confirm();
        }
        Ok(())
    }

    fn misdirects(&self, id: usize, ledger: &Ledger) -> bool {
        let (Some(done), Some(handshakes)) = (&self.handshaken, &ledger.handshakes) else { return false };
        handshakes.misdirects(done, ledger.plans[id].request.site.host())
    }
}

/// Whether a request can be asked on this connection: for another host than its handshake was for, only once it is known
/// what that will lead to.
fn may_ask(id: usize, live: &mut Live, ledger: &Ledger, secured: bool) -> bool {
    let plan = &ledger.plans[id];
    if !secured || live.sni == Some(plan.request.site.host()) {
        return true;
    }
    let Some(_) = &live.handshaken else { return false };
    live.unfit = live.misdirects(id, ledger) && !plan.is_simple();
    !live.unfit
}

/// Whether an answer may be what it is.
fn judge(
    id: usize,
    head: &Head,
    informed: &[u16],
    body: &[u8],
    trailers: &[(String, String)],
    ledger: &Ledger,
) -> Result<Outcome, String> {
    let plan = &ledger.plans[id];
    if let Some(named) = head.first("X-Sim-Id") {
        if named != id.to_string() {
            return Err(format!("request {id}: got the answer to {named}"));
        }
        let truncatable = ledger.rules.faults && head.first("Content-Length").is_none() && head.closes();
        let ends = head.response_delimiter(plan.request.method == "HEAD")? == Delimiter::End;
        if truncatable && ends {
            // Nobody can tell a truncated body that ends with the connection from a whole one.
            let whole = content(id, Side::Response, plan.response.body.bytes);
            return if whole.starts_with(body) {
                Ok(Outcome::Planned)
            } else {
                Err(format!("request {id}: a wrong body"))
            };
        }
        let checked = plan.check_response(head, informed, body, trailers);
        checked.map_err(|error| format!("request {id}: {error}"))?;
        if head.closes() && !plan.may_close() && !ledger.ends_early(id) {
            return Err(format!("request {id}: closes without need"));
        }
        return Ok(Outcome::Planned);
    }
    judge_own(plan, head, &ledger.rules, ledger.ends_early(id))
        .map_err(|error| format!("request {id}: {error}: {head:?}"))
}

/// Whether an answer of the proxy's own may be what it is.
fn judge_own(plan: &Plan, head: &Head, rules: &Rules, may_close: bool) -> Result<Outcome, String> {
    let status = head.status()?;
    let site = plan.request.site;
    let is_its_own = site.own_status() == Some(status);
    if matches!(status, 301 | 302 | 308 | 401) && !is_its_own {
        return Err("an answer of another site".to_owned());
    }
    if !matches!(status, 301 | 302 | 308 | 400..600) {
        return Err("an answer from nobody".to_owned());
    }
    if is_its_own {
        let location = site.location(&plan.target(), rules.terms.tls.is_some());
        expect("Location", head.first("Location"), location.as_deref())?;
        expect("WWW-Authenticate", head.first("WWW-Authenticate"), site.challenge())?;
    }
    if status == 404 {
        rules.terms.check_page(head, site.host(), &plan.target())?;
    }
    // What follows the head must be the next request, and nothing be wrong with this one.
    let page_closes = status == 404 && rules.terms.page == Some(Page::Closes);
    // The cluster has as much to do as it may: nothing is wrong with the connection.
    let busy = status == 503 && head.first("Retry-After").is_some() && !plan.request.upgrade;
    let usable = plan.leaves_connection_usable()
        && (busy || matches!(status, 301 | 302 | 308 | 401 | 404))
        && !page_closes;
    if !usable && !head.closes() {
        return Err("does not close".to_owned());
    }
    if usable && head.closes() && !may_close {
        return Err("closes without need".to_owned());
    }
    Ok(Outcome::Own(status))
}

/// Puts a request, and what goes wrong with it, into the script.
fn write_request(script: &mut Script, id: usize, ledger: &Ledger, rng: &mut Rng) {
    let plan = &ledger.plans[id];
    let mut wire = plan.request_wire(rng);
    let part = |wire: &mut Vec<u8>, percent: usize| wire.truncate(wire.len() * percent / 100);
    match plan.fault {
        Some(Fault::ClientTalksGarbage) => {
            let garbage: [&[u8]; 4] =
                [b"\0\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET /r/0 HTTP/1.1\r\n\r\n", b"POST /r/0 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"];
            script.push_bytes(rng.pick(&garbage).to_vec(), None);
            return;
        }
        Some(Fault::ClientResets { percent }) => {
            part(&mut wire, percent);
            script.push_bytes(wire, None);
            script.push(Act::Pause { ms: rng.below(100) });
            script.push(Act::Reset);
            return;
        }
        Some(Fault::ClientVanishes { percent }) => {
            part(&mut wire, percent);
            script.push_bytes(wire, None);
            script.push(Act::Vanish);
            return;
        }
        Some(Fault::ClientEnds { percent }) => {
            part(&mut wire, percent);
            script.push_bytes(wire, None);
            script.push(if rng.percent(50) { Act::Finish } else { Act::Close });
            return;
        }
        _ => {}
    }
    if plan.request.body.bytes > 0 {
        let head = wire.windows(4).position(|window| window == b"\r\n\r\n").map_or(wire.len(), |at| at + 4);
        let body = wire.split_off(head);
        script.push_bytes(wire, None);
        if plan.request.expect {
            script.push(Act::AwaitContinue);
        }
        wire = body;
    }
    match plan.request.trickle {
        Some(trickle) => script.push_trickle(&wire, trickle.piece, trickle.ms),
        None => script.push_bytes(wire, plan.request.stall),
    }
}
