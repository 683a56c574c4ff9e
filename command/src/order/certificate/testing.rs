//! Certificates for tests, made anew in each run: nothing depends on their bytes.

use std::sync::LazyLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, SerialNumber, date_time_ymd,
};

use crate::proto;

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) pem: String,
    pub(crate) key: String,
    /// Who issued it, without the root.
    pub(crate) issuers: Vec<String>,
}

impl Made {
    pub(crate) fn wire(&self) -> proto::CertificateAndKey {
        proto::CertificateAndKey {
            certificate: self.pem.clone(),
            certificate_chain: self.issuers.clone(),
            key: self.key.clone(),
            versions: Vec::new(),
            names: Vec::new(),
            ocsp_response: None,
        }
    }
}

/// A root, and what it issued to issue the leaves.
struct Authorities {
    root: Made,
    intermediate: Made,
    issuer: Issuer<'static, KeyPair>,
    revocations: [String; 2],
}

static AUTHORITIES: LazyLock<Authorities> = LazyLock::new(|| {
    let (root_key, key) = (key(), key());
    let (root_params, params) = (authority_params("Root"), authority_params("Intermediate"));
    let root = root_params.self_signed(&root_key).expect("signed");
    let root_made = Made { pem: root.pem(), key: root_key.serialize_pem(), issuers: Vec::new() };
    let root_issuer = Issuer::new(root_params, root_key);
    let intermediate = params.signed_by(&key, &root_issuer).expect("signed");
    let intermediate = Made { pem: intermediate.pem(), key: key.serialize_pem(), issuers: Vec::new() };
    let revocations = [date_time_ymd(2020, 1, 1), date_time_ymd(4096, 1, 1)].map(|next_update| {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2019, 1, 1),
            next_update,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&root_issuer).expect("signed").pem().expect("encoded")
    });
    Authorities { root: root_made, intermediate, issuer: Issuer::new(params, key), revocations }
});

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn params(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// A root.
pub(crate) fn authority() -> Made {
    AUTHORITIES.root.clone()
}

/// What lies between the root and the leaves.
pub(crate) fn intermediate() -> Made {
    AUTHORITIES.intermediate.clone()
}

/// A list that lapsed in 2020, and one that never does.
pub(crate) fn revocation_lists() -> [String; 2] {
    AUTHORITIES.revocations.clone()
}

/// A certificate for these names, issued by the intermediate.
pub(crate) fn leaf(names: &[&str]) -> Made {
    leaf_with(|params| *params = self::params(names.first().copied().unwrap_or("No host"), names))
}

/// A certificate with this common name and nothing else to go by, from 2000 to 2010.
pub(crate) fn old(common_name: &str) -> Made {
    leaf_with(|params| {
        *params = self::params(common_name, &[]);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2010, 1, 1);
    })
}

pub(crate) fn leaf_with(edit: impl FnOnce(&mut CertificateParams)) -> Made {
    let mut params = params("leaf", &[]);
    edit(&mut params);
    let key = key();
    let leaf = params.signed_by(&key, &AUTHORITIES.issuer).expect("signed");
    Made { pem: leaf.pem(), key: key.serialize_pem(), issuers: vec![intermediate().pem] }
}

/// A certificate that issued itself.
pub(crate) fn self_signed(names: &[&str]) -> Made {
    let key = key();
    let made = params("self", names).self_signed(&key).expect("signed");
    Made { pem: made.pem(), key: key.serialize_pem(), issuers: Vec::new() }
}
