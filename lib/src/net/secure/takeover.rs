//! From a handshake of rustls to a connection.

use rustls::{ExtractedSecrets, HandshakeKind, ProtocolVersion};

use super::{EarlyData, Facts, Handshake, State};
use crate::protocol::tls_record::{RecordLayer, Role, Suite, Traffic, TrafficSecret};
use crate::tls::failure::Failure;
use crate::tls::secrets::Secret;
use crate::tls::subject::subject;

/// KeyUpdates that a peer may send together with its last message of the handshake, where rustls still reads.
const KEY_UPDATES_MAX: usize = 4;

/// What is known of a connection once the server has said all that it has to say in its handshake.
pub(super) fn facts(handshake: &mut Handshake) -> Result<Facts, Failure> {
    let Handshake { engine, choices, served, offer, early, .. } = handshake;
    let common = engine.common();
    let (Some(version), Some(suite)) = (common.protocol_version(), common.negotiated_cipher_suite()) else {
        return Err(Failure::Other);
    };
    let subject = match &choices {
        Some(_) => common
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(|leaf| subject(leaf).ok().map(String::into_boxed_str)),
        None => None,
    };
    Ok(Facts {
        version,
        suite: suite.suite(),
        resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
        served: served.take(),
        protocol: common.alpn_protocol().map(Box::from),
        subject,
        early: match (*early, offer.was_made()) {
            (true, _) => EarlyData::Taken,
            (false, true) => EarlyData::Refused,
            (false, false) => EarlyData::None,
        },
    })
}

/// What runs the connection from here on.
pub(super) fn take_over(handshake: Handshake, facts: &Facts) -> Result<State, Failure> {
    let Handshake { engine, choices, secrets, .. } = handshake;
    if facts.version != ProtocolVersion::TLSv1_3 {
        return Ok(State::Legacy(engine));
    }
    let role = if choices.is_some() { Role::Server } else { Role::Client };
    let (Ok(record_suite), Some(secrets)) = (Suite::try_from(facts.suite), secrets) else {
        return Err(Failure::Other);
    };
    let ExtractedSecrets { tx, rx } = engine.into_secrets().map_err(|error| Failure::of(&error))?;
    let (ours, theirs) = match role {
        Role::Server => (secrets.server, secrets.client),
        Role::Client => (secrets.client, secrets.server),
    };
    let current = |secret: Secret, (sequence, keys)| {
        let mut secret = TrafficSecret::new(secret.as_bytes()).ok_or(Failure::Other)?;
        for _ in 0..=KEY_UPDATES_MAX {
            if secret.yields(record_suite, &keys) {
                return Ok(Traffic { secret, sequence });
            }
            secret = secret.next(record_suite).ok_or(Failure::Other)?;
        }
        Err(Failure::PeerMisbehaved)
    };
    let layer = RecordLayer::new(role, record_suite, current(ours, tx)?, current(theirs, rx)?)
        .map_err(|_| Failure::Other)?;
    Ok(State::Records(Box::new(layer)))
}
