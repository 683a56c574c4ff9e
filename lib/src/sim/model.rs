//! What each side means to say, drawn before the run.
//!
//! A request is known everywhere by its id, which is in its path, its answer and both bodies. Clients and
//! backends write what is planned here and judge what they read by it; neither knows how the proxy works.

use std::net::SocketAddr;

use super::message::Head;
use super::rng::Rng;
use super::site::{ADDED, Site, UNWANTED};
use super::terms::Terms;
use super::tunnel::TunnelPlan;

/// How a body is put on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framed {
    /// There is none, and none is announced.
    None,
    Length,
    /// In chunks of up to so many bytes. Decorated: extensions, leading zeros, trailers.
    Chunked {
        piece: usize,
        decorated: bool,
    },
    /// Ends with the connection. Answers only.
    UntilEnd,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Body {
    pub(super) framed: Framed,
    pub(super) bytes: usize,
}

/// Which of the streams of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
    /// Of a tunnel, from the client.
    Up,
    /// To the client.
    Down,
}

/// The bytes of a body: different for every id and side, at every offset.
pub(super) fn content(id: usize, side: Side, bytes: usize) -> Vec<u8> {
    let salt = id * 4 + side as usize + 1;
    let mixed = |at: usize| (salt * 0x9E37 + at * 0x85EB + (at >> 7) * salt) >> 3;
    (0..bytes).map(|at| mixed(at).to_le_bytes()[0]).collect()
}

impl Body {
    pub(super) const NONE: Body = Body { framed: Framed::None, bytes: 0 };

    /// The field that announces it, if any.
    fn field(self) -> String {
        match self.framed {
            Framed::None | Framed::UntilEnd => String::new(),
            Framed::Length => format!("Content-Length: {}\r\n", self.bytes),
            Framed::Chunked { .. } => "Transfer-Encoding: chunked\r\n".to_owned(),
        }
    }

    fn wire(self, id: usize, side: Side, rng: &mut Rng) -> Vec<u8> {
        let content = content(id, side, self.bytes);
        let Framed::Chunked { piece, decorated } = self.framed else { return content };
        let mut wire = Vec::new();
        let mut rest = content.as_slice();
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at(rng.within(1..=piece).min(rest.len()));
            let line = match rng.below(if decorated { 4 } else { 1 }) {
                0 => format!("{:x}\r\n", chunk.len()),
                1 => format!("{:X};name=value\r\n", chunk.len()),
                2 => format!("00{:x}\r\n", chunk.len()),
                _ => format!("{:x};a;b=\"c d\"\r\n", chunk.len()),
            };
            wire.extend(line.bytes());
            wire.extend(chunk);
            wire.extend(b"\r\n");
            rest = tail;
        }
        wire.extend(if decorated { b"000;last\r\n".as_slice() } else { b"0\r\n" });
        if decorated {
            wire.extend(format!("X-Trailer: {id}\r\nContent-Length: 7\r\nX-Second: {id}\r\n").bytes());
        }
        wire.extend(b"\r\n");
        wire
    }

    /// The trailers that may pass.
    fn trailers(self, id: usize) -> Vec<(String, String)> {
        match self.framed {
            Framed::Chunked { decorated: true, .. } => {
                ["X-Trailer", "X-Second"].map(|name| (name.to_owned(), id.to_string())).into()
            }
            _ => Vec::new(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct RequestPlan {
    pub(super) method: &'static str,
    pub(super) http10: bool,
    pub(super) keep_alive: bool,
    pub(super) body: Body,
    pub(super) expect: bool,
    pub(super) site: Site,
    /// Wants to change to another protocol.
    pub(super) upgrade: bool,
    /// Says where it comes from, as a proxy does.
    claims: bool,
    /// Carries fields that speak to the proxy alone.
    pub(super) hop_by_hop: bool,
    pub(super) padding: usize,
    /// The client stalls once: where in the body (in the head if there is none), in percent, and for how
    /// many ms.
    pub(super) stall: Option<(usize, usize)>,
    /// The client stalls once between the answer's head and its body.
    pub(super) read_stall_ms: Option<usize>,
    /// The client sends its body like this.
    pub(super) trickle: Option<Trickle>,
    /// The client reads the answer's body like this.
    pub(super) sip: Option<Trickle>,
}

/// So many bytes at a time, and so many ms between them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trickle {
    pub(super) piece: usize,
    pub(super) ms: usize,
    /// It takes so long that a client which is this slow must not be waited for.
    pub(super) too_slow: bool,
}

/// What a backend says to a client that wants to change the protocol, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    /// Answers as if nothing had been asked.
    Ignores,
    /// Changes the protocol.
    Accepts,
    /// Changes to a protocol that nobody asked for.
    Lies,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    /// Closes without having said so.
    CloseAtOnce,
    CloseIn {
        ms: usize,
    },
}

#[derive(Debug, Clone)]
pub(super) struct ResponsePlan {
    pub(super) http10: bool,
    pub(super) informational: Vec<u16>,
    /// Answers an `Expect` with `100 Continue`.
    pub(super) continues: bool,
    pub(super) status: u16,
    pub(super) body: Body,
    /// Announces that it closes, and does.
    pub(super) close: bool,
    pub(super) after: After,
    /// Answers as soon as it has read the head.
    pub(super) early: bool,
    /// The backend stalls once: where in the answer's bytes, in percent, and for how many ms.
    pub(super) stall: Option<(usize, usize)>,
    pub(super) switch: Switch,
    /// More comes right behind the answer than belongs to it.
    pub(super) stray: bool,
}

/// What goes wrong on purpose, on either side of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    ClientResets { percent: usize },
    ClientVanishes { percent: usize },
    ClientEnds { percent: usize },
    ClientTalksGarbage,
    BackendDiesUnread,
    BackendDiesSilent { reset: bool },
    BackendTruncates { percent: usize, reset: bool },
    BackendHangs { percent: usize },
    BackendTalksGarbage { kind: usize },
}

