//! `listener https`: the verbs of `listener http`, and TLS.

use kakehi_command::config::Config;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{AlpnProtocols, HttpsListenerConfig, ListenerType, UpdateHttpsListenerConfig};

use super::super::CliError;
use super::super::hsts::Hsts;
use super::super::wait::Wait;
use super::http::{self, Key};
use super::tls::{Handshakes, Offer};

// Clap names a group of flags after its struct: those joined here have other names than those of http.

/// Verbs of `listener https`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(in super::super) enum Https {
    /// Add a listener; it accepts connections once it is activated
    Add(Box<AddHttps>),
    /// Change settings of a listener: those given, and no others
    Update(Box<UpdateHttps>),
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

/// Arguments of `listener https add`.
#[derive(clap::Args, Debug)]
pub(in super::super) struct AddHttps {
    #[command(flatten)]
    http: http::Add,
    #[command(flatten)]
    offer: Offer,
    /// Protocols that are offered, best first; h2 is accepted and not served yet
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    alpn_protocols: Vec<String>,
    #[command(flatten)]
    settings: TlsSettings,
}

/// Arguments of `listener https update`.
#[derive(clap::Args, Debug)]
pub(in super::super) struct UpdateHttps {
    #[command(flatten)]
    http: http::Update,
    /// Protocols that are offered, best first; h2 is accepted and not served yet
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    alpn_protocols: Vec<String>,
    /// Offer the default protocols again
    #[arg(long, conflicts_with = "alpn_protocols")]
    reset_alpn: bool,
    /// Refuse clients that do not speak HTTP/2 (which this version does not serve)
    #[arg(long)]
    disable_http11: bool,
    /// Serve HTTP/1.1, too
    #[arg(long, conflicts_with = "disable_http11")]
    enable_http11: bool,
    #[command(flatten)]
    settings: TlsSettings,
}

/// Settings that `add` and `update` share.
#[derive(clap::Args, Debug)]
struct TlsSettings {
    /// Answer 421 where the certificate is not for the request's host; this is the default
    #[arg(long)]
    strict_sni_binding: bool,
    /// Serve any host on any connection
    #[arg(long, conflicts_with = "strict_sni_binding")]
    no_strict_sni_binding: bool,
    #[command(flatten)]
    handshakes: Handshakes,
    /// Header that carries the subject of the client's certificate to backends; empty: none
    #[arg(long, value_name = "NAME")]
    client_subject_header: Option<String>,
    /// Bytes of early data that are taken; 0: none
    #[arg(long, value_name = "BYTES")]
    max_early_data: Option<u32>,
    #[command(flatten)]
    hsts: Hsts,
}

impl Https {
    /// Whether to wait for the last connection.
    pub(super) fn wait(&self) -> Wait {
        match self {
            Self::Remove { wait, .. } | Self::Deactivate { wait, .. } => *wait,
            _ => Wait::default(),
        }
    }

    /// The request these arguments stand for; `config` fills in the time-outs of a new listener.
    pub(super) fn request(self, config: &Config) -> Result<RequestType, CliError> {
        let kind = ListenerType::Https;
        Ok(match self {
            Self::Add(add) => RequestType::AddHttpsListener(add.listener(config)?),
            Self::Update(update) => RequestType::UpdateHttpsListener(update.patch()?),
            Self::Remove { key, .. } => key.remove(kind),
            Self::Activate(key) => key.activate(kind),
            Self::Deactivate { key, .. } => key.deactivate(kind),
        })
    }
}

impl AddHttps {
    fn listener(self, config: &Config) -> Result<HttpsListenerConfig, CliError> {
        let settings = self.settings;
        let policy = settings.handshakes.client_auth_policy()?.unwrap_or_default();
        let listener = HttpsListenerConfig {
            alpn_protocols: self.alpn_protocols,
            strict_sni_binding: settings.strict_sni_binding(),
            hsts: settings.hsts.config(),
            client_auth: policy.client_auth,
            client_ca_certificates: policy.client_ca_certificates,
            client_ca_crls: policy.client_ca_crls,
            client_subject_header: settings.client_subject_header,
            max_early_data: settings.max_early_data,
            handshake_timeout: settings.handshakes.handshake_timeout,
            max_handshakes_per_source: settings.handshakes.max_handshakes_per_source,
            ..self.offer.config()?
        };
        Ok(listener.with(self.http.listener(config)?))
    }
}

impl UpdateHttps {
    fn patch(self) -> Result<UpdateHttpsListenerConfig, CliError> {
        let settings = self.settings;
        let disable_http11 = match (self.disable_http11, self.enable_http11) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        let patch = UpdateHttpsListenerConfig {
            // None given: they stay. Reset: the list is empty.
            alpn_protocols: (self.reset_alpn || !self.alpn_protocols.is_empty())
                .then_some(AlpnProtocols { values: self.alpn_protocols }),
            strict_sni_binding: settings.strict_sni_binding(),
            disable_http11,
            hsts: settings.hsts.config(),
            client_auth_policy: settings.handshakes.client_auth_policy()?,
            client_subject_header: settings.client_subject_header,
            max_early_data: settings.max_early_data,
            handshake_timeout: settings.handshakes.handshake_timeout,
            max_handshakes_per_source: settings.handshakes.max_handshakes_per_source,
            ..UpdateHttpsListenerConfig::default()
        };
        Ok(patch.with(self.http.patch()?))
    }
}

impl TlsSettings {
    fn strict_sni_binding(&self) -> Option<bool> {
        match (self.strict_sni_binding, self.no_strict_sni_binding) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }
}
