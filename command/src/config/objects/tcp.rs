//! TCP listeners, and clusters that they lead to.
//!
//! Many keys are about HTTP. Here they are told apart by lists of those that TCP has a use for, so that the
//! table of keys needs to know one meaning of each.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Builder, Declared, Origination};
use crate::config::diagnostic::Diagnostics;
use crate::config::file::{Located, Present, Section};
use crate::config::keys::Served;
use crate::config::messages;
use crate::order::{ClusterId, HostPattern, ListenerKind, Order, TcpFrontend, TcpListener};
use crate::proto;

/// What must be unique among the TCP frontends of all clusters.
pub(super) type Identity = (SocketAddr, Option<HostPattern>, Box<[Box<str>]>);

/// Keys of any TCP listener.
const LISTENER: &[&str] = &[
    "address",
    "protocol",
    "interface",
    "public_address",
    "expect_proxy",
    "expect_proxy_from",
    "front_timeout",
    "back_timeout",
    "connect_timeout",
    "sni_preread_timeout",
    "sni_preread_max_bytes",
    "tls",
    "rate_limits",
    "max_connections",
    "max_connections_per_source",
    "max_accept_rate",
    "over_limit",
];

/// Keys of a TCP listener at which TLS ends.
const LISTENER_TLS: &[&str] = &[
    "tls_versions",
    "cipher_list",
    "cipher_suites",
    "groups_list",
    "certificate",
    "key",
    "certificate_chain",
    "send_tls13_tickets",
    "alpn_protocols",
    "handshake_timeout",
    "max_handshakes_per_source",
    "client_auth",
    "client_ca_certificates",
    "client_ca_crls",
];

/// Keys of a cluster that are about requests and their answers.
const CLUSTER_HTTP: &[&str] = &[
    "sticky_session",
    "sticky_secure",
    "sticky_http_only",
    "sticky_same_site",
    "https_redirect",
    "https_redirect_port",
    "answer_503",
    "answers",
    "authorized_hashes",
    "www_authenticate",
    "retry_after",
];

/// Keys of a TCP frontend.
const FRONTEND: &[&str] = &["address", "hostname", "alpn", "tags"];

/// Keys of a frontend that bring a certificate, for listeners at which TLS ends.
const FRONTEND_CERTIFICATE: &[&str] = &["certificate", "key", "certificate_chain", "tls_versions"];

/// Keys of a frontend that do nothing without the others of HTTP.
const FRONTEND_HARMLESS: &[&str] = &["path_type", "position", "redirect_scheme", "tls_versions"];

impl Builder<'_, '_> {
    pub(super) fn tcp_listener(&mut self, section: &Section<'_>, at: SocketAddr, ends_tls: bool) {
        report_listener(section, ends_tls, self.diagnostics);
        let defaults = self.default_tcp_listener(at);
        let tls = ends_tls.then(|| messages::tls_of_tcp(section, self.files, self.diagnostics));
        let wire = messages::tcp_listener(section, &defaults, tls, self.diagnostics);
        let (place, key) = (section.place_of("sni_preread_timeout"), section.key_path("sni_preread_timeout"));
        if let Some(timeout) = wire.sni_preread_timeout.filter(|timeout| *timeout > wire.front_timeout) {
            let text = format!("{timeout} is longer than front_timeout ({})", wire.front_timeout);
            self.diagnostics.error(place, key, text);
        }
        let name = "sni_preread_max_bytes";
        let buffer = self.settings.buffer_size;
        if let Some(bytes) = section.integer(name).filter(|bytes| *bytes > buffer as u64) {
            let text = format!("{bytes} does not fit in a buffer: buffer_size is {buffer}");
            self.diagnostics.error(section.place_of(name), section.key_path(name), text);
        }
        if let Some(listener) = self.checked(section, TcpListener::from_wire(wire)) {
            self.tcp_listener_orders.push(Arc::new(listener));
        }
    }

    /// A TCP listener of which nothing but the address is said.
    fn default_tcp_listener(&self, address: SocketAddr) -> proto::TcpListenerConfig {
        let timeouts = self.settings.server_config();
        proto::TcpListenerConfig {
            address: address.into(),
            front_timeout: timeouts.front_timeout,
            back_timeout: timeouts.back_timeout,
            connect_timeout: timeouts.connect_timeout,
            ..proto::TcpListenerConfig::default()
        }
    }

    pub(super) fn tcp_frontend(&mut self, cluster_id: &ClusterId, section: &Section<'_>) {
        let address = section.required("address", self.diagnostics).and_then(|()| section.address("address"));
        let Some(address) = address else { return };
        let at = address.value;
        let Some(ends_tls) = self.ends_tls(section, address) else { return };
        report_frontend(section, ends_tls, self.diagnostics);
        if ends_tls {
            self.certificate(section, at);
        }
        let wire = messages::tcp_frontend(cluster_id, at, section);
        let Some(frontend) = self.checked(section, TcpFrontend::from_wire(wire)) else { return };
        let frontend = Arc::new(frontend);
        if self.fits(section, &frontend) {
            self.tcp_frontends.insert(&frontend);
            self.cluster_orders.push(Order::AddTcpFrontend(frontend));
        }
    }

