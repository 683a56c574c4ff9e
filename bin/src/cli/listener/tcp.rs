//! `listener tcp`: add, update, remove, activate, deactivate; with or without TLS that ends there.

use std::net::SocketAddr;

use kakehi_command::config::Config;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    AlpnProtocols, HttpsListenerConfig, ListenerType, TcpListenerConfig, TrustedProxies,
    UpdateHttpsListenerConfig, UpdateTcpListenerConfig,
};

use super::super::CliError;
use super::super::wait::Wait;
use super::http::{Key, seconds};
use super::limits::Limits;
use super::tls::{Handshakes, Offer};

/// Verbs of `listener tcp`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(in super::super) enum Tcp {
    /// Add a listener; it accepts connections once it is activated
    Add(Box<AddTcp>),
    /// Change settings of a listener: those given, and no others
    Update(Box<UpdateTcp>),
    /// Remove a listener
    Remove {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        wait: Wait,
    },
    /// Bind the address and accept connections
    Activate(Key),
    /// Stop accepting connections and free the address
    Deactivate {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        wait: Wait,
    },
}

/// Settings that `add` and `update` share.
#[derive(clap::Args, Debug)]
struct TcpSettings {
    /// Address that clients use, for logs, if another proxy or NAT is in front
    #[arg(long, value_name = "IP:PORT")]
    public_address: Option<SocketAddr>,
    /// How long a client may be silent, in seconds
    #[arg(long, value_name = "SECONDS")]
    front_timeout: Option<u32>,
    /// How long a backend may be silent, in seconds
    #[arg(long, value_name = "SECONDS")]
    back_timeout: Option<u32>,
    /// How long connecting to a backend may take, in seconds
    #[arg(long, value_name = "SECONDS")]
    connect_timeout: Option<u32>,
    /// How long a ClientHello may take where frontends have an sni, in seconds
    #[arg(long, value_name = "SECONDS")]
    sni_preread_timeout: Option<u32>,
    /// Longest ClientHello, in bytes
    #[arg(long, value_name = "BYTES")]
    sni_preread_max_bytes: Option<u32>,
    /// A PROXY header (version 1 or 2) opens each connection and tells who the client is
    #[arg(long)]
    expect_proxy: bool,
    /// An address or network whose connections open so, all others do not; may be repeated [default: all]
    #[arg(long, value_name = "IP[/BITS]")]
    expect_proxy_from: Vec<String>,
    #[command(flatten)]
    limits: Limits,
}

/// Arguments of `listener tcp add`.
#[derive(clap::Args, Debug)]
#[command(group(
    clap::ArgGroup::new("of_tls").multiple(true).requires("tls").args([
        "tls_versions", "tls_cipher_list", "tls_groups_list", "certificate", "certificate_chain", "key",
        "send_tls13_tickets", "alpn_protocols", "client_auth", "client_ca", "client_crl", "handshake_timeout",
        "max_handshakes_per_source",
    ])
))]
pub(in super::super) struct AddTcp {
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    settings: TcpSettings,
    /// End TLS here: backends get what is inside. Without it TLS is passed on as it is. The flags that follow
    /// need it
    #[arg(long)]
    tls: bool,
    #[command(flatten)]
    offer: Offer,
    /// Protocols that are offered, best first, by any names that backends know [default: none]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    alpn_protocols: Vec<String>,
    #[command(flatten)]
    handshakes: Handshakes,
}

/// Arguments of `listener tcp update`.
#[derive(clap::Args, Debug)]
pub(in super::super) struct UpdateTcp {
    /// Address of the listener
    #[arg(short, long, value_name = "IP:PORT")]
    address: SocketAddr,
    #[command(flatten)]
    settings: TcpSettings,
    /// No PROXY header opens connections any more
    #[arg(long, conflicts_with = "expect_proxy")]
    no_expect_proxy: bool,
    /// Expect the header from everybody
    #[arg(long, conflicts_with = "expect_proxy_from")]
    reset_expect_proxy_from: bool,
    /// Limit no rate any more
    #[arg(long, conflicts_with = "rate_limit")]
    no_rate_limits: bool,
    /// Protocols that are offered where TLS ends, best first
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    alpn_protocols: Vec<String>,
    /// Offer no protocol any more
    #[arg(long, conflicts_with = "alpn_protocols")]
    reset_alpn: bool,
    #[command(flatten)]
    handshakes: Handshakes,
}

