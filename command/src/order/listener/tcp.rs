//! TCP listeners: bytes to clusters as they come, by the name in a TLS ClientHello if their frontends ask for it;
//! or, with [`TlsSettings`], out of the TLS that ends here.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::{
    EXPECT_PROXY_FROM, ListenerKey, ListenerLimits, TlsSettings, TrustedProxies, check_positive,
    limits::said_limits,
    listen_address, public_address,
    tls::{patch as tls_patch, tcp as tls_tcp},
};
use crate::{order::OrderError, proto};

/// How long a ClientHello may take, in seconds, unless the listener says otherwise.
pub const SNI_PREREAD_TIMEOUT_DEFAULT: u32 = 5;
/// Most bytes that are read to find a ClientHello's name, unless the listener says otherwise.
pub const SNI_PREREAD_MAX_BYTES_DEFAULT: u32 = 16384;
/// The least that they can be limited to: the header of a TLS record (RFC 8446 §5.1).
pub const SNI_PREREAD_MAX_BYTES_MIN: u32 = 5;

/// A TCP listener, checked.
#[derive(Clone, Debug)]
pub struct TcpListener {
    key: ListenerKey,
    public_address: Option<SocketAddr>,
    front_timeout: Duration,
    back_timeout: Duration,
    connect_timeout: Duration,
    sni_preread_timeout: Duration,
    sni_preread_bytes_max: usize,
    expect_proxy_from: TrustedProxies,
    limits: ListenerLimits,
    tls: Option<Arc<TlsSettings>>,
    /// The message it came as, without TLS.
    wire: proto::TcpListenerConfig,
}

/// All else is made of the message.
impl PartialEq for TcpListener {
    fn eq(&self, other: &Self) -> bool {
        self.wire == other.wire && self.tls == other.tls
    }
}

/// Changes to a TCP listener, checked: what is absent stays as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpListenerPatch {
    address: SocketAddr,
    /// Without TLS.
    wire: proto::UpdateTcpListenerConfig,
    /// What is about TLS, and nothing else of the message.
    tls: Option<Box<proto::UpdateHttpsListenerConfig>>,
}

