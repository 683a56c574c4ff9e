//! Why handshakes fail, as coarse as it is counted.

use std::fmt;

use rustls::Error;

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
    /// There is no certificate for the name that the client sent, or for none.
    NoCertificate,
    /// The peer left before the handshake was over.
    Closed,
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
}

/// Before the reason, where a handshake that failed is told of.
macro_rules! failed {
    ($reason:literal) => {
        concat!("TLS handshake failed: ", $reason)
    };
}

/// What is said of a handshake that took too long.
pub const TIMED_OUT: &str = failed!("it took too long");

impl Failure {
    /// That a handshake failed, and why.
    pub fn told(self) -> &'static str {
        match self {
            Self::AlertReceived => failed!("the peer sent an alert"),
            Self::DecryptError => failed!("something could not be decrypted"),
            Self::InappropriateHandshakeMessage => failed!("a handshake message came that was not awaited"),
            Self::InappropriateMessage => failed!("a record of a kind came that was not awaited"),
            Self::InvalidCertificate => failed!("the peer's certificate is not good, or revoked"),
            Self::InvalidMessage => failed!("a message could not be read"),
            Self::NoAlpn => failed!("no application protocol is in common"),
            Self::NoCertificatesPresented => failed!("the peer must show a certificate and has none"),
            Self::OversizedRecord => failed!("a record or message is longer than any may be"),
            Self::PeerIncompatible => failed!("version, suite, group or signature are not in common"),
            Self::PeerMisbehaved => failed!("the peer broke the protocol"),
            Self::NoCertificate => {
                failed!("there is no certificate for the name that the client sent, or for none")
            }
            Self::Closed => failed!("the peer left before it was over"),
            Self::Other => failed!("of something else"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.told())
    }
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

    use super::*;

    #[test]
    fn errors_have_reasons() {
        let check = |error: Error, reason| assert_eq!(Failure::of(&error), reason, "{error}");
        check(Error::AlertReceived(AlertDescription::UnknownCA), Failure::AlertReceived);
        check(CertificateError::Revoked.into(), Failure::InvalidCertificate);
        check(InvalidMessage::InvalidCcs.into(), Failure::InvalidMessage);
        check(PeerIncompatible::NoKxGroupsInCommon.into(), Failure::PeerIncompatible);
        check(Error::NoApplicationProtocol, Failure::NoAlpn);
        check(Error::NoCertificatesPresented, Failure::NoCertificatesPresented);
        check(Error::General("anything".to_owned()), Failure::Other);
    }
}