impl Fault {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let percent = rng.below(100);
        let reset = rng.percent(50);
        match rng.below(9) {
            0 => Fault::ClientResets { percent },
            1 => Fault::ClientVanishes { percent },
            2 => Fault::ClientEnds { percent },
            3 => Fault::ClientTalksGarbage,
            4 => Fault::BackendDiesUnread,
            5 => Fault::BackendDiesSilent { reset },
            6 => Fault::BackendTruncates { percent, reset },
            7 => Fault::BackendHangs { percent },
            _ => Fault::BackendTalksGarbage { kind: rng.below(6) },
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) id: usize,
    /// Who asks.
    pub(super) client: SocketAddr,
    pub(super) request: RequestPlan,
    pub(super) response: ResponsePlan,
    /// What follows if the backend changes the protocol.
    pub(super) tunnel: TunnelPlan,
    pub(super) fault: Option<Fault>,
}

/// How large and how slow things may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub(super) body_bytes_max: usize,
    pub(super) padding_max: usize,
    /// Longest stalls of a client within a head and elsewhere, and of a backend.
    pub(super) head_stall_ms_max: usize,
    pub(super) front_stall_ms_max: usize,
    pub(super) back_stall_ms_max: usize,
    pub(super) pipelined: bool,
    /// Backends close connections that they promised to keep.
    pub(super) silent_closes: bool,
    /// How long a client may be silent.
    pub(super) front_ms: usize,
    /// What a connection holds on its way, at most.
    pub(super) capacity_max: usize,
    /// Clients often stall within a head.
    pub(super) hesitant: bool,
    /// There are clients that take their time.
    pub(super) dawdlers: bool,
    pub(super) terms: Terms,
}

