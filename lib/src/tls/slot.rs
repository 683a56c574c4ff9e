//! Room for one value, between a callback of rustls and the code that drives the handshake.

#[expect(clippy::disallowed_types, reason = "rustls wants its callbacks to be Sync; nobody ever waits")]
use std::sync::{Mutex, PoisonError};

/// Holds one value at most. Whoever drives a handshake empties it after each call into rustls, so that it
/// never holds anything of two connections.
#[derive(Debug)]
pub(super) struct Slot<T>(#[expect(clippy::disallowed_types, reason = "as above")] Mutex<T>);

impl<T: Default> Default for Slot<T> {
    fn default() -> Self {
        Self(Default::default())
    }
}

impl<T: Default> Slot<T> {
    pub(super) fn update(&self, update: impl FnOnce(&mut T)) {
        // A panic under way elsewhere has left a whole value behind: they are only ever replaced.
        update(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What is there; nothing is left behind.
    pub(super) fn take(&self) -> T {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
