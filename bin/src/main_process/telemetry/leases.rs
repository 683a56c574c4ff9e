//! For how long who wants to see how much: leases of a level of detail. Pure.

use std::time::{Duration, Instant};

use kakehi_command::proto::{MetricDetail, SetMetricDetail};

/// Leases at a time.
pub(super) const LEASES_MAX: usize = 64;
/// Bytes of a client's id.
const CLIENT_ID_BYTES_MAX: usize = 64;
/// Seconds of a lease, and those of one that says nothing.
const TTL_MAX: u32 = 300;
const TTL_DEFAULT: u32 = 60;

/// Who is at the other end of the command socket: process and connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: i32,
    pub(super) connection: usize,
}

#[derive(Debug)]
struct Lease {
    client_id: String,
    holder: Holder,
    detail: MetricDetail,
    until: Instant,
}

/// A level that took the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transition {
    pub(super) before: MetricDetail,
    pub(super) now: MetricDetail,
    /// `apply`, `clear` or `expire`.
    pub(super) kind: &'static str,
    pub(super) client_id: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Leases {
    configured: MetricDetail,
    leases: Vec<Lease>,
}

impl Leases {
    pub(super) fn new(configured: MetricDetail) -> Self {
        Self { configured, leases: Vec::new() }
    }

    pub(super) fn configured(&self) -> MetricDetail {
        self.configured
    }

    pub(super) fn count(&self) -> usize {
        self.leases.len()
    }

    /// The most that is configured or leased.
    pub(super) fn effective(&self) -> MetricDetail {
        self.leases.iter().map(|lease| lease.detail).fold(self.configured, MetricDetail::max)
    }

    /// When the next lease ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.leases.iter().map(|lease| lease.until).min()
    }

    /// Does what is asked for, or says why not.
    pub(super) fn set(
        &mut self,
        asked: &SetMetricDetail,
        holder: Holder,
        now: Instant,
    ) -> Result<Transition, String> {
        let before = self.effective();
        if asked.client_id.is_empty() || asked.client_id.len() > CLIENT_ID_BYTES_MAX {
            return Err(format!("client_id has to have 1 to {CLIENT_ID_BYTES_MAX} bytes"));
        }
        let known = self.leases.iter().position(|lease| lease.client_id == asked.client_id);
        let kind = if asked.clear() {
            let Some(index) = known else {
                return Err(format!("there is no lease of {:?}", asked.client_id));
            };
            if self.leases[index].holder != holder {
                return Err(format!("the lease of {:?} is not of this connection", asked.client_id));
            }
            self.leases.remove(index);
            "clear"
        } else {
            let Some(detail) = asked.detail.and_then(|detail| MetricDetail::try_from(detail).ok()) else {
                return Err("detail is missing, or not a known level".to_owned());
            };
            let ttl = match asked.ttl_seconds() {
                0 => TTL_DEFAULT,
                ttl if ttl > TTL_MAX => return Err(format!("ttl_seconds may be {TTL_MAX} at most")),
                ttl => ttl,
            };
            let until = now + Duration::from_secs(ttl.into());
            let lease = Lease { client_id: asked.client_id.clone(), holder, detail, until };
            match known {
                Some(index) if self.leases[index].holder.pid != holder.pid => {
                    return Err(format!("the lease of {:?} is another process'", asked.client_id));
                }
                Some(index) => self.leases[index] = lease,
                None if self.leases.len() >= LEASES_MAX => {
                    return Err(format!("there are {LEASES_MAX} leases already"));
                }
                None => self.leases.push(lease),
            }
            "apply"
        };
        Ok(Transition { before, now: self.effective(), kind, client_id: Some(asked.client_id.clone()) })
    }

    /// Ends what is over. Gives the transition if the level has changed.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Transition> {
        let before = self.effective();
        self.leases.retain(|lease| lease.until > now);
        let effective = self.effective();
        (effective != before).then_some(Transition {
            before,
            now: effective,
            kind: "expire",
            client_id: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use MetricDetail::{DetailBackend, DetailCluster, DetailProcess};

    use super::super::super::supervisor::read_clock;
    use super::*;

    const ME: Holder = Holder { pid: 1, connection: 16 };

    fn asked(client_id: &str, detail: MetricDetail, ttl: u32) -> SetMetricDetail {
        SetMetricDetail {
            client_id: client_id.to_owned(),
            detail: Some(detail.into()),
            ttl_seconds: Some(ttl),
            ..SetMetricDetail::default()
        }
    }

    #[test]
    fn the_most_that_is_leased_holds_until_it_ends() {
        let now = read_clock();
        let mut leases = Leases::new(DetailCluster);
        let turn = leases.set(&asked("a", DetailBackend, 10), ME, now).expect("a lease");
        assert_eq!((turn.before, turn.now), (DetailCluster, DetailBackend));
        leases.set(&asked("b", DetailProcess, 0), ME, now).expect("a lease");
        assert_eq!((leases.effective(), leases.count()), (DetailBackend, 2));
        assert_eq!(leases.expire(now + Duration::from_secs(9)), None);
        let turn = leases.expire(now + Duration::from_secs(10)).expect("it has changed");
        assert_eq!((turn.kind, turn.now), ("expire", DetailCluster));
        assert_eq!(leases.deadline(), Some(now + Duration::from_secs(60)));
    }

    #[test]
    fn only_the_holder_clears() {
        let now = read_clock();
        let mut leases = Leases::new(DetailCluster);
        leases.set(&asked("a", DetailBackend, 10), ME, now).expect("a lease");
        let clear = SetMetricDetail { client_id: "a".to_owned(), clear: Some(true), ..Default::default() };
        let other = Holder { pid: 2, ..ME };
        assert!(leases.set(&clear, other, now).unwrap_err().contains("not of this connection"));
        assert!(
            leases.set(&asked("a", DetailProcess, 1), other, now).unwrap_err().contains("another process")
        );
        assert_eq!(leases.set(&clear, ME, now).expect("cleared").now, DetailCluster);
        assert!(leases.set(&clear, ME, now).unwrap_err().contains("no lease"));
    }

    #[test]
    fn bounds_are_kept() {
        let now = read_clock();
        let mut leases = Leases::new(DetailCluster);
        let check = |leases: &mut Leases, asked: &SetMetricDetail, expected: &str| {
            let error = leases.set(asked, ME, now).expect_err("refused");
            assert!(error.contains(expected), "{error}");
        };
        check(&mut leases, &asked("", DetailBackend, 1), "1 to 64 bytes");
        check(&mut leases, &asked(&"x".repeat(65), DetailBackend, 1), "1 to 64 bytes");
        check(&mut leases, &asked("a", DetailBackend, 301), "300 at most");
        check(&mut leases, &SetMetricDetail { client_id: "a".to_owned(), ..Default::default() }, "detail");
        for n in 0..LEASES_MAX {
            leases.set(&asked(&n.to_string(), DetailBackend, 1), ME, now).expect("room");
        }
        check(&mut leases, &asked("one more", DetailBackend, 1), "64 leases");
        leases.set(&asked("0", DetailBackend, 1), ME, now).expect("one that is there is renewed");
    }
}
