//! What a shape needs beside the proxies: a backend, what is asked for, and a certificate.

use super::Shape;
use crate::backend::Backend;
use crate::content::Exchange;
use crate::failure::Failure;
use crate::load::{Load, Reuse};
use crate::paced::Paced;
use crate::peers::{Running, Site};
use crate::tls::{Client, Handshakes, Identity};

pub(super) struct Setting {
    backend: Backend,
    exchange: Exchange,
    reuse: Reuse,
    hosts: usize,
    connections: usize,
    tunnel: bool,
    in_flight_max: Option<usize>,
    tls: Option<(Identity, Handshakes)>,
}

impl Setting {
    pub(super) fn new(shape: &Shape) -> Result<Setting, Failure> {
        let identity = |handshakes| Ok::<_, Failure>((Identity::make()?, handshakes));
        Ok(Setting {
            backend: Backend::start(shape.clusters, shape.service)?,
            exchange: Exchange::new(shape.kind, shape.hosts),
            reuse: shape.reuse,
            hosts: shape.hosts,
            connections: shape.connections,
            tunnel: shape.tunnel,
            in_flight_max: shape.in_flight_max,
            tls: shape.tls.map(identity).transpose()?,
        })
    }

    /// What the proxies are configured for.
    pub(super) fn site(&self, connections_max: usize) -> Site<'_> {
        Site {
            hosts: self.hosts,
            backends: self.backend.addresses(),
            connections_max,
            identity: self.tls.as_ref().map(|(identity, _)| identity),
            tunnel: self.tunnel,
            in_flight_max: self.in_flight_max,
        }
    }

    /// As many clients as are kept busy.
    pub(super) fn load(&self, proxy: &Running) -> Result<Load<'_>, Failure> {
        self.load_of(proxy, self.connections)
    }

    /// So many clients of a proxy.
    pub(super) fn load_of(&self, proxy: &Running, connections: usize) -> Result<Load<'_>, Failure> {
        let client = |(identity, handshakes): &(Identity, Handshakes)| Client::new(identity, *handshakes);
        let tls = self.tls.as_ref().map(client).transpose()?;
        Load::new(proxy.address(), &self.exchange, self.reuse, tls, connections)
    }

    /// The same, but at a rate, over plain connections.
    pub(super) fn paced(&self, proxy: &Running) -> Result<Paced<'_>, Failure> {
        Paced::connect(proxy.address(), &self.exchange, self.connections)
    }

    /// Requests that the backend has seen so far.
    pub(super) fn seen(&self) -> u64 {
        self.backend.requests()
    }

    /// Each request must have reached the backend once, as it was sent.
    ///
    /// # Errors
    /// If one did not.
    pub(super) fn check(&self, seen_before: u64, sent: u64) -> Result<(), Failure> {
        let seen = self.seen() - seen_before;
        if self.backend.wrong() > 0 {
            return Err(Failure::new("the backend got a wrong request"));
        }
        if seen != sent {
            return Err(Failure::new(format!("the backend got {seen} requests instead of {sent}")));
        }
        Ok(())
    }
}
