//! Listeners and clusters to orders, in the order that builds a state from nothing.
//!
//! What an order's own checks refuse is reported at the key it came from; this file adds what only the
//! whole file can tell: duplicates, frontends without a listener, and what is on listeners that this
//! version does not serve.

mod tcp;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::answers::Answers;
use super::diagnostic::{Diagnostic, Diagnostics, Place};
use super::file::{Located, Section};
use super::health::{self, ReadSecret};
use super::pem_files::{PemFiles, Unreadable};
use super::resolve::report_unserved;
use super::{Config, DEMO_PORT, Lookup, Origin, Outside, messages};
use crate::order::{
    Backend, BackendKey, Certificate, CertificateKey, Cluster, ClusterId, ConnectionLimit, HeaderPredicate,
    HostPattern, HttpFrontend, HttpListener, ListenerKey, ListenerKind, Order, OrderError, PathRule,
    SEND_TLS13_TICKETS_DEFAULT, STICKY_NAME_DEFAULT, TcpListener,
};
use crate::proto::{self, supervision::ProbeSecret};
use crate::state::TcpFrontends;

/// What the file is about.
pub(super) struct Objects {
    /// The orders that lead to it.
    pub(super) orders: Vec<Order>,
    /// Values of secret headers of health checks.
    pub(super) probe_secrets: Vec<(ClusterId, ProbeSecret)>,
    /// Where each listener is said.
    pub(super) listener_places: HashMap<ListenerKey, Diagnostic>,
    /// Where each cluster is said.
    pub(super) cluster_places: HashMap<ClusterId, Diagnostic>,
    /// Where each certificate of a frontend is said first.
    pub(super) certificate_places: HashMap<CertificateKey, Diagnostic>,
}

/// Everything the whole file is about.
pub(super) fn objects(
    top: &Section<'_>,
    settings: &Config,
    origin: &Origin,
    outside: Outside<'_>,
    diagnostics: &mut Diagnostics,
) -> Objects {
    let mut builder = Builder {
        settings,
        origin,
        names: Names { look_up: outside.look_up, known: HashMap::new() },
        answers: Answers { read: outside.read_answer },
        files: PemFiles { read: outside.read_pem },
        read_secret: outside.read_secret,
        diagnostics,
        probe_secrets: Vec::new(),
        listeners: HashMap::new(),
        limit_orders: Vec::new(),
        listener_orders: Vec::new(),
        tcp_listener_orders: Vec::new(),
        frontends: HashMap::new(),
        tcp_frontends: TcpFrontends::default(),
        tcp_frontend_places: HashMap::new(),
        certificates: HashMap::new(),
        cluster_places: HashMap::new(),
        cluster_orders: Vec::new(),
    };
    let limits = [
        (ConnectionLimit::PerSource, "max_connections_per_ip"),
        (ConnectionLimit::PerSubnet, "max_connections_per_subnet"),
    ];
    for (limit, name) in limits {
        let value = top.integer_or_default(name);
        if value > 0 {
            builder.limit_orders.push(Order::SetConnectionLimit { limit, value });
        }
    }
    for section in top.tables("listeners") {
        builder.listener(&section);
    }
    for (id, section) in top.named_tables("clusters") {
        builder.cluster(id, &section);
    }
    builder.finish()
}

struct Builder<'c, 'l> {
    settings: &'c Config,
    origin: &'c Origin,
    names: Names<'l>,
    answers: Answers<'l>,
    files: PemFiles<'l>,
    read_secret: Option<ReadSecret<'l>>,
    diagnostics: &'c mut Diagnostics,
    probe_secrets: Vec<(ClusterId, ProbeSecret)>,
    listeners: HashMap<SocketAddr, Vec<Declared>>,
    limit_orders: Vec<Order>,
    listener_orders: Vec<Arc<HttpListener>>,
    tcp_listener_orders: Vec<Arc<TcpListener>>,
    frontends: HashMap<FrontendIdentity, Origination>,
    tcp_frontends: TcpFrontends,
    tcp_frontend_places: HashMap<tcp::Identity, Origination>,
    /// Many frontends may name the same files.
    certificates: HashMap<CertificateKey, Diagnostic>,
    cluster_places: HashMap<ClusterId, Diagnostic>,
    cluster_orders: Vec<Order>,
}

