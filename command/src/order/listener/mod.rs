//! Listeners: bound addresses and their settings. HTTP, HTTPS and TCP are served yet.
//!
//! [`HttpListener`] is the first two: HTTPS has everything that HTTP has, and [`TlsSettings`]. [`TcpListener`]
//! may have the latter, too.

mod https;
mod limits;
mod patch;
mod tcp;
mod tls;
mod trusted;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, LazyLock},
    time::Duration,
};

use super::{
    AnswerTemplate, OrderError, address,
    answer::{self, Answers},
    is_token, wire_enum,
};
use crate::proto;

pub use limits::{ListenerLimits, OverLimit};
pub use tcp::{
    SNI_PREREAD_MAX_BYTES_DEFAULT, SNI_PREREAD_MAX_BYTES_MIN, SNI_PREREAD_TIMEOUT_DEFAULT, TcpListener,
    TcpListenerPatch,
};
pub use tls::{
    ALPN_NAME_BYTES_MAX, ALPN_NAMES_MAX, Alpn, CipherSuite, ClientAuth, Crl, Group,
    HANDSHAKE_TIMEOUT_DEFAULT, MAX_EARLY_DATA_MAX, MAX_HANDSHAKES_PER_SOURCE_DEFAULT,
    SEND_TLS13_TICKETS_DEFAULT, SEND_TLS13_TICKETS_MAX, TlsSettings, TlsVersion,
};
pub(super) use tls::{alpn, alpn_names};
pub use trusted::{TRUSTED_PROXIES_MAX, TrustedProxies};

/// Name of the header that carries the request's id, unless the listener has another.
pub const SOZU_ID_HEADER_DEFAULT: &str = "Sozu-Id";
/// Name of the sticky cookie, unless the listener has another.
pub const STICKY_NAME_DEFAULT: &str = "SOZUBALANCEID";
/// Longest interface name: Linux's IFNAMSIZ without the final NUL.
pub const INTERFACE_BYTES_MAX: usize = 15;
/// Longest header or cookie name that a listener may choose.
pub const NAME_BYTES_MAX: usize = 128;

/// Whose connections open with a PROXY header.
const EXPECT_PROXY_FROM: &str = "expect_proxy_from";

/// How long an upgraded connection may be silent, in seconds, unless the listener says otherwise.
pub const TUNNEL_TIMEOUT_DEFAULT: u32 = 3600;
/// Longest request line, in bytes, unless the listener says otherwise.
pub const MAX_REQUEST_LINE_DEFAULT: u32 = 8192;
/// The least that a request line can be limited to, in bytes: many a page's address fits.
const MAX_REQUEST_LINE_MIN: u32 = 256;
/// Bytes a second that a client has to keep up with, unless the listener says otherwise.
pub const MIN_TRANSFER_RATE_DEFAULT: u32 = 240;

/// What distinguishes a listener from all others of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerKey {
    /// Where it listens.
    pub address: SocketAddr,
    /// The only interface it listens on, if bound to one.
    pub interface: Option<String>,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListenerKind {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// Bytes.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Which family of forwarding headers requests are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForwardedHeaders {
    /// `X-Forwarded-*` and `Forwarded`.
    Both,
    /// `X-Forwarded-*` alone.
    XForwarded,
    /// `Forwarded` alone (RFC 7239); the client's `X-Forwarded-*` are removed.
    Rfc7239,
    /// None.
    None,
}

/// What becomes of a request's `traceparent` (W3C Trace Context).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TraceContext {
    /// The client's is passed on, if there is one.
    Pass,
    /// A request without one is given one.
    Make,
}

/// An HTTP or HTTPS listener, checked. What a request asks of it is worked out once, when it is configured.
#[derive(Clone, Debug)]
pub struct HttpListener {
    key: ListenerKey,
    public_address: Option<SocketAddr>,
    front_timeout: Duration,
    back_timeout: Duration,
    connect_timeout: Duration,
    request_timeout: Duration,
    tunnel_timeout: Duration,
    max_request_line: usize,
    max_body_bytes: Option<u64>,
    min_transfer_rate: Option<u32>,
    forwarded_headers: ForwardedHeaders,
    trace_context: TraceContext,
    trusted_proxies: TrustedProxies,
    expect_proxy_from: TrustedProxies,
    sozu_id_header: Arc<str>,
    answers: Answers,
    limits: ListenerLimits,
    /// Of an HTTPS listener.
    tls: Option<Arc<TlsSettings>>,
    /// The message it came as, or what of it is not about TLS: what is not above, and what reads back
    /// unchanged.
    wire: proto::HttpListenerConfig,
}