impl Plan {
    pub(super) fn draw(id: usize, client: SocketAddr, scale: &Scale, rng: &mut Rng) -> Self {
        let mut request = RequestPlan::draw(scale, rng);
        // It leads to where we are.
        if scale.terms.tls.is_some() && request.site == Site::Secure {
            request.site = Site::Plain;
        }
        let response = ResponsePlan::draw(&request, scale, rng);
        let idle_ms = usize::try_from(scale.terms.tunnel_seconds).expect("small") * 1000;
        // Two stalls, one of each side, may follow each other.
        let tunnel = TunnelPlan::draw(scale.body_bytes_max, idle_ms * 4 / 10, rng);
        let mut plan = Self { id, client, request, response, tunnel, fault: None };
        // Nobody but who knows the answer can send more right behind the question.
        if !plan.is_served(&scale.terms) || plan.request.site == Site::Sometimes {
            plan.tunnel.wait_for_answer();
        }
        let long = !scale.pipelined && !plan.response.early;
        let front_max = if long { scale.front_stall_ms_max } else { scale.front_stall_ms_max.min(150) };
        let head_only = plan.request.body.bytes == 0;
        let stall_max = if head_only { front_max.min(scale.head_stall_ms_max) } else { front_max };
        if rng.percent(if scale.hesitant && head_only { 50 } else { 15 }) {
            // What is sent early is within the tunnel already.
            let stall_max = if plan.switches() { stall_max.min(idle_ms * 4 / 10) } else { stall_max };
            plan.request.stall = Some((rng.below(100), rng.within(1..=stall_max)));
        }
        // A client that is told to close must have read that before the proxy's patience ends.
        if rng.percent(15) {
            plan.request.read_stall_ms = Some(rng.within(1..=front_max));
        }
        if rng.percent(15) {
            plan.response.stall = Some((rng.below(100), rng.within(1..=scale.back_stall_ms_max)));
        }
        if scale.dawdlers
            && long
            && plan.is_served(&scale.terms)
            && plan.request.site != Site::Sometimes
            && rng.percent(8)
        {
            plan.dawdle(scale, rng);
        }
        plan
    }

    /// Makes the client take its time: with its request if that has a plain body, else with the answer. Rates
    /// are well above or well below what is asked for, and last for several times the client's patience.
    fn dawdle(&mut self, scale: &Scale, rng: &mut Rng) {
        let ms = scale.front_ms / rng.within(4..=8);
        let too_slow = scale.terms.rate.is_some() && rng.percent(50);
        let rate = match scale.terms.rate {
            Some(rate) if too_slow => rate / 2,
            Some(rate) => rate * 3 / 2,
            None => 1000 / ms + 1,
        };
        let trickle = Trickle { piece: (rate * ms / 1000).max(1), ms, too_slow };
        // A slow connect to the backend, or some, is no fault of the client's.
        let bytes = trickle.piece * (3 * scale.front_ms + 10_000) / ms;
        let sends = self.request.body.framed == Framed::Length && !self.request.expect;
        let reads =
            self.response.body.framed == Framed::Length && !self.is_bodiless() && !self.asks_upgrade();
        let held = scale.capacity_max + bytes;
        if sends && bytes < 5000 && scale.terms.body_bytes_max.is_none_or(|max| bytes <= max) {
            self.request.body.bytes = bytes;
            self.request.stall = None;
            self.request.trickle = Some(trickle);
        } else if reads && held < 8000 {
            // Nobody sees what the kernel still holds; there is room again when a third of it is free.
            let unseen_ms = (scale.capacity_max / 3 + trickle.piece) * 1000 / rate;
            if too_slow || unseen_ms < scale.front_ms / 2 {
                self.response.body.bytes = held;
                self.request.read_stall_ms = None;
                self.request.sip = Some(trickle);
            }
        }
    }

    /// Whether the client is too slow to be served.
    pub(super) fn dawdles_too_much(&self) -> bool {
        let slow = |trickle: Option<Trickle>| trickle.is_some_and(|trickle| trickle.too_slow);
        slow(self.request.trickle) || slow(self.request.sip)
    }

    /// Whether the body is longer than the listener allows.
    pub(super) fn is_too_large(&self, terms: &Terms) -> bool {
        terms.body_bytes_max.is_some_and(|max| self.request.body.bytes > max)
    }

    /// Whether the request goes to a backend, if there is one.
    pub(super) fn is_served(&self, terms: &Terms) -> bool {
        self.request.site.is_served() && !self.is_too_large(terms)
    }

    /// Whether it is one that can be refused at any time.
    pub(super) fn is_simple(&self) -> bool {
        self.leaves_connection_usable() && !self.request.upgrade && self.fault.is_none()
    }

    /// Whether a backend is asked to change the protocol.
    pub(super) fn asks_upgrade(&self) -> bool {
        self.request.upgrade && !self.request.http10 && self.request.is_head_only()
    }

    /// Whether both agree to change the protocol.
    pub(super) fn switches(&self) -> bool {
        self.asks_upgrade() && self.response.switch == Switch::Accepts
    }

    /// Whether the backend changes the protocol although it was not asked to, or not like this.
    pub(super) fn switches_unasked(&self) -> bool {
        !self.switches() && self.response.switch != Switch::Ignores
    }

