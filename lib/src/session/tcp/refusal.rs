//! Why a connection comes to nothing, and what is counted and said of it.

use crate::metrics::Metric;
use crate::protocol::client_hello::Rejection;
use crate::routing::Unmatched;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Hello(#[from] Rejection),
    #[error("the client left before its ClientHello was whole")]
    Left,
    #[error("the ClientHello was not whole in time")]
    Late,
    #[error("the buffer of a half ClientHello was needed")]
    Evicted,
    #[error("the ClientHello has no server name")]
    NoName,
    #[error("the ClientHello has no server name but an encrypted one")]
    OnlyEncryptedName,
    #[error("no frontend is for this server name")]
    UnknownName,
    #[error("no frontend of this server name is for these protocols")]
    UnknownProtocol,
    #[error("no frontend is for this connection")]
    NoRoute,
    #[error("no backend could be had")]
    NoBackend,
    #[error("its source has as many connections to the cluster as it may")]
    OverLimit,
    #[error("too many connections came in this time")]
    OverRate,
    #[error("the cluster has as many connections as it may")]
    Busy,
}

impl From<Unmatched> for Refusal {
    fn from(unmatched: Unmatched) -> Self {
        match unmatched {
            Unmatched::Name => Self::UnknownName,
            Unmatched::Protocol => Self::UnknownProtocol,
        }
    }
}

/// A fatal alert before any handshake (RFC 8446 §6, §5.1 for the version).
fn fatal(description: u8) -> [u8; 7] {
    [21, 3, 1, 0, 2, 2, description]
}

impl Refusal {
    /// What counts it, where that was not done with the decision.
    pub(super) fn metric(self) -> Option<Metric> {
        Some(match self {
            Self::Hello(Rejection::NotTls) => Metric::SniPrereadNotTls,
            Self::Hello(Rejection::MalformedRecord) => Metric::SniPrereadMalformedRecord,
            Self::Hello(Rejection::MalformedHandshake) => Metric::SniPrereadMalformedHandshake,
            Self::Hello(Rejection::TooLarge) => Metric::SniPrereadTooLarge,
            Self::Left => Metric::SniPrereadFrontClosed,
            Self::Late => Metric::SniPrereadTimeout,
            Self::Evicted => Metric::SniPrereadEvicted,
            Self::NoName => Metric::SniPrereadNoSni,
            Self::OnlyEncryptedName => Metric::SniPrereadEchOuterAbsent,
            Self::UnknownName => Metric::SniPrereadSniUnmatched,
            Self::UnknownProtocol => Metric::SniPrereadAlpnUnmatched,
            Self::NoRoute => Metric::TcpNoRoute,
            Self::NoBackend => Metric::TcpNoBackend,
            Self::OverLimit | Self::OverRate | Self::Busy => return None,
        })
    }

    /// What a client is told that speaks TLS and is not spoken to over it: the record of an alert (RFC 8446 §6.2).
    pub(super) fn alert(self) -> Option<[u8; 7]> {
        let description = match self {
            Self::Hello(Rejection::NotTls) | Self::Left => return None,
            Self::Hello(Rejection::MalformedRecord | Rejection::MalformedHandshake) => 50, // decode_error
            Self::Hello(Rejection::TooLarge) => 22,                                        // record_overflow
            Self::Late | Self::Evicted | Self::NoBackend | Self::OverLimit | Self::OverRate | Self::Busy => {
                80
            } // internal_error
            // Without a name there is none to be unrecognized (RFC 8446 §9.2).
            Self::NoName | Self::OnlyEncryptedName => 109, // missing_extension
            Self::UnknownName | Self::NoRoute => 112,      // unrecognized_name
            Self::UnknownProtocol => 120,                  // no_application_protocol
        };
        Some(fatal(description))
    }
}
