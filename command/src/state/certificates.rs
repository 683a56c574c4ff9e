//! The certificates of a state, by address. Each issuer is kept once, however many leaves it has.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use crate::order::{Certificate, CertificateKey, Fingerprint};

/// See the module.
#[derive(Clone, Default, Debug)]
pub(super) struct Certificates {
    by_key: BTreeMap<CertificateKey, Arc<Certificate>>,
    /// How many certificates have it in their chain.
    issuers: BTreeMap<Arc<[u8]>, usize>,
}

impl Certificates {
    /// Files a certificate under its key. Gives it as it is filed, and what it took the place of.
    pub(super) fn set(
        &mut self,
        certificate: &Arc<Certificate>,
    ) -> (Arc<Certificate>, Option<Arc<Certificate>>) {
        let issuers = &mut self.issuers;
        let filed = match certificate.issuers() {
            [] => certificate.clone(),
            _ => Arc::new(certificate.with_issuers(|der| share(issuers, der))),
        };
        let before = self.by_key.insert(filed.key_in_state(), filed.clone());
        before.iter().for_each(|before| self.release(before));
        (filed, before)
    }

    pub(super) fn remove(&mut self, key: &CertificateKey) -> Option<Arc<Certificate>> {
        let certificate = self.by_key.remove(key)?;
        self.release(&certificate);
        Some(certificate)
    }

    fn release(&mut self, certificate: &Certificate) {
        for issuer in certificate.issuers() {
            match self.issuers.get_mut(issuer) {
                Some(users) if *users > 1 => *users -= 1,
                _ => drop(self.issuers.remove(issuer)),
            }
        }
    }

    pub(super) fn get(&self, key: &CertificateKey) -> Option<&Arc<Certificate>> {
        self.by_key.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.by_key.values()
    }

    pub(super) fn at(&self, address: SocketAddr) -> impl Iterator<Item = &Arc<Certificate>> {
        let lowest = CertificateKey { address, fingerprint: Fingerprint([0; 32]) };
        self.by_key.range(lowest..).map(|(_, it)| it).take_while(move |it| it.address() == address)
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// See [`super::ConfigState::check_invariants`].
    pub(super) fn check_invariants(&self) {
        let mut users: BTreeMap<&Arc<[u8]>, usize> = BTreeMap::new();
        for (key, certificate) in &self.by_key {
            assert_eq!(key, &certificate.key_in_state(), "a certificate is filed under its own key");
            for issuer in certificate.issuers() {
                *users.entry(issuer).or_default() += 1;
                let (kept, _) = self.issuers.get_key_value(issuer).expect("an issuer in use is kept");
                assert!(Arc::ptr_eq(kept, issuer), "and shared");
            }
        }
        assert!(self.issuers.iter().eq(users.iter().map(|(issuer, users)| (*issuer, users))), "and counted");
    }
}

impl PartialEq for Certificates {
    fn eq(&self, other: &Self) -> bool {
        self.by_key == other.by_key
    }
}

fn share(issuers: &mut BTreeMap<Arc<[u8]>, usize>, der: &Arc<[u8]>) -> Arc<[u8]> {
    let kept = issuers.get_key_value(der).map_or_else(|| der.clone(), |(kept, _)| kept.clone());
    *issuers.entry(kept.clone()).or_default() += 1;
    kept
}
