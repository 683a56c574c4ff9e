//! TLS that is not ours: its first message says where it goes.

use super::{Refusal, Stage, TcpSession, take_buffer};
use crate::metrics::Metric;
use crate::net::buffers::Use;
use crate::net::{Network, Read, Stream};
use crate::session::backends::ClusterKey;
use crate::session::{Shared, Step};

impl<S: Stream> TcpSession<S> {
    pub(super) fn begin_preread<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        shared.metrics.incr(Metric::SniPrereadActive);
        self.passed_through = true;
        self.stage = Stage::Preread;
        Step::Again
    }

    /// It is known what becomes of the connection.
    pub(super) fn end_preread<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) {
        if self.stage == Stage::Preread {
            self.stage = Stage::Accepted;
            shared.metrics.decr(Metric::SniPrereadActive);
            let duration = shared.now.saturating_duration_since(self.since);
            shared.metrics.add(Metric::SniPrereadDuration, duration.as_millis());
        }
    }

    pub(super) fn step_preread<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Step {
        let Some(listener) = shared.listeners.tcp(self.listener) else { return Step::End };
        let bytes_max = listener.sni_preread_bytes_max().min(shared.buffers.buffer_bytes());
        if !self.up.unparsed().is_empty() {
            match self.scanner.scan(self.up.unparsed(), bytes_max) {
                Ok(true) => {
                    return match self.route_hello(shared) {
                        Ok(cluster) => {
                            self.end_preread(shared);
                            shared.metrics.incr(Metric::SniPrereadRouted);
                            self.begin_connect(cluster, shared)
                        }
                        Err(refusal) => self.refuse(refusal, shared),
                    };
                }
                Ok(false) => {}
                Err(rejection) => return self.refuse(rejection.into(), shared),
            }
        }
        if !self.front.is_readable() {
            return Step::Wait;
        }
        let Some(bytes) = take_buffer(&mut self.up.bytes, Use::Request, shared) else {
            self.thirst(Use::Request, shared);
            return Step::Wait;
        };
        match self.front.read(bytes) {
            Read::Bytes(count) => {
                shared.metrics.add(Metric::BytesIn, count);
                Step::Again
            }
            Read::Nothing | Read::Thirsty => {
                if self.up.is_drained() {
                    shared.give_back(&mut self.up.bytes);
                }
                Step::Wait
            }
            Read::End | Read::Failed(_) => self.refuse(Refusal::Left, shared),
        }
    }

    fn route_hello<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Result<ClusterKey, Refusal> {
        let hello = shared.scratch.hello.read(self.up.unparsed())?;
        if shared.access.is_on() {
            self.account.server_name = hello.server_name.map(Box::from);
        }
        let names = shared.listeners.tcp_routes(self.listener).ok_or(Refusal::NoRoute)?;
        // Its frontends may have changed in the meantime.
        if let Some(route) = names.any() {
            self.account.note_frontend(&route.frontend);
            return Ok(route.cluster);
        }
        let name = match hello.server_name {
            Some(name) => name,
            None if hello.ech_outer => return Err(Refusal::OnlyEncryptedName),
            None => return Err(Refusal::NoName),
        };
        let route = names.route(name, hello.protocols())?;
        self.account.note_frontend(&route.frontend);
        Ok(route.cluster)
    }
}
