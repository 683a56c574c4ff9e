//! Cipher suites and key exchange groups by name, and what rustls computes with.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{
    ALL_CIPHER_SUITES, DEFAULT_CIPHER_SUITES, DEFAULT_KX_GROUPS, default_provider, kx_group,
};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{NamedGroup, ProtocolVersion, SupportedCipherSuite};

/// The suite of this name as rustls spells it, `TLS13_AES_128_GCM_SHA256`; also as IANA does,
/// `TLS_AES_128_GCM_SHA256`.
pub fn suite(name: &str) -> Option<SupportedCipherSuite> {
    let is_called = |suite: &&SupportedCipherSuite| {
        let ours = suite.suite().as_str().unwrap_or_default();
        ours == name
            || match (ours.strip_prefix("TLS13_"), name.strip_prefix("TLS_")) {
                (Some(ours), Some(name)) => ours == name,
                _ => false,
            }
    };
    ALL_CIPHER_SUITES.iter().find(is_called).copied()
}

/// The group of this name, of the several that each has, in any case.
pub fn group(name: &str) -> Option<&'static dyn SupportedKxGroup> {
    const NAMES: &[(&str, &dyn SupportedKxGroup)] = &[
        ("X25519MLKEM768", kx_group::X25519MLKEM768),
        ("SecP256r1MLKEM768", kx_group::SECP256R1MLKEM768),
        ("MLKEM768", kx_group::MLKEM768),
        ("MLKEM1024", kx_group::MLKEM1024),
        ("x25519", kx_group::X25519),
        ("P-256", kx_group::SECP256R1),
        ("secp256r1", kx_group::SECP256R1),
        ("prime256v1", kx_group::SECP256R1),
        ("P-384", kx_group::SECP384R1),
        ("secp384r1", kx_group::SECP384R1),
    ];
    NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, group)| *group)
}

/// What rustls computes with: these suites and groups, in this order; where there are none, the defaults:
/// AES-256 before AES-128 before ChaCha20, and the post-quantum hybrid before X25519 before P-256 and P-384.
///
/// The order of groups is what a client of ours offers. A server takes the first group of the *client's* that
/// it has: rustls has no other way.
pub fn provider(
    suites: &[SupportedCipherSuite],
    groups: &[&'static dyn SupportedKxGroup],
) -> Arc<CryptoProvider> {
    let cipher_suites = if suites.is_empty() { DEFAULT_CIPHER_SUITES } else { suites }.to_vec();
    let kx_groups = if groups.is_empty() { default_groups() } else { groups.to_vec() };
    Arc::new(CryptoProvider { cipher_suites, kx_groups, ..default_provider() })
}

/// Where the random numbers of handshakes come from; from the system, but in a simulation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Randomness(Option<fn(&mut CryptoProvider)>);

impl Randomness {
    /// Whatever `fix` makes of a provider.
    #[cfg(test)]
    pub(crate) fn fixed(fix: fn(&mut CryptoProvider)) -> Self {
        Self(Some(fix))
    }

    /// The same as [`provider`], with these numbers.
    pub fn provider(
        self,
        suites: &[SupportedCipherSuite],
        groups: &[&'static dyn SupportedKxGroup],
    ) -> Arc<CryptoProvider> {
        let mut provider = provider(suites, groups);
        if let (Some(fix), Some(provider)) = (self.0, Arc::get_mut(&mut provider)) {
            fix(provider);
        }
        provider
    }
}

fn default_groups() -> Vec<&'static dyn SupportedKxGroup> {
    let others = DEFAULT_KX_GROUPS.iter().copied();
    let others = others.filter(|group| group.name() != NamedGroup::X25519MLKEM768);
    std::iter::once(kx_group::X25519MLKEM768).chain(others).collect()
}

/// Whether a suite of this version is among `suites`, or they are the defaults.
pub(super) fn serves(suites: &[SupportedCipherSuite], version: ProtocolVersion) -> bool {
    suites.is_empty() || suites.iter().any(|suite| suite.version().version == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_names() {
        for known in ALL_CIPHER_SUITES {
            let name = format!("{:?}", known.suite());
            assert_eq!(suite(&name).map(|suite| suite.suite()), Some(known.suite()), "{name}");
        }
        let iana = suite("TLS_AES_128_GCM_SHA256").expect("IANA's name of it");
        assert_eq!(iana.suite(), rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        for unknown in ["", "TLS_", "TLS13_", "TLS_RSA_WITH_AES_128_CBC_SHA", "tls13_aes_128_gcm_sha256"] {
            assert!(suite(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn groups_have_names() {
        let check = |name, expected| {
            assert_eq!(group(name).map(SupportedKxGroup::name), expected, "{name}");
        };
        check("X25519MLKEM768", Some(NamedGroup::X25519MLKEM768));
        check("x25519", Some(NamedGroup::X25519));
        check("X25519", Some(NamedGroup::X25519));
        check("P-256", Some(NamedGroup::secp256r1));
        check("P-384", Some(NamedGroup::secp384r1));
        check("P-521", None);
        check("", None);
    }

    #[test]
    fn the_hybrid_comes_first_by_default() {
        let names: Vec<_> = provider(&[], &[]).kx_groups.iter().map(|group| group.name()).collect();
        let expected =
            [NamedGroup::X25519MLKEM768, NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1];
        assert_eq!(names, expected);
    }
}
