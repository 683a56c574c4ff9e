//! Whether workers will be able to serve what an accepted order leads to, as far as rustls can tell: suites that fit
//! versions, authorities and lists that can be used; and whether what is to be read at once fits a buffer. Asked before
//! any worker hears of it. Keys are held against their certificates before ([`super::vetting`]).

use kakehi_command::order::{SNI_PREREAD_MAX_BYTES_DEFAULT, TcpListener};
use kakehi_command::state::{Change, ConfigState, Effect};
use kakehi_lib::tls::settings::Checker;

/// See the module.
#[derive(Debug)]
pub(super) struct Soundness {
    checker: Checker,
    /// Bytes of a worker's buffers.
    buffer_bytes: usize,
}

impl Soundness {
    /// For workers with buffers of this size (`buffer_size`).
    pub(super) fn new(buffer_bytes: usize) -> Self {
        Self { checker: Checker::default(), buffer_bytes }
    }

    /// Looks at what changed.
    ///
    /// # Errors
    /// What can't be served, and why.
    pub(super) fn check(&self, change: &Change) -> Result<(), String> {
        change.effects().iter().try_for_each(|effect| match effect {
            Effect::HttpListenerSet(listener) => self.checker.check_listener(listener),
            Effect::TcpListenerSet(listener) => {
                self.check_preread(listener)?;
                self.checker.check_tcp_listener(listener)
            }
            Effect::ClusterSet(cluster) => self.checker.check_cluster(cluster),
            _ => Ok(()),
        })
    }

    /// A ClientHello that is waited for has to fit a buffer. The default means as much as one holds: workers with small
    /// buffers heed it so.
    fn check_preread(&self, listener: &TcpListener) -> Result<(), String> {
        let (bytes, buffer) = (listener.sni_preread_bytes_max(), self.buffer_bytes);
        if bytes <= buffer || bytes == SNI_PREREAD_MAX_BYTES_DEFAULT as usize {
            return Ok(());
        }
        let key = listener.key();
        Err(format!(
            "tcp listener {key}: sni_preread_max_bytes: {bytes} does not fit in a buffer: buffer_size is {buffer}"
        ))
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
