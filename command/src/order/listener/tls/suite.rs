//! What a handshake may settle on: versions, cipher suites, groups, protocols.

use super::{OrderError, excerpt, proto, wire_enum};

/// A version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them, best first.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name in the configuration.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

named! {
    /// How records are protected.
    #[expect(non_camel_case_types, reason = "IANA's names")]
    CipherSuite {
        /// TLS 1.3, AES-256.
        TLS13_AES_256_GCM_SHA384 = "TLS13_AES_256_GCM_SHA384",
        /// TLS 1.3, AES-128.
        TLS13_AES_128_GCM_SHA256 = "TLS13_AES_128_GCM_SHA256",
        /// TLS 1.3, ChaCha20.
        TLS13_CHACHA20_POLY1305_SHA256 = "TLS13_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2, ECDSA, AES-256.
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2, ECDSA, AES-128.
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2, ECDSA, ChaCha20.
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2, RSA, AES-256.
        TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2, RSA, AES-128.
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2, RSA, ChaCha20.
        TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    }
}

named! {
    /// How keys are agreed on.
    Group {
        /// ML-KEM-768 joined with X25519: safe against tomorrow's computers.
        X25519MlKem768 = "X25519MLKEM768",
        /// RFC 7748.
        X25519 = "x25519",
        /// NIST P-256.
        P256 = "P-256",
        /// NIST P-384.
        P384 = "P-384",
    }
}

named! {
    /// What is spoken inside of TLS (RFC 7301).
    Alpn {
        /// HTTP/2.
        H2 = "h2",
        /// HTTP/1.1.
        Http11 = "http/1.1",
    }
}

impl CipherSuite {
    /// The version it is for.
    #[must_use]
    pub fn version(self) -> TlsVersion {
        match self {
            Self::TLS13_AES_256_GCM_SHA384
            | Self::TLS13_AES_128_GCM_SHA256
            | Self::TLS13_CHACHA20_POLY1305_SHA256 => TlsVersion::V1_3,
            _ => TlsVersion::V1_2,
        }
    }
}

fn named<T: Copy>(all: &[T], name: &str, name_of: fn(T) -> &'static str) -> Option<T> {
    all.iter().copied().find(|known| name_of(*known) == name)
}

/// None given: both.
pub(super) fn versions(wire: &[i32]) -> Result<Box<[TlsVersion]>, OrderError> {
    let mut versions = Vec::new();
    for version in wire {
        match wire_enum("versions", *version)? {
            proto::TlsVersion::TlsV12 => versions.push(TlsVersion::V1_2),
            proto::TlsVersion::TlsV13 => versions.push(TlsVersion::V1_3),
            // Broken ones, which files of old still name: see `note_versions`.
            _ => {}
        }
    }
    versions.sort_unstable();
    versions.dedup();
    match (versions.is_empty(), wire.is_empty()) {
        (_, true) => Ok([TlsVersion::V1_2, TlsVersion::V1_3].into()),
        (true, false) => Err(OrderError::plain("versions", "leave nothing: only TLS 1.2 and 1.3 are spoken")),
        (false, false) => Ok(versions.into()),
    }
}

pub(super) fn note_versions(wire: &[i32], notes: &mut Vec<String>) {
    let old = |version: &i32| *version < proto::TlsVersion::TlsV12 as i32;
    if wire.iter().any(old) {
        notes.push("versions before TLS 1.2 are ignored: they are broken".into());
    }
}

/// None given: all.
pub(super) fn cipher_suites(
    names: &[String],
    versions: &[TlsVersion],
) -> Result<Box<[CipherSuite]>, OrderError> {
    const FIELD: &str = "cipher_list";
    let mut suites = Vec::new();
    for name in names {
        let suite = named(CipherSuite::ALL, name, CipherSuite::name)
            .ok_or_else(|| OrderError::invalid(FIELD, name, "is no cipher suite of this version"))?;
        if !suites.contains(&suite) {
            suites.push(suite);
        }
    }
    if names.is_empty() {
        suites = CipherSuite::ALL.to_vec();
    }
    suites.retain(|suite| versions.contains(&suite.version()));
    if suites.is_empty() {
        return Err(OrderError::plain(FIELD, "leaves no cipher suite for the versions of TLS"));
    }
    Ok(suites.into())
}

/// None given: all. Names that are not known are left out: see `note_groups`.
pub(super) fn groups(names: &[String]) -> Result<Box<[Group]>, OrderError> {
    let mut groups = Vec::new();
    for group in names.iter().filter_map(|name| group(name)) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    match (groups.is_empty(), names.first()) {
        (_, None) => Ok(Group::ALL.into()),
        (true, Some(first)) => {
            Err(OrderError::invalid("groups_list", first, "and what follows it is known to nobody here"))
        }
        (false, Some(_)) => Ok(groups.into()),
    }
}

/// Under any of the names in use.
fn group(name: &str) -> Option<Group> {
    match name.to_ascii_lowercase().as_str() {
        "secp256r1" | "prime256v1" => Some(Group::P256),
        "secp384r1" => Some(Group::P384),
        lower => Group::ALL.iter().copied().find(|group| group.name().eq_ignore_ascii_case(lower)),
    }
}

pub(super) fn note_groups(names: &[String], notes: &mut Vec<String>) {
    for name in names.iter().filter(|name| group(name).is_none()) {
        notes.push(format!("group {} is not known and left out", excerpt(name)));
    }
}

/// What is offered of these protocols. HTTP/2 is known and not spoken yet.
pub(in crate::order) fn alpn(field: &'static str, names: &[String]) -> Result<Box<[Alpn]>, OrderError> {
    let mut offered = Vec::new();
    for name in names {
        match named(Alpn::ALL, name, Alpn::name) {
            Some(Alpn::H2) => {}
            Some(protocol) if offered.contains(&protocol) => {}
            Some(protocol) => offered.push(protocol),
            None => return Err(OrderError::invalid(field, name, "is neither h2 nor http/1.1")),
        }
    }
    if names.is_empty() {
        offered.push(Alpn::Http11);
    }
    if offered.is_empty() {
        return Err(OrderError::NotServed { what: "connections that speak h2 alone (ALPN) are" });
    }
    Ok(offered.into())
}

/// Longest name of a protocol, in bytes (RFC 7301 §3.1).
pub const ALPN_NAME_BYTES_MAX: usize = 255;
/// Most protocols that are named in one place.
pub const ALPN_NAMES_MAX: usize = 64;

/// The names of protocols that are somebody else's to speak, each once. None given: none.
pub(in crate::order) fn alpn_names(
    field: &'static str,
    names: &[String],
) -> Result<Vec<Box<str>>, OrderError> {
    let mut known: Vec<Box<str>> = Vec::new();
    for name in names {
        if name.is_empty() {
            return Err(OrderError::plain(field, "has an empty name of a protocol"));
        }
        if name.len() > ALPN_NAME_BYTES_MAX {
            return Err(OrderError::invalid(field, name, "is longer than 255 bytes"));
        }
        if !known.iter().any(|known| **known == **name) {
            known.push(name.as_str().into());
        }
    }
    if known.len() > ALPN_NAMES_MAX {
        return Err(OrderError::plain(field, "are more than 64"));
    }
    Ok(known)
}
