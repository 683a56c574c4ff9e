//! A connection to a backend, from its connect to its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use kakehi_command::order::{BackendTarget, ProxyVersion};

use super::backends::{BackendKey, ClusterKey, Secured};
use super::opening::Told;
use super::{Owner, Shared};
use crate::listener::{ListenerConfig, ListenerIndex};
use crate::metrics::{Metric, Metrics};
use crate::net::secure::Tls;
use crate::net::{Network, Peer, Stream, Write};
use crate::protocol::proxy_header::{self, Ends, Form, Tlvs};

/// What is spoken to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP.
    Http,
    /// Whatever the client does.
    Bytes,
}

/// For whom a connection is made.
#[derive(Debug)]
pub(super) struct Client<'a> {
    /// Its address.
    pub(super) address: SocketAddr,
    /// Where it came in.
    pub(super) listener: ListenerIndex,
    /// What its own PROXY header said.
    pub(super) told: Option<&'a Told>,
}

impl Client<'_> {
    /// The header that tells of it.
    fn header<N: Network>(&self, version: ProxyVersion, shared: &Shared<N>) -> Vec<u8> {
        let advertised = shared.listeners.get(self.listener).map(|entry| match entry.config() {
            ListenerConfig::Http(config) => config.advertised_address(),
            ListenerConfig::Tcp(config) => config.public_address().unwrap_or(config.key().address),
        });
        let destination = self.told.map(|told| told.destination).or(advertised);
        let ends =
            destination.map_or(Ends::Own, |destination| Ends::Proxied { source: self.address, destination });
        let tlvs = self.told.and_then(|told| Tlvs::new(&told.tlvs).ok()).unwrap_or(Tlvs::NONE);
        let mut bytes = Vec::new();
        let form = match version {
            ProxyVersion::V1 => Form::V1,
            ProxyVersion::V2 => Form::V2(tlvs),
        };
        proxy_header::write(form, ends, &mut bytes);
        bytes
    }
}

/// What goes to a backend before all else, TLS included.
#[derive(Debug)]
pub(super) struct Preface {
    bytes: Vec<u8>,
    sent: usize,
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
    /// It began with a PROXY header, or is to: it is one client's, and no other's.
    pub(super) preface: Option<Preface>,
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
        client: &Client<'_>,
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
                let version = shared.backends.cluster(cluster).and_then(|config| config.sends_proxy_header());
                let preface =
                    version.map(|version| Preface { bytes: client.header(version, shared), sent: 0 });
                let since = shared.now;
                Some(Self { peer, key, secured, reused: false, connected: false, stands, preface, since })
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

    /// Whether its PROXY header is still to go: nothing else may be done with it before.
    pub(super) fn owes_preface(&self) -> bool {
        self.preface.as_ref().is_some_and(|preface| preface.sent < preface.bytes.len())
    }

    /// Sends the PROXY header, as far as the socket takes it. True once there is nothing more of it.
    pub(super) fn send_preface(&mut self, metrics: &mut Metrics) -> io::Result<bool> {
        let Some(preface) = &mut self.preface else { return Ok(true) };
        while let Some(rest) = preface.bytes.get(preface.sent..).filter(|rest| !rest.is_empty()) {
            match self.peer.write_plain(rest) {
                Write::Bytes(count) => {
                    metrics.add(Metric::BackBytesOut, count);
                    preface.sent += count;
                    if preface.sent == preface.bytes.len() {
                        metrics.incr(Metric::ProtocolProxySend);
                    }
                }
                Write::Nothing | Write::Thirsty => return Ok(false),
                Write::Failed(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Closes it; a TLS peer is told first.
    pub(super) fn close<N: Network<Stream = S>>(mut self, shared: &mut Shared<N>) {
        if !self.owes_preface() {
            self.peer.farewell();
        }
        shared.backends.closed(self.key);
        shared.release_token(self.peer.token());
    }
}

/// Descriptors, memory or ports are used up here: the backend is not to blame.
pub(super) fn is_our_own_want(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM | EADDRNOTAVAIL))
}
