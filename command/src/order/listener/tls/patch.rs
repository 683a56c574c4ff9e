//! What a patch of an HTTPS listener says about TLS. All values are checked before any is written.

use super::{ClientAuth, check_early_data, check_name, check_positive, note_alpn, suite};
use crate::{
    order::{Hsts, OrderError},
    proto,
};

/// Checks values that can be wrong whatever the listener is.
pub(in crate::order::listener) fn check(wire: &proto::UpdateHttpsListenerConfig) -> Result<(), OrderError> {
    if let Some(alpn) = &wire.alpn_protocols {
        suite::alpn("alpn_protocols", &alpn.values)?;
    }
    if wire.disable_http11 == Some(true) {
        return Err(OrderError::NotServed { what: "listeners without HTTP/1.1 (disable_http11) are" });
    }
    wire.hsts.map(Hsts::from_wire).transpose()?;
    if let Some(policy) = &wire.client_auth_policy {
        ClientAuth::from_wire(policy.client_auth, &policy.client_ca_certificates, &policy.client_ca_crls)?;
    }
    let subject_header = wire.client_subject_header.as_deref().filter(|name| !name.is_empty());
    check_name("client_subject_header", subject_header)?;
    check_early_data(wire.max_early_data)?;
    check_positive("handshake_timeout", wire.handshake_timeout.map(u64::from))
}

pub(in crate::order::listener) fn check_validity(
    wire: &proto::UpdateHttpsListenerConfig,
    now: i64,
) -> Result<(), OrderError> {
    let Some(policy) = &wire.client_auth_policy else { return Ok(()) };
    let auth =
        ClientAuth::from_wire(policy.client_auth, &policy.client_ca_certificates, &policy.client_ca_crls)?;
    auth.map_or(Ok(()), |auth| auth.check_validity(now))
}

pub(in crate::order::listener) fn notes(wire: &proto::UpdateHttpsListenerConfig, notes: &mut Vec<String>) {
    if let Some(alpn) = &wire.alpn_protocols {
        note_alpn(&alpn.values, notes);
    }
    if let Some(Ok(hsts)) = wire.hsts.map(Hsts::from_wire) {
        hsts.notes(notes);
    }
}

/// Names each setting that patch and listener have under one name.
macro_rules! tls_settings {
    ($apply:ident) => {
        $apply!(
            strict_sni_binding,
            disable_http11,
            hsts,
            max_early_data,
            handshake_timeout,
            max_handshakes_per_source,
            client_subject_header
        )
    };
}

/// Writes what is set. The client's authentication is replaced as a whole.
pub(in crate::order::listener) fn apply(
    patch: &proto::UpdateHttpsListenerConfig,
    tls: &mut proto::HttpsListenerConfig,
) {
    macro_rules! set {
        ($($field:ident),*) => {
            $(if patch.$field.is_some() {
                tls.$field = patch.$field.clone();
            })*
        };
    }
    tls_settings!(set);
    if let Some(alpn) = &patch.alpn_protocols {
        tls.alpn_protocols = alpn.values.clone();
    }
    if let Some(policy) = &patch.client_auth_policy {
        tls.client_auth = policy.client_auth;
        tls.client_ca_certificates = policy.client_ca_certificates.clone();
        tls.client_ca_crls = policy.client_ca_crls.clone();
    }
}

/// Says all in which `to` differs, as far as a patch can say it.
pub(in crate::order::listener) fn between(
    from: &proto::HttpsListenerConfig,
    to: &proto::HttpsListenerConfig,
) -> proto::UpdateHttpsListenerConfig {
    let mut patch = proto::UpdateHttpsListenerConfig::default();
    macro_rules! take {
        ($($field:ident),*) => {
            $(if from.$field != to.$field {
                patch.$field = to.$field.clone();
            })*
        };
    }
    tls_settings!(take);
    if from.client_subject_header != to.client_subject_header {
        // Nothing said is nothing changed: an empty name takes the header away.
        patch.client_subject_header = Some(to.client_subject_header.clone().unwrap_or_default());
    }
    if from.alpn_protocols != to.alpn_protocols {
        patch.alpn_protocols = Some(proto::AlpnProtocols { values: to.alpn_protocols.clone() });
    }
    let policy = |wire: &proto::HttpsListenerConfig| proto::ClientAuthPolicy {
        client_auth: wire.client_auth,
        client_ca_certificates: wire.client_ca_certificates.clone(),
        client_ca_crls: wire.client_ca_crls.clone(),
    };
    let (before, after) = (policy(from), policy(to));
    patch.client_auth_policy = (before != after).then_some(after);
    patch
}
