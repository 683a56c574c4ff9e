//! Certificates that are about to expire: a line in the log and an event for each address, once a day.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kakehi_command::order::{Certificate, date};
use kakehi_command::proto::{Event, EventKind};
use kakehi_command::state::ConfigState;

use super::supervisor::Supervisor;
use super::vetting::unix_time;

/// How long before a certificate expires its operator is warned: renewals by ACME are due twice as early, so
/// that one that is this late has failed for weeks.
const WARNED_BEFORE: Duration = Duration::from_secs(14 * 24 * 3600);
/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Certificates that are named in the log; the rest are counted.
const NAMED_MAX: usize = 20;

/// When to look next.
#[derive(Debug)]
pub(super) struct Expiry {
    look_at: Instant,
}

impl Expiry {
    pub(super) fn new(now: Instant) -> Self {
        Self { look_at: now }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.look_at
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.look_at <= now;
        if due {
            self.look_at = now + LOOK_EVERY;
        }
        due
    }
}

impl Supervisor {
    /// Looks once a day.
    pub(super) fn look_for_expiry(&mut self) {
        if !self.expiry.is_due(self.now) {
            return;
        }
        let now = unix_time();
        let expiring = expiring(&self.configuration.state, now);
        for (certificate, address) in expiring.iter().take(NAMED_MAX) {
            let what = if certificate.not_after() < now { "has expired on" } else { "expires on" };
            let (names, date) = (certificate.shown(), date(certificate.not_after()));
            log::warn!("the certificate {names} at {address} {what} {date}");
        }
        if let Some(more) = expiring.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
            log::warn!("{more} more certificates are about to expire");
        }
        let addresses: BTreeMap<_, _> = expiring.iter().map(|(_, address)| (*address, ())).collect();
        for address in addresses.into_keys() {
            let kind = EventKind::CertificateExpiring.into();
            self.publish("main", Event { kind, address: Some(address.into()), ..Event::default() });
        }
    }
}

/// Those that expire soon, or have, with the address they are served at; the first to expire comes first.
fn expiring(state: &ConfigState, now: i64) -> Vec<(&Arc<Certificate>, SocketAddr)> {
    let limit = now.saturating_add(i64::try_from(WARNED_BEFORE.as_secs()).unwrap_or(i64::MAX));
    let mut expiring: Vec<_> = all(state).filter(|(it, _)| it.not_after() <= limit).collect();
    expiring.sort_by_key(|(certificate, _)| certificate.not_after());
    expiring
}

/// When the first of all certificates expires, in seconds since 1970.
pub(super) fn first(state: &ConfigState) -> Option<i64> {
    all(state).map(|(certificate, _)| certificate.not_after()).min()
}

/// Those of addresses, and those that listeners have of their own.
fn all(state: &ConfigState) -> impl Iterator<Item = (&Arc<Certificate>, SocketAddr)> {
    let own = state
        .http_listeners()
        .filter_map(|listener| Some((listener.tls()?.default_certificate()?, listener.address())));
    let of_tcp = state
        .tcp_listeners()
        .filter_map(|listener| Some((listener.tls()?.default_certificate()?, listener.address())));
    state.certificates().map(|certificate| (certificate, certificate.address())).chain(own).chain(of_tcp)
}

#[cfg(test)]
mod tests {
    use kakehi_command::order::Order;
    use kakehi_command::proto::{AddCertificate, CertificateAndKey, Request, request::RequestType};
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn add(name: &str, until: i32) -> Order {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = CertificateAndKey {
            certificate: params.self_signed(&key).unwrap().pem(),
            certificate_chain: Vec::new(),
            key: key.serialize_pem(),
            versions: Vec::new(),
            names: Vec::new(),
            ocsp_response: None,
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 443)).into();
        let added = AddCertificate { address, certificate, expired_at: None };
        Order::from_request(&Request { request_type: Some(RequestType::AddCertificate(added)) }).unwrap()
    }

    #[test]
    fn who_expires_first_is_named_first_and_who_lasts_is_not() {
        let mut state = ConfigState::default();
        assert_eq!(first(&state), None);
        for order in [add("c.test", 2012), add("b.test", 2011), add("a.test", 2010)] {
            state.apply(&order).unwrap();
        }
        // 2011-01-01, less thirteen days.
        let now = 1_293_840_000 - 13 * 24 * 3600;
        let names: Vec<_> = expiring(&state, now).iter().map(|(it, _)| it.shown()).collect();
        assert_eq!(names, ["`a.test`", "`b.test`"]);
        assert_eq!(first(&state), Some(1_262_304_000));
        assert_eq!(expiring(&state, 0).len(), 0);
    }

    #[test]
    fn it_is_time_to_look_once_a_day() {
        let now = super::super::supervisor::read_clock();
        let mut expiry = Expiry::new(now);
        assert!(expiry.is_due(now));
        assert!(!expiry.is_due(now + LOOK_EVERY / 2));
        assert!(expiry.is_due(now + LOOK_EVERY));
    }
}
