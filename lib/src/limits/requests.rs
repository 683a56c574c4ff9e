//! How many requests a second: what of a request each limit goes by.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use kakehi_command::order::{HOST_BYTES_MAX, RateKey, RateLimit};

use super::clients::{ClientLimits, network};
use super::key::{Key, Scope};
use super::rates::{Rate, Verdict};
use super::shared_counters::{Added, Permit};
use super::tables::SharedTables;

/// An accept rate lets so many parts of a second through at once.
const ACCEPT_BURST_DIVISOR: u32 = 10;

/// What of a request, or connection, limits go by.
pub trait Asked {
    /// Where it comes from.
    fn source(&self) -> IpAddr;
    /// The host that it is for, without the port, as it was sent.
    fn host(&self) -> &[u8];
    /// The first value of a field.
    fn field(&self, name: &str) -> Option<&[u8]>;
}

/// A connection of which nothing else is known.
impl Asked for IpAddr {
    fn source(&self) -> IpAddr {
        *self
    }

    fn host(&self) -> &[u8] {
        &[]
    }

    fn field(&self, _: &str) -> Option<&[u8]> {
        None
    }
}

/// What became of one more.
#[derive(Debug, PartialEq, Eq)]
pub enum Rated<'a> {
    /// It is within each limit.
    Within,
    /// As far as it was counted, it is within; some table had no room.
    Uncounted,
    /// It is beyond this one, and would not be after that time.
    Over(&'a RateKey, Duration),
}

/// Whose limits they are: the scope, and the name in it.
#[derive(Debug, Clone, Copy)]
pub struct Of<'a> {
    /// [`Scope::ListenerRate`] or [`Scope::ClusterRate`].
    pub scope: Scope,
    /// Address or name.
    pub name: &'a [u8],
}

impl ClientLimits {
    /// At this time the clock that all workers share said so many nanoseconds.
    pub fn set_clock(&mut self, at: Instant, nanoseconds: u64) {
        self.clock = Some((at, nanoseconds));
    }

