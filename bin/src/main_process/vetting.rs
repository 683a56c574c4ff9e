//! What only main judges of a change: what depends on the time of day, and whether keys are those of their
//! certificates. Workers take its word for both, for reading a key costs up to a millisecond.
//!
//! Orders of a state or configuration that is loaded are held against their keys, but not against the time: a
//! proxy with an expired certificate still has to start, and says so every day (see [`super::expiry`]).

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kakehi_command::config::UnixSockets;
use kakehi_command::order::{BackendTls, Certificate, CertifiedKey, Order, date};
use kakehi_lib::tls::material::{Material, Source};
use kakehi_lib::tls::ocsp::Staple;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why a change is refused: shown to the client. `notes` tells what is odd.
pub(super) fn vet(order: &Order, unix_sockets: UnixSockets, notes: &mut Vec<String>) -> Result<(), String> {
    unix_sockets.allow(order)?;
    let now = unix_time();
    order.check_validity(now, notes).map_err(|error| error.to_string())?;
    match read_all(order)?.and_then(|staple| staple.next_update).filter(|end| *end < now) {
        Some(end) => Err(format!("ocsp_response is out of date since {}", date(end))),
        None => Ok(()),
    }
}

/// Whether each private key of an order is that of its certificate, and what is to be stapled is about it.
pub(super) fn vet_keys(order: &Order) -> Result<(), String> {
    read_all(order).map(drop)
}

/// The same, and what is to be stapled.
fn read_all(order: &Order) -> Result<Option<Staple>, String> {
    match order {
        Order::AddCertificate(certificate) | Order::ReplaceCertificate { new: certificate, .. } => {
            vet_certificate(certificate)
        }
        Order::AddHttpListener(listener) => {
            let own = listener.tls().and_then(|tls| tls.default_certificate());
            own.map_or(Ok(None), |certificate| vet_certificate(certificate))
        }
        Order::AddTcpListener(listener) => {
            let own = listener.tls().and_then(|tls| tls.default_certificate());
            own.map_or(Ok(None), |certificate| vet_certificate(certificate))
        }
        Order::AddCluster(cluster) => {
            let client = cluster.tls().and_then(BackendTls::client);
            client.map_or(Ok(None), |client| {
                read(client.clone(), None).map_err(|error| format!("tls.client_certificate: {error}"))
            })
        }
        _ => Ok(None),
    }
}

fn vet_certificate(certificate: &Certificate) -> Result<Option<Staple>, String> {
    let ocsp = certificate.ocsp_response().cloned();
    let result = read(certificate.certified().clone(), ocsp);
    result.map_err(|error| format!("certificate {}: {error}", certificate.shown()))
}

fn read(certified: CertifiedKey, ocsp: Option<Arc<[u8]>>) -> Result<Option<Staple>, String> {
    let material = Material::new(Arc::new(Presented { certified, ocsp }));
    material.map(|material| material.staple()).map_err(|error| error.to_string())
}

/// A certificate as it would be served.
#[derive(Debug)]
struct Presented {
    certified: CertifiedKey,
    ocsp: Option<Arc<[u8]>>,
}

impl Source for Presented {
    fn chain(&self) -> Vec<CertificateDer<'_>> {
        self.certified.chain().iter().map(|der| CertificateDer::from(&**der)).collect()
    }

    fn key(&self) -> PrivateKeyDer<'_> {
        self.certified.key().der()
    }

    fn ocsp_response(&self) -> Option<&[u8]> {
        self.ocsp.as_deref()
    }
}

/// Seconds since 1970, as certificates count.
#[expect(clippy::disallowed_methods, reason = "certificates expire by the time of day")]
pub(super) fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use kakehi_command::proto::{self, AddCertificate, CertificateAndKey, request::RequestType};
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn order(certificate: String, key: String, ocsp_response: Option<Vec<u8>>) -> Order {
        let certificate = CertificateAndKey {
            certificate,
            certificate_chain: Vec::new(),
            key,
            versions: Vec::new(),
            names: Vec::new(),
            ocsp_response,
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 443)).into();
        let added = AddCertificate { address, certificate, expired_at: None };
        let request = proto::Request { request_type: Some(RequestType::AddCertificate(added)) };
        Order::from_request(&request).unwrap()
    }

    fn check(order: &Order, expected: Result<(), &str>) {
        let outcome = vet(order, UnixSockets::Any, &mut Vec::new());
        match (&outcome, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            _ => panic!("{outcome:?}, not {expected:?}"),
        }
    }

    #[test]
    fn a_certificate_comes_with_its_own_key_and_in_time() {
        let ((certificate, key), (_, other)) = (made(4096), made(4096));
        check(&order(certificate.clone(), key.clone(), None), Ok(()));
        check(
            &order(certificate.clone(), other, None),
            Err("certificate `a.test`: the key does not match the certificate"),
        );
        check(&order(certificate, key, Some(vec![1])), Err("certificate `a.test`: the OCSP response"));
        let (expired, key) = made(2010);
        let expired = order(expired, key, None);
        check(&expired, Err("certificate `a.test` expired on Jan  1"));
        assert_eq!(vet_keys(&expired), Ok(()));
    }
}