    /// Whether sending it twice has the effect of sending it once.
    pub(super) fn is_idempotent(&self) -> bool {
        self.request.method != "POST"
    }

    /// Whether any proxy could send it again after a pooled connection turned out to be closed.
    pub(super) fn is_replayable(&self) -> bool {
        self.is_idempotent() && self.request.body.bytes == 0
    }

    pub(super) fn target(&self) -> String {
        format!("/r/{}?q={}", self.id, "p".repeat(self.id % 7))
    }

    /// Whether the client sees an answer without a body.
    fn is_bodiless(&self) -> bool {
        self.request.method == "HEAD" || matches!(self.response.status, 204 | 304)
    }

    /// Whether the client learns of the answer's end only by the connection's.
    fn ends_with_connection(&self) -> bool {
        let framed = self.response.body.framed;
        let stripped = self.request.http10 && matches!(framed, Framed::Chunked { .. });
        !self.is_bodiless() && (framed == Framed::UntilEnd || stripped)
    }

    /// Whether the proxy has a reason to close the client's connection after it.
    pub(super) fn may_close(&self) -> bool {
        !self.request.keep_alive || self.ends_with_connection() || self.response.early
    }

    /// Whether an answer of the proxy's own to its head can be followed by another request.
    pub(super) fn leaves_connection_usable(&self) -> bool {
        let request = &self.request;
        request.keep_alive && !request.http10 && request.is_head_only()
    }

