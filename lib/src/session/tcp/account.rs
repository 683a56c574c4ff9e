//! What the access log is told of a connection.

use std::sync::Arc;

use kakehi_command::order::{BackendTarget, TcpFrontend};

use super::{Refusal, TcpSession};
use crate::access_log::{Record, Tls};
use crate::net::{Network, Stream};
use crate::session::backends::BackendKey;
use crate::session::http::account::{count, tls_of};
use crate::session::{Shared, random};

/// See the module. Times are those of [`Shared::micros`].
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) refusal: Option<Refusal>,
    pub(super) backend: Option<BackendKey>,
    /// It began to wait for room at its cluster.
    pub(super) queued: Option<u64>,
    queue_time: Option<u64>,
    /// A backend was chosen.
    chosen: Option<u64>,
    pub(super) connect_time: Option<u64>,
    /// The frontend, if it has tags.
    frontend: Option<Arc<TcpFrontend>>,
    /// The name that it was routed by, of TLS that is not ours.
    pub(super) server_name: Option<Box<str>>,
    /// Why its TLS handshake failed.
    pub(super) failed_handshake: Option<&'static str>,
    /// Bytes both ways before the connection lingers, once it does.
    pub(super) bytes: Option<(u64, u64)>,
    /// The relay is over as it should be.
    pub(super) complete: bool,
}

impl Account {
    /// The frontend that it matches.
    pub(super) fn note_frontend(&mut self, frontend: &Arc<TcpFrontend>) {
        if !frontend.tags().is_empty() {
            self.frontend = Some(frontend.clone());
        }
    }

    /// It goes to this backend.
    pub(super) fn note_backend(&mut self, backend: BackendKey, now: u64) {
        self.backend = Some(backend);
        self.chosen.get_or_insert(now);
        if let Some(queued) = self.queued.take() {
            self.queue_time = Some(now.saturating_sub(queued));
        }
    }
}

impl<S: Stream> TcpSession<S> {
    /// The connection is over.
    pub(super) fn tell_account<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        if !shared.access.is_on() || !self.counted {
            return;
        }
        let roll = random(&mut shared.seed);
        if !shared.access.wants(None, roll) {
            return;
        }
        let number = shared.access.next_session(shared.unix_ms);
        let id = shared.access.session_id(number);
        let account = &self.account;
        let facts = self.front.facts();
        let cluster = self.cluster.and_then(|cluster| shared.backends.cluster_id(cluster));
        let backend = account.backend.and_then(|key| shared.backends.backend(key));
        let listener = shared.listeners.get(self.listener);
        let (bytes_in, bytes_out) = account.bytes.unwrap_or((self.up.written, self.down.written));
        let refusal = account.refusal.map(|refusal| refusal.to_string());
        let message = match &refusal {
            Some(refusal) => refusal,
            None if account.failed_handshake.is_some() => account.failed_handshake.unwrap_or_default(),
            None if account.complete => "TCP::Complete",
            None if account.chosen.is_none() => "the client left before it was routed",
            None => "TCP::Closed",
        };
        let since = |at: u64| shared.micros.saturating_sub(at);
        let record = Record {
            session_id: id,
            request_id: id,
            client: self.address,
            client_peer: self.told.as_ref().map(|told| told.peer),
            listener: listener.map(|entry| entry.config().key().address),
            protocol: if self.front.is_secured() { "TLS" } else { "TCP" },
            http: None,
            cluster: cluster.map(|id| &**id).unwrap_or_default(),
            backend: backend.map(|backend| &**backend.backend_id()).unwrap_or_default(),
            backend_address: backend.and_then(|backend| match backend.target() {
                BackendTarget::Tcp(address) => Some(address),
                BackendTarget::Unix(_) => None,
            }),
            bytes_in,
            bytes_out,
            request_time: shared.micros.saturating_sub(shared.micros_of(self.since)),
            queue_time: account.queue_time.or(account.queued.map(since)),
            connect_time: account.connect_time,
            service_time: account.chosen.map(since),
            response_time: None,
            tls: facts.map(tls_of).or(account.server_name.as_deref().map(|sni| Tls {
                version: "",
                cipher: "",
                sni,
                alpn: "",
            })),
            tags: account.frontend.as_ref().map(|frontend| frontend.tags()),
            message,
            failed: refusal.is_some() || account.failed_handshake.is_some(),
            retries: u32::from(self.attempts.saturating_sub(1)),
            revision: shared.revision,
        };
        let kept = shared.access.take(&record, shared.now);
        count(kept, shared);
    }
}
