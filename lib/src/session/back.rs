//! A connection to a backend, from its connect to its end.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use kakehi_command::order::BackendTarget;

use super::backends::{BackendKey, ClusterKey, Secured};
use super::{Owner, Shared};
use crate::metrics::Metric;
use crate::net::secure::Tls;
use crate::net::{Network, Peer, Stream};

/// What is spoken to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP.
    Http,
    /// Whatever the client does.
    Bytes,
}

/// A connection to a backend, in use by a session.
#[derive(Debug)]
pub(super) struct Back<S> {
    pub(super) peer: Peer<S>,
    pub(super) key: BackendKey,
    /// How it is secured.
    pub(super) secured: Option<Arc<Secured>>,
    /// It served another request before: it may have been closed in the meantime.
    pub(super) reused: bool,
    /// The kernel took a byte: the connection stands.
    pub(super) connected: bool,
    /// There is nothing to wait for: a Unix socket is connected at once.
    pub(super) stands: bool,
    /// When the connect began.
    pub(super) since: Instant,
}

impl<S: Stream> Back<S> {
    /// Starts a connection to a backend; none if the kernel refuses at once.
    pub(super) fn connect<N: Network<Stream = S>>(
        index: usize,
        cluster: ClusterKey,
        key: BackendKey,
        speaks: Speaks,
        shared: &mut Shared<N>,
    ) -> Option<Self> {
        let (target, address) = shared.backends.destination(key)?;
        // Backs are bounded as fronts are: each front has one at most, and the pool has what is left.
        if shared.backends.idle_count() + shared.backends.active_count() >= shared.settings.connections_max {
            shared.evict_idle();
        }
        let token = shared.owners.insert(Owner::Back(index));
        let mut connected = shared.net.connect(&target, token);
        if connected.as_ref().is_err_and(is_our_own_want) && shared.evict_idle() {
            connected = shared.net.connect(&target, token);
        }
        match connected {
            Ok(stream) => {
                shared.backends.opened(key);
                let mut peer = Peer::connecting(stream, token);
                let secured = shared.backends.secured(cluster).cloned();
                if let Some(secured) = &secured {
                    let config = match speaks {
                        Speaks::Http => &secured.config,
                        Speaks::Bytes => &secured.bytes_config,
                    };
                    let tls = Tls::connect(&shared.room, config, secured.name_of(address));
                    match tls {
                        Ok(tls) => peer = peer.secured(tls),
                        Err(failure) => {
                            log::warn!("TLS to {target}: {failure}");
                            shared.backends.closed(key);
                            shared.release_token(token);
                            return None;
                        }
                    }
                }
                let stands = matches!(target, BackendTarget::Unix(_));
                let since = shared.now;
                Some(Self { peer, key, secured, reused: false, connected: false, stands, since })
            }
            Err(error) => {
                log::debug!("connect to {target}: {error}");
                shared.release_token(token);
                if is_our_own_want(&error) {
                    shared.metrics.incr(Metric::BackendConnectionsError);
                } else {
                    shared.connect_failed(key);
                }
                None
            }
        }
    }

    /// Closes it; a TLS peer is told first.
    pub(super) fn close<N: Network<Stream = S>>(mut self, shared: &mut Shared<N>) {
        self.peer.farewell();
        shared.backends.closed(self.key);
        shared.release_token(self.peer.token());
    }
}

/// Descriptors, memory or ports are used up here: the backend is not to blame.
pub(super) fn is_our_own_want(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM | EADDRNOTAVAIL))
}