/// A listener of the file, or one that a frontend called for.
struct Declared {
    kind: ListenerKind,
    interface: Option<String>,
    /// Whether it has a certificate for its frontends that bring none.
    certificate: bool,
    /// Whether TLS ends there.
    ends_tls: bool,
    by: Origination,
}

/// Where something was first said.
#[derive(Clone)]
struct Origination {
    place: Place,
    path: String,
}

/// What must be unique among the frontends of all clusters.
type FrontendIdentity = (SocketAddr, HostPattern, PathRule, Option<String>, Vec<HeaderPredicate>);

impl Builder<'_, '_> {
    fn listener(&mut self, section: &Section<'_>) {
        let address = section.required("address", self.diagnostics).and_then(|()| section.address("address"));
        let kind = section.required("protocol", self.diagnostics).and_then(|()| section.choice("protocol"));
        let (Some(address), Some(kind)) = (address, kind.map(kind_of)) else { return };
        let interface = section.text("interface").map(str::to_owned);
        let by = Origination { place: address.place, path: section.path.clone() };
        let certificate = section.has("certificate") && section.has("key");
        let ends_tls = match kind {
            ListenerKind::Https => true,
            ListenerKind::Tcp => section.flag("tls") == Some(true),
            ListenerKind::Http | ListenerKind::Udp => false,
        };
        let at = address.value;
        if !self.declare(address, Declared { kind, interface, certificate, ends_tls, by }) {
            return;
        }
        if !is_served(kind) {
            let text = format!(
                "{kind} listeners are not served yet by this version: this one is skipped, with all that is \
                 on it"
            );
            self.diagnostics.warning(section.place_of("protocol"), section.key_path("protocol"), text);
            return;
        }
        if kind == ListenerKind::Tcp {
            return self.tcp_listener(section, at, ends_tls);
        }
        report_unserved(section, protocol_of(kind), self.diagnostics);
        let defaults = self.default_listener(at);
        let wire = messages::http_listener(section, defaults, self.answers, self.diagnostics);
        let listener = if kind == ListenerKind::Https {
            let tls = messages::tls(section, self.files, self.diagnostics);
            HttpListener::from_https_wire(tls.with(wire))
        } else {
            HttpListener::from_wire(wire)
        };
        if let Some(listener) = self.checked(section, listener) {
            self.listener_orders.push(Arc::new(listener));
        }
    }

    /// Notes a listener; `false` if it clashes with another, which is reported.
    fn declare(&mut self, address: Located<SocketAddr>, declared: Declared) -> bool {
        let Declared { kind, ref interface, ref by, .. } = declared;
        let others = self.listeners.entry(address.value).or_default();
        let clash = others.iter().find_map(|other| {
            let at = format!("{} (line {})", other.by.path, self.diagnostics.line(other.by.place));
            if other.interface == *interface {
                Some(format!("{} is already the address of {at}", address.value))
            } else if other.kind != kind {
                Some(format!(
                    "{} is shared with {at}, which is {}: listeners of one address, on whatever interfaces, \
                     speak the same protocol",
                    address.value, other.kind
                ))
            } else {
                None
            }
        });
        if let Some(text) = clash {
            self.diagnostics.error(address.place, format!("{}.address", by.path), text);
            return false;
        }
        others.push(declared);
        true
    }

    /// An HTTP or HTTPS listener of which nothing but the address is said.
    fn default_listener(&self, address: SocketAddr) -> proto::HttpListenerConfig {
        let timeouts = self.settings.server_config();
        proto::HttpListenerConfig {
            address: address.into(),
            sticky_name: STICKY_NAME_DEFAULT.to_owned(),
            front_timeout: timeouts.front_timeout,
            back_timeout: timeouts.back_timeout,
            connect_timeout: timeouts.connect_timeout,
            request_timeout: self.settings.limits().request_timeout,
            ..proto::HttpListenerConfig::default()
        }
    }

