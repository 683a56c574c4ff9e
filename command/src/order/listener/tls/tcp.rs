//! What of the TLS settings a TCP listener has: all that a handshake needs, and nothing that is about HTTP.
//!
//! They come in the messages of HTTPS listeners. What those have beyond TLS is refused if it is set, and
//! ignored where the message can't do without it (timeouts, cookie name): the listener has its own.

use super::{Protocols, TlsSettings, check_positive, suite};
use crate::{
    order::{
        ClientAuth, OrderError,
        listener::{
            https::{take_shared, take_shared_patch},
            patch::shared_optional_settings,
        },
    },
    proto,
};

/// The predicate of every refusal.
const OF_HTTP: &str = "is about HTTP: a TCP listener has no use for it";

const NOT_OF_TLS: &str = "is not about TLS: the listener has a field of its own for it";

/// Refuses each of these fields of a message if it is set.
macro_rules! refuse_set {
    ($wire:ident: $($field:ident),*) => {
        refuse_set!(OF_HTTP, $wire: $($field),*)
    };
    ($reason:expr, $wire:ident: $($field:ident),*) => {
        $(if $wire.$field.is_some() {
            return Err(OrderError::plain(concat!("tls.", stringify!($field)), $reason));
        })*
    };
}

impl TlsSettings {
    /// Checks what of a TCP listener's message is about TLS.
    pub(in crate::order::listener) fn from_tcp_wire(
        mut wire: proto::HttpsListenerConfig,
        address: &proto::SocketAddress,
    ) -> Result<Self, OrderError> {
        let shared = take_shared(&mut wire);
        macro_rules! refuse_shared {
            ($($field:ident),*) => {
                refuse_set!(shared: $($field),*)
            };
        }
        refuse_set!(
            NOT_OF_TLS,
            shared: rate_limits, max_connections, max_connections_per_source, max_accept_rate, over_limit
        );
        shared_optional_settings!(refuse_shared);
        refuse_set!(shared: http_answers);
        if !shared.answers.is_empty() {
            return Err(OrderError::plain("tls.answers", OF_HTTP));
        }
        if !shared.trusted_proxies.is_empty() {
            return Err(OrderError::plain("tls.trusted_proxies", OF_HTTP));
        }
        if !shared.expect_proxy_from.is_empty() {
            return Err(OrderError::plain("tls.expect_proxy_from", NOT_OF_TLS));
        }
        // Said with nothing, as by leaving it out.
        wire.client_subject_header = wire.client_subject_header.filter(|name| !name.is_empty());
        wire.max_early_data = wire.max_early_data.filter(|bytes| *bytes > 0);
        refuse_set!(wire: hsts, client_subject_header, strict_sni_binding, disable_http11);
        refuse_early_data(wire.max_early_data)?;
        let names = suite::alpn_names("alpn_protocols", &wire.alpn_protocols)?;
        Self::checked(wire, address, Protocols::Named(names.into()))
    }
}

/// Checks what of a patch of a TCP listener is about TLS, and gives that.
pub(in crate::order::listener) fn patch_from_wire(
    mut wire: proto::UpdateHttpsListenerConfig,
) -> Result<proto::UpdateHttpsListenerConfig, OrderError> {
    let shared = take_shared_patch(&mut wire);
    macro_rules! refuse_shared {
        ($($field:ident),*) => {
            refuse_set!(shared: $($field),*)
        };
    }
    refuse_set!(
        NOT_OF_TLS,
        shared: rate_limits, max_connections, max_connections_per_source, max_accept_rate, over_limit
    );
    shared_optional_settings!(refuse_shared);
    refuse_set!(shared: http_answers, trusted_proxies);
    if shared.expect_proxy_from.is_some() {
        return Err(OrderError::plain("tls.expect_proxy_from", NOT_OF_TLS));
    }
    if !shared.answers.is_empty() {
        return Err(OrderError::plain("tls.answers", OF_HTTP));
    }
    wire.client_subject_header = wire.client_subject_header.filter(|name| !name.is_empty());
    wire.max_early_data = wire.max_early_data.filter(|bytes| *bytes > 0);
    refuse_set!(wire: hsts, client_subject_header, strict_sni_binding, disable_http11);
    refuse_early_data(wire.max_early_data)?;
    if let Some(alpn) = &wire.alpn_protocols {
        suite::alpn_names("alpn_protocols", &alpn.values)?;
    }
    if let Some(policy) = &wire.client_auth_policy {
        ClientAuth::from_wire(policy.client_auth, &policy.client_ca_certificates, &policy.client_ca_crls)?;
    }
    check_positive("handshake_timeout", wire.handshake_timeout.map(u64::from))?;
    Ok(wire)
}

/// What it can be played back into is bytes: nobody could tell what they do.
fn refuse_early_data(bytes: Option<u32>) -> Result<(), OrderError> {
    match bytes {
        Some(_) => Err(OrderError::plain(
            "tls.max_early_data",
            "is not for TCP listeners: early data can be played back, and only HTTP can tell what it does",
        )),
        None => Ok(()),
    }
}
