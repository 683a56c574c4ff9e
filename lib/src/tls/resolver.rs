//! What rustls asks for a certificate in each handshake.
//!
//! A name that no certificate of the address is for, or none at all, gets the listener's default certificate.
//! Without a default the handshake is refused, as an operator expects who has configured no certificate for
//! it: any other certificate would end in a warning that names a stranger's site. (rustls then sends
//! `access_denied`; see [`Choice::Refused`].)

use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificates::{Certificates, Entry};
use super::clock::Clock;
use super::material::MaterialError;
use super::names::{covers, is_same_host};
use super::slot::Slot;

/// The certificates of an address, shared by its listeners and the orders that change them. A change is
/// seen by the next handshake, and by none in part.
#[derive(Debug, Default)]
pub struct SharedCertificates(RwLock<Certificates>);

impl SharedCertificates {
    /// Looks at the certificates.
    pub fn read<R>(&self, read: impl FnOnce(&Certificates) -> R) -> R {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the certificates; however much is changed, it is one step.
    pub fn change<R>(&self, change: impl FnOnce(&mut Certificates) -> R) -> R {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Chooses certificates for one listener.
#[derive(Debug)]
pub struct Resolver {
    certificates: Arc<SharedCertificates>,
    default: Option<Arc<Entry>>,
    clock: Arc<Clock>,
    choices: Arc<Choices>,
}

impl Resolver {
    /// Chooses among `certificates`, or else `default`, and tells `choices` each time.
    pub fn new(
        certificates: Arc<SharedCertificates>,
        default: Option<Arc<Entry>>,
        clock: Arc<Clock>,
        choices: Arc<Choices>,
    ) -> Self {
        Self { certificates, default, clock, choices }
    }

    fn find(&self, hello: &ClientHello<'_>) -> Option<Served> {
        let now = self.clock.unix_seconds();
        let found = hello.server_name().and_then(|name| {
            self.certificates.read(|table| table.resolve(name, hello.signature_schemes(), now).cloned())
        });
        let server_name = hello.server_name().map(Box::from);
        match (found, &self.default) {
            (Some(entry), _) => Some(Served { entry, is_default: false, server_name }),
            (None, Some(entry)) => Some(Served { entry: entry.clone(), is_default: true, server_name }),
            (None, None) => None,
        }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (choice, certified) = match self.find(&hello) {
            None => (Choice::Refused, None),
            Some(served) => match served.entry.material().certified(self.clock.unix_seconds()) {
                Ok(certified) => (Choice::Served(served), Some(certified)),
                Err(error) => (Choice::Unusable(served.entry, error), None),
            },
        };
        self.choices.last.update(|last| *last = Some(choice));
        certified
    }
}

/// The choice of the handshake under way. One for all listeners of a worker: whoever drives a handshake takes
/// it after each call into rustls.
#[derive(Debug, Default)]
pub struct Choices {
    last: Slot<Option<Choice>>,
    identity_end: Slot<Option<u64>>,
}

impl Choices {
    /// What was chosen since the last time, if anything. When a client is asked for another hello (RFC 8446
    /// §4.1.4) there is a choice for each, and the last one counts. A session that is resumed has one, too:
    /// what a full handshake would have been served with.
    pub fn take(&self) -> Option<Choice> {
        self.last.take()
    }

    /// Until when it may be believed that the client is who it has shown to be, in seconds since 1970; none: it has
    /// shown nothing. Whoever drives a handshake sets it before each call into rustls, and takes it after it.
    pub fn set_identity_end(&self, end: Option<u64>) {
        self.identity_end.update(|it| *it = end);
    }

    /// What was set last; nothing is left behind.
    pub fn take_identity_end(&self) -> Option<u64> {
        self.identity_end.take()
    }
}

/// What a client is served with.
#[derive(Debug, Clone)]
pub enum Choice {
    /// A certificate.
    Served(Served),
    /// None, for want of the key of this one. The main process has read the key before, so it is our fault.
    Unusable(Arc<Entry>, MaterialError),
    /// The name it sent is unknown, or it sent none, and there is no default. The handshake fails, and of the
    /// error of rustls this is the reason.
    Refused,
}

/// The certificate of a connection.
#[derive(Debug, Clone)]
pub struct Served {
    /// The certificate.
    pub entry: Arc<Entry>,
    /// Whether it is the listener's default, for want of one for the client's name.
    pub is_default: bool,
    /// The name that the client asked for.
    pub server_name: Option<Box<str>>,
}

impl Served {
    /// Whether a request may be for `host` (without port), if authority and certificate must agree: `host` is covered
    /// by the certificate's names. If the default was served for a name that it need not cover, `host` is that name.
    pub fn covers(&self, host: &str) -> bool {
        match self.server_name.as_deref() {
            Some(server_name) if self.is_default => is_same_host(server_name, host),
            _ => covers(self.entry.names(), host),
        }
    }
}
