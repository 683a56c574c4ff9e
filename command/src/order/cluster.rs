//! Clusters: named services and how their backends are chosen.

use std::iter;

use zeroize::Zeroize;

use super::{
    AnswerTemplate, BackendTls, ClusterId, ConnectionLimit, Credential, HealthCheck, OrderError,
    PassiveHealth,
    answer::{self, Answers},
    credential, is_field_value,
    rate_limit::{self, RateLimit},
    wire_enum,
};
use crate::proto;

mod balancing;
mod concurrency;

pub use balancing::{Affinity, LoadMetric, SHARD_MIN_BACKENDS_DEFAULT, SameSite, Sharding, StickyAttributes};
pub use concurrency::QUEUE_TIMEOUT_DEFAULT;

/// A named service, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    id: ClusterId,
    load_balancing: LoadBalancing,
    max_connection_attempts: Option<u8>,
    /// All that is not above, when any of it is set. Most clusters have nothing here, and a hundred
    /// thousand of them should not pay for it.
    rest: Option<Box<Rest>>,
}

/// What few clusters have.
#[derive(Clone, Debug)]
struct Rest {
    /// The message it came as, without what the cluster itself has.
    wire: proto::Cluster,
    https_redirect_port: Option<u16>,
    answers: Answers,
    credentials: Box<[Credential]>,
    tls: Option<BackendTls>,
    health_check: Option<HealthCheck>,
    passive_health: Option<PassiveHealth>,
    rate_limits: Box<[RateLimit]>,
}

/// All else is made of the message.
impl PartialEq for Rest {
    fn eq(&self, other: &Self) -> bool {
        self.wire == other.wire && self.tls == other.tls
    }
}

/// Longest challenge (`www_authenticate`), in bytes.
pub const WWW_AUTHENTICATE_BYTES_MAX: usize = 1024;

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary, with more to tell.
    V2,
}

/// How a backend is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadBalancing {
    /// One after the other, by weight.
    RoundRobin,
    /// At random, by weight.
    Random,
    /// The one with the least load.
    LeastLoaded,
    /// The less loaded of two at random.
    PowerOfTwo,
    /// Rendezvous hashing of the affinity key.
    Hrw,
    /// Maglev hashing of the affinity key.
    Maglev,
}

impl Cluster {
    /// Checks a cluster that came from outside.
    ///
    /// # Errors
    /// Values out of range or at odds with each other, or a feature not served yet that it would be
    /// wrong to leave out.
    pub fn from_wire(mut wire: proto::Cluster) -> Result<Self, OrderError> {
        let id = ClusterId::parse(&wire.cluster_id)?;
        refuse_not_served(&wire)?;
        let load_balancing = LoadBalancing::from_wire(wire.load_balancing)?;
        let max_connection_attempts = wire.max_connection_attempts.map(check_attempts).transpose()?;
        balancing::check(&wire)?;
        concurrency::check(&wire)?;
        check_known_numbers(&wire)?;
        check_challenge(wire.www_authenticate.as_deref())?;
        let older = iter::once(("answer_503", 503, wire.answer_503.as_deref().unwrap_or_default()));
        let answers = Answers::from_wire(&wire.answers, older)?;
        let credentials = credential::credentials(&wire.authorized_hashes)?;
        let tls = wire.tls.take().as_ref().map(BackendTls::from_wire).transpose()?;
        let https_redirect_port = wire.https_redirect_port.map(check_port).transpose()?;
        let health_check = wire.health_check.clone().map(HealthCheck::from_wire).transpose()?;
        let passive_health = wire.passive_health.as_ref().map(PassiveHealth::from_wire).transpose()?;
        let rate_limits = rate_limit::rate_limits(&wire.rate_limits)?;
        check_percent("panic_threshold", wire.panic_threshold)?;
        check_percent("retry_budget_percent", wire.retry_budget_percent)?;
        // What the fields above already say is blanked; the rest is kept only if it says anything.
        let blank = proto::Cluster::default();
        let rest = proto::Cluster {
            cluster_id: String::new(),
            load_balancing: blank.load_balancing,
            max_connection_attempts: None,
            ..wire
        };
        let rest = (rest != blank || tls.is_some()).then(|| {
            Box::new(Rest {
                wire: rest,
                https_redirect_port,
                answers,
                credentials,
                tls,
                health_check,
                passive_health,
                rate_limits,
            })
        });
        Ok(Self { id, load_balancing, max_connection_attempts, rest })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &ClusterId {
        &self.id
    }

    /// How a backend is chosen.
    #[must_use]
    pub fn load_balancing(&self) -> LoadBalancing {
        self.load_balancing
    }

    /// Whether plain HTTP is answered with a redirect to HTTPS.
    #[must_use]
    pub fn https_redirect(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.wire.https_redirect)
    }