/// All else is made of the message.
impl PartialEq for HttpListener {
    fn eq(&self, other: &Self) -> bool {
        self.wire == other.wire && self.tls == other.tls
    }
}

/// Changes to an HTTP or HTTPS listener, checked: what is absent stays as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpListenerPatch {
    address: SocketAddr,
    wire: proto::UpdateHttpListenerConfig,
    /// What is about TLS, of an HTTPS listener.
    tls: Option<Box<proto::UpdateHttpsListenerConfig>>,
}

impl ListenerKey {
    /// Checks a key that came from outside.
    ///
    /// # Errors
    /// No address, port 0, or a name that no interface has.
    pub fn from_wire(wire: &proto::SocketAddress, interface: Option<&str>) -> Result<Self, OrderError> {
        let address = listen_address(wire)?;
        if let Some(name) = interface {
            let usable = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
            if name.is_empty() || name.len() > INTERFACE_BYTES_MAX || !name.bytes().all(usable) {
                return Err(OrderError::invalid("interface", name, "is not the name of an interface"));
            }
        }
        Ok(Self { address, interface: interface.map(str::to_owned) })
    }
}

/// `IP:PORT`, or `IP:PORT%INTERFACE`: the form of the protocol's maps.
impl fmt::Display for ListenerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{}%{interface}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

impl ListenerKind {
    pub(super) fn from_wire(wire: i32) -> Result<Self, OrderError> {
        Ok(match wire_enum("proxy", wire)? {
            proto::ListenerType::Http => Self::Http,
            proto::ListenerType::Https => Self::Https,
            proto::ListenerType::Tcp => Self::Tcp,
            proto::ListenerType::Udp => Self::Udp,
        })
    }
}

impl From<ListenerKind> for proto::ListenerType {
    fn from(kind: ListenerKind) -> Self {
        match kind {
            ListenerKind::Http => Self::Http,
            ListenerKind::Https => Self::Https,
            ListenerKind::Tcp => Self::Tcp,
            ListenerKind::Udp => Self::Udp,
        }
    }
}

impl fmt::Display for ListenerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl HttpListener {
    /// Checks a listener that came from outside.
    ///
    /// # Errors
    /// No address, port 0, a limit out of its range, a name that is not a token, an answer that is none, or
    /// a feature not served yet that it would be wrong to leave out. HTTP/2 limits are kept whatever they
    /// are: state files carry them, and plain HTTP/1 has no use for them.
    pub fn from_wire(wire: proto::HttpListenerConfig) -> Result<Self, OrderError> {
        check_name("sozu_id_header", wire.sozu_id_header.as_deref())?;
        // Required on the wire, so a client without an opinion sends nothing.
        check_name("sticky_name", Some(wire.sticky_name.as_str()).filter(|name| !name.is_empty()))?;
        let seconds = |field, seconds: u32| {
            check_positive(field, Some(seconds.into())).map(|()| Duration::from_secs(seconds.into()))
        };
        let older = answer::older(wire.http_answers.as_ref());
        Ok(Self {
            key: ListenerKey::from_wire(&wire.address, wire.interface.as_deref())?,
            public_address: wire.public_address.as_ref().map(public_address).transpose()?,
            front_timeout: seconds("front_timeout", wire.front_timeout)?,
            back_timeout: seconds("back_timeout", wire.back_timeout)?,
            connect_timeout: seconds("connect_timeout", wire.connect_timeout)?,
            request_timeout: seconds("request_timeout", wire.request_timeout)?,
            tunnel_timeout: seconds("tunnel_timeout", wire.tunnel_timeout.unwrap_or(TUNNEL_TIMEOUT_DEFAULT))?,
            max_request_line: request_line(wire.max_request_line)?,
            max_body_bytes: wire.max_body_bytes.filter(|bytes| *bytes > 0),
            min_transfer_rate: Some(wire.min_transfer_rate.unwrap_or(MIN_TRANSFER_RATE_DEFAULT))
                .filter(|rate| *rate > 0),
            forwarded_headers: ForwardedHeaders::from_wire(wire.forwarded_headers)?,
            trace_context: TraceContext::from_wire(wire.trace_context)?,
            trusted_proxies: TrustedProxies::parse("trusted_proxies", &wire.trusted_proxies)?,
            expect_proxy_from: TrustedProxies::parse(EXPECT_PROXY_FROM, &wire.expect_proxy_from)?,
            sozu_id_header: shared_id_header(wire.sozu_id_header.as_deref()),
            answers: Answers::from_wire(&wire.answers, older)?,
            limits: ListenerLimits::of_http(&limits::said_limits!(wire))?,
            tls: None,
            wire,
        })
    }

