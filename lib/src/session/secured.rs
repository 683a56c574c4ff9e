//! What is told of TLS connections.

use std::net::SocketAddr;
use std::time::Instant;

use rustls::{CipherSuite, ProtocolVersion};

use crate::metrics::Metric;
use crate::net::secure::{EarlyData, News};
use crate::net::{Network, Peer, Stream};
use crate::session::Shared;
use crate::tls::failure::Failure;

/// Counts how a handshake with this client went, whose connection was accepted then. The log is told at debug level only: strangers fill it otherwise.
pub(super) fn tell<S: Stream, N: Network<Stream = S>>(
    news: News,
    front: &Peer<S>,
    (address, since): (SocketAddr, Instant),
    shared: &mut Shared<N>,
) {
    match news {
        News::Failed(failure) => {
            log::debug!("client {address}: {failure}");
            shared.metrics.incr(metric_of(failure));
        }
        News::Broken => shared.metrics.incr(Metric::TlsBroken),
        News::Established => {
            shared.metrics.incr(Metric::TlsHandshakesDone);
            shared.metrics.time(Metric::TlsHandshakeTime, shared.now.saturating_duration_since(since));
            let Some(facts) = front.facts() else { return };
            if facts.resumed {
                shared.metrics.incr(Metric::TlsHandshakesResumed);
            }
            if facts.served.as_ref().is_some_and(|served| served.is_default) {
                shared.metrics.incr(Metric::TlsDefaultCertUsed);
            }
            match facts.early {
                EarlyData::None => {}
                EarlyData::Taken => shared.metrics.incr(Metric::TlsEarlyTaken),
                EarlyData::Refused => shared.metrics.incr(Metric::TlsEarlyRefused),
            }
            shared.metrics.incr(metric_of_suite(facts.suite));
            shared.metrics.incr(match facts.version {
                ProtocolVersion::TLSv1_3 => Metric::TlsVersion13,
                _ => Metric::TlsVersion12,
            });
        }
    }
}

/// Counts how a handshake with a backend went.
pub(super) fn tell_of_backend<N: Network>(news: News, shared: &mut Shared<N>) {
    match news {
        News::Failed(failure) => {
            log::debug!("backend: {failure}");
            shared.metrics.incr(Metric::BackendTlsFailed);
        }
        News::Broken => shared.metrics.incr(Metric::BackendTlsFailed),
        News::Established => shared.metrics.incr(Metric::BackendTlsDone),
    }
}

/// What a handshake that failed is counted as.
fn metric_of(failure: Failure) -> Metric {
    match failure {
        Failure::AlertReceived => Metric::TlsFailedAlertReceived,
        Failure::DecryptError => Metric::TlsFailedDecryptError,
        Failure::InappropriateHandshakeMessage => Metric::TlsFailedInappropriateHandshakeMessage,
        Failure::InappropriateMessage => Metric::TlsFailedInappropriateMessage,
        Failure::InvalidCertificate => Metric::TlsFailedInvalidCertificate,
        Failure::InvalidMessage => Metric::TlsFailedInvalidMessage,
        Failure::NoAlpn => Metric::TlsFailedNoAlpn,
        Failure::NoCertificatesPresented => Metric::TlsFailedNoCertificatesPresented,
        Failure::OversizedRecord => Metric::TlsFailedOversizedRecord,
        Failure::PeerIncompatible => Metric::TlsFailedPeerIncompatible,
        Failure::PeerMisbehaved => Metric::TlsFailedPeerMisbehaved,
        Failure::NoCertificate => Metric::TlsFailedNoCertificate,
        Failure::Closed => Metric::TlsFailedClosed,
        Failure::Other => Metric::TlsFailedOther,
    }
}

/// What a connection with this suite is counted as.
fn metric_of_suite(suite: CipherSuite) -> Metric {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Metric::TlsCipher13Aes128,
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Metric::TlsCipher13Aes256,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Metric::TlsCipher13Chacha20,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => Metric::TlsCipherEcdsaAes128,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => Metric::TlsCipherEcdsaAes256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => Metric::TlsCipherEcdsaChacha20,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Metric::TlsCipherRsaAes128,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Metric::TlsCipherRsaAes256,
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Metric::TlsCipherRsaChacha20,
        _ => Metric::TlsCipherUnsupported,
    }
}