    /// The port that such a redirect names, if not HTTPS's own.
    #[must_use]
    pub fn https_redirect_port(&self) -> Option<u16> {
        self.rest.as_ref()?.https_redirect_port
    }

    /// Connection attempts per request, 1 to 255; none: the worker's own limit.
    #[must_use]
    pub fn max_connection_attempts(&self) -> Option<u8> {
        self.max_connection_attempts
    }

    /// Client connections of one source to it, where it has a limit of its own; 0: as many as come.
    #[must_use]
    pub fn connection_limit(&self, limit: ConnectionLimit) -> Option<u64> {
        let wire = &self.rest.as_ref()?.wire;
        match limit {
            ConnectionLimit::PerSource => wire.max_connections_per_ip,
            ConnectionLimit::PerSubnet => wire.max_connections_per_subnet,
        }
    }

    /// How many requests a second it is given, beyond what listeners say; of TCP, connections.
    #[must_use]
    pub fn rate_limits(&self) -> &[RateLimit] {
        self.rest.as_ref().map_or(&[], |rest| &rest.rate_limits)
    }

    /// After how many seconds who was over a limit of it may come again, where it says so; 0: untold.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        self.rest.as_ref()?.wire.retry_after
    }

    /// Its own answer for this status.
    #[must_use]
    pub fn answer(&self, status: u16) -> Option<&AnswerTemplate> {
        self.rest.as_ref()?.answers.get(status)
    }

    /// Who may ask where authentication is required; none: nobody.
    #[must_use]
    pub fn credentials(&self) -> &[Credential] {
        self.rest.as_ref().map_or(&[], |rest| &rest.credentials)
    }

    /// The challenge of a 401, as the whole value of `WWW-Authenticate`; never empty.
    #[must_use]
    pub fn www_authenticate(&self) -> Option<&str> {
        self.rest.as_ref()?.wire.www_authenticate.as_deref().filter(|challenge| !challenge.is_empty())
    }

    /// How its backends are spoken to over TLS; none: in the clear.
    #[must_use]
    pub fn tls(&self) -> Option<&BackendTls> {
        self.rest.as_ref()?.tls.as_ref().filter(|tls| tls.enabled())
    }

    /// How its backends are probed; none: they are not.
    #[must_use]
    pub fn health_check(&self) -> Option<&HealthCheck> {
        self.rest.as_ref()?.health_check.as_ref()
    }

    /// The same cluster with another health check, or none.
    #[must_use]
    pub fn with_health_check(&self, check: Option<HealthCheck>) -> Self {
        let mut cluster = self.clone();
        let mut rest = cluster.rest.take().unwrap_or_else(|| Box::new(Rest::blank()));
        rest.wire.health_check = check.as_ref().map(|check| check.wire().clone());
        rest.health_check = check;
        let says_something = rest.wire != Rest::blank().wire || rest.tls.is_some();
        cluster.rest = says_something.then_some(rest);
        cluster
    }

    /// When its backends are taken out because of requests that failed; none: never.
    #[must_use]
    pub fn passive_health(&self) -> Option<&PassiveHealth> {
        self.rest.as_ref()?.passive_health.as_ref()
    }

    /// With fewer healthy backends than so many percent, 0 to 100, what is said of their health is left out of
    /// account; none: with no healthy one.
    #[must_use]
    pub fn panic_threshold(&self) -> Option<u32> {
        self.rest.as_ref()?.wire.panic_threshold
    }

    /// Connects beyond the first of each request, in percent of the requests, 0 to 100; none: no bound.
    #[must_use]
    pub fn retry_budget_percent(&self) -> Option<u32> {
        self.rest.as_ref()?.wire.retry_budget_percent
    }

    /// The cluster as a message, with every field it came with, but for a private key.
    #[must_use]
    pub fn public_wire(&self) -> proto::Cluster {
        let mut wire = self.wire();
        if let Some(tls) = &mut wire.tls {
            tls.client_key.zeroize();
        }
        wire
    }

    /// The cluster as a message, with every field it came with. **Has the private key for its backends, if
    /// there is one, in the clear.**
    #[must_use]
    pub fn wire(&self) -> proto::Cluster {
        let tls = self.rest.as_ref().and_then(|rest| rest.tls.as_ref()).map(BackendTls::wire);
        let rest = self.rest.as_ref().map(|rest| rest.wire.clone()).unwrap_or_default();
        proto::Cluster {
            cluster_id: self.id.to_string(),
            load_balancing: self.load_balancing.to_wire().into(),
            max_connection_attempts: self.max_connection_attempts.map(u32::from),
            tls,
            ..rest
        }
    }

    /// Whether TCP frontends can lead to it: what it asks for has a meaning without HTTP, and is served there.
    pub(crate) fn check_fit_for_tcp(&self) -> Result<(), OrderError> {
        let Some(Rest { wire, rate_limits, .. }) = self.rest.as_deref() else { return Ok(()) };
        rate_limit::check_fit_for_tcp(rate_limits)?;
        for (field, name) in
            [("affinity_header", &wire.affinity_header), ("affinity_cookie", &wire.affinity_cookie)]
        {
            if let Some(name) = name {
                let reason = "needs HTTP: a cluster with TCP frontends cannot have it";
                return Err(OrderError::invalid(field, name, reason));
            }
        }
        Ok(())
    }

    /// Which version of the PROXY header opens each connection to a backend; none: no header does.
    #[must_use]
    pub fn sends_proxy_header(&self) -> Option<ProxyVersion> {
        let wire = &self.rest.as_ref()?.wire;
        let sends = [proto::ProxyProtocolConfig::SendHeader, proto::ProxyProtocolConfig::RelayHeader];
        wire.proxy_protocol.filter(|kind| sends.map(i32::from).contains(kind))?;
        Some(if wire.send_proxy_version == Some(1) { ProxyVersion::V1 } else { ProxyVersion::V2 })
    }

    pub(super) fn notes(&self, notes: &mut Vec<String>) {
        if let Some(tls) = self.tls() {
            tls.notes(notes);
        }
        let Some(rest) = self.rest.as_ref().map(|rest| &rest.wire) else { return };
        answer::note_unused(&rest.answers, notes);
        let unserved = [(rest.udp.is_some(), "udp")];
        for (_, what) in unserved.into_iter().filter(|(used, _)| *used) {
            notes.push(format!("{what} is kept but not served yet by this version"));
        }
    }
}

