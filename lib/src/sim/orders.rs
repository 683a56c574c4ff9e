//! The worker's configuration, and changes to it that no client may notice.

use std::net::SocketAddr;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    ActivateListener, AddBackend, Cluster, HttpListenerConfig, ListenerType, PathRule, PathRuleKind,
    RemoveBackend, Request, RequestHttpFrontend, RulePosition, UpdateHttpListenerConfig,
};

use super::rng::Rng;

/// Addresses that backends may have.
pub(super) const BACKENDS_MAX: usize = 5;

/// In seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    pub(super) front: u32,
    pub(super) back: u32,
    pub(super) connect: u32,
    pub(super) request: u32,
}

pub(super) fn front_address() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 80))
}

pub(super) fn backend_address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 8000 + u16::try_from(index).expect("few")))
}

fn request(request_type: RequestType) -> Request {
    Request { request_type: Some(request_type) }
}

fn cluster(id: &str) -> Request {
    request(RequestType::AddCluster(Cluster { cluster_id: id.to_owned(), ..Cluster::default() }))
}

fn frontend(cluster: &str, host: &str) -> RequestHttpFrontend {
    RequestHttpFrontend {
        cluster_id: Some(cluster.to_owned()),
        address: front_address().into(),
        hostname: host.to_owned(),
        path: PathRule { kind: PathRuleKind::Prefix.into(), value: "/".to_owned() },
        position: RulePosition::Tree.into(),
        ..RequestHttpFrontend::default()
    }
}

fn add_backend(index: usize) -> Request {
    request(RequestType::AddBackend(AddBackend {
        cluster_id: "a".to_owned(),
        backend_id: format!("b{index}"),
        address: backend_address(index).into(),
        ..AddBackend::default()
    }))
}

fn remove_backend(index: usize) -> Request {
    request(RequestType::RemoveBackend(RemoveBackend {
        cluster_id: "a".to_owned(),
        backend_id: format!("b{index}"),
        address: backend_address(index).into(),
    }))
}

/// A listener, a cluster with so many backends, and a frontend for it.
pub(super) fn initial(backends: usize, timeouts: &Timeouts) -> Vec<Request> {
    let listener = HttpListenerConfig {
        address: front_address().into(),
        front_timeout: timeouts.front,
        back_timeout: timeouts.back,
        connect_timeout: timeouts.connect,
        request_timeout: timeouts.request,
        ..HttpListenerConfig::default()
    };
    let activation = ActivateListener {
        address: front_address().into(),
        proxy: ListenerType::Http.into(),
        from_scm: false,
        ..ActivateListener::default()
    };
    let mut requests = vec![
        request(RequestType::AddHttpListener(listener)),
        request(RequestType::ActivateListener(activation)),
        cluster("a"),
        request(RequestType::AddHttpFrontend(frontend("a", "a.test"))),
    ];
    requests.extend((0..backends).map(add_backend));
    requests
}

/// Draws changes, and remembers what they changed.
#[derive(Debug)]
pub(super) struct Changes {
    /// Of the healthy backends of the beginning, and of the spare one, which are configured.
    present: Vec<(usize, bool)>,
    other: bool,
    timeouts: Timeouts,
}

impl Changes {
    pub(super) fn new(healthy: usize, timeouts: Timeouts) -> Self {
        let mut present: Vec<_> = (0..healthy).map(|index| (index, true)).collect();
        present.push((BACKENDS_MAX - 1, false));
        Self { present, other: false, timeouts }
    }

    pub(super) fn draw(&mut self, rng: &mut Rng) -> Vec<Request> {
        match rng.below(4) {
            0 | 1 => self.turn_backend(rng),
            2 => self.turn_other_cluster(),
            _ => {
                // Longer than before, so that no stall that was fine becomes one that is not.
                self.timeouts.front += 1;
                vec![request(RequestType::UpdateHttpListener(UpdateHttpListenerConfig {
                    address: front_address().into(),
                    front_timeout: Some(self.timeouts.front),
                    ..UpdateHttpListenerConfig::default()
                }))]
            }
        }
    }

    /// Adds or removes a backend that works; one is always left.
    fn turn_backend(&mut self, rng: &mut Rng) -> Vec<Request> {
        let at = rng.below(self.present.len());
        let count = self.present.iter().filter(|(_, present)| *present).count();
        let (index, present) = &mut self.present[at];
        if *present && count == 1 {
            return vec![add_backend(*index)];
        }
        *present = !*present;
        vec![if *present { add_backend(*index) } else { remove_backend(*index) }]
    }

    fn turn_other_cluster(&mut self) -> Vec<Request> {
        self.other = !self.other;
        let front = frontend("other", "other.test");
        if self.other {
            vec![cluster("other"), request(RequestType::AddHttpFrontend(front))]
        } else {
            vec![
                request(RequestType::RemoveHttpFrontend(front)),
                request(RequestType::RemoveCluster("other".to_owned())),
            ]
        }
    }
}
