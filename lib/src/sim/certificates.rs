//! The certificates of a secured listener, and a plain reading of which one a client is to be shown.
//!
//! They are made of fixed keys, once a process: the same in each, to the last byte. Each kind has several
//! generations, one of which is served at a time, if any is.

use std::fmt;
use std::sync::LazyLock;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    AddCertificate, CertificateAndKey, RemoveCertificate, ReplaceCertificate, Request,
};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls_pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest, Sha256};

use super::orders::front_address;
use super::rng::Rng;

/// Of each kind of certificate.
const GENERATIONS: usize = 3;

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Every host but one.
    Lasting,
    /// That one, by its name.
    Sometimes,
    /// All of them, by a wildcard.
    Wild,
    /// A host that nobody asks for; for who asks for none, or for one that there is no certificate for.
    Default,
}

const HOSTS: [&str; 12] = [
    "a.test",
    "edited.test",
    "old.test",
    "guarded.test",
    "denied.test",
    "moved-301.test",
    "moved-302.test",
    "moved-308.test",
    "secure.test",
    "silent.test",
    "nowhere.test",
    "lasting.test",
];

const SOMETIMES: &str = "sometimes.test";

impl Kind {
    fn names(self) -> Vec<String> {
        match self {
            Kind::Lasting => HOSTS.map(str::to_owned).into(),
            Kind::Sometimes => vec![SOMETIMES.to_owned()],
            Kind::Wild => vec!["*.test".to_owned()],
            Kind::Default => vec!["default.example".to_owned()],
        }
    }

    fn covers(self, host: &str) -> bool {
        match self {
            Kind::Lasting => HOSTS.contains(&host),
            Kind::Sometimes => host == SOMETIMES,
            Kind::Wild => host.strip_suffix(".test").is_some_and(|label| !label.contains('.')),
            Kind::Default => host == "default.example",
        }
    }
}

/// A certificate, in each form that somebody wants it in.
struct Made {
    der: Vec<u8>,
    pem: String,
    key: String,
}

static MADE: LazyLock<Vec<Vec<Made>>> = LazyLock::new(|| {
    let kinds = [Kind::Lasting, Kind::Sometimes, Kind::Wild, Kind::Default];
    kinds.iter().map(|&kind| (0..GENERATIONS).map(|generation| make(kind, generation)).collect()).collect()
});

fn make(kind: Kind, generation: usize) -> Made {
    let number = u8::try_from(kind as usize * GENERATIONS + generation + 1).expect("few");
    // RFC 8410 §7: version, algorithm, and the key in an octet string within another.
    let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pkcs8.extend([number; 32]);
    let key = PrivatePkcs8KeyDer::from(pkcs8);
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).expect("a key of Ed25519");
    let mut params = CertificateParams::new(kind.names()).expect("names");
    params.serial_number = Some(u64::from(number).into());
    let certificate = params.self_signed(&pair).expect("it can be signed");
    Made { der: certificate.der().to_vec(), pem: certificate.pem(), key: pair.serialize_pem() }
}

/// One certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    kind: Kind,
    generation: usize,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}-{}", self.kind, self.generation)
    }
}

impl Shown {
    fn made(self) -> &'static Made {
        &MADE[self.kind as usize][self.generation]
    }

    /// Which one that is, if it is one of ours.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        [Kind::Lasting, Kind::Sometimes, Kind::Wild, Kind::Default].into_iter().find_map(|kind| {
            let generation = MADE[kind as usize].iter().position(|made| made.der == der)?;
            Some(Self { kind, generation })
        })
    }

    /// Whether a client that asked for `sni` and is shown this one may ask for `host`, where they have to agree.
    pub(super) fn fits(self, sni: Option<&str>, host: &str) -> bool {
        match (self.kind, sni) {
            (Kind::Default, Some(sni)) => sni == host,
            _ => self.kind.covers(host),
        }
    }

    fn wire(self) -> CertificateAndKey {
        let made = self.made();
        let mut wire = CertificateAndKey::default();
        wire.certificate.clone_from(&made.pem);
        wire.key.clone_from(&made.key);
        wire
    }

    fn fingerprint(self) -> String {
        Sha256::digest(&self.made().der).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn add(self) -> Request {
        let add = AddCertificate {
            address: front_address().into(),
            certificate: self.wire(),
            ..AddCertificate::default()
        };
        Request { request_type: Some(RequestType::AddCertificate(add)) }
    }

    fn remove(self) -> Request {
        let remove = RemoveCertificate { address: front_address().into(), fingerprint: self.fingerprint() };
        Request { request_type: Some(RequestType::RemoveCertificate(remove)) }
    }

    fn replace_by(self, new: Self) -> Request {
        let replace = ReplaceCertificate {
            address: front_address().into(),
            new_certificate: new.wire(),
            old_fingerprint: self.fingerprint(),
            ..ReplaceCertificate::default()
        };
        Request { request_type: Some(RequestType::ReplaceCertificate(replace)) }
    }
}

