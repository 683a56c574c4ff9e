//! How many requests, or connections, a second: of one source, for one host, or with one value of a header.

use super::{OrderError, is_token};
use crate::proto;

/// Limits of one listener or cluster.
pub const RATE_LIMITS_MAX: usize = 8;
/// The highest rate, a second, and the largest burst.
pub const RATE_MAX: u32 = 1_000_000;

const FIELD: &str = "rate_limits";

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateKey {
    /// What comes from one network (`subnet_ipv4_prefix`, `subnet_ipv6_prefix`), by default one address.
    Source,
    /// What is asked of one host, whatever its port.
    Host,
    /// What has the same first value of this field. Without the field it is not counted.
    Header(Box<str>),
}

/// A limit, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// What is counted together.
    pub key: RateKey,
    /// So many a second, 1 to [`RATE_MAX`].
    pub per_second: u32,
    /// So many at once, 1 to [`RATE_MAX`].
    pub burst: u32,
}

impl RateKey {
    /// Reads `source`, `host` or `header:NAME`.
    fn parse(text: &str) -> Result<Self, &'static str> {
        match (text, text.strip_prefix("header:")) {
            ("source", _) => Ok(Self::Source),
            ("host", _) => Ok(Self::Host),
            (_, Some(name)) if name.eq_ignore_ascii_case("host") => Err("is written `host`"),
            (_, Some(name)) if name.len() > super::listener::NAME_BYTES_MAX => {
                Err("is longer than a name of 128 bytes")
            }
            (_, Some(name)) if is_token(name) => Ok(Self::Header(name.into())),
            (_, Some(_)) => Err("does not name a header: header:NAME"),
            (_, None) => Err("is none of source, host and header:NAME"),
        }
    }

    /// Whether two limits would count the same.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Header(one), Self::Header(two)) => one.eq_ignore_ascii_case(two),
            (one, two) => one == two,
        }
    }
}

impl RateLimit {
    fn from_wire(wire: &proto::RateLimit) -> Result<Self, OrderError> {
        let invalid = |reason| OrderError::invalid(FIELD, &wire.key, reason);
        let key = RateKey::parse(&wire.key).map_err(invalid)?;
        let burst = wire.burst.unwrap_or(wire.rate);
        if !(1..=RATE_MAX).contains(&wire.rate) {
            return Err(invalid("has a rate that is not from 1 to 1000000"));
        }
        if !(1..=RATE_MAX).contains(&burst) {
            return Err(invalid("has a burst that is not from 1 to 1000000"));
        }
        Ok(Self { key, per_second: wire.rate, burst })
    }
}

/// Checks the limits of a listener or cluster.
///
/// # Errors
/// Too many, two of one key, or a key or number that is none.
pub(super) fn rate_limits(wire: &[proto::RateLimit]) -> Result<Box<[RateLimit]>, OrderError> {
    if wire.len() > RATE_LIMITS_MAX {
        return Err(OrderError::plain(FIELD, "has more than 8 limits"));
    }
    let mut limits: Vec<RateLimit> = Vec::with_capacity(wire.len());
    for told in wire {
        let limit = RateLimit::from_wire(told)?;
        if limits.iter().any(|other| other.key.is_same(&limit.key)) {
            return Err(OrderError::invalid(FIELD, &told.key, "is there twice"));
        }
        limits.push(limit);
    }
    Ok(limits.into())
}

/// Whether connections of which nobody knows what they ask can be limited so.
///
/// # Errors
/// A limit is about requests.
pub(super) fn check_fit_for_tcp(limits: &[RateLimit]) -> Result<(), OrderError> {
    let key = match limits.iter().map(|limit| &limit.key).find(|key| **key != RateKey::Source) {
        None | Some(RateKey::Source) => return Ok(()),
        Some(RateKey::Host) => "host".to_owned(),
        Some(RateKey::Header(name)) => format!("header:{name}"),
    };
    Err(OrderError::invalid(FIELD, &key, "needs HTTP: TCP connections can be limited by source only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(key: &str, rate: u32, burst: Option<u32>) -> proto::RateLimit {
        proto::RateLimit { key: key.into(), rate, burst }
    }

    #[test]
    fn limits_are_read() {
        let read =
            rate_limits(&[wire("source", 9, None), wire("header:X-Key", 1, Some(5)), wire("host", 2, None)])
                .expect("accepted");
        let told: Vec<_> = read.iter().map(|limit| (&limit.key, limit.per_second, limit.burst)).collect();
        let header = RateKey::Header("X-Key".into());
        assert_eq!(told, [(&RateKey::Source, 9, 9), (&header, 1, 5), (&RateKey::Host, 2, 2)]);
        assert_eq!(rate_limits(&[]).map(|limits| limits.len()), Ok(0));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check = |wire: &[proto::RateLimit], expected: &str| {
            let error = rate_limits(wire).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&[wire("path", 1, None)], "rate_limits `path` is none of source, host and header:NAME");
        check(&[wire("header:", 1, None)], "`header:` does not name a header");
        check(&[wire("header:a b", 1, None)], "does not name a header");
        check(&[wire("header:Host", 1, None)], "is written `host`");
        check(&[wire(&format!("header:{}", "a".repeat(129)), 1, None)], "longer than");
        check(&[wire("host", 0, None)], "a rate that is not from 1 to 1000000");
        check(&[wire("host", RATE_MAX + 1, None)], "a rate that is not");
        check(&[wire("host", 1, Some(0))], "a burst that is not from 1");
        check(&[wire("header:a", 1, None), wire("header:A", 2, None)], "`header:A` is there twice");
        let many: Vec<_> = (0..9).map(|at| wire(&format!("header:x{at}"), 1, None)).collect();
        check(&many, "has more than 8 limits");
    }

    #[test]
    fn tcp_knows_its_source_alone() {
        let of = |key| rate_limits(&[wire("source", 1, None), wire(key, 1, None)]).expect("accepted");
        for key in ["host", "header:a"] {
            let error = check_fit_for_tcp(&of(key)).expect_err("refused").to_string();
            assert!(error.contains(&format!("rate_limits `{key}` needs HTTP")), "{error}");
        }
        assert_eq!(check_fit_for_tcp(&of("host")[..1]), Ok(()));
    }
}
