//! The worker's configuration, and changes to it: such as no client may notice, and such as have an effect
//! that is known.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use kakehi_command::order::UnixPath;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    ActivateListener, AddBackend, DeactivateListener, HttpListenerConfig, ListenerType, RemoveBackend,
    RemoveListener, Request, RequestHttpFrontend, SocketAddress, UpdateHttpListenerConfig,
};

use super::ledger::Era;
use super::rng::Rng;
use super::site::{Credentials, Site};
use super::terms::Terms;

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

/// Whose address it is.
pub(super) fn backend_index(address: &SocketAddress) -> Option<usize> {
    (0..BACKENDS_MAX).find(|index| SocketAddress::from(backend_address(*index)) == *address)
}

/// Every second backend is behind a Unix socket.
pub(super) fn unix_path(index: usize) -> Option<String> {
    (index % 2 == 1).then(|| format!("{UNIX_PATHS}{index}"))
}

/// What the Unix sockets of backends are called, their number left out.
const UNIX_PATHS: &str = "/sim/";

/// Who listens on a Unix socket.
pub(super) fn behind_unix_path(path: &UnixPath) -> SocketAddr {
    let index = path.as_str().strip_prefix(UNIX_PATHS).and_then(|index| index.parse().ok());
    backend_address(index.expect("a name that was made here"))
}

pub(super) fn request(request_type: RequestType) -> Request {
    Request { request_type: Some(request_type) }
}

fn add_cluster(site: Site) -> Request {
    request(RequestType::AddCluster(site.cluster_config()))
}

fn frontend(site: Site) -> RequestHttpFrontend {
    site.frontend(front_address())
}

fn add_frontend(site: Site) -> Request {
    request(RequestType::AddHttpFrontend(frontend(site)))
}

fn remove_frontend(site: Site) -> Request {
    request(RequestType::RemoveHttpFrontend(frontend(site)))
}

fn add_backend(site: Site, index: usize) -> Request {
    request(RequestType::AddBackend(AddBackend {
        cluster_id: site.cluster().to_owned(),
        backend_id: format!("b{index}"),
        address: backend_address(index).into(),
        unix_path: unix_path(index),
        ..AddBackend::default()
    }))
}

fn remove_backend(site: Site, index: usize) -> Request {
    request(RequestType::RemoveBackend(RemoveBackend {
        cluster_id: site.cluster().to_owned(),
        backend_id: format!("b{index}"),
        address: backend_address(index).into(),
    }))
}

/// The listener, not yet active.
pub(super) fn add_listener(timeouts: &Timeouts, terms: &Terms) -> Request {
    let listener = HttpListenerConfig {
        address: front_address().into(),
        front_timeout: timeouts.front,
        back_timeout: timeouts.back,
        connect_timeout: timeouts.connect,
        request_timeout: timeouts.request,
        ..HttpListenerConfig::default()
    };
    request(RequestType::AddHttpListener(terms.write(listener)))
}

pub(super) fn activate() -> Request {
    request(RequestType::ActivateListener(ActivateListener {
        address: front_address().into(),
        proxy: ListenerType::Http.into(),
        from_scm: false,
        ..ActivateListener::default()
    }))
}

pub(super) fn deactivate() -> Request {
    request(RequestType::DeactivateListener(DeactivateListener {
        address: front_address().into(),
        proxy: ListenerType::Http.into(),
        to_scm: false,
        ..DeactivateListener::default()
    }))
}

pub(super) fn remove_listener() -> Request {
    request(RequestType::RemoveListener(RemoveListener {
        address: front_address().into(),
        proxy: ListenerType::Http.into(),
        ..RemoveListener::default()
    }))
}

/// The listener, and all that is always behind it. Of the backends, the first `healthy` work.
pub(super) fn initial(backends: usize, healthy: usize, timeouts: &Timeouts, terms: &Terms) -> Vec<Request> {
    let mut requests = vec![add_listener(timeouts, terms), activate()];
    let guarded = Site::Guarded(Credentials::Right);
    requests.extend([Site::Plain, guarded, Site::Secure].map(add_cluster));
    requests.extend(Site::lasting().map(add_frontend));
    requests.extend((0..backends).map(|index| add_backend(Site::Plain, index)));
    requests.extend((0..healthy).map(|index| add_backend(guarded, index)));
    requests
}

/// Backends that were configured and are no more, by cluster and address.
#[derive(Debug, Default)]
pub(super) struct Removals(BTreeMap<(String, SocketAddr), Instant>);

impl Removals {
    /// Orders are carried out now.
    pub(super) fn heed(&mut self, requests: &[Request], now: Instant) {
        for request in requests {
            match &request.request_type {
                Some(RequestType::AddBackend(backend)) => {
                    self.0.retain(|(cluster, at), _| {
                        *cluster != backend.cluster_id || backend.address != (*at).into()
                    });
                }
                Some(RequestType::RemoveBackend(backend)) => {
                    self.remove(&backend.cluster_id, now, |at| backend.address == at.into());
                }
                Some(RequestType::RemoveCluster(cluster)) => self.remove(cluster, now, |_| true),
                _ => {}
            }
        }
    }

