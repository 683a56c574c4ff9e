//! What a listener takes in, and from whom: connections at a time and a second, requests a second.

use crate::order::rate_limit::{RATE_MAX, RateLimit, check_fit_for_tcp, rate_limits};
use crate::{
    order::{OrderError, wire_enum},
    proto,
};

/// Limits of one listener, over all workers. Each is 0 where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Client connections.
    pub connections: u64,
    /// Client connections of one address.
    pub connections_per_source: u64,
    /// Client connections that are accepted in a second, to [`RATE_MAX`].
    pub accept_rate: u32,
    /// What becomes of connections that are too many.
    pub over: OverLimit,
    /// Requests a second; on TCP listeners connections.
    pub rates: Box<[RateLimit]>,
}

/// What becomes of connections that a listener may not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverLimit {
    /// They are told: 503, an alert, or closed where there are no words.
    #[default]
    Answer,
    /// They are closed.
    Close,
}

/// What a message says of it.
pub(super) struct Said<'a> {
    pub(super) rate_limits: Option<&'a proto::RateLimits>,
    pub(super) max_connections: Option<u64>,
    pub(super) max_connections_per_source: Option<u64>,
    pub(super) max_accept_rate: Option<u32>,
    pub(super) over_limit: Option<i32>,
}

/// What this message, of whatever kind, says of it.
macro_rules! said_limits {
    ($wire:expr) => {
        $crate::order::listener::limits::Said {
            rate_limits: $wire.rate_limits.as_ref(),
            max_connections: $wire.max_connections,
            max_connections_per_source: $wire.max_connections_per_source,
            max_accept_rate: $wire.max_accept_rate,
            over_limit: $wire.over_limit,
        }
    };
}
pub(super) use said_limits;

impl ListenerLimits {
    /// Checks the limits of an HTTP or HTTPS listener.
    pub(super) fn of_http(said: &Said<'_>) -> Result<Self, OrderError> {
        let accept_rate = said.max_accept_rate.unwrap_or(0);
        if accept_rate > RATE_MAX {
            return Err(OrderError::invalid("max_accept_rate", &accept_rate.to_string(), "is above 1000000"));
        }
        let over = said.over_limit.map(|over| wire_enum("over_limit", over)).transpose()?;
        Ok(Self {
            connections: said.max_connections.unwrap_or(0),
            connections_per_source: said.max_connections_per_source.unwrap_or(0),
            accept_rate,
            over: match over {
                None | Some(proto::OverLimit::Answer) => OverLimit::Answer,
                Some(proto::OverLimit::Close) => OverLimit::Close,
            },
            rates: rate_limits(said.rate_limits.map(|limits| &*limits.values).unwrap_or_default())?,
        })
    }

    /// Checks the limits of a TCP listener.
    pub(super) fn of_tcp(said: &Said<'_>) -> Result<Self, OrderError> {
        let limits = Self::of_http(said)?;
        check_fit_for_tcp(&limits.rates)?;
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{HttpListener, TcpListener, TcpListenerPatch};

    fn said() -> Said<'static> {
        Said {
            rate_limits: None,
            max_connections: None,
            max_connections_per_source: None,
            max_accept_rate: None,
            over_limit: None,
        }
    }

    #[test]
    fn limits_are_checked() {
        assert_eq!(ListenerLimits::of_http(&said()), Ok(ListenerLimits::default()));
        let full = Said { max_connections: Some(7), over_limit: Some(1), ..said() };
        let full = ListenerLimits::of_http(&full).expect("accepted");
        assert_eq!((full.connections, full.over), (7, OverLimit::Close));
        let check = |said: Said<'_>, expected: &str| {
            let error = ListenerLimits::of_http(&said).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(Said { max_accept_rate: Some(RATE_MAX + 1), ..said() }, "max_accept_rate `1000001` is above");
        check(Said { over_limit: Some(2), ..said() }, "over_limit `2`");
    }

    #[test]
    fn a_tcp_listener_knows_its_source_alone() {
        let values = vec![proto::RateLimit { key: "host".into(), rate: 1, burst: None }];
        let rate_limits = Some(proto::RateLimits { values });
        let address = proto::SocketAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], 80)));
        let (front_timeout, back_timeout, connect_timeout) = (1, 1, 1);
        let tcp = proto::TcpListenerConfig {
            address,
            front_timeout,
            back_timeout,
            connect_timeout,
            rate_limits: rate_limits.clone(),
            ..Default::default()
        };
        let error = TcpListener::from_wire(tcp).expect_err("refused").to_string();
        assert!(error.contains("rate_limits `host` needs HTTP"), "{error}");
        let patch = proto::UpdateTcpListenerConfig {
            address,
            rate_limits: rate_limits.clone(),
            ..Default::default()
        };
        assert!(TcpListenerPatch::from_wire(patch).is_err());
        let http = proto::HttpListenerConfig {
            address,
            front_timeout,
            back_timeout,
            connect_timeout,
            request_timeout: 1,
            rate_limits,
            ..Default::default()
        };
        assert_eq!(HttpListener::from_wire(http).expect("accepted").limits().rates.len(), 1);
    }
}