impl Rest {
    fn blank() -> Self {
        let blank = proto::Cluster::default();
        let wire = proto::Cluster {
            cluster_id: String::new(),
            load_balancing: blank.load_balancing,
            max_connection_attempts: None,
            ..blank
        };
        Self {
            wire,
            https_redirect_port: None,
            answers: Answers::default(),
            credentials: Box::default(),
            tls: None,
            health_check: None,
            passive_health: None,
            rate_limits: Box::default(),
        }
    }
}

impl LoadBalancing {
    fn from_wire(wire: i32) -> Result<Self, OrderError> {
        use proto::LoadBalancingAlgorithms as Wire;
        Ok(match wire_enum("load_balancing", wire)? {
            Wire::RoundRobin => Self::RoundRobin,
            Wire::Random => Self::Random,
            Wire::LeastLoaded => Self::LeastLoaded,
            Wire::PowerOfTwo => Self::PowerOfTwo,
            Wire::Hrw => Self::Hrw,
            Wire::Maglev => Self::Maglev,
        })
    }

    fn to_wire(self) -> proto::LoadBalancingAlgorithms {
        use proto::LoadBalancingAlgorithms as Wire;
        match self {
            Self::RoundRobin => Wire::RoundRobin,
            Self::Random => Wire::Random,
            Self::LeastLoaded => Wire::LeastLoaded,
            Self::PowerOfTwo => Wire::PowerOfTwo,
            Self::Hrw => Wire::Hrw,
            Self::Maglev => Wire::Maglev,
        }
    }
}