    fn remove(&mut self, cluster: &str, now: Instant, is_meant: impl Fn(SocketAddr) -> bool) {
        let addresses = (0..BACKENDS_MAX).map(backend_address).filter(|at| is_meant(*at));
        for at in addresses {
            self.0.entry((cluster.to_owned(), at)).or_insert(now);
        }
    }

    /// Since when this backend has been gone, if it has.
    pub(super) fn since(&self, cluster: &str, at: SocketAddr) -> Option<Instant> {
        self.0.get(&(cluster.to_owned(), at)).copied()
    }
}

/// Draws changes, and remembers what they changed.
#[derive(Debug)]
pub(super) struct Changes {
    /// Of the healthy backends of the beginning, and of the spare one, which are configured.
    present: Vec<(usize, bool)>,
    pub(super) timeouts: Timeouts,
    /// Clients are waited for as long as is written there, no longer.
    dawdlers: bool,
}

impl Changes {
    pub(super) fn new(healthy: usize, timeouts: Timeouts, dawdlers: bool) -> Self {
        let mut present: Vec<_> = (0..healthy).map(|index| (index, true)).collect();
        present.push((BACKENDS_MAX - 1, false));
        Self { present, timeouts, dawdlers }
    }

    pub(super) fn draw(&mut self, era: &mut Era, rng: &mut Rng) -> Vec<Request> {
        match rng.below(14) {
            0..=3 => self.turn_backend(rng),
            4..=5 => self.move_backend(rng),
            6..=9 => turn_sometimes(era, rng),
            10 => vec![add_cluster(Site::Plain)],
            // All at once: nobody ever finds it gone.
            11..=12 => {
                let site = rng.pick(&Site::lasting());
                vec![remove_frontend(site), add_frontend(site)]
            }
            _ => {
                // Longer than before, so that no stall that was fine becomes one that is not.
                self.timeouts.front += u32::from(!self.dawdlers);
                self.timeouts.request += 1;
                self.timeouts.back += 1;
                vec![request(RequestType::UpdateHttpListener(UpdateHttpListenerConfig {
                    address: front_address().into(),
                    front_timeout: Some(self.timeouts.front),
                    back_timeout: Some(self.timeouts.back),
                    request_timeout: Some(self.timeouts.request),
                    ..UpdateHttpListenerConfig::default()
                }))]
            }
        }
    }

    /// Where one backend was another is from now on.
    fn move_backend(&mut self, rng: &mut Rng) -> Vec<Request> {
        let at = |present: bool, rng: &mut Rng| {
            let such: Vec<_> = (0..self.present.len()).filter(|&at| self.present[at].1 == present).collect();
            (!such.is_empty()).then(|| rng.pick(&such))
        };
        let (Some(from), Some(to)) = (at(true, rng), at(false, rng)) else { return self.turn_backend(rng) };
        (self.present[from].1, self.present[to].1) = (false, true);
        let mut requests = vec![
            remove_backend(Site::Plain, self.present[from].0),
            add_backend(Site::Plain, self.present[to].0),
        ];
        rng.shuffle(&mut requests);
        requests
    }

    /// Adds or removes a backend that works; one is always left.
    fn turn_backend(&mut self, rng: &mut Rng) -> Vec<Request> {
        let at = rng.below(self.present.len());
        let count = self.present.iter().filter(|(_, present)| *present).count();
        let (index, present) = &mut self.present[at];
        let site = Site::Plain;
        if *present && count == 1 {
            return vec![add_backend(site, *index)];
        }
        *present = !*present;
        vec![if *present { add_backend(site, *index) } else { remove_backend(site, *index) }]
    }
}

/// Turns a part of what [`Site::Sometimes`] needs, or all of it.
fn turn_sometimes(era: &mut Era, rng: &mut Rng) -> Vec<Request> {
    let site = Site::Sometimes;
    era.number += 1;
    if !era.cluster {
        (era.cluster, era.frontend, era.backends) = (true, rng.percent(80), rng.percent(80));
        let mut requests = vec![add_cluster(site)];
        requests.extend(era.frontend.then(|| add_frontend(site)));
        requests.extend(era.backends.then(|| add_backend(site, 0)));
        return requests;
    }
    match rng.below(3) {
        0 => {
            era.frontend = !era.frontend;
            vec![if era.frontend { add_frontend(site) } else { remove_frontend(site) }]
        }
        1 => {
            era.backends = !era.backends;
            vec![if era.backends { add_backend(site, 0) } else { remove_backend(site, 0) }]
        }
        _ => {
            // What belongs to it goes with it.
            (era.cluster, era.frontend, era.backends) = (false, false, false);
            vec![request(RequestType::RemoveCluster(site.cluster().to_owned()))]
        }
    }
}

/// Leaves nothing of a frontend but where it leads.
pub(super) fn forget_policy(order: &mut Request) {
    if let Some(RequestType::AddHttpFrontend(frontend)) = &mut order.request_type {
        *frontend = RequestHttpFrontend {
            cluster_id: frontend.cluster_id.take(),
            hostname: std::mem::take(&mut frontend.hostname),
            ..Site::Plain.frontend(front_address())
        };
    }
}

/// Whether an order takes [`Site::Sometimes`] away.
pub(super) fn is_removal_of_frontend(order: &Request) -> bool {
    matches!(order.request_type, Some(RequestType::RemoveHttpFrontend(_) | RequestType::RemoveCluster(_)))
}
