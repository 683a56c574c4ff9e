//! What the listener grants its clients, and what it believes of them.

use std::net::{IpAddr, SocketAddr};

use kakehi_command::proto::{ForwardedHeaders, HttpListenerConfig, TraceContext};

use super::message::Head;
use super::model::expect;
use super::rng::Rng;
use super::secured::TlsTerms;
use super::world::Lapse;

/// See the module. Drawn once a run; none of it changes later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// More of a body is refused.
    pub(super) body_bytes_max: Option<usize>,
    /// Bytes a second that a client has to move at least.
    pub(super) rate: Option<usize>,
    /// For how long nothing may move in a tunnel.
    pub(super) tunnel_seconds: u32,
    trusted: &'static [&'static str],
    forwarded: ForwardedHeaders,
    sends_real_ip: bool,
    elides_real_ip: bool,
    makes_traces: bool,
    /// Has a page of its own for what is not found, which may end the connection.
    pub(super) page: Option<Page>,
    pub(super) tls: Option<TlsTerms>,
}

/// A page of the operator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Keeps,
    Closes,
}

impl Page {
    fn text(self) -> String {
        let close = if self == Page::Closes { "Connection: close\r\n" } else { "" };
        format!("HTTP/1.1 404 Not Found\r\nX-Page: %ROUTE\r\n{close}\r\n<p>%ROUTE is not here</p>")
    }
}

/// Where clients say that they come from, if they say so.
const CLAIMED: &str = "203.0.113.7";

/// The address that clients know the proxy by.
const BY: &str = "198.51.100.1";

impl Terms {
    /// Where buffers are `scarce` a tunnel may wait for one as long as others do for a connection.
    pub(super) fn draw(body_bytes_max: usize, scarce: bool, rng: &mut Rng) -> Self {
        use ForwardedHeaders as Families;
        let trusted: [&[&str]; 4] =
            [&[], &["192.0.2.1"], &["2001:db8::/32", "192.0.2.2/31"], &["192.0.2.0/24"]];
        Self {
            body_bytes_max: rng.percent(25).then(|| body_bytes_max / 3 + rng.below(body_bytes_max)),
            rate: rng.pick(&[None, Some(20), Some(240)]),
            tunnel_seconds: rng.pick(if scarce { &[20, 100] } else { &[2, 20, 100] }),
            trusted: rng.pick(&trusted),
            forwarded: rng.pick(&[Families::Both, Families::XForwarded, Families::Rfc7239, Families::None]),
            sends_real_ip: rng.percent(50),
            elides_real_ip: rng.percent(30),
            makes_traces: rng.percent(30),
            page: rng.pick(&[None, Some(Page::Keeps), Some(Page::Closes)]),
            tls: rng.percent(35).then(|| TlsTerms::draw(rng)),
        }
    }

    /// The same, but for what was forgotten.
    pub(super) fn with(self, lapse: Lapse) -> Self {
        match lapse {
            Lapse::BodyLimit => Self { body_bytes_max: None, ..self },
            Lapse::NoRate => Self { rate: None, ..self },
            Lapse::HighRate => Self { rate: self.rate.map(|rate| rate * 10), ..self },
            Lapse::TunnelTimeout => Self { tunnel_seconds: 4000, ..self },
            Lapse::Trust => Self { trusted: &["192.0.2.0/24"], ..self },
            Lapse::Page => Self { page: None, ..self },
            Lapse::Binding => Self { tls: self.tls.map(|tls| TlsTerms { strict: false, ..tls }), ..self },
            Lapse::HandshakeTimeout => {
                Self { tls: self.tls.map(|tls| TlsTerms { handshake_seconds: 4000, ..tls }), ..self }
            }
            Lapse::Policies | Lapse::Removal | Lapse::Verdicts | Lapse::Certificates | Lapse::Limits => self,
        }
    }

