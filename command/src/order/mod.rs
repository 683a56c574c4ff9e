//! Checked orders: what a request to change the configuration becomes before anything acts on it.
//!
//! One file per noun turns wire messages into types that cannot hold an unusable value; nothing behind
//! this room checks again. What the protocol knows and this version does not serve yet is refused where
//! leaving it out would be unsafe or wrong, and otherwise accepted with a note ([`Order::notes`]).
//! Whether an order fits the *state* (exists, does not exist) is decided in [`crate::state`].

mod answer;
mod backend;
mod backend_tls;
pub(crate) mod certificate;
mod cluster;
mod credential;
mod error;
mod expression;
mod frontend;
mod health_check;
mod host;
mod hsts;
mod ids;
mod limit;
mod listener;
mod passive_health;
mod rate_limit;
mod sessions;
mod unix_path;
mod verb;

use std::{net::SocketAddr, sync::Arc};

use crate::proto::{self, request::RequestType};

pub use answer::{ANSWER_BYTES_MAX, ANSWER_NAME_BYTES_MAX, ANSWERS_MAX, AnswerTemplate, Part, Variable};
pub use backend::{Backend, BackendKey, BackendTarget, STICKY_ID_BYTES_MAX, WEIGHT_DEFAULT, WEIGHT_MAX};
pub use backend_tls::BackendTls;
pub use certificate::{
    CERTIFICATE_BYTES_MAX, CHAIN_MAX, Certificate, CertificateFacts, CertificateKey, CertifiedKey,
    Fingerprint, NAMES_MAX, OCSP_RESPONSE_BYTES_MAX, PrivateKey, date, fingerprint_of,
};
pub use cluster::{
    Affinity, Cluster, LoadBalancing, LoadMetric, ProxyVersion, QUEUE_TIMEOUT_DEFAULT,
    SHARD_MIN_BACKENDS_DEFAULT, SameSite, Sharding, StickyAttributes, WWW_AUTHENTICATE_BYTES_MAX,
};
pub use credential::{CREDENTIAL_USER_BYTES_MAX, CREDENTIALS_MAX, Credential};
pub use error::{EXCERPT_BYTES_MAX, Excerpt, Noun, OrderError};
pub use expression::{Case, REGEX_COMPILED_BYTES_MAX, compile_expression};
pub use frontend::{
    FrontendPolicy, HEADER_EDITS_BYTES_MAX, HEADER_EDITS_MAX, HeaderEdit, HeaderMatch, HeaderPredicate,
    HttpFrontend, Identity, METHOD_BYTES_MAX, PATH_BYTES_MAX, PREDICATE_NAME_BYTES_MAX,
    PREDICATE_VALUE_BYTES_MAX, PREDICATES_MAX, PathRule, REWRITE_BYTES_MAX, Redirect, RedirectScheme,
    Rewrite, RewritePart, RulePosition, TAG_BYTES_MAX, TAGS_MAX, TcpFrontend, TcpIdentity,
};
pub use health_check::{
    HealthCheck, PROBE_HEADER_BYTES_MAX, PROBE_HEADERS_MAX, PROBE_HOST_BYTES_MAX,
    PROBE_JITTER_PERCENT_DEFAULT, PROBE_STATUSES_MAX, PROBE_URI_BYTES_MAX, ProbeKind, check_header_name,
    check_header_values, fingerprint_text, status_range,
};
pub use host::{HOST_BYTES_MAX, HostPattern, HostSegment, LABEL_BYTES_MAX};
pub use hsts::{HSTS_MAX_AGE_DEFAULT, Hsts};
pub use ids::{BackendId, ClusterId, ID_BYTES_MAX};
pub use limit::ConnectionLimit;
pub use listener::{
    ALPN_NAME_BYTES_MAX, ALPN_NAMES_MAX, Alpn, CipherSuite, ClientAuth, Crl, ForwardedHeaders, Group,
    HANDSHAKE_TIMEOUT_DEFAULT, HttpListener, HttpListenerPatch, INTERFACE_BYTES_MAX, ListenerKey,
    ListenerKind, ListenerLimits, MAX_EARLY_DATA_MAX, MAX_HANDSHAKES_PER_SOURCE_DEFAULT,
    MAX_REQUEST_LINE_DEFAULT, MIN_TRANSFER_RATE_DEFAULT, NAME_BYTES_MAX, OverLimit,
    SEND_TLS13_TICKETS_DEFAULT, SEND_TLS13_TICKETS_MAX, SNI_PREREAD_MAX_BYTES_DEFAULT,
    SNI_PREREAD_MAX_BYTES_MIN, SNI_PREREAD_TIMEOUT_DEFAULT, SOZU_ID_HEADER_DEFAULT, STICKY_NAME_DEFAULT,
    TRUSTED_PROXIES_MAX, TUNNEL_TIMEOUT_DEFAULT, TcpListener, TcpListenerPatch, TlsSettings, TlsVersion,
    TraceContext, TrustedProxies,
};
pub use passive_health::PassiveHealth;
pub use rate_limit::{RATE_LIMITS_MAX, RATE_MAX, RateKey, RateLimit};
pub use sessions::SessionsOf;
pub use unix_path::{UNIX_PATH_BYTES_MAX, UnixPath};
pub use verb::verb_of;

