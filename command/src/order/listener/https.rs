//! HTTPS listeners as HTTP ones with TLS: their messages, which repeat those of HTTP under other numbers,
//! taken apart and put together.

use std::mem;

use super::{
    HttpListener, HttpListenerPatch, TlsSettings,
    patch::{shared_optional_settings, shared_required_settings},
    tls,
};
use crate::{order::OrderError, proto};

impl HttpListener {
    /// Checks an HTTPS listener that came from outside.
    ///
    /// # Errors
    /// As for an HTTP listener; and TLS that cannot work, or is not served yet.
    pub fn from_https_wire(mut wire: proto::HttpsListenerConfig) -> Result<Self, OrderError> {
        let shared = take_shared(&mut wire);
        let tls = TlsSettings::from_wire(wire, &shared.address)?;
        Ok(Self { tls: Some(tls.into()), ..Self::from_wire(shared)? })
    }

    /// The message of an HTTPS listener; none if it is an HTTP one. **Has the private key of its own
    /// certificate in the clear.**
    #[must_use]
    pub fn https_wire(&self) -> Option<proto::HttpsListenerConfig> {
        self.tls().map(|tls| self.join(tls.wire()))
    }

    /// The same without the private key, to be shown.
    #[must_use]
    pub fn public_https_wire(&self) -> Option<proto::HttpsListenerConfig> {
        self.tls().map(|tls| self.join(tls.public_wire()))
    }

    fn join(&self, tls: proto::HttpsListenerConfig) -> proto::HttpsListenerConfig {
        tls.with(self.wire.clone())
    }
}

impl proto::HttpsListenerConfig {
    /// The same with all that an HTTP listener has, too, from `shared`.
    #[must_use]
    pub fn with(mut self, shared: proto::HttpListenerConfig) -> Self {
        macro_rules! give {
            ($($field:ident),*) => {
                $(self.$field = shared.$field;)*
            };
        }
        shared_optional_settings!(give);
        shared_required_settings!(give);
        give!(address, interface, active, answers, http_answers, trusted_proxies, expect_proxy_from);
        self
    }
}

impl proto::UpdateHttpsListenerConfig {
    /// The same with all that a patch of an HTTP listener has, too, from `shared`.
    #[must_use]
    pub fn with(mut self, shared: proto::UpdateHttpListenerConfig) -> Self {
        macro_rules! give {
            ($($field:ident),*) => {
                $(self.$field = shared.$field;)*
            };
        }
        shared_optional_settings!(give);
        shared_required_settings!(give);
        give!(address, answers, http_answers, trusted_proxies, expect_proxy_from);
        self
    }
}

impl HttpListenerPatch {
    /// Checks a patch of an HTTPS listener that came from outside.
    ///
    /// # Errors
    /// As for a listener.
    pub fn from_https_wire(mut wire: proto::UpdateHttpsListenerConfig) -> Result<Self, OrderError> {
        tls::patch::check(&wire)?;
        let shared = take_shared_patch(&mut wire);
        Ok(Self { tls: Some(wire.into()), ..Self::from_wire(shared)? })
    }

    /// The message of a patch of an HTTPS listener; none if it is for an HTTP one.
    #[must_use]
    pub fn https_wire(&self) -> Option<proto::UpdateHttpsListenerConfig> {
        let tls = (**self.tls.as_ref()?).clone();
        Some(tls.with(self.wire.clone()))
    }

    /// Whether it changes how clients prove who they are.
    pub(in crate::order) fn changes_client_auth(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_auth_policy.is_some())
    }
}

/// Takes out what an HTTP listener has, too.
pub(super) fn take_shared(wire: &mut proto::HttpsListenerConfig) -> proto::HttpListenerConfig {
    let mut shared = proto::HttpListenerConfig::default();
    macro_rules! take {
        ($($field:ident),*) => {
            $(shared.$field = mem::take(&mut wire.$field);)*
        };
    }
    shared_optional_settings!(take);
    shared_required_settings!(take);
    take!(address, interface, active, answers, http_answers, trusted_proxies, expect_proxy_from);
    shared
}

/// Likewise of a patch.
pub(super) fn take_shared_patch(
    wire: &mut proto::UpdateHttpsListenerConfig,
) -> proto::UpdateHttpListenerConfig {
    let mut shared = proto::UpdateHttpListenerConfig::default();
    macro_rules! take {
        ($($field:ident),*) => {
            $(shared.$field = mem::take(&mut wire.$field);)*
        };
    }
    shared_optional_settings!(take);
    shared_required_settings!(take);
    take!(address, answers, http_answers, trusted_proxies, expect_proxy_from);
    shared
}
