//! What of a cluster decides which backend a request goes to.

use std::time::Duration;

use super::super::{OrderError, is_token, wire_enum};
use super::Cluster;
use crate::proto;

/// From so many primaries on a cluster with `shard_percent` is sharded, unless told otherwise.
pub const SHARD_MIN_BACKENDS_DEFAULT: u32 = 8;

/// What a backend's load is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LoadMetric {
    /// Connections that carry something now.
    #[default]
    Connections,
    /// Requests that it has not answered yet.
    Requests,
    /// The time that connecting to it takes, times its connections.
    ConnectionTime,
}

/// What keeps a client at a backend, where the algorithm hashes, and within its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity<'a> {
    /// The client's address.
    Source,
    /// The value of this header, else the client's address.
    Header(&'a str),
    /// The value of this cookie, else the client's address.
    Cookie(&'a str),
}

/// How few of the backends a client meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharding {
    /// Of the primaries, 1 to 100.
    pub percent: u8,
    /// From so many primaries on.
    pub min_backends: u32,
    /// A client whose shard can take nothing is refused; otherwise it goes to the others.
    pub strict: bool,
}

/// When browsers send a cookie with requests that other sites make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SameSite {
    /// Never.
    Strict,
    /// With those that lead there: a link was followed.
    Lax,
    /// Always; only over TLS.
    None,
}

/// Attributes of the sticky cookie, besides its path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StickyAttributes {
    /// Only over TLS; said to clients that came over TLS.
    pub secure: bool,
    /// Not for scripts.
    pub http_only: bool,
    /// None: as the browser thinks best.
    pub same_site: Option<SameSite>,
}

impl SameSite {
    /// As in the attribute.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

impl Cluster {
    fn balancing(&self) -> Option<&proto::Cluster> {
        self.rest.as_ref().map(|rest| &rest.wire)
    }

    /// Whether a client is kept at its backend by a cookie.
    #[must_use]
    pub fn sticky_session(&self) -> bool {
        self.balancing().is_some_and(|wire| wire.sticky_session)
    }

    /// Attributes of that cookie.
    #[must_use]
    pub fn sticky_attributes(&self) -> StickyAttributes {
        let Some(wire) = self.balancing() else { return StickyAttributes::default() };
        StickyAttributes {
            secure: wire.sticky_secure == Some(true),
            http_only: wire.sticky_http_only == Some(true),
            same_site: wire.sticky_same_site.map(|_| match wire.sticky_same_site() {
                proto::SameSite::Strict => SameSite::Strict,
                proto::SameSite::Lax => SameSite::Lax,
                proto::SameSite::None => SameSite::None,
            }),
        }
    }

    /// What a backend's load is, where the algorithm asks for it.
    #[must_use]
    pub fn load_metric(&self) -> LoadMetric {
        match self.balancing().map(proto::Cluster::load_metric) {
            Some(proto::LoadMetric::Requests) => LoadMetric::Requests,
            Some(proto::LoadMetric::ConnectionTime) => LoadMetric::ConnectionTime,
            Some(proto::LoadMetric::Connections) | None => LoadMetric::Connections,
        }
    }

    /// What keeps a client at a backend.
    #[must_use]
    pub fn affinity(&self) -> Affinity<'_> {
        let Some(wire) = self.balancing() else { return Affinity::Source };
        match (&wire.affinity_header, &wire.affinity_cookie) {
            (Some(header), _) => Affinity::Header(header),
            (None, Some(cookie)) => Affinity::Cookie(cookie),
            (None, None) => Affinity::Source,
        }
    }

    /// How few of the backends a client meets; none: all of them.
    #[must_use]
    pub fn sharding(&self) -> Option<Sharding> {
        let wire = self.balancing()?;
        Some(Sharding {
            percent: u8::try_from(wire.shard_percent?).unwrap_or(100),
            min_backends: wire.shard_min_backends.unwrap_or(SHARD_MIN_BACKENDS_DEFAULT),
            strict: wire.shard_mode() == proto::ShardMode::Strict,
        })
    }

    /// How long it takes until a backend that has come, or come back, has its whole weight; none: no time.
    #[must_use]
    pub fn slow_start(&self) -> Option<Duration> {
        let seconds = self.balancing()?.slow_start.filter(|seconds| *seconds > 0)?;
        Some(Duration::from_secs(seconds.into()))
    }
}

pub(super) fn check(wire: &proto::Cluster) -> Result<(), OrderError> {
    check_affinity(wire)?;
    check_sharding(wire)?;
    wire.shard_mode.map_or(Ok(()), |mode| wire_enum::<proto::ShardMode>("shard_mode", mode).map(drop))?;
    wire.load_metric
        .map_or(Ok(()), |metric| wire_enum::<proto::LoadMetric>("load_metric", metric).map(drop))?;
    check_same_site(wire)
}