/// One change to the configuration, checked.
///
/// Nouns are shared: the same value is in the order, in the state and in the tables derived from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Adds an HTTP or HTTPS listener. It is inactive whatever it says: activating is an order of its own.
    AddHttpListener(Arc<HttpListener>),
    /// Changes settings of an HTTP or HTTPS listener.
    UpdateHttpListener(Arc<HttpListenerPatch>),
    /// Adds a TCP listener, inactive likewise.
    AddTcpListener(Arc<TcpListener>),
    /// Changes settings of a TCP listener.
    UpdateTcpListener(Arc<TcpListenerPatch>),
    /// Removes a listener.
    RemoveListener {
        /// What it speaks.
        kind: ListenerKind,
        /// Where.
        key: ListenerKey,
    },
    /// Makes a listener accept connections.
    ActivateListener {
        /// What it speaks.
        kind: ListenerKind,
        /// Where.
        key: ListenerKey,
    },
    /// Makes a listener stop accepting connections.
    DeactivateListener {
        /// What it speaks.
        kind: ListenerKind,
        /// Where.
        key: ListenerKey,
    },
    /// Adds or replaces a cluster's settings; its frontends and backends stay.
    AddCluster(Arc<Cluster>),
    /// Removes a cluster with its frontends and backends.
    RemoveCluster(ClusterId),
    /// Gives a cluster a health check, in place of the one it had.
    SetHealthCheck {
        /// Which cluster.
        cluster: ClusterId,
        /// What is asked of its backends.
        check: Arc<HealthCheck>,
    },
    /// Takes a cluster's health check away; that it has none is no error.
    RemoveHealthCheck(ClusterId),
    /// Adds a rule to the HTTP or HTTPS listeners of an address.
    AddHttpFrontend(Arc<HttpFrontend>),
    /// Removes the rule of the same identity and cluster.
    RemoveHttpFrontend(Arc<HttpFrontend>),
    /// Adds a rule to the TCP listeners of an address.
    AddTcpFrontend(Arc<TcpFrontend>),
    /// Removes the rule of the same identity and cluster.
    RemoveTcpFrontend(Arc<TcpFrontend>),
    /// Adds a certificate to an address. One that is there already stays as it is.
    AddCertificate(Arc<Certificate>),
    /// Removes a certificate; that there is none is no error.
    RemoveCertificate(CertificateKey),
    /// Adds or renews a certificate and removes another one at once.
    ReplaceCertificate {
        /// What is there afterwards, as it says here.
        new: Arc<Certificate>,
        /// What is gone afterwards, unless it is the same.
        old: Fingerprint,
    },
    /// Adds or replaces a backend.
    AddBackend(Arc<Backend>),
    /// Removes a backend.
    RemoveBackend(BackendKey),
    /// Changes a limit of the whole proxy.
    SetConnectionLimit {
        /// Which.
        limit: ConnectionLimit,
        /// The most connections; 0: as many as come.
        value: u64,
    },
    /// Changes how many connects there are for one request at most, 1 to 255; none: as configured.
    SetConnectionAttempts(Option<u8>),
}

