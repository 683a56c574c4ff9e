//! `listener https`: the verbs of `listener http`, and TLS.

use std::path::PathBuf;

use kakehi_command::config::Config;
use kakehi_command::order::SEND_TLS13_TICKETS_DEFAULT;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    AlpnProtocols, ClientAuthMode, ClientAuthPolicy, HttpsListenerConfig, ListenerType, TlsVersion,
    UpdateHttpsListenerConfig,
};

use super::super::hsts::Hsts;
use super::super::{CliError, tls};
use super::http::{self, Key};

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
    Remove(Key),
    /// Bind the address and accept connections
    Activate(Key),
    /// Stop accepting connections and free the address
    Deactivate(Key),
}

/// Arguments of `listener https add`.
#[derive(clap::Args, Debug)]
pub(in super::super) struct AddHttps {
    #[command(flatten)]
    http: http::Add,
    /// Versions that are offered [default: TLS_V12 and TLS_V13]; may be repeated
    #[arg(long, value_name = "VERSION", value_parser = tls::version)]
    tls_versions: Vec<TlsVersion>,
    /// Cipher suites that are offered, by rustls' names, best first [default: all]; may be repeated
    #[arg(long, value_name = "SUITE")]
    tls_cipher_list: Vec<String>,
    /// Groups of the key exchange, best first [default: all]; may be repeated
    #[arg(long, value_name = "GROUP")]
    tls_groups_list: Vec<String>,
    /// A file with the certificate for clients that ask for no name or an unknown one, in PEM; its chain may
    /// follow in it
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// A file with the certificates between it and the root
    #[arg(long, value_name = "FILE", requires = "certificate")]
    certificate_chain: Option<PathBuf>,
    /// A file with its private key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// TLS 1.3 tickets that a handshake sends
    #[arg(long, value_name = "N")]
    send_tls13_tickets: Option<u64>,
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
    #[arg(long, hide = true)]
    disable_http11: bool,
    #[arg(long, hide = true, conflicts_with = "disable_http11")]
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
    /// Whether clients are asked for a certificate; replaces authorities and revocation lists, too
    #[arg(long, value_name = "MODE", value_enum)]
    client_auth: Option<Mode>,
    /// A file with authorities of clients, in PEM; may be repeated
    #[arg(long, value_name = "FILE", requires = "client_auth")]
    client_ca: Vec<PathBuf>,
    /// A file with revoked certificates of clients, in PEM; may be repeated
    #[arg(long, value_name = "FILE", requires = "client_auth")]
    client_crl: Vec<PathBuf>,
    /// Header that carries the subject of the client's certificate to backends; empty: none
    #[arg(long, value_name = "NAME")]
    client_subject_header: Option<String>,
    /// Bytes of early data that are taken; 0: none
    #[arg(long, value_name = "BYTES")]
    max_early_data: Option<u32>,
    /// How long a handshake may take, in seconds
    #[arg(long, value_name = "SECONDS")]
    handshake_timeout: Option<u32>,
    /// Handshakes that one source may have under way in a worker; 0: any number
    #[arg(long, value_name = "N")]
    max_handshakes_per_source: Option<u32>,
    #[command(flatten)]
    hsts: Hsts,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Mode {
    None,
    Optional,
    Required,
}

impl Https {
    /// The request these arguments stand for; `config` fills in the time-outs of a new listener.
    pub(super) fn request(self, config: &Config) -> Result<RequestType, CliError> {
        let kind = ListenerType::Https;
        Ok(match self {
            Self::Add(add) => RequestType::AddHttpsListener(add.listener(config)?),
            Self::Update(update) => RequestType::UpdateHttpsListener(update.patch()?),
            Self::Remove(key) => key.remove(kind),
            Self::Activate(key) => key.activate(kind),
            Self::Deactivate(key) => key.deactivate(kind),
        })
    }
}

impl AddHttps {
    fn listener(self, config: &Config) -> Result<HttpsListenerConfig, CliError> {
        let pem = |path: Option<PathBuf>| path.as_deref().map(tls::pem).transpose();
        let settings = self.settings;
        let policy = settings.client_auth_policy()?.unwrap_or_default();
        let listener = HttpsListenerConfig {
            versions: tls::versions(&self.tls_versions),
            cipher_list: self.tls_cipher_list,
            groups_list: self.tls_groups_list,
            certificate: pem(self.certificate)?,
            certificate_chain: pem(self.certificate_chain)?.into_iter().collect(),
            key: pem(self.key)?,
            send_tls13_tickets: self.send_tls13_tickets.unwrap_or(SEND_TLS13_TICKETS_DEFAULT),
            alpn_protocols: self.alpn_protocols,
            strict_sni_binding: settings.strict_sni_binding(),
            hsts: settings.hsts.config(),
            client_auth: policy.client_auth,
            client_ca_certificates: policy.client_ca_certificates,
            client_ca_crls: policy.client_ca_crls,
            client_subject_header: settings.client_subject_header,
            max_early_data: settings.max_early_data,
            handshake_timeout: settings.handshake_timeout,
            max_handshakes_per_source: settings.max_handshakes_per_source,
            ..HttpsListenerConfig::default()
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
            client_auth_policy: settings.client_auth_policy()?,
            client_subject_header: settings.client_subject_header,
            max_early_data: settings.max_early_data,
            handshake_timeout: settings.handshake_timeout,
            max_handshakes_per_source: settings.max_handshakes_per_source,
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

    fn client_auth_policy(&self) -> Result<Option<ClientAuthPolicy>, CliError> {
        let Some(mode) = self.client_auth else { return Ok(None) };
        Ok(Some(ClientAuthPolicy {
            client_auth: Some(ClientAuthMode::from(mode).into()),
            client_ca_certificates: tls::pems(&self.client_ca)?,
            client_ca_crls: tls::pems(&self.client_crl)?,
        }))
    }
}

impl From<Mode> for ClientAuthMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::None => Self::ClientAuthNone,
            Mode::Optional => Self::ClientAuthOptional,
            Mode::Required => Self::ClientAuthRequired,
        }
    }
}
