//! What is counted of handshakes: why they fail, and what they agree on.

use rustls::{CipherSuite, Error, ProtocolVersion};

/// Why a handshake failed, as coarse as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The peer sent a fatal alert.
    AlertReceived,
    /// Something could not be decrypted.
    DecryptError,
    /// A handshake message came that was not awaited.
    InappropriateHandshakeMessage,
    /// A record of a kind that was not awaited.
    InappropriateMessage,
    /// The peer's certificate is not good, or revoked.
    InvalidCertificate,
    /// A message could not be read.
    InvalidMessage,
    /// No application protocol in common.
    NoAlpn,
    /// The peer must show a certificate and has none.
    NoCertificatesPresented,
    /// A record longer than any may be.
    OversizedRecord,
    /// The peer lacks what is needed: a version, a suite, a group, a signature.
    PeerIncompatible,
    /// The peer broke the protocol.
    PeerMisbehaved,
    /// Anything else; that no certificate was chosen is told by [`Choice`](super::resolver::Choice).
    Other,
}

impl Failure {
    /// The reason of an error that ended a handshake.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::AlertReceived(_) => Self::AlertReceived,
            Error::DecryptError => Self::DecryptError,
            Error::InappropriateHandshakeMessage { .. } => Self::InappropriateHandshakeMessage,
            Error::InappropriateMessage { .. } => Self::InappropriateMessage,
            Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => Self::InvalidCertificate,
            Error::InvalidMessage(_) | Error::InvalidEncryptedClientHello(_) => Self::InvalidMessage,
            Error::NoApplicationProtocol => Self::NoAlpn,
            Error::NoCertificatesPresented => Self::NoCertificatesPresented,
            Error::PeerSentOversizedRecord => Self::OversizedRecord,
            Error::PeerIncompatible(_) => Self::PeerIncompatible,
            Error::PeerMisbehaved(_) => Self::PeerMisbehaved,
            Error::UnsupportedNameType
            | Error::EncryptError
            | Error::General(_)
            | Error::FailedToGetCurrentTime
            | Error::FailedToGetRandomBytes
            | Error::HandshakeNotComplete
            | Error::BadMaxFragmentSize
            | Error::InconsistentKeys(_)
            | Error::Other(_) => Self::Other,
            // rustls reserves the right to add more.
            _ => Self::Other,
        }
    }

    /// What it is counted as.
    pub fn metric_name(self) -> &'static str {
        match self {
            Self::AlertReceived => "tls.handshake.failed.alert_received",
            Self::DecryptError => "tls.handshake.failed.decrypt_error",
            Self::InappropriateHandshakeMessage => "tls.handshake.failed.inappropriate_handshake_message",
            Self::InappropriateMessage => "tls.handshake.failed.inappropriate_message",
            Self::InvalidCertificate => "tls.handshake.failed.invalid_certificate",
            Self::InvalidMessage => "tls.handshake.failed.invalid_message",
            Self::NoAlpn => "tls.handshake.failed.no_alpn",
            Self::NoCertificatesPresented => "tls.handshake.failed.no_certificates_present",
            Self::OversizedRecord => "tls.handshake.failed.oversized_record",
            Self::PeerIncompatible => "tls.handshake.failed.peer_incompatible",
            Self::PeerMisbehaved => "tls.handshake.failed.peer_misbehaved",
            Self::Other => "tls.handshake.failed.other",
        }
    }
}

/// What a connection of this version is counted as.
pub fn version_metric(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::SSLv2 => "tls.version.SSLv2",
        ProtocolVersion::SSLv3 => "tls.version.SSLv3",
        ProtocolVersion::TLSv1_0 => "tls.version.TLSv1_0",
        ProtocolVersion::TLSv1_1 => "tls.version.TLSv1_1",
        ProtocolVersion::TLSv1_2 => "tls.version.TLSv1_2",
        ProtocolVersion::TLSv1_3 => "tls.version.TLSv1_3",
        ProtocolVersion::DTLSv1_0 => "tls.version.DTLSv1_0",
        ProtocolVersion::DTLSv1_2 => "tls.version.DTLSv1_2",
        ProtocolVersion::DTLSv1_3 => "tls.version.DTLSv1_3",
        ProtocolVersion::Unknown(_) => "tls.version.Unknown",
        _ => "tls.version.unimplemented",
    }
}

/// What a connection with this cipher suite is counted as.
pub fn cipher_metric(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "tls.cipher.TLS13_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "tls.cipher.TLS13_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "tls.cipher.TLS13_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => {
            "tls.cipher.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
        }
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => {
            "tls.cipher.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
        }
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "tls.cipher.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => {
            "tls.cipher.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => {
            "tls.cipher.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "tls.cipher.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
        }
        _ => "tls.cipher.Unsupported",
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
    use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

    use super::*;

    #[test]
    fn errors_have_reasons() {
        let check = |error: Error, name| assert_eq!(Failure::of(&error).metric_name(), name, "{error}");
        check(Error::AlertReceived(AlertDescription::UnknownCA), "tls.handshake.failed.alert_received");
        check(CertificateError::Revoked.into(), "tls.handshake.failed.invalid_certificate");
        check(InvalidMessage::InvalidCcs.into(), "tls.handshake.failed.invalid_message");
        check(PeerIncompatible::NoKxGroupsInCommon.into(), "tls.handshake.failed.peer_incompatible");
        check(Error::NoApplicationProtocol, "tls.handshake.failed.no_alpn");
        check(Error::NoCertificatesPresented, "tls.handshake.failed.no_certificates_present");
        check(Error::General("anything".to_owned()), "tls.handshake.failed.other");
    }

    #[test]
    fn every_suite_that_is_spoken_is_counted_by_its_name() {
        for suite in ALL_CIPHER_SUITES {
            assert_eq!(cipher_metric(suite.suite()), format!("tls.cipher.{:?}", suite.suite()));
        }
        assert_eq!(cipher_metric(CipherSuite::TLS_NULL_WITH_NULL_NULL), "tls.cipher.Unsupported");
    }

    #[test]
    fn versions_are_counted_by_name() {
        for version in [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3, ProtocolVersion::SSLv3] {
            assert_eq!(version_metric(version), format!("tls.version.{version:?}"));
        }
        assert_eq!(version_metric(ProtocolVersion::Unknown(7)), "tls.version.Unknown");
    }
}
