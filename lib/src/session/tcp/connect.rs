//! The way to a backend: chosen, connected to, and if need be the next one.

use super::{Refusal, Stage, TcpSession, flow, take_buffer};
use crate::metrics::Metric;
use crate::net::buffers::Use;
use crate::net::{Network, Read, Stream};
use crate::session::back::{Back, Client, Speaks};
use crate::session::backends::{Ask, ClusterKey, NoBackend};
use crate::session::relay::Relay;
use crate::session::{Shared, Step, random, secured};

impl<S: Stream> TcpSession<S> {
    /// The connection goes to this cluster.
    pub(super) fn begin_connect<N: Network<Stream = S>>(
        &mut self,
        cluster: ClusterKey,
        shared: &mut Shared<N>,
    ) -> Step {
        shared.backends.hold_on(cluster);
        self.cluster = Some(cluster);
        shared.metrics.incr(Metric::TcpRequests);
        shared.backends.count_of(cluster, Metric::TcpRequests);
        if self.is_over_clusters_rate(cluster, shared) {
            return self.refuse(Refusal::OverRate, shared);
        }
        let source = self.address.ip();
        let admitted =
            self.counted_by.admit(cluster, source, &shared.limits, &mut shared.backends, &mut shared.metrics);
        if admitted.is_err() {
            return self.refuse(Refusal::OverLimit, shared);
        }
        self.attach(shared)
    }

    /// Begins a connect to the next backend, if one more may be tried.
    pub(super) fn attach<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        let Some(cluster) = self.cluster else { return Step::End };
        let config = shared.backends.cluster(cluster);
        let attempts_max = config
            .and_then(|config| config.max_connection_attempts())
            .unwrap_or(shared.settings.connection_attempts_max);
        if self.place.is_none() && self.attempts == 0 && shared.backends.has_line(cluster) {
            return self.line_up(cluster, shared);
        }
        while self.attempts < attempts_max {
            let ask = Ask {
                source: self.address.ip(),
                affinity: None,
                sticky: None,
                tried: self.tried,
                random: random(&mut shared.seed),
            };
            let key = match shared.backends.choose(cluster, &ask, shared.now) {
                Ok(key) => key,
                Err(NoBackend::Full) => return self.line_up(cluster, shared),
                Err(reason) => {
                    let id = shared.backends.cluster_id(cluster);
                    log::debug!("client {}: cluster {id:?}: {}", self.address, reason.message());
                    return self.refuse(Refusal::NoBackend, shared);
                }
            };
            if self.attempts == 0 {
                shared.backends.pay_for_retries(cluster, shared.now);
            } else if !shared.backends.may_retry(cluster, shared.now) {
                shared.backends.forgo(key);
                shared.metrics.incr(Metric::BackendRetryBudgetExhausted);
                return self.refuse(Refusal::NoBackend, shared);
            }
            self.attempts += 1;
            self.stands = None;
            let client =
                Client { address: self.address, listener: self.listener, told: self.told.as_deref() };
            self.back = Back::connect(self.index, cluster, key, Speaks::Bytes, &client, shared);
            if let Some(back) = &self.back {
                self.account.note_backend(back.key, shared.micros);
                self.stage = Stage::Connect;
                if back.stands {
                    self.stands = Some(true);
                    return Step::Again;
                }
                return Step::Wait;
            }
            shared.backends.forgo(key);
            self.tried.add(key);
        }
        shared.metrics.incr(Metric::BackendConnectRetriesExhausted);
        self.refuse(Refusal::NoBackend, shared)
    }

    /// The connect failed or took too long: another backend, if one is left.
    pub(super) fn reconnect<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        if let Some(key) = self.back.as_ref().map(|back| back.key) {
            shared.connect_failed(key);
            self.tried.add(key);
        }
        self.drop_back(shared);
        flow::release(&mut self.down, shared);
        self.attach(shared)
    }

    /// Closes the back connection.
    pub(super) fn drop_back<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        if let Some(back) = self.back.take() {
            back.close(shared);
        }
    }

    /// Waits for the connect, and over TLS for the handshake: nothing of the client's has been written before, so that
    /// another backend can be tried.
    pub(super) fn step_connect<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        if self.front.is_gone() {
            return Step::End;
        }
        match self.stands {
            None => return Step::Wait,
            Some(false) => return self.reconnect(shared),
            Some(true) => {}
        }
        match self.back.as_mut().map(|back| back.send_preface(&mut shared.metrics)) {
            Some(Ok(false)) => return Step::Wait,
            Some(Err(error)) => {
                log::debug!("the PROXY header to a backend: {error}");
                return self.reconnect(shared);
            }
            Some(Ok(true)) | None => {}
        }
        if self.back.as_ref().is_some_and(|back| back.peer.is_handshaking())
            && let Some(step) = self.secure_back(shared)
        {
            return step;
        }
        let Some(back) = self.back.as_mut() else { return Step::End };
        back.connected = true;
        shared.connected(back.key, back.since);
        self.account.connect_time = Some(shared.micros.saturating_sub(shared.micros_of(back.since)));
        Relay::begin(&mut self.up);
        Relay::begin(&mut self.down);
        self.active = shared.now;
        self.awaits_answer = !self.up.is_drained();
        self.stage = Stage::Relay;
        Step::Again
    }

    /// Goes on with the handshake with a backend; none once it is over.
    fn secure_back<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Option<Step> {
        let back = self.back.as_mut()?;
        back.peer.flush();
        if !back.peer.is_readable() {
            return Some(Step::Wait);
        }
        let Some(bytes) = take_buffer(&mut self.down.bytes, Use::Response, shared) else {
            self.thirst(Use::Response, shared);
            return Some(Step::Wait);
        };
        let read = back.peer.read(bytes);
        let handshaking = back.peer.is_handshaking();
        if let Some(news) = back.peer.take_news() {
            secured::tell_of_backend(news, shared);
        }
        if self.down.is_drained() {
            shared.give_back(&mut self.down.bytes);
        }
        match read {
            Read::Bytes(count) => {
                shared.metrics.add(Metric::BackBytesIn, count);
                None
            }
            Read::Nothing if handshaking => Some(Step::Wait),
            Read::Nothing => None,
            Read::Thirsty => {
                self.thirst(Use::Record, shared);
                Some(Step::Wait)
            }
            Read::End | Read::Failed(_) => Some(self.reconnect(shared)),
        }
    }
}
