//! What the access log is told of a connection.

use std::time::{Duration, Instant};

use kakehi_command::order::BackendTarget;

use super::{Refusal, TcpSession};
use crate::access_log::Record;
use crate::net::{Network, Stream};
use crate::session::backends::BackendKey;
use crate::session::http::account::{count, tls_of};
use crate::session::{Shared, random};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) refusal: Option<Refusal>,
    pub(super) backend: Option<BackendKey>,
    /// A backend was chosen.
    pub(super) chosen: Option<Instant>,
    pub(super) connect_time: Option<Duration>,
    /// Bytes both ways before the connection lingers, once it does.
    pub(super) bytes: Option<(u64, u64)>,
    /// The relay is over as it should be.
    pub(super) complete: bool,
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
        let route = shared.listeners.tcp_routes(self.listener).and_then(|names| names.any());
        let (bytes_in, bytes_out) = account.bytes.unwrap_or((self.up.written, self.down.written));
        let refusal = account.refusal.map(|refusal| refusal.to_string());
        let message = match &refusal {
            Some(refusal) => refusal,
            None if account.complete => "TCP::Complete",
            None if account.chosen.is_none() => "the client left before it was routed",
            None => "TCP::Closed",
        };
        let record = Record {
            session_id: id,
            request_id: id,
            client: self.address,
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
            request_time: shared.now.saturating_duration_since(self.since),
            queue_time: None,
            connect_time: account.connect_time,
            service_time: account.chosen.map(|at| shared.now.saturating_duration_since(at)),
            response_time: None,
            tls: facts.map(tls_of),
            tags: route.map(|route| route.frontend.tags()),
            message,
            failed: refusal.is_some(),
            retries: u32::from(self.attempts.saturating_sub(1)),
            revision: shared.revision,
        };
        let kept = shared.access.take(&record, shared.now);
        count(kept, shared);
    }
}