    fn cluster(&mut self, id: &str, section: &Section<'_>) {
        // All that is missing is told at once.
        let frontends = section.required("frontends", self.diagnostics);
        let backends = section.required("backends", self.diagnostics);
        let protocol =
            section.required("protocol", self.diagnostics).and_then(|()| section.choice("protocol"));
        if protocol.is_none() || frontends.is_none() || backends.is_none() {
            return;
        }
        let is_tcp = protocol == Some("tcp");
        if is_tcp {
            tcp::report_cluster(section, self.diagnostics);
        } else {
            report_unserved(section, "http", self.diagnostics);
        }
        let mut wire = messages::cluster(id, section, self.answers, self.files, self.diagnostics);
        let mut secrets = Vec::new();
        if let Some(table) = section.table("health_check") {
            let read = self.read_secret;
            let check = health::health_check(id, &table, read, &mut secrets, self.diagnostics);
            wire.health_check = check;
        }
        // What is wrong with the cluster does not hide what is wrong within it.
        let id = match self.checked(section, Cluster::from_wire(wire)) {
            Some(cluster) => {
                if is_tcp {
                    self.checked(section, cluster.check_fit_for_tcp());
                }
                let id = cluster.id().clone();
                self.cluster_orders.push(Order::AddCluster(Arc::new(cluster)));
                id
            }
            None => match ClusterId::parse(id) {
                Ok(id) => id,
                Err(_) => return,
            },
        };
        let place = self.diagnostics.diagnostic(section.place, section.path.clone(), String::new());
        self.cluster_places.insert(id.clone(), place);
        self.probe_secrets.extend(secrets.into_iter().map(|secret| (id.clone(), secret)));
        for frontend in section.tables("frontends") {
            if is_tcp {
                self.tcp_frontend(&id, &frontend);
            } else {
                self.frontend(&id, &frontend);
            }
        }
        let mut known = HashMap::new();
        for (index, backend) in section.tables("backends").iter().enumerate() {
            self.backend(&id, index, backend, &mut known);
        }
    }

    fn frontend(&mut self, cluster_id: &ClusterId, section: &Section<'_>) {
        let address = section.required("address", self.diagnostics).and_then(|()| section.address("address"));
        let hostname = section.required("hostname", self.diagnostics).and_then(|()| section.text("hostname"));
        let (Some(address), Some(hostname)) = (address, hostname) else { return };
        let at = address.value;
        let Some(kind) = self.kind_of_listener(section, address) else { return };
        report_unserved(section, protocol_of(kind), self.diagnostics);
        let wire = messages::http_frontend(cluster_id, at, hostname, section, self.diagnostics);
        let frontend = if kind == ListenerKind::Https {
            self.certificate(section, at);
            HttpFrontend::from_https_wire(wire)
        } else if section.has("hsts") {
            // Reported as misplaced.
            return;
        } else {
            HttpFrontend::from_wire(wire)
        };
        let Some(frontend) = self.checked(section, frontend) else { return };
        if self.is_new(section, &frontend) {
            self.cluster_orders.push(Order::AddHttpFrontend(Arc::new(frontend)));
        }
    }

    /// The certificate that a frontend brings.
    fn certificate(&mut self, section: &Section<'_>, address: SocketAddr) {
        let files = self.files;
        let Some(mut certificate) = files.certificate(section, Unreadable::Refused, self.diagnostics) else {
            return;
        };
        certificate.versions = messages::tls_versions(section);
        let wire = proto::AddCertificate { address: address.into(), certificate, expired_at: None };
        let Some(certificate) = self.checked(section, Certificate::from_wire(&wire)) else { return };
        let (at, key) = (section.place_of("certificate"), section.key_path("certificate"));
        let place = self.diagnostics.diagnostic(at, key, String::new());
        if self.certificates.insert(certificate.key_in_state(), place).is_none() {
            self.cluster_orders.push(Order::AddCertificate(Arc::new(certificate)));
        }
    }