impl Order {
    /// Checks a request.
    ///
    /// Verb variants (tags 63 to 72, which exist so that old workers do not skip a field silently) are
    /// the same as the plain verbs here: the content decides.
    ///
    /// # Errors
    /// It is no change, has an unusable value, or needs what this version does not serve.
    pub fn from_request(request: &proto::Request) -> Result<Self, OrderError> {
        use RequestType as R;
        let request_type = request.request_type.as_ref().ok_or(OrderError::Unset)?;
        Ok(match request_type {
            R::AddHttpListener(wire) => Self::AddHttpListener(HttpListener::from_wire(wire.clone())?.into()),
            R::AddHttpsListener(wire) | R::AddHttpsListenerWithClientAuth(wire) => {
                Self::AddHttpListener(HttpListener::from_https_wire(wire.clone())?.into())
            }
            R::UpdateHttpListener(wire) => {
                Self::UpdateHttpListener(HttpListenerPatch::from_wire(wire.clone())?.into())
            }
            R::UpdateHttpsListener(wire) | R::UpdateHttpsListenerWithClientAuth(wire) => {
                Self::UpdateHttpListener(HttpListenerPatch::from_https_wire(wire.clone())?.into())
            }
            R::AddTcpListener(wire) => Self::AddTcpListener(TcpListener::from_wire(wire.clone())?.into()),
            R::UpdateTcpListener(wire) => {
                Self::UpdateTcpListener(TcpListenerPatch::from_wire(wire.clone())?.into())
            }
            R::RemoveListener(wire) => {
                let (kind, key) = listener(wire.proxy, &wire.address, wire.interface.as_deref())?;
                Self::RemoveListener { kind, key }
            }
            R::ActivateListener(wire) => {
                let (kind, key) = listener(wire.proxy, &wire.address, wire.interface.as_deref())?;
                Self::ActivateListener { kind, key }
            }
            R::DeactivateListener(wire) => {
                let (kind, key) = listener(wire.proxy, &wire.address, wire.interface.as_deref())?;
                Self::DeactivateListener { kind, key }
            }
            R::AddCluster(wire) => Self::AddCluster(Cluster::from_wire(wire.clone())?.into()),
            R::RemoveCluster(id) => Self::RemoveCluster(ClusterId::parse(id)?),
            R::SetHealthCheck(wire) => Self::SetHealthCheck {
                cluster: ClusterId::parse(&wire.cluster_id)?,
                check: HealthCheck::from_wire(wire.config.clone())?.into(),
            },
            R::RemoveHealthCheck(id) => Self::RemoveHealthCheck(ClusterId::parse(id)?),
            R::AddHttpFrontend(wire)
            | R::AddHttpFrontendWithHeaderPredicates(wire)
            | R::AddHttpFrontendWithSilentClose(wire) => {
                Self::AddHttpFrontend(HttpFrontend::from_wire(wire.clone())?.into())
            }
            R::RemoveHttpFrontend(wire) | R::RemoveHttpFrontendWithHeaderPredicates(wire) => {
                Self::RemoveHttpFrontend(HttpFrontend::from_wire(wire.clone())?.into())
            }
            R::AddHttpsFrontend(wire)
            | R::AddHttpsFrontendWithHeaderPredicates(wire)
            | R::AddHttpsFrontendWithSilentClose(wire) => {
                Self::AddHttpFrontend(HttpFrontend::from_https_wire(wire.clone())?.into())
            }
            R::RemoveHttpsFrontend(wire) | R::RemoveHttpsFrontendWithHeaderPredicates(wire) => {
                Self::RemoveHttpFrontend(HttpFrontend::from_https_wire(wire.clone())?.into())
            }
            R::AddTcpFrontend(wire) => Self::AddTcpFrontend(TcpFrontend::from_wire(wire.clone())?.into()),
            R::RemoveTcpFrontend(wire) => {
                Self::RemoveTcpFrontend(TcpFrontend::from_wire(wire.clone())?.into())
            }
            R::AddCertificate(wire) => Self::AddCertificate(Certificate::from_wire(wire)?.into()),
            R::RemoveCertificate(wire) => {
                Self::RemoveCertificate(CertificateKey::from_wire(&wire.address, &wire.fingerprint)?)
            }
            R::ReplaceCertificate(wire) => Self::ReplaceCertificate {
                new: Certificate::from_replacement(wire)?.into(),
                old: wire.old_fingerprint.parse()?,
            },
            R::AddUnixBackend(wire) if wire.unix_path.is_none() => {
                return Err(OrderError::plain(
                    "unix_path",
                    "is missing: add_unix_backend is for Unix sockets",
                ));
            }
            R::AddBackend(wire) | R::AddUnixBackend(wire) => {
                Self::AddBackend(Backend::from_wire(wire)?.into())
            }
            R::RemoveBackend(wire) => Self::RemoveBackend(BackendKey::from_wire(wire)?),
            R::SetMaxConnectionsPerIp(value) => {
                Self::SetConnectionLimit { limit: ConnectionLimit::PerSource, value: *value }
            }
            R::SetMaxConnectionsPerSubnet(value) => {
                Self::SetConnectionLimit { limit: ConnectionLimit::PerSubnet, value: *value }
            }
            R::SetMaxConnectionAttempts(value) => Self::SetConnectionAttempts(limit::attempts(*value)?),
            other => return Err(verb::refusal(other)),
        })
    }

