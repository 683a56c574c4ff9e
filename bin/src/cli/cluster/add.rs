//! `cluster add`: one flag for each property of a cluster.
//!
//! Properties that this version does not serve are accepted and sent, hidden from the help: the proxy
//! says which of them it refuses and which it leaves out of account.

use std::path::PathBuf;

use kakehi_command::proto::{
    BackendTls, Cluster, LoadBalancingAlgorithms, LoadMetric, PassiveHealth, ProxyProtocolConfig, RateLimit,
    SameSite, ShardMode,
};

use super::super::{CliError, tls, values};

/// Arguments of `cluster add`.
#[derive(clap::Args, Debug)]
pub(in super::super) struct Add {
    /// Name of the cluster
    #[arg(short, long, value_name = "CLUSTER")]
    id: String,
    /// How requests are spread over the backends
    #[arg(long, value_name = "POLICY", value_enum, ignore_case = true, default_value = "round_robin")]
    load_balancing_policy: Policy,
    /// What a backend's load is, for least_loaded and power_of_two [default: connections]
    #[arg(long, value_name = "METRIC", value_enum, ignore_case = true)]
    load_metric: Option<Metric>,
    /// Seconds until a backend that comes, or comes back, takes its whole share; not for hrw and maglev
    #[arg(long, value_name = "SECONDS")]
    slow_start: Option<u32>,
    /// Connects to try for one request, the first included [default: the configuration's
    /// max_connection_attempts, 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    max_connection_attempts: Option<u32>,

    /// Requests (over TCP: connections) that its backends may have at a time, all together; 0: no limit
    /// [default: no limit]
    #[arg(long, value_name = "N")]
    max_connections: Option<u32>,
    /// The same for each backend that has no limit of its own
    #[arg(long, value_name = "N")]
    max_connections_per_backend: Option<u32>,
    /// Requests beyond that may wait until there is room [default: 0]
    #[arg(long, value_name = "N")]
    max_queue: Option<u32>,
    /// Milliseconds that one waits at most [default: 1000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=600_000))]
    queue_timeout_ms: Option<u32>,

    /// Answer 301, to the same place over https
    #[arg(short = 'r', long)]
    https_redirect: bool,
    /// The port of that place, if not https's own
    #[arg(long, value_name = "PORT")]
    https_redirect_port: Option<u16>,
    /// A user who may ask where a frontend has --required-auth, with the SHA-256 of the password in
    /// hexadecimal; may be repeated
    #[arg(long, value_name = "USER:HEX")]
    authorized_hash: Vec<String>,
    /// The challenge of a 401: the whole value of WWW-Authenticate
    #[arg(long, value_name = "VALUE")]
    www_authenticate: Option<String>,
    /// An answer of its own, as the text of a whole HTTP answer or `file://PATH`; may be repeated
    #[arg(long, value_name = "CODE=TEXT", value_parser = values::split_pair)]
    answer: Vec<(String, String)>,

    /// Requests a second of one source, for one host, or with one value of a header (header:NAME), after the limits
    /// of the listener; BURST of them may come at once [default: RATE]; may be repeated
    #[arg(long, value_name = "KEY=RATE[/BURST]", value_parser = values::rate_limit)]
    rate_limit: Vec<RateLimit>,

    /// With fewer healthy backends than so many percent, leave their health out of account; 0: never
    /// [default: with none at all]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(..=100))]
    panic_threshold: Option<u32>,
    /// Connects beyond the first of each request, in percent of the cluster's requests [default: no bound]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(..=100))]
    retry_budget_percent: Option<u32>,
    /// Take a backend out once so many requests to it failed in a row
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    passive_failures: Option<u32>,
    /// Seconds that it is out at first; twice as long each time that follows soon
    #[arg(long, value_name = "SECONDS", requires = "passive_failures", default_value_t = 30)]
    passive_ejection: u32,
    /// Seconds that it is out at most
    #[arg(long, value_name = "SECONDS", requires = "passive_failures", default_value_t = 300)]
    passive_ejection_max: u32,
    /// Of the cluster's backends, how many percent may be out so at a time; one always may
    #[arg(long, value_name = "PERCENT", requires = "passive_failures", default_value_t = 10)]
    passive_ejected_percent: u32,
    /// An answer of 5xx is no such failure
    #[arg(long, requires = "passive_failures")]
    passive_ignore_server_errors: bool,

    /// Speak TLS to the backends, and verify them
    #[arg(long)]
    tls: bool,
    /// The name that backends are asked for and verified by [default: the host of the request]
    #[arg(long, value_name = "NAME", requires = "tls")]
    tls_server_name: Option<String>,
    /// A file with authorities of backends, in PEM [default: those that the system trusts]; may be repeated
    #[arg(long, value_name = "FILE", requires = "tls")]
    tls_ca: Vec<PathBuf>,
    /// Do NOT verify backends: whoever is on the way can read and change everything
    #[arg(long, requires = "tls")]
    tls_skip_verification: bool,
    /// A file with the certificate for backends that ask for one, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_client_key")]
    tls_client_certificate: Option<PathBuf>,
    /// A file with its private key
    #[arg(long, value_name = "FILE", requires = "tls_client_certificate")]
    tls_client_key: Option<PathBuf>,