    /// Whether TLS ends at the frontend's listener, if it is one that speaks TCP; creates it with defaults if
    /// the file has none at this address.
    fn ends_tls(&mut self, section: &Section<'_>, address: Located<SocketAddr>) -> Option<bool> {
        let (at, place, path) = (address.value, address.place, section.key_path("address"));
        if !self.listeners.contains_key(&at) {
            let by = Origination { place, path: section.path.clone() };
            let kind = ListenerKind::Tcp;
            self.declare(
                address,
                Declared { kind, interface: None, certificate: false, ends_tls: false, by },
            );
            let listener = TcpListener::from_wire(self.default_tcp_listener(at));
            if let Some(listener) = self.checked(section, listener) {
                self.tcp_listener_orders.push(Arc::new(listener));
            }
        }
        let declared = self.listeners.get(&at)?;
        let listener = declared.first()?;
        let where_it_is = format!("{} (line {})", listener.by.path, self.diagnostics.line(listener.by.place));
        let kind = listener.kind;
        let ends_tls = declared.iter().any(|listener| listener.ends_tls);
        let own = declared.iter().all(|listener| listener.certificate || !listener.ends_tls);
        match kind {
            ListenerKind::Tcp if ends_tls && !own && !section.has("certificate") => {
                let text = format!(
                    "TLS ends at the listener at {at}, {where_it_is}, which has no certificate: the frontend \
                     needs one of its own"
                );
                self.diagnostics.error(place, path, text);
                None
            }
            ListenerKind::Tcp => Some(ends_tls),
            ListenerKind::Udp => {
                let text = format!(
                    "the listener at {at}, {where_it_is}, is udp, which is not served yet by this version: this \
                     frontend is skipped"
                );
                self.diagnostics.warning(place, path, text);
                None
            }
            ListenerKind::Http | ListenerKind::Https => {
                let text = format!(
                    "the listener at {at}, {where_it_is}, is {kind}: the frontends of tcp clusters need one that \
                     speaks tcp"
                );
                self.diagnostics.error(place, path, text);
                None
            }
        }
    }

    /// Whether the frontend can be beside those that came before it; what is at odds is reported.
    fn fits(&mut self, section: &Section<'_>, frontend: &TcpFrontend) -> bool {
        let (present, reason) = match (self.tcp_frontends.get(frontend), self.tcp_frontends.clash(frontend)) {
            (Some(present), _) => (present, "address, hostname and alpn are already those of another one"),
            (None, Some(clash)) => (clash.present, clash.reason),
            (None, None) => {
                let by = Origination { place: section.place, path: section.path.clone() };
                self.tcp_frontend_places.insert(identity(frontend), by);
                return true;
            }
        };
        let first = self.tcp_frontend_places.get(&identity(present));
        let first = first.map(|by| format!(": {} (line {})", by.path, self.diagnostics.line(by.place)));
        let text = format!("{reason}{}", first.unwrap_or_default());
        self.diagnostics.error(section.place, section.path.clone(), text);
        false
    }
}

fn identity(frontend: &TcpFrontend) -> Identity {
    (frontend.address(), frontend.sni().cloned(), frontend.alpn().into())
}

/// What the operator is told about a key: `Err` when it must not be ignored.
type Remark = Option<Result<String, String>>;

fn report(section: &Section<'_>, diagnostics: &mut Diagnostics, remark: impl Fn(&Present<'_>) -> Remark) {
    for present in section.present().filter(Present::is_used) {
        let path = section.key_path(present.key.name);
        match remark(&present) {
            Some(Ok(text)) => diagnostics.warning(present.place, path, text),
            Some(Err(text)) => diagnostics.error(present.place, path, text),
            None => {}
        }
    }
}

fn report_listener(section: &Section<'_>, ends_tls: bool, diagnostics: &mut Diagnostics) {
    report(section, diagnostics, |present| {
        let (name, served) = (present.key.name, present.key.served);
        let of_tls = LISTENER_TLS.contains(&name);
        match served {
            _ if LISTENER.contains(&name) => served.remark("tcp"),
            _ if of_tls && ends_tls => None,
            Served::Misplaced(_) if of_tls => {
                Some(Err("a tcp listener can have it only with tls = true".into()))
            }
            _ if of_tls => Some(Ok("it has no effect: a tcp listener uses it only with tls = true".into())),
            Served::Misplaced(_) | Served::OnlyFor("udp") => served.remark("tcp"),
            Served::OnlyFor(_) => Some(Ok("it has no effect: only https listeners use it".into())),
            _ => Some(Ok("it has no effect: only http and https listeners use it".into())),
        }
    });
}

/// Says what of a TCP cluster's keys has no effect, or cannot be left out of account.
pub(super) fn report_cluster(section: &Section<'_>, diagnostics: &mut Diagnostics) {
    report(section, diagnostics, |present| match present.key.name {
        name if CLUSTER_HTTP.contains(&name) => {
            Some(Ok("it has no effect: only http clusters use it".to_owned()))
        }
        _ => present.key.served.remark("tcp"),
    });
}

fn report_frontend(section: &Section<'_>, ends_tls: bool, diagnostics: &mut Diagnostics) {
    report(section, diagnostics, |present| match present.key.name {
        name if FRONTEND.contains(&name) => None,
        name if FRONTEND_CERTIFICATE.contains(&name) && ends_tls => None,
        name if FRONTEND_HARMLESS.contains(&name) => {
            Some(Ok("it has no effect: only the frontends of http clusters use it".to_owned()))
        }
        name if FRONTEND_CERTIFICATE.contains(&name) => {
            Some(Err("is of no use: the listener passes TLS on as it is (see its key tls)".to_owned()))
        }
        _ => Some(Err("only the frontends of http clusters can have it".to_owned())),
    });
}
