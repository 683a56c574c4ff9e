//! How a cluster's backends are spoken to over TLS.

use rustls_pki_types::CertificateDer;

use super::{
    OrderError, certificate,
    certificate::{CertifiedKey, check_name},
    listener::{Alpn, alpn},
};
use crate::proto;

const AUTHORITIES: &str = "tls.ca_certificates";

/// TLS to backends, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTls {
    enabled: bool,
    server_name: Option<Box<str>>,
    authorities: Box<[Box<[u8]>]>,
    skip_verification: bool,
    client: Option<CertifiedKey>,
    alpn: Box<[Alpn]>,
    /// What is read back as it came.
    authority_texts: Box<[String]>,
    alpn_names: Box<[String]>,
}

impl BackendTls {
    /// Checks settings that came from outside.
    pub(super) fn from_wire(wire: &proto::BackendTls) -> Result<Self, OrderError> {
        let server_name = wire.server_name.as_deref().filter(|name| !name.is_empty());
        let server_name = server_name.map(check_server_name).transpose()?;
        let mut authorities = Vec::new();
        for text in &wire.ca_certificates {
            authorities.extend(certificate::certificates(AUTHORITIES, text)?.into_iter().map(Box::from));
        }
        for der in &authorities {
            certificate::parse(AUTHORITIES, der)?;
        }
        let client = match (wire.client_certificate.as_deref(), wire.client_key.as_deref()) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                const FIELDS: [&str; 3] =
                    ["tls.client_certificate", "tls.client_certificate", "tls.client_key"];
                Some(CertifiedKey::parse(FIELDS, certificate, &[], key)?)
            }
            (Some(_), None) => {
                return Err(OrderError::plain(
                    "tls.client_key",
                    "is missing beside the client's certificate",
                ));
            }
            (None, Some(_)) => {
                return Err(OrderError::plain(
                    "tls.client_certificate",
                    "is missing beside the client's key",
                ));
            }
        };
        Ok(Self {
            enabled: wire.enabled,
            server_name,
            authorities: authorities.into(),
            skip_verification: wire.skip_verification == Some(true),
            client,
            alpn: alpn("tls.alpn", &wire.alpn)?,
            authority_texts: wire.ca_certificates.as_slice().into(),
            alpn_names: wire.alpn.as_slice().into(),
        })
    }

    /// The name that is asked for and verified; none: the host of the request.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Whose certificates are taken; none: those that the system trusts.
    pub fn authorities(&self) -> impl ExactSizeIterator<Item = CertificateDer<'_>> {
        self.authorities.iter().map(|der| CertificateDer::from(&**der))
    }

    /// Whether any certificate is taken: whoever is on the way can read and change everything.
    #[must_use]
    pub fn skip_verification(&self) -> bool {
        self.skip_verification
    }

    /// What backends that ask who we are get.
    #[must_use]
    pub fn client(&self) -> Option<&CertifiedKey> {
        self.client.as_ref()
    }

    /// Protocols that are offered, best first; never none.
    #[must_use]
    pub fn alpn(&self) -> &[Alpn] {
        &self.alpn
    }

    pub(super) fn enabled(&self) -> bool {
        self.enabled
    }

    /// **Has the private key in the clear.**
    pub(super) fn wire(&self) -> proto::BackendTls {
        proto::BackendTls {
            enabled: self.enabled,
            server_name: self.server_name.as_deref().map(str::to_owned),
            ca_certificates: self.authority_texts.to_vec(),
            skip_verification: self.skip_verification.then_some(true),
            client_certificate: self.client.as_ref().map(|client| client.chain_pem().collect()),
            client_key: self.client.as_ref().map(|client| client.key().to_pem()),
            alpn: self.alpn_names.to_vec(),
        }
    }

    pub(super) fn notes(&self, notes: &mut Vec<String>) {
        if self.skip_verification {
            notes.push(
                "tls.skip_verification is set: backends are NOT verified, and whoever is on the way to them \
                 can read and change everything"
                    .into(),
            );
        }
        if self.alpn_names.iter().any(|name| name == "h2") {
            notes.push("h2 in tls.alpn is kept but not offered yet by this version".into());
        }
    }
}

fn check_server_name(name: &str) -> Result<Box<str>, OrderError> {
    let refuse = |reason| OrderError::invalid("tls.server_name", name, reason);
    if name.starts_with("*.") {
        return Err(refuse("is a wildcard: a backend is asked for one name"));
    }
    check_name(name).map_err(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::certificate::testing;

    fn wire(edit: impl FnOnce(&mut proto::BackendTls)) -> proto::BackendTls {
        let mut wire = proto::BackendTls::default();
        wire.enabled = true;
        edit(&mut wire);
        wire
    }

    fn check_refused(edit: impl FnOnce(&mut proto::BackendTls), expected: &str) {
        let error = BackendTls::from_wire(&wire(edit)).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn settings_go_back_to_the_wire_as_they_came() {
        let made = testing::leaf(&["client.test"]);
        let full = wire(|it| {
            it.server_name = Some("backend.test".into());
            it.ca_certificates = vec![testing::authority().pem];
            it.skip_verification = Some(true);
            it.client_certificate = Some([made.pem.as_str(), &made.issuers[0]].concat());
            it.client_key = Some(made.key.clone());
            it.alpn = vec!["http/1.1".into()];
        });
        for wire in [wire(|_| {}), full] {
            let tls = BackendTls::from_wire(&wire).expect("accepted");
            assert_eq!(tls.wire(), wire);
            assert_eq!(tls.client().map(|client| client.chain().len()), wire.client_key.as_ref().map(|_| 2));
            assert_eq!(
                (tls.authorities().len(), tls.alpn()),
                (wire.ca_certificates.len(), &[Alpn::Http11][..])
            );
            assert_eq!(tls.server_name(), wire.server_name.as_deref());
            let mut notes = Vec::new();
            tls.notes(&mut notes);
            assert_eq!(notes.iter().any(|note| note.contains("NOT verified")), tls.skip_verification());
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        check_refused(|it| it.server_name = Some("a b".into()), "tls.server_name `a b` has a character");
        check_refused(|it| it.server_name = Some("*.a.test".into()), "is a wildcard");
        check_refused(|it| it.ca_certificates = vec!["x".into()], "tls.ca_certificates has no certificate");
        check_refused(|it| it.client_key = Some("x".into()), "tls.client_certificate is missing");
        check_refused(|it| it.client_certificate = Some("x".into()), "tls.client_key is missing");
        check_refused(|it| it.alpn = vec!["h2".into()], "h2 alone (ALPN) are not served yet");
    }
}