    pub(super) fn request_wire(&self, rng: &mut Rng) -> Vec<u8> {
        let request = &self.request;
        let version = if request.http10 { "1.0" } else { "1.1" };
        let mut head = format!("{} {} HTTP/{version}\r\n", request.method, self.target());
        head += &format!("Host: {}\r\nX-Sim-Id: {}\r\n", request.site.host(), self.id);
        head += &request.body.field();
        if request.upgrade {
            head += "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        }
        if let Some(value) = request.site.authorization() {
            head += &format!("Authorization: {value}\r\n");
        }
        if request.claims {
            head += &Terms::claim();
        }
        if request.site == Site::Edited {
            head += &format!("{UNWANTED}: mine\r\n");
        }
        match (request.keep_alive, request.http10, request.hop_by_hop) {
            (true, true, _) => head += "Connection: keep-alive\r\n",
            (true, false, true) => head += "Connection: X-Hop\r\n",
            (true, false, false) | (false, true, _) => {}
            (false, false, _) => head += "Connection: X-Hop, close\r\n",
        }
        if request.hop_by_hop && !request.http10 && request.keep_alive {
            head += "X-Hop: mine\r\nKeep-Alive: timeout=5\r\n";
        }
        if request.expect {
            head += "Expect: 100-continue\r\n";
        }
        if request.padding > 0 {
            head += &format!("X-Padding: {}\r\n", "x".repeat(request.padding));
        }
        head += "\r\n";
        let mut wire = head.into_bytes();
        wire.extend(request.body.wire(self.id, Side::Request, rng));
        if self.switches() {
            wire.extend(self.tunnel.early(self.id, Side::Up));
        }
        wire
    }

    /// A client checks the head that changes the protocol.
    pub(super) fn check_switch(&self, head: &Head, informed: &[u16]) -> Result<(), String> {
        if !self.switches() {
            return Err(format!("a protocol that was not asked for: {head:?}"));
        }
        expect("1xx before it", informed, self.response.informational.as_slice())?;
        expect("X-Sim-Id", head.first("X-Sim-Id"), Some(self.id.to_string().as_str()))?;
        expect("Connection", head.first("Connection"), Some("upgrade"))?;
        expect("Upgrade", head.first("Upgrade"), Some("websocket"))
    }

    /// The head that changes the protocol.
    pub(super) fn switch_wire(&self) -> Vec<u8> {
        let protocol = if self.response.switch == Switch::Lies { "else" } else { "websocket" };
        let head = format!(
            "HTTP/1.1 101 Planned\r\nX-Sim-Id: {}\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n",
            self.id
        );
        head.into_bytes()
    }

    pub(super) fn informational_wire(&self, status: u16) -> Vec<u8> {
        format!("HTTP/1.1 {status} Note\r\nX-Sim-Id: {}\r\n\r\n", self.id).into_bytes()
    }

    pub(super) fn response_wire(&self, rng: &mut Rng) -> Vec<u8> {
        let response = &self.response;
        let version = if response.http10 { "1.0" } else { "1.1" };
        let mut head = format!("HTTP/{version} {} Planned\r\nX-Sim-Id: {}\r\n", response.status, self.id);
        if response.status != 204 {
            head += &response.body.field();
        }
        if self.request.site == Site::Edited {
            head += &format!("{UNWANTED}: mine\r\n");
        }
        match (response.close, response.http10) {
            (true, false) => head += "Connection: close\r\nKeep-Alive: timeout=1\r\n",
            (false, true) => head += "Connection: keep-alive\r\n",
            _ => {}
        }
        head += "\r\n";
        let mut wire = head.into_bytes();
        if !self.is_bodiless() {
            wire.extend(response.body.wire(self.id, Side::Response, rng));
        }
        wire
    }

    /// A backend checks the head that reached it.
    pub(super) fn check_request_head(&self, head: &Head, terms: &Terms) -> Result<(), String> {
        let request = &self.request;
        let site = request.site;
        let target = site.target_behind(&self.target());
        expect("method and target", head.request_line()?, (request.method, target.as_str()))?;
        let framing = request.body.framed;
        let length = (framing == Framed::Length).then(|| request.body.bytes.to_string());
        let coding = matches!(framing, Framed::Chunked { .. }).then_some("chunked");
        expect("Host", head.first("Host"), Some(site.host_behind()))?;
        expect("X-Sim-Id", head.first("X-Sim-Id"), Some(self.id.to_string().as_str()))?;
        expect("Content-Length", head.first("Content-Length"), length.as_deref())?;
        expect("Transfer-Encoding", head.first("Transfer-Encoding"), coding)?;
        expect("Expect", head.first("Expect"), request.expect.then_some("100-continue"))?;
        expect("Connection", head.first("Connection"), self.asks_upgrade().then_some("upgrade"))?;
        expect("Upgrade", head.first("Upgrade"), self.asks_upgrade().then_some("websocket"))?;
        for name in ["Keep-Alive", "X-Hop", UNWANTED] {
            expect(name, head.first(name), None)?;
        }
        for name in ["Sozu-Id", "X-Request-Id"] {
            expect(name, head.all(name).count(), 1)?;
        }
        expect("Authorization", head.first("Authorization"), site.authorization())?;
        expect("added", head.first(ADDED.0), (site == Site::Edited).then_some(ADDED.1))?;
        let rewritten = (site.host_behind() != site.host()).then(|| site.host());
        terms.check(head, self.client, request.claims, rewritten)
    }

    pub(super) fn check_request_body(
        &self,
        body: &[u8],
        trailers: &[(String, String)],
    ) -> Result<(), String> {
        if body != content(self.id, Side::Request, self.request.body.bytes) {
            return Err(format!("request {}: the backend got another body", self.id));
        }
        // Where fields are removed from the head none is let through behind the body.
        let may_trail = self.request.site != Site::Edited;
        let passed = if may_trail { self.request.body.trailers(self.id) } else { Vec::new() };
        expect("request trailers", trailers, passed.as_slice())
    }

    /// A client checks a whole answer of a backend.
    pub(super) fn check_response(
        &self,
        head: &Head,
        informed: &[u16],
        body: &[u8],
        trailers: &[(String, String)],
    ) -> Result<(), String> {
        let (request, response) = (&self.request, &self.response);
        expect("status", head.status()?, response.status)?;
        let mut notes = Vec::new();
        if !request.http10 {
            notes.extend((request.expect && response.continues).then_some(100));
            notes.extend(&response.informational);
        }
        expect("1xx before it", informed, notes.as_slice())?;
        let bodiless = self.is_bodiless();
        let expected = if bodiless { 0 } else { response.body.bytes };
        if body != content(self.id, Side::Response, expected) {
            return Err(format!("answer {}: another body, of {} bytes", self.id, body.len()));
        }
        let announces = response.status != 204 && response.body.framed == Framed::Length;
        let length = announces.then(|| response.body.bytes.to_string());
        expect("Content-Length", head.first("Content-Length"), length.as_deref())?;
        let may_trail = !bodiless && !request.http10 && request.site != Site::Edited;
        let passed = if may_trail { response.body.trailers(self.id) } else { Vec::new() };
        expect("trailers", trailers, passed.as_slice())?;
        expect("Sozu-Id", head.all("Sozu-Id").count(), 1)?;
        expect("Keep-Alive", head.first("Keep-Alive"), None)?;
        expect("removed", head.first(UNWANTED), None)?;
        expect("added", head.first(ADDED.0), (request.site == Site::Edited).then_some(ADDED.1))?;
        let must_close = !request.keep_alive || self.ends_with_connection();
        if must_close && !head.closes() {
            return Err(format!("answer {}: no Connection: close", self.id));
        }
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "nearly all are references")]
pub(super) fn expect<T: PartialEq + std::fmt::Debug>(what: &str, got: T, planned: T) -> Result<(), String> {
    if got == planned { Ok(()) } else { Err(format!("{what}: {got:?}, planned {planned:?}")) }
}

impl RequestPlan {
    /// Whether nothing of it can be behind its head.
    fn is_head_only(&self) -> bool {
        match self.body.framed {
            Framed::None => true,
            Framed::Length => self.body.bytes == 0,
            Framed::Chunked { .. } | Framed::UntilEnd => false,
        }
    }

