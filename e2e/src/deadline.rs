//! Waiting for the world, never longer than a deadline and never for a fixed time.

use std::time::{Duration, Instant};

/// How long anything that should be immediate may take on a loaded machine before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How often a condition is looked at: short against everything measured here.
const INTERVAL: Duration = Duration::from_millis(2);

/// Looks at `condition` until it gives a value.
///
/// # Panics
/// After [`PATIENCE`], naming `what` was awaited.
pub fn await_value<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    await_value_within(PATIENCE, what, condition)
}

/// As [`await_value`], with a deadline of its own.
///
/// # Panics
/// After `limit`, naming `what` was awaited.
pub fn await_value_within<T>(limit: Duration, what: &str, condition: impl FnMut() -> Option<T>) -> T {
    try_await_value(limit, condition).unwrap_or_else(|| panic!("{what}: still not so after {limit:?}"))
}

/// Looks at `condition` until it gives a value or `limit` has passed.
pub fn try_await_value<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if started.elapsed() >= limit {
            return None;
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// After [`PATIENCE`], naming `what` was awaited.
pub fn await_true(what: &str, mut condition: impl FnMut() -> bool) {
    await_value(what, || condition().then_some(()));
}

/// Lets `duration` of undisturbed operation pass: for tests that watch a proxy under load, where the
/// passing of time is what is tested. Not a way to wait for an event.
pub fn run_for(duration: Duration) {
    std::thread::sleep(duration);
}