fn check_affinity(wire: &proto::Cluster) -> Result<(), OrderError> {
    let (field, name) = match (&wire.affinity_header, &wire.affinity_cookie) {
        (Some(header), Some(_)) => {
            return Err(OrderError::invalid(
                "affinity_header",
                header,
                "is set beside affinity_cookie: only one can be",
            ));
        }
        (Some(header), None) => ("affinity_header", header),
        (None, Some(cookie)) => ("affinity_cookie", cookie),
        (None, None) => return Ok(()),
    };
    if !is_token(name) {
        return Err(OrderError::invalid(field, name, "is not a token"));
    }
    let reserved = ["host", "cookie"].iter().any(|reserved| name.eq_ignore_ascii_case(reserved));
    if field == "affinity_header" && reserved {
        return Err(OrderError::invalid(field, name, "cannot be a key: Host and Cookie are not"));
    }
    Ok(())
}

fn check_sharding(wire: &proto::Cluster) -> Result<(), OrderError> {
    if let Some(percent) = wire.shard_percent
        && !(1..=100).contains(&percent)
    {
        return Err(OrderError::invalid("shard_percent", &percent.to_string(), "is not from 1 to 100"));
    }
    if let Some(min) = wire.shard_min_backends
        && min < 2
    {
        return Err(OrderError::invalid("shard_min_backends", &min.to_string(), "is below 2"));
    }
    let extras = [
        ("shard_min_backends", wire.shard_min_backends.map(i64::from)),
        ("shard_mode", wire.shard_mode.map(i64::from)),
    ];
    match extras.into_iter().find_map(|(field, value)| value.map(|value| (field, value))) {
        Some((field, value)) if wire.shard_percent.is_none() => {
            Err(OrderError::invalid(field, &value.to_string(), "is set without shard_percent"))
        }
        _ => Ok(()),
    }
}

fn check_same_site(wire: &proto::Cluster) -> Result<(), OrderError> {
    let Some(number) = wire.sticky_same_site else { return Ok(()) };
    let same_site: proto::SameSite = wire_enum("sticky_same_site", number)?;
    match same_site {
        // Browsers drop such a cookie.
        proto::SameSite::None if wire.sticky_secure != Some(true) => {
            Err(OrderError::invalid("sticky_same_site", "None", "needs sticky_secure"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(edit: impl FnOnce(&mut proto::Cluster)) -> Result<Cluster, OrderError> {
        let mut wire = proto::Cluster { cluster_id: "app".into(), ..Default::default() };
        edit(&mut wire);
        Cluster::from_wire(wire)
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let plain = cluster(|_| ()).expect("accepted");
        assert_eq!((plain.sticky_session(), plain.slow_start(), plain.sharding()), (false, None, None));
        assert_eq!((plain.load_metric(), plain.affinity()), (LoadMetric::Connections, Affinity::Source));
        assert_eq!(plain.sticky_attributes(), StickyAttributes::default());
        assert_eq!(cluster(|wire| wire.slow_start = Some(0)).expect("accepted").slow_start(), None);
        let sharded = cluster(|wire| wire.shard_percent = Some(5)).expect("accepted").sharding();
        assert_eq!(sharded, Some(Sharding { percent: 5, min_backends: 8, strict: false }));
    }

    #[test]
    fn what_is_said_is_read() {
        let full = cluster(|wire| {
            wire.sticky_session = true;
            (wire.sticky_secure, wire.sticky_http_only) = (Some(true), Some(true));
            wire.sticky_same_site = Some(proto::SameSite::None.into());
            wire.load_metric = Some(proto::LoadMetric::ConnectionTime.into());
            wire.affinity_cookie = Some("user".into());
            (wire.shard_percent, wire.shard_min_backends) = (Some(100), Some(3));
            wire.shard_mode = Some(proto::ShardMode::Strict.into());
            wire.slow_start = Some(30);
        })
        .expect("accepted");
        assert!(full.sticky_session());
        let none = Some(SameSite::None);
        let attributes = StickyAttributes { secure: true, http_only: true, same_site: none };
        assert_eq!(full.sticky_attributes(), attributes);
        assert_eq!(
            (full.load_metric(), full.affinity()),
            (LoadMetric::ConnectionTime, Affinity::Cookie("user"))
        );
        assert_eq!(full.sharding(), Some(Sharding { percent: 100, min_backends: 3, strict: true }));
        assert_eq!(full.slow_start(), Some(Duration::from_secs(30)));
        assert_eq!(Cluster::from_wire(full.wire()), Ok(full));
    }

    #[test]
    fn what_browsers_would_drop_is_refused() {
        let refused = |number| {
            let made = cluster(|wire| wire.sticky_same_site = Some(number));
            made.expect_err("refused").to_string()
        };
        assert_eq!(refused(proto::SameSite::None.into()), "sticky_same_site `None` needs sticky_secure");
        assert!(refused(9).contains("is not known"));
    }
}