    /// Says it in the listener's configuration.
    pub(super) fn write(&self, listener: HttpListenerConfig) -> HttpListenerConfig {
        let traces = if self.makes_traces { TraceContext::Make } else { TraceContext::Pass };
        HttpListenerConfig {
            max_body_bytes: self.body_bytes_max.map(|bytes| bytes as u64),
            min_transfer_rate: Some(self.rate.map_or(0, |rate| u32::try_from(rate).expect("small"))),
            tunnel_timeout: Some(self.tunnel_seconds),
            trusted_proxies: self.trusted.iter().map(|&text| text.to_owned()).collect(),
            forwarded_headers: Some(self.forwarded.into()),
            send_x_real_ip: Some(self.sends_real_ip),
            elide_x_real_ip: Some(self.elides_real_ip),
            trace_context: Some(traces.into()),
            answers: self.page.map(|page| ("404".to_owned(), page.text())).into_iter().collect(),
            ..listener
        }
    }

    /// What a client may be told of what is not found.
    pub(super) fn check_page(&self, head: &Head, host: &str, target: &str) -> Result<(), String> {
        let told = self.page.map(|_| format!("{host}{target}"));
        expect("X-Page", head.first("X-Page"), told.as_deref())
    }

    /// Whether a client's address is in a network that is trusted.
    fn trusts(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return false };
        let last = address.octets()[3];
        match *self.trusted {
            [] => false,
            ["192.0.2.1"] => last == 1,
            ["192.0.2.0/24"] => true,
            _ => matches!(last, 2 | 3),
        }
    }

    /// What a client may say of where its request comes from.
    pub(super) fn claim() -> String {
        format!(
            "X-Forwarded-For: {CLAIMED}\r\nX-Forwarded-Proto: https\r\nForwarded: for={CLAIMED};proto=https\r\n\
             X-Real-IP: {CLAIMED}\r\n"
        )
    }

    /// What a backend may be told of it. `host` is the client's, if another one is asked for.
    pub(super) fn check(
        &self,
        head: &Head,
        client: SocketAddr,
        claims: bool,
        host: Option<&str>,
    ) -> Result<(), String> {
        let believed = claims && self.trusts(client.ip());
        let peer = client.ip();
        let (x, rfc) = match self.forwarded {
            ForwardedHeaders::Both => (true, true),
            ForwardedHeaders::XForwarded => (true, false),
            ForwardedHeaders::Rfc7239 => (false, true),
            ForwardedHeaders::None => (false, false),
        };
        // Two families that contradict each other help nobody: of a written one only ours is left.
        let passed = believed && !x && !rfc;
        let theirs = format!("for={CLAIMED};proto=https");
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let ours = format!("proto={scheme};for=\"{client}\";by={BY}");
        let x_for = match (x, believed) {
            (true, true) => Some(format!("{CLAIMED}, {peer}")),
            (true, false) => Some(peer.to_string()),
            (false, _) => passed.then(|| CLAIMED.to_owned()),
        };
        let forwarded = match (rfc, believed) {
            (true, true) => Some(format!("{theirs}, {ours}")),
            (true, false) => Some(ours),
            (false, _) => passed.then_some(theirs),
        };
        let real_ip = match (believed && !self.elides_real_ip, self.sends_real_ip) {
            (true, _) => Some(CLAIMED.to_owned()),
            (false, true) => Some(peer.to_string()),
            (false, false) => None,
        };
        let x_proto = (x || passed).then(|| if believed { "https" } else { scheme }.to_owned());
        let wanted = [
            ("X-Forwarded-For", x_for),
            ("X-Forwarded-Proto", x_proto),
            ("X-Forwarded-Port", x.then(|| "80".to_owned())),
            ("X-Forwarded-Host", host.filter(|_| x).map(str::to_owned)),
            ("Forwarded", forwarded),
            ("X-Real-IP", real_ip),
        ];
        for (name, value) in wanted {
            let got: Vec<&str> = head.all(name).collect();
            expect(name, got, value.iter().map(String::as_str).collect())?;
        }
        expect("traces", head.all("traceparent").count(), usize::from(self.makes_traces))
    }
}
