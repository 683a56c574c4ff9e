//! Messages that hold private keys: they show themselves without, and wipe them when they are dropped.
//!
//! What a frame's buffer held is not theirs to wipe, and `HttpsListenerConfig` is left out of the wiping:
//! the key of a listener's own certificate is wiped where it is checked.

use std::fmt;

use zeroize::Zeroize;

use super::{
    BackendTls, CertificateAndKey, HealthCheckHeaderValue, HttpsListenerConfig, hand_over,
    supervision::{ProbeSecret, TicketKey},
};

impl fmt::Debug for CertificateAndKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAndKey")
            .field("certificate", &self.certificate)
            .field("certificate_chain", &self.certificate_chain)
            .field("versions", &self.versions)
            .field("names", &self.names)
            .field("ocsp_response", &self.ocsp_response)
            .finish_non_exhaustive()
    }
}

impl Drop for CertificateAndKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

// What has been read and not understood yet may be anything.
impl fmt::Debug for hand_over::Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("fd", &self.fd).field("task", &self.task).finish_non_exhaustive()
    }
}

impl fmt::Debug for hand_over::Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("id", &self.id).field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl fmt::Debug for hand_over::Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpsListenerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsListenerConfig")
            .field("address", &self.address)
            .field("interface", &self.interface)
            .field("active", &self.active)
            .field("versions", &self.versions)
            .field("cipher_list", &self.cipher_list)
            .field("groups_list", &self.groups_list)
            .field("alpn_protocols", &self.alpn_protocols)
            .field("client_auth", &self.client_auth)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HealthCheckHeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthCheckHeaderValue").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for HealthCheckHeaderValue {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl fmt::Debug for ProbeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeSecret").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl Drop for ProbeSecret {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl fmt::Debug for BackendTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendTls")
            .field("enabled", &self.enabled)
            .field("server_name", &self.server_name)
            .field("skip_verification", &self.skip_verification)
            .field("client_certificate", &self.client_certificate)
            .field("alpn", &self.alpn)
            .finish_non_exhaustive()
    }
}

impl Drop for BackendTls {
    fn drop(&mut self) {
        self.client_key.zeroize();
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey").field("created_at", &self.created_at).finish_non_exhaustive()
    }
}

impl Drop for TicketKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_shown() {
        let mut certificate = CertificateAndKey::default();
        certificate.key = "SECRET".into();
        let mut backend = BackendTls::default();
        backend.client_key = Some("SECRET".into());
        let shown = [
            format!("{certificate:?}"),
            format!("{:?}", HttpsListenerConfig { key: Some("SECRET".into()), ..Default::default() }),
            format!("{backend:?}"),
            format!("{:?}", TicketKey { name: vec![1], secret: b"SECRET".into(), created_at: 1 }),
        ];
        for text in shown {
            assert!(!text.contains("SECRET") && !text.contains("83, 69"), "{text}");
        }
    }
}
