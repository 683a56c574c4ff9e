//! `certificate`: what listeners of an address show their clients. [`list`] shows them.
//!
//! Files are read here and sent as text, so that the proxy needs no right to read them.

mod list;

use std::net::SocketAddr;
use std::path::PathBuf;

use kakehi_command::order::fingerprint_of;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    AddCertificate, CertificateAndKey, QueryCertificatesFilters, RemoveCertificate, ReplaceCertificate,
    TlsVersion,
};

use super::CliError;
use super::client::{Patience, Proxy};
use super::tls;

pub(super) use list::{render, render_workers};

/// Verbs of `certificate`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(super) enum Certificate {
    /// List the certificates: all, or those that the flags choose; private keys are never shown
    List(List),
    /// Add a certificate to an address
    Add(Add),
    /// Remove a certificate from an address
    Remove(Remove),
    /// Put a certificate in the place of another one: no handshake finds neither
    Replace(Replace),
}

/// Arguments of `certificate list`.
#[derive(clap::Args, Debug)]
pub(super) struct List {
    /// The certificate with this fingerprint
    #[arg(short, long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// The certificate that a handshake for this host gets; wins over the fingerprint
    #[arg(short, long, value_name = "NAME")]
    domain: Option<String>,
    /// Ask the workers, not the main process
    #[arg(short, long)]
    workers: bool,
}

/// Arguments of `certificate add`.
#[derive(clap::Args, Debug)]
pub(super) struct Add {
    /// Address of the listener
    #[arg(short, long, value_name = "IP:PORT")]
    address: SocketAddr,
    /// A file with the certificate, in PEM; its chain may follow in it
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// A file with the certificates between it and the root
    #[arg(long, value_name = "FILE")]
    certificate_chain: Option<PathBuf>,
    /// A file with the private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    beside: Beside,
}

/// What may be given beside a certificate.
#[derive(clap::Args, Debug)]
struct Beside {
    /// Kept for compatibility; may be repeated
    #[arg(long, value_name = "VERSION", value_parser = tls::version)]
    tls_versions: Vec<TlsVersion>,
    /// A name to serve it for, in place of those in it; may be repeated
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// A file with an OCSP response to staple, in DER
    #[arg(long, value_name = "FILE")]
    ocsp: Option<PathBuf>,
}

/// Which certificate is meant.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Which {
    /// A file with the certificate, in PEM
    #[arg(long, visible_alias = "cert", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Its fingerprint
    #[arg(short, long, value_name = "HEX")]
    fingerprint: Option<String>,
}

/// Arguments of `certificate remove`.
#[derive(clap::Args, Debug)]
pub(super) struct Remove {
    /// Address of the listener
    #[arg(short, long, value_name = "IP:PORT")]
    address: SocketAddr,
    #[command(flatten)]
    which: Which,
}

/// Which certificate is to go.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Old {
    /// A file with the certificate to be replaced, in PEM
    #[arg(long, visible_alias = "old-cert", value_name = "FILE")]
    old_certificate: Option<PathBuf>,
    /// The fingerprint of the certificate to be replaced
    #[arg(short, long, value_name = "HEX")]
    fingerprint: Option<String>,
}

/// Arguments of `certificate replace`.
#[derive(clap::Args, Debug)]
pub(super) struct Replace {
    /// Address of the listener
    #[arg(short, long, value_name = "IP:PORT")]
    address: SocketAddr,
    /// A file with the new certificate, in PEM; its chain may follow in it
    #[arg(long, value_name = "FILE")]
    new_certificate: PathBuf,
    /// A file with the certificates between it and the root
    #[arg(long, value_name = "FILE")]
    new_certificate_chain: Option<PathBuf>,
    /// A file with the new private key
    #[arg(long, value_name = "FILE")]
    new_key: PathBuf,
    #[command(flatten)]
    old: Old,
    #[command(flatten)]
    beside: Beside,
}

impl Certificate {
    /// Sends the request and shows the answer.
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        proxy.tell(match self {
            Self::List(list) => return list.run(proxy),
            Self::Add(add) => RequestType::AddCertificate(AddCertificate {
                address: add.address.into(),
                certificate: add.beside.certificate(
                    &add.certificate,
                    add.certificate_chain.as_ref(),
                    &add.key,
                )?,
                expired_at: None,
            }),
            Self::Remove(Remove { address, which }) => RequestType::RemoveCertificate(RemoveCertificate {
                address: address.into(),
                fingerprint: fingerprint(which.certificate, which.fingerprint)?,
            }),
            Self::Replace(it) => RequestType::ReplaceCertificate(ReplaceCertificate {
                address: it.address.into(),
                new_certificate: it.beside.certificate(
                    &it.new_certificate,
                    it.new_certificate_chain.as_ref(),
                    &it.new_key,
                )?,
                old_fingerprint: fingerprint(it.old.old_certificate, it.old.fingerprint)?,
                new_expired_at: None,
            }),
        })
    }
}

impl List {
    /// # Errors
    /// With a fingerprint, also: a worker does not have that certificate.
    fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        let Self { fingerprint, domain, workers } = self;
        let wanted = fingerprint.clone().filter(|_| domain.is_none());
        let filters = QueryCertificatesFilters { domain, fingerprint };
        if !workers {
            return proxy.tell(RequestType::QueryCertificatesFromTheState(filters));
        }
        let answer = proxy.ask(RequestType::QueryCertificatesFromWorkers(filters), Patience::AsConfigured)?;
        proxy.output.answer(&answer)?;
        let without = answer.content.as_ref().map(list::workers_without_certificates).unwrap_or_default();
        match wanted {
            Some(fingerprint) if !without.is_empty() => Err(CliError::Unusable(format!(
                "worker {} has no certificate {fingerprint}",
                without.join(", ")
            ))),
            _ => Ok(()),
        }
    }
}

impl Beside {
    fn certificate(
        &self,
        certificate: &std::path::Path,
        chain: Option<&PathBuf>,
        key: &std::path::Path,
    ) -> Result<CertificateAndKey, CliError> {
        Ok(CertificateAndKey {
            certificate: tls::pem(certificate)?,
            certificate_chain: chain.map(|path| tls::pem(path)).transpose()?.into_iter().collect(),
            key: tls::pem(key)?,
            versions: tls::versions(&self.tls_versions),
            names: self.name.clone(),
            ocsp_response: self.ocsp.as_deref().map(tls::ocsp_response).transpose()?,
        })
    }
}

/// What was given, or that of the certificate in the file.
fn fingerprint(file: Option<PathBuf>, given: Option<String>) -> Result<String, CliError> {
    let Some(path) = file else { return Ok(given.unwrap_or_default()) };
    let of_file = fingerprint_of(&tls::pem(&path)?);
    let unusable = |error| CliError::File { path, error: std::io::Error::other(error) };
    of_file.map(|fingerprint| fingerprint.to_string()).map_err(unusable)
}
