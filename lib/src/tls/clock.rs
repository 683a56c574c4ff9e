//! Wall time as the loop has read it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// Wall time in whole seconds since 1970, as of the present turn of the loop: what certificates, revocation
/// lists and tickets are compared with. One for all configurations of a worker.
///
/// Before the first [`Clock::set`] it is 1970, where nothing has expired and nothing is valid yet.
#[derive(Debug, Default)]
pub struct Clock {
    unix_seconds: AtomicU64,
}

impl Clock {
    /// The time is now this.
    pub fn set(&self, unix_seconds: u64) {
        self.unix_seconds.store(unix_seconds, Ordering::Relaxed);
    }

    /// Seconds since 1970.
    pub fn unix_seconds(&self) -> u64 {
        self.unix_seconds.load(Ordering::Relaxed)
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.unix_seconds())))
    }
}
