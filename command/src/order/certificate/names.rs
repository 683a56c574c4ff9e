//! The names that a certificate is served for.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use x509_parser::prelude::{GeneralName, X509Certificate};

use crate::order::{HOST_BYTES_MAX, OrderError, error::excerpt, host::check_labels};

/// Most names of one certificate. Authorities stop at a few hundred; each name costs memory in each worker
/// and time at each change.
pub const NAMES_MAX: usize = 2048;

const FIELD: &str = "names";

/// The names given, or else those that the certificate has: of hosts and addresses, or its common name if
/// it has neither. In lower case, each once. None at all is no error here.
pub(super) fn names(
    given: &[String],
    certificate: &X509Certificate<'_>,
) -> Result<Box<[Box<str>]>, OrderError> {
    if !given.is_empty() {
        return checked(given.iter().map(|name| Ok(name.clone())));
    }
    let extension = certificate.subject_alternative_name();
    let extension = extension.map_err(|_| refuse("of the certificate cannot be read"))?;
    let of_extension = extension.iter().flat_map(|extension| &extension.value.general_names);
    let found = checked(of_extension.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(Ok((*name).to_owned())),
        GeneralName::IPAddress(bytes) => Some(ip_address(bytes).map(|address| address.to_string())),
        GeneralName::Invalid(..) => Some(Err(refuse("of the certificate have odd bytes"))),
        _ => None,
    }))?;
    if !found.is_empty() {
        return Ok(found);
    }
    let common_name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    // A common name may be anything; only one that could be asked for is a name here.
    Ok(common_name.and_then(|name| check(name).ok()).into_iter().collect())
}

fn checked(names: impl Iterator<Item = Result<String, OrderError>>) -> Result<Box<[Box<str>]>, OrderError> {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for (nth, name) in names.enumerate() {
        if nth == NAMES_MAX {
            return Err(refuse(format!("are more than {NAMES_MAX}")));
        }
        let name = name?;
        let name = check(&name).map_err(|reason| OrderError::invalid(FIELD, &name, reason))?;
        if seen.insert(name.clone()) {
            kept.push(name);
        }
    }
    Ok(kept.into())
}

/// A host's name, with a star for its first label or without, or an address: in its usual form.
pub(in crate::order) fn check(name: &str) -> Result<Box<str>, &'static str> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(address.to_string().into());
    }
    if name.len() > HOST_BYTES_MAX {
        return Err("is longer than 253 bytes");
    }
    check_labels(name.strip_prefix("*.").unwrap_or(name))?;
    Ok(name.to_ascii_lowercase().into())
}

fn ip_address(bytes: &[u8]) -> Result<IpAddr, OrderError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(v4).into());
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => Ok(Ipv6Addr::from(v6).into()),
        Err(_) => Err(refuse(format!("of the certificate have an address of {} bytes", bytes.len()))),
    }
}

fn refuse(reason: impl Into<std::borrow::Cow<'static, str>>) -> OrderError {
    OrderError::plain(FIELD, reason)
}

/// Names in a text: the first ones, and how many more there are.
pub(super) fn shown(names: &[Box<str>]) -> String {
    match names {
        [] => "without a name".to_owned(),
        [only] => excerpt(only),
        [first, more @ ..] => format!("{} and {} more", excerpt(first), more.len()),
    }
}
