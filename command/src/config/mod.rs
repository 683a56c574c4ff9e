//! The configuration file: TOML in Sōzu's format, to settings and orders.
//!
//! [`load`] reads a file, [`parse`] a text; both give a [`Config`] whose orders build the whole state
//! from nothing, or every error of the file in one run, each with its line and key. Keys that nobody
//! knows, and keys of protocols this version does not serve yet, are warnings; a key that must not be
//! left out of account (a PROXY header, a backend's protocol) is an error.
//!
//! The road: `file` (TOML to checked values, against the table in `keys`), then `resolve` (defaults,
//! cross-checks) and `objects` (listeners and clusters to orders, by way of `messages`). Nothing here opens sockets, creates
//! files or reads the environment; the names of backends are looked up, the files of answers and certificates read,
//! and nothing else.

mod answers;
mod diagnostic;
mod file;
mod health;
mod keys;
mod limits;
mod messages;
mod metrics;
mod objects;
mod pem_files;
mod resolve;
#[cfg(test)]
mod tests;
mod unix_sockets;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use crate::order::{CertificateKey, ClusterId, ListenerKey, Order};
use crate::proto;
use crate::proto::supervision::{LimitsConfig, ProbeSecret};

use answers::ReadAnswer;
pub use diagnostic::{ConfigError, ConfigErrors, ConfigWarning, Diagnostic};
use diagnostic::{Diagnostics, Place};
use health::ReadSecret;
pub use health::fingerprint;
pub use metrics::{Metrics, Prometheus, Statsd};
use pem_files::ReadPem;
pub use unix_sockets::UnixSockets;

/// The configuration of a proxy that was given none, and the documentation of every key: the
/// repository's `config.toml`.
pub const EMBEDDED: &str = include_str!("../../../config.toml");

/// Port that stands, in the embedded configuration, for the demo backend inside the binary.
pub const DEMO_PORT: u16 = 0;

/// Where a configuration comes from: what its paths are relative to, and what it is called in errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// [`EMBEDDED`]. A backend at port 0 is the demo backend.
    Embedded {
        /// Workers to run when the text does not say: one for each core.
        cores: u16,
        /// Directory of the command socket, absolute.
        runtime_dir: PathBuf,
    },
    /// A file, by the path the operator gave. Relative paths in it start at its directory.
    File(PathBuf),
}

