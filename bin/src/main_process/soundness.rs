//! Whether workers will be able to serve what an accepted order leads to, as far as rustls can tell: suites that fit
//! versions, authorities and lists that can be used. Asked before any worker hears of it. Keys are held against their
//! certificates before ([`super::vetting`]).

use kakehi_command::state::{Change, ConfigState, Effect};
use kakehi_lib::tls::settings::Checker;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Soundness {
    checker: Checker,
}

impl Soundness {
    /// Looks at what changed.
    ///
    /// # Errors
    /// What can't be served, and why.
    pub(super) fn check(&self, change: &Change) -> Result<(), String> {
        change.effects().iter().try_for_each(|effect| match effect {
            Effect::HttpListenerSet(listener) => self.checker.check_listener(listener),
            Effect::TcpListenerSet(listener) => self.checker.check_tcp_listener(listener),
            Effect::ClusterSet(cluster) => self.checker.check_cluster(cluster),
            _ => Ok(()),
        })
    }

    /// Looks at what changed, and takes it back if it can't be served.
    ///
    /// # Errors
    /// What can't be served, and why; nothing has changed.
    pub(super) fn check_or_undo(
        &self,
        state: &mut ConfigState,
        changes: Vec<Change>,
    ) -> Result<Vec<Change>, String> {
        match changes.iter().try_for_each(|change| self.check(change)) {
            Ok(()) => Ok(changes),
            Err(error) => {
                for change in changes.into_iter().rev() {
                    state.undo(change);
                }
                Err(error)
            }
        }
    }
}