impl TcpListener {
    /// Checks a listener that came from outside.
    ///
    /// # Errors
    /// No address, port 0, a limit out of its range, TLS that cannot work or has settings that are about HTTP,
    /// or a feature not served yet that it would be wrong to leave out.
    pub fn from_wire(mut wire: proto::TcpListenerConfig) -> Result<Self, OrderError> {
        let tls = wire.tls.take().map(|tls| TlsSettings::from_tcp_wire(tls, &wire.address)).transpose()?;
        let seconds = |field, seconds: u32| {
            check_positive(field, Some(seconds.into())).map(|()| Duration::from_secs(seconds.into()))
        };
        let preread = wire.sni_preread_timeout.unwrap_or(SNI_PREREAD_TIMEOUT_DEFAULT);
        Ok(Self {
            key: ListenerKey::from_wire(&wire.address, wire.interface.as_deref())?,
            public_address: wire.public_address.as_ref().map(public_address).transpose()?,
            front_timeout: seconds("front_timeout", wire.front_timeout)?,
            back_timeout: seconds("back_timeout", wire.back_timeout)?,
            connect_timeout: seconds("connect_timeout", wire.connect_timeout)?,
            sni_preread_timeout: seconds("sni_preread_timeout", preread)?,
            sni_preread_bytes_max: preread_bytes(wire.sni_preread_max_bytes)?,
            expect_proxy_from: TrustedProxies::parse(EXPECT_PROXY_FROM, &wire.expect_proxy_from)?,
            limits: ListenerLimits::of_tcp(&said_limits!(wire))?,
            tls: tls.map(Arc::new),
            wire,
        })
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

    /// The address that clients know, for logs.
    #[must_use]
    pub fn public_address(&self) -> Option<SocketAddr> {
        self.public_address
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

    /// How long a ClientHello may take; never longer than a front may be silent.
    #[must_use]
    pub fn sni_preread_timeout(&self) -> Duration {
        self.sni_preread_timeout.min(self.front_timeout)
    }

    /// Most bytes that are read to find a ClientHello's name; at least a record's header. A worker reads no
    /// more than its buffers hold, whatever this says.
    #[must_use]
    pub fn sni_preread_bytes_max(&self) -> usize {
        self.sni_preread_bytes_max
    }

    /// Its TLS, if TLS ends here.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsSettings> {
        self.tls.as_deref()
    }

    /// Whether a connection from this peer opens with a PROXY header.
    #[must_use]
    pub fn expects_proxy_header(&self, peer: IpAddr) -> bool {
        self.wire.expect_proxy && (self.expect_proxy_from.is_empty() || self.expect_proxy_from.contains(peer))
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
    /// The patch is about TLS, and this listener has none.
    pub fn patched(&self, patch: &TcpListenerPatch) -> Result<Self, OrderError> {
        let mut wire = self.wire.clone();
        patch.apply(&mut wire);
        let tls = match (&self.tls, &patch.tls) {
            (Some(tls), Some(patch)) => Some(tls.patched(patch, &self.wire.address)?.into()),
            (None, Some(_)) => {
                return Err(OrderError::plain(
                    "tls",
                    "cannot be changed: the listener passes TLS on as it is",
                ));
            }
            (tls, None) => tls.clone(),
        };
        Ok(Self { tls, ..Self::from_wire(wire)? })
    }

    /// The patch that makes this listener `to`, activation aside; none if a patch cannot say it (a setting
    /// that is to be absent again, another key, TLS where there was none).
    #[must_use]
    pub fn patch_to(&self, to: &Self) -> Option<TcpListenerPatch> {
        if self.key != to.key || self.tls.is_some() != to.tls.is_some() {
            return None;
        }
        let patch = TcpListenerPatch::between(self, to);
        let patched = self.patched(&patch).ok()?.with_active(to.active());
        (patched == *to).then_some(patch)
    }

    /// The message. **Has the private key of its own certificate in the clear.**
    #[must_use]
    pub fn wire(&self) -> proto::TcpListenerConfig {
        self.join(self.tls().map(TlsSettings::wire))
    }

    /// The same without the private key, to be shown.
    #[must_use]
    pub fn public_wire(&self) -> proto::TcpListenerConfig {
        self.join(self.tls().map(TlsSettings::public_wire))
    }

    /// With what the message of an HTTPS listener cannot do without, so that it reads as one.
    fn join(&self, tls: Option<proto::HttpsListenerConfig>) -> proto::TcpListenerConfig {
        let address = self.wire.address;
        let shared = || proto::HttpListenerConfig { address, ..Default::default() };
        proto::TcpListenerConfig { tls: tls.map(|tls| tls.with(shared())), ..self.wire.clone() }
    }

    pub(in crate::order) fn notes(&self, notes: &mut Vec<String>) {
        if let Some(tls) = &self.tls {
            tls.notes(notes);
        }
    }

    /// Whether all of it holds at `now`, in seconds since 1970; what is odd about it is noted.
    pub(in crate::order) fn check_validity(
        &self,
        now: i64,
        notes: &mut Vec<String>,
    ) -> Result<(), OrderError> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.check_validity(now, notes))
    }
}

/// Names each optional setting that patch and listener share under one name, once.
macro_rules! optional_settings {
    ($apply:ident) => {
        $apply!(
            public_address,
            sni_preread_timeout,
            sni_preread_max_bytes,
            rate_limits,
            max_connections,
            max_connections_per_source,
            max_accept_rate,
            over_limit
        )
    };
}

/// Likewise for those that a listener always has.
macro_rules! required_settings {
    ($apply:ident) => {
        $apply!(expect_proxy, front_timeout, back_timeout, connect_timeout)
    };
}