/// A configuration that can be run: settings with their defaults filled in, and orders.
#[derive(Debug, Clone)]
pub struct Config {
    /// Path of the command socket; absolute when the origin's directory is. At most 107 bytes.
    pub command_socket: PathBuf,
    /// Permission bits of the command socket; its owner can always read and write.
    pub command_socket_mode: u32,
    /// First size of command buffers, bytes. At most `max_command_buffer_size`.
    pub command_buffer_size: usize,
    /// Largest frame on any command channel, bytes.
    pub max_command_buffer_size: usize,
    /// Who may send requests; `None`: whoever can open the socket.
    pub command_allowed_uids: Option<Vec<u32>>,
    /// Controllers connected at a time. Ours: Sōzu has no limit.
    pub max_command_clients: usize,
    /// Nobody has written it.
    pub max_command_clients_is_default: bool,
    /// How long the CLI waits for an answer; `None`: for ever (0 in the file).
    pub ctl_command_timeout: Option<Duration>,
    /// State file to load after the orders.
    pub saved_state: Option<PathBuf>,
    /// File for the main process' id.
    pub pid_file_path: Option<PathBuf>,
    /// Log filter: a level, and levels by module.
    pub log_level: String,
    /// `stdout`, or a URL: `file://PATH`, `udp://IP:PORT`, `tcp://IP:PORT`, `unix://PATH` (datagrams).
    pub log_target: String,
    /// File for a line of text on each change: who, what, when.
    pub audit_logs_target: Option<PathBuf>,
    /// The same, one JSON object a line.
    pub audit_logs_json_target: Option<PathBuf>,
    /// Lines on a standard output have colours.
    pub log_colored: bool,
    /// Lines of the error log that each process writes in a second at most.
    pub max_log_rate: u32,
    /// As `log_target`, for access logs; or `none`.
    pub access_logs_target: String,
    /// `ascii`, `json` or `protobuf`.
    pub access_logs_format: String,
    /// Their lines on a standard output have colours.
    pub access_logs_colored: bool,
    /// Bytes of access logs that may wait in a worker. Ours.
    pub access_log_buffer: usize,
    /// Of so many requests, one is logged. Ours.
    pub access_logs_sampling: u32,
    /// Answers from 500 on are logged whatever the sampling says. Ours.
    pub access_logs_keep_errors: bool,
    /// What is left out of access logs. Ours.
    pub access_logs_redact: Vec<String>,
    /// Worker processes, 1 to 1024.
    pub worker_count: u16,
    /// Whether a worker that died is replaced.
    pub worker_automatic_restart: bool,
    /// How long the main process waits for the workers' answers to one request.
    pub worker_timeout: Duration,
    /// How long a worker that was replaced may take to finish what it carries. Ours.
    pub worker_drain_timeout: Duration,
    /// How long workers serve on after the main process was killed, seconds; 0: until another one comes. Ours.
    pub worker_orphan_timeout: u32,
    /// Whether workers give up what they do not need of the kernel. Ours.
    pub worker_sandbox: bool,
    /// Which Unix sockets workers may connect to. Ours.
    pub worker_unix_sockets: UnixSockets,
    /// Sessions a worker holds at a time.
    pub max_connections: usize,
    /// Nobody has written it.
    pub max_connections_is_default: bool,
    /// Buffers a worker may hold.
    pub max_buffers: usize,
    /// Buffers a worker allocates when it starts; at most `max_buffers`.
    pub min_buffers: usize,
    /// Bytes of one buffer; a message's head has to fit in one.
    pub buffer_size: usize,
    /// Fields in a head, 16 to 256. Ours.
    pub max_header_fields: usize,
    /// Idle back connections kept per backend and worker. Ours.
    pub max_idle_back_connections: usize,
    /// How long an idle back connection is kept. Ours.
    pub back_idle_timeout: Duration,
    /// At `max_connections`, whether idle connections make room for new ones.
    pub evict_on_queue_full: bool,
    /// Connects tried per request, the first included, 1 to 255.
    pub max_connection_attempts: u8,
    /// Bytes that a pipe for splicing may hold.
    pub splice_pipe_capacity_bytes: usize,
    /// Pipes for splicing that a worker may have; 0: it never splices. Ours.
    pub max_splice_pipes: usize,
    /// Buffers of a worker for TLS records of which a part came, or went. Ours.
    pub max_record_buffers: usize,
    /// TLS handshakes of clients that a worker has under way at a time. Ours.
    pub max_handshakes: usize,
    /// Probes of backends that a worker has under way at a time. Ours.
    pub max_probes: usize,
    /// TLS sessions that are kept for listeners with early data, by all workers together. Ours.
    pub max_early_data_sessions: usize,
    /// Bytes of a user's name and password in a request, decoded.
    pub basic_auth_max_credential_bytes: usize,
    /// After how many seconds who was over a limit may come again; 0: untold.
    pub retry_after: u32,
    /// Bits of the networks whose connections are counted together: of IPv4, 0 to 32.
    pub subnet_ipv4_prefix: u8,
    /// Of IPv6, 0 to 128.
    pub subnet_ipv6_prefix: u8,
    /// Sources and clusters whose connections, or rates, are counted at a time; 0: twice `max_connections` for each
    /// worker. Ours.
    pub max_limit_entries: usize,
    /// How long a client may be silent.
    pub front_timeout: Duration,
    /// How long a backend may be silent.
    pub back_timeout: Duration,
    /// How long connecting to a backend may take.
    pub connect_timeout: Duration,
    /// How long a request's head may take.
    pub request_timeout: Duration,
    /// What is counted, and where it can be had.
    pub metrics: Metrics,
    /// Whether the listeners are activated by `orders`.
    pub activate_listeners: bool,
    /// The whole state: listeners; then each cluster in the order of the file, followed by its
    /// certificates, frontends and backends; then the activations. Applied in order to an empty state, none is refused.
    pub orders: Vec<Order>,
    /// Values of secret headers of health checks, by cluster; orders name them by their fingerprints.
    pub probe_secrets: Vec<(ClusterId, ProbeSecret)>,
    /// What the operator should know, in the order of the file.
    pub warnings: Vec<ConfigWarning>,
    /// Where each listener stands in the file; see [`Config::remark`].
    pub(super) listener_places: HashMap<ListenerKey, Diagnostic>,
    /// Where each cluster and each certificate stands; see [`Config::remark_order`].
    pub(super) cluster_places: HashMap<ClusterId, Diagnostic>,
    pub(super) certificate_places: HashMap<CertificateKey, Diagnostic>,
}

/// How backend names become addresses.
type Lookup<'a> = &'a dyn Fn(&str) -> io::Result<Vec<SocketAddr>>;

/// What lies outside the file and is looked at on the way.
#[derive(Clone, Copy)]
struct Outside<'a> {
    look_up: Lookup<'a>,
    read_answer: ReadAnswer<'a>,
    /// None: what needs a certificate is left out.
    read_pem: Option<ReadPem<'a>>,
    /// None: headers of health checks are left out.
    read_secret: Option<ReadSecret<'a>>,
}