impl Tcp {
    /// Whether to wait for the last connection.
    pub(super) fn wait(&self) -> Wait {
        match self {
            Self::Remove { wait, .. } | Self::Deactivate { wait, .. } => *wait,
            _ => Wait::default(),
        }
    }

    /// The request these arguments stand for; `config` fills in the time-outs of a new listener.
    pub(super) fn request(self, config: &Config) -> Result<RequestType, CliError> {
        let kind = ListenerType::Tcp;
        Ok(match self {
            Self::Add(add) => RequestType::AddTcpListener(add.listener(config)?),
            Self::Update(update) => RequestType::UpdateTcpListener(update.patch()?),
            Self::Remove { key, .. } => key.remove(kind),
            Self::Activate(key) => key.activate(kind),
            Self::Deactivate { key, .. } => key.deactivate(kind),
        })
    }
}

impl AddTcp {
    fn listener(self, config: &Config) -> Result<TcpListenerConfig, CliError> {
        let settings = self.settings;
        let limits = settings.limits.fields(false);
        let (address, interface) = self.key.into_parts();
        let tls = if self.tls {
            let policy = self.handshakes.client_auth_policy()?.unwrap_or_default();
            Some(HttpsListenerConfig {
                address: address.into(),
                alpn_protocols: self.alpn_protocols,
                client_auth: policy.client_auth,
                client_ca_certificates: policy.client_ca_certificates,
                client_ca_crls: policy.client_ca_crls,
                handshake_timeout: self.handshakes.handshake_timeout,
                max_handshakes_per_source: self.handshakes.max_handshakes_per_source,
                ..self.offer.config()?
            })
        } else {
            None
        };
        Ok(TcpListenerConfig {
            address: address.into(),
            public_address: settings.public_address.map(Into::into),
            expect_proxy: settings.expect_proxy,
            expect_proxy_from: settings.expect_proxy_from,
            front_timeout: settings.front_timeout.unwrap_or_else(|| seconds(config.front_timeout)),
            back_timeout: settings.back_timeout.unwrap_or_else(|| seconds(config.back_timeout)),
            connect_timeout: settings.connect_timeout.unwrap_or_else(|| seconds(config.connect_timeout)),
            active: false,
            sni_preread_timeout: settings.sni_preread_timeout,
            sni_preread_max_bytes: settings.sni_preread_max_bytes,
            interface,
            tls,
            rate_limits: limits.rate_limits,
            max_connections: limits.max_connections,
            max_connections_per_source: limits.max_connections_per_source,
            max_accept_rate: limits.max_accept_rate,
            over_limit: limits.over_limit,
        })
    }
}

impl UpdateTcp {
    fn patch(self) -> Result<UpdateTcpListenerConfig, CliError> {
        let settings = self.settings;
        let limits = settings.limits.fields(self.no_rate_limits);
        let expect_proxy = match (settings.expect_proxy, self.no_expect_proxy) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        let expect_proxy_from = (self.reset_expect_proxy_from || !settings.expect_proxy_from.is_empty())
            .then_some(TrustedProxies { values: settings.expect_proxy_from });
        let unchanged = UpdateHttpsListenerConfig {
            address: self.address.into(),
            ..UpdateHttpsListenerConfig::default()
        };
        let tls = UpdateHttpsListenerConfig {
            // None given: they stay. Reset: the list is empty.
            alpn_protocols: (self.reset_alpn || !self.alpn_protocols.is_empty())
                .then_some(AlpnProtocols { values: self.alpn_protocols }),
            client_auth_policy: self.handshakes.client_auth_policy()?,
            handshake_timeout: self.handshakes.handshake_timeout,
            max_handshakes_per_source: self.handshakes.max_handshakes_per_source,
            ..unchanged.clone()
        };
        Ok(UpdateTcpListenerConfig {
            address: self.address.into(),
            public_address: settings.public_address.map(Into::into),
            expect_proxy,
            expect_proxy_from,
            front_timeout: settings.front_timeout,
            back_timeout: settings.back_timeout,
            connect_timeout: settings.connect_timeout,
            // A listener without TLS refuses to hear of it.
            tls: (tls != unchanged).then_some(tls),
            sni_preread_timeout: settings.sni_preread_timeout,
            sni_preread_max_bytes: settings.sni_preread_max_bytes,
            rate_limits: limits.rate_limits,
            max_connections: limits.max_connections,
            max_connections_per_source: limits.max_connections_per_source,
            max_accept_rate: limits.max_accept_rate,
            over_limit: limits.over_limit,
        })
    }
}