/// The default certificate of a listener: chain and key.
pub(super) fn default_certificate() -> (String, String) {
    let made = Shown { kind: Kind::Default, generation: 0 }.made();
    (made.pem.clone(), made.key.clone())
}

/// What is served now: generations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shelf {
    lasting: usize,
    sometimes: Option<usize>,
    wild: Option<usize>,
    has_default: bool,
}

impl Shelf {
    pub(super) fn draw(has_default: bool, rng: &mut Rng) -> Self {
        let wild = rng.percent(50).then_some(0);
        Self { lasting: 0, sometimes: rng.percent(50).then_some(0), wild, has_default }
    }

    /// The orders for it.
    pub(super) fn initial(&self) -> Vec<Request> {
        let here = [
            Some(Shown { kind: Kind::Lasting, generation: self.lasting }),
            self.sometimes.map(|generation| Shown { kind: Kind::Sometimes, generation }),
            self.wild.map(|generation| Shown { kind: Kind::Wild, generation }),
        ];
        here.into_iter().flatten().map(Shown::add).collect()
    }

    /// What is shown to who asks for `sni`: its own before a wildcard's, and the default to all others. None: nobody
    /// is let in.
    pub(super) fn shown(&self, sni: Option<&str>) -> Option<Shown> {
        let own = |sni: &str| {
            if HOSTS.contains(&sni) {
                return Some(Shown { kind: Kind::Lasting, generation: self.lasting });
            }
            let exact = self.sometimes.filter(|_| sni == SOMETIMES);
            let wild = self.wild.filter(|_| Kind::Wild.covers(sni));
            exact
                .map(|generation| Shown { kind: Kind::Sometimes, generation })
                .or_else(|| wild.map(|generation| Shown { kind: Kind::Wild, generation }))
        };
        let default = self.has_default.then_some(Shown { kind: Kind::Default, generation: 0 });
        sni.and_then(own).or(default)
    }

    /// Changes one of them; gives the orders that say so.
    pub(super) fn change(&mut self, rng: &mut Rng) -> Vec<Request> {
        let other = |generation: usize, rng: &mut Rng| (generation + rng.within(1..=2)) % GENERATIONS;
        let (kind, before) = match rng.below(4) {
            0..=1 => (Kind::Lasting, Some(self.lasting)),
            2 => (Kind::Sometimes, self.sometimes),
            _ => (Kind::Wild, self.wild),
        };
        let stays = kind == Kind::Lasting || rng.percent(50);
        let after = match before {
            None => Some(rng.below(GENERATIONS)),
            Some(generation) if stays => Some(other(generation, rng)),
            Some(_) => None,
        };
        match kind {
            Kind::Lasting => self.lasting = after.unwrap_or_default(),
            Kind::Sometimes => self.sometimes = after,
            Kind::Wild | Kind::Default => self.wild = after,
        }
        let of = |generation: usize| Shown { kind, generation };
        match (before.map(of), after.map(of)) {
            (Some(old), Some(new)) if rng.percent(60) => vec![old.replace_by(new)],
            // Two orders of one revision: no handshake may see what is between them.
            (Some(old), Some(new)) => vec![old.remove(), new.add()],
            (Some(old), None) => vec![old.remove()],
            (None, Some(new)) => vec![new.add()],
            (None, None) => Vec::new(),
        }
    }
}

/// Whether an order changes which certificates are served.
pub(super) fn is_about_certificates(order: &Request) -> bool {
    matches!(
        order.request_type,
        Some(
            RequestType::AddCertificate(_)
                | RequestType::RemoveCertificate(_)
                | RequestType::ReplaceCertificate(_)
        )
    )
}