    /// What it speaks: HTTP or HTTPS.
    #[must_use]
    pub fn kind(&self) -> ListenerKind {
        if self.tls.is_some() { ListenerKind::Https } else { ListenerKind::Http }
    }

    /// Its TLS, if it is an HTTPS listener.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsSettings> {
        self.tls.as_deref()
    }

    /// What distinguishes it from all other listeners.
    #[must_use]
    pub fn key(&self) -> &ListenerKey {
        &self.key
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.key.address
    }

    /// The address that clients know, for forwarding headers and logs.
    #[must_use]
    pub fn public_address(&self) -> Option<SocketAddr> {
        self.public_address
    }

    /// The address that clients know: the public one, or else where it listens.
    #[must_use]
    pub fn advertised_address(&self) -> SocketAddr {
        self.public_address.unwrap_or(self.key.address)
    }

    /// How long a front may be silent.
    #[must_use]
    pub fn front_timeout(&self) -> Duration {
        self.front_timeout
    }

    /// How long a back may be silent.
    #[must_use]
    pub fn back_timeout(&self) -> Duration {
        self.back_timeout
    }

    /// How long connecting to a backend may take.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// How long a request's head may take.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// How long an upgraded connection may be silent.
    #[must_use]
    pub fn tunnel_timeout(&self) -> Duration {
        self.tunnel_timeout
    }

    /// Longest request line, in bytes, its end not counted.
    #[must_use]
    pub fn max_request_line(&self) -> usize {
        self.max_request_line
    }

    /// Longest body of a request, in bytes; none: as long as it likes.
    #[must_use]
    pub fn max_body_bytes(&self) -> Option<u64> {
        self.max_body_bytes
    }

    /// Bytes a second that a client has to send of a body, or take of an answer; none: as slowly as it
    /// likes.
    #[must_use]
    pub fn min_transfer_rate(&self) -> Option<u32> {
        self.min_transfer_rate
    }

    /// Whose word is taken for where a request comes from.
    #[must_use]
    pub fn trusted_proxies(&self) -> &TrustedProxies {
        &self.trusted_proxies
    }

    /// Whether a connection from this peer opens with a PROXY header.
    #[must_use]
    pub fn expects_proxy_header(&self, peer: IpAddr) -> bool {
        self.wire.expect_proxy && (self.expect_proxy_from.is_empty() || self.expect_proxy_from.contains(peer))
    }

    /// What becomes of a request's `traceparent`.
    #[must_use]
    pub fn trace_context(&self) -> TraceContext {
        self.trace_context
    }

    /// Its own answer for this status.
    #[must_use]
    pub fn answer(&self, status: u16) -> Option<&AnswerTemplate> {
        self.answers.get(status)
    }

    /// What it takes in, and from whom.
    #[must_use]
    pub fn limits(&self) -> &ListenerLimits {
        &self.limits
    }

    /// Whether it accepts connections.
    #[must_use]
    pub fn active(&self) -> bool {
        self.wire.active
    }

    /// Name of the header that carries the request's id.
    #[must_use]
    pub fn sozu_id_header(&self) -> &Arc<str> {
        &self.sozu_id_header
    }

    /// Which family of forwarding headers requests are given.
    #[must_use]
    pub fn forwarded_headers(&self) -> ForwardedHeaders {
        self.forwarded_headers
    }

    /// Whether the client's `X-Real-IP` is dropped.
    #[must_use]
    pub fn elide_x_real_ip(&self) -> bool {
        self.wire.elide_x_real_ip == Some(true)
    }

    /// Whether `X-Real-IP` is added with the peer's address.
    #[must_use]
    pub fn send_x_real_ip(&self) -> bool {
        self.wire.send_x_real_ip == Some(true)
    }

    /// Name of the sticky cookie.
    #[must_use]
    pub fn sticky_name(&self) -> &str {
        match self.wire.sticky_name.as_str() {
            "" => STICKY_NAME_DEFAULT,
            name => name,
        }
    }

    /// The same listener, activated or not.
    #[must_use]
    pub fn with_active(&self, active: bool) -> Self {
        let mut listener = self.clone();
        listener.wire.active = active;
        listener
    }

    /// The same listener with `patch` applied to it.
    ///
    /// # Errors
    /// Both are sound, but together they have more answers than a listener may have.
    pub fn patched(&self, patch: &HttpListenerPatch) -> Result<Self, OrderError> {
        let mut wire = self.wire.clone();
        patch.apply(&mut wire);
        let mut patched = Self::from_wire(wire)?;
        patched.tls = match (&self.tls, &patch.tls) {
            (Some(tls), Some(patch)) => Some(tls.patched(patch, &self.wire.address)?.into()),
            (tls, _) => tls.clone(),
        };
        Ok(patched)
    }

    /// The patch that makes this listener `to`, activation aside; none if a patch cannot say it (a
    /// setting that is to be absent again, another key).
    #[must_use]
    pub fn patch_to(&self, to: &Self) -> Option<HttpListenerPatch> {
        if self.key != to.key || self.kind() != to.kind() {
            return None;
        }
        let patch = HttpListenerPatch::between(self, to);
        let patched = self.patched(&patch).ok()?.with_active(to.active());
        (patched == *to).then_some(patch)
    }

    pub(super) fn notes(&self, notes: &mut Vec<String>) {
        answer::note_unused(&self.wire.answers, notes);
        if let Some(tls) = &self.tls {
            tls.notes(notes);
        }
    }

    /// Whether all of it holds at `now`, in seconds since 1970; what is odd about it is noted.
    pub(super) fn check_validity(&self, now: i64, notes: &mut Vec<String>) -> Result<(), OrderError> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.check_validity(now, notes))
    }
}