/// Backends would be spoken to in the wrong protocol.
fn refuse_not_served(wire: &proto::Cluster) -> Result<(), OrderError> {
    if wire.http2 == Some(true) {
        return Err(OrderError::NotServed { what: "HTTP/2 backends (http2) are" });
    }
    Ok(())
}

fn check_attempts(attempts: u32) -> Result<u8, OrderError> {
    match u8::try_from(attempts) {
        Ok(attempts) if attempts > 0 => Ok(attempts),
        _ => {
            Err(OrderError::invalid("max_connection_attempts", &attempts.to_string(), "is not from 1 to 255"))
        }
    }
}

fn check_percent(field: &'static str, percent: Option<u32>) -> Result<(), OrderError> {
    match percent {
        Some(percent) if percent > 100 => {
            Err(OrderError::invalid(field, &percent.to_string(), "is not from 0 to 100"))
        }
        _ => Ok(()),
    }
}

/// Numbers with a meaning of their own, which a later version will act on.
fn check_known_numbers(wire: &proto::Cluster) -> Result<(), OrderError> {
    wire.proxy_protocol
        .map_or(Ok(()), |kind| wire_enum::<proto::ProxyProtocolConfig>("proxy_protocol", kind).map(drop))?;
    if let Some(version) = wire.send_proxy_version
        && !(1..=2).contains(&version)
    {
        return Err(OrderError::invalid("send_proxy_version", &version.to_string(), "is neither 1 nor 2"));
    }
    Ok(())
}

fn check_port(port: u32) -> Result<u16, OrderError> {
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(OrderError::invalid("https_redirect_port", &port.to_string(), "is not a port")),
    }
}