    /// The request that says this order: by the verb's variant where it has one, so that who does not know
    /// it does not skip what it is about.
    #[must_use]
    pub fn to_request(&self) -> proto::Request {
        match self {
            Self::AddHttpListener(listener) => match listener.https_wire() {
                None => RequestType::AddHttpListener((&**listener).into()),
                Some(wire) if asks_clients(listener) => RequestType::AddHttpsListenerWithClientAuth(wire),
                Some(wire) => RequestType::AddHttpsListener(wire),
            },
            Self::UpdateHttpListener(patch) => match patch.https_wire() {
                None => RequestType::UpdateHttpListener((&**patch).into()),
                Some(wire) if patch.changes_client_auth() => {
                    RequestType::UpdateHttpsListenerWithClientAuth(wire)
                }
                Some(wire) => RequestType::UpdateHttpsListener(wire),
            },
            Self::AddTcpListener(listener) => RequestType::AddTcpListener(listener.wire()),
            Self::UpdateTcpListener(patch) => RequestType::UpdateTcpListener(patch.wire()),
            Self::RemoveListener { kind, key } => RequestType::RemoveListener(proto::RemoveListener {
                address: key.address.into(),
                proxy: proto::ListenerType::from(*kind).into(),
                interface: key.interface.clone(),
            }),
            Self::ActivateListener { kind, key } => RequestType::ActivateListener(proto::ActivateListener {
                address: key.address.into(),
                proxy: proto::ListenerType::from(*kind).into(),
                from_scm: false,
                interface: key.interface.clone(),
            }),
            Self::DeactivateListener { kind, key } => {
                RequestType::DeactivateListener(proto::DeactivateListener {
                    address: key.address.into(),
                    proxy: proto::ListenerType::from(*kind).into(),
                    to_scm: false,
                    interface: key.interface.clone(),
                })
            }
            Self::AddCluster(cluster) => RequestType::AddCluster(cluster.wire()),
            Self::RemoveCluster(id) => RequestType::RemoveCluster(id.to_string()),
            Self::SetHealthCheck { cluster, check } => RequestType::SetHealthCheck(proto::SetHealthCheck {
                cluster_id: cluster.to_string(),
                config: check.wire().clone(),
            }),
            Self::RemoveHealthCheck(id) => RequestType::RemoveHealthCheck(id.to_string()),
            Self::AddHttpFrontend(frontend) => add_frontend(frontend),
            Self::RemoveHttpFrontend(frontend) => remove_frontend(frontend),
            Self::AddTcpFrontend(frontend) => RequestType::AddTcpFrontend((&**frontend).into()),
            Self::RemoveTcpFrontend(frontend) => RequestType::RemoveTcpFrontend((&**frontend).into()),
            Self::AddCertificate(certificate) => RequestType::AddCertificate(proto::AddCertificate {
                address: certificate.address().into(),
                certificate: certificate.wire(),
                expired_at: certificate.expired_at(),
            }),
            Self::RemoveCertificate(key) => RequestType::RemoveCertificate(proto::RemoveCertificate {
                address: key.address.into(),
                fingerprint: key.fingerprint.to_string(),
            }),
            Self::ReplaceCertificate { new, old } => {
                RequestType::ReplaceCertificate(proto::ReplaceCertificate {
                    address: new.address().into(),
                    new_certificate: new.wire(),
                    old_fingerprint: old.to_string(),
                    new_expired_at: new.expired_at(),
                })
            }
            Self::AddBackend(backend) if backend.unix_path().is_some() => {
                RequestType::AddUnixBackend((&**backend).into())
            }
            Self::AddBackend(backend) => RequestType::AddBackend((&**backend).into()),
            Self::RemoveBackend(key) => RequestType::RemoveBackend(key.into()),
            Self::SetConnectionLimit { limit: ConnectionLimit::PerSource, value } => {
                RequestType::SetMaxConnectionsPerIp(*value)
            }
            Self::SetConnectionLimit { limit: ConnectionLimit::PerSubnet, value } => {
                RequestType::SetMaxConnectionsPerSubnet(*value)
            }
            Self::SetConnectionAttempts(value) => {
                RequestType::SetMaxConnectionAttempts(value.map_or(0, u32::from))
            }
        }
        .into()
    }