impl Outside<'static> {
    /// The machine's own.
    const REAL: Self = Self {
        look_up: &look_up,
        read_answer: &answers::read_file,
        read_pem: Some(&pem_files::read_file),
        read_secret: Some(&health::read_file),
    };
    /// One in which every name has an address, and every answer is empty.
    const NONE: Self = Self {
        look_up: &|_| Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))]),
        read_answer: &|_| Ok(String::new()),
        read_pem: None,
        read_secret: None,
    };
}

/// Loads a file. Paths in it are relative to its directory and come out absolute; names of backends
/// are looked up, which may take as long as the system's resolver does.
///
/// # Errors
/// Every error of the file, or that it cannot be read.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    load_with(path, Outside::REAL)
}

/// Loads a file for its settings only, as a client of the command socket needs them: no more of it is read than what
/// stands before its first table, which is where settings are, unless that makes no sense by itself. So what is wrong behind
/// it, or unknown, goes unsaid; names of backends are not looked up, files of answers and certificates are not read, and
/// `orders` is empty. What is in tables of its own (`metrics`) has its defaults.
///
/// # Errors
/// As [`load`], names and answers aside, if there is an error before the first table.
pub fn load_settings(path: &Path) -> Result<Config, ConfigErrors> {
    let (text, directory) = read(path)?;
    let origin = Origin::File(path.to_owned());
    // Any address and answer will do for orders that are thrown away.
    let parsed = |text: &str| parse_with(text, &origin, &directory, Outside::NONE);
    let mut config = parsed(before_tables(&text)).or_else(|_| parsed(&text))?;
    config.orders = Vec::new();
    config.probe_secrets = Vec::new();
    Ok(config)
}

/// The part of a TOML text before the first line that could begin a table. If that line is in the middle of an array or a
/// text of several lines, the part is not well-formed.
fn before_tables(text: &str) -> &str {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with('[') {
            return text.get(..end).unwrap_or(text);
        }
        end += line.len();
    }
    text
}

/// Parses a text, as [`load`] does.
///
/// # Errors
/// Every error of the text.
pub fn parse(text: &str, origin: &Origin) -> Result<Config, ConfigErrors> {
    parse_with(text, origin, origin.directory(), Outside::REAL)
}

/// Parses a text by itself, for tools that check texts of anybody: nothing outside of it is looked at. In the
/// orders, backends that are given by name have an address that means nothing, and answers, certificates
/// and keys, which are given by file, are left out.
///
/// # Errors
/// As [`parse`], names and answers aside.
pub fn parse_alone(text: &str, origin: &Origin) -> Result<Config, ConfigErrors> {
    parse_with(text, origin, origin.directory(), Outside::NONE)
}

fn load_with(path: &Path, outside: Outside<'_>) -> Result<Config, ConfigErrors> {
    let (text, directory) = read(path)?;
    parse_with(&text, &Origin::File(path.to_owned()), &directory, outside)
}

/// A file's text, and the directory where its paths start.
fn read(path: &Path) -> Result<(String, PathBuf), ConfigErrors> {
    let unreadable = |error: &io::Error| {
        let text = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            io::ErrorKind::InvalidData => "the file is not UTF-8 text".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        let error = ConfigError { file: name(path), line: None, key: String::new(), text };
        ConfigErrors { errors: vec![error], warnings: Vec::new() }
    };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(&error))?;
    let absolute = std::path::absolute(path).map_err(|error| unreadable(&error))?;
    Ok((text, absolute.parent().unwrap_or(Path::new("/")).to_owned()))
}

fn parse_with(
    text: &str,
    origin: &Origin,
    directory: &Path,
    outside: Outside<'_>,
) -> Result<Config, ConfigErrors> {
    let mut diagnostics = Diagnostics::new(&origin.name(), text);
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    for error in &syntax_errors {
        let place = Place(error.span().map_or(0, |span| span.start));
        diagnostics.error(place, "", error.message());
    }
    if diagnostics.has_errors() {
        // What the parser made of the rest is guesswork: errors in it could mislead.
        return Err(diagnostics.errors());
    }
    let top = file::Section::top(&document, keys::TOP);
    file::check(&top, &mut diagnostics);
    let mut config = resolve::settings(&top, origin, directory, &mut diagnostics);
    let objects::Objects { orders, probe_secrets, listener_places, cluster_places, certificate_places } =
        objects::objects(&top, &config, origin, outside, &mut diagnostics);
    config.orders = orders;
    config.probe_secrets = probe_secrets;
    config.listener_places = listener_places;
    config.cluster_places = cluster_places;
    config.certificate_places = certificate_places;
    config.warnings = diagnostics.finish()?;
    Ok(config)
}

fn look_up(name: &str) -> io::Result<Vec<SocketAddr>> {
    name.to_socket_addrs().map(Iterator::collect)
}

