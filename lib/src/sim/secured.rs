//! A listener that speaks TLS: what it is told, and what its clients may meet.

use std::time::Duration;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    HttpListenerConfig, HttpsListenerConfig, ListenerType, Request, TlsVersion, UpdateHttpsListenerConfig,
};
use rustls::{AlertDescription, Error};

use super::certificates::{Shelf, default_certificate};
use super::ledger::Rules;
use super::rng::Rng;
use super::tls::Handshaken;
use crate::metrics::{Metric, Metrics};
use crate::tls::ticket_keys::{LIFETIME_DEFAULT, TicketKey, TicketKeys};

/// How the listener of a run speaks TLS. Drawn once.
#[derive(Debug, Clone, Copy)]
pub(super) struct TlsTerms {
    /// Host and certificate have to agree.
    pub(super) strict: bool,
    pub(super) has_default: bool,
    /// Speaks TLS 1.2 as well.
    pub(super) old: bool,
    /// How long a handshake may take.
    pub(super) handshake_seconds: u32,
    pub(super) tickets: u64,
}

impl TlsTerms {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        Self {
            strict: rng.percent(60),
            has_default: rng.percent(50),
            old: rng.percent(70),
            handshake_seconds: rng.pick(&[2, 10]),
            tickets: rng.pick(&[0, 1, 2, 4]),
        }
    }

    /// The same orders, for a listener that speaks TLS.
    pub(super) fn secure(&self, requests: &[Request]) -> Vec<Request> {
        let secure = |request: &Request| {
            let secured = match request.request_type.clone() {
                Some(RequestType::AddHttpListener(config)) => {
                    Some(RequestType::AddHttpsListener(self.listener(config)))
                }
                Some(RequestType::UpdateHttpListener(update)) => {
                    Some(RequestType::UpdateHttpsListener(UpdateHttpsListenerConfig {
                        address: update.address,
                        front_timeout: update.front_timeout,
                        back_timeout: update.back_timeout,
                        request_timeout: update.request_timeout,
                        ..UpdateHttpsListenerConfig::default()
                    }))
                }
                Some(RequestType::AddHttpFrontend(it)) => Some(RequestType::AddHttpsFrontend(it)),
                Some(RequestType::RemoveHttpFrontend(it)) => Some(RequestType::RemoveHttpsFrontend(it)),
                Some(RequestType::ActivateListener(mut it)) => {
                    it.proxy = ListenerType::Https.into();
                    Some(RequestType::ActivateListener(it))
                }
                Some(RequestType::DeactivateListener(mut it)) => {
                    it.proxy = ListenerType::Https.into();
                    Some(RequestType::DeactivateListener(it))
                }
                Some(RequestType::RemoveListener(mut it)) => {
                    it.proxy = ListenerType::Https.into();
                    Some(RequestType::RemoveListener(it))
                }
                other => other,
            };
            Request { request_type: secured }
        };
        requests.iter().map(secure).collect()
    }

    #[expect(
        clippy::field_reassign_with_default,
        reason = "it is wiped when dropped: no other way to build it"
    )]
    pub(super) fn listener(&self, plain: HttpListenerConfig) -> HttpsListenerConfig {
        let (certificate, key) = default_certificate();
        let mut versions = vec![TlsVersion::TlsV13.into()];
        versions.extend(self.old.then_some(i32::from(TlsVersion::TlsV12)));
        let mut secured = HttpsListenerConfig::default();
        secured.address = plain.address;
        secured.front_timeout = plain.front_timeout;
        secured.back_timeout = plain.back_timeout;
        secured.connect_timeout = plain.connect_timeout;
        secured.request_timeout = plain.request_timeout;
        secured.max_body_bytes = plain.max_body_bytes;
        secured.min_transfer_rate = plain.min_transfer_rate;
        secured.tunnel_timeout = plain.tunnel_timeout;
        secured.trusted_proxies = plain.trusted_proxies;
        secured.forwarded_headers = plain.forwarded_headers;
        secured.send_x_real_ip = plain.send_x_real_ip;
        secured.elide_x_real_ip = plain.elide_x_real_ip;
        secured.trace_context = plain.trace_context;
        secured.answers = plain.answers;
        secured.versions = versions;
        secured.certificate = self.has_default.then_some(certificate);
        secured.key = self.has_default.then_some(key);
        secured.strict_sni_binding = Some(self.strict);
        secured.handshake_timeout = Some(self.handshake_seconds);
        secured.max_handshakes_per_source = Some(0);
        secured.send_tls13_tickets = self.tickets;
        secured
    }
}

/// What session tickets are sealed with.
pub(super) fn ticket_keys() -> TicketKeys {
    let key = TicketKey { name: [1; 16], secret: [2; 32], created_at: 1_700_000_000 };
    TicketKeys::new(vec![key], LIFETIME_DEFAULT)
}