    /// The order's name, as in the schema.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::AddHttpListener(listener) => match listener.kind() {
                ListenerKind::Https if asks_clients(listener) => "add_https_listener_with_client_auth",
                ListenerKind::Https => "add_https_listener",
                _ => "add_http_listener",
            },
            Self::UpdateHttpListener(patch) => match patch.kind() {
                ListenerKind::Https if patch.changes_client_auth() => {
                    "update_https_listener_with_client_auth"
                }
                ListenerKind::Https => "update_https_listener",
                _ => "update_http_listener",
            },
            Self::AddTcpListener(_) => "add_tcp_listener",
            Self::UpdateTcpListener(_) => "update_tcp_listener",
            Self::RemoveListener { .. } => "remove_listener",
            Self::ActivateListener { .. } => "activate_listener",
            Self::DeactivateListener { .. } => "deactivate_listener",
            Self::AddCluster(_) => "add_cluster",
            Self::RemoveCluster(_) => "remove_cluster",
            Self::SetHealthCheck { .. } => "set_health_check",
            Self::RemoveHealthCheck(_) => "remove_health_check",
            Self::AddHttpFrontend(frontend) => match (frontend.is_https(), Variant::of_adding(frontend)) {
                (false, Variant::Plain) => "add_http_frontend",
                (false, Variant::HeaderPredicates) => "add_http_frontend_with_header_predicates",
                (false, Variant::SilentClose) => "add_http_frontend_with_silent_close",
                (true, Variant::Plain) => "add_https_frontend",
                (true, Variant::HeaderPredicates) => "add_https_frontend_with_header_predicates",
                (true, Variant::SilentClose) => "add_https_frontend_with_silent_close",
            },
            Self::RemoveHttpFrontend(frontend) => {
                match (frontend.is_https(), frontend.header_predicates().is_empty()) {
                    (false, true) => "remove_http_frontend",
                    (false, false) => "remove_http_frontend_with_header_predicates",
                    (true, true) => "remove_https_frontend",
                    (true, false) => "remove_https_frontend_with_header_predicates",
                }
            }
            Self::AddTcpFrontend(_) => "add_tcp_frontend",
            Self::RemoveTcpFrontend(_) => "remove_tcp_frontend",
            Self::AddCertificate(_) => "add_certificate",
            Self::RemoveCertificate(_) => "remove_certificate",
            Self::ReplaceCertificate { .. } => "replace_certificate",
            Self::AddBackend(backend) if backend.unix_path().is_some() => "add_unix_backend",
            Self::AddBackend(_) => "add_backend",
            Self::RemoveBackend(_) => "remove_backend",
            Self::SetConnectionLimit { limit: ConnectionLimit::PerSource, .. } => {
                "set_max_connections_per_ip"
            }
            Self::SetConnectionLimit { limit: ConnectionLimit::PerSubnet, .. } => {
                "set_max_connections_per_subnet"
            }
            Self::SetConnectionAttempts(_) => "set_max_connection_attempts",
        }
    }

    /// What the order asks for that is kept but has no effect in this version, one sentence each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match self {
            Self::AddHttpListener(listener) => listener.notes(&mut notes),
            Self::UpdateHttpListener(patch) => patch.notes(&mut notes),
            Self::AddTcpListener(listener) => listener.notes(&mut notes),
            Self::AddCluster(cluster) => cluster.notes(&mut notes),
            Self::AddHttpFrontend(frontend) => frontend.notes(&mut notes),
            _ => {}
        }
        notes
    }

    /// Whether all of it holds at `now`, in seconds since 1970; what is odd about it is noted. A state that
    /// is loaded may be older: who restores one does not ask.
    ///
    /// # Errors
    /// A certificate has expired, or a revocation list should have been replaced.
    pub fn check_validity(&self, now: i64, notes: &mut Vec<String>) -> Result<(), OrderError> {
        match self {
            Self::AddHttpListener(listener) => listener.check_validity(now, notes),
            Self::UpdateHttpListener(patch) => patch.check_validity(now),
            Self::AddTcpListener(listener) => listener.check_validity(now, notes),
            Self::UpdateTcpListener(patch) => patch.check_validity(now),
            Self::AddCertificate(certificate) | Self::ReplaceCertificate { new: certificate, .. } => {
                certificate.check_validity(now, notes)
            }
            _ => Ok(()),
        }
    }
}