/// What all HTTP listeners have.
impl From<&HttpListener> for proto::HttpListenerConfig {
    fn from(listener: &HttpListener) -> Self {
        listener.wire.clone()
    }
}

impl ForwardedHeaders {
    fn from_wire(wire: Option<i32>) -> Result<Self, OrderError> {
        Ok(match wire.map(|wire| wire_enum("forwarded_headers", wire)).transpose()? {
            None | Some(proto::ForwardedHeaders::Both) => Self::Both,
            Some(proto::ForwardedHeaders::XForwarded) => Self::XForwarded,
            Some(proto::ForwardedHeaders::Rfc7239) => Self::Rfc7239,
            Some(proto::ForwardedHeaders::None) => Self::None,
        })
    }
}

impl TraceContext {
    fn from_wire(wire: Option<i32>) -> Result<Self, OrderError> {
        Ok(match wire.map(|wire| wire_enum("trace_context", wire)).transpose()? {
            None | Some(proto::TraceContext::Pass) => Self::Pass,
            Some(proto::TraceContext::Make) => Self::Make,
        })
    }
}

/// One name serves most listeners.
fn shared_id_header(name: Option<&str>) -> Arc<str> {
    static DEFAULT: LazyLock<Arc<str>> = LazyLock::new(|| SOZU_ID_HEADER_DEFAULT.into());
    name.map_or_else(|| DEFAULT.clone(), Arc::from)
}

fn request_line(bytes: Option<u32>) -> Result<usize, OrderError> {
    let bytes = bytes.unwrap_or(MAX_REQUEST_LINE_DEFAULT);
    match usize::try_from(bytes) {
        Ok(max) if bytes >= MAX_REQUEST_LINE_MIN => Ok(max),
        _ => Err(OrderError::invalid("max_request_line", &bytes.to_string(), "is below 256")),
    }
}

pub(super) fn listen_address(wire: &proto::SocketAddress) -> Result<SocketAddr, OrderError> {
    let address = address("address", wire)?;
    if address.port() == 0 {
        // Each worker slot binds its own socket: the kernel would choose a port for each.
        return Err(OrderError::invalid(
            "address",
            &address.to_string(),
            "has port 0, which nobody can connect to",
        ));
    }
    Ok(address)
}

fn public_address(wire: &proto::SocketAddress) -> Result<SocketAddr, OrderError> {
    address("public_address", wire)
}

fn check_name(field: &'static str, name: Option<&str>) -> Result<(), OrderError> {
    match name {
        Some(name) if name.len() > NAME_BYTES_MAX => {
            Err(OrderError::invalid(field, name, "is longer than 128 bytes"))
        }
        Some(name) if !is_token(name) => Err(OrderError::invalid(field, name, "is not a token")),
        Some(name) if field != "sticky_name" && has_meaning(name) => {
            Err(OrderError::invalid(field, name, "is a field that HTTP gives another meaning"))
        }
        _ => Ok(()),
    }
}

/// Whether an id in a field of this name would be taken for something else.
fn has_meaning(name: &str) -> bool {
    const TAKEN: [&str; 19] = [
        "Connection",
        "Content-Length",
        "Content-Type",
        "Cookie",
        "Date",
        "Expect",
        "Forwarded",
        "Host",
        "Keep-Alive",
        "Location",
        "Proxy-Connection",
        "Set-Cookie",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
    ];
    TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(name))
}

fn check_positive(field: &'static str, value: Option<u64>) -> Result<(), OrderError> {
    match value {
        Some(0) => Err(OrderError::invalid(field, "0", "must be >= 1")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
