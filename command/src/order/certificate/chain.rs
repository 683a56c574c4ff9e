//! Chains of certificates: from texts in any order to leaf first, each issued by the next.

use std::sync::Arc;

use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use super::{CERTIFICATE_BYTES_MAX, CHAIN_MAX, pem};
use crate::order::{OrderError, error::excerpt};

/// All certificates in a PEM text. Other sections (a key, parameters) are no concern.
///
/// # Errors
/// Too long, no PEM, or without a certificate.
pub(in crate::order) fn certificates(field: &'static str, text: &str) -> Result<Vec<Vec<u8>>, OrderError> {
    // The usual label, and that of OpenSSL's early days.
    labelled(field, text, &["CERTIFICATE", "X509 CERTIFICATE"], "certificate")
}

/// Likewise for lists of revoked certificates.
///
/// # Errors
/// Too long, no PEM, or without a list.
pub(in crate::order) fn revocation_lists(
    field: &'static str,
    text: &str,
) -> Result<Vec<Vec<u8>>, OrderError> {
    labelled(field, text, &["X509 CRL"], "revocation list (X509 CRL)")
}

fn labelled(
    field: &'static str,
    text: &str,
    labels: &[&str],
    what: &str,
) -> Result<Vec<Vec<u8>>, OrderError> {
    let refuse = |reason: String| OrderError::plain(field, reason);
    if text.len() > CERTIFICATE_BYTES_MAX {
        let length = text.len();
        return Err(refuse(format!("is longer than {CERTIFICATE_BYTES_MAX} bytes: it has {length}")));
    }
    let sections = pem::sections(text).map_err(refuse)?;
    let wanted = sections.into_iter().filter(|section| labels.contains(&section.label));
    let ders: Vec<_> = wanted.map(|section| section.der.to_vec()).collect();
    if ders.is_empty() {
        return Err(refuse(format!("has no {what} in PEM")));
    }
    Ok(ders)
}

/// The certificate in DER, and nothing behind it.
pub(in crate::order) fn parse<'d>(
    field: &'static str,
    der: &'d [u8],
) -> Result<X509Certificate<'d>, OrderError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(OrderError::plain(field, "has bytes behind a certificate")),
        Err(_) => Err(OrderError::plain(field, "has a section that is no X.509 certificate")),
    }
}

/// Puts certificates in order. The leaf is among the first `leaves`: the first that issued none of the
/// others. Duplicates go, and so do roots: clients have their own.
///
/// # Errors
/// More than [`CHAIN_MAX`], one that is no certificate, or one that has nothing to do with the leaf.
pub(super) fn in_order(
    certificate_field: &'static str,
    chain_field: &'static str,
    mut ders: Vec<Vec<u8>>,
    leaves: usize,
) -> Result<Box<[Arc<[u8]>]>, OrderError> {
    if ders.len() > CHAIN_MAX {
        let reason = format!("is longer than {CHAIN_MAX} certificates: it has {}", ders.len());
        return Err(OrderError::plain(chain_field, reason));
    }
    let field = |place: usize| if place < leaves { certificate_field } else { chain_field };
    let chosen = {
        let certificates: Vec<_> =
            ders.iter().enumerate().map(|(place, der)| parse(field(place), der)).collect::<Result<_, _>>()?;
        choose(&certificates, leaves).map_err(|stranger| {
            let name = certificates.get(stranger).map(|it| it.subject().to_string()).unwrap_or_default();
            let reason = format!("has {}, which issued none of the others", excerpt(&name));
            OrderError::plain(field(stranger), reason)
        })?
    };
    Ok(chosen.into_iter().map(|place| std::mem::take(&mut ders[place]).into()).collect())
}

/// The places of the chain's certificates, leaf first, or that of one that belongs to another chain.
fn choose(certificates: &[X509Certificate<'_>], leaves: usize) -> Result<Vec<usize>, usize> {
    let same = |one: usize, other: usize| certificates[one].as_raw() == certificates[other].as_raw();
    let issued_another = |place: usize| {
        (0..certificates.len())
            .any(|other| !same(place, other) && issued(&certificates[place], &certificates[other]))
    };
    let leaf = (0..leaves).find(|place| !issued_another(*place)).unwrap_or(0);
    let mut chain = vec![leaf];
    let mut last = leaf;
    while !is_root(&certificates[last]) {
        let of_last = |place: &usize| {
            issued(&certificates[*place], &certificates[last]) && !chain.iter().any(|it| same(*it, *place))
        };
        // A root that was also signed by an older one: the longer way is the one that was meant.
        let issuers = || (0..certificates.len()).filter(of_last);
        let Some(issuer) =
            issuers().find(|place| !is_root(&certificates[*place])).or_else(|| issuers().next())
        else {
            break;
        };
        chain.push(issuer);
        last = issuer;
    }
    // One that could stand in the place of another (a cross-signed twin) is no stranger.
    let belongs = |place: &usize| {
        chain.iter().any(|it| same(*it, *place) || issued(&certificates[*place], &certificates[*it]))
    };
    if let Some(stranger) = (0..certificates.len()).find(|place| !belongs(place)) {
        return Err(stranger);
    }
    if chain.len() > 1 && is_root(&certificates[last]) {
        chain.pop();
    }
    Ok(chain)
}

/// By name, and by the ids of their keys where both have one.
fn issued(issuer: &X509Certificate<'_>, subject: &X509Certificate<'_>) -> bool {
    let ids_agree = match (key_id(issuer), authority_key_id(subject)) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    subject.issuer().as_raw() == issuer.subject().as_raw() && ids_agree
}

fn is_root(certificate: &X509Certificate<'_>) -> bool {
    issued(certificate, certificate)
}

fn key_id<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

fn authority_key_id<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    })
}