    /// Keep each client at its backend by a cookie
    #[arg(short, long)]
    sticky_session: bool,
    /// Tell clients over TLS to send that cookie over TLS only
    #[arg(long)]
    sticky_secure: bool,
    /// Tell clients to hide that cookie from scripts
    #[arg(long)]
    sticky_http_only: bool,
    /// When that cookie goes with requests that other sites make; none needs --sticky-secure
    #[arg(long, value_name = "WHEN", value_enum, ignore_case = true)]
    sticky_same_site: Option<Site>,
    /// Choose by the value of this header instead of the client's address: for hrw, maglev and shards
    #[arg(long, value_name = "HEADER", conflicts_with = "affinity_cookie")]
    affinity_header: Option<String>,
    /// Choose by the value of this cookie instead of the client's address
    #[arg(long, value_name = "COOKIE")]
    affinity_cookie: Option<String>,
    /// Let each client meet this part of the backends only, 1 to 100, always the same ones
    #[arg(long, value_name = "PERCENT")]
    shard_percent: Option<u32>,
    /// From so many backends on [default: 8]
    #[arg(long, value_name = "N", requires = "shard_percent")]
    shard_min_backends: Option<u32>,
    /// Refuse clients whose backends all fail, instead of letting them go to others
    #[arg(long, requires = "shard_percent")]
    shard_strict: bool,

    /// Open each connection to a backend with a PROXY header, which tells it who the client is
    #[arg(long)]
    send_proxy: bool,
    /// Version of that header
    #[arg(long, value_name = "1|2", value_parser = clap::value_parser!(u32).range(1..=2))]
    send_proxy_version: Option<u32>,
    /// With --send-proxy: pass on what the client's own PROXY header said
    #[arg(long)]
    expect_proxy: bool,
    /// Speak HTTP/2 to the backends (not served yet)
    #[arg(long)]
    http2: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
#[value(rename_all = "snake_case")]
enum Policy {
    RoundRobin,
    Random,
    PowerOfTwo,
    LeastLoaded,
    Hrw,
    Maglev,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
#[value(rename_all = "snake_case")]
enum Metric {
    Connections,
    Requests,
    ConnectionTime,
}

impl From<Metric> for LoadMetric {
    fn from(metric: Metric) -> Self {
        match metric {
            Metric::Connections => Self::Connections,
            Metric::Requests => Self::Requests,
            Metric::ConnectionTime => Self::ConnectionTime,
        }
    }
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
#[value(rename_all = "snake_case")]
enum Site {
    Strict,
    Lax,
    None,
}

impl From<Site> for SameSite {
    fn from(site: Site) -> Self {
        match site {
            Site::Strict => Self::Strict,
            Site::Lax => Self::Lax,
            Site::None => Self::None,
        }
    }
}

impl From<Policy> for LoadBalancingAlgorithms {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::RoundRobin => Self::RoundRobin,
            Policy::Random => Self::Random,
            Policy::PowerOfTwo => Self::PowerOfTwo,
            Policy::LeastLoaded => Self::LeastLoaded,
            Policy::Hrw => Self::Hrw,
            Policy::Maglev => Self::Maglev,
        }
    }
}

impl Add {
    /// The cluster these arguments describe.
    pub(super) fn cluster(self) -> Result<Cluster, CliError> {
        let tls = self.backend_tls()?;
        let passive_health = self.passive_failures.map(|consecutive_failures| PassiveHealth {
            consecutive_failures,
            base_ejection: self.passive_ejection,
            max_ejection: self.passive_ejection_max,
            max_ejected_percent: self.passive_ejected_percent,
            count_server_errors: !self.passive_ignore_server_errors,
        });
        let proxy_protocol = match (self.send_proxy, self.expect_proxy) {
            (true, true) => Some(ProxyProtocolConfig::RelayHeader),
            (true, false) => Some(ProxyProtocolConfig::SendHeader),
            (false, true) => Some(ProxyProtocolConfig::ExpectHeader),
            (false, false) => None,
        };
        Ok(Cluster {
            cluster_id: self.id,
            sticky_session: self.sticky_session,
            https_redirect: self.https_redirect,
            https_redirect_port: self.https_redirect_port.map(u32::from),
            proxy_protocol: proxy_protocol.map(i32::from),
            send_proxy_version: self.send_proxy_version,
            load_balancing: LoadBalancingAlgorithms::from(self.load_balancing_policy).into(),
            http2: self.http2.then_some(true),
            www_authenticate: self.www_authenticate,
            authorized_hashes: self.authorized_hash,
            answers: values::answers(self.answer)?,
            affinity_header: self.affinity_header,
            affinity_cookie: self.affinity_cookie,
            shard_percent: self.shard_percent,
            shard_min_backends: self.shard_min_backends,
            shard_mode: self.shard_strict.then_some(ShardMode::Strict.into()),
            max_connection_attempts: self.max_connection_attempts,
            max_connections: self.max_connections,
            max_connections_per_backend: self.max_connections_per_backend,
            max_queue: self.max_queue,
            queue_timeout_ms: self.queue_timeout_ms,
            panic_threshold: self.panic_threshold,
            retry_budget_percent: self.retry_budget_percent,
            passive_health,
            load_metric: self.load_metric.map(|metric| LoadMetric::from(metric).into()),
            slow_start: self.slow_start,
            sticky_secure: self.sticky_secure.then_some(true),
            sticky_http_only: self.sticky_http_only.then_some(true),
            sticky_same_site: self.sticky_same_site.map(|site| SameSite::from(site).into()),
            rate_limits: self.rate_limit,
            tls,
            ..Cluster::default()
        })
    }

    fn backend_tls(&self) -> Result<Option<BackendTls>, CliError> {
        if !self.tls {
            return Ok(None);
        }
        let pem = |path: &Option<PathBuf>| path.as_deref().map(tls::pem).transpose();
        Ok(Some(BackendTls {
            enabled: true,
            server_name: self.tls_server_name.clone(),
            ca_certificates: tls::pems(&self.tls_ca)?,
            skip_verification: self.tls_skip_verification.then_some(true),
            client_certificate: pem(&self.tls_client_certificate)?,
            client_key: pem(&self.tls_client_key)?,
            alpn: Vec::new(),
        }))
    }
}
