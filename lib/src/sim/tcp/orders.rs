//! The configuration of a TCP listener with one cluster behind it, and changes to it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    ActivateListener, AddBackend, Cluster, DeactivateListener, HttpListenerConfig, ListenerType,
    LoadBalancingAlgorithms, RemoveBackend, Request, RequestTcpFrontend, TcpListenerConfig,
};

use super::super::orders::{BACKENDS_MAX, backend_address, front_address, request, unix_path};
use super::super::rng::Rng;
use super::super::world::{Lapse, Sabotage};
use super::setting::Setting;

const CLUSTER: &str = "streams";

/// Seconds within which a client's first bytes have to come where they are waited for.
pub(super) const PREREAD_SECONDS: u32 = 2;

fn add_frontend() -> Request {
    request(RequestType::AddTcpFrontend(frontend()))
}

fn frontend() -> RequestTcpFrontend {
    RequestTcpFrontend {
        cluster_id: CLUSTER.to_owned(),
        address: front_address().into(),
        ..RequestTcpFrontend::default()
    }
}

fn add_backend(index: usize) -> Request {
    request(RequestType::AddBackend(AddBackend {
        cluster_id: CLUSTER.to_owned(),
        backend_id: format!("b{index}"),
        address: backend_address(index).into(),
        unix_path: unix_path(index),
        ..AddBackend::default()
    }))
}

fn remove_backend(index: usize) -> Request {
    request(RequestType::RemoveBackend(RemoveBackend {
        cluster_id: CLUSTER.to_owned(),
        backend_id: format!("b{index}"),
        address: backend_address(index).into(),
    }))
}

fn activate() -> Request {
    request(RequestType::ActivateListener(ActivateListener {
        address: front_address().into(),
        proxy: ListenerType::Tcp.into(),
        ..ActivateListener::default()
    }))
}

/// Nobody listens from now on, or somebody again.
pub(super) fn turn_listener(paused: bool) -> [Request; 1] {
    [match paused {
        true => activate(),
        false => request(RequestType::DeactivateListener(DeactivateListener {
            address: front_address().into(),
            proxy: ListenerType::Tcp.into(),
            ..DeactivateListener::default()
        })),
    }]
}

/// Whether an order takes something away that somebody could have been led to.
pub(super) fn is_removal(order: &Request) -> bool {
    matches!(order.request_type, Some(RequestType::RemoveBackend(_) | RequestType::RemoveCluster(_)))
}

/// What is configured now.
#[derive(Debug)]
pub(super) struct Changes {
    healthy: usize,
    cluster: Option<Cluster>,
    template: Cluster,
    frontend: bool,
    backends: BTreeSet<usize>,
    ill: usize,
}

impl Changes {
    pub(super) fn new(healthy: usize, ill: usize) -> Self {
        let backends = (0..healthy + ill).collect();
        let (cluster, template) = (None, Cluster::default());
        Self { healthy, cluster, template, frontend: false, backends, ill }
    }

    /// The listener, and all that is behind it at first.
    pub(super) fn initial(&mut self, setting: &Setting, sabotage: Option<Sabotage>) -> Vec<Request> {
        let is_lapse = |lapse: Lapse| sabotage == Some(Sabotage::Misconfigure(lapse));
        let early = if is_lapse(Lapse::TunnelTimeout) { 1 } else { u32::MAX };
        let mut listener = TcpListenerConfig {
            address: front_address().into(),
            expect_proxy: setting.expects && !is_lapse(Lapse::Trust),
            front_timeout: setting.front_timeout.min(early),
            back_timeout: setting.back_timeout.min(early),
            connect_timeout: 3,
            sni_preread_timeout: Some(PREREAD_SECONDS),
            ..TcpListenerConfig::default()
        };
        listener.tls = setting.tls.map(|terms| {
            let mut tls = terms.listener(HttpListenerConfig::default());
            let own = super::super::certificates::default_certificate();
            (tls.certificate, tls.key) = (Some(own.0), Some(own.1));
            tls.strict_sni_binding = None;
            tls.max_handshakes_per_source = None;
            tls
        });
        self.template = Cluster {
            cluster_id: CLUSTER.to_owned(),
            load_balancing: LoadBalancingAlgorithms::RoundRobin.into(),
            send_proxy_version: setting.sends.map(u32::from),
            proxy_protocol: setting
                .sends
                .map(|_| kakehi_command::proto::ProxyProtocolConfig::SendHeader.into()),
            ..Cluster::default()
        };
        let mut requests = vec![request(RequestType::AddTcpListener(listener)), activate()];
        requests.extend(self.add_cluster());
        requests
    }

    fn add_cluster(&mut self) -> Vec<Request> {
        self.cluster = Some(self.template.clone());
        self.frontend = true;
        self.backends = (0..self.healthy + self.ill).collect();
        let mut requests = vec![request(RequestType::AddCluster(self.template.clone())), add_frontend()];
        requests.extend(self.backends.iter().map(|&index| add_backend(index)));
        requests
    }

    /// Everything is there again.
    pub(super) fn restore(&mut self) -> Vec<Request> {
        if self.cluster.is_none() {
            return self.add_cluster();
        }
        let missing = (0..self.healthy + self.ill).filter(|index| !self.backends.contains(index));
        let mut requests: Vec<_> = missing.map(add_backend).collect();
        self.backends.extend(0..self.healthy + self.ill);
        if !std::mem::replace(&mut self.frontend, true) {
            requests.push(add_frontend());
        }
        requests
    }

    /// Where connections may go.
    pub(super) fn addresses(&self) -> BTreeSet<SocketAddr> {
        let backends = self.backends.iter().filter(|_| self.cluster.is_some());
        backends.map(|&index| backend_address(index)).collect()
    }

    /// Whether a client that comes now has somewhere to go.
    pub(super) fn leads_somewhere(&self) -> bool {
        self.cluster.is_some() && self.frontend
    }

    pub(super) fn draw(&mut self, rng: &mut Rng) -> Vec<Request> {
        if self.cluster.is_none() {
            return self.add_cluster();
        }
        match rng.below(10) {
            0..=4 => vec![self.turn_backend(rng)],
            // All at once: nobody ever finds it gone.
            5 => vec![request(RequestType::RemoveTcpFrontend(frontend())), add_frontend()]
                .into_iter()
                .filter(|_| self.frontend)
                .collect(),
            6..=7 => {
                self.frontend = !self.frontend;
                vec![match self.frontend {
                    true => add_frontend(),
                    false => request(RequestType::RemoveTcpFrontend(frontend())),
                }]
            }
            8 => vec![request(RequestType::AddCluster(self.template.clone()))],
            _ => {
                // What belongs to it goes with it.
                (self.cluster, self.frontend) = (None, false);
                self.backends.clear();
                vec![request(RequestType::RemoveCluster(CLUSTER.to_owned()))]
            }
        }
    }

    /// Adds or removes a backend; one that works is always left.
    fn turn_backend(&mut self, rng: &mut Rng) -> Request {
        let ill = self.healthy..self.healthy + self.ill;
        let sound = self.backends.iter().filter(|index| !ill.contains(index)).count();
        let index = rng.below(BACKENDS_MAX);
        let present = self.backends.contains(&index);
        if !present || (sound == 1 && !ill.contains(&index)) {
            self.backends.insert(index);
            return add_backend(index);
        }
        self.backends.remove(&index);
        remove_backend(index)
    }
}