impl TcpListenerPatch {
    /// Checks a patch that came from outside.
    ///
    /// # Errors
    /// As for a listener.
    pub fn from_wire(mut wire: proto::UpdateTcpListenerConfig) -> Result<Self, OrderError> {
        let address = listen_address(&wire.address)?;
        wire.public_address.as_ref().map(public_address).transpose()?;
        if let Some(sources) = &wire.expect_proxy_from {
            TrustedProxies::parse(EXPECT_PROXY_FROM, &sources.values)?;
        }
        for (field, seconds) in [
            ("front_timeout", wire.front_timeout),
            ("back_timeout", wire.back_timeout),
            ("connect_timeout", wire.connect_timeout),
            ("sni_preread_timeout", wire.sni_preread_timeout),
        ] {
            check_positive(field, seconds.map(u64::from))?;
        }
        preread_bytes(wire.sni_preread_max_bytes)?;
        ListenerLimits::of_tcp(&said_limits!(wire))?;
        let tls = wire.tls.take().map(tls_tcp::patch_from_wire).transpose()?;
        Ok(Self { address, wire, tls: tls.map(Box::new) })
    }

    /// The listener it is for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The message.
    #[must_use]
    pub fn wire(&self) -> proto::UpdateTcpListenerConfig {
        let address = self.wire.address;
        let shared = || proto::UpdateHttpListenerConfig { address, ..Default::default() };
        let tls = self.tls.as_ref().map(|tls| (**tls).clone().with(shared()));
        proto::UpdateTcpListenerConfig { tls, ..self.wire.clone() }
    }

    /// Whether all of it holds at `now`, in seconds since 1970.
    pub(in crate::order) fn check_validity(&self, now: i64) -> Result<(), OrderError> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls_patch::check_validity(tls, now))
    }

    /// Writes what is set.
    fn apply(&self, listener: &mut proto::TcpListenerConfig) {
        let patch = &self.wire;
        macro_rules! set_optional {
            ($($field:ident),*) => {
                $(if patch.$field.is_some() {
                    listener.$field = patch.$field.clone();
                })*
            };
        }
        macro_rules! set_required {
            ($($field:ident),*) => {
                $(if let Some(value) = patch.$field {
                    listener.$field = value;
                })*
            };
        }
        optional_settings!(set_optional);
        required_settings!(set_required);
        if let Some(sources) = &patch.expect_proxy_from {
            listener.expect_proxy_from = sources.values.clone();
        }
    }

    /// A patch of all in which `to` differs, as far as a patch can say it.
    fn between(before: &TcpListener, after: &TcpListener) -> Self {
        let (address, from, to) = (before.address(), &before.wire, &after.wire);
        let mut wire = proto::UpdateTcpListenerConfig { address: address.into(), ..Default::default() };
        macro_rules! take_optional {
            ($($field:ident),*) => {
                $(if from.$field != to.$field {
                    wire.$field = to.$field.clone();
                })*
            };
        }
        macro_rules! take_required {
            ($($field:ident),*) => {
                $(if from.$field != to.$field {
                    wire.$field = Some(to.$field);
                })*
            };
        }
        optional_settings!(take_optional);
        required_settings!(take_required);
        if from.expect_proxy_from != to.expect_proxy_from {
            wire.expect_proxy_from = Some(proto::TrustedProxies { values: to.expect_proxy_from.clone() });
        }
        let tls = before.tls().zip(after.tls()).map(|(from, to)| Box::new(from.patch_to(to)));
        Self { address, wire, tls }
    }
}

fn preread_bytes(bytes: Option<u32>) -> Result<usize, OrderError> {
    let bytes = bytes.unwrap_or(SNI_PREREAD_MAX_BYTES_DEFAULT);
    match usize::try_from(bytes) {
        Ok(max) if bytes >= SNI_PREREAD_MAX_BYTES_MIN => Ok(max),
        _ => Err(OrderError::invalid("sni_preread_max_bytes", &bytes.to_string(), "is below 5")),
    }
}

#[cfg(test)]
mod tests;
