//! Private keys, and the chains they belong to.

use std::{fmt, sync::Arc};

use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use zeroize::Zeroizing;

use super::{CERTIFICATE_BYTES_MAX, chain, pem};
use crate::order::OrderError;

/// A private key: never shown, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey {
    form: Form,
    der: Zeroizing<Box<[u8]>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Pkcs8,
    Pkcs1,
    Sec1,
}

const FORMS: [(Form, &str); 3] =
    [(Form::Pkcs8, "PRIVATE KEY"), (Form::Pkcs1, "RSA PRIVATE KEY"), (Form::Sec1, "EC PRIVATE KEY")];

impl PrivateKey {
    /// The only private key in a PEM text; other sections (parameters, certificates) are no concern.
    pub(super) fn parse(field: &'static str, text: &str) -> Result<Self, OrderError> {
        let refuse = |reason: String| OrderError::plain(field, reason);
        if text.len() > CERTIFICATE_BYTES_MAX {
            return Err(refuse(format!("is longer than {CERTIFICATE_BYTES_MAX} bytes")));
        }
        let mut found = None;
        for section in pem::sections(text).map_err(refuse)? {
            if section.label == "ENCRYPTED PRIVATE KEY" {
                return Err(refuse("is encrypted: it has to be given in the clear".into()));
            }
            let Some((form, _)) = FORMS.iter().find(|(_, label)| *label == section.label) else { continue };
            let der = Zeroizing::new(Box::<[u8]>::from(section.der.as_slice()));
            if found.replace(Self { form: *form, der }).is_some() {
                return Err(refuse("has several private keys".into()));
            }
        }
        found.ok_or_else(|| refuse("has no private key in PEM".into()))
    }

    /// The key, to be loaded.
    #[must_use]
    pub fn der(&self) -> PrivateKeyDer<'_> {
        match self.form {
            Form::Pkcs8 => PrivatePkcs8KeyDer::from(&**self.der).into(),
            Form::Pkcs1 => PrivatePkcs1KeyDer::from(&**self.der).into(),
            Form::Sec1 => PrivateSec1KeyDer::from(&**self.der).into(),
        }
    }

    pub(in crate::order) fn to_pem(&self) -> String {
        let label = FORMS.iter().find(|(form, _)| *form == self.form).map_or("", |(_, label)| label);
        pem::encode(label, &self.der)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// The certificates in PEM texts, in order.
pub(super) fn chain(
    [certificate_field, chain_field, _]: [&'static str; 3],
    certificate: &str,
    chain: &[String],
) -> Result<Box<[Arc<[u8]>]>, OrderError> {
    let mut ders = chain::certificates(certificate_field, certificate)?;
    let leaves = ders.len();
    for text in chain {
        ders.extend(chain::certificates(chain_field, text)?);
    }
    chain::in_order(certificate_field, chain_field, ders, leaves)
}

/// A certificate, those between it and the root, and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedKey {
    /// Leaf first, each issued by the next. Shared: thousands of leaves have the same issuer.
    pub(super) chain: Box<[Arc<[u8]>]>,
    key: PrivateKey,
}

impl CertifiedKey {
    /// Reads PEM texts and puts the chain in order. Whether the key is the certificate's is not looked at.
    ///
    /// # Errors
    /// Too long, no PEM, no certificate, no key, or certificates that are not of one chain.
    pub(in crate::order) fn parse(
        fields: [&'static str; 3],
        certificate: &str,
        chain: &[String],
        key: &str,
    ) -> Result<Self, OrderError> {
        let chain = self::chain(fields, certificate, chain)?;
        Ok(Self { chain, key: PrivateKey::parse(fields[2], key)? })
    }

    /// DER, leaf first, each issued by the next one; a root is not part of it.
    #[must_use]
    pub fn chain(&self) -> &[Arc<[u8]>] {
        &self.chain
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    pub(super) fn leaf(&self) -> &[u8] {
        self.chain.first().map_or(&[], |der| der)
    }

    pub(in crate::order) fn chain_pem(&self) -> impl Iterator<Item = String> {
        self.chain.iter().map(|der| pem::encode("CERTIFICATE", der))
    }
}