    /// What the frontend's listener speaks, if it is one that is served; creates it with defaults if the
    /// file has none at this address: an HTTPS one for a frontend with a certificate.
    fn kind_of_listener(
        &mut self,
        section: &Section<'_>,
        address: Located<SocketAddr>,
    ) -> Option<ListenerKind> {
        let at = address.value;
        let (place, path) = (address.place, section.key_path("address"));
        let certificate =
            ["certificate", "key", "certificate_chain"].into_iter().find(|name| section.has(name));
        if !self.listeners.contains_key(&address.value) {
            let kind = if certificate.is_some() { ListenerKind::Https } else { ListenerKind::Http };
            let by = Origination { place: address.place, path: section.path.clone() };
            let ends_tls = kind == ListenerKind::Https;
            self.declare(address, Declared { kind, interface: None, certificate: false, ends_tls, by });
            let wire = self.default_listener(at);
            let listener = if kind == ListenerKind::Https {
                let tls = proto::HttpsListenerConfig {
                    send_tls13_tickets: SEND_TLS13_TICKETS_DEFAULT,
                    ..proto::HttpsListenerConfig::default()
                };
                HttpListener::from_https_wire(tls.with(wire))
            } else {
                HttpListener::from_wire(wire)
            };
            if let Some(listener) = self.checked(section, listener) {
                self.listener_orders.push(Arc::new(listener));
            }
        }
        let declared = self.listeners.get(&at)?;
        let listener = declared.first()?;
        let where_it_is = format!("{} (line {})", listener.by.path, self.diagnostics.line(listener.by.place));
        let kind = listener.kind;
        match (kind, certificate) {
            (ListenerKind::Https, None) if !declared.iter().all(|listener| listener.certificate) => {
                let text = format!(
                    "the listener at {at}, {where_it_is}, is https and has no certificate: the frontend needs \
                     one of its own"
                );
                self.diagnostics.error(place, path, text);
                None
            }
            (ListenerKind::Http, Some(name)) => {
                let text = format!(
                    "the listener at {at}, {where_it_is}, is http: only https listeners use certificates"
                );
                self.diagnostics.error(section.place_of(name), section.key_path(name), text);
                Some(kind)
            }
            (ListenerKind::Tcp, _) => {
                let text = format!(
                    "the listener at {at}, {where_it_is}, is tcp: the frontends of http clusters need one that \
                     speaks http or https"
                );
                self.diagnostics.error(place, path, text);
                None
            }
            _ if is_served(kind) => Some(kind),
            _ => {
                let text = format!(
                    "the listener at {at}, {where_it_is}, is {kind}, which is not served yet by this version: \
                     this frontend is skipped"
                );
                self.diagnostics.warning(place, path, text);
                None
            }
        }
    }