fn asks_clients(listener: &HttpListener) -> bool {
    listener.tls().is_some_and(|tls| tls.client_auth().is_some())
}

fn add_frontend(frontend: &HttpFrontend) -> RequestType {
    let wire = frontend.into();
    match (frontend.is_https(), Variant::of_adding(frontend)) {
        (false, Variant::Plain) => RequestType::AddHttpFrontend(wire),
        (false, Variant::HeaderPredicates) => RequestType::AddHttpFrontendWithHeaderPredicates(wire),
        (false, Variant::SilentClose) => RequestType::AddHttpFrontendWithSilentClose(wire),
        (true, Variant::Plain) => RequestType::AddHttpsFrontend(wire),
        (true, Variant::HeaderPredicates) => RequestType::AddHttpsFrontendWithHeaderPredicates(wire),
        (true, Variant::SilentClose) => RequestType::AddHttpsFrontendWithSilentClose(wire),
    }
}

fn remove_frontend(frontend: &HttpFrontend) -> RequestType {
    let wire = frontend.into();
    match (frontend.is_https(), frontend.header_predicates().is_empty()) {
        (false, true) => RequestType::RemoveHttpFrontend(wire),
        (false, false) => RequestType::RemoveHttpFrontendWithHeaderPredicates(wire),
        (true, true) => RequestType::RemoveHttpsFrontend(wire),
        (true, false) => RequestType::RemoveHttpsFrontendWithHeaderPredicates(wire),
    }
}

/// Which verb adds a frontend.
enum Variant {
    Plain,
    HeaderPredicates,
    SilentClose,
}

impl Variant {
    /// Who knows the variant for silent closes, which is the younger one, knows predicates.
    fn of_adding(frontend: &HttpFrontend) -> Self {
        if frontend.redirect() == Redirect::SilentClose {
            Self::SilentClose
        } else if frontend.header_predicates().is_empty() {
            Self::Plain
        } else {
            Self::HeaderPredicates
        }
    }
}

fn listener(
    kind: i32,
    address: &proto::SocketAddress,
    interface: Option<&str>,
) -> Result<(ListenerKind, ListenerKey), OrderError> {
    match ListenerKind::from_wire(kind)? {
        ListenerKind::Udp => Err(OrderError::NotServed { what: verb::UDP }),
        kind => Ok((kind, ListenerKey::from_wire(address, interface)?)),
    }
}

fn address(field: &'static str, wire: &proto::SocketAddress) -> Result<SocketAddr, OrderError> {
    SocketAddr::try_from(wire).map_err(|error| OrderError::Invalid {
        field,
        value: Excerpt::NONE,
        reason: error.to_string().into(),
    })
}

/// The meaning of a number on the wire; a number without one is refused rather than taken for a default.
fn wire_enum<E: TryFrom<i32>>(field: &'static str, wire: i32) -> Result<E, OrderError> {
    E::try_from(wire)
        .map_err(|_| OrderError::invalid(field, &wire.to_string(), "is not known to this version"))
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// RFC 9110 §5.5: what a field's value can hold; bytes beyond ASCII are opaque.
fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control())
}

#[cfg(test)]
mod tests;
