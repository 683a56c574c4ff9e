//! What listeners at which TLS ends have in common: those of `listener https`, and of `listener tcp` with `--tls`.

use std::path::PathBuf;

use kakehi_command::order::SEND_TLS13_TICKETS_DEFAULT;
use kakehi_command::proto::{ClientAuthMode, ClientAuthPolicy, HttpsListenerConfig, TlsVersion};

use super::super::{CliError, tls};

// Clap names a group of flags after its struct: those joined in one verb have different names.

/// What a new listener offers.
#[derive(clap::Args, Debug)]
pub(super) struct Offer {
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
}

/// How handshakes go: what `add` and `update` share.
#[derive(clap::Args, Debug)]
pub(super) struct Handshakes {
    /// Whether clients are asked for a certificate; replaces authorities and revocation lists, too
    #[arg(long, value_name = "MODE", value_enum)]
    client_auth: Option<Mode>,
    /// A file with authorities of clients, in PEM; may be repeated
    #[arg(long, value_name = "FILE", requires = "client_auth")]
    client_ca: Vec<PathBuf>,
    /// A file with revoked certificates of clients, in PEM; may be repeated
    #[arg(long, value_name = "FILE", requires = "client_auth")]
    client_crl: Vec<PathBuf>,
    /// How long a handshake may take, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(super) handshake_timeout: Option<u32>,
    /// Handshakes that one source may have under way in a worker; 0: any number
    #[arg(long, value_name = "N")]
    pub(super) max_handshakes_per_source: Option<u32>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Mode {
    None,
    Optional,
    Required,
}

impl Offer {
    /// The offer, in a message that is otherwise empty.
    pub(super) fn config(self) -> Result<HttpsListenerConfig, CliError> {
        let pem = |path: Option<PathBuf>| path.as_deref().map(tls::pem).transpose();
        Ok(HttpsListenerConfig {
            versions: tls::versions(&self.tls_versions),
            cipher_list: self.tls_cipher_list,
            groups_list: self.tls_groups_list,
            certificate: pem(self.certificate)?,
            certificate_chain: pem(self.certificate_chain)?.into_iter().collect(),
            key: pem(self.key)?,
            send_tls13_tickets: self.send_tls13_tickets.unwrap_or(SEND_TLS13_TICKETS_DEFAULT),
            ..HttpsListenerConfig::default()
        })
    }
}

impl Handshakes {
    /// None: nothing is said of it.
    pub(super) fn client_auth_policy(&self) -> Result<Option<ClientAuthPolicy>, CliError> {
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