    /// Whether no other frontend has the same identity; the clash is reported.
    fn is_new(&mut self, section: &Section<'_>, frontend: &HttpFrontend) -> bool {
        let identity = (
            frontend.address(),
            frontend.hostname().clone(),
            frontend.path().clone(),
            frontend.method().map(str::to_owned),
            frontend.header_predicates().to_vec(),
        );
        let by = Origination { place: section.place, path: section.path.clone() };
        match self.frontends.entry(identity) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(by);
                true
            }
            std::collections::hash_map::Entry::Occupied(entry) => {
                let first = entry.get();
                let line = self.diagnostics.line(first.place);
                let text = format!(
                    "address, hostname, path, method and header_predicates are already those of {} (line \
                     {line})",
                    first.path
                );
                self.diagnostics.error(by.place, by.path, text);
                false
            }
        }
    }

    fn backend(
        &mut self,
        cluster_id: &ClusterId,
        index: usize,
        section: &Section<'_>,
        known: &mut HashMap<BackendKey, Origination>,
    ) {
        let Some(text) = section.required("address", self.diagnostics).and_then(|()| section.text("address"))
        else {
            return;
        };
        report_unserved(section, "", self.diagnostics);
        if section.integer("weight") == Some(0) {
            let text = "0 counts as the default, 100; to take a backend out of use, set draining = true";
            self.diagnostics.warning(section.place_of("weight"), section.key_path("weight"), text);
        }
        let unix_path = section.text("unix_path");
        let addresses = self.backend_addresses(section, text);
        if unix_path.is_some() && addresses.len() > 1 {
            let text = "the name has several addresses; with unix_path it only names the backend: put an IP:PORT here";
            self.diagnostics.error(section.place_of("address"), section.key_path("address"), text);
            return;
        }
        for address in addresses {
            let backend_id = section
                .text("backend_id")
                .map_or_else(|| format!("{cluster_id}-{index}-{address}"), str::to_owned);
            let weight = section.integer("weight").and_then(|weight| i32::try_from(weight).ok());
            let wire = proto::AddBackend {
                cluster_id: cluster_id.to_string(),
                backend_id,
                address: address.into(),
                sticky_id: section.text("sticky_id").map(str::to_owned),
                load_balancing_parameters: weight.map(|weight| proto::LoadBalancingParams { weight }),
                backup: section.flag("backup"),
                unix_path: unix_path.map(str::to_owned),
                draining: section.flag("draining"),
                max_connections: section
                    .integer("max_connections")
                    .and_then(|count| u32::try_from(count).ok()),
            };
            let Some(backend) = self.checked(section, Backend::from_wire(&wire)) else { return };
            if !self.may_dial(section, &backend) {
                return;
            }
            let by = Origination { place: section.place, path: section.path.clone() };
            if let Some(first) = known.insert(backend.key(), by) {
                let line = self.diagnostics.line(first.place);
                let text = format!(
                    "backend {} at {address} is already {} (line {line})",
                    backend.backend_id(),
                    first.path
                );
                self.diagnostics.error(section.place, section.path.clone(), text);
                return;
            }
            self.cluster_orders.push(Order::AddBackend(Arc::new(backend)));
        }
    }

    /// Whether workers can connect to the Unix socket of a backend, if it has one; otherwise it is reported.
    fn may_dial(&mut self, section: &Section<'_>, backend: &Backend) -> bool {
        let allowed = backend.unix_path().map(|path| self.settings.worker_unix_sockets.allow_path(path));
        let Some(Err(complaint)) = allowed else { return true };
        self.diagnostics.error(section.place_of("unix_path"), section.key_path("unix_path"), complaint);
        false
    }

    /// The addresses a backend's `address` stands for; none if that is reported.
    fn backend_addresses(&mut self, section: &Section<'_>, text: &str) -> Vec<SocketAddr> {
        let (place, key) = (section.place_of("address"), section.key_path("address"));
        let addresses = match self.names.addresses(text) {
            Ok(addresses) => addresses,
            Err(complaint) => {
                self.diagnostics.error(place, key, complaint);
                return Vec::new();
            }
        };
        let is_dialled = section.text("unix_path").is_none();
        let stands_for_demo = addresses.iter().any(|address| address.port() == DEMO_PORT) && is_dialled;
        if stands_for_demo && !self.origin.is_embedded() {
            let text = "port 0 stands for the demo backend, which only runs when no configuration file is \
                        given: this backend is left out; put the address of one of yours here";
            self.diagnostics.warning(place, key, text);
            return Vec::new();
        }
        addresses
    }

    fn finish(self) -> Objects {
        let mut listener_places = HashMap::new();
        for (&address, declared) in &self.listeners {
            for Declared { interface, by, .. } in declared {
                let key = ListenerKey { address, interface: interface.clone() };
                let place = self.diagnostics.diagnostic(by.place, by.path.clone(), String::new());
                listener_places.insert(key, place);
            }
        }
        let http = self.listener_orders.iter().map(|listener| (listener.kind(), listener.key()));
        let tcp = self.tcp_listener_orders.iter().map(|listener| (ListenerKind::Tcp, listener.key()));
        let activations: Vec<_> = http
            .chain(tcp)
            .filter(|_| self.settings.activate_listeners)
            .map(|(kind, key)| Order::ActivateListener { kind, key: key.clone() })
            .collect();
        let listeners = self.listener_orders.into_iter().map(Order::AddHttpListener);
        let tcp_listeners = self.tcp_listener_orders.into_iter().map(Order::AddTcpListener);
        let limits = self.limit_orders.into_iter();
        let orders = limits
            .chain(listeners)
            .chain(tcp_listeners)
            .chain(self.cluster_orders)
            .chain(activations)
            .collect();
        Objects {
            orders,
            probe_secrets: self.probe_secrets,
            listener_places,
            cluster_places: self.cluster_places,
            certificate_places: self.certificates,
        }
    }

    /// Reports what an order's own checks refuse, at the key it came from.
    fn checked<T>(&mut self, section: &Section<'_>, result: Result<T, OrderError>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let text = error.to_string();
        match error {
            OrderError::Invalid { field, .. } => {
                // The only fields whose keys have other names, and the only ones of a table.
                let name = match field {
                    "versions" => "tls_versions",
                    "sni" => "hostname",
                    other => other,
                };
                let table = ["tls", "health_check", "passive_health"].into_iter().find_map(|table| {
                    let name = name.strip_prefix(table)?.strip_prefix('.')?;
                    Some((section.table(table)?, name))
                });
                let (section, name) = table.unwrap_or_else(|| (section.clone(), name));
                if section.declares(name) {
                    let text = text.strip_prefix(field).unwrap_or(&text).trim_start();
                    self.diagnostics.error(section.place_of(name), section.key_path(name), text);
                } else {
                    self.diagnostics.error(section.place, section.path.clone(), text);
                }
            }
            _ => self.diagnostics.error(section.place, section.path.clone(), text),
        }
        None
    }
}

