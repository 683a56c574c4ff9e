//! Whether a request is within the rates of its listener, or its cluster.

use std::net::IpAddr;
use std::time::Instant;

use kakehi_command::order::{RateLimit, TrustedProxies};

use super::answer::Refusal;
use crate::limits::{Asked, ClientLimits, Of, Rated, Scope};
use crate::metrics::{Metric, Metrics};
use crate::protocol::h1::head::RequestHead;
use crate::protocol::http::field::Field;

/// A request, as far as limits go by it.
pub(super) struct Request<'a, 'h, 'b> {
    pub(super) head: &'a RequestHead<'h, 'b>,
    pub(super) source: IpAddr,
    pub(super) trusted_proxies: &'a TrustedProxies,
}

impl Asked for Request<'_, '_, '_> {
    fn source(&self) -> IpAddr {
        self.source
    }

    fn host(&self) -> &[u8] {
        self.head.host.as_bytes()
    }

    /// What is not believed is not there: who writes it himself would have as many values as he likes.
    fn field(&self, name: &str) -> Option<&[u8]> {
        let believed = || self.trusted_proxies.contains(self.source);
        (!Field::of(name.as_bytes()).is_claim() || believed()).then(|| self.head.field(name))?
    }
}

impl Request<'_, '_, '_> {
    /// Counts it.
    ///
    /// # Errors
    /// It is beyond one of them.
    pub(super) fn check(
        &self,
        of: Of<'_>,
        rates: &[RateLimit],
        limits: &ClientLimits,
        metrics: &mut Metrics,
        now: Instant,
    ) -> Result<(), Refusal> {
        match limits.rate(of, rates, self, now) {
            Rated::Within => Ok(()),
            Rated::Uncounted => {
                metrics.incr(Metric::LimitsUncounted);
                Ok(())
            }
            Rated::Over(by, wait) => {
                metrics.incr(match of.scope {
                    Scope::ClusterRate => Metric::RateLimitedByCluster,
                    _ => Metric::RateLimitedByListener,
                });
                Err(Refusal::over_rate(by, wait))
            }
        }
    }
}