fn check_challenge(challenge: Option<&str>) -> Result<(), OrderError> {
    const FIELD: &str = "www_authenticate";
    match challenge {
        Some(text) if text.len() > WWW_AUTHENTICATE_BYTES_MAX => {
            Err(OrderError::invalid(FIELD, text, "is longer than 1024 bytes"))
        }
        Some(text) if !is_field_value(text) => {
            Err(OrderError::invalid(FIELD, text, "has a control character"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn wire() -> proto::Cluster {
        proto::Cluster { cluster_id: "app".into(), ..Default::default() }
    }

    fn check(edit: impl FnOnce(&mut proto::Cluster), expected: &str) {
        let mut wire = wire();
        edit(&mut wire);
        let error = Cluster::from_wire(wire).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_cluster_goes_back_to_the_wire_as_it_came() {
        let full = proto::Cluster {
            sticky_session: true,
            https_redirect: true,
            load_balancing: proto::LoadBalancingAlgorithms::Maglev.into(),
            answers: BTreeMap::from([("503".into(), "HTTP/1.1 503 Busy\r\n\r\n".into())]),
            answer_503: Some("HTTP/1.1 503 Older\r\n\r\n".into()),
            authorized_hashes: vec![hash("ada")],
            www_authenticate: Some("Basic realm=\"app\"".into()),
            affinity_cookie: Some("user".into()),
            shard_percent: Some(10),
            shard_min_backends: Some(4),
            max_connection_attempts: Some(255),
            https_redirect_port: Some(8443),
            ..wire()
        };
        for wire in [wire(), full] {
            let cluster = Cluster::from_wire(wire.clone()).expect("accepted");
            assert_eq!(cluster.wire(), wire);
            assert_eq!(Cluster::from_wire(cluster.wire()), Ok(cluster));
        }
    }

    fn hash(user: &str) -> String {
        format!("{user}:{}", "5e".repeat(32))
    }

    #[test]
    fn answers_and_users_are_at_hand() {
        let plain = Cluster::from_wire(wire()).expect("accepted");
        assert_eq!((plain.answer(503), plain.credentials(), plain.www_authenticate()), (None, &[][..], None));
        let full = proto::Cluster {
            answers: BTreeMap::from([("404".into(), "HTTP/1.1 404 Ours\n\n".into())]),
            answer_503: Some("HTTP/1.1 503 Older\n\n".into()),
            authorized_hashes: vec![hash("ada"), hash("grace")],
            www_authenticate: Some("Basic".into()),
            ..wire()
        };
        let full = Cluster::from_wire(full).expect("accepted");
        assert_eq!(full.answer(404).map(AnswerTemplate::reason), Some("Ours"));
        assert_eq!(full.answer(503).map(AnswerTemplate::reason), Some("Older"));
        assert_eq!((full.answer(502), full.www_authenticate()), (None, Some("Basic")));
        let users: Vec<_> = full.credentials().iter().map(|it| &*it.user).collect();
        assert_eq!(users, ["ada", "grace"]);
        let empty = proto::Cluster { www_authenticate: Some(String::new()), ..wire() };
        assert_eq!(Cluster::from_wire(empty).expect("accepted").www_authenticate(), None);
    }

    #[test]
    fn a_plain_cluster_is_small() {
        assert!(Cluster::from_wire(wire()).expect("accepted").rest.is_none());
        assert!(size_of::<Cluster>() <= 32, "{} bytes", size_of::<Cluster>());
    }

    #[test]
    fn what_would_be_ignored_at_a_cost_is_refused() {
        check(|wire| wire.http2 = Some(true), "HTTP/2 backends (http2) are not served yet");
    }

    #[test]
    fn values_out_of_range_are_refused() {
        check(|wire| wire.cluster_id = "a\tb".into(), "control character");
        check(|wire| wire.load_balancing = 6, "load_balancing `6` is not known");
        check(|wire| wire.max_connection_attempts = Some(0), "`0` is not from 1 to 255");
        check(|wire| wire.max_connection_attempts = Some(256), "`256` is not from 1 to 255");
        check(|wire| wire.affinity_header = Some("Host".into()), "cannot be a key");
        check(|wire| wire.affinity_header = Some("x y".into()), "is not a token");
        check(
            |wire| (wire.affinity_header, wire.affinity_cookie) = (Some("a".into()), Some("b".into())),
            "only one",
        );
        check(|wire| wire.shard_percent = Some(101), "shard_percent `101`");
        check(|wire| wire.shard_min_backends = Some(3), "without shard_percent");
        check(|wire| (wire.shard_percent, wire.shard_min_backends) = (Some(1), Some(1)), "is below 2");
        check(|wire| wire.proxy_protocol = Some(3), "proxy_protocol `3`");
        check(|wire| wire.https_redirect_port = Some(65_536), "is not a port");
        check(|wire| wire.answer_503 = Some("Busy".into()), "answer_503 has no empty line");
        check(|wire| wire.answers = BTreeMap::from([("503".into(), "Busy".into())]), "answers `503` has no");
        check(|wire| wire.authorized_hashes = vec!["ada:secret".into()], "authorized_hashes `ada` is not");
        check(|wire| wire.www_authenticate = Some("a\nb".into()), "www_authenticate `a\\nb` has a control");
        check(|wire| wire.www_authenticate = Some("a".repeat(1025)), "longer than 1024 bytes");
    }

    #[test]
    fn a_health_check_comes_and_goes() {
        let plain = Cluster::from_wire(wire()).expect("accepted");
        let config = proto::HealthCheckConfig { uri: "/up".into(), ..Default::default() };
        let check = HealthCheck::from_wire(config.clone()).expect("accepted");
        let checked = plain.with_health_check(Some(check.clone()));
        assert_eq!(checked.health_check(), Some(&check));
        assert_eq!(checked.wire(), proto::Cluster { health_check: Some(config), ..wire() });
        assert_eq!(Cluster::from_wire(checked.wire()).as_ref(), Ok(&checked));
        assert_eq!(checked.with_health_check(None), plain);
        check_percents();
    }

    fn check_percents() {
        check(|wire| wire.panic_threshold = Some(101), "panic_threshold `101` is not from 0 to 100");
        check(|wire| wire.retry_budget_percent = Some(101), "retry_budget_percent `101`");
        check(|wire| wire.health_check = Some(Default::default()), "health_check.uri");
    }

    #[test]
    fn what_is_kept_but_not_served_is_noted() {
        let udp = Some(proto::UdpClusterConfig::default());
        let wire = proto::Cluster { sticky_session: true, max_connections_per_ip: Some(0), udp, ..wire() };
        let mut notes = Vec::new();
        Cluster::from_wire(wire).expect("accepted").notes(&mut notes);
        assert_eq!(notes, ["udp is kept but not served yet by this version"]);
    }
}
