//! Who is asked for a certificate, and whom it has to be from.

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::{OrderError, certificate, proto, wire_enum};

const AUTHORITIES: &str = "client_ca_certificates";
const CRLS: &str = "client_ca_crls";

/// Most authorities of one listener: each has its name in the request that clients get.
const AUTHORITIES_MAX: usize = 1024;

/// How clients prove who they are, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    required: bool,
    authorities: Box<[Box<[u8]>]>,
    crls: Box<[Crl]>,
}

/// A list of revoked certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    der: Box<[u8]>,
    next_update: Option<i64>,
}

impl ClientAuth {
    /// None: clients are not asked.
    pub(super) fn from_wire(
        mode: Option<i32>,
        authorities: &[String],
        crls: &[String],
    ) -> Result<Option<Self>, OrderError> {
        use proto::ClientAuthMode as Mode;
        let required = match mode.map(|mode| wire_enum("client_auth", mode)).transpose()? {
            None | Some(Mode::ClientAuthNone) => {
                let given = [(AUTHORITIES, authorities), (CRLS, crls)];
                return match given.into_iter().find(|(_, texts)| !texts.is_empty()) {
                    Some((field, _)) => Err(OrderError::plain(field, "are given without client_auth")),
                    None => Ok(None),
                };
            }
            Some(Mode::ClientAuthOptional) => false,
            Some(Mode::ClientAuthRequired) => true,
        };
        let mut ders = Vec::new();
        for text in authorities {
            ders.extend(certificate::certificates(AUTHORITIES, text)?.into_iter().map(Box::from));
        }
        for der in &ders {
            certificate::parse(AUTHORITIES, der)?;
        }
        if ders.is_empty() {
            return Err(OrderError::plain(AUTHORITIES, "are missing: client_auth needs at least one"));
        }
        if ders.len() > AUTHORITIES_MAX {
            return Err(OrderError::plain(AUTHORITIES, "are more than 1024"));
        }
        let mut lists = Vec::new();
        for text in crls {
            for der in certificate::revocation_lists(CRLS, text)? {
                lists.push(Crl::parse(der)?);
            }
        }
        Ok(Some(Self { required, authorities: ders.into(), crls: lists.into() }))
    }

    /// Whether a handshake without a certificate fails.
    #[must_use]
    pub fn required(&self) -> bool {
        self.required
    }

    /// Whose certificates are taken; never none.
    pub fn authorities(&self) -> impl ExactSizeIterator<Item = CertificateDer<'_>> {
        self.authorities.iter().map(|der| CertificateDer::from(&**der))
    }

    /// Which of them are taken no more.
    #[must_use]
    pub fn crls(&self) -> &[Crl] {
        &self.crls
    }

    pub(super) fn check_validity(&self, now: i64) -> Result<(), OrderError> {
        let lapsed = self.crls.iter().filter_map(|crl| crl.next_update).find(|next| *next < now);
        match lapsed {
            Some(next) => {
                let date = certificate::date(next);
                Err(OrderError::plain(CRLS, format!("have one that should have been replaced by {date}")))
            }
            None => Ok(()),
        }
    }
}

impl Crl {
    fn parse(der: Vec<u8>) -> Result<Self, OrderError> {
        let next_update = match CertificateRevocationList::from_der(&der) {
            Ok(([], list)) => list.next_update().map(|time| time.timestamp()),
            _ => return Err(OrderError::plain(CRLS, "have a section that is no revocation list")),
        };
        Ok(Self { der: der.into(), next_update })
    }

    /// The list in DER.
    #[must_use]
    pub fn der(&self) -> CertificateRevocationListDer<'_> {
        CertificateRevocationListDer::from(&*self.der)
    }

    /// When it lapses, in seconds since 1970: clients of its authority are turned away from then on.
    #[must_use]
    pub fn next_update(&self) -> Option<i64> {
        self.next_update
    }
}