fn name(path: &Path) -> std::sync::Arc<str> {
    path.display().to_string().into()
}

impl Origin {
    /// What the configuration is called in errors.
    fn name(&self) -> std::sync::Arc<str> {
        match self {
            Self::Embedded { .. } => "built-in config.toml".into(),
            Self::File(path) => name(path),
        }
    }

    /// What relative paths start at.
    fn directory(&self) -> &Path {
        match self {
            Self::Embedded { runtime_dir, .. } => runtime_dir,
            Self::File(path) => path.parent().unwrap_or(Path::new("")),
        }
    }

    fn is_embedded(&self) -> bool {
        matches!(self, Self::Embedded { .. })
    }
}

impl Config {
    /// Something that came up later about a listener of the file, with its place in it. `None` if the
    /// listener is not of the file.
    pub fn remark(&self, listener: &ListenerKey, text: impl Into<String>) -> Option<Diagnostic> {
        let place = self.listener_places.get(listener)?;
        Some(Diagnostic { text: text.into(), ..place.clone() })
    }

    /// Something that came up later about an order of the file, with the place of the listener, cluster or certificate
    /// that it adds. `None` for other orders.
    pub fn remark_order(&self, order: &Order, text: impl Into<String>) -> Option<Diagnostic> {
        let place = match order {
            Order::AddHttpListener(listener) => self.listener_places.get(listener.key()),
            Order::AddTcpListener(listener) => self.listener_places.get(listener.key()),
            Order::AddCluster(cluster) => self.cluster_places.get(cluster.id()),
            Order::AddCertificate(certificate) => self.certificate_places.get(&certificate.key_in_state()),
            _ => None,
        };
        Some(Diagnostic { text: text.into(), ..place?.clone() })
    }

    /// The settings as a worker receives them. Settings not served yet have their defaults.
    pub fn server_config(&self) -> proto::ServerConfig {
        proto::ServerConfig {
            max_connections: self.max_connections as u64,
            front_timeout: seconds(self.front_timeout),
            back_timeout: seconds(self.back_timeout),
            connect_timeout: seconds(self.connect_timeout),
            zombie_check_interval: 1800,
            accept_queue_timeout: 60,
            min_buffers: self.min_buffers as u64,
            max_buffers: self.max_buffers as u64,
            buffer_size: self.buffer_size as u64,
            log_level: self.log_level.clone(),
            log_target: self.log_target.clone(),
            access_logs_target: Some(self.access_logs_target.clone()),
            command_buffer_size: self.command_buffer_size as u64,
            max_command_buffer_size: self.max_command_buffer_size as u64,
            metrics: self.metrics.server_config(),
            access_log_format: match self.access_logs_format.as_str() {
                "protobuf" => proto::ProtobufAccessLogFormat::Protobuf.into(),
                _ => proto::ProtobufAccessLogFormat::Ascii.into(),
            },
            log_colored: self.log_colored,
            max_log_rate: Some(self.max_log_rate),
            access_logs: Some(proto::AccessLogSettings {
                format: self.access_logs_format.clone(),
                colored: self.access_logs_colored && self.access_logs_target == "stdout",
                buffer_bytes: self.access_log_buffer as u64,
                one_in: self.access_logs_sampling,
                keep_errors: self.access_logs_keep_errors,
                redact: self.access_logs_redact.clone(),
            }),
            max_connection_attempts: Some(self.max_connection_attempts.into()),
            evict_on_queue_full: Some(self.evict_on_queue_full),
            retry_after: Some(self.retry_after),
            subnet_ipv4_prefix: Some(self.subnet_ipv4_prefix.into()),
            subnet_ipv6_prefix: Some(self.subnet_ipv6_prefix.into()),
            ..proto::ServerConfig::default()
        }
    }

    /// The limits that only we have, as a worker receives them.
    pub fn limits(&self) -> LimitsConfig {
        LimitsConfig {
            header_fields_max: self.max_header_fields as u64,
            idle_back_connections_max: self.max_idle_back_connections as u64,
            back_idle_timeout: seconds(self.back_idle_timeout),
            request_timeout: seconds(self.request_timeout),
            splice_pipe_bytes: self.splice_pipe_capacity_bytes as u64,
            splice_pipes_max: self.max_splice_pipes as u64,
            basic_auth_bytes_max: self.basic_auth_max_credential_bytes as u64,
            record_buffers_max: self.max_record_buffers as u64,
            handshakes_max: self.max_handshakes as u64,
            probes_max: self.max_probes as u64,
            metric_series_max: self.metrics.series_max as u64,
            metric_series_off: self.metrics.clusters_off,
        }
    }
}

/// Whole seconds: what the file holds, so nothing is lost.
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
