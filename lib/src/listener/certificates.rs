//! The certificates of each address, whatever listeners are there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use kakehi_command::order::{Certificate, CertificateKey};

use crate::tls::resolver::SharedCertificates;
use crate::tls::settings::entry;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct AddressCertificates {
    by_address: HashMap<SocketAddr, Arc<SharedCertificates>>,
}

impl AddressCertificates {
    /// The table of an address. What is added to it later is seen by whoever holds it.
    pub(super) fn table(&mut self, address: SocketAddr) -> Arc<SharedCertificates> {
        self.by_address.entry(address).or_default().clone()
    }

    /// Adds a certificate, or replaces what is known of it.
    pub(super) fn set(&mut self, certificate: &Arc<Certificate>) -> Result<(), String> {
        let entry = entry(certificate)
            .map_err(|error| format!("certificate {}: {error}", certificate.fingerprint()))?;
        self.by_address.entry(certificate.address()).or_default().change(|table| {
            table.remove(entry.fingerprint());
            table.insert(entry);
        });
        Ok(())
    }

    /// Removes a certificate.
    pub(super) fn remove(&mut self, key: &CertificateKey) {
        if let Some(table) = self.by_address.get(&key.address) {
            table.change(|table| table.remove(&key.fingerprint.0));
        }
        self.forget_unused();
    }

    /// Forgets tables that are empty and belong to no listener.
    pub(super) fn forget_unused(&mut self) {
        self.by_address
            .retain(|_, table| Arc::strong_count(table) > 1 || table.read(|table| !table.is_empty()));
    }
}