    fn draw(scale: &Scale, rng: &mut Rng) -> Self {
        let upgrade = rng.percent(7);
        let methods = ["GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE"];
        let method = if upgrade { "GET" } else { rng.pick(&methods) };
        let http10 = rng.percent(12);
        let may_have_body = matches!(method, "POST" | "PUT") || rng.percent(5);
        let body = match rng.below(10) {
            _ if !may_have_body => Body::NONE,
            0 => Body::NONE,
            _ => draw_body(!http10, false, scale, rng),
        };
        Self {
            method,
            http10,
            keep_alive: if http10 { rng.percent(50) && !upgrade } else { upgrade || rng.percent(90) },
            expect: !http10 && body.bytes > 0 && rng.percent(20),
            body,
            site: Site::draw(scale.pipelined, rng),
            upgrade,
            claims: rng.percent(30),
            hop_by_hop: !upgrade && rng.percent(20),
            padding: if rng.percent(15) { rng.below(scale.padding_max) } else { 0 },
            stall: None,
            read_stall_ms: None,
            trickle: None,
            sip: None,
        }
    }
}

impl ResponsePlan {
    fn draw(request: &RequestPlan, scale: &Scale, rng: &mut Rng) -> Self {
        let http10 = rng.percent(10);
        let status = rng.pick(&[200, 200, 200, 200, 204, 304, 404, 500]);
        let body = draw_body(!http10, true, scale, rng);
        let bodiless = request.method == "HEAD" || matches!(status, 204 | 304);
        let body = if bodiless && body.framed == Framed::UntilEnd { Body::NONE } else { body };
        let ends = body.framed == Framed::UntilEnd;
        let after = match rng.below(10) {
            _ if !scale.silent_closes => After::Keep,
            0..=1 => After::CloseAtOnce,
            2..=5 => After::CloseIn { ms: rng.within(1..=400) },
            _ => After::Keep,
        };
        let switch = match (request.upgrade, rng.below(10)) {
            (true, 0..=5) => Switch::Accepts,
            (true, 6) => Switch::Lies,
            (false, 0) if rng.percent(20) => rng.pick(&[Switch::Accepts, Switch::Lies]),
            _ => Switch::Ignores,
        };
        let early = request.body.bytes > 0 && switch == Switch::Ignores && rng.percent(10);
        let close = ends || rng.percent(10);
        let count = if http10 || rng.percent(85) { 0 } else { rng.within(1..=2) };
        Self {
            http10,
            informational: (0..count).map(|_| rng.pick(&[102, 103])).collect(),
            continues: rng.percent(80),
            status,
            body,
            close,
            after,
            early,
            stall: None,
            switch,
            stray: !close && !early && rng.percent(6),
        }
    }
}

fn draw_body(chunked: bool, answer: bool, scale: &Scale, rng: &mut Rng) -> Body {
    let bytes = match rng.below(10) {
        0 => 0,
        1..=5 => rng.below(100.min(scale.body_bytes_max)),
        _ => rng.below(scale.body_bytes_max),
    };
    let framed = match rng.below(10) {
        0..=4 => Framed::Length,
        5..=8 if chunked => Framed::Chunked { piece: rng.pick(&[7, 100, 3000]), decorated: rng.percent(40) },
        _ if answer => Framed::UntilEnd,
        _ => Framed::Length,
    };
    Body { framed, bytes }
}