/// Addresses of backends, each name looked up once.
struct Names<'l> {
    look_up: Lookup<'l>,
    known: HashMap<String, Vec<SocketAddr>>,
}

impl Names<'_> {
    /// What `IP:PORT` or `NAME:PORT` stands for, sorted; or what is wrong with it.
    fn addresses(&mut self, text: &str) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = text.parse() {
            return Ok(vec![address]);
        }
        if let Some(addresses) = self.known.get(text) {
            return Ok(addresses.clone());
        }
        let shown = text.escape_debug();
        let is_name = text.rsplit_once(':').is_some_and(|(host, port)| {
            let usable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            !host.is_empty() && host.bytes().all(usable) && port.parse::<u16>().is_ok()
        });
        if !is_name {
            return Err(format!("\"{shown}\" is neither IP:PORT nor NAME:PORT"));
        }
        let found: io::Result<Vec<SocketAddr>> = (self.look_up)(text);
        let mut addresses = found.map_err(|error| format!("\"{shown}\" cannot be resolved: {error}"))?;
        if addresses.is_empty() {
            return Err(format!("\"{shown}\" has no address"));
        }
        // The resolver's order changes from run to run; the configuration must not.
        addresses.sort();
        addresses.dedup();
        self.known.insert(text.to_owned(), addresses.clone());
        Ok(addresses)
    }
}

fn is_served(kind: ListenerKind) -> bool {
    kind != ListenerKind::Udp
}

/// As the table of keys calls it.
fn protocol_of(kind: ListenerKind) -> &'static str {
    match kind {
        ListenerKind::Http => "http",
        ListenerKind::Https => "https",
        ListenerKind::Tcp => "tcp",
        ListenerKind::Udp => "udp",
    }
}

fn kind_of(protocol: &str) -> ListenerKind {
    match protocol {
        "https" => ListenerKind::Https,
        "tcp" => ListenerKind::Tcp,
        "udp" => ListenerKind::Udp,
        _ => ListenerKind::Http,
    }
}
