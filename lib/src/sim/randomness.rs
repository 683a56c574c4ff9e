//! Seeded randomness for TLS: both sides of each handshake draw from the run's seed, so that every byte on the wire
//! is the same in each run of it.
//!
//! What a handshake computes with is left as it is: only where random numbers come from is replaced. rustls asks for
//! its own through [`SecureRandom`]; those of a key exchange come from within the library otherwise, so there is one
//! group whose private keys are drawn here. Signatures are Ed25519's, which are a function of key and message
//! (RFC 8032 §5.1.6).

use std::cell::RefCell;
use std::sync::Arc;

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom};
use rustls::crypto::{SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};

use super::rng::Rng;

thread_local! {
    /// A run is one thread's, from its first draw to its last.
    static NUMBERS: RefCell<Rng> = RefCell::new(Rng::new(0));
}

/// Begins a run: what is drawn on this thread from now on follows from `rng`.
pub(super) fn begin(rng: Rng) {
    NUMBERS.set(rng);
}

/// Makes a provider predictable. It has one group from here on.
pub(super) fn fix(provider: &mut CryptoProvider) {
    provider.secure_random = &Numbers;
    provider.kx_groups = vec![&Group];
}

/// What simulated clients compute with.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    fix(&mut provider);
    Arc::new(provider)
}

fn draw(into: &mut [u8]) {
    NUMBERS.with_borrow_mut(|rng| {
        for chunk in into.chunks_mut(8) {
            chunk.copy_from_slice(&rng.next().to_le_bytes()[..chunk.len()]);
        }
    });
}

#[derive(Debug)]
struct Numbers;

impl SecureRandom for Numbers {
    fn fill(&self, into: &mut [u8]) -> Result<(), GetRandomFailed> {
        draw(into);
        Ok(())
    }
}

/// X25519.
#[derive(Debug)]
struct Group;

impl SupportedKxGroup for Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut seed = [0; 32];
        draw(&mut seed);
        let failed = |_| Error::General("a key of X25519".to_owned());
        let private = PrivateKey::from_private_key(&X25519, &seed)
            .map_err(|_| Error::General("a key of X25519".to_owned()))?;
        let public = private.compute_public_key().map_err(failed)?.as_ref().to_vec();
        Ok(Box::new(Exchange { private, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct Exchange {
    private: PrivateKey,
    public: Vec<u8>,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let refused = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);
        agree(&self.private, UnparsedPublicKey::new(&X25519, peer), refused, |secret| {
            Ok(SharedSecret::from(secret))
        })
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}