/// What clients saw of handshakes, and what they may see.
#[derive(Debug)]
pub(super) struct Handshakes {
    strict: bool,
    /// What was served, from each change of certificates on.
    shelves: Vec<Shelf>,
    /// Handshakes that got an answer: the proxy may have come to the end of them, whether the client has or not.
    answered: i64,
    /// Of these, such as the proxy came to the end of as well: it sent something behind it.
    confirmed: i64,
    resumed: i64,
    /// Clients that were refused a certificate.
    refused: i64,
    /// Hellos that were spoilt: they may have asked for any name.
    spoilt: i64,
    /// Handshakes that took too long, and how long that is.
    timed_out: i64,
    time: Duration,
}

impl Handshakes {
    pub(super) fn new(terms: &TlsTerms, shelf: Shelf) -> Self {
        Self {
            strict: terms.strict,
            shelves: vec![shelf],
            answered: 0,
            confirmed: 0,
            resumed: 0,
            refused: 0,
            spoilt: 0,
            timed_out: 0,
            time: Duration::from_secs(terms.handshake_seconds.into()),
        }
    }

    /// How long a handshake may take.
    pub(super) fn time(&self) -> Duration {
        self.time
    }

    /// A handshake was ended for having taken so long.
    pub(super) fn time_out(&mut self) {
        self.timed_out += 1;
    }

    /// A hello was not what its client meant, or what became of it is not known.
    pub(super) fn spoil(&mut self) {
        self.spoilt += 1;
    }

    /// What is served from now on; gives the number of the change.
    pub(super) fn changed(&mut self, shelf: Shelf) -> usize {
        self.shelves.push(shelf);
        self.shelves.len() - 1
    }

    pub(super) fn shelf(&self) -> Shelf {
        self.shelves[self.shelves.len() - 1]
    }

    /// The first of the proxy's answer came.
    pub(super) fn answer(&mut self) {
        self.answered += 1;
    }

    /// A client is through with its handshake: it was shown what was served when it was answered.
    pub(super) fn complete(&mut self, done: &Handshaken) -> Result<(), String> {
        self.resumed += i64::from(done.resumed);
        let shown = done.shown.ok_or("a certificate of nobody's")?;
        match self.shelves[done.era].shown(done.sni) {
            None => Err(format!("{:?} was shown {shown:?}, where there was none for it", done.sni)),
            // Resumed: it was shown one earlier.
            Some(due) if shown != due && !done.resumed => {
                Err(format!("{:?} was shown {shown:?} instead of {due:?}", done.sni))
            }
            Some(_) => Ok(()),
        }
    }

    /// Something came behind a handshake.
    pub(super) fn confirm(&mut self) {
        self.confirmed += 1;
    }

    /// Whether a request for this host is refused on that connection.
    pub(super) fn misdirects(&self, done: &Handshaken, host: &str) -> bool {
        let shown = self.shelves[done.era].shown(done.sni);
        self.strict && shown.is_some_and(|shown| !shown.fits(done.sni, host))
    }

    /// A client's TLS broke. True if it was refused, for want of a certificate.
    pub(super) fn check_broken(
        &mut self,
        error: &Error,
        (sni, era): (Option<&str>, Option<usize>),
        established: bool,
        rules: &Rules,
    ) -> Result<bool, String> {
        let unserved = era.is_some_and(|era| self.shelves[era].shown(sni).is_none());
        match error {
            Error::AlertReceived(AlertDescription::AccessDenied) if unserved && !established => {
                self.refused += 1;
                Ok(true)
            }
            // As many handshakes, or connections, as there may be.
            Error::AlertReceived(AlertDescription::InternalError) if rules.scarce && !established => {
                Ok(false)
            }
            _ => Err(format!("TLS, asking for {sni:?}: {error:?}")),
        }
    }

    /// What the worker counted is what clients saw.
    pub(super) fn check_metrics(&self, metrics: &Metrics, rules: &Rules) -> Result<(), String> {
        let done = metrics.get(Metric::TlsHandshakesDone);
        if done < self.confirmed || done > self.answered {
            return Err(format!("{done} handshakes counted, of {} to {}", self.confirmed, self.answered));
        }
        let resumed = metrics.get(Metric::TlsHandshakesResumed);
        if resumed > self.resumed {
            return Err(format!("{resumed} resumed handshakes counted, of {}", self.resumed));
        }
        let refused = metrics.get(Metric::TlsFailedNoCertificate);
        if refused < self.refused || (refused > self.refused + self.spoilt && !rules.faults) {
            return Err(format!("{refused} counted without a certificate, of {}", self.refused));
        }
        let timeouts = metrics.get(Metric::TlsHandshakeTimeouts);
        if timeouts < self.timed_out {
            return Err(format!("{timeouts} handshakes counted that took too long, of {}", self.timed_out));
        }
        let versions = metrics.get(Metric::TlsVersion12) + metrics.get(Metric::TlsVersion13);
        if versions != done {
            return Err(format!("{versions} handshakes of a version, of {done}"));
        }
        Ok(())
    }
}