    /// Counts one more, limit after limit, until one refuses it.
    pub fn rate<'l>(
        &self,
        of: Of<'_>,
        limits: &'l [RateLimit],
        asked: &impl Asked,
        now: Instant,
    ) -> Rated<'l> {
        let Some(tables) = &self.tables else { return Rated::Uncounted };
        let now = self.nanoseconds(now);
        let mut rated = Rated::Within;
        for limit in limits {
            let Some(key) = self.rate_key(tables, of, &limit.key, asked) else { continue };
            let rate = Rate::new(limit.per_second.into(), limit.burst.into());
            match tables.rates().take(key, rate, now) {
                Verdict::Within => {}
                Verdict::Uncounted => rated = Rated::Uncounted,
                Verdict::Over(wait) => return Rated::Over(&limit.key, wait),
            }
        }
        rated
    }

    /// None: it has not what the limit goes by.
    fn rate_key(&self, tables: &SharedTables, of: Of<'_>, by: &RateKey, asked: &impl Asked) -> Option<Key> {
        let key =
            |kind: u8, name: &[u8], value: &[u8]| tables.key(of.scope, &[of.name, &[kind], name, value]);
        Some(match by {
            RateKey::Source => match network(asked.source(), self.prefixes) {
                IpAddr::V4(source) => key(0, &[], &source.octets()),
                IpAddr::V6(source) => key(0, &[], &source.octets()),
            },
            RateKey::Host => {
                let host = asked.host();
                let host = host.strip_suffix(b".").unwrap_or(host);
                let mut lower = [0; HOST_BYTES_MAX];
                match lower.get_mut(..host.len()) {
                    Some(lower) => {
                        lower.copy_from_slice(host);
                        lower.make_ascii_lowercase();
                        key(1, &[], lower)
                    }
                    // Longer than any host that there is a frontend for.
                    None => key(1, &[], &[]),
                }
            }
            RateKey::Header(name) => key(2, name.as_bytes(), asked.field(name)?),
        })
    }

    /// Counts one more connection that a listener accepts: how long it has to wait, and is not counted; zero: not at all.
    pub fn accept_wait(&self, listener: &[u8], per_second: u32, now: Instant) -> Duration {
        let Some(tables) = &self.tables else { return Duration::ZERO };
        let rate = Rate::new(per_second.into(), (per_second / ACCEPT_BURST_DIVISOR).into());
        let key = tables.key(Scope::AcceptRate, &[listener]);
        match tables.rates().take(key, rate, self.nanoseconds(now)) {
            Verdict::Within | Verdict::Uncounted => Duration::ZERO,
            Verdict::Over(wait) => wait,
        }
    }

    /// Counts a connection of a listener; with a source, of that source to it.
    pub fn enter(&self, listener: &[u8], source: Option<IpAddr>, limit: u64) -> Added {
        let Some(tables) = &self.tables else { return Added::Uncounted };
        let key = match source.map(|source| source.to_canonical()) {
            None => tables.key(Scope::Listener, &[listener]),
            Some(IpAddr::V4(source)) => tables.key(Scope::ListenerSource, &[listener, &source.octets()]),
            Some(IpAddr::V6(source)) => tables.key(Scope::ListenerSource, &[listener, &source.octets()]),
        };
        tables.counters().try_add(key, limit)
    }

    /// A connection of a listener is over.
    pub fn leave(&self, permit: Permit) {
        if let Some(tables) = &self.tables {
            tables.counters().sub(permit);
        }
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        let Some((at, nanoseconds)) = self.clock else { return 0 };
        let since = u64::try_from(now.saturating_duration_since(at).as_nanos()).unwrap_or(u64::MAX);
        nanoseconds.saturating_add(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Request {
        source: &'static str,
        host: &'static str,
        field: Option<&'static str>,
    }

    impl Asked for Request {
        fn source(&self) -> IpAddr {
            self.source.parse().expect("an address")
        }

        fn host(&self) -> &[u8] {
            self.host.as_bytes()
        }

        fn field(&self, name: &str) -> Option<&[u8]> {
            self.field.filter(|_| name == "key").map(str::as_bytes)
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
    fn start() -> Instant {
        Instant::now()
    }

    fn limits(at: Instant) -> ClientLimits {
        let mut limits = ClientLimits::default();
        limits.set_fixed(1, (24, 64));
        limits.set_tables(SharedTables::of_one(64).expect("it fits"));
        limits.set_clock(at, 7_000_000_000);
        limits
    }

    fn limit(key: RateKey, per_second: u32, burst: u32) -> RateLimit {
        RateLimit { key, per_second, burst }
    }

    const OF: Of<'_> = Of { scope: Scope::ListenerRate, name: b"l" };

    fn request(source: &'static str, host: &'static str, field: Option<&'static str>) -> Request {
        Request { source, host, field }
    }

    #[test]
    fn each_limit_goes_by_its_own() {
        let now = start();
        let check = |by: RateKey, first: Request, same: Request, other: Request| {
            let limits = limits(now);
            let of = [limit(by.clone(), 1, 1)];
            assert_eq!(limits.rate(OF, &of, &first, now), Rated::Within);
            assert_eq!(limits.rate(OF, &of, &same, now), Rated::Over(&by, Duration::from_secs(1)), "{by:?}");
            assert_eq!(limits.rate(OF, &of, &other, now), Rated::Within, "{by:?}");
            let elsewhere = Of { name: b"m", ..OF };
            assert_eq!(limits.rate(elsewhere, &of, &same, now), Rated::Within, "{by:?}");
            let later = now + Duration::from_secs(1);
            assert_eq!(limits.rate(OF, &of, &same, later), Rated::Within, "{by:?}");
        };
        let plain = |source, host| request(source, host, None);
        let (here, near, far) = ("192.0.2.1", "192.0.2.77", "192.0.3.1");
        check(RateKey::Source, plain(here, "a"), plain(near, "b"), plain(far, "a"));
        check(RateKey::Host, plain(here, "A.test"), plain(far, "a.TEST."), plain(here, "b.test"));
        let keyed = |source, key| request(source, "a", Some(key));
        check(RateKey::Header("key".into()), keyed(here, "k"), keyed(far, "k"), keyed(here, "K"));
    }

    #[test]
    fn without_the_field_nothing_is_counted() {
        let now = start();
        let limits = limits(now);
        let of = [limit(RateKey::Header("key".into()), 1, 1)];
        for _ in 0..5 {
            assert_eq!(limits.rate(OF, &of, &request("::1", "a", None), now), Rated::Within);
        }
    }

    #[test]
    fn the_first_limit_that_refuses_ends_it() {
        let now = start();
        let limits = limits(now);
        let of = [limit(RateKey::Host, 1, 2), limit(RateKey::Source, 1, 1)];
        let host = |source| limits.rate(OF, &of, &request(source, "a", None), now);
        assert_eq!(host("192.0.2.1"), Rated::Within);
        assert!(matches!(host("192.0.2.1"), Rated::Over(RateKey::Source, _)));
        assert!(matches!(host("192.0.9.1"), Rated::Over(RateKey::Host, _)), "it had used its token");
    }

    #[test]
    fn accepts_are_held_and_then_let_through() {
        let now = start();
        let limits = limits(now);
        for _ in 0..2 {
            assert_eq!(limits.accept_wait(b"l", 20, now), Duration::ZERO);
        }
        let wait = limits.accept_wait(b"l", 20, now);
        assert_eq!(wait, Duration::from_millis(50), "a tenth of a second's worth may come at once");
        assert_eq!(limits.accept_wait(b"l", 20, now + wait), Duration::ZERO);
        assert_eq!(limits.accept_wait(b"m", 20, now), Duration::ZERO, "another listener");
    }

    #[test]
    fn without_tables_nobody_is_refused() {
        let limits = ClientLimits::default();
        let of = [limit(RateKey::Source, 1, 1)];
        let source = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(limits.rate(OF, &of, &source, start()), Rated::Uncounted);
        assert_eq!(limits.enter(b"l", None, 1), Added::Uncounted);
        assert_eq!(limits.accept_wait(b"l", 1, start()), Duration::ZERO);
    }
}
