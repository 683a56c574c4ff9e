//! How much a cluster does at a time, and how much may wait for it.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Cluster, OrderError};
use crate::proto;

/// How long a request waits at most, where nothing is configured.
pub const QUEUE_TIMEOUT_DEFAULT: Duration = Duration::from_millis(1000);

/// The longest that it may be told to, in milliseconds.
const QUEUE_TIMEOUT_MS_MAX: u32 = 600_000;

impl Cluster {
    fn concurrency(&self) -> Option<&proto::Cluster> {
        self.rest.as_ref().map(|rest| &rest.wire)
    }

    /// Requests in flight (with TCP frontends: connections) of all its backends together, over all workers; none: no
    /// limit.
    #[must_use]
    pub fn max_connections(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.concurrency()?.max_connections?)
    }

    /// The same for each of its backends that has no limit of its own.
    #[must_use]
    pub fn max_connections_per_backend(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.concurrency()?.max_connections_per_backend?)
    }

    /// Requests (with TCP frontends: connections) that may wait until there is room, over all workers.
    #[must_use]
    pub fn max_queue(&self) -> u32 {
        self.concurrency().and_then(|wire| wire.max_queue).unwrap_or(0)
    }

    /// How long each of them waits at most.
    #[must_use]
    pub fn queue_timeout(&self) -> Duration {
        let ms = self.concurrency().and_then(|wire| wire.queue_timeout_ms);
        ms.map_or(QUEUE_TIMEOUT_DEFAULT, |ms| Duration::from_millis(ms.into()))
    }
}

pub(super) fn check(wire: &proto::Cluster) -> Result<(), OrderError> {
    match wire.queue_timeout_ms {
        Some(ms) if !(1..=QUEUE_TIMEOUT_MS_MAX).contains(&ms) => {
            Err(OrderError::invalid("queue_timeout_ms", &ms.to_string(), "is not from 1 to 600000"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(edit: impl FnOnce(&mut proto::Cluster)) -> Result<Cluster, OrderError> {
        let mut wire = proto::Cluster { cluster_id: "app".to_owned(), ..Default::default() };
        edit(&mut wire);
        Cluster::from_wire(wire)
    }

    #[test]
    fn nothing_is_limited_and_nobody_waits_unless_told() {
        let plain = cluster(|_| {}).expect("accepted");
        assert_eq!((plain.max_connections(), plain.max_connections_per_backend()), (None, None));
        assert_eq!((plain.max_queue(), plain.queue_timeout()), (0, QUEUE_TIMEOUT_DEFAULT));
        let full = cluster(|wire| {
            (wire.max_connections, wire.max_connections_per_backend) = (Some(8), Some(0));
            (wire.max_queue, wire.queue_timeout_ms) = (Some(100), Some(250));
        });
        let full = full.expect("accepted");
        assert_eq!((full.max_connections(), full.max_connections_per_backend()), (NonZeroU32::new(8), None));
        assert_eq!((full.max_queue(), full.queue_timeout()), (100, Duration::from_millis(250)));
        assert_eq!(Cluster::from_wire(full.wire()).expect("accepted"), full);
    }

    #[test]
    fn a_wait_has_bounds() {
        for (ms, fits) in [(0, false), (1, true), (600_000, true), (600_001, false)] {
            let made = cluster(|wire| wire.queue_timeout_ms = Some(ms));
            assert_eq!(made.is_ok(), fits, "{ms} ms");
            if let Err(error) = made {
                assert!(error.to_string().contains("queue_timeout_ms"), "{error}");
            }
        }
    }
}
